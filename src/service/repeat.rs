//! Calls that may be repeated: a request id makes the second call return what the first one did.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prost::Message;
use serde::{Serialize, de::DeserializeOwned};

use super::{Services, caller::Caller, check};
use crate::{
    error::{Error, Result},
    registry::{Kept, Receipt},
};

/// The request ids of calls under way.
#[derive(Debug, Clone, Default)]
pub struct Requests(Arc<Mutex<HashSet<RequestKey>>>);

/// Name of an identity and the id that it gave a request.
type RequestKey = (String, String);

/// Whether a call is the first with its request id.
pub(super) enum Call {
    /// It is: do it, store the receipt with it, and only then let go of the second.
    First(Option<Receipt>, Option<UnderWay>),
    /// It was done already; the receipt leads to the answer.
    Repeat(Kept),
}

/// A call under way: a second with its request id is refused until this is dropped.
pub(super) struct UnderWay {
    requests: Requests,
    key: RequestKey,
}

impl Services {
    /// Looks up the request id of a call. Ids of other identities are none of the caller's.
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
        let identity = caller.identity().name.as_str();
        let under_way = self.requests.begin((identity.to_owned(), request_id.to_owned()))?;
        let mut hash = blake3::Hasher::new();
        hash.update(rpc.as_bytes()).update(&[0]).update(&request.encode_to_vec());
        let fingerprint = *hash.finalize().as_bytes();
        let kept = match self.registry.receipt(identity, request_id)? {
            None => self.registry.receipt_of_anybody(request_id, &fingerprint)?,
            kept => kept,
        };
        match kept {
            None => {
                let receipt = Receipt::new(identity, request_id, fingerprint, self.registry.service_time());
                Ok(Call::First(Some(receipt), Some(under_way)))
            }
            Some(kept) if kept.fingerprint == fingerprint => Ok(Call::Repeat(kept)),
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

impl Services {
    /// What a call with a request id has just stored, so that its answer is made of the same as that of a repeat; none of a
    /// call without.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a damaged record.
    pub(super) fn kept(&self, caller: &Caller, request_id: &str) -> Result<Option<Kept>> {
        if request_id.is_empty() {
            return Ok(None);
        }
        self.registry.receipt(&caller.identity().name, request_id)
    }
}

impl Requests {
    fn begin(&self, key: RequestKey) -> Result<UnderWay> {
        if !self.lock().insert(key.clone()) {
            let what = "a call with this request_id is under way; repeat when it is over";
            return Err(Error::Unavailable(what.to_owned()));
        }
        Ok(UnderWay { requests: self.clone(), key })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<RequestKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.requests.lock().remove(&self.key);
    }
}

/// What a receipt keeps of an answer, as JSON.
///
/// # Errors
/// [`Error::Internal`], which would be a fault of the daemon.
pub(super) fn encode(answer: &impl Serialize) -> Result<String> {
    serde_json::to_string(answer).map_err(|error| Error::Internal(format!("keeping an answer: {error}")))
}

/// The first answer, where the outcome of a call is that in JSON.
///
/// # Errors
/// [`Error::Invalid`] for the outcome of another kind of call.
pub(super) fn answer<T: DeserializeOwned>(outcome: &str) -> Result<T> {
    serde_json::from_str(outcome)
        .map_err(|_| Error::invalid("request_id", "was used for another request within 24 hours"))
}
