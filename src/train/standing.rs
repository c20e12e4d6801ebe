//! Measures how versions stand on the examples that the gate compares them on, and whether a run learnt anything.

use std::collections::BTreeSet;

use super::{
    Confusion, Fitted, Sample,
    answered::Answered,
    gate::{Basis, Standing},
    jobs::Shared,
    metrics::argmax,
    start::Samples,
};
use crate::{
    cancel::Cancellation,
    dataset::{Example, Split},
    error::Result,
    model::Network,
    registry::Model,
    taxonomy::{Class, ClassId, LeafGroups, Manifest, VersionNumber},
};

/// Training examples that versions are asked about at most.
const MOST_ASKED: usize = 2048;

/// Standard errors by which right answers must exceed what always answering the commonest class would give.
const STANDARD_ERRORS: f64 = 2.0;

/// The examples that the versions of a job are compared on.
pub(super) struct Compared {
    pub(super) basis: Basis,
    /// Positions of some samples that train, spread evenly over all.
    train: Vec<usize>,
}

/// The version that a candidate would replace.
pub(super) struct Replaced {
    pub(super) standing: Standing,
    /// Its accuracy on the validation examples; none without such examples.
    pub(super) validation_accuracy: Option<f64>,
    /// The classes that the change did not touch.
    pub(super) untouched: Vec<ClassId>,
}

/// What a stage made.
pub(super) struct Candidate {
    pub(super) standing: Option<Standing>,
    /// Why it learnt nothing, if that is so.
    pub(super) learnt_nothing: Option<String>,
}

impl Compared {
    pub(super) fn new(samples: &Samples) -> Self {
        let every = samples.train.len().div_ceil(MOST_ASKED).max(1);
        Self {
            basis: Basis::of(samples.validation.len()),
            train: (0..samples.train.len()).step_by(every).collect(),
        }
    }

    /// How the version that serves stands, in the classes of the manifest that is trained for. None without an example to ask
    /// it about.
    pub(super) fn replaced(
        &self,
        shared: &Shared,
        (model, number): (&Model, VersionNumber),
        manifest: &Manifest,
        samples: &Samples,
        mut examples: Vec<Example>,
    ) -> Result<Option<Replaced>> {
        let trains: BTreeSet<u64> = match self.basis {
            Basis::Validation => BTreeSet::new(),
            Basis::All { .. } => self.train.iter().map(|&at| samples.train_ids[at]).collect(),
        };
        examples.retain(|example| example.split == Split::Validation || trains.contains(&example.id));
        let own =
            shared.registry.manifest(&model.id, shared.registry.version(&model.id, number)?.revision)?;
        let answered = Answered::by(shared, &model.id, number, examples, &Cancellation::default())?;
        let (all, columns) = answered.confusion(&own, manifest, |_| true)?;
        let (validation, _) =
            answered.confusion(&own, manifest, |example| example.split == Split::Validation)?;
        let validation_accuracy = (validation.total() > 0).then(|| validation.accuracy());
        Ok(Standing::new(&all, &columns).map(|standing| Replaced {
            standing,
            validation_accuracy,
            untouched: untouched(&own, manifest),
        }))
    }

    /// How the network that a stage made stands.
    pub(super) fn candidate(
        &self,
        fitted: &Fitted,
        samples: &Samples,
        groups: &LeafGroups,
    ) -> Result<Candidate> {
        let validation = fitted.confusion.as_ref();
        if let (Basis::Validation, Some(confusion)) = (self.basis, validation)
            && exceeds_chance(confusion.right(), confusion.total(), confusion.commonest())
        {
            let standing = Standing::new(confusion, &groups.classes);
            return Ok(Candidate { standing, learnt_nothing: None });
        }
        let asked: Vec<&Sample> = self.train.iter().map(|&at| &samples.train[at]).collect();
        let network = Network::new(&fitted.checkpoint.architecture, &fitted.checkpoint.tensors)?;
        let texts: Vec<_> = asked.iter().map(|sample| &sample.text).collect();
        let rows = network.leaf_probabilities(&texts)?;
        let sums: Vec<Vec<f64>> = rows.iter().map(|row| groups.sums(row)).collect();
        let labels: Vec<usize> = asked.iter().map(|sample| sample.class as usize).collect();
        let mut train = Confusion::new(groups.classes.len());
        labels.iter().zip(&sums).for_each(|(label, sums)| train.add(*label, argmax(sums)));
        let learnt_nothing = TrainingFit::new(&train, &labels, &sums).fault();
        let standing = match (self.basis, validation) {
            (Basis::Validation, validation) => {
                validation.and_then(|confusion| Standing::new(confusion, &groups.classes))
            }
            (Basis::All { .. }, Some(validation)) => {
                train.add_all(validation);
                Standing::new(&train, &groups.classes)
            }
            (Basis::All { .. }, None) => Standing::new(&train, &groups.classes),
        };
        Ok(Candidate { standing, learnt_nothing })
    }
}

