//! Texts that are made to cost: 1 MB each, refused or read with a bounded amount of memory and work.
//!
//! Work is counted in allocations: a reader does few things between two of them, and time depends on the machine.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use countersign_identity::TrustDomain;
use countersign_policy::{Diagnostics, Policy, document};

const MEGABYTE: usize = 1_000_000;
/// A tree of the shortest entries takes some 50 bytes for each byte of text.
const MOST_MEMORY: u64 = 80 * MEGABYTE as u64;
/// The YAML parser allocates for every token, of which there may be one for each byte.
const MOST_ALLOCATIONS: u64 = 10 * MEGABYTE as u64;

fn repeated(part: &str) -> String {
    part.repeat(MEGABYTE / part.len())
}

fn numbered(part: impl Fn(usize) -> String) -> String {
    let mut text = String::new();
    for number in 0.. {
        if text.len() >= MEGABYTE {
            break;
        }
        text.push_str(&part(number));
    }
    text
}

/// What comes behind `spec:` of a policy, or what begins a rule.
fn policy(spec: &str) -> String {
    format!(
        "apiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {{name: a, namespace: shop}}\nspec: {spec}"
    )
}

fn rule(field: &str) -> String {
    policy(&format!("{{rules: [{{name: a, action: allow, {field}}}]}}"))
}

fn read(text: &str) -> Result<Policy, Diagnostics> {
    let documents = document::parse([("hostile.yaml".to_owned(), text.to_owned())])?;
    let domain = TrustDomain::parse("shop.example").unwrap();
    Policy::compile("r1", &domain, documents)
}

/// The mistakes; that it costs too much is a failure of the test.
fn refused(name: &str, text: &str) -> Vec<String> {
    let mut result = None;
    let cost = allocation_counter::measure(|| result = Some(read(text)));
    assert!(cost.bytes_max < MOST_MEMORY, "{name}: {cost:?}");
    assert!(cost.count_total < MOST_ALLOCATIONS, "{name}: {cost:?}");
    let result = result.unwrap();
    assert!(result.is_err(), "{name} was accepted");
    let mistakes = result.unwrap_err();
    assert!(mistakes.len() <= 501, "{name}: {}", mistakes.len());
    mistakes.iter().map(ToString::to_string).collect()
}

fn assert_told(name: &str, text: &str, expected: &str) {
    let mistakes = refused(name, text);
    assert!(
        mistakes.iter().any(|mistake| mistake.contains(expected)),
        "{name}: {:?}",
        mistakes.iter().take(3).collect::<Vec<_>>()
    );
}

#[test]
fn aliases_cannot_multiply() {
    let bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned()
        + &numbered(|number| {
            let (next, before) = (number + 1, number);
            format!("a{next}: &a{next} [*a{before}, *a{before}, *a{before}, *a{before}]\n")
        });
    assert_told(
        "an alias bomb",
        &bomb,
        "aliases (`*name`) are not supported",
    );
    let anchors = format!("[{}]", repeated("&a a,"));
    assert_told("anchors", &anchors, "anchors (`&name`) are not supported");
}

#[test]
fn depth_is_refused_where_it_is_too_deep() {
    for (name, part) in [
        ("lists", "["),
        ("block lists", "- "),
        ("mappings", "{a: "),
        ("keys", "? "),
        ("keys of lists", "? ["),
    ] {
        assert_told(name, &part.repeat(10_000), "deeper than 64 levels");
        assert_told(name, &repeated(part), "deeper than 64 levels");
    }
    let indented: String = (0..1_400).map(|depth| " ".repeat(depth) + "a:\n").collect();
    assert_told("indentation", &indented, "deeper than 64 levels");
}

#[test]
fn keys_are_given_once_and_are_known() {
    assert_told("one key", &repeated("a: b\n"), "given twice");
    assert_told(
        "a repeated rule field",
        &rule(&repeated("to: [{ports: [1]}], ")),
        "given twice",
    );
    let many = numbered(|number| format!("k{number}: 1, "));
    assert_told("unknown fields", &rule(&many), "unknown field");
    let claims = numbered(|number| format!("k{number}: ~, "));
    assert_told(
        "claims",
        &rule(&format!("subject: {{claims: {{{claims}}}}}")),
        "expected",
    );
}

