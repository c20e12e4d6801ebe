//! Making a damaged data folder whole by doing without what is damaged.

use super::{
    fsck::{self, DataReport},
    offline,
};
use crate::{
    config::Config,
    dataset::{self, Dataset, Kind},
    error::Result,
    registry::{self, GivenUp, Model, Registry},
    store::{Batch, Damage, Store, Tree},
};

/// What a repair did.
#[derive(Debug)]
pub struct Repaired {
    /// What was given up, in sentences.
    pub lost: Vec<String>,
    /// What there is now. Where it names damage, nothing can stand in for some of it, and nothing was changed.
    pub report: DataReport,
}

/// A damaged record that can be done without.
enum Loss {
    /// Of the catalog, the jobs, the receipts or the blobs.
    Record(Tree, Vec<u8>, registry::Dispensable),
    /// Of the examples.
    Example(Vec<u8>, dataset::Dispensable),
}

/// Makes the data folder of a daemon that does not run whole, by doing without the examples, the versions, the jobs and the
/// receipts that are damaged. At whatever moment this is interrupted, it can be done again.
///
/// # Errors
/// The folder cannot be opened, or is in use.
pub fn repair(config: &Config) -> Result<Repaired> {
    let store = offline::open(config)?;
    let losses: Option<Vec<Loss>> = store.check().damage.into_iter().map(Loss::of).collect();
    let Some(losses) = losses else {
        return Ok(Repaired { lost: Vec::new(), report: fsck::inspect(store)? });
    };
    let mut lost = Vec::new();
    remove_records(&store, &losses, &mut lost)?;

    let registry = Registry::open(store.clone())?;
    let dataset = Dataset::open(store.clone(), &registry.uids()?)?;
    for model in registry.models(None, usize::MAX)? {
        lost.extend(registry.give_up_damaged_versions(&model)?.iter().map(sentence));
        lost.extend(give_up_examples(&dataset, &model, &losses)?);
    }
    drop((registry, dataset));
    Ok(Repaired { lost, report: fsck::inspect(store)? })
}

impl Loss {
    fn of(damage: Damage) -> Option<Self> {
        let Damage { tree, key, .. } = damage;
        let key = key?;
        if tree == Tree::Examples {
            return dataset::Dispensable::of(&key).map(|what| Self::Example(key, what));
        }
        registry::Dispensable::of(tree, &key).map(|what| Self::Record(tree, key, what))
    }
}

/// Removes what nothing else counts, and makes anew what follows from the rest, so that registry and data set can be opened.
fn remove_records(store: &Store, losses: &[Loss], lost: &mut Vec<String>) -> Result<()> {
    let mut batch = Batch::freeing();
    for loss in losses {
        match loss {
            Loss::Record(tree, key, what) => {
                match what {
                    registry::Dispensable::Index => batch.put(*tree, key.as_slice(), Vec::new()),
                    _ => batch.delete(*tree, key.as_slice()),
                }
                match what {
                    registry::Dispensable::Job(id) => lost.push(id.name()),
                    registry::Dispensable::Receipt => {
                        lost.push("the receipt of a call, which is done again if it is repeated".to_owned());
                    }
                    registry::Dispensable::Index => {
                        lost.push("an entry of the index of versions, which was written anew".to_owned());
                    }
                    registry::Dispensable::PageKey => {
                        lost.push(
                            "the key of page tokens; a list that was read halfway begins again".to_owned(),
                        );
                    }
                    registry::Dispensable::ServiceTime => {
                        lost.push("the service time, which starts anew from the newest version".to_owned());
                    }
                    registry::Dispensable::Tensors => {}
                }
            }
            Loss::Example(_, dataset::Dispensable { uid, kind: Kind::Extent }) => {
                Dataset::rebuild_extent(store, *uid)?;
            }
            Loss::Example(key, dataset::Dispensable { kind: Kind::Assigned, .. }) => {
                batch.delete(Tree::Examples, key.as_slice());
            }
            Loss::Example(_, dataset::Dispensable { kind: Kind::Example(_), .. }) => {}
        }
    }
    if batch.is_empty() { Ok(()) } else { store.commit(batch) }
}

/// Gives up the examples of a model, and says which.
fn give_up_examples(dataset: &Dataset, model: &Model, losses: &[Loss]) -> Result<Vec<String>> {
    let (name, mut ids, mut lost) = (model.id.name(), Vec::new(), Vec::new());
    let of_model = losses.iter().filter_map(|loss| match loss {
        Loss::Example(_, what) if what.uid == model.uid => Some(what.kind),
        Loss::Example(..) | Loss::Record(..) => None,
    });
    for kind in of_model {
        match kind {
            Kind::Example(id) => ids.push(id),
            Kind::Extent => lost.push(format!(
                "{name}: how many examples there are; they were counted, and those of an interrupted call may be among them"
            )),
            Kind::Assigned => {
                lost.push(format!("{name}: which examples went to a class when it was split"));
            }
        }
    }
    let examples = dataset.give_up_damaged(model.uid, &ids)?;
    lost.extend(examples.into_iter().map(|id| format!("{name}: example {id}")));
    Ok(lost)
}

/// What it means that a version was given up.
fn sentence(given_up: &GivenUp) -> String {
    let GivenUp { version, error, aliases } = given_up;
    let mut sentence = format!("{}: {error}", version.name());
    for (alias, target) in aliases {
        sentence += &match target {
            Some(number) => format!("; {alias} is version {number} now"),
            None => format!("; {alias} is no version now"),
        };
    }
    sentence
}
