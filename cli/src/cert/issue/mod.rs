//! `countersign cert issue`: an X.509-SVID from the CA, for whoever proves who it is.
//!
//! ```text
//! evidence (join token, file, CI job, device grant, certificate) ── ask (a new key, the CA) ── write (files, or JSON)
//! ```

mod ask;
mod device;
mod evidence;
mod write;

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use countersign_identity::{SpiffeId, TrustDomain};

use self::ask::{AskError, Authority};
use self::evidence::EvidenceError;
use self::write::{Files, WriteError};
use super::source::runtime;
use super::trust::Roots;
use super::{CertError, ReadError};
use crate::args::trust_domain;
use crate::instant::{SignedDuration, parse_signed_duration};
use crate::mesh_state::MeshState;
use crate::output::{Answer, Format, Output};

/// `countersign cert issue`
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("evidence").required(true).args(["join_token_file", "jwt_file", "jwt_env", "ci", "device", "x509_proof"])))]
pub(crate) struct IssueArguments {
    /// The CA, host:port [default: that of the mesh in the state directory]
    #[arg(long, value_name = "HOST:PORT", requires = "bundle")]
    ca: Option<String>,
    /// The trusted roots by which to know the CA: PEM, or a SPIFFE bundle [default: as above]
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// The trust domain [default: the one that the roots name]
    #[arg(long, value_name = "TD", value_parser = trust_domain)]
    trust_domain: Option<TrustDomain>,
    /// The state directory of a mesh that is up
    #[arg(long, value_name = "DIR", default_value = crate::mesh_state::DEFAULT_DIRECTORY)]
    state: PathBuf,
    /// Prove it by the join token in this file, or on standard input (-)
    #[arg(long, value_name = "FILE")]
    join_token_file: Option<PathBuf>,
    /// Prove it by the JWT in this file, or on standard input (-)
    #[arg(long, value_name = "FILE")]
    jwt_file: Option<PathBuf>,
    /// Prove it by the JWT in this environment variable, as GitLab's `id_tokens` have it
    #[arg(long, value_name = "NAME")]
    jwt_env: Option<String>,
    /// Prove it by the CI job that this runs in: GitHub Actions, or GitLab CI's CI_JOB_JWT_V2
    #[arg(long)]
    ci: bool,
    /// Prove it by logging in to this OpenID provider on another device (RFC 8628)
    #[arg(long, value_name = "ISSUER", requires = "client_id")]
    device: Option<String>,
    /// Prove it by this existing certificate, with its chain (PEM), of a root that the CA is configured for
    #[arg(long, value_name = "FILE", requires = "x509_key")]
    x509_proof: Option<PathBuf>,
    /// The private key of --x509-proof (PEM); it signs the request, and is not sent
    #[arg(long, value_name = "FILE", requires = "x509_proof")]
    x509_key: Option<PathBuf>,
    /// Whom a CI job's token is for: an audience that the CA takes
    #[arg(long, default_value = "countersign")]
    audience: String,
    /// How the OpenID provider knows this client
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// What to ask of the OpenID provider
    #[arg(long, value_name = "SCOPE", default_value = "openid")]
    scope: String,
    /// The only certificate authorities to know the OpenID provider or CI service by (PEM)
    #[arg(long, value_name = "FILE")]
    provider_ca: Option<PathBuf>,
    /// How long the certificate should live [default: what the CA thinks best]
    #[arg(long, value_name = "DURATION", value_parser = parse_signed_duration)]
    ttl: Option<SignedDuration>,
    /// Write svid.pem, svid_key.pem and bundle.pem into this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write the certificate chain to this file
    #[arg(long, value_name = "FILE")]
    cert_out: Option<PathBuf>,
    /// Write the private key to this file, for its owner alone (0600)
    #[arg(long, value_name = "FILE")]
    key_out: Option<PathBuf>,
    /// Write the trusted roots to this file
    #[arg(long, value_name = "FILE")]
    bundle_out: Option<PathBuf>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    #[error(
        "where is the certificate to go? Give --out DIR, or both --cert-out and --key-out, or -o json to have it on standard output"
    )]
    Nowhere,
    #[error("the roots in {0} do not name their trust domain; give it with --trust-domain")]
    TrustDomain(String),
    #[error("--ttl: expected between 1s and a year")]
    Ttl,
    #[error("{0}")]
    Roots(String),
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Obtains a certificate, and writes it where told.
pub(super) fn issue(arguments: &IssueArguments, output: &Output) -> Result<Answer, CertError> {
    // Everything that can be wrong here comes before the proof: a join token is of use once.
    let files = files(arguments, output.format)?;
    if let Some(files) = &files {
        files.check().map_err(IssueError::from)?;
    }
    let ttl = ttl(arguments)?;
    let authority = authority(arguments)?;
    let issued = runtime()?.block_on(async {
        let evidence = evidence::obtain(arguments).await?;
        ask::ask(&authority, evidence, ttl)
            .await
            .map_err(IssueError::from)
    })?;
    if let Some(files) = &files {
        files.write(&issued).map_err(IssueError::from)?;
    }
    match output.format {
        Format::Text => output.write(&issued.text(files.as_ref()))?,
        Format::Json => output.write_json(&issued.json(files.as_ref()))?,
    }
    Ok(Answer::Yes)
}

