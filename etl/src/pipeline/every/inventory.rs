//! The inventory: read at the beginning, looked at every few seconds, taken up again when
//! it is another. Unchanged rows keep what is known of them. One that is gone or cannot
//! be read leaves the one before in force.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use tracing::{info, warn};

use super::shared::Shared;
use crate::config::CsvSource;
use crate::extract::{Extractor, Target};
use crate::fleet::groups::Membership;
use crate::fleet::memory::Memory;
use crate::fleet::roster::{Roster, moved};
use crate::fleet::scheduler::{Fleet, Unsettled};
use crate::fleet::slot::Slot;
use crate::pipeline::intake::Intake;
use crate::pipeline::rejects::Reject;
use crate::source::{CsvRows, Next, SourceError};

/// Reads and follows the inventory, on a thread that may block.
pub(super) struct Inventory {
    shared: Arc<Shared>,
    csv: CsvSource,
    extractor: Arc<Extractor>,
    intake: Arc<Intake>,
    handle: tokio::runtime::Handle,
    /// The file as it was when it was read.
    look: Option<Look>,
    fingerprint: String,
    /// Rows that were rejected, so that each is only once.
    rejected: HashSet<u64>,
}

/// What a file's content is known by, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    device: u64,
    inode: u64,
    size: u64,
    modified_ns: i128,
    changed_ns: i128,
}

/// Ends the following.
pub(super) struct Following {
    end: Sender<()>,
    thread: std::io::Result<JoinHandle<()>>,
}

/// Where a target is: its host and its subnet, hashed; 0 where there is none.
type Place = (u64, u64);

/// An inventory that was read.
struct Read {
    roster: Roster,
    /// Host and subnet of each target; empty where nobody asks.
    places: Vec<Place>,
    fingerprint: String,
    rejected: HashSet<u64>,
}

impl Inventory {
    pub(super) fn new(
        shared: Arc<Shared>,
        csv: CsvSource,
        extractor: Arc<Extractor>,
        intake: Arc<Intake>,
        handle: tokio::runtime::Handle,
    ) -> Inventory {
        Inventory {
            shared,
            csv,
            extractor,
            intake,
            handle,
            look: None,
            fingerprint: String::new(),
            rejected: HashSet::new(),
        }
    }

    /// Reads it for the first time; `memory` is what an earlier process has left. Gives
    /// the number of hosts, where that is wanted.
    pub(super) fn load(
        &mut self,
        memory: &Memory,
        then: Unsettled,
        hosts_wanted: bool,
    ) -> Result<u64, SourceError> {
        self.look = self.look_now().ok();
        let read = self.read(hosts_wanted)?;
        let mut hosts: Vec<u64> = read.places.iter().map(|(host, _)| *host).collect();
        hosts.sort_unstable();
        hosts.dedup();
        let hosts = hosts.iter().filter(|host| **host != 0).count();
        let fleet = self.fleet(&read, memory);
        self.put_in_force(read, fleet, &[], then);
        Ok(hosts as u64)
    }

    /// Follows it on a thread of its own.
    pub(super) fn follow(mut self, every: Duration) -> Following {
        let (end, ends) = bounded::<()>(1);
        let span = tracing::Span::current();
        let thread = std::thread::Builder::new().name("inventory".to_owned()).spawn(move || {
            let _named = span.enter();
            let (mut before, mut trouble) = (self.look, None);
            while let Err(RecvTimeoutError::Timeout) = ends.recv_timeout(every) {
                let taken_up = self.take_up(&mut before);
                let now = taken_up.err();
                if let Some(error) = now.as_ref().filter(|_| now != trouble) {
                    warn!(error, "the inventory cannot be read, the one before stays in force");
                }
                trouble = now;
            }
        });
        if let Err(error) = &thread {
            warn!(%error, "the inventory is not followed, a thread could not be started");
        }
        Following { end, thread }
    }

    /// Takes up what has changed. What has just been written may be half of it, so a
    /// change counts once it has been seen twice.
    fn take_up(&mut self, before: &mut Option<Look>) -> Result<(), String> {
        let path = self.csv.path.display();
        let now = self.look_now().map_err(|error| format!("{path}: {error}"))?;
        let seen_twice = before.replace(now) == Some(now);
        if self.look == Some(now) || !seen_twice {
            return Ok(());
        }
        let read = self.read(false).map_err(|error| error.to_string())?;
        self.look = Some(now);
        if read.fingerprint == self.fingerprint {
            return Ok(());
        }
        let old = self.shared.core().roster.identities().to_vec();
        let moved = moved(&old, read.roster.identities());
        let kept = moved.iter().flatten().count();
        let (gone, new) = (old.len() - kept, read.roster.len() - kept);
        let fleet = self.fleet(&read, &Memory::default());
        self.put_in_force(read, fleet, &moved, Unsettled::Leave);
        info!(kept, new, gone, "inventory taken up");
        Ok(())
    }

    fn put_in_force(&mut self, read: Read, fleet: Fleet, moved: &[Option<u32>], then: Unsettled) {
        let now_ms = self.shared.clock.now_ms();
        self.shared.core().replace(now_ms, read.roster, fleet, moved, then);
        (self.fingerprint, self.rejected) = (read.fingerprint, read.rejected);
        self.shared.wake.notify_one();
    }

