//! `countersign cert` and `countersign token`, used wrongly: what came, what was expected, where, and what to do.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use tempfile::TempDir;

struct Place(TempDir);

impl Place {
    /// `cert.pem` and its key, `other.key`, and files with something else.
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let key = || rcgen::KeyPair::generate().unwrap();
        let own = key();
        let certificate = rcgen::CertificateParams::default()
            .self_signed(&own)
            .unwrap();
        place.write("cert.pem", &certificate.pem());
        place.write("cert.key", &own.serialize_pem());
        place.write("other.key", &key().serialize_pem());
        let request = rcgen::CertificateParams::default().serialize_request(&own);
        place.write("request.pem", &request.unwrap().pem().unwrap());
        let mut root = rcgen::CertificateParams::default();
        root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        root.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        place.write("root.pem", &root.self_signed(&key()).unwrap().pem());
        place.write("empty", "");
        place.write("text", "hello");
        place.write("spaces", "no token");
        place.write("token", "aaa.bbb.ccc\n");
        place.write("keys.json", r#"{"keys": []}"#);
        place
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    /// What the command complains of; on one line.
    #[track_caller]
    fn complaint(&self, command: &str) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_countersign"))
            .args(command.split(' '))
            .current_dir(&self.0)
            .env_remove("COUNTERSIGN_PASSWORD")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{command}: {told}");
        assert!(output.stdout.is_empty(), "{command}");
        assert_eq!(told.lines().count(), 1, "{command}: {told}");
        assert!(!told.contains("PRIVATE KEY"), "{command}: {told}");
        told
    }

    #[track_caller]
    fn tells(&self, command: &str, expected: &[&str]) {
        let told = self.complaint(command);
        for expected in expected {
            assert!(
                told.contains(expected),
                "{command}: expected {expected:?} in {told}"
            );
        }
    }
}

/// A port that nobody listens on.
fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn targets_that_are_something_else() {
    let place = Place::new();
    for (target, expected) in [
        (
            "nothing.pem",
            &[
                "nothing.pem: no such file",
                "a server is given with its port",
            ][..],
        ),
        ("https://shop.example/a", &["a URL", "shop.example:443"]),
        ("empty", &["empty: empty; expected certificates as PEM"]),
        ("text", &["text: neither PEM", "it starts with \"hello\""]),
        (
            "cert.key",
            &[
                "cert.key: no certificate in it: a private key",
                "`cat CERTIFICATE KEY |",
            ],
        ),
        (
            "request.pem",
            &["a certificate request, out of which a CA makes the certificate"],
        ),
        (
            "unix:/nowhere/api",
            &[
                "/nowhere/api: No such file",
                "is a sidecar or SPIRE agent running there?",
            ],
        ),
        (
            "nosuchhost.invalid:443",
            &["nosuchhost.invalid:443: cannot resolve the name: "],
        ),
        (
            "cert.pem --bundle nothing.pem",
            &["the trusted roots: cannot read nothing.pem: No such file"],
        ),
        (
            "cert.pem --bundle cert.key",
            &["the trusted roots: cert.key: no certificate in it"],
        ),
        (
            "cert.pem --password-file nothing",
            &["cannot read the password in nothing"],
        ),
    ] {
        place.tells(&format!("cert inspect {target}"), expected);
    }
    let port = closed_port();
    place.tells(
        &format!("cert inspect 127.0.0.1:{port}"),
        &[
            "cannot connect: Connection refused",
            "nobody listens there: is the port right",
        ],
    );
    for (own, expected) in [
        (
            "--cert cert.pem --key cert.pem",
            "cert.pem: expected a private key in PEM, not encrypted (--key), and there is none",
        ),
        (
            "--cert cert.key --key cert.key",
            "cert.key: expected certificates in PEM (--cert), and there is none",
        ),
        (
            "--cert cert.pem --key other.key",
            "the key in other.key is not that of the first certificate in cert.pem",
        ),
    ] {
        place.tells(&format!("cert inspect 127.0.0.1:{port} {own}"), &[expected]);
    }
}

