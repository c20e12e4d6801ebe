//! Calls that may be repeated: a request id makes the second call return what the first one did.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prost::Message;
use serde::de::DeserializeOwned;

use super::{Services, caller::Caller, check};
use crate::{
    error::{Error, Result},
    registry::Receipt,
};

/// The request ids of calls under way.
#[derive(Debug, Clone, Default)]
pub struct Requests(Arc<Mutex<HashSet<String>>>);

/// Whether a call is the first with its request id.
pub(super) enum Call {
    /// It is: do it, store the receipt with it, and only then let go of the second.
    First(Option<Receipt>, Option<UnderWay>),
    /// It was done already; the outcome leads to the answer.
    Repeat(String),
}

/// A call under way: a second with its request id is refused until this is dropped.
pub(super) struct UnderWay {
    requests: Requests,
    request_id: String,
}

impl Services {
    /// Looks up the request id of a call.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an id that is too long or was used for another request; [`Error::Unavailable`] while the first
    /// call with it is not over.
    pub(super) fn first_or_repeat<M: Message>(
        &self,
        caller: &Caller,
        rpc: &str,
        request_id: &str,
        request: &M,
    ) -> Result<Call> {
        if request_id.is_empty() {
            return Ok(Call::First(None, None));
        }
        check::request_id(request_id)?;
        caller.says_request_id(request_id);
        let under_way = self.requests.begin(request_id)?;
        let mut hash = blake3::Hasher::new();
        hash.update(rpc.as_bytes()).update(&[0]).update(&request.encode_to_vec());
        let fingerprint = *hash.finalize().as_bytes();
        match self.registry.receipt(request_id)? {
            None => {
                let (request_id, created) = (request_id.to_owned(), self.registry.service_time());
                let receipt = Receipt { request_id, fingerprint, outcome: String::new(), created };
                Ok(Call::First(Some(receipt), Some(under_way)))
            }
            Some(receipt) if receipt.fingerprint == fingerprint => Ok(Call::Repeat(receipt.outcome)),
            Some(_) => {
                let description = format!(
                    "was used for another request within 24 hours, got '{}'",
                    request_id.escape_debug()
                );
                Err(Error::invalid("request_id", description))
            }
        }
    }
}

impl Requests {
    fn begin(&self, request_id: &str) -> Result<UnderWay> {
        if !self.lock().insert(request_id.to_owned()) {
            let what = "a call with this request_id is under way; repeat when it is over";
            return Err(Error::Unavailable(what.to_owned()));
        }
        Ok(UnderWay { requests: self.clone(), request_id: request_id.to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.requests.lock().remove(&self.request_id);
    }
}

/// The first answer, where the outcome of a call is that in JSON.
///
/// # Errors
/// [`Error::Invalid`] for the outcome of another kind of call.
pub(super) fn answer<T: DeserializeOwned>(outcome: &str) -> Result<T> {
    serde_json::from_str(outcome)
        .map_err(|_| Error::invalid("request_id", "was used for another request within 24 hours"))
}
