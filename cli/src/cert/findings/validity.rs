//! Time: what has expired, is not valid yet, soon expires, or lives too long.

use std::time::Duration;

use super::super::entry::{Entry, Role};
use super::super::facts::Facts;
use super::super::source::Kind;
use super::{Findings, Judged, Strictness};
use crate::instant::{Span, Standing};

const DAY: u64 = 86_400;
/// The longest life of an X.509-SVID that countersign-ca issues.
const LONGEST_SVID: u64 = DAY;
/// The longest life of a web server's certificate (CA/Browser Forum Baseline Requirements §6.3.2).
const LONGEST_LEAF: u64 = 398 * DAY;

pub(super) fn judge(
    group: &Judged<'_>,
    all: &[Entry<'_>],
    svid: bool,
    strictness: Strictness,
    findings: &mut Findings,
) {
    for entry in &group.entries {
        let Some(facts) = entry.facts() else { continue };
        one(entry, facts, svid, strictness, findings);
        if group.kind != Kind::Bundle
            && let Some(issuer) = entry.link.issuer().and_then(|index| all.get(index))
            && let Some(of_issuer) = issuer.facts()
            && of_issuer.validity.1 < facts.validity.1
            && of_issuer.standing.is_valid()
        {
            findings.warning(
                "outlives-issuer",
                entry.number,
                format!(
                    "it says that it is valid until {}, but its issuer ({}) only until {}",
                    facts.not_after, issuer.number, of_issuer.not_after
                ),
                "it ends with its issuer; renew both before that",
            );
        }
    }
}

fn one(
    entry: &Entry<'_>,
    facts: &Facts,
    svid: bool,
    strictness: Strictness,
    findings: &mut Findings,
) {
    let at = entry.number;
    if facts.validity.1 < facts.validity.0 {
        findings.error(
            "validity-reversed",
            at,
            format!(
                "its validity ends ({}) before it starts ({})",
                facts.not_after, facts.not_before
            ),
            "it is valid at no time; have it issued anew",
        );
        return;
    }
    match facts.standing {
        Standing::Expired(over) => findings.error(
            "expired",
            at,
            format!("it expired {} ago, on {}", Span(over), facts.not_after),
            match (entry.role, svid) {
                (Role::Leaf, true) => {
                    "find out why it was not renewed: is the CA out of reach, or the sidecar stopped?"
                }
                (Role::Leaf, false) => "renew it",
                _ => "replace it, and what it has signed",
            },
        ),
        Standing::NotYet(ahead) => findings.error(
            "not-yet-valid",
            at,
            format!("it is not valid for another {}, until {}", Span(ahead), facts.not_before),
            "is this machine's clock right? Otherwise wait",
        ),
        Standing::Valid(left) if soon(facts, left, strictness) => findings.warning(
            "expires-soon",
            at,
            format!("it expires in {}, on {}", Span(left), facts.not_after),
            match (entry.role, svid) {
                (Role::Leaf, true) => "a sidecar renews at half life: find out why this was not renewed",
                _ => "renew it",
            },
        ),
        Standing::Valid(_) => {}
    }
    if entry.role == Role::Leaf {
        let (limit, code, advice) = if svid {
            (
                LONGEST_SVID,
                "svid-lifetime-long",
                "SVIDs are made to be short-lived: at most a day, better an hour",
            )
        } else {
            (
                LONGEST_LEAF,
                "lifetime-long",
                "browsers refuse servers with certificates of more than 398 days",
            )
        };
        // What is backdated for skew, and the second that both ends are included, do not count.
        if facts.lifetime_seconds > limit + 600 {
            let life = Span(Duration::from_secs(facts.lifetime_seconds));
            findings.warning(code, at, format!("it lives for {life}"), advice);
        }
    }
}

/// Whether it is time to renew: a fifth of its life is left or less, but no more than 30 days.
fn soon(facts: &Facts, left: Duration, strictness: Strictness) -> bool {
    let limit = strictness.expires_within.unwrap_or_else(|| {
        let fifth = facts.lifetime_seconds / 5;
        Duration::from_secs(fifth.min(30 * DAY))
    });
    left <= limit
}
