//! `etl serve` in the background, asked over HTTP and stopped by a signal.

#![allow(dead_code, clippy::unwrap_used, reason = "as in the rest of the support code")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::{Bench, signal};

/// How long a busy machine may take for what should take a moment.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server at work; it is killed when this is dropped.
pub struct Serving {
    pub child: Child,
    pub address: String,
    stderr: Arc<Mutex<String>>,
}

impl Serving {
    /// `etl serve PATH --listen 127.0.0.1:0` and more arguments.
    pub fn start(bench: &Bench, path: &str, more: &[&str]) -> Serving {
        let args = [&["serve", path, "--listen", "127.0.0.1:0"], more].concat();
        Serving::spawn(bench.command(&args))
    }

    /// The server of this command.
    pub fn spawn(mut command: std::process::Command) -> Serving {
        let mut child = command.spawn().unwrap();
        let stderr = Arc::new(Mutex::new(String::new()));
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let seen = stderr.clone();
        std::thread::spawn(move || {
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|read| read > 0) {
                seen.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        let mut serving = Serving { child, address: String::new(), stderr };
        serving.until("it listens", |serving| serving.stderr().contains("/pipelines"));
        let said = serving.stderr();
        let address = said.split("http://").nth(1).unwrap().split('/').next().unwrap();
        serving.address = address.to_owned();
        serving
    }

    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits until `condition` holds.
    #[track_caller]
    pub fn until(&self, what: &str, condition: impl Fn(&Serving) -> bool) {
        self.until_within(PATIENCE, what, condition);
    }

    /// Waits so long at most until `condition` holds.
    #[track_caller]
    pub fn until_within(
        &self,
        patience: Duration,
        what: &str,
        condition: impl Fn(&Serving) -> bool,
    ) {
        let began = Instant::now();
        while !condition(self) {
            assert!(began.elapsed() < patience, "waited until {what}\n{}", self.stderr());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What is answered to a GET: status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.ask(&format!("GET {path} HTTP/1.1\r\n"));
        (status, String::from_utf8(body).unwrap())
    }

    /// What is answered to a request: status, head and body. Its head needs no end.
    pub fn ask(&self, head: &str) -> (u16, String, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "{head}Host: test\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head, answer[end + 4..].to_vec())
    }

    pub fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path).1).unwrap()
    }

    /// One pipeline of `/pipelines`; null when it is not served.
    pub fn pipeline(&self, name: &str) -> Value {
        let all = self.json("/pipelines");
        let all = all["pipelines"].as_array().unwrap();
        all.iter().find(|pipeline| pipeline["name"] == name).cloned().unwrap_or_default()
    }

    /// How many runs of a pipeline are over.
    pub fn runs(&self, name: &str) -> u64 {
        let runs = self.pipeline(name)["runs"].clone();
        runs.as_object().map_or(0, |runs| runs.values().filter_map(Value::as_u64).sum())
    }

    /// A series of `/metrics`, by its name with labels.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let page = self.get("/metrics").1;
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }

    /// Asks it to stop and waits for its end; gives the exit code and what it said.
    pub fn stop(mut self) -> (Option<i32>, String) {
        signal(&self.child, Signal::TERM);
        let code = self.child.wait().unwrap().code();
        // The thread that reads has it all a moment after the end.
        std::thread::sleep(Duration::from_millis(200));
        (code, self.stderr())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The runs of a pipeline in the history, oldest first.
pub fn history(bench: &Bench, pipeline: &str) -> Vec<Value> {
    let path = bench.path(&format!("data/{pipeline}/state/runs.jsonl"));
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
