//! The deep branch with its parameters, gradients and optimiser on the device.

use std::sync::Arc;

use cudarc::driver::CudaSlice;

use super::{
    batch::{DeviceBatch, HostBatch},
    device::{Buffer, Cuda, DeviceError},
    launch::{Operand, THREADS, launch},
    lstm::{Recurrence, States},
    outcome::{OUTCOME, Outcome, StepOutcome},
    parameters::{Layout, Learnt, OwnedParameters, Parts, flat},
    projection::Projection,
    targets::DeviceTargets,
};
use crate::{
    model::{
        Architecture, Pooling,
        gradients::{Gradients, Parameters},
        kernels::{AdamW, ClassTargets},
        network::batches,
    },
    text::EncodedText,
};

/// Texts that are answered at a time: enough to fill the device.
const ANSWERED: usize = 512;

/// Blocks that share the sum of squares.
const SQUARE_BLOCKS: u32 = 256;

/// How gradients become updates. What the clipping scales them with is known on the device only.
#[derive(Debug, Clone, Copy)]
pub enum UpdateRule {
    /// AdamW; its own `gradient_scale` is not read.
    AdamW {
        /// For weights; `shrink` for matrices only.
        dense: AdamW,
        /// For rows of the embedding.
        rows: AdamW,
    },
    /// Gradient descent.
    Descent {
        /// Rate for everything but the embedding.
        rate: f32,
        /// What matrices are multiplied with.
        shrink: f32,
        /// Rate for rows of the embedding.
        rows_rate: f32,
    },
}

/// Intermediate results of a batch.
#[derive(Debug, Default)]
struct Scratch {
    /// x, `[N, E]`, and its gradient.
    tokens: Buffer<f32>,
    dtokens: Buffer<f32>,
    lstm: States,
    /// Of the states, `[N, S]`, and of the gates, `[N, 4 S]`.
    dstates: Buffer<f32>,
    dgates: Buffer<f32>,
    /// What is projected before the bias, `[N, S]`, and its gradient.
    projected: Buffer<f32>,
    dprojected: Buffer<f32>,
    /// `[B, F]`: without the mask, with it, and its gradient.
    pooled: Buffer<f32>,
    features: Buffer<f32>,
    dfeatures: Buffer<f32>,
    /// `[B, C]`.
    logits: Buffer<f32>,
    dlogits: Buffer<f32>,
    /// `[B, K]` and `[B]`.
    log_sums: Buffer<f64>,
    losses: Buffer<f64>,
    squares: Buffer<f64>,
}

/// The deep branch, learning on a device.
#[derive(Debug)]
pub struct Learner {
    cuda: Arc<Cuda>,
    architecture: Architecture,
    recurrence: Recurrence,
    leaves: usize,
    layout: Layout,
    dense: Learnt,
    table: Learnt,
    targets: DeviceTargets,
    batch: DeviceBatch,
    scratch: Scratch,
    /// Loss, norm, factor of the clipping, whether finite.
    outcome: CudaSlice<f32>,
    /// Where the outcomes of steps come to, by turns.
    outcomes: [Outcome; 2],
    turn: usize,
    /// Texts of the step whose outcome was not read yet.
    pending: Option<usize>,
}

/// The sizes of a batch and of everything it goes through.
#[derive(Clone, Copy)]
struct Sizes {
    texts: usize,
    tokens: usize,
    embedding: usize,
    states: usize,
    features: usize,
    leaves: usize,
}

impl Learner {
    /// Puts parameters on a device. `adamw` says whether room for its moments is needed.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`] if they do not fit.
    pub fn new(
        cuda: Arc<Cuda>,
        architecture: Architecture,
        parameters: Parameters<'_>,
        targets: &ClassTargets,
        adamw: bool,
    ) -> Result<Self, DeviceError> {
        let leaves = parameters.head_bias.len();
        let layout = Layout::new(&architecture, leaves);
        let recurrence =
            Recurrence { hidden: architecture.hidden, directions: architecture.lstm_directions() };
        Ok(Self {
            recurrence,
            leaves,
            dense: Learnt::new(&cuda, &flat(&layout, parameters), adamw)?,
            table: Learnt::new(&cuda, parameters.table, adamw)?,
            targets: DeviceTargets::new(&cuda, targets)?,
            batch: DeviceBatch::default(),
            scratch: Scratch::default(),
            outcome: cuda.stream.alloc_zeros(OUTCOME)?,
            outcomes: [Outcome::new(&cuda)?, Outcome::new(&cuda)?],
            turn: 0,
            pending: None,
            architecture,
            layout,
            cuda,
        })
    }

