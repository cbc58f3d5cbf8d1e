//! Finds `node_cpu_seconds_total` in the text that exporters serve. Everything else
//! is skipped by one search over the bytes; a line of this metric that cannot be read
//! is an error, because a percentage without it would be wrong.

use std::borrow::Cow;

use memchr::memmem;

use crate::http::printable;

const METRIC: &[u8] = b"node_cpu_seconds_total";
/// More CPUs than any machine has; bounds what one answer can make us keep.
const CPUS_MAX: usize = 8192;

/// What a CPU did, in the order of [`Seconds`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Idle,
    Nice,
    User,
    System,
    Irq,
    SoftIrq,
    IoWait,
    Steal,
}

/// Seconds by [`Mode`].
pub(super) type Seconds = [f64; 8];

/// One CPU's counters, in seconds since its start.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CpuSeconds {
    /// The exporter's name of the CPU, a number on Linux.
    pub(super) cpu: Box<str>,
    pub(super) seconds: Seconds,
}

/// The counters of every CPU, in the order of their numbers.
pub(super) fn cpu_seconds(text: &[u8]) -> Result<Vec<CpuSeconds>, String> {
    // Of each CPU the modes that were there, as bits.
    let (mut cpus, mut modes): (Vec<CpuSeconds>, Vec<u8>) = (Vec::new(), Vec::new());
    for at in memmem::find_iter(text, METRIC) {
        let Some(line) = sample_line(text, at) else { continue };
        let Some(sample) = Sample::parse(line).map_err(|problem| {
            let line = printable(line, 100);
            format!("node_cpu_seconds_total cannot be read, {problem}: {{{line}")
        })?
        else {
            continue;
        };
        // A CPU's modes stand together, so that the last one is nearly always right.
        let known = cpus.iter().rposition(|cpu| *cpu.cpu == *sample.cpu);
        let known = match known {
            Some(known) => known,
            None if cpus.len() == CPUS_MAX => {
                return Err(format!("more than {CPUS_MAX} CPUs in the answer"));
            }
            None => {
                cpus.push(CpuSeconds { cpu: sample.cpu.into(), seconds: [0.0; 8] });
                modes.push(0);
                cpus.len() - 1
            }
        };
        cpus[known].seconds[sample.mode as usize] = sample.seconds;
        modes[known] |= 1 << sample.mode as u8;
    }
    if cpus.is_empty() {
        return Err("no node_cpu_seconds_total in the answer".to_owned());
    }
    for (cpu, modes) in cpus.iter().zip(modes) {
        for (mode, name) in [(Mode::Idle, "idle"), (Mode::User, "user"), (Mode::System, "system")] {
            if modes & (1 << mode as u8) == 0 {
                let cpu = printable(cpu.cpu.as_bytes(), 20);
                return Err(format!("cpu {cpu} has no mode {name} in the answer"));
            }
        }
    }
    cpus.sort_by(|a, b| (a.cpu.len(), &a.cpu).cmp(&(b.cpu.len(), &b.cpu)));
    Ok(cpus)
}

/// What follows the metric's name and `{` if a line begins at `at` with both, up to
/// the line's end.
fn sample_line(text: &[u8], at: usize) -> Option<&[u8]> {
    let before = text[..at].iter().rev().find(|byte| !matches!(byte, b' ' | b'\t'));
    if !matches!(before, None | Some(b'\n' | b'\r')) {
        return None;
    }
    let rest = &text[at + METRIC.len()..];
    let line = &rest[..memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len())];
    line.trim_ascii_start().strip_prefix(b"{")
}

#[derive(Debug)]
struct Sample<'a> {
    cpu: Cow<'a, str>,
    mode: Mode,
    seconds: f64,
}

impl<'a> Sample<'a> {
    /// Reads `cpu="0",mode="idle"} 123.45`; `None` for a mode that is of no interest.
    fn parse(line: &'a [u8]) -> Result<Option<Sample<'a>>, &'static str> {
        let line = std::str::from_utf8(line).map_err(|_| "not UTF-8")?;
        let (mut cpu, mut mode, mut rest) = (None, None, line.trim_start());
        let value = loop {
            if let Some(value) = rest.strip_prefix('}') {
                break value;
            }
            let (name, after) = rest.split_once('=').ok_or("a label has no value")?;
            let (value, after) = quoted(after.trim_start())?;
            match name.trim_end() {
                "cpu" => cpu = Some(value),
                "mode" => mode = Some(value),
                _ => {}
            }
            let after = after.trim_start();
            rest = after.strip_prefix(',').unwrap_or(after).trim_start();
        };
        // A timestamp may follow the value.
        let number = value.split_ascii_whitespace().next().ok_or("no value")?;
        let seconds: f64 = number.parse().map_err(|_| "the value is not a number")?;
        if !seconds.is_finite() || seconds < 0.0 {
            return Err("the value is not a number of seconds");
        }
        let mode = match &*mode.ok_or("no label mode")? {
            "idle" => Mode::Idle,
            "nice" => Mode::Nice,
            "user" => Mode::User,
            "system" => Mode::System,
            // The BSDs' name.
            "irq" | "interrupt" => Mode::Irq,
            "softirq" => Mode::SoftIrq,
            "iowait" => Mode::IoWait,
            "steal" => Mode::Steal,
            _ => return Ok(None),
        };
        Ok(Some(Sample { cpu: cpu.ok_or("no label cpu")?, mode, seconds }))
    }
}

