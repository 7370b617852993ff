use super::*;
use crate::directory::{KnownWorkload, Protocol};
use crate::{Workload, files::PolicyFiles};

fn policy(namespace: &str, rest: &str) -> String {
    format!(
        "apiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {{name: p, namespace: {namespace}}}\nspec:\n{rest}"
    )
}

fn rules(rules: &str) -> String {
    policy("shop", &format!("  rules:\n{rules}"))
}

fn known(namespace: &str, account: &str, ports: &[(u16, Protocol)]) -> KnownWorkload {
    KnownWorkload {
        workload: Workload {
            namespace: namespace.to_owned(),
            service_account: account.to_owned(),
            labels: [("app".to_owned(), account.to_owned())].into(),
        },
        ports: ports.iter().copied().collect(),
    }
}

fn shop() -> Directory {
    Directory {
        workloads: vec![
            known("shop", "web", &[]),
            known("shop", "orders", &[(8080, Protocol::Http)]),
            known(
                "shop",
                "store",
                &[(7070, Protocol::Opaque), (9090, Protocol::Detected)],
            ),
        ],
    }
}

/// What is found but for rules that do nothing: those of a test often do.
fn check_text(text: &str, directory: Option<&Directory>) -> Vec<String> {
    let needless = [
        Lint::NeverMatches,
        Lint::UnreachableRule,
        Lint::ShadowedRule,
    ];
    let mut told = check_all(text, directory);
    told.retain(|line| {
        !needless
            .iter()
            .any(|lint| line.ends_with(&format!("[{}]", lint.id())))
    });
    told
}

fn check_all(text: &str, directory: Option<&Directory>) -> Vec<String> {
    let files = PolicyFiles::from(vec![("p.yaml".to_owned(), text.to_owned())]);
    let trust_domain = TrustDomain::parse("shop.example").unwrap();
    let report = check(files, &trust_domain, directory);
    report
        .findings
        .iter()
        .map(|finding| format!("{} [{}]", finding.diagnostic, finding.lint.id()))
        .collect()
}

/// IDs and lines of what is found in the rules of one policy, the first of which is on line 6.
fn found(text: &str) -> Vec<String> {
    let told = check_text(&rules(text), Some(&shop()));
    told.iter()
        .map(|line| {
            let number = line.split(':').nth(1).unwrap();
            let id = line.rsplit_once('[').unwrap().1.trim_end_matches(']');
            format!("{number} {id}")
        })
        .collect()
}

#[test]
fn ids_are_unique_and_documented() {
    let ids: std::collections::BTreeSet<_> = Lint::ALL.map(Lint::id).into();
    assert_eq!(ids.len(), Lint::ALL.len());
    let docs = include_str!("../../../docs/policy-tools.md");
    for lint in Lint::ALL {
        let row = format!("| `{}` | {} |", lint.id(), lint.level().as_str());
        assert!(docs.contains(&row), "the documentation has no row {row}");
    }
}

#[test]
fn nothing_is_found_in_what_is_meant() {
    let good = r#"
  - {name: a, action: allow, from: [{workload: shop/web}], to: [{ports: [8080], methods: [GET]}]}
  - {name: b, action: allow, from: [{namespace: shop}], to: [{ports: [7070]}]}
  - {name: c, action: allow, from: [{spiffe: "spiffe://shop.example/ns/shop/**", not: {workload: shop/store}}], to: [{ports: [9091]}]}
  - {name: d, action: deny, from: [{not: {trustDomain: shop.example}}]}
  - {name: e, action: deny, to: [{methods: [DELETE], not: {ports: [7070]}}]}
  - {name: f, action: allow, to: [{methods: [PUT]}]}
"#;
    assert_eq!(check_all(&rules(good), Some(&shop())), [""; 0]);
}

#[test]
fn a_rule_that_allows_everything_is_found() {
    let wide = r#"
  - {name: a, action: allow}
  - {name: b, action: allow, from: [{workload: shop/web}, {workload: "*/*"}]}
  - {name: c, action: allow, from: [{trustDomain: "*"}], to: [{paths: ["/**"]}]}
  - {name: d, action: allow, from: [{spiffe: "spiffe://shop.example/**"}], to: [{ports: [8080]}, {paths: ["/a", "/**"]}]}
  - {name: e, action: allow, from: [{anonymous: true}]}
"#;
    let lines = [7, 8, 9, 10, 11];
    assert_eq!(
        found(wide),
        lines.map(|line| format!("{line} allow-everything"))
    );
    let told = check_text(
        &rules("  - {name: e, action: allow, from: [{anonymous: true}]}\n"),
        None,
    );
    assert!(
        told[0].contains("lets whoever has proved no identity do everything"),
        "{told:?}"
    );
    let narrow = r#"
  - {name: a, action: deny}
  - {name: b, action: allow, subject: {}}
  - {name: c, action: allow, when: "destination.port > 80"}
  - {name: d, action: allow, from: [{cidr: 10.0.0.0/8}]}
  - {name: e, action: allow, from: [{workload: "*/*", not: {namespace: shop}}]}
  - {name: f, action: allow, to: [{not: {paths: [/admin]}}]}
  - {name: g, action: allow, to: [{paths: ["/*"]}]}
  - {name: h, action: allow, intent: {scope: [read]}}
"#;
    assert_eq!(found(narrow), [""; 0]);
}

