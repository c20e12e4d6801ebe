//! Several `f32` at a time: sixteen on AVX-512, eight on AVX2 or on anything.
//!
//! A kernel is written once, over [`Lanes`], and compiled for each kind of processor; [`dispatch`] chooses when it runs.

#[cfg(target_arch = "x86_64")]
mod x86;

/// What is computed with on a processor whose vector instructions are not known.
pub const PORTABLE: &str = "no vector instructions that are known";

/// The vector instructions that kernels run on here.
pub fn instructions() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_avx512() {
            return "AVX-512";
        }
        if x86::has_avx2() {
            return "AVX2 and FMA";
        }
    }
    PORTABLE
}

/// Numbers that are computed with together. Operations are lane by lane.
pub(super) trait Lanes: Copy {
    /// Lanes: 8 or 16.
    const WIDTH: usize;
    /// Rows of a tile of a product, two registers wide, that fit the registers beside its operands.
    const TILE_ROWS: usize;
    /// The same number in every lane.
    fn splat(x: f32) -> Self;
    /// The first numbers of a slice, or all of a shorter one and zeros.
    fn load(from: &[f32]) -> Self;
    /// Writes the lanes to the first places of a slice, or as many as a shorter one has.
    fn store(self, to: &mut [f32]);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    fn sqrt(self) -> Self;
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
    /// As many whole numbers of 32 bits as there are lanes.
    type Sums: Copy;
    /// Zeros.
    fn no_sums() -> Self::Sums;
    /// Adds to each sum the products of its two of the first bytes of a slice, which must have them, and of two states: exactly,
    /// as long as no sum leaves its 32 bits.
    fn add_pairs(sums: Self::Sums, bytes: &[i8], states: [i16; 2]) -> Self::Sums;
    /// The nearest numbers.
    fn from_sums(sums: Self::Sums) -> Self;
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
    {
        if x86::has_avx512() {
            // SAFETY: the processor has AVX-512F, as just asked.
            return unsafe { x86::run_avx512(kernel) };
        }
        if x86::has_avx2() {
            // SAFETY: the processor has AVX2 and FMA, as just asked.
            return unsafe { x86::run_avx2(kernel) };
        }
    }
    kernel.run::<Portable>()
}

/// Asks the processor for numbers that will be read soon, where it can be asked.
#[inline(always)]
pub fn prefetch(numbers: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    x86::prefetch(numbers);
    #[cfg(not(target_arch = "x86_64"))]
    let _nobody_to_ask = numbers;
}

/// What a kernel gives on every kind of lanes that this processor has; the portable ones come first.
#[cfg(test)]
pub(super) fn on_each<K: Kernel>(kernel: impl Fn() -> K) -> Vec<K::Output> {
    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut))]
    let mut outputs = vec![kernel().run::<Portable>()];
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_avx2() {
            // SAFETY: the processor has AVX2 and FMA, as just asked.
            outputs.push(unsafe { x86::run_avx2(kernel()) });
        }
        if x86::has_avx512() {
            // SAFETY: the processor has AVX-512F, as just asked.
            outputs.push(unsafe { x86::run_avx512(kernel()) });
        }
    }
    outputs
}

/// Lanes of any processor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portable([f32; PORTABLE_WIDTH]);

const PORTABLE_WIDTH: usize = 8;

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Lanes for Portable {
    const WIDTH: usize = PORTABLE_WIDTH;
    const TILE_ROWS: usize = 6;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; PORTABLE_WIDTH])
    }

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let mut lanes = [0.0; PORTABLE_WIDTH];
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
    fn sqrt(self) -> Self {
        Self(self.0.map(f32::sqrt))
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

    type Sums = [i32; PORTABLE_WIDTH];

    #[inline(always)]
    fn no_sums() -> Self::Sums {
        [0; PORTABLE_WIDTH]
    }

    #[inline(always)]
    fn add_pairs(sums: Self::Sums, bytes: &[i8], states: [i16; 2]) -> Self::Sums {
        let [even, odd] = states.map(i32::from);
        std::array::from_fn(|lane| {
            let [first, second] = [bytes[2 * lane], bytes[2 * lane + 1]].map(i32::from);
            sums[lane] + first * even + second * odd
        })
    }

    #[inline(always)]
    fn from_sums(sums: Self::Sums) -> Self {
        Self(sums.map(|sum| sum as f32))
    }
}
