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

/// One of each other kind, with every field.
const OTHERS: &str = r#"
apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: more, namespace: shop}
spec:
  default: allow
  rules:
  - name: everything else
    action: deny
    from: [{anonymous: true, forwardedFor: 10.0.0.0/8}, {trustDomain: "*", not: [{workload: shop/intern}, {namespace: test, cidr: 10.9.0.0/16}]}]
    intent: {scope: [orders.create, orders.read], context: {order.tenant: [acme, 7]}, requester: shop/gateway}
    to: [{sni: ["*.orders.shop"], not: {sni: [x.orders.shop]}}]
  - {name: by id, action: audit, intent: {requester: "spiffe://shop.example/ns/shop/**"}}
---
apiVersion: countersign.dev/v1
kind: MeshMode
metadata: {name: shop, namespace: shop}
spec: {target: {workloads: [orders]}, mode: permissive, ports: {'8080': strict}, ambiguousPaths: accept}
---
apiVersion: countersign.dev/v1
kind: EgressPolicy
metadata: {name: mail, namespace: shop}
spec:
  target: {labels: {app: orders}}
  rules:
  - {name: provider, action: allow, to: [{hosts: ["*.mail.example"], ports: [443, 587]}, {cidrs: [192.0.2.0/24]}]}
  - {name: nothing else, action: deny}
---
apiVersion: countersign.dev/v1
kind: TrustDomain
metadata: {name: partner, namespace: countersign-system}
spec: {trustDomain: partner.example, bundleEndpoint: {url: "https://partner.example/bundle", profile: https_web}}
---
apiVersion: countersign.dev/v1
kind: TrustDomain
metadata: {name: other, namespace: countersign-system}
spec: {trustDomain: other.example, bundleEndpoint: {url: "https://other.example:8443", profile: https_spiffe, spiffeId: "spiffe://other.example/bundle"}}
---
apiVersion: countersign.dev/v1
kind: TransactionPolicy
metadata: {name: gateway, namespace: shop}
spec:
  target: {workloads: [gateway]}
  rules:
  - name: an order is created
    scope: [orders.create]
    subject: {claims: {groups: buyer}}
    to: [{methods: [POST], paths: ["/tenants/{tenant}/orders"]}]
    context: {order.tenant: path.tenant, buyer: subject.claims.sub}
    lifetime: 15s
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
    let [TokenLocation::Header { name, prefix }] = issuer.from.as_slice() else {
        panic!("expected one header, got {:?}", issuer.from);
    };
    assert_eq!(
        (name.as_str(), prefix.as_str()),
        ("authorization", "Bearer ")
    );
    assert_eq!(issuer.leeway.as_secs(), 30);
    assert!(issuer.forward);
    assert_eq!(issuer.keys, KeySource::Discovery);
}

