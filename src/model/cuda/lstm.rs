//! The steps of an LSTM on the device.
//!
//! Up to [`MOST_RESIDENT`] units a direction is one launch: a block takes a text through all steps with the weights on the
//! chip. Above that each step is a product of all texts that run, and a launch for the cells.

use cudarc::driver::{CudaView, CudaViewMut};

use super::{
    batch::DeviceBatch,
    device::{Buffer, Cuda, DeviceError, RESIDENT_BYTES},
    launch::{Operand, THREADS, launch},
};
use crate::{model::kernels::Directions, text::Packing};

/// Units whose weights fit the chip.
const MOST_RESIDENT: usize = 128;
/// Threads of a block of the resident kernels: one for each of four gates of that many units.
const RESIDENT_THREADS: u32 = 4 * MOST_RESIDENT as u32;

/// The sizes and directions of an LSTM.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recurrence {
    pub(super) hidden: usize,
    pub(super) directions: Directions,
}

/// What the way through the steps leaves, each row a token: gates `[N, D 4H]`, the others `[N, D H]`.
#[derive(Debug, Default)]
pub(super) struct States {
    pub(super) gates: Buffer<f32>,
    pub(super) cells: Buffer<f32>,
    pub(super) states: Buffer<f32>,
    pub(super) before: Buffer<f32>,
    /// What flows back, by rank, `[B, H]`.
    dstate: Buffer<f32>,
    dcell: Buffer<f32>,
}

/// The rows of a step and those of the step read before it.
struct Step {
    row: usize,
    rows: usize,
    row_before: usize,
    /// Ranks that come with a state.
    came: usize,
}

impl Recurrence {
    /// D.
    pub(super) fn count(&self) -> usize {
        self.directions.count()
    }

    fn is_resident(&self, cuda: &Cuda) -> bool {
        cuda.resident && self.hidden <= MOST_RESIDENT
    }

    /// Which directions are read backwards, a bit each.
    fn reversed_bits(&self) -> u32 {
        let reversed = self.directions.reversed();
        (0..self.count()).map(|direction| u32::from(reversed[direction]) << direction).sum()
    }

    /// Makes room for a batch.
    pub(super) fn reserve(&self, cuda: &Cuda, to: &mut States, tokens: usize) -> Result<(), DeviceError> {
        let width = self.count() * self.hidden;
        to.gates.reserve(cuda, tokens * 4 * width)?;
        for buffer in [&mut to.cells, &mut to.states, &mut to.before] {
            buffer.reserve(cuda, tokens * width)?;
        }
        Ok(())
    }

    /// From `to.gates`, which holds the products of tokens and weights, everything of [`States`].
    pub(super) fn forward(
        &self,
        cuda: &Cuda,
        recurrent: &CudaView<'_, f32>,
        bias: &CudaView<'_, f32>,
        batch: &DeviceBatch,
        to: &mut States,
    ) -> Result<(), DeviceError> {
        let (tokens, width) = (batch.packing().tokens(), self.count() * self.hidden);
        let mut gates = to.gates.view_mut(tokens * 4 * width);
        let mut cells = to.cells.view_mut(tokens * width);
        let mut states = to.states.view_mut(tokens * width);
        let mut before = to.before.view_mut(tokens * width);
        let hidden = self.hidden as u32;
        if self.is_resident(cuda) {
            let grid = (batch.packing().texts() as u32, self.count() as u32, 1);
            return launch!(cuda.lstm_forward, grid, (RESIDENT_THREADS, 1, 1), RESIDENT_BYTES;
                recurrent, bias, &batch.starts(), &batch.lengths(), &hidden, &self.reversed_bits(),
                &mut gates, &mut cells, &mut states, &mut before);
        }
        for direction in 0..self.count() {
            let weights = self.weights(recurrent, direction);
            for Step { row, rows, row_before, came } in self.steps(batch.packing(), direction) {
                let sizes = [came, self.hidden, 4 * self.hidden];
                if came > 0 {
                    let from = states.as_view();
                    let from = from.slice(row_before * width + direction * self.hidden..);
                    let mut sums = gates.slice_mut((row * 4 * width + direction * 4 * self.hidden)..);
                    let (from, weights) =
                        (Operand::rows(&from, width), Operand::columns(&weights, self.hidden));
                    cuda.product(sizes, from, weights, &mut sums, 4 * width, true)?;
                }
                launch!(cuda.cell_forward, self.cells(rows), (THREADS, 1, 1), 0;
                    bias, &hidden, &(self.count() as u32), &(direction as u32), &(row as u32), &(rows as u32),
                    &(row_before as u32), &(came as u32), &mut gates, &mut cells, &mut states, &mut before)?;
            }
        }
        Ok(())
    }

