use std::os::unix::fs::{PermissionsExt, symlink};

use countersign_policy::files::FILE_LIMIT;

use super::*;
use crate::testing::{TestRepository, main_branch};

struct Fixture {
    repository: TestRepository,
    mirror: Mirror,
    state: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let mirror = Mirror::new(Git::default(), state.path());
        Self {
            repository: TestRepository::new(),
            mirror,
            state,
        }
    }

    async fn fetch(&self) -> Result<CommitId, GitError> {
        let source = Repository::Local(self.repository.path().to_owned());
        let tip = self.mirror.git.tip(&source, &main_branch()).await.unwrap();
        self.mirror.fetch(&source, &main_branch(), &tip).await
    }

    async fn files(&self) -> PolicyFiles {
        self.mirror
            .files(&self.fetch().await.unwrap())
            .await
            .unwrap()
    }
}

fn mistakes(files: &PolicyFiles) -> Vec<String> {
    files.mistakes.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn reads_the_policy_files_of_the_commit_and_nothing_of_the_work_tree() {
    let fixture = Fixture::new();
    fixture.repository.write("shop/orders.yaml", "orders: ä\n");
    fixture.repository.write("a b\tc.yml", "");
    fixture.repository.write("README.md", "not policy");
    fixture.repository.write("shop/orders.test.yaml", "a test");
    fixture
        .repository
        .write("kustomization.yaml", "resources: [shop/orders.yaml]");
    fixture
        .repository
        .write(".github/workflows/ci.yaml", "not policy");
    let commit = fixture.repository.commit();
    fixture
        .repository
        .write("shop/orders.yaml", "not committed");
    assert_eq!(fixture.fetch().await.unwrap().as_str(), commit);
    let files = fixture.files().await;
    assert_eq!(mistakes(&files), [""; 0]);
    let expected = [("a b\tc.yml", ""), ("shop/orders.yaml", "orders: ä\n")];
    assert_eq!(
        files.files,
        expected.map(|(path, text)| (path.to_owned(), text.to_owned()))
    );
    let test = ("shop/orders.test.yaml".to_owned(), "a test".to_owned());
    assert_eq!(files.tests, [test]);
    assert_eq!(files.notes.len(), 1, "{:?}", files.notes);
}

#[tokio::test]
async fn a_repository_without_policy_has_no_files() {
    let fixture = Fixture::new();
    fixture.repository.commit();
    assert_eq!(fixture.files().await, PolicyFiles::default());
}

#[tokio::test]
async fn links_and_submodules_named_like_policy_are_mistakes() {
    let fixture = Fixture::new();
    symlink("/etc/passwd", fixture.repository.file("link.yaml")).unwrap();
    symlink("../../outside", fixture.repository.file("other-link")).unwrap();
    let commit = fixture.repository.commit();
    let entry = format!("160000,{commit},module.yaml");
    fixture
        .repository
        .git(["update-index", "--add", "--cacheinfo", &entry]);
    fixture
        .repository
        .git(["commit", "--quiet", "--message=submodule"]);
    let files = fixture.files().await;
    assert_eq!(files.files, []);
    assert_eq!(
        mistakes(&files),
        [
            "link.yaml: expected a file, this is a symbolic link, and links are not followed",
            "module.yaml: expected a file, this has the mode 160000 (a submodule?)",
        ]
    );
}

#[tokio::test]
async fn a_huge_file_is_a_mistake_and_is_not_read() {
    let fixture = Fixture::new();
    fixture
        .repository
        .write("huge.yaml", vec![b'#'; 1 + FILE_LIMIT as usize]);
    fixture.repository.write("small.yaml", "small");
    fixture.repository.commit();
    let files = fixture.files().await;
    assert_eq!(files.files, [("small.yaml".to_owned(), "small".to_owned())]);
    assert_eq!(
        mistakes(&files),
        [
            "huge.yaml: expected a file of at most 1048576 bytes (1 MiB), this one has 1048577: split it, documents may be in as many files as you like"
        ]
    );
}

#[tokio::test]
async fn a_tree_with_dot_dot_is_refused_by_the_fetch() {
    let fixture = Fixture::new();
    fixture.repository.write("x.yaml", "x");
    fixture.repository.commit();
    // Git makes no such tree by itself; hash-object writes it as it is.
    let blob = fixture.repository.git(["rev-parse", "HEAD:x.yaml"]);
    let mut tree = b"100644 ../../escape.yaml\0".to_vec();
    tree.extend(hex::decode(&blob).unwrap());
    fixture.repository.write("tree", &tree);
    let tree = fixture
        .repository
        .git(["hash-object", "-w", "-t", "tree", "--literally", "tree"]);
    let commit = fixture
        .repository
        .git(["commit-tree", "-m", "hostile", &tree]);
    fixture
        .repository
        .git(["update-ref", "refs/heads/main", &commit]);
    let error = fixture.fetch().await.unwrap_err().to_string();
    assert!(
        error.contains("fullPathname") || error.contains("full pathname"),
        "{error}"
    );
    assert!(!fixture.state.path().join("escape.yaml").exists());
}

#[tokio::test]
async fn a_force_push_and_a_shallow_source_are_followed() {
    let fixture = Fixture::new();
    fixture.repository.write("a.yaml", "one");
    fixture.repository.commit();
    fixture.repository.write("a.yaml", "two");
    let second = fixture.repository.commit();
    assert_eq!(fixture.fetch().await.unwrap().as_str(), second);
    fixture
        .repository
        .git(["reset", "--quiet", "--hard", "HEAD^"]);
    fixture.repository.write("a.yaml", "three");
    let third = fixture.repository.commit();
    assert_eq!(fixture.fetch().await.unwrap().as_str(), third);
    assert_eq!(
        fixture.files().await.files,
        [("a.yaml".to_owned(), "three".to_owned())]
    );

    let clone = TestRepository::new();
    let url = format!("file://{}", fixture.repository.path().display());
    clone.git(["fetch", "--quiet", "--depth=1", &url, "main"]);
    clone.git(["update-ref", "refs/heads/main", "FETCH_HEAD"]);
    let shallow = Fixture {
        repository: clone,
        ..fixture
    };
    assert_eq!(shallow.fetch().await.unwrap().as_str(), third);
}

#[tokio::test]
async fn repositories_with_sha256_names_are_followed() {
    let fixture = Fixture::new();
    fs::remove_dir_all(fixture.repository.file(".git")).unwrap();
    fixture.repository.git([
        "init",
        "--quiet",
        "--initial-branch=main",
        "--object-format=sha256",
    ]);
    fixture.repository.write("a.yaml", "x");
    let commit = fixture.repository.commit();
    assert_eq!(commit.len(), 64);
    assert_eq!(fixture.fetch().await.unwrap().as_str(), commit);
    assert_eq!(
        fixture.files().await.files,
        [("a.yaml".to_owned(), "x".to_owned())]
    );
}

#[tokio::test]
async fn nothing_that_a_repository_holds_is_run() {
    let fixture = Fixture::new();
    fixture.repository.write("a.yaml", "x");
    let trap = fixture.repository.file("sprung");
    let script = format!("#!/bin/sh\ntouch '{}'\n", trap.display());
    for hook in [
        "pre-receive",
        "post-update",
        "reference-transaction",
        "post-checkout",
        "pre-auto-gc",
    ] {
        let path = format!(".git/hooks/{hook}");
        fixture.repository.write(&path, &script);
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(fixture.repository.file(&path), mode).unwrap();
    }
    fixture.repository.write("trap.sh", &script);
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(fixture.repository.file("trap.sh"), mode).unwrap();
    fixture
        .repository
        .write(".gitattributes", "*.yaml filter=trap diff=trap\n");
    fixture
        .repository
        .git(["-c", "core.hooksPath=/dev/null", "add", "--all"]);
    fixture.repository.git([
        "-c",
        "core.hooksPath=/dev/null",
        "commit",
        "--quiet",
        "--message=trap",
    ]);
    let run = fixture.repository.file("trap.sh").display().to_string();
    for setting in [
        "filter.trap.smudge",
        "diff.trap.textconv",
        "core.fsmonitor",
        "uploadpack.packObjectsHook",
    ] {
        fixture.repository.git(["config", setting, &run]);
    }
    let files = fixture.files().await;
    assert_eq!(files.files, [("a.yaml".to_owned(), "x".to_owned())]);
    assert!(
        !trap.exists(),
        "the repository made the reader run something"
    );
}

#[tokio::test]
async fn a_damaged_mirror_is_made_anew() {
    let fixture = Fixture::new();
    fixture.repository.write("a.yaml", "x");
    let commit = fixture.repository.commit();
    fixture.fetch().await.unwrap();
    let mirror = fixture.state.path().join("policy.sha1.git");
    fs::write(mirror.join("shallow.lock"), "").unwrap();
    fixture.repository.write("a.yaml", "y");
    let next = fixture.repository.commit();
    assert_ne!(commit, next);
    assert!(fixture.fetch().await.is_err());
    assert_eq!(fixture.fetch().await.unwrap().as_str(), next);
    assert_eq!(
        fixture.files().await.files,
        [("a.yaml".to_owned(), "y".to_owned())]
    );
}
