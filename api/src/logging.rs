//! The diagnostics log of Countersign's programs: on stderr, so that stdout stays free for data.

use std::error::Error;
use std::fmt;
use std::io;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// How the diagnostics log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line per event, for people.
    #[default]
    Text,
    /// One JSON object per line, for log collectors.
    Json,
}

impl FromStr for LogFormat {
    type Err = UnknownLogFormat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(UnknownLogFormat(text.to_owned())),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// A log format that does not exist was asked for.
#[derive(Debug, thiserror::Error)]
#[error("expected log format text or json, got {0:?}")]
pub struct UnknownLogFormat(String);

/// The diagnostics log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// `RUST_LOG` is set and is no list of filters.
    #[error(
        "the environment variable RUST_LOG must hold filters like `info` or `warn,countersign_control=debug`: {0}"
    )]
    Filter(#[from] tracing_subscriber::filter::FromEnvError),
    /// This process has a log already.
    #[error("the log was set up twice: {0}")]
    Twice(#[source] Box<dyn Error + Send + Sync>),
}

/// Sends the events of `tracing` to stderr, as far as the environment variable `RUST_LOG` asks for them (default
/// `info`). To be called once, first in `main`.
///
/// # Errors
/// When `RUST_LOG` cannot be read, or the log is set up already.
pub fn init(format: LogFormat) -> Result<(), LoggingError> {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env()?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(false).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    }
    .map_err(LoggingError::Twice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_reads_back_what_it_displays() {
        for format in [LogFormat::Text, LogFormat::Json] {
            assert_eq!(format.to_string().parse::<LogFormat>().unwrap(), format);
        }
        let mistake = "yaml".parse::<LogFormat>().unwrap_err();
        assert_eq!(
            mistake.to_string(),
            "expected log format text or json, got \"yaml\""
        );
    }
}
