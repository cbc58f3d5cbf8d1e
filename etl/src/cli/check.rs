//! `etl check FILE...`: finds every mistake, sends nothing. What passes here is
//! what a run accepts, because both call [`config::load`].

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use crate::config::{self, Environment, Extract, Loaded, Pagination, Pipeline, Report};
use crate::exit::Exit;
use crate::schedule::expand;
use crate::telemetry::figures::counted;

/// Checks files, and the `*.yaml` and `*.yml` of directories, with the process's environment.
/// Results go to stdout, errors to stderr; with `json` one object goes to stdout instead.
#[must_use]
pub fn check(paths: &[PathBuf], sets: &[String], json: bool, color: bool) -> Exit {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    check_to(paths, sets, None, json, color, &mut stdout.lock(), &mut stderr.lock())
}

/// [`check`] with a given environment and given outputs.
pub fn check_to(
    paths: &[PathBuf],
    sets: &[String],
    environment: Option<&Environment>,
    json: bool,
    color: bool,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> Exit {
    let expanded = match paths {
        [] => Err("which file? for example: etl check pipeline.yaml".to_owned()),
        paths => expand(paths),
    };
    let files = match expanded {
        Ok(files) => files,
        Err(problem) => {
            // A closed pipe is no reason to call a configuration good or bad.
            writeln!(stderr, "{problem}").ok();
            return Exit::Usage;
        }
    };
    let widest = files.iter().map(|file| file.display().to_string().chars().count()).max();
    let mut all_ok = true;
    let mut results = Vec::new();
    for file in &files {
        match config::load(file, sets, environment) {
            Ok(loaded) => {
                results.push(good_as_json(file, &loaded));
                if !json {
                    let name = file.display().to_string();
                    let width = widest.unwrap_or(0);
                    writeln!(stdout, "ok    {name:<width$}   {}", journey(&loaded.pipeline)).ok();
                }
            }
            Err(report) => {
                all_ok = false;
                results.push(bad_as_json(file, &report));
                if !json {
                    stdout.flush().ok();
                    writeln!(stderr, "{}", report.render_errors(color)).ok();
                }
            }
        }
    }
    if json {
        writeln!(stdout, "{}", json!({ "ok": all_ok, "files": results })).ok();
    } else if !all_ok {
        writeln!(stderr, "nothing was read or sent").ok();
    }
    if all_ok { Exit::Delivered } else { Exit::Config }
}

/// A pipeline in one line: `appliances: csv -> http extract (1000 workers) -> cpu_indicators -> http`.
#[must_use]
pub fn journey(pipeline: &Pipeline) -> String {
    let mut stations = Vec::new();
    if pipeline.source.csv.is_some() {
        stations.push("csv".to_owned());
    }
    if let Some(rest) = &pipeline.source.rest {
        stations.push(format!("rest ({})", pagination(&rest.pagination)));
    }
    if let Some(sql) = &pipeline.source.sql {
        let shards = crate::source::sql::shards(sql).map_or(0, |shards| shards.len() as u64);
        let tables = counted(sql.tables.len() as u64, "table");
        stations.push(format!("{} ({}, {tables})", sql.kind.name(), counted(shards, "shard")));
    }
    if let Some(extract) = &pipeline.extract {
        let kind = match extract {
            Extract { http: Some(_), .. } => "http",
            Extract { snmp: Some(_), .. } => "snmp",
            _ => "simulated",
        };
        let how = match (&extract.every, extract.workers) {
            (Some(every), Some(workers)) => format!("every {}, {workers} workers", every.interval),
            (Some(every), None) => format!("every {}", every.interval),
            (None, _) => format!("{} workers", extract.workers()),
        };
        stations.push(format!("{kind} extract ({how})"));
    }
    stations.extend(pipeline.transform.iter().map(|step| step.name().to_owned()));
    let sinks: Vec<&str> = pipeline.load.iter().map(|load| load.sink_name()).collect();
    stations.push(sinks.join(", "));
    let mut line = format!("{}: {}", pipeline.name, stations.join(" -> "));
    if !pipeline.raw.is_empty() {
        let raw: Vec<&str> = pipeline.raw.iter().map(|load| load.sink_name()).collect();
        line.push_str(&format!("; raw -> {}", raw.join(", ")));
    }
    line
}

/// How many requests a run of the source makes, in a word or two.
fn pagination(pagination: &Pagination) -> &'static str {
    match pagination {
        Pagination::None => "one page",
        Pagination::Link => "pages by Link header",
        Pagination::Next(_) => "pages by next address",
        Pagination::Page(_) => "pages by number",
        Pagination::Offset(_) => "pages by offset",
        Pagination::Cursor(_) => "pages by cursor",
    }
}

