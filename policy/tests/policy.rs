//! What a policy is about, what it reports, and what it says of a denial.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod support;

use countersign_policy::document::{self, Action};
use serde_json::json;
use support::{call, compile, domain, mesh_mode, orders, policy, policy_text, token};

const GUEST: &str = "spiffe://shop.example/ns/guest/sa/web";

#[test]
fn observed_rules_are_reported_and_decide_nothing() {
    let observe = policy_text("  - {name: seen, action: deny}\n  - {name: let in, action: allow}\n  - {name: noted, action: audit}")
        .replace("name: orders", "name: trial")
        .replace("spec:\n", "spec:\n  mode: observe\n");
    let enforced = policy_text("  - {name: a, action: allow, from: [{workload: shop/web}]}\n  - {name: log, action: audit}")
        .replace("name: corp", "name: corp2");
    let policy = compile(&format!("{observe}---\n{enforced}")).for_workload(&orders());
    let seen = |call: &support::TestCall| {
        let observed = call.judged_by(&policy).observed;
        observed
            .iter()
            .map(|o| (o.rule.rule.to_string(), o.action))
            .collect::<Vec<_>>()
    };
    let all = [
        ("seen", Action::Deny),
        ("let in", Action::Allow),
        ("noted", Action::Audit),
        ("log", Action::Audit),
    ];
    let all = all.map(|(name, action)| (name.to_owned(), action));
    assert!(call().is_allowed_by(&policy));
    assert_eq!(seen(&call()), all);
    let other = call().by("spiffe://shop.example/ns/shop/sa/x");
    assert!(!other.is_allowed_by(&policy));
    assert_eq!(seen(&other), all);
    let json = serde_json::to_value(&call().judged_by(&policy).observed).unwrap();
    assert_eq!(
        json[0],
        json!({"action": "deny", "policy": "shop/trial", "rule": "seen", "file": "p.yaml", "line": 7})
    );
    // Nobody enforces anything: then nothing is allowed.
    let policy = compile(&observe).for_workload(&orders());
    assert_eq!(call().judged_by(&policy).reason.class(), "no-rule-matched");
}

#[test]
fn a_policy_is_about_its_target_and_no_other() {
    let with = |namespace: &str, target: &str| {
        format!(
            "apiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {{name: x, namespace: {namespace}}}\nspec: {{{target}rules: [{{name: a, action: allow}}]}}\n"
        )
    };
    for (namespace, target, concerns) in [
        ("shop", "", true),
        ("other", "", false),
        ("shop", "target: {labels: {app: orders}}, ", true),
        ("shop", "target: {labels: {app: orders, tier: a}}, ", false),
        ("shop", "target: {workloads: [x, orders]}, ", true),
        (
            "shop",
            "target: {workloads: [orders], labels: {app: x}}, ",
            false,
        ),
        ("countersign-system", "", true),
        ("countersign-system", "target: {labels: {app: x}}, ", false),
    ] {
        let policy = compile(&with(namespace, target));
        assert_eq!(
            policy.concerning(&orders()).len(),
            usize::from(concerns),
            "{namespace} {target}"
        );
        assert_eq!(
            policy.decide(&orders(), &call().as_call()).is_allowed(),
            concerns
        );
    }
}

#[test]
fn what_concerns_a_workload_decides_alike_after_its_way_as_json() {
    let text = format!(
        "{}---\napiVersion: countersign.dev/v1\nkind: TokenIssuer\nmetadata: {{name: mesh, namespace: countersign-system}}\nspec: {{issuer: https://m, audiences: [m]}}\n",
        policy_text(
            "  - {name: a, action: allow, subject: {issuer: mesh}}\n  - {name: b, action: allow, subject: {issuer: corp}}"
        )
    );
    let whole = compile(&text);
    let json: Vec<String> = whole
        .concerning(&orders())
        .iter()
        .map(|d| serde_json::to_string(d).unwrap())
        .collect();
    let documents = json
        .iter()
        .map(|json| serde_json::from_str(json).unwrap())
        .collect();
    let sent = countersign_policy::Policy::compile("r1", &domain(), documents).unwrap();
    let policy = sent.for_workload(&orders());
    assert_eq!(policy.revision(), "r1");
    let issuers: Vec<String> = policy
        .token_issuers()
        .iter()
        .map(|i| i.metadata.to_string())
        .collect();
    assert_eq!(issuers, ["shop/corp", "countersign-system/mesh"]);
    let mut mesh = (*token(json!({}))).clone();
    mesh.issuer = "countersign-system/mesh".to_owned();
    assert!(call().with(mesh.into()).is_allowed_by(&policy));
    assert!(call().with(token(json!({}))).is_allowed_by(&policy));
    assert!(!call().is_allowed_by(&policy));
}