    /// Places in the schedule for what was read.
    fn fleet(&self, read: &Read, memory: &Memory) -> Fleet {
        let mut core = self.shared.core();
        let grid = core.scheduler.grid();
        let groups = core.scheduler.groups();
        let limited = groups.limited();
        let places = read.places.iter().filter(|_| limited);
        let members: Vec<Membership> =
            places.map(|(host, subnet)| groups.number(some(*host), some(*subnet))).collect();
        drop(core);
        let known: Vec<u64> = memory.targets.iter().map(|known| known.identity).collect();
        let places = moved(read.roster.identities(), &known);
        let cycles = memory.interval_ms == grid.interval_ms();
        let slot = |(identity, known): (&u64, &Option<u32>)| {
            let phase = grid.phase(*identity);
            match known.and_then(|at| memory.targets.get(at as usize)) {
                Some(known) => known.slot(phase, cycles),
                None => Slot::new(phase),
            }
        };
        let slots = read.roster.identities().iter().zip(&places).map(slot).collect();
        Fleet { slots, members }
    }

    fn look_now(&self) -> std::io::Result<Look> {
        let about = std::fs::metadata(&self.csv.path)?;
        let nanos = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        Ok(Look {
            device: about.dev(),
            inode: about.ino(),
            size: about.size(),
            modified_ns: nanos(about.mtime(), about.mtime_nsec()),
            changed_ns: nanos(about.ctime(), about.ctime_nsec()),
        })
    }

    /// Reads all of it; a bad row is rejected unless it was before.
    fn read(&self, hosts_wanted: bool) -> Result<Read, SourceError> {
        let limited = self.shared.core().scheduler.groups().limited();
        let mut rows = CsvRows::open(&self.csv)?;
        let (mut roster, mut places) = (Roster::default(), Vec::new());
        let mut rejected = HashSet::new();
        let mut row = Vec::new();
        for index in 0u64.. {
            row.clear();
            let reject = match rows.next_row(&mut row)? {
                Next::End => break,
                Next::Rejected(rejection) => Reject {
                    place: rejection.place,
                    reason: rejection.reason,
                    record: rejection.record,
                },
                Next::Row => match self.place(index, &row, hosts_wanted || limited) {
                    Ok(place) if roster.push(&row).is_ok() => {
                        places.extend(place);
                        continue;
                    }
                    Ok(_) => self.bad(index, "the inventory is too large"),
                    Err(reason) => self.bad(index, &reason),
                },
            };
            let known = hash_of(&without_line(&reject));
            if rejected.insert(known) && !self.rejected.contains(&known) {
                warn!(place = reject.place, reason = reject.reason, "source row rejected");
                let sealed = self.handle.block_on(self.intake.reject(reject));
                self.handle.block_on(sealed.send());
            }
        }
        roster.finish();
        let fingerprint = rows.position().fingerprint;
        Ok(Read { roster, places, fingerprint, rejected })
    }

    /// Host and subnet of a row that is to be a target.
    fn place(&self, index: u64, row: &[u8], wanted: bool) -> Result<Option<Place>, String> {
        let target = Target::new(index, row.to_vec()).map_err(|error| error.to_string())?;
        if !wanted {
            return Ok(None);
        }
        let host = self.extractor.host(&target);
        let subnet = host.as_deref().and_then(subnet).unwrap_or(0);
        Ok(Some((host.as_ref().map_or(0, hash_of), subnet)))
    }

    fn bad(&self, index: u64, reason: &str) -> Reject {
        Reject {
            place: format!("{}: row {}", self.csv.path.display(), index + 1),
            reason: reason.to_owned(),
            record: b"null".to_vec(),
        }
    }
}

impl Following {
    /// Waits until nothing is read any more. Blocks.
    pub(super) fn end(self) {
        drop(self.end);
        if let Ok(thread) = self.thread
            && thread.join().is_err()
        {
            warn!("the inventory was not followed to the end: a panic");
        }
    }
}

/// What makes a bad row the same wherever it stands: its reason and its text.
fn without_line(reject: &Reject) -> (String, Vec<u8>) {
    let record = &reject.record;
    let text = memchr::memmem::find(record, b"\"raw\":").unwrap_or(0);
    (reject.reason.clone(), record[text..].to_vec())
}

/// The /24 or /64 of an address, hashed; a name has none.
fn subnet(host: &str) -> Option<u64> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match bare.parse().ok()? {
        IpAddr::V4(address) => Some(hash_of(&(4, &address.octets()[..3]))),
        IpAddr::V6(address) => Some(hash_of(&(6, &address.octets()[..8]))),
    }
}

fn some(hash: u64) -> Option<u64> {
    Some(hash).filter(|hash| *hash != 0)
}

fn hash_of(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::{Reject, subnet, without_line};

    #[test]
    fn addresses_of_one_subnet_are_in_one_group_and_names_in_none() {
        assert_eq!(subnet("10.0.1.7"), subnet("10.0.1.200"));
        assert_ne!(subnet("10.0.1.7"), subnet("10.0.2.7"));
        assert_eq!(subnet("[2001:db8::1]"), subnet("2001:db8::ffff:1"));
        assert_ne!(subnet("[2001:db8::1]"), subnet("[2001:db8:0:1::1]"));
        assert_eq!(subnet("node.example.net"), None);
    }

    #[test]
    fn a_bad_row_is_the_same_on_another_line() {
        let reject = |line: u32, raw: &str| Reject {
            place: format!("a.csv:{line}"),
            reason: "1 field, expected 2".to_owned(),
            record: format!("{{\"line\":{line},\"raw\":\"{raw}\"}}").into_bytes(),
        };
        assert_eq!(without_line(&reject(3, "x")), without_line(&reject(9, "x")));
        assert_ne!(without_line(&reject(3, "x")), without_line(&reject(3, "y")));
    }
}
