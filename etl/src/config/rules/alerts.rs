//! Rules of `alerts`.

use super::super::address::{Address, check_header, is_loopback};
use super::super::pipeline::{AlertEmail, AlertWebhook, Alerts, MailEncryption};
use super::Rules;

impl Rules<'_> {
    pub(super) fn alerts(&mut self, alerts: &Alerts) {
        self.longer_than_nothing("alerts.timeout", alerts.timeout);
        if alerts.email.is_none() && alerts.webhook.is_none() {
            let message = "alerts says nobody to tell";
            self.fault(&["alerts"], message, "set `email`, `webhook` or both");
        }
        if let Some(email) = &alerts.email {
            self.alert_email(email);
        }
        if let Some(webhook) = &alerts.webhook {
            self.alert_webhook(webhook);
        }
    }

    fn alert_email(&mut self, email: &AlertEmail) {
        const AT: &str = "alerts.email";
        let key = |name: &str| format!("{AT}.{name}");
        if cfg!(not(feature = "mail")) && email.recipients().next().is_some() {
            let message = format!("{AT}: this etl was built without mail");
            self.fault(&[AT], &message, "build it with --features mail");
        }
        let whole = |text: &str| {
            let parts = text.split_once('@');
            parts.is_some_and(|(name, host)| !name.is_empty() && !host.is_empty())
                && text.bytes().all(|byte| {
                    byte.is_ascii_graphic() && !b"<>@,;\"".contains(&byte) || byte == b'@'
                })
                && text.matches('@').count() == 1
        };
        if !email.recipients().all(whole) {
            let message = format!("{AT}.to holds something that is no mail address");
            self.fault(&[&key("to")], &message, "as in ops@example.net, separated by commas");
        }
        if !whole(&email.from) {
            let message = format!("{AT}.from is no mail address");
            self.fault(&[&key("from")], &message, "as in etl@example.net");
        }
        match email.host_and_port() {
            None => {
                let message = format!("{AT}.server is no host or host:port");
                self.fault(&[&key("server")], &message, "as in smtp.example.net:587");
            }
            Some((host, _)) if email.encryption == MailEncryption::None && !is_loopback(host) => {
                let message = format!("{AT}: mail to another host would travel unencrypted");
                let keys = [key("encryption"), key("server")];
                self.fault(&[&keys[0], &keys[1]], &message, "use starttls or implicit");
            }
            Some(_) => {}
        }
        let has_password = email.password.as_ref().is_some_and(|it| !it.expose().is_empty());
        if has_password != email.login().is_some() {
            let message = format!("{AT}: a user and a password belong together");
            let keys = [key("password"), key("user")];
            self.fault(&[&keys[0], &keys[1]], &message, "set both, or none");
        }
        self.named_file(email.tls.ca.as_deref(), &key("tls.ca"));
    }

    fn alert_webhook(&mut self, webhook: &AlertWebhook) {
        const AT: &str = "alerts.webhook";
        let key = |name: &str| format!("{AT}.{name}");
        let url = webhook.url.expose();
        match Address::parse(url) {
            // Nowhere, as an unset variable leaves it.
            Err(_) if url.is_empty() => {}
            Err(problem) => {
                let message = format!("{AT}.url {}", problem.message);
                self.fault(&[&key("url")], &message, problem.label);
            }
            Ok(address) if address.is_exposed() && !webhook.allow_plain_token => {
                self.plain_token(&key("url"), &key("allow_plain_token"));
            }
            Ok(_) => {}
        }
        for (name, value) in &webhook.headers {
            if let Err(problem) = check_header(name, value.expose(), false) {
                // A name with dots would be taken for steps: point at the list.
                let place = if name.contains('.') { "headers" } else { &format!("headers.{name}") };
                let message = format!("{AT}.headers: {}", problem.message);
                self.fault(&[&key(place)], &message, problem.label);
            }
        }
        self.named_file(webhook.tls.ca.as_deref(), &key("tls.ca"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::environment::Environment;
    use super::super::super::from_str;

    /// The errors of a pipeline with these alerts.
    fn errors(alerts: &str) -> Vec<String> {
        let text = format!(
            "name: x\nsource:\n  csv: {{ path: a.csv }}\nload:\n  - http: {{ url: 'https://h/' }}\n\
             alerts: {{ {alerts} }}\n"
        );
        match from_str("p.yaml", &text, &[], &Environment::empty()) {
            Ok(_) => Vec::new(),
            Err(report) => report.errors().iter().map(|error| error.message.clone()).collect(),
        }
    }

    #[test]
    fn each_rule_of_alerts_refuses_its_mistake() {
        let mail = "to: '', from: e@x.net, server";
        for (alerts, message) in [
            ("", "nobody to tell"),
            ("spool_age: 5m", "nobody to tell"),
            ("webhook: { url: 'ftp://h/' }", "is not an http or https address"),
            ("webhook: { url: 'http://h/' }", "unencrypted"),
            ("webhook: { url: '', headers: { 'a b': c } }", "not a header's name"),
            ("webhook: { url: '' }, timeout: 0s", "no time at all"),
            ("webhook: { urk: '' }", "unknown key `urk` in alerts.webhook"),
            ("webhook: { url: '' }, spol_age: 1h", "unknown key `spol_age` in alerts"),
            ("email: { to: '', from: e, server: h }", "from is no mail address"),
            (&format!("email: {{ {mail}: 'h:0' }}"), "no host or host:port"),
            (&format!("email: {{ {mail}: h, encryption: none }}"), "travel unencrypted"),
            (&format!("email: {{ {mail}: h, user: me }}"), "belong together"),
            (&format!("email: {{ {mail}: h, password: me }}"), "belong together"),
        ] {
            let found = errors(alerts);
            assert!(found.iter().any(|it| it.contains(message)), "{alerts}: {found:?}");
        }
        let to = "email: { to: 'a@x.net, b', from: e@x.net, server: h }";
        assert!(errors(to).iter().any(|it| it.contains("no mail address")), "{:?}", errors(to));
    }

    #[test]
    fn nobody_in_particular_is_no_mistake() {
        for alerts in [
            "webhook: { url: '' }",
            "webhook: { url: 'http://127.0.0.1:1/x' }",
            "email: { to: '', from: e@x.net, server: 'localhost:2525', encryption: none }",
            "email: { to: '', from: e@x.net, server: h, user: '', password: '' }",
        ] {
            assert_eq!(errors(alerts), Vec::<String>::new(), "{alerts}");
        }
        let mail = errors("email: { to: 'a@x.net,b@x.net', from: e@x.net, server: h }");
        let built = cfg!(feature = "mail");
        assert_eq!(mail.is_empty(), built, "{mail:?}");
        assert!(built || mail[0].contains("built without mail"), "{mail:?}");
    }
}
