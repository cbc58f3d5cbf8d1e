//! A file system of a test's own, on a loop device, that can fail.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file uses a part of this, and a failed step is a failed test"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::crash::Case;
use crate::support::wait_until;

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`, on a signal from the test.
const CUTTER: &str = "
import fcntl, os, struct, sys
mount = os.open(sys.argv[1], os.O_RDONLY)
print('ready', flush=True)
sys.stdin.readline()
fcntl.ioctl(mount, 0x8004587d, struct.pack('I', 2))
";

/// A file system of its own, mounted on a pipeline's data directory.
pub struct Disk {
    image: PathBuf,
    pub mount: PathBuf,
    mounted: bool,
}

impl Disk {
    /// Makes the file system and mounts it on the data directory of `case`.
    pub fn under(case: &Case) -> Disk {
        let image = case.bench.write("disk.img", b"");
        std::fs::File::options().write(true).open(&image).unwrap().set_len(32 << 20).unwrap();
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        let owner = format!("root_owner={}:{}", user.as_raw(), group.as_raw());
        done(Command::new("/usr/sbin/mkfs.ext4").args(["-q", "-F", "-E", &owner]).arg(&image));
        let mount = case.bench.path("data");
        std::fs::create_dir(&mount).unwrap();
        let mut disk = Disk { image, mount, mounted: false };
        disk.mount();
        disk
    }

    pub fn mount(&mut self) {
        done(
            privileged("mount")
                .args(["-o", "loop,errors=remount-ro"])
                .args([&self.image, &self.mount]),
        );
        self.mounted = true;
    }

    /// Returns when nobody has the file system any more. A process in a mount namespace of
    /// its own, as any other test may start, has a copy of every mount: what is mounted
    /// again while such a copy lives is the file system that was cut off, not its disk.
    pub fn unmount(&mut self) {
        // What has just been killed may hold on for a moment.
        wait_until("the file system can be unmounted", || {
            privileged("umount").arg(&self.mount).output().unwrap().status.success()
        });
        self.mounted = false;
        wait_until("no mount namespace holds the file system", || {
            let attached = privileged("losetup").arg("--associated").arg(&self.image).output();
            attached.unwrap().stdout.is_empty()
        });
    }

    /// A process that cuts the power as soon as it is told to.
    pub fn cutter(&self) -> Child {
        let mut cutter = privileged("python3")
            .args(["-c", CUTTER])
            .arg(&self.mount)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(cutter.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n", "{NEEDED}");
        cutter
    }

    /// Cuts the power, ends what ran on it, and starts the disk again.
    pub fn cut(&mut self, mut cutter: Child, run: &mut Child) {
        cutter.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert!(cutter.wait().unwrap().success(), "the file system could not be shut down");
        run.kill().unwrap();
        run.wait().unwrap();
        self.unmount();
        self.mount();
    }

    /// Makes the kernel find an error in the file system, which it then protects from
    /// writes, as a failing disk would.
    pub fn turn_read_only(&self) {
        let found = Command::new("findmnt").args(["-no", "SOURCE"]).arg(&self.mount).output();
        let device = String::from_utf8(found.unwrap().stdout).unwrap();
        let name = Path::new(device.trim()).file_name().unwrap().to_string_lossy().into_owned();
        let script = format!("echo 1 > /sys/fs/ext4/{name}/trigger_fs_error");
        done(privileged("sh").args(["-c", &script]));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            privileged("umount").args(["--lazy"]).arg(&self.mount).status().ok();
        }
    }
}

/// Why one of these tests may fail that has nothing to do with what it tests.
pub const NEEDED: &str = "this needs root or sudo without a password (run it as root), a loop \
    device, and the Debian packages e2fsprogs, mount (mount, losetup) and python3 (bash .ci/packages)";

/// `program` as root.
pub fn privileged(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut sudo = Command::new("sudo");
    sudo.args(["--non-interactive", program]);
    sudo
}

#[track_caller]
fn done(command: &mut Command) {
    match command.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            panic!("{command:?}: {}\n{NEEDED}", String::from_utf8_lossy(&output.stderr))
        }
        Err(error) => panic!("{command:?}: {error}\n{NEEDED}"),
    }
}