/// The text of a leading `"…"` with its escapes resolved, and what follows it.
fn quoted(text: &str) -> Result<(Cow<'_, str>, &str), &'static str> {
    let inside = text.strip_prefix('"').ok_or("a label's value has no quotes")?;
    if let Some(end) = memchr::memchr2(b'"', b'\\', inside.as_bytes())
        && inside.as_bytes()[end] == b'"'
    {
        return Ok((inside[..end].into(), &inside[end + 1..]));
    }
    let mut chars = inside.char_indices();
    let mut value = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value.into(), &inside[at + 1..])),
            '\\' => match chars.next().ok_or("a label's value does not end")?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    Err("a label's value does not end")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::{Mode, cpu_seconds};

    const PLAIN: &str = r#"# HELP node_cpu_seconds_total Seconds the CPUs spent in each mode.
# TYPE node_cpu_seconds_total counter
node_cpu_seconds_total{cpu="0",mode="idle"} 12345.67
node_cpu_seconds_total{cpu="0",mode="user"} 1.5e+03
node_cpu_seconds_total{cpu="0",mode="system"} 2
node_cpu_seconds_total{cpu="0",mode="irq"} 0
"#;

    #[test]
    fn labels_in_any_order_escapes_blanks_exponents_and_other_metrics() {
        let cpus = cpu_seconds(PLAIN.as_bytes()).unwrap();
        assert_eq!((cpus.len(), &*cpus[0].cpu), (1, "0"));
        assert_eq!(cpus[0].seconds[Mode::User as usize], 1500.0);
        let odd = concat!(
            "go_info{version=\"node_cpu_seconds_total{\"} 1\r\n",
            "node_cpu_seconds_total_more{cpu=\"9\",mode=\"idle\"} 1\n",
            "  node_cpu_seconds_total { mode = \"idle\" , host=\"a\\\"}b\\\\\\n,\", cpu = \"10\" , }  7 1763645000000\r\n",
            "node_cpu_seconds_total{cpu=\"10\",mode=\"user\"} 1\n",
            "node_cpu_seconds_total{cpu=\"10\",mode=\"system\"} 1\n",
            "node_cpu_seconds_total{cpu=\"2\",mode=\"system\"} 1\n",
            "node_cpu_seconds_total{cpu=\"2\",mode=\"user\"} 1\n",
            "node_cpu_seconds_total{cpu=\"2\",mode=\"idle\"} 1\n",
            "node_cpu_seconds_total{cpu=\"2\",mode=\"dreaming\"} 1",
        );
        let cpus = cpu_seconds(odd.as_bytes()).unwrap();
        let names: Vec<&str> = cpus.iter().map(|cpu| &*cpu.cpu).collect();
        assert_eq!(names, ["2", "10"]);
        assert_eq!(cpus[1].seconds[Mode::Idle as usize], 7.0);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_an_error_and_not_a_wrong_percentage() {
        for (line, problem) in [
            (r#"{cpu="0",mode="idle"} NaN"#, "not a number of seconds"),
            (r#"{cpu="0",mode="idle"} +Inf"#, "not a number of seconds"),
            (r#"{cpu="0",mode="idle"} -1"#, "not a number of seconds"),
            (r#"{cpu="0",mode="idle"} many"#, "not a number"),
            (r#"{cpu="0",mode="idle"}"#, "no value"),
            (r#"{mode="idle"} 1"#, "no label cpu"),
            (r#"{cpu="0"} 1"#, "no label mode"),
            (r#"{cpu="0,mode=idle} 1"#, "does not end"),
            (r#"{cpu=0} 1"#, "no quotes"),
            ("{cpu", "a label has no value"),
            (r#"{cpu="7",mode="idle"} 1"#, "cpu 7 has no mode user"),
        ] {
            let error = cpu_seconds(format!("{PLAIN}node_cpu_seconds_total{line}\n").as_bytes());
            let error = error.unwrap_err();
            assert!(error.contains(problem), "{line}: {error}");
        }
        for nothing in ["", "<html>", "# node_cpu_seconds_total{", "node_load1 0.5\n"] {
            let error = cpu_seconds(nothing.as_bytes()).unwrap_err();
            assert_eq!(error, "no node_cpu_seconds_total in the answer");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(tail in "[{}\",=\\\\ a0\n\r]{0,40}") {
            drop(cpu_seconds(format!("node_cpu_seconds_total{{{tail}").as_bytes()));
        }
    }
}
