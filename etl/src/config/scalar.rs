//! A single value against the type that the schema asks for. The text decides,
//! not its looks: `version: 1.1` is the text "1.1" where text is wanted, and a
//! number from a variable is a number although variables are text.

use serde_json::Value as Json;

use super::mask::quoted;
use super::pipeline::{ColumnType, NAME_PATTERN, ParquetTypeText, is_name};
use super::schema::{choices, forms, resolve, type_of};
use super::suggest::one_of;
use super::tree::{Filled, Scalar};
use super::units::{Rate, Share, Size, Span, UnitError};

/// Why a value does not fit; never holds a value from a variable.
pub(crate) struct Problem {
    pub message: String,
    pub label: String,
}

/// The value as the schema's type, or why it does not fit.
pub(crate) fn typed(scalar: &Scalar, definition: &str, schema: &Json) -> Result<Json, Problem> {
    let wrong = |label: String| Problem {
        message: format!("expected {}, found {}", expected(definition, schema), found(scalar)),
        label,
    };
    let text = scalar.text.trim();
    if scalar.is_null() {
        return Err(wrong(example(definition, schema)));
    }
    let retyped = scalar.plain || matches!(scalar.filled, Filled::From(_));
    match (definition, type_of(schema)) {
        ("Duration", _) => unit(scalar, text.parse::<Span>()),
        ("Size", _) => unit(scalar, text.parse::<Size>()),
        ("Rate", _) => unit(scalar, text.parse::<Rate>()),
        ("Share", _) => unit(scalar, text.parse::<Share>()),
        ("ColumnType", _) => unit(scalar, text.parse::<ColumnType>()),
        ("ParquetType", _) => unit(scalar, text.parse::<ParquetTypeText>()),
        (_, "string") => string(scalar, schema),
        (_, "integer") => match parse_integer(text).filter(|_| retyped) {
            Some(number) => in_range(number, schema).ok_or_else(|| Problem {
                message: format!("{} is out of range", found(scalar)),
                label: format!("expected {}", expected(definition, schema)),
            }),
            None => Err(wrong(example(definition, schema))),
        },
        (_, "number") => match text.parse::<f64>().ok().filter(|n| retyped && n.is_finite()) {
            Some(number) => Ok(Json::from(number)),
            None => Err(wrong(example(definition, schema))),
        },
        (_, "boolean") => match text {
            "true" | "True" | "TRUE" if retyped => Ok(Json::Bool(true)),
            "false" | "False" | "FALSE" if retyped => Ok(Json::Bool(false)),
            "yes" | "on" | "Yes" | "On" if scalar.plain => Err(wrong("write true".to_owned())),
            "no" | "off" | "No" | "Off" if scalar.plain => Err(wrong("write false".to_owned())),
            _ if scalar.plain => Err(wrong(String::new())),
            _ => Err(wrong("without quotes".to_owned())),
        },
        (_, "array") => Err(wrong("write it as a list: [ … ]".to_owned())),
        _ => Err(wrong(example(definition, schema))),
    }
}

/// A value for a message: as it stands in the file, but for variables only their name.
pub(crate) fn found(scalar: &Scalar) -> String {
    match &scalar.filled {
        Filled::From(names) => {
            let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
            format!("the value of {}", names.join(" and "))
        }
        _ if scalar.is_null() || scalar.text.is_empty() => "nothing".to_owned(),
        _ => quoted(&scalar.text),
    }
}

/// What the schema wants, in words: "a whole number from 1 to 100".
pub(crate) fn expected(definition: &str, schema: &Json) -> String {
    let names = choices(schema);
    if !names.is_empty() {
        return one_of(&names.iter().map(|choice| choice.name).collect::<Vec<_>>());
    }
    if !forms(schema).is_empty() {
        let forms = forms(schema).iter().map(resolve);
        let forms: Vec<String> = forms.map(|form| expected(form.name, form.schema)).collect();
        return forms.join(", or ");
    }
    match (definition, type_of(schema)) {
        ("Duration", _) => "a duration such as 8s".to_owned(),
        ("Size", _) => "a size such as 1MiB".to_owned(),
        ("Rate", _) => "a rate such as 500/s".to_owned(),
        ("Share", _) => "a share such as 5%".to_owned(),
        ("ColumnType", _) => "a column type such as text".to_owned(),
        ("ParquetType", _) => "a column type such as decimal(18,4)".to_owned(),
        (_, "integer") => match (schema["minimum"].as_u64(), schema["maximum"].as_u64()) {
            (Some(min), Some(max)) => format!("a whole number from {min} to {max}"),
            (Some(min), None) if min > 0 => format!("a whole number from {min}"),
            _ => "a whole number".to_owned(),
        },
        (_, "number") => "a number".to_owned(),
        (_, "boolean") => "true or false".to_owned(),
        (_, "string") => "text".to_owned(),
        (_, "array") => "a list".to_owned(),
        _ => "keys and values".to_owned(),
    }
}

