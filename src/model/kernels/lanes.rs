//! Eight `f32` at a time, on AVX2 or on anything.

/// Numbers in a [`Lanes`].
pub(super) const WIDTH: usize = 8;

/// Eight numbers that are computed with together. Operations are lane by lane.
pub(super) trait Lanes: Copy {
    /// The same number in every lane.
    fn splat(x: f32) -> Self;
    /// The first eight numbers of a slice, or all of a shorter one and zeros.
    fn load(from: &[f32]) -> Self;
    /// Writes the lanes to the first eight places of a slice, or as many as a shorter one has.
    fn store(self, to: &mut [f32]);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// `self * factor + term`, rounded once or twice.
    fn mul_add(self, factor: Self, term: Self) -> Self;
    /// The smaller, or `other` where either is a NaN.
    fn min(self, other: Self) -> Self;
    /// The larger, or `other` where either is a NaN.
    fn max(self, other: Self) -> Self;
    /// The nearest whole number, halves to the even one.
    fn round(self) -> Self;
    /// Two to the power of a whole number in -126..=127.
    fn exp2_whole(self) -> Self;
}

/// A computation written once over [`Lanes`]. `run` must be `#[inline(always)]`, or it is not compiled for the lanes'
/// instructions.
pub(super) trait Kernel {
    /// What it returns.
    type Output;
    /// Does it.
    fn run<L: Lanes>(self) -> Self::Output;
}

/// Runs a kernel on the widest instructions that this processor has.
#[inline]
pub(super) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        // SAFETY: the processor has AVX2 and FMA, as just asked.
        return unsafe { avx2::run(kernel) };
    }
    kernel.run::<Portable>()
}

/// Lanes of any processor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portable([f32; WIDTH]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Lanes for Portable {
    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; WIDTH])
    }

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let mut lanes = [0.0; WIDTH];
        match from.first_chunk() {
            Some(full) => lanes = *full,
            None => lanes[..from.len()].copy_from_slice(from),
        }
        Self(lanes)
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        match to.first_chunk_mut() {
            Some(full) => *full = self.0,
            None => to.copy_from_slice(&self.0[..to.len()]),
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        self.mul(factor).add(term)
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn round(self) -> Self {
        // Adding and taking away 1.5 * 2^23 leaves no room for a fraction; right below 2^22.
        const SHIFT: f32 = 12_582_912.0;
        Self(self.0.map(|x| (x + SHIFT) - SHIFT))
    }

    #[inline(always)]
    fn exp2_whole(self) -> Self {
        Self(self.0.map(|x| f32::from_bits(((x as i32 + 127) << 23) as u32)))
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    //! The lanes of AVX2 with FMA. Private, and named only below [`run`], so that no value of them exists where the
    //! processor lacks the instructions; each `unsafe` in the implementation rests on that.

    use std::arch::x86_64::*;

    use super::{Kernel, Lanes, WIDTH};

    /// Runs a kernel compiled for AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
        kernel.run::<Avx2>()
    }

    #[derive(Clone, Copy)]
    struct Avx2(__m256);

    impl Lanes for Avx2 {
        #[inline(always)]
        fn splat(x: f32) -> Self {
            // SAFETY: AVX2 is there, see the module.
            Self(unsafe { _mm256_set1_ps(x) })
        }

        #[inline(always)]
        fn load(from: &[f32]) -> Self {
            let mut short = [0.0; WIDTH];
            let full: &[f32; WIDTH] = match from.first_chunk() {
                Some(full) => full,
                None => {
                    short[..from.len()].copy_from_slice(from);
                    &short
                }
            };
            // SAFETY: AVX2 is there, see the module, and `full` is eight readable numbers.
            Self(unsafe { _mm256_loadu_ps(full.as_ptr()) })
        }

        #[inline(always)]
        fn store(self, to: &mut [f32]) {
            match to.first_chunk_mut::<WIDTH>() {
                // SAFETY: AVX2 is there, see the module, and `full` is eight writable numbers.
                Some(full) => unsafe { _mm256_storeu_ps(full.as_mut_ptr(), self.0) },
                None => {
                    let mut full = [0.0; WIDTH];
                    // SAFETY: as above.
                    unsafe { _mm256_storeu_ps(full.as_mut_ptr(), self.0) };
                    to.copy_from_slice(&full[..to.len()]);
                }
            }
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: AVX2 is there, see the module.
            Self(unsafe { _mm256_add_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            // SAFETY: AVX2 is there, see the module.
            Self(unsafe { _mm256_sub_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            // SAFETY: AVX2 is there, see the module.
            Self(unsafe { _mm256_mul_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn div(self, other: Self) -> Self {
            // SAFETY: AVX2 is there, see the module.
            Self(unsafe { _mm256_div_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn mul_add(self, factor: Self, term: Self) -> Self {
            // SAFETY: AVX2 and FMA are there, see the module.
            Self(unsafe { _mm256_fmadd_ps(self.0, factor.0, term.0) })
        }

        #[inline(always)]
        fn min(self, other: Self) -> Self {
            // SAFETY: AVX2 is there, see the module.
            Self(unsafe { _mm256_min_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn max(self, other: Self) -> Self {
            // SAFETY: AVX2 is there, see the module.
            Self(unsafe { _mm256_max_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn round(self) -> Self {
            const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
            // SAFETY: AVX2 is there, see the module.
            Self(unsafe { _mm256_round_ps::<NEAREST>(self.0) })
        }

        #[inline(always)]
        fn exp2_whole(self) -> Self {
            // SAFETY: AVX2 is there, see the module.
            Self(unsafe {
                let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
            })
        }
    }
}
