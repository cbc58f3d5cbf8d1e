//! What every sink promises the loader, told once and held against each sink. A
//! new sink adds a [`Place`] and gets the whole suite.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "support/lossy.rs"]
mod lossy;
#[path = "support/postgres.rs"]
mod postgres;
mod support;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use etl::batch::{KeyContext, Payload, Rows};
use etl::config::{Environment, from_str};
use etl::load::answer::Answer;
use etl::load::{HttpSink, Reach, Sink, SinkHome, build};
use etl::telemetry::SinkInput;
use lossy::Lossy;
use mock_load_api_server::{Faults, Server};
use postgres::Postgres;
use rusqlite::Connection;
use support::files::{files_below, records_in};
use support::mock;

/// A sink together with the real thing behind it. What makes it misbehave says whether a
/// place of this kind can; what it can not, it need not answer.
trait Place {
    fn sink(&self) -> &dyn Sink;
    /// Records the place has, each counted as often as it is there.
    fn stored(&self) -> u64;
    /// Makes the place refuse its callers for now.
    fn overload(&self) -> bool {
        false
    }
    /// The wait that a place which refuses for now asks for.
    fn wished_wait(&self) -> Option<Duration> {
        None
    }
    /// Makes the place store the batch and lose its reply.
    fn lose_replies(&self) -> bool {
        false
    }
    /// Makes the place never answer.
    fn hang(&self) -> bool {
        false
    }
    /// Makes the place refuse records that contain `text`.
    fn poison(&self, _text: &str) -> bool {
        false
    }
    /// Makes the place take at most `records` at once.
    fn narrow(&self, _records: usize) -> bool {
        false
    }
    /// Makes the place turn its callers away for good.
    fn turn_away(&self);
    fn heal(&self);
}

struct HttpPlace {
    server: Server,
    sink: HttpSink,
}

impl HttpPlace {
    async fn start(settings: &str) -> HttpPlace {
        let server = mock(Faults::default()).await;
        let text = format!(
            "name: p\nsource: {{ csv: {{ path: x }} }}\nload:\n  - http: {{ url: \"{}/load\"{settings} }}\n    \
             timeout: 1500ms\n",
            server.url()
        );
        let loaded = from_str("p.yaml", &text, &[], &Environment::empty()).unwrap();
        let load = &loaded.pipeline.load[0];
        let sink = HttpSink::new(load, load.http.as_ref().unwrap()).unwrap();
        HttpPlace { server, sink }
    }

    fn set(&self, faults: Faults) -> bool {
        self.server.set_faults(faults).unwrap();
        true
    }
}

impl Place for HttpPlace {
    fn sink(&self) -> &dyn Sink {
        &self.sink
    }

    fn stored(&self) -> u64 {
        self.server.stats().records
    }

    fn overload(&self) -> bool {
        let retry_after = Some(Duration::from_secs(7));
        self.set(Faults { fail: [(503, 1.0)].into(), retry_after, ..Faults::default() })
    }

    fn wished_wait(&self) -> Option<Duration> {
        Some(Duration::from_secs(7))
    }

    fn lose_replies(&self) -> bool {
        self.set(Faults { lose_reply: 1.0, ..Faults::default() })
    }

    fn hang(&self) -> bool {
        self.set(Faults { hang: 1.0, ..Faults::default() })
    }

    fn poison(&self, text: &str) -> bool {
        self.set(Faults { poison: Some(text.to_owned()), ..Faults::default() })
    }

    fn narrow(&self, records: usize) -> bool {
        self.set(Faults { max_records: Some(records), ..Faults::default() })
    }

    fn turn_away(&self) {
        self.set(Faults { fail: [(403, 1.0)].into(), ..Faults::default() });
    }

    fn heal(&self) {
        self.set(Faults::default());
    }
}

/// The sink of a pipeline with this entry under `load`.
fn database_sink(load: &str, directory: &std::path::Path) -> Arc<dyn Sink> {
    let text = format!(
        "name: p\nsource: {{ csv: {{ path: x }} }}\nload:\n  - {load}\n    timeout: 800ms\n"
    );
    let loaded = from_str("p.yaml", &text, &[], &Environment::empty()).unwrap();
    build(
        &loaded.pipeline.load[0],
        &SinkHome { pipeline: "p", directory, input: SinkInput::Transformed },
    )
    .unwrap()
}

const TABLE: &str = "table: t, create: true, columns: { name: text }";

struct PostgresPlace {
    server: Postgres,
    proxy: Lossy,
    sink: Arc<dyn Sink>,
}

impl PostgresPlace {
    fn start(settings: &str) -> PostgresPlace {
        let server = Postgres::start();
        let proxy = Lossy::start(server.port);
        let load = format!(
            "postgres: {{ host: 127.0.0.1, port: {}, database: etl, {TABLE}{settings} }}",
            proxy.port
        );
        let sink = database_sink(&load, std::path::Path::new("/nonexistent"));
        PostgresPlace { server, proxy, sink }
    }

