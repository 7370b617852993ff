//! Real git repositories for tests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::git::Branch;

/// A repository in a directory of its own, removed in the end.
pub(crate) struct TestRepository {
    directory: tempfile::TempDir,
}

pub(crate) fn main_branch() -> Branch {
    "main".parse().unwrap()
}

impl TestRepository {
    /// A repository whose branch `main` has no commit yet.
    pub(crate) fn new() -> Self {
        let repository = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        repository.git(["init", "--quiet", "--initial-branch=main"]);
        repository
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.file(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Commits everything and returns the commit.
    pub(crate) fn commit(&self) -> String {
        self.git(["add", "--all"]);
        self.git(["commit", "--quiet", "--allow-empty", "--message=test"]);
        self.git(["rev-parse", "HEAD"])
    }

    /// [`commit`](Self::commit), signed.
    pub(crate) fn commit_signed(&self, signer: &impl Signer) -> String {
        self.git(["add", "--all"]);
        let arguments = ["commit", "--quiet", "--allow-empty", "--message=test", "-S"];
        self.run(&arguments, |command| signer.sign_with(command));
        self.git(["rev-parse", "HEAD"])
    }

    /// Runs git in the repository; what it prints, less the last line feed.
    pub(crate) fn git<const N: usize>(&self, arguments: [&str; N]) -> String {
        self.run(&arguments, |command| {
            command.args(["-c", "commit.gpgSign=false"]);
        })
    }

    fn run(&self, arguments: &[&str], settings: impl FnOnce(&mut Command)) -> String {
        let mut command = Command::new("git");
        command
            .arg("-C")
            .arg(self.path())
            .args(["-c", "user.name=Test", "-c", "user.email=test@example.org"])
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        settings(&mut command);
        output(command.args(arguments))
    }
}

/// Runs a program to its end; what it prints, less the last line feed.
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .trim_end()
        .to_owned()
}

/// Whether a program that a test is about is there. A test that cannot run says so, and fails where nobody would read it.
#[must_use]
pub(crate) fn has(program: &str, package: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    if !there {
        let missing = format!("{program} is missing; it comes with: apt-get install {package}");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing}");
        eprintln!("NOT TESTED: {missing}");
    }
    there
}

/// Who can sign commits.
pub(crate) trait Signer {
    /// Settings and variables under which `git commit -S` signs.
    fn sign_with(&self, command: &mut Command);
}

/// An SSH key pair.
pub(crate) struct SshKey {
    directory: tempfile::TempDir,
}

impl SshKey {
    /// `None`, told, without `ssh-keygen`.
    pub(crate) fn new() -> Option<Self> {
        if !has("ssh-keygen", "openssh-client") {
            return None;
        }
        let key = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]);
        output(command.arg(key.path()));
        Some(key)
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("key")
    }

    /// A certificate of this key by an authority's: from now on it signs with that.
    pub(crate) fn certify(&self, authority: &Self, principal: &str) {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-I", "certificate", "-n", principal, "-s"]);
        command.arg(authority.path());
        output(command.arg(self.path().with_extension("pub")));
    }

    /// A key revocation list of this authority with the certificates that it has made.
    pub(crate) fn revocations(&self) -> Vec<u8> {
        let (list, specification) = (
            self.directory.path().join("list"),
            self.directory.path().join("specification"),
        );
        fs::write(&specification, "id: certificate\n").unwrap();
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-k", "-f"]).arg(&list).arg("-s");
        command.arg(self.path().with_extension("pub"));
        output(command.arg(specification));
        fs::read(list).unwrap()
    }

    /// As it stands in `authorized_keys`, without the comment.
    pub(crate) fn public(&self) -> String {
        let text = fs::read_to_string(self.path().with_extension("pub")).unwrap();
        text.rsplit_once(' ').unwrap().0.to_owned()
    }

    pub(crate) fn fingerprint(&self) -> String {
        let listed = output(
            Command::new("ssh-keygen")
                .arg("-lf")
                .arg(self.path().with_extension("pub")),
        );
        listed.split(' ').nth(1).unwrap().to_owned()
    }
}

