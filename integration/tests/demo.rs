//! The demo is a test: it must come out as expected, also beside another one.

#![expect(clippy::unwrap_used, reason = "all of this is a test")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The demo's program, which `cargo build --workspace` puts beside the directory of the test programs.
fn demo() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().with_file_name("shop-demo");
    assert!(
        program.exists(),
        "{} is missing: cargo build --workspace",
        program.display()
    );
    program
}

#[test]
fn two_demos_at_once_come_out_as_expected() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let running: Vec<_> = (0..2)
        .map(|_| {
            let demo = Command::new(demo())
                .current_dir(root)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            std::thread::spawn(|| demo.wait_with_output().unwrap())
        })
        .collect();
    for demo in running {
        let output = demo.join().unwrap();
        let account = String::from_utf8(output.stdout).unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{account}\n{complaints}");
        assert!(account.contains("steps came out as expected."), "{account}");
        assert!(
            !account.contains('\u{1b}'),
            "coloured, and not on a terminal:\n{account}"
        );
    }
}

#[test]
fn without_an_example_there_is_no_demo() {
    let nowhere = tempfile::tempdir().unwrap();
    let output = Command::new(demo())
        .current_dir(nowhere.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(complaints.contains("examples/shop/policy"), "{complaints}");
}
