//! What Istio's reference says of the edges of its documents, one by one; its sections are named.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod support;

use countersign_policy::{Document, Policy, WorkloadPolicy, document};

use support::{TestCall, call, domain, orders};

/// Callers without an identity are known.
const PERMISSIVE: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: PERMISSIVE}}
";

fn compile(documents: Vec<Document>) -> WorkloadPolicy {
    Policy::compile("r1", &domain(), documents)
        .unwrap()
        .for_workload(&orders())
}

/// Decides calls by policies of the namespace shop that have these specs.
fn allowed(specs: &[&str], call: &TestCall) -> bool {
    let files = specs.iter().enumerate().map(|(at, spec)| {
        let text = format!(
            "apiVersion: security.istio.io/v1beta1\nkind: AuthorizationPolicy\nmetadata: {{name: p{at}, namespace: shop}}\nspec: {spec}\n"
        );
        (format!("{at}.yaml"), text)
    });
    let permissive = ("mode.yaml".to_owned(), PERMISSIVE.to_owned());
    let documents = document::parse(files.chain([permissive])).unwrap();
    call.is_allowed_by(&compile(documents))
}

#[test]
fn the_edges_of_istios_reference_are_as_it_says() {
    let web = call();
    let stranger = call().anonymous();
    let other = call().by("spiffe://other.example/ns/guest/sa/x");
    let opaque = call().opaque();
    let get = call().request("GET", "/a");
    for (section, specs, call, expected) in [
        ("allow-nothing: an empty spec", &["{}"][..], &web, false),
        ("allow-nothing: no rules", &["{action: ALLOW}"], &web, false),
        (
            "allow-nothing: rules without a value",
            &["{rules: }"],
            &web,
            false,
        ),
        (
            "allow-nothing: an empty list",
            &["{rules: []}"],
            &web,
            false,
        ),
        ("allow-all: an empty rule", &["{rules: [{}]}"], &web, true),
        (
            "allow-all: anonymous callers, too",
            &["{rules: [{}]}"],
            &stranger,
            true,
        ),
        (
            "allow-all: any trust domain, too",
            &["{rules: [{}]}"],
            &other,
            true,
        ),
        (
            "allow-all: connections that are not HTTP, too",
            &["{rules: [{}]}"],
            &opaque,
            true,
        ),
        (
            "deny without rules never matches",
            &["{action: DENY}"],
            &web,
            true,
        ),
        ("deny-all", &["{action: DENY, rules: [{}]}"], &web, false),
        (
            "deny-all: connections, too",
            &["{action: DENY, rules: [{}]}"],
            &opaque,
            false,
        ),
        (
            "no allow policy: allowed",
            &["{action: AUDIT, rules: [{}]}"],
            &web,
            true,
        ),
        (
            "deny first",
            &["{rules: [{}]}", "{action: DENY, rules: [{}]}"],
            &web,
            false,
        ),
        ("any allow policy", &["{}", "{rules: [{}]}"], &web, true),
        // TCP: an allow rule with fields of HTTP is ignored, a deny rule is without them.
        (
            "TCP: allow with methods",
            &["{rules: [{to: [{operation: {methods: [GET]}}]}]}"],
            &opaque,
            false,
        ),
        (
            "TCP: allow with methods in one of two operations",
            &["{rules: [{to: [{operation: {methods: [GET]}}, {operation: {ports: ['8080']}}]}]}"],
            &opaque,
            false,
        ),
        (
            "TCP: allow with a header in a condition",
            &["{rules: [{when: [{key: 'request.headers[x]', notValues: [y]}]}]}"],
            &opaque,
            false,
        ),
        (
            "TCP: deny with methods on the port",
            &["{action: DENY, rules: [{to: [{operation: {methods: [POST], ports: ['8080']}}]}]}"],
            &opaque,
            false,
        ),
        (
            "TCP: deny with methods on another port",
            &["{action: DENY, rules: [{to: [{operation: {methods: [POST], ports: ['9']}}]}]}"],
            &opaque,
            true,
        ),
        (
            "TCP: deny with a token's principal",
            &["{action: DENY, rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}"],
            &opaque,
            false,
        ),
        (
            "deny without a token's principal: the token is required",
            &["{action: DENY, rules: [{from: [{source: {notRequestPrincipals: ['*']}}]}]}"],
            &get,
            false,
        ),
        // Absence.
        (
            "notPrincipals: an anonymous caller is none",
            &["{rules: [{from: [{source: {notPrincipals: [cluster.local/ns/shop/sa/web]}}]}]}"],
            &stranger,
            true,
        ),
        (
            "notPrincipals: any identity",
            &["{action: DENY, rules: [{from: [{source: {notPrincipals: ['*']}}]}]}"],
            &stranger,
            false,
        ),
        (
            "notPrincipals: any identity",
            &["{action: DENY, rules: [{from: [{source: {notPrincipals: ['*']}}]}]}"],
            &web,
            true,
        ),
        (
            "principals: presence",
            &["{rules: [{from: [{source: {principals: ['*']}}]}]}"],
            &stranger,
            false,
        ),
        (
            "notNamespaces: an anonymous caller is of none",
            &["{action: DENY, rules: [{from: [{source: {notNamespaces: [shop]}}]}]}"],
            &stranger,
            false,
        ),
        (
            "namespaces: in any trust domain",
            &["{rules: [{from: [{source: {namespaces: [guest]}}]}]}"],
            &other,
            true,
        ),
        (
            "serviceAccounts: of the policy's namespace",
            &["{rules: [{from: [{source: {serviceAccounts: [web]}}]}]}"],
            &web,
            true,
        ),
        (
            "principals: cluster.local is the own trust domain",
            &["{rules: [{from: [{source: {principals: [cluster.local/ns/guest/sa/x]}}]}]}"],
            &other,
            false,
        ),
        (
            "an empty list is left out",
            &["{rules: [{from: [{source: {principals: [], namespaces: [shop]}}]}]}"],
            &web,
            true,
        ),
    ] {
        assert_eq!(allowed(specs, call), expected, "{section}: {specs:?}");
    }
}

