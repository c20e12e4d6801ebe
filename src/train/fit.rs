//! The training loop: the wide branch, then epochs of batches in random order, of which validation chooses one.
//!
//! The same start, samples, recipe, seed and kind of processor give the same bytes, on any number of threads.

use std::{
    ops::ControlFlow,
    panic::resume_unwind,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rand_chacha::ChaCha8Rng;
use tracing::warn;

use super::{
    Confusion, Recipe, augment, batches,
    calibrate::rejection_curve,
    metrics::calibration_error,
    prepare::{Prepared, Preparer},
    trainer::{MAX_BROKEN_STEPS, Step, Trainer},
    validation::{Validated, validate},
    wide::fit_wide,
};
use crate::{
    error::{Error, Result},
    model::{Array, BranchLogits, Checkpoint, Device, Wide, checkpoint::OUTPUT_SCALES},
    registry::{Epoch, RejectionPoint},
    taxonomy::LeafGroups,
    text::EncodedText,
};

/// Batches that are made ready while a step runs.
const BATCHES_AHEAD: usize = 2;

/// How often a network is restored that diverges, before the training fails.
const MAX_RESTORED: u32 = 3;

/// By what share of the lowest validation loss a later epoch may be above it and still be kept.
const LOSS_TOLERANCE: f64 = 0.03;

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
    /// The network after the last epoch whose loss on the validation samples was about the lowest; after the last one if
    /// there are none.
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
    /// What the network answers to the validation samples, in the classes of the leaf groups; none without samples.
    pub confusion: Option<Confusion>,
    /// Expected calibration error of the network on the validation samples; none without samples.
    pub calibration_error: Option<f64>,
    /// From which confidence on its answers can be trusted, measured on the validation samples.
    pub rejection: Vec<RejectionPoint>,
    /// Every epoch that ran.
    pub curve: Vec<Epoch>,
    /// Where the network learnt.
    pub device: String,
}

impl Fitted {
    /// A network with the scales that suit the validation samples best, and how it stands on these. Without samples to fit
    /// them on its scales stay.
    pub(super) fn measured(mut checkpoint: Checkpoint, measured: Option<Validated>, device: String) -> Self {
        if let Some(Validated { scales, .. }) = &measured {
            checkpoint.tensors.insert(OUTPUT_SCALES.to_owned(), Array::new([2], scales.to_vec()));
        }
        let judged = measured.as_ref().map(|measured| &*measured.judged);
        let (calibration_error, rejection) =
            (judged.map(calibration_error), rejection_curve(judged.unwrap_or_default()));
        let confusion = measured.map(|measured| measured.confusion);
        Self {
            checkpoint,
            best_epoch: 0,
            epochs: 0,
            train_loss: 0.0,
            validation_accuracy: confusion.as_ref().map(Confusion::accuracy),
            validation_macro_f1: confusion.as_ref().map(Confusion::macro_f1),
            confusion,
            calibration_error,
            rejection,
            curve: Vec::new(),
            device,
        }
    }
}

/// Trains a network on samples.
///
/// `observe` is called after each step and each epoch, on this thread: it may take its time to let others compute, which
/// changes nothing of what is learnt, and ends the training by [`ControlFlow::Break`]. What the best epoch until then learnt is returned all the
/// same, with fewer epochs than the recipe asks for.
///
/// A device that fails, or is too small, is left for the processor after the last whole epoch.
///
/// A batch whose loss or gradient is not finite is left out. After several in a row the network is restored from the
/// last whole epoch and goes on at half the rate.
///
/// # Errors
/// [`Error::Cancelled`] if `observe` broke off before an epoch ended; [`Error::Precondition`] if there is nothing to
/// learn from, or with reason `TRAINING_DIVERGED` if half the rate did not help several times.
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
    let mut observe = |progress: &FitProgress| match observe(progress) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Cancelled),
    };
    let data = Data { train, validation, groups };
    let mut fitting = Fitting::new(start, data, recipe, seed, device)?;
    if start.architecture.wide && recipe.wide.epochs > 0 {
        fitting.fit_wide(seed, device, &mut observe)?;
    }
    match fitting.run(&mut observe) {
        // What has been learnt is worth keeping.
        Err(Error::Cancelled) if fitting.best.is_some() => {}
        ended => ended?,
    }
    fitting.finish()
}

/// What a network learns from and is measured on.
#[derive(Debug, Clone, Copy)]
struct Data<'a> {
    train: &'a [Sample],
    validation: &'a [Sample],
    groups: &'a LeafGroups,
}

/// A training under way.
struct Fitting<'a> {
    data: Data<'a>,
    recipe: &'a Recipe,
    /// Tokens of each text that trains.
    lengths: Vec<usize>,
    trainer: Trainer<'a>,
    progress: FitProgress,
    /// When the deep branch began.
    began: Instant,
    curve: Vec<Epoch>,
    best: Option<Fitted>,
    /// Lowest mean validation loss so far, in nats.
    lowest_loss: Option<f64>,
    /// The network after the last whole epoch, before the first one the start.
    whole: Checkpoint,
    /// What the wide branch says about the validation samples, `[M, C]`; it stays as it is while the deep one learns.
    wide: Vec<f32>,
    restored: u32,
}

