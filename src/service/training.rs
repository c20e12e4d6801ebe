//! TrainingService.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{
    Answers, Services, author, caller,
    check::{self, MAX_TEXTS, Violations},
    convert, dataset, name,
    page::{self, PAGE_BYTES, Page},
    repeat::Call,
    status::status,
    stream::{self, Received, Uploads},
};
use crate::{
    dataset::{Split, hold_out},
    error::{Error, Result},
    predict::Live,
    proto::v1::{self, training_service_server::TrainingService},
    registry::{JobId, JobRecord},
    taxonomy::{ClassName, Meaning},
    train::{Confusion, Judged, Positions, TrainOptions, metrics::calibration_error},
};

/// Most frequent errors that an evaluation names.
const MAX_CONFUSED: usize = 20;
/// How long CancelJob waits for a job that was started to end.
const ENDING: Duration = Duration::from_secs(1);
/// Unknown labels that an evaluation names.
const MAX_UNKNOWN: usize = 20;

#[async_trait]
impl TrainingService for Services {
    type TrainStream = Answers<v1::TrainResponse>;

    async fn train(&self, request: Request<v1::TrainRequest>) -> Result<Response<Self::TrainStream>, Status> {
        let (request, caller, author) = author::of(request).map_err(status)?;
        let detach = request.detach;
        let (job, watch) = self
            .blocking(move |services| {
                let model = name::model(&caller, "model", &request.model)?;
                let mut violations = Violations::default();
                check::epochs(&mut violations, request.epochs);
                check::learning_rate(&mut violations, request.learning_rate);
                check::word_shuffle(&mut violations, request.word_shuffle);
                let optimiser = check::optimiser(&mut violations, request.optimiser);
                let strategy = check::training(&mut violations, request.learn);
                violations.finish()?;
                let job = match services.first_or_repeat(&caller, "Train", &request.request_id, &request)? {
                    Call::First(receipt, _under_way) => {
                        let options = TrainOptions {
                            epochs: request.epochs,
                            learning_rate: request.learning_rate,
                            seed: request.seed.unwrap_or(0),
                            optimiser,
                            word_shuffle: request.word_shuffle.map(|probability| probability as f32),
                            strategy,
                            force: request.force,
                            identity: caller.share(&author),
                            author,
                        };
                        services.jobs.train(&model, options, receipt, &services.cancel)?
                    }
                    Call::Repeat(kept) => {
                        caller.may_see(services.registry.job(name::job("request_id", &kept.outcome)?)?)?
                    }
                };
                let watch = services.jobs.watch(job.id)?;
                Ok((job, watch))
            })
            .await?;
        let wrap = |event| v1::TrainResponse { event: Some(event) };
        Ok(Response::new(stream::job_events(None, Some((job.id, job.model, watch)), detach, wrap)))
    }

    type WatchJobStream = Answers<v1::WatchJobResponse>;

    async fn watch_job(
        &self,
        request: Request<v1::WatchJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        let (request, caller) = caller::of(request);
        let id = name::job("name", &request.name).map_err(status)?;
        let (job, watch) = self
            .blocking(move |services| {
                Ok((caller.may_see(services.registry.job(id)?)?, services.jobs.watch(id)?))
            })
            .await?;
        let wrap = |event| v1::WatchJobResponse { event: Some(event) };
        Ok(Response::new(stream::job_events(None, Some((job.id, job.model, watch)), false, wrap)))
    }

    async fn get_job(
        &self,
        request: Request<v1::GetJobRequest>,
    ) -> Result<Response<v1::GetJobResponse>, Status> {
        let (request, caller) = caller::of(request);
        let id = name::job("name", &request.name).map_err(status)?;
        let job = self
            .blocking(move |services| {
                let job = caller.may_see(services.registry.job(id)?)?;
                Ok(services.job(job, &services.jobs.positions()))
            })
            .await?;
        Ok(Response::new(v1::GetJobResponse { job: Some(job) }))
    }

    async fn list_jobs(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        let (request, caller) = caller::of(request);
        let response = self
            .blocking(move |services| {
                let model = match request.model.as_str() {
                    "" => None,
                    name => Some(services.registry.model(&name::model(&caller, "model", name)?)?.id),
                };
                let size = check::page_size(request.page_size)?;
                let listing = services.pages.listing(&caller, "ListJobs", &request);
                let before = listing.position(&request)?.map(JobId);
                let listed = |job: &JobRecord| {
                    model.as_ref().map_or_else(|| caller.identity().sees(&job.model), |id| job.model == *id)
                };
                let (jobs, next) = services.registry.jobs_page(before, size, listed)?;
                let positions = services.jobs.positions();
                let jobs = jobs.into_iter().map(|job| Ok((job.id, services.job(job, &positions))));
                let page = Page::new(size).fill(jobs)?;
                let next = if page.ended_by_bytes() { page.next().copied() } else { next };
                Ok(v1::ListJobsResponse { jobs: page.items, next_page_token: listing.next(next)? })
            })
            .await?;
        Ok(Response::new(response))
    }

    async fn cancel_job(
        &self,
        request: Request<v1::CancelJobRequest>,
    ) -> Result<Response<v1::CancelJobResponse>, Status> {
        let (request, caller) = caller::of(request);
        let id = name::job("name", &request.name).map_err(status)?;
        let (job, mut watch) = self
            .blocking(move |services| {
                caller.may_see(services.registry.job(id)?)?;
                let watch = services.jobs.watch(id)?;
                Ok((services.jobs.cancel(id)?, watch))
            })
            .await?;
        // A job that was started ends at its next step. Where that takes longer, the answer says how it stands.
        if !job.state.is_ended() {
            let _later = timeout(ENDING, async { while watch.next().await.is_some() {} }).await;
        }
        let job = self
            .blocking(move |services| {
                let job = match services.registry.job(id) {
                    // The model was deleted as soon as it was free.
                    Err(Error::NotFound { .. }) => job,
                    found => found?,
                };
                Ok(services.job(job, &services.jobs.positions()))
            })
            .await?;
        Ok(Response::new(v1::CancelJobResponse { job: Some(job) }))
    }

