//! What happens in the cells of an LSTM between two products, for sixteen units of all texts of a step.
//!
//! ```text
//! i, f, o = sigmoid(a)     g = tanh(a)
//! c = f c' + i g           h = o tanh(c)             c' the cell before
//!
//! dc = dh o (1 - tanh(c)^2) + what flows back        dc' = dc f
//! da_i = dc g i (1 - i)    da_f = dc c' f (1 - f)    da_g = dc i (1 - g^2)    da_o = dh tanh(c) o (1 - o)
//! ```
//!
//! Gates come in two panels, `[rows, i 16 | f 16]` and `[rows, g 16 | o 16]`. What a unit has one number of comes in a panel
//! too, of which `units` says the half.

use std::ops::Range;

use super::{
    activation::{sigmoid, tanh},
    lanes::{Kernel, Lanes},
    panels::PANEL,
};

/// Units whose gates stand side by side.
pub(super) const UNITS: usize = 16;

/// Activates the gates in place, and makes the cells and states.
pub(super) struct CellForward<'a> {
    /// Columns of the panels below, 0..16 or 16..32.
    pub(super) units: Range<usize>,
    pub(super) gates_if: &'a mut [f32],
    pub(super) gates_go: &'a mut [f32],
    /// In: the cells before; out: the cells.
    pub(super) cells: &'a mut [f32],
    pub(super) cells_before: &'a mut [f32],
    pub(super) cell_tanh: &'a mut [f32],
    pub(super) states: &'a mut [f32],
}

impl Kernel for CellForward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let first = self.units.start;
        let (gates_if, gates_go) = (rows_mut(self.gates_if), rows_mut(self.gates_go));
        let (cells, before) = (rows_mut(self.cells), rows_mut(self.cells_before));
        let (cell_tanh, states) = (rows_mut(self.cell_tanh), rows_mut(self.states));
        let rows = gates_if.iter_mut().zip(gates_go).zip(cells).zip(before).zip(cell_tanh).zip(states);
        for (((((gates_if, gates_go), cells), before), cell_tanh), states) in rows {
            for at in (0..UNITS).step_by(L::WIDTH) {
                let (low, high) = (at..at + L::WIDTH, UNITS + at..UNITS + at + L::WIDTH);
                let unit = first + at..first + at + L::WIDTH;
                let i = sigmoid(L::load(&gates_if[low.clone()]));
                let f = sigmoid(L::load(&gates_if[high.clone()]));
                let g = tanh(L::load(&gates_go[low.clone()]));
                let o = sigmoid(L::load(&gates_go[high.clone()]));
                let c_before = L::load(&cells[unit.clone()]);
                let c = f.mul_add(c_before, i.mul(g));
                let c_tanh = tanh(c);
                i.store(&mut gates_if[low.clone()]);
                f.store(&mut gates_if[high.clone()]);
                g.store(&mut gates_go[low]);
                o.store(&mut gates_go[high]);
                c_before.store(&mut before[unit.clone()]);
                c.store(&mut cells[unit.clone()]);
                c_tanh.store(&mut cell_tanh[unit.clone()]);
                o.mul(c_tanh).store(&mut states[unit]);
            }
        }
    }
}

/// Activates the gates, makes the cells and states, and pools the states: for answers, which nothing is learnt from.
pub(super) struct CellPool<'a> {
    /// Columns of the panels below, 0..16 or 16..32.
    pub(super) units: Range<usize>,
    pub(super) gates_if: &'a [f32],
    pub(super) gates_go: &'a [f32],
    /// In: the cells before; out: the cells.
    pub(super) cells: &'a mut [f32],
    pub(super) states: &'a mut [f32],
    /// In: of the states before; out: with these.
    pub(super) sums: &'a mut [f32],
    /// In: of the states before; out: with these.
    pub(super) maxima: &'a mut [f32],
}

impl Kernel for CellPool<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let first = self.units.start;
        let (gates_if, gates_go) = (rows(self.gates_if), rows(self.gates_go));
        let (cells, states) = (rows_mut(self.cells), rows_mut(self.states));
        let (sums, maxima) = (rows_mut(self.sums), rows_mut(self.maxima));
        let rows = gates_if.iter().zip(gates_go).zip(cells).zip(states).zip(sums).zip(maxima);
        for (((((gates_if, gates_go), cells), states), sums), maxima) in rows {
            for at in (0..UNITS).step_by(L::WIDTH) {
                let (low, high) = (at..at + L::WIDTH, UNITS + at..UNITS + at + L::WIDTH);
                let unit = first + at..first + at + L::WIDTH;
                let i = sigmoid(L::load(&gates_if[low.clone()]));
                let f = sigmoid(L::load(&gates_if[high.clone()]));
                let g = tanh(L::load(&gates_go[low]));
                let o = sigmoid(L::load(&gates_go[high]));
                let c = f.mul_add(L::load(&cells[unit.clone()]), i.mul(g));
                let h = o.mul(tanh(c));
                c.store(&mut cells[unit.clone()]);
                h.store(&mut states[unit.clone()]);
                h.add(L::load(&sums[unit.clone()])).store(&mut sums[unit.clone()]);
                h.max(L::load(&maxima[unit.clone()])).store(&mut maxima[unit]);
            }
        }
    }
}

