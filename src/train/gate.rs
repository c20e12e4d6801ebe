//! Whether a candidate may take the place of the version that serves.
//!
//! ```text
//! 30 or more texts validate    compared on the validation examples: accuracy, and F1 of each class
//! fewer                        compared on all examples, those that train too, which both versions have learnt
//! nothing to replace           promoted
//! learnt nothing               refused, whatever it is compared with
//! ```

use std::collections::BTreeMap;

use super::Confusion;
use crate::{
    registry::LostClass,
    taxonomy::{ClassId, ClassName, Manifest},
};

/// Answers that a class, or where few texts validate the whole, may lose by chance.
const FEW: u64 = 2;

/// Texts that must validate before versions are compared on them alone. By the rule of three (Hanley and Lippman-Hand 1983)
/// even n texts without an error leave room for an error rate of 3/n: a tenth of n = 30, as much as the F1 of a class may fall.
pub(super) const ENOUGH_TO_JUDGE: usize = 30;

/// What the gate bears with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// By how much the accuracy may fall, 0 to 1.
    pub accuracy: f64,
    /// By how much the F1 of a class that a change did not touch may fall, 0 to 1. A fall by one or two answers is chance.
    pub class_f1: f64,
}

/// The examples that versions are compared on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Basis {
    /// The validation examples.
    Validation,
    /// Those that train as well.
    All {
        /// Texts that validate: too few to judge by.
        validation: usize,
    },
}

impl Basis {
    /// The basis where so many texts validate.
    pub(super) fn of(validation: usize) -> Self {
        if validation < ENOUGH_TO_JUDGE { Self::All { validation } } else { Self::Validation }
    }
}

/// How a version stands on the examples of a basis, in the classes of a manifest.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) accuracy: f64,
    /// Examples answered right, and all of them.
    right: u64,
    total: u64,
    classes: BTreeMap<ClassId, Of>,
}

/// How it stands on a class.
#[derive(Debug, Clone, Copy)]
struct Of {
    f1: f64,
    /// Examples of the class answered otherwise, and others answered with it.
    wrong: u64,
}

impl Standing {
    /// From answers to labels, counted by the columns of these classes; none without examples.
    pub(super) fn new(confusion: &Confusion, columns: &[ClassId]) -> Option<Self> {
        let of = |metrics: super::metrics::ClassMetrics| {
            (columns[metrics.class], Of { f1: metrics.f1, wrong: confusion.wrong(metrics.class) })
        };
        (confusion.total() > 0).then(|| Self {
            accuracy: confusion.accuracy(),
            right: confusion.right(),
            total: confusion.total(),
            classes: confusion.classes().into_iter().map(of).collect(),
        })
    }
}

/// What the gate decided.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decision {
    /// Whether the candidate is promoted.
    pub(super) promote: bool,
    /// The decision and its numbers in words.
    pub(super) explanation: String,
    /// Classes that lost too much.
    pub(super) lost: Vec<LostClass>,
}

/// What is compared.
pub(super) struct Comparison<'a> {
    pub(super) basis: Basis,
    /// Why the candidate learnt nothing, if that is so.
    pub(super) learnt_nothing: Option<String>,
    /// Classes that nothing measures, since their few examples all train.
    pub(super) small: &'a [ClassName],
    /// The version that would be replaced, if any.
    pub(super) replaced: Option<&'a Standing>,
    pub(super) candidate: Option<&'a Standing>,
    /// The classes that the change did not touch.
    pub(super) untouched: Vec<ClassId>,
    /// Where their names are.
    pub(super) manifest: &'a Manifest,
}

