use super::*;
use crate::testing::{GpgKey, SshKey, TestRepository};

/// A repository of which commits are verified, and the operator's files.
struct Fixture {
    repository: TestRepository,
    operator: tempfile::TempDir,
    verifier: Verifier,
}

impl Fixture {
    /// Signers in files that are not written yet.
    fn new() -> Self {
        let operator = tempfile::tempdir().unwrap();
        let path = |name: &str| Some(operator.path().join(name));
        let files = SignerFiles {
            ssh: path("allowed_signers"),
            ssh_revoked: path("revoked"),
            gpg: path("keys.asc"),
        };
        Self {
            repository: TestRepository::new(),
            verifier: Verifier::new(Git::default(), files, operator.path()),
            operator,
        }
    }

    fn ssh() -> Self {
        let mut fixture = Self::new();
        fixture.verifier.files.gpg = None;
        fixture.verifier.files.ssh_revoked = None;
        fixture
    }

    fn gpg() -> Self {
        let mut fixture = Self::new();
        fixture.verifier.files.ssh = None;
        fixture.verifier.files.ssh_revoked = None;
        fixture
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.operator.path().join(name), content).unwrap();
    }

    async fn try_verify(&self, commit: &str) -> Result<Result<Signature, Untrusted>, SignersError> {
        let commit = CommitId::parse(commit).unwrap();
        let keys = self.verifier.keys()?;
        let repository = self.repository.file(".git");
        self.verifier.verify(&keys, &repository, &commit).await
    }

    async fn verify(&self, commit: &str) -> Result<Signature, Problem> {
        let verified = self.try_verify(commit).await.unwrap();
        verified.map_err(|untrusted| {
            assert_eq!(untrusted.commit.as_str(), commit);
            untrusted.problem
        })
    }

    /// The tip with another message under the same signature.
    fn tampered(&self) -> String {
        let object = self.repository.git(["cat-file", "commit", "HEAD"]);
        self.repository
            .write("object", object.replace("\ntest", "\ntset\n"));
        self.repository
            .git(["hash-object", "-t", "commit", "-w", "object"])
    }
}

fn listed(who: &str, options: &str, key: &SshKey) -> String {
    format!("{who} {options} {}\n", key.public())
}

#[tokio::test]
async fn a_listed_ssh_key_is_accepted_and_named_and_no_other() {
    let (Some(alice), Some(mallory)) = (SshKey::new(), SshKey::new()) else {
        return;
    };
    let fixture = Fixture::ssh();
    fixture.write(
        "allowed_signers",
        listed("alice@example.org", "namespaces=\"git\"", &alice),
    );
    let commit = fixture.repository.commit_signed(&alice);
    let signature = fixture.verify(&commit).await.unwrap();
    assert_eq!(signature.signer(), "alice@example.org");
    assert_eq!(signature.key(), alice.fingerprint());

    let tampered = fixture.tampered();
    let problem = fixture.verify(&tampered).await.unwrap_err();
    assert!(matches!(problem, Problem::Bad { .. }), "{problem:?}");

    let unsigned = fixture.repository.commit();
    let problem = fixture.verify(&unsigned).await.unwrap_err();
    assert_eq!(problem, Problem::Unsigned);
    assert!(
        problem
            .to_string()
            .contains("git commit --amend --no-edit -S")
    );

    let strange = fixture.repository.commit_signed(&mallory);
    let problem = fixture.verify(&strange).await.unwrap_err();
    assert!(matches!(problem, Problem::UnknownKey { .. }), "{problem:?}");
    let told = problem.to_string();
    assert!(told.contains(&mallory.fingerprint()), "{told}");
    assert!(
        told.contains("/allowed_signers does not list; sign it"),
        "{told}"
    );
}

#[tokio::test]
async fn a_key_listed_for_something_else_than_git_is_not_accepted() {
    let Some(alice) = SshKey::new() else { return };
    let fixture = Fixture::ssh();
    let line = listed("alice@example.org", "namespaces=\"file\"", &alice);
    fixture.write("allowed_signers", line);
    let commit = fixture.repository.commit_signed(&alice);
    let problem = fixture.verify(&commit).await.unwrap_err();
    assert!(matches!(problem, Problem::NotForGit { .. }), "{problem:?}");
}

