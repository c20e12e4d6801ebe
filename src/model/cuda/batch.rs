//! A batch on its way to the device.

use std::sync::Arc;

use cudarc::driver::CudaView;

use super::{
    device::{Cuda, DeviceError, Upload},
    launch::launch,
};
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
        let (rows, offsets) = runs(&pairs);
        Self { rows, offsets, tokens: pairs.into_iter().map(|pair| pair as u32).collect() }
    }
}

/// The distinct rows in the upper halves of sorted pairs, where the pairs of each begin, and the end.
pub(super) fn runs(pairs: &[u64]) -> (Vec<u32>, Vec<u32>) {
    let (mut rows, mut offsets) = (Vec::new(), Vec::new());
    for (at, pair) in (0u32..).zip(pairs) {
        let row = (pair >> 32) as u32;
        if rows.last() != Some(&row) {
            rows.push(row);
            offsets.push(at);
        }
    }
    offsets.push(pairs.len() as u32);
    (rows, offsets)
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
    /// What is not seen.
    pub masking: Masking,
}

/// What a step does not see, as [`Masks`].
#[derive(Debug)]
pub enum Masking {
    /// These.
    Given(Masks),
    /// What the device draws.
    Drawn(Dropout),
}

/// Probabilities that something is not seen, and what the draws begin with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// The same seed draws the same.
    pub seed: u64,
    /// For a token.
    pub words: f32,
    /// For a column of the tokens of a text.
    pub embedding: f32,
    /// For a feature.
    pub output: f32,
}

/// A probability as the kernel takes it: how many of 2^32 draws are dropped, and the factor of what is kept.
fn dropped(probability: f32) -> (u32, f32) {
    ((f64::from(probability) * 2f64.powi(32)) as u32, 1.0 / (1.0 - probability))
}

/// Where something lies in the numbers sent.
type Span = std::ops::Range<usize>;

/// A batch on the device.
#[derive(Debug, Default)]
pub(super) struct DeviceBatch {
    integers: Upload<u32>,
    floats: Upload<f32>,
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

    /// Sends a batch to learn from; tokens have `width` columns, texts `features` features.
    pub(super) fn send_batch(
        &mut self,
        cuda: &Cuda,
        host: &HostBatch,
        width: usize,
        features: usize,
    ) -> Result<(), DeviceError> {
        let HostBatch { batch, occurrences, labels, masking } = host;
        let (mut integers, mut floats, mut spans) =
            (Staging::default(), Staging::default(), Spans::default());
        add_texts(&mut integers, &mut spans, batch);
        spans.labels = integers.add(labels.iter().copied());
        spans.touched = integers.add(occurrences.rows.iter().copied());
        spans.holder_offsets = integers.add(occurrences.offsets.iter().copied());
        spans.holders = integers.add(occurrences.tokens.iter().copied());
        let (texts, tokens) = (batch.packing.texts(), batch.packing.tokens());
        match masking {
            Masking::Given(masks) => {
                spans.ranks = integers.add(masks.tokens.ranks().iter().map(|rank| rank.unwrap_or(u32::MAX)));
                spans.columns = floats.add(masks.tokens.columns().iter().copied());
                spans.features = floats.add(masks.features.iter().copied());
            }
            Masking::Drawn(_) => {
                let steps = 0..batch.packing.steps();
                spans.ranks = integers.add(steps.flat_map(|step| 0..batch.packing.running(step) as u32));
                spans.columns = 0..texts * width;
                spans.features = texts * width..texts * (width + features);
                spans.floats = spans.features.end;
            }
        }
        self.masked = true;
        self.send(cuda, batch, integers.0, floats.0, spans)?;
        match masking {
            Masking::Drawn(dropout) => self.draw(cuda, dropout, tokens),
            Masking::Given(_) => Ok(()),
        }
    }

    fn draw(&mut self, cuda: &Cuda, dropout: &Dropout, tokens: usize) -> Result<(), DeviceError> {
        let Self { integers, floats, spans, .. } = self;
        let mut floats = floats.view_mut(spans.floats);
        let (mut columns, mut features) = floats.split_at_mut(spans.columns.end);
        let mut ranks = integers.view_mut(spans.integers);
        let mut ranks = ranks.slice_mut(spans.ranks.clone());
        let (column_dropped, column_factor) = dropped(dropout.embedding);
        let (feature_dropped, feature_factor) = dropped(dropout.output);
        let (column_count, feature_count) = (columns.len() as u32, features.len() as u32);
        let (token_dropped, _) = dropped(dropout.words);
        launch!(cuda.draw_masks, (128, 1, 1), (256, 1, 1), 0;
            &dropout.seed, &mut columns, &column_count, &column_dropped, &column_factor, &mut features,
            &feature_count, &feature_dropped, &feature_factor, &mut ranks, &(tokens as u32), &token_dropped)
    }

    fn send(
        &mut self,
        cuda: &Cuda,
        batch: &PackedBatch,
        integers: Vec<u32>,
        floats: Vec<f32>,
        mut spans: Spans,
    ) -> Result<(), DeviceError> {
        spans.integers = integers.len();
        spans.floats = spans.floats.max(floats.len());
        self.integers.send(cuda, &integers, integers.len())?;
        self.floats.send(cuda, &floats, spans.floats)?;
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
        self.integers.view(span.clone())
    }

    fn floats(&self, span: &Span) -> CudaView<'_, f32> {
        self.floats.view(span.clone())
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
