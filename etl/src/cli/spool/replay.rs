//! `etl spool replay`: what waits goes out now, without its source being read.
//! Finds the pipeline's file, refuses a sink that has moved, and hands the rest
//! to the same machinery as a run.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::args::ReplayArgs;
use super::super::run::{Session, Work, refuse_start, say};
use super::finish;
use super::preview::{self, Preview};
use crate::alerts;
use crate::config::{self, Loaded};
use crate::exit::Exit;
use crate::history;
use crate::load::plan::ReplayPlan;
use crate::load::target;
use crate::load::targets::Targets;
use crate::load::unix_seconds;
use crate::pipeline::{Replay, ReplayOrders};
use crate::spool::inspect::{Kind, sinks};
use crate::stop::stop_signal;
use crate::telemetry::Terminal;

/// Sends what `args` mean, or shows it.
#[must_use]
pub fn replay(args: &ReplayArgs) -> Exit {
    let loaded = match find(args) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let orders = orders(args);
    if let Some(exit) = unknown_sink(&loaded, &orders) {
        return exit;
    }
    if args.dry_run || (args.dead && !args.yes) {
        return finish(show(args, &loaded, &orders), &mut io::stderr());
    }
    if let Some(exit) = moved(args, &loaded, &orders) {
        return exit;
    }
    match Session::start(&args.log) {
        Ok(session) => session
            .runtime
            .block_on(send(&session, args, &loaded, &orders))
            .unwrap_or_else(|exit| exit),
        Err(exit) => exit,
    }
}

fn orders(args: &ReplayArgs) -> ReplayOrders {
    ReplayOrders {
        sink: args.sink.clone(),
        rate: args.rate,
        dead: args.dead,
        plan: ReplayPlan {
            newest_first: args.newest_first,
            older_than: args.older_than.map(|span| span.0),
            key_prefix: args.key.clone().unwrap_or_default(),
            batches_max: args.limit,
            now: unix_seconds(),
            dead: None,
        },
    }
}

/// The pipeline: its file, the file that its last run noted, or the only pipeline
/// that has something to send.
fn find(args: &ReplayArgs) -> Result<Loaded, Exit> {
    let given = match &args.pipeline {
        Some(given) => given.clone(),
        None => PathBuf::from(only_waiting(args)?),
    };
    let is_yaml = given.extension().is_some_and(|it| it == "yaml" || it == "yml");
    let load = |file: &Path| {
        config::load(file, &args.set, None).map_err(|report| {
            say(&report.render(Terminal::stderr().color));
            Exit::Config
        })
    };
    if is_yaml || given.is_file() {
        return load(&given);
    }
    let name = given.to_string_lossy();
    let known = args.data_dir.join(&*name).is_dir();
    let Some(file) = Targets::read(&args.data_dir, &name).file else {
        let data = args.data_dir.display();
        let why = if known { "did not note its file in" } else { "has not run in" };
        return Err(usage(&format!("`{name}` {why} {data}; give the pipeline's file")));
    };
    let loaded = load(&file)?;
    if loaded.pipeline.name != name {
        let (file, now) = (file.display(), &loaded.pipeline.name);
        return Err(usage(&format!("{file} now configures `{now}`; give the file of `{name}`")));
    }
    Ok(loaded)
}

/// The name of the only pipeline that has something to send.
fn only_waiting(args: &ReplayArgs) -> Result<String, Exit> {
    let views = sinks(&args.data_dir).unwrap_or_default();
    let wanted = |kind: Kind| match kind {
        Kind::Pending | Kind::Spooled => !args.dead,
        Kind::Dead => args.dead,
        Kind::Corrupt => false,
    };
    let mut names: Vec<String> = views
        .iter()
        // What no sink ever saw cannot be sent to one.
        .filter(|view| view.sink != crate::pipeline::REJECTED)
        .filter(|view| view.files().is_ok_and(|files| files.iter().any(|it| wanted(it.kind))))
        .map(|view| view.pipeline.clone())
        .collect();
    names.dedup();
    match names.as_slice() {
        [name] => Ok(name.clone()),
        [] => {
            // A closed pipe leaves nobody to tell.
            drop(writeln!(io::stdout(), "nothing to send"));
            Err(Exit::Delivered)
        }
        names => Err(usage(&format!("which pipeline? waiting are: {}", names.join(", ")))),
    }
}

