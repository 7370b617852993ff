//! Other trust domains, and those of them that are the mesh's own under another name.
//!
//! While a mesh moves from one trust domain to another, its workloads have IDs of both. A `TrustDomain` document that says
//! `alias: true` makes the two one for policy, as Istio's `trustDomainAliases` do: an ID of the alias is judged as the one of
//! the same path in the mesh's own trust domain, and a rule that names the alias is about the own one. Who has verified the ID
//! did so by the alias's own bundle; nothing here changes that.

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign_identity::TrustDomain;

use crate::Diagnostic;
use crate::call::Call;
use crate::document::{Document, Rule, Source, SourceFields, TrustDomainDocument};
use crate::pattern::TrustDomainPattern;

/// The mesh's own trust domain, and its other names.
#[derive(Clone, Debug)]
pub(crate) struct Aliases {
    local: TrustDomain,
    /// Few, and mostly none.
    names: Arc<[TrustDomain]>,
}

impl Aliases {
    /// The aliases that documents give to the trust domain.
    pub(crate) fn of(documents: &[Document], local: &TrustDomain) -> Self {
        let aliases = described(documents).filter(|described| described.alias);
        Self {
            local: local.clone(),
            names: aliases
                .map(|described| described.trust_domain.clone())
                .collect(),
        }
    }

    fn is_alias(&self, trust_domain: &TrustDomain) -> bool {
        self.names.contains(trust_domain)
    }

    /// Hands `judge` the call with its peer's ID as policy reads it.
    pub(crate) fn with_local_peer<T>(
        &self,
        call: &Call<'_>,
        judge: impl FnOnce(&Call<'_>) -> T,
    ) -> T {
        match call.peer {
            Some(peer) if self.is_alias(peer.trust_domain()) => {
                // One that would be too long has no name here, so that no rule lets it in by its name.
                let local = peer.in_trust_domain(&self.local).ok();
                judge(&Call {
                    peer: local.as_ref(),
                    ..*call
                })
            }
            _ => judge(call),
        }
    }

    /// The rule, about the mesh's own trust domain where it names an alias.
    pub(crate) fn localised(&self, rule: &Arc<Rule>) -> Arc<Rule> {
        let mut sources = rule.from.iter();
        if !sources.any(|source| fields_of(source).any(|fields| self.names_alias(fields))) {
            return Arc::clone(rule);
        }
        let mut localised = Rule::clone(rule);
        localised.from = rule
            .from
            .iter()
            .map(|source| Source {
                is: self.local_fields(&source.is),
                not: source
                    .not
                    .iter()
                    .map(|not| self.local_fields(not))
                    .collect(),
            })
            .collect();
        Arc::new(localised)
    }

    fn names_alias(&self, fields: &SourceFields) -> bool {
        let by_id = fields
            .spiffe
            .as_ref()
            .is_some_and(|pattern| self.is_alias(pattern.id().trust_domain()));
        by_id
            || matches!(&fields.trust_domain, Some(TrustDomainPattern::Is(domain)) if self.is_alias(domain))
    }

    fn local_fields(&self, fields: &SourceFields) -> SourceFields {
        let mut local = fields.clone();
        if let Some(pattern) = &fields.spiffe
            && self.is_alias(pattern.id().trust_domain())
            && let Ok(pattern) = pattern.in_trust_domain(&self.local)
        {
            local.spiffe = Some(pattern);
        }
        if let Some(TrustDomainPattern::Is(domain)) = &fields.trust_domain
            && self.is_alias(domain)
        {
            local.trust_domain = Some(TrustDomainPattern::Is(self.local.clone()));
        }
        local
    }
}

fn fields_of(source: &Source) -> impl Iterator<Item = &SourceFields> {
    std::iter::once(&source.is).chain(&source.not)
}

/// The trust domains that documents describe.
pub(crate) fn described(documents: &[Document]) -> impl Iterator<Item = &TrustDomainDocument> {
    documents.iter().filter_map(|document| match document {
        Document::TrustDomain(described) => Some(described),
        _ => None,
    })
}

/// A trust domain is described once, and the mesh's own one never: its roots come from its own CA.
pub(crate) fn mistakes(documents: &[Document], local: &TrustDomain) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    let mut seen: BTreeMap<&TrustDomain, &TrustDomainDocument> = BTreeMap::new();
    for document in described(documents) {
        let domain = &document.trust_domain;
        if domain == local {
            let message = format!(
                "{domain} is the mesh's own trust domain, whose bundle comes from its own CA: a TrustDomain is about another one"
            );
            mistakes.push(document.origin.diagnostic(message));
        }
        if let Some(first) = seen.insert(domain, document) {
            let message = format!(
                "the trust domain {domain} is described by TrustDomain {} already ({}:{})",
                first.metadata, first.origin.file, first.origin.line
            );
            mistakes.push(document.origin.diagnostic(message));
        }
    }
    mistakes
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use countersign_identity::SpiffeId;

    use super::*;
    use crate::document::parse;
    use crate::{Policy, Verdict, Workload};

    const RULES: &str = r#"apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: orders, namespace: shop}
spec:
  rules:
  - {name: web, action: allow, from: [{workload: shop/web}]}
  - {name: jobs, action: allow, from: [{spiffe: "spiffe://old.example/ns/jobs/**"}]}
  - {name: billing, action: allow, from: [{trustDomain: old.example, workload: shop/billing}]}
  - {name: partner, action: allow, from: [{trustDomain: partner.example, workload: shop/web}]}
  - {name: bad, action: deny, from: [{spiffe: "spiffe://old.example/ns/jobs/sa/bad"}]}
"#;

