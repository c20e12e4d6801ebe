//! How large an answer of Predict and ModelInfer may become, told before anything is computed: an answer that would not fit a
//! message is refused, with what to ask for instead.
//!
//! ```text
//! Predict     = what stands once + texts (what stands once a text + the top_k longest of the classes)
//! ModelInfer  = what stands once + texts (4 classes + 4 + the longest name)
//! ```

use super::{
    MAX_MESSAGE_BYTES,
    check::Violations,
    tensor::{self, Output},
};
use crate::{
    error::{Error, Result, Violation},
    predict::Outline,
    taxonomy::MAX_CLASS_NAME_BYTES,
};

/// Bytes of what stands once in an answer, at most: names and numbers of model and version, the threshold, lengths.
const ONCE_BYTES: usize = 1024;
/// Bytes of what stands once for a text, at most: the marks, the number of tokens, the length.
const TEXT_BYTES: usize = 24;
/// Bytes of a scored class beside its name, at most: id, probability, mark, lengths.
const CLASS_BYTES: usize = 26;
/// Bytes of a class that is not answered in beside its name and the others, at most.
const UNRESOLVED_BYTES: usize = 24;
/// Bytes of an id in a list, at most.
const ID_BYTES: usize = 5;

/// What an answer is made of: so many bytes once, and for each text so many and those of the classes that it lists.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sizes {
    once: usize,
    /// Bytes of each class that may be listed, the longest first.
    classes: Vec<usize>,
}

impl Sizes {
    /// Bytes of an answer to a text with so many classes.
    fn text(&self, top_k: usize) -> usize {
        TEXT_BYTES + self.classes.iter().take(top_k).sum::<usize>()
    }

    fn answer(&self, texts: usize, top_k: usize) -> usize {
        self.once + texts * self.text(top_k)
    }

    /// The most classes for each of so many texts, and the most texts with so many classes each, that fit a message.
    fn fitting(&self, texts: usize, top_k: usize) -> (usize, usize) {
        let room = MAX_MESSAGE_BYTES.saturating_sub(self.once);
        let fits = |k: &usize| texts * self.text(*k) <= room;
        // The sums grow with k.
        let most = (1..=top_k.min(self.classes.len())).take_while(fits).last().unwrap_or(0);
        (most, room / self.text(top_k))
    }
}

/// Refuses a Predict whose answer may be larger than a message.
///
/// # Errors
/// [`Error::Invalid`] naming `top_k` and `texts` with what would fit, or `manifest_revision` where the classes that it is not
/// answered in take too much alone.
pub(super) fn check_predict(outline: &Outline<'_>) -> Result<()> {
    // The usual request passes without a look at its classes.
    let listed = outline.listed();
    let longest = TEXT_BYTES + listed * (CLASS_BYTES + MAX_CLASS_NAME_BYTES);
    if outline.unresolved().is_empty() && ONCE_BYTES + outline.texts() * longest <= MAX_MESSAGE_BYTES {
        return Ok(());
    }
    let name = |class| outline.name(class).as_str().len();
    let unresolved = outline
        .unresolved()
        .iter()
        .map(|of| UNRESOLVED_BYTES + name(of.class) + of.answered_under.len() * ID_BYTES);
    let mut classes: Vec<usize> = outline.classes().iter().map(|class| CLASS_BYTES + name(*class)).collect();
    classes.sort_unstable_by(|a, b| b.cmp(a));
    let sizes = Sizes { once: ONCE_BYTES + unresolved.sum::<usize>(), classes };
    refuse(&sizes, outline.texts(), listed)
}

fn refuse(sizes: &Sizes, texts: usize, top_k: usize) -> Result<()> {
    let bytes = sizes.answer(texts, top_k);
    if bytes <= MAX_MESSAGE_BYTES {
        return Ok(());
    }
    let too_large =
        format!("the answer may have {bytes} bytes, and a message has at most {MAX_MESSAGE_BYTES}");
    let (most_classes, most_texts) = sizes.fitting(texts, top_k);
    let mut violations = Violations::default();
    if most_classes > 0 {
        violations.add(
            "top_k",
            format!("{too_large}: must be at most {most_classes} for {texts} texts, got {top_k}"),
        );
    }
    if most_texts > 0 {
        let description =
            format!("{too_large}: must hold at most {most_texts} texts with top_k {top_k}, got {texts}");
        violations.add("texts", description);
    }
    if most_classes.max(most_texts) == 0 {
        let description =
            format!("{too_large}: the classes of the revision that are not answered in take {}", sizes.once);
        violations.add("manifest_revision", description);
    }
    violations.finish()
}

