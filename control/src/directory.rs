//! The directory of workloads and services, read from a file.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use countersign_identity::{SpiffeId, TrustDomain};
use countersign_policy::Diagnostics;
use countersign_policy::yaml::{self, Value};

/// Every workload and service of the mesh, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Directory {
    pub(crate) workloads: BTreeMap<String, Workload>,
    pub(crate) services: BTreeMap<String, Service>,
}

/// One workload: one process with a sidecar beside it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Workload {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) service_account: String,
    /// The ID that its sidecar must have proved. It may be of another trust domain, for services of this mesh that are there.
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) labels: BTreeMap<String, String>,
    /// Where its sidecar accepts the wire.
    pub(crate) wire_address: SocketAddr,
    pub(crate) ports: Vec<Port>,
}

/// A port of a workload's application.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Port {
    /// What callers name and policy judges.
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    /// The original destination as callers name it on the wire.
    pub(crate) destination: SocketAddr,
    /// Where the application listens.
    pub(crate) application: SocketAddr,
}

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Found out by the sidecar from the first bytes.
    Detect,
    Http1,
    Http2,
    Tcp,
}

/// What an application calls: a name, with one port of some workloads behind it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Service {
    pub(crate) protocol: Protocol,
    pub(crate) endpoints: Vec<Endpoint>,
}

/// One workload behind a service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Endpoint {
    pub(crate) wire_address: SocketAddr,
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) destination: SocketAddr,
}

/// Reads the directory from a file.
pub(crate) fn read_file(path: &Path, trust_domain: &TrustDomain) -> Result<Directory, Diagnostics> {
    yaml::read_file(path, |value| directory(value, trust_domain))
}

/// Reads the directory from the root of its YAML document.
pub(crate) fn directory(value: Value<'_>, trust_domain: &TrustDomain) -> Option<Directory> {
    value.mapping(|fields| {
        let mut workloads = BTreeMap::new();
        let mut wire_addresses = BTreeMap::new();
        let read_workloads = fields.default("workloads", Vec::new(), |value| {
            value.list("workloads", |value| {
                let workload = workload(value, trust_domain)?;
                let name = workload.name.clone();
                if let Some(other) = wire_addresses.insert(workload.wire_address, name.clone()) {
                    let address = workload.wire_address;
                    value.note(format!(
                        "the wireAddress {address} is that of the workload `{other}` already"
                    ));
                }
                match workloads.insert(name.clone(), workload) {
                    Some(_) => value.mistake(format!("there is a workload `{name}` above already")),
                    None => Some(()),
                }
            })
        });
        // If a workload could not be read, a service that names it is not at fault.
        let known = read_workloads.is_some().then_some(&workloads);
        let mut services = BTreeMap::new();
        let read_services = fields.default("services", Vec::new(), |value| {
            value.list("services", |value| {
                let (name, service) = service(value, known)?;
                match services.insert(name.clone(), service) {
                    Some(_) => value.mistake(format!("there is a service `{name}` above already")),
                    None => Some(()),
                }
            })
        });
        read_workloads?;
        read_services?;
        Some(Directory {
            workloads,
            services,
        })
    })
}

fn workload(value: Value<'_>, trust_domain: &TrustDomain) -> Option<Workload> {
    value.mapping(|fields| {
        let name = fields.required("name", Value::string);
        let namespace = fields.required("namespace", Value::string);
        let service_account = fields.required("serviceAccount", Value::string);
        let of = fields.optional("trustDomain", |value| {
            value.parsed("a trust domain such as partner.example")
        });
        let labels = fields.default("labels", Vec::new(), |value| {
            value.entries("strings", |_, value| value.string_or_empty())
        });
        let wire_address = fields.required("wireAddress", address);
        let ports = fields.default("ports", Vec::new(), ports);
        let (name, namespace, service_account) = (name?, namespace?, service_account?);
        let of: Option<TrustDomain> = of?;
        let of = of.as_ref().unwrap_or(trust_domain);
        let spiffe_id = match SpiffeId::for_workload(of, &namespace, &service_account) {
            Ok(spiffe_id) => spiffe_id,
            Err(error) => {
                let message =
                    format!("namespace and serviceAccount do not make a SPIFFE ID: {error}");
                return value.mistake(message);
            }
        };
        Some(Workload {
            name,
            namespace,
            service_account,
            spiffe_id,
            labels: labels?.into_iter().collect(),
            wire_address: wire_address?,
            ports: ports?,
        })
    })
}

