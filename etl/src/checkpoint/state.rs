//! What outlives the process: for every data file how far it is loaded, for a fleet
//! which targets are done. Written as one line of JSON behind a line that names
//! version and digest, so that a person can read it and no flipped bit passes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::rest::RestState;
use super::sql::SqlState;
use crate::source::Position;

/// Data files whose state is kept; the one that was read longest ago is forgotten
/// first.
pub const INPUTS_MAX: usize = 256;
/// The version of the form; others are not understood.
const VERSION: u32 = 1;

/// All that is known of a pipeline's runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Rises with every write: the higher of two generations is the newer.
    pub counter: u64,
    /// Data files, the last one read last.
    pub inputs: Vec<InputState>,
    /// The last run of a fleet.
    pub fleet: Option<FleetState>,
    /// What is known of an API that records are read from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<RestState>,
    /// What is known of databases that rows are read from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<SqlState>,
}

/// How far a data file is loaded, and by which run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputState {
    /// The file's canonical path.
    pub path: String,
    /// The run that read it last; part of its batches' keys.
    pub run_id: String,
    /// When that run began, Unix seconds.
    pub began: u64,
    /// Whether it came to the file's end with everything settled.
    pub finished: bool,
    /// Of everything in the configuration that shapes batches.
    pub digest: String,
    /// Per sink, the place before which all is settled: the end of one of its batches.
    /// Each with its own fingerprint, since a sink must not pass over what has changed.
    pub sinks: BTreeMap<String, Place>,
    /// Per sink, ends of batches beyond the watermark that neither records nor bytes
    /// have set: where a run stopped, and where the file ended.
    pub cuts: BTreeMap<String, Vec<u64>>,
    /// Rejected records before this one are written down.
    pub rejects_until: u64,
    /// The record that the run began with; later ones only where a file had grown.
    #[serde(default)]
    pub from: u64,
}

/// A place in a data file, or in what stands for one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place<P = Position> {
    /// Records before it.
    pub records: u64,
    /// Where it is.
    pub position: P,
}

/// The last run of a fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetState {
    /// The run; part of its batches' keys.
    pub run_id: String,
    /// When it began, Unix seconds.
    pub began: u64,
    /// When it was last known to be at work, Unix seconds.
    pub seen: u64,
    /// Whether it ended by itself, well or not.
    pub finished: bool,
    /// Of the inventory's bytes and of the configuration of the extraction.
    pub digest: String,
    /// Targets whose records are all settled in every sink, by place in the inventory.
    pub settled: Targets,
    /// The number of its next record.
    pub next_record: u64,
}

/// A set of targets by their place in the inventory; written as hexadecimal digits,
/// one bit a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets {
    bytes: Vec<u8>,
}

/// Why bytes are no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not our first line, or one of another version.
    #[error("its first line is not that of a checkpoint of version {VERSION}")]
    Header,
    /// The content is not what was written.
    #[error("its digest does not match")]
    Digest,
    /// Written by something else: the digest is right, and still not understood.
    #[error("it cannot be understood: {0}")]
    Content(String),
}

impl State {
    /// What is known of the file at `path`.
    #[must_use]
    pub fn input(&self, path: &str) -> Option<&InputState> {
        self.inputs.iter().find(|input| input.path == path)
    }

    /// Replaces what is known of `input`'s file.
    pub fn set_input(&mut self, input: InputState) {
        self.inputs.retain(|known| known.path != input.path);
        self.inputs.push(input);
        let excess = self.inputs.len().saturating_sub(INPUTS_MAX);
        self.inputs.drain(..excess);
    }

    /// The bytes to keep.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Plain data with text keys: serializing it to memory does not fail.
        let mut body = serde_json::to_vec(self).unwrap_or_default();
        body.push(b'\n');
        let mut bytes = header(&body).into_bytes();
        bytes.extend_from_slice(&body);
        bytes
    }

    /// Reads what [`State::encode`] has written, and nothing else.
    ///
    /// # Errors
    /// When a single bit is not as it was written.
    pub fn decode(bytes: &[u8]) -> Result<State, DecodeError> {
        let end = memchr::memchr(b'\n', bytes).ok_or(DecodeError::Header)? + 1;
        let (first, body) = bytes.split_at(end);
        if !first.starts_with(prefix().as_bytes()) {
            return Err(DecodeError::Header);
        }
        if first != header(body).as_bytes() {
            return Err(DecodeError::Digest);
        }
        serde_json::from_slice(body).map_err(|error| DecodeError::Content(error.to_string()))
    }
}

fn prefix() -> String {
    format!("etl checkpoint {VERSION} ")
}

pub(super) fn header(body: &[u8]) -> String {
    format!("{}{}\n", prefix(), blake3::hash(body).to_hex())
}