    /// Lets every row raise an error, if `when` holds for it.
    fn raise(&self, code: &str, when: &str) {
        self.server.ask(&format!(
            "CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF {when} THEN RAISE 'on purpose' USING ERRCODE = '{code}'; END IF; RETURN NEW; END $$; \
             DROP TRIGGER IF EXISTS fail ON t; \
             CREATE TRIGGER fail BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION fail()"
        ));
    }
}

impl Place for PostgresPlace {
    fn sink(&self) -> &dyn Sink {
        &*self.sink
    }

    fn stored(&self) -> u64 {
        self.server.number("SELECT count(*) FROM t")
    }

    fn overload(&self) -> bool {
        self.raise("53300", "true");
        true
    }

    fn lose_replies(&self) -> bool {
        self.heal();
        self.proxy.lose_commits(1);
        true
    }

    fn hang(&self) -> bool {
        self.proxy.hang(true);
        true
    }

    fn poison(&self, text: &str) -> bool {
        self.proxy.hang(false);
        self.raise("23514", &format!("NEW.name = '{text}'"));
        true
    }

    fn turn_away(&self) {
        self.heal();
        self.server.ask("ALTER TABLE t RENAME COLUMN name TO other");
    }

    fn heal(&self) {
        self.proxy.hang(false);
        self.server.ask(
            "DROP TRIGGER IF EXISTS fail ON t; DO $$ BEGIN \
             ALTER TABLE t RENAME COLUMN other TO name; EXCEPTION WHEN undefined_column THEN END $$",
        );
    }
}

struct SqlitePlace {
    file: std::path::PathBuf,
    sink: Arc<dyn Sink>,
    /// Another program that writes to the file.
    other: Mutex<Connection>,
    _directory: tempfile::TempDir,
}

impl SqlitePlace {
    fn start() -> SqlitePlace {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().join("data/p");
        let sink = database_sink(&format!("sqlite: {{ url: 'sqlite:x.db', {TABLE} }}"), &home);
        let other = Mutex::new(Connection::open_in_memory().unwrap());
        SqlitePlace { file: home.join("x.db"), sink, other, _directory: directory }
    }

    fn other(&self, sql: &str) {
        let mut other = self.other.lock().unwrap();
        if other.path().is_none_or(str::is_empty) {
            *other = Connection::open(&self.file).unwrap();
        }
        other.busy_timeout(Duration::from_secs(20)).unwrap();
        other.execute_batch(sql).unwrap();
    }
}

impl Place for SqlitePlace {
    fn sink(&self) -> &dyn Sink {
        &*self.sink
    }

    fn stored(&self) -> u64 {
        let other = Connection::open(&self.file).unwrap();
        let count: i64 = other.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        u64::try_from(count).unwrap()
    }

    fn overload(&self) -> bool {
        self.other("BEGIN IMMEDIATE");
        true
    }

    fn hang(&self) -> bool {
        self.other("BEGIN EXCLUSIVE");
        true
    }

    fn poison(&self, text: &str) -> bool {
        self.heal();
        self.other(&format!(
            "CREATE TRIGGER fail BEFORE INSERT ON t WHEN NEW.name = '{text}' \
             BEGIN SELECT RAISE(ABORT, 'on purpose'); END"
        ));
        true
    }

    fn turn_away(&self) {
        self.other("ALTER TABLE t RENAME COLUMN name TO other");
    }

    fn heal(&self) {
        let open = self.other.lock().unwrap().is_autocommit();
        if !open {
            self.other("ROLLBACK");
        }
        self.other("DROP TRIGGER IF EXISTS fail");
        let renamed = self.other.lock().unwrap().prepare("SELECT other FROM t").is_ok();
        if renamed {
            self.other("ALTER TABLE t RENAME COLUMN other TO name");
        }
    }
}

/// A directory that files are written to; turned away, a file stands in its place.
struct FilePlace {
    home: tempfile::TempDir,
    sink: Arc<dyn Sink>,
}

impl FilePlace {
    fn start(kind: &str) -> FilePlace {
        let home = tempfile::tempdir().unwrap();
        let text = format!("name: p\nsource: {{ csv: {{ path: x }} }}\nload:\n  - {kind}\n");
        let loaded = from_str("p.yaml", &text, &[], &Environment::empty()).unwrap();
        let at = SinkHome {
            pipeline: "p",
            directory: &home.path().join("data/p"),
            input: SinkInput::Transformed,
        };
        let sink = etl::load::build(&loaded.pipeline.load[0], &at).unwrap();
        FilePlace { home, sink }
    }

    fn files(&self) -> PathBuf {
        self.home.path().join("data/p/processed")
    }

    fn aside(&self) -> PathBuf {
        self.home.path().join("aside")
    }
}

impl Place for FilePlace {
    fn sink(&self) -> &dyn Sink {
        &*self.sink
    }

    fn stored(&self) -> u64 {
        let files = if self.aside().exists() { self.aside() } else { self.files() };
        files_below(&files).iter().map(|path| records_in(path).len() as u64).sum()
    }

