//! How a caller proves which workload it is. One file per kind of evidence; [`Attestors::attest`] chooses.

pub(crate) mod join_token;
pub(crate) mod jwt;
pub(crate) mod renewal;
pub(crate) mod template;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use countersign_api::transport::Caller;
use countersign_identity::{IdentityStore, SpiffeId};
use zeroize::Zeroizing;

use crate::refusal::Refusal;
use join_token::JoinTokens;
use jwt::JwtIssuers;

/// What a caller shows.
pub(crate) enum Evidence {
    /// A join token.
    JoinToken(Zeroizing<String>),
    /// A token of a configured issuer.
    Jwt(Zeroizing<String>),
    /// The SVID of its connection.
    Renewal,
}

/// The kinds of attestation, as the log and the metrics name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// See [`join_token`].
    JoinToken,
    /// See [`jwt`].
    Jwt,
    /// See [`renewal`].
    Renewal,
    /// The CA's own SVID: nobody else can have it.
    Own,
}

impl Kind {
    /// A stable name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::JoinToken => "join-token",
            Self::Jwt => "jwt",
            Self::Renewal => "renewal",
            Self::Own => "own",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A proved identity. Made by the attestors in this module only: what is issued, is issued on one of these.
#[derive(Debug)]
pub(crate) struct Attested {
    id: SpiffeId,
    kind: Kind,
    detail: String,
}

impl Attested {
    fn new(id: SpiffeId, kind: Kind, detail: String) -> Self {
        Self { id, kind, detail }
    }

    /// The CA itself, for its own server.
    pub(crate) fn own(authority: &crate::authority::Authority) -> Self {
        let id = countersign_identity::spiffe::system::ca(authority.trust_domain());
        Self::new(id, Kind::Own, String::new())
    }

    /// Who it is.
    pub(crate) fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// How it was proved.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// What the proof rests on, for the log. No secret.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }
}

/// All attestors.
pub(crate) struct Attestors {
    pub(crate) join_tokens: JoinTokens,
    pub(crate) jwt_issuers: JwtIssuers,
    /// What the CA's server verifies clients by.
    pub(crate) store: Arc<IdentityStore>,
}

impl Attestors {
    /// Finds out whom `evidence` proves.
    ///
    /// # Errors
    /// When it proves nobody.
    pub(crate) async fn attest(
        &self,
        evidence: Evidence,
        caller: &Caller,
        now: SystemTime,
    ) -> Result<Attested, Refusal> {
        match evidence {
            Evidence::JoinToken(token) => {
                let attested = self.join_tokens.redeem(&token, now).await;
                attested.map_err(Refusal::JoinToken)
            }
            Evidence::Jwt(token) => self.jwt_issuers.attest(&token, now).await,
            Evidence::Renewal => renewal::attest(caller, &self.store, now),
        }
    }
}
