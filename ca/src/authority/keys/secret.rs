//! Keys in one Secret of a Kubernetes cluster, `NAME.key.pem` each. It is changed only as it was read: the API server refuses
//! a change of an older version than it has (`resourceVersion`), and to make a Secret that is there, so that of two replicas
//! that change it at once, one does it again, and none overwrites the other's key. It is read whenever a key is needed that is
//! not in memory: at the start, and when the state names another one.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use zeroize::{Zeroize as _, Zeroizing};

use super::{KeyError, KeyHandle, KeyStore};
use crate::authority::key::AuthorityKey;
use crate::kube_api::{ApiServer, ApiServerConfig, ApiServerError, Call};

/// What the CA's service account needs.
const RIGHTS: &str = "to get and update this Secret, and to create Secrets in its namespace";
/// How often a change is tried while others make theirs.
const TRIES: usize = 10;

/// Which Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretConfig {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) api_server: ApiServerConfig,
}

/// Why a Secret does not do. No key is in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    /// The API server cannot be asked, or says no.
    #[error("the Secret {place} of the CA's keys: {error}")]
    ApiServer {
        /// Namespace and name.
        place: String,
        /// Why.
        error: Box<ApiServerError>,
    },
    /// Others change it all the time.
    #[error("the Secret {0} of the CA's keys was changed by others at each of {TRIES} tries")]
    Contended(String),
    /// An entry that is no base64.
    #[error(
        "the Secret {place} is damaged: its entry {entry} is not base64. Restore it from a backup"
    )]
    Entry {
        /// Namespace and name.
        place: String,
        /// The entry.
        entry: String,
    },
    /// There is no thread to ask from.
    #[error("the Kubernetes API cannot be asked: {0}")]
    Runtime(#[from] std::io::Error),
}

/// A Secret.
pub(crate) struct SecretKeys {
    api_server: ApiServer,
    namespace: String,
    name: String,
}

/// What is used of a Secret (v1); the rest is kept as it is.
#[derive(Serialize, Deserialize)]
struct Secret {
    metadata: Value,
    /// In base64.
    #[serde(default)]
    data: BTreeMap<String, String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Drop for Secret {
    fn drop(&mut self) {
        for value in self.data.values_mut() {
            value.zeroize();
        }
    }
}

impl SecretKeys {
    pub(crate) fn new(config: &SecretConfig) -> Self {
        Self {
            api_server: ApiServer::new(config.api_server.clone(), RIGHTS),
            namespace: config.namespace.clone(),
            name: config.name.clone(),
        }
    }

    /// In a runtime of its own: this thread waits for it, and no other does.
    fn wait<T>(
        &self,
        work: impl Future<Output = Result<T, SecretError>>,
    ) -> Result<T, SecretError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(work)
    }

    fn secret(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    fn failed(&self, error: ApiServerError) -> SecretError {
        SecretError::ApiServer {
            place: self.secret(),
            error: Box::new(error),
        }
    }

    fn collection(&self) -> [&str; 5] {
        ["api", "v1", "namespaces", &self.namespace, "secrets"]
    }

    fn path(&self) -> [&str; 6] {
        let [api, version, namespaces, namespace, secrets] = self.collection();
        [api, version, namespaces, namespace, secrets, &self.name]
    }

    async fn call(
        &self,
        call: Call,
        path: &[&str],
    ) -> Result<(StatusCode, Zeroizing<String>), SecretError> {
        let answer = self.api_server.call(call, path).await;
        answer.map_err(|error| self.failed(error))
    }

    /// The Secret as it is; none if there is none yet.
    async fn read(&self) -> Result<Option<Secret>, SecretError> {
        let path = self.path();
        let (status, text) = self.call(Call::Get, &path).await?;
        match status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            status => return Err(self.failed(self.api_server.bad_status(&path, status))),
        }
        let secret = serde_json::from_str(&text);
        secret
            .map(Some)
            .map_err(|error| self.failed(self.api_server.bad_answer(&path, error)))
    }

    /// Makes it with these entries. False: somebody else has made it meanwhile.
    async fn create(&self, entries: BTreeMap<String, String>) -> Result<bool, SecretError> {
        let secret = Secret {
            metadata: json!({
                "name": self.name,
                "namespace": self.namespace,
                "labels": {"app.kubernetes.io/managed-by": "countersign-ca"},
            }),
            data: entries,
            rest: Map::from_iter([
                ("apiVersion".to_owned(), "v1".into()),
                ("kind".to_owned(), "Secret".into()),
            ]),
        };
        let path = self.collection();
        let call = Call::Post(self.encode(&secret)?);
        self.is_done(&path, self.call(call, &path).await?.0)
    }

