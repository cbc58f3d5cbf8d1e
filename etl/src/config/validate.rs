//! Walks the tree along the JSON Schema and collects every error in one pass.
//!
//! What is wrong is replaced by a harmless placeholder and remembered, so that
//! the rest can still be decoded and checked: a misspelt key must not hide a
//! bad address ten lines further down.

mod choice;
mod constant;
mod keys;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value as Json};

use super::diagnostic::{Diagnostic, Place};
use super::mask::{only_names_a_variable, quoted};
use super::origin::{Extent, Texts};
use super::scalar::{self, placeholder};
use super::schema::{
    Choice, Resolved, allows, choices, description, forms, kinds, pipeline_schema, resolve, type_of,
};
use super::tree::{Filled, Key, Node, Scalar, Value};

/// What the walk found.
#[derive(Default)]
pub(crate) struct Outcome {
    /// The configuration as JSON, placeholders where it was wrong.
    pub value: Json,
    pub errors: Vec<Diagnostic>,
    /// Dotted keys that hold placeholders: nothing may be concluded from them.
    pub tainted: BTreeSet<String>,
    /// Literal secrets in the texts, never to be shown.
    pub secrets: Vec<Extent>,
    /// Secret fields that hold a value.
    pub secret_count: usize,
    /// Where each single value stands and which variables it came from, by dotted key.
    pub origins: BTreeMap<String, (Extent, Vec<String>)>,
}

/// Checks a tree against the pipeline's schema. `texts` only serve to name lines.
pub(crate) fn validate(root: &Node, texts: &Texts) -> Outcome {
    let mut walk = Walk { texts, out: Outcome::default() };
    let at = At { dotted: String::new(), shown: String::new(), place: Place::Whole(0) };
    let value = walk.node(root, pipeline_schema(), &at, None);
    walk.out.value = value;
    walk.out
}

/// Where the walk is.
struct At {
    /// `load.0.http`
    dotted: String,
    /// `load[0].http`
    shown: String,
    /// The key, or the start of a list's entry.
    place: Place,
}

impl At {
    fn key(&self, name: &str, extent: Extent) -> At {
        let join =
            |path: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        At { dotted: join(&self.dotted), shown: join(&self.shown), place: Place::At(extent) }
    }

    fn entry(&self, index: usize, extent: Extent) -> At {
        At {
            dotted: format!("{}.{index}", self.dotted),
            shown: format!("{}[{index}]", self.shown),
            place: Place::At(extent),
        }
    }

    /// " in load[0]", or " at the top level".
    fn inside(&self) -> String {
        match self.shown.as_str() {
            "" => " at the top level".to_owned(),
            shown => format!(" in {shown}"),
        }
    }

    fn title(&self) -> String {
        if self.shown.is_empty() { "the pipeline".to_owned() } else { self.shown.clone() }
    }

    /// The dotted key without list positions, as `etl schema` takes it.
    fn section(&self) -> String {
        let named = self.dotted.split('.').filter(|step| step.parse::<usize>().is_err());
        named.collect::<Vec<_>>().join(".")
    }

    fn parent_section(&self) -> String {
        self.section().rsplit_once('.').map_or_else(String::new, |(parent, _)| parent.to_owned())
    }
}

struct Walk<'t> {
    texts: &'t Texts,
    out: Outcome,
}

