//! How SQL Server's shards are written beside the URLs that all kinds share: connection strings
//! of ADO.NET and ODBC, `Server=host,1433;Database=crm;User Id=me;Password=…`, and the words
//! `encrypt` and `trustServerCertificate` in a URL. No message repeats a value.

use super::address::Problem;
use super::database::{Said, problem};
use super::pipeline::{Secret, SslMode};

const EXAMPLE: &str = "Server=host,1433;Database=crm;User Id=me;Password=…";

/// Settings that change nothing here: every login says that it only reads, under the name `etl`.
const WITHOUT_EFFECT: [&str; 7] = [
    "application name",
    "app",
    "applicationintent",
    "driver",
    "multipleactiveresultsets",
    "persist security info",
    "pooling",
];

/// What a client asks for of encryption.
#[derive(Debug, Clone, Copy, Default)]
struct Encryption {
    encrypt: Option<bool>,
    trust: Option<bool>,
}

impl Encryption {
    /// Takes a setting; `None` when it is not about encryption.
    fn take(&mut self, name: &str, value: &str) -> Option<Result<(), Problem>> {
        let value = value.to_ascii_lowercase();
        let said = match value.as_str() {
            "true" | "yes" | "mandatory" => true,
            "false" | "no" | "optional" => false,
            "strict" if name == "encrypt" => {
                let label = "true: TDS 8.0 is not spoken";
                return Some(Err(problem("asks for strict encryption", label)));
            }
            _ if matches!(name, "encrypt" | "trustservercertificate") => {
                return Some(Err(problem("has an unknown kind of encryption", "true or false")));
            }
            _ => return None,
        };
        match name {
            "encrypt" => self.encrypt = Some(said),
            "trustservercertificate" | "trust server certificate" => self.trust = Some(said),
            _ => return None,
        }
        Some(Ok(()))
    }

    /// Without a word about it the source's key, or the default, holds.
    fn mode(self) -> Option<SslMode> {
        match (self.encrypt, self.trust) {
            (None, None) => None,
            // As its clients do, the login is encrypted wherever the server can.
            (Some(false), _) => Some(SslMode::Prefer),
            (_, Some(true)) => Some(SslMode::Require),
            (_, _) => Some(SslMode::VerifyFull),
        }
    }
}

/// Whether a shard is written as a connection string.
pub(super) fn is_connection_string(text: &str) -> bool {
    text.split(';').any(|part| {
        part.split_once('=').is_some_and(|(name, _)| is_server(&name.trim().to_ascii_lowercase()))
    })
}

fn is_server(name: &str) -> bool {
    matches!(name, "server" | "data source" | "address" | "addr" | "network address")
}

/// Reads a connection string.
pub(super) fn connection_string(text: &str) -> Result<Said, Problem> {
    let mut said = Said::default();
    let mut encryption = Encryption::default();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, behind) =
            rest.split_once('=').ok_or_else(|| problem("has a setting without `=`", EXAMPLE))?;
        let (value, behind) = value(behind.trim_start())?;
        rest = behind.trim_start().trim_start_matches(';').trim_start();
        let name = name.trim().to_ascii_lowercase();
        if let Some(taken) = encryption.take(&name, &value) {
            taken?;
            continue;
        }
        match name.as_str() {
            server if is_server(server) => (said.host, said.port) = place(&value)?,
            "port" => said.port = Some(port(&value)?),
            "database" | "initial catalog" => said.database = Some(value),
            "user id" | "uid" | "user" => said.user = Some(value),
            "password" | "pwd" => said.password = Some(Secret::new(value)),
            "integrated security" | "trusted_connection" | "authentication" => {
                return Err(problem("asks for a login without a password", "User Id and Password"));
            }
            "connect timeout" | "connection timeout" | "command timeout" => {
                return Err(problem("sets a timeout", "the keys `connect_timeout` and `timeout`"));
            }
            known if WITHOUT_EFFECT.contains(&known) => {}
            _ => return Err(problem("has a setting that is not known", EXAMPLE)),
        }
    }
    said.sslmode = encryption.mode();
    Ok(said)
}

/// A value up to its `;`, out of its quotes or braces, and what is behind it.
fn value(text: &str) -> Result<(String, &str), Problem> {
    let close = match text.chars().next() {
        Some(quote @ ('"' | '\'')) => quote,
        Some('{') => '}',
        _ => {
            let (value, rest) = text.split_once(';').unwrap_or((text, ""));
            return Ok((value.trim_end().to_owned(), rest));
        }
    };
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if character != close {
            value.push(character);
        } else if characters.peek().is_some_and(|(_, next)| *next == close) {
            value.push(close);
            characters.next();
        } else {
            return Ok((value, &text[at + 1..]));
        }
    }
    Err(problem("has a quote that is not closed", EXAMPLE))
}

