//! The TDS server that other tests use as SQL Server, asked by tiberius directly: every type
//! arrives as it was declared, queries really run, and what it is told to do wrong it does.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "support/tds/mod.rs"]
mod tds;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::TryStreamExt;
use futures_util::io::{AsyncRead, AsyncWrite};
use tds::{DATABASE, PASSWORD, Server, ServerError, USER};
use tiberius::{AuthMethod, Client, ColumnData, Config, EncryptionLevel, QueryItem};
use tokio::io::{AsyncRead as TokioRead, AsyncWrite as TokioWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connection without TLS, as tiberius wants it.
#[derive(Debug)]
struct Plain(TcpStream);

impl AsyncRead for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        let done = Pin::new(&mut self.0).poll_read(context, &mut buffer);
        done.map_ok(|()| buffer.filled().len())
    }
}

impl AsyncWrite for Plain {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

async fn login(server: &Server, password: &str) -> tiberius::Result<Client<Plain>> {
    let mut config = Config::new();
    config.authentication(AuthMethod::sql_server(USER, password));
    config.database(DATABASE);
    config.encryption(EncryptionLevel::NotSupported);
    config.readonly(true);
    Client::connect(config, Plain(TcpStream::connect(server.address()).await.unwrap())).await
}

/// All rows of a statement, as tiberius decodes them.
async fn rows(
    client: &mut Client<Plain>,
    sql: &str,
    parameters: &[&dyn tiberius::ToSql],
) -> tiberius::Result<Vec<Vec<ColumnData<'static>>>> {
    let mut all = Vec::new();
    let mut stream = client.query(sql, parameters).await?;
    while let Some(item) = stream.try_next().await? {
        if let QueryItem::Row(row) = item {
            all.push(row.into_iter().collect());
        }
    }
    Ok(all)
}

