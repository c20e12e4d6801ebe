//! Fits rows of the softmax while the encoder stays as it is: in a fraction of a second, since the features of a text are
//! computed once.
//!
//! ```text
//! head          sum of w - log P[label] / sum of w  +  l/2 |W - W0|^2        convex, by L-BFGS; W0 the rows before
//! wide branch   as in a whole training
//! P             over the leaves that are fitted, and one more that stands for all others: log sum of exp z over them
//! ```
//!
//! Each branch is fitted apart, as in a whole training. Where only some leaves are fitted, as after a split, what the
//! others say to a text is a single number, so the work grows with the leaves that came, not with those that are there.

mod lbfgs;
mod rows;
mod stage;

use std::collections::BTreeSet;

use rayon::prelude::*;
use tracing::debug;

use self::{
    lbfgs::{Limits, minimise},
    rows::Rows,
};
pub(super) use stage::{MOST_SAMPLES, refit_all};

use super::{
    Sample, WideRecipe,
    wide::{Texts, fit_wide_rows},
};
use crate::{
    error::Result,
    model::{
        Checkpoint,
        checkpoint::{HEAD_BIAS, HEAD_WEIGHT, WIDE_BIAS, WIDE_WEIGHT},
        kernels::{ClassTargets, Inputs, Linear},
    },
    taxonomy::{LeafGroups, LeafId},
};

/// Texts a thread takes at a time.
const BLOCK: usize = 256;

/// Samples and what the encoder makes of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Featured<'a> {
    /// The samples, N of them.
    pub(super) samples: &'a [&'a Sample],
    /// Their features, `[N, F]`.
    pub(super) features: &'a [f32],
    /// How often each counts, `[N]`: one that stands for others counts for them too.
    pub(super) weights: &'a [f32],
}

/// How rows are fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct RefitRecipe {
    /// l, for the rows of the head.
    pub(super) decay: f64,
    /// Most steps of the solver.
    pub(super) steps: usize,
    /// Probability that the target spreads over all classes.
    pub(super) smoothing: f32,
    /// How the rows of the wide branch are fitted.
    pub(super) wide: WideRecipe,
}

/// The same network with the rows of some leaves fitted on samples. Each class owns only such leaves, or none.
///
/// # Errors
/// [`crate::error::Error::Corrupt`] if the checkpoint lacks a tensor.
pub(super) fn refit(
    mut network: Checkpoint,
    data: Featured<'_>,
    groups: &LeafGroups,
    free: &BTreeSet<LeafId>,
    recipe: &RefitRecipe,
    seed: u64,
) -> Result<Checkpoint> {
    let rows = Rows::new(&network, groups, free);
    let labels = data.samples.iter().map(|sample| rows.label(sample.class)).collect();
    let refit = Refit { network: &network, data, rows: &rows, labels, recipe, seed };
    // On the threads of the pool, where handing work to another is cheap: there is a lot of it, in small pieces.
    let (head, wide) = rayon::join(|| refit.head(), || refit.wide());
    let (weights, biases) = head?;
    rows.put(&weights, network.numbers_mut(HEAD_WEIGHT)?);
    rows.put(&biases, network.numbers_mut(HEAD_BIAS)?);
    if let Some((weights, biases)) = wide? {
        let leaves = network.leaves.len();
        rows.put_columns(&weights, leaves, network.numbers_mut(WIDE_WEIGHT)?);
        rows.put(&biases, network.numbers_mut(WIDE_BIAS)?);
    }
    Ok(network)
}

/// Rows to be fitted, and to what.
struct Refit<'a> {
    network: &'a Checkpoint,
    data: Featured<'a>,
    rows: &'a Rows,
    /// Classes of the targets, `[N]`.
    labels: Vec<u32>,
    recipe: &'a RefitRecipe,
    seed: u64,
}

/// Weights and biases of the rows that are fitted.
type Fit = (Vec<f32>, Vec<f32>);

impl Refit<'_> {
    fn head(&self) -> Result<Fit> {
        let Self { network, data, rows, labels, recipe, .. } = self;
        let (weight, bias) = (network.tensor(HEAD_WEIGHT)?, network.tensor(HEAD_BIAS)?);
        let inputs = Inputs::new(data.features, weight.shape[1]);
        let head = Head {
            targets: rows.targets(recipe.smoothing),
            labels,
            weights: data.weights,
            others: rows.others(|stay| {
                let (weights, biases): (Vec<&[f32]>, Vec<f32>) =
                    stay.iter().map(|&row| (weight.row(row), bias.data[row])).unzip();
                inputs.map(&Linear::from_slices(&weights.concat(), &biases))
            }),
            inputs: &inputs,
            decay: recipe.decay,
        };
        let fit = head.fit(rows.of(weight), rows.entries(bias), recipe.steps);
        debug!(texts = data.samples.len(), "the head is fitted");
        Ok(fit)
    }

    /// None where the network has no wide branch.
    fn wide(&self) -> Result<Option<Fit>> {
        let Self { network, data, rows, labels, recipe, seed } = self;
        if !network.architecture.wide {
            return Ok(None);
        }
        let (weight, bias) = (network.tensor(WIDE_WEIGHT)?, network.tensor(WIDE_BIAS)?);
        let others = rows.others(|stay| rows::wide_logits(data.samples, weight, bias, stay));
        let fit = fit_wide_rows(
            (&rows.columns_of(weight), &rows.columns_of(bias)),
            bias.data.len(),
            rows.targets(0.0),
            Texts { samples: data.samples, labels, others: &others, weights: data.weights },
            &recipe.wide,
            *seed,
        )?;
        debug!("the wide branch is fitted");
        Ok(Some(fit))
    }
}

