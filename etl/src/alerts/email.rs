//! Sends a message by mail: TLS that is checked, a login where one is set.

use std::error::Error as _;
use std::time::Duration;

use lettre::message::{Mailbox, header};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use super::message::Message;
use crate::config::{AlertEmail, MailEncryption};
use crate::http::printable;

/// The most that is shown of what a server says.
const SHOWN_BYTES_MAX: usize = 300;

/// A mail server and who gets what it is given.
#[derive(Debug)]
pub(super) struct Email {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
    /// `smtp.example.net:587`.
    shown: String,
    logs_in: bool,
}

impl Email {
    pub(super) fn new(settings: &AlertEmail, timeout: Duration) -> Result<Email, String> {
        let mailbox = |text: &str| -> Result<Mailbox, String> {
            text.parse().map_err(|error| format!("alerts.email: a mail address: {error}"))
        };
        let (host, port) =
            settings.host_and_port().ok_or("alerts.email.server is no host or host:port")?;
        let tls = match settings.encryption {
            MailEncryption::Starttls => Tls::Required(parameters(settings, host)?),
            MailEncryption::Implicit => Tls::Wrapper(parameters(settings, host)?),
            MailEncryption::None => Tls::None,
        };
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .port(port)
            .tls(tls)
            .timeout(Some(timeout));
        if let Some((user, password)) = settings.login() {
            transport =
                transport.credentials(Credentials::new(user.to_owned(), password.to_owned()));
        }
        Ok(Email {
            transport: transport.build(),
            from: mailbox(&settings.from)?,
            to: settings.recipients().map(mailbox).collect::<Result<_, _>>()?,
            shown: format!("{host}:{port}"),
            logs_in: settings.login().is_some(),
        })
    }

    pub(super) async fn send(&self, message: &Message) -> Result<(), String> {
        let mut mail = lettre::Message::builder()
            .from(self.from.clone())
            .subject(message.subject())
            .message_id(None)
            .header(header::ContentType::TEXT_PLAIN);
        for to in &self.to {
            mail = mail.to(to.clone());
        }
        let mail = mail.body(message.text()).map_err(|error| error.to_string())?;
        self.transport.send(mail).await.map(drop).map_err(|error| self.failed(&error))
    }

    /// Connects, turns to TLS, logs in and leaves.
    pub(super) async fn probe(&self) -> Result<String, String> {
        let login = if self.logs_in { " and takes the login" } else { "" };
        match self.transport.test_connection().await {
            Ok(true) => Ok(format!("{} answers{login}; --alert sends a message", self.shown)),
            Ok(false) => Err(format!("{} takes nothing now", self.shown)),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn failed(&self, error: &Error) -> String {
        // Of what is not said by the server the innermost cause says what it is.
        let mut text = error.to_string();
        let mut source = error.source().filter(|_| error.status().is_none());
        while let Some(cause) = source {
            text = cause.to_string();
            source = cause.source();
        }
        let remedy = match error.status().map(|code| code.to_string()).as_deref() {
            Some("530" | "534" | "535") => "; check alerts.email.user and password",
            Some("550" | "551" | "553" | "554") => "; check alerts.email.from and to",
            _ if text.contains("certificate") => {
                "; is it for this name, and is its authority the system's or tls.ca?"
            }
            _ => "",
        };
        format!("{}: {}{remedy}", self.shown, printable(text.as_bytes(), SHOWN_BYTES_MAX))
    }
}

/// Whom to trust: the system's authorities, or those of `tls.ca` alone.
fn parameters(settings: &AlertEmail, host: &str) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(path) = &settings.tls.ca {
        let unusable = |why: String| format!("alerts.email.tls.ca {}: {why}", path.display());
        let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
        let certificate =
            Certificate::from_pem(&pem).map_err(|error| unusable(error.to_string()))?;
        builder = builder.certificate_store(CertificateStore::None);
        builder = builder.add_root_certificate(certificate);
    }
    builder.build_rustls().map_err(|error| error.to_string())
}