#[tokio::test]
async fn an_ssh_key_is_valid_for_the_times_that_are_listed() {
    let Some(alice) = SshKey::new() else { return };
    let fixture = Fixture::ssh();
    let commit = fixture.repository.commit_signed(&alice);
    let verify = async |options: &str| {
        fixture.write(
            "allowed_signers",
            listed("alice@example.org", options, &alice),
        );
        fixture.verify(&commit).await
    };
    for (options, said) in [
        ("valid-before=\"20200101\"", "has expired"),
        ("valid-after=\"20990101\"", "not yet valid"),
    ] {
        let problem = verify(options).await.unwrap_err();
        let told = problem.to_string();
        assert!(
            matches!(problem, Problem::NotValidThen { .. }),
            "{problem:?}"
        );
        assert!(
            told.contains(&alice.fingerprint()) && told.contains(said),
            "{told}"
        );
        // The file is named as the operator named it, not as the copy that was looked at.
        let named = fixture.operator.path().join("allowed_signers:1: ");
        assert!(told.contains(named.to_str().unwrap()), "{told}");
    }
    verify("valid-after=\"20200101\",valid-before=\"20990101\"")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_revoked_ssh_key_is_told_from_a_bad_signature() {
    let Some(alice) = SshKey::new() else { return };
    let mut fixture = Fixture::new();
    fixture.verifier.files.gpg = None;
    fixture.write("allowed_signers", listed("alice@example.org", "", &alice));
    fixture.write("revoked", "");
    let commit = fixture.repository.commit_signed(&alice);
    fixture.verify(&commit).await.unwrap();
    fixture.write("revoked", alice.public());
    let expected = Problem::RevokedKey {
        key: alice.fingerprint(),
        signer: "alice@example.org".to_owned(),
    };
    assert_eq!(fixture.verify(&commit).await.unwrap_err(), expected);
    let problem = fixture.verify(&fixture.tampered()).await.unwrap_err();
    assert!(matches!(problem, Problem::Bad { .. }), "{problem:?}");
    // Without its file a revocation would be forgotten.
    fs::remove_file(fixture.operator.path().join("revoked")).unwrap();
    let error = fixture.try_verify(&commit).await.unwrap_err();
    assert!(matches!(error, SignersError::Read { .. }), "{error}");
}

#[tokio::test]
async fn certificates_of_a_listed_authority_are_accepted_until_they_are_revoked() {
    let (Some(alice), Some(authority)) = (SshKey::new(), SshKey::new()) else {
        return;
    };
    let mut fixture = Fixture::new();
    fixture.verifier.files.gpg = None;
    let line = listed(
        "*@example.org",
        "cert-authority,namespaces=\"git\"",
        &authority,
    );
    fixture.write("allowed_signers", line);
    fixture.write("revoked", "");
    let bare = fixture.repository.commit_signed(&alice);
    let problem = fixture.verify(&bare).await.unwrap_err();
    assert!(matches!(problem, Problem::UnknownKey { .. }), "{problem:?}");

    alice.certify(&authority, "alice@example.org");
    let commit = fixture.repository.commit_signed(&alice);
    let signature = fixture.verify(&commit).await.unwrap();
    assert_eq!(signature.signer(), "alice@example.org");
    assert_eq!(signature.key(), alice.fingerprint());

    fixture.write("revoked", authority.revocations());
    let problem = fixture.verify(&commit).await.unwrap_err();
    assert!(matches!(problem, Problem::RevokedKey { .. }), "{problem:?}");

    // Certified, but not for a name that is listed.
    fixture.write("revoked", "");
    alice.certify(&authority, "alice@elsewhere.example");
    let commit = fixture.repository.commit_signed(&alice);
    fixture.verify(&commit).await.unwrap_err();
}

#[tokio::test]
async fn lines_that_list_nobody_are_told_with_the_refusal() {
    let Some(alice) = SshKey::new() else { return };
    let fixture = Fixture::ssh();
    fixture.write("allowed_signers", "alice@example.org ssh-ed25519 AAAA\n");
    let commit = fixture.repository.commit_signed(&alice);
    let told = fixture.verify(&commit).await.unwrap_err().to_string();
    assert!(told.contains("/allowed_signers:1: invalid key"), "{told}");
}

#[tokio::test]
async fn a_sha_256_repository_is_verified_like_any() {
    let Some(alice) = SshKey::new() else { return };
    let fixture = Fixture::ssh();
    fixture.write("allowed_signers", listed("alice@example.org", "", &alice));
    fs::remove_dir_all(fixture.repository.file(".git")).unwrap();
    fixture
        .repository
        .git(["init", "--quiet", "--object-format=sha256"]);
    let commit = fixture.repository.commit_signed(&alice);
    assert_eq!(commit.len(), 64);
    fixture.verify(&commit).await.unwrap();
    let unsigned = fixture.repository.commit();
    assert_eq!(
        fixture.verify(&unsigned).await.unwrap_err(),
        Problem::Unsigned
    );
}

#[tokio::test]
async fn a_listed_openpgp_key_is_accepted_and_named_and_no_other() {
    let (Some(carol), Some(mallory)) = (GpgKey::new(), GpgKey::new()) else {
        return;
    };
    let fixture = Fixture::gpg();
    fixture.write("keys.asc", carol.public());
    let commit = fixture.repository.commit_signed(&carol);
    let signature = fixture.verify(&commit).await.unwrap();
    assert_eq!(signature.signer(), "Carol <carol@example.org>");
    assert_eq!(signature.key(), carol.fingerprint());

    let problem = fixture.verify(&fixture.tampered()).await.unwrap_err();
    assert!(matches!(problem, Problem::Bad { .. }), "{problem:?}");

    // The same name, another key, which the signature brings along.
    mallory.bring_along();
    let strange = fixture.repository.commit_signed(&mallory);
    let told = fixture.verify(&strange).await.unwrap_err().to_string();
    assert!(told.contains(&mallory.fingerprint()), "{told}");
    assert!(told.contains("/keys.asc does not list"), "{told}");

    // Keys are forgotten as soon as the file does not list them any more.
    fixture.write("keys.asc", mallory.public());
    let problem = fixture.verify(&commit).await.unwrap_err();
    assert!(matches!(problem, Problem::UnknownKey { .. }), "{problem:?}");
    fixture.verify(&strange).await.unwrap();
}

#[tokio::test]
async fn expired_and_revoked_openpgp_keys_are_not_accepted() {
    let (Some(expired), Some(revoked)) = (GpgKey::expired(), GpgKey::new()) else {
        return;
    };
    let fixture = Fixture::gpg();
    fixture.write(
        "keys.asc",
        format!("{}\n{}\n", expired.public(), revoked.public()),
    );
    let signer = "Carol <carol@example.org>".to_owned();

    let commit = fixture.repository.commit_signed(&expired);
    let expected = Problem::ExpiredKey {
        key: expired.fingerprint(),
        signer: signer.clone(),
        file: fixture.operator.path().join("keys.asc"),
    };
    assert_eq!(fixture.verify(&commit).await.unwrap_err(), expected);

    let commit = fixture.repository.commit_signed(&revoked);
    fixture.verify(&commit).await.unwrap();
    revoked.revoke();
    fixture.write("keys.asc", revoked.public());
    let key = revoked.fingerprint();
    let expected = Problem::RevokedKey { key, signer };
    assert_eq!(fixture.verify(&commit).await.unwrap_err(), expected);
}

#[tokio::test]
async fn only_the_configured_kinds_of_signature_are_verified() {
    let (Some(alice), Some(carol)) = (SshKey::new(), GpgKey::new()) else {
        return;
    };
    let (ssh, gpg) = (Fixture::ssh(), Fixture::gpg());
    ssh.write("allowed_signers", listed("alice@example.org", "", &alice));
    gpg.write("keys.asc", carol.public());
    let by_ssh = gpg.repository.commit_signed(&alice);
    let told = gpg.verify(&by_ssh).await.unwrap_err().to_string();
    assert!(
        told.contains("policy.signers.ssh is not configured"),
        "{told}"
    );
    let by_gpg = ssh.repository.commit_signed(&carol);
    let told = ssh.verify(&by_gpg).await.unwrap_err().to_string();
    assert!(
        told.contains("policy.signers.gpg is not configured"),
        "{told}"
    );

    // A certificate's signature (X.509) is of neither kind, whatever it says.
    let object = ssh.repository.git(["cat-file", "commit", "HEAD"]);
    ssh.repository
        .write("object", object.replace("PGP SIGNATURE", "SIGNED MESSAGE"));
    let commit = ssh
        .repository
        .git(["hash-object", "-t", "commit", "-w", "object"]);
    let problem = ssh.verify(&commit).await.unwrap_err();
    assert_eq!(
        problem,
        Problem::Kind("-----BEGIN SIGNED MESSAGE-----".to_owned())
    );
}

#[tokio::test]
async fn what_the_repository_is_configured_to_trust_plays_no_role() {
    let (Some(alice), Some(mallory)) = (SshKey::new(), SshKey::new()) else {
        return;
    };
    let fixture = Fixture::ssh();
    fixture.write("allowed_signers", listed("alice@example.org", "", &alice));
    fixture.repository.write(
        "allowed_signers",
        listed("mallory@example.org", "", &mallory),
    );
    let own = fixture
        .repository
        .file("allowed_signers")
        .display()
        .to_string();
    let trap = fixture.repository.file("trap");
    let script = format!("#!/bin/sh\ntouch '{}.sprung'\nexit 0\n", trap.display());
    fixture.repository.write("trap", script);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&trap, mode).unwrap();
    let commit = fixture.repository.commit_signed(&mallory);
    fixture
        .repository
        .git(["config", "gpg.ssh.allowedSignersFile", &own]);
    for program in [
        "gpg.program",
        "gpg.openpgp.program",
        "gpg.ssh.program",
        "gpg.x509.program",
    ] {
        let trap = trap.display().to_string();
        fixture.repository.git(["config", program, &trap]);
    }
    let problem = fixture.verify(&commit).await.unwrap_err();
    assert!(matches!(problem, Problem::UnknownKey { .. }), "{problem:?}");
    assert!(!fixture.repository.file("trap.sprung").exists());
}

