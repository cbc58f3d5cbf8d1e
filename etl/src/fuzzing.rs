//! What must hold for any bytes from outside: the bodies of the fuzz targets in
//! `fuzz/`. The tests here replay their corpora on the stable toolchain.
#![allow(missing_docs, clippy::expect_used, reason = "only fuzzers and tests build this")]

use std::time::{Duration, SystemTime};

use crate::config::{CsvSource, Environment};
use crate::load::answer::{Answer, AnswerRules, Reply, classify, retry_after};

pub fn spool_reader(data: &[u8]) {
    crate::spool::fuzzing::reader(data);
}

pub fn spool_name(data: &[u8]) {
    crate::spool::fuzzing::name(data);
}

pub fn checkpoint(data: &[u8]) {
    crate::checkpoint::fuzzing::checkpoint(&scratch("checkpoint"), data);
}

pub fn snmp(data: &[u8]) {
    crate::extract::fuzzing::datagram(data);
}

/// The compressor: any bytes, and the same many times over, so that blocks end within them.
pub fn deflate(data: &[u8]) {
    crate::deflate::fuzzing::body(data);
    let Some((times, rest)) = data.split_first() else { return };
    let times = usize::from(*times).min((300 << 10) / rest.len().max(1));
    crate::deflate::fuzzing::body(&rest.repeat(times));
}

/// A CSV file: it ends, every row is one JSON object with the columns' names, no row is
/// both given and refused, and read in pieces it is the same rows.
pub fn csv_source(data: &[u8]) {
    let Some((choice, content)) = data.split_first() else { return };
    let path = scratch("csv");
    std::fs::write(&path, content).expect("a scratch file can be written");
    let header = choice & 1 == 0;
    let config = CsvSource {
        path,
        header,
        columns: if header { Vec::new() } else { vec!["a".to_owned(), "b".to_owned()] },
        delimiter: if choice & 2 == 0 { ',' } else { ';' },
        numbers: choice & 4 == 0,
    };
    let Ok(mut rows) = crate::source::CsvRows::open(&config) else { return };
    let columns = rows.columns().len();
    let mut in_pieces = pieces(&config, usize::from(choice >> 3)).into_iter();
    let mut out = Vec::new();
    // gzip may hold more rows than its bytes.
    for _ in 0..100_000 {
        out.clear();
        match rows.next_row(&mut out) {
            Ok(crate::source::Next::Row) => {
                let row: serde_json::Map<String, serde_json::Value> =
                    serde_json::from_slice(&out).expect("a row is a JSON object");
                assert_eq!(row.len(), columns);
                assert!(!out.contains(&b'\n'), "a row is one line");
                assert_eq!(in_pieces.next().expect("a piece with this row"), Ok(out.clone()));
            }
            Ok(crate::source::Next::Rejected(rejection)) => {
                assert!(out.is_empty(), "a refused row left something behind");
                serde_json::from_slice::<serde_json::Value>(&rejection.record)
                    .expect("a refused row is written down as JSON");
                shown(&rejection.reason);
                assert_eq!(in_pieces.next().expect("a piece with this row"), Err(rejection));
            }
            Ok(crate::source::Next::End) | Err(_) => {
                assert!(in_pieces.next().is_none(), "pieces have more rows");
                return;
            }
        }
    }
}

/// At most 100,000 rows, as they are read in pieces of some `rows`.
fn pieces(config: &CsvSource, rows: usize) -> Vec<Result<Vec<u8>, crate::source::Rejection>> {
    use crate::source::{CsvRows, Cut, Measure, Piece};
    let mut file = CsvRows::open(config).expect("it was opened before");
    let (mut encoder, mut piece, mut found) = (file.piece_encoder(), Piece::default(), Vec::new());
    let measure = Measure { rows: rows + 1, bytes: 1 << 16 };
    while found.len() <= 100_000 {
        piece.clear();
        let cut = file.cut_piece(measure, false, &mut piece) == Cut::Done;
        let more = cut || matches!(file.read_piece(measure, false, &mut piece), Ok(true));
        encoder.encode(&mut piece);
        let mut good = piece.rows.iter();
        let mut bad = piece.rejections.iter().peekable();
        for at in 0..piece.records() {
            found.push(match bad.next_if(|(bad, _)| *bad == at) {
                Some((_, rejection)) => Err(rejection.clone()),
                None => Ok(good.next().expect("a row for each record").to_vec()),
            });
        }
        if !more {
            break;
        }
    }
    found
}

