//! Four shards that are PostgreSQL, with a table of every type, and the sink that they
//! are gathered in; each side computes a checksum of its own rows.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file uses a part of this, and a failed step is a failed test"
)]

use std::time::Duration;

use super::postgres::Postgres;

/// The shards' names; the last one is a server of its own.
pub const SHARDS: [&str; 4] = ["a", "b", "c", "d"];
/// The table that they are gathered in.
pub const SINK: &str = "gathered";
/// Columns of the shards' table.
pub const TYPES: usize = COLUMNS.len();

/// Each column: its name, its type in a shard, a value for row `i`, what of it the sink
/// should have as text, and the sink's type.
const COLUMNS: [(&str, &str, &str, &str, &str); 26] = [
    ("id", "bigint", "i", "id::text", "bigint"),
    (
        "updated_at",
        "timestamptz",
        "now() - interval '2 days' + i * interval '1 ms'",
        "updated_at::text",
        "timestamptz",
    ),
    ("small", "smallint", "i % 30000", "small::text", "integer"),
    ("n", "integer", "nullif(i % 7, 0) * -1000", "n::text", "integer"),
    ("amount", "decimal(10,2)", "i * 1.01", "amount::text", "numeric(10,2)"),
    ("exact", "numeric", "i + 0.123456789012345678901234567890", "exact::text", "numeric"),
    ("price", "money", "(i * 0.37)::numeric::money", "price::numeric::text", "numeric"),
    ("single_", "real", "i / 3.0", "single_::text", "text"),
    ("double_", "double precision", "i / 7.0", "double_::text", "double"),
    ("flag", "boolean", "i % 2 = 0", "flag::text", "boolean"),
    ("name", "text", "E'n\\u00e4me \\U0001F600 \\\\ \" \\t' || i", "name", "text"),
    ("padded", "char(8)", "'c' || i % 100", "concat(padded)", "text"),
    ("short", "varchar(40)", "CASE WHEN i % 5 > 0 THEN md5(i::text) END", "short", "text"),
    ("day", "date", "date '2020-02-28' + (i % 3000)::int", "day::text", "date"),
    ("hour", "time", "time '00:00' + i * interval '1.5 s'", "hour::text", "text"),
    (
        "plain",
        "timestamp",
        "timestamp '1999-12-31 23:59:59' + i * interval '1.25 s'",
        "replace(plain::text, ' ', 'T')",
        "text",
    ),
    (
        "zoned",
        "timestamptz",
        "timestamptz '2026-03-29 00:30+00' + i * interval '0.333 s'",
        "zoned::text",
        "timestamptz",
    ),
    ("u", "uuid", "md5(i::text || 'u')::uuid", "u::text", "uuid"),
    ("raw", "bytea", "decode(md5(i::text), 'hex')", "encode(raw, 'base64')", "text"),
    (
        "doc",
        "jsonb",
        "jsonb_build_object('i', i, 'x', 1.10, 't', jsonb_build_array('a', null))",
        "doc::text",
        "jsonb",
    ),
    (
        "plain_doc",
        "json",
        "format(E'{\"b\": %s,\\n \"a\": [1.50]}', i)::json",
        "plain_doc::jsonb::text",
        "jsonb",
    ),
    ("mark", "xml", "xmlelement(name a, i)", "mark::text", "text"),
    ("tags", "text[]", "ARRAY['x', NULL, i::text]", "array_to_json(tags)::jsonb::text", "jsonb"),
    ("span", "interval", "i * interval '1 hour 1.5 s'", "span::text", "text"),
    ("mood", "mood", "(ARRAY['sad', 'ok', 'glad'])[1 + i % 3]::mood", "mood::text", "text"),
    ("ip", "inet", "inet '10.0.0.0' + i", "concat(ip)", "text"),
];

pub struct Shards {
    first: Postgres,
    last: Postgres,
    rows: u64,
}

