//! What people give as input: each of it has an explicit result, a message that
//! names the file and what to do, and bounded memory.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "support/peak.rs"]
mod peak;
mod support;

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};

use mock_load_api_server::Faults;
use support::{Bench, Ran, each_exactly_once, mock};

const PEAK_MIB_MAX: u64 = 256;

/// How an input ends: exit code, records extracted and rejected, and words that
/// people must find on stderr.
type End = (i32, u64, u64, &'static [&'static str]);

struct Case {
    name: &'static str,
    /// Puts `rows.csv` there, or what takes its place.
    make: fn(&Bench),
    end: End,
}

/// A run of the pipeline of `rows.csv`, with its memory under the bound.
fn run(bench: &Bench, more: &[&str]) -> Ran {
    let (output, peak_mib) = peak::to_the_end(bench.start(more));
    assert!(peak_mib < PEAK_MIB_MAX, "{peak_mib} MiB");
    Ran::from(output)
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// `count` rows that do not compress to nothing.
fn many(count: usize) -> String {
    let mut rows = "ip,hostname\n".to_owned();
    for n in 0..count {
        let noise = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        writeln!(rows, "10.{}.{}.{},device-{n}-{noise:x}", n >> 16, (n >> 8) & 255, n & 255)
            .unwrap();
    }
    rows
}

const NAMES_AND_REMEDY: &[&str] = &["rows.csv"];

fn cases() -> Vec<Case> {
    let case = |name, make, end| Case { name, make, end };
    vec![
        case("ten times the usual", |b| put(b, many(40_000)), (0, 40_000, 0, &[])),
        case("gzip by its content", |b| put(b, gzipped(many(3000).as_bytes())), (0, 3000, 0, &[])),
        case("a byte order mark", |b| put(b, "\u{feff}ip,hostname\n1,a\n"), (0, 1, 0, &[])),
        case("CRLF, no last line end", |b| put(b, "ip,hostname\r\n1,a\r\n2,b"), (0, 2, 0, &[])),
        case("NUL", |b| put(b, b"ip,hostname\n1,a\0b\n\0,c\n"), (0, 2, 0, &[])),
        case(
            "invalid UTF-8",
            |b| put(b, b"ip,hostname\n1,a\xff\n2,b\n"),
            (65, 2, 1, &["rows.csv:2", "UTF-8"]),
        ),
        case(
            "ragged rows",
            |b| put(b, "ip,hostname\n1\n2,b,c\n3,d\n"),
            (65, 3, 2, &["rows.csv:2"]),
        ),
        case(
            "an open quote",
            |b| put(b, "ip,hostname\n1,\"a\n2,b\n"),
            (65, 2, 1, &["rows.csv:2", "quote"]),
        ),
        case(
            "UTF-16",
            |b| put(b, b"\xff\xfei\0p\0\n\0"),
            (69, 0, 0, &["rows.csv", "save it as UTF-8"]),
        ),
        case(
            "duplicate headers",
            |b| put(b, "ip,ip\n1,2\n"),
            (69, 0, 0, &["rows.csv:1", "both called ip", "rename"]),
        ),
        case(
            "a column without a name",
            |b| put(b, "ip,\n1,2\n"),
            (69, 0, 0, &["rows.csv:1", "column 2 has no name"]),
        ),
        case("empty", |b| put(b, ""), (69, 0, 0, &["rows.csv is empty"])),
        case("a header alone", |b| put(b, "ip,hostname\n"), (0, 0, 0, &[])),
        case("missing", |_| {}, (69, 0, 0, &["rows.csv: no such file"])),
        case(
            "a directory",
            |b| std::fs::create_dir(b.path("rows.csv")).unwrap(),
            (69, 0, 0, &["rows.csv is a directory", "regular file"]),
        ),
        case("a named pipe", fifo, (69, 0, 0, &["rows.csv is a named pipe", "regular file"])),
        case(
            "a device",
            |b| symlink("/dev/zero", b.path("rows.csv")).unwrap(),
            (69, 0, 0, &["is a device", "regular file"]),
        ),
        case(
            "a symbolic link",
            |b| {
                b.write("there.csv", "ip,hostname\n1,a\n");
                symlink("there.csv", b.path("rows.csv")).unwrap();
            },
            (0, 1, 0, &[]),
        ),
        case(
            "a link to nowhere",
            |b| symlink("gone.csv", b.path("rows.csv")).unwrap(),
            (69, 0, 0, &["rows.csv: no such file"]),
        ),
        case(
            "a link to itself",
            |b| symlink("rows.csv", b.path("rows.csv")).unwrap(),
            (69, 0, 0, NAMES_AND_REMEDY),
        ),
        case(
            "gzip in name only",
            |b| {
                b.write("rows.csv.gz", "ip,hostname\n1,a\n");
                b.write(
                    "p.yaml",
                    std::fs::read_to_string(b.path("p.yaml"))
                        .unwrap()
                        .replace("rows.csv", "rows.csv.gz"),
                );
            },
            (69, 0, 0, &["rows.csv.gz", "not gzip", "rename it"]),
        ),
        case(
            "gzip cut in its header",
            |b| put(b, &gzipped(b"ip,hostname\n1,a\n")[..9]),
            (69, 0, 0, NAMES_AND_REMEDY),
        ),
        case("a gzip bomb in one row", gzip_bomb, (65, 1, 1, &["rows.csv:2"])),
    ]
}

fn put(bench: &Bench, content: impl AsRef<[u8]>) {
    bench.write("rows.csv", content);
}

fn fifo(bench: &Bench) {
    let made = std::process::Command::new("mkfifo").arg(bench.path("rows.csv")).status().unwrap();
    assert!(made.success());
}

/// 40 MiB of one field in a small file.
fn gzip_bomb(bench: &Bench) {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"ip,hostname\n1,").unwrap();
    for _ in 0..40 {
        gzip.write_all(&[b'a'; 1 << 20]).unwrap();
    }
    gzip.write_all(b"\n").unwrap();
    put(bench, gzip.finish().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_data_file_has_an_explicit_result() {
    for Case { name, make, end: (code, extracted, rejected, says) } in cases() {
        let (bench, server) = (Bench::new(), mock(Faults::default()).await);
        bench.rows("", &server.url(), "", "");
        std::fs::remove_file(bench.path("rows.csv")).unwrap();
        make(&bench);
        let ran = run(&bench, &[]);
        assert_eq!(ran.code, Some(code), "{name}: {}{}", ran.stdout, ran.stderr);
        for words in says {
            assert!(ran.stderr.contains(words), "{name}: `{words}` is not in {}", ran.stderr);
        }
        if !ran.stdout.is_empty() {
            assert_eq!(ran.json()["balanced"], true, "{name}: {}", ran.stdout);
            let counted = (ran.total("extracted"), ran.total("rejected"));
            assert_eq!(counted, (extracted, rejected), "{name}: {}", ran.stdout);
        }
        each_exactly_once(&server, extracted - rejected);
    }
}

/// The same for an inventory: no target is polled twice or under a wrong name.
#[tokio::test(flavor = "multi_thread")]
async fn every_inventory_has_an_explicit_result() {
    for Case { name, make, end: (code, extracted, rejected, says) } in cases() {
        if code != 69 {
            continue;
        }
        let (bench, server) = (Bench::new(), mock(Faults::default()).await);
        bench.fleet(&server.url(), "");
        let pipeline = std::fs::read_to_string(bench.path("p.yaml")).unwrap();
        bench.write("p.yaml", pipeline.replace("appliances.csv", "rows.csv"));
        make(&bench);
        let ran = run(&bench, &[]);
        assert_eq!(ran.code, Some(code), "{name}: {}{}", ran.stdout, ran.stderr);
        assert_eq!((extracted, rejected), (0, 0));
        for words in says {
            assert!(ran.stderr.contains(words), "{name}: `{words}` is not in {}", ran.stderr);
        }
        each_exactly_once(&server, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gzip_that_ends_in_the_middle_delivers_what_could_be_read_and_says_so() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    let whole = gzipped(many(20_000).as_bytes());
    bench.rows(&whole[..whole.len() / 2], &server.url(), "", "");
    let ran = run(&bench, &[]).exits(69);
    let extracted = ran.total("extracted");
    assert!((1000..19_999).contains(&extracted), "{extracted}");
    assert!(ran.stderr.contains("rows.csv") && ran.stderr.contains("after line"), "{}", ran.stderr);
    assert_eq!(ran.json()["complete"], false);
    assert_eq!(ran.json()["balanced"], true);
    each_exactly_once(&server, extracted);
}

/// 100 MB without a line end: one row is rejected, the rows around it are not.
#[tokio::test(flavor = "multi_thread")]
async fn a_field_of_100_mb_is_one_rejected_row() {
    for quote in ["", "\""] {
        let (bench, server) = (Bench::new(), mock(Faults::default()).await);
        let field = "x".repeat(100_000_000);
        let csv = format!("ip,hostname\n1,a\n2,{quote}{field}{quote}\n3,c\n");
        bench.rows(csv, &server.url(), "", "");
        let ran = run(&bench, &[]).exits(65);
        assert!(ran.stderr.contains("rows.csv:3"), "{}", ran.stderr);
        assert_eq!((ran.total("extracted"), ran.total("rejected")), (3, 1), "{}", ran.stdout);
        each_exactly_once(&server, 2);
    }
}

/// 10 MB in one field is no reason to refuse it: it travels alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_field_of_10_mb_is_delivered() {
    let faults = Faults { max_body: 64 << 20, ..Faults::default() };
    let (bench, server) = (Bench::new(), mock(faults).await);
    let csv = format!("ip,hostname\n1,a\n2,{}\n3,c\n", "x".repeat(10_000_000));
    bench.rows(csv, &server.url(), "", "timeout: 20s");
    let ran = run(&bench, &[]).exits(0);
    assert_eq!(ran.sink("delivered"), 3);
    each_exactly_once(&server, 3);
}

/// Root may read everything, so the file is refused by a process without that power.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_may_not_be_read_is_named() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    bench.rows("ip,hostname\n1,a\n", &server.url(), "", "");
    let path = bench.path("rows.csv");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    let ran =
        if rustix::process::geteuid().is_root() { without_power(&bench) } else { run(&bench, &[]) };
    assert_eq!(ran.code, Some(69), "{}", ran.stderr);
    assert!(ran.stderr.contains("rows.csv: permission denied"), "{}", ran.stderr);
    each_exactly_once(&server, 0);
}

/// A run by root without the capability to pass over permissions.
fn without_power(bench: &Bench) -> Ran {
    let drop = ["--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"];
    std::process::Command::new("setpriv")
        .args(drop)
        .args([env!("CARGO_BIN_EXE_etl"), "run", "p.yaml", "--json"])
        .current_dir(bench.path(""))
        .output()
        .unwrap()
        .into()
}
