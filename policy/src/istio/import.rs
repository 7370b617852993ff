//! Istio's policy, written in the kinds of this language.

use super::{Notes, Options, Reader};
use crate::document::{self, AccessPolicy, Action, Comments, Document, to_yaml};
use crate::pattern::Name;
use crate::{Diagnostic, Diagnostics};

/// What became of documents of Istio.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The documents, in the canonical layout, with comments that say where each comes from.
    pub yaml: String,
    /// How many documents there are.
    pub documents: usize,
    /// What was left out, or means something to think about, by file and line.
    pub notes: Vec<Diagnostic>,
    /// What is another way in this mesh, whatever the documents say.
    pub differences: Vec<String>,
}

/// Converts the documents of Istio in some files, pairs of a path, for messages, and a text; others are skipped.
///
/// # Errors
/// Every mistake, by file and line.
pub fn import(
    files: impl IntoIterator<Item = (String, String)>,
    options: Options,
) -> Result<Imported, Diagnostics> {
    let reader = Reader {
        options,
        notes: Some(Notes::default()),
        ..Reader::default()
    };
    let documents = reader.read_files(files)?;
    let comments: Vec<Comments> = documents.iter().map(comments).collect();
    let mut notes = reader
        .notes
        .map(Notes::into_diagnostics)
        .unwrap_or_default();
    notes.extend(documents.iter().flat_map(about));
    notes.sort();
    Ok(Imported {
        yaml: to_yaml(&documents, &comments)?,
        documents: documents.len(),
        notes,
        differences: differences(&documents),
    })
}

fn comments(document: &Document) -> Comments {
    let kind = match document {
        Document::AccessPolicy(_) => "AuthorizationPolicy",
        Document::TokenIssuer(_) => "RequestAuthentication",
        _ => "PeerAuthentication",
    };
    let rules = match document {
        Document::AccessPolicy(policy) => rule_comments(policy),
        _ => Vec::new(),
    };
    Comments {
        document: vec![format!("{kind} of Istio, {}", document.origin())],
        rules,
    }
}

/// Where a rule comes from, above the first of its parts.
fn rule_comments(policy: &AccessPolicy) -> Vec<Vec<String>> {
    let mut before = None;
    let comments = policy.rules.iter().map(|rule| {
        let is_next = before != Some(&rule.origin);
        before = Some(&rule.origin);
        is_next
            .then(|| rule.origin.to_string())
            .into_iter()
            .collect()
    });
    comments.collect()
}

/// What a document means that its author may not think of.
fn about(document: &Document) -> Vec<Diagnostic> {
    match document {
        Document::AccessPolicy(policy) if policy.rules.is_empty() => {
            let message = match policy.default {
                document::DefaultAction::Deny => "the policy allows nothing: its workloads take no calls that no other policy allows",
                document::DefaultAction::Allow => "the policy has no rule that can match: it decides nothing",
            };
            vec![policy.origin.diagnostic(message)]
        }
        Document::AccessPolicy(policy) => {
            let denying = policy.rules.iter().filter(|rule| rule.action == Action::Deny);
            let mut found: Vec<Diagnostic> = denying
                .filter(|rule| rule.to.iter().any(|to| to.is.is_http() && to.is.ports.is_empty()))
                .map(|rule| {
                    rule.origin.diagnostic(
                        "the rule denies every connection that is not HTTP, too, as in Istio: name the ports that it is about",
                    )
                })
                .collect();
            found.dedup();
            found
        }
        Document::TokenIssuer(issuer) if issuer.audiences.is_empty() => vec![issuer.origin.diagnostic(
            "tokens for any audience are accepted, also those that were made for other services: name the audiences",
        )],
        _ => Vec::new(),
    }
}

fn differences(documents: &[Document]) -> Vec<String> {
    let mut differences = vec![
        "a workload that no AuthorizationPolicy is about is called by everyone in Istio; here, what no policy is about \
         is denied"
            .to_owned(),
    ];
    let root = Name::root_namespace();
    let is_mesh_wide = |document: &Document| match document {
        Document::MeshMode(mode) => mode.metadata.namespace == root && mode.target.is_all(),
        _ => false,
    };
    if !documents.iter().any(is_mesh_wide) {
        differences.push(
            "without a PeerAuthentication of the whole mesh, Istio takes calls without mutual TLS; here, workloads take \
             them only where a MeshMode is permissive"
                .to_owned(),
        );
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
apiVersion: v1
kind: List
items:
- apiVersion: security.istio.io/v1beta1
  kind: AuthorizationPolicy
  metadata: {name: orders, namespace: shop, resourceVersion: "1"}
  spec:
    selector: {matchLabels: {app: orders}}
    rules:
    - from:
      - source: {principals: [cluster.local/ns/shop/sa/web, cluster.local/ns/shop/sa/admin]}
      to:
      - operation: {methods: [GET], paths: ["/orders/*", "*.txt"]}
    - {}
- apiVersion: v1
  kind: Service
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: orders, namespace: shop}
spec: {selector: {matchLabels: {app: orders}}, portLevelMtls: {8080: {mode: DISABLE}}}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: istio-system}
spec: {jwtRules: [{issuer: "https://login.example", timeout: 5s}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nothing, namespace: shop}
---
apiVersion: apps/v1
kind: Deployment
"#;

    #[test]
    fn documents_of_istio_are_written_in_own_kinds() {
        let files = [("a.yaml".to_owned(), TEXT.to_owned())];
        let imported = import(files, Options::default()).unwrap();
        assert_eq!(imported.documents, 4);
        let expected = r#"# AuthorizationPolicy of Istio, a.yaml:5
apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: orders, namespace: shop}
spec:
  target: {labels: {app: orders}}
  rules:
"#;
        assert!(imported.yaml.starts_with(expected), "{}", imported.yaml);
        let notes: Vec<String> = imported.notes.iter().map(ToString::to_string).collect();
        assert_eq!(
            notes,
            [
                "a.yaml:22:77: DISABLE becomes permissive: calls over mutual TLS are taken, too",
                "a.yaml:27:19: tokens for any audience are accepted, also those that were made for other services: name the audiences",
                "a.yaml:27:62: how long a fetch of keys may take is the mesh's own configuration here",
                "a.yaml:29:1: the policy allows nothing: its workloads take no calls that no other policy allows",
            ]
        );
        assert_eq!(imported.differences.len(), 2);
        let again = document::parse([("b.yaml".to_owned(), imported.yaml.clone())]).unwrap();
        assert_eq!(again.len(), 4, "{}", imported.yaml);
    }

    #[test]
    fn another_root_namespace_may_be_named() {
        let text = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a, namespace: mesh}\n";
        let namespace_of = |options: Options| {
            let files = [("a.yaml".to_owned(), text.to_owned())];
            import(files, options)
                .unwrap()
                .yaml
                .contains("namespace: countersign-system")
        };
        assert!(!namespace_of(Options::default()));
        assert!(namespace_of(Options {
            root_namespace: "mesh".parse().unwrap(),
        }));
    }
}
