//! Long short-term memory over packed texts, in one or two directions, with back-propagation through time.
//!
//! ```text
//! a[t] = W_ih x[t] + b + W_hh h[t-1]                 gates i, f, g, o, [4H]
//! i, f, o = sigmoid(a)     g = tanh(a)
//! c[t] = f c[t-1] + i g    h[t] = o tanh(c[t])
//! ```
//!
//! In the packed order the texts that run at a step are the first ones, so the state before is a prefix of rows, and no
//! step is spent on padding. The products with the tokens, and the gradients of the weights, are products over all steps.
//! What is sequential is in [`recurrence`](super::recurrence).
//!
//! Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000. Gate order and results are those of PyTorch.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::{
    panels::Panels,
    product::{columns_product, copy_row, pays},
    recurrence::{
        self, BackwardWeights, ForwardWeights, GateRows, Gradients, Shard, Trace, column, gate_sums,
    },
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

/// An LSTM with its weights ready for many steps.
#[derive(Debug, Clone)]
pub struct Lstm {
    /// All weights, as [`Dimensions`] cuts them.
    weights: Tensor,
    forward: Arc<Vec<ForwardWeights>>,
    directions: Directions,
    dimensions: Dimensions,
}

impl Lstm {
    /// From the weights `[D, 4H, E]` of the tokens, `[D, 4H, H]` of the states before, and the biases `[D, 4H]`.
    ///
    /// # Errors
    /// If the shapes do not fit one another or the directions.
    pub fn new(input: &Tensor, recurrent: &Tensor, bias: &Tensor, directions: Directions) -> Result<Self> {
        let (d, gates, hidden) = recurrent.dims3()?;
        let dimensions = Dimensions { directions: d, hidden, embedding: input.dim(2)? };
        if d != directions.reversed().len()
            || gates != 4 * hidden
            || input.dims3()? != (d, gates, dimensions.embedding)
            || bias.dims2()? != (d, gates)
        {
            bail!(
                "weights of shapes {:?}, {:?} and {:?} do not fit one another and {directions:?}",
                input.shape(),
                recurrent.shape(),
                bias.shape()
            );
        }
        // A custom operation takes three operands at most, so the weights are one.
        let weights = Tensor::cat(&[input.flatten_all()?, recurrent.flatten_all()?, bias.flatten_all()?], 0)?;
        let forward = {
            let weights = numbers(&weights)?;
            (0..d)
                .map(|direction| {
                    let [input, recurrent, bias] = dimensions.rows(&weights, direction);
                    ForwardWeights::new(input, recurrent, bias)
                })
                .collect()
        };
        Ok(Self { weights, forward: Arc::new(forward), directions, dimensions })
    }

    /// The states `[N, D*H]` of packed tokens `[N, E]`.
    ///
    /// # Errors
    /// If the tokens are not as many as the batch holds, or of another width.
    pub fn forward(&self, tokens: &Tensor, packing: &Arc<Packing>) -> Result<Tensor> {
        let op = LstmOp {
            forward: self.forward.clone(),
            shards: Shard::of(packing),
            reversed: self.directions.reversed(),
            dimensions: self.dimensions,
            tracked: tokens.track_op() || self.weights.track_op(),
            traces: Mutex::default(),
        };
        tokens.apply_op2(&self.weights, op)
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

/// Sizes, and where each weight lies: `[D, 4H, E]`, then `[D, 4H, H]`, then `[D, 4H]`.
#[derive(Debug, Clone, Copy)]
struct Dimensions {
    directions: usize,
    hidden: usize,
    embedding: usize,
}

impl Dimensions {
    /// For each weight, numbers in a row.
    fn widths(&self) -> [usize; 3] {
        [self.embedding, self.hidden, 1]
    }

    /// The places of one direction's weights.
    fn places(&self, direction: usize) -> [Range<usize>; 3] {
        let rows = 4 * self.hidden;
        let mut first = 0;
        self.widths().map(|width| {
            let start = first + direction * rows * width;
            first += self.directions * rows * width;
            start..start + rows * width
        })
    }

    fn rows<'a>(&self, weights: &'a [f32], direction: usize) -> [GateRows<'a>; 3] {
        let mut widths = self.widths().into_iter();
        self.places(direction).map(|place| GateRows {
            weight: &weights[place],
            hidden: self.hidden,
            width: widths.next().expect("there are as many widths as places"),
        })
    }

    /// Multiply-adds of a token.
    fn work(&self) -> usize {
        self.directions * 4 * self.hidden * (self.hidden + self.embedding)
    }
}

struct LstmOp {
    forward: Arc<Vec<ForwardWeights>>,
    shards: Vec<Shard>,
    /// For each direction, whether it reads from the end.
    reversed: &'static [bool],
    dimensions: Dimensions,
    /// Whether a gradient may be asked for, so that the activations must be kept.
    tracked: bool,
    traces: Mutex<Option<Traces>>,
}

/// What the way back needs.
struct Traces {
    /// The tokens of each shard, `[n, E]`.
    tokens: Vec<Panels>,
    /// For each direction, for each shard.
    activations: Vec<Trace>,
}

impl LstmOp {
    /// Applies a function to each direction and shard, on many threads if that pays: direction after direction.
    fn each<T: Send>(&self, f: impl Fn(usize, usize) -> T + Sync) -> Vec<T> {
        let shards = self.shards.len();
        let one = |at: usize| f(at / shards, at % shards);
        let all = 0..self.dimensions.directions * shards;
        let tokens: usize = self.shards.iter().map(|shard| shard.rows.len()).sum();
        if pays(tokens * self.dimensions.work()) {
            all.into_par_iter().with_max_len(1).map(one).collect()
        } else {
            all.map(one).collect()
        }
    }

