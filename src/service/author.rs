//! Who changes something, as it is kept: who was verified, and what a caller says of itself, which nothing verifies.

use tonic::Request;

use super::{
    Peer,
    caller::{self, Caller},
};
use crate::error::{Error, Result};

/// The metadata in which a caller says who it is.
const KEY: &str = "taxond-user";
/// Longest name of a caller, in bytes.
const MAX_BYTES: usize = 128;

/// The message of a request, who calls, and how that is kept: the identity that was verified, with what the caller says
/// before it; else what it says alone, else where it calls from; empty where that is not known.
///
/// # Errors
/// [`Error::Invalid`] naming `taxond-user`.
pub(super) fn of<T>(request: Request<T>) -> Result<(T, Caller, String)> {
    let said = request.metadata().get(KEY).map(|value| checked(value.as_bytes())).transpose()?;
    let from = request.extensions().get::<Peer>().map(Peer::to_string);
    let (message, caller) = caller::of(request);
    let verified = caller.identity().name.as_str();
    let author = match said {
        Some(said) if verified.is_empty() || verified == said => said,
        Some(said) => format!("{said} via {verified}"),
        None if verified.is_empty() => from.unwrap_or_default(),
        None => verified.to_owned(),
    };
    Ok((message, caller, author))
}

fn checked(raw: &[u8]) -> Result<String> {
    let name = String::from_utf8_lossy(raw);
    let printable = raw.iter().all(|byte| matches!(byte, b' '..=b'~'));
    if !printable || raw.len() > MAX_BYTES || name.trim().is_empty() {
        let shown: String = name.chars().take(32).collect();
        let description = format!(
            "must be 1 to {MAX_BYTES} printable characters of ASCII and not blank, got {} bytes, '{}'",
            raw.len(),
            shown.escape_debug()
        );
        return Err(Error::invalid(KEY, description));
    }
    Ok(name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::service::Identity;

    fn author(raw: &str) -> Result<String> {
        let mut request = Request::new(());
        request.metadata_mut().insert(KEY, raw.parse().unwrap());
        of(request).map(|((), _, author)| author)
    }

    #[test]
    fn who_calls_is_what_the_caller_says() {
        assert_eq!(author(" ada, the first ").unwrap(), "ada, the first");
        let (message, _, author) = of(Request::new(7)).unwrap();
        assert_eq!((message, author.as_str()), (7, ""));
    }

    #[test]
    fn who_was_verified_is_kept_whatever_the_caller_says() {
        let author = |said: Option<&str>| {
            let mut request = Request::new(());
            if let Some(said) = said {
                request.metadata_mut().insert(KEY, said.parse().unwrap());
            }
            let identity = Identity { name: "ci".into(), ..Identity::anybody() };
            request.extensions_mut().insert(Caller::new(Arc::new(identity)));
            of(request).unwrap().2
        };
        assert_eq!(author(None), "ci");
        assert_eq!(author(Some("ci")), "ci");
        assert_eq!(author(Some("ada")), "ada via ci");
    }

    #[test]
    fn a_name_that_cannot_be_kept_is_refused() {
        for (raw, part) in
            [("", "got 0 bytes"), ("  ", "'  '"), ("a\tb", "'a\\tb'"), (&"x".repeat(129), "got 129 bytes")]
        {
            let error = author(raw).unwrap_err();
            assert!(matches!(&error, Error::Invalid(v) if v[0].field == KEY), "{error}");
            assert!(error.to_string().contains(part), "{raw:?}: {error}");
        }
        assert!(checked("é".as_bytes()).is_err() && checked(b"\xff").is_err());
    }
}
