//! The directory as it came over the wire, checked field by field. One wrong field refuses the whole: a directory that is
//! half right would send calls to the wrong place.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use countersign_api::proto;
use countersign_identity::{SpiffeId, SpiffeIdError};
use countersign_policy::Workload;

use super::{DeclaredProtocol, Directory, Endpoint, OwnPort, OwnWorkload, Service};

/// Why a directory was refused. It says where; the control plane is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// A required field is not there.
    #[error("{at}: the field is missing")]
    Missing {
        /// Which field.
        at: String,
    },
    /// A field that must be `ip:port`.
    #[error("{at}: expected ip:port, got {value:?}")]
    Address {
        /// Which field.
        at: String,
        /// What came.
        value: String,
    },
    /// A field that must be a port.
    #[error("{at}: expected a port from 1 to 65535, got {value}")]
    Port {
        /// Which field.
        at: String,
        /// What came.
        value: u32,
    },
    /// A protocol that this sidecar does not know.
    #[error("{at}: the protocol {value} is not known to this version of the sidecar")]
    Protocol {
        /// Which field.
        at: String,
        /// What came.
        value: i32,
    },
    /// A field that must be a SPIFFE ID.
    #[error("{at}: {source}")]
    SpiffeId {
        /// Which field.
        at: String,
        /// What is wrong with it.
        source: SpiffeIdError,
    },
    /// The same thing twice; which one counts cannot be known.
    #[error("{at}: it is there twice")]
    Twice {
        /// Which thing.
        at: String,
    },
    /// The directory is another workload's.
    #[error("the directory is of the workload {theirs}, our identity is {ours}")]
    NotOurs {
        /// Whose it is.
        theirs: String,
        /// Who we are.
        ours: SpiffeId,
    },
}

impl Directory {
    /// Checks a directory from the control plane. `ours` is the identity of this sidecar, which the directory's own workload
    /// must have; endpoints that are as they were in `previous` keep their `Arc`.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn from_proto(
        directory: proto::Directory,
        ours: &SpiffeId,
        previous: Option<&Self>,
    ) -> Result<Self, DirectoryError> {
        let own = directory.self_.ok_or_else(|| missing("self"))?;
        let own = own_workload(own, ours)?;
        let mut known = Known::of(previous);
        let mut services = HashMap::with_capacity(directory.services.len());
        for service in directory.services {
            let service = known.service(service)?;
            if let Some(twice) = services.insert(service.name.clone(), service) {
                return Err(DirectoryError::Twice {
                    at: format!("service {:?}", twice.name),
                });
            }
        }
        Ok(Self { own, services })
    }
}

fn own_workload(own: proto::Workload, ours: &SpiffeId) -> Result<OwnWorkload, DirectoryError> {
    let log_name = format!("{}/{}", own.namespace, own.service_account);
    let is_ours = ours.workload().is_some_and(|name| {
        name.namespace == own.namespace && name.service_account == own.service_account
    });
    if !is_ours {
        return Err(DirectoryError::NotOurs {
            theirs: log_name,
            ours: ours.clone(),
        });
    }
    let mut ports: Vec<OwnPort> = Vec::with_capacity(own.ports.len());
    for (index, port) in own.ports.into_iter().enumerate() {
        let at = format!("self.ports[{index}]");
        let port = own_port(port, &at)?;
        if ports
            .iter()
            .any(|other| other.destination == port.destination)
        {
            return Err(DirectoryError::Twice {
                at: format!("{at}.destination"),
            });
        }
        ports.push(port);
    }
    Ok(OwnWorkload {
        name: own.name,
        workload: Workload {
            namespace: own.namespace,
            service_account: own.service_account,
            labels: own.labels.into_iter().collect(),
        },
        log_name,
        ports,
    })
}

