//! A message as people and programs read it: a line, a text, a JSON object.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::problems::Kind;
use crate::http::printable;
use crate::telemetry::figures::{count, span};

/// Problems of which a message says more than their number.
const ITEMS_MAX: usize = 50;
/// Pipelines that a subject names.
const NAMES_MAX: usize = 3;
/// The most that is told of one problem.
const TEXT_BYTES_MAX: usize = 500;

/// One problem in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The pipeline.
    pub pipeline: String,
    /// What kind of trouble it is.
    pub kind: Kind,
    /// The sink that has it.
    pub sink: Option<String>,
    /// What happened.
    pub text: String,
    /// What to do.
    pub remedy: String,
    /// Since when it is there, Unix seconds.
    pub since: u64,
    /// Since when it is over.
    pub over: Option<u64>,
}

/// What is told at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Unix seconds.
    pub now: u64,
    /// Problems that were never told.
    pub new: Vec<Item>,
    /// Problems that were told and are still there.
    pub still: Vec<Item>,
    /// Problems that are over.
    pub resolved: Vec<Item>,
}

impl Message {
    /// One that says that messages arrive.
    #[must_use]
    pub fn test(pipeline: &str, now: u64) -> Message {
        let item = Item {
            pipeline: pipeline.to_owned(),
            kind: Kind::Run,
            sink: None,
            text: "this is a test of alerts; all is well".to_owned(),
            remedy: "nothing to do".to_owned(),
            since: now,
            over: Some(now),
        };
        Message { now, resolved: vec![item], ..Message::default() }
    }

    /// `etl here: 2 new, 1 resolved (posts, users)`.
    #[must_use]
    pub fn subject(&self) -> String {
        let parts =
            [(&self.new, "new"), (&self.still, "still there"), (&self.resolved, "resolved")];
        let counts: Vec<String> = parts
            .iter()
            .filter(|(items, _)| !items.is_empty())
            .map(|(items, word)| format!("{} {word}", items.len()))
            .collect();
        let mut names: Vec<&str> = Vec::new();
        for (_, item) in self.items() {
            if !names.contains(&item.pipeline.as_str()) {
                names.push(&item.pipeline);
            }
        }
        let more = if names.len() > NAMES_MAX { ", …" } else { "" };
        names.truncate(NAMES_MAX);
        format!("etl {}: {} ({}{more})", host(), counts.join(", "), names.join(", "))
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("etl on {}, {}\n", host(), time(self.now));
        for (word, item) in self.items().take(ITEMS_MAX) {
            let what = printable(item.text.as_bytes(), TEXT_BYTES_MAX);
            text.push_str(&format!("\n{:<9} {}: {what}\n", word.to_uppercase(), item.place()));
            let more = match item.over {
                Some(over) => format!("was there for {}", passed(item.since, over)),
                None => format!(
                    "since {}, {}; {}",
                    time(item.since),
                    passed(item.since, self.now),
                    item.remedy
                ),
            };
            text.push_str(&format!("{:9} {more}\n", ""));
        }
        let left_out = self.items().count().saturating_sub(ITEMS_MAX);
        if left_out > 0 {
            text.push_str(&format!("\nand {} more; etl runs\n", count(left_out as u64)));
        }
        text
    }

    /// For programs; `text` alone is what Slack and its likes show.
    #[must_use]
    pub fn json(&self) -> Value {
        let firing = !self.new.is_empty() || !self.still.is_empty();
        let alerts: Vec<Value> = self
            .items()
            .take(ITEMS_MAX)
            .map(|(word, item)| {
                json!({
                    "status": word,
                    "pipeline": item.pipeline,
                    "alert": item.kind,
                    "sink": item.sink,
                    "text": printable(item.text.as_bytes(), TEXT_BYTES_MAX),
                    "remedy": item.remedy,
                    "since": time(item.since),
                    "resolved_at": item.over.map(time),
                })
            })
            .collect();
        json!({
            "text": self.text(),
            "status": if firing { "problem" } else { "resolved" },
            "host": host(),
            "version": env!("CARGO_PKG_VERSION"),
            "time": time(self.now),
            "problems": self.new.len() + self.still.len(),
            "resolved": self.resolved.len(),
            "alerts": alerts,
        })
    }

