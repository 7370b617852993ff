//! How an SVID comes about, phase by phase: see [`Issuance::issue`], and, for tokens, [`token`].

mod samples;
pub(crate) mod token;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign_api::transport::Caller;
use countersign_identity::{SpiffeId, X509Svid, spiffe};

use crate::attest::{Attested, Attestors, Evidence};
use crate::authority::profile::BACKDATED;
use crate::authority::{Authority, Intermediate};
use crate::csr::{self, ProvedKey};
use crate::fault;
use crate::log::{IssuanceLog, Record};
use crate::refusal::Refusal;
pub(crate) use samples::Samples;
use token::TokenRules;

/// How long SVIDs are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TtlLimits {
    /// Unless asked for otherwise.
    pub(crate) default: Duration,
    /// The shortest that may be asked for.
    pub(crate) min: Duration,
    /// The longest.
    pub(crate) max: Duration,
}

impl TtlLimits {
    /// The lifetime to issue for; zero asks for the default.
    fn choose(&self, asked: Duration) -> Result<Duration, Refusal> {
        let Self { default, min, max } = *self;
        match asked {
            Duration::ZERO => Ok(default),
            asked if (min..=max).contains(&asked) => Ok(asked),
            asked => Err(Refusal::Ttl {
                asked,
                min,
                max,
                default,
            }),
        }
    }
}

/// What a caller asks for.
pub(crate) struct Request {
    /// Certification request, DER.
    pub(crate) csr: Vec<u8>,
    /// Zero asks for the default.
    pub(crate) ttl: Duration,
    /// Who the caller is, it says.
    pub(crate) evidence: Evidence,
    /// The connection.
    pub(crate) caller: Caller,
}

/// Issues SVIDs.
pub(crate) struct Issuance {
    pub(crate) authority: Arc<Authority>,
    pub(crate) attestors: Attestors,
    pub(crate) limits: TtlLimits,
    pub(crate) tokens: TokenRules,
    pub(crate) log: IssuanceLog,
    /// What of the products has been verified.
    pub(crate) samples: Samples,
}

/// An SVID that was checked but is in no log yet, and so must not leave.
struct Unlogged(X509Svid);

impl Issuance {
    /// Issues an SVID. The phases, in this order:
    /// 1. **check**: the sender has the key, and asks for an allowed lifetime. Nothing has been used up yet.
    /// 2. **attest**: who is it? A join token is used up here.
    /// 3. **limit**: may that identity have an SVID of this CA, and for how long?
    /// 4. **sign**, and check what was signed: its form always, and by samples whether a peer would believe it ([`Samples`]).
    /// 5. **log**, and only then hand out.
    ///
    /// # Errors
    /// The first phase that says no.
    pub(crate) async fn issue(
        &self,
        request: Request,
        now: SystemTime,
    ) -> Result<X509Svid, Refusal> {
        let key = csr::check(&request.csr)?;
        let ttl = self.limits.choose(request.ttl)?;
        fault::point("after-check");
        let attested = self
            .attestors
            .attest(request.evidence, &request.caller, now)
            .await?;
        fault::point("after-attest");
        let intermediate = self.authority.intermediate();
        self.limit_identity(attested.id())?;
        let not_after = self.limit_validity(ttl, &intermediate, now)?;
        let unlogged = self
            .sign(&attested, &key, &intermediate, not_after, now)
            .await?;
        let remote = Some(request.caller.remote_addr);
        let record = Record::of_svid(&unlogged.0, &attested, key.thumbprint(), remote, now);
        self.hand_out(unlogged, record).await
    }

    /// Issues the CA's own SVID, for its server. The same phases, less those that judge a caller.
    ///
    /// # Errors
    /// As [`Issuance::issue`].
    pub(crate) async fn issue_own(&self, csr: &[u8], now: SystemTime) -> Result<X509Svid, Refusal> {
        let key = csr::check(csr)?;
        let attested = Attested::own(&self.authority);
        let intermediate = self.authority.intermediate();
        let not_after = self.limit_validity(self.limits.default, &intermediate, now)?;
        let unlogged = self
            .sign(&attested, &key, &intermediate, not_after, now)
            .await?;
        let record = Record::of_svid(&unlogged.0, &attested, key.thumbprint(), None, now);
        self.hand_out(unlogged, record).await
    }

    /// Whatever an attestation proves, it is not another trust domain's workload, nor the CA.
    fn limit_identity(&self, id: &SpiffeId) -> Result<(), Refusal> {
        let trust_domain = self.authority.trust_domain();
        if id.trust_domain() != trust_domain {
            let trust_domain = trust_domain.clone();
            return Err(Refusal::OtherTrustDomain {
                id: id.clone(),
                trust_domain,
            });
        }
        if *id == spiffe::system::ca(trust_domain) {
            return Err(Refusal::Reserved(id.clone()));
        }
        Ok(())
    }

    /// The end of the validity: as asked, but not beyond the intermediate's.
    fn limit_validity(
        &self,
        ttl: Duration,
        intermediate: &Intermediate,
        now: SystemTime,
    ) -> Result<SystemTime, Refusal> {
        let not_after = (now + ttl).min(intermediate.not_after());
        if not_after < now + self.limits.min {
            return Err(Refusal::IntermediateEnds {
                not_after: intermediate.not_after(),
            });
        }
        Ok(not_after)
    }

    async fn sign(
        &self,
        attested: &Attested,
        key: &ProvedKey,
        intermediate: &Arc<Intermediate>,
        not_after: SystemTime,
        now: SystemTime,
    ) -> Result<Unlogged, Refusal> {
        let validity = (now - BACKDATED, not_after);
        let leaf = intermediate
            .sign(attested.id(), key.public_key(), validity)
            .await?;
        let svid = intermediate.svid(leaf).map_err(Refusal::Product)?;
        self.samples
            .verify(&svid, intermediate, &self.authority.bundle(), now)
            .map_err(Refusal::Product)?;
        Ok(Unlogged(svid))
    }

    async fn hand_out(&self, unlogged: Unlogged, record: Record) -> Result<X509Svid, Refusal> {
        fault::point("after-sign");
        self.log.append(record).await?;
        fault::point("after-log");
        Ok(unlogged.0)
    }
}

#[cfg(test)]
mod speed;
#[cfg(test)]
pub(crate) mod tests;
