//! Documents in their compiled form, for the whole mesh.

use std::collections::HashMap;
use std::sync::Arc;

use countersign_identity::{TrustDomain, spiffe::system};

use crate::aliases::{self, Aliases};
use crate::arrival::Arrival;
use crate::call::{Call, Workload};
use crate::condition::Expression;
use crate::decision::{Decision, DocumentOrigin, RuleOrigin};
use crate::document::parse_all;
use crate::document::{
    AccessPolicy, Condition, Document, Metadata, Mode, Operation, Rule, Sharing, SubjectMatch,
    Text, TokenIssuer, TransactionPolicy, TrustDomainDocument,
};
use crate::files::PolicyFiles;
use crate::pattern::{Name, PathPattern};
use crate::rule::CompiledRule;
use crate::workload_policy::{Otherwise, WorkloadPolicy, WorkloadRules};
use crate::{Diagnostic, Diagnostics};

/// The policy of a mesh, or of what a sidecar was sent of it, at one revision.
#[derive(Debug)]
pub struct Policy {
    revision: Arc<str>,
    trust_domain: TrustDomain,
    aliases: Aliases,
    documents: Vec<CompiledDocument>,
}

#[derive(Debug)]
pub(crate) struct CompiledDocument {
    pub(crate) document: Document,
    pub(crate) origin: Arc<DocumentOrigin>,
    /// An access policy's rules, in their order.
    pub(crate) rules: Vec<Arc<CompiledRule>>,
    /// A token issuer, to be shared.
    issuer: Option<Arc<TokenIssuer>>,
}

impl Policy {
    /// Compiles documents: names of issuers are resolved, conditions compiled.
    ///
    /// `trust_domain` is the mesh's own, in which names without a trust domain are read.
    ///
    /// # Errors
    /// Every mistake, by file and line.
    pub fn compile(
        revision: &str,
        trust_domain: &TrustDomain,
        documents: Vec<Document>,
    ) -> Result<Self, Diagnostics> {
        let (policy, mistakes) = Self::compile_all(revision, trust_domain, documents, true);
        if mistakes.is_empty() {
            Ok(policy)
        } else {
            Err(Diagnostics::new(mistakes))
        }
    }

    /// Reads and compiles policy files. What is wrong with one document hides nothing of what is wrong with others.
    ///
    /// # Errors
    /// Every mistake, by file and line.
    pub fn from_files(
        revision: &str,
        trust_domain: &TrustDomain,
        files: PolicyFiles,
    ) -> Result<Self, Diagnostics> {
        let mut mistakes = files.mistakes;
        let parsed = parse_all(files.files);
        mistakes.extend(parsed.mistakes);
        let (policy, more) = Self::compile_all(
            revision,
            trust_domain,
            parsed.documents,
            mistakes.is_empty(),
        );
        mistakes.extend(more);
        if mistakes.is_empty() {
            Ok(policy)
        } else {
            Err(Diagnostics::new(mistakes))
        }
    }

    /// Compiles what is right, and tells what is wrong. If the documents are not `complete`, because some could not be
    /// read, what others say of them cannot be judged.
    pub(crate) fn compile_all(
        revision: &str,
        trust_domain: &TrustDomain,
        mut documents: Vec<Document>,
        complete: bool,
    ) -> (Self, Vec<Diagnostic>) {
        // They may have come from elsewhere than from files.
        let mut sharing = Sharing::default();
        documents
            .iter_mut()
            .for_each(|document| sharing.share(document));
        drop(sharing);
        let issuers = issuers(&documents);
        let aliases = Aliases::of(&documents, trust_domain);
        let mut compiler = Compiler {
            trust_domain,
            aliases: aliases.clone(),
            issuers,
            complete,
            conditions: HashMap::new(),
            mistakes: aliases::mistakes(&documents, trust_domain),
        };
        let rules: Vec<_> = documents
            .iter()
            .map(|document| compiler.document(document))
            .collect();
        let mistakes = compiler.mistakes;
        let compiled = documents.into_iter().zip(rules).map(|(document, rules)| {
            let issuer = match &document {
                Document::TokenIssuer(issuer) => Some(Arc::new(issuer.clone())),
                _ => None,
            };
            CompiledDocument {
                origin: Arc::new(DocumentOrigin::of(&document)),
                document,
                rules,
                issuer,
            }
        });
        let policy = Self {
            revision: revision.into(),
            trust_domain: trust_domain.clone(),
            aliases,
            documents: compiled.collect(),
        };
        (policy, mistakes)
    }