#[tokio::test]
async fn programs_and_keys_that_are_missing_are_told() {
    let (Some(alice), Some(carol)) = (SshKey::new(), GpgKey::new()) else {
        return;
    };
    let mut fixture = Fixture::new();
    fixture.write("revoked", "");
    fixture.write("keys.asc", carol.public());
    let by_ssh = fixture.repository.commit_signed(&alice);
    let by_gpg = fixture.repository.commit_signed(&carol);
    let error = fixture.try_verify(&by_ssh).await.unwrap_err().to_string();
    assert!(
        error.contains("cannot read ") && error.contains("/allowed_signers"),
        "{error}"
    );
    fixture.write("allowed_signers", " \n");
    let error = fixture.try_verify(&by_ssh).await.unwrap_err().to_string();
    assert!(error.contains("lists nobody"), "{error}");
    fixture.write("allowed_signers", listed("alice@example.org", "", &alice));

    fixture.verifier.ssh_keygen = "ssh-keygen-not-there".into();
    fixture.verifier.gpg = "gpg-not-there".into();
    let error = fixture.try_verify(&by_ssh).await.unwrap_err().to_string();
    assert!(error.contains("apt install openssh-client"), "{error}");
    let error = fixture.try_verify(&by_gpg).await.unwrap_err().to_string();
    assert!(error.contains("apt install gnupg"), "{error}");

    fixture.verifier.gpg = "gpg".into();
    fixture.write("keys.asc", "no keys");
    let error = fixture.try_verify(&by_gpg).await.unwrap_err().to_string();
    assert!(error.contains("gpg cannot read the keys of"), "{error}");
}
