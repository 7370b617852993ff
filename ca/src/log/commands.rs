//! `countersign-ca log …`: what people ask the log. All of it only reads, and works while the CA runs.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, ValueEnum};
use countersign_identity::{Bundle, BundleError, SpiffeId};
use countersign_policy::yaml::{self, Diagnostics};
use serde_json::json;

use super::chain::Head;
use super::record::Record;
use super::verify::verify;
use crate::config::Config;
use crate::files::{FileError, read_public};
use crate::store::issuance_log::{self, Entry, Filter};
use crate::store::{Store, StoreError, milliseconds};

/// Entries that are read at once.
const PAGE: i64 = 1000;

#[derive(Subcommand)]
pub(crate) enum LogCommand {
    /// Prove that nothing in the issuance log was removed or changed. Exit 1 if something was.
    Verify(Verify),
    /// Find issuances.
    Search(Search),
    /// Write the whole log as JSON lines, with all that is needed to verify it elsewhere.
    Export(Export),
}

#[derive(Args)]
pub(crate) struct Verify {
    /// The configuration of the CA, a YAML file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// An entry and its hash as an earlier `verify` printed them. Without one, nobody can see that the newest entries are gone.
    #[arg(long, value_name = "NUMBER:HASH")]
    anchor: Option<Head>,
    /// The roots whose intermediates may have signed, PEM. Default: bundle.pem of the data directory.
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// How the answer is written.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Output,
}

#[derive(Args)]
pub(crate) struct Search {
    /// The configuration of the CA, a YAML file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Issued to this SPIFFE ID.
    #[arg(long, value_name = "ID")]
    id: Option<SpiffeId>,
    /// With this serial number, in hexadecimal; colons and case do not matter.
    #[arg(long, value_name = "SERIAL", value_parser = serial)]
    serial: Option<String>,
    /// Issued at this time or later: 2027-01-15T08:00:00Z, or how long ago: 2h.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    since: Option<SystemTime>,
    /// Issued before this time.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    until: Option<SystemTime>,
    /// By this kind of attestation, such as join-token, jwt or renewal.
    #[arg(long, value_name = "KIND")]
    attestation: Option<String>,
    /// How the answer is written.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Output,
}

#[derive(Args)]
pub(crate) struct Export {
    /// The configuration of the CA, a YAML file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] Diagnostics),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The roots are not there.
    #[error("{} is not there; has this CA been started yet? Otherwise, give the roots with --bundle", .0.display())]
    NoBundle(PathBuf),
    /// The roots are none.
    #[error("{}: {error}", path.display())]
    Bundle {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: BundleError,
    },
    /// A record that cannot stand on a line.
    #[error(
        "entry {0} has a record that is not JSON on one line; `countersign-ca log verify` tells more"
    )]
    Record(i64),
    /// The answer cannot be written.
    #[error("the answer cannot be written: {0}")]
    Write(#[from] io::Error),
}

impl LogCommand {
    /// Answers on stdout. False if the answer is no.
    ///
    /// # Errors
    /// When there is no answer.
    pub(crate) async fn run(self) -> Result<bool, CommandError> {
        let mut out = BufWriter::new(io::stdout().lock());
        let answer = match self {
            Self::Verify(arguments) => arguments.run(&mut out).await?,
            Self::Search(arguments) => arguments.run(&mut out).await?,
            Self::Export(arguments) => arguments.run(&mut out).await?,
        };
        out.flush()?;
        Ok(answer)
    }
}

async fn open(path: &Path) -> Result<(Config, Store), CommandError> {
    let config = Config::read(path)?;
    let store = Store::open(
        &config.data_directory,
        config.postgres.as_ref(),
        &config.trust_domain,
    )
    .await?;
    Ok((config, store))
}