pub fn http_response(data: &[u8]) {
    crate::http::fuzzing::answer(data);
}

/// An API's answer: status, a `Retry-After`, a body.
pub fn http_answer(data: &[u8]) {
    let Some((head, body)) = data.split_first_chunk::<4>() else { return };
    let number = 100 + u16::from_le_bytes([head[0], head[1]]) % 500;
    let Ok(status) = http::StatusCode::from_u16(number) else { return };
    let cut = body.len().min(usize::from(head[2]) % 64);
    let (header, body) = body.split_at(cut);
    let header = std::str::from_utf8(header).ok();
    let types = [None, Some("application/json"), Some("text/html"), Some("text/plain")];
    let rules = AnswerRules {
        failed_records: "/failed".to_owned(),
        retry_also: Vec::new(),
        retry_after_max: Duration::from_secs(300),
    };
    let excerpt = crate::http::printable(body, 4096);
    assert!(excerpt.len() <= 4096);
    shown(&excerpt);
    let reply = Reply {
        status,
        retry_after: header,
        content_type: types[usize::from(head[3]) % types.len()],
        body,
        excerpt: &excerpt,
    };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_763_000_000);
    match classify(&reply, &rules, now) {
        Answer::Delivered => assert!(status.is_success(), "{status} counts as success"),
        Answer::Partial(failed) => {
            assert!(status.is_success() && !failed.is_empty());
            assert!(failed.windows(2).all(|pair| pair[0].index < pair[1].index));
            failed.iter().for_each(|record| shown(&record.reason));
        }
        Answer::Retry(failure) => {
            assert!(!status.is_redirection(), "a redirect is asked again");
            assert!(failure.after.is_none_or(|after| after <= rules.retry_after_max));
        }
        Answer::Refused(_) | Answer::TooLarge(_) | Answer::Invalid(_) => {
            assert!(!status.is_success());
        }
    }
}

/// A `Retry-After`: any text, or a moment in each form of RFC 9110, 5.6.7.
pub fn retry_after_header(data: &[u8]) {
    let Some((way, data)) = data.split_first() else { return };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_763_000_000);
    if way % 2 == 0 {
        let Ok(text) = std::str::from_utf8(data) else { return };
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let wait = retry_after(text, now);
        if digits(text) {
            let seconds = text.parse().unwrap_or(u64::MAX);
            assert_eq!(wait, Some(Duration::from_secs(seconds)));
        } else if wait.is_some() && !digits(text.trim()) {
            let date = httpdate::parse_http_date(text.trim());
            assert!(date.is_ok(), "neither seconds nor a date: {}", text.escape_debug());
        }
        return;
    }
    let Some(seconds) = data.first_chunk::<8>() else { return };
    let seconds = u64::from_le_bytes(*seconds) % 253_402_300_800;
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let expected = Some(at.duration_since(now).unwrap_or(Duration::ZERO));
    let date = httpdate::fmt_http_date(at);
    assert_eq!(retry_after(&date, now), expected, "{date}");
    let (weekday, day, month) = (&date[..3], &date[5..7], &date[8..11]);
    let (year, time) = (&date[12..16], &date[17..25]);
    let day = day.trim_start_matches('0');
    let asctime = format!("{weekday} {month} {day:>2} {time} {year}");
    assert_eq!(retry_after(&asctime, now), expected, "{asctime}");
}

/// A pipeline file: refused in words, or a pipeline.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let environment = Environment::from_pairs([("TOKEN", "canary-7f3a-secret")]);
    if let Err(report) = crate::config::from_str("fuzz.yaml", text, &[], &environment) {
        let words = report.to_string();
        assert!(!words.contains("canary-7f3a-secret"), "a secret is shown: {words}");
        words.lines().for_each(shown);
    }
}