impl Comparison<'_> {
    /// Compares a candidate with the version it would replace on the same examples: by accuracy, and by the F1 of each class
    /// that was not touched. Without a version to replace there is nothing to compare and the candidate is promoted, unless
    /// it learnt nothing. A candidate that is refused is promoted where that is forced.
    pub(super) fn decide(&self, tolerance: Tolerance, force: bool) -> Decision {
        let lost = self.lost(tolerance);
        let refusal = self.learnt_nothing.clone().or_else(|| self.falls(tolerance)).or_else(|| {
            (!lost.is_empty()).then(|| format!("of classes that were not to change, {}", told(&lost)))
        });
        let (promote, explanation) = match (refusal, force) {
            (None, _) => (true, format!("promoted: {}{}", self.measured(), self.unmeasured())),
            (Some(refusal), true) => (true, format!("promoted by force: {refusal}")),
            (Some(refusal), false) => (false, format!("stored, not promoted: {refusal}")),
        };
        Decision { promote, explanation, lost }
    }

    /// By how much the accuracy falls, if by too much.
    fn falls(&self, tolerance: Tolerance) -> Option<String> {
        let (before, after) = (self.replaced?, self.candidate?);
        // An accuracy that is no number is below all others.
        let falls = after.accuracy.is_nan() || after.accuracy < before.accuracy - tolerance.accuracy;
        let by_chance = match self.basis {
            Basis::Validation => false,
            Basis::All { .. } => after.right + FEW >= before.right,
        };
        (falls && !by_chance).then(|| match self.basis {
            Basis::Validation => {
                let (before, after) = (before.accuracy, after.accuracy);
                format!("validation accuracy {after:.4} is below {before:.4} of the serving version")
            }
            Basis::All { .. } => self.measured(),
        })
    }

    /// What was compared, in words.
    fn measured(&self) -> String {
        match (self.basis, self.replaced, self.candidate) {
            (Basis::Validation, Some(before), Some(after)) => {
                format!("validation accuracy {:.4}, was {:.4}", after.accuracy, before.accuracy)
            }
            (Basis::Validation, None, Some(after)) => {
                format!("validation accuracy {:.4}, nothing replaced", after.accuracy)
            }
            (Basis::Validation, _, None) => "there are no validation examples to compare on".to_owned(),
            (Basis::All { validation }, before, after) => {
                let texts = match validation {
                    0 => "no text validates".to_owned(),
                    1 => "only 1 text validates".to_owned(),
                    some => format!("only {some} texts validate"),
                };
                let compared = match (before, after) {
                    (Some(Standing { right: before, .. }), Some(Standing { right: after, total, .. })) => {
                        format!(
                            "of {total} examples, those that train too, it answers {after} right, the serving version {before}"
                        )
                    }
                    _ => "nothing replaced".to_owned(),
                };
                format!("too little to judge by, {texts}; {compared}")
            }
        }
    }

    /// What was not compared, in words.
    fn unmeasured(&self) -> String {
        match (self.basis, self.small) {
            (Basis::All { .. }, _) | (_, []) => String::new(),
            (Basis::Validation, [name]) => format!("; '{name}' is not measured: its few examples all train"),
            (Basis::Validation, small) => {
                format!("; {} classes are not measured: their few examples all train", small.len())
            }
        }
    }

    fn lost(&self, tolerance: Tolerance) -> Vec<LostClass> {
        let (Some(before), Some(after)) = (self.replaced, self.candidate) else { return Vec::new() };
        let compared = self.untouched.iter().filter_map(|class| {
            let (before, after) = (before.classes.get(class)?, after.classes.get(class)?);
            let by_chance = after.wrong <= before.wrong + FEW;
            (before.f1 - after.f1 > tolerance.class_f1 && !by_chance).then(|| LostClass {
                name: self
                    .manifest
                    .classes
                    .get(class)
                    .map_or_else(String::new, |class| class.name.to_string()),
                f1_before: before.f1,
                f1_after: after.f1,
            })
        });
        compared.collect()
    }
}

