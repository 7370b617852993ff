//! What it means for calls that a TokenIssuer is changed.
//!
//! Tokens that are believed now matter to rules that ask for them, of which one that allows may match, and to applications, which are
//! told of the subject. Tokens that are believed no more matter to rules that deny: one that denied their holders does not match
//! any more.

use std::collections::BTreeSet;

use super::encode::joined;
use crate::Policy;
use crate::document::{Action, TokenIssuer};
use crate::rule::CompiledRule;

/// How many rules are named.
const NAMED: usize = 3;

/// What became of a TokenIssuer.
pub(super) struct Change<'a> {
    /// `namespace/name`
    pub(super) name: String,
    /// `None` where there was none.
    pub(super) old: Option<&'a TokenIssuer>,
    /// `None` where there is none any more.
    pub(super) new: Option<&'a TokenIssuer>,
}

/// Which tokens are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Believed {
    /// Some that were not.
    more: bool,
    /// Not all that were.
    fewer: bool,
}

impl Change<'_> {
    /// Tells which calls may be decided in another way, and says whether some may become allowed.
    pub(super) fn effects(
        &self,
        old: &Policy,
        new: &Policy,
        effects: &mut BTreeSet<String>,
    ) -> bool {
        let believed = self.believed();
        // Applications are told who the subject is, and may go by it without any rule that asks.
        let mut widens = believed.more;
        if believed.more {
            let allowing = self.asking(new, Action::Allow);
            if !allowing.is_empty() {
                effects.insert(format!(
                    "calls with tokens that were not believed may become allowed by {}",
                    allowing.told()
                ));
            }
            let denying = self.asking(new, Action::Deny);
            if !denying.is_empty() {
                effects.insert(format!(
                    "calls with tokens that were not believed may become denied by {}",
                    denying.told()
                ));
            }
        }
        if believed.fewer {
            let denying = self.asking(old, Action::Deny);
            if !denying.is_empty() {
                widens = true;
                effects.insert(format!(
                    "calls with tokens that are not believed any more are not denied any more by {}",
                    denying.told()
                ));
            }
            let allowing = self.asking(old, Action::Allow);
            // A condition may ask for what is not there.
            widens |= allowing.conditions;
            if !allowing.is_empty() {
                effects.insert(format!(
                    "calls with tokens that are not believed any more are not allowed any more by {}",
                    allowing.told()
                ));
            }
        }
        if self.fewer_headers_are_told() {
            widens = true;
            effects.insert(
                "callers may send headers themselves that only a token could fill".to_owned(),
            );
        }
        if effects.is_empty() {
            effects.insert("no rule asks for its tokens".to_owned());
        }
        widens
    }

    fn believed(&self) -> Believed {
        match (self.old, self.new) {
            (None, _) => Believed {
                more: true,
                fewer: false,
            },
            (_, None) => Believed {
                more: false,
                fewer: true,
            },
            (Some(old), Some(new)) => {
                let differs =
                    old.issuer != new.issuer || old.keys != new.keys || old.target != new.target;
                // No audience is any.
                let (before, after) = (&old.audiences, &new.audiences);
                let more_audiences = !before.is_empty() && !has_all(before, after);
                let fewer_audiences = !after.is_empty() && !has_all(after, before);
                Believed {
                    more: differs
                        || more_audiences
                        || (after.is_empty() && !before.is_empty())
                        || !has_all(&old.algorithms, &new.algorithms)
                        || !has_all(&old.from, &new.from)
                        || new.leeway > old.leeway,
                    fewer: differs
                        || fewer_audiences
                        || (before.is_empty() && !after.is_empty())
                        || !has_all(&new.algorithms, &old.algorithms)
                        || !has_all(&new.from, &old.from)
                        || new.leeway < old.leeway,
                }
            }
        }
    }

    /// Whether the application may take for a claim what a caller sends: such headers are removed only where an issuer fills them.
    fn fewer_headers_are_told(&self) -> bool {
        let Some(old) = self.old else {
            return false;
        };
        let told: Vec<_> = self
            .new
            .into_iter()
            .flat_map(TokenIssuer::told_headers)
            .collect();
        old.told_headers().any(|header| !told.contains(&header))
    }

    /// The rules in force of an action that ask for tokens of the issuer, or of any.
    fn asking<'p>(&self, policy: &'p Policy, action: Action) -> Asking<'p> {
        let of = |issuer: &TokenIssuer| issuer.metadata.namespace.clone();
        let namespace = self.old.or(self.new).map(of);
        let about = |compiled: &crate::policy::CompiledDocument| {
            let rules_of = &compiled.document.metadata().namespace;
            let root = countersign_identity::spiffe::system::NAMESPACE;
            let everywhere = |name: &str| name == root;
            namespace.as_ref().is_none_or(|namespace| {
                namespace == rules_of
                    || everywhere(namespace.as_str())
                    || everywhere(rules_of.as_str())
            })
        };
        let documents = policy.documents().iter().filter(|compiled| about(compiled));
        let rules = documents.flat_map(|compiled| &compiled.rules);
        let mut asking = Asking {
            rules: Vec::new(),
            conditions: false,
        };
        for rule in rules.filter(|rule| !rule.observe && rule.rule.action == action) {
            let by_condition = rule
                .condition
                .as_ref()
                .is_some_and(|condition| condition.roots().subject);
            let by_subject = rule.rule.subject.is_some()
                && rule
                    .issuer
                    .as_ref()
                    .is_none_or(|issuer| **issuer == *self.name);
            let may_be_its = rule
                .issuer
                .as_ref()
                .is_none_or(|issuer| **issuer == *self.name);
            if by_subject || (by_condition && may_be_its) {
                asking.conditions |= by_condition;
                asking.rules.push(rule);
            }
        }
        asking
    }
}

