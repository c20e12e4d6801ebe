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
//!
//! The columns are dealt into panels, each with its weights as one table, so that threads never share a row; what a
//! panel computes does not depend on who computes it.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{Sample, batches::shuffle};
use crate::{
    error::Result,
    model::{
        Array, Checkpoint,
        checkpoint::{WIDE_BIAS, WIDE_WEIGHT},
        kernels::{ClassTargets, add_rows, step_rows},
    },
    taxonomy::LeafGroups,
};

/// Columns of a panel: the weights of a term then fill one line of the cache.
const PANEL: usize = 16;

/// Rate of the bias, as a share of that of the weights.
const BIAS_RATE: f32 = 0.02;

/// The stream of random numbers; the deep branch draws from another.
const STREAM: u64 = 1;

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

/// Fits the wide branch of a checkpoint and returns the checkpoint with it. `observe` is called after each step with the
/// mean loss of the epoch so far, in nats.
///
/// # Errors
/// Those of `observe`, and [`crate::error::Error::Corrupt`] if the checkpoint has no wide branch.
pub(super) fn fit_wide(
    start: &Checkpoint,
    train: &[Sample],
    groups: &LeafGroups,
    recipe: &WideRecipe,
    seed: u64,
    observe: &mut dyn FnMut(f64) -> Result<()>,
) -> Result<Checkpoint> {
    let mut fit = WideFit::new(start, groups, recipe, train.len())?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(STREAM);
    let mut order: Vec<usize> = (0..train.len()).collect();
    for _ in 0..recipe.epochs {
        shuffle(&mut order, &mut random);
        let (mut loss, mut seen) = (0.0, 0);
        for batch in order.chunks(recipe.batch) {
            loss += fit.step(batch.iter().map(|&example| &train[example]), &mut random);
            seen += batch.len();
            observe(loss / seen as f64)?;
        }
    }
    let (weight, bias) = fit.finish();
    let mut fitted = start.clone();
    fitted.tensors.insert(WIDE_WEIGHT.to_owned(), weight);
    fitted.tensors.insert(WIDE_BIAS.to_owned(), bias);
    Ok(fitted)
}

struct WideFit<'a> {
    recipe: &'a WideRecipe,
    targets: ClassTargets,
    panels: Vec<Panel>,
    bias: Vec<f32>,
    /// h, one a row.
    squares: Vec<f32>,
    /// The last batch, whose update the panels have not made yet.
    last: Batch,
    step: usize,
    steps: usize,
}

/// Some columns of the weights.
struct Panel {
    /// `[U, PANEL]`, zeros in columns beyond the last leaf.
    weights: Vec<f32>,
    /// Logits of the batch without the bias, `[B, PANEL]`.
    logits: Vec<f32>,
}

/// The terms that are seen of some texts, and what follows from them.
#[derive(Default)]
struct Batch {
    terms: Vec<(u32, f32)>,
    /// Where each text's terms begin, and the end; `[B + 1]`.
    offsets: Vec<usize>,
    /// What each term's row is to move along the gradient, as `terms`.
    steps: Vec<(u32, f32)>,
    /// Gradients by text, `[B, panels * PANEL]`.
    gradients: Vec<f32>,
}

impl<'a> WideFit<'a> {
    fn new(start: &Checkpoint, groups: &LeafGroups, recipe: &'a WideRecipe, texts: usize) -> Result<Self> {
        let (weight, bias) = (start.tensor(WIDE_WEIGHT)?, start.tensor(WIDE_BIAS)?);
        let (terms, leaves) = (start.terms.len(), start.leaves.len());
        let panels = (0..leaves).step_by(PANEL).map(|first| {
            let columns = first..leaves.min(first + PANEL);
            let mut weights = vec![0.0; terms * PANEL];
            for (term, row) in weights.chunks_exact_mut(PANEL).enumerate() {
                row[..columns.len()].copy_from_slice(&weight.row(term)[columns.clone()]);
            }
            Panel { weights, logits: Vec::new() }
        });
        Ok(Self {
            recipe,
            targets: ClassTargets {
                class_of_leaf: groups.class_of_row.clone(),
                classes: groups.classes.len(),
                smoothing: 0.0,
            },
            panels: panels.collect(),
            bias: bias.data.to_vec(),
            squares: vec![0.0; terms],
            last: Batch::default(),
            step: 0,
            steps: texts.div_ceil(recipe.batch) * recipe.epochs as usize,
        })
    }

