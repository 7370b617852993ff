//! What is told: each message whole, as the standard asks (SPIFFE Workload API §4.3).

use std::collections::HashMap;
use std::iter;
use std::sync::Arc;
use std::time::SystemTime;

use countersign_api::workload::{
    JwtBundlesResponse, X509BundlesResponse, X509svid, X509svidResponse,
};
use countersign_identity::jwt::KeySet;
use countersign_identity::store::ForeignBundles;
use countersign_identity::{Bundle, IdentityStore, SvidKey, X509Svid};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use tonic::Status;

/// A JWK Set without keys: of a trust domain that issues no JWT-SVIDs.
const NO_KEYS: &str = r#"{"keys":[]}"#;

/// What a workload may have at this moment.
pub(super) struct Identity {
    svid: Arc<X509Svid>,
    key: SvidKey,
    bundle: Arc<Bundle>,
    foreign: Arc<ForeignBundles>,
}

impl Identity {
    /// The identity of now.
    ///
    /// # Errors
    /// PERMISSION_DENIED: there is none yet, or none any more.
    pub(super) fn of(store: &IdentityStore, now: SystemTime) -> Result<Self, Status> {
        let (svid, key) = store.svid_with_key().ok_or_else(|| {
            Status::permission_denied(
                "this workload has no identity yet; the sidecar's log says why",
            )
        })?;
        if svid.not_after() <= now {
            return Err(Status::permission_denied(
                "this workload's identity has expired and could not be renewed; the sidecar's log says why",
            ));
        }
        Ok(Self {
            svid,
            key,
            bundle: store.bundle(),
            foreign: store.foreign_bundles(),
        })
    }

    /// The bundle of its own trust domain, then those of others.
    fn bundles(&self) -> impl Iterator<Item = &Bundle> {
        iter::once(&*self.bundle).chain(self.foreign())
    }

    fn foreign(&self) -> impl Iterator<Item = &Bundle> {
        self.foreign.values().map(|bundle| &**bundle)
    }

    /// Whether all X.509 authorities are the same.
    fn has_authorities_of(&self, other: &Self) -> bool {
        let authorities = |bundle: &Bundle| bundle.x509_authorities().to_vec();
        self.is_same_by(other, authorities)
    }

    fn is_same_by<T: PartialEq>(&self, other: &Self, of: impl Fn(&Bundle) -> T) -> bool {
        let told = |identity: &Self| {
            let bundles = identity.bundles();
            bundles
                .map(|bundle| (bundle.trust_domain().clone(), of(bundle)))
                .collect::<Vec<_>>()
        };
        told(self) == told(other)
    }

    pub(super) fn svid(&self) -> &X509Svid {
        &self.svid
    }
}

/// One of the streams: what it sends, and what it takes for a change.
pub(super) trait Update: Sized + Send + 'static {
    /// Whether `now` would be told as `before` was.
    fn is_same(before: &Identity, now: &Identity) -> bool;

    /// The message.
    ///
    /// # Errors
    /// INTERNAL: it cannot be made.
    fn of(identity: &Identity) -> Result<Self, Status>;
}

impl Update for X509svidResponse {
    fn is_same(before: &Identity, now: &Identity) -> bool {
        before.svid.thumbprint() == now.svid.thumbprint() && before.has_authorities_of(now)
    }

    fn of(identity: &Identity) -> Result<Self, Status> {
        let mut key = identity
            .key
            .to_pkcs8_der()
            .map_err(|error| Status::internal(error.to_string()))?;
        Ok(Self {
            svids: vec![X509svid {
                spiffe_id: identity.svid.id().to_string(),
                x509_svid: concatenated(identity.svid.chain()),
                // Moved, not copied. From here on the key is in gRPC's buffers, on its way to whose key it is.
                x509_svid_key: std::mem::take(&mut *key),
                bundle: concatenated(identity.bundle.x509_authorities()),
                hint: String::new(),
            }],
            crl: Vec::new(),
            federated_bundles: authorities(identity.foreign()),
        })
    }
}

impl Update for X509BundlesResponse {
    fn is_same(before: &Identity, now: &Identity) -> bool {
        before.has_authorities_of(now)
    }

    fn of(identity: &Identity) -> Result<Self, Status> {
        Ok(Self {
            crl: Vec::new(),
            bundles: authorities(identity.bundles()),
        })
    }
}

impl Update for JwtBundlesResponse {
    fn is_same(before: &Identity, now: &Identity) -> bool {
        before.is_same_by(now, |bundle| bundle.jwt_keys().cloned())
    }

    fn of(identity: &Identity) -> Result<Self, Status> {
        let bundles = identity.bundles().map(|bundle| {
            let keys = bundle.jwt_keys();
            let keys = keys.map_or_else(|| NO_KEYS.to_owned(), KeySet::to_jwks);
            (domain_id(bundle), keys.into_bytes())
        });
        Ok(Self {
            bundles: bundles.collect(),
        })
    }
}

/// The X.509 authorities of each, by trust domain.
fn authorities<'b>(bundles: impl Iterator<Item = &'b Bundle>) -> HashMap<String, Vec<u8>> {
    let told = |bundle: &Bundle| (domain_id(bundle), concatenated(bundle.x509_authorities()));
    bundles.map(told).collect()
}

/// The SPIFFE ID of the trust domain.
fn domain_id(bundle: &Bundle) -> String {
    format!("spiffe://{}", bundle.trust_domain())
}

/// Certificates in DER, one after the other without anything between them.
fn concatenated<T: AsRef<[u8]>>(certificates: &[T]) -> Vec<u8> {
    certificates
        .iter()
        .flat_map(|certificate| certificate.as_ref())
        .copied()
        .collect()
}

/// Claims as protobuf has JSON. Numbers become doubles there.
pub(super) fn claims(claims: serde_json::Map<String, serde_json::Value>) -> Struct {
    Struct {
        fields: claims
            .into_iter()
            .map(|(name, claim)| (name, value(claim)))
            .collect(),
    }
}

fn value(json: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(flag) => Kind::BoolValue(flag),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(values) => Kind::ListValue(ListValue {
            values: values.into_iter().map(value).collect(),
        }),
        Json::Object(members) => Kind::StructValue(claims(members)),
    };
    Value { kind: Some(kind) }
}
