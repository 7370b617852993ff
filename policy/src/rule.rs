//! One rule in its compiled form: when it matches.
//!
//! A fact may be unknown: a request's, on an opaque connection; a path that can be read in no way.
//! A rule that allows does not match on an unknown fact, any other does: so a deny cannot be
//! avoided by hiding what it asks for. The parameter `unknown` carries that through: it is the answer
//! to a question whose fact is unknown, and turns around under `not`.

mod answers;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use countersign_identity::{SpiffeId, TrustDomain, WorkloadName};

pub(crate) use self::answers::{
    Field, IntentField, SourceField, SubjectField, intent_answers, operation_answers,
    source_answers, subject_answers,
};
use crate::call::{Call, Intent, Subject, Workload};
use crate::condition::{self, Expression};
use crate::decision::RuleOrigin;
use crate::document::{Action, IntentMatch, Operation, Rule, Source};
use crate::pattern;

/// A rule with what it needs of its surroundings.
#[derive(Debug)]
pub(crate) struct CompiledRule {
    pub(crate) rule: Arc<Rule>,
    pub(crate) origin: Arc<RuleOrigin>,
    /// Whether its policy only observes.
    pub(crate) observe: bool,
    /// The TokenIssuer that `subject.issuer` names, as `namespace/name`.
    pub(crate) issuer: Option<Box<str>>,
    /// Shared by the rules of a revision with the same condition.
    pub(crate) condition: Option<Arc<Expression>>,
    /// The trust domain that names without one are in.
    pub(crate) local: TrustDomain,
}

/// A call with what is found out about it once, for all rules.
pub(crate) struct Judged<'a> {
    pub(crate) call: &'a Call<'a>,
    pub(crate) destination: &'a Workload,
    /// `None` is unknown.
    pub(crate) host: Option<&'a str>,
    /// What the peer's ID names, if it is a workload's.
    name: Option<WorkloadName<'a>>,
}

impl<'a> Judged<'a> {
    pub(crate) fn new(call: &'a Call<'a>, destination: &'a Workload) -> Self {
        let host = call
            .request
            .and_then(|request| pattern::normal_host(request.host));
        Self {
            call,
            destination,
            host,
            name: call.peer.and_then(SpiffeId::workload),
        }
    }

    /// The tokens that count.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = &'a Subject> {
        let now = self.call.time;
        let subjects: &'a [Arc<Subject>] = self.call.subjects;
        subjects
            .iter()
            .map(|subject| &**subject)
            .filter(move |subject| now < subject.expires_at)
    }

    /// What the call is for, if that counts.
    pub(crate) fn intent(&self) -> Option<&'a Intent> {
        self.call
            .intent
            .filter(|intent| self.call.time < intent.expires_at)
    }

    /// Whom the peer forwards for: the last address of `X-Forwarded-For`, else the peer's own. `None` is
    /// unknown.
    pub(crate) fn forwarded_for(&self) -> Option<IpAddr> {
        let mut last: Option<Option<IpAddr>> = None;
        if let Some(request) = self.call.request {
            request.headers.for_each(&mut |name, value| {
                if name.eq_ignore_ascii_case("x-forwarded-for") {
                    last = Some(last_address(value));
                }
            });
        }
        last.unwrap_or(self.call.source_ip)
    }
}

/// The last of a list of addresses, each perhaps with a port.
fn last_address(list: &[u8]) -> Option<IpAddr> {
    let last = std::str::from_utf8(list).ok()?.rsplit(',').next()?.trim();
    let address = last.parse::<IpAddr>().ok();
    address.or_else(|| last.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
}

/// Whether a rule matches.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Match {
    No,
    Yes,
    /// All but the condition matches, and that could not be evaluated.
    Failed(String),
}

impl CompiledRule {
    /// The answer where a fact is unknown.
    pub(crate) fn unknown(&self) -> bool {
        self.rule.action != Action::Allow
    }

    /// Whether the rule matches, `path` being one reading of the call's path.
    pub(crate) fn matches(&self, judged: &Judged<'_>, path: Option<&str>) -> Match {
        if !self.matches_but_for_condition(judged, path) {
            return Match::No;
        }
        match &self.condition {
            None => Match::Yes,
            Some(condition) => self.condition_matches(condition, judged, path),
        }
    }

    /// Whether everything but the condition matches, which is not asked.
    pub(crate) fn matches_but_for_condition(
        &self,
        judged: &Judged<'_>,
        path: Option<&str>,
    ) -> bool {
        // Cheapest first; the index has looked at most of it already.
        self.operations_match(judged, path)
            && self.caller_matches(judged)
            && self.subject_matches(judged)
            && self.intent_matches(judged)
    }

    pub(crate) fn caller_matches(&self, judged: &Judged<'_>) -> bool {
        let from = &self.rule.from;
        if from.is_empty() {
            // Who has proved no identity is let in only where a rule says so, and who is from elsewhere only where named.
            return self.unknown()
                || judged
                    .call
                    .peer
                    .is_some_and(|peer| *peer.trust_domain() == self.local);
        }
        from.iter().any(|source| self.admits(source, judged))
    }

