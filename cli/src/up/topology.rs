//! Who is at which address: the workloads of a mesh, spread over its `/24`.

use std::net::{Ipv4Addr, SocketAddr};

use countersign_identity::{SpiffeId, SpiffeIdError};

use super::addresses::{Subnet, WantedPort};
use super::issuer::IssuerUrls;
use super::layout::Layout;
use super::mesh::{Mesh, Workload};
use crate::mesh_state::{IssuerState, MeshState, OutboundState, ProgramAddresses, WorkloadState};

const CA_PORT: u16 = 15_010;
const CA_OPS_PORT: u16 = 15_011;
const CONTROL_PORT: u16 = 15_012;
const CONTROL_OPS_PORT: u16 = 15_013;
const ISSUER_PORT: u16 = 8_400;
const WIRE_PORT: u16 = 15_008;
const SIDECAR_OPS_PORT: u16 = 15_020;
const FIRST_OUTBOUND_PORT: u16 = 16_001;

/// The ports that a sidecar takes at its workload's address, if the workload calls so many services.
pub(crate) fn sidecar_ports(calls: usize) -> Vec<u16> {
    [WIRE_PORT, SIDECAR_OPS_PORT]
        .into_iter()
        .chain(outbound_ports().take(calls))
        .collect()
}

fn outbound_ports() -> std::ops::RangeInclusive<u16> {
    FIRST_OUTBOUND_PORT..=u16::MAX
}

/// One running copy of a workload.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) workload: Workload,
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) addresses: WorkloadState,
}

impl Instance {
    /// Where this workload reaches a service that it calls.
    pub(crate) fn outbound(&self, service: &str) -> Option<String> {
        let outbound = &self.addresses.outbound;
        outbound
            .iter()
            .find(|o| o.service == service)
            .map(|o| o.listen.to_string())
    }
}

/// A mesh with its addresses.
#[derive(Clone, Debug)]
pub(crate) struct Topology {
    pub(crate) ca: ProgramAddresses,
    pub(crate) control: ProgramAddresses,
    pub(crate) issuer: SocketAddr,
    pub(crate) instances: Vec<Instance>,
}

/// Why a mesh cannot be laid out. A mesh file that was read without mistakes always can.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TopologyError {
    #[error("{subnet} has no address left for the workload {workload}")]
    Full { subnet: Subnet, workload: String },
    #[error("the workload {workload} can have no identity")]
    Identity {
        workload: String,
        source: SpiffeIdError,
    },
}

impl Topology {
    /// Gives everyone an address, in the order of the mesh file.
    pub(crate) fn new(mesh: &Mesh, subnet: Subnet) -> Result<Self, TopologyError> {
        let system = |port| SocketAddr::from((subnet.system(), port));
        let mut instances = Vec::new();
        for workload in &mesh.workloads {
            for name in workload.instances() {
                let ip = subnet
                    .workload(instances.len())
                    .ok_or_else(|| TopologyError::Full {
                        subnet,
                        workload: name.clone(),
                    })?;
                instances.push(instance(mesh, workload, name, ip)?);
            }
        }
        Ok(Self {
            ca: ProgramAddresses {
                listen: system(CA_PORT),
                ops: system(CA_OPS_PORT),
            },
            control: ProgramAddresses {
                listen: system(CONTROL_PORT),
                ops: system(CONTROL_OPS_PORT),
            },
            issuer: SocketAddr::from((subnet.issuer(), ISSUER_PORT)),
            instances,
        })
    }

    /// Every port that something of this mesh is going to listen on.
    pub(crate) fn wanted_ports(&self) -> Vec<WantedPort> {
        let want = |address, wanted_by: String| WantedPort { address, wanted_by };
        let mut wanted = vec![
            want(self.ca.listen, "the CA".to_owned()),
            want(self.ca.ops, "the CA's operator endpoint".to_owned()),
            want(self.control.listen, "the control plane".to_owned()),
            want(
                self.control.ops,
                "the control plane's operator endpoint".to_owned(),
            ),
            want(self.issuer, "the development issuer".to_owned()),
        ];
        for Instance { addresses, .. } in &self.instances {
            let WorkloadState {
                name,
                ip,
                ports,
                wire,
                sidecar_ops,
                outbound,
                ..
            } = addresses;
            let sidecar = format!("the sidecar of workload {name}");
            wanted.push(want(*wire, format!("{sidecar} for calls from the mesh")));
            wanted.push(want(
                *sidecar_ops,
                format!("{sidecar} as operator endpoint"),
            ));
            for OutboundState { service, listen } in outbound {
                wanted.push(want(*listen, format!("{sidecar} for calls to {service}")));
            }
            for port in ports {
                wanted.push(want(
                    SocketAddr::from((*ip, *port)),
                    format!("workload {name}"),
                ));
            }
        }
        wanted
    }

    /// What other commands are told.
    pub(crate) fn state(
        &self,
        mesh: &Mesh,
        mesh_file: &std::path::Path,
        layout: &Layout,
    ) -> MeshState {
        let issuers = mesh.issuers.iter().map(|issuer| {
            let urls = IssuerUrls::new(self.issuer, &issuer.name);
            IssuerState {
                name: issuer.name.clone(),
                issuer: issuer.issuer.clone(),
                discovery_url: urls.discovery,
                token_endpoint: urls.token,
                audiences: issuer.audiences.clone(),
                users: issuer.users.iter().map(|user| user.name.clone()).collect(),
            }
        });
        MeshState {
            pid: std::process::id(),
            mesh_file: mesh_file.to_owned(),
            trust_domain: mesh.trust_domain.to_string(),
            bundle: layout.bundle(),
            ca: self.ca.clone(),
            control: self.control.clone(),
            issuers: issuers.collect(),
            workloads: self
                .instances
                .iter()
                .map(|instance| instance.addresses.clone())
                .collect(),
        }
    }
}

fn instance(
    mesh: &Mesh,
    workload: &Workload,
    name: String,
    ip: Ipv4Addr,
) -> Result<Instance, TopologyError> {
    let (namespace, account) = (&workload.namespace, &workload.service_account);
    let spiffe_id =
        SpiffeId::for_workload(&mesh.trust_domain, namespace, account).map_err(|source| {
            TopologyError::Identity {
                workload: name.clone(),
                source,
            }
        })?;
    let outbound = workload
        .calls
        .iter()
        .zip(outbound_ports())
        .map(|(service, port)| OutboundState {
            service: service.clone(),
            listen: SocketAddr::from((ip, port)),
        });
    let addresses = WorkloadState {
        name,
        namespace: namespace.clone(),
        spiffe_id: spiffe_id.to_string(),
        ip,
        ports: workload.ports.iter().map(|port| port.port).collect(),
        wire: SocketAddr::from((ip, WIRE_PORT)),
        sidecar_ops: SocketAddr::from((ip, SIDECAR_OPS_PORT)),
        outbound: outbound.collect(),
    };
    Ok(Instance {
        workload: workload.clone(),
        spiffe_id,
        addresses,
    })
}
