//! `countersign cert verify`: one question, one line.

use std::time::SystemTime;

use countersign_identity::{SpiffeId, X509Svid};
use serde::Serialize;

use super::CertError;
use super::access::access;
use super::args::VerifyArguments;
use super::source::{Found, Group, Kind, Target};
use super::trust::Roots;
use crate::instant::{Span, rfc3339};
use crate::output::{Answer, Output};

/// The answer. Its JSON form is stable.
#[derive(Debug, Serialize)]
struct Verdict {
    verified: bool,
    /// Whom the certificate had to be of.
    id: String,
    /// Why it was not verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Until when it is valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_until: Option<String>,
    #[serde(skip)]
    text: String,
}

/// Says whether the bundle vouches for the target's certificate as one of that ID; the answer is no if not.
pub(crate) fn verify(arguments: &VerifyArguments, output: &Output) -> Result<Answer, CertError> {
    let access = access(&arguments.access)?;
    let found = Target::parse(&arguments.target)?.read(&access)?;
    let roots = Roots::read(&arguments.bundle).map_err(CertError::Roots)?;
    let verdict = judge(&found, &roots, &arguments.id, SystemTime::now());
    Ok(output.write_verdict(verdict.verified, &verdict, &verdict.text)?)
}

fn judge(found: &Found, roots: &Roots, id: &SpiffeId, now: SystemTime) -> Verdict {
    let outcome = check(found, roots, id, now);
    let (valid_until, reason, text) = match outcome {
        Ok(svid) => {
            let left = svid.not_after().duration_since(now).unwrap_or_default();
            let text = format!("{id}, by a root in {}; {} left", roots.origin, Span(left));
            (Some(rfc3339(svid.not_after())), None, text)
        }
        Err(reason) => (None, Some(reason.clone()), reason),
    };
    Verdict {
        verified: reason.is_none(),
        id: id.to_string(),
        reason,
        valid_until,
        text,
    }
}

/// Verifies the first chain of the target that is of this ID.
fn check(found: &Found, roots: &Roots, id: &SpiffeId, now: SystemTime) -> Result<X509Svid, String> {
    if let Some(connection) = &found.connection
        && let Err(problem) = &connection.possession
    {
        // A certificate is public: who presents one has proved nothing by it.
        return Err(format!(
            "the server did not prove that it has the key: {problem}"
        ));
    }
    let chains = found
        .groups
        .iter()
        .filter(|group| group.kind != Kind::Bundle);
    let mut reason = "there is no certificate but those of authorities".to_owned();
    for group in chains {
        match check_chain(group, roots, id, now) {
            Ok(svid) => return Ok(svid),
            Err(problem) => reason = problem,
        }
    }
    Err(reason)
}

fn check_chain(
    group: &Group,
    roots: &Roots,
    id: &SpiffeId,
    now: SystemTime,
) -> Result<X509Svid, String> {
    let svid =
        X509Svid::from_chain(group.certificates.clone()).map_err(|error| error.to_string())?;
    if svid.id() != id {
        return Err(format!("it is of {}, not of {id}", svid.id()));
    }
    let bundle = roots.bundle(id.trust_domain())?;
    svid.verify(&bundle, now)
        .map_err(|error| error.to_string())?;
    Ok(svid)
}
