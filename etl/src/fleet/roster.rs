//! The targets of an inventory: their rows in one piece of memory, and who they are.

use std::ops::Range;

/// Targets in the order of the inventory.
#[derive(Debug, Default)]
pub struct Roster {
    /// Rows as JSON objects, one behind the other.
    rows: Vec<u8>,
    ends: Vec<u32>,
    identities: Vec<u64>,
}

/// The inventory's rows together are more than can be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the rows of the inventory are more than 4 GiB")]
pub struct TooLarge;

impl Roster {
    /// Adds a row.
    ///
    /// # Errors
    /// When there are too many.
    pub fn push(&mut self, row: &[u8]) -> Result<(), TooLarge> {
        let end = u32::try_from(self.rows.len() + row.len()).map_err(|_| TooLarge)?;
        self.rows.extend_from_slice(row);
        self.ends.push(end);
        self.identities.push(identity(row));
        Ok(())
    }

    /// Tells apart rows that are the same, and gives memory back that is not needed.
    pub fn finish(&mut self) {
        self.rows.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.identities.shrink_to_fit();
        let (mut before, mut nth) = (None, 0u64);
        // Sorted by place too: the first of the same keeps its identity.
        for (known, at) in by_identity(&self.identities) {
            nth = if before == Some(known) { nth + 1 } else { 0 };
            before = Some(known);
            if nth > 0 {
                let both = [known, nth].map(u64::to_le_bytes).concat();
                self.identities[at as usize] = identity(&both);
            }
        }
    }

    /// A target's row, one JSON object.
    #[must_use]
    pub fn row(&self, target: u32) -> &[u8] {
        self.rows.get(self.range(target)).unwrap_or_default()
    }

    fn range(&self, target: u32) -> Range<usize> {
        let at = target as usize;
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before)).copied();
        let end = self.ends.get(at).copied().unwrap_or(0);
        start.unwrap_or(0) as usize..end as usize
    }

    /// Who the targets are.
    #[must_use]
    pub fn identities(&self) -> &[u64] {
        &self.identities
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// Where each of the `old` targets is among the `new` ones, if it still is.
#[must_use]
pub fn moved(old: &[u64], new: &[u64]) -> Vec<Option<u32>> {
    let new = by_identity(new);
    let place = |identity: &u64| {
        let at = new.binary_search_by_key(identity, |(identity, _)| *identity).ok()?;
        Some(new[at].1)
    };
    old.iter().map(place).collect()
}

/// Identities with their places, sorted.
fn by_identity(identities: &[u64]) -> Vec<(u64, u32)> {
    let mut order: Vec<(u64, u32)> = identities.iter().copied().zip(0..).collect();
    order.sort_unstable();
    order
}

/// What a target is known by: the same for the same bytes, for all time.
fn identity(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(bytes).as_bytes()[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Roster, moved};

    fn roster(rows: &[&str]) -> Roster {
        let mut roster = Roster::default();
        for row in rows {
            assert_eq!(roster.push(row.as_bytes()), Ok(()));
        }
        roster.finish();
        roster
    }

    #[test]
    fn rows_are_found_again_and_the_same_ones_told_apart() {
        let rows = ["{\"ip\":\"a\"}", "", "{\"ip\":\"b\"}", "{\"ip\":\"a\"}", "{\"ip\":\"a\"}"];
        let roster = roster(&rows);
        for (at, row) in rows.iter().enumerate() {
            assert_eq!(roster.row(at as u32), row.as_bytes());
        }
        assert_eq!(roster.row(9), b"");
        let identities: BTreeSet<_> = roster.identities().iter().collect();
        assert_eq!((identities.len(), roster.len()), (5, 5));
    }

    #[test]
    fn unchanged_rows_are_found_wherever_they_are_now() {
        let (old, new) = (roster(&["a", "b", "c"]), roster(&["c", "d", "a"]));
        let moved = moved(old.identities(), new.identities());
        assert_eq!(moved, [Some(2), None, Some(0)]);
    }
}
