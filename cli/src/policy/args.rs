//! Arguments that several subcommands share.

use clap::Args;
use countersign_identity::TrustDomain;

/// The mesh's own trust domain, in which policy reads names without one.
#[derive(Clone, Debug, Args)]
pub(crate) struct TrustDomainArgument {
    /// The mesh's trust domain: names without one are read in it
    #[arg(
        long,
        value_name = "TD",
        env = "COUNTERSIGN_TRUST_DOMAIN",
        default_value = "cluster.local",
        value_parser = TrustDomain::parse
    )]
    pub(crate) trust_domain: TrustDomain,
}
