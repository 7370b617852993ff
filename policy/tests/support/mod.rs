//! Calls and policies, written briefly.

// Every test program uses a part of it.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use countersign_identity::{SpiffeId, TrustDomain};
use countersign_policy::{
    Call, Decision, Intent, Policy, Request, Subject, Workload, WorkloadPolicy, document,
};

/// The mesh's trust domain.
pub(crate) fn domain() -> TrustDomain {
    TrustDomain::parse("shop.example").unwrap()
}

/// The time of all calls.
pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_428_000)
}

/// The called workload, shop/orders.
pub(crate) fn orders() -> Workload {
    Workload {
        namespace: "shop".to_owned(),
        service_account: "orders".to_owned(),
        labels: [("app".to_owned(), "orders".to_owned())].into(),
    }
}

/// Compiles a file.
pub(crate) fn compile(text: &str) -> Policy {
    let documents = document::parse([("p.yaml".to_owned(), text.to_owned())]).unwrap();
    Policy::compile("r1", &domain(), documents).unwrap()
}

/// One policy of the namespace shop with these rules, as YAML (indented by two), and an issuer, corp.
pub(crate) fn policy_text(rules: &str) -> String {
    format!(
        "apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {{name: orders, namespace: shop}}
spec:
  rules:
{rules}
---
apiVersion: countersign.dev/v1
kind: TokenIssuer
metadata: {{name: corp, namespace: shop}}
spec: {{issuer: https://login.example, audiences: [shop]}}
"
    )
}

/// The policy for orders, of [`policy_text`].
pub(crate) fn policy(rules: &str) -> WorkloadPolicy {
    compile(&policy_text(rules)).for_workload(&orders())
}

/// A call that owns what [`Call`] borrows.
#[derive(Clone, Debug)]
pub(crate) struct TestCall {
    pub(crate) peer: Option<SpiffeId>,
    pub(crate) source_ip: Option<IpAddr>,
    pub(crate) port: u16,
    pub(crate) destination_ip: Option<IpAddr>,
    pub(crate) sni: Option<String>,
    pub(crate) request: Option<TestRequest>,
    pub(crate) subjects: Vec<Arc<Subject>>,
    pub(crate) intent: Option<Intent>,
    pub(crate) time: SystemTime,
}

#[derive(Clone, Debug)]
pub(crate) struct TestRequest {
    pub(crate) method: String,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
}

/// `POST /orders` by shop/web on port 8080, without a token.
pub(crate) fn call() -> TestCall {
    TestCall {
        peer: Some("spiffe://shop.example/ns/shop/sa/web".parse().unwrap()),
        source_ip: Some([10, 0, 0, 7].into()),
        port: 8080,
        destination_ip: Some([10, 0, 1, 9].into()),
        sni: None,
        request: Some(TestRequest {
            method: "POST".to_owned(),
            host: "orders.shop:8080".to_owned(),
            path: "/orders".to_owned(),
            headers: BTreeMap::new(),
        }),
        subjects: Vec::new(),
        intent: None,
        time: now(),
    }
}

/// A token of shop/corp for the audience shop.
pub(crate) fn token(claims: serde_json::Value) -> Arc<Subject> {
    let mut claims = claims.as_object().unwrap().clone();
    claims.entry("aud").or_insert_with(|| "shop".into());
    Arc::new(Subject {
        issuer: "shop/corp".to_owned(),
        claims,
        expires_at: now() + Duration::from_secs(60),
    })
}

/// A transaction token that shop/web asked for.
pub(crate) fn intent(scope: &[&str], tctx: serde_json::Value) -> Intent {
    Intent {
        scope: scope.iter().map(|&scope| scope.to_owned()).collect(),
        tctx: tctx.as_object().unwrap().clone(),
        req_wl: "spiffe://shop.example/ns/shop/sa/web".to_owned(),
        expires_at: now() + Duration::from_secs(15),
    }
}

/// A MeshMode of the namespace shop, as YAML.
pub(crate) fn mesh_mode(spec: &str) -> String {
    format!(
        "---\napiVersion: countersign.dev/v1\nkind: MeshMode\nmetadata: {{name: shop, namespace: shop}}\nspec: {{{spec}}}\n"
    )
}

impl TestCall {
    pub(crate) fn by(mut self, peer: &str) -> Self {
        self.peer = Some(peer.parse().unwrap());
        self
    }

    pub(crate) fn anonymous(mut self) -> Self {
        self.peer = None;
        self
    }

    pub(crate) fn on_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    pub(crate) fn request(mut self, method: &str, path: &str) -> Self {
        if let Some(request) = &mut self.request {
            request.method = method.to_owned();
            request.path = path.to_owned();
        }
        self
    }

    pub(crate) fn host(mut self, host: &str) -> Self {
        if let Some(request) = &mut self.request {
            request.host = host.to_owned();
        }
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        if let Some(request) = &mut self.request {
            request.headers.insert(name.to_owned(), value.to_owned());
        }
        self
    }

    pub(crate) fn opaque(mut self) -> Self {
        self.request = None;
        self
    }

    pub(crate) fn asking_for(mut self, sni: &str) -> Self {
        self.sni = Some(sni.to_owned());
        self.opaque()
    }

    pub(crate) fn meant_for(mut self, intent: Intent) -> Self {
        self.intent = Some(intent);
        self
    }

    pub(crate) fn with(mut self, subject: Arc<Subject>) -> Self {
        self.subjects.push(subject);
        self
    }

    pub(crate) fn judged_by(&self, policy: &WorkloadPolicy) -> Decision {
        policy.decide(&self.as_call())
    }

    pub(crate) fn is_allowed_by(&self, policy: &WorkloadPolicy) -> bool {
        self.judged_by(policy).is_allowed()
    }

    pub(crate) fn as_call(&self) -> Call<'_> {
        Call {
            peer: self.peer.as_ref(),
            source_ip: self.source_ip,
            port: self.port,
            destination_ip: self.destination_ip,
            sni: self.sni.as_deref(),
            request: self.request.as_ref().map(|request| Request {
                method: &request.method,
                host: &request.host,
                path: &request.path,
                headers: &request.headers,
            }),
            subjects: &self.subjects,
            intent: self.intent.as_ref(),
            time: self.time,
        }
    }
}
