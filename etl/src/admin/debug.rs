//! Profiles of the process, taken while it works. For this machine alone: they show its
//! insides, and take time.

use std::time::Duration;

use http::header::FORWARDED;
use http::{Request, StatusCode};
use serde_json::json;

use super::Caller;
use super::routes::{Answer, bytes, json};
use crate::telemetry::profile::{ProfileError, Sampler};

const SECONDS: u64 = 10;
const SECONDS_MAX: u64 = 60;

/// Answers `/debug/pprof/WHAT`.
pub(super) async fn answer<B>(what: &str, caller: Caller, request: &Request<B>) -> Answer {
    let refuse = |status, error: &str| json(status, &json!({ "error": error }));
    // A proxy on this machine brings requests of others.
    let headers = request.headers();
    let forwarded = headers.contains_key(FORWARDED) || headers.contains_key("x-forwarded-for");
    let here = match caller {
        Caller::Network(peer) => peer.ip().to_canonical().is_loopback() && !forwarded,
        Caller::Owner => true,
    };
    if !here {
        return refuse(StatusCode::FORBIDDEN, "profiles are for this machine's loopback only");
    }
    let Some(seconds) = seconds(request.uri().query().unwrap_or_default()) else {
        let error = format!("seconds is a whole number from 1 to {SECONDS_MAX}");
        return refuse(StatusCode::BAD_REQUEST, &error);
    };
    let sampler = match Sampler::start() {
        Ok(sampler) => sampler,
        Err(ProfileError::Running) => {
            return refuse(StatusCode::CONFLICT, "a profile is being taken already");
        }
        Err(error) => return failed(&error),
    };
    // A client that goes away ends this, and the sampling with it.
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let picture = what == "flamegraph";
    let made = tokio::task::spawn_blocking(move || match picture {
        true => sampler.flamegraph(),
        false => sampler.pprof(),
    });
    match made.await {
        Ok(Ok(svg)) if picture => bytes(StatusCode::OK, "image/svg+xml", svg.into()),
        Ok(Ok(profile)) => bytes(StatusCode::OK, "application/octet-stream", profile.into()),
        Ok(Err(error)) => failed(&error),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn failed(error: &ProfileError) -> Answer {
    tracing::warn!(%error, "no profile could be taken");
    json(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": error.to_string() }))
}

/// `seconds=N` of a query; none when it is no number of seconds.
fn seconds(query: &str) -> Option<u64> {
    let given = query.split('&').find_map(|pair| pair.strip_prefix("seconds="));
    match given {
        None => Some(SECONDS),
        Some(text) => text.parse().ok().filter(|seconds| (1..=SECONDS_MAX).contains(seconds)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use http::{Request, StatusCode};

    use super::{Caller, answer, seconds};

    #[test]
    fn seconds_are_bounded() {
        assert_eq!((seconds(""), seconds("x=1&seconds=3")), (Some(10), Some(3)));
        for wrong in ["seconds=0", "seconds=61", "seconds=-1", "seconds=", "seconds=1s"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn others_get_no_profile() {
        let ask = async |peer: &str, header: &str| {
            let request = Request::get("/debug/pprof/profile").header(header, "for=1.2.3.4");
            let caller = Caller::Network(peer.parse().unwrap());
            answer("profile", caller, &request.body(()).unwrap()).await.status()
        };
        assert_eq!(ask("192.0.2.1:5000", "x-none").await, StatusCode::FORBIDDEN);
        assert_eq!(ask("[2001:db8::1]:5000", "x-none").await, StatusCode::FORBIDDEN);
        assert_eq!(ask("127.0.0.1:5000", "x-forwarded-for").await, StatusCode::FORBIDDEN);
        assert_eq!(ask("127.0.0.1:5000", "forwarded").await, StatusCode::FORBIDDEN);
        let request = Request::get("/debug/pprof/profile?seconds=0").body(()).unwrap();
        for peer in ["127.0.0.1:5000", "[::1]:5000", "[::ffff:127.0.0.1]:5000"] {
            let caller = Caller::Network(peer.parse().unwrap());
            let status = answer("profile", caller, &request).await.status();
            assert_eq!(status, StatusCode::BAD_REQUEST, "{peer}");
        }
    }
}
