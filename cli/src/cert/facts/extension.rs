//! A certificate's extensions (RFC 5280 §4.2), by name and in a few words.

use serde::Serialize;
use x509_parser::extensions::{
    DistributionPointName, GeneralName, GeneralSubtree, NameConstraints, ParsedExtension,
    X509Extension,
};

use super::super::text::{hexadecimal, shown, shown_bytes};
use super::name::distinguished;
use super::usage;

/// The most names, addresses and policies of one extension that are kept.
pub(in crate::cert) const MOST_VALUES: usize = 1000;

/// One extension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cert) struct ExtensionFacts {
    /// As RFC 5280 calls it; for others the OID.
    pub(in crate::cert) name: String,
    pub(in crate::cert) oid: String,
    pub(in crate::cert) critical: bool,
    /// What it says, in words; empty where that is not known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::cert) values: Vec<String>,
    /// Whether its name is known here.
    #[serde(skip)]
    pub(in crate::cert) known: bool,
    /// Whether it cannot be read, although it is known.
    #[serde(skip)]
    pub(in crate::cert) damaged: bool,
}

impl ExtensionFacts {
    pub(super) fn of(extension: &X509Extension<'_>) -> Self {
        let oid = extension.oid.to_id_string();
        let name = name(&oid);
        let parsed = extension.parsed_extension();
        Self {
            name: name.map_or_else(|| oid.clone(), str::to_owned),
            oid,
            critical: extension.critical,
            values: values(parsed),
            known: name.is_some(),
            damaged: parsed.error().is_some(),
        }
    }
}

/// One name in a subject alternative name (RFC 5280 §4.2.1.6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cert) struct NameFacts {
    /// `uri`, `dns`, `ip`, `email`, `directory`, `other`, or `damaged`.
    #[serde(rename = "type")]
    pub(in crate::cert) kind: &'static str,
    pub(in crate::cert) value: String,
}

impl NameFacts {
    pub(super) fn of(name: &GeneralName<'_>) -> Self {
        let (kind, value) = match name {
            GeneralName::URI(uri) => ("uri", shown(uri)),
            GeneralName::DNSName(name) => ("dns", shown(name)),
            GeneralName::RFC822Name(name) => ("email", shown(name)),
            GeneralName::IPAddress(bytes) => ("ip", address(bytes)),
            GeneralName::DirectoryName(name) => ("directory", distinguished(name)),
            GeneralName::OtherName(oid, value) => (
                "other",
                format!("{}: {}", oid.to_id_string(), hexadecimal(value)),
            ),
            GeneralName::RegisteredID(oid) => ("other", oid.to_id_string()),
            GeneralName::X400Address(_) => ("other", "an X.400 address".to_owned()),
            GeneralName::EDIPartyName(_) => ("other", "an EDI party name".to_owned()),
            GeneralName::Invalid(_, bytes) => ("damaged", shown_bytes(bytes)),
        };
        Self { kind, value }
    }
}

/// An address of 4 or 16 bytes; twice as many are an address and its mask (RFC 5280 §4.2.1.10).
fn address(bytes: &[u8]) -> String {
    use std::net::{Ipv4Addr, Ipv6Addr};
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        Ipv4Addr::from(v4).to_string()
    } else if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
        Ipv6Addr::from(v6).to_string()
    } else if let (8 | 32, (address_bytes, mask)) = (bytes.len(), bytes.split_at(bytes.len() / 2)) {
        format!("{}/{}", address(address_bytes), address(mask))
    } else {
        format!("(not an address) {}", hexadecimal(bytes))
    }
}

