//! A fleet that is polled for good: every target once an interval, none waiting for
//! another, each at its own place in the interval.

pub mod grid;
pub mod groups;
pub mod memory;
pub mod roster;
pub mod scheduler;
pub mod slot;