fn own_port(port: proto::Port, at: &str) -> Result<OwnPort, DirectoryError> {
    Ok(OwnPort {
        port: match u16::try_from(port.port) {
            Ok(number @ 1..) => number,
            _ => {
                return Err(DirectoryError::Port {
                    at: format!("{at}.port"),
                    value: port.port,
                });
            }
        },
        protocol: protocol(port.protocol, at)?,
        destination: address(&port.destination, || format!("{at}.destination"))?,
        application: address(&port.application, || format!("{at}.application"))?,
    })
}

/// The endpoints that are known already, of which most are the same in the next directory.
struct Known(HashMap<Endpoint, Arc<Endpoint>>);

impl Known {
    fn of(previous: Option<&Directory>) -> Self {
        let services = previous
            .into_iter()
            .flat_map(|directory| directory.services.values());
        let endpoints = services.flat_map(|service| &service.endpoints);
        Self(
            endpoints
                .map(|endpoint| (Endpoint::clone(endpoint), Arc::clone(endpoint)))
                .collect(),
        )
    }

    fn service(&mut self, service: proto::Service) -> Result<Arc<Service>, DirectoryError> {
        let name = service.name;
        if name.is_empty() {
            return Err(missing("services[].name"));
        }
        let mut endpoints = Vec::with_capacity(service.endpoints.len());
        for (index, endpoint) in service.endpoints.into_iter().enumerate() {
            let at = |field: &str| format!("service {name:?}, endpoints[{index}].{field}");
            let endpoint = Endpoint {
                wire_address: address(&endpoint.wire_address, || at("wire_address"))?,
                spiffe_id: SpiffeId::parse(&endpoint.spiffe_id).map_err(|source| {
                    DirectoryError::SpiffeId {
                        at: at("spiffe_id"),
                        source,
                    }
                })?,
                destination: address(&endpoint.destination, || at("destination"))?,
            };
            let shared = self
                .0
                .entry(endpoint)
                .or_insert_with_key(|new| Arc::new(new.clone()));
            endpoints.push(Arc::clone(shared));
        }
        let protocol = protocol(service.protocol, &format!("service {name:?}"))?;
        Ok(Arc::new(Service {
            name,
            protocol,
            endpoints,
        }))
    }
}

fn missing(at: &str) -> DirectoryError {
    DirectoryError::Missing { at: at.to_owned() }
}

fn address(value: &str, at: impl FnOnce() -> String) -> Result<SocketAddr, DirectoryError> {
    value.parse().map_err(|_| DirectoryError::Address {
        at: at(),
        value: value.to_owned(),
    })
}

