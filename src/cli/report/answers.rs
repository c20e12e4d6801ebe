//! How a version answers labelled texts.

use std::collections::{BTreeMap, BTreeSet};

use tonic::Request;

use crate::{
    cli::{connection::Connection, failure::Failure, pages},
    proto::v1::{ExampleFilter, LabelledText, ListExamplesRequest, Model, PredictRequest, Split},
};

/// Texts of a call.
const TEXTS: usize = 256;
/// Examples of a page.
const PAGE: u32 = 1000;
/// Validation examples that are asked about at most.
const MOST: usize = 20_000;

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    /// The right class.
    pub(super) label: String,
    /// The class that was answered.
    pub(super) answer: String,
    /// Its probability.
    pub(super) confidence: f64,
}

/// Answers to labelled texts, at least one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answers(pub(super) Vec<Answer>);

impl Answers {
    /// Asks a version about texts, or about the validation examples of its model. None where there is no text.
    pub(super) async fn ask(
        connection: &Connection,
        model: &Model,
        target: &str,
        texts: Option<Vec<LabelledText>>,
    ) -> Result<Option<Self>, Failure> {
        let texts = match texts {
            Some(texts) => texts,
            None => validation_examples(connection, &model.name).await?,
        };
        let mut client = connection.predict();
        let mut answers = Vec::new();
        for texts in texts.chunks(TEXTS) {
            let request = PredictRequest {
                model: target.to_owned(),
                texts: texts.iter().map(|text| text.text.clone()).collect(),
                top_k: Some(1),
                // The labels of stored examples are told in the classes of today.
                manifest_revision: Some(model.manifest_revision),
                ..PredictRequest::default()
            };
            let predictions =
                client.predict(connection.patient(Request::new(request))).await?.into_inner().predictions;
            for (text, prediction) in texts.iter().zip(predictions) {
                let Some(best) = prediction.classes.into_iter().next() else { continue };
                let (answer, confidence) = (best.name, best.probability);
                answers.push(Answer { label: text.label.clone(), answer, confidence });
            }
        }
        Ok((!answers.is_empty()).then_some(Self(answers)))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Share of the right ones.
    pub(super) fn accuracy(&self) -> f64 {
        self.0.iter().filter(|answer| answer.label == answer.answer).count() as f64 / self.0.len() as f64
    }

    /// How often each class was answered for each, by label and answer.
    pub(super) fn counts(&self) -> BTreeMap<(&str, &str), usize> {
        let mut counts = BTreeMap::new();
        for Answer { label, answer, .. } in &self.0 {
            *counts.entry((label.as_str(), answer.as_str())).or_default() += 1;
        }
        counts
    }
}

async fn validation_examples(connection: &Connection, model: &str) -> Result<Vec<LabelledText>, Failure> {
    let mut client = connection.dataset();
    // What a version has trained on does not measure it.
    let trained: BTreeSet<String> =
        pages::stats(connection, model).await?.small_classes.into_iter().collect();
    let (mut texts, mut page_token) = (Vec::new(), String::new());
    loop {
        let filter = ExampleFilter { split: Split::Validation.into(), ..ExampleFilter::default() };
        let request = ListExamplesRequest {
            model: model.to_owned(),
            page_size: PAGE,
            page_token,
            filter: Some(filter),
            ..ListExamplesRequest::default()
        };
        let page = client.list_examples(connection.request(request)).await?.into_inner();
        // An example whose label is no class now has none.
        let known = page
            .examples
            .into_iter()
            .filter(|example| !example.class_name.is_empty() && !trained.contains(&example.class_name));
        texts.extend(known.map(|example| LabelledText { text: example.text, label: example.class_name }));
        page_token = page.next_page_token;
        if page_token.is_empty() || texts.len() >= MOST {
            texts.truncate(MOST);
            return Ok(texts);
        }
    }
}
