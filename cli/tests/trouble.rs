//! Certificates in trouble, as they are met: each fault is a finding, and nothing else is. The table in `docs/certificates.md`
//! says what other tools tell of the same files.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends where it cannot go on"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const CA: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n";
const LEAF: &str = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n";
const ORDERS: &str = "URI:spiffe://shop.example/ns/shop/sa/orders";

/// A root and an intermediate; leaves are made as they are asked for.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for name in ["root", "int", "leaf", "other"] {
            place.openssl(&format!(
                "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}.key"
            ));
        }
        // Authorities that have been there for longer than any of their leaves.
        place.write(
            "ca.cnf",
            "[ca]\ndefault_ca=d\n[d]\ndir=.\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n\
             unique_subject=no\n[p]\ncommonName=optional\n",
        );
        place.write("index", "");
        place.write("serial", "1000\n");
        place.write("root.ext", CA);
        place.openssl("req -new -key root.key -subj /CN=root -out root.csr");
        place.dated("root", "", "20240101000000Z", "20400101000000Z");
        place.openssl("req -new -key int.key -subj /CN=intermediate -out int.csr");
        place.write("int.ext", CA);
        place.dated("int", "root", "20240101000000Z", "20400101000000Z");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(&self.0)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {told}");
    }

    /// Certifies `NAME.csr` for a given time; without an issuer, by its own key.
    fn dated(&self, name: &str, issuer: &str, start: &str, end: &str) {
        let signer = match issuer {
            "" => format!("-selfsign -keyfile {name}.key"),
            issuer => format!("-cert {issuer}.pem -keyfile {issuer}.key"),
        };
        self.openssl(&format!(
            "ca -batch -config ca.cnf {signer} -in {name}.csr -extfile {name}.ext \
             -startdate {start} -enddate {end} -notext -out {name}.pem"
        ));
    }

    /// A leaf for one of the keys, `leaf.pem`.
    fn leaf(&self, key: &str, extensions: &str, more: &str) {
        self.write("leaf.ext", extensions);
        self.openssl(&format!("req -new -key {key}.key -subj / -out leaf.csr"));
        self.openssl(&format!(
            "x509 -req -in leaf.csr -CA int.pem -CAkey int.key -CAcreateserial -extfile leaf.ext -out leaf.pem {more}"
        ));
    }

    /// The codes of what is found in these files, one after the other; the verdict; and the longest message.
    fn findings(&self, files: &[&str], arguments: &[&str]) -> (Vec<String>, String, usize) {
        let texts = files
            .iter()
            .map(|name| fs::read_to_string(self.path(name)).unwrap());
        self.write("it.pem", &texts.collect::<String>());
        fs::set_permissions(self.path("it.pem"), fs::Permissions::from_mode(0o600)).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_countersign"))
            .args([
                "cert", "inspect", "it.pem", "--bundle", "root.pem", "-o", "json",
            ])
            .args(arguments)
            .current_dir(&self.0)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = report["findings"].as_array().unwrap();
        let text = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
        let codes = findings.iter().map(|finding| text(finding, "code"));
        let lengths = findings
            .iter()
            .map(|finding| text(finding, "message").len());
        (
            codes.collect(),
            report["verdict"].as_str().unwrap().to_owned(),
            lengths.max().unwrap_or(0),
        )
    }

    #[track_caller]
    fn finds(&self, files: &[&str], expected: &[&str]) {
        let (codes, _, longest) = self.findings(files, &[]);
        assert_eq!(codes, expected, "{files:?}");
        assert!(
            longest < 200,
            "{files:?}: a message of {longest} characters"
        );
    }
}

#[test]
fn every_fault_is_found_and_nothing_besides() {
    let place = Place::new();
    let svid = format!("{LEAF}subjectAltName=critical,{ORDERS}\n");
    let good = || place.leaf("leaf", &svid, "-days 1");
    good();
    place.finds(&["leaf.pem", "int.pem", "leaf.key"], &[]);
    place.finds(&["int.pem", "leaf.pem"], &["chain-order"]);
    place.finds(&["leaf.pem"], &["chain-gap", "untrusted"]);
    place.finds(&["leaf.pem", "int.pem", "other.key"], &["key-mismatch"]);

    for (start, end, expected) in [
        ("20250101000000Z", "20250102000000Z", "expired"),
        ("20390101000000Z", "20390102000000Z", "not-yet-valid"),
    ] {
        place.dated("leaf", "int", start, end);
        place.finds(&["leaf.pem", "int.pem"], &[expected]);
    }
    place.openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out weak.key");
    place.leaf("weak", &svid, "-days 1");
    place.finds(&["leaf.pem", "int.pem"], &["weak-key"]);
    let two = svid.replace(
        ORDERS,
        &format!("{ORDERS},URI:spiffe://shop.example/ns/shop/sa/web"),
    );
    place.leaf("leaf", &two, "-days 1");
    place.finds(&["leaf.pem", "int.pem"], &["svid-several-uris"]);
    let authority = svid
        .replace("CA:FALSE", "CA:TRUE")
        .replace("digitalSignature", "digitalSignature,keyCertSign");
    place.leaf("leaf", &authority, "-days 1");
    place.finds(&["leaf.pem", "int.pem"], &["svid-leaf-is-ca"]);
    place.leaf("leaf", &svid, "-days 1 -sha1");
    place.finds(&["leaf.pem", "int.pem"], &["weak-signature", "untrusted"]);
    let bare = format!("basicConstraints=critical,CA:FALSE\nsubjectAltName=critical,{ORDERS}\n");
    place.leaf("leaf", &bare, "-days 1");
    place.finds(
        &["leaf.pem", "int.pem"],
        &["svid-key-usage-missing", "svid-extended-key-usage-missing"],
    );
    // An authority of the right name and the wrong key.
    good();
    place.openssl("req -new -key other.key -subj /CN=intermediate -out fake.csr");
    place.openssl("x509 -req -in fake.csr -CA root.pem -CAkey root.key -CAcreateserial -days 30 -extfile root.ext -out fake.pem");
    let (codes, verdict, _) = place.findings(&["leaf.pem", "fake.pem"], &[]);
    assert_eq!(verdict, "errors");
    assert!(
        codes
            .iter()
            .any(|code| code == "chain-gap" || code == "chain-signature"),
        "{codes:?}"
    );
}

#[test]
fn a_chain_without_spiffe_id_is_verified_by_the_bundle_that_was_asked_for() {
    let place = Place::new();
    let web = format!("{LEAF}subjectAltName=DNS:shop.example\n");
    place.leaf("leaf", &web, "-days 1");
    place.finds(&["leaf.pem", "int.pem"], &[]);
    place.finds(&["leaf.pem"], &["chain-gap", "untrusted"]);
    let (codes, ..) = place.findings(&["leaf.pem", "int.pem"], &["--svid"]);
    assert_eq!(codes, ["svid-no-uri"]);
    place.openssl("req -new -key other.key -subj /CN=root -out root.csr");
    place.openssl(
        "x509 -req -in root.csr -signkey other.key -days 3650 -extfile root.ext -out root.pem",
    );
    place.finds(&["leaf.pem", "int.pem"], &["untrusted"]);
}
