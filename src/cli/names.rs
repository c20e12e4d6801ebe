//! Names as people type them: `bank` for `models/bank`, `3` for `jobs/3`.

use clap::Args;

use super::failure::{Exit, Failure};

/// A model or one of its versions, however it is named.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The model, or one of its versions or aliases: bank, bank/versions/3, bank@canary
    #[arg(value_name = "MODEL", value_parser = target)]
    name: String,
    /// This version instead of the one that serves
    #[arg(long, value_parser = version, value_name = "N", conflicts_with = "alias")]
    version: Option<u64>,
    /// The version that this alias points to
    #[arg(long)]
    alias: Option<String>,
}

impl Target {
    /// Its resource name.
    pub(crate) fn name(&self) -> Result<String, Failure> {
        chosen(&self.name, self.version, self.alias.as_deref())
            .map_err(|what| Failure::new(Exit::Usage, what))
    }
}

/// Completes the name of a model.
pub(crate) fn model(text: &str) -> Result<String, String> {
    let id = text.strip_prefix("models/").unwrap_or(text);
    match id {
        "" => Err("must not be empty".into()),
        id if id.contains(['/', '@']) => {
            Err("must name a model without version or alias, for example bank".into())
        }
        id => Ok(format!("models/{id}")),
    }
}

/// Completes the name of a model, of one of its versions (`bank/versions/3`), or of an alias (`bank@canary`).
pub(crate) fn target(text: &str) -> Result<String, String> {
    let id = text.strip_prefix("models/").unwrap_or(text);
    let alias = id.split_once('@');
    let version = id.split_once("/versions/");
    let sound = match (alias, version) {
        (None, None) => !id.is_empty() && !id.contains('/'),
        (Some((model, alias)), None) => !model.is_empty() && !alias.is_empty() && !id.contains('/'),
        (None, Some((model, number))) => !model.is_empty() && number.parse::<u64>().is_ok(),
        (Some(_), Some(_)) => false,
    };
    if sound {
        Ok(format!("models/{id}"))
    } else {
        Err("must be a model, version or alias: bank, bank/versions/3 or bank@canary".into())
    }
}

/// Completes the name of a job.
pub(crate) fn job(text: &str) -> Result<String, String> {
    let id = text.strip_prefix("jobs/").unwrap_or(text);
    id.parse::<u64>().map(|id| format!("jobs/{id}")).map_err(|_| "must be a job: 3 or jobs/3".into())
}

/// The number of a version, given alone or as the end of its name.
pub(crate) fn version(text: &str) -> Result<u64, String> {
    let number = text.rsplit_once("versions/").map_or(text, |(_, number)| number);
    let number = number.strip_prefix('v').unwrap_or(number);
    number.parse().map_err(|_| "must be the number of a version, for example 3".into())
}

/// The target, or the version or alias of it that the options `--version` and `--alias` choose.
fn chosen(target: &str, version: Option<u64>, alias: Option<&str>) -> Result<String, String> {
    let qualified = target.contains('@') || target.contains("/versions/");
    match (version, alias) {
        (None, None) => Ok(target.to_owned()),
        _ if qualified => Err(format!("'{target}' names a version already; leave out --version and --alias")),
        (Some(version), _) => Ok(format!("{target}/versions/{version}")),
        (None, Some(alias)) => Ok(format!("{target}@{alias}")),
    }
}

/// `bank` of `models/bank/versions/3` or `bank@canary`.
pub(crate) fn model_of(target: &str) -> &str {
    let short = short(target);
    short.split(['/', '@']).next().unwrap_or(short)
}

/// The id without the collection, as tables show it.
pub(crate) fn short(name: &str) -> &str {
    name.strip_prefix("models/").unwrap_or(name)
}

/// The number at the end of a name such as `models/bank/versions/3`.
pub(crate) fn last(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed() {
        assert_eq!(model("bank").as_deref(), Ok("models/bank"));
        assert_eq!(model("models/bank").as_deref(), Ok("models/bank"));
        for (text, name) in [
            ("bank", "models/bank"),
            ("bank@canary", "models/bank@canary"),
            ("models/bank/versions/3", "models/bank/versions/3"),
        ] {
            assert_eq!(target(text).as_deref(), Ok(name));
        }
        assert_eq!(job("3").as_deref(), Ok("jobs/3"));
        assert_eq!(job("jobs/3").as_deref(), Ok("jobs/3"));
        assert_eq!(version("3"), Ok(3));
        assert_eq!(version("models/bank/versions/3"), Ok(3));
        assert_eq!(version("v3"), Ok(3));
    }

    #[test]
    fn options_choose_a_version_or_an_alias_once() {
        let bank = "models/bank";
        assert_eq!(chosen(bank, None, None).as_deref(), Ok(bank));
        assert_eq!(chosen(bank, Some(3), None).as_deref(), Ok("models/bank/versions/3"));
        assert_eq!(chosen(bank, None, Some("canary")).as_deref(), Ok("models/bank@canary"));
        assert_eq!(chosen("models/bank@canary", None, None).as_deref(), Ok("models/bank@canary"));
        assert!(chosen("models/bank@canary", Some(3), None).is_err());
        for name in ["models/bank", "bank/versions/3", "models/bank@canary"] {
            assert_eq!(model_of(name), "bank");
        }
    }

    #[test]
    fn wrong_names_are_refused() {
        for text in ["", "models/", "bank@canary", "bank/versions/3"] {
            assert!(model(text).is_err(), "{text}");
        }
        for text in ["", "@a", "bank@", "bank/versions/", "bank/versions/x", "bank@a/versions/1", "bank/3"] {
            assert!(target(text).is_err(), "{text}");
        }
        for text in ["", "jobs/", "jobs/x", "-1"] {
            assert!(job(text).is_err(), "{text}");
        }
        assert!(version("latest").is_err());
    }
}