    /// One step on a batch; the sum of its losses.
    fn step<'s>(&mut self, samples: impl Iterator<Item = &'s Sample>, random: &mut ChaCha8Rng) -> f64 {
        let samples: Vec<&Sample> = samples.collect();
        let mut batch = Batch::thinned(&samples, self.recipe.dropout, random);
        let last = &self.last;
        self.panels.par_iter_mut().enumerate().for_each(|(index, panel)| {
            panel.update(index, last);
            panel.read(&batch);
        });
        let rate = self.recipe.rate * (1.0 - self.step as f32 / self.steps as f32);
        let loss = self.differentiate(&samples, &mut batch, rate);
        self.last = batch;
        self.step += 1;
        loss
    }

    /// The gradient of each text and the steps of its rows; moves the bias.
    fn differentiate(&mut self, samples: &[&Sample], batch: &mut Batch, rate: f32) -> f64 {
        let (leaves, width) = (self.bias.len(), self.panels.len() * PANEL);
        batch.gradients.resize(samples.len() * width, 0.0);
        let mut logits = vec![0.0; width];
        let mut loss = 0.0;
        for (text, sample) in samples.iter().enumerate() {
            for (panel, logits) in self.panels.iter().zip(logits.chunks_exact_mut(PANEL)) {
                logits.copy_from_slice(&panel.logits[text * PANEL..][..PANEL]);
            }
            logits.iter_mut().zip(&self.bias).for_each(|(z, b)| *z += b);
            let gradient = &mut batch.gradients[text * width..][..leaves];
            loss += self.targets.text_loss(&logits[..leaves], sample.class, 1.0, gradient);
            let square = gradient.iter().map(|g| g * g).sum::<f32>() / leaves as f32;
            for &(row, x) in &batch.terms[batch.offsets[text]..batch.offsets[text + 1]] {
                let sum = &mut self.squares[row as usize];
                *sum += x * x * square;
                let step = if *sum > 0.0 { rate * x / sum.sqrt() } else { 0.0 };
                batch.steps.push((row, step));
            }
            self.bias.iter_mut().zip(gradient).for_each(|(b, g)| *b -= BIAS_RATE * rate * *g);
        }
        loss
    }

    /// The weights `[U, C]` and the bias `[C]`.
    fn finish(mut self) -> (Array, Array) {
        let (terms, leaves) = (self.squares.len(), self.bias.len());
        let mut weights = vec![0.0; terms * leaves];
        for (index, panel) in self.panels.iter_mut().enumerate() {
            panel.update(index, &self.last);
            let rows = weights.chunks_exact_mut(leaves).zip(panel.weights.chunks_exact(PANEL));
            for (weights, row) in rows {
                let columns = &mut weights[index * PANEL..];
                let width = columns.len().min(PANEL);
                columns[..width].copy_from_slice(&row[..width]);
            }
        }
        (Array::new([terms, leaves], weights), Array::new([leaves], self.bias))
    }
}

impl Panel {
    fn update(&mut self, index: usize, batch: &Batch) {
        let texts = batch.offsets.len().saturating_sub(1);
        if texts == 0 {
            return;
        }
        let width = batch.gradients.len() / texts;
        for (text, gradient) in batch.gradients.chunks_exact(width).enumerate() {
            let steps = &batch.steps[batch.offsets[text]..batch.offsets[text + 1]];
            step_rows(steps, &gradient[index * PANEL..][..PANEL], &mut self.weights);
        }
    }

    fn read(&mut self, batch: &Batch) {
        self.logits.clear();
        self.logits.resize((batch.offsets.len() - 1) * PANEL, 0.0);
        for (text, logits) in self.logits.chunks_exact_mut(PANEL).enumerate() {
            add_rows(&batch.terms[batch.offsets[text]..batch.offsets[text + 1]], &self.weights, logits);
        }
    }
}

impl Batch {
    /// The terms of texts, each left out with a probability, the others scaled up to keep the mean.
    fn thinned(samples: &[&Sample], dropout: f32, random: &mut ChaCha8Rng) -> Self {
        let kept = 1.0 / (1.0 - dropout);
        let mut batch = Self { offsets: vec![0], ..Self::default() };
        for sample in samples {
            let terms = sample.text.terms.iter().filter(|_| random.random::<f32>() >= dropout);
            batch.terms.extend(terms.map(|&(row, x)| (row, kept * x)));
            batch.offsets.push(batch.terms.len());
        }
        batch
    }
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
        fit_wide(&start, &samples, &groups, recipe, 7, &mut |_| Ok(())).unwrap()
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
    fn a_step_is_that_of_the_formula() {
        let (start, samples, groups) = toy();
        let recipe = WideRecipe { epochs: 1, batch: 1, dropout: 0.0, ..RECIPE };
        let one = &samples[3..4];
        let fitted = fit_wide(&start, one, &groups, &recipe, 7, &mut |_| Ok(())).unwrap();
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
