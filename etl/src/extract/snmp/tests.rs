//! Agents that misbehave: they send garbage, wrong numbers, from elsewhere, twice, in
//! circles. Real agents are met in `tests/snmp.rs` and `tests/snmp_fleet.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::message::{Envelope, Scoped, community_message, flag, read_community_message};
use super::oid::Oid;
use super::pdu::{Binding, Kind, Pdu, Value};
use crate::batch::Rows;
use crate::extract::{Extractor, Target};

/// An agent in a thread: `act` gets each datagram with its number from 0, and sends what it
/// likes. Ends when the test drops it.
struct Agent {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Agent {
    fn start(act: impl Fn(usize, &[u8], &dyn Fn(&[u8]), SocketAddr) + Send + 'static) -> Agent {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut buffer = [0; 65_535];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).unwrap();
                if length == 0 {
                    return;
                }
                let send =
                    |bytes: &[u8]| assert_eq!(socket.send_to(bytes, from).unwrap(), bytes.len());
                act(count.fetch_add(1, SeqCst), &buffer[..length], &send, from);
            }
        });
        Agent { address, asked }
    }

    /// One that answers each request of version 2c with what `answer` makes of it.
    fn answering(answer: impl Fn(Pdu) -> Pdu + Send + 'static) -> Agent {
        Agent::start(move |_, datagram, send, _| {
            let (community, pdu) = read_community_message(datagram).unwrap();
            assert_eq!(community, b"s3cret");
            send(&community_message(community, &answer(pdu)));
        })
    }

    fn extractor(&self, snmp: Json) -> Extractor {
        let mut settings = json!({
            "timeout": "20s", "attempts": 3,
            "snmp": {"host": "{ip}", "port": self.address.port(), "resend": "100ms"},
        });
        if snmp.get("v3").is_none() {
            settings["snmp"]["community"] = json!("s3cret");
        }
        for (key, value) in snmp.as_object().unwrap() {
            match key.as_str() {
                "timeout" | "attempts" => settings[key] = value.clone(),
                _ => settings["snmp"][key] = value.clone(),
            }
        }
        Extractor::new(&serde_json::from_value(settings).unwrap()).unwrap()
    }

    async fn extract(&self, snmp: Json) -> Result<Vec<Json>, String> {
        extract(&self.extractor(snmp)).await
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let end = UdpSocket::bind("127.0.0.1:0").unwrap();
        end.send_to(&[], self.address).unwrap();
    }
}

async fn extract(extractor: &Extractor) -> Result<Vec<Json>, String> {
    let target = Target::new(0, br#"{"ip":"127.0.0.1"}"#.to_vec()).unwrap();
    let mut rows = Rows::default();
    match extractor.extract(&target, &mut rows).await {
        Ok(()) => Ok(rows.iter().map(|row| serde_json::from_slice(row).unwrap()).collect()),
        Err(error) => Err(error.to_string()),
    }
}

fn oid(text: &str) -> Oid {
    Oid::parse(text).unwrap()
}

/// The answer that gives every object the same value.
fn answer(asked: Pdu, value: &Value) -> Pdu {
    let bindings = asked.bindings.into_iter();
    let bindings = bindings.map(|binding| Binding { oid: binding.oid, value: value.clone() });
    Pdu { kind: Kind::Response, status: 0, index: 0, bindings: bindings.collect(), ..asked }
}

fn name() -> Json {
    json!({"oids": {"name": "1.3.6.1.2.1.1.5.0"}})
}

#[tokio::test]
async fn only_the_right_answer_from_the_right_place_is_taken() {
    let agent = Agent::start(|_, datagram, send, from| {
        let (community, pdu) = read_community_message(datagram).unwrap();
        let id = pdu.request;
        let good = answer(pdu, &Value::Octets(b"good".to_vec()));
        let bad = answer(good.clone(), &Value::Octets(b"bad".to_vec()));
        let elsewhere = UdpSocket::bind("127.0.0.1:0").unwrap();
        elsewhere.send_to(&community_message(community, &bad), from).unwrap();
        send(&[]);
        send(b"garbage");
        send(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 2, 1, 1]);
        send(&community_message(community, &Pdu { request: id.wrapping_add(1), ..bad.clone() }));
        send(&community_message(b"public", &bad));
        send(&community_message(community, &Pdu { kind: Kind::Report, ..bad }));
        send(&community_message(community, &good));
        send(&community_message(community, &good));
    });
    let extractor = agent.extractor(name());
    for _ in 0..3 {
        let rows = extract(&extractor).await.unwrap();
        assert_eq!(rows[0]["name"], "good");
    }
}

