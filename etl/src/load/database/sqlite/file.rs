//! The file of the SQLite sink: opened, made with its tables, looked at.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::{CWD, FileType, Mode};

use super::super::sql::Dialect;
use super::super::sqlstate::{Stage, classify_sqlite};
use super::super::table::no_column;
use super::{Opened, Store, Trouble};
use crate::config::WriteMode;
use crate::http::printable;
use crate::load::answer::Answer;
use crate::load::sink::{Probe, Reach};

/// Keys that one start forgets at most, so that it does not take long.
const PRUNED_MAX: usize = 100_000;
/// Between two looks at a file that another sink is about to make.
const BUSY_LOOK: Duration = Duration::from_millis(5);

impl Store {
    /// Opens the file unless the open one is still in its place; makes what is to be made.
    pub(super) fn open(&mut self) -> Result<(), Trouble> {
        let there = identity(&self.file);
        if self.open.as_ref().is_some_and(|open| Some(open.identity) == there) {
            return Ok(());
        }
        self.open = None;
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if self.table.create {
            flags |= OpenFlags::SQLITE_OPEN_CREATE;
            self.make_directory()?;
            self.make_file();
        }
        let before = |error| Trouble::Database(Stage::Before, error);
        let connection = Connection::open_with_flags(&self.file, flags).map_err(before)?;
        connection.busy_timeout(self.busy).map_err(before)?;
        self.write_ahead(&connection).map_err(before)?;
        connection
            .execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
            .map_err(before)?;
        self.make_tables(&connection).map_err(before)?;
        let Some(identity) = identity(&self.file) else {
            return Err(Trouble::File(format!("{} vanished", self.file.display())));
        };
        self.open = Some(Opened { connection, identity });
        Ok(())
    }

    /// Turns on the write-ahead log. When two sinks do so in a new file at the same moment,
    /// SQLite refuses one of them at once: its busy timeout does not hold here.
    fn write_ahead(&self, connection: &Connection) -> rusqlite::Result<()> {
        let began = Instant::now();
        loop {
            match connection.execute_batch("PRAGMA journal_mode = WAL;") {
                Err(error)
                    if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                        && began.elapsed() < self.busy =>
                {
                    std::thread::sleep(BUSY_LOOK);
                }
                result => return result,
            }
        }
    }

    /// Makes the file's directory, durably.
    fn make_directory(&self) -> Result<(), Trouble> {
        let Some(directory) = self.file.parent().filter(|path| !path.as_os_str().is_empty()) else {
            return Ok(());
        };
        if directory.is_dir() {
            return Ok(());
        }
        let failed = |error| Trouble::File(format!("cannot make {}: {error}", directory.display()));
        std::fs::create_dir_all(directory).map_err(failed)?;
        let above = directory.parent().filter(|path| !path.as_os_str().is_empty());
        let synced =
            std::fs::File::open(above.unwrap_or(Path::new("."))).and_then(|f| f.sync_all());
        synced.map_err(failed)
    }

    /// Makes the file where there is none, for its owner only. SQLite gives the same rights
    /// to the files that it puts beside it, which hold records too. It is not opened for
    /// that: closing it would take the locks away that another sink has on it by then.
    fn make_file(&self) {
        let mode = Mode::RUSR | Mode::WUSR;
        // What cannot be made cannot be opened either, and SQLite says why.
        rustix::fs::mknodat(CWD, &self.file, FileType::RegularFile, mode, 0).ok();
    }

    fn make_tables(&self, connection: &Connection) -> rusqlite::Result<()> {
        let (table, dialect) = (&self.table, Dialect::Sqlite);
        let mut sql = dialect.create_ledger(table);
        if table.mode == WriteMode::Replace {
            sql += &dialect.create_partitions(table);
        }
        if table.create {
            sql += &dialect.create(table);
        }
        connection.execute_batch(&format!("BEGIN IMMEDIATE;\n{sql}COMMIT;"))?;
        // Keys that are older than any batch that may still come.
        connection.execute(
            &format!(
                "DELETE FROM {0} WHERE rowid IN (SELECT rowid FROM {0} WHERE target = ? \
                 AND loaded_at < strftime('%Y-%m-%dT%H:%M:%fZ', 'now', ?) LIMIT {PRUNED_MAX})",
                table.ledger
            ),
            (&table.plain, format!("-{} seconds", table.keep.as_secs())),
        )?;
        Ok(())
    }

    /// Looks at the file and the table; changes nothing.
    pub(super) fn probe(&self) -> Probe {
        let (file, table) = (self.file.display(), printable(self.table.plain.as_bytes(), 120));
        let made = |what: String| match self.table.create {
            true => Probe::ready(format!("{what} will be made")),
            false => Probe::new(
                Reach::Refused,
                format!("there is no {what}"),
                "make it, set `create: true`, or correct the settings",
            ),
        };
        if !self.file.exists() {
            return made(format!("file {file}"));
        }
        let found = Connection::open_with_flags(&self.file, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .and_then(|connection| {
                connection.busy_timeout(self.busy)?;
                let bare = self.table.plain.rsplit('.').next().unwrap_or_default();
                let mut columns = connection.prepare("SELECT name FROM pragma_table_info(?)")?;
                columns.query_map([bare], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()
            });
        match found {
            Ok(columns) if !columns.is_empty() => {
                let reached = format!("{file}, SQLite {}, table {table}", rusqlite::version());
                let wanted = self.table.loaded.iter().map(|wanted| wanted.column.as_str());
                // SQLite takes names for the same whatever their case.
                let is_there = |name: &str| columns.iter().any(|it| it.eq_ignore_ascii_case(name));
                let missing: Vec<&str> = wanted.filter(|name| !is_there(name)).collect();
                match missing.as_slice() {
                    [] => Probe::ready(reached),
                    missing => no_column(&reached, &missing.join(", ")),
                }
            }
            Ok(_) => made(format!("table {table} in {file}")),
            Err(error) => {
                let (reach, remedy) = match classify_sqlite(&error, Stage::Before) {
                    Answer::Refused(failure) => (Reach::Refused, failure.remedy),
                    _ => (Reach::NotNow, None),
                };
                let remedy =
                    remedy.unwrap_or_else(|| "is another program writing to it?".to_owned());
                Probe::new(reach, format!("{file}: {error}"), remedy)
            }
        }
    }
}

/// Device and inode of a file.
fn identity(file: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(file).ok().map(|found| (found.dev(), found.ino()))
}
