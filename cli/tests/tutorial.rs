//! The tutorial runs as it is written: its files are written, its commands run in one shell, and what they print is compared.
//!
//! A block with a title (`yaml title="path"`) is a file. A block `console` has commands (`$ …`) with what they print; `[..]` in a line
//! stands for what differs from run to run, such as a commit's ID.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where it cannot go on"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const TUTORIAL: &str = include_str!("../../docs/tutorial.md");
/// Ends what a command prints; nothing prints it by chance.
const MARKER: &str = "\u{1}end of command\u{1}";

enum Step {
    File {
        path: String,
        text: String,
    },
    Command {
        line: usize,
        command: String,
        expected: String,
    },
}

fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = TUTORIAL.lines().zip(1..);
    while let Some((line, _)) = lines.next() {
        let Some(language) = line.strip_prefix("```") else {
            continue;
        };
        let block: Vec<(&str, usize)> = lines.by_ref().take_while(|(l, _)| *l != "```").collect();
        if let Some((_, title)) = language.split_once(" title=") {
            steps.push(Step::File {
                path: title.trim_matches('"').to_owned(),
                text: block.iter().map(|(line, _)| format!("{line}\n")).collect(),
            });
        } else if language == "console" {
            for (line, number) in block {
                match (line.strip_prefix("$ "), steps.last_mut()) {
                    (Some(command), _) => steps.push(Step::Command {
                        line: number,
                        command: command.to_owned(),
                        expected: String::new(),
                    }),
                    (None, Some(Step::Command { expected, .. })) => {
                        writeln!(expected, "{line}").unwrap();
                    }
                    _ => panic!("docs/tutorial.md:{number}: a console block begins with a command"),
                }
            }
        }
    }
    steps
}

/// One shell script of it, in which the exit status of a command reaches the next.
fn script(steps: &[Step], directory: &Path) -> String {
    let mut script = String::new();
    for (step, number) in steps.iter().zip(0..) {
        match step {
            Step::File { path, text } => {
                let kept = directory.join(format!("step-{number}"));
                fs::write(&kept, text).unwrap();
                writeln!(
                    script,
                    "mkdir -p \"$(dirname '{path}')\"; cp '{}' '{path}'; status=$?",
                    kept.display()
                )
                .unwrap();
            }
            Step::Command { command, .. } => {
                writeln!(
                    script,
                    "(exit $status)\n{command}\nstatus=$?\nprintf '%s\\n' '{MARKER}'"
                )
                .unwrap();
            }
        }
    }
    script
}

fn is_as_expected(expected: &str, printed: &str) -> bool {
    let line_is = |(expected, printed): (&str, &str)| match expected.split_once("[..]") {
        None => expected == printed,
        Some((before, after)) => printed
            .strip_prefix(before)
            .is_some_and(|rest| rest.ends_with(after)),
    };
    expected.lines().count() == printed.lines().count()
        && expected.lines().zip(printed.lines()).all(line_is)
}

#[test]
fn the_tutorial_runs_as_it_is_written() {
    let kept = tempfile::tempdir().unwrap();
    let work = tempfile::tempdir().unwrap();
    let steps = steps();
    assert!(steps.len() > 10, "the tutorial has lost its steps");
    let script_file = kept.path().join("script");
    fs::write(
        &script_file,
        format!("exec 2>&1\nstatus=0\n{}", script(&steps, kept.path())),
    )
    .unwrap();
    let command = Path::new(env!("CARGO_BIN_EXE_countersign"));
    let path = format!(
        "{}:{}",
        command.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let output = Command::new("bash")
        .arg(&script_file)
        .current_dir(work.path())
        .env_clear()
        .env("PATH", path)
        .env("HOME", work.path())
        .env("LC_ALL", "C.UTF-8")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "you")
        .env("GIT_AUTHOR_EMAIL", "you@shop.example")
        .env("GIT_COMMITTER_NAME", "you")
        .env("GIT_COMMITTER_EMAIL", "you@shop.example")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let end = format!("{MARKER}\n");
    let mut printed = printed.split(&end);
    let mut wrong = String::new();
    for step in &steps {
        if let Step::Command {
            line,
            command,
            expected,
        } = step
        {
            let printed = printed.next().unwrap_or_default();
            if !is_as_expected(expected, printed) {
                writeln!(
                    wrong,
                    "docs/tutorial.md:{line}: $ {command}\n--- expected\n{expected}--- printed\n{printed}"
                )
                .unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
