//! The products of a projection of states and token embeddings; the maximum is taken where states are pooled.

use cudarc::driver::{CudaView, CudaViewMut};

use super::{
    device::{Cuda, DeviceError},
    launch::Operand,
};

/// A projection of N tokens: states h `[N, S]` and embeddings x `[N, E]` to z `[N, S]`, before the bias.
pub(super) struct Projection<'a> {
    pub(super) cuda: &'a Cuda,
    /// `[S, S + E]`
    pub(super) weight: CudaView<'a, f32>,
    pub(super) tokens: usize,
    pub(super) states: usize,
    pub(super) embedding: usize,
}

impl Projection<'_> {
    /// Where each side begins in a row of the weight, and how wide it is.
    fn sides(&self) -> [(usize, usize); 2] {
        [(0, self.states), (self.states, self.embedding)]
    }

    /// Numbers of a row of the weight.
    fn stride(&self) -> usize {
        self.states + self.embedding
    }

    /// Writes z, of h and x.
    pub(super) fn forward(
        &self,
        sides: [&CudaView<'_, f32>; 2],
        z: &mut CudaViewMut<'_, f32>,
    ) -> Result<(), DeviceError> {
        for (side, (first, width)) in sides.into_iter().zip(self.sides()) {
            let weight = self.weight.slice(first..);
            let (side, weight) = (Operand::rows(side, width), Operand::columns(&weight, self.stride()));
            self.cuda.product([self.tokens, width, self.states], side, weight, z, self.states, first > 0)?;
        }
        Ok(())
    }

    /// From the gradient of z that of the weight; those of h and x are added to what they are.
    pub(super) fn backward(
        &self,
        sides: [&CudaView<'_, f32>; 2],
        dz: &CudaView<'_, f32>,
        dweight: &mut CudaViewMut<'_, f32>,
        dsides: [&mut CudaViewMut<'_, f32>; 2],
    ) -> Result<(), DeviceError> {
        let (tokens, states, stride) = (self.tokens, self.states, self.stride());
        for ((side, dside), (first, width)) in sides.into_iter().zip(dsides).zip(self.sides()) {
            let (turned, side) = (Operand::columns(dz, states), Operand::rows(side, width));
            let mut dweight = dweight.slice_mut(first..);
            self.cuda.product([states, tokens, width], turned, side, &mut dweight, stride, false)?;
            let of_side = self.weight.slice(first..);
            let (dz, of_side) = (Operand::rows(dz, states), Operand::rows(&of_side, stride));
            self.cuda.product([tokens, states, width], dz, of_side, dside, width, true)?;
        }
        Ok(())
    }
}
