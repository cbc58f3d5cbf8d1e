//! An S3 bucket that files are published in. A PUT is whole or not there, and a conditional
//! one never replaces. Requests go through our own HTTP client: one TLS stack, one place for
//! timeouts, and retries only where the loader decides about them.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use http_body_util::BodyExt;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{
    ClientOptions as StoreOptions, HttpClient as StoreClient, HttpConnector, HttpError,
    HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::path::Path;
use object_store::{
    Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
};

use super::FilesError;
use super::encode::Draft;
use crate::config::{Address, HttpVersion, Load, S3Settings};
use crate::http::{BodyError, ClientOptions, HttpClient, SendError, printable, read_body};
use crate::load::answer::{Answer, Failure};
use crate::load::sink::{Probe, Reach};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The most that is read of an answer; stores answer a PUT in a few hundred bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;
const REASON_BYTES_MAX: usize = 200;
/// A name that no batch has.
const PROBE: &str = ".etl-probe";

/// A prefix in a bucket.
#[derive(Debug)]
pub(in crate::load) struct Bucket {
    store: AmazonS3,
    prefix: String,
    address: String,
}

impl Bucket {
    /// The place that `address` (`s3://bucket/prefix`) means. Credentials, and what `s3`
    /// leaves open, come from the environment as every S3 tool reads it.
    pub(super) fn new(address: &str, s3: &S3Settings, load: &Load) -> Result<Bucket, FilesError> {
        let unusable = |error: &dyn std::fmt::Display| {
            FilesError::Store(printable(error.to_string().as_bytes(), REASON_BYTES_MAX))
        };
        let rest = address.strip_prefix("s3://").unwrap_or(address);
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
        if let Some(endpoint) = &s3.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(region) = &s3.region {
            builder = builder.with_region(region);
        }
        if let Some(endpoint) = builder.get_config_value(&AmazonS3ConfigKey::Endpoint) {
            let address = Address::parse(&endpoint)
                .map_err(|problem| unusable(&format!("the endpoint {}", problem.message)))?;
            if address.is_exposed() && !s3.allow_http {
                return Err(unusable(
                    &"records would travel unencrypted to the endpoint; use https, or, where \
                      the network itself is trusted, set s3.allow_http: true",
                ));
            }
        }
        let client = HttpClient::new(&ClientOptions {
            connect_timeout: CONNECT_TIMEOUT,
            version: HttpVersion::Auto,
            tls: s3.tls.clone(),
            idle_per_host: load.in_flight_max(),
        })
        .map_err(|error| unusable(&error))?;
        let store = builder
            .with_http_connector(Requests(client))
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
            .build()
            .map_err(|error| unusable(&error))?;
        let prefix = prefix.trim_matches('/').to_owned();
        Ok(Bucket { store, prefix, address: address.to_owned() })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Puts `draft` into the bucket, unless it is there.
    pub(super) async fn publish(&self, draft: Draft) -> Result<(), Answer> {
        let steps = draft.directories.iter().chain([&draft.name]).map(String::as_str);
        let key = self.key(steps)?;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&key, PutPayload::from_bytes(draft.bytes), options).await {
            Ok(_) => Ok(()),
            Err(Error::AlreadyExists { .. }) => self.confirm(&key).await,
            Err(error) => Err(answer(&error)),
        }
    }

    /// "It exists" is also what comes of a PUT that met another one under way, which may
    /// fail: only an object that is there counts.
    async fn confirm(&self, key: &Path) -> Result<(), Answer> {
        match self.store.head(key).await {
            Ok(_) => Ok(()),
            Err(Error::NotFound { .. }) => Err(Answer::Retry(Failure::without_answer(
                "another upload of the same file was under way",
            ))),
            Err(error) => Err(answer(&error)),
        }
    }

