//! Records on their way from a file into the intake, many at once: encoded, then
//! transformed, then numbered, the first two by whichever task has them.

use tracing::warn;

use super::rejects::Reject;
use crate::batch::{Rows, Whole};
use crate::source::{Piece, Rejection};
use crate::telemetry::SinkInput;
use crate::transform::{Chain, Scratch, Verdict};

/// A piece of a file and what the transform has made of it.
#[derive(Debug, Default)]
pub struct Harvest {
    /// The records as they were extracted.
    pub piece: Piece,
    transformed: Rows,
    /// What became of each record; empty when all go on as they are.
    fates: Vec<Fate>,
    /// Records that the transform has refused, each with its place among all.
    refused: Vec<(usize, Reject)>,
    filtered: u64,
    passed_through: bool,
    /// It was cut shorter than others, so that batches end with pieces again.
    pub(super) shortened: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It goes on.
    Kept,
    /// Only sinks of raw records get it.
    Dropped,
    /// The source has refused it.
    Absent,
}

/// The records for sinks of either kind.
#[derive(Debug)]
pub(super) struct Kinds<'a> {
    /// As they were extracted, and as they were transformed.
    rows: [Whole<'a>; 2],
    passed_through: bool,
}

/// Which records there are, for sinks of either kind.
#[derive(Debug)]
pub(super) struct Outline<'a> {
    fates: &'a [Fate],
    records: usize,
}

impl Harvest {
    /// Forgets everything but the memory.
    pub fn clear(&mut self) {
        self.piece.clear();
        self.transformed.clear();
        self.fates.clear();
        self.refused.clear();
        (self.filtered, self.passed_through, self.shortened) = (0, false, false);
    }

    /// How many records there are, good and bad.
    pub(super) fn records(&self) -> usize {
        self.piece.records()
    }

    /// Records that the user asked to drop.
    pub(super) fn filtered(&self) -> u64 {
        self.filtered
    }

    /// Applies `chain` to all records.
    pub(super) fn transform(&mut self, chain: &Chain, file: &str, scratch: &mut Scratch) {
        self.passed_through = chain.is_empty();
        let mut absent = self.piece.rejections.iter().map(|(at, _)| *at).peekable();
        if self.passed_through && absent.peek().is_none() {
            return;
        }
        let mut rows = self.piece.rows.iter();
        for at in 0..self.piece.records() {
            if absent.next_if_eq(&at).is_some() {
                self.fates.push(Fate::Absent);
                continue;
            }
            let Some(row) = rows.next() else { break };
            if self.passed_through {
                self.fates.push(Fate::Kept);
                continue;
            }
            let mut verdict = Ok(Verdict::Keep);
            self.transformed.push_with(|out| verdict = chain.apply(row, scratch, out));
            if !matches!(verdict, Ok(Verdict::Keep)) {
                self.transformed.pop();
            }
            self.fates.push(match verdict {
                Ok(Verdict::Keep) => Fate::Kept,
                Ok(Verdict::Filtered) => {
                    self.filtered += 1;
                    Fate::Dropped
                }
                Err(error) => {
                    let place = format!("{file}:{}", self.piece.line_of(at));
                    let (reason, record) = (error.to_string(), row.to_vec());
                    self.refused.push((at, Reject { place, reason, record }));
                    Fate::Dropped
                }
            });
        }
    }

    /// Takes out the records that source and transform have refused, in order, each with
    /// its place among all.
    pub(super) fn rejects(&mut self) -> Vec<(usize, Reject)> {
        let mut rejects = std::mem::take(&mut self.refused);
        for (at, Rejection { place, reason, record }) in self.piece.rejections.drain(..) {
            warn!(place, reason, "row rejected");
            rejects.push((at, Reject { place, reason, record }));
        }
        rejects.sort_by_key(|(at, _)| *at);
        rejects
    }

    /// The records by themselves, and which of all they are.
    pub(super) fn parts(&mut self) -> (Kinds<'_>, Outline<'_>) {
        let Harvest { piece, transformed, fates, passed_through, .. } = self;
        let records = piece.records();
        let rows = [Whole::new(&mut piece.rows), Whole::new(transformed)];
        (Kinds { rows, passed_through: *passed_through }, Outline { fates, records })
    }
}

impl<'a> Kinds<'a> {
    /// The records for sinks of the given kind.
    pub(super) fn of(&mut self, input: SinkInput) -> &mut Whole<'a> {
        let extracted = self.passed_through || input == SinkInput::Raw;
        &mut self.rows[usize::from(!extracted)]
    }
}

impl Outline<'_> {
    /// For each record whether sinks of the given kind get it.
    pub(super) fn of(&self, input: SinkInput) -> impl Iterator<Item = bool> {
        (0..self.records).map(move |at| match self.fates.get(at) {
            None | Some(Fate::Kept) => true,
            Some(Fate::Dropped) => input == SinkInput::Raw,
            Some(Fate::Absent) => false,
        })
    }
}
