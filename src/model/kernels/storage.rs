//! Tensors of candle as plain slices.
//!
//! The kernels work on slices. candle holds the tensors of a network until they are ready for answers; none of its own
//! operations is used, as those on the processor wait for one another by spinning.

use std::ops::Deref;

use candle_core::{Layout, Result, Storage, Tensor, bail};

/// The numbers of a contiguous `f32` tensor on the processor, borrowed for as long as the answer lives.
pub(in crate::model) fn numbers(tensor: &Tensor) -> Result<impl Deref<Target = [f32]>> {
    let (storage, layout) = tensor.storage_and_layout();
    slice(&storage, layout)?;
    Ok(Numbers { storage, layout })
}

fn slice<'a>(storage: &'a Storage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (Storage::Cpu(cpu), Some((start, end))) => Ok(&cpu.as_slice::<f32>()?[start..end]),
        _ => bail!("the operand must be contiguous and on the processor"),
    }
}

struct Numbers<'a, S> {
    storage: S,
    layout: &'a Layout,
}

impl<S: Deref<Target = Storage>> Deref for Numbers<'_, S> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        slice(&self.storage, self.layout).expect("checked when it was borrowed")
    }
}