#[test]
fn a_policy_of_the_root_namespace_is_about_the_whole_mesh() {
    let policy = |namespace: &str, rest: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: {namespace}{rest}}}\nspec: {{rules: [{{}}]}}\n"
        )
    };
    let allows = |text: String| {
        let documents = document::parse([("p.yaml".to_owned(), text)]).unwrap();
        call().is_allowed_by(&compile(documents))
    };
    assert!(allows(policy("istio-system", "")));
    assert!(!allows(policy("guest", "")));
    // "Dry run": it decides nothing.
    assert!(!allows(policy(
        "shop",
        ", annotations: {istio.io/dry-run: 'true'}"
    )));
    assert!(allows(policy(
        "shop",
        ", annotations: {istio.io/dry-run: 'false'}"
    )));
}

#[test]
fn peer_authentication_is_narrowed_from_mesh_to_port() {
    let modes = |texts: &[&str]| {
        let text = texts.iter().map(|text| {
            format!("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n{text}\n---\n")
        });
        let documents = document::parse([("p.yaml".to_owned(), text.collect())]).unwrap();
        let policy = compile(documents);
        [8080, 9090].map(|port| policy.peer_mode(port) == document::PeerMode::Strict)
    };
    let mesh = "metadata: {name: default, namespace: istio-system}\nspec: {mtls: {mode: STRICT}}";
    let namespace = "metadata: {name: default, namespace: shop}\nspec: {mtls: {mode: PERMISSIVE}}";
    let workload = "metadata: {name: orders, namespace: shop}\nspec: {selector: {matchLabels: {app: orders}}, mtls: {mode: UNSET}, portLevelMtls: {8080: {mode: DISABLE}, 9090: {mode: UNSET}}}";
    assert_eq!(modes(&[mesh]), [true, true]);
    assert_eq!(modes(&[mesh, namespace]), [false, false]);
    assert_eq!(modes(&[mesh, workload]), [false, true]);
    let unset = "metadata: {name: default, namespace: shop}\nspec: {}";
    assert_eq!(modes(&[mesh, unset]), [true, true]);
    let unset = "metadata: {name: default, namespace: istio-system}\nspec: {mtls: {}}";
    assert_eq!(modes(&[unset]), [false, false]);
    let other = "metadata: {name: x, namespace: shop}\nspec: {selector: {matchLabels: {app: x}}, mtls: {mode: PERMISSIVE}}";
    assert_eq!(modes(&[mesh, other]), [true, true]);
}

