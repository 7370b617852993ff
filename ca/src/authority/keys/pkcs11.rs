//! Keys in a PKCS#11 token (OASIS PKCS #11 3.0), such as an HSM: made inside, and never out of it. What signs is sent in, as
//! a SHA-256 digest; the signature comes out.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use aws_lc_rs::digest::{Digest, SHA256, digest};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::types::AuthPin;
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey};
use zeroize::Zeroizing;

use super::{KeyError, KeyHandle, KeyStore};
use crate::files::read_private;

/// The name of the curve P-256, as CKA_EC_PARAMS has it: OBJECT IDENTIFIER 1.2.840.10045.3.1.7.
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// The bytes of an uncompressed point on it (SEC 1 §2.3.3).
const POINT_BYTES: usize = 65;

/// Which token, and how to get at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenConfig {
    /// The library of the token's maker.
    pub(crate) module: PathBuf,
    /// The token's label.
    pub(crate) label: String,
    /// Where its user PIN is.
    pub(crate) pin: PinSource,
}

/// Where a PIN is. It is read when it is needed, and not kept but for the hash of a wrong one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PinSource {
    /// In a file that only its owner can read.
    File(PathBuf),
    /// In an environment variable.
    Environment(String),
}

/// Why a token does not do what it is asked for. Nothing of the PIN is in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// The library.
    #[error("the PKCS#11 module {} cannot be loaded: {error}", module.display())]
    Module {
        /// The file.
        module: PathBuf,
        /// Why not.
        error: String,
    },
    /// No such token.
    #[error("the PKCS#11 module {} has {found} tokens with the label {label:?}; expected one", module.display())]
    Label {
        /// The library.
        module: PathBuf,
        /// What was looked for.
        label: String,
        /// How many there are.
        found: usize,
    },
    /// No PIN.
    #[error("there is no PIN for the token {label:?}: {place} is not there")]
    NoPin {
        /// The token.
        label: String,
        /// Where it should be.
        place: String,
    },
    /// A wrong PIN.
    #[error(
        "the token {0:?} does not accept the PIN. Correct it before the next start: tokens lock themselves after a few \
         wrong ones. A CA that runs does not try this one again"
    )]
    WrongPin(String),
    /// Something else.
    #[error("the token {label:?} cannot {action}: {error}")]
    Failed {
        /// The token.
        label: String,
        /// What was tried.
        action: &'static str,
        /// What it says.
        error: String,
    },
    /// It made a key that it would give away.
    #[error("the token {0:?} made a key that can be taken out of it; it is not used")]
    Extractable(String),
}

/// A module is loaded, and initialised, once in a process.
static MODULES: LazyLock<Mutex<HashMap<PathBuf, Pkcs11>>> = LazyLock::new(Mutex::default);

/// A token.
pub(crate) struct TokenKeys(Arc<Token>);

struct Token {
    config: TokenConfig,
    module: Pkcs11,
    /// A token does one thing at a time per session, and one session does for a CA: a signature takes a few milliseconds.
    session: Mutex<Option<Session>>,
    /// SHA-256 of a PIN that was wrong. Tokens lock themselves after a few of those, and the CA has a reason to log in
    /// with every request.
    wrong_pin: Mutex<Option<Digest>>,
}

impl TokenKeys {
    /// Loads the module, finds the token, and logs in.
    ///
    /// # Errors
    /// When one of these fails.
    pub(crate) fn open(config: &TokenConfig) -> Result<Self, TokenError> {
        let token = Token {
            module: load(config)?,
            config: config.clone(),
            session: Mutex::default(),
            wrong_pin: Mutex::default(),
        };
        token.with_session("be opened", |_| Ok(()))?;
        Ok(Self(Arc::new(token)))
    }
}

fn load(config: &TokenConfig) -> Result<Pkcs11, TokenError> {
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = modules.get(&config.module) {
        return Ok(module.clone());
    }
    let failed = |error: Error| TokenError::Module {
        module: config.module.clone(),
        error: error.to_string(),
    };
    let module = Pkcs11::new(&config.module).map_err(failed)?;
    initialize(&module).map_err(failed)?;
    modules.insert(config.module.clone(), module.clone());
    Ok(module)
}

fn initialize(module: &Pkcs11) -> Result<(), Error> {
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        other => other,
    }
}

/// Whether private objects can be seen. Where they cannot, a search finds none, and that is no error.
fn is_logged_in(session: &Session) -> bool {
    let info = session.get_session_info();
    info.is_ok_and(|info| info.session_state() == SessionState::RwUser)
}

