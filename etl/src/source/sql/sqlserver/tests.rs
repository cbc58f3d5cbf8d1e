//! The client against the TDS server of the tests, which the guarantee tests share.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::time::Duration;

use serde_json::{Value, json};

use self::tds::{Authority, DATABASE, PASSWORD, Server, ServerError, USER};
use super::super::client::{Client, Connector, Kind, Page, Relation};
use super::super::error::{SqlError, Trouble};
use super::super::key::Key;
use super::super::rows::{RowWriter, Shape};
use super::SqlServer;
use crate::config::{CursorClock, Shard, ShardPlace, SqlSource};

#[path = "../../../../tests/support/tds/mod.rs"]
mod tds;

fn connector_with(server: &Server, keys: &Value) -> SqlServer {
    let address = server.address();
    let mut source = json!({
        "kind": "sqlserver",
        "hosts": "localhost",
        "ports": address.port().to_string(),
        "user": USER,
        "password": PASSWORD,
        "database": DATABASE,
        "timeout": "20s",
        "connect_timeout": "20s",
        "tables": [],
    });
    for (key, value) in keys.as_object().unwrap() {
        source[key] = value.clone();
    }
    let source: SqlSource = serde_json::from_value(source).unwrap();
    let shard = Shard::all(&source).unwrap().remove(0);
    let ShardPlace::Server(place) = shard.place else { panic!("no server") };
    SqlServer::new(&source, &place).unwrap()
}

async fn connected(server: &Server) -> Box<dyn Client> {
    connector_with(server, &json!({})).connect().await.unwrap()
}

async fn refused(connector: &SqlServer) -> SqlError {
    connector.connect().await.map(drop).unwrap_err()
}

/// Reads a page: each row with its key, or with why it is refused.
async fn read(client: &mut Box<dyn Client>, page: &Page) -> Result<Vec<(String, Key)>, SqlError> {
    let names: Vec<&str> = page.columns.iter().map(|column| column.name.as_str()).collect();
    let (sender, mut chunks) = tokio::sync::mpsc::channel(1000);
    let mut rows = RowWriter::new(Shape::new(&names, &[], page.order.clone()), sender);
    client.page(page, &mut rows).await?;
    rows.flush().await?;
    drop(rows);
    let mut all = Vec::new();
    while let Some(chunk) = chunks.recv().await {
        for entry in chunk.entries() {
            let row = String::from_utf8(entry.row.to_vec()).unwrap();
            let row = entry.refused.map_or(row, str::to_owned);
            all.push((row, Key::read(entry.key).unwrap()));
        }
    }
    Ok(all)
}

/// A page of a table from its beginning.
async fn page_of(client: &mut Box<dyn Client>, relation: Relation, order: &[&str]) -> Page {
    let columns = client.describe(&relation).await.unwrap();
    let place = |name: &&str| columns.iter().position(|column| column.name == *name).unwrap();
    let order = order.iter().map(place).collect();
    let (after, until, from, below) = (None, None, None, None);
    Page { relation, columns, order, after, until, from, below, limit: 100 }
}

