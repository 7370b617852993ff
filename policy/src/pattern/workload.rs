//! Workloads by namespace and service account.

use std::fmt;
use std::str::FromStr;

use countersign_identity::WorkloadName;

use super::{Name, NameError};

/// `namespace/service-account`; either may be `*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadPattern {
    namespace: Option<Name>,
    service_account: Option<Name>,
}

/// Why a text is not a [`WorkloadPattern`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadPatternError {
    /// No slash.
    #[error("there is no `/` between namespace and service account")]
    Slash,
    /// One of the parts.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl WorkloadPattern {
    /// One workload.
    #[must_use]
    pub fn exact(namespace: &Name, service_account: &Name) -> Self {
        Self {
            namespace: Some(namespace.clone()),
            service_account: Some(service_account.clone()),
        }
    }

    /// Whether the workload is accepted.
    #[must_use]
    pub fn matches(&self, workload: WorkloadName<'_>) -> bool {
        let accepts =
            |part: &Option<Name>, name: &str| part.as_ref().is_none_or(|p| p.as_str() == name);
        accepts(&self.namespace, workload.namespace)
            && accepts(&self.service_account, workload.service_account)
    }

    /// The namespace; `None` is any.
    #[must_use]
    pub fn namespace(&self) -> Option<&Name> {
        self.namespace.as_ref()
    }

    /// The service account; `None` is any.
    #[must_use]
    pub fn service_account(&self) -> Option<&Name> {
        self.service_account.as_ref()
    }
}

impl FromStr for WorkloadPattern {
    type Err = WorkloadPatternError;

    fn from_str(text: &str) -> Result<Self, WorkloadPatternError> {
        let (namespace, service_account) =
            text.split_once('/').ok_or(WorkloadPatternError::Slash)?;
        let part = |name: &str| {
            if name == "*" {
                Ok(None)
            } else {
                name.parse().map(Some)
            }
        };
        Ok(Self {
            namespace: part(namespace)?,
            service_account: part(service_account)?,
        })
    }
}

impl fmt::Display for WorkloadPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |name: &Option<Name>| name.as_ref().map_or("*", Name::as_str).to_owned();
        write!(
            f,
            "{}/{}",
            part(&self.namespace),
            part(&self.service_account)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_part_may_be_any() {
        let web = WorkloadName {
            namespace: "shop",
            service_account: "web",
        };
        for (pattern, expected) in [
            ("shop/web", true),
            ("shop/*", true),
            ("*/web", true),
            ("*/*", true),
            ("shop/orders", false),
            ("guest/*", false),
        ] {
            let parsed: WorkloadPattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(web), expected, "{pattern}");
            assert_eq!(parsed.to_string(), pattern);
        }
        for wrong in ["web", "/web", "shop/", "shop/w*", "a/b/c"] {
            assert!(wrong.parse::<WorkloadPattern>().is_err(), "{wrong}");
        }
    }
}
