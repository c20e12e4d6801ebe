//! Recurrent weights of eight bits, for networks that answer.
//!
//! ```text
//! w[k, j] ~ b[k, j] step[j] / 127        b in -127..=127, step[j] the largest |w[., j]|
//! h[k]    ~ s[k] / S                     s whole, |s| <= S
//! sums[m, j] += (sum over k of s[m, k] b[k, j]) step[j] / (127 S)
//! ```
//!
//! One text alone meets each weight once a step, so its pace is that of the memory the weights lie in: with a quarter of
//! the bytes it is up to four times as fast. States keep some 14 bits, so that nearly all that is lost is what the weights
//! lose. The sum over k is one of whole numbers and exact: S is such that it fits 32 bits whatever the weights are. So a text
//! gets the same to the bit alone and among others, and on every processor.

use std::ops::Range;

use super::{
    lanes::{Kernel, Lanes, dispatch},
    panels::{PANEL, Panels},
};

/// The largest weight, and with the other sign the smallest.
const LARGEST: f32 = 127.0;

/// Most rows of a tile. A tile is as wide as a panel: on AVX2 three rows of four registers, on AVX-512 six of two.
const TILE_ROWS: usize = 6;

/// A matrix `[rows, columns]` of bytes: `[columns / 32, rows / 2, 32, 2]`. A column has two rows side by side, which are
/// multiplied and added at a time.
#[derive(Debug)]
pub(super) struct RoundedPanels {
    bytes: Vec<i8>,
    /// What a sum of products is multiplied with, `[columns]`.
    factors: Vec<f32>,
    rows: usize,
    /// S.
    states_scale: f32,
}

/// States as whole numbers, `[texts, U / 2, 2]`.
#[derive(Debug)]
pub(super) struct RoundedStates {
    pairs: Vec<[i16; 2]>,
}

impl RoundedPanels {
    /// Rounds weights whose rows are even in number, and their columns a multiple of 32.
    pub(super) fn new(weights: &Panels) -> Self {
        let (rows, columns) = (weights.rows(), weights.columns());
        assert!(rows % 2 == 0 && columns % PANEL == 0, "rows come in pairs and columns in panels");
        let states_scale = (i32::MAX / (LARGEST as i32 * rows.max(1) as i32)).min(i32::from(i16::MAX)) as f32;
        let mut rounded =
            Self { bytes: vec![0; rows * columns], factors: vec![0.0; columns], rows, states_scale };
        let panels = rounded.bytes.chunks_exact_mut((rows * PANEL).max(1));
        for (panel, (bytes, factors)) in panels.zip(rounded.factors.chunks_exact_mut(PANEL)).enumerate() {
            let weights = weights.part(panel, 0..rows);
            for (column, factor) in factors.iter_mut().enumerate() {
                let of_column = || weights.iter().skip(column).step_by(PANEL);
                let largest = of_column().fold(0.0, |largest: f32, w| largest.max(w.abs()));
                if largest > 0.0 {
                    for (row, w) in of_column().enumerate() {
                        let byte = (w / largest * LARGEST).round() as i8;
                        bytes[row / 2 * 2 * PANEL + 2 * column + row % 2] = byte;
                    }
                }
                *factor = largest / (LARGEST * states_scale);
            }
        }
        rounded
    }

    /// Rows, padded as they came.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Two rows of a panel after the other, `[.., 32, 2]`.
    #[inline(always)]
    fn panel(&self, panel: usize) -> &[[i8; 2 * PANEL]] {
        self.bytes[panel * self.rows * PANEL..][..self.rows * PANEL].as_chunks().0
    }

    /// Rounds the states, in -1..=1, of the first `texts`.
    pub(super) fn round(&self, states: &Panels, texts: usize, to: &mut RoundedStates) {
        assert_eq!(states.columns(), self.rows, "the operands fit");
        let width = self.rows / 2;
        to.pairs.resize(texts * width, [0; 2]);
        for (text, pairs) in to.pairs.chunks_exact_mut(width.max(1)).enumerate() {
            for (panel, pairs) in pairs.chunks_mut(PANEL / 2).enumerate() {
                let states = states.part(panel, text..text + 1);
                // The conversion keeps what is out of range, which no state is, at the end of the range.
                let whole = |state: f32| (state * self.states_scale).round_ties_even() as i16;
                let from = states.as_chunks().0.iter();
                pairs
                    .iter_mut()
                    .zip(from)
                    .for_each(|(pair, states): (_, &[f32; 2])| *pair = states.map(whole));
            }
        }
    }
}

impl RoundedStates {
    /// None yet.
    pub(super) fn none() -> Self {
        Self { pairs: Vec::new() }
    }
}

/// Adds the product of the rounded states of some texts and some panels of weights. `sums` holds for each of these panels
/// `[texts, 32]`, and starts of successive panels lie `sums_stride` numbers apart.
pub(super) fn add_rounded_product(
    states: &RoundedStates,
    weights: &RoundedPanels,
    panels: Range<usize>,
    sums: &mut [f32],
    sums_stride: usize,
) {
    if !states.pairs.is_empty() && !panels.is_empty() {
        dispatch(RoundedProduct { states: &states.pairs, weights, panels, sums, sums_stride });
    }
}

struct RoundedProduct<'a> {
    states: &'a [[i16; 2]],
    weights: &'a RoundedPanels,
    panels: Range<usize>,
    sums: &'a mut [f32],
    sums_stride: usize,
}

