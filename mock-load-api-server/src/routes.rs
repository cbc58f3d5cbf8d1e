//! Which path does what.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::app::App;
use crate::connection::Link;
use crate::reply::{self, Answer, Dropped, ReplyBody};
use crate::{appliances, body, load, sources};

/// The largest `POST /faults` body.
const SETTINGS_BYTES_MAX: usize = 64 << 10;

/// Answers one request, or cuts its connection off.
pub(crate) async fn answer(app: Arc<App>, link: Arc<Link>, request: Request<Incoming>) -> Answer {
    let control = matches!(request.uri().path(), "/faults" | "/stats");
    link.set_control(control);
    let answer =
        if app.is_down() && !control { Err(Dropped) } else { dispatch(&app, request).await };
    if answer.is_err() {
        link.reset();
    }
    answer
}

async fn dispatch(app: &App, request: Request<Incoming>) -> Answer {
    if request.uri().path() == "/load" {
        return load::answer(app, request).await;
    }
    let reading = matches!(*request.method(), Method::GET | Method::HEAD);
    let response = match request.uri().path() {
        "/faults" => match *request.method() {
            Method::POST => change_settings(app, request.into_body()).await,
            Method::GET => reply::json(StatusCode::OK, &Value::Object(app.faults().view())),
            _ => reply::wrong_method("GET, POST"),
        },
        path if !knows(path) => reply::error(StatusCode::NOT_FOUND, "no such path"),
        _ if !reading => reply::wrong_method("GET, HEAD"),
        "/health" => reply::json(StatusCode::OK, &json!({ "status": "ok" })),
        "/stats" => stats(app),
        path => match appliances::target(path) {
            Some(target) => appliances::answer(app, target).await,
            None => sources::answer(app, &request),
        },
    };
    Ok(response)
}

fn knows(path: &str) -> bool {
    matches!(path, "/health" | "/stats")
        || appliances::target(path).is_some()
        || sources::PATHS.contains(&path)
}

fn stats(app: &App) -> Response<ReplyBody> {
    match serde_json::to_value(app.ledger.stats()) {
        Ok(stats) => reply::json(StatusCode::OK, &stats),
        Err(error) => reply::error(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

async fn change_settings(app: &App, incoming: Incoming) -> Response<ReplyBody> {
    let patch = match body::read(incoming, SETTINGS_BYTES_MAX).await {
        Ok(patch) => patch,
        Err(error) => return reply::error(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let changed = app.faults().patched(&patch).and_then(|faults| app.set_faults(faults));
    match changed {
        Ok(()) => {
            tracing::info!("settings changed");
            reply::json(StatusCode::OK, &Value::Object(app.faults().view()))
        }
        Err(error) => reply::error(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
    }
}
