//! What `ssh-keygen` and `gpg` say about a signature, to tell people who signed or what is wrong. Whether a signature is
//! good is git's to decide; a good one whose signer cannot be read here is refused all the same.

use std::path::Path;

use super::{Problem, Signature};
use crate::git::CommitId;

/// The first line of a commit's signature, if it has one.
pub(super) fn signature_kind<'a>(object: &'a [u8], commit: &CommitId) -> Option<&'a str> {
    let header: &[u8] = if commit.object_format() == "sha256" {
        b"gpgsig-sha256 "
    } else {
        b"gpgsig "
    };
    let kind = object
        .split(|byte| *byte == b'\n')
        .take_while(|line| !line.is_empty())
        .find_map(|line| line.strip_prefix(header))?;
    Some(std::str::from_utf8(kind).unwrap_or("not UTF-8"))
}

/// What `ssh-keygen -Y verify` or, for a key that is not listed, `-Y check-novalidate` said.
pub(super) struct Ssh {
    /// The key's fingerprint, and its principal if it is listed, if the signature fits the commit.
    fits: Option<(Option<String>, String)>,
    /// Everything else that was said.
    notes: Vec<String>,
}

/// Reads `Good "git" signature for PRINCIPAL with KIND key FINGERPRINT` or, without a principal,
/// `Good "git" signature with KIND key FINGERPRINT`, and everything around it.
pub(super) fn ssh(text: &str) -> Ssh {
    let mut said = Ssh {
        fits: None,
        notes: Vec::new(),
    };
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match fit(line) {
            Some(fits) if said.fits.is_none() => said.fits = Some(fits),
            _ => said.notes.push(line.to_owned()),
        }
    }
    said
}

fn fit(line: &str) -> Option<(Option<String>, String)> {
    let rest = line.strip_prefix("Good \"git\" signature ")?;
    // From the right, since a principal may hold anything.
    let (who, with) = rest.rsplit_once("with ")?;
    let (_kind, key) = with.split_once(" key ")?;
    if !key.starts_with("SHA256:") || key.contains(' ') {
        return None;
    }
    let principal = who.strip_prefix("for ").map(|who| who.trim().to_owned());
    Some((principal, key.to_owned()))
}

impl Ssh {
    /// The signature that git has found good.
    pub(super) fn signature(self) -> Result<Signature, Problem> {
        match self.fits {
            Some((Some(signer), key)) => Ok(Signature { signer, key }),
            _ => Err(Problem::Bad { notes: self.notes }),
        }
    }

    pub(super) fn is_bad(&self) -> bool {
        self.fits.is_none()
    }

    /// What is wrong with a signature that git has not found good.
    pub(super) fn problem(self, file: &Path) -> Problem {
        let Self { fits, mut notes } = self;
        let file = file.to_owned();
        notes.retain(|note| {
            note != "No principal matched." && note != "Could not verify signature."
        });
        let about_time =
            |note: &String| note.contains("has expired") || note.contains("not yet valid");
        match fits {
            Some((_, key)) if notes.iter().any(about_time) => {
                Problem::NotValidThen { key, file, notes }
            }
            Some((_, key)) => Problem::UnknownKey { key, file, notes },
            None if notes
                .iter()
                .any(|note| note.contains("not permitted for use")) =>
            {
                Problem::NotForGit { file, notes }
            }
            None => Problem::Bad { notes },
        }
    }
}

/// What gpg said, by its status lines (`doc/DETAILS` of GnuPG).
pub(super) struct OpenPgp {
    /// `GOODSIG`, `EXPKEYSIG` and their like, if there is exactly one of them.
    verdict: Option<String>,
    /// The user ID that belongs to the verdict.
    signer: String,
    /// The fingerprint, or, of a key that is not listed, what is known of it.
    key: String,
}

/// The verdicts of which each signature has one.
const VERDICTS: [&str; 6] = [
    "GOODSIG",
    "BADSIG",
    "EXPSIG",
    "EXPKEYSIG",
    "REVKEYSIG",
    "ERRSIG",
];

