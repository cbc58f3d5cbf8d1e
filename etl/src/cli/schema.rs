//! `etl schema [SECTION]`: the keys, as JSON Schema. Editors check a pipeline
//! while it is written when its first line says
//! `# yaml-language-server: $schema=pipeline.schema.json`.

use std::io::{self, Write};

use crate::config;
use crate::exit::Exit;

/// Prints the schema of the whole pipeline or of one section to stdout.
#[must_use]
pub fn schema(section: Option<&str>) -> Exit {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    schema_to(section, &mut stdout.lock(), &mut stderr.lock())
}

/// [`schema`] with given outputs.
pub fn schema_to(section: Option<&str>, stdout: &mut dyn Write, stderr: &mut dyn Write) -> Exit {
    let shown = match section {
        None => config::pipeline_schema().clone(),
        Some(section) => match config::section_schema(section) {
            Ok(schema) => schema,
            Err(unknown) => {
                // A closed pipe leaves nobody to tell.
                writeln!(stderr, "error: {unknown}").ok();
                for name in &unknown.nearest {
                    writeln!(stderr, "   = etl schema {name}").ok();
                }
                if unknown.nearest.is_empty() {
                    writeln!(stderr, "   = all of it: etl schema").ok();
                }
                return Exit::Usage;
            }
        },
    };
    writeln!(stdout, "{shown:#}").ok();
    Exit::Delivered
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use serde_json::Value as Json;

    use super::schema_to;
    use crate::exit::Exit;

    fn run(section: Option<&str>) -> (Exit, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = schema_to(section, &mut out, &mut err);
        (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn the_whole_and_each_section_are_json() {
        for section in [None, Some("load"), Some("source"), Some("batch"), Some("load.http")] {
            let (exit, out, err) = run(section);
            assert_eq!((exit, err.as_str()), (Exit::Delivered, ""), "{section:?}");
            let schema: Json = serde_json::from_str(&out).unwrap();
            assert!(schema["$schema"].is_string() && schema["title"].is_string());
        }
    }

    #[test]
    fn an_unknown_section_gives_64_and_the_nearest() {
        let (exit, out, err) = run(Some("bacth"));
        assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
        assert!(err.contains("etl schema load.batch"), "{err}");
    }
}
