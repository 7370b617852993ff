//! An OIDC issuer for tests and benchmarks: it has a key, and the CA has the public one in a file.

use std::io;
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

/// Its name, at which nobody is.
const NAME: &str = "https://issuer.test";
const AUDIENCE: &str = "countersign-ca";

/// The issuer. Its tokens' subjects are service accounts of the namespace `shop`.
#[derive(Debug)]
pub struct Issuer(EcdsaKeyPair);

impl Issuer {
    /// An issuer with a new ES256 key.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn new() -> io::Result<Self> {
        EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map(Self)
            .map_err(io::Error::other)
    }

    /// Its key set, for a file.
    #[must_use]
    pub fn jwks(&self) -> String {
        // An uncompressed point: 4, x, y (SEC 1 §2.3.3).
        let (_, point) = self.0.public_key().as_ref().split_at(1);
        let (x, y) = point.split_at(point.len() / 2);
        let [x, y] = [x, y].map(|number| URL_SAFE_NO_PAD.encode(number));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "1", "x": x, "y": y}]})
            .to_string()
    }

    /// What a CA's configuration says of it: `issuers`, of the one whose key set is in that file.
    #[must_use]
    pub fn config(jwks_file: &str, trust_domain: &str) -> serde_json::Value {
        json!({"issuers": [{
            "issuer": NAME,
            "audiences": [AUDIENCE],
            "jwksFile": jwks_file,
            "spiffeId": format!("spiffe://{trust_domain}/ns/shop/sa/{{claims.sub}}"),
        }]})
    }

    /// A token for a service account, good for `lifetime`.
    ///
    /// # Errors
    /// It cannot be signed.
    pub fn token(&self, service_account: &str, lifetime: Duration) -> io::Result<String> {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_err(io::Error::other)?;
        let claims = json!({
            "iss": NAME, "aud": AUDIENCE, "sub": service_account,
            "iat": now.as_secs(), "exp": (now + lifetime).as_secs(),
        });
        let header = json!({"alg": "ES256", "kid": "1", "typ": "JWT"});
        let [header, claims] =
            [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.map_err(io::Error::other)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
