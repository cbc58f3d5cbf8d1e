//! `alerts:`, what people are told about when nobody looks, and how.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::http::Tls;
use super::seconds;
use super::secret::Secret;
use crate::config::units::Span;

/// What is told when something needs people, by mail or to a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alerts {
    /// Whether a run that failed, or could not read all of its source, is told (default: true).
    #[serde(default = "yes")]
    pub runs: bool,
    /// How long a batch may wait in a spool before it is told; 0s: as long as it likes (default: 1h).
    #[serde(default = "hour")]
    pub spool_age: Span,
    /// How many dead letters of a sink, or rejected records, are told; 0: none (default: 1).
    #[serde(default = "one")]
    pub dead_letters: u64,
    /// Whether due runs that were not begun are told; by `etl serve` (default: true).
    #[serde(default = "yes")]
    pub missed: bool,
    /// How long the first problem waits for others, to be one message with them (default: 15s).
    #[serde(default = "group")]
    pub group: Span,
    /// When a problem that is still there is told again; 0s: never (default: 4h).
    #[serde(default = "repeat")]
    pub repeat: Span,
    /// One deadline for sending a message (default: 15s).
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// Messages by mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<AlertEmail>,
    /// Messages as JSON to an address, in the form that Slack takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<AlertWebhook>,
}

/// Messages by mail, through an SMTP server; built with the feature `mail`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertEmail {
    /// Who gets them, separated by commas, as in `${ALERT_EMAIL:-}`. Empty: nobody.
    pub to: String,
    /// Who sends them.
    pub from: String,
    /// The server, `host` or `host:port` (default port: 587, with implicit TLS 465, without any 25).
    pub server: String,
    /// How the connection is encrypted (default: starttls).
    #[serde(default)]
    pub encryption: MailEncryption,
    /// The user's name, where the server wants one. Empty means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The user's password; better from the environment: `${SMTP_PASSWORD:-}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// TLS settings.
    #[serde(default)]
    pub tls: Tls,
}

/// How a connection to a mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MailEncryption {
    /// It begins plain and turns to TLS before anything is said, or ends.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Implicit,
    /// Not at all; on this machine only.
    None,
}

/// Messages as JSON to an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertWebhook {
    /// The address, which is a secret with most services: `${ALERT_WEBHOOK:-}`. Empty: nowhere.
    pub url: Secret,
    /// More request headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
    /// Lets address and headers travel over plain HTTP to other hosts than this one (default: false).
    #[serde(default)]
    pub allow_plain_token: bool,
    /// TLS settings.
    #[serde(default)]
    pub tls: Tls,
}

impl AlertEmail {
    /// Who gets messages.
    pub fn recipients(&self) -> impl Iterator<Item = &str> {
        self.to.split(',').map(str::trim).filter(|address| !address.is_empty())
    }

    /// The server's host and port.
    #[must_use]
    pub fn host_and_port(&self) -> Option<(&str, u16)> {
        let usual = match self.encryption {
            MailEncryption::Starttls => 587,
            MailEncryption::Implicit => 465,
            MailEncryption::None => 25,
        };
        let (host, port) = match self.server.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)?),
            None => (&*self.server, usual),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        (!host.is_empty() && host.bytes().all(plain)).then_some((host, port))
    }

    /// The user, where there is one.
    #[must_use]
    pub fn login(&self) -> Option<(&str, &str)> {
        let user = self.user.as_deref().filter(|user| !user.is_empty())?;
        Some((user, self.password.as_ref().map_or("", Secret::expose)))
    }
}

fn yes() -> bool {
    true
}
fn one() -> u64 {
    1
}
fn hour() -> Span {
    seconds(3600)
}
fn group() -> Span {
    seconds(15)
}
fn repeat() -> Span {
    seconds(4 * 3600)
}
fn timeout() -> Span {
    seconds(15)
}
