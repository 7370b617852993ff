use super::*;
use std::path::Path;

use crate::metrics::LogMetrics;
use crate::store::Store;
use countersign_identity::{IdentityStore, SvidKey, TrustDomain};
use tonic::Code;
use zeroize::Zeroizing;

use crate::attest::join_token::JoinTokens;
use crate::attest::jwt::JwtIssuers;
use crate::attest::kubernetes::Clusters;
use crate::attest::x509_proof::X509Proofs;
use countersign_api::x509_proof::ChannelBinding;

fn shop() -> TrustDomain {
    TrustDomain::parse("shop.example").unwrap()
}

pub(crate) fn orders() -> SpiffeId {
    SpiffeId::parse("spiffe://shop.example/ns/shop/sa/orders").unwrap()
}

pub(crate) async fn issuance(directory: &Path, now: SystemTime) -> Issuance {
    let authority = Arc::new(crate::authority::tests::opened(directory, now).await);
    let database = Store::open(directory, None, &shop()).await.unwrap();
    let log = IssuanceLog::open(
        database.clone(),
        Arc::clone(&authority),
        LogMetrics::default(),
    );
    let log = log.await.unwrap();
    let store = IdentityStore::new((*authority.bundle()).clone());
    Issuance {
        attestors: Attestors {
            join_tokens: JoinTokens::new(database, shop()),
            jwt_issuers: JwtIssuers::start(Vec::new()).unwrap(),
            clusters: Clusters::start(Vec::new(), &shop()).unwrap(),
            x509_proofs: X509Proofs::read(Vec::new(), &[]).unwrap(),
            store,
        },
        authority,
        limits: TtlLimits {
            default: Duration::from_hours(1),
            min: Duration::from_mins(5),
            max: Duration::from_hours(24),
        },
        tokens: TokenRules {
            ttl: TtlLimits {
                default: Duration::from_mins(5),
                min: Duration::from_secs(10),
                max: Duration::from_hours(1),
            },
            issuer: Some("https://ids.shop.example".to_owned()),
        },
        log,
        samples: Samples::default(),
    }
}

pub(crate) fn request(evidence: Evidence, ttl: Duration) -> Request {
    Request {
        csr: SvidKey::generate().unwrap().csr_der().unwrap(),
        ttl,
        evidence,
        caller: Caller {
            peer: None,
            remote_addr: ([127, 0, 0, 1], 4711).into(),
            binding: ChannelBinding::made_up([0; 32]),
        },
    }
}

async fn join(issuance: &Issuance, id: &SpiffeId) -> Evidence {
    let ttl = Duration::from_mins(10);
    let token = issuance
        .attestors
        .join_tokens
        .mint(id, ttl, SystemTime::now())
        .await
        .unwrap();
    Evidence::JoinToken(token)
}

pub(crate) async fn log(directory: &Path) -> Vec<serde_json::Value> {
    let store = Store::open(directory, None, &shop()).await.unwrap();
    let entries = crate::log::tests::all(&store).await;
    let record = |text: &str| serde_json::from_str(text).unwrap();
    entries.iter().map(|entry| record(&entry.record)).collect()
}

/// From now on no entry can be written, and all else can.
pub(crate) async fn break_log(directory: &Path) {
    let store = Store::open(directory, None, &shop()).await.unwrap();
    let mut tx = store.write().await.unwrap();
    crate::store::on!(&mut tx, connection => {
        let rename = sqlx::query("ALTER TABLE issuance_log_checkpoint RENAME TO elsewhere");
        rename.execute(connection).await.unwrap();
    });
    tx.commit().await.unwrap();
}

/// An SVID of this CA.
pub(crate) async fn svid_of(issuance: &Issuance, id: &SpiffeId, now: SystemTime) -> X509Svid {
    let asked = request(join(issuance, id).await, Duration::ZERO);
    issuance.issue(asked, now).await.unwrap()
}

