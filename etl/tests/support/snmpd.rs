//! net-snmp's agent, the real one, as Debian packages it, and its command line tools.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test file uses a part of this, and a failed step is a failed test"
)]

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::program::{Program, free_udp_port, started};

/// A user of version 3: name, and protocols with passwords as net-snmp spells them.
pub type User =
    (&'static str, Option<(&'static str, &'static str)>, Option<(&'static str, &'static str)>);

/// A running agent; ends with the test, however that ends.
pub struct Snmpd {
    dir: TempDir,
    process: Program,
    pub port: u16,
}

impl Snmpd {
    /// Listens on every address of this machine. `more` is added to its configuration.
    /// Another process may take the free port first; then another one is tried.
    pub fn start(users: &[User], more: &str) -> Snmpd {
        let mut conf = "rocommunity public\nrocommunity6 public\nmaster no\n".to_owned();
        for (name, auth, privacy) in users {
            let level = match (auth, privacy) {
                (None, _) => "noauth",
                (_, None) => "auth",
                _ => "priv",
            };
            write!(conf, "rouser {name} {level}\ncreateUser {name}").unwrap();
            for (protocol, password) in [auth, privacy].into_iter().flatten() {
                write!(conf, " {protocol} {password:?}").unwrap();
            }
            conf.push('\n');
        }
        conf.push_str(more);
        started(|| Snmpd::start_once(&conf))
    }

    fn start_once(conf: &str) -> Option<Snmpd> {
        let dir = tempfile::tempdir().unwrap();
        let port = free_udp_port();
        let agent = format!("agentAddress udp:0.0.0.0:{port},udp6:[::]:{port}\n");
        std::fs::write(dir.path().join("agent.conf"), agent + conf).unwrap();
        let process = spawn(dir.path());
        let mut snmpd = Snmpd { dir, process, port };
        snmpd.is_up().then_some(snmpd)
    }

    /// Stops the agent as an administrator does.
    pub fn stop(&mut self) {
        self.process.stop(Signal::TERM);
    }

    /// Removes what it keeps between its starts, as if it were another machine.
    pub fn forget_itself(&self) {
        std::fs::remove_dir_all(self.dir.path().join("state")).unwrap();
    }

    /// Starts it again, with what it has kept.
    pub fn start_again(&mut self) {
        self.process = spawn(self.dir.path());
        assert!(self.is_up(), "snmpd did not come back");
    }

    /// What one of net-snmp's tools prints on one line each; numbers, no names.
    pub fn tool(&self, tool: &str, options: &[&str], objects: &[&str]) -> Vec<String> {
        let output = self.command(tool, options, objects).output();
        let output =
            output.unwrap_or_else(|error| panic!("install the Debian package snmp: {error}"));
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{tool}: {errors}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    fn command(&self, tool: &str, options: &[&str], objects: &[&str]) -> Command {
        let mut command = Command::new(tool);
        command
            .args(["-v2c", "-c", "public", "-On", "-t5", "-r5"])
            .args(options)
            .arg(format!("127.0.0.1:{}", self.port))
            .args(objects)
            .env("MIBS", "")
            .env("SNMP_PERSISTENT_DIR", self.dir.path().join("tools"));
        command
    }

    fn is_up(&mut self) -> bool {
        let mut probe = self.command("snmpget", &["-t1", "-r0"], &["1.3.6.1.2.1.1.3.0"]);
        probe.stderr(Stdio::null()).stdout(Stdio::null());
        self.process.is_up(|| {
            let status = probe.status();
            status.unwrap_or_else(|e| panic!("install the Debian package snmp: {e}")).success()
        })
    }
}

fn spawn(dir: &Path) -> Program {
    let mut command = Command::new("snmpd");
    command
        .args(["-f", "-C", "-Lf"])
        .arg(dir.join("log"))
        .arg("-c")
        .arg(dir.join("agent.conf"))
        .env("MIBS", "")
        .env("SNMP_PERSISTENT_DIR", dir.join("state"))
        .stdin(Stdio::null());
    Program::start(&mut command, "snmpd")
}
