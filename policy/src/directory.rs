//! The workloads that a mesh is known to have, for tools that compare policy with them.
//!
//! They are read from the control plane's directory file, or from the mesh file of `countersign up`. Only what policy can
//! ask about is looked at; what else is wrong with such a file is told by whoever it is for.

use std::collections::BTreeMap;
use std::path::Path;

use countersign_identity::{SpiffeId, TrustDomain};

use crate::yaml::{self, Value};
use crate::{Diagnostics, Workload};

/// The workloads of a mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// In the order of the file.
    pub workloads: Vec<KnownWorkload>,
}

/// A workload that is known to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownWorkload {
    /// What policy knows it by.
    pub workload: Workload,
    /// Its ports; none if the file does not say.
    pub ports: BTreeMap<u16, Protocol>,
}

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Found out by the sidecar from the first bytes.
    Detected,
    /// HTTP, gRPC included.
    Http,
    /// Declared to be something else: a call is a whole connection.
    Opaque,
}

impl KnownWorkload {
    /// Its SPIFFE ID; `None` if its names do not make one.
    #[must_use]
    pub fn spiffe_id(&self, trust_domain: &TrustDomain) -> Option<SpiffeId> {
        let Workload {
            namespace,
            service_account,
            ..
        } = &self.workload;
        SpiffeId::for_workload(trust_domain, namespace, service_account).ok()
    }
}

/// Reads the workloads from a directory file or a mesh file.
///
/// # Errors
/// Every mistake in what is looked at, by line and column.
pub fn read_file(path: &Path) -> Result<Directory, Diagnostics> {
    yaml::read_file(path, directory)
}

fn directory(value: Value<'_>) -> Option<Directory> {
    // A mesh file names its trust domain, and leaves out what follows from a workload's name.
    let is_mesh = value.peek("trustDomain").is_some();
    let mut workloads = Vec::new();
    each_field(value, |name, value| {
        if name == "workloads" {
            let read = value.list("workloads", |value| workload(value, is_mesh))?;
            workloads = read.into_iter().flatten().collect();
        }
        Some(())
    })?;
    Some(Directory { workloads })
}

/// One workload; none if it is of another trust domain, and so is known by its SPIFFE ID alone.
fn workload(value: Value<'_>, is_mesh: bool) -> Option<Option<KnownWorkload>> {
    if value.peek("trustDomain").is_some() {
        return Some(None);
    }
    let (mut name, mut namespace, mut account, mut labels) = (None, None, None, None);
    let mut ports = BTreeMap::new();
    each_field(value, |field, value| {
        match field {
            "name" => name = Some(value.string()?),
            "namespace" => namespace = Some(value.string()?),
            "serviceAccount" => account = Some(value.string()?),
            "labels" => {
                let given = value.entries("strings", |_, value| value.string_or_empty())?;
                labels = Some(given.into_iter().collect::<BTreeMap<_, _>>());
            }
            "ports" => ports = value.list("ports", port)?.into_iter().collect(),
            _ => {}
        }
        Some(())
    })?;
    if is_mesh && let Some(name) = name {
        account.get_or_insert_with(|| name.clone());
        labels.get_or_insert_with(|| BTreeMap::from([("app".to_owned(), name)]));
    }
    let Some(namespace) = namespace else {
        return value.mistake("missing field `namespace`");
    };
    let Some(service_account) = account else {
        return value.mistake("missing field `serviceAccount`");
    };
    Some(Some(KnownWorkload {
        workload: Workload {
            namespace,
            service_account,
            labels: labels.unwrap_or_default(),
        },
        ports,
    }))
}

fn port(value: Value<'_>) -> Option<(u16, Protocol)> {
    let (mut number, mut protocol) = (None, Protocol::Detected);
    each_field(value, |field, value| {
        match field {
            "port" => number = Some(value.port()?),
            "protocol" => {
                protocol = value.choice(&[
                    ("http1", Protocol::Http),
                    ("http2", Protocol::Http),
                    ("tcp", Protocol::Opaque),
                ])?;
            }
            _ => {}
        }
        Some(())
    })?;
    match number {
        Some(number) => Some((number, protocol)),
        None => value.mistake("missing field `port`"),
    }
}

/// Shows every field of a mapping, known or not.
fn each_field<'a>(
    value: Value<'a>,
    show: impl FnMut(&'a str, Value<'a>) -> Option<()>,
) -> Option<()> {
    value.entries("values", show).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Directory, String> {
        yaml::read("d.yaml", text, directory).map_err(|mistakes| mistakes.to_string())
    }

    fn orders() -> KnownWorkload {
        KnownWorkload {
            workload: Workload {
                namespace: "shop".to_owned(),
                service_account: "orders".to_owned(),
                labels: [("app".to_owned(), "orders".to_owned())].into(),
            },
            ports: [
                (8080, Protocol::Http),
                (7070, Protocol::Opaque),
                (9, Protocol::Detected),
            ]
            .into(),
        }
    }

    #[test]
    fn a_directory_file_and_a_mesh_file_name_the_same_workloads() {
        let file = r#"
workloads:
- name: orders-1
  namespace: shop
  serviceAccount: orders
  labels: {app: orders}
  wireAddress: "127.1.2.11:15008"
  ports:
  - {port: 8080, protocol: http1, destination: "127.1.2.11:8080", application: "127.0.0.1:8000"}
  - {port: 7070, protocol: tcp, destination: "127.1.2.11:7070", application: "127.0.0.1:7000"}
  - {port: 9, destination: "127.1.2.11:9", application: "127.1.2.11:9"}
services: []
"#;
        let mesh = r#"
trustDomain: shop.example
policy: {repository: ./policy}
workloads:
- name: orders
  namespace: shop
  command: [shop, orders]
  ports: [{port: 8080, protocol: http2}, {port: 7070, protocol: tcp}, {port: 9}]
"#;
        assert_eq!(read(file).unwrap().workloads, [orders()]);
        assert_eq!(read(mesh).unwrap().workloads, [orders()]);
        let id = orders().spiffe_id(&TrustDomain::parse("td").unwrap());
        assert_eq!(id.unwrap().as_str(), "spiffe://td/ns/shop/sa/orders");
    }

    #[test]
    fn every_mistake_in_it_is_told() {
        let text = "workloads:\n- {name: a, serviceAccount: a}\n- {namespace: n, name: b}\n- {namespace: n, serviceAccount: c, ports: [{port: 0}, {protocol: udp}]}\n";
        assert_eq!(
            read(text).unwrap_err(),
            "\
d.yaml:2:3: missing field `namespace`
d.yaml:3:3: missing field `serviceAccount`
d.yaml:4:52: expected a port from 1 to 65535, got the number 0
d.yaml:4:67: unknown word \"udp\", expected `http1`, `http2` or `tcp`"
        );
    }
}