fn ports(value: Value<'_>) -> Option<Vec<Port>> {
    let mut numbers = BTreeSet::new();
    let mut destinations = BTreeSet::new();
    value.list("ports", |value| {
        let port = port(value)?;
        if !numbers.insert(port.port) {
            return value.mistake(format!(
                "the workload has the port {} above already",
                port.port
            ));
        }
        if !destinations.insert(port.destination) {
            let destination = port.destination;
            return value.mistake(format!(
                "another port has the destination {destination} already"
            ));
        }
        Some(port)
    })
}

fn port(value: Value<'_>) -> Option<Port> {
    value.mapping(|fields| {
        let port = fields.required("port", Value::port);
        let protocol = fields.default("protocol", Protocol::Detect, |value| {
            value.choice(&[
                ("http1", Protocol::Http1),
                ("http2", Protocol::Http2),
                ("tcp", Protocol::Tcp),
            ])
        });
        let destination = fields.required("destination", address);
        let application = fields.required("application", address);
        Some(Port {
            port: port?,
            protocol: protocol?,
            destination: destination?,
            application: application?,
        })
    })
}

fn address(value: Value<'_>) -> Option<SocketAddr> {
    let address: SocketAddr = value.parsed("an address such as 127.0.0.1:8080")?;
    if address.port() == 0 {
        return value.mistake("expected an address with a port from 1 to 65535, got port 0");
    }
    Some(address)
}

fn service(
    value: Value<'_>,
    workloads: Option<&BTreeMap<String, Workload>>,
) -> Option<(String, Service)> {
    value.mapping(|fields| {
        let name = fields.required("name", service_name);
        let port = fields.required("port", Value::port);
        let mut seen = BTreeSet::new();
        let mut protocols = BTreeSet::new();
        let endpoints = fields.required("workloads", |value| {
            value.list("names of workloads", |value| {
                let name = value.text()?;
                if !seen.insert(name) {
                    return value.mistake(format!("the workload `{name}` is listed already"));
                }
                let workloads = workloads?;
                let Some(workload) = workloads.get(name) else {
                    let help = match yaml::closest(name, workloads.keys().map(String::as_str)) {
                        Some(closest) => format!(", did you mean `{closest}`?"),
                        None => String::new(),
                    };
                    return value.mistake(format!("there is no workload `{name}` in this file{help}"));
                };
                let Some(port) = workload.ports.iter().find(|known| Some(known.port) == port) else {
                    return match port {
                        Some(port) => value.mistake(format!("the workload `{name}` has no port {port}")),
                        None => None,
                    };
                };
                protocols.insert(port.protocol as u8);
                if protocols.len() > 1 {
                    let message = "expected workloads that speak one protocol on the port; this one speaks another";
                    return value.mistake(message);
                }
                let endpoint = Endpoint {
                    wire_address: workload.wire_address,
                    spiffe_id: workload.spiffe_id.clone(),
                    destination: port.destination,
                };
                Some((port.protocol, endpoint))
            })
        });
        let endpoints = endpoints?;
        let protocol = endpoints.first().map_or(Protocol::Detect, |(protocol, _)| *protocol);
        let endpoints = endpoints.into_iter().map(|(_, endpoint)| endpoint).collect();
        port?;
        Some((name?, Service { protocol, endpoints }))
    })
}