#[test]
fn json_is_read_back_as_it_was_and_no_unknown_field_is() {
    let text = format!("{ORDERS}---{CORP}---{OTHERS}");
    let documents = parse([("p.yaml".to_owned(), text)]).unwrap();
    assert_eq!(documents.len(), 8);
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

#[test]
fn every_mistake_of_a_file_is_told() {
    let text = r#"apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: orders, namespace: shop/x}
spec:
  target: {}
  mod: observe
  rules:
  - name: one
    action: alow
    from: [{workload: checkout}, {namespace: shop, anonymous: true}, {}]
    to: [{prots: [8080], methods: [post], paths: [orders, "/a/**/b"], ports: 8080}]
  - name: one
    action: allow
    intent: {scope: ["x y"]}
  - action: deny
    from: []
    subject: {claims: {level: 1.5}}
  - name: one
    action: deny
  - name: one
    action: deny
    when: 5
---
apiVersion: countersign.dev/v1
kind: TokenIssuer
metadata: {name: corp, namespace: shop}
spec: {issuer: https://x, audiences: [], algorithms: [HS256], jwks: {keys: 1}, jwksUri: "ftp://x", leeway: 10m, from: [{prefix: x}]}
---
apiVersion: countersign.dev/v1
kind: MeshMode
---
apiVersion: countersign.dev/v2
kind: AccessPolicy
---
apiVersion: countersign.dev/v1
kind: AcessPolicy
---
apiVersion: apps/v1
kind: Deployment
anything: {at: all}
---
kind: AccessPolicy
---
- no mapping
"#;
    let expected = r#"p.yaml:3:37: expected a namespace such as shop, got "shop/x": '/' is not allowed: only letters, digits, '.', '-' and '_' are
p.yaml:5:11: expected `labels` or `workloads`: leave `target` out to mean every workload of the namespace
p.yaml:6:3: unknown field `mod`, did you mean `mode`?
p.yaml:9:13: unknown word "alow", did you mean `allow`?
p.yaml:10:23: expected a workload as namespace/service-account, such as shop/web, got "checkout": there is no `/` between namespace and service account
p.yaml:10:34: `anonymous` is a caller without an identity: it cannot stand beside `workload`, `namespace`, `spiffe` or `trustDomain`; write two entries
p.yaml:10:70: expected at least one field, got an empty mapping
p.yaml:11:11: unknown field `prots`, expected `hosts`, `grpc`, `headers`, `sni` or `not`
p.yaml:11:36: expected a method such as GET, got "post": methods are written in upper case: POST
p.yaml:11:51: expected a path such as /orders/{id}/items/**, got "orders": a path starts with `/`
p.yaml:11:59: expected a path such as /orders/{id}/items/**, got "/a/**/b": `**` may only be the last segment
p.yaml:11:78: expected a list of ports, got the number 8080
p.yaml:14:22: expected a scope such as orders.create, got "x y": ' ' is not allowed in one
p.yaml:15:5: missing field `name`
p.yaml:16:11: expected at least one of the callers, got an empty list: leave the field out or fill it
p.yaml:17:31: expected a string, a whole number or a boolean, got the number 1.5
p.yaml:22:11: expected a string, got the number 5: put it in quotes
p.yaml:27:38: expected at least one of the audiences, got an empty list: leave the field out or fill it
p.yaml:27:55: expected a signature algorithm such as ES256, got "HS256": "HS256" is not an accepted signature algorithm; expected one of ES256, ES384, ES512, RS256, RS384, RS512, PS256, PS384, PS512, EdDSA
p.yaml:27:69: expected a JSON Web Key Set: KEYSET
p.yaml:27:89: expected a URL such as https://login.example.com/jwks, got "ftp://x"
p.yaml:27:108: expected whole seconds, at most 5m, got "10m"
p.yaml:27:120: `prefix` stands before a token in a header: missing field `header`
p.yaml:29:1: missing field `metadata`
p.yaml:29:1: missing field `spec`
p.yaml:32:1: unknown version "countersign.dev/v2", expected countersign.dev/v1
p.yaml:35:1: unknown kind "AcessPolicy", did you mean `AccessPolicy`?
p.yaml:42:1: missing field `apiVersion`, expected countersign.dev/v1
p.yaml:44:1: expected a document with `apiVersion` and `kind`, got a list"#;
    let key_set = countersign_identity::jwt::KeySet::parse(r#"{"keys":1}"#)
        .map(|_| ())
        .unwrap_err();
    assert_eq!(
        errors(text),
        expected.replace("KEYSET", &key_set.to_string())
    );
}

#[test]
fn every_mistake_of_the_other_kinds_is_told() {
    let text = r#"apiVersion: countersign.dev/v1
kind: MeshMode
metadata: {name: a, namespace: shop}
spec: {mode: strikt, ports: {http: strict, '0': strict, '80': none}, target: {labels: {}}}
---
apiVersion: countersign.dev/v1
kind: MeshMode
metadata: {name: b, namespace: shop}
spec: {target: {workloads: [orders]}}
---
apiVersion: countersign.dev/v1
kind: EgressPolicy
metadata: {name: a, namespace: shop}
spec: {rules: [{name: x, action: allow, to: [{}, {hosts: ["a:1"], cidrs: [10.0.0.1/8]}]}]}
---
apiVersion: countersign.dev/v1
kind: TrustDomain
metadata: {name: a, namespace: countersign-system}
spec: {trustDomain: "*", bundleEndpoint: {url: "http://x", profile: https_spiffe}}
---
apiVersion: countersign.dev/v1
kind: TransactionPolicy
metadata: {name: a, namespace: shop}
spec: {rules: [{name: x, scope: [], lifetime: 10m, context: {a: 1}}, {name: x, scope: [a]}, {name: x, scope: [b]}]}
---
apiVersion: countersign.dev/v1
kind: TrustDomain
metadata: {name: b, namespace: shop}
spec: {trustDomain: a.example, bundleEndpoint: {url: "https://x", profile: https_web}}
---
apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: a, namespace: shop}
spec: {rules: [{name: x, action: allow, from: [{anonymous: false}], to: [{sni: [a/b]}], intent: {requester: gateway}}], default: open}
"#;
    let expected = r#"p.yaml:4:14: unknown word "strikt", did you mean `strict`?
p.yaml:4:36: expected a port from 1 to 65535 as key, got "http"
p.yaml:4:49: expected a port from 1 to 65535 as key, got "0"
p.yaml:4:63: unknown word "none", expected `strict` or `permissive`
p.yaml:4:78: expected `labels` or `workloads`: leave `target` out to mean every workload of the namespace
p.yaml:9:7: expected `mode`, `ports` or `ambiguousPaths`
p.yaml:14:46: expected at least one field, got an empty mapping
p.yaml:14:59: expected a host such as api.example.com or *.example.com, got "a:1": a host is written without a port: use `ports`
p.yaml:14:75: expected an IP address or range such as 10.0.0.0/8, got "10.0.0.1/8": the address has bits behind its prefix; the range that it is in is 10.0.0.0/8
p.yaml:19:21: expected a trust domain such as partner.example, got "*": TRUSTDOMAIN
p.yaml:19:42: missing field `spiffeId`: the profile https_spiffe expects one
p.yaml:19:48: expected a URL such as https://partner.example/bundle, got "http://x"
p.yaml:24:33: expected at least one of the scopes, got an empty list: leave the field out or fill it
p.yaml:24:47: expected whole seconds, from 15s to 5m, got "10m"
p.yaml:24:65: expected a string, got the number 1: put it in quotes
p.yaml:24:93: the rule "x" has the name of the one on line 24: names are unique in a policy
p.yaml:26:1: a TrustDomain concerns the whole mesh: expected the namespace countersign-system, got shop
p.yaml:34:60: expected `true`: leave the field out, or put it under `not`
p.yaml:34:81: expected a server name such as orders.shop or *.example.com, got "a/b": it is not a host name
p.yaml:34:109: expected a workload as namespace/service-account, such as shop/gateway, or a SPIFFE ID, got "gateway": there is no `/` between namespace and service account
p.yaml:34:130: unknown word "open", expected `deny` or `allow`"#;
    let any = countersign_identity::TrustDomain::parse("*").unwrap_err();
    assert_eq!(
        errors(text),
        expected.replace("TRUSTDOMAIN", &any.to_string())
    );
}

#[test]
fn names_are_unique_per_kind_and_namespace() {
    let rule = "spec: {rules: [{name: a, action: deny}, {name: a, action: deny}]}";
    let policy = |namespace: &str, spec: &str| {
        format!(
            "apiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {{name: x, namespace: {namespace}}}\n{spec}\n---\n"
        )
    };
    assert_eq!(
        errors(&policy("a", rule)),
        "p.yaml:4:41: the rule \"a\" has the name of the one on line 4: names are unique in a policy"
    );
    let rule = "spec: {rules: [{name: a, action: deny}]}";
    let files = ["a.yaml", "b.yaml"].map(|file| (file.to_owned(), policy("a", rule)));
    assert_eq!(
        parse(files).unwrap_err().to_string(),
        "b.yaml:1:1: AccessPolicy a/x is already defined at a.yaml:1"
    );
    let files = ["a", "b"].map(|namespace| (namespace.to_owned(), policy(namespace, rule)));
    assert_eq!(parse(files).unwrap().len(), 2);
}

#[test]
fn documents_of_others_are_skipped() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: x}\n---\n";
    assert_eq!(parse([("k.yaml".to_owned(), text.to_owned())]).unwrap(), []);
    assert_eq!(parse([]).unwrap(), []);
}

