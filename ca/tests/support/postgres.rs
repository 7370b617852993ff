//! A real PostgreSQL: its own process, directory, port and certificate.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::PATIENCE;

/// Debian's, and what is on the path elsewhere.
const DIRECTORIES: [&str; 3] = ["/usr/lib/postgresql/15/bin", "/usr/local/bin", "/usr/bin"];
const PASSWORD: &str = "correct horse battery staple";

pub(crate) struct Postgres {
    directory: tempfile::TempDir,
    programs: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl Postgres {
    /// A new, empty database `countersign`, running. None, with a word about it, where there is no PostgreSQL.
    pub(crate) fn start() -> Option<Self> {
        let programs = DIRECTORIES.iter().map(PathBuf::from);
        let Some(programs) = programs
            .into_iter()
            .find(|path| path.join("initdb").exists())
        else {
            let missing = "PostgreSQL 15 is missing; it comes with: apt-get install postgresql-15";
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing}");
            eprintln!("skipped: {missing}");
            return None;
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut postgres = Self {
            directory: tempfile::tempdir().unwrap(),
            programs,
            port: listener.local_addr().unwrap().port(),
            process: None,
        };
        drop(listener);
        postgres.make();
        postgres.run();
        postgres.sql("postgres", "CREATE DATABASE countersign");
        Some(postgres)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// PostgreSQL does not run as root.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.directory.path());
        if nix::unistd::geteuid().is_root() {
            let user = owner();
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }

    fn give(path: &Path) {
        if nix::unistd::geteuid().is_root() {
            let user = owner();
            chown(path, Some(user.uid), Some(user.gid)).unwrap();
        }
    }

    fn make(&self) {
        std::fs::write(self.path("password"), PASSWORD).unwrap();
        private(&self.path("password"));
        let for_initdb = self.path("initial-password");
        std::fs::write(&for_initdb, PASSWORD).unwrap();
        Self::give(&for_initdb);
        Self::give(self.directory.path());
        std::fs::set_permissions(
            self.directory.path(),
            std::fs::Permissions::from_mode(0o711),
        )
        .unwrap();
        let output = self
            .command("initdb")
            .args([
                "--username=countersign",
                "--auth=scram-sha-256",
                "--no-sync",
                "--pgdata=data",
            ])
            .arg("--pwfile=initial-password")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        self.make_certificates();
    }

    fn make_certificates(&self) {
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let server = server.signed_by(&key, &root).unwrap();
        std::fs::write(self.path("ca.pem"), root.pem()).unwrap();
        for (name, text) in [
            ("server.crt", server.pem()),
            ("server.key", key.serialize_pem()),
        ] {
            let path = self.path("data").join(name);
            std::fs::write(&path, text).unwrap();
            private(&path);
            Self::give(&path);
        }
    }

    /// Runs it, on the same port and directory as before.
    pub(crate) fn run(&mut self) {
        let mut child = self
            .command("postgres")
            .args([
                "-D",
                "data",
                "-c",
                "ssl=on",
                "-c",
                "listen_addresses=localhost",
            ])
            .args(["-c", &format!("port={}", self.port)])
            .args([
                "-c",
                &format!(
                    "unix_socket_directories={}",
                    self.directory.path().display()
                ),
            ])
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (ready, is_ready) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if line.contains("ready to accept connections") {
                    let _ = ready.send(());
                }
                eprintln!("postgres: {line}");
            }
        });
        self.process = Some(child);
        is_ready.recv_timeout(PATIENCE).expect("PostgreSQL starts");
    }

    /// Ends it at once, without a word to its clients but that it ends.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let id = Pid::from_raw(process.id().try_into().unwrap());
            kill(id, Signal::SIGQUIT).unwrap();
            process.wait().unwrap();
        }
    }

    /// `storage` of a CA's configuration.
    pub(crate) fn storage(&self) -> String {
        format!(
            "storage:\n  postgres:\n    url: postgres://countersign@localhost:{}/countersign\n    passwordFile: {}\n    caFile: {}\n",
            self.port,
            self.path("password").display(),
            self.path("ca.pem").display(),
        )
    }

    fn psql(&self, database: &str) -> Command {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args([
            "--no-psqlrc",
            "--tuples-only",
            "--no-align",
            "--username=countersign",
        ])
        .args([
            "--host=localhost",
            &format!("--port={}", self.port),
            "--dbname",
            database,
        ])
        .env("PGPASSWORD", PASSWORD);
        psql
    }

    /// What a statement prints, or the server's error.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        let mut psql = self.psql(database);
        let output = psql.args(["--command", sql]).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }

    /// What is said on a channel while `work` is done.
    pub(crate) fn heard(&self, channel: &str, work: impl FnOnce()) -> String {
        let mut psql = self
            .psql("countersign")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = psql.stdin.take().unwrap();
        let mut stdout = BufReader::new(psql.stdout.take().unwrap());
        writeln!(stdin, "LISTEN {channel};\nSELECT 'listening';").unwrap();
        let mut line = String::new();
        while !line.starts_with("listening") {
            line.clear();
            assert!(stdout.read_line(&mut line).unwrap() > 0, "psql listens");
        }
        work();
        // It tells what it has heard after it has done something.
        writeln!(stdin, "SELECT 'heard';").unwrap();
        drop(stdin);
        let mut heard = String::new();
        stdout.read_to_string(&mut heard).unwrap();
        psql.wait().unwrap();
        heard
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

fn owner() -> User {
    let user = User::from_name("postgres").unwrap();
    user.expect("the user that Debian's PostgreSQL makes")
}

fn private(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
