//! Obtains this process's SVID from the CA, and keeps it fresh.

mod schedule;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign_identity::tls::ExpectedPeer;
use countersign_identity::{
    Bundle, IdentityStore, KeyError, SpiffeId, StoreError, SvidError, SvidKey, X509Svid, spiffe,
};
use tonic::{Code, Request};
use zeroize::Zeroizing;

use crate::bundle::InvalidBundle;
use crate::proto::attestation::Evidence as ProtoEvidence;
use crate::proto::certificate_authority_client::CertificateAuthorityClient;
use crate::proto::{Attestation, IssueRequest, IssueResponse, RenewalBySvid};
use crate::transport::{ChannelError, channel_over_one_connection, channel_within, describe};
use crate::x509_proof::{Certificate, CertificateFiles, ProofError};
use schedule::{jitter, soon, until_renewal, until_retry};

/// How long the CA may take to answer.
const ISSUE_LIMIT: Duration = Duration::from_secs(60);
/// The longest JWT that is read from a file, in bytes.
const MAX_JWT: u64 = 64 * 1024;
/// The longest sleep before the wall clock is looked at again: timers do not run while a machine
/// is suspended and know nothing of a clock that is set, but certificates do expire.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// How this process proves to the CA who it is, for its first SVID. Later ones it gets by the one
/// that it has.
pub enum Evidence {
    /// A join token, of use once.
    JoinToken(Zeroizing<String>),
    /// A file with a JWT, read anew each time, since whoever puts it there replaces it.
    JwtFile(PathBuf),
    /// An existing X.509 certificate and its key, two PEM files, read anew each time.
    Certificate(CertificateFiles),
}

impl fmt::Debug for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JoinToken(_) => f.write_str("JoinToken(…)"),
            Self::JwtFile(path) => f.debug_tuple("JwtFile").field(path).finish(),
            Self::Certificate(files) => f.debug_tuple("Certificate").field(files).finish(),
        }
    }
}