#[test]
fn a_token_is_in_a_header_a_query_or_a_cookie_and_its_claims_go_to_headers() {
    let text = format!(
        "{CORP}  from: [{{header: X-Token}}, {{query: access token}}, {{cookie: Session}}]\n  \
         claimHeaders: {{X-User: sub, x-groups: realm.groups}}\n  payloadHeader: x-jwt-payload\n"
    );
    let documents = parse([("p.yaml".to_owned(), text)]).unwrap();
    let [Document::TokenIssuer(issuer)] = documents.as_slice() else {
        panic!("expected an issuer, got {documents:?}");
    };
    let json = serde_json::to_value(issuer).unwrap();
    assert_eq!(
        json["from"],
        serde_json::json!([
            {"header": {"name": "x-token", "prefix": ""}}, {"query": "access token"}, {"cookie": "Session"},
        ])
    );
    assert_eq!(json["claimHeaders"]["x-user"], "sub");
    let told: Vec<_> = issuer.told_headers().map(|name| name.as_str()).collect();
    assert_eq!(told, ["x-groups", "x-user", "x-jwt-payload"]);
    for (field, wrong) in [
        (
            "from",
            serde_json::json!([{"header": {"name": "a", "prefix": "", "x": 1}}]),
        ),
        ("from", serde_json::json!([{"query": "a", "cookie": "a"}])),
        ("from", serde_json::json!([{"body": "a"}])),
        ("from", serde_json::json!([{"cookie": "a=b"}])),
        ("claimHeaders", serde_json::json!({"host": "sub"})),
        ("payloadHeader", serde_json::json!("countersign-peer")),
    ] {
        let mut changed = json.clone();
        changed[field] = wrong;
        assert!(
            serde_json::from_value::<TokenIssuer>(changed).is_err(),
            "{field}"
        );
    }
}

