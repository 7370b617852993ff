//! Against `oidc-provider`, an OpenID provider that is certified, as a process of its own.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use countersign_integration::http::{self, Body};
use countersign_integration::mesh::eventually;
use countersign_integration::process::Program;
use countersign_integration::tools::cached;
use serde_json::Value;
use tonic::Code;

use super::Ca;

/// Of `integration/oidc-provider/package.json`.
const MODULES: &str = "oidc-provider-9.13.3/node_modules";

struct Provider {
    _program: Program,
    _directory: tempfile::TempDir,
    issuer: String,
    address: SocketAddr,
}

impl Provider {
    fn start() -> Option<Self> {
        let modules = cached(MODULES, "make oidc-provider").unwrap()?;
        let directory = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("oidc-provider/server.mjs");
        fs::copy(script, directory.path().join("server.mjs")).unwrap();
        symlink(modules, directory.path().join("node_modules")).unwrap();
        let mut command = Command::new("node");
        command.arg("server.mjs").current_dir(directory.path());
        let program = Program::start_command("oidc-provider", command, directory.path()).unwrap();
        let issuer = || {
            let told = program.stdout().unwrap();
            let issuer = told.lines().find_map(|line| line.strip_prefix("issuer "));
            issuer.map(str::to_owned)
        };
        eventually("the provider to listen", || issuer().is_some()).unwrap();
        let issuer = issuer().unwrap();
        Some(Self {
            address: issuer.strip_prefix("http://").unwrap().parse().unwrap(),
            _program: program,
            _directory: directory,
            issuer,
        })
    }

    fn token(&self, client: &str, resource: &str) -> String {
        let form = format!(
            "grant_type=client_credentials&client_id={client}&client_secret=a-secret-of-the-test&resource={resource}"
        );
        let basic = None;
        let (status, answer) =
            http::post(self.address, "/token", basic, Body::Form(&form)).unwrap();
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    fn rotate(&self) {
        let rotated = http::post(self.address, "/rotate", None, Body::None).unwrap();
        assert_eq!(rotated.0, 200);
    }
}

#[tokio::test]
async fn a_ci_job_is_let_in_by_its_claims_and_a_rotated_key_followed() {
    let (Some(provider), Some(stranger)) = (Provider::start(), Provider::start()) else {
        return;
    };
    let ca = Ca::start(&format!(
        "issuers:\n- issuer: {}\n  audiences: [countersign-ca]\n  algorithms: [ES256]\n  allowHttp: true\n  \
         allowPrivateAddresses: true\n  spiffeId: 'spiffe://shop.example/ns/ci/sa/{{claims.job}}'\n  allow:\n  \
         - claims.repository == \"acme/shop\" && claims.ref == \"refs/heads/main\"\n",
        provider.issuer
    ));
    let ours = "urn:countersign-ca";
    let before = provider.token("shop-main", ours);
    let id = "spiffe://shop.example/ns/ci/sa/deploy";
    assert_eq!(ca.attest(&before).await.unwrap(), id);
    let (kind, detail) = ca.last_attestation();
    let expected = format!("issuer {:?}, subject \"shop-main\"", provider.issuer);
    assert_eq!((kind.as_str(), detail), ("jwt", expected));

    let branch = provider.token("shop-branch", ours);
    ca.refused(
        &branch,
        Code::PermissionDenied,
        "no rule of `allow` lets it in",
    )
    .await;
    let odd = provider.token("shop-odd", ours);
    ca.refused(&odd, Code::PermissionDenied, "the token's claim `job`")
        .await;
    let vault = provider.token("shop-main", "urn:vault");
    ca.refused(
        &vault,
        Code::Unauthenticated,
        "the token is for \"vault\"; expected \"countersign-ca\"",
    )
    .await;
    let theirs = stranger.token("shop-main", ours);
    ca.refused(&theirs, Code::Unauthenticated, "is not among the `issuers`")
        .await;

    // The old key is gone, and no longer believed once the new one has been fetched for.
    provider.rotate();
    let after = provider.token("shop-main", ours);
    assert_eq!(ca.attest(&after).await.unwrap(), id);
    ca.refused(&before, Code::Unauthenticated, "has no key \"key-1\"")
        .await;
}
