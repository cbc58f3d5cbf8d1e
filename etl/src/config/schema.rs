//! The JSON Schema of a pipeline, generated from the types that a run uses.
//! `etl schema` prints it and [`validate`](super::validate) walks it, so what
//! is printed and what is accepted cannot differ.

use std::sync::LazyLock;

use serde_json::{Map, Value as Json};

use super::pipeline::Pipeline;
use super::suggest::nearest;

static PIPELINE: LazyLock<Json> = LazyLock::new(|| {
    let mut schema = schemars::schema_for!(Pipeline).to_value();
    if let Json::Object(root) = &mut schema {
        root.insert("title".to_owned(), Json::from("etl pipeline"));
    }
    schema
});

/// The schema of a whole pipeline, JSON Schema draft 2020-12.
///
/// An editor uses it through the first line of a pipeline's file:
/// `# yaml-language-server: $schema=pipeline.schema.json`, where that file
/// holds the output of `etl schema`.
#[must_use]
pub fn pipeline_schema() -> &'static Json {
    &PIPELINE
}

/// A name that is no section, with the sections it may have meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} {section}", self.trouble())]
pub struct UnknownSection {
    /// The name, quoted and safe to print.
    pub section: String,
    /// Whether several sections have this name; `nearest` are these.
    pub several: bool,
    /// The nearest sections, best first, at most three.
    pub nearest: Vec<String>,
}

impl UnknownSection {
    fn trouble(&self) -> &'static str {
        if self.several { "several sections are called" } else { "no section" }
    }
}

/// The schema of one section, such as `load`, `load.http` or, where only one
/// section has that key, `batch`. Complete in itself: it brings its definitions.
///
/// # Errors
/// No section of that name, or several.
pub fn section_schema(section: &str) -> Result<Json, UnknownSection> {
    let found = SECTIONS.iter().find(|(path, _)| path == section).or_else(|| {
        let mut same = named(section);
        let first = same.next()?;
        same.next().is_none().then_some(first)
    });
    let Some((path, schema)) = found else {
        return Err(unknown_section(section));
    };
    let mut out = Map::new();
    out.insert("$schema".to_owned(), PIPELINE["$schema"].clone());
    out.insert("title".to_owned(), Json::from(format!("etl pipeline: {path}")));
    out.extend(schema.as_object().cloned().unwrap_or_default());
    let definitions = definitions_of(schema);
    if !definitions.is_empty() {
        out.insert("$defs".to_owned(), Json::Object(definitions));
    }
    Ok(Json::Object(out))
}

fn unknown_section(section: &str) -> UnknownSection {
    let paths = || SECTIONS.iter().map(|(path, _)| path.as_str());
    let mut names: Vec<&str> = named(section).map(|(path, _)| path.as_str()).collect();
    let several = !names.is_empty();
    if names.is_empty() {
        names = nearest(section, paths());
    }
    if names.is_empty() {
        let last = nearest(last_step(section), paths().map(last_step));
        names = paths().filter(|path| last.contains(&last_step(path))).collect();
        names.retain(|path| !path.starts_with(REPEATED));
    }
    names.truncate(3);
    let nearest = names.into_iter().map(str::to_owned).collect();
    UnknownSection { section: super::mask::quoted(section), several, nearest }
}

/// `raw` holds sinks as `load` does; a bare name means the one under `load`.
const REPEATED: &str = "raw.";

/// The sections whose last step is this name.
fn named(name: &str) -> impl Iterator<Item = &'static (String, &'static Json)> {
    SECTIONS.iter().filter(move |(path, _)| last_step(path) == name && !path.starts_with(REPEATED))
}

fn last_step(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// The paths of all keys with this name.
pub(crate) fn sections_with(key: &str) -> Vec<&'static str> {
    named(key).map(|(path, _)| path.as_str()).collect()
}

