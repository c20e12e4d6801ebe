//! The answers to a stream of questions, in their order.
//!
//! A task reads messages, checks them and puts them in the queue of the prediction thread; what it gets for each goes
//! through a short channel to the response, which waits for one after the other. So several messages are worked on at
//! once, and whoever is slow, the client or the daemon, holds up the reading.

use std::fmt::Display;

use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::Status;

use super::{Received, Uploads};
use crate::{
    error::{Error, Result, Violation},
    predict::Asked,
    proto::v1,
    service::{Answers, Services, caller::Caller, check::Violations, convert, predict, size, status::status},
};

/// Messages of a stream that are worked on at once.
const IN_FLIGHT: usize = 8;

/// Answers each message of a client.
pub(in crate::service) fn predictions(
    services: Services,
    caller: Caller,
    requests: Uploads<v1::PredictStreamRequest>,
) -> Answers<v1::PredictStreamResponse> {
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    super::feed(sender.clone(), async move {
        tokio::select! {
            () = ask_all(&services, &caller, requests, &sender) => {}
            // The client is gone; the response took what was in the channel along.
            () = sender.closed() => {}
        }
    });
    Box::pin(ReceiverStream::new(receiver).then(answer))
}

/// Asks one message after the other, until the client has no more, one is wrong, or the daemon stops.
async fn ask_all(
    services: &Services,
    caller: &Caller,
    mut requests: Uploads<v1::PredictStreamRequest>,
    sender: &mpsc::Sender<Result<Asked, Status>>,
) {
    let mut opening = None;
    for number in 0usize.. {
        let message = tokio::select! {
            biased;
            () = services.stopped() => Err(status(Error::Unavailable(format!(
                "the daemon is shutting down; message {number} of the stream and what follows were not answered"
            )))),
            // Someone may type between two messages, so only a stream as idle as a connection may be ends.
            message = requests.next_within(services.stream_idle) => message,
        };
        let asked = match message {
            Ok(Received::End(_)) => return,
            Ok(Received::Message(message)) => match ask(services, caller, &mut opening, message).await {
                Ok(asked) => Ok(asked),
                Err(error) => Err(status(at(number, services.hinted(caller, error).await))),
            },
            Err(broken) => Err(broken),
        };
        let was_last = asked.is_err();
        if sender.send(asked).await.is_err() || was_last {
            return;
        }
    }
}

/// Puts one message in the queue; the first is kept, without its texts, as what opens the stream.
async fn ask(
    services: &Services,
    caller: &Caller,
    opening: &mut Option<v1::PredictStreamRequest>,
    mut message: v1::PredictStreamRequest,
) -> Result<Asked> {
    let texts = std::mem::take(&mut message.texts);
    let opening = match opening {
        Some(opening) => {
            check_unchanged(opening, &message)?;
            opening
        }
        None => opening.insert(message),
    };
    let question = predict::question(caller, request(opening, texts), true)?;
    services.predictor.predict_in_turn(question, size::check_predict).await
}

async fn answer(asked: Result<Asked, Status>) -> Result<v1::PredictStreamResponse, Status> {
    let answered = convert::answers(&asked?.answers().await.map_err(status)?);
    Ok(v1::PredictStreamResponse {
        predictions: answered.predictions,
        version: answered.version,
        manifest_revision: answered.manifest_revision,
        rejection_threshold: answered.rejection_threshold,
        unresolved: answered.unresolved,
    })
}

/// The Predict that a message of a stream stands for.
fn request(opening: &v1::PredictStreamRequest, texts: Vec<String>) -> v1::PredictRequest {
    v1::PredictRequest {
        model: opening.model.clone(),
        texts,
        top_k: opening.top_k,
        min_confidence: opening.min_confidence,
        min_precision: opening.min_precision,
        level: opening.level,
        manifest_revision: opening.manifest_revision,
    }
}

/// What the first message has set may be repeated, not changed.
fn check_unchanged(opening: &v1::PredictStreamRequest, message: &v1::PredictStreamRequest) -> Result<()> {
    fn fixed<T: PartialEq + Display>(
        violations: &mut Violations,
        field: &str,
        set: Option<T>,
        now: Option<T>,
    ) {
        if let Some(now) = now.filter(|now| set.as_ref() != Some(now)) {
            violations.add(field, format!("must stay as the first message set it, got {now}"));
        }
    }
    let mut violations = Violations::default();
    let model = |message: &v1::PredictStreamRequest| {
        (!message.model.is_empty()).then(|| format!("'{}'", message.model.escape_debug()))
    };
    fixed(&mut violations, "model", model(opening), model(message));
    fixed(&mut violations, "top_k", opening.top_k, message.top_k);
    fixed(&mut violations, "min_confidence", opening.min_confidence, message.min_confidence);
    fixed(&mut violations, "min_precision", opening.min_precision, message.min_precision);
    fixed(&mut violations, "level", opening.level, message.level);
    fixed(&mut violations, "manifest_revision", opening.manifest_revision, message.manifest_revision);
    violations.finish()
}

/// Names the message in the fields that are wrong.
fn at(number: usize, error: Error) -> Error {
    let Error::Invalid(violations) = error else { return error };
    let named = violations.into_iter().map(|Violation { field, description }| Violation {
        field: format!("messages[{number}].{field}"),
        description,
    });
    Error::Invalid(named.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_first_message_set_may_be_repeated_and_not_changed() {
        let opening = v1::PredictStreamRequest {
            model: "models/bank".into(),
            top_k: Some(3),
            ..v1::PredictStreamRequest::default()
        };
        assert!(check_unchanged(&opening, &v1::PredictStreamRequest::default()).is_ok());
        assert!(check_unchanged(&opening, &opening).is_ok());
        let other = v1::PredictStreamRequest {
            model: "models/shop".into(),
            texts: Vec::new(),
            top_k: Some(2),
            min_confidence: Some(0.5),
            min_precision: Some(0.9),
            level: Some(0),
            manifest_revision: Some(1),
        };
        let error = at(7, check_unchanged(&opening, &other).unwrap_err());
        let Error::Invalid(violations) = &error else { panic!("{error}") };
        let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
        let expected = ["model", "top_k", "min_confidence", "min_precision", "level", "manifest_revision"];
        assert_eq!(fields, expected.map(|field| format!("messages[7].{field}")));
        assert!(error.to_string().contains("got 'models/shop'"), "{error}");
    }
}
