//! The issuance log: `issuance.jsonl`, one JSON object per certificate or token, only ever appended to. What is issued is
//! handed out when its line is on the disk, so that none is in use that nobody knows of.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use countersign_identity::X509Svid;
use serde::Serialize;

use crate::attest::Attested;
use crate::authority::files::{FileError, PRIVATE, cannot, sync_directory};
use crate::issue::token::TokenFacts;

/// Why a line is not in the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The file fails.
    #[error(transparent)]
    File(#[from] FileError),
    /// The line cannot be encoded.
    #[error("the line cannot be encoded: {0}")]
    Encode(#[from] serde_json::Error),
    /// The task that writes is gone.
    #[error("the log is shut")]
    Shut,
}

/// One issuance. No secrets.
#[derive(Debug, Serialize)]
pub(crate) struct Record {
    time: String,
    /// x509-svid, jwt-svid or wit-svid.
    kind: &'static str,
    /// Of a token, the claim `jti`.
    serial: String,
    spiffe_id: String,
    not_before: String,
    not_after: String,
    attestation: AttestationRecord,
    /// Whom a JWT-SVID is for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    audience: Vec<String>,
    /// SHA-256 of the SubjectPublicKeyInfo of the key that the SVID is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_thumbprint: Option<String>,
    /// SHA-256 of the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_thumbprint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_address: Option<SocketAddr>,
}

#[derive(Debug, Serialize)]
struct AttestationRecord {
    kind: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
}

impl Record {
    /// What is known of the issuance of an X.509-SVID.
    pub(crate) fn of_svid(
        svid: &X509Svid,
        attested: &Attested,
        key_thumbprint: &str,
        remote_address: Option<SocketAddr>,
        now: SystemTime,
    ) -> Self {
        Self {
            time: rfc3339(now, SecondsFormat::Millis),
            kind: "x509-svid",
            serial: svid.serial().to_owned(),
            spiffe_id: svid.id().to_string(),
            not_before: rfc3339(svid.not_before(), SecondsFormat::Secs),
            not_after: rfc3339(svid.not_after(), SecondsFormat::Secs),
            attestation: AttestationRecord::of(attested),
            audience: Vec::new(),
            key_thumbprint: Some(key_thumbprint.to_owned()),
            certificate_thumbprint: Some(hex::encode(svid.thumbprint())),
            remote_address,
        }
    }

    /// What is known of the issuance of a token.
    pub(crate) fn of_token(
        token: &TokenFacts,
        attested: &Attested,
        remote_address: SocketAddr,
        now: SystemTime,
    ) -> Self {
        Self {
            time: rfc3339(now, SecondsFormat::Millis),
            kind: token.usage.name(),
            serial: token.id.clone(),
            spiffe_id: attested.id().to_string(),
            not_before: rfc3339(token.issued_at, SecondsFormat::Secs),
            not_after: rfc3339(token.expires_at, SecondsFormat::Secs),
            attestation: AttestationRecord::of(attested),
            audience: token.audience.clone(),
            key_thumbprint: token.key_thumbprint.clone(),
            certificate_thumbprint: None,
            remote_address: Some(remote_address),
        }
    }
}

impl AttestationRecord {
    fn of(attested: &Attested) -> Self {
        Self {
            kind: attested.kind().name(),
            detail: attested.detail().to_owned(),
        }
    }
}

fn rfc3339(time: SystemTime, precision: SecondsFormat) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(precision, true)
}

/// The log. Cheap to clone.
#[derive(Clone)]
pub(crate) struct IssuanceLog(Arc<Mutex<Appender>>);

struct Appender {
    path: PathBuf,
    file: File,
    /// Whether the file ends within a line, after a write that failed or was cut short.
    torn: bool,
}

