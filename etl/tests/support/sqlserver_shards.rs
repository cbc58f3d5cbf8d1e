//! Four shards that are SQL Server, as far as the tests have one, with a table of every type,
//! and the PostgreSQL that they are gathered in. Each side writes its rows as text by itself.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file uses a part of this, and a failed step is a failed test"
)]

use std::fmt::Write as _;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::postgres::Postgres;
use super::tds::{DATABASE, PASSWORD, Server, USER};

/// The shards' names.
pub const SHARDS: [&str; 4] = ["a", "b", "c", "d"];
/// The table that they are gathered in.
pub const SINK: &str = "gathered";
/// Rows that are made at once.
const CHUNK: u64 = 5_000;

/// A column: its name, its type in a shard, its type in the sink, and the sink's text of it as
/// the shard would write it.
type Column = (&'static str, &'static str, &'static str, &'static str);

const COLUMNS: [Column; 28] = [
    ("id", "bigint NOT NULL", "bigint", "id::text"),
    ("updated_at", "datetime2(7) NOT NULL", "text", "updated_at"),
    ("version", "int NOT NULL", "integer", "version::text"),
    ("flag", "bit NULL", "boolean", "flag::text"),
    ("tiny", "tinyint NULL", "integer", "tiny::text"),
    ("small", "smallint NOT NULL", "integer", "small::text"),
    ("amount", "decimal(10,2) NOT NULL", "numeric(10,2)", "amount::text"),
    ("exact", "numeric(38,10) NULL", "numeric(38,10)", "exact::text"),
    ("price", "money NULL", "numeric(19,4)", "price::text"),
    ("change_", "smallmoney NOT NULL", "numeric(10,4)", "change_::text"),
    ("single_", "real NULL", "text", "single_::real::text"),
    ("double_", "float NOT NULL", "double", "double_::text"),
    ("day_", "date NULL", "date", "day_::text"),
    ("hour_", "time(4) NULL", "text", "hour_"),
    ("old", "datetime NOT NULL", "text", "old"),
    ("older", "smalldatetime NULL", "text", "older"),
    ("plain", "datetime2(3) NULL", "text", "plain"),
    (
        "zoned",
        "datetimeoffset(6) NULL",
        "timestamptz",
        "to_char(zoned AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US')",
    ),
    ("u", "uniqueidentifier NULL", "uuid", "upper(u::text)"),
    ("padded", "char(8) NOT NULL", "text", "padded"),
    ("short_", "varchar(40) NULL", "text", "short_"),
    ("cyrillic", "varchar(40) COLLATE Cyrillic_General_CI_AS NULL", "text", "cyrillic"),
    ("wide", "nchar(6) NULL", "text", "wide"),
    ("name", "nvarchar(60) NULL", "text", "name"),
    ("long_", "nvarchar(max) NULL", "text", "long_"),
    ("raw_", "varbinary(20) NULL", "text", "encode(decode(raw_, 'base64'), 'hex')"),
    ("blob_", "varbinary(max) NULL", "text", "encode(decode(blob_, 'base64'), 'hex')"),
    ("mark", "xml NULL", "text", "mark"),
];

