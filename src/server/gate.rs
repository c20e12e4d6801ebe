//! What every call passes before a handler sees it, and on its way back.

use std::{
    any::Any,
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tonic::{
    Code, Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
};
use tower::Layer;
use tracing::{Instrument as _, error};

use super::{
    audit::Audit,
    connection::Client,
    crowd::{Crowd, Entered},
    door::{Door, Refusal},
    hints::Hints,
    metrics::{self, Metrics},
    roles::{self, Needs},
    session::{self, Session},
    traces,
};
use crate::{
    error::Error,
    service::{Caller, Identity, status},
};

/// Puts a [`Gate`] before services.
#[derive(Debug, Clone)]
pub(super) struct GateLayer {
    pub(super) door: Arc<Door>,
    /// The predictions under way.
    pub(super) crowd: Arc<Crowd>,
    pub(super) metrics: Arc<Metrics>,
    /// What was probably meant where a model is not found.
    pub(super) hints: Hints,
    /// Whether spans are sent.
    pub(super) traces: bool,
}

/// Lets calls through to `inner`.
#[derive(Debug, Clone)]
pub(super) struct Gate<S> {
    inner: S,
    door: Arc<Door>,
    crowd: Arc<Crowd>,
    metrics: Arc<Metrics>,
    hints: Hints,
    traces: bool,
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        let Self { door, crowd, metrics, hints, traces } = self.clone();
        Gate { inner, door, crowd, metrics, hints, traces }
    }
}

impl<S> Service<http::Request<Body>> for Gate<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let Some(rpc) = roles::find(request.uri().path()) else {
            return answer(Status::unimplemented("there is no such call").into_http());
        };
        let client = request.extensions_mut().remove::<Client>();
        let open = client.as_ref().map(|client| client.calls.begin());
        let span = traces::call(rpc, request.headers(), self.traces);
        let call = metrics::Call::begin(&self.metrics, rpc, self.traces.then(|| span.clone()), open);
        let peer = client.as_ref().map(|client| &client.peer);
        let authorization = request.headers().get(http::header::AUTHORIZATION).map(|value| value.as_bytes());
        let begin = |who: Option<&Identity>, said| rpc.audited.then(|| Audit::begin(rpc, who, peer, said));
        let admitted = self.door.admit(rpc, authorization, peer).and_then(|identity| match self.enter(rpc) {
            Ok(entered) => Ok((identity, entered)),
            Err(cause) => Err(Refusal { who: Some(identity), cause }),
        });
        let (identity, caller, audit, entered) = match admitted {
            Ok((identity, entered)) => {
                if let Some(client) = client.as_ref().filter(|_| rpc.needs != Needs::Nothing) {
                    client.standing.authenticate(&identity.name);
                }
                let caller = Caller::new(Arc::clone(&identity));
                let audit = begin(Some(&identity), caller.said());
                (identity, caller, audit, entered)
            }
            Err(Refusal { who, cause }) => {
                if let Some(reason) = cause.reason() {
                    self.metrics.refused(reason);
                }
                let response = call.measure(status(cause).into_http());
                if let Some(audit) = begin(who.as_deref(), Arc::default()) {
                    audit.answered(code(&response));
                }
                return answer(response);
            }
        };
        let session = Session {
            door: Arc::clone(&self.door),
            rpc,
            identity: Arc::clone(&identity),
            authorization: request.headers().get(http::header::AUTHORIZATION).cloned(),
            peer: client.as_ref().map(|client| client.peer.clone()),
            said: caller.said(),
        };
        let mut ended = session.ended();
        if let Some(client) = client {
            request.extensions_mut().insert(client.peer);
        }
        request.extensions_mut().insert(caller);
        // The one that was polled ready is used, its copy is kept.
        let copy = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, copy);
        let hints = self.hints.clone();
        Box::pin(async move {
            let handled = async move { inner.call(request).await }.instrument(span);
            let response = tokio::select! {
                biased;
                handled = Guarded(Box::pin(handled)) => match handled {
                    Ok(Ok(response)) => hints.complete(response, &identity).await,
                    Ok(Err(never)) => match never {},
                    Err(()) => status(Error::Internal("the call panicked; see the log".into())).into_http(),
                },
                cause = session::over(&mut ended) => status(cause).into_http(),
            };
            if let Some(audit) = audit {
                audit.answered(code(&response));
            }
            if let Some(entered) = entered {
                entered.answered();
            }
            Ok(call.measure(session::guarded(response, ended)))
        })
    }
}

impl<S> Gate<S> {
    /// Counts a prediction in, if this is one.
    fn enter(&self, rpc: roles::Rpc) -> Result<Option<Entered>, Error> {
        rpc.predicts.then(|| self.crowd.enter()).transpose()
    }
}

fn answer(response: http::Response<Body>) -> BoxFuture<http::Response<Body>, Infallible> {
    Box::pin(std::future::ready(Ok(response)))
}

/// The outcome of a call that answers at once: errors stand in the head of the response, and what stands in none went well,
/// so far.
fn code(response: &http::Response<Body>) -> Code {
    match response.headers().get(Status::GRPC_STATUS) {
        Some(value) => Code::from_bytes(value.as_bytes()),
        None => Code::Ok,
    }
}

/// A future whose panic is its own affair.
struct Guarded<F>(Pin<Box<F>>);

impl<F: Future> Future for Guarded<F> {
    type Output = Result<F::Output, ()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // A handler that panicked is not polled again, and what it shared with others stands behind locks that bear it.
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx))) {
            Ok(poll) => Poll::Ready(Ok(ready!(poll))),
            Err(cause) => {
                error!(cause = message(&*cause), "a call panicked");
                Poll::Ready(Err(()))
            }
        }
    }
}

fn message(cause: &(dyn Any + Send)) -> &str {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::server::crowd::Patience;

    fn open_gate() -> GateLayer {
        GateLayer {
            door: Arc::new(Door::open(None, None).unwrap()),
            crowd: Arc::new(Crowd::new(1, Patience::default())),
            metrics: Arc::new(Metrics::new()),
            hints: Hints::default(),
            traces: false,
        }
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_error_of_that_call_alone() {
        let service = open_gate().layer(service_fn(async |request: http::Request<Body>| {
            assert!(request.headers().is_empty(), "on purpose");
            Ok(Status::ok("").into_http())
        }));
        let ask = async |header: bool| {
            let request = http::Request::builder().uri("/taxond.v1.PredictService/Predict");
            let request = if header { request.header("x", "y") } else { request };
            code(&service.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap())
        };
        assert_eq!(ask(true).await, Code::Internal);
        assert_eq!(ask(false).await, Code::Ok);
    }

    #[tokio::test]
    async fn a_call_outside_the_table_is_not_passed_on() {
        let service = open_gate().layer(service_fn(async |_| Ok(Status::ok("").into_http())));
        let request = http::Request::builder().uri("/taxond.v1.PredictService/Guess");
        let response = service.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(code(&response), Code::Unimplemented);
    }
}
