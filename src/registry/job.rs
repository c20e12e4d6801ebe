//! Jobs: background runs that learn. What is kept of them outlives the daemon; their progress does not.

use std::{fmt, time::SystemTime};

use prost::Message as _;

use super::{
    Mode, ModelId, Receipt, Registry, key,
    record::{damaged, decode, from_mode, model_id, time, timestamp, to_mode},
};
use crate::{
    error::{Error, Resource, Result},
    proto::storage,
    store::{Batch, Tree},
    taxonomy::VersionNumber,
};

const INTERRUPTED: &str =
    "the daemon stopped while the job ran; versions it had published are kept; start it again";

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
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// Accepted, waiting for the training thread.
    Queued,
    /// Learning.
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
    /// Adds it to a batch.
    pub(super) fn put(&self, batch: &mut Batch) {
        let state = match self.state {
            JobState::Queued => storage::JobState::Queued,
            JobState::Running => storage::JobState::Running,
            JobState::Succeeded => storage::JobState::Succeeded,
            JobState::Failed => storage::JobState::Failed,
            JobState::Cancelled => storage::JobState::Cancelled,
            JobState::Interrupted => storage::JobState::Interrupted,
            JobState::Superseded => storage::JobState::Superseded,
        };
        let record = storage::Job {
            model: self.model.to_string(),
            state: state.into(),
            mode: from_mode(self.mode),
            mode_reason: self.mode_reason.clone(),
            versions: self.versions.iter().map(|number| number.0).collect(),
            message: self.message.clone(),
            created: timestamp(self.created),
            ended: self.ended.and_then(timestamp),
        };
        batch.put(Tree::Jobs, key::job(self.id), record.encode_to_vec());
    }

    fn from_record(id: JobId, bytes: &[u8]) -> Result<Self> {
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
        })
    }
}

impl Registry {
    /// Accepts a job for a model: it is queued, and has a number.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a model that does not exist.
    pub fn new_job(&self, model: &ModelId, receipt: Option<Receipt>) -> Result<JobRecord> {
        let mut writer = self.writer();
        let model = self.model(model)?;
        let mut counters = self.counters()?;
        counters.job += 1;
        let job = JobRecord {
            id: JobId(counters.job),
            model: model.id,
            state: JobState::Queued,
            mode: None,
            mode_reason: String::new(),
            versions: Vec::new(),
            message: String::new(),
            created: SystemTime::now(),
            ended: None,
        };
        let mut batch = Batch::new();
        batch.put(Tree::Catalog, key::COUNTERS, counters.encode_to_vec());
        job.put(&mut batch);
        self.add_receipt(&mut writer, &mut batch, receipt, || job.id.name())?;
        self.commit(writer, batch)?;
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
        let before = before.map(key::job);
        self.store
            .scan_back(Tree::Jobs, &[], before.as_deref())
            .map(|entry| {
                entry.and_then(|(key, bytes)| JobRecord::from_record(JobId(key::number(&key)), &bytes))
            })
            .filter(|job| match (job, model) {
                (Ok(job), Some(model)) => job.model == *model,
                _ => true,
            })
            .take(limit)
            .collect()
    }

    /// Ends the jobs that the last run of the daemon left unended.
    pub(super) fn interrupt_jobs(&self) -> Result<()> {
        let mut batch = Batch::freeing();
        for job in self.jobs(None, None, usize::MAX)? {
            if !job.state.is_ended() {
                let ended = Some(SystemTime::now());
                JobRecord { state: JobState::Interrupted, message: INTERRUPTED.to_owned(), ended, ..job }
                    .put(&mut batch);
            }
        }
        if batch.is_empty() { Ok(()) } else { self.store.commit(batch) }
    }
}