fn good_as_json(file: &Path, loaded: &Loaded) -> Json {
    json!({
        "path": file.display().to_string(),
        "ok": true,
        "name": loaded.pipeline.name,
        "digest": loaded.digest,
        "errors": [],
    })
}

fn bad_as_json(file: &Path, report: &Report) -> Json {
    let errors = report.errors().iter().map(|error| {
        let position = report.position(error);
        let help = [error.label.as_str(), error.help.as_deref().unwrap_or_default()];
        let help = help.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>();
        json!({
            "message": error.message,
            "line": position.map(|position| position.line),
            "column": position.map(|position| position.column),
            "key": error.key,
            "help": help.join("; "),
        })
    });
    json!({
        "path": file.display().to_string(),
        "ok": false,
        "errors": errors.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use std::path::{Path, PathBuf};

    use serde_json::Value as Json;

    use super::check_to;
    use crate::config::Environment;
    use crate::exit::Exit;

    fn run(paths: &[PathBuf], json: bool) -> (Exit, String, String) {
        run_in(Environment::empty(), paths, json)
    }

    fn run_in(environment: Environment, paths: &[PathBuf], json: bool) -> (Exit, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = check_to(paths, &[], Some(&environment), json, false, &mut out, &mut err);
        (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    fn examples() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/pipelines")
    }

    #[test]
    fn every_example_pipeline_passes() {
        // Nobody's shards have an address that all have.
        let shards = [("SHARD_KIND", "postgres"), ("SHARDS", "postgres://localhost/crm")];
        let (exit, out, err) = run_in(Environment::from_pairs(shards), &[examples()], false);
        let needs_parquet = usize::from(cfg!(not(feature = "parquet")));
        if needs_parquet == 1 {
            assert_eq!(exit, Exit::Config, "{err}");
            assert!(err.contains("users.yaml") && err.matches("error:").count() == 1, "{err}");
            assert!(err.contains("--features parquet"), "{err}");
        } else {
            assert_eq!(exit, Exit::Delivered, "{err}");
        }
        let journey = "appliances: csv -> http extract (1000 workers) -> cpu_indicators -> http\n";
        assert!(out.contains(journey), "{out}");
        let files = std::fs::read_dir(examples()).unwrap().count();
        assert_eq!(out.lines().count(), files - needs_parquet);
    }

    #[test]
    fn a_bad_file_gives_78_and_does_not_hide_a_good_one() {
        let directory = tempfile::tempdir().unwrap();
        let bad = directory.path().join("bad.yml");
        std::fs::write(&bad, "nmae: x\nload: []\n").unwrap();
        let (exit, out, err) = run(&[bad.clone(), examples().join("cpu-csv.yaml")], false);
        assert_eq!(exit, Exit::Config);
        assert!(out.starts_with("ok    ") && out.lines().count() == 1, "{out}");
        assert!(err.contains("did you mean `name`?"), "{err}");
        assert!(err.ends_with("nothing was read or sent\n"), "{err}");

        let (exit, out, err) = run(&[bad], true);
        assert_eq!((exit, err.as_str()), (Exit::Config, ""));
        let shown: Json = serde_json::from_str(&out).unwrap();
        assert_eq!(shown["ok"], false);
        let errors = shown["files"][0]["errors"].as_array().unwrap();
        let first = errors.iter().find(|error| error["line"] == 1).unwrap();
        assert_eq!((&first["column"], &first["key"]), (&Json::from(1), &Json::from("nmae")));
        assert_eq!(first["help"], "did you mean `name`?");
    }

    #[test]
    fn no_file_and_an_empty_directory_are_usage_errors() {
        assert_eq!(run(&[], false).0, Exit::Usage);
        let directory = tempfile::tempdir().unwrap();
        let (exit, _, err) = run(&[directory.path().to_owned()], false);
        assert_eq!(exit, Exit::Usage);
        assert!(err.contains("no *.yaml"), "{err}");
    }

    #[test]
    fn a_missing_file_names_the_nearest_one() {
        let (exit, _, err) = run(&[examples().join("aplliances.yaml")], false);
        assert_eq!(exit, Exit::Config);
        assert!(err.contains("did you mean ") && err.contains("/appliances.yaml?"), "{err}");
    }
}