pub(super) fn openpgp(text: &str) -> OpenPgp {
    let mut said = OpenPgp {
        verdict: None,
        signer: String::new(),
        key: String::new(),
    };
    let mut verdicts = 0_usize;
    for line in text.lines() {
        let Some(line) = line.strip_prefix("[GNUPG:] ") else {
            continue;
        };
        let (keyword, rest) = line.split_once(' ').unwrap_or((line, ""));
        if VERDICTS.contains(&keyword) {
            verdicts += 1;
            said.verdict = Some(keyword.to_owned());
            let (key, signer) = rest.split_once(' ').unwrap_or((rest, ""));
            if keyword == "ERRSIG" {
                // Newer versions add the fingerprint as the seventh field; older ones have a dash there, or nothing.
                let fingerprint = rest.split(' ').nth(6).filter(|field| field.len() >= 40);
                said.key = fingerprint.unwrap_or(key).to_owned();
            } else {
                said.signer = signer.to_owned();
                if said.key.is_empty() {
                    said.key = key.to_owned();
                }
            }
        } else if keyword == "VALIDSIG" {
            // The last field is the primary key, by which people know a key; a subkey may have signed.
            let primary = rest.split(' ').next_back().unwrap_or_default();
            said.key = primary.to_owned();
        }
    }
    if verdicts != 1 {
        said.verdict = None;
    }
    said
}

impl OpenPgp {
    /// The signature that git has found good.
    pub(super) fn signature(self) -> Result<Signature, Problem> {
        let Self {
            verdict,
            signer,
            key,
        } = self;
        if verdict.as_deref() == Some("GOODSIG") && key.len() >= 40 {
            Ok(Signature { signer, key })
        } else {
            Err(Problem::Bad { notes: Vec::new() })
        }
    }

    /// What is wrong with a signature that git has not found good.
    pub(super) fn problem(self, file: &Path) -> Problem {
        let Self {
            verdict,
            signer,
            key,
        } = self;
        let file = file.to_owned();
        match verdict.as_deref() {
            Some("EXPKEYSIG") => Problem::ExpiredKey { key, signer, file },
            Some("EXPSIG") => Problem::ExpiredSignature { key, signer },
            Some("REVKEYSIG") => Problem::RevokedKey { key, signer },
            Some("ERRSIG") => Problem::UnknownKey {
                key,
                file,
                notes: Vec::new(),
            },
            _ => Problem::Bad { notes: Vec::new() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_may_hold_anything() {
        let said = ssh(
            "Good \"git\" signature for a with x key SHA256:evil with ED25519 key SHA256:good\n",
        );
        assert_eq!(
            said.signature(),
            Ok(Signature {
                signer: "a with x key SHA256:evil".to_owned(),
                key: "SHA256:good".to_owned(),
            })
        );
    }

    #[test]
    fn a_good_signature_of_nobody_is_refused() {
        let said = "Good \"git\" signature with ED25519 key SHA256:x\nNo principal matched.\n";
        assert!(ssh(said).signature().is_err());
        assert!(ssh("").signature().is_err());
        assert!(openpgp("").signature().is_err());
        assert!(
            openpgp("[GNUPG:] GOODSIG 7D0F7E6EAB47F515 Carol\n")
                .signature()
                .is_err()
        );
    }

    #[test]
    fn of_two_openpgp_signatures_none_counts() {
        let one = "[GNUPG:] GOODSIG 7D0F7E6EAB47F515 Carol <carol@example.org>\n\
                   [GNUPG:] VALIDSIG 3C852C37F399EA9E75F169C97D0F7E6EAB47F515 2026-11-24 1795526980 0 4 0 22 8 00 \
                   3C852C37F399EA9E75F169C97D0F7E6EAB47F515\n";
        assert_eq!(
            openpgp(one).signature(),
            Ok(Signature {
                signer: "Carol <carol@example.org>".to_owned(),
                key: "3C852C37F399EA9E75F169C97D0F7E6EAB47F515".to_owned(),
            })
        );
        assert!(openpgp(&format!("{one}{one}")).signature().is_err());
        let bad = format!("{one}[GNUPG:] BADSIG 7D0F7E6EAB47F515 Carol <carol@example.org>\n");
        assert!(openpgp(&bad).signature().is_err());
    }

    #[test]
    fn only_the_header_of_this_object_format_counts_and_only_in_the_header() {
        let sha1 = CommitId::parse(&"a".repeat(40)).unwrap();
        let sha256 = CommitId::parse(&"a".repeat(64)).unwrap();
        let signed = b"tree x\ngpgsig -----BEGIN SSH SIGNATURE-----\n more\n\nmessage\n";
        assert_eq!(
            signature_kind(signed, &sha1),
            Some("-----BEGIN SSH SIGNATURE-----")
        );
        assert_eq!(signature_kind(signed, &sha256), None);
        let forged = b"tree x\n\ngpgsig -----BEGIN SSH SIGNATURE-----\n";
        assert_eq!(signature_kind(forged, &sha1), None);
        assert_eq!(signature_kind(b"", &sha1), None);
    }
}
