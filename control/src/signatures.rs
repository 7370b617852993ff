//! Who may sign policy: verifies a commit's signature by keys from the operator's disk, and by nothing that the policy
//! repository says.
//!
//! Git itself verifies, with `ssh-keygen` and `gpg`. It is told the keys in a directory of the control plane's own, so
//! that neither the user's key rings nor any git configuration can add one.

mod report;

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::git::{Call, CommitId, Git, GitError, LOCAL_TIME};
use crate::subprocess::{self, Failure, Limits};

/// The largest file of keys that is read, in bytes.
const FILE_LIMIT: u64 = 8 << 20;

/// How gpg is set up: it asks nobody, starts nothing, fetches nothing, and knows no keys but those it is given; above all
/// not one that a signature brings along. (The versions that do not know that option never take one.)
const GPG_CONFIGURATION: &str = "\
ignore-invalid-option no-auto-key-import
batch
no-tty
no-autostart
disable-dirmngr
no-auto-key-retrieve
no-auto-key-locate
no-auto-key-import
trust-model always
";

/// The files that list who may sign. At least one of `ssh` and `gpg` is given.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SignerFiles {
    /// SSH keys, in the format `ALLOWED SIGNERS` of ssh-keygen(1).
    pub(crate) ssh: Option<PathBuf>,
    /// SSH keys that are revoked: a key revocation list, or public keys one a line.
    pub(crate) ssh_revoked: Option<PathBuf>,
    /// OpenPGP public keys, as `gpg --export` writes them.
    pub(crate) gpg: Option<PathBuf>,
}

/// What the files of signers hold.
#[derive(Clone, PartialEq)]
pub(crate) struct SignerKeys {
    ssh: Option<Vec<u8>>,
    ssh_revoked: Option<Vec<u8>>,
    gpg: Option<Vec<u8>>,
}

/// A good signature of a listed signer. Only [`Verifier::verify`] makes one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Signature {
    /// The principal of `allowed_signers`, or the key's user ID.
    signer: String,
    /// The key's fingerprint.
    key: String,
}

impl Signature {
    pub(crate) fn signer(&self) -> &str {
        &self.signer
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }
}

/// Why a commit is not taken for a signer's.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("commit {commit} {problem}")]
pub(crate) struct Untrusted {
    pub(crate) commit: CommitId,
    pub(crate) problem: Problem,
}

/// What is wrong with a signature, and what to do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Problem {
    #[error(
        "is not signed; sign it with the key of a listed signer (git commit --amend --no-edit -S) and push it again"
    )]
    Unsigned,
    #[error(
        "has a signature of a kind that is not verified here ({0:?}); sign it with an SSH or an OpenPGP key"
    )]
    Kind(String),
    #[error(
        "is signed with an {kind} key, and policy.signers.{setting} is not configured; configure it, or sign with another \
         key"
    )]
    NotConfigured {
        kind: &'static str,
        setting: &'static str,
    },
    #[error(
        "is signed with the key {key}, which {} does not list{}; sign it with a listed key, or list this one", file.display(), noted(.notes)
    )]
    UnknownKey {
        key: String,
        file: PathBuf,
        /// What else the verifying program said.
        notes: Vec<String>,
    },
    #[error(
        "is signed with the key {key}, which {} lists, but not for the time of the commit{}; sign it with a key that is valid, \
         or correct the dates", file.display(), noted(.notes)
    )]
    NotValidThen {
        key: String,
        file: PathBuf,
        notes: Vec<String>,
    },
    #[error(
        "is signed with a key that {} lists for something else than git{}; sign it with another key, or list this one for \
         git", file.display(), noted(.notes)
    )]
    NotForGit { file: PathBuf, notes: Vec<String> },
    #[error(
        "is signed with the key {key} of {signer}, which has expired; sign it with a valid key, or give {} the key as it \
         was renewed", file.display()
    )]
    ExpiredKey {
        key: String,
        signer: String,
        file: PathBuf,
    },
    #[error("has a signature with the key {key} of {signer} that has expired; sign it again")]
    ExpiredSignature { key: String, signer: String },
    #[error("is signed with the key {key} of {signer}, which is revoked; sign it with another key")]
    RevokedKey { key: String, signer: String },
    #[error(
        "has a signature that does not fit what was signed{}; sign it again", noted(.notes)
    )]
    Bad { notes: Vec<String> },
}

fn noted(notes: &[String]) -> String {
    if notes.is_empty() {
        String::new()
    } else {
        format!(" ({})", notes.join("; "))
    }
}

