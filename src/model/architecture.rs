//! The dimensions of a network, fixed when a model is made.

use crate::text::Segmentation;

/// Dimensions and choices that fix the shape of every tensor but the head's, which also depends on the leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Architecture {
    /// The preset this came from.
    pub preset: Preset,
    /// E: width of a token's embedding.
    pub embedding: usize,
    /// H: width of the LSTM's state in one direction.
    pub hidden: usize,
    /// Whether a second LSTM reads the text from its end.
    pub bidirectional: bool,
    /// Whether the single LSTM of a network that is not bidirectional reads the text from its end.
    pub reversed: bool,
    /// Tokens that are read of a text; the rest is ignored, and the answer says so.
    pub max_tokens: usize,
    /// Whether a token is a bag of its word, its character n-grams and its bigram, or its word alone.
    pub subwords: bool,
    /// What a token of ideographs is.
    pub segmentation: Segmentation,
    /// How the states of all tokens become one vector.
    pub pooling: Pooling,
    /// Whether a wide branch reads the n-grams of the text beside the LSTM.
    pub wide: bool,
    /// Rows of the embedding, from row 1 on, that training leaves as they are: words whose vectors came from a file.
    pub frozen_rows: usize,
}

/// Which network a model trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preset {
    /// Words and character n-grams, a bidirectional LSTM of 128 and a projection of it, three poolings, and a wide branch: fast
    /// and accurate.
    #[default]
    Default,
    /// Words (of Chinese too) of 300 dimensions, one LSTM of 1000 over the reversed text, mean pooling: large and slow.
    Seed,
}

/// How the states of all tokens become the features of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Mean of the states.
    Mean,
    /// Mean of the states, maximum of the states, and mean of the token embeddings, side by side.
    MeanMaxInput,
    /// Mean of the states, maximum of what a projection makes of each state beside its token's embedding (Lai et al. 2015),
    /// and mean of the token embeddings, side by side.
    MeanProjectedInput,
}

impl Architecture {
    /// The dimensions of a preset.
    pub fn preset(preset: Preset) -> Self {
        match preset {
            Preset::Default => Self {
                preset,
                embedding: 128,
                hidden: 128,
                bidirectional: true,
                reversed: false,
                max_tokens: 128,
                subwords: true,
                segmentation: Segmentation::Characters,
                pooling: Pooling::MeanProjectedInput,
                wide: true,
                frozen_rows: 0,
            },
            Preset::Seed => Self {
                preset,
                embedding: 300,
                hidden: 1000,
                bidirectional: false,
                reversed: true,
                max_tokens: 30,
                subwords: false,
                segmentation: Segmentation::Words,
                pooling: Pooling::Mean,
                wide: false,
                frozen_rows: 0,
            },
        }
    }

    /// Whether training leaves a row of the embedding as it is.
    pub fn is_frozen(&self, row: u32) -> bool {
        (1..=self.frozen_rows).contains(&(row as usize))
    }

    /// D: LSTMs that read the text, 1 or 2.
    pub fn directions(&self) -> usize {
        if self.bidirectional { 2 } else { 1 }
    }

    /// F: width of a text's features, the input of the head.
    pub fn features(&self) -> usize {
        match self.pooling {
            Pooling::Mean => self.states(),
            Pooling::MeanMaxInput | Pooling::MeanProjectedInput => 2 * self.states() + self.embedding,
        }
    }

    /// S: width of a token's state, of all directions.
    pub fn states(&self) -> usize {
        self.directions() * self.hidden
    }

    /// Whether states are projected before their maximum is taken, to as many numbers as they are.
    pub fn projects(&self) -> bool {
        self.pooling == Pooling::MeanProjectedInput
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feature_width_counts_every_part() {
        assert_eq!(Architecture::preset(Preset::Default).features(), 256 + 256 + 128);
        assert_eq!(Architecture::preset(Preset::Seed).features(), 1000);
    }
}
