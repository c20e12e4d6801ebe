//! The training loop: epochs of batches in random order, and the best epoch by validation.
//!
//! The same start, samples, recipe, seed and threads give the same bytes.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use candle_core::Device;

use super::{
    Confusion, Judged, Recipe, augment, batches,
    calibrate::{fit_scales, rejection_curve},
    metrics::{argmax, calibration_error},
    trainer::Trainer,
    wide::fit_wide,
};
use crate::{
    error::{Error, Result},
    model::{Array, Checkpoint, DEFAULT_SCALES, Network, checkpoint::OUTPUT_SCALES},
    registry::{Epoch, RejectionPoint},
    taxonomy::LeafGroups,
    text::EncodedText,
};

/// An encoded text and its class, as a column of the leaf groups.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The text, encoded for the network that is trained.
    pub text: EncodedText,
    /// Column of its class.
    pub class: u32,
}

/// How far a training is.
#[derive(Debug, Clone, PartialEq)]
pub struct FitProgress {
    /// `wide` while the wide branch is fitted, then `fit`, or `evaluate` at the end of an epoch.
    pub stage: &'static str,
    /// Epoch that runs, counted from 1; 0 while the wide branch is fitted.
    pub epoch: u32,
    /// Epochs in all.
    pub epochs: u32,
    /// Steps of the deep branch done.
    pub step: u64,
    /// Steps of the deep branch in all.
    pub steps: u64,
    /// Mean loss of the epoch so far, in nats.
    pub loss: f64,
    /// Accuracy on the validation samples after the last full epoch.
    pub validation_accuracy: Option<f64>,
    /// Training examples a second, over the epoch so far.
    pub examples_per_second: f64,
    /// Estimated time to the end.
    pub eta: Duration,
}

/// What a training made.
#[derive(Debug, Clone)]
pub struct Fitted {
    /// The network after the epoch of the lowest loss on the validation samples; after the last one if there are none.
    pub checkpoint: Checkpoint,
    /// That epoch, counted from 1.
    pub best_epoch: u32,
    /// Epochs that ran.
    pub epochs: u32,
    /// Mean loss of that epoch on the training samples, with dropout and smoothing, in nats.
    pub train_loss: f64,
    /// Accuracy of the network on the validation samples; none without samples.
    pub validation_accuracy: Option<f64>,
    /// Macro F1 of the network on the validation samples; none without samples.
    pub validation_macro_f1: Option<f64>,
    /// Expected calibration error of the network on the validation samples; none without samples.
    pub calibration_error: Option<f64>,
    /// From which confidence on its answers can be trusted, measured on the validation samples.
    pub rejection: Vec<RejectionPoint>,
    /// Every epoch that ran.
    pub curve: Vec<Epoch>,
}

/// How a network stands on the validation samples, with the scales that suit them best.
struct Validated {
    scales: [f32; 2],
    /// Mean of - log P[label], in nats.
    loss: f64,
    confusion: Confusion,
    judged: Vec<Judged>,
}