/// Signatures cannot be verified now, which is nobody's fault who commits.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignersError {
    #[error("cannot read {} (policy.signers): {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} (policy.signers) lists nobody, so that no commit could be accepted", .0.display())]
    Nobody(PathBuf),
    #[error("{} (policy.signers) is larger than the {FILE_LIMIT} bytes that are read of it", .0.display())]
    TooLarge(PathBuf),
    #[error("cannot set up the verification of signatures in {}: {source}", path.display())]
    Scratch { path: PathBuf, source: io::Error },
    #[error(
        "the program {program:?} was not found, and verifies signatures; install it (Debian, Ubuntu: apt install {package})"
    )]
    Missing {
        program: OsString,
        package: &'static str,
    },
    #[error("gpg cannot read the keys of {} (policy.signers.gpg): {detail}", path.display())]
    GpgKeys { path: PathBuf, detail: String },
    #[error(transparent)]
    Git(#[from] GitError),
}

impl SignerFiles {
    /// Reads the files as they are now.
    pub(crate) fn read(&self) -> Result<SignerKeys, SignersError> {
        let read = |path: &Option<PathBuf>, read: fn(&Path) -> Result<Vec<u8>, SignersError>| {
            path.as_deref().map(read).transpose()
        };
        Ok(SignerKeys {
            ssh: read(&self.ssh, read_listed)?,
            ssh_revoked: read(&self.ssh_revoked, read_file)?,
            gpg: read(&self.gpg, read_listed)?,
        })
    }
}

/// Reads a file that has to list somebody.
pub(crate) fn read_listed(path: &Path) -> Result<Vec<u8>, SignersError> {
    let content = read_file(path)?;
    if content.trim_ascii().is_empty() {
        return Err(SignersError::Nobody(path.to_owned()));
    }
    Ok(content)
}

/// Reads a file of keys.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, SignersError> {
    let failed = |source| SignersError::Read {
        path: path.to_owned(),
        source,
    };
    let mut content = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_LIMIT + 1)
        .read_to_end(&mut content)
        .map_err(failed)?;
    if content.len() as u64 > FILE_LIMIT {
        return Err(SignersError::TooLarge(path.to_owned()));
    }
    Ok(content)
}

/// Verifies commits.
pub(crate) struct Verifier {
    git: Git,
    files: SignerFiles,
    /// A directory that is made anew for each verification.
    scratch: PathBuf,
    ssh_keygen: OsString,
    gpg: OsString,
}

impl Verifier {
    /// A verifier that works in `state_directory`.
    pub(crate) fn new(git: Git, files: SignerFiles, state_directory: &Path) -> Self {
        Self {
            git,
            files,
            scratch: state_directory.join("signers"),
            ssh_keygen: OsString::from("ssh-keygen"),
            gpg: OsString::from("gpg"),
        }
    }

    /// The keys that are listed now.
    pub(crate) fn keys(&self) -> Result<SignerKeys, SignersError> {
        self.files.read()
    }

    /// Verifies a commit of the bare repository at `repository`.
    ///
    /// # Errors
    /// When it cannot be said who signed the commit. What is wrong with the commit is the answer.
    pub(crate) async fn verify(
        &self,
        keys: &SignerKeys,
        repository: &Path,
        commit: &CommitId,
    ) -> Result<Result<Signature, Untrusted>, SignersError> {
        let call = Call::new("cat-file")
            .at(repository)
            .args(["commit", commit.as_str()]);
        let object = self.git.run(call).await?;
        let answer = match report::signature_kind(&object, commit) {
            None => Err(Problem::Unsigned),
            Some("-----BEGIN SSH SIGNATURE-----") => self.ssh(keys, repository, commit).await?,
            Some("-----BEGIN PGP SIGNATURE-----" | "-----BEGIN PGP MESSAGE-----") => {
                self.openpgp(keys, repository, commit).await?
            }
            Some(other) => Err(Problem::Kind(other.chars().take(60).collect())),
        };
        Ok(answer.map_err(|problem| Untrusted {
            commit: commit.clone(),
            problem,
        }))
    }