fn unknown_sink(loaded: &Loaded, orders: &ReplayOrders) -> Option<Exit> {
    if orders.loads(&loaded.pipeline).next().is_some() {
        return None;
    }
    let all = ReplayOrders::default();
    let names: Vec<&str> = all.loads(&loaded.pipeline).map(|(_, load)| load.sink_name()).collect();
    let (sink, names) = (orders.sink.as_deref().unwrap_or_default(), names.join(", "));
    Some(usage(&format!("no sink `{sink}` in {}; there are: {names}", loaded.path.display())))
}

/// Refuses sinks whose address is not the one that their spool was filled for.
fn moved(args: &ReplayArgs, loaded: &Loaded, orders: &ReplayOrders) -> Option<Exit> {
    let name = &loaded.pipeline.name;
    let known = Targets::read(&args.data_dir, name);
    let loads = || orders.loads(&loaded.pipeline).map(|(_, load)| load);
    let moved = known.moved(loads());
    if moved.is_empty() {
        return None;
    }
    if args.to_new_sink {
        // From now on it is the known address.
        if let Err(error) = known.with(loads(), &loaded.path).write(&args.data_dir, name) {
            say(&format!("warning: could not note the new address: {error}"));
        }
        return None;
    }
    for it in moved {
        say(&format!(
            "error: sink {}: what waits was meant for {}, and {} now says {}",
            it.sink,
            it.was,
            loaded.path.display(),
            it.is
        ));
    }
    say("nothing was sent; when the new address is right, add --to-new-sink");
    Some(Exit::Config)
}

fn show(args: &ReplayArgs, loaded: &Loaded, orders: &ReplayOrders) -> io::Result<Exit> {
    let mut previews = Vec::new();
    for (_, load) in orders.loads(&loaded.pipeline) {
        let files = orders.files(&args.data_dir, &loaded.pipeline.name, load.sink_name())?;
        previews.push(Preview::of(load.sink_name(), target(load), files));
    }
    let how = if args.dead {
        "the same command with --yes; the letters: etl spool cat --dead"
    } else {
        "the same command without --dry-run"
    };
    preview::print(&previews, how, unix_seconds(), args.json, &mut io::stdout().lock())?;
    Ok(Exit::Delivered)
}

async fn send(
    session: &Session,
    args: &ReplayArgs,
    loaded: &Loaded,
    orders: &ReplayOrders,
) -> Result<Exit, Exit> {
    let (stop_handle, stop) = stop_signal();
    let replay = Replay::prepare(&loaded.pipeline, &args.data_dir, orders, &stop, &stop_handle)
        .map_err(|error| refuse_start(&error))?;
    let dead = replay.dead().to_vec();
    let work = Work {
        run_id: replay.run_id.clone(),
        fleet: false,
        watch: Arc::new(replay.watch()),
        end: Box::pin(replay.finish()),
        keep_runs: history::KEEP,
    };
    let (result, _) =
        session.see_through(&loaded.pipeline, &args.data_dir, work, stop_handle, None).await?;
    let stopped = matches!(result.exit(), Exit::Interrupted | Exit::Terminated);
    alerts::after_run(&loaded.pipeline, &args.data_dir, None, stopped).await;
    session.show(&result, args.json);
    let left = dead.iter().filter(|file| file.path.exists()).count() as u64;
    if left > 0 {
        let files = super::text::counted(left, "dead-letter file");
        say(&format!("{files} could not be sent and stay; see the log"));
        return Ok(result.exit().worst(Exit::Spooled));
    }
    Ok(result.exit())
}

fn usage(message: &str) -> Exit {
    say(&format!("error: {message}"));
    Exit::Usage
}
