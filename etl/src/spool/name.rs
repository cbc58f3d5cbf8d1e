//! What file names say: which state a batch is in, its place in the order, and
//! the beginning of its key. Pure; recovery works from names alone.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::batch::BatchKey;

/// Whether a spooled batch has been refused yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Written ahead of its first attempt: `buffer_pending_worker…`.
    Pending,
    /// An attempt has failed: `buffer_failed_worker…`.
    Failed,
}

/// The name of one batch's file as this program writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct BatchName {
    pub state: State,
    /// A label, never an index: any worker replays any file.
    pub worker: u32,
    pub sequence: u64,
    pub key: ShortKey,
}

/// The first 16 of a key's 32 digits, as names carry them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ShortKey(u64);

/// What a name in the spool directory stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Name {
    /// One batch, written by this program.
    Batch(BatchName),
    /// One worker's batches, written by the earlier Go program.
    Legacy(Box<OsStr>),
    /// Looks like a spool file and is none.
    Malformed(Box<OsStr>),
}

const PENDING: &str = "buffer_pending_worker";
const FAILED: &str = "buffer_failed_worker";
const DEAD: &str = "dead-";
/// Whatever begins and ends so is kept, replayed or quarantined, never ignored.
const LIKE_OURS: &str = "buffer_";
const SUFFIX: &str = ".json.gz";
const TEMP_PREFIX: &str = ".etl-";
const TEMP_SUFFIX: &str = ".tmp";
const FREE_PREFIX: &str = ".etl-free-";

impl Name {
    /// Reads a directory entry's name; `None` when it is none of the spool's business.
    pub fn parse(name: &[u8]) -> Option<Name> {
        let middle = name.strip_suffix(SUFFIX.as_bytes())?;
        if !middle.starts_with(LIKE_OURS.as_bytes()) {
            return None;
        }
        let own: Box<OsStr> = OsStr::from_bytes(name).into();
        let Some(middle) = std::str::from_utf8(middle).ok() else {
            return Some(Name::Malformed(own));
        };
        if let Some(batch) = BatchName::parse_middle(middle) {
            return Some(Name::Batch(batch));
        }
        match middle.strip_prefix(FAILED) {
            Some(label) if is_integer(label) => Some(Name::Legacy(own)),
            _ => Some(Name::Malformed(own)),
        }
    }

    /// The place in the order; foreign names tell none.
    pub fn sequence(&self) -> Option<u64> {
        match self {
            Name::Batch(batch) => Some(batch.sequence),
            Name::Legacy(_) | Name::Malformed(_) => None,
        }
    }

    /// Whether an attempt has failed; anything not ours counts as failed.
    pub fn state(&self) -> State {
        match self {
            Name::Batch(batch) => batch.state,
            Name::Legacy(_) | Name::Malformed(_) => State::Failed,
        }
    }

    /// The name as it stands in the directory.
    pub fn file_name(&self) -> OsString {
        match self {
            Name::Batch(batch) => OsString::from(batch.to_string()),
            Name::Legacy(name) | Name::Malformed(name) => name.to_os_string(),
        }
    }
}

impl BatchName {
    fn parse_middle(middle: &str) -> Option<BatchName> {
        let (state, rest) = match middle.strip_prefix(PENDING) {
            Some(rest) => (State::Pending, rest),
            None => (State::Failed, middle.strip_prefix(FAILED)?),
        };
        let (worker, rest) = rest.split_once('-')?;
        let (sequence, key) = rest.split_once('-')?;
        if worker.is_empty() || (worker.len() > 1 && worker.starts_with('0')) {
            return None;
        }
        let worker = digits(worker)?.parse().ok()?;
        let sequence = parse_sequence(sequence)?;
        Some(BatchName { state, worker, sequence, key: ShortKey::parse(key)? })
    }
}

