//! How to reach a bundle endpoint, where that is not as usual: `federation` of the configuration.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use countersign_identity::bundle::{BundleJsonError, SpiffeBundle};
use countersign_identity::{Bundle, BundleError, TrustDomain};
use countersign_policy::yaml::Value;

/// How to reach the bundle endpoint of one trust domain, and what to believe of it before.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reach {
    pub(crate) trust_domain: TrustDomain,
    /// Allows private, loopback and link-local addresses.
    pub(crate) allow_private_addresses: bool,
    /// PEM file of the only certificate authorities accepted of an `https_web` endpoint. Without it, the system's.
    pub(crate) ca_file: Option<PathBuf>,
    /// The bundle to begin with when none was ever fetched. `https_spiffe` needs it: the endpoint is verified by it.
    pub(crate) bundle: Option<Bundle>,
}

/// Why a file is no bundle.
#[derive(Debug, thiserror::Error)]
enum BundleFileError {
    #[error("cannot read {}: {source}", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: {source}", path.display())]
    Json {
        path: PathBuf,
        source: BundleJsonError,
    },
    #[error("{}: {source}", path.display())]
    Pem { path: PathBuf, source: BundleError },
}

impl Reach {
    /// As usual: public addresses, the system's certificate authorities, nothing known before.
    pub(crate) fn new(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            allow_private_addresses: false,
            ca_file: None,
            bundle: None,
        }
    }
}

/// Reads the list. Relative paths start at `base`.
pub(crate) fn read(value: Value<'_>, base: &Path) -> Option<Vec<Reach>> {
    let mut seen = BTreeSet::new();
    value.list("trust domains", |value| {
        let reach = read_one(value, base)?;
        if !seen.insert(reach.trust_domain.clone()) {
            let name = &reach.trust_domain;
            return value.mistake(format!(
                "the trust domain {name} is configured above already"
            ));
        }
        Some(reach)
    })
}

fn read_one(value: Value<'_>, base: &Path) -> Option<Reach> {
    value.mapping(|fields| {
        let trust_domain = fields.required("trustDomain", |value| {
            value.parsed("a trust domain such as partner.example")
        });
        let allow_private_addresses = fields.default("allowPrivateAddresses", false, Value::bool);
        let ca_file = fields.optional("caFile", |value| Some(base.join(value.text()?)));
        let bundle = fields.optional("bundleFile", |value| {
            let path = base.join(value.text()?);
            match bundle(path, trust_domain.as_ref()?) {
                Ok(bundle) => Some(bundle),
                Err(error) => value.mistake(error.to_string()),
            }
        });
        Some(Reach {
            trust_domain: trust_domain.clone()?,
            allow_private_addresses: allow_private_addresses?,
            ca_file: ca_file?,
            bundle: bundle?,
        })
    })
}

/// A SPIFFE bundle document, or certificates in PEM.
fn bundle(path: PathBuf, trust_domain: &TrustDomain) -> Result<Bundle, BundleFileError> {
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(BundleFileError::Read { path, source }),
    };
    if text.trim_start().starts_with('{') {
        match SpiffeBundle::parse(trust_domain.clone(), &text) {
            Ok(published) => Ok(published.bundle),
            Err(source) => Err(BundleFileError::Json { path, source }),
        }
    } else {
        Bundle::from_pem(trust_domain.clone(), &text)
            .map_err(|source| BundleFileError::Pem { path, source })
    }
}

#[cfg(test)]
mod tests {
    use countersign_identity::testing::TestAuthority;
    use countersign_policy::yaml;

    use super::*;

    #[test]
    fn a_first_bundle_is_read_in_either_form_and_every_mistake_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let trust_domain = TrustDomain::parse("partner.example").unwrap();
        let bundle = TestAuthority::new(&trust_domain).unwrap().bundle().unwrap();
        let document = SpiffeBundle {
            bundle: bundle.clone(),
            refresh_hint: None,
        };
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("bundle.json", &document.to_json().unwrap());
        write("bundle.pem", &bundle.to_pem());
        write("none.json", r#"{"keys":[]}"#);
        let read_text = |text: &str| {
            yaml::read("control.yaml", text, |value| read(value, directory.path()))
                .map_err(|mistakes| mistakes.to_string())
        };
        for file in ["bundle.json", "bundle.pem"] {
            let text = format!(
                "- {{trustDomain: partner.example, caFile: web.pem, allowPrivateAddresses: true, bundleFile: {file}}}"
            );
            let [reach] = read_text(&text).unwrap().try_into().unwrap();
            let authorities = reach.bundle.unwrap().x509_authorities().to_vec();
            assert_eq!(authorities, bundle.x509_authorities());
            assert_eq!(reach.ca_file.unwrap(), directory.path().join("web.pem"));
            assert!(reach.allow_private_addresses);
        }
        let mistakes = read_text(
            "- {trustDomain: a, bundleFile: none.json}\n- {trustDomain: a}\n- {trustDomain: b, bundleFile: missing.pem}\n- {trustDomain: a}\n- {}\n",
        )
        .unwrap_err();
        for told in [
            "1:32: ",
            "the bundle of a has no X.509 authority",
            "missing.pem: No such file",
            "4:3: the trust domain a is configured above already",
            "missing field `trustDomain`",
        ] {
            assert!(mistakes.contains(told), "{told}\n{mistakes}");
        }
    }
}