#[test]
fn trust_domains_without_a_document_are_found() {
    let rules = rules(
        r#"  - {name: a, action: allow, from: [{trustDomain: partner.example, workload: x/y}]}
  - {name: b, action: allow, from: [{spiffe: "spiffe://other.example/ns/x/**"}, {trustDomain: shop.example, namespace: shop}]}
  - {name: c, action: deny, from: [{not: {spiffe: "spiffe://third.example/x"}}]}
"#,
    );
    let partner = "---\napiVersion: countersign.dev/v1\nkind: TrustDomain\nmetadata: {name: partner, namespace: countersign-system}\nspec: {trustDomain: partner.example, bundleEndpoint: {url: \"https://partner.example/bundle\", profile: https_web}}\n";
    let told = check_text(&format!("{rules}{partner}"), None);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].starts_with(
            "p.yaml:7:5: the rule \"b\" is about the trust domain other.example, and no TrustDomain"
        ),
        "{told:?}"
    );
    assert!(told[1].contains("third.example"), "{told:?}");
}

#[test]
fn names_that_the_directory_does_not_have_are_found() {
    let told = check_text(
        &rules(
            r#"  - {name: a, action: allow, from: [{workload: shop/wbe}]}
  - {name: b, action: allow, from: [{namespace: shopp}]}
  - {name: c, action: allow, from: [{namespace: shop, not: {workload: shop/ordres}}]}
  - {name: d, action: allow, from: [{spiffe: "spiffe://shop.example/ns/x/sa/y"}]}
  - {name: e, action: allow, from: [{workload: "*/web"}, {workload: "x/*"}]}
  - {name: f, action: allow, from: [{workload: shop/web}], intent: {requester: shop/gateway}}
"#,
        ),
        Some(&shop()),
    );
    assert_eq!(
        told,
        [
            "p.yaml:6:5: the rule \"a\" names the workload shop/wbe, which is not in the directory, did you mean shop/web? [unknown-workload]",
            "p.yaml:7:5: the rule \"b\" names the namespace shopp, of which the directory has no workload, did you mean shop? [unknown-workload]",
            "p.yaml:8:5: the rule \"c\" names the workload shop/ordres, which is not in the directory, did you mean shop/orders? [unknown-workload]",
            "p.yaml:9:5: the rule \"d\" names the SPIFFE ID spiffe://shop.example/ns/x/sa/y, which no workload of the directory has [unknown-workload]",
            "p.yaml:10:5: the rule \"e\" names the workload x/*, which is not in the directory [unknown-workload]",
            "p.yaml:11:5: the rule \"f\" names the workload shop/gateway, which is not in the directory [unknown-workload]",
        ]
    );
}

#[test]
fn workloads_of_other_trust_domains_are_not_looked_for() {
    let text = "  - {name: a, action: audit, from: [{trustDomain: \"*\", workload: x/y}]}\n";
    assert_eq!(found(text), [""; 0]);
}

#[test]
fn targets_that_match_nothing_are_found() {
    let rule = "  rules: [{name: r, action: deny}]\n";
    let told = |namespace: &str, target: &str| {
        let text = policy(namespace, &format!("{target}{rule}"));
        check_text(&text, Some(&shop())).join("\n")
    };
    assert_eq!(
        told("shop", "  target: {labels: {app: order}}\n"),
        "p.yaml:1:1: AccessPolicy shop/p is about nothing: no workload of the namespace shop is app=order [unknown-target]"
    );
    assert_eq!(
        told("shopp", ""),
        "p.yaml:1:1: AccessPolicy shopp/p is about nothing: the directory has no workload of the namespace shopp, \
         did you mean shop? [unknown-target]"
    );
    assert_eq!(
        told("countersign-system", "  target: {workloads: [x]}\n"),
        "p.yaml:1:1: AccessPolicy countersign-system/p is about nothing: no workload of the directory is x [unknown-target]"
    );
    assert_eq!(told("countersign-system", ""), "");
}