    /// The pipelines that it speaks of.
    pub(super) fn pipelines(&self) -> impl Iterator<Item = &str> {
        self.items().map(|(_, item)| item.pipeline.as_str())
    }

    fn items(&self) -> impl Iterator<Item = (&'static str, &Item)> {
        let new = self.new.iter().map(|item| ("new", item));
        let still = self.still.iter().map(|item| ("still", item));
        new.chain(still).chain(self.resolved.iter().map(|item| ("resolved", item)))
    }
}

impl Item {
    fn place(&self) -> String {
        match &self.sink {
            Some(sink) => format!("{}/{sink}", self.pipeline),
            None => self.pipeline.clone(),
        }
    }
}

/// This machine's name.
fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    printable(name.as_bytes(), 100)
}

fn time(unix_seconds: u64) -> String {
    let time =
        i64::try_from(unix_seconds).ok().and_then(|at| DateTime::<Utc>::from_timestamp(at, 0));
    time.map_or_else(String::new, |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn passed(from: u64, until: u64) -> String {
    span(std::time::Duration::from_secs(until.saturating_sub(from)))
}

#[cfg(test)]
mod tests {
    use super::{Item, Message};
    use crate::alerts::problems::Kind;

    fn item(pipeline: &str, over: Option<u64>) -> Item {
        Item {
            pipeline: pipeline.to_owned(),
            kind: Kind::SpoolAge,
            sink: Some("http".to_owned()),
            text: "2 batches\u{1b}[2J wait".to_owned(),
            remedy: "etl spool ls".to_owned(),
            since: 1_795_279_200,
            over,
        }
    }

    #[test]
    fn a_message_says_what_is_new_what_is_still_there_and_what_is_over() {
        let over = Some(1_795_279_260);
        let message = Message {
            now: 1_795_279_320,
            new: vec![item("posts", None), item("users", None)],
            still: vec![item("posts", None)],
            resolved: vec![item("coins", over)],
        };
        let subject = message.subject();
        assert!(subject.ends_with(": 2 new, 1 still there, 1 resolved (posts, users, coins)"));
        let text = message.text();
        for line in [
            "NEW       posts/http: 2 batches\\x1b[2J wait",
            "          since 2026-11-21T16:40:00Z, 2m00s; etl spool ls",
            "STILL     posts/http: ",
            "RESOLVED  coins/http: ",
            "          was there for 1m00s",
        ] {
            assert!(text.lines().any(|it| it.starts_with(line)), "{line}\n{text}");
        }
        let json = message.json();
        assert_eq!((&json["status"], &json["problems"]), (&"problem".into(), &3.into()));
        assert_eq!(json["text"], text);
        assert_eq!(json["alerts"][3]["resolved_at"], "2026-11-21T16:41:00Z");
        assert_eq!(json["alerts"][0]["alert"], "spool_age");
        let over = Message { resolved: message.resolved, ..Message::default() };
        assert_eq!(over.json()["status"], "resolved");
    }

    #[test]
    fn a_thousand_problems_are_a_message_that_can_be_read() {
        let new = (0..1000).map(|n| item(&format!("p{n}"), None)).collect();
        let message = Message { new, ..Message::default() };
        assert!(message.subject().ends_with("1000 new (p0, p1, p2, …)"), "{}", message.subject());
        assert!(message.text().ends_with("and 950 more; etl runs\n"), "{}", message.text());
        assert!(message.text().len() < 10_000);
        assert_eq!(message.json()["problems"], 1000);
        assert_eq!(message.json()["alerts"].as_array().map(Vec::len), Some(50));
    }
}
