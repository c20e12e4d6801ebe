//! Who changes something, as it is kept: who was verified, and what a caller says of itself, which nothing verifies.

use tonic::{Request, metadata::MetadataMap};

use super::{
    Peer,
    caller::{self, Caller},
};
use crate::{
    error::{Error, Result},
    text::{VIA, person},
};

/// The metadata in which a caller says who it is: printable ASCII.
const KEY: &str = "taxond-user";
/// The same in UTF-8, for all names.
const BINARY_KEY: &str = "taxond-user-bin";

/// The message of a request, who calls, and how that is kept: the identity that was verified, with what the caller says
/// before it; else what it says alone, else where it calls from; empty where that is not known.
///
/// # Errors
/// [`Error::Invalid`] naming `taxond-user` or `taxond-user-bin`.
pub(super) fn of<T>(request: Request<T>) -> Result<(T, Caller, String)> {
    let said = said(request.metadata())?;
    let from = request.extensions().get::<Peer>().map(Peer::to_string);
    let (message, caller) = caller::of(request);
    let verified = caller.identity().name.as_str();
    let author = match said {
        Some(said) if verified.is_empty() || verified == said => said,
        Some(said) => format!("{said}{VIA}{verified}"),
        None if verified.is_empty() => from.unwrap_or_default(),
        None => verified.to_owned(),
    };
    Ok((message, caller, author))
}

/// What the caller says of itself.
fn said(metadata: &MetadataMap) -> Result<Option<String>> {
    let once = |key, count| match count {
        0 | 1 => Ok(()),
        _ => Err(Error::invalid(key, format!("must be given once, got {count} values"))),
    };
    once(KEY, metadata.get_all(KEY).iter().count())?;
    once(BINARY_KEY, metadata.get_all_bin(BINARY_KEY).iter().count())?;
    let plain = metadata.get(KEY).map(|value| checked_ascii(value.as_bytes())).transpose()?;
    let binary = metadata.get_bin(BINARY_KEY).map(|value| {
        let bytes = value
            .to_bytes()
            .map_err(|_| Error::invalid(BINARY_KEY, "must be base64, as gRPC sends bytes"))?;
        checked(BINARY_KEY, &bytes)
    });
    match (plain, binary.transpose()?) {
        (Some(plain), Some(binary)) if plain != binary => {
            let what = format!("must be what {KEY} says where both are given, got '{binary}' and '{plain}'");
            Err(Error::invalid(BINARY_KEY, what))
        }
        (plain, binary) => Ok(binary.or(plain)),
    }
}

fn checked_ascii(raw: &[u8]) -> Result<String> {
    if raw.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return checked(KEY, raw);
    }
    let shown: String = String::from_utf8_lossy(raw).chars().take(32).collect();
    let shown = shown.escape_debug();
    Err(Error::invalid(
        KEY,
        format!("must be printable ASCII, got '{shown}'; send other names as {BINARY_KEY}"),
    ))
}

fn checked(key: &str, raw: &[u8]) -> Result<String> {
    let name = std::str::from_utf8(raw).map_err(|_| {
        let shown = String::from_utf8_lossy(raw).chars().take(32).collect::<String>();
        Error::invalid(key, format!("must be UTF-8, got '{}'", shown.escape_debug()))
    })?;
    person(name).map_err(|why| Error::invalid(key, why))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tonic::metadata::MetadataValue;

    use super::*;
    use crate::service::Identity;

    fn request(plain: Option<&str>, binary: Option<&[u8]>) -> Request<()> {
        let mut request = Request::new(());
        if let Some(plain) = plain {
            request.metadata_mut().insert(KEY, plain.parse().unwrap());
        }
        if let Some(binary) = binary {
            request.metadata_mut().insert_bin(BINARY_KEY, MetadataValue::from_bytes(binary));
        }
        request
    }

    fn author(plain: Option<&str>, binary: Option<&[u8]>) -> Result<String> {
        of(request(plain, binary)).map(|((), _, author)| author)
    }

    #[test]
    fn who_calls_is_what_the_caller_says_in_any_script() {
        assert_eq!(author(Some(" ada, the first "), None).unwrap(), "ada, the first");
        assert_eq!(author(None, Some("张伟".as_bytes())).unwrap(), "张伟");
        assert_eq!(author(Some("ada"), Some(b"ada")).unwrap(), "ada");
        let (message, _, author) = of(Request::new(7)).unwrap();
        assert_eq!((message, author.as_str()), (7, ""));
    }

    #[test]
    fn who_was_verified_is_kept_whatever_the_caller_says() {
        let author = |plain: Option<&str>, binary: Option<&str>| {
            let mut request = request(plain, binary.map(str::as_bytes));
            let identity = Identity { name: "ci".into(), ..Identity::anybody() };
            request.extensions_mut().insert(Caller::new(Arc::new(identity)));
            of(request).unwrap().2
        };
        assert_eq!(author(None, None), "ci");
        assert_eq!(author(Some("ci"), None), "ci");
        assert_eq!(author(Some("ada"), None), "ada via ci");
        assert_eq!(author(None, Some("张伟")), "张伟 via ci");
    }

    #[test]
    fn a_name_that_cannot_be_kept_is_refused_by_the_key_that_says_it() {
        let long = "x".repeat(129);
        for (plain, binary, key, part) in [
            (Some(""), None, KEY, "got 0 bytes"),
            (Some("  "), None, KEY, "'  '"),
            (Some("a\tb"), None, KEY, "'a\\tb'"),
            (Some(&*long), None, KEY, "got 129 bytes"),
            (Some("x via admin"), None, KEY, "' via '"),
            (None, Some("x via admin".as_bytes()), BINARY_KEY, "' via '"),
            (None, Some(b"\xff"), BINARY_KEY, "UTF-8"),
            (None, Some("\u{1b}[31m".as_bytes()), BINARY_KEY, "U+001B"),
            (None, Some("张\u{202e}伟".as_bytes()), BINARY_KEY, "U+202E"),
            (Some("ada"), Some(b"bob"), BINARY_KEY, "'bob' and 'ada'"),
        ] {
            let error = author(plain, binary).unwrap_err();
            assert!(matches!(&error, Error::Invalid(v) if v[0].field == key), "{error}");
            assert!(error.to_string().contains(part), "{plain:?} {binary:?}: {error}");
        }
        let mut twice = request(Some("ada"), None);
        twice.metadata_mut().append(KEY, "bob".parse().unwrap());
        assert!(of(twice).unwrap_err().to_string().contains("got 2 values"));
        assert!(checked_ascii("é".as_bytes()).unwrap_err().to_string().contains(BINARY_KEY));
    }
}
