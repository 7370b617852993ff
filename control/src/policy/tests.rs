use countersign_api::ops::Readiness;
use tokio::sync::watch;

use super::*;
use crate::git::{Git, Repository};
use crate::history::Moved;
use crate::signatures::SignerFiles;
use crate::state::StateError;
use crate::testing::{SshKey, TestRepository, main_branch};
use crate::world::{World, WorldReceiver};

const GOOD: &str = "\
apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: orders, namespace: shop}
spec:
  rules:
  - {name: web, action: allow, from: [{workload: shop/web}]}
";

struct Running {
    world: WorldReceiver,
    readiness: Readiness,
    task: tokio::task::JoinHandle<()>,
}

/// Follows a repository as the program does.
fn start(repository: &Repository, state: &std::path::Path) -> Running {
    start_signed(repository, state, None)
}

fn start_signed(
    repository: &Repository,
    state: &std::path::Path,
    signers: Option<SignerFiles>,
) -> Running {
    let state = loop {
        match StateDirectory::open(state) {
            // The one that was stopped before may still be at its last step.
            Err(StateError::InUse(_)) => std::thread::yield_now(),
            opened => break opened.unwrap(),
        }
    };
    let world = watch::Sender::new(World::default());
    let readiness = Readiness::new();
    let interval = std::time::Duration::from_millis(100);
    let source = Source::new(
        Git::default(),
        repository.clone(),
        main_branch(),
        interval,
        signers,
        state.path(),
    );
    let keeper = PolicyKeeper {
        trust_domain: TrustDomain::parse("shop.example").unwrap(),
        origin: Origin {
            repository: repository.to_string(),
            branch: "main".to_owned(),
        },
        state,
        world: world.clone(),
        ready: readiness.part("policy"),
        metrics: PolicyMetrics::default(),
    };
    let world = world.subscribe();
    Running {
        world,
        readiness,
        task: tokio::spawn(keeper.follow(source)),
    }
}

impl Running {
    async fn until(&mut self, condition: impl FnMut(&PolicyState) -> bool) -> PolicyState {
        let mut condition = condition;
        let reached = self.world.wait_for(|world| condition(&world.policy));
        let reached = tokio::time::timeout(std::time::Duration::from_secs(30), reached).await;
        reached.expect("reached in time").unwrap().policy.clone()
    }

    async fn until_in_force(&mut self, revision: &str) -> PolicyState {
        self.until(|policy| in_force(policy) == Some(revision))
            .await
    }

    async fn until_moved(&mut self, expected: &Moved) {
        let moved = |policy: &PolicyState| policy.moved.as_ref().map(|moved| moved.moved.clone());
        self.until(|policy| moved(policy).as_ref() == Some(expected))
            .await;
    }