/// Trains a network on samples.
///
/// `observe` is called after each step and each epoch, on this thread: it may take its time to let others at the
/// device, and ends the training by [`ControlFlow::Break`].
///
/// # Errors
/// [`Error::Cancelled`] if `observe` broke off; [`Error::Precondition`] if there is nothing to learn from, or the
/// gradients stayed infinite.
#[expect(clippy::too_many_arguments, reason = "each is a different thing that the caller decides")]
pub fn fit(
    start: &Checkpoint,
    train: &[Sample],
    validation: &[Sample],
    groups: &LeafGroups,
    recipe: &Recipe,
    seed: u64,
    device: &Device,
    observe: &mut dyn FnMut(&FitProgress) -> ControlFlow<()>,
) -> Result<Fitted> {
    if train.is_empty() || recipe.epochs == 0 {
        return Err(failed("NOTHING_TO_LEARN", "there are no training examples or no epochs".into()));
    }
    start.validate()?;
    let lengths: Vec<usize> = train.iter().map(|sample| sample.text.tokens).collect();
    let steps_per_epoch = train.len().div_ceil(recipe.batch);
    let mut trainer = Trainer::new(start, groups, recipe, steps_per_epoch, seed)?;
    let mut progress = FitProgress {
        stage: "fit",
        epoch: 0,
        epochs: recipe.epochs,
        step: 0,
        steps: trainer.steps as u64,
        loss: 0.0,
        validation_accuracy: None,
        examples_per_second: 0.0,
        eta: Duration::ZERO,
    };
    let mut observe = |progress: &FitProgress| match observe(progress) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Cancelled),
    };
    let start = &match start.architecture.wide && recipe.wide.epochs > 0 {
        true => fit_wide(start, train, groups, &recipe.wide, seed, &mut |_, loss| {
            (progress.stage, progress.loss) = ("wide", loss);
            observe(&progress)
        })?,
        false => start.clone(),
    };
    let mut best: Option<Fitted> = None;
    let mut best_loss = None;
    let mut curve = Vec::with_capacity(recipe.epochs as usize);
    let deep_began = Instant::now();
    for epoch in 1..=recipe.epochs {
        (progress.epoch, progress.stage) = (epoch, "fit");
        let epoch_began = Instant::now();
        let (mut loss_sum, mut counted, mut seen) = (0.0, 0usize, 0usize);
        for batch in batches::epoch(&lengths, recipe.batch, &mut trainer.random) {
            let samples = augment::batch(train, &batch, recipe.word_shuffle, &mut trainer.random);
            if let Some(loss) = trainer.step(epoch, samples.iter().map(AsRef::as_ref))? {
                loss_sum += loss * batch.len() as f64;
                counted += batch.len();
            }
            seen += batch.len();
            progress.step += 1;
            progress.loss = loss_sum / counted.max(1) as f64;
            progress.examples_per_second = seen as f64 / epoch_began.elapsed().as_secs_f64().max(1e-9);
            progress.eta =
                deep_began.elapsed().mul_f64((progress.steps - progress.step) as f64 / progress.step as f64);
            observe(&progress)?;
        }
        let mut checkpoint = start.clone();
        checkpoint.tensors.extend(trainer.tensors());
        let measured = match validation {
            [] => None,
            _ => Some(validate(&checkpoint, validation, groups, device)?),
        };
        progress.stage = "evaluate";
        progress.validation_accuracy = measured.as_ref().map(|measured| measured.confusion.accuracy());
        curve.push(Epoch {
            epoch,
            step: progress.step,
            train_loss: progress.loss,
            learning_rate: recipe.rate(progress.step as usize - 1, progress.steps as usize),
            validation_accuracy: progress.validation_accuracy,
            seconds: deep_began.elapsed().as_secs_f64(),
            validation_loss: measured.as_ref().map(|measured| measured.loss),
        });
        observe(&progress)?;
        // By the loss, which a few lucky answers move less than the accuracy.
        let loss = measured.as_ref().map(|measured| measured.loss);
        if best.is_none() || loss.is_none() || loss < best_loss {
            best_loss = loss;
            let scales = measured.as_ref().map_or(DEFAULT_SCALES, |measured| measured.scales);
            checkpoint.tensors.insert(OUTPUT_SCALES.to_owned(), Array::new([2], scales));
            let judged = measured.as_ref().map(|measured| &*measured.judged);
            best = Some(Fitted {
                checkpoint,
                best_epoch: epoch,
                epochs: recipe.epochs,
                train_loss: progress.loss,
                validation_accuracy: progress.validation_accuracy,
                validation_macro_f1: measured.as_ref().map(|measured| measured.confusion.macro_f1()),
                calibration_error: judged.map(calibration_error),
                rejection: rejection_curve(judged.unwrap_or_default()),
                curve: Vec::new(),
            });
        }
    }
    let best = best.ok_or_else(|| Error::Internal("no epoch ran".into()))?;
    Ok(Fitted { curve, ..best })
}

fn validate(
    checkpoint: &Checkpoint,
    samples: &[Sample],
    groups: &LeafGroups,
    device: &Device,
) -> Result<Validated> {
    let texts: Vec<&EncodedText> = samples.iter().map(|sample| &sample.text).collect();
    let labels: Vec<u32> = samples.iter().map(|sample| sample.class).collect();
    let architecture = &checkpoint.architecture;
    let logits = Network::new(architecture, &checkpoint.tensors, device)?.branch_logits(&texts)?;
    let scales = fit_scales(&logits, &labels, groups, architecture.wide);
    let confusion = Confusion::new(groups.classes.len());
    let mut validated = Validated { scales, loss: 0.0, confusion, judged: Vec::new() };
    let probabilities = logits.probabilities(scales);
    for (&label, row) in labels.iter().zip(probabilities.iter()) {
        let classes = groups.sums(row);
        let answer = argmax(&classes);
        validated.loss -= classes[label as usize].max(f64::MIN_POSITIVE).ln() / labels.len() as f64;
        validated.confusion.add(label as usize, answer);
        validated.judged.push(Judged { confidence: classes[answer], right: answer == label as usize });
    }
    Ok(validated)
}