/// The values of row `id`, as text: SQL Server's types would write them so.
fn row(id: u64, version: u64, updated_at: &str) -> Vec<Option<String>> {
    let hash = id.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(version);
    let minute = (id % 60, id % 24);
    // Every column that can be null is, now and then.
    let some = |every: u64, text: String| (!id.is_multiple_of(every)).then_some(text);
    let text = format!("näme {id} 😀 \\ \" {version}");
    vec![
        Some(id.to_string()),
        Some(updated_at.to_owned()),
        Some(version.to_string()),
        some(7, (id % 2).to_string()),
        some(5, (id % 256).to_string()),
        Some((id as i64 % 65_536 - 32_768).to_string()),
        Some(format!("-{}.{:02}", id % 99_999_999, id % 100)),
        some(11, format!("1234567890123456789{:09}.{:010}", id, hash % 10_000_000_000)),
        some(13, format!("-9223372036854{:02}.{:04}", id % 77, id % 10_000)),
        Some(format!("{}.{:04}", id % 214_000, id % 10_000)),
        some(17, (id as f32 / 3.0).to_string()),
        Some((id as f64 / 7.0).to_string()),
        some(19, format!("{:04}-02-{:02}", 1 + id % 9999, 1 + id % 28)),
        some(23, format!("{:02}:{:02}:01.{:04}", minute.1, minute.0, id % 10_000)),
        Some(format!(
            "{}-12-31T{:02}:{:02}:59.{:03}",
            1753 + id % 8000,
            minute.1,
            minute.0,
            [0, 3, 7][(id % 3) as usize] + id % 99 * 10
        )),
        some(29, format!("{}-06-05T{:02}:{:02}:00", 1900 + id % 179, minute.1, minute.0)),
        some(31, format!("{:04}-01-01T00:00:00.{:03}", 1 + id % 9999, id % 1000)),
        some(
            37,
            format!(
                "2026-03-29T{:02}:30:00.{:06}{}{:02}:30",
                minute.1,
                id % 1_000_000,
                if id.is_multiple_of(2) { '+' } else { '-' },
                id % 12
            ),
        ),
        some(41, format!("{:08X}-0000-4000-8000-{:012X}", hash as u32, id)),
        Some(format!("c{}", id % 100)),
        some(43, format!("Zoë € {id}")),
        some(47, format!("Привет {id}")),
        some(53, "é".repeat((id % 6) as usize)),
        some(59, text.clone()),
        some(61, text.repeat((id % 5) as usize)),
        some(67, format!("{hash:016x}")),
        some(71, format!("{hash:016x}").repeat((id % 9) as usize)),
        some(73, format!("<a n=\"{id}\">ü</a>")),
    ]
}

/// Now, so much later or earlier, as `datetime2(7)`.
fn time(later: SignedDuration) -> String {
    let now = Timestamp::now() + later;
    now.strftime("%Y-%m-%dT%H:%M:%S.%6f").to_string() + "0"
}

pub struct Shards {
    servers: Vec<Server>,
    sink: Postgres,
    rows: u64,
}

impl Shards {
    /// Four shards of `rows` rows.
    pub fn start(rows: u64) -> Shards {
        let servers: Vec<Server> = SHARDS.iter().map(|_| Server::start()).collect();
        let shards = Shards { servers, sink: Postgres::start(), rows };
        let columns: Vec<String> =
            COLUMNS.iter().map(|(name, ty, ..)| format!("[{name}] {ty}")).collect();
        let make = format!(
            "CREATE TABLE [dbo].[things] ({}, PRIMARY KEY CLUSTERED ([id]))",
            columns.join(", ")
        );
        for server in &shards.servers {
            server.run(&make);
            server.run("CREATE INDEX by_time ON things (updated_at)");
            for first in (1..=rows).step_by(CHUNK as usize) {
                let last = (first + CHUNK - 1).min(rows);
                let at = |id: u64| time(SignedDuration::from_hours(-48) + milliseconds(id));
                server.insert("things", (first..=last).map(|id| row(id, 0, &at(id))));
            }
        }
        shards
    }

    pub fn server(&self, at: usize) -> &Server {
        &self.servers[at]
    }

    /// A connection string for each shard, with commas between.
    pub fn strings(&self) -> String {
        let string = |server: &Server| {
            format!(
                "Server=127.0.0.1,{};Database={DATABASE};User Id={USER};Password=\"{PASSWORD}\"",
                server.address().port()
            )
        };
        self.servers.iter().map(string).collect::<Vec<_>>().join(",")
    }

    /// A pipeline that gathers the shards; `keys` are of the source, `mode` of the sink.
    pub fn pipeline(&self, lag: Duration, keys: &str, mode: &str) -> String {
        let mut text = format!(
            "name: p\nsource:\n  sql:\n    kind: sqlserver\n    shards: '{}'\n    names: a,b,c,d\n    \
             connect_retry: {{ wait: 100ms }}\n    page: 700\n    {keys}\n    tables:\n      \
             - {{ table: dbo.things, name: things, key: [id], cursor: updated_at, clock: utc, \
             lag: {}ms }}\n    add: {{ shard: shard }}\nload:\n  - postgres:\n      url: {}\n      \
             table: {SINK}\n      {mode}\n      empty_as_null: false\n      columns:\n        \
             shard: text\n",
            self.strings(),
            lag.as_millis(),
            self.sink.url(),
        );
        for (name, _, to, _) in COLUMNS {
            writeln!(text, "        {name}: {to}").unwrap();
        }
        text + "    batch: { records: 500 }\n"
    }

