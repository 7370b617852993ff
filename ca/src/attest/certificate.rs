//! What a certificate says, as allow rules and templates ask about it.

use countersign_policy::{FieldType, ObjectShape};
use serde_json::{Map, Value, json};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::x509::X509Name;

/// What allow rules can ask about.
pub(crate) const CERTIFICATE: ObjectShape = ObjectShape {
    variable: "certificate",
    fields: Some(&[
        ("subject", FieldType::Object),
        ("issuer", FieldType::Object),
        ("dnsNames", FieldType::Texts),
        ("uris", FieldType::Texts),
        ("emailAddresses", FieldType::Texts),
        ("dnsName", FieldType::Text),
        ("uri", FieldType::Text),
        ("serial", FieldType::Text),
    ]),
};

/// The fields of a certificate. A name that it has once is a string, one that it has several times a list: a template does
/// not choose between several. `dnsName` and `uri` are there if there is one of its kind.
///
/// `None` if its names cannot be read.
pub(super) fn facts(certificate: &X509Certificate<'_>) -> Option<Map<String, Value>> {
    let (mut dns, mut uris, mut emails) = (Vec::new(), Vec::new(), Vec::new());
    if let Some(names) = certificate.subject_alternative_name().ok()? {
        for name in &names.value.general_names {
            match name {
                GeneralName::DNSName(name) => dns.push(*name),
                GeneralName::URI(uri) => uris.push(*uri),
                GeneralName::RFC822Name(email) => emails.push(*email),
                GeneralName::Invalid(..) => return None,
                _ => {}
            }
        }
    }
    let mut facts = Map::new();
    for (single, only) in [("dnsName", &dns), ("uri", &uris)] {
        if let [only] = only.as_slice() {
            facts.insert(single.to_owned(), json!(only));
        }
    }
    for (name, value) in [
        ("subject", Value::Object(name_facts(certificate.subject())?)),
        ("issuer", Value::Object(name_facts(certificate.issuer())?)),
        ("dnsNames", json!(dns)),
        ("uris", json!(uris)),
        ("emailAddresses", json!(emails)),
        ("serial", json!(serial(certificate))),
    ] {
        facts.insert(name.to_owned(), value);
    }
    Some(facts)
}

/// In lower-case hexadecimal digits, as this project writes serial numbers.
pub(super) fn serial(certificate: &X509Certificate<'_>) -> String {
    hex::encode(certificate.raw_serial())
}

fn name_facts(name: &X509Name<'_>) -> Option<Map<String, Value>> {
    let attributes = [
        ("commonName", name.iter_common_name().collect::<Vec<_>>()),
        ("organization", name.iter_organization().collect()),
        (
            "organizationalUnit",
            name.iter_organizational_unit().collect(),
        ),
        ("country", name.iter_country().collect()),
        ("state", name.iter_state_or_province().collect()),
        ("locality", name.iter_locality().collect()),
    ];
    let mut facts = Map::new();
    for (name, values) in attributes {
        let texts = values.iter().map(|value| value.as_str().ok());
        let texts: Vec<&str> = texts.collect::<Option<_>>()?;
        let value = match texts.as_slice() {
            [] => continue,
            [only] => json!(only),
            several => json!(several),
        };
        facts.insert(name.to_owned(), value);
    }
    Some(facts)
}
