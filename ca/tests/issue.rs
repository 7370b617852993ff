//! The CA as its users meet it: the real program, over real connections.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that fails should fail where it stands, and show the CA's log"
)]

mod runbooks;
mod support;
#[path = "issue/tokens.rs"]
mod tokens;

use countersign_api::proto::Attestation;
use countersign_api::proto::certificate_authority_client::CertificateAuthorityClient;
use countersign_api::transport::channel_over_one_connection;
use countersign_api::x509_proof::CertificateFiles;
use countersign_identity::spiffe;
use countersign_identity::tls::ExpectedPeer;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign_api::proto::attestation::Evidence as ProtoEvidence;
use countersign_api::proto::{GetBundleRequest, IssueRequest, RenewalBySvid};
use countersign_api::svid::{Evidence, SvidClient};
use futures_util::future::join_all;
use serde_json::json;
use support::client::{ask, client, join, jwt, request};
use support::{Ca, Home, Issuer};
use tonic::Code;

const ORDERS: &str = "spiffe://shop.example/ns/shop/sa/orders";

#[tokio::test]
async fn a_join_token_brings_an_svid_which_renews_itself() {
    let home = Home::new("");
    let token = home.join_token(ORDERS);
    let ca = Ca::start(&home);
    let store = home.store();
    let evidence = Evidence::JoinToken(token.clone().into());
    let mut svids = SvidClient::new(Arc::clone(&store), ca.address.clone(), evidence);

    svids.obtain().await.unwrap();
    let first = store.svid().unwrap();
    assert_eq!(first.id().as_str(), ORDERS);
    let left = first.not_after().duration_since(SystemTime::now()).unwrap();
    assert!(
        left > Duration::from_mins(59) && left <= Duration::from_mins(60),
        "{left:?}"
    );

    // Now by the SVID of the connection: the same identity, another key.
    svids.obtain().await.unwrap();
    let second = store.svid().unwrap();
    assert_eq!(second.id(), first.id());
    assert_ne!(second.thumbprint(), first.thumbprint());

    let refused = ask(&ca, &home, request(join(&token))).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(
        refused
            .message()
            .starts_with("this join token has been used"),
        "{refused}"
    );

    let log = home.log();
    let kinds: Vec<_> = log
        .iter()
        .map(|line| line["attestation"]["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["own", "join-token", "renewal"]);
    assert_eq!(log[1]["serial"], first.serial());
    assert_eq!(
        log[2]["attestation"]["detail"],
        format!("serial {}", first.serial())
    );
    assert!(!home.ask_log(&["export"]).0.contains(&token));

    let metrics = ca.get("/metrics");
    assert!(
        metrics.contains(r#"countersign_ca_issued_total{attestation="renewal"} 1"#),
        "{metrics}"
    );
    assert!(
        metrics.contains(r#"countersign_ca_refused_total{reason="join-token"} 1"#),
        "{metrics}"
    );
    assert!(ca.get("/ready").ends_with("ready\n"));
}

#[tokio::test]
async fn of_many_with_one_token_one_gets_an_svid() {
    let home = Home::new("");
    let ca = Ca::start(&home);
    // While the server runs.
    let token = home.join_token(ORDERS);
    let asks = (0..16).map(|_| ask(&ca, &home, request(join(&token))));
    let answers = join_all(asks).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    for refused in answers.into_iter().filter_map(Result::err) {
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    }
}

#[tokio::test]
async fn tokens_and_keys_outlive_a_restart() {
    let home = Home::new("");
    let ca = Ca::start(&home);
    let (used, fresh) = (home.join_token(ORDERS), home.join_token(ORDERS));
    let before = ask(&ca, &home, request(join(&used))).await.unwrap();
    // Elsewhere: this thread's client must see the CA's farewell, and close its connection.
    let stopped = tokio::task::spawn_blocking(move || ca.stop()).await;
    assert!(stopped.unwrap().success());

    let ca = Ca::start(&home);
    before
        .verify(&home.store().bundle(), SystemTime::now())
        .unwrap();
    let refused = ask(&ca, &home, request(join(&used))).await.unwrap_err();
    assert!(
        refused
            .message()
            .starts_with("this join token has been used"),
        "{refused}"
    );
    let after = ask(&ca, &home, request(join(&fresh))).await.unwrap();
    assert_eq!(before.chain()[1], after.chain()[1], "the same intermediate");
}

#[tokio::test]
async fn a_token_of_a_configured_issuer_attests() {
    let issuer = Issuer::start();
    let home = Home::new(&issuer.config());
    let ca = Ca::start(&home);
    let svid = ask(&ca, &home, request(jwt(issuer.token(&json!({})))))
        .await
        .unwrap();
    assert_eq!(svid.id().as_str(), ORDERS);
    let line = home.log().pop().unwrap();
    assert_eq!(line["attestation"]["kind"], "jwt");
    let detail = format!("issuer {:?}, subject \"job 7\"", issuer.name());
    assert_eq!(line["attestation"]["detail"], detail);

    let stranger = Issuer::start();
    for (token, code, expected) in [
        (
            issuer.token(&json!({"aud": "other"})),
            Code::Unauthenticated,
            "the token is for \"other\"",
        ),
        (
            issuer.token(&json!({"exp": 1})),
            Code::Unauthenticated,
            "the token expired",
        ),
        (
            stranger.token(&json!({})),
            Code::Unauthenticated,
            "is not among the `issuers`",
        ),
        (
            stranger.token(&json!({"iss": issuer.name()})),
            Code::Unauthenticated,
            "signature does not verify",
        ),
        (
            issuer.token(&json!({"ns": "a/b"})),
            Code::PermissionDenied,
            "the token's claim `ns`",
        ),
        (
            issuer.token(&json!({"sa": null})),
            Code::PermissionDenied,
            "the token's claim `sa`",
        ),
        (
            issuer.token(&json!({"ns": "countersign-system", "sa": "countersign-control"})),
            Code::PermissionDenied,
            "the namespace of the mesh's own parts",
        ),
        (
            "garbage".to_owned(),
            Code::Unauthenticated,
            "not a signed JWT",
        ),
    ] {
        let refused = ask(&ca, &home, request(jwt(token))).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        assert!(
            refused.message().contains(expected),
            "{expected}: {refused}"
        );
    }
    assert_eq!(home.log().len(), 2, "nothing else was issued");
}

#[tokio::test]
async fn allow_rules_choose_among_an_issuers_good_tokens() {
    let issuer = Issuer::start();
    let rule = r#"claims.repository == "acme/shop" && claims.ref == "refs/heads/main""#;
    let home = Home::new(&format!("{}  allow:\n  - {rule}\n", issuer.config()));
    let ca = Ca::start(&home);
    let token =
        |reference: &str| issuer.token(&json!({"repository": "acme/shop", "ref": reference}));
    let svid = ask(&ca, &home, request(jwt(token("refs/heads/main")))).await;
    assert_eq!(svid.unwrap().id().as_str(), ORDERS);
    for (token, expected) in [
        (token("refs/heads/evil"), " is false"),
        (
            issuer.token(&json!({"repository": "acme/shop"})),
            " fails, there is no ref",
        ),
    ] {
        let refused = ask(&ca, &home, request(jwt(token))).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        let told = format!(
            "issuer {:?}: no rule of `allow` lets it in: {rule:?}{expected}",
            issuer.name()
        );
        assert_eq!(refused.message(), told);
    }
    let metrics = ca.get("/metrics");
    let age = format!(
        "countersign_ca_issuer_keys_age_seconds{{issuer=\"{}\"}} ",
        issuer.name()
    );
    assert!(metrics.contains(&age), "{metrics}");
    let status = ca.get("/status");
    assert!(
        status.contains(r#""keys":["ci-1"]"#) && status.contains(r#""last_error":null"#),
        "{status}"
    );
}

#[tokio::test]
async fn an_issuer_out_of_reach_is_a_reason_to_try_again() {
    let issuer = Issuer::start();
    let unreachable = issuer
        .config()
        .replace("  audiences", "  jwksUri: http://127.0.0.1:1/\n  audiences");
    let home = Home::new(&unreachable);
    let ca = Ca::start(&home);
    let refused = ask(&ca, &home, request(jwt(issuer.token(&json!({})))))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(
        refused.message().contains("are not available to the CA"),
        "{refused}"
    );
}

#[tokio::test]
async fn lifetimes_have_limits() {
    let home = Home::new("svid: {defaultTtl: 30m, minTtl: 10m, maxTtl: 2h}\n");
    let ca = Ca::start(&home);
    let ttl = |seconds| IssueRequest {
        ttl_seconds: seconds,
        ..request(join(&home.join_token(ORDERS)))
    };
    for (asked, expected) in [(0, 1800), (600, 600), (7200, 7200)] {
        let svid = ask(&ca, &home, ttl(asked)).await.unwrap();
        let left = svid
            .not_after()
            .duration_since(SystemTime::now())
            .unwrap()
            .as_secs();
        assert!(left <= expected && left + 60 > expected, "{asked}: {left}");
    }
    for asked in [1, 599, 7201, u32::MAX] {
        let refused = ask(&ca, &home, ttl(asked)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(
            refused.message().contains("issues for 600 s to 7200 s"),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn other_requests_are_refused_with_a_reason() {
    let home = Home::new("");
    let ca = Ca::start(&home);
    let renewal = Some(ProtoEvidence::Renewal(RenewalBySvid {}));
    let bad_csr = IssueRequest {
        csr: vec![1, 2, 3],
        ..request(join("x"))
    };
    for (request, code, expected) in [
        (
            request(None),
            Code::Unauthenticated,
            "the request has no attestation",
        ),
        (
            request(renewal),
            Code::Unauthenticated,
            "present the current SVID",
        ),
        (
            request(join("x")),
            Code::Unauthenticated,
            "this is not a join token",
        ),
        (bad_csr, Code::InvalidArgument, "is not PKCS #10"),
    ] {
        let refused = ask(&ca, &home, request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        assert!(
            refused.message().contains(expected),
            "{expected}: {refused}"
        );
    }
    let bundle = client(&ca, &home.store())
        .get_bundle(GetBundleRequest {})
        .await
        .unwrap();
    assert_eq!(bundle.into_inner().trust_domain, "shop.example");
}

#[tokio::test]
async fn another_cas_svid_is_no_evidence() {
    let (home, other) = (Home::new(""), Home::new(""));
    let (ca, other_ca) = (Ca::start(&home), Ca::start(&other));
    let forged = other.store();
    let evidence = Evidence::JoinToken(other.join_token(ORDERS).into());
    SvidClient::new(Arc::clone(&forged), other_ca.address.clone(), evidence)
        .obtain()
        .await
        .unwrap();
    // It believes the real CA, but what it shows is the other's.
    forged.set_bundle((*home.store().bundle()).clone()).unwrap();
    let renewal = request(Some(ProtoEvidence::Renewal(RenewalBySvid {})));
    let refused = client(&ca, &forged).issue(renewal).await.unwrap_err();
    assert_ne!(refused.code(), Code::Ok);
    assert_eq!(home.log().len(), 1, "nothing but the CA's own");
}

#[tokio::test]
async fn the_cas_own_svid_is_renewed_while_it_serves() {
    let home = Home::new("svid: {defaultTtl: 4s, minTtl: 1s}\n");
    let ca = Ca::start(&home);
    let own = |line: &serde_json::Value| line["attestation"]["kind"] == "own";
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while home.log().iter().filter(|line| own(line)).count() < 3 {
        assert!(
            std::time::Instant::now() < deadline,
            "the third SVID comes in time"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The first one has expired, or soon will; who connects now sees the latest.
    ask(&ca, &home, request(join(&home.join_token(ORDERS))))
        .await
        .unwrap();
    assert!(ca.get("/ready").ends_with("ready\n"));
}

#[test]
fn a_key_that_is_damaged_or_open_to_others_stops_the_start() {
    let home = Home::new("");
    assert!(Ca::start(&home).stop().success());
    let keys = std::fs::read_dir(home.data().join("keys")).unwrap();
    let key = keys
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_str().unwrap().contains("/intermediate-"))
        .unwrap();
    let good = std::fs::read(&key).unwrap();

    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let message = home.failing_start();
    assert!(
        message.contains(&format!("{} has the mode 0644", key.display())),
        "{message}"
    );
    assert!(message.contains("chmod 600"), "{message}");

    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&key, &good[..good.len() / 3]).unwrap();
    let message = home.failing_start();
    assert!(
        message.contains(&format!("{} is damaged", key.display())),
        "{message}"
    );

    std::fs::write(&key, good).unwrap();
    assert!(Ca::start(&home).stop().success());
}

#[test]
fn one_data_directory_has_one_server() {
    let home = Home::new("");
    let _ca = Ca::start(&home);
    let message = home.failing_start();
    assert!(
        message.contains("another countersign-ca serves"),
        "{message}"
    );
}

#[test]
fn mistakes_in_the_configuration_are_all_told() {
    let home = Home::new("svid: {maxTtl: forever}\nisuers: []\n");
    let message = home.failing_start();
    assert!(
        message.contains("ca.yaml:5:16: expected a duration"),
        "{message}"
    );
    assert!(
        message.contains("ca.yaml:6:1: unknown field `isuers`, did you mean `issuers`?"),
        "{message}"
    );
    assert!(!home.data().exists(), "nothing was made");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let home = Home::new("");
    let text = std::fs::read_to_string(home.config()).unwrap();
    std::fs::write(
        home.config(),
        text.replace("listen: 127.0.0.1:0", &format!("listen: {address}")),
    )
    .unwrap();
    let message = home.failing_start();
    assert!(
        message.contains(&format!("cannot listen on {address} (`listen`")),
        "{message}"
    );
}

#[test]
fn join_tokens_are_for_this_trust_domains_workloads() {
    let home = Home::new("");
    for (id, expected) in [
        (
            "spiffe://other.example/ns/a/sa/b",
            "is not of the trust domain shop.example",
        ),
        (
            "spiffe://shop.example/ns/countersign-system/sa/countersign-ca",
            "the CA's own ID",
        ),
        ("orders", "invalid value 'orders'"),
    ] {
        let output = home.run(&["join-token", "--spiffe-id", id]);
        assert_eq!(output.status.code(), Some(2));
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(expected), "{message}");
    }
}

#[tokio::test]
async fn the_log_answers_while_the_ca_runs() {
    let home = Home::new("");
    let ca = Ca::start(&home);
    let mut svids = Vec::new();
    for _ in 0..3 {
        let token = home.join_token(ORDERS);
        svids.push(ask(&ca, &home, request(join(&token))).await.unwrap());
    }
    let (text, status) = home.ask_log(&["verify", "-o", "json"]);
    assert_eq!(status, 0, "{text}");
    let verdict: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(verdict["whole"], true);
    assert_eq!(verdict["entries"], 4);
    let head = verdict["head"].as_str().unwrap();
    let (text, status) = home.ask_log(&["verify", "--anchor", head]);
    assert_eq!(status, 0, "{text}");
    assert!(
        text.contains("Nothing up to the anchor, entry 4, is gone."),
        "{text}"
    );

    let serials = |arguments: &[&str]| -> Vec<String> {
        let (text, status) = home.ask_log(&[&["search", "-o", "json"], arguments].concat());
        assert_eq!(status, 0, "{text}");
        let found: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        let serial =
            |entry: &serde_json::Value| entry["record"]["serial"].as_str().unwrap().to_owned();
        found.iter().map(serial).collect()
    };
    let issued: Vec<_> = svids.iter().map(|svid| svid.serial().to_owned()).collect();
    assert_eq!(serials(&["--id", ORDERS]), issued);
    assert_eq!(serials(&["--attestation", "join-token"]), issued);
    assert_eq!(
        serials(&["--serial", &issued[1].to_uppercase()]),
        issued[1..2]
    );
    assert_eq!(serials(&["--since", "1h"]).len(), 4);
    assert_eq!(serials(&["--until", "1h"]), [] as [&str; 0]);
    let (text, _) = home.ask_log(&["search", "--serial", &issued[2]]);
    assert!(
        text.contains(ORDERS) && text.ends_with("1 found\n"),
        "{text}"
    );

    let metrics = ca.get("/metrics");
    assert!(
        metrics.contains("countersign_ca_log_sequence 4"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_log_that_was_cut_off_is_no_answer() {
    let home = Home::new("");
    assert!(Ca::start(&home).stop().success());
    let (text, status) = home.ask_log(&["verify", "--anchor", &format!("7:{}", "ab".repeat(32))]);
    assert_eq!(status, 1, "{text}");
    assert!(
        text.contains("The issuance log is not whole: entry 7:"),
        "{text}"
    );
    assert!(text.contains("its newest entries were removed"), "{text}");
    let (text, status) = home.ask_log(&["verify", "--anchor", "latest"]);
    assert_eq!(status, 2, "{text}");
}

/// A machine of another authority than the mesh's: its certificate is the way in.
#[tokio::test]
async fn a_machines_certificate_attests_over_its_own_connection_and_no_other() {
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name);
    let write = |name: &str, text: String| std::fs::write(path(name), text).unwrap();
    let mut root = rcgen::CertificateParams::default();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let root = rcgen::CertifiedIssuer::self_signed(root, key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut leaf = rcgen::CertificateParams::default();
    leaf.distinguished_name
        .push(rcgen::DnType::CommonName, "vm7");
    leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    write("root.pem", root.pem());
    write("vm.pem", leaf.signed_by(&key, &root).unwrap().pem());
    write("vm.key", key.serialize_pem());
    let home = Home::new(&format!(
        "x509Proof:\n- name: vms\n  rootsFile: {}\n  \
         spiffeId: 'spiffe://shop.example/vm/{{certificate.subject.commonName}}'\n",
        path("root.pem").display()
    ));
    let ca = Ca::start(&home);
    let files = CertificateFiles {
        chain: path("vm.pem"),
        key: path("vm.key"),
    };
    let store = home.store();
    let evidence = Evidence::Certificate(files.clone());
    let mut svids = SvidClient::new(Arc::clone(&store), ca.address.clone(), evidence);
    svids.obtain().await.unwrap();
    assert_eq!(
        store.svid().unwrap().id().as_str(),
        "spiffe://shop.example/vm/vm7"
    );
    assert_eq!(home.log()[1]["attestation"]["kind"], "x509-proof");
    // Later ones by the SVID.
    svids.obtain().await.unwrap();
    assert_eq!(home.log()[2]["attestation"]["kind"], "renewal");

    // What was recorded on one connection, on another: for the same request, and so by the same machine.
    let expected = ExpectedPeer::Id(spiffe::system::ca(&support::shop()));
    let (_, elsewhere) = channel_over_one_connection(&ca.address, &home.store(), expected.clone())
        .await
        .unwrap();
    let mut asked = request(None);
    let certificate = files.read().unwrap();
    let proof = certificate.prove(&elsewhere, &asked.csr).unwrap();
    asked.attestation = Some(Attestation {
        evidence: Some(ProtoEvidence::X509Proof(proof)),
    });
    let refused = ask(&ca, &home, asked.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(
        refused
            .message()
            .starts_with("the proof is not signed by the key"),
        "{refused}"
    );
    // On its own connection, for a key of somebody else's.
    let (channel, here) = channel_over_one_connection(&ca.address, &home.store(), expected)
        .await
        .unwrap();
    let proof = certificate.prove(&here, &request(None).csr).unwrap();
    asked.attestation = Some(Attestation {
        evidence: Some(ProtoEvidence::X509Proof(proof)),
    });
    let mut here = CertificateAuthorityClient::new(channel);
    let refused = here.issue(asked).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
}