    /// Some columns of a row-major matrix, for the rows of a shard; padded with zeros.
    fn gather(&self, shard: usize, matrix: &[f32], width: usize, columns: Range<usize>) -> Panels {
        let rows = &self.shards[shard].rows;
        Panels::of_rows(rows.len(), columns.len(), |row| &matrix[rows[row] * width..][columns.clone()])
    }

    /// The gradients of all weights from those of the gates.
    fn weight_gradients(&self, tokens: &[Panels], gradients: &[Gradients]) -> Vec<f32> {
        let Dimensions { directions, hidden, .. } = self.dimensions;
        let mut all = vec![0.0; self.dimensions.places(directions - 1)[2].end];
        for (direction, gradients) in gradients.chunks_exact(self.shards.len()).enumerate() {
            let gates = gradients.iter().map(|gradient| &gradient.gates);
            let inputs: Vec<_> = gates.clone().zip(tokens).collect();
            let states: Vec<_> =
                gradients.iter().map(|gradient| (&gradient.gates, &gradient.states_before)).collect();
            let (input, recurrent) = (columns_product(&inputs), columns_product(&states));
            let bias = gate_sums(gates, 4 * gradients[0].states_before.columns());
            let [to_input, to_recurrent, to_bias] = self.dimensions.places(direction);
            for (to, from, width) in
                [(to_input, &input, self.dimensions.embedding), (to_recurrent, &recurrent, hidden)]
            {
                for (row, to) in all[to].chunks_exact_mut(width).enumerate() {
                    copy_row(from, column(row / hidden, row % hidden), to);
                }
            }
            for (row, to) in all[to_bias].iter_mut().enumerate() {
                *to = bias[column(row / hidden, row % hidden)];
            }
        }
        all
    }
}

impl CustomOp2 for LstmOp {
    fn name(&self) -> &'static str {
        "lstm"
    }

    fn cpu_fwd(
        &self,
        tokens: &CpuStorage,
        tokens_layout: &Layout,
        _weights: &CpuStorage,
        _weights_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let Dimensions { directions, hidden, embedding } = self.dimensions;
        let (count, width) = tokens_layout.shape().dims2()?;
        if count != self.shards.iter().map(|shard| shard.rows.len()).sum::<usize>() || width != embedding {
            bail!("tokens [{count}, {width}] do not fit the batch and the weights");
        }
        let tokens = slice(tokens, tokens_layout)?;
        let tokens: Vec<Panels> =
            (0..self.shards.len()).map(|shard| self.gather(shard, tokens, width, 0..width)).collect();
        let activations = self.each(|direction, shard| {
            let reversed = self.reversed[direction];
            recurrence::forward(&self.shards[shard], reversed, &self.forward[direction], &tokens[shard])
        });
        let mut states = vec![0.0; count * directions * hidden];
        for (direction, traces) in activations.chunks(self.shards.len().max(1)).enumerate() {
            for (shard, trace) in self.shards.iter().zip(traces) {
                for (at, row) in shard.rows.iter().enumerate() {
                    let to = &mut states[(row * directions + direction) * hidden..][..hidden];
                    trace.states.copy_row(at, to);
                }
            }
        }
        if self.tracked {
            *self.traces.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(Traces { tokens, activations });
        }
        stored(states, (count, directions * hidden))
    }

    fn bwd(
        &self,
        tokens: &Tensor,
        weights: &Tensor,
        _states: &Tensor,
        dstates: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Dimensions { directions, hidden, embedding } = self.dimensions;
        let dstates = dstates.contiguous()?;
        let (weights, dstates) = (numbers(weights)?, numbers(&dstates)?);
        let (weights, dstates) = (&*weights, &*dstates);
        let traces = self.traces.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(traces) = traces.as_ref() else { bail!("the activations were not kept") };
        let backward: Vec<BackwardWeights> = (0..directions)
            .map(|direction| {
                let [input, recurrent, _] = self.dimensions.rows(weights, direction);
                BackwardWeights::new(input, recurrent)
            })
            .collect();
        let gradients = self.each(|direction, shard| {
            let columns = direction * hidden..(direction + 1) * hidden;
            let dstates = self.gather(shard, dstates, directions * hidden, columns);
            let trace = &traces.activations[direction * self.shards.len() + shard];
            let reversed = self.reversed[direction];
            recurrence::backward(&self.shards[shard], reversed, &backward[direction], trace, &dstates)
        });
        let mut dtokens = vec![0.0; tokens.elem_count()];
        for gradients in gradients.chunks_exact(self.shards.len()) {
            for (shard, gradient) in self.shards.iter().zip(gradients) {
                for (at, row) in shard.rows.iter().enumerate() {
                    gradient.tokens.add_row(at, &mut dtokens[row * embedding..][..embedding]);
                }
            }
        }
        let dweights = self.weight_gradients(&traces.tokens, &gradients);
        let count = dweights.len();
        Ok((Some(tensor(dtokens, tokens.shape())?), Some(tensor(dweights, count)?)))
    }
}
