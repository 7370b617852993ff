//! `authority`: how long roots and intermediates live, and where their keys are.

use std::path::Path;
use std::time::Duration;

use countersign_policy::yaml::{Fields, Value};

use super::kubernetes;
use crate::authority::AuthorityConfig;
use crate::authority::keys::KeyPlace;
use crate::authority::keys::pkcs11::{PinSource, TokenConfig};
use crate::authority::keys::secret::SecretConfig;
use crate::issue::TtlLimits;

/// In the data directory, unless it says otherwise.
const DIRECTORY: &str = "keys";
const ROOT_TTL: Duration = Duration::from_hours(24 * 3653);
const INTERMEDIATE_TTL: Duration = Duration::from_hours(24 * 90);
/// A lifetime beyond this is a slip of the pen, and certificates cannot say dates beyond 9999.
const LONGEST: Duration = Duration::from_hours(24 * 366 * 100);

/// What the field says, or the defaults, which depend on where the data are and how long SVIDs live.
pub(super) fn read(
    fields: &mut Fields<'_>,
    directory: Option<&Path>,
    svid: Option<TtlLimits>,
) -> Option<AuthorityConfig> {
    // Mistakes in the other two have been reported; this one is looked at all the same.
    let known = directory.zip(svid);
    let directory = directory.unwrap_or(Path::new("."));
    let svid = svid.unwrap_or(super::DEFAULT_TTLS);
    let read = fields.default("authority", defaults(directory, svid), |value| {
        authority(value, directory, svid)
    });
    known.and(read)
}

fn defaults(directory: &Path, svid: TtlLimits) -> AuthorityConfig {
    let files = KeyPlace::Directory(directory.join(DIRECTORY));
    AuthorityConfig {
        upstream: false,
        root_ttl: ROOT_TTL,
        intermediate_ttl: INTERMEDIATE_TTL,
        // An SVID is renewed at half its life, and its renewal brings the bundle: by the end of its life, whoever does not
        // have the bundle has no SVID.
        propagation: svid.default,
        longest_svid: svid.max,
        root_keys: files.clone(),
        keys: files,
    }
}

fn authority(value: Value<'_>, directory: &Path, svid: TtlLimits) -> Option<AuthorityConfig> {
    value.mapping(|fields| {
        let defaults = defaults(directory, svid);
        let upstream = fields.default("root", false, |v| {
            v.choice(&[("local", false), ("upstream", true)])
        });
        let root_ttl = fields.default("rootTtl", defaults.root_ttl, Value::duration);
        let intermediate_ttl =
            fields.default("intermediateTtl", defaults.intermediate_ttl, Value::duration);
        let propagation =
            fields.default("bundlePropagation", defaults.propagation, Value::duration);
        let keys = fields.default("keys", defaults.keys, |v| key_place(v, directory));
        let keys = keys?;
        let root_keys = fields.default("rootKeys", keys.clone(), |v| key_place(v, directory));
        let config = AuthorityConfig {
            upstream: upstream?,
            root_ttl: root_ttl?,
            intermediate_ttl: intermediate_ttl?,
            propagation: propagation?,
            longest_svid: svid.max,
            root_keys: root_keys?,
            keys,
        };
        // At half its life an intermediate is replaced: no SVID is cut short by its end then.
        if config.intermediate_ttl < svid.max * 2 {
            return value.mistake(format!(
                "expected intermediateTtl of at least twice svid.maxTtl, which is {:?}, got {:?}",
                svid.max, config.intermediate_ttl
            ));
        }
        if config.root_ttl < config.intermediate_ttl * 2 || config.root_ttl > LONGEST {
            return value.mistake(format!(
                "expected rootTtl of at least twice intermediateTtl, which is {:?}, and at most 100 years, got {:?}",
                config.intermediate_ttl, config.root_ttl
            ));
        }
        Some(config)
    })
}

fn key_place(value: Value<'_>, directory: &Path) -> Option<KeyPlace> {
    value.mapping(|fields| {
        let path = fields.optional("directory", Value::text);
        let token = fields.optional("pkcs11", token);
        let secret = fields.optional("secret", secret);
        match (path?, token?, secret?) {
            (None, Some(token), None) => Some(KeyPlace::Token(token)),
            (None, None, Some(secret)) => Some(KeyPlace::Secret(secret)),
            (path, None, None) => Some(KeyPlace::Directory(
                directory.join(path.unwrap_or(DIRECTORY)),
            )),
            _ => value.mistake("expected one of `directory`, `pkcs11` and `secret`, got several"),
        }
    })
}

