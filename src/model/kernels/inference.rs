//! The LSTM of a network that answers: no trace is kept, and the states are pooled as they come.
//!
//! What a token adds to the gates, `b + W_ih x`, is the same in every text, so it is computed apart ([`LstmReader::gates`]) and
//! may be kept for the next text that holds the token. That leaves the product with the state before
//! ([`LstmReader::pool`]), half of the work at E = H.
//!
//! All of this runs on the caller's thread, whatever the other threads do.

use std::sync::Arc;

use super::{
    cell::{CellPool, UNITS},
    lanes::dispatch,
    lstm::{Directions, LstmWeights},
    panels::{PANEL, Panels},
    product::{Start, add_rows_product, product_here},
    recurrence::{ForwardWeights, GATE_PANELS, panel_and_half},
    rounded::{RoundedPanels, RoundedStates, add_rounded_product},
};
use crate::text::Packing;

/// An LSTM that reads texts to answer.
#[derive(Debug, Clone)]
pub struct LstmReader {
    weights: Arc<Vec<ReadingWeights>>,
    directions: Directions,
    hidden: usize,
    embedding: usize,
}

/// How the weights of the states are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecurrentWeights {
    /// As they were learnt.
    Exact,
    /// Rounded to eight bits, with a scale for each gate of each unit.
    Rounded,
}

/// The weights of a direction.
#[derive(Debug)]
struct ReadingWeights {
    /// `[E, 4U]`
    input: Panels,
    /// `[U, 4U]`
    recurrent: Recurrent,
    /// `[4U]`
    bias: Vec<f32>,
}

#[derive(Debug)]
enum Recurrent {
    Exact(Panels),
    Rounded(RoundedPanels),
}

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
    /// Where the states themselves go, `[N, D*H]` by packed token, if anywhere.
    pub states: Option<&'a mut [f32]>,
}

impl LstmReader {
    /// From weights for tokens of E numbers.
    ///
    /// # Panics
    /// If the weights do not fit one another and the directions.
    pub fn new(
        weights: LstmWeights<&[f32]>,
        directions: Directions,
        embedding: usize,
        recurrent: RecurrentWeights,
    ) -> Self {
        let ready = weights
            .packed(directions, embedding, |rows| ReadingWeights::new(ForwardWeights::new(rows), recurrent));
        Self { weights: Arc::new(ready), directions, hidden: weights.hidden(directions), embedding }
    }