impl fmt::Display for BatchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = match self.state {
            State::Pending => PENDING,
            State::Failed => FAILED,
        };
        write!(f, "{prefix}{}-{:020}-{}{SUFFIX}", self.worker, self.sequence, self.key)
    }
}

impl ShortKey {
    fn parse(text: &str) -> Option<ShortKey> {
        let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if text.len() != 16 || !text.bytes().all(hex) {
            return None;
        }
        u64::from_str_radix(text, 16).ok().map(ShortKey)
    }
}

impl From<BatchKey> for ShortKey {
    fn from(key: BatchKey) -> Self {
        ShortKey(u64::from_str_radix(&key.short(), 16).unwrap_or_default())
    }
}

impl fmt::Display for ShortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The name of a dead-letter file.
pub(super) fn dead_name(sequence: u64, key: ShortKey) -> String {
    format!("{DEAD}{sequence:020}-{key}{SUFFIX}")
}

/// The sequence of a dead-letter file; `None` for any other name.
pub(super) fn parse_dead(name: &[u8]) -> Option<(u64, ShortKey)> {
    let middle = std::str::from_utf8(name).ok()?.strip_prefix(DEAD)?.strip_suffix(SUFFIX)?;
    let (sequence, key) = middle.split_once('-')?;
    Some((parse_sequence(sequence)?, ShortKey::parse(key)?))
}

/// A name for a file that is being written by this process.
pub(super) fn temp_name(process: u32, counter: u64) -> String {
    format!("{TEMP_PREFIX}{process}-{counter}{TEMP_SUFFIX}")
}

/// Whether `name` is exactly what [`temp_name`] makes: only those are ever removed.
pub(crate) fn is_temp(name: &[u8]) -> bool {
    let parse = || {
        let name = std::str::from_utf8(name).ok()?;
        let middle = name.strip_prefix(TEMP_PREFIX)?.strip_suffix(TEMP_SUFFIX)?;
        let (process, counter) = middle.split_once('-')?;
        let (process, counter) = (digits(process)?.parse().ok()?, digits(counter)?.parse().ok()?);
        Some(temp_name(process, counter) == name)
    };
    parse().unwrap_or(false)
}

/// A name for a file whose batch was delivered, to be written over.
pub(super) fn free_name(number: u64) -> String {
    format!("{FREE_PREFIX}{number}")
}

/// The number of a free file; `None` for any other name.
pub(super) fn parse_free(name: &[u8]) -> Option<u64> {
    let number = std::str::from_utf8(name).ok()?.strip_prefix(FREE_PREFIX)?;
    let number = digits(number)?.parse().ok()?;
    (free_name(number).as_bytes() == name).then_some(number)
}

/// The name under which `name` is kept in `corrupt/` when `taken` earlier names
/// were in use; never longer than a file name may be.
pub(super) fn quarantine_name(name: &OsStr, taken: u32) -> OsString {
    const NAME_MAX: usize = 230;
    let mut bytes = name.as_bytes().to_vec();
    bytes.truncate(NAME_MAX);
    if taken > 0 {
        bytes.extend_from_slice(format!(".{taken}").as_bytes());
    }
    OsString::from_vec(bytes)
}

fn parse_sequence(text: &str) -> Option<u64> {
    if text.len() == 20 { digits(text)?.parse().ok() } else { None }
}

fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|c| c.is_ascii_digit())).then_some(text)
}

