//! A MariaDB of the test's own: a throwaway directory, a free port, no password on this
//! machine. Needs Debian's `mariadb-server`.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file uses a part of this, and a failed step is a failed test"
)]

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::program::{Program, free_port};

/// Several servers at once would need more of it than a machine may give.
const NO_AIO: [&str; 1] = ["--innodb-use-native-aio=0"];

/// A running server, stopped when it is dropped.
pub struct MariaDb {
    dir: TempDir,
    pub port: u16,
    server: Option<Program>,
}

impl MariaDb {
    /// Makes and starts a server.
    pub fn start() -> MariaDb {
        let dir = tempfile::Builder::new().prefix("etl-mariadb-").tempdir().unwrap();
        // Servers that share one place for temporary files remove each other's.
        std::fs::create_dir(dir.path().join("tmp")).unwrap();
        let mut install = Command::new("mariadb-install-db");
        install
            .env("TMPDIR", dir.path().join("tmp"))
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .args(NO_AIO)
            .arg(format!("--user={}", user()))
            .arg(format!("--datadir={}", dir.path().join("data").display()));
        let installed = install.output().unwrap_or_else(|error| {
            panic!("{error}: install the Debian package `mariadb-server` (bash .ci/packages)")
        });
        assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
        let mut server = MariaDb { dir, port: free_port(), server: None };
        server.go();
        server
    }

    /// Starts the server and waits until it answers.
    pub fn go(&mut self) {
        let log = std::fs::File::create(self.path("log")).unwrap();
        let mut command = Command::new("mariadbd");
        command
            .arg("--no-defaults")
            .arg(format!("--user={}", user()))
            .arg(format!("--datadir={}", self.path("data").display()))
            .arg(format!("--tmpdir={}", self.path("tmp").display()))
            .arg(format!("--socket={}", self.path("socket").display()))
            .arg(format!("--pid-file={}", self.path("pid").display()))
            .arg(format!("--port={}", self.port))
            .args(NO_AIO)
            .args(["--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=2"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let mut server = Program::start(&mut command, "mariadb-server");
        let up =
            server.is_up(|| TcpStream::connect(("127.0.0.1", self.port)).is_ok() && self.answers());
        let log = || std::fs::read_to_string(self.path("log")).unwrap_or_default();
        assert!(up, "the server has ended: {}", log());
        self.server = Some(server);
    }

    /// Kills the server.
    pub fn halt(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        server.stop(Signal::KILL);
    }

    /// `mysql://…` of a database.
    pub fn url(&self, database: &str) -> String {
        format!("mysql://root@127.0.0.1:{}/{database}", self.port)
    }

    /// What `sql` gives: rows as lines, columns parted by tabs.
    #[track_caller]
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let output = self.client(database, sql).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{sql}: {said}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    fn answers(&self) -> bool {
        self.client("", "SELECT 1").output().unwrap().status.success()
    }

    fn client(&self, database: &str, sql: &str) -> Command {
        let mut client = Command::new("mariadb");
        client
            .args([
                "--no-defaults",
                "-N",
                "-B",
                "-r",
                "--default-character-set=utf8mb4",
                "-u",
                "root",
            ])
            .arg(format!("--socket={}", self.path("socket").display()))
            .args(["-e", sql])
            .args(Some(database).filter(|name| !name.is_empty()))
            .stdin(Stdio::null());
        client
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        self.halt();
    }
}

/// Who the server runs as: whoever runs the test.
fn user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
