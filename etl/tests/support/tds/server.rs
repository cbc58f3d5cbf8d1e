//! The server: started on a free port, stopped, started again with the same tables, and told
//! by tests what to do wrong.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::ServerConfig;
use tempfile::TempDir;

use super::login::Login7;
use super::sqltype::SqlType;
use super::store::{ClockOffset, Store};
use super::value::Value;
use super::{catalog, session, sql};

pub const USER: &str = "etl_reader";
pub const PASSWORD: &str = "Tds;Pa{ss}w0rd=1";
pub const DATABASE: &str = "shop";

/// Whether the server encrypts, and with what.
pub type Tls = Option<Arc<ServerConfig>>;

/// An error as SQL Server sends it.
#[derive(Clone, Debug)]
pub struct ServerError {
    pub number: u32,
    pub severity: u8,
    pub message: String,
}

impl ServerError {
    pub fn new(number: u32, severity: u8, message: impl Into<String>) -> ServerError {
        ServerError { number, severity, message: message.into() }
    }

    /// The transaction that lost.
    pub fn deadlock() -> ServerError {
        let message = "Transaction (Process ID 52) was deadlocked on lock resources with another \
                       process and has been chosen as the deadlock victim. Rerun the transaction.";
        ServerError::new(1205, 13, message)
    }
}

/// A login that was asked for.
#[derive(Clone, Debug)]
pub struct Login {
    pub user: String,
    pub database: String,
    pub application: String,
    /// `ApplicationIntent=ReadOnly`.
    pub read_only: bool,
    pub encrypted: bool,
    pub refused: bool,
}

/// A statement that gave rows.
#[derive(Clone, Debug)]
pub struct Query {
    pub sql: String,
    pub rows: u64,
}

/// What a test sets and looks at.
#[derive(Default)]
pub struct State {
    pub tls: Tls,
    pub delay: Duration,
    pub logins: Vec<Login>,
    pub queries: Vec<Query>,
    /// Errors for the next statements that contain the text.
    errors: Vec<(String, ServerError)>,
    /// After so many rows from now the connection is cut.
    cut_after_rows: Option<u64>,
    connections: Vec<TcpStream>,
}

/// What the sessions share.
pub struct Shared {
    pub path: PathBuf,
    pub clock: ClockOffset,
    state: Mutex<State>,
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn refuses(&self, asked: &Login7) -> Option<ServerError> {
        if asked.user != USER || asked.password != PASSWORD {
            let message = format!("Login failed for user '{}'.", asked.user);
            return Some(ServerError::new(18_456, 14, message));
        }
        if asked.database != DATABASE {
            let name = &asked.database;
            let message = format!("Cannot open database \"{name}\" requested by the login.");
            return Some(ServerError::new(4060, 11, message));
        }
        None
    }

    pub fn planned_error(&self, text: &str) -> Option<ServerError> {
        let errors = &mut self.lock().errors;
        let place = errors.iter().position(|(part, _)| text.contains(part.as_str()))?;
        Some(errors.remove(place).1)
    }

    pub fn log(&self, text: &str) -> usize {
        let queries = &mut self.lock().queries;
        queries.push(Query { sql: text.to_owned(), rows: 0 });
        queries.len() - 1
    }

    pub fn count_row(&self, query: usize) {
        if let Some(query) = self.lock().queries.get_mut(query) {
            query.rows += 1;
        }
    }

    /// Whether the connection is to be cut after this row.
    pub fn cuts(&self) -> bool {
        let mut state = self.lock();
        match state.cut_after_rows.as_mut() {
            Some(0 | 1) => {
                state.cut_after_rows = None;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }
}

/// A running server, stopped when it is dropped.
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    running: Option<Running>,
    _dir: TempDir,
}

struct Running {
    stopped: Arc<AtomicBool>,
    acceptor: JoinHandle<()>,
}

impl Server {
    /// Starts a server without tables, on a free port.
    pub fn start() -> Server {
        let dir = tempfile::Builder::new().prefix("etl-tds-").tempdir().unwrap();
        let path = dir.path().join("shop.db");
        let clock: ClockOffset = Arc::new(AtomicI64::new(0));
        catalog::prepare(&Store::open(&path, &clock)).unwrap();
        let shared = Arc::new(Shared { path, clock, state: Mutex::default() });
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Server { shared, address, running: None, _dir: dir };
        server.go();
        server
    }

