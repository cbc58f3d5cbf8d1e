//! The files of this machine that a run of a pipeline needs beside its data directory.

use std::path::{Path, PathBuf};

use super::units::{UnitsError, absolute};
use crate::config::{DatabasePlace, Load, Loaded, Pipeline, Shard, ShardPlace, Tls};

/// Files that a run reads and directories that it writes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Touched {
    /// Files that it reads, the pipeline's own among them.
    pub reads: Vec<PathBuf>,
    /// The directories that these are in, each once.
    pub directories: Vec<PathBuf>,
    /// Directories outside the data directory that sinks write to.
    pub writes: Vec<PathBuf>,
}

impl Touched {
    /// What a run of `loaded`, whose file is `file`, touches.
    pub fn by(loaded: &Loaded, file: &Path) -> Result<Touched, UnitsError> {
        let mut touched = Touched { reads: vec![file.to_owned()], ..Touched::default() };
        for path in reads(&loaded.pipeline) {
            touched.reads.push(absolute(path)?);
        }
        for path in shard_files(&loaded.pipeline) {
            touched.reads.push(absolute(&path)?);
        }
        for path in &touched.reads {
            let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
            if !touched.directories.contains(&directory) {
                touched.directories.push(directory);
            }
        }
        for directory in writes(&loaded.pipeline) {
            touched.writes.push(absolute(&directory)?);
        }
        Ok(touched)
    }
}

/// Shards that are files.
fn shard_files(pipeline: &Pipeline) -> Vec<PathBuf> {
    let shards = pipeline.source.sql.as_ref().and_then(|sql| Shard::all(sql).ok());
    let file = |shard: Shard| match shard.place {
        ShardPlace::File(path) => Some(path),
        ShardPlace::Server(_) => None,
    };
    shards.into_iter().flatten().filter_map(file).collect()
}

fn reads(pipeline: &Pipeline) -> Vec<&Path> {
    let mut paths: Vec<Option<&PathBuf>> = Vec::new();
    paths.push(pipeline.source.csv.as_ref().map(|csv| &csv.path));
    let mut tls: Vec<&Tls> = Vec::new();
    tls.extend(pipeline.source.rest.as_ref().map(|rest| &rest.tls));
    tls.extend(pipeline.source.sql.as_ref().map(|sql| &sql.tls));
    let extract = pipeline.extract.as_ref().and_then(|extract| extract.http.as_ref());
    tls.extend(extract.map(|http| &http.tls));
    for load in pipeline.raw.iter().chain(&pipeline.load) {
        if let Some(http) = &load.http {
            tls.push(&http.tls);
            paths.push(http.token_file.as_ref());
        }
        for database in [&load.database, &load.postgres, &load.sqlite].into_iter().flatten() {
            tls.push(&database.tls);
            paths.push(database.password_file.as_ref());
        }
        tls.extend(load.file.as_ref().map(|file| &file.s3.tls));
        tls.extend(load.parquet.as_ref().map(|parquet| &parquet.s3.tls));
    }
    paths.extend(tls.into_iter().map(|tls| tls.ca.as_ref()));
    paths.into_iter().flatten().map(PathBuf::as_path).collect()
}

fn writes(pipeline: &Pipeline) -> Vec<PathBuf> {
    let of = |load: &Load| {
        let file = load.file.as_ref().filter(|it| !it.is_remote()).and_then(|it| it.path.clone());
        let parquet =
            load.parquet.as_ref().filter(|it| !it.is_remote()).and_then(|it| it.path.clone());
        let databases =
            [("database", &load.database), ("postgres", &load.postgres), ("sqlite", &load.sqlite)];
        let places = databases
            .into_iter()
            .filter_map(|(kind, database)| DatabasePlace::of(kind, database.as_ref()?).ok());
        let sqlite = places.into_iter().find_map(|place| match place {
            DatabasePlace::Sqlite(file) if file.is_absolute() => Some(file.parent()?.to_owned()),
            _ => None,
        });
        [file.map(PathBuf::from), parquet.map(PathBuf::from), sqlite].into_iter().flatten()
    };
    pipeline.raw.iter().chain(&pipeline.load).flat_map(of).collect()
}
