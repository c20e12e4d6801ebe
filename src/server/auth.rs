//! Who is who: tokens, certificates and users of this machine, and the identities they stand for, from a file.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use blake3::Hash;
use serde::Deserialize;

use super::rate::Bucket;
use crate::{
    error::{Error, Result},
    file,
    service::{Identity, Peer, Role},
};

/// Stars in a pattern of models at most: matching takes longer with each.
const MAX_STARS: usize = 4;

/// Everybody who is known.
#[derive(Debug, Default)]
pub(super) struct Directory {
    tokens: Vec<(Hash, Arc<Identity>)>,
    certificates: BTreeMap<String, Arc<Identity>>,
    users: BTreeMap<u32, Arc<Identity>>,
    /// How often each may call, by name; empty where that is not limited.
    buckets: BTreeMap<String, Bucket>,
}

/// What the file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    token: Vec<TokenEntry>,
    #[serde(default)]
    certificate: Vec<CertificateEntry>,
    #[serde(default)]
    user: Vec<UserEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEntry {
    name: String,
    hash: String,
    role: Role,
    models: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificateEntry {
    name: String,
    role: Role,
    models: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserEntry {
    name: String,
    uid: u32,
    role: Role,
    models: Option<Vec<String>>,
}

impl Directory {
    /// Reads the file. Each identity may make so many calls a second.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Invalid`] with the entry that is wrong.
    pub(super) fn load(path: &Path, rate_limit: Option<u32>) -> Result<Self> {
        let text = file::read_to_string(path)
            .map_err(|cause| Error::io(format!("reading auth_file {}", path.display()), cause))?;
        let mut directory = Self::parse(&text)
            .map_err(|what| Error::invalid("auth_file", format!("{}: {what}", path.display())))?;
        if let Some(limit) = rate_limit {
            let tokens = directory.tokens.iter().map(|(_, who)| who);
            let everybody = tokens.chain(directory.certificates.values()).chain(directory.users.values());
            directory.buckets = everybody.map(|who| (who.name.clone(), Bucket::new(limit))).collect();
        }
        Ok(directory)
    }

    /// How often an identity may call; none where that is not limited.
    pub(super) fn bucket(&self, identity: &Identity) -> Option<&Bucket> {
        self.buckets.get(&identity.name)
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|cause| cause.to_string().trim_end().to_owned())?;
        let mut directory = Self::default();
        for TokenEntry { name, hash, role, models } in file.token {
            let hash = Hash::from_hex(&hash)
                .map_err(|_| format!("token '{name}': hash must be 64 hexadecimal digits, got '{hash}'"))?;
            if directory.tokens.iter().any(|(known, _)| *known == hash) {
                return Err(format!("token '{name}': another token has the same hash"));
            }
            directory.tokens.push((hash, identity(name, role, models)?));
        }
        for CertificateEntry { name, role, models } in file.certificate {
            let identity = identity(name.clone(), role, models)?;
            if directory.certificates.insert(name.clone(), identity).is_some() {
                return Err(format!("certificate '{name}': the name stands twice"));
            }
        }
        for UserEntry { name, uid, role, models } in file.user {
            if directory.users.insert(uid, identity(name, role, models)?).is_some() {
                return Err(format!("user {uid}: the number stands twice"));
            }
        }
        if directory.tokens.is_empty() && directory.certificates.is_empty() && directory.users.is_empty() {
            return Err("names nobody, so that nobody could call".to_owned());
        }
        Ok(directory)
    }

    /// Who calls: by the token if there is one, else by what the connection shows.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`]: nothing was presented, or what was is not known.
    pub(super) fn identify(
        &self,
        authorization: Option<&[u8]>,
        peer: Option<&Peer>,
    ) -> Result<Arc<Identity>> {
        if let Some(value) = authorization {
            return self.by_token(value);
        }
        let found = match peer {
            Some(Peer::Tcp { certificate: Some(names), .. }) => {
                names.iter().find_map(|name| self.certificates.get(name))
            }
            Some(Peer::Unix { uid }) => self.users.get(uid),
            Some(Peer::Tcp { certificate: None, .. }) | None => None,
        };
        found.cloned().ok_or_else(|| match peer {
            Some(Peer::Tcp { certificate: Some(_), .. }) => {
                unauthenticated("UNKNOWN_CERTIFICATE", "the certificate names nobody who is known here")
            }
            _ => {
                unauthenticated("NO_CREDENTIALS", "send a token in the metadata authorization: Bearer TOKEN")
            }
        })
    }

    fn by_token(&self, value: &[u8]) -> Result<Arc<Identity>> {
        let unknown = || unauthenticated("UNKNOWN_TOKEN", "the token is not known here");
        // The scheme is told whatever its case (RFC 9110).
        let (scheme, token) = value.split_at_checked(7).ok_or_else(unknown)?;
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return Err(unauthenticated("UNKNOWN_SCHEME", "authorization must have the form Bearer TOKEN"));
        }
        // Hashes are compared in constant time, and what is compared is no token.
        let hash = blake3::hash(token);
        self.tokens
            .iter()
            .find(|(known, _)| *known == hash)
            .map(|(_, who)| Arc::clone(who))
            .ok_or_else(unknown)
    }
}

