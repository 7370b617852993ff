//! The documents of a policy snapshot, each read whole or refused.
//!
//! A document with a field or a word that this version does not know may forbid what would be allowed without it, or only
//! observe what would be enforced: half of it must not be put in force.

use std::fmt;

use countersign_policy::{Diagnostics, Document};
use serde_json::Value;

/// The longest part of a document that an error quotes.
const QUOTED: usize = 100;

/// Why a policy snapshot is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum PolicyRefused {
    #[error(
        "{name}: {place}{problem}; this version of the sidecar takes a document whole or not at all"
    )]
    Document {
        name: DocumentName,
        /// `spec field: `, as far as the document could be read.
        place: String,
        problem: serde_json::Error,
    },
    #[error("{0}")]
    Compile(Diagnostics),
}

/// Which document: `AccessPolicy shop/orders (orders.yaml:6)`, or as much of that as it tells, or how many came before it.
#[derive(Debug)]
pub(super) struct DocumentName(String);

impl fmt::Display for DocumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads the document number `index`, counted from 0, of a snapshot.
pub(super) fn read_document(index: usize, json: &str) -> Result<Document, PolicyRefused> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let read = serde_path_to_error::deserialize(&mut reader);
    let document = read.map_err(|error| {
        let place = match error.path().to_string().as_str() {
            // The document's own beginning, or nowhere that has a name.
            "." | "?" => String::new(),
            path => format!("{}: ", quoted(path)),
        };
        (place, error.into_inner())
    });
    document
        .and_then(|document| match reader.end() {
            Ok(()) => Ok(document),
            Err(error) => Err((String::new(), error)),
        })
        .map_err(|(place, problem)| PolicyRefused::Document {
            name: name(index, json),
            place,
            problem,
        })
}

fn name(index: usize, json: &str) -> DocumentName {
    let unnamed = || DocumentName(format!("document {}", index.saturating_add(1)));
    let Ok(Value::Object(document)) = serde_json::from_str(json) else {
        return unnamed();
    };
    let Some((kind, document)) = document.iter().next() else {
        return unnamed();
    };
    let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str);
    let mut name = quoted(kind);
    if let (Some(namespace), Some(of)) = (text("/metadata/namespace"), text("/metadata/name")) {
        name = format!("{name} {}/{}", quoted(namespace), quoted(of));
    }
    if let (Some(file), Some(line)) = (
        text("/origin/file"),
        document.pointer("/origin/line").and_then(Value::as_u64),
    ) {
        name = format!("{name} ({}:{line})", quoted(file));
    }
    DocumentName(name)
}