impl Verify {
    async fn run(self, out: &mut impl Write) -> Result<bool, CommandError> {
        let (config, store) = open(&self.config).await?;
        let path = self
            .bundle
            .unwrap_or_else(|| config.data_directory.join("bundle.pem"));
        let pem = read_public(&path)?.ok_or_else(|| CommandError::NoBundle(path.clone()))?;
        let bundle = Bundle::from_pem(config.trust_domain.clone(), &pem)
            .map_err(|error| CommandError::Bundle { path, error })?;
        let anchor = self.anchor.as_ref();
        let verdict = verify(&store, &bundle, &config.trust_domain, anchor).await?;
        store.close().await;
        match (&verdict, self.output) {
            (Ok(whole), Output::Text) => {
                let (head, checkpoints) = (whole.head, whole.checkpoints);
                let entries = head.sequence();
                writeln!(
                    out,
                    "The issuance log is whole: {entries} entries, {checkpoints} signed checkpoints."
                )?;
                match anchor {
                    Some(anchor) => writeln!(
                        out,
                        "Nothing up to the anchor, entry {}, is gone.",
                        anchor.sequence()
                    )?,
                    None => writeln!(
                        out,
                        "No anchor was given: whether the newest entries are gone cannot be told."
                    )?,
                }
                writeln!(
                    out,
                    "Keep this elsewhere, and give it the next time: --anchor {head}"
                )?;
            }
            (Ok(whole), Output::Json) => {
                let answer = json!({
                    "whole": true,
                    "entries": whole.head.sequence(),
                    "checkpoints": whole.checkpoints,
                    "head": whole.head.to_string(),
                    "anchor": anchor.map(Head::to_string),
                });
                writeln!(out, "{answer}")?;
            }
            (Err(broken), Output::Text) => {
                writeln!(out, "The issuance log is not whole: {broken}.")?;
            }
            (Err(broken), Output::Json) => {
                let problem = broken.problem.to_string();
                let answer = json!({"whole": false, "entry": broken.entry, "problem": problem});
                writeln!(out, "{answer}")?;
            }
        }
        Ok(verdict.is_ok())
    }
}

impl Search {
    async fn run(self, out: &mut impl Write) -> Result<bool, CommandError> {
        let (_, store) = open(&self.config).await?;
        let filter = Filter {
            spiffe_id: self.id.map(|id| id.to_string()),
            serial: self.serial,
            attestation: self.attestation,
            since: self.since.map(milliseconds),
            until: self.until.map(milliseconds),
        };
        let mut found = 0_u64;
        if self.output == Output::Json {
            write!(out, "[")?;
        }
        let mut after = 0;
        loop {
            let mut tx = store.read().await?;
            let page = issuance_log::entries(&mut tx, &filter, after, PAGE).await?;
            drop(tx);
            let Some(last) = page.last() else { break };
            after = last.sequence;
            for entry in &page {
                match self.output {
                    Output::Text => write_text(out, entry)?,
                    Output::Json => {
                        out.write_all(if found == 0 { b"\n" } else { b",\n" })?;
                        write_json(out, entry, "")?;
                    }
                }
                found += 1;
            }
        }
        store.close().await;
        match self.output {
            Output::Text => writeln!(out, "{found} found")?,
            Output::Json => writeln!(out, "\n]")?,
        }
        Ok(true)
    }
}

impl Export {
    async fn run(self, out: &mut impl Write) -> Result<bool, CommandError> {
        let (_, store) = open(&self.config).await?;
        let mut tx = store.read().await?;
        for (fingerprint, certificate) in issuance_log::signers(&mut tx).await? {
            let signer = json!({
                "signer": hex::encode(fingerprint),
                "certificate": hex::encode(certificate),
            });
            writeln!(out, "{signer}")?;
        }
        drop(tx);
        let mut after = 0;
        loop {
            let mut tx = store.read().await?;
            let page = issuance_log::entries(&mut tx, &Filter::default(), after, PAGE).await?;
            let Some(last) = page.last().map(|entry| entry.sequence) else {
                break;
            };
            let checkpoints = issuance_log::checkpoints(&mut tx, after, last).await?;
            drop(tx);
            let mut checkpoints = checkpoints.iter().peekable();
            for entry in &page {
                let of_entry = checkpoints.next_if(|found| found.sequence == entry.sequence);
                let more = of_entry.map_or_else(String::new, |checkpoint| {
                    let checkpoint = json!({
                        "hash": hex::encode(&checkpoint.hash),
                        "time": checkpoint.time,
                        "signer": hex::encode(&checkpoint.signer),
                        "signature": hex::encode(&checkpoint.signature),
                    });
                    format!("\"checkpoint\":{checkpoint},")
                });
                write_json(out, entry, &more)?;
                writeln!(out)?;
            }
            after = last;
        }
        store.close().await;
        Ok(true)
    }
}