    /// The git commit, or whatever else names this state of the policy.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Whether there is no document at all, and so nothing that anybody could have meant.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// The documents that concern calls to a workload: what its sidecar needs, and no more.
    #[must_use]
    pub fn concerning(&self, workload: &Workload) -> Vec<Document> {
        self.compiled_for(workload)
            .map(|compiled| compiled.document.clone())
            .collect()
    }

    /// The policy for calls to one workload, indexed for quick decisions.
    #[must_use]
    pub fn for_workload(&self, workload: &Workload) -> WorkloadPolicy {
        let mut rules = Vec::new();
        let mut issuers = Vec::new();
        let mut modes = Vec::new();
        let mut otherwise = Otherwise::NoPolicy;
        for compiled in self.compiled_for(workload) {
            match &compiled.document {
                Document::AccessPolicy(policy) => {
                    otherwise = otherwise.and(policy, &compiled.origin);
                }
                Document::MeshMode(mode) => modes.push((mode, Arc::clone(&compiled.origin))),
                _ => {}
            }
            rules.extend(compiled.rules.iter().map(Arc::clone));
            issuers.extend(compiled.issuer.iter().map(Arc::clone));
        }
        WorkloadPolicy::new(WorkloadRules {
            revision: Arc::clone(&self.revision),
            workload: workload.clone(),
            local: self.trust_domain.clone(),
            aliases: self.aliases.clone(),
            rules,
            issuers,
            arrival: Arrival::new(&modes),
            otherwise,
        })
    }

    /// What becomes of a request to a workload whose path applications read in different ways.
    #[cfg(feature = "tools")]
    pub(crate) fn ambiguous_paths(&self, workload: &Workload) -> crate::document::AmbiguousPaths {
        let modes = self
            .compiled_for(workload)
            .filter_map(|compiled| match &compiled.document {
                Document::MeshMode(mode) => Some((mode, Arc::clone(&compiled.origin))),
                _ => None,
            });
        Arrival::new(&modes.collect::<Vec<_>>()).ambiguous_paths()
    }

    /// Judges one call. Builds the workload's index for it: who judges more than one keeps
    /// [`for_workload`](Self::for_workload).
    #[must_use]
    pub fn decide(&self, workload: &Workload, call: &Call<'_>) -> Decision {
        self.for_workload(workload).decide(call)
    }

    /// Every access rule, in the order of the documents.
    pub(crate) fn rules(&self) -> impl Iterator<Item = &Arc<CompiledRule>> {
        self.documents.iter().flat_map(|compiled| &compiled.rules)
    }

    /// The mesh's own trust domain.
    #[cfg(feature = "tools")]
    pub(crate) fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// All documents, in their order.
    #[cfg(feature = "tools")]
    pub(crate) fn documents(&self) -> &[CompiledDocument] {
        &self.documents
    }

    /// The token issuers of all namespaces.
    pub fn token_issuers(&self) -> impl Iterator<Item = &TokenIssuer> {
        self.documents
            .iter()
            .filter_map(|compiled| compiled.issuer.as_deref())
    }

    /// The other trust domains whose workloads are believed to be who they say.
    pub fn trust_domains(&self) -> impl Iterator<Item = &TrustDomainDocument> {
        self.documents
            .iter()
            .filter_map(|compiled| match &compiled.document {
                Document::TrustDomain(described) => Some(described),
                _ => None,
            })
    }

    fn compiled_for(&self, workload: &Workload) -> impl Iterator<Item = &CompiledDocument> {
        self.documents
            .iter()
            .filter(|compiled| concerns(&compiled.document, workload))
    }
}

/// Documents of the root namespace concern every workload of the mesh, others those of their own.
pub(crate) fn concerns(document: &Document, workload: &Workload) -> bool {
    let namespace = document.metadata().namespace.as_str();
    if namespace != system::NAMESPACE && namespace != workload.namespace {
        return false;
    }
    document
        .target()
        .is_none_or(|target| target.accepts(workload))
}

/// Namespace → names of its token issuers.
type Issuers = HashMap<Name, Vec<Name>>;

fn issuers(documents: &[Document]) -> Issuers {
    let mut issuers = Issuers::new();
    for document in documents {
        if let Document::TokenIssuer(issuer) = document {
            let metadata = issuer.metadata.clone();
            issuers
                .entry(metadata.namespace)
                .or_default()
                .push(metadata.name);
        }
    }
    issuers
}

struct Compiler<'a> {
    trust_domain: &'a TrustDomain,
    aliases: Aliases,
    issuers: Issuers,
    /// Whether these are all issuers that there are.
    complete: bool,
    conditions: Conditions<'a>,
    mistakes: Vec<Diagnostic>,
}

