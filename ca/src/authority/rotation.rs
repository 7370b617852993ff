//! Replacing a root, step by step: `prepare`, `activate`, `taint`, `revoke`; or `abandon`, before `activate`. Each step is
//! safe to repeat: what has been done already is not done twice. When a step is too early, because somebody could then not
//! be verified, it is refused unless it is forced.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;

use super::AuthorityError;
use super::authorities::{Authorities, is_due, last_svid_ends};
use super::ceremony::check_external_root;
use super::replicas;
use super::state::{Phase, Root, State, id_of, seconds, time};
use super::step::{Next, Outcome, StepError};
use crate::store::authority_state::Replica;

/// How long replicas of the CA may take until they notice a change.
pub(crate) const NOTICE: Duration = Duration::from_secs(10);

/// The phases of a root that can be revoked, in the order in which it is chosen.
const REVOCABLE: [Phase; 2] = [Phase::Tainted, Phase::Old];

/// What a root signed.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    /// The root.
    pub(crate) root: String,
    /// Its intermediates: SHA-256 of their certificates, hexadecimal.
    pub(crate) intermediates: HashSet<String>,
    /// Until when they signed, at most; none if they sign.
    pub(crate) until: Option<SystemTime>,
}

impl Authorities {
    /// Adds a new root to the bundle, which signs nothing yet: one made here, or an external one, of which there is only
    /// the certificate.
    ///
    /// # Errors
    /// When another one is prepared, or it cannot be a root.
    pub(crate) async fn prepare(
        &self,
        certificate: Option<CertificateDer<'static>>,
        now: SystemTime,
    ) -> Result<Outcome, AuthorityError> {
        let locked = self.ledger.lock().await?;
        let mut state = locked.state.clone().ok_or(StepError::NoRoot)?;
        state.the(Phase::Active).ok_or(StepError::NoRoot)?;
        let asked = certificate.as_ref().map(id_of);
        if let Some(prepared) = state.the(Phase::Prepared) {
            let same = asked.is_none_or(|id| id == prepared.id);
            let id = prepared.id.clone();
            if !same {
                return Err(StepError::OtherPrepared(id).into());
            }
            // What a crash may have left to do.
            self.put_in_force(locked, state).await?;
            return Ok(Outcome::already(format!(
                "the root {id} is prepared already"
            )));
        }
        match certificate {
            Some(certificate) => {
                check_external_root(&certificate, &self.trust_domain, now)?;
                let id = id_of(&certificate);
                if let Some(known) = state.roots.iter().find(|root| root.id == id) {
                    let phase = known.phase.name();
                    return Err(StepError::Known { id, phase }.into());
                }
                let root = Root::new(&certificate, None, Phase::Prepared, now);
                state.roots.push(root);
                state.published(now);
            }
            None if self.config.upstream => return Err(StepError::NeedsCertificate.into()),
            None => self.make_root(&mut state, Phase::Prepared, now).await?,
        }
        let id = state.the(Phase::Prepared).map(|root| root.id.clone());
        self.put_in_force(locked, state).await?;
        Ok(Outcome::changed(format!(
            "the root {} is prepared: it is in the bundle, and signs nothing yet",
            id.unwrap_or_default()
        )))
    }

    /// Has an intermediate of the prepared root sign from now on.
    ///
    /// # Errors
    /// When not everybody can have the bundle with it yet, or an external root has not signed one.
    pub(crate) async fn activate(
        &self,
        force: bool,
        now: SystemTime,
    ) -> Result<Outcome, AuthorityError> {
        let locked = self.ledger.lock().await?;
        let mut state = locked.state.clone().ok_or(StepError::NoRoot)?;
        let Some(prepared) = state.the(Phase::Prepared).cloned() else {
            let active = state.the(Phase::Active).ok_or(StepError::NoRoot)?;
            let message = format!("no root is prepared; the root {} is active", active.id);
            self.put_in_force(locked, state).await?;
            return Ok(Outcome::already(message));
        };
        if prepared.key.is_none() && state.current_of(&prepared).is_none() {
            return Err(StepError::NothingSigned(prepared.id).into());
        }
        let safe_at = self.activate_safe_at(&prepared);
        if !force && !is_due(safe_at, now) {
            return Err(StepError::TooEarly {
                step: "activate",
                root: prepared.id,
                safe_at,
                why: "before that, not everybody has the bundle with it, and could verify what it signs".to_owned(),
            }
            .into());
        }
        let behind = self.behind(&state, now).await?;
        if !force && !behind.is_empty() {
            return Err(StepError::Behind(behind.join(", ")).into());
        }
        if let Some(old) = state.the_mut(Phase::Active) {
            old.phase = Phase::Old;
            old.replaced_at = Some(seconds(now));
            let id = old.id.clone();
            state.replace_intermediates(Some(&id), now);
        }
        if let Some(root) = state.the_mut(Phase::Prepared) {
            root.phase = Phase::Active;
            root.activated_at = Some(seconds(now));
        }
        if state.current().is_none() {
            self.make_intermediate(&mut state, now).await?;
        }
        self.put_in_force(locked, state).await?;
        Ok(Outcome::changed(format!(
            "the root {} is active: what is issued from now on is of it",
            prepared.id
        )))
    }

