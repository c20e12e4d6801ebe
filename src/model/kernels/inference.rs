//! The LSTM of a network that answers: no trace is kept, and the states are pooled as they come.
//!
//! What a token adds to the gates, `b + W_ih x`, is the same in every text, so it is computed apart ([`Lstm::gates`]) and
//! may be kept for the next text that holds the token. That leaves the product with the state before ([`Lstm::pool`]),
//! half of the work at E = H.
//!
//! All of this runs on the caller's thread, whatever the other threads do.

use super::{
    cell::{CellPool, UNITS},
    lanes::dispatch,
    lstm::Lstm,
    panels::{PANEL, Panels},
    product::{add_rows_product, product_here},
    recurrence::{ForwardWeights, GATE_PANELS, panel_and_half},
};
use crate::text::Packing;

/// Where the pooled states of a batch go: rows of `columns` numbers, one a text, that begin with the mean of the states
/// and, where `with_max`, go on with their maximum.
#[derive(Debug)]
pub struct PooledStates<'a> {
    /// The rows, in the order of the batch as given.
    pub rows: &'a mut [f32],
    /// Numbers of a row.
    pub columns: usize,
    /// Whether the maximum stands beside the mean.
    pub with_max: bool,
}

impl Lstm {
    /// D*4U: gates of a token, where units are padded to U.
    pub fn gate_columns(&self) -> usize {
        self.weights.iter().map(|weights| weights.bias.len()).sum()
    }

    /// What tokens `[m, E]` add to the gates, `b + W_ih x`: `[m, D*4U]`, direction after direction. A token's are the same
    /// to the bit alone and among others.
    pub fn gates(&self, tokens: &[f32]) -> Vec<f32> {
        let rows = tokens.len() / self.embedding;
        let tokens =
            Panels::of_rows(rows, self.embedding, |row| &tokens[row * self.embedding..][..self.embedding]);
        let columns = self.gate_columns();
        let mut gates = vec![0.0; rows * columns];
        let mut first = 0;
        for weights in self.weights.iter() {
            let width = weights.bias.len();
            let mut here = vec![0.0; rows * width];
            product_here(&tokens, &weights.input, Some(&weights.bias), &mut here);
            for (row, here) in gates.chunks_exact_mut(columns).zip(here.chunks_exact(width)) {
                row[first..first + width].copy_from_slice(here);
            }
            first += width;
        }
        gates
    }

    /// Takes a batch through all steps and pools the states. `gates` gives what a packed token adds to the gates, a row
    /// of [`Lstm::gates`].
    ///
    /// # Panics
    /// If a row of gates is too short, or the rows of pooled states are.
    pub fn pool<'a>(
        &self,
        packing: &Packing,
        gates: impl Fn(usize) -> &'a [f32],
        pooled: &mut PooledStates<'_>,
    ) {
        let mut first = 0;
        for (direction, weights) in self.weights.iter().enumerate() {
            let mut reading = Reading::new(packing.texts(), weights);
            let columns = first..first + weights.bias.len();
            first = columns.end;
            let mut before = 0;
            for read in 0..packing.steps() {
                let reversed = self.directions.reversed()[direction];
                let step = if reversed { packing.steps() - 1 - read } else { read };
                let here = packing.running(step);
                let start = packing.starts[step];
                reading.step(weights, before.min(here), here, |rank| &gates(start + rank)[columns.clone()]);
                before = here;
            }
            let states = direction * self.hidden..(direction + 1) * self.hidden;
            for (rank, (&text, &length)) in packing.order.iter().zip(&packing.lengths).enumerate() {
                let row = &mut pooled.rows[text * pooled.columns..][..pooled.columns];
                let (mean, share) = (&mut row[states.clone()], 1.0 / length as f32);
                reading.sums.copy_row(rank, mean);
                mean.iter_mut().for_each(|mean| *mean *= share);
                if pooled.with_max {
                    reading.maxima.copy_row(rank, &mut row[self.states()..][states.clone()]);
                }
            }
        }
    }
}

/// The texts of a batch on their way through the steps of a direction, by rank.
struct Reading {
    /// `[B, 4U]`
    gates: Panels,
    /// `[B, U]` of the step read before.
    states_before: Panels,
    /// `[B, U]`
    states: Panels,
    /// `[B, U]`
    cells: Panels,
    /// Sum of the states, `[B, U]`.
    sums: Panels,
    /// Maximum of the states, `[B, U]`.
    maxima: Panels,
}

