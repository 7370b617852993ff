//! The judge: evidence and policy in, a [`Permit`] or a [`Denial`] out, and a line in the decision log either way.
//!
//! Nothing is forwarded without a [`Permit`], and only [`Judge`] makes one. The evidence of a call is its peer (verified
//! by the wire), its subject ([`tokens`]), and the request's own facts.

mod caller;
mod permit;
mod tokens;

use std::borrow::Cow;
use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use countersign_policy::{
    Call, Decision, Headers, Reason, Request, Subject, Verdict, WorkloadPolicy,
};
use http::StatusCode;

pub(crate) use caller::Caller;
pub(crate) use permit::Permit;

use crate::parts::Parts;
use crate::problem::{DecisionRef, Problem};
use crate::telemetry::{
    CallProtocol, DecisionId, DecisionRecord, Direction, LoggedSubject, TraceParent,
};
use tokens::{InvalidToken, Tokens, Verified};

/// Judges every call that comes in for this sidecar's workload.
pub(crate) struct Judge {
    parts: Parts,
    tokens: Tokens,
}

/// What is being called.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    /// The address that callers name.
    pub(crate) address: IpAddr,
    /// The port that callers name.
    pub(crate) port: u16,
    pub(crate) protocol: CallProtocol,
    /// The server name that the client of an opaque TLS connection asks for.
    pub(crate) sni: Option<&'a str>,
}

/// Why a call is not forwarded.
#[derive(Debug)]
pub(crate) struct Denial(Problem);

/// What a call brings along, before it is decided.
struct Evidence<'a> {
    caller: &'a Caller,
    target: Target<'a>,
    request: Option<Request<'a>>,
    trace: Option<TraceParent>,
    /// A trace that begins here because the caller named none.
    started_trace: Option<TraceParent>,
    now: SystemTime,
}

/// Why a call is denied before policy is asked.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the caller's X.509-SVID has expired")]
    PeerExpired,
    #[error("this sidecar has no policy yet: nothing is allowed until the control plane sends one")]
    NoPolicy,
    #[error(transparent)]
    InvalidToken(#[from] InvalidToken),
}

/// What came of a call, for the log.
struct Outcome<'a> {
    verdict: Verdict,
    class: &'static str,
    reason: &'a dyn Display,
    decision: Option<&'a Decision>,
    subject: Option<&'a Arc<Subject>>,
}

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
        target: Target<'_>,
        request: Option<Request<'_>>,
    ) -> Result<Permit, Denial> {
        let live = self.parts.drain.call();
        let trace = request
            .as_ref()
            .and_then(|request| trace_of(request.headers));
        // The application goes on with the trace that the log line names.
        let started_trace = trace.is_none().then(|| TraceParent::start(&self.parts.ids));
        let now = SystemTime::now();
        let policy = self.parts.state.policy();
        let normal = normal_path(policy.as_deref(), request);
        let evidence = Evidence {
            caller,
            target,
            request: request.map(|request| Request {
                path: normal.as_deref().unwrap_or(request.path),
                ..request
            }),
            trace,
            started_trace,
            now,
        };
        let revision = policy.as_deref().map(WorkloadPolicy::revision);

        let (decision, verified) = match self.decide(policy.as_deref(), &evidence) {
            Ok(decided) => decided,
            Err(refusal) => {
                let outcome = Outcome {
                    verdict: Verdict::Deny,
                    class: refusal.class(),
                    reason: &refusal,
                    decision: None,
                    subject: None,
                };
                let id = self.record(&evidence, revision, &outcome);
                return Err(Denial::refused(&refusal, id));
            }
        };
        let outcome = Outcome {
            verdict: decision.verdict,
            class: decision.reason.class(),
            reason: &decision.reason,
            decision: Some(&decision),
            subject: verified.subjects.first(),
        };
        let id = self.record(&evidence, revision, &outcome);
        match decision.verdict {
            Verdict::Allow => {
                let counted = self.parts.metrics.live_call(Direction::Inbound);
                let started_trace = evidence.started_trace;
                let path = verified.forwarded_path(normal);
                Ok(Permit::new(
                    caller.clone(),
                    verified,
                    path,
                    started_trace,
                    live,
                    counted,
                ))
            }
            Verdict::Deny => Err(Denial::decided(
                &decision,
                id,
                self.parts.config.denials.name_rule,
            )),
        }
    }

    fn decide(
        &self,
        policy: Option<&WorkloadPolicy>,
        evidence: &Evidence<'_>,
    ) -> Result<(Decision, Verified), Refusal> {
        if evidence.caller.peer().not_after() <= evidence.now {
            return Err(Refusal::PeerExpired);
        }
        let policy = policy.ok_or(Refusal::NoPolicy)?;
        let verified = match &evidence.request {
            Some(request) => self.tokens.verify(
                policy.token_issuers(),
                &self.parts.state.issuer_keys(),
                request,
                evidence.now,
                &self.parts.metrics,
            )?,
            None => Verified::default(),
        };
        let decision = policy.decide(&Call {
            peer: Some(evidence.caller.peer().id()),
            source_ip: Some(evidence.caller.source().ip()),
            destination_ip: Some(evidence.target.address),
            port: evidence.target.port,
            sni: evidence.target.sni,
            request: evidence.request,
            subjects: &verified.subjects,
            // Transaction tokens are not verified yet: rules that ask for them do not allow.
            intent: None,
            time: evidence.now,
        });
        Ok((decision, verified))
    }

    /// Logs and counts what came of a call; returns the decision's id.
    fn record(
        &self,
        evidence: &Evidence<'_>,
        revision: Option<&str>,
        outcome: &Outcome<'_>,
    ) -> DecisionId {
        let id = self.parts.ids.decision_id();
        let directory = self.parts.state.directory();
        let trace = evidence.trace.or(evidence.started_trace);
        let (request, protocol) = (evidence.request, evidence.target.protocol);
        self.parts.decisions.record(&DecisionRecord {
            time: evidence.now,
            decision_id: id,
            trace_id: trace.map(|trace| trace.trace_id),
            verdict: outcome.verdict,
            reason: outcome.reason,
            reason_class: outcome.class,
            rule: outcome
                .decision
                .and_then(|decision| decision.rule.as_deref()),
            revision,
            peer: Some(evidence.caller.peer().id()),
            subject: outcome.subject.map(|subject| LoggedSubject {
                issuer: &subject.issuer,
                sub: subject.claims.get("sub").and_then(|sub| sub.as_str()),
            }),
            source: evidence.caller.source(),
            destination: directory
                .as_deref()
                .map_or("", |directory| &directory.own.log_name),
            port: evidence.target.port,
            protocol,
            sni: evidence.target.sni,
            method: request.map(|request| request.method),
            host: request.map(|request| request.host),
            path: request.map(|request| request.path),
            observed: outcome.decision.map_or(&[], |decision| &decision.observed),
            failed_conditions: outcome.decision.map_or(&[], |decision| &decision.failed),
        });
        let metrics = &self.parts.metrics;
        metrics.call_judged(Direction::Inbound, protocol, outcome.verdict, outcome.class);
        id
    }
}

