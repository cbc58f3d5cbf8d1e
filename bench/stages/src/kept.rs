//! The counts that are kept in the repository, and what they were taken with.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};
use stages::STAGES;

/// A count may be off by this.
const TOLERANCE: f64 = 0.03;

/// Instructions by stage, for one unit of it.
pub(crate) type Counts = BTreeMap<String, f64>;

/// Counts and what they were taken with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) tools: Tools,
    pub(crate) stages: Counts,
}

/// What makes instructions, and counts them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tools {
    rustc: String,
    valgrind: String,
}

impl Tools {
    /// Those of this machine.
    pub(crate) fn here() -> Result<Tools, String> {
        let version = |program: &str| {
            let asked = Command::new(program)
                .arg("--version")
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .output()
                .map_err(|error| format!("{program}: {error}; is it installed?"))?;
            Ok::<_, String>(String::from_utf8_lossy(&asked.stdout).trim().to_owned())
        };
        Ok(Tools { rustc: version("rustc")?, valgrind: version("valgrind")? })
    }
}

impl fmt::Display for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {}", self.rustc, self.valgrind)
    }
}

impl Kept {
    pub(crate) fn read(file: &Path) -> Result<Kept, String> {
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string());
        let kept = text.and_then(|text| serde_json::from_str(&text).map_err(|e| e.to_string()));
        kept.map_err(|error| format!("{}: {error}", file.display()))
    }

    pub(crate) fn write(&self, file: &Path) -> Result<(), String> {
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        std::fs::write(file, text + "\n").map_err(|error| format!("{}: {error}", file.display()))
    }

    /// Stages whose count is not what it was in `kept`, or that are in one of both only.
    pub(crate) fn off(&self, kept: &Kept) -> Vec<String> {
        let mut names: Vec<&String> = self.stages.keys().chain(kept.stages.keys()).collect();
        names.sort();
        names.dedup();
        let is_off = |name: &&String| match (self.stages.get(*name), kept.stages.get(*name)) {
            (Some(now), Some(then)) => !(1.0 - TOLERANCE..=1.0 + TOLERANCE).contains(&(now / then)),
            _ => true,
        };
        names.into_iter().filter(is_off).cloned().collect()
    }

    /// One line for each stage.
    pub(crate) fn table(&self, kept: Option<&Kept>) -> String {
        let mut text = format!("{:<14} {:>14} {:>12} {:>9}\n", "stage", "instructions", "kept", "");
        for stage in STAGES {
            let now = self.stages.get(stage.name).copied().unwrap_or(f64::NAN);
            write!(text, "{:<14} {now:>14.1}", stage.name).ok();
            if let Some(then) = kept.and_then(|kept| kept.stages.get(stage.name)) {
                let percent = (now / then - 1.0) * 100.0;
                write!(text, " {then:>12.1} {percent:>+8.1}%").ok();
            }
            writeln!(text, "  a {}", stage.unit).ok();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{Kept, Tools};

    fn kept(stages: &[(&str, f64)]) -> Kept {
        let tools = Tools { rustc: "r".to_owned(), valgrind: "v".to_owned() };
        let stages = stages.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Kept { tools, stages }
    }

    #[test]
    fn more_and_less_than_three_percent_are_off_and_so_is_what_is_missing() {
        let then = kept(&[("a", 1_000.0), ("b", 1_000.0), ("c", 1_000.0), ("d", 1_000.0)]);
        let now = kept(&[("a", 1_029.0), ("b", 1_031.0), ("c", 969.0), ("e", 1.0)]);
        assert_eq!(now.off(&then), ["b", "c", "d", "e"]);
        assert!(then.off(&then).is_empty());
        assert_eq!(kept(&[("a", f64::NAN)]).off(&kept(&[("a", 1.0)])), ["a"]);
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("instructions.json");
        assert!(Kept::read(&file).unwrap_err().contains("instructions.json"));
        let kept = kept(&[("a", 12.5)]);
        kept.write(&file).unwrap();
        assert_eq!(Kept::read(&file).unwrap(), kept);
    }
}
