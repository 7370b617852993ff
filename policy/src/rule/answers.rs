//! What a rule asks of a call, field by field, and the answers.
//!
//! Whoever judges asks whether all answers are yes; who explains tells each of them. So both have the same.

use countersign_identity::{SpiffeId, TrustDomain, WorkloadName};
use serde_json::{Map, Value};

use super::{CompiledRule, Judged};
use crate::call::{Intent, Request, Subject};
use crate::document::{
    Claims, IntentMatch, OperationFields, RequesterPattern, SourceFields, SubjectMatch,
};
use crate::pattern::{self, PathPattern};

/// A field of a [`Source`](crate::document::Source).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceField {
    Anonymous,
    Workload,
    Namespace,
    Spiffe,
    TrustDomain,
    Cidr,
    ForwardedFor,
}

impl SourceField {
    /// The field as it is written in a policy.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Workload => "workload",
            Self::Namespace => "namespace",
            Self::Spiffe => "spiffe",
            Self::TrustDomain => "trustDomain",
            Self::Cidr => "cidr",
            Self::ForwardedFor => "forwardedFor",
        }
    }
}

/// An answer for every field that is given. `named` is the peer by the names of this trust domain.
pub(crate) fn source_answers<'a>(
    fields: &'a SourceFields,
    named: Option<WorkloadName<'a>>,
    judged: &'a Judged<'_>,
    unknown: bool,
) -> impl Iterator<Item = (SourceField, bool)> + 'a {
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
    let anonymous = anonymous.then(|| (SourceField::Anonymous, peer.is_none()));
    let workload = workload.iter().map(move |wanted| {
        let answer = named.is_some_and(|name| wanted.matches(name));
        (SourceField::Workload, answer)
    });
    let namespace = namespace.iter().map(move |wanted| {
        let answer = named.is_some_and(|name| name.namespace == wanted.as_str());
        (SourceField::Namespace, answer)
    });
    let spiffe = spiffe.iter().map(move |wanted| {
        let answer = peer.is_some_and(|peer| wanted.matches(peer));
        (SourceField::Spiffe, answer)
    });
    let trust_domain = trust_domain.iter().map(move |wanted| {
        let answer = peer.is_some_and(|peer| wanted.matches(peer.trust_domain()));
        (SourceField::TrustDomain, answer)
    });
    let cidr = cidr.iter().map(move |wanted| {
        let address = judged.call.source_ip;
        let answer = address.map_or(unknown, |ip| wanted.contains(ip));
        (SourceField::Cidr, answer)
    });
    let forwarded_for = forwarded_for.iter().map(move |wanted| {
        let address = judged.forwarded_for();
        let answer = address.map_or(unknown, |ip| wanted.contains(ip));
        (SourceField::ForwardedFor, answer)
    });
    anonymous
        .into_iter()
        .chain(workload)
        .chain(namespace)
        .chain(spiffe)
        .chain(trust_domain)
        .chain(cidr)
        .chain(forwarded_for)
}

/// A field of an [`Operation`](crate::document::Operation).
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

impl Field {
    /// Every field, in the order in which people look at them.
    const ALL: [Self; 7] = [
        Self::Port,
        Self::Host,
        Self::Path,
        Self::Grpc,
        Self::Method,
        Self::Headers,
        Self::Sni,
    ];

