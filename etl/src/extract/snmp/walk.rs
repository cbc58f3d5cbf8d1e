//! What is asked for as a whole: objects by GET, all below one by GETBULK.

use std::net::SocketAddr;

use super::client::{Client, Question};
use super::error::{SnmpError, status_name};
use super::oid::Oid;
use super::pdu::{Binding, Kind, Pdu, Value};
use crate::extract::progress::Progress;

/// Objects in one GET; with identifiers of usual length the answer fits into one frame.
const GET_MAX: usize = 40;
const NO_ERROR: i32 = 0;
const TOO_BIG: i32 = 1;

/// How much a walk may bring.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Objects asked for in one request.
    pub repetitions: i32,
    /// Objects below one identifier.
    pub rows: usize,
    /// Their size in memory, roughly.
    pub bytes: usize,
}

impl Client {
    /// The values of these objects, in their order.
    pub async fn get(
        &self,
        agent: SocketAddr,
        oids: &[Oid],
        progress: &Progress,
    ) -> Result<Vec<Value>, SnmpError> {
        let mut values = Vec::with_capacity(oids.len());
        let mut parts: Vec<&[Oid]> = oids.chunks(GET_MAX).rev().collect();
        while let Some(part) = parts.pop() {
            let question =
                Question { agent, kind: Kind::Get, repetitions: 0, oids: part, progress };
            let answer = self.ask(question).await?;
            if answer.status == TOO_BIG && part.len() > 1 {
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([second, first]);
                continue;
            }
            check_status(&answer, part)?;
            let same = answer.bindings.len() == part.len()
                && answer.bindings.iter().zip(part).all(|(binding, oid)| binding.oid == *oid);
            if !same {
                let text = "the agent answered for other objects than it was asked";
                return Err(SnmpError::Answer(text.to_owned()));
            }
            values.extend(answer.bindings.into_iter().map(|binding| binding.value));
        }
        Ok(values)
    }

    /// All objects below `root`, in order.
    pub async fn walk(
        &self,
        agent: SocketAddr,
        root: &Oid,
        limits: Limits,
        progress: &Progress,
    ) -> Result<Vec<Binding>, SnmpError> {
        let mut walk = Walk { root, limits, found: Vec::new(), bytes: 0 };
        let mut repetitions = limits.repetitions;
        loop {
            let last = walk.found.last().map_or(root, |binding| &binding.oid).clone();
            let asked = std::slice::from_ref(&last);
            let question =
                Question { agent, kind: Kind::GetBulk, repetitions, oids: asked, progress };
            let answer = self.ask(question).await?;
            if answer.status == TOO_BIG && repetitions > 1 {
                repetitions /= 2;
                continue;
            }
            check_status(&answer, asked)?;
            if walk.take(last, answer.bindings)? {
                return Ok(walk.found);
            }
        }
    }
}

/// A walk on its way.
struct Walk<'a> {
    root: &'a Oid,
    limits: Limits,
    found: Vec<Binding>,
    bytes: usize,
}

impl Walk<'_> {
    /// Takes what lies behind `last`; tells whether that was all.
    fn take(&mut self, mut last: Oid, bindings: Vec<Binding>) -> Result<bool, SnmpError> {
        let root = self.root;
        let refuse = |text: String| Err(SnmpError::Answer(text));
        if bindings.is_empty() {
            return refuse(format!("the agent's answer behind {last} is empty"));
        }
        for binding in bindings {
            if binding.value == Value::EndOfMibView || binding.oid.below(root).is_none() {
                return Ok(true);
            }
            if binding.oid <= last {
                return refuse(format!(
                    "the agent goes in a circle below {root}: {} follows {last}",
                    binding.oid
                ));
            }
            self.bytes += size_of::<Binding>() + binding.oid.bytes() + size(&binding.value);
            if self.found.len() == self.limits.rows {
                let rows = self.limits.rows;
                return refuse(format!(
                    "more than {rows} objects below {root}; ask for less, or raise extract.snmp.max_rows"
                ));
            }
            if self.bytes > self.limits.bytes {
                return refuse(format!(
                    "more than extract.snmp.max_bytes below {root}; ask for less, or raise it"
                ));
            }
            last = binding.oid.clone();
            self.found.push(binding);
        }
        Ok(false)
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Octets(bytes) | Value::Opaque(bytes) => bytes.len(),
        Value::Oid(oid) => oid.bytes(),
        _ => 0,
    }
}

fn check_status(answer: &Pdu, asked: &[Oid]) -> Result<(), SnmpError> {
    if answer.status == NO_ERROR {
        return Ok(());
    }
    let index = usize::try_from(answer.index).unwrap_or_default();
    let place = index.checked_sub(1).and_then(|at| asked.get(at));
    let place = place.map_or_else(String::new, |oid| format!(" at {oid}"));
    Err(SnmpError::Status { status: status_name(answer.status), place })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::{Binding, Limits, Oid, Value, Walk};

    fn oid(text: &str) -> Oid {
        Oid::parse(text).unwrap()
    }

    fn take(limits: Limits, oids: &[&str]) -> Result<bool, String> {
        let root = oid("1.3.6.1.2");
        let mut walk = Walk { root: &root, limits, found: Vec::new(), bytes: 0 };
        let bindings = oids.iter().map(|text| Binding { oid: oid(text), value: Value::Null });
        walk.take(root.clone(), bindings.collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_walk_ends_and_never_goes_back() {
        let limits = Limits { repetitions: 10, rows: 3, bytes: 1 << 20 };
        assert_eq!(take(limits, &["1.3.6.1.2.1", "1.3.6.1.2.2"]), Ok(false));
        assert_eq!(take(limits, &["1.3.6.1.2.1", "1.3.6.1.3"]), Ok(true));
        let circle = "the agent goes in a circle below 1.3.6.1.2: ";
        for oids in
            [&["1.3.6.1.2"][..], &["1.3.6.1.2.2", "1.3.6.1.2.1"], &["1.3.6.1.2.2", "1.3.6.1.2.2"]]
        {
            let error = take(limits, oids).unwrap_err();
            assert!(error.starts_with(circle), "{error}");
        }
        let four = ["1.3.6.1.2.1", "1.3.6.1.2.2", "1.3.6.1.2.3", "1.3.6.1.2.4"];
        assert!(take(limits, &four).unwrap_err().contains("more than 3 objects"));
        let limits = Limits { bytes: 200, ..limits };
        assert!(take(limits, &four[..3]).unwrap_err().contains("max_bytes"));
        assert!(take(limits, &[]).unwrap_err().contains("is empty"));
    }
}
