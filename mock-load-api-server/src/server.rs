//! The listener, and the handle by which a test holds a running server.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::task::{JoinHandle, JoinSet};

use crate::app::App;
use crate::config::{Config, SettingsError, StartError};
use crate::connection;
use crate::faults::Faults;
use crate::ledger::{BatchRow, RecordRow, Stats};

/// Thousands of clients may connect in one instant.
const BACKLOG: u32 = 4096;
/// How long to wait when the system has no file handle left for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// A running server. Dropping it stops it, cutting off open connections.
pub struct Server {
    app: Arc<App>,
    addr: SocketAddr,
    accepting: JoinHandle<()>,
}

/// Starts a server on the current tokio runtime; when this returns, it accepts connections.
///
/// # Errors
/// When the address is in use or can't be listened on, or the settings contradict
/// themselves.
pub async fn start(config: Config) -> Result<Server, StartError> {
    let wanted = config.listen;
    let app = Arc::new(App::new(config)?);
    let listener = listen(wanted).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => StartError::InUse { addr: wanted },
        _ => StartError::Listen { addr: wanted, source },
    })?;
    let addr =
        listener.local_addr().map_err(|source| StartError::Listen { addr: wanted, source })?;
    tracing::info!(%addr, "listening");
    let accepting = tokio::spawn(accept(Arc::clone(&app), listener));
    Ok(Server { app, addr, accepting })
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted server gets its port back although old connections linger there.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

async fn accept(app: Arc<App>, listener: TcpListener) {
    let http = Arc::new(connection::http());
    // Aborts what it holds when this task is aborted: no connection outlives the server.
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(&app).follow_outages());
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "connection without nodelay");
                    }
                    tasks.spawn(connection::serve(Arc::clone(&app), stream, Arc::clone(&http)));
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting failed, trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = tasks.join_next() => {}
        }
    }
}

impl Server {
    /// Where it listens; with the port chosen, if 0 was asked for.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://ADDR`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What has arrived so far.
    pub fn stats(&self) -> Stats {
        self.app.ledger.stats()
    }

    /// The settings in force.
    pub fn faults(&self) -> Faults {
        Faults::clone(&self.app.faults())
    }

    /// Puts other settings in force, for every request that begins from now on. Going down
    /// resets all open connections before this returns or shortly after.
    ///
    /// # Errors
    /// When the settings contradict themselves; the old ones stay then.
    pub fn set_faults(&self, faults: Faults) -> Result<(), SettingsError> {
        self.app.set_faults(faults)
    }

    /// Every distinct record stored, sorted by its bytes, with the number of places it
    /// occurs in. Empty unless [`Config::keep_records`] is set.
    pub fn records(&self) -> Vec<RecordRow> {
        self.app.ledger.record_rows()
    }

    /// Every batch stored, in order of arrival. Empty unless [`Config::keep_records`] is set.
    pub fn ledger_rows(&self) -> Vec<BatchRow> {
        self.app.ledger.rows()
    }

    /// Stops the server, cutting off open connections; its port is free when this returns.
    pub async fn shutdown(mut self) {
        self.accepting.abort();
        // Cancelled, as asked.
        drop((&mut self.accepting).await);
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
