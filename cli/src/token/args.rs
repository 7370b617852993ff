//! The arguments of `countersign token …`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use countersign_identity::TrustDomain;

use crate::args::trust_domain;
use crate::instant::{SignedDuration, parse_signed_duration};

/// `countersign token …`
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Get a token from the development issuer of a mesh that is up
    Mint(MintArguments),
    /// Show what a token says and what is wrong with it, without verifying it
    Inspect(InspectArguments),
    /// Say whether a token is good: signature, issuer, audience, time; exit 1 and why, if not
    Verify(VerifyArguments),
}

/// `countersign token mint`
#[derive(Debug, Args)]
pub(crate) struct MintArguments {
    /// A user of the issuer, as named in the mesh file
    pub(crate) user: String,
    /// The issuer, as named in the mesh file [default: the only one]
    #[arg(long, value_name = "NAME")]
    pub(crate) issuer: Option<String>,
    /// Whom the token is for; can be repeated [default: the issuer's audiences]
    #[arg(long, value_name = "AUDIENCE")]
    pub(crate) audience: Vec<String>,
    /// How long it lives; negative for one that has already expired
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "5m",
        allow_hyphen_values = true,
        value_parser = parse_signed_duration
    )]
    pub(crate) ttl: SignedDuration,
    /// A further claim, or another value for one of the user's: name=value, the value JSON or else a string; can be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) claim: Vec<String>,
    /// The state directory of the mesh
    #[arg(long, value_name = "DIR", default_value = ".countersign")]
    pub(crate) state: PathBuf,
}

/// `countersign token inspect`
#[derive(Debug, Args)]
pub(crate) struct InspectArguments {
    /// The token (a JWT), or `-` to read it from standard input
    #[arg(allow_hyphen_values = true)]
    pub(crate) token: String,
}

/// `countersign token verify`
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("keys").required(true).args(["jwks", "bundle", "issuer"])))]
pub(crate) struct VerifyArguments {
    /// The token (a JWT or JWT-SVID), or `-` to read it from standard input
    #[arg(allow_hyphen_values = true)]
    pub(crate) token: String,
    /// Verify by the keys in this file (JWK Set, RFC 7517)
    #[arg(long, value_name = "FILE")]
    pub(crate) jwks: Option<PathBuf>,
    /// Verify a JWT-SVID by this SPIFFE bundle (JSON)
    #[arg(long, value_name = "FILE")]
    pub(crate) bundle: Option<PathBuf>,
    /// Verify by the keys that this OpenID issuer publishes
    #[arg(long, value_name = "URL")]
    pub(crate) issuer: Option<String>,
    /// Whom the token has to be for
    #[arg(long, value_name = "AUDIENCE")]
    pub(crate) audience: String,
    /// Whom the token has to be from, with --jwks [default: whoever it says]
    #[arg(long, value_name = "ISS", requires = "jwks")]
    pub(crate) iss: Option<String>,
    /// The trust domain of the bundle [default: that of the token's subject]
    #[arg(long, value_name = "TD", requires = "bundle", value_parser = trust_domain)]
    pub(crate) trust_domain: Option<TrustDomain>,
    /// The only certificate authorities to know the issuer by (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) provider_ca: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Arguments, Command};

    #[test]
    fn negative_ttl_is_not_taken_for_an_option() {
        let parsed =
            Arguments::try_parse_from(["countersign", "token", "mint", "alice", "--ttl", "-5m"])
                .unwrap();
        let Command::Token(TokenCommand::Mint(mint)) = parsed.command else {
            panic!("parsed as another command");
        };
        assert_eq!(mint.ttl.seconds(), -300);
    }
}
