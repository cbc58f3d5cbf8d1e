//! Where a database sink's database is, out of its URL and its separate keys. No
//! message repeats the URL: it may hold a password.

use std::path::PathBuf;

use super::address::{Problem, is_loopback};
use super::pipeline::{DatabaseLoad, Secret, SslMode};

/// The file of a database sink that names none.
const DEFAULT_FILE: &str = "data.db";

/// Where a database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DatabasePlace {
    /// A server.
    Postgres(Box<Server>),
    /// A file; a relative one is under the pipeline's data directory.
    Sqlite(PathBuf),
}

/// A PostgreSQL server and who we are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// A name, an address, or the directory of a socket.
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Option<Secret>,
    pub database: String,
    pub sslmode: SslMode,
}

pub(super) fn problem(message: &str, label: &'static str) -> Problem {
    Problem { message: message.to_owned(), label }
}

impl Server {
    /// The server with its database, for messages: no user, no password.
    pub fn shown(&self) -> String {
        let Server { host, port, database, .. } = self;
        match host.contains(':') {
            true => format!("postgres://[{host}]:{port}/{database}"),
            false => format!("postgres://{host}:{port}/{database}"),
        }
    }

    /// Whether what is sent there stays on this machine.
    pub fn is_local(&self) -> bool {
        self.host.starts_with('/') || is_loopback(&self.host)
    }

    /// Whether a password could travel where others read it.
    pub fn is_exposed(&self) -> bool {
        !self.is_local() && matches!(self.sslmode, SslMode::Disable | SslMode::Prefer)
    }
}

/// What a URL said; what it leaves open comes from the keys.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) database: Option<String>,
    pub(super) sslmode: Option<SslMode>,
}

impl DatabasePlace {
    /// Where the database of a sink of `kind` is.
    pub fn of(kind: &str, load: &DatabaseLoad) -> Result<DatabasePlace, Problem> {
        let url =
            load.url.as_ref().map(Secret::expose).map(str::trim).filter(|url| !url.is_empty());
        let postgres =
            |url: &str| url.starts_with("postgres://") || url.starts_with("postgresql://");
        match url {
            Some(url) if postgres(url) && kind != "sqlite" => {
                let (_, rest) = url.split_once("://").unwrap_or_default();
                server(said(rest)?, load).map(|server| DatabasePlace::Postgres(Box::new(server)))
            }
            Some(url) if url.starts_with("sqlite:") && kind != "postgres" => {
                let path = url.trim_start_matches("sqlite:");
                file(path.strip_prefix("//").unwrap_or(path))
            }
            Some(_) => Err(match kind {
                "postgres" => problem("is not a PostgreSQL URL", "postgres://user@host:5432/name"),
                "sqlite" => problem("is not an SQLite URL", "sqlite:data.db"),
                _ => problem(
                    "is no database URL",
                    "postgres://user@host:5432/name or sqlite:data.db",
                ),
            }),
            None if kind == "postgres" || (kind == "database" && given(&load.host).is_some()) => {
                server(Said::default(), load)
                    .map(|server| DatabasePlace::Postgres(Box::new(server)))
            }
            None => file(&given(&load.database).unwrap_or_else(|| DEFAULT_FILE.to_owned())),
        }
    }
}

/// What a key says; an empty text, as an unset variable leaves it, says nothing.
pub(super) fn given(text: &Option<String>) -> Option<String> {
    text.clone().filter(|text| !text.is_empty())
}

fn file(path: &str) -> Result<DatabasePlace, Problem> {
    file_path(path).map(DatabasePlace::Sqlite)
}

/// What stands behind `sqlite:`.
pub(super) fn file_path(path: &str) -> Result<PathBuf, Problem> {
    if path.is_empty() {
        return Err(problem("names no file", "as in sqlite:data.db"));
    }
    if path.starts_with(":memory:") || path.contains(['?', '\0']) {
        return Err(problem(
            "is not a file",
            "a path, as in sqlite:data.db or sqlite:/var/lib/x.db",
        ));
    }
    Ok(PathBuf::from(path))
}

fn server(said: Said, load: &DatabaseLoad) -> Result<Server, Problem> {
    let keys = Said {
        host: given(&load.host),
        port: load.port,
        user: given(&load.user),
        password: load.password.clone(),
        database: given(&load.database),
        sslmode: load.sslmode,
    };
    said.or(keys).server("postgres", 5432)
}

impl Said {
    /// What this leaves open as `keys` say.
    pub(super) fn or(self, keys: Said) -> Said {
        Said {
            host: self.host.or(keys.host),
            port: self.port.or(keys.port),
            user: self.user.or(keys.user),
            password: self.password.or(keys.password),
            database: self.database.or(keys.database),
            sslmode: self.sslmode.or(keys.sslmode),
        }
    }

    /// The server, with `user` and `port` where nothing was said.
    pub(super) fn server(self, user: &str, port: u16) -> Result<Server, Problem> {
        let user = self.user.unwrap_or_else(|| user.to_owned());
        let mut server = Server {
            host: self.host.unwrap_or_else(|| "localhost".to_owned()),
            port: self.port.unwrap_or(port),
            password: self.password.filter(|password| !password.expose().is_empty()),
            database: self.database.unwrap_or_else(|| user.clone()),
            user,
            sslmode: SslMode::Prefer,
        };
        let by_host = if server.is_local() { SslMode::Prefer } else { SslMode::VerifyFull };
        server.sslmode = self.sslmode.unwrap_or(by_host);
        if [&server.host, &server.user, &server.database].iter().any(|text| text.contains('\0')) {
            return Err(problem("holds a NUL character", "remove it"));
        }
        Ok(server)
    }
}

