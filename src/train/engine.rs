//! Where a network learns: the parameters, the state of the optimiser, and the steps.

use std::{collections::BTreeMap, sync::Arc};

use rayon::prelude::*;

use super::{
    Optimiser, Recipe,
    optimiser::{Moments, Update, square_norm},
    prepare::{HostStep, Prepared, Preparer},
    sgd::Descent,
};
use crate::{
    error::{Error, Result},
    model::{
        Architecture, Array, Checkpoint, Device, Network,
        checkpoint::{
            EMBEDDING, HEAD_BIAS, HEAD_WEIGHT, LSTM_BIAS, LSTM_INPUT, LSTM_RECURRENT, PROJECTION_BIAS,
            PROJECTION_WEIGHT,
        },
        cuda::{Cuda, HostBatch, Learner, OwnedParameters, StepOutcome, UpdateRule},
        gradients::{Gradients, Parameters, gradients},
        kernels::{ClassTargets, LstmWeights, ProjectionWeights, release_memory},
    },
    text::EncodedText,
};

/// The tensors that steps change, as far as a network has them; the embedding first.
const LEARNT: [&str; 8] = [
    EMBEDDING,
    LSTM_INPUT,
    LSTM_RECURRENT,
    LSTM_BIAS,
    PROJECTION_WEIGHT,
    PROJECTION_BIAS,
    HEAD_WEIGHT,
    HEAD_BIAS,
];

/// Those of [`LEARNT`] but the embedding.
const DENSE: usize = LEARNT.len() - 1;

/// How far a step goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct StepSize {
    /// Which update of the parameters this is, counted from 1.
    pub(super) update: usize,
    /// Learning rate.
    pub(super) rate: f64,
    /// Learning rate of the embedding.
    pub(super) embedding_rate: f64,
}

/// Parameters and how they learn.
pub(super) enum Engine {
    Host(Box<HostEngine>),
    Device(Box<DeviceEngine>),
    /// A device that is gone.
    #[cfg(test)]
    Lost,
}

impl Engine {
    /// Puts a network where it is to learn.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if a tensor is missing; [`Error::Unavailable`] if the device cannot.
    pub(super) fn new(
        device: &Device,
        start: &Checkpoint,
        recipe: &Recipe,
        targets: ClassTargets,
    ) -> Result<Self> {
        Ok(match device {
            Device::Cpu => Self::Host(Box::new(HostEngine::new(start, recipe, targets)?)),
            Device::Cuda(cuda) => {
                Self::Device(Box::new(DeviceEngine::new(Arc::clone(cuda), start, recipe, &targets)?))
            }
        })
    }

    /// What makes batches ready for it.
    pub(super) fn preparer(&self) -> Preparer {
        match self {
            Self::Host(host) => Preparer::Host(host.architecture),
            Self::Device(_) => Preparer::Device,
            #[cfg(test)]
            Self::Lost => Preparer::Device,
        }
    }

    /// One step on a batch. Returns what became of it or, on a device, of the one before, while this one runs.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the device cannot.
    pub(super) fn step(&mut self, batch: Prepared, size: StepSize) -> Result<Option<StepOutcome>> {
        match (self, batch) {
            (Self::Host(host), Prepared::Host(batch)) => Ok(Some(host.step(batch, size))),
            (Self::Device(device), Prepared::Device(batch)) => device.step(&batch, size),
            #[cfg(test)]
            (Self::Lost, _) => gone(),
            _ => Err(Error::Internal("a batch was prepared for another device".into())),
        }
    }

    /// Waits for the last step, and returns what became of it; none if that was said already.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the device could not.
    pub(super) fn last_step(&mut self) -> Result<Option<StepOutcome>> {
        match self {
            Self::Device(device) => Ok(device.learner.last_step()?),
            _ => Ok(None),
        }
    }

