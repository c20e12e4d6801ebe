//! Which examples a training holds out to validate on.
//!
//! ```text
//! hash side     that of the text, for ever the same; about one in ten validates
//! small class   fewer than 10 of its examples train by the hash
//! held out      the examples that validate by the hash, except those of small classes
//! ```
//!
//! All examples of a small class train and none validates: to hold some out would cost the class a good part of what
//! there is to learn from, and leave too few to measure it by. Nothing stored changes. The class is the one that an example means
//! in a manifest, so the labels of a merged class count together.

use std::collections::BTreeMap;

use super::{Example, Meanings, Split, meanings::LearntAs};
use crate::taxonomy::{ClassId, ClassName, Manifest};

/// Examples of a class that must train by the hash before those that validate by the hash are held out.
pub const TRAIN_BEFORE_HOLD_OUT: u64 = 10;

/// A class whose examples all train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SmallClass {
    /// The class.
    pub class: ClassId,
    /// Its examples, at least one.
    pub examples: u64,
}

/// Examples on each side of the split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SideCounts {
    /// Examples that train.
    pub train: u64,
    /// Examples that validate.
    pub validation: u64,
}

impl SideCounts {
    /// Counts an example.
    pub fn add(&mut self, side: Split) {
        match side {
            Split::Train => self.train += 1,
            Split::Validation => self.validation += 1,
        }
    }

    /// How many there are.
    pub fn total(self) -> u64 {
        self.train + self.validation
    }

    /// Whether all examples of a class with these counts, by the hash, train.
    pub fn is_small(self) -> bool {
        self.total() > 0 && self.train < TRAIN_BEFORE_HOLD_OUT
    }

    /// What a training makes of these counts, by the hash, of a class.
    #[must_use]
    pub fn held_out(self) -> Self {
        if self.is_small() { Self { train: self.total(), validation: 0 } } else { self }
    }
}

/// Moves the examples of small classes to the side that trains, and names these classes, in the order of their ids.
/// Examples that mean no active class stay where they are. Expects the sides that the hash gives.
pub fn hold_out(examples: &mut [Example], manifest: &Manifest) -> Vec<SmallClass> {
    let meanings = Meanings::new(Some(manifest.clone()));
    let classes: Vec<Option<ClassId>> =
        examples.iter().map(|example| meanings.class_id_of(example)).collect();
    let mut counts: BTreeMap<ClassId, SideCounts> = BTreeMap::new();
    for (example, class) in examples.iter().zip(&classes) {
        if let Some(class) = class {
            counts.entry(*class).or_default().add(example.split);
        }
    }
    counts.retain(|_, counts| counts.is_small());
    for (example, class) in examples.iter_mut().zip(classes) {
        if class.is_some_and(|class| counts.contains_key(&class)) {
            example.split = Split::Train;
        }
    }
    counts.into_iter().map(|(class, counts)| SmallClass { class, examples: counts.total() }).collect()
}

/// Counts examples by the class that they would be learnt as, to find the small ones.
#[derive(Debug, Default)]
pub(super) struct ClassCounts(BTreeMap<LearntAs, (ClassName, SideCounts)>);

impl ClassCounts {
    /// Counts an example; one that takes part in no training is left out.
    pub(super) fn add(&mut self, example: &Example, meanings: &Meanings) {
        let Some(learnt_as) = meanings.learnt_as(example) else { return };
        let name =
            || meanings.class_of(example).map_or_else(|| example.label.clone(), |class| class.name.clone());
        self.0.entry(learnt_as).or_insert_with(|| (name(), SideCounts::default())).1.add(example.split);
    }

