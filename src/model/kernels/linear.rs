//! An affine map.
//!
//! ```text
//! y[m, n] = x[m, k] W^T + b[n]        W [n, k]
//! dx = dy W        dW = dy^T x        db = column sums of dy
//! ```

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use super::{
    panels::Panels,
    product::{columns_product, copy_row, product},
    storage::{numbers, slice, stored, tensor},
};

/// An affine map with its weights ready for many products.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
    panels: Arc<Panels>,
}

impl Linear {
    /// From a weight `[n, k]` and a bias `[n]`.
    ///
    /// # Errors
    /// If the weight is no matrix on the processor.
    pub fn new(weight: Tensor, bias: Tensor) -> Result<Self> {
        let (n, k) = weight.dims2()?;
        let panels = {
            let weight = numbers(&weight)?;
            let weight = &*weight;
            Arc::new(Panels::of_columns(k, n, |column| &weight[column * k..][..k]))
        };
        Ok(Self { weight, bias, panels })
    }

    /// Maps each row of `x`, `[m, k]`, to `[m, n]`.
    ///
    /// # Errors
    /// If `x` is of another width.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.apply_op3(&self.weight, &self.bias, Affine(self.panels.clone()))
    }
}

struct Affine(Arc<Panels>);

/// A row-major matrix with rows of a width.
fn rows(matrix: &[f32], width: usize) -> Panels {
    Panels::of_rows(matrix.len() / width, width, |row| &matrix[row * width..][..width])
}

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
        let (m, k) = x_layout.shape().dims2()?;
        if k != self.0.rows() {
            candle_core::bail!("rows of {k} do not fit an affine map of {}", self.0.rows());
        }
        let mut y = vec![0.0; m * bias.len()];
        product(&rows(x, k), &self.0, Some(bias), &mut y);
        stored(y, (m, bias.len()))
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
        let (dy_panels, weight) = (rows(&dy, n), rows(&weight, k));
        let (mut dx, mut dw, mut db) = (vec![0.0; m * k], vec![0.0; n * k], vec![0.0; n]);
        product(&dy_panels, &weight, None, &mut dx);
        let sums = columns_product(&[(&dy_panels, &rows(&x, k))]);
        dw.chunks_exact_mut(k).enumerate().for_each(|(row, dw)| copy_row(&sums, row, dw));
        for row in dy.chunks_exact(n) {
            db.iter_mut().zip(row).for_each(|(sum, g)| *sum += g);
        }
        Ok((Some(tensor(dx, (m, k))?), Some(tensor(dw, (n, k))?), Some(tensor(db, n)?)))
    }
}