fn files(arguments: &IssueArguments, format: Format) -> Result<Option<Files>, IssueError> {
    let in_out = |name: &str| arguments.out.as_ref().map(|directory| directory.join(name));
    let cert = arguments.cert_out.clone().or_else(|| in_out("svid.pem"));
    let key = arguments.key_out.clone().or_else(|| in_out("svid_key.pem"));
    let bundle = arguments
        .bundle_out
        .clone()
        .or_else(|| in_out("bundle.pem"));
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some(Files { cert, key, bundle })),
        (None, None) if bundle.is_none() && format == Format::Json => Ok(None),
        _ => Err(IssueError::Nowhere),
    }
}

fn ttl(arguments: &IssueArguments) -> Result<u32, IssueError> {
    const YEAR: i64 = 366 * 86_400;
    match arguments.ttl.map(SignedDuration::seconds) {
        None => Ok(0),
        Some(seconds @ 1..=YEAR) => u32::try_from(seconds).map_err(|_| IssueError::Ttl),
        Some(_) => Err(IssueError::Ttl),
    }
}

fn authority(arguments: &IssueArguments) -> Result<Authority, CertError> {
    let state = match &arguments.ca {
        Some(_) => None,
        None => Some(MeshState::read(&arguments.state)?),
    };
    let address = match (&arguments.ca, &state) {
        (Some(address), _) => address.clone(),
        (None, Some(state)) => state.ca.listen.to_string(),
        (None, None) => String::new(),
    };
    let bundle = match (&arguments.bundle, &state) {
        (Some(path), _) => path.as_path(),
        (None, Some(state)) => state.bundle.as_path(),
        (None, None) => Path::new(""),
    };
    let roots = Roots::read(bundle).map_err(CertError::Roots)?;
    let trust_domain = match &arguments.trust_domain {
        Some(trust_domain) => trust_domain.clone(),
        None => named_trust_domain(&roots)
            .ok_or_else(|| IssueError::TrustDomain(roots.origin.clone()))?,
    };
    let bundle = roots.bundle(&trust_domain).map_err(IssueError::Roots)?;
    Ok(Authority { address, bundle })
}

/// The one trust domain that the roots' SPIFFE IDs name (X509-SVID §3.2).
fn named_trust_domain(roots: &Roots) -> Option<TrustDomain> {
    let domains: std::collections::BTreeSet<_> = roots
        .authorities
        .iter()
        .filter_map(super::entry::spiffe_id)
        .filter_map(|id| SpiffeId::parse(&id).ok())
        .map(|id| id.trust_domain().clone())
        .collect();
    let mut domains = domains.into_iter();
    match (domains.next(), domains.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

impl From<ReadError> for EvidenceError {
    fn from(error: ReadError) -> Self {
        Self::Runtime(Box::new(error))
    }
}
