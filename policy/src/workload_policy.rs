//! The policy for calls to one workload, and how a call is judged by it.

use std::borrow::Cow;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use countersign_identity::TrustDomain;

use crate::aliases::Aliases;
use crate::arrival::Arrival;
use crate::call::{Call, Workload};
use crate::decision::{Decision, DocumentOrigin, FailedCondition, Observed, Reason, Verdict};
use crate::document::{AccessPolicy, Action, DefaultAction, Mode, PeerMode, TokenIssuer};
use crate::index::{Index, Indexes, RuleNumber, Sought, Use};
use crate::near_miss::{COMPARED_RULES, Candidates, near_miss};
use crate::normal_path::{AmbiguousPath, normal_path};
use crate::readings::Readings;
use crate::rule::{CompiledRule, Judged, Match};

/// The rules about calls to one workload, at one revision. Immutable: share it in an `Arc`, and put
/// another in its place when the policy changes.
pub struct WorkloadPolicy {
    revision: Arc<str>,
    workload: Workload,
    aliases: Aliases,
    /// `namespace/service-account`.
    name: Arc<str>,
    rules: Vec<Arc<CompiledRule>>,
    issuers: Vec<Arc<TokenIssuer>>,
    arrival: Arrival,
    otherwise: Otherwise,
    indexes: Indexes,
    /// Some of the rules that allow, to compare a call with that none allows.
    first_allow: Vec<RuleNumber>,
}

/// What a [`WorkloadPolicy`] is made of.
pub(crate) struct WorkloadRules {
    pub(crate) revision: Arc<str>,
    pub(crate) workload: Workload,
    /// The mesh's own trust domain.
    pub(crate) local: TrustDomain,
    pub(crate) aliases: Aliases,
    pub(crate) rules: Vec<Arc<CompiledRule>>,
    pub(crate) issuers: Vec<Arc<TokenIssuer>>,
    pub(crate) arrival: Arrival,
    pub(crate) otherwise: Otherwise,
}

/// What becomes of a call that no rule decides.
#[derive(Debug)]
pub(crate) enum Otherwise {
    /// It is denied: no policy is about the workload.
    NoPolicy,
    /// It is denied: what policies there are only observe.
    OnlyObserved,
    /// It is denied.
    Deny,
    /// It is allowed: every policy that is enforced says so, this one first.
    Allow(Arc<DocumentOrigin>),
}

impl Otherwise {
    /// With one more policy about the workload.
    pub(crate) fn and(self, policy: &AccessPolicy, origin: &Arc<DocumentOrigin>) -> Self {
        match (policy.mode, policy.default, self) {
            (Mode::Observe, _, Self::NoPolicy) => Self::OnlyObserved,
            (Mode::Observe, _, before) => before,
            (Mode::Enforce, DefaultAction::Deny, _) | (_, _, Self::Deny) => Self::Deny,
            (Mode::Enforce, DefaultAction::Allow, first @ Self::Allow(_)) => first,
            (Mode::Enforce, DefaultAction::Allow, Self::NoPolicy | Self::OnlyObserved) => {
                Self::Allow(Arc::clone(origin))
            }
        }
    }
}

impl fmt::Debug for WorkloadPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadPolicy")
            .field("revision", &self.revision)
            .field("workload", &self.name)
            .field("rules", &self.rules.len())
            .finish_non_exhaustive()
    }
}

impl WorkloadPolicy {
    pub(crate) fn new(of: WorkloadRules) -> Self {
        let WorkloadRules {
            revision,
            workload,
            local,
            aliases,
            rules,
            issuers,
            arrival,
            otherwise,
        } = of;
        let indexes = Indexes::new(&local, rules.iter().map(|rule| &**rule));
        let allows = |rule: &CompiledRule| !rule.observe && rule.rule.action == Action::Allow;
        let first_allow = rules
            .iter()
            .zip(0..)
            .filter(|(rule, _)| allows(rule))
            .map(|(_, number)| number)
            .take(COMPARED_RULES)
            .collect();
        let name = format!("{}/{}", workload.namespace, workload.service_account).into();
        Self {
            revision,
            workload,
            aliases,
            name,
            rules,
            issuers,
            arrival,
            otherwise,
            indexes,
            first_allow,
        }
    }

