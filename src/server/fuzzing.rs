//! What a fuzzer tries on the file of who may call, and on what callers present: up to a NUL the one, behind it the other.

use super::auth::Directory;
use crate::error::Error;

/// A file that is taken names somebody; who presents what nobody gave out is not let in, and an error never shows it.
pub fn credentials(data: &[u8]) {
    let at = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
    let (file, presented) = data.split_at(at);
    let Ok(file) = str::from_utf8(file) else { return };
    let directory = match Directory::parse(file) {
        Ok(directory) => directory,
        Err(what) => return assert!(!what.is_empty()),
    };
    match directory.identify(presented.get(1..), None) {
        Ok(identity) => assert!(!identity.name.trim().is_empty()),
        Err(Error::Unauthenticated { description, .. }) => {
            let secret = String::from_utf8_lossy(presented.get(8..).unwrap_or_default());
            assert!(secret.len() < 20 || !description.contains(&*secret), "{description}");
        }
        Err(other) => panic!("{other}"),
    }
}
