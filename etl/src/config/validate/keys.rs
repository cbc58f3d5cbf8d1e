//! Errors about keys: unknown, misplaced, twice, or not exactly one of a kind.

use serde_json::{Map, Value as Json};

use super::super::diagnostic::{Diagnostic, KEPT_MAX};
use super::super::mask::{quoted, sounds_secret};
use super::super::schema::{description, resolve, sections_with};
use super::super::suggest::{did_you_mean, nearest, one_of};
use super::super::tree::{Key, Node};
use super::{At, Walk};

impl Walk<'_> {
    pub(super) fn exactly_one(
        &mut self,
        node: &Node,
        kinds: &[&str],
        set: &Map<String, Json>,
        schema: &Json,
        at: &At,
    ) {
        if kinds.is_empty() {
            return;
        }
        let chosen: Vec<&str> =
            kinds.iter().copied().filter(|k| set.get(*k).is_some_and(|v| !v.is_null())).collect();
        match chosen.as_slice() {
            [_] => {}
            // A misspelt or misplaced key was already taken for a kind.
            [] if kinds.iter().any(|kind| self.is_tainted(at, kind)) => {}
            [] => {
                let message = format!("{} says no kind", at.title());
                let mut label = format!("set {}", one_of(kinds));
                if let [only] = kinds {
                    let about = description(&schema["properties"][*only]);
                    label = format!("set {}: {}", quoted(only), about.trim_end_matches('.'));
                }
                let error = Diagnostic::new(at.place, message).label(label);
                self.report(error, at);
            }
            [_, second, ..] => {
                let names: Vec<String> = chosen.iter().map(|name| quoted(name)).collect();
                let message = format!("{} sets {}", at.title(), names.join(" and "));
                let extent = node.get(second).map_or(node.extent, |(key, _)| key.extent);
                let error = Diagnostic::at(extent, message).label("exactly one of them is needed");
                self.report(error, at);
            }
        }
    }

    pub(super) fn duplicate(&mut self, key: &Key, first: &Key, at: &At) {
        let message = format!("duplicate key {}{}", quoted(&key.name), at.inside());
        let line =
            self.texts.get(first.extent.text).map_or(0, |t| t.position(first.extent.start).line);
        let error = Diagnostic::at(key.extent, message).label(format!("first at line {line}"));
        self.fault(error, &at.key(&key.name, key.extent), at.section());
    }

    pub(super) fn unknown_key(
        &mut self,
        key: &Key,
        value: &Node,
        schema: &Json,
        at: &At,
        parent: Option<&Json>,
        other_kind: &dyn Fn(&str) -> bool,
    ) {
        let empty = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&empty);
        if self.out.errors.len() > KEPT_MAX {
            // Counted, hardly ever shown: no need to look for what was meant.
            let message = format!("unknown key {}{}", quoted(&key.name), at.inside());
            let error = Diagnostic::at(key.extent, message);
            return self.fault(error, &at.key(&key.name, key.extent), at.section());
        }
        let near = nearest(&key.name, properties.keys().map(String::as_str));
        let mut sections = properties.iter().filter(|(name, _)| !other_kind(name));
        let below = sections.find(|(_, property)| has_key(property, &key.name));
        let above = parent.is_some_and(|parent| parent["properties"][&key.name].is_object());
        let mut label = did_you_mean(&near);
        if let Some((section, _)) = below {
            label = format!("it belongs under {}", quoted(section));
            self.out.tainted.insert(at.key(section, key.extent).dotted);
        } else if above {
            label = "it belongs one level up".to_owned();
        } else if near.is_empty() {
            let sections = properties.iter().filter(|(name, _)| !other_kind(name));
            label = elsewhere(&key.name, sections);
        }
        for name in &near {
            self.out.tainted.insert(at.key(name, key.extent).dotted);
        }
        let secret = |name: &str| resolve(&properties[name]).schema["writeOnly"] == true;
        if sounds_secret(&key.name) || near.iter().any(|name| secret(name)) {
            self.remember_secret(value, false);
        }
        let message = format!("unknown key {}{}", quoted(&key.name), at.inside());
        let error = Diagnostic::at(key.extent, message).label(label);
        let inner = at.key(&key.name, key.extent);
        self.fault(error, &inner, at.section());
    }
}

/// Where a key that is not near anything here would belong: near in a section
/// below, or exactly so in another section.
fn elsewhere<'a>(key: &str, sections: impl Iterator<Item = (&'a String, &'a Json)>) -> String {
    for (section, property) in sections {
        let inner = resolve(property).schema["properties"].as_object();
        let inner = inner.into_iter().flatten().map(|(name, _)| name.as_str());
        if let [name, ..] = nearest(key, inner).as_slice() {
            return format!("did you mean {} under {}?", quoted(name), quoted(section));
        }
    }
    match sections_with(key).as_slice() {
        [] => String::new(),
        found => {
            format!("did you mean {}?", one_of(&found[..found.len().min(3)]))
        }
    }
}

fn has_key(property: &Json, key: &str) -> bool {
    resolve(property).schema["properties"][key].is_object()
}
