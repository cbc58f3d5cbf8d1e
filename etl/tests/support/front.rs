//! A server in front of the mock API that answers what no decent library would:
//! web pages, endless bodies, header bombs. Healthy, it passes everything on.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file uses a part of this, and a failed step is a failed test"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What is done with one request.
pub enum Act {
    /// The API answers it.
    Forward,
    /// The API takes it, and this is answered.
    ForwardAndAnswer(Vec<u8>),
    /// This is answered; the API sees nothing.
    Answer(Vec<u8>),
    /// The first part, and then the second for ever.
    Endless(Vec<u8>, Vec<u8>),
    /// These bytes for ever, a thousand times a second.
    Drip(Vec<u8>),
}

/// Decides by the request's bytes.
pub type Script = fn(&[u8]) -> Act;

/// The server; its threads end with the test's process.
pub struct Front {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
}

impl Front {
    /// Stands in front of `api`.
    pub fn start(api: SocketAddr, script: Script) -> Front {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Mutex::new(script));
        let shared = script.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, script) = (stream.unwrap(), shared.clone());
                // A client that goes away ends its thread, and nothing else.
                std::thread::spawn(move || serve(&stream, api, &script).ok());
            }
        });
        Front { address, script }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn set(&self, script: Script) {
        *self.script.lock().unwrap() = script;
    }
}

/// Everything reaches the API.
pub fn healthy(_: &[u8]) -> Act {
    Act::Forward
}

/// An answer with a body and its length.
pub fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let bytes = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n", body.len());
    [bytes.as_bytes(), body].concat()
}

fn serve(stream: &TcpStream, api: SocketAddr, script: &Mutex<Script>) -> std::io::Result<()> {
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    while let Some(request) = read_message(&mut reader)? {
        let script = *script.lock().unwrap();
        match script(&request) {
            Act::Forward => writer.write_all(&forward(api, &request)?)?,
            Act::ForwardAndAnswer(bytes) => {
                forward(api, &request)?;
                writer.write_all(&bytes)?;
            }
            Act::Answer(bytes) => writer.write_all(&bytes)?,
            Act::Drip(bytes) => loop {
                writer.write_all(&bytes)?;
                std::thread::sleep(Duration::from_millis(1));
            },
            Act::Endless(first, then) => {
                writer.write_all(&first)?;
                loop {
                    writer.write_all(&then)?;
                }
            }
        }
    }
    Ok(())
}

fn forward(api: SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let stream = TcpStream::connect(api)?;
    (&stream).write_all(request)?;
    Ok(read_message(&mut BufReader::new(stream))?.unwrap_or_default())
}

/// One request or answer: its head and as much body as its length says.
fn read_message(reader: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut message = Vec::new();
    let mut length = 0;
    loop {
        let start = message.len();
        if reader.read_until(b'\n', &mut message)? == 0 {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&message[start..]).to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line == "\r\n" {
            break;
        }
    }
    reader.take(length).read_to_end(&mut message)?;
    Ok(Some(message))
}
