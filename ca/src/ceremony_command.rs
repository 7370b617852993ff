//! `countersign-ca csr` and `install`: an external root signs the intermediate.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;

use crate::authority::Authorities;
use crate::config::Config;
use crate::{Failure, runtime};

/// No chain is longer; a longer file is something else.
const MAX_CHAIN: u64 = 1024 * 1024;

/// `csr`.
#[derive(Args)]
pub(crate) struct Csr {
    /// The configuration of the CA, a YAML file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// `install`.
#[derive(Args)]
pub(crate) struct Install {
    /// The configuration of the CA, a YAML file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// What the root has signed, in PEM: the intermediate, then, if it is not in the bundle yet, the root. `-` is stdin.
    #[arg(value_name = "CHAIN")]
    chain: PathBuf,
}

/// Prints a request.
pub(crate) fn csr(arguments: &Csr) -> Result<(), Failure> {
    let authorities = authorities(&arguments.config)?;
    let request = runtime()?.block_on(authorities.request())?;
    write!(io::stdout().lock(), "{request}")?;
    Ok(())
}

/// Installs an answer.
pub(crate) fn install(arguments: &Install) -> Result<(), Failure> {
    let chain = read_file(&arguments.chain)?;
    let authorities = authorities(&arguments.config)?;
    let installed = runtime()?.block_on(authorities.install(&chain, SystemTime::now()))?;
    writeln!(io::stdout().lock(), "{installed}")?;
    Ok(())
}

/// The authorities that a configuration is of.
pub(crate) fn authorities(config: &Path) -> Result<Authorities, Failure> {
    let config = Config::read(config)?;
    Ok(Authorities::new(
        &config.data_directory,
        &config.trust_domain,
        &config.authority,
    )?)
}

/// Reads a file of certificates.
pub(crate) fn read_file(path: &Path) -> Result<String, Failure> {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        if path == Path::new("-") {
            io::stdin()
                .lock()
                .take(MAX_CHAIN)
                .read_to_string(&mut text)?;
        } else {
            fs::File::open(path)?
                .take(MAX_CHAIN)
                .read_to_string(&mut text)?;
        }
        Ok(text)
    };
    Ok(read().map_err(|error| format!("cannot read {}: {error}", path.display()))?)
}
