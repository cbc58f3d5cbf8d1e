//! Records refused before any sink saw them are written down with their reason,
//! by a thread of their own: a bad row must not wait for a disk.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use tracing::error;

use crate::spool::{DeadLetter, Spool, SpoolOptions};
use crate::stop::{Stop, Urgency};

/// Rejects that may wait for the disk before extraction waits.
const WAITING_MAX: usize = 4096;
/// Rejects written into one file.
const FILE_RECORDS_MAX: usize = 1000;
/// How long the first reject of a file waits for company.
const LINGER: Duration = Duration::from_millis(200);
/// The wait before a failed write is tried again.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// One refused record.
#[derive(Debug, Clone)]
pub struct Reject {
    /// Where it came from: `rows.csv:4711`, an appliance's name.
    pub place: String,
    /// What is wrong with it.
    pub reason: String,
    /// The record as JSON.
    pub record: Vec<u8>,
}

/// What the thread is asked to do.
#[derive(Debug)]
enum Job {
    Write(Reject),
    /// Answers whether every reject before it is written down.
    Flush(Sender<bool>),
    End,
}

/// The thread that writes rejects down.
#[derive(Debug)]
pub struct Rejects {
    sender: Sender<Job>,
    alive: Weak<()>,
    thread: JoinHandle<u64>,
}

/// Hands rejects to the thread.
#[derive(Debug, Clone)]
pub struct RejectSender(Sender<Job>);

/// Asks whether rejects are written down.
#[derive(Debug, Clone)]
pub struct Flusher {
    sender: Sender<Job>,
    /// Gone when the thread has ended.
    alive: Weak<()>,
}

impl Rejects {
    /// Starts the thread; `directory` is created with the first reject.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(directory: PathBuf, options: SpoolOptions, stop: Stop) -> io::Result<Rejects> {
        let (sender, receiver) = bounded(WAITING_MAX);
        let living = Arc::new(());
        let alive = Arc::downgrade(&living);
        let thread = std::thread::Builder::new().name("rejects".to_owned()).spawn(move || {
            let _living = living;
            write_all(&receiver, &directory, options, &stop)
        })?;
        Ok(Rejects { sender, alive, thread })
    }

    /// For handing rejects to the thread.
    #[must_use]
    pub fn sender(&self) -> RejectSender {
        RejectSender(self.sender.clone())
    }

    /// For asking from elsewhere whether rejects are written down.
    #[must_use]
    pub fn flusher(&self) -> Flusher {
        Flusher { sender: self.sender.clone(), alive: self.alive.clone() }
    }

    /// Waits until everything is written; gives the number of rejects that could
    /// not be written before the run had to end.
    #[must_use]
    pub fn finish(self) -> u64 {
        // Fails only when the thread is gone, which joining tells.
        self.sender.send(Job::End).ok();
        self.thread.join().unwrap_or(u64::MAX)
    }
}

impl RejectSender {
    /// Hands a reject to the thread; waits while too many wait for the disk.
    pub async fn write(&self, reject: Reject) {
        let mut job = Job::Write(reject);
        while let Err(TrySendError::Full(back)) = self.0.try_send(job) {
            job = back;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Flusher {
    /// Waits until every reject handed over so far is durable; `false` when one of
    /// the run could not be written, or when the thread has ended.
    #[must_use]
    pub fn flush(&self) -> bool {
        let (reply, answer) = bounded(1);
        if self.sender.send(Job::Flush(reply)).is_err() {
            return false;
        }
        loop {
            match answer.recv_timeout(LINGER) {
                Ok(written) => return written,
                Err(RecvTimeoutError::Disconnected) => return false,
                // A question that came behind the end stays in the channel, unanswered,
                // for as long as this sender keeps the channel alive.
                Err(RecvTimeoutError::Timeout) if self.alive.strong_count() == 0 => {
                    return answer.try_recv().unwrap_or(false);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// Letters for one file, and who waits for them.
#[derive(Debug, Default)]
struct Collected {
    letters: Vec<DeadLetter>,
    waiting: Vec<Sender<bool>>,
    end: bool,
}

impl Collected {
    fn add(&mut self, job: Job) {
        match job {
            Job::Write(reject) => self.letters.push(letter(reject)),
            Job::Flush(reply) => self.waiting.push(reply),
            Job::End => self.end = true,
        }
    }

    fn takes_more(&self) -> bool {
        self.letters.len() < FILE_RECORDS_MAX && self.waiting.is_empty() && !self.end
    }
}

fn write_all(
    receiver: &Receiver<Job>,
    directory: &std::path::Path,
    options: SpoolOptions,
    stop: &Stop,
) -> u64 {
    let (mut lost, mut spool) = (0, None);
    while let Ok(first) = receiver.recv() {
        let mut collected = Collected::default();
        collected.add(first);
        while collected.takes_more() {
            match receiver.recv_timeout(LINGER) {
                Ok(job) => collected.add(job),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        let letters = &collected.letters;
        while !letters.is_empty()
            && let Err(reason) = write_file(&mut spool, directory, options, letters)
        {
            error!(directory = %directory.display(), reason, "could not write rejects down");
            if stop.urgency() == Urgency::Now {
                lost += letters.len() as u64;
                break;
            }
            std::thread::sleep(DISK_PAUSE);
        }
        for reply in collected.waiting {
            // Whoever asked may have gone away.
            reply.send(lost == 0).ok();
        }
        if collected.end {
            break;
        }
    }
    lost
}

fn write_file(
    spool: &mut Option<Spool>,
    directory: &std::path::Path,
    options: SpoolOptions,
    letters: &[DeadLetter],
) -> Result<(), String> {
    let open = match spool {
        Some(open) => open,
        None => spool.insert(Spool::open(directory, options).map_err(|error| error.to_string())?),
    };
    open.dead_letter(letters).map(drop).map_err(|error| error.to_string())
}

fn letter(reject: Reject) -> DeadLetter {
    DeadLetter {
        record: Bytes::from(reject.record),
        reason: format!("{}: {}", reject.place, reject.reason),
        status: None,
        response: String::new(),
        batch_key: String::new(),
        time: crate::load::unix_seconds(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use super::{Job, Rejects};
    use crate::spool::SpoolOptions;
    use crate::stop::stop_signal;

    /// It waited for ever when the question came just behind the end: a run that had
    /// delivered everything did not end.
    #[test]
    fn a_flush_that_meets_the_end_of_the_thread_is_answered() {
        let options = SpoolOptions { max_bytes: 0, min_free: 0 };
        for _ in 0..20 {
            let (_handle, stop) = stop_signal();
            let rejects = Rejects::start("unused".into(), options, stop).unwrap();
            let flusher = rejects.flusher();
            rejects.sender.send(Job::End).unwrap();
            // Whether it was still in time does not matter, only that it comes back.
            let _in_time: bool = flusher.flush();
            assert_eq!(rejects.finish(), 0);
        }
    }
}
