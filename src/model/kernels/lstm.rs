//! Long short-term memory over packed texts, in one or two directions, with back-propagation through time.
//!
//! ```text
//! a[t] = x[t] W_ih^T + b + h[t-1] W_hh^T             gates i, f, g, o side by side, [4H]
//! i, f, o = sigmoid(a)     g = tanh(a)
//! c[t] = f c[t-1] + i g    h[t] = o tanh(c[t])
//! ```
//!
//! The first part of a[t] is one product over all packed tokens and comes in as `projections`, `[N, D*4H]`; here is
//! what is sequential. In the packed order the texts that run at a step are the first ones, so the state before is a
//! prefix of rows, and no step is spent on padding. The weight gradient is one product over all steps.
//!
//! Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000. Gate order and results are those of PyTorch.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::{
    activation::{sigmoid, tanh},
    lanes::{Kernel, Lanes, WIDTH, dispatch},
    matrix::{Operand, PackedMatrix, Threads, product},
    storage::{numbers, slice, stored, tensor},
};
use crate::text::Packing;

/// Which ways the texts are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directions {
    /// From the first token to the last.
    Forward,
    /// From the last token to the first.
    Backward,
    /// Both, by two sets of weights; their states stand side by side.
    Both,
}

/// The recurrent weights, ready for many steps.
#[derive(Debug, Clone)]
pub struct Lstm {
    weight: Tensor,
    packed: Arc<Vec<PackedMatrix>>,
    directions: Directions,
}

impl Lstm {
    /// From weights `[D, 4H, H]`.
    pub fn new(weight: Tensor, directions: Directions) -> Result<Self> {
        let (d, gates, hidden) = weight.dims3()?;
        if d != directions.reversed().len() || gates != 4 * hidden {
            bail!("recurrent weights of shape {:?} do not fit {directions:?}", weight.shape());
        }
        let packed = numbers(&weight)?
            .chunks_exact(gates * hidden)
            .map(|weight| PackedMatrix::transposed(weight, gates, hidden))
            .collect();
        Ok(Self { weight, packed: Arc::new(packed), directions })
    }

    /// The states `[N, D*H]` for projections `[N, D*4H]`.
    pub fn forward(&self, projections: &Tensor, packing: &Arc<Packing>) -> Result<Tensor> {
        let op = Recurrence {
            packed: self.packed.clone(),
            packing: packing.clone(),
            directions: self.directions,
            tracked: projections.track_op() || self.weight.track_op(),
            traces: Mutex::default(),
        };
        projections.apply_op2(&self.weight, op)
    }
}

impl Directions {
    /// For each direction, whether it reads from the end.
    fn reversed(self) -> &'static [bool] {
        match self {
            Self::Forward => &[false],
            Self::Backward => &[true],
            Self::Both => &[false, true],
        }
    }
}

struct Recurrence {
    packed: Arc<Vec<PackedMatrix>>,
    packing: Arc<Packing>,
    directions: Directions,
    /// Whether a gradient may be asked for, so that the activations must be kept.
    tracked: bool,
    traces: Mutex<Vec<Trace>>,
}

/// The activations of one direction.
struct Trace {
    /// After their functions, `[N, 4H]`.
    gates: Vec<f32>,
    /// `[N, H]`
    cells: Vec<f32>,
    /// tanh of the cells, `[N, H]`.
    cell_tanh: Vec<f32>,
    /// h, `[N, H]`.
    states: Vec<f32>,
}

/// One direction over one batch.
#[derive(Clone, Copy)]
struct Direction<'a> {
    packing: &'a Packing,
    hidden: usize,
    reversed: bool,
}