    /// Begins a step on a batch, with the gradients clipped to the norm `clip`, and returns what became of the step
    /// before. The device works beside what the caller does next.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`] if the batch does not fit; [`DeviceError::Failed`] if the device did.
    pub fn step(
        &mut self,
        batch: &HostBatch,
        clip: f64,
        rule: &UpdateRule,
    ) -> Result<Option<StepOutcome>, DeviceError> {
        self.begin_gradients(batch, clip)?;
        self.update(rule)?;
        let before = self.pending.replace(batch.labels.len());
        self.turn = 1 - self.turn;
        self.outcomes[self.turn].fetch(&self.cuda, &self.outcome)?;
        before.map(|texts| self.read_outcome(1 - self.turn, texts)).transpose()
    }

    /// Whether a step was begun whose outcome was not read yet.
    pub fn is_stepping(&self) -> bool {
        self.pending.is_some()
    }

    /// Waits for the step that was begun last, and returns what became of it; none if that was said already.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] if the device did.
    pub fn last_step(&mut self) -> Result<Option<StepOutcome>, DeviceError> {
        self.pending.take().map(|texts| self.read_outcome(self.turn, texts)).transpose()
    }

    /// Waits for an outcome that is on its way.
    fn read_outcome(&self, turn: usize, texts: usize) -> Result<StepOutcome, DeviceError> {
        let [loss, _, _, finite] = self.outcomes[turn].wait()?;
        Ok(StepOutcome { loss: f64::from(loss), finite: finite != 0.0, texts })
    }

    /// The gradients of a batch, without an update, as [`crate::model::gradients::gradients`].
    ///
    /// # Errors
    /// As [`Learner::step`].
    pub fn gradients(&mut self, batch: &HostBatch) -> Result<Gradients, DeviceError> {
        self.begin_gradients(batch, f64::INFINITY)?;
        let loss = f64::from(self.cuda.stream.clone_dtoh(&self.outcome)?[0]);
        let rows = batch.occurrences.rows.clone();
        let stream = &self.cuda.stream;
        let table = stream.clone_dtoh(&self.table.gradient.view(rows.len() * self.architecture.embedding))?;
        let dense = stream.clone_dtoh(&self.dense.gradient.view(self.layout.total()))?;
        let Parts { lstm, projection, head_weight, head_bias } = Parts::new(&self.layout, &dense);
        let table = (&*table).into();
        Ok(Gradients { loss, rows, table, lstm, projection, head_weight, head_bias })
    }

    /// Logits of the leaves, `[B, C]`, in the order of the texts.
    ///
    /// # Errors
    /// As [`Learner::step`].
    pub fn deep_logits(&mut self, texts: &[&EncodedText]) -> Result<Vec<f32>, DeviceError> {
        let leaves = self.leaves;
        let mut logits = vec![0.0; texts.len() * leaves];
        for (order, batch) in batches(texts, ANSWERED) {
            self.batch.send_texts(&self.cuda, &batch)?;
            let sizes = self.forward()?;
            let rows = self.cuda.stream.clone_dtoh(&self.scratch.logits.view(sizes.texts * leaves))?;
            for (text, row) in order.into_iter().zip(rows.chunks_exact(leaves)) {
                logits[text * leaves..][..leaves].copy_from_slice(row);
            }
        }
        Ok(logits)
    }

    /// Copies the parameters back.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] if the device did.
    pub fn parameters(&self) -> Result<OwnedParameters, DeviceError> {
        let dense = self.cuda.stream.clone_dtoh(&self.dense.values)?;
        let table = self.cuda.stream.clone_dtoh(&self.table.values)?;
        let Parts { lstm, projection, head_weight, head_bias } = Parts::new(&self.layout, &dense);
        Ok(OwnedParameters { table, lstm, projection, head_weight, head_bias })
    }