fn service_name(value: Value<'_>) -> Option<String> {
    let name = value.text()?;
    let is_name = name.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && !host.contains(char::is_whitespace)
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if !is_name {
        return value.expected("a host and port such as orders.shop:8080");
    }
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Directory, String> {
        let trust_domain = TrustDomain::parse("shop.example").unwrap();
        yaml::read("directory.yaml", text, |value| {
            directory(value, &trust_domain)
        })
        .map_err(|error| error.to_string())
    }

    const ORDERS: &str = r#"
workloads:
- {name: orders, namespace: shop, serviceAccount: orders, labels: {app: orders, tier: ""}, wireAddress: "127.1.2.11:15008",
   ports: [{port: 8080, protocol: http1, destination: "127.1.2.11:8080", application: "127.0.0.1:8000"}, {port: 9, destination: "127.1.2.11:9", application: "127.1.2.11:9"}]}
- {name: web, namespace: shop, serviceAccount: web, wireAddress: "[::1]:15008"}
- {name: billing, namespace: shop, serviceAccount: billing, trustDomain: partner.example, wireAddress: "[::2]:15008"}
services:
- {name: "orders.shop:80", port: 8080, workloads: [orders]}
- {name: "nobody.shop:80", port: 1, workloads: []}
"#;

    #[test]
    fn reads_workloads_and_the_services_over_them() {
        let directory = read(ORDERS).unwrap();
        assert_eq!(
            directory.workloads["billing"].spiffe_id.as_str(),
            "spiffe://partner.example/ns/shop/sa/billing"
        );
        let orders = &directory.workloads["orders"];
        assert_eq!(
            orders.spiffe_id.as_str(),
            "spiffe://shop.example/ns/shop/sa/orders"
        );
        assert_eq!(orders.labels["tier"], "");
        assert_eq!(
            orders.ports[0].application,
            "127.0.0.1:8000".parse().unwrap()
        );
        assert_eq!(orders.ports[1].protocol, Protocol::Detect);
        assert!(directory.workloads["web"].ports.is_empty());
        let endpoint = Endpoint {
            wire_address: "127.1.2.11:15008".parse().unwrap(),
            spiffe_id: orders.spiffe_id.clone(),
            destination: "127.1.2.11:8080".parse().unwrap(),
        };
        let service = Service {
            protocol: Protocol::Http1,
            endpoints: vec![endpoint],
        };
        assert_eq!(directory.services["orders.shop:80"], service);
        assert!(directory.services["nobody.shop:80"].endpoints.is_empty());
        assert_eq!(read("workloads: []\n").unwrap(), Directory::default());
    }

    /// What is wrong with two good workloads `a` and `b` and these lines after them.
    fn mistakes(more: &str) -> Vec<String> {
        let text = format!(
            r#"workloads:
- {{name: a, namespace: shop, serviceAccount: a, wireAddress: "127.0.0.1:1", ports: [{{port: 1, protocol: http1, destination: "127.0.0.1:11", application: "127.0.0.1:12"}}]}}
- {{name: b, namespace: shop, serviceAccount: b, wireAddress: "127.0.0.1:2", ports: [{{port: 1, protocol: tcp, destination: "127.0.0.1:21", application: "127.0.0.1:22"}}]}}
{more}"#
        );
        let mistakes = read(&text).unwrap_err();
        mistakes
            .lines()
            .map(|line| line.replacen("directory.yaml:", "", 1))
            .collect()
    }

    #[test]
    fn workloads_must_be_told_apart() {
        let found = mistakes(
            r#"- {name: a, namespace: shop, serviceAccount: a, wireAddress: "127.0.0.1:3"}
- {name: c, namespace: shop, serviceAccount: c, wireAddress: "127.0.0.1:2"}
"#,
        );
        assert_eq!(
            found,
            [
                "4:3: there is a workload `a` above already",
                "5:3: the wireAddress 127.0.0.1:2 is that of the workload `b` already",
            ]
        );
    }

    #[test]
    fn what_a_workload_is_made_of_is_checked() {
        let found = mistakes(
            r#"- {name: c, namespace: "sh op", serviceAccount: c, wireAddress: "127.0.0.1:0"}
- {name: d, namespace: shop, serviceAccount: d, wireAddress: "127.0.0.1:4", ports: [{port: 1, destination: "127.0.0.1:31", application: "127.0.0.1:1"}, {port: 1, destination: "127.0.0.1:32", application: "127.0.0.1:1"}, {port: 2, destination: "127.0.0.1:31", application: "127.0.0.1:1"}]}
- {name: e, namespace: shop, serviceAccount: e, wireAddress: "127.0.0.1:5", ports: [{port: 1, protocol: http3, destination: "127.0.0.1:31", application: "127.0.0.1:1"}]}
services: [{name: "c:1", port: 1, workloads: [c]}]
"#,
        );
        assert_eq!(found.len(), 5, "{found:?}");
        assert!(
            found[0].starts_with("4:3: namespace and serviceAccount do not make a SPIFFE ID: ' '"),
            "{found:?}"
        );
        assert_eq!(
            found[1],
            "4:65: expected an address with a port from 1 to 65535, got port 0"
        );
        assert_eq!(found[2], "5:153: the workload has the port 1 above already");
        assert_eq!(
            found[3],
            "5:221: another port has the destination 127.0.0.1:31 already"
        );
        assert!(
            found[4].starts_with("6:105: unknown word \"http3\""),
            "{found:?}"
        );
    }

    #[test]
    fn services_name_workloads_that_have_the_port_and_speak_one_protocol() {
        let found = mistakes(
            r#"services:
- {name: "s:1", port: 1, workloads: [a, b]}
- {name: "s", port: 1, workloads: [a, a, bb]}
- {name: "s:3", port: 7, workloads: [a]}
- {name: "s:4", port: 1, workloads: [a]}
- {name: "s:4", port: 1, workloads: [b]}
"#,
        );
        assert_eq!(
            found,
            [
                "5:41: expected workloads that speak one protocol on the port; this one speaks another",
                "6:10: expected a host and port such as orders.shop:8080, got \"s\"",
                "6:39: the workload `a` is listed already",
                "6:42: there is no workload `bb` in this file, did you mean `b`?",
                "7:38: the workload `a` has no port 7",
                "9:3: there is a service `s:4` above already",
            ]
        );
    }
}
