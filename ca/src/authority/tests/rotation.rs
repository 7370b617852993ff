//! The steps of a rotation, in every order.

use proptest::prelude::*;

use super::*;
use crate::authority::rotation::NOTICE;
use crate::authority::state::{Phase, State};
use crate::authority::step::StepError;

fn authorities(directory: &Path) -> Authorities {
    Authorities::new(directory, &shop(), &config(directory), None).unwrap()
}

fn phases(state: &State) -> Vec<Phase> {
    state.roots.iter().map(|root| root.phase).collect()
}

fn step_error(error: AuthorityError) -> StepError {
    match error {
        AuthorityError::Step(error) => error,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_root_is_replaced_and_everything_verifies_at_every_step() {
    let directory = started().await;
    let (data, hour) = (directory.path(), Duration::from_hours(1));
    let (steps, running) = (authorities(data), open(data).await.unwrap());
    let old = issue(&running, now()).await;
    let first = running.bundle();

    assert!(steps.prepare(None, now()).await.unwrap().changed);
    assert!(running.reload().await.unwrap(), "a running CA notices");
    let prepared = running.bundle();
    assert!(prepared.sequence() > first.sequence());
    assert_eq!(prepared.x509_authorities().len(), 2);
    assert_eq!(issue(&running, now()).await.chain()[1], old.chain()[1]);
    assert!(!steps.prepare(None, now()).await.unwrap().changed);

    let error = step_error(steps.activate(false, now() + hour / 2).await.unwrap_err());
    assert!(matches!(error, StepError::TooEarly { .. }), "{error}");
    let switch = now() + hour;
    assert!(steps.activate(false, switch).await.unwrap().changed);
    assert!(!steps.activate(false, switch).await.unwrap().changed);
    assert!(running.reload().await.unwrap());
    let new = issue(&running, switch).await;
    for svid in [&old, &new] {
        svid.verify(&prepared, switch).unwrap();
    }
    assert!(new.verify(&first, switch).is_err());

    let error = step_error(steps.revoke(None, false, switch).await.unwrap_err());
    assert!(error.to_string().contains("taint it first"), "{error}");
    assert!(steps.taint(None, switch).await.unwrap().changed);
    assert!(!steps.taint(None, switch).await.unwrap().changed);
    assert!(running.reload().await.unwrap());
    let tainted = running.bundle();
    assert!(tainted.sequence() > prepared.sequence());
    assert!(tainted.is_tainted(&old, switch) && !tainted.is_tainted(&new, switch));
    old.verify(&tainted, switch).unwrap();

    let safe = switch + NOTICE + DAY;
    let error = step_error(steps.revoke(None, false, safe - hour).await.unwrap_err());
    assert!(
        matches!(error, StepError::TooEarly { safe_at, .. } if safe_at == safe),
        "{error}"
    );
    assert!(steps.revoke(None, false, safe).await.unwrap().changed);
    assert!(!steps.revoke(None, false, safe).await.unwrap().changed);
    assert!(running.reload().await.unwrap());
    let last = running.bundle();
    assert!(last.sequence() > tainted.sequence());
    assert!(old.verify(&last, switch).is_err());
    new.verify(&last, switch).unwrap();

    running.tidy(safe + Duration::from_mins(2)).await.unwrap();
    let state = steps.state().await.unwrap();
    assert_eq!(phases(&state), [Phase::Revoked, Phase::Active]);
    assert_eq!(state.roots[0].key, None, "its private key is removed");
    key_file(data, "root");
}

#[tokio::test]
async fn a_prepared_root_can_be_abandoned() {
    let directory = started().await;
    let steps = authorities(directory.path());
    let running = open(directory.path()).await.unwrap();
    let svid = issue(&running, now()).await;
    assert!(!steps.abandon(now()).await.unwrap().changed);
    steps.prepare(None, now()).await.unwrap();
    assert!(steps.abandon(now()).await.unwrap().changed);
    assert!(!steps.abandon(now()).await.unwrap().changed);
    running.reload().await.unwrap();
    assert_eq!(running.bundle().x509_authorities().len(), 1);
    svid.verify(&running.bundle(), now()).unwrap();
    let state = steps.state().await.unwrap();
    assert_eq!(phases(&state), [Phase::Active, Phase::Abandoned]);
    assert!(
        !steps.activate(true, now()).await.unwrap().changed,
        "nothing is prepared"
    );
    // And another one can be prepared.
    assert!(steps.prepare(None, now()).await.unwrap().changed);
}

#[tokio::test]
async fn what_is_asked_of_the_wrong_root_is_refused() {
    let directory = started().await;
    let steps = authorities(directory.path());
    let active = steps.state().await.unwrap().roots[0].id.clone();
    let error = step_error(steps.taint(Some(&active), now()).await.unwrap_err());
    assert!(matches!(error, StepError::WrongPhase { .. }), "{error}");
    let error = step_error(steps.revoke(Some(&active), true, now()).await.unwrap_err());
    assert!(matches!(error, StepError::WrongPhase { .. }), "{error}");
    let error = step_error(steps.taint(Some("nobody"), now()).await.unwrap_err());
    assert_eq!(error, StepError::Unknown("nobody".to_owned()));
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Prepare,
    Activate(bool),
    Taint,
    Revoke(bool),
    Abandon,
    Restart,
    Wait(u32),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        Just(Act::Prepare),
        any::<bool>().prop_map(Act::Activate),
        Just(Act::Taint),
        any::<bool>().prop_map(Act::Revoke),
        Just(Act::Abandon),
        Just(Act::Restart),
        (0..72_u32).prop_map(Act::Wait),
    ];
    prop::collection::vec(act, 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever is done in whatever order: there is one root that signs, what is issued verifies by the bundle, the
    /// sequence never falls and grows with every change of the bundle, and what is not forced never takes away the root of
    /// an SVID that is valid.
    #[test]
    fn no_order_of_steps_leaves_the_mesh_without_trust(acts in acts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let directory = started().await;
            let steps = authorities(directory.path());
            let mut running = open(directory.path()).await.unwrap();
            let (mut now, mut before) = (now(), running.bundle());
            let mut issued: Vec<X509Svid> = Vec::new();
            let mut forced = false;
            for act in acts {
                let result = match act {
                    Act::Prepare => steps.prepare(None, now).await.map(|_| ()),
                    Act::Activate(force) => {
                        forced |= force;
                        steps.activate(force, now).await.map(|_| ())
                    }
                    Act::Taint => steps.taint(None, now).await.map(|_| ()),
                    Act::Revoke(force) => {
                        forced |= force;
                        steps.revoke(None, force, now).await.map(|_| ())
                    }
                    Act::Abandon => steps.abandon(now).await.map(|_| ()),
                    Act::Restart => {
                        running = open_at(directory.path(), now).await.unwrap();
                        Ok(())
                    }
                    Act::Wait(hours) => {
                        now += Duration::from_hours(hours.into());
                        running.renew_intermediate_if_due(now).await.unwrap();
                        running.tidy(now).await.map(|_| ())
                    }
                };
                assert!(matches!(result, Ok(()) | Err(AuthorityError::Step(_))), "{result:?}");
                running.reload().await.unwrap();
                let state = steps.state().await.unwrap();
                assert_eq!(phases(&state).iter().filter(|phase| **phase == Phase::Active).count(), 1);
                let bundle = running.bundle();
                // Token keys change at a restart, if they are due.
                let parts = |bundle: &Bundle| {
                    let roots = bundle.x509_authorities().to_vec();
                    let keys = [bundle.jwt_keys(), bundle.wit_keys()].map(|keys| keys.cloned());
                    (roots, bundle.tainted().to_vec(), keys)
                };
                if parts(&bundle) == parts(&before) {
                    assert_eq!(bundle.sequence(), before.sequence());
                } else {
                    assert!(bundle.sequence() > before.sequence());
                }
                before = Arc::clone(&bundle);
                let svid = issue(&running, now).await;
                svid.verify(&bundle, now).unwrap();
                assert!(!bundle.is_tainted(&svid, now));
                issued.push(svid);
                issued.retain(|svid| svid.not_after() > now);
                if !forced {
                    for svid in &issued {
                        svid.verify(&bundle, now).unwrap();
                    }
                }
            }
        });
    }
}
