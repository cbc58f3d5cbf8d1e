//! `etl demo`: the whole journey in one process, with nothing to install. A mock
//! API fails some requests and is away for a while; 4,000 mock appliances are
//! polled; what could not be delivered is spilled and replayed; and at the end
//! the API's own ledger is asked what really arrived.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use mock_load_api_server::{Config, DelayRange, Faults, Server, StartError, Stats, start};

use super::args::DemoArgs;
use super::run::{How, Session, say};
use crate::config::{self, Environment, Loaded};
use crate::exit::Exit;
use crate::history;
use crate::telemetry::figures::count;

/// The earlier system's inventory: `ip,name`, without a header.
const INVENTORY: &[u8] = include_bytes!("../../../fixtures/appliances.csv");
const PIPELINE: &str = include_str!("../../../fixtures/demo.yaml");

/// Runs the demo.
#[must_use]
pub fn run(args: &DemoArgs) -> Exit {
    let session = match Session::start(&args.log) {
        Ok(session) => session,
        Err(exit) => return exit,
    };
    session.runtime.block_on(async {
        let started = match Mocks::start().await {
            Ok(mocks) => mocks,
            Err(error) => {
                say(&format!("error: the mock API could not be started: {error}"));
                return Exit::Internal;
            }
        };
        let exit = demonstrate(args, &session, &started).await;
        started.api.shutdown().await;
        started.appliances.shutdown().await;
        exit
    })
}

async fn demonstrate(args: &DemoArgs, session: &Session, mocks: &Mocks) -> Exit {
    let loaded = match demo_pipeline(&args.data_dir, mocks) {
        Ok(loaded) => loaded,
        Err(message) => {
            say(&format!("error: {message}"));
            return Exit::Internal;
        }
    };
    say(&format!(
        "4,000 mock appliances on {} take 0.5 to 2 s each; 1,000 are asked at once\n\
         the mock API on {} fails 1 request in 10, loses replies, and soon is away for 2 s\n",
        mocks.appliances.url(),
        mocks.api.url()
    ));
    let how = How { profiled: true, fresh: false, keep_runs: history::KEEP };
    let run = session.execute(&loaded, &args.data_dir, how);
    tokio::pin!(run);
    let ended = tokio::select! {
        ended = &mut run => ended,
        () = mocks.api_goes_away() => run.await,
    };
    match ended {
        Ok(result) => {
            session.show(&result, args.json);
            say(&ledger(&mocks.api.stats(), result.books.extracted));
            result.exit()
        }
        Err(exit) => exit,
    }
}

/// The API, and the appliances, which are there when the API is not.
struct Mocks {
    api: Server,
    appliances: Server,
}

impl Mocks {
    /// Faults that show everything and still let the demo end within seconds.
    async fn start() -> Result<Mocks, StartError> {
        let slow = DelayRange { min: Duration::from_millis(500), max: Duration::from_secs(2) };
        let appliances = Faults { appliance_delay: slow, ..Faults::default() };
        let api = Faults {
            delay: Duration::from_millis(120),
            fail: BTreeMap::from([(503, 0.08)]),
            reset: 0.02,
            lose_reply: 0.05,
            ..Faults::default()
        };
        Ok(Mocks {
            appliances: start(Config { faults: appliances, ..Config::default() }).await?,
            api: start(Config { faults: api, ..Config::default() }).await?,
        })
    }

    /// Takes the API down for two seconds, once it has some of the records: by
    /// count and not by the clock, so that slow machines see an outage too.
    async fn api_goes_away(&self) {
        while self.api.stats().records < 600 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let faults = self.api.faults();
        for down in [true, false] {
            if let Err(error) = self.api.set_faults(Faults { down, ..faults.clone() }) {
                tracing::warn!(%error, "the mock API stays as it is");
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }
}

/// The demo's pipeline, with its inventory beside its data.
fn demo_pipeline(data_dir: &Path, mocks: &Mocks) -> Result<Loaded, String> {
    let home = data_dir.join("demo");
    let inventory = home.join("appliances.csv");
    std::fs::create_dir_all(&home)
        .and_then(|()| std::fs::write(&inventory, INVENTORY))
        .map_err(|error| format!("{}: {error}", inventory.display()))?;
    let environment = Environment::from_pairs([
        ("DEMO_API", mocks.api.url()),
        ("DEMO_APPLIANCES", mocks.appliances.url()),
    ]);
    let overrides = [format!("source.csv.path={}", inventory.display())];
    config::from_str("demo.yaml", PIPELINE, &overrides, &environment)
        .map_err(|report| report.render(false))
}

/// What the API itself says arrived.
fn ledger(stats: &Stats, extracted: u64) -> String {
    let verdict = if stats.records == extracted && stats.conflicting_keys == 0 {
        "every record arrived exactly once"
    } else {
        "this includes what an earlier demo had left"
    };
    format!(
        "the API's own ledger: {} records in {} batches, {} sent twice and recognised by their \
         key; {verdict}",
        count(stats.records),
        count(stats.batches),
        count(stats.duplicate_batches),
    )
}
