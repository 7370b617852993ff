//! One rule in its compiled form: when it matches.
//!
//! A fact may be unknown: a request's, on an opaque connection; a path that can be read in no way.
//! A rule that allows does not match on an unknown fact, any other does: so a deny cannot be
//! avoided by hiding what it asks for. The parameter `unknown` carries that through: it is the answer
//! to a question whose fact is unknown, and turns around under `not`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use countersign_identity::{SpiffeId, TrustDomain, WorkloadName};
use serde_json::{Map, Value};

use crate::call::{Call, Intent, Request, Subject, Workload};
use crate::condition::{self, Expression};
use crate::decision::RuleOrigin;
use crate::document::{
    Action, Claims, IntentMatch, Operation, OperationFields, RequesterPattern, Rule, Source,
    SourceFields,
};
use crate::pattern::{self, PathPattern, TrustDomainPattern, WorkloadPattern};

/// A rule with what it needs of its surroundings.
#[derive(Debug)]
pub(crate) struct CompiledRule {
    pub(crate) rule: Arc<Rule>,
    pub(crate) origin: Arc<RuleOrigin>,
    /// Whether its policy only observes.
    pub(crate) observe: bool,
    /// The TokenIssuer that `subject.issuer` names, as `namespace/name`.
    pub(crate) issuer: Option<Box<str>>,
    pub(crate) condition: Option<Expression>,
    /// The trust domain that names without one are in.
    pub(crate) local: TrustDomain,
}

