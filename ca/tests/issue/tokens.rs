//! Tokens, and what is published for others to verify them by.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use countersign_api::proto::{GetBundleRequest, IssueJwtRequest, IssueWitRequest};
use countersign_api::svid::{Evidence, SvidClient};
use countersign_api::tokens::TokenClient;
use countersign_identity::bundle::SpiffeBundle;
use countersign_identity::jwt::svid;
use countersign_identity::tls::{ExpectedPeer, client_config, server_name};
use countersign_identity::{Bundle, IdentityStore, SvidKey, spiffe};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Code;

use super::{ORDERS, client};
use crate::support::{Ca, Home, shop};

const ISSUER: &str = "https://ids.shop.example";

/// A store with an SVID for the orders service.
async fn orders(home: &Home, ca: &Ca) -> Arc<IdentityStore> {
    let store = home.store();
    let evidence = Evidence::JoinToken(home.join_token(ORDERS).into());
    let mut svids = SvidClient::new(Arc::clone(&store), ca.address.clone(), evidence);
    svids.obtain().await.unwrap();
    store
}

fn audience() -> Vec<String> {
    vec!["db".to_owned()]
}

/// A certificate of its own for `ids.shop.example`, and the configuration that names it.
fn web_certificate(directory: &Path) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["ids.shop.example".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let (chain, private) = (directory.join("web.pem"), directory.join("web.key.pem"));
    std::fs::write(&chain, certificate.pem()).unwrap();
    std::fs::write(&private, key.serialize_pem()).unwrap();
    format!(
        "{{chainFile: {}, keyFile: {}}}",
        chain.display(),
        private.display()
    )
}

