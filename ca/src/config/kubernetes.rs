//! `kubernetes`: the clusters whose service account tokens attest.

use std::path::PathBuf;

use countersign_identity::jwt::{Algorithm, IssuerRules};
use countersign_identity::keys::IssuerEndpoint;
use countersign_policy::yaml::Value;
use url::Url;

use super::issuers::{LEEWAY, allow, audiences};
use crate::attest::allow::AllowRules;
use crate::attest::kubernetes::{ClusterConfig, POD};
use crate::kube_api::ApiServerConfig;

/// Where a pod finds its cluster's API server, …
const IN_CLUSTER_URL: &str = "https://kubernetes.default.svc";
/// … and what it needs to speak with it.
const IN_CLUSTER_DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Reads the list.
pub(super) fn read(value: Value<'_>) -> Option<Vec<ClusterConfig>> {
    let mut seen = Vec::new();
    value.list("clusters", |item| {
        let config = cluster(item)?;
        let issuer = &config.rules.issuer;
        if seen.contains(issuer) {
            return item.mistake(format!(
                "the issuer {issuer:?} is given twice: clusters are told apart by it (`--service-account-issuer` of the API server)"
            ));
        }
        seen.push(issuer.clone());
        Some(config)
    })
}

fn cluster(value: Value<'_>) -> Option<ClusterConfig> {
    value.mapping(|fields| {
        let issuer = fields.required("issuer", Value::string);
        let audiences = fields.required("audiences", audiences);
        let api_server = fields.optional("apiServer", api_server);
        let keys = fields.optional("keys", |v| keys(v, issuer.as_deref()));
        let allow = fields.default("allow", AllowRules::default(), |v| allow(v, &POD));
        let allow_system = fields.default("allowSystemNamespace", false, Value::bool);
        let (api_server, keys) = (api_server?, keys?);
        if api_server.is_none() && keys.is_none() {
            return value.mistake(
                "expected `apiServer`, `keys` or both: without, no token can be verified. `apiServer: {}` is the cluster that \
                 the CA itself runs in",
            );
        }
        Some(ClusterConfig {
            rules: IssuerRules {
                issuer: issuer?,
                audiences: audiences?,
                algorithms: Algorithm::DEFAULT.to_vec(),
                leeway: LEEWAY,
            },
            keys,
            api_server,
            allow: allow?,
            allow_system_namespace: allow_system?,
        })
    })
}

/// Reads `apiServer`: without fields, the one of the cluster that the CA runs in.
pub(super) fn api_server(value: Value<'_>) -> Option<ApiServerConfig> {
    value.mapping(|fields| {
        let url = fields.optional("url", |v| {
            v.parsed::<Url>("a URL such as https://10.0.0.1:6443")
        });
        let ca_file = fields.optional("caFile", Value::text);
        let token_file = fields.optional("tokenFile", Value::text);
        let default = in_cluster(value)?;
        let url = url?.unwrap_or(default.url);
        if url.scheme() != "https" || url.query().is_some() || url.fragment().is_some() {
            return value.mistake(format!(
                "expected an https URL without query, got {url}: the CA's own token is sent there"
            ));
        }
        Some(ApiServerConfig {
            url,
            ca_file: ca_file?.map_or(default.ca_file, PathBuf::from),
            token_file: token_file?.map_or(default.token_file, PathBuf::from),
        })
    })
}

/// The API server of the cluster that the CA runs in, as a pod finds it.
pub(super) fn in_cluster(value: Value<'_>) -> Option<ApiServerConfig> {
    let file = |name: &str| PathBuf::from(format!("{IN_CLUSTER_DIRECTORY}/{name}"));
    match Url::parse(IN_CLUSTER_URL) {
        Ok(url) => Some(ApiServerConfig {
            url,
            ca_file: file("ca.crt"),
            token_file: file("token"),
        }),
        Err(error) => value.mistake(error.to_string()),
    }
}

