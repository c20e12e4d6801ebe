//! Resource names as they stand in requests.

use super::caller::Caller;
use crate::{
    error::{Error, Result},
    registry::{AliasName, JobId, ModelId, Selector},
    taxonomy::{Revision, VersionNumber},
};

/// `models/{model}`
pub(super) fn model(caller: &Caller, field: &str, name: &str) -> Result<ModelId> {
    let id = name.strip_prefix("models/").ok_or_else(|| shape(field, "models/{model}", name))?;
    model_id(caller, field, id)
}

/// `{model}`, of a model that is to be made
pub(super) fn new_model(caller: &Caller, field: &str, id: &str) -> Result<ModelId> {
    caller.may(ModelId::new(id).map_err(|description| Error::invalid(field, description))?)
}

/// `{model}`
pub(super) fn model_id(caller: &Caller, field: &str, id: &str) -> Result<ModelId> {
    let id = ModelId::new(id).map_err(|description| Error::invalid(field, format!("model {description}")))?;
    caller.may(id)
}

/// `models/{model}`, `models/{model}@{alias}` or `models/{model}/versions/{number}`
pub(super) fn version_or_alias(caller: &Caller, field: &str, name: &str) -> Result<(ModelId, Selector)> {
    if let Some((head, alias)) = name.split_once('@') {
        let alias = AliasName::new(alias)
            .map_err(|description| Error::invalid(field, format!("alias {description}")))?;
        return Ok((model(caller, field, head)?, Selector::Alias(alias)));
    }
    if let Some((head, number)) = name.split_once("/versions/") {
        let number = number.parse().map_err(|_| shape(field, "models/{model}/versions/{number}", name))?;
        return Ok((model(caller, field, head)?, Selector::Number(VersionNumber(number))));
    }
    Ok((model(caller, field, name)?, Selector::Serving))
}

/// `models/{model}/versions/{number}`
pub(super) fn version(caller: &Caller, field: &str, name: &str) -> Result<(ModelId, VersionNumber)> {
    match version_or_alias(caller, field, name)? {
        (id, Selector::Number(number)) => Ok((id, number)),
        _ => Err(shape(field, "models/{model}/versions/{number}", name)),
    }
}

/// `models/{model}` or `models/{model}/manifests/{revision}`
pub(super) fn manifest(caller: &Caller, field: &str, name: &str) -> Result<(ModelId, Option<Revision>)> {
    match name.split_once("/manifests/") {
        Some((head, revision)) => {
            let revision =
                revision.parse().map_err(|_| shape(field, "models/{model}/manifests/{revision}", name))?;
            Ok((model(caller, field, head)?, Some(Revision(revision))))
        }
        None => Ok((model(caller, field, name)?, None)),
    }
}

/// `jobs/{id}`
pub(super) fn job(field: &str, name: &str) -> Result<JobId> {
    name.strip_prefix("jobs/")
        .and_then(|id| id.parse().ok())
        .map(JobId)
        .ok_or_else(|| shape(field, "jobs/{id}", name))
}

fn shape(field: &str, shape: &str, got: &str) -> Error {
    let shown: String = got.chars().take(100).collect();
    Error::invalid(field, format!("must have the form {shape}, got '{}'", shown.escape_debug()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::service::Identity;

    fn anybody() -> Caller {
        Caller::new(Arc::new(Identity::anybody()))
    }

    #[test]
    fn a_version_is_named_in_three_ways() {
        let bank = ModelId::new("bank").unwrap();
        let canary = AliasName::new("canary").unwrap();
        for (name, selector) in [
            ("models/bank", Selector::Serving),
            ("models/bank@canary", Selector::Alias(canary)),
            ("models/bank/versions/3", Selector::Number(VersionNumber(3))),
        ] {
            assert_eq!(version_or_alias(&anybody(), "model", name).unwrap(), (bank.clone(), selector));
        }
    }

    #[test]
    fn other_shapes_are_refused_with_the_field_and_the_name() {
        for name in
            ["", "bank", "models/", "models/Bank", "models/bank@", "models/bank/versions/x", "models/a/b"]
        {
            let error = version_or_alias(&anybody(), "model", name).unwrap_err();
            assert!(matches!(&error, Error::Invalid(v) if v[0].field == "model"), "{name}: {error}");
        }
        assert!(job("name", "jobs/x").unwrap_err().to_string().contains("'jobs/x'"));
        assert!(manifest(&anybody(), "name", "models/bank/manifests/-1").is_err());
        for name in ["models/bank", "models/bank@canary"] {
            assert!(
                version(&anybody(), "name", name)
                    .unwrap_err()
                    .to_string()
                    .contains("/versions/{number}, got"),
                "{name}"
            );
        }
    }
}
