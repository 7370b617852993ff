//! An issuer's public keys: JSON Web Key Sets (RFC 7517).

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::error::{listed, quoted};
use super::{Algorithm, TokenError, json};

/// RSA keys shorter than this are refused (RFC 7518 §3.3); longer than [`RSA_BITS_MAX`] cost too much to verify with.
const RSA_BITS_MIN: usize = 2048;
const RSA_BITS_MAX: usize = 8192;

/// More keys than any issuer has; each one costs time when a token names none.
const MAX_KEYS: usize = 256;

/// The usable public keys of one issuer.
///
/// Parsed once: a verification costs no more than the signature. Keys that cannot be used here (other types, for
/// encryption, symmetric, with a private part) are left out, as RFC 7517 §5 asks; [`KeySet::skipped`] says why.
#[derive(Clone, Debug)]
pub struct KeySet {
    keys: Vec<Key>,
    skipped: Vec<String>,
}

impl PartialEq for KeySet {
    // What else there is of a key follows from its public members.
    fn eq(&self, other: &Self) -> bool {
        self.public_jwks().eq(other.public_jwks())
    }
}

impl Eq for KeySet {}

/// Why a text is no key set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Not JSON.
    #[error("the key set is not valid JSON (line {line}, column {column})")]
    NotJson {
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
    },
    /// Two members of one name.
    #[error("the key set has two members named {name} in one object")]
    DuplicateMember {
        /// The name, quoted.
        name: String,
    },
    /// JSON, but not a JWK Set.
    #[error("not a JWK Set: expected an object with a list `keys` (RFC 7517 §5)")]
    NotAKeySet,
    /// Too many keys.
    #[error("the key set has {found} keys; at most {MAX_KEYS} are accepted")]
    TooManyKeys {
        /// How many.
        found: usize,
    },
    /// No key is usable.
    #[error(
        "the key set holds no public signature key that can be used{}",
        reasons(skipped)
    )]
    NoUsableKey {
        /// Why each one was left out.
        skipped: Vec<String>,
    },
}

impl KeySet {
    /// Reads a JWK Set.
    ///
    /// # Errors
    /// When the text is not a JWK Set, or none of its keys can be used.
    pub fn parse(jwks: &str) -> Result<Self, KeySetError> {
        let set = json::parse(jwks.as_bytes()).map_err(|error| match error {
            json::JsonError::Duplicate(name) => KeySetError::DuplicateMember {
                name: quoted(&name),
            },
            json::JsonError::Syntax { line, column } => KeySetError::NotJson { line, column },
        })?;
        let Some(Value::Array(members)) = set.get("keys") else {
            return Err(KeySetError::NotAKeySet);
        };
        Self::of(members)
    }

    /// The usable keys among these members of a JWK Set.
    pub(crate) fn of(members: &[Value]) -> Result<Self, KeySetError> {
        if members.len() > MAX_KEYS {
            return Err(KeySetError::TooManyKeys {
                found: members.len(),
            });
        }
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        for (index, member) in members.iter().enumerate() {
            match Key::read(member) {
                Ok(key) => keys.push(key),
                Err(reason) => skipped.push(format!("key {} {reason}", describe(index, member))),
            }
        }
        if keys.is_empty() {
            return Err(KeySetError::NoUsableKey { skipped });
        }
        Ok(Self { keys, skipped })
    }

    /// The usable keys as a JWK Set: public members only, whatever else the issuer published.
    pub fn to_jwks(&self) -> String {
        let keys: Vec<&Value> = self.public_jwks().collect();
        json!({ "keys": keys }).to_string()
    }

    /// The usable keys, each as a JWK of its public members.
    pub(crate) fn public_jwks(&self) -> impl Iterator<Item = &Value> {
        self.keys.iter().map(|key| &key.public_jwk)
    }

    /// Whether every usable key has a `kid`, and no other key the same one.
    pub(crate) fn names_each_key(&self) -> bool {
        let mut names: Vec<_> = self.key_ids().collect();
        names.sort_unstable();
        names.dedup();
        names.len() == self.keys.len()
    }

