//! The sinks that write files, with the real binary and real readers: every record is in
//! exactly one file, whatever happens on the way.
//!
//!     cargo test -p etl --test files
//!     bash .ci/python && cargo test -p etl --features parquet,s3 --test files

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use support::Bench;
use support::crash::{Ended, csv_of, kill_at, random};
use support::files::{files_below, records_in};

/// A pipeline from `rows.csv` into the sinks of `load`, YAML below `load:`.
fn pipeline(bench: &Bench, records: u64, load: &str) {
    bench.write("rows.csv", csv_of(records));
    bench
        .write("p.yaml", format!("name: p\nsource:\n  csv: {{ path: rows.csv }}\nload:\n{load}\n"));
}

/// The numbers of the records in `files`, each exactly once.
#[track_caller]
fn exactly_once(files: &[PathBuf], records: u64) {
    let mut ids: Vec<u64> = files
        .iter()
        .flat_map(|path| records_in(path))
        .map(|record| record["id"].as_u64().unwrap())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids.len() as u64, records, "in {} files", files.len());
    assert!(ids.iter().copied().eq(0..records), "some are doubled");
}

/// A number of the sink `sink`.
fn counted(ran: &support::Ran, sink: &str, column: &str) -> u64 {
    ran.json()["sinks"][sink][column].as_u64().unwrap()
}

#[test]
fn rows_become_files_in_every_layout_and_a_second_run_adds_nothing() {
    for (settings, extension) in [
        ("{}", "json"),
        ("{ format: ndjson }", "ndjson"),
        ("{ compression: gzip, prefix: rows-2 }", "json.gz"),
        ("{ format: ndjson, compression: zstd }", "ndjson.zst"),
    ] {
        let bench = Bench::new();
        pipeline(&bench, 1000, &format!("  - file: {settings}\n    batch: {{ records: 300 }}"));
        let ran = bench.run(&[]).exits(0);
        assert_eq!(counted(&ran, "file", "delivered"), 1000);
        let files = files_below(&bench.path("data/p/processed"));
        assert_eq!(files.len(), 4, "{files:?}");
        for path in &files {
            let name = path.file_name().unwrap().to_str().unwrap();
            let prefix = if settings.contains("rows-2") { "rows-2_2" } else { "p_2" };
            assert!(name.starts_with(prefix) && name.ends_with(extension), "{name}");
        }
        exactly_once(&files, 1000);

        bench.run(&[]).exits(0);
        assert_eq!(files_below(&bench.path("data/p/processed")), files, "loaded once");
        bench.run(&["--fresh"]).exits(0);
        assert_eq!(files_below(&bench.path("data/p/processed")).len(), 8, "a run of its own");
    }
}

#[test]
fn raw_and_processed_have_their_directories_and_a_path_is_relative_to_the_file() {
    let bench = Bench::new();
    pipeline(
        &bench,
        10,
        "  - file: {}\n  - name: copy\n    file: { path: out/copy }\nraw:\n  - name: raw\n    file: {}",
    );
    bench.run(&[]).exits(0);
    for directory in ["data/p/raw", "data/p/processed", "out/copy"] {
        exactly_once(&files_below(&bench.path(directory)), 10);
    }
    let json = files_below(&bench.path("out/copy")).remove(0);
    let text = std::fs::read_to_string(json).unwrap();
    assert!(text.starts_with("[\n  {\n    \"id\": 0,\n"), "{text}");
}