    /// Puts it in the place of the version that it was read as. False: that is not the last one any more.
    async fn replace(&self, secret: &Secret) -> Result<bool, SecretError> {
        let path = self.path();
        let call = Call::Put(self.encode(secret)?);
        match self.call(call, &path).await?.0 {
            // It was removed; and is made anew.
            StatusCode::NOT_FOUND => Ok(false),
            status => self.is_done(&path, status),
        }
    }

    fn encode(&self, secret: &Secret) -> Result<Vec<u8>, SecretError> {
        let encoded = serde_json::to_vec(secret);
        encoded.map_err(|error| self.failed(self.api_server.bad_answer(&self.path(), error)))
    }

    fn is_done(&self, path: &[&str], status: StatusCode) -> Result<bool, SecretError> {
        match status {
            StatusCode::OK | StatusCode::CREATED => Ok(true),
            StatusCode::CONFLICT => Ok(false),
            status => Err(self.failed(self.api_server.bad_status(path, status))),
        }
    }

    /// The text of an entry.
    fn entry(
        &self,
        secret: &Secret,
        entry: &str,
    ) -> Result<Option<Zeroizing<String>>, SecretError> {
        let Some(encoded) = secret.data.get(entry) else {
            return Ok(None);
        };
        let damaged = || SecretError::Entry {
            place: self.secret(),
            entry: entry.to_owned(),
        };
        let bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| damaged())?);
        // Lossy: a damaged key is reported by whoever reads the text, who knows what it should be.
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Some(Zeroizing::new(text)))
    }

    /// Adds an entry, unless it is there; returns what is there then.
    async fn add(&self, entry: &str, pem: &str) -> Result<Zeroizing<String>, SecretError> {
        for _ in 0..TRIES {
            let done = match self.read().await? {
                None => {
                    let entries = [(entry.to_owned(), STANDARD.encode(pem))];
                    self.create(entries.into()).await?
                }
                Some(mut secret) => {
                    // Of an attempt before, whose answer was lost.
                    if let Some(present) = self.entry(&secret, entry)? {
                        return Ok(present);
                    }
                    let encoded = STANDARD.encode(pem);
                    secret.data.insert(entry.to_owned(), encoded);
                    self.replace(&secret).await?
                }
            };
            if done {
                return Ok(Zeroizing::new(pem.to_owned()));
            }
        }
        Err(SecretError::Contended(self.secret()))
    }

    async fn take_away(&self, entry: &str) -> Result<(), SecretError> {
        for _ in 0..TRIES {
            let Some(mut secret) = self.read().await? else {
                return Ok(());
            };
            let Some(mut encoded) = secret.data.remove(entry) else {
                return Ok(());
            };
            encoded.zeroize();
            if self.replace(&secret).await? {
                return Ok(());
            }
        }
        Err(SecretError::Contended(self.secret()))
    }

    fn key(&self, name: &str, pem: &str) -> Result<KeyHandle, KeyError> {
        let key = AuthorityKey::from_pem(pem, Path::new(&self.place(name)))?;
        Ok(KeyHandle::in_memory(key))
    }
}

fn entry(name: &str) -> String {
    format!("{name}.key.pem")
}

impl KeyStore for SecretKeys {
    fn generate(&self, name: &str) -> Result<KeyHandle, KeyError> {
        let pem = AuthorityKey::generate()?.to_pem();
        let present = self.wait(self.add(&entry(name), &pem))?;
        self.key(name, &present)
    }

    fn load(&self, name: &str) -> Result<Option<KeyHandle>, KeyError> {
        let Some(secret) = self.wait(self.read())? else {
            return Ok(None);
        };
        let pem = self.entry(&secret, &entry(name))?;
        pem.map(|pem| self.key(name, &pem)).transpose()
    }

    fn remove(&self, name: &str) -> Result<(), KeyError> {
        Ok(self.wait(self.take_away(&entry(name)))?)
    }

    fn place(&self, name: &str) -> String {
        format!("{} in the Secret {}", entry(name), self.secret())
    }
}
