//! Attestation as the CA's users meet it: the real CA, and real parties that vouch for workloads.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that fails should fail where it stands, and times are told to who asks (--nocapture)"
)]

#[path = "attestation/keycloak.rs"]
mod keycloak;
#[path = "attestation/kubernetes.rs"]
mod kubernetes;
#[path = "attestation/oidc_provider.rs"]
mod oidc_provider;

use std::fs;
use std::sync::Arc;
use std::time::SystemTime;

use countersign_api::proto::attestation::Evidence;
use countersign_api::proto::certificate_authority_client::CertificateAuthorityClient;
use countersign_api::proto::{Attestation, IssueRequest};
use countersign_api::transport::channel;
use countersign_identity::tls::ExpectedPeer;
use countersign_identity::{Bundle, IdentityStore, SvidKey, TrustDomain, X509Svid, spiffe};
use countersign_integration::mesh::{Mesh, TRUST_DOMAIN};
use countersign_integration::process::Program;
use tonic::{Code, Status};

/// A CA of which only the attestors are of interest.
struct Ca {
    mesh: Mesh,
    program: Program,
}

impl Ca {
    /// `more` is appended to the configuration.
    fn start(more: &str) -> Self {
        let mesh = Mesh::new("{defaultTtl: 1h}", &[]).unwrap();
        mesh.append("ca.yaml", more).unwrap();
        let program = mesh.start_ca().unwrap();
        Self { mesh, program }
    }

    fn store(&self) -> Arc<IdentityStore> {
        let pem = fs::read_to_string(self.mesh.path("ca/bundle.pem")).unwrap();
        let trust_domain = TrustDomain::parse(TRUST_DOMAIN).unwrap();
        IdentityStore::new(Bundle::from_pem(trust_domain, &pem).unwrap())
    }

    /// The ID that the token proves.
    async fn attest(&self, token: &str) -> Result<String, Status> {
        let store = self.store();
        let ca = spiffe::system::ca(&TrustDomain::parse(TRUST_DOMAIN).unwrap());
        let address = self.mesh.address(1, 15010).to_string();
        let channel = channel(&address, &store, ExpectedPeer::Id(ca)).unwrap();
        let request = IssueRequest {
            csr: SvidKey::generate().unwrap().csr_der().unwrap(),
            attestation: Some(Attestation {
                evidence: Some(Evidence::Jwt(token.to_owned())),
            }),
            ttl_seconds: 0,
        };
        let answer = CertificateAuthorityClient::new(channel)
            .issue(request)
            .await?
            .into_inner();
        let chain = answer.certificate_chain.into_iter().map(Into::into);
        let svid = X509Svid::from_chain(chain.collect()).unwrap();
        svid.verify(&store.bundle(), SystemTime::now()).unwrap();
        Ok(svid.id().to_string())
    }

    /// Asks with the token, and expects to be refused in one line.
    async fn refused(&self, token: &str, code: Code, expected: &str) {
        let refused = self.attest(token).await.unwrap_err();
        let message = refused.message();
        assert_eq!(refused.code(), code, "{message}");
        assert!(message.contains(expected), "{expected}: {message}");
        assert!(!message.contains('\n'), "{message}");
    }

    /// The kind and the detail of the last attestation in the issuance log.
    fn last_attestation(&self) -> (String, String) {
        let log = self.mesh.issuance_log().unwrap();
        let line = log.last().unwrap();
        let text = |name: &str| line["attestation"][name].as_str().unwrap().to_owned();
        (text("kind"), text("detail"))
    }
}
