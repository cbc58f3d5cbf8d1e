//! `etl generate`: a directory with everything that a new pipeline needs. What comes out
//! passes `etl check` once `.env.template` is copied to `.env`.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::config::is_name;

const USAGE: &str = include_str!("templates/usage.md");
const USAGE_SCHEDULED: &str = include_str!("templates/usage-scheduled.md");
const USAGE_SERVED: &str = include_str!("templates/usage-served.md");
const DOCKERFILE: &str = include_str!("templates/Dockerfile");

/// What a pipeline can begin as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Template {
    /// A fleet that is polled, into an API
    Appliances,
    /// A fleet that is polled for good, into an API
    Fleet,
    /// SNMP agents that are asked for good, into an API
    Snmp,
    /// A REST API into files and a database
    Rest,
    /// One table of many databases into one in PostgreSQL
    SqlShards,
    /// A REST API into Parquet files by day
    Parquet,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The name cannot be a pipeline's.
    #[error(
        "`{0}` cannot name a pipeline: lower-case letters, digits, `-` and `_`, at most 64, the \
         first a letter or digit"
    )]
    Name(String),
    /// There is something at its place.
    #[error("{0} is there already; nothing is overwritten: choose another --name, or: etl delete")]
    Exists(PathBuf),
    /// The system refused.
    #[error("cannot write {path}: {source}")]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Template {
    /// Its `pipeline.yaml`, `.env.template`, and what its README begins with.
    fn texts(self) -> [&'static str; 3] {
        match self {
            Template::Appliances => [
                include_str!("templates/appliances/pipeline.yaml"),
                include_str!("templates/appliances/env.template"),
                include_str!("templates/appliances/README.md"),
            ],
            Template::Fleet => [
                include_str!("templates/fleet/pipeline.yaml"),
                include_str!("templates/fleet/env.template"),
                include_str!("templates/fleet/README.md"),
            ],
            Template::Snmp => [
                include_str!("templates/snmp/pipeline.yaml"),
                include_str!("templates/snmp/env.template"),
                include_str!("templates/snmp/README.md"),
            ],
            Template::Rest => [
                include_str!("templates/rest/pipeline.yaml"),
                include_str!("templates/rest/env.template"),
                include_str!("templates/rest/README.md"),
            ],
            Template::SqlShards => [
                include_str!("templates/sql-shards/pipeline.yaml"),
                include_str!("templates/sql-shards/env.template"),
                include_str!("templates/sql-shards/README.md"),
            ],
            Template::Parquet => [
                include_str!("templates/parquet/pipeline.yaml"),
                include_str!("templates/parquet/env.template"),
                include_str!("templates/parquet/README.md"),
            ],
        }
    }

    /// Whether it is for `etl serve` alone: without a schedule, and so nothing for systemd.
    #[must_use]
    pub fn is_served(self) -> bool {
        matches!(self, Template::Fleet | Template::Snmp)
    }
}

/// Makes `parent/name` from `template` and gives the files that it wrote. What is there
/// already is never touched.
///
/// # Errors
/// When the name is none, the place is taken, or the system refuses; what was begun is
/// taken away again.
pub fn generate(
    parent: &Path,
    name: &str,
    template: Template,
) -> Result<Vec<PathBuf>, GenerateError> {
    if !is_name(name) {
        return Err(GenerateError::Name(crate::http::printable(name.as_bytes(), 100)));
    }
    let directory = parent.join(name);
    let refused = |path: &Path| {
        let path = path.to_owned();
        move |source| GenerateError::Write { path, source }
    };
    DirBuilder::new().recursive(true).create(parent).map_err(refused(parent))?;
    // Made here or not at all: who comes second is refused.
    match DirBuilder::new().create(&directory) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(GenerateError::Exists(directory));
        }
        Err(error) => return Err(refused(&directory)(error)),
    }
    let mut written = Vec::new();
    for (file, content) in contents(parent, name, template) {
        let path = directory.join(file);
        if let Err(source) = write_new(&path, &content) {
            for made in written.iter().chain([&path]) {
                std::fs::remove_file(made).ok();
            }
            std::fs::remove_dir(&directory).ok();
            return Err(GenerateError::Write { path, source });
        }
        written.push(path);
    }
    Ok(written)
}

fn contents(parent: &Path, name: &str, template: Template) -> [(&'static str, String); 4] {
    let [pipeline, environment, about] = template.texts();
    let usage = if template.is_served() { USAGE_SERVED } else { USAGE_SCHEDULED };
    let directory = parent.join(name);
    let fill = |text: &str| {
        text.replace("@NAME@", name)
            .replace("@DIR@", &directory.display().to_string())
            .replace("@PARENT@", &parent.display().to_string())
    };
    [
        ("pipeline.yaml", fill(pipeline)),
        (".env.template", fill(environment)),
        ("README.md", fill(&format!("{about}{USAGE}{usage}"))),
        ("Dockerfile", fill(DOCKERFILE)),
    ]
}

fn write_new(path: &Path, content: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()
}