/// The classes that are in both manifests and own the same leaves.
fn untouched(before: &Manifest, after: &Manifest) -> Vec<ClassId> {
    let same = |class: &&Class| before.classes.get(&class.id).is_some_and(|old| old.state == class.state);
    after.active().filter(same).map(|class| class.id).collect()
}

/// How a network answers texts that it trained on, beside answers that do not depend on the text.
#[derive(Debug, Clone, Copy, PartialEq)]
struct TrainingFit {
    texts: u64,
    right: u64,
    /// Texts of the commonest class.
    commonest: u64,
    /// Mean of - log P[label], in nats.
    loss: f64,
    /// The lowest such mean of probabilities that are the same for every text, in nats: the entropy of the labels.
    entropy: f64,
}

impl TrainingFit {
    /// From counted answers, labels and the probabilities of the classes.
    fn new(confusion: &Confusion, labels: &[usize], probabilities: &[Vec<f64>]) -> Self {
        let texts = labels.len() as f64;
        let loss = |(label, sums): (&usize, &Vec<f64>)| -sums[*label].max(f64::MIN_POSITIVE).ln();
        let mut counts = vec![0u32; probabilities.first().map_or(0, Vec::len)];
        labels.iter().for_each(|label| counts[*label] += 1);
        let shares = counts.iter().filter(|count| **count > 0).map(|count| f64::from(*count) / texts);
        Self {
            texts: confusion.total(),
            right: confusion.right(),
            commonest: confusion.commonest(),
            loss: labels.iter().zip(probabilities).map(loss).sum::<f64>() / texts,
            entropy: shares.map(|share| -share * share.ln()).sum(),
        }
    }

    /// What says that the run diverged, or learnt nothing: it does no better than chance, neither by its answers nor by its
    /// loss. Where more than nine tenths of the texts are of one class this tells nothing, and chance is good enough.
    fn fault(&self) -> Option<String> {
        let Self { texts, right, commonest, loss, entropy } = *self;
        let tells = 10 * commonest <= 9 * texts;
        // A loss that is no number is no better than chance.
        let learnt = right == texts || exceeds_chance(right, texts, commonest) || loss < entropy;
        (tells && !learnt).then(|| {
            format!(
                "the run diverged or learnt nothing: of {texts} texts that it trained on it answers {right} right, no better \
                 than chance; train with a lower learning rate, or for more epochs"
            )
        })
    }
}

/// Whether more answers are right than always answering the commonest class would give, by more than the standard error of that
/// number accounts for.
fn exceeds_chance(right: u64, texts: u64, commonest: u64) -> bool {
    let chance = commonest as f64;
    let variance = chance * (1.0 - chance / (texts.max(1) as f64));
    right as f64 > chance + STANDARD_ERRORS * variance.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(right: u64, commonest: u64, loss: f64) -> TrainingFit {
        TrainingFit { texts: 100, right, commonest, loss, entropy: 1.386 }
    }

    #[test]
    fn no_better_than_chance_by_answers_and_by_loss_is_a_fault() {
        assert!(fit(25, 25, 1.386).fault().is_some());
        assert!(fit(33, 25, 9.0).fault().is_some(), "within two standard errors of 25");
        assert!(fit(25, 25, f64::NAN).fault().is_some());
        let said = fit(3, 25, 5.0).fault().unwrap();
        assert!(said.contains("of 100 texts that it trained on it answers 3 right"), "{said}");
        // Answers or loss are enough.
        assert_eq!(fit(34, 25, 9.0).fault(), None);
        assert_eq!(fit(25, 25, 1.3).fault(), None);
        // Whatever the loss, all answers are right, or nearly all labels are the same.
        assert_eq!(fit(100, 99, 2.0).fault(), None);
        assert_eq!(fit(91, 91, 2.0).fault(), None);
        assert_eq!(fit(2, 100, 2.0).fault(), None);
    }

    #[test]
    fn loss_and_entropy_are_means_over_the_texts() {
        let labels = [0, 0, 1, 2];
        let probabilities = vec![vec![0.5, 0.25, 0.25]; 4];
        let mut confusion = Confusion::new(3);
        labels.iter().for_each(|label| confusion.add(*label, 0));
        let fit = TrainingFit::new(&confusion, &labels, &probabilities);
        // The probabilities are the shares of the labels: 1.5 bits.
        let expected = 1.5 * 2f64.ln();
        assert!((fit.loss - expected).abs() < 1e-12 && (fit.entropy - expected).abs() < 1e-12, "{fit:?}");
        assert_eq!((fit.texts, fit.right, fit.commonest), (4, 2, 2));
        assert!(fit.fault().is_some());
    }
}