    /// The field as it is written in a policy.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Port => "ports",
            Self::Host => "hosts",
            Self::Path => "paths",
            Self::Grpc => "grpc",
            Self::Method => "methods",
            Self::Headers => "headers",
            Self::Sni => "sni",
        }
    }
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
    let is_given = move |field: &Field| match field {
        Field::Port => !ports.is_empty(),
        Field::Host => !hosts.is_empty(),
        Field::Path => !paths.is_empty(),
        Field::Grpc => !grpc.is_empty(),
        Field::Method => !methods.is_empty(),
        Field::Headers => !headers.is_empty(),
        Field::Sni => !sni.is_empty(),
    };
    Field::ALL.into_iter().filter(is_given).map(move |field| {
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
    accepted
        .iter()
        .any(|wanted| is_joined(request, name, wanted.as_bytes()))
}

/// Whether the lines of a header, joined, are `wanted`.
fn is_joined(request: Request<'_>, name: &str, wanted: &[u8]) -> bool {
    let mut left = Some(wanted);
    let mut separator: &[u8] = b"";
    request.headers.for_each(&mut |given, value| {
        if given.eq_ignore_ascii_case(name) {
            left = left
                .and_then(|left| left.strip_prefix(separator))
                .and_then(|left| left.strip_prefix(value.trim_ascii()));
            separator = b", ";
        }
    });
    left.is_some_and(<[u8]>::is_empty)
}

fn has_audience(subject: &Subject, audience: &str) -> bool {
    match subject.claims.get("aud") {
        Some(Value::String(only)) => only == audience,
        Some(Value::Array(all)) => all.iter().any(|one| one == audience),
        _ => false,
    }
}

/// A field of a [`SubjectMatch`], with what it asks for: the name of an issuer, an audience, the path of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SubjectField<'a> {
    Issuer(&'a str),
    Audience(&'a str),
    Claim(&'a str),
    NotClaim(&'a str),
}

/// An answer for every field of what `rule` wants of a token.
pub(crate) fn subject_answers<'a>(
    rule: &'a CompiledRule,
    wanted: &'a SubjectMatch,
    subject: &'a Subject,
) -> impl Iterator<Item = (SubjectField<'a>, bool)> + 'a {
    let issuer = rule.issuer.as_deref().map(|issuer| {
        let answer = issuer == subject.issuer;
        (SubjectField::Issuer(issuer), answer)
    });
    let audience = wanted.audience.as_deref().map(|audience| {
        let answer = has_audience(subject, audience);
        (SubjectField::Audience(audience), answer)
    });
    let claims = claim_answers(&wanted.claims, &subject.claims)
        .map(|(path, answer)| (SubjectField::Claim(path), answer));
    let not_claims = claim_answers(&wanted.not_claims, &subject.claims)
        .map(|(path, answer)| (SubjectField::NotClaim(path), !answer));
    issuer
        .into_iter()
        .chain(audience)
        .chain(claims)
        .chain(not_claims)
}

/// A field of an [`IntentMatch`], with what it asks for: a scope, a path of the context, whoever asked for the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IntentField<'a> {
    Scope(&'a str),
    Context(&'a str),
    Requester(&'a RequesterPattern),
}

/// An answer for every field of what `rule` wants of a transaction token; every scope is one.
pub(crate) fn intent_answers<'a>(
    rule: &'a CompiledRule,
    wanted: &'a IntentMatch,
    intent: &'a Intent,
) -> impl Iterator<Item = (IntentField<'a>, bool)> + 'a {
    let scopes = wanted.scope.iter().map(|scope| {
        let answer = intent.scope.contains(scope);
        (IntentField::Scope(scope), answer)
    });
    let context = claim_answers(&wanted.context, &intent.tctx)
        .map(|(path, answer)| (IntentField::Context(path), answer));
    let requester = wanted.requester.iter().map(|requester| {
        let answer = is_requester(rule, requester, intent);
        (IntentField::Requester(requester), answer)
    });
    scopes.chain(context).chain(requester)
}

fn is_requester(rule: &CompiledRule, wanted: &RequesterPattern, intent: &Intent) -> bool {
    match wanted {
        RequesterPattern::Spiffe(pattern) if !pattern.is_prefix() => {
            pattern.id().as_str() == intent.req_wl
        }
        RequesterPattern::Spiffe(pattern) => intent
            .req_wl
            .parse::<SpiffeId>()
            .is_ok_and(|requester| pattern.matches(&requester)),
        RequesterPattern::Workload(pattern) => {
            workload_of(&intent.req_wl, &rule.local).is_some_and(|name| pattern.matches(name))
        }
    }
}

/// The workload of this trust domain that an ID names; the ID is taken apart rather than kept.
fn workload_of<'i>(id: &'i str, domain: &TrustDomain) -> Option<WorkloadName<'i>> {
    let path = id
        .strip_prefix("spiffe://")?
        .strip_prefix(domain.as_str())?
        .strip_prefix("/ns/")?;
    let (namespace, service_account) = path.split_once("/sa/")?;
    let is_segment = |text: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        !matches!(text, "" | "." | "..") && text.chars().all(allowed)
    };
    (is_segment(namespace) && is_segment(service_account)).then_some(WorkloadName {
        namespace,
        service_account,
    })
}

/// The path of every claim that is asked for, and whether it has one of the values.
fn claim_answers<'a>(
    claims: &'a Claims,
    given: &'a Map<String, Value>,
) -> impl Iterator<Item = (&'a str, bool)> + 'a {
    claims.iter().map(|(path, accepted)| {
        let answer = pattern::find_claim(given, path)
            .is_some_and(|claim| accepted.iter().any(|value| value.accepts(claim)));
        (path.as_str(), answer)
    })
}
