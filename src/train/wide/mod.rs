//! Fits the wide branch: softmax regression on the weighted terms of the texts, by stochastic gradients.
//!
//! ```text
//! u = x W + b                           x the terms that are seen, each left out with probability d, else / (1 - d)
//! h[row] += x[row]^2 |g|^2 / C          g [C] gradient of the loss by u
//! W[row] -= rate / sqrt(h[row]) x[row] g
//! ```
//!
//! The loss is that of the deep branch without smoothing: convex but for classes of several leaves. One step size a row
//! (Duchi et al. 2011, "Adaptive subgradient methods") lets rare terms learn as fast as common ones; the dropout regularises
//! as a penalty that spares rare, telling terms would (Wager et al. 2013, "Dropout training as adaptive regularization").

mod panels;

use std::{panic::resume_unwind, sync::Arc, sync::mpsc, thread};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tracing::warn;

use self::panels::Panels;
use super::{
    Sample,
    batches::{numbers_below, shuffle},
};
use crate::{
    error::{Error, Result},
    model::{
        Array, Checkpoint, Device,
        checkpoint::{WIDE_BIAS, WIDE_WEIGHT},
        cuda::{WideBatch, WideLearner},
        kernels::ClassTargets,
    },
    taxonomy::LeafGroups,
};

/// Rate of the bias, as a share of that of the weights.
const BIAS_RATE: f32 = 0.02;

/// The stream of random numbers; the deep branch draws from another.
const STREAM: u64 = 1;

/// Batches that are made ready while a step runs.
const BATCHES_AHEAD: usize = 4;

/// Steps of a device between two questions how far it is; each question waits for it.
const DEVICE_STEPS: usize = 64;

/// How the wide branch is fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WideRecipe {
    /// Passes over the examples; none leaves the branch as it is.
    pub epochs: u32,
    /// Rate at the start; it falls to 0 on a straight line.
    pub rate: f32,
    /// Texts a step.
    pub batch: usize,
    /// Probability that a term of a text is not seen.
    pub dropout: f32,
}

/// Fits the wide branch of a checkpoint and returns the checkpoint with it. `observe` is called now and then, on a
/// processor after each step, with the mean loss of the epoch so far, in nats. A device that fails is left for the
/// processor.
///
/// # Errors
/// Those of `observe`, and [`Error::Corrupt`] if the checkpoint has no wide branch.
pub(super) fn fit_wide(
    start: &Checkpoint,
    train: &[Sample],
    groups: &LeafGroups,
    recipe: &WideRecipe,
    seed: u64,
    device: &Device,
    observe: &mut dyn FnMut(f64) -> Result<()>,
) -> Result<Checkpoint> {
    let targets = ClassTargets {
        class_of_leaf: groups.class_of_row.clone(),
        classes: groups.classes.len(),
        smoothing: 0.0,
    };
    let samples: Vec<&Sample> = train.iter().collect();
    let labels: Vec<u32> = train.iter().map(|sample| sample.class).collect();
    let texts = Texts { samples: &samples, labels: &labels, others: &[], weights: &[] };
    let fit = |device: &Device, observe: &mut dyn FnMut(f64) -> Result<()>| {
        let engine = Engine::new(start, &targets, device)?;
        engine.fit(texts, recipe, seed, observe)
    };
    let (weight, bias) = match fit(device, observe) {
        Err(Error::Unavailable(reason)) if !matches!(device, Device::Cpu) => {
            warn!(reason, "the wide branch is fitted on the processor");
            fit(&Device::Cpu, observe)?
        }
        fitted => fitted?,
    };
    let mut fitted = start.clone();
    let shape = start.tensor(WIDE_WEIGHT)?.shape.clone();
    fitted.tensors.insert(WIDE_WEIGHT.to_owned(), Array::new(shape, weight));
    fitted.tensors.insert(WIDE_BIAS.to_owned(), Array::new([bias.len()], bias));
    Ok(fitted)
}

