//! SNMP agents: the values of a poll as rows. `client` asks and is answered over `socket`,
//! `message`, `pdu`, `oid` and `ber` are the bytes, `usm` and `engine` are version 3, and
//! `walk`, `ucd` and `render` are what is asked for and what becomes of it.

mod ber;
mod client;
mod engine;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod message;
mod oid;
mod pdu;
mod render;
mod report;
mod socket;
#[cfg(test)]
mod tests;
mod ucd;
mod usm;
mod walk;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use self::client::Client;
pub use self::error::SnmpError;
pub use self::oid::Oid;
use self::oid::dotted;
use self::pdu::Value;
use self::render::{absence, push_field, push_text_field, type_name};
use self::ucd::UcdCpu;
use self::walk::Limits;
use super::answer::push_merged;
use super::cpu::push_percentages;
use super::error::{ExtractError, ExtractorError};
use super::progress::{Phase, Progress};
use super::target::{Fields, Target};
use super::template::UrlTemplate;
use super::unix_seconds;
use crate::batch::Rows;
use crate::config::{Extract, Named, SnmpCpu, SnmpExtract, SnmpMissing};

/// hrProcessorLoad of the HOST-RESOURCES-MIB.
const PROCESSOR_LOAD: &str = "1.3.6.1.2.1.25.3.3.1.2";

/// Polls SNMP agents.
#[derive(Debug)]
pub(super) struct Snmp {
    client: Client,
    host: UrlTemplate,
    port: u16,
    wanted: Wanted,
    /// Stand in every record.
    singles: Vec<Field>,
    missing: SnmpMissing,
    limits: Limits,
}

/// What makes records.
#[derive(Debug)]
enum Wanted {
    /// The single values alone.
    Singles,
    Ucd(UcdCpu),
    Processors(Oid),
    Table {
        index: String,
        columns: Vec<Field>,
    },
    Walk(Oid),
}

/// A field of a record, and the object that it is filled from.
#[derive(Debug)]
struct Field {
    name: String,
    oid: Oid,
    hex: bool,
}

impl Snmp {
    pub(super) fn new(snmp: &SnmpExtract, config: &Extract) -> Result<Self, ExtractorError> {
        let refuse = |key: &str, problem: &str| ExtractorError::Snmp(format!(".{key}: {problem}"));
        let parse = |key: &str, text: &str| {
            Oid::parse(text).map_err(|problem| refuse(key, &format!("it is {problem}")))
        };
        let fields = |key: &str, named: &Named<String>| -> Result<Vec<Field>, ExtractorError> {
            let field = |(name, text): &(String, String)| {
                let oid = parse(&format!("{key}.{name}"), text)?;
                Ok(Field { name: name.clone(), oid, hex: snmp.hex.contains(name) })
            };
            named.0.iter().map(field).collect()
        };
        let wanted = match (snmp.cpu, &snmp.table, &snmp.walk) {
            (None, None, None) => Wanted::Singles,
            (Some(SnmpCpu::Ucd), None, None) => {
                let cpu = UcdCpu::new(snmp.sample_interval.0);
                Wanted::Ucd(cpu.map_err(|problem| refuse("cpu", problem))?)
            }
            (Some(SnmpCpu::HostResources), None, None) => {
                Wanted::Processors(parse("cpu", PROCESSOR_LOAD)?)
            }
            (None, Some(table), None) => Wanted::Table {
                index: table.index.clone(),
                columns: fields("table.columns", &table.columns)?,
            },
            (None, None, Some(root)) => Wanted::Walk(parse("walk", root)?),
            _ => {
                return Err(ExtractorError::Snmp(
                    ": cpu, table, walk: give one of them".to_owned(),
                ));
            }
        };
        let singles = match &snmp.oids {
            Some(oids) => fields("oids", oids)?,
            None => Vec::new(),
        };
        if singles.is_empty() && matches!(wanted, Wanted::Singles) {
            let text = ": nothing is asked for; give cpu, oids, table or walk";
            return Err(ExtractorError::Snmp(text.to_owned()));
        }
        Ok(Snmp {
            client: Client::new(snmp, config),
            host: UrlTemplate::agent(&snmp.host).map_err(|problem| refuse("host", &problem))?,
            port: snmp.port,
            wanted,
            singles,
            missing: snmp.missing,
            limits: Limits {
                repetitions: i32::from(snmp.max_repetitions),
                rows: snmp.max_rows,
                bytes: usize::try_from(snmp.max_bytes.0).unwrap_or(usize::MAX),
            },
        })
    }

    /// The columns that the host is made of.
    pub(super) fn host(&self) -> &UrlTemplate {
        &self.host
    }