    /// Has everybody renew at once what an old root signed.
    ///
    /// # Errors
    /// When it is not an old one.
    pub(crate) async fn taint(
        &self,
        id: Option<&str>,
        now: SystemTime,
    ) -> Result<Outcome, AuthorityError> {
        let locked = self.ledger.lock().await?;
        let mut state = locked.state.clone().ok_or(StepError::NoRoot)?;
        let Some(root) = choose(&mut state, id, &[Phase::Old], &[Phase::Tainted])? else {
            self.put_in_force(locked, state).await?;
            return Ok(Outcome::already("there is no old root to taint".to_owned()));
        };
        let id = root.id.clone();
        match root.phase {
            Phase::Old => {
                root.phase = Phase::Tainted;
                root.tainted_at = Some(seconds(now));
                state.published(now);
                self.put_in_force(locked, state).await?;
                Ok(Outcome::changed(format!(
                    "the root {id} is tainted: everybody is told to renew what it signed"
                )))
            }
            Phase::Tainted | Phase::Revoked => {
                let phase = root.phase.name();
                self.put_in_force(locked, state).await?;
                Ok(Outcome::already(format!("the root {id} is {phase} already")))
            }
            phase => Err(StepError::WrongPhase {
                id,
                phase: phase.name(),
                needs: "only a root that another one has replaced can be tainted: `root prepare`, then `root activate`",
            }
            .into()),
        }
    }

    /// What the root signed that `revoke` would take out of the bundle now; none if it would take none.
    ///
    /// # Errors
    /// When it is not clear which root is meant, or the state cannot be read.
    pub(crate) async fn signed_by_revocable(
        &self,
        id: Option<&str>,
    ) -> Result<Option<Signed>, AuthorityError> {
        let mut state = self.state().await?;
        let Some(root) = choose(&mut state, id, &REVOCABLE, &[])? else {
            return Ok(None);
        };
        if !REVOCABLE.contains(&root.phase) {
            return Ok(None);
        }
        let (root, replaced) = (root.id.clone(), root.replaced_at.map(time));
        let mut intermediates = HashSet::new();
        for record in state
            .intermediates
            .iter()
            .filter(|record| record.root == root)
        {
            let der = self.intermediate_der(record)?;
            intermediates.insert(hex::encode(digest(&SHA256, &der)));
        }
        Ok(Some(Signed {
            root,
            intermediates,
            until: replaced.map(|replaced| replaced + NOTICE),
        }))
    }

    /// Takes a tainted root out of the bundle: what it signed is not believed any more.
    ///
    /// # Errors
    /// When it is not tainted, or what it signed may still be in use.
    pub(crate) async fn revoke(
        &self,
        id: Option<&str>,
        force: bool,
        now: SystemTime,
    ) -> Result<Outcome, AuthorityError> {
        let locked = self.ledger.lock().await?;
        let mut state = locked.state.clone().ok_or(StepError::NoRoot)?;
        let safe = state.clone();
        let Some(root) = choose(&mut state, id, &REVOCABLE, &[])? else {
            self.put_in_force(locked, state).await?;
            return Ok(Outcome::already(
                "there is no tainted root to revoke".to_owned(),
            ));
        };
        let id = root.id.clone();
        match root.phase {
            Phase::Tainted | Phase::Old => {}
            Phase::Revoked => {
                self.put_in_force(locked, state).await?;
                return Ok(Outcome::already(format!(
                    "the root {id} is revoked already"
                )));
            }
            phase => {
                return Err(StepError::WrongPhase {
                    id,
                    phase: phase.name(),
                    needs: "only a root that another one has replaced can be revoked",
                }
                .into());
            }
        }
        if root.phase == Phase::Old && !force {
            return Err(StepError::WrongPhase {
                id,
                phase: "old",
                needs: "taint it first, so that what it signed is renewed: `countersign-ca root taint`; or, if calls may \
                        fail, add --force",
            }
            .into());
        }
        let safe_at = self.revoke_safe_at(&safe, root);
        if !force && !is_due(safe_at, now) {
            return Err(StepError::TooEarly {
                step: "revoke",
                root: id,
                safe_at,
                why: "until then, SVIDs that it signed are valid".to_owned(),
            }
            .into());
        }
        root.phase = Phase::Revoked;
        root.left_at = Some(seconds(now));
        state.published(now);
        self.put_in_force(locked, state).await?;
        Ok(Outcome::changed(format!(
            "the root {id} is revoked: it is not in the bundle any more"
        )))
    }

