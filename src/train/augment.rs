//! Examples as they are not written but might have been: the words of a text in another order.
//!
//! A text whose words are shuffled says mostly the same, and a network that reads many of them leans less on the order
//! it happened to see (Wei and Zou 2019, "EDA", swap words at random).

use std::borrow::Cow;

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::{Sample, batches::shuffle};
use crate::text::EncodedText;

/// The samples of a batch, each with this probability with its tokens in random order. Without a chance nothing is drawn
/// from the generator.
pub(super) fn batch<'a>(
    samples: &'a [Sample],
    batch: &[usize],
    probability: f32,
    random: &mut ChaCha8Rng,
) -> Vec<Cow<'a, Sample>> {
    let one = |&index: &usize| {
        let sample = &samples[index];
        if probability > 0.0 && random.random::<f32>() < probability {
            Cow::Owned(Sample { text: shuffled(&sample.text, random), class: sample.class })
        } else {
            Cow::Borrowed(sample)
        }
    };
    batch.iter().map(one).collect()
}

fn shuffled(text: &EncodedText, random: &mut ChaCha8Rng) -> EncodedText {
    let mut order: Vec<usize> = (0..text.tokens).collect();
    shuffle(&mut order, random);
    let mut new = EncodedText { features: Vec::new(), offsets: vec![0], ..text.clone() };
    for token in order {
        new.features.extend_from_slice(text.token(token));
        new.offsets.push(new.features.len() as u32);
    }
    new
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

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

    fn tokens(text: &EncodedText) -> Vec<Vec<u32>> {
        (0..text.tokens).map(|token| text.token(token).to_vec()).collect()
    }

    #[test]
    fn the_same_tokens_come_in_another_order() {
        let samples = samples();
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let made = batch(&samples, &[0, 1, 2], 1.0, &mut random);
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
        let made = batch(&samples, &[2], 0.0, &mut random);
        assert!(matches!(made[0], Cow::Borrowed(_)));
        assert_eq!(random, ChaCha8Rng::seed_from_u64(1));
    }
}
