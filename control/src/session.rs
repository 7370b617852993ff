//! One sidecar's stream: what it asks for, what it is sent, and when it ends.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign_api::proto;
use countersign_api::proto::update::Update as Kind;
use countersign_api::proto::watch_request::Message;
use countersign_identity::tls::PeerIdentity;
use countersign_identity::{Bundle, SpiffeId};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::directory::{Directory, Workload};
use crate::metrics::UpdateLabels;
use crate::service::{MeshService, shortened};
use crate::sidecars::{Entry, ReportedStatus};
use crate::snapshot;
use crate::world::World;

/// How many services a sidecar may subscribe to.
const SUBSCRIPTIONS: usize = 10_000;
/// The longest sleep before the wall clock is looked at again: timers do not run while a machine is suspended.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// One stream.
pub(crate) struct Session {
    service: MeshService,
    peer: PeerIdentity,
    /// The workload's name in the directory.
    workload: String,
    subscribed: BTreeSet<String>,
    sent: Sent,
    entry: Entry,
}

/// What was last sent of each kind.
#[derive(Default)]
struct Sent {
    bundle: Option<proto::Bundle>,
    directory: Option<proto::Directory>,
    federated: Option<proto::FederatedBundles>,
    issuer_keys: Option<proto::TokenIssuerKeys>,
    policy: Option<proto::PolicySnapshot>,
}

impl Session {
    /// A stream of a caller that is admitted as this workload.
    pub(crate) fn new(
        service: MeshService,
        peer: PeerIdentity,
        workload: String,
        entry: Entry,
    ) -> Self {
        service.metrics.sidecars.inc();
        Self {
            service,
            peer,
            workload,
            subscribed: BTreeSet::new(),
            sent: Sent::default(),
            entry,
        }
    }

    /// Serves the stream until it ends, and returns why it did.
    pub(crate) async fn run(
        mut self,
        requests: Streaming<proto::WatchRequest>,
        updates: mpsc::Sender<proto::Update>,
    ) -> Status {
        let status = match self.serve(requests, updates).await {
            Err(status) => status,
            Ok(never) => match never {},
        };
        let (workload, reason) = (&self.workload, status.message());
        tracing::info!(workload, id = %self.peer.id(), reason, "sidecar disconnected");
        status
    }

    /// Sends what is new when there is room for it, so that a slow sidecar gets the latest and not a queue.
    async fn serve(
        &mut self,
        mut requests: Streaming<proto::WatchRequest>,
        updates: mpsc::Sender<proto::Update>,
    ) -> Result<Infallible, Status> {
        let mut world = self.service.world.clone();
        let mut stopping = self.service.stopping.clone();
        let expired = expiry(self.peer.not_after());
        tokio::pin!(expired);
        let mut believed = None;
        let mut may_be_new = true;
        loop {
            tokio::select! {
                () = &mut expired => {
                    let message = "the SVID of this connection has expired; connect again with the renewed one";
                    return Err(Status::unauthenticated(message));
                }
                _ = stopping.wait_for(|stopping| *stopping) => {
                    return Err(Status::unavailable("the control plane is stopping"));
                }
                request = requests.message() => {
                    let Some(request) = request? else {
                        return Err(Status::ok("the sidecar has ended the stream"));
                    };
                    self.take(request)?;
                    may_be_new = true;
                }
                changed = world.changed() => {
                    if changed.is_err() {
                        return Err(Status::unavailable("the control plane is stopping"));
                    }
                    may_be_new = true;
                }
                room = updates.reserve(), if may_be_new => {
                    let Ok(room) = room else {
                        return Err(Status::cancelled("the sidecar reads no more"));
                    };
                    let world = world.borrow_and_update().clone();
                    self.still_believe(&world, &mut believed)?;
                    match self.next(&world)? {
                        Some(update) => room.send(update),
                        None => may_be_new = false,
                    }
                }
            }
        }
    }

    /// When the bundle has changed, the caller's SVID must verify by the new one, too.
    fn still_believe(
        &self,
        world: &World,
        believed: &mut Option<Arc<Bundle>>,
    ) -> Result<(), Status> {
        let same = match (&world.bundle, &*believed) {
            (Some(bundle), Some(believed)) => Arc::ptr_eq(bundle, believed),
            (None, None) => true,
            _ => false,
        };
        if !same {
            self.peer
                .verify(&self.service.store, SystemTime::now())
                .map_err(|error| {
                    Status::unauthenticated(format!(
                        "the SVID of this connection is not believed any more: {error}"
                    ))
                })?;
            believed.clone_from(&world.bundle);
        }
        Ok(())
    }

