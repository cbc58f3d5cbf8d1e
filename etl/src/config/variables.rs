//! `${VAR}`, `${VAR:-default}` and `${VAR:?message}`, filled in after parsing,
//! so that a value can never become a key, a list or a comment. `$${` stands
//! for a literal `${`. Values are not looked at again: a value that holds `${`
//! stays as it is.

use std::collections::BTreeSet;

use super::diagnostic::Diagnostic;
use super::environment::Environment;
use super::mask::quoted;
use super::origin::Extent;
use super::suggest::nearest;
use super::tree::{Filled, Node, Scalar, Value};

/// Defaults within defaults.
const NESTING_MAX: usize = 8;

/// What filling in found.
#[derive(Default)]
pub(crate) struct Filling {
    /// Names that the file uses and the environment sets.
    pub used: BTreeSet<String>,
    /// One error for each reference that could not be filled.
    pub errors: Vec<Diagnostic>,
}

/// Fills in every value of the tree.
pub(crate) fn fill(root: &mut Node, environment: &Environment) -> Filling {
    let mut filling = Filling::default();
    fill_node(root, environment, &mut filling);
    filling
}

fn fill_node(node: &mut Node, environment: &Environment, filling: &mut Filling) {
    match &mut node.value {
        Value::Scalar(scalar) => fill_scalar(scalar, node.extent, environment, filling),
        Value::Sequence(items) => {
            for item in items {
                fill_node(item, environment, filling);
            }
        }
        Value::Mapping(entries) => {
            for (_, value) in entries {
                fill_node(value, environment, filling);
            }
        }
    }
}

fn fill_scalar(
    scalar: &mut Scalar,
    extent: Extent,
    environment: &Environment,
    filling: &mut Filling,
) {
    if !scalar.text.contains("${") {
        return;
    }
    let mut names = Vec::new();
    match expand(&scalar.text, environment, &mut names, 0) {
        Ok(text) => {
            for name in &names {
                if environment.get(name).is_some() {
                    filling.used.insert(name.clone());
                }
            }
            scalar.text = text;
            if !names.is_empty() {
                scalar.filled = Filled::From(names);
            }
        }
        Err(problem) => {
            scalar.filled = Filled::Missing;
            filling.errors.push(problem.diagnostic(extent, environment));
        }
    }
}

enum Problem {
    Unset(String),
    Required(String, String),
    Unclosed,
    BadName(String),
    TooDeep,
}

impl Problem {
    fn diagnostic(self, extent: Extent, environment: &Environment) -> Diagnostic {
        match self {
            Problem::Unset(name) => {
                let error =
                    Diagnostic::at(extent, format!("variable {} is not set", quoted(&name)))
                        .help(format!("set it, put it in .env, or write ${{{name}:-default}}"));
                match nearest(&name, environment.names()).first() {
                    Some(other) => error.label(format!("did you mean {}?", quoted(other))),
                    None => error,
                }
            }
            Problem::Required(name, message) if message.is_empty() => {
                Diagnostic::at(extent, format!("variable {} is not set", quoted(&name)))
                    .help("set it, or put it in .env")
            }
            Problem::Required(name, message) => {
                Diagnostic::at(extent, format!("variable {} is not set: {message}", quoted(&name)))
                    .help("set it, or put it in .env")
            }
            Problem::Unclosed => Diagnostic::at(extent, "`${` without a closing `}`")
                .label("write `$${` for a literal `${`"),
            Problem::BadName(name) => {
                Diagnostic::at(extent, format!("{} is not a variable's name", quoted(&name)))
                    .label("write ${NAME}, ${NAME:-default} or ${NAME:?message}")
                    .help("write `$${` for a literal `${`")
            }
            Problem::TooDeep => {
                Diagnostic::at(extent, format!("defaults nested more than {NESTING_MAX} deep"))
            }
        }
    }
}

fn expand(
    text: &str,
    environment: &Environment,
    names: &mut Vec<String>,
    depth: usize,
) -> Result<String, Problem> {
    if depth > NESTING_MAX {
        return Err(Problem::TooDeep);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let inner = &rest[at + 2..];
        let end = closing_brace(inner).ok_or(Problem::Unclosed)?;
        out.push_str(&reference(&inner[..end], environment, names, depth)?);
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// The `}` that closes a reference; braces within a default, as in `{ip}`, come in pairs.
fn closing_brace(inner: &str) -> Option<usize> {
    let mut open = 0usize;
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            b'{' => open += 1,
            b'}' if open == 0 => return Some(at),
            b'}' => open -= 1,
            _ => {}
        }
    }
    None
}

