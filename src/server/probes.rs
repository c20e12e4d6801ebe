//! The HTTP port beside gRPC: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever watches over the process.

use std::{convert::Infallible, sync::Arc, time::Duration};

use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};
use tracing::{debug, warn};

use super::exposition::Sources;

/// Connections that may be open.
const MAX_CONNECTIONS: usize = 32;
/// How long a client may take to send its request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause after the system gave no connection.
const PAUSE: Duration = Duration::from_millis(100);
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Serves until the task is aborted.
pub(super) fn serve(listener: TcpListener, sources: Arc<Sources>) -> JoinHandle<()> {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    tokio::spawn(async move {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(cause) => {
                    warn!(%cause, "no connection can be taken for metrics");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            // Who is connected does not keep the data folder open.
            let sources = Arc::downgrade(&sources);
            tokio::spawn(async move {
                let answer = service_fn(|request| answer(sources.upgrade(), request));
                let mut http = http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
                if let Err(cause) = http.serve_connection(TokioIo::new(stream), answer).await {
                    debug!(%cause, "a connection for metrics broke");
                }
                drop(place);
            });
        }
    })
}

/// Answers a request; without sources the daemon has stopped.
async fn answer(
    sources: Option<Arc<Sources>>,
    request: Request<Incoming>,
) -> Result<Response<String>, Infallible> {
    let Some(sources) = sources else {
        let mut response = Response::new("stopped\n".to_owned());
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        return Ok(response);
    };
    let (status, kind, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => match tokio::task::spawn_blocking(move || sources.text()).await {
            Ok(text) => (StatusCode::OK, METRICS, text),
            Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the metrics panicked; see the log\n".into()),
        },
        (&Method::GET, "/healthz") => (StatusCode::OK, TEXT, "alive\n".into()),
        (&Method::GET, "/readyz") if sources.is_ready() => (StatusCode::OK, TEXT, "ready\n".into()),
        (&Method::GET, "/readyz") => (StatusCode::SERVICE_UNAVAILABLE, TEXT, "stopping\n".into()),
        (_, "/metrics" | "/healthz" | "/readyz") => {
            (StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET alone\n".into())
        }
        _ => (StatusCode::NOT_FOUND, TEXT, "/metrics, /healthz and /readyz are here\n".into()),
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static(kind));
    Ok(response)
}