    /// Sets the parameters and forgets the moments.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] if the device did.
    pub fn set_parameters(&mut self, parameters: Parameters<'_>) -> Result<(), DeviceError> {
        self.pending = None;
        self.dense.set(&self.cuda, &flat(&self.layout, parameters))?;
        self.table.set(&self.cuda, parameters.table)
    }

    fn begin_gradients(&mut self, batch: &HostBatch, clip: f64) -> Result<(), DeviceError> {
        let Architecture { embedding, .. } = self.architecture;
        self.batch.send_batch(&self.cuda, batch, embedding, self.architecture.features())?;
        let sizes = self.forward()?;
        self.backward(sizes)?;
        self.finish_gradients(sizes, clip)
    }

    /// From the batch to the logits.
    fn forward(&mut self) -> Result<Sizes, DeviceError> {
        let Self { cuda, architecture, recurrence, layout, dense, table, batch, scratch, .. } = self;
        let sizes = Sizes {
            texts: batch.packing().texts(),
            tokens: batch.packing().tokens(),
            embedding: architecture.embedding,
            states: architecture.states(),
            features: architecture.features(),
            leaves: self.leaves,
        };
        let Sizes { texts, tokens, embedding, states, features, leaves } = sizes;
        let width = embedding as u32;
        let masked = u32::from(batch.masked);
        let mut x = scratch.tokens.reserve(cuda, tokens * embedding)?;
        launch!(cuda.bag_forward, (tokens as u32, 1, 1), (THREADS, 1, 1), 0;
            &table.values, &width, &batch.bag_rows(), &batch.bag_offsets(), &batch.ranks(), &batch.columns(),
            &masked, &mut x)?;

        recurrence.reserve(cuda, &mut scratch.lstm, tokens)?;
        let values = dense.values.as_view();
        let x = x.as_view();
        let (input, recurrent) = (values.slice(layout.input.clone()), values.slice(layout.recurrent.clone()));
        let mut gates = scratch.lstm.gates.view_mut(tokens * 4 * states);
        cuda.product(
            [tokens, embedding, 4 * states],
            Operand::rows(&x, embedding),
            Operand::columns(&input, embedding),
            &mut gates,
            4 * states,
            false,
        )?;
        recurrence.forward(cuda, &recurrent, &values.slice(layout.bias.clone()), batch, &mut scratch.lstm)?;

        let mut pooled = scratch.pooled.reserve(cuda, texts * features)?;
        let mut seen = scratch.features.reserve(cuda, texts * features)?;
        let h = scratch.lstm.states.view(tokens * states);
        let (projects, weight) = (architecture.projects(), values.slice(layout.projection.clone()));
        let mut projected = scratch.projected.reserve(cuda, if projects { tokens * states } else { 0 })?;
        if projects {
            let projection = Projection { cuda, weight, tokens, states, embedding };
            projection.forward([&h, &x], &mut projected)?;
        }
        let mean_only = u32::from(architecture.pooling == Pooling::Mean);
        launch!(cuda.pool_forward, (texts as u32, 1, 1), (THREADS, 1, 1), 0;
            &h, &x, &projected.as_view(), &values.slice(layout.projection_bias.clone()), &(states as u32), &width,
            &mean_only, &u32::from(projects), &batch.starts(), &batch.lengths(), &batch.order(), &batch.features(),
            &masked, &mut pooled, &mut seen)?;

        let mut logits = scratch.logits.reserve(cuda, texts * leaves)?;
        let seen = seen.as_view();
        let weight = values.slice(layout.head_weight.clone());
        let (seen, weight) = (Operand::rows(&seen, features), Operand::columns(&weight, features));
        cuda.product([texts, features, leaves], seen, weight, &mut logits, leaves, false)?;
        launch!(cuda.add_bias, (texts as u32, 1, 1), (THREADS, 1, 1), 0;
            &mut logits, &values.slice(layout.head_bias.clone()), &(leaves as u32))?;
        Ok(sizes)
    }

