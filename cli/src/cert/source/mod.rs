//! Where certificates come from: a file, standard input, a TLS handshake, the Workload API, a pod.

mod bundle;
mod bytes;
mod der;
mod found;
mod handshake;
mod kubernetes;
mod pem;
mod pkcs12;
mod pod;
mod workload_api;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;
use zeroize::Zeroizing;

pub(super) use self::bytes::BytesError;
pub(super) use self::found::{Found, FoundKey, Group, Kind, MOST_CERTIFICATES, Remark};
#[cfg(test)]
pub(super) use self::handshake::ClientCertificate;
pub(super) use self::handshake::{Client, ClientOutcome, Connection, TLS12};
pub(super) use self::pem::write as write_pem;
pub(super) use self::workload_api::{Updates, WorkloadApi, WorkloadApiError};

use self::bytes::Context;
use self::handshake::HandshakeError;
use self::pod::PodError;

/// The largest file that is read, in bytes.
const LARGEST_FILE: u64 = 16 << 20;
/// How long a connection to a server may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// What a target is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Stdin,
    File(PathBuf),
    Server { host: String, port: u16 },
    Socket(PathBuf),
    Pod { namespace: String, name: String },
}

/// What is needed to get at a target.
#[derive(Default)]
pub(super) struct Access {
    pub(super) client: Client,
    /// What opens a PKCS#12 file, or an encrypted key.
    pub(super) password: Option<Zeroizing<String>>,
}

/// Why there are no certificates to inspect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("cannot read {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("cannot read standard input")]
    Stdin(#[source] io::Error),
    #[error(
        "{0}: no such file, and neither host:port, unix:SOCKET nor namespace/pod; a server is given with its port (shop.example:443)"
    )]
    UnknownTarget(String),
    #[error("{url}: a URL; as a target, the server is {target}")]
    Url { url: String, target: String },
    #[error("{origin}: {source}")]
    Bytes { origin: String, source: BytesError },
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    WorkloadApi(#[from] WorkloadApiError),
    #[error(transparent)]
    Pod(#[from] PodError),
    #[error("cannot start")]
    Runtime(#[source] io::Error),
}

impl Target {
    /// Finds out what the user named.
    pub(super) fn parse(text: &str) -> Result<Self, ReadError> {
        if text == "-" {
            return Ok(Self::Stdin);
        }
        // Both forms of SPIFFE_ENDPOINT_SOCKET (SPIFFE Workload Endpoint §4): unix:/a and unix:///a.
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Socket(path.strip_prefix("//").unwrap_or(path).into()));
        }
        if Path::new(text).exists() {
            return Ok(Self::File(text.into()));
        }
        if let Some((host, port)) = host_and_port(text) {
            let host = host.to_owned();
            return Ok(Self::Server { host, port });
        }
        match pod::names(text) {
            Some((namespace, name)) => Ok(Self::Pod {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }),
            None => Err(match Url::parse(text) {
                Ok(url) if url.has_host() => ReadError::Url {
                    url: text.to_owned(),
                    target: format!(
                        "{}:{}",
                        url.host_str().unwrap_or_default(),
                        url.port_or_known_default().unwrap_or(443)
                    ),
                },
                _ => ReadError::UnknownTarget(text.to_owned()),
            }),
        }
    }

    /// Gets the certificates.
    pub(super) fn read(&self, access: &Access) -> Result<Found, ReadError> {
        match self {
            Self::Stdin => {
                let bytes = limited(io::stdin().lock()).map_err(ReadError::Stdin)?;
                from_bytes("standard input", &bytes, None, access)
            }
            Self::File(path) => {
                let bytes = read_file(path).map_err(|source| ReadError::File {
                    path: path.clone(),
                    source,
                })?;
                let origin = path.display().to_string();
                let mut found = from_bytes(&origin, &bytes, path.parent(), access)?;
                found.exposed_mode = exposed_mode(path, &bytes);
                Ok(found)
            }
            Self::Server { host, port } => {
                let (certificates, connection) =
                    handshake::present(host, *port, &access.client, CONNECT_PATIENCE)?;
                Ok(Found {
                    origin: format!("{host}:{port}"),
                    form: "TLS handshake",
                    groups: vec![Group::new(None, Kind::Chain, certificates)],
                    connection: Some(connection),
                    remarks: Vec::new(),
                    exposed_mode: None,
                })
            }
            Self::Socket(path) => {
                Ok(runtime()?
                    .block_on(async { WorkloadApi::connect(path).await?.fetch().await })?)
            }
            Self::Pod { namespace, name } => Ok(pod::present(namespace, name, &access.client)?),
        }
    }
}

/// A runtime for the thread that is here.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, ReadError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ReadError::Runtime)
}

