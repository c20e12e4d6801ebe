//! Jobs: background runs that learn. What is kept of them outlives the daemon; their progress does not.

use std::{fmt, time::SystemTime};

use prost::Message as _;

use super::{
    Mode, ModelId, Receipt, Registry, key,
    receipt::Made,
    record::{damaged, decode, from_mode, model_id, time, timestamp, to_mode},
};
use crate::{
    error::{Error, Resource, Result},
    proto::storage,
    store::{Batch, Tree},
    taxonomy::VersionNumber,
};

/// So often may the daemon end without an orderly stop over the same work before it is left alone: the work may be the cause.
const MOST_CRASHES: u32 = 2;

/// Number of a job, counted from 1 over all models, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// What is kept of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRecord {
    /// Its number.
    pub id: JobId,
    /// The model it trains.
    pub model: ModelId,
    /// Where it stands.
    pub state: JobState,
    /// How it trains; none before it was planned.
    pub mode: Option<Mode>,
    /// Why that mode.
    pub mode_reason: String,
    /// The versions it published or stored, oldest first.
    pub versions: Vec<VersionNumber>,
    /// For a job that did not succeed: what happened and what to do.
    pub message: String,
    /// When it was accepted.
    pub created: SystemTime,
    /// When it ended.
    pub ended: Option<SystemTime>,
    /// What is to be done, for who does it again after the daemon stopped; empty where nobody does.
    pub order: String,
    /// How often the daemon ended without an orderly stop while this was learnt.
    pub crashes: u32,
    /// The interrupted job whose work this does again.
    pub continues: Option<JobId>,
    /// The job that does this one's work again.
    pub continued_by: Option<JobId>,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// Accepted, waiting to be started.
    Queued,
    /// Started: it computes, by turns with others.
    Running,
    /// Done.
    Succeeded,
    /// Ended by an error.
    Failed,
    /// Ended on request.
    Cancelled,
    /// The daemon stopped while it ran.
    Interrupted,
    /// A newer change of the classes made it pointless.
    Superseded,
}