/// What the head says to features `[N, F]`: logits `[N, C]`.
///
/// # Errors
/// [`crate::error::Error::Corrupt`] if the checkpoint lacks a tensor.
pub(super) fn head_logits(network: &Checkpoint, features: &[f32]) -> Result<Vec<f32>> {
    let (weight, bias) = (network.tensor(HEAD_WEIGHT)?, network.tensor(HEAD_BIAS)?);
    Ok(Linear::from_slices(&weight.data, &bias.data).map(features))
}

/// Of some rows of the head the one that each text, by its features `[N, F]`, gives the highest logit.
///
/// # Errors
/// [`crate::error::Error::Corrupt`] if the checkpoint lacks a tensor.
pub(super) fn strongest_rows(network: &Checkpoint, features: &[f32], rows: &[usize]) -> Result<Vec<usize>> {
    let (weight, bias) = (network.tensor(HEAD_WEIGHT)?, network.tensor(HEAD_BIAS)?);
    let (weights, biases): (Vec<&[f32]>, Vec<f32>) =
        rows.iter().map(|&row| (weight.row(row), bias.data[row])).unzip();
    let logits = Linear::from_slices(&weights.concat(), &biases).map(features);
    let strongest = logits.chunks_exact(rows.len()).map(|logits| {
        let best = (1..rows.len()).fold(0, |best, at| if logits[at] > logits[best] { at } else { best });
        rows[best]
    });
    Ok(strongest.collect())
}

/// What the rows of the head are fitted to.
struct Head<'a> {
    targets: ClassTargets,
    /// Classes of the targets, `[N]`.
    labels: &'a [u32],
    weights: &'a [f32],
    /// Logit of all rows that stay, `[N]`; empty where none does.
    others: Vec<f32>,
    inputs: &'a Inputs,
    decay: f64,
}

impl Head<'_> {
    /// Rows `[k, F]` and biases `[k]`, moved from a start to where the loss is about the lowest.
    fn fit(&self, start: Vec<f32>, biases: Vec<f32>, steps: usize) -> (Vec<f32>, Vec<f32>) {
        let (cut, limits) = (start.len(), Limits { steps, tolerance: 1e-5 });
        let mut x = [start.as_slice(), &biases].concat();
        minimise(&mut x, limits, |x, gradient| {
            let (weight, bias) = x.split_at(cut);
            let (loss, dz) = self.loss(&self.inputs.map(&Linear::from_slices(weight, bias)), bias.len());
            let (dw, db) = gradient.split_at_mut(cut);
            self.inputs.gradients(&dz, dw, db);
            let mut distance = 0.0;
            for ((g, w), start) in dw.iter_mut().zip(weight).zip(&start) {
                let away = f64::from(w - start);
                distance += away * away;
                *g += (self.decay * away) as f32;
            }
            loss + 0.5 * self.decay * distance
        });
        let biases = x.split_off(cut);
        (x, biases)
    }

    /// The mean loss of logits `[N, k]`, in nats, and its gradient.
    fn loss(&self, logits: &[f32], k: usize) -> (f64, Vec<f32>) {
        let total: f64 = self.weights.iter().map(|weight| f64::from(*weight)).sum();
        let in_front = self.targets.class_of_leaf.len() - k;
        let mut gradient = vec![0.0; logits.len()];
        let blocks = logits.par_chunks(BLOCK * k).zip(gradient.par_chunks_mut(BLOCK * k)).enumerate();
        let losses: Vec<f64> = blocks
            .map(|(block, (logits, gradient))| {
                let (mut row, mut slope) = (vec![0.0; in_front + k], vec![0.0; in_front + k]);
                let texts = logits.chunks_exact(k).zip(gradient.chunks_exact_mut(k)).zip(block * BLOCK..);
                texts
                    .map(|((logits, gradient), text)| {
                        if let Some(others) = self.others.get(text) {
                            row[0] = *others;
                        }
                        row[in_front..].copy_from_slice(logits);
                        let weight = f64::from(self.weights[text]) / total;
                        let loss = self.targets.text_loss(&row, self.labels[text], weight, &mut slope);
                        gradient.copy_from_slice(&slope[in_front..]);
                        weight * loss
                    })
                    .sum::<f64>()
            })
            .collect();
        (losses.iter().sum(), gradient)
    }
}
