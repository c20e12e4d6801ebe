//! How exactly a network that answers keeps its weights.

use std::{fmt, str::FromStr};

use super::{Architecture, kernels::RecurrentWeights};

/// Units of an LSTM from which on its recurrent weights no longer lie in the nearer caches of a core, so that rounding them
/// makes a text faster.
const LARGE: usize = 256;

/// What the recurrent weights of networks that answer are rounded to. Networks that learn always keep them as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AnswerWeights {
    /// Eight bits where an LSTM has 256 units or more in a direction.
    #[default]
    Auto,
    /// Nothing: 32 bits.
    F32,
    /// Eight bits, each gate of each unit with a scale of its own.
    Int8,
}

impl AnswerWeights {
    /// How those of a network are kept.
    pub fn of(self, architecture: &Architecture) -> RecurrentWeights {
        match self {
            Self::Auto if architecture.hidden >= LARGE => RecurrentWeights::Rounded,
            Self::Auto | Self::F32 => RecurrentWeights::Exact,
            Self::Int8 => RecurrentWeights::Rounded,
        }
    }
}

impl FromStr for AnswerWeights {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "int8" => Ok(Self::Int8),
            _ => Err(format!("must be auto, f32 or int8, got '{text}'")),
        }
    }
}

impl fmt::Display for AnswerWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Int8 => "int8",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;

    #[test]
    fn words_are_read_strictly() {
        for (word, weights) in
            [("auto", AnswerWeights::Auto), ("f32", AnswerWeights::F32), ("int8", AnswerWeights::Int8)]
        {
            assert_eq!(word.parse(), Ok(weights));
            assert_eq!(weights.to_string(), word);
        }
        for bad in ["", "INT8", "int4"] {
            assert!(bad.parse::<AnswerWeights>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_large_networks_are_rounded_unasked() {
        let [small, large] = [Preset::Default, Preset::Seed].map(Architecture::preset);
        assert_eq!(AnswerWeights::Auto.of(&small), RecurrentWeights::Exact);
        assert_eq!(AnswerWeights::Auto.of(&large), RecurrentWeights::Rounded);
        assert_eq!(AnswerWeights::F32.of(&large), RecurrentWeights::Exact);
        assert_eq!(AnswerWeights::Int8.of(&small), RecurrentWeights::Rounded);
    }
}
