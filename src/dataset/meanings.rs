//! What stored examples mean in the classes of today.

use std::{cell::RefCell, collections::HashMap};

use super::Example;
use crate::taxonomy::{Class, ClassId, ClassName, Manifest, Meaning};

/// What labels and examples mean in the manifest that is served; without one, each label is a class to be.
#[derive(Debug)]
pub struct Meanings {
    manifest: Option<Manifest>,
    /// What was looked up before: labels are few, examples many.
    known: RefCell<HashMap<ClassName, Known>>,
}

/// What is known of a label.
#[derive(Debug)]
struct Known {
    /// Tells it apart from others.
    number: usize,
    /// What it means beside the classes that an example was assigned.
    learnt_as: HashMap<Vec<ClassId>, Option<LearntAs>>,
}

/// As which class an example would be learnt today.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LearntAs {
    /// This active class.
    Class(ClassId),
    /// The class that the label with this number becomes at the next training, since it means none yet.
    ClassToBe(usize),
}

impl Meanings {
    /// The meanings in a manifest, or in none.
    pub fn new(manifest: Option<Manifest>) -> Self {
        Self { manifest, known: RefCell::default() }
    }

    /// The active class that a label means; none where there is none, or where it could be several.
    pub fn class(&self, label: &ClassName) -> Option<&Class> {
        self.active(self.look_up(label, &[])?)
    }

    /// The active class that an example belongs to; none as for [`class`](Self::class).
    pub fn class_of(&self, example: &Example) -> Option<&Class> {
        self.active(self.learnt_as(example)?)
    }

    /// The id of that class.
    pub fn class_id_of(&self, example: &Example) -> Option<ClassId> {
        self.class_of(example).map(|class| class.id)
    }

    /// As which class an example would be learnt; none where it would take no part.
    pub(super) fn learnt_as(&self, example: &Example) -> Option<LearntAs> {
        self.look_up(&example.label, &example.assigned)
    }

    fn active(&self, learnt_as: LearntAs) -> Option<&Class> {
        match learnt_as {
            LearntAs::Class(id) => self.manifest.as_ref()?.classes.get(&id),
            LearntAs::ClassToBe(_) => None,
        }
    }

    fn look_up(&self, label: &ClassName, assigned: &[ClassId]) -> Option<LearntAs> {
        let mut all = self.known.borrow_mut();
        let number = all.len();
        if !all.contains_key(label) {
            all.insert(label.clone(), Known { number, learnt_as: HashMap::new() });
        }
        let known = all.get_mut(label)?;
        if let Some(learnt_as) = known.learnt_as.get(assigned) {
            return *learnt_as;
        }
        let manifest = self.manifest.as_ref();
        let meaning = manifest.map_or(Meaning::Unknown, |manifest| manifest.meaning_of(label, assigned));
        let learnt_as = match meaning {
            Meaning::Class(id) => Some(LearntAs::Class(id)),
            Meaning::Unknown => Some(LearntAs::ClassToBe(known.number)),
            Meaning::Ambiguous(_) | Meaning::Removed => None,
        };
        known.learnt_as.insert(assigned.to_vec(), learnt_as);
        learnt_as
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn label(raw: &str) -> ClassName {
        ClassName::new(raw).unwrap()
    }

    #[test]
    fn a_label_without_a_class_is_one_of_its_own_to_be() {
        let manifest = Manifest::create(&[label("card"), label("cash")], SystemTime::now()).unwrap();
        for meanings in [Meanings::new(None), Meanings::new(Some(manifest))] {
            let [a, b, again] = ["loan", "fee", "loan"].map(|raw| meanings.look_up(&label(raw), &[]));
            assert!(a != b && a == again && matches!(a, Some(LearntAs::ClassToBe(_))));
            assert_eq!(meanings.class(&label("loan")), None);
        }
    }
}