    /// Whether the caller is one that an entry of `from` is about.
    pub(crate) fn admits(&self, source: &Source, judged: &Judged<'_>) -> bool {
        let may_be_about = self.unknown()
            || match judged.call.peer {
                None => source.is.anonymous,
                Some(peer) => {
                    let named = source.is.spiffe.is_some() || source.is.trust_domain.is_some();
                    named || *peer.trust_domain() == self.local
                }
            };
        may_be_about && self.source_matches(source, judged)
    }

    fn source_matches(&self, source: &Source, judged: &Judged<'_>) -> bool {
        // Names under `not` are of the same trust domain as those above.
        let named = self.named(source, judged);
        let unknown = self.unknown();
        let Source { is, not } = source;
        source_answers(is, named, judged, unknown).all(|(_, answer)| answer)
            && !not
                .iter()
                .any(|not| source_answers(not, named, judged, !unknown).any(|(_, answer)| answer))
    }

    /// The peer's name, if it is of the trust domain in which a source's names are read.
    pub(crate) fn named<'p>(
        &self,
        source: &Source,
        judged: &Judged<'p>,
    ) -> Option<WorkloadName<'p>> {
        let peer = judged.call.peer?;
        let is_read_here = match &source.is.trust_domain {
            Some(domain) => domain.matches(peer.trust_domain()),
            None => self.local == *peer.trust_domain(),
        };
        if is_read_here { judged.name } else { None }
    }

    pub(crate) fn operations_match(&self, judged: &Judged<'_>, path: Option<&str>) -> bool {
        self.rule.to.is_empty()
            || self
                .rule
                .to
                .iter()
                .any(|to| operation_matches(to, judged, path, self.unknown()))
    }

    pub(crate) fn subject_matches(&self, judged: &Judged<'_>) -> bool {
        self.rule.subject.is_none() || judged.subjects().any(|subject| self.accepts(subject))
    }

    pub(crate) fn intent_matches(&self, judged: &Judged<'_>) -> bool {
        self.rule.intent.as_ref().is_none_or(|wanted| {
            judged
                .intent()
                .is_some_and(|intent| self.has_intent(wanted, intent))
        })
    }

    fn has_intent(&self, wanted: &IntentMatch, intent: &Intent) -> bool {
        intent_answers(self, wanted, intent).all(|(_, answer)| answer)
    }

    /// Whether a token is one that the rule asks for.
    pub(crate) fn accepts(&self, subject: &Subject) -> bool {
        self.rule
            .subject
            .as_ref()
            .is_none_or(|wanted| subject_answers(self, wanted, subject).all(|(_, answer)| answer))
    }

    /// Whether the condition holds, for any of the tokens and any of the paths that match. What
    /// cannot be evaluated counts only if nothing else is true.
    fn condition_matches(
        &self,
        condition: &Expression,
        judged: &Judged<'_>,
        path: Option<&str>,
    ) -> Match {
        let roots = condition.roots();
        let subjects: Vec<Option<&Subject>> = if roots.subject {
            judged
                .subjects()
                .filter(|subject| self.accepts(subject))
                .map(Some)
                .collect()
        } else {
            Vec::new()
        };
        let captures = if roots.path {
            self.captures(judged, path)
        } else {
            Vec::new()
        };
        let mut result = Match::No;
        for subject in or_one(&subjects, &None) {
            for captured in or_one(&captures, &Vec::new()) {
                let facts = condition::Facts {
                    peer: judged.call.peer,
                    source_ip: judged.call.source_ip,
                    sni: judged.call.sni,
                    subject: *subject,
                    intent: judged.intent(),
                    request: judged.call.request,
                    path,
                    captures: captured,
                    destination: judged.destination,
                    destination_ip: judged.call.destination_ip,
                    local: &self.local,
                    port: judged.call.port,
                    time: judged.call.time,
                };
                match condition.evaluate(&facts) {
                    Ok(true) => return Match::Yes,
                    Ok(false) => {}
                    Err(error) => {
                        result = Match::Failed(format!("{error}, in {}", condition.quoted()));
                    }
                }
            }
        }
        result
    }

    /// The named segments, once for every pattern that matches.
    fn captures<'s>(
        &'s self,
        judged: &Judged<'_>,
        path: Option<&'s str>,
    ) -> Vec<Vec<(&'s str, &'s str)>> {
        let Some(reading) = path else {
            return Vec::new();
        };
        let operations = self.rule.to.iter();
        operations
            .filter(|to| operation_matches(to, judged, path, self.unknown()))
            .flat_map(|to| &to.is.paths)
            .filter_map(|pattern| pattern.captures(reading))
            .collect()
    }
}

/// The items, or this one if there are none.
fn or_one<'a, T>(items: &'a [T], otherwise: &'a T) -> &'a [T] {
    if items.is_empty() {
        std::slice::from_ref(otherwise)
    } else {
        items
    }
}

fn operation_matches(
    to: &Operation,
    judged: &Judged<'_>,
    path: Option<&str>,
    unknown: bool,
) -> bool {
    let Operation { is, not } = to;
    operation_answers(is, judged, path, unknown).all(|(_, answer)| answer)
        && !not.given().is_some_and(|not| {
            operation_answers(not, judged, path, !unknown).any(|(_, answer)| answer)
        })
}
