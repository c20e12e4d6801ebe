//! Which leaf is of which class, as the kernel of the loss reads it.

use cudarc::driver::CudaSlice;

use super::device::{Cuda, DeviceError};
use crate::model::kernels::ClassTargets;

/// Which leaf is of which class, on the device.
#[derive(Debug)]
pub(super) struct DeviceTargets {
    pub(super) class_of_leaf: CudaSlice<u32>,
    /// Where the leaves of each class begin, and the end; `[K + 1]`.
    pub(super) offsets: CudaSlice<u32>,
    /// Leaves, class after class.
    pub(super) leaves: CudaSlice<u32>,
    pub(super) classes: usize,
    pub(super) smoothing: f32,
}

impl DeviceTargets {
    pub(super) fn new(cuda: &Cuda, targets: &ClassTargets) -> Result<Self, DeviceError> {
        let class_of_leaf: Vec<u32> =
            targets.class_of_leaf.iter().map(|class| class.unwrap_or(u32::MAX)).collect();
        let (mut offsets, mut leaves) = (vec![0], Vec::new());
        for class in 0..targets.classes as u32 {
            let own = (0u32..).zip(&class_of_leaf).filter(|(_, of)| **of == class);
            leaves.extend(own.map(|(leaf, _)| leaf));
            offsets.push(leaves.len() as u32);
        }
        Ok(Self {
            class_of_leaf: cuda.stream.clone_htod(&class_of_leaf)?,
            offsets: cuda.stream.clone_htod(&offsets)?,
            leaves: cuda.stream.clone_htod(&leaves)?,
            classes: targets.classes,
            smoothing: targets.smoothing,
        })
    }
}
