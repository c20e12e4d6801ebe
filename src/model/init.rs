//! Networks that have learnt nothing yet, from a seed.
//!
//! ```text
//! embedding       N(0, 0.1)
//! weight_ih       Xavier uniform over the four gates together (Glorot and Bengio 2010)
//! weight_hh       orthogonal for each gate (Saxe et al. 2014)
//! lstm bias       0, and 1 for the forget gate (Gers et al. 2000; Jozefowicz et al. 2015)
//! projection      Xavier uniform, bias 0
//! head            Xavier-scaled normal, bias 0
//! wide branch     no terms, bias 0
//! ```
//!
//! Every tensor, and every row of the embedding and of the head, draws from its own stream, so that a row is the same
//! whichever others are there.

use std::collections::BTreeMap;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{
    Architecture, Array, Checkpoint,
    checkpoint::{
        EMBEDDING, HEAD_BIAS, HEAD_WEIGHT, LSTM_BIAS, LSTM_INPUT, LSTM_RECURRENT, OUTPUT_SCALES,
        PROJECTION_BIAS, PROJECTION_WEIGHT, WIDE_BIAS, WIDE_IDF, WIDE_WEIGHT,
    },
    wide::DEFAULT_SCALES,
};
use crate::taxonomy::LeafId;

/// Standard deviation of the numbers of a new row of the embedding.
pub(super) const EMBEDDING_DEVIATION: f32 = 0.1;

/// What a stream of random numbers is for.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    Embedding = 1,
    Input = 2,
    Recurrent = 3,
    Head = 4,
    Projection = 5,
}

/// A network for these features and leaves, before any training.
pub fn initial(
    architecture: Architecture,
    vocabulary: Vec<String>,
    leaves: Vec<LeafId>,
    seed: u64,
) -> Checkpoint {
    let Architecture { embedding, hidden, .. } = architecture;
    let (directions, gates) = (architecture.directions(), 4 * hidden);
    let rows = 0..vocabulary.len() as u64;
    let embeddings: Vec<f32> = rows.flat_map(|row| embedding_row(row, embedding, seed)).collect();
    let recurrent: Vec<f32> = (0..4 * directions as u64)
        .into_par_iter()
        .flat_map_iter(|block| orthogonal(hidden, generator(seed, Purpose::Recurrent, block)))
        .collect();
    let bias = [0.0, 1.0, 0.0, 0.0].map(|value| vec![value; hidden]).concat().repeat(directions);
    let input = xavier([gates, embedding], directions, generator(seed, Purpose::Input, 0));
    let head: Vec<f32> =
        leaves.iter().flat_map(|&leaf| head_row(leaf, architecture.features(), seed)).collect();
    let mut tensors = BTreeMap::from([
        (EMBEDDING.to_owned(), Array::new([vocabulary.len(), embedding], embeddings)),
        (LSTM_INPUT.to_owned(), Array::new([directions, gates, embedding], input)),
        (LSTM_RECURRENT.to_owned(), Array::new([directions, gates, hidden], recurrent)),
        (LSTM_BIAS.to_owned(), Array::new([directions, gates], bias)),
        (HEAD_WEIGHT.to_owned(), Array::new([leaves.len(), architecture.features()], head)),
        (HEAD_BIAS.to_owned(), Array::new([leaves.len()], vec![0.0; leaves.len()])),
        (OUTPUT_SCALES.to_owned(), Array::new([2], DEFAULT_SCALES)),
    ]);
    if architecture.projects() {
        let shape = [architecture.states(), architecture.states() + embedding];
        let weight = xavier(shape, 1, generator(seed, Purpose::Projection, 0));
        tensors.extend([
            (PROJECTION_WEIGHT.to_owned(), Array::new(shape, weight)),
            (PROJECTION_BIAS.to_owned(), Array::new([shape[0]], vec![0.0; shape[0]])),
        ]);
    }
    if architecture.wide {
        tensors.extend([
            (WIDE_IDF.to_owned(), Array::new([0], [])),
            (WIDE_WEIGHT.to_owned(), Array::new([0, leaves.len()], [])),
            (WIDE_BIAS.to_owned(), Array::new([leaves.len()], vec![0.0; leaves.len()])),
        ]);
    }
    Checkpoint { architecture, vocabulary, terms: Vec::new(), leaves, tensors }
}

/// A new row of the embedding.
pub(super) fn embedding_row(row: u64, width: usize, seed: u64) -> Vec<f32> {
    normals(width, EMBEDDING_DEVIATION, &mut generator(seed, Purpose::Embedding, row))
}