    fn key<'a>(&'a self, steps: impl Iterator<Item = &'a str>) -> Result<Path, Answer> {
        let prefix = (!self.prefix.is_empty()).then_some(self.prefix.as_str());
        let key: Vec<&str> = prefix.into_iter().chain(steps).collect();
        Path::parse(key.join("/")).map_err(|error| {
            let reason = printable(error.to_string().as_bytes(), REASON_BYTES_MAX);
            Answer::Refused(Failure::without_answer(reason))
        })
    }

    /// Asks for an object that is not there: the answer tells whether the bucket is, and
    /// whether it knows us.
    pub(super) async fn probe(&self, patience: Duration) -> Probe {
        let Ok(key) = self.key([PROBE].into_iter()) else {
            return Probe::new(Reach::Refused, self.address.clone(), "set another path");
        };
        let asked = tokio::time::timeout(patience, self.store.get(&key)).await;
        let error = match asked {
            Err(_) => {
                let text = format!("{}: no answer within {patience:?}", self.address);
                return Probe::new(Reach::Unreachable, text, "check s3.endpoint and the network");
            }
            Ok(Ok(_)) => return Probe::ready(format!("{} answers", self.address)),
            Ok(Err(error)) => error,
        };
        let text = format!("{}: {}", self.address, reason(&error));
        match &error {
            Error::NotFound { .. } if code(&chain(&error)) != Some("NoSuchBucket") => {
                Probe::ready(format!("{} answers", self.address))
            }
            Error::NotFound { .. } => {
                Probe::new(Reach::Refused, text, "make the bucket, or set another path")
            }
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Probe::new(
                Reach::Refused,
                text,
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; allow s3:PutObject, \
                 s3:GetObject and s3:ListBucket",
            ),
            _ => Probe::new(Reach::Unreachable, text, "check s3.endpoint and the network"),
        }
    }
}

/// What an error of the store means for the batch.
fn answer(error: &Error) -> Answer {
    let failure = |status| Failure { status, ..Failure::without_answer(reason(error)) };
    match error {
        Error::Unauthenticated { .. } => Answer::Refused(failure(Some(401))),
        Error::PermissionDenied { .. } => Answer::Refused(failure(Some(403))),
        // The answer to a PUT: there is no such bucket.
        Error::NotFound { .. } => Answer::Refused(failure(Some(404))),
        Error::NotSupported { .. } | Error::NotImplemented { .. } => Answer::Refused(failure(None)),
        _ => Answer::Retry(failure(None)),
    }
}

/// What went wrong, in a few words. A store's own text repeats the key's name and the
/// signature, so only its code is shown.
fn reason(error: &Error) -> String {
    let text = chain(error);
    let what = match error {
        Error::Unauthenticated { .. } => "401 Unauthorized",
        Error::PermissionDenied { .. } => "403 Forbidden",
        Error::NotFound { .. } => "404 Not Found",
        _ => "",
    };
    match (code(&text), what) {
        (Some(code), "") => printable(code.as_bytes(), REASON_BYTES_MAX),
        (Some(code), what) => format!("{what}: {}", printable(code.as_bytes(), 60)),
        (None, "") => {
            // The innermost error says it best; what is around it repeats the address.
            let last = text.rsplit('\n').next().unwrap_or_default();
            printable(last.as_bytes(), REASON_BYTES_MAX)
        }
        (None, what) => what.to_owned(),
    }
}

/// An error's texts from the outermost, a line each.
fn chain(error: &Error) -> String {
    let mut text = error.to_string().replace('\n', " ");
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push('\n');
        text.push_str(&error.to_string().replace('\n', " "));
        // Ours say all there is to say.
        let ours = error.is::<SendError>() || error.is::<BodyError>();
        source = error.source().filter(|_| !ours);
    }
    text
}

/// The code in a store's XML.
fn code(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("<Code>")?;
    rest.split_once("</Code>").map(|(code, _)| code)
}

/// Sends the store's requests with our client.
#[derive(Debug)]
struct Requests(HttpClient);

impl HttpConnector for Requests {
    fn connect(&self, _: &StoreOptions) -> object_store::Result<StoreClient> {
        Ok(StoreClient::new(Requests(self.0.clone())))
    }
}

impl HttpService for Requests {
    fn call<'life, 'future>(
        &'life self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'future>>
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let request = http::Request::from_parts(head, http_body_util::Full::new(body));
            let answer = self
                .0
                .send(request)
                .await
                .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
            let (head, body) = answer.into_parts();
            let body = read_body(body, ANSWER_BYTES_MAX)
                .await
                .map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error))?;
            Ok(HttpResponse::from_parts(head, body.into()))
        })
    }
}

#[cfg(test)]
mod tests {
    use object_store::Error;

    use super::reason;

    #[test]
    fn a_store_s_own_text_is_not_repeated() {
        let said = "status 403: <Error><Code>InvalidAccessKeyId</Code>\
                    <AWSAccessKeyId>canary</AWSAccessKeyId></Error>";
        let source = || Box::new(std::io::Error::other(said));
        let denied = Error::PermissionDenied { path: "x".to_owned(), source: source() };
        assert_eq!(reason(&denied), "403 Forbidden: InvalidAccessKeyId");
        let generic = Error::Generic { store: "S3", source: source() };
        assert_eq!(reason(&generic), "InvalidAccessKeyId");
        let plain = Error::Generic {
            store: "S3",
            source: Box::new(std::io::Error::other("connection refused")),
        };
        assert_eq!(reason(&plain), "connection refused");
    }
}
