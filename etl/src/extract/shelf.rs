//! Short pieces of bytes by key, one for each target of a fleet and replaced with every
//! poll: in one piece of memory, where an allocation each would cost twice as much and
//! stand between what comes and goes.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::samples::{AsItIs, Key};

/// Bytes of a cell: pieces take whole ones.
const CELL: usize = 8;
/// In front of each piece: how long it is.
const HEAD: usize = 4;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// The first cell of each key's piece.
    places: HashMap<u64, u32, BuildHasherDefault<AsItIs>>,
    cells: Vec<u8>,
    /// First cells of what is free, by the number of cells.
    free: HashMap<usize, Vec<u32>>,
}

impl Shelf {
    /// How many pieces there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The piece of a key.
    pub(super) fn get(&self, key: Key) -> Option<&[u8]> {
        let place = *self.places.get(&key.number())?;
        let at = place as usize * CELL;
        self.cells.get(at + HEAD..at + HEAD + self.length(place))
    }

    /// Puts a piece in place of the one before; says whether there was room.
    pub(super) fn put(&mut self, key: Key, piece: &[u8]) -> bool {
        let Ok(length) = u32::try_from(piece.len()) else { return false };
        let wanted = cells(piece.len());
        let before = self.places.get(&key.number()).copied();
        let kept = before.filter(|place| cells(self.length(*place)) == wanted);
        let Some(place) = kept.or_else(|| self.take(wanted)) else { return false };
        if let Some(before) = before.filter(|before| *before != place) {
            let size = cells(self.length(before));
            self.free.entry(size).or_default().push(before);
        }
        let at = place as usize * CELL;
        self.cells[at..at + HEAD].copy_from_slice(&length.to_le_bytes());
        self.cells[at + HEAD..at + HEAD + piece.len()].copy_from_slice(piece);
        self.places.insert(key.number(), place);
        true
    }

    /// So many cells in a row; none when there are no more numbers for them.
    fn take(&mut self, wanted: usize) -> Option<u32> {
        if let Some(place) = self.free.get_mut(&wanted).and_then(Vec::pop) {
            return Some(place);
        }
        let place = u32::try_from(self.cells.len() / CELL).ok()?;
        self.cells.resize(self.cells.len() + wanted * CELL, 0);
        Some(place)
    }

    fn length(&self, place: u32) -> usize {
        let head = self.cells.get(place as usize * CELL..).and_then(|head| head.first_chunk());
        head.map_or(0, |head| u32::from_le_bytes(*head) as usize)
    }
}

/// The cells that a piece takes.
fn cells(length: usize) -> usize {
    (HEAD + length).div_ceil(CELL)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::{CELL, Key, Shelf};

    proptest! {
        #[test]
        fn each_key_has_what_was_put_last(
            puts in prop::collection::vec((0u8..9, prop::collection::vec(any::<u8>(), 0..40)), 0..99),
        ) {
            let (mut shelf, mut model) = (Shelf::default(), HashMap::new());
            let key = |name: u8| Key::of(&name.to_string());
            for (name, piece) in puts {
                prop_assert!(shelf.put(key(name), &piece));
                model.insert(name, piece);
                for name in 0..9 {
                    prop_assert_eq!(shelf.get(key(name)), model.get(&name).map(Vec::as_slice));
                }
            }
            prop_assert_eq!(shelf.len(), model.len());
        }
    }

    #[test]
    fn what_is_free_is_used_again() {
        let mut shelf = Shelf::default();
        let key = Key::of("a");
        for round in 0..100_usize {
            assert!(shelf.put(key, &vec![7; round % 30]));
        }
        assert!(shelf.cells.len() <= 15 * CELL, "{}", shelf.cells.len());
    }
}