    async fn ssh(
        &self,
        keys: &SignerKeys,
        repository: &Path,
        commit: &CommitId,
    ) -> Result<Result<Signature, Problem>, SignersError> {
        let (Some(file), Some(allowed)) = (&self.files.ssh, &keys.ssh) else {
            return Ok(Err(Problem::NotConfigured {
                kind: "SSH",
                setting: "ssh",
            }));
        };
        let scratch = self.made()?;
        let (listed, revoked) = (scratch.join("allowed_signers"), scratch.join("revoked"));
        self.write(&listed, allowed)?;
        // Git goes on without a revocation file that is not there: so there always is one.
        self.write(&revoked, keys.ssh_revoked.as_deref().unwrap_or_default())?;
        let call = |revoked: &Path| {
            self.verify_commit(repository, commit, &scratch)
                .setting("gpg.ssh.allowedSignersFile", &listed)
                .setting("gpg.ssh.revocationFile", revoked)
        };
        let finished = self.git.finish(call(&revoked)).await?;
        let said = String::from_utf8_lossy(&finished.stderr);
        let cannot_run = format!("error: cannot run {}: ", self.ssh_keygen.display());
        if said.contains(&cannot_run) {
            return Err(SignersError::Missing {
                program: self.ssh_keygen.clone(),
                package: "openssh-client",
            });
        }
        let said = said.replace(&listed.display().to_string(), &file.display().to_string());
        let said = report::ssh(&said);
        if finished.status.success() {
            return Ok(said.signature());
        }
        if said.is_bad() && keys.ssh_revoked.is_some() {
            // Bad, or revoked? Git does not say.
            let none = scratch.join("none");
            self.write(&none, b"")?;
            let finished = self.git.finish(call(&none)).await?;
            let said = report::ssh(&String::from_utf8_lossy(&finished.stderr));
            if finished.status.success()
                && let Ok(Signature { signer, key }) = said.signature()
            {
                return Ok(Err(Problem::RevokedKey { key, signer }));
            }
        }
        Ok(Err(said.problem(file)))
    }

    async fn openpgp(
        &self,
        keys: &SignerKeys,
        repository: &Path,
        commit: &CommitId,
    ) -> Result<Result<Signature, Problem>, SignersError> {
        let (Some(file), Some(exported)) = (&self.files.gpg, &keys.gpg) else {
            return Ok(Err(Problem::NotConfigured {
                kind: "OpenPGP",
                setting: "gpg",
            }));
        };
        let scratch = self.made()?;
        self.import(file, exported, &scratch).await?;
        let call = self.verify_commit(repository, commit, &scratch);
        let finished = self.git.finish(call).await?;
        let said = report::openpgp(&String::from_utf8_lossy(&finished.stderr));
        Ok(if finished.status.success() {
            said.signature()
        } else {
            Err(said.problem(file))
        })
    }

    /// Fills gpg's directory with the listed keys.
    async fn import(
        &self,
        file: &Path,
        exported: &[u8],
        scratch: &Path,
    ) -> Result<(), SignersError> {
        let mut command = Command::new(&self.gpg);
        command.arg("--import").env("LC_ALL", "C");
        command.env("GNUPGHOME", scratch.join("gnupg"));
        let limits = Limits {
            time: LOCAL_TIME,
            output: 1 << 20,
        };
        let refused = |detail: String| SignersError::GpgKeys {
            path: file.to_owned(),
            detail,
        };
        match subprocess::run(command, exported, limits).await {
            Ok(finished) if finished.status.success() => Ok(()),
            Ok(finished) => Err(refused(
                String::from_utf8_lossy(&finished.stderr)
                    .trim()
                    .replace('\n', "; "),
            )),
            Err(Failure::Missing) => Err(SignersError::Missing {
                program: self.gpg.clone(),
                package: "gnupg",
            }),
            Err(Failure::Run(source)) => Err(refused(source.to_string())),
            Err(Failure::TimedOut) => Err(refused(format!(
                "it was not done after {} s and was stopped",
                limits.time.as_secs()
            ))),
            Err(Failure::TooMuch) => Err(refused("it wrote more than is read of it".to_owned())),
        }
    }

    /// `git verify-commit`, which decides: it ends well only for a good signature with a key that it was told.
    fn verify_commit(&self, repository: &Path, commit: &CommitId, scratch: &Path) -> Call {
        Call::new("verify-commit")
            .at(repository)
            .setting("gpg.program", &self.gpg)
            .setting("gpg.openpgp.program", &self.gpg)
            .setting("gpg.x509.program", "false")
            .setting("gpg.ssh.program", &self.ssh_keygen)
            .setting("gpg.ssh.allowedSignersFile", "/dev/null")
            .setting("gpg.minTrustLevel", "undefined")
            .variable("GNUPGHOME", scratch.join("gnupg"))
            .args(["--raw", commit.as_str()])
    }

    /// An empty place to put keys.
    fn made(&self) -> Result<PathBuf, SignersError> {
        let make = || {
            if let Err(error) = fs::remove_dir_all(&self.scratch)
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error);
            }
            let gnupg = self.scratch.join("gnupg");
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&gnupg)?;
            fs::write(gnupg.join("gpg.conf"), GPG_CONFIGURATION)?;
            // Git works in another directory than this process.
            self.scratch.canonicalize()
        };
        make().map_err(|source| self.failed(source))
    }

    fn write(&self, path: &Path, content: &[u8]) -> Result<(), SignersError> {
        fs::write(path, content).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> SignersError {
        SignersError::Scratch {
            path: self.scratch.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests;
