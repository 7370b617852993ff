use super::*;
use crate::testing::{SshKey, TestRepository, main_branch};

/// Far below the thorough look, so that only a glance can have seen the change; generous for a busy machine.
const SOON: Duration = Duration::from_secs(4);

struct Followed {
    source: Source,
    _state: tempfile::TempDir,
}

fn follow(repository: Repository) -> Followed {
    follow_signed(repository, None)
}

fn follow_signed(repository: Repository, signers: Option<SignerFiles>) -> Followed {
    let state = tempfile::tempdir().unwrap();
    let interval = Duration::from_millis(50);
    let source = Source::new(
        Git::default(),
        repository,
        main_branch(),
        interval,
        signers,
        state.path(),
    );
    Followed {
        source,
        _state: state,
    }
}

fn follow_local(path: &Path) -> Followed {
    follow(Repository::Local(path.to_owned()))
}

/// The next new revision, seen by glances alone.
async fn glanced(followed: &mut Followed) -> Candidate {
    let started = Instant::now();
    loop {
        followed.source.worth_a_look().await;
        assert!(
            started.elapsed() < SOON,
            "the change was not seen by a glance"
        );
        if let Some(seen) = followed.source.look().await.unwrap() {
            return candidate(seen);
        }
    }
}

fn candidate(seen: Seen) -> Candidate {
    match seen {
        Seen::Candidate(candidate) => candidate,
        Seen::Untrusted(untrusted) => panic!("{untrusted}"),
    }
}

#[tokio::test]
async fn commits_to_a_local_repository_are_seen_at_a_glance() {
    let repository = TestRepository::new();
    repository.write("a.yaml", "one");
    let first = repository.commit();
    let mut followed = follow_local(repository.path());
    let candidate = candidate(followed.source.look().await.unwrap().unwrap());
    assert_eq!(candidate.revision, first);
    assert_eq!(
        candidate.files.files,
        [("a.yaml".to_owned(), "one".to_owned())]
    );
    assert!(followed.source.look().await.unwrap().is_none());

    repository.write("a.yaml", "two");
    let second = repository.commit();
    assert_eq!(glanced(&mut followed).await.revision, second);

    repository.git(["pack-refs", "--all"]);
    followed.source.worth_a_look().await;
    assert!(
        followed.source.look().await.unwrap().is_none(),
        "packing references is no new revision"
    );
    let third = repository.commit();
    assert_eq!(glanced(&mut followed).await.revision, third);

    repository.git(["reset", "--quiet", "--hard", &first]);
    assert_eq!(glanced(&mut followed).await.revision, first);
}

#[tokio::test]
async fn a_linked_work_tree_shares_the_repositorys_branches() {
    let repository = TestRepository::new();
    repository.commit();
    let linked = tempfile::tempdir().unwrap();
    let path = linked.path().join("tree");
    repository.git([
        "worktree",
        "add",
        "--quiet",
        "--detach",
        path.to_str().unwrap(),
    ]);
    let mut followed = follow_local(&path);
    followed.source.look().await.unwrap().unwrap();
    let next = repository.commit();
    assert_eq!(glanced(&mut followed).await.revision, next);
}

#[tokio::test]
async fn a_bare_repository_is_followed_like_any() {
    let repository = TestRepository::new();
    let commit = repository.commit();
    let mut followed = follow_local(&repository.file(".git"));
    assert_eq!(
        followed.source.look().await.unwrap().unwrap().revision(),
        commit
    );
}

#[tokio::test]
async fn a_remote_is_asked_at_the_interval() {
    let repository = TestRepository::new();
    let first = repository.commit();
    let mut followed = follow(Repository::Remote(format!(
        "file://{}",
        repository.path().display()
    )));
    assert_eq!(
        followed.source.look().await.unwrap().unwrap().revision(),
        first
    );
    let second = repository.commit();
    assert_eq!(glanced(&mut followed).await.revision, second);
}

#[tokio::test]
async fn a_directory_inside_a_work_tree_is_a_plain_directory() {
    let repository = TestRepository::new();
    repository.write("policy/a.yaml", "one");
    repository.commit();
    let mut followed = follow_local(&repository.file("policy"));
    let first = candidate(followed.source.look().await.unwrap().unwrap());
    assert!(first.revision.starts_with("sha256:"), "{}", first.revision);
    assert!(followed.source.look().await.unwrap().is_none());
    repository.write("policy/a.yaml", "two");
    let second = glanced(&mut followed).await;
    assert_eq!(
        second.files.files,
        [("a.yaml".to_owned(), "two".to_owned())]
    );
}

#[tokio::test]
async fn a_repository_that_appears_later_is_found() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("policy");
    let mut followed = follow_local(&path);
    let error = followed.source.look().await.unwrap_err().to_string();
    assert!(
        error.contains("cannot read the policy directory"),
        "{error}"
    );
    let repository = TestRepository::new();
    let commit = repository.commit();
    fs::rename(repository.path(), &path).unwrap();
    assert_eq!(glanced(&mut followed).await.revision, commit);
}

#[tokio::test]
async fn a_remote_that_does_not_answer_is_asked_ever_more_rarely_until_it_does() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("policy");
    let mut followed = follow(Repository::Remote(format!("file://{}", path.display())));
    let interval = followed.source.interval;
    let mut longest = interval;
    for _ in 0..4 {
        followed.source.look().await.unwrap_err();
        let pause = followed.source.pause();
        assert!(
            longest <= pause && pause <= 2 * longest,
            "{pause:?} of {longest:?}"
        );
        longest *= 2;
    }
    let repository = TestRepository::new();
    let commit = repository.commit();
    fs::rename(repository.path(), &path).unwrap();
    let seen = followed.source.look().await.unwrap().unwrap();
    assert_eq!(seen.revision(), commit);
    assert_eq!(followed.source.pause(), interval);
    // Lost again, it is the first wait again.
    fs::rename(&path, parent.path().join("elsewhere")).unwrap();
    followed.source.look().await.unwrap_err();
    assert!(followed.source.pause() <= 2 * interval);
}

