//! Another schedule in a pipeline's text. Only the schedule's own bytes change, so that
//! comments and layout stay; what comes out is parsed again and held against what went in.

use super::document::parse;
use super::origin::{Extent, Kind, Text};
use super::tree::{Key, Node, Value};

const SCHEDULE: &str = "schedule";

/// A text with another schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleEdit {
    /// The whole text.
    pub text: String,
    /// What stood there before, as it was written; none when there was no schedule.
    pub before: Option<String>,
}

/// Why the text was not edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotEdited {
    /// The line with the schedule, or with what stands in the way; from 1.
    pub line: usize,
    /// What stands in the way.
    pub why: &'static str,
}

/// Puts `wanted` (five cron fields, or a word such as `@daily`) in the place of the
/// schedule, or takes the schedule out. Settings beside the times, such as a time zone,
/// stay. The text must be YAML; whether it is a good pipeline is not looked at.
///
/// # Errors
/// When the text is written in a way that cannot be edited without touching more.
pub fn edit_schedule(text: &str, wanted: Option<&str>) -> Result<ScheduleEdit, NotEdited> {
    let (mark, text) = match text.strip_prefix('\u{feff}') {
        Some(rest) => ("\u{feff}", rest),
        None => ("", text),
    };
    let lines = Text::new(Kind::File, "", text);
    let line_at = |offset: usize| lines.position(offset).line;
    let not = |offset: usize, why| NotEdited { line: line_at(offset), why };
    let root = parse(text, 0).map_err(|_| not(0, "the file is not valid YAML"))?;
    let Value::Mapping(entries) = &root.value else {
        return Err(not(0, "the file is no mapping"));
    };
    let at_line_start =
        |key: &Key| key.extent.start == 0 || text[..key.extent.start].ends_with('\n');
    let first = entries.first().map(|(key, _)| key);
    if !first.is_some_and(at_line_start) {
        return Err(not(0, "its keys do not stand at the beginning of lines"));
    }
    let entry = entries.iter().find(|(key, _)| key.name == SCHEDULE);
    let edited = match (entry, wanted) {
        (None, None) => text.to_owned(),
        (None, Some(wanted)) => insert(text, entries, wanted).map_err(|why| not(0, why))?,
        (Some((key, node)), Some(wanted)) => {
            set(text, key, node, wanted).map_err(|why| not(key.extent.start, why))?
        }
        (Some((key, node)), None) => {
            let from = lines.line(line_at(key.extent.start)).1;
            let last = line_at(end_of(key, node).saturating_sub(1));
            let to = text.len().min(lines.line(last + 1).1);
            format!("{}{}", &text[..from], &text[to..])
        }
    };
    let after = parse(&edited, 0).map_err(|_| not(0, "what would come out is not valid YAML"))?;
    if !same_but_schedule(&root, &after) || has_schedule(&after) != wanted.is_some() {
        let at = entry.map_or(0, |(key, _)| key.extent.start);
        return Err(not(at, "more than the schedule would change"));
    }
    let before = entry.map(|(key, node)| written(text, key, node));
    Ok(ScheduleEdit { text: format!("{mark}{edited}"), before })
}

/// A line of its own after that of the name.
fn insert(text: &str, entries: &[(Key, Node)], wanted: &str) -> Result<String, &'static str> {
    let name = entries.iter().find(|(key, _)| key.name == "name");
    let (key, node) = name.ok_or("there is no name after which it could stand")?;
    let end = end_of(key, node);
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    Ok(match text[end..].find('\n') {
        Some(at) => {
            let at = end + at + 1;
            format!("{}{SCHEDULE}: \"{wanted}\"{newline}{}", &text[..at], &text[at..])
        }
        None => format!("{text}{newline}{SCHEDULE}: \"{wanted}\"{newline}"),
    })
}

/// Another text, or another `cron:` or `every:` among settings.
fn set(text: &str, key: &Key, node: &Node, wanted: &str) -> Result<String, &'static str> {
    let (from, to, put) = match &node.value {
        Value::Sequence(_) => return Err("the schedule is a list"),
        Value::Scalar(_) if node.extent.start == node.extent.end => {
            let colon = text[key.extent.end..].find(':').ok_or("a `:` is missing")?;
            let at = key.extent.end + colon + 1;
            (at, at, format!(" \"{wanted}\""))
        }
        Value::Scalar(_) => (node.extent.start, node.extent.end, format!("\"{wanted}\"")),
        Value::Mapping(settings) => {
            let time = settings.iter().find(|(key, _)| matches!(&*key.name, "cron" | "every"));
            let (key, node) = time.ok_or("the schedule has neither `cron` nor `every`")?;
            (key.extent.start, end_of(key, node), format!("cron: \"{wanted}\""))
        }
    };
    // An alias stands elsewhere than where it is used.
    if from < key.extent.end {
        return Err("the schedule is an alias");
    }
    Ok(format!("{}{put}{}", &text[..from], &text[to..]))
}

