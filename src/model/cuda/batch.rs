//! A batch on its way to the device.

use std::sync::Arc;

use cudarc::driver::CudaView;

use super::device::{Buffer, Cuda, DeviceError};
use crate::{
    model::gradients::Masks,
    text::{Bags, PackedBatch, Packing},
};

/// Which tokens hold each row of the embedding that a batch touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrences {
    /// The rows, ascending, `[R]`.
    pub rows: Vec<u32>,
    /// Where each row's tokens begin, and the end; `[R + 1]`.
    pub offsets: Vec<u32>,
    /// Tokens, row after row, ascending within a row; one twice whose bag holds the row twice.
    pub tokens: Vec<u32>,
}

impl Occurrences {
    /// Of bags.
    pub fn of(bags: &Bags) -> Self {
        let mut pairs: Vec<u64> = Vec::with_capacity(bags.rows.len());
        for (token, span) in bags.offsets.windows(2).enumerate() {
            let rows = &bags.rows[span[0] as usize..span[1] as usize];
            pairs.extend(rows.iter().map(|&row| u64::from(row) << 32 | token as u64));
        }
        pairs.sort_unstable();
        let (mut rows, mut offsets) = (Vec::new(), Vec::new());
        for (at, pair) in pairs.iter().enumerate() {
            let row = (pair >> 32) as u32;
            if rows.last() != Some(&row) {
                rows.push(row);
                offsets.push(at as u32);
            }
        }
        offsets.push(pairs.len() as u32);
        Self { rows, offsets, tokens: pairs.into_iter().map(|pair| pair as u32).collect() }
    }
}

/// A batch to learn from, ready to be sent.
#[derive(Debug)]
pub struct HostBatch {
    /// The texts.
    pub batch: PackedBatch,
    /// Which tokens hold which rows.
    pub occurrences: Occurrences,
    /// The class of each text, in the order as given, `[B]`.
    pub labels: Vec<u32>,
    /// What is not seen; none if everything is.
    pub masks: Option<Masks>,
}

/// Where something lies in the numbers sent.
type Span = std::ops::Range<usize>;

/// A batch on the device.
#[derive(Debug, Default)]
pub(super) struct DeviceBatch {
    integers: Buffer<u32>,
    floats: Buffer<f32>,
    spans: Spans,
    /// The texts, for what is launched step by step.
    pub(super) packing: Option<Arc<Packing>>,
    pub(super) masked: bool,
}

#[derive(Debug, Default)]
struct Spans {
    starts: Span,
    lengths: Span,
    order: Span,
    bag_rows: Span,
    bag_offsets: Span,
    ranks: Span,
    labels: Span,
    touched: Span,
    holder_offsets: Span,
    holders: Span,
    columns: Span,
    features: Span,
    integers: usize,
    floats: usize,
}

/// Numbers one after another.
#[derive(Default)]
struct Staging<T>(Vec<T>);

impl<T> Staging<T> {
    fn add(&mut self, numbers: impl IntoIterator<Item = T>) -> Span {
        let first = self.0.len();
        self.0.extend(numbers);
        first..self.0.len()
    }
}

impl DeviceBatch {
    /// Sends texts that are only to be answered.
    pub(super) fn send_texts(&mut self, cuda: &Cuda, batch: &PackedBatch) -> Result<(), DeviceError> {
        let (mut integers, mut spans) = (Staging::default(), Spans::default());
        add_texts(&mut integers, &mut spans, batch);
        self.masked = false;
        self.send(cuda, batch, integers.0, Vec::new(), spans)
    }

    /// Sends a batch to learn from.
    pub(super) fn send_batch(&mut self, cuda: &Cuda, host: &HostBatch) -> Result<(), DeviceError> {
        let HostBatch { batch, occurrences, labels, masks } = host;
        let (mut integers, mut floats, mut spans) =
            (Staging::default(), Staging::default(), Spans::default());
        add_texts(&mut integers, &mut spans, batch);
        spans.labels = integers.add(labels.iter().copied());
        spans.touched = integers.add(occurrences.rows.iter().copied());
        spans.holder_offsets = integers.add(occurrences.offsets.iter().copied());
        spans.holders = integers.add(occurrences.tokens.iter().copied());
        if let Some(masks) = masks {
            spans.ranks = integers.add(masks.tokens.ranks().iter().map(|rank| rank.unwrap_or(u32::MAX)));
            spans.columns = floats.add(masks.tokens.columns().iter().copied());
            spans.features = floats.add(masks.features.iter().copied());
        }
        self.masked = masks.is_some();
        self.send(cuda, batch, integers.0, floats.0, spans)
    }

