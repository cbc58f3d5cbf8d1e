//! Reads a file on a thread of its own, a little ahead of whoever takes it apart: a slow
//! disk or unpacking then holds up no task that has better to do.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use async_channel::{Receiver, Sender, bounded};

use super::input::Input;

/// Bytes read at once, and how many such chunks ahead.
const CHUNK: usize = if cfg!(test) { 67 } else { 128 << 10 };
const CHUNKS_AHEAD: usize = 2;

/// A file whose bytes come from a thread.
#[derive(Debug)]
pub(super) struct Ahead {
    chunks: Receiver<io::Result<Vec<u8>>>,
    /// Chunks that are over, to be filled again.
    empty: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    taken: usize,
    /// Why there is nothing behind `chunk`.
    error: Option<io::Error>,
    /// Bytes of the file that the thread has read.
    bytes_read: Arc<AtomicU64>,
    at_eof: bool,
}

impl Ahead {
    /// Starts reading on a blocking thread of the runtime, which is being run in.
    pub(super) fn start(mut input: Input) -> Ahead {
        let (full, chunks) = bounded(CHUNKS_AHEAD);
        let (empty, emptied) = bounded(CHUNKS_AHEAD + 1);
        let bytes_read = Arc::new(AtomicU64::new(input.bytes_read()));
        let shared = bytes_read.clone();
        // It ends with the file, or when nobody takes what it reads.
        drop(tokio::task::spawn_blocking(move || fill(&mut input, &full, &emptied, &shared)));
        let (chunk, taken, error, at_eof) = (Vec::new(), 0, None, false);
        Ahead { chunks, empty, chunk, taken, error, bytes_read, at_eof }
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Relaxed)
    }

    /// Waits until there is something to read without blocking, if only the end.
    pub(super) async fn ready(&mut self) {
        if self.taken == self.chunk.len() && self.error.is_none() && !self.at_eof {
            let next = self.chunks.recv().await.ok();
            self.turn_to(next);
        }
    }

    fn turn_to(&mut self, next: Option<io::Result<Vec<u8>>>) {
        self.taken = 0;
        match next {
            Some(Ok(next)) => {
                let over = std::mem::replace(&mut self.chunk, next);
                // Without room it is one chunk too many.
                self.empty.try_send(over).ok();
            }
            Some(Err(error)) => (self.chunk, self.error) = (Vec::new(), Some(error)),
            None => (self.chunk, self.at_eof) = (Vec::new(), true),
        }
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.chunk.len() && self.error.is_none() && !self.at_eof {
            let next = self.chunks.recv_blocking().ok();
            self.turn_to(next);
        }
        if let Some(error) = self.error.take() {
            self.at_eof = true;
            return Err(error);
        }
        let left = &self.chunk[self.taken..];
        let count = left.len().min(buffer.len());
        buffer[..count].copy_from_slice(&left[..count]);
        self.taken += count;
        Ok(count)
    }
}

/// Reads to the end of the file, or the first error.
fn fill(
    input: &mut Input,
    full: &Sender<io::Result<Vec<u8>>>,
    emptied: &Receiver<Vec<u8>>,
    bytes_read: &AtomicU64,
) {
    loop {
        let mut chunk = emptied.try_recv().unwrap_or_default();
        chunk.resize(CHUNK, 0);
        let read = match input.read(&mut chunk) {
            Ok(0) => return,
            Ok(count) => {
                chunk.truncate(count);
                Ok(chunk)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        bytes_read.store(input.bytes_read(), Relaxed);
        let failed = read.is_err();
        if full.send_blocking(read).is_err() || failed {
            return;
        }
    }
}
