use countersign_identity::testing::TestAuthority;

use super::*;
use crate::proto;
use crate::test_ca::{
    Asked, Behaviour, HOUR, JOIN_TOKEN, Serving, TestCa, bundle, orders, store_with, td,
};

fn join_token() -> Evidence {
    Evidence::JoinToken(Zeroizing::new(JOIN_TOKEN.to_owned()))
}

fn asked_by_token() -> Asked {
    Asked::JoinToken(JOIN_TOKEN.to_owned())
}

/// A CA that runs, and a client of it with a join token.
struct Setup {
    ca: Arc<TestCa>,
    serving: Serving,
    store: Arc<IdentityStore>,
    client: SvidClient,
}

impl Setup {
    async fn new() -> Self {
        Self::with(TestCa::new(), join_token()).await
    }

    async fn with(ca: Arc<TestCa>, evidence: Evidence) -> Self {
        let serving = Serving::start(&ca).await;
        let store = ca.new_store();
        let address = serving.address.to_string();
        let client = SvidClient::new(Arc::clone(&store), address, evidence);
        Self {
            ca,
            serving,
            store,
            client,
        }
    }

    fn behave(&self, behaviour: Behaviour) {
        *self.ca.behaviour.lock().unwrap() = behaviour;
    }
}

#[tokio::test]
async fn first_by_the_join_token_then_by_the_svid_each_time_with_a_new_key() {
    let mut setup = Setup::new().await;
    setup.client.obtain().await.unwrap();
    let first = setup.store.svid().unwrap();
    assert_eq!(*first.id(), orders());
    first
        .verify(&setup.ca.authority.bundle().unwrap(), SystemTime::now())
        .unwrap();

    setup.client.obtain().await.unwrap();
    let second = setup.store.svid().unwrap();
    assert_eq!(second.id(), first.id());
    assert_ne!(second.thumbprint(), first.thumbprint());
    assert_eq!(
        setup.ca.asked(),
        [asked_by_token(), Asked::Renewal(orders())]
    );
}

#[tokio::test]
async fn the_bundle_that_comes_with_an_svid_replaces_the_store_s() {
    let mut setup = Setup::new().await;
    let other = TestAuthority::new(&td()).unwrap();
    let both = vec![setup.ca.authority.root().clone(), other.root().clone()];
    let both = Bundle::new(td(), both, 7).unwrap();
    setup.behave(Behaviour {
        bundle: Some((&both).into()),
        ..Behaviour::default()
    });
    setup.client.obtain().await.unwrap();
    assert_eq!(*setup.store.bundle(), both);
}

#[tokio::test]
async fn after_a_change_of_root_the_svid_may_be_of_the_new_one() {
    let mut setup = Setup::new().await;
    let new = TestAuthority::new(&td()).unwrap();
    let bundle = Some((&bundle(&new, 2)).into());
    setup.behave(Behaviour {
        signer: Some(new),
        bundle,
        ..Behaviour::default()
    });
    setup.client.obtain().await.unwrap();
    assert!(setup.store.svid().is_some());
}

#[tokio::test]
async fn an_impostor_is_not_even_shown_the_token() {
    let believed = TestAuthority::new(&td()).unwrap();
    let ca_id = spiffe::system::ca(&td());
    // One is a workload that is no CA, the other calls itself the CA but is certified by another.
    let workload = store_with(&believed, &believed, &orders());
    let forger = TestAuthority::new(&td()).unwrap();
    let forged = store_with(&forger, &forger, &ca_id);
    let bundle = believed.bundle().unwrap();
    for impostor in [
        TestCa::with(believed, workload),
        TestCa::with(forger, forged),
    ] {
        let serving = Serving::start(&impostor).await;
        let store = IdentityStore::new(bundle.clone());
        let address = serving.address.to_string();
        let mut client = SvidClient::new(Arc::clone(&store), address, join_token());
        let error = client.obtain().await.unwrap_err();
        assert!(
            matches!(error, SvidClientError::Unavailable { .. }),
            "{error}"
        );
        assert_eq!(impostor.asked(), []);
        assert_eq!(store.svid(), None);
    }
}