    /// The revision that it is of.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The workload whose calls are judged.
    #[must_use]
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    /// The mesh's own trust domain, and its other names.
    pub(crate) fn aliases(&self) -> &Aliases {
        &self.aliases
    }

    #[cfg(feature = "tools")]
    pub(crate) fn arrival(&self) -> &Arrival {
        &self.arrival
    }

    #[cfg(feature = "tools")]
    pub(crate) fn otherwise(&self) -> &Otherwise {
        &self.otherwise
    }

    /// The issuers whose tokens a call may carry: by these rules they are verified.
    #[must_use]
    pub fn token_issuers(&self) -> &[Arc<TokenIssuer>] {
        &self.issuers
    }

    /// Whether callers of a port have to prove an identity.
    #[must_use]
    pub fn peer_mode(&self, port: u16) -> PeerMode {
        self.arrival.peer_mode(port)
    }

    /// The path of a request in the normal form in which it is judged and to be forwarded, its query as it was.
    ///
    /// # Errors
    /// Why the request is to be answered 400.
    pub fn normal_path<'p>(&self, sent: &'p str) -> Result<Cow<'p, str>, AmbiguousPath> {
        normal_path(sent, self.arrival.ambiguous_paths())
    }

    /// Judges a call: a deny rule that matches denies, else an allow rule that matches allows, else
    /// the call is denied, unless every policy says otherwise.
    #[must_use]
    pub fn decide(&self, call: &Call<'_>) -> Decision {
        self.aliases
            .with_local_peer(call, |call| self.decide_local(call))
    }

    fn decide_local(&self, call: &Call<'_>) -> Decision {
        if call.peer.is_none() && self.peer_mode(call.port) == PeerMode::Strict {
            let reason = Reason::NoIdentity {
                port: call.port,
                mode: self.arrival.peer_mode_origin(call.port),
            };
            return self.undecided_by_rules(reason);
        }
        let judged = Judged::new(call, &self.workload);
        let readings = match self.readings(call) {
            Ok(readings) => readings,
            Err(problem) => {
                let reason = Reason::AmbiguousPath(problem);
                return self.undecided_by_rules(reason);
            }
        };
        let mut sought = self.indexes.sought(&judged);
        let observed = self.observed(&judged, &readings, &mut sought);
        if let Some((rule, failure)) = self.denying(&judged, &readings, &mut sought) {
            let origin = Arc::clone(&rule.origin);
            let reason = match failure {
                None => Reason::DeniedByRule(Arc::clone(&origin)),
                Some(error) => Reason::ConditionFailed {
                    rule: Arc::clone(&origin),
                    error,
                },
            };
            return Decision {
                verdict: Verdict::Deny,
                rule: Some(origin),
                reason,
                observed,
                failed: Vec::new(),
                revision: Arc::clone(&self.revision),
            };
        }
        let mut candidates = Candidates::default();
        let (allowing, failed) = self.allowing(&judged, &readings, &mut sought, &mut candidates);
        if let Some(rule) = allowing {
            let origin = Arc::clone(&rule.origin);
            return Decision {
                verdict: Verdict::Allow,
                reason: Reason::Allowed(Arc::clone(&origin)),
                rule: Some(origin),
                observed,
                failed,
                revision: Arc::clone(&self.revision),
            };
        }
        let (verdict, reason) = match &self.otherwise {
            Otherwise::Allow(policy) => {
                (Verdict::Allow, Reason::AllowedByDefault(Arc::clone(policy)))
            }
            Otherwise::Deny | Otherwise::OnlyObserved => {
                let reading = readings.iter().next().flatten();
                let (allow, first) = (&self.indexes.allow, &self.first_allow);
                let miss = near_miss(
                    &judged,
                    reading,
                    allow,
                    &sought,
                    candidates,
                    first,
                    |number| self.rule(number),
                );
                (Verdict::Deny, Reason::NoRuleMatched(Box::new(miss)))
            }
            Otherwise::NoPolicy => (
                Verdict::Deny,
                Reason::NoPolicy {
                    workload: Arc::clone(&self.name),
                },
            ),
        };
        Decision {
            verdict,
            rule: None,
            reason,
            observed,
            failed,
            revision: Arc::clone(&self.revision),
        }
    }

    /// A call that no rule is asked about.
    fn undecided_by_rules(&self, reason: Reason) -> Decision {
        Decision {
            verdict: Verdict::Deny,
            rule: None,
            reason,
            observed: Vec::new(),
            failed: Vec::new(),
            revision: Arc::clone(&self.revision),
        }
    }

    /// The ways in which the path of a call can be read.
    pub(crate) fn readings<'c>(&self, call: &Call<'c>) -> Result<Readings<'c>, AmbiguousPath> {
        match call.request {
            Some(request) => Readings::of(request.path, self.arrival.ambiguous_paths()),
            None => Ok(Readings::One(None)),
        }
    }

    /// Every rule, in the order of the documents.
    pub(crate) fn rules(&self) -> &[Arc<CompiledRule>] {
        &self.rules
    }

    /// Shows the rules in force of which all but the condition matches some reading of the call's path, some perhaps twice. Says
    /// how many were looked at.
    ///
    /// # Errors
    /// No rule is asked about the call: why.
    #[cfg(feature = "tools")]
    pub(crate) fn matching_but_for_conditions(
        &self,
        call: &Call<'_>,
        visit: &mut impl FnMut(RuleNumber, &Arc<CompiledRule>),
    ) -> Result<usize, AmbiguousPath> {
        self.aliases
            .with_local_peer(call, |call| self.matching_local(call, visit))
    }

    #[cfg(feature = "tools")]
    fn matching_local(
        &self,
        call: &Call<'_>,
        visit: &mut impl FnMut(RuleNumber, &Arc<CompiledRule>),
    ) -> Result<usize, AmbiguousPath> {
        let judged = Judged::new(call, &self.workload);
        let readings = self.readings(call)?;
        let mut sought = self.indexes.sought(&judged);
        let mut looked_at = 0_usize;
        for path in readings.iter() {
            sought.read(path);
            for (index, of) in [
                (&self.indexes.deny, Use::Other),
                (&self.indexes.allow, Use::Allow),
            ] {
                index.candidates(&sought, of, &mut (), &mut |number| {
                    looked_at = looked_at.saturating_add(1);
                    if let Some(rule) = self.rule(number)
                        && rule.matches_but_for_condition(&judged, path)
                    {
                        visit(number, rule);
                    }
                    ControlFlow::Continue(())
                });
            }
        }
        Ok(looked_at)
    }

    fn rule(&self, number: RuleNumber) -> Option<&Arc<CompiledRule>> {
        self.rules.get(usize::try_from(number).ok()?)
    }

    /// The first deny rule that matches any reading, and why its condition could not be evaluated.
    fn denying(
        &self,
        judged: &Judged<'_>,
        readings: &Readings<'_>,
        sought: &mut Sought<'_>,
    ) -> Option<(&CompiledRule, Option<String>)> {
        let mut found: Option<(RuleNumber, &CompiledRule, Option<String>)> = None;
        let mut visit = |path: Option<&str>, number: RuleNumber| {
            // Lists are in ascending order: what follows in this one is no better.
            if found.as_ref().is_some_and(|(first, ..)| *first <= number) {
                return ControlFlow::Break(());
            }
            let Some(rule) = self.rule(number) else {
                return ControlFlow::Continue(());
            };
            let failure = match rule.matches(judged, path) {
                Match::Yes => None,
                Match::Failed(error) => Some(error),
                Match::No => return ControlFlow::Continue(()),
            };
            found = Some((number, rule, failure));
            ControlFlow::Break(())
        };
        each_candidate(&self.indexes.deny, readings, sought, &mut visit);
        found.map(|(_, rule, failure)| (rule, failure))
    }

    /// The first allow rule that matches every reading, and those before it whose conditions could not be evaluated;
    /// those that were looked at in vain are noted. The call is sought by its first reading.
    fn allowing(
        &self,
        judged: &Judged<'_>,
        readings: &Readings<'_>,
        sought: &mut Sought<'_>,
        candidates: &mut Candidates,
    ) -> (Option<&CompiledRule>, Vec<FailedCondition>) {
        let mut found: Option<(RuleNumber, &CompiledRule)> = None;
        let mut failed: Vec<FailedCondition> = Vec::new();
        // What matches every reading is a candidate of the first.
        sought.read(readings.iter().next().flatten());
        let index = &self.indexes.allow;
        let Candidates { seen, way } = candidates;
        index.candidates(sought, Use::Allow, way, &mut |number| {
            if found.is_some_and(|(first, _)| first <= number) {
                return ControlFlow::Break(());
            }
            let Some(rule) = self.rule(number) else {
                return ControlFlow::Continue(());
            };
            match match_of_all(rule, judged, readings) {
                Match::Yes => {
                    found = Some((number, rule));
                    return ControlFlow::Break(());
                }
                Match::Failed(error) => {
                    let rule = Arc::clone(&rule.origin);
                    let failure = FailedCondition { rule, error };
                    if !failed.contains(&failure) {
                        failed.push(failure);
                    }
                }
                Match::No => {}
            }
            if seen.len() < COMPARED_RULES && !seen.contains(&number) {
                seen.push(number);
            }
            ControlFlow::Continue(())
        });
        (found.map(|(_, rule)| rule), failed)
    }

    fn observed(
        &self,
        judged: &Judged<'_>,
        readings: &Readings<'_>,
        sought: &mut Sought<'_>,
    ) -> Vec<Observed> {
        let mut found: Vec<(RuleNumber, &CompiledRule)> = Vec::new();
        let mut visit = |path: Option<&str>, number: RuleNumber| {
            if let Some(rule) = self.rule(number) {
                let matches = match rule.matches(judged, path) {
                    Match::Yes => true,
                    Match::Failed(_) => rule.unknown(),
                    Match::No => false,
                };
                // An allow rule has to match every reading, in observe mode, too.
                if matches && (rule.unknown() || match_of_all(rule, judged, readings) == Match::Yes)
                {
                    found.push((number, rule));
                }
            }
            ControlFlow::Continue(())
        };
        each_candidate(&self.indexes.observed, readings, sought, &mut visit);
        found.sort_by_key(|(number, _)| *number);
        found.dedup_by_key(|(number, _)| *number);
        let observed = |(_, rule): (RuleNumber, &CompiledRule)| Observed {
            rule: Arc::clone(&rule.origin),
            action: rule.rule.action,
        };
        found.into_iter().map(observed).collect()
    }
}

/// Shows what may match a reading, with the reading, where unknown facts are as good as those that are wanted.
fn each_candidate(
    index: &Index,
    readings: &Readings<'_>,
    sought: &mut Sought<'_>,
    visit: &mut impl FnMut(Option<&str>, RuleNumber) -> ControlFlow<()>,
) {
    if index.is_empty() {
        return;
    }
    for path in readings.iter() {
        sought.read(path);
        index.candidates(sought, Use::Other, &mut (), &mut |number| {
            visit(path, number)
        });
    }
}

/// Whether the rule matches every reading; if not, the first that it does not match decides why.
fn match_of_all(rule: &CompiledRule, judged: &Judged<'_>, readings: &Readings<'_>) -> Match {
    readings
        .iter()
        .map(|path| rule.matches(judged, path))
        .find(|answer| *answer != Match::Yes)
        .unwrap_or(Match::Yes)
}
