//! Two Envoy hops: HTTP/1.1 between them over mutual TLS, and an RBAC rule that matches in the second.

use std::{net::SocketAddr, path::Path, process::Command};

use serde_json::{Value, json};

use super::{Setup, SetupError};
use crate::{
    certificates::{CLIENT_ID, Pair, Pki, SERVER_ID},
    process::{Process, free_address, write},
};

/// Starts both, one worker thread each, no access log.
pub(crate) fn hops(
    envoy: &Path,
    server: SocketAddr,
    pki: &Pki,
    directory: &Path,
) -> Result<Setup, SetupError> {
    let (entry, wire) = (free_address()?, free_address()?);
    let first = configuration(
        listener(entry, None, &[]),
        cluster(wire, Some(&tls(&pki.client, &pki.ca, SERVER_ID))),
    );
    let second = configuration(
        listener(wire, Some(&tls(&pki.server, &pki.ca, CLIENT_ID)), &[rbac()]),
        cluster(server, None),
    );
    let hops = vec![
        start(envoy, "envoy-1", &first, directory)?,
        start(envoy, "envoy-2", &second, directory)?,
    ];
    Setup::ready("Envoy ×2", entry, hops, directory)
}

fn start(
    envoy: &Path,
    name: &str,
    configuration: &Value,
    directory: &Path,
) -> Result<Process, SetupError> {
    let path = directory.join(format!("{name}.json"));
    write(&path, configuration.to_string())?;
    Ok(Process::start(
        name,
        Command::new(envoy)
            .args([
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "--log-level",
                "warning",
                "-c",
            ])
            .arg(path),
        directory,
    )?)
}

fn configuration(listener: Value, cluster: Value) -> Value {
    json!({"static_resources": {"listeners": [listener], "clusters": [cluster]}})
}

fn address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

/// The common TLS context of either side; the peer must have exactly the given identity.
fn tls(Pair { certificate, key }: &Pair, ca: &Path, peer: &str) -> Value {
    json!({
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [{
            "certificate_chain": {"filename": certificate},
            "private_key": {"filename": key},
        }],
        "validation_context": {
            "trusted_ca": {"filename": ca},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer}}],
        },
    })
}

fn transport(context: &str, settings: Value) -> Value {
    let mut typed = settings;
    if let Some(fields) = typed.as_object_mut() {
        let kind =
            format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{context}");
        fields.insert("@type".to_owned(), kind.into());
    }
    json!({"name": "envoy.transport_sockets.tls", "typed_config": typed})
}

fn listener(at: SocketAddr, tls: Option<&Value>, filters: &[Value]) -> Value {
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    });
    let filters: Vec<&Value> = filters.iter().chain([&router]).collect();
    let mut chain = json!({"filters": [{
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "http",
            "codec_type": "HTTP1",
            "route_config": {"virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "next"}}],
            }]},
            "http_filters": filters,
        },
    }]});
    if let (Some(tls), Some(fields)) = (tls, chain.as_object_mut()) {
        let settings = json!({"require_client_certificate": true, "common_tls_context": tls});
        fields.insert(
            "transport_socket".to_owned(),
            transport("DownstreamTlsContext", settings),
        );
    }
    json!({"name": "in", "address": address(at), "filter_chains": [chain]})
}

fn cluster(to: SocketAddr, tls: Option<&Value>) -> Value {
    let mut cluster = json!({
        "name": "next",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "next", "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": address(to)}}]},
        ]},
    });
    if let (Some(tls), Some(fields)) = (tls, cluster.as_object_mut()) {
        let settings = json!({"common_tls_context": tls});
        fields.insert(
            "transport_socket".to_owned(),
            transport("UpstreamTlsContext", settings),
        );
    }
    cluster
}

/// What our own policy says in the benchmark: this caller, this method, this path.
fn rbac() -> Value {
    json!({
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {"action": "ALLOW", "policies": {"client": {
                "principals": [{"authenticated": {"principal_name": {"exact": CLIENT_ID}}}],
                "permissions": [{"and_rules": {"rules": [
                    {"header": {"name": ":method", "string_match": {"exact": "GET"}}},
                    {"url_path": {"path": {"exact": "/"}}},
                ]}}],
            }}},
        },
    })
}
