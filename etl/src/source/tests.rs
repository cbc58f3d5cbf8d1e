//! CSV files as they come: every oddity of FIELD.md row 16 and some more.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Write;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::records::Limits;
use super::{Beginning, Behind, CsvRows, Next, Position, SourceError};
use crate::config::CsvSource;

fn config(path: &Path, header: bool, columns: &[&str]) -> CsvSource {
    CsvSource {
        path: path.to_owned(),
        header,
        columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        delimiter: ',',
        numbers: true,
    }
}

struct File {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

fn file(name: &str, content: &[u8]) -> File {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, content).unwrap();
    File { _directory: directory, path }
}

/// Rows and rejections (`place: reason`) in order.
fn read(config: &CsvSource, limits: Limits) -> Result<(Vec<Value>, Vec<String>), SourceError> {
    let mut source = CsvRows::open_with(config, limits)?;
    let (mut rows, mut rejections) = (Vec::new(), Vec::new());
    loop {
        let mut out = b"before".to_vec();
        match source.next_row(&mut out)? {
            Next::Row => {
                assert!(!out.contains(&b'\n'), "a row is one line");
                rows.push(serde_json::from_slice(&out[6..]).unwrap());
            }
            Next::Rejected(rejection) => {
                assert_eq!(out, b"before");
                serde_json::from_slice::<Value>(&rejection.record).unwrap();
                rejections.push(format!("{}: {}", rejection.place, rejection.reason));
            }
            Next::End => {
                assert!(matches!(source.next_row(&mut out)?, Next::End));
                assert_eq!(Some(source.bytes_read()), source.bytes_total());
                return Ok((rows, rejections));
            }
        }
    }
}

fn rows(content: &[u8]) -> (Vec<Value>, Vec<String>) {
    let file = file("rows.csv", content);
    read(&config(&file.path, true, &[]), Limits::default()).unwrap()
}

fn refusal(content: &[u8], header: bool, columns: &[&str]) -> String {
    let file = file("rows.csv", content);
    let error = read(&config(&file.path, header, columns), Limits::default()).unwrap_err();
    let text = error.to_string();
    assert!(error.is_config() || text.contains("rows.csv"), "{text}");
    text
}

#[test]
fn header_mark_line_ends_blank_lines_and_a_missing_last_newline() {
    let expected = vec![json!({"ip": "10.0.0.1", "n": 1}), json!({"ip": "10.0.0.2", "n": ""})];
    for content in [
        &b"ip,n\n10.0.0.1,1\n10.0.0.2,\n"[..],
        b"\xef\xbb\xbfip,n\r\n10.0.0.1,1\r\n10.0.0.2,",
        b"\xef\xbb\xbf\"ip\", n \n\n\r\n10.0.0.1,1\n\n\"10.0.0.2\",\"\"",
        b"ip,n\r10.0.0.1,1\r10.0.0.2,\r",
    ] {
        assert_eq!(rows(content), (expected.clone(), vec![]));
    }
    let unnamed = file("rows.csv", b"10.0.0.1,1\n10.0.0.2,\n");
    let read = read(&config(&unnamed.path, false, &["ip", "n"]), Limits::default()).unwrap();
    assert_eq!(read, (expected, vec![]));
}

#[test]
fn columns_rename_the_header_and_a_header_is_never_data() {
    let named = file("rows.csv", b"a,b\n1,2\n");
    let (rows, _) = read(&config(&named.path, true, &["ip", "n"]), Limits::default()).unwrap();
    assert_eq!(rows, [json!({"ip": 1, "n": 2})]);
    let text = refusal(b"\xef\xbb\xbfIP , hostname\n1,2\n", false, &["ip", "hostname"]);
    assert!(text.contains("rows.csv:1: the first row is a header"), "{text}");
    assert!(text.contains("header: true"), "{text}");
}