fn values(extension: &ParsedExtension<'_>) -> Vec<String> {
    match extension {
        ParsedExtension::BasicConstraints(constraints) => {
            let mut values = vec![if constraints.ca { "CA" } else { "not a CA" }.to_owned()];
            let length = constraints.path_len_constraint;
            values.extend(length.map(|length| format!("path length {length}")));
            values
        }
        ParsedExtension::KeyUsage(usage) => {
            usage::names(usage).into_iter().map(str::to_owned).collect()
        }
        ParsedExtension::ExtendedKeyUsage(usage) => usage::extended_names(usage),
        ParsedExtension::SubjectKeyIdentifier(id) => vec![hexadecimal(id.0)],
        ParsedExtension::AuthorityKeyIdentifier(id) => {
            let key = id.key_identifier.as_ref().map(|key| hexadecimal(key.0));
            let serial = id.authority_cert_serial.map(hexadecimal);
            key.into_iter()
                .chain(serial.map(|serial| format!("serial {serial}")))
                .collect()
        }
        ParsedExtension::SubjectAlternativeName(names) => general_names(&names.general_names),
        ParsedExtension::IssuerAlternativeName(names) => general_names(&names.general_names),
        ParsedExtension::CertificatePolicies(policies) => policies
            .iter()
            .take(MOST_VALUES)
            .map(|policy| policy_name(&policy.policy_id.to_id_string()))
            .collect(),
        ParsedExtension::NameConstraints(constraints) => name_constraints(constraints),
        ParsedExtension::CRLDistributionPoints(points) => points
            .iter()
            .take(MOST_VALUES)
            .filter_map(|point| match &point.distribution_point {
                Some(DistributionPointName::FullName(names)) => Some(general_names(names)),
                _ => None,
            })
            .flatten()
            .collect(),
        ParsedExtension::AuthorityInfoAccess(access) => access
            .iter()
            .take(MOST_VALUES)
            .map(|access| {
                let method = match access.access_method.to_id_string().as_str() {
                    "1.3.6.1.5.5.7.48.1" => "OCSP".to_owned(),
                    "1.3.6.1.5.5.7.48.2" => "issuer".to_owned(),
                    oid => oid.to_owned(),
                };
                format!("{method} {}", NameFacts::of(&access.access_location).value)
            })
            .collect(),
        ParsedExtension::InhibitAnyPolicy(inhibit) => {
            vec![format!("after {} certificates", inhibit.skip_certs)]
        }
        ParsedExtension::NsCertComment(comment) => vec![shown(comment)],
        ParsedExtension::SCT(timestamps) => vec![format!("{} timestamps", timestamps.len())],
        _ => Vec::new(),
    }
}

fn general_names(names: &[GeneralName<'_>]) -> Vec<String> {
    names
        .iter()
        .take(MOST_VALUES)
        .map(|name| NameFacts::of(name).value)
        .collect()
}

fn name_constraints(constraints: &NameConstraints<'_>) -> Vec<String> {
    let in_words = |word: &'static str, trees: &Option<Vec<GeneralSubtree<'_>>>| {
        trees
            .iter()
            .flatten()
            .take(MOST_VALUES)
            .map(|tree| {
                let name = NameFacts::of(&tree.base);
                format!("{word} {} {}", name.kind, name.value)
            })
            .collect::<Vec<_>>()
    };
    let mut values = in_words("only", &constraints.permitted_subtrees);
    values.extend(in_words("not", &constraints.excluded_subtrees));
    values
}

fn policy_name(oid: &str) -> String {
    match oid {
        "2.5.29.32.0" => "any policy",
        "2.23.140.1.2.1" => "domain validated",
        "2.23.140.1.2.2" => "organization validated",
        "2.23.140.1.2.3" => "individual validated",
        "2.23.140.1.1" => "extended validation",
        other => other,
    }
    .to_owned()
}

/// The names that RFC 5280 and others give to the extensions that are met.
fn name(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.29.9" => "subjectDirectoryAttributes",
        "2.5.29.14" => "subjectKeyIdentifier",
        "2.5.29.15" => "keyUsage",
        "2.5.29.16" => "privateKeyUsagePeriod",
        "2.5.29.17" => "subjectAltName",
        "2.5.29.18" => "issuerAltName",
        "2.5.29.19" => "basicConstraints",
        "2.5.29.30" => "nameConstraints",
        "2.5.29.31" => "cRLDistributionPoints",
        "2.5.29.32" => "certificatePolicies",
        "2.5.29.33" => "policyMappings",
        "2.5.29.35" => "authorityKeyIdentifier",
        "2.5.29.36" => "policyConstraints",
        "2.5.29.37" => "extKeyUsage",
        "2.5.29.46" => "freshestCRL",
        "2.5.29.54" => "inhibitAnyPolicy",
        "1.3.6.1.5.5.7.1.1" => "authorityInfoAccess",
        "1.3.6.1.5.5.7.1.11" => "subjectInfoAccess",
        "1.3.6.1.5.5.7.1.24" => "tlsFeature",
        "1.3.6.1.5.5.7.1.3" => "qcStatements",
        "1.3.6.1.5.5.7.48.1.5" => "ocspNoCheck",
        "1.3.6.1.4.1.11129.2.4.2" => "signedCertificateTimestamps",
        "1.3.6.1.4.1.11129.2.4.3" => "precertificatePoison",
        "2.16.840.1.113730.1.1" => "netscapeCertType",
        "2.16.840.1.113730.1.13" => "netscapeComment",
        "1.3.6.1.4.1.37476.9000.64.1" => "smallstepProvisioner",
        "1.3.6.1.4.1.311.21.7" => "microsoftCertificateTemplate",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn addresses_of_any_length_are_shown() {
        assert_eq!(address(&[10, 0, 0, 7]), "10.0.0.7");
        assert_eq!(address(&[0; 16]), "::");
        assert_eq!(address(&[10, 0, 0, 0, 255, 0, 0, 0]), "10.0.0.0/255.0.0.0");
        assert_eq!(address(&[1, 2, 3]), "(not an address) 010203");
        assert_eq!(address(&[]), "(not an address) ");
    }
}