/// A type, a value as text, and its JSON.
const TYPES: [(&str, &str, &str); 30] = [
    ("bit", "1", "true"),
    ("tinyint", "255", "255"),
    ("smallint", "-32768", "-32768"),
    ("bigint", "-9223372036854775808", "-9223372036854775808"),
    ("decimal(9,3)", "-1234.500", "-1234.500"),
    (
        "numeric(38,10)",
        "-1234567890123456789012345678.0123456789",
        r#""-1234567890123456789012345678.0123456789""#,
    ),
    ("money", "-922337203685477.5808", r#""-922337203685477.5808""#),
    ("money", "0.1000", "0.1000"),
    ("smallmoney", "-214748.3648", "-214748.3648"),
    ("real", "0.1", "0.1"),
    ("float", "1e300", "1e+300"),
    ("date", "0001-01-01", r#""0001-01-01""#),
    ("time(7)", "23:59:59.9999999", r#""23:59:59.9999999""#),
    ("time(0)", "00:00:01", r#""00:00:01""#),
    ("datetime", "1753-01-01T00:00:00.007", r#""1753-01-01T00:00:00.007""#),
    ("smalldatetime", "2079-06-06T23:59:00", r#""2079-06-06T23:59:00""#),
    ("datetime2(0)", "9999-12-31T23:59:59", r#""9999-12-31T23:59:59""#),
    ("datetime2(7)", "2026-11-21T08:30:00.1234567", r#""2026-11-21T08:30:00.1234567""#),
    ("datetimeoffset(2)", "2026-01-01T00:30:00.25+05:30", r#""2026-01-01T00:30:00.25+05:30""#),
    ("datetimeoffset(0)", "2026-01-01T00:30:00+00:00", r#""2026-01-01T00:30:00Z""#),
    (
        "uniqueidentifier",
        "00112233-4455-6677-8899-AABBCCDDEEFF",
        r#""00112233-4455-6677-8899-aabbccddeeff""#,
    ),
    ("char(4)", "ab", r#""ab  ""#),
    ("varchar(20)", "Zoë €", r#""Zoë €""#),
    ("varchar(20) COLLATE Cyrillic_General_CI_AS", "Привет", r#""Привет""#),
    ("varchar(40) COLLATE Latin1_General_100_CI_AS_SC_UTF8", "ő😀", r#""ő😀""#),
    ("nvarchar(max)", "a\"😀\n", r#""a\"😀\n""#),
    ("varbinary(max)", "00ff10", r#""AP8Q""#),
    ("image", "01", r#""AQ==""#),
    ("ntext", "ältest", r#""ältest""#),
    ("xml", "<a b=\"ü\"/>", r#""<a b=\"ü\"/>""#),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_type_arrives_with_every_digit_and_null_as_null() {
    let server = Server::start();
    let columns = TYPES.iter().enumerate().map(|(at, (ty, ..))| format!("c{at} {ty} NULL"));
    let columns = columns.collect::<Vec<_>>().join(", ");
    server.run(&format!("CREATE TABLE dbo.everything (id int NOT NULL PRIMARY KEY, {columns})"));
    let values = TYPES.iter().map(|(_, text, _)| Some((*text).to_owned()));
    server.insert("everything", [std::iter::once(Some("1".to_owned())).chain(values).collect()]);
    let nulls = std::iter::once(Some("2".to_owned())).chain(TYPES.iter().map(|_| None));
    server.insert("everything", [nulls.collect()]);
    let mut client = connected(&server).await;
    assert_eq!(client.version().await.unwrap(), "SQL Server 16.0.4000.1");
    reads_types(&mut client, "dbo.everything").await;
}

/// Reads a table with a row of `TYPES` and one of nulls, as a table and as a query.
async fn reads_types(client: &mut Box<dyn Client>, table: &str) {
    let relations = [
        Relation::Table(table.to_owned()),
        Relation::Query(format!("SELECT * FROM {table} WHERE id < 3 -- two of them")),
    ];
    for relation in relations {
        let page = page_of(client, relation, &["id"]).await;
        assert!(page.columns.iter().all(|column| column.kind != Kind::Unsupported));
        assert_eq!((page.columns[0].nullable, page.columns[1].nullable), (false, true));
        let rows = read(client, &page).await.unwrap();
        let fields = TYPES.iter().enumerate();
        let wanted: String = fields.map(|(at, (.., json))| format!(r#","c{at}":{json}"#)).collect();
        assert_eq!(rows[0].0, format!(r#"{{"id":1{wanted}}}"#));
        let nulls: String = (0..TYPES.len()).map(|at| format!(r#","c{at}":null"#)).collect();
        assert_eq!(rows[1].0, format!(r#"{{"id":2{nulls}}}"#));
    }
}

/// Types that rows can be ordered by, with values that grow.
const KEYS: [(&str, [&str; 4]); 12] = [
    ("decimal(38,4)", ["-1000000000000000000000000000000000", "-9.5", "2", "10.0001"]),
    ("money", ["-922337203685477.5808", "-1", "0.0001", "922337203685477.5807"]),
    ("bigint", ["-9223372036854775808", "-1", "0", "9223372036854775807"]),
    ("date", ["0001-01-01", "1999-12-31", "2000-01-01", "9999-12-31"]),
    (
        "datetime",
        [
            "1753-01-01T00:00:00.003",
            "2026-01-01T00:00:00.007",
            "2026-01-01T00:00:00.010",
            "9999-12-31T23:59:59.997",
        ],
    ),
    (
        "datetime2(7)",
        [
            "0001-01-01T00:00:00.0000001",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.0000001",
            "9999-12-31T00:00:00",
        ],
    ),
    (
        "datetimeoffset(7)",
        [
            "2026-01-01T05:00:00+14:00",
            "2026-01-01T00:00:00+01:00",
            "2025-12-31T23:30:00Z",
            "2025-12-31T20:00:00-08:00",
        ],
    ),
    ("time(3)", ["00:00:00.001", "09:00:00", "12:00:00", "23:59:59.999"]),
    (
        "uniqueidentifier",
        [
            "FF000000-0000-0000-0000-000000000001",
            "00000000-0000-0000-0000-000000000002",
            "00000000-0000-0000-0100-000000000002",
            "00000000-0000-0000-0000-010000000000",
        ],
    ),
    ("varbinary(8)", ["00", "00ff", "10", "ff"]),
    ("varchar(20) COLLATE Cyrillic_General_CI_AS", ["а", "б", "ба", "в"]),
    ("nvarchar(20)", ["", "a'b", "b", "c\u{1F600}"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn pages_go_on_after_the_key_of_every_type_that_can_be_one() {
    let server = Server::start();
    for (at, (ty, values)) in KEYS.iter().enumerate() {
        server.run(&format!(
            "CREATE TABLE k{at} (k {ty} NOT NULL, id int NOT NULL, PRIMARY KEY (k, id))"
        ));
        // Every value twice: the second column decides.
        let rows = values.iter().enumerate().flat_map(|(place, value)| {
            [2 * place, 2 * place + 1]
                .map(|id| vec![Some((*value).to_owned()), Some(id.to_string())])
        });
        server.insert(&format!("k{at}"), rows.collect::<Vec<_>>().into_iter().rev());
    }
    let mut client = connected(&server).await;
    for (at, (ty, _)) in KEYS.iter().enumerate() {
        reads_pages(&mut client, format!("dbo.k{at}"), ty).await;
    }
}

/// Reads a table of eight rows with two of each value page by page, and between bounds.
async fn reads_pages(client: &mut Box<dyn Client>, table: String, ty: &str) {
    let mut page = page_of(client, Relation::Table(table), &["k", "id"]).await;
    assert!(page.columns[0].kind.is_key(), "{ty}");
    let all = read(client, &page).await.unwrap();
    let ids: Vec<_> = all.iter().map(|(_, key)| key.0[1].parse::<usize>().unwrap()).collect();
    assert_eq!(ids, (0..8).collect::<Vec<_>>(), "{ty}");
    page.limit = 3;
    let mut seen = Vec::new();
    loop {
        let some = read(client, &page).await.unwrap();
        let Some((_, last)) = some.last() else { break };
        page.after = Some(last.clone());
        seen.extend(some);
    }
    assert_eq!(seen, all, "{ty}");
    page.limit = 100;
    page.after = Some(all[1].1.clone());
    page.until = Some(all[4].1.clone());
    assert_eq!(read(client, &page).await.unwrap(), all[2..=4], "{ty}");
    (page.after, page.until) = (None, None);
    page.from = Some(all[2].1.0[0].clone());
    page.below = Some(all[6].1.0[0].clone());
    assert_eq!(read(client, &page).await.unwrap(), all[2..6], "{ty}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_named_before_a_row_is_read() {
    let server = Server::start();
    server.run(
        "CREATE TABLE t (id int NOT NULL PRIMARY KEY, at datetime, v sql_variant, g geography)",
    );
    server.run("CREATE INDEX by_at ON t (at)");
    server.insert("t", [vec![Some("1".into()), None, None, None]]);
    let mut client = connected(&server).await;
    let table = Relation::Table("t".to_owned());
    let columns = client.describe(&table).await.unwrap();
    let seen: Vec<_> = columns.iter().map(|one| (one.declared.as_str(), one.kind)).collect();
    assert_eq!(
        seen,
        [
            ("int", Kind::Integer),
            ("datetime", Kind::DateTime),
            ("sql_variant", Kind::Unsupported),
            ("geography", Kind::Unsupported)
        ]
    );
    // The index on `at` ends in the table's key.
    for (wanted, columns) in
        [(true, &["at", "id"][..]), (true, &["id"]), (false, &["id", "at"]), (false, &["v"])]
    {
        assert_eq!(client.is_indexed(&table, columns).await.unwrap(), Some(wanted), "{columns:?}");
    }
    assert!(client.has_null(&table, "at").await.unwrap());
    assert!(!client.has_null(&table, "id").await.unwrap());
    let missing = Relation::Table("sales.nothing".to_owned());
    let error = client.describe(&missing).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Refused, "{error}");
    assert!(error.text.contains("208: Invalid object name"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_is_the_databases_and_is_written_as_the_column_is() {
    let server = Server::start();
    server.run(
        "CREATE TABLE t (id int NOT NULL PRIMARY KEY, a datetime, b datetime2(3), c datetimeoffset(0),
         d smalldatetime)",
    );
    // An hour ahead of this machine.
    server.set_clock(3600);
    let mut client = connected(&server).await;
    let table = Relation::Table("t".to_owned());
    let columns = client.describe(&table).await.unwrap();
    for (column, length) in columns[1..].iter().zip([23, 23, 20, 19]) {
        let back = Duration::from_secs(600);
        let now = client.clock(&table, column, CursorClock::Utc, back).await.unwrap();
        assert_eq!(now.len(), length, "{now}");
        let said: jiff::civil::DateTime = now.trim_end_matches('Z').parse().unwrap();
        let ours = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).datetime();
        let ahead = said.duration_since(ours).as_secs();
        assert!((2_900..3_010).contains(&ahead), "{now} is {ahead} s ahead");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_says_that_it_only_reads_and_what_is_refused_says_what_to_do() {
    let mut server = Server::start();
    drop(connected(&server).await);
    let seen = server.state().logins[0].clone();
    assert!(seen.read_only && !seen.encrypted, "{seen:?}");
    assert_eq!((seen.application.as_str(), seen.database.as_str()), ("etl", DATABASE));
    let error = refused(&connector_with(&server, &json!({ "password": "wrong" }))).await;
    assert_eq!(error.trouble, Trouble::Refused);
    assert!(error.to_string().contains("Login failed for user 'etl_reader'"), "{error}");
    let error = refused(&connector_with(&server, &json!({ "database": "none" }))).await;
    assert_eq!(error.trouble, Trouble::Refused, "{error}");
    for mode in ["require", "verify-full"] {
        let error = refused(&connector_with(&server, &json!({ "sslmode": mode }))).await;
        assert!(error.to_string().contains("does not encrypt"), "{error}");
        assert_eq!(error.trouble, Trouble::Refused);
    }
    server.stop();
    let error = refused(&connector_with(&server, &json!({}))).await;
    assert_eq!(error.trouble, Trouble::Connection, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_decides_who_the_server_is() {
    let server = Server::start();
    let authority = Authority::new("ours");
    let other = Authority::new("theirs");
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    let trusting = |mode: &str| json!({ "sslmode": mode, "tls": { "ca": ca } });
    std::fs::write(&ca, authority.pem()).unwrap();
    server.state().tls = Some(authority.server("localhost"));
    for mode in ["prefer", "require", "verify-full"] {
        let mut client = connector_with(&server, &trusting(mode)).connect().await.unwrap();
        assert_eq!(client.version().await.unwrap(), "SQL Server 16.0.4000.1");
        assert!(server.state().logins.last().unwrap().encrypted);
    }
    // Without anything to check it against it is still encrypted.
    let required = connector_with(&server, &json!({ "sslmode": "require" }));
    drop(required.connect().await.unwrap());
    for wrong in [other.server("localhost"), authority.server("elsewhere")] {
        server.state().tls = Some(wrong);
        let logins = server.state().logins.len();
        let error = refused(&connector_with(&server, &trusting("verify-full"))).await;
        assert_eq!(error.trouble, Trouble::Refused, "{error}");
        assert!(error.to_string().contains("tls.ca"), "{error}");
        assert_eq!(server.state().logins.len(), logins, "no password was sent");
    }
    let error = refused(&connector_with(&server, &json!({ "sslmode": "disable" }))).await;
    assert!(error.to_string().contains("insists on encryption"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_and_a_cut_are_worth_another_try_and_broken_text_costs_only_its_row() {
    let server = Server::start();
    server.run("CREATE TABLE t (id int NOT NULL PRIMARY KEY, n nvarchar(20))");
    server.insert("t", (0..50).map(|id| vec![Some(id.to_string()), Some(format!("n{id}"))]));
    let connector = connector_with(&server, &json!({}));
    let mut client = connector.connect().await.unwrap();
    let page = page_of(&mut client, Relation::Table("t".to_owned()), &["id"]).await;
    server.fail("SELECT TOP", ServerError::deadlock());
    let error = read(&mut client, &page).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Connection, "{error}");
    assert!(error.to_string().contains("1205"), "{error}");
    server.cut_after(20);
    let mut client = connector.connect().await.unwrap();
    let error = read(&mut client, &page).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Connection, "{error}");
    let mut client = connector.connect().await.unwrap();
    assert_eq!(read(&mut client, &page).await.unwrap().len(), 50);
    // Half of a surrogate pair, which SQL Server lets in.
    server.set_units("t", "n", "id = 7", &[0x61, 0xd83d]);
    let error = read(&mut client, &page).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Connection, "{error}");
    let mut client = connector.connect().await.unwrap();
    let rows = read(&mut client, &page).await.unwrap();
    assert_eq!(rows.len(), 50);
    assert_eq!(rows[7].0, "n has text that is not Unicode");
    assert_eq!(rows[8].0, r#"{"id":8,"n":"n8"}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_nothing_is_given_up() {
    let server = Server::start();
    let connector = connector_with(&server, &json!({ "timeout": "1s" }));
    let mut client = connector.connect().await.unwrap();
    server.state().delay = Duration::from_secs(3);
    let error = client.version().await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Connection);
    assert!(error.to_string().contains("no answer within 1s"), "{error}");
}

/// A value of a type in T-SQL.
fn literal(ty: &str, text: &str) -> String {
    let bare = ty.split(" COLLATE ").next().unwrap_or(ty);
    match bare {
        "image" => format!("CONVERT(varbinary(max), '{text}', 2)"),
        binary if binary.starts_with("varbinary") => format!("CONVERT({binary}, '{text}', 2)"),
        _ => {
            let collate = ty.split_once(" COLLATE ").map(|(_, name)| format!(" COLLATE {name}"));
            let (collate, text) = (collate.unwrap_or_default(), text.replace('\'', "''"));
            format!("CAST(N'{text}'{collate} AS {bare})")
        }
    }
}

/// The same as with the server of the tests, so that this one is known to be honest. Needs a
/// database of SQL Server 2019 or later in which the user may make and drop tables:
///
///     ETL_TEST_SQLSERVER='mssql://user:password@host:1433/database?encrypt=true' \
///       cargo test -p etl --features sqlserver --lib real_sql_server -- --ignored
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real SQL Server, named by ETL_TEST_SQLSERVER"]
async fn a_real_sql_server_is_read_as_the_one_of_the_tests() {
    let url = std::env::var("ETL_TEST_SQLSERVER").expect("ETL_TEST_SQLSERVER names no server");
    reads_what_it_wrote(&url).await;
}

/// What the test above does is tried with what is always there.
#[tokio::test(flavor = "multi_thread")]
async fn tables_made_over_the_protocol_are_read_as_those_that_were_there() {
    let server = Server::start();
    let port = server.address().port();
    let user = format!("User Id={USER};Password=\"{PASSWORD}\"");
    reads_what_it_wrote(&format!("Server=localhost,{port};Database={DATABASE};{user}")).await;
}

/// Makes tables of every type and for every kind of key, reads them, and drops them.
async fn reads_what_it_wrote(url: &str) {
    let source = json!({ "kind": "sqlserver", "shards": [url], "timeout": "60s", "tables": [] });
    let source: SqlSource = serde_json::from_value(source).unwrap();
    let shard = Shard::all(&source).map_err(|wrong| wrong.problem.message).unwrap().remove(0);
    let ShardPlace::Server(place) = shard.place else { panic!("no server") };
    let connector = SqlServer::new(&source, &place).unwrap();
    let mut writer = connector.log_in().await.unwrap();
    let mut client = connector.connect().await.unwrap();
    let name = format!("etl_test_{:08x}", fastrand::u32(..));

    let columns = TYPES.iter().enumerate().map(|(at, (ty, ..))| format!("c{at} {ty} NULL"));
    let columns = columns.collect::<Vec<_>>().join(", ");
    let values = TYPES.iter().map(|(ty, text, _)| literal(ty, text)).collect::<Vec<_>>().join(", ");
    let nulls = vec!["NULL"; TYPES.len()].join(", ");
    let mut statements = vec![
        format!("CREATE TABLE dbo.{name} (id int NOT NULL PRIMARY KEY, {columns})"),
        format!("INSERT INTO dbo.{name} VALUES (1, {values}), (2, {nulls})"),
    ];
    for (at, (ty, values)) in KEYS.iter().enumerate() {
        let table = format!("dbo.{name}_{at}");
        statements.push(format!(
            "CREATE TABLE {table} (k {ty} NOT NULL, id int NOT NULL, PRIMARY KEY (k, id))"
        ));
        for (place, value) in values.iter().enumerate() {
            let value = literal(ty, value);
            let (first, second) = (2 * place, 2 * place + 1);
            let insert =
                format!("INSERT INTO {table} VALUES ({value}, {first}), ({value}, {second})");
            statements.push(insert);
        }
    }
    for statement in statements {
        let done = writer.client.execute(statement.as_str(), &[]).await;
        done.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    assert!(client.version().await.unwrap().starts_with("SQL Server 1"));
    reads_types(&mut client, &format!("dbo.{name}")).await;
    let table = Relation::Table(format!("dbo.{name}_0"));
    assert_eq!(client.is_indexed(&table, &["k", "id"]).await.unwrap(), Some(true));
    assert_eq!(client.is_indexed(&table, &["id", "k"]).await.unwrap(), Some(false));
    for (at, (ty, _)) in KEYS.iter().enumerate() {
        reads_pages(&mut client, format!("dbo.{name}_{at}"), ty).await;
    }
    for table in
        std::iter::once(name.clone()).chain((0..KEYS.len()).map(|at| format!("{name}_{at}")))
    {
        writer.client.execute(format!("DROP TABLE dbo.{table}"), &[]).await.unwrap();
    }
}