    /// Starts it again, or for the first time, at its address.
    pub fn go(&mut self) {
        let listener = TcpListener::bind(self.address).unwrap();
        self.address = listener.local_addr().unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let (shared, stop) = (self.shared.clone(), stopped.clone());
        let acceptor = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let Ok(copy) = stream.try_clone() else { continue };
                shared.lock().connections.push(copy);
                let shared = shared.clone();
                // A session that ends in an error has lost its client, as tests want it.
                std::thread::spawn(move || session::serve(stream, &shared));
            }
        });
        self.running = Some(Running { stopped, acceptor });
    }

    /// Stops it: connections are cut, new ones are refused.
    pub fn stop(&mut self) {
        let Some(running) = self.running.take() else { return };
        running.stopped.store(true, Ordering::SeqCst);
        // Wakes the acceptor.
        drop(TcpStream::connect(self.address));
        running.acceptor.join().unwrap();
        for connection in self.shared.lock().connections.drain(..) {
            // It may have gone by itself.
            drop(connection.shutdown(Shutdown::Both));
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What tests set and look at.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    /// The next statement that contains `part` fails so.
    pub fn fail(&self, part: &str, error: ServerError) {
        self.state().errors.push((part.to_owned(), error));
    }

    /// The connection is cut after so many more rows.
    pub fn cut_after(&self, rows: u64) {
        self.state().cut_after_rows = Some(rows);
    }

    /// How far the database's clock is ahead, in seconds.
    pub fn set_clock(&self, seconds: i64) {
        self.shared.clock.store(seconds * super::value::SECOND, Ordering::Relaxed);
    }

    /// Rows sent so far in answer to statements that contain `part`.
    pub fn rows_sent(&self, part: &str) -> u64 {
        let state = self.state();
        state.queries.iter().filter(|query| query.sql.contains(part)).map(|query| query.rows).sum()
    }

    fn store(&self) -> Store {
        Store::open(&self.shared.path, &self.shared.clock)
    }

    /// Runs `CREATE TABLE`, `CREATE INDEX`, `UPDATE`, `DELETE` or `INSERT` in T-SQL, past the network.
    #[track_caller]
    pub fn run(&self, statement: &str) -> usize {
        let tokens = sql::tokens(statement).unwrap();
        let store = self.store();
        if tokens[0].is("CREATE") && tokens[1].is("TABLE") {
            store.create_table(&tokens).unwrap();
            return 0;
        }
        if tokens[0].is("CREATE") {
            catalog::create_index(&store, &tokens).unwrap();
            return 0;
        }
        let translated = store.translate(&tokens, &[]).unwrap();
        store.connection.execute(&translated.sql, []).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Adds rows given as text.
    pub fn insert(&self, table: &str, rows: impl IntoIterator<Item = Vec<Option<String>>>) {
        self.store().insert(table, rows);
    }

    /// Adds rows, in the place of those that have their keys.
    pub fn replace(&self, table: &str, rows: impl IntoIterator<Item = Vec<Option<String>>>) {
        self.store().put(table, rows, "INSERT OR REPLACE");
    }

    /// Puts text that need not be Unicode, in UTF-16, into the rows of a table.
    #[track_caller]
    pub fn set_units(&self, table: &str, column: &str, condition: &str, units: &[u16]) {
        let sql = format!("UPDATE \"{table}\" SET \"{column}\" = ? WHERE {condition}");
        let changed = self.store().connection.execute(&sql, [Value::Units(units.to_vec())]);
        assert!(changed.unwrap() > 0, "no row has {condition}");
    }

    /// The rows of a statement over SQLite's own columns, as canonical text by the types given
    /// when the table was made; it goes past the protocol, so that tests may compare with it.
    pub fn table(&self, table: &str, order: &str) -> Vec<Vec<Option<String>>> {
        let store = self.store();
        let types: Vec<SqlType> = store.columns(table).into_iter().map(|(_, ty, _)| ty).collect();
        let sql = format!("SELECT * FROM \"{table}\" ORDER BY {order}");
        let mut statement = store.connection.prepare(&sql).unwrap();
        let mut rows = statement.query([]).unwrap();
        let mut all = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            let value = |(place, ty): (usize, &SqlType)| {
                Value::from_stored(row.get_ref(place).unwrap()).canonical(ty)
            };
            all.push(types.iter().enumerate().map(value).collect());
        }
        all
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
