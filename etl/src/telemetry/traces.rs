//! OpenTelemetry traces: a span for each run, in it one for each batch, in that one
//! for each request. They leave over OTLP (HTTP, protobuf) when
//! `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is set; the
//! other standard variables (`OTEL_SERVICE_NAME`, `OTEL_EXPORTER_OTLP_HEADERS`,
//! `OTEL_TRACES_SAMPLER`, …) are honoured too. Without an endpoint a span costs a
//! look at a flag. A collector that is down costs no record and no time: spans are
//! handed to a thread of their own and dropped when they are too many.

use tracing::field::Empty;
use tracing::{Span, info_span};

use super::BooksSnapshot;
use crate::batch::Payload;

/// The target of all spans: the logs leave it out, the exporter takes nothing else.
pub(crate) const TARGET: &str = "etl::trace";

/// The variables that name a collector.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// Whether the environment asks for traces.
pub(crate) fn wanted() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let off = std::env::var("OTEL_SDK_DISABLED").is_ok_and(|off| off.eq_ignore_ascii_case("true"));
    ENDPOINTS.into_iter().any(set) && !off
}

/// The span of a run, or of a replay without a source.
pub(crate) fn run(pipeline: &str, run_id: &str, what: &'static str) -> Span {
    info_span!(
        target: TARGET,
        parent: None,
        "run",
        otel.name = what,
        pipeline,
        run_id,
        extracted = Empty,
        rejected = Empty,
        filtered = Empty,
        otel.status_code = Empty,
        otel.status_description = Empty,
    )
}

/// Writes the end of a run into its span.
pub(crate) fn run_ended(span: &Span, books: &BooksSnapshot, error: Option<&str>) {
    span.record("extracted", books.extracted)
        .record("rejected", books.rejected)
        .record("filtered", books.filtered);
    if let Some(error) = error {
        span.record("otel.status_code", "ERROR").record("otel.status_description", error);
    }
}

/// The span of a batch's way to one sink, within `run`.
pub(crate) fn batch(run: &Span, sink: &str, payload: &Payload) -> Span {
    // The key is not written out for a span that nobody takes.
    if run.is_disabled() {
        return Span::none();
    }
    info_span!(
        target: TARGET,
        parent: run,
        "batch",
        sink,
        batch.key = %payload.key,
        batch.records = payload.records(),
        batch.bytes = payload.body.len(),
        delivered = Empty,
        left = Empty,
        dead_lettered = Empty,
        otel.status_code = Empty,
    )
}

/// The span of one attempt, within the current batch.
pub(crate) fn request(target: &str, attempt: u32, payload: &Payload) -> Span {
    if Span::current().is_disabled() {
        return Span::none();
    }
    info_span!(
        target: TARGET,
        "request",
        otel.kind = "client",
        server = target,
        attempt,
        batch.records = payload.records(),
        http.response.status_code = Empty,
        otel.status_code = Empty,
        otel.status_description = Empty,
    )
}

#[cfg(feature = "otel")]
pub(crate) use export::{Exporter, start};

#[cfg(feature = "otel")]
mod export {
    use std::time::Duration;

    use bytes::Bytes;
    use http_body_util::Full;
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_http::{HttpClient as OtlpClient, HttpError, Request, Response};
    use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::{Layer, Registry};

    use super::TARGET;
    use crate::config::{HttpVersion, Tls};
    use crate::http::{ClientOptions, HttpClient, read_body};

    /// The longest that one export may take, and that the end of the process waits.
    const PATIENCE: Duration = Duration::from_secs(3);
    /// The most that is read of a collector's answer.
    const ANSWER_BYTES_MAX: usize = 64 * 1024;

    /// Sends spans until it is dropped, which sends what is left.
    #[derive(Debug)]
    pub(crate) struct Exporter(SdkTracerProvider);

    /// Starts sending spans; gives the layer that collects them.
    ///
    /// # Errors
    /// When the environment's settings are unusable, in words.
    pub(crate) fn start() -> Result<(Exporter, impl Layer<Registry> + Send + Sync), String> {
        let client = Collector::new().map_err(|error| error.to_string())?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_timeout(PATIENCE)
            .build()
            .map_err(|error| error.to_string())?;
        let mut resource = Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("etl");
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build();
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("etl"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(Targets::new().with_target(TARGET, LevelFilter::INFO));
        Ok((Exporter(provider), layer))
    }

    impl Drop for Exporter {
        fn drop(&mut self) {
            if let Err(error) = self.0.shutdown_with_timeout(PATIENCE) {
                tracing::warn!(%error, "the last traces could not be sent");
            }
        }
    }

    /// The project's own client, on a runtime of its own: the exporter's thread is no
    /// part of the runtime that carries records.
    #[derive(Debug)]
    struct Collector {
        client: HttpClient,
        runtime: tokio::runtime::Runtime,
    }

    impl Collector {
        fn new() -> Result<Collector, HttpError> {
            let client = HttpClient::new(&ClientOptions {
                connect_timeout: PATIENCE,
                version: HttpVersion::Auto,
                tls: Tls::default(),
                idle_per_host: 1,
            })?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(Collector { client, runtime })
        }

        async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
            let (head, body) = request.into_parts();
            let request = Request::from_parts(head, Full::new(body));
            let (head, body) = self.client.send(request).await?.into_parts();
            Ok(Response::from_parts(head, read_body(body, ANSWER_BYTES_MAX).await?))
        }
    }

    #[async_trait::async_trait]
    impl OtlpClient for Collector {
        async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
            // The exporter's own thread waits here, and nobody else.
            self.runtime
                .block_on(async { tokio::time::timeout(PATIENCE, self.send(request)).await })?
        }
    }
}
