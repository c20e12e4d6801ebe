//! Sigmoid and hyperbolic tangent, several at a time.
//!
//! ```text
//! sigmoid(x) = 1 / (1 + exp(-x))        tanh(x) = 2 sigmoid(2x) - 1
//! exp(x)     = 2^n exp(r),  n = round(x / ln 2),  r = x - n ln 2
//! ```
//!
//! exp(r) is the polynomial of Cephes' `expf` (Moshier 1992). Absolute error of both functions, against `f64`: below
//! 2e-7 for the sigmoid and 4e-7 for the tangent, everywhere.

use super::lanes::Lanes;

/// Beyond these exp leaves the normal numbers; both functions are flat long before.
const EXP_MIN: f32 = -87.0;
const EXP_MAX: f32 = 87.0;

#[inline(always)]
fn exp<L: Lanes>(x: L) -> L {
    // ln 2 in two parts, so that n times the first is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const COEFFICIENTS: [f32; 6] =
        [1.987_569_2e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];

    // A NaN passes: where one operand is none, both functions give the second.
    let x = L::splat(EXP_MAX).min(L::splat(EXP_MIN).max(x));
    let n = x.mul(L::splat(std::f32::consts::LOG2_E)).round();
    let r = n.mul_add(L::splat(-LN2_LOW), n.mul_add(L::splat(-LN2_HIGH), x));
    let mut p = L::splat(COEFFICIENTS[0]);
    for &coefficient in &COEFFICIENTS[1..] {
        p = p.mul_add(r, L::splat(coefficient));
    }
    p.mul_add(r.mul(r), r).add(L::splat(1.0)).mul(n.exp2_whole())
}

/// 1 / (1 + exp(-x)).
#[inline(always)]
pub(super) fn sigmoid<L: Lanes>(x: L) -> L {
    let one = L::splat(1.0);
    one.div(one.add(exp(L::splat(0.0).sub(x))))
}

/// The hyperbolic tangent.
#[inline(always)]
pub(super) fn tanh<L: Lanes>(x: L) -> L {
    sigmoid(x.add(x)).mul_add(L::splat(2.0), L::splat(-1.0))
}

#[cfg(test)]
mod tests {
    use super::{
        super::lanes::{Kernel, on_each},
        *,
    };

    /// Sigmoids, then tangents, of numbers.
    struct Both<'a>(&'a [f32]);

    impl Kernel for Both<'_> {
        type Output = (Vec<f32>, Vec<f32>);

        #[inline(always)]
        fn run<L: Lanes>(self) -> Self::Output {
            let (mut s, mut t) = (vec![0.0; self.0.len()], vec![0.0; self.0.len()]);
            for (i, x) in self.0.chunks(L::WIDTH).enumerate() {
                sigmoid(L::load(x)).store(&mut s[i * L::WIDTH..]);
                tanh(L::load(x)).store(&mut t[i * L::WIDTH..]);
            }
            (s, t)
        }
    }

    #[test]
    fn errors_stay_below_what_is_promised_on_every_processor() {
        let mut xs: Vec<f32> = (-40_000..=40_000).map(|i| i as f32 * 5e-4).collect();
        xs.extend([-1e30, -300.0, -87.5, -44.0, 44.0, 87.5, 300.0, 1e30, f32::MIN_POSITIVE, 0.0, -0.0]);
        for (sigmoids, tangents) in on_each(|| Both(&xs)) {
            for ((&x, &s), &t) in xs.iter().zip(&sigmoids).zip(&tangents) {
                let x = f64::from(x);
                assert!((f64::from(s) - 1.0 / (1.0 + (-x).exp())).abs() < 2e-7, "sigmoid({x}) = {s}");
                assert!((f64::from(t) - x.tanh()).abs() < 4e-7, "tanh({x}) = {t}");
            }
        }
    }

    #[test]
    fn a_number_that_is_none_stays_visible() {
        // Clamping must not turn a NaN into a number, or a broken step would pass for a good one.
        for (sigmoids, tangents) in on_each(|| Both(&[f32::NAN, 1.0])) {
            assert!(sigmoids[0].is_nan() && tangents[0].is_nan());
        }
    }
}
