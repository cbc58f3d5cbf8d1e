//! A log's writer that lets lines gather when they come in numbers. Woken for each of
//! 20,000 lines a second, the writing thread would cost more than what the lines tell of.

use std::io::{self, BufWriter, Write};
use std::time::{Duration, Instant};

/// So many lines within so long a time are many.
const MANY: u32 = 32;
const WINDOW: Duration = Duration::from_millis(50);
/// How long it then waits for more, with those before written.
const PAUSE: Duration = Duration::from_millis(20);
/// What is written at once.
const CAPACITY: usize = 32 << 10;

/// Writes to a log, for a thread that flushes whenever nothing is left to write.
#[derive(Debug)]
pub(super) struct Unhurried<W: Write> {
    writer: BufWriter<W>,
    lines: u32,
    since: Instant,
}

impl<W: Write> Unhurried<W> {
    pub(super) fn new(writer: W) -> Unhurried<W> {
        let writer = BufWriter::with_capacity(CAPACITY, writer);
        Unhurried { writer, lines: 0, since: Instant::now() }
    }

    /// How long to wait at `now`, when all that has come is written.
    fn pause(&mut self, now: Instant) -> Option<Duration> {
        let many = self.lines >= MANY;
        if many || now.saturating_duration_since(self.since) > WINDOW {
            (self.lines, self.since) = (0, now);
        }
        many.then_some(PAUSE)
    }
}

impl<W: Write> Write for Unhurried<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lines = self.lines.saturating_add(1);
        self.writer.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()?;
        if let Some(pause) = self.pause(Instant::now()) {
            std::thread::sleep(pause);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::{Duration, Instant};

    use super::{MANY, PAUSE, Unhurried, WINDOW};

    #[test]
    fn only_many_lines_in_a_short_time_are_waited_for_and_none_is_held_back() {
        let mut log = Unhurried::new(Vec::new());
        let began = log.since;
        let lines = |log: &mut Unhurried<Vec<u8>>, count: u32, after: Duration| {
            for _ in 0..count {
                log.write_all(b"line\n").unwrap_or_default();
            }
            log.pause(began + after)
        };
        assert_eq!(lines(&mut log, 1, Duration::ZERO), None);
        assert_eq!(lines(&mut log, MANY - 2, Duration::from_millis(1)), None);
        assert_eq!(lines(&mut log, 1, Duration::from_millis(2)), Some(PAUSE));
        assert_eq!(lines(&mut log, MANY - 1, Duration::from_millis(3)), None);
        // The window is over: they are counted anew.
        assert_eq!(lines(&mut log, 0, 2 * WINDOW), None);
        assert_eq!(lines(&mut log, MANY - 1, 2 * WINDOW), None);
        assert!(log.flush().is_ok());
        assert_eq!(log.writer.get_ref().len(), 5 * (3 * MANY as usize - 2));
    }

    #[test]
    fn a_few_lines_are_written_without_a_wait() {
        let began = Instant::now();
        let mut log = Unhurried::new(Vec::new());
        for _ in 0..MANY - 1 {
            assert!(log.write_all(b"line\n").and_then(|()| log.flush()).is_ok());
        }
        assert_eq!(log.writer.get_ref().len(), 5 * (MANY as usize - 1));
        // It would have slept once for each flush.
        assert!(began.elapsed() < PAUSE * (MANY - 1));
    }
}