fn secret(value: Value<'_>) -> Option<SecretConfig> {
    value.mapping(|fields| {
        let namespace = fields.required("namespace", kubernetes_name);
        let name = fields.required("name", kubernetes_name);
        let api_server = fields.optional("apiServer", kubernetes::api_server);
        let api_server = match api_server? {
            None => kubernetes::in_cluster(value),
            configured => configured,
        };
        Some(SecretConfig {
            namespace: namespace?,
            name: name?,
            api_server: api_server?,
        })
    })
}

/// As Kubernetes has the names of Secrets (RFC 1123).
fn kubernetes_name(value: Value<'_>) -> Option<String> {
    let name = value.string()?;
    let is_of_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if name.len() <= 253
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(is_of_name)
    {
        return Some(name);
    }
    value.mistake(format!(
        "expected a name such as countersign-ca-keys, got {name:?}"
    ))
}

fn token(value: Value<'_>) -> Option<TokenConfig> {
    value.mapping(|fields| {
        let module = fields.required("module", Value::text);
        let label = fields.required("tokenLabel", Value::string);
        let file = fields.optional("pinFile", Value::text);
        let variable = fields.optional("pinVariable", Value::string);
        let pin = match (file?, variable?) {
            (Some(path), None) => PinSource::File(path.into()),
            (None, Some(name)) => PinSource::Environment(name),
            _ => return value.mistake("expected `pinFile` or `pinVariable`, one of them"),
        };
        Some(TokenConfig {
            module: module?.into(),
            label: label?,
            pin,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Config, config};
    use super::*;
    use countersign_policy::yaml;

    fn read(authority: &str) -> Result<Config, String> {
        let text = format!(
            "trustDomain: shop.example\ndataDirectory: /var/ca\nlisten: 127.1.2.1:15010\nops: 127.1.2.1:15011\n{authority}"
        );
        yaml::read("ca.yaml", &text, config).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn the_defaults_follow_the_rest() {
        let config = read("svid: {defaultTtl: 2h}\n").unwrap().authority;
        assert_eq!(config.propagation, Duration::from_hours(2));
        assert_eq!(config.keys, KeyPlace::Directory("/var/ca/keys".into()));
        assert_eq!(config.keys, config.root_keys);
        assert!(!config.upstream);
    }

    #[test]
    fn keys_are_where_it_says() {
        let config = read(
            "authority:\n  root: upstream\n  intermediateTtl: 720h\n  bundlePropagation: 5m\n  keys: {directory: private}\n  \
             rootKeys: {pkcs11: {module: /usr/lib/x.so, tokenLabel: ca, pinFile: /etc/pin}}\n",
        )
        .unwrap()
        .authority;
        assert!(config.upstream);
        assert_eq!(config.keys, KeyPlace::Directory("/var/ca/private".into()));
        let token = TokenConfig {
            module: "/usr/lib/x.so".into(),
            label: "ca".to_owned(),
            pin: PinSource::File("/etc/pin".into()),
        };
        assert_eq!(config.root_keys, KeyPlace::Token(token));

        let config = read("authority: {keys: {secret: {namespace: system, name: ca-keys}}}\n");
        let KeyPlace::Secret(secret) = config.unwrap().authority.keys else {
            panic!("a Secret");
        };
        assert_eq!((&*secret.namespace, &*secret.name), ("system", "ca-keys"));
        let url = secret.api_server.url.as_str();
        assert_eq!(url, "https://kubernetes.default.svc/");
    }

    #[test]
    fn what_would_cut_svids_short_is_a_mistake() {
        for (authority, expected) in [
            (
                "authority: {intermediateTtl: 40h}",
                "at least twice svid.maxTtl",
            ),
            (
                "authority: {rootTtl: 2400h}",
                "at least twice intermediateTtl",
            ),
            (
                "authority: {root: remote}",
                "expected `local` or `upstream`",
            ),
            (
                "authority: {keys: {pkcs11: {module: /x, tokenLabel: y}}}",
                "pinFile",
            ),
            (
                "authority: {keys: {directory: a, pkcs11: {module: /x, tokenLabel: y, pinVariable: P}}}",
                "got several",
            ),
            (
                "authority: {keys: {directory: a, secret: {namespace: a, name: b}}}",
                "got several",
            ),
            (
                "authority: {keys: {secret: {namespace: a, name: ../b}}}",
                "expected a name such as",
            ),
            (
                "authority: {keys: {secret: {namespace: a, name: b, apiServer: {url: 'http://x'}}}}",
                "expected an https URL",
            ),
        ] {
            let mistakes = read(authority).unwrap_err();
            assert!(mistakes.contains(expected), "{mistakes}");
        }
    }
}