impl JobId {
    /// Resource name of the job.
    pub fn name(self) -> String {
        format!("jobs/{self}")
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl JobState {
    /// Whether nothing more comes.
    pub fn is_ended(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

impl JobRecord {
    fn queued(id: JobId, model: ModelId, order: String) -> Self {
        Self {
            id,
            model,
            state: JobState::Queued,
            mode: None,
            mode_reason: String::new(),
            versions: Vec::new(),
            message: String::new(),
            created: SystemTime::now(),
            ended: None,
            order,
            crashes: 0,
            continues: None,
            continued_by: None,
        }
    }

    /// Whether its work is to be done again when the daemon starts.
    fn is_to_continue(&self) -> bool {
        self.state == JobState::Interrupted
            && self.continued_by.is_none()
            && !self.order.is_empty()
            && self.crashes < MOST_CRASHES
    }

    /// What to say of a job that the stop of the daemon ended.
    pub fn interruption(&self) -> String {
        let next = match (self.order.is_empty(), self.crashes < MOST_CRASHES) {
            (true, _) => "start it again",
            (false, true) => "the work is done again when the daemon starts",
            (false, false) => {
                "as that happened before with this work, it is not done again by itself; see the log, then start it again"
            }
        };
        format!("the daemon stopped while the job ran; versions it had published are kept; {next}")
    }

    /// Adds it to a batch, for a job that is to change together with something else.
    pub fn put(&self, batch: &mut Batch) {
        batch.put(Tree::Jobs, key::job(self.id), self.to_record().encode_to_vec());
    }

    /// Its record. Its number is in the key.
    pub(super) fn to_record(&self) -> storage::Job {
        let state = match self.state {
            JobState::Queued => storage::JobState::Queued,
            JobState::Running => storage::JobState::Running,
            JobState::Succeeded => storage::JobState::Succeeded,
            JobState::Failed => storage::JobState::Failed,
            JobState::Cancelled => storage::JobState::Cancelled,
            JobState::Interrupted => storage::JobState::Interrupted,
            JobState::Superseded => storage::JobState::Superseded,
        };
        storage::Job {
            model: self.model.to_string(),
            state: state.into(),
            mode: from_mode(self.mode),
            mode_reason: self.mode_reason.clone(),
            versions: self.versions.iter().map(|number| number.0).collect(),
            message: self.message.clone(),
            created: timestamp(self.created),
            ended: self.ended.and_then(timestamp),
            order: self.order.clone(),
            crashes: self.crashes,
            continues: self.continues.map_or(0, |id| id.0),
            continued_by: self.continued_by.map_or(0, |id| id.0),
        }
    }

    pub(super) fn from_record(id: JobId, bytes: &[u8]) -> Result<Self> {
        let what = id.name();
        let record: storage::Job = decode(&what, bytes)?;
        let state = match storage::JobState::try_from(record.state) {
            Ok(storage::JobState::Queued) => JobState::Queued,
            Ok(storage::JobState::Running) => JobState::Running,
            Ok(storage::JobState::Succeeded) => JobState::Succeeded,
            Ok(storage::JobState::Failed) => JobState::Failed,
            Ok(storage::JobState::Cancelled) => JobState::Cancelled,
            Ok(storage::JobState::Interrupted) => JobState::Interrupted,
            Ok(storage::JobState::Superseded) => JobState::Superseded,
            Ok(storage::JobState::Unspecified) | Err(_) => {
                return Err(damaged(&what, format!("state {} is unknown", record.state)));
            }
        };
        Ok(Self {
            id,
            model: model_id(&what, &record.model)?,
            state,
            mode: to_mode(&what, record.mode)?,
            mode_reason: record.mode_reason,
            versions: record.versions.into_iter().map(VersionNumber).collect(),
            message: record.message,
            created: time(&what, record.created)?,
            ended: record.ended.map(|ended| time(&what, Some(ended))).transpose()?,
            order: record.order,
            crashes: record.crashes,
            continues: (record.continues != 0).then_some(JobId(record.continues)),
            continued_by: (record.continued_by != 0).then_some(JobId(record.continued_by)),
        })
    }
}

impl Registry {
    /// Accepts a job for a model: it is queued, and has a number. With an order it is to be done again where the daemon stops
    /// before its end.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a model that does not exist.
    pub fn new_job(
        &self,
        model: &ModelId,
        order: impl Into<String>,
        receipt: Option<Receipt>,
    ) -> Result<JobRecord> {
        let mut writer = self.writer();
        let model = self.model(model)?;
        let mut batch = Batch::new();
        let job = self.accept_job(&mut batch, &model.id, order.into())?;
        self.add_receipt(&mut writer, &mut batch, receipt, || Made::unique(job.id.name()))?;
        self.commit(writer, batch)?;
        Ok(job)
    }

    /// Adds a queued job, with the next number, to a batch. Only the writer may.
    pub(super) fn accept_job(&self, batch: &mut Batch, model: &ModelId, order: String) -> Result<JobRecord> {
        let mut counters = self.counters()?;
        counters.job += 1;
        let job = JobRecord::queued(JobId(counters.job), model.clone(), order);
        batch.put(Tree::Catalog, key::COUNTERS, counters.encode_to_vec());
        job.put(batch);
        Ok(job)
    }

    /// Stores what became of a job.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a job that does not exist: it went with its model.
    pub fn put_job(&self, job: &JobRecord) -> Result<()> {
        let writer = self.writer();
        self.job(job.id)?;
        let mut batch = Batch::freeing();
        job.put(&mut batch);
        self.commit(writer, batch)
    }

    /// One job.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a job that does not exist.
    pub fn job(&self, id: JobId) -> Result<JobRecord> {
        let bytes = self.store.get(Tree::Jobs, &key::job(id))?;
        let bytes = bytes.ok_or_else(|| Error::not_found(Resource::Job, id.name()))?;
        JobRecord::from_record(id, &bytes)
    }

    /// Jobs below a number, all or those of one model, newest first.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a damaged record.
    pub fn jobs(
        &self,
        model: Option<&ModelId>,
        before: Option<JobId>,
        limit: usize,
    ) -> Result<Vec<JobRecord>> {
        self.jobs_before(before)
            .filter(|job| match (job, model) {
                (Ok(job), Some(model)) => job.model == *model,
                _ => true,
            })
            .take(limit)
            .collect()
    }

    /// All jobs below a number, newest first.
    pub(super) fn jobs_before(
        &self,
        before: Option<JobId>,
    ) -> impl Iterator<Item = Result<JobRecord>> + use<> {
        let before = before.map(key::job);
        self.store.scan_back(Tree::Jobs, &[], before.as_deref()).map(|entry| {
            entry.and_then(|(key, bytes)| JobRecord::from_record(JobId(key::number(&key)), &bytes))
        })
    }

    /// The jobs that the stop of the daemon ended and whose work is to be done again, oldest first.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a damaged record.
    pub fn jobs_to_continue(&self) -> Result<Vec<JobRecord>> {
        let mut jobs = self.jobs(None, None, usize::MAX)?;
        jobs.retain(JobRecord::is_to_continue);
        jobs.reverse();
        Ok(jobs)
    }

    /// Accepts a job that does the work of an interrupted one again.
    ///
    /// # Errors
    /// As [`new_job`](Self::new_job).
    pub fn continue_job(&self, interrupted: JobRecord) -> Result<JobRecord> {
        let writer = self.writer();
        let model = self.model(&interrupted.model)?;
        let mut counters = self.counters()?;
        counters.job += 1;
        let job = JobRecord {
            crashes: interrupted.crashes,
            continues: Some(interrupted.id),
            ..JobRecord::queued(JobId(counters.job), model.id, interrupted.order.clone())
        };
        let message = format!(
            "the daemon stopped while the job ran; versions it had published are kept; {} does the work again",
            job.id.name()
        );
        let mut batch = Batch::new();
        batch.put(Tree::Catalog, key::COUNTERS, counters.encode_to_vec());
        JobRecord { continued_by: Some(job.id), message, ..interrupted }.put(&mut batch);
        job.put(&mut batch);
        self.commit(writer, batch)?;
        Ok(job)
    }

    /// Ends the jobs that the last run of the daemon left unended: it did not stop in order.
    pub(super) fn interrupt_jobs(&self) -> Result<()> {
        let mut batch = Batch::freeing();
        for mut job in self.jobs(None, None, usize::MAX)? {
            if !job.state.is_ended() {
                job.crashes += u32::from(job.state == JobState::Running);
                (job.state, job.ended) = (JobState::Interrupted, Some(SystemTime::now()));
                job.message = job.interruption();
                job.put(&mut batch);
            }
        }
        if batch.is_empty() { Ok(()) } else { self.store.commit(batch) }
    }
}
