//! Pipelines that ask SNMP agents, against net-snmp's own agent: whole runs of a fleet, the
//! example that is polled for good, and what `doctor` and `check` say.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

#[path = "support/snmpd.rs"]
mod snmpd;
mod support;

use std::fmt::Write as _;
use std::time::Duration;

use mock_load_api_server::Faults;
use serde_json::{Value, json};
use snmpd::{Snmpd, User};
use support::serving::{Serving, history};
use support::{Bench, each_exactly_once, mock};

const SECURE: User =
    ("aes-sha256", Some(("SHA-256", "sha256 password")), Some(("AES", "aes password")));

/// Addresses of this machine, each a target; the agent answers from the one it was asked at.
fn inventory(bench: &Bench, targets: usize) {
    let mut csv = "ip,hostname\n".to_owned();
    for target in 0..targets {
        writeln!(csv, "127.0.{}.{},device-{target}", 1 + target / 250, 1 + target % 250).unwrap();
    }
    bench.write("appliances.csv", csv);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_is_polled_and_every_record_arrives_once() {
    const TARGETS: usize = 600;
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    let idle = "override 1.3.6.1.4.1.99999.1.0 octet_str 12.50\n\
                override 1.3.6.1.4.1.99999.2.0 integer 1\n";
    let agent = Snmpd::start(&[SECURE], idle);
    inventory(&bench, TARGETS);
    // An agent that has just started knows its counters after some 8 s, and renews them every 5 s.
    let run = |snmp: &str| {
        let settings = format!("snmp: {{ port: {}, resend: 2s, {snmp} }}", agent.port);
        bench.fleet_with(&settings, &server.url(), "");
        let more = ["--set", "extract.timeout=60s", "--set", "extract.attempts=8"];
        let ran = bench.run(&more).balanced(0);
        assert_eq!((ran.total("extracted"), ran.sink("delivered")), (600, 600));
    };
    let one = "1.3.6.1.4.1.99999.2.0";
    run(&format!(
        "community: public, oids: {{ pidle: 1.3.6.1.4.1.99999.1.0, pnice: {one}, puser: {one}, \
         psys: {one}, pirq: {one} }}"
    ));
    each_exactly_once(&server, TARGETS as u64);
    let records = server.records();
    let record: Value = serde_json::from_slice(&records[0].body).unwrap();
    assert!(record["name"].as_str().unwrap().starts_with("device-"), "{record}");
    let indicators = record["indicators"].as_array().unwrap();
    assert_eq!((indicators.len(), &indicators[0]["value"]), (5, &json!(87.5)));
    run(
        "cpu: ucd, v3: { user: aes-sha256, auth: { protocol: sha256, password: sha256 password }, \
         privacy: { password: aes password } }",
    );
    each_exactly_once(&server, 2 * TARGETS as u64);
}

/// As docs/sources/snmp.md has it, but for the port and the pace.
#[tokio::test(flavor = "multi_thread")]
async fn the_example_asks_for_good() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    let agent = Snmpd::start(&[], "");
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/pipelines/snmp.yaml");
    let args = ["serve", example, "--listen", "127.0.0.1:0", "--set", "extract.every=8s"];
    let mut serve = bench.command(&[&args[..], &["--set", "extract.timeout=7s"]].concat());
    serve
        .env("SNMP_PORT", agent.port.to_string())
        .env("LOAD_URL", format!("{}/load", server.url()))
        .env_remove("SNMP_COMMUNITY");
    let serving = Serving::spawn(serve);
    // Until the agent knows its counters a poll fails, and is none of the server's trouble.
    let patience = Duration::from_secs(120);
    serving.until_within(patience, "it was asked", |_| server.stats().records >= 1);
    assert_eq!(serving.get("/health").0, 200);
    let (code, said) = serving.stop();
    assert_eq!(code, Some(0), "{said}");
    let run = history(&bench, "snmp").pop().unwrap();
    assert_eq!((&run["result"], &run["errors"]), (&json!("stopped"), &json!([])), "{run}");
    each_exactly_once(&server, run["delivered"].as_u64().unwrap());
    let record: Value = serde_json::from_slice(&server.records()[0].body).unwrap();
    assert_eq!((&record["name"], &record["cpu_number"]), (&json!("localhost"), &json!("0")));
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_and_check_say_what_to_do() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    let agent = Snmpd::start(&[SECURE], "sysName some.switch\n");
    inventory(&bench, 1);
    let doctor = |snmp: &str| {
        let settings = format!("snmp: {{ port: {}, {snmp} }}", agent.port);
        bench.fleet_with(&settings, &server.url(), "");
        let ran = bench.etl(&["doctor", "p.yaml", "--set", "extract.timeout=3s"]);
        ran.stdout + &ran.stderr
    };
    let said = doctor("oids: { name: 1.3.6.1.2.1.1.5.0 }");
    assert!(said.contains("device-0 answered with 1 record"), "{said}");
    let said = doctor("oids: { name: 1.3.6.1.2.1.1.5.0 }, community: s3cret-community");
    assert!(said.contains("a wrong community is not answered either"), "{said}");
    assert!(said.contains("check host, port, community or user"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
    let said = doctor("walk: 1.3.6.1.2.1.1, v3: { user: me, auth: { password: s3cret-password } }");
    assert!(said.contains("the agent knows no user me"), "{said}");
    assert!(said.contains("compare extract.snmp.v3 with the users"), "{said}");
    let said = doctor("oids: { name: 1.3.6.1.4.1.99999.1 }");
    assert!(said.contains("`missing: skip` leaves out what it lacks"), "{said}");

    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/sources/snmp.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let example = guide.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    bench.write("p.yaml", example);
    let mut command = bench.command(&["check", "p.yaml"]);
    let checked = command.env("SNMP_COMMUNITY", "s3cret").output().unwrap();
    assert!(checked.status.success(), "{checked:?}");

    let check = |snmp: &str| {
        bench.fleet_with(&format!("snmp: {{ {snmp} }}"), &server.url(), "");
        let ran = bench.etl(&["check", "p.yaml"]).exits(78);
        assert!(!ran.stderr.contains("s3cret"), "{}", ran.stderr);
        ran.stderr
    };
    for (snmp, expected) in [
        ("port: 161", "extract.snmp asks for nothing"),
        ("cpu: ucd, walk: 1.3.6.1", "each makes records of its own"),
        ("cpu: ucds", "did you mean `ucd`"),
        ("cpu: ucd, comunity: s3cret", "did you mean `community`"),
        ("oids: { name: sysName.0 }", "not an object identifier in numbers"),
        ("cpu: ucd, host: \"{ip}/x\"", "is not a host, or host and port"),
        ("cpu: ucd, version: 3", "version 3 of SNMP needs a user"),
        ("cpu: ucd, version: 2c, v3: { user: me }", "version 2c and a user of version 3"),
        ("cpu: ucd, community: s3cret, v3: { user: me }", "which version 3 does not use"),
        ("cpu: ucd, v3: { user: me, auth: { password: s3cret } }", "shorter than 8 characters"),
        (
            "cpu: ucd, v3: { user: me, privacy: { password: s3cret-password } }",
            "privacy without auth",
        ),
        ("oids: { a: 1.3.6.1 }, hex: [b]", "hex names no field"),
        (
            "oids: { a: 1.3.6.1 }, table: { columns: { a: 1.3.6.2 } }",
            "two values for the field `a`",
        ),
    ] {
        let said = check(snmp);
        assert!(said.contains(expected), "{snmp}: {said}");
    }
}
