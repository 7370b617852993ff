use countersign_identity::{SvidKey, testing};
use serde_json::Value;
use tonic::Code;

use super::*;
use crate::issue::tests::{break_log, issuance, log, orders, svid_of};
use countersign_api::x509_proof::ChannelBinding;

/// A connection with an SVID of this CA.
async fn caller(issuance: &Issuance, now: SystemTime) -> Caller {
    let svid = svid_of(issuance, &orders(), now).await;
    Caller {
        peer: Some(testing::peer(svid)),
        remote_addr: ([127, 0, 0, 1], 4711).into(),
        binding: ChannelBinding::made_up([0; 32]),
    }
}

fn anonymous() -> Caller {
    Caller {
        peer: None,
        remote_addr: ([127, 0, 0, 1], 4711).into(),
        binding: ChannelBinding::made_up([0; 32]),
    }
}

fn part(token: &str, index: usize) -> Value {
    use base64::Engine as _;
    let part = token.split('.').nth(index).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(part)
        .unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn audience() -> Vec<String> {
    vec!["db".to_owned(), "cache".to_owned()]
}

#[tokio::test]
async fn a_jwt_svid_has_its_claims_and_is_logged_first() {
    let directory = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let issuance = issuance(directory.path(), now).await;
    let caller = caller(&issuance, now).await;
    let issued = issuance
        .issue_jwt(audience(), Duration::ZERO, &caller, now)
        .await
        .unwrap();
    let header = part(&issued.token, 0);
    assert_eq!(
        (&header["alg"], &header["typ"]),
        (&json!("ES256"), &json!("JWT"))
    );
    let claims = part(&issued.token, 1);
    assert_eq!(claims["sub"], orders().as_str());
    assert_eq!(claims["aud"], json!(["db", "cache"]));
    assert_eq!(claims["iat"], seconds(now));
    assert_eq!(claims["exp"], seconds(now) + 300);
    assert_eq!(claims["iss"], "https://ids.shop.example");
    assert_eq!(claims["jti"], issued.facts.id);

    let line = log(directory.path()).await.pop().unwrap();
    assert_eq!(line["kind"], "jwt-svid");
    assert_eq!(line["serial"], claims["jti"]);
    assert_eq!(line["spiffe_id"], claims["sub"]);
    assert_eq!(line["audience"], claims["aud"]);
    assert_eq!(line["attestation"]["kind"], "renewal");
    assert!(
        !line.to_string().contains(&issued.token),
        "no token is in the log"
    );
}

#[tokio::test]
async fn a_wit_svid_binds_the_key_that_was_proved() {
    let directory = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let issuance = issuance(directory.path(), now).await;
    let caller = caller(&issuance, now).await;
    let key = SvidKey::generate().unwrap();
    let issued = issuance
        .issue_wit(&key.csr_der().unwrap(), Duration::ZERO, &caller, now)
        .await
        .unwrap();
    let (header, claims) = (part(&issued.token, 0), part(&issued.token, 1));
    assert_eq!(
        (&header["alg"], &header["typ"]),
        (&json!("ES256"), &json!("wit+jwt"))
    );
    let expected = jwk::from_spki(key.public_key_der()).unwrap().members;
    assert_eq!(claims["cnf"]["jwk"]["x"], expected["x"]);
    assert_eq!(claims["cnf"]["jwk"]["alg"], "ES256");
    assert_eq!(claims["sub"], orders().as_str());
    assert_eq!(claims["exp"], seconds(now) + 3600);
    assert_eq!(claims["nbf"], seconds(now) - 60);
    assert!(claims.get("iss").is_none() && claims.get("aud").is_none());
    // Of the keys for WIT-SVIDs, and no JWT-SVID to anybody.
    let bundle = issuance.authority.bundle();
    let wit: Vec<_> = bundle.wit_keys().unwrap().key_ids().collect();
    assert_eq!(wit, [header["kid"].as_str().unwrap()]);
    assert!(svid::verify(&issued.token, "db", &bundle, now).is_err());

    let line = log(directory.path()).await.pop().unwrap();
    assert_eq!(line["kind"], "wit-svid");
    assert!(line["key_thumbprint"].is_string());
}

#[tokio::test]
async fn what_is_asked_for_wrongly_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let issuance = issuance(directory.path(), now).await;
    let caller = caller(&issuance, now).await;
    let logged = log(directory.path()).await.len();
    let refused = async |audience: Vec<String>, ttl| {
        let ttl = Duration::from_secs(ttl);
        let refusal = issuance
            .issue_jwt(audience, ttl, &caller, now)
            .await
            .err()
            .unwrap();
        (refusal.class(), refusal.code())
    };
    let invalid = |class| (class, Code::InvalidArgument);
    assert_eq!(refused(vec![], 0).await, invalid("audience"));
    assert_eq!(refused(vec![String::new()], 0).await, invalid("audience"));
    assert_eq!(refused(vec!["x".repeat(513)], 0).await, invalid("audience"));
    assert_eq!(
        refused(vec!["x".to_owned(); 17], 0).await,
        invalid("audience")
    );
    assert_eq!(refused(audience(), 9).await, invalid("ttl"));
    assert_eq!(refused(audience(), 3601).await, invalid("ttl"));
    let refusal = issuance
        .issue_wit(b"garbage", Duration::ZERO, &caller, now)
        .await
        .err()
        .unwrap();
    assert_eq!((refusal.class(), refusal.code()), invalid("csr"));
    let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let csr = rcgen::CertificateParams::default()
        .serialize_request(&ed25519)
        .unwrap();
    let refusal = issuance
        .issue_wit(csr.der(), Duration::ZERO, &caller, now)
        .await
        .err()
        .unwrap();
    assert!(refusal.to_string().contains("Ed25519"), "{refusal}");
    assert_eq!(
        log(directory.path()).await.len(),
        logged,
        "nothing was issued"
    );
}

#[tokio::test]
async fn tokens_are_for_those_with_a_good_svid_only() {
    let directory = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let issuance = issuance(directory.path(), now).await;
    let refused = async |caller: &Caller, now| {
        let jwt = issuance
            .issue_jwt(audience(), Duration::ZERO, caller, now)
            .await;
        let csr = SvidKey::generate().unwrap().csr_der().unwrap();
        let wit = issuance.issue_wit(&csr, Duration::ZERO, caller, now).await;
        [jwt, wit].map(|issued| issued.err().unwrap().code())
    };
    assert_eq!(refused(&anonymous(), now).await, [Code::Unauthenticated; 2]);
    let caller = caller(&issuance, now).await;
    let expired = now + Duration::from_hours(2);
    assert_eq!(refused(&caller, expired).await, [Code::Unauthenticated; 2]);
}

#[tokio::test]
async fn without_its_log_no_token_is_issued() {
    let directory = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let issuance = issuance(directory.path(), now).await;
    let caller = caller(&issuance, now).await;
    break_log(directory.path()).await;
    let refusal = issuance
        .issue_jwt(audience(), Duration::ZERO, &caller, now)
        .await
        .err()
        .unwrap();
    assert_eq!(
        (refusal.class(), refusal.code()),
        ("log", Code::Unavailable)
    );
}