/// A new row of the head: its scale is that of the features, whatever the number of leaves.
pub(super) fn head_row(leaf: LeafId, features: usize, seed: u64) -> Vec<f32> {
    let deviation = (1.0 / features as f32).sqrt();
    normals(features, deviation, &mut generator(seed, Purpose::Head, u64::from(leaf.0)))
}

fn generator(seed: u64, purpose: Purpose, index: u64) -> ChaCha8Rng {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(index << 8 | purpose as u64);
    generator
}

/// So many matrices `[n, k]` of uniform numbers.
fn xavier([n, k]: [usize; 2], matrices: usize, mut random: ChaCha8Rng) -> Vec<f32> {
    let bound = (6.0 / (n + k) as f32).sqrt();
    (0..matrices * n * k).map(|_| random.random_range(-bound..bound)).collect()
}

/// Normal numbers, by Box and Muller 1958.
fn normals(count: usize, deviation: f32, random: &mut ChaCha8Rng) -> Vec<f32> {
    let mut numbers = Vec::with_capacity(count + 1);
    while numbers.len() < count {
        let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * random.random::<f64>()).sin_cos();
        numbers.extend([radius * cos, radius * sin].map(|x| x as f32 * deviation));
    }
    numbers.truncate(count);
    numbers
}

/// A square matrix with orthonormal rows: normal rows, each freed of its parts along those before it (Gram and Schmidt).
fn orthogonal(size: usize, mut random: ChaCha8Rng) -> Vec<f32> {
    let mut matrix = normals(size * size, 1.0, &mut random);
    for index in 0..size {
        let (before, rest) = matrix.split_at_mut(index * size);
        let row = &mut rest[..size];
        // Twice, as rounding leaves parts behind the first time (Giraud et al. 2005).
        for _ in 0..2 {
            for other in before.chunks_exact(size) {
                let part = dot(row, other);
                row.iter_mut().zip(other).for_each(|(x, y)| *x -= part * y);
            }
        }
        let scale = 1.0 / dot(row, row).sqrt();
        row.iter_mut().for_each(|x| *x *= scale);
    }
    matrix
}

/// The inner product, in eight interleaved sums that the compiler can keep in one register.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f32 = a.remainder().iter().zip(b.remainder()).map(|(x, y)| x * y).sum();
    for (a, b) in a.zip(b) {
        (0..8).for_each(|i| sums[i] += a[i] * b[i]);
    }
    sums.iter().sum::<f32>() + tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;

    fn small() -> Architecture {
        Architecture { embedding: 6, hidden: 13, ..Architecture::preset(Preset::Default) }
    }

    fn words(count: usize) -> Vec<String> {
        (0..count).map(|i| if i == 0 { String::new() } else { format!("w{i}") }).collect()
    }

    #[test]
    fn it_is_valid_and_the_same_for_a_seed() {
        let make = |seed| initial(small(), words(5), vec![LeafId(3), LeafId(9)], seed);
        make(1).validate().unwrap();
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
    }

    #[test]
    fn a_row_does_not_depend_on_the_others() {
        let many = initial(small(), words(9), vec![LeafId(3), LeafId(9)], 1);
        let few = initial(small(), words(4), vec![LeafId(9)], 1);
        assert_eq!(many.tensors[EMBEDDING].row(3), few.tensors[EMBEDDING].row(3));
        assert_eq!(many.tensors[HEAD_WEIGHT].row(1), few.tensors[HEAD_WEIGHT].row(0));
        assert_eq!(many.tensors[LSTM_RECURRENT], few.tensors[LSTM_RECURRENT]);
    }

    #[test]
    fn recurrent_blocks_are_orthogonal_and_the_forget_bias_is_one() {
        let checkpoint = initial(small(), words(3), vec![LeafId(1)], 7);
        for block in checkpoint.tensors[LSTM_RECURRENT].data.chunks_exact(13 * 13) {
            for (i, a) in block.chunks_exact(13).enumerate() {
                for (j, b) in block.chunks_exact(13).enumerate() {
                    let expected = if i == j { 1.0 } else { 0.0 };
                    assert!((dot(a, b) - expected).abs() < 1e-5, "rows {i} and {j}");
                }
            }
        }
        let bias = &checkpoint.tensors[LSTM_BIAS].data;
        assert_eq!((bias[0], bias[13], bias[26], bias[52 + 13]), (0.0, 1.0, 0.0, 1.0));
    }

    #[test]
    fn normal_numbers_have_the_deviation() {
        let numbers = normals(20_001, 0.1, &mut generator(3, Purpose::Embedding, 0));
        let mean = numbers.iter().sum::<f32>() / numbers.len() as f32;
        let variance = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / numbers.len() as f32;
        assert!(mean.abs() < 0.003 && (variance.sqrt() - 0.1).abs() < 0.003, "{mean} {variance}");
    }
}
