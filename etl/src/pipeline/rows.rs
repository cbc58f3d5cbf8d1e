//! A data run: the source's rows are the records. One thread reads and encodes
//! them in the file's order, so that the same file gives the same batches.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tracing::warn;

use super::intake::{Intake, Sealed, Workspace};
use super::joined;
use super::rejects::Reject;
use crate::batch::Rows;
use crate::checkpoint::{Place, Places};
use crate::config::CsvSource;
use crate::source::{CsvRows, Next, SourceError};
use crate::stop::Stop;

/// How far a file has been read in this run, for the display; bytes.
#[derive(Debug, Default)]
pub(super) struct FileProgress {
    pub(super) read: AtomicU64,
    pub(super) total: AtomicU64,
}

/// An open file, at the place where this run begins.
#[derive(Debug)]
pub(super) struct DataFile {
    pub(super) file: CsvRows,
    /// The number of the next record.
    pub(super) next: u64,
    pub(super) name: String,
    pub(super) places: Arc<Places>,
    pub(super) passed: Passed,
}

/// What this run has read of the file before it was cut short.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) csv: CsvSource,
    pub(super) records: Range<u64>,
}

impl Passed {
    /// Shows the records to the transform once more, where a step remembers what has
    /// passed: what such a step makes of the next record must not depend on whether the
    /// run was cut short. Nothing of it is counted or sent.
    fn recall(&self, intake: &Intake, stop: &Stop) -> Result<(), SourceError> {
        if self.records.is_empty() || !intake.remembers() {
            return Ok(());
        }
        let mut file = CsvRows::open(&self.csv)?;
        let (mut row, mut workspace) = (Vec::new(), Workspace::default());
        for number in 0..self.records.end {
            row.clear();
            match file.next_row(&mut row)? {
                _ if stop.asked() => break,
                Next::End => break,
                Next::Row if self.records.contains(&number) => intake.recall(&row, &mut workspace),
                Next::Row | Next::Rejected(_) => {}
            }
        }
        Ok(())
    }
}

impl DataFile {
    /// Reads the file to its end, on a thread that may block; says whether it came
    /// there.
    fn read(
        mut self,
        intake: &Intake,
        progress: &FileProgress,
        stop: &Stop,
        handle: &tokio::runtime::Handle,
    ) -> Result<bool, SourceError> {
        let recalled = self.passed.recall(intake, stop);
        let read = recalled.and_then(|()| self.read_rows(intake, progress, stop, handle));
        // Wherever reading ended, the last batches are cut off here.
        let position = self.file.position();
        self.places.note_all(&Place { records: self.next, position });
        read
    }

    fn read_rows(
        &mut self,
        intake: &Intake,
        progress: &FileProgress,
        stop: &Stop,
        handle: &tokio::runtime::Handle,
    ) -> Result<bool, SourceError> {
        let passed = self.file.bytes_read();
        progress.total.store(self.file.bytes_total().unwrap_or(0).saturating_sub(passed), Relaxed);
        let (mut rows, mut workspace) = (Rows::default(), Workspace::default());
        while !stop.asked() {
            rows.clear();
            let mut next = Ok(Next::End);
            rows.push_with(|buffer| next = self.file.next_row(buffer));
            progress.read.store(self.file.bytes_read().saturating_sub(passed), Relaxed);
            let sealed = match next? {
                Next::End => return Ok(true),
                Next::Row => {
                    let place = || format!("{}:{}", self.name, self.file.line());
                    handle.block_on(intake.take(&rows, &place, &mut workspace))
                }
                Next::Rejected(rejection) => {
                    warn!(place = rejection.place, reason = rejection.reason, "row rejected");
                    let reject = Reject {
                        place: rejection.place,
                        reason: rejection.reason,
                        record: rejection.record,
                    };
                    handle.block_on(intake.reject(reject))
                }
            };
            self.note_ends(&sealed);
            self.next += 1;
            if !sealed.is_empty() {
                handle.block_on(sealed.send());
            }
        }
        Ok(false)
    }

    /// Remembers where batches ended: before or after the record read just now.
    fn note_ends(&mut self, sealed: &Sealed) {
        let (before, after) = (self.next, self.next + 1);
        let at = |end: u64| sealed.ends().iter().filter(move |(_, it)| *it == end);
        if at(before).next().is_some()
            && let Some(position) = self.file.position_before()
        {
            let place = Place { records: before, position };
            at(before).for_each(|(sink, _)| self.places.note(*sink, place.clone()));
        }
        if at(after).next().is_some() {
            let place = Place { records: after, position: self.file.position() };
            at(after).for_each(|(sink, _)| self.places.note(*sink, place.clone()));
        }
    }

    /// The thread's future side.
    pub(super) async fn read_on_thread(
        self,
        intake: Arc<Intake>,
        progress: Arc<FileProgress>,
        stop: Stop,
    ) -> Result<bool, String> {
        let handle = tokio::runtime::Handle::current();
        let span = tracing::Span::current();
        let reading = tokio::task::spawn_blocking(move || {
            span.in_scope(|| self.read(&intake, &progress, &stop, &handle))
        });
        joined(reading.await)
    }
}
