//! Rows for leaves that nothing was learnt about, which hardly take anything from the others.
//!
//! ```text
//! z[new] = mean of z over the C known leaves - m        m = max(0, ln(N / (C e)))
//! ```
//!
//! N newcomers; e the share they may get. A row that is the mean of rows has the mean of their logits, whatever the text,
//! and exp(mean z) <= mean exp(z) (Jensen), so the newcomers together get at most
//!
//! ```text
//! N exp(mean z - m) / sum of exp(z) <= N exp(-m) / C <= e
//! ```
//!
//! of what the known ones get, and none of them more than the best known one. A zero row with a low bias would do that for
//! the texts it was tried on only.

use std::{collections::BTreeSet, iter};

use super::{
    Array, Checkpoint,
    checkpoint::{HEAD_BIAS, HEAD_WEIGHT, OUTPUT_SCALES, WIDE_BIAS, WIDE_IDF, WIDE_WEIGHT},
    wide::Wide,
};
use crate::{error::Result, taxonomy::LeafId};

/// e: what newcomers together get at most, as a share of what the known leaves get.
pub const NEWCOMERS_SHARE: f64 = 1e-3;

/// The same network with rows for newcomers behind its own. The known leaves are those that take part in the softmax; rows
/// of others stay idle. Only where the wide branch would take more than twice its bytes does it lose its last terms.
///
/// # Errors
/// [`crate::error::Error::Corrupt`] if the checkpoint lacks a tensor.
pub fn with_newcomers(
    checkpoint: &Checkpoint,
    known: &BTreeSet<LeafId>,
    newcomers: &[LeafId],
) -> Result<Checkpoint> {
    let leaves = [checkpoint.leaves.as_slice(), newcomers].concat();
    let rows: Vec<usize> =
        (0..checkpoint.leaves.len()).filter(|&row| known.contains(&checkpoint.leaves[row])).collect();
    let lowering = Lowering::new(checkpoint, newcomers.len() as f64 / rows.len() as f64)?;
    let (all, new) = (leaves.len(), newcomers.len());
    let mut grown = Checkpoint { leaves, ..checkpoint.clone() };

    let weight = checkpoint.tensor(HEAD_WEIGHT)?;
    let mut weights = weight.data.to_vec();
    weights.extend(mean_row(weight, &rows).repeat(new));
    let mut bias = Vec::with_capacity(all);
    extend_with_mean(&mut bias, &checkpoint.tensor(HEAD_BIAS)?.data, &rows, new, lowering.deep);
    grown.tensors.insert(HEAD_WEIGHT.to_owned(), Array::new([all, weight.shape[1]], weights));
    grown.tensors.insert(HEAD_BIAS.to_owned(), Array::new([all], bias));
    if checkpoint.architecture.wide {
        let (weight, idf) = (checkpoint.tensor(WIDE_WEIGHT)?, checkpoint.tensor(WIDE_IDF)?);
        let terms = checkpoint.terms.len().min(2 * Wide::term_limit(all));
        if terms < checkpoint.terms.len() {
            grown.terms.truncate(terms);
            grown.tensors.insert(WIDE_IDF.to_owned(), Array::new([terms], &idf.data[..terms]));
        }
        let mut weights = Vec::with_capacity(terms * all);
        (0..terms).for_each(|term| extend_with_mean(&mut weights, weight.row(term), &rows, new, 0.0));
        let mut bias = Vec::with_capacity(all);
        extend_with_mean(&mut bias, &checkpoint.tensor(WIDE_BIAS)?.data, &rows, new, lowering.wide);
        grown.tensors.insert(WIDE_WEIGHT.to_owned(), Array::new([terms, all], weights));
        grown.tensors.insert(WIDE_BIAS.to_owned(), Array::new([all], bias));
    }
    Ok(grown)
}

/// By how much the biases of newcomers are lowered: one of the two, that of the branch that counts more.
struct Lowering {
    deep: f64,
    wide: f64,
}

impl Lowering {
    /// Lowers the logits by m, for so many newcomers a known leaf.
    fn new(checkpoint: &Checkpoint, newcomers_per_known: f64) -> Result<Self> {
        let margin = (newcomers_per_known / NEWCOMERS_SHARE).ln().max(0.0);
        let scales = &checkpoint.tensor(OUTPUT_SCALES)?.data;
        let scale = |branch: usize| scales.get(branch).copied().map_or(0.0, f64::from);
        let (deep, wide) = (scale(0), if checkpoint.architecture.wide { scale(1) } else { 0.0 });
        Ok(match deep.max(wide) {
            // All logits are 0 then, whatever the biases.
            0.0 => Self { deep: 0.0, wide: 0.0 },
            _ if deep >= wide => Self { deep: margin / deep, wide: 0.0 },
            _ => Self { deep: 0.0, wide: margin / wide },
        })
    }
}

