//! Tensors of candle as plain slices and back.

use std::ops::Deref;

use candle_core::{CpuStorage, Device, Layout, Result, Shape, Storage, Tensor, bail};

/// The numbers of a contiguous `f32` storage.
pub(super) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("the operand must be contiguous"),
    }
}

/// The numbers of a contiguous `f32` tensor on the processor, borrowed for as long as the answer lives.
pub(super) fn numbers(tensor: &Tensor) -> Result<impl Deref<Target = [f32]>> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => slice(cpu, layout)?,
        _ => bail!("the operand must be on the processor"),
    };
    Ok(Numbers { storage, layout })
}

struct Numbers<'a, S> {
    storage: S,
    layout: &'a Layout,
}

impl<S: Deref<Target = Storage>> Deref for Numbers<'_, S> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(cpu) => slice(cpu, self.layout).expect("checked when it was borrowed"),
            _ => unreachable!("checked when it was borrowed"),
        }
    }
}

/// Numbers as the result of an operation.
pub(super) fn stored(numbers: Vec<f32>, shape: impl Into<Shape>) -> Result<(CpuStorage, Shape)> {
    let shape = shape.into();
    if shape.elem_count() != numbers.len() {
        bail!("{} numbers do not fill {shape:?}", numbers.len());
    }
    Ok((CpuStorage::F32(numbers), shape))
}

/// Numbers as a tensor on the processor.
pub(super) fn tensor(numbers: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(numbers, shape, &Device::Cpu)
}
