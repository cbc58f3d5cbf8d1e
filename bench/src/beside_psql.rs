//! What the scenarios share that fill one table of PostgreSQL with etl and with psql, in turn.

use std::path::Path;
use std::process::Command;

use crate::BenchError;
use crate::loader::Loader;
use crate::process::{Usage, measure};
use crate::report::{Run, median, say};
use crate::sink::Counts;
use crate::support::postgres::Postgres;

/// A server, and the table that both fill.
pub(crate) struct BesidePsql {
    pub(crate) server: Postgres,
    pub(crate) psql: Loader,
    table: &'static str,
    columns: &'static str,
}

impl BesidePsql {
    pub(crate) fn start(
        table: &'static str,
        columns: &'static str,
    ) -> Result<BesidePsql, BenchError> {
        let psql = Loader::on_path("psql").ok_or_else(|| {
            BenchError::Failed("psql is not on PATH: apt-get install postgresql".to_owned())
        })?;
        // As a server comes, but without a checkpoint in the middle of one of the two.
        let server = Postgres::start_with(&["max_wal_size=8GB", "checkpoint_timeout=1h"]);
        Ok(BesidePsql { server, psql, table, columns })
    }

    /// Fills the table `runs` times by `with_etl` and `with_psql`; gives all runs, and the
    /// median of psql's seconds.
    pub(crate) fn in_turn(
        &self,
        (scenario, etl): (&str, &Loader),
        (rows, runs): (u64, u32),
        with_etl: impl Fn() -> Result<Usage, BenchError>,
        with_psql: impl Fn() -> Result<Usage, BenchError>,
    ) -> Result<(Vec<Run>, f64), BenchError> {
        let (mut measured, mut seconds) = (Vec::new(), Vec::new());
        for number in 1..=runs {
            say(&format!("{scenario}: run {number} of {runs}"));
            self.empty_table();
            let usage = with_etl()?;
            measured.push(Run::new(etl.name, &usage, self.counted(), rows));
            self.empty_table();
            let usage = with_psql()?;
            seconds.push(usage.wall.as_secs_f64());
            measured.push(Run::new(self.psql.name, &usage, self.counted(), rows));
        }
        Ok((measured, median(seconds)))
    }

    /// An empty table on a server that has nothing else to do.
    fn empty_table(&self) {
        let BesidePsql { server, table, columns, .. } = self;
        server.ask(&format!("DROP TABLE IF EXISTS {table}; CREATE TABLE {table} ({columns})"));
        server.ask("CHECKPOINT");
    }

    fn counted(&self) -> Counts {
        let records = self.server.number(&format!("SELECT count(*) FROM {}", self.table));
        Counts { records, ..Counts::default() }
    }
}

/// Runs psql, by itself or in a shell (`program`); its last words when it fails.
pub(crate) fn finish(
    program: &Loader,
    mut command: Command,
    directory: &Path,
) -> Result<Usage, BenchError> {
    let usage = measure(&mut command).map_err(BenchError::io(program.name))?;
    if !usage.status.success() {
        let words = program.last_words(directory);
        return Err(BenchError::Failed(format!("psql: {}:\n{words}", usage.status)));
    }
    Ok(usage)
}
