//! What keeps intake waiting, or the spool from being written, in words: what is
//! the matter, what is safe, what to do. Pure.

use bytesize::ByteSize;

use crate::spool::{Room, Usage};

/// The obstacle, if there is one: `full` says that intake waits, `disk` is the last
/// trouble with the spool's disk.
#[must_use]
pub fn obstacle(full: bool, room: Room, usage: &Usage, disk: Option<&str>) -> Option<String> {
    if let Some(trouble) = disk {
        return Some(format!(
            "SPOOL TROUBLE: {trouble}; what is in memory stays there and goes out when the sink takes it"
        ));
    }
    let shown = |bytes: u64| ByteSize(bytes).display().iec().to_string();
    match room {
        _ if !full => None,
        Room::Enough => None,
        Room::Full { used, max } => {
            let (used, max) = (shown(used), shown(max));
            let held = if usage.bytes > 0 {
                "room comes as the sink takes batches; or raise spool.max_bytes"
            } else {
                "dead letters and damaged files fill it: stop, then etl spool discard --dead or \
                 --corrupt; or raise spool.max_bytes"
            };
            Some(format!("spool full: intake waits; {used} of {max}, {held}"))
        }
        Room::LowDisk { free, floor } => {
            let (free, floor) = (shown(free), shown(floor));
            Some(format!(
                "disk low: intake waits; {free} free and {floor} must stay: free space, or lower \
                 spool.min_free"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::obstacle;
    use crate::spool::{Room, Usage};

    #[test]
    fn says_what_is_full_and_what_helps() {
        let waiting = Usage { bytes: 2048, ..Usage::default() };
        let full = Room::Full { used: 2048, max: 1024 };
        let said = obstacle(true, full, &waiting, None).unwrap_or_default();
        assert!(said.starts_with("spool full: intake waits; 2.0 KiB of 1.0 KiB, room"), "{said}");
        let dead = Usage { dead_bytes: 2048, ..Usage::default() };
        let said = obstacle(true, full, &dead, None).unwrap_or_default();
        assert!(said.contains("etl spool discard --dead"), "{said}");
        let low = Room::LowDisk { free: 1 << 20, floor: 256 << 20 };
        let said = obstacle(true, low, &waiting, None).unwrap_or_default();
        assert!(said.contains("1.0 MiB free and 256.0 MiB must stay"), "{said}");
        assert_eq!(obstacle(true, Room::Enough, &waiting, None), None);
        assert_eq!(obstacle(false, full, &waiting, None), None, "nobody is kept waiting");
        let said =
            obstacle(false, Room::Enough, &waiting, Some("cannot write x")).unwrap_or_default();
        assert!(said.contains("cannot write x"), "{said}");
    }
}