/// A call with what is found out about it once, for all rules.
pub(crate) struct Judged<'a> {
    pub(crate) call: &'a Call<'a>,
    pub(crate) destination: &'a Workload,
    /// `None` is unknown.
    pub(crate) host: Option<&'a str>,
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
    fn forwarded_for(&self) -> Option<IpAddr> {
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
        // Cheapest first; the index has looked at most of it already.
        if !self.operations_match(judged, path)
            || !self.caller_matches(judged)
            || !self.subject_matches(judged)
            || !self.intent_matches(judged)
        {
            return Match::No;
        }
        match &self.condition {
            None => Match::Yes,
            Some(condition) => self.condition_matches(condition, judged, path),
        }
    }

    pub(crate) fn caller_matches(&self, judged: &Judged<'_>) -> bool {
        if self.rule.action != Action::Allow {
            return self.rule.from.is_empty()
                || self
                    .rule
                    .from
                    .iter()
                    .any(|source| self.source_matches(source, judged, true));
        }
        // Who has proved no identity is let in only where a rule says so, and who is from elsewhere only where named.
        let Some(peer) = judged.call.peer else {
            return self
                .rule
                .from
                .iter()
                .any(|source| source.is.anonymous && self.source_matches(source, judged, false));
        };
        if self.rule.from.is_empty() {
            return *peer.trust_domain() == self.local;
        }
        self.rule.from.iter().any(|source| {
            let named = source.is.spiffe.is_some() || source.is.trust_domain.is_some();
            (named || *peer.trust_domain() == self.local)
                && self.source_matches(source, judged, false)
        })
    }

    fn source_matches(&self, source: &Source, judged: &Judged<'_>, unknown: bool) -> bool {
        // Names under `not` are of the same trust domain as those above.
        let named = judged.call.peer.and_then(|peer| self.named(source, peer));
        let Source { is, not } = source;
        source_answers(is, named, judged, unknown).all(|answer| answer)
            && !not
                .iter()
                .any(|not| source_answers(not, named, judged, !unknown).any(|answer| answer))
    }

    /// The peer's name, if it is of the trust domain in which a source's names are read.
    fn named<'p>(&self, source: &Source, peer: &'p SpiffeId) -> Option<WorkloadName<'p>> {
        let is_read_here = match &source.is.trust_domain {
            Some(domain) => domain.matches(peer.trust_domain()),
            None => self.local == *peer.trust_domain(),
        };
        if is_read_here { peer.workload() } else { None }
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
        let requester = |wanted: &RequesterPattern| {
            let Ok(requester) = intent.req_wl.parse::<SpiffeId>() else {
                return false;
            };
            match wanted {
                RequesterPattern::Spiffe(pattern) => pattern.matches(&requester),
                RequesterPattern::Workload(pattern) => {
                    *requester.trust_domain() == self.local
                        && requester
                            .workload()
                            .is_some_and(|name| pattern.matches(name))
                }
            }
        };
        wanted
            .scope
            .iter()
            .all(|scope| intent.scope.contains(scope))
            && claim_answers(&wanted.context, &intent.tctx).all(|answer| answer)
            && wanted.requester.as_ref().is_none_or(requester)
    }

    /// Whether a token is one that the rule asks for.
    pub(crate) fn accepts(&self, subject: &Subject) -> bool {
        let Some(wanted) = &self.rule.subject else {
            return true;
        };
        self.issuer
            .as_deref()
            .is_none_or(|issuer| issuer == subject.issuer)
            && wanted
                .audience
                .as_deref()
                .is_none_or(|audience| has_audience(subject, audience))
            && claim_answers(&wanted.claims, &subject.claims).all(|answer| answer)
            && !claim_answers(&wanted.not_claims, &subject.claims).any(|answer| answer)
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
                    subject: *subject,
                    intent: judged.intent(),
                    request: judged.call.request,
                    path,
                    captures: captured,
                    destination: judged.destination,
                    port: judged.call.port,
                    time: judged.call.time,
                };
                match condition.evaluate(&facts) {
                    Ok(true) => return Match::Yes,
                    Ok(false) => {}
                    Err(error) => result = Match::Failed(error),
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

/// An answer for every field that is given. `named` is the peer by the names of this trust domain.
fn source_answers<'a>(
    fields: &'a SourceFields,
    named: Option<WorkloadName<'a>>,
    judged: &'a Judged<'_>,
    unknown: bool,
) -> impl Iterator<Item = bool> + 'a {
    let SourceFields {
        anonymous,
        workload,
        namespace,
        spiffe,
        trust_domain,
        cidr,
        forwarded_for,
    } = fields;
    let peer = judged.call.peer;
    let is_workload =
        move |wanted: &WorkloadPattern| named.is_some_and(|name| wanted.matches(name));
    let is_of = move |wanted: &TrustDomainPattern| {
        peer.is_some_and(|peer| wanted.matches(peer.trust_domain()))
    };
    anonymous
        .then(|| peer.is_none())
        .into_iter()
        .chain(workload.iter().map(is_workload))
        .chain(
            namespace
                .iter()
                .map(move |wanted| named.is_some_and(|name| name.namespace == wanted.as_str())),
        )
        .chain(
            spiffe
                .iter()
                .map(move |wanted| peer.is_some_and(|peer| wanted.matches(peer))),
        )
        .chain(trust_domain.iter().map(is_of))
        .chain(cidr.iter().map(move |wanted| {
            judged
                .call
                .source_ip
                .map_or(unknown, |ip| wanted.contains(ip))
        }))
        .chain(forwarded_for.iter().map(move |wanted| {
            judged
                .forwarded_for()
                .map_or(unknown, |ip| wanted.contains(ip))
        }))
}

fn operation_matches(
    to: &Operation,
    judged: &Judged<'_>,
    path: Option<&str>,
    unknown: bool,
) -> bool {
    let Operation { is, not } = to;
    operation_answers(is, judged, path, unknown).all(|(_, answer)| answer)
        && !operation_answers(not, judged, path, !unknown).any(|(_, answer)| answer)
}

/// A field of an [`Operation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Port,
    Host,
    Path,
    Grpc,
    Method,
    Headers,
    Sni,
}