impl Signer for SshKey {
    fn sign_with(&self, command: &mut Command) {
        let certificate = self.directory.path().join("key-cert.pub");
        let key = if certificate.exists() {
            certificate
        } else {
            self.path()
        };
        let key = key.display();
        command.args(["-c", "gpg.format=ssh", "-c"]);
        command.arg(format!("user.signingKey={key}"));
    }
}

/// An OpenPGP key pair in a gpg directory of its own.
pub(crate) struct GpgKey {
    directory: tempfile::TempDir,
    /// When its owner believes to live, if not now.
    time: Option<&'static str>,
}

impl GpgKey {
    /// A key that lasts a year from now. `None`, told, without `gpg`.
    pub(crate) fn new() -> Option<Self> {
        Self::made("1y", None)
    }

    /// A key that expired long ago, whose owner signs as if it had not.
    pub(crate) fn expired() -> Option<Self> {
        Self::made("2024-02-01", Some("20240101T000000!"))
    }

    fn made(expires: &str, time: Option<&'static str>) -> Option<Self> {
        if !has("gpg", "gnupg") {
            return None;
        }
        let key = Self {
            directory: tempfile::tempdir().unwrap(),
            time,
        };
        key.gpg([
            "--quick-generate-key",
            "Carol <carol@example.org>",
            "ed25519",
            "sign",
            expires,
        ]);
        Some(key)
    }

    fn gpg<const N: usize>(&self, arguments: [&str; N]) -> String {
        let mut command = Command::new("gpg");
        command.args(["--batch", "--quiet", "--passphrase", ""]);
        if let Some(time) = self.time {
            command.args(["--faked-system-time", time]);
        }
        output(
            command
                .args(arguments)
                .env("GNUPGHOME", self.directory.path()),
        )
    }

    /// The public key, armored.
    pub(crate) fn public(&self) -> String {
        self.gpg(["--armor", "--export"])
    }

    pub(crate) fn fingerprint(&self) -> String {
        let listed = self.gpg(["--with-colons", "--list-keys"]);
        let line = listed.lines().find(|line| line.starts_with("fpr:"));
        line.unwrap().split(':').nth(9).unwrap().to_owned()
    }

    /// Its owner's signatures bring the key along.
    pub(crate) fn bring_along(&self) {
        let path = self.directory.path().join("gpg.conf");
        fs::write(path, "include-key-block\n").unwrap();
    }

    /// Its owner revokes it: so says what is exported from now on.
    pub(crate) fn revoke(&self) {
        let name = format!("openpgp-revocs.d/{}.rev", self.fingerprint());
        let path = self.directory.path().join(name);
        // Made with the key, with a colon that keeps it from being used by mistake.
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace(":-----BEGIN", "-----BEGIN")).unwrap();
        self.gpg(["--import", path.to_str().unwrap()]);
    }
}

impl Signer for GpgKey {
    fn sign_with(&self, command: &mut Command) {
        if let Some(time) = self.time {
            let program = self.directory.path().join("gpg-then");
            let script = format!("#!/bin/sh\nexec gpg --faked-system-time '{time}' \"$@\"\n");
            fs::write(&program, script).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            command.arg("-c");
            command.arg(format!("gpg.program={}", program.display()));
        }
        command.args(["-c", "user.signingKey=carol@example.org"]);
        command.env("GNUPGHOME", self.directory.path());
    }
}

impl Drop for GpgKey {
    fn drop(&mut self) {
        // It would live on until it notices that its directory is gone.
        let mut stop = Command::new("gpgconf");
        let _ = stop
            .args(["--kill", "all"])
            .env("GNUPGHOME", self.directory.path())
            .status();
    }
}
