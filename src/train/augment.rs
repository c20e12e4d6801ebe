//! Examples as they are not written but might have been: with words in another order, or of which less is known.
//!
//! A text whose words are shuffled says mostly the same, and a network that reads many of them leans less on the order
//! it happened to see (Wei and Zou 2019, "EDA", swap words at random). A token that lacks some of its features reads as
//! one that the vocabulary knows in part, as are many of the texts to come: so what is left learns to say it alone.

use std::borrow::Cow;

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::{Recipe, Sample, batches::shuffle};
use crate::text::EncodedText;

/// The samples of a batch, with the word shuffle and the feature dropout of the recipe. Without a chance nothing is drawn
/// from the generator.
pub(super) fn batch<'a>(
    samples: &'a [Sample],
    batch: &[usize],
    recipe: &Recipe,
    random: &mut ChaCha8Rng,
) -> Vec<Cow<'a, Sample>> {
    let one = |&index: &usize| {
        let sample = &samples[index];
        let mut text = Cow::Borrowed(&sample.text);
        if recipe.word_shuffle > 0.0 && random.random::<f32>() < recipe.word_shuffle {
            text = Cow::Owned(shuffled(&text, random));
        }
        if recipe.feature_dropout > 0.0 {
            text = Cow::Owned(thinned(&text, recipe.feature_dropout, random));
        }
        match text {
            Cow::Borrowed(_) => Cow::Borrowed(sample),
            Cow::Owned(text) => Cow::Owned(Sample { text, class: sample.class }),
        }
    };
    batch.iter().map(one).collect()
}

fn shuffled(text: &EncodedText, random: &mut ChaCha8Rng) -> EncodedText {
    let mut order: Vec<usize> = (0..text.tokens).collect();
    shuffle(&mut order, random);
    with_tokens(text, order.into_iter(), |features, token| features.extend_from_slice(token))
}

/// Leaves out each feature of a token with a probability, and at least one in.
fn thinned(text: &EncodedText, dropout: f32, random: &mut ChaCha8Rng) -> EncodedText {
    with_tokens(text, 0..text.tokens, |features, token| {
        if token.len() == 1 {
            features.push(token[0]);
            return;
        }
        let start = features.len();
        let mut end = start;
        features.extend_from_slice(token);
        // No branch, which no processor could guess: the next overwrites one that is left out.
        for &feature in token {
            features[end] = feature;
            end += usize::from(random.random::<f32>() >= dropout);
        }
        if end == start && !token.is_empty() {
            features[end] = token[random.random_range(0..token.len())];
            end += 1;
        }
        features.truncate(end);
    })
}

/// A text of tokens of another one, in this order, each with the features that `push` gives it. Its terms stay behind: they are
/// the wide branch's, which is fitted apart.
fn with_tokens(
    text: &EncodedText,
    tokens: impl Iterator<Item = usize>,
    mut push: impl FnMut(&mut Vec<u32>, &[u32]),
) -> EncodedText {
    let mut features = Vec::with_capacity(text.features.len());
    let mut offsets = Vec::with_capacity(text.offsets.len());
    offsets.push(0);
    for token in tokens {
        push(&mut features, text.token(token));
        offsets.push(features.len() as u32);
    }
    EncodedText { features, offsets, terms: Vec::new(), ..*text }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;
    use crate::{model::Preset, registry::Mode};

    fn samples() -> Vec<Sample> {
        let text = EncodedText {
            features: (10..22).collect(),
            offsets: vec![0, 1, 3, 4, 6, 7, 9, 12],
            tokens: 7,
            truncated: true,
            terms: vec![(3, 0.5)],
        };
        vec![Sample { text, class: 5 }; 3]
    }

    fn recipe(word_shuffle: f32, feature_dropout: f32) -> Recipe {
        let recipe = Recipe::for_training(Preset::Default, Mode::Scratch, 3);
        Recipe { word_shuffle, feature_dropout, ..recipe }
    }

    fn tokens(text: &EncodedText) -> Vec<Vec<u32>> {
        (0..text.tokens).map(|token| text.token(token).to_vec()).collect()
    }

    #[test]
    fn the_same_tokens_come_in_another_order() {
        let samples = samples();
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let made = batch(&samples, &[0, 1, 2], &recipe(1.0, 0.0), &mut random);
        let (before, mut after) = (tokens(&samples[0].text), tokens(&made[0].text));
        assert_ne!(before, after);
        assert_ne!(after, tokens(&made[1].text));
        after.sort();
        assert_eq!(before, after);
        assert_eq!((made[0].class, made[0].text.tokens, made[0].text.truncated), (5, 7, true));
    }

    #[test]
    fn without_a_chance_nothing_changes_and_nothing_is_drawn() {
        let samples = samples();
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let made = batch(&samples, &[2], &recipe(0.0, 0.0), &mut random);
        assert!(matches!(made[0], Cow::Borrowed(_)));
        assert_eq!(random, ChaCha8Rng::seed_from_u64(1));
    }

    #[test]
    fn tokens_lose_features_but_never_all() {
        let samples = samples();
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let (mut full, mut kept) = (0, 0);
        for _ in 0..200 {
            let made = batch(&samples, &[0, 1, 2], &recipe(0.0, 0.4), &mut random);
            for sample in &made {
                let whole = tokens(&samples[0].text);
                for (before, after) in whole.iter().zip(tokens(&sample.text)) {
                    assert!(!after.is_empty() && after.iter().all(|feature| before.contains(feature)));
                    if before.len() > 1 {
                        (full, kept) = (full + before.len(), kept + after.len());
                    } else {
                        assert_eq!(*before, after);
                    }
                }
                assert_eq!((sample.text.tokens, &*sample.text.terms), (7, &[][..]));
            }
        }
        // Of the features 0.6 are seen, and a few more because no token goes without: of two 0.68, of three 0.62.
        let share = f64::from(kept as u32) / f64::from(full as u32);
        assert!((0.62..0.69).contains(&share), "{share}");
        let made = batch(&samples, &[0], &recipe(0.0, 1.0), &mut random);
        assert!(tokens(&made[0].text).iter().all(|token| token.len() == 1));
    }
}
