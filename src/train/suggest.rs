//! Which classes to merge: what each pair would gain, counted exactly on the answers to the validation examples.
//!
//! A merge adds two probabilities and leaves the others alone, so the answer after it follows from the class sums of today.
//! With p the sums, l the class of the label and b the best class, merging i and j changes whether the answer is right
//!
//! ```text
//! to right    l in {i, j}, l != b       p[i] + p[j] > every other p
//! to wrong    l not in {i, j}, l = b    p[i] + p[j] > p[l]
//! ```
//!
//! where no two classes share the first place to the bit. Both are rare, so each example names the few pairs that it speaks
//! for or against.

use std::collections::BTreeMap;

use super::{
    Jobs,
    answered::{Answered, validating},
    metrics::argmax,
};
use crate::{
    cancel::Cancellation,
    dataset::hold_out,
    error::Result,
    registry::{ModelId, Selector, Version},
    taxonomy::{ClassId, LeafGroups, Manifest},
};

/// Texts that are shown of a pair.
const SHOWN: usize = 5;

/// What merging would gain, on the validation examples of a model.
#[derive(Debug, Clone)]
pub struct Suggestions {
    /// The version whose answers were counted.
    pub version: Version,
    /// The classes it answers in.
    pub manifest: Manifest,
    /// Validation examples whose label means one class.
    pub examples: u64,
    /// Those that are answered right today.
    pub right: u64,
    /// Pairs that would gain, the largest gain first, then the more confused, then by id.
    pub pairs: Vec<SuggestedPair>,
}

/// Two classes that may be one.
#[derive(Debug, Clone, PartialEq)]
pub struct SuggestedPair {
    /// The classes, ascending.
    pub classes: [ClassId; 2],
    /// Answers that would become right, less those that would become wrong.
    pub gain: u64,
    /// Examples of one that are answered with the other.
    pub confused: u64,
    /// The first few of these.
    pub shown: Vec<ConfusedExample>,
}

/// An example of one class that is answered with another.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfusedExample {
    /// Its id.
    pub id: u64,
    /// Its text.
    pub text: String,
    /// The class of its label.
    pub label: ClassId,
    /// The class that is answered.
    pub answer: ClassId,
    /// Probability of the answer.
    pub probability: f64,
}

/// What is counted for a pair.
#[derive(Debug, Default)]
struct Tally {
    gain: i64,
    confused: u64,
    shown: Vec<ConfusedExample>,
}

/// Columns of a pair, ascending.
type Pair = (usize, usize);

impl Jobs {
    /// Pairs of classes whose merging would gain validation accuracy, at most `limit`.
    ///
    /// # Errors
    /// [`crate::error::Error::NotFound`]; [`crate::error::Error::Precondition`] for a model without a version.
    pub fn suggest_merges(&self, id: &ModelId, limit: usize, cancel: &Cancellation) -> Result<Suggestions> {
        let registry = &self.shared.registry;
        let version = registry.version(id, registry.resolve(id, &Selector::Serving)?)?;
        let manifest = registry.manifest(id, version.revision)?;
        let mut examples = self.shared.dataset.until(cancel.clone()).all(registry.model(id)?.uid)?;
        hold_out(&mut examples, &manifest);
        let answered = Answered::by(&self.shared, id, version.number, validating(examples), cancel)?;
        let (examples, right, mut pairs) = count(&answered, &manifest, cancel)?;
        pairs.truncate(limit);
        Ok(Suggestions { version, manifest, examples, right, pairs })
    }
}