#[tokio::test]
async fn what_does_not_verify_is_not_taken_and_what_was_there_stays() {
    let mut setup = Setup::new().await;
    setup.client.obtain().await.unwrap();
    let held = setup.store.svid();

    let forger = TestAuthority::new(&td()).unwrap();
    setup.behave(Behaviour {
        signer: Some(forger),
        ..Behaviour::default()
    });
    let error = setup.client.obtain().await.unwrap_err();
    assert!(
        matches!(
            error,
            SvidClientError::Svid(SvidError::UnknownAuthority { .. })
        ),
        "{error}"
    );

    let public_key = SvidKey::generate().unwrap().public_key_der().to_vec();
    setup.behave(Behaviour {
        public_key: Some(public_key),
        ..Behaviour::default()
    });
    let error = setup.client.obtain().await.unwrap_err();
    assert!(
        matches!(error, SvidClientError::Store(StoreError::KeyMismatch)),
        "{error}"
    );

    let other = SpiffeId::for_workload(&td(), "shop", "wallet").unwrap();
    setup.behave(Behaviour {
        id: Some(other.clone()),
        ..Behaviour::default()
    });
    let error = setup.client.obtain().await.unwrap_err();
    let expected = (orders(), other);
    assert!(
        matches!(&error, SvidClientError::OtherIdentity { held, issued } if (held, issued) == (&expected.0, &expected.1)),
        "{error}"
    );

    let empty = proto::Bundle {
        trust_domain: td().to_string(),
        ..proto::Bundle::default()
    };
    setup.behave(Behaviour {
        bundle: Some(empty),
        ..Behaviour::default()
    });
    let error = setup.client.obtain().await.unwrap_err();
    assert!(matches!(error, SvidClientError::Bundle(_)), "{error}");

    assert_eq!(setup.store.svid(), held);
}

#[tokio::test]
async fn a_bundle_of_another_trust_domain_is_not_taken() {
    let mut setup = Setup::new().await;
    let mut bundle = proto::Bundle::from(&setup.ca.authority.bundle().unwrap());
    bundle.trust_domain = "other.example".to_owned();
    setup.behave(Behaviour {
        bundle: Some(bundle),
        ..Behaviour::default()
    });
    let error = setup.client.obtain().await.unwrap_err();
    let other = matches!(
        error,
        SvidClientError::Store(StoreError::OtherTrustDomain { .. })
    );
    assert!(other, "{error}");
    assert_eq!(*setup.store.bundle().trust_domain(), td());
}

