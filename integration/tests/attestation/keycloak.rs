//! Against Keycloak, as many organisations run it. It takes a while to start: one test.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use countersign_integration::http::{self, Body};
use countersign_integration::loopback::Loopback;
use countersign_integration::process::Program;
use countersign_integration::tools::cached;
use serde_json::{Value, json};
use tonic::Code;

use super::Ca;

/// Unpacked and built by `make keycloak`.
const DISTRIBUTION: &str = "keycloak-26.4.0";
/// How long a start may take on a machine that does other things too.
const START_LIMIT: Duration = Duration::from_mins(4);

struct Keycloak {
    _program: Program,
    _directory: tempfile::TempDir,
    _loopback: Loopback,
    address: SocketAddr,
}

impl Keycloak {
    fn start() -> Option<Self> {
        let distribution = cached(DISTRIBUTION, "make keycloak").unwrap()?;
        let (directory, loopback) = (tempfile::tempdir().unwrap(), Loopback::claim().unwrap());
        // It writes beside its programs, so that each process has a copy.
        let home = directory.path().join("keycloak");
        let copied = Command::new("cp")
            .arg("-a")
            .args([&distribution, &home])
            .status();
        assert!(copied.unwrap().success());
        let address = loopback.address(8, 8080);
        let mut command = Command::new(home.join("bin/kc.sh"));
        command
            .args([
                "start",
                "--optimized",
                "--http-enabled=true",
                "--cache=local",
            ])
            .arg("--hostname-strict=false")
            .arg(format!("--http-host={}", address.ip()))
            .arg(format!("--http-port={}", address.port()))
            .env("JAVA_OPTS_KC_HEAP", "-Xms64m -Xmx512m")
            .env("KC_BOOTSTRAP_ADMIN_USERNAME", "admin")
            .env("KC_BOOTSTRAP_ADMIN_PASSWORD", "admin");
        let program = Program::start_group("keycloak", command, directory.path()).unwrap();
        let started = Instant::now();
        while !matches!(http::get(address, "/realms/master"), Ok((200, _))) {
            assert!(
                started.elapsed() < START_LIMIT,
                "{}",
                program.stdout().unwrap()
            );
            std::thread::park_timeout(Duration::from_millis(200));
        }
        println!("Keycloak started in {:?}", started.elapsed());
        Some(Self {
            _program: program,
            _directory: directory,
            _loopback: loopback,
            address,
        })
    }

    fn issuer(&self, realm: &str) -> String {
        format!("http://{}/realms/{realm}", self.address)
    }

    fn token(&self, realm: &str, form: &str) -> String {
        let path = format!("/realms/{realm}/protocol/openid-connect/token");
        let (status, answer) = http::post(self.address, &path, None, Body::Form(form)).unwrap();
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    fn client_token(&self, realm: &str, client: &str) -> String {
        let form =
            format!("grant_type=client_credentials&client_id={client}&client_secret=of-the-test");
        self.token(realm, &form)
    }

    fn administrate(&self, path: &str, object: &Value) {
        let form = "grant_type=password&client_id=admin-cli&username=admin&password=admin";
        let admin = format!("Bearer {}", self.token("master", form));
        let path = format!("/admin/realms{path}");
        let made = http::post(self.address, &path, Some(&admin), Body::Json(object)).unwrap();
        assert_eq!(made.0, 201, "{}", made.1);
    }

    /// A realm in which the client `billing` gets tokens for the CA, and `reports` gets such for others.
    fn realm(&self, name: &str) {
        let mapper = |name: &str, kind: &str, config: Value| json!({"name": name, "protocol": "openid-connect", "protocolMapper": kind, "config": config});
        let client = |name: &str, audience: &str| {
            let audience =
                json!({"included.custom.audience": audience, "access.token.claim": "true"});
            let team = json!({
                "claim.name": "team", "claim.value": "finance", "jsonType.label": "String", "access.token.claim": "true",
            });
            json!({
                "clientId": name, "secret": "of-the-test", "publicClient": false, "serviceAccountsEnabled": true,
                "standardFlowEnabled": false, "directAccessGrantsEnabled": false,
                "protocolMappers": [
                    mapper("audience", "oidc-audience-mapper", audience),
                    mapper("team", "oidc-hardcoded-claim-mapper", team),
                ],
            })
        };
        let clients = [
            client("billing", "countersign-ca"),
            client("reports", "reporting"),
        ];
        let realm =
            json!({"realm": name, "enabled": true, "sslRequired": "none", "clients": clients});
        self.administrate("", &realm);
    }

    /// A new signing key. The old one stays published, as Keycloak does it.
    fn rotate(&self, realm: &str) {
        let config = json!({"priority": ["200"], "keySize": ["2048"], "algorithm": ["RS256"]});
        let key = json!({
            "name": "next", "providerId": "rsa-generated", "providerType": "org.keycloak.keys.KeyProvider",
            "config": config,
        });
        self.administrate(&format!("/{realm}/components"), &key);
    }
}

#[tokio::test]
async fn a_keycloak_client_is_attested_by_its_realm_and_no_other() {
    let Some(keycloak) = Keycloak::start() else {
        return;
    };
    keycloak.realm("mesh");
    keycloak.realm("other");
    let ca = Ca::start(&format!(
        "issuers:\n- issuer: {}\n  audiences: [countersign-ca]\n  algorithms: [RS256]\n  allowHttp: true\n  \
         allowPrivateAddresses: true\n  spiffeId: 'spiffe://shop.example/ns/{{claims.team}}/sa/{{claims.azp}}'\n  \
         allow: ['claims.team == \"finance\"']\n",
        keycloak.issuer("mesh")
    ));
    let before = keycloak.client_token("mesh", "billing");
    let id = "spiffe://shop.example/ns/finance/sa/billing";
    assert_eq!(ca.attest(&before).await.unwrap(), id);
    let reports = keycloak.client_token("mesh", "reports");
    ca.refused(
        &reports,
        Code::Unauthenticated,
        "expected \"countersign-ca\"",
    )
    .await;
    let other = keycloak.client_token("other", "billing");
    ca.refused(&other, Code::Unauthenticated, "is not among the `issuers`")
        .await;

    keycloak.rotate("mesh");
    let after = keycloak.client_token("mesh", "billing");
    let key = |token: &str| token.split('.').next().map(str::to_owned);
    assert_ne!(key(&before), key(&after), "a token of the new key");
    assert_eq!(ca.attest(&after).await.unwrap(), id);
    assert_eq!(ca.attest(&before).await.unwrap(), id);
}