/// Reads what stands behind `postgres://`: `user:password@host:port/database?sslmode=…`.
pub(super) fn said(rest: &str) -> Result<Said, Problem> {
    let mut said = Said::default();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    said.user = decoded(user)?;
    said.password = decoded(password)?.map(Secret::new);
    said.database = decoded(database)?;
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':').unwrap_or(port)),
        None => place.rsplit_once(':').unwrap_or((place, "")),
    };
    said.host = decoded(host)?;
    if host.contains(',') {
        return Err(problem("names several hosts", "one host is asked"));
    }
    if !port.is_empty() {
        let port = port.parse().ok().filter(|port| *port > 0);
        said.port = Some(port.ok_or_else(|| problem("has a wrong port", "1 to 65535"))?);
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("sslmode", "disable") => said.sslmode = Some(SslMode::Disable),
            ("sslmode", "prefer") => said.sslmode = Some(SslMode::Prefer),
            ("sslmode", "require") => said.sslmode = Some(SslMode::Require),
            ("sslmode", "verify-full") => said.sslmode = Some(SslMode::VerifyFull),
            ("sslmode", _) => {
                let label = "disable, prefer, require or verify-full";
                return Err(problem("has an unknown sslmode", label));
            }
            _ => return Err(problem("has a parameter that is not known", "only sslmode is")),
        }
    }
    Ok(said)
}

/// Percent-encoding undone; `None` for nothing at all.
fn decoded(text: &str) -> Result<Option<String>, Problem> {
    let wrong = || problem("has a wrong percent-encoding", "`%` itself is written %25");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (high, low) = (digit(rest.next()), digit(rest.next()));
        let value = high.zip(low).map(|(high, low)| high * 16 + low).ok_or_else(wrong)?;
        bytes.push(u8::try_from(value).map_err(|_| wrong())?);
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong())?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use std::path::PathBuf;

    use serde_json::json;

    use super::{DatabasePlace, Server};
    use crate::config::{DatabaseLoad, Secret, SslMode};

    fn place(kind: &str, keys: serde_json::Value) -> Result<DatabasePlace, String> {
        let mut all = json!({ "table": "t" });
        all.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let load: DatabaseLoad = serde_json::from_value(all).unwrap();
        DatabasePlace::of(kind, &load).map_err(|problem| problem.message)
    }

    fn server(kind: &str, keys: serde_json::Value) -> Server {
        match place(kind, keys).unwrap() {
            DatabasePlace::Postgres(server) => *server,
            DatabasePlace::Sqlite(path) => panic!("{path:?}"),
        }
    }

    #[test]
    fn what_the_url_says_goes_before_the_keys_and_these_before_the_defaults() {
        let all = server(
            "database",
            json!({
                "url": "postgresql://me:p%40ss@db.example.net:6432/sales?sslmode=require",
                "host": "other", "port": 1, "user": "x", "password": "y", "database": "z",
            }),
        );
        assert_eq!(
            all,
            Server {
                host: "db.example.net".to_owned(),
                port: 6432,
                user: "me".to_owned(),
                password: Some(Secret::new("p@ss")),
                database: "sales".to_owned(),
                sslmode: SslMode::Require,
            }
        );
        assert_eq!(all.shown(), "postgres://db.example.net:6432/sales");
        let keys = json!({ "url": "postgres://db", "user": "me", "password": "y" });
        let some = server("postgres", keys);
        assert_eq!((some.database.as_str(), some.port), ("me", 5432));
        assert_eq!(some.sslmode, SslMode::VerifyFull, "elsewhere a certificate is asked for");
        let none = server("postgres", json!({ "url": "" }));
        assert_eq!(none.shown(), "postgres://localhost:5432/postgres");
        assert_eq!(none.sslmode, SslMode::Prefer);
        assert_eq!(server("postgres", json!({ "url": "postgres://[::1]:5/x" })).host, "::1");
        assert!(server("postgres", json!({ "host": "/run/postgresql" })).is_local());
    }

    #[test]
    fn the_url_decides_where_a_database_is() {
        let sqlite = |path: &str| Ok(DatabasePlace::Sqlite(PathBuf::from(path)));
        assert_eq!(place("database", json!({})), sqlite("data.db"));
        let nothing = json!({ "url": "", "host": "", "user": "", "database": "" });
        assert_eq!(place("database", nothing), sqlite("data.db"));
        assert_eq!(place("database", json!({ "url": "sqlite:x/y.db" })), sqlite("x/y.db"));
        assert_eq!(place("sqlite", json!({ "url": "sqlite:///var/x.db" })), sqlite("/var/x.db"));
        assert_eq!(place("sqlite", json!({ "database": "own.db" })), sqlite("own.db"));
        assert!(matches!(
            place("database", json!({ "host": "h" })),
            Ok(DatabasePlace::Postgres(_))
        ));
        for (kind, url) in [
            ("postgres", "sqlite:x.db"),
            ("sqlite", "postgres://h/x"),
            ("database", "mysql://h/x"),
            ("database", "sqlite::memory:"),
            ("database", "sqlite:"),
            ("postgres", "postgres://h:99999/x"),
            ("postgres", "postgres://h/x?sslmode=maybe"),
            ("postgres", "postgres://h/x?options=-c"),
            ("postgres", "postgres://%zz@h/x"),
            ("postgres", "postgres://a,b/x"),
        ] {
            assert!(place(kind, json!({ "url": url })).is_err(), "{kind} {url}");
        }
    }
}
