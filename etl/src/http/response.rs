//! An HTTP/1.1 answer, read from pieces as they come: head, then the body under a cap,
//! by its length, in chunks, or to the end of the connection. Pure; whatever the bytes,
//! it keeps no more of them than head and cap allow.

use hyper::StatusCode;

use super::HEAD_BYTES_MAX;
use super::whole::{WholeBody, spare};

/// More headers than that is no decent answer.
const HEADERS_MAX: usize = 100;
/// A chunk's size line is shorter.
const CHUNK_LINE_MAX: usize = 1024;

/// The head of an answer, as far as anybody looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) location: Option<Vec<u8>>,
    /// Whether the server leaves the connection open.
    keeps: bool,
    framing: Framing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// Why it cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Not HTTP.
    NotHttp,
    /// The body is more than the cap.
    TooLarge,
}

/// Reads one answer.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// What has come and was not taken apart yet.
    raw: Vec<u8>,
    head: Option<Head>,
    body: Vec<u8>,
    /// Bytes that are left of the chunk at hand.
    chunk_left: u64,
    in_chunk: bool,
    after_last_chunk: bool,
    complete: bool,
    /// Bytes of heads so far: of interim answers too.
    head_bytes: usize,
}

impl Reader {
    /// Takes a piece. Says whether the answer is complete.
    pub(super) fn push(&mut self, piece: &[u8], cap: usize) -> Result<bool, Trouble> {
        if self.raw.capacity() == 0 {
            self.raw = spare();
        }
        self.raw.extend_from_slice(piece);
        while self.head.is_none() {
            if !self.parse_head(cap)? {
                return Ok(false);
            }
        }
        self.parse_body(cap)?;
        Ok(self.complete)
    }

