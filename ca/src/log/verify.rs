//! Proves that nothing in the log was removed or changed, or names the first entry that shows otherwise.

use countersign_identity::{Bundle, TrustDomain};

use super::chain::Head;
use super::checkpoint::{CheckpointError, Signers};
use super::record::Record;
use crate::store::issuance_log::{self, Checkpoint, Entry, Filter};
use crate::store::{Store, StoreError};

/// Entries that are read at once.
const PAGE: i64 = 1000;

/// What was proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    /// The last entry, for an anchor.
    pub(crate) head: Head,
    /// How many checkpoints there are, all good.
    pub(crate) checkpoints: u64,
}

/// Why the log is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {entry}: {problem}")]
pub(crate) struct Broken {
    /// The first entry that is not right.
    pub(crate) entry: u64,
    /// What is wrong with it.
    pub(crate) problem: Problem,
}

/// What is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    /// Not there.
    #[error("it is missing, and the log goes on to entry {last}: it was removed")]
    Missing {
        /// Where the log ends.
        last: u64,
    },
    /// One too many.
    #[error("it comes after the last one, which is entry {last}: it was not written by a CA")]
    BeyondHead {
        /// Where the log ends.
        last: u64,
    },
    /// Chained to something else.
    #[error(
        "it follows an entry with the hash {expected}, and the entry before it has the hash {found}: one of them was \
         changed"
    )]
    Chain {
        /// What it is chained to.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Not what was hashed.
    #[error("its record has the hash {found}, and {expected} is noted: it was changed")]
    Hash {
        /// What is noted.
        expected: String,
        /// What the record has.
        found: String,
    },
    /// Not a record.
    #[error("its record is not one that this version of the program knows: {0}")]
    Record(String),
    /// A column that differs from the record.
    #[error(
        "its {column}, by which searches find it, is {found:?}, and its record says {expected:?}: it was changed"
    )]
    Column {
        /// The column.
        column: &'static str,
        /// What the record says.
        expected: String,
        /// What the column says.
        found: String,
    },
    /// No checkpoint of the last entry.
    #[error(
        "it is the last one, and has no signed checkpoint: it was not written by a CA, or entries after it were removed"
    )]
    NoCheckpoint,
    /// A checkpoint that is not good.
    #[error("{0}")]
    Checkpoint(CheckpointError),
    /// The head is of another entry.
    #[error(
        "it is the last one, and its hash is {found}, and the head of the log is noted as {expected}: one of them was changed"
    )]
    Head {
        /// The head.
        expected: String,
        /// The entry's.
        found: String,
    },
    /// The log ends before the anchor.
    #[error(
        "the anchor is of this entry, and the log ends with entry {last}: its newest entries were removed"
    )]
    CutOff {
        /// Where the log ends.
        last: u64,
    },
    /// The anchor is of another log.
    #[error(
        "its hash is {found}, and the anchor says {expected}: this entry, or one before it, was changed"
    )]
    Anchor {
        /// The anchor's.
        expected: String,
        /// The entry's.
        found: String,
    },
}

/// Checks every entry and every checkpoint up to the head that the log has now, and that `anchor` is on the way. The log
/// may be written to meanwhile.
///
/// # Errors
/// When the database cannot be read. What is wrong with the log is in the answer.
pub(crate) async fn verify(
    store: &Store,
    bundle: &Bundle,
    trust_domain: &TrustDomain,
    anchor: Option<&Head>,
) -> Result<Result<Whole, Broken>, StoreError> {
    let mut tx = store.read().await?;
    let (sequence, hash) = issuance_log::head(&mut tx).await?;
    let beyond = issuance_log::entries(&mut tx, &Filter::default(), sequence, 1).await?;
    let signers = issuance_log::signers(&mut tx).await?;
    drop(tx);
    let Some(head) = Head::from_parts(sequence, &hash) else {
        return Err(StoreError::Damaged(
            "the head of the issuance log is none".to_owned(),
        ));
    };
    let mut walk = Walk {
        at: Head::begin(trust_domain),
        head,
        signers: Signers::new(signers, bundle, trust_domain),
        anchor: anchor.copied(),
        checkpoints: 0,
    };
    if let Some(anchor) = anchor.filter(|anchor| anchor.sequence() > head.sequence()) {
        let last = head.sequence();
        return Ok(Err(broken(anchor.sequence(), Problem::CutOff { last })));
    }
    if let Err(broken) = walk.check_anchor() {
        return Ok(Err(broken));
    }
    while walk.at.sequence() < head.sequence() {
        let mut tx = store.read().await?;
        let after = walk.at.row();
        let entries = issuance_log::entries(&mut tx, &Filter::default(), after, PAGE).await?;
        let last = entries.last().map_or(after, |entry| entry.sequence);
        let checkpoints = issuance_log::checkpoints(&mut tx, after, last).await?;
        drop(tx);
        if let Err(broken) = walk.page(&entries, &checkpoints) {
            return Ok(Err(broken));
        }
    }
    if let Some(entry) = beyond.first() {
        let entry = u64::try_from(entry.sequence).unwrap_or_default();
        let last = head.sequence();
        return Ok(Err(broken(entry, Problem::BeyondHead { last })));
    }
    Ok(walk.end())
}