/// Who is told, and may break off with [`Error::Cancelled`].
type Observe<'a> = &'a mut dyn FnMut(&FitProgress) -> Result<()>;

impl<'a> Fitting<'a> {
    fn new(
        start: &Checkpoint,
        data: Data<'a>,
        recipe: &'a Recipe,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let steps_per_epoch = data.train.len().div_ceil(recipe.batch);
        let trainer = Trainer::new(start, data.groups, recipe, steps_per_epoch, seed, device)?;
        let progress = FitProgress {
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
        Ok(Self {
            data,
            recipe,
            lengths: data.train.iter().map(|sample| sample.text.tokens).collect(),
            trainer,
            progress,
            began: Instant::now(),
            curve: Vec::with_capacity(recipe.epochs as usize),
            best: None,
            lowest_loss: None,
            whole: start.clone(),
            wide: wide_logits(start, data.validation),
            restored: 0,
        })
    }

    fn fit_wide(&mut self, seed: u64, device: &Device, observe: Observe<'_>) -> Result<()> {
        let Self { data, recipe, progress, whole, .. } = self;
        *whole = fit_wide(whole, data.train, data.groups, &recipe.wide, seed, device, &mut |loss| {
            (progress.stage, progress.loss) = ("wide", loss);
            observe(progress)
        })?;
        self.wide = wide_logits(&self.whole, self.data.validation);
        Ok(())
    }

    /// All epochs of the deep branch.
    fn run(&mut self, observe: Observe<'_>) -> Result<()> {
        self.began = Instant::now();
        let mut epoch = 1;
        while epoch <= self.recipe.epochs {
            let whole = match self.whole_epoch(epoch, observe) {
                Ok(false) => self.restore(epoch).map(|()| false),
                whole => whole,
            };
            match whole {
                Ok(true) => {
                    observe(&self.progress)?;
                    epoch += 1;
                }
                Ok(false) => {}
                Err(Error::Unavailable(reason)) => {
                    warn!(epoch, reason, "learning goes on on the processor, from the last whole epoch");
                    self.trainer.fall_back(&self.whole, epoch - 1)?;
                    self.progress.step = self.trainer.ended() as u64;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// An epoch and its measurement; `false` if the network broke.
    fn whole_epoch(&mut self, epoch: u32, observe: Observe<'_>) -> Result<bool> {
        if !self.epoch(epoch, observe)? {
            return Ok(false);
        }
        let tensors = self.trainer.tensors()?;
        if tensors.values().any(|array| array.data.iter().any(|value| !value.is_finite())) {
            return Ok(false);
        }
        self.whole.tensors.extend(tensors);
        self.end_epoch(epoch)?;
        Ok(true)
    }

    /// One pass over the examples; `false` if it was given up because nothing was finite any more.
    fn epoch(&mut self, epoch: u32, observe: Observe<'_>) -> Result<bool> {
        (self.progress.epoch, self.progress.stage) = (epoch, "fit");
        let Self { data, recipe, lengths, trainer, .. } = self;
        let (data, recipe, preparer) = (*data, *recipe, trainer.preparer());
        let mut random = trainer.random.clone();
        // How far ahead batches are when an epoch ends early depends on the threads; so the next one draws elsewhere.
        trainer.random.set_stream(random.get_stream() + 2);
        let batches = batches::epoch(lengths, recipe.batch, &mut random);
        let prepare = move |batch: Vec<usize>, random: &mut ChaCha8Rng| {
            let samples = augment::batch(data.train, &batch, recipe, random);
            let samples: Vec<&Sample> = samples.iter().map(AsRef::as_ref).collect();
            preparer.prepare(&samples, recipe, random)
        };
        let (whole, random) = match preparer {
            // The steps take all threads there are.
            Preparer::Host(_) => {
                let ready = batches.into_iter().map(|batch| prepare(batch, &mut random));
                (self.steps(ready, observe), random)
            }
            Preparer::Device => thread::scope(|scope| {
                let (sender, ready) = mpsc::sync_channel(BATCHES_AHEAD);
                let preparation = scope.spawn(move || {
                    for batch in batches {
                        if sender.send(prepare(batch, &mut random)).is_err() {
                            break;
                        }
                    }
                    random
                });
                let whole = self.steps(ready.into_iter(), observe);
                (whole, preparation.join().unwrap_or_else(|panic| resume_unwind(panic)))
            }),
        };
        if let Ok(true) = whole {
            self.trainer.random = random;
        }
        whole
    }

    /// A step on each batch; `false` if nothing was finite any more.
    fn steps(&mut self, ready: impl Iterator<Item = Prepared>, observe: Observe<'_>) -> Result<bool> {
        let Self { trainer, progress, began, .. } = self;
        let epoch_began = Instant::now();
        let (mut loss_sum, mut counted, mut seen) = (0.0, 0usize, 0usize);
        let mut ended = |(step, texts): (Step, usize), trainer: &Trainer<'_>| {
            seen += texts;
            match step {
                Step::Learnt(loss) => {
                    loss_sum += loss * texts as f64;
                    counted += texts;
                }
                Step::Skipped => {}
                Step::Broken => return Ok(false),
            }
            progress.step = trainer.ended() as u64;
            progress.loss = loss_sum / counted.max(1) as f64;
            progress.examples_per_second = seen as f64 / epoch_began.elapsed().as_secs_f64().max(1e-9);
            progress.eta =
                began.elapsed().mul_f64((progress.steps - progress.step) as f64 / progress.step as f64);
            observe(progress).map(|()| true)
        };
        for batch in ready {
            if let Some(step) = trainer.step(batch)?
                && !ended(step, trainer)?
            {
                return Ok(false);
            }
        }
        match trainer.last_step()? {
            Some(step) => ended(step, trainer),
            None => Ok(true),
        }
    }

    /// Measures the network after an epoch and keeps it if it is the best so far.
    fn end_epoch(&mut self, epoch: u32) -> Result<()> {
        let measured = self.measure()?;
        let accuracy = measured.as_ref().map(|measured| measured.confusion.accuracy());
        let loss = measured.as_ref().map(|measured| measured.loss);
        (self.progress.stage, self.progress.validation_accuracy) = ("evaluate", accuracy);
        self.curve.push(Epoch {
            epoch,
            step: self.progress.step,
            train_loss: self.progress.loss,
            learning_rate: self.trainer.rate,
            validation_accuracy: accuracy,
            seconds: self.began.elapsed().as_secs_f64(),
            validation_loss: loss,
        });
        // By the loss, which a few lucky answers move less than the accuracy. A later epoch is as good while its loss is
        // about the lowest: its rate was lower.
        let lowest = self.lowest_loss.filter(|lowest| lowest.is_finite());
        if loss.zip(lowest).is_none_or(|(loss, lowest)| loss <= lowest * (1.0 + LOSS_TOLERANCE)) {
            self.lowest_loss = loss.zip(lowest).map_or(loss, |(loss, lowest)| Some(loss.min(lowest)));
            self.best = Some(Fitted {
                best_epoch: epoch,
                epochs: epoch,
                train_loss: self.progress.loss,
                ..Fitted::measured(self.whole.clone(), measured, self.trainer.device().to_owned())
            });
        }
        Ok(())
    }

    /// How the network stands on the validation samples; none without samples.
    fn measure(&mut self) -> Result<Option<Validated>> {
        let Data { validation, groups, .. } = self.data;
        if validation.is_empty() {
            return Ok(None);
        }
        let texts: Vec<&EncodedText> = validation.iter().map(|sample| &sample.text).collect();
        let logits = BranchLogits {
            deep: self.trainer.deep_logits(&self.whole, &texts)?,
            wide: std::mem::take(&mut self.wide),
            leaves: self.whole.leaves.len(),
        };
        let measured = validate(&logits, validation, groups, self.whole.architecture.wide);
        self.wide = logits.wide;
        Ok(Some(measured))
    }

    /// Goes back to the last whole epoch, at half the rate.
    fn restore(&mut self, epoch: u32) -> Result<()> {
        let rate = self.recipe.learning_rate;
        if self.restored == MAX_RESTORED {
            let description = format!(
                "the loss was not finite for {MAX_BROKEN_STEPS} steps in a row in epoch {epoch}, although the network \
                 was restored {MAX_RESTORED} times, each time at half the rate; train again with a lower learning rate \
                 than {rate:e}"
            );
            return Err(failed("TRAINING_DIVERGED", description));
        }
        self.restored += 1;
        self.trainer.restore(&self.whole, epoch - 1)?;
        self.progress.step = self.trainer.ended() as u64;
        warn!(epoch, restored = self.restored, "the loss was not finite; restored, at half the rate");
        Ok(())
    }

    fn finish(self) -> Result<Fitted> {
        let best = self.best.ok_or_else(|| Error::Internal("no epoch ran".into()))?;
        Ok(Fitted { epochs: self.curve.len() as u32, curve: self.curve, ..best })
    }
}

/// What the wide branch of a network says about samples, `[M, C]`; zeros without one.
pub(super) fn wide_logits(network: &Checkpoint, samples: &[Sample]) -> Vec<f32> {
    let leaves = network.leaves.len();
    let mut logits = vec![0.0; samples.len() * leaves];
    if let Some(wide) = Wide::new(&network.tensors) {
        let rows = samples.iter().zip(logits.chunks_exact_mut(leaves));
        rows.for_each(|(sample, logits)| wide.logits(&sample.text.terms, logits));
    }
    logits
}

pub(super) fn failed(reason: &'static str, description: String) -> Error {
    Error::Precondition { reason, subject: "training".into(), description }
}

#[cfg(test)]
mod tests;
