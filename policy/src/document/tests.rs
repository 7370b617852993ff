use super::*;

fn errors(text: &str) -> String {
    parse([("p.yaml".to_owned(), text.to_owned())])
        .map_or_else(|all| all.to_string(), |_| String::new())
}

const ORDERS: &str = r#"
apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: orders, namespace: shop, labels: {team: a}}
spec:
  target: {labels: {app: orders}, workloads: [orders]}
  mode: observe
  rules:
  - name: everything at once
    action: allow
    from:
    - {workload: shop/web, not: {cidr: 10.0.0.0/8}}
    - {namespace: shop, trustDomain: other.example}
    - {spiffe: spiffe://other.example/ns/x/**}
    subject: {issuer: corp, audience: shop, claims: {groups: [buyer, 7], admin: true}, not: {claims: {blocked: true}}}
    to:
    - ports: [8080]
      methods: [GET, POST]
      hosts: [orders.shop, "*.example.com"]
      paths: ["/orders", "/orders/{id}/items/**"]
      headers: {X-Tenant: acme}
      not: {paths: ["/orders/secret/**"]}
    - {grpc: [{service: shop.v1.Orders}, {service: shop.v1.Pay, method: Charge}]}
    when: 'path.id == "1"'
"#;

const CORP: &str = r#"
apiVersion: countersign.dev/v1
kind: TokenIssuer
metadata: {name: corp, namespace: shop}
spec:
  issuer: https://login.example
  audiences: [shop]
"#;

#[test]
fn a_policy_is_read_with_its_places() {
    let text = format!("{ORDERS}---{CORP}");
    let documents = parse([("p.yaml".to_owned(), text)]).unwrap();
    let [
        Document::AccessPolicy(policy),
        Document::TokenIssuer(issuer),
    ] = documents.as_slice()
    else {
        panic!("expected a policy and an issuer, got {documents:?}");
    };
    assert_eq!(policy.metadata.to_string(), "shop/orders");
    assert_eq!(policy.mode, Mode::Observe);
    let rule = policy.rules.first().unwrap();
    assert_eq!((rule.origin.line, rule.origin.column), (9, 5));
    assert_eq!(rule.when.as_ref().unwrap().origin.line, 24);
    assert_eq!(rule.from.len(), 3);
    assert_eq!(
        rule.to[0].is.headers.keys().next().unwrap().as_str(),
        "x-tenant"
    );
    assert_eq!(
        issuer.algorithms,
        countersign_identity::jwt::Algorithm::DEFAULT
    );
    assert_eq!(issuer.from[0].prefix, "Bearer ");
    assert_eq!(issuer.leeway.as_secs(), 30);
    assert!(issuer.forward);
    assert_eq!(issuer.keys, KeySource::Discovery);
}

#[test]
fn json_is_read_back_as_it_was_and_no_unknown_field_is() {
    let documents = parse([("p.yaml".to_owned(), format!("{ORDERS}---{CORP}"))]).unwrap();
    for document in documents {
        let json = serde_json::to_value(&document).unwrap();
        assert_eq!(
            serde_json::from_value::<Document>(json.clone()).unwrap(),
            document
        );
        let kind = json.as_object().unwrap().keys().next().unwrap().clone();
        let mut more = json.clone();
        more[&kind]["surprise"] = serde_json::json!(1);
        assert!(
            serde_json::from_value::<Document>(more)
                .unwrap_err()
                .to_string()
                .contains("surprise")
        );
        let mut less = json;
        less[&kind].as_object_mut().unwrap().remove("origin");
        assert!(serde_json::from_value::<Document>(less).is_err());
    }
}
