//! The examples of `docs/policy.md` and `docs/federation.md` are policy that compiles, and the former's tables name what there
//! is.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod support;

use std::sync::Arc;

use countersign_identity::TrustDomain;
use countersign_policy::document::parse;
use countersign_policy::{Policy, Reason};
use support::{call, compile, domain, orders, policy};

const REFERENCE: &str = include_str!("../../docs/policy.md");
const FEDERATION: &str = include_str!("../../docs/federation.md");

/// The fenced blocks of a language in the reference, with the line on which each starts.
fn blocks(language: &str) -> Vec<(usize, String)> {
    blocks_of(REFERENCE, language)
}

fn blocks_of(page: &str, language: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String, String)> = None;
    for (line, number) in page.lines().zip(1..) {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((number, language.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, _, text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    let blocks = blocks.into_iter().filter(|(_, of, _)| of == language);
    blocks.map(|(line, _, text)| (line, text)).collect()
}

/// A block of rules becomes a policy of its own.
fn as_documents(line: usize, block: &str) -> String {
    if block.starts_with("apiVersion") {
        return block.to_owned();
    }
    let indented: String = block.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {{name: rules-{line}, namespace: shop}}\nspec:\n  rules:\n{indented}"
    )
}

#[test]
fn every_example_compiles() {
    let blocks = blocks("yaml");
    assert!(blocks.len() >= 4, "{blocks:?}");
    let files = blocks.iter().map(|(line, block)| {
        (
            format!("docs/policy.md, block at line {line}"),
            as_documents(*line, block),
        )
    });
    let documents = parse(files).unwrap();
    Policy::compile("docs", &domain(), documents).unwrap();
}

#[test]
fn the_policies_of_both_sides_of_a_federation_compile() {
    let blocks = blocks_of(FEDERATION, "yaml");
    let mut compiled = 0;
    for name in ["shop.example", "partner.example"] {
        let marker = format!("# in the policy of {name}");
        let files = blocks.iter().filter(|(_, block)| {
            let first = block.lines().next().unwrap_or_default();
            first.trim_start().starts_with(&marker)
        });
        let files: Vec<_> = files
            .map(|(line, block)| {
                (
                    format!("docs/federation.md, block at line {line}"),
                    block.clone(),
                )
            })
            .collect();
        compiled += files.len();
        let documents = parse(files).unwrap();
        Policy::compile("docs", &TrustDomain::parse(name).unwrap(), documents).unwrap();
    }
    assert_eq!(compiled, blocks.len());
}

#[test]
fn every_condition_compiles() {
    let blocks = blocks("cel");
    let conditions: Vec<&str> = blocks.iter().flat_map(|(_, block)| block.lines()).collect();
    assert!(conditions.len() >= 5, "{conditions:?}");
    for condition in conditions {
        let rule = format!(
            "  - name: a\n    action: allow\n    to: [{{paths: ['/{{tenant}}']}}]\n    when: '{condition}'"
        );
        let _ = policy(&rule);
    }
}

#[test]
fn the_classes_of_reasons_are_those_of_the_table() {
    let rule = call()
        .judged_by(&policy("  - {name: a, action: allow}"))
        .rule
        .unwrap();
    let open = "apiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {name: a, namespace: shop}\nspec: {default: allow}\n";
    let by_default = call()
        .judged_by(&compile(open).for_workload(&orders()))
        .reason;
    let no_rule = call()
        .by("spiffe://shop.example/ns/other/sa/x")
        .judged_by(&policy("  - {name: a, action: allow, to: [{ports: [1]}]}"))
        .reason;
    let reasons = [
        Reason::Allowed(Arc::clone(&rule)),
        Reason::DeniedByRule(Arc::clone(&rule)),
        Reason::ConditionFailed {
            rule,
            error: String::new(),
        },
        no_rule,
        Reason::NoPolicy {
            workload: "".into(),
        },
        Reason::NoIdentity {
            port: 80,
            mode: None,
        },
        Reason::AmbiguousPath(countersign_policy::AmbiguousPath::EncodedSlash),
        by_default,
    ];
    for reason in reasons {
        let row = format!("| `{}` |", reason.class());
        assert!(REFERENCE.contains(&row), "{row}");
    }
}
