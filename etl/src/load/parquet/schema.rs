//! The columns that a sink's files have, kept in the state directory so that all files of
//! a pipeline agree. Columns are only ever added, by name; a type stays what it became first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::learn::learn;
use crate::config::{ParquetColumn, ParquetTypeText};
use crate::load::files::FilesError;
use crate::load::unix_seconds;
use crate::spool::{Directory, NewFile, WriteError, create_durably, write_durably};

/// What the file holds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Kept {
    columns: Vec<ParquetColumn>,
}

/// The columns so far, and where they are kept.
#[derive(Debug)]
pub(super) struct KeptSchema {
    directory: PathBuf,
    file: String,
    columns: Mutex<Arc<[ParquetColumn]>>,
}

impl KeptSchema {
    /// The schema kept for `sink` in the state directory, where `said` says otherwise
    /// nothing of it holds.
    pub(super) fn open(
        state: &Path,
        sink: &str,
        said: &BTreeMap<String, ParquetTypeText>,
    ) -> Result<KeptSchema, FilesError> {
        let file = format!("{sink}.schema.json");
        let path = state.join(&file);
        let kept: Kept = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| FilesError::Schema { path, reason: error.to_string() })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Kept::default(),
            Err(error) => return Err(FilesError::Schema { path, reason: error.to_string() }),
        };
        let said_columns = said.iter().map(|(name, ParquetTypeText(kind))| ParquetColumn {
            name: name.clone(),
            kind: kind.clone(),
        });
        let others = kept.columns.into_iter().filter(|column| !said.contains_key(&column.name));
        let columns = said_columns.chain(others).collect();
        Ok(KeptSchema { directory: state.to_owned(), file, columns: Mutex::new(columns) })
    }

    /// The columns after `rows`: those so far, and new ones for fields that have none.
    /// They are durable before this returns, so that a batch that comes again meets the
    /// same types. Blocks.
    pub(super) fn learn(
        &self,
        rows: &[&[u8]],
        left_out: Option<&str>,
    ) -> Result<Arc<[ParquetColumn]>, WriteError> {
        let mut columns = self.columns.lock().unwrap_or_else(PoisonError::into_inner);
        let learned = learn(&columns, rows, left_out);
        if learned != columns[..] {
            self.keep(&learned)?;
            *columns = learned.into();
        }
        Ok(columns.clone())
    }

    fn keep(&self, columns: &[ParquetColumn]) -> Result<(), WriteError> {
        let path = self.directory.join(&self.file);
        let failed = |error| WriteError::new("keep the schema in", &path, error);
        let kept = Kept { columns: columns.to_vec() };
        let text = serde_json::to_vec_pretty(&kept).map_err(|error| failed(error.into()))?;
        create_durably(&self.directory).map_err(failed)?;
        let directory = Directory::open(&self.directory).map_err(failed)?;
        let file = NewFile { name: &self.file, bytes: &text, modified: unix_seconds() };
        // It replaces what it grew out of.
        write_durably(&directory, &file, || true).map(drop)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use std::collections::BTreeMap;

    use super::KeptSchema;
    use crate::config::ParquetType;

    #[test]
    fn columns_outlive_the_process_and_what_is_said_holds() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("p/state");
        let open = |said: &BTreeMap<_, _>| KeptSchema::open(&state, "s", said);
        let none = BTreeMap::new();
        let kept = open(&none).unwrap();
        let first = kept.learn(&[br#"{"a":1,"s":{"t":["x"]},"skip":1}"#], Some("skip")).unwrap();
        assert_eq!(first.len(), 2);
        let again = open(&none).unwrap().learn(&[br#"{"a":"text","b":true}"#], None).unwrap();
        assert_eq!(again[..2], first[..]);
        assert_eq!(again[2].kind, ParquetType::Boolean);

        let said = BTreeMap::from([("a".to_owned(), "decimal(9,2)".parse().unwrap())]);
        let columns = open(&said).unwrap().learn(&[b"{}"], None).unwrap();
        assert_eq!(columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["a", "s", "b"]);
        assert_eq!(columns[0].kind, ParquetType::Decimal { precision: 9, scale: 2 });

        std::fs::write(state.join("s.schema.json"), "{").unwrap();
        assert!(open(&none).unwrap_err().to_string().contains("s.schema.json"));
    }
}
