//! How far a lane has come, for the checkpoint.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, OnceLock};

use crate::checkpoint::{LaneState, Place, Places, Tracker};
use crate::source::sql::Key;

/// How far a lane has come; shared by its reader and the checkpoint.
#[derive(Debug)]
pub(in crate::pipeline) struct LaneProgress {
    /// `SHARD/TABLE`.
    pub(in crate::pipeline) name: String,
    /// The sinks that get its records, in the order of their places.
    pub(in crate::pipeline) sinks: Vec<String>,
    pub(in crate::pipeline) places: Places<Key>,
    /// The number of the next record; all rejects before it have been handed over.
    pub(in crate::pipeline) numbered: Arc<AtomicU64>,
    /// Per sink, its settled records; from when reading begins.
    trackers: OnceLock<Vec<Arc<Tracker>>>,
    /// The run before left nothing in flight that the trackers do not know.
    began_at_rest: bool,
    /// Nothing is in flight now but what the trackers know.
    at_rest: AtomicBool,
}

/// Watermarks of a lane at one moment.
#[derive(Debug)]
pub(in crate::pipeline) struct LaneMarks {
    numbered: u64,
    marks: Vec<u64>,
}

impl LaneProgress {
    pub(in crate::pipeline) fn new(name: String, sinks: Vec<String>, at_rest: bool) -> Self {
        LaneProgress {
            name,
            places: Places::new(sinks.len()),
            sinks,
            numbered: Arc::default(),
            trackers: OnceLock::new(),
            began_at_rest: at_rest,
            at_rest: AtomicBool::new(at_rest),
        }
    }

    /// Reading begins, into sinks with these trackers.
    pub(super) fn begins(&self, trackers: Vec<Arc<Tracker>>) {
        self.at_rest.store(false, Release);
        // A lane is begun once.
        self.trackers.set(trackers).ok();
    }

    /// Reading has ended and all batches were handed to their sinks. What an earlier
    /// process had in flight has been read again only where it came to its end.
    pub(super) fn ended(&self, place: &Place<Key>, to_its_end: bool) {
        self.places.note_all(place);
        self.at_rest.store(to_its_end || self.began_at_rest, Release);
    }

    /// How far it is; `None` before it begins. To be asked before it is looked whether
    /// rejects are written.
    pub(in crate::pipeline) fn marks(&self) -> Option<LaneMarks> {
        let numbered = self.numbered.load(Acquire);
        let marks = self.trackers.get()?.iter().map(|tracker| tracker.watermark()).collect();
        Some(LaneMarks { numbered, marks })
    }

    /// Writes `marks` into the lane's state; says whether nothing of it is in flight.
    pub(in crate::pipeline) fn note(
        &self,
        marks: Option<&LaneMarks>,
        lane: &mut LaneState,
    ) -> bool {
        let at_rest = self.at_rest.load(Acquire);
        let Some(LaneMarks { numbered, marks }) = marks else { return at_rest };
        for (at, (name, mark)) in self.sinks.iter().zip(marks).enumerate() {
            if let Some(place) = self.places.passed(at, *mark) {
                lane.sinks.insert(name.clone(), place);
            }
            if let Some(cuts) = lane.cuts.get_mut(name) {
                let settled = lane.sinks.get(name).map_or(0, |place| place.records);
                cuts.retain(|cut| *cut > settled);
            }
        }
        lane.cuts.retain(|_, cuts| !cuts.is_empty());
        lane.next_record = *numbered;
        at_rest && marks.iter().all(|mark| mark == numbered)
    }
}