#[test]
fn partitions_spread_records_and_hostile_values_stay_inside() {
    let bench = Bench::new();
    let rows = "id,at,place\n0,2026-11-20T23:30:00Z,Bern\n1,2026-11-21T00:30:00+02:00,../../x\n\
                2,2026-11-21T00:30:00Z,..\n3,not a time,a/b\n4,2026-11-21,\n";
    bench.write("rows.csv", rows);
    bench.write(
        "p.yaml",
        "name: p\nsource: { csv: { path: rows.csv } }\nload:\n  \
         - name: days\n    max_rejected: 50%\n    \
           file: { path: out/days, format: ndjson, partition: day, partition_by: at }\n  \
         - name: places\n    file: { path: out/places, format: ndjson, partition: place }\n",
    );
    let ran = bench.run(&[]).exits(65);
    assert_eq!(counted(&ran, "days", "dead_lettered"), 1);
    assert_eq!(counted(&ran, "places", "delivered"), 5);
    let below = |directory: &str| -> BTreeSet<String> {
        let root = bench.path(directory);
        let steps = |path: &PathBuf| {
            path.parent().unwrap().strip_prefix(&root).unwrap().to_str().unwrap().to_owned()
        };
        files_below(&root).iter().map(steps).collect()
    };
    assert_eq!(
        below("out/days"),
        BTreeSet::from(
            ["year=2026/month=11/day=20", "year=2026/month=11/day=21"].map(str::to_owned)
        )
    );
    assert_eq!(
        below("out/places"),
        BTreeSet::from(
            [
                "place=..%2F..%2Fx",
                "place=..",
                "place=Bern",
                "place=a%2Fb",
                "place=__HIVE_DEFAULT_PARTITION__"
            ]
            .map(str::to_owned)
        )
    );
    assert!(!bench.path("out/x").exists() && !bench.path("x").exists());
    let dead = bench.etl(&["spool", "cat", "p", "--dead"]);
    assert!(dead.stdout.contains("is not a time"), "{}{}", dead.stdout, dead.stderr);
}

/// Kills runs at random instants until enough hit their work, then lets one end.
fn kill_and_resume(load: &str, directory: &Path, bench: &Bench) {
    const RECORDS: u64 = 4000;
    // A whole run takes longer than any of the instants, on however fast a machine.
    pipeline(bench, RECORDS, &format!("{load}\n    rate: 60/s"));
    let mut random = random(4);
    let (mut hits, mut kills) = (0, 0);
    while hits < 3 && kills < 40 {
        let (mut run, began) = (bench.start(&[]), Instant::now());
        let ended = kill_at(&mut run, began, Duration::from_millis(random.u64(20..700)));
        kills += 1;
        match ended {
            Ended::Killed => hits += u32::from(!files_below(directory).is_empty()),
            Ended::Before(status) => {
                assert_eq!(status.code(), Some(0));
                break;
            }
        }
    }
    assert!(hits > 0, "no kill hit a run at work, out of {kills}");
    bench.run(&[]).exits(0);
    exactly_once(&files_below(directory), RECORDS);
}

#[test]
fn kills_at_random_instants_neither_lose_nor_double_a_record() {
    for settings in ["format: ndjson", "compression: gzip, partition: value"] {
        let bench = Bench::new();
        let load = format!(
            "  - file: {{ path: out, {settings} }}\n    workers: 2\n    \
             batch: {{ records: 40 }}\n    spool: {{ min_free: 1MiB }}"
        );
        kill_and_resume(&load, &bench.path("out"), &bench);
    }
}

/// The acknowledgement of a batch is lost when the process dies after the rename: written
/// ahead, it is in the spool and comes again.
#[test]
fn a_batch_that_comes_again_from_the_spool_finds_its_file() {
    let bench = Bench::new();
    let load = "  - file: { path: out }\n    workers: 2\n    batch: { records: 40 }\n    \
                spool: { mode: write_ahead, min_free: 1MiB }";
    kill_and_resume(load, &bench.path("out"), &bench);
}

#[test]
fn a_file_in_the_way_keeps_everything_in_the_spool_and_says_what_to_do() {
    let bench = Bench::new();
    pipeline(&bench, 100, "  - file: { path: out }\n    spool: { min_free: 1MiB }");
    bench.write("out", "not a directory");
    let ran = bench.run(&[]).exits(75);
    assert_eq!(counted(&ran, "file", "spooled"), 100);
    assert!(ran.stderr.contains("is in the way"), "{}", ran.stderr);
    let doctor = bench.etl(&["doctor", "p.yaml"]);
    assert!(doctor.stdout.contains("FAIL  load file"), "{}{}", doctor.stdout, doctor.stderr);
    std::fs::remove_file(bench.path("out")).unwrap();
    let doctor = bench.etl(&["doctor", "p.yaml"]).exits(0);
    assert!(doctor.stdout.contains("writable"), "{}", doctor.stdout);
    assert!(!bench.path("out").exists(), "the doctor leaves nothing behind");
    bench.run(&[]).exits(0);
    exactly_once(&files_below(&bench.path("out")), 100);
}