#[tokio::test]
async fn what_is_issued_is_logged_first() {
    let directory = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let issuance = issuance(directory.path(), now).await;
    let asked = request(join(&issuance, &orders()).await, Duration::from_mins(10));
    let svid = issuance.issue(asked, now).await.unwrap();
    assert_eq!(svid.id(), &orders());
    let seconds = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    assert_eq!(seconds(svid.not_before()), seconds(now) - 60);
    assert_eq!(seconds(svid.not_after()), seconds(now) + 600);

    let [line] = log(directory.path()).await.try_into().unwrap();
    assert_eq!(line["serial"], svid.serial());
    assert_eq!(line["spiffe_id"], orders().as_str());
    assert_eq!(line["attestation"]["kind"], "join-token");
    assert_eq!(line["remote_address"], "127.0.0.1:4711");
    assert_eq!(
        line["certificate_thumbprint"],
        hex::encode(svid.thumbprint())
    );
}

#[tokio::test]
async fn without_its_log_nothing_is_issued() {
    let directory = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let issuance = issuance(directory.path(), now).await;
    let asked = request(join(&issuance, &orders()).await, Duration::ZERO);
    break_log(directory.path()).await;
    let refusal = issuance.issue(asked, now).await.unwrap_err();
    assert_eq!(
        (refusal.class(), refusal.code()),
        ("log", Code::Unavailable),
        "{refusal}"
    );
    assert_eq!(log(directory.path()).await, [] as [serde_json::Value; 0]);
}

#[tokio::test]
async fn a_lifetime_out_of_bounds_is_refused_before_the_token_is_used_up() {
    let directory = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let issuance = issuance(directory.path(), now).await;
    let token = issuance
        .attestors
        .join_tokens
        .mint(&orders(), Duration::from_mins(1), now)
        .await
        .unwrap();
    let evidence = || Evidence::JoinToken(Zeroizing::new(token.to_string()));
    for ttl in [Duration::from_secs(299), Duration::from_secs(86_401)] {
        let refusal = issuance
            .issue(request(evidence(), ttl), now)
            .await
            .unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument);
        let asked = format!(
            "a lifetime of {} s is asked for; this CA issues for 300 s to 86400 s",
            ttl.as_secs()
        );
        assert!(refusal.to_string().starts_with(&asked), "{refusal}");
    }
    let mut garbage = request(evidence(), Duration::ZERO);
    garbage.csr = b"garbage".to_vec();
    assert_eq!(
        issuance.issue(garbage, now).await.unwrap_err().class(),
        "csr"
    );
    issuance
        .issue(request(evidence(), Duration::ZERO), now)
        .await
        .unwrap();
}

#[tokio::test]
async fn no_svid_outlives_the_intermediate() {
    let directory = tempfile::tempdir().unwrap();
    let made = SystemTime::now();
    let issuance = issuance(directory.path(), made).await;
    let end = issuance.authority.intermediate().not_after();
    let not_after = |now: SystemTime| {
        let intermediate = issuance.authority.intermediate();
        issuance.limit_validity(Duration::from_hours(1), &intermediate, now)
    };
    assert_eq!(not_after(made).unwrap(), made + Duration::from_hours(1));
    assert_eq!(not_after(end - Duration::from_mins(30)).unwrap(), end);
    let refusal = not_after(end - Duration::from_mins(4)).unwrap_err();
    assert_eq!(refusal.code(), Code::Unavailable);
}

#[tokio::test]
async fn other_trust_domains_and_the_ca_itself_are_not_issued_for() {
    let directory = tempfile::tempdir().unwrap();
    let issuance = issuance(directory.path(), SystemTime::now()).await;
    let refused = |id: &str| {
        issuance
            .limit_identity(&SpiffeId::parse(id).unwrap())
            .unwrap_err()
    };
    let refusal = refused("spiffe://other.example/ns/shop/sa/orders");
    assert_eq!(
        (refusal.class(), refusal.code()),
        ("other-trust-domain", Code::PermissionDenied)
    );
    let refusal = refused("spiffe://shop.example/ns/countersign-system/sa/countersign-ca");
    assert_eq!(
        (refusal.class(), refusal.code()),
        ("reserved-id", Code::PermissionDenied)
    );
    issuance.limit_identity(&orders()).unwrap();
}

#[tokio::test]
async fn an_anonymous_renewal_says_what_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let issuance = issuance(directory.path(), now).await;
    let refusal = issuance
        .issue(request(Evidence::Renewal, Duration::ZERO), now)
        .await
        .unwrap_err();
    assert_eq!(refusal.code(), Code::Unauthenticated);
    assert!(
        refusal.to_string().contains("present the current SVID"),
        "{refusal}"
    );
}
