//! The example of a policy repository: its hook and its recipes are run as they are, by git and with the real command.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use countersign_integration::programs::program;

const ORDERS: &str = "shop/orders.yaml";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn example(name: &str) -> String {
    let path = root().join("examples/policy-repository").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A clone of the example, with the hook in place and everything committed once.
struct Clone {
    directory: tempfile::TempDir,
}

impl Clone {
    fn new() -> Self {
        let clone = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        let files = root().join("examples/policy-repository/.");
        let copied = Command::new("cp")
            .arg("-R")
            .args([files.as_path(), &clone.path("")])
            .status();
        assert!(copied.unwrap().success());
        clone.git(&["init", "--quiet", "--initial-branch=main"]);
        clone.git(&["config", "core.hooksPath", "hooks"]);
        let (passed, told) = clone.commit(&[]);
        assert!(passed, "{told}");
        clone
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn replace(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{name} has no {from:?}");
        fs::write(self.path(name), text.replace(from, to)).unwrap();
    }

    /// A program that finds `countersign`.
    fn command(&self, name: &str) -> Command {
        let binary = program("countersign").unwrap();
        let mut path = vec![binary.parent().unwrap().to_owned()];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        let mut command = Command::new(name);
        command
            .current_dir(self.directory.path())
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("COUNTERSIGN_TRUST_DOMAIN", "shop.example")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        command
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = self.command("git").args(arguments).output().unwrap();
        let (passed, told) = outcome(&output);
        assert!(passed, "git {arguments:?}: {told}");
        told.trim().to_owned()
    }

    /// Commits everything; whether the hook let it pass, and all that was told.
    fn commit(&self, variables: &[(&str, &str)]) -> (bool, String) {
        self.git(&["add", "--all"]);
        self.commit_staged(variables)
    }

    fn commit_staged(&self, variables: &[(&str, &str)]) -> (bool, String) {
        let mut command = self.command("git");
        command.args(["-c", "user.name=Test", "-c", "user.email=test@example.org"]);
        command.args(["-c", "commit.gpgSign=false", "commit", "--message=test"]);
        outcome(&command.envs(variables.iter().copied()).output().unwrap())
    }

    /// The hook stops everything that is changed now, and says this; the change is undone.
    fn stopped(&self, says: &[&str]) {
        let (passed, told) = self.commit(&[]);
        assert!(!passed, "{told}");
        for says in says {
            assert!(told.contains(says), "no {says:?} in:\n{told}");
        }
        self.git(&["reset", "--quiet", "--hard"]);
    }

    /// Runs a script as continuous integration does.
    fn script(&self, script: &str, variables: &[(&str, &str)]) -> (bool, String) {
        let mut command = self.command("sh");
        command.args(["-e", "-c", script]);
        outcome(&command.envs(variables.iter().copied()).output().unwrap())
    }
}

fn outcome(output: &Output) -> (bool, String) {
    let told = [output.stdout.as_slice(), &output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&told).into_owned(),
    )
}

#[test]
fn the_hook_stops_what_is_not_good_and_says_why() {
    let clone = Clone::new();
    clone.replace(ORDERS, "action: deny", "action: dny");
    clone.stopped(&["shop/orders.yaml:13:13: ", "what failed: check"]);

    // Another caller: the tests notice.
    clone.replace(ORDERS, "shop/web", "shop/app");
    clone.stopped(&["web takes orders", "what failed: test"]);

    clone.replace(ORDERS, "{ports: [8080],", "{ports:   [8080],");
    clone.stopped(&["shop/orders.yaml", "what failed: format"]);
}

#[test]
fn the_hook_lets_in_more_only_where_that_is_said() {
    let clone = Clone::new();
    clone.replace(ORDERS, "[POST]", "[POST, PUT]");
    let (passed, told) = clone.commit(&[]);
    assert!(!passed && told.contains("commit with WIDEN=1"), "{told}");
    let (passed, told) = clone.commit(&[("WIDEN", "1")]);
    assert!(passed, "{told}");
    // Less than before needs no word.
    clone.replace(ORDERS, "[POST, PUT]", "[POST]");
    let (passed, told) = clone.commit(&[]);
    assert!(passed, "{told}");
}

#[test]
fn the_hook_judges_what_is_committed_and_not_what_lies_there() {
    let clone = Clone::new();
    let good = clone.read(ORDERS);
    clone.replace(ORDERS, "action: deny", "action: dny");
    clone.git(&["add", "--all"]);
    fs::write(clone.path(ORDERS), &good).unwrap();
    let (passed, told) = clone.commit_staged(&[]);
    assert!(!passed && told.contains("what failed: check"), "{told}");

    clone.git(&["reset", "--quiet", "--hard"]);
    fs::write(clone.path("README.md"), "changed\n").unwrap();
    clone.git(&["add", "--all"]);
    clone.replace(ORDERS, "action: deny", "action: dny");
    let (passed, told) = clone.commit_staged(&[]);
    assert!(passed, "{told}");
}

#[test]
fn without_the_command_the_hook_says_what_to_do() {
    let clone = Clone::new();
    fs::write(clone.path("README.md"), "changed\n").unwrap();
    let (passed, told) = clone.commit(&[("COUNTERSIGN", "countersign-that-is-not-there")]);
    assert!(!passed, "{told}");
    assert!(
        told.contains("countersign-that-is-not-there was not found"),
        "{told}"
    );
}

/// What the recipe for GitLab runs, one command a line.
fn gitlab() -> String {
    let recipe = example(".gitlab-ci.yml");
    let (_, script) = recipe.split_once("  script:\n").unwrap();
    let (script, _) = script.split_once("  artifacts:\n").unwrap();
    let lines = script
        .lines()
        .map(|line| line.strip_prefix("  - ").unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// What the recipe for GitHub runs of the command, one a line.
fn github() -> String {
    let recipe = example(".github/workflows/policy.yaml");
    let lines = recipe
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("- run: countersign "));
    let commands: Vec<_> = lines.map(|line| format!("countersign {line}")).collect();
    assert_eq!(commands.len(), 4, "{commands:?}");
    commands.join("\n")
}

#[test]
fn the_recipes_pass_what_is_good_and_stop_what_lets_in_more() {
    let clone = Clone::new();
    let before = clone.git(&["rev-parse", "HEAD"]);
    clone.git(&["update-ref", "refs/remotes/origin/main", &before]);
    let gitlab_labels = |labels| {
        [
            ("CI_MERGE_REQUEST_DIFF_BASE_SHA", before.as_str()),
            ("CI_MERGE_REQUEST_LABELS", labels),
        ]
    };
    let github_option = |option| [("GITHUB_BASE_REF", "main"), ("WIDENING", option)];
    let passes = |script: &str, variables: &[(&str, &str)]| {
        let (passed, told) = clone.script(script, variables);
        assert!(passed, "{told}");
    };
    let stops = |script: &str, variables: &[(&str, &str)]| {
        let (passed, told) = clone.script(script, variables);
        assert!(!passed && told.contains("PUT"), "{told}");
    };
    passes(&gitlab(), &gitlab_labels(""));
    passes(&github(), &github_option("--fail-on-widening"));
    assert!(clone.read("policy-tests.xml").contains("web takes orders"));

    clone.replace(ORDERS, "[POST]", "[POST, PUT]");
    clone.commit(&[("WIDEN", "1")]);
    stops(&gitlab(), &gitlab_labels("docs,bug"));
    stops(&github(), &github_option("--fail-on-widening"));
    passes(&gitlab(), &gitlab_labels("bug,widens"));
    passes(&github(), &github_option(" "));
}

#[test]
fn the_documentation_has_the_recipes_as_they_are() {
    let page = fs::read_to_string(root().join("docs/policy-in-git.md")).unwrap();
    for recipe in [".github/workflows/policy.yaml", ".gitlab-ci.yml"] {
        let block = format!("```yaml\n{}```\n", example(recipe));
        assert!(
            page.contains(&block),
            "{recipe} is not in the page as it is"
        );
    }
}
