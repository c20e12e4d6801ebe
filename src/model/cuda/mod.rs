//! Learning on a graphics processor: the deep branch, and the wide one.
//!
//! The same mathematics as [`super::kernels`] and [`super::gradients`], in CUDA C (`kernels/*.cu`) that is compiled for the
//! device when it is opened, with large products through cuBLAS. The driver and the libraries are looked for when the
//! daemon runs, so one binary serves with and without them, and building it needs no toolkit. Parameters, moments and
//! gradients stay on the device; a step sends it the batch and takes back two numbers.
//!
//! No sum depends on timing: the same device, libraries, batch and parameters give the same bytes. Against the processor
//! only the order of sums differs.

mod batch;
mod device;
mod launch;
mod learner;
mod lstm;
mod outcome;
mod parameters;
mod projection;
mod targets;
mod wide;

pub use batch::{Dropout, HostBatch, Masking, Occurrences};
pub use device::{Cuda, DeviceError};
pub use learner::{Learner, UpdateRule};
pub use outcome::StepOutcome;
pub use parameters::OwnedParameters;
pub use wide::{WideBatch, WideLearner};
