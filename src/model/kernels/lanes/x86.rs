//! The lanes of AVX2 with FMA, and of AVX-512.
//!
//! The two types are private and named only in the functions that run a kernel, so that no value of them exists where the
//! processor lacks the instructions. Each `unsafe` in their implementation rests on that.

use std::arch::x86_64::*;

use super::{Kernel, Lanes};

/// Whether this processor has AVX2 and FMA.
pub(super) fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
}

/// Whether this processor has AVX-512F, and AVX-512BW for what is of 16 bits.
pub(super) fn has_avx512() -> bool {
    std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512bw")
}

/// Runs a kernel compiled for AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2>()
}

/// Runs a kernel compiled for AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx2,fma")]
pub(super) fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512>()
}

/// Asks for the cache lines of some numbers.
#[inline(always)]
pub(super) fn prefetch(numbers: &[f32]) {
    const LINE: usize = 16;
    for line in numbers.chunks(LINE) {
        // SAFETY: every x86-64 has the instruction, and it reads nothing that the program would see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
}

/// Lanes of one register, from the names of its instructions.
macro_rules! lanes {
    (
        $name:ident($register:ty), width $width:literal, tile rows $rows:literal,
        splat $splat:ident, load $load:ident, store $store:ident,
        load part $part_from:ident, $length:ident => $load_part:expr,
        store part $part_to:ident, $lanes:ident, $count:ident => $store_part:expr,
        add $add:ident, sub $sub:ident, mul $mul:ident,
        div $div:ident, sqrt $sqrt:ident, mul_add $mul_add:ident, min $min:ident, max $max:ident,
        round $x:ident => $round:expr, exp2_whole $n:ident => $exp2:expr,
        sums $sums:ty, no_sums $no_sums:ident, bytes $bytes:ident, widen $widen:ident, splat_pair $splat_pair:ident,
        multiply_pairs $multiply_pairs:ident, add_sums $add_sums:ident, from_sums $from_sums:ident
    ) => {
        #[derive(Clone, Copy)]
        struct $name($register);

        impl Lanes for $name {
            const WIDTH: usize = $width;
            const TILE_ROWS: usize = $rows;

            #[inline(always)]
            fn splat(x: f32) -> Self {
                // SAFETY: the instructions are there, see the module.
                Self(unsafe { $splat(x) })
            }

            #[inline(always)]
            fn load(from: &[f32]) -> Self {
                match from.first_chunk::<$width>() {
                    // SAFETY: the instructions are there, see the module; `full` has a readable number for each lane.
                    Some(full) => Self(unsafe { $load(full.as_ptr()) }),
                    None => {
                        let ($part_from, $length) = (from.as_ptr(), from.len());
                        // SAFETY: the instructions are there, see the module; only the lanes that `from` has are read.
                        Self(unsafe { $load_part })
                    }
                }
            }

            #[inline(always)]
            fn store(self, to: &mut [f32]) {
                match to.first_chunk_mut::<$width>() {
                    // SAFETY: the instructions are there, see the module; `full` has a writable place for each lane.
                    Some(full) => unsafe { $store(full.as_mut_ptr(), self.0) },
                    None => {
                        let ($part_to, $lanes, $count) = (to.as_mut_ptr(), self.0, to.len());
                        // SAFETY: the instructions are there, see the module; only the lanes that `to` has are written.
                        unsafe { $store_part }
                    }
                }
            }

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                // SAFETY: the instructions are there, see the module.
                Self(unsafe { $add(self.0, other.0) })
            }

            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                // SAFETY: the instructions are there, see the module.
                Self(unsafe { $sub(self.0, other.0) })
            }

            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                // SAFETY: the instructions are there, see the module.
                Self(unsafe { $mul(self.0, other.0) })
            }

            #[inline(always)]
            fn div(self, other: Self) -> Self {
                // SAFETY: the instructions are there, see the module.
                Self(unsafe { $div(self.0, other.0) })
            }

            #[inline(always)]
            fn sqrt(self) -> Self {
                // SAFETY: the instructions are there, see the module.
                Self(unsafe { $sqrt(self.0) })
            }

            #[inline(always)]
            fn mul_add(self, factor: Self, term: Self) -> Self {
                // SAFETY: the instructions are there, see the module.
                Self(unsafe { $mul_add(self.0, factor.0, term.0) })
            }

            #[inline(always)]
            fn min(self, other: Self) -> Self {
                // SAFETY: the instructions are there, see the module.
                Self(unsafe { $min(self.0, other.0) })
            }

            #[inline(always)]
            fn max(self, other: Self) -> Self {
                // SAFETY: the instructions are there, see the module.
                Self(unsafe { $max(self.0, other.0) })
            }

            #[inline(always)]
            fn round(self) -> Self {
                let $x = self.0;
                // SAFETY: the instructions are there, see the module.
                Self(unsafe { $round })
            }

            #[inline(always)]
            fn exp2_whole(self) -> Self {
                let $n = self.0;
                // SAFETY: the instructions are there, see the module.
                Self(unsafe { $exp2 })
            }

            type Sums = $sums;

            #[inline(always)]
            fn no_sums() -> Self::Sums {
                // SAFETY: the instructions are there, see the module.
                unsafe { $no_sums() }
            }

            #[inline(always)]
            fn add_pairs(sums: Self::Sums, bytes: &[i8], [even, odd]: [i16; 2]) -> Self::Sums {
                let bytes = &bytes[..2 * $width];
                let pair = i32::from(even as u16) | (i32::from(odd) << 16);
                // SAFETY: the instructions are there, see the module; two bytes for each lane are readable.
                unsafe {
                    let weights = $widen($bytes(bytes.as_ptr().cast()));
                    $add_sums(sums, $multiply_pairs(weights, $splat_pair(pair)))
                }
            }

            #[inline(always)]
            fn from_sums(sums: Self::Sums) -> Self {
                // SAFETY: the instructions are there, see the module.
                Self(unsafe { $from_sums(sums) })
            }
        }
    };
}

