//! `--set load.0.http.url=…` edits the tree before variables are filled in, so
//! a value given on the command line is checked like one from the file.

use super::diagnostic::Diagnostic;
use super::document::parse;
use super::mask::quoted;
use super::origin::{Extent, Kind, Text, Texts};
use super::tree::{Key, Node, Scalar, Value};

/// Applies every option in order; an option that does not fit changes nothing.
pub(crate) fn apply(root: &mut Node, options: &[String], texts: &mut Texts) -> Vec<Diagnostic> {
    let mut errors = Vec::new();
    for option in options {
        let path = option.split('=').next().unwrap_or_default();
        let name = format!("--set {path}");
        let text = texts.add(Text::new(Kind::Option, name, option.as_str()));
        if let Err(problems) = apply_one(root, option, text) {
            errors.extend(problems);
        }
    }
    errors
}

fn apply_one(root: &mut Node, option: &str, text: usize) -> Result<(), Vec<Diagnostic>> {
    let whole = Extent { text, start: 0, end: option.len() };
    let Some((path, written)) = option.split_once('=') else {
        let error = Diagnostic::at(whole, "--set without a value").label("write --set PATH=VALUE");
        return Err(vec![error.help("for example --set load.0.workers=2")]);
    };
    let mut value = read_value(written, text, path.len() + 1)?;
    let mut steps = Vec::new();
    let mut start = 0;
    for name in path.split('.') {
        let extent = Extent { text, start, end: start + name.len() };
        if name.is_empty() {
            let error = Diagnostic::at(whole, format!("--set {path}: a name is missing"));
            return Err(vec![error.label("write names and numbers with dots between")]);
        }
        steps.push(Key { name: name.to_owned(), extent });
        start += name.len() + 1;
    }
    // What does not exist yet is built from the inside out, so that a wrong path changes nothing.
    let mut node = root;
    let mut at = 0;
    loop {
        let exists = match &node.value {
            Value::Mapping(_) => node.get(&steps[at].name).is_some(),
            Value::Sequence(items) => {
                check_index(&steps[at], items.len(), path, &steps[..at])
                    .map_err(|error| vec![*error])?;
                true
            }
            Value::Scalar(scalar) if scalar.is_null() => false,
            Value::Scalar(_) => return Err(vec![single_value(path, &steps, at)]),
        };
        if !exists {
            break;
        }
        let Some(next) = child(node, &steps[at].name) else { return Ok(()) };
        node = next;
        at += 1;
        if at == steps.len() {
            *node = value;
            return Ok(());
        }
    }
    for step in steps.drain(at + 1..).rev() {
        let extent = step.extent;
        value = Node { extent, value: Value::Mapping(vec![(step, value)]) };
    }
    let key = steps.remove(at);
    match &mut node.value {
        Value::Mapping(entries) => entries.push((key, value)),
        _ => node.value = Value::Mapping(vec![(key, value)]),
    }
    Ok(())
}

fn child<'n>(node: &'n mut Node, name: &str) -> Option<&'n mut Node> {
    match &mut node.value {
        Value::Mapping(entries) => {
            entries.iter_mut().rev().find(|(key, _)| key.name == name).map(|(_, value)| value)
        }
        Value::Sequence(items) => name.parse().ok().and_then(|at: usize| items.get_mut(at)),
        Value::Scalar(_) => None,
    }
}

fn check_index(
    step: &Key,
    length: usize,
    path: &str,
    before: &[Key],
) -> Result<(), Box<Diagnostic>> {
    let list = before.iter().map(|key| key.name.as_str()).collect::<Vec<_>>().join(".");
    match step.name.parse::<usize>() {
        Ok(index) if index < length => Ok(()),
        Ok(_) => {
            let entries = if length == 1 { "entry" } else { "entries" };
            let message = format!("--set {path}: {list} has {length} {entries}");
            Err(Box::new(Diagnostic::at(step.extent, message).label("entries are counted from 0")))
        }
        Err(_) => {
            let message = format!("--set {path}: {list} is a list");
            let label = format!("name an entry: {list}.0");
            Err(Box::new(Diagnostic::at(step.extent, message).label(label)))
        }
    }
}

fn single_value(path: &str, steps: &[Key], at: usize) -> Diagnostic {
    let parent = steps[..at].iter().map(|key| key.name.as_str()).collect::<Vec<_>>().join(".");
    let message = format!("--set {path}: {parent} is a single value");
    let name = steps[at].name.as_str();
    Diagnostic::at(steps[at].extent, message).label(format!("it has no {}", quoted(name)))
}

/// A flow value or a quoted one is read as YAML; anything else is taken as it
/// is, so that `@daily` and `a: b` need no second layer of quotes.
fn read_value(written: &str, text: usize, offset: usize) -> Result<Node, Vec<Diagnostic>> {
    if !written.starts_with(['[', '{', '"', '\'']) {
        let extent = Extent { text, start: offset, end: offset + written.len() };
        let scalar = Scalar::written(written, !written.is_empty());
        return Ok(Node { extent, value: Value::Scalar(scalar) });
    }
    // Spaces in front make the parser's offsets those of the whole option.
    parse(&format!("{}{written}", " ".repeat(offset)), text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::super::document::parse;
    use super::super::origin::Texts;
    use super::super::tree::{Node, Value};
    use super::apply;

    const FILE: &str = "name: x\nload:\n  - http: { url: a }\nextract:\n";

    fn set(option: &str) -> Result<Node, String> {
        let mut root = parse(FILE, 0).unwrap();
        let errors = apply(&mut root, &[option.to_owned()], &mut Texts::default());
        match errors.first() {
            None => Ok(root),
            Some(error) => Err(format!("{}|{}", error.message, error.label)),
        }
    }

    fn scalar(root: &Node, dotted: &str) -> String {
        let mut node = root;
        for step in dotted.split('.') {
            node = match &node.value {
                Value::Sequence(items) => &items[step.parse::<usize>().unwrap()],
                _ => node.get(step).unwrap().1,
            };
        }
        match &node.value {
            Value::Scalar(scalar) => scalar.text.clone(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn values_are_replaced_and_missing_mappings_made() {
        assert_eq!(scalar(&set("load.0.http.url=b: c").unwrap(), "load.0.http.url"), "b: c");
        assert_eq!(scalar(&set("load.0.retry.cap=3s").unwrap(), "load.0.retry.cap"), "3s");
        assert_eq!(scalar(&set("extract.http.url=u").unwrap(), "extract.http.url"), "u");
        assert_eq!(scalar(&set("schedule=@daily").unwrap(), "schedule"), "@daily");
        assert_eq!(scalar(&set("transform=[a, b]").unwrap(), "transform.1"), "b");
        assert_eq!(scalar(&set("name='1'").unwrap(), "name"), "1");
        assert_eq!(scalar(&set("name=").unwrap(), "name"), "");
    }

    #[test]
    fn an_option_that_does_not_fit_is_named() {
        assert_eq!(
            set("load.7.http.url=x").unwrap_err(),
            "--set load.7.http.url: load has 1 entry|entries are counted from 0"
        );
        assert!(set("load.http=x").unwrap_err().contains("load is a list|name an entry: load.0"));
        assert!(set("name.x=1").unwrap_err().contains("name is a single value"));
        assert!(set("name").unwrap_err().contains("without a value"));
        assert!(set("load..x=1").unwrap_err().contains("a name is missing"));
        assert!(set("load=[1").unwrap_err().contains("not valid YAML"));
    }
}