#[test]
fn a_header_that_does_not_fit_is_refused_with_a_remedy() {
    let cases: [(&[u8], bool, &[&str], &str); 9] = [
        (b"ip,n,ip\n1,2,3\n", true, &[], "columns 1 and 3 are both called ip; rename it"),
        (b"ip,\n1,2\n", true, &[], "column 2 has no name"),
        (b"ip,n\n1,2\n", true, &["ip"], "the header has 2 fields, source.csv.columns names 1"),
        (b"ip,n\xff\n1,2\n", true, &[], "column n\\xff is not UTF-8"),
        (b"ip,\"n\n1,2\n", true, &[], "rows.csv:1: the header cannot be read: a quoted field"),
        (b"1,2\n", false, &[], "source.csv.columns: names the columns"),
        (b"1,2\n", false, &["a", "a"], "source.csv.columns: columns 1 and 2 are both called a"),
        (b"\n\r\n", true, &[], "is empty; there should be at least a header row"),
        (b"\xff\xfei\0p\0", true, &[], "is UTF-16; save it as UTF-8"),
    ];
    for (content, header, columns, expected) in cases {
        let text = refusal(content, header, columns);
        assert!(text.contains(expected), "{text}");
    }
    for empty in [&b""[..], b"\xef\xbb\xbf", b"\n\n"] {
        let text = refusal(empty, false, &["a"]);
        assert!(text.contains("is empty; there should be at least one row"), "{text}");
    }
    let semicolon = file("rows.csv", b"a;b\n1;2\n");
    for (delimiter, good) in [(';', true), ('"', false), ('€', false), ('\n', false)] {
        let config = CsvSource { delimiter, ..config(&semicolon.path, true, &[]) };
        assert_eq!(CsvRows::open(&config).is_ok(), good, "{delimiter:?}");
    }
}

#[test]
fn one_bad_row_is_rejected_with_its_line_and_stops_nothing() {
    let (good, bad) = rows(
        b"ip,host\n10.0.0.1,a\n10.0.0.2\n10.0.0.3,b,c\n\"x\ny\",\"q\"\"u\"\n10.0.0.4,\xffd\n\"z\",\"\xc3\"\n1,\xc3,\xa9\n10.0.0.5,e\n",
    );
    assert_eq!(
        good,
        [
            json!({"ip": "10.0.0.1", "host": "a"}),
            json!({"ip": "x\ny", "host": "q\"u"}),
            json!({"ip": "10.0.0.5", "host": "e"}),
        ]
    );
    assert_eq!(
        bad,
        [
            "rows.csv:3: 1 field, expected 2",
            "rows.csv:4: 3 fields, expected 2",
            "rows.csv:7: host is not UTF-8 (byte 1 is 0xff)",
            "rows.csv:8: host is not UTF-8 (byte 1 is 0xc3)",
            "rows.csv:9: 3 fields, expected 2",
        ]
    );
}

#[test]
fn a_field_that_is_only_utf8_together_with_the_next_is_refused() {
    let (good, bad) = rows(b"a,b\n\xc3,\xa9\n\"\xc3\",\"\xa9\"\n");
    assert!(good.is_empty());
    assert_eq!(bad.len(), 2);
    assert!(bad[0].ends_with("a is not UTF-8 (byte 1 is 0xc3)"), "{bad:?}");
}