/// `tcp:host,1433`.
fn place(text: &str) -> Result<(Option<String>, Option<u16>), Problem> {
    let text = text.strip_prefix("tcp:").unwrap_or(text);
    let (host, number) = text.split_once(',').unwrap_or((text, ""));
    if host.contains('\\') {
        return Err(problem("names an instance", "its port: Server=host,14330"));
    }
    let host = match host.trim() {
        "" => return Err(problem("names no server", EXAMPLE)),
        "." | "(local)" => "localhost",
        host => host,
    };
    let port = if number.is_empty() { None } else { Some(port(number)?) };
    Ok((Some(host.to_owned()), port))
}

fn port(text: &str) -> Result<u16, Problem> {
    let port = text.trim().parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| problem("has a wrong port", "1 to 65535"))
}

/// Takes `encrypt=…` and `trustServerCertificate=…` out of a URL's query: the rest, and what
/// they say.
pub(super) fn url_encryption(rest: &str) -> Result<(String, Option<SslMode>), Problem> {
    let Some((place, query)) = rest.split_once('?') else { return Ok((rest.to_owned(), None)) };
    let mut encryption = Encryption::default();
    let mut left = Vec::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match encryption.take(&name.to_ascii_lowercase(), value) {
            Some(taken) => taken?,
            None => left.push(pair),
        }
    }
    Ok((format!("{place}?{}", left.join("&")), encryption.mode()))
}

/// The shards of a text with commas between. A comma before a port, and one in quotes, belongs
/// to a connection string.
pub(super) fn list(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quote) = (Vec::new(), 0, None);
    let mut before = ',';
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (Some(close), _) if character == close => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') if before == '=' => quote = Some(character),
            (None, '{') if before == '=' => quote = Some('}'),
            (None, ',') if !is_port(&text[at + 1..]) => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
        if !character.is_whitespace() {
            before = character;
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

/// Whether digits follow, up to the end of a setting.
fn is_port(text: &str) -> bool {
    let text = text.trim_start();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    digits > 0 && matches!(text[digits..].trim_start().chars().next(), None | Some(';' | ','))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use super::{connection_string, list, url_encryption};
    use crate::config::SslMode;

    #[test]
    fn a_connection_string_is_read_with_its_quotes() {
        let text = r#" Data Source=tcp:db1.example.net,14331; Initial Catalog = crm;UID=me;
            PWD="a;b""c=";Encrypt=True;TrustServerCertificate=yes;ApplicationIntent=ReadOnly;"#;
        let said = connection_string(text).unwrap();
        assert_eq!(said.host.as_deref(), Some("db1.example.net"));
        assert_eq!((said.port, said.database.as_deref()), (Some(14_331), Some("crm")));
        assert_eq!(said.user.as_deref(), Some("me"));
        assert_eq!(said.password.unwrap().expose(), "a;b\"c=");
        assert_eq!(said.sslmode, Some(SslMode::Require));
        let said = connection_string("Server=.;Encrypt=false;Password={x}}y}").unwrap();
        assert_eq!((said.host.as_deref(), said.port), (Some("localhost"), None));
        assert_eq!(said.sslmode, Some(SslMode::Prefer));
        assert_eq!(said.password.unwrap().expose(), "x}y");
        let verified = connection_string("Server=a;Encrypt=Mandatory").unwrap();
        assert_eq!(verified.sslmode, Some(SslMode::VerifyFull));
        assert_eq!(connection_string("Server=a").unwrap().sslmode, None);
    }

    #[test]
    fn what_cannot_be_done_is_refused_without_repeating_a_value() {
        for (text, message) in [
            ("Server=a\\secret", "names an instance"),
            ("Server=a,secret", "wrong port"),
            ("Server=a;Integrated Security=SSPI", "without a password"),
            ("Server=a;Password='secret", "not closed"),
            ("Server=a;Paswword=secret", "not known"),
            ("Server=a;secret", "without `=`"),
            ("Server=a;Encrypt=strict", "strict"),
            ("Server=a;Encrypt=secret", "unknown kind of encryption"),
            ("Server=a;Connect Timeout=5", "sets a timeout"),
        ] {
            let found = connection_string(text).unwrap_err().message;
            assert!(found.contains(message) && !found.contains("secret"), "{text}: {found}");
        }
    }

    #[test]
    fn a_list_keeps_ports_and_quoted_commas_together() {
        let text = "Server=a,1433;Password='x,y';Database=d, Server=b;PWD={p,}}q},mssql://u:p@c/d,";
        assert_eq!(
            list(text),
            ["Server=a,1433;Password='x,y';Database=d", "Server=b;PWD={p,}}q}", "mssql://u:p@c/d"]
        );
    }

    #[test]
    fn a_url_says_encrypt_and_trust_as_other_clients_do() {
        let (rest, mode) = url_encryption("h/d?encrypt=true&x=1").unwrap();
        assert_eq!((rest.as_str(), mode), ("h/d?x=1", Some(SslMode::VerifyFull)));
        let (_, mode) = url_encryption("h/d?trustServerCertificate=true").unwrap();
        assert_eq!(mode, Some(SslMode::Require));
        assert_eq!(url_encryption("h/d").unwrap(), ("h/d".to_owned(), None));
    }
}