    async fn evaluate(
        &self,
        request: Request<Streaming<v1::EvaluateRequest>>,
    ) -> Result<Response<v1::EvaluateResponse>, Status> {
        let (mut uploads, caller) = Uploads::of(request);
        let first = uploads.first().await?;
        let (model, selector) = name::version_or_alias(&caller, "model", &first.model).map_err(status)?;
        let live = self
            .blocking({
                let (model, selector) = (model.clone(), selector);
                move |services| services.predictor.resolve(&model, &selector)
            })
            .await?;
        let mut evaluation = Evaluation::new(live);
        let mut request = first;
        loop {
            let examples = dataset::checked(request.examples, evaluation.seen).map_err(status)?;
            evaluation.add(self, examples).await?;
            match uploads.next().await? {
                Received::Message(next) => request = next,
                Received::End(_) => break,
            }
        }
        if evaluation.seen == 0 {
            let live = Arc::clone(&evaluation.live);
            let stored = self
                .blocking(move |services| {
                    let uid = services.registry.model(&model)?.uid;
                    let mut stored = services.dataset.all(uid)?;
                    hold_out(&mut stored, &live.manifest);
                    Ok(stored)
                })
                .await?;
            let validation = stored.into_iter().filter(|example| example.split == Split::Validation);
            evaluation.add(self, validation.map(|example| (example.text, example.label)).collect()).await?;
        }
        Ok(Response::new(evaluation.finish()))
    }
}

impl Services {
    fn job(&self, job: JobRecord, positions: &Positions) -> v1::Job {
        let (id, is_ended) = (job.id, job.state.is_ended());
        let ahead = positions.ahead_of(id).and_then(|ahead| ahead.try_into().ok());
        v1::Job {
            waiting: !is_ended && positions.is_parked(id),
            jobs_ahead: ahead.unwrap_or_default(),
            ..convert::job(job, self.jobs.progress(id).as_ref())
        }
    }
}

/// What a version says to labelled texts, text by text.
struct Evaluation {
    live: Arc<Live>,
    confusion: Confusion,
    judged: Vec<Judged>,
    seen: usize,
    unknown: u64,
    unknown_names: BTreeSet<ClassName>,
}

impl Evaluation {
    fn new(live: Arc<Live>) -> Self {
        let confusion = Confusion::new(live.groups.classes.len());
        Self { live, confusion, judged: Vec::new(), seen: 0, unknown: 0, unknown_names: BTreeSet::new() }
    }

    async fn add(&mut self, services: &Services, examples: Vec<(String, ClassName)>) -> Result<(), Status> {
        self.seen += examples.len();
        let mut columns: BTreeMap<ClassName, Option<u32>> = BTreeMap::new();
        let mut known = Vec::new();
        for (text, label) in examples {
            let live = &self.live;
            let column =
                *columns.entry(label.clone()).or_insert_with(|| match live.manifest.meaning(&label) {
                    Meaning::Class(id) => live.groups.column(id),
                    Meaning::Ambiguous(_) | Meaning::Removed | Meaning::Unknown => None,
                });
            match column {
                Some(column) => known.push((text, column)),
                None => {
                    self.unknown += 1;
                    if self.unknown_names.len() < MAX_UNKNOWN {
                        self.unknown_names.insert(label);
                    }
                }
            }
        }
        for batch in known.chunks(MAX_TEXTS) {
            let texts = batch.iter().map(|(text, _)| text.clone()).collect();
            let answers = services.predictor.ask(&self.live, texts, 1, 0.0).await.map_err(status)?;
            for ((_, column), answer) in batch.iter().zip(answers) {
                let best = answer.scores.first().and_then(|score| self.live.groups.column(score.class));
                if let Some(best) = best {
                    self.confusion.add(*column as usize, best as usize);
                    let right = *column == best;
                    self.judged.push(Judged { confidence: answer.confidence, right });
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> v1::EvaluateResponse {
        let name = |column: usize| self.live.name(self.live.groups.classes[column]).to_string();
        let mut classes: Vec<v1::ClassMetrics> = self
            .confusion
            .classes()
            .into_iter()
            .map(|class| v1::ClassMetrics {
                name: name(class.class),
                support: class.support,
                precision: class.precision,
                recall: class.recall,
                f1: class.f1,
            })
            .collect();
        // Those with the most texts stay where not all fit.
        classes.sort_by(|a, b| b.support.cmp(&a.support).then_with(|| a.name.cmp(&b.name)));
        let (mut classes, omitted) = page::fitting(classes, PAGE_BYTES, false, page::item_bytes);
        classes.sort_by(|a, b| a.name.cmp(&b.name));
        let confused = self.confusion.confused(MAX_CONFUSED).into_iter().map(|pair| v1::ConfusedPair {
            label: name(pair.label),
            answer: name(pair.answer),
            count: pair.count,
        });
        v1::EvaluateResponse {
            version: self.live.version.model.version_name(self.live.version.number),
            examples: self.confusion.total(),
            accuracy: self.confusion.accuracy(),
            macro_f1: self.confusion.macro_f1(),
            calibration_error: calibration_error(&self.judged),
            classes,
            confused: confused.collect(),
            unknown_labels: self.unknown,
            omitted_classes: omitted as u32,
            unknown_label_names: self.unknown_names.iter().map(ToString::to_string).collect(),
        }
    }
}