fn is_integer(label: &str) -> bool {
    digits(label.strip_prefix(['-', '+']).unwrap_or(label)).is_some()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use std::ffi::OsStr;

    use proptest::prelude::*;

    use super::*;

    const OWN: &str = "buffer_failed_worker3-00000000000000000042-0123456789abcdef.json.gz";

    #[test]
    fn a_name_says_state_worker_sequence_and_key() {
        let Some(Name::Batch(batch)) = Name::parse(OWN.as_bytes()) else { panic!("not ours") };
        assert_eq!((batch.state, batch.worker, batch.sequence), (State::Failed, 3, 42));
        assert_eq!(batch.to_string(), OWN);
        let pending = BatchName { state: State::Pending, ..batch };
        assert_eq!(Name::parse(pending.to_string().as_bytes()), Some(Name::Batch(pending)));
    }

    #[test]
    fn names_of_the_earlier_program_may_carry_any_integer() {
        for label in ["0", "-1", "7", "+5", "99999999999999999999999999", "-0", "007"] {
            let name = format!("buffer_failed_worker{label}.json.gz");
            assert!(matches!(Name::parse(name.as_bytes()), Some(Name::Legacy(_))), "{name}");
        }
    }

    #[test]
    fn what_only_looks_like_a_spool_file_is_malformed_and_the_rest_is_not_ours() {
        for name in [
            "buffer_failed_worker.json.gz",
            "buffer_failed_worker1.5.json.gz",
            "buffer_pending_worker3.json.gz",
            "buffer_failed_worker-1-00000000000000000042-0123456789abcdef.json.gz",
            "buffer_failed_worker03-00000000000000000042-0123456789abcdef.json.gz",
            "buffer_failed_worker3-42-0123456789abcdef.json.gz",
            "buffer_failed_worker3-99999999999999999999-0123456789abcdef.json.gz",
            "buffer_failed_worker3-00000000000000000042-0123456789ABCDEF.json.gz",
            "buffer_failed_worker4294967296-00000000000000000042-0123456789abcdef.json.gz",
            "buffer_failed_worker../../etc/passwd.json.gz",
        ] {
            assert!(matches!(Name::parse(name.as_bytes()), Some(Name::Malformed(_))), "{name}");
        }
        let bytes = b"buffer_failed_worker\xff\xfe.json.gz";
        assert!(matches!(Name::parse(bytes), Some(Name::Malformed(_))));
        let megabyte = [b"buffer_failed_worker".to_vec(), vec![b'9'; 1 << 20]].concat();
        assert_eq!(Name::parse(&megabyte), None);
        for name in ["", ".", "..", ".lock", "dead", "notes.json.gz", "buffer_failed_worker1.json"]
        {
            assert_eq!(Name::parse(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn only_our_own_temporary_names_count_as_temporary() {
        assert!(is_temp(temp_name(17, 4).as_bytes()));
        for name in [".etl-17.tmp", ".etl-017-4.tmp", ".etl-17-4.tmp2", ".etl--1-4.tmp", "x.tmp"] {
            assert!(!is_temp(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn quarantine_names_stay_within_the_limit() {
        let long = "x".repeat(255);
        assert!(quarantine_name(OsStr::new(&long), u32::MAX).len() <= 255);
        assert_eq!(quarantine_name(OsStr::new("a"), 0), "a");
        assert_eq!(quarantine_name(OsStr::new("a"), 2), "a.2");
    }

    proptest! {
        #[test]
        fn every_name_that_parses_is_written_back_the_same(
            name in prop_oneof![
                "buffer_(failed|pending)_worker[-0-9]{0,12}-[0-9]{20}-[0-9a-f]{16}\\.json\\.gz",
                "buffer_[a-z_]{0,14}[-+.0-9]{0,30}\\.json\\.gz",
                "\\PC{0,80}",
            ]
        ) {
            if let Some(parsed) = Name::parse(name.as_bytes()) {
                prop_assert_eq!(parsed.file_name(), OsStr::new(&name));
            }
        }

        #[test]
        fn no_bytes_are_too_strange(name in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (Name::parse(&name), parse_dead(&name), is_temp(&name));
        }

        #[test]
        fn dead_names_are_read_back(sequence: u64, key: u64) {
            let name = dead_name(sequence, ShortKey(key));
            prop_assert_eq!(parse_dead(name.as_bytes()), Some((sequence, ShortKey(key))));
        }
    }
}