/// GET, over TLS with this configuration.
async fn get(
    address: &str,
    name: ServerName<'static>,
    tls: Arc<rustls::ClientConfig>,
    path: &str,
) -> (String, String) {
    let tcp = TcpStream::connect(address).await.unwrap();
    let mut stream = TlsConnector::from(tls).connect(name, tcp).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: ids.shop.example\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A server that closes without a TLS alert has said all the same what it said.
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn web_tls(certificate: &Path) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    let pem = std::fs::read(certificate).unwrap();
    roots
        .add(rustls_pki_types::CertificateDer::from_pem_slice(&pem).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

#[tokio::test]
async fn a_jwt_svid_is_verified_by_the_bundle_and_by_discovery() {
    let web = tempfile::tempdir().unwrap();
    let certificate = web_certificate(web.path());
    let home = Home::new(&format!(
        "oidc: {{issuer: '{ISSUER}', listen: '127.0.0.1:0', certificate: {certificate}}}\n"
    ));
    let ca = Ca::start(&home);
    let store = orders(&home, &ca).await;
    let tokens = TokenClient::new(Arc::clone(&store), ca.address.clone());
    let issued = tokens.issue_jwt(audience()).await.unwrap();
    let verified = svid::verify(&issued.token, "db", &store.bundle(), SystemTime::now()).unwrap();
    assert_eq!(verified.id().as_str(), ORDERS);
    assert!(svid::verify(&issued.token, "cache", &store.bundle(), SystemTime::now()).is_err());

    // As somebody who has never heard of SPIFFE: from the issuer's name to the keys, with another library.
    let address = ca.event("openid discovery served")["address"]
        .as_str()
        .unwrap()
        .to_owned();
    let tls = web_tls(&web.path().join("web.pem"));
    let name = ServerName::try_from("ids.shop.example").unwrap();
    let fetch = async |path: &str| get(&address, name.clone(), Arc::clone(&tls), path).await;
    let (head, metadata) = fetch("/.well-known/openid-configuration").await;
    assert!(
        head.starts_with("HTTP/1.1 200") && head.contains("application/json"),
        "{head}"
    );
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    assert_eq!(metadata["issuer"], ISSUER);
    let path = metadata["jwks_uri"]
        .as_str()
        .unwrap()
        .strip_prefix(ISSUER)
        .unwrap();
    let (_, keys) = fetch(path).await;
    let keys: JwkSet = serde_json::from_str(&keys).unwrap();
    let header = decode_header(&issued.token).unwrap();
    let key = keys.find(&header.kid.unwrap()).unwrap();
    let mut rules = Validation::new(header.alg);
    rules.set_audience(&["db"]);
    rules.set_issuer(&[ISSUER]);
    rules.set_required_spec_claims(&["exp", "sub", "aud", "iss"]);
    let read =
        decode::<Value>(&issued.token, &DecodingKey::from_jwk(key).unwrap(), &rules).unwrap();
    assert_eq!(read.claims["sub"], ORDERS);
    let (head, _) = fetch("/authorize").await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
}

#[tokio::test]
async fn tokens_need_a_good_svid() {
    let home = Home::new("");
    let ca = Ca::start(&home);
    let mut anonymous = client(&ca, &home.store());
    let request = IssueJwtRequest {
        audience: audience(),
        ttl_seconds: 0,
    };
    let status = anonymous.issue_jwt(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let csr = SvidKey::generate().unwrap().csr_der().unwrap();
    let request = IssueWitRequest {
        csr,
        ttl_seconds: 0,
    };
    let status = anonymous.issue_wit(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_wit_svid_is_logged_and_its_key_is_in_the_bundle() {
    let home = Home::new("");
    let ca = Ca::start(&home);
    let store = orders(&home, &ca).await;
    let csr = SvidKey::generate().unwrap().csr_der().unwrap();
    let request = IssueWitRequest {
        csr,
        ttl_seconds: 0,
    };
    let answer = client(&ca, &store)
        .issue_wit(request)
        .await
        .unwrap()
        .into_inner();
    let header = decode_header(&answer.token);
    // Another type of token than this library knows, which is the point of it.
    let kid = header.unwrap().kid.unwrap();
    let bundle: Bundle = answer.bundle.unwrap().try_into().unwrap();
    assert!(bundle.wit_keys().unwrap().key_ids().any(|name| name == kid));
    let line = home.log().pop().unwrap();
    assert_eq!(
        (&line["kind"], &line["spiffe_id"]),
        (&"wit-svid".into(), &ORDERS.into())
    );
    assert_eq!(answer.expires_at - answer.issued_at, 3600);
}

#[tokio::test]
async fn keys_rotate_and_no_token_is_of_a_key_that_was_not_known_before() {
    let home = Home::new("jwt: {keyLifetime: 4s}\n");
    let ca = Ca::start(&home);
    let store = orders(&home, &ca).await;
    let tokens = TokenClient::new(Arc::clone(&store), ca.address.clone());
    let mut seen = Vec::new();
    let started = Instant::now();
    while seen.len() < 4 {
        assert!(started.elapsed() < Duration::from_secs(60), "{seen:?}");
        // What a verifier has that looked a moment before, not now.
        let known = client(&ca, &store)
            .get_bundle(GetBundleRequest {})
            .await
            .unwrap();
        let known: Bundle = known.into_inner().try_into().unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let issued = tokens.issue_jwt(audience()).await.unwrap();
        svid::verify(&issued.token, "db", &known, SystemTime::now()).unwrap();
        let kid = decode_header(&issued.token).unwrap().kid.unwrap();
        if seen.last() != Some(&kid) {
            seen.push(kid);
        }
    }
}

#[tokio::test]
async fn the_bundle_endpoint_serves_the_bundle_with_the_cas_own_svid() {
    let home = Home::new("bundleEndpoint: {listen: '127.0.0.1:0', refreshHint: 30s}\n");
    let ca = Ca::start(&home);
    let address = ca.event("bundle endpoint served")["address"]
        .as_str()
        .unwrap()
        .to_owned();
    let store = home.store();
    let expected = ExpectedPeer::Id(spiffe::system::ca(&shop()));
    let tls = client_config(&store, expected, &[b"http/1.1"]).unwrap();
    let (head, body) = get(&address, server_name(), tls, "/").await;
    assert!(head.contains("max-age=30"), "{head}");
    let published = SpiffeBundle::parse(shop(), &body).unwrap();
    assert_eq!(published.refresh_hint, Some(Duration::from_secs(30)));
    let ours = client(&ca, &store)
        .get_bundle(GetBundleRequest {})
        .await
        .unwrap();
    assert_eq!(published.bundle, ours.into_inner().try_into().unwrap());
}