    fn domain(name: &str, more: &str) -> String {
        format!(
            "---\napiVersion: countersign.dev/v1\nkind: TrustDomain\n\
             metadata: {{name: {name}, namespace: countersign-system}}\n\
             spec: {{trustDomain: {name}.example, {more}bundleEndpoint: {{url: 'https://{name}.example/', profile: https_web}}}}\n"
        )
    }

    fn compile(text: &str) -> Result<Policy, String> {
        let documents = parse([("p.yaml".to_owned(), text.to_owned())]).unwrap();
        let local = TrustDomain::parse("shop.example").unwrap();
        Policy::compile("r1", &local, documents).map_err(|mistakes| mistakes.to_string())
    }

    fn allows(policy: &Policy, peer: &str) -> bool {
        let peer = SpiffeId::parse(peer).unwrap();
        let workload = Workload {
            namespace: "shop".to_owned(),
            service_account: "orders".to_owned(),
            ..Workload::default()
        };
        let policy = policy.for_workload(&workload);
        let call = Call {
            peer: Some(&peer),
            source_ip: None,
            destination_ip: None,
            port: 80,
            sni: None,
            request: None,
            subjects: &[],
            intent: None,
            time: SystemTime::UNIX_EPOCH,
        };
        let decision = policy.decide(&call);
        let explained = policy.explain(&call);
        assert_eq!(explained.decision.verdict, decision.verdict);
        assert_eq!(
            explained.verdict_of_rules().unwrap_or(Verdict::Deny),
            decision.verdict
        );
        decision.verdict == Verdict::Allow
    }

    #[test]
    fn an_alias_and_the_mesh_s_own_trust_domain_are_one_for_policy() {
        let alias = domain("old", "alias: true, ");
        let policy = compile(&format!("{RULES}{alias}{}", domain("partner", ""))).unwrap();
        for (path, allowed) in [
            ("/ns/shop/sa/web", true),
            ("/ns/shop/sa/billing", true),
            ("/ns/jobs/sa/report", true),
            // A rule that names the alias denies, too.
            ("/ns/jobs/sa/bad", false),
            ("/ns/shop/sa/other", false),
        ] {
            for name in ["shop.example", "old.example"] {
                let id = format!("spiffe://{name}{path}");
                assert_eq!(allows(&policy, &id), allowed, "{id}");
            }
        }
        // Another trust domain is none of it.
        assert!(allows(&policy, "spiffe://partner.example/ns/shop/sa/web"));
        for id in [
            "spiffe://partner.example/ns/jobs/sa/report",
            "spiffe://third.example/ns/shop/sa/web",
        ] {
            assert!(!allows(&policy, id), "{id}");
        }
    }

    #[test]
    fn without_an_alias_each_trust_domain_is_for_itself() {
        let policy = compile(&format!("{RULES}{}", domain("old", ""))).unwrap();
        for (id, allowed) in [
            ("spiffe://shop.example/ns/shop/sa/web", true),
            ("spiffe://old.example/ns/shop/sa/web", false),
            ("spiffe://old.example/ns/jobs/sa/report", true),
            ("spiffe://shop.example/ns/jobs/sa/report", false),
            ("spiffe://old.example/ns/jobs/sa/bad", false),
        ] {
            assert_eq!(allows(&policy, id), allowed, "{id}");
        }
    }

    #[test]
    fn an_alias_is_sent_to_the_sidecars_and_means_the_same_there() {
        let policy = compile(&format!("{RULES}{}", domain("old", "alias: true, "))).unwrap();
        let workload = Workload {
            namespace: "shop".to_owned(),
            service_account: "orders".to_owned(),
            ..Workload::default()
        };
        let sent = serde_json::to_string(&policy.concerning(&workload)).unwrap();
        let received: Vec<Document> = serde_json::from_str(&sent).unwrap();
        let local = TrustDomain::parse("shop.example").unwrap();
        let policy = Policy::compile("r1", &local, received).unwrap();
        assert!(allows(&policy, "spiffe://old.example/ns/shop/sa/web"));
        assert!(!allows(&policy, "spiffe://old.example/ns/jobs/sa/bad"));
    }

    #[test]
    fn a_trust_domain_is_described_once_and_never_the_own_one() {
        let text = format!(
            "{}{}",
            domain("old", ""),
            domain("old", "alias: true, ").replace("name: old,", "name: again,")
        );
        let mistakes = compile(&text).unwrap_err();
        assert!(
            mistakes.contains(
                "old.example is described by TrustDomain countersign-system/old already (p.yaml:"
            ),
            "{mistakes}"
        );
        let mistakes = compile(&domain("shop", "")).unwrap_err();
        assert!(
            mistakes.contains("shop.example is the mesh's own trust domain"),
            "{mistakes}"
        );
    }

    #[test]
    fn an_id_that_has_no_local_name_is_nobody() {
        let alias = domain("o", "alias: true, ");
        let rule = "apiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {name: a, namespace: shop}\n\
                    spec: {rules: [{name: x, action: allow, from: [{trustDomain: '*'}]}]}\n";
        let policy = compile(&format!("{rule}{alias}")).unwrap();
        let longest = format!("spiffe://o.example/{}", "x".repeat(2048 - 19));
        assert!(!allows(&policy, &longest));
        assert!(allows(&policy, "spiffe://o.example/x"));
    }
}
