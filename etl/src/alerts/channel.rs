//! The ways to people, in one place: what each is called, sends and answers.

use std::time::Duration;

#[cfg(feature = "mail")]
use super::email::Email;
use super::message::Message;
use super::webhook::Webhook;
use crate::config::Alerts;

/// What kind of way it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelKind {
    /// By mail.
    Email,
    /// To a webhook.
    Webhook,
}

/// A way to people.
#[derive(Debug)]
pub struct Channel {
    way: Way,
    timeout: Duration,
    /// Tells receivers apart; says nothing about them.
    pub(super) id: String,
}

#[derive(Debug)]
enum Way {
    #[cfg(feature = "mail")]
    Email(Box<Email>),
    Webhook(Box<Webhook>),
}

impl ChannelKind {
    pub(super) const ALL: [ChannelKind; 2] = [ChannelKind::Email, ChannelKind::Webhook];

    /// `email` or `webhook`, as in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ChannelKind::Email => "email",
            ChannelKind::Webhook => "webhook",
        }
    }
}

impl Channel {
    /// All ways that `alerts` asks for; one that cannot be used is why not.
    #[must_use]
    pub fn all(alerts: &Alerts) -> Vec<(ChannelKind, Result<Channel, String>)> {
        let mut all = Vec::new();
        let timeout = alerts.timeout.0;
        #[cfg(feature = "mail")]
        if let Some(email) = &alerts.email
            && email.recipients().next().is_some()
        {
            let id = id(&["email", &email.server, &email.from, &email.to]);
            let built = Email::new(email, timeout);
            let channel = built.map(|it| Channel { way: Way::Email(Box::new(it)), timeout, id });
            all.push((ChannelKind::Email, channel));
        }
        if let Some(webhook) = &alerts.webhook
            && !webhook.url.expose().is_empty()
        {
            let id = id(&["webhook", webhook.url.expose()]);
            let built = Webhook::new(webhook, timeout);
            let channel = built.map(|it| Channel { way: Way::Webhook(Box::new(it)), timeout, id });
            all.push((ChannelKind::Webhook, channel));
        }
        all
    }

    /// What kind of way it is.
    #[must_use]
    pub fn kind(&self) -> ChannelKind {
        match &self.way {
            #[cfg(feature = "mail")]
            Way::Email(_) => ChannelKind::Email,
            Way::Webhook(_) => ChannelKind::Webhook,
        }
    }

    /// Sends a message, once.
    ///
    /// # Errors
    /// When it did not arrive; the text has no secret in it.
    pub async fn send(&self, message: &Message) -> Result<(), String> {
        self.in_time(async {
            match &self.way {
                #[cfg(feature = "mail")]
                Way::Email(email) => email.send(message).await,
                Way::Webhook(webhook) => webhook.send(message).await,
            }
        })
        .await
    }

    /// Asks whether messages would arrive, and sends none.
    ///
    /// # Errors
    /// When they would not, with what to do.
    pub async fn probe(&self) -> Result<String, String> {
        self.in_time(async {
            match &self.way {
                #[cfg(feature = "mail")]
                Way::Email(email) => email.probe().await,
                Way::Webhook(webhook) => webhook.probe().await,
            }
        })
        .await
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(|_| {
            Err(format!("no answer within {}", humantime::format_duration(self.timeout)))
        })
    }
}

fn id(parts: &[&str]) -> String {
    blake3::hash(serde_json::json!(parts).to_string().as_bytes()).to_hex()[..16].to_owned()
}
