//! Which rules do nothing, and that the quick way finds what the plain one does.

#[path = "../../../tests/generated/mod.rs"]
mod generated;

use std::collections::BTreeMap;

use countersign_identity::TrustDomain;
use proptest::prelude::*;

use super::*;
use crate::document;

fn compiled(text: &str) -> Policy {
    let documents = document::parse([("p.yaml".to_owned(), text.to_owned())]).unwrap();
    let domain = TrustDomain::parse("shop.example").unwrap();
    Policy::compile("r", &domain, documents).unwrap()
}

fn found(text: &str) -> Vec<String> {
    let policy = compiled(text);
    let needless = needless(&policy, None).unwrap().needless;
    needless.iter().map(ToString::to_string).collect()
}

fn policy(rules: &str) -> String {
    format!(
        "apiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {{name: p, namespace: shop}}\nspec:\n  rules:\n{rules}"
    )
}

#[test]
fn rules_that_all_do_something_are_left_alone() {
    let rules = "  - {name: a, action: allow, from: [{workload: shop/web}], to: [{methods: [GET]}]}
  - {name: b, action: allow, from: [{namespace: shop}], to: [{paths: [/a]}]}
  - {name: c, action: deny, to: [{paths: [/a/b]}]}
  - {name: d, action: audit, to: [{paths: [/a]}]}
  - {name: e, action: audit, to: [{paths: [/a]}]}\n";
    assert_eq!(found(&policy(rules)), Vec::<String>::new());
}

#[test]
fn a_rule_that_others_cover_together_is_told_with_them() {
    let rules = "  - {name: part, action: allow, from: [{workload: shop/web}], to: [{methods: [GET, POST], paths: ['/a/{id}']}]}
  - {name: gets, action: allow, from: [{namespace: shop}], to: [{methods: [GET], paths: ['/a/**']}]}
  - {name: posts, action: allow, from: [{workload: shop/web}], to: [{methods: [POST, PUT]}]}
  - {name: unrelated, action: allow, from: [{workload: shop/api}], to: [{ports: [1]}]}\n";
    assert_eq!(
        found(&policy(rules)),
        [
            "the rule \"part\" does nothing beside \"gets\" (shop/p, p.yaml:7) and \"posts\" (shop/p, p.yaml:8)"
        ]
    );
}

#[test]
fn of_two_that_say_the_same_the_second_is_told() {
    let rules = "  - {name: one, action: deny, to: [{paths: ['/a/{id}']}]}
  - {name: two, action: deny, to: [{paths: ['/a/*']}]}\n";
    assert_eq!(
        found(&policy(rules)),
        ["the rule \"two\" does nothing beside \"one\" (shop/p, p.yaml:6)"]
    );
}

#[test]
fn what_is_denied_altogether_is_told() {
    let rules = "  - {name: in vain, action: allow, to: [{methods: [DELETE], ports: [8080]}]}
  - {name: nobody deletes, action: deny, to: [{methods: [DELETE]}]}\n";
    assert_eq!(
        found(&policy(rules)),
        [
            "every call that the rule \"in vain\" allows is denied by \"nobody deletes\" (shop/p, p.yaml:7)"
        ]
    );
}

#[test]
fn what_no_call_can_match_is_told() {
    let rules =
        "  - {name: both, action: allow, from: [{namespace: shop, not: {workload: 'shop/*'}}]}
  - {name: strangers, action: allow, from: [{anonymous: true}], to: [{ports: [8080]}]}
  - {name: named, action: allow, to: [{sni: [a.example], methods: [GET]}]}\n";
    assert_eq!(
        found(&policy(rules)),
        [
            "no call can match the rule \"both\"",
            "no call can match the rule \"strangers\": callers without an identity are refused where MeshMode is not permissive",
            "no call can match the rule \"named\"",
        ]
    );
    let permissive = "---\napiVersion: countersign.dev/v1\nkind: MeshMode\nmetadata: {name: m, namespace: shop}\nspec: {ports: {'8080': permissive}}\n";
    assert_eq!(found(&(policy(rules) + permissive)).len(), 2);
}