fn identity(name: String, role: Role, models: Option<Vec<String>>) -> Result<Arc<Identity>, String> {
    for pattern in models.iter().flatten() {
        let fits =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.' | '*');
        if pattern.is_empty() || !pattern.chars().all(fits) || pattern.matches('*').count() > MAX_STARS {
            return Err(format!(
                "'{name}': models must hold ids of models, with at most {MAX_STARS} *, got '{pattern}'"
            ));
        }
    }
    Identity::named(&name, role, models).map(Arc::new).map_err(|why| format!("name {why}"))
}

fn unauthenticated(reason: &'static str, description: &str) -> Error {
    Error::Unauthenticated { reason, description: description.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        let hash = "0".repeat(64);
        for (text, part) in [
            ("", "names nobody"),
            ("[[token]]\nname = 'a'\nrole = 'train'", "hash"),
            ("[[token]]\nname = 'a'\nhash = 'xyz'\nrole = 'train'", "'xyz'"),
            (&format!("[[token]]\nname = 'a'\nhash = '{hash}'\nrole = 'king'"), "king"),
            (&format!("[[token]]\nname = ' '\nhash = '{hash}'\nrole = 'train'"), "name"),
            (&format!("[[token]]\nname = 'x via admin'\nhash = '{hash}'\nrole = 'train'"), "' via '"),
            ("[[user]]\nname = \"a\\u202Eb\"\nuid = 7\nrole = 'train'", "U+202E"),
            (&format!("[[token]]\nname = 'a'\nhash = '{hash}'\nrole = 'train'\nmodels = ['A']"), "'A'"),
            (&format!("[[token]]\nname = 'a'\nhash = '{hash}'\nrole = 'train'\nmodel = []"), "model"),
            (&format!("[[token]]\nname = 'a'\nhash = '{hash}'\nrole = 'train'\n").repeat(2), "same hash"),
            (&"[[certificate]]\nname = 'a'\nrole = 'train'\n".repeat(2), "twice"),
            (&"[[user]]\nname = 'a'\nuid = 7\nrole = 'train'\n".repeat(2), "twice"),
        ] {
            let what = Directory::parse(text).unwrap_err();
            assert!(what.contains(part), "{text}: {what}");
        }
    }

    #[test]
    fn a_token_comes_before_what_the_connection_shows() {
        let text = format!(
            "[[token]]\nname = 'ci'\nhash = '{}'\nrole = 'train'\n[[user]]\nname = 'ada'\nuid = 7\nrole = 'admin'",
            blake3::hash(b"secret")
        );
        let directory = Directory::parse(&text).unwrap();
        let ada = Peer::Unix { uid: 7 };
        let who = |value: Option<&str>, peer| {
            directory.identify(value.map(str::as_bytes), peer).map(|identity| identity.name.clone())
        };
        assert_eq!(who(Some("Bearer secret"), Some(&ada)).unwrap(), "ci");
        assert_eq!(who(Some("bearer secret"), None).unwrap(), "ci");
        assert_eq!(who(None, Some(&ada)).unwrap(), "ada");
        for (value, peer, expected) in [
            (Some("Bearer wrong"), Some(&ada), "UNKNOWN_TOKEN"),
            (Some("Bearer"), None, "UNKNOWN_TOKEN"),
            (Some("Basic YTpi"), None, "UNKNOWN_SCHEME"),
            (None, Some(&Peer::Unix { uid: 8 }), "NO_CREDENTIALS"),
            (None, None, "NO_CREDENTIALS"),
        ] {
            match who(value, peer).unwrap_err() {
                Error::Unauthenticated { reason, .. } => assert_eq!(reason, expected),
                other => panic!("{other}"),
            }
        }
    }
}