/// Bytes sent to the mock API: it answers or closes, and still counts right.
pub fn mock_request(data: &[u8]) {
    use std::io::{Read, Write};
    use std::sync::OnceLock;
    type Running = (tokio::runtime::Runtime, mock_load_api_server::Server);
    static MOCK: OnceLock<Running> = OnceLock::new();
    let (_, server) = MOCK.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be built");
        let server = runtime.block_on(mock_load_api_server::start(Default::default()));
        (runtime, server.expect("a mock can be started"))
    });
    let Some((choice, rest)) = data.split_first() else { return };
    let mut request = Vec::new();
    if choice % 2 == 0 {
        let encoding = ["identity", "gzip", "zstd"][usize::from(choice / 2) % 3];
        let head = format!(
            "POST /load HTTP/1.1\r\nhost: m\r\nconnection: close\r\ncontent-encoding: {encoding}\r\n\
             content-length: {}\r\n\r\n",
            rest.len()
        );
        request.extend_from_slice(head.as_bytes());
    }
    request.extend_from_slice(rest);
    let mut stream = std::net::TcpStream::connect(server.addr()).expect("the mock is there");
    // A mock that closes early is an answer, too.
    drop(stream.write_all(&request));
    drop(stream.shutdown(std::net::Shutdown::Write));
    drop(stream.read_to_end(&mut Vec::new()));
    let stats = server.stats();
    assert!(stats.unique_records <= stats.records);
}

/// Nothing that a terminal would obey.
fn shown(text: &str) {
    let raw = text.chars().find(|c| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}'));
    assert_eq!(raw, None, "{}", text.escape_debug());
}

fn scratch(what: &str) -> std::path::PathBuf {
    let memory = std::path::Path::new("/dev/shm");
    let directory = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let thread = std::thread::current().id();
    directory.join(format!("etl-fuzz-{}-{thread:?}-{what}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Every file of a target's corpus, and every cut of it.
    fn replay(target: &str, run: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        let mut files = 0;
        for entry in std::fs::read_dir(&corpus).expect("there is a corpus") {
            let data = std::fs::read(entry.expect("an entry").path()).expect("a readable file");
            run(&data);
            for cut in 0..data.len().min(40) {
                run(&data[..cut * data.len() / 40]);
            }
            files += 1;
        }
        assert!(files >= 3, "{target} has {files} files");
        std::fs::remove_file(super::scratch("csv")).ok();
    }

    #[test]
    fn the_corpus_of_the_spool_reader_holds() {
        replay("spool_reader", super::spool_reader);
    }

    #[test]
    fn the_corpus_of_spool_names_holds() {
        replay("spool_name", super::spool_name);
    }

    #[test]
    fn the_corpus_of_the_csv_source_holds() {
        replay("csv_source", super::csv_source);
    }

    #[test]
    fn the_corpus_of_checkpoints_holds() {
        replay("checkpoint", super::checkpoint);
        std::fs::remove_dir_all(super::scratch("checkpoint")).ok();
    }

    #[test]
    fn the_corpus_of_retry_after_holds() {
        replay("retry_after", super::retry_after_header);
    }

    #[test]
    fn the_corpus_of_http_answers_holds() {
        replay("http_answer", super::http_answer);
    }

    #[test]
    fn the_corpus_of_http_responses_holds() {
        replay("http_response", super::http_response);
    }

    #[test]
    fn the_corpus_of_pipeline_files_holds() {
        replay("config", super::config);
    }

    #[test]
    fn the_corpus_of_snmp_datagrams_holds() {
        replay("snmp", super::snmp);
    }

    #[test]
    fn the_corpus_of_the_compressor_holds() {
        replay("deflate", super::deflate);
    }

    #[test]
    fn the_corpus_of_mock_requests_holds() {
        replay("mock_request", super::mock_request);
    }
}