/// A value that decodes and means nothing, to stand where a wrong one was.
pub(crate) fn placeholder(schema: &Json) -> Json {
    let resolved = resolve(schema);
    if resolved.nullable {
        return Json::Null;
    }
    if let Some(choice) = choices(resolved.schema).iter().find(|choice| choice.settings.is_none()) {
        return Json::from(choice.name);
    }
    if let [form, ..] = forms(resolved.schema) {
        return placeholder(form);
    }
    if let Some(example) = resolved.schema["examples"].get(0) {
        return example.clone();
    }
    match type_of(resolved.schema) {
        "integer" => Json::from(resolved.schema["minimum"].as_u64().unwrap_or(0).max(1)),
        "number" => Json::from(0),
        "boolean" => Json::Bool(false),
        "array" => Json::Array(Vec::new()),
        "string" => Json::from("x"),
        _ => {
            let required = resolved.schema["required"].as_array().into_iter().flatten();
            let required = required.filter_map(Json::as_str);
            let fill =
                |name: &str| (name.to_owned(), placeholder(&resolved.schema["properties"][name]));
            Json::Object(required.map(fill).collect())
        }
    }
}

fn string(scalar: &Scalar, schema: &Json) -> Result<Json, Problem> {
    let length = scalar.text.chars().count() as u64;
    let fewest = schema["minLength"].as_u64().unwrap_or(0);
    let most = schema["maxLength"].as_u64().unwrap_or(u64::MAX);
    if length < fewest || length > most {
        let wanted = match (fewest, most) {
            (1, 1) => "a single character".to_owned(),
            (fewest, u64::MAX) => format!("at least {fewest} characters"),
            (fewest, most) => format!("{fewest} to {most} characters"),
        };
        return Err(Problem {
            message: format!("expected {wanted}, found {}", found(scalar)),
            label: String::new(),
        });
    }
    if schema["pattern"] == NAME_PATTERN && !is_name(&scalar.text) {
        return Err(Problem {
            message: format!("{} cannot be a name", found(scalar)),
            label: "at most 64 of a-z, 0-9, - and _, beginning with a letter or digit".to_owned(),
        });
    }
    Ok(Json::from(scalar.text.as_str()))
}

fn unit<T: serde::Serialize>(scalar: &Scalar, read: Result<T, UnitError>) -> Result<Json, Problem> {
    match read {
        // The text goes on, not the value: it is read once more when it is decoded.
        Ok(_) => Ok(Json::from(scalar.text.trim())),
        Err(error) => {
            let (what, how) = error.expected().split_once("; ").unwrap_or((error.expected(), ""));
            Err(Problem {
                message: format!("{} is not {what}", found(scalar)),
                label: how.to_owned(),
            })
        }
    }
}

fn parse_integer(text: &str) -> Option<i128> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits_only = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits_only.then(|| text.parse().unwrap_or(i128::MAX))
}

fn in_range(number: i128, schema: &Json) -> Option<Json> {
    let min = schema["minimum"].as_i64().map_or(i128::from(i64::MIN), i128::from);
    let max = schema["maximum"].as_u64().map_or(i128::from(i64::MAX), i128::from);
    if number < min || number > max {
        return None;
    }
    u64::try_from(number).map(Json::from).or_else(|_| i64::try_from(number).map(Json::from)).ok()
}

