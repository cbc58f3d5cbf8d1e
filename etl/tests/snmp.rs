//! SNMP extraction against net-snmp's own agent: both versions, every security level, walks
//! beside `snmpbulkwalk`, CPU counters beside `snmpget`, restarts and bad networks.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

#[path = "support/datagrams.rs"]
mod datagrams;
#[path = "support/snmpd.rs"]
mod snmpd;
mod support;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use datagrams::{Datagrams, Trouble};
use etl::batch::Rows;
use etl::extract::{Extractor, Target};
use serde_json::{Value, json};
use snmpd::{Snmpd, User};

const UPTIME: &str = "1.3.6.1.2.1.1.3.0";
const NAME: &str = "1.3.6.1.2.1.1.5.0";

fn extractor(port: u16, snmp: &Value) -> Extractor {
    let mut settings = json!({
        "timeout": "60s", "attempts": 10,
        "snmp": {"host": "{ip}", "port": port, "resend": "2s"},
    });
    for (key, value) in snmp.as_object().unwrap() {
        match key.as_str() {
            "timeout" | "attempts" => settings[key] = value.clone(),
            _ => settings["snmp"][key] = value.clone(),
        }
    }
    Extractor::new(&serde_json::from_value(settings).unwrap()).unwrap()
}

async fn ask(extractor: &Extractor, ip: &str) -> Result<Vec<Value>, String> {
    let target = Target::new(0, json!({"ip": ip}).to_string().into_bytes()).unwrap();
    let mut rows = Rows::default();
    match extractor.extract(&target, &mut rows).await {
        Ok(()) => Ok(rows.iter().map(|row| serde_json::from_slice(row).unwrap()).collect()),
        Err(error) => Err(error.to_string()),
    }
}

async fn rows(port: u16, snmp: Value) -> Result<Vec<Value>, String> {
    ask(&extractor(port, &snmp), "127.0.0.1").await
}

/// A user of ours as `extract.snmp.v3` has it.
fn v3(user: &User) -> Value {
    let ours = |protocol: &str| match protocol {
        "SHA" => "sha1".to_owned(),
        "AES" => "aes128".to_owned(),
        other => other.to_lowercase().replace('-', ""),
    };
    let part = |(protocol, password): (&str, &str)| json!({"protocol": ours(protocol), "password": password});
    let mut v3 = json!({"user": user.0});
    if let Some(auth) = user.1 {
        v3["auth"] = part(auth);
    }
    if let Some(privacy) = user.2 {
        v3["privacy"] = part(privacy);
    }
    v3
}

#[tokio::test]
async fn every_type_of_value_is_what_snmpget_says() {
    let more = "sysName some.switch\nsysContact K\u{f6}ln \"1\"\n\
                override 1.3.6.1.4.1.99999.1.0 integer -42\n\
                override 1.3.6.1.4.1.99999.2.0 uinteger 4294967295\n\
                override 1.3.6.1.4.1.99999.3.0 counter 4000000000\n\
                override 1.3.6.1.4.1.99999.4.0 object_id 1.3.6.1.4.1.8072\n\
                override 1.3.6.1.4.1.99999.5.0 octet_str \"plain\"\n";
    let agent = Snmpd::start(&[], more);
    let oids = json!({
        "name": NAME, "integer": "1.3.6.1.4.1.99999.1.0", "gauge": "1.3.6.1.4.1.99999.2.0",
        "counter": "1.3.6.1.4.1.99999.3.0", "oid": "1.3.6.1.4.1.99999.4.0",
        "text": "1.3.6.1.4.1.99999.5.0", "hexed": ".1.3.6.1.4.1.99999.5.0",
        "address": "1.3.6.1.2.1.4.20.1.1.127.0.0.1", "load": "1.3.6.1.4.1.2021.10.1.6.1",
        "octets": "1.3.6.1.2.1.31.1.1.1.6.1", "uptime": UPTIME, "object": "1.3.6.1.2.1.1.2.0",
        "contact": "1.3.6.1.2.1.1.4.0",
    });
    let found = rows(agent.port, json!({"oids": oids, "hex": ["hexed"]})).await.unwrap();
    let [row] = found.as_slice() else { panic!("{found:?}") };
    for (field, expected) in [
        ("ip", json!("127.0.0.1")),
        ("name", json!("some.switch")),
        ("integer", json!(-42)),
        ("gauge", json!(4_294_967_295u32)),
        ("counter", json!(4_000_000_000u32)),
        ("oid", json!("1.3.6.1.4.1.8072")),
        ("text", json!("plain")),
        ("hexed", json!("70:6c:61:69:6e")),
        ("address", json!("127.0.0.1")),
        ("object", json!("1.3.6.1.4.1.8072.3.2.10")),
        ("contact", json!("K\u{f6}ln \"1\"")),
    ] {
        assert_eq!(row[field], expected, "{field}");
    }
    assert!(row["load"].is_number() && row["octets"].is_u64() && row["uptime"].is_u64(), "{row}");
    let said = agent.tool("snmpget", &["-Oqv"], &["1.3.6.1.4.1.99999.2.0", NAME]);
    assert_eq!(said, ["4294967295", "\"some.switch\""]);

    for ip in ["::1", "localhost", "127.0.7.9"] {
        let extractor = extractor(agent.port, &json!({"oids": {"name": NAME}}));
        let found = ask(&extractor, ip).await.unwrap();
        assert_eq!(found[0]["name"], "some.switch", "{ip}");
    }
    let error = rows(agent.port, json!({"oids": {"x": "1.3.6.1.4.1.99999.9.0"}})).await;
    let error = error.unwrap_err();
    assert!(error.starts_with("the agent has no x, 1.3.6.1.4.1.99999.9.0 (noSuch"), "{error}");
    let skipped = json!({"oids": {"x": "1.3.6.1.4.1.99999.9.0", "y": NAME}, "missing": "skip"});
    let found = rows(agent.port, skipped).await.unwrap();
    assert!(found[0].get("x").is_none() && found[0]["y"] == "some.switch");

    let wrong = json!({"oids": {"name": NAME}, "community": "wrong", "timeout": "2s"});
    assert_eq!(
        rows(agent.port, wrong).await.unwrap_err(),
        "timed out after 2s (no answer from the agent; a wrong community is not answered either)"
    );
}

