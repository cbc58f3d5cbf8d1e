//! Reads what callgrind writes: for every function its own cost, and for every call of
//! another what the calls cost in all, everything below them included.

use std::collections::BTreeMap;

/// What the calls from functions called `caller` cost, by the name of the called.
pub(crate) fn calls_from(profile: &str, caller: &str) -> BTreeMap<String, u64> {
    let mut names = BTreeMap::new();
    let (mut within, mut callee, mut is_call) = (false, String::new(), false);
    let mut costs = BTreeMap::new();
    for line in profile.lines() {
        if let Some(name) = line.strip_prefix("fn=") {
            within = plain(&named(&mut names, name)) == caller;
        } else if let Some(name) = line.strip_prefix("cfn=") {
            callee = plain(&named(&mut names, name));
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if is_call {
            // The line behind a call: where it is, and its cost.
            is_call = false;
            let cost = line.split_ascii_whitespace().nth(1).and_then(|cost| cost.parse().ok());
            if let (true, Some::<u64>(cost)) = (within, cost) {
                *costs.entry(callee.clone()).or_insert(0) += cost;
            }
        }
    }
    costs
}

/// The name that `(7) name` gives to 7, or that `(7)` was given before.
fn named(names: &mut BTreeMap<String, String>, text: &str) -> String {
    let Some((number, name)) = text.strip_prefix('(').and_then(|text| text.split_once(')')) else {
        return text.to_owned();
    };
    match name.trim_start() {
        "" => names.get(number).cloned().unwrap_or_default(),
        name => {
            names.insert(number.to_owned(), name.to_owned());
            name.to_owned()
        }
    }
}

/// A function's name without the compiler's hash and the depth of a recursion.
fn plain(name: &str) -> String {
    let name = name.split('\'').next().unwrap_or_default();
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 => path.to_owned(),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::calls_from;

    const PROFILE: &str = "\
version: 1
events: Ir
fl=(1) main.rs
fn=(1) stages::counted::h0123456789abcdef
10 4
cfi=(2) lib.rs
cfn=(2) stages::Desk::frame::hfedcba9876543210
calls=5 20
+1 1000
cfn=(3) stages::Desk::key
calls=5 30
* 70
11 3

fn=(4) stages::work
12 1
cfn=(2)
calls=1 20
13 999
fn=(1)
cfn=(2)
calls=1 20
14 24
";

    #[test]
    fn only_the_calls_of_that_function_are_added_up() {
        let costs = calls_from(PROFILE, "stages::counted");
        let costs: Vec<(&str, u64)> =
            costs.iter().map(|(name, cost)| (name.as_str(), *cost)).collect();
        assert_eq!(costs, [("stages::Desk::frame", 1024), ("stages::Desk::key", 70)]);
        assert!(calls_from(PROFILE, "stages::other").is_empty());
    }
}
