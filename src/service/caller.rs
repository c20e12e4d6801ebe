//! Who calls, and which models it may name. Every name of a model in a request goes through [`Caller::may`]: what parses names
//! asks for a caller.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use serde::Deserialize;
use tonic::Request;

use crate::{
    error::{Error, Resource, Result},
    registry::{JobRecord, ModelId},
    text::person,
};

/// What an identity may do. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Ask, and read what it takes to ask: models, versions, classes.
    Predict,
    /// Also store examples, train, change classes and promote.
    Train,
    /// Also make, import and delete models and versions.
    Admin,
}

/// Somebody who was recognised, or anybody where nobody need be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The name by which it is known; empty where nothing verified it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Which models: ids, in which `*` stands for any characters; all where there are none.
    pub models: Option<Vec<String>>,
}

/// Who makes a call; an extension of every request.
#[derive(Debug, Clone)]
pub struct Caller {
    identity: Arc<Identity>,
    said: Arc<Said>,
}

/// What a request says, for the audit log.
#[derive(Debug, Default)]
pub struct Said {
    /// The model, once it was read.
    pub model: OnceLock<String>,
    /// The request id, if there is one, once it was read.
    pub request_id: OnceLock<String>,
    /// Whether it is about all models.
    pub all_models: AtomicBool,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Predict => "predict",
            Self::Train => "train",
            Self::Admin => "admin",
        })
    }
}

impl Identity {
    /// Somebody who was recognised.
    ///
    /// # Errors
    /// What is wrong with the name, as a sentence without a subject.
    pub fn named(name: &str, role: Role, models: Option<Vec<String>>) -> Result<Self, String> {
        Ok(Self { name: person(name)?, role, models })
    }

    /// Anybody, who may do everything: where the daemon asks nobody who it is.
    pub fn anybody() -> Self {
        Self { name: String::new(), role: Role::Admin, models: None }
    }

    /// Whether it may name a model.
    pub fn sees(&self, model: &ModelId) -> bool {
        let id = model.as_str();
        self.models.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| matches(pattern, id)))
    }
}

impl Caller {
    /// A call of somebody.
    pub fn new(identity: Arc<Identity>) -> Self {
        Self { identity, said: Arc::default() }
    }

    /// What the request is found to say while it is handled.
    pub fn said(&self) -> Arc<Said> {
        Arc::clone(&self.said)
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// A model that a request names, if the caller may name it.
    ///
    /// # Errors
    /// [`Error::Denied`] with reason `MODEL_NOT_ALLOWED`, whether there is such a model or not.
    pub(super) fn may(&self, model: ModelId) -> Result<ModelId> {
        let _first_one_counts = self.said.model.set(model.to_string());
        if self.identity.sees(&model) {
            return Ok(model);
        }
        let description = format!("'{}' may not use model '{model}'", self.identity.name);
        Err(Error::Denied { reason: "MODEL_NOT_ALLOWED", description })
    }

    /// Nothing less than all models.
    ///
    /// # Errors
    /// [`Error::Denied`] with reason `MODEL_NOT_ALLOWED` for a caller who may use some alone.
    pub(super) fn may_all(&self) -> Result<()> {
        self.said.all_models.store(true, Relaxed);
        if self.identity.models.is_none() {
            return Ok(());
        }
        let description =
            format!("'{}' may use some models alone, and this call is about all", self.identity.name);
        Err(Error::Denied { reason: "MODEL_NOT_ALLOWED", description })
    }

    /// A job that a request names, if the caller may see its model; else it is not there.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub(super) fn may_see(&self, job: JobRecord) -> Result<JobRecord> {
        if !self.identity.sees(&job.model) {
            return Err(Error::not_found(Resource::Job, job.id.name()));
        }
        let _first_one_counts = self.said.model.set(job.model.to_string());
        Ok(job)
    }

    /// The identity whose share of the training time a job of this call uses: the one that was verified; without one the
    /// author, or the host where the author is an address.
    pub(super) fn share(&self, author: &str) -> String {
        match (self.identity.name.as_str(), author.parse::<SocketAddr>()) {
            ("", Ok(address)) => address.ip().to_string(),
            ("", Err(_)) => author.to_owned(),
            (name, _) => name.to_owned(),
        }
    }

    pub(super) fn says_request_id(&self, id: &str) {
        let _first_one_counts = self.said.request_id.set(id.to_owned());
    }
}

/// The message of a request and who calls. A request that did not come past the gate may name no model.
pub(super) fn of<T>(mut request: Request<T>) -> (T, Caller) {
    let caller = request.extensions_mut().remove::<Caller>().unwrap_or_else(|| {
        Caller::new(Arc::new(Identity { models: Some(Vec::new()), ..Identity::anybody() }))
    });
    (request.into_inner(), caller)
}

/// Whether a pattern, in which `*` stands for any characters, fits the whole of an id.
fn matches(pattern: &str, id: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == id };
    let Some(rest) = id.strip_prefix(head) else { return false };
    // The shortest beginning that fits leaves most to what follows.
    (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| matches(tail, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_the_whole_id() {
        for (pattern, id, fits) in [
            ("bank", "bank", true),
            ("bank", "bank-2", false),
            ("*", "bank", true),
            ("shop-*", "shop-mail", true),
            ("shop-*", "shop", false),
            ("shop-*", "my-shop-mail", false),
            ("*-mail", "shop-mail", true),
            ("*-mail", "shop-mail-2", false),
            ("a*b*c", "abbc", true),
            ("a*b*c", "acb", false),
        ] {
            assert_eq!(matches(pattern, id), fits, "{pattern} {id}");
        }
    }

    #[test]
    fn a_request_that_nobody_let_in_may_name_no_model() {
        let ((), caller) = of(Request::new(()));
        let error = caller.may(ModelId::new("bank").unwrap()).unwrap_err();
        assert!(matches!(error, Error::Denied { reason: "MODEL_NOT_ALLOWED", .. }), "{error}");
    }

    #[test]
    fn a_share_is_of_the_verified_identity_and_else_of_what_is_known() {
        let share = |name: &str, author: &str| {
            let identity = Identity { name: name.into(), ..Identity::anybody() };
            Caller::new(Arc::new(identity)).share(author)
        };
        assert_eq!(share("ci", "ada via ci"), "ci");
        assert_eq!(share("", "ada"), "ada");
        assert_eq!(share("", "127.0.0.1:4711"), "127.0.0.1", "connections of one host are one identity");
        assert_eq!(share("", "[::1]:4711"), "::1");
        assert_eq!(share("", "uid 1000"), "uid 1000");
    }

    #[test]
    fn roles_grow() {
        assert!(Role::Predict < Role::Train && Role::Train < Role::Admin);
    }
}
