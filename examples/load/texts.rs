//! The texts of a file, as requests that are encoded already.

use std::{
    error::Error,
    fs,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use prost::{Message as _, bytes::Bytes};
use taxond::proto::v1::PredictRequest;

/// Which texts of a file are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lengths {
    /// The fifth of them in the middle by length, so that requests weigh about the same.
    Middling,
    /// All, as they come.
    Mixed,
}

/// Requests that are handed out in the order of the file, again and again.
#[derive(Debug)]
pub(crate) struct Requests {
    encoded: Vec<Bytes>,
    next: AtomicUsize,
    /// Texts of each.
    pub(crate) texts: usize,
    /// The first, as it was before it was encoded.
    pub(crate) first: PredictRequest,
}

impl Requests {
    /// As many requests as the file has texts, each with `texts` of them: the i-th starts with text i times `texts`.
    pub(crate) fn new(model: &str, file: &[String], texts: usize) -> Self {
        let model = if model.contains('/') { model.to_owned() } else { format!("models/{model}") };
        let request = |at: usize| {
            let texts = (at * texts..(at + 1) * texts).map(|text| file[text % file.len()].clone());
            PredictRequest { model: model.clone(), texts: texts.collect(), ..PredictRequest::default() }
        };
        let encoded = (0..file.len()).map(|at| request(at).encode_to_vec().into()).collect();
        Self { encoded, next: AtomicUsize::new(0), texts, first: request(0) }
    }

    /// The next. A message of PredictStream has the same encoding.
    pub(crate) fn next(&self) -> Bytes {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        self.encoded[at % self.encoded.len()].clone()
    }
}

/// The texts of a file that are not blank.
///
/// # Errors
/// It cannot be read, has no column `text`, or no text.
pub(crate) fn read(path: &Path, lengths: Lengths) -> Result<Vec<String>, Box<dyn Error>> {
    let named = |cause: Box<dyn Error>| format!("{}: {cause}", path.display());
    let mut texts = if path.extension().is_some_and(|ending| ending == "csv") {
        column(path).map_err(named)?
    } else {
        fs::read_to_string(path).map_err(|cause| named(cause.into()))?.lines().map(str::to_owned).collect()
    };
    texts.retain(|text| !text.trim().is_empty());
    if texts.is_empty() {
        return Err(named("there is no text".into()).into());
    }
    Ok(match lengths {
        Lengths::Mixed => texts,
        Lengths::Middling => middling(texts),
    })
}

fn column(path: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut reader = csv::Reader::from_path(path)?;
    let column =
        reader.headers()?.iter().position(|name| name == "text").ok_or("no column is named 'text'")?;
    let text = |record: csv::StringRecord| record.get(column).unwrap_or_default().to_owned();
    reader.records().map(|record| Ok(text(record?))).collect()
}

/// Those between the second and the third fifth by length, in their order.
fn middling(texts: Vec<String>) -> Vec<String> {
    let length = |text: &String| text.chars().count();
    let mut lengths: Vec<usize> = texts.iter().map(length).collect();
    lengths.sort_unstable();
    let bounds = lengths[lengths.len() * 2 / 5]..=lengths[lengths.len() * 3 / 5];
    texts.into_iter().filter(|text| bounds.contains(&length(text))).collect()
}
