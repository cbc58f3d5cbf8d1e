//! Secrets never show, what waits on disk is private, and foreign text and files
//! are harmless.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "support/front.rs"]
mod front;
#[path = "support/peak.rs"]
mod peak;
mod support;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use front::{Act, Front, answer};
use mock_load_api_server::Faults;
use support::{Bench, Ran, down, each_exactly_once, files_of, mock, wait_until};

/// Each place has a canary of its own, so that a find says where it came from.
const CANARIES: [&str; 5] =
    ["canaryTOKEN7f3a", "canaryHEADER91bc", "canaryFILE2d4e", "canaryUSER55aa", "canaryQUERY0c1d"];
const TOKEN: &str = CANARIES[0];
const HEADER: &str = CANARIES[1];
const FILE: &str = CANARIES[2];
const USER: &str = CANARIES[3];
const QUERY: &str = CANARIES[4];

/// A pipeline with secrets wherever one can stand.
///
/// A user in the address is refused at start, so only the test of that has one.
fn pipeline(bench: &Bench, url: &str, token: &str) -> String {
    bench.inventory(60);
    bench.fleet(url, "batch: { records: 10 }\nretry: { attempts: 2, base: 5ms, cap: 20ms }");
    let text = std::fs::read_to_string(bench.path("p.yaml")).unwrap();
    let address = url.trim_start_matches("http://");
    let secret = format!(
        "http:\n      url: \"http://{address}/load?key={QUERY}\"\n      \
         {token}\n      headers: {{ X-Api-Key: {HEADER} }}\n"
    );
    let plain = format!("http: {{ url: \"{url}/load\" }}\n");
    assert!(text.contains(&plain));
    text.replace(&plain, &secret)
}

/// Every regular file under a directory.
fn all_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.symlink_metadata().unwrap() {
            facts if facts.is_dir() => files.extend(all_files(&path)),
            facts if facts.is_file() => files.push(path),
            _ => {}
        }
    }
    files
}

#[track_caller]
fn nowhere(what: &str, bytes: &[u8]) {
    for canary in CANARIES {
        let found = bytes.windows(canary.len()).any(|part| part == canary.as_bytes());
        assert!(!found, "{canary} is in {what}: {}", String::from_utf8_lossy(bytes));
    }
}

/// Looks into everything that `etl` wrote; spool files unpacked as well.
fn nowhere_in_files(bench: &Bench) {
    let mut seen = 0;
    for path in [all_files(&bench.path("data")), all_files(&bench.path("logs"))].concat() {
        let bytes = std::fs::read(&path).unwrap();
        nowhere(&path.display().to_string(), &bytes);
        if bytes.starts_with(b"\x1f\x8b") {
            let mut plain = Vec::new();
            let mut gzip = flate2::read::MultiGzDecoder::new(&bytes[..]);
            std::io::Read::read_to_end(&mut gzip, &mut plain).unwrap();
            nowhere(&path.display().to_string(), &plain);
        }
        let mode = path.metadata().unwrap().permissions().mode() & 0o777;
        let spooled = path.starts_with(bench.path("data/p/spool"));
        assert!(!spooled || mode == 0o600, "{} has mode {mode:o}", path.display());
        seen += 1;
    }
    assert!(seen > 8, "only {seen} files: the test looks in the wrong place");
}

fn said(bench: &Bench, args: &[&str]) -> Ran {
    let mut command = bench.command(args);
    command.env("LOAD_API_TOKEN", TOKEN);
    let ran = Ran::from(command.output().unwrap());
    let what = format!("the output of etl {args:?}");
    nowhere(&what, ran.stdout.as_bytes());
    nowhere(&what, ran.stderr.as_bytes());
    ran
}

