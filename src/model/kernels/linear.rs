//! An affine map.
//!
//! ```text
//! y[m, n] = x[m, k] W^T + b[n]        W [n, k]
//! dx = dy W        dW = dy^T x        db = column sums of dy
//! ```

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use super::{
    matrix::{Operand, PackedMatrix, Threads, product},
    storage::{numbers, slice, stored, tensor},
};

/// An affine map with its weights ready for many products.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
    packed: Arc<PackedMatrix>,
}

impl Linear {
    /// From a weight `[n, k]` and a bias `[n]`.
    pub fn new(weight: Tensor, bias: Tensor) -> Result<Self> {
        let (n, k) = weight.dims2()?;
        let packed = Arc::new(PackedMatrix::transposed(&numbers(&weight)?, n, k));
        Ok(Self { weight, bias, packed })
    }

    /// Maps each row of `x`, `[m, k]`, to `[m, n]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.apply_op3(&self.weight, &self.bias, Affine(self.packed.clone()))
    }
}

struct Affine(Arc<PackedMatrix>);

impl CustomOp3 for Affine {
    fn name(&self) -> &'static str {
        "affine"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        _weight: &CpuStorage,
        _weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, bias) = (slice(x, x_layout)?, slice(bias, bias_layout)?);
        let rows = x_layout.shape().dims2()?.0;
        let mut y = bias.repeat(rows);
        self.0.add_product_shared(x, &mut y);
        stored(y, (rows, bias.len()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _bias: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let ((m, k), n) = (x.dims2()?, weight.dim(0)?);
        let dy = dy.contiguous()?;
        let (x, weight, dy) = (numbers(x)?, numbers(weight)?, numbers(&dy)?);
        let dx = product((m, k, n), Operand::Plain(&dy), Operand::Plain(&weight), Threads::All);
        let dw = product((n, k, m), Operand::Transposed(&dy), Operand::Plain(&x), Threads::All);
        let mut db = vec![0.0; n];
        for row in dy.chunks_exact(n) {
            db.iter_mut().zip(row).for_each(|(sum, g)| *sum += g);
        }
        Ok((Some(tensor(dx, (m, k))?), Some(tensor(dw, (n, k))?), Some(tensor(db, n)?)))
    }
}
