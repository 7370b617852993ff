//! `oidc-provider`, an OpenID provider that is certified, as a process of its own; `oidc-provider/server.mjs` says what it does
//! besides.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::http::{self, Body};
use crate::mesh::eventually;
use crate::process::Program;
use crate::tools::cached;

/// Of `integration/oidc-provider/package.json`.
const MODULES: &str = "oidc-provider-9.13.3/node_modules";

/// A running provider.
#[derive(Debug)]
pub struct OidcProvider {
    _program: Program,
    _directory: tempfile::TempDir,
    issuer: String,
    address: SocketAddr,
}

impl OidcProvider {
    /// Starts one; none where `make oidc-provider` has not been run, which is told on stderr.
    ///
    /// # Errors
    /// It does not start, or it is not there in CI.
    pub fn start() -> io::Result<Option<Self>> {
        let Some(modules) = cached(MODULES, "make oidc-provider")? else {
            return Ok(None);
        };
        let directory = tempfile::tempdir()?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("oidc-provider/server.mjs");
        fs::copy(script, directory.path().join("server.mjs"))?;
        symlink(modules, directory.path().join("node_modules"))?;
        let mut command = Command::new("node");
        command.arg("server.mjs").current_dir(directory.path());
        let program = Program::start_command("oidc-provider", command, directory.path())?;
        let issuer = || {
            let told = program.stdout().ok()?;
            let issuer = told.lines().find_map(|line| line.strip_prefix("issuer "));
            issuer.map(str::to_owned)
        };
        eventually("the provider to listen", || issuer().is_some())?;
        let issuer = issuer().unwrap_or_default();
        let address = issuer.strip_prefix("http://").unwrap_or_default();
        Ok(Some(Self {
            address: address.parse().map_err(io::Error::other)?,
            _program: program,
            _directory: directory,
            issuer,
        }))
    }

    /// As its tokens name it.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// An access token of a client for a resource.
    ///
    /// # Errors
    /// The provider gives none.
    pub fn token(&self, client: &str, resource: &str) -> io::Result<String> {
        let form = format!(
            "grant_type=client_credentials&client_id={client}&client_secret=a-secret-of-the-test&resource={resource}"
        );
        let answer = self.post("/token", Body::Form(&form))?;
        let answer: Value = serde_json::from_str(&answer)?;
        let token = answer.pointer("/access_token").and_then(Value::as_str);
        token
            .map(str::to_owned)
            .ok_or_else(|| io::Error::other(format!("expected a token, got {answer}")))
    }

    /// Replaces the signing key; the old one is published no longer.
    ///
    /// # Errors
    /// The provider does not.
    pub fn rotate(&self) -> io::Result<()> {
        self.post("/rotate", Body::None).map(drop)
    }

    /// As a person who was shown this code: enters it, logs in as `alice`, and consents.
    ///
    /// # Errors
    /// The provider does not take it.
    pub fn log_in(&self, code: &str) -> io::Result<()> {
        self.post(&format!("/log-in/{code}"), Body::None).map(drop)
    }

    /// As a person who was shown a code that they did not ask for.
    ///
    /// # Errors
    /// The provider does not take it.
    pub fn refuse(&self, code: &str) -> io::Result<()> {
        self.post(&format!("/refuse/{code}"), Body::None).map(drop)
    }

    fn post(&self, path: &str, body: Body<'_>) -> io::Result<String> {
        match http::post(self.address, path, None, body)? {
            (200, answer) => Ok(answer),
            (status, answer) => Err(io::Error::other(format!("{path}: {status}, {answer}"))),
        }
    }
}
