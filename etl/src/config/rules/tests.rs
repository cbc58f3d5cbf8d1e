use super::super::environment::Environment;
use super::super::from_str;
use super::{covers, shown};

const BASE: &str = "name: x
source:
  csv: { path: a.csv, header: false, columns: [ip, host] }
extract:
  http: { url: 'http://{ip}/cpu' }
load:
  - http: { url: 'https://api.example.net/load' }
";

/// The message and label of the only error after `from` is replaced by `to`.
fn only_error(from: &str, to: &str) -> (String, String) {
    assert!(BASE.contains(from), "{from}");
    let text = BASE.replace(from, to);
    match from_str("p.yaml", &text, &[], &Environment::empty()) {
        Ok(_) => (String::new(), String::new()),
        Err(report) => {
            assert_eq!(report.error_count(), 1, "{report}");
            let error = &report.errors()[0];
            (
                error.message.clone(),
                format!("{}{}", error.label, error.help.clone().unwrap_or_default()),
            )
        }
    }
}

#[test]
fn a_sound_pipeline_passes() {
    assert_eq!(only_error("name: x", "name: y").0, "");
}

#[test]
fn each_rule_refuses_its_mistake() {
    let http = "{ url: 'https://api.example.net/load' }";
    for (from, to, message) in [
        (", columns: [ip, host]", ", columns: []", "neither a header nor columns"),
        ("[ip, host]", "[ip, ip]", "the same column twice"),
        ("[ip, host]", "[ip, '']", "empty name"),
        ("{ path: a.csv", "{ delimiter: é, path: a.csv", "cannot separate fields"),
        ("{ip}", "{ipp}", "no column `ipp`"),
        ("'http://{ip}/cpu'", "'http://{ip/cpu'", "without a closing"),
        (http, "{ url: 'ftp://x/load' }", "is not an http or https address"),
        (http, "{ url: 'http://me:pw@h/' }", "user name"),
        (http, "{ url: 'http://h/', token: abc }", "unencrypted"),
        (http, "{ url: 'http://h/', headers: { Authorization: abc } }", "unencrypted"),
        (http, "{ url: 'http://h/', token_file: t }", "unencrypted"),
        ("'http://{ip}/cpu'", "'http://{ip}/cpu', token: abc", "unencrypted"),
        ("'http://{ip}/cpu'", "'http://h/{ip}', token: abc", "unencrypted"),
        (http, "{ url: 'https://h/', token: a, token_file: b }", "both token and token_file"),
        (http, "{ url: 'https://h/', token: \"a\\nb\" }", "no header can carry"),
        (http, "{ url: 'https://h/', headers: { 'a b': c } }", "not a header's name"),
        (http, "{ url: 'https://h/', headers: { Content-Length: 3 } }", "set by etl"),
        (http, "{ url: 'https://h/', failed_records: x }", "not a JSON Pointer"),
        ("load:\n", "load:\n  - { http: { url: 'https://h/' } }\n", "have the same name"),
        ("load:\n", "raw:\n  - { http: { url: 'https://h/' } }\nload:\n", "have the same name"),
        ("extract:\n", "extract:\n  timeout: 0s\n", "no time at all"),
        ("name: x", "name: x\nschedule: sometimes", "schedule"),
    ] {
        let found = only_error(from, to).0;
        assert!(found.contains(message) && !found.is_empty(), "{to}: {found}");
    }
}

#[test]
fn each_rule_of_a_sink_refuses_its_mistake() {
    for (keys, message) in [
        ("batch: { records: 5000 }", "more than channel"),
        ("channel: 100", "more than channel"),
        ("retry: { base: 31s }", "longer than the longest"),
        ("retry: { also: [200] }", "no failure"),
        ("spool: { max_bytes: 1KiB }", "cannot hold a single batch"),
        ("timeout: 0s", "no time at all"),
        ("batch: { bytes: 0B }", "is zero"),
        ("batch: { bytes: 257MiB }", "more than 256MiB"),
    ] {
        let found = only_error("  - http:", &format!("  - {keys}\n    http:")).0;
        assert!(found.contains(message), "{keys}: {found}");
    }
}

#[test]
fn a_token_may_travel_where_nobody_listens() {
    for to in [
        "'http://127.0.0.1:1/{ip}', token: a",
        "'https://{ip}/', token: a",
        "'http://{ip}/', token: a, allow_plain_token: true",
    ] {
        assert_eq!(only_error("'http://{ip}/cpu'", to).0, "", "{to}");
    }
    let http = "{ url: 'https://api.example.net/load' }";
    for to in [
        "{ url: 'http://127.0.0.1:1/', token: a }",
        "{ url: 'http://localhost/', token: a }",
        "{ url: 'http://[::1]:1/', token: a }",
        "{ url: 'https://h/', token: a }",
        "{ url: 'http://h/', token: a, allow_plain_token: true }",
        "{ url: 'http://h/', token: '' }",
    ] {
        assert_eq!(only_error(http, to).0, "", "{to}");
    }
}

#[test]
fn a_column_that_is_nearly_right_is_suggested() {
    assert_eq!(only_error("{ip}", "{hosst}").1, "did you mean `host`?");
}

#[test]
fn keys_are_covered_by_their_parents_only() {
    assert!(covers("load.0", "load.0.batch"));
    assert!(covers("", "name"));
    assert!(!covers("load.1", "load.10"));
    assert_eq!(shown("load.0.retry.also.1"), "load[0].retry.also[1]");
}