    /// Whether a step runs of which nothing was said yet.
    pub(super) fn is_stepping(&self) -> bool {
        matches!(self, Self::Device(device) if device.learner.is_stepping())
    }

    /// What has been learnt.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the device does not give it back.
    pub(super) fn tensors(&self) -> Result<BTreeMap<String, Array>> {
        match self {
            Self::Host(host) => Ok(host.tensors()),
            Self::Device(device) => device.tensors(),
            #[cfg(test)]
            Self::Lost => gone(),
        }
    }

    /// Goes back to a network, and forgets the state of the optimiser.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if a tensor is missing; [`Error::Unavailable`] if the device cannot.
    pub(super) fn set(&mut self, network: &Checkpoint) -> Result<()> {
        match self {
            Self::Host(host) => host.set(network),
            Self::Device(device) => Ok(device.learner.set_parameters(parameters(network)?)?),
            #[cfg(test)]
            Self::Lost => gone(),
        }
    }

    /// Logits of the deep branch, `[B, C]`, of a network that holds what has been learnt.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the device cannot.
    pub(super) fn deep_logits(&mut self, network: &Checkpoint, texts: &[&EncodedText]) -> Result<Vec<f32>> {
        match self {
            Self::Host(_) => Network::new(&network.architecture, &network.tensors)?.deep_logits(texts),
            Self::Device(device) => Ok(device.learner.deep_logits(texts)?),
            #[cfg(test)]
            Self::Lost => gone(),
        }
    }
}

/// What a device says that is gone.
#[cfg(test)]
fn gone<T>() -> Result<T> {
    Err(Error::Unavailable("it is gone".into()))
}

/// The parameters of a network.
fn parameters(network: &Checkpoint) -> Result<Parameters<'_>> {
    let data = |name| Ok::<_, Error>(&*network.tensor(name)?.data);
    Ok(Parameters {
        table: data(EMBEDDING)?,
        lstm: LstmWeights {
            input: data(LSTM_INPUT)?,
            recurrent: data(LSTM_RECURRENT)?,
            bias: data(LSTM_BIAS)?,
        },
        projection: match network.architecture.projects() {
            true => ProjectionWeights { weight: data(PROJECTION_WEIGHT)?, bias: data(PROJECTION_BIAS)? },
            false => ProjectionWeights::default(),
        },
        head_weight: data(HEAD_WEIGHT)?,
        head_bias: data(HEAD_BIAS)?,
    })
}

/// Learns on the processor, with plain arrays. Of the embedding a step reads and updates only the rows that the batch
/// touches; so nothing grows with the vocabulary but memory.
pub(super) struct HostEngine {
    architecture: Architecture,
    targets: ClassTargets,
    optimiser: Optimiser,
    clip_norm: f64,
    table: Parameter,
    /// The others of [`LEARNT`].
    dense: [Parameter; DENSE],
}

/// A tensor that is learnt; one that the network does not have is empty.
struct Parameter {
    name: &'static str,
    shape: Vec<usize>,
    values: Vec<f32>,
    moments: Moments,
    decay: f32,
}

impl Parameter {
    fn absent(name: &'static str) -> Self {
        Self { name, shape: Vec::new(), values: Vec::new(), moments: Moments::new(0), decay: 0.0 }
    }
}