    /// The records of one target.
    pub(super) async fn rows(
        &self,
        target: &Target,
        progress: &Progress,
    ) -> Result<Rows, ExtractError> {
        let fields = target.fields()?;
        let agent = self.agent(&fields, progress).await?;
        let singles = self.singles(agent, progress).await?;
        let mut rows = Rows::few();
        let mut push = |more: &[u8]| {
            let separator: &[u8] = if singles.is_empty() || more.is_empty() { b"" } else { b"," };
            let answer = [b"{", &singles[..], separator, more, b"}"].concat();
            push_merged(&fields, &answer, unix_seconds(), &mut rows)
        };
        match &self.wanted {
            Wanted::Singles => push(b"")?,
            Wanted::Ucd(cpu) => {
                let percent = cpu.poll(&self.client, agent, progress).await?;
                let mut row = Vec::new();
                push_text_field(&mut row, "cpu_number", "0");
                push_percentages(&mut row, percent);
                push(&row)?;
            }
            Wanted::Processors(load) => {
                for (number, load) in
                    self.processors(agent, load, progress).await?.iter().enumerate()
                {
                    let idle = 100 - load;
                    let row = format!(
                        r#""cpu_number":"{number}","pload":"{load}.00","pidle":"{idle}.00""#
                    );
                    push(row.as_bytes())?;
                }
            }
            Wanted::Table { index, columns } => {
                for (at, cells) in self.table(agent, columns, progress).await? {
                    let mut row = Vec::new();
                    push_text_field(&mut row, index, &dotted(&at));
                    for (column, cell) in columns.iter().zip(&cells) {
                        push_field(&mut row, &column.name, cell, column.hex);
                    }
                    push(&row)?;
                }
            }
            Wanted::Walk(root) => {
                for binding in self.client.walk(agent, root, self.limits, progress).await? {
                    let mut row = Vec::new();
                    push_text_field(&mut row, "oid", &binding.oid.to_string());
                    push_text_field(&mut row, "type", type_name(&binding.value));
                    push_field(&mut row, "value", &binding.value, false);
                    push(&row)?;
                }
            }
        }
        Ok(rows)
    }

    /// Where the agent is.
    async fn agent(
        &self,
        fields: &Fields<'_>,
        progress: &Progress,
    ) -> Result<SocketAddr, ExtractError> {
        let uri = self.host.url(fields)?;
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(self.port);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(SocketAddr::new(address, port));
        }
        progress.enter(Phase::Agent("looking up its name"));
        let why = match tokio::net::lookup_host((host, port)).await {
            Ok(mut addresses) => match addresses.next() {
                Some(address) => return Ok(address),
                None => "the name has none".to_owned(),
            },
            Err(error) => error.to_string(),
        };
        Err(SnmpError::Name { host: host.to_owned(), why }.into())
    }

    /// The single values as fields of an object.
    async fn singles(
        &self,
        agent: SocketAddr,
        progress: &Progress,
    ) -> Result<Vec<u8>, ExtractError> {
        let mut out = Vec::new();
        if self.singles.is_empty() {
            return Ok(out);
        }
        let oids: Vec<Oid> = self.singles.iter().map(|field| field.oid.clone()).collect();
        let values = self.client.get(agent, &oids, progress).await?;
        for (field, value) in self.singles.iter().zip(&values) {
            match (absence(value), self.missing) {
                (None, _) => push_field(&mut out, &field.name, value, field.hex),
                (Some(_), SnmpMissing::Skip) => {}
                (Some(why), SnmpMissing::Fail) => {
                    let what = format!("{}, {}", field.name, field.oid);
                    return Err(SnmpError::Missing { what, why }.into());
                }
            }
        }
        Ok(out)
    }

    /// The load of each CPU, in whole percent.
    async fn processors(
        &self,
        agent: SocketAddr,
        load: &Oid,
        progress: &Progress,
    ) -> Result<Vec<i32>, SnmpError> {
        let found = self.client.walk(agent, load, self.limits, progress).await?;
        if found.is_empty() {
            let what = format!("hrProcessorLoad, {load}");
            return Err(SnmpError::Missing { what, why: "nothing is below it" });
        }
        let percent = |binding: &pdu::Binding| match binding.value {
            Value::Integer(load) if (0..=100).contains(&load) => Ok(load),
            _ => Err(SnmpError::Answer(format!("{} is not a percentage", binding.oid))),
        };
        found.iter().map(percent).collect()
    }

    /// A table's rows in the order of their indexes. What a row has no value for, because it
    /// came or went on the way, is null.
    async fn table(
        &self,
        agent: SocketAddr,
        columns: &[Field],
        progress: &Progress,
    ) -> Result<BTreeMap<Vec<u32>, Vec<Value>>, SnmpError> {
        let mut rows = BTreeMap::new();
        for (at, column) in columns.iter().enumerate() {
            let found = self.client.walk(agent, &column.oid, self.limits, progress).await?;
            for binding in found {
                let index = binding.oid.below(&column.oid).unwrap_or_default().to_vec();
                let row = rows.entry(index).or_insert_with(|| vec![Value::Null; columns.len()]);
                row[at] = binding.value;
            }
        }
        Ok(rows)
    }
}
