//! An affine map.
//!
//! ```text
//! y[m, n] = x[m, k] W^T + b[n]        W [n, k]
//! dx = dy W        dW = dy^T x        db = column sums of dy
//! ```

use std::sync::Arc;

use candle_core::{Device, Result, Tensor, bail};
use candle_nn::Module;

use super::{
    buffer::Buffer,
    panels::Panels,
    product::{columns_product, copy_row, product, product_here},
    storage::numbers,
};

/// An affine map with its weights ready for many products.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[k, n]`
    weight: Arc<Panels>,
    /// `[n]`
    bias: Vec<f32>,
}

/// The gradients of an affine map.
#[derive(Debug)]
pub struct LinearGradients {
    /// Of x, `[m, k]`.
    pub x: Buffer,
    /// Of W, `[n, k]`.
    pub weight: Buffer,
    /// Of b, `[n]`.
    pub bias: Buffer,
}

/// As candle's own layers are called.
impl Module for Linear {
    /// Maps each row of `x`, `[m, k]`, to `[m, n]`, on the caller's thread.
    ///
    /// # Errors
    /// If `x` is of another width, or is not on the processor.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (m, k) = x.dims2()?;
        if k != self.weight.rows() {
            bail!("rows of {k} do not fit an affine map of {}", self.weight.rows());
        }
        Tensor::from_vec(self.map_here(&numbers(x)?), (m, self.bias.len()), &Device::Cpu)
    }
}

impl Linear {
    /// From tensors `[n, k]` and `[n]`.
    ///
    /// # Errors
    /// If the two do not fit, or are not on the processor.
    pub fn new(weight: Tensor, bias: Tensor) -> Result<Self> {
        if weight.dims2()?.0 != bias.dims1()? {
            bail!("a bias {:?} does not fit a weight {:?}", bias.shape(), weight.shape());
        }
        Ok(Self::from_slices(&numbers(&weight)?, &numbers(&bias)?))
    }

    /// From numbers `[n, k]` and `[n]`.
    pub fn from_slices(weight: &[f32], bias: &[f32]) -> Self {
        let k = weight.len() / bias.len();
        let weight = Panels::of_columns(k, bias.len(), |column| &weight[column * k..][..k]);
        Self { weight: Arc::new(weight), bias: bias.to_vec() }
    }

    /// Maps each row of `x`, `[m, k]`, to `[m, n]`.
    pub fn map(&self, x: &[f32]) -> Vec<f32> {
        Inputs::new(x, self.weight.rows()).map(self)
    }

    /// As [`Linear::map`], on the caller's thread.
    pub fn map_here(&self, x: &[f32]) -> Vec<f32> {
        let x = rows(x, self.weight.rows());
        let mut y = vec![0.0; x.rows() * self.bias.len()];
        product_here(&x, &self.weight, &self.bias, &mut y);
        y
    }

    /// The gradients from that of `y`, `[m, n]`; `weight` is that of which the map was made.
    pub fn backward(&self, x: &[f32], weight: &[f32], dy: &[f32]) -> LinearGradients {
        let (k, n) = (self.weight.rows(), self.bias.len());
        let mut gradients = LinearGradients {
            x: Buffer::stale(x.len()),
            weight: Buffer::stale(n * k),
            bias: Buffer::stale(n),
        };
        product(&rows(dy, n), &rows(weight, k), &[], &mut gradients.x);
        Inputs::new(x, k).gradients(dy, &mut gradients.weight, &mut gradients.bias);
        gradients
    }
}

/// Rows that many affine maps are tried on.
#[derive(Debug)]
pub struct Inputs(Panels);

impl Inputs {
    /// From numbers `[m, k]`.
    pub fn new(x: &[f32], k: usize) -> Self {
        Self(rows(x, k))
    }

    /// What a map makes of them, `[m, n]`.
    pub fn map(&self, map: &Linear) -> Vec<f32> {
        let mut y = vec![0.0; self.0.rows() * map.bias.len()];
        product(&self.0, &map.weight, &map.bias, &mut y);
        y
    }

    /// The gradients of a map's weight, `[n, k]`, and bias, `[n]`, from that of what it made of them, `[m, n]`.
    pub fn gradients(&self, dy: &[f32], weight: &mut [f32], bias: &mut [f32]) {
        // The columns of the left operand are shared among threads, and x has more than dy.
        let sums = columns_product(&[(&self.0, &rows(dy, bias.len()))]);
        let (k, mut column) = (self.0.columns(), vec![0.0; bias.len()]);
        for feature in 0..k {
            copy_row(&sums, feature, &mut column);
            weight[feature..].iter_mut().step_by(k).zip(&column).for_each(|(dw, sum)| *dw = *sum);
        }
        bias.fill(0.0);
        for row in dy.chunks_exact(bias.len()) {
            bias.iter_mut().zip(row).for_each(|(sum, g)| *sum += g);
        }
    }
}

/// A row-major matrix with rows of a width.
fn rows(matrix: &[f32], width: usize) -> Panels {
    Panels::of_rows(matrix.len() / width, width, |row| &matrix[row * width..][..width])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_maps_as_the_layer_of_candle_does() {
        let tensor = |shape: (usize, usize), step: f32| {
            let numbers = (0..shape.0 * shape.1).map(|at| (at as f32 * step).sin()).collect();
            Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()
        };
        let (weight, bias) = (tensor((19, 7), 0.3), tensor((1, 19), 0.7).squeeze(0).unwrap());
        let x = tensor((5, 7), 1.1);
        let theirs = candle_nn::Linear::new(weight.clone(), Some(bias.clone())).forward(&x).unwrap();
        let ours = Linear::new(weight, bias).unwrap();
        let mapped = ours.forward(&x).unwrap();
        assert_eq!(mapped.dims(), [5, 19]);
        let away = (mapped - theirs).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(away < 1e-5, "{away}");
        assert!(ours.forward(&tensor((5, 8), 1.0)).is_err());
    }
}
