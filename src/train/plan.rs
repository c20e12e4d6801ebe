//! What a training does: scratch, continue or transfer, decided by comparing the classes of the data with those of
//! the manifest.

use std::collections::BTreeSet;

use crate::{
    error::{Error, Result},
    registry::{Mode, ModelId},
    taxonomy::{ClassName, Manifest, Meaning, Provenance},
};

/// The decision, and the manifest that the training answers in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Scratch, continue or transfer.
    pub mode: Mode,
    /// What was compared and what differed.
    pub reason: String,
    /// The manifest to train for: the current one, or a new revision where classes come in.
    pub manifest: Manifest,
    /// Names of the classes that the data brings.
    pub added: Vec<ClassName>,
    /// Labels that could mean several classes; their examples take no part.
    pub ambiguous: Vec<ClassName>,
}

/// The state a training starts from.
#[derive(Debug, Clone, Copy)]
pub struct Current<'a> {
    /// The manifest of the serving version; where none serves, the newest.
    pub manifest: &'a Manifest,
    /// Whether a version serves, whose network can be learnt on.
    pub serves: bool,
    /// Whether the serving version was learnt in that manifest. It was not where a change of the classes made it.
    pub learnt: bool,
}

/// Decides what a training on examples with these labels does.
///
/// Classes of the manifest that have no example among the labels stay: nothing is forgotten.
///
/// # Errors
/// [`Error::Precondition`] with reason `ONE_CLASS` where fewer than two classes would remain.
pub fn plan(
    model: &ModelId,
    current: Option<Current<'_>>,
    labels: &BTreeSet<ClassName>,
    provenance: Provenance,
) -> Result<Plan> {
    let Some(Current { manifest, serves, learnt }) = current else {
        let names: Vec<ClassName> = labels.iter().cloned().collect();
        let manifest = Manifest::create(&names, provenance.created)?;
        let manifest = Manifest { reason: provenance.reason, author: provenance.author, ..manifest };
        let plan = Plan {
            mode: Mode::Scratch,
            reason: format!("there is no version yet; the data has {} classes", names.len()),
            manifest,
            added: names,
            ambiguous: Vec::new(),
        };
        return enough_classes(model, plan);
    };

    let (mut added, mut ambiguous, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    for label in labels {
        match manifest.meaning(label) {
            Meaning::Class(_) => {}
            Meaning::Ambiguous(_) => ambiguous.push(label.clone()),
            Meaning::Removed => removed.push(label.clone()),
            Meaning::Unknown => added.push(label.clone()),
        }
    }
    let count = manifest.active().count();
    let (mode, reason, manifest) = if !serves {
        let reason = format!("no version serves yet; the classes of revision {} stay", manifest.revision);
        let grown = if added.is_empty() { manifest.clone() } else { manifest.add(&added, provenance)? };
        // There is no version that an undo could lead back to.
        (Mode::Scratch, reason, Manifest { undo: None, ..grown })
    } else if !added.is_empty() {
        let reason = format!(
            "the data brings {} to the {count} classes of revision {}: {}",
            plural(added.len(), "class", "classes"),
            manifest.revision,
            listed(&added)
        );
        (Mode::Transfer, reason, manifest.add(&added, provenance)?)
    } else if !learnt {
        let change = manifest.describe();
        let reason = format!("the classes changed since the serving version was learnt: {change}");
        (Mode::Transfer, reason, manifest.clone())
    } else {
        let reason = format!("the data has no class beyond the {count} of revision {}", manifest.revision);
        (Mode::Continue, reason, manifest.clone())
    };
    let reason = match removed.as_slice() {
        [] => reason,
        removed => {
            format!("{reason}; examples of classes that were removed take no part: {}", listed(removed))
        }
    };
    enough_classes(model, Plan { mode, reason, manifest, added, ambiguous })
}

fn enough_classes(model: &ModelId, plan: Plan) -> Result<Plan> {
    let names: Vec<&str> = plan.manifest.active().map(|class| class.name.as_str()).collect();
    if names.len() >= 2 {
        return Ok(plan);
    }
    Err(Error::Precondition {
        reason: "ONE_CLASS",
        subject: model.name(),
        description: format!(
            "a classifier needs examples of at least two classes, the data has {}; add examples with other labels",
            names.first().map_or_else(|| "none".into(), |name| format!("only '{name}'"))
        ),
    })
}

fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The first few names.
fn listed(names: &[ClassName]) -> String {
    const SHOWN: usize = 5;
    let mut text = names.iter().take(SHOWN).map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::taxonomy::{Revision, VersionNumber};

    fn bank() -> ModelId {
        ModelId::new("bank").unwrap()
    }

    fn labels(names: &[&str]) -> BTreeSet<ClassName> {
        names.iter().map(|name| ClassName::new(name).unwrap()).collect()
    }

    fn next(revision: u64) -> Provenance {
        Provenance {
            revision: Revision(revision),
            serving: VersionNumber(1),
            reason: String::new(),
            author: "ada".into(),
            created: SystemTime::UNIX_EPOCH,
        }
    }

    fn first() -> Manifest {
        plan(&bank(), None, &labels(&["a", "b", "c"]), next(1)).unwrap().manifest
    }

    #[test]
    fn no_version_means_scratch() {
        let plan = plan(&bank(), None, &labels(&["b", "a"]), next(1)).unwrap();
        assert_eq!(plan.mode, Mode::Scratch);
        assert_eq!((plan.manifest.revision, plan.manifest.author.as_str()), (Revision(1), "ada"));
        assert_eq!(plan.manifest.active().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn the_same_classes_mean_continue_and_missing_ones_stay() {
        let manifest = first();
        let current = Current { manifest: &manifest, serves: true, learnt: true };
        for data in [&["a", "b", "c"][..], &["b"]] {
            let plan = plan(&bank(), Some(current), &labels(data), next(2)).unwrap();
            assert_eq!(plan.mode, Mode::Continue);
            assert_eq!(plan.manifest, manifest);
        }
    }

    #[test]
    fn a_new_class_means_transfer() {
        let manifest = first();
        let plan = plan(
            &bank(),
            Some(Current { manifest: &manifest, serves: true, learnt: true }),
            &labels(&["d", "a"]),
            next(2),
        )
        .unwrap();
        assert_eq!(plan.mode, Mode::Transfer);
        assert_eq!(plan.manifest.revision, Revision(2));
        assert!(plan.reason.contains("'d'"), "{}", plan.reason);
        let kept: Vec<_> = manifest.active().collect();
        assert!(kept.iter().all(|class| plan.manifest.classes[&class.id] == **class));
    }

    #[test]
    fn classes_that_no_version_serves_keep_their_ids_in_a_new_network() {
        let manifest = first();
        let current = Some(Current { manifest: &manifest, serves: false, learnt: false });
        let same = plan(&bank(), current, &labels(&["a", "b"]), next(2)).unwrap();
        assert_eq!((same.mode, &same.manifest), (Mode::Scratch, &manifest));
        let grown = plan(&bank(), current, &labels(&["a", "d"]), next(2)).unwrap();
        assert_eq!(
            (grown.mode, grown.manifest.revision, grown.manifest.undo),
            (Mode::Scratch, Revision(2), None)
        );
        assert!(manifest.active().all(|class| grown.manifest.classes[&class.id] == *class));
    }

    #[test]
    fn a_change_that_was_not_learnt_means_transfer() {
        let manifest = first();
        let merged = manifest.merge(&["a".into(), "b".into()], "ab", next(2)).unwrap();
        let current = Current { manifest: &merged, serves: true, learnt: false };
        let plan = plan(&bank(), Some(current), &labels(&["a", "b", "c"]), next(3)).unwrap();
        assert_eq!(plan.mode, Mode::Transfer);
        assert!(plan.added.is_empty());
        assert!(plan.reason.contains("merge a, b into ab"), "{}", plan.reason);
    }

    #[test]
    fn examples_of_a_removed_class_do_not_bring_it_back() {
        let manifest = first();
        let left = manifest.remove(&["c".into()], next(2)).unwrap();
        let current = Current { manifest: &left, serves: true, learnt: false };
        let plan = plan(&bank(), Some(current), &labels(&["a", "b", "c"]), next(3)).unwrap();
        assert_eq!((plan.mode, plan.added.len(), &plan.manifest), (Mode::Transfer, 0, &left));
        assert!(plan.reason.contains("were removed take no part: 'c'"), "{}", plan.reason);
    }

    #[test]
    fn one_class_is_refused() {
        let error = plan(&bank(), None, &labels(&["a"]), next(1)).unwrap_err();
        let Error::Precondition { reason, subject, .. } = &error else { panic!("{error}") };
        assert_eq!((*reason, subject.as_str()), ("ONE_CLASS", "models/bank"));
        assert!(error.to_string().contains("only 'a'"));
    }
}
