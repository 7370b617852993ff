//! What is told: each message whole, as the standard asks (SPIFFE Workload API §4.3).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use countersign_api::workload::{
    JwtBundlesResponse, X509BundlesResponse, X509svid, X509svidResponse,
};
use countersign_identity::jwt::KeySet;
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
        let bundle = store.bundle();
        Ok(Self { svid, key, bundle })
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
        before.svid.thumbprint() == now.svid.thumbprint()
            && before.bundle.x509_authorities() == now.bundle.x509_authorities()
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
            federated_bundles: HashMap::new(),
        })
    }
}

impl Update for X509BundlesResponse {
    fn is_same(before: &Identity, now: &Identity) -> bool {
        before.bundle.x509_authorities() == now.bundle.x509_authorities()
    }

    fn of(identity: &Identity) -> Result<Self, Status> {
        let bundle = concatenated(identity.bundle.x509_authorities());
        Ok(Self {
            crl: Vec::new(),
            bundles: HashMap::from([(domain_id(&identity.bundle), bundle)]),
        })
    }
}

impl Update for JwtBundlesResponse {
    fn is_same(before: &Identity, now: &Identity) -> bool {
        before.bundle.jwt_keys() == now.bundle.jwt_keys()
    }

    fn of(identity: &Identity) -> Result<Self, Status> {
        let keys = identity.bundle.jwt_keys();
        let keys = keys.map_or_else(|| NO_KEYS.to_owned(), KeySet::to_jwks);
        Ok(Self {
            bundles: HashMap::from([(domain_id(&identity.bundle), keys.into_bytes())]),
        })
    }
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
