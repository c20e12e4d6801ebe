//! Spans of calls and jobs, sent to a collector of OpenTelemetry: each call goes on with the trace that its client began.

use std::time::Duration;

use opentelemetry::{
    propagation::{Extractor, TextMapPropagator as _},
    trace::TracerProvider as _,
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use tonic::{Code, codegen::http::HeaderMap};
use tracing::{Metadata, Span, Subscriber, field::Empty, info_span, warn};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

use super::roles::Rpc;
use crate::{
    config::Traces,
    error::{Error, Result},
};

/// How long a daemon that stops waits for the collector to take what is left.
const CLOSING: Duration = Duration::from_secs(2);

/// Sends spans until it is closed.
#[derive(Debug)]
pub struct TraceExporter(SdkTracerProvider);

impl TraceExporter {
    /// Begins to send spans, within a tokio runtime. Whether the collector is there shows later: what it does not take is dropped,
    /// and the log says so.
    ///
    /// # Errors
    /// The end point is none.
    pub fn start(traces: &Traces) -> Result<Self> {
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(traces.endpoint.as_str()).build();
        let exporter = exporter.map_err(|cause| Error::invalid("otlp_endpoint", cause.to_string()))?;
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(traces.share)));
        let resource = Resource::builder().with_service_name("taxond").build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(sampler)
            .with_resource(resource)
            .build();
        Ok(Self(provider))
    }

    /// What takes the daemon's spans, from the level info on.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let of_daemon =
            |metadata: &Metadata<'_>| metadata.is_span() && metadata.target().starts_with("taxond");
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("taxond"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(of_daemon))
    }

    /// Sends what is left.
    pub fn close(self) {
        if let Err(cause) = self.0.shutdown_with_timeout(CLOSING) {
            warn!(%cause, "the last spans were not sent");
        }
    }
}

/// The span of a call, by the conventions of OpenTelemetry where spans are sent.
pub(super) fn call(rpc: Rpc, headers: &HeaderMap, sent: bool) -> Span {
    let span = info_span!(
        "rpc",
        path = rpc.path,
        otel.name = Empty,
        otel.kind = Empty,
        otel.status_code = Empty,
        rpc.system = Empty,
        rpc.grpc.status_code = Empty,
    );
    if sent {
        span.record("otel.name", rpc.path.trim_start_matches('/'));
        span.record("otel.kind", "server");
        span.record("rpc.system", "grpc");
        let _no_layer_here = span.set_parent(TraceContextPropagator::new().extract(&Headers(headers)));
    }
    span
}

/// Notes how a call ended.
pub(super) fn ended(span: &Span, code: Code) {
    span.record("rpc.grpc.status_code", code as i32);
    // Of a server, other codes are the client's affair.
    let failed = matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    );
    if failed {
        span.record("otel.status_code", "ERROR");
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|key| key.as_str()).collect()
    }
}
