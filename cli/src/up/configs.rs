//! The configuration files of the programs that `up` starts. They are YAML in its JSON form, where no
//! path and no name needs any care.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::issuer::IssuerUrls;
use super::layout::{Layout, LayoutError};
use super::mesh::Mesh;
use super::topology::{Instance, Topology};

/// How often the control plane asks a policy repository that is elsewhere.
const POLICY_INTERVAL: &str = "1s";

/// How long a sidecar waits for calls to end when it is stopped: less than `up` waits for it.
const DRAIN_TIMEOUT: &str = "3s";

/// The name under which the control plane's join token is kept.
pub(crate) const CONTROL_TOKEN: &str = "control";

/// Writes all of them.
pub(crate) fn write(mesh: &Mesh, topology: &Topology, layout: &Layout) -> Result<(), LayoutError> {
    layout.write(&layout.ca_config(), &yaml(&ca(mesh, topology, layout)))?;
    layout.write(&layout.workload_directory(), &yaml(&directory(topology)))?;
    layout.write(
        &layout.control_config(),
        &yaml(&control(mesh, topology, layout)),
    )?;
    for instance in &topology.instances {
        let path = layout.sidecar_config(&instance.addresses.name);
        layout.write(&path, &yaml(&sidecar(mesh, topology, layout, instance)))?;
    }
    Ok(())
}

/// The name under which a sidecar's join token is kept.
pub(crate) fn sidecar_token(workload: &str) -> String {
    format!("sidecar-{workload}")
}

fn yaml(value: &Value) -> String {
    format!("# Written by `countersign up` at every start; changes are lost.\n{value:#}\n")
}

fn ca(mesh: &Mesh, topology: &Topology, layout: &Layout) -> Value {
    json!({
        "trustDomain": mesh.trust_domain.as_str(),
        "dataDirectory": layout.ca_data(),
        "listen": topology.ca.listen,
        "ops": topology.ca.ops,
    })
}

fn control(mesh: &Mesh, topology: &Topology, layout: &Layout) -> Value {
    let issuers: Vec<_> = mesh
        .issuers
        .iter()
        .map(|issuer| {
            json!({
                "issuer": issuer.issuer,
                "discoveryUrl": IssuerUrls::new(topology.issuer, &issuer.name).discovery,
                // It is on loopback, where nobody listens in.
                "allowHttp": true,
                "allowPrivateAddresses": true,
            })
        })
        .collect();
    json!({
        "trustDomain": mesh.trust_domain.as_str(),
        "listen": topology.control.listen,
        "ops": topology.control.ops,
        "stateDirectory": layout.control_data(),
        "identity": identity(topology, layout, CONTROL_TOKEN),
        "policy": {
            "repository": mesh.policy.repository.location(),
            "branch": mesh.policy.branch,
            "interval": POLICY_INTERVAL,
        },
        "directory": layout.workload_directory(),
        "issuers": issuers,
    })
}

fn directory(topology: &Topology) -> Value {
    let mut services: BTreeMap<String, (u16, Vec<&str>)> = BTreeMap::new();
    let mut workloads = Vec::new();
    for Instance {
        workload,
        addresses,
        ..
    } in &topology.instances
    {
        let ports: Vec<_> = workload
            .ports
            .iter()
            .map(|port| {
                let (_, holders) = services
                    .entry(workload.service(*port))
                    .or_insert((port.port, Vec::new()));
                holders.push(&addresses.name);
                let address = format!("{}:{}", addresses.ip, port.port);
                let mut entry = json!({
                    "port": port.port, "destination": address, "application": address,
                });
                if let (Some(protocol), Some(entry)) = (port.protocol, entry.as_object_mut()) {
                    entry.insert("protocol".to_owned(), json!(protocol));
                }
                entry
            })
            .collect();
        workloads.push(json!({
            "name": addresses.name,
            "namespace": workload.namespace,
            "serviceAccount": workload.service_account,
            "labels": workload.labels,
            "wireAddress": addresses.wire,
            "ports": ports,
        }));
    }
    let services: Vec<_> = services
        .into_iter()
        .map(|(name, (port, holders))| json!({"name": name, "port": port, "workloads": holders}))
        .collect();
    json!({ "workloads": workloads, "services": services })
}

fn sidecar(mesh: &Mesh, topology: &Topology, layout: &Layout, instance: &Instance) -> Value {
    let addresses = &instance.addresses;
    let outbound: Vec<_> = addresses
        .outbound
        .iter()
        .map(|outbound| json!({ "listen": outbound.listen, "service": outbound.service }))
        .collect();
    json!({
        "workload": addresses.name,
        "trustDomain": mesh.trust_domain.as_str(),
        "identity": identity(topology, layout, &sidecar_token(&addresses.name)),
        "control": topology.control.listen,
        "inbound": addresses.wire,
        "outbound": outbound,
        "ops": addresses.sidecar_ops,
        "drainTimeout": DRAIN_TIMEOUT,
    })
}

fn identity(topology: &Topology, layout: &Layout, token: &str) -> Value {
    let (bundle, token): (&Path, &Path) = (&layout.bundle(), &layout.join_token(token));
    json!({ "ca": topology.ca.listen, "bundle": bundle, "joinTokenFile": token })
}
