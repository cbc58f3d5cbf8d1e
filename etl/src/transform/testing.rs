//! Records for tests: any JSON object, with names that come up again.

use proptest::prelude::*;
use serde_json::{Map, Value};

fn name() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[abc]", 1 => "[ab]_[bc]", 1 => "[a-c.\\\\\"\n\té €]{0,4}"]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Numbers that serde_json reads back exactly.
        any::<i32>().prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
        " ?[a-c\\\\\"\n\u{7f}é😀]{0,5} ?".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::vec((name(), inner), 0..5)
                .prop_map(|fields| Value::Object(Map::from_iter(fields))),
        ]
    })
}

/// Any JSON object.
pub(super) fn record() -> impl Strategy<Value = Value> {
    proptest::collection::vec((name(), value()), 0..6)
        .prop_map(|fields| Value::Object(Map::from_iter(fields)))
}