#[test]
fn mistakes_that_only_the_whole_shows_have_their_places() {
    let text = policy_text(
        "  - {name: a, action: allow, subject: {issuer: crop}}\n  - name: b\n    action: allow\n    when: 'peer.nme == 1'\n  - {name: c, action: deny, when: 'x'}",
    );
    let documents = document::parse([("p.yaml".to_owned(), text)]).unwrap();
    let found = countersign_policy::Policy::compile("r", &domain(), documents).unwrap_err();
    assert_eq!(
        found.to_string(),
        "p.yaml:6:39: there is no TokenIssuer crop in the namespace shop or countersign-system
p.yaml:9:11: in the expression, at 1:5: unknown field of `peer`: `nme`, expected one of id, trustDomain, namespace, workload, address
p.yaml:10:35: in the expression, at 1:1: unknown variable `x`, expected one of peer, connection, subject, intent, request, destination, path, time"
    );
}

#[test]
fn a_denial_names_the_closest_rule_and_what_is_missing() {
    let policy = policy(
        r#"  - name: web creates orders
    action: allow
    from: [{workload: shop/web}]
    subject: {issuer: corp, claims: {groups: [buyer]}}
    to: [{ports: [8080], methods: [POST], paths: [/orders]}]
  - name: web reads orders
    action: allow
    from: [{workload: shop/web}]
    to: [{ports: [8080], methods: [GET], paths: ["/orders/{id}"], not: {headers: {x-raw: "1"}}}]
    when: 'path.id != request.headers["x-not"]'
"#,
    );
    let web = "spiffe://shop.example/ns/shop/sa/web";
    let creates = "closest is \"web creates orders\" (shop/orders, p.yaml:6): ";
    let reads = "closest is \"web reads orders\" (shop/orders, p.yaml:11): ";
    let condition = r#"path.id != request.headers["x-not"]"#;
    let buyer = || token(json!({"groups": ["buyer"]}));
    for (call, expected) in [
        (call().request("DELETE", "/orders?secret=1").with(buyer()), format!("no rule allows DELETE /orders for {web}; {creates}method is DELETE, rule wants POST")),
        (call(), format!("no rule allows POST /orders for {web}; {creates}it has no valid token of shop/corp, rule wants one of shop/corp").replace("token of shop/corp, rule", "token, rule")),
        (call().with(token(json!({"groups": ["x"]}))), format!("no rule allows POST /orders for {web}; {creates}its token of shop/corp has not what the rule wants: claim groups buyer")),
        (call().by(GUEST).with(buyer()), format!("no rule allows POST /orders for {GUEST}; {creates}caller is {GUEST}, rule wants shop/web")),
        (call().request("GET", "/orders/7").on_port(80), format!("no rule allows GET /orders/7 for {web}; {reads}port is 80, rule wants 8080")),
        (call().request("GET", "/orders/7").header("x-raw", "1"), format!("no rule allows GET /orders/7 for {web}; {reads}its header is excluded by the rule's `not`")),
        (call().request("GET", "/orders/7"), format!("no rule allows GET /orders/7 for {web}; {reads}its condition could not be evaluated: there is no x-not, in {condition:?}")),
        (call().request("GET", "/orders/7").header("x-not", "7"), format!("no rule allows GET /orders/7 for {web}; {reads}its condition is false")),
        (call().request("GET", "/orders/7/").header("x-not", "1"), format!("no rule allows GET /orders/7/ for {web}; {reads}path is /orders/7/, rule wants /orders/{{id}}")),
        (call().request("GET", "/orders/;x").header("x-not", "1"), format!("no rule allows GET /orders/;x for {web}; {reads}it does not match every way in which the path can be read")),
        (call().opaque().with(buyer()), format!("no rule allows a connection to port 8080 for {web}; {creates}it is no HTTP request, rule wants a path")),
    ] {
        let decision = call.judged_by(&policy);
        assert_eq!(decision.reason.class(), "no-rule-matched");
        assert_eq!(decision.reason.to_string(), expected);
        assert_eq!(decision.rule, None);
    }
}