/// Examples that count, those answered right, and the pairs that gain, best first.
fn count(
    answered: &Answered,
    manifest: &Manifest,
    cancel: &Cancellation,
) -> Result<(u64, u64, Vec<SuggestedPair>)> {
    let groups = LeafGroups::new(manifest, answered.leaves())?;
    let mut tallies: BTreeMap<Pair, Tally> = BTreeMap::new();
    let (mut counted, mut right) = (0, 0);
    for (example, row) in answered.iter() {
        cancel.check()?;
        let Some(id) = example.class_in(manifest) else { continue };
        let Some(label) = groups.column(id).map(|column| column as usize) else { continue };
        let sums = groups.sums(row);
        let best = argmax(&sums);
        counted += 1;
        right += u64::from(best == label);
        for (pair, gain) in effects(&sums, label, best) {
            tallies.entry(pair).or_default().gain += gain;
        }
        if best != label {
            let tally = tallies.entry(ordered(label, best)).or_default();
            tally.confused += 1;
            if tally.shown.len() < SHOWN {
                tally.shown.push(ConfusedExample {
                    id: example.id,
                    text: example.text.clone(),
                    label: id,
                    answer: groups.classes[best],
                    probability: sums[best],
                });
            }
        }
    }
    let mut pairs: Vec<SuggestedPair> = tallies
        .into_iter()
        .filter_map(|((a, b), Tally { gain, confused, shown })| {
            let gain = u64::try_from(gain).ok().filter(|gain| *gain > 0)?;
            Some(SuggestedPair { classes: [groups.classes[a], groups.classes[b]], gain, confused, shown })
        })
        .collect();
    pairs.sort_by_key(|pair| (std::cmp::Reverse((pair.gain, pair.confused)), pair.classes));
    Ok((counted, right, pairs))
}

/// The pairs whose merging changes whether an example is answered right, each with 1 for to right and -1 for to wrong.
fn effects(sums: &[f64], label: usize, best: usize) -> Vec<(Pair, i64)> {
    let mut others: Vec<usize> = (0..sums.len()).filter(|&class| class != label).collect();
    others.sort_by(|&a, &b| sums[b].total_cmp(&sums[a]));
    // Whether the label's class answers once it is merged. It then has the newest id, so that it loses a draw.
    let wins = |partner: usize| {
        let rival = others.iter().find(|&&class| class != partner);
        rival.is_none_or(|&rival| sums[label] + sums[partner] > sums[rival])
    };
    if label != best {
        let partners = others.iter().copied().take_while(|&class| wins(class));
        return partners.map(|partner| (ordered(label, partner), 1)).collect();
    }
    let mut lost = Vec::new();
    for (at, &one) in others.iter().enumerate() {
        let before = lost.len();
        let overtakes = |other: &&usize| sums[one] + sums[**other] > sums[label];
        let partners = others[at + 1..].iter().take_while(overtakes);
        lost.extend(partners.map(|&other| (ordered(one, other), -1)));
        if lost.len() == before {
            break;
        }
    }
    lost
}

fn ordered(a: usize, b: usize) -> Pair {
    (a.min(b), a.max(b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether the answer is right after merging a pair, by doing it.
    fn right_after(sums: &[f64], label: usize, (a, b): Pair) -> bool {
        let kept: Vec<usize> = (0..sums.len()).filter(|class| *class != a && *class != b).collect();
        let mut merged: Vec<f64> = kept.iter().map(|&class| sums[class]).collect();
        merged.push(sums[a] + sums[b]);
        let answer = argmax(&merged);
        if label == a || label == b { answer == kept.len() } else { kept.get(answer) == Some(&label) }
    }

    proptest! {
        #[test]
        fn effects_are_those_of_every_merge_tried(
            // Few different numbers, so that there are draws.
            numbers in prop::collection::vec(0u32..12, 2..9),
            label in 0usize..9,
        ) {
            let sums: Vec<f64> = numbers.iter().map(|number| f64::from(*number) / 16.0).collect();
            let (label, best) = (label % sums.len(), argmax(&sums));
            prop_assume!(sums.iter().filter(|sum| **sum == sums[best]).count() == 1);
            let mut expected = Vec::new();
            for a in 0..sums.len() {
                for b in a + 1..sums.len() {
                    let change = i64::from(right_after(&sums, label, (a, b))) - i64::from(best == label);
                    if change != 0 {
                        expected.push(((a, b), change));
                    }
                }
            }
            let mut found = effects(&sums, label, best);
            found.sort();
            prop_assert_eq!(found, expected);
        }
    }
}
