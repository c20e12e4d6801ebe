//! `taxond show`

use clap::Args;
use serde_json::Value;

use crate::{
    cli::{
        Global,
        connection::Connection,
        failure::Failure,
        json, names,
        output::{self, Rows},
        pages,
    },
    proto::v1::{GetJobRequest, GetModelRequest, GetVersionRequest},
};

/// Characters of a value on a line; `--json` prints all.
const EXCERPT: usize = 200;

#[derive(Debug, Args)]
pub(super) struct Show {
    /// What to show: bank, bank/versions/3, bank@canary, bank/manifests/2 or jobs/3
    #[arg(value_parser = thing)]
    name: Thing,
}

/// What has a name of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Thing {
    Model(String),
    Version(String),
    Manifest(String),
    Job(String),
}

impl Show {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let connection = Connection::open(global).await?;
        let shown = match self.name {
            Thing::Model(name) => {
                let request = connection.request(GetModelRequest { name });
                connection.registry().get_model(request).await?.into_inner().model.as_ref().map(json::model)
            }
            Thing::Version(name) => {
                let request = connection.request(GetVersionRequest { name });
                let version = connection.registry().get_version(request).await?.into_inner().version;
                version.as_ref().map(json::version)
            }
            Thing::Manifest(name) => Some(json::manifest(&pages::manifest(&connection, &name).await?)),
            Thing::Job(name) => {
                let request = connection.request(GetJobRequest { name });
                connection.training().get_job(request).await?.into_inner().job.as_ref().map(json::job)
            }
        };
        let shown = shown.unwrap_or_default();
        if global.json {
            return output::json(&shown);
        }
        let mut rows = Rows::new(&["field", "value"]);
        flatten("", &shown, &mut |name, value| rows.push([name, output::excerpt(&value, EXCERPT)]));
        rows.print("nothing")
    }
}

fn thing(text: &str) -> Result<Thing, String> {
    let id = text.strip_prefix("models/").unwrap_or(text);
    if text.starts_with("jobs/") {
        return names::job(text).map(Thing::Job);
    }
    if let Some((model, revision)) = id.split_once("/manifests/") {
        let sound = names::model(model).ok().filter(|_| revision.parse::<u64>().is_ok());
        let sound = sound.map(|model| Thing::Manifest(format!("{model}/manifests/{revision}")));
        return sound.ok_or_else(|| "must be a manifest: bank/manifests/2".to_owned());
    }
    let name = names::target(text).map_err(|_| {
        "must be a model, version, alias, manifest or job: bank, bank/versions/3, bank@canary, bank/manifests/2, jobs/3"
            .to_owned()
    })?;
    Ok(if name.contains("/versions/") || name.contains('@') {
        Thing::Version(name)
    } else {
        Thing::Model(name)
    })
}

/// Tells each value of a document with the path to it; what is absent or empty is left out.
fn flatten(path: &str, value: &Value, tell: &mut impl FnMut(String, String)) {
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, value, tell);
            }
        }
        Value::Array(values) if values.iter().any(Value::is_object) => {
            let named = |value: &Value| value.get("name").and_then(Value::as_str).map(str::to_owned);
            let names: Vec<_> = values.iter().filter_map(named).collect();
            if names.is_empty() {
                tell(path.to_owned(), format!("{} (--json prints them)", values.len()));
            } else {
                tell(path.to_owned(), format!("{}: {}", names.len(), names.join(", ")));
            }
        }
        Value::Array(values) if values.is_empty() => {}
        Value::Array(values) => {
            tell(path.to_owned(), values.iter().map(plain).collect::<Vec<_>>().join(", "));
        }
        Value::String(text) if text.is_empty() => {}
        value => tell(path.to_owned(), plain(value)),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_tell_what_they_name() {
        for (text, meant) in [
            ("bank", Thing::Model("models/bank".into())),
            ("models/bank", Thing::Model("models/bank".into())),
            ("bank/versions/3", Thing::Version("models/bank/versions/3".into())),
            ("bank@canary", Thing::Version("models/bank@canary".into())),
            ("bank/manifests/2", Thing::Manifest("models/bank/manifests/2".into())),
            ("jobs/3", Thing::Job("jobs/3".into())),
        ] {
            assert_eq!(thing(text).as_ref(), Ok(&meant));
        }
        for text in ["", "jobs/x", "bank/manifests/", "bank/manifests/x", "a/b", "bank@a/manifests/2"] {
            assert!(thing(text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_are_told_with_their_path_and_what_is_absent_is_not() {
        let document = json!({
            "name": "jobs/3", "message": "", "progress": null, "versions": ["a", "b"], "lost": [],
            "report": {"epochs": 3, "rejection": [{"precision": 0.9}], "classes": [{"name": "card"}]},
        });
        let mut told = Vec::new();
        flatten("", &document, &mut |name, value| told.push(format!("{name} {value}")));
        told.sort();
        let expected = [
            "name jobs/3",
            "report.classes 1: card",
            "report.epochs 3",
            "report.rejection 1 (--json prints them)",
            "versions a, b",
        ];
        assert_eq!(told, expected);
    }
}
