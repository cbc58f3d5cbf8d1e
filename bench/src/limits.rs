//! Every limit of the bench, in one place, each with where it comes from.
//! They are wide for now: they catch a step backwards, not a percent.

/// CPU seconds, user and system, that a million CSV rows may cost in batches of
/// 200. Below the best peer's 2.7 on an idle machine; etl took 0.67 where faucet
/// took 3.8, on two cores that were busy with other work.
pub(crate) const BULK_CPU_SECONDS_PER_MILLION: f64 = 2.0;

/// Peak resident memory of a bulk load, whatever the input's size.
pub(crate) const BULK_RSS_MIB: f64 = 64.0;

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
