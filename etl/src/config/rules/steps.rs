//! Rules of transform steps: paths, names that clash, forms of times, zones, programs.
//! What a step is built from is read here by the step's own reader, so that nothing that
//! passes is refused later.

use std::collections::BTreeSet;

use super::super::diagnostic::Diagnostic;
use super::super::origin::Extent;
use super::super::pipeline::{Dedupe, Named, Step, Timestamp, TimestampFrom, Trim};
use super::super::suggest::{did_you_mean, nearest, one_of};
use super::{Rules, shown};
use crate::transform::jq;
use crate::transform::path::Path;
use crate::transform::timestamp::{self, Form};

/// Where a value of a step stands, key by key: a key's own name may hold dots.
type Place = Vec<String>;

impl Rules<'_> {
    pub(super) fn steps(&mut self, steps: &[Step]) {
        for (index, step) in steps.iter().enumerate() {
            let place = |more: &[&str]| -> Place {
                let index = index.to_string();
                let first = ["transform", index.as_str(), step.name()];
                first.iter().chain(more).map(|&part| part.to_owned()).collect()
            };
            let at = place(&[]);
            match step {
                Step::CpuIndicators | Step::Flatten(_) => {}
                Step::Keep(fields) | Step::Drop(fields) | Step::Trim(Trim::Fields(fields)) => {
                    self.list(&at, fields, true);
                }
                Step::Trim(Trim::All(_)) => {}
                Step::Require(fields) => self.list(&at, fields, false),
                Step::Rename(names) => self.rename(&at, names),
                Step::Cast(fields) => self.fields(&at, fields),
                Step::Add(fields) => self.fields(&at, fields),
                Step::Mask(fields) => self.fields(&at, fields),
                Step::Timestamp(fields) => self.timestamp(&at, fields),
                Step::Concat(concat) => {
                    self.path(&place(&["into"]), &concat.into);
                    self.list(&place(&["from"]), &concat.from, false);
                }
                Step::Dedupe(dedupe) => match dedupe {
                    Dedupe::Field(field) => drop(self.path(&at, field)),
                    Dedupe::Fields(fields) => self.list(&at, fields, false),
                    Dedupe::Settings(settings) => self.list(&place(&["by"]), &settings.by, false),
                },
                Step::Jq(program) => self.program(&at, program),
            }
        }
    }

    /// A list of fields; `apart` where one may not lie within another.
    fn list(&mut self, at: &Place, fields: &[String], apart: bool) {
        if fields.is_empty() {
            self.step_fault(at, " names no field", "for example [id, user.name]");
        }
        let places = (0..fields.len()).map(|index| below(at, &index.to_string()));
        let paths: Vec<(Place, Option<Path>)> = places
            .zip(fields)
            .map(|(place, field)| {
                let path = self.path(&place, field);
                (place, path)
            })
            .collect();
        if apart {
            self.apart(&paths);
        }
    }

    /// Settings by field.
    fn fields<T>(&mut self, at: &Place, fields: &Named<T>) {
        if fields.0.is_empty() {
            self.step_fault(at, " names no field", "write fields as keys");
        }
        let mut paths = Vec::new();
        for (name, _) in &fields.0 {
            let place = below(at, name);
            match Path::parse(name) {
                Ok(path) => paths.push((place, Some(path))),
                Err(problem) => {
                    let extent = self.root.locate_key(place.iter().map(String::as_str));
                    self.path_fault(&place, extent, problem);
                }
            }
        }
        self.apart(&paths);
    }

    fn rename(&mut self, at: &Place, names: &Named<String>) {
        self.fields(at, names);
        let mut targets = Vec::new();
        for (from, to) in &names.0 {
            let place = below(at, from);
            let path = self.path(&place, to);
            let same = Path::parse(from).ok().zip(path.as_ref());
            if same.is_some_and(|(from, to)| from.is_same(to)) {
                self.step_fault(&place, " is the same name as before", "another name, or no entry");
            }
            targets.push((place, path));
        }
        self.apart(&targets);
    }

    fn timestamp(&mut self, at: &Place, fields: &Timestamp) {
        match fields {
            Timestamp::Field(field) => drop(self.path(at, field)),
            Timestamp::Fields(fields) => self.list(at, fields, true),
            Timestamp::Settings(fields) => {
                self.fields(at, fields);
                for (name, settings) in &fields.0 {
                    self.times(&below(at, name), settings);
                }
            }
        }
    }

    fn times(&mut self, at: &Place, settings: &TimestampFrom) {
        if let Some(from) = &settings.from
            && let Err(problem) = Form::parse(from)
        {
            let place = below(at, "from");
            let near = nearest(from, Form::NAMES);
            let label = if self.holds_variable(&place.join(".")) || near.is_empty() {
                format!("one of {}, or a pattern such as `%d/%m/%Y`", one_of(&Form::NAMES))
            } else {
                did_you_mean(&near)
            };
            self.step_fault(&place, &format!(" {problem}"), &label);
        }
        if let Some(name) = &settings.zone
            && timestamp::zone(name).is_none()
        {
            let place = below(at, "zone");
            let all = timestamp::zone_names();
            let mut near = nearest(name, all.iter().map(String::as_str));
            if near.is_empty() {
                // `Berlin` is nearly the end of a name.
                let city = |zone: &str| zone.rsplit('/').next().unwrap_or_default().to_lowercase();
                let same = all.iter().filter(|zone| city(zone) == name.to_lowercase());
                near = same.map(String::as_str).take(3).collect();
            }
            let label = if self.holds_variable(&place.join(".")) || near.is_empty() {
                "for example `Europe/Berlin` or `+02:00`".to_owned()
            } else {
                did_you_mean(&near)
            };
            self.step_fault(&place, " is no time zone", &label);
        }
    }

    fn program(&mut self, at: &Place, program: &str) {
        let Err(problem) = jq::compile(program) else { return };
        if self.holds_variable(&at.join(".")) {
            return self.step_fault(at, " is no jq program that can be run here", "");
        }
        let names: BTreeSet<String> = jq::filter_names().into_iter().collect();
        let near = problem.unknown.as_deref().map(|name| {
            // An unknown number of arguments is no misspelt name.
            if names.contains(name) {
                Vec::new()
            } else {
                nearest(name, names.iter().map(String::as_str))
            }
        });
        let label = did_you_mean(&near.unwrap_or_default());
        self.step_fault(at, &format!(" is no jq program: {}", problem.message), &label);
    }

    fn path(&mut self, place: &Place, text: &str) -> Option<Path> {
        match Path::parse(text) {
            Ok(path) => Some(path),
            Err(problem) => {
                self.path_fault(place, None, problem);
                None
            }
        }
    }

    fn path_fault(&mut self, place: &Place, extent: Option<Extent>, problem: &str) {
        let (problem, label) = problem.split_once("; ").unwrap_or((problem, ""));
        self.step_fault_at(place, extent, &format!(": the path {problem}"), label);
    }

    /// Refuses a field that is named twice, or as a part of another.
    fn apart(&mut self, paths: &[(Place, Option<Path>)]) {
        // In order of their names a path stands right behind one that it lies within.
        let mut sorted: Vec<(&Path, &Place)> =
            paths.iter().filter_map(|(place, path)| Some((path.as_ref()?, place))).collect();
        sorted.sort_by(|(a, _), (b, _)| a.cmp_names(b));
        let mut last: Option<&Path> = None;
        for (path, place) in sorted {
            if let Some(other) = last.filter(|other| path.overlaps(other)) {
                let problem = if path.is_same(other) {
                    ": a field that is named already"
                } else {
                    ": a field in an object that is named, too"
                };
                self.step_fault(place, problem, "one of them is enough");
            } else {
                last = Some(path);
            }
        }
    }

    /// Adds an error at a value of a step. No message repeats a value: it may come from
    /// a variable.
    fn step_fault(&mut self, place: &Place, problem: &str, label: &str) {
        self.step_fault_at(place, None, problem, label);
    }

    fn step_fault_at(&mut self, place: &Place, extent: Option<Extent>, problem: &str, label: &str) {
        let dotted = place.join(".");
        if self.is_tainted(&dotted) {
            return;
        }
        let located = || self.root.locate_steps(place.iter().map(String::as_str));
        let extent = extent.unwrap_or_else(located);
        let error = Diagnostic::at(extent, format!("{}{problem}", shown(&dotted)));
        let long = label.chars().count() > 60;
        let error = if long { error.help(label) } else { error.label(label) };
        self.errors.push(error.key(dotted).section("transform"));
    }
}