fn protocol(value: i32, at: &str) -> Result<DeclaredProtocol, DirectoryError> {
    match proto::Protocol::try_from(value) {
        Ok(proto::Protocol::Unspecified) => Ok(DeclaredProtocol::Detect),
        Ok(proto::Protocol::Http1) => Ok(DeclaredProtocol::Http1),
        Ok(proto::Protocol::Http2) => Ok(DeclaredProtocol::Http2),
        Ok(proto::Protocol::Tcp) => Ok(DeclaredProtocol::Tcp),
        Err(_) => Err(DirectoryError::Protocol {
            at: format!("{at}.protocol"),
            value,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> SpiffeId {
        SpiffeId::parse("spiffe://shop.example/ns/shop/sa/orders").unwrap()
    }

    fn valid() -> proto::Directory {
        let endpoint = |host: u8| proto::Endpoint {
            wire_address: format!("127.1.2.{host}:15008"),
            spiffe_id: "spiffe://shop.example/ns/shop/sa/payments".to_owned(),
            destination: format!("127.1.2.{host}:9090"),
        };
        proto::Directory {
            self_: Some(proto::Workload {
                name: "orders".to_owned(),
                namespace: "shop".to_owned(),
                service_account: "orders".to_owned(),
                labels: [("app".to_owned(), "orders".to_owned())].into(),
                ports: vec![proto::Port {
                    port: 8080,
                    protocol: proto::Protocol::Http1.into(),
                    destination: "127.1.2.11:8080".to_owned(),
                    application: "127.0.0.1:80".to_owned(),
                }],
            }),
            services: vec![proto::Service {
                name: "payments.shop:9090".to_owned(),
                protocol: proto::Protocol::Unspecified.into(),
                endpoints: vec![endpoint(12), endpoint(13)],
            }],
        }
    }

    #[test]
    fn a_valid_directory_is_taken_over() {
        let directory = Directory::from_proto(valid(), &ours(), None).unwrap();
        assert_eq!(directory.own.log_name, "shop/orders");
        assert_eq!(directory.own.workload.labels["app"], "orders");
        let port = directory
            .own_port("127.1.2.11:8080".parse().unwrap())
            .unwrap();
        assert_eq!((port.port, port.protocol), (8080, DeclaredProtocol::Http1));
        assert_eq!(port.application, "127.0.0.1:80".parse().unwrap());
        assert_eq!(directory.own_port("127.1.2.11:8081".parse().unwrap()), None);
        let service = directory.service("payments.shop:9090").unwrap();
        assert_eq!(service.protocol, DeclaredProtocol::Detect);
        assert_eq!(
            service.endpoints[1].wire_address,
            "127.1.2.13:15008".parse().unwrap()
        );
    }

    #[test]
    fn an_endpoint_that_stays_keeps_its_arc() {
        let first = Directory::from_proto(valid(), &ours(), None).unwrap();
        let mut changed = valid();
        changed.services[0].endpoints[1].wire_address = "127.1.2.14:15008".to_owned();
        let second = Directory::from_proto(changed, &ours(), Some(&first)).unwrap();
        let endpoints =
            |directory: &Directory| directory.services["payments.shop:9090"].endpoints.clone();
        assert!(Arc::ptr_eq(&endpoints(&first)[0], &endpoints(&second)[0]));
        assert!(!Arc::ptr_eq(&endpoints(&first)[1], &endpoints(&second)[1]));
    }

    #[test]
    fn one_wrong_field_refuses_the_whole_and_is_named() {
        type Change = fn(&mut proto::Directory);
        let cases: [(Change, &str); 10] = [
            (|d| d.self_ = None, "self: the field is missing"),
            (
                |d| d.self_.as_mut().unwrap().service_account = "root".to_owned(),
                "the directory is of the workload shop/root, our identity is spiffe://shop.example/ns/shop/sa/orders",
            ),
            (
                |d| d.self_.as_mut().unwrap().ports[0].port = 0,
                "self.ports[0].port: expected a port from 1 to 65535, got 0",
            ),
            (
                |d| d.self_.as_mut().unwrap().ports[0].port = 65536,
                "self.ports[0].port: expected a port from 1 to 65535, got 65536",
            ),
            (
                |d| d.self_.as_mut().unwrap().ports[0].application = "localhost:80".to_owned(),
                "self.ports[0].application: expected ip:port, got \"localhost:80\"",
            ),
            (
                |d| {
                    let ports = &mut d.self_.as_mut().unwrap().ports;
                    ports.push(ports[0].clone());
                },
                "self.ports[1].destination: it is there twice",
            ),
            (
                |d| d.services[0].protocol = 9,
                "service \"payments.shop:9090\".protocol: the protocol 9 is not known to this version of the sidecar",
            ),
            (
                |d| d.services.push(d.services[0].clone()),
                "service \"payments.shop:9090\": it is there twice",
            ),
            (
                |d| d.services[0].endpoints[1].wire_address = "127.1.2.13".to_owned(),
                "service \"payments.shop:9090\", endpoints[1].wire_address: expected ip:port, got \"127.1.2.13\"",
            ),
            (
                |d| d.services[0].name.clear(),
                "services[].name: the field is missing",
            ),
        ];
        for (change, message) in cases {
            let mut directory = valid();
            change(&mut directory);
            let error = Directory::from_proto(directory, &ours(), None).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn a_wrong_spiffe_id_is_refused() {
        let mut directory = valid();
        directory.services[0].endpoints[0].spiffe_id = "https://shop.example/payments".to_owned();
        let error = Directory::from_proto(directory, &ours(), None).unwrap_err();
        assert!(matches!(error, DirectoryError::SpiffeId { .. }), "{error}");
    }
}