/// A type, a value as text, and what tiberius makes of it.
const TYPES: [(&str, &str, &str); 36] = [
    ("bit", "1", "Bit(Some(true))"),
    ("tinyint", "255", "U8(Some(255))"),
    ("smallint", "-32768", "I16(Some(-32768))"),
    ("int", "-2147483648", "I32(Some(-2147483648))"),
    ("bigint", "-9223372036854775808", "I64(Some(-9223372036854775808))"),
    ("decimal(9,2)", "-1234567.89", "Numeric(Some(-1234567.89))"),
    ("decimal(19,4)", "922337203685477.5807", "Numeric(Some(922337203685477.5807))"),
    (
        "decimal(28,10)",
        "-123456789012345678.0123456789",
        "Numeric(Some(-123456789012345678.0123456789))",
    ),
    (
        "numeric(38,0)",
        "99999999999999999999999999999999999999",
        "Numeric(Some(99999999999999999999999999999999999999.0))",
    ),
    (
        "decimal(38,38)",
        "-0.00000000000000000000000000000000000001",
        "Numeric(Some(-0.00000000000000000000000000000000000001))",
    ),
    ("money", "-1234.5678", "F64(Some(-1234.5678))"),
    ("smallmoney", "-214748.3648", "F64(Some(-214748.3648))"),
    ("real", "0.1", "F32(Some(0.1))"),
    ("float", "2.2250738585072014e-308", "F64(Some(2.2250738585072014e-308))"),
    ("date", "9999-12-31", "Date(Some(Date(3652058)))"),
    ("time(0)", "23:59:59", "Time(Some(Time { increments: 86399, scale: 0 }))"),
    ("time(7)", "23:59:59.9999999", "Time(Some(Time { increments: 863999999999, scale: 7 }))"),
    (
        "datetime",
        "1753-01-01T00:00:00.003",
        "DateTime(Some(DateTime { days: -53690, seconds_fragments: 1 }))",
    ),
    (
        "datetime",
        "2026-11-21T23:59:59.997",
        "DateTime(Some(DateTime { days: 46345, seconds_fragments: 25919999 }))",
    ),
    (
        "smalldatetime",
        "2079-06-06T23:59:00",
        "SmallDateTime(Some(SmallDateTime { days: 65535, seconds_fragments: 1439 }))",
    ),
    (
        "datetime2(0)",
        "0001-01-01T00:00:01",
        "DateTime2(Some(DateTime2 { date: Date(0), time: Time { increments: 1, scale: 0 } }))",
    ),
    (
        "datetime2(7)",
        "9999-12-31T23:59:59.9999999",
        "DateTime2(Some(DateTime2 { date: Date(3652058), time: Time { increments: 863999999999, scale: 7 } }))",
    ),
    (
        "datetimeoffset(3)",
        "2026-01-01T00:30:00.125+05:30",
        "DateTimeOffset(Some(DateTimeOffset { datetime2: DateTime2 { date: Date(739615), time: Time { increments: 68400125, scale: 3 } }, offset: 330 }))",
    ),
    (
        "uniqueidentifier",
        "00112233-4455-6677-8899-AABBCCDDEEFF",
        "Guid(Some(00112233-4455-6677-8899-aabbccddeeff))",
    ),
    ("char(5)", "ab", "String(Some(\"ab   \"))"),
    ("varchar(20)", "Zoë €", "String(Some(\"Zoë €\"))"),
    ("varchar(20) COLLATE Cyrillic_General_CI_AS", "Привет", "String(Some(\"Привет\"))"),
    ("nchar(3)", "é", "String(Some(\"é  \"))"),
    ("nvarchar(10)", "a😀b", "String(Some(\"a😀b\"))"),
    ("varbinary(8)", "00ff10", "Binary(Some([0, 255, 16]))"),
    ("binary(4)", "0102", "Binary(Some([1, 2, 0, 0]))"),
    ("varbinary(max)", "cafe", "Binary(Some([202, 254]))"),
    ("xml", "<a b=\"ü\"/>", "Xml(Some(XmlData { data: \"<a b=\\\"ü\\\"/>\", schema: None }))"),
    ("text", "old", "String(Some(\"old\"))"),
    ("ntext", "ältest 😀", "String(Some(\"ältest 😀\"))"),
    ("image", "01", "Binary(Some([1]))"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_type_arrives_as_declared_also_null_and_where_null_is_forbidden() {
    let server = Server::start();
    for (table, rule) in [("nullable", "NULL"), ("required", "NOT NULL")] {
        let columns = TYPES.iter().enumerate().map(|(at, (ty, ..))| format!("c{at} {ty} {rule}"));
        let columns = columns.collect::<Vec<_>>().join(", ");
        server.run(&format!("CREATE TABLE dbo.{table} (id int NOT NULL PRIMARY KEY, {columns})"));
        let values = TYPES.iter().map(|(_, text, _)| Some((*text).to_owned()));
        server.insert(table, [std::iter::once(Some("1".to_owned())).chain(values).collect()]);
    }
    let none = std::iter::once(Some("2".to_owned())).chain(TYPES.iter().map(|_| None));
    server.insert("nullable", [none.collect()]);
    let mut client = login(&server, PASSWORD).await.unwrap();
    for table in ["nullable", "required"] {
        let sql = format!("SELECT * FROM [dbo].[{table}] ORDER BY [id]");
        let found = rows(&mut client, &sql, &[]).await.unwrap();
        for (value, (ty, text, wanted)) in found[0][1..].iter().zip(TYPES) {
            let seen = match value {
                ColumnData::Numeric(Some(number)) => format!("Numeric(Some({number}))"),
                ColumnData::Guid(Some(guid)) => format!("Guid(Some({guid}))"),
                other => format!("{other:?}"),
            };
            assert_eq!(seen, wanted, "{ty} {text} of {table}");
        }
    }
    let found =
        rows(&mut client, "SELECT * FROM dbo.nullable WHERE id = @P1", &[&2]).await.unwrap();
    for (value, (ty, ..)) in found[0][1..].iter().zip(TYPES) {
        assert!(format!("{value:?}").ends_with("(None)"), "{ty}: {value:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_values_come_in_chunks_and_over_many_packets() {
    let server = Server::start();
    server
        .run("CREATE TABLE big (id bigint NOT NULL PRIMARY KEY, n nvarchar(max), v varchar(max))");
    let long: String = "x😀é".chars().cycle().take(50_000).collect();
    let plain = "y".repeat(20_000);
    server.insert("big", [vec![Some("1".into()), Some(long.clone()), Some(plain.clone())]]);
    let mut client = login(&server, PASSWORD).await.unwrap();
    let found = rows(&mut client, "SELECT n, v FROM big", &[]).await.unwrap();
    assert_eq!(found[0][0], ColumnData::String(Some(long.into())));
    assert_eq!(found[0][1], ColumnData::String(Some(plain.into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_by_key_come_in_the_order_of_their_types() {
    let server = Server::start();
    server.run(
        "CREATE TABLE [dbo].[t] ([amount] decimal(38,4) NOT NULL, [id] int NOT NULL,
         [at] datetimeoffset(7) NOT NULL, PRIMARY KEY ([amount], [id]))",
    );
    let amounts = ["-1000.5", "-9.25", "0", "2", "2", "10", "99999999999999999999.0001"];
    let row = |(id, amount): (usize, &&str)| {
        let at = format!("2026-01-01T0{id}:00:00+0{id}:00");
        vec![Some((*amount).to_owned()), Some(id.to_string()), Some(at)]
    };
    server.insert("t", amounts.iter().enumerate().map(row).rev());
    let mut client = login(&server, PASSWORD).await.unwrap();
    let page = "SELECT TOP (@P3) [id] FROM [dbo].[t] WITH (NOLOCK) WHERE ([amount] > CAST(@P1 AS \
                decimal(38,4)) OR ([amount] = CAST(@P1 AS decimal(38,4)) AND [id] > @P2)) \
                ORDER BY [amount], [id]";
    let found = rows(&mut client, page, &[&"-10", &0, &4]).await.unwrap();
    let ids = |ids: &[i32]| -> Vec<Vec<ColumnData<'static>>> {
        ids.iter().map(|id| vec![ColumnData::I32(Some(*id))]).collect()
    };
    assert_eq!(found, ids(&[1, 2, 3, 4]));
    assert_eq!(rows(&mut client, page, &[&"2", &3, &9]).await.unwrap(), ids(&[4, 5, 6]));
    // All of these are the same instant, whatever their offsets say.
    let same = "SELECT COUNT_BIG(*) FROM dbo.t WHERE at >= CAST(@P1 AS datetimeoffset(7))";
    let found = rows(&mut client, same, &[&"2025-12-31T19:00:00-05:00"]).await.unwrap();
    assert_eq!(found, [[ColumnData::I64(Some(7))]]);
    assert_eq!(server.rows_sent("SELECT TOP"), 7);
    // What would be compared wrongly is refused.
    let wrong = "SELECT [id] FROM [dbo].[t] WHERE [amount] > @P1";
    let error = rows(&mut client, wrong, &[&1.5f64]).await.unwrap_err();
    assert!(error.to_string().contains("does not compare float"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_described_by_the_types_of_its_columns() {
    let server = Server::start();
    server.run(
        "CREATE TABLE t (id int NOT NULL, m money, g geography, v varchar(max) COLLATE
         Latin1_General_100_CI_AS_SC_UTF8)",
    );
    let mut client = login(&server, PASSWORD).await.unwrap();
    let describe = "SELECT name, system_type_name, user_type_name, is_nullable, collation_name, \
                    error_message FROM sys.dm_exec_describe_first_result_set(@P1, NULL, 0) \
                    ORDER BY column_ordinal";
    let statement =
        "SELECT q.*, 1 AS one FROM (SELECT id, CAST(m AS decimal(19,4)) AS m, g, v FROM t) AS q";
    let error = rows(&mut client, describe, &[&statement]).await.unwrap();
    assert!(format!("{error:?}").contains("sees no type of column one"), "{error:?}");
    let statement = "SELECT q.* FROM (SELECT id, CAST(m AS decimal(19,4)) AS m, g, v FROM t) AS q";
    let found = rows(&mut client, describe, &[&statement]).await.unwrap();
    let text = |value: &ColumnData<'_>| match value {
        ColumnData::String(text) => text.as_deref().unwrap_or("-").to_owned(),
        ColumnData::Bit(bit) => format!("{bit:?}"),
        other => format!("{other:?}"),
    };
    let found: Vec<String> =
        found.iter().map(|row| row.iter().map(text).collect::<Vec<_>>().join("|")).collect();
    assert_eq!(
        found,
        [
            "id|int|-|Some(false)|-|-",
            "m|decimal(19,4)|-|Some(true)|-|-",
            "g|-|geography|Some(true)|-|-",
            "v|varchar(max)|-|Some(true)|Latin1_General_100_CI_AS_SC_UTF8|-"
        ]
    );
    let found = rows(&mut client, describe, &[&"SELECT * FROM nowhere"]).await.unwrap();
    assert!(format!("{:?}", found[0][5]).contains("Invalid object name 'nowhere'"), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_is_told_to_do_wrong_it_does() {
    let mut server = Server::start();
    server.run("CREATE TABLE t (id int NOT NULL PRIMARY KEY)");
    server.insert("t", (0..100).map(|id| vec![Some(id.to_string())]));
    let error = login(&server, "wrong").await.unwrap_err();
    assert_eq!(error.code(), Some(18_456), "{error}");
    let mut client = login(&server, PASSWORD).await.unwrap();
    let seen = server.state().logins.last().unwrap().clone();
    assert!(seen.read_only && !seen.refused && seen.user == USER && seen.database == DATABASE);
    let error = rows(&mut client, "SELECT * FROM missing", &[]).await.unwrap_err();
    assert_eq!(error.code(), Some(208), "{error}");
    server.fail("FROM t", ServerError::deadlock());
    assert!(rows(&mut client, "SELECT * FROM t", &[]).await.unwrap_err().is_deadlock());
    assert_eq!(rows(&mut client, "SELECT * FROM t", &[]).await.unwrap().len(), 100);
    let clock = "SET LOCK_TIMEOUT 1000; SELECT SYSUTCDATETIME()";
    assert!(matches!(
        rows(&mut client, clock, &[]).await.unwrap()[0][0],
        ColumnData::DateTime2(Some(_))
    ));
    server.cut_after(30);
    let error = rows(&mut client, "SELECT * FROM t", &[]).await.unwrap_err();
    assert!(matches!(error, tiberius::error::Error::Io { .. }), "{error:?}");
    server.stop();
    assert!(TcpStream::connect(server.address()).await.is_err());
    server.go();
    let mut client = login(&server, PASSWORD).await.unwrap();
    assert_eq!(rows(&mut client, "SELECT * FROM t", &[]).await.unwrap().len(), 100);
}