/// Every key of the pipeline with its schema, in the order of the types.
static SECTIONS: LazyLock<Vec<(String, &'static Json)>> = LazyLock::new(|| {
    fn add(
        prefix: &str,
        schema: &'static Json,
        depth: usize,
        found: &mut Vec<(String, &'static Json)>,
    ) {
        let Some(properties) = schema["properties"].as_object() else { return };
        for (name, property) in properties {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            let mut inner = resolve(property);
            if inner.schema["type"] == "array" && inner.schema["items"].is_object() {
                inner = resolve(&inner.schema["items"]);
            }
            found.push((path.clone(), inner.schema));
            if depth > 0 {
                add(&path, inner.schema, depth - 1, found);
            }
        }
    }
    let mut found = Vec::new();
    // Deeper than any pipeline; a bound in case a type ever contains itself.
    add("", &PIPELINE, 6, &mut found);
    found
});

/// The definitions a schema refers to, directly or through others.
fn definitions_of(schema: &Json) -> Map<String, Json> {
    let mut needed: Vec<String> = Vec::new();
    let mut waiting = vec![schema];
    while let Some(next) = waiting.pop() {
        match next {
            Json::Object(object) => {
                if let Some(name) = object.get("$ref").and_then(Json::as_str).and_then(def_name)
                    && !needed.iter().any(|known| known == name)
                {
                    needed.push(name.to_owned());
                    waiting.push(&PIPELINE["$defs"][name]);
                }
                waiting.extend(object.values());
            }
            Json::Array(items) => waiting.extend(items),
            _ => {}
        }
    }
    let all = PIPELINE["$defs"].as_object();
    let all = all.into_iter().flatten();
    all.filter(|(name, _)| needed.contains(name)).map(|(n, d)| (n.clone(), d.clone())).collect()
}

fn def_name(reference: &str) -> Option<&str> {
    reference.strip_prefix("#/$defs/")
}

/// A schema with its references followed.
#[derive(Clone, Copy)]
pub(crate) struct Resolved<'s> {
    pub schema: &'s Json,
    /// The definition's name, such as `Duration`.
    pub name: &'s str,
    /// Whether nothing (`null`) is allowed as well.
    pub nullable: bool,
}

/// Follows references and strips "or null".
pub(crate) fn resolve(schema: &Json) -> Resolved<'_> {
    let mut resolved = Resolved { schema, name: "", nullable: false };
    // References of generated schemas are never circular at the same place; the bound is for show.
    for _ in 0..16 {
        if let Some(name) = resolved.schema["$ref"].as_str().and_then(def_name) {
            let definitions: &Json = &PIPELINE["$defs"];
            if let Some((name, definition)) =
                definitions.as_object().and_then(|all| all.get_key_value(name))
            {
                resolved = Resolved { schema: definition, name, nullable: resolved.nullable };
                continue;
            }
        }
        let Some(alternatives) = resolved.schema["anyOf"].as_array() else { break };
        let Some(inner) = alternatives.iter().find(|one| one["type"] != "null") else { break };
        let or_null = alternatives.iter().any(|one| one["type"] == "null");
        // Where a single value stands for a key, the keys are what is checked; other
        // alternatives are forms of the same value.
        if !or_null && inner["x-alone"].is_null() {
            break;
        }
        resolved.schema = inner;
        resolved.nullable |= or_null;
    }
    let types = resolved.schema["type"].as_array();
    resolved.nullable |= types.is_some_and(|types| types.iter().any(|name| name == "null"));
    resolved
}

/// The type a schema asks for: `string`, `integer`, `object` …
pub(crate) fn type_of(schema: &Json) -> &str {
    match &schema["type"] {
        Json::String(name) => name,
        Json::Array(names) => {
            names.iter().filter_map(Json::as_str).find(|name| *name != "null").unwrap_or("")
        }
        _ => "",
    }
}

/// Whether a schema allows a value of `kind`, perhaps beside others.
pub(crate) fn allows(schema: &Json, kind: &str) -> bool {
    match &schema["type"] {
        Json::String(name) => name == kind,
        Json::Array(names) => names.iter().any(|name| name == kind),
        _ => false,
    }
}