/// `program` as root; tests that mount need it.
fn privileged(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut sudo = Command::new("sudo");
    sudo.args(["--non-interactive", program]);
    sudo
}

/// A disk in memory of its own, unmounted in the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf, size: &str) -> SmallDisk {
        std::fs::create_dir(&at).unwrap();
        let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
        let options = format!("size={size},uid={},gid={},mode=700", user.as_raw(), group.as_raw());
        let mut command = privileged("mount");
        command.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&at);
        let mounted = command.status().is_ok_and(|status| status.success());
        assert!(mounted, "mounting a small disk needs root, or sudo without a password");
        SmallDisk(at)
    }

    fn remount(&self, option: &str) {
        let options = format!("remount,{option}");
        let mut command = privileged("mount");
        assert!(command.args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        privileged("umount").arg("--lazy").arg(&self.0).status().ok();
    }
}

#[test]
fn a_full_disk_and_a_read_only_one_leave_the_rest_in_the_spool() {
    let bench = Bench::new();
    let disk = SmallDisk::mount(bench.path("out"), "256k");
    let load = "  - file: { path: out }\n    workers: 1\n    batch: { records: 100 }\n    \
                retry: { attempts: 2, base: 10ms, cap: 50ms }\n    spool: { min_free: 1MiB }";
    pipeline(&bench, 10_000, load);
    let ran = bench.run(&[]).exits(75);
    let (delivered, spooled) =
        (counted(&ran, "file", "delivered"), counted(&ran, "file", "spooled"));
    assert!(delivered > 0 && spooled > 0 && delivered + spooled == 10_000, "{}", ran.stdout);
    assert!(ran.stderr.contains("free space"), "{}", ran.stderr);
    let hidden = std::fs::read_dir(bench.path("out"))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(hidden.count(), 0, "nothing half-written stays");

    disk.remount("size=16m,ro");
    let ran = bench.run(&[]).exits(75);
    assert!(ran.stderr.contains("mount the file system writable"), "{}", ran.stderr);
    assert_eq!(counted(&ran, "file", "delivered"), 0);

    disk.remount("rw");
    bench.run(&[]).exits(0);
    exactly_once(&files_below(&bench.path("out")), 10_000);
}

#[cfg(not(feature = "parquet"))]
#[test]
fn without_the_feature_the_kind_is_refused_and_says_how_to_get_it() {
    let bench = Bench::new();
    pipeline(&bench, 1, "  - parquet: {}");
    for command in ["check", "run"] {
        let refused = bench.etl(&[command, "p.yaml"]).exits(78);
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(said.contains("--features parquet"), "{said}");
    }
}

#[cfg(feature = "parquet")]
mod parquet {
    use serde_json::Value;

    use super::*;
    use support::files::python_says;

    /// What pyarrow says of the files below a directory, as one table and one by one.
    const TABLE: &str = "import sys, json, pathlib, pyarrow.parquet as pq, pyarrow.dataset as ds\n\
        files = sorted(str(p) for p in pathlib.Path(sys.argv[1]).rglob('*.parquet'))\n\
        table = ds.dataset(sys.argv[1], format='parquet', partitioning='hive').to_table()\n\
        first = pq.ParquetFile(files[0])\n\
        print(json.dumps({\n\
          'schema': {f.name: str(f.type) for f in table.schema},\n\
          'rows': table.to_pylist(),\n\
          'files': len(files),\n\
          'groups': [first.metadata.row_group(g).num_rows for g in range(first.num_row_groups)],\n\
          'compression': first.metadata.row_group(0).column(0).compression,\n\
          'metadata': {k.decode(): v.decode() for k, v in first.metadata.metadata.items()},\n\
        }, default=str))";

    fn table(bench: &Bench, directory: &str) -> Value {
        python_says(TABLE, &[bench.path(directory).to_str().unwrap()])
    }

