//! `jq`: a program in the jq language, run by jaq, for what no other step does. One
//! record in, one object out: `empty` drops the record, and a second result rejects it,
//! because the books count every extracted record exactly once.
//!
//! What would make two readings of a record differ is not there (`now`, `env`, …): a
//! batch that is made again must have the bytes it had. `$now`, `$run_id` and `$source`
//! are the same all through a run.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use jaq_core::data::JustLut;
use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::native::Fun;
use jaq_core::{Compiler, Ctx, Filter, Vars, compile, unwrap_valr};
use jaq_json::Val;
use jaq_json::write::Pp;

use super::error::{StepError, VALUE_MAX};
use super::scan::check;
use super::{RunFacts, Verdict};
use crate::http::printable;

/// What a program has besides its record.
const VARIABLES: [&str; 3] = ["$now", "$run_id", "$source"];
/// Depends on the clock, the machine or the process, or writes past the display.
const LEFT_OUT: [&str; 12] = [
    "now",
    "env",
    "halt",
    "halt_error",
    "debug",
    "debug_empty",
    "stderr",
    "stderr_empty",
    "error_log",
    "localtime",
    "strflocaltime",
    "input_line_number",
];
const REASON_MAX: usize = 200;

type Data = JustLut<Val>;

/// A compiled program.
pub(super) struct Jq {
    filter: Filter<Data>,
    variables: [Val; 3],
}

/// Why a text is no program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// What is wrong, as in `there is no filter "lenght"`.
    pub(crate) message: String,
    /// The name that is not known.
    pub(crate) unknown: Option<String>,
}

/// Compiles a program, to see whether it is one.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn compile(program: &str) -> Result<(), Problem> {
    filter(program).map(drop)
}

/// The names of all filters that a program may use.
pub(crate) fn filter_names() -> Vec<String> {
    let defined = definitions().map(|definition| definition.name.to_owned());
    let native = functions().map(|(name, ..)| name.to_owned());
    defined.chain(native).collect()
}

fn definitions() -> impl Iterator<Item = load::parse::Def<&'static str>> {
    let all = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    all.filter(|definition| !LEFT_OUT.contains(&definition.name))
}

fn functions() -> impl Iterator<Item = Fun<Data>> {
    let all = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    all.filter(|(name, ..)| !LEFT_OUT.contains(name))
}

fn filter(program: &str) -> Result<Filter<Data>, Problem> {
    let arena = Arena::default();
    let file = File { code: program, path: () };
    let modules = Loader::new(definitions()).load(&arena, file).map_err(unread)?;
    let compiler = Compiler::default().with_funs(functions()).with_global_vars(VARIABLES);
    compiler.compile(modules).map_err(undefined)
}

/// A text that cannot be read as a program.
fn unread(errors: load::Errors<&str, ()>) -> Problem {
    let near = |rest: &str| match rest.is_empty() {
        true => "at its end".to_owned(),
        false => format!("at \"{}\"", printable(rest.as_bytes(), 30)),
    };
    let first = errors.into_iter().next().map(|(_, error)| error);
    let message = match first {
        Some(load::Error::Lex(errors)) => errors
            .first()
            .map(|(expected, rest)| format!("expected a {} {}", expected.as_str(), near(rest))),
        Some(load::Error::Parse(errors)) => errors
            .first()
            .map(|(expected, rest)| format!("expected {} {}", expected.as_str(), near(rest))),
        Some(load::Error::Io(_)) => Some("modules cannot be loaded here".to_owned()),
        None => None,
    };
    Problem { message: message.unwrap_or_else(|| "it cannot be read".to_owned()), unknown: None }
}

/// A program that uses what there is not.
fn undefined(errors: compile::Errors<&str, ()>) -> Problem {
    let first = errors.into_iter().flat_map(|(_, errors)| errors).next();
    let Some((name, kind)) = first else {
        return Problem { message: "it cannot be compiled".to_owned(), unknown: None };
    };
    let name = printable(name.as_bytes(), 40);
    if LEFT_OUT.contains(&name.as_str()) {
        let message = format!(
            "`{name}` is left out, because a record must come out the same whenever it is read; \
             there are $now, $run_id and $source"
        );
        return Problem { message, unknown: None };
    }
    let message = match kind {
        compile::Undefined::Filter(0) => format!("there is no filter `{name}`"),
        compile::Undefined::Filter(1) => format!("there is no filter `{name}` with 1 argument"),
        compile::Undefined::Filter(arguments) => {
            format!("there is no filter `{name}` with {arguments} arguments")
        }
        other => format!("there is no {} `{name}`", other.as_str()),
    };
    Problem { message, unknown: Some(name) }
}

impl Jq {
    pub(super) fn new(program: &str, run: &RunFacts<'_>) -> Result<Self, String> {
        let filter = filter(program).map_err(|problem| problem.message)?;
        let began = isize::try_from(run.began_seconds()).unwrap_or(isize::MAX);
        let text = |text: &str| Val::from(text.to_owned());
        Ok(Jq { filter, variables: [Val::from(began), text(run.run_id), text(run.pipeline)] })
    }