/// An answer for every field that is given, in the order in which people look at them.
pub(crate) fn operation_answers<'a>(
    fields: &'a OperationFields,
    judged: &'a Judged<'_>,
    path: Option<&'a str>,
    unknown: bool,
) -> impl Iterator<Item = (Field, bool)> + 'a {
    let OperationFields {
        ports,
        methods,
        hosts,
        paths,
        grpc,
        headers,
        sni,
    } = fields;
    let request = judged.call.request;
    let given = |field: Field, is_given: bool| is_given.then_some(field).into_iter();
    given(Field::Port, !ports.is_empty())
        .chain(given(Field::Host, !hosts.is_empty()))
        .chain(given(Field::Path, !paths.is_empty()))
        .chain(given(Field::Grpc, !grpc.is_empty()))
        .chain(given(Field::Method, !methods.is_empty()))
        .chain(given(Field::Headers, !headers.is_empty()))
        .chain(given(Field::Sni, !sni.is_empty()))
        .map(move |field| {
            let answer = match (field, request) {
                (Field::Port, _) => ports.contains(&judged.call.port),
                // An HTTP request that the sidecar can read asks for no server name.
                (Field::Sni, Some(_)) => false,
                (Field::Sni, None) => judged
                    .call
                    .sni
                    .map_or(unknown, |name| sni.iter().any(|s| s.matches(name))),
                (_, None) => unknown,
                (Field::Host, _) => judged
                    .host
                    .map_or(unknown, |host| hosts.iter().any(|h| h.matches(host))),
                (Field::Path, _) => path.map_or(unknown, |path| {
                    paths.iter().any(|p: &PathPattern| p.matches(path))
                }),
                (Field::Grpc, _) => path.map_or(unknown, |path| {
                    grpc.iter().any(|method| {
                        let method_name = method.method.as_ref().map(pattern::Name::as_str);
                        is_grpc_path(path, method.service.as_str(), method_name)
                    })
                }),
                (Field::Method, Some(request)) => methods
                    .iter()
                    .any(|method| method.as_str() == request.method),
                (Field::Headers, Some(request)) => headers
                    .iter()
                    .all(|(name, accepted)| has_header(request, name.as_str(), accepted, unknown)),
            };
            (field, answer)
        })
}

/// gRPC over HTTP/2, "Requests": the path is `/service/method`.
fn is_grpc_path(path: &str, service: &str, method: Option<&str>) -> bool {
    let rest = path
        .strip_prefix('/')
        .and_then(|path| path.strip_prefix(service));
    let Some(name) = rest.and_then(|rest| rest.strip_prefix('/')) else {
        return false;
    };
    method.map_or(!name.is_empty() && !name.contains('/'), |method| {
        name == method
    })
}

/// Whether the header has one of the values. Several lines of one name are one value, joined
/// (RFC 9110 §5.3); where in doubt, any of the lines will do.
fn has_header(request: Request<'_>, name: &str, accepted: &[String], in_doubt: bool) -> bool {
    let is_accepted = |value: &[u8]| accepted.iter().any(|wanted| wanted.as_bytes() == value);
    let mut lines = 0_usize;
    let mut any = false;
    request.headers.for_each(&mut |given, value| {
        if given.eq_ignore_ascii_case(name) {
            lines = lines.saturating_add(1);
            any |= is_accepted(value.trim_ascii());
        }
    });
    if lines < 2 || (any && in_doubt) {
        return any;
    }
    let mut joined: Vec<u8> = Vec::new();
    request.headers.for_each(&mut |given, value| {
        if given.eq_ignore_ascii_case(name) {
            if !joined.is_empty() {
                joined.extend_from_slice(b", ");
            }
            joined.extend_from_slice(value.trim_ascii());
        }
    });
    is_accepted(&joined)
}

fn has_audience(subject: &Subject, audience: &str) -> bool {
    match subject.claims.get("aud") {
        Some(Value::String(only)) => only == audience,
        Some(Value::Array(all)) => all.iter().any(|one| one == audience),
        _ => false,
    }
}

fn claim_answers<'a>(
    claims: &'a Claims,
    given: &'a Map<String, Value>,
) -> impl Iterator<Item = bool> + 'a {
    claims.iter().map(|(path, accepted)| {
        pattern::find_claim(given, path)
            .is_some_and(|claim| accepted.iter().any(|value| value.accepts(claim)))
    })
}
