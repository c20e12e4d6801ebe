//! What answers are worth, from the counts of each label and each answer.
//!
//! ```text
//! precision = hits / answers    recall = hits / support    F1 = 2 hits / (answers + support)
//! ```

use std::collections::BTreeMap;

/// Counts of texts by label and answer over K classes, by column. It takes memory for the pairs that occur: of ten thousand
/// classes a table of all pairs would take 800 MB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    /// By label and answer.
    counts: BTreeMap<(usize, usize), u64>,
}

/// An answer: how sure it was, and whether it was right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// Probability of the best class.
    pub confidence: f64,
    /// Whether that is the class of the label.
    pub right: bool,
}

/// Measures of one class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassMetrics {
    /// Column of the class.
    pub class: usize,
    /// Texts with this label.
    pub support: u64,
    /// Share of the answers for this class that were right; 0 without an answer.
    pub precision: f64,
    /// Share of the texts with this label that were found; 0 without a text.
    pub recall: f64,
    /// Harmonic mean of precision and recall; 0 where both are.
    pub f1: f64,
}

/// Texts of one class that were taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfusedPair {
    /// Column of the label.
    pub label: usize,
    /// Column of the answer.
    pub answer: usize,
    /// How many texts.
    pub count: u64,
}

impl Confusion {
    /// No text yet.
    pub fn new(classes: usize) -> Self {
        Self { classes, counts: BTreeMap::new() }
    }

    /// Counts a text.
    ///
    /// # Panics
    /// If a column is none of the classes'.
    pub fn add(&mut self, label: usize, answer: usize) {
        assert!(label < self.classes && answer < self.classes, "columns are below {}", self.classes);
        *self.counts.entry((label, answer)).or_default() += 1;
    }

    /// Texts in all.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Texts whose answer was right.
    pub fn right(&self) -> u64 {
        self.counts.iter().filter(|((label, answer), _)| label == answer).map(|(_, count)| count).sum()
    }

    /// Texts of the commonest label; 0 without a text.
    pub fn commonest(&self) -> u64 {
        let mut labels = BTreeMap::new();
        for ((label, _), count) in &self.counts {
            *labels.entry(label).or_insert(0) += count;
        }
        labels.into_values().max().unwrap_or(0)
    }

    /// Counts the texts of another over the same classes as well.
    ///
    /// # Panics
    /// If the other is over another number of classes.
    pub fn add_all(&mut self, other: &Self) {
        assert_eq!(self.classes, other.classes, "both are over the same classes");
        for (pair, count) in &other.counts {
            *self.counts.entry(*pair).or_insert(0) += count;
        }
    }

    /// Share of the texts whose answer was right; 0 without a text.
    pub fn accuracy(&self) -> f64 {
        ratio(self.right(), self.total())
    }

    /// Measures of each class that occurs, as label or as answer, by column.
    pub fn classes(&self) -> Vec<ClassMetrics> {
        let (mut answers, mut supports) = (vec![0; self.classes], vec![0; self.classes]);
        for ((label, answer), count) in &self.counts {
            supports[*label] += count;
            answers[*answer] += count;
        }
        (0..self.classes)
            .filter_map(|class| {
                let (support, answers) = (supports[class], answers[class]);
                let hits = self.counts.get(&(class, class)).copied().unwrap_or(0);
                (support + answers > 0).then(|| ClassMetrics {
                    class,
                    support,
                    precision: ratio(hits, answers),
                    recall: ratio(hits, support),
                    f1: ratio(2 * hits, answers + support),
                })
            })
            .collect()
    }

    /// Texts of a class that were answered otherwise, and others that were answered with it.
    pub fn wrong(&self, class: usize) -> u64 {
        let of_class =
            |(label, answer): &(usize, usize)| label != answer && (*label == class || *answer == class);
        self.counts.iter().filter(|(pair, _)| of_class(pair)).map(|(_, count)| count).sum()
    }

    /// Mean F1 of the classes that occur, as label or as answer; 0 without a text.
    pub fn macro_f1(&self) -> f64 {
        let classes = self.classes();
        classes.iter().map(|class| class.f1).sum::<f64>() / classes.len().max(1) as f64
    }

    /// The most frequent errors, most frequent first, equally frequent ones by column.
    pub fn confused(&self, limit: usize) -> Vec<ConfusedPair> {
        let wrong = self.counts.iter().filter(|((label, answer), _)| label != answer);
        let mut pairs: Vec<ConfusedPair> = wrong
            .map(|((label, answer), count)| ConfusedPair { label: *label, answer: *answer, count: *count })
            .collect();
        pairs.sort_by_key(|pair| std::cmp::Reverse(pair.count));
        pairs.truncate(limit);
        pairs
    }
}

