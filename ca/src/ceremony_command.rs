//! `countersign-ca csr` and `install`: an external root signs the intermediate.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;

use crate::authority::Authorities;
use crate::config::Config;
use crate::store::{Store, StoreError};
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
    let config = Config::read(&arguments.config)?;
    let request = runtime()?.block_on(async {
        let opened = Opened::new(&config).await?;
        let request = opened.authorities.request().await;
        opened.close().await;
        Ok::<_, Failure>(request?)
    })?;
    write!(io::stdout().lock(), "{request}")?;
    Ok(())
}

/// Installs an answer.
pub(crate) fn install(arguments: &Install) -> Result<(), Failure> {
    let chain = read_file(&arguments.chain)?;
    let config = Config::read(&arguments.config)?;
    let installed = runtime()?.block_on(async {
        let opened = Opened::new(&config).await?;
        let installed = opened.authorities.install(&chain, SystemTime::now()).await;
        opened.close().await;
        Ok::<_, Failure>(installed?)
    })?;
    writeln!(io::stdout().lock(), "{installed}")?;
    Ok(())
}

/// The authorities that a configuration is of, and the database that their replicas share, if they do.
pub(crate) struct Opened<'a> {
    config: &'a Config,
    pub(crate) authorities: Authorities,
    pub(crate) shared: Option<Store>,
}

impl<'a> Opened<'a> {
    pub(crate) async fn new(config: &'a Config) -> Result<Self, Failure> {
        let shared = match config.postgres {
            Some(_) => Some(open_store(config).await?),
            None => None,
        };
        let authorities = Authorities::new(
            &config.data_directory,
            &config.trust_domain,
            &config.authority,
            shared.as_ref(),
        )?;
        Ok(Self {
            config,
            authorities,
            shared,
        })
    }

    /// The database, whichever it is.
    pub(crate) async fn store(&self) -> Result<Store, StoreError> {
        match &self.shared {
            Some(store) => Ok(store.clone()),
            None => open_store(self.config).await,
        }
    }

    pub(crate) async fn close(&self) {
        if let Some(store) = &self.shared {
            store.close().await;
        }
    }
}

async fn open_store(config: &Config) -> Result<Store, StoreError> {
    Store::open(
        &config.data_directory,
        config.postgres.as_ref(),
        &config.trust_domain,
    )
    .await
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