#[test]
fn certificates_that_cannot_be_issued() {
    let place = Place::new();
    let port = closed_port();
    let issue = |more: &str| {
        format!(
            "cert issue --ca 127.0.0.1:{port} --bundle root.pem --trust-domain shop.example {more}"
        )
    };
    for (more, expected) in [
        (
            "--join-token-file nothing --out .",
            &["cannot read the token in nothing: No such file"][..],
        ),
        (
            "--join-token-file empty --out .",
            &["empty: expected a token, one line without spaces"],
        ),
        (
            "--join-token-file spaces --out .",
            &["spaces: expected a token"],
        ),
        (
            "--join-token-file token --out nowhere",
            &["cannot write nowhere/svid_key.pem: nowhere is not there; make that directory first"],
        ),
        (
            "--join-token-file token --out text",
            &["text is not a directory"],
        ),
        (
            "--join-token-file token",
            &["where is the certificate to go?"],
        ),
        (
            "--join-token-file token --out .",
            &[
                "the CA at 127.0.0.1:",
                "does not answer: cannot connect to",
                "Connection refused",
                "does it run?",
            ],
        ),
        (
            "--x509-proof cert.pem --x509-key cert.key --out .",
            &["does not answer: cannot connect to"],
        ),
        (
            "--x509-proof cert.pem --x509-key other.key --out .",
            &["other.key is not that of the first certificate in cert.pem"],
        ),
        (
            "--x509-proof cert.key --x509-key cert.key --out .",
            &["cert.key: expected certificates in PEM, the leaf first"],
        ),
        (
            "--device https://127.0.0.1:1 --client-id a --out .",
            &["the OpenID provider https://127.0.0.1:1: cannot connect"],
        ),
        (
            "--device http://login.example --client-id a --out .",
            &["is not a URL of a provider; expected https://HOST/"],
        ),
    ] {
        let told = place.complaint(&issue(more));
        for expected in expected {
            assert!(
                told.contains(expected),
                "{more}: expected {expected:?} in {told}"
            );
        }
        assert!(
            !told.contains("transport error") && !told.contains("aaa.bbb.ccc"),
            "{told}"
        );
    }
    place.tells(
        "cert issue --join-token-file token --out .",
        &["no mesh has been up in .countersign", "--state"],
    );
}

#[test]
fn tokens_and_keys_that_are_something_else() {
    let place = Place::new();
    for (command, expected) in [
        (
            "inspect token",
            &["token is a file, not a token", "- <token"][..],
        ),
        (
            "inspect abc",
            &["expected three parts with dots between them (header.claims.signature), found 1"],
        ),
        ("inspect -", &["there is no token; give a JWT"]),
        ("inspect aaa.bbb.ccc", &["not a JWT: its header is not"]),
        (
            "verify token --audience a --jwks keys.json",
            &["token is a file, not a token"],
        ),
        (
            "verify a.b.c --audience a --jwks nothing",
            &["cannot read nothing: No such file"],
        ),
        (
            "verify a.b.c --audience a --jwks empty",
            &["empty: expected a JWK Set (JSON, RFC 7517), found nothing"],
        ),
        (
            "verify a.b.c --audience a --jwks cert.pem",
            &["cert.pem: expected a JWK Set (JSON, RFC 7517), found PEM"],
        ),
        (
            "verify a.b.c --audience a --bundle cert.pem",
            &["cert.pem: expected a SPIFFE bundle with JWT keys (JSON), found PEM"],
        ),
        (
            "verify a.b.c --audience a --jwks keys.json",
            &["keys.json: the key set holds no public signature key"],
        ),
        (
            "verify a.b.c --audience a --issuer https://127.0.0.1:1",
            &["the issuer https://127.0.0.1:1: cannot connect"],
        ),
        ("mint alice", &["no mesh has been up in .countersign"]),
    ] {
        place.tells(&format!("token {command}"), expected);
    }
}