#[tokio::test]
async fn a_flood_of_garbage_changes_nothing() {
    let agent = Agent::start(|number, datagram, send, _| {
        for n in 0..2_000u32 {
            send(&[0x30, 6, 2, 1, 1, 4, 0, n as u8]);
        }
        // What the flood crowds out is asked for again.
        if number > 0 {
            let (community, pdu) = read_community_message(datagram).unwrap();
            send(&community_message(community, &answer(pdu, &Value::Integer(7))));
        }
    });
    let rows = agent.extract(json!({"oids": {"x": "1.3.6.1.2"}, "attempts": 50})).await.unwrap();
    assert_eq!(rows[0]["x"], 7);
}

#[tokio::test]
async fn what_is_lost_is_asked_again_and_no_more_often_than_said() {
    let agent = Agent::start(|number, datagram, send, _| {
        if number == 2 {
            let (community, pdu) = read_community_message(datagram).unwrap();
            send(&community_message(community, &answer(pdu, &Value::Integer(7))));
        }
    });
    let rows = agent.extract(name()).await.unwrap();
    assert_eq!((rows[0]["name"].clone(), agent.asked.load(SeqCst)), (json!(7), 3));

    let silent = Agent::start(|_, _, _, _| {});
    let started = Instant::now();
    let mut settings = name();
    settings["timeout"] = json!("1s");
    let error = silent.extract(settings).await.unwrap_err();
    assert_eq!(
        error,
        "timed out after 1s (no answer from the agent; a wrong community is not answered either)"
    );
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(silent.asked.load(SeqCst), 3);
}

#[tokio::test]
async fn an_answer_from_another_address_is_named() {
    let agent = Agent::start(|_, datagram, _, from| {
        let (community, pdu) = read_community_message(datagram).unwrap();
        let elsewhere = UdpSocket::bind("127.0.0.1:0").unwrap();
        let message = community_message(community, &answer(pdu, &Value::Integer(7)));
        elsewhere.send_to(&message, from).unwrap();
    });
    let mut settings = name();
    settings["timeout"] = json!("1s");
    let error = agent.extract(settings).await.unwrap_err();
    assert!(error.contains("an answer came from 127.0.0.1:"), "{error}");
    assert!(error.contains(&format!("instead of {}", agent.address)), "{error}");
}

#[tokio::test]
async fn errors_name_the_object() {
    let failing = |status, index| {
        Agent::answering(move |pdu| Pdu { kind: Kind::Response, status, index, ..pdu })
    };
    let error = failing(5, 1).extract(name()).await.unwrap_err();
    assert_eq!(error, "the agent answered genErr at 1.3.6.1.2.1.1.5.0");
    let error = failing(16, 0).extract(name()).await.unwrap_err();
    assert_eq!(error, "the agent answered authorizationError");
    let error = failing(99, 7).extract(json!({"walk": "1.3.6"})).await.unwrap_err();
    assert_eq!(error, "the agent answered error 99");

    let missing = Agent::answering(|pdu| answer(pdu, &Value::NoSuchInstance));
    let error = missing.extract(name()).await.unwrap_err();
    assert_eq!(error, "the agent has no name, 1.3.6.1.2.1.1.5.0 (noSuchInstance)");
    let mut skip = name();
    skip["missing"] = json!("skip");
    let rows = missing.extract(skip).await.unwrap();
    assert!(rows[0].get("name").is_none() && rows[0]["ip"] == "127.0.0.1");
    let error = missing.extract(json!({"cpu": "ucd"})).await.unwrap_err();
    assert_eq!(error, "the agent has no ssCpuRawIdle, 1.3.6.1.4.1.2021.11.53.0 (noSuchInstance)");

    let others = Agent::answering(|pdu| {
        let mut answer = answer(pdu, &Value::Integer(1));
        answer.bindings[0].oid = oid("1.3.6.1.2.1.1.6.0");
        answer
    });
    let error = others.extract(name()).await.unwrap_err();
    assert!(error.contains("other objects"), "{error}");
}