/// The record stands last, and byte for byte as it was hashed.
fn write_json(out: &mut impl Write, entry: &Entry, more: &str) -> Result<(), CommandError> {
    let Entry {
        sequence, record, ..
    } = entry;
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(record).is_ok();
    if !is_json || record.contains(['\n', '\r']) {
        return Err(CommandError::Record(*sequence));
    }
    let (previous, hash) = (hex::encode(&entry.previous_hash), hex::encode(&entry.hash));
    write!(
        out,
        "{{\"sequence\":{sequence},\"previous_hash\":\"{previous}\",\"hash\":\"{hash}\",{more}\"record\":{record}}}"
    )?;
    Ok(())
}

fn write_text(out: &mut impl Write, entry: &Entry) -> Result<(), CommandError> {
    let record: Record =
        serde_json::from_str(&entry.record).map_err(|_| CommandError::Record(entry.sequence))?;
    let Record {
        time,
        serial,
        spiffe_id,
        not_after,
        attestation,
        ..
    } = record;
    let remote = record
        .remote_address
        .map_or_else(|| "itself".to_owned(), |address| address.to_string());
    let detail = match attestation.detail.as_str() {
        "" => String::new(),
        detail => format!(": {detail}"),
    };
    let mut lines = vec![
        format!("entry {}  {time}  {spiffe_id}", entry.sequence),
        format!("  {} {serial}, until {not_after}", record.kind),
        format!("  by {}{detail}, from {remote}", attestation.kind),
    ];
    for (name, value) in [
        (
            "for",
            Some(record.audience.join(", ")).filter(|audience| !audience.is_empty()),
        ),
        ("key", record.key_thumbprint),
        ("certificate", record.certificate_thumbprint),
        ("issuer", record.issuer_thumbprint),
    ] {
        lines.extend(value.map(|value| format!("  {name} {value}")));
    }
    for line in lines {
        // What others wrote into tokens must not steer a terminal, nor look like another line.
        for character in line.chars() {
            if character.is_control() {
                write!(out, "{}", character.escape_default())?;
            } else {
                write!(out, "{character}")?;
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// As the log has serial numbers.
fn serial(text: &str) -> Result<String, String> {
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
        return Err("expected hexadecimal digits".to_owned());
    }
    Ok(digits.to_ascii_lowercase())
}

fn instant(text: &str) -> Result<SystemTime, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.with_timezone(&Utc).into());
    }
    yaml::parse_duration(text)
        .and_then(|ago| SystemTime::now().checked_sub(ago))
        .ok_or_else(|| {
            "expected a time such as 2027-01-15T08:00:00Z, or how long ago: 2h".to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_found_however_they_are_written() {
        assert_eq!(serial("0A:1b:2C").unwrap(), "0a1b2c");
        for text in ["", ":", "xyz", "0a 1b"] {
            assert!(serial(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_absolute_or_ago() {
        let time = instant("2027-01-15T09:00:00+01:00").unwrap();
        assert_eq!(milliseconds(time), 1_800_000_000_000);
        let ago = SystemTime::now()
            .duration_since(instant("2h").unwrap())
            .unwrap();
        assert!((7199..7230).contains(&ago.as_secs()));
        assert!(instant("yesterday").is_err());
    }

    #[test]
    fn text_cannot_steer_a_terminal() {
        let mut record = super::super::record::example("01");
        record.attestation.detail = "\u{1b}[2J\nentry 7".to_owned();
        let entry = Entry {
            sequence: 1,
            time: 0,
            serial: String::new(),
            spiffe_id: String::new(),
            attestation: String::new(),
            record: serde_json::to_string(&record).unwrap(),
            previous_hash: Vec::new(),
            hash: Vec::new(),
        };
        let mut out = Vec::new();
        write_text(&mut out, &entry).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(!text.contains("\nentry 7"), "{text}");
    }
}