impl Shards {
    /// Four shards of `rows` rows.
    pub fn start(rows: u64) -> Shards {
        let shards = Shards { first: Postgres::start(), last: Postgres::start(), rows };
        for shard in ["a", "b", "c"] {
            shards.first.sql("postgres", &format!("CREATE DATABASE shard_{shard}"));
        }
        shards.last.sql("postgres", "CREATE DATABASE shard_d");
        let types: Vec<String> =
            COLUMNS.iter().map(|(name, of, ..)| format!("{name} {of}")).collect();
        for shard in SHARDS {
            shards.sql(shard, "CREATE TYPE mood AS ENUM ('sad', 'ok', 'glad')");
            shards.sql(
                shard,
                &format!("CREATE TABLE things ({}, PRIMARY KEY (id))", types.join(", ")),
            );
            shards.insert(shard, 1, rows);
            shards.sql(shard, "CREATE INDEX ON things (updated_at, id); ANALYZE things");
        }
        shards
    }

    /// Makes the table that the template for shards reads, with the same rows of every shard's own.
    pub fn make_customers(&self) {
        for (number, shard) in (0..).zip(SHARDS) {
            let first = number * self.rows;
            self.sql(
                shard,
                &format!(
                    "CREATE TABLE customers (customer_id bigint PRIMARY KEY, first_name text, \
                     last_name text, email text, created_at timestamptz, country text, \
                     amount numeric(10,2), updated_at timestamptz NOT NULL); \
                     INSERT INTO customers SELECT {first} + i, 'n\u{e4}me ' || i, nullif(i % 7, 0)::text, \
                     i || '@example.net', timestamptz '2026-03-29 00:30+00' + i * interval '0.333 s', \
                     (ARRAY['DE', 'FR', NULL])[1 + i % 3], i * 1.01, now() - interval '1 hour' \
                     FROM generate_series(1, {}) AS i; \
                     CREATE INDEX ON customers (updated_at, customer_id)",
                    self.rows
                ),
            );
        }
    }

    /// Fails unless every customer of every shard is in `sink_table` as it is there.
    #[track_caller]
    pub fn customers_are_equal(&self) {
        let fold = |from: &str, own: &str| {
            format!(
                "SET TIME ZONE 'UTC'; SELECT count(*) || ' ' || md5(string_agg(md5(concat_ws('|', \
                 customer_id, first_name, coalesce(last_name, '(null)'), email, created_at, \
                 coalesce(country, '(null)'), amount)), '' ORDER BY customer_id)) FROM {from} {own}"
            )
        };
        for (number, shard) in (0..).zip(SHARDS) {
            let (above, to) = (number * self.rows, (number + 1) * self.rows);
            let own = format!("WHERE customer_id > {above} AND customer_id <= {to}");
            let theirs = self.sql(shard, &fold("customers", ""));
            assert_eq!(self.ask(&fold("sink_table", &own)), theirs, "shard {shard}");
        }
    }

    fn insert(&self, shard: &str, from: u64, to: u64) {
        let values: Vec<&str> = COLUMNS.iter().map(|(_, _, value, ..)| *value).collect();
        let sql = format!(
            "INSERT INTO things SELECT {} FROM generate_series({from}::bigint, {to}) AS i",
            values.join(", ")
        );
        self.sql(shard, &sql);
    }

    fn server(&self, shard: &str) -> &Postgres {
        if shard == "d" { &self.last } else { &self.first }
    }

    pub fn sql(&self, shard: &str, sql: &str) -> String {
        self.server(shard).sql(&format!("shard_{shard}"), sql)
    }

    /// `postgres://…` of the database that has the sink.
    pub fn url(&self) -> String {
        self.first.url()
    }

    /// `postgres://…` of every shard, with commas between.
    pub fn urls(&self) -> String {
        let url =
            |shard: &&str| self.server(shard).url().replace("/etl", &format!("/shard_{shard}"));
        SHARDS.iter().map(url).collect::<Vec<_>>().join(",")
    }

