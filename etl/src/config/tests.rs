//! The room's guarantees, seen from its door: the frame as MANNERS shows it,
//! every error in one pass, no value of a variable in any message, no panic.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::Path;

use proptest::prelude::*;

use super::{Environment, Report, from_str, load};

/// A pipeline that sets every key, so that mutations of it reach every check.
const EVERY_KEY: &str = include_str!("tests/every-key.yaml");
const EVERY_SNMP_KEY: &str = include_str!("tests/every-snmp-key.yaml");
/// The same for a pipeline whose source is an API.
const EVERY_REST_KEY: &str = include_str!("tests/every-rest-key.yaml");
/// Every key that rows of shards know.
const EVERY_SQL_KEY: &str = include_str!("tests/every-sql-key.yaml");

fn refused(text: &str) -> Report {
    refused_with(text, &[], &Environment::empty())
}

fn refused_with(text: &str, sets: &[&str], environment: &Environment) -> Report {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    from_str("pipeline.yaml", text, &sets, environment).unwrap_err()
}

#[test]
fn a_wrong_key_looks_as_the_manners_say() {
    let text = "name: x
source:
  csv: { path: x.csv }
transform: []



load:
# the sink
- http: { url: https://api.example.net/load }
  channel: 2000
  # how many at once
  workers: 10
  bacth: { records: 200 }
";
    assert_eq!(
        refused(text).render(false),
        "error: unknown key `bacth` in load[0]
  --> pipeline.yaml:14:3
13 |   workers: 10
14 |   bacth: { records: 200 }
   |   ^^^^^ did you mean `batch`?
all keys here: etl schema load
nothing was read or sent
"
    );
}

#[test]
fn six_mistakes_come_in_one_pass() {
    let report = refused(
        "name: Not A Name
source: { csv: { path: a.csv, header: no } }
extract: { timeout: 8, http: { url: 'http://{ip}/' } }
load:
  - http: { url: ftp://x/ }
    bacth: { records: 200 }
    retry: { base: 9s, cap: '${LONGEST}' }
",
    );
    let shown = report.render(false);
    for expected in [
        "name: `Not A Name` cannot be a name",
        "source.csv.header: expected true or false, found `no`",
        "extract.timeout: `8` is not a duration",
        "unknown key `bacth` in load[0]",
        "load[0].http.url is not an http or https address",
        "variable `LONGEST` is not set",
        "\n6 errors\n",
    ] {
        assert!(shown.contains(expected), "{expected} in\n{shown}");
    }
    assert_eq!(report.error_count(), 6, "{shown}");
    assert_eq!(shown.matches("nothing was read or sent").count(), 1);
}

#[test]
fn one_mistake_is_one_error() {
    let base = "name: x\nsource: { csv: { path: a } }\nload: [{ http: { url: 'http://h/' } }]\n";
    for (from, to, message) in [
        ("name:", "nmae:", "unknown key `nmae`"),
        ("csv:", "cvs:", "unknown key `cvs`"),
        ("http: {", "htp: {", "unknown key `htp`"),
        ("{ http: { url: 'http://h/' } }", "{ url: 'http://h/' }", "unknown key `url`"),
        ("load:", "laod:", "unknown key `laod`"),
        ("url: 'http://h/'", "", "missing key `url` in load[0].http"),
        ("name: x\n", "", "missing key `name` at the top level"),
        ("[{ http: { url: 'http://h/' } }]", "[]", "load is empty"),
        ("[{ http: { url: 'http://h/' } }]", "", "load: expected a list, found nothing"),
        ("{ csv: { path: a } }", "[a]", "source: expected keys and values, found a list"),
        ("{ http: {", "{ workers: [], http: {", "found a list"),
        ("{ http: {", "{ batch: 3, http: {", "load[0].batch: expected keys and values"),
        ("{ http: {", "{ workers: 1, workers: 2, http: {", "duplicate key `workers` in load[0]"),
        ("{ http: {", "{ max_bytes: 1MiB, http: {", "unknown key `max_bytes`"),
        ("{ http: {", "{ spool: { mode: on-failure }, http: {", "unknown value `on-failure`"),
        ("load:", "transform: [cpu]\nload:", "transform[0]: unknown value `cpu`"),
        ("load:", "transform: [{ cpu_indicators: 1 }]\nload:", "`cpu_indicators` has no settings"),
        ("load:", "extract: {}\nload:", "extract says no kind"),
    ] {
        assert!(base.contains(from), "{from}");
        let report = refused(&base.replacen(from, to, 1));
        assert_eq!(report.error_count(), 1, "{to}: {report}");
        assert!(report.errors()[0].message.contains(message), "{to}: {report}");
    }
}

#[test]
fn a_variable_without_quotes_inside_braces_is_explained() {
    let report = refused("load: [{ http: { url: ${URL} } }]\n");
    assert_eq!(report.errors()[0].label, "inside { } and [ ], put quotes around `${…}`");
}

#[test]
fn a_key_in_the_wrong_place_is_shown_its_place() {
    let base = "name: x\nsource: { csv: { path: a } }\nload:\n  - http: { url: 'http://h/' }\n";
    for (extra, label) in [
        ("    compression: gzip\n", "it belongs under `http`"),
        ("    retry: { workers: 2 }\n", "it belongs one level up"),
        ("    tokn: x\n", "did you mean `token` under `http`?"),
        ("    delimiter: x\n", "did you mean `source.csv.delimiter`?"),
    ] {
        let report = refused(&format!("{base}{extra}"));
        assert_eq!(report.errors()[0].label, label, "{report}");
    }
}

#[test]
fn values_from_the_command_line_are_named_as_such() {
    let text = "name: x\nsource: { csv: { path: a } }\nload: [{ http: { url: 'http://h/' } }]\n";
    let sets = ["load.0.workers=many", "load.7.http.url=x"];
    assert_eq!(
        refused_with(text, &sets, &Environment::empty()).render(false),
        "error: load[0].workers: expected a whole number from 1 to 10000, found `many`
  --> from --set load.0.workers
   | load.0.workers=many
   |                ^^^^ for example 10

error: --set load.7.http.url: load has 1 entry
  --> from --set load.7.http.url
   | load.7.http.url=x
   |      ^ entries are counted from 0

2 errors
all keys here: etl schema load
nothing was read or sent
"
    );
}

#[test]
fn overrides_variables_and_defaults_make_the_effective_configuration() {
    let text = "name: x\nsource: { csv: { path: a } }\nload:\n  - http:\n      url: ${URL:-http://h/}\n      token: ${TOKEN:-}\n    workers: \"${WORKERS:-3}\"\n";
    let sets =
        ["load.0.batch.records=7".to_owned(), "load.0.http.url=http://127.0.0.1/".to_owned()];
    let environment =
        Environment::from_pairs([("TOKEN", "canary"), ("WORKERS", "5"), ("OTHER", "1")]);
    let loaded = from_str("p.yaml", text, &sets, &environment).unwrap();
    let sink = &loaded.pipeline.load[0];
    assert_eq!((sink.workers(), sink.limits().records, sink.channel()), (5, 7, 2000));
    assert_eq!(sink.http.as_ref().unwrap().token.as_ref().unwrap().expose(), "canary");
    assert_eq!((loaded.variables, loaded.secrets), (2, 1));
    assert_eq!(loaded.place("load.0.workers"), "load.0.workers (p.yaml:7)");
    assert_eq!(loaded.place("load.0.batch.records"), "load.0.batch.records");
    assert_eq!(loaded.origin("load.0.http.token").unwrap().variables, ["TOKEN"]);
    assert!(!format!("{loaded:?}{environment:?}").contains("canary"));

    let rotated = Environment::from_pairs([("TOKEN", "another"), ("WORKERS", "5")]);
    assert_eq!(from_str("q.yaml", text, &sets, &rotated).unwrap().digest, loaded.digest);
    assert_ne!(
        from_str("p.yaml", text, &[sets[1].clone()], &environment).unwrap().digest,
        loaded.digest
    );
    let without = from_str("p.yaml", text, &sets, &Environment::empty()).unwrap();
    assert!(without.pipeline.load[0].http.as_ref().unwrap().token.is_none());
    assert_eq!((without.variables, without.secrets), (0, 0));
}

#[test]
fn every_key_of_the_schema_is_accepted() {
    let loaded = from_str("p.yaml", EVERY_KEY, &[], &Environment::empty()).unwrap();
    let json = serde_json::to_string(&loaded.pipeline).unwrap();
    assert!(json.contains("(hidden)") && !json.contains("every-key-secret"), "{json}");
    assert_eq!(loaded.secrets, 6);
    let loaded = from_str("p.yaml", EVERY_REST_KEY, &[], &Environment::empty()).unwrap();
    let json = serde_json::to_string(&loaded.pipeline).unwrap();
    assert!(json.contains("(hidden)") && !json.contains("every-key-secret"), "{json}");
    assert_eq!(loaded.secrets, 2);
    let loaded = from_str("p.yaml", EVERY_SNMP_KEY, &[], &Environment::empty()).unwrap();
    let json = serde_json::to_string(&loaded.pipeline).unwrap();
    assert!(json.contains("(hidden)") && !json.contains("every-key-secret"), "{json}");
    assert_eq!(loaded.secrets, 2);
    let loaded = from_str("p.yaml", EVERY_SQL_KEY, &[], &Environment::empty()).unwrap();
    let json = serde_json::to_string(&loaded.pipeline).unwrap();
    assert!(json.contains("(hidden)") && !json.contains("every-key-secret"), "{json}");
    let shards = "postgres://me:every-key-secret-2@h/x?sslmode=require";
    for (shards, secrets) in
        [(shards.to_owned(), 1), (format!("['{shards}', '{}']", shards.replace("@h", "@g")), 2)]
    {
        let text = format!(
            "name: x\nsource:\n  sql:\n    kind: postgres\n    shards: {shards}\n    tables: [{{ table: \
             t, key: [id] }}]\nload:\n  - http: {{ url: 'https://h/' }}\n"
        );
        let loaded = from_str("p.yaml", &text, &[], &Environment::empty()).unwrap();
        assert_eq!(loaded.secrets, secrets);
        assert!(!serde_json::to_string(&loaded.pipeline).unwrap().contains("every-key-secret"));
    }
    let hosts = "name: x\nsource:\n  sql: { kind: postgres, shards: '${SHARDS:-}', hosts: '${HOSTS:-}', \
                 tables: [{ table: t, key: [id] }] }\nload:\n  - http: { url: 'https://h/' }\n";
    from_str("p.yaml", hosts, &[], &Environment::from_pairs([("HOSTS", "h")])).unwrap();
    for pagination in [
        "none",
        "link",
        "{ next: { pointer: /next } }",
        "{ cursor: { pointer: /c } }",
        "{ offset: {} }",
    ] {
        for auth in [
            "none",
            "{ bearer: x }",
            "{ basic: { user: x, password: y } }",
            "{ api_key: { query: q, key: k } }",
        ] {
            let text = format!(
                "name: x\nsource:\n  rest: {{ url: 'https://h/', pagination: {pagination}, auth: {auth} }}\nload:\n  - http: {{ url: 'https://h/' }}\n"
            );
            from_str("p.yaml", &text, &[], &Environment::empty()).unwrap();
        }
    }
}

/// Sinks that are compiled only on request: refused without, and with the same keys.
#[test]
fn every_key_of_a_feature_is_accepted_with_it_and_refused_without() {
    let text = format!("{EVERY_KEY}{}", include_str!("tests/every-key-of-features.yaml"));
    let read = from_str("p.yaml", &text, &[], &Environment::empty());
    if cfg!(all(feature = "parquet", feature = "s3")) {
        let loads = read.unwrap().pipeline.load;
        assert!(loads.iter().any(|load| load.sink_name() == "parquet"));
        return;
    }
    let shown = read.unwrap_err().render(false);
    for feature in ["parquet", "s3"] {
        assert!(shown.contains(&format!("--features {feature}")), "{shown}");
    }
}

#[test]
fn defaults_depend_on_the_kind_of_sink() {
    let text = "name: x\nsource: { csv: { path: a } }\nload:\n  - http: { url: 'http://h/' }\n  \
                - file: {}\n  - name: large\n    file: {}\n    batch: { records: 300000 }\n";
    let loaded = from_str("p.yaml", text, &[], &Environment::empty()).unwrap();
    let [http, file, large] = loaded.pipeline.load.as_slice() else { panic!("three sinks") };
    let of = |load: &super::Load| {
        (load.workers(), load.channel(), load.limits().records, load.timeout().0.as_secs())
    };
    assert_eq!(of(http), (10, 2000, 200, 15));
    assert_eq!(of(file), (2, 20_000, 10_000, 60));
    assert_eq!(of(large), (2, 600_000, 300_000, 60));
    assert_eq!((file.sink_name(), large.sink_name()), ("file", "large"));
}

#[test]
fn a_wrong_sink_of_files_is_refused_with_what_would_be_right() {
    for (settings, message, label) in [
        ("path: ''", "load[0].file.path is empty", "name a directory"),
        ("path: 'gs://b'", "load[0].file.path is neither a directory nor S3", "s3://bucket"),
        ("prefix: '../x'", "load[0].file.prefix cannot begin file names", "letters, digits"),
        ("partition_by: at", "load[0].file: partition_by is for partitions by day", "partition"),
        ("partition: ''", "load[0].file.partition is empty", "name a field"),
        ("s3: { region: x }", "load[0].file.s3: settings of S3 for a directory", "s3://bucket"),
    ] {
        let text = format!(
            "name: x\nsource: {{ csv: {{ path: a }} }}\nload: [{{ file: {{ {settings} }} }}]\n"
        );
        let report = refused(&text);
        assert_eq!(report.error_count(), 1, "{report}");
        let error = &report.errors()[0];
        assert_eq!(error.message, message);
        let said = format!("{}{}", error.label, error.help.as_deref().unwrap_or_default());
        assert!(said.contains(label), "{settings}: {said}");
    }
}

#[test]
fn no_value_of_a_variable_is_ever_shown() {
    const CANARY: &str = "Canary93f";
    for text in [EVERY_KEY, EVERY_REST_KEY] {
        shows_no_value_of(text, CANARY);
    }
}

/// Each value in turn, and all at once, comes from a variable that does not fit.
fn shows_no_value_of(every_key: &str, canary: &str) {
    let values: Vec<&str> = every_key
        .lines()
        .filter_map(|line| line.split_once(": ").map(|(_, value)| value.trim()))
        .filter(|value| !value.is_empty() && !value.starts_with(['[', '{', '#']))
        .collect();
    assert!(values.len() > 25);
    for bad in
        [canary.to_owned(), format!("http://{{{canary}}}@{canary}/{{"), format!("{canary}\n: [")]
    {
        let environment = Environment::from_pairs([("V", bad.as_str())]);
        let mut all = every_key.to_owned();
        let mut refusals = 0;
        for value in &values {
            let one = every_key.replacen(&format!(": {value}\n"), ": ${V}\n", 1);
            all = all.replacen(&format!(": {value}\n"), ": ${V}\n", 1);
            match from_str("p.yaml", &one, &[], &environment) {
                Ok(loaded) => assert!(!format!("{loaded:?}").contains(canary)),
                Err(report) => {
                    refusals += 1;
                    let shown = format!("{report} {report:?} {:?}", report.errors());
                    assert!(!shown.contains(canary), "{value}: {shown}");
                }
            }
        }
        assert!(refusals > 20, "{refusals}");
        let report = from_str("p.yaml", &all, &[], &environment).unwrap_err();
        assert!(!format!("{report:?} {:?}", report.errors()).contains(canary));
    }
}

#[test]
fn rules_over_values_from_variables_do_not_show_them_either() {
    let text = "name: x
source: { csv: { path: a, header: false, columns: ['${COLUMN}', 'b'] } }
extract: { http: { url: 'http://h/{${COLUMN}x}' } }
load:
  - name: ${NAME}
    http: { url: 'http://${HOST}/', token: '${TOKEN}' }
    retry: { base: '${BASE}', cap: 1s, also: ['${STATUS}'] }
    batch: { records: '${RECORDS}' }
  - name: ${NAME}
    http: { url: 'http://h/' }
";
    let values = [
        ("COLUMN", "canary1"),
        ("NAME", "canary2"),
        ("HOST", "canary3"),
        ("TOKEN", "canary4"),
        ("BASE", "4242s"),
        ("STATUS", "142"),
        ("RECORDS", "424242"),
    ];
    let shown = refused_with(text, &[], &Environment::from_pairs(values)).render(false);
    assert_eq!(shown.matches("error: ").count(), 6, "{shown}");
    for (_, value) in values {
        assert!(!shown.contains(value), "{value}: {shown}");
    }
}

#[test]
fn literal_secrets_are_masked_in_every_frame() {
    let good = "name: x\nsource: { csv: { path: a } }\nload:\n  - http:\n      url: 'https://h/'\n";
    for extra in [
        "      token: canary\n    wrokers: 1\n",
        "      token: canary\n      token: canary\n",
        "      tokn: canary\n",
        "      token: |\n        canary\n        canary\n    wrokers: 1\n",
        "      headers: { X-Other: canary, bad name: canary }\n",
        "      headers:\n        X-Other: canary\n      wrong: 1\n",
        "    headers: { X-Other: x, Authorization: canary }\n",
        "    token: canary\n",
        "      password: canary\n",
        "      token: canary\n     broken: [\n",
        "      token: [canary]\n",
        "      proxy: 'http://me:canary@h/'\n",
    ] {
        let report = refused(&format!("{good}{extra}"));
        assert!(!report.render(true).contains("canary"), "{extra}: {report}");
    }
    let sets =
        ["load.0.http.token=canary", "load.0.http.tokn=canary", "load.0.wrong.secret=canary"];
    let report = refused_with(good, &sets, &Environment::empty());
    assert!(!report.render(false).contains("canary"), "{report}");
}

#[test]
fn a_file_that_is_wrong_everywhere_shows_the_first_fifty() {
    let keys: String = (0..3000).map(|n| format!("key{n}: 1\n")).collect();
    let report = refused(&format!("{EVERY_KEY}{keys}"));
    let shown = report.render(false);
    assert_eq!(report.error_count(), 3000);
    assert_eq!(shown.matches("error: ").count(), 50);
    assert!(shown.contains("\n3000 errors; the first 50 are shown\n"), "{shown}");
}

#[test]
fn windows_line_ends_and_byte_order_marks_change_nothing() {
    let text = format!("\u{feff}{}", EVERY_KEY.replace('\n', "\r\n"));
    assert!(from_str("p.yaml", &text, &[], &Environment::empty()).is_ok());
    let shown = refused(&text.replace("name: every", "nmae: every")).render(false);
    assert!(shown.contains("pipeline.yaml:1:1\n 1 | nmae: every-key\n   | ^^^^ did"), "{shown}");
}

#[test]
fn files_that_cannot_be_read_say_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let environment = Environment::empty();
    let refused = |path: &Path| load(path, &[], Some(&environment)).unwrap_err().render(false);
    std::fs::write(directory.path().join("appliances.yaml"), "").unwrap();
    std::fs::write(directory.path().join("latin1.yaml"), b"name: x\nurl: caf\xe9\n").unwrap();
    std::fs::write(directory.path().join("large.yaml"), "#".repeat(2 << 20)).unwrap();
    for (name, message) in [
        ("aplliances.yaml", "appliances.yaml?\nnothing was read or sent\n"),
        ("nothing-like-it.yaml", "check the name"),
        ("none/p.yaml", "there is no directory"),
        ("", "is a directory"),
        ("latin1.yaml", "is not UTF-8 text (line 2)"),
        ("large.yaml", "is larger than 1024 KiB"),
        ("appliances.yaml", "the file is empty"),
    ] {
        let shown = refused(&directory.path().join(name));
        assert!(shown.starts_with("error: ") && shown.contains(message), "{name}: {shown}");
    }
}

#[test]
fn paths_are_relative_to_the_file_and_env_files_are_read_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("p.yaml");
    std::fs::write(&file, EVERY_KEY).unwrap();
    let loaded = load(&file, &[], Some(&Environment::empty())).unwrap();
    let csv = loaded.pipeline.source.csv.unwrap();
    assert_eq!(csv.path, directory.path().join("rows.csv"));
    let ca = loaded.pipeline.load[0].http.clone().unwrap().tls.ca.unwrap();
    assert_eq!(ca, Path::new("/etc/ca.pem"));
    assert_eq!(loaded.path, file);
}

