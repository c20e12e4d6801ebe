//! Checks of request fields. Each names the field and the offending value.

use crate::{
    error::{Error, Result, Violation},
    proto::v1,
    taxonomy::ClassName,
    text::MAX_TEXT_BYTES,
    train::{Learning, Optimiser, Strategy},
};

/// Texts of one Predict.
pub(super) const MAX_TEXTS: usize = 256;
/// Classes a text may be answered with.
pub(super) const MAX_TOP_K: u32 = 1000;
/// Epochs of one training.
const MAX_EPOCHS: u32 = 1000;
/// Longest reason of a change, in bytes.
const MAX_REASON_BYTES: usize = 1024;
/// Wrong fields that an error names at most.
const MAX_NAMED: usize = 20;
/// Longest request id, in bytes.
const MAX_REQUEST_ID_BYTES: usize = 128;
/// Items on a page where the request does not say.
const DEFAULT_PAGE: u32 = 100;
/// Suggestions where the request does not say.
const DEFAULT_SUGGESTIONS: usize = 10;
/// Items on a page at most.
const MAX_PAGE: u32 = 1000;

/// Collects what is wrong with a request, so that a client hears of everything at once.
#[derive(Debug, Default)]
pub(super) struct Violations(Vec<Violation>);

impl Violations {
    pub(super) fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push(Violation { field: field.into(), description: description.into() });
    }

    /// Whether no more is named: clients take an error of some kilobytes at most.
    pub(super) fn are_enough(&self) -> bool {
        self.0.len() >= MAX_NAMED
    }

    /// Refuses the request if anything was wrong.
    pub(super) fn finish(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Invalid(self.0)) }
    }

    /// A text: not blank, not over the limit.
    pub(super) fn text(&mut self, field: impl FnOnce() -> String, text: &str) {
        if text.len() > MAX_TEXT_BYTES {
            let (bytes, start) = (text.len(), beginning(text));
            self.add(field(), format!("must be at most {MAX_TEXT_BYTES} bytes, got {bytes} ('{start}')"));
        } else if text.trim().is_empty() {
            self.add(field(), format!("must not be empty or blank, got '{}'", beginning(text)));
        }
    }

    /// A label.
    pub(super) fn label(&mut self, field: impl FnOnce() -> String, label: &str) -> Option<ClassName> {
        ClassName::new(label).map_err(|description| self.add(field(), description)).ok()
    }
}

/// The texts of a Predict.
pub(super) fn texts(violations: &mut Violations, texts: &[String]) {
    if texts.is_empty() {
        violations.add("texts", "must hold at least one text");
    }
    if texts.len() > MAX_TEXTS {
        violations.add("texts", format!("must hold at most {MAX_TEXTS} texts, got {}", texts.len()));
        return;
    }
    for (index, text) in texts.iter().enumerate() {
        violations.text(|| format!("texts[{index}]"), text);
        if violations.are_enough() {
            return;
        }
    }
}

/// So much of a text as an error may quote.
fn beginning(text: &str) -> String {
    let start: String = text.chars().take(24).collect();
    let more = if start.len() < text.len() { "..." } else { "" };
    format!("{}{more}", start.escape_debug())
}

/// `top_k`: 1 to 1000, 1 if absent.
pub(super) fn top_k(violations: &mut Violations, top_k: Option<u32>) -> usize {
    let value = top_k.unwrap_or(1);
    if !(1..=MAX_TOP_K).contains(&value) {
        violations.add("top_k", format!("must be 1 to {MAX_TOP_K}, got {value}"));
    }
    value as usize
}

/// `min_confidence`: 0 to 1, 0 if absent.
pub(super) fn min_confidence(violations: &mut Violations, min_confidence: Option<f64>) -> f64 {
    let value = min_confidence.unwrap_or(0.0);
    if !(0.0..=1.0).contains(&value) {
        violations.add("min_confidence", format!("must be 0 to 1, got {value}"));
    }
    value
}

/// `min_precision`: 0 to 1.
pub(super) fn min_precision(violations: &mut Violations, min_precision: Option<f64>) {
    if let Some(value) = min_precision.filter(|value| !(0.0..=1.0).contains(value)) {
        violations.add("min_precision", format!("must be 0 to 1, got {value}"));
    }
}

/// `epochs`: 1 to 1000.
pub(super) fn epochs(violations: &mut Violations, epochs: Option<u32>) {
    if let Some(value) = epochs.filter(|value| !(1..=MAX_EPOCHS).contains(value)) {
        violations.add("epochs", format!("must be 1 to {MAX_EPOCHS}, got {value}"));
    }
}

/// `learning_rate`: above 0, at most 1.
pub(super) fn learning_rate(violations: &mut Violations, rate: Option<f64>) {
    if let Some(value) = rate.filter(|value| !(*value > 0.0 && *value <= 1.0)) {
        violations.add("learning_rate", format!("must be above 0 and at most 1, got {value}"));
    }
}

/// `word_shuffle`: 0 to 1.
pub(super) fn word_shuffle(violations: &mut Violations, probability: Option<f64>) {
    if let Some(value) = probability.filter(|value| !(0.0..=1.0).contains(value)) {
        violations.add("word_shuffle", format!("must be 0 to 1, got {value}"));
    }
}