#[test]
fn a_stranger_is_judged_only_where_the_mode_is_permissive() {
    let rules = "  - {name: a, action: allow, from: [{workload: shop/web}]}\n  - {name: probe, action: allow, from: [{anonymous: true, cidr: 10.0.0.0/8}], to: [{ports: [8080], paths: [/health]}]}";
    let health = || call().anonymous().request("GET", "/health");
    let strict = compile(&policy_text(rules)).for_workload(&orders());
    let decision = health().judged_by(&strict);
    assert_eq!(decision.reason.class(), "no-identity");
    assert_eq!(
        decision.reason.to_string(),
        "the caller has proved no identity, and port 8080 takes only calls with an X.509-SVID"
    );
    let text = policy_text(rules) + &mesh_mode("ports: {'8080': permissive}, mode: strict");
    let permissive = compile(&text).for_workload(&orders());
    assert!(health().is_allowed_by(&permissive));
    assert!(call().is_allowed_by(&permissive));
    let reason = call().anonymous().judged_by(&permissive).reason;
    assert_eq!(
        reason.to_string(),
        "no rule allows POST /orders for a caller without an identity; closest is \"probe\" (shop/orders, p.yaml:7): path is /orders, rule wants /health"
    );
    let mut from_elsewhere = health();
    from_elsewhere.source_ip = Some([192, 0, 2, 1].into());
    assert!(!from_elsewhere.is_allowed_by(&permissive));
    let other_port = health().on_port(9090).judged_by(&permissive).reason;
    assert!(
        other_port.to_string().ends_with(
            "port 9090 takes only calls with an X.509-SVID: MeshMode shop/shop (p.yaml:14)"
        ),
        "{other_port}"
    );
}

#[test]
fn an_ambiguous_path_is_no_request_unless_policy_accepts_it() {
    let rules = "  - {name: files, action: allow, to: [{paths: ['/files/**']}]}\n  - {name: d, action: deny, to: [{paths: ['/files/secret/**']}]}";
    let get = |path: &str| call().request("GET", path);
    let refusing = policy(rules);
    for path in ["/files/a%2fb", "/files/a\\b", "/files/%zz", "/files/%00"] {
        let decision = get(path).judged_by(&refusing);
        assert_eq!(decision.reason.class(), "ambiguous-path", "{path}");
        assert!(!decision.is_allowed() && decision.rule.is_none());
    }
    assert_eq!(
        get("/files/a%2fb").judged_by(&refusing).reason.to_string(),
        "the path has an encoded slash (%2F), which applications read in different ways"
    );
    let text = policy_text(rules) + &mesh_mode("ambiguousPaths: accept");
    let accepting = compile(&text).for_workload(&orders());
    assert!(get("/files/a%2fb").is_allowed_by(&accepting));
    assert_eq!(
        accepting.normal_path("/files/./a%2fb?q").as_deref(),
        Ok("/files/a%2Fb?q")
    );
    for path in [
        "/files/secret%2fb",
        "/files/a/..%2fsecret",
        "/files/..%5csecret",
    ] {
        assert!(!get(path).is_allowed_by(&accepting), "{path}");
    }
    assert_eq!(
        get("/files/%00").judged_by(&accepting).reason.class(),
        "ambiguous-path"
    );
}

#[test]
fn the_default_allows_only_where_every_policy_says_so() {
    let open = |name: &str, rest: &str| {
        format!(
            "---\napiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{default: allow{rest}}}\n"
        )
    };
    let deny = ", rules: [{name: d, action: deny, to: [{methods: [DELETE]}]}]";
    let text = open("one", deny) + &open("two", "");
    let both = compile(&text).for_workload(&orders());
    let decision = call().judged_by(&both);
    assert!(decision.is_allowed() && decision.rule.is_none());
    assert_eq!(decision.reason.class(), "allowed-by-default");
    assert_eq!(
        decision.reason.to_string(),
        "no rule denies it, and the default of AccessPolicy shop/one (p.yaml:2) allows it"
    );
    let denied = call().request("DELETE", "/").judged_by(&both);
    assert_eq!(denied.reason.class(), "denied-by-rule");
    // One that says nothing of it, or that it denies, is enough.
    for third in [
        policy_text("  - {name: a, action: allow, from: [{workload: shop/other}]}"),
        "apiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {name: x, namespace: shop}\nspec: {default: deny}\n".to_owned(),
    ] {
        let closed = compile(&format!("{third}{text}")).for_workload(&orders());
        assert_eq!(call().judged_by(&closed).reason.class(), "no-rule-matched");
    }
}