/// Expected calibration error: by how much confidence and accuracy differ, as the mean over 15 bins of equal width, each
/// weighted by its answers (Naeini et al. 2015). 0 without an answer.
pub fn calibration_error(answers: &[Judged]) -> f64 {
    const BINS: usize = 15;
    let mut gaps = [0.0; BINS];
    for answer in answers {
        let bin = ((answer.confidence * BINS as f64) as usize).min(BINS - 1);
        gaps[bin] += answer.confidence - f64::from(u8::from(answer.right));
    }
    gaps.iter().map(|gap| gap.abs()).sum::<f64>() / answers.len().max(1) as f64
}

/// Column of the largest number, the first of equal ones; 0 of none.
pub fn argmax(numbers: &[f64]) -> usize {
    (1..numbers.len()).fold(0, |best, at| if numbers[at] > numbers[best] { at } else { best })
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confusion(pairs: &[(usize, usize)]) -> Confusion {
        let mut confusion = Confusion::new(5);
        pairs.iter().for_each(|&(label, answer)| confusion.add(label, answer));
        confusion
    }

    #[test]
    fn measures_are_those_of_scikit_learn() {
        // from sklearn.metrics import classification_report
        // print(classification_report([0,0,0,1,1,2,3], [0,0,1,1,2,2,0], digits=6, zero_division=0))
        let confusion = confusion(&[(0, 0), (0, 0), (0, 1), (1, 1), (1, 2), (2, 2), (3, 0)]);
        assert!((confusion.accuracy() - 4.0 / 7.0).abs() < 1e-12);
        let classes = confusion.classes();
        assert_eq!(classes.iter().map(|class| class.support).collect::<Vec<_>>(), [3, 2, 1, 1]);
        assert!((classes[0].precision - 2.0 / 3.0).abs() < 1e-12);
        assert!((classes[1].recall - 0.5).abs() < 1e-12);
        assert!((classes[2].f1 - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!((classes[3].precision, classes[3].recall, classes[3].f1), (0.0, 0.0, 0.0));
        assert!((confusion.macro_f1() - (2.0 / 3.0 + 0.5 + 2.0 / 3.0) / 4.0).abs() < 1e-12);
        assert_eq!((confusion.right(), confusion.commonest(), Confusion::new(0).commonest()), (4, 3, 0));
        let mut twice = confusion.clone();
        twice.add_all(&confusion);
        assert_eq!((twice.total(), twice.right(), twice.accuracy()), (14, 8, confusion.accuracy()));
    }

    #[test]
    fn a_million_classes_take_memory_for_the_pairs_that_occur() {
        let mut confusion = Confusion::new(1_000_000);
        confusion.add(999_999, 7);
        confusion.add(7, 7);
        assert_eq!((confusion.total(), confusion.accuracy(), confusion.classes().len()), (2, 0.5, 2));
    }

    #[test]
    fn errors_are_ranked() {
        let confusion = confusion(&[(4, 0), (1, 0), (1, 0), (0, 4), (2, 2)]);
        assert_eq!([0, 1, 2, 3, 4].map(|class| confusion.wrong(class)), [4, 2, 0, 0, 2]);
        let pairs: Vec<_> = confusion.confused(2).iter().map(|p| (p.label, p.answer, p.count)).collect();
        assert_eq!(pairs, [(1, 0, 2), (0, 4, 1)]);
    }

    #[test]
    fn calibration_is_off_by_the_gap_in_each_bin() {
        let answers = |confidence: f64, right: usize, wrong: usize| {
            let answer = move |right| Judged { confidence, right };
            std::iter::repeat_n(answer(true), right).chain(std::iter::repeat_n(answer(false), wrong))
        };
        let perfect: Vec<Judged> = answers(0.75, 3, 1).collect();
        assert_eq!(calibration_error(&perfect), 0.0);
        // 4 answers off by .1 and 4 off by .25 the other way.
        let mixed: Vec<Judged> = answers(0.6, 2, 2).chain(answers(1.0, 3, 1)).collect();
        assert!((calibration_error(&mixed) - (4.0 * 0.1 + 4.0 * 0.25) / 8.0).abs() < 1e-12);
        assert_eq!(calibration_error(&[]), 0.0);
    }

    #[test]
    fn no_text_measures_nothing() {
        assert_eq!((argmax(&[]), argmax(&[0.1, 0.4, 0.4])), (0, 1));
        for confusion in [confusion(&[]), Confusion::new(0)] {
            assert_eq!((confusion.accuracy(), confusion.macro_f1()), (0.0, 0.0));
        }
    }
}
