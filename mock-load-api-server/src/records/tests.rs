//! The scanner held against `serde_json`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;
use crate::fuzzing::{ours, reference};

const SAMPLES: &[&str] = &[
    "[]",
    " [ ] ",
    r#"[{"a":1}]"#,
    r#"[{"a":1},{"b":[1,2,{"c":null}],"d":true,"e":false}]"#,
    "[ {\"a\" : -0.5e+10 , \"b\":\"\\u00e9\\n \\\\ \\\" é 漢字\" }\n,\t{\"x\":{}}, {\"y\":[ ]} ]\r\n",
    r#"[{"name":"device-1","cpu_number":"0","timestamp":1763645000,"indicators":[{"name":"utilization","value":12.69}]}]"#,
];

#[test]
fn hands_out_what_serde_json_would() {
    for sample in SAMPLES {
        assert_eq!(ours(sample.as_bytes()), reference(sample.as_bytes()), "{sample}");
        assert!(ours(sample.as_bytes()).is_some(), "{sample}");
    }
}

#[test]
fn says_what_is_wrong_and_where() {
    let cases: &[(&[u8], &str)] = &[
        (b"", "empty body, expected a JSON array of objects at byte 0"),
        (b"{\"a\":1}", "expected a JSON array of objects at byte 0"),
        (b"[{\"a\":NaN}]", "expected a JSON value at byte 6"),
        (b"[{\"a\":1}", "truncated array at byte 8"),
        (b"[{\"a\":1", "truncated JSON at byte 7"),
        (b"[{\"a\":\"x", "truncated string at byte 8"),
        (b"[1]", "a record is not an object at byte 1"),
        (b"[{}]", "a record is an empty object at byte 1"),
        (b"[{\"a\":1}]x", "more after the end of the array at byte 9"),
        (b"[{\"a\":01}]", "expected `,` or `}` at byte 7"),
        (b"[{\"a\":\"\x01\"}]", "control character in a string at byte 7"),
        (b"[{\"a\":\"\xff\"}]", "invalid UTF-8 at byte 7"),
    ];
    for (body, expected) in cases {
        assert_eq!(scan(body, |_| {}).unwrap_err().to_string(), *expected);
    }
}

#[test]
fn an_empty_record_is_refused_however_wide() {
    for spaces in 0..20 {
        let body = format!("[{{{}}}]", " ".repeat(spaces));
        let error = scan(body.as_bytes(), |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "a record is an empty object at byte 1");
    }
}

#[test]
fn nesting_is_bounded() {
    let deep = |levels: usize| format!("[{{\"a\":{}1{}}}]", "[".repeat(levels), "]".repeat(levels));
    assert!(ours(deep(127).as_bytes()).is_some());
    assert!(ours(deep(128).as_bytes()).is_none());
    assert!(ours(deep(100_000).as_bytes()).is_none());
}

#[test]
fn agrees_with_serde_json_on_mutated_bodies() {
    let mut random = fastrand::Rng::with_seed(1);
    let alphabet = b"\"\\{}[]:,0123456789.eE+-tfn ul\n\x00\x1f\x7f\xc3\xa9\xff";
    for round in 0..60_000 {
        let mut body = SAMPLES[round % SAMPLES.len()].as_bytes().to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(0..body.len());
            match random.u8(0..3) {
                0 => body[at] = alphabet[random.usize(0..alphabet.len())],
                1 => body.insert(at, alphabet[random.usize(0..alphabet.len())]),
                _ if body.len() > 1 => drop(body.remove(at)),
                _ => {}
            }
        }
        assert_eq!(ours(&body), reference(&body), "{:?}", String::from_utf8_lossy(&body));
    }
}
