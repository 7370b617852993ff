use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::testing::{TestRepository, main_branch};

fn local(repository: &TestRepository) -> Repository {
    Repository::Local(repository.path().to_owned())
}

#[test]
fn branches_that_git_could_misread_are_refused() {
    for good in ["main", "release/2026.11", "a-b_c+d", "user@host"] {
        assert_eq!(
            good.parse::<Branch>().unwrap().reference(),
            format!("refs/heads/{good}")
        );
    }
    let long = "x".repeat(201);
    for bad in [
        "",
        "-upload-pack=x",
        "a/-b",
        "..",
        "a..b",
        "/a",
        "a/",
        "a//b",
        ".a",
        "a/.b",
        "a.",
        "a.lock",
        "a.LOCK/b",
        "a b",
        "a~1",
        "a^",
        "a:b",
        "a?",
        "a*",
        "a[",
        "a\\b",
        "a\nb",
        "@",
        "a@{b}",
        "é",
        &long,
    ] {
        assert!(bad.parse::<Branch>().is_err(), "{bad:?}");
    }
}

#[test]
fn repositories_are_paths_or_protected_urls() {
    let remote = |text: &str| matches!(text.parse::<Repository>().unwrap(), Repository::Remote(_));
    for text in [
        "https://git.example/p.git",
        "ssh://git@git.example/p",
        "file:///p",
        "git@git.example:p.git",
    ] {
        assert!(remote(text), "{text}");
    }
    for text in ["/policy", "policy", "./host:path", "/a:b"] {
        assert!(!remote(text), "{text}");
    }
    let refused = |text: &str| text.parse::<Repository>().unwrap_err().to_string();
    assert!(refused("http://git.example/p").contains("use https or ssh"));
    assert!(refused("git://git.example/p").contains("use https or ssh"));
    assert!(refused("ext::sh -c date").contains("\"ext::\""));
    assert!(refused("ftp://git.example/p").contains("\"ftp\""));
    assert!(refused("--upload-pack=x").contains("as an option"));
    assert!(refused("").contains("got nothing"));
}

#[test]
fn a_url_is_shown_without_its_password() {
    let repository: Repository = "https://user:se@cret@git.example/p.git".parse().unwrap();
    assert_eq!(repository.to_string(), "https://…@git.example/p.git");
    assert!(!format!("{repository:?}").contains("cret"));
    let error = GitError::Failed {
        command: "fetch".to_owned(),
        status: ExitStatus::default(),
        stderr: "fatal: unable to access 'https://user:se@cret@git.example/p.git': refused"
            .to_owned(),
    };
    let shown = repository.redact(error).to_string();
    assert!(
        shown.contains("'https://…@git.example/p.git': refused"),
        "{shown}"
    );
}

#[tokio::test]
async fn the_tip_is_the_branchs_commit_loose_or_packed() {
    let repository = TestRepository::new();
    let git = Git::default();
    let missing = git
        .tip(&local(&repository), &main_branch())
        .await
        .unwrap_err();
    assert!(matches!(missing, GitError::NoBranch { .. }), "{missing}");
    let commit = repository.commit();
    // A reference whose name ends like the branch's is another's.
    repository.git(["update-ref", "refs/tags/refs/heads/main", "HEAD^{tree}"]);
    assert_eq!(
        git.tip(&local(&repository), &main_branch())
            .await
            .unwrap()
            .as_str(),
        commit
    );
    repository.git(["pack-refs", "--all"]);
    assert!(!repository.file(".git/refs/heads/main").exists());
    assert_eq!(
        git.tip(&local(&repository), &main_branch())
            .await
            .unwrap()
            .as_str(),
        commit
    );
    let url = Repository::Remote(format!("file://{}", repository.path().display()));
    assert_eq!(
        git.tip(&url, &main_branch()).await.unwrap().as_str(),
        commit
    );
}

#[tokio::test]
async fn without_git_the_error_says_what_to_install() {
    let git = Git::at("git-that-is-not-installed");
    let error = git
        .tip(&Repository::Local("/".into()), &main_branch())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("\"git-that-is-not-installed\" was not found"),
        "{error}"
    );
    assert!(error.contains("apt install git"), "{error}");
}

/// A program in git's place that does what `script` says.
fn program(directory: &tempfile::TempDir, script: &str) -> Git {
    let path = directory.path().join("git");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    Git::at(path)
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let git = program(&directory, "exec sleep 1000");
    let error = git
        .run(Call::new("fetch").limit(Duration::from_millis(50)))
        .await
        .unwrap_err();
    assert!(matches!(error, GitError::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn a_command_is_stopped_with_all_that_it_started() {
    let directory = tempfile::tempdir().unwrap();
    let alive = directory.path().join("alive");
    nix::unistd::mkfifo(&alive, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let git = program(
        &directory,
        &format!("(echo up; sleep 1000) > '{}' & wait", alive.display()),
    );
    let (up, is_up) = tokio::sync::oneshot::channel();
    let reader = tokio::task::spawn_blocking(move || {
        let mut pipe = BufReader::new(File::open(alive).unwrap());
        pipe.read_line(&mut String::new()).unwrap();
        up.send(()).unwrap();
        // The end of file comes when nobody holds the pipe any more.
        pipe.read_to_end(&mut Vec::new()).unwrap();
    });
    tokio::select! {
        result = git.run(Call::new("fetch")) => panic!("ended by itself: {result:?}"),
        _ = is_up => {}
    }
    reader.await.unwrap();
}

#[tokio::test]
async fn a_command_that_writes_without_end_is_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let git = program(&directory, "yes");
    let error = git
        .run(Call::new("ls-tree").output_limit(1000))
        .await
        .unwrap_err();
    assert!(
        matches!(error, GitError::TooMuch { limit: 1000, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_failure_tells_what_git_said() {
    let directory = tempfile::tempdir().unwrap();
    let git = program(&directory, "echo 'fatal: repository is gone' >&2; exit 128");
    let error = git
        .tip(&Repository::Local("/".into()), &main_branch())
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "git ls-remote failed (exit status: 128): fatal: repository is gone"
    );
}