impl Reading {
    fn new(texts: usize, weights: &ForwardWeights) -> Self {
        let units = weights.recurrent.rows();
        let [states_before, states, cells, sums, mut maxima] = [0; 5].map(|_| Panels::zeros(texts, units));
        maxima.numbers_mut().fill(f32::NEG_INFINITY);
        Self { gates: Panels::stale(texts, 4 * units), states_before, states, cells, sums, maxima }
    }

    /// Reads the tokens of the first `here` texts, of which the first `before` have read some already.
    fn step<'a>(
        &mut self,
        weights: &ForwardWeights,
        before: usize,
        here: usize,
        gates: impl Fn(usize) -> &'a [f32],
    ) {
        let (all, stride) = (self.gates.count(), self.gates.rows() * PANEL);
        for first in (0..all).step_by(GATE_PANELS) {
            let panels = first..all.min(first + GATE_PANELS);
            for rank in 0..here {
                let row = &gates(rank)[panels.start * PANEL..panels.end * PANEL];
                for (panel, from) in panels.clone().zip(row.chunks_exact(PANEL)) {
                    self.gates.part_mut(panel, rank..rank + 1).copy_from_slice(from);
                }
            }
            let sums = &mut self.gates.numbers_mut()[first * stride..];
            add_rows_product(
                &self.states_before,
                0..before,
                &weights.recurrent,
                panels.clone(),
                sums,
                stride,
            );
            for block in panels.step_by(2).map(|panel| panel / 2) {
                self.cells(block, here);
            }
        }
        std::mem::swap(&mut self.states_before, &mut self.states);
    }

    /// Finishes a block of units for the first `here` texts.
    fn cells(&mut self, block: usize, here: usize) {
        debug_assert_eq!(PANEL, 2 * UNITS, "the four gates of a block fill two panels");
        let (panel, units) = panel_and_half(block);
        dispatch(CellPool {
            units,
            gates_if: self.gates.part(2 * block, 0..here),
            gates_go: self.gates.part(2 * block + 1, 0..here),
            cells: self.cells.part_mut(panel, 0..here),
            states: self.states.part_mut(panel, 0..here),
            sums: self.sums.part_mut(panel, 0..here),
            maxima: self.maxima.part_mut(panel, 0..here),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Directions, LstmWeights, Pool},
        *,
    };
    use crate::model::Pooling;

    fn wave(phase: f32, len: usize) -> Vec<f32> {
        (0..len).map(|i| (i as f32 * 0.7 + phase).sin() * 0.4).collect()
    }

    #[test]
    fn what_answers_agrees_with_what_learns() {
        let (embedding, hidden) = (21, 37);
        let packing = Packing::new(&[3, 7, 1, 7, 5]);
        for directions in [Directions::Forward, Directions::Backward, Directions::Both] {
            let gates = directions.count() * 4 * hidden;
            let (input, recurrent) = (wave(0.0, gates * embedding), wave(1.0, gates * hidden));
            let weights = LstmWeights { input: &*input, recurrent: &*recurrent, bias: &*wave(2.0, gates) };
            let lstm = Lstm::new(weights, directions, embedding);
            let tokens = wave(3.0, packing.tokens() * embedding);

            let (states, _) = lstm.forward(&tokens, &packing);
            let pooling = Pooling::MeanMaxInput;
            let pool = Pool { packing: &packing, pooling, states: lstm.states(), embedding };
            let expected = pool.forward(&states, &tokens);

            let columns = 2 * lstm.states() + embedding;
            let mut rows = vec![0.0; packing.texts() * columns];
            let gates = lstm.gates(&tokens);
            let gates_of = |row: usize| &gates[row * lstm.gate_columns()..][..lstm.gate_columns()];
            lstm.pool(&packing, gates_of, &mut PooledStates { rows: &mut rows, columns, with_max: true });
            for (row, expected) in rows.chunks(columns).zip(expected.chunks(columns)) {
                for (at, (x, y)) in row.iter().zip(expected).take(2 * lstm.states()).enumerate() {
                    assert!((x - y).abs() < 1e-6, "{directions:?} [{at}]: {x}, expected {y}");
                }
            }
        }
    }
}