/// Rules that ask for tokens.
struct Asking<'p> {
    rules: Vec<&'p CompiledRule>,
    /// Whether some do in their conditions, which are not looked into.
    conditions: bool,
}

impl Asking<'_> {
    fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    fn told(&self) -> String {
        let named = joined(self.rules.iter().take(NAMED).map(|rule| &rule.origin), ", ");
        match self.rules.len().saturating_sub(NAMED) {
            0 => named,
            more => format!("{named} and {more} more"),
        }
    }
}

fn has_all<T: PartialEq>(all: &[T], some: &[T]) -> bool {
    some.iter().all(|one| all.contains(one))
}

#[cfg(test)]
mod tests {
    use countersign_identity::TrustDomain;

    use super::*;
    use crate::analysis::{Difference, diff};
    use crate::document;

    const ISSUER: &str = "apiVersion: countersign.dev/v1\nkind: TokenIssuer\nmetadata: {name: corp, namespace: shop}\nspec: {issuer: https://login.example, audiences: [shop]}\n---\n";

    fn difference(old: &str, new: &str) -> Difference {
        let policy = |text: &str| {
            let documents = document::parse([("p.yaml".to_owned(), text.to_owned())]).unwrap();
            let domain = TrustDomain::parse("shop.example").unwrap();
            Policy::compile("r", &domain, documents).unwrap()
        };
        diff(&policy(old), &policy(new), None).unwrap()
    }

    fn rules(rules: &str) -> String {
        format!(
            "apiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {{rules: [{rules}]}}\n"
        )
    }

    /// Whether access widens, and what is said of the only issuer.
    fn told(old: &str, new: &str) -> (bool, String) {
        let difference = difference(old, new);
        let effects = difference.documents.iter().flat_map(|d| &d.effects);
        (difference.widens(), joined(effects, "; "))
    }

    #[test]
    fn more_tokens_let_in_whom_rules_that_allow_ask_for_them() {
        let asks = rules("{name: buyers, action: allow, subject: {claims: {groups: buyer}}}");
        let (widens, effects) = told(&asks, &format!("{ISSUER}{asks}"));
        assert!(widens);
        assert_eq!(
            effects,
            "calls with tokens that were not believed may become allowed by \"buyers\" (shop/p, p.yaml:9)"
        );
        // No rule asks for tokens; the application is told of them all the same.
        let asks = rules("{name: all, action: allow}");
        let (widens, effects) = told(&asks, &format!("{ISSUER}{asks}"));
        assert!(widens);
        assert_eq!(effects, "no rule asks for its tokens");
    }

