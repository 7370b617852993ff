//! `countersign cert issue` and `countersign token verify` with a CA over mutual TLS, and with an OpenID provider and a CI
//! service over HTTP.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

#[path = "issue/ca.rs"]
mod ca;
#[path = "issue/provider.rs"]
mod provider;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use ca::{Ca, ORDERS};
use provider::Provider;
use serde_json::Value;
use tempfile::TempDir;

struct Place {
    directory: TempDir,
    ca: Ca,
}

struct Done {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ca = Ca::start();
        fs::write(directory.path().join("roots.pem"), ca.roots()).unwrap();
        Self { directory, ca }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn countersign(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Done {
        let output = Command::new(env!("CARGO_BIN_EXE_countersign"))
            .args(arguments)
            .current_dir(&self.directory)
            .env_remove("ACTIONS_ID_TOKEN_REQUEST_URL")
            .env_remove("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
            .env_remove("CI_JOB_JWT")
            .env_remove("CI_JOB_JWT_V2")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Done {
            status: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn issue(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Done {
        let address = self.ca.address();
        let mut all = vec!["cert", "issue", "--ca", &address, "--bundle", "roots.pem"];
        all.extend(arguments);
        self.countersign(&all, environment)
    }
}

#[test]
fn a_join_token_brings_a_certificate_and_a_key_for_its_owner_alone() {
    let place = Place::new();
    place.write("token", "join-me\n");
    let done = place.issue(
        &["--join-token-file", "token", "--out", ".", "--ttl", "10m"],
        &[],
    );
    assert_eq!(done.status, 0, "{}", done.stderr);
    assert!(
        done.stdout
            .starts_with(&format!("issued: {ORDERS}, valid for ")),
        "{}",
        done.stdout
    );
    assert_eq!(
        place.ca.asked(),
        [("join_token".to_owned(), "join-me".to_owned(), 600)]
    );
    let mode = |name: &str| fs::metadata(place.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("svid.pem"), mode("svid_key.pem")), (0o644, 0o600));

    let both = fs::read_to_string(place.path("svid.pem")).unwrap()
        + &fs::read_to_string(place.path("svid_key.pem")).unwrap();
    place.write("both.pem", &both);
    let done = place.countersign(
        &[
            "cert",
            "inspect",
            "both.pem",
            "--bundle",
            "bundle.pem",
            "-o",
            "json",
        ],
        &[],
    );
    let report: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(report["groups"][0]["private_keys"][0]["state"], "matches");
    assert_eq!(report["groups"][0]["trust"]["verified"], true);
}

#[test]
fn json_has_everything_where_no_file_is_named() {
    let place = Place::new();
    let environment = [("MY_TOKEN", "header.claims.signature")];
    let done = place.issue(&["--jwt-env", "MY_TOKEN", "-o", "json"], &environment);
    assert_eq!(done.status, 0, "{}", done.stderr);
    let issued: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(issued["spiffe_id"], ORDERS);
    for field in ["certificate", "private_key", "bundle"] {
        assert!(
            issued[field].as_str().unwrap().starts_with("-----BEGIN "),
            "{field}"
        );
    }
    assert_eq!(place.ca.asked()[0].0, "jwt");
}

#[test]
fn what_is_wrong_is_told_before_a_token_is_used() {
    let place = Place::new();
    place.write("token", "join-me");
    place.write("spaces", "no token");
    for (arguments, told) in [
        (
            &["--join-token-file", "token"][..],
            "where is the certificate to go?",
        ),
        (
            &["--join-token-file", "token", "--out", "nowhere"],
            "cannot write nowhere/",
        ),
        (
            &["--join-token-file", "spaces", "--out", "."],
            "spaces: expected a token",
        ),
        (
            &["--jwt-env", "NO_SUCH", "--out", "."],
            "NO_SUCH is not set",
        ),
        (&["--ci", "--out", "."], "id-token: write"),
        (
            &["--join-token-file", "token", "--out", ".", "--ttl", "0s"],
            "--ttl: expected",
        ),
    ] {
        let done = place.issue(arguments, &[]);
        assert_eq!(done.status, 2, "{arguments:?}");
        assert!(done.stderr.contains(told), "{arguments:?}: {}", done.stderr);
    }
    assert_eq!(place.ca.asked(), []);
}

#[test]
fn a_refusal_of_the_ca_is_told_and_writes_nothing() {
    let place = Place::new();
    place.write("token", "used-before");
    let done = place.issue(&["--join-token-file", "token", "--out", "."], &[]);
    assert_eq!(done.status, 2);
    assert!(
        done.stderr
            .contains("issues nothing: the join token is not valid"),
        "{}",
        done.stderr
    );
    assert!(!done.stderr.contains("used-before"));
    assert!(!place.path("svid.pem").exists() && !place.path("svid_key.pem").exists());
}

#[test]
fn a_ca_that_the_roots_do_not_know_gets_no_token() {
    let place = Place::new();
    let stranger = Ca::start();
    place.write("token", "join-me");
    let address = stranger.address();
    let done = place.countersign(
        &[
            "cert",
            "issue",
            "--ca",
            &address,
            "--bundle",
            "roots.pem",
            "--join-token-file",
            "token",
            "--out",
            ".",
        ],
        &[],
    );
    assert_eq!(done.status, 2);
    assert_eq!(stranger.asked(), [], "{}", done.stderr);
}

#[test]
fn a_github_job_proves_itself() {
    let place = Place::new();
    let provider = Provider::start();
    let url = format!("{}/github?api-version=2.0", provider.issuer());
    let environment = [
        ("ACTIONS_ID_TOKEN_REQUEST_URL", url.as_str()),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "of-the-job"),
    ];
    let done = place.issue(
        &["--ci", "--audience", "countersign-ca", "--out", "."],
        &environment,
    );
    assert_eq!(done.status, 0, "{}", done.stderr);
    assert_eq!(place.ca.asked()[0].1, "token.for.countersign-ca");
}

#[test]
fn a_gitlab_job_proves_itself() {
    let place = Place::new();
    let done = place.issue(&["--ci", "--out", "."], &[("CI_JOB_JWT_V2", "of.the.job")]);
    assert_eq!(done.status, 0, "{}", done.stderr);
    assert_eq!(place.ca.asked()[0].1, "of.the.job");
}

#[test]
fn a_login_on_another_device_is_waited_for() {
    let place = Place::new();
    let provider = Provider::start();
    let done = place.issue(
        &[
            "--device",
            &provider.issuer(),
            "--client-id",
            "cli",
            "--out",
            ".",
        ],
        &[],
    );
    assert_eq!(done.status, 0, "{}", done.stderr);
    assert!(done.stderr.contains("WDJB-MJHT"), "{}", done.stderr);
    assert_eq!(provider.asked_for_a_token(), 2);
    assert_eq!(place.ca.asked()[0].1, provider.token("cli"));
}

#[test]
fn tokens_are_verified_by_what_their_issuer_publishes() {
    let place = Place::new();
    let provider = Provider::start();
    let (issuer, token) = (provider.issuer(), provider.token("shop"));
    let verify = |token: &str, audience: &str, keys: &[&str]| {
        let mut arguments = vec!["token", "verify", token, "--audience", audience];
        arguments.extend(keys);
        place.countersign(&arguments, &[])
    };
    let good = verify(&token, "shop", &["--issuer", &issuer]);
    assert_eq!(good.status, 0, "{}{}", good.stdout, good.stderr);
    assert!(
        good.stdout
            .starts_with("verified: alice, by http://127.0.0.1:"),
        "{}",
        good.stdout
    );

    let other = verify(&token, "bank", &["--issuer", &issuer]);
    assert_eq!(other.status, 1);
    assert!(
        other.stdout.starts_with("not verified: "),
        "{}",
        other.stdout
    );

    place.write("keys.json", &provider.jwks());
    assert_eq!(verify(&token, "shop", &["--jwks", "keys.json"]).status, 0);
    let (start, _) = token.rsplit_once('.').unwrap();
    let forged = format!("{start}.{}", "A".repeat(86));
    let forged = verify(&forged, "shop", &["--jwks", "keys.json"]);
    assert_eq!(forged.status, 1);
    assert!(
        forged.stdout.contains("signature does not verify"),
        "{}",
        forged.stdout
    );

    let missing = verify(&token, "shop", &["--jwks", "no-such-file"]);
    assert_eq!(missing.status, 2);
}

#[test]
fn a_jwt_svid_is_verified_by_a_spiffe_bundle() {
    let place = Place::new();
    let provider = Provider::start();
    let root = place.ca.root_base64();
    let mut bundle: Value = serde_json::from_str(&provider.jwks()).unwrap();
    let keys = bundle["keys"].as_array_mut().unwrap();
    keys[0]["use"] = "jwt-svid".into();
    let (x, y) = (keys[0]["x"].clone(), keys[0]["y"].clone());
    keys.push(serde_json::json!({
        "use": "x509-svid", "kty": "EC", "crv": "P-256", "x": x, "y": y, "x5c": [root],
    }));
    place.write("bundle.json", &bundle.to_string());
    let token = provider.jwt_svid(ORDERS, "shop");
    let verify = |audience: &str| {
        place.countersign(
            &[
                "token",
                "verify",
                &token,
                "--bundle",
                "bundle.json",
                "--audience",
                audience,
                "-o",
                "json",
            ],
            &[],
        )
    };
    let done = verify("shop");
    let answer: Value =
        serde_json::from_str(&done.stdout).unwrap_or_else(|_| done.stderr.clone().into());
    assert_eq!(done.status, 0, "{answer:#}");
    assert_eq!(answer["subject"], ORDERS);
    assert_eq!(verify("bank").status, 1);
}
