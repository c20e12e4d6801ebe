//! Where parameters lie on the device, on their way there and back.

use std::ops::Range;

use cudarc::driver::CudaSlice;

use super::device::{Buffer, Cuda, DeviceError};
use crate::model::{
    Architecture,
    gradients::Parameters,
    kernels::{LstmWeights, ProjectionWeights},
};

/// All parameters, copied back; shapes as [`Parameters`].
#[derive(Debug, Clone, PartialEq)]
pub struct OwnedParameters {
    /// The embedding, `[V, E]`.
    pub table: Vec<f32>,
    /// The LSTM's.
    pub lstm: LstmWeights<Vec<f32>>,
    /// The projection's; empty without one.
    pub projection: ProjectionWeights<Vec<f32>>,
    /// The head's weight, `[C, F]`.
    pub head_weight: Vec<f32>,
    /// The head's bias, `[C]`.
    pub head_bias: Vec<f32>,
}

/// Where each parameter lies in the dense ones, matrices first: only these shrink.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) input: Range<usize>,
    pub(super) recurrent: Range<usize>,
    pub(super) projection: Range<usize>,
    pub(super) head_weight: Range<usize>,
    pub(super) bias: Range<usize>,
    pub(super) projection_bias: Range<usize>,
    pub(super) head_bias: Range<usize>,
}

impl Layout {
    pub(super) fn new(architecture: &Architecture, leaves: usize) -> Self {
        let gates = architecture.directions() * 4 * architecture.hidden;
        let projected = if architecture.projects() { architecture.states() } else { 0 };
        let mut end = 0;
        let mut next = |len: usize| {
            end += len;
            end - len..end
        };
        Self {
            input: next(gates * architecture.embedding),
            recurrent: next(gates * architecture.hidden),
            projection: next(projected * (architecture.states() + architecture.embedding)),
            head_weight: next(leaves * architecture.features()),
            bias: next(gates),
            projection_bias: next(projected),
            head_bias: next(leaves),
        }
    }

    /// Numbers that shrink.
    pub(super) fn decaying(&self) -> usize {
        self.head_weight.end
    }

    pub(super) fn total(&self) -> usize {
        self.head_bias.end
    }
}

/// Numbers, their gradient and its moments.
#[derive(Debug)]
pub(super) struct Learnt {
    pub(super) values: CudaSlice<f32>,
    pub(super) gradient: Buffer<f32>,
    /// None without AdamW.
    pub(super) moments: Option<[CudaSlice<f32>; 2]>,
}

impl Learnt {
    pub(super) fn new(cuda: &Cuda, values: &[f32], moments: bool) -> Result<Self, DeviceError> {
        let zeros = || cuda.stream.alloc_zeros(values.len());
        Ok(Self {
            values: cuda.stream.clone_htod(values)?,
            gradient: Buffer::default(),
            moments: if moments { Some([zeros()?, zeros()?]) } else { None },
        })
    }

    pub(super) fn set(&mut self, cuda: &Cuda, values: &[f32]) -> Result<(), DeviceError> {
        cuda.stream.memcpy_htod(values, &mut self.values)?;
        for moments in self.moments.iter_mut().flatten() {
            cuda.stream.memset_zeros(moments)?;
        }
        Ok(())
    }
}

/// The dense parameters as they lie on the device.
pub(super) fn flat(layout: &Layout, parameters: Parameters<'_>) -> Vec<f32> {
    let Parameters { lstm, projection, head_weight, head_bias, .. } = parameters;
    let mut flat = vec![0.0; layout.total()];
    for (at, numbers) in [
        (&layout.input, lstm.input),
        (&layout.recurrent, lstm.recurrent),
        (&layout.bias, lstm.bias),
        (&layout.projection, projection.weight),
        (&layout.projection_bias, projection.bias),
        (&layout.head_weight, head_weight),
        (&layout.head_bias, head_bias),
    ] {
        flat[at.clone()].copy_from_slice(numbers);
    }
    flat
}

/// The dense parameters, or their gradients, apart.
pub(super) struct Parts<T> {
    pub(super) lstm: LstmWeights<T>,
    pub(super) projection: ProjectionWeights<T>,
    pub(super) head_weight: T,
    pub(super) head_bias: T,
}

impl<T: for<'a> From<&'a [f32]>> Parts<T> {
    /// From the numbers as they lie on the device.
    pub(super) fn new(layout: &Layout, dense: &[f32]) -> Self {
        let part = |at: &Range<usize>| T::from(&dense[at.clone()]);
        Self {
            lstm: LstmWeights {
                input: part(&layout.input),
                recurrent: part(&layout.recurrent),
                bias: part(&layout.bias),
            },
            projection: ProjectionWeights {
                weight: part(&layout.projection),
                bias: part(&layout.projection_bias),
            },
            head_weight: part(&layout.head_weight),
            head_bias: part(&layout.head_bias),
        }
    }
}
