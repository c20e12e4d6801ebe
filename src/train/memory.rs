//! How much memory a training takes, estimated before it takes it; what is in progress together stays within one limit.
//!
//! ```text
//! network     P parameters, 4 bytes each, COPIES times: the start, the one that learns, the best epoch, and what is
//!             made of the learning one to measure it at the end of an epoch; those of the wide branch WIDE_COPIES times
//! optimiser   two moments a parameter for AdamW, nothing for gradient descent
//! batch       what a step keeps of the N tokens of the largest batch until the gradients are there, and these
//! examples    the rows and offsets of all encoded texts
//! features    what the encoder makes of the examples, FEATURE_COPIES times, where a refit reads it or it is kept for the next
//!             change; not at the same time as optimiser and batch, so that the larger of the two counts
//! slack       half as much again: the allocator keeps some of what was freed, kernels pack their operands
//! ```
//!
//! Measured on 9,000 questions, the estimate was 1.2 times (preset default) and 1.3 times (seed) what the process held at its
//! peak. What the store, the predictions and the texts of the examples take is not in it.

use std::fmt;

use super::{Optimiser, Recipe, Sample};
use crate::{
    error::{Error, Result},
    model::{
        Architecture, Checkpoint,
        checkpoint::{EMBEDDING, WIDE_WEIGHT},
    },
};

/// Copies of all parameters at the worst moment: the start, the learning ones, the best epoch, the last one, the
/// present one, and the network that measures it.
const COPIES: u64 = 6;
/// Copies of the weights of the wide branch: the start, the learning ones, and what is made of them.
const WIDE_COPIES: u64 = 3;
/// Copies of the parameters outside the embedding that a step makes: their gradients, and the weights as kernels want them.
const STEP_COPIES: u64 = 2;
/// Copies of the features of the examples: as they were read or computed, and as a refit wants them.
const FEATURE_COPIES: u64 = 2;
/// Bytes of a number.
const NUMBER: u64 = 4;

/// Bytes that a training takes at its worst moment, by what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Copies of the network.
    pub network: u64,
    /// State of the optimiser.
    pub optimiser: u64,
    /// Activations and gradients of the largest batch.
    pub batch: u64,
    /// Encoded examples.
    pub examples: u64,
    /// Features of the examples.
    pub features: u64,
    /// What allocator and kernels take beyond that.
    pub slack: u64,
}

impl Memory {
    /// What a training of a network on samples takes, which has the features of so many of them in memory at some moment.
    pub fn estimate(
        network: &Checkpoint,
        train: &[Sample],
        validation: &[Sample],
        recipe: &Recipe,
        featured: usize,
    ) -> Self {
        let numbers = |name: &str| network.tensors.get(name).map_or(0, |array| array.data.len() as u64);
        let wide = numbers(WIDE_WEIGHT);
        let parameters = network.tensors.values().map(|array| array.data.len() as u64).sum::<u64>() - wide;
        // Batches hold texts of similar length, so one may hold all of the longest.
        let mut lengths: Vec<usize> = train.iter().map(|sample| sample.text.tokens).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        let largest = &lengths[..lengths.len().min(recipe.batch)];
        let tokens = largest.iter().sum::<usize>() as u64;
        let dense = parameters - numbers(EMBEDDING);
        let activations =
            activations(&network.architecture, tokens, largest.len() as u64, network.leaves.len() as u64);
        let moments = match recipe.optimiser {
            Optimiser::AdamW => 2,
            Optimiser::Sgd => 0,
        };
        let samples = train.iter().chain(validation);
        let memory = Self {
            network: COPIES * NUMBER * parameters + WIDE_COPIES * NUMBER * wide,
            optimiser: moments * NUMBER * parameters,
            batch: activations + STEP_COPIES * NUMBER * dense,
            examples: samples.map(encoded).sum(),
            features: FEATURE_COPIES * NUMBER * (featured * network.architecture.features()) as u64,
            slack: 0,
        };
        Self { slack: memory.total() / 2, ..memory }
    }

    /// Bytes in all.
    pub fn total(&self) -> u64 {
        let learning = self.optimiser + self.batch;
        self.network + learning.max(self.features) + self.examples + self.slack
    }

    /// Refuses what is over a limit in bytes.
    ///
    /// # Errors
    /// [`Error::Exhausted`] with reason `TRAINING_MEMORY`, naming the estimate and the limit.
    pub fn check(&self, limit: u64) -> Result<()> {
        if self.total() <= limit {
            return Ok(());
        }
        Err(Error::Exhausted {
            reason: "TRAINING_MEMORY",
            description: format!(
                "the training would take about {self}; the limit is {}. Raise training_memory_limit of the daemon, \
                 or train on fewer or shorter examples",
                Mebibytes(limit)
            ),
            retry_after: None,
        })
    }
}

