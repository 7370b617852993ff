//! Against a real `https_spiffe` endpoint on loopback.

use std::sync::Mutex;

use countersign_identity::testing::TestAuthority;
use countersign_identity::tls::{self, ClientAuth};
use countersign_identity::{IdentityStore, SpiffeId};
use countersign_policy::document::EndpointProfile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::policy::compile_texts;

const PATIENCE: Duration = Duration::from_secs(30);
const ID: &str = "spiffe://partner.example/bundle";

fn partner() -> TrustDomain {
    TrustDomain::parse("partner.example").unwrap()
}

fn authority() -> TestAuthority {
    TestAuthority::new(&partner()).unwrap()
}

fn bundle(of: &[&TestAuthority], sequence: u64) -> Bundle {
    let roots = of.iter().map(|authority| authority.root().clone());
    Bundle::new(partner(), roots.collect(), sequence).unwrap()
}

fn document(bundle: &Bundle) -> String {
    let document = SpiffeBundle {
        bundle: bundle.clone(),
        refresh_hint: Some(Duration::from_mins(2)),
    };
    document.to_json().unwrap()
}

/// A bundle endpoint whose SVID and answer a test chooses.
struct Endpoint {
    url: String,
    store: Arc<IdentityStore>,
    answer: Arc<Mutex<(u16, String)>>,
    task: AbortHandle,
}

impl Endpoint {
    async fn start(authority: &TestAuthority, document: String) -> Self {
        let store = IdentityStore::new(authority.bundle().unwrap());
        let config = tls::server_config(&store, ClientAuth::Optional, &[]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new((200, document)));
        let answers = Arc::clone(&answer);
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (config, answers) = (Arc::clone(&config), Arc::clone(&answers));
                tokio::spawn(async move {
                    let acceptor = tokio_rustls::TlsAcceptor::from(config);
                    let Ok(mut stream) = acceptor.accept(tcp).await else {
                        return;
                    };
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    let (status, text) = answers.lock().unwrap().clone();
                    let answer = format!(
                        "HTTP/1.1 {status} X\r\nlocation: https://127.0.0.1:1/\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
                        text.len()
                    );
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    let _ = stream.shutdown().await;
                });
            }
        });
        let endpoint = Self {
            url,
            store,
            answer,
            task: task.abort_handle(),
        };
        endpoint.present(authority, ID);
        endpoint
    }

    fn present(&self, authority: &TestAuthority, id: &str) {
        let hour = Duration::from_secs(3600);
        let validity = SystemTime::now() - hour..=SystemTime::now() + hour;
        let id = SpiffeId::parse(id).unwrap();
        let (svid, key) = authority.svid(&id, validity).unwrap();
        self.store.set_svid(svid, key).unwrap();
    }

    fn answer(&self, status: u16, text: impl Into<String>) {
        *self.answer.lock().unwrap() = (status, text.into());
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn reach(bundle: Option<Bundle>) -> Reach {
    Reach {
        allow_private_addresses: true,
        bundle,
        ..Reach::new(partner())
    }
}

/// A follower that a test makes attempts with.
struct Attempts {
    _directory: tempfile::TempDir,
    follower: Follower,
    schedule: Schedule,
}

impl Attempts {
    fn new(url: &str, reach: Reach) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let id = SpiffeId::parse(ID).unwrap();
        let follower = Follower {
            trust_domain: partner(),
            endpoint: BundleEndpoint {
                url: url.to_owned(),
                profile: EndpointProfile::HttpsSpiffe(id),
            },
            reach,
            kept: KeptBundles::new(directory.path()),
            world: WorldSender::new(World::default()),
            metrics: FederationMetrics::default(),
        };
        follower.restore();
        Self {
            _directory: directory,
            follower,
            schedule: Schedule::default(),
        }
    }

    async fn next(&mut self) -> (Duration, Foreign) {
        let wait = self.follower.attempt(&mut self.schedule).await;
        (wait, self.follower.known())
    }

    /// An attempt that fails: why, and that nothing else has changed.
    async fn refused(&mut self) -> String {
        let before = self.follower.known();
        let (wait, known) = self.next().await;
        assert!(wait <= Duration::from_secs(64), "{wait:?}");
        assert_eq!(known.bundle, before.bundle);
        assert_eq!(known.fetched_at, before.fetched_at);
        known.error.unwrap()
    }

    fn kept(&self) -> Option<Bundle> {
        self.follower.kept.load(&partner()).map(|kept| kept.bundle)
    }
}

