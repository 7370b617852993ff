//! What rules say of SPIFFE IDs and paths, as sequences of segments.

use countersign_identity::{SpiffeId, TrustDomain};

use super::sequence::{Sequence, Wanted};
use crate::document::{GrpcMethod, RequesterPattern, SourceFields};
use crate::pattern::{
    Name, PathPattern, PathSegment, SpiffePattern, TrustDomainPattern, WorkloadPattern,
};

/// The SPIFFE ID as segments.
fn id_segments(id: &SpiffeId) -> Vec<&str> {
    let path = id.path().split('/').skip(1);
    std::iter::once(id.trust_domain().as_str())
        .chain(path)
        .collect()
}

/// Every identity.
pub(super) fn any_identity() -> Sequence {
    Sequence {
        segments: vec![Wanted::One],
        rest: true,
    }
}

/// Every identity of a trust domain.
pub(super) fn of_domain(domain: &TrustDomain) -> Sequence {
    Sequence {
        segments: vec![Wanted::is(domain.as_str())],
        rest: true,
    }
}

/// Whether a SPIFFE ID is one of those.
pub(super) fn id_matches(sequence: &Sequence, id: &SpiffeId) -> bool {
    let given = id_segments(id);
    let wanted = sequence.segments.len();
    let accepts = |(wanted, given): (&Wanted, &&str)| match wanted {
        Wanted::Is(name) => **name == **given,
        Wanted::One => true,
    };
    (given.len() == wanted || sequence.rest && given.len() > wanted)
        && sequence.segments.iter().zip(&given).all(accepts)
}

/// Whether a path, as it is read, is one of those.
pub(super) fn path_matches(sequence: &Sequence, path: &str) -> bool {
    let Some(path) = path.strip_prefix('/') else {
        return false;
    };
    let mut given = path.split('/');
    for wanted in &sequence.segments {
        let Some(segment) = given.next() else {
            return false;
        };
        let accepted = match wanted {
            Wanted::Is(name) => **name == *segment,
            Wanted::One => !segment.is_empty(),
        };
        if !accepted {
            return false;
        }
    }
    sequence.rest || given.next().is_none()
}

pub(super) fn path_sequence(pattern: &PathPattern) -> Sequence {
    let wanted = |segment: &PathSegment| match segment {
        PathSegment::Literal(name) => Wanted::Is((*name).into()),
        PathSegment::One | PathSegment::Named(_) => Wanted::One,
    };
    Sequence {
        segments: pattern.segments().map(|segment| wanted(&segment)).collect(),
        rest: pattern.has_rest(),
    }
}

pub(super) fn grpc_sequence(method: &GrpcMethod) -> (Sequence, String) {
    let (name, text) = match &method.method {
        Some(name) => (Wanted::is(name.as_str()), name.as_str()),
        None => (Wanted::One, "*"),
    };
    let sequence = Sequence {
        segments: vec![Wanted::is(method.service.as_str()), name],
        rest: false,
    };
    (sequence, format!("/{}/{text}", method.service))
}

fn workload_sequence(domain: Wanted, workload: &WorkloadPattern) -> Sequence {
    let part = |name: Option<&Name>| name.map_or(Wanted::One, |name| Wanted::is(name.as_str()));
    Sequence {
        segments: vec![
            domain,
            Wanted::is("ns"),
            part(workload.namespace()),
            Wanted::is("sa"),
            part(workload.service_account()),
        ],
        rest: false,
    }
}

fn spiffe_sequence(pattern: &SpiffePattern) -> Sequence {
    let id = pattern.id();
    let domain = std::iter::once(id.trust_domain().as_str());
    let names = domain.chain(id.path().split('/').skip(1));
    let below = pattern.is_prefix().then_some(Wanted::One);
    Sequence {
        segments: names.map(Wanted::is).chain(below).collect(),
        rest: pattern.is_prefix(),
    }
}

pub(super) fn requester_sequence(
    local: &TrustDomain,
    requester: &RequesterPattern,
) -> (Sequence, String) {
    match requester {
        RequesterPattern::Workload(workload) => (
            workload_sequence(Wanted::is(local.as_str()), workload),
            workload.to_string(),
        ),
        RequesterPattern::Spiffe(pattern) => (spiffe_sequence(pattern), pattern.to_string()),
    }
}

/// The fields of a source that are about the peer's ID, each as a sequence with its text; `domain` is the
/// source's own `trustDomain`.
pub(super) fn source_sequences(
    local: &TrustDomain,
    fields: &SourceFields,
    domain: Option<&TrustDomainPattern>,
) -> Vec<(Sequence, String)> {
    let (wanted, of) = match domain {
        None => (Wanted::is(local.as_str()), String::new()),
        Some(TrustDomainPattern::Is(domain)) if domain == local => {
            (Wanted::is(local.as_str()), String::new())
        }
        Some(TrustDomainPattern::Is(domain)) => {
            (Wanted::is(domain.as_str()), format!(" of {domain}"))
        }
        Some(TrustDomainPattern::Any) => (Wanted::One, " of any trust domain".to_owned()),
    };
    let mut sequences = Vec::new();
    if let Some(workload) = &fields.workload {
        let sequence = workload_sequence(wanted.clone(), workload);
        sequences.push((sequence, format!("{workload}{of}")));
    }
    if let Some(namespace) = &fields.namespace {
        let sequence = Sequence {
            segments: vec![
                wanted,
                Wanted::is("ns"),
                Wanted::is(namespace.as_str()),
                Wanted::is("sa"),
                Wanted::One,
            ],
            rest: false,
        };
        sequences.push((sequence, format!("{namespace}/*{of}")));
    }
    if let Some(pattern) = &fields.spiffe {
        sequences.push((spiffe_sequence(pattern), pattern.to_string()));
    }
    match &fields.trust_domain {
        Some(TrustDomainPattern::Is(domain)) => {
            sequences.push((of_domain(domain), format!("anyone of {domain}")));
        }
        Some(TrustDomainPattern::Any) => {
            sequences.push((any_identity(), "anyone with an identity".to_owned()));
        }
        None => {}
    }
    sequences
}
