//! What many rules have in common is kept once.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Document, Source};

/// The callers of rules that were seen so far: many rules are about the same.
#[derive(Default)]
pub(crate) struct Sharing {
    callers: HashSet<Arc<[Source]>, foldhash::fast::RandomState>,
}

impl Sharing {
    /// Lets the document's rules share what they have in common with each other and with those of earlier documents.
    pub(crate) fn share(&mut self, document: &mut Document) {
        let Document::AccessPolicy(policy) = document else {
            return;
        };
        // A rule that somebody else has, too, is left as it is.
        for rule in policy.rules.iter_mut().filter_map(Arc::get_mut) {
            match self.callers.get(&rule.from) {
                Some(known) => rule.from = Arc::clone(known),
                None => {
                    self.callers.insert(Arc::clone(&rule.from));
                }
            }
            if rule.origin.file == policy.origin.file {
                rule.origin.file = policy.origin.file.clone();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{AccessPolicy, parse};

    fn policies(documents: &[Document]) -> Vec<&AccessPolicy> {
        let policies = documents.iter().filter_map(|document| match document {
            Document::AccessPolicy(policy) => Some(policy),
            _ => None,
        });
        policies.collect()
    }

    #[test]
    fn the_same_callers_are_kept_once() {
        let text = |name: &str| {
            format!(
                "apiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  rules:\n  - {{name: a, action: allow, from: [{{workload: shop/web}}]}}\n  - {{name: b, action: deny, from: [{{workload: shop/{name}}}]}}\n"
            )
        };
        let files = ["web", "x"].map(|name| (format!("{name}.yaml"), text(name)));
        let read = parse(files).unwrap();
        let json = serde_json::to_string(&read).unwrap();
        let mut sent: Vec<Document> = serde_json::from_str(&json).unwrap();
        let mut sharing = Sharing::default();
        sent.iter_mut().for_each(|document| sharing.share(document));
        assert_eq!(sent, read);
        for documents in [&read, &sent] {
            let [web, x] = policies(documents)[..] else {
                panic!("two documents")
            };
            assert!(Arc::ptr_eq(&web.rules[0].from, &web.rules[1].from));
            assert!(Arc::ptr_eq(&web.rules[0].from, &x.rules[0].from));
            assert!(!Arc::ptr_eq(&x.rules[0].from, &x.rules[1].from));
            assert_eq!(web.origin.file.as_ptr(), web.rules[0].origin.file.as_ptr());
        }
    }
}
