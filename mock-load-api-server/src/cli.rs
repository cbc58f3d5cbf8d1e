//! The command line of the binary.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::config::Config;
use crate::faults::{DelayRange, Faults, Outage, Token};
use crate::units::{parse_duration, parse_rate, parse_size};

const EXAMPLES: &str = "\
Paths:
  POST /load                     a JSON array of objects; Idempotency-Key, gzip and zstd understood
  GET  /health  GET /stats       alive; what really arrived
  POST /faults                   any of these settings as JSON, while it runs; GET shows them
  GET  /appliances/{ip}/cpu      CPU statistics of a mock appliance, JSON
  GET  /appliances/{ip}/metrics  the same as node_exporter text
  GET  /posts /users /coins/markets                     sample sources with pagination

Examples:
  mock-load-api-server                                  every answer takes 2 s
  mock-load-api-server --delay 0s --fail 503=20% --retry-after 1s --lose-reply 5%
  mock-load-api-server --outage 5s..15s                 down from second 5 to second 15
  curl -d '{\"fail\": {\"503\": 1}}' localhost:8080/faults  every request fails from now on
  curl -d '{\"down\": true}' localhost:8080/faults        unreachable until {\"down\": false}

Rates are shares of the requests to /load, 0.2 or 20%. The same seed fails the same
requests: each fault is decided by seed, Idempotency-Key and attempt.
Bodies are never logged. RUST_LOG=debug logs every fault.
Exit codes: 0 stopped by a signal, 64 wrong usage, 69 cannot listen.";

/// A load API to test against: checks what it is sent, knows what really arrived, fails on demand.
#[derive(Debug, Parser)]
#[command(name = "mock-load-api-server", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    /// Address to listen on; port 0 takes a free one and prints it
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR:PORT")]
    listen: SocketAddr,

    /// How long each answer of /load takes; the batch is stored before that
    #[arg(long, default_value = "2s", value_parser = parse_duration, value_name = "DURATION")]
    delay: Duration,

    /// Log file, appended to
    #[arg(long, default_value = "mock_server.log", value_name = "FILE")]
    pub log: PathBuf,

    /// What faults and sample data are derived from
    #[arg(long, default_value_t = 42)]
    seed: u64,

    /// Bearer token that /load asks for
    #[arg(long, env = "MOCK_TOKEN", hide_env_values = true, value_parser = parse_token)]
    token: Option<Token>,

    /// Largest request body; decompressed it may have 8 times as much
    #[arg(long, default_value = "10MiB", value_parser = parse_size, value_name = "SIZE")]
    max_body: usize,

    /// Largest batch; more records are answered 413
    #[arg(long, value_name = "N")]
    max_records: Option<usize>,

    #[command(flatten)]
    faults: FaultArgs,

    #[command(flatten)]
    sources: SourceArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Faults")]
struct FaultArgs {
    /// Answer this share of requests with this status (300 to 599) and store nothing; repeatable
    #[arg(long, value_parser = parse_fail, value_name = "STATUS=RATE")]
    fail: Vec<(u16, f64)>,

    /// Send Retry-After with 429 and 503, in whole seconds
    #[arg(long, value_parser = parse_duration, value_name = "DURATION")]
    retry_after: Option<Duration>,

    /// Write Retry-After as a date
    #[arg(long, requires = "retry_after")]
    retry_after_date: bool,

    /// Reset this share of connections before anything is stored
    #[arg(long, default_value = "0", value_parser = parse_rate, value_name = "RATE")]
    reset: f64,

    /// Never answer this share of requests
    #[arg(long, default_value = "0", value_parser = parse_rate, value_name = "RATE")]
    hang: f64,

    /// Store this share of batches, and reset the connection instead of answering
    #[arg(long, default_value = "0", value_parser = parse_rate, value_name = "RATE")]
    lose_reply: f64,

    /// Store this share of batches, and end the answer early
    #[arg(long, default_value = "0", value_parser = parse_rate, value_name = "RATE")]
    truncate: f64,

    /// Answer this share of requests 200 {"errors": true} and store nothing
    #[arg(long, default_value = "0", value_parser = parse_rate, value_name = "RATE")]
    lie: f64,

    /// Be unreachable in this span of time since the start; repeatable
    #[arg(long, value_name = "FROM..UNTIL")]
    outage: Vec<Outage>,

    /// Refuse records that contain this text with 422
    #[arg(long, value_name = "TEXT")]
    poison: Option<String>,

    /// Accept the other records of such a batch, answer 207 and list the refused
    #[arg(long, requires = "poison")]
    partial: bool,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Sample sources")]
struct SourceArgs {
    /// How long an appliance takes to answer; in a range, each has its own delay
    #[arg(long, default_value = "50ms", value_name = "DURATION[..DURATION]")]
    appliance_delay: DelayRange,

    /// This share of appliances always answers 503
    #[arg(long, default_value = "0", value_parser = parse_rate, value_name = "RATE")]
    appliance_fail: f64,

    /// Requests a second to /posts, /users, /coins before they answer 429
    #[arg(long, value_name = "N")]
    source_rate: Option<u32>,

    /// Answer this share of requests to them with 503
    #[arg(long, default_value = "0", value_parser = parse_rate, value_name = "RATE")]
    source_fail: f64,

    /// How many posts /posts has
    #[arg(long, default_value_t = 100, value_name = "N")]
    posts: u32,
}

impl Cli {
    /// What the server is started with.
    pub fn into_config(self) -> Config {
        let Self { faults, sources, .. } = self;
        let faults = Faults {
            delay: self.delay,
            seed: self.seed,
            token: self.token,
            max_body: self.max_body,
            max_records: self.max_records,
            fail: faults.fail.into_iter().collect(),
            retry_after: faults.retry_after,
            retry_after_date: faults.retry_after_date,
            reset: faults.reset,
            hang: faults.hang,
            lose_reply: faults.lose_reply,
            truncate: faults.truncate,
            lie: faults.lie,
            outage: faults.outage,
            poison: faults.poison,
            partial: faults.partial,
            appliance_delay: sources.appliance_delay,
            appliance_fail: sources.appliance_fail,
            source_rate: sources.source_rate,
            source_fail: sources.source_fail,
            posts: sources.posts,
            ..Faults::default()
        };
        Config { listen: self.listen, keep_records: false, faults }
    }
}

fn parse_token(text: &str) -> Result<Token, String> {
    if text.is_empty() {
        return Err("an empty token lets everybody in; leave it out instead".to_owned());
    }
    Ok(Token::new(text))
}

fn parse_fail(text: &str) -> Result<(u16, f64), String> {
    let wrong = || format!("`{text}` is not STATUS=RATE: write 503=0.2");
    let (status, rate) = text.split_once('=').ok_or_else(wrong)?;
    let status: u16 = status.trim().parse().map_err(|_| wrong())?;
    if !(300..600).contains(&status) {
        return Err(format!("status {status} is not a failure: use 300 to 599"));
    }
    Ok((status, parse_rate(rate)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_of_the_design_is_understood() {
        Cli::command().debug_assert();
        let line = "mock --listen 127.0.0.1:0 --delay 0s --fail 503=0.2 --fail 429=5% \
                    --retry-after 1s --reset 0.1 --hang 1% --lose-reply 0.1 --outage 5s..15s \
                    --outage 1m..2m --token T --max-body 1MiB --seed 7 --log x.log \
                    --appliance-delay 100ms..900ms";
        let config = Cli::try_parse_from(line.split_whitespace()).unwrap().into_config();
        assert_eq!(config.faults.fail, [(429, 0.05), (503, 0.2)].into());
        assert_eq!(config.faults.outage.len(), 2);
        assert_eq!(config.faults.appliance_delay.max, Duration::from_millis(900));
        config.faults.validate().unwrap();
    }

    #[test]
    fn defaults_are_those_of_the_design() {
        let config = Cli::try_parse_from(["mock"]).unwrap().into_config();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.faults.delay, Duration::from_secs(2));
        assert_eq!(config.faults.max_body, 10 << 20);
        assert_eq!(config.faults.appliance_delay, DelayRange::fixed(Duration::from_millis(50)));
    }

    #[test]
    fn wrong_values_are_refused() {
        for wrong in ["--fail=503", "--fail=200=0.1", "--reset=2", "--outage=5s", "--delay=2"] {
            assert!(Cli::try_parse_from(["mock", wrong]).is_err(), "{wrong}");
        }
    }
}
