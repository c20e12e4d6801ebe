//! What texts are about: their weighted terms in a few dimensions (latent semantic analysis, Deerwester et al. 1990).
//!
//! ```text
//! X [N, U]    weights of the terms of the texts
//! Q [U, K]    the directions in which X is largest, by orthogonal iteration from random ones (Halko et al. 2011)
//! topics      rows of X Q, each scaled to length 1
//! ```
//!
//! Terms that come together in texts share directions, so two texts can be near without a common word.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::clusters::{dot, normal, orthonormalise};
use crate::{
    cancel::Cancellation,
    error::Result,
    text::{Terms, normalise},
};

/// K.
pub(super) const TOPICS: usize = 64;
/// U at most: the most frequent terms.
const TERMS: usize = 1 << 16;
/// Terms of a text that count, the weightiest: what bounds the memory of long texts.
const TERMS_OF_TEXT: usize = 256;
/// Texts that the directions are taken from, spread evenly.
const FITTED: usize = 1 << 13;
/// Steps towards the directions.
const STEPS: usize = 5;

/// The topics of texts, `[N, TOPICS]`, each row of length 1; 0 for a text without a common term.
///
/// # Errors
/// That of the token.
pub(super) fn topics(texts: &[&str], cancel: &Cancellation) -> Result<Vec<f32>> {
    // Cut short it is not used.
    let counted = texts.iter().copied().take_while(|_| !cancel.is_cancelled());
    let terms = Terms::build(counted, TERMS);
    cancel.check()?;
    let rows: Vec<Vec<(u32, f32)>> = texts
        .par_iter()
        .map(|text| {
            cancel.check()?;
            let mut row = terms.weigh(&normalise(text));
            row.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            row.truncate(TERMS_OF_TEXT);
            Ok(row)
        })
        .collect::<Result<_>>()?;
    let every = rows.len().div_ceil(FITTED).max(1);
    let fitted: Vec<&Vec<(u32, f32)>> = rows.iter().step_by(every).collect();
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut directions: Vec<f32> = (0..terms.len() * TOPICS).map(|_| normal(&mut random)).collect();
    for _ in 0..STEPS {
        cancel.check()?;
        let images: Vec<[f32; TOPICS]> = fitted.par_iter().map(|row| image(row, &directions)).collect();
        directions.fill(0.0);
        for (row, image) in fitted.iter().zip(&images) {
            for &(term, weight) in *row {
                let direction = &mut directions[term as usize * TOPICS..][..TOPICS];
                direction.iter_mut().zip(image).for_each(|(x, image)| *x += weight * image);
            }
        }
        let mut columns: Vec<Vec<f32>> =
            (0..TOPICS).map(|at| directions.iter().skip(at).step_by(TOPICS).copied().collect()).collect();
        orthonormalise(&mut columns);
        for (at, column) in columns.iter().enumerate() {
            directions.iter_mut().skip(at).step_by(TOPICS).zip(column).for_each(|(x, column)| *x = *column);
        }
    }
    let mut topics: Vec<f32> = rows.par_iter().flat_map_iter(|row| image(row, &directions)).collect();
    topics.par_chunks_mut(TOPICS).for_each(unit);
    Ok(topics)
}

/// A row of X Q.
fn image(row: &[(u32, f32)], directions: &[f32]) -> [f32; TOPICS] {
    let mut image = [0.0; TOPICS];
    for &(term, weight) in row {
        let direction = &directions[term as usize * TOPICS..][..TOPICS];
        image.iter_mut().zip(direction).for_each(|(x, direction)| *x += weight * direction);
    }
    image
}

/// Scales a vector to length 1; 0 stays.
pub(super) fn unit(vector: &mut [f32]) {
    let length = dot(vector, vector).sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x /= length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_share_company_are_near_without_a_common_word() {
        let texts = [
            "card lost",
            "lost plastic",
            "plastic stolen",
            "stolen card",
            "card lost plastic stolen",
            "rate euro",
            "euro dollar",
            "dollar price",
            "price rate",
            "rate euro dollar price",
            "!?",
        ];
        let cancel = Cancellation::default();
        let topics = topics(&texts, &cancel).unwrap();
        let row = |at: usize| &topics[at * TOPICS..][..TOPICS];
        assert!((dot(row(0), row(0)) - 1.0).abs() < 1e-4);
        assert!(dot(row(0), row(1)) > dot(row(0), row(5)) + 0.1);
        assert!(row(10).iter().all(|x| *x == 0.0));
        assert_eq!(topics, super::topics(&texts, &cancel).unwrap());
        cancel.cancel();
        assert!(super::topics(&texts, &cancel).is_err());
    }
}