/// Reads certificates out of bytes, as they would be out of a file.
pub(super) fn from_bytes(
    origin: &str,
    bytes: &[u8],
    directory: Option<&Path>,
    access: &Access,
) -> Result<Found, ReadError> {
    let context = Context {
        password: access.password.as_ref().map(|password| password.as_str()),
        directory,
    };
    let read = bytes::read(bytes, context).map_err(|source| ReadError::Bytes {
        origin: origin.to_owned(),
        source,
    })?;
    let mut found = Found {
        origin: origin.to_owned(),
        form: read.form,
        groups: read.groups,
        connection: None,
        remarks: read.remarks,
        exposed_mode: None,
    };
    bound(&mut found);
    Ok(found)
}

/// Keeps no more certificates than can be shown.
fn bound(found: &mut Found) {
    let mut room = MOST_CERTIFICATES;
    let mut left_out = 0;
    for group in &mut found.groups {
        let kept = group.certificates.len().min(room);
        left_out += group.certificates.len() - kept;
        group.certificates.truncate(kept);
        room -= kept;
    }
    found.groups.retain(|group| !group.certificates.is_empty());
    if left_out > 0 {
        found.remarks.push(Remark::Damaged(format!(
            "there are more than {MOST_CERTIFICATES} certificates; {left_out} are not looked at"
        )));
    }
}

/// A file's bytes, if it is not too large.
pub(super) fn read_file(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    limited(File::open(path)?)
}

fn limited(reader: impl io::Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    reader.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST_FILE) {
        return Err(io::Error::other(format!(
            "it has more than {} MiB",
            LARGEST_FILE >> 20
        )));
    }
    Ok(bytes)
}

/// The permissions of a file with a private key in the clear, if others than its owner may read it.
fn exposed_mode(path: &Path, bytes: &[u8]) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    if mode & 0o044 == 0 {
        return None;
    }
    // As one reads it who has no password.
    let found = from_bytes("", bytes, path.parent(), &Access::default()).ok()?;
    let mut keys = found.groups.iter().flat_map(|group| &group.keys);
    let in_the_clear =
        found.form != "PKCS#12" && keys.any(|key| !matches!(key, FoundKey::Encrypted));
    in_the_clear.then_some(mode)
}

/// `host:port`, `[v6]:port`.
fn host_and_port(target: &str) -> Option<(&str, u16)> {
    let (host, port) = target.rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if host.is_empty() || host.contains('/') {
        return None;
    }
    Some((host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_paths() {
        assert_eq!(
            host_and_port("127.1.2.11:15008"),
            Some(("127.1.2.11", 15008))
        );
        assert_eq!(host_and_port("[::1]:15008"), Some(("::1", 15008)));
        assert_eq!(
            host_and_port("orders.shop:15008"),
            Some(("orders.shop", 15008))
        );
        for path in ["leaf.pem", "a:b", ":15008", "dir:1/leaf:2", "orders:70000"] {
            assert_eq!(host_and_port(path), None, "{path}");
        }
    }

    #[test]
    fn targets_are_told_apart() {
        let socket = |path: &str| Target::Socket(path.into());
        for (text, target) in [
            ("-", Target::Stdin),
            ("unix:/run/spiffe.sock", socket("/run/spiffe.sock")),
            ("unix:///run/spiffe.sock", socket("/run/spiffe.sock")),
            ("/dev/null", Target::File("/dev/null".into())),
            (
                "shop/orders-0",
                Target::Pod {
                    namespace: "shop".to_owned(),
                    name: "orders-0".to_owned(),
                },
            ),
        ] {
            assert_eq!(Target::parse(text).unwrap(), target, "{text}");
        }
        let error = Target::parse("no/such/file").unwrap_err();
        assert_eq!(
            error.to_string(),
            "no/such/file: no such file, and neither host:port, unix:SOCKET nor namespace/pod; \
             a server is given with its port (shop.example:443)"
        );
        let error = Target::parse("https://shop.example/orders").unwrap_err();
        assert_eq!(
            error.to_string(),
            "https://shop.example/orders: a URL; as a target, the server is shop.example:443"
        );
    }

    #[test]
    fn what_is_no_certificate_is_told_apart() {
        let error = |bytes: &[u8]| {
            let access = Access::default();
            let read = from_bytes("f", bytes, None, &access).map(|_| ());
            read.unwrap_err().to_string()
        };
        assert!(error(b"").starts_with("f: empty; expected certificates"));
        let key = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert_eq!(
            error(key),
            "f: no certificate in it: a private key; its certificate is elsewhere, and \
             `cat CERTIFICATE KEY | countersign cert inspect -` tells whether they belong together"
        );
        let cut = b"-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert_eq!(
            error(cut),
            "f: no certificate in it: PEM block 1 (CERTIFICATE): its END line is missing"
        );
        assert!(
            error(b"\x1b[2Jhello").contains("it starts with \"\\x1b[2Jhello\""),
            "{}",
            error(b"\x1b[2Jhello")
        );
    }
}
