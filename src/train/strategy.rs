//! How to learn: which parts of a network, in which stages.

use serde::{Deserialize, Serialize};

use crate::registry::Mode;

/// What a caller may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Strategy {
    /// As the case asks for.
    #[default]
    Auto,
    /// The rows of the softmax, on top of the encoder as it is.
    HeadOnly,
    /// Everything, a few epochs at a small rate.
    FineTune,
    /// The softmax anew from random rows, and everything trained on.
    Seed,
    /// Everything anew.
    Scratch,
}

/// A part of a job that ends with a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The rows of the softmax are fitted.
    Refit,
    /// Everything is trained.
    Fit,
}

impl Strategy {
    /// The mode in place of the one that the data asks for.
    pub(super) fn mode(self, planned: Mode) -> Mode {
        match self {
            Self::Scratch => Mode::Scratch,
            Self::Seed if planned == Mode::Continue => Mode::Transfer,
            Self::Auto | Self::HeadOnly | Self::FineTune | Self::Seed => planned,
        }
    }

    /// The stages of a training.
    pub(super) fn stages(self, mode: Mode) -> &'static [Stage] {
        match (self, mode) {
            (Self::HeadOnly, Mode::Continue | Mode::Transfer) => &[Stage::Refit],
            (Self::Auto, Mode::Transfer) => &[Stage::Refit, Stage::Fit],
            _ => &[Stage::Fit],
        }
    }

    /// What the reason of a plan says about a strategy that was asked for.
    pub(super) fn note(self) -> &'static str {
        match self {
            Self::Auto => "",
            Self::HeadOnly => "; only the head, as asked for",
            Self::FineTune => "; fine-tuned, as asked for",
            Self::Seed => "; with a softmax from random rows, as asked for",
            Self::Scratch => "; from scratch, as asked for",
        }
    }
}

impl Stage {
    /// Its name in reports and progress.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Refit => "refit",
            Self::Fit => "fit",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_goes_in_stages_unless_told_otherwise() {
        assert_eq!(Strategy::Auto.stages(Mode::Transfer), [Stage::Refit, Stage::Fit]);
        for strategy in [Strategy::FineTune, Strategy::Seed] {
            assert_eq!(strategy.stages(Mode::Transfer), [Stage::Fit]);
        }
        assert_eq!(Strategy::HeadOnly.stages(Mode::Continue), [Stage::Refit]);
        // There is no encoder yet that could stay as it is.
        assert_eq!(Strategy::HeadOnly.stages(Mode::Scratch), [Stage::Fit]);
    }

    #[test]
    fn a_new_softmax_is_a_transfer_and_scratch_is_scratch() {
        assert_eq!(Strategy::Seed.mode(Mode::Continue), Mode::Transfer);
        assert_eq!(Strategy::Scratch.mode(Mode::Transfer), Mode::Scratch);
        assert_eq!(Strategy::Seed.mode(Mode::Scratch), Mode::Scratch);
        assert_eq!(Strategy::Auto.mode(Mode::Continue), Mode::Continue);
    }
}