    fn turn_away(&self) {
        std::fs::rename(self.files(), self.aside()).unwrap();
        std::fs::write(self.files(), "in the way").unwrap();
    }

    fn heal(&self) {
        if self.aside().exists() {
            std::fs::remove_file(self.files()).unwrap();
            std::fs::rename(self.aside(), self.files()).unwrap();
        }
    }
}

fn batch(names: &[&str]) -> Payload {
    let mut rows = Rows::default();
    for name in names {
        rows.push(format!("{{\"name\":\"{name}\"}}").as_bytes());
    }
    let keys = KeyContext::new("p", "s", "run");
    let count = names.len() as u64;
    Payload::seal(&mut rows, 0..count, Arc::from("run"), |range, body| keys.key(range, body))
}

/// The suite.
async fn holds(place: &dyn Place) {
    let sink = place.sink();
    let first = batch(&["a", "b", "c"]);

    // A batch is taken whole, and once however often it is sent.
    assert_eq!(sink.deliver(&first).await, Answer::Delivered);
    assert_eq!(sink.deliver(&first).await, Answer::Delivered);
    assert_eq!(place.stored(), 3, "the same key counts once");

    // Overload is for later, and the wished wait is passed on.
    let second = batch(&["d", "e"]);
    if place.overload() {
        let answer = sink.deliver(&second).await;
        let Answer::Retry(failure) = answer else { panic!("{answer:?}") };
        assert_eq!(failure.after, place.wished_wait());
        assert!(!failure.reason.is_empty());
    }

    // Stored, but the reply was lost: for later, and then recognised.
    if place.lose_replies() {
        assert!(matches!(sink.deliver(&second).await, Answer::Retry(_)));
        assert_eq!(place.stored(), 5, "the reply was lost, the batch was not");
    }
    place.heal();
    assert_eq!(sink.deliver(&second).await, Answer::Delivered);
    assert_eq!(place.stored(), 5);

    // No answer is for later too, within the deadline.
    if place.hang() {
        let asked = Instant::now();
        assert!(matches!(sink.deliver(&batch(&["f"])).await, Answer::Retry(_)));
        assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    }

    // A wrong record makes its batch invalid, and none of it is stored.
    if place.poison("bad") {
        assert!(matches!(sink.deliver(&batch(&["g", "bad", "h"])).await, Answer::Invalid(_)));
    }
    if place.narrow(2) {
        assert!(matches!(sink.deliver(&batch(&["i", "j", "k"])).await, Answer::TooLarge(_)));
    }
    place.turn_away();
    let answer = sink.deliver(&batch(&["l"])).await;
    let Answer::Refused(failure) = answer else { panic!("{answer:?}") };
    assert!(!failure.reason.is_empty());
    assert_eq!(place.stored(), 5);
    assert!(!sink.remedy(Some(403)).is_empty());
    assert_ne!(sink.probe().await.reach, Reach::Ready);

    // And afterwards all is well.
    place.heal();
    let probe = sink.probe().await;
    assert_eq!(probe.reach, Reach::Ready, "{}", probe.text);
    assert_eq!(sink.deliver(&batch(&["m"])).await, Answer::Delivered);
    assert_eq!(place.stored(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_http_sink_keeps_the_contract_in_every_version_and_compression() {
    for settings in [
        "",
        ", compression: gzip",
        ", compression: zstd",
        ", version: \"1.1\"",
        ", version: \"2\"",
        ", version: \"2\", compression: gzip",
    ] {
        let place = HttpPlace::start(settings).await;
        holds(&place).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_postgres_sink_keeps_the_contract_by_append_and_by_upsert() {
    for settings in ["", ", mode: upsert, key: [name]"] {
        let place = PostgresPlace::start(settings);
        holds(&place).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sqlite_sink_keeps_the_contract() {
    let place = SqlitePlace::start();
    holds(&place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_sink_keeps_the_contract_in_every_layout() {
    for settings in [
        "",
        "format: ndjson",
        "compression: gzip",
        "format: ndjson, compression: zstd, partition: day",
        "partition: name",
    ] {
        let place = FilePlace::start(&format!("file: {{ {settings} }}"));
        holds(&place).await;
    }
}

#[cfg(feature = "parquet")]
#[tokio::test(flavor = "multi_thread")]
async fn the_parquet_sink_keeps_the_contract() {
    for settings in ["", "compression: zstd, partition: date", "partition: name, row_group: 1"] {
        let place = FilePlace::start(&format!("parquet: {{ {settings} }}"));
        if settings.starts_with("partition: name") {
            // Their only field is the directory's name: there is nothing to make a column of.
            let answer = place.sink().deliver(&batch(&["a"])).await;
            let Answer::Partial(failed) = answer else { panic!("{answer:?}") };
            assert!(failed[0].reason.contains("column"), "{failed:?}");
            continue;
        }
        holds(&place).await;
    }
}
