//! A step of AdamW (Loshchilov and Hutter 2019) in one pass.
//!
//! ```text
//! m = b1 m + (1 - b1) g        v = b2 v + (1 - b2) g^2
//! x = shrink x - rate m / (root sqrt(v) + eps)
//! ```

use super::lanes::{Kernel, Lanes, dispatch};

/// The factors of a step, the corrections of the running means among them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// b1.
    pub beta1: f32,
    /// b2.
    pub beta2: f32,
    /// eps.
    pub epsilon: f32,
    /// What gradients are multiplied with first.
    pub gradient_scale: f32,
    /// The learning rate, over `1 - b1^t`.
    pub rate: f32,
    /// One over the square root of `1 - b2^t`.
    pub root: f32,
    /// What parameters are multiplied with: 1 less the decay.
    pub shrink: f32,
}

impl AdamW {
    /// Updates parameters and the running means of their gradient and of its square, all as many.
    pub fn update(&self, values: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
        dispatch(Step { by: *self, values, gradient, first, second });
    }
}

struct Step<'a> {
    by: AdamW,
    values: &'a mut [f32],
    gradient: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

impl Kernel for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let AdamW { beta1, beta2, epsilon, gradient_scale, rate, root, shrink } = self.by;
        let [b1, b2, c1, c2] = [beta1, beta2, 1.0 - beta1, 1.0 - beta2].map(L::splat);
        let [epsilon, scale, rate, root, shrink] =
            [epsilon, gradient_scale, rate, root, shrink].map(L::splat);
        let parts = (self.values.chunks_mut(L::WIDTH).zip(self.gradient.chunks(L::WIDTH)))
            .zip(self.first.chunks_mut(L::WIDTH).zip(self.second.chunks_mut(L::WIDTH)));
        for ((values, gradient), (first, second)) in parts {
            let g = L::load(gradient).mul(scale);
            let m = L::load(first).mul_add(b1, c1.mul(g));
            let v = L::load(second).mul_add(b2, c2.mul(g).mul(g));
            let move_by = rate.mul(m).div(v.sqrt().mul_add(root, epsilon));
            L::load(values).mul(shrink).sub(move_by).store(values);
            m.store(first);
            v.store(second);
        }
    }
}
