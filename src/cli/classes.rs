//! `taxond classes`

use clap::Args;

use crate::{
    cli::{
        Global,
        connection::Connection,
        failure::Failure,
        json, names,
        output::{self, Rows},
        pages,
    },
    proto::v1::{Class, ClassState, Manifest},
};

#[derive(Debug, Args)]
pub(super) struct Classes {
    /// The model
    #[arg(value_parser = names::model)]
    model: String,
    /// Revision of the manifest [default: the one being served]
    #[arg(long, value_name = "N")]
    revision: Option<u64>,
    /// Retired classes as well
    #[arg(long)]
    all: bool,
}

impl Classes {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let connection = Connection::open(global).await?;
        let name = match self.revision {
            Some(revision) => format!("{}/manifests/{revision}", self.model),
            None => self.model,
        };
        let manifest = pages::manifest(&connection, &name).await?;
        let living = |class: &Class| matches!(class.state(), ClassState::Active | ClassState::Group);
        let shown = manifest.classes.iter().filter(|class| self.all || living(class));
        if global.json {
            return shown.map(json::class).try_for_each(|class| output::json(&class));
        }
        let mut rows = Rows::new(&[">id", "class", ">leaves", "in", "state"]);
        for class in shown {
            let state = match class.state() {
                ClassState::Retired => format!("retired, now {}", heirs(&manifest, &class.heirs)),
                state => json::class_state(state),
            };
            let group = class.parent.map_or_else(|| "-".to_owned(), |id| name_of(&manifest, id));
            rows.push([
                class.id.to_string(),
                class.name.clone(),
                class.leaves.len().to_string(),
                group,
                state,
            ]);
        }
        rows.print("no classes; `taxond train MODEL` finds them in the examples")?;
        output::line(format!("revision {}: {}", manifest.revision, manifest.description))
    }
}

fn heirs(manifest: &Manifest, ids: &[u32]) -> String {
    if ids.is_empty() {
        return "nothing".to_owned();
    }
    ids.iter().map(|id| name_of(manifest, *id)).collect::<Vec<_>>().join(", ")
}

fn name_of(manifest: &Manifest, id: u32) -> String {
    let class = manifest.classes.iter().find(|class| class.id == id);
    class.map_or_else(|| format!("#{id}"), |class| class.name.clone())
}
