//! The first exchange with SQL Server, in which it says whether it encrypts.
//!
//! It is held here and not by the protocol's crate, because that one brings a second TLS
//! implementation. The crate's own prelogin is then answered by the tunnel.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A packet's header: kind, status, length in two bytes, and four that do not matter here.
pub(super) const HEADER_BYTES: usize = 8;
/// The kind of a packet with a prelogin, or with TLS's handshake.
pub(super) const PRELOGIN: u8 = 0x12;
/// The status of a message's last packet.
pub(super) const LAST: u8 = 1;
/// No answer to a prelogin, and no record of a handshake, is as long.
const MESSAGE_BYTES_MAX: usize = 128 * 1024;

/// Options of a prelogin: version, encryption, instance, thread, several results at once.
const VERSION: u8 = 0;
const ENCRYPTION: u8 = 1;
const INSTANCE: u8 = 2;
const THREAD: u8 = 3;
const MARS: u8 = 4;
const END: u8 = 0xff;

/// What a side says about encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encrypts {
    /// Only the login.
    Login,
    On,
    NotSupported,
    Required,
}

impl Encrypts {
    fn code(self) -> u8 {
        match self {
            Encrypts::Login => 0,
            Encrypts::On => 1,
            Encrypts::NotSupported => 2,
            Encrypts::Required => 3,
        }
    }

    fn read(code: u8) -> Option<Encrypts> {
        let all = [Encrypts::Login, Encrypts::On, Encrypts::NotSupported, Encrypts::Required];
        all.into_iter().find(|one| one.code() == code)
    }
}

/// Asks the server; gives what it says of encryption, and its answer for the protocol's crate,
/// which must not know of TLS: as a packet in which the server does not support it.
pub(super) async fn exchange<S>(stream: &mut S, ours: Encrypts) -> io::Result<(Encrypts, Vec<u8>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(&packet(&message(ours))).await?;
    stream.flush().await?;
    let mut answer = read_message(stream).await?;
    let at = option(&answer, ENCRYPTION).ok_or_else(|| wrong("no word about encryption"))?;
    let code = answer.get_mut(at).ok_or_else(|| wrong("an option outside the message"))?;
    let theirs = Encrypts::read(*code).ok_or_else(|| wrong("an unknown kind of encryption"))?;
    *code = Encrypts::NotSupported.code();
    Ok((theirs, packet(&answer)))
}

/// Where an option's data begins.
fn option(message: &[u8], wanted: u8) -> Option<usize> {
    message.chunks_exact(5).take_while(|option| option[0] != END).find_map(|option| {
        (option[0] == wanted).then(|| usize::from(u16::from_be_bytes([option[1], option[2]])))
    })
}

fn message(encrypts: Encrypts) -> Vec<u8> {
    let encryption = [encrypts.code()];
    let options: [(u8, &[u8]); 5] = [
        (VERSION, &[0, 1, 0, 0, 0, 0]),
        (ENCRYPTION, &encryption),
        (INSTANCE, &[0]),
        (THREAD, &[0, 0, 0, 0]),
        (MARS, &[0]),
    ];
    let mut offset = options.len() as u16 * 5 + 1;
    let mut message = Vec::with_capacity(64);
    for (token, data) in options {
        message.push(token);
        message.extend_from_slice(&offset.to_be_bytes());
        message.extend_from_slice(&(data.len() as u16).to_be_bytes());
        offset += data.len() as u16;
    }
    message.push(END);
    for (_, data) in options {
        message.extend_from_slice(data);
    }
    message
}

/// One packet; what is longer than a packet may be is cut into several.
pub(super) fn packets(kind: u8, content: &[u8]) -> Vec<u8> {
    const CONTENT_BYTES_MAX: usize = 4096 - HEADER_BYTES;
    let mut out = Vec::with_capacity(content.len() + HEADER_BYTES);
    let mut chunks = content.chunks(CONTENT_BYTES_MAX).peekable();
    while let Some(chunk) = chunks.next() {
        let status = if chunks.peek().is_none() { LAST } else { 0 };
        let length = ((chunk.len() + HEADER_BYTES) as u16).to_be_bytes();
        out.extend_from_slice(&[kind, status, length[0], length[1], 0, 0, 1, 0]);
        out.extend_from_slice(chunk);
    }
    out
}

fn packet(content: &[u8]) -> Vec<u8> {
    packets(PRELOGIN, content)
}

/// A whole message's content.
async fn read_message<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let mut header = [0; HEADER_BYTES];
        stream.read_exact(&mut header).await?;
        let length = content_bytes(&header)?;
        let start = content.len();
        if start + length > MESSAGE_BYTES_MAX {
            return Err(wrong("an endless message"));
        }
        content.resize(start + length, 0);
        stream.read_exact(&mut content[start..]).await?;
        if header[1] & LAST == LAST {
            return Ok(content);
        }
    }
}

/// How much follows a packet's header.
pub(super) fn content_bytes(header: &[u8; HEADER_BYTES]) -> io::Result<usize> {
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    length.checked_sub(HEADER_BYTES).ok_or_else(|| wrong("a packet without a length"))
}

fn wrong(what: &str) -> io::Error {
    let text = format!("what answers is no SQL Server: {what}");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::{ENCRYPTION, Encrypts, HEADER_BYTES, exchange, message, option, packet, packets};

    async fn answered(answer: &[u8]) -> std::io::Result<(Encrypts, Vec<u8>)> {
        let (mut ours, mut theirs) = tokio::io::duplex(64 * 1024);
        theirs.write_all(answer).await.unwrap();
        theirs.shutdown().await.unwrap();
        exchange(&mut ours, Encrypts::On).await
    }

    #[tokio::test]
    async fn what_the_server_says_of_encryption_is_read_and_hidden_from_the_crate() {
        let (theirs, answer) = answered(&packet(&message(Encrypts::Required))).await.unwrap();
        assert_eq!(theirs, Encrypts::Required);
        let content = &answer[HEADER_BYTES..];
        let at = option(content, ENCRYPTION).unwrap();
        assert_eq!(content[at], Encrypts::NotSupported.code());
    }

    #[tokio::test]
    async fn what_is_no_sql_server_is_an_error_and_no_panic() {
        let mut cut = message(Encrypts::On);
        cut.truncate(26);
        let shortened = packet(&cut);
        let answers: [&[u8]; 6] = [
            b"",
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            &[0x04, 1, 0, 7, 0, 0, 0, 0],
            &packet(&[]),
            &packet(&[0xff]),
            &shortened,
        ];
        for answer in answers {
            assert!(answered(answer).await.is_err(), "{answer:?}");
        }
    }

    #[test]
    fn a_long_message_is_cut_into_packets_of_which_the_last_says_so() {
        let all = packets(0x12, &[7; 5000]);
        assert_eq!(all.len(), 5000 + 2 * HEADER_BYTES);
        assert_eq!((all[1], all[4096 + 1]), (0, 1));
    }
}