const USERS: [User; 10] = [
    ("nobody", None, None),
    ("signs-md5", Some(("MD5", "md5 password")), None),
    ("signs", Some(("SHA", "sha1 password")), None),
    ("des", Some(("MD5", "md5 password")), Some(("DES", "des password"))),
    ("aes", Some(("SHA", "sha1 password")), Some(("AES", "aes password"))),
    ("aes-sha256", Some(("SHA-256", "sha256 password")), Some(("AES", "aes password"))),
    ("aes192", Some(("SHA-224", "sha224 password")), Some(("AES-192", "192 password"))),
    ("aes256", Some(("SHA", "sha1 password")), Some(("AES-256", "256 password"))),
    ("cisco", Some(("SHA", "sha1 password")), Some(("AES256C", "256 password"))),
    ("long", Some(("SHA-512", "sha512 password")), Some(("AES", "aes password"))),
];

#[tokio::test]
async fn every_security_level_and_protocol_is_spoken() {
    let agent = Snmpd::start(&USERS, "sysName some.switch\n");
    for user in &USERS {
        let extractor = extractor(agent.port, &json!({"v3": v3(user), "oids": {"name": NAME}}));
        for _ in 0..3 {
            let found = ask(&extractor, "127.0.0.1").await;
            assert_eq!(found.unwrap()[0]["name"], "some.switch", "{user:?}");
        }
        assert!(!format!("{extractor:?}").contains("password"), "{user:?}");
    }
    let walk = json!({"v3": v3(&USERS[5]), "walk": "1.3.6.1.2.1.1"});
    let found = rows(agent.port, walk).await.unwrap();
    assert_eq!(found.len(), agent.tool("snmpbulkwalk", &[], &["1.3.6.1.2.1.1"]).len());
}

#[tokio::test]
async fn what_is_wrong_with_a_user_is_said() {
    let agent = Snmpd::start(&USERS, "");
    let error = async |v3: Value| {
        let settings = json!({"v3": v3, "oids": {"name": NAME}, "timeout": "3s", "attempts": 2});
        let error = rows(agent.port, settings).await.unwrap_err();
        assert!(!error.contains("password\""), "{error}");
        error
    };
    let mut unknown = v3(&USERS[4]);
    unknown["user"] = json!("stranger");
    assert_eq!(
        error(unknown).await,
        "the agent knows no user stranger; create it there, or correct extract.snmp.v3.user"
    );
    for (protocol, password) in [("sha1", "another password"), ("sha256", "sha1 password")] {
        let mut wrong = v3(&USERS[4]);
        wrong["auth"] = json!({"protocol": protocol, "password": password});
        assert_eq!(
            error(wrong).await,
            "the agent refused the signature of user aes; correct protocol or password in \
             extract.snmp.v3.auth"
        );
    }
    let mut wrong = v3(&USERS[4]);
    wrong["privacy"]["password"] = json!("another password");
    let said = error(wrong).await;
    assert!(said.contains("a wrong privacy password or protocol is not answered"), "{said}");
    // A level that the agent has no keys for, and one that it does not allow.
    let mut more = v3(&USERS[2]);
    more["privacy"] = json!({"password": "aes password"});
    let said = error(more).await;
    assert!(said.contains("for another security level"), "{said}");
    let mut less = v3(&USERS[4]);
    less.as_object_mut().unwrap().remove("privacy");
    assert_eq!(error(less).await, "the agent answered authorizationError");
}

