//! The programs that are measured.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::BenchError;
use crate::report::say;

/// A program that can load a file of rows.
pub(crate) struct Loader {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
}

impl Loader {
    /// Builds the binary of `etl` as it is shipped, and finds it.
    pub(crate) fn build_etl() -> Result<Loader, BenchError> {
        say("building etl (profile dist) …");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        // `cargo run` describes this crate to us; to build scripts such as ring's
        // that would look like a change, and they would build again.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                build.env_remove(&name);
            }
        }
        let output = build
            .args(["build", "--profile", "dist", "--package", "etl", "--bin", "etl"])
            .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")])
            .arg("--message-format=json-render-diagnostics")
            .stderr(Stdio::inherit())
            .output()
            .map_err(BenchError::io("cargo build"))?;
        if !output.status.success() {
            return Err(BenchError::Failed("etl does not build".to_owned()));
        }
        let program = executable(&String::from_utf8_lossy(&output.stdout))
            .ok_or_else(|| BenchError::Failed("cargo built no etl binary".to_owned()))?;
        Ok(Loader { name: "etl", program })
    }

    /// A binary of `etl` that was built earlier.
    pub(crate) fn etl_at(file: &Path) -> Result<Loader, BenchError> {
        // Runs happen in another directory.
        let program = file.canonicalize().map_err(BenchError::io(file.display().to_string()))?;
        Ok(Loader { name: "etl", program })
    }

    /// A peer, when it is installed.
    pub(crate) fn on_path(name: &'static str) -> Option<Loader> {
        let path = std::env::var_os("PATH")?;
        let program =
            std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())?;
        Some(Loader { name, program })
    }

    /// The program, to be run in `directory`, its output kept in files there.
    pub(crate) fn command(&self, directory: &Path) -> Result<Command, BenchError> {
        let file = |kind: &str| {
            let path = directory.join(format!("{}.{kind}", self.name));
            std::fs::File::create(path).map_err(BenchError::io("output file"))
        };
        let mut command = Command::new(&self.program);
        command
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(file("stdout")?)
            .stderr(file("stderr")?);
        Ok(command)
    }

    /// What it wrote to stdout in its last run in `directory`.
    pub(crate) fn stdout(&self, directory: &Path) -> String {
        std::fs::read_to_string(directory.join(format!("{}.stdout", self.name))).unwrap_or_default()
    }

    /// The end of what it wrote in its last run in `directory`, to show with a failure.
    pub(crate) fn last_words(&self, directory: &Path) -> String {
        let read = |kind: &str| {
            let path = directory.join(format!("{}.{kind}", self.name));
            String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
        };
        let text = read("stdout") + &read("stderr");
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// The binary that cargo's messages name last.
fn executable(messages: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::executable;

    #[test]
    fn the_binary_is_found_among_cargos_messages() {
        let messages = "not json\n{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
            {\"reason\":\"compiler-artifact\",\"executable\":\"/t/release/etl\"}\n\
            {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(executable(messages).as_deref(), Some(Path::new("/t/release/etl")));
        assert_eq!(executable(""), None);
    }
}