/// Fits the rows of some leaves, on the processor: weights `[U, c]` and biases `[c]`, of a branch with so many leaves.
/// Returns them as they are then.
pub(super) fn fit_wide_rows(
    (weight, bias): (&Array, &Array),
    branch_leaves: usize,
    targets: ClassTargets,
    texts: Texts<'_>,
    recipe: &WideRecipe,
    seed: u64,
) -> Result<(Vec<f32>, Vec<f32>)> {
    let engine = Engine::Host(Panels::new(weight, bias, branch_leaves, targets));
    engine.fit(texts, recipe, seed, &mut |_| Ok(()))
}

/// Where the branch is fitted.
enum Engine {
    Host(Panels),
    Device(Box<WideLearner>),
}

/// A batch as an engine takes it.
enum Ready {
    Host(Batch),
    Device(WideBatch),
}

/// The terms that are seen of some texts, and the classes of the texts.
struct Batch {
    terms: Vec<(u32, f32)>,
    /// Where each text's terms begin, and the end; `[B + 1]`.
    offsets: Vec<usize>,
    labels: Vec<u32>,
    /// Logit of all leaves that do not learn, `[B]`; empty where all learn.
    others: Vec<f32>,
    /// How often each text counts, `[B]`; once where empty.
    weights: Vec<f32>,
}

/// The texts that a branch is fitted on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Texts<'a> {
    /// The texts, N of them.
    pub(super) samples: &'a [&'a Sample],
    /// Their classes among the targets.
    pub(super) labels: &'a [u32],
    /// What all leaves that do not learn say to each, as one logit; empty where all learn.
    pub(super) others: &'a [f32],
    /// How often each counts; once where empty.
    pub(super) weights: &'a [f32],
}

impl Batch {
    /// The terms of texts, each left out with a probability, the others scaled up to keep the mean.
    fn thinned(texts: Texts<'_>, chosen: &[usize], dropout: f32, random: &mut ChaCha8Rng) -> Self {
        let kept = 1.0 / (1.0 - dropout);
        let labels = chosen.iter().map(|&text| texts.labels[text]).collect();
        let picked = |all: &[f32]| chosen.iter().filter_map(|&text| all.get(text).copied()).collect();
        let (others, weights) = (picked(texts.others), picked(texts.weights));
        let all: usize = chosen.iter().map(|&text| texts.samples[text].text.terms.len()).sum();
        let mut draws = vec![0u32; all];
        random.fill(&mut draws);
        let unseen = numbers_below(dropout);
        let (mut terms, mut seen) = (vec![(0, 0.0); all], 0);
        let (mut offsets, mut draws) = (vec![0], draws.into_iter());
        for &text in chosen {
            // No branch, which no processor could guess: the next overwrites one that is not seen.
            for (&(row, x), draw) in texts.samples[text].text.terms.iter().zip(&mut draws) {
                terms[seen] = (row, kept * x);
                seen += usize::from(draw >= unseen);
            }
            offsets.push(seen);
        }
        terms.truncate(seen);
        Self { terms, offsets, labels, others, weights }
    }
}

impl Engine {
    fn new(start: &Checkpoint, targets: &ClassTargets, device: &Device) -> Result<Self> {
        let (weight, bias) = (start.tensor(WIDE_WEIGHT)?, start.tensor(WIDE_BIAS)?);
        Ok(match device {
            Device::Cpu => Self::Host(Panels::new(weight, bias, bias.data.len(), targets.clone())),
            Device::Cuda(cuda) => {
                let learner = WideLearner::new(Arc::clone(cuda), &weight.data, &bias.data, targets);
                Self::Device(Box::new(learner?))
            }
        })
    }

