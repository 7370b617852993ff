use super::*;
use crate::testing::{TestRepository, main_branch};

struct Fixture {
    repository: TestRepository,
    history: History,
    state: tempfile::TempDir,
    remote: bool,
}

impl Fixture {
    fn new(remote: bool) -> Self {
        let state = tempfile::tempdir().unwrap();
        Self {
            repository: TestRepository::new(),
            history: History::new(Git::default(), state.path()),
            state,
            remote,
        }
    }

    async fn moved(&self, before: &str, in_force: &str, tip: &str) -> Option<Moved> {
        let path = self.repository.path();
        let repository = if self.remote {
            Repository::Remote(format!("file://{}", path.display()))
        } else {
            Repository::Local(path.to_owned())
        };
        let id = |commit: &str| CommitId::parse(commit).unwrap();
        let (before, in_force, tip) = (id(before), id(in_force), id(tip));
        let branch = main_branch();
        let history = &self.history;
        let moved = history.moved(&repository, &branch, &before, Some(&in_force), &tip);
        moved.await.unwrap()
    }

    fn reset(&self, to: &str) {
        self.repository.git(["reset", "--quiet", "--hard", to]);
    }
}

fn back(from: &str, to: &str) -> Option<Moved> {
    let (from, to) = (from.to_owned(), to.to_owned());
    Some(Moved::Back { from, to })
}

fn aside(from: &str, to: &str) -> Option<Moved> {
    let (from, to) = (from.to_owned(), to.to_owned());
    Some(Moved::Aside { from, to })
}

async fn tells_every_way_to_move(fixture: Fixture) {
    let zero = fixture.repository.commit();
    fixture.repository.write("a.yaml", "one");
    let one = fixture.repository.commit();
    assert_eq!(fixture.moved(&one, &one, &one).await, None);
    fixture.repository.write("a.yaml", "two");
    let two = fixture.repository.commit();
    fixture.repository.write("a.yaml", "three");
    let three = fixture.repository.commit();
    assert_eq!(fixture.moved(&one, &one, &three).await, None);

    // Back by two, and further than where it was first seen.
    fixture.reset(&one);
    assert_eq!(
        fixture.moved(&three, &three, &one).await,
        back(&three, &one)
    );
    fixture.reset(&zero);
    assert_eq!(fixture.moved(&one, &one, &zero).await, back(&one, &zero));
    fixture.reset(&two);
    assert_eq!(fixture.moved(&zero, &zero, &two).await, None);

    // Another history from `two` on.
    fixture.repository.write("a.yaml", "other");
    let other = fixture.repository.commit();
    assert_eq!(fixture.moved(&two, &two, &other).await, None);
    fixture.reset(&three);
    assert_eq!(
        fixture.moved(&other, &other, &three).await,
        aside(&other, &three)
    );

    // The newest commit was never in force: going back to what is, and before it.
    fixture.reset(&other);
    assert_eq!(
        fixture.moved(&three, &two, &other).await,
        aside(&three, &other)
    );
    fixture.reset(&two);
    assert_eq!(fixture.moved(&other, &two, &two).await, back(&other, &two));
    fixture.reset(&one);
    assert_eq!(fixture.moved(&other, &two, &one).await, back(&two, &one));

    // What nobody has ever seen is nobody's ancestor.
    let unknown = "0123456789".repeat(4);
    assert_eq!(
        fixture.moved(&unknown, &unknown, &one).await,
        aside(&unknown, &one)
    );
}

#[tokio::test]
async fn of_a_local_repository() {
    tells_every_way_to_move(Fixture::new(false)).await;
}

#[tokio::test]
async fn of_a_remote() {
    tells_every_way_to_move(Fixture::new(true)).await;
}

#[tokio::test]
async fn of_a_remote_that_gives_commits_alone() {
    let fixture = Fixture::new(true);
    fixture
        .repository
        .git(["config", "uploadpack.allowFilter", "true"]);
    tells_every_way_to_move(fixture).await;
}

#[tokio::test]
async fn files_and_the_url_are_not_kept() {
    let fixture = Fixture::new(true);
    fixture
        .repository
        .git(["config", "uploadpack.allowFilter", "true"]);
    fixture.repository.write("a.yaml", "one");
    let one = fixture.repository.commit();
    assert_eq!(fixture.moved(&one, &one, &one).await, None);
    let place = fixture.state.path().join("history.sha1.git");
    let call = Call::new("cat-file").at(&place);
    let call = call.args(["--batch-all-objects", "--batch-check=%(objecttype)"]);
    let kinds = Git::default().run(call).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&kinds), "commit\n");
    let config = fs::read_to_string(place.join("config")).unwrap();
    let path = fixture.repository.path().display().to_string();
    assert!(!config.contains(&path), "{config}");
}

#[tokio::test]
async fn a_remote_that_is_gone_is_an_error_and_the_next_question_starts_anew() {
    let fixture = Fixture::new(true);
    let one = fixture.repository.commit();
    assert_eq!(fixture.moved(&one, &one, &one).await, None);
    let gone = Repository::Remote("file:///nowhere/at-all".to_owned());
    let id = CommitId::parse(&one).unwrap();
    let moved = fixture
        .history
        .moved(&gone, &main_branch(), &id, None, &id)
        .await;
    assert!(matches!(moved, Err(GitError::Failed { .. })), "{moved:?}");
    assert_eq!(fixture.moved(&one, &one, &one).await, None);
}
