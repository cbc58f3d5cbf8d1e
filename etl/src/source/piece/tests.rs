//! Pieces are the same records as rows read one by one, at whatever place a file is cut.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Write;
use std::path::Path;

use proptest::prelude::*;

use super::{Cut, Measure, Piece};
use crate::config::CsvSource;
use crate::source::csv::CsvRows;
use crate::source::records::Limits;
use crate::source::{Beginning, Next, Position, Rejection};

/// A record, or why it is none.
type Item = Result<String, Rejection>;
/// Records, their lines, and the error at the end.
type Read = (Vec<Item>, Vec<u64>, Option<String>);

fn source(path: &Path, settings: &Settings) -> CsvSource {
    serde_json::from_value(serde_json::json!({
        "path": path,
        "header": false,
        "columns": settings.columns,
        "delimiter": settings.delimiter,
        "numbers": settings.numbers,
    }))
    .unwrap()
}

#[derive(Debug, Clone)]
struct Settings {
    columns: Vec<String>,
    delimiter: char,
    numbers: bool,
}

fn open(config: &CsvSource) -> CsvRows {
    CsvRows::open_with(config, Limits { record_max: 300 }).unwrap()
}

/// All records one by one, and how it ended.
fn one_by_one(rows: &mut CsvRows) -> Read {
    let (mut items, mut lines) = (Vec::new(), Vec::new());
    loop {
        let mut row = Vec::new();
        match rows.next_row(&mut row) {
            Ok(Next::Row) => {
                items.push(Ok(String::from_utf8(row).unwrap()));
                lines.push(rows.line());
            }
            Ok(Next::Rejected(rejection)) => {
                items.push(Err(rejection));
                lines.push(0);
            }
            Ok(Next::End) => return (items, lines, None),
            Err(error) => return (items, lines, Some(error.to_string())),
        }
    }
}

/// All records piece by piece and their lines, the places between them, and how it ended.
fn in_pieces(rows: &mut CsvRows, measure: Measure) -> (Read, Vec<(usize, Position)>) {
    let (mut encoder, mut piece) = (rows.piece_encoder(), Piece::default());
    let (mut items, mut lines, mut places) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        piece.clear();
        let ended = if rows.cut_piece(measure, true, &mut piece) == Cut::Done {
            None
        } else {
            match rows.read_piece(measure, true, &mut piece) {
                Ok(true) => None,
                Ok(false) => Some(None),
                Err(error) => Some(Some(error.to_string())),
            }
        };
        encoder.encode(&mut piece);
        let before = items.len();
        let mut good = piece.rows.iter();
        let mut bad = piece.rejections.iter().peekable();
        for at in 0..piece.records() {
            let rejection = bad.next_if(|(bad, _)| *bad == at);
            lines.push(if rejection.is_some() { 0 } else { piece.line_of(at) });
            items.push(match rejection {
                Some((_, rejection)) => Err(rejection.clone()),
                None => Ok(String::from_utf8(good.next().unwrap().to_vec()).unwrap()),
            });
        }
        assert!(good.next().is_none() && bad.next().is_none());
        for count in 0..=piece.records() {
            places.extend(piece.place_behind(count).map(|place| (before + count, place)));
        }
        if let Some(ended) = ended {
            return ((items, lines, ended), places);
        }
    }
}

fn check(content: &[u8], settings: &Settings, measure: Measure) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    let config = source(file.path(), settings);
    let (expected, lines, end) = one_by_one(&mut open(&config));
    let ((items, found, ended), places) = in_pieces(&mut open(&config), measure);
    assert_eq!((items, found), (expected.clone(), lines.clone()));
    assert_eq!(ended, end);
    if end.is_some() {
        return;
    }
    for (records, place) in places {
        let mut rows = open(&config);
        assert_eq!(rows.resume_at(&place).unwrap(), Beginning::Same, "{records} {place:?}");
        let (rest, rest_lines, _) = one_by_one(&mut rows);
        assert_eq!(rest, expected[records..], "{records} {place:?}");
        assert_eq!(rest_lines, lines[records..], "{records} {place:?}");
    }
}

fn settings() -> impl Strategy<Value = Settings> {
    let delimiter = prop_oneof![4 => Just(','), 1 => Just(';'), 1 => Just('\t'), 1 => Just('.'), 1 => Just('5')];
    (1..4usize, delimiter, any::<bool>()).prop_map(|(columns, delimiter, numbers)| Settings {
        columns: (0..columns)
            .map(|at| ["a", "long \"name\" of the second column", "é"][at].into())
            .collect(),
        delimiter,
        numbers,
    })
}

/// Bytes of which most matter to somebody.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => Just(b",".to_vec()),
        4 => Just(b"\n".to_vec()),
        1 => Just(b"\r\n".to_vec()),
        2 => Just(b"\"".to_vec()),
        4 => "[-0-9.e]{0,6}".prop_map(String::into_bytes),
        4 => "[a-z ]{0,6}".prop_map(String::into_bytes),
        1 => prop::sample::select(vec![&b"\r"[..], b";", b"\t", b"\\", b"\x01", b"\xff", "é€".as_bytes(), b"\0"])
            .prop_map(<[u8]>::to_vec),
        1 => "[a-z0-9]{60,80}".prop_map(String::into_bytes),
    ];
    proptest::collection::vec(piece, 0..80).prop_map(|pieces| pieces.concat())
}

/// Rows that are mostly right, some of their fields in quotes.
fn table() -> impl Strategy<Value = Vec<u8>> {
    let field = prop_oneof![
        4 => "[0-9]{1,3}([.][0-9]{0,2})?".prop_map(String::into_bytes),
        3 => "[a-z0-9.:-]{0,20}".prop_map(String::into_bytes),
        2 => "\"([a-z,\n]|\"\"|\r\n){0,8}\"".prop_map(String::into_bytes),
        1 => "[\\\\\u{1}\té€]{1,3}".prop_map(String::into_bytes),
        1 => Just(b"\xc3(".to_vec()),
    ];
    let row = proptest::collection::vec(field, 1..4).prop_map(|fields| fields.join(&b','));
    let end = prop_oneof![8 => Just(&b"\n"[..]), 2 => Just(&b"\r\n"[..]), 1 => Just(&b"\n\n"[..])];
    proptest::collection::vec((row, end), 0..30).prop_map(|rows| {
        rows.into_iter().flat_map(|(row, end)| [row, end.to_vec()].concat()).collect()
    })
}

proptest! {
    #[test]
    fn pieces_are_the_same_records(
        content in prop_oneof![noise(), table()],
        settings in settings(),
        rows in 1..9usize,
        bytes in 1..400usize,
    ) {
        check(&content, &settings, Measure { rows, bytes });
    }
}

#[test]
fn quotes_that_csv_core_sees_otherwise_are_not_cut() {
    let settings =
        Settings { columns: vec!["a".into(), "b".into()], delimiter: ',', numbers: true };
    for content in [
        "1,2\nx\"y,3\n4,\"5\n6\"\n",
        "\"a\"b\"c,1\n2,3\n\"4\",5\n",
        "1,\"never closed\n2,3\n4,5\n",
        "1,2\r3,4\r5,6\n7,8\n",
        "\"a\"\"b\",\"c,\"\"\nd\"\n1,\"\"\n\"\"\"\",2\n",
        "1,2\n\n\n3,4\n\r\n5,6",
        "1,2,3\n4\n5,6\n",
    ] {
        for rows in 1..5 {
            check(content.as_bytes(), &settings, Measure { rows, bytes: 1000 });
        }
    }
}
