//! The pod that a service account token is bound to, as its claims tell it, or the API server.

use std::fmt;

use serde_json::{Map, Value, json};

use super::PodError;
use super::questions::{FoundPod, TokenReviewStatus};
use crate::attest::shortened;

/// What the name of a service account's user begins with.
const USER_PREFIX: &str = "system:serviceaccount:";
/// The longest name of an object (RFC 1123 subdomain) and more than any UID.
const MAX_NAME: usize = 253;

/// Why a token is bound to no pod.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnboundError {
    /// Not of a service account.
    #[error("the token is not of a service account, but of {0:?}")]
    NotAServiceAccount(String),
    /// No pod.
    #[error(
        "the token is bound to no pod; mount one by a projected volume (`serviceAccountToken` with the CA's audience), or ask \
         for it with `boundObjectRef` of kind Pod"
    )]
    NoPod,
    /// A name or UID is missing or is none.
    #[error("the token has no usable {0}")]
    Unusable(&'static str),
}

/// See the module. Names are of letters, digits, `-` and `.` only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BoundPod {
    pub(super) namespace: String,
    pub(super) service_account: String,
    service_account_uid: Option<String>,
    pub(super) name: String,
    uid: String,
    node: Option<String>,
    node_uid: Option<String>,
}

impl BoundPod {
    /// From the claims of a verified token: `sub`, and `kubernetes.io` with what it is bound to.
    pub(super) fn of_claims(claims: &Map<String, Value>) -> Result<Self, UnboundError> {
        let user = claims
            .get("sub")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let bound = claims.get("kubernetes.io").unwrap_or(&Value::Null);
        let text = |pointer: &str| bound.pointer(pointer).and_then(Value::as_str);
        if bound.get("pod").is_none_or(Value::is_null) {
            return Err(UnboundError::NoPod);
        }
        let pod = Self::new(
            user,
            text("/serviceaccount/uid"),
            (text("/pod/name"), text("/pod/uid")),
            (text("/node/name"), text("/node/uid")),
        )?;
        // Both are of one signature; if they do not agree, neither is understood.
        let agreed = text("/namespace") == Some(&pod.namespace)
            && text("/serviceaccount/name") == Some(&pod.service_account);
        if !agreed {
            return Err(UnboundError::Unusable(
                "namespace and service account: `sub` and `kubernetes.io` differ",
            ));
        }
        Ok(pod)
    }

    /// From what the API server says of a token. Nothing is taken from the token itself.
    pub(super) fn of_review(
        review: &TokenReviewStatus,
        audiences: &[String],
    ) -> Result<Self, PodError> {
        if !review.authenticated {
            let reason = shortened(&review.error.escape_debug().to_string());
            return Err(PodError::NotAuthenticated(match reason.is_empty() {
                true => "it gives no reason".to_owned(),
                false => reason,
            }));
        }
        // An API server that does not know audiences answers with none, and has checked none.
        if !review.audiences.iter().any(|one| audiences.contains(one)) {
            return Err(PodError::WrongAudience {
                found: format!("{:?}", shortened(&review.audiences.join(" "))),
                expected: format!("{:?}", audiences.join(" ")),
            });
        }
        let user = &review.user;
        let extra = |name: &str| {
            let values = user
                .extra
                .get(&format!("authentication.kubernetes.io/{name}"))?;
            match values.as_slice() {
                [only] => Some(only.as_str()),
                _ => None,
            }
        };
        if extra("pod-name").is_none() && extra("pod-uid").is_none() {
            // Of another user than a service account, the name says more.
            account(&user.username)?;
            return Err(UnboundError::NoPod.into());
        }
        Ok(Self::new(
            &user.username,
            Some(&user.uid),
            (extra("pod-name"), extra("pod-uid")),
            (extra("node-name"), extra("node-uid")),
        )?)
    }

    fn new(
        user: &str,
        service_account_uid: Option<&str>,
        (name, uid): (Option<&str>, Option<&str>),
        (node, node_uid): (Option<&str>, Option<&str>),
    ) -> Result<Self, UnboundError> {
        let (namespace, service_account) = account(user)?;
        let optional = |text: Option<&str>, what| text.map(|text| name_of(Some(text), what));
        Ok(Self {
            namespace: name_of(Some(namespace), "namespace")?,
            service_account: name_of(Some(service_account), "service account")?,
            service_account_uid: optional(service_account_uid, "service account UID")
                .transpose()?,
            name: name_of(name, "pod name")?,
            uid: name_of(uid, "pod UID")?,
            node: optional(node, "node name").transpose()?,
            node_uid: optional(node_uid, "node UID").transpose()?,
        })
    }

    /// Whether both tell of one pod.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let key = |pod: &Self| {
            (
                pod.namespace.clone(),
                pod.service_account.clone(),
                pod.name.clone(),
                pod.uid.clone(),
            )
        };
        key(self) == key(other)
    }

    /// Checks it against the pod of its name that exists now, if one does.
    pub(super) fn check_found(&self, found: Option<FoundPod>) -> Result<(), PodError> {
        let pod = || format!("{}/{}", self.namespace, self.name);
        let Some(found) = found else {
            return Err(PodError::NoPod {
                namespace: self.namespace.clone(),
                pod: self.name.clone(),
            });
        };
        if found.metadata.uid != self.uid {
            return Err(PodError::OtherPod {
                pod: pod(),
                expected: self.uid.clone(),
                found: shortened(&found.metadata.uid),
            });
        }
        if found.spec.service_account_name != self.service_account {
            return Err(PodError::OtherServiceAccount {
                pod: pod(),
                expected: self.service_account.clone(),
                found: shortened(&found.spec.service_account_name),
            });
        }
        match found.status.phase.as_str() {
            phase @ ("Succeeded" | "Failed") => Err(PodError::Ended {
                pod: pod(),
                phase: phase.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// What allow rules ask about.
    pub(super) fn facts(&self) -> Map<String, Value> {
        let mut facts = Map::new();
        let all = [
            ("namespace", Some(&self.namespace)),
            ("serviceAccount", Some(&self.service_account)),
            ("name", Some(&self.name)),
            ("node", self.node.as_ref()),
        ];
        for (name, value) in all {
            if let Some(value) = value {
                facts.insert(name.to_owned(), json!(value));
            }
        }
        facts
    }
}

/// For the issuance log.
impl fmt::Display for BoundPod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pod {} (uid {})", self.name, self.uid)?;
        if let Some(node) = &self.node {
            write!(f, ", node {node}")?;
            if let Some(uid) = &self.node_uid {
                write!(f, " (uid {uid})")?;
            }
        }
        if let Some(uid) = &self.service_account_uid {
            write!(f, ", service account uid {uid}")?;
        }
        Ok(())
    }
}

/// Namespace and name of `system:serviceaccount:NAMESPACE:NAME`.
fn account(user: &str) -> Result<(&str, &str), UnboundError> {
    user.strip_prefix(USER_PREFIX)
        .and_then(|rest| rest.split_once(':'))
        .ok_or_else(|| UnboundError::NotAServiceAccount(shortened(user)))
}

/// What goes into URLs, the log and SPIFFE IDs.
fn name_of(text: Option<&str>, what: &'static str) -> Result<String, UnboundError> {
    let is_name = |text: &&str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        !text.is_empty()
            && text.len() <= MAX_NAME
            && text.chars().all(fits)
            && text.contains(|c: char| c.is_ascii_alphanumeric())
    };
    text.filter(is_name)
        .map(str::to_owned)
        .ok_or(UnboundError::Unusable(what))
}

#[cfg(test)]
mod tests;
