use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign_identity::TrustDomain;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::policy::compile_texts;
use crate::world::World;

const JWKS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"k1","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
const PATIENCE: Duration = Duration::from_secs(30);

/// A server of a key set, and how often it was asked.
async fn key_server() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{JWKS}",
                JWKS.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, asked)
}

/// A world whose policy has one token issuer for each of these names and specs.
fn with_issuers(world: &WorldSender, issuers: &[(&str, &str)]) {
    let texts = issuers.iter().map(|(name, spec)| {
        format!(
            "apiVersion: countersign.dev/v1\nkind: TokenIssuer\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{audiences: [shop], {spec}}}\n"
        )
    });
    let text = texts.collect::<Vec<_>>().join("---\n");
    let trust_domain = TrustDomain::parse("shop.example").unwrap();
    let in_force = compile_texts(&trust_domain, "r1", &[("tokens.yaml", &text)]).unwrap();
    world.send_modify(|world| world.policy.in_force = Some(Arc::new(in_force)));
}

async fn until(world: &WorldSender, condition: impl FnMut(&KeyTable) -> bool) -> Arc<KeyTable> {
    let mut condition = condition;
    let mut seen = world.subscribe();
    let reached = seen.wait_for(|world| condition(&world.keys));
    let reached = tokio::time::timeout(PATIENCE, reached).await;
    Arc::clone(&reached.expect("reached in time").unwrap().keys)
}

fn endpoint(issuer: &str) -> IssuerEndpoint {
    IssuerEndpoint {
        allow_http: true,
        allow_private_addresses: true,
        ..IssuerEndpoint::new(issuer)
    }
}

#[tokio::test]
async fn keys_are_followed_as_long_as_policy_names_their_issuer() {
    let (address, asked) = key_server().await;
    let world = WorldSender::new(World::default());
    let following = tokio::spawn(follow(
        vec![endpoint("https://login.example")],
        world.clone(),
    ));
    let spec = format!("issuer: \"https://login.example\", jwksUri: \"http://{address}/keys\"");
    // Two documents of one issuer: its keys are fetched once.
    with_issuers(&world, &[("one", &spec), ("two", &spec)]);
    let keys = until(&world, |keys| keys.values().any(|keys| keys.jwks.is_some())).await;
    let place = KeyPlace {
        issuer: "https://login.example".to_owned(),
        jwks_uri: Some(format!("http://{address}/keys")),
    };
    assert_eq!(keys.keys().collect::<Vec<_>>(), [&place]);
    assert!(
        keys[&place].jwks.as_ref().unwrap().contains("k1") && keys[&place].fetched_at.is_some()
    );
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    // A change of policy that leaves the issuer as it is fetches nothing.
    with_issuers(
        &world,
        &[("one", &spec), ("other", "issuer: \"https://127.0.0.1:1\"")],
    );
    until(&world, |keys| keys.len() == 2).await;
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    with_issuers(&world, &[]);
    assert!(until(&world, KeyTable::is_empty).await.is_empty());
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    following.abort();
}

#[tokio::test]
async fn configuration_says_how_an_issuer_is_reached() {
    let (address, _) = key_server().await;
    let world = WorldSender::new(World::default());
    let url = Url::parse(&format!("http://{address}/keys")).unwrap();
    let reached = IssuerEndpoint {
        jwks_uri: Some(url),
        ..endpoint("https://login.example")
    };
    let following = tokio::spawn(follow(vec![reached], world.clone()));
    with_issuers(&world, &[("corp", "issuer: \"https://login.example\"")]);
    until(&world, |keys| keys.values().any(|keys| keys.jwks.is_some())).await;
    following.abort();
}

#[tokio::test]
async fn keys_that_cannot_be_fetched_are_told_and_keys_in_the_policy_are_not_fetched() {
    let (address, asked) = key_server().await;
    let world = WorldSender::new(World::default());
    let following = tokio::spawn(follow(Vec::new(), world.clone()));
    // Nothing is configured for the issuer, so neither http nor a loopback address is allowed.
    let refused = format!("issuer: \"https://login.example\", jwksUri: \"https://{address}/keys\"");
    let inline = format!("issuer: \"https://inline.example\", jwks: {JWKS}");
    with_issuers(&world, &[("refused", &refused), ("inline", &inline)]);
    let keys = until(&world, |keys| {
        keys.values().any(|keys| keys.error.is_some())
    })
    .await;
    assert_eq!(keys.len(), 1);
    let error = keys.values().next().unwrap().error.as_ref().unwrap();
    assert!(error.contains("allowPrivateAddresses"), "{error}");
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    following.abort();
}
