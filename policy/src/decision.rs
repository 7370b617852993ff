//! The answer: allow or deny, and why.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::ser::SerializeStruct as _;

use crate::document::{Action, Document, Origin, Text};
use crate::near_miss::NearMiss;
use crate::normal_path::AmbiguousPath;

/// Allow or deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The call may go on.
    Allow,
    /// It may not.
    Deny,
}

impl Verdict {
    /// The verdict as a word that does not change.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// A decision about one call.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The answer.
    pub verdict: Verdict,
    /// The rule that decided; `None` if none did, which is a denial unless every policy about the workload says
    /// otherwise.
    pub rule: Option<Arc<RuleOrigin>>,
    /// Why.
    pub reason: Reason,
    /// What rules matched that do not decide: audit rules, and those of policies in observe mode.
    pub observed: Vec<Observed>,
    /// Allow rules that would have matched but for their conditions, which could not be evaluated.
    pub failed: Vec<FailedCondition>,
    /// The policy's revision, by which it was decided.
    pub revision: Arc<str>,
}

impl Decision {
    /// Whether the call may go on.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.verdict == Verdict::Allow
    }
}

/// Which rule, and where it is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct RuleOrigin {
    /// Its policy, as `namespace/name`.
    pub policy: Text,
    /// Its name.
    pub rule: Text,
    /// The file, as the policy's reader named it.
    pub file: Text,
    /// 1-based line.
    pub line: usize,
}

/// `"rule" (policy, file:line)`.
impl fmt::Display for RuleOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "\"{}\" ({}, {}:{})",
            self.rule, self.policy, self.file, self.line
        )
    }
}

/// A document that decided without a rule, and where it is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct DocumentOrigin {
    /// Its kind.
    pub kind: &'static str,
    /// Its name, as `namespace/name`.
    pub name: String,
    /// The file, as the policy's reader named it.
    pub file: Text,
    /// 1-based line.
    pub line: usize,
}

impl DocumentOrigin {
    pub(crate) fn of(document: &Document) -> Self {
        let Origin { file, line, .. } = document.origin();
        Self {
            kind: document.kind(),
            name: document.metadata().to_string(),
            file: file.clone(),
            line: *line,
        }
    }
}

/// `kind name (file:line)`.
impl fmt::Display for DocumentOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            name,
            file,
            line,
        } = self;
        write!(f, "{kind} {name} ({file}:{line})")
    }
}

/// A rule that matched and did not decide. As JSON, the rule's origin and its `action`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The rule.
    pub rule: Arc<RuleOrigin>,
    /// What it would have done; [`Action::Audit`] only reports.
    pub action: Action,
}

impl Serialize for Observed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Observed", 5)?;
        fields.serialize_field("action", self.action.as_str())?;
        fields.serialize_field("policy", &self.rule.policy)?;
        fields.serialize_field("rule", &self.rule.rule)?;
        fields.serialize_field("file", &self.rule.file)?;
        fields.serialize_field("line", &self.rule.line)?;
        fields.end()
    }
}

/// A condition that could not be evaluated. As JSON, the rule's origin and the `error`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedCondition {
    /// The rule.
    pub rule: Arc<RuleOrigin>,
    /// What went wrong, with the expression; without values of the call.
    pub error: String,
}

impl Serialize for FailedCondition {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("FailedCondition", 5)?;
        fields.serialize_field("policy", &self.rule.policy)?;
        fields.serialize_field("rule", &self.rule.rule)?;
        fields.serialize_field("file", &self.rule.file)?;
        fields.serialize_field("line", &self.rule.line)?;
        fields.serialize_field("error", &self.error)?;
        fields.end()
    }
}

/// Why a call was allowed or denied. Displayed as one line, without secrets: no claim, no header
/// value and no query is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A rule allows it, and none denies it.
    Allowed(Arc<RuleOrigin>),
    /// No rule decides, and every enforced policy about the workload says `default: allow`. The first of them.
    AllowedByDefault(Arc<DocumentOrigin>),
    /// A deny rule matched.
    DeniedByRule(Arc<RuleOrigin>),
    /// The condition of a deny rule that matched otherwise could not be evaluated.
    ConditionFailed {
        /// The rule.
        rule: Arc<RuleOrigin>,
        /// What went wrong.
        error: String,
    },
    /// No rule allows it.
    NoRuleMatched(Box<NearMiss>),
    /// Its path cannot be made unambiguous: it is no valid request for any rule to judge.
    AmbiguousPath(AmbiguousPath),
    /// The caller has proved no identity, and has to on this port.
    NoIdentity {
        /// The called port.
        port: u16,
        /// The `MeshMode` that says so; `None` if none is about the workload.
        mode: Option<Arc<DocumentOrigin>>,
    },
    /// No policy is about the called workload.
    NoPolicy {
        /// The workload, as `namespace/service-account`.
        workload: Arc<str>,
    },
}

impl Reason {
    /// Every class.
    pub const CLASSES: [&'static str; 8] = [
        "allowed",
        "allowed-by-default",
        "denied-by-rule",
        "condition-failed",
        "no-rule-matched",
        "ambiguous-path",
        "no-identity",
        "no-policy",
    ];

    /// The reason as one of few stable words, for machines.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Allowed(_) => "allowed",
            Self::AllowedByDefault(_) => "allowed-by-default",
            Self::DeniedByRule(_) => "denied-by-rule",
            Self::ConditionFailed { .. } => "condition-failed",
            Self::NoRuleMatched(_) => "no-rule-matched",
            Self::AmbiguousPath(_) => "ambiguous-path",
            Self::NoIdentity { .. } => "no-identity",
            Self::NoPolicy { .. } => "no-policy",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed(rule) => write!(f, "allowed by {rule}"),
            Self::AllowedByDefault(policy) => {
                write!(
                    f,
                    "no rule denies it, and the default of {policy} allows it"
                )
            }
            Self::DeniedByRule(rule) => write!(f, "denied by {rule}"),
            Self::ConditionFailed { rule, error } => {
                write!(
                    f,
                    "denied by {rule}, because its condition could not be evaluated: {error}"
                )
            }
            Self::NoRuleMatched(miss) => miss.fmt(f),
            Self::AmbiguousPath(problem) => problem.fmt(f),
            Self::NoIdentity { port, mode } => {
                write!(
                    f,
                    "the caller has proved no identity, and port {port} takes only calls with an X.509-SVID"
                )?;
                match mode {
                    Some(mode) => write!(f, ": {mode}"),
                    None => Ok(()),
                }
            }
            Self::NoPolicy { workload } => write!(
                f,
                "no policy is about {workload}, and what no rule allows is denied"
            ),
        }
    }
}
