//! Why a child did not start, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::Who;
use crate::up::join_token::JoinTokenError;
use crate::up::process::Ending;

/// A child that did not start.
#[derive(Debug)]
pub(crate) struct StartError {
    pub(crate) who: Who,
    pub(crate) log: PathBuf,
    pub(crate) problem: StartProblem,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartProblem {
    #[error("cannot be run: {0}")]
    CannotRun(#[source] io::Error),
    #[error(transparent)]
    Token(#[from] JoinTokenError),
    #[error("ended while it started ({})", .0.how)]
    Ended(Ending),
    #[error("was not ready within {} s ({missing})", limit.as_secs())]
    Late {
        limit: Duration,
        missing: String,
        last_lines: Vec<String>,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {}: {}", self.who, self.problem)?;
        let last_lines = match &self.problem {
            StartProblem::CannotRun(_) | StartProblem::Token(_) => return Ok(()),
            StartProblem::Ended(ending) => &ending.last_lines,
            StartProblem::Late { last_lines, .. } => last_lines,
        };
        if last_lines.is_empty() {
            write!(f, "; it printed nothing")
        } else {
            write!(f, "; its last lines:")?;
            last_lines
                .iter()
                .try_for_each(|line| write!(f, "\n  | {line}"))?;
            write!(f, "\nall it printed is in {}", self.log.display())
        }
    }
}

impl std::error::Error for StartError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::event::Role;

    #[test]
    fn the_last_lines_and_the_log_are_told() {
        let who = Who {
            role: Role::Sidecar,
            name: "orders".to_owned(),
        };
        let ending = Ending {
            how: "exit status 2".to_owned(),
            last_lines: vec![
                "proxy.yaml:3:1: unknown field".to_owned(),
                "giving up".to_owned(),
            ],
        };
        let error = StartError {
            who,
            log: PathBuf::from("logs/sidecar-orders.log"),
            problem: StartProblem::Ended(ending),
        };
        assert_eq!(
            error.to_string(),
            "the sidecar of orders: ended while it started (exit status 2); its last lines:\n  \
             | proxy.yaml:3:1: unknown field\n  | giving up\n\
             all it printed is in logs/sidecar-orders.log"
        );
    }
}