#[test]
fn a_rejected_row_is_kept_as_it_was() {
    let rejected = |content: &[u8]| -> Value {
        let file = file("rows.csv", content);
        let mut source = CsvRows::open(&config(&file.path, true, &[])).unwrap();
        match source.next_row(&mut Vec::new()).unwrap() {
            Next::Rejected(rejection) => serde_json::from_slice(&rejection.record).unwrap(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(rejected(b"a,b\n \"x\ty\"\r\n"), json!({"line": 2, "raw": " \"x\ty\""}));
    let expected = json!({"line": 2, "raw": "1,\u{fffd}", "raw_hex": "312cff"});
    assert_eq!(rejected(b"a,b\n1,\xff\n"), expected);
    let long = format!("a,b\n{}\n", "x".repeat(100_000));
    let record = rejected(long.as_bytes());
    assert_eq!(record["raw"].as_str().unwrap().len(), 64 << 10);
    assert_eq!(record["bytes"], 100_000);
}

#[test]
fn a_quote_that_is_never_closed_costs_one_row() {
    let (good, bad) = rows(b"a,b\n1,2\n\"3,4\n5,6\n7,8");
    assert_eq!(good, [json!({"a": 1, "b": 2}), json!({"a": 5, "b": 6}), json!({"a": 7, "b": 8})]);
    assert_eq!(bad, ["rows.csv:3: a quoted field is never closed"]);
    let (good, bad) = rows(b"a,b\n1,\"2");
    assert_eq!((good.len(), bad.len()), (0, 1));
}

#[test]
fn records_have_a_largest_size_and_reading_goes_on_after_it() {
    let limits = Limits { record_max: 1000 };
    let long = "x".repeat(5000);
    let content = format!("a,b\n1,2\n\"3,4\n{}{long}\n9,10\n", "5,6\n".repeat(1000));
    let csv = file("rows.csv", content.as_bytes());
    let (good, bad) = read(&config(&csv.path, true, &[]), limits).unwrap();
    assert_eq!(good.len(), 1002);
    assert_eq!(
        bad,
        [
            "rows.csv:3: a quoted field is not closed within 1000 B",
            "rows.csv:1004: the line is longer than 1000 B",
        ]
    );
    assert_eq!(good.last(), Some(&json!({"a": 9, "b": 10})));

    let content = format!("a,b\n\"{long}\",4\n5,6\n");
    let csv = file("rows.csv", content.as_bytes());
    let (good, bad) = read(&config(&csv.path, true, &[]), limits).unwrap();
    assert_eq!((good.len(), bad.len()), (1, 1), "{bad:?}");

    let csv = file("rows.csv", format!("a,b\n\"\"{}\n5,6\n", ",".repeat(100_000)).as_bytes());
    let (good, bad) = read(&config(&csv.path, true, &[]), Limits::default()).unwrap();
    assert_eq!(bad, ["rows.csv:2: 100001 fields, expected 2"]);
    assert_eq!(good, [json!({"a": 5, "b": 6})]);

    let csv = file("rows.csv", format!("a,b\n{}", "x\"y,\"a\n".repeat(1000)).as_bytes());
    let error = read(&config(&csv.path, true, &[]), limits).unwrap_err().to_string();
    assert!(error.contains("rows.csv:102: quotes do not match"), "{error}");
}

#[test]
fn nul_bytes_control_characters_and_a_megabyte_field_survive() {
    let big = "y\"é,\n".repeat(200_000);
    let mut content = b"a,b\nx\0y,\x01\x7f\n".to_vec();
    content.extend_from_slice(format!("\"{}\",1\n", big.replace('"', "\"\"")).as_bytes());
    let (good, bad) = rows(&content);
    assert!(bad.is_empty());
    assert_eq!(good, [json!({"a": "x\0y", "b": "\u{1}\u{7f}"}), json!({"a": big, "b": 1})]);
}

#[test]
fn numbers_keep_their_spelling_and_can_be_switched_off() {
    let csv = file("rows.csv", b"a,b,c\n1.50,007,12345678901234567890\n");
    let mut config = config(&csv.path, true, &[]);
    let mut encode = |numbers| {
        config.numbers = numbers;
        let mut out = Vec::new();
        assert!(matches!(CsvRows::open(&config).unwrap().next_row(&mut out), Ok(Next::Row)));
        String::from_utf8(out).unwrap()
    };
    assert_eq!(encode(true), r#"{"a":1.50,"b":"007","c":"12345678901234567890"}"#);
    assert_eq!(encode(false), r#"{"a":"1.50","b":"007","c":"12345678901234567890"}"#);
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn gzip_is_read_to_the_end_of_its_last_member_or_fails() {
    let mut content = gzip(b"\xef\xbb\xbfa,b\n1,2\n3,");
    content.extend(gzip(b"4\n5,6\n"));
    for name in ["rows.csv.gz", "rows.csv"] {
        let gz = file(name, &content);
        let (good, _) = read(&config(&gz.path, true, &[]), Limits::default()).unwrap();
        assert_eq!(good.len(), 3);
        assert_eq!(good[1], json!({"a": 3, "b": 4}));
    }
    let boundary = gzip(b"\xef\xbb\xbfa,b\n1,2\n3,").len();
    for damage in (4..content.len()).filter(|damage| *damage != boundary) {
        let gz = file("rows.csv.gz", &content[..damage]);
        let read = read(&config(&gz.path, true, &[]), Limits::default());
        let Err(error) = read else { panic!("{damage} of {} bytes: {read:?}", content.len()) };
        assert!(error.to_string().contains("reading failed after line"), "{damage}: {error}");
    }
    let plain = file("rows.csv.gz", b"a,b\n1,2\n");
    let error = CsvRows::open(&config(&plain.path, true, &[])).unwrap_err().to_string();
    assert!(error.contains("is not gzip"), "{error}");
}

#[test]
fn what_is_no_regular_file_is_refused_and_never_waited_for() {
    let csv = file("rows.csv", b"a\n1\n");
    let directory = csv.path.parent().unwrap();
    let fifo = directory.join("fifo.csv");
    let status = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(status.success());
    for (path, expected) in [
        (directory.to_owned(), "is a directory"),
        (fifo, "is a named pipe"),
        (PathBuf::from("/dev/null"), "is a device"),
        (directory.join("missing.csv"), "missing.csv: no such file"),
        (csv.path.join("below"), "cannot be opened"),
    ] {
        let error = CsvRows::open(&config(&path, true, &[])).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// Our rows as text fields, in order, without the names.
fn ours(content: &[u8], columns: usize) -> Vec<Vec<String>> {
    let names: Vec<String> = (0..columns).map(|at| format!("c{at}")).collect();
    let csv = file("rows.csv", content);
    let config =
        CsvSource { columns: names.clone(), numbers: false, ..config(&csv.path, false, &[]) };
    match read(&config, Limits::default()) {
        Err(SourceError::Empty { .. }) => Vec::new(),
        other => other
            .unwrap()
            .0
            .iter()
            .map(|row| names.iter().map(|name| row[name].as_str().unwrap().to_owned()).collect())
            .collect(),
    }
}

fn field() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,6}",
        "[a,\"\r\n\\\\é€\u{feff}\u{0}-\u{1f}]{0,8}",
        any::<String>(),
        "-?[0-9]{1,3}(\\.[0-9]{1,3})?",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_table_written_as_csv_comes_back(
        table in (1usize..5).prop_flat_map(|columns| {
            proptest::collection::vec(proptest::collection::vec(field(), columns), 1..8)
        }),
        crlf: bool,
    ) {
        // A byte order mark at the very start is one, whatever it was meant to be.
        prop_assume!(!table[0][0].starts_with('\u{feff}'));
        let terminator = if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
        let mut writer = csv::WriterBuilder::new().terminator(terminator).from_writer(Vec::new());
        for row in &table {
            writer.write_record(row).unwrap();
        }
        let content = writer.into_inner().unwrap();
        prop_assert_eq!(ours(&content, table[0].len()), table);
    }

    #[test]
    fn any_bytes_are_cut_as_the_csv_crate_cuts_them(content in "[a1,\"\r\n]{0,200}") {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(content.as_bytes());
        let theirs: Vec<Vec<String>> = reader
            .records()
            .map(|row| row.unwrap().iter().map(ToOwned::to_owned).collect())
            .collect();
        // Where the last quote is not closed, ours goes on from the next line.
        let columns = theirs.first().map_or(1, Vec::len);
        let mine = ours(content.as_bytes(), columns);
        let fitting: Vec<_> = theirs.iter().filter(|row| row.len() == columns).cloned().collect();
        let common = mine.len().min(fitting.len().saturating_sub(1));
        prop_assert_eq!(&mine[..common], &fitting[..common]);
        if !content.contains('"') {
            prop_assert_eq!(mine, fitting);
        }
    }
}

/// Rows and rejections with the places before and after each.
fn places(config: &CsvSource) -> Vec<(Vec<u8>, u64, Option<Position>, Position)> {
    let mut source = CsvRows::open(config).unwrap();
    let mut found = Vec::new();
    loop {
        let mut out = Vec::new();
        match source.next_row(&mut out).unwrap() {
            Next::End => return found,
            Next::Rejected(rejection) => out = rejection.record,
            Next::Row => {}
        }
        let (line, before) = (source.line(), source.position_before());
        found.push((out, line, before, source.position()));
    }
}

/// What a reader that goes on at `position` finds.
fn rest(config: &CsvSource, position: &Position) -> Vec<(Vec<u8>, u64)> {
    let mut source = CsvRows::open(config).unwrap();
    assert_eq!(source.resume_at(position).unwrap(), Beginning::Same);
    source.behind().unwrap();
    let mut found = Vec::new();
    loop {
        let mut out = Vec::new();
        match source.next_row(&mut out).unwrap() {
            Next::End => return found,
            Next::Rejected(rejection) => out = rejection.record,
            Next::Row => {}
        }
        found.push((out, source.line()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// At whatever place one goes on, the same rows come, with the same lines; and a
    /// byte changed before the place is noticed.
    #[test]
    fn a_reader_goes_on_at_every_place(
        pieces in proptest::collection::vec(
            prop_oneof![
                Just("1,2\n"), Just("a,b\r\n"), Just("x,y\r"), Just("\n"), Just("short\n"),
                Just("\"q\nq\",\"\"\"\"\n"), Just("\"open,3\n"), Just("u\u{e4},longer than that\n"),
            ],
            1..30,
        ),
        gzip in any::<bool>(),
        flip in any::<u16>(),
    ) {
        let mut text = format!("\u{feff}one,two\n{}last,row", pieces.concat()).into_bytes();
        let pack = |text: &[u8]| match gzip {
            true => {
                let fast = flate2::Compression::fast();
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), fast);
                gzip.write_all(text).unwrap();
                gzip.finish().unwrap()
            }
            false => text.to_vec(),
        };
        let file = file("rows.csv", &pack(&text));
        let config = config(&file.path, true, &[]);
        let all = places(&config);
        for (at, (_, _, before, after)) in all.iter().enumerate() {
            let rows = |from: usize| -> Vec<&[u8]> {
                all[from..].iter().map(|(row, ..)| &row[..]).collect()
            };
            let behind = rest(&config, after);
            let found: Vec<&[u8]> = behind.iter().map(|(row, _)| &row[..]).collect();
            prop_assert_eq!(found, rows(at + 1));
            if let Some(before) = before {
                let behind = rest(&config, before);
                let found: Vec<&[u8]> = behind.iter().map(|(row, _)| &row[..]).collect();
                prop_assert_eq!(found, rows(at));
            }
        }
        let (_, _, _, last) = all.last().unwrap();
        let mut source = CsvRows::open(&config).unwrap();
        prop_assert_eq!(source.resume_at(last).unwrap(), Beginning::Same);
        prop_assert_eq!(source.behind().unwrap(), Behind::Nothing);

        let header = 11;
        let at = header + usize::from(flip) % (text.len() - header);
        text[at] ^= 1;
        std::fs::write(&file.path, pack(&text)).unwrap();
        let mut source = CsvRows::open(&config).unwrap();
        prop_assert_eq!(source.resume_at(last).unwrap(), Beginning::Changed);
        std::fs::write(&file.path, pack(&text[..at])).unwrap();
        let mut source = CsvRows::open(&config).unwrap();
        prop_assert_eq!(source.resume_at(last).unwrap(), Beginning::Shorter);
    }
}
