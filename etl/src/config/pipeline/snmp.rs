//! `extract.snmp`: an SNMP agent per target.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::secret::Secret;
use super::step::Named;
use super::{MIB, seconds};
use crate::config::units::{Size, Span};

/// Values asked of an SNMP agent per target, in version 2c or 3.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnmpExtract {
    /// The agent: a name or address, perhaps with a port; `{column}` is replaced by the record's field (default: {ip}).
    #[serde(default = "host")]
    pub host: String,
    /// The port where `host` has none (default: 161).
    #[serde(default = "port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// The protocol's version (default: 3 with `v3`, else 2c).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<SnmpVersion>,
    /// The community of version 2c (default: public); better from the environment: `${SNMP_COMMUNITY}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub community: Option<Secret>,
    /// The user of version 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v3: Option<SnmpUser>,
    /// CPU percentages, with the columns that `cpu_indicators` knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<SnmpCpu>,
    /// Single values by field: `uptime: 1.3.6.1.2.1.1.3.0`. With `cpu` or `table` they stand in every record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oids: Option<Named<String>>,
    /// A table, one record per row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<SnmpTable>,
    /// Everything below this object identifier, one record per value with `oid`, `type` and `value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub walk: Option<String>,
    /// Fields of `oids` and `table` whose bytes are written as hex, as in 00:1b:21:3c:9d:f8, even where they could be text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hex: Vec<String>,
    /// What is done when an agent does not have one of `oids` (default: fail).
    #[serde(default)]
    pub missing: SnmpMissing,
    /// Objects asked for in one GETBULK request (default: 25).
    #[serde(default = "max_repetitions")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_repetitions: u16,
    /// The most rows of a table, or values of a walk (default: 10000).
    #[serde(default = "max_rows")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_rows: usize,
    /// The most memory for the values of a column or walk (default: 4MiB).
    #[serde(default = "max_bytes")]
    pub max_bytes: Size,
    /// When an unanswered request is sent again, `extract.attempts` times in all; the wait doubles up to eightfold (default: 1s).
    #[serde(default = "resend")]
    pub resend: Span,
    /// Time between the samples of a first `cpu: ucd` poll (default: 1s).
    #[serde(default = "sample_interval")]
    pub sample_interval: Span,
}

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SnmpVersion {
    /// With a community, which travels as it is.
    #[serde(rename = "2c")]
    V2c,
    /// With a user, signed and encrypted.
    #[serde(rename = "3")]
    V3,
}

/// A user of version 3. Without `auth` nothing is signed, without `privacy` nothing encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnmpUser {
    /// The user's name.
    pub user: String,
    /// How messages are signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<SnmpAuth>,
    /// How messages are encrypted; needs `auth`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<SnmpPrivacy>,
    /// The context, where the agent has several.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub context: String,
}

/// How messages are signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnmpAuth {
    /// The agent's protocol (default: sha1, which net-snmp calls SHA).
    #[serde(default)]
    pub protocol: SnmpAuthProtocol,
    /// At least eight characters; better from the environment: `${SNMP_AUTH_PASSWORD}`.
    pub password: Secret,
}

/// A hash to sign with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SnmpAuthProtocol {
    /// MD5; broken, for old agents.
    Md5,
    /// SHA-1.
    #[default]
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// How messages are encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnmpPrivacy {
    /// The agent's protocol (default: aes128, which net-snmp calls AES).
    #[serde(default)]
    pub protocol: SnmpPrivacyProtocol,
    /// At least eight characters; better from the environment: `${SNMP_PRIVACY_PASSWORD}`.
    pub password: Secret,
}

/// A cipher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SnmpPrivacyProtocol {
    /// DES; broken, for old agents.
    Des,
    /// AES with 128 bits.
    #[default]
    Aes128,
    /// AES with 192 bits, as net-snmp has it.
    Aes192,
    /// AES with 256 bits, as net-snmp has it.
    Aes256,
    /// AES with 192 bits, as Cisco has it.
    Aes192c,
    /// AES with 256 bits, as Cisco has it.
    Aes256c,
}

/// Where CPU percentages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SnmpCpu {
    /// The ssCpuRaw counters of net-snmp (UCD-SNMP-MIB): one record, all CPUs as one.
    Ucd,
    /// hrProcessorLoad (HOST-RESOURCES-MIB): one record per CPU, with `pload` and `pidle` alone.
    HostResources,
}

/// A table, one record per row.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnmpTable {
    /// The field for what tells rows apart: the numbers behind the column's (default: index).
    #[serde(default = "index")]
    pub index: String,
    /// The columns by field: `in_octets: 1.3.6.1.2.1.31.1.1.1.6`.
    pub columns: Named<String>,
}

/// What is done when an agent does not have an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SnmpMissing {
    /// The target counts as failed.
    #[default]
    Fail,
    /// The field is left out.
    Skip,
}

fn host() -> String {
    "{ip}".to_owned()
}
fn port() -> u16 {
    161
}
fn max_repetitions() -> u16 {
    25
}
fn max_rows() -> usize {
    10_000
}
fn max_bytes() -> Size {
    Size(4 * MIB)
}
fn resend() -> Span {
    seconds(1)
}
fn sample_interval() -> Span {
    seconds(1)
}
fn index() -> String {
    "index".to_owned()
}
