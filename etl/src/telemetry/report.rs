//! The books at the end of a run, as people read them: one headline, every
//! column a record can be in, and what to do about it. Pure: the result in,
//! text out. All rows always show, so that two reports can be laid side by side.

use super::figures::{count, counted, one_line, rate, short_id, signed_count, span};
use super::{RunResult, SinkInput, SinkSnapshot, Stop, Terminal, Tone};

const LABEL_WIDTH: usize = 13;
const NUMBER_WIDTH_MIN: usize = 11;

/// One line of the books: a column, its number, and what to know about it.
struct Row {
    label: &'static str,
    number: String,
    hint: String,
    tone: Tone,
}

/// The report that a run prints on stdout; ends with a newline.
#[must_use]
pub fn report(result: &RunResult, terminal: &Terminal) -> String {
    let groups = groups(result);
    let numbers = groups.iter().flat_map(|(_, rows)| rows).map(|row| row.number.chars().count());
    let number_width = numbers.max().map_or(0, |longest| longest + 2).max(NUMBER_WIDTH_MIN);

    let mut text = headline(result, terminal);
    for (title, rows) in &groups {
        if let Some(title) = title {
            text.push_str(&format!("{}\n", terminal.paint(Tone::Strong, title)));
        }
        for row in rows {
            let line = format!(
                "  {:<LABEL_WIDTH$}{:>number_width$}   {}",
                row.label, row.number, row.hint
            );
            text.push_str(&format!("{}\n", terminal.paint(row.tone, line.trim_end())));
        }
    }
    for (label, what) in remarks(result) {
        let line = format!("  {label:<LABEL_WIDTH$}  {what}");
        text.push_str(&format!("{}\n", terminal.paint(Tone::Dim, &line)));
    }
    text
}

/// The words by which the outcome is known: `COMPLETE`, `FINISHED, 12 REJECTED`.
#[must_use]
pub fn outcome(result: &RunResult) -> String {
    let books = &result.books;
    let unread = result.spool_remaining.iter().map(|remaining| remaining.batches).sum::<u64>();
    if !books.balanced() {
        return "BUG: the books do not balance".to_owned();
    }
    match result.stopped {
        Some(Stop::Interrupted | Stop::Terminated) => return "STOPPED, everything safe".to_owned(),
        Some(Stop::TooManyRejected) => return "STOPPED, TOO MANY REJECTED".to_owned(),
        None => {}
    }
    if result.source_error.is_some() {
        "INCOMPLETE, the source failed".to_owned()
    } else if books.targets_failed > 0 {
        let (failed, total) = (count(books.targets_failed), count(books.targets_total));
        format!("INCOMPLETE, {failed} of {total} {} failed", books.targets_are())
    } else if result.targets_left() > 0 {
        let (left, total) = (count(result.targets_left()), count(books.targets_total));
        format!("INCOMPLETE, {left} of {total} {} not asked", books.targets_are())
    } else if result.still_spooled() > 0 {
        format!("FINISHED, {} STILL SPOOLED", count(result.still_spooled()))
    } else if unread > 0 {
        format!("FINISHED, {} STILL SPOOLED", counted(unread, "file").to_uppercase())
    } else if result.dead_lettered() > 0 {
        format!("FINISHED, {} DEAD-LETTERED", count(result.dead_lettered()))
    } else if books.rejected > 0 {
        format!("FINISHED, {} REJECTED", count(books.rejected))
    } else {
        "COMPLETE".to_owned()
    }
}

fn headline(result: &RunResult, terminal: &Terminal) -> String {
    let outcome = outcome(result);
    let tone = match outcome.split([',', ':']).next() {
        Some("COMPLETE") => Tone::Good,
        Some("BUG" | "INCOMPLETE") => Tone::Bad,
        _ => Tone::Warn,
    };
    format!(
        "{}   run {}   {}   {}\n",
        terminal.paint(tone, &outcome),
        short_id(&result.run_id),
        span(result.took()),
        rate(result.books.extracted as f64 / result.seconds),
    )
}

/// Rows under their sink's name; with a single sink, all in one group without a name.
fn groups(result: &RunResult) -> Vec<(Option<String>, Vec<Row>)> {
    let mut before = Vec::new();
    if result.books.targets_total > 0 {
        before.push(targets(result));
    }
    before.push(row("extracted", result.books.extracted, ""));
    if let [sink] = result.books.sinks.as_slice() {
        before.extend(kept_and_sent(result, sink));
        before.extend(left_out(result));
        before.extend(balance(result, sink));
        return vec![(None, before)];
    }
    before.extend(left_out(result));
    let mut groups = vec![(None, before)];
    for sink in &result.books.sinks {
        let mut rows = Vec::new();
        if sink.input == SinkInput::Raw {
            rows.push(row("handed over", sink.accepted, "as extracted, before any transform"));
        }
        rows.extend(kept_and_sent(result, sink));
        rows.extend(balance(result, sink));
        groups.push((Some(sink.name.clone()), rows));
    }
    groups
}

