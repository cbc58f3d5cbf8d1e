//! What must hold for any bytes that stand where a checkpoint should be.
#![allow(clippy::expect_used, reason = "only fuzzers and tests build this")]

use std::path::Path;

use super::state::{FleetState, InputState, Place, State, Targets, header};
use super::store::{GENERATIONS, Store};

/// Any bytes as a checkpoint. The first byte chooses: as they are, behind a digest
/// that is right, or as damage to two generations of our making.
pub(crate) fn checkpoint(directory: &Path, data: &[u8]) {
    let Some((way, data)) = data.split_first() else { return };
    match way % 3 {
        0 => read(data),
        1 => read(&[header(data).as_bytes(), data].concat()),
        _ => recover(directory, data),
    }
}

/// What is understood is written again as it was understood.
fn read(bytes: &[u8]) {
    if let Ok(state) = State::decode(bytes) {
        assert_eq!(State::decode(&state.encode()), Ok(state));
    }
}

/// Whatever happened to either generation: the newest that is whole is the state,
/// what is not whole is set aside as it is, and the next write goes on from there.
fn recover(directory: &Path, data: &[u8]) {
    let Some((cut, data)) = data.split_first() else { return };
    let (first, second) = data.split_at(usize::from(*cut).min(data.len()));
    std::fs::remove_dir_all(directory).ok();
    write(directory);
    let files = [damage(directory, 0, first), damage(directory, 1, second)];
    let whole = files.iter().flatten().filter_map(|bytes| State::decode(bytes).ok());
    let expected = whole.max_by_key(|state| state.counter).unwrap_or_default();
    let broken: Vec<&Vec<u8>> =
        files.iter().flatten().filter(|bytes| State::decode(bytes).is_err()).collect();

    let (mut store, mut state, damages) = Store::open(directory).expect("the store opens");
    assert_eq!(state, expected);
    let moved = damages.iter().map(|damage| damage.moved.clone().expect("it is set aside"));
    let moved: Vec<_> = moved.map(|path| std::fs::read(path).expect("it is there")).collect();
    assert_eq!(moved.iter().collect::<Vec<_>>(), broken);
    store.save(&mut state).expect("it can be written");
    drop(store);
    let (_, again, damages) = Store::open(directory).expect("the store opens again");
    assert_eq!((again, damages), (state, vec![]));
}

/// Two generations; the one with the higher counter is the first of the two files.
fn write(directory: &Path) {
    let (mut store, mut state, damages) = Store::open(directory).expect("a new store opens");
    assert_eq!((&state, damages), (&State::default(), vec![]));
    for records in [42, 43] {
        let place = Place { records, ..Place::default() };
        let mut settled = Targets::default();
        settled.insert(records);
        state.fleet = Some(FleetState { settled, ..FleetState::default() });
        state.set_input(InputState {
            path: "/data/rows.csv".to_owned(),
            sinks: [("http".to_owned(), place)].into(),
            cuts: [("http".to_owned(), vec![records])].into(),
            ..InputState::default()
        });
        store.save(&mut state).expect("it can be written");
    }
}

/// Changes one generation as `how` says; gives the bytes that it then has.
fn damage(directory: &Path, generation: usize, how: &[u8]) -> Option<Vec<u8>> {
    let path = directory.join(GENERATIONS[generation]);
    let good = std::fs::read(&path).expect("a generation is there");
    let Some((kind, how)) = how.split_first() else { return Some(good) };
    let mut bad = good.clone();
    match kind % 5 {
        0 => {
            for change in how.chunks_exact(3) {
                let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bad.len();
                bad[at] = change[2];
            }
        }
        1 => bad.truncate(how.first().map_or(0, |at| usize::from(*at) * good.len() / 256)),
        2 => bad.extend_from_slice(how),
        3 => bad = how.to_vec(),
        _ => {
            std::fs::remove_file(&path).expect("it can be removed");
            return None;
        }
    }
    // Only whole replacements may happen to be somebody's checkpoint.
    let accepted = State::decode(&bad).is_ok();
    assert!(bad == good || kind % 5 == 3 || !accepted, "a changed checkpoint is accepted");
    std::fs::write(&path, &bad).expect("it can be written");
    Some(bad)
}
