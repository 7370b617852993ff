//! Against `oidc-provider`, an OpenID provider that is certified, as a process of its own.

use countersign_integration::oidc_provider::OidcProvider;
use tonic::Code;

use super::Ca;

#[tokio::test]
async fn a_ci_job_is_let_in_by_its_claims_and_a_rotated_key_followed() {
    let start = || OidcProvider::start().unwrap();
    let (Some(provider), Some(stranger)) = (start(), start()) else {
        return;
    };
    let ca = Ca::start(&format!(
        "issuers:\n- issuer: {}\n  audiences: [countersign-ca]\n  algorithms: [ES256]\n  allowHttp: true\n  \
         allowPrivateAddresses: true\n  spiffeId: 'spiffe://shop.example/ns/ci/sa/{{claims.job}}'\n  allow:\n  \
         - claims.repository == \"acme/shop\" && claims.ref == \"refs/heads/main\"\n",
        provider.issuer()
    ));
    let ours = "urn:countersign-ca";
    let before = provider.token("shop-main", ours).unwrap();
    let id = "spiffe://shop.example/ns/ci/sa/deploy";
    assert_eq!(ca.attest(&before).await.unwrap(), id);
    let (kind, detail) = ca.last_attestation();
    let expected = format!("issuer {:?}, subject \"shop-main\"", provider.issuer());
    assert_eq!((kind.as_str(), detail), ("jwt", expected));

    let branch = provider.token("shop-branch", ours).unwrap();
    ca.refused(
        &branch,
        Code::PermissionDenied,
        "no rule of `allow` lets it in",
    )
    .await;
    let odd = provider.token("shop-odd", ours).unwrap();
    ca.refused(&odd, Code::PermissionDenied, "the token's claim `job`")
        .await;
    let vault = provider.token("shop-main", "urn:vault").unwrap();
    ca.refused(
        &vault,
        Code::Unauthenticated,
        "the token is for \"vault\"; expected \"countersign-ca\"",
    )
    .await;
    let theirs = stranger.token("shop-main", ours).unwrap();
    ca.refused(&theirs, Code::Unauthenticated, "is not among the `issuers`")
        .await;

    // The old key is gone, and no longer believed once the new one has been fetched for.
    provider.rotate().unwrap();
    let after = provider.token("shop-main", ours).unwrap();
    assert_eq!(ca.attest(&after).await.unwrap(), id);
    ca.refused(&before, Code::Unauthenticated, "has no key \"key-1\"")
        .await;
}
