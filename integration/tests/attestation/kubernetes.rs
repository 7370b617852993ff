//! Against a real kube-apiserver: its tokens, its reviews, its pods.

use std::time::Instant;

use countersign_integration::kubernetes::Cluster;
use serde_json::json;
use tonic::Code;

use super::Ca;

const AUDIENCE: &str = "countersign-ca";
const ORDERS: (&str, &str) = ("shop", "orders");

/// The configuration of a CA that asks the API server, and of one that has its keys only.
fn config(cluster: &Cluster, api_server: bool, keys: bool) -> String {
    let ca_file = cluster.path("ca.pem").display().to_string();
    let mut config = format!(
        "kubernetes:\n- issuer: {}\n  audiences: [{AUDIENCE}]\n  allow: ['pod.namespace != \"kube-system\"']\n",
        cluster.issuer()
    );
    if api_server {
        config += &format!(
            "  apiServer: {{url: '{}', caFile: {ca_file}, tokenFile: {}}}\n",
            cluster.issuer(),
            cluster.path("ca-token").display()
        );
    }
    if keys {
        config += &format!("  keys: {{caFile: {ca_file}, allowPrivateAddresses: true}}\n");
    }
    config
}

/// One cluster for all of it: it takes seconds to start.
#[tokio::test]
async fn a_pod_is_who_its_cluster_says_for_as_long_as_it_exists() {
    let Some(mut cluster) = Cluster::start().unwrap() else {
        return;
    };
    cluster.ca_account().unwrap();
    cluster.publish_keys().unwrap();
    for (namespace, account) in [ORDERS, ("shop", "billing"), ("kube-system", "dns")] {
        cluster.service_account(namespace, account).unwrap();
    }
    let node = json!({"metadata": {"name": "node1"}});
    cluster.create("/api/v1/nodes", &node).unwrap();
    let uid = cluster
        .pod("shop", "orders-1", "orders", Some("node1"))
        .unwrap();
    let token = cluster
        .token(ORDERS, AUDIENCE, Some(("orders-1", &uid)))
        .unwrap();

    let asking = Ca::start(&config(&cluster, true, false));
    let offline = Ca::start(&config(&cluster, false, true));
    let both = Ca::start(&config(&cluster, true, true));
    let node_uid = cluster.get("/api/v1/nodes/node1").unwrap();
    let node_uid = node_uid["metadata"]["uid"].as_str().unwrap();
    for ca in [&asking, &offline, &both] {
        let started = Instant::now();
        let id = ca.attest(&token).await.unwrap();
        println!("attested in {:?}", started.elapsed());
        assert_eq!(id, "spiffe://shop.example/ns/shop/sa/orders");
        let (kind, detail) = ca.last_attestation();
        assert_eq!(kind, "kubernetes");
        let expected = format!(
            "cluster {:?}, pod orders-1 (uid {uid}), node node1 (uid {node_uid}), service account uid ",
            cluster.issuer()
        );
        assert!(detail.starts_with(&expected), "{detail}");
    }

    // A pod on no node yet, of another account.
    let billing_uid = cluster.pod("shop", "billing-1", "billing", None).unwrap();
    let billing = cluster
        .token(
            ("shop", "billing"),
            AUDIENCE,
            Some(("billing-1", &billing_uid)),
        )
        .unwrap();
    assert_eq!(
        both.attest(&billing).await.unwrap(),
        "spiffe://shop.example/ns/shop/sa/billing"
    );

    tokens_for_something_else(&cluster, [&asking, &offline, &both], &token, &uid).await;
    pods_that_are_gone(&cluster, [&asking, &both], &offline, &token, &uid).await;

    // The API server is away. The keys are known, and would do; nobody asked for that.
    let uid = cluster.pod("shop", "orders-9", "orders", None).unwrap();
    let token = cluster
        .token(ORDERS, AUDIENCE, Some(("orders-9", &uid)))
        .unwrap();
    both.attest(&token).await.unwrap();
    cluster.kill_api_server();
    for ca in [&asking, &both] {
        ca.refused(&token, Code::Unavailable, "cannot be asked by the CA")
            .await;
        let told = ca.program.stderr().unwrap();
        assert!(told.contains("cannot connect to"), "{told}");
    }
    offline.attest(&token).await.unwrap();
}

