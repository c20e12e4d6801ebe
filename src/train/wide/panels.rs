//! The weights on the processor: the columns are dealt into panels, each with its weights as one table, so that threads
//! never share a row; what a panel computes does not depend on who computes it.

use rayon::prelude::*;

use super::Batch;
use crate::model::{
    Array,
    kernels::{ClassTargets, add_rows, step_rows},
};

/// Columns of a panel: the weights of a term then fill one line of the cache.
const PANEL: usize = 16;

/// The weights in panels, learning.
pub(super) struct Panels {
    /// With a leaf in front that stands for all that do not learn, where some do not.
    targets: ClassTargets,
    /// C: leaves of the branch, learning or not.
    leaves: usize,
    panels: Vec<Panel>,
    bias: Vec<f32>,
    /// h, one a row.
    squares: Vec<f32>,
    /// The last step, which the panels have not made yet.
    last: Step,
}

/// Some columns of the weights.
struct Panel {
    /// `[U, PANEL]`, zeros in columns beyond the last leaf.
    weights: Vec<f32>,
    /// Logits of the batch without the bias, `[B, PANEL]`.
    logits: Vec<f32>,
}

/// What follows from a batch.
#[derive(Default)]
struct Step {
    /// What each term's row is to move along the gradient.
    moves: Vec<(u32, f32)>,
    /// Where each text's moves begin, and the end; `[B + 1]`.
    offsets: Vec<usize>,
    /// Gradients by text, `[B, panels * PANEL]`.
    gradients: Vec<f32>,
}

impl Panels {
    /// Weights `[U, c]` and bias `[c]` of c leaves that learn, of a branch of C. The targets have one leaf more where the
    /// batches say what the other leaves say.
    pub(super) fn new(weight: &Array, bias: &Array, branch_leaves: usize, targets: ClassTargets) -> Self {
        let (terms, leaves) = (weight.shape[0], weight.shape[1]);
        let panels = (0..leaves).step_by(PANEL).map(|first| {
            let columns = first..leaves.min(first + PANEL);
            let mut weights = vec![0.0; terms * PANEL];
            for (term, row) in weights.chunks_exact_mut(PANEL).enumerate() {
                row[..columns.len()].copy_from_slice(&weight.row(term)[columns.clone()]);
            }
            Panel { weights, logits: Vec::new() }
        });
        Self {
            targets,
            leaves: branch_leaves,
            panels: panels.collect(),
            bias: bias.data.to_vec(),
            squares: vec![0.0; terms],
            last: Step::default(),
        }
    }

    /// One step on a batch; the sum of its losses.
    pub(super) fn step(&mut self, batch: Batch, rate: f32, bias_rate: f32) -> f64 {
        let last = &self.last;
        self.panels.par_iter_mut().enumerate().for_each(|(index, panel)| {
            panel.update(index, last);
            panel.read(&batch);
        });
        let (loss, step) = self.differentiate(batch, rate, bias_rate);
        self.last = step;
        loss
    }

    /// The gradient of each text and the moves of its rows; moves the bias.
    fn differentiate(&mut self, batch: Batch, rate: f32, bias_rate: f32) -> (f64, Step) {
        let Batch { terms, offsets, labels, others, weights } = batch;
        let (leaves, width) = (self.bias.len(), self.panels.len() * PANEL);
        let in_front = self.targets.class_of_leaf.len() - leaves;
        let mut gradients = vec![0.0; labels.len() * width];
        let mut moves = Vec::with_capacity(terms.len());
        let (mut row, mut slope) = (vec![0.0; in_front + width], vec![0.0; in_front + leaves]);
        let mut loss = 0.0;
        for (text, &label) in labels.iter().enumerate() {
            if let Some(others) = others.get(text) {
                row[0] = *others;
            }
            let logits = &mut row[in_front..];
            for (panel, logits) in self.panels.iter().zip(logits.chunks_exact_mut(PANEL)) {
                logits.copy_from_slice(&panel.logits[text * PANEL..][..PANEL]);
            }
            logits.iter_mut().zip(&self.bias).for_each(|(z, b)| *z += b);
            let weight = weights.get(text).map_or(1.0, |weight| f64::from(*weight));
            loss += weight * self.targets.text_loss(&row[..in_front + leaves], label, weight, &mut slope);
            let square = slope.iter().map(|g| g * g).sum::<f32>() / self.leaves as f32;
            let gradient = &mut gradients[text * width..][..leaves];
            gradient.copy_from_slice(&slope[in_front..]);
            for &(row, x) in &terms[offsets[text]..offsets[text + 1]] {
                let sum = &mut self.squares[row as usize];
                *sum += x * x * square;
                moves.push((row, if *sum > 0.0 { rate * x / sum.sqrt() } else { 0.0 }));
            }
            self.bias.iter_mut().zip(&*gradient).for_each(|(b, g)| *b -= bias_rate * g);
        }
        (loss, Step { moves, offsets, gradients })
    }

    /// The weights `[U, c]` and the bias `[c]`.
    pub(super) fn finish(mut self) -> (Vec<f32>, Vec<f32>) {
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
        (weights, self.bias)
    }
}

impl Panel {
    fn update(&mut self, index: usize, step: &Step) {
        let texts = step.offsets.len().saturating_sub(1);
        if texts == 0 {
            return;
        }
        let width = step.gradients.len() / texts;
        for (text, gradient) in step.gradients.chunks_exact(width).enumerate() {
            let moves = &step.moves[step.offsets[text]..step.offsets[text + 1]];
            step_rows(moves, &gradient[index * PANEL..][..PANEL], &mut self.weights);
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