/// Bytes that a step keeps of N tokens of B texts, for C leaves.
fn activations(architecture: &Architecture, tokens: u64, texts: u64, leaves: u64) -> u64 {
    let embedding = architecture.embedding as u64;
    let states = architecture.states() as u64;
    // Embeddings, their mask, the masked ones and the gradients of these; the projected input, the activations of the
    // four gates, their gradients; states, cells, and their gradients; where states are projected, both sides as the
    // product wants them.
    let (projected, sides) = if architecture.projects() { (states, states + embedding) } else { (0, 0) };
    let token = 5 * embedding + 3 * 4 * states + 4 * states + sides;
    // Features, their mask, the masked ones and their gradients; logits, probabilities and their gradients; the maxima of
    // what is projected with their steps, and the gradients there with unit and token.
    let text = 4 * architecture.features() as u64 + 3 * leaves + 6 * projected;
    NUMBER * (tokens * token + texts * text)
}

/// Bytes of an encoded text.
fn encoded(sample: &Sample) -> u64 {
    let text = &sample.text;
    let lists = size_of_val(&*text.features) + size_of_val(&*text.offsets) + size_of_val(&*text.terms);
    (size_of::<Sample>() + lists) as u64
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (network {}, optimiser {}, largest batch {} or features {}, examples {}, slack {})",
            Mebibytes(self.total()),
            Mebibytes(self.network),
            Mebibytes(self.optimiser),
            Mebibytes(self.batch),
            Mebibytes(self.features),
            Mebibytes(self.examples),
            Mebibytes(self.slack)
        )
    }
}

struct Mebibytes(u64);

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MiB", self.0 as f64 / f64::from(1 << 20))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Architecture, Preset, init},
        registry::Mode,
        taxonomy::LeafId,
        text::EncodedText,
    };

    fn network(rows: usize) -> Checkpoint {
        let architecture = Architecture { hidden: 8, ..Architecture::preset(Preset::Default) };
        let vocabulary = (0..rows).map(|row| if row == 0 { String::new() } else { row.to_string() });
        init::initial(architecture, vocabulary.collect(), vec![LeafId(1), LeafId(2)], 1)
    }

    fn sample(tokens: usize) -> Sample {
        let offsets = (0..=tokens as u32).collect();
        let text =
            EncodedText { features: vec![1; tokens], offsets, tokens, truncated: false, terms: Vec::new() };
        Sample { text, class: 0 }
    }

    fn estimate(network: &Checkpoint, lengths: &[usize]) -> Memory {
        let samples: Vec<Sample> = lengths.iter().map(|&length| sample(length)).collect();
        let recipe =
            Recipe { batch: 2, ..Recipe::for_training(Preset::Default, Mode::Scratch, samples.len()) };
        Memory::estimate(network, &samples, &[], &recipe, 0)
    }

    #[test]
    fn features_count_where_they_take_more_than_learning() {
        let network = network(10);
        let samples: Vec<Sample> = (0..3).map(|_| sample(4)).collect();
        let recipe = Recipe::for_training(Preset::Default, Mode::Scratch, samples.len());
        let of = |featured| Memory::estimate(&network, &samples, &[], &recipe, featured);
        let (none, few, many) = (of(0), of(3), of(100_000));
        assert_eq!(few.features, 2 * 4 * 3 * network.architecture.features() as u64);
        assert_eq!(few.total(), none.total());
        let beyond = many.features - many.optimiser - many.batch;
        assert_eq!(many.total(), none.total() + beyond + beyond / 2);
        assert!(many.to_string().contains(&format!("features {}", Mebibytes(many.features))));
    }

    #[test]
    fn every_part_grows_with_what_it_holds() {
        let small = estimate(&network(10), &[3, 5, 4]);
        let wide = estimate(&network(1010), &[3, 5, 4]);
        assert_eq!(wide.network - small.network, 6 * 4 * 1000 * 128);
        assert_eq!(wide.optimiser - small.optimiser, 2 * 4 * 1000 * 128);
        assert_eq!((wide.batch, wide.examples), (small.batch, small.examples));
        // The two longest texts make the largest batch.
        assert_eq!(estimate(&network(10), &[3, 5, 4, 4]).batch, small.batch);
        assert!(estimate(&network(10), &[3, 5, 5]).batch > small.batch);
        assert!(estimate(&network(10), &[3, 5, 4, 4]).examples > small.examples);
        assert!(estimate(&network(10), &[]).batch < small.batch);
        assert_eq!(small.slack, (small.network + small.optimiser + small.batch + small.examples) / 2);
    }

    #[test]
    fn only_what_is_over_the_limit_is_refused_with_both_numbers() {
        let memory = estimate(&network(5000), &[3, 5, 4]);
        memory.check(memory.total()).unwrap();
        let error = memory.check(memory.total() - 1).unwrap_err();
        assert!(matches!(error, Error::Exhausted { reason: "TRAINING_MEMORY", .. }));
        let text = error.to_string();
        assert!(text.contains("about 30.0 MiB") && text.contains("the limit is 30.0 MiB"), "{text}");
        assert!(text.contains("training_memory_limit"), "{text}");
    }
}