    #[test]
    fn tokens_that_are_believed_no_more_let_in_whom_a_rule_denied_for_them() {
        let denies = rules(
            "{name: all, action: allow}, {name: no interns, action: deny, subject: {claims: {groups: intern}}}",
        );
        let (widens, effects) = told(&format!("{ISSUER}{denies}"), &denies);
        assert!(widens);
        assert!(
            effects.contains("are not denied any more by \"no interns\""),
            "{effects}"
        );
        let allows = rules("{name: staff, action: allow, subject: {claims: {groups: staff}}}");
        let (widens, effects) = told(&format!("{ISSUER}{allows}"), &allows);
        assert!(!widens);
        assert!(
            effects.contains("are not allowed any more by \"staff\""),
            "{effects}"
        );
    }

    #[test]
    fn audiences_keys_and_places_count_by_whether_more_is_believed() {
        let asks = rules("{name: staff, action: allow, subject: {issuer: corp}}");
        let with = |spec: &str| {
            let spec = format!("spec: {{issuer: https://login.example, {spec}}}");
            ISSUER.replace(
                "spec: {issuer: https://login.example, audiences: [shop]}",
                &spec,
            ) + &asks
        };
        let one = with("audiences: [shop]");
        for (other, more, fewer) in [
            ("audiences: [shop, test]", true, false),
            ("audiences: '*'", true, false),
            ("audiences: [test]", true, true),
            (
                "audiences: [shop], jwksUri: https://login.example/keys",
                true,
                true,
            ),
            (
                "audiences: [shop], from: [{header: x-token}, {header: authorization, prefix: 'Bearer '}]",
                true,
                false,
            ),
            ("audiences: [shop], leeway: 2m", true, false),
            ("audiences: [shop], forward: false", false, false),
            (
                "audiences: [shop], claimHeaders: {x-user: sub}",
                false,
                false,
            ),
        ] {
            let other = with(other);
            assert_eq!(told(&one, &other).0, more, "{other}");
            let back = told(&other, &one).0;
            // A header that is not removed any more can be sent by callers.
            assert_eq!(back, fewer || other.contains("claimHeaders"), "{other}");
        }
    }

    #[test]
    fn a_condition_about_the_subject_may_turn_out_in_any_way() {
        let asks =
            rules("{name: c, action: deny, when: 'subject == null'}, {name: all, action: allow}");
        let with = format!("{ISSUER}{asks}");
        assert!(told(&asks, &with).0);
        assert!(told(&with, &asks).0);
    }

    #[test]
    fn paths_that_are_judged_for_more_workloads_widen_access() {
        let mode = |target: &str, paths: &str| {
            format!(
                "apiVersion: countersign.dev/v1\nkind: MeshMode\nmetadata: {{name: m, namespace: shop}}\nspec: {{{target}ambiguousPaths: {paths}}}\n---\n"
            ) + &rules("{name: all, action: allow}")
        };
        let all = mode("", "accept");
        let some = mode("target: {labels: {app: web}}, ", "accept");
        let none = mode("", "refuse");
        for (old, new, accepted) in [
            (&some, &all, true),
            (&all, &some, false),
            (&none, &some, true),
        ] {
            let difference = difference(old, new);
            assert_eq!(difference.widens(), accepted);
            let changes: Vec<bool> = difference.paths.iter().map(|p| p.accepted).collect();
            assert_eq!(changes, [accepted]);
            assert!(!difference.is_empty());
        }
        assert!(difference(&all, &all).is_empty());
    }

    #[test]
    fn who_need_not_prove_an_identity_any_more_is_a_region() {
        let mode = |mode: &str| {
            format!(
                "apiVersion: countersign.dev/v1\nkind: MeshMode\nmetadata: {{name: m, namespace: shop}}\nspec: {{mode: {mode}}}\n---\n"
            ) + &rules("{name: anyone, action: allow, from: [{anonymous: true}]}")
        };
        let difference = difference(&mode("strict"), &mode("permissive"));
        assert!(difference.widens());
        let [change] = difference.allowed.as_slice() else {
            panic!("{difference:?}");
        };
        assert!(change.example.confirmed);
        assert_eq!(super::super::told(&change.region.from), "anonymous callers");
    }
}