impl Token {
    /// Does something in a session that is logged in. When it is not any more, or it fails, the session may be lost (the
    /// token was taken out, its connection broke, something else logged out): it is tried once more in a new one.
    fn with_session<T>(
        &self,
        action: &'static str,
        work: impl Fn(&Session) -> Result<T, Error>,
    ) -> Result<T, TokenError> {
        let mut held = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = held.take();
        let had_one = lost.is_some();
        if let Some(session) = lost
            && is_logged_in(&session)
            && let Ok(done) = work(&session)
        {
            *held = Some(session);
            return Ok(done);
        }
        let session = self.log_in()?;
        let done = work(&session).map_err(|error| self.failed(action, &error))?;
        *held = Some(session);
        if had_one {
            tracing::warn!(token = self.config.label, "logged in to the token again");
        }
        Ok(done)
    }

    fn log_in(&self) -> Result<Session, TokenError> {
        // Some modules are at their beginning again when they have lost their device.
        initialize(&self.module).map_err(|error| self.failed("be initialised", &error))?;
        let slot = self.slot()?;
        let session = self
            .module
            .open_rw_session(slot)
            .map_err(|error| self.failed("open a session", &error))?;
        let label = || self.config.label.clone();
        let pin = self.pin()?;
        let this = digest(&SHA256, pin.as_bytes());
        let mut wrong = self
            .wrong_pin
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if wrong.is_some_and(|wrong| wrong.as_ref() == this.as_ref()) {
            return Err(TokenError::WrongPin(label()));
        }
        match session.login(UserType::User, Some(&AuthPin::from(pin.as_str()))) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(Error::Pkcs11(
                RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange,
                _,
            )) => {
                *wrong = Some(this);
                Err(TokenError::WrongPin(label()))
            }
            Err(error) => Err(self.failed("log in", &error)),
        }
    }

    fn slot(&self) -> Result<cryptoki::slot::Slot, TokenError> {
        let slots = self
            .module
            .get_slots_with_token()
            .map_err(|error| self.failed("be looked for", &error))?;
        let is_ours = |slot: &cryptoki::slot::Slot| {
            self.module
                .get_token_info(*slot)
                .is_ok_and(|info| info.label().trim_end() == self.config.label)
        };
        let ours: Vec<_> = slots.into_iter().filter(is_ours).collect();
        match ours.as_slice() {
            [slot] => Ok(*slot),
            others => Err(TokenError::Label {
                module: self.config.module.clone(),
                label: self.config.label.clone(),
                found: others.len(),
            }),
        }
    }

    fn pin(&self) -> Result<Zeroizing<String>, TokenError> {
        let missing = |place: String| TokenError::NoPin {
            label: self.config.label.clone(),
            place,
        };
        let pin = match &self.config.pin {
            PinSource::File(path) => read_private(path)
                .map_err(|error| missing(error.to_string()))?
                .ok_or_else(|| missing(path.display().to_string()))?,
            PinSource::Environment(name) => std::env::var(name)
                .map(Zeroizing::new)
                .map_err(|_| missing(format!("the environment variable {name}")))?,
        };
        Ok(Zeroizing::new(
            pin.trim_end_matches(['\r', '\n']).to_owned(),
        ))
    }

    fn failed(&self, action: &'static str, error: &Error) -> TokenError {
        TokenError::Failed {
            label: self.config.label.clone(),
            action,
            error: error.to_string(),
        }
    }

    /// The public key of this name: its point.
    fn point(&self, name: &str) -> Result<Option<Vec<u8>>, TokenError> {
        self.with_session("look for a key", |session| {
            if find(session, ObjectClass::PRIVATE_KEY, name)?.is_none() {
                return Ok(None);
            }
            let Some(public) = find(session, ObjectClass::PUBLIC_KEY, name)? else {
                return Ok(None);
            };
            let attributes = session.get_attributes(public, &[AttributeType::EcPoint])?;
            let point = attributes
                .into_iter()
                .find_map(|attribute| match attribute {
                    Attribute::EcPoint(point) => Some(point),
                    _ => None,
                });
            Ok(point.as_deref().and_then(uncompressed))
        })
    }
}

fn find(session: &Session, class: ObjectClass, name: &str) -> Result<Option<ObjectHandle>, Error> {
    let template = [Attribute::Class(class), Attribute::Label(name.into())];
    Ok(session.find_objects(&template)?.into_iter().next())
}

