//! `countersign policy format` on real files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

const LAID_OUT: &str = "\
# who may call a
apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: a, namespace: shop}
spec:
  rules:
  - name: one
    action: deny  # for now
";

/// The same in another layout.
const OTHER: &str = "\
---
# who may call a
kind: AccessPolicy
apiVersion: countersign.dev/v1
metadata:
    namespace: \"shop\"
    name: a
spec: {rules: [{name: one,
    action: deny, # for now
  }]}
";

const WRONG: &str = "apiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {name: w, namespace: shop}\nspec: {rules:   []}\n";

fn format(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(["policy", "format"])
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// What is in a directory, hidden files, too.
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn check_names_what_would_change_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::create_dir(root.join("shop")).unwrap();
    fs::write(root.join("good.yaml"), LAID_OUT).unwrap();
    fs::write(
        root.join("shop/other.yaml"),
        OTHER.replace("name: a", "name: b"),
    )
    .unwrap();
    let before = fs::metadata(root.join("shop/other.yaml")).unwrap().ino();

    let (code, out, _) = told(&format(root, &["--check", "."]));
    assert_eq!(
        (code, out.as_str()),
        (
            1,
            "shop/other.yaml: has another layout\n2 files, 1 would change\n"
        )
    );
    assert_eq!(
        fs::metadata(root.join("shop/other.yaml")).unwrap().ino(),
        before
    );
    let (code, out, _) = told(&format(root, &["--check", "good.yaml"]));
    assert_eq!((code, out.as_str()), (0, "1 file, 0 would change\n"));
}

#[test]
fn files_are_replaced_whole_with_their_permissions() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let (file, link) = (root.join("a.yaml"), root.join("link.yml"));
    fs::write(&file, OTHER).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("a.yaml", &link).unwrap();

    let (code, out, _) = told(&format(root, &["link.yml", "-o", "json"]));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, json),
        (
            0,
            serde_json::json!({"files": 1, "changed": ["link.yml"], "mistakes": []})
        )
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), LAID_OUT);
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o640
    );
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(names(root), ["a.yaml", "link.yml"]);
    let (code, out, _) = told(&format(root, &["."]));
    assert_eq!((code, out.lines().last()), (0, Some("2 files, 0 changed")));
}

#[test]
fn a_file_with_mistakes_stays_as_it_is_and_the_others_do_not_wait() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let kubernetes = "apiVersion:   v1\nkind: Service\n";
    for (name, text) in [
        ("a.yaml", OTHER),
        ("k.yaml", kubernetes),
        ("w.yaml", WRONG),
        ("x.yaml", "a: [\n"),
    ] {
        fs::write(root.join(name), text).unwrap();
    }
    let (code, out, _) = told(&format(root, &["."]));
    assert_eq!(code, 1);
    assert!(
        out.contains("w.yaml:4:17: error: expected at least one of the rules"),
        "{out}"
    );
    assert!(out.contains("x.yaml:1:4: error: this is not YAML"), "{out}");
    assert!(
        out.ends_with("a.yaml: laid out\n4 files, 1 changed\n"),
        "{out}"
    );
    for (name, text) in [
        ("a.yaml", LAID_OUT),
        ("k.yaml", kubernetes),
        ("w.yaml", WRONG),
        ("x.yaml", "a: [\n"),
    ] {
        assert_eq!(fs::read_to_string(root.join(name)).unwrap(), text, "{name}");
    }
}

#[test]
fn standard_input_is_laid_out_on_standard_output() {
    let run = |text: &str, arguments: &[&str]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_countersign"))
            .args(["policy", "format", "-"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Who uses the command wrongly is told without its input being read.
        let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
        told(&child.wait_with_output().unwrap())
    };
    assert_eq!(run(OTHER, &[]), (0, LAID_OUT.to_owned(), String::new()));
    let (code, out, err) = run(WRONG, &[]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.starts_with("stdin:4:17: error: "), "{err}");
    let (code, out, _) = run(OTHER, &["--check"]);
    assert_eq!(
        (code, out.as_str()),
        (1, "stdin: has another layout\n1 file, 1 would change\n")
    );
    let (code, _, err) = run(OTHER, &["x.yaml"]);
    assert!(code == 2 && err.contains("stands alone"), "{err}");
}

/// A file of tests, laid out.
const TESTS: &str = "\
# what is decided about a
apiVersion: countersign.dev/v1
kind: PolicyTest
metadata: {name: a}
spec:
  tests:
  - name: one
    call:
      destination: {namespace: shop, workload: a, port: 80}  # any
    expect: deny
";

#[test]
fn tests_are_laid_out_beside_the_policy_and_on_standard_input() {
    let other = TESTS
        .replace(
            "kind: PolicyTest\nmetadata: {name: a}\n",
            "metadata:\n    name: 'a'\nkind: PolicyTest\n",
        )
        .replace(
            "namespace: shop, workload: a",
            "workload: a,   namespace: shop",
        );
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::write(root.join("a.yaml"), LAID_OUT).unwrap();
    fs::write(root.join("a.test.yaml"), &other).unwrap();
    let wrong = other.replace("expect: deny", "expect: no");
    fs::write(root.join("w.test.yaml"), &wrong).unwrap();
    let (code, out, _) = told(&format(root, &["--check", "."]));
    assert_eq!(code, 1);
    assert!(
        out.contains("a.test.yaml: has another layout\n3 files, 1 would change\n"),
        "{out}"
    );
    let (code, out, _) = told(&format(root, &["."]));
    assert_eq!(code, 1);
    assert!(
        out.contains("w.test.yaml:11:13: error: unknown word \"no\""),
        "{out}"
    );
    assert_eq!(fs::read_to_string(root.join("a.test.yaml")).unwrap(), TESTS);
    assert_eq!(fs::read_to_string(root.join("w.test.yaml")).unwrap(), wrong);
    let mut child = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(["policy", "format", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(other.as_bytes())
        .unwrap();
    let done = told(&child.wait_with_output().unwrap());
    assert_eq!(done, (0, TESTS.to_owned(), String::new()));
}

#[test]
fn what_cannot_be_written_is_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.yaml");
    fs::write(&file, OTHER).unwrap();
    // A process that may write files of no byte.
    let script = "trap '' XFSZ; ulimit -f 0; exec \"$0\" policy format a.yaml";
    let output = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_countersign")])
        .current_dir(directory.path())
        .output()
        .unwrap();
    let (code, _, err) = told(&output);
    assert!(
        code == 2 && err.contains("cannot write a.yaml; it is as it was"),
        "{code}: {err}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), OTHER);
    assert_eq!(names(directory.path()), ["a.yaml"]);
}
