//! `proxy.yaml`: read once, at start, with all its mistakes reported at once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_api::x509_proof::CertificateFiles;
use countersign_identity::TrustDomain;
use countersign_policy::yaml::{self, Diagnostics, Fields, Value};

use crate::directory::DeclaredProtocol;
use crate::workload_api::WorkloadApiConfig;

/// Everything that the sidecar is told at start. The rest comes from the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The workload's name in the directory.
    pub workload: String,
    /// The trust domain of the workload, and of everybody it believes.
    pub trust_domain: TrustDomain,
    /// Where its identity comes from.
    pub identity: IdentityConfig,
    /// The control plane, `host:port`.
    pub control: String,
    /// Where peers call: the mutual TLS listener.
    pub inbound: SocketAddr,
    /// Where the workload calls: one plain listener for each service.
    pub outbound: Vec<OutboundListener>,
    /// Where the operator asks: metrics and readiness.
    pub ops: SocketAddr,
    /// What callers may take of the sidecar.
    pub limits: Limits,
    /// How long calls in flight may take to end after SIGTERM.
    pub drain_timeout: Duration,
    /// What a denied caller is told.
    pub denials: Denials,
    /// Where the workload finds its own identity, if it is to.
    pub workload_api: Option<WorkloadApiConfig>,
}

/// Where the workload's identity comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityConfig {
    /// The certificate authority, `host:port`.
    pub ca: String,
    /// The bundle to believe before the CA or the control plane has sent a newer one: a PEM file.
    pub bundle: PathBuf,
    /// What proves to the CA which workload this is.
    pub evidence: EvidenceFile,
}

/// The file that proves which workload this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EvidenceFile {
    /// A one-time join token; the file is removed once the token is used.
    JoinToken(PathBuf),
    /// A token of an issuer that the CA believes; the file is read anew for every issuance.
    Jwt(PathBuf),
    /// An existing certificate of a root that the CA is configured for, and its key; the files are read anew for every
    /// issuance that cannot be a renewal.
    Certificate(CertificateFiles),
}

/// One service that the workload calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundListener {
    /// Where the workload connects to.
    pub listen: SocketAddr,
    /// The service's name in the directory, `host:port`.
    pub service: String,
    /// What is spoken, if it is not to be found out.
    pub protocol: DeclaredProtocol,
}

/// What callers may take of the sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest request head, in bytes.
    pub header_bytes: usize,
    /// How long a TCP connection to a peer or to the application may take to open.
    pub connect_timeout: Duration,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long a request head may take, once its first byte is there.
    pub header_timeout: Duration,
    /// How long a body may stand still.
    pub idle_body_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 64 << 10,
            connect_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(15),
            idle_body_timeout: Duration::from_secs(60),
        }
    }
}

impl Limits {
    /// What they mean for HTTP/1.1 messages.
    #[must_use]
    pub fn http1(&self) -> crate::http1::Limits {
        crate::http1::Limits {
            head_bytes: self.header_bytes,
            head_timeout: self.header_timeout,
            body_timeout: self.idle_body_timeout,
            ..crate::http1::Limits::default()
        }
    }
}

/// What a denied caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denials {
    /// Tell an authenticated peer which policy and rule denied its call. An anonymous caller is never told.
    pub name_rule: bool,
}

impl Default for Denials {
    fn default() -> Self {
        Self { name_rule: true }
    }
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// Every mistake in it, with line and column.
    pub fn read(path: &Path) -> Result<Self, Diagnostics> {
        yaml::read_file(path, config)
    }

    /// Reads a text; `file` is the name that mistakes are reported under and relative paths are relative to.
    ///
    /// # Errors
    /// Every mistake in it, with line and column.
    pub fn parse(file: &str, text: &str) -> Result<Self, Diagnostics> {
        yaml::read(file, text, config)
    }
}