/// Where the last byte of an entry is, plus one; blank lines after it are not part of it.
fn end_of(key: &Key, node: &Node) -> usize {
    fn last(node: &Node) -> usize {
        match &node.value {
            Value::Scalar(_) => node.extent.end,
            Value::Sequence(items) => items.iter().map(last).max().unwrap_or(node.extent.end),
            Value::Mapping(entries) => entries
                .iter()
                .map(|(key, node)| last(node).max(key.extent.end))
                .max()
                .unwrap_or(node.extent.end),
        }
    }
    last(node).max(key.extent.end)
}

/// The value as it is written, on one line.
fn written(text: &str, key: &Key, node: &Node) -> String {
    let Extent { start, .. } = node.extent;
    let value = text.get(start..end_of(key, node)).unwrap_or_default();
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn has_schedule(root: &Node) -> bool {
    root.get(SCHEDULE).is_some()
}

fn same_but_schedule(one: &Node, two: &Node) -> bool {
    let (Value::Mapping(one), Value::Mapping(two)) = (&one.value, &two.value) else {
        return false;
    };
    let others = |entry: &&(Key, Node)| entry.0.name != SCHEDULE;
    let (mut one, mut two) = (one.iter().filter(others), two.iter().filter(others));
    loop {
        match (one.next(), two.next()) {
            (None, None) => return true,
            (Some(one), Some(two)) if one.0.name == two.0.name && same(&one.1, &two.1) => {}
            _ => return false,
        }
    }
}

fn same(one: &Node, two: &Node) -> bool {
    match (&one.value, &two.value) {
        (Value::Scalar(one), Value::Scalar(two)) => one.text == two.text && one.plain == two.plain,
        (Value::Sequence(one), Value::Sequence(two)) => {
            one.len() == two.len() && one.iter().zip(two).all(|(one, two)| same(one, two))
        }
        (Value::Mapping(one), Value::Mapping(two)) => {
            let pairs = one.iter().zip(two);
            one.len() == two.len()
                && pairs
                    .into_iter()
                    .all(|(one, two)| one.0.name == two.0.name && same(&one.1, &two.1))
        }
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use super::edit_schedule;

    fn edited(text: &str, wanted: Option<&str>) -> String {
        edit_schedule(text, wanted).unwrap().text
    }

    #[test]
    fn a_schedule_is_replaced_where_it_stands() {
        for (before, after) in [
            ("schedule: \"@every 60s\"   # beat\n", "schedule: \"0 0 * * *\"   # beat\n"),
            ("schedule: '@daily'\n", "schedule: \"0 0 * * *\"\n"),
            ("schedule: 0 3 * * 1\n", "schedule: \"0 0 * * *\"\n"),
            ("schedule: \"@every ${FETCH_INTERVAL:-30}s\"\n", "schedule: \"0 0 * * *\"\n"),
            ("schedule:   # none yet\n", "schedule: \"0 0 * * *\"   # none yet\n"),
            (
                "schedule: { every: 60s, overlap: queue } # q\n",
                "schedule: { cron: \"0 0 * * *\", overlap: queue } # q\n",
            ),
            (
                "schedule:\n  # by the wall\n  cron: \"0 3 * * *\" # at night\n\n  timezone: Europe/Berlin\n",
                "schedule:\n  # by the wall\n  cron: \"0 0 * * *\" # at night\n\n  timezone: Europe/Berlin\n",
            ),
        ] {
            let file = |schedule| format!("# top\nname: p # n\n{schedule}\n# end\nload: [a]\n");
            assert_eq!(edited(&file(before), Some("0 0 * * *")), file(after));
            // Without it nothing of it is left, and everything else is.
            assert_eq!(edited(&file(before), None), file(""), "{before}");
        }
    }

    #[test]
    fn a_first_schedule_stands_after_the_name() {
        let text = "\u{feff}# top\r\nname: p   # n\r\n\r\nload: [a]\r\n";
        let expected =
            "\u{feff}# top\r\nname: p   # n\r\nschedule: \"@every 5h\"\r\n\r\nload: [a]\r\n";
        let edit = edit_schedule(text, Some("@every 5h")).unwrap();
        assert_eq!((edit.text.as_str(), edit.before), (expected, None));
        assert_eq!(edited(expected, None), text);
        assert_eq!(
            edited("load: [a]\nname: p", Some("@daily")),
            "load: [a]\nname: p\nschedule: \"@daily\"\n"
        );
        assert_eq!(edited("name: p\n", None), "name: p\n");
    }

    #[test]
    fn what_cannot_be_edited_alone_is_left_alone() {
        for text in [
            "{ name: p, schedule: '@daily' }\n",
            "name: p\nx: &a '@daily'\nschedule: *a\n",
            "name: p\nschedule: &a '@daily'\nx: *a\n",
            "name: p\nschedule: [a]\n",
            "name: p\nschedule: { jitter: 5s }\n",
            "name: |\n  p\n\nschedule\n",
            "load: [a]\n",
        ] {
            assert!(edit_schedule(text, Some("@hourly")).is_err(), "{text}");
        }
        let error = edit_schedule("name: p\nschedule: [a]\n", Some("@hourly")).unwrap_err();
        assert_eq!(error.line, 2);
    }
}
