//! `issuers`, and what other attestors are configured with as they are.

use std::path::PathBuf;
use std::time::Duration;

use countersign_identity::TrustDomain;
use countersign_identity::jwt::{Algorithm, IssuerRules};
use countersign_identity::keys::IssuerEndpoint;
use countersign_policy::ObjectShape;
use countersign_policy::yaml::Value;
use url::Url;

use crate::attest::allow::AllowRules;
use crate::attest::jwt::{CLAIMS, IssuerConfig};
use crate::attest::template::{Source, Template};

/// How far an issuer's clock may be from ours.
pub(super) const LEEWAY: Duration = Duration::from_secs(30);

/// Reads the list.
pub(super) fn read(
    value: Value<'_>,
    trust_domain: Option<&TrustDomain>,
) -> Option<Vec<IssuerConfig>> {
    let mut seen = Vec::new();
    value.list("issuers", |item| {
        let config = issuer(item, trust_domain)?;
        if seen.contains(&config.rules.issuer) {
            return item.mistake(format!(
                "the issuer {:?} is given twice",
                config.rules.issuer
            ));
        }
        seen.push(config.rules.issuer.clone());
        Some(config)
    })
}

fn issuer(value: Value<'_>, trust_domain: Option<&TrustDomain>) -> Option<IssuerConfig> {
    const URL: &str = "a URL such as https://ci.example/keys";
    value.mapping(|fields| {
        let issuer = fields.required("issuer", Value::string);
        let audiences = fields.required("audiences", audiences);
        let algorithms = fields.default("algorithms", Algorithm::DEFAULT.to_vec(), algorithms);
        let discovery_url = fields.optional("discoveryUrl", |v| v.parsed::<Url>(URL));
        let jwks_uri = fields.optional("jwksUri", |v| v.parsed::<Url>(URL));
        let jwks_file = fields.optional("jwksFile", Value::text);
        let allow_http = fields.default("allowHttp", false, Value::bool);
        let allow_private = fields.default("allowPrivateAddresses", false, Value::bool);
        let ca_file = fields.optional("caFile", Value::text);
        let allow = fields.default("allow", AllowRules::default(), |v| allow(v, &CLAIMS));
        let template = fields.required("spiffeId", |v| template(v, trust_domain, Source::Token));
        let issuer = issuer?;
        let endpoint = IssuerEndpoint {
            discovery_url: discovery_url?,
            jwks_uri: jwks_uri?,
            jwks_file: jwks_file?.map(PathBuf::from),
            allow_http: allow_http?,
            allow_private_addresses: allow_private?,
            ca_file: ca_file?.map(PathBuf::from),
            ..IssuerEndpoint::new(issuer.clone())
        };
        if let Err(error) = endpoint.check() {
            return value.mistake(error.to_string());
        }
        let rules = IssuerRules {
            issuer,
            audiences: audiences?,
            algorithms: algorithms?,
            leeway: LEEWAY,
        };
        Some(IssuerConfig {
            endpoint,
            rules,
            allow: allow?,
            template: template?,
        })
    })
}

/// Without a trust domain, that mistake has been reported, and nothing can be said of the template.
pub(super) fn template(
    value: Value<'_>,
    trust_domain: Option<&TrustDomain>,
    source: Source,
) -> Option<Template> {
    let text = value.text()?;
    match Template::parse(text, trust_domain?, source) {
        Ok(template) => Some(template),
        Err(error) => value.mistake(error.to_string()),
    }
}

/// Which audiences tokens must have one of.
pub(super) fn audiences(value: Value<'_>) -> Option<Vec<String>> {
    value.non_empty_list("audiences", Value::string)
}

/// Which signature algorithms are accepted.
pub(super) fn algorithms(value: Value<'_>) -> Option<Vec<Algorithm>> {
    value.non_empty_list("algorithms", |v| {
        v.parsed("a signature algorithm such as ES256")
    })
}

/// Allow rules over an object of this shape. What is wrong with one is told at its place.
pub(super) fn allow(value: Value<'_>, shape: &ObjectShape) -> Option<AllowRules> {
    let rules = value.non_empty_list("conditions (CEL)", |v| {
        match AllowRules::compile(v.text()?, shape) {
            Ok(rule) => Some(rule),
            Err(mistakes) => {
                for mistake in mistakes {
                    v.note(mistake);
                }
                None
            }
        }
    })?;
    Some(AllowRules::new(rules))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{MINIMAL, read as read_config};

    #[test]
    fn an_issuer_is_read_whole() {
        let config = read_config(&format!(
            "{MINIMAL}svid: {{defaultTtl: 10m, minTtl: 30s}}\nissuers:\n- issuer: https://ci.example\n  \
             audiences: [countersign-ca]\n  discoveryUrl: http://127.0.0.1:1/metadata\n  allowHttp: true\n  \
             allowPrivateAddresses: true\n  algorithms: [ES256]\n  \
             spiffeId: \"spiffe://shop.example/ns/{{claims.ns}}/sa/{{claims.sa}}\"\n"
        ))
        .unwrap();
        assert_eq!(config.svid.min, Duration::from_secs(30));
        let [issuer] = config.issuers.as_slice() else {
            panic!("one issuer")
        };
        assert_eq!(issuer.rules.algorithms, [Algorithm::Es256]);
        assert_eq!(issuer.rules.issuer, "https://ci.example");
        assert!(issuer.endpoint.allow_http && issuer.endpoint.allow_private_addresses);
    }

    #[test]
    fn allow_rules_are_compiled_and_their_mistakes_told_at_their_place() {
        let issuer = |allow: &str| {
            format!(
                "{MINIMAL}issuers:\n- issuer: https://ci.example\n  audiences: [a]\n  spiffeId: spiffe://shop.example/x\n  \
                 allow:\n{allow}"
            )
        };
        let good = r#"  - claims.repository == "acme/shop" && claims.ref == "refs/heads/main""#;
        let config = read_config(&issuer(good)).unwrap();
        assert_eq!(
            config.issuers[0].allow.to_string(),
            r#""claims.repository == \"acme/shop\" && claims.ref == \"refs/heads/main\"""#
        );
        let bad = "  - claims.a == 'x'\n  - claim.a == 'x'\n  - claims.a = 1\n  - size(claims.a)\n";
        let mistakes = read_config(&issuer(bad)).unwrap_err();
        for expected in [
            "ca.yaml:11:5: in the expression, at 1:1: unknown variable `claim`, did you mean `claims`?",
            "ca.yaml:12:5: in the expression, at 1:",
            "ca.yaml:13:5: expected an expression that is true or false, this one is a number",
        ] {
            assert!(mistakes.contains(expected), "{expected}\n{mistakes}");
        }
        let mistakes = read_config(&issuer("    []\n")).unwrap_err();
        assert!(mistakes.contains("conditions (CEL)"), "{mistakes}");
    }

    #[test]
    fn a_template_of_another_trust_domain_is_a_mistake() {
        let mistakes = read_config(&format!(
            "{MINIMAL}issuers:\n- {{issuer: 'https://ci.example', audiences: [a], spiffeId: 'spiffe://other.example/x'}}\n"
        ))
        .unwrap_err();
        assert!(mistakes.contains("ca.yaml:6:"), "{mistakes}");
        assert!(
            mistakes.contains("must begin with `spiffe://shop.example/`"),
            "{mistakes}"
        );
    }
}
