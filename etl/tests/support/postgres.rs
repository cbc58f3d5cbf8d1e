//! A PostgreSQL of the test's own: a throwaway directory, a free port, no password
//! on this machine. Needs Debian's `postgresql`, and root to become its user.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test file uses a part of this, and a failed step is a failed test"
)]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::program::{Program, free_port};

/// A running server, stopped when it is dropped.
pub struct Postgres {
    dir: TempDir,
    pub port: u16,
    server: Option<Program>,
    options: Vec<String>,
}

impl Postgres {
    /// Makes and starts a server with a database `etl`.
    pub fn start() -> Postgres {
        Postgres::start_with(&["fsync=off"])
    }

    /// The same with these settings.
    pub fn start_with(settings: &[&str]) -> Postgres {
        let dir = tempfile::Builder::new().prefix("etl-postgres-").tempdir().unwrap();
        // The server's user must get in.
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        if is_root() {
            let mut owned = Command::new("chown");
            owned.args(["-R", "postgres:postgres"]).arg(dir.path());
            assert!(ran(&mut owned), "there is no user postgres: install Debian's postgresql");
        }
        let mut init = as_server(&program("initdb"));
        init.args([
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--no-locale",
            "--no-sync",
            "-D",
        ]);
        assert!(ran(init.arg(&data)), "initdb failed");
        let options = settings.iter().map(|setting| format!("-c{setting}")).collect();
        let mut server = Postgres { dir, port: free_port(), server: None, options };
        server.go();
        server.sql("postgres", "CREATE DATABASE etl");
        server
    }

    /// `postgres://…` of the database `etl`.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/etl", self.port)
    }

    /// Where the server's files are.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Starts the server again, or for the first time, and waits until it answers.
    pub fn go(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        let mut command = as_server(&program("postgres"));
        command
            .arg("-D")
            .arg(self.data())
            .args(["-p", &self.port.to_string()])
            .arg("-k")
            .arg(self.dir.path())
            .args(["-c", "listen_addresses=127.0.0.1"])
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let mut server = Program::start(&mut command, "postgresql");
        assert!(server.is_up(|| self.answers()), "the server has ended: {}", self.log());
        self.server = Some(server);
    }

    /// Whether the server takes connections; it need not let us in.
    fn answers(&self) -> bool {
        let mut ready = Command::new(program("pg_isready"));
        ready.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
        ready.status().unwrap().success()
    }

    /// From its next start the server asks everybody on TCP for a password.
    pub fn ask_for_passwords(&self) {
        let rules = "host all all 127.0.0.1/32 scram-sha-256\nlocal all all trust\n";
        std::fs::write(self.data().join("pg_hba.conf"), rules).unwrap();
    }

    /// From its next start the server takes nobody on TCP without TLS.
    pub fn encrypt(&mut self, certificate: &str, key: &str) {
        let write = |name: &str, text: &str| {
            let path = self.data().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            let mut owned = Command::new("chown");
            assert!(!is_root() || ran(owned.arg("postgres:postgres").arg(&path)));
        };
        write("server.crt", certificate);
        write("server.key", key);
        write("pg_hba.conf", "hostssl all all 127.0.0.1/32 trust\nlocal all all trust\n");
        self.options.push("-cssl=on".to_owned());
    }

    /// Stops the server at once, as a restart does: connections are cut.
    pub fn halt(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        server.stop(Signal::INT);
    }

    /// What `sql` gives in `database`: rows as lines, columns parted by `|`.
    #[track_caller]
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql).unwrap_or_else(|| panic!("{sql}: {}", self.log()))
    }

    /// The same for the database `etl`.
    #[track_caller]
    pub fn ask(&self, sql: &str) -> String {
        self.sql("etl", sql)
    }

    /// A number from the database `etl`.
    #[track_caller]
    pub fn number(&self, sql: &str) -> u64 {
        let text = self.ask(sql);
        text.parse().unwrap_or_else(|_| panic!("{sql}: {text}"))
    }

    fn try_sql(&self, database: &str, sql: &str) -> Option<String> {
        let output = self.psql(database).args(["-c", sql]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        output.status.success().then(|| text.trim_end().to_owned())
    }

    /// `psql` on `database`, ready for more arguments.
    pub fn psql(&self, database: &str) -> Command {
        let mut command = Command::new(program("psql"));
        command
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1"])
            .args(["-U", "postgres", "-p", &self.port.to_string(), "-d", database])
            .stdin(Stdio::null());
        command
    }

    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.halt();
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The server refuses to run as root.
fn as_server(program: &PathBuf) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}

/// A program of the newest PostgreSQL that is installed.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is not installed: .ci/packages lists Debian's postgresql");
    let mut found: Vec<PathBuf> =
        versions.map(|entry| entry.unwrap().path().join("bin").join(name)).collect();
    found.retain(|path| path.is_file());
    found.sort();
    found.pop().unwrap_or_else(|| panic!("PostgreSQL has no {name}"))
}

fn ran(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::inherit()).status().unwrap().success()
}