impl Targets {
    /// Adds a target.
    pub fn insert(&mut self, index: u64) {
        let Ok(at) = usize::try_from(index / 8) else { return };
        if self.bytes.len() <= at {
            self.bytes.resize(at + 1, 0);
        }
        self.bytes[at] |= 1 << (index % 8);
    }

    /// Whether a target is in it.
    #[must_use]
    pub fn contains(&self, index: u64) -> bool {
        let byte = usize::try_from(index / 8).ok().and_then(|at| self.bytes.get(at));
        byte.is_some_and(|byte| byte & (1 << (index % 8)) != 0)
    }

    /// How many are in it.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.bytes.iter().map(|byte| u64::from(byte.count_ones())).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Serialize for Targets {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(2 * self.bytes.len());
        for byte in &self.bytes {
            for digit in [byte >> 4, byte & 15] {
                text.extend(char::from_digit(u32::from(digit), 16));
            }
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Targets {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let pair = |pair: &[u8]| match pair {
            [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(pair).collect();
        let bytes = bytes.ok_or_else(|| serde::de::Error::custom("not hexadecimal digits"))?;
        Ok(Targets { bytes })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::{FleetState, INPUTS_MAX, InputState, Place, RestState, SqlState, State, Targets};
    use crate::source::{Ending, Position};

    pub fn sample(counter: u64) -> State {
        let position = Position {
            bytes: 4711,
            line: 43,
            after_cr: false,
            fingerprint: "ab".repeat(32),
            ending: Ending::File,
        };
        let input = InputState {
            path: "/data/rows.csv".to_owned(),
            run_id: "9f3a61c000000000".to_owned(),
            began: 1_763_000_000,
            finished: false,
            digest: "cd".repeat(32),
            sinks: [
                ("http".to_owned(), Place { records: 42, position }),
                ("b".to_owned(), Place::default()),
            ]
            .into(),
            cuts: [("http".to_owned(), vec![50])].into(),
            rejects_until: 44,
            from: 40,
        };
        let mut settled = Targets::default();
        settled.insert(3);
        let fleet = FleetState { run_id: "f".to_owned(), settled, ..FleetState::default() };
        State {
            counter,
            inputs: vec![input],
            fleet: Some(fleet),
            rest: Some(RestState::sample()),
            sql: Some(SqlState::sample()),
        }
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_noticed() {
        let bytes = sample(7).encode();
        assert_eq!(State::decode(&bytes).unwrap(), sample(7));
        for at in 0..bytes.len() {
            assert!(State::decode(&bytes[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(State::decode(&flipped).is_err(), "bit {bit} of byte {at}");
            }
        }
        assert!(State::decode(&[&bytes[..], b"\n"].concat()).is_err());
        assert!(State::decode(&[&bytes[..], &bytes[..]].concat()).is_err());
    }

    /// States that were written before an API could be read have no such field.
    #[test]
    fn an_older_state_is_understood() {
        let body = b"{\"counter\":3,\"inputs\":[],\"fleet\":null}\n";
        let bytes = [super::header(body).as_bytes(), body].concat();
        let state = State::decode(&bytes).unwrap();
        assert_eq!(state, State { counter: 3, ..State::default() });
        assert_eq!(state.encode(), bytes, "and an older program reads a new one without it");
    }

    #[test]
    fn the_file_read_longest_ago_is_forgotten_first() {
        let mut state = State::default();
        let input = |path: String| InputState { path, ..InputState::default() };
        for n in 0..=INPUTS_MAX {
            state.set_input(input(n.to_string()));
        }
        assert_eq!(state.inputs.len(), INPUTS_MAX);
        assert!(state.input("0").is_none() && state.input("1").is_some());
        state.set_input(input("1".to_owned()));
        assert_eq!(state.inputs.last().unwrap().path, "1");
    }

    proptest! {
        #[test]
        fn a_state_comes_back_as_it_was_written(
            path in ".*",
            counter in any::<u64>(),
            targets in proptest::collection::btree_set(0..5000u64, 0..200),
            marks in proptest::collection::btree_map("[a-z]{1,8}", any::<u64>(), 0..5),
        ) {
            let mut state = sample(counter);
            state.inputs[0].path = path;
            let at = |records| Place { records, ..Place::default() };
            state.inputs[0].sinks =
                marks.into_iter().map(|(name, records)| (name, at(records))).collect();
            let mut settled = Targets::default();
            for target in &targets {
                settled.insert(*target);
            }
            prop_assert_eq!(settled.len(), targets.len() as u64);
            prop_assert!((0..5000).all(|n| settled.contains(n) == targets.contains(&n)));
            state.fleet = Some(FleetState { settled, ..FleetState::default() });
            prop_assert_eq!(State::decode(&state.encode()), Ok(state));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(State::decode(&bytes).is_err());
            let headed = [super::header(&bytes).as_bytes(), &bytes].concat();
            prop_assert!(State::decode(&headed).is_err());
        }
    }
}
