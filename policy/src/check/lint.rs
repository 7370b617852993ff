//! The kinds of findings.

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The policy is not accepted.
    Error,
    /// It is accepted, and hardly means what its author meant.
    Warning,
}

impl Level {
    /// The level as a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A kind of finding. Its ID does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lint {
    /// `invalid-document`
    InvalidDocument,
    /// `invalid-policy`
    InvalidPolicy,
    /// `allow-everything`
    AllowEverything,
    /// `never-matches`
    NeverMatches,
    /// `unreachable-rule`
    UnreachableRule,
    /// `shadowed-rule`
    ShadowedRule,
    /// `unknown-trust-domain`
    UnknownTrustDomain,
    /// `issuer-without-audience`
    IssuerWithoutAudience,
    /// `http-on-opaque-port`
    HttpOnOpaquePort,
    /// `unknown-target`
    UnknownTarget,
    /// `unknown-workload`
    UnknownWorkload,
    /// `unknown-port`
    UnknownPort,
}

impl Lint {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::InvalidDocument,
        Self::InvalidPolicy,
        Self::AllowEverything,
        Self::NeverMatches,
        Self::UnreachableRule,
        Self::ShadowedRule,
        Self::UnknownTrustDomain,
        Self::IssuerWithoutAudience,
        Self::HttpOnOpaquePort,
        Self::UnknownTarget,
        Self::UnknownWorkload,
        Self::UnknownPort,
    ];

    /// A word that does not change, for machines and for people who look it up.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::InvalidDocument => "invalid-document",
            Self::InvalidPolicy => "invalid-policy",
            Self::AllowEverything => "allow-everything",
            Self::NeverMatches => "never-matches",
            Self::UnreachableRule => "unreachable-rule",
            Self::ShadowedRule => "shadowed-rule",
            Self::UnknownTrustDomain => "unknown-trust-domain",
            Self::IssuerWithoutAudience => "issuer-without-audience",
            Self::HttpOnOpaquePort => "http-on-opaque-port",
            Self::UnknownTarget => "unknown-target",
            Self::UnknownWorkload => "unknown-workload",
            Self::UnknownPort => "unknown-port",
        }
    }

    /// How bad it is.
    #[must_use]
    pub fn level(self) -> Level {
        match self {
            Self::InvalidDocument | Self::InvalidPolicy => Level::Error,
            _ => Level::Warning,
        }
    }

    /// What it means, in one sentence.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::InvalidDocument => "A file or document cannot be read.",
            Self::InvalidPolicy => "A document can be read, and cannot be enforced.",
            Self::AllowEverything => "A rule lets everyone do everything.",
            Self::NeverMatches => "A rule is one that no call can match.",
            Self::UnreachableRule => "A rule allows only what other rules deny.",
            Self::ShadowedRule => "A rule does only what other rules do already.",
            Self::UnknownTrustDomain => {
                "A rule is about another trust domain, and no TrustDomain document says how its workloads are known."
            }
            Self::IssuerWithoutAudience => {
                "A TokenIssuer takes tokens that were made for whichever audience."
            }
            Self::HttpOnOpaquePort => {
                "A rule asks for facts of HTTP on a port whose connections are opaque."
            }
            Self::UnknownTarget => "A document is about no workload of the directory.",
            Self::UnknownWorkload => "A rule names a caller that is not in the directory.",
            Self::UnknownPort => {
                "A rule names a port that no workload of the directory that it is about has."
            }
        }
    }
}
