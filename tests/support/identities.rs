//! Identities for a daemon that asks callers who they are. Each has a token that is its name.

use std::{fs, path::Path};

use taxond::config::Settings;
use tonic::Request;

/// An entry of the file of identities: name, which is the token as well, role, and patterns of models; all where there are none.
pub type Entry<'a> = (&'a str, &'a str, &'a [&'a str]);

/// The file of identities.
pub fn file(entries: &[Entry<'_>]) -> String {
    let entry = |(name, role, models): &Entry<'_>| {
        let hash = blake3::hash(name.as_bytes());
        let models = if models.is_empty() { String::new() } else { format!("models = {models:?}\n") };
        format!("[[token]]\nname = '{name}'\nhash = '{hash}'\nrole = '{role}'\n{models}\n")
    };
    entries.iter().map(entry).collect()
}

/// Settings of a daemon that knows these identities, by the file `auth.toml` of a folder.
pub fn settings(folder: &Path, entries: &[Entry<'_>]) -> Settings {
    let auth_file = folder.join("auth.toml");
    fs::write(&auth_file, file(entries)).expect("the folder can be written to");
    Settings { auth_file: Some(auth_file), ..Settings::default() }
}

/// A request with the token of an identity.
pub fn signed<T>(name: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let bearer = format!("Bearer {name}").parse().expect("a token is ASCII");
    request.metadata_mut().insert("authorization", bearer);
    request
}
