//! Every limit of the bench, in one place, each with where it comes from.

/// What a bulk load is held to beside the peer, in the same run: its records a second and
/// its CPU for each of them.
pub(crate) const BULK_TIMES_FAUCET: f64 = 12.0;
pub(crate) const BULK_CPU_OF_FAUCET: f64 = 1.0 / 8.0;
/// The same on two idle cores, for runs without the peer; CPU seconds, user and system, of
/// a million CSV rows in batches of 200.
pub(crate) const BULK_CPU_SECONDS_PER_MILLION: f64 = 0.33;
pub(crate) const BULK_RSS_MIB: f64 = 14.0;
/// With bodies compressed by gzip -1, in CPU seconds on two idle cores.
pub(crate) const GZIP_CPU_SECONDS_PER_MILLION: f64 = 0.65;
/// With an API that takes 20 ms, the concurrency found by itself.
pub(crate) const SLOW_RECORDS_PER_SECOND: f64 = 1_500_000.0;
pub(crate) const SLOW_RSS_MIB: f64 = 60.0;

/// For machines that do other things as well: these catch a step backwards, not a percent.
pub(crate) const TOLERANT_CPU_SECONDS_PER_MILLION: f64 = 1.2;
pub(crate) const TOLERANT_RSS_MIB: f64 = 40.0;

/// Records that the spool takes a second while the API is down, durable.
pub(crate) const OUTAGE_RECORDS_PER_SECOND: f64 = 1_000_000.0;
/// The same beside syslog-ng's reliable disk buffer, in the same run.
pub(crate) const OUTAGE_TIMES_SYSLOG_NG: f64 = 5.0;
/// What is left of that right after a replay has deleted 20,000 files.
pub(crate) const OUTAGE_AFTER_REPLAY: f64 = 0.7;
/// Records that a replay sends a second, and what a million of them may cost.
pub(crate) const REPLAY_RECORDS_PER_SECOND: f64 = 2_500_000.0;
pub(crate) const REPLAY_CPU_SECONDS_PER_MILLION: f64 = 0.55;

/// What new records keep of their speed while a replay goes on.
pub(crate) const LIVE_BESIDE_REPLAY: f64 = 0.6;

/// How much more memory, and CPU for each row, a long file may take than a short one.
pub(crate) const FLAT_RSS: f64 = 1.05;
pub(crate) const FLAT_CPU: f64 = 1.10;

/// From the start of the process to its end, milliseconds: a run of one record, a check.
pub(crate) const START_RUN_MS: f64 = 25.0;
pub(crate) const START_CHECK_MS: f64 = 10.0;
/// The release binary without symbols, MB.
pub(crate) const START_BINARY_MB: f64 = 15.0;

/// How much longer than the ideal a run of appliances may take: start, the last
/// batch's linger and the last request are in it.
pub(crate) const APPLIANCES_OVER_IDEAL: f64 = 1.05;

/// How much longer than `psql \copy` of the same rows a load into PostgreSQL may take:
/// 0.8 of its speed is what is promised.
pub(crate) const POSTGRES_WALL_OVER_COPY: f64 = 1.25;

/// How much longer than four pipes of `psql` the same rows of four shards may take: half
/// of their speed is what is promised.
pub(crate) const SHARDS_WALL_OVER_PIPE: f64 = 2.0;

/// Peak resident memory while four shards are read.
pub(crate) const SHARDS_RSS_MIB: f64 = 96.0;

/// What a poll of a fleet may cost, in millionths of a CPU second, beside an API that takes
/// what comes; what the process may hold, and how late a poll may be.
pub(crate) const FLEET_CPU_MICROSECONDS: f64 = 75.0;
pub(crate) const FLEET_RSS_MIB: f64 = 40.0;
pub(crate) const FLEET_LAG_P99_MS: f64 = 5.0;
/// What a scrape may cost, of what it costs Prometheus in the same run.
pub(crate) const FLEET_CPU_OF_PROMETHEUS: f64 = 1.0 / 3.0;
