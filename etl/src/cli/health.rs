//! `etl health`: is the `etl serve` of this machine well? For health checks of
//! containers, whose images have no other HTTP client.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::time::timeout;

use super::args::HealthArgs;
use super::run::say;
use crate::config::{HttpVersion, Tls};
use crate::exit::Exit;
use crate::http::{ClientOptions, HttpClient, printable, read_body};

/// The longest that the question may take.
const PATIENCE: Duration = Duration::from_secs(4);
/// The most that is read of the answer, and of it shown.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Asks, prints the answer, and exits with 0 for 200, else with 69.
#[must_use]
pub fn run(args: &HealthArgs) -> Exit {
    let port = args.server_port.unwrap_or(super::serve::PORT);
    let url = args.url.clone().unwrap_or_else(|| format!("http://127.0.0.1:{port}/health"));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("error: {error}"));
            return Exit::Internal;
        }
    };
    let answer = runtime.block_on(async { timeout(PATIENCE, ask(&url)).await });
    let late = || Err(format!("no answer within {}", humantime::format_duration(PATIENCE)));
    match answer.unwrap_or_else(|_| late()) {
        Ok((well, text)) => {
            // A closed pipe leaves nobody to tell; the exit code still does.
            drop(writeln!(std::io::stdout().lock(), "{text}"));
            if well { Exit::Delivered } else { Exit::SourceUnavailable }
        }
        Err(why) => {
            say(&format!("error: {url}: {why}\nstart it with: etl serve PATH"));
            Exit::SourceUnavailable
        }
    }
}

/// Whether the answer is 200, and its body on one line.
async fn ask(url: &str) -> Result<(bool, String), String> {
    let client = HttpClient::new(&ClientOptions {
        connect_timeout: PATIENCE,
        version: HttpVersion::Http1,
        tls: Tls::default(),
        idle_per_host: 0,
    })
    .map_err(|error| error.to_string())?;
    let request =
        Request::get(url).body(Full::new(Bytes::new())).map_err(|error| error.to_string())?;
    let (head, body) = client.send(request).await.map_err(|error| error.to_string())?.into_parts();
    let body = read_body(body, ANSWER_BYTES_MAX).await.map_err(|error| error.to_string())?;
    Ok((head.status == http::StatusCode::OK, printable(body.trim_ascii(), ANSWER_BYTES_MAX)))
}