    /// How many usable keys there are: never none.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a set without a usable key is not made"
    )]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The `kid`s of the usable keys.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().filter_map(Key::id)
    }

    /// Why keys of the set were left out, one line each.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// The key for a token's header: the one of its `kid`; without a `kid`, the only one that fits the algorithm.
    pub(super) fn choose(
        &self,
        key_id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<&Key, TokenError> {
        let named: Vec<&Key> = self
            .keys
            .iter()
            .filter(|key| key_id.is_none() || key.id() == key_id)
            .collect();
        let fitting: Vec<&Key> = named
            .iter()
            .copied()
            .filter(|key| key.fits(algorithm))
            .collect();
        match (fitting.as_slice(), key_id, named.first()) {
            ([only], _, _) => Ok(only),
            ([], Some(key_id), Some(other)) => Err(TokenError::KeyMismatch {
                algorithm: algorithm.name(),
                key_id: quoted(key_id),
                key: listed(other.algorithms().map(Algorithm::name)),
            }),
            ([], _, _) => Err(TokenError::UnknownKey {
                key_id: key_id.map(str::to_owned),
            }),
            (several, _, _) => Err(TokenError::AmbiguousKey {
                count: several.len(),
            }),
        }
    }
}

/// One public key, and the algorithms it may verify.
#[derive(Clone, Debug)]
pub(super) struct Key {
    id: Option<String>,
    public_jwk: Value,
    verifiers: Vec<(Algorithm, ParsedPublicKey)>,
}

impl Key {
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        self.verifiers.iter().map(|(algorithm, _)| *algorithm)
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        self.algorithms().any(|own| own == algorithm)
    }

    pub(super) fn verify(
        &self,
        algorithm: Algorithm,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<(), TokenError> {
        self.verifiers
            .iter()
            .find(|(own, _)| *own == algorithm)
            .and_then(|(_, key)| key.verify_sig(signed, signature).ok())
            .ok_or(TokenError::BadSignature)
    }

    /// Reads a JWK (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2). The error completes "key N …".
    fn read(jwk: &Value) -> Result<Self, String> {
        let Value::Object(jwk) = jwk else {
            return Err("is not a JSON object".to_owned());
        };
        if jwk.contains_key("d") {
            return Err("carries its private part, and is not secret any more".to_owned());
        }
        if string(jwk, "use")?.is_some_and(|usage| usage != "sig") {
            return Err("is not for signatures (`use`)".to_owned());
        }
        if let Some(operations) = jwk.get("key_ops")
            && !operations
                .as_array()
                .is_some_and(|list| list.iter().any(|op| op == "verify"))
        {
            return Err("is not for verifying (`key_ops`)".to_owned());
        }
        let declared: Option<Algorithm> = string(jwk, "alg")?
            .map(|name| name.parse().map_err(|error| format!("has `alg` {error}")))
            .transpose()?;
        let (public_members, mut verifiers) = public_key(jwk)?;
        verifiers.retain(|(algorithm, _)| declared.is_none_or(|declared| declared == *algorithm));
        if verifiers.is_empty() {
            return Err("has an `alg` that its type cannot do".to_owned());
        }
        let kept = ["kty", "kid", "alg", "use"].iter().chain(public_members);
        let public_jwk: Map<String, Value> = kept
            .filter_map(|name| Some(((*name).to_owned(), jwk.get(*name)?.clone())))
            .collect();
        Ok(Self {
            id: string(jwk, "kid")?.map(str::to_owned),
            public_jwk: Value::Object(public_jwk),
            verifiers,
        })
    }
}

type Verifiers = Vec<(Algorithm, ParsedPublicKey)>;

/// The names of the members that make up the public key, and the key for each algorithm it can do.
fn public_key(jwk: &Map<String, Value>) -> Result<(&'static [&'static str], Verifiers), String> {
    match (required(jwk, "kty")?, string(jwk, "crv")?) {
        ("EC", Some("P-256")) => {
            let point = point(jwk, 32)?;
            let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
            one(Algorithm::Es256, key, &["crv", "x", "y"])
        }
        ("EC", Some("P-384")) => {
            let point = point(jwk, 48)?;
            let key = ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point);
            one(Algorithm::Es384, key, &["crv", "x", "y"])
        }
        ("EC", Some("P-521")) => {
            let point = point(jwk, 66)?;
            let key = ParsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, point);
            one(Algorithm::Es512, key, &["crv", "x", "y"])
        }
        ("OKP", Some("Ed25519")) => {
            let key = ParsedPublicKey::new(&ED25519, sized(jwk, "x", 32)?);
            one(Algorithm::EdDsa, key, &["crv", "x"])
        }
        ("RSA", None) => rsa(jwk),
        ("EC" | "OKP", Some(curve)) => Err(format!(
            "is on the curve {}, which is not used",
            quoted(curve)
        )),
        ("oct", _) => Err("is symmetric: whoever can verify with it can forge".to_owned()),
        (other, _) => Err(format!(
            "is of the type {}, which is not used",
            quoted(other)
        )),
    }
}