/// A mask of the first lanes of eight, fewer than all.
#[inline(always)]
fn first_of_eight(length: usize) -> __m256i {
    const LANES: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    let lanes = &LANES[8 - length..][..8];
    // SAFETY: named only where the instructions are, see the module; eight lanes are readable.
    unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
}

/// A mask of the first lanes of sixteen, fewer than all.
#[inline(always)]
fn first_of_sixteen(length: usize) -> __mmask16 {
    (1 << length) - 1
}

const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

lanes! {
    Avx2(__m256), width 8, tile rows 6,
    splat _mm256_set1_ps, load _mm256_loadu_ps, store _mm256_storeu_ps,
    load part from, length => _mm256_maskload_ps(from, first_of_eight(length)),
    store part to, lanes, length => _mm256_maskstore_ps(to, first_of_eight(length), lanes),
    add _mm256_add_ps, sub _mm256_sub_ps, mul _mm256_mul_ps, div _mm256_div_ps,
    sqrt _mm256_sqrt_ps, mul_add _mm256_fmadd_ps, min _mm256_min_ps, max _mm256_max_ps,
    round x => _mm256_round_ps::<NEAREST>(x),
    exp2_whole n => {
        let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
        _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
    },
    sums __m256i, no_sums _mm256_setzero_si256, bytes _mm_loadu_si128, widen _mm256_cvtepi8_epi16,
    splat_pair _mm256_set1_epi32, multiply_pairs _mm256_madd_epi16, add_sums _mm256_add_epi32,
    from_sums _mm256_cvtepi32_ps
}

lanes! {
    Avx512(__m512), width 16, tile rows 12,
    splat _mm512_set1_ps, load _mm512_loadu_ps, store _mm512_storeu_ps,
    load part from, length => _mm512_maskz_loadu_ps(first_of_sixteen(length), from),
    store part to, lanes, length => _mm512_mask_storeu_ps(to, first_of_sixteen(length), lanes),
    add _mm512_add_ps, sub _mm512_sub_ps, mul _mm512_mul_ps, div _mm512_div_ps,
    sqrt _mm512_sqrt_ps, mul_add _mm512_fmadd_ps, min _mm512_min_ps, max _mm512_max_ps,
    round x => _mm512_roundscale_ps::<NEAREST>(x),
    exp2_whole n => {
        let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
        _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
    },
    sums __m512i, no_sums _mm512_setzero_si512, bytes _mm256_loadu_si256, widen _mm512_cvtepi8_epi16,
    splat_pair _mm512_set1_epi32, multiply_pairs _mm512_madd_epi16, add_sums _mm512_add_epi32,
    from_sums _mm512_cvtepi32_ps
}