/// `optimiser`, none if not given.
pub(super) fn optimiser(violations: &mut Violations, optimiser: i32) -> Option<Optimiser> {
    match v1::Optimiser::try_from(optimiser) {
        Ok(v1::Optimiser::Unspecified) => None,
        Ok(v1::Optimiser::Adamw) => Some(Optimiser::AdamW),
        Ok(v1::Optimiser::Sgd) => Some(Optimiser::Sgd),
        Err(_) => {
            violations.add("optimiser", format!("is not an optimiser, got {optimiser}"));
            None
        }
    }
}

/// The reason of a change.
pub(super) fn reason(violations: &mut Violations, reason: &str) {
    if reason.len() > MAX_REASON_BYTES {
        violations.add("reason", format!("must be at most {MAX_REASON_BYTES} bytes, got {}", reason.len()));
    }
}

/// `learn` of a change: how a job learns it, if one does; as the case asks for if not given.
pub(super) fn learn(violations: &mut Violations, learn: i32, force: bool) -> Learning {
    match strategy(violations, learn) {
        Some(strategy) => Learning::Follows { strategy, force },
        None => Learning::None,
    }
}

/// `learn` of a training, which is to learn something.
pub(super) fn training(violations: &mut Violations, learn: i32) -> Strategy {
    strategy(violations, learn).unwrap_or_else(|| {
        violations.add("learn", "a training cannot be NONE");
        Strategy::Auto
    })
}

/// How to learn; none for not at all.
fn strategy(violations: &mut Violations, learn: i32) -> Option<Strategy> {
    match v1::Learn::try_from(learn) {
        Ok(v1::Learn::Unspecified | v1::Learn::Auto) => Some(Strategy::Auto),
        Ok(v1::Learn::None) => None,
        Ok(v1::Learn::HeadOnly) => Some(Strategy::HeadOnly),
        Ok(v1::Learn::FineTune) => Some(Strategy::FineTune),
        Ok(v1::Learn::Seed) => Some(Strategy::Seed),
        Ok(v1::Learn::Scratch) => Some(Strategy::Scratch),
        Err(_) => {
            violations.add("learn", format!("is not a way to learn, got {learn}"));
            Some(Strategy::Auto)
        }
    }
}

/// A request id.
pub(super) fn request_id(request_id: &str) -> Result<()> {
    if request_id.len() > MAX_REQUEST_ID_BYTES {
        let description = format!("must be at most {MAX_REQUEST_ID_BYTES} bytes, got {}", request_id.len());
        return Err(Error::invalid("request_id", description));
    }
    Ok(())
}

/// `page_size`: 0 means 100, at most 1000.
pub(super) fn page_size(page_size: u32) -> Result<usize> {
    match page_size {
        0 => Ok(DEFAULT_PAGE as usize),
        1..=MAX_PAGE => Ok(page_size as usize),
        _ => Err(Error::invalid("page_size", format!("must be at most {MAX_PAGE}, got {page_size}"))),
    }
}

/// `limit` of suggestions: 0 means 10, at most 1000.
pub(super) fn suggestions(limit: u32) -> Result<usize> {
    match limit {
        0 => Ok(DEFAULT_SUGGESTIONS),
        1..=MAX_PAGE => Ok(limit as usize),
        _ => Err(Error::invalid("limit", format!("must be at most {MAX_PAGE}, got {limit}"))),
    }
}

/// `etag`: as the model carried it, or empty.
pub(super) fn etag(etag: &str) -> Result<Option<u64>> {
    if etag.is_empty() {
        return Ok(None);
    }
    etag.parse().map(Some).map_err(|_| {
        Error::invalid("etag", format!("is not one that a model carried, got '{}'", etag.escape_debug()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_bounds_are_named() {
        let mut violations = Violations::default();
        top_k(&mut violations, Some(0));
        top_k(&mut violations, Some(1001));
        min_confidence(&mut violations, Some(f64::NAN));
        min_confidence(&mut violations, Some(1.5));
        min_precision(&mut violations, Some(-0.1));
        learning_rate(&mut violations, Some(f64::NAN));
        learning_rate(&mut violations, Some(0.0));
        epochs(&mut violations, Some(0));
        assert_eq!(violations.0.len(), 8);
        let text = violations.finish().unwrap_err().to_string();
        assert!(text.contains("top_k: must be 1 to 1000, got 0") && text.contains("got NaN"), "{text}");
    }

    #[test]
    fn good_numbers_pass() {
        let mut violations = Violations::default();
        assert_eq!(top_k(&mut violations, None), 1);
        assert_eq!(min_confidence(&mut violations, Some(1.0)), 1.0);
        min_precision(&mut violations, None);
        learning_rate(&mut violations, Some(1.0));
        epochs(&mut violations, Some(1000));
        assert!(violations.finish().is_ok());
        assert_eq!(page_size(0).unwrap(), 100);
        assert!(page_size(1001).is_err() && suggestions(1001).is_err());
        assert_eq!((suggestions(0).unwrap(), suggestions(3).unwrap()), (10, 3));
    }

    #[test]
    fn texts_are_bounded_and_not_blank() {
        let mut violations = Violations::default();
        let long = "x".repeat(MAX_TEXT_BYTES + 1);
        texts(&mut violations, &["ok".into(), " \n".into(), long]);
        let text = violations.finish().unwrap_err().to_string();
        assert!(text.contains("texts[1]: must not be empty or blank, got ' \\n'"), "{text}");
        assert!(text.contains("texts[2]: must be at most 65536 bytes, got 65537"), "{text}");
        let mut violations = Violations::default();
        texts(&mut violations, &vec!["a".to_owned(); 257]);
        texts(&mut violations, &[]);
        assert_eq!(violations.0.len(), 2);
    }
}
