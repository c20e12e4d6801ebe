//! PredictService.

use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{
    Answers, Services,
    caller::{self, Caller},
    check::{self, Violations},
    convert, name, size,
    status::status,
    stream,
};
use crate::{
    error::Result,
    predict::Question,
    proto::v1::{self, predict_service_server::PredictService},
    taxonomy::Revision,
};

#[async_trait]
impl PredictService for Services {
    async fn predict(
        &self,
        request: Request<v1::PredictRequest>,
    ) -> Result<Response<v1::PredictResponse>, Status> {
        let (request, caller) = caller::of(request);
        let question = question(&caller, request, false).map_err(status)?;
        let answered = self.predictor.predict_if(question, size::check_predict).await.map_err(status)?;
        Ok(Response::new(convert::answers(&answered)))
    }

    type PredictStreamStream = Answers<v1::PredictStreamResponse>;

    async fn predict_stream(
        &self,
        request: Request<Streaming<v1::PredictStreamRequest>>,
    ) -> Result<Response<Self::PredictStreamStream>, Status> {
        let (requests, caller) = stream::Uploads::of(request);
        Ok(Response::new(stream::predictions(self.clone(), caller, requests)))
    }
}

/// What a request asks. Only a message of a stream may hold no texts.
pub(super) fn question(caller: &Caller, request: v1::PredictRequest, streamed: bool) -> Result<Question> {
    let (model, selector) = name::version_or_alias(caller, "model", &request.model)?;
    let mut violations = Violations::default();
    if !(streamed && request.texts.is_empty()) {
        check::texts(&mut violations, &request.texts);
    }
    let top_k = check::top_k(&mut violations, request.top_k);
    let min_confidence = check::min_confidence(&mut violations, request.min_confidence);
    check::min_precision(&mut violations, request.min_precision);
    if let (Some(precision), Some(revision)) = (request.min_precision, request.manifest_revision) {
        violations.add(
            "min_precision",
            format!(
                "is measured on the version's own classes and cannot be asked for together with manifest_revision, got \
                 {precision} and {revision}"
            ),
        );
    }
    violations.finish()?;
    Ok(Question {
        model,
        selector,
        texts: request.texts,
        revision: request.manifest_revision.map(Revision),
        level: request.level,
        top_k,
        min_confidence,
        min_precision: request.min_precision,
    })
}