/// Why no SVID could be obtained.
#[derive(Debug, thiserror::Error)]
pub enum SvidClientError {
    /// The join token has been used, and the SVID that it brought has expired.
    #[error(
        "the SVID has expired and the join token has been used: give this process a new join token \
         and start it again"
    )]
    NoEvidence,
    /// The JWT file cannot be used.
    #[error("the JWT file {}: {source}", path.display())]
    JwtFile {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Certificate(#[from] ProofError),
    /// The key cannot be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There can be no connection to the CA.
    #[error("the CA: {0}")]
    Channel(#[from] ChannelError),
    /// The CA cannot be reached, or cannot answer now; another time it may.
    #[error("the CA at {address} does not answer: {reason}")]
    Unavailable {
        /// The CA's address.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// The CA has refused.
    #[error("the CA at {address} issues no SVID: {reason}")]
    Refused {
        /// The CA's address.
        address: String,
        /// What it says.
        reason: String,
    },
    /// The CA's bundle is not one.
    #[error("the CA's answer: {0}")]
    Bundle(#[from] InvalidBundle),
    /// The CA's certificate is not an SVID that the bundle vouches for.
    #[error("the CA's answer: {0}")]
    Svid(#[from] SvidError),
    /// The SVID or the bundle does not fit this process.
    #[error("the CA's answer: {0}")]
    Store(#[from] StoreError),
    /// A renewal is of the same identity.
    #[error("the CA's answer: renewing the SVID of {held}, it sent one of {issued}")]
    OtherIdentity {
        /// The ID that this process has.
        held: SpiffeId,
        /// The ID that came.
        issued: SpiffeId,
    },
}

/// Evidence that is ready to be sent, or to be made for a connection.
enum Shown {
    Plain(ProtoEvidence),
    Certificate(Certificate),
}

/// Obtains SVIDs for an [`IdentityStore`].
#[derive(Debug)]
pub struct SvidClient {
    store: Arc<IdentityStore>,
    address: String,
    evidence: Option<Evidence>,
}

impl SvidClient {
    /// A client of the CA at `address` (`host:port`), which must be the one that the store's bundle
    /// vouches for.
    #[must_use]
    pub fn new(store: Arc<IdentityStore>, address: String, evidence: Evidence) -> Self {
        Self {
            store,
            address,
            evidence: Some(evidence),
        }
    }

    /// Obtains an SVID for a new key, and puts it and the CA's bundle into the store: by the SVID
    /// that the store has, while that is valid, otherwise by the evidence.
    ///
    /// # Errors
    /// Why there is none. What the store has stays.
    pub async fn obtain(&mut self) -> Result<(), SvidClientError> {
        let now = SystemTime::now();
        // One whose root has left the bundle proves nothing any more, to the CA as to anybody.
        let bundle = self.store.bundle();
        let held = self
            .store
            .svid()
            .filter(|svid| svid.verify(&bundle, now).is_ok());
        let evidence = match &held {
            Some(_) => Shown::Plain(ProtoEvidence::Renewal(RenewalBySvid {})),
            None => self.first_evidence().await?,
        };
        let key = SvidKey::generate()?;
        let answer = self.issue(&key, evidence).await?;
        self.accept(answer, key, held.as_ref().map(|svid| svid.id()))?;
        // It has been used, whatever it was; a JWT file is read anew when it is needed again.
        if matches!(self.evidence, Some(Evidence::JoinToken(_))) {
            self.evidence = None;
        }
        Ok(())
    }

    /// Renews the SVID at about half its life, for as long as `shutdown` is pending. When that
    /// fails it is tried again, ever more slowly; the SVID stays in use until it expires.
    pub async fn keep_fresh(mut self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        tokio::select! {
            () = &mut shutdown => {}
            () = self.renew_forever() => {}
        }
    }

    async fn renew_forever(&mut self) {
        let mut failures = 0;
        loop {
            let now = SystemTime::now();
            let wait = match (failures, self.store.svid()) {
                (0, Some(svid)) => {
                    until_renewal(svid.not_before(), svid.not_after(), now, jitter())
                }
                (0, None) => Duration::ZERO,
                (failures, _) => until_retry(failures, jitter()),
            };
            if failures == 0 {
                tokio::select! {
                    () = sleep_until(now + wait) => {}
                    () = self.told_to_renew() => sleep_until(SystemTime::now() + soon(jitter())).await,
                }
            } else {
                sleep_until(now + wait).await;
            }
            match self.obtain().await {
                Ok(()) => {
                    failures = 0;
                    if let Some(svid) = self.store.svid() {
                        let left = svid.not_after().duration_since(SystemTime::now());
                        let valid_seconds = left.unwrap_or_default().as_secs();
                        tracing::info!(id = %svid.id(), valid_seconds, "svid obtained");
                    }
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!(%error, failures, "svid not obtained, trying again");
                }
            }
        }
    }

    /// Completes when what signed the SVID is about to leave the bundle, or has left it.
    async fn told_to_renew(&self) {
        let mut changes = self.store.changes();
        loop {
            changes.mark_unchanged();
            if let Some(svid) = self.store.svid() {
                let (bundle, now) = (self.store.bundle(), SystemTime::now());
                let is_valid = svid.not_after() > now;
                if is_valid && (bundle.is_tainted(&svid, now) || svid.verify(&bundle, now).is_err())
                {
                    tracing::info!(id = %svid.id(), "the root of this svid is leaving: renewing it");
                    return;
                }
            }
            // Cannot fail: we hold the store, which holds the sender.
            let _ = changes.changed().await;
        }
    }

    async fn first_evidence(&self) -> Result<Shown, SvidClientError> {
        match &self.evidence {
            None => Err(SvidClientError::NoEvidence),
            Some(Evidence::JoinToken(token)) => {
                Ok(Shown::Plain(ProtoEvidence::JoinToken(token.to_string())))
            }
            Some(Evidence::Certificate(files)) => Ok(Shown::Certificate(files.read()?)),
            Some(Evidence::JwtFile(path)) => {
                let jwt =
                    read_jwt(path.clone())
                        .await
                        .map_err(|source| SvidClientError::JwtFile {
                            path: path.clone(),
                            source,
                        })?;
                Ok(Shown::Plain(ProtoEvidence::Jwt(jwt)))
            }
        }
    }

    /// Asks the CA, over a connection of its own: it must present the SVID of now, or none where the
    /// evidence speaks instead, and an SVID is not asked for often enough to keep one.
    async fn issue(&self, key: &SvidKey, shown: Shown) -> Result<IssueResponse, SvidClientError> {
        let store = match shown {
            Shown::Plain(ProtoEvidence::Renewal(_)) => Arc::clone(&self.store),
            // An SVID that has expired would only get the connection refused.
            _ => IdentityStore::new(Bundle::clone(&self.store.bundle())),
        };
        let expected = ExpectedPeer::Id(spiffe::system::ca(store.bundle().trust_domain()));
        let csr = key.csr_der()?;
        let (channel, evidence) = match shown {
            Shown::Plain(evidence) => {
                // All of it may be spent on waiting: to come again later would be to wait again.
                let channel = channel_within(ISSUE_LIMIT, &self.address, &store, expected)?;
                (channel, evidence)
            }
            Shown::Certificate(certificate) => {
                let connect = channel_over_one_connection(&self.address, &store, expected);
                let (channel, binding) = connect.await.map_err(|error| match error {
                    ChannelError::Connection { reason } => SvidClientError::Unavailable {
                        address: self.address.clone(),
                        reason,
                    },
                    other => other.into(),
                })?;
                let proof = certificate.prove(&binding, &csr)?;
                (channel, ProtoEvidence::X509Proof(proof))
            }
        };
        let mut request = Request::new(IssueRequest {
            csr,
            attestation: Some(Attestation {
                evidence: Some(evidence),
            }),
            ttl_seconds: 0,
        });
        request.set_timeout(ISSUE_LIMIT);
        let mut ca = CertificateAuthorityClient::new(channel);
        let answer = tokio::time::timeout(ISSUE_LIMIT, ca.issue(request));
        let address = || self.address.clone();
        match answer.await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => {
                let reason = describe(&status);
                Err(match status.code() {
                    Code::InvalidArgument | Code::Unauthenticated | Code::PermissionDenied => {
                        SvidClientError::Refused {
                            address: address(),
                            reason,
                        }
                    }
                    _ => SvidClientError::Unavailable {
                        address: address(),
                        reason,
                    },
                })
            }
            Err(_) => {
                let reason = format!("no answer within {} s", ISSUE_LIMIT.as_secs());
                Err(SvidClientError::Unavailable {
                    address: address(),
                    reason,
                })
            }
        }
    }

    /// Believes nothing of the answer that does not verify.
    fn accept(
        &self,
        answer: IssueResponse,
        key: SvidKey,
        held: Option<&SpiffeId>,
    ) -> Result<(), SvidClientError> {
        let bundle = answer.bundle.ok_or(InvalidBundle::Missing)?.try_into()?;
        let chain = answer
            .certificate_chain
            .into_iter()
            .map(Into::into)
            .collect();
        let svid = X509Svid::from_chain(chain)?;
        if let Some(held) = held.filter(|held| *held != svid.id()) {
            let (held, issued) = (held.clone(), svid.id().clone());
            return Err(SvidClientError::OtherIdentity { held, issued });
        }
        // The bundle first: a new intermediate may be of a new root.
        self.store.set_bundle(bundle)?;
        svid.verify(&self.store.bundle(), SystemTime::now())?;
        self.store.set_svid(svid, key)?;
        Ok(())
    }
}

async fn read_jwt(path: PathBuf) -> io::Result<String> {
    use tokio::io::AsyncReadExt as _;
    let mut jwt = String::new();
    let file = tokio::fs::File::open(path).await?;
    let length = file.take(MAX_JWT + 1).read_to_string(&mut jwt).await?;
    if u64::try_from(length).is_ok_and(|length| length > MAX_JWT) {
        return Err(io::Error::other(format!(
            "it has more than {MAX_JWT} bytes; no JWT is so long"
        )));
    }
    Ok(jwt.trim().to_owned())
}

async fn sleep_until(due: SystemTime) {
    let mut last = SystemTime::now();
    while let Some(wait) = schedule::until_next_look(due, last, SystemTime::now(), LONGEST_SLEEP) {
        last = SystemTime::now();
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests;