    /// A pipeline that gathers the shards in a table of the first server.
    pub fn pipeline(&self, lag: Duration, mode: &str, more: &str) -> String {
        let columns: Vec<String> =
            COLUMNS.iter().map(|(name, _, _, _, to)| format!("{name}: {to}")).collect();
        format!(
            "name: p\nsource:\n  sql:\n    kind: postgres\n    shards: '{}'\n    names: a,b,c,d\n    \
             connect_retry: {{ wait: 100ms }}\n    page: 700\n    tables:\n      - {{ table: things, \
             key: [id], cursor: updated_at, lag: {}s }}\n    add: {{ shard: shard }}\nload:\n  - \
             postgres:\n      url: {}\n      table: {SINK}\n      {mode}\n      {more}\n      \
             empty_as_null: false\n      columns:\n        shard: text\n        {}\n    batch: {{ \
             records: 500 }}\n",
            self.urls(),
            lag.as_secs(),
            self.first.url(),
            columns.join("\n        "),
        )
    }

    /// The sink's table, with this constraint.
    pub fn make_sink(&self, constraint: &str) {
        let columns: Vec<String> = COLUMNS
            .iter()
            .map(|(name, _, _, _, to)| {
                format!("{name} {}", to.replace("double", "double precision"))
            })
            .collect();
        self.ask(&format!(
            "CREATE TABLE {SINK} (shard text, {}, {constraint})",
            columns.join(", ")
        ));
    }

    /// Asks the database that has the sink.
    #[track_caller]
    pub fn ask(&self, sql: &str) -> String {
        self.first.ask(sql)
    }

    #[track_caller]
    pub fn number(&self, sql: &str) -> u64 {
        self.first.number(sql)
    }

    /// Rows of the sink.
    pub fn has(&self) -> u64 {
        self.number(&format!("SELECT count(*) FROM {SINK}"))
    }

    /// Changes, adds, and adds late, in every shard.
    pub fn change(&self, changed: u64, added: u64, late: u64) {
        for shard in SHARDS {
            let every = self.rows / changed;
            self.sql(
                shard,
                &format!(
                    "UPDATE things SET updated_at = clock_timestamp(), amount = amount + 1, \
                     name = name || ' changed' WHERE id % {every} = 0 AND id <= {}",
                    changed * every
                ),
            );
            self.insert(shard, self.rows + 1, self.rows + added + late);
            self.sql(
                shard,
                &format!(
                    "UPDATE things SET updated_at = clock_timestamp() - interval '2 s' * (id > {})::int \
                     WHERE id > {}",
                    self.rows + added,
                    self.rows
                ),
            );
        }
    }

    pub fn halt_the_last(&mut self) {
        self.last.halt();
    }

    pub fn start_the_last(&mut self) {
        self.last.go();
    }

    /// Fails unless these shards and the sink compute the same checksum.
    #[track_caller]
    pub fn are_equal(&self, shards: &[usize]) {
        let zone = "SET TIME ZONE 'UTC'; SET intervalstyle = 'iso_8601'; ";
        let fold = |expressions: Vec<String>, from: &str| {
            format!(
                "{zone}SELECT count(*) || ' ' || md5(string_agg(md5(concat_ws('|', {})), '' ORDER BY id)) \
                 FROM {from}",
                expressions.join(", ")
            )
        };
        let or_null = |expression: &str| format!("coalesce({expression}, '(null)')");
        let of_source: Vec<String> =
            COLUMNS.iter().map(|(_, _, _, expression, _)| or_null(expression)).collect();
        let of_sink: Vec<String> =
            COLUMNS.iter().map(|(name, ..)| or_null(&format!("{name}::text"))).collect();
        for shard in shards.iter().map(|at| SHARDS[*at]) {
            let theirs = self.sql(shard, &fold(of_source.clone(), "things"));
            let from = format!("{SINK} WHERE shard = '{shard}'");
            let ours = self.ask(&fold(of_sink.clone(), &from));
            if theirs == ours {
                continue;
            }
            let mut differ = String::new();
            for (at, (name, ..)) in COLUMNS.iter().enumerate() {
                let one = |expression: &str, from: &str| {
                    format!("{zone}SELECT {expression} FROM {from} ORDER BY id LIMIT 3")
                };
                let source = self.sql(shard, &one(&of_source[at], "things"));
                let sink = self.ask(&one(&of_sink[at], &from));
                if source != sink {
                    differ += &format!("\n{name}: {source:?} {sink:?}");
                }
            }
            panic!("shard {shard} has {theirs}, the sink {ours}; of the first rows {differ}");
        }
    }
}
