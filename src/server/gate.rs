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
    deadline::{self, Deadline},
    door::{Door, Refusal},
    hints::Hints,
    metrics::{self, Metrics},
    request_body,
    roles::{self, Needs},
    session::{self, Session},
    traces,
};
use crate::{
    admission::{self, Admission, Admitted},
    error::Error,
    service::{Caller, Identity, admitted, status},
};

/// Puts a [`Gate`] before services.
#[derive(Debug, Clone)]
pub(super) struct GateLayer {
    pub(super) door: Arc<Door>,
    /// The predictions under way.
    pub(super) crowd: Arc<Crowd>,
    /// The other calls under way.
    pub(super) admission: Arc<Admission>,
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
    admission: Arc<Admission>,
    metrics: Arc<Metrics>,
    hints: Hints,
    traces: bool,
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        let Self { door, crowd, admission, metrics, hints, traces } = self.clone();
        Gate { inner, door, crowd, admission, metrics, hints, traces }
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
        let deadline = Deadline::of(request.headers());
        let body_end = request_body::watch(&mut request);
        let client = request.extensions_mut().remove::<Client>();
        let open = client.as_ref().map(|client| client.calls.begin());
        let span = traces::call(rpc, request.headers(), self.traces);
        let call =
            metrics::Call::begin(&self.metrics, rpc, self.traces.then(|| span.clone()), open, deadline);
        let peer = client.as_ref().map(|client| &client.peer);
        let authorization = request.headers().get(http::header::AUTHORIZATION).map(|value| value.as_bytes());
        let begin =
            |who: Option<&Identity>, said| rpc.audited.then(|| Audit::begin(rpc, who, peer, said, deadline));
        let let_in =
            self.door.admit(rpc, authorization, peer).and_then(|identity| match self.enter(rpc, &identity) {
                Ok(entered) => Ok((identity, entered)),
                Err(cause) => Err(Refusal { who: Some(identity), cause }),
            });
        let (identity, caller, audit, (entered, place)) = match let_in {
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
        let (hints, metrics) = (self.hints.clone(), Arc::clone(&self.metrics));
        Box::pin(async move {
            let handled = async move { inner.call(request).await }.instrument(span);
            let handled = admitted(place.clone(), handled);
            let response = tokio::select! {
                biased;
                handled = deadline::within(deadline, Guarded(Box::pin(handled))) => match handled {
                    // Nobody hears it; the log and the metrics tell it from what went wrong here.
                    Some(Ok(Ok(_))) if body_end.is_cut() => reset(deadline).into_http(),
                    Some(Ok(Ok(response))) => {
                        deadline::limit(deadline, hints.complete(response, &identity).await)
                    }
                    Some(Ok(Err(never))) => match never {},
                    Some(Err(())) => {
                        status(Error::Internal("the call panicked; see the log".into())).into_http()
                    }
                    None => deadline::exceeded().into_http(),
                },
                cause = session::over(&mut ended) => status(cause).into_http(),
            };
            if place.is_some_and(|place| place.was_refused()) {
                metrics.refused(admission::MEMORY);
            }
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
    /// Counts a call in: a prediction, or another one.
    fn enter(&self, rpc: roles::Rpc, who: &Identity) -> Result<Place, Error> {
        let entered = rpc.predicts.then(|| self.crowd.enter()).transpose()?;
        let admitted = rpc.effort.map(|effort| self.admission.admit(&who.name, effort)).transpose()?;
        Ok((entered, admitted.map(Arc::new)))
    }
}

/// The place of a call among those under way.
type Place = (Option<Entered>, Option<Arc<Admitted>>);

/// The status of a call whose client reset its stream.
fn reset(deadline: Option<Deadline>) -> Status {
    match Deadline::outcome_of_reset(deadline) {
        Code::DeadlineExceeded => deadline::exceeded(),
        _ => status(Error::Cancelled),
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
    use tonic_types::StatusExt as _;
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::{admission::Limits, server::crowd::Patience};

    fn open_gate() -> GateLayer {
        GateLayer {
            door: Arc::new(Door::open(None, None).unwrap()),
            crowd: Arc::new(Crowd::new(1, Patience::default())),
            admission: Arc::new(Admission::new(Limits { calls: 2, bytes: 0 })),
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

    /// A request of GetModel with a deadline.
    fn within(timeout: &str) -> http::Request<Body> {
        let request = http::Request::builder().uri("/taxond.v1.RegistryService/GetModel");
        request.header("grpc-timeout", timeout).body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn a_passed_deadline_is_answered_as_such_with_details() {
        let endless = async |_| std::future::pending::<Result<http::Response<Body>, Infallible>>().await;
        let response = open_gate().layer(service_fn(endless)).oneshot(within("1m")).await.unwrap();
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(status.get_error_details().error_info().unwrap().reason, "DEADLINE_EXCEEDED");
    }

    #[tokio::test]
    async fn a_call_that_its_client_drops_counts_as_beyond_its_deadline_or_as_cancelled() {
        for (timeout, code) in [("20m", Code::DeadlineExceeded), ("1H", Code::Cancelled)] {
            let gate = open_gate();
            let endless = async |_| std::future::pending::<Result<http::Response<Body>, Infallible>>().await;
            let mut call = gate.layer(service_fn(endless)).call(within(timeout));
            let polled = std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_ready())).await;
            assert!(!polled, "nothing answers it");
            drop(call);
            let counted: Vec<_> = gate.metrics.calls().flat_map(|calls| calls.codes()).collect();
            assert_eq!(counted, [(code, 1)], "{timeout}");
        }
    }
}
