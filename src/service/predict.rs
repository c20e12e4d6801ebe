//! PredictService.

use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{
    Answers, Services,
    check::{self, Violations},
    convert, name,
    status::status,
};
use crate::{
    error::{Error, Result},
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
        let question = question(request.into_inner()).map_err(status)?;
        let answered = self.predictor.predict(question).await.map_err(status)?;
        let predictions = answered.answers.iter().map(|answer| convert::prediction(&answered, answer));
        let unresolved = answered.unresolved().iter().map(|class| convert::unresolved(&answered, class));
        Ok(Response::new(v1::PredictResponse {
            predictions: predictions.collect(),
            version: answered.live.version.name(),
            manifest_revision: answered.revision().0,
            rejection_threshold: answered.rejection_threshold,
            unresolved: unresolved.collect(),
        }))
    }

    type PredictStreamStream = Answers<v1::PredictStreamResponse>;

    async fn predict_stream(
        &self,
        _request: Request<Streaming<v1::PredictStreamRequest>>,
    ) -> Result<Response<Self::PredictStreamStream>, Status> {
        Err(status(Error::Unimplemented("PredictStream")))
    }
}

fn question(request: v1::PredictRequest) -> Result<Question> {
    let (model, selector) = name::version_or_alias("model", &request.model)?;
    let mut violations = Violations::default();
    check::texts(&mut violations, &request.texts);
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
