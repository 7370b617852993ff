//! The judge: evidence and policy in, a [`Permit`] or a [`Denial`] out, and a line in the decision log either way.
//!
//! Nothing is forwarded without a [`Permit`], and only [`Judge`] makes one. The evidence of a call is its peer (verified
//! by the wire), its subject ([`tokens`]), and the request's own facts.

mod caller;
mod permit;
mod tokens;

use std::sync::Arc;
use std::time::SystemTime;

use countersign_policy::{Call, Decision, Headers, Request, Subject, Verdict};
use http::StatusCode;

pub(crate) use caller::Caller;
pub(crate) use permit::Permit;

use crate::parts::Parts;
use crate::problem::{DecisionRef, Problem};
use crate::telemetry::{
    CallProtocol, DecisionId, DecisionRecord, Direction, LoggedSubject, TraceParent,
};
use tokens::{InvalidToken, Tokens};

/// Judges every call that comes in for this sidecar's workload.
pub(crate) struct Judge {
    parts: Parts,
    tokens: Tokens,
}

/// What is being called.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    /// The port that callers name.
    pub(crate) port: u16,
    pub(crate) protocol: CallProtocol,
}

/// Why a call is not forwarded.
#[derive(Debug)]
pub(crate) struct Denial(Problem);

/// What was found out about a call before it was decided.
struct Evidence<'a> {
    caller: &'a Caller,
    target: Target,
    request: Option<Request<'a>>,
    trace: Option<TraceParent>,
    /// A trace that begins here because the caller named none.
    started_trace: Option<TraceParent>,
    now: SystemTime,
}

/// Words for denials that policy has no part in.
const NO_POLICY: &str = "policy-not-loaded";
const PEER_EXPIRED: &str = "peer-expired";

