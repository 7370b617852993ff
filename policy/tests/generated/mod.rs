//! Generated policies, as YAML.

// Every test uses a part of it.
#![allow(dead_code, reason = "each test uses its own part")]

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// `name: value`, or nothing.
type Field = Option<String>;

fn field(name: &'static str, values: &'static [&'static str]) -> impl Strategy<Value = Field> {
    prop::option::weighted(0.3, select(values))
        .prop_map(move |value| Some(format!("{name}: {}", value?)))
}

/// `name: [values]`, or nothing.
fn list(name: &'static str, values: &'static [&'static str]) -> impl Strategy<Value = Field> {
    let most = values.len().min(2);
    prop::option::weighted(0.3, subsequence(values, 1..=most))
        .prop_map(move |values| Some(format!("{name}: [{}]", values?.join(", "))))
}

fn mapping(fields: Vec<Field>) -> Option<String> {
    let fields: Vec<String> = fields.into_iter().flatten().collect();
    (!fields.is_empty()).then(|| format!("{{{}}}", fields.join(", ")))
}

/// Fields, and at times some that must not hold: a mapping, or a list of up to `most`.
fn with_not(
    is: impl Strategy<Value = Vec<Field>>,
    most: usize,
    not: impl Strategy<Value = Vec<Field>>,
) -> impl Strategy<Value = Option<String>> {
    let not = prop::option::weighted(0.25, prop::collection::vec(not, 1..=most));
    (is, not).prop_map(move |(mut is, not)| {
        let entries: Vec<String> = not
            .unwrap_or_default()
            .into_iter()
            .filter_map(mapping)
            .collect();
        is.push(match entries.as_slice() {
            [] => None,
            [only] => Some(format!("not: {only}")),
            several => Some(format!("not: [{}]", several.join(", "))),
        });
        mapping(is)
    })
}

fn entries(
    name: &'static str,
    entry: impl Strategy<Value = Option<String>>,
) -> impl Strategy<Value = Field> {
    prop::collection::vec(entry, 0..3).prop_map(move |entries| {
        let entries: Vec<String> = entries.into_iter().flatten().collect();
        (!entries.is_empty()).then(|| format!("{name}: [{}]", entries.join(", ")))
    })
}

const RANGES: &[&str] = &[
    "10.0.0.0/8",
    "10.1.0.0/16",
    "192.0.2.0/24",
    "'2001:db8::/32'",
];

fn source_fields() -> impl Strategy<Value = Vec<Field>> {
    let named = (
        field(
            "workload",
            &["shop/web", "shop/*", "'*/web'", "guest/web", "'*/*'"],
        ),
        field("namespace", &["shop", "guest"]),
        field(
            "spiffe",
            &[
                "spiffe://shop.example/ns/shop/sa/web",
                "'spiffe://shop.example/ns/shop/**'",
                "'spiffe://other.example/**'",
            ],
        ),
        field("trustDomain", &["shop.example", "other.example", "'*'"]),
        field("cidr", RANGES),
        field("forwardedFor", RANGES),
    );
    let anonymous = (field("cidr", RANGES), field("forwardedFor", RANGES))
        .prop_map(|(cidr, forwarded)| vec![Some("anonymous: true".to_owned()), cidr, forwarded]);
    prop_oneof![
        5 => named.prop_map(|(a, b, c, d, e, f)| vec![a, b, c, d, e, f]),
        1 => anonymous,
    ]
}

fn operation_fields() -> impl Strategy<Value = Vec<Field>> {
    let values = || {
        select(vec![
            "a", "b", "'a, b'", "'a, '", "'a '", "', b'", "''", "[a, b]",
        ])
    };
    let headers = prop::option::weighted(0.25, (values(), prop::option::of(values())));
    let headers = headers.prop_map(|given| {
        let (x, y) = given?;
        let y = y.map_or(String::new(), |y| format!(", x-y: {y}"));
        Some(format!("headers: {{x-x: {x}{y}}}"))
    });
    (
        list("ports", &["8080", "9090"]),
        list("methods", &["GET", "POST"]),
        list(
            "hosts",
            &["orders.shop", "'*.example.com'", "'*.eu.example.com'"],
        ),
        list(
            "paths",
            &[
                "/a",
                "'/a/*'",
                "'/{x}/b'",
                "'/a/**'",
                "/a/b",
                "/",
                "'/**'",
                "'/a/{x}/c'",
            ],
        ),
        list("grpc", &["{service: a}", "{service: a, method: b}"]),
        headers,
        list("sni", &["orders.shop", "'*.example.com'"]),
    )
        .prop_map(|(a, b, c, d, e, f, g)| vec![a, b, c, d, e, f, g])
}

fn subject() -> impl Strategy<Value = Field> {
    let fields = (
        field("issuer", &["corp"]),
        field("audience", &["shop", "test"]),
        field(
            "claims",
            &[
                "{tenant: acme}",
                "{tenant: [acme, emca]}",
                "{'a.b': 1}",
                "{tenant: acme, 'a.b': [1, true]}",
            ],
        ),
        field("not", &["{claims: {tenant: emca}}", "{claims: {a: x}}"]),
    );
    prop::option::weighted(0.2, fields).prop_map(|fields| {
        let (a, b, c, d) = fields?;
        Some(format!(
            "subject: {}",
            mapping(vec![a, b, c, d]).unwrap_or_else(|| "{}".to_owned())
        ))
    })
}

fn intents() -> impl Strategy<Value = Field> {
    let fields = (
        list("scope", &["orders.create", "orders.read"]),
        field("context", &["{order: 7}", "{order: [7, 8], tenant: acme}"]),
        field("requester", &["shop/web", "'spiffe://other.example/**'"]),
    );
    prop::option::weighted(0.15, fields).prop_map(|fields| {
        let (a, b, c) = fields?;
        Some(format!("intent: {}", mapping(vec![a, b, c])?))
    })
}

/// A rule as YAML, but for its name.
pub(crate) fn rule() -> impl Strategy<Value = String> {
    (
        select(vec!["allow", "allow", "allow", "deny", "audit"]),
        entries("from", with_not(source_fields(), 2, source_fields())),
        entries("to", with_not(operation_fields(), 1, operation_fields())),
        subject(),
        intents(),
    )
        .prop_map(|(action, from, to, subject, intent)| {
            let given: Vec<String> = [from, to, subject, intent].into_iter().flatten().collect();
            let given: String = given.iter().map(|field| format!(", {field}")).collect();
            format!("action: {action}{given}")
        })
}

/// A document: its kind, its namespace and its spec, as YAML.
fn a_document() -> impl Strategy<Value = (&'static str, &'static str, String)> {
    let namespace = || select(vec!["shop", "shop", "countersign-system"]);
    let target = || {
        select(vec![
            "",
            "",
            "target: {labels: {app: orders}}, ",
            "target: {workloads: [orders, web]}, ",
            "target: {labels: {app: orders, tier: db}}, ",
        ])
    };
    let mode = select(vec!["", "", "", "mode: observe, ", "default: allow, "]);
    let policy =
        (namespace(), target(), mode, rule()).prop_map(|(namespace, target, mode, rule)| {
            let spec = format!("{target}{mode}rules: [{{name: r, {rule}}}]");
            ("AccessPolicy", namespace, spec)
        });
    let modes = select(vec![
        "mode: permissive",
        "ports: {'8080': permissive}",
        "mode: permissive, ports: {'9090': strict}",
    ]);
    let mesh_mode = (namespace(), target(), modes)
        .prop_map(|(namespace, target, mode)| ("MeshMode", namespace, format!("{target}{mode}")));
    prop_oneof![5 => policy, 1 => mesh_mode]
}

/// Two policies that have some documents in common.
pub(crate) fn policies() -> impl Strategy<Value = (String, String)> {
    let documents = prop::collection::vec((a_document(), 0..4_u8), 1..6);
    documents.prop_map(|documents| {
        let issuer = "apiVersion: countersign.dev/v1\nkind: TokenIssuer\nmetadata: {name: corp, namespace: countersign-system}\nspec: {issuer: https://login.example, audiences: [shop]}\n";
        let (mut old, mut new) = (issuer.to_owned(), issuer.to_owned());
        for (number, ((kind, namespace, spec), place)) in documents.iter().enumerate() {
            let text = format!("---\napiVersion: countersign.dev/v1\nkind: {kind}\nmetadata: {{name: d{number}, namespace: {namespace}}}\nspec: {{{spec}}}\n");
            if *place != 0 {
                old += &text;
            }
            if *place != 1 {
                new += &text;
            }
        }
        (old, new)
    })
}

/// One policy of the namespace shop whose rules say little, so that they often have calls in common, with an issuer.
pub(crate) fn policy_of_simple_rules() -> impl Strategy<Value = String> {
    let simple = (
        select(vec!["allow", "allow", "deny"]),
        field("workload", &["shop/web", "shop/api", "shop/*", "'*/*'"]),
        list("ports", &["8080", "9090"]),
        list("methods", &["GET", "POST"]),
        list("paths", &["/a", "'/a/*'", "'/{x}/b'", "'/a/**'", "/a/b"]),
        prop::option::weighted(
            0.15,
            select(vec!["'request.host == \"a\"'", "'request.host == \"b\"'"]),
        ),
    );
    let simple = simple.prop_map(|(action, workload, ports, methods, paths, when)| {
        let mut text = format!("action: {action}");
        if let Some(workload) = workload {
            text += &format!(", from: [{{{workload}}}]");
        }
        if let Some(to) = mapping(vec![ports, methods, paths]) {
            text += &format!(", to: [{to}]");
        }
        if let Some(when) = when {
            text += &format!(", when: {when}");
        }
        text
    });
    let rule = prop_oneof![4 => simple, 1 => rule()];
    prop::collection::vec(rule, 1..12).prop_map(|rules| {
        let mut text = "apiVersion: countersign.dev/v1\nkind: TokenIssuer\nmetadata: {name: corp, namespace: countersign-system}\nspec: {issuer: https://login.example, audiences: [shop]}\n---\napiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {name: p, namespace: shop}\nspec:\n  rules:\n".to_owned();
        for (number, rule) in rules.iter().enumerate() {
            text += &format!("  - {{name: r{number}, {rule}}}\n");
        }
        text
    })
}