/// Refuses a ModelInfer whose answer may be larger than a message.
///
/// # Errors
/// [`Error::Invalid`] naming `inputs[0].shape` and `outputs`.
pub(super) fn check_infer(outline: &Outline<'_>, wanted: &[Output]) -> Result<()> {
    let (texts, classes) = (outline.texts(), outline.classes().len());
    let probabilities = wanted.contains(&Output::Probabilities);
    let (mut once, mut a_text) = (ONCE_BYTES, 2 * size_of::<f32>() + MAX_CLASS_NAME_BYTES);
    if probabilities {
        let names: Vec<&str> = outline.classes().iter().map(|class| outline.name(*class).as_str()).collect();
        once += tensor::json(&names).len();
        a_text += classes * size_of::<f32>();
    }
    let bytes = once + texts * a_text;
    if bytes <= MAX_MESSAGE_BYTES {
        return Ok(());
    }
    let too_large = format!(
        "probabilities of {texts} texts in {classes} classes may take {bytes} bytes, and a message has at most \
         {MAX_MESSAGE_BYTES}"
    );
    let most = MAX_MESSAGE_BYTES.saturating_sub(once) / a_text;
    let violation = |field: &str, advice: String| Violation {
        field: field.to_owned(),
        description: format!("{too_large}: {advice}"),
    };
    let fewer = (most > 0)
        .then(|| violation("inputs[0].shape", format!("must be at most {most} texts, got {texts}")));
    let others = violation("outputs", "ask for 'label' and 'score', or use Predict with top_k".to_owned());
    Err(Error::Invalid(fewer.into_iter().chain([others]).collect()))
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::proto::v1;

    /// The largest answer to so many texts with classes whose names have these lengths.
    fn largest(texts: usize, names: &[usize]) -> v1::PredictResponse {
        let class = |length: &usize| v1::ScoredClass {
            name: "x".repeat(*length),
            id: u32::MAX,
            probability: 0.1,
            newer: true,
        };
        let prediction = v1::Prediction {
            classes: names.iter().map(class).collect(),
            truncated: true,
            token_count: u32::MAX,
            rejected: true,
        };
        v1::PredictResponse {
            predictions: vec![prediction; texts],
            version: format!("models/{}/versions/{}", "x".repeat(63), u64::MAX),
            manifest_revision: u64::MAX,
            rejection_threshold: Some(0.5),
            unresolved: Vec::new(),
        }
    }

    fn sizes(names: &[usize]) -> Sizes {
        Sizes { once: ONCE_BYTES, classes: names.iter().map(|length| CLASS_BYTES + length).collect() }
    }

    #[test]
    fn no_answer_is_larger_than_what_was_told() {
        for (texts, names) in [
            (1, vec![1]),
            (256, vec![128; 50]),
            (3, vec![]),
            (256, vec![128, 60, 9, 1]),
            (1, vec![128; 10_000]),
        ] {
            let (told, is) = (sizes(&names).answer(texts, names.len()), largest(texts, &names).encoded_len());
            assert!(is <= told && told <= is + is / 2 + ONCE_BYTES, "{texts} {}: {is}, {told}", names.len());
        }
    }

    #[test]
    fn a_refusal_says_what_would_fit() {
        let sizes = sizes(&[128; 2000]);
        let error = refuse(&sizes, 256, 1000).unwrap_err();
        let Error::Invalid(violations) = error else { panic!("{error}") };
        let fields: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["top_k", "texts"]);
        let (classes, texts) = sizes.fitting(256, 1000);
        assert!(
            violations[0].description.contains(&format!("must be at most {classes} for 256 texts, got 1000"))
        );
        assert!(
            violations[1].description.contains(&format!("at most {texts} texts with top_k 1000, got 256"))
        );
        assert!(refuse(&sizes, 256, classes).is_ok() && refuse(&sizes, 256, classes + 1).is_err());
        assert!(refuse(&sizes, texts, 1000).is_ok() && refuse(&sizes, texts + 1, 1000).is_err());
        let once = Sizes { once: MAX_MESSAGE_BYTES, classes: vec![30; 3] };
        let error = refuse(&once, 1, 3).unwrap_err();
        assert!(matches!(&error, Error::Invalid(v) if v[0].field == "manifest_revision"), "{error}");
    }
}