fn must_not_panic(text: &str) {
    let environment = Environment::from_pairs([("A", "b"), ("E", "")]);
    let sets = ["load.0.workers=2".to_owned(), text.to_owned(), format!("load.0={text}")];
    for sets in [&[][..], &sets] {
        if let Err(report) = from_str("p.yaml", text, sets, &environment) {
            assert!(report.error_count() > 0);
            assert!(!report.render(true).is_empty());
            report.errors().iter().for_each(|error| {
                assert!(report.position(error).is_none_or(|position| position.line > 0));
            });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        must_not_panic(&text);
    }

    #[test]
    fn no_yaml_like_text_panics(text in "([a-e:{}\\[\\],\\-\n \t$#'\"&*!|>%@`~<=.é]|\\$\\{A:-|: |\n  |\n- |load:|http:){0,120}") {
        must_not_panic(&text);
    }

    #[test]
    fn no_damaged_pipeline_panics(
        at in 0..EVERY_KEY.len(),
        remove in 0usize..60,
        insert in "[a-z:{}\\[\\],\\- \n\t$'\"&*#|>~é0-9]{0,6}",
    ) {
        let mut text = EVERY_KEY.to_owned();
        let end = (at + remove).min(text.len());
        text.replace_range(at..end, &insert);
        must_not_panic(&text);
    }
}