impl Judge {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            parts,
            tokens: Tokens::default(),
        }
    }

    /// Decides on one call: an HTTP request, or an opaque connection if there is no `request`.
    ///
    /// The call counts as live from before it is decided until the permit is dropped.
    pub(crate) fn judge(
        &self,
        caller: &Caller,
        target: Target,
        request: Option<Request<'_>>,
    ) -> Result<Permit, Denial> {
        let live = self.parts.drain.call();
        let trace = request
            .as_ref()
            .and_then(|request| trace_of(request.headers));
        // The application goes on with the trace that the log line names.
        let started_trace = trace.is_none().then(|| TraceParent::start(&self.parts.ids));
        let evidence = Evidence {
            caller,
            target,
            request,
            trace,
            started_trace,
            now: SystemTime::now(),
        };

        if caller.peer().not_after() <= evidence.now {
            return Err(self.deny_without_policy(
                &evidence,
                PEER_EXPIRED,
                "the caller's X.509-SVID has expired",
            ));
        }
        let Some(policy) = self.parts.state.policy() else {
            return Err(self.deny_without_policy(
                &evidence,
                NO_POLICY,
                "this sidecar has no policy yet: nothing is allowed until the control plane sends one",
            ));
        };
        let verified = match &evidence.request {
            Some(request) => {
                let keys = self.parts.state.issuer_keys();
                match self.tokens.verify(
                    policy.token_issuers(),
                    &keys,
                    request.headers,
                    evidence.now,
                    &self.parts.metrics,
                ) {
                    Ok(verified) => verified,
                    Err(invalid) => {
                        return Err(self.deny_token(&evidence, policy.revision(), &invalid));
                    }
                }
            }
            None => tokens::Verified::default(),
        };

        let decision = policy.decide(&Call {
            peer: Some(caller.peer().id()),
            source_ip: Some(caller.source().ip()),
            port: target.port,
            request: evidence.request,
            subjects: &verified.subjects,
            time: evidence.now,
        });
        let id = self.record(
            &evidence,
            decision.verdict,
            &decision.reason,
            decision.reason.class(),
            Some((&decision, policy.revision())),
            verified.subjects.first(),
        );
        match decision.verdict {
            Verdict::Allow => Ok(Permit::new(
                caller.clone(),
                verified,
                evidence.started_trace,
                live,
                self.parts.metrics.live_call(Direction::Inbound),
            )),
            Verdict::Deny => Err(self.deny(&decision, id)),
        }
    }

    fn deny(&self, decision: &Decision, id: DecisionId) -> Denial {
        let (detail, rule) = if self.parts.config.denials.name_rule {
            let rule = decision
                .rule
                .as_ref()
                .map(|rule| (rule.policy.clone(), rule.rule.clone()));
            (decision.reason.to_string(), rule)
        } else {
            (
                "policy does not allow this call; the decision id leads to the log".to_owned(),
                None,
            )
        };
        Denial(Problem {
            status: StatusCode::FORBIDDEN,
            reason: decision.reason.class(),
            detail,
            decision: Some(Box::new(DecisionRef {
                id: id.to_string(),
                rule,
            })),
            challenge: None,
        })
    }

    fn deny_without_policy(
        &self,
        evidence: &Evidence<'_>,
        class: &'static str,
        detail: &'static str,
    ) -> Denial {
        let id = self.record(evidence, Verdict::Deny, &detail, class, None, None);
        Denial(Problem {
            status: StatusCode::FORBIDDEN,
            reason: class,
            detail: detail.to_owned(),
            decision: Some(Box::new(DecisionRef {
                id: id.to_string(),
                rule: None,
            })),
            challenge: None,
        })
    }

    fn deny_token(
        &self,
        evidence: &Evidence<'_>,
        revision: &str,
        invalid: &InvalidToken,
    ) -> Denial {
        let class = invalid.class();
        let id = self.record(evidence, Verdict::Deny, invalid, class, None, None);
        tracing::debug!(revision, %id, "a token was refused");
        Denial(Problem {
            status: StatusCode::UNAUTHORIZED,
            reason: class,
            detail: invalid.to_string(),
            decision: Some(Box::new(DecisionRef {
                id: id.to_string(),
                rule: None,
            })),
            challenge: Some(invalid.challenge()),
        })
    }

    /// Logs and counts a decision; returns its id.
    fn record(
        &self,
        evidence: &Evidence<'_>,
        verdict: Verdict,
        reason: &dyn std::fmt::Display,
        class: &'static str,
        decided: Option<(&Decision, &str)>,
        subject: Option<&Arc<Subject>>,
    ) -> DecisionId {
        let id = self.parts.ids.decision_id();
        let directory = self.parts.state.directory();
        self.parts.decisions.record(&DecisionRecord {
            time: evidence.now,
            decision_id: id,
            trace_id: evidence
                .trace
                .or(evidence.started_trace)
                .map(|trace| trace.trace_id),
            verdict,
            reason,
            reason_class: class,
            rule: decided.and_then(|(decision, _)| decision.rule.as_deref()),
            revision: decided.map(|(_, revision)| revision),
            peer: Some(evidence.caller.peer().id()),
            subject: subject.map(|subject| LoggedSubject {
                issuer: &subject.issuer,
                sub: subject.claims.get("sub").and_then(|sub| sub.as_str()),
            }),
            source: evidence.caller.source(),
            destination: directory
                .as_deref()
                .map_or("", |directory| &directory.own.log_name),
            port: evidence.target.port,
            protocol: evidence.target.protocol,
            method: evidence.request.map(|request| request.method),
            host: evidence.request.map(|request| request.host),
            path: evidence.request.map(|request| request.path),
            observed: decided.map_or(&[], |(decision, _)| &decision.observed),
        });
        self.parts.metrics.call_judged(
            Direction::Inbound,
            evidence.target.protocol,
            verdict,
            class,
        );
        id
    }
}

impl Denial {
    /// What the caller is told.
    pub(crate) fn problem(&self) -> &Problem {
        &self.0
    }
}

/// The caller's trace, if it names one. A header that is not a `traceparent` counts as absent (W3C Trace Context §4.3).
fn trace_of(headers: &dyn Headers) -> Option<TraceParent> {
    let mut trace = None;
    headers.for_each(&mut |name, value| {
        if name.eq_ignore_ascii_case(TraceParent::HEADER) {
            trace = TraceParent::parse(value).ok();
        }
    });
    trace
}
