//! One pipeline's file, read and checked whole. What comes out is ready to run
//! or is a [`Report`] with every error; nothing in between.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Place, Report};
use super::document::{self, BYTES_MAX, read_bounded};
use super::environment::Environment;
use super::origin::{Kind, Position, Text, Texts};
use super::overrides;
use super::pipeline::Pipeline;
use super::rules;
use super::suggest::nearest;
use super::tree::Node;
use super::validate::{Outcome, validate};
use super::variables;

/// A pipeline that passed every check. Its `Debug` shows no value that may be a secret.
#[derive(Clone)]
pub struct Loaded {
    /// The configuration; relative paths are already resolved against the file's directory.
    pub pipeline: Pipeline,
    /// The file, as given.
    pub path: PathBuf,
    /// BLAKE3 of the effective configuration without secrets, as hexadecimal digits.
    /// The same after moving the file or rotating a token.
    pub digest: String,
    /// Variables that the file uses and the environment sets.
    pub variables: usize,
    /// Secret fields that hold a value.
    pub secrets: usize,
    /// `.env` files that were read.
    pub env_files: Vec<PathBuf>,
    origins: BTreeMap<String, Origin>,
}

/// Where a value comes from, for errors at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Line and column in the pipeline's file; none when it was set by `--set`.
    pub position: Option<Position>,
    /// The variables it was made from, so that "set a new LOAD_API_TOKEN" can be said.
    pub variables: Vec<String>,
}

impl Loaded {
    /// Where a value stands, by its dotted key: `load.0.http.url`. None where a default is used.
    #[must_use]
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.origins.get(key)
    }

    /// A key with its place, for errors at run time: `load.0.http.url (pipeline.yaml:14)`.
    #[must_use]
    pub fn place(&self, key: &str) -> String {
        match self.origin(key).and_then(|origin| origin.position) {
            Some(position) => format!("{key} ({}:{})", self.path.display(), position.line),
            None => key.to_owned(),
        }
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("name", &self.pipeline.name)
            .field("path", &self.path)
            .field("digest", &self.digest)
            .field("variables", &self.variables)
            .field("secrets", &self.secrets)
            .finish_non_exhaustive()
    }
}

/// Reads and checks a pipeline's file with `--set` overrides. Without an
/// environment, the process's and `.env` are used.
///
/// # Errors
/// Every error of the file in one report; nothing else has been read or sent.
pub fn load(
    path: &Path,
    overrides: &[String],
    environment: Option<&Environment>,
) -> Result<Loaded, Report> {
    let text = read(path)?;
    let gathered;
    let environment = match environment {
        Some(environment) => environment,
        None => {
            gathered = Environment::for_pipeline(path)?;
            &gathered
        }
    };
    let mut loaded = from_str(&path.display().to_string(), &text, overrides, environment)?;
    path.clone_into(&mut loaded.path);
    if let Some(directory) = path.parent() {
        resolve_paths(&mut loaded.pipeline, directory);
    }
    Ok(loaded)
}

/// Checks a pipeline given as text; paths in it stay as they are.
///
/// # Errors
/// Every error of the text in one report.
pub fn from_str(
    name: &str,
    text: &str,
    overrides: &[String],
    environment: &Environment,
) -> Result<Loaded, Report> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut texts = Texts::default();
    texts.add(Text::new(Kind::File, name, text));
    let mut root = match document::parse(text, 0) {
        Ok(root) => root,
        Err(errors) => return Err(Report::new(texts, errors, Vec::new())),
    };
    let mut errors = overrides::apply(&mut root, overrides, &mut texts);
    let filling = variables::fill(&mut root, environment);
    errors.extend(filling.errors);
    let outcome = validate(&root, &texts);
    let pipeline = decode(&root, &outcome, &mut errors);
    if let Some(pipeline) = &pipeline {
        errors.extend(rules::check(pipeline, &root, &outcome));
    }
    errors.extend(outcome.errors);
    match pipeline {
        Some(pipeline) if errors.is_empty() => Ok(Loaded {
            digest: digest(&pipeline),
            pipeline,
            path: PathBuf::from(name),
            variables: filling.used.len(),
            secrets: outcome.secret_count,
            env_files: environment.files().to_vec(),
            origins: origins(&texts, outcome.origins),
        }),
        _ => Err(Report::new(texts, errors, outcome.secrets)),
    }
}

/// Decodes what the walk accepted. Walk and types come from the same source, so
/// an error here is rare; it still gets its place, but not its text where the
/// value may be a secret.
fn decode(root: &Node, outcome: &Outcome, errors: &mut Vec<Diagnostic>) -> Option<Pipeline> {
    match serde_path_to_error::deserialize::<_, Pipeline>(&outcome.value) {
        Ok(pipeline) => Some(pipeline),
        Err(error) => {
            // `load[0].http` as `load.0.http`.
            let key = error.path().to_string().replace('[', ".").replace(']', "");
            let extent = root.locate(&key);
            let from_variable =
                outcome.origins.get(&key).is_some_and(|(_, variables)| !variables.is_empty());
            let secret = from_variable || outcome.secrets.contains(&extent);
            let message = match secret {
                true => format!("{key} has a value that is not accepted"),
                false => format!("{key}: {}", error.inner()),
            };
            errors.push(Diagnostic::at(extent, message).key(key));
            None
        }
    }
}