    /// All epochs; the weights `[U, C]` and the bias `[C]`. Another thread makes the batches ready.
    fn fit(
        mut self,
        texts: Texts<'_>,
        recipe: &WideRecipe,
        seed: u64,
        observe: &mut dyn FnMut(f64) -> Result<()>,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        let on_device = matches!(self, Self::Device(_));
        let steps_per_epoch = texts.samples.len().div_ceil(recipe.batch);
        let steps = steps_per_epoch * recipe.epochs as usize;
        thread::scope(|scope| {
            let (sender, ready) = mpsc::sync_channel(BATCHES_AHEAD);
            let preparation = scope.spawn(move || {
                let mut random = ChaCha8Rng::seed_from_u64(seed);
                random.set_stream(STREAM);
                let mut order: Vec<usize> = (0..texts.samples.len()).collect();
                for _ in 0..recipe.epochs {
                    shuffle(&mut order, &mut random);
                    for batch in order.chunks(recipe.batch) {
                        let batch = Batch::thinned(texts, batch, recipe.dropout, &mut random);
                        let batch = match on_device {
                            true => Ready::Device(WideBatch::new(&batch.terms, &batch.offsets, batch.labels)),
                            false => Ready::Host(batch),
                        };
                        if sender.send(batch).is_err() {
                            return;
                        }
                    }
                }
            });
            let mut progress = Progress::default();
            let mut take_steps = || -> Result<()> {
                for (step, batch) in ready.iter().enumerate() {
                    if step.is_multiple_of(steps_per_epoch) {
                        progress = Progress::default();
                    }
                    let rate = recipe.rate * (1.0 - step as f32 / steps as f32);
                    let ends_epoch = (step + 1).is_multiple_of(steps_per_epoch);
                    self.step(batch, rate, ends_epoch, &mut progress)?;
                    if progress.is_known {
                        observe(progress.loss / progress.seen as f64)?;
                    }
                }
                Ok(())
            };
            let taken = take_steps();
            drop(ready);
            preparation.join().unwrap_or_else(|panic| resume_unwind(panic));
            taken
        })?;
        self.finish()
    }

    fn step(&mut self, batch: Ready, rate: f32, ends_epoch: bool, progress: &mut Progress) -> Result<()> {
        match (self, batch) {
            (Self::Host(panels), Ready::Host(batch)) => {
                progress.seen += batch.labels.len();
                progress.loss += panels.step(batch, rate, BIAS_RATE * rate);
                progress.is_known = true;
            }
            (Self::Device(learner), Ready::Device(batch)) => {
                progress.seen += batch.texts();
                progress.steps += 1;
                learner.step(&batch, rate, BIAS_RATE * rate)?;
                progress.is_known = ends_epoch || progress.steps.is_multiple_of(DEVICE_STEPS);
                if progress.is_known {
                    progress.loss += learner.take_losses()?;
                }
            }
            _ => return Err(Error::Internal("a batch was prepared for another device".into())),
        }
        Ok(())
    }

    fn finish(self) -> Result<(Vec<f32>, Vec<f32>)> {
        match self {
            Self::Host(panels) => Ok(panels.finish()),
            Self::Device(learner) => Ok(learner.finish()?),
        }
    }
}