#[test]
fn waits_for_a_remote_end_at_the_limit_and_never_stop() {
    let mut source = follow(Repository::Remote("file:///nowhere".to_owned())).source;
    let mut waits = (0..100).map(|_| source.next_retry()).collect::<Vec<_>>();
    assert!(
        waits
            .iter()
            .all(|wait| (source.interval..=RETRY_LIMIT).contains(wait))
    );
    let late = waits.split_off(50);
    assert!(late.iter().all(|wait| *wait >= RETRY_LIMIT / 2), "{late:?}");
    let different: std::collections::HashSet<_> = late.into_iter().collect();
    assert!(different.len() > 1);

    // An interval above the limit is kept.
    source.interval = 2 * RETRY_LIMIT;
    source.retries = None;
    assert_eq!(source.next_retry(), 2 * RETRY_LIMIT);
}

fn signers(directory: &tempfile::TempDir, keys: &[&SshKey]) -> SignerFiles {
    let path = directory.path().join("allowed_signers");
    let lines = keys
        .iter()
        .map(|key| format!("dev@example.org {}\n", key.public()));
    fs::write(&path, lines.collect::<String>()).unwrap();
    SignerFiles {
        ssh: Some(path),
        ssh_revoked: None,
        gpg: None,
    }
}

#[tokio::test]
async fn a_commit_is_verified_before_it_is_read_and_again_when_the_signers_change() {
    let (Some(alice), Some(bob)) = (SshKey::new(), SshKey::new()) else {
        return;
    };
    let (repository, operator) = (TestRepository::new(), tempfile::tempdir().unwrap());
    repository.write("a.yaml", "one");
    let commit = repository.commit_signed(&bob);
    let place = Repository::Local(repository.path().to_owned());
    let mut followed = follow_signed(place, Some(signers(&operator, &[&alice])));
    let seen = followed.source.look().await.unwrap().unwrap();
    assert!(matches!(&seen, Seen::Untrusted(_)), "{seen:?}");
    assert_eq!(seen.revision(), commit);
    assert!(followed.source.look().await.unwrap().is_none());

    signers(&operator, &[&alice, &bob]);
    let bobs = candidate(followed.source.look().await.unwrap().unwrap());
    assert_eq!(bobs.signed.unwrap().signature.key(), bob.fingerprint());
    assert!(followed.source.look().await.unwrap().is_none());

    // Without the list nothing is accepted, and nothing forgotten.
    let listed = operator.path().join("allowed_signers");
    fs::rename(&listed, operator.path().join("aside")).unwrap();
    let error = followed.source.look().await.unwrap_err();
    assert!(matches!(error, SourceError::Signers(_)), "{error}");
    fs::rename(operator.path().join("aside"), &listed).unwrap();
    assert!(followed.source.look().await.unwrap().is_none());
}

#[tokio::test]
async fn a_plain_directory_is_not_taken_for_signed() {
    let Some(alice) = SshKey::new() else { return };
    let (plain, operator) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(plain.path().join("a.yaml"), "one").unwrap();
    let place = Repository::Local(plain.path().to_owned());
    let mut followed = follow_signed(place, Some(signers(&operator, &[&alice])));
    let error = followed.source.look().await.unwrap_err();
    assert!(matches!(error, SourceError::Unsignable(_)), "{error}");
}

#[tokio::test]
async fn an_earlier_revision_is_vouched_for_by_the_signers_of_today() {
    let (Some(alice), Some(bob)) = (SshKey::new(), SshKey::new()) else {
        return;
    };
    let (repository, operator) = (TestRepository::new(), tempfile::tempdir().unwrap());
    let commit = repository.commit_signed(&alice);
    let place = Repository::Local(repository.path().to_owned());
    let files = signers(&operator, &[&alice]);
    let mut followed = follow_signed(place.clone(), Some(files.clone()));
    let seen = candidate(followed.source.look().await.unwrap().unwrap());
    let object = seen.signed.unwrap().commit;

    // A new start, with nothing but what was kept.
    let later = follow_signed(place.clone(), Some(files));
    let vouch = async |revision: &str, object: Option<&Vec<u8>>| {
        later.source.vouch_for(revision, object.cloned()).await
    };
    let vouched = vouch(&commit, Some(&object)).await.unwrap();
    assert_eq!(vouched.unwrap().signature.key(), alice.fingerprint());
    let unsigned = vouch(&commit, None).await.unwrap_err();
    assert!(matches!(unsigned, NotVouchedFor::Unsigned), "{unsigned}");
    // The proof of one commit is none of another.
    let other = repository.commit();
    let forged = vouch(&other, Some(&object)).await.unwrap_err();
    assert!(matches!(forged, NotVouchedFor::Source(_)), "{forged}");
    signers(&operator, &[&bob]);
    let stranger = vouch(&commit, Some(&object)).await.unwrap_err();
    assert!(
        matches!(stranger, NotVouchedFor::Untrusted(_)),
        "{stranger}"
    );

    let unconfigured = follow(place);
    let vouched = unconfigured.source.vouch_for(&commit, None).await;
    assert_eq!(vouched.unwrap(), None);
}