    fn send(
        &mut self,
        cuda: &Cuda,
        batch: &PackedBatch,
        integers: Vec<u32>,
        floats: Vec<f32>,
        mut spans: Spans,
    ) -> Result<(), DeviceError> {
        (spans.integers, spans.floats) = (integers.len().max(1), floats.len().max(1));
        if !integers.is_empty() {
            cuda.stream.memcpy_htod(&integers, &mut self.integers.reserve(cuda, integers.len())?)?;
        }
        let mut place = self.floats.reserve(cuda, floats.len())?;
        if !floats.is_empty() {
            cuda.stream.memcpy_htod(&floats, &mut place)?;
        }
        (self.spans, self.packing) = (spans, Some(Arc::clone(&batch.packing)));
        Ok(())
    }

    pub(super) fn packing(&self) -> &Packing {
        self.packing.as_ref().expect("a batch was sent")
    }

    /// R.
    pub(super) fn touched_rows(&self) -> usize {
        self.spans.touched.len()
    }

    fn integers(&self, span: &Span) -> CudaView<'_, u32> {
        self.integers.view(self.spans.integers).slice(span.clone())
    }

    fn floats(&self, span: &Span) -> CudaView<'_, f32> {
        self.floats.view(self.spans.floats).slice(span.clone())
    }

    pub(super) fn starts(&self) -> CudaView<'_, u32> {
        self.integers(&self.spans.starts)
    }

    pub(super) fn lengths(&self) -> CudaView<'_, u32> {
        self.integers(&self.spans.lengths)
    }

    pub(super) fn order(&self) -> CudaView<'_, u32> {
        self.integers(&self.spans.order)
    }

    pub(super) fn bag_rows(&self) -> CudaView<'_, u32> {
        self.integers(&self.spans.bag_rows)
    }

    pub(super) fn bag_offsets(&self) -> CudaView<'_, u32> {
        self.integers(&self.spans.bag_offsets)
    }

    pub(super) fn ranks(&self) -> CudaView<'_, u32> {
        self.integers(&self.spans.ranks)
    }

    pub(super) fn labels(&self) -> CudaView<'_, u32> {
        self.integers(&self.spans.labels)
    }

    pub(super) fn touched(&self) -> CudaView<'_, u32> {
        self.integers(&self.spans.touched)
    }

    pub(super) fn holder_offsets(&self) -> CudaView<'_, u32> {
        self.integers(&self.spans.holder_offsets)
    }

    pub(super) fn holders(&self) -> CudaView<'_, u32> {
        self.integers(&self.spans.holders)
    }

    pub(super) fn columns(&self) -> CudaView<'_, f32> {
        self.floats(&self.spans.columns)
    }

    pub(super) fn features(&self) -> CudaView<'_, f32> {
        self.floats(&self.spans.features)
    }
}

fn add_texts(integers: &mut Staging<u32>, spans: &mut Spans, batch: &PackedBatch) {
    let Packing { order, lengths, starts } = &*batch.packing;
    let narrow = |number: &usize| *number as u32;
    spans.starts = integers.add(starts.iter().map(narrow));
    spans.lengths = integers.add(lengths.iter().map(narrow));
    spans.order = integers.add(order.iter().map(narrow));
    spans.bag_rows = integers.add(batch.bags.rows.iter().copied());
    spans.bag_offsets = integers.add(batch.bags.offsets.iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn occurrences_name_every_bag_of_a_row_in_order() {
        let bags = Bags { rows: vec![7, 3, 9, 3, 3, 7], offsets: vec![0, 2, 3, 5, 6] };
        let Occurrences { rows, offsets, tokens } = Occurrences::of(&bags);
        assert_eq!(rows, [3, 7, 9]);
        assert_eq!(offsets, [0, 3, 5, 6]);
        assert_eq!(tokens, [0, 2, 2, 0, 3, 1]);
    }
}