/// How an epoch goes.
#[derive(Debug, Default)]
struct Progress {
    steps: usize,
    /// Texts so far.
    seen: usize,
    /// Sum of their losses.
    loss: f64,
    /// Whether the sum is that of all of them.
    is_known: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Architecture, Preset, Wide, surgery},
        taxonomy::{ClassId, LeafId},
    };

    /// More leaves than a panel has columns; each class has two.
    const LEAVES: u32 = 20;

    fn toy() -> (Checkpoint, Vec<Sample>, LeafGroups) {
        let texts: Vec<(String, u32)> = (0..200u32)
            .map(|i| {
                let class = i % (LEAVES / 2);
                (format!("please say{class} about{} it{}", class / 2, i % 7), class)
            })
            .collect();
        let architecture = Architecture { embedding: 2, hidden: 1, ..Architecture::preset(Preset::Default) };
        let leaves: Vec<LeafId> = (0..LEAVES).map(LeafId).collect();
        let start =
            surgery::from_scratch(architecture, texts.iter().map(|(text, _)| text.as_str()), &leaves, 1);
        let encoder = start.text_encoder().unwrap();
        let samples =
            texts.iter().map(|(text, class)| Sample { text: encoder.encode(text), class: *class }).collect();
        let groups = LeafGroups {
            classes: (0..LEAVES / 2).map(ClassId).collect(),
            class_of_row: (0..LEAVES).map(|leaf| Some(leaf / 2)).collect(),
        };
        (start, samples, groups)
    }

    const RECIPE: WideRecipe = WideRecipe { epochs: 3, rate: 0.15, batch: 16, dropout: 0.3 };

    fn fitted(recipe: &WideRecipe) -> Checkpoint {
        let (start, samples, groups) = toy();
        fit_wide(&start, &samples, &groups, recipe, 7, &Device::Cpu, &mut |_| Ok(())).unwrap()
    }

    #[test]
    fn it_learns_which_terms_tell_the_classes() {
        let (_, samples, groups) = toy();
        let fitted = fitted(&RECIPE);
        fitted.validate().unwrap();
        let wide = Wide::new(&fitted.tensors).unwrap();
        let mut logits = vec![0.0; LEAVES as usize];
        for sample in &samples {
            wide.logits(&sample.text.terms, &mut logits);
            let sums = groups.sums(&logits.iter().map(|z| z.exp()).collect::<Vec<_>>());
            assert_eq!(super::super::metrics::argmax(&sums) as u32, sample.class);
        }
    }

    #[test]
    fn terms_stay_away_at_the_rate_and_the_others_make_up_for_them() {
        let (_, samples, _) = toy();
        let samples: Vec<&Sample> = samples.iter().collect();
        let labels: Vec<u32> = samples.iter().map(|sample| sample.class).collect();
        let texts = Texts { samples: &samples, labels: &labels, others: &[], weights: &[] };
        let chosen: Vec<usize> = (0..samples.len()).rev().collect();
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let batch = Batch::thinned(texts, &chosen, 0.25, &mut random);
        for (&text, within) in chosen.iter().zip(batch.offsets.windows(2)) {
            // What is seen of a text are terms of it, in their order.
            let mut all = samples[text].text.terms.iter();
            for &(row, x) in &batch.terms[within[0]..within[1]] {
                let (_, whole) = all.find(|(other, _)| *other == row).unwrap();
                assert!((0.75 * x - whole).abs() < 1e-6, "{x}, expected 4/3 of {whole}");
            }
        }
        let all: usize = samples.iter().map(|sample| sample.text.terms.len()).sum();
        let share = batch.terms.len() as f64 / all as f64;
        assert_eq!(batch.offsets.last(), Some(&batch.terms.len()));
        assert!((share - 0.75).abs() < 0.05, "{share} of {all}");
        let whole = Batch::thinned(texts, &chosen, 0.0, &mut random);
        assert_eq!(whole.terms.len(), all);
    }

    #[test]
    fn a_step_is_that_of_the_formula() {
        let (start, samples, groups) = toy();
        let recipe = WideRecipe { epochs: 1, batch: 1, dropout: 0.0, ..RECIPE };
        let one = &samples[3..4];
        let fitted = fit_wide(&start, one, &groups, &recipe, 7, &Device::Cpu, &mut |_| Ok(())).unwrap();
        // From zeros every leaf has p = 1 / 20, those of the label's class 1 / 2 within it.
        let leaves = LEAVES as usize;
        let gradient: Vec<f32> =
            (0..leaves).map(|leaf| 0.05 - if leaf / 2 == 3 { 0.5 } else { 0.0 }).collect();
        let length = (gradient.iter().map(|g| g * g).sum::<f32>() / leaves as f32).sqrt();
        let weight = &fitted.tensors[WIDE_WEIGHT];
        for &(row, _) in &one[0].text.terms {
            for (w, g) in weight.row(row as usize).iter().zip(&gradient) {
                assert!((w + recipe.rate / length * g).abs() < 1e-5, "{w} {g}");
            }
        }
        for (b, g) in fitted.tensors[WIDE_BIAS].data.iter().zip(&gradient) {
            assert!((b + BIAS_RATE * recipe.rate * g).abs() < 1e-7);
        }
    }

    #[test]
    fn the_bytes_do_not_depend_on_the_threads() {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| fitted(&RECIPE))
        };
        assert_eq!(on(1), on(3));
        assert_ne!(on(1), fitted(&WideRecipe { dropout: 0.4, ..RECIPE }));
    }
}