    /// The connection has ended; whether the answer is complete by that.
    pub(super) fn ended(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.framing == Framing::UntilClose)
    }

    /// The head, once it is there.
    pub(super) fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Whether anything has come.
    pub(super) fn begun(&self) -> bool {
        self.head.is_some() || self.head_bytes > 0 || !self.raw.is_empty()
    }

    /// Whether another request may go over the connection.
    pub(super) fn reusable(&self) -> bool {
        self.complete && self.raw.is_empty() && self.head.as_ref().is_some_and(|head| head.keeps)
    }

    /// The body.
    pub(super) fn into_body(self) -> WholeBody {
        self.body.into()
    }

    /// Whether a head was there; of an interim answer, the next one follows.
    fn parse_head(&mut self, cap: usize) -> Result<bool, Trouble> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(&self.raw).map_err(|_| Trouble::NotHttp)?;
        let httparse::Status::Complete(length) = parsed else {
            let waiting = self.head_bytes + self.raw.len();
            return if waiting > HEAD_BYTES_MAX { Err(Trouble::NotHttp) } else { Ok(false) };
        };
        let head = head(&response)?;
        self.head_bytes += length;
        self.raw.drain(..length);
        if head.status.is_informational() {
            return if self.head_bytes > HEAD_BYTES_MAX {
                Err(Trouble::NotHttp)
            } else {
                Ok(!self.raw.is_empty())
            };
        }
        if matches!(head.framing, Framing::Length(length) if length > cap as u64) {
            return Err(Trouble::TooLarge);
        }
        self.head = Some(head);
        Ok(true)
    }

    fn parse_body(&mut self, cap: usize) -> Result<(), Trouble> {
        match self.head.as_ref().map(|head| head.framing) {
            None => {}
            Some(Framing::UntilClose) => self.take(usize::MAX, cap)?,
            Some(Framing::Length(length)) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                self.take(length - self.body.len(), cap)?;
                self.complete = self.body.len() == length;
            }
            Some(Framing::Chunked) => while !self.complete && self.parse_chunk(cap)? {},
        }
        Ok(())
    }

    /// Moves at most `most` bytes into the body.
    fn take(&mut self, most: usize, cap: usize) -> Result<(), Trouble> {
        let count = most.min(self.raw.len());
        if self.body.len() + count > cap {
            return Err(Trouble::TooLarge);
        }
        if self.body.is_empty() && count == self.raw.len() {
            std::mem::swap(&mut self.body, &mut self.raw);
        } else {
            self.body.extend(self.raw.drain(..count));
        }
        Ok(())
    }

    /// Goes on within a chunked body; says whether there is more to be done with what has
    /// come.
    fn parse_chunk(&mut self, cap: usize) -> Result<bool, Trouble> {
        if self.chunk_left > 0 {
            let before = self.raw.len();
            let most = usize::try_from(self.chunk_left).unwrap_or(usize::MAX).min(before);
            if self.body.len() + most > cap {
                return Err(Trouble::TooLarge);
            }
            self.body.extend(self.raw.drain(..most));
            self.chunk_left -= most as u64;
            return Ok(self.chunk_left == 0);
        }
        if self.in_chunk || self.after_last_chunk {
            return self.parse_line_end();
        }
        match httparse::parse_chunk_size(&self.raw) {
            Err(_) => Err(Trouble::NotHttp),
            Ok(httparse::Status::Partial) if self.raw.len() > CHUNK_LINE_MAX => {
                Err(Trouble::NotHttp)
            }
            Ok(httparse::Status::Partial) => Ok(false),
            Ok(httparse::Status::Complete((length, size))) => {
                self.raw.drain(..length);
                (self.chunk_left, self.in_chunk) = (size, size > 0);
                self.after_last_chunk = size == 0;
                Ok(true)
            }
        }
    }

    /// The line end behind a chunk, or the lines behind the last one.
    fn parse_line_end(&mut self) -> Result<bool, Trouble> {
        let Some(end) = memchr::memchr(b'\n', &self.raw) else {
            return if self.raw.len() > CHUNK_LINE_MAX { Err(Trouble::NotHttp) } else { Ok(false) };
        };
        let empty = matches!(&self.raw[..end], b"" | b"\r");
        self.raw.drain(..=end);
        if self.in_chunk {
            self.in_chunk = false;
            return if empty { Ok(true) } else { Err(Trouble::NotHttp) };
        }
        self.head_bytes += end;
        if self.head_bytes > HEAD_BYTES_MAX {
            return Err(Trouble::NotHttp);
        }
        self.complete = empty;
        Ok(!empty)
    }
}

