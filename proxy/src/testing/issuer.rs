//! An issuer of tokens.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_identity::jwt::KeySet;
use countersign_policy::{Document, TokenIssuer, document};
use serde_json::json;

use crate::state::IssuerKeys;

/// An issuer with one key, and the document that names it.
pub(crate) struct Issuer {
    key: EcdsaKeyPair,
    pub(crate) document: Arc<TokenIssuer>,
}

impl Issuer {
    /// `extra`: more fields of the document's `spec`, which begin with a comma.
    pub(crate) fn new(extra: &str) -> Self {
        let text = Self::text(extra);
        let documents = document::parse([("issuer.yaml".to_owned(), text)]).unwrap();
        let Some(Document::TokenIssuer(document)) = documents.into_iter().next() else {
            panic!("not a TokenIssuer");
        };
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self {
            key,
            document: Arc::new(document),
        }
    }

    /// The document as text.
    pub(crate) fn text(extra: &str) -> String {
        format!(
            "apiVersion: countersign.dev/v1\nkind: TokenIssuer\nmetadata: {{name: corp, namespace: shop}}\n\
             spec: {{issuer: 'https://login.test', audiences: [shop], leeway: 0s{extra}}}\n"
        )
    }

    /// Its keys, as the control plane sends them.
    pub(crate) fn keys(&self) -> IssuerKeys {
        let (x, y) = self.key.public_key().as_ref()[1..].split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let jwks = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "1", "x": x, "y": y}]});
        let keys = KeySet::parse(&jwks.to_string()).unwrap();
        IssuerKeys::from([("shop/corp".to_owned(), Arc::new(keys))])
    }

    /// A token of `alice`.
    pub(crate) fn token(&self, audience: &str, expires: SystemTime) -> String {
        let exp = expires.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let encode = |part: serde_json::Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let header = encode(json!({"alg": "ES256", "kid": "1"}));
        let claims =
            json!({"iss": "https://login.test", "aud": audience, "sub": "alice", "exp": exp});
        let signed = format!("{header}.{}", encode(claims));
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