/// Runs with failures, poison and all the logs there are, and every command that shows something.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_in_no_file_output_or_command_line() {
    let server = mock(Faults::default()).await;
    let bench = Bench::new();
    bench.write("token.txt", FILE);
    for token in ["token: ${LOAD_API_TOKEN}", "token_file: token.txt"] {
        let text = pipeline(&bench, &server.url(), token);
        bench.write("p.yaml", &text);
        let poison = Some("device-7\"".to_owned());
        for faults in [
            Faults { fail: [(401, 1.0)].into(), ..Faults::default() },
            Faults { fail: [(302, 1.0)].into(), ..Faults::default() },
            down(),
            Faults { poison, ..Faults::default() },
        ] {
            server.set_faults(faults).unwrap();
            let ran = said(&bench, &["run", "p.yaml", "--json", "-vv"]);
            assert!([Some(75), Some(65)].contains(&ran.code), "{:?} {}", ran.code, ran.stderr);
            said(&bench, &["run", "p.yaml", "-vv", "--log-json", "--set", "load.0.workers=2"]);
        }
        for args in [
            &["doctor", "p.yaml"][..],
            &["doctor", "p.yaml", "--json"],
            &["check", "p.yaml", "--json"],
            &["runs", "--json"],
            &["spool", "ls", "--json"],
            &["spool", "ls", "--files"],
            &["spool", "cat", "--json"],
            &["spool", "cat", "--dead"],
            &["spool", "verify", "--json"],
        ] {
            said(&bench, args);
        }
    }
    nowhere_in_files(&bench);
    assert!(server.stats().records > 0, "nothing was ever accepted: the test is too strict");
}

/// Mistakes on the very lines that hold secrets are shown without them.
#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_beside_a_secret_is_shown_without_it() {
    let bench = Bench::new();
    let text = pipeline(&bench, "http://127.0.0.1:9", &format!("token: {TOKEN}"));
    for (right, wrong) in [
        (format!("token: {TOKEN}"), format!("tokne: {TOKEN}")),
        (format!("token: {TOKEN}"), format!("token: [{TOKEN}]")),
        (format!("token: {TOKEN}"), format!("token: {TOKEN}\n      token: {TOKEN}")),
        (format!("token: {TOKEN}"), format!("token: \"{TOKEN}")),
        (format!("X-Api-Key: {HEADER}"), format!("\"X Api Key\": {HEADER}")),
        (format!("X-Api-Key: {HEADER}"), format!("X-Api-Key: [{HEADER}]")),
        (format!("X-Api-Key: {HEADER}"), format!("X-Api-Key: \"{HEADER}\\n\"")),
        ("127.0.0.1:9/".to_owned(), "127.0.0.1:99999/".to_owned()),
        ("http://127".to_owned(), format!("http://user:{USER}@127")),
        ("http://127".to_owned(), "ftp://127".to_owned()),
        ("http://127".to_owned(), "http:// 127".to_owned()),
        ("http://127".to_owned(), format!("http://user:{USER}@ 127")),
        ("127.0.0.1:9/".to_owned(), "api.example.org/".to_owned()),
    ] {
        assert!(text.contains(&right), "{right}");
        bench.write("p.yaml", text.replace(&right, &wrong));
        for args in [&["check", "p.yaml"][..], &["check", "p.yaml", "--json"], &["run", "p.yaml"]] {
            let ran = said(&bench, args);
            assert_eq!(ran.code, Some(78), "{wrong}: {}{}", ran.stdout, ran.stderr);
        }
    }
}

/// What `ps` shows.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_not_in_the_command_line_of_a_running_process() {
    let faults = Faults { delay: Duration::from_millis(1500), ..Faults::default() };
    let (bench, server) = (Bench::new(), mock(faults).await);
    bench.write("p.yaml", pipeline(&bench, &server.url(), "token: ${LOAD_API_TOKEN}"));
    let mut command = bench.command(&["run", "p.yaml", "--json"]);
    let run = command.env("LOAD_API_TOKEN", TOKEN).spawn().unwrap();
    wait_until("a request arrived", || server.stats().requests > 0);
    let shown = std::fs::read(format!("/proc/{}/cmdline", run.id())).unwrap();
    assert!(shown.windows(6).any(|part| part == b"p.yaml"), "it was over before it was looked at");
    nowhere("/proc/PID/cmdline", &shown);
    Ran::from(run.wait_with_output().unwrap()).exits(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_on_disk_is_private_and_a_directory_that_is_not_is_refused() {
    let (bench, server) = (Bench::new(), mock(down()).await);
    bench.inventory(20);
    bench.fleet(&server.url(), "");
    bench.run(&[]).exits(75);
    for directory in ["data/p/spool", "data/p/spool/http"] {
        let mode = bench.path(directory).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{directory}");
    }
    for mode in [0o777, 0o770, 0o702] {
        let open = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(bench.spool(), open).unwrap();
        let ran = bench.run(&[]);
        assert_eq!(ran.code, Some(78), "{mode:o}: {}", ran.stderr);
        assert!(ran.stderr.contains("can be written by others"), "{}", ran.stderr);
        assert!(ran.stderr.contains("chmod 700"), "{}", ran.stderr);
    }
    std::fs::set_permissions(bench.spool(), std::fs::Permissions::from_mode(0o700)).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(bench.spool(), Some(65_534), None).unwrap();
        let ran = bench.run(&[]);
        assert_eq!(ran.code, Some(78), "{}", ran.stderr);
        assert!(ran.stderr.contains("belongs to user 65534"), "{}", ran.stderr);
        std::os::unix::fs::chown(bench.spool(), Some(0), None).unwrap();
    }
    server.set_faults(Faults::default()).unwrap();
    bench.inventory(0);
    bench.run(&[]).exits(0);
    each_exactly_once(&server, 20);
}

