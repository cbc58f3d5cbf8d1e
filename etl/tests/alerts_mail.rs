//! Alerts by mail, through a real mail server with TLS and logins: they arrive once, and a
//! server that is not whom it says, or does not know us, gets neither password nor mail.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "support/api.rs"]
mod api;
mod support;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use api::{Api, answer, ok, records};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;
use support::serving::Serving;
use support::{Bench, Ran, files::python, wait_until};

/// Prints each mail, and each login that is tried, as a JSON line.
const SERVER: &str = r#"
import email, email.policy, json, logging, ssl, sys, warnings
logging.disable()
warnings.simplefilter("ignore")
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
port, encryption, cert, key = sys.argv[1:]
def say(**what): print(json.dumps(what), flush=True)
class Keep:
    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        say(to=envelope.rcpt_tos, sender=envelope.mail_from, subject=mail['subject'],
            text=mail.get_content(), tls=session.ssl is not None or encryption == 'implicit',
            logged_in=session.authenticated)
        return '250 taken'
def login(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (b'me', b's3cret-pw')
    say(login=data.login.decode(), good=good)
    return AuthResult(success=good, handled=False)
settings = dict(hostname='127.0.0.1', port=int(port), authenticator=login)
if encryption != 'none':
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    settings['auth_required'] = True
if encryption == 'starttls':
    settings.update(tls_context=tls, require_starttls=True)
elif encryption == 'implicit':
    settings.update(ssl_context=tls, auth_require_tls=False)
Controller(Keep(), **settings).start()
say(ready=True)
sys.stdin.read()
"#;

/// A mail server; it ends with this.
struct Mail {
    process: Child,
    said: Arc<Mutex<Vec<Value>>>,
}

impl Mail {
    /// A server with the certificate of `bench`.
    fn start(bench: &Bench, port: u16, encryption: &str) -> Mail {
        let (cert, key) = (bench.path("cert.pem"), bench.path("key.pem"));
        let mut command = python();
        command.args(["-c", SERVER, &port.to_string(), encryption]).args([cert, key]);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let said = Arc::<Mutex<Vec<Value>>>::default();
        let heard = said.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                heard.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        let mail = Mail { process, said };
        wait_until("the mail server listens", || !mail.said.lock().unwrap().is_empty());
        mail
    }

    fn all(&self, key: &str) -> Vec<Value> {
        let said = self.said.lock().unwrap();
        said.iter().filter(|it| it.get(key).is_some()).cloned().collect()
    }

    /// Mails that arrived.
    fn mails(&self) -> Vec<Value> {
        self.all("subject")
    }

    /// Logins that were tried.
    fn logins(&self) -> usize {
        self.all("login").len()
    }
}

impl Drop for Mail {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// A port that nobody listens on now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Writes the authority `NAME.pem` and gives it.
fn authority(bench: &Bench, name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    bench.write(&format!("{name}.pem"), issuer.pem());
    issuer
}

/// A bench with a certificate for `host`, signed by `ours.pem`, and an authority `other.pem`.
fn bench_with_certificate(host: &str) -> Bench {
    let bench = Bench::new();
    let ours = authority(&bench, "ours");
    authority(&bench, "other");
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![host.to_owned()]).unwrap();
    bench.write("cert.pem", certificate.signed_by(&key, &ours).unwrap().pem());
    bench.write("key.pem", key.serialize_pem());
    bench
}

/// An API that fails while `broken` is not 0.
fn source(broken: &Arc<AtomicUsize>) -> Api {
    let broken = broken.clone();
    Api::start(move |_| match broken.load(SeqCst) {
        0 => ok(records(0..3)),
        _ => answer("404 Not Found", ""),
    })
}

fn pipeline(bench: &Bench, api: &Api, port: u16, encryption: &str, ca: &str, password: &str) {
    let text = format!(
        "name: p\nschedule: '@every 1s'\nsource:\n  rest:\n    url: {}\n    conditional: false\n    \
         retry: {{ attempts: 1 }}\nload:\n  - file: {{}}\nalerts:\n  group: 0s\n  timeout: 10s\n  \
         email:\n    to: \"${{ALERT_EMAIL:-ops@example.net, boss@example.net}}\"\n    \
         from: etl@example.net\n    server: 127.0.0.1:{port}\n    encryption: {encryption}\n    \
         user: me\n    password: {password}\n    tls: {{ ca: ../{ca} }}\n",
        api.url("/")
    );
    // Beside it is nothing: paths in a file are from the file on.
    bench.write("pipes/p.yaml", text);
}

fn run(bench: &Bench) -> Ran {
    bench.etl(&["run", "pipes/p.yaml", "--json"])
}

#[test]
fn a_mail_arrives_once_encrypted_and_logged_in_and_one_more_at_the_end() {
    for encryption in ["starttls", "implicit"] {
        let (bench, port) = (bench_with_certificate("127.0.0.1"), free_port());
        let mail = Mail::start(&bench, port, encryption);
        let broken = Arc::new(AtomicUsize::new(1));
        let api = source(&broken);
        pipeline(&bench, &api, port, encryption, "ours.pem", "s3cret-pw");
        let ran = run(&bench).exits(69);
        assert_eq!(mail.mails().len(), 1, "{encryption}: {}", ran.stderr);
        let first = mail.mails().remove(0);
        assert_eq!(first["to"], serde_json::json!(["ops@example.net", "boss@example.net"]));
        assert_eq!((&first["tls"], &first["logged_in"]), (&true.into(), &true.into()), "{first}");
        assert_eq!(first["sender"], "etl@example.net");
        let subject = first["subject"].as_str().unwrap();
        assert!(subject.starts_with("etl ") && subject.ends_with(": 1 new (p)"), "{first}");
        let text = first["text"].as_str().unwrap();
        assert!(text.contains("NEW       p: run ") && text.contains("answered 404"), "{text}");
        run(&bench).exits(69);
        assert_eq!(mail.mails().len(), 1);
        broken.store(0, SeqCst);
        run(&bench).exits(0);
        assert!(mail.mails()[1]["subject"].as_str().unwrap().ends_with("1 resolved (p)"));
        run(&bench).exits(0);
        assert_eq!(mail.mails().len(), 2);

        let mut doctor = bench.command(&["doctor", "pipes/p.yaml", "--alert"]);
        let ran = Ran::from(doctor.env("ALERT_EMAIL", "me@example.net").output().unwrap());
        assert!(ran.exits(0).stdout.contains("a test message was taken"));
        assert_eq!(mail.mails()[2]["to"], serde_json::json!(["me@example.net"]));
        let ran = bench.etl(&["doctor", "pipes/p.yaml"]).exits(0);
        assert!(ran.stdout.contains("answers and takes the login"), "{}", ran.stdout);
        assert_eq!(mail.mails().len(), 3);
    }
}

/// What goes wrong is said in words, without the password, and the run is what it was.
#[test]
fn a_server_that_cannot_be_trusted_gets_nothing() {
    for (server, host, encryption, ca, password, logins, words) in [
        ("starttls", "127.0.0.1", "starttls", "other.pem", "s3cret-pw", 0, "tls.ca"),
        ("implicit", "127.0.0.1", "implicit", "other.pem", "s3cret-pw", 0, "tls.ca"),
        ("starttls", "192.0.2.7", "starttls", "ours.pem", "s3cret-pw", 0, "tls.ca"),
        ("none", "127.0.0.1", "starttls", "ours.pem", "s3cret-pw", 0, "STARTTLS"),
        (
            "starttls",
            "127.0.0.1",
            "starttls",
            "ours.pem",
            "s3cret-no",
            1,
            "email.user and password",
        ),
    ] {
        let (bench, port) = (bench_with_certificate(host), free_port());
        let mail = Mail::start(&bench, port, server);
        let api = source(&Arc::new(AtomicUsize::new(0)));
        pipeline(&bench, &api, port, encryption, ca, password);
        let case = format!("{server} for {host} by {ca} with {password}");
        let ran = bench.etl(&["doctor", "pipes/p.yaml"]).exits(69);
        assert!(ran.stdout.contains("FAIL  email"), "{case}: {}", ran.stdout);
        assert!(ran.stdout.contains(words), "{case}: {}", ran.stdout);
        assert_eq!((mail.logins(), mail.mails().len()), (logins, 0), "{case}");
        assert!(!ran.stdout.contains("s3cret"), "{}", ran.stdout);
    }
    let (bench, port) = (bench_with_certificate("127.0.0.1"), free_port());
    let mail = Mail::start(&bench, port, "starttls");
    let api = source(&Arc::new(AtomicUsize::new(1)));
    pipeline(&bench, &api, port, "starttls", "other.pem", "s3cret-pw");
    let ran = run(&bench).exits(69);
    assert!(ran.stderr.contains("an alert could not be sent"), "{}", ran.stderr);
    let log = std::fs::read_to_string(bench.path("logs/etl.log")).unwrap();
    assert!(!ran.stderr.contains("s3cret") && !log.contains("s3cret"), "{log}");
    assert!(mail.mails().is_empty());
}

#[test]
fn a_mail_server_that_is_down_is_told_when_it_is_up() {
    let (bench, port) = (bench_with_certificate("127.0.0.1"), free_port());
    let api = source(&Arc::new(AtomicUsize::new(1)));
    pipeline(&bench, &api, port, "starttls", "ours.pem", "s3cret-pw");
    let serving = Serving::start(&bench, "pipes/p.yaml", &[]);
    let metric = |name: &str| serving.metric(&format!("{name}{{channel=\"email\"}}")).unwrap();
    serving.until("attempts fail", |_| metric("etl_alert_failures_total") >= 2.0);
    let mail = Mail::start(&bench, port, "starttls");
    serving.until("it is told", |_| metric("etl_alert_messages_total") == 1.0);
    let runs = serving.runs("p");
    serving.until("more runs fail", |it| it.runs("p") >= runs + 2);
    assert_eq!(mail.mails().len(), 1, "{:?}", mail.mails());
    let (code, said) = serving.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
}