impl Kernel for RoundedProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { states, weights, panels, sums, sums_stride } = self;
        let width = weights.rows / 2;
        let texts = states.len() / width;
        let most = TILE_ROWS.min(L::TILE_ROWS / 2);
        for (panel, sums) in panels.zip(sums.chunks_mut(sums_stride)) {
            let factors = &weights.factors[panel * PANEL..][..PANEL];
            let (bytes, mut first) = (weights.panel(panel), 0);
            while first < texts {
                let (states, sums) = (&states[first * width..], &mut sums[first * PANEL..]);
                first += match (texts - first).min(most) {
                    1 => tile::<L, 1>(states, bytes, factors, sums),
                    2 => tile::<L, 2>(states, bytes, factors, sums),
                    3..6 => tile::<L, 3>(states, bytes, factors, sums),
                    _ => tile::<L, 6>(states, bytes, factors, sums),
                };
            }
        }
    }
}

/// Adds the product of M texts and a panel. Returns M.
#[inline(always)]
fn tile<L: Lanes, const M: usize>(
    states: &[[i16; 2]],
    bytes: &[[i8; 2 * PANEL]],
    factors: &[f32],
    sums: &mut [f32],
) -> usize {
    /// Registers of the widest panel, on lanes of eight.
    const REGISTERS: usize = PANEL / 8;
    let registers = PANEL / L::WIDTH;
    let of_text: [&[[i16; 2]]; M] = std::array::from_fn(|text| &states[text * bytes.len()..][..bytes.len()]);
    let mut totals = [[L::no_sums(); REGISTERS]; M];
    for (pair, bytes) in bytes.iter().enumerate() {
        for register in 0..registers {
            let bytes = &bytes[register * 2 * L::WIDTH..][..2 * L::WIDTH];
            for (totals, states) in totals.iter_mut().zip(&of_text) {
                totals[register] = L::add_pairs(totals[register], bytes, states[pair]);
            }
        }
    }
    for (totals, sums) in totals.iter().zip(sums.chunks_exact_mut(PANEL)) {
        let columns = factors.chunks_exact(L::WIDTH).zip(sums.chunks_exact_mut(L::WIDTH));
        for (total, (factors, sums)) in totals.iter().zip(columns) {
            L::from_sums(*total).mul(L::load(factors)).add(L::load(sums)).store(sums);
        }
    }
    M
}

#[cfg(test)]
mod tests {
    use super::{super::lanes::on_each, *};

    fn wave(phase: f32, count: usize) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * 0.7 + phase).sin()).collect()
    }

    fn panels(numbers: &[f32], columns: usize) -> Panels {
        Panels::of_rows(numbers.len() / columns, columns, |row| &numbers[row * columns..][..columns])
    }

    struct Product<'a> {
        states: &'a RoundedStates,
        weights: &'a RoundedPanels,
        texts: usize,
    }

    impl Kernel for Product<'_> {
        type Output = Vec<f32>;

        #[inline(always)]
        fn run<L: Lanes>(self) -> Vec<f32> {
            let (states, weights, sums_stride) = (&self.states.pairs, self.weights, self.texts * PANEL);
            let mut sums = vec![0.5; weights.factors.len() * self.texts];
            let panels = 0..weights.factors.len() / PANEL;
            RoundedProduct { states, weights, panels, sums: &mut sums, sums_stride }.run::<L>();
            sums
        }
    }

    #[test]
    fn every_processor_gives_the_same_and_it_is_near() {
        let (rows, columns) = (48, 96);
        let (weights, states) = (wave(0.0, rows * columns), wave(1.0, 20 * rows));
        let rounded = RoundedPanels::new(&panels(&weights, columns));
        let mut of_texts = RoundedStates::none();
        for texts in 1..=20 {
            rounded.round(&panels(&states, rows), texts, &mut of_texts);
            let each = on_each(|| Product { states: &of_texts, weights: &rounded, texts });
            each.iter().for_each(|sums| assert_eq!(*sums, each[0]));
            for (at, sum) in each[0].iter().enumerate() {
                let (column, text) = (at / PANEL / texts * PANEL + at % PANEL, at / PANEL % texts);
                let terms = (0..rows).map(|k| states[text * rows + k] * weights[k * columns + column]);
                let exact = 0.5 + terms.sum::<f32>();
                assert!((sum - exact).abs() < 0.05, "text {text}, column {column}: {sum}, exact {exact}");
            }
        }
    }

    #[test]
    fn no_sum_leaves_its_bits() {
        // The largest weights and states there are, of one sign.
        for rows in [2, 256, 1008, 4096] {
            let rounded = RoundedPanels::new(&panels(&vec![3.0; rows * PANEL], PANEL));
            let mut states = RoundedStates::none();
            rounded.round(&panels(&vec![1.0; rows], rows), 1, &mut states);
            for sums in on_each(|| Product { states: &states, weights: &rounded, texts: 1 }) {
                let expected = 0.5 + 3.0 * rows as f32;
                sums.iter().for_each(|sum| assert!((sum / expected - 1.0).abs() < 1e-5, "{sum}, {expected}"));
            }
        }
    }

    #[test]
    fn a_column_of_zeros_adds_nothing() {
        let rounded = RoundedPanels::new(&Panels::zeros(16, PANEL));
        let mut states = RoundedStates::none();
        rounded.round(&panels(&wave(0.0, 16), 16), 1, &mut states);
        let mut sums = [0.25; PANEL];
        add_rounded_product(&states, &rounded, 0..1, &mut sums, PANEL);
        assert_eq!(sums, [0.25; PANEL]);
    }
}