/// A file that unpacks to more than is ever read is set aside, in bounded memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_decompression_bomb_in_the_spool_is_set_aside() {
    let (bench, server) = (Bench::new(), mock(down()).await);
    bench.inventory(20);
    bench.fleet(&server.url(), "");
    bench.run(&[]).exits(75);
    // One stored-block-free deflate stream repeated as members: small, and endless when read.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&[b' '; 4 << 20]).unwrap();
    let member = gzip.finish().unwrap();
    let bomb = member.repeat(80);
    assert!(bomb.len() < 4 << 20, "{} bytes", bomb.len());
    bench.write("data/p/spool/http/buffer_failed_worker5.json.gz", bomb);

    server.set_faults(Faults::default()).unwrap();
    bench.inventory(0);
    let (output, peak_mib) = peak::to_the_end(bench.start(&[]));
    let ran = Ran::from(output).exits(0);
    assert!(ran.stderr.contains("corrupt"), "{}", ran.stderr);
    assert!(peak_mib < 320, "{peak_mib} MiB");
    assert_eq!(files_of(&bench.spool().join("corrupt")).len(), 1);
    each_exactly_once(&server, 20);
}

fn hostile_refusal(_: &[u8]) -> Act {
    Act::Answer(answer(
        "422 Unprocessable",
        b"\x1b[2J\x1b]0;owned\x07\xe2\x80\xae\x9b31m\nfake: line",
    ))
}

/// Colours, titles and direction marks in an answer or a row reach neither the
/// terminal nor the log as they are.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_text_reaches_no_terminal_raw() {
    let server = mock(Faults::default()).await;
    let front = Front::start(server.addr(), hostile_refusal);
    let bench = Bench::new();
    let rows =
        b"ip,host\x1b[31mname\n1,\x1b[2J\x1b]0;owned\x07\n2,b,\x1b[31m\n3,\xe2\x80\xaec\n4,\xff\n";
    bench.rows(rows, &front.url(), "", "");
    let mut told = String::new();
    for args in [
        &["run", "p.yaml", "-vv"][..],
        &["run", "p.yaml", "-vv", "--log-json"],
        &["spool", "ls"],
        &["spool", "ls", "--dead", "--files"],
        &["spool", "cat", "--dead"],
        &["spool", "verify"],
        &["doctor", "p.yaml"],
        &["runs"],
    ] {
        let ran = bench.etl(args);
        // What `cat` prints is data for other programs, and JSON escapes in its own way.
        if args.contains(&"cat") {
            let raw = ran.stdout.chars().find(|c| c.is_control() && *c != '\n');
            assert_eq!(raw, None, "{}", ran.stdout.escape_debug());
        } else {
            told += &ran.stdout;
        }
        told += &ran.stderr;
    }
    told += &std::fs::read_to_string(bench.path("logs/etl.log")).unwrap();
    assert!(
        told.contains("422") && told.contains("[31mname is not UTF-8"),
        "nothing hostile came by: {told}"
    );
    let raw = told.chars().find(|c| {
        (c.is_control() && *c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{fffd}')
    });
    assert_eq!(raw, None, "{}", told.escape_debug());
    assert!(told.lines().all(|line| !line.starts_with("fake")), "a log line was forged: {told}");
}
