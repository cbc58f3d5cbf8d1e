//! Orders to a server, over a Unix socket in its data directory that only its own user can
//! open: `etl start`, `etl stop`, `etl monitor`. Everything that HTTP tells is told here too.

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{Method, StatusCode};
use rustix::fs::FlockOperation;
use serde_json::json;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::routes::{Answer, json};
use super::{ACCEPT_PAUSE, Admin, CONNECTIONS_MAX, Caller, connection};
use crate::http::printable;
use crate::load::unix_seconds;
use crate::schedule::OrderError;

/// What the paths of orders begin with.
pub(super) const PREFIX: &str = "/control";
/// The socket's name in the data directory.
const SOCKET: &str = "control.sock";
const LOCK: &str = "control.lock";

/// Where the server of a data directory takes orders.
#[must_use]
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(SOCKET)
}

/// A socket that listens; it is gone when this is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Held as long as the socket is ours.
    _lock: File,
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Nobody is left to listen; what stays is taken away by the next server.
        std::fs::remove_file(&self.path).ok();
    }
}

/// Why no orders can be taken.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// There is a server already.
    #[error("another etl serve takes the orders for {0}")]
    Taken(PathBuf),
    /// The system refused.
    #[error("{path}: {source}")]
    System {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Begins to listen in `data_dir`; what a server that was killed left there is replaced.
/// Must be called inside a tokio runtime.
///
/// # Errors
/// When another server has it, or the system refuses, as it does for a path of more than
/// 107 bytes.
pub fn bind(data_dir: &Path) -> Result<Socket, BindError> {
    let path = path(data_dir);
    let refused = |source| BindError::System { path: path.clone(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(refused)?;
    let mut options = File::options();
    let options = options.create(true).truncate(false).write(true).mode(0o600);
    let lock = options.open(data_dir.join(LOCK)).map_err(refused)?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(BindError::Taken(data_dir.to_owned())),
        Err(error) => return Err(refused(error.into())),
    }
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(refused(error)),
    }
    let listener = UnixListener::bind(&path).map_err(refused)?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).map_err(refused)?;
    Ok(Socket { listener, path: path.clone(), _lock: lock })
}

/// Takes orders until the task is aborted.
pub async fn serve(socket: Socket, admin: Arc<Admin>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        match socket.listener.accept().await {
            Ok((stream, _)) => {
                // Until a moment after the socket was made, others could have opened it.
                if !is_owner(&stream) {
                    tracing::warn!("somebody else's connection to the control socket is closed");
                    continue;
                }
                let Ok(place) = places.clone().try_acquire_owned() else {
                    tracing::warn!("too many connections to the control socket, one is closed");
                    continue;
                };
                let admin = admin.clone();
                tokio::spawn(async move {
                    let _place = place;
                    connection(admin, stream, Caller::Owner).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting on the control socket failed, trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether at the other end is the server's own user, or root.
fn is_owner(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

/// Answers a request below [`PREFIX`].
pub(super) async fn answer(admin: Arc<Admin>, method: Method, path: String) -> Answer {
    let order = path.strip_prefix(PREFIX).unwrap_or_default().trim_start_matches('/');
    let (verb, name) = order.split_once('/').unwrap_or((order, ""));
    let (verb, name) = (verb.to_owned(), name.to_owned());
    let refuse = |status, error: &str| json(status, &json!({ "error": error }));
    match (&method, verb.as_str()) {
        (&Method::GET, "") => json(StatusCode::OK, &about(&admin)),
        (&Method::POST, "start" | "stop") => {
            let obeyed = tokio::task::spawn_blocking(move || match verb.as_str() {
                "start" => admin.scheduler.start_pipeline(&name),
                _ => admin.scheduler.stop_pipeline(&name),
            });
            match obeyed.await {
                Ok(Ok(())) => json(StatusCode::OK, &json!({ "ok": true })),
                Ok(Err(error @ OrderError::Unknown)) => {
                    refuse(StatusCode::NOT_FOUND, &error.to_string())
                }
                Ok(Err(error)) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
                Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
            }
        }
        _ => {
            let shown = printable(path.as_bytes(), 200);
            refuse(StatusCode::NOT_FOUND, &format!("no order {method} {shown}"))
        }
    }
}

/// The server itself.
fn about(admin: &Admin) -> serde_json::Value {
    let paths = admin.scheduler.paths().iter().map(|path| path.display().to_string());
    json!({
        "pid": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
        "now": unix_seconds(),
        "stopping": admin.scheduler.stopping(),
        "paths": paths.collect::<Vec<_>>(),
    })
}