pub(super) fn failed(reason: &'static str, description: String) -> Error {
    Error::Precondition { reason, subject: "training".into(), description }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Architecture, Preset, checkpoint::EMBEDDING, surgery},
        registry::Mode,
        taxonomy::{ClassId, LeafId},
        train::Optimiser,
    };

    const WORDS: [&[&str]; 3] =
        [&["lost", "card", "stolen"], &["transfer", "money", "abroad"], &["忘", "密", "码"]];

    /// Texts of three classes whose words overlap a little, by index.
    fn text(index: usize) -> (String, u32) {
        let class = index % 3;
        let word = |at: usize| WORDS[class][(index / 3 + at) % 3];
        let filler = WORDS[(class + 1) % 3][index % 2];
        (format!("please {} {} {filler} {}", word(0), word(1), index % 7), class as u32)
    }

    struct Toy {
        start: Checkpoint,
        train: Vec<Sample>,
        validation: Vec<Sample>,
        groups: LeafGroups,
        recipe: Recipe,
    }

    /// Two classes: the first with two leaves, the second with one; a fourth leaf is of no class.
    fn toy() -> Toy {
        let architecture =
            Architecture { embedding: 12, hidden: 10, ..Architecture::preset(Preset::Default) };
        let texts: Vec<(String, u32)> = (0..150).map(text).collect();
        let leaves: Vec<LeafId> = (1..=4).map(LeafId).collect();
        let start =
            surgery::from_scratch(architecture, texts.iter().map(|(text, _)| text.as_str()), &leaves, 3);
        let encoder = start.text_encoder().unwrap();
        let mut samples: Vec<Sample> = texts
            .iter()
            .map(|(text, class)| Sample { text: encoder.encode(text), class: u32::from(*class == 2) })
            .collect();
        let validation = samples.split_off(120);
        let recipe = Recipe {
            epochs: 6,
            learning_rate: 1e-2,
            ..Recipe::for_training(Preset::Default, Mode::Scratch, samples.len())
        };
        let groups = LeafGroups {
            classes: vec![ClassId(1), ClassId(2)],
            class_of_row: vec![Some(0), Some(0), Some(1), None],
        };
        Toy { start, train: samples, validation, groups, recipe }
    }

    impl Toy {
        fn fit(&self, seed: u64, observe: &mut dyn FnMut(&FitProgress) -> ControlFlow<()>) -> Result<Fitted> {
            let Self { start, train, validation, groups, recipe } = self;
            fit(start, train, validation, groups, recipe, seed, &Device::Cpu, observe)
        }
    }

    fn go_on(_: &FitProgress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    #[test]
    fn it_learns_and_says_how_far_it_is() {
        let toy = toy();
        let mut seen: Vec<FitProgress> = Vec::new();
        let fitted = toy
            .fit(1, &mut |progress| {
                seen.push(progress.clone());
                ControlFlow::Continue(())
            })
            .unwrap();
        fitted.checkpoint.validate().unwrap();
        assert!(fitted.validation_accuracy.unwrap() > 0.95, "{:?}", fitted.validation_accuracy);
        assert!(fitted.validation_macro_f1.unwrap() > 0.95);
        assert!(fitted.calibration_error.unwrap() < 0.1 && !fitted.rejection.is_empty());
        assert_eq!(fitted.epochs, 6);
        let steps = 6 * 120usize.div_ceil(16);
        let wide = toy.recipe.wide.epochs as usize;
        assert!(seen[..wide].iter().all(|p| (p.stage, p.epoch, p.step) == ("wide", 0, 0)));
        assert!(seen[wide - 1].loss < seen[0].loss);
        assert_eq!(seen.len(), wide + steps + 6);
        assert!(seen.iter().filter(|p| p.stage == "fit").map(|p| p.step).eq(1..=steps as u64));
        let first = seen.iter().find(|p| p.stage == "evaluate").unwrap();
        let last = seen.last().unwrap();
        assert!(last.loss < first.loss && last.eta.is_zero());
        assert_eq!((last.epoch, last.step, last.steps), (6, steps as u64, steps as u64));
        let best =
            &seen.iter().filter(|p| p.stage == "evaluate").nth(fitted.best_epoch as usize - 1).unwrap();
        assert_eq!(best.validation_accuracy, fitted.validation_accuracy);
        assert_eq!(best.loss, fitted.train_loss);
    }

    #[test]
    fn gradient_descent_and_shuffled_words_learn_too_and_keep_their_bytes() {
        let mut toy = toy();
        toy.recipe = Recipe { word_shuffle: 0.5, ..toy.recipe.with_optimiser(Optimiser::Sgd, Mode::Scratch) };
        (toy.recipe.epochs, toy.recipe.learning_rate) = (30, 0.5);
        let fitted = toy.fit(1, &mut go_on).unwrap();
        assert!(fitted.validation_accuracy.unwrap() > 0.95, "{:?}", fitted.validation_accuracy);
        assert!(fitted.curve.iter().all(|epoch| epoch.learning_rate == 0.5));
        toy.recipe.epochs = 1;
        let bytes = |toy: &Toy| toy.fit(1, &mut go_on).unwrap().checkpoint;
        let shuffled = bytes(&toy);
        assert_eq!(shuffled, bytes(&toy));
        toy.recipe.word_shuffle = 0.0;
        assert_ne!(shuffled, bytes(&toy));
    }

    #[test]
    fn the_curve_has_every_epoch_as_it_was_told() {
        let mut toy = toy();
        toy.recipe.epochs = 3;
        let mut told = Vec::new();
        let fitted = toy.fit(1, &mut |progress| {
            if progress.stage == "evaluate" {
                told.push((progress.epoch, progress.step, progress.loss, progress.validation_accuracy));
            }
            ControlFlow::Continue(())
        });
        let curve = fitted.unwrap().curve;
        let points = curve.iter().map(|at| (at.epoch, at.step, at.train_loss, at.validation_accuracy));
        assert!(points.eq(told));
        assert!(curve.is_sorted_by(|a, b| a.seconds <= b.seconds && a.learning_rate > b.learning_rate));
        // The last rate of a cosine over 24 steps, two of them climbing.
        assert!(curve[2].learning_rate < 0.01 * toy.recipe.learning_rate, "{curve:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_does_not() {
        let mut toy = toy();
        toy.recipe.epochs = 2;
        let fitted = |seed| toy.fit(seed, &mut go_on).unwrap().checkpoint;
        let first = fitted(1);
        assert_eq!(first, fitted(1));
        assert_ne!(first, fitted(2));
    }

    #[test]
    fn without_validation_samples_the_last_epoch_stays() {
        let mut toy = toy();
        toy.validation.clear();
        toy.recipe.epochs = 3;
        let fitted = toy.fit(1, &mut go_on).unwrap();
        assert_eq!((fitted.best_epoch, fitted.validation_accuracy), (3, None));
    }

    #[test]
    fn rows_that_no_text_touches_stay_as_they_were() {
        let mut toy = toy();
        toy.recipe.epochs = 1;
        toy.recipe.word_dropout = 0.0;
        toy.recipe.embedding_dropout = 0.0;
        toy.train.truncate(20);
        let fitted = toy.fit(1, &mut go_on).unwrap();
        let (before, after) = (&toy.start.tensors[EMBEDDING], &fitted.checkpoint.tensors[EMBEDDING]);
        let (mut moved, mut stayed) = (0, 0);
        for row in 0..toy.start.vocabulary.len() {
            let touched = toy.train.iter().any(|sample| sample.text.features.contains(&(row as u32)));
            assert_eq!(before.row(row) != after.row(row), touched, "row {row}");
            *(if touched { &mut moved } else { &mut stayed }) += 1;
        }
        assert!(moved > 10 && stayed > 0, "{moved} {stayed}");
    }

    #[test]
    fn frozen_rows_stay_as_they_were_and_the_rest_learns() {
        let mut toy = toy();
        toy.recipe.epochs = 1;
        toy.start.architecture.frozen_rows = 5;
        let fitted = toy.fit(1, &mut go_on).unwrap();
        let (before, after) = (&toy.start.tensors[EMBEDDING], &fitted.checkpoint.tensors[EMBEDDING]);
        let moved = |row: usize| before.row(row) != after.row(row);
        assert!(!(1..=5).any(moved));
        assert!((6..12).all(moved), "the most frequent features are touched");
    }

    #[test]
    fn it_stops_when_told() {
        let mut steps = 0;
        let stopped = toy().fit(1, &mut |_| {
            steps += 1;
            if steps == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(matches!(stopped, Err(Error::Cancelled)));
        assert_eq!(steps, 5);
    }

    #[test]
    fn a_training_that_diverges_fails_by_name() {
        let mut toy = toy();
        toy.recipe.learning_rate = 1e38;
        let error = toy.fit(1, &mut go_on).unwrap_err();
        assert!(matches!(error, Error::Precondition { reason: "TRAINING_DIVERGED", .. }), "{error}");
        assert!(error.to_string().contains("epoch") && error.to_string().contains("1e38"), "{error}");
    }

    #[test]
    fn nothing_to_learn_from_is_an_error() {
        let mut toy = toy();
        toy.train.clear();
        assert!(matches!(
            toy.fit(1, &mut go_on),
            Err(Error::Precondition { reason: "NOTHING_TO_LEARN", .. })
        ));
    }
}
