//! Units for systemd, held by systemd's own tools: they are valid, shut the service off, and
//! mean the times that the schedule means.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use etl::schedule::Timing;
use support::{Bench, Ran};

/// The worst that a service may score.
const EXPOSURE_MAX: f64 = 3.0;

fn tool(name: &str, args: &[&str]) -> Output {
    let output = Command::new(name).args(args).env("SYSTEMD_COLORS", "0").output();
    output.unwrap_or_else(|error| panic!("{name}: {error}; see .ci/packages"))
}

/// A pipeline with this schedule, whose file and inventory everybody may read.
fn pipeline(bench: &Bench, name: &str, schedule: &str) {
    bench.write(
        &format!("pipelines/{name}/pipeline.yaml"),
        format!(
            "name: {name}\n{schedule}\nsource:\n  csv: {{ path: rows.csv }}\n\
             load:\n  - http: {{ url: \"${{LOAD_URL}}\" }}\n"
        ),
    );
    bench.write(&format!("pipelines/{name}/rows.csv"), "a\n1\n");
    let env = bench.write(&format!("pipelines/{name}/.env"), "LOAD_URL=http://127.0.0.1:9/load\n");
    fs::set_permissions(env, fs::Permissions::from_mode(0o600)).unwrap();
    for directory in ["pipelines", &format!("pipelines/{name}")] {
        fs::set_permissions(bench.path(directory), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// What `--print` shows, as files.
fn printed(bench: &Bench, name: &str) -> Vec<PathBuf> {
    let shown = bench.etl(&["service", "install", name, "--print"]).exits(0).stdout;
    let mut files: Vec<(PathBuf, String)> = Vec::new();
    for line in shown.lines() {
        match line.strip_prefix("# ").filter(|rest| rest.starts_with("etl-")) {
            Some(unit) => files.push((bench.path(&format!("units/{unit}")), String::new())),
            None => {
                let text = &mut files.last_mut().unwrap().1;
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    for (path, text) in &files {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    files.into_iter().map(|(path, _)| path).collect()
}

fn verified(units: &[PathBuf]) {
    let units: Vec<&str> = units.iter().map(|unit| unit.to_str().unwrap()).collect();
    let verified = tool("systemd-analyze", &[&["verify"], units.as_slice()].concat());
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success() && said.is_empty(), "{units:?}: {said}");
}

/// The overall exposure of a service, as systemd sees it.
fn exposure(service: &str) -> f64 {
    let judged = tool("systemd-analyze", &["security", "--offline=true", service]);
    let text = String::from_utf8_lossy(&judged.stdout).into_owned();
    let line = text.lines().find(|line| line.contains("Overall exposure level"));
    let line = line.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&judged.stderr)));
    let score = line.split(": ").nth(1).unwrap().split(' ').next().unwrap();
    score.parse().unwrap_or_else(|_| panic!("{line}"))
}

#[test]
fn units_are_valid_and_shut_the_service_off() {
    let bench = Bench::new();
    for (name, schedule, units) in [
        ("often", "schedule: '@every 60s'", 2),
        ("odd", "schedule: { every: 90s, jitter: 9s }", 2),
        (
            "night",
            "schedule: { cron: '30 2 1,15 * mon', timezone: Europe/Berlin, missed: skip }",
            2,
        ),
        ("by-hand", "", 1),
    ] {
        pipeline(&bench, name, schedule);
        let files = printed(&bench, name);
        assert_eq!(files.len(), units, "{name}");
        verified(&files);
        let text = fs::read_to_string(&files[0]).unwrap();
        assert!(text.contains("DynamicUser=yes\n"), "{text}");
        assert!(text.contains(&format!("LogsDirectory=etl/{name}\n")), "{text}");
        assert!(text.contains(&format!("pipelines/{name}/.env\n")) && !text.contains("127.0.0.1"));
        let score = exposure(files[0].to_str().unwrap());
        assert!(score < EXPOSURE_MAX, "{name} {score}");
    }
    let timer =
        |name: &str| fs::read_to_string(bench.path(&format!("units/etl-{name}.timer"))).unwrap();
    assert!(timer("often").contains("OnCalendar=*-*-* *:*:00 UTC\nPersistent=true\n"));
    assert!(timer("odd").contains("OnActiveSec=0s\nOnUnitActiveSec=90s\n"));
    assert!(timer("odd").contains("RandomizedDelaySec=9s\nFixedRandomDelay=true\n"));
    assert!(timer("night").contains("Persistent=false\n"));
}

#[test]
fn a_service_that_needs_a_user_has_the_one_whose_the_file_is() {
    let bench = Bench::new();
    pipeline(&bench, "p", "");
    let file = bench.path("pipelines/p/pipeline.yaml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let root = rustix::process::geteuid().is_root();
    if root {
        let refused = bench.etl(&["service", "install", "p", "--print"]).exits(78);
        assert!(refused.stderr.contains("chmod o+r"), "{}", refused.stderr);
        std::os::unix::fs::chown(&file, Some(65_534), Some(65_534)).unwrap();
    }
    let owner = if root { 65_534 } else { rustix::process::geteuid().as_raw() };
    let files = printed(&bench, "p");
    let text = fs::read_to_string(&files[0]).unwrap();
    assert!(text.contains(&format!("User={owner}\n")) && !text.contains("DynamicUser"), "{text}");
    verified(&files);
    assert!(exposure(files[0].to_str().unwrap()) < EXPOSURE_MAX);
}

#[test]
fn paths_that_units_cannot_hold_are_refused() {
    let bench = Bench::new();
    bench.write(
        "a b/p.yaml",
        "name: p\nsource:\n  csv: { path: rows.csv }\nload:\n  - http: { url: http://127.0.0.1:9/ }\n",
    );
    bench.write("a b/rows.csv", "a\n1\n");
    let refused = bench.etl(&["service", "install", "a b/p.yaml", "--print"]).exits(78);
    assert!(refused.stderr.contains("a unit cannot name this path"), "{}", refused.stderr);
}

#[test]
fn units_are_installed_into_an_image_anew_and_taken_out() {
    let bench = Bench::new();
    pipeline(&bench, "p", "schedule: '@daily'");
    fs::create_dir_all(bench.path("image/etc/systemd/system")).unwrap();
    let service = |action: &str| bench.etl(&["service", action, "p", "--root", "image"]);
    let unit = |name: &str| bench.path("image/etc/systemd/system").join(name);
    let enabled = unit("timers.target.wants/etl-p.timer");
    service("install").exits(0);
    verified(&[unit("etl-p.service"), unit("etl-p.timer")]);
    assert!(enabled.is_symlink());

    // With other times the timer is another, without times it is gone.
    bench.etl(&["schedule", "p", "hourly", "6"]).exits(0);
    service("install").exits(0);
    let timer = fs::read_to_string(unit("etl-p.timer")).unwrap();
    assert!(timer.contains("OnCalendar=*-*-* 00,06,12,18:00:00 UTC\n"), "{timer}");
    service("uninstall").exits(0);
    assert!(!unit("etl-p.service").exists() && !unit("etl-p.timer").exists());
    assert!(!enabled.is_symlink());
    service("uninstall").exits(0);
    assert!(bench.path("pipelines/p/pipeline.yaml").exists());
}

/// `etl` in a namespace of its own whose `/run` is empty: a machine without systemd.
fn without_systemd(bench: &Bench, args: &[&str]) -> Ran {
    let script = "mount -t tmpfs none /run && exec \"$0\" \"$@\"";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(env!("CARGO_BIN_EXE_etl"))
        .args(args)
        .current_dir(bench.path(""))
        .output()
        .unwrap();
    output.into()
}

#[test]
fn without_systemd_the_user_is_told_what_to_do() {
    let bench = Bench::new();
    pipeline(&bench, "p", "");
    let refused = without_systemd(&bench, &["service", "install", "p"]).exits(69);
    for words in ["systemd does not run this machine", "etl serve pipelines", "--print"] {
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
    for verb in ["start", "stop"] {
        let refused = without_systemd(&bench, &[verb, "p"]).exits(69);
        for words in ["no etl serve has data", "etl serve pipelines", "etl run pipelines/p/"] {
            assert!(refused.stderr.contains(words), "{verb}: {}", refused.stderr);
        }
    }
}

/// The next due times by the scheduler, and by systemd for the lines of the timer.
#[test]
fn timers_mean_the_times_that_the_schedule_means() {
    const COUNT: usize = 12;
    let base: chrono::DateTime<chrono::Utc> = "2026-11-23T10:00:00Z".parse().unwrap();
    let bench = Bench::new();
    for (number, cron) in [
        "* * * * *",
        "*/7 * * * *",
        "5-59/20 8-10 * * *",
        "0 */5 * * *",
        "30 2 31 * *",
        "0 0 1 */3 *",
        "15 6 * * mon-fri",
        "0 12 * * 7",
        "0 12 * jan,JUL sun,wed",
        "10-50/10 0 1,15 2-12/5 *",
        "0 3 13 * fri",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("p{number}");
        pipeline(
            &bench,
            &name,
            &format!("schedule: {{ cron: '{cron}', timezone: America/New_York }}"),
        );
        let timer = fs::read_to_string(&printed(&bench, &name)[1]).unwrap();
        let mut theirs = Vec::new();
        for line in timer.lines().filter_map(|line| line.strip_prefix("OnCalendar=")) {
            let count = format!("--iterations={COUNT}");
            let base = "--base-time=2026-11-23 10:00:00 UTC";
            let said = tool("systemd-analyze", &["calendar", &count, base, line]);
            theirs.extend(times(&String::from_utf8(said.stdout).unwrap()));
        }
        theirs.sort_unstable();
        theirs.dedup();
        let ours = {
            let file = bench.path(&format!("pipelines/{name}/pipeline.yaml"));
            let loaded = etl::config::load(&file, &[], None).unwrap();
            next(&loaded.pipeline.timing().unwrap(), base, COUNT)
        };
        assert_eq!(theirs[..COUNT], ours[..], "{cron}\n{timer}");
    }
}

fn next(timing: &Timing, from: chrono::DateTime<chrono::Utc>, count: usize) -> Vec<String> {
    let mut moments = vec![from];
    for _ in 0..count {
        moments.push(timing.next(*moments.last().unwrap()).unwrap());
    }
    moments[1..].iter().map(|it| it.format("%Y-%m-%d %H:%M:%S").to_string()).collect()
}

/// The times in UTC that `systemd-analyze calendar` tells: in the machine's zone, and below
/// in UTC where that is another.
fn times(said: &str) -> Vec<String> {
    let mut times: Vec<String> = Vec::new();
    for line in said.lines() {
        let Some((label, rest)) = line.trim().split_once(": ") else { continue };
        let words: Vec<&str> = rest.split(' ').collect();
        match label {
            _ if label == "Next elapse" || label.starts_with("Iter") => {
                times.push(format!("{} {}", words[1], words[2]));
            }
            "(in UTC)" => *times.last_mut().unwrap() = format!("{} {}", words[1], words[2]),
            _ => {}
        }
    }
    times
}