#[test]
fn every_mistake_about_tokens_and_claims_is_told() {
    let text = "apiVersion: countersign.dev/v1
kind: TokenIssuer
metadata: {name: a, namespace: shop}
spec:
  issuer: https://x
  audiences: [a]
  from: [{}, {query: ''}, {cookie: a b}, {query: a, cookie: b}, {query: a, prefix: b}, {body: a}]
  claimHeaders: {x-a: sub, X-A: iss, host: sub, a b: c, x-c: ''}
  payloadHeader: countersign_peer
---
apiVersion: countersign.dev/v1
kind: TokenIssuer
metadata: {name: b, namespace: shop}
spec: {issuer: https://x, audiences: [a], claimHeaders: {x-a: sub}, payloadHeader: x-a}
---
apiVersion: countersign.dev/v1
kind: TokenIssuer
metadata: {name: c, namespace: shop}
spec: {issuer: https://x, audiences: [a], payloadHeader: Authorization}
";
    let expected = "p.yaml:7:10: expected `header`, `query` or `cookie`
p.yaml:7:22: expected a string, got an empty one
p.yaml:7:36: expected a cookie such as session, got \"a b\": ' ' is not allowed in the name of a cookie
p.yaml:7:42: `header`, `query` and `cookie` are places of their own: write an entry for each
p.yaml:7:65: `prefix` stands before a token in a header: missing field `header`
p.yaml:7:88: expected `header`, `query` or `cookie`
p.yaml:7:89: unknown field `body`, expected `header`, `prefix`, `query` or `cookie`
p.yaml:8:33: this header is given twice: upper and lower case are the same
p.yaml:8:44: expected a header such as x-jwt-sub, got \"host\": it is a header of the connection or of the sidecar's own; choose another, such as x-jwt-sub
p.yaml:8:54: expected a header such as x-jwt-sub, got \"a b\": ' ' is not allowed in the name of a header
p.yaml:8:62: expected a string, got an empty one
p.yaml:9:18: expected a header such as x-jwt-sub, got \"countersign_peer\": it is a header of the connection or of the sidecar's own; choose another, such as x-jwt-sub
p.yaml:14:7: x-a is filled with all claims and with one: a header tells one thing
p.yaml:19:7: authorization carries the token: it cannot be filled with a claim, too";
    assert_eq!(errors(text), expected);
}

#[test]
fn inline_keys_are_checked_and_kept() {
    let keys = r#"{"keys": []}"#;
    let with = |spec: &str| format!("{CORP}  {spec}\n");
    for spec in [format!("jwks: {keys}"), format!("jwks: '{keys}'")] {
        let documents = parse([("p.yaml".to_owned(), with(&spec))]);
        match documents.as_deref() {
            Ok([Document::TokenIssuer(issuer)]) => {
                assert!(matches!(issuer.keys, KeySource::Inline(_)))
            }
            other => assert!(
                other.unwrap_err().to_string().contains("Key Set"),
                "{other:?}"
            ),
        }
    }
    let both =
        with("jwksUri: https://x/keys").replace("jwksUri", "jwks: {keys: [{kty: x}]}\n  jwksUri");
    assert!(errors(&both).contains("come from one place") || errors(&both).contains("Key Set"));
}

mod hostile {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_mutated_document_is_read_or_refused(
            cuts in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..6, "[-\\[\\]{}:,&*!|>'\"#\n a1/*%]{0,4}"), 1..5),
        ) {
            let mut text: Vec<char> = format!("{ORDERS}---{CORP}").chars().collect();
            for (at, length, insert) in cuts {
                let at = at.index(text.len());
                let end = (at + length).min(text.len());
                text.splice(at..end, insert.chars());
            }
            let text: String = text.into_iter().collect();
            if let Err(found) = parse([("p.yaml".to_owned(), text.clone())]) {
                let lines = text.lines().count() + 1;
                for mistake in found.iter() {
                    prop_assert!((1..=lines).contains(&mistake.line) && mistake.column > 0, "{}", mistake);
                    prop_assert!(!mistake.message.contains('\n'), "{}", mistake);
                }
            }
        }

        #[test]
        fn mutated_json_is_read_or_refused(at in any::<prop::sample::Index>(), insert in "[\\[\\]{}:,\"a1n]{0,3}") {
            for document in parse([("p.yaml".to_owned(), format!("{ORDERS}---{CORP}"))]).unwrap() {
                let mut json: Vec<char> = serde_json::to_string(&document).unwrap().chars().collect();
                let at = at.index(json.len());
                json.splice(at..=at, insert.chars());
                let _ = serde_json::from_str::<Document>(&json.into_iter().collect::<String>());
            }
        }
    }
}