    async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

fn in_force(policy: &PolicyState) -> Option<&str> {
    policy.in_force.as_ref().map(|good| good.policy.revision())
}

fn local(repository: &TestRepository) -> Repository {
    Repository::Local(repository.path().to_owned())
}

#[tokio::test]
async fn a_bad_commit_changes_nothing_until_a_good_one_follows() {
    let (repository, state) = (TestRepository::new(), tempfile::tempdir().unwrap());
    repository.write("orders.yaml", GOOD);
    let first = repository.commit();
    let mut running = start(&local(&repository), state.path());
    running.until_in_force(&first).await;
    running.readiness.ready().await;

    repository.write("orders.yaml", GOOD.replace("action: allow", "action: alow"));
    let bad = repository.commit();
    let policy = running.until(|policy| policy.rejected.is_some()).await;
    assert_eq!(in_force(&policy), Some(first.as_str()));
    let rejected = policy.rejected.unwrap();
    assert_eq!(rejected.revision, bad);
    assert_eq!(rejected.errors.len(), 1);
    assert!(
        rejected.errors[0].starts_with("orders.yaml:6:25: "),
        "{:?}",
        rejected.errors
    );
    assert!(running.readiness.is_ready());

    // Going back to the revision in force is good, too, and no change.
    let accepted_at = policy.in_force.unwrap().accepted_at;
    repository.git(["reset", "--quiet", "--hard", &first]);
    let policy = running.until(|policy| policy.rejected.is_none()).await;
    assert_eq!(policy.in_force.unwrap().accepted_at, accepted_at);

    repository.write("orders.yaml", GOOD.replace("shop/web", "shop/checkout"));
    let second = repository.commit();
    running.until_in_force(&second).await;
}

#[tokio::test]
async fn a_first_commit_with_mistakes_leaves_no_policy_and_says_why() {
    let (repository, state) = (TestRepository::new(), tempfile::tempdir().unwrap());
    repository.write(
        "a.yaml",
        "apiVersion: countersign.dev/v1\nkind: AccesPolicy\n",
    );
    std::os::unix::fs::symlink("a.yaml", repository.file("b.yaml")).unwrap();
    let bad = repository.commit();
    let mut running = start(&local(&repository), state.path());
    let policy = running.until(|policy| policy.rejected.is_some()).await;
    assert!(policy.in_force.is_none());
    // What the files are and what they hold is told at once.
    let errors = &policy.rejected.unwrap().errors;
    assert!(
        errors[0].starts_with("a.yaml:1:1: unknown kind"),
        "{errors:?}"
    );
    assert!(
        errors[1].starts_with("b.yaml: expected a file, this is a symbolic link"),
        "{errors:?}"
    );
    let shown = running.readiness.to_string();
    assert!(
        shown.starts_with(&format!(
            "not ready: policy: no revision was accepted yet; {bad} has mistakes: a.yaml:1:1: "
        )),
        "{shown}"
    );
}

#[tokio::test]
async fn a_restart_without_the_repository_uses_the_last_good_revision() {
    let (repository, state) = (TestRepository::new(), tempfile::tempdir().unwrap());
    repository.write("orders.yaml", GOOD);
    let good = repository.commit();
    let source = local(&repository);
    let mut running = start(&source, state.path());
    running.until_in_force(&good).await;
    while StateFile::new(state.path()).revision().as_deref() != Some(&good) {
        tokio::task::yield_now().await;
    }
    running.stop().await;

    drop(repository);
    let mut running = start(&source, state.path());
    let policy = running
        .until(|policy| policy.source.failing.is_some())
        .await;
    assert_eq!(in_force(&policy), Some(good.as_str()));
    running.readiness.ready().await;
    running.stop().await;

    // Another repository's last good revision is not this one's.
    let other = TestRepository::new();
    let mut running = start(&local(&other), state.path());
    let policy = running
        .until(|policy| policy.source.failing.is_some())
        .await;
    assert!(policy.in_force.is_none());
    assert!(
        running.readiness.to_string().contains("has no branch main"),
        "{}",
        running.readiness
    );
}

/// The file of the last good revision, read while the program runs.
struct StateFile(std::path::PathBuf);

impl StateFile {
    fn new(state: &std::path::Path) -> Self {
        Self(state.join("last-good.json"))
    }