/// `rows` rows of three columns, one with gaps.
fn large_table(rows: u32) -> String {
    let mut conf = String::new();
    for row in 1..=rows {
        writeln!(conf, "override 1.3.6.1.4.1.99999.7.1.1.{row} integer {row}").unwrap();
        writeln!(conf, "override 1.3.6.1.4.1.99999.7.1.2.{row} octet_str \"row {row}\"").unwrap();
        if row % 3 != 0 {
            writeln!(conf, "override 1.3.6.1.4.1.99999.7.1.3.{row} counter {}", row * 1000)
                .unwrap();
        }
    }
    conf
}

#[tokio::test]
async fn a_large_table_is_walked_as_snmpbulkwalk_does() {
    const ROWS: u32 = 700;
    let agent = Snmpd::start(&[], &large_table(ROWS));
    let said = agent.tool("snmpbulkwalk", &["-Oq", "-Cr50"], &["1.3.6.1.4.1.99999"]);
    assert_eq!(said.len() as u32, ROWS * 3 - ROWS / 3);
    for repetitions in [1, 25, 1000] {
        let settings = json!({"walk": "1.3.6.1.4.1.99999", "max_repetitions": repetitions});
        let found = rows(agent.port, settings).await.unwrap();
        let ours: Vec<String> = found
            .iter()
            .map(|row| format!(".{} {}", row["oid"].as_str().unwrap(), row["value"]))
            .collect();
        assert_eq!(ours, said);
    }
    let table = json!({"index": "row", "columns": {
        "number": "1.3.6.1.4.1.99999.7.1.1", "label": "1.3.6.1.4.1.99999.7.1.2",
        "counter": "1.3.6.1.4.1.99999.7.1.3",
    }});
    let settings = json!({"table": table, "oids": {"uptime": UPTIME}});
    let found = rows(agent.port, settings).await.unwrap();
    assert_eq!(found.len() as u32, ROWS);
    for (row, at) in found.iter().zip(1u32..) {
        let counter = if at % 3 == 0 { Value::Null } else { json!(at * 1000) };
        assert_eq!((&row["row"], &row["number"]), (&json!(at.to_string()), &json!(at)));
        assert_eq!((&row["label"], &row["counter"]), (&json!(format!("row {at}")), &counter));
        assert!(row["uptime"].is_u64() && row["ip"] == "127.0.0.1");
    }
    // What changes from moment to moment: the same objects, at least.
    for root in ["1.3.6.1.2.1.1", "1.3.6.1.2.1.2", "1.3.6.1.2.1.31", "1.3.6.1.4.1.2021.10"] {
        let said = agent.tool("snmpbulkwalk", &["-Oq"], &[root]);
        let said: Vec<&str> = said
            .iter()
            .filter(|line| line.starts_with(".1."))
            .map(|line| &line[1..line.find(' ').unwrap()])
            .collect();
        let found = rows(agent.port, json!({"walk": root})).await.unwrap();
        let ours: Vec<&str> = found.iter().map(|row| row["oid"].as_str().unwrap()).collect();
        assert_eq!(ours, said, "{root}");
    }
    let error = rows(agent.port, json!({"walk": "1.3.6.1.4.1.99999", "max_rows": 100})).await;
    assert!(error.unwrap_err().contains("raise extract.snmp.max_rows"));
}

/// Idle, nice, user, system, interrupt, soft interrupt, wait, steal.
const COUNTERS: [u32; 8] = [53, 51, 50, 52, 56, 61, 54, 64];

