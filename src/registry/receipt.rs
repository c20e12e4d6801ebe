//! Receipts: what a mutating call answered, kept for a day, so that a repeat of the call gets the same answer.

use std::time::{Duration, SystemTime};

use prost::Message as _;

use super::{
    Registry, Writer, key,
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

/// What a call with a request id did. Stored in the same commit as the change itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The caller's id of the request.
    pub request_id: String,
    /// Hash of the request: the same id over another request is a fault of the caller, who compares it.
    pub fingerprint: [u8; 32],
    /// From what the first answer is found again, a resource name for instance. Where it is empty, the method that
    /// stores the receipt puts the resource name of what it made.
    pub outcome: String,
    /// When the call was made, in the time by which receipts age: [`Registry::service_time`].
    pub created: SystemTime,
}

impl Receipt {
    /// Adds it to the batch of the change it stands for.
    pub(crate) fn put(&self, batch: &mut Batch) {
        let record = storage::Receipt {
            fingerprint: self.fingerprint.to_vec(),
            outcome: self.outcome.clone(),
            created: timestamp(self.created),
        };
        batch.put(Tree::Receipts, key::receipt(&self.request_id), record.encode_to_vec());
    }
}

impl Registry {
    /// What the call with a request id answered, if that was less than a day ago.
    ///
    /// # Errors
    /// [`crate::error::Error::Corrupt`] for a damaged record; [`crate::error::Error::Unavailable`] when the
    /// store is read-only: the receipt of the call that made it so can be read and may not be durable.
    pub fn receipt(&self, request_id: &str) -> Result<Option<Receipt>> {
        self.store.check_writable()?;
        let Some(bytes) = self.store.get(Tree::Receipts, &key::receipt(request_id))? else { return Ok(None) };
        let record = decode_record(&bytes)?;
        let created = time(WHAT, record.created)?;
        if is_expired(created, self.service_time()) {
            return Ok(None);
        }
        let fingerprint =
            record.fingerprint.try_into().map_err(|_| damaged(WHAT, "its hash has another length"))?;
        Ok(Some(Receipt { request_id: request_id.to_owned(), fingerprint, outcome: record.outcome, created }))
    }

    /// Adds a receipt, if the caller wants one, to the batch of the change it stands for; from time to time also the
    /// removal of those that expired.
    pub(super) fn add_receipt(
        &self,
        writer: &mut Writer,
        batch: &mut Batch,
        receipt: Option<Receipt>,
        outcome: impl FnOnce() -> String,
    ) -> Result<()> {
        let Some(mut receipt) = receipt else { return Ok(()) };
        if writer.receipts_swept.elapsed() >= SWEEP_INTERVAL {
            self.drop_expired_receipts(batch, self.service_time())?;
            writer.receipts_swept = std::time::Instant::now();
        }
        if receipt.outcome.is_empty() {
            receipt.outcome = outcome();
        }
        receipt.put(batch);
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
