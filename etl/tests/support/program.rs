//! A program that a test starts for itself: it ends with the test, however that ends.

use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Nothing that a test waits for takes as long, on any machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A running program, killed when this is dropped.
pub struct Program {
    child: Option<Child>,
    name: String,
}

impl Program {
    /// Starts it; `package` is the Debian package that has it.
    #[track_caller]
    pub fn start(command: &mut Command, package: &str) -> Program {
        let name = command.get_program().to_string_lossy().into_owned();
        match command.spawn() {
            Ok(child) => Program { child: Some(child), name },
            // Some are in /usr/sbin, which is not in everybody's path.
            Err(error) if error.kind() == ErrorKind::NotFound => panic!(
                "{name}: {error}; install the Debian package {package} (bash .ci/packages), and \
                 have /usr/sbin in PATH"
            ),
            Err(error) => panic!("{name} does not start: {error}"),
        }
    }

    /// Waits until `up` holds; no when the program has ended before, as one does whose port
    /// somebody else was quicker to take.
    #[track_caller]
    pub fn is_up(&mut self, mut up: impl FnMut() -> bool) -> bool {
        let began = Instant::now();
        loop {
            if self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some()) {
                return false;
            }
            if up() {
                return true;
            }
            assert!(began.elapsed() < PATIENCE, "{} does not answer", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Tells it to end and waits for that.
    pub fn stop(&mut self, with: Signal) {
        let Some(mut child) = self.child.take() else { return };
        signal(&child, with);
        child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        // It may have ended already.
        child.kill().ok();
        child.wait().ok();
    }
}

/// What `start` makes; another try, five times, when a program ends at once.
#[track_caller]
pub fn started<T>(mut start: impl FnMut() -> Option<T>) -> T {
    (0..5).find_map(|_| start()).expect("it ends at once, again and again")
}

/// Sends a signal to a child.
pub fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// A port that nobody had a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The same for datagrams.
pub fn free_udp_port() -> u16 {
    UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}