impl Direction<'_> {
    /// Steps in the order they are read: the rows of each, and as many rows of the step read before it, which hold the
    /// state its first texts come with.
    fn steps(&self) -> Vec<(Range<usize>, Range<usize>)> {
        let starts = &self.packing.starts;
        let rows = |step: usize| starts[step]..starts[step + 1];
        let steps = self.packing.steps();
        (0..steps)
            .map(|read| if self.reversed { steps - 1 - read } else { read })
            .map(|step| {
                let here = rows(step);
                let before = if self.reversed { step + 1 } else { step.wrapping_sub(1) };
                let before = if before < steps { rows(before) } else { 0..0 };
                (here.clone(), before.start..before.start + before.len().min(here.len()))
            })
            .collect()
    }

    /// Runs the recurrence over gates that hold the projections.
    fn forward(&self, gates: Vec<f32>, weight: &PackedMatrix) -> Trace {
        let hidden = self.hidden;
        let zeros = vec![0.0; gates.len() / 4];
        let mut trace = Trace { gates, cells: zeros.clone(), cell_tanh: zeros.clone(), states: zeros };
        let mut cells_before = Vec::new();
        for (here, before) in self.steps() {
            let wide = |rows: &Range<usize>, width: usize| rows.start * width..rows.end * width;
            let gates = &mut trace.gates[wide(&here, 4 * hidden)];
            weight.add_product(&trace.states[wide(&before, hidden)], &mut gates[..before.len() * 4 * hidden]);
            cells_before.clear();
            cells_before.extend_from_slice(&trace.cells[wide(&before, hidden)]);
            cells_before.resize(here.len() * hidden, 0.0);
            let here = wide(&here, hidden);
            dispatch(CellForward {
                hidden,
                gates,
                cells_before: &cells_before,
                cells: &mut trace.cells[here.clone()],
                cell_tanh: &mut trace.cell_tanh[here.clone()],
                states: &mut trace.states[here],
            });
        }
        trace
    }

    /// Gradients of the projections, `[N, 4H]`, and of the weight, `[4H, H]`, from that of the states, `[N, H]`.
    fn backward(
        &self,
        trace: &Trace,
        weight: &[f32],
        dstates: &[f32],
        threads: Threads,
    ) -> (Vec<f32>, Vec<f32>) {
        let (hidden, tokens) = (self.hidden, self.packing.tokens());
        let weight = PackedMatrix::plain(weight, 4 * hidden, hidden);
        let mut dgates = vec![0.0; tokens * 4 * hidden];
        // The state each row came with, `[N, H]`.
        let mut states_before = vec![0.0; tokens * hidden];
        // What flows back from the step read after, by rank.
        let mut dstate = vec![0.0; self.packing.texts() * hidden];
        let mut dcell = dstate.clone();
        let mut cells_before = Vec::new();
        for (here, before) in self.steps().into_iter().rev() {
            let wide = |rows: &Range<usize>, width: usize| rows.start * width..rows.end * width;
            let (carried, running) = (wide(&(0..before.len()), hidden), wide(&(0..here.len()), hidden));
            cells_before.clear();
            cells_before.extend_from_slice(&trace.cells[wide(&before, hidden)]);
            cells_before.resize(running.len(), 0.0);
            let rows = wide(&here, hidden);
            states_before[rows.start..][..carried.len()]
                .copy_from_slice(&trace.states[wide(&before, hidden)]);
            let dgates = &mut dgates[wide(&here, 4 * hidden)];
            dispatch(CellBackward {
                hidden,
                gates: &trace.gates[wide(&here, 4 * hidden)],
                cells_before: &cells_before,
                cell_tanh: &trace.cell_tanh[rows.clone()],
                dstates: &dstates[rows],
                dstate: &mut dstate[running.clone()],
                dcell: &mut dcell[running.clone()],
                dgates,
            });
            dstate[running].fill(0.0);
            weight.add_product(&dgates[..before.len() * 4 * hidden], &mut dstate[carried]);
        }
        let dweight = product(
            (4 * hidden, hidden, tokens),
            Operand::Transposed(&dgates),
            Operand::Plain(&states_before),
            threads,
        );
        (dgates, dweight)
    }
}

impl Recurrence {
    fn direction(&self, index: usize, hidden: usize) -> Direction<'_> {
        Direction { packing: &self.packing, hidden, reversed: self.directions.reversed()[index] }
    }
}

/// Applies a function to the index of each direction; two directions run on two threads.
fn each_direction<T: Send>(directions: Directions, f: impl Fn(usize, Threads) -> T + Sync) -> Vec<T> {
    match directions {
        Directions::Forward | Directions::Backward => vec![f(0, Threads::All)],
        Directions::Both => {
            let (first, second) = rayon::join(|| f(0, Threads::One), || f(1, Threads::One));
            vec![first, second]
        }
    }
}

/// Columns `index * width ..` of a matrix with `columns` of them.
fn take_columns(matrix: &[f32], columns: usize, index: usize, width: usize) -> Vec<f32> {
    matrix.chunks_exact(columns).flat_map(|row| &row[index * width..][..width]).copied().collect()
}

/// Matrices of equal width side by side.
fn side_by_side(parts: &[&[f32]], width: usize) -> Vec<f32> {
    if let [only] = parts {
        return only.to_vec();
    }
    let mut joined = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
    for row in 0..parts[0].len() / width {
        parts.iter().for_each(|part| joined.extend_from_slice(&part[row * width..][..width]));
    }
    joined
}

