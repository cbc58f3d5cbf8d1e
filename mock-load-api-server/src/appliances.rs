//! Mock appliances: the CPU statistics of any host, as JSON with string fields or as
//! node_exporter text. The values follow from seed and host alone; only time moves on.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::{Response, StatusCode};
use serde_json::json;

use crate::app::App;
use crate::faults::Faults;
use crate::hash::{self, fingerprint};
use crate::reply::{self, ReplyBody};

/// node_exporter's own media type.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";
const CPUS: u32 = 4;
/// When every appliance was last started: 2025-01-01, so that counters grow across restarts.
const BOOTED: Duration = Duration::from_secs(1_735_689_600);
const HOST_BYTES_MAX: usize = 253;

// What is derived from seed and host; the CPUs follow from `CPU` on.
const DELAY: u64 = 1;
const FAILS: u64 = 2;
const CPU: u64 = 100;

/// What is asked of which host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    Cpu(&'a str),
    Metrics(&'a str),
}

/// The target of `/appliances/{host}/cpu` or `/metrics`, if the host can be one.
pub(crate) fn target(path: &str) -> Option<Target<'_>> {
    let (host, what) = path.strip_prefix("/appliances/")?.split_once('/')?;
    match what {
        _ if !is_host(host) => None,
        "cpu" => Some(Target::Cpu(host)),
        "metrics" => Some(Target::Metrics(host)),
        _ => None,
    }
}

fn is_host(host: &str) -> bool {
    if host.contains(':') {
        return host.parse::<Ipv6Addr>().is_ok();
    }
    if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return host.parse::<Ipv4Addr>().is_ok();
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.len() <= HOST_BYTES_MAX && host.split('.').all(label)
}

/// Answers for an appliance, after its delay.
pub(crate) async fn answer(app: &App, target: Target<'_>) -> Response<ReplyBody> {
    app.ledger.count_source_request();
    let faults = app.faults();
    let (Target::Cpu(host) | Target::Metrics(host)) = target;
    let id = fingerprint(host.as_bytes());
    let delay = faults.appliance_delay.at(hash::draw(faults.seed, id, DELAY));
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    if hash::draw(faults.seed, id, FAILS) < faults.appliance_fail {
        return reply::failure(StatusCode::SERVICE_UNAVAILABLE, &faults);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(BOOTED);
    match target {
        Target::Cpu(_) => cpu(&faults, id, now),
        Target::Metrics(_) => {
            reply::with_type(StatusCode::OK, EXPOSITION, metrics(&faults, id, now))
        }
    }
}

/// How one CPU spends its time, in hundredths of a percent; together 10,000.
struct Shares {
    idle: u32,
    user: u32,
    system: u32,
    irq: u32,
    nice: u32,
}

fn shares(seed: u64, id: u128, cpu: u32) -> Shares {
    let mut random = fastrand::Rng::with_seed(hash::mix(seed, id, CPU + u64::from(cpu)));
    let user = random.u32(50..4000);
    let system = random.u32(20..2500);
    let irq = random.u32(0..150);
    let nice = random.u32(0..400);
    Shares { idle: 10_000 - user - system - irq - nice, user, system, irq, nice }
}

fn cpu(faults: &Faults, id: u128, now: Duration) -> Response<ReplyBody> {
    let Shares { idle, user, system, irq, nice } = shares(faults.seed, id, 0);
    let percent = |share: u32| format!("{}.{:02}", share / 100, share % 100);
    let body = json!({
        "cpu_number": "0",
        "pidle": percent(idle),
        "puser": percent(user),
        "psys": percent(system),
        "pirq": percent(irq),
        "pnice": percent(nice),
        "timestamp": now.as_secs(),
    });
    reply::json(StatusCode::OK, &body)
}

/// Counters of an appliance that has spent its time the same way ever since it was started,
/// so that any two samples give the percentages that `/cpu` shows for CPU 0.
fn metrics(faults: &Faults, id: u128, now: Duration) -> String {
    let uptime = now.saturating_sub(BOOTED).as_secs_f64();
    let mut text = String::with_capacity(4096);
    text.push_str(
        "# HELP node_cpu_seconds_total Seconds the CPUs spent in each mode.\n\
         # TYPE node_cpu_seconds_total counter\n",
    );
    for cpu in 0..CPUS {
        let Shares { idle, user, system, irq, nice } = shares(faults.seed, id, cpu);
        let modes = [
            ("idle", idle),
            ("iowait", 0),
            ("irq", irq),
            ("nice", nice),
            ("softirq", 0),
            ("steal", 0),
            ("system", system),
            ("user", user),
        ];
        for (mode, share) in modes {
            let seconds = uptime * f64::from(share) / 10_000.0;
            let labels = format_args!("cpu=\"{cpu}\",mode=\"{mode}\"");
            text.push_str(&format!("node_cpu_seconds_total{{{labels}}} {seconds:.6}\n"));
        }
    }
    let load = hash::draw(faults.seed, id, 3) * 4.0;
    let memory = 1_u64 << (30 + hash::mix(faults.seed, id, 4) % 5);
    let others = [
        ("node_boot_time_seconds", "gauge", "Node boot time, in unixtime.", BOOTED.as_secs_f64()),
        ("node_load1", "gauge", "1m load average.", load),
        (
            "node_memory_MemTotal_bytes",
            "gauge",
            "Memory information field MemTotal_bytes.",
            memory as f64,
        ),
        (
            "node_time_seconds",
            "gauge",
            "System time in seconds since epoch (1970).",
            now.as_secs_f64(),
        ),
    ];
    for (name, kind, help, value) in others {
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plausible_hosts_are_targets() {
        for host in ["192.168.1.1", "device-7", "db1.example.net", "fe80::1"] {
            assert_eq!(target(&format!("/appliances/{host}/cpu")), Some(Target::Cpu(host)));
        }
        for host in ["", "192.168.1.256", "1.2.3", "a b", "%2e%2e", "a..b", "g::1"] {
            assert_eq!(target(&format!("/appliances/{host}/cpu")), None, "{host}");
        }
        assert_eq!(target("/appliances/a/disk"), None);
    }

    #[test]
    fn shares_are_whole_and_depend_on_seed_and_host_only() {
        for n in 0..1000_u32 {
            let id = fingerprint(&n.to_le_bytes());
            let one = shares(42, id, 0);
            assert_eq!(one.idle + one.user + one.system + one.irq + one.nice, 10_000);
            assert_eq!(shares(42, id, 0).user, one.user);
        }
        assert_ne!(shares(42, 1, 0).user, shares(43, 1, 0).user);
    }

    #[test]
    fn counters_grow_by_the_shares() {
        let faults = Faults::default();
        let id = fingerprint(b"192.168.1.1");
        let idle = |seconds: f64| -> f64 {
            let text = metrics(&faults, id, BOOTED + Duration::from_secs_f64(seconds));
            let prefix = "node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} ";
            let line = text.lines().find_map(|line| line.strip_prefix(prefix));
            line.and_then(|value| value.parse().ok()).unwrap_or(f64::NAN)
        };
        let share = (idle(2000.0) - idle(1000.0)) / 1000.0;
        assert!((share - f64::from(shares(42, id, 0).idle) / 10_000.0).abs() < 1e-6, "{share}");
    }
}
