//! Whether a candidate may take the place of the version that serves.

/// What the gate decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    /// Whether the candidate is promoted.
    pub(super) promote: bool,
    /// The decision and its numbers in words.
    pub(super) explanation: String,
}

/// Compares a candidate with the version it would replace, by accuracy on the same validation examples.
///
/// A candidate that is not worse is promoted. Without a version to replace, or without validation examples, there is
/// nothing to compare and the candidate is promoted.
pub(super) fn decide(replaced: Option<f64>, candidate: Option<f64>) -> Decision {
    let (promote, explanation) = match (replaced, candidate) {
        (Some(before), Some(after)) if after >= before => {
            (true, format!("promoted: validation accuracy {after:.4}, was {before:.4}"))
        }
        (Some(before), Some(after)) => (
            false,
            format!(
                "stored, not promoted: validation accuracy {after:.4} is below {before:.4} of the serving version"
            ),
        ),
        (None, Some(after)) => (true, format!("promoted: validation accuracy {after:.4}, nothing replaced")),
        (_, None) => (true, "promoted: there are no validation examples to compare on".to_owned()),
    };
    Decision { promote, explanation }
}

/// What a training that was cancelled has learnt is kept for who asked for it, and serves nobody else.
pub(super) fn cancelled(epochs: u32, planned: u32) -> Decision {
    let explanation =
        format!("stored, not promoted: the training was cancelled after {epochs} of {planned} epochs");
    Decision { promote: false, explanation }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_worse_is_promoted() {
        assert!(decide(Some(0.91), Some(0.91)).promote);
        assert!(decide(Some(0.91), Some(0.92)).promote);
        assert!(decide(None, Some(0.1)).promote);
        assert!(decide(None, None).promote);
        let refused = decide(Some(0.92), Some(0.9199));
        assert!(!refused.promote);
        assert!(refused.explanation.contains("0.9199") && refused.explanation.contains("0.9200"));
    }

    #[test]
    fn a_candidate_that_is_no_number_is_refused() {
        assert!(!decide(Some(0.5), Some(f64::NAN)).promote);
    }
}