/// A part of a document that was not checked: short, and one line.
fn quoted(text: &str) -> String {
    text.chars()
        .take(QUOTED)
        .map(|character| {
            if character.is_control() {
                '\u{fffd}'
            } else {
                character
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const YAML: &str = "\
apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: orders, namespace: shop}
spec:
  target: {labels: {app: orders}}
  mode: observe
  rules:
  - name: web
    action: allow
    from: [{workload: shop/web, not: {cidr: 10.0.0.1}}]
    subject: {claims: {groups: buyer}}
    intent: {scope: [a]}
    to: [{paths: [/a], grpc: [{service: s}]}]
    when: 'true'
---
apiVersion: countersign.dev/v1
kind: TokenIssuer
metadata: {name: corp, namespace: shop}
spec: {issuer: https://login.test, audiences: [shop]}
---
apiVersion: countersign.dev/v1
kind: MeshMode
metadata: {name: mesh, namespace: shop}
spec: {mode: strict}
";

    fn documents() -> Vec<Value> {
        let files = [("orders.yaml".to_owned(), YAML.to_owned())];
        let documents = countersign_policy::document::parse(files).unwrap();
        documents
            .iter()
            .map(|document| serde_json::to_value(document).unwrap())
            .collect()
    }

    fn refusal(json: &str) -> String {
        read_document(4, json).unwrap_err().to_string()
    }

    #[test]
    fn a_document_of_a_later_version_is_refused_whole_and_named_with_the_field() {
        for (document, pointer, value, told) in [
            (
                0,
                "/AccessPolicy/mode",
                json!("rehearse"),
                "AccessPolicy shop/orders (orders.yaml:1): AccessPolicy.mode: unknown variant `rehearse`",
            ),
            (
                0,
                "/AccessPolicy/inTheFuture",
                json!(1),
                "AccessPolicy shop/orders (orders.yaml:1): AccessPolicy.inTheFuture: unknown field `inTheFuture`",
            ),
            (
                0,
                "/AccessPolicy/default",
                json!("ask"),
                ".default: unknown variant `ask`",
            ),
            (
                0,
                "/AccessPolicy/target/namespaces",
                json!([]),
                ".target.namespaces: unknown field",
            ),
            (
                0,
                "/AccessPolicy/rules/0/action",
                json!("redirect"),
                ".rules[0].action: unknown variant `redirect`",
            ),
            (
                0,
                "/AccessPolicy/rules/0/until",
                json!("2027"),
                ".rules[0].until: unknown field",
            ),
            (
                0,
                "/AccessPolicy/rules/0/from/0/is/country",
                json!("DE"),
                ".rules[0].from[0].is.country: unknown field",
            ),
            (
                0,
                "/AccessPolicy/rules/0/subject/acr",
                json!("2"),
                ".rules[0].subject.acr: unknown field",
            ),
            (
                0,
                "/AccessPolicy/rules/0/intent/depth",
                json!(1),
                ".rules[0].intent.depth: unknown field",
            ),
            (
                0,
                "/AccessPolicy/rules/0/to/0/is/body",
                json!({}),
                ".rules[0].to[0].is.body: unknown field",
            ),
            (
                0,
                "/AccessPolicy/rules/0/to/0/is/grpc/0/message",
                json!("x"),
                ".grpc[0].message: unknown field",
            ),
            (
                0,
                "/AccessPolicy/rules/0/when/language",
                json!("rego"),
                ".rules[0].when.language: unknown field",
            ),
            (
                1,
                "/TokenIssuer/binding",
                json!("dpop"),
                "TokenIssuer shop/corp (orders.yaml:16): TokenIssuer.binding: unknown field",
            ),
            (
                1,
                "/TokenIssuer/from/0",
                json!({"body": "token"}),
                "TokenIssuer.from[0]",
            ),
            (
                2,
                "/MeshMode/mode",
                json!("lenient"),
                "MeshMode shop/mesh (orders.yaml:21): MeshMode.mode: unknown variant `lenient`",
            ),
            (
                2,
                "/MeshMode/quic",
                json!(true),
                "MeshMode.quic: unknown field",
            ),
        ] {
            let mut document = documents().swap_remove(document);
            read_document(0, &document.to_string()).unwrap();
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            match document.pointer_mut(parent).unwrap() {
                Value::Array(items) => items[0] = value,
                parent => parent[field] = value,
            }
            let refusal = refusal(&document.to_string());
            assert!(refusal.contains(told), "{pointer}: {refusal}");
        }
    }

    #[test]
    fn what_is_no_document_is_named_as_far_as_it_can_be_read() {
        let kind = json!({"RatePolicy": {"metadata": {"namespace": "shop", "name": "x\n"}}});
        let refused = refusal(&kind.to_string());
        assert!(
            refused.starts_with("RatePolicy shop/x\u{fffd}: ") && refused.contains("`RatePolicy`"),
            "{refused}"
        );
        for json in ["", "{}", "[]", "7", "{\"AccessPolicy\":", "null"] {
            let refused = refusal(json);
            assert!(refused.starts_with("document 5: "), "{refused}");
        }
        let more = format!("{} {{}}", documents().swap_remove(0));
        assert!(refusal(&more).starts_with("document 5: "));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_in_one_line(json in "[\\[\\]{}:,\"a1n\n ]{0,40}") {
            if let Err(refused) = read_document(0, &json) {
                prop_assert!(!refused.to_string().contains('\n'));
            }
        }
    }
}
