//! PostgreSQL: where it is, and how it is spoken to.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions as _, Postgres, Transaction};
use url::Url;
use zeroize::Zeroizing;

use super::StoreError;
use super::error::CONNECT_LIMIT;
use crate::files::read_private;

/// As many as a CA can use: one writes the log, one listens, the others look tokens up.
const CONNECTIONS: u32 = 8;
/// The database ends what takes longer than that, so that a request fails before its caller has given up.
const STATEMENT_LIMIT: &str = "10s";
/// The database ends a transaction of a CA that has gone away without a word, so that others can go on.
const IDLE_LIMIT: &str = "15s";

/// `storage.postgres` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PostgresConfig {
    /// Where it is.
    pub(crate) url: UrlSource,
    /// Whose content is the password.
    pub(crate) password_file: Option<PathBuf>,
    /// The certificates of who may sign the server's, PEM.
    pub(crate) ca_file: Option<PathBuf>,
}

/// Where the URL comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UrlSource {
    /// The configuration.
    Inline(DatabaseUrl),
    /// A private file, which may have a password in it.
    File(PathBuf),
}

/// `postgres://user@host:port/database`, or `postgres://user@%2Frun%2Fpostgresql/database` for the UNIX socket in
/// that directory.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct DatabaseUrl {
    host: Host,
    port: u16,
    user: String,
    password: Option<Zeroizing<String>>,
    database: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// A name or an address.
    Tcp(String),
    /// The directory of a UNIX socket.
    Socket(String),
}

/// What is wrong with a URL. Never shows it: there may be a password in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlError {
    /// No URL at all, or of something else.
    #[error("not a URL of the form postgres://user@host:5432/database")]
    Form,
    /// No user.
    #[error("the URL names no user: postgres://USER@host:5432/database")]
    User,
    /// No database.
    #[error("the URL names no database: postgres://user@host:5432/DATABASE")]
    Database,
    /// A parameter that would be ignored.
    #[error(
        "the URL has parameters, after a question mark; none are known, and TLS is set by `caFile`"
    )]
    Parameter,
}

impl FromStr for DatabaseUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let url = Url::parse(text.trim()).map_err(|_| UrlError::Form)?;
        if !matches!(url.scheme(), "postgres" | "postgresql") || url.fragment().is_some() {
            return Err(UrlError::Form);
        }
        let decoded = |text: &str| match percent_decode_str(text).decode_utf8() {
            Ok(text) => Ok(text.into_owned()),
            Err(_) => Err(UrlError::Form),
        };
        if url.query().is_some() {
            return Err(UrlError::Parameter);
        }
        let host = decoded(url.host_str().unwrap_or_default())?;
        let host = if host.starts_with('/') {
            Host::Socket(host)
        } else {
            Host::Tcp(host.trim_matches(['[', ']']).to_owned())
        };
        let user = decoded(url.username())?;
        if user.is_empty() {
            return Err(UrlError::User);
        }
        let database = decoded(url.path().trim_start_matches('/'))?;
        if database.is_empty() || database.contains('/') {
            return Err(UrlError::Database);
        }
        Ok(Self {
            host,
            port: url.port().unwrap_or(5432),
            user,
            password: url.password().map(decoded).transpose()?.map(Zeroizing::new),
            database,
        })
    }
}

impl DatabaseUrl {
    /// Whether a password is written in it.
    pub(crate) fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// Whether what is sent stays on this machine.
    fn is_local(&self) -> bool {
        match &self.host {
            Host::Socket(_) => true,
            Host::Tcp(host) => {
                host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
            }
        }
    }
}

/// Without the password.
impl std::fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            user,
            port,
            database,
            ..
        } = self;
        match &self.host {
            Host::Tcp(host) if host.contains(':') => {
                write!(f, "postgres://{user}@[{host}]:{port}/{database}")
            }
            Host::Tcp(host) => write!(f, "postgres://{user}@{host}:{port}/{database}"),
            Host::Socket(path) => {
                let path = path.replace('/', "%2F");
                write!(f, "postgres://{user}@{path}:{port}/{database}")
            }
        }
    }
}