impl CustomOp2 for Recurrence {
    fn name(&self) -> &'static str {
        "lstm"
    }

    fn cpu_fwd(
        &self,
        projections: &CpuStorage,
        projections_layout: &Layout,
        _weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (directions, gates, hidden) = weight_layout.shape().dims3()?;
        let (tokens, columns) = projections_layout.shape().dims2()?;
        if tokens != self.packing.tokens() || columns != directions * gates {
            bail!("projections [{tokens}, {columns}] do not fit the batch and the weights");
        }
        let projections = slice(projections, projections_layout)?;
        let traces = each_direction(self.directions, |index, _| {
            let gates = take_columns(projections, columns, index, gates);
            self.direction(index, hidden).forward(gates, &self.packed[index])
        });
        let states: Vec<&[f32]> = traces.iter().map(|trace| &*trace.states).collect();
        let states = side_by_side(&states, hidden);
        if self.tracked {
            *self.traces.lock().unwrap_or_else(PoisonError::into_inner) = traces;
        }
        stored(states, (tokens, directions * hidden))
    }

    fn bwd(
        &self,
        projections: &Tensor,
        weight: &Tensor,
        _states: &Tensor,
        dstates: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (directions, gates, hidden) = weight.dims3()?;
        let dstates = dstates.contiguous()?;
        let (weights, dstates) = (numbers(weight)?, numbers(&dstates)?);
        let (weights, dstates) = (&*weights, &*dstates);
        let traces = self.traces.lock().unwrap_or_else(PoisonError::into_inner);
        let traces: &[Trace] = &traces;
        if traces.len() != directions {
            bail!("the activations were not kept");
        }
        let gradients = each_direction(self.directions, |index, threads| {
            let weight = &weights[index * gates * hidden..][..gates * hidden];
            let dstates = take_columns(dstates, directions * hidden, index, hidden);
            self.direction(index, hidden).backward(&traces[index], weight, &dstates, threads)
        });
        let dprojections: Vec<&[f32]> = gradients.iter().map(|(dgates, _)| &**dgates).collect();
        let dprojections = side_by_side(&dprojections, gates);
        let dweight: Vec<f32> = gradients.into_iter().flat_map(|(_, dweight)| dweight).collect();
        Ok((
            Some(tensor(dprojections, projections.shape())?),
            Some(tensor(dweight, (directions, gates, hidden))?),
        ))
    }
}

/// Gates (in: before their functions, out: after), cells and states of the texts of one step.
struct CellForward<'a> {
    hidden: usize,
    gates: &'a mut [f32],
    cells_before: &'a [f32],
    cells: &'a mut [f32],
    cell_tanh: &'a mut [f32],
    states: &'a mut [f32],
}

impl Kernel for CellForward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let hidden = self.hidden;
        for (text, gates) in self.gates.chunks_exact_mut(4 * hidden).enumerate() {
            let row = text * hidden..(text + 1) * hidden;
            let (input, rest) = gates.split_at_mut(hidden);
            let (forget, rest) = rest.split_at_mut(hidden);
            let (cell, output) = rest.split_at_mut(hidden);
            let before = &self.cells_before[row.clone()];
            let (cells, cell_tanh, states) =
                (&mut self.cells[row.clone()], &mut self.cell_tanh[row.clone()], &mut self.states[row]);
            for at in (0..hidden).step_by(WIDTH) {
                let here = at..hidden.min(at + WIDTH);
                let i = sigmoid(L::load(&input[here.clone()]));
                let f = sigmoid(L::load(&forget[here.clone()]));
                let g = tanh(L::load(&cell[here.clone()]));
                let o = sigmoid(L::load(&output[here.clone()]));
                let c = f.mul_add(L::load(&before[here.clone()]), i.mul(g));
                let c_tanh = tanh(c);
                i.store(&mut input[here.clone()]);
                f.store(&mut forget[here.clone()]);
                g.store(&mut cell[here.clone()]);
                o.store(&mut output[here.clone()]);
                c.store(&mut cells[here.clone()]);
                c_tanh.store(&mut cell_tanh[here.clone()]);
                o.mul(c_tanh).store(&mut states[here]);
            }
        }
    }
}

/// Gradients through the texts of one step. `dstate` and `dcell` hold what flows back from the step read after; `dcell`
/// then holds what flows on.
struct CellBackward<'a> {
    hidden: usize,
    gates: &'a [f32],
    cells_before: &'a [f32],
    cell_tanh: &'a [f32],
    dstates: &'a [f32],
    dstate: &'a mut [f32],
    dcell: &'a mut [f32],
    dgates: &'a mut [f32],
}

impl Kernel for CellBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let (hidden, one) = (self.hidden, L::splat(1.0));
        let rows = self.gates.chunks_exact(4 * hidden).zip(self.dgates.chunks_exact_mut(4 * hidden));
        for (text, (gates, dgates)) in rows.enumerate() {
            let row = text * hidden;
            for at in (0..hidden).step_by(WIDTH) {
                let end = hidden.min(at + WIDTH);
                let here = row + at..row + end;
                let gate = |index: usize| L::load(&gates[index * hidden + at..index * hidden + end]);
                let (i, f, g, o) = (gate(0), gate(1), gate(2), gate(3));
                let c_tanh = L::load(&self.cell_tanh[here.clone()]);
                let dh = L::load(&self.dstates[here.clone()]).add(L::load(&self.dstate[here.clone()]));
                let through = one.sub(c_tanh.mul(c_tanh));
                let dc = dh.mul(o).mul_add(through, L::load(&self.dcell[here.clone()]));
                let mut dgate = |index: usize, gradient: L| {
                    gradient.store(&mut dgates[index * hidden + at..index * hidden + end]);
                };
                dgate(0, dc.mul(g).mul(i.mul(one.sub(i))));
                dgate(1, dc.mul(L::load(&self.cells_before[here.clone()])).mul(f.mul(one.sub(f))));
                dgate(2, dc.mul(i).mul(one.sub(g.mul(g))));
                dgate(3, dh.mul(c_tanh).mul(o.mul(one.sub(o))));
                dc.mul(f).store(&mut self.dcell[here]);
            }
        }
    }
}
