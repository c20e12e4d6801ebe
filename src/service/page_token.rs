//! Page tokens: the position after which a list goes on, sealed.
//!
//! A token is encrypted and authenticated, so it tells nothing of what lies between two pages. It is bound to the identity that
//! got it, to the call and to the filter: with another identity, call or filter it is refused like a forged one. The page size
//! may change from page to page. The key lives in the store, so tokens outlast a restart of the daemon: a client that reads a
//! million examples goes on where it was.

use std::{fmt, str::FromStr, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use prost::Message;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::caller::Caller;
use crate::{
    error::{Error, Result},
    proto::v1,
    taxonomy::MAX_CLASS_NAME_BYTES,
};

/// Bytes of a position: its length, then at most a label. All tokens have one length, whatever the position.
const POSITION_BYTES: usize = 1 + MAX_CLASS_NAME_BYTES;
/// What the key of the nonces is derived for.
const NONCES: &str = "taxond 2026-11-30 nonces of page tokens";

/// Seals and opens page tokens.
#[derive(Clone)]
pub struct PageTokens {
    key: Arc<LessSafeKey>,
    nonces: [u8; 32],
}

/// One list, as one identity asks for it.
pub(super) struct Listing {
    tokens: PageTokens,
    /// Hash of identity, call and filter.
    bound: [u8; 32],
}

/// A request for a page.
pub(super) trait PageRequest: Message + Clone {
    /// The same request without the fields that differ from page to page.
    fn filter(&self) -> Self;
    /// The token of the page.
    fn token(&self) -> &str;
}

macro_rules! page_requests {
    ($($request:ty { $($paging:ident),+ }),* $(,)?) => {$(
        impl PageRequest for $request {
            fn filter(&self) -> Self {
                let mut filter = self.clone();
                $(filter.$paging = Default::default();)+
                filter
            }

            fn token(&self) -> &str {
                &self.page_token
            }
        }
    )*};
}

page_requests!(
    v1::GetHistoryRequest { page_size, page_token },
    v1::GetManifestRequest { page_token },
    v1::GetStatsRequest { page_token },
    v1::ListExamplesRequest { page_size, page_token },
    v1::ListJobsRequest { page_size, page_token },
    v1::ListManifestsRequest { page_size, page_token },
    v1::ListModelsRequest { page_size, page_token },
    v1::ListVersionsRequest { page_size, page_token },
);

impl PageTokens {
    /// Tokens under a secret key.
    ///
    /// # Errors
    /// [`Error::Internal`]: the cipher takes no key of this length, which would be a fault of the daemon.
    pub fn new(key: &[u8; 32]) -> Result<Self> {
        let unbound = UnboundKey::new(&CHACHA20_POLY1305, key)
            .map_err(|_| Error::Internal("the key of page tokens has a wrong length".to_owned()))?;
        Ok(Self { key: Arc::new(LessSafeKey::new(unbound)), nonces: blake3::derive_key(NONCES, key) })
    }

    /// The list that a request of a caller asks for.
    pub(super) fn listing(&self, caller: &Caller, rpc: &str, request: &impl PageRequest) -> Listing {
        let mut hash = blake3::Hasher::new();
        for part in [caller.identity().name.as_bytes(), rpc.as_bytes(), &request.filter().encode_to_vec()] {
            hash.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        Listing { tokens: self.clone(), bound: *hash.finalize().as_bytes() }
    }
}

impl Listing {
    /// The position after which the page begins; none for the first page.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `page_token`.
    pub(super) fn position<T: FromStr>(&self, request: &impl PageRequest) -> Result<Option<T>> {
        let token = request.token();
        if token.is_empty() {
            return Ok(None);
        }
        self.open(token).map(Some).ok_or_else(|| {
            let shown: String = token.chars().take(32).collect();
            let description = format!(
                "is not one that this list returned to this caller with this filter, got '{}'",
                shown.escape_debug()
            );
            Error::invalid("page_token", description)
        })
    }

    /// The token of the page after a position; empty where there is no such page.
    ///
    /// # Errors
    /// [`Error::Internal`] for a position that is too long, which would be a fault of the daemon.
    pub(super) fn next(&self, position: Option<impl fmt::Display>) -> Result<String> {
        let Some(position) = position.map(|position| position.to_string()) else { return Ok(String::new()) };
        self.seal(&position).ok_or_else(|| Error::Internal("a position fits no page token".to_owned()))
    }

    fn seal(&self, position: &str) -> Option<String> {
        let mut sealed = vec![0; POSITION_BYTES];
        sealed[0] = u8::try_from(position.len()).ok()?;
        sealed.get_mut(1..=position.len())?.copy_from_slice(position.as_bytes());
        // Two tokens share a nonce only where they are the same token.
        let mut hash = blake3::Hasher::new_keyed(&self.tokens.nonces);
        hash.update(&self.bound).update(&sealed);
        let mut nonce = [0; NONCE_LEN];
        hash.finalize_xof().fill(&mut nonce);
        let key = &self.tokens.key;
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(self.bound), &mut sealed)
            .ok()?;
        Some(BASE64.encode([&nonce[..], &sealed].concat()))
    }

    fn open<T: FromStr>(&self, token: &str) -> Option<T> {
        // A longer one need not be decoded.
        if token.len() > 4 * POSITION_BYTES {
            return None;
        }
        let mut token = BASE64.decode(token).ok()?;
        let (nonce, sealed) = token.split_first_chunk_mut::<NONCE_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.tokens.key.open_in_place(nonce, Aad::from(self.bound), sealed).ok()?;
        let length = usize::from(*opened.first()?);
        std::str::from_utf8(opened.get(1..=length)?).ok()?.parse().ok()
    }
}

impl fmt::Debug for PageTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PageTokens")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Identity;

    fn caller(name: &str) -> Caller {
        Caller::new(Arc::new(Identity { name: name.into(), ..Identity::anybody() }))
    }

    fn jobs(model: &str, page_token: &str) -> v1::ListJobsRequest {
        v1::ListJobsRequest { model: model.into(), page_size: 7, page_token: page_token.into() }
    }

    #[test]
    fn a_token_is_taken_from_the_caller_who_got_it_for_the_same_list_alone() {
        let tokens = PageTokens::new(&[7; 32]).unwrap();
        let list = |who: &str, rpc: &str, model: &str| tokens.listing(&caller(who), rpc, &jobs(model, ""));
        let own = list("ada", "ListJobs", "models/bank");
        let token = own.next(Some(4711)).unwrap();
        // The key outlives the daemon, and so does the token.
        let again = PageTokens::new(&[7; 32]).unwrap();
        let request = v1::ListJobsRequest { page_size: 9, ..jobs("models/bank", &token) };
        let again = again.listing(&caller("ada"), "ListJobs", &request);
        assert_eq!(again.position::<u64>(&request).unwrap(), Some(4711));
        assert_eq!(own.position::<u64>(&jobs("models/bank", "")).unwrap(), None);

        let mut forged = token.clone().into_bytes();
        forged[40] = if forged[40] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).unwrap();
        let other_key = PageTokens::new(&[8; 32]).unwrap();
        for (what, list, token) in [
            ("another identity", list("bob", "ListJobs", "models/bank"), token.as_str()),
            ("another call", list("ada", "ListModels", "models/bank"), &token),
            ("another filter", list("ada", "ListJobs", "models/shop"), &token),
            ("another key", other_key.listing(&caller("ada"), "ListJobs", &jobs("models/bank", "")), &token),
            ("forged", list("ada", "ListJobs", "models/bank"), &forged),
            ("in the clear", list("ada", "ListJobs", "models/bank"), "4711"),
            ("cut", list("ada", "ListJobs", "models/bank"), &token[..8]),
            ("long", list("ada", "ListJobs", "models/bank"), &"A".repeat(1 << 20)),
        ] {
            let error = list.position::<u64>(&jobs("models/bank", token)).unwrap_err();
            assert!(matches!(&error, Error::Invalid(v) if v[0].field == "page_token"), "{what}: {error}");
        }
    }

    #[test]
    fn a_token_tells_neither_the_position_nor_its_length() {
        let tokens = PageTokens::new(&[7; 32]).unwrap();
        let list = tokens.listing(&caller("ada"), "ListModels", &v1::ListModelsRequest::default());
        let positions = ["a".to_owned(), "secret-project".to_owned(), "x".repeat(MAX_CLASS_NAME_BYTES)];
        let sealed = positions.map(|position| list.next(Some(position)).unwrap());
        assert!(sealed.iter().all(|token| token.len() == sealed[0].len()));
        let bytes = BASE64.decode(&sealed[1]).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"secret"));
        assert!(list.next(Some("x".repeat(MAX_CLASS_NAME_BYTES + 1))).is_err());
        assert_eq!(list.next(None::<u64>).unwrap(), "");
    }
}
