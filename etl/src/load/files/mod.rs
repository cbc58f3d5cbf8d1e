//! The sinks that write files: a file is a batch, under a name that is a function of the
//! batch. So a batch that comes twice finds its file there, and is neither doubled nor
//! overwritten (see docs/decisions/0010-a-file-is-a-batch.md).
//!
//! An [`encode::Encoder`] makes files of a batch in memory, `partition` says into which
//! directories and `name` under which name; `local` and `bucket` make them durable.

#[cfg(feature = "s3")]
mod bucket;
pub(super) mod encode;
mod json;
mod local;
pub(super) mod name;
pub(super) mod partition;
pub(super) mod record;
pub(super) mod time;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub(super) use self::encode::Encoder;
use self::encode::{Draft, Encoded, Unfit};
pub(super) use self::json::JsonFiles;
use self::local::Local;
use super::answer::{Answer, FailedRecord, Failure};
use super::disk::Disk;
use super::sink::{Delivering, Probe, Probing, Reach, Sink};
use crate::batch::Payload;
use crate::config::{Load, S3Settings};
use crate::telemetry::SinkKind;

/// Why a sink that writes files could not be built.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// Its threads could not be started.
    #[error("cannot start threads for files: {0}")]
    Threads(#[source] std::io::Error),
    /// The kept schema cannot be used.
    #[error("{}: {reason}; delete it to find the columns anew", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The store's settings are unusable.
    #[error("s3: {0}")]
    Store(String),
    /// Not compiled in.
    #[error("this etl was built without {0}; build it with: cargo build --release --features {0}")]
    NotBuilt(&'static str),
}

/// Writes batches as files.
#[derive(Debug)]
pub(super) struct FilesSink {
    disk: Disk<Work>,
    place: Arc<Place>,
    timeout: Duration,
    target: String,
}

/// What the disk threads work with.
#[derive(Debug)]
struct Work {
    encoder: Box<dyn Encoder>,
    place: Arc<Place>,
}

/// Where files go.
#[derive(Debug)]
pub(super) enum Place {
    Local(Local),
    #[cfg(feature = "s3")]
    Bucket(bucket::Bucket),
}

impl Place {
    /// The place that `path` means; `default` is where files go without one.
    pub(super) fn new(
        path: Option<&str>,
        default: &Path,
        s3: &S3Settings,
        load: &Load,
    ) -> Result<Place, FilesError> {
        match path {
            Some(address) if address.contains("://") => remote(address, s3, load),
            Some(path) => Ok(Place::Local(Local::new(PathBuf::from(path)))),
            None => Ok(Place::Local(Local::new(default.to_owned()))),
        }
    }

    /// Puts a file where disk threads do not write.
    async fn upload(&self, draft: Draft) -> Result<(), Answer> {
        match self {
            Place::Local(_) => {
                drop(draft);
                Ok(())
            }
            #[cfg(feature = "s3")]
            Place::Bucket(bucket) => bucket.publish(draft).await,
        }
    }
}

#[cfg(feature = "s3")]
fn remote(address: &str, s3: &S3Settings, load: &Load) -> Result<Place, FilesError> {
    bucket::Bucket::new(address, s3, load).map(Place::Bucket)
}

#[cfg(not(feature = "s3"))]
fn remote(_: &str, _: &S3Settings, _: &Load) -> Result<Place, FilesError> {
    Err(FilesError::NotBuilt("s3"))
}

/// What the sink at `path` asks, for messages.
pub(super) fn target(path: &str) -> String {
    let verb = if path.contains("://") { "PUT" } else { "write" };
    format!("{verb} {path}")
}

impl FilesSink {
    /// A sink that puts what `encoder` makes into `place`.
    pub(super) fn new(
        load: &Load,
        place: Place,
        encoder: Box<dyn Encoder>,
    ) -> Result<FilesSink, FilesError> {
        let target = match &place {
            Place::Local(local) => target(&local.root().display().to_string()),
            #[cfg(feature = "s3")]
            Place::Bucket(bucket) => target(bucket.address()),
        };
        let place = Arc::new(place);
        let work = Arc::new(Work { encoder, place: place.clone() });
        let disk = Disk::start(&work, "files", load.sink_name(), load.in_flight_max())
            .map_err(FilesError::Threads)?;
        Ok(FilesSink { disk, place, timeout: load.timeout().0, target })
    }

    async fn write(&self, payload: &Payload) -> Answer {
        // Not cut short when time is up: a file that is there later is found by the retry.
        match tokio::time::timeout(self.timeout, self.attempt(payload)).await {
            Ok(answer) => answer,
            Err(_) => {
                let limit = humantime::format_duration(self.timeout);
                let reason = format!("not written within {limit}; is the disk or store stuck?");
                Answer::Retry(Failure { timed_out: true, ..Failure::without_answer(reason) })
            }
        }
    }

    async fn attempt(&self, payload: &Payload) -> Answer {
        let payload = payload.clone();
        let done = self.disk.run(move |work| work.encode_and_publish(&payload)).await;
        let (failed, remote) = match done {
            Ok(Ok(done)) => done,
            Ok(Err(answer)) => return answer,
            Err(error) => return Answer::Retry(Failure::without_answer(error.to_string())),
        };
        for draft in remote {
            if let Err(answer) = self.place.upload(draft).await {
                return answer;
            }
        }
        if failed.is_empty() { Answer::Delivered } else { Answer::Partial(failed) }
    }
}

impl Work {
    /// Makes the files of `payload` and writes those that go to a directory; gives the
    /// records that are in none, and the files that go elsewhere. Blocks.
    fn encode_and_publish(
        &self,
        payload: &Payload,
    ) -> Result<(Vec<FailedRecord>, Vec<Draft>), Answer> {
        let Encoded { drafts, mut failed } =
            self.encoder.encode(payload).map_err(|unfit| match unfit {
                Unfit::Refused(reason) => Answer::Refused(Failure::without_answer(reason)),
                Unfit::Broken(reason) => Answer::Retry(Failure::without_answer(reason)),
            })?;
        failed.sort_by_key(|record| record.index);
        match &*self.place {
            Place::Local(local) => {
                for draft in &drafts {
                    local.publish(draft).map_err(|error| error.answer())?;
                }
                Ok((failed, Vec::new()))
            }
            #[cfg(feature = "s3")]
            Place::Bucket(_) => Ok((failed, drafts)),
        }
    }
}

impl Sink for FilesSink {
    fn deliver<'a>(&'a self, payload: &'a Payload) -> Delivering<'a> {
        Box::pin(self.write(payload))
    }

    fn probe(&self) -> Probing<'_> {
        Box::pin(async {
            match &*self.place {
                Place::Local(_) => {
                    let probe = |work: &Work| match &*work.place {
                        Place::Local(local) => Some(local.probe()),
                        #[cfg(feature = "s3")]
                        Place::Bucket(_) => None,
                    };
                    let asked = tokio::time::timeout(self.timeout, self.disk.run(probe)).await;
                    match asked {
                        Ok(Ok(Some(probe))) => probe,
                        _ => Probe::new(
                            Reach::Unreachable,
                            format!("{} does not answer", self.target),
                            local::REMEDY,
                        ),
                    }
                }
                #[cfg(feature = "s3")]
                Place::Bucket(bucket) => bucket.probe(self.timeout).await,
            }
        })
    }

    fn kind(&self) -> SinkKind {
        match &*self.place {
            Place::Local(_) => SinkKind::Disk,
            #[cfg(feature = "s3")]
            Place::Bucket(_) => SinkKind::Store,
        }
    }

    fn target(&self) -> &str {
        &self.target
    }

    fn remedy(&self, status: Option<u16>) -> String {
        match (&*self.place, status) {
            (Place::Local(_), _) => local::REMEDY.to_owned(),
            #[cfg(feature = "s3")]
            (Place::Bucket(_), Some(401 | 403)) => {
                "the store refused the credentials: set AWS_ACCESS_KEY_ID and \
                 AWS_SECRET_ACCESS_KEY, and allow s3:PutObject and s3:GetObject"
                    .to_owned()
            }
            #[cfg(feature = "s3")]
            (Place::Bucket(_), _) => {
                "make the bucket, or check path, s3.endpoint and s3.region".to_owned()
            }
        }
    }
}
