//! One direction of an LSTM over some texts of a batch: all steps, forwards and backwards.
//!
//! A batch is cut into shards of neighbouring ranks. A shard of a direction needs nothing of the others on its way through
//! the steps, so that each runs on one thread without waiting. How a batch is cut depends on the batch alone: results do
//! not depend on the threads.
//!
//! Gates stand in panels in the order of [`column`], units padded with zeros to a multiple of 16 (U below): a unit of
//! padding has zero weights, its state stays zero, and so does its gradient.

use std::ops::Range;

use super::{
    buffer::Buffer,
    cell::{CellBackward, CellForward, UNITS},
    lanes::{Kernel, Lanes, dispatch},
    panels::{PANEL, Panels},
    product::{BLOCK_ROWS, Start, add_rows_product},
};
use crate::text::Packing;

/// Most texts of a shard: enough rows a step to make use of each weight, and a batch of 64 keeps four threads busy in
/// two directions.
const SHARD_TEXTS: usize = 32;

/// Panels of gates that are finished together, while they are in the nearest cache.
pub(super) const GATE_PANELS: usize = 8;

/// Texts of neighbouring ranks, their rows laid out as in the whole batch: step after step.
#[derive(Debug)]
pub(super) struct Shard {
    /// First row of each step, then n; `[T + 1]`.
    starts: Vec<usize>,
    /// Row in the batch of each row, `[n]`.
    pub(super) rows: Vec<usize>,
}

impl Shard {
    /// Cuts a batch.
    pub(super) fn of(packing: &Packing) -> Vec<Self> {
        let texts = packing.texts();
        let count = texts.div_ceil(SHARD_TEXTS);
        (0..count)
            .map(|index| {
                let ranks = index * texts / count..(index + 1) * texts / count;
                let (mut starts, mut rows) = (vec![0], Vec::new());
                for step in 0..packing.steps() {
                    let running = ranks.start..ranks.end.min(packing.running(step));
                    if running.is_empty() {
                        break;
                    }
                    rows.extend(running.map(|rank| packing.starts[step] + rank));
                    starts.push(rows.len());
                }
                Self { starts, rows }
            })
            .collect()
    }

    /// The rows of each step in the order they are read, and as many rows of the step read before it, which hold the
    /// state its first texts come with.
    fn steps(&self, reversed: bool) -> Vec<(Range<usize>, Range<usize>)> {
        let steps = self.starts.len() - 1;
        let rows = |step: usize| self.starts[step]..self.starts[step + 1];
        (0..steps)
            .map(|read| if reversed { steps - 1 - read } else { read })
            .map(|step| {
                let here = rows(step);
                let before = if reversed { step + 1 } else { step.wrapping_sub(1) };
                let before = if before < steps { rows(before) } else { 0..0 };
                (here.clone(), before.start..before.start + before.len().min(here.len()))
            })
            .collect()
    }

    fn texts(&self) -> usize {
        self.starts.get(1).copied().unwrap_or(0)
    }
}

/// The column, among the gates in panels, of a gate (i, f, g, o) of a unit.
pub(super) fn column(gate: usize, unit: usize) -> usize {
    unit / UNITS * 4 * UNITS + gate * UNITS + unit % UNITS
}

/// The gate and unit of a column.
fn gate_and_unit(column: usize) -> (usize, usize) {
    let (block, lane) = (column / (4 * UNITS), column % (4 * UNITS));
    (lane / UNITS, block * UNITS + lane % UNITS)
}

/// The rows of one direction's weights, `[4H, width]`, by their column among the gates in panels; none for padding.
#[derive(Debug, Clone, Copy)]
pub(super) struct GateRows<'a> {
    pub(super) weight: &'a [f32],
    pub(super) hidden: usize,
    pub(super) width: usize,
}

impl<'a> GateRows<'a> {
    fn row(&self, column: usize) -> &'a [f32] {
        let (gate, unit) = gate_and_unit(column);
        if unit < self.hidden {
            &self.weight[(gate * self.hidden + unit) * self.width..][..self.width]
        } else {
            &[]
        }
    }

    /// 4U.
    fn columns(&self) -> usize {
        4 * self.hidden.next_multiple_of(UNITS)
    }

    /// For products with what comes in: `[depth, 4U]`, where depth is the width and maybe padding.
    fn forward(&self, depth: usize) -> Panels {
        Panels::of_columns(depth, self.columns(), |column| self.row(column))
    }

    /// For products with gradients of gates: `[4U, depth]`.
    fn backward(&self, depth: usize) -> Panels {
        Panels::of_rows(self.columns(), depth, |column| self.row(column))
    }
}