fn digest(pipeline: &Pipeline) -> String {
    // Secrets serialize as "(hidden)"; serializing plain data to memory does not fail.
    let effective = serde_json::to_vec(pipeline).unwrap_or_default();
    blake3::hash(&effective).to_hex().to_string()
}

fn origins(
    texts: &Texts,
    found: BTreeMap<String, (super::origin::Extent, Vec<String>)>,
) -> BTreeMap<String, Origin> {
    let file = texts.get(0);
    let origin = |(key, (extent, variables)): (String, (super::origin::Extent, Vec<String>))| {
        let in_file = file.filter(|_| extent.text == 0);
        (key, Origin { position: in_file.map(|text| text.position(extent.start)), variables })
    };
    found.into_iter().map(origin).collect()
}

fn resolve_paths(pipeline: &mut Pipeline, directory: &Path) {
    let resolve = |path: &mut PathBuf| *path = directory.join(&*path);
    if let Some(csv) = &mut pipeline.source.csv {
        resolve(&mut csv.path);
    }
    if let Some(alerts) = &mut pipeline.alerts {
        alerts.email.iter_mut().flat_map(|it| &mut it.tls.ca).for_each(resolve);
        alerts.webhook.iter_mut().flat_map(|it| &mut it.tls.ca).for_each(resolve);
    }
    if let Some(rest) = &mut pipeline.source.rest {
        rest.tls.ca.iter_mut().for_each(resolve);
    }
    if let Some(sql) = &mut pipeline.source.sql {
        sql.tls.ca.iter_mut().for_each(resolve);
    }
    if let Some(http) = pipeline.extract.as_mut().and_then(|extract| extract.http.as_mut()) {
        http.tls.ca.iter_mut().for_each(resolve);
    }
    for load in pipeline.raw.iter_mut().chain(&mut pipeline.load) {
        if let Some(http) = &mut load.http {
            http.tls.ca.iter_mut().for_each(resolve);
            http.token_file.iter_mut().for_each(resolve);
        }
        for database in [&mut load.database, &mut load.postgres, &mut load.sqlite] {
            let Some(database) = database else { continue };
            database.tls.ca.iter_mut().for_each(resolve);
            database.password_file.iter_mut().for_each(resolve);
        }
        if let Some(file) = &mut load.file {
            file.s3.tls.ca.iter_mut().for_each(resolve);
        }
        if let Some(parquet) = &mut load.parquet {
            parquet.s3.tls.ca.iter_mut().for_each(resolve);
        }
        let file = load.file.as_mut().filter(|file| !file.is_remote());
        let parquet = load.parquet.as_mut().filter(|parquet| !parquet.is_remote());
        let paths = [file.map(|file| &mut file.path), parquet.map(|parquet| &mut parquet.path)];
        for path in paths.into_iter().flatten().flatten() {
            *path = directory.join(&*path).to_string_lossy().into_owned();
        }
    }
}

fn read(path: &Path) -> Result<String, Report> {
    let refuse = |message: String, help: String| {
        Err(Report::single(Diagnostic::new(Place::Nowhere, message).help(help)))
    };
    let shown = path.display();
    if path.is_dir() {
        return refuse(
            format!("{shown} is a directory"),
            "name a pipeline's file in it; etl check takes directories".to_owned(),
        );
    }
    let bytes = match read_bounded(path) {
        Ok(bytes) if bytes.len() > BYTES_MAX => {
            return refuse(
                format!("{shown} is larger than {} KiB", BYTES_MAX >> 10),
                "a pipeline is a page of YAML; is this a data file?".to_owned(),
            );
        }
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return refuse(format!("there is no file {shown}"), instead_of(path));
        }
        Err(error) => {
            return refuse(
                format!("cannot read {shown}: {error}"),
                "make it readable for the user that runs etl".to_owned(),
            );
        }
    };
    String::from_utf8(bytes).or_else(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        refuse(
            format!("{shown} is not UTF-8 text (line {line})"),
            "save it as UTF-8; a .gz file must be unpacked first".to_owned(),
        )
    })
}

/// The nearest file that does exist, or what else to do.
fn instead_of(path: &Path) -> String {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = parent.unwrap_or(Path::new("."));
    if !directory.is_dir() {
        return format!("there is no directory {} either", directory.display());
    }
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().take(10_000);
    let names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let is_pipeline = |name: &&str| name.ends_with(".yaml") || name.ends_with(".yml");
    let wanted = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let found = nearest(wanted, names.iter().map(String::as_str).filter(is_pipeline));
    match found.first() {
        Some(name) => {
            let name = parent.map_or(PathBuf::from(name), |parent| parent.join(name));
            format!("did you mean {}?", name.display())
        }
        None => "check the name and the working directory".to_owned(),
    }
}