    /// Takes the prepared root out of the bundle again.
    ///
    /// # Errors
    /// When the state cannot be changed.
    pub(crate) async fn abandon(&self, now: SystemTime) -> Result<Outcome, AuthorityError> {
        let locked = self.ledger.lock().await?;
        let mut state = locked.state.clone().ok_or(StepError::NoRoot)?;
        let Some(root) = state.the_mut(Phase::Prepared) else {
            self.put_in_force(locked, state).await?;
            return Ok(Outcome::already("no root is prepared".to_owned()));
        };
        root.phase = Phase::Abandoned;
        root.left_at = Some(seconds(now));
        let id = root.id.clone();
        state.replace_intermediates(Some(&id), now);
        state.published(now);
        self.put_in_force(locked, state).await?;
        Ok(Outcome::changed(format!(
            "the root {id} is abandoned: it is not in the bundle any more"
        )))
    }

    /// The replicas that give out an older bundle than that of `state`.
    async fn behind(&self, state: &State, now: SystemTime) -> Result<Vec<String>, AuthorityError> {
        let Some(store) = self.ledger.store() else {
            return Ok(Vec::new());
        };
        let all = replicas::all(store).await?;
        let is_behind = |replica: &Replica| replica.is_there(now) && !replica.has(state.sequence);
        let behind = all.into_iter().filter(is_behind);
        Ok(behind.map(|replica| replica.name).collect())
    }

    /// The state as it is.
    ///
    /// # Errors
    /// When it cannot be read, or there is none.
    pub(crate) async fn state(&self) -> Result<State, AuthorityError> {
        Ok(self.ledger.read().await?.ok_or(StepError::NoRoot)?)
    }

    /// What comes next.
    pub(crate) fn next(&self, state: &State) -> Next {
        if let Some(prepared) = state.the(Phase::Prepared) {
            if prepared.key.is_none() && state.current_of(prepared).is_none() {
                return Next {
                    command: "countersign-ca csr".to_owned(),
                    safe_at: time(prepared.prepared_at),
                    why: format!(
                        "the external root {} has to sign an intermediate: make a request, and install the answer",
                        prepared.id
                    ),
                };
            }
            return Next {
                command: "countersign-ca root activate".to_owned(),
                safe_at: self.activate_safe_at(prepared),
                why: format!(
                    "has {} sign what is issued; earlier, not everybody has the bundle with it",
                    prepared.id
                ),
            };
        }
        let in_phase = |phase| state.roots.iter().find(|root| root.phase == phase);
        if let Some(old) = in_phase(Phase::Old) {
            return Next {
                command: format!("countersign-ca root taint {}", old.id),
                safe_at: old.replaced_at.map_or(SystemTime::UNIX_EPOCH, time) + NOTICE,
                why: "has everybody renew at once what it signed".to_owned(),
            };
        }
        if let Some(tainted) = in_phase(Phase::Tainted) {
            return Next {
                command: format!("countersign-ca root revoke {}", tainted.id),
                safe_at: self.revoke_safe_at(state, tainted),
                why: "takes it out of the bundle; earlier, SVIDs that it signed are valid"
                    .to_owned(),
            };
        }
        let ends = state.the(Phase::Active).and_then(Root::not_after);
        let before = 2 * self.config.intermediate_ttl;
        let due = ends.and_then(|ends| ends.checked_sub(before));
        Next {
            command: "countersign-ca root prepare".to_owned(),
            safe_at: due.unwrap_or(SystemTime::UNIX_EPOCH),
            why: "begins the next rotation, which is due well before the active root ends; it may begin at any time"
                .to_owned(),
        }
    }

    fn activate_safe_at(&self, prepared: &Root) -> SystemTime {
        time(prepared.prepared_at) + self.config.propagation
    }

    fn revoke_safe_at(&self, state: &State, root: &Root) -> SystemTime {
        last_svid_ends(state, root, self.config.longest_svid, NOTICE)
            .unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// The root that is meant: the one of this id, or the only one in one of these phases. `None`: there is none, or only ones
/// that are `done`.
fn choose<'a>(
    state: &'a mut State,
    id: Option<&str>,
    phases: &[Phase],
    done: &[Phase],
) -> Result<Option<&'a mut Root>, StepError> {
    if let Some(id) = id {
        let root = state.roots.iter_mut().find(|root| root.id == id);
        return root
            .map(Some)
            .ok_or_else(|| StepError::Unknown(id.to_owned()));
    }
    // The first phase that any root is in decides.
    let phase = phases
        .iter()
        .chain(done)
        .find(|phase| state.roots.iter().any(|root| root.phase == **phase));
    let Some(phase) = phase else {
        return Ok(None);
    };
    let ids: Vec<&str> = state
        .roots
        .iter()
        .filter(|root| root.phase == *phase)
        .map(|root| root.id.as_str())
        .collect();
    if ids.len() > 1 {
        return Err(StepError::Ambiguous(ids.join(", ")));
    }
    Ok(state.roots.iter_mut().find(|root| root.phase == *phase))
}
