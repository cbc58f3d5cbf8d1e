//! The targets of an inventory: their rows in one piece of memory, and who they are.

use std::ops::Range;

use crate::source::fields::all;

/// Targets in the order of the inventory.
#[derive(Debug, Default)]
pub struct Roster {
    /// What stands around the values of the first row: that of nearly every row.
    outline: Vec<Box<[u8]>>,
    /// Rows one behind the other: of those with this outline the values, each behind a line
    /// end; others as they are. No row has a line end of its own.
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
        if self.ends.is_empty() {
            self.outline = outline(row);
        }
        let begin = self.rows.len();
        if !self.push_values(row) {
            self.rows.truncate(begin);
            self.rows.extend_from_slice(row);
        }
        let Ok(end) = u32::try_from(self.rows.len()) else {
            self.rows.truncate(begin);
            return Err(TooLarge);
        };
        self.ends.push(end);
        self.identities.push(identity(row));
        Ok(())
    }

    /// Appends the values of a row that has the outline; says whether it has.
    fn push_values(&mut self, row: &[u8]) -> bool {
        let Some((last, before)) = self.outline.split_last() else { return false };
        let Ok(fields) = all(row) else { return false };
        if fields.len() != before.len() {
            return false;
        }
        let mut rest = row;
        for ((_, value), around) in fields.iter().zip(before) {
            let value = value.0.as_bytes();
            let behind = rest.strip_prefix(&**around).and_then(|rest| rest.strip_prefix(value));
            match behind {
                Some(behind) if !value.contains(&b'\n') => rest = behind,
                _ => return false,
            }
            self.rows.push(b'\n');
            self.rows.extend_from_slice(value);
        }
        rest == &**last
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
    pub fn row(&self, target: u32) -> Vec<u8> {
        let kept = self.rows.get(self.range(target)).unwrap_or_default();
        let Some(values) = kept.strip_prefix(b"\n") else { return kept.to_vec() };
        let around: usize = self.outline.iter().map(|part| part.len()).sum();
        let mut row = Vec::with_capacity(kept.len() + around);
        let mut values = values.split(|byte| *byte == b'\n');
        for part in &self.outline {
            row.extend_from_slice(part);
            row.extend_from_slice(values.next().unwrap_or_default());
        }
        row
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

/// What stands before, between and behind the values of a row; nothing where it is no
/// object with any.
fn outline(row: &[u8]) -> Vec<Box<[u8]>> {
    let (mut outline, mut rest) = (Vec::new(), row);
    for (_, value) in all(row).unwrap_or_default() {
        let value = value.0.as_bytes();
        // Found too early, it is the outline of no row, and all are kept as they are.
        let Some(at) = memchr::memmem::find(rest, value) else { return Vec::new() };
        outline.push(rest[..at].into());
        rest = &rest[at + value.len()..];
    }
    if !outline.is_empty() {
        outline.push(rest.into());
    }
    outline
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
        assert!(roster.row(9).is_empty());
        let identities: BTreeSet<_> = roster.identities().iter().collect();
        assert_eq!((identities.len(), roster.len()), (5, 5));
    }

    #[test]
    fn a_row_comes_out_as_it_went_in_and_keeps_its_values_alone() {
        let row = |n: u32| format!("{{\"ip\":\"10.0.0.{n}\",\"hostname\":\"sw-{n}\",\"n\":{n}}}");
        let mut rows: Vec<String> = (0..3).map(row).collect();
        let long = rows.concat().len();
        assert!(roster(&rows.iter().map(String::as_str).collect::<Vec<_>>()).rows.len() * 2 < long);
        let odd = [
            r#"{"ip":{"a":1},"hostname":"x","n":[1,{}]}"#,
            r#"{"hostname":"x","ip":"y","n":1}"#,
            r#"{"ip":"a", "hostname":"x","n":1}"#,
            r#"{"ip":"\n","hostname":"","n":null}"#,
            r#"{"ip":"a","ip":"b","n":1}"#,
            r#"{}"#,
            "[1]",
        ];
        rows.extend(odd.map(str::to_owned));
        for first in 0..rows.len() {
            rows.swap(0, first);
            let roster = roster(&rows.iter().map(String::as_str).collect::<Vec<_>>());
            for (at, row) in rows.iter().enumerate() {
                assert_eq!(String::from_utf8(roster.row(at as u32)).as_deref(), Ok(row.as_str()));
            }
        }
    }

    #[test]
    fn unchanged_rows_are_found_wherever_they_are_now() {
        let (old, new) = (roster(&["a", "b", "c"]), roster(&["c", "d", "a"]));
        let moved = moved(old.identities(), new.identities());
        assert_eq!(moved, [Some(2), None, Some(0)]);
    }
}
