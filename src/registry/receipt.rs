//! Receipts: what a mutating call answered, kept for a day, so that a repeat of the call gets the same answer.
//!
//! A receipt is found by the identity that called and the id that it gave its request: identities can use the same ids and hear
//! nothing of each other.

use std::time::{Duration, Instant, SystemTime};

use prost::Message as _;

use super::{
    Model, ModelId, Registry, Writer, key,
    record::{damaged, decode, time, timestamp},
};
use crate::{
    error::Result,
    proto::storage,
    store::{Batch, Tree},
};

/// How long a receipt is kept.
pub const RECEIPT_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// How often expired receipts are looked for while the daemon runs.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// The receipt of a call that is under way. Stored in the same commit as what the call changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Name of the identity that calls; empty where nobody is asked who they are.
    pub identity: String,
    /// The caller's id of the request.
    pub request_id: String,
    /// Hash of the request: the same id over another request is a fault of the caller, who compares it.
    pub fingerprint: [u8; 32],
    /// From what the first answer is found again, a resource name for instance. Where it is empty, the method that
    /// stores the receipt puts the resource name of what it made.
    pub outcome: String,
    /// What else is needed of the first answer, in JSON; empty for nothing.
    pub details: String,
    /// When the call was made, in the time by which receipts age: [`Registry::service_time`].
    pub created: SystemTime,
    /// The same moment by the clock that nobody sets.
    pub started: Instant,
}

/// The receipt of a call that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// As in [`Receipt`].
    pub fingerprint: [u8; 32],
    /// As in [`Receipt`], filled.
    pub outcome: String,
    /// As in [`Receipt`].
    pub details: String,
    /// Seconds from the call to its commit; none in receipts of earlier builds.
    pub seconds: Option<f64>,
    /// The uid of the model that the outcome belongs to; none where that is not known.
    pub model_uid: Option<u64>,
    /// The model as the call left it, where that is what it answers.
    model: Option<storage::Model>,
}

/// What a call made.
pub(super) struct Made<'a> {
    /// Resource name of it.
    name: String,
    /// The model it belongs to, if that may be another one under the same name later.
    uid: u64,
    /// The model, where that is the answer.
    model: Option<&'a Model>,
}

impl Made<'_> {
    /// Something that has its name for ever.
    pub(super) fn unique(name: String) -> Self {
        Self { name, uid: 0, model: None }
    }

    /// Something that belongs to a model.
    pub(super) fn within(model: &Model, name: String) -> Self {
        Self { name, uid: model.uid, model: None }
    }
}

impl<'a> Made<'a> {
    /// A change of a model's record, which is the answer.
    pub(super) fn model(model: &'a Model, name: String) -> Self {
        Self { name, uid: model.uid, model: Some(model) }
    }
}

impl Receipt {
    /// The receipt of a call that begins now.
    pub fn new(
        identity: impl Into<String>,
        request_id: impl Into<String>,
        fingerprint: [u8; 32],
        created: SystemTime,
    ) -> Self {
        Self {
            identity: identity.into(),
            request_id: request_id.into(),
            fingerprint,
            outcome: String::new(),
            details: String::new(),
            created,
            started: Instant::now(),
        }
    }

    /// Adds it to the batch of the change it stands for.
    pub(crate) fn put(&self, batch: &mut Batch) {
        self.put_made(batch, 0, None);
    }

    fn put_made(&self, batch: &mut Batch, model_uid: u64, model: Option<&Model>) {
        let record = storage::Receipt {
            fingerprint: self.fingerprint.to_vec(),
            outcome: self.outcome.clone(),
            created: timestamp(self.created),
            details: self.details.clone(),
            seconds: Some(self.started.elapsed().as_secs_f64()),
            model_uid,
            model: model.map(Model::to_record),
        };
        batch.put(Tree::Receipts, key::receipt(&self.identity, &self.request_id), record.encode_to_vec());
    }
}

impl Kept {
    /// The model as the call left it; none where the call answered something else, or an earlier build stored the receipt.
    ///
    /// # Errors
    /// [`crate::error::Error::Corrupt`] for a damaged record.
    pub fn model(&self, id: &ModelId) -> Result<Option<Model>> {
        self.model.clone().map(|record| Model::from_record(id.clone(), record)).transpose()
    }
}

impl Registry {
    /// What the call of an identity with a request id answered, if that was less than a day ago.
    ///
    /// # Errors
    /// [`crate::error::Error::Corrupt`] for a damaged record; [`crate::error::Error::Unavailable`] when the
    /// store is read-only: the receipt of the call that made it so can be read and may not be durable.
    pub fn receipt(&self, identity: &str, request_id: &str) -> Result<Option<Kept>> {
        self.receipt_at(&key::receipt(identity, request_id))
    }

    /// What a call with a request id answered that an earlier build made for whatever identity, if it was this request and less
    /// than a day ago.
    ///
    /// # Errors
    /// As [`receipt`](Self::receipt).
    pub fn receipt_of_anybody(&self, request_id: &str, fingerprint: &[u8; 32]) -> Result<Option<Kept>> {
        let found = self.receipt_at(&key::receipt("", request_id))?;
        Ok(found.filter(|kept| kept.fingerprint == *fingerprint))
    }

    fn receipt_at(&self, key: &[u8]) -> Result<Option<Kept>> {
        self.store.check_writable()?;
        let Some(bytes) = self.store.get(Tree::Receipts, key)? else { return Ok(None) };
        let record = decode_record(&bytes)?;
        if is_expired(time(WHAT, record.created)?, self.service_time()) {
            return Ok(None);
        }
        let fingerprint =
            record.fingerprint.try_into().map_err(|_| damaged(WHAT, "its hash has another length"))?;
        Ok(Some(Kept {
            fingerprint,
            outcome: record.outcome,
            details: record.details,
            seconds: record.seconds,
            model_uid: (record.model_uid != 0).then_some(record.model_uid),
            model: record.model,
        }))
    }

    /// Adds a receipt, if the caller wants one, to the batch of the change it stands for; from time to time also the
    /// removal of those that expired.
    pub(super) fn add_receipt<'a>(
        &self,
        writer: &mut Writer,
        batch: &mut Batch,
        receipt: Option<Receipt>,
        made: impl FnOnce() -> Made<'a>,
    ) -> Result<()> {
        let Some(mut receipt) = receipt else { return Ok(()) };
        if writer.receipts_swept.elapsed() >= SWEEP_INTERVAL {
            self.drop_expired_receipts(batch, self.service_time())?;
            writer.receipts_swept = Instant::now();
        }
        let made = made();
        if receipt.outcome.is_empty() {
            receipt.outcome = made.name;
        }
        receipt.put_made(batch, made.uid, made.model);
        Ok(())
    }

    /// Adds the removal of expired receipts to a batch.
    pub(super) fn drop_expired_receipts(&self, batch: &mut Batch, now: SystemTime) -> Result<()> {
        for entry in self.store.scan(Tree::Receipts, &[], None) {
            let (key, bytes) = entry?;
            if is_expired(time(WHAT, decode_record(&bytes)?.created)?, now) {
                batch.delete(Tree::Receipts, key);
            }
        }
        Ok(())
    }
}

const WHAT: &str = "a receipt";

fn decode_record(bytes: &[u8]) -> Result<storage::Receipt> {
    decode(WHAT, bytes)
}

/// A receipt from the future is kept: an earlier build took the time from a clock that was ahead.
fn is_expired(created: SystemTime, now: SystemTime) -> bool {
    now.duration_since(created).is_ok_and(|age| age >= RECEIPT_LIFETIME)
}
