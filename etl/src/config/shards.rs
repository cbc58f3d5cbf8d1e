//! The shards of an SQL source, out of their URLs or of hosts, ports and what they share.
//! No message repeats a URL: it may hold a password.

use std::path::PathBuf;

use super::address::Problem;
use super::database::{Said, Server, file_path, given, problem, said};
use super::pipeline::{Shards, SqlKind, SqlSource};
use super::sqlserver;

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shard {
    /// What it is called in records, messages and the checkpoint.
    pub name: String,
    pub place: ShardPlace,
}

/// Where a shard is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ShardPlace {
    /// A server; which kind is the source's to say.
    Server(Box<Server>),
    /// A file; a relative one is under the pipeline's data directory.
    File(PathBuf),
}

/// What is wrong, and under which key of the source.
#[derive(Debug)]
pub(crate) struct ShardProblem {
    pub key: &'static str,
    pub problem: Problem,
}

impl Shard {
    /// All shards of a source, in its order.
    pub fn all(source: &SqlSource) -> Result<Vec<Shard>, ShardProblem> {
        let at = |key| move |problem| ShardProblem { key, problem };
        let places = match source.urls() {
            Some(urls) => {
                if given(&source.hosts).is_some() {
                    let wrong = problem("is set beside `shards`", "one of them is enough");
                    return Err(at("hosts")(wrong));
                }
                let places = urls.iter().map(|url| place_of(url, source));
                places.collect::<Result<Vec<_>, _>>().map_err(at("shards"))?
            }
            None => by_host(source)?,
        };
        let names = list(source.names.as_deref().unwrap_or_default());
        if !names.is_empty() && names.len() != places.len() {
            let message = format!("has {} names for {} shards", names.len(), places.len());
            return Err(at("names")(problem(&message, "one name for each shard")));
        }
        let mut shards: Vec<Shard> = Vec::with_capacity(places.len());
        for (index, place) in places.into_iter().enumerate() {
            let name = names.get(index).map_or_else(|| place.address(), |name| (*name).to_owned());
            if shards.iter().any(|shard| shard.name == name) {
                let key = if names.is_empty() { "shards" } else { "names" };
                return Err(at(key)(problem("has the same shard twice", "name each once")));
            }
            shards.push(Shard { name, place });
        }
        Ok(shards)
    }
}

impl ShardPlace {
    /// `host:port/database`, or the file: no user, no password.
    pub fn address(&self) -> String {
        match self {
            ShardPlace::Server(server) => {
                let Server { host, port, database, .. } = &**server;
                match host.contains(':') {
                    true => format!("[{host}]:{port}/{database}"),
                    false => format!("{host}:{port}/{database}"),
                }
            }
            ShardPlace::File(path) => path.display().to_string(),
        }
    }
}

impl SqlSource {
    /// Connections that may be open at once.
    #[must_use]
    pub(crate) fn connections_max(&self) -> usize {
        let shards = Shard::all(self).map_or(0, |shards| shards.len());
        shards.saturating_mul(self.connections)
    }

    /// The shards' URLs; `None` when none is given.
    fn urls(&self) -> Option<Vec<&str>> {
        let urls: Vec<&str> = match self.shards.as_ref()? {
            Shards::Text(text) if self.kind == SqlKind::Sqlserver => sqlserver::list(text.expose()),
            Shards::Text(text) => list(text.expose()),
            Shards::List(urls) => urls.iter().map(|url| url.expose().trim()).collect(),
        };
        (!urls.is_empty()).then_some(urls)
    }
}

/// The parts of a text with commas between, without white space around them.
fn list(text: &str) -> Vec<&str> {
    if text.trim().is_empty() {
        return Vec::new();
    }
    text.trim().trim_end_matches(',').split(',').map(str::trim).collect()
}

/// What all shards share.
fn shared(source: &SqlSource) -> Said {
    Said {
        host: None,
        port: None,
        user: given(&source.user),
        password: source.password.clone(),
        database: given(&source.database),
        sslmode: source.sslmode,
    }
}