fn keys(value: Value<'_>, issuer: Option<&str>) -> Option<IssuerEndpoint> {
    const URL: &str = "a URL such as https://10.0.0.1:6443/openid/v1/jwks";
    value.mapping(|fields| {
        let discovery_url = fields.optional("discoveryUrl", |v| v.parsed::<Url>(URL));
        let jwks_uri = fields.optional("jwksUri", |v| v.parsed::<Url>(URL));
        let jwks_file = fields.optional("jwksFile", Value::text);
        let allow_http = fields.default("allowHttp", false, Value::bool);
        let allow_private = fields.default("allowPrivateAddresses", false, Value::bool);
        let ca_file = fields.optional("caFile", Value::text);
        let endpoint = IssuerEndpoint {
            discovery_url: discovery_url?,
            jwks_uri: jwks_uri?,
            jwks_file: jwks_file?.map(PathBuf::from),
            allow_http: allow_http?,
            allow_private_addresses: allow_private?,
            ca_file: ca_file?.map(PathBuf::from),
            // Without an issuer, that mistake has been reported.
            ..IssuerEndpoint::new(issuer?)
        };
        match endpoint.check() {
            Ok(()) => Some(endpoint),
            Err(error) => value.mistake(error.to_string()),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::tests::{MINIMAL, read};

    #[test]
    fn the_cas_own_cluster_needs_little() {
        let config = read(&format!(
            "{MINIMAL}kubernetes:\n- issuer: https://kubernetes.default.svc.cluster.local\n  audiences: [countersign-ca]\n  \
             apiServer: {{}}\n  allowSystemNamespace: true\n"
        ))
        .unwrap();
        let [cluster] = config.kubernetes.as_slice() else {
            panic!("one cluster")
        };
        let server = cluster.api_server.as_ref().unwrap();
        assert_eq!(server.url.as_str(), "https://kubernetes.default.svc/");
        assert_eq!(
            server.token_file,
            Path::new("/var/run/secrets/kubernetes.io/serviceaccount/token")
        );
        assert!(cluster.allow_system_namespace && cluster.keys.is_none());
    }

    #[test]
    fn a_cluster_is_read_whole() {
        let config = read(&format!(
            "{MINIMAL}kubernetes:\n- issuer: https://c1.example\n  audiences: [countersign-ca]\n  \
             apiServer: {{url: 'https://10.0.0.1:6443', caFile: ca.crt, tokenFile: token}}\n  keys: {{jwksFile: keys.json}}\n  \
             allow: ['pod.namespace in [\"shop\", \"tools\"]']\n"
        ))
        .unwrap();
        let cluster = &config.kubernetes[0];
        assert_eq!(
            cluster.keys.as_ref().unwrap().jwks_file.as_deref(),
            Some(Path::new("keys.json"))
        );
        assert!(!cluster.allow_system_namespace);
    }

    #[test]
    fn every_mistake_is_told() {
        let mistakes = read(&format!(
            "{MINIMAL}kubernetes:\n- {{issuer: a, audiences: [b]}}\n- {{issuer: b, audiences: [], apiServer: {{url: 'http://a'}}}}\n\
             - {{issuer: c, audiences: [b], keys: {{}}}}\n\
             - {{issuer: d, audiences: [b], apiServer: {{}}, allow: ['pod.nod == \"x\"']}}\n\
             - {{issuer: e, audiences: [b], apiServer: {{}}}}\n- {{issuer: e, audiences: [b], apiServer: {{}}}}\n"
        ))
        .unwrap_err();
        for expected in [
            "ca.yaml:6:3: expected `apiServer`, `keys` or both",
            "expected an https URL without query, got http://a/",
            "the issuer \"c\" is not a URL",
            "did you mean `node`?",
            "the issuer \"e\" is given twice",
        ] {
            assert!(mistakes.contains(expected), "{expected}\n{mistakes}");
        }
    }

    #[test]
    fn one_issuer_is_one_attestors() {
        let mistakes = read(&format!(
            "{MINIMAL}issuers:\n- {{issuer: 'https://a.example', audiences: [a], spiffeId: 'spiffe://shop.example/x'}}\n\
             kubernetes:\n- {{issuer: 'https://a.example', audiences: [b], apiServer: {{}}}}\n"
        ))
        .unwrap_err();
        assert!(
            mistakes.contains("is in `issuers` and in `kubernetes`"),
            "{mistakes}"
        );
    }
}