    /// From the logits back to the gradients of everything.
    fn backward(&mut self, sizes: Sizes) -> Result<(), DeviceError> {
        let Self { cuda, architecture, recurrence, layout, dense, table, batch, scratch, targets, .. } = self;
        let Sizes { texts, tokens, embedding, states, features, leaves } = sizes;
        let (width, masked) = (embedding as u32, u32::from(batch.masked));
        let mut gradient = dense.gradient.reserve(cuda, layout.total())?;
        let values = dense.values.as_view();

        let mut dlogits = scratch.dlogits.reserve(cuda, texts * leaves)?;
        let mut log_sums = scratch.log_sums.reserve(cuda, texts * targets.classes)?;
        let mut losses = scratch.losses.reserve(cuda, texts)?;
        let scale = 1.0 / texts as f32;
        launch!(cuda.class_loss, (texts as u32, 1, 1), (THREADS, 1, 1), 0;
            &scratch.logits.view(texts * leaves), &batch.labels(), &(leaves as u32), &(targets.classes as u32),
            &targets.smoothing, &scale, &targets.class_of_leaf, &targets.offsets, &targets.leaves, &mut log_sums,
            &mut dlogits, &mut losses)?;

        let dlogits = dlogits.as_view();
        let seen = scratch.features.view(texts * features);
        cuda.product(
            [leaves, texts, features],
            Operand::columns(&dlogits, leaves),
            Operand::rows(&seen, features),
            &mut gradient.slice_mut(layout.head_weight.clone()),
            features,
            false,
        )?;
        cuda.sum_columns(&dlogits, texts, leaves, &mut gradient.slice_mut(layout.head_bias.clone()))?;
        let mut dfeatures = scratch.dfeatures.reserve(cuda, texts * features)?;
        let weight = values.slice(layout.head_weight.clone());
        cuda.product(
            [texts, leaves, features],
            Operand::rows(&dlogits, leaves),
            Operand::rows(&weight, features),
            &mut dfeatures,
            features,
            false,
        )?;

        let mut dstates = scratch.dstates.reserve(cuda, tokens * states)?;
        let mut dtokens = scratch.dtokens.reserve(cuda, tokens * embedding)?;
        let (projects, mean_only) =
            (architecture.projects(), u32::from(architecture.pooling == Pooling::Mean));
        let count = if projects { tokens * states } else { 0 };
        let mut dprojected = scratch.dprojected.reserve(cuda, count)?;
        let h = scratch.lstm.states.view(tokens * states);
        launch!(cuda.pool_backward, (texts as u32, 1, 1), (THREADS, 1, 1), 0;
            &h, &scratch.projected.view(count), &scratch.pooled.view(texts * features), &dfeatures.as_view(),
            &(states as u32), &width, &mean_only, &u32::from(projects), &batch.starts(), &batch.lengths(),
            &batch.order(), &batch.features(), &masked, &mut dstates, &mut dprojected, &mut dtokens)?;
        let x = scratch.tokens.view(tokens * embedding);
        if projects {
            let weight = values.slice(layout.projection.clone());
            let projection = Projection { cuda, weight, tokens, states, embedding };
            let dprojected = dprojected.as_view();
            let dbias = &mut gradient.slice_mut(layout.projection_bias.clone());
            cuda.sum_columns(&dprojected, tokens, states, dbias)?;
            let dweight = &mut gradient.slice_mut(layout.projection.clone());
            projection.backward([&h, &x], &dprojected, dweight, [&mut dstates, &mut dtokens])?;
        }

        let mut dgates = scratch.dgates.reserve(cuda, tokens * 4 * states)?;
        let recurrent = values.slice(layout.recurrent.clone());
        recurrence.backward(cuda, &recurrent, batch, &mut scratch.lstm, &dstates.as_view(), &mut dgates)?;

        let dgates = dgates.as_view();
        cuda.product(
            [4 * states, tokens, embedding],
            Operand::columns(&dgates, 4 * states),
            Operand::rows(&x, embedding),
            &mut gradient.slice_mut(layout.input.clone()),
            embedding,
            false,
        )?;
        let before = scratch.lstm.before.view(tokens * states);
        let hidden = recurrence.hidden;
        for direction in 0..recurrence.count() {
            let (dgates, before) =
                (dgates.slice(direction * 4 * hidden..), before.slice(direction * hidden..));
            let size = 4 * hidden * hidden;
            let first = layout.recurrent.start + direction * size;
            cuda.product(
                [4 * hidden, tokens, hidden],
                Operand::columns(&dgates, 4 * states),
                Operand::rows(&before, states),
                &mut gradient.slice_mut(first..first + size),
                hidden,
                false,
            )?;
        }
        cuda.sum_columns(&dgates, tokens, 4 * states, &mut gradient.slice_mut(layout.bias.clone()))?;
        let input = values.slice(layout.input.clone());
        cuda.product(
            [tokens, 4 * states, embedding],
            Operand::rows(&dgates, 4 * states),
            Operand::rows(&input, embedding),
            &mut dtokens,
            embedding,
            true,
        )?;
        let rows = batch.touched_rows();
        let mut dtable = table.gradient.reserve(cuda, rows * embedding)?;
        launch!(cuda.bag_backward, (rows as u32, 1, 1), (THREADS, 1, 1), 0;
            &dtokens.as_view(), &width, &batch.bag_offsets(), &batch.ranks(), &batch.columns(), &masked, &batch.touched(),
            &batch.holder_offsets(), &batch.holders(), &(architecture.frozen_rows as u32), &mut dtable)
    }

