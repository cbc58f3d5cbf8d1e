//! The bytes of a source file: regular files only, gzip recognized by its first
//! bytes, byte order marks removed, and a count of what was read for the progress.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::ahead::Ahead;
use super::error::SourceError;

const GZIP: &[u8] = &[0x1f, 0x8b];
/// Compressed bytes read at once.
const GZIP_CHUNK: usize = 64 << 10;

/// An open source file.
#[derive(Debug)]
pub(super) struct Input {
    stream: Stream,
    /// Size of the file when it was opened.
    pub(super) bytes_total: u64,
}

#[derive(Debug)]
enum Stream {
    Plain(Counted),
    Gzip(Box<MultiGzDecoder<BufReader<Counted>>>),
    Ahead(Ahead),
    /// Taken away, to be read ahead.
    Nothing,
}

/// A file that counts what is read from it, after the bytes read to recognize it.
#[derive(Debug)]
struct Counted {
    file: File,
    head: Head,
    bytes: u64,
}

/// The file's first bytes, to be read again.
#[derive(Debug)]
struct Head {
    bytes: [u8; 3],
    length: usize,
    taken: usize,
}

impl Input {
    pub(super) fn open(path: &Path) -> Result<Input, SourceError> {
        let metadata = std::fs::metadata(path).map_err(|error| SourceError::open(path, error))?;
        if let Some(what) = not_a_file(&metadata) {
            return Err(SourceError::NotAFile { path: path.to_owned(), what });
        }
        let mut file = File::open(path).map_err(|error| SourceError::open(path, error))?;
        let mut head = Head { bytes: [0; 3], length: 0, taken: 0 };
        while head.length < head.bytes.len() {
            match file.read(&mut head.bytes[head.length..]) {
                Ok(0) => break,
                Ok(count) => head.length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(SourceError::open(path, error)),
            }
        }
        let gzip = head.bytes[..head.length].starts_with(GZIP);
        let named_gzip = path.extension().is_some_and(|extension| extension == "gz");
        if named_gzip && !gzip && head.length > 0 {
            let problem = "is called .gz and is not gzip; rename it or compress it".to_owned();
            return Err(SourceError::Format { path: path.to_owned(), problem });
        }
        let counted = Counted { file, head, bytes: 0 };
        let stream = if gzip {
            let reader = BufReader::with_capacity(GZIP_CHUNK, counted);
            Stream::Gzip(Box::new(MultiGzDecoder::new(reader)))
        } else {
            Stream::Plain(counted)
        };
        Ok(Input { stream, bytes_total: metadata.len() })
    }

    /// Bytes of the file read so far; of a gzip file compressed ones.
    pub(super) fn bytes_read(&self) -> u64 {
        match &self.stream {
            Stream::Plain(counted) => counted.bytes,
            Stream::Gzip(decoder) => decoder.get_ref().get_ref().bytes,
            Stream::Ahead(ahead) => ahead.bytes_read(),
            Stream::Nothing => 0,
        }
    }

    /// Reads on by a thread, from where it is. To be called within a runtime.
    pub(super) fn read_ahead(&mut self) {
        if !matches!(self.stream, Stream::Ahead(_)) {
            let stream = std::mem::replace(&mut self.stream, Stream::Nothing);
            let input = Input { stream, bytes_total: self.bytes_total };
            self.stream = Stream::Ahead(Ahead::start(input));
        }
    }

    /// Waits until reading does not block, where it is read ahead.
    pub(super) async fn ready(&mut self) {
        if let Stream::Ahead(ahead) = &mut self.stream {
            ahead.ready().await;
        }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Plain(counted) => counted.read(buffer),
            Stream::Gzip(decoder) => decoder.read(buffer),
            Stream::Ahead(ahead) => ahead.read(buffer),
            Stream::Nothing => Ok(0),
        }
    }
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let head = &self.head.bytes[self.head.taken..self.head.length];
        let count = if head.is_empty() {
            self.file.read(buffer)?
        } else {
            let count = head.len().min(buffer.len());
            buffer[..count].copy_from_slice(&head[..count]);
            self.head.taken += count;
            count
        };
        self.bytes += count as u64;
        Ok(count)
    }
}

fn not_a_file(metadata: &std::fs::Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    match () {
        () if kind.is_file() => None,
        () if kind.is_dir() => Some("a directory"),
        () if kind.is_fifo() => Some("a named pipe"),
        () if kind.is_socket() => Some("a socket"),
        () => Some("a device"),
    }
}