fn targets(result: &RunResult) -> Row {
    let books = &result.books;
    let mut hint = format!("failed {}", count(books.targets_failed));
    if books.targets_done < books.targets_total {
        hint = format!("done {}   {hint}", count(books.targets_done));
    }
    if let Some(first) = &books.first_failure {
        hint = format!("{hint}   first: {}", one_line(first));
    }
    let tone = if books.targets_failed > 0 { Tone::Warn } else { Tone::Plain };
    Row { label: books.targets_are(), number: count(books.targets_total), hint, tone }
}

fn kept_and_sent(result: &RunResult, sink: &SinkSnapshot) -> Vec<Row> {
    let mut rows = vec![
        row("delivered", sink.delivered, ""),
        row("spooled", sink.spooled, "goes out on the next run, or now: etl spool replay"),
    ];
    let waiting = result.spool_remaining.iter().find(|remaining| remaining.sink == sink.name);
    if let Some(waiting) = waiting.filter(|waiting| waiting.records > sink.spooled) {
        let hint = format!("with {} of earlier runs", count(waiting.records - sink.spooled));
        rows.push(row("in the spool", waiting.records, &hint));
    } else if let Some(waiting) =
        waiting.filter(|waiting| waiting.records == 0 && waiting.batches > 0)
    {
        let hint = format!(
            "{} of earlier runs; the next run sends them",
            counted(waiting.batches, "file")
        );
        rows.push(Row { label: "in the spool", number: "?".to_owned(), hint, tone: Tone::Warn });
    }
    rows.push(row("dead-lettered", sink.dead_lettered, "needs you: etl spool ls --dead"));
    if sink.already > 0 {
        rows.push(row("had already", sink.already, "read again, and not sent again"));
    }
    if sink.elsewhere > 0 {
        rows.push(row("elsewhere", sink.elsewhere, "of tables that go to other sinks"));
    }
    rows
}

fn left_out(result: &RunResult) -> [Row; 2] {
    let first = result.books.first_rejection.as_deref().map_or_else(String::new, one_line);
    let hint = if first.is_empty() { first } else { format!("first: {first}") };
    [row("rejected", result.books.rejected, &hint), row("filtered", result.books.filtered, "")]
}

fn balance(result: &RunResult, sink: &SinkSnapshot) -> Vec<Row> {
    let unaccounted = result.books.unaccounted(sink);
    let (hint, tone) = match unaccounted {
        0 => ("the books balance", Tone::Plain),
        _ => ("a bug in etl; please report it with the log", Tone::Bad),
    };
    let mut rows = vec![Row {
        label: "unaccounted",
        number: signed_count(unaccounted),
        hint: hint.to_owned(),
        tone,
    }];
    if sink.replayed > 0 {
        rows.push(row(
            "replayed",
            sink.replayed,
            "delivered from the spool, of this run and earlier ones",
        ));
    }
    if sink.replay_dead_lettered > 0 {
        let hint = "of earlier runs dead-lettered; needs you: etl spool ls --dead";
        rows.push(row("replayed", sink.replay_dead_lettered, hint));
    }
    rows
}

/// What has no number: why it ended early, and where to look.
fn remarks(result: &RunResult) -> Vec<(&'static str, String)> {
    let mut remarks = Vec::new();
    if let Some(input) = &result.input {
        remarks.push(("input", one_line(input)));
    }
    if let Some(error) = &result.source_error {
        remarks.push(("source", one_line(error)));
    }
    if result.stopped == Some(Stop::TooManyRejected) {
        let why = "more records were refused than `max_rejected` allows; what was read is safe";
        remarks.push(("stopped", why.to_owned()));
    }
    let files = &result.files;
    let profile = files.profile.as_ref();
    let paths = [
        ("spool", files.spool.as_ref()),
        ("log", files.log.as_ref()),
        ("flamegraph", profile.map(|profile| &profile.flamegraph)),
        ("cpu profile", profile.map(|profile| &profile.cpu)),
        ("heap profile", profile.and_then(|profile| profile.heap.as_ref())),
    ];
    for (label, path) in paths {
        if let Some(path) = path {
            remarks.push((label, path.display().to_string()));
        }
    }
    if let Some(note) = profile.and_then(|profile| profile.note.clone()) {
        remarks.push(("note", note));
    }
    remarks
}

/// A row whose hint is only worth reading when its number is not 0.
fn row(label: &'static str, number: u64, hint: &str) -> Row {
    let (hint, tone) = match (number, label) {
        (0, "extracted" | "delivered") => ("", Tone::Plain),
        (0, _) => ("", Tone::Dim),
        (_, "dead-lettered") => (hint, Tone::Bad),
        (_, "spooled" | "in the spool" | "rejected") => (hint, Tone::Warn),
        _ => (hint, Tone::Plain),
    };
    Row { label, number: count(number), hint: hint.to_owned(), tone }
}

#[cfg(test)]
mod tests;