#[test]
fn ports_that_no_target_has_are_found() {
    let store = |port: u16| {
        policy(
            "shop",
            &format!(
                "  target: {{labels: {{app: store}}}}\n  rules: [{{name: r, action: allow, from: [{{workload: shop/web}}], to: [{{ports: [{port}]}}]}}]\n"
            ),
        )
    };
    assert_eq!(check_text(&store(7070), Some(&shop())), [""; 0]);
    let told = check_text(&store(7071), Some(&shop())).join("\n");
    assert!(
        told.contains(
            "names the port 7071, and no workload that it is about has that port [unknown-port]"
        ),
        "{told}"
    );
    // The ports of web are not told, so nothing can be said.
    let all = "  - {name: r, action: allow, from: [{workload: shop/web}], to: [{ports: [1]}]}\n";
    assert_eq!(found(all), [""; 0]);
}

#[test]
fn facts_of_http_on_an_opaque_port_are_found() {
    let text = r#"
  - {name: a, action: allow, from: [{namespace: shop}], to: [{ports: [7070], methods: [GET]}]}
  - {name: b, action: allow, from: [{namespace: shop}], to: [{ports: [8080, 9090], methods: [GET]}]}
  - {name: c, action: deny, to: [{methods: [DELETE]}]}
  - {name: d, action: audit, to: [{ports: [7070], not: {paths: [/]}}]}
  - {name: e, action: deny, to: [{ports: [7070]}]}
"#;
    assert_eq!(
        found(text),
        [
            "7 http-on-opaque-port",
            "9 http-on-opaque-port",
            "10 http-on-opaque-port"
        ]
    );
    let told = check_text(&rules(text), Some(&shop())).join("\n");
    assert!(told.contains("so it never matches there"), "{told}");
    assert!(
        told.contains("so it denies every connection there"),
        "{told}"
    );
    assert!(
        told.contains("so it reports every connection there"),
        "{told}"
    );
}

#[test]
fn one_bad_document_hides_nothing_of_the_others() {
    let text = format!(
        "{}---\napiVersion: countersign.dev/v1\nkind: TokenIssuer\nmetadata: {{name: corp, namespace: shop}}\nspec: {{issuer: 5, audiences: [shop]}}\n",
        rules(
            r#"  - {name: a, action: allow}
  - {name: b, action: deny, when: "request.metod == 'GET'"}
  - {name: c, action: allow, subject: {issuer: corp}}
"#
        )
    );
    let told = check_text(&text, None);
    let ids: Vec<_> = told
        .iter()
        .map(|line| line.rsplit_once('[').unwrap().1)
        .collect();
    assert_eq!(
        ids,
        ["allow-everything]", "invalid-policy]", "invalid-document]"],
        "{told:?}"
    );
}

#[test]
fn what_was_skipped_is_noted() {
    let mut files = PolicyFiles::from(vec![(
        "p.yaml".to_owned(),
        "apiVersion: v1\nkind: Secret\n".to_owned(),
    )]);
    files.skip("kustomization.yaml", "a kustomization is no policy");
    let report = check(files, &TrustDomain::parse("td").unwrap(), None);
    let notes: Vec<_> = report.notes.iter().map(ToString::to_string).collect();
    assert_eq!(
        notes,
        [
            "kustomization.yaml: skipped: a kustomization is no policy",
            "p.yaml:1:1: skipped: a document of the API \"v1\" is not of this language",
        ]
    );
    assert_eq!(report.findings, []);
}

#[test]
fn rules_that_do_nothing_are_found() {
    let idle = r#"
  - {name: a, action: allow, from: [{workload: shop/web}], to: [{ports: [8080]}]}
  - {name: b, action: allow, from: [{workload: shop/web}], to: [{ports: [8080], methods: [GET], paths: ["/x/*"]}]}
  - {name: c, action: allow, from: [{workload: shop/web, namespace: guest}]}
  - {name: d, action: allow, from: [{anonymous: true}], to: [{ports: [8080]}]}
  - {name: e, action: allow, from: [{workload: shop/store}], to: [{methods: [DELETE]}]}
  - {name: f, action: deny, to: [{methods: [DELETE], not: {ports: [7070]}}]}
  - {name: g, action: deny, to: [{methods: [DELETE]}]}
"#;
    let told = check_all(&rules(idle), None);
    let ids: Vec<_> = told
        .iter()
        .map(|line| line.rsplit_once('[').unwrap().1.trim_end_matches(']'))
        .collect();
    assert_eq!(
        ids,
        [
            "shadowed-rule",
            "never-matches",
            "never-matches",
            "unreachable-rule",
            "shadowed-rule"
        ],
        "{told:#?}"
    );
    assert_eq!(
        told[0],
        "p.yaml:8:5: the rule \"b\" does nothing beside \"a\" (shop/p, p.yaml:7) [shadowed-rule]"
    );
    assert!(
        told[3].starts_with("p.yaml:11:5: every call that the rule \"e\" allows is denied by "),
        "{told:#?}"
    );
}