    /// From the gradient of the states, `[N, D H]`, that of the gates before their functions, `[N, D 4H]`.
    pub(super) fn backward(
        &self,
        cuda: &Cuda,
        recurrent: &CudaView<'_, f32>,
        batch: &DeviceBatch,
        from: &mut States,
        dstates: &CudaView<'_, f32>,
        dgates: &mut CudaViewMut<'_, f32>,
    ) -> Result<(), DeviceError> {
        let (tokens, texts) = (batch.packing().tokens(), batch.packing().texts());
        let width = self.count() * self.hidden;
        let hidden = self.hidden as u32;
        let States { gates, cells, dstate, dcell, .. } = from;
        let (gates, cells) = (gates.view(tokens * 4 * width), cells.view(tokens * width));
        if self.is_resident(cuda) {
            let grid = (texts as u32, self.count() as u32, 1);
            return launch!(cuda.lstm_backward, grid, (RESIDENT_THREADS, 1, 1), RESIDENT_BYTES;
                recurrent, &batch.starts(), &batch.lengths(), &hidden, &self.reversed_bits(),
                &gates, &cells, dstates, dgates);
        }
        for direction in 0..self.count() {
            let weights = self.weights(recurrent, direction);
            let mut dstate = dstate.reserve(cuda, texts * self.hidden)?;
            let mut dcell = dcell.reserve(cuda, texts * self.hidden)?;
            cuda.stream.memset_zeros(&mut dstate)?;
            cuda.stream.memset_zeros(&mut dcell)?;
            for Step { row, rows, row_before, came } in self.steps(batch.packing(), direction).rev() {
                launch!(cuda.cell_backward, self.cells(rows), (THREADS, 1, 1), 0;
                    &hidden, &(self.count() as u32), &(direction as u32), &(row as u32), &(rows as u32),
                    &(row_before as u32), &(came as u32), &gates, &cells, dstates, &dstate.as_view(), &mut dcell,
                    &mut *dgates)?;
                if came > 0 {
                    let sums = dgates.as_view();
                    let sums = sums.slice(row * 4 * width + direction * 4 * self.hidden..);
                    let (sums, weights) =
                        (Operand::rows(&sums, 4 * width), Operand::rows(&weights, self.hidden));
                    let sizes = [came, 4 * self.hidden, self.hidden];
                    cuda.product(sizes, sums, weights, &mut dstate, self.hidden, false)?;
                }
            }
        }
        Ok(())
    }

    /// The blocks for the cells of so many rows.
    fn cells(&self, rows: usize) -> (u32, u32, u32) {
        (((rows * self.hidden) as u32).div_ceil(THREADS), 1, 1)
    }

    fn weights<'a>(&self, recurrent: &CudaView<'a, f32>, direction: usize) -> CudaView<'a, f32> {
        let size = 4 * self.hidden * self.hidden;
        recurrent.slice(direction * size..(direction + 1) * size)
    }

    /// The steps in the order in which a direction reads them.
    fn steps(&self, packing: &Packing, direction: usize) -> impl DoubleEndedIterator<Item = Step> {
        let (steps, reversed) = (packing.steps(), self.directions.reversed()[direction]);
        (0..steps).map(move |read| {
            let step = if reversed { steps - 1 - read } else { read };
            let before = if reversed { step + 1 } else { step.wrapping_sub(1) };
            let (row, rows) = (packing.starts[step], packing.running(step));
            if before < steps {
                Step {
                    row,
                    rows,
                    row_before: packing.starts[before],
                    came: rows.min(packing.running(before)),
                }
            } else {
                Step { row, rows, row_before: 0, came: 0 }
            }
        })
    }
}
