//! Who calls: what a caller says of itself, kept with what it changes. Nothing verifies it.

use tonic::Request;

use super::Peer;
use crate::error::{Error, Result};

/// The metadata in which a caller says who it is.
const KEY: &str = "taxond-user";
/// Longest name of a caller, in bytes.
const MAX_BYTES: usize = 128;

/// The message of a request and who calls: as the caller says, else where it calls from; empty where that is
/// not known.
///
/// # Errors
/// [`Error::Invalid`] naming `taxond-user`.
pub(super) fn of<T>(request: Request<T>) -> Result<(T, String)> {
    let author = match request.metadata().get(KEY) {
        Some(value) => checked(value.as_bytes())?,
        None => request.extensions().get::<Peer>().map(Peer::to_string).unwrap_or_default(),
    };
    Ok((request.into_inner(), author))
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
    use super::*;

    fn author(raw: &str) -> Result<String> {
        let mut request = Request::new(());
        request.metadata_mut().insert(KEY, raw.parse().unwrap());
        of(request).map(|((), author)| author)
    }

    #[test]
    fn who_calls_is_what_the_caller_says() {
        assert_eq!(author(" ada, the first ").unwrap(), "ada, the first");
        assert_eq!(of(Request::new(7)).unwrap(), (7, String::new()));
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