async fn tokens_for_something_else(cluster: &Cluster, all: [&Ca; 3], token: &str, uid: &str) {
    let [asking, offline, both] = all;
    let unauthenticated = Code::Unauthenticated;
    // The audience.
    let pod = Some(("orders-1", uid));
    let other = cluster.token(ORDERS, "vault", pod).unwrap();
    asking
        .refused(&other, unauthenticated, "does not accept the token")
        .await;
    for ca in [offline, both] {
        ca.refused(
            &other,
            unauthenticated,
            "the token is for \"vault\"; expected",
        )
        .await;
    }
    // Bound to nothing.
    let unbound = cluster.token(ORDERS, AUDIENCE, None).unwrap();
    for ca in all {
        ca.refused(&unbound, unauthenticated, "bound to no pod")
            .await;
    }
    // Changed, and of the right form.
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let changed: String = signature.chars().rev().collect();
    let changed = format!("{signed}.{changed}");
    asking
        .refused(&changed, unauthenticated, "does not accept the token")
        .await;
    for ca in [offline, both] {
        ca.refused(&changed, unauthenticated, "token's signature")
            .await;
    }
    // Who may not.
    let uid = cluster.pod("kube-system", "dns-1", "dns", None).unwrap();
    let dns = cluster
        .token(("kube-system", "dns"), AUDIENCE, Some(("dns-1", &uid)))
        .unwrap();
    let own = ("countersign-system", "countersign-ca");
    let uid = cluster.pod(own.0, "fake", own.1, None).unwrap();
    let mesh = cluster.token(own, AUDIENCE, Some(("fake", &uid))).unwrap();
    for ca in all {
        let rule = r#""pod.namespace != \"kube-system\"" is false"#;
        ca.refused(&dns, Code::PermissionDenied, rule).await;
        ca.refused(&mesh, Code::PermissionDenied, "allowSystemNamespace")
            .await;
    }
}

async fn pods_that_are_gone(
    cluster: &Cluster,
    asking: [&Ca; 2],
    offline: &Ca,
    token: &str,
    uid: &str,
) {
    // Run to its end.
    let ended_uid = cluster.pod("shop", "job-1", "orders", None).unwrap();
    let ended = cluster
        .token(ORDERS, AUDIENCE, Some(("job-1", &ended_uid)))
        .unwrap();
    let status = "/api/v1/namespaces/shop/pods/job-1/status";
    cluster
        .patch(status, &json!({"status": {"phase": "Succeeded"}}))
        .unwrap();
    for ca in asking {
        ca.refused(&ended, Code::Unauthenticated, "has ended (Succeeded)")
            .await;
    }
    // Deleted a moment after it was accepted: the API server may remember the token, and the pod is gone all the same.
    for ca in asking {
        ca.attest(token).await.unwrap();
    }
    cluster
        .delete("/api/v1/namespaces/shop/pods/orders-1")
        .unwrap();
    for ca in asking {
        let refused = ca.attest(token).await.unwrap_err();
        let told = refused.message();
        let known = told.contains("does not exist any more") || told.contains("does not accept");
        assert!(known, "{told}");
        assert_eq!(refused.code(), Code::Unauthenticated, "{told}");
    }
    // Another one of its name.
    let new_uid = cluster.pod("shop", "orders-1", "orders", None).unwrap();
    assert_ne!(new_uid, uid);
    for ca in asking {
        let refused = ca.attest(token).await.unwrap_err();
        let told = refused.message();
        let known =
            told.contains("the one that exists now has") || told.contains("does not accept");
        assert!(known, "{told}");
        assert_eq!(refused.code(), Code::Unauthenticated, "{told}");
    }
    // By keys alone that cannot be known. It is what the documentation says.
    offline.attest(token).await.unwrap();
}
