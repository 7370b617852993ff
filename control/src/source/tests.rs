use super::*;
use crate::testing::{TestRepository, main_branch};

/// Far below the thorough look, so that only a glance can have seen the change; generous for a busy machine.
const SOON: Duration = Duration::from_secs(4);

struct Followed {
    source: Source,
    _state: tempfile::TempDir,
}

fn follow(repository: Repository) -> Followed {
    let state = tempfile::tempdir().unwrap();
    let interval = Duration::from_millis(50);
    let source = Source::new(
        Git::default(),
        repository,
        main_branch(),
        interval,
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
        if let Some(candidate) = followed.source.look().await.unwrap() {
            return candidate;
        }
    }
}

#[tokio::test]
async fn commits_to_a_local_repository_are_seen_at_a_glance() {
    let repository = TestRepository::new();
    repository.write("a.yaml", "one");
    let first = repository.commit();
    let mut followed = follow_local(repository.path());
    let candidate = followed.source.look().await.unwrap().unwrap();
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
        followed.source.look().await.unwrap().unwrap().revision,
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
        followed.source.look().await.unwrap().unwrap().revision,
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
    let first = followed.source.look().await.unwrap().unwrap();
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