/// The kinds of which exactly one must be set: `oneOf: [{required: [csv]}, …]`.
pub(crate) fn kinds(schema: &Json) -> Vec<&str> {
    let choices = schema["oneOf"].as_array().into_iter().flatten();
    choices
        .filter_map(|choice| choice["required"][0].as_str().filter(|_| choice["type"].is_null()))
        .collect()
}

/// The forms a value may be written in, such as one text or a list of texts, of which
/// each has another shape; empty for a schema with one form.
pub(crate) fn forms(schema: &Json) -> &[Json] {
    schema["anyOf"].as_array().map_or(&[], Vec::as_slice)
}

/// One choice of an enumeration: a bare word, or a word with settings.
pub(crate) struct Choice<'s> {
    pub name: &'s str,
    pub settings: Option<&'s Json>,
}

/// The choices of an enumeration; empty for any other schema.
pub(crate) fn choices(schema: &Json) -> Vec<Choice<'_>> {
    let mut found = Vec::new();
    let alternatives = schema["oneOf"].as_array();
    for one in alternatives.map_or_else(|| std::slice::from_ref(schema), Vec::as_slice) {
        if let Some(name) = one["const"].as_str() {
            found.push(Choice { name, settings: None });
        } else if let Some(names) = one["enum"].as_array() {
            let names = names.iter().filter_map(Json::as_str);
            found.extend(names.map(|name| Choice { name, settings: None }));
        } else if alternatives.is_some()
            && one["type"] == "object"
            && let Some(name) = one["required"][0].as_str()
        {
            found.push(Choice { name, settings: Some(&one["properties"][name]) });
        }
    }
    found
}

/// The description's first line, to explain a key that is missing.
pub(crate) fn description(schema: &Json) -> &str {
    schema["description"].as_str().unwrap_or_default().lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::{choices, kinds, pipeline_schema, section_schema};

    #[test]
    fn the_schema_has_titles_descriptions_and_defaults() {
        let schema = pipeline_schema();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(schema["title"], "etl pipeline");
        assert_eq!(schema["$defs"]["Load"]["properties"]["workers_max"]["default"], 256);
        assert_eq!(schema["$defs"]["SpoolSettings"]["properties"]["max_bytes"]["default"], "1GiB");
        assert_eq!(schema["$defs"]["Secret"]["writeOnly"], true);
        for (name, property) in schema["properties"].as_object().unwrap() {
            assert!(property["description"].is_string(), "{name}");
        }
    }

    #[test]
    fn kinds_and_choices_are_read_from_the_schema() {
        let definitions = &pipeline_schema()["$defs"];
        assert_eq!(kinds(&definitions["Extract"]), ["simulated", "http", "snmp"]);
        assert_eq!(kinds(&definitions["HttpFormat"]), [""; 0]);
        let steps = choices(&definitions["Step"]);
        assert!(steps.iter().any(|step| step.name == "cpu_indicators"));
        assert!(choices(&definitions["Load"]).is_empty());
    }

    #[test]
    fn sections_are_found_by_path_or_by_a_name_that_is_unique() {
        let load = section_schema("load").unwrap();
        assert_eq!(load["title"], "etl pipeline: load");
        assert!(load["properties"]["batch"].is_object());
        assert!(load["$defs"]["BatchSettings"].is_object());
        assert!(load["$defs"]["CsvSource"].is_null());
        assert!(section_schema("batch").unwrap()["properties"]["linger"].is_object());
        assert!(section_schema("extract.http").unwrap()["properties"]["url"].is_object());
        assert_eq!(section_schema("batch").unwrap()["title"], "etl pipeline: load.batch");
        assert!(section_schema("raw.http").is_ok());
        assert_eq!(section_schema("lod").unwrap_err().nearest, ["load"]);
        let ambiguous = section_schema("http").unwrap_err();
        assert_eq!(ambiguous.nearest, ["extract.http", "load.http"]);
        assert_eq!(ambiguous.to_string(), "several sections are called `http`");
    }
}
