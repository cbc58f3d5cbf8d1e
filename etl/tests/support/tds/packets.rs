//! Packets: a message is cut into packets with a header of eight bytes; the last one says so.

use std::io::{self, Read, Write};

/// The kinds of messages, as the header's first byte names them.
pub const BATCH: u8 = 0x01;
pub const RPC: u8 = 0x03;
pub const ANSWER: u8 = 0x04;
pub const ATTENTION: u8 = 0x06;
pub const LOGIN: u8 = 0x10;
pub const PRELOGIN: u8 = 0x12;

const HEADER: usize = 8;
/// No message of a test is as long.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Reads one whole message; `None` when the client has gone.
pub fn read_message(stream: &mut impl Read) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut message = Vec::new();
    loop {
        let mut header = [0; HEADER];
        match stream.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if message.is_empty() && error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let body = length.checked_sub(HEADER).ok_or(io::ErrorKind::InvalidData)?;
        let start = message.len();
        if start + body > MESSAGE_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        message.resize(start + body, 0);
        stream.read_exact(&mut message[start..])?;
        if header[1] & 1 == 1 {
            return Ok(Some((header[0], message)));
        }
    }
}

/// An answer on its way out: whole packets are sent as they fill up.
pub struct Answer<'a, S: Write> {
    stream: &'a mut S,
    kind: u8,
    packet_bytes: usize,
    buffer: Vec<u8>,
    id: u8,
}

impl<'a, S: Write> Answer<'a, S> {
    pub fn new(stream: &'a mut S, kind: u8, packet_bytes: usize) -> Self {
        Answer { stream, kind, packet_bytes, buffer: Vec::new(), id: 1 }
    }

    /// Where tokens are written.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Sends what fills whole packets; the last one stays for `finish`.
    pub fn flow(&mut self) -> io::Result<()> {
        let room = self.packet_bytes - HEADER;
        let mut sent = 0;
        while self.buffer.len() - sent > room {
            let end = sent + room;
            self.packet(sent, end, false)?;
            sent = end;
        }
        self.buffer.drain(..sent);
        Ok(())
    }

    /// Sends everything there is, but does not end the message.
    pub fn cut(mut self) -> io::Result<()> {
        self.flow()?;
        self.packet(0, self.buffer.len(), false)?;
        self.stream.flush()
    }

    /// Sends the rest and ends the message.
    pub fn finish(mut self) -> io::Result<()> {
        self.flow()?;
        self.packet(0, self.buffer.len(), true)?;
        self.stream.flush()
    }

    fn packet(&mut self, start: usize, end: usize, last: bool) -> io::Result<()> {
        let length = u16::try_from(end - start + HEADER).expect("packets are short").to_be_bytes();
        let header = [self.kind, u8::from(last), length[0], length[1], 0, 0, self.id, 0];
        self.id = self.id.wrapping_add(1);
        self.stream.write_all(&header)?;
        self.stream.write_all(&self.buffer[start..end])
    }
}
