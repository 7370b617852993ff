//! What the control plane sends, checked and put in force. Each kind is taken whole or not at all; what is refused changes
//! nothing.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::SystemTime;

use countersign_api::bundle::InvalidBundle;
use countersign_api::proto::{self, PolicyStatus, update};
use countersign_identity::jwt::KeySet;
use countersign_identity::{Bundle, IdentityStore, StoreError, TrustDomain};
use countersign_policy::{Policy, Workload};

use super::document::{PolicyRefused, read_document};
use super::{ControlReadiness, federated};
use crate::directory::{Directory, DirectoryError};
use crate::state::{IssuerKeys, State};
use crate::telemetry::Metrics;

/// Puts updates in force.
#[derive(Debug)]
pub(super) struct Applier {
    trust_domain: TrustDomain,
    store: Arc<IdentityStore>,
    state: Arc<State>,
    ready: ControlReadiness,
    metrics: Metrics,
    /// The last good policy. It is in force once the directory says which workload it is for.
    policy: Option<Policy>,
    /// The key sets as they came, by issuer, so that one that did not change keeps its `Arc`.
    jwks: HashMap<String, (String, Arc<KeySet>)>,
}

/// Why a bundle is refused.
#[derive(Debug, thiserror::Error)]
enum BundleRefused {
    #[error(transparent)]
    Invalid(#[from] InvalidBundle),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a directory is refused.
#[derive(Debug, thiserror::Error)]
enum DirectoryRefused {
    #[error(transparent)]
    Invalid(#[from] DirectoryError),
    #[error("we have no identity to compare it with")]
    NoIdentity,
}

impl Applier {
    pub(super) fn new(
        trust_domain: TrustDomain,
        store: Arc<IdentityStore>,
        state: Arc<State>,
        ready: ControlReadiness,
        metrics: Metrics,
    ) -> Self {
        Self {
            trust_domain,
            store,
            state,
            ready,
            metrics,
            policy: None,
            jwks: HashMap::new(),
        }
    }

    /// Puts one update in force. Returns what the control plane is to be told.
    pub(super) fn apply(&mut self, update: proto::Update, now: SystemTime) -> Option<PolicyStatus> {
        match update.update {
            Some(update::Update::Policy(snapshot)) => self.policy(snapshot, now),
            Some(update::Update::Directory(directory)) => self.directory(directory, now),
            Some(update::Update::IssuerKeys(keys)) => {
                self.issuer_keys(keys);
                None
            }
            Some(update::Update::Bundle(bundle)) => {
                self.bundle(bundle);
                None
            }
            Some(update::Update::FederatedBundles(bundles)) => {
                self.federated_bundles(bundles);
                None
            }
            None => {
                tracing::warn!("control plane sent an update of a kind that is not known here");
                None
            }
        }
    }

    /// Tells who waits for the first snapshots why there are none.
    pub(super) fn waiting_because(&self, reason: &impl Display) {
        if self.state.policy().is_none() {
            self.ready.policy.not_ready(reason.to_string());
        }
        if self.state.directory().is_none() {
            self.ready.directory.not_ready(reason.to_string());
        }
    }

    fn policy(&mut self, snapshot: proto::PolicySnapshot, now: SystemTime) -> Option<PolicyStatus> {
        let revision = snapshot.revision.clone();
        match self.compile(snapshot) {
            Ok(policy) => {
                self.policy = Some(policy);
                self.put_policy_in_force(now)
            }
            Err(refused) => {
                let error = refused.to_string();
                tracing::error!(
                    revision,
                    error,
                    "policy refused; the last good one stays in force"
                );
                self.metrics.policy_refused();
                if self.state.policy().is_none() {
                    self.ready
                        .policy
                        .not_ready(format!("revision {revision} refused: {error}"));
                }
                Some(PolicyStatus { revision, error })
            }
        }
    }

    fn compile(&self, snapshot: proto::PolicySnapshot) -> Result<Policy, PolicyRefused> {
        let documents = snapshot
            .documents
            .iter()
            .enumerate()
            .map(|(index, document)| read_document(index, &document.json));
        let documents = documents.collect::<Result<Vec<_>, _>>()?;
        Policy::compile(&snapshot.revision, &self.trust_domain, documents)
            .map_err(PolicyRefused::Compile)
    }

    /// Puts the last good policy in force for the workload that the directory says we are.
    fn put_policy_in_force(&self, now: SystemTime) -> Option<PolicyStatus> {
        let policy = self.policy.as_ref()?;
        let Some(directory) = self.state.directory() else {
            self.ready
                .policy
                .not_ready("waiting for the directory, which says which workload it is for");
            return None;
        };
        let revision = policy.revision().to_owned();
        self.state
            .set_policy(policy.for_workload(&directory.own.workload));
        self.metrics.policy_applied(&revision, now);
        self.ready.policy.ready();
        tracing::info!(revision, "policy in force");
        Some(PolicyStatus {
            revision,
            error: String::new(),
        })
    }

    fn directory(&mut self, directory: proto::Directory, now: SystemTime) -> Option<PolicyStatus> {
        let previous = self.state.directory();
        match self.checked(directory, previous.as_deref()) {
            Ok(directory) => {
                let workload = directory.own.workload.clone();
                tracing::info!(services = directory.services.len(), "directory in force");
                self.state.set_directory(directory);
                self.ready.directory.ready();
                let policy_is_for = previous.map(|previous| previous.own.workload.clone());
                self.policy_for(&workload, policy_is_for.as_ref(), now)
            }
            Err(refused) => {
                let error = refused.to_string();
                tracing::error!(error, "directory refused; the last good one stays in force");
                if previous.is_none() {
                    self.ready.directory.not_ready(format!("refused: {error}"));
                }
                None
            }
        }
    }

    fn checked(
        &self,
        directory: proto::Directory,
        previous: Option<&Directory>,
    ) -> Result<Directory, DirectoryRefused> {
        let svid = self.store.svid().ok_or(DirectoryRefused::NoIdentity)?;
        Ok(Directory::from_proto(directory, svid.id(), previous)?)
    }

    /// Other labels, other policy: what targets a workload is chosen by its labels.
    fn policy_for(
        &self,
        workload: &Workload,
        before: Option<&Workload>,
        now: SystemTime,
    ) -> Option<PolicyStatus> {
        if before == Some(workload) {
            None
        } else {
            self.put_policy_in_force(now)
        }
    }

    /// Unlike policy, keys are taken issuer by issuer: what one issuer publishes must not take away another's.
    fn issuer_keys(&mut self, update: proto::TokenIssuerKeys) {
        let mut next = HashMap::with_capacity(update.issuers.len());
        for proto::IssuerKeys { issuer, jwks, .. } in update.issuers {
            let held = self.jwks.remove(&issuer);
            if let Some(entry) = key_set(&issuer, jwks, held) {
                next.insert(issuer, entry);
            }
        }
        self.jwks = next;
        let keys = self
            .jwks
            .iter()
            .map(|(issuer, (_, keys))| (issuer.clone(), Arc::clone(keys)));
        self.state.set_issuer_keys(keys.collect::<IssuerKeys>());
    }

    fn bundle(&self, bundle: proto::Bundle) {
        match self.checked_bundle(bundle) {
            Ok(true) => {
                let bundle = self.store.bundle();
                let authorities = bundle.x509_authorities().len();
                tracing::info!(sequence = bundle.sequence(), authorities, "bundle in force");
            }
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%error, "bundle refused; the last good one stays in force");
            }
        }
    }

    /// As keys are: what one trust domain publishes must not take away another's.
    fn federated_bundles(&self, update: proto::FederatedBundles) {
        match self
            .store
            .set_foreign_bundles(federated::next(update, &self.store.foreign_bundles()))
        {
            Ok(true) => {
                let foreign = self.store.foreign_bundles();
                let trust_domains: Vec<&str> = foreign.keys().map(TrustDomain::as_str).collect();
                tracing::info!(?trust_domains, "bundles of other trust domains in force");
            }
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%error, "bundles of other trust domains refused; the last good ones stay in force");
            }
        }
    }

    fn checked_bundle(&self, bundle: proto::Bundle) -> Result<bool, BundleRefused> {
        let bundle: Bundle = bundle.try_into()?;
        Ok(self.store.set_bundle(bundle)?)
    }
}

/// The keys of one issuer: as held if they did not change or the new ones cannot be read; none if it has none.
fn key_set(
    issuer: &str,
    jwks: String,
    held: Option<(String, Arc<KeySet>)>,
) -> Option<(String, Arc<KeySet>)> {
    if jwks.is_empty() {
        // The control plane has not fetched them since it started; the issuer did not take them back.
        if held.is_none() {
            tracing::warn!(
                issuer,
                "token issuer's keys are not known; its tokens cannot be verified"
            );
        }
        return held;
    }
    if held.as_ref().is_some_and(|(text, _)| *text == jwks) {
        return held;
    }
    match KeySet::parse(&jwks) {
        Ok(keys) => {
            tracing::info!(issuer, "token issuer's keys in force");
            Some((jwks, Arc::new(keys)))
        }
        Err(error) => {
            tracing::error!(issuer, %error, "token issuer's keys refused; the last good ones stay in force");
            held
        }
    }
}
