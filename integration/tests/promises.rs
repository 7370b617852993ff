//! `docs/promises.md` names, for each promise, the tests and benchmarks that show it: do they exist?

#![expect(clippy::unwrap_used, clippy::panic, reason = "all of this is a test")]

use std::{fs, path::Path};

/// A promise and what shows it: (`path`, `function`).
type Promise = (String, Vec<(String, String)>);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rows of the tables, without heads: `| promise | `path::function` … |`.
fn promises(text: &str) -> Vec<Promise> {
    text.lines()
        .filter_map(|line| {
            line.strip_prefix("| ")?
                .strip_suffix(" |")?
                .split_once(" | ")
        })
        .filter(|(promise, _)| *promise != "promise" && !promise.starts_with("---"))
        .map(|(promise, shown_by)| {
            let tests = shown_by
                .split('`')
                .skip(1)
                .step_by(2)
                .map(|name| {
                    let (path, function) = name
                        .split_once("::")
                        .unwrap_or_else(|| panic!("{promise:?}: `{name}` is not path::function"));
                    (path.to_owned(), function.to_owned())
                })
                .collect();
            (promise.to_owned(), tests)
        })
        .collect()
}

#[test]
fn every_promise_has_a_test_that_exists() {
    let promises = promises(&read("docs/promises.md"));
    assert!(
        promises.len() >= 20,
        "only {} promises were read: has the table changed?",
        promises.len()
    );
    let mut missing = Vec::new();
    for (promise, tests) in &promises {
        if tests.is_empty() {
            missing.push(format!("{promise}: nothing shows it"));
        }
        for (path, function) in tests {
            let there = fs::read_to_string(root().join(path))
                .is_ok_and(|source| source.contains(&format!("fn {function}(")));
            if !there {
                missing.push(format!("{promise}: {path} has no fn {function}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn the_readme_says_what_is_not_there_yet() {
    let readme = read("README.md");
    let (_, rest) = readme
        .split_once("\n## Not yet\n")
        .expect("a section `Not yet`");
    let section = rest.split("\n## ").next().unwrap();
    assert!(
        section.lines().any(|line| line.starts_with("- ")),
        "it lists nothing"
    );
}

#[test]
fn every_link_of_the_documentation_leads_somewhere() {
    let mut broken = Vec::new();
    for page in [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "docs/architecture.md",
        "docs/ca-threat-model.md",
        "docs/identity.md",
        "docs/promises.md",
        "docs/security.md",
        "examples/shop/README.md",
    ] {
        let directory = root().join(page);
        let directory = directory.parent().unwrap();
        for link in read(page)
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'))
        {
            let target = link.0.split('#').next().unwrap();
            if !target.is_empty() && !target.contains("://") && !directory.join(target).exists() {
                broken.push(format!("{page}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// What the pages say about the code names files: are they there?
#[test]
fn every_file_that_the_documentation_names_is_there() {
    let crates = [
        "identity",
        "policy",
        "api",
        "ca",
        "control",
        "proxy",
        "cli",
        "integration",
    ];
    let mut missing = Vec::new();
    for page in [
        "docs/architecture.md",
        "docs/ca-threat-model.md",
        "docs/identity.md",
        "docs/security.md",
    ] {
        for name in read(page).split('`').skip(1).step_by(2) {
            let is_path = name
                .split_once('/')
                .is_some_and(|(first, _)| crates.contains(&first));
            if is_path && !name.contains(['<', ' ']) && !root().join(name).exists() {
                missing.push(format!("{page}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn rows_of_the_table_are_read() {
    let text = "| promise | shown by |\n| --- | --- |\n| a thing | `a/b.rs::c`, `d.rs::e` |\n";
    let tests = vec![
        ("a/b.rs".to_owned(), "c".to_owned()),
        ("d.rs".to_owned(), "e".to_owned()),
    ];
    assert_eq!(promises(text), [("a thing".to_owned(), tests)]);
}