impl HostEngine {
    fn new(start: &Checkpoint, recipe: &Recipe, targets: ClassTargets) -> Result<Self> {
        let parameter = |name: &'static str, decay: f32| {
            let Array { shape, data } = start.tensor(name)?;
            let moments = Moments::new(match recipe.optimiser {
                Optimiser::AdamW => data.len(),
                Optimiser::Sgd => 0,
            });
            Ok::<_, Error>(Parameter { name, shape: shape.clone(), values: data.to_vec(), moments, decay })
        };
        let projection = |name, decay| match start.architecture.projects() {
            true => parameter(name, decay),
            false => Ok(Parameter::absent(name)),
        };
        let decay = recipe.weight_decay;
        Ok(Self {
            architecture: start.architecture,
            targets,
            optimiser: recipe.optimiser,
            clip_norm: recipe.clip_norm,
            table: parameter(EMBEDDING, 0.0)?,
            dense: [
                parameter(LSTM_INPUT, decay)?,
                parameter(LSTM_RECURRENT, decay)?,
                parameter(LSTM_BIAS, 0.0)?,
                projection(PROJECTION_WEIGHT, decay)?,
                projection(PROJECTION_BIAS, 0.0)?,
                parameter(HEAD_WEIGHT, decay)?,
                parameter(HEAD_BIAS, 0.0)?,
            ],
        })
    }

    fn step(&mut self, batch: HostStep, size: StepSize) -> StepOutcome {
        // On the threads of the pool, so that handing work to them is cheap.
        rayon::scope(|_| {
            let texts = batch.labels.len();
            let gradients = self.gradients(batch);
            let (norm, dense) = norm_and_dense(&gradients);
            let finite = gradients.loss.is_finite() && norm.is_finite();
            if finite {
                let scale = (self.clip_norm / norm.max(1e-12)).min(1.0);
                match self.optimiser {
                    Optimiser::AdamW => self.update(size, scale, dense, &gradients),
                    Optimiser::Sgd => self.descend(size, scale, dense, &gradients),
                }
            }
            StepOutcome { loss: gradients.loss, finite, texts }
        })
    }

    fn gradients(&self, HostStep { batch, labels, masks }: HostStep) -> Gradients {
        let [input, recurrent, bias, weight, projection_bias, head_weight, head_bias] =
            self.dense.each_ref().map(|parameter| &*parameter.values);
        let parameters = Parameters {
            table: &self.table.values,
            lstm: LstmWeights { input, recurrent, bias },
            projection: ProjectionWeights { weight, bias: projection_bias },
            head_weight,
            head_bias,
        };
        let mut gradients =
            gradients(&self.architecture, parameters, batch, &labels, &self.targets, Some(&masks));
        freeze(&self.architecture, &gradients.rows, &mut gradients.table);
        gradients
    }

    fn update(&mut self, size: StepSize, scale: f64, dense: [&[f32]; DENSE], gradients: &Gradients) {
        let of = |rate| Update::new(size.update, rate, scale);
        let (update, of_rows) = (of(size.rate), of(size.embedding_rate));
        let (table, width) = (&mut self.table, self.architecture.embedding);
        let (rows, gradient) = (&gradients.rows, &gradients.table);
        rayon::join(
            || {
                self.dense.par_iter_mut().zip(dense).for_each(|(parameter, gradient)| {
                    let Parameter { values, moments, decay, .. } = parameter;
                    update.dense(values, gradient, moments, *decay);
                });
            },
            || of_rows.rows(&mut table.values, width, rows, gradient, &mut table.moments),
        );
    }

    fn descend(&mut self, size: StepSize, scale: f64, dense: [&[f32]; DENSE], gradients: &Gradients) {
        let descent = Descent::new(size.rate, scale);
        for (parameter, gradient) in self.dense.iter_mut().zip(dense) {
            descent.dense(&mut parameter.values, gradient, parameter.decay);
        }
        let descent = Descent::new(size.embedding_rate, scale);
        let width = self.architecture.embedding;
        descent.rows(&mut self.table.values, width, &gradients.rows, &gradients.table);
    }

    fn set(&mut self, network: &Checkpoint) -> Result<()> {
        for parameter in std::iter::once(&mut self.table).chain(&mut self.dense) {
            if !parameter.values.is_empty() {
                parameter.values.copy_from_slice(&network.tensor(parameter.name)?.data);
                parameter.moments.clear();
            }
        }
        Ok(())
    }

    fn tensors(&self) -> BTreeMap<String, Array> {
        std::iter::once(&self.table)
            .chain(&self.dense)
            .filter(|parameter| !parameter.values.is_empty())
            .map(|parameter| {
                (parameter.name.to_owned(), Array::new(parameter.shape.clone(), &*parameter.values))
            })
            .collect()
    }

    #[cfg(test)]
    pub(super) fn poison(&mut self) {
        self.dense[0].values.fill(f32::NAN);
    }
}

