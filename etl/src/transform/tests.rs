//! Steps as a chain, and against plain implementations over trees: what is written field
//! by field must come out as if a tree had been built.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use super::testing::record;
use super::{Chain, RunFacts, Scratch, Verdict};

const RUN: RunFacts<'_> = RunFacts { pipeline: "sales", run_id: "9f3a61c06920a000" };

fn chain(steps: Value) -> Chain {
    Chain::new(&serde_json::from_value::<Vec<_>>(steps).unwrap(), RUN).unwrap()
}

/// The record after the steps; none when it was filtered.
fn apply(chain: &Chain, row: &[u8]) -> Result<Option<String>, String> {
    let mut out = b"before".to_vec();
    let verdict = chain.apply(row, &mut Scratch::default(), &mut out);
    let after = String::from_utf8(out.split_off(6)).unwrap();
    assert_eq!(out, b"before");
    match verdict {
        Ok(Verdict::Keep) => Ok(Some(after)),
        Ok(Verdict::Filtered) => {
            assert_eq!(after, "");
            Ok(None)
        }
        Err(rejected) => {
            assert_eq!(after, "");
            Err(rejected.to_string())
        }
    }
}

fn kept(steps: Value, row: &str) -> String {
    apply(&chain(steps), row.as_bytes()).unwrap().unwrap()
}

fn refused(steps: Value, row: &str) -> String {
    apply(&chain(steps), row.as_bytes()).unwrap_err()
}

#[test]
fn an_empty_chain_passes_records_on() {
    let empty = chain(json!([]));
    assert!(empty.is_empty());
    assert_eq!(apply(&empty, b"{}"), Ok(Some("{}".to_owned())));
}

