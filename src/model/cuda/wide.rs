//! The wide branch, learning on the device.

use std::sync::Arc;

use cudarc::driver::CudaSlice;

use super::{
    batch::runs,
    device::{Buffer, Cuda, DeviceError, Upload},
    launch::{THREADS, launch},
    targets::DeviceTargets,
};
use crate::model::kernels::ClassTargets;

/// The terms that are seen of some texts, ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct WideBatch {
    /// Terms by text: rows and weights.
    terms: Vec<u32>,
    weights: Vec<f32>,
    /// Where each text's terms begin, and the end; `[B + 1]`.
    offsets: Vec<u32>,
    /// The class of each text, `[B]`.
    labels: Vec<u32>,
    /// The distinct rows, ascending, `[R]`; where the texts of each begin, and the end, `[R + 1]`.
    rows: Vec<u32>,
    holder_offsets: Vec<u32>,
    /// Texts that have a row, row after row, and their weights.
    holders: Vec<u32>,
    held: Vec<f32>,
}

impl WideBatch {
    /// From terms `(row, weight)` text after text, where each text's begin with the end, and the classes of the texts.
    pub fn new(terms: &[(u32, f32)], offsets: &[usize], labels: Vec<u32>) -> Self {
        let mut order: Vec<u64> = Vec::with_capacity(terms.len());
        order.extend((0u32..).zip(terms).map(|(at, (row, _))| u64::from(*row) << 32 | u64::from(at)));
        order.sort_unstable();
        let mut text_of = vec![0; terms.len()];
        for (text, span) in (0u32..).zip(offsets.windows(2)) {
            text_of[span[0]..span[1]].fill(text);
        }
        let (rows, holder_offsets) = runs(&order);
        // The lower halves are places among the terms.
        let places = || order.iter().map(|pair| *pair as u32 as usize);
        let holders = places().map(|at| text_of[at]).collect();
        let held = places().map(|at| terms[at].1).collect();
        Self {
            terms: terms.iter().map(|(row, _)| *row).collect(),
            weights: terms.iter().map(|(_, weight)| *weight).collect(),
            offsets: offsets.iter().map(|&at| at as u32).collect(),
            labels,
            rows,
            holder_offsets,
            holders,
            held,
        }
    }

    /// B.
    pub fn texts(&self) -> usize {
        self.labels.len()
    }
}

/// Weights of terms for leaves, learning on a device.
#[derive(Debug)]
pub struct WideLearner {
    cuda: Arc<Cuda>,
    targets: DeviceTargets,
    leaves: usize,
    /// `[U, C]`, `[C]` and `[U]`.
    weights: CudaSlice<f32>,
    bias: CudaSlice<f32>,
    squares: CudaSlice<f32>,
    integers: Upload<u32>,
    floats: Upload<f32>,
    logits: Buffer<f32>,
    gradients: Buffer<f32>,
    norms: Buffer<f32>,
    log_sums: Buffer<f64>,
    losses: Buffer<f64>,
    /// Losses since it was last asked.
    total: CudaSlice<f64>,
}

impl WideLearner {
    /// Puts weights `[U, C]` and a bias `[C]` on a device.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`] if they do not fit.
    pub fn new(
        cuda: Arc<Cuda>,
        weights: &[f32],
        bias: &[f32],
        targets: &ClassTargets,
    ) -> Result<Self, DeviceError> {
        let leaves = bias.len();
        let stream = &cuda.stream;
        Ok(Self {
            targets: DeviceTargets::new(&cuda, targets)?,
            leaves,
            weights: stream.clone_htod(weights)?,
            bias: stream.clone_htod(bias)?,
            squares: stream.alloc_zeros(weights.len() / leaves)?,
            integers: Upload::default(),
            floats: Upload::default(),
            logits: Buffer::default(),
            gradients: Buffer::default(),
            norms: Buffer::default(),
            log_sums: Buffer::default(),
            losses: Buffer::default(),
            total: stream.alloc_zeros(1)?,
            cuda,
        })
    }