/// The weights of a direction, ready for its way forwards.
#[derive(Debug)]
pub(super) struct ForwardWeights {
    /// `[E, 4U]`
    pub(super) input: Panels,
    /// `[U, 4U]`
    pub(super) recurrent: Panels,
    /// `[4U]`
    pub(super) bias: Vec<f32>,
}

impl ForwardWeights {
    pub(super) fn new([input, recurrent, bias]: [GateRows<'_>; 3]) -> Self {
        Self {
            input: input.forward(input.width),
            recurrent: recurrent.forward(recurrent.hidden.next_multiple_of(UNITS)),
            bias: (0..bias.columns()).map(|at| bias.row(at).first().copied().unwrap_or(0.0)).collect(),
        }
    }
}

/// The weights of a direction, ready for its way backwards.
#[derive(Debug)]
pub(super) struct BackwardWeights {
    /// `[4U, E]`
    input: Panels,
    /// `[4U, U]`
    recurrent: Panels,
}

impl BackwardWeights {
    pub(super) fn new([input, recurrent, _]: [GateRows<'_>; 3]) -> Self {
        Self {
            input: input.backward(input.width),
            recurrent: recurrent.backward(recurrent.hidden.next_multiple_of(UNITS)),
        }
    }
}

/// The activations of a shard in one direction.
#[derive(Debug)]
pub(super) struct Trace {
    /// After their functions, `[n, 4U]`.
    gates: Panels,
    /// `[n, U]`
    cells_before: Panels,
    /// tanh of the cells, `[n, U]`.
    cell_tanh: Panels,
    /// h, `[n, U]`.
    pub(super) states: Panels,
}

/// The gradients of a shard in one direction.
#[derive(Debug)]
pub(super) struct Gradients {
    /// Of the gates before their functions, `[n, 4U]`.
    pub(super) gates: Panels,
    /// The states that the rows came with, `[n, U]`.
    pub(super) states_before: Panels,
    /// Of the tokens, `[n, E]`.
    pub(super) tokens: Panels,
}

/// Takes the tokens `[n, E]` of a shard through all steps.
pub(super) fn forward(shard: &Shard, reversed: bool, weights: &ForwardWeights, tokens: &Panels) -> Trace {
    let (n, units) = (shard.rows.len(), weights.recurrent.rows());
    let mut trace = Trace {
        gates: Panels::stale(n, 4 * units),
        cells_before: Panels::stale(n, units),
        cell_tanh: Panels::stale(n, units),
        // The last panel may be half units, half nothing, and is read whole.
        states: if units % PANEL == 0 { Panels::stale(n, units) } else { Panels::zeros(n, units) },
    };
    let stride = n * PANEL;
    let all = 0..trace.gates.count();
    for first in (0..n).step_by(BLOCK_ROWS) {
        let rows = first..n.min(first + BLOCK_ROWS);
        let (bias, sums) = (Start::Row(&weights.bias), &mut trace.gates.numbers_mut()[first * PANEL..]);
        add_rows_product(tokens, rows, &weights.input, all.clone(), bias, sums, stride);
    }
    let mut cells = Panels::zeros(shard.texts(), units);
    for (here, before) in shard.steps(reversed) {
        for first in all.clone().step_by(GATE_PANELS) {
            let panels = first..all.end.min(first + GATE_PANELS);
            let sums = &mut trace.gates.numbers_mut()[first * stride + here.start * PANEL..];
            let (states, recurrent) = (&trace.states, &weights.recurrent);
            add_rows_product(states, before.clone(), recurrent, panels.clone(), Start::Sums, sums, stride);
            for block in panels.step_by(2).map(|panel| panel / 2) {
                trace.cells(block, here.clone(), &mut cells);
            }
        }
    }
    trace
}

impl Trace {
    /// Finishes a block of units for the rows of a step.
    fn cells(&mut self, block: usize, here: Range<usize>, cells: &mut Panels) {
        let (panel, units) = panel_and_half(block);
        let (gates_if, gates_go) = pair_mut(&mut self.gates, block, here.clone());
        dispatch(CellForward {
            units,
            gates_if,
            gates_go,
            cells: cells.part_mut(panel, 0..here.len()),
            cells_before: self.cells_before.part_mut(panel, here.clone()),
            cell_tanh: self.cell_tanh.part_mut(panel, here.clone()),
            states: self.states.part_mut(panel, here),
        });
    }
}

/// Takes the gradients of the states, `[n, U]`, back through all steps.
pub(super) fn backward(
    shard: &Shard,
    reversed: bool,
    weights: &BackwardWeights,
    trace: &Trace,
    dstates: &Panels,
) -> Gradients {
    let (n, units) = (shard.rows.len(), weights.recurrent.columns());
    let mut gates = Panels::stale(n, 4 * units);
    let mut states_before = Panels::stale(n, units);
    // What flows back from the step read after, by rank.
    let mut dstate = Panels::zeros(shard.texts(), units);
    let mut dcell = Panels::zeros(shard.texts(), units);
    let all = 0..dstate.count();
    for (here, before) in shard.steps(reversed).into_iter().rev() {
        for block in 0..units / UNITS {
            let (panel, half) = panel_and_half(block);
            let (dgates_if, dgates_go) = pair_mut(&mut gates, block, here.clone());
            dispatch(CellBackward {
                units: half,
                gates_if: trace.gates.part(2 * block, here.clone()),
                gates_go: trace.gates.part(2 * block + 1, here.clone()),
                cells_before: trace.cells_before.part(panel, here.clone()),
                cell_tanh: trace.cell_tanh.part(panel, here.clone()),
                dstates: dstates.part(panel, here.clone()),
                dstate: dstate.part(panel, 0..here.len()),
                dcell: dcell.part_mut(panel, 0..here.len()),
                dgates_if,
                dgates_go,
            });
        }
        for panel in all.clone() {
            let (came, began) =
                states_before.part_mut(panel, here.clone()).split_at_mut(before.len() * PANEL);
            came.copy_from_slice(trace.states.part(panel, before.clone()));
            began.fill(0.0);
        }
        let (rows, stride) = (here.start..here.start + before.len(), dstate.rows() * PANEL);
        let (recurrent, sums) = (&weights.recurrent, dstate.numbers_mut());
        add_rows_product(&gates, rows, recurrent, all.clone(), Start::NOTHING, sums, stride);
    }
    let mut tokens = Panels::stale(n, weights.input.columns());
    for first in (0..n).step_by(BLOCK_ROWS) {
        let rows = first..n.min(first + BLOCK_ROWS);
        let (all, stride) = (0..tokens.count(), n * PANEL);
        let sums = &mut tokens.numbers_mut()[first * PANEL..];
        add_rows_product(&gates, rows, &weights.input, all, Start::NOTHING, sums, stride);
    }
    Gradients { gates, states_before, tokens }
}

/// Sums over the rows of each gradient of a gate, `[4U]`, shard after shard.
pub(super) fn gate_sums<'a>(gates: impl Iterator<Item = &'a Panels>, columns: usize) -> Buffer {
    let mut sums = Buffer::zeros(columns);
    gates.for_each(|gates| dispatch(AddRows { of: gates, sums: &mut sums }));
    sums
}

struct AddRows<'a> {
    of: &'a Panels,
    sums: &'a mut [f32],
}

