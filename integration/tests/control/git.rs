//! What the control plane takes from git, and what not: signatures, tests, branches that move, remotes that are away.

use std::fs;
use std::process::Command;

use countersign_integration::process::Program;

use super::mesh::{Mesh, POLICY, eventually};

/// An SSH key that can sign commits, in a file of the mesh's directory.
struct Key {
    path: String,
    fingerprint: String,
}

impl Key {
    fn new(mesh: &Mesh, name: &str) -> Self {
        let path = mesh.path(name).display().to_string();
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &path]));
        let listed = run(Command::new("ssh-keygen").args(["-l", "-f", &path]));
        let fingerprint = listed.split(' ').nth(1).unwrap().to_owned();
        Self { path, fingerprint }
    }

    /// The operator lists this key, and no other.
    fn list(&self, mesh: &Mesh) {
        let public = fs::read_to_string(format!("{}.pub", self.path)).unwrap();
        fs::write(
            mesh.path("allowed_signers"),
            format!("dev@example.org {public}"),
        )
        .unwrap();
    }

    /// Commits this policy, signed.
    fn commit(&self, mesh: &Mesh, policy: &str) -> String {
        let key = format!("user.signingKey={}", self.path);
        mesh.write_policy("orders.yaml", policy);
        mesh.git(&["add", "--all"]);
        let settings = ["-c", "gpg.format=ssh", "-c", &key];
        let commit = ["commit", "--quiet", "--allow-empty", "--message=test", "-S"];
        mesh.git(&[settings.as_slice(), &commit].concat());
        mesh.git(&["rev-parse", "HEAD"])
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error}; it comes with: apt-get install openssh-client")
    });
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn metric(mesh: &Mesh, name: &str) -> f64 {
    let metrics = mesh.ops("/metrics").unwrap().1;
    let prefix = format!("countersign_control_{name} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&prefix));
    let value = value.unwrap_or_else(|| panic!("no {name} in\n{metrics}"));
    value.parse().unwrap()
}

/// A control plane that has refused a revision says so everywhere; returns the reason.
async fn refused(mesh: &Mesh, control: &Program, revision: &str, stays: &str) -> String {
    eventually("the commit is refused", || {
        mesh.status()["policy"]["rejected"]["revision"] == revision
    })
    .await;
    let policy = mesh.status()["policy"].clone();
    assert_eq!(policy["revision"], stays);
    assert!(mesh.ops("/ready").unwrap().0 == 200);
    let error = policy["rejected"]["errors"][0].as_str().unwrap().to_owned();
    let log = control.stderr().unwrap();
    assert!(
        log.contains("policy rejected, the last good revision stays"),
        "{log}"
    );
    assert!(log.contains(revision), "{log}");
    let reason = policy["rejected"]["reason"].as_str().unwrap();
    assert!(
        metric(
            mesh,
            &format!("policy_refused_total{{reason=\"{reason}\"}}")
        ) >= 1.0
    );
    assert!((metric(mesh, "policy_rejected") - 1.0).abs() < f64::EPSILON);
    format!("{reason}: {error}")
}

#[tokio::test]
async fn only_commits_of_listed_signers_reach_a_sidecar() {
    let mesh = Mesh::with("repository: policy, signers: {ssh: allowed_signers}").await;
    let (alice, mallory) = (Key::new(&mesh, "alice"), Key::new(&mesh, "mallory"));
    alice.list(&mesh);
    let signed = alice.commit(&mesh, POLICY);
    let control = mesh.start_control();
    mesh.until_ready().await;
    let orders = mesh.identity("shop", "orders").await;
    let mut sidecar = mesh.watch(&orders, "orders").await;
    assert_eq!(sidecar.policy().await.revision, signed);
    let signature = mesh.status()["policy"]["signedBy"].clone();
    assert_eq!(signature["signer"], "dev@example.org");
    assert_eq!(signature["key"], alice.fingerprint.as_str());

    let unsigned = mesh.commit(&POLICY.replace("shop/web", "shop/nobody"));
    let reason = refused(&mesh, &control, &unsigned, &signed).await;
    assert!(
        reason.starts_with(&format!("signature: commit {unsigned} is not signed; ")),
        "{reason}"
    );

    let strange = mallory.commit(&mesh, &POLICY.replace("shop/web", "shop/mallory"));
    let reason = refused(&mesh, &control, &strange, &signed).await;
    assert!(
        reason.starts_with(&format!(
            "signature: commit {strange} is signed with the key "
        )),
        "{reason}"
    );
    assert!(reason.contains(&mallory.fingerprint), "{reason}");

    // A repository cannot list its own signers.
    let public = fs::read_to_string(format!("{}.pub", mallory.path)).unwrap();
    mesh.write_policy("allowed_signers", &format!("mallory@example.org {public}"));
    mesh.git(&["config", "gpg.ssh.allowedSignersFile", "allowed_signers"]);
    let strange = mallory.commit(&mesh, POLICY);
    refused(&mesh, &control, &strange, &signed).await;

    // The first that the sidecar hears of all this is what a signer has put on top of it.
    let last = alice.commit(&mesh, &POLICY.replace("shop/web", "shop/checkout"));
    assert_eq!(sidecar.policy().await.revision, last);
    eventually("nothing is rejected any more", || {
        mesh.status()["policy"]["rejected"].is_null()
    })
    .await;
}

#[tokio::test]
async fn a_plain_directory_with_signers_is_a_mistake_of_the_configuration() {
    let mesh = Mesh::with("repository: plain, signers: {ssh: allowed_signers}").await;
    Key::new(&mesh, "alice").list(&mesh);
    fs::create_dir(mesh.path("plain")).unwrap();
    let mut control = mesh.start_control();
    assert_eq!(control.wait().unwrap().code(), Some(2));
    let told = control.stderr().unwrap();
    assert!(
        told.contains("control.yaml:6:38: expected no signers, since "),
        "{told}"
    );
}

#[tokio::test]
async fn rollbacks_and_force_pushes_reach_the_sidecar_and_are_told() {
    let mesh = Mesh::new().await;
    let first = mesh.commit(POLICY);
    let second = mesh.commit(&POLICY.replace("shop/web", "shop/checkout"));
    let control = mesh.start_control();
    mesh.until_ready().await;
    let orders = mesh.identity("shop", "orders").await;
    let mut sidecar = mesh.watch(&orders, "orders").await;
    assert_eq!(sidecar.policy().await.revision, second);
    assert!(mesh.status()["policy"]["branchMoved"].is_null());

    mesh.git(&["reset", "--quiet", "--hard", &first]);
    assert_eq!(sidecar.policy().await.revision, first);
    let moved = |how: &str, from: &str, to: &str| {
        let moved = mesh.status()["policy"]["branchMoved"].clone();
        moved["how"] == how && moved["from"] == from && moved["to"] == to
    };
    eventually("the rollback is told", || {
        moved("rollback", &second, &first)
    })
    .await;

    let third = mesh.commit(&POLICY.replace("shop/web", "shop/partner"));
    assert_eq!(sidecar.policy().await.revision, third);
    mesh.git(&["reset", "--quiet", "--hard", &first]);
    // In one step from `third` to a sibling of it.
    let sibling = mesh.git(&["commit-tree", "-p", &first, "-m", "sibling", "HEAD^{tree}"]);
    mesh.git(&["update-ref", "refs/heads/main", &sibling]);
    eventually("the last commit is in force", || {
        mesh.status()["policy"]["revision"] == sibling.as_str()
    })
    .await;
    let log = control.stderr().unwrap();
    assert!(log.contains("the policy's branch was rolled back"), "{log}");
    assert!(metric(&mesh, "policy_branch_rollbacks_total") >= 1.0);
}

#[tokio::test]
async fn a_force_push_of_a_remote_is_followed_and_told() {
    let mesh = Mesh::with("repository: \"file://{}/policy\", interval: 100ms").await;
    mesh.commit(POLICY);
    let one = mesh.commit(&POLICY.replace("shop/web", "shop/one"));
    let control = mesh.start_control();
    mesh.until_ready().await;
    let orders = mesh.identity("shop", "orders").await;
    let mut sidecar = mesh.watch(&orders, "orders").await;
    assert_eq!(sidecar.policy().await.revision, one);

    mesh.write_policy("orders.yaml", &POLICY.replace("shop/web", "shop/two"));
    mesh.git(&["commit", "--quiet", "--all", "--amend", "--message=other"]);
    let two = mesh.git(&["rev-parse", "HEAD"]);
    assert_eq!(sidecar.policy().await.revision, two);
    eventually("the force-push is told", || {
        let moved = mesh.status()["policy"]["branchMoved"].clone();
        moved["how"] == "force-push" && moved["from"] == one.as_str() && moved["to"] == two.as_str()
    })
    .await;
    let log = control.stderr().unwrap();
    assert!(
        log.contains("the policy's branch was force-pushed"),
        "{log}"
    );
    assert!((metric(&mesh, "policy_branch_force_pushes_total") - 1.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn a_remote_that_is_down_is_told_with_its_age_until_it_is_back() {
    let mesh = Mesh::with("repository: \"file://{}/policy\", interval: 100ms").await;
    let first = mesh.commit(POLICY);
    let control = mesh.start_control();
    mesh.until_ready().await;
    let orders = mesh.identity("shop", "orders").await;
    let mut sidecar = mesh.watch(&orders, "orders").await;
    assert_eq!(sidecar.policy().await.revision, first);
    let failing_since = "policy_source_failing_since_timestamp_seconds";
    assert!(metric(&mesh, failing_since) < 1.0);

    fs::rename(mesh.path("policy"), mesh.path("down")).unwrap();
    eventually("it is tried again", || {
        mesh.status()["policy"]["sourceFailing"]["attempts"].as_u64() >= Some(3)
    })
    .await;
    let policy = mesh.status()["policy"].clone();
    assert_eq!(policy["revision"], first.as_str());
    assert!(policy["ageSeconds"].is_u64(), "{policy}");
    assert!(policy["sourceFailing"]["seconds"].is_u64(), "{policy}");
    let time = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    assert!(
        time(&policy["sourceReachedAt"]) <= time(&policy["sourceFailing"]["since"]),
        "{policy}"
    );
    assert!(
        time(&policy["sourceFailing"]["since"]) < time(&policy["sourceFailing"]["retryAt"]),
        "{policy}"
    );
    let error = policy["sourceError"].as_str().unwrap();
    assert!(error.contains("git ls-remote failed"), "{error}");
    assert!(metric(&mesh, failing_since) > 1.0);
    assert!(metric(&mesh, "policy_source_reached_timestamp_seconds") > 1.0);
    let log = control.stderr().unwrap();
    assert!(
        log.contains("the policy's source cannot be read; the last good policy stays"),
        "{log}"
    );
    assert_eq!(mesh.ops("/ready").unwrap().0, 200);

    fs::rename(mesh.path("down"), mesh.path("policy")).unwrap();
    let second = mesh.commit(&POLICY.replace("shop/web", "shop/checkout"));
    assert_eq!(sidecar.policy().await.revision, second);
    eventually("it is well again", || {
        mesh.status()["policy"]["sourceFailing"].is_null()
    })
    .await;
    assert!(metric(&mesh, failing_since) < 1.0);
}

#[tokio::test]
async fn a_commit_that_fails_its_own_tests_does_not_reach_a_sidecar() {
    let mesh = Mesh::new().await;
    let test = "apiVersion: countersign.dev/v1
kind: PolicyTest
metadata: {name: orders}
spec:
  tests:
  - name: web takes orders
    call: {peer: shop/web, destination: {namespace: shop, workload: orders, port: 8080}}
    expect: allow
";
    mesh.write_policy("orders.test.yaml", test);
    let good = mesh.commit(POLICY);
    let control = mesh.start_control();
    mesh.until_ready().await;
    let orders = mesh.identity("shop", "orders").await;
    let mut sidecar = mesh.watch(&orders, "orders").await;
    assert_eq!(sidecar.policy().await.revision, good);

    let bad = mesh.commit(&POLICY.replace("shop/web", "shop/checkout"));
    let reason = refused(&mesh, &control, &bad, &good).await;
    let expected = "tests: orders.test.yaml:6:5: the test \"web takes orders\" failed: expected allow, got deny";
    assert!(reason.starts_with(expected), "{reason}");

    mesh.write_policy(
        "orders.test.yaml",
        &test.replace("shop/web", "shop/checkout"),
    );
    let tested = mesh.commit(&POLICY.replace("shop/web", "shop/checkout"));
    assert_eq!(sidecar.policy().await.revision, tested);
}