    #[test]
    fn an_independent_reader_finds_types_values_row_groups_and_where_it_came_from() {
        let bench = Bench::new();
        bench.write(
            "rows.csv",
            "id,price,at,day,name\n0,1.50,2026-11-21T12:25:30.5+01:00,2026-11-21,Zoé\n\
             1,-0.01,2026-11-21T00:00:00Z,2024-02-29,\n2,999999.99,1795263930,1970-01-01,x\n",
        );
        bench.write(
            "p.yaml",
            "name: p\nsource: { csv: { path: rows.csv } }\nload:\n  - parquet:\n      \
             schema: { price: 'decimal(18,2)', at: timestamp, day: date }\n      \
             partition: date\n      row_group: 2\n",
        );
        bench.run(&[]).exits(0);
        let found = table(&bench, "data/p/processed");
        let schema = &found["schema"];
        for (column, kind) in [
            ("id", "int64"),
            ("price", "decimal128(18, 2)"),
            ("at", "timestamp[us, tz=UTC]"),
            ("day", "date32[day]"),
            ("name", "string"),
            ("date", "string"),
        ] {
            assert_eq!(schema[column], kind, "{schema}");
        }
        let rows = found["rows"].as_array().unwrap();
        let column = |name: &str| rows.iter().map(|row| row[name].clone()).collect::<Vec<_>>();
        assert_eq!(column("price"), ["1.50", "-0.01", "999999.99"]);
        assert_eq!(column("day"), ["2026-11-21", "2024-02-29", "1970-01-01"]);
        assert_eq!(column("at")[0], "2026-11-21 11:25:30.500000+00:00");
        assert_eq!(column("at")[2], "2026-11-21 12:25:30+00:00");
        assert_eq!(column("name"), ["Zoé", "", "x"]);
        assert_eq!(found["groups"], serde_json::json!([2, 1]));
        assert_eq!(found["compression"], "SNAPPY");
        let metadata = &found["metadata"];
        assert_eq!(metadata["etl.pipeline"], "p");
        assert_eq!(metadata["etl.batch_key"].as_str().unwrap().len(), 32, "{metadata}");
    }

    #[test]
    fn new_fields_become_columns_and_what_does_not_fit_is_dead_lettered_alone() {
        let bench = Bench::new();
        let load = "  - parquet: { path: out, compression: zstd }\n    max_rejected: 50%\n    \
                    batch: { records: 2 }\n    channel: 2\n    workers: 1";
        pipeline(&bench, 0, load);
        bench.write("rows.csv", "id,n\n0,1\n1,2\n2,many\n3,4\n4,1.5\n5,6\n");
        let ran = bench.run(&[]).exits(65);
        assert_eq!(counted(&ran, "parquet", "delivered"), 4);
        assert_eq!(counted(&ran, "parquet", "dead_lettered"), 2);
        let dead = bench.etl(&["spool", "cat", "p", "--dead"]).stdout;
        assert!(dead.contains("n: \\\"many\\\" is not what the column holds, int64"), "{dead}");
        assert!(dead.contains("n: 1.5 is not what the column holds, int64"), "{dead}");

        bench.write("rows.csv", "id,n,more\n6,7,text\n");
        bench.run(&[]).exits(0);
        let found = table(&bench, "out");
        let rows = found["rows"].as_array().unwrap();
        let ids: BTreeSet<u64> = rows.iter().map(|row| row["id"].as_u64().unwrap()).collect();
        assert_eq!(ids, BTreeSet::from([0, 1, 3, 5, 6]));
        assert_eq!(found["compression"], "ZSTD");
        let kept = std::fs::read_to_string(bench.path("data/p/state/parquet.schema.json")).unwrap();
        assert!(kept.contains("more"), "{kept}");
    }

    #[test]
    fn kills_at_random_instants_neither_lose_nor_double_a_record() {
        let bench = Bench::new();
        let load = "  - parquet: { path: out, partition: date }\n    workers: 2\n    \
                    batch: { records: 40 }\n    spool: { min_free: 1MiB }";
        kill_and_resume(load, &bench.path("out"), &bench);
    }
}

#[cfg(feature = "s3")]
mod s3 {
    use super::*;
    use support::files::{Store, records_of};