impl IssuanceLog {
    /// Opens, or begins, the log in `directory`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn open(directory: &Path) -> Result<Self, FileError> {
        let path = directory.join("issuance.jsonl");
        let open = || {
            let mut file = OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .mode(PRIVATE)
                .open(&path)?;
            let torn = ends_within_a_line(&mut file)?;
            Ok((file, torn))
        };
        let (file, torn) = open().map_err(cannot("open", &path))?;
        sync_directory(directory)?;
        Ok(Self(Arc::new(Mutex::new(Appender { path, file, torn }))))
    }

    /// Appends a line and waits until it is on the disk.
    ///
    /// # Errors
    /// When that is not certain. The certificate must then not be handed out.
    pub(crate) async fn append(&self, record: &Record) -> Result<(), LogError> {
        let line = serde_json::to_string(record)?;
        let appender = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || {
            appender
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .append(&line)
        })
        .await
        .map_err(|_| LogError::Shut)??;
        Ok(())
    }
}

impl Appender {
    fn append(&mut self, line: &str) -> Result<(), FileError> {
        // One write, so that readers see whole lines. A torn line before it is ended first.
        let start = if self.torn { "\n" } else { "" };
        let text = format!("{start}{line}\n");
        self.torn = true;
        self.file
            .write_all(text.as_bytes())
            .and_then(|()| self.file.sync_data())
            .map_err(cannot("append to", &self.path))?;
        self.torn = false;
        Ok(())
    }
}

fn ends_within_a_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
impl IssuanceLog {
    /// A log to which nothing can be written.
    pub(crate) fn to_a_full_disk() -> Self {
        let path = PathBuf::from("/dev/full");
        let file = File::options().write(true).open(&path).unwrap();
        Self(Arc::new(Mutex::new(Appender {
            path,
            file,
            torn: false,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(serial: &str) -> Record {
        Record {
            time: "2027-01-15T08:00:00.000Z".to_owned(),
            kind: "x509-svid",
            serial: serial.to_owned(),
            spiffe_id: "spiffe://shop.example/ns/shop/sa/orders".to_owned(),
            not_before: String::new(),
            not_after: String::new(),
            attestation: AttestationRecord {
                kind: "jwt",
                detail: "a\nb".to_owned(),
            },
            audience: Vec::new(),
            key_thumbprint: None,
            certificate_thumbprint: None,
            remote_address: Some(([127, 0, 0, 1], 1).into()),
        }
    }

    fn serials(directory: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(directory.join("issuance.jsonl")).unwrap();
        text.lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .map(|line| line["serial"].as_str().unwrap().to_owned())
            .collect()
    }

    #[tokio::test]
    async fn lines_are_appended_also_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        IssuanceLog::open(directory.path())
            .unwrap()
            .append(&record("1"))
            .await
            .unwrap();
        IssuanceLog::open(directory.path())
            .unwrap()
            .append(&record("2"))
            .await
            .unwrap();
        assert_eq!(serials(directory.path()), ["1", "2"]);
    }

    #[tokio::test]
    async fn a_line_that_was_cut_short_does_not_spoil_the_next() {
        let directory = tempfile::tempdir().unwrap();
        IssuanceLog::open(directory.path())
            .unwrap()
            .append(&record("1"))
            .await
            .unwrap();
        let path = directory.path().join("issuance.jsonl");
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(br#"{"time":"2027"#).unwrap();
        IssuanceLog::open(directory.path())
            .unwrap()
            .append(&record("2"))
            .await
            .unwrap();
        assert_eq!(serials(directory.path()), ["1", "2"]);
    }

    #[tokio::test]
    async fn many_at_once_are_whole_lines() {
        let directory = tempfile::tempdir().unwrap();
        let log = IssuanceLog::open(directory.path()).unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for serial in 0..50 {
            let log = log.clone();
            tasks.spawn(async move { log.append(&record(&serial.to_string())).await.unwrap() });
        }
        tasks.join_all().await;
        let mut found = serials(directory.path());
        found.sort_by_key(|serial| serial.parse::<u32>().unwrap());
        assert_eq!(
            found,
            (0..50).map(|serial| serial.to_string()).collect::<Vec<_>>()
        );
    }
}