impl Kernel for AddRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        for (panel, sums) in self.sums.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
            for row in self.of.part(panel, 0..self.of.rows()).as_chunks::<PANEL>().0 {
                for at in (0..PANEL).step_by(L::WIDTH) {
                    let sum = &mut sums[at..at + L::WIDTH];
                    L::load(sum).add(L::load(&row[at..at + L::WIDTH])).store(sum);
                }
            }
        }
    }
}

/// The two panels of gates of a block of units, for some rows.
fn pair_mut(gates: &mut Panels, block: usize, rows: Range<usize>) -> (&mut [f32], &mut [f32]) {
    let stride = gates.rows() * PANEL;
    let (gates_if, gates_go) = gates.numbers_mut()[2 * block * stride..][..2 * stride].split_at_mut(stride);
    let rows = rows.start * PANEL..rows.end * PANEL;
    (&mut gates_if[rows.clone()], &mut gates_go[rows])
}

/// The panel in which a block of units has one number each, and which half of it.
pub(super) fn panel_and_half(block: usize) -> (usize, Range<usize>) {
    let first = block * UNITS % PANEL;
    (block * UNITS / PANEL, first..first + UNITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_gates_name_each_other() {
        for column_at in 0..640 {
            let (gate, unit) = gate_and_unit(column_at);
            assert!(gate < 4 && unit < 160);
            assert_eq!(column(gate, unit), column_at);
        }
    }

    #[test]
    fn shards_share_all_rows_and_keep_the_order_of_the_steps() {
        let lengths: Vec<usize> = (0..70).map(|i| i * 7 % 11 + 1).collect();
        let packing = Packing::new(&lengths);
        let shards = Shard::of(&packing);
        assert_eq!(shards.len(), 3);
        let mut all: Vec<usize> = shards.iter().flat_map(|shard| shard.rows.clone()).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..packing.tokens()));
        for shard in &shards {
            assert!(shard.texts() <= SHARD_TEXTS && shard.rows.is_sorted());
            for (here, before) in shard.steps(true) {
                assert!(before.len() <= here.len());
            }
        }
    }
}