fn broken(entry: u64, problem: Problem) -> Broken {
    Broken { entry, problem }
}

/// From the first entry to the head.
struct Walk<'a> {
    /// The last entry that was found good.
    at: Head,
    /// Where it ends.
    head: Head,
    signers: Signers<'a>,
    anchor: Option<Head>,
    checkpoints: u64,
}

impl Walk<'_> {
    fn page(&mut self, entries: &[Entry], checkpoints: &[Checkpoint]) -> Result<(), Broken> {
        let mut checkpoints = checkpoints.iter().peekable();
        if entries.is_empty() {
            return Err(self.missing());
        }
        for entry in entries {
            if self.at.sequence() == self.head.sequence() {
                break;
            }
            self.entry(entry)?;
            let checkpoint =
                checkpoints.next_if(|checkpoint| checkpoint.sequence == entry.sequence);
            self.checkpoint(checkpoint)?;
            self.check_anchor()?;
        }
        Ok(())
    }

    fn missing(&self) -> Broken {
        let last = self.head.sequence();
        broken(self.at.sequence() + 1, Problem::Missing { last })
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), Broken> {
        let next = self.at.next(&entry.record);
        if entry.sequence != next.row() {
            return Err(self.missing());
        }
        let problem = if entry.previous_hash != self.at.hash() {
            Problem::Chain {
                expected: hex::encode(&entry.previous_hash),
                found: hex::encode(self.at.hash()),
            }
        } else if entry.hash != next.hash() {
            Problem::Hash {
                expected: hex::encode(&entry.hash),
                found: hex::encode(next.hash()),
            }
        } else if let Err(problem) = check_columns(entry) {
            problem
        } else {
            self.at = next;
            return Ok(());
        };
        Err(broken(next.sequence(), problem))
    }

    fn checkpoint(&mut self, checkpoint: Option<&Checkpoint>) -> Result<(), Broken> {
        let is_last = self.at.sequence() == self.head.sequence();
        let problem = match checkpoint {
            None if is_last => Problem::NoCheckpoint,
            None => return Ok(()),
            Some(checkpoint) => match self.signers.verify(checkpoint, &self.at) {
                Ok(()) => {
                    self.checkpoints += 1;
                    return Ok(());
                }
                Err(error) => Problem::Checkpoint(error),
            },
        };
        Err(broken(self.at.sequence(), problem))
    }

    fn check_anchor(&self) -> Result<(), Broken> {
        match self.anchor {
            Some(anchor) if anchor.sequence() == self.at.sequence() && anchor != self.at => {
                let problem = Problem::Anchor {
                    expected: hex::encode(anchor.hash()),
                    found: hex::encode(self.at.hash()),
                };
                Err(broken(self.at.sequence(), problem))
            }
            _ => Ok(()),
        }
    }

    fn end(self) -> Result<Whole, Broken> {
        if self.at != self.head {
            let problem = Problem::Head {
                expected: hex::encode(self.head.hash()),
                found: hex::encode(self.at.hash()),
            };
            return Err(broken(self.at.sequence(), problem));
        }
        Ok(Whole {
            head: self.head,
            checkpoints: self.checkpoints,
        })
    }
}

fn check_columns(entry: &Entry) -> Result<(), Problem> {
    let record: Record =
        serde_json::from_str(&entry.record).map_err(|error| Problem::Record(error.to_string()))?;
    let time = record
        .time()
        .map(|time| time.to_string())
        .unwrap_or_default();
    for (column, expected, found) in [
        ("time", &time, &entry.time.to_string()),
        ("serial number", &record.serial, &entry.serial),
        ("SPIFFE ID", &record.spiffe_id, &entry.spiffe_id),
        ("attestation", &record.attestation.kind, &entry.attestation),
    ] {
        if expected != found {
            return Err(Problem::Column {
                column,
                expected: expected.clone(),
                found: found.clone(),
            });
        }
    }
    Ok(())
}