#[test]
fn numbers_and_names_are_bounded() {
    let digits = repeated("1");
    assert_told(
        "a port",
        &rule(&format!("to: [{{ports: [{digits}]}}]")),
        "expected a port",
    );
    let power = format!("1e{digits}");
    assert_told(
        "a power",
        &rule(&format!("to: [{{ports: [{power}]}}]")),
        "expected a port",
    );
    assert_told(
        "ports",
        &rule(&format!("to: [{{ports: [{}]}}]", repeated("0,"))),
        "expected a port",
    );
    let long = repeated("a");
    for (field, expected) in [
        ("from: [{namespace: LONG}]", "at most 253"),
        ("from: [{spiffe: 'spiffe://LONG'}]", "at most"),
        ("to: [{paths: [/LONG]}]", "at most"),
        ("when: LONG", "more than 2048 bytes"),
        ("LONG: 1", "not YAML"),
        ("action: LONG", "given twice"),
    ] {
        let mistakes = refused(field, &rule(&field.replace("LONG", &long)));
        assert!(mistakes.iter().any(|m| m.contains(expected)), "{field}");
        assert!(mistakes.iter().all(|m| m.len() < 500), "{field}");
    }
    assert_told(
        "segments",
        &rule(&format!("to: [{{paths: ['{}']}}]", repeated("/{a}"))),
        "at most",
    );
    let name = policy(&format!("{{rules: [{{name: {long}, action: allow}}]}}"));
    assert_told("a name", &name, "more than 200 characters");
}

#[test]
fn short_entries_take_little() {
    for (name, text) in [
        ("a list", format!("[{}]", repeated("a,"))),
        ("lists", format!("[{}]", repeated("[],"))),
        ("mappings", format!("[{}]", repeated("{},"))),
        ("pairs", format!("[{}]", repeated("a: b,"))),
        ("a block list", repeated("- a\n")),
        ("nothing", repeated("-\n")),
        (
            "different words",
            numbered(|number| format!("- {number:x}g\n")),
        ),
    ] {
        assert_told(name, &text, "expected a document");
    }
    assert_told(
        "callers",
        &rule(&format!("from: [{}]", repeated("1,"))),
        "expected a mapping",
    );
    assert_told(
        "methods",
        &rule(&format!("to: [{{methods: [{}]}}]", repeated("a,"))),
        "expected a method",
    );
    assert_told(
        "rules",
        &policy(&format!("{{rules: [{}]}}", repeated("{},"))),
        "missing field",
    );
    let same = repeated("{name: a, action: allow},");
    assert_told(
        "rules of one name",
        &policy(&format!("{{rules: [{same}]}}")),
        "names are unique",
    );
}

#[test]
fn documents_and_lines_take_little() {
    assert_told("broken documents", &repeated("'\n---\n"), "not YAML");
    assert_told(
        "short documents",
        &repeated("a\n---\n"),
        "expected a document",
    );
    let same = policy("{rules: [{name: a, action: allow}]}\n---\n");
    assert_told("one document", &repeated(&same), "already defined");
    assert_told("an open quote", &format!("'{}", repeated("a ")), "not YAML");
    assert_told("an open list", &format!("[{}", repeated("a, ")), "not YAML");
    assert_told("control characters", &repeated("\u{1}"), "not YAML");
    assert_told("tags", &format!("[{}]", repeated("!a a,")), "tags");
    assert_told(
        "a folded text",
        &format!(">\n{}", repeated(" a\n\n")),
        "expected a document",
    );
    assert_told("one line", &repeated("a"), "expected a document");
}

#[test]
fn comments_and_empty_documents_are_nothing() {
    for part in ["# a\n", "---\n", "\n", " \n", "#"] {
        let mut policy = None;
        let text = repeated(part);
        let cost = allocation_counter::measure(|| policy = Some(read(&text)));
        assert!(policy.unwrap().is_ok(), "{part:?}");
        assert!(cost.bytes_max < MOST_MEMORY, "{part:?}: {cost:?}");
    }
}

#[test]
fn rules_with_many_ways_are_indexed_by_fewer_facts() {
    let list = |part: &str, count: usize| -> String {
        (1..=count)
            .map(|number| part.replace('N', &number.to_string()))
            .collect()
    };
    let ports = list("N,", 1_000);
    let hosts = list("hN.example,", 1_000);
    let paths = list("/N,", 1_000);
    let callers = list("{workload: ns/saN},", 1_000);
    let text = rule(&format!(
        "from: [{callers}], to: [{{ports: [{ports}], hosts: [{hosts}], paths: [{paths}], methods: [GET, POST]}}]"
    ));
    let policy = read(&text).unwrap();
    let workload = countersign_policy::Workload {
        namespace: "shop".to_owned(),
        ..countersign_policy::Workload::default()
    };
    let cost = allocation_counter::measure(|| {
        std::hint::black_box(policy.for_workload(&workload));
    });
    assert!(cost.bytes_max < 2_000_000, "{cost:?}");
}