#[test]
fn a_rule_that_only_some_workloads_need_is_left_alone() {
    let text = policy("  - {name: gets, action: allow, to: [{methods: [GET]}]}\n")
        + "---\napiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {name: root, namespace: countersign-system}\nspec: {rules: [{name: health, action: allow, to: [{methods: [GET], paths: [/health]}]}]}\n";
    // In shop it does nothing, elsewhere it does.
    assert_eq!(found(&text), Vec::<String>::new());
}

#[test]
fn conditions_are_the_same_only_if_they_are_equal() {
    let rules = "  - {name: one, action: allow, to: [{methods: [GET]}], when: 'request.host == \"a\"'}
  - {name: two, action: allow, to: [{methods: [GET], ports: [80]}], when: 'request.host == \"a\"'}
  - {name: three, action: allow, to: [{methods: [GET], ports: [80]}], when: 'request.host == \"b\"'}\n";
    assert_eq!(
        found(&policy(rules)),
        ["the rule \"two\" does nothing beside \"one\" (shop/p, p.yaml:6)"]
    );
}

/// Rules of very many callers, of which each is told apart at once: what only the number of rules makes slow.
#[test]
fn many_rules_of_one_workload_are_compared_within_what_a_few_cost() {
    let mut rules = String::new();
    for number in 0..2_000 {
        rules += &format!(
            "  - {{name: r{number}, action: allow, from: [{{workload: ns{}/web}}], to: [{{ports: [8080], paths: ['/area{}/**']}}]}}\n",
            number % 50,
            number / 50
        );
    }
    rules += "  - {name: again, action: allow, from: [{workload: ns7/web}], to: [{ports: [8080], methods: [GET], paths: ['/area7/x']}]}\n";
    let policy = compiled(&policy(&rules));
    let found = needless_within(&policy, None, Budget(4_000 * 100 + 4_000 * 50)).unwrap();
    assert_eq!(found.undecided, []);
    let told: Vec<String> = found.needless.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        ["the rule \"again\" does nothing beside \"r357\" (shop/p, p.yaml:363)"]
    );
}

#[test]
fn what_takes_too_long_is_told_and_not_taken_to_do_nothing() {
    let rules = "  - {name: one, action: allow}\n  - {name: two, action: allow}\n";
    let found = needless_within(&compiled(&policy(rules)), None, Budget(0)).unwrap();
    assert_eq!(found.needless, []);
    let undecided: Vec<&str> = found.undecided.iter().map(|rule| &*rule.rule).collect();
    assert_eq!(undecided, ["one", "two"]);
}

/// Compares what is found with what the plain way finds. Both name enough rules that leave one nothing to do, and not always
/// the same where there are several answers.
fn compare(text: &str) -> Result<(), TestCaseError> {
    let policy = compiled(text);
    let quick = needless(&policy, None).unwrap();
    prop_assert!(quick.undecided.is_empty());
    let quick: BTreeMap<String, Why> = quick
        .needless
        .into_iter()
        .map(|found| (found.rule.to_string(), found.why))
        .collect();
    let plain: BTreeMap<String, Why> = plain::needless(&policy, None)
        .unwrap()
        .into_iter()
        .map(|(place, (why, _))| (rule_at(&policy, place).unwrap().origin.to_string(), why))
        .collect();
    // What only a token could tell apart that there is none of, the plain way does not see.
    let (quick, plain) = match text.contains("subject:") {
        true => (
            quick
                .into_iter()
                .filter(|(rule, _)| plain.contains_key(rule))
                .collect(),
            plain,
        ),
        false => (quick, plain),
    };
    prop_assert_eq!(quick, plain, "{}", text);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: std::env::var("CASES").map_or(400, |c| c.parse().unwrap()), ..ProptestConfig::default() })]

    #[test]
    fn the_quick_way_finds_what_the_plain_one_does(text in generated::policy_of_simple_rules()) {
        compare(&text)?;
    }

    #[test]
    fn also_of_rules_of_several_documents(texts in generated::policies()) {
        compare(&texts.0)?;
    }
}