/// The user and the port where nothing is said.
fn defaults(kind: SqlKind) -> (&'static str, u16) {
    match kind {
        SqlKind::Sqlserver => ("sa", 1433),
        SqlKind::Postgres => ("postgres", 5432),
        SqlKind::Mysql => ("root", 3306),
        SqlKind::Sqlite => ("", 0),
    }
}

fn place_of(url: &str, source: &SqlSource) -> Result<ShardPlace, Problem> {
    let kind = source.kind;
    if kind == SqlKind::Sqlserver && sqlserver::is_connection_string(url) {
        return place_said(sqlserver::connection_string(url)?, source);
    }
    let (schemes, example): (&[&str], &'static str) = match kind {
        SqlKind::Sqlserver => {
            (&["sqlserver", "mssql"], "sqlserver://user:password@host:1433/database")
        }
        SqlKind::Postgres => {
            (&["postgres", "postgresql"], "postgres://user:password@host:5432/database")
        }
        SqlKind::Mysql => (&["mysql", "mariadb"], "mysql://user:password@host:3306/database"),
        SqlKind::Sqlite => (&["sqlite"], "sqlite:shard1.db"),
    };
    let wrong = || {
        let message = format!("has one that is no URL of kind {}", kind.name());
        Problem { message, label: example }
    };
    let (scheme, rest) = url.split_once(':').ok_or_else(wrong)?;
    if !schemes.contains(&scheme) {
        return Err(wrong());
    }
    let behind = rest.strip_prefix("//");
    if kind == SqlKind::Sqlite {
        return file_path(behind.unwrap_or(rest)).map(ShardPlace::File);
    }
    let behind = behind.ok_or_else(wrong)?;
    if kind == SqlKind::Sqlserver {
        let (behind, sslmode) = sqlserver::url_encryption(behind)?;
        let own = said(&behind)?;
        return place_said(Said { sslmode: sslmode.or(own.sslmode), ..own }, source);
    }
    place_said(said(behind)?, source)
}

/// The place that a shard and what all share come to.
fn place_said(own: Said, source: &SqlSource) -> Result<ShardPlace, Problem> {
    let (user, port) = defaults(source.kind);
    let said = own.or(shared(source));
    if source.kind == SqlKind::Sqlserver && said.database.is_none() {
        return Err(problem("names no database", "behind the host, or in the key `database`"));
    }
    Ok(ShardPlace::Server(Box::new(said.server(user, port)?)))
}

