//! The order of an epoch, and what a step does not see.
//!
//! Batches hold texts of similar length, or most threads of the recurrence would idle on the longest text; but which
//! texts meet must differ from epoch to epoch. So the shuffled examples are taken in pools of several batches, each pool
//! sorted by length and cut, and the batches shuffled again.

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::Recipe;
use crate::{model::kernels::TokenMask, text::Packing};

/// Batches that are sorted by length together.
const POOL_BATCHES: usize = 16;

/// The batches of an epoch, as indices of examples with these numbers of tokens. Each example is in one batch.
pub(super) fn epoch(lengths: &[usize], batch: usize, random: &mut ChaCha8Rng) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    shuffle(&mut order, random);
    let mut batches: Vec<Vec<usize>> = order
        .chunks_mut(batch * POOL_BATCHES)
        .flat_map(|pool| {
            pool.sort_by_key(|&example| lengths[example]);
            pool.chunks(batch).map(<[usize]>::to_vec)
        })
        .collect();
    shuffle(&mut batches, random);
    batches
}

/// Fisher and Yates 1938.
pub(super) fn shuffle<T>(items: &mut [T], random: &mut ChaCha8Rng) {
    for last in (1..items.len()).rev() {
        items.swap(last, random.random_range(0..=last));
    }
}

/// What the token embeddings `[N, E]` are multiplied with: 0 for the words and, throughout a text, for the columns that are
/// not seen (Gal and Ghahramani 2016); columns that are seen are scaled up to keep the mean.
pub(super) fn token_mask(
    packing: &Packing,
    width: usize,
    recipe: &Recipe,
    random: &mut ChaCha8Rng,
) -> TokenMask {
    let columns = mask(packing.texts() * width, recipe.embedding_dropout, random);
    TokenMask::new(packing, columns, || random.random::<f32>() >= recipe.word_dropout)
}

/// What the features `[B, F]` are multiplied with.
pub(super) fn feature_mask(texts: usize, width: usize, recipe: &Recipe, random: &mut ChaCha8Rng) -> Vec<f32> {
    mask(texts * width, recipe.output_dropout, random)
}

/// Zeros with a probability, else the number that keeps the mean at 1.
fn mask(count: usize, dropout: f32, random: &mut ChaCha8Rng) -> Vec<f32> {
    let mut draws = vec![0u32; count];
    random.fill(&mut draws);
    let dropped = numbers_below(dropout);
    let kept = 1.0 / (1.0 - dropout);
    draws.into_iter().map(|draw| if draw < dropped { 0.0 } else { kept }).collect()
}

/// Of the 2^32 numbers that may be drawn, those below this are drawn with a probability.
pub(super) fn numbers_below(probability: f32) -> u32 {
    (f64::from(probability) * 2f64.powi(32)) as u32
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;
    use crate::{model::Preset, registry::Mode};

    #[test]
    fn an_epoch_holds_each_example_once_in_batches_of_like_length() {
        let lengths: Vec<usize> = (0..1000).map(|i| i * 7 % 31 + 1).collect();
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let batches = epoch(&lengths, 8, &mut random);
        let mut all = batches.concat();
        assert!(!all.is_sorted());
        all.sort_unstable();
        assert!(all.into_iter().eq(0..1000));
        let spread = |batch: &Vec<usize>| {
            let lengths = batch.iter().map(|&i| lengths[i]);
            lengths.clone().max().unwrap() - lengths.min().unwrap()
        };
        assert!(batches.iter().map(spread).sum::<usize>() / batches.len() <= 4);
        assert_ne!(batches, epoch(&lengths, 8, &mut random));
        assert_eq!(batches, epoch(&lengths, 8, &mut ChaCha8Rng::seed_from_u64(1)));
    }

    #[test]
    fn columns_stay_away_throughout_a_text_and_the_mean_is_kept() {
        let packing = Packing::new(&[20; 50]);
        let recipe =
            Recipe { word_dropout: 0.0, ..Recipe::for_training(Preset::Default, Mode::Scratch, 100) };
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let mask = token_mask(&packing, 30, &recipe, &mut random);
        let factors = |token| mask.factors(token, 30).unwrap();
        for text in 0..50 {
            assert!((0..20).all(|step| factors(step * 50 + text) == factors(text)));
        }
        let mean = (0..1000).flat_map(factors).sum::<f32>() / (30.0 * 1000.0);
        assert!((mean - 1.0).abs() < 0.05, "{mean}");
    }

    #[test]
    fn words_stay_away_whole() {
        let packing = Packing::new(&[20; 50]);
        let recipe = Recipe {
            embedding_dropout: 0.0,
            word_dropout: 0.3,
            ..Recipe::for_training(Preset::Default, Mode::Scratch, 100)
        };
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let mask = token_mask(&packing, 3, &recipe, &mut random);
        let gone = (0..1000).filter(|&token| mask.factors(token, 3).is_none()).count();
        let seen = (0..1000).filter_map(|token| mask.factors(token, 3));
        assert!(seen.clone().count() == 1000 - gone && seen.clone().all(|factors| factors == [1.0; 3]));
        assert!((250..350).contains(&gone), "{gone}");
    }
}
