//! `x509Proof`: the roots whose certificates attest.

use std::path::PathBuf;

use countersign_identity::TrustDomain;
use countersign_policy::yaml::Value;

use super::issuers::{allow, template};
use crate::attest::allow::AllowRules;
use crate::attest::certificate::CERTIFICATE;
use crate::attest::template::Source;
use crate::attest::x509_proof::RootsConfig;

/// Reads the list.
pub(super) fn read(
    value: Value<'_>,
    trust_domain: Option<&TrustDomain>,
) -> Option<Vec<RootsConfig>> {
    let mut seen = Vec::new();
    value.list("sets of roots", |item| {
        let config = item.mapping(|fields| {
            let name = fields.required("name", Value::string);
            let file = fields.required("rootsFile", Value::text);
            let allow = fields.default("allow", AllowRules::default(), |v| allow(v, &CERTIFICATE));
            let template = fields.required("spiffeId", |v| {
                template(v, trust_domain, Source::Certificate)
            });
            Some(RootsConfig {
                name: name?,
                file: PathBuf::from(file?),
                allow: allow?,
                template: template?,
            })
        })?;
        if seen.contains(&config.name) {
            return item.mistake(format!("the name {:?} is given twice", config.name));
        }
        seen.push(config.name.clone());
        Some(config)
    })
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{MINIMAL, read};

    #[test]
    fn roots_are_read_and_their_mistakes_told() {
        let config = read(&format!(
            "{MINIMAL}x509Proof:\n- name: vms\n  rootsFile: vms.pem\n  \
             spiffeId: 'spiffe://shop.example/vm/{{certificate.subject.commonName}}'\n  \
             allow: ['certificate.subject.organization == \"Acme\"', '\"a.example\" in certificate.dnsNames']\n"
        ))
        .unwrap();
        assert_eq!(config.x509_proof[0].name, "vms");
        let mistakes = read(&format!(
            "{MINIMAL}x509Proof:\n- {{name: vms, rootsFile: a, spiffeId: 'spiffe://shop.example/{{claims.a}}', \
             allow: ['certificate.dnsNams == []']}}\n"
        ))
        .unwrap_err();
        for expected in [
            "expected `{certificate.NAME}`",
            "unknown field of `certificate`: `dnsNams`, did you mean `dnsNames`?",
        ] {
            assert!(mistakes.contains(expected), "{expected}\n{mistakes}");
        }
    }
}