impl Refusal {
    /// A stable word for metrics, logs and problem documents.
    fn class(&self) -> &'static str {
        match self {
            Self::PeerExpired => "peer-expired",
            Self::NoPolicy => "policy-not-loaded",
            Self::InvalidToken(invalid) => invalid.class(),
        }
    }
}

impl Denial {
    /// `name_rule`: whether the caller may know which policy and rule denied its call.
    fn decided(decision: &Decision, id: DecisionId, name_rule: bool) -> Self {
        let malformed = matches!(decision.reason, Reason::AmbiguousPath(_));
        // What is wrong with a request tells nothing about policy.
        let (detail, rule) = if name_rule || malformed {
            let rule = decision
                .rule
                .as_ref()
                .map(|rule| (rule.policy.to_string(), rule.rule.to_string()));
            (decision.reason.to_string(), rule)
        } else {
            (
                "policy does not allow this call; the decision id leads to the log".to_owned(),
                None,
            )
        };
        Self(Problem {
            status: if malformed {
                StatusCode::BAD_REQUEST
            } else {
                StatusCode::FORBIDDEN
            },
            reason: decision.reason.class(),
            detail,
            decision: Some(Box::new(DecisionRef {
                id: id.to_string(),
                rule,
            })),
            challenge: None,
        })
    }

    fn refused(refusal: &Refusal, id: DecisionId) -> Self {
        let challenge = match refusal {
            Refusal::InvalidToken(invalid) => Some(invalid.challenge()),
            Refusal::PeerExpired | Refusal::NoPolicy => None,
        };
        Self(Problem {
            status: challenge
                .as_ref()
                .map_or(StatusCode::FORBIDDEN, |_| StatusCode::UNAUTHORIZED),
            reason: refusal.class(),
            detail: refusal.to_string(),
            decision: Some(Box::new(DecisionRef {
                id: id.to_string(),
                rule: None,
            })),
            challenge,
        })
    }

    /// What the caller is told.
    pub(crate) fn problem(&self) -> &Problem {
        &self.0
    }
}

/// The path of a request in the form in which it is judged, logged and forwarded. `None` where it has none: policy denies
/// such a call, and the log shows it as it was sent.
fn normal_path<'r>(
    policy: Option<&WorkloadPolicy>,
    request: Option<Request<'r>>,
) -> Option<Cow<'r, str>> {
    policy?.normal_path(request?.path).ok()
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
