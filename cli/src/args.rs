//! The command line: every subcommand, its arguments and their help.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use countersign_identity::TrustDomain;

use crate::cert::CertCommand;
use crate::output::FormatChoice;
use crate::policy::PolicyCommand;
use crate::token::TokenCommand;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "countersign",
    version,
    about = "A zero-trust service mesh: a call is a stranger until it has proved who is calling, what for, and that it may",
    after_help = "Exit status: 0 fine, 1 the answer is no, 2 wrong use or it could not run.",
    disable_help_subcommand = true
)]
pub(crate) struct Arguments {
    /// How to print: text for people, json for programs
    #[arg(short, long, global = true, value_enum, default_value_t = FormatChoice::Text)]
    pub(crate) output: FormatChoice,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a whole mesh on this machine: CA, control plane, sidecars, workloads
    Up(UpArguments),
    /// Look at certificates
    #[command(subcommand)]
    Cert(CertCommand),
    /// Get and look at tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Write, check, test and understand policy
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Run and ask the certificate authority: what `countersign-ca` does, by one name
    #[command(disable_help_flag = true)]
    Ca(CaArguments),
    /// Run one command and let nothing of it outlive its parent (used by `up`)
    #[command(hide = true)]
    Guard(GuardArguments),
}

/// `countersign up`
#[derive(Debug, Args)]
pub(crate) struct UpArguments {
    /// The mesh file
    #[arg(value_name = "MESH.yaml", default_value = "mesh.yaml")]
    pub(crate) mesh: PathBuf,
    /// The directory that keeps the mesh's state [default: .countersign beside the mesh file]
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
}

/// `countersign ca`
#[derive(Debug, Args)]
pub(crate) struct CaArguments {
    /// The arguments of countersign-ca; `countersign ca --help` lists them
    #[arg(
        value_name = "ARGUMENTS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) arguments: Vec<OsString>,
}

/// `countersign guard`
#[derive(Debug, Args)]
pub(crate) struct GuardArguments {
    /// Become the command instead of watching it, on behalf of the guard with this process ID
    #[arg(long, value_name = "PID")]
    pub(crate) r#become: Option<i32>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// The name of a trust domain. People who have its SPIFFE ID at hand give that.
pub(crate) fn trust_domain(text: &str) -> Result<TrustDomain, String> {
    if let Some(rest) = text.strip_prefix("spiffe://") {
        let name = rest.split('/').next().unwrap_or_default();
        return Err(format!("expected the name of a trust domain alone: {name}"));
    }
    TrustDomain::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_is_for_the_ca_is_left_to_it() {
        for text in ["log verify -o json --anchor 1:ab", "--help", "-x y"] {
            let words = text.split(' ');
            let parsed =
                Arguments::try_parse_from(["countersign", "ca"].into_iter().chain(words.clone()));
            let Command::Ca(ca) = parsed.unwrap().command else {
                panic!("parsed as another command");
            };
            assert!(ca.arguments.iter().eq(words), "{:?}", ca.arguments);
        }
    }

    #[test]
    fn output_format_is_accepted_after_the_subcommand() {
        let parsed =
            Arguments::try_parse_from(["countersign", "cert", "inspect", "-", "-o", "json"])
                .unwrap();
        assert_eq!(parsed.output, FormatChoice::Json);
    }
}