/// The mean of some rows of a matrix.
fn mean_row(matrix: &Array, rows: &[usize]) -> Vec<f32> {
    let mut sums = vec![0.0; matrix.shape[1]];
    for &row in rows {
        sums.iter_mut().zip(matrix.row(row)).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    sums.into_iter().map(|sum| (sum / rows.len() as f64) as f32).collect()
}

/// Appends numbers, and behind them so many times the mean of some of them, lowered.
fn extend_with_mean(out: &mut Vec<f32>, numbers: &[f32], of: &[usize], times: usize, lowered: f64) {
    let mean = of.iter().map(|&at| f64::from(numbers[at])).sum::<f64>() / of.len() as f64;
    out.extend_from_slice(numbers);
    out.extend(iter::repeat_n((mean - lowered) as f32, times));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Architecture, Classifier, Preset, checkpoint::EMBEDDING, surgery::from_scratch};

    const TEXTS: [&str; 4] = ["my card is lost", "what is my balance", "zzz", "取款 三万 元"];

    /// A network whose head and wide branch are far from flat and from 0.
    fn checkpoint(wide: bool, leaves: u32, scales: [f32; 2], seed: u64) -> Checkpoint {
        let architecture =
            Architecture { embedding: 4, hidden: 3, wide, ..Architecture::preset(Preset::Default) };
        let leaves: Vec<LeafId> = (1..=leaves).map(LeafId).collect();
        let mut checkpoint = from_scratch(architecture, TEXTS[..2].iter().copied(), &leaves, seed);
        checkpoint.tensors.insert(OUTPUT_SCALES.into(), Array::new([2], scales.to_vec()));
        for name in [HEAD_WEIGHT, HEAD_BIAS, WIDE_WEIGHT, WIDE_BIAS] {
            let Some(array) = checkpoint.tensors.get(name) else { continue };
            let steep = (0..array.data.len())
                .map(|at| ((at as f32 * 1.7 + seed as f32).sin() * 20.0 - 15.0) + array.data[at]);
            let steep = Array::new(array.shape.clone(), steep.collect::<Vec<_>>());
            checkpoint.tensors.insert(name.into(), steep);
        }
        // So that the features of a text count.
        let table = &checkpoint.tensors[EMBEDDING];
        let large = Array::new(table.shape.clone(), table.data.iter().map(|x| x * 20.0).collect::<Vec<_>>());
        checkpoint.tensors.insert(EMBEDDING.into(), large);
        checkpoint
    }

    fn rows(checkpoint: &Checkpoint) -> Vec<Vec<f32>> {
        let classifier = Classifier::from_checkpoint(checkpoint).unwrap();
        let texts: Vec<_> = TEXTS.iter().map(|text| classifier.encode(text)).collect();
        classifier.leaf_probabilities(&texts).unwrap().iter().map(<[f32]>::to_vec).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn newcomers_get_next_to_nothing_of_any_text(
            wide: bool,
            known in 2u32..9,
            newcomers in 1u32..5,
            scales in [0.0f32..2.0, 0.0f32..2.0],
            seed in 0u64..1000,
        ) {
            let old = checkpoint(wide, known, [scales[0].max(0.01), scales[1]], seed);
            let new: Vec<LeafId> = (101..101 + newcomers).map(LeafId).collect();
            let grown = with_newcomers(&old, &old.leaves.iter().copied().collect(), &new).unwrap();
            grown.validate().unwrap();
            for (before, after) in rows(&old).iter().zip(rows(&grown)) {
                let (kept, fresh) = after.split_at(known as usize);
                let share = fresh.iter().copied().map(f64::from).sum::<f64>();
                prop_assert!(share <= NEWCOMERS_SHARE * 1.02, "{share}");
                let best = kept.iter().copied().fold(0.0, f32::max);
                prop_assert!(fresh.iter().all(|p| *p < best));
                for (was, is) in before.iter().zip(kept) {
                    prop_assert!(is <= was && f64::from(was - is) <= NEWCOMERS_SHARE * 1.01, "{was} {is}");
                }
            }
        }
    }

    #[test]
    fn rows_that_are_idle_are_no_part_of_the_mean() {
        let old = checkpoint(true, 3, [0.7, 0.8], 1);
        let known = BTreeSet::from([LeafId(1), LeafId(3)]);
        let grown = with_newcomers(&old, &known, &[LeafId(9)]).unwrap();
        let weight = &grown.tensors[HEAD_WEIGHT];
        assert_eq!(weight.data[..weight.data.len() / 4 * 3], *old.tensors[HEAD_WEIGHT].data);
        let mean: Vec<f32> = weight.row(0).iter().zip(weight.row(2)).map(|(a, b)| (a + b) / 2.0).collect();
        assert!(mean.iter().zip(weight.row(3)).all(|(a, b)| (a - b).abs() < 1e-5));
        assert_eq!(grown.leaves, [LeafId(1), LeafId(2), LeafId(3), LeafId(9)]);
    }
}
