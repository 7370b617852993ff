use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use countersign_identity::TrustDomain;
use countersign_policy::yaml;

use super::*;
use crate::issuers::Keys;
use crate::policy::compile_texts;

const POLICY: &str = r#"
apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: orders, namespace: shop}
spec:
  target: {labels: {app: orders}}
  rules:
  - {name: web, action: allow, from: [{workload: shop/web}], subject: {issuer: corp}}
---
apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: everyone, namespace: shop}
spec:
  rules:
  - {name: probes, action: allow, to: [{paths: ["/health"]}]}
---
apiVersion: countersign.dev/v1
kind: TokenIssuer
metadata: {name: corp, namespace: shop}
spec: {issuer: "https://login.shop.example", audiences: [shop]}
---
apiVersion: countersign.dev/v1
kind: TokenIssuer
metadata: {name: bank, namespace: vault}
spec: {issuer: "https://login.bank.example", audiences: [vault], jwksUri: "https://login.bank.example/keys"}
---
apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: safe, namespace: vault}
spec:
  rules:
  - {name: clerks, action: allow, subject: {issuer: bank}}
"#;

const DIRECTORY: &str = r#"
workloads:
- {name: orders, namespace: shop, serviceAccount: orders, labels: {app: orders}, wireAddress: "127.0.0.1:1", ports: [{port: 8080, protocol: http1, destination: "127.0.0.1:8080", application: "127.0.0.1:8081"}]}
- {name: web, namespace: shop, serviceAccount: web, labels: {app: web}, wireAddress: "127.0.0.2:1"}
- {name: safe, namespace: vault, serviceAccount: safe, wireAddress: "127.0.0.3:1"}
- {name: idle, namespace: other, serviceAccount: idle, wireAddress: "127.0.0.4:1"}
services:
- {name: "orders.shop:80", port: 8080, workloads: [orders]}
"#;

struct Fixture {
    in_force: InForce,
    directory: Directory,
    keys: KeyTable,
}

fn fixture() -> Fixture {
    let trust_domain = TrustDomain::parse("shop.example").unwrap();
    let in_force = compile_texts(&trust_domain, "r1", &[("policy.yaml", POLICY)]).unwrap();
    let keys = in_force
        .issuers
        .iter()
        .filter_map(KeyPlace::of)
        .map(|place| {
            let keys = Keys {
                jwks: Some(Arc::from(format!("keys of {place:?}"))),
                fetched_at: Some(UNIX_EPOCH + Duration::from_secs(1000)),
                error: None,
            };
            (place, keys)
        });
    let keys = keys.collect();
    let directory = yaml::read("directory.yaml", DIRECTORY, |value| {
        crate::directory::directory(value, &trust_domain)
    });
    Fixture {
        in_force,
        keys,
        directory: directory.unwrap(),
    }
}

impl Fixture {
    /// The names of the documents and issuers that concern a workload.
    fn concerns(&self, workload: &str) -> (Vec<String>, Vec<String>) {
        let workload = &self.directory.workloads[workload];
        let snapshot = policy(&self.in_force, workload).unwrap();
        assert_eq!(snapshot.revision, "r1");
        let documents = snapshot.documents.iter().map(|document| {
            let document: Document = serde_json::from_str(&document.json).unwrap();
            document.metadata().to_string()
        });
        let keys = issuer_keys(&self.in_force, &self.keys, workload);
        let mut documents: Vec<_> = documents.collect();
        documents.sort();
        (
            documents,
            keys.issuers.into_iter().map(|keys| keys.issuer).collect(),
        )
    }
}

#[test]
fn a_workload_is_told_what_concerns_it_and_nothing_else() {
    let fixture = fixture();
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (documents, issuers) = fixture.concerns("orders");
    assert_eq!(
        documents,
        names(&["shop/corp", "shop/everyone", "shop/orders"])
    );
    assert_eq!(issuers, names(&["shop/corp"]));
    let (documents, issuers) = fixture.concerns("safe");
    assert_eq!(documents, names(&["vault/bank", "vault/safe"]));
    assert_eq!(issuers, names(&["vault/bank"]));
    // Policy for the workloads of another label does not concern it.
    let (documents, _) = fixture.concerns("web");
    assert!(
        !documents.contains(&"shop/orders".to_owned()),
        "{documents:?}"
    );
    assert_eq!(fixture.concerns("idle"), (vec![], vec![]));
}

#[test]
fn keys_come_from_where_the_document_says_and_from_nowhere_else() {
    let mut fixture = fixture();
    let orders = fixture.directory.workloads["orders"].clone();
    let [keys] = issuer_keys(&fixture.in_force, &fixture.keys, &orders)
        .issuers
        .try_into()
        .unwrap();
    assert!(
        keys.jwks.contains("https://login.shop.example"),
        "{}",
        keys.jwks
    );
    assert_eq!(keys.fetched_at, 1000);
    // The document now names another issuer: the keys of the one before are not its keys.
    let trust_domain = TrustDomain::parse("shop.example").unwrap();
    let moved = POLICY.replace("https://login.shop.example", "https://login2.shop.example");
    fixture.in_force = compile_texts(&trust_domain, "r2", &[("policy.yaml", &moved)]).unwrap();
    let [keys] = issuer_keys(&fixture.in_force, &fixture.keys, &orders)
        .issuers
        .try_into()
        .unwrap();
    assert_eq!((keys.jwks.as_str(), keys.fetched_at), ("", 0));
}

#[test]
fn keys_in_the_document_are_told_without_being_fetched() {
    let jwks = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"k","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
    let with_keys = POLICY.replace(
        "audiences: [shop]",
        &format!("audiences: [shop], jwks: {jwks}"),
    );
    let trust_domain = TrustDomain::parse("shop.example").unwrap();
    let in_force = compile_texts(&trust_domain, "r1", &[("policy.yaml", &with_keys)]).unwrap();
    let fixture = Fixture {
        in_force,
        ..fixture()
    };
    let orders = &fixture.directory.workloads["orders"];
    let [keys] = issuer_keys(&fixture.in_force, &KeyTable::new(), orders)
        .issuers
        .try_into()
        .unwrap();
    let told: serde_json::Value = serde_json::from_str(&keys.jwks).unwrap();
    assert_eq!(told["keys"][0]["kid"], "k");
    assert_eq!(keys.fetched_at, 0);
}

#[test]
fn the_directory_has_the_workload_itself_and_what_it_asked_for() {
    let fixture = fixture();
    let workloads = &fixture.directory.workloads;
    let told = directory(&fixture.directory, &workloads["web"], &BTreeSet::new());
    assert_eq!(told.services, []);
    assert_eq!(
        told.self_.unwrap().labels,
        BTreeMap::from([("app", "web")].map(|(k, v)| (k.into(), v.into())))
            .into_iter()
            .collect()
    );
    let asked = BTreeSet::from(["orders.shop:80".to_owned(), "missing.shop:80".to_owned()]);
    let told = directory(&fixture.directory, &workloads["orders"], &asked);
    let endpoint = proto::Endpoint {
        wire_address: "127.0.0.1:1".to_owned(),
        spiffe_id: "spiffe://shop.example/ns/shop/sa/orders".to_owned(),
        destination: "127.0.0.1:8080".to_owned(),
    };
    let service = proto::Service {
        name: "orders.shop:80".to_owned(),
        protocol: proto::Protocol::Http1.into(),
        endpoints: vec![endpoint],
    };
    assert_eq!(told.services, [service]);
    let port = &told.self_.unwrap().ports[0];
    assert_eq!(
        (port.port, port.application.as_str()),
        (8080, "127.0.0.1:8081")
    );
}