    fn revision(&self) -> Option<String> {
        let last: LastGood = serde_json::from_slice(&std::fs::read(&self.0).ok()?).ok()?;
        Some(last.revision)
    }
}

#[tokio::test]
async fn a_commit_is_in_force_within_half_a_second() {
    let (repository, state) = (TestRepository::new(), tempfile::tempdir().unwrap());
    repository.write("orders.yaml", GOOD);
    let first = repository.commit();
    let mut running = start(&local(&repository), state.path());
    running.until_in_force(&first).await;
    // The best of several: the bound is on the program, not on what else this machine does.
    let mut best = std::time::Duration::MAX;
    for round in 0..5 {
        repository.write("orders.yaml", format!("{GOOD}# {round}\n"));
        let commit = repository.commit();
        let committed = std::time::Instant::now();
        running.until_in_force(&commit).await;
        best = best.min(committed.elapsed());
    }
    assert!(best < std::time::Duration::from_millis(500), "{best:?}");
}

fn signers(directory: &tempfile::TempDir, key: &SshKey) -> Option<SignerFiles> {
    let path = directory.path().join("allowed_signers");
    std::fs::write(&path, format!("dev@example.org {}\n", key.public())).unwrap();
    Some(SignerFiles {
        ssh: Some(path),
        ssh_revoked: None,
        gpg: None,
    })
}

#[tokio::test]
async fn only_a_signed_commit_comes_into_force() {
    let (Some(alice), Some(mallory)) = (SshKey::new(), SshKey::new()) else {
        return;
    };
    let (repository, state) = (TestRepository::new(), tempfile::tempdir().unwrap());
    let operator = tempfile::tempdir().unwrap();
    repository.write("orders.yaml", GOOD);
    let unsigned = repository.commit();
    let signers = signers(&operator, &alice);
    let mut running = start_signed(&local(&repository), state.path(), signers);
    let policy = running.until(|policy| policy.rejected.is_some()).await;
    assert_eq!(in_force(&policy), None);
    let rejected = policy.rejected.unwrap();
    assert_eq!(
        (rejected.revision.as_str(), rejected.reason),
        (unsigned.as_str(), Reason::Signature)
    );
    let shown = running.readiness.to_string();
    let expected = format!(
        "not ready: policy: no revision was accepted yet; {unsigned} is not signed by a listed signer: commit {unsigned} \
         is not signed; "
    );
    assert!(shown.starts_with(&expected), "{shown}");

    let signed = repository.commit_signed(&alice);
    let policy = running.until_in_force(&signed).await;
    let proof = policy.in_force.unwrap().signed.clone().unwrap();
    assert_eq!(proof.signature.signer(), "dev@example.org");

    repository.write("orders.yaml", GOOD.replace("shop/web", "shop/mallory"));
    let stranger = repository.commit_signed(&mallory);
    let policy = running.until(|policy| policy.rejected.is_some()).await;
    assert_eq!(in_force(&policy), Some(signed.as_str()));
    let rejected = policy.rejected.unwrap();
    assert_eq!(rejected.revision, stranger);
    let key = mallory.fingerprint();
    assert!(rejected.errors[0].contains(&key), "{:?}", rejected.errors);
    assert!(running.readiness.is_ready());
}

#[tokio::test]
async fn a_restart_takes_no_policy_that_todays_signers_have_not_signed() {
    let (Some(alice), Some(bob)) = (SshKey::new(), SshKey::new()) else {
        return;
    };
    let (repository, state) = (TestRepository::new(), tempfile::tempdir().unwrap());
    let operator = tempfile::tempdir().unwrap();
    let place = local(&repository);
    let saved = async |revision: &str| {
        while StateFile::new(state.path()).revision().as_deref() != Some(revision) {
            tokio::task::yield_now().await;
        }
    };
    repository.write("orders.yaml", GOOD);
    let unsigned = repository.commit();
    let mut running = start(&place, state.path());
    running.until_in_force(&unsigned).await;
    saved(&unsigned).await;
    running.stop().await;

    // Signers are configured now: what was accepted without them is not.
    let mut running = start_signed(&place, state.path(), signers(&operator, &alice));
    let policy = running.until(|policy| policy.rejected.is_some()).await;
    assert_eq!(in_force(&policy), None);
    let signed = repository.commit_signed(&alice);
    running.until_in_force(&signed).await;
    saved(&signed).await;
    running.stop().await;

    // Without the repository and its mirror the proof is still there.
    let gone = tempfile::tempdir().unwrap();
    std::fs::rename(repository.path(), gone.path().join("policy")).unwrap();
    std::fs::remove_dir_all(state.path().join("policy.sha1.git")).unwrap();
    let mut running = start_signed(&place, state.path(), signers(&operator, &alice));
    let policy = running
        .until(|policy| policy.source.failing.is_some())
        .await;
    assert_eq!(in_force(&policy), Some(signed.as_str()));
    assert!(policy.in_force.unwrap().signed.is_some());
    running.stop().await;

    // Alice has left, and is not listed any more.
    let mut running = start_signed(&place, state.path(), signers(&operator, &bob));
    let policy = running
        .until(|policy| policy.source.failing.is_some())
        .await;
    assert_eq!(in_force(&policy), None);
}

#[tokio::test]
async fn rollbacks_and_force_pushes_are_followed_and_told() {
    let (repository, state) = (TestRepository::new(), tempfile::tempdir().unwrap());
    repository.write("orders.yaml", GOOD);
    let first = repository.commit();
    repository.write("orders.yaml", GOOD.replace("shop/web", "shop/checkout"));
    let second = repository.commit();
    let mut running = start(&local(&repository), state.path());
    let policy = running.until_in_force(&second).await;
    assert!(policy.moved.is_none());

    repository.git(["reset", "--quiet", "--hard", &first]);
    running.until_in_force(&first).await;
    let (from, to) = (second.clone(), first.clone());
    let rollback = Moved::Back { from, to };
    running.until_moved(&rollback).await;

    // Forward again, in another direction, while the program does not run: it is told at the next start.
    while StateFile::new(state.path()).revision().as_deref() != Some(&first) {
        tokio::task::yield_now().await;
    }
    running.stop().await;
    repository.git(["checkout", "--quiet", "--orphan", "other"]);
    repository.write("orders.yaml", GOOD.replace("shop/web", "shop/other"));
    let third = repository.commit();
    repository.git(["branch", "--force", "main", "other"]);
    let mut running = start(&local(&repository), state.path());
    running.until_in_force(&third).await;
    let (from, to) = (first.clone(), third.clone());
    let force_push = Moved::Aside { from, to };
    running.until_moved(&force_push).await;
}

#[tokio::test]
async fn a_remote_that_is_away_is_told_with_its_age_and_followed_again_when_it_is_back() {
    let (repository, state) = (TestRepository::new(), tempfile::tempdir().unwrap());
    let away = tempfile::tempdir().unwrap();
    repository.write("orders.yaml", GOOD);
    let first = repository.commit();
    let place = Repository::Remote(format!("file://{}", repository.path().display()));
    let mut running = start(&place, state.path());
    let policy = running.until_in_force(&first).await;
    assert!(policy.source.reached_at.is_some() && policy.source.failing.is_none());

    std::fs::rename(repository.path(), away.path().join("policy")).unwrap();
    let policy = running
        .until(|policy| policy.source.failing.is_some())
        .await;
    assert_eq!(in_force(&policy), Some(first.as_str()));
    assert!(running.readiness.is_ready());
    let since = policy.source.failing.unwrap().since;
    // It is tried again and again; the world is not told of each time, so it is looked at.
    let failing = loop {
        let failing = running
            .world
            .borrow()
            .policy
            .source
            .failing
            .clone()
            .unwrap();
        if failing.attempts >= 3 {
            break failing;
        }
        // Between one look and the next.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(failing.since, since);
    assert!(failing.retry_at > since);
    assert!(policy.source.reached_at.unwrap() <= since);

    std::fs::rename(away.path().join("policy"), repository.path()).unwrap();
    repository.write("orders.yaml", GOOD.replace("shop/web", "shop/checkout"));
    let second = repository.commit();
    let policy = running.until_in_force(&second).await;
    assert!(policy.source.failing.is_none());
}

const TEST: &str = "\
apiVersion: countersign.dev/v1
kind: PolicyTest
metadata: {name: orders}
spec:
  tests:
  - name: web takes orders
    call: {peer: shop/web, destination: {namespace: shop, workload: orders, port: 8080}}
    expect: allow
";

#[tokio::test]
async fn a_commit_that_fails_its_own_tests_is_refused_and_told() {
    let (repository, state) = (TestRepository::new(), tempfile::tempdir().unwrap());
    repository.write("orders.yaml", GOOD);
    repository.write("orders.test.yaml", TEST);
    let first = repository.commit();
    let mut running = start(&local(&repository), state.path());
    running.until_in_force(&first).await;

    repository.write("orders.yaml", GOOD.replace("shop/web", "shop/checkout"));
    let failing = repository.commit();
    let policy = running.until(|policy| policy.rejected.is_some()).await;
    assert_eq!(in_force(&policy), Some(first.as_str()));
    let rejected = policy.rejected.unwrap();
    assert_eq!(
        (rejected.revision.as_str(), rejected.reason),
        (failing.as_str(), Reason::Tests)
    );
    let told = rejected.errors.join("\n");
    let expected =
        "orders.test.yaml:6:5: the test \"web takes orders\" failed: expected allow, got deny";
    assert!(told.starts_with(expected), "{told}");

    // What a test is written like is a matter of mistakes, told together with those of the policy.
    repository.write("orders.yaml", GOOD.replace("action: allow", "action: alow"));
    repository.write(
        "orders.test.yaml",
        TEST.replace("expect: allow", "expect: alow"),
    );
    let mistaken = repository.commit();
    let policy = running
        .until(|policy| {
            policy
                .rejected
                .as_ref()
                .is_some_and(|bad| bad.revision == mistaken)
        })
        .await;
    let rejected = policy.rejected.unwrap();
    assert_eq!(rejected.reason, Reason::Mistakes);
    let files = ["orders.test.yaml:8:", "orders.yaml:6:"];
    for (error, file) in rejected.errors.iter().zip(files) {
        assert!(error.starts_with(file), "{:?}", rejected.errors);
    }
    assert_eq!(rejected.errors.len(), 2);

    repository.write("orders.yaml", GOOD.replace("shop/web", "shop/checkout"));
    repository.write(
        "orders.test.yaml",
        TEST.replace("shop/web", "shop/checkout"),
    );
    let second = repository.commit();
    running.until_in_force(&second).await;
}
