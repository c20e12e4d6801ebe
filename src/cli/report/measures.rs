//! How good answers are: in all, class by class, and by how sure they were.

use std::collections::BTreeMap;

use svg::node::element::SVG;

use super::{
    answers::{Answer, Answers},
    chart::{COLOURS, Chart},
};
use crate::{
    cli::output::{count, percent},
    proto::v1::RejectionPoint,
};

/// Bins of confidence.
const BINS: usize = 10;

/// A class among the answers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ClassMeasures {
    pub(super) name: String,
    /// Texts with this label, and answers for it, and those of both.
    pub(super) labelled: usize,
    pub(super) answered: usize,
    pub(super) right: usize,
}

impl ClassMeasures {
    pub(super) fn precision(&self) -> f64 {
        share(self.right, self.answered)
    }

    pub(super) fn recall(&self) -> f64 {
        share(self.right, self.labelled)
    }

    /// Harmonic mean of precision and recall.
    pub(super) fn f1(&self) -> f64 {
        share(2 * self.right, self.labelled + self.answered)
    }
}

/// Every class that occurs, by name.
pub(super) fn classes(answers: &Answers) -> Vec<ClassMeasures> {
    let mut found: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    for ((label, answer), number) in answers.counts() {
        found.entry(label).or_default()[0] += number;
        found.entry(answer).or_default()[1] += number;
        if label == answer {
            found.entry(label).or_default()[2] += number;
        }
    }
    found
        .into_iter()
        .map(|(name, [labelled, answered, right])| ClassMeasures {
            name: name.to_owned(),
            labelled,
            answered,
            right,
        })
        .collect()
}

/// Mean F1 of the classes, 0 to 1.
pub(super) fn macro_f1(classes: &[ClassMeasures]) -> f64 {
    classes.iter().map(ClassMeasures::f1).sum::<f64>() / classes.len().max(1) as f64
}

/// Accuracy of the answers of each confidence; those of a well calibrated version lie on the dashed line.
pub(super) fn reliability(answers: &Answers) -> SVG {
    let mut chart = Chart::new((0.0, 1.0), (0.0, 1.0), "confidence", "accuracy");
    for (at, bin) in bins(answers).into_iter().enumerate() {
        if bin.is_empty() {
            continue;
        }
        let right = bin.iter().filter(|answer| answer.label == answer.answer).count();
        let (from, to, accuracy) =
            (at as f64 / BINS as f64, (at + 1) as f64 / BINS as f64, share(right, bin.len()));
        let tell = format!(
            "{} answers with a confidence of {from:.1} to {to:.1}: {} right",
            bin.len(),
            percent(accuracy)
        );
        chart.bar(from, to, accuracy, COLOURS[5], tell);
    }
    chart.guide((0.0, 0.0), (1.0, 1.0));
    chart.svg("Accuracy of the answers by their confidence")
}

fn bins(answers: &Answers) -> Vec<Vec<&Answer>> {
    let mut bins = vec![Vec::new(); BINS];
    for answer in &answers.0 {
        let at = (answer.confidence * BINS as f64) as usize;
        bins[at.min(BINS - 1)].push(answer);
    }
    bins
}

/// What refusing unsure answers costs and brings. None where that is no more than a point.
pub(super) fn rejection(points: &[RejectionPoint]) -> Option<SVG> {
    let line: Vec<(f64, f64)> = points.iter().map(|point| (point.coverage, point.precision)).collect();
    if line.len() < 2 {
        return None;
    }
    let low = line.iter().map(|point| point.1).reduce(f64::min)?;
    let mut chart = Chart::new((0.0, 1.0), (low, 1.0), "share of texts answered", "of these right");
    chart.line(&line, COLOURS[2], |at| {
        let RejectionPoint { min_confidence, precision, coverage } = &points[at];
        format!(
            "refusing answers below {min_confidence:.3}: {} of the texts are answered, {} of these right",
            percent(*coverage),
            percent(*precision)
        )
    });
    Some(chart.svg("Share of right answers by the share of texts that are answered"))
}

/// The most frequent errors: label, answer, how many.
pub(super) fn confused(answers: &Answers) -> Vec<(&str, &str, usize)> {
    let mut pairs: Vec<_> = answers
        .counts()
        .into_iter()
        .filter(|((label, answer), _)| label != answer)
        .map(|((label, answer), number)| (label, answer, number))
        .collect();
    pairs.sort_by_key(|pair| std::cmp::Reverse(pair.2));
    pairs
}

/// In a sentence.
pub(super) fn summary(answers: &Answers) -> String {
    format!(
        "accuracy {}, macro F1 {} on {} texts",
        percent(answers.accuracy()),
        percent(macro_f1(&classes(answers))),
        count(answers.len() as u64)
    )
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers() -> Answers {
        let answer = |label: &str, answer: &str, confidence| Answer {
            label: label.into(),
            answer: answer.into(),
            confidence,
        };
        Answers(vec![
            answer("card", "card", 0.9),
            answer("card", "card", 1.0),
            answer("card", "cash", 0.4),
            answer("cash", "cash", 0.8),
            answer("loan", "cash", 0.5),
        ])
    }

    #[test]
    fn classes_are_measured_and_errors_counted() {
        let measured = classes(&answers());
        let names: Vec<&str> = measured.iter().map(|class| class.name.as_str()).collect();
        assert_eq!(names, ["card", "cash", "loan"]);
        let [card, cash, loan] = &measured[..] else { panic!("{measured:?}") };
        assert_eq!((card.precision(), card.recall(), card.f1()), (1.0, 2.0 / 3.0, 0.8));
        assert_eq!((cash.precision(), cash.recall(), cash.f1()), (1.0 / 3.0, 1.0, 0.5));
        assert_eq!((loan.precision(), loan.recall(), loan.f1()), (0.0, 0.0, 0.0));
        assert!((answers().accuracy() - 0.6).abs() < 1e-12);
        let answers = answers();
        let mut pairs = confused(&answers);
        pairs.sort_unstable();
        assert_eq!(pairs, [("card", "cash", 1), ("loan", "cash", 1)]);
        let filled: Vec<usize> = bins(&answers).iter().map(Vec::len).collect();
        assert_eq!(filled, [0, 0, 0, 0, 1, 1, 0, 0, 1, 2]);
    }
}
