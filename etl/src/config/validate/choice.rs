//! Enumerations: one of a few words, or a word with settings below it.

use serde_json::{Map, Value as Json, json};

use super::super::diagnostic::{Diagnostic, Place};
use super::super::mask::quoted;
use super::super::origin::Extent;
use super::super::scalar;
use super::super::schema::{Choice, resolve};
use super::super::suggest::{did_you_mean, nearest, one_of};
use super::super::tree::{Filled, Key, Node, Scalar};
use super::{At, Walk};

impl Walk<'_> {
    pub(super) fn choice(
        &mut self,
        scalar: &Scalar,
        extent: Extent,
        choices: &[Choice<'_>],
        schema: &Json,
        at: &At,
    ) -> Json {
        let chosen = choices.iter().find(|choice| choice.name == scalar.text);
        let error = match chosen {
            Some(choice) if choice.settings.is_none() => return Json::from(choice.name),
            Some(Choice { name, settings: Some(settings) }) if all_optional(settings) => {
                return Json::Object(Map::from_iter([((*name).to_owned(), json!({}))]));
            }
            Some(choice) => {
                let message = format!("{}: {} needs settings", at.title(), quoted(choice.name));
                Diagnostic::at(extent, message)
                    .label(format!("write it as a key: `{}: {{ … }}`", choice.name))
            }
            None => {
                let names: Vec<&str> = choices.iter().map(|choice| choice.name).collect();
                let unknown = if scalar.text.is_empty() { "found" } else { "unknown value" };
                let message = format!("{}: {unknown} {}", at.title(), scalar::found(scalar));
                let near = match &scalar.filled {
                    Filled::AsWritten => nearest(&scalar.text, names.iter().copied()),
                    _ => Vec::new(),
                };
                let all = if names.len() == 1 { "the only one is " } else { "one of " };
                let all = format!("{all}{}", one_of(&names));
                let place = if scalar.text.is_empty() { at.place } else { Place::At(extent) };
                let error = Diagnostic::new(place, message);
                if near.is_empty() { error.label(all) } else { error.label(did_you_mean(&near)) }
            }
        };
        self.fault(error, at, at.section());
        self.taint(at, schema)
    }

    pub(super) fn choice_with_settings(
        &mut self,
        node: &Node,
        entries: &[(Key, Node)],
        choices: &[Choice<'_>],
        schema: &Json,
        at: &At,
    ) -> Json {
        let names: Vec<&str> = choices.iter().map(|choice| choice.name).collect();
        let error = match entries {
            [(key, value)] => match choices.iter().find(|choice| choice.name == key.name) {
                Some(Choice { settings: Some(settings), .. }) => {
                    let inner = at.key(&key.name, key.extent);
                    let value = self.node(value, settings, &inner, None);
                    return Json::Object(Map::from_iter([(key.name.clone(), value)]));
                }
                Some(choice) => {
                    let message =
                        format!("{}: {} has no settings", at.title(), quoted(choice.name));
                    Diagnostic::at(key.extent, message)
                        .label(format!("write {} alone", quoted(choice.name)))
                }
                None => {
                    let message = format!("{}: unknown value {}", at.title(), quoted(&key.name));
                    let near = nearest(&key.name, names.iter().copied());
                    let error = Diagnostic::at(key.extent, message);
                    if near.is_empty() {
                        error.help(format!("one of {}", one_of(&names)))
                    } else {
                        error.label(did_you_mean(&near))
                    }
                }
            },
            [(first, _), (second, _), ..] => {
                let message = format!(
                    "{}: {} and {} are two entries",
                    at.title(),
                    quoted(&first.name),
                    quoted(&second.name)
                );
                Diagnostic::at(second.extent, message).label("begin a new entry with `- `")
            }
            [] => {
                let message = format!("{}: expected one of {}", at.title(), one_of(&names));
                Diagnostic::at(node.start_extent(), message)
            }
        };
        self.fault(error, at, at.section());
        self.taint(at, schema)
    }
}

/// Whether settings may all be left out, so that the word alone says enough.
fn all_optional(settings: &Json) -> bool {
    let schema = resolve(settings).schema;
    schema["properties"].is_object() && schema["required"].is_null()
}