fn reference(
    inner: &str,
    environment: &Environment,
    names: &mut Vec<String>,
    depth: usize,
) -> Result<String, Problem> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (name, rest) = inner.split_at(inner.find(|c| !is_word(c)).unwrap_or(inner.len()));
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Problem::BadName(inner.to_owned()));
    }
    names.push(name.to_owned());
    let value = environment.get(name);
    let not_empty = value.filter(|value| !value.is_empty());
    if rest.is_empty() {
        return value.map(str::to_owned).ok_or_else(|| Problem::Unset(name.to_owned()));
    }
    if let Some(default) = rest.strip_prefix(":-") {
        return match not_empty {
            Some(value) => Ok(value.to_owned()),
            None => expand(default, environment, names, depth + 1),
        };
    }
    if let Some(message) = rest.strip_prefix(":?") {
        let required = || Problem::Required(name.to_owned(), message.to_owned());
        return not_empty.map(str::to_owned).ok_or_else(required);
    }
    Err(Problem::BadName(inner.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::super::document::parse;
    use super::super::environment::Environment;
    use super::super::tree::{Filled, Value};
    use super::fill;

    fn environment() -> Environment {
        Environment::from_pairs([("A", "one"), ("EMPTY", ""), ("BRACE", "${A}: [x]\n- y # z")])
    }

    fn filled(text: &str) -> Result<String, String> {
        let mut root = parse(&format!("k: {text}\n"), 0).map_err(|e| e[0].message.clone())?;
        let filling = fill(&mut root, &environment());
        if let Some(error) = filling.errors.first() {
            let help = error.help.clone().unwrap_or_default();
            return Err(format!("{}|{}|{help}", error.message, error.label));
        }
        match root.get("k").map(|(_, node)| &node.value) {
            Some(Value::Scalar(scalar)) => Ok(scalar.text.clone()),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn values_and_defaults_are_filled_in() {
        for (text, expected) in [
            ("${A}", "one"),
            ("x${A}y${A}", "xoneyone"),
            ("${NONE:-two}", "two"),
            ("${EMPTY:-two}", "two"),
            ("${EMPTY}", ""),
            ("${NONE:-}", ""),
            ("${A:?needed}", "one"),
            ("${NONE:-${A}}", "one"),
            ("${NONE:-http://{ip}:1/}/x", "http://{ip}:1//x"),
            ("$${A}", "${A}"),
            ("'$${A} ${A}'", "${A} one"),
            ("$A $ {ip}", "$A $ {ip}"),
        ] {
            assert_eq!(filled(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_value_never_becomes_structure_and_is_not_filled_again() {
        assert_eq!(filled("${BRACE}").as_deref(), Ok("${A}: [x]\n- y # z"));
    }

    #[test]
    fn what_cannot_be_filled_says_what_to_do() {
        assert_eq!(
            filled("${NONE}").unwrap_err(),
            "variable `NONE` is not set||set it, put it in .env, or write ${NONE:-default}"
        );
        assert_eq!(
            filled("${EMPTYY}").unwrap_err().split('|').nth(1),
            Some("did you mean `EMPTY`?")
        );
        assert!(filled("${EMPTY:?say why}").unwrap_err().contains("is not set: say why"));
        assert!(filled("${A").unwrap_err().contains("without a closing"));
        assert!(filled("${}").unwrap_err().contains("not a variable's name"));
        assert!(filled("${1}").unwrap_err().contains("not a variable's name"));
        assert!(filled("${A:+x}").unwrap_err().contains("not a variable's name"));
        assert!(filled(&format!("{}x{}", "${N:-".repeat(20), "}".repeat(20))).is_err());
    }

    #[test]
    fn names_that_took_part_are_remembered() {
        let Ok(mut root) = parse("k: ${NONE:-x}${A}\nj: $${A}\n", 0) else { panic!("valid") };
        let filling = fill(&mut root, &environment());
        assert_eq!(filling.used.into_iter().collect::<Vec<_>>(), ["A"]);
        let filled = |key: &str| match root.get(key).map(|(_, node)| &node.value) {
            Some(Value::Scalar(scalar)) => Some(scalar.filled.clone()),
            _ => None,
        };
        assert_eq!(filled("k"), Some(Filled::From(vec!["NONE".to_owned(), "A".to_owned()])));
        assert_eq!(filled("j"), Some(Filled::AsWritten));
    }
}
