//! Calls that may be repeated: a request id makes the second call return what the first one did.

use std::time::SystemTime;

use prost::Message;
use serde::de::DeserializeOwned;

use super::{caller::Caller, check};
use crate::{
    error::{Error, Result},
    registry::{Receipt, Registry},
};

/// Whether a call is the first with its request id.
pub(super) enum Call {
    /// It is: do it, and store the receipt with it.
    First(Option<Receipt>),
    /// It was done already; the outcome leads to the answer.
    Repeat(String),
}

/// Looks up the request id of a call.
///
/// # Errors
/// [`Error::Invalid`] for an id that is too long or was used for another request.
pub(super) fn check<M: Message>(
    caller: &Caller,
    registry: &Registry,
    rpc: &str,
    request_id: &str,
    request: &M,
) -> Result<Call> {
    if request_id.is_empty() {
        return Ok(Call::First(None));
    }
    check::request_id(request_id)?;
    caller.says_request_id(request_id);
    let mut hash = blake3::Hasher::new();
    hash.update(rpc.as_bytes()).update(&[0]).update(&request.encode_to_vec());
    let fingerprint = *hash.finalize().as_bytes();
    match registry.receipt(request_id)? {
        None => Ok(Call::First(Some(Receipt {
            request_id: request_id.to_owned(),
            fingerprint,
            outcome: String::new(),
            created: SystemTime::now(),
        }))),
        Some(receipt) if receipt.fingerprint == fingerprint => Ok(Call::Repeat(receipt.outcome)),
        Some(_) => {
            let description =
                format!("was used for another request within 24 hours, got '{}'", request_id.escape_debug());
            Err(Error::invalid("request_id", description))
        }
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
