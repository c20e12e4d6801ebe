//! Whether a candidate may take the place of the version that serves.

use std::collections::BTreeMap;

use super::Confusion;
use crate::{
    registry::LostClass,
    taxonomy::{ClassId, Manifest},
};

/// Answers that a class may lose by chance.
const FEW: u64 = 2;

/// What the gate bears with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// By how much the accuracy may fall, 0 to 1.
    pub accuracy: f64,
    /// By how much the F1 of a class that a change did not touch may fall, 0 to 1. A fall by one or two answers is chance.
    pub class_f1: f64,
}

/// How a version stands on the validation examples, in the classes of a manifest.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) accuracy: f64,
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
    /// The version that would be replaced, if any.
    pub(super) replaced: Option<&'a Standing>,
    pub(super) candidate: Option<&'a Standing>,
    /// The classes that the change did not touch.
    pub(super) untouched: Vec<ClassId>,
    /// Where their names are.
    pub(super) manifest: &'a Manifest,
}

impl Comparison<'_> {
    /// Compares a candidate with the version it would replace on the same validation examples: by accuracy, and by the F1
    /// of each class that was not touched. Without a version to replace, or without validation examples, there is nothing
    /// to compare and the candidate is promoted; so it is where that is forced.
    pub(super) fn decide(&self, tolerance: Tolerance, force: bool) -> Decision {
        let lost = self.lost(tolerance);
        let refusal = match (self.replaced, self.candidate) {
            // An accuracy that is no number is below all others.
            (Some(before), Some(after))
                if after.accuracy.is_nan() || after.accuracy < before.accuracy - tolerance.accuracy =>
            {
                let (before, after) = (before.accuracy, after.accuracy);
                Some(format!("validation accuracy {after:.4} is below {before:.4} of the serving version"))
            }
            _ => (!lost.is_empty()).then(|| format!("of classes that were not to change, {}", told(&lost))),
        };
        let measured = || match (self.replaced, self.candidate) {
            (Some(before), Some(after)) => {
                format!("validation accuracy {:.4}, was {:.4}", after.accuracy, before.accuracy)
            }
            (None, Some(after)) => format!("validation accuracy {:.4}, nothing replaced", after.accuracy),
            (_, None) => "there are no validation examples to compare on".to_owned(),
        };
        let (promote, explanation) = match (refusal, force) {
            (None, _) => (true, format!("promoted: {}", measured())),
            (Some(refusal), true) => (true, format!("promoted by force: {refusal}")),
            (Some(refusal), false) => (false, format!("stored, not promoted: {refusal}")),
        };
        Decision { promote, explanation, lost }
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
        let none = Standing { accuracy: f64::NAN, classes: BTreeMap::new() };
        let before = standing([5, 5, 5]);
        let comparison = Comparison {
            replaced: Some(&before),
            candidate: Some(&none),
            untouched: vec![],
            manifest: &manifest,
        };
        assert!(!comparison.decide(TOLERANCE, false).promote);
    }
}