    const KEY: &str = "AKIACANARYCANARY";
    const SECRET: &str = "canary/secret/7f3a";

    fn command(bench: &Bench, store: &Store, arguments: &[&str]) -> Command {
        let mut command = bench.command(arguments);
        command
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .env("AWS_ENDPOINT_URL", &store.url)
            .env_remove("AWS_SESSION_TOKEN");
        command
    }

    fn run(bench: &Bench, store: &Store) -> support::Ran {
        command(bench, store, &["run", "p.yaml", "--json"]).output().unwrap().into()
    }

    #[track_caller]
    fn stored_exactly_once(store: &Store, records: u64) {
        let mut ids: Vec<u64> = store
            .objects()
            .iter()
            .flat_map(|(name, bytes)| records_of(name, bytes))
            .map(|record| record["id"].as_u64().unwrap())
            .collect();
        ids.sort_unstable();
        assert!(ids.iter().copied().eq(0..records), "{} of {records}", ids.len());
    }

    const LOAD: &str = "  - file: { path: s3://bucket/deep/prefix, format: ndjson, partition: date }\n    \
                        batch: { records: 50 }\n    retry: { attempts: 2, base: 10ms, cap: 50ms }\n    \
                        spool: { min_free: 1MiB }";

    #[test]
    fn kills_neither_lose_nor_double_an_object_and_credentials_stay_secret() {
        let (bench, store) = (Bench::new(), Store::start());
        pipeline(&bench, 3000, LOAD);
        let mut random = random(5);
        for _ in 0..6 {
            let mut command = command(&bench, &store, &["run", "p.yaml", "--json"]);
            let (mut run, began) = (command.spawn().unwrap(), Instant::now());
            kill_at(&mut run, began, Duration::from_millis(random.u64(50..900)));
        }
        let ran = run(&bench, &store).exits(0);
        stored_exactly_once(&store, 3000);
        let (name, _) = store.objects().remove(0);
        assert!(name.starts_with("deep/prefix/date=20"), "{name}");

        let mut told = format!("{}{}", ran.stdout, ran.stderr).into_bytes();
        for path in files_below(&bench.path("data")).iter().chain(&files_below(&bench.path("logs")))
        {
            told.extend(std::fs::read(path).unwrap());
        }
        let told = String::from_utf8_lossy(&told);
        assert!(!told.contains(KEY) && !told.contains(SECRET));
    }

    #[test]
    fn a_store_that_is_away_or_has_no_bucket_keeps_everything_in_the_spool() {
        let bench = Bench::new();
        pipeline(&bench, 500, &LOAD.replace("bucket", "elsewhere"));
        let store = Store::start();
        let ran = run(&bench, &store).exits(75);
        assert!(ran.stderr.contains("NoSuchBucket"), "{}", ran.stderr);
        let doctor: support::Ran =
            command(&bench, &store, &["doctor", "p.yaml"]).output().unwrap().into();
        assert!(doctor.stdout.contains("FAIL  load file"), "{}", doctor.stdout);
        pipeline(&bench, 500, LOAD);
        let nobody = "http://127.0.0.1:1";
        let mut away = command(&bench, &store, &["run", "p.yaml", "--json"]);
        let ran: support::Ran = away.env("AWS_ENDPOINT_URL", nobody).output().unwrap().into();
        let ran = ran.exits(75);
        assert!(ran.stderr.contains("connection refused"), "{}", ran.stderr);
        let doctor: support::Ran =
            command(&bench, &store, &["doctor", "p.yaml"]).output().unwrap().into();
        assert!(doctor.exits(0).stdout.contains("answers"));
    }

    #[test]
    fn plain_http_to_another_host_is_refused() {
        let bench = Bench::new();
        pipeline(&bench, 1, LOAD);
        let mut command = bench.command(&["run", "p.yaml"]);
        let refused: support::Ran =
            command.env("AWS_ENDPOINT_URL", "http://192.0.2.1:9000").output().unwrap().into();
        let refused = refused.exits(78);
        assert!(refused.stderr.contains("unencrypted"), "{}", refused.stderr);
    }
}