    /// D*H.
    pub fn states(&self) -> usize {
        self.directions.count() * self.hidden
    }

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
            product_here(&tokens, &weights.input, &weights.bias, &mut here);
            for (row, here) in gates.chunks_exact_mut(columns).zip(here.chunks_exact(width)) {
                row[first..first + width].copy_from_slice(here);
            }
            first += width;
        }
        gates
    }

    /// Takes a batch through all steps and pools the states. `gates` gives what a packed token adds to the gates, a row
    /// of [`LstmReader::gates`].
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
        let units = self.weights.first().map_or(0, |weights| weights.recurrent.units());
        let mut reading = Reading::new(packing.texts(), units);
        for (direction, weights) in self.weights.iter().enumerate() {
            reading.begin();
            let columns = first..first + weights.bias.len();
            first = columns.end;
            let mut before = 0;
            for read in 0..packing.steps() {
                let reversed = self.directions.reversed()[direction];
                let step = if reversed { packing.steps() - 1 - read } else { read };
                let here = packing.running(step);
                let start = packing.starts[step];
                reading.step(weights, before.min(here), here, |rank| &gates(start + rank)[columns.clone()]);
                if let Some(states) = &mut pooled.states {
                    let rows = states[start * self.states()..].chunks_exact_mut(self.states());
                    for (rank, row) in rows.take(here).enumerate() {
                        reading
                            .states_before
                            .copy_row(rank, &mut row[direction * self.hidden..][..self.hidden]);
                    }
                }
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

impl ReadingWeights {
    fn new(weights: ForwardWeights, kept: RecurrentWeights) -> Self {
        let ForwardWeights { input, recurrent, bias } = weights;
        let recurrent = match kept {
            RecurrentWeights::Exact => Recurrent::Exact(recurrent),
            RecurrentWeights::Rounded => Recurrent::Rounded(RoundedPanels::new(&recurrent)),
        };
        Self { input, recurrent, bias }
    }
}

impl Recurrent {
    /// U.
    fn units(&self) -> usize {
        match self {
            Self::Exact(weights) => weights.rows(),
            Self::Rounded(weights) => weights.rows(),
        }
    }
}

/// The texts of a batch on their way through the steps of a direction, by rank.
struct Reading {
    /// `[B, 4U]`
    gates: Panels,
    /// `[B, U]` of the step read before.
    states_before: Panels,
    /// The same, where the weights are rounded.
    rounded_before: RoundedStates,
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
    fn new(texts: usize, units: usize) -> Self {
        let [states_before, states, cells, sums, maxima] = [0; 5].map(|_| Panels::stale(texts, units));
        let (gates, rounded_before) = (Panels::stale(texts, 4 * units), RoundedStates::none());
        Self { gates, states_before, rounded_before, states, cells, sums, maxima }
    }

    /// Before the first step of a direction. A text has a state before only once it has read a token.
    fn begin(&mut self) {
        self.cells.numbers_mut().fill(0.0);
        self.sums.numbers_mut().fill(0.0);
        self.maxima.numbers_mut().fill(f32::NEG_INFINITY);
    }

    /// Reads the tokens of the first `here` texts, of which the first `before` have read some already.
    fn step<'a>(
        &mut self,
        weights: &ReadingWeights,
        before: usize,
        here: usize,
        gates: impl Fn(usize) -> &'a [f32],
    ) {
        if let Recurrent::Rounded(recurrent) = &weights.recurrent {
            recurrent.round(&self.states_before, before, &mut self.rounded_before);
        }
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
            match &weights.recurrent {
                Recurrent::Exact(recurrent) => {
                    let (states, texts) = (&self.states_before, 0..before);
                    add_rows_product(states, texts, recurrent, panels.clone(), Start::Sums, sums, stride);
                }
                Recurrent::Rounded(recurrent) => {
                    add_rounded_product(&self.rounded_before, recurrent, panels.clone(), sums, stride);
                }
            }
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
        super::{Lstm, Pool},
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
            let tolerance = |recurrent| match recurrent {
                RecurrentWeights::Exact => 1e-6,
                RecurrentWeights::Rounded => 5e-3,
            };

            let (states, _) = lstm.forward(&tokens, &packing);
            let pooling = Pooling::MeanMaxInput;
            let pool = Pool { packing: &packing, pooling, states: lstm.states(), embedding };
            let expected = pool.forward(&states, &tokens);

            let columns = 2 * lstm.states() + embedding;
            for kept in [RecurrentWeights::Exact, RecurrentWeights::Rounded] {
                let reader = LstmReader::new(weights, directions, embedding, kept);
                let mut rows = vec![0.0; packing.texts() * columns];
                let mut all = vec![0.0; packing.tokens() * lstm.states()];
                let gates = reader.gates(&tokens);
                let gates_of = |row: usize| &gates[row * reader.gate_columns()..][..reader.gate_columns()];
                reader.pool(
                    &packing,
                    gates_of,
                    &mut PooledStates { rows: &mut rows, columns, with_max: true, states: Some(&mut all) },
                );
                assert!(all.iter().zip(&*states).all(|(x, y)| (x - y).abs() < tolerance(kept)), "{kept:?}");
                for (row, expected) in rows.chunks(columns).zip(expected.chunks(columns)) {
                    for (at, (x, y)) in row.iter().zip(expected).take(2 * lstm.states()).enumerate() {
                        let near = (x - y).abs() < tolerance(kept);
                        assert!(near, "{directions:?}, {kept:?} [{at}]: {x}, expected {y}");
                    }
                }
            }
        }
    }
}
