//! Connects to a shard: prelogin, TLS, login, and where the server says that another one is to
//! be asked, there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tiberius::error::Error;
use tiberius::{AuthMethod, Config, EncryptionLevel};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Session;
use super::failure;
use super::prelogin::{self, Encrypts};
use super::tunnel::Tunnel;
use crate::config::{Server, SqlSource, SslMode};
use crate::source::sql::client::{Client, Connector, Doing};
use crate::source::sql::error::{SqlError, Trouble};

/// How often a server may send us to another one.
const ROUTES_MAX: usize = 3;

/// Connects to one shard in SQL Server.
#[derive(Debug)]
pub(in crate::source::sql) struct SqlServer {
    server: Server,
    tls: Arc<ClientConfig>,
    allow_plain_password: bool,
    connect_timeout: Duration,
    timeout: Duration,
    broken_text: Arc<AtomicBool>,
}

impl SqlServer {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// When the TLS settings cannot be used; the text says why.
    pub(in crate::source::sql) fn new(
        source: &SqlSource,
        server: &Server,
    ) -> Result<SqlServer, String> {
        // How SQL Server ends a handshake of TLS 1.3 inside packets is not written anywhere,
        // and before version 2022 it knows no 1.3.
        let versions = &[&rustls::version::TLS12];
        let tls = match server.sslmode {
            SslMode::Prefer | SslMode::Require | SslMode::Disable if source.tls.ca.is_none() => {
                crate::http::unverified_tls(versions)
            }
            SslMode::Disable => crate::http::unverified_tls(versions),
            _ => crate::http::client_tls(&source.tls, versions),
        }?;
        Ok(SqlServer {
            server: server.clone(),
            tls: Arc::new(tls),
            allow_plain_password: source.allow_plain_password,
            connect_timeout: source.connect_timeout.0,
            timeout: source.timeout.0,
            broken_text: Arc::default(),
        })
    }

    pub(super) async fn log_in(&self) -> Result<Session, SqlError> {
        let (mut host, mut port) = (self.server.host.clone(), self.server.port);
        for _ in 0..ROUTES_MAX {
            let tunnel = self.reach(&host, port).await?;
            match tiberius::Client::connect(self.login(), tunnel).await {
                Ok(client) => return self.begin(client).await,
                Err(Error::Routing { host: other, port: at }) => (host, port) = (other, at),
                Err(error) => return Err(failure::failed(error)),
            }
        }
        Err(SqlError::new(Trouble::Connection, "one server sends us to the next, on and on"))
    }

    /// What every session is told first: in a deadlock it is the one to lose, and it does not
    /// wait for a lock longer than for an answer.
    async fn begin(&self, client: tiberius::Client<Tunnel>) -> Result<Session, SqlError> {
        let mut session = Session {
            client,
            timeout: self.timeout,
            broken_text: self.broken_text.clone(),
            reads_broken_text: self.broken_text.load(Ordering::Relaxed),
        };
        let milliseconds = (self.timeout.as_millis() * 9 / 10).clamp(1, i32::MAX as u128);
        let greeting = format!("SET DEADLOCK_PRIORITY LOW; SET LOCK_TIMEOUT {milliseconds}");
        let told = session.client.simple_query(greeting).await.map_err(failure::failed)?;
        told.into_results().await.map_err(failure::failed)?;
        Ok(session)
    }

    fn login(&self) -> Config {
        let mut config = Config::new();
        config.host(&self.server.host);
        config.port(self.server.port);
        config.database(&self.server.database);
        config.application_name("etl");
        config.readonly(true);
        // What is below the crate encrypts.
        config.encryption(EncryptionLevel::NotSupported);
        // Our own deadline is around all of it.
        config.handshake_timeout(None);
        config.lossy_utf16_decoding(self.broken_text.load(Ordering::Relaxed));
        let password = self.server.password.as_ref().map_or("", |password| password.expose());
        config.authentication(AuthMethod::sql_server(&self.server.user, password));
        config
    }

    /// A connection to a server, encrypted as wished.
    async fn reach(&self, host: &str, port: u16) -> Result<Tunnel, SqlError> {
        let connection = |error| {
            let text = format!("no connection to {host}:{port}: {error}");
            SqlError::new(Trouble::Connection, text)
        };
        let mut stream = TcpStream::connect((host, port)).await.map_err(connection)?;
        stream.set_nodelay(true).map_err(connection)?;
        let mode = self.server.sslmode;
        let ours = match mode {
            SslMode::Disable => Encrypts::NotSupported,
            _ => Encrypts::On,
        };
        let asked = prelogin::exchange(&mut stream, ours).await;
        let (theirs, answer) = asked.map_err(connection)?;
        let encrypts = match (mode, theirs) {
            (SslMode::Disable, Encrypts::Required) => {
                let error = SqlError::new(Trouble::Refused, "the server insists on encryption");
                return Err(error.remedy("set sslmode to verify-full"));
            }
            (SslMode::Disable, _) => false,
            (SslMode::Prefer, Encrypts::NotSupported) => false,
            (_, Encrypts::NotSupported) => {
                let error = SqlError::new(Trouble::Refused, "the server does not encrypt");
                return Err(error.remedy("give it a certificate, or set sslmode"));
            }
            _ => true,
        };
        if !encrypts {
            self.may_be_seen()?;
            return Ok(Tunnel::plain(stream, answer));
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            SqlError::new(Trouble::Refused, format!("{host} is no name that a certificate has"))
        })?;
        let encrypted = Tunnel::encrypted(stream, answer, self.tls.clone(), name).await;
        encrypted.map_err(|error| untrusted(&error))
    }

    /// Whether the password may travel as it is.
    fn may_be_seen(&self) -> Result<(), SqlError> {
        if self.server.password.is_none() || self.server.is_local() || self.allow_plain_password {
            return Ok(());
        }
        let text = "the password would be sent without encryption";
        let remedy = "set sslmode to verify-full, or allow_plain_password: true";
        Err(SqlError::new(Trouble::Refused, text).remedy(remedy))
    }
}

/// A handshake that failed: for its certificate, or because the connection broke.
fn untrusted(error: &std::io::Error) -> SqlError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(inner) => {
            let text = format!("TLS failed: {inner}");
            let remedy = "set tls.ca to the file with the authority's certificate, and name the \
                          host as the certificate does";
            SqlError::new(Trouble::Refused, text).remedy(remedy)
        }
        None => SqlError::new(Trouble::Connection, format!("TLS failed: {error}")),
    }
}

impl Connector for SqlServer {
    fn connect(&self) -> Doing<'_, Box<dyn Client>> {
        Box::pin(async {
            let limit = self.connect_timeout;
            let session = timeout(limit, self.log_in()).await;
            let session = session.map_err(|_| SqlError::timed_out("connecting", limit))??;
            Ok(Box::new(session) as Box<dyn Client>)
        })
    }
}