fn head(response: &httparse::Response<'_, '_>) -> Result<Head, Trouble> {
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Trouble::NotHttp)?;
    let (mut length, mut chunked, mut coded) = (None, false, false);
    let mut keeps = response.version == Some(1);
    let mut location = None;
    for header in response.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let text = std::str::from_utf8(header.value).map_err(|_| Trouble::NotHttp)?.trim();
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let value = text.parse::<u64>().ok().filter(|_| digits).ok_or(Trouble::NotHttp)?;
            if length.replace(value).is_some_and(|before| before != value) {
                return Err(Trouble::NotHttp);
            }
        } else if is("transfer-encoding") {
            coded = true;
            let last = header.value.rsplit(|byte| *byte == b',').next().unwrap_or_default();
            chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
        } else if is("connection") {
            let mut words = header.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            keeps &= !words.any(|word| word.eq_ignore_ascii_case(b"close"));
        } else if is("location") {
            location = Some(header.value.to_vec());
        }
    }
    let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let framing = match length {
        _ if bodiless => Framing::Length(0),
        _ if chunked => Framing::Chunked,
        Some(length) if !coded => Framing::Length(length),
        _ => Framing::UntilClose,
    };
    Ok(Head { status, location, keeps, framing })
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use proptest::prelude::*;

    use super::{Reader, Trouble};

    const CAP: usize = 100;

    /// What comes of `bytes` in pieces of `size`: status, body, whether the connection
    /// can be used again.
    fn read(bytes: &[u8], size: usize) -> Result<Option<(u16, Vec<u8>, bool)>, Trouble> {
        let mut reader = Reader::default();
        let mut complete = false;
        for piece in bytes.chunks(size.max(1)) {
            complete = reader.push(piece, CAP)?;
        }
        complete |= reader.ended();
        let status = reader.head().map(|head| head.status.as_u16());
        let reusable = reader.reusable();
        Ok(status
            .filter(|_| complete)
            .map(|status| (status, reader.into_body().to_vec(), reusable)))
    }

    #[track_caller]
    fn all_sizes(text: &str) -> Result<Option<(u16, Vec<u8>, bool)>, Trouble> {
        let whole = read(text.as_bytes(), text.len());
        for size in 1..20 {
            assert_eq!(read(text.as_bytes(), size), whole, "{size}");
        }
        whole
    }

    #[test]
    fn bodies_end_by_length_by_chunks_and_by_the_connection() {
        let ok = |body: &str, kept| Ok(Some((200, body.as_bytes().to_vec(), kept)));
        for (head, body, expected, kept) in [
            ("content-length: 5\r\n", "hello", "hello", true),
            ("Content-Length:0\r\n", "", "", true),
            ("content-length: 5\r\nconnection: Close\r\n", "hello", "hello", false),
            ("content-length: 5\r\nContent-Length: 5\r\n", "hello", "hello", true),
            (
                "transfer-encoding: chunked\r\n",
                "3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
                "hello",
                true,
            ),
            ("transfer-encoding: chunked\r\n", "0\r\na: b\r\n\r\n", "", true),
            ("transfer-encoding: gzip, chunked\r\n", "1\r\nx\r\n0\r\n\r\n", "x", true),
            ("", "hello", "hello", false),
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}");
            assert_eq!(all_sizes(&text), ok(expected, kept), "{head}");
        }
        assert_eq!(all_sizes("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\nx"), ok("x", false));
        assert_eq!(all_sizes("HTTP/1.1 204 No Content\r\n\r\n"), Ok(Some((204, vec![], true))));
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\na: b\r\n\r\n";
        let after = format!("{interim}HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx");
        assert_eq!(all_sizes(&after), ok("x", true));
    }

    #[test]
    fn what_is_cut_short_is_not_complete() {
        for text in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        ] {
            assert_eq!(all_sizes(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_or_too_much_is_refused() {
        let ok = "HTTP/1.1 200 OK\r\n";
        let long = "x".repeat(CAP + 1);
        for (text, trouble) in [
            ("<html>".to_owned(), Trouble::NotHttp),
            ("SSH-2.0-OpenSSH\r\n".to_owned(), Trouble::NotHttp),
            (format!("{ok}content-length: 5\r\ncontent-length: 6\r\n\r\n"), Trouble::NotHttp),
            (format!("{ok}content-length: +5\r\n\r\n"), Trouble::NotHttp),
            (format!("{ok}transfer-encoding: chunked\r\n\r\nzz\r\n"), Trouble::NotHttp),
            (format!("{ok}transfer-encoding: chunked\r\n\r\n1\r\nxx\r\n"), Trouble::NotHttp),
            (format!("{ok}content-length: 101\r\n\r\n"), Trouble::TooLarge),
            (format!("{ok}\r\n{long}"), Trouble::TooLarge),
            (format!("{ok}transfer-encoding: chunked\r\n\r\n65\r\n{long}"), Trouble::TooLarge),
        ] {
            assert_eq!(all_sizes(&text), Err(trouble), "{text}");
        }
        let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(4000);
        assert_eq!(read(interim.as_bytes(), 4096), Err(Trouble::NotHttp));
        let endless = format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(70_000));
        assert_eq!(read(endless.as_bytes(), 4096), Err(Trouble::NotHttp));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            noise in "[ -~\r\n]{0,40}", at in 0usize..120, size in 1u8..30,
        ) {
            let good = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx: y\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
            let mut data = vec![size];
            data.extend_from_slice(good.as_bytes());
            let at = 1 + at.min(good.len());
            data.splice(at..at, noise.bytes());
            super::fuzzing::answer(&data);
        }
    }
}
