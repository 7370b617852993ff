//! `TrustDomain`: another trust domain whose workloads are believed to be who they say.

use countersign_identity::SpiffeId;
use countersign_identity::spiffe::system;
use serde::{Deserialize, Serialize};

use super::parse::{Whole, whole};
use super::{Metadata, Origin};
use crate::yaml::Value;

/// A foreign trust domain, and where its bundle is (SPIFFE Federation). It concerns the whole mesh, and stands in the
/// root namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustDomainDocument {
    /// Name and namespace.
    pub metadata: Metadata,
    /// Where the document starts.
    pub origin: Origin,
    /// The foreign trust domain.
    pub trust_domain: countersign_identity::TrustDomain,
    /// Whether it is the mesh's own trust domain under another name: its workloads are judged as those of the same namespace
    /// and service account.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alias: bool,
    /// Where its bundle is.
    pub bundle_endpoint: BundleEndpoint,
}

/// A SPIFFE bundle endpoint (SPIFFE Federation §5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BundleEndpoint {
    /// `https://…`
    pub url: String,
    /// How the endpoint proves that it is the right one.
    pub profile: EndpointProfile,
}

/// How a bundle endpoint authenticates (SPIFFE Federation §5.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndpointProfile {
    /// By a certificate of the web's public key infrastructure.
    HttpsWeb,
    /// By an X.509-SVID with this SPIFFE ID.
    HttpsSpiffe(SpiffeId),
}

pub(super) fn read(value: Value<'_>) -> Option<TrustDomainDocument> {
    let Whole {
        metadata,
        origin,
        spec: (trust_domain, alias, bundle_endpoint),
    } = whole(value, |fields| {
        let trust_domain = fields.required("trustDomain", |v| {
            v.parsed("a trust domain such as partner.example")
        });
        let alias = fields.default("alias", false, Value::bool);
        let endpoint = fields.required("bundleEndpoint", endpoint);
        Some((trust_domain?, alias?, endpoint?))
    })?;
    if metadata.namespace.as_str() != system::NAMESPACE {
        return value.mistake(format!(
            "a TrustDomain concerns the whole mesh: expected the namespace {}, got {}",
            system::NAMESPACE,
            metadata.namespace
        ));
    }
    Some(TrustDomainDocument {
        metadata,
        origin,
        trust_domain,
        alias,
        bundle_endpoint,
    })
}

fn endpoint(value: Value<'_>) -> Option<BundleEndpoint> {
    value.mapping(|fields| {
        let url = fields.required("url", https);
        let profiles = [("https_web", false), ("https_spiffe", true)];
        let spiffe = fields.required("profile", |v| v.choice(&profiles));
        let id = fields.optional("spiffeId", |v| {
            v.parsed("a SPIFFE ID such as spiffe://partner.example/bundle")
        });
        let profile = match (spiffe?, id?) {
            (false, None) => EndpointProfile::HttpsWeb,
            (true, Some(id)) => EndpointProfile::HttpsSpiffe(id),
            (true, None) => {
                return value
                    .mistake("missing field `spiffeId`: the profile https_spiffe expects one");
            }
            (false, Some(_)) => {
                return value.mistake(
                    "`spiffeId` belongs to the profile https_spiffe, and this one is https_web",
                );
            }
        };
        Some(BundleEndpoint { url: url?, profile })
    })
}

fn https(value: Value<'_>) -> Option<String> {
    const EXPECTED: &str = "a URL such as https://partner.example/bundle";
    let uri: http::Uri = value.parsed(EXPECTED)?;
    match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(_)) => value.string(),
        _ => value.expected(EXPECTED),
    }
}