    pub(super) fn apply(&self, row: &[u8], out: &mut Vec<u8>) -> Result<Verdict, StepError> {
        // Checked first: the interpreter takes more than JSON, and goes as deep as it gets.
        let row = check(row)?;
        let outcome = catch_unwind(AssertUnwindSafe(|| self.run(row)));
        let Some(object) = outcome.unwrap_or_else(|_| {
            Err(StepError::whole("the program broke off; this is a bug in its interpreter"))
        })?
        else {
            return Ok(Verdict::Filtered);
        };
        // Not a number, infinity and bytes are values of the language, not of JSON.
        match check(&object) {
            Ok(_) => out.extend_from_slice(&object),
            Err(fault) => {
                return Err(StepError::whole(format!(
                    "the result {} {}",
                    printable(&object, VALUE_MAX),
                    fault.problem
                )));
            }
        }
        Ok(Verdict::Keep)
    }

    /// The program's only result; `None` when it has none.
    fn run(&self, row: &str) -> Result<Option<Vec<u8>>, StepError> {
        let input = jaq_json::read::parse_single(row.as_bytes())
            .map_err(|error| StepError::whole(shown("the record is not read: ", &error)))?;
        let variables = Vars::new(self.variables.iter().cloned());
        let context = Ctx::<Data>::new(&self.filter.lut, variables);
        let mut results = self.filter.id.run((context, input)).map(unwrap_valr);
        let Some(first) = results.next() else { return Ok(None) };
        let first = first.map_err(|error| StepError::whole(shown("", &error)))?;
        match results.next() {
            None => {
                let mut object = Vec::new();
                jaq_json::write::write(&mut object, &Pp::default(), 0, &first).map_err(
                    |error| StepError::whole(shown("the result is not written: ", &error)),
                )?;
                Ok(Some(object))
            }
            Some(_) => Err(StepError::whole(
                "the program has more than one result for this record; put them in a list, or \
                 take one with first(…)",
            )),
        }
    }
}

fn shown(what: &str, error: &dyn fmt::Display) -> String {
    format!("{what}{}", printable(error.to_string().as_bytes(), REASON_MAX))
}

impl fmt::Debug for Jq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jq").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::{Jq, Verdict, compile, filter_names};
    use crate::transform::RunFacts;

    const RUN: RunFacts<'_> = RunFacts { pipeline: "sales", run_id: "9f3a61c06920a000" };

    fn run(program: &str, row: &str) -> Result<Option<String>, String> {
        let mut out = Vec::new();
        match Jq::new(program, &RUN).unwrap().apply(row.as_bytes(), &mut out) {
            Ok(Verdict::Keep) => Ok(Some(String::from_utf8(out).unwrap())),
            Ok(Verdict::Filtered) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn kept(program: &str, row: &str) -> String {
        run(program, row).unwrap().unwrap()
    }

    #[test]
    fn a_program_makes_one_object_of_another() {
        assert_eq!(
            kept("{x: .a.b, y: (.l | length)}", r#"{"a":{"b":1},"l":[1,2]}"#),
            r#"{"x":1,"y":2}"#
        );
        assert_eq!(kept(".", r#"{"z":1,"a":{"é":"\u00e9\n"}}"#), r#"{"z":1,"a":{"é":"é\n"}}"#);
        assert_eq!(
            kept("{n: $now, r: $run_id, s: $source}", "{}"),
            r#"{"n":1763745792,"r":"9f3a61c06920a000","s":"sales"}"#
        );
        assert_eq!(kept(".t |= fromdateiso8601", r#"{"t":"1970-01-01T00:01:00Z"}"#), r#"{"t":60}"#);
    }

    #[test]
    fn untouched_numbers_keep_their_digits() {
        let row = r#"{"a":123456789012345678901234567890,"b":1.10,"c":-0.0,"d":1e400}"#;
        assert_eq!(kept(".", row), row);
    }

    #[test]
    fn no_result_drops_the_record_and_a_second_one_rejects_it() {
        assert_eq!(run("select(.a > 1)", r#"{"a":1}"#), Ok(None));
        let error = run(".l[]", r#"{"l":[{},{}]}"#).unwrap_err();
        assert!(error.contains("more than one result"), "{error}");
        assert_eq!(run(".l[]", r#"{"l":[{"a":1}]}"#), Ok(Some(r#"{"a":1}"#.to_owned())));
    }

    #[test]
    fn what_is_no_record_rejects_it() {
        for (program, reason) in [
            (".a", "the result 1 is not a JSON object"),
            ("[.]", "the result [{\"a\":1}] is not a JSON object"),
            ("{a: nan}", "the result {\"a\":NaN} lacks a value"),
            ("{a: infinite}", "the result {\"a\":Infinity} lacks a value"),
            ("error(\"no \\u001b[31m\")", "\"no \\u001b[31m\""),
        ] {
            assert_eq!(run(program, r#"{"a":1}"#), Err(reason.to_owned()), "{program}");
        }
        assert!(run(".a.b", r#"{"a":1}"#).unwrap_err().contains("cannot index"));
        assert!(run(".", "{a:1}").unwrap_err().contains("the record lacks"));
    }

    #[test]
    fn what_is_no_program_is_known_before() {
        for (program, message) in [
            ("lenght", "there is no filter `lenght`"),
            ("map(.a; .b)", "there is no filter `map` with 2 arguments"),
            ("$x", "there is no variable `$x`"),
            (".a |", "expected term at its end"),
            ("{a", "expected a closing brace at its end"),
            (".a }", "expected a token"),
            ("now", "`now` is left out"),
            ("env.HOME", "`env` is left out"),
            ("import \"a\" as a; .", "modules cannot be loaded"),
            ("", "expected term"),
        ] {
            let problem = compile(program).unwrap_err();
            assert!(problem.message.contains(message), "{program}: {problem:?}");
        }
        assert!(filter_names().iter().any(|name| name == "length"));
    }
}
