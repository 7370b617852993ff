//! One line of a decision log, as far as rules can rest on it.

use std::io::{self, BufRead};

use countersign_identity::SpiffeId;
use serde::Deserialize;

use crate::pattern::Name;

/// A longer line is no decision: what a caller chooses is cut by the sidecar.
const LONGEST_LINE: usize = 64 << 10;
/// What a text that was cut ends in.
const CUT: char = '…';

/// A decision as a sidecar writes it. Fields that are not needed here may be there.
#[derive(Debug, Deserialize)]
pub(super) struct Line {
    pub(super) time: Option<String>,
    decision: Verdict,
    pub(super) peer: Option<String>,
    pub(super) subject: Option<Subject>,
    pub(super) destination: String,
    pub(super) port: u16,
    pub(super) protocol: String,
    pub(super) sni: Option<String>,
    pub(super) method: Option<String>,
    pub(super) host: Option<String>,
    pub(super) path: Option<String>,
    #[serde(default)]
    observed: Vec<Observed>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Allow,
    Deny,
}

#[derive(Debug, Deserialize)]
pub(super) struct Subject {
    pub(super) issuer: String,
}

#[derive(Debug, Deserialize)]
struct Observed {
    action: String,
}

/// Why a line is no evidence.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadLine {
    #[error("expected a decision as one JSON object: {0}")]
    Json(#[from] serde_json::Error),
    #[error("expected a decision as one JSON object, got a line of more than {LONGEST_LINE} bytes")]
    TooLong,
    #[error("expected a destination as namespace/service-account, got {0:?}")]
    Destination(String),
    #[error("expected a SPIFFE ID as `peer`, got {0:?}")]
    Peer(String),
    #[error("the {0} was too long for the log and is cut: no rule can rest on it")]
    Cut(&'static str),
}

impl Line {
    /// Reads a line; `None` if it is another log's: a sidecar's own messages often go to the same place.
    pub(super) fn parse(text: &[u8]) -> Result<Option<Self>, BadLine> {
        if !text.trim_ascii_start().starts_with(b"{") {
            return Ok(None);
        }
        let value: serde_json::Value = serde_json::from_slice(text)?;
        if value.get("decision").is_none() {
            return Ok(None);
        }
        let line = Self::deserialize(value)?;
        line.check()?;
        Ok(Some(line))
    }

    fn check(&self) -> Result<(), BadLine> {
        let (namespace, name) = self.destination();
        if namespace.parse::<Name>().is_err() || name.parse::<Name>().is_err() {
            return Err(BadLine::Destination(self.destination.clone()));
        }
        if let Some(peer) = &self.peer
            && SpiffeId::parse(peer).is_err()
        {
            return Err(BadLine::Peer(peer.clone()));
        }
        let fields = [
            ("path", &self.path),
            ("host", &self.host),
            ("method", &self.method),
            ("sni", &self.sni),
        ];
        match fields
            .into_iter()
            .find(|(_, text)| text.as_ref().is_some_and(|text| text.ends_with(CUT)))
        {
            Some((field, _)) => Err(BadLine::Cut(field)),
            None => Ok(()),
        }
    }

    /// Namespace and service account.
    pub(super) fn destination(&self) -> (&str, &str) {
        self.destination
            .split_once('/')
            .unwrap_or((&self.destination, ""))
    }

    pub(super) fn was_allowed(&self) -> bool {
        self.decision == Verdict::Allow
    }

    /// Whether a rule that is only observed would have done this.
    pub(super) fn observed(&self, action: &str) -> bool {
        self.observed
            .iter()
            .any(|observed| observed.action == action)
    }
}

/// The lines of a log, none of them held whole if it is too long to be a decision.
pub(super) struct Lines<R> {
    log: R,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn of(log: R) -> Self {
        Self {
            log,
            line: Vec::new(),
        }
    }

    /// The next line without its end; `None` at the end of the log.
    pub(super) fn next(&mut self) -> io::Result<Option<Result<&[u8], BadLine>>> {
        self.line.clear();
        let mut too_long = false;
        let mut begun = false;
        loop {
            let bytes = self.log.fill_buf()?;
            if bytes.is_empty() {
                if !begun {
                    return Ok(None);
                }
                break;
            }
            begun = true;
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let part = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
            too_long |= self.line.len().saturating_add(part.len()) > LONGEST_LINE;
            if !too_long {
                self.line.extend_from_slice(part);
            }
            let used = part.len().saturating_add(usize::from(end.is_some()));
            self.log.consume(used);
            if end.is_some() {
                break;
            }
        }
        Ok(Some(if too_long {
            Err(BadLine::TooLong)
        } else {
            Ok(&self.line)
        }))
    }
}