impl std::fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Connects.
pub(super) async fn open(config: &PostgresConfig) -> Result<PgPool, StoreError> {
    let url = match &config.url {
        UrlSource::Inline(url) => url.clone(),
        UrlSource::File(path) => private_text(path)?
            .parse()
            .map_err(|error| StoreError::Url {
                path: path.clone(),
                error,
            })?,
    };
    let mut options = options(&url, config);
    if let Some(path) = &config.password_file {
        options = options.password(private_text(path)?.trim_end_matches(['\r', '\n']));
    }
    PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(CONNECT_LIMIT)
        .connect_with(options)
        .await
        .map_err(|error| StoreError::Connect {
            place: url.to_string(),
            error,
        })
}

/// The password is, in this order, that of `passwordFile`, of the URL, of the environment (`PGPASSWORD`).
fn options(url: &DatabaseUrl, config: &PostgresConfig) -> PgConnectOptions {
    // The environment may set what is not set here, and no file is looked for.
    let options = PgConnectOptions::new_without_pgpass()
        .port(url.port)
        .username(&url.user)
        .database(&url.database)
        .application_name("countersign-ca")
        .options([
            // As strict as the server's default; a database or a user may have been set to less.
            ("synchronous_commit", "on"),
            ("statement_timeout", STATEMENT_LIMIT),
            ("idle_in_transaction_session_timeout", IDLE_LIMIT),
        ])
        .disable_statement_logging();
    let options = match &url.host {
        Host::Tcp(host) => options.host(host),
        Host::Socket(directory) => options.socket(directory),
    };
    let options = match &url.password {
        Some(password) => options.password(password),
        None => options,
    };
    match &config.ca_file {
        Some(path) => options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert(path),
        None if url.is_local() => options.ssl_mode(PgSslMode::Disable),
        None => options.ssl_mode(PgSslMode::VerifyFull),
    }
}

fn private_text(path: &std::path::Path) -> Result<Zeroizing<String>, StoreError> {
    read_private(path)?.ok_or_else(|| StoreError::NoFile {
        path: path.to_owned(),
    })
}

/// One state of the database for all that the transaction reads.
pub(super) async fn read(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<DatabaseUrl, UrlError> {
        text.parse()
    }

    #[test]
    fn a_url_is_read_whole_and_shown_without_its_password() {
        let full = url("postgresql://ca%40x:se%2Fcret@db.example:5433/countersign").unwrap();
        assert_eq!(
            full.password.as_deref().map(String::as_str),
            Some("se/cret")
        );
        assert_eq!(
            full.to_string(),
            "postgres://ca@x@db.example:5433/countersign"
        );
        assert!(!format!("{full:?}").contains("cret"));
        assert!(!full.is_local());

        let socket = url("postgres://ca@%2Frun%2Fpostgresql/countersign").unwrap();
        assert_eq!(socket.host, Host::Socket("/run/postgresql".to_owned()));
        assert_eq!(socket.port, 5432);
        assert!(socket.is_local());
        for local in [
            "postgres://ca@127.0.0.1/c",
            "postgres://ca@[::1]/c",
            "postgres://ca@localhost/c",
        ] {
            assert!(url(local).unwrap().is_local(), "{local}");
        }
    }

    #[test]
    fn what_is_missing_or_would_be_ignored_is_told_and_the_url_is_not() {
        for (text, expected) in [
            ("secret", UrlError::Form),
            ("mysql://ca@db/c", UrlError::Form),
            ("postgres://db.example/c", UrlError::User),
            ("postgres://ca@db.example", UrlError::Database),
            ("postgres://ca@db.example/", UrlError::Database),
            ("postgres://ca@/c", UrlError::Form),
            ("postgres:///c", UrlError::User),
            (
                "postgres://ca@db.example/c?sslmode=disable",
                UrlError::Parameter,
            ),
        ] {
            assert_eq!(url(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn beyond_this_machine_there_is_tls() {
        let mode = |text: &str, ca_file: Option<&str>| {
            let config = PostgresConfig {
                url: UrlSource::Inline(url(text).unwrap()),
                password_file: None,
                ca_file: ca_file.map(PathBuf::from),
            };
            format!("{:?}", options(&url(text).unwrap(), &config).get_ssl_mode())
        };
        assert_eq!(mode("postgres://ca@db.example/c", None), "VerifyFull");
        assert_eq!(mode("postgres://ca@127.0.0.1/c", None), "Disable");
        assert_eq!(
            mode("postgres://ca@127.0.0.1/c", Some("/ca.pem")),
            "VerifyFull"
        );
    }
}