#[tokio::test]
async fn a_refusal_is_told_in_the_ca_s_words() {
    let wrong = Evidence::JoinToken(Zeroizing::new("guessed-token".to_owned()));
    let mut setup = Setup::with(TestCa::new(), wrong).await;
    let error = setup.client.obtain().await.unwrap_err();
    assert!(matches!(error, SvidClientError::Refused { .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains("the join token is not valid"), "{message}");
    assert!(
        message.contains(&setup.serving.address.to_string()),
        "{message}"
    );
    assert!(!message.contains("guessed"), "{message}");
}

#[tokio::test]
async fn a_token_s_svid_that_has_expired_needs_new_evidence() {
    let mut setup = Setup::new().await;
    setup.client.obtain().await.unwrap();
    let now = SystemTime::now();
    let (expired, key) = setup
        .ca
        .authority
        .svid(&orders(), now - HOUR * 2..=now - HOUR)
        .unwrap();
    setup.store.set_svid(expired, key).unwrap();
    let error = setup.client.obtain().await.unwrap_err();
    assert!(matches!(error, SvidClientError::NoEvidence), "{error}");
}

#[tokio::test]
async fn a_jwt_file_is_read_when_it_is_needed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token.jwt");
    let mut setup = Setup::with(TestCa::new(), Evidence::JwtFile(path.clone())).await;

    let error = setup.client.obtain().await.unwrap_err();
    assert!(matches!(error, SvidClientError::JwtFile { .. }), "{error}");
    assert!(error.to_string().contains("token.jwt"), "{error}");

    std::fs::write(&path, "a.b.c\n").unwrap();
    setup.client.obtain().await.unwrap();
    // While the SVID is good, it is enough.
    setup.client.obtain().await.unwrap();
    let now = SystemTime::now();
    let (expired, key) = setup
        .ca
        .authority
        .svid(&orders(), now - HOUR * 2..=now - HOUR)
        .unwrap();
    setup.store.set_svid(expired, key).unwrap();
    std::fs::write(&path, "d.e.f").unwrap();
    setup.client.obtain().await.unwrap();
    let asked = [
        Asked::Jwt("a.b.c".into()),
        Asked::Renewal(orders()),
        Asked::Jwt("d.e.f".into()),
    ];
    assert_eq!(setup.ca.asked(), asked);

    std::fs::write(&path, "x".repeat(70_000)).unwrap();
    let (expired, key) = setup
        .ca
        .authority
        .svid(&orders(), now - HOUR * 2..=now - HOUR)
        .unwrap();
    setup.store.set_svid(expired, key).unwrap();
    let error = setup.client.obtain().await.unwrap_err();
    assert!(
        error.to_string().contains("more than 65536 bytes"),
        "{error}"
    );
}

#[tokio::test]
async fn keeping_fresh_starts_with_the_first_one_and_tries_until_it_has_it() {
    let setup = Setup::new().await;
    setup.behave(Behaviour {
        unavailable: 1,
        ..Behaviour::default()
    });
    let mut changes = setup.store.changes();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let keeping = tokio::spawn(setup.client.keep_fresh(async { drop(stopped.await) }));
    changes
        .wait_for(|_| setup.store.svid().is_some())
        .await
        .unwrap();
    drop(stop);
    keeping.await.unwrap();
    assert_eq!(setup.ca.asked(), [asked_by_token()]);
}

#[tokio::test]
async fn past_half_its_life_an_svid_is_renewed() {
    let mut setup = Setup::new().await;
    // Two of its three hours are over.
    setup.behave(Behaviour {
        age: HOUR * 2,
        ..Behaviour::default()
    });
    setup.client.obtain().await.unwrap();
    let old = setup.store.svid().unwrap();
    setup.behave(Behaviour::default());
    let mut changes = setup.store.changes();
    let keeping = tokio::spawn(setup.client.keep_fresh(std::future::pending()));
    let renewed = |_: &u64| {
        setup
            .store
            .svid()
            .is_some_and(|svid| svid.serial() != old.serial())
    };
    changes.wait_for(renewed).await.unwrap();
    assert_eq!(
        setup.ca.asked(),
        [asked_by_token(), Asked::Renewal(orders())]
    );
    keeping.abort();
}

#[test]
fn debug_shows_no_token() {
    let ca = TestCa::new();
    let client = SvidClient::new(ca.new_store(), "127.0.0.1:1".to_owned(), join_token());
    let shown = format!("{client:?}");
    assert!(!shown.contains(JOIN_TOKEN), "{shown}");
}

#[test]
fn bundles_go_there_and_back() {
    let authority = TestAuthority::new(&td()).unwrap();
    let bundle = bundle(&authority, 3);
    let message = proto::Bundle::from(&bundle);
    assert_eq!(Bundle::try_from(message.clone()).unwrap(), bundle);
    let bad = proto::Bundle {
        trust_domain: "spiffe://td".into(),
        ..message
    };
    assert!(matches!(
        Bundle::try_from(bad),
        Err(InvalidBundle::TrustDomain(_))
    ));
}
