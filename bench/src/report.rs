//! What was measured, as a table for people and as JSON for later.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::plot;
use crate::process::Usage;
use crate::sink::Counts;

/// One scenario's outcome.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    scenario: &'static str,
    /// What was asked of every loader, in words.
    task: String,
    machine: Machine,
    runs: Vec<Run>,
    medians: Vec<Median>,
    verdicts: Vec<Verdict>,
    /// A schedule sets the pace, so that nobody is faster than anybody.
    #[serde(skip)]
    paced: bool,
}

/// Figures mean nothing without the machine they were taken on.
#[derive(Debug, Serialize)]
struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
}

/// One run of one loader.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) loader: &'static str,
    wall_seconds: f64,
    cpu_seconds: f64,
    rss_bytes_max: u64,
    /// Records asked for.
    expected: u64,
    /// Records asked for less records arrived; below zero when some came twice.
    pub(crate) lost: i64,
    pub(crate) sink: Counts,
}

impl Run {
    pub(crate) fn new(loader: &'static str, usage: &Usage, sink: Counts, expected: u64) -> Run {
        Run {
            loader,
            wall_seconds: usage.wall.as_secs_f64(),
            cpu_seconds: usage.cpu.as_secs_f64(),
            rss_bytes_max: usage.rss_bytes_max,
            expected,
            lost: i64::try_from(i128::from(expected) - i128::from(sink.records))
                .unwrap_or(i64::MAX),
            sink,
        }
    }
}

/// The middle of a loader's runs, each figure by itself.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Median {
    pub(crate) loader: &'static str,
    pub(crate) wall_seconds: f64,
    pub(crate) records_per_second: f64,
    pub(crate) cpu_seconds_per_million: f64,
    pub(crate) rss_mib: f64,
    /// The run that lost or doubled most decides, not the median.
    pub(crate) lost_worst: i64,
}

/// A limit and whether it was met.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Verdict {
    what: &'static str,
    measured: f64,
    limit: f64,
    pub(crate) met: bool,
}

impl Verdict {
    /// Met when `measured` is at most `limit`; NaN never is.
    pub(crate) fn at_most(what: &'static str, measured: f64, limit: f64) -> Verdict {
        Verdict { what, measured, limit, met: measured <= limit }
    }

    /// Met when `measured` is at least `limit`; NaN never is.
    pub(crate) fn at_least(what: &'static str, measured: f64, limit: f64) -> Verdict {
        Verdict { what, measured, limit, met: measured >= limit }
    }
}

/// The medians of one scenario, by loader.
pub(crate) struct Medians<'a>(&'a [Median]);

impl Medians<'_> {
    /// Those of `loader`; without them none of its limits is met.
    pub(crate) fn of(&self, loader: &'static str) -> Median {
        self.find(loader).unwrap_or_else(|| median_of(loader, &[]))
    }

    /// Those of a loader that need not be installed.
    pub(crate) fn find(&self, loader: &str) -> Option<Median> {
        self.0.iter().find(|median| median.loader == loader).cloned()
    }
}

impl Report {
    /// Sums up `runs`. `judge` holds etl's medians to its limits; that nothing was lost or
    /// doubled is always a limit.
    pub(crate) fn new(
        scenario: &'static str,
        task: String,
        runs: Vec<Run>,
        judge: impl FnOnce(&Medians<'_>) -> Vec<Verdict>,
    ) -> Report {
        let mut loaders: Vec<&'static str> = Vec::new();
        for run in &runs {
            if !loaders.contains(&run.loader) {
                loaders.push(run.loader);
            }
        }
        let medians: Vec<Median> = loaders.iter().map(|loader| median_of(loader, &runs)).collect();
        let mut verdicts = judge(&Medians(&medians));
        let ours = medians.iter().filter(|median| median.loader.starts_with("etl"));
        let lost = ours.map(|median| median.lost_worst.unsigned_abs()).max().unwrap_or(u64::MAX);
        #[allow(clippy::cast_precision_loss, reason = "zero is exact, the rest is a failure")]
        let lost = lost as f64;
        verdicts.push(Verdict::at_most("records lost or doubled, worst run", lost, 0.0));
        Report { scenario, task, machine: Machine::this(), runs, medians, verdicts, paced: false }
    }

    /// Of loads whose pace a schedule sets: who is faster is not said.
    pub(crate) fn paced(self) -> Report {
        Report { paced: true, ..self }
    }

    /// The limits and whether they were met.
    pub(crate) fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }

    /// Prints the table to stdout.
    pub(crate) fn print(&self) {
        Self::print_line(&format!("\n{}: {}; medians", self.scenario, self.task));
        Self::print_line(&format!(
            "  {:<22} {:>9} {:>9} {:>10} {:>9} {:>6}",
            "loader", "wall s", "krec/s", "CPU-s/1M", "RSS MiB", "lost"
        ));
        for row in &self.medians {
            Self::print_line(&format!(
                "  {:<22} {:>9.2} {:>9.1} {:>10.3} {:>9.1} {:>6}",
                row.loader,
                row.wall_seconds,
                row.records_per_second / 1_000.0,
                row.cpu_seconds_per_million,
                row.rss_mib,
                row.lost_worst
            ));
        }
        if let Some((etl, peers)) = self.medians.split_first()
            && !self.paced
        {
            for peer in peers.iter().filter(|peer| !peer.loader.starts_with("etl")) {
                Self::print_line(&format!(
                    "  etl is {:.1} times as fast as {} with 1/{:.1} of its CPU per record",
                    etl.records_per_second / peer.records_per_second,
                    peer.loader,
                    peer.cpu_seconds_per_million / etl.cpu_seconds_per_million
                ));
            }
        }
        Self::print_line(&format!("  {:<46} {:>9} {:>9}", "etl", "measured", "limit"));
        for verdict in &self.verdicts {
            let word = if verdict.met { "met" } else { "MISSED" };
            Self::print_line(&format!(
                "  {:<46} {:>9.2} {:>9.2}  {word}",
                verdict.what, verdict.measured, verdict.limit
            ));
        }
    }

    /// Writes `SCENARIO.json` and its picture `SCENARIO.svg` into `directory`.
    pub(crate) fn write(&self, directory: &Path) -> io::Result<PathBuf> {
        fs::create_dir_all(directory)?;
        let picture = plot::bars(self.scenario, &self.task, &self.medians);
        fs::write(directory.join(format!("{}.svg", self.scenario)), picture)?;
        let file = directory.join(format!("{}.json", self.scenario));
        fs::write(&file, serde_json::to_string_pretty(self)? + "\n")?;
        Ok(file)
    }

    /// A line of results, on stdout.
    pub(crate) fn print_line(text: &str) {
        // With stdout gone, the exit code and the JSON file still tell.
        writeln!(io::stdout(), "{text}").ok();
    }
}

/// Progress and errors, on stderr.
pub(crate) fn say(text: &str) {
    writeln!(io::stderr(), "{text}").ok();
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
fn median_of(loader: &'static str, runs: &[Run]) -> Median {
    let runs: Vec<&Run> = runs.iter().filter(|run| run.loader == loader).collect();
    let of = |figure: fn(&Run) -> f64| median(runs.iter().map(|run| figure(run)).collect());
    let rss = of(|run| run.rss_bytes_max as f64);
    Median {
        loader,
        wall_seconds: of(|run| run.wall_seconds),
        records_per_second: of(|run| run.expected as f64 / run.wall_seconds),
        cpu_seconds_per_million: of(|run| run.cpu_seconds / run.expected as f64 * 1e6),
        rss_mib: rss / 1_048_576.0,
        lost_worst: runs.iter().map(|run| run.lost).max_by_key(|lost| lost.abs()).unwrap_or(0),
    }
}

/// The middle value, or the mean of the two in the middle; NaN of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

impl Machine {
    fn this() -> Machine {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let processor = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map(|(_, name)| name.trim().to_owned())
            .unwrap_or_default();
        Machine {
            processor,
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Medians, Report, Run, Verdict, median};
    use crate::sink::Counts;

    fn run(loader: &'static str, wall_seconds: f64, lost: i64) -> Run {
        let sink = Counts::default();
        let (cpu_seconds, rss_bytes_max, expected) = (1.0, 1 << 20, 1_000);
        Run { loader, wall_seconds, cpu_seconds, rss_bytes_max, expected, lost, sink }
    }

    fn judge(medians: &Medians<'_>) -> Vec<Verdict> {
        vec![Verdict::at_most("wall", medians.of("etl").wall_seconds, 2.5)]
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(vec![9.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![1.0, 2.0]) - 1.5).abs() < 1e-9);
        assert!(median(vec![]).is_nan());
    }

    #[test]
    fn one_run_that_loses_fails_however_good_the_others() {
        let runs = vec![run("etl", 1.0, 0), run("etl", 2.0, 3), run("etl", 3.0, 0)];
        let report = Report::new("bulk", String::new(), runs, judge);
        let met: Vec<bool> = report.verdicts().iter().map(|verdict| verdict.met).collect();
        assert_eq!(met, [true, false]);
        assert!((report.medians[0].records_per_second - 500.0).abs() < 1e-9);
    }

    #[test]
    fn doubled_records_count_as_much_as_lost_ones() {
        let runs = vec![run("etl", 1.0, -1), run("faucet", 1.0, 99)];
        let report = Report::new("bulk", String::new(), runs, judge);
        assert!(!report.verdicts()[1].met);
        assert_eq!(report.medians[1].lost_worst, 99);
    }

    #[test]
    fn what_could_not_be_measured_meets_no_limit() {
        assert!(!Verdict::at_most("x", f64::NAN, 1.0).met);
    }
}
