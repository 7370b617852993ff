//! `countersign policy import istio` on real files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const ISTIO: &str = r#"apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: orders, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  rules:
  - from:
    - source: {principals: [cluster.local/ns/shop/sa/web]}
    to:
    - operation: {methods: [GET], paths: ["/orders/*"]}
    when:
    - key: request.headers[x-version]
      values: [v1*]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: orders, namespace: shop}
spec: {selector: {matchLabels: {app: orders}}, portLevelMtls: {8080: {mode: DISABLE}}}
"#;

const OWN: &str = r#"# AuthorizationPolicy of Istio, istio.yaml:1
apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: orders, namespace: shop}
spec:
  target: {labels: {app: orders}}
  rules:
  # istio.yaml:7
  - name: rule 1
    action: allow
    from: [{workload: shop/web}]
    to: [{methods: [GET], paths: ["/orders/", "/orders/*/**"]}]
    when: 'request != null && like(lookup(request, ["headers", "x-version"]), ["v1*"])'
---
# PeerAuthentication of Istio, istio.yaml:15
apiVersion: countersign.dev/v1
kind: MeshMode
metadata: {name: orders, namespace: shop}
spec:
  target: {labels: {app: orders}}
  ports: {"8080": permissive}
"#;

fn countersign(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn istios_policy_is_written_in_own_kinds_and_is_policy_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("istio.yaml"), ISTIO).unwrap();
    let import = countersign(
        directory.path(),
        &["policy", "import", "istio", "istio.yaml"],
    );
    assert_eq!(text(&import.stdout), OWN);
    assert_eq!(import.status.code(), Some(0));
    let notes = text(&import.stderr);
    assert!(notes.contains("note: istio.yaml:18:"), "{notes}");
    assert!(
        notes.contains("what no policy is about is denied"),
        "{notes}"
    );

    // Both are policy, and say the same of a call.
    fs::write(directory.path().join("own.yaml"), &import.stdout).unwrap();
    let call = r#"{"peer":"shop/web","destination":{"namespace":"shop","workload":"orders","labels":{"app":"orders"},"port":9090},"request":{"method":"GET","path":"/orders/1","headers":{"x-version":"v12"}}}"#;
    fs::write(directory.path().join("calls"), call).unwrap();
    for policy in ["istio.yaml", "own.yaml"] {
        let decide = countersign(
            directory.path(),
            &["policy", "decide", policy, "--calls", "calls"],
        );
        let decision: Value = serde_json::from_slice(&decide.stdout).unwrap();
        assert_eq!(decision["decision"], "allow", "{decision}");
        assert_eq!(decision["rule"], "rule 1", "{decision}");
    }
}

#[test]
fn mistakes_and_nothing_to_import_are_told_on_standard_error() {
    let directory = tempfile::tempdir().unwrap();
    let custom = ISTIO.replace("spec:\n  selector", "spec:\n  action: CUSTOM\n  selector");
    fs::write(directory.path().join("istio.yaml"), custom).unwrap();
    let import = countersign(
        directory.path(),
        &["policy", "import", "istio", "istio.yaml"],
    );
    assert_eq!(
        (import.status.code(), text(&import.stdout).as_str()),
        (Some(1), "")
    );
    assert!(
        text(&import.stderr).starts_with("istio.yaml:5:11: the action CUSTOM is not supported")
    );

    let import = countersign(
        directory.path(),
        &["-o", "json", "policy", "import", "istio", "istio.yaml"],
    );
    let report: Value = serde_json::from_slice(&import.stdout).unwrap();
    assert_eq!(report["yaml"], Value::Null);
    assert_eq!(report["mistakes"][0]["line"], 5);

    fs::write(
        directory.path().join("istio.yaml"),
        "apiVersion: v1\nkind: Service\n",
    )
    .unwrap();
    let import = countersign(
        directory.path(),
        &["policy", "import", "istio", "istio.yaml"],
    );
    assert_eq!(import.status.code(), Some(1));
    assert!(text(&import.stderr).contains("no policy of Istio"));
}
