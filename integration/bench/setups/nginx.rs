//! The server that everything ends at, and two nginx hops with mutual TLS between them.

use std::{net::SocketAddr, path::Path, process::Command};

use super::{Setup, SetupError};
use crate::{
    certificates::{Pair, Pki, SERVER_NAME},
    load,
    process::{Process, free_address, wait_until, write},
};

/// The server: 1 kB from memory's page cache, connections kept.
pub(crate) fn server(nginx: &Path, directory: &Path) -> Result<(Process, SocketAddr), SetupError> {
    let listen = free_address()?;
    write(&directory.join("index.html"), "x".repeat(1024))?;
    let site = format!(
        "server {{ listen {listen} backlog=4096; root {}; open_file_cache max=10; \
         default_type text/html; }}",
        directory.display()
    );
    let process = start(nginx, "server", directory, &site)?;
    wait_until("the server", &directory.join("server.log"), || {
        load::answers(listen)
    })?;
    Ok((process, listen))
}

/// Straight to the server.
pub(crate) fn direct(server: SocketAddr, directory: &Path) -> Result<Setup, SetupError> {
    Setup::ready("no proxy", server, Vec::new(), directory)
}

/// Two hops. The second one knows only that its caller has a certificate of the CA: nginx has no policy to switch on.
pub(crate) fn hops(
    nginx: &Path,
    server: SocketAddr,
    pki: &Pki,
    directory: &Path,
) -> Result<Setup, SetupError> {
    let (entry, wire) = (free_address()?, free_address()?);
    let Pki {
        ca,
        client,
        server: identity,
    } = pki;
    let ca = ca.display();
    let files = |Pair { certificate, key }: &Pair| {
        (certificate.display().to_string(), key.display().to_string())
    };
    let (client_certificate, client_key) = files(client);
    let (server_certificate, server_key) = files(identity);
    let first = format!(
        "upstream peer {{ server {wire}; keepalive 128; keepalive_requests 1000000; }}
         server {{ listen {entry} backlog=4096; location / {{
           proxy_pass https://peer; proxy_http_version 1.1; proxy_set_header Connection '';
           proxy_ssl_protocols TLSv1.3; proxy_ssl_verify on; proxy_ssl_name {SERVER_NAME};
           proxy_ssl_trusted_certificate {ca};
           proxy_ssl_certificate {client_certificate}; proxy_ssl_certificate_key {client_key}; }} }}"
    );
    let second = format!(
        "upstream application {{ server {server}; keepalive 128; keepalive_requests 1000000; }}
         server {{ listen {wire} ssl backlog=4096; ssl_protocols TLSv1.3;
           ssl_certificate {server_certificate}; ssl_certificate_key {server_key};
           ssl_client_certificate {ca}; ssl_verify_client on;
           location / {{ proxy_pass http://application; proxy_http_version 1.1;
             proxy_set_header Connection ''; }} }}"
    );
    let hops = vec![
        start(nginx, "nginx-1", directory, &first)?,
        start(nginx, "nginx-2", directory, &second)?,
    ];
    Setup::ready("nginx ×2", entry, hops, directory)
}

/// One nginx of one process, so that its cost is the cost of one process id.
fn start(nginx: &Path, name: &str, directory: &Path, http: &str) -> Result<Process, SetupError> {
    let place = directory.display();
    let configuration = directory.join(format!("{name}.conf"));
    write(
        &configuration,
        format!(
            "daemon off; master_process off; worker_processes 1; pid {place}/{name}.pid;
             error_log stderr warn; events {{ worker_connections 4096; }}
             http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 1h;
               client_body_temp_path {place}/{name}.body; proxy_temp_path {place}/{name}.proxy;
               fastcgi_temp_path {place}/{name}.fastcgi; uwsgi_temp_path {place}/{name}.uwsgi;
               scgi_temp_path {place}/{name}.scgi;
               {http} }}"
        ),
    )?;
    Ok(Process::start(
        name,
        Command::new(nginx)
            .arg("-c")
            .arg(&configuration)
            .arg("-e")
            .arg("stderr"),
        directory,
    )?)
}