/// An agent with so many rows below 1.3.6.1.9.1 that gives at most `most` at once, and then
/// goes on to 1.3.6.1.9.2.
fn table(rows: u32, most: usize) -> Agent {
    Agent::answering(move |pdu| {
        assert_eq!(pdu.kind, Kind::GetBulk);
        let repetitions = usize::try_from(pdu.index).unwrap();
        if repetitions > most {
            return Pdu { kind: Kind::Response, status: 1, index: 0, bindings: vec![], ..pdu };
        }
        let root = oid("1.3.6.1.9.1");
        let last = pdu.bindings[0].oid.below(&root).and_then(<[u32]>::first).copied();
        let next = last.unwrap_or_default() + 1..=rows;
        let mut bindings: Vec<Binding> = next
            .take(repetitions)
            .map(|row| Binding { oid: root.child(&[row]), value: Value::Counter32(row) })
            .collect();
        if bindings.len() < repetitions {
            bindings.push(Binding { oid: oid("1.3.6.1.9.2.1"), value: Value::EndOfMibView });
        }
        Pdu { kind: Kind::Response, status: 0, index: 0, bindings, ..pdu }
    })
}

#[tokio::test]
async fn a_walk_asks_for_less_when_the_answer_is_too_big() {
    for (most, repetitions) in [(1000, 25), (7, 25), (1, 1000)] {
        let settings = json!({"walk": "1.3.6.1.9.1", "max_repetitions": repetitions});
        let rows = table(100, most).extract(settings).await.unwrap();
        let values: Vec<u64> = rows.iter().map(|row| row["value"].as_u64().unwrap()).collect();
        assert_eq!(values, (1..=100).collect::<Vec<u64>>());
        assert_eq!(rows[4]["oid"], "1.3.6.1.9.1.5");
        assert_eq!(rows[4]["type"], "Counter32");
    }
    let error = table(9, 0).extract(json!({"walk": "1.3.6.1.9.1"})).await.unwrap_err();
    assert_eq!(error, "the agent answered tooBig");
    let error = table(100, 1000).extract(json!({"walk": "1.3.6.1.9.1", "max_rows": 99})).await;
    assert!(error.unwrap_err().starts_with("more than 99 objects below 1.3.6.1.9.1;"));
}

#[tokio::test]
async fn a_get_is_halved_when_the_answer_is_too_big() {
    let agent = Agent::answering(|pdu| match pdu.bindings.len() {
        0..=3 => {
            let mut all = answer(pdu, &Value::Null);
            for binding in &mut all.bindings {
                binding.value = Value::Oid(binding.oid.clone());
            }
            all
        }
        _ => Pdu { kind: Kind::Response, status: 1, index: 0, bindings: vec![], ..pdu },
    });
    let oids: serde_json::Map<String, Json> =
        (1..=90).map(|n| (format!("f{n}"), json!(format!("1.3.6.1.9.{n}")))).collect();
    let rows = agent.extract(json!({"oids": oids})).await.unwrap();
    for n in 1..=90 {
        assert_eq!(rows[0][format!("f{n}")], format!("1.3.6.1.9.{n}"));
    }
}