    fn take(&mut self, request: proto::WatchRequest) -> Result<(), Status> {
        match request.message {
            Some(Message::Hello(_)) => {
                Err(Status::invalid_argument("expected one hello, got another"))
            }
            Some(Message::Subscribe(subscribe)) => {
                if subscribe.services.len() > SUBSCRIPTIONS {
                    let message = format!("expected at most {SUBSCRIPTIONS} services");
                    return Err(Status::resource_exhausted(message));
                }
                self.subscribed = subscribe.services.into_iter().collect();
                Ok(())
            }
            Some(Message::PolicyStatus(status)) => {
                let (workload, revision) = (&self.workload, &status.revision);
                let error = (!status.error.is_empty()).then(|| shortened(&status.error));
                if let Some(error) = &error {
                    tracing::warn!(workload, revision, %error, "a sidecar refused the policy");
                }
                self.entry.report(ReportedStatus {
                    revision: shortened(revision),
                    error,
                });
                Ok(())
            }
            // A message of a later version.
            None => Ok(()),
        }
    }

    /// The next kind that is not as it was sent. Policy comes last: what it needs is there before it.
    fn next(&mut self, world: &World) -> Result<Option<proto::Update>, Status> {
        let (directory, workload) = workload_of(world, self.peer.id(), &self.workload)?;
        if let Some(bundle) = &world.bundle {
            let bundle = proto::Bundle::from(&**bundle);
            if let Some(bundle) = renewed(&mut self.sent.bundle, bundle) {
                return Ok(self.update("bundle", Kind::Bundle(bundle)));
            }
        }
        let directory = snapshot::directory(directory, workload, &self.subscribed);
        if let Some(directory) = renewed(&mut self.sent.directory, directory) {
            return Ok(self.update("directory", Kind::Directory(directory)));
        }
        let Some(in_force) = &world.policy.in_force else {
            return Ok(None);
        };
        let federated = snapshot::federated_bundles(in_force, &world.federation);
        if let Some(federated) = renewed(&mut self.sent.federated, federated) {
            return Ok(self.update("federated_bundles", Kind::FederatedBundles(federated)));
        }
        let keys = snapshot::issuer_keys(in_force, &world.keys, workload);
        if let Some(keys) = renewed(&mut self.sent.issuer_keys, keys) {
            return Ok(self.update("issuer_keys", Kind::IssuerKeys(keys)));
        }
        let policy = snapshot::policy(in_force, workload).map_err(unwritable)?;
        if let Some(policy) = renewed(&mut self.sent.policy, policy) {
            return Ok(self.update("policy", Kind::Policy(policy)));
        }
        Ok(None)
    }

    fn update(&self, kind: &'static str, update: Kind) -> Option<proto::Update> {
        self.service
            .metrics
            .updates
            .get_or_create(&UpdateLabels { kind })
            .inc();
        Some(proto::Update {
            update: Some(update),
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.service.metrics.sidecars.dec();
    }
}

/// The workload of this name, if the caller is it.
pub(crate) fn workload_of<'a>(
    world: &'a World,
    caller: &SpiffeId,
    name: &str,
) -> Result<(&'a Directory, &'a Workload), Status> {
    let Some(directory) = &world.directory.in_force else {
        return Err(Status::unavailable(
            "the control plane has no directory of workloads yet",
        ));
    };
    let Some(workload) = directory.workloads.get(name) else {
        let message =
            format!("{caller} is not the workload {name:?}: the directory has no such workload");
        return Err(Status::permission_denied(message));
    };
    if workload.spiffe_id != *caller {
        let message = format!(
            "{caller} is not the workload {name:?}: that is {}",
            workload.spiffe_id
        );
        return Err(Status::permission_denied(message));
    }
    Ok((directory, workload))
}

/// `new`, if it is not what was sent before.
fn renewed<T: Clone + PartialEq>(sent: &mut Option<T>, new: T) -> Option<T> {
    if sent.as_ref() == Some(&new) {
        return None;
    }
    *sent = Some(new.clone());
    Some(new)
}

fn unwritable(error: serde_json::Error) -> Status {
    Status::internal(format!("the policy cannot be written as JSON: {error}"))
}

/// Ends at a time of the wall clock.
async fn expiry(at: SystemTime) {
    while let Ok(left) = at.duration_since(SystemTime::now())
        && !left.is_zero()
    {
        tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
    }
}