fn by_host(source: &SqlSource) -> Result<Vec<ShardPlace>, ShardProblem> {
    let at = |key| move |problem| ShardProblem { key, problem };
    let hosts = list(source.hosts.as_deref().unwrap_or_default());
    if hosts.is_empty() {
        let wrong = problem("names no shard", "set `shards`, or `hosts` with `ports`");
        return Err(at("shards")(wrong));
    }
    if source.kind == SqlKind::Sqlite {
        return Err(at("hosts")(problem("is set for files", "name files in `shards`")));
    }
    let ports = list(source.ports.as_deref().unwrap_or_default());
    if ports.len() > 1 && ports.len() != hosts.len() {
        let message = format!("has {} ports for {} hosts", ports.len(), hosts.len());
        return Err(at("ports")(problem(&message, "one for each host, or one for all")));
    }
    let (_, default_port) = defaults(source.kind);
    let mut places = Vec::with_capacity(hosts.len());
    for (index, host) in hosts.iter().enumerate() {
        let port = match ports.get(index).or(ports.first()) {
            None => default_port,
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| at("ports")(problem("has a wrong port", "1 to 65535")))?,
        };
        if host.is_empty() || host.contains(['/', '@']) && !host.starts_with('/') {
            return Err(at("hosts")(problem("has one that is no host", "a name or an address")));
        }
        let host = Said { host: Some((*host).to_owned()), port: Some(port), ..Said::default() };
        places.push(place_said(host, source).map_err(at("hosts"))?);
    }
    Ok(places)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use serde_json::json;

    use super::{Shard, ShardPlace};
    use crate::config::SslMode;

    fn shards(keys: serde_json::Value) -> Result<Vec<Shard>, String> {
        let mut all = json!({ "kind": "postgres", "tables": [{ "table": "t", "key": ["id"] }] });
        all.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let source = serde_json::from_value(all).unwrap();
        Shard::all(&source).map_err(|wrong| format!("{} {}", wrong.key, wrong.problem.message))
    }

    fn names(keys: serde_json::Value) -> Vec<String> {
        shards(keys).unwrap().into_iter().map(|shard| shard.name).collect()
    }

    #[test]
    fn a_text_with_commas_is_a_list_and_shards_share_what_urls_leave_open() {
        let text = "postgres://me:p%2Cw@a:1/x, postgres://b";
        let both = shards(json!({ "shards": text, "user": "all", "database": "y" })).unwrap();
        let [ShardPlace::Server(a), ShardPlace::Server(b)] = [&both[0].place, &both[1].place]
        else {
            panic!("{both:?}");
        };
        assert_eq!((a.user.as_str(), a.password.as_ref().unwrap().expose()), ("me", "p,w"));
        assert_eq!((b.user.as_str(), b.port, b.database.as_str()), ("all", 5432, "y"));
        assert_eq!([&both[0].name, &both[1].name], ["a:1/x", "b:5432/y"]);
        let listed = json!({ "shards": text.split(',').collect::<Vec<_>>() });
        assert_eq!(names(listed), ["a:1/x", "b:5432/postgres"]);
    }

    #[test]
    fn hosts_and_ports_make_shards_with_shared_credentials() {
        let keys = json!({
            "kind": "sqlserver", "hosts": "a,b", "ports": "14331, 14332",
            "user": "sa", "password": "x", "database": "crm", "names": "eu, us",
        });
        assert_eq!(names(keys), ["eu", "us"]);
        let one = json!({ "kind": "mysql", "hosts": "a, ::1", "ports": "7", "database": "d" });
        assert_eq!(names(one), ["a:7/d", "[::1]:7/d"]);
        assert_eq!(names(json!({ "hosts": "a" })), ["a:5432/postgres"]);
        let files = json!({ "kind": "sqlite", "shards": "sqlite:a.db,sqlite:///b.db" });
        assert_eq!(names(files), ["a.db", "/b.db"]);
    }

    #[test]
    fn shards_in_sql_server_are_urls_or_connection_strings() {
        let text = "Server=a,14331;Database=crm;Encrypt=true,mssql://me:p@b/crm?encrypt=false";
        let keys = json!({ "kind": "sqlserver", "shards": text, "user": "all" });
        let both = shards(keys).unwrap();
        let [ShardPlace::Server(a), ShardPlace::Server(b)] = [&both[0].place, &both[1].place]
        else {
            panic!("{both:?}");
        };
        assert_eq!((a.user.as_str(), a.port, a.sslmode), ("all", 14_331, SslMode::VerifyFull));
        assert_eq!((b.user.as_str(), b.port, b.sslmode), ("me", 1433, SslMode::Prefer));
        assert_eq!([&both[0].name, &both[1].name], ["a:14331/crm", "b:1433/crm"]);
    }

    #[test]
    fn what_is_no_shard_is_refused_without_repeating_it() {
        for (keys, message) in [
            (json!({}), "shards names no shard"),
            (json!({ "shards": "" }), "shards names no shard"),
            (json!({ "shards": "mysql://me:secret@h" }), "no URL of kind postgres"),
            (json!({ "shards": "postgres://me:secret@h:99999" }), "wrong port"),
            (json!({ "shards": "postgres://h,postgres://h" }), "same shard twice"),
            (json!({ "shards": "postgres://h", "hosts": "h" }), "beside `shards`"),
            (json!({ "hosts": "a,b,c", "ports": "1,2" }), "2 ports for 3 hosts"),
            (json!({ "hosts": "a", "ports": "x" }), "wrong port"),
            (json!({ "hosts": "a,b", "names": "x" }), "1 names for 2 shards"),
            (json!({ "kind": "sqlite", "hosts": "a" }), "set for files"),
            (json!({ "kind": "sqlserver", "hosts": "a" }), "names no database"),
            (json!({ "kind": "sqlserver", "shards": "Server=a\\secret" }), "names an instance"),
        ] {
            let found = shards(keys.clone()).unwrap_err();
            assert!(found.contains(message) && !found.contains("secret"), "{keys}: {found}");
        }
    }
}