impl Walk<'_> {
    /// Checks a value; `parent` is the schema one level up, for keys in the wrong place.
    fn node(&mut self, node: &Node, schema: &Json, at: &At, parent: Option<&Json>) -> Json {
        let mut resolved = resolve(schema);
        if resolved.schema["writeOnly"] == true {
            self.remember_secret(node, true);
        }
        if resolved.name == "Constant" {
            return self.constant(node, at);
        }
        if let Some(form) = form_of(node, resolved.schema) {
            resolved = Resolved { nullable: resolved.nullable || form.nullable, ..form };
            if resolved.schema["writeOnly"] == true {
                self.remember_secret(node, true);
            }
        }
        let choices = choices(resolved.schema);
        if let (Value::Scalar(_), Some(key)) = (&node.value, resolved.schema["x-alone"].as_str()) {
            // `id: bigint` is short for `id: { type: bigint }`.
            let inner = At { place: at.place, ..at.key(key, node.extent) };
            let value = self.node(node, &resolved.schema["properties"][key], &inner, None);
            return Json::Object(Map::from_iter([(key.to_owned(), value)]));
        }
        match (&node.value, type_of(resolved.schema)) {
            (Value::Scalar(scalar), _) => self.scalar(scalar, node.extent, resolved, &choices, at),
            (Value::Mapping(entries), _) if !choices.is_empty() => {
                self.choice_with_settings(node, entries, &choices, resolved.schema, at)
            }
            (Value::Mapping(entries), _) if allows(resolved.schema, "object") => {
                self.mapping(node, entries, resolved.schema, at, parent)
            }
            (Value::Sequence(items), "array") => self.sequence(items, resolved.schema, at),
            (found, _) => {
                let found = if matches!(found, Value::Mapping(_)) { "keys" } else { "a list" };
                let expected = scalar::expected(resolved.name, resolved.schema);
                let message = format!("{}: expected {expected}, found {found}", at.title());
                let mut error = Diagnostic::at(node.start_extent(), message);
                if resolved.schema["additionalProperties"].is_object() {
                    error = error.label("write it as keys: { name: value }");
                }
                self.fault(error, at, at.parent_section());
                self.taint(at, resolved.schema)
            }
        }
    }

    fn scalar(
        &mut self,
        scalar: &Scalar,
        extent: Extent,
        resolved: Resolved<'_>,
        choices: &[Choice<'_>],
        at: &At,
    ) -> Json {
        self.out.origins.insert(at.dotted.clone(), (extent, names(scalar)));
        if scalar.filled == Filled::Missing {
            return self.taint(at, resolved.schema);
        }
        // `${VAR:-}` with nothing in it means the same as leaving the key out.
        let absent = scalar.is_null()
            || (scalar.text.is_empty() && matches!(scalar.filled, Filled::From(_)));
        if absent && resolved.nullable {
            return Json::Null;
        }
        if !choices.is_empty() {
            return self.choice(scalar, extent, choices, resolved.schema, at);
        }
        let problem = match scalar::typed(scalar, resolved.name, resolved.schema) {
            Ok(value) => return value,
            Err(problem) => problem,
        };
        let not_there = scalar.plain && scalar.text.is_empty();
        let place = if not_there { at.place } else { Place::At(extent) };
        let message = format!("{}: {}", at.title(), problem.message);
        let error = Diagnostic::new(place, message).label(problem.label);
        self.fault(error, at, at.parent_section());
        self.taint(at, resolved.schema)
    }

    fn sequence(&mut self, items: &[Node], schema: &Json, at: &At) -> Json {
        let fewest = schema["minItems"].as_u64().unwrap_or(0) as usize;
        if items.len() < fewest {
            let message = format!("{} is empty", at.title());
            let error = Diagnostic::new(at.place, message).label("at least one entry is needed");
            self.fault(error, at, at.section());
        }
        let mut out = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let at = at.entry(index, item.start_extent());
            out.push(self.node(item, &schema["items"], &at, None));
        }
        Json::Array(out)
    }

    fn mapping(
        &mut self,
        node: &Node,
        entries: &[(Key, Node)],
        schema: &Json,
        at: &At,
        parent: Option<&Json>,
    ) -> Json {
        let empty = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&empty);
        let kinds = kinds(schema);
        let mut out = Map::new();
        let mut firsts: HashMap<&str, &Key> = HashMap::new();
        for (key, value) in entries {
            match firsts.entry(key.name.as_str()) {
                Entry::Occupied(first) => self.duplicate(key, first.get(), at),
                Entry::Vacant(slot) => {
                    slot.insert(key);
                }
            }
            let inner = at.key(&key.name, key.extent);
            if let Some(property) = properties.get(&key.name) {
                let nothing;
                let mut value = value;
                // `simulated:` alone means "with its defaults", not "absent".
                if kinds.contains(&key.name.as_str()) && is_null(value) {
                    nothing = Node { extent: key.extent, value: Value::Mapping(Vec::new()) };
                    value = &nothing;
                }
                let checked = self.node(value, property, &inner, Some(schema));
                out.insert(key.name.clone(), checked);
            } else if schema["additionalProperties"].is_object() {
                let checked = self.node(value, &schema["additionalProperties"], &inner, None);
                out.insert(key.name.clone(), checked);
            } else {
                // What belongs to a kind that is not chosen is no help.
                let written = |kind: &str| node.get(kind).is_some();
                let chosen = kinds.iter().any(|kind| written(kind));
                let other = |name: &str| chosen && kinds.contains(&name) && !written(name);
                self.unknown_key(key, value, schema, at, parent, &other);
            }
        }
        self.exactly_one(node, &kinds, &out, schema, at);
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str) {
            if out.contains_key(name) {
                continue;
            }
            let inner = At { place: at.place, ..at.key(name, node.extent) };
            if self.is_tainted(at, name) {
                // A misspelt key was already taken for this one: one mistake, one error.
                let value = placeholder(&properties[name]);
                out.insert(name.to_owned(), value);
                continue;
            }
            let message = format!("missing key {}{}", quoted(name), at.inside());
            let mut error = Diagnostic::new(at.place, message);
            let about = description(&properties[name]);
            if !about.is_empty() {
                error = error.help(format!("{name}: {about}"));
            }
            self.fault(error, &inner, at.section());
            let value = self.taint(&inner, &properties[name]);
            out.insert(name.to_owned(), value);
        }
        Json::Object(out)
    }

    fn is_tainted(&self, at: &At, key: &str) -> bool {
        self.out.tainted.contains(&at.key(key, Extent { text: 0, start: 0, end: 0 }).dotted)
    }

    fn fault(&mut self, error: Diagnostic, at: &At, section: String) {
        self.out.tainted.insert(at.dotted.clone());
        self.out.errors.push(error.key(at.dotted.clone()).section(section));
    }

    /// An error about how keys go together; the keys themselves stay trustworthy.
    fn report(&mut self, error: Diagnostic, at: &At) {
        self.out.errors.push(error.key(at.dotted.clone()).section(at.section()));
    }

    fn taint(&mut self, at: &At, schema: &Json) -> Json {
        self.out.tainted.insert(at.dotted.clone());
        placeholder(schema)
    }

    /// Remembers literal secrets; a reference to a variable shows nothing and stays readable.
    fn remember_secret(&mut self, node: &Node, known: bool) {
        match &node.value {
            Value::Scalar(scalar) => {
                self.out.secret_count += usize::from(known && !scalar.text.is_empty());
                let written = self.texts.slice(node.extent);
                if !only_names_a_variable(written) {
                    self.out.secrets.push(node.extent);
                }
            }
            Value::Sequence(items) => {
                items.iter().for_each(|item| self.remember_secret(item, false))
            }
            Value::Mapping(entries) => {
                entries.iter().for_each(|(_, value)| self.remember_secret(value, false));
            }
        }
    }
}

/// The form that has the shape of the value; none where the schema has one form only, and
/// where no form fits.
fn form_of<'s>(node: &Node, schema: &'s Json) -> Option<Resolved<'s>> {
    forms(schema).iter().map(resolve).find(|form| {
        let listed = type_of(form.schema) == "array";
        let keyed = type_of(form.schema) == "object";
        match &node.value {
            Value::Scalar(_) => !listed && !keyed,
            Value::Sequence(_) => listed,
            Value::Mapping(_) => keyed,
        }
    })
}

fn names(scalar: &Scalar) -> Vec<String> {
    match &scalar.filled {
        Filled::From(names) => names.clone(),
        Filled::AsWritten | Filled::Missing => Vec::new(),
    }
}

fn is_null(node: &Node) -> bool {
    matches!(&node.value, Value::Scalar(scalar) if scalar.is_null())
}
