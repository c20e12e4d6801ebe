//! Stochastic gradient descent as the classic recipe has it: a plain step, halved each epoch after the thirtieth.
//!
//! ```text
//! x = x - rate (scale g + decay x)          rate(epoch) = peak 0.5^max(0, epoch - 30)
//! ```

/// The last epoch, counted from 1, at the full rate.
const LAST_FULL_EPOCH: usize = 30;
/// What the rate is multiplied with for each epoch after that.
const DECAY: f64 = 0.5;

/// One update of all parameters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Descent {
    rate: f32,
    gradient_scale: f32,
}

impl Descent {
    /// An update at a rate, with all gradients scaled (by the clipping).
    pub(super) fn new(rate: f64, gradient_scale: f64) -> Self {
        Self { rate: rate as f32, gradient_scale: gradient_scale as f32 }
    }

    /// Updates a parameter that shrinks by `decay` times the rate.
    pub(super) fn dense(&self, values: &mut [f32], gradient: &[f32], decay: f32) {
        let (keep, step) = (1.0 - self.rate * decay, self.rate * self.gradient_scale);
        values.iter_mut().zip(gradient).for_each(|(x, g)| *x = keep * *x - step * g);
    }

    /// Updates the named rows of a table `[V, width]`; `gradient` holds these rows only.
    pub(super) fn rows(&self, table: &mut [f32], width: usize, rows: &[u32], gradient: &[f32]) {
        for (&row, gradient) in rows.iter().zip(gradient.chunks_exact(width)) {
            self.dense(&mut table[row as usize * width..][..width], gradient, 0.0);
        }
    }
}

/// The rate of a step, counted from 0.
pub(super) fn step_decay(step: usize, steps_per_epoch: usize, peak: f64) -> f64 {
    let epoch = step / steps_per_epoch.max(1) + 1;
    let halvings = epoch.saturating_sub(LAST_FULL_EPOCH);
    peak * DECAY.powi(i32::try_from(halvings).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_are_those_of_pytorch() {
        // import torch
        // x = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
        // o = torch.optim.SGD([x], lr=0.1, weight_decay=0.01)
        // for g in [[0.3, -0.2, 0.0], [-0.1, 0.4, 1e-3]]:
        //     x.grad = torch.tensor(g); o.step()
        // print(x.tolist())
        const EXPECTED: [f32; 3] = [0.978031, -2.016022, 0.4989005];
        let mut x = [1.0, -2.0, 0.5];
        for gradient in [[0.3, -0.2, 0.0], [-0.1, 0.4, 1e-3]] {
            Descent::new(0.1, 1.0).dense(&mut x, &gradient, 0.01);
        }
        for (x, expected) in x.iter().zip(EXPECTED) {
            assert!((x - expected).abs() < 1e-6, "{x}, expected {expected}");
        }
    }

    #[test]
    fn only_touched_rows_move_by_the_scaled_gradient() {
        let mut table = vec![1.0; 6];
        Descent::new(0.5, 0.5).rows(&mut table, 2, &[2], &[0.4, -0.8]);
        assert_eq!(table, [1.0, 1.0, 1.0, 1.0, 0.9, 1.2]);
    }

    #[test]
    fn the_rate_halves_each_epoch_after_the_thirtieth() {
        let rate = |epoch: usize| step_decay((epoch - 1) * 7 + 6, 7, 0.1);
        assert_eq!([1, 30, 31, 33].map(rate), [0.1, 0.1, 0.05, 0.0125]);
        assert_eq!(step_decay(30 * 7, 7, 0.1), 0.05);
        assert_eq!(rate(5000), 0.0);
    }
}