#[tokio::test]
async fn a_rotation_is_followed_and_what_is_not_good_changes_nothing() {
    let (old, new) = (authority(), authority());
    let first = bundle(&[&old], 3);
    let endpoint = Endpoint::start(&old, document(&first)).await;
    let mut attempts = Attempts::new(&endpoint.url, reach(Some(bundle(&[&old], 0))));
    // The configured one is in force before anything was fetched.
    let configured = attempts.follower.known();
    assert_eq!(
        (configured.bundle.is_some(), configured.fetched_at),
        (true, None)
    );
    let (wait, known) = attempts.next().await;
    assert_eq!(known.error, None);
    assert_eq!(known.bundle.as_deref(), Some(&first));
    assert!(known.fetched_at.is_some());
    assert_eq!(attempts.kept(), Some(first.clone()));
    assert!(
        (108..=120).contains(&wait.as_secs()),
        "the hint is followed: {wait:?}"
    );

    for (status, text, told) in [
        (200, document(&bundle(&[&new], 2)), "goes back from 3 to 2"),
        (200, r#"{"keys":[]}"#.to_owned(), "no X.509 authority"),
        (200, "<html>".to_owned(), "not valid JSON"),
        (200, " ".repeat(2 << 20), "more than 1048576 bytes"),
        (404, String::new(), "answered 404"),
        (302, String::new(), "redirects are not followed"),
    ] {
        endpoint.answer(status, text);
        let error = attempts.refused().await;
        assert!(error.contains(told), "{error}");
    }

    // Both roots are published before the new one signs.
    let both = bundle(&[&old, &new], 4);
    endpoint.answer(200, document(&both));
    assert_eq!(attempts.next().await.1.bundle.as_deref(), Some(&both));
    endpoint.present(&new, ID);
    let last = bundle(&[&new], 5);
    endpoint.answer(200, document(&last));
    assert_eq!(attempts.next().await.1.bundle.as_deref(), Some(&last));
    assert_eq!(attempts.kept(), Some(last));
}

#[tokio::test]
async fn an_endpoint_is_verified_by_the_bundle_that_is_held_and_by_its_id() {
    let (known, stranger) = (authority(), authority());
    let endpoint = Endpoint::start(&known, document(&bundle(&[&known], 1))).await;
    let held = || bundle(&[&known], 1);
    let mut without = Attempts::new(&endpoint.url, reach(None));
    let error = without.refused().await;
    assert!(error.contains("bundleFile"), "{error}");

    let mut attempts = Attempts::new(&endpoint.url, reach(Some(held())));
    endpoint.present(&stranger, ID);
    let error = attempts.refused().await;
    assert!(error.contains("UnknownIssuer"), "{error}");
    endpoint.present(&known, "spiffe://partner.example/other");
    let error = attempts.refused().await;
    assert!(error.contains("was expected"), "{error}");
    endpoint.present(&known, ID);
    assert_eq!(attempts.next().await.1.error, None);

    let public_only = Reach {
        allow_private_addresses: false,
        ..reach(Some(held()))
    };
    let error = Attempts::new(&endpoint.url, public_only).refused().await;
    assert!(error.contains("allowPrivateAddresses"), "{error}");
}

fn in_force(world: &WorldSender, url: Option<&str>) {
    let text = url.map_or_else(String::new, |url| {
        format!(
            "apiVersion: countersign.dev/v1\nkind: TrustDomain\nmetadata: {{name: partner, namespace: countersign-system}}\n\
             spec: {{trustDomain: partner.example, bundleEndpoint: {{url: '{url}', profile: https_spiffe, spiffeId: '{ID}'}}}}\n"
        )
    });
    let trust_domain = TrustDomain::parse("shop.example").unwrap();
    let in_force = compile_texts(&trust_domain, "r1", &[("partner.yaml", &text)]).unwrap();
    world.send_modify(|world| world.policy.in_force = Some(Arc::new(in_force)));
}

async fn until(world: &WorldSender, is_so: impl Fn(&FederationTable) -> bool) -> FederationTable {
    let mut seen = world.subscribe();
    let reached = seen.wait_for(|world| is_so(&world.federation));
    let reached = tokio::time::timeout(PATIENCE, reached).await.unwrap();
    (*reached.unwrap().federation).clone()
}

#[tokio::test]
async fn the_last_good_bundle_survives_a_restart_without_the_network_and_goes_with_the_policy() {
    let authority = authority();
    let endpoint = Endpoint::start(&authority, document(&bundle(&[&authority], 7))).await;
    let url = endpoint.url.clone();
    let directory = tempfile::tempdir().unwrap();
    let start = |bundle| {
        let world = WorldSender::new(World::default());
        let metrics = FederationMetrics::default();
        let federation = Federation::new(
            vec![reach(bundle)],
            directory.path(),
            world.clone(),
            metrics,
        );
        (world, tokio::spawn(federation.follow()))
    };
    let (world, following) = start(Some(bundle(&[&authority], 0)));
    in_force(&world, Some(&url));
    let fetched = until(&world, |table| {
        table.values().any(|known| known.fetched_at.is_some())
    })
    .await;
    following.abort();
    drop(endpoint);

    // The file of the first bundle is gone, the endpoint is away: what was fetched is there.
    let (world, following) = start(None);
    in_force(&world, Some(&url));
    let table = until(&world, |table| {
        table.values().any(|known| known.error.is_some())
    })
    .await;
    let (before, after) = (&fetched[&partner()], &table[&partner()]);
    assert_eq!(after.bundle, before.bundle);
    assert_eq!(after.fetched_at, before.fetched_at);
    assert_eq!(after.bundle.as_ref().unwrap().sequence(), 7);

    in_force(&world, None);
    until(&world, FederationTable::is_empty).await;
    following.abort();
    let (world, following) = start(None);
    in_force(&world, Some(&url));
    let table = until(&world, |table| {
        table.values().any(|known| known.error.is_some())
    })
    .await;
    assert_eq!(table[&partner()].bundle, None);
    following.abort();
}
