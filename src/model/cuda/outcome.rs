//! What a step came to, while the next one runs.

use cudarc::driver::{CudaEvent, CudaSlice, PinnedHostSlice};

use super::device::{Cuda, DeviceError, wait};

/// Numbers that a step comes to.
pub(super) const OUTCOME: usize = 4;

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOutcome {
    /// The loss before the update, in nats.
    pub loss: f64,
    /// Whether loss and gradients are numbers; nothing was updated if not.
    pub finite: bool,
    /// Texts of the batch.
    pub texts: usize,
}

/// What a step came to, on its way from the device.
#[derive(Debug)]
pub(super) struct Outcome {
    numbers: PinnedHostSlice<f32>,
    /// Recorded behind the copy. The memory has an event too, which is not, since tracking is off.
    arrived: CudaEvent,
}

impl Outcome {
    pub(super) fn new(cuda: &Cuda) -> Result<Self, DeviceError> {
        let context = cuda.stream.context();
        // SAFETY: it is read only after an outcome was written to all of it.
        let numbers = unsafe { context.alloc_pinned_with_flags(OUTCOME, 0) }?;
        Ok(Self { numbers, arrived: context.new_event(None)? })
    }

    pub(super) fn fetch(&mut self, cuda: &Cuda, from: &CudaSlice<f32>) -> Result<(), DeviceError> {
        cuda.stream.memcpy_dtoh(from, &mut self.numbers)?;
        Ok(self.arrived.record(&cuda.stream)?)
    }

    /// Waits for the numbers.
    pub(super) fn wait(&self) -> Result<[f32; OUTCOME], DeviceError> {
        wait(&self.arrived)?;
        let mut numbers = [0.0; OUTCOME];
        numbers.copy_from_slice(self.numbers.as_slice()?);
        Ok(numbers)
    }
}