fn config(value: Value<'_>) -> Option<Config> {
    value.mapping(|fields| {
        let mut taken = Addresses::default();
        let workload = fields.required("workload", Value::string);
        let trust_domain = fields.required("trustDomain", |v| {
            v.parsed("a trust domain such as shop.example")
        });
        let identity = fields.required("identity", identity);
        let control = fields.required("control", host_and_port);
        let inbound = fields.required("inbound", |v| taken.listen(v, "inbound"));
        let outbound = fields.default("outbound", Vec::new(), |v| {
            v.list("outbound listeners", |item| {
                outbound_listener(item, &mut taken)
            })
        });
        let ops = fields.required("ops", |v| taken.listen(v, "ops"));
        let limits = fields.default("limits", Limits::default(), limits);
        let drain_timeout =
            fields.default("drainTimeout", Duration::from_secs(30), Value::duration);
        let denials = fields.default("denials", Denials::default(), denials);
        let workload_api = fields.optional("workloadApi", workload_api);
        Some(Config {
            workload: workload?,
            trust_domain: trust_domain?,
            identity: identity?,
            control: control?,
            inbound: inbound?,
            outbound: outbound?,
            ops: ops?,
            limits: limits?,
            drain_timeout: drain_timeout?,
            denials: denials?,
            workload_api: workload_api?,
        })
    })
}

fn workload_api(value: Value<'_>) -> Option<WorkloadApiConfig> {
    value.mapping(|fields| {
        let socket = fields.required("socket", path);
        // To connect is to write (unix(7)).
        let mode = fields.default("mode", 0o666, mode);
        Some(WorkloadApiConfig {
            socket: socket?,
            mode: mode?,
        })
    })
}

/// Permission bits, in octal digits.
fn mode(value: Value<'_>) -> Option<u32> {
    const EXPECTED: &str = "permission bits in quotes, such as \"0660\"";
    let digits = value.string()?;
    match u32::from_str_radix(&digits, 8) {
        Ok(mode @ 0..=0o777) => Some(mode),
        _ => value.expected(EXPECTED),
    }
}

fn identity(value: Value<'_>) -> Option<IdentityConfig> {
    value.mapping(|fields| {
        let ca = fields.required("ca", host_and_port);
        let bundle = fields.required("bundle", path);
        let evidence = evidence(fields);
        Some(IdentityConfig {
            ca: ca?,
            bundle: bundle?,
            evidence: evidence?,
        })
    })
}

fn evidence(fields: &mut Fields<'_>) -> Option<EvidenceFile> {
    let join_token = fields.optional("joinTokenFile", path);
    let jwt = fields.optional("jwtFile", path);
    let chain = fields.optional("certificateFile", path);
    let key = fields.optional("certificateKeyFile", path);
    match (join_token?, jwt?, chain?, key?) {
        (Some(join_token), None, None, None) => Some(EvidenceFile::JoinToken(join_token)),
        (None, Some(jwt), None, None) => Some(EvidenceFile::Jwt(jwt)),
        (None, None, Some(chain), Some(key)) => {
            Some(EvidenceFile::Certificate(CertificateFiles { chain, key }))
        }
        (None, None, Some(_), None) => fields
            .value()
            .mistake("missing field `certificateKeyFile`: the key of `certificateFile`"),
        (None, None, None, Some(_)) => fields
            .value()
            .mistake("missing field `certificateFile`: the certificate of `certificateKeyFile`"),
        (None, None, None, None) => fields.value().mistake(
            "missing field `joinTokenFile`, `jwtFile` or `certificateFile`: the CA has to be shown which workload this is",
        ),
        _ => fields.value().mistake(
            "expected one of `joinTokenFile`, `jwtFile` and `certificateFile`, got several",
        ),
    }
}