#[test]
fn a_rejection_names_pipeline_step_field_and_value() {
    let steps = json!([{ "trim": "all" }, { "cast": { "user.age": "integer" } }, "cpu_indicators"]);
    assert_eq!(
        refused(steps.clone(), r#"{"user":{"age":" young\u001b "}}"#),
        r#"sales: transform[1] cast: user.age "young\u001b" is not a whole number"#
    );
    assert_eq!(
        refused(steps.clone(), r#"{"user":{"age":5}}"#),
        "sales: transform[2] cpu_indicators: pidle is missing"
    );
    assert_eq!(
        refused(steps.clone(), "{\"user\":"),
        "sales: transform[0] trim: the record lacks a value (byte 8)"
    );
    let long = format!(r#"{{"user":{{"age":"{}"}}}}"#, "x".repeat(100_000));
    assert!(refused(steps, &long).len() < 150);
}

#[test]
fn what_is_not_named_stays_as_it_is_written() {
    let row = r#"{"z":1.50,"b":{"x":"\u00e9\/","y":[1, 2]},"n":12345678901234567890123,"a":null}"#;
    assert_eq!(
        kept(json!([{ "drop": ["a", "b.x", "nothing"] }]), row),
        r#"{"z":1.50,"b":{"y":[1, 2]},"n":12345678901234567890123}"#
    );
    assert_eq!(
        kept(json!([{ "keep": ["n", "b.y", "a.b"] }]), row),
        r#"{"b":{"y":[1, 2]},"n":12345678901234567890123}"#
    );
    assert_eq!(kept(json!([{ "keep": ["nothing.x"] }]), row), "{}");
}

#[test]
fn names_that_stand_twice_are_all_kept_removed_or_masked_and_the_last_is_read() {
    let row = r#"{"a":1,"b":2,"a":3}"#;
    assert_eq!(kept(json!([{ "keep": ["a"] }]), row), r#"{"a":1,"a":3}"#);
    assert_eq!(kept(json!([{ "drop": ["a"] }]), row), r#"{"b":2}"#);
    assert_eq!(kept(json!([{ "mask": { "a": "redact" } }]), row), r#"{"a":"***","b":2,"a":"***"}"#);
    assert_eq!(kept(json!([{ "rename": { "a": "c" } }]), row), r#"{"c":3,"b":2}"#);
    assert_eq!(kept(json!([{ "add": { "a": { "value": 0 } } }]), row), r#"{"a":0,"b":2}"#);
    assert_eq!(
        kept(json!([{ "concat": { "into": "c", "from": ["a"] } }]), row),
        r#"{"a":1,"b":2,"a":3,"c":"3"}"#
    );
    let twice = r#"{"a":{"b":1},"a":{}}"#;
    assert!(refused(json!([{ "require": ["a.b"] }]), twice).contains("a.b is missing"));
    assert!(
        refused(json!([{ "flatten": { "separator": "_" } }]), row)
            .contains("\"a\" would be the name of two fields")
    );
}

#[test]
fn fields_move_and_change_names_at_once() {
    let rename = |pairs: Value, row: &str| kept(json!([{ "rename": pairs }]), row);
    assert_eq!(
        rename(json!({ "a": "b", "b": "a" }), r#"{"a":1,"b":2,"c":3}"#),
        r#"{"b":1,"a":2,"c":3}"#
    );
    assert_eq!(
        rename(json!({ "u.n": "name" }), r#"{"u":{"n":1,"m":2},"x":3}"#),
        r#"{"u":{"m":2},"x":3,"name":1}"#
    );
    assert_eq!(rename(json!({ "n": "u.v.n" }), r#"{"n":1}"#), r#"{"u":{"v":{"n":1}}}"#);
    assert_eq!(
        rename(json!({ "u.a": "u.b" }), r#"{"u":{"z":0,"a":1,"b":2}}"#),
        r#"{"u":{"z":0,"b":1}}"#
    );
    assert_eq!(rename(json!({ "u": "u.n" }), r#"{"u":1,"x":2}"#), r#"{"x":2,"u":{"n":1}}"#);
    assert_eq!(rename(json!({ "u.n": "u" }), r#"{"u":{"n":1},"x":2}"#), r#"{"u":1,"x":2}"#);
    assert_eq!(rename(json!({ "gone": "b" }), r#"{"a":1,"b":2}"#), r#"{"a":1,"b":2}"#);
    let error = refused(json!([{ "rename": { "a": "u.a" } }]), r#"{"a":1,"u":7}"#);
    assert!(
        error.ends_with("rename: u 7 is not an object, so no field can be put into it"),
        "{error}"
    );
}

#[test]
fn added_fields_are_the_same_all_through_a_run() {
    let add = json!([{ "add": {
        "at": "now", "run": "run_id", "meta.from": "source", "b": { "value": [1, "x", null] },
    } }]);
    assert_eq!(
        kept(add.clone(), r#"{"b":1,"c":2}"#),
        r#"{"b":[1,"x",null],"c":2,"at":"2025-11-21T17:23:12Z","run":"9f3a61c06920a000","meta":{"from":"sales"}}"#
    );
    assert_eq!(
        kept(add, r#"{"meta":{"x":1}}"#),
        r#"{"meta":{"x":1,"from":"sales"},"at":"2025-11-21T17:23:12Z","run":"9f3a61c06920a000","b":[1,"x",null]}"#
    );
}

#[test]
fn texts_are_joined_and_trimmed() {
    let concat = json!([{ "concat": { "into": "n", "from": ["a", "b.c", "d"], "with": " - " } }]);
    assert_eq!(
        kept(concat.clone(), r#"{"a":"x\"","b":{"c":1.0},"d":true}"#),
        r#"{"a":"x\"","b":{"c":1.0},"d":true,"n":"x\" - 1.0 - true"}"#
    );
    assert_eq!(
        kept(concat.clone(), r#"{"n":0,"a":null,"d":"z"}"#),
        r#"{"n":"z","a":null,"d":"z"}"#
    );
    assert_eq!(kept(concat.clone(), r#"{"a":null}"#), r#"{"a":null}"#);
    assert!(refused(concat, r#"{"a":[1]}"#).contains("a [1] is neither a text nor a number"));
    let row = r#"{" k ":" x ","b":["\t y",{"c":"\u00a0z\n"}],"d":"w"}"#;
    assert_eq!(kept(json!([{ "trim": "all" }]), row), r#"{" k ":"x","b":["y",{"c":"z"}],"d":"w"}"#);
    assert_eq!(kept(json!([{ "trim": ["d", " k "] }]), row), row.replace("\" x \"", "\"x\""));
}

#[test]
fn what_is_required_must_hold_something() {
    let require = json!([{ "require": ["id", "user.name"] }]);
    let good = r#"{"id":0,"user":{"name":" "}}"#;
    assert_eq!(kept(require.clone(), good), good);
    for (row, why) in [
        (r#"{"user":{"name":"x"}}"#, "id is missing"),
        (r#"{"id":null,"user":{"name":"x"}}"#, "id is null"),
        (r#"{"id":1,"user":{"name":""}}"#, "user.name is empty"),
        (r#"{"id":1,"user":"x"}"#, "user.name is missing"),
    ] {
        assert!(refused(require.clone(), row).ends_with(why), "{row}");
    }
}

#[test]
fn masks_hide_and_keep_equal_values_equal() {
    let mask = json!([{ "mask": { "email": "hash", "u.phone": "redact" } }]);
    let digest = blake3::hash(b"a@b.example").to_hex();
    assert_eq!(
        kept(mask.clone(), r#"{"email":"a\u0040b.example","u":{"phone":[1,{"x":2}]}}"#),
        format!(r#"{{"email":"{digest}","u":{{"phone":"***"}}}}"#)
    );
    assert_eq!(kept(mask, r#"{"email":null}"#), r#"{"email":null}"#);
}

/// Every step, with names that the arbitrary records have.
fn every_step() -> Vec<Value> {
    vec![
        json!({ "keep": ["a", "b.c"] }),
        json!({ "drop": ["a", "b.c"] }),
        json!({ "rename": { "a": "c.d", "b.a": "b.b", "c": "a" } }),
        json!({ "trim": "all" }),
        json!({ "trim": ["a", "b.c"] }),
        json!({ "require": ["a"] }),
        json!({ "cast": { "a": "number", "b": "text", "c.a": "integer", "c.b": "boolean" } }),
        json!({ "timestamp": ["a", "b.c"] }),
        json!({ "add": { "a.b": "now", "c": { "value": {} } } }),
        json!({ "concat": { "into": "b.c", "from": ["a", "c"], "with": "\"" } }),
        json!({ "flatten": { "separator": "\"\\" } }),
        json!({ "dedupe": ["a", "b"] }),
        json!({ "mask": { "a": "hash", "b.c": "redact" } }),
        json!({ "jq": "if .a then .b = .c else empty end" }),
        json!("cpu_indicators"),
    ]
}

fn bytes_or_record() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..80),
        (record(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(row, at, byte)| {
            let mut bytes = row.to_string().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        }),
        record().prop_map(|row| row.to_string().into_bytes()),
    ]
}

/// Non-overlapping paths of one or two names.
fn some_paths() -> impl Strategy<Value = Vec<Vec<&'static str>>> {
    let name = || prop::sample::select(vec!["a", "b", "c", "a_b"]);
    let path =
        prop_oneof![name().prop_map(|a| vec![a]), (name(), name()).prop_map(|(a, b)| vec![a, b])];
    proptest::collection::vec(path, 1..4).prop_map(|paths| {
        let mut apart: Vec<Vec<&str>> = Vec::new();
        for path in paths {
            if !apart.iter().any(|p| p.starts_with(&path) || path.starts_with(p)) {
                apart.push(path);
            }
        }
        apart
    })
}

fn keep_in_tree(object: &Map<String, Value>, paths: &[&[&str]]) -> Map<String, Value> {
    let mut out = Map::new();
    for (name, value) in object {
        let below: Vec<&[&str]> =
            paths.iter().filter(|path| path[0] == name).map(|path| &path[1..]).collect();
        if below.iter().any(|path| path.is_empty()) {
            out.insert(name.clone(), value.clone());
        } else if let Value::Object(inner) = value {
            let inner = keep_in_tree(inner, &below);
            if !inner.is_empty() {
                out.insert(name.clone(), Value::Object(inner));
            }
        }
    }
    out
}

fn get<'v>(row: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(row, |value, name| value.as_object()?.get(*name))
}

fn remove(row: &mut Value, path: &[&str]) -> Option<Value> {
    let (last, parents) = path.split_last()?;
    let parent =
        parents.iter().try_fold(row, |value, name| value.as_object_mut()?.get_mut(*name))?;
    parent.as_object_mut()?.shift_remove(*last)
}

fn put(row: &mut Value, path: &[&str], value: Value) -> Result<(), ()> {
    let (last, parents) = path.split_last().ok_or(())?;
    let mut parent = row;
    for name in parents {
        parent = parent.as_object_mut().ok_or(())?.entry(*name).or_insert_with(|| json!({}));
    }
    parent.as_object_mut().ok_or(())?.insert((*last).to_owned(), value);
    Ok(())
}

fn flatten_tree(object: &Map<String, Value>, prefix: &str, out: &mut Vec<(String, Value)>) {
    for (name, value) in object {
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                flatten_tree(inner, &format!("{prefix}{name}_"), out);
            }
            value => out.push((format!("{prefix}{name}"), value.clone())),
        }
    }
}

/// The step's result as a tree, its fields in their order.
fn result(step: Value, row: &Value) -> Option<Value> {
    let out = apply(&chain(json!([step])), row.to_string().as_bytes()).ok()??;
    Some(serde_json::from_str(&out).unwrap())
}

fn dotted(path: &[&str]) -> String {
    path.join(".")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn no_bytes_make_a_step_panic_or_write_what_is_no_record(row in bytes_or_record()) {
        static EVERY: LazyLock<Vec<Chain>> =
            LazyLock::new(|| every_step().into_iter().map(|step| chain(json!([step]))).collect());
        for step in EVERY.iter() {
            if let Ok(Some(out)) = apply(step, &row) {
                // A number may be larger than any float: it is passed on as it is written.
                let object: Result<BTreeMap<String, IgnoredAny>, _> = serde_json::from_str(&out);
                prop_assert!(object.is_ok(), "{:?} {}", step, out);
            }
        }
    }

    #[test]
    fn keep_and_drop_do_what_a_tree_does(row in record(), paths in some_paths()) {
        let slices: Vec<&[&str]> = paths.iter().map(Vec::as_slice).collect();
        let names: Vec<String> = paths.iter().map(|path| dotted(path)).collect();
        let expected = Value::Object(keep_in_tree(row.as_object().unwrap(), &slices));
        let found = result(json!({ "keep": names }), &row).unwrap();
        prop_assert_eq!(found.to_string(), expected.to_string());

        let mut expected = row.clone();
        for path in &paths {
            remove(&mut expected, path);
        }
        let found = result(json!({ "drop": names }), &row).unwrap();
        prop_assert_eq!(found.to_string(), expected.to_string());
    }

    #[test]
    fn rename_does_what_a_tree_does(row in record(), from in some_paths(), to in some_paths()) {
        let pairs: Vec<_> = from.iter().zip(&to).filter(|(from, to)| from != to).collect();
        let names: Map<String, Value> =
            pairs.iter().map(|(from, to)| (dotted(from), json!(dotted(to)))).collect();
        let found = result(json!({ "rename": names }), &row);
        let values: Vec<_> = pairs.iter().map(|(from, _)| get(&row, from).cloned()).collect();
        let mut expected = row.clone();
        for ((from, _), _) in pairs.iter().zip(&values).filter(|(_, value)| value.is_some()) {
            remove(&mut expected, from);
        }
        let placed = pairs.iter().zip(values).try_for_each(|((_, to), value)| match value {
            Some(value) => put(&mut expected, to, value),
            None => Ok(()),
        });
        // Trees compare without the order of their fields.
        prop_assert_eq!(found, placed.ok().map(|()| expected));
    }

    #[test]
    fn flatten_does_what_a_tree_does(row in record()) {
        let mut flat = Vec::new();
        flatten_tree(row.as_object().unwrap(), "", &mut flat);
        let expected: Map<String, Value> = flat.iter().cloned().collect();
        let expected = (expected.len() == flat.len()).then_some(Value::Object(expected));
        let found = result(json!({ "flatten": { "separator": "_" } }), &row);
        prop_assert_eq!(found.map(|v| v.to_string()), expected.map(|v| v.to_string()));
    }

    #[test]
    fn trim_and_mask_change_nothing_else(row in record()) {
        fn trimmed(value: &Value) -> Value {
            match value {
                Value::String(text) => json!(text.trim()),
                Value::Array(items) => items.iter().map(trimmed).collect(),
                Value::Object(fields) => {
                    Value::Object(fields.iter().map(|(n, v)| (n.clone(), trimmed(v))).collect())
                }
                other => other.clone(),
            }
        }
        prop_assert_eq!(result(json!({ "trim": "all" }), &row), Some(trimmed(&row)));
        let mut expected = row.clone();
        if expected["a"].is_null() {
            prop_assert_eq!(result(json!({ "mask": { "a": "redact" } }), &row), Some(row));
        } else {
            expected["a"] = json!("***");
            prop_assert_eq!(result(json!({ "mask": { "a": "redact" } }), &row), Some(expected));
        }
    }
}