fn example(definition: &str, schema: &Json) -> String {
    match (definition, type_of(schema)) {
        (_, "integer") => "for example 10".to_owned(),
        (_, "array") => "write it as a list: [ … ]".to_owned(),
        ("", "string") => "write \"\" for an empty text".to_owned(),
        ("Duration", _) => "for example 8s".to_owned(),
        ("Size", _) => "for example 1MiB".to_owned(),
        ("Rate", _) => "for example 500/s".to_owned(),
        ("Share", _) => "for example 5%".to_owned(),
        ("ColumnType", _) => "for example string".to_owned(),
        (_, "object") => {
            let properties = schema["properties"].as_object();
            let mut with_default =
                properties.into_iter().flatten().filter_map(|(name, property)| {
                    let default = &property["default"];
                    let default = default.as_str().map_or(default.to_string(), str::to_owned);
                    (!property["default"].is_null()).then(|| format!("{name}: {default}"))
                });
            let first = properties.and_then(|all| all.keys().next());
            let entry = with_default.next().or_else(|| first.map(|name| format!("{name}: …")));
            entry.map_or_else(String::new, |entry| format!("for example {{ {entry} }}"))
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use serde_json::{Value as Json, json};

    use super::super::pipeline::NAME_PATTERN;
    use super::super::schema::pipeline_schema;
    use super::super::tree::{Filled, Scalar};
    use super::{placeholder, typed};

    fn read(text: &str, plain: bool, wanted: &str) -> Result<Json, String> {
        let schema = json!({ "type": wanted, "minimum": 1, "maximum": 100 });
        typed(&Scalar::written(text, plain), "", &schema).map_err(|p| p.message)
    }

    #[test]
    fn the_schema_decides_what_a_text_means() {
        assert_eq!(read("1.10", true, "string"), Ok(json!("1.10")));
        assert_eq!(read("no", true, "string"), Ok(json!("no")));
        assert_eq!(read("10", true, "integer"), Ok(json!(10)));
        assert_eq!(read("True", true, "boolean"), Ok(json!(true)));
        assert!(read("10", false, "integer").unwrap_err().contains("found `10`"));
        assert!(read("101", true, "integer").unwrap_err().contains("out of range"));
        assert!(read(&"9".repeat(50), true, "integer").unwrap_err().contains("out of range"));
        assert!(read("1e3", true, "integer").is_err());
        assert!(read("", true, "string").unwrap_err().contains("found nothing"));
        assert_eq!(read("", false, "string"), Ok(json!("")));
    }

    #[test]
    fn a_value_from_a_variable_is_retyped_and_never_shown() {
        let from = |text: &str| Scalar {
            text: text.to_owned(),
            plain: false,
            filled: Filled::From(vec!["W".to_owned()]),
        };
        let schema = json!({ "type": "integer" });
        assert_eq!(typed(&from("7"), "", &schema).ok(), Some(json!(7)));
        for (definition, wanted) in
            [("", "integer"), ("", "boolean"), ("Duration", "string"), ("Size", "string")]
        {
            let schema = json!({ "type": wanted });
            let problem = typed(&from("canary"), definition, &schema).err().unwrap();
            assert!(problem.message.contains("the value of `W`"), "{}", problem.message);
            assert!(!format!("{}{}", problem.message, problem.label).contains("canary"));
        }
    }

    #[test]
    fn every_definition_has_a_placeholder_that_decodes() {
        let decoded =
            serde_json::from_value::<super::super::Pipeline>(placeholder(pipeline_schema()));
        assert!(decoded.is_ok(), "{decoded:?}");
    }

    #[test]
    fn every_pattern_of_the_schema_is_one_that_is_checked() {
        fn patterns(schema: &Json, found: &mut Vec<String>) {
            match schema {
                Json::Object(object) => {
                    if object.contains_key("examples") {
                        return; // a unit: read by its own parser
                    }
                    found.extend(object.get("pattern").and_then(Json::as_str).map(str::to_owned));
                    object.values().for_each(|value| patterns(value, found));
                }
                Json::Array(items) => items.iter().for_each(|item| patterns(item, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        patterns(pipeline_schema(), &mut found);
        assert!(!found.is_empty());
        assert!(found.iter().all(|pattern| pattern == NAME_PATTERN), "{found:?}");
    }
}
