//! step-ca, with what `step ca init` writes: an intermediate under a root, a JWK provisioner, and its default database.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

use crate::BenchError;
use crate::https::{Connection, SERVER};
use crate::process::{Process, free_address, wait_until, write};
use crate::rates::{Client, Cycle};

/// HTTP/1.1 has one request at a time on a connection: as many connections as requests under way.
const CONNECTIONS: usize = 64;
/// Requests are made before: that is the clients' work.
const REQUESTS: usize = 256;
const PROVISIONER: &str = "bench";
const SUBJECT: &str = "client.bench.example";

/// A CA that runs.
pub(crate) struct Ca {
    pub(crate) process: Process,
    address: SocketAddr,
    root: CertificateDer<'static>,
    provisioner: EcdsaKeyPair,
}

impl Ca {
    /// Starts one whose data is in `directory`/step-ca.
    pub(crate) fn start(program: &Path, directory: &Path) -> Result<Self, BenchError> {
        let directory = directory.join("step-ca");
        fs::create_dir_all(&directory)?;
        let root = authorities(&directory)?;
        let provisioner = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|_| BenchError::failed("no randomness"))?;
        let address = free_address()?;
        let config = json!({
            "root": directory.join("root.crt"),
            "crt": directory.join("intermediate.crt"),
            "key": directory.join("intermediate.key"),
            "address": address.to_string(),
            "dnsNames": [SERVER],
            "logger": {"format": "text"},
            "db": {"type": "badgerv2", "dataSource": directory.join("db")},
            "authority": {"provisioners": [
                {"type": "JWK", "name": PROVISIONER, "key": public_jwk(&provisioner)},
            ]},
        });
        let file = directory.join("ca.json");
        write(&file, config.to_string())?;
        let mut command = Command::new(program);
        let process = Process::start("step-ca", command.arg(&file), &directory)?;
        let log = directory.join("step-ca.log");
        wait_until("step-ca", &log, || TcpStream::connect(address).is_ok())?;
        Ok(Self {
            process,
            address,
            root,
            provisioner,
        })
    }

    /// A one-time token for a first certificate.
    fn token(&self, number: usize) -> Result<String, BenchError> {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_err(BenchError::failed)?
            .as_secs();
        let claims = json!({
            "iss": PROVISIONER, "aud": format!("https://{SERVER}/1.0/sign"), "sub": SUBJECT,
            "sans": [SUBJECT], "iat": now, "nbf": now, "exp": now + 300, "jti": format!("bench-{number}"),
        });
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": PROVISIONER});
        let [header, claims] =
            [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let signature = self
            .provisioner
            .sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.map_err(|_| BenchError::failed("a token cannot be signed"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// Writes a root, an intermediate, and the intermediate's key.
fn authorities(directory: &Path) -> Result<CertificateDer<'static>, BenchError> {
    let params = |name: &str, constraints| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(constraints);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        params
    };
    let key = || KeyPair::generate().map_err(BenchError::failed);
    let root = params("bench root", BasicConstraints::Constrained(1));
    let root = CertifiedIssuer::self_signed(root, key()?).map_err(BenchError::failed)?;
    let intermediate_key = key()?;
    let intermediate = params("bench intermediate", BasicConstraints::Constrained(0))
        .signed_by(&intermediate_key, &root)
        .map_err(BenchError::failed)?;
    write(&directory.join("root.crt"), root.pem())?;
    write(&directory.join("intermediate.crt"), intermediate.pem())?;
    write(
        &directory.join("intermediate.key"),
        intermediate_key.serialize_pem(),
    )?;
    Ok(root.der().clone())
}

fn public_jwk(key: &EcdsaKeyPair) -> Value {
    let (_, point) = key.public_key().as_ref().split_at(1);
    let (x, y) = point.split_at(point.len() / 2);
    let [x, y] = [x, y].map(|number| URL_SAFE_NO_PAD.encode(number));
    json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": PROVISIONER, "x": x, "y": y})
}

/// Renews with a new key over a connection that shows the certificate.
#[derive(Clone)]
pub(crate) struct Renewal {
    connection: Connection,
    requests: Arc<Cycle<Value>>,
}

impl Client for Renewal {
    async fn ask(&self) -> Result<(), BenchError> {
        let request = self.requests.next();
        let request = request.ok_or_else(|| BenchError::failed("no request"))?;
        let answer = self.connection.post("/1.0/rekey", request).await?;
        match answer.get("crt") {
            Some(_) => Ok(()),
            None => Err(BenchError::failed("step-ca's answer has no certificate")),
        }
    }
}

/// Clients that have a certificate, and show it.
pub(crate) async fn renewals(ca: &Ca) -> Result<Vec<Renewal>, BenchError> {
    let requests: Result<Vec<_>, BenchError> = (0..REQUESTS)
        .map(|_| Ok(json!({"csr": csr(&KeyPair::generate().map_err(BenchError::failed)?)?})))
        .collect();
    let requests = Cycle::new(requests?);
    let first = Connection::open(ca.address, &ca.root, None).await?;
    let mut clients = Vec::new();
    for number in 0..CONNECTIONS {
        let key = KeyPair::generate().map_err(BenchError::failed)?;
        let request = json!({"csr": csr(&key)?, "ott": ca.token(number)?});
        let answer = first.post("/1.0/sign", &request).await?;
        let chain = answer.get("certChain").and_then(Value::as_array);
        let chain: Option<Vec<_>> = chain.map(|chain| {
            let pem = chain.iter().filter_map(Value::as_str);
            pem.filter_map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).ok())
                .collect()
        });
        let chain = chain.ok_or_else(|| BenchError::failed("step-ca's answer has no chain"))?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        clients.push(Renewal {
            connection: Connection::open(ca.address, &ca.root, Some((chain, key))).await?,
            requests: Arc::clone(&requests),
        });
    }
    Ok(clients)
}

fn csr(key: &KeyPair) -> Result<String, BenchError> {
    let mut params =
        CertificateParams::new(vec![SUBJECT.to_owned()]).map_err(BenchError::failed)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, SUBJECT);
    let request = params.serialize_request(key).map_err(BenchError::failed)?;
    request.pem().map_err(BenchError::failed)
}