/// The classes that lost, in words.
fn told(lost: &[LostClass]) -> String {
    const SHOWN: usize = 5;
    let one = |class: &LostClass| {
        format!("'{}' fell from F1 {:.2} to {:.2}", class.name, class.f1_before, class.f1_after)
    };
    let mut text = lost.iter().take(SHOWN).map(one).collect::<Vec<_>>().join(", ");
    if lost.len() > SHOWN {
        text.push_str(&format!(" and {} more", lost.len() - SHOWN));
    }
    text
}

/// What a training that was cancelled has learnt is kept for who asked for it, and serves nobody else.
pub(super) fn cancelled(epochs: u32, planned: u32) -> Decision {
    let explanation =
        format!("stored, not promoted: the training was cancelled after {epochs} of {planned} epochs");
    Decision { promote: false, explanation, lost: Vec::new() }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::taxonomy::ClassName;

    const TOLERANCE: Tolerance = Tolerance { accuracy: 0.0, class_f1: 0.1 };

    /// Answers to ten examples of each of three classes: so many of each are right, the others go to the next class.
    fn standing(right: [usize; 3]) -> Standing {
        let mut confusion = Confusion::new(3);
        for (label, right) in right.into_iter().enumerate() {
            (0..10).for_each(|at| confusion.add(label, if at < right { label } else { (label + 1) % 3 }));
        }
        Standing::new(&confusion, &[ClassId(1), ClassId(2), ClassId(3)]).unwrap()
    }

    fn decide(
        before: Option<[usize; 3]>,
        after: Option<[usize; 3]>,
        untouched: &[u32],
        force: bool,
    ) -> Decision {
        let names = ["a", "b", "c"].map(|name| ClassName::new(name).unwrap());
        let manifest = Manifest::create(&names, SystemTime::UNIX_EPOCH).unwrap();
        let (before, after) = (before.map(standing), after.map(standing));
        let untouched = untouched.iter().copied().map(ClassId).collect();
        let comparison = Comparison {
            basis: Basis::Validation,
            learnt_nothing: None,
            small: &[],
            replaced: before.as_ref(),
            candidate: after.as_ref(),
            untouched,
            manifest: &manifest,
        };
        comparison.decide(TOLERANCE, force)
    }

    #[test]
    fn only_what_is_not_worse_is_promoted() {
        assert!(decide(Some([9, 9, 9]), Some([9, 9, 9]), &[], false).promote);
        assert!(decide(Some([9, 9, 9]), Some([9, 9, 10]), &[1, 2, 3], false).promote);
        assert!(decide(None, Some([1, 1, 1]), &[], false).promote);
        assert!(decide(None, None, &[], false).promote);
        let refused = decide(Some([9, 9, 9]), Some([9, 9, 8]), &[], false);
        assert!(!refused.promote);
        assert!(refused.explanation.contains("0.8667") && refused.explanation.contains("0.9000"));
    }

    #[test]
    fn a_class_that_was_not_touched_must_not_pay() {
        let refused = decide(Some([10, 6, 8]), Some([5, 10, 10]), &[1], false);
        assert!(!refused.promote);
        assert_eq!(refused.lost.len(), 1);
        assert!(refused.explanation.contains("'a' fell from F1 0.91 to 0.67"), "{}", refused.explanation);
        // The change was about that class, or it is chance.
        assert!(decide(Some([10, 6, 8]), Some([5, 10, 10]), &[2, 3], false).promote);
        assert!(decide(Some([10, 6, 8]), Some([8, 8, 8]), &[1], false).promote);
    }

    #[test]
    fn force_promotes_and_says_what_was_lost() {
        let forced = decide(Some([10, 6, 8]), Some([5, 10, 10]), &[1], true);
        assert!(forced.promote && forced.explanation.starts_with("promoted by force: "), "{forced:?}");
        assert_eq!(forced.lost.len(), 1);
    }

    #[test]
    fn a_candidate_that_is_no_number_is_refused() {
        let names = ["a", "b"].map(|name| ClassName::new(name).unwrap());
        let manifest = Manifest::create(&names, SystemTime::UNIX_EPOCH).unwrap();
        let none = Standing { accuracy: f64::NAN, right: 0, total: 30, classes: BTreeMap::new() };
        let before = standing([5, 5, 5]);
        let comparison = Comparison {
            basis: Basis::Validation,
            learnt_nothing: None,
            small: &[],
            replaced: Some(&before),
            candidate: Some(&none),
            untouched: vec![],
            manifest: &manifest,
        };
        assert!(!comparison.decide(TOLERANCE, false).promote);
    }

    #[test]
    fn too_few_texts_to_judge_by_are_said_and_all_examples_compared() {
        assert_eq!([29, 30].map(Basis::of), [Basis::All { validation: 29 }, Basis::Validation]);
        let names = ["a", "b", "c"].map(|name| ClassName::new(name).unwrap());
        let manifest = Manifest::create(&names, SystemTime::UNIX_EPOCH).unwrap();
        let decide = |validation, before: Option<[usize; 3]>, after: [usize; 3], force| {
            let (before, after) = (before.map(standing), standing(after));
            let comparison = Comparison {
                basis: Basis::All { validation },
                learnt_nothing: None,
                small: &names[..1],
                replaced: before.as_ref(),
                candidate: Some(&after),
                untouched: vec![],
                manifest: &manifest,
            };
            comparison.decide(TOLERANCE, force)
        };
        // One or two answers are chance, three are not.
        let kept = decide(7, Some([10, 10, 10]), [10, 10, 8], false);
        assert!(kept.promote);
        assert_eq!(
            kept.explanation,
            "promoted: too little to judge by, only 7 texts validate; of 30 examples, those that train too, it answers \
             28 right, the serving version 30"
        );
        let refused = decide(1, Some([10, 10, 10]), [10, 10, 7], false);
        assert!(!refused.promote);
        assert!(
            refused.explanation.starts_with(
                "stored, not promoted: too little to judge by, only 1 text validates; of 30 examples"
            ),
            "{refused:?}"
        );
        assert!(decide(1, Some([10, 10, 10]), [0, 0, 7], true).promote);
        let first = decide(0, None, [0, 0, 7], false);
        assert_eq!(
            first.explanation,
            "promoted: too little to judge by, no text validates; nothing replaced"
        );
    }

    #[test]
    fn what_learnt_nothing_is_refused_with_nothing_to_replace_too_and_small_classes_are_named() {
        let names = ["a", "b", "c"].map(|name| ClassName::new(name).unwrap());
        let manifest = Manifest::create(&names, SystemTime::UNIX_EPOCH).unwrap();
        let after = standing([9, 9, 9]);
        let decide = |learnt_nothing: Option<&str>, small, replaced, force| {
            let comparison = Comparison {
                basis: Basis::Validation,
                learnt_nothing: learnt_nothing.map(str::to_owned),
                small,
                replaced,
                candidate: Some(&after),
                untouched: vec![],
                manifest: &manifest,
            };
            let Decision { promote, explanation, .. } = comparison.decide(TOLERANCE, force);
            (promote, explanation)
        };
        let refused = (false, "stored, not promoted: it diverged".to_owned());
        assert_eq!(decide(Some("it diverged"), &[], None, false), refused);
        assert_eq!(decide(Some("it diverged"), &[], Some(&after), false), refused);
        assert_eq!(
            decide(Some("it diverged"), &[], None, true),
            (true, "promoted by force: it diverged".into())
        );
        let accuracy = "promoted: validation accuracy 0.9000, nothing replaced";
        assert_eq!(decide(None, &[], None, false).1, accuracy);
        let one = decide(None, &names[..1], None, false).1;
        assert_eq!(one, format!("{accuracy}; 'a' is not measured: its few examples all train"));
        let two = decide(None, &names[..2], None, false).1;
        assert_eq!(two, format!("{accuracy}; 2 classes are not measured: their few examples all train"));
    }
}