    /// Loss, norm and clipping.
    fn finish_gradients(&mut self, sizes: Sizes, clip: f64) -> Result<(), DeviceError> {
        let Self { cuda, layout, dense, table, batch, scratch, outcome, .. } = self;
        let (count, table_count) = (layout.total(), batch.touched_rows() * sizes.embedding);
        let mut squares = scratch.squares.reserve(cuda, SQUARE_BLOCKS as usize)?;
        launch!(cuda.square_sums, (SQUARE_BLOCKS, 1, 1), (256, 1, 1), 0;
            &dense.gradient.view(count), &(count as u64), &table.gradient.view(table_count),
            &(table_count as u64), &mut squares)?;
        launch!(cuda.step_outcome, (1, 1, 1), (256, 1, 1), 0;
            &scratch.losses.view(sizes.texts), &(sizes.texts as u32), &squares.as_view(), &SQUARE_BLOCKS, &(clip as f32),
            outcome)
    }

    fn update(&mut self, rule: &UpdateRule) -> Result<(), DeviceError> {
        let Self { cuda, layout, dense, table, batch, architecture, outcome, .. } = self;
        let (width, rows) = (architecture.embedding, batch.touched_rows());
        let count = layout.total();
        let (total, decaying) = (count as u64, layout.decaying() as u64);
        let blocks = ((count as u32).div_ceil(256), 1, 1);
        let (dense_gradient, table_gradient) =
            (dense.gradient.view(count), table.gradient.view(rows * width));
        let row_blocks = (rows as u32, 1, 1);
        match (rule, &mut dense.moments, &mut table.moments) {
            (UpdateRule::AdamW { dense: by, rows }, Some([first, second]), Some([row_first, row_second])) => {
                launch!(cuda.adamw_dense, blocks, (256, 1, 1), 0;
                    &mut dense.values, &dense_gradient, first, second, &total, &decaying, &by.beta1, &by.beta2,
                    &by.epsilon, &by.rate, &by.root, &by.shrink, &*outcome)?;
                launch!(cuda.adamw_rows, row_blocks, (THREADS, 1, 1), 0;
                    &mut table.values, &(width as u32), &batch.touched(), &table_gradient, row_first, row_second,
                    &rows.beta1, &rows.beta2, &rows.epsilon, &rows.rate, &rows.root, &*outcome)
            }
            (UpdateRule::AdamW { .. }, ..) => {
                Err(DeviceError::Failed("AdamW was not asked for when the parameters were placed".into()))
            }
            (UpdateRule::Descent { rate, shrink, rows_rate }, ..) => {
                launch!(cuda.descend_dense, blocks, (256, 1, 1), 0;
                    &mut dense.values, &dense_gradient, &total, &decaying, rate, shrink, &*outcome)?;
                launch!(cuda.descend_rows, row_blocks, (THREADS, 1, 1), 0;
                    &mut table.values, &(width as u32), &batch.touched(), &table_gradient, rows_rate, &*outcome)
            }
        }
    }
}
