//! What the tests of sinks that write files share: what the files hold, read back by other
//! programs than the one that wrote them where there is one.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// The files below `directory`, without those that are hidden, sorted.
pub fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        let hidden = path.file_name().unwrap().to_string_lossy().starts_with('.');
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if !hidden {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The records in a file, by what its name says it is; fails when it is not whole.
#[track_caller]
pub fn records_in(path: &Path) -> Vec<Value> {
    let name = path.file_name().unwrap().to_str().unwrap();
    if name.ends_with(".parquet") {
        return parquet_records(path);
    }
    let bytes = std::fs::read(path).unwrap();
    records_of(name, &bytes)
}

/// The records in a file's content.
#[track_caller]
pub fn records_of(name: &str, bytes: &[u8]) -> Vec<Value> {
    let mut text = String::new();
    if name.ends_with(".gz") {
        flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    } else if name.ends_with(".zst") {
        text = String::from_utf8(zstd::decode_all(bytes).unwrap()).unwrap();
    } else {
        text = String::from_utf8(bytes.to_vec()).unwrap();
    }
    if name.contains(".ndjson") {
        return text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    }
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The Python with pyarrow and moto; fails when `.ci/python` has not been run.
#[track_caller]
pub fn python() -> Command {
    let target = Path::new(env!("CARGO_BIN_EXE_etl")).ancestors().nth(2).unwrap();
    let python = target.join("python/bin/python");
    assert!(python.exists(), "{} is missing; run: bash .ci/python", python.display());
    Command::new(python)
}

/// What a Python program prints as JSON.
#[track_caller]
pub fn python_says(program: &str, arguments: &[&str]) -> Value {
    let output = python().args(["-c", program]).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

/// The rows of a Parquet file, as pyarrow reads them.
#[track_caller]
fn parquet_records(path: &Path) -> Vec<Value> {
    let program = "import sys, json, pyarrow.parquet as pq\n\
                   print(json.dumps(pq.ParquetFile(sys.argv[1]).read().to_pylist(), default=str))";
    let rows = python_says(program, &[path.to_str().unwrap()]);
    rows.as_array().unwrap().clone()
}

/// An S3 store of its own, with one bucket, `bucket`.
pub struct Store {
    server: Child,
    pub url: String,
}

impl Store {
    pub fn start() -> Store {
        let program = "import sys\n\
            from moto.server import ThreadedMotoServer\n\
            server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)\n\
            server.start()\n\
            print(server.get_host_and_port()[1], flush=True)\n\
            sys.stdin.read()";
        let mut command = python();
        // It ends with its standard input, so also with this process.
        command.args(["-c", program]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = command.stderr(Stdio::null()).spawn().unwrap();
        let mut port = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let store = Store { server, url: format!("http://127.0.0.1:{}", port.trim()) };
        store.ask("s3.create_bucket(Bucket='bucket'); print('[]')");
        store
    }

    /// What a Python program that has the store as `s3` prints as JSON.
    #[track_caller]
    pub fn ask(&self, program: &str) -> Value {
        let client = "import sys, json, boto3\n\
            s3 = boto3.client('s3', endpoint_url=sys.argv[1], aws_access_key_id='x', \
            aws_secret_access_key='x', region_name='us-east-1')\n";
        python_says(&format!("{client}{program}"), &[&self.url])
    }

    /// The records of all objects in the bucket, by the objects' names.
    #[track_caller]
    pub fn objects(&self) -> Vec<(String, Vec<u8>)> {
        let program = "import base64\n\
            pages = s3.get_paginator('list_objects_v2').paginate(Bucket='bucket')\n\
            keys = [o['Key'] for p in pages for o in p.get('Contents', [])]\n\
            body = lambda k: s3.get_object(Bucket='bucket', Key=k)['Body'].read()\n\
            print(json.dumps([[k, list(body(k))] for k in keys]))";
        serde_json::from_value(self.ask(program)).unwrap()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
    }
}
