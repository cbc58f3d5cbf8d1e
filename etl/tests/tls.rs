//! Certificates that must not be trusted: everything stays in the spool and the
//! reason is said in words; with the right certificate all of it is delivered.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use mock_load_api_server::Faults;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use support::{Bench, each_exactly_once, mock};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

const RECORDS: u64 = 40;

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// The server side of a certificate for `name`, valid in the years given.
fn acceptor(issuer: &Issuer, name: &str, years: (i32, i32)) -> TlsAcceptor {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// A door with a certificate in front of the API; `None` answers without TLS.
struct Door {
    address: SocketAddr,
    acceptor: Arc<Mutex<Option<TlsAcceptor>>>,
}

impl Door {
    async fn open(api: SocketAddr) -> Door {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = Arc::new(Mutex::new(None::<TlsAcceptor>));
        let shared = acceptor.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = shared.lock().unwrap().clone();
                tokio::spawn(pass(stream, acceptor, api));
            }
        });
        Door { address, acceptor }
    }

    fn show(&self, acceptor: TlsAcceptor) {
        *self.acceptor.lock().unwrap() = Some(acceptor);
    }
}

/// Passes one connection on to the API, if the client agrees to the certificate.
async fn pass(mut stream: TcpStream, acceptor: Option<TlsAcceptor>, api: SocketAddr) {
    let Ok(mut api) = TcpStream::connect(api).await else { return };
    match acceptor {
        Some(acceptor) => {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            tokio::io::copy_bidirectional(&mut stream, &mut api).await.ok();
        }
        None => {
            tokio::io::copy_bidirectional(&mut stream, &mut api).await.ok();
        }
    }
}

/// Certificates that are refused, with the words that people read.
fn refused(trusted: &Issuer) -> Vec<(&'static str, Option<TlsAcceptor>, &'static str)> {
    let other = authority("somebody else");
    vec![
        ("expired", Some(acceptor(trusted, "localhost", (2020, 2021))), "certificate expired"),
        ("not yet", Some(acceptor(trusted, "localhost", (2100, 2101))), "not valid yet"),
        ("wrong host", Some(acceptor(trusted, "example.org", (2020, 2100))), "other name"),
        ("untrusted", Some(acceptor(&other, "localhost", (2020, 2100))), "not trusted"),
        ("no tls", None, "does not speak TLS"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_must_not_be_trusted_keeps_everything_until_there_is_a_right_one() {
    let trusted = authority("the right one");
    for (what, shown, says) in refused(&trusted) {
        for workers in [1, 10] {
            let server = mock(Faults::default()).await;
            let door = Door::open(server.addr()).await;
            if let Some(shown) = shown.clone() {
                door.show(shown);
            }
            let bench = Bench::new();
            bench.write("ca.pem", trusted.pem());
            bench.inventory(RECORDS as usize);
            let url = format!("https://localhost:{}", door.address.port());
            bench.fleet(&url, &format!("workers: {workers}\nbatch: {{ records: 10 }}"));
            let trust = ["--set", "load.0.http.tls.ca=ca.pem"];
            let ran = bench.run(&trust).exits(75);
            assert_eq!(ran.sink("spooled"), RECORDS, "{what}");
            assert_eq!(ran.json()["balanced"], true, "{what}");
            assert_eq!(server.stats().requests, 0, "{what}: the API saw something");
            assert!(ran.stderr.contains(says), "{what}, `{says}`: {}", ran.stderr);

            door.show(acceptor(&trusted, "localhost", (2020, 2100)));
            bench.inventory(0);
            bench.run(&trust).exits(0);
            each_exactly_once(&server, RECORDS);
        }
    }
}

/// Without `tls.ca` only the system's authorities count.
#[tokio::test(flavor = "multi_thread")]
async fn an_authority_of_ones_own_must_be_named() {
    let (own, server) = (authority("own"), mock(Faults::default()).await);
    let door = Door::open(server.addr()).await;
    door.show(acceptor(&own, "localhost", (2020, 2100)));
    let bench = Bench::new();
    bench.write("ca.pem", own.pem());
    bench.inventory(RECORDS as usize);
    bench.fleet(&format!("https://localhost:{}", door.address.port()), "");
    let ran = bench.run(&[]).exits(75);
    assert_eq!((ran.sink("spooled"), server.stats().requests), (RECORDS, 0));
    let log = std::fs::read_to_string(bench.path("logs/etl.log")).unwrap();
    assert!(log.contains("certificate not trusted"), "{log}");

    // A file that holds no authority is refused before anything starts.
    bench.write("empty.pem", "");
    let refused = bench.run(&["--set", "load.0.http.tls.ca=empty.pem"]);
    assert_eq!(refused.code, Some(78), "{}", refused.stderr);
    assert!(refused.stderr.contains("empty.pem"), "{}", refused.stderr);

    bench.inventory(0);
    bench.run(&["--set", "load.0.http.tls.ca=ca.pem"]).exits(0);
    each_exactly_once(&server, RECORDS);
}
