//! Asks the `etl serve` of a data directory, over its control socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use serde_json::Value as Json;
use tokio::net::UnixStream;

use crate::admin::control;
use crate::http::read_body;

/// The longest that one question may take; a server looks at all its spools for some.
const PATIENCE: Duration = Duration::from_secs(20);
/// The most that is read of an answer.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A server that answers.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there.
    #[error("no etl serve answers at {0}")]
    Nobody(PathBuf),
    /// Somebody does, and the answer did not come, or was none.
    #[error("the etl serve at {socket} did not answer: {why}")]
    Failed {
        /// Where it was asked.
        socket: PathBuf,
        /// What happened.
        why: String,
    },
}

impl Client {
    /// The server of `data_dir`, if there is one.
    #[must_use]
    pub fn new(data_dir: &Path) -> Client {
        Client { socket: control::path(data_dir) }
    }

    /// Asks, and gives status and body.
    ///
    /// # Errors
    /// When there is no server, or no answer of its kind.
    pub fn ask(&self, method: Method, path: &str) -> Result<(StatusCode, Json), AskError> {
        let (status, body) = self.fetch(method, path, PATIENCE)?;
        let json = serde_json::from_slice(&body);
        let failed = |why: String| AskError::Failed { socket: self.socket.clone(), why };
        Ok((status, json.map_err(|error| failed(error.to_string()))?))
    }

    /// Asks for what may be anything and may take `patience`; gives status and body.
    ///
    /// # Errors
    /// When there is no server, or no answer.
    pub fn fetch(
        &self,
        method: Method,
        path: &str,
        patience: Duration,
    ) -> Result<(StatusCode, Vec<u8>), AskError> {
        let failed = |why: String| AskError::Failed { socket: self.socket.clone(), why };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let asked = async { tokio::time::timeout(patience, self.converse(method, path)).await };
        match runtime.block_on(asked) {
            Ok(answer) => answer,
            Err(_) => Err(failed(format!("not within {} s", patience.as_secs()))),
        }
    }

    async fn converse(
        &self,
        method: Method,
        path: &str,
    ) -> Result<(StatusCode, Vec<u8>), AskError> {
        use io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound};
        let failed = |why: String| AskError::Failed { socket: self.socket.clone(), why };
        let stream = match UnixStream::connect(&self.socket).await {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), NotFound | ConnectionRefused | NotADirectory) => {
                return Err(AskError::Nobody(self.socket.clone()));
            }
            Err(error) => return Err(failed(error.to_string())),
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(error.to_string()))?;
        // It ends with the answer; what went wrong with it is told by that.
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, "etl")
            .body(Empty::<Bytes>::new())
            .map_err(|error| failed(error.to_string()))?;
        let answer = sender.send_request(request).await;
        let (head, body) = answer.map_err(|error| failed(error.to_string()))?.into_parts();
        let body = read_body(body, ANSWER_BYTES_MAX).await;
        let body = body.map_err(|error| failed(error.to_string()))?;
        driver.abort();
        Ok((head.status, body.to_vec()))
    }
}