/// The raw counters as `snmpget` sees them.
fn raw(agent: &Snmpd) -> Vec<u64> {
    let oids: Vec<String> =
        COUNTERS.iter().map(|number| format!("1.3.6.1.4.1.2021.11.{number}.0")).collect();
    let oids: Vec<&str> = oids.iter().map(String::as_str).collect();
    agent.tool("snmpget", &["-Oqv"], &oids).iter().map(|line| line.parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn cpu_percentages_are_those_of_the_raw_counters() {
    let agent = Snmpd::start(&[], "");
    let extractor = extractor(agent.port, &json!({"cpu": "ucd", "oids": {"name": NAME}}));
    // The first poll waits until the agent, which has just started, knows its counters.
    let first = ask(&extractor, "127.0.0.1").await.unwrap();
    for row in &first {
        let percent = |name: &str| row[name].as_str().unwrap().parse::<f64>().unwrap();
        let columns = ["pidle", "pnice", "puser", "psys", "pirq", "piowait", "psteal"];
        assert!((99.9..=100.1).contains(&columns.map(percent).iter().sum()), "{row}");
        assert_eq!((&row["cpu_number"], &row["ip"]), (&json!("0"), &json!("127.0.0.1")));
        assert!(row["name"].is_string() && row["timestamp"].is_u64());
    }
    // The agent renews its counters every 5 s, and a poll ends when it has: what snmpget says
    // before it is the base, what it says behind it the end, unless they are renewed just then.
    let mut tries = Vec::new();
    for _ in 0..6 {
        let before = raw(&agent);
        let polled = ask(&extractor, "127.0.0.1").await.unwrap();
        let after = raw(&agent);
        let passed: Vec<f64> =
            after.iter().zip(&before).map(|(after, before)| (after - before) as f64).collect();
        let total: f64 = passed.iter().sum();
        let got = |name: &str| polled[0][name].as_str().unwrap().parse::<f64>().unwrap();
        let off = |name, passed: f64| (got(name) - passed * 100.0 / total).abs();
        let off = [
            off("pidle", passed[0]),
            off("pnice", passed[1]),
            off("puser", passed[2]),
            off("psys", passed[3]),
            off("pirq", passed[4] + passed[5]),
            off("piowait", passed[6]),
            off("psteal", passed[7]),
        ];
        if off.iter().all(|off| *off < 0.02) {
            return;
        }
        tries.push(format!("{passed:?} {}", polled[0]));
    }
    panic!("none agrees with snmpget: {tries:#?}");
}

/// net-snmp has a load only when it has run for a minute, so these are made up.
#[tokio::test]
async fn the_load_of_each_processor_is_a_record() {
    let loads = "override 1.3.6.1.2.1.25.3.3.1.2.196608 integer 37\n\
                 override 1.3.6.1.2.1.25.3.3.1.2.196609 integer 100\n";
    let agent = Snmpd::start(&[], loads);
    let found = rows(agent.port, json!({"cpu": "host_resources"})).await.unwrap();
    let fields = |row: &Value| ["cpu_number", "pload", "pidle"].map(|name| row[name].clone());
    assert_eq!(found.len(), 2);
    assert_eq!(fields(&found[0]), ["0", "37.00", "63.00"]);
    assert_eq!(fields(&found[1]), ["1", "100.00", "0.00"]);

    let agent = Snmpd::start(&[], "");
    let error = rows(agent.port, json!({"cpu": "host_resources"})).await.unwrap_err();
    assert!(error.starts_with("the agent has no hrProcessorLoad, 1.3.6"), "{error}");
}

#[tokio::test]
async fn an_agent_that_restarts_or_is_replaced_is_asked_on() {
    let mut agent = Snmpd::start(&USERS, "sysName some.switch\n");
    let secure = extractor(agent.port, &json!({"v3": v3(&USERS[5]), "oids": {"name": NAME}}));
    let plain = extractor(agent.port, &json!({"oids": {"name": NAME}}));
    for round in 0..3 {
        for extractor in [&secure, &plain] {
            let found = ask(extractor, "127.0.0.1").await.unwrap();
            assert_eq!(found[0]["name"], "some.switch", "round {round}");
        }
        agent.stop();
        if round == 1 {
            // Another machine behind the same address: another engine, that has started once.
            agent.forget_itself();
        }
        agent.start_again();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_network_costs_time_and_nothing_else() {
    let agent = Snmpd::start(&USERS, &format!("sysName some.switch\n{}", large_table(30)));
    let trouble = Trouble { lose: 0.15, double: 0.2, delay: Duration::from_millis(150) };
    let proxy = Datagrams::start(([127, 0, 0, 1], agent.port).into(), trouble).await;
    let settings = [
        json!({"oids": {"name": NAME}}),
        json!({"v3": v3(&USERS[5]), "oids": {"name": NAME}}),
        json!({"walk": "1.3.6.1.4.1.99999.7.1.1", "max_repetitions": 7}),
    ];
    let mut polls = tokio::task::JoinSet::new();
    for (kind, mut settings) in settings.into_iter().enumerate() {
        (settings["resend"], settings["attempts"]) = (json!("100ms"), json!(50));
        let extractor = Arc::new(extractor(proxy.port, &settings));
        for _ in 0..60 {
            let extractor = Arc::clone(&extractor);
            polls.spawn(async move { (kind, ask(&extractor, "127.0.0.1").await) });
        }
    }
    while let Some(polled) = polls.join_next().await {
        let (kind, found) = polled.unwrap();
        let found = found.unwrap();
        if kind < 2 {
            assert_eq!(found[0]["name"], "some.switch");
        } else {
            let values: Vec<u64> = found.iter().map(|row| row["value"].as_u64().unwrap()).collect();
            assert_eq!(values, (1..=30).collect::<Vec<u64>>());
        }
    }
    assert!(proxy.lost.load(Relaxed) > 50 && proxy.doubled.load(Relaxed) > 50);
}