    /// Tells the device to take a step; it runs beside what the caller does next.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`] if the batch does not fit; [`DeviceError::Failed`] if the device did.
    pub fn step(&mut self, batch: &WideBatch, rate: f32, bias_rate: f32) -> Result<(), DeviceError> {
        let Self { cuda, targets, leaves, weights, bias, squares, total, .. } = self;
        let (texts, leaves, count) = (batch.texts(), *leaves, batch.terms.len());
        let parts =
            [&batch.terms, &batch.offsets, &batch.labels, &batch.rows, &batch.holder_offsets, &batch.holders];
        let integers: Vec<u32> = parts.into_iter().flatten().copied().collect();
        let floats: Vec<f32> = batch.weights.iter().chain(&batch.held).copied().collect();
        self.integers.send(cuda, &integers, integers.len())?;
        self.floats.send(cuda, &floats, floats.len())?;
        let mut end = 0;
        let [terms, offsets, labels, rows, holder_offsets, holders] = parts.map(|part| {
            end += part.len();
            self.integers.view(end - part.len()..end)
        });
        let (x, held) = (self.floats.view(0..count), self.floats.view(count..2 * count));

        let mut logits = self.logits.reserve(cuda, texts * leaves)?;
        let mut gradients = self.gradients.reserve(cuda, texts * leaves)?;
        let mut norms = self.norms.reserve(cuda, texts)?;
        let mut log_sums = self.log_sums.reserve(cuda, texts * targets.classes)?;
        let mut losses = self.losses.reserve(cuda, texts)?;
        let (grid, block) = ((texts as u32, 1, 1), (THREADS, 1, 1));
        let (width, batch_texts) = (leaves as u32, texts as u32);
        launch!(cuda.wide_forward, grid, block, 0; &*weights, &*bias, &width, &terms, &x, &offsets, &mut logits)?;
        launch!(cuda.class_loss, grid, block, 0;
            &logits.as_view(), &labels, &width, &(targets.classes as u32), &targets.smoothing, &1.0f32,
            &targets.class_of_leaf, &targets.offsets, &targets.leaves, &mut log_sums, &mut gradients, &mut losses)?;
        let gradients = gradients.as_view();
        launch!(cuda.wide_norms, grid, block, 0; &gradients, &width, &mut norms)?;
        if count > 0 {
            launch!(cuda.wide_update, (batch.rows.len() as u32, 1, 1), block, 0;
                weights, squares, &width, &rows, &holder_offsets, &holders, &held, &gradients, &norms.as_view(),
                &rate)?;
        }
        launch!(cuda.wide_bias, (1, 1, 1), block, 0;
            bias, &gradients, &width, &batch_texts, &bias_rate, &losses.as_view(), total)
    }

    /// The sum of the losses, in nats, of the texts since this was last asked. Waits for the steps.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] if the device did.
    pub fn take_losses(&mut self) -> Result<f64, DeviceError> {
        let total = self.cuda.stream.clone_dtoh(&self.total)?;
        self.cuda.stream.memset_zeros(&mut self.total)?;
        Ok(total[0])
    }

    /// The weights `[U, C]` and the bias `[C]`.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] if the device did.
    pub fn finish(self) -> Result<(Vec<f32>, Vec<f32>), DeviceError> {
        Ok((self.cuda.stream.clone_dtoh(&self.weights)?, self.cuda.stream.clone_dtoh(&self.bias)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_name_their_texts_in_order() {
        let terms = [(9, 0.5), (2, 1.0), (9, 2.0), (4, 3.0), (2, 4.0)];
        let batch = WideBatch::new(&terms, &[0, 2, 2, 5], vec![7, 8, 6]);
        assert_eq!(batch.rows, [2, 4, 9]);
        assert_eq!(batch.holder_offsets, [0, 2, 3, 5]);
        assert_eq!(batch.holders, [0, 2, 2, 0, 2]);
        assert_eq!(batch.held, [1.0, 4.0, 3.0, 0.5, 2.0]);
        assert_eq!(
            (batch.terms, batch.offsets, batch.labels),
            (vec![9, 2, 9, 4, 2], vec![0, 2, 2, 5], vec![7, 8, 6])
        );
    }
}