    /// The sink's table, with this constraint.
    pub fn make_sink(&self, constraint: &str) {
        let columns: Vec<String> = COLUMNS
            .iter()
            .map(|(name, _, to, _)| format!("{name} {}", to.replace("double", "double precision")))
            .collect();
        let columns = columns.join(", ");
        self.sink.ask(&format!("CREATE TABLE {SINK} (shard text, {columns}, {constraint})"));
    }

    #[track_caller]
    pub fn ask(&self, sql: &str) -> String {
        self.sink.ask(sql)
    }

    #[track_caller]
    pub fn number(&self, sql: &str) -> u64 {
        self.sink.number(sql)
    }

    /// Rows of the sink.
    pub fn gathered(&self) -> u64 {
        self.number(&format!("SELECT count(*) FROM {SINK}"))
    }

    /// Rows that the shards have sent of their tables.
    pub fn sent(&self) -> u64 {
        self.servers.iter().map(|server| server.rows_sent("FROM [dbo].[things]")).sum()
    }

    /// Changes, adds, and adds late, in every shard. What comes late has a time before the
    /// newest that was read when it came.
    pub fn change(&self, changed: u64, added: u64, late: Vec<String>) {
        for server in &self.servers {
            let every = self.rows / changed;
            let now = time(SignedDuration::ZERO);
            server.replace("things", (1..=changed).map(|at| row(at * every, 1, &now)));
            let new = self.rows + 1..=self.rows + added;
            server.insert("things", new.map(|id| row(id, 0, &now)));
            let first = self.rows + added + 1;
            let late = late.iter().zip(first..);
            server.insert("things", late.map(|(time, id)| row(id, 0, time)));
        }
    }

    pub fn halt_the_last(&mut self) {
        self.servers[3].stop();
    }

    pub fn start_the_last(&mut self) {
        self.servers[3].go();
    }

    /// Fails unless these shards and the sink come to the same checksum, each of the rows that
    /// it has itself.
    #[track_caller]
    pub fn are_equal(&self, shards: &[usize]) {
        for at in shards {
            let theirs = self.of_shard(*at);
            let ours = self.of_sink(SHARDS[*at]);
            if blake3::hash(theirs.as_bytes()) == blake3::hash(ours.as_bytes()) {
                continue;
            }
            let (theirs, ours): (Vec<_>, Vec<_>) =
                (theirs.lines().collect(), ours.lines().collect());
            let differs = theirs.iter().zip(&ours).find(|(theirs, ours)| theirs != ours);
            panic!(
                "shard {} has {} rows, the sink {}; the first that differs: {differs:#?}",
                SHARDS[*at],
                theirs.len(),
                ours.len()
            );
        }
    }

    /// The rows of a shard as text, out of its store and not through its protocol.
    fn of_shard(&self, at: usize) -> String {
        let zoned = COLUMNS.iter().position(|(name, ..)| *name == "zoned").unwrap();
        let mut text = String::new();
        for mut row in self.servers[at].table("things", "id") {
            if let Some(moment) = &row[zoned] {
                let moment: Timestamp = moment.parse().unwrap();
                row[zoned] = Some(moment.strftime("%Y-%m-%dT%H:%M:%S.%6f").to_string());
            }
            let row: Vec<String> =
                row.into_iter().map(|value| value.unwrap_or_else(|| "(null)".to_owned())).collect();
            text += &row.join("|");
            text.push('\n');
        }
        text.trim_end().to_owned()
    }

    fn of_sink(&self, shard: &str) -> String {
        let columns: Vec<String> =
            COLUMNS.iter().map(|(.., text)| format!("coalesce({text}, '(null)')")).collect();
        self.ask(&format!(
            "SELECT concat_ws('|', {}) FROM {SINK} WHERE shard = '{shard}' ORDER BY id",
            columns.join(", ")
        ))
    }
}

fn milliseconds(count: u64) -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(count).unwrap())
}

/// A time so many milliseconds ago, as the shards write it.
pub fn ago(count: u64) -> String {
    time(-milliseconds(count))
}