fn one<E>(
    algorithm: Algorithm,
    key: Result<ParsedPublicKey, E>,
    members: &'static [&'static str],
) -> Result<(&'static [&'static str], Verifiers), String> {
    match key {
        Ok(key) => Ok((members, vec![(algorithm, key)])),
        Err(_) => Err(format!("is not a valid key for {algorithm}")),
    }
}

fn rsa(jwk: &Map<String, Value>) -> Result<(&'static [&'static str], Verifiers), String> {
    let components = RsaPublicKeyComponents {
        n: bytes(jwk, "n")?,
        e: bytes(jwk, "e")?,
    };
    let bits = bit_length(&components.n);
    if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
        return Err(format!(
            "has {bits} bits; RSA keys must have {RSA_BITS_MIN} to {RSA_BITS_MAX}"
        ));
    }
    let parameters: [(Algorithm, &'static RsaParameters); 6] = [
        (Algorithm::Rs256, &RSA_PKCS1_2048_8192_SHA256),
        (Algorithm::Rs384, &RSA_PKCS1_2048_8192_SHA384),
        (Algorithm::Rs512, &RSA_PKCS1_2048_8192_SHA512),
        (Algorithm::Ps256, &RSA_PSS_2048_8192_SHA256),
        (Algorithm::Ps384, &RSA_PSS_2048_8192_SHA384),
        (Algorithm::Ps512, &RSA_PSS_2048_8192_SHA512),
    ];
    let verifiers = parameters
        .into_iter()
        .map(|(algorithm, parameters)| {
            let key = components
                .to_parsed_public_key(parameters)
                .map_err(|_| "is not a valid RSA key".to_owned())?;
            Ok((algorithm, key))
        })
        .collect::<Result<_, String>>()?;
    Ok((&["n", "e"], verifiers))
}

/// An uncompressed point (SEC 1 §2.3.3) of two coordinates of exactly `size` bytes (RFC 7518 §6.2.1.2).
fn point(jwk: &Map<String, Value>, size: usize) -> Result<Vec<u8>, String> {
    let mut point = vec![0x04];
    for name in ["x", "y"] {
        point.extend(sized(jwk, name, size)?);
    }
    Ok(point)
}

fn sized(jwk: &Map<String, Value>, name: &str, size: usize) -> Result<Vec<u8>, String> {
    let found = bytes(jwk, name)?;
    if found.len() == size {
        Ok(found)
    } else {
        Err(format!(
            "has a member `{name}` of {} bytes, not {size}",
            found.len()
        ))
    }
}

fn bit_length(big_endian: &[u8]) -> usize {
    let significant = big_endian.iter().skip_while(|byte| **byte == 0);
    let leading = significant
        .clone()
        .next()
        .map_or(0, |byte| byte.leading_zeros() as usize);
    significant.count() * 8 - leading
}

fn string<'a>(jwk: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, String> {
    match jwk.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("has a member `{name}` that is not a string")),
    }
}

fn required<'a>(jwk: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    string(jwk, name)?.ok_or_else(|| format!("has no member `{name}`"))
}

fn bytes(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    URL_SAFE_NO_PAD
        .decode(required(jwk, name)?)
        .map_err(|_| format!("has a member `{name}` that is not base64url without padding"))
}

fn describe(index: usize, jwk: &Value) -> String {
    match jwk.get("kid").and_then(Value::as_str) {
        Some(key_id) => quoted(key_id),
        None => format!("number {}", index + 1),
    }
}

fn reasons(skipped: &[String]) -> String {
    if skipped.is_empty() {
        String::new()
    } else {
        format!(": {}", skipped.join("; "))
    }
}