#[test]
fn what_is_skipped_is_noted() {
    let text = format!(
        "{CORP}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: x}}\n---\napiVersion: countersign.dev/v1\nkind: PolicyTest\n"
    );
    let parsed = parse_all([("p.yaml".to_owned(), text)]);
    let told =
        |list: &[crate::Diagnostic]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(parsed.documents.len(), 1);
    assert_eq!(
        told(&parsed.notes),
        ["p.yaml:9:1: skipped: a document of the API \"v1\" is not of this language"]
    );
    assert_eq!(
        told(&parsed.mistakes),
        [
            "p.yaml:13:1: a PolicyTest is no policy: tests stand in files of their own that end in .test.yaml"
        ]
    );
}

#[cfg(feature = "tools")]
mod written {
    use super::*;

    /// Without places: a text that is written has its own.
    fn json(document: &Document) -> serde_json::Value {
        let mut json = serde_json::to_value(document).unwrap();
        forget_places(&mut json);
        json
    }

    fn forget_places(json: &mut serde_json::Value) {
        match json {
            serde_json::Value::Object(fields) => {
                fields.remove("origin");
                fields.values_mut().for_each(forget_places);
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(forget_places),
            _ => {}
        }
    }

    #[test]
    fn every_kind_is_read_back_as_it_was() {
        let any = CORP
            .replace("name: corp", "name: any")
            .replace("[shop]", "\"*\"");
        let text = format!("{ORDERS}---{OTHERS}---{CORP}---{any}");
        let documents = parse([("p.yaml".to_owned(), text)]).unwrap();
        let comments = vec![
            Comments {
                document: vec!["from a.yaml:1".to_owned(), "two\nlines".to_owned()],
                rules: vec![vec!["the first".to_owned()]],
            };
            documents.len()
        ];
        let written = to_yaml(&documents, &comments).unwrap();
        let again = parse([("q.yaml".to_owned(), written.clone())]).unwrap();
        assert_eq!(documents.len(), again.len());
        for (before, after) in documents.iter().zip(&again) {
            assert_eq!(json(before), json(after), "{written}");
        }
        assert!(written.contains("# twolines"), "{written}");
        assert!(
            written.contains("  # the first\n  - name: everything at once\n"),
            "{written}"
        );
    }
}