/// Conditions that were compiled so far, by their text and the names of the segments that the rule's paths capture: many
/// rules have the same.
type Conditions<'a> = HashMap<(&'a str, Vec<&'a str>), Arc<Expression>>;

impl<'a> Compiler<'a> {
    /// Wrong rules are left out, and noted.
    fn document(&mut self, document: &'a Document) -> Vec<Arc<CompiledRule>> {
        match document {
            Document::AccessPolicy(policy) => {
                let name = Text::from(policy.metadata.to_string());
                let mut compiled = Vec::with_capacity(policy.rules.len());
                for rule in &policy.rules {
                    compiled.extend(self.rule(policy, &name, rule).map(Arc::new));
                }
                compiled
            }
            Document::TransactionPolicy(policy) => {
                self.transactions(policy);
                Vec::new()
            }
            Document::TokenIssuer(_)
            | Document::MeshMode(_)
            | Document::EgressPolicy(_)
            | Document::TrustDomain(_) => Vec::new(),
        }
    }

    /// What issues transaction tokens compiles it for itself; here it is checked that it will.
    fn transactions(&mut self, policy: &TransactionPolicy) {
        for rule in &policy.rules {
            let _ = self.issuer(&policy.metadata, rule.subject.as_ref());
            for value in rule.context.values() {
                let captures = captures(&rule.to);
                let _ = self.expression(value, &captures, Expression::compile_value);
            }
        }
    }

    fn rule(
        &mut self,
        policy: &AccessPolicy,
        name: &Text,
        rule: &'a Arc<Rule>,
    ) -> Option<CompiledRule> {
        let issuer = self.issuer(&policy.metadata, rule.subject.as_deref());
        let condition = match &rule.when {
            Some(condition) => self.condition(condition, &rule.to).map(Some),
            None => Some(None),
        };
        let origin = RuleOrigin {
            policy: name.clone(),
            rule: rule.name.clone(),
            file: rule.origin.file.clone(),
            line: rule.origin.line,
        };
        Some(CompiledRule {
            rule: self.aliases.localised(rule),
            origin: Arc::new(origin),
            observe: policy.mode == Mode::Observe,
            issuer: issuer?,
            condition: condition?,
            local: self.trust_domain.clone(),
        })
    }

    fn issuer(
        &mut self,
        policy: &Metadata,
        subject: Option<&SubjectMatch>,
    ) -> Option<Option<Box<str>>> {
        let Some((subject, name)) =
            subject.and_then(|subject| Some((subject, subject.issuer.as_ref()?)))
        else {
            return Some(None);
        };
        let own = policy.namespace.as_str();
        let found = [own, system::NAMESPACE].into_iter().find(|namespace| {
            self.issuers
                .get(*namespace)
                .is_some_and(|names| names.contains(name))
        });
        if let Some(namespace) = found {
            return Some(Some(format!("{namespace}/{name}").into()));
        }
        if !self.complete {
            return None;
        }
        let mut places = format!("the namespace {own}");
        if own != system::NAMESPACE {
            places = format!("{places} or {}", system::NAMESPACE);
        }
        let message = format!("there is no TokenIssuer {name} in {places}");
        self.mistakes.push(subject.origin.diagnostic(message));
        None
    }

    /// The compiled condition of a rule with these operations.
    fn condition(
        &mut self,
        condition: &'a Condition,
        to: &'a [Operation],
    ) -> Option<Arc<Expression>> {
        let key = (condition.expression.as_str(), captures(to));
        if let Some(known) = self.conditions.get(&key) {
            return Some(Arc::clone(known));
        }
        let compiled = self.expression(condition, &key.1, Expression::compile)?;
        let compiled = Arc::new(compiled);
        self.conditions.insert(key, Arc::clone(&compiled));
        Some(compiled)
    }

    fn expression(
        &mut self,
        condition: &Condition,
        captures: &[&str],
        compile: fn(&str, &[&str]) -> Result<Expression, Vec<String>>,
    ) -> Option<Expression> {
        match compile(&condition.expression, captures) {
            Ok(expression) => Some(expression),
            Err(messages) => {
                let place = &condition.origin;
                self.mistakes
                    .extend(messages.into_iter().map(|m| place.diagnostic(m)));
                None
            }
        }
    }
}

/// The names of the path segments that a condition may ask for.
fn captures(to: &[Operation]) -> Vec<&str> {
    let paths = to.iter().flat_map(|to| &to.is.paths);
    paths.flat_map(PathPattern::names).collect()
}