/// CKA_EC_POINT is a point in an OCTET STRING; some tokens leave out the latter.
fn uncompressed(point: &[u8]) -> Option<Vec<u8>> {
    let bare = match point {
        [0x04, 0x41, rest @ ..] if rest.len() == POINT_BYTES => rest,
        other => other,
    };
    (bare.len() == POINT_BYTES && bare.first() == Some(&0x04)).then(|| bare.to_vec())
}

impl KeyStore for TokenKeys {
    fn generate(&self, name: &str) -> Result<KeyHandle, KeyError> {
        let public = [
            Attribute::Token(true),
            Attribute::Private(false),
            Attribute::Verify(true),
            Attribute::KeyType(KeyType::EC),
            Attribute::EcParams(P256.to_vec()),
            Attribute::Label(name.into()),
            Attribute::Id(name.into()),
        ];
        let private = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            Attribute::Label(name.into()),
            Attribute::Id(name.into()),
        ];
        let kept_inside = self.0.with_session("make a key", |session| {
            // Of an attempt before, in a session that was lost.
            let key = match find(session, ObjectClass::PRIVATE_KEY, name)? {
                Some(key) => key,
                None => {
                    let mechanism = Mechanism::EccKeyPairGen;
                    session.generate_key_pair(&mechanism, &public, &private)?.1
                }
            };
            let asked = [AttributeType::Sensitive, AttributeType::Extractable];
            let said = session.get_attributes(key, &asked)?;
            Ok(said.contains(&Attribute::Sensitive(true))
                && said.contains(&Attribute::Extractable(false)))
        })?;
        if !kept_inside {
            self.remove(name)?;
            return Err(TokenError::Extractable(self.0.config.label.clone()).into());
        }
        let made = self.load(name)?;
        Ok(made.ok_or_else(|| TokenError::Failed {
            label: self.0.config.label.clone(),
            action: "find the key that it made",
            error: "it has none of that name".to_owned(),
        })?)
    }

    fn load(&self, name: &str) -> Result<Option<KeyHandle>, KeyError> {
        let key = self.0.point(name)?.map(|point| TokenKey {
            token: Arc::clone(&self.0),
            name: name.to_owned(),
            point,
        });
        Ok(key.map(KeyHandle::in_device))
    }

    fn remove(&self, name: &str) -> Result<(), KeyError> {
        Ok(self.0.with_session("remove a key", |session| {
            let all = session.find_objects(&[Attribute::Label(name.into())])?;
            all.into_iter()
                .try_for_each(|object| session.destroy_object(object))
        })?)
    }

    fn place(&self, name: &str) -> String {
        format!("{name} in the PKCS#11 token {:?}", self.0.config.label)
    }
}

/// A private key in a token.
struct TokenKey {
    token: Arc<Token>,
    name: String,
    point: Vec<u8>,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl PublicKeyData for TokenKey {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for TokenKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let hash = digest(&SHA256, message);
        let signature = self.token.with_session("sign", |session| {
            let key =
                find(session, ObjectClass::PRIVATE_KEY, &self.name)?.ok_or(Error::InvalidValue)?;
            session.sign(&Mechanism::Ecdsa, key, hash.as_ref())
        });
        let signature = signature.map_err(|error| {
            tracing::error!(%error, key = self.name, "the token does not sign");
            rcgen::Error::RemoteKeyError
        })?;
        der(&signature).ok_or(rcgen::Error::RemoteKeyError)
    }
}

/// A signature of fixed length, `r` and `s`, as X.509 has it: a SEQUENCE of two INTEGERs (RFC 3279 §2.2.3).
fn der(fixed: &[u8]) -> Option<Vec<u8>> {
    let (r, s) = fixed.split_at_checked(32)?;
    if s.len() != 32 {
        return None;
    }
    let mut content = Vec::with_capacity(72);
    for number in [r, s] {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let number = number.get(zeros.min(31)..)?;
        let is_negative = number.first().is_some_and(|byte| byte & 0x80 != 0);
        content.push(0x02);
        content.push(u8::try_from(number.len() + usize::from(is_negative)).ok()?);
        if is_negative {
            content.push(0);
        }
        content.extend_from_slice(number);
    }
    let mut der = vec![0x30, u8::try_from(content.len()).ok()?];
    der.append(&mut content);
    Some(der)
}

#[cfg(test)]
mod tests;