fn below(place: &Place, name: &str) -> Place {
    place.iter().cloned().chain([name.to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::environment::Environment;
    use super::super::super::from_str;

    fn report(steps: &str) -> String {
        let text = format!(
            "name: x\nsource: {{ csv: {{ path: a.csv }} }}\ntransform:\n{steps}\
             load: [{{ http: {{ url: 'https://h/' }} }}]\n"
        );
        match from_str("p.yaml", &text, &[], &Environment::from_pairs([("V", "canary..93")])) {
            Ok(_) => String::new(),
            Err(report) => report.render(false),
        }
    }

    #[test]
    fn good_steps_pass() {
        let steps = r#"
  - keep: [id, user.name, "a\\.b"]
  - drop: [user.phone]
  - rename: { title: subject, user.name: user_name, a: b, b: a }
  - trim: all
  - trim: [name]
  - require: [id, user, user.id]
  - cast: { amount: number, id: integer, active: boolean, note: text }
  - timestamp: created
  - timestamp: [created, updated]
  - timestamp: { created: { from: epoch_ms }, day: { from: "%d/%m/%Y", zone: Europe/Berlin } }
  - add: { loaded_at: now, run: run_id, origin: source, country: { value: DE }, n: { value: 7 } }
  - concat: { into: name, from: [first, last], with: " " }
  - flatten
  - flatten: { separator: . }
  - dedupe: id
  - dedupe: [a, b]
  - dedupe: { by: [a, b], remember: 10 }
  - mask: { email: hash, phone: redact }
  - jq: ".x |= $now"
  - cpu_indicators
"#;
        assert_eq!(report(steps), "");
        // Whether a run may go on is told by a digest of the steps as they serialize: nothing
        // may be lost there.
        let text = format!(
            "name: x\nsource: {{ csv: {{ path: a }} }}\ntransform:{steps}load: [{{ http: {{ url: 'https://h/' }} }}]"
        );
        let read = from_str("p.yaml", &text, &[], &Environment::empty());
        let steps = read.map(|loaded| loaded.pipeline.transform).unwrap_or_default();
        let json = serde_json::to_value(&steps).unwrap_or_default();
        assert_eq!(json.as_array().map(Vec::len), Some(20));
        assert_eq!(serde_json::from_value::<Vec<super::Step>>(json).ok(), Some(steps));
    }

    #[test]
    fn each_mistake_is_one_error_that_says_what_would_be_right() {
        for (step, message, help) in [
            ("kep: [a]", "transform[0]: unknown value `kep`", "did you mean `keep`?"),
            ("frobnicate: [a]", "unknown value `frobnicate`", "`require`"),
            ("keep: id", "transform[0].keep: expected a list, found `id`", "[ … ]"),
            ("keep: []", "transform[0].keep names no field", "[id, user.name]"),
            ("keep: [a..b]", "transform[0].keep[0]: the path has an empty name", "`user.name`"),
            (
                "keep: [user, user.name]",
                "transform[0].keep[1]: a field in an object that is named, too",
                "one of them",
            ),
            ("drop: [a, a]", "a field that is named already", "one of them"),
            ("trim: al", "transform[0].trim: unknown value `al`", "did you mean `all`?"),
            ("trim: { a: b }", "transform[0].trim: expected `all`, or a list, found keys", ""),
            ("rename: { a: a }", "is the same name as before", ""),
            ("rename: { a: c, b: c }", "a field that is named already", ""),
            ("rename: { a: [b] }", "transform[0].rename.a: expected text, found a list", ""),
            ("cast: { a: nubmer }", "transform[0].cast.a: unknown value", "did you mean `number`?"),
            ("cast: { a: date }", "unknown value `date`", "`number`, `integer`"),
            ("cast: {}", "transform[0].cast names no field", ""),
            ("cast: [a]", "transform[0].cast: expected keys and values, found a list", ""),
            (
                "timestamp: { a: { from: epoc } }",
                "transform[0].timestamp.a.from is neither",
                "did you mean `epoch`?",
            ),
            ("timestamp: { a: { from: '%Q%!' } }", "is no pattern", "`%d/%m/%Y`"),
            (
                "timestamp: { a: { zone: Europe/Berln } }",
                "no time zone",
                "did you mean `Europe/Berlin`",
            ),
            ("timestamp: { a: { zone: berlin } }", "no time zone", "did you mean `Europe/Berlin`"),
            ("timestamp: { a: epoch }", "expected keys and values", "for example { from: … }"),
            ("timestamp: { a: { form: epoch } }", "unknown key `form`", "did you mean `from`?"),
            ("add: { a: nwo }", "transform[0].add.a: unknown value `nwo`", "did you mean `now`?"),
            ("add: { a: value }", "`value` needs settings", "write it as a key"),
            ("add: { a: DE }", "unknown value `DE`", "`now`, `run_id`, `source` or `value`"),
            ("concat: { into: a }", "missing key `from` in transform[0].concat", "from:"),
            ("flatten: { seperator: _ }", "unknown key `seperator`", "did you mean `separator`?"),
            ("dedupe: { remember: 5 }", "missing key `by`", ""),
            ("dedupe: { by: [a], remember: 0 }", "out of range", "from 1 to 100000000"),
            ("dedupe: []", "transform[0].dedupe names no field", ""),
            ("mask: { a: hsah }", "unknown value `hsah`", "did you mean `hash`?"),
            ("jq: .a |", "is no jq program: expected term", ""),
            ("jq: lenght", "there is no filter `lenght`", "did you mean `length`?"),
            ("jq: now", "`now` is left out", "$now"),
            ("jq: [a]", "transform[0].jq: expected text, found a list", ""),
            ("jq", "`jq` needs settings", "write it as a key"),
            ("{ keep: [a], drop: [b] }", "`keep` and `drop` are two entries", "new entry"),
        ] {
            let shown = report(&format!("  - {step}\n"));
            assert_eq!(shown.matches("error: ").count(), 1, "{step}: {shown}");
            assert!(shown.contains(message) && shown.contains(help), "{step}: {shown}");
            assert!(shown.contains("p.yaml:4:"), "{step}: {shown}");
        }
    }

    #[test]
    fn an_error_points_at_the_field_also_where_its_name_has_dots() {
        let shown = report("  - cast:\n      id: integer\n      user.name.: text\n");
        assert!(shown.contains("p.yaml:6:"), "{shown}");
        assert!(shown.contains(" |       ^^^^^^^^^^ it is written as in"), "{shown}");
    }

    #[test]
    fn values_of_variables_are_not_shown() {
        for step in [
            "keep: ['${V}']",
            "rename: { a: '${V}' }",
            "cast: { a: '${V}' }",
            "timestamp: { a: { from: '${V}', zone: '${V}' } }",
            "add: { a: '${V}' }",
            "dedupe: '${V}'",
            "jq: '${V}'",
        ] {
            let shown = report(&format!("  - {step}\n"));
            assert!(shown.contains("error: ") && !shown.contains("canary"), "{shown}");
        }
    }
}