#[test]
fn request_authentication_is_an_issuer_for_every_rule() {
    let text = r#"
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: shop, creationTimestamp: null}
spec:
  selector: {matchLabels: {app: orders}}
  jwtRules:
  - issuer: https://a.example
    audiences: [shop]
    jwksUri: https://a.example/keys
    fromHeaders: [{name: X-Token, prefix: "jwt "}]
    fromParams: [token]
    fromCookies: [session]
    forwardOriginalToken: true
    outputPayloadToHeader: x-payload
    outputClaimToHeaders: [{header: X-Sub, claim: sub}]
    timeout: 5s
    spaceDelimitedClaims: [scope]
  - issuer: https://b.example
status: {}
"#;
    let documents = document::parse([("p.yaml".to_owned(), text.to_owned())]).unwrap();
    let issuers: Vec<_> = documents
        .iter()
        .map(|document| match document {
            Document::TokenIssuer(issuer) => issuer,
            other => panic!("{other:?}"),
        })
        .collect();
    let [a, b] = issuers.as_slice() else {
        panic!("{issuers:?}");
    };
    assert_eq!(a.metadata.to_string(), "shop/tokens-1");
    assert_eq!(a.origin.line, 8);
    assert_eq!(a.audiences, ["shop"]);
    assert_eq!(a.from.len(), 3);
    assert!(a.forward);
    assert_eq!(a.claim_headers.len(), 1);
    assert!(a.payload_header.is_some());
    assert_eq!(b.metadata.to_string(), "shop/tokens-2");
    assert!(b.audiences.is_empty());
    // RFC 6750: the header, and the query.
    assert_eq!(b.from.len(), 2);
    assert!(!b.forward);
    assert_eq!(b.target.labels.len(), 1);
}

#[test]
fn what_cannot_be_meant_here_is_refused_with_its_place() {
    let text = r#"apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: a, namespace: shop, annotations: {istio.io/dry-run: "maybe"}}
spec:
  action: CUSTOM
  provider: {name: opa}
  targetRefs: [{kind: Gateway, name: g}]
  rules:
  - {from: [], to: [{operation: {}}], when: [{key: request.headers, values: [x]}]}
  - from: [{source: {principals: [spiffe://a/ns/b/sa/c], ipBlocks: [10.0.0.0/33], namespaces: ["a*b"], principal: [x]}}, {}]
  - to: [{operation: {paths: [a, "/{b}"], ports: [http], methods: [""], hosts: x}}]
  - when: [{key: source.ip}, {key: sauce.ip, values: [x]}, {key: "request.headers[:path]", values: [x]}, {key: "experimental.envoy.filters.a[b]", values: [x]}, {key: "destination.labels[x]", values: [y]}]
  - from: [{source: {serviceAccounts: [a/b/c, web], namespaces: [x]}}]
  - null
---
apiVersion: security.istio.io/v1alpha1
kind: AuthorizationPolicy
---
apiVersion: security.istio.io/v1
kind: AuthorisationPolicy
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: a, namespace: countersign-system}
spec: {mtls: {mode: STRICTLY}, portLevelMtls: {http: {mode: STRICT}}}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: a, namespace: shop}
spec: {jwtRules: [{jwksUri: ftp://x, spaceDelimitedClaims: [roles], fromCookies: ["a b"]}]}
"#;
    let found = document::parse([("p.yaml".to_owned(), text.to_owned())]).unwrap_err();
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        found.join("\n"),
        include_str!("istio_reference/refused.txt").trim_end()
    );
}

#[test]
fn the_examples_of_the_documentation_are_policy() {
    let text = include_str!("../../docs/istio.md");
    let blocks = text.split("```yaml\n").skip(1).map(|rest| {
        let block = rest.split("```").next().unwrap();
        let indent = block.len() - block.trim_start_matches(' ').len();
        let lines = block
            .lines()
            .map(|line| line.get(indent..).unwrap_or_default());
        lines.collect::<Vec<_>>().join("\n")
    });
    let files: Vec<(String, String)> = blocks.map(|block| ("istio.md".to_owned(), block)).collect();
    assert_eq!(files.len(), 2);
    let documents = document::parse(files).unwrap();
    Policy::compile("docs", &domain(), documents).unwrap();
}