/// Makes the gradients of the gates before their functions.
pub(super) struct CellBackward<'a> {
    /// Columns of the panels below, 0..16 or 16..32.
    pub(super) units: Range<usize>,
    pub(super) gates_if: &'a [f32],
    pub(super) gates_go: &'a [f32],
    pub(super) cells_before: &'a [f32],
    pub(super) cell_tanh: &'a [f32],
    /// Of the states, from what uses them.
    pub(super) dstates: &'a [f32],
    /// Of the states, from the step read after.
    pub(super) dstate: &'a [f32],
    /// In: of the cells, from the step read after; out: of the cells before.
    pub(super) dcell: &'a mut [f32],
    pub(super) dgates_if: &'a mut [f32],
    pub(super) dgates_go: &'a mut [f32],
}

impl Kernel for CellBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let (first, one) = (self.units.start, L::splat(1.0));
        let (gates_if, gates_go) = (rows(self.gates_if), rows(self.gates_go));
        let (before, cell_tanh) = (rows(self.cells_before), rows(self.cell_tanh));
        let (dstates, dstate) = (rows(self.dstates), rows(self.dstate));
        let (dgates_if, dgates_go) = (rows_mut(self.dgates_if), rows_mut(self.dgates_go));
        let dcell = rows_mut(self.dcell);
        for row in 0..dcell.len() {
            for at in (0..UNITS).step_by(L::WIDTH) {
                let (low, high) = (at..at + L::WIDTH, UNITS + at..UNITS + at + L::WIDTH);
                let unit = first + at..first + at + L::WIDTH;
                let i = L::load(&gates_if[row][low.clone()]);
                let f = L::load(&gates_if[row][high.clone()]);
                let g = L::load(&gates_go[row][low.clone()]);
                let o = L::load(&gates_go[row][high.clone()]);
                let c_before = L::load(&before[row][unit.clone()]);
                let c_tanh = L::load(&cell_tanh[row][unit.clone()]);
                let dh = L::load(&dstates[row][unit.clone()]).add(L::load(&dstate[row][unit.clone()]));
                let through = one.sub(c_tanh.mul(c_tanh));
                let dc = dh.mul(o).mul_add(through, L::load(&dcell[row][unit.clone()]));
                dc.mul(g).mul(i.mul(one.sub(i))).store(&mut dgates_if[row][low.clone()]);
                dc.mul(c_before).mul(f.mul(one.sub(f))).store(&mut dgates_if[row][high.clone()]);
                dc.mul(i).mul(one.sub(g.mul(g))).store(&mut dgates_go[row][low]);
                dh.mul(c_tanh).mul(o.mul(one.sub(o))).store(&mut dgates_go[row][high]);
                dc.mul(f).store(&mut dcell[row][unit]);
            }
        }
    }
}

#[inline(always)]
fn rows(panel: &[f32]) -> &[[f32; PANEL]] {
    panel.as_chunks().0
}

#[inline(always)]
fn rows_mut(panel: &mut [f32]) -> &mut [[f32; PANEL]] {
    panel.as_chunks_mut().0
}

#[cfg(test)]
mod tests {
    use super::{super::lanes::on_each, *};

    /// By which the kinds of processor may differ: a few roundings of numbers around 1.
    const TOLERANCE: f32 = 2e-6;

    const ROWS: usize = 3;

    fn wave(phase: f32) -> Vec<f32> {
        (0..ROWS * PANEL).map(|i| (i as f32 * 0.7 + phase).sin()).collect()
    }

    /// Forward, then backward, for half of a panel.
    struct Both(Range<usize>);

    impl Kernel for Both {
        type Output = Vec<Vec<f32>>;

        #[inline(always)]
        fn run<L: Lanes>(self) -> Self::Output {
            let units = self.0;
            let (mut gates_if, mut gates_go, mut cells) = (wave(0.0), wave(1.0), wave(2.0));
            let [mut cells_before, mut cell_tanh, mut states] = [0; 3].map(|_| vec![0.0; ROWS * PANEL]);
            CellForward {
                units: units.clone(),
                gates_if: &mut gates_if,
                gates_go: &mut gates_go,
                cells: &mut cells,
                cells_before: &mut cells_before,
                cell_tanh: &mut cell_tanh,
                states: &mut states,
            }
            .run::<L>();
            let (mut dcell, [mut dgates_if, mut dgates_go]) =
                (wave(3.0), [0; 2].map(|_| vec![0.0; ROWS * PANEL]));
            CellBackward {
                units,
                gates_if: &gates_if,
                gates_go: &gates_go,
                cells_before: &cells_before,
                cell_tanh: &cell_tanh,
                dstates: &wave(4.0),
                dstate: &wave(5.0),
                dcell: &mut dcell,
                dgates_if: &mut dgates_if,
                dgates_go: &mut dgates_go,
            }
            .run::<L>();
            vec![gates_if, gates_go, cells, cells_before, cell_tanh, states, dcell, dgates_if, dgates_go]
        }
    }

    #[test]
    fn every_processor_gives_the_same_within_the_tolerance() {
        for half in [0..UNITS, UNITS..PANEL] {
            let each = on_each(|| Both(half.clone()));
            for other in &each[1..] {
                for (a, b) in other.concat().iter().zip(each[0].concat()) {
                    assert!((a - b).abs() < TOLERANCE, "{a} and {b}");
                }
            }
        }
    }
}