    /// The names of the small classes, in their order.
    pub(super) fn small(self) -> Vec<ClassName> {
        let mut names: Vec<ClassName> =
            self.0.into_values().filter(|(_, counts)| counts.is_small()).map(|(name, _)| name).collect();
        names.sort();
        names
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::*;
    use crate::taxonomy::{Provenance, Revision, VersionNumber};

    /// An example of the class with this number, under its label.
    fn example(id: u64, class: usize, split: Split) -> Example {
        Example {
            id,
            text: format!("text {id}"),
            label: name(class),
            assigned: Vec::new(),
            settled: ClassId(0),
            split,
            created: SystemTime::UNIX_EPOCH,
        }
    }

    fn name(class: usize) -> ClassName {
        ClassName::new(&format!("class {class}")).unwrap()
    }

    fn manifest(classes: usize) -> Manifest {
        let names: Vec<ClassName> = (0..classes).map(name).collect();
        Manifest::create(&names, SystemTime::UNIX_EPOCH).unwrap()
    }

    /// Examples with so many on each side, a class each.
    fn examples(counts: &[(usize, usize)]) -> Vec<Example> {
        let sides = counts.iter().enumerate().flat_map(|(class, &(train, validation))| {
            let of = move |side, count| std::iter::repeat_n((class, side), count);
            of(Split::Train, train).chain(of(Split::Validation, validation))
        });
        sides.zip(1..).map(|((class, side), id)| example(id, class, side)).collect()
    }

    fn counted(examples: &[Example], classes: usize) -> Vec<(u64, u64)> {
        let mut counts = vec![SideCounts::default(); classes];
        for example in examples {
            let class = (0..classes).find(|class| name(*class) == example.label).unwrap();
            counts[class].add(example.split);
        }
        counts.into_iter().map(|counts| (counts.train, counts.validation)).collect()
    }

    #[test]
    fn a_small_class_trains_on_all_and_a_larger_one_keeps_what_validates() {
        let mut held = examples(&[(0, 3), (9, 2), (10, 2), (4, 0), (30, 0)]);
        let small = hold_out(&mut held, &manifest(5));
        assert_eq!(counted(&held, 5), [(3, 0), (11, 0), (10, 2), (4, 0), (30, 0)]);
        let small: Vec<(u32, u64)> = small.iter().map(|small| (small.class.0, small.examples)).collect();
        assert_eq!(small, [(1, 3), (2, 11), (4, 4)]);
    }

    #[test]
    fn labels_of_a_merged_class_count_together_and_those_without_a_class_stay() {
        let before = manifest(3);
        let provenance = Provenance {
            revision: Revision(2),
            serving: VersionNumber(1),
            reason: String::new(),
            author: String::new(),
            created: SystemTime::UNIX_EPOCH,
        };
        let merged = before.merge(&["class 0".into(), "class 1".into()], "both", provenance).unwrap();
        // The last label is no class yet.
        let all = examples(&[(6, 1), (5, 1), (20, 2), (2, 2)]);
        let mut held = all.clone();
        assert_eq!(hold_out(&mut held, &merged), []);
        assert_eq!(held, all);
        let small = hold_out(&mut held, &before);
        assert_eq!(small.iter().map(|small| small.class.0).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(counted(&held, 4), [(7, 0), (6, 0), (20, 2), (2, 2)]);
    }

    proptest! {
        #[test]
        fn no_class_with_examples_has_none_to_train_on(
            counts in prop::collection::vec((0usize..25, 0usize..25), 2..8),
        ) {
            let (all, manifest) = (examples(&counts), manifest(counts.len()));
            let mut held = all.clone();
            let small = hold_out(&mut held, &manifest);
            for (class, (before, after)) in counts.iter().zip(counted(&held, counts.len())).enumerate() {
                let &(train, validation) = before;
                let sum = (train + validation) as u64;
                prop_assert_eq!(after.0 + after.1, sum);
                prop_assert!(sum == 0 || after.0 > 0, "class {} has none to train on", class);
                let id = ClassId(class as u32 + 1);
                let is_small = small.iter().any(|small| small.class == id);
                prop_assert_eq!(is_small, sum > 0 && train < 10);
                // The sides of a class that is large enough are those of the hash.
                prop_assert_eq!(after, if is_small { (sum, 0) } else { (train as u64, validation as u64) });
            }
            // The same in any order, and for good.
            let mut reversed: Vec<Example> = all.into_iter().rev().collect();
            prop_assert_eq!(&hold_out(&mut reversed, &manifest), &small);
            reversed.reverse();
            prop_assert_eq!(&reversed, &held);
            hold_out(&mut reversed, &manifest);
            prop_assert_eq!(&reversed, &held);
        }
    }
}