fn outbound_listener(value: Value<'_>, taken: &mut Addresses) -> Option<OutboundListener> {
    value.mapping(|fields| {
        let listen = fields.required("listen", |v| taken.listen(v, "another outbound listener"));
        let service = fields.required("service", host_and_port);
        let protocol = fields.default("protocol", DeclaredProtocol::Detect, |v| {
            v.choice(&[
                ("http1", DeclaredProtocol::Http1),
                ("http2", DeclaredProtocol::Http2),
                ("tcp", DeclaredProtocol::Tcp),
            ])
        });
        Some(OutboundListener {
            listen: listen?,
            service: service?,
            protocol: protocol?,
        })
    })
}

fn limits(value: Value<'_>) -> Option<Limits> {
    value.mapping(|fields| {
        let default = Limits::default();
        let header_bytes = fields.default("headerBytes", default.header_bytes, header_bytes);
        let mut time = |name, default| fields.default(name, default, positive_duration);
        let connect_timeout = time("connectTimeout", default.connect_timeout);
        let handshake_timeout = time("handshakeTimeout", default.handshake_timeout);
        let header_timeout = time("headerTimeout", default.header_timeout);
        let idle_body_timeout = time("idleBodyTimeout", default.idle_body_timeout);
        Some(Limits {
            header_bytes: header_bytes?,
            connect_timeout: connect_timeout?,
            handshake_timeout: handshake_timeout?,
            header_timeout: header_timeout?,
            idle_body_timeout: idle_body_timeout?,
        })
    })
}

fn denials(value: Value<'_>) -> Option<Denials> {
    value.mapping(|fields| {
        let name_rule = fields.default("nameRule", Denials::default().name_rule, Value::bool);
        Some(Denials {
            name_rule: name_rule?,
        })
    })
}

/// Less would refuse ordinary requests; more would let a few callers take the sidecar's memory.
fn header_bytes(value: Value<'_>) -> Option<usize> {
    let bytes = value.size()?;
    match usize::try_from(bytes) {
        Ok(bytes @ 1024..=1_048_576) => Some(bytes),
        _ => value.mistake(format!(
            "expected a size from 1KiB to 1MiB, got {bytes} bytes"
        )),
    }
}

fn positive_duration(value: Value<'_>) -> Option<Duration> {
    match value.duration()? {
        Duration::ZERO => value.mistake("expected a duration longer than nothing, got 0"),
        duration => Some(duration),
    }
}

/// A path; a relative one is relative to the configuration file.
fn path(value: Value<'_>) -> Option<PathBuf> {
    let base = Path::new(value.file()).parent().unwrap_or(Path::new(""));
    value.text().map(|path| base.join(path))
}

/// `127.0.0.1:80`, `[::1]:80` or `name.example:80`.
fn host_and_port(value: Value<'_>) -> Option<String> {
    const EXPECTED: &str = "a host and a port such as 127.0.0.1:15010 or orders.shop:8080";
    let text = value.text()?;
    let valid = text.parse::<http::uri::Authority>().is_ok_and(|authority| {
        !authority.host().is_empty()
            && !text.contains('@')
            && authority.port_u16().is_some_and(|port| port != 0)
    });
    if valid {
        Some(text.to_owned())
    } else {
        value.expected(EXPECTED)
    }
}

/// The addresses that are to be listened on, and by whom.
#[derive(Default)]
struct Addresses(Vec<(SocketAddr, &'static str)>);

impl Addresses {
    /// Reads an address that nobody else listens on. Port 0 is the system's choice, and always free.
    fn listen(&mut self, value: Value<'_>, user: &'static str) -> Option<SocketAddr> {
        let address: SocketAddr = value.parsed("an address such as 127.0.0.1:15008")?;
        let other = self
            .0
            .iter()
            .find(|(taken, _)| address.port() != 0 && *taken == address);
        if let Some((_, other)) = other {
            return value.mistake(format!("{address} is taken: {other} listens on it already"));
        }
        self.0.push((address, user));
        Some(address)
    }
}

#[cfg(test)]
mod tests;