#[tokio::test]
async fn a_walk_in_circles_ends_with_its_place() {
    let agent = Agent::answering(|pdu| {
        let mut all = answer(pdu, &Value::Integer(1));
        all.bindings[0].oid = oid("1.3.6.1.9.5");
        all
    });
    let error = agent.extract(json!({"walk": "1.3.6.1.9"})).await.unwrap_err();
    assert_eq!(
        error,
        "the agent goes in a circle below 1.3.6.1.9: 1.3.6.1.9.5 follows 1.3.6.1.9.5"
    );
    assert_eq!(agent.asked.load(SeqCst), 2);
}

/// What goes on when the network forges reports and answers: nothing of it is believed
/// without a signature.
#[tokio::test]
async fn an_unsigned_clock_or_answer_is_not_believed() {
    let agent = Agent::start(|_, datagram, send, _| {
        let (asked, _) = Envelope::decode(datagram).unwrap();
        let scoped = Scoped::decode(asked.data).unwrap();
        let engine = b"an engine";
        let reply = |kind, object: &str, boots| {
            let value = Value::Counter32(1);
            let bindings = vec![Binding { oid: oid(object), value }];
            let pdu = Pdu { kind, status: 0, index: 0, bindings, ..scoped.pdu.clone() };
            let data = Scoped { engine, context: b"", pdu }.encode();
            let forged = Envelope { flags: 0, engine, boots, data: &data, ..asked.clone() };
            send(&Envelope { digest: &[], salt: &[], ..forged }.encode().0);
        };
        if asked.engine.is_empty() {
            reply(Kind::Report, "1.3.6.1.6.3.15.1.1.4.0", 3);
            return;
        }
        assert_eq!((asked.boots, asked.flags), (3, flag::AUTH | flag::REPORTABLE));
        reply(Kind::Report, "1.3.6.1.6.3.15.1.1.2.0", 9);
        reply(Kind::Response, "1.3.6.1.2.1.1.5.0", 3);
        let mut tampered = datagram.to_vec();
        *tampered.last_mut().unwrap() ^= 1;
        send(&tampered);
    });
    let auth = json!({"protocol": "sha256", "password": "a long password"});
    let mut settings = json!({"v3": {"user": "me", "auth": auth}, "timeout": "2s"});
    settings["oids"] = name()["oids"].clone();
    let extractor = agent.extractor(settings);
    for _ in 0..2 {
        let error = extract(&extractor).await.unwrap_err();
        assert_eq!(error, "timed out after 2s (no answer from the agent)");
    }
    // The engine was asked for once; each poll then sent its request three times.
    assert_eq!(agent.asked.load(SeqCst), 7);
    assert!(!format!("{extractor:?}").contains("long password"));
}

/// A runtime that ends takes the socket with it; the next one opens another.
#[test]
fn an_extractor_outlives_the_runtime_that_first_used_it() {
    let agent = Agent::answering(|pdu| answer(pdu, &Value::Integer(7)));
    let extractor = agent.extractor(name());
    for _ in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let rows = runtime.block_on(extract(&extractor)).unwrap();
        assert_eq!(rows[0]["name"], 7);
    }
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let refused = |snmp: Json, timeout: &str| {
        let config = serde_json::from_value(json!({"timeout": timeout, "snmp": snmp})).unwrap();
        Extractor::new(&config).unwrap_err().to_string()
    };
    for (snmp, expected) in [
        (json!({}), "extract.snmp: nothing is asked for; give cpu, oids, table or walk"),
        (json!({"walk": "x"}), "extract.snmp.walk: it is not an object identifier in numbers"),
        (json!({"oids": {"a": "1"}}), "extract.snmp.oids.a: it is not an object identifier"),
        (json!({"walk": "1.3", "host": "{a}/b"}), "extract.snmp.host: a host, or host:port"),
        (json!({"walk": "1.3", "host": "{a"}), "extract.snmp.host: a { is not closed"),
        (json!({"walk": "1.3", "cpu": "ucd"}), "extract.snmp: cpu, table, walk: give one"),
        (json!({"cpu": "ucd", "sample_interval": "9s"}), "extract.snmp.sample_interval: 9s leaves"),
    ] {
        let error = refused(snmp, "8s");
        assert!(error.starts_with(expected), "{error}");
    }
}
