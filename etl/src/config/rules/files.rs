//! Rules of the sinks that write files.

use super::super::address::Address;
use super::super::pipeline::{FileLoad, ParquetLoad, S3Settings};
use super::{Rules, shown};

/// So that a name with its time and key fits in a directory entry.
const PREFIX_CHARS_MAX: usize = 100;

impl Rules<'_> {
    pub(super) fn load_file(&mut self, file: &FileLoad, at: &str) {
        self.files_place(file.path.as_deref(), &file.s3, at);
        self.prefix(file.prefix.as_deref(), at);
        self.partition(file.partition.as_deref(), file.partition_by.as_deref(), at);
    }

    pub(super) fn load_parquet(&mut self, parquet: &ParquetLoad, at: &str) {
        if !cfg!(feature = "parquet") {
            let message = format!("{}: this etl was built without Parquet", shown(at));
            let help = "build it with: cargo build --release --features parquet";
            self.fault(&[at], &message, help);
        }
        self.files_place(parquet.path.as_deref(), &parquet.s3, at);
        self.prefix(parquet.prefix.as_deref(), at);
        self.partition(parquet.partition.as_deref(), parquet.partition_by.as_deref(), at);
        if parquet.schema.keys().any(String::is_empty) {
            let message = format!("{}: a column has an empty name", shown(at));
            self.fault(&[&format!("{at}.schema")], &message, "give it a name");
        }
    }

    fn partition(&mut self, partition: Option<&str>, by: Option<&str>, at: &str) {
        let keys = [format!("{at}.partition_by"), format!("{at}.partition")];
        if by.is_some() && !matches!(partition, Some("day" | "date")) {
            let message = format!("{}: partition_by is for partitions by day", shown(at));
            let help = "add partition: date; other partitions take the field of their own name";
            self.fault(&[&keys[0], &keys[1]], &message, help);
        }
        self.field(by, &keys[0]);
        self.field(partition, &keys[1]);
    }

    /// A directory or a place in S3.
    fn files_place(&mut self, path: Option<&str>, s3: &S3Settings, at: &str) {
        let key = format!("{at}.path");
        let Some(path) = path else {
            return self.only_for_s3(s3, at);
        };
        if path.is_empty() {
            self.fault(&[&key], &format!("{} is empty", shown(&key)), "name a directory");
        }
        let Some((scheme, rest)) = path.split_once("://") else {
            return self.only_for_s3(s3, at);
        };
        if scheme != "s3" {
            let message = format!("{} is neither a directory nor S3", shown(&key));
            return self.fault(&[&key], &message, "a path, or s3://bucket/prefix");
        }
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b".-_".contains(&c);
        if bucket.is_empty() || !bucket.bytes().all(plain) {
            let message = format!("{} names no bucket", shown(&key));
            self.fault(&[&key], &message, "for example s3://bucket/prefix");
        } else if prefix.trim_end_matches('/').split('/').any(|part| matches!(part, "." | ".."))
            || prefix.contains("//")
        {
            let message = format!("{} has an odd prefix", shown(&key));
            self.fault(&[&key], &message, "no `.`, `..` or empty steps");
        }
        if !cfg!(feature = "s3") {
            let message = format!("{}: this etl was built without S3", shown(&key));
            self.fault(&[&key], &message, "build it with: cargo build --release --features s3");
        }
        self.named_file(s3.tls.ca.as_deref(), &format!("{at}.s3.tls.ca"));
        if let Some(endpoint) = &s3.endpoint {
            let key = format!("{at}.s3.endpoint");
            match Address::parse(endpoint) {
                Err(problem) => {
                    let message = format!("{} {}", shown(&key), problem.message);
                    self.fault(&[&key], &message, "for example https://s3.example.net");
                }
                Ok(address) if address.is_exposed() && !s3.allow_http => {
                    let message = format!("{}: records would travel unencrypted", shown(&key));
                    let help =
                        "use https; or, where the network itself is trusted, allow_http: true";
                    self.fault(&[&key, &format!("{at}.s3.allow_http")], &message, help);
                }
                Ok(_) => {}
            }
        }
    }

    fn only_for_s3(&mut self, s3: &S3Settings, at: &str) {
        if *s3 != S3Settings::default() {
            let key = format!("{at}.s3");
            let message = format!("{}: settings of S3 for a directory", shown(&key));
            self.fault(&[&key, &format!("{at}.path")], &message, "set path: s3://bucket/prefix");
        }
    }

    /// It becomes part of file names.
    fn prefix(&mut self, prefix: Option<&str>, at: &str) {
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
        let usable = |text: &str| {
            text.len() <= PREFIX_CHARS_MAX
                && text.bytes().all(plain)
                && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        };
        if prefix.is_some_and(|prefix| !usable(prefix)) {
            let key = format!("{at}.prefix");
            let message = format!("{} cannot begin file names", shown(&key));
            let help = "letters, digits, `-`, `_` and `.`, a letter or digit first, at most 100";
            self.fault(&[&key], &message, help);
        }
    }

    /// It names a field of the records, and perhaps a directory.
    fn field(&mut self, field: Option<&str>, key: &str) {
        if field.is_some_and(str::is_empty) {
            self.fault(&[key], &format!("{} is empty", shown(key)), "name a field");
        } else if field.is_some_and(|field| field.len() > 64) {
            let message = format!("{} is longer than 64 bytes", shown(key));
            self.fault(&[key], &message, "it becomes part of a directory's name");
        }
    }
}