impl Drop for HostEngine {
    fn drop(&mut self) {
        release_memory();
    }
}

/// Takes the gradient of frozen rows away: no optimiser moves a row that never had one.
fn freeze(architecture: &Architecture, rows: &[u32], gradient: &mut [f32]) {
    let frozen = rows.iter().zip(gradient.chunks_exact_mut(architecture.embedding));
    frozen.filter(|(row, _)| architecture.is_frozen(**row)).for_each(|(_, gradient)| gradient.fill(0.0));
}

/// The norm of all gradients together, and those of [`HostEngine::dense`] in its order.
fn norm_and_dense(gradients: &Gradients) -> (f64, [&[f32]; DENSE]) {
    let Gradients { table, lstm, projection, head_weight, head_bias, .. } = gradients;
    let dense = [
        &*lstm.input,
        &*lstm.recurrent,
        &*lstm.bias,
        &*projection.weight,
        &*projection.bias,
        &**head_weight,
        &**head_bias,
    ];
    let squares: Vec<f64> = dense.par_iter().map(|gradient| square_norm(gradient)).collect();
    ((square_norm(table) + squares.iter().sum::<f64>()).sqrt(), dense)
}

/// Learns on a graphics processor.
pub(super) struct DeviceEngine {
    learner: Learner,
    optimiser: Optimiser,
    weight_decay: f32,
    clip_norm: f64,
    /// Of [`LEARNT`]; empty for one that is not there.
    shapes: [Vec<usize>; LEARNT.len()],
}

impl DeviceEngine {
    fn new(cuda: Arc<Cuda>, start: &Checkpoint, recipe: &Recipe, targets: &ClassTargets) -> Result<Self> {
        let shape = |name| start.tensors.get(name).map_or_else(Vec::new, |array| array.shape.clone());
        let adamw = recipe.optimiser == Optimiser::AdamW;
        let learner = Learner::new(cuda, start.architecture, parameters(start)?, targets, adamw);
        Ok(Self {
            learner: learner?,
            optimiser: recipe.optimiser,
            weight_decay: recipe.weight_decay,
            clip_norm: recipe.clip_norm,
            shapes: LEARNT.map(shape),
        })
    }

    fn step(&mut self, batch: &HostBatch, size: StepSize) -> Result<Option<StepOutcome>> {
        let rule = match self.optimiser {
            Optimiser::AdamW => UpdateRule::AdamW {
                dense: Update::new(size.update, size.rate, 1.0).rule(self.weight_decay),
                rows: Update::new(size.update, size.embedding_rate, 1.0).rule(0.0),
            },
            Optimiser::Sgd => UpdateRule::Descent {
                rate: size.rate as f32,
                shrink: 1.0 - size.rate as f32 * self.weight_decay,
                rows_rate: size.embedding_rate as f32,
            },
        };
        Ok(self.learner.step(batch, self.clip_norm, &rule)?)
    }

    fn tensors(&self) -> Result<BTreeMap<String, Array>> {
        let OwnedParameters { table, lstm, projection, head_weight, head_bias } =
            self.learner.parameters()?;
        let LstmWeights { input, recurrent, bias } = lstm;
        let values =
            [table, input, recurrent, bias, projection.weight, projection.bias, head_weight, head_bias];
        let named = LEARNT.into_iter().zip(&self.shapes).zip(values);
        Ok(named
            .filter(|(_, values)| !values.is_empty())
            .map(|((name, shape), values)| (name.to_owned(), Array::new(shape.clone(), values)))
            .collect())
    }
}
