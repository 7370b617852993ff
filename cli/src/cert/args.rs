//! The arguments of `countersign cert …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use countersign_identity::SpiffeId;

use super::issue::IssueArguments;
use crate::instant::{SignedDuration, parse_signed_duration};

/// `countersign cert …`
#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// Show certificates: who issued whom, how long they live, and what is wrong with them
    Inspect(InspectArguments),
    /// Say whether a bundle vouches for a certificate of this SPIFFE ID; exit 1 and why, if not
    Verify(VerifyArguments),
    /// Follow rotations as they happen: one line per change
    Watch(WatchArguments),
    /// Obtain an X.509-SVID from the CA, by a join token, a CI job's token, a login, or another certificate
    Issue(Box<IssueArguments>),
}

/// What is needed to get at a target.
#[derive(Debug, Args)]
pub(crate) struct AccessArguments {
    /// A file with the password of a PKCS#12 file or an encrypted key [default: what COUNTERSIGN_PASSWORD holds]
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// The certificate to present to a server that asks for one (PEM, with its chain)
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// The private key of --cert (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// The server name to ask for instead of the host (SNI)
    #[arg(long, value_name = "NAME")]
    pub(crate) server_name: Option<String>,
}

/// `countersign cert inspect`
#[derive(Debug, Args)]
pub(crate) struct InspectArguments {
    /// A file (PEM, DER, PKCS#12, SPIFFE bundle, kubeconfig, Kubernetes Secret), `-` for standard input,
    /// host:port for a TLS handshake, unix:SOCKET for a SPIFFE Workload API, or namespace/pod
    pub(crate) target: String,
    /// Verify against the trusted roots in this file [default: those of the mesh in the state directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) bundle: Option<PathBuf>,
    /// The state directory of a mesh whose roots to verify against [default: .countersign]
    #[arg(long, value_name = "DIR", conflicts_with = "bundle")]
    pub(crate) state: Option<PathBuf>,
    /// Judge every leaf by the rules of X.509-SVIDs, also one that names no SPIFFE ID
    #[arg(long)]
    pub(crate) svid: bool,
    /// Warn of what expires within this time [default: a fifth of its life, at most 30 days]
    #[arg(long, value_name = "DURATION", value_parser = parse_signed_duration)]
    pub(crate) expires_within: Option<SignedDuration>,
    #[command(flatten)]
    pub(crate) access: AccessArguments,
}

/// `countersign cert verify`
#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// As for `cert inspect`
    pub(crate) target: String,
    /// The trusted roots: PEM, or a SPIFFE bundle
    #[arg(long, value_name = "FILE")]
    pub(crate) bundle: PathBuf,
    /// Whom the certificate has to be of
    #[arg(long, value_name = "SPIFFE-ID", value_parser = SpiffeId::parse)]
    pub(crate) id: SpiffeId,
    #[command(flatten)]
    pub(crate) access: AccessArguments,
}

/// `countersign cert watch`
#[derive(Debug, Args)]
pub(crate) struct WatchArguments {
    /// As for `cert inspect`, but for `-`
    pub(crate) target: String,
    /// How often to look; a Workload API tells by itself [default: 1s for files, 10s for connections]
    #[arg(long, value_name = "DURATION", value_parser = parse_signed_duration)]
    pub(crate) interval: Option<SignedDuration>,
    /// End after so many lines
    #[arg(long, value_name = "COUNT")]
    pub(crate) lines: Option<u64>,
    #[command(flatten)]
    pub(crate) access: AccessArguments,
}
