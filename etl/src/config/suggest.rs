//! The nearest known names for a name that is not known.

use strsim::{damerau_levenshtein, jaro_winkler};

use super::mask::quoted;

/// A wrong key gets this many suggestions at most: more is a list, not a hint.
const SUGGESTIONS_MAX: usize = 3;

/// The nearest of the known names, best first, at most three; none when nothing is near.
pub(crate) fn nearest<'n>(wrong: &str, known: impl IntoIterator<Item = &'n str>) -> Vec<&'n str> {
    let wrong = normal(&wrong.chars().take(64).collect::<String>());
    let near = |name: &'n str| {
        let candidate = normal(name);
        let distance = damerau_levenshtein(&wrong, &candidate);
        let similar = jaro_winkler(&wrong, &candidate) > 0.9;
        let allowed = (wrong.chars().count().max(candidate.chars().count()) / 3).max(1);
        let short = wrong.chars().count() < 2;
        (!short && (distance <= allowed || similar)).then_some((distance, name))
    };
    let mut found: Vec<_> = known.into_iter().filter_map(near).collect();
    found.sort_unstable();
    found.dedup();
    let best = found.first().map_or(0, |(distance, _)| *distance);
    found.retain(|(distance, _)| *distance <= best + 1);
    found.truncate(SUGGESTIONS_MAX);
    found.into_iter().map(|(_, name)| name).collect()
}

/// "did you mean `a`, `b` or `c`?", empty for no names.
pub(crate) fn did_you_mean(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        names => format!("did you mean {}?", one_of(names)),
    }
}

/// "`a`, `b` or `c`".
pub(crate) fn one_of(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    match names.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

fn normal(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::{did_you_mean, nearest};

    const KEYS: [&str; 6] = ["batch", "retry", "spool", "timeout", "max_bytes", "max_body"];

    #[test]
    fn near_names_come_best_first_and_far_ones_not_at_all() {
        assert_eq!(nearest("bacth", KEYS), ["batch"]);
        assert_eq!(nearest("max-bytes", KEYS), ["max_bytes"]);
        assert_eq!(nearest("Timeout", KEYS), ["timeout"]);
        assert_eq!(nearest("zzz", KEYS), [""; 0]);
        assert_eq!(nearest("", KEYS), [""; 0]);
        assert!(nearest("max_b", KEYS).len() <= 3);
    }

    #[test]
    fn suggestions_read_as_a_question() {
        assert_eq!(did_you_mean(&["a"]), "did you mean `a`?");
        assert_eq!(did_you_mean(&["a", "b", "c"]), "did you mean `a`, `b` or `c`?");
        assert_eq!(did_you_mean(&[]), "");
    }
}
