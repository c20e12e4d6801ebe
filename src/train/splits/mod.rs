//! Which classes to split: those whose examples form two clusters, by what they are about and by what the encoder makes of
//! them.
//!
//! ```text
//! points [n, TOPICS + F]    topics of the texts, and features of the encoder about their mean, each scaled to length 1
//! ```
//!
//! A trained encoder draws the examples of a class together, so that its features tell the parts apart less well than words
//! do; together they are better than either. `topics` makes the one half, `clusters` decides, `words` names what tells the
//! parts apart.

mod clusters;
mod topics;
mod words;

use std::collections::BTreeMap;

use rayon::prelude::*;

use self::{
    clusters::{MIN_PART, Separated, dot, separate},
    topics::{TOPICS, topics, unit},
};
use super::{Jobs, Sample, features::Kept};
use crate::{
    cancel::Cancellation,
    dataset::{Example, Meanings},
    error::Result,
    model::Checkpoint,
    registry::{ModelId, Selector, Version},
    taxonomy::{ClassId, Manifest},
};

/// Examples that are read in all, about as many of each class.
const MOST_EXAMPLES: usize = 1 << 15;
/// Classes that are looked at, those with most examples: each is left at least 32 of them.
const MOST_CLASSES: usize = 1 << 10;
/// Examples of a class that are read.
const OWN: usize = 1 << 12;
/// Examples of a class that clusters are sought in; the others go to the nearer one.
const CLUSTERED: usize = 1 << 10;
/// Examples that are shown of a part.
const TYPICAL: usize = 3;

/// Classes that may be two.
#[derive(Debug, Clone)]
pub struct SplitSuggestions {
    /// The version whose encoder and classes these are.
    pub version: Version,
    /// The classes it answers in.
    pub manifest: Manifest,
    /// Classes that were looked at.
    pub classes: u64,
    /// Those whose examples form two clusters, the farthest apart first, then by id.
    pub splits: Vec<SuggestedSplit>,
}

/// A class that may be two.
#[derive(Debug, Clone, PartialEq)]
pub struct SuggestedSplit {
    /// The class.
    pub class: ClassId,
    /// All its examples, read or not.
    pub examples: u64,
    /// How far its parts are apart: 0 where one blob would be cut as well, towards 1 for two points.
    pub separation: f64,
    /// The parts, the larger first.
    pub parts: [SuggestedPart; 2],
}

/// A part of a class.
#[derive(Debug, Clone, PartialEq)]
pub struct SuggestedPart {
    /// Its examples, of those that were read, ascending.
    pub ids: Vec<u64>,
    /// Words that its texts hold and those of the other part do not, the most telling first.
    pub words: Vec<String>,
    /// Id and text of the examples nearest to its centre, the nearest first.
    pub typical: Vec<(u64, String)>,
}

impl Jobs {
    /// Classes whose examples form two clusters, at most `limit`. Reads at most 32,768 examples, 4,096 of a class, and asks
    /// the encoder about those that nothing is kept of.
    ///
    /// # Errors
    /// [`crate::error::Error::NotFound`]; [`crate::error::Error::Precondition`] for a model without a version.
    pub fn suggest_splits(
        &self,
        id: &ModelId,
        limit: usize,
        cancel: &Cancellation,
    ) -> Result<SplitSuggestions> {
        let registry = &self.shared.registry;
        let version = registry.version(id, registry.resolve(id, &Selector::Serving)?)?;
        let manifest = registry.manifest(id, version.revision)?;
        let uid = registry.model(id)?.uid;
        let examples = self.shared.dataset.until(cancel.clone()).all(uid)?;
        let members = members(&examples, &manifest);
        let chosen = chosen(&members);
        let network = registry.checkpoint(id, version.number)?;
        let kept = Kept { cache: &self.shared.features, uid };
        let read: Vec<&Example> = chosen.iter().flat_map(|(_, own)| own.iter().copied()).collect();
        let (points, width) = points(&network, &read, kept, cancel)?;
        let mut start = 0;
        let found: Vec<(ClassId, &[&Example], &[f32])> = chosen
            .iter()
            .map(|(class, own)| {
                let rows = &points[start * width..][..own.len() * width];
                start += own.len();
                (*class, own.as_slice(), rows)
            })
            .collect();
        let mut separated: Vec<_> = found
            .par_iter()
            .map(|(class, own, rows)| {
                cancel.check()?;
                Ok(divided(rows, width).map(|separated| (*class, *own, *rows, separated)))
            })
            .filter_map(Result::transpose)
            .collect::<Result<_>>()?;
        separated.sort_by(|a, b| b.3.separation.total_cmp(&a.3.separation).then(a.0.cmp(&b.0)));
        separated.truncate(limit);
        let splits = separated
            .into_par_iter()
            .map(|(class, own, rows, Separated { second, separation })| {
                cancel.check()?;
                let (examples, parts) = (members[&class].len() as u64, parts(own, rows, &second));
                Ok(SuggestedSplit { class, examples, separation, parts })
            })
            .collect::<Result<_>>()?;
        Ok(SplitSuggestions { version, manifest, classes: chosen.len() as u64, splits })
    }
}

/// The examples of each class.
fn members<'a>(examples: &'a [Example], manifest: &Manifest) -> BTreeMap<ClassId, Vec<&'a Example>> {
    let meanings = Meanings::new(Some(manifest.clone()));
    let mut members: BTreeMap<ClassId, Vec<&Example>> = BTreeMap::new();
    for example in examples {
        if let Some(class) = meanings.class_id_of(example) {
            members.entry(class).or_default().push(example);
        }
    }
    members
}

/// The classes that are looked at, and the examples of each that are read, spread evenly.
fn chosen<'a>(members: &BTreeMap<ClassId, Vec<&'a Example>>) -> Vec<(ClassId, Vec<&'a Example>)> {
    let mut classes: Vec<_> = members.iter().filter(|(_, own)| own.len() >= 2 * MIN_PART).collect();
    classes.sort_by_key(|(class, own)| (std::cmp::Reverse(own.len()), **class));
    classes.truncate(MOST_CLASSES);
    let most = (MOST_EXAMPLES / classes.len().max(1)).min(OWN);
    classes
        .into_iter()
        .map(|(class, own)| {
            let every = own.len().div_ceil(most);
            (*class, own.iter().step_by(every).copied().collect())
        })
        .collect()
}

/// Topics and features of examples, `[N, width]`, and the width.
fn points(
    network: &Checkpoint,
    examples: &[&Example],
    kept: Kept<'_>,
    cancel: &Cancellation,
) -> Result<(Vec<f32>, usize)> {
    let texts: Vec<&str> = examples.iter().map(|example| example.text.as_str()).collect();
    let topics = topics(&texts, cancel)?;
    let encoder = network.text_encoder()?;
    let samples: Vec<Sample> = texts
        .par_iter()
        .map(|text| {
            cancel.check()?;
            let mut text = encoder.encode(text);
            // Only the encoder is asked: the terms of long texts are not kept for nothing.
            text.terms = Vec::new();
            Ok(Sample { text, class: 0 })
        })
        .collect::<Result<_>>()?;
    let samples: Vec<&Sample> = samples.iter().collect();
    let ids: Vec<u64> = examples.iter().map(|example| example.id).collect();
    let mut features = kept.of(network).read(&samples, &ids, &mut |_| cancel.check())?;
    let deep = network.architecture.features();
    let mean = mean(features.chunks_exact(deep), deep);
    features.par_chunks_mut(deep).for_each(|row| {
        row.iter_mut().zip(&mean).for_each(|(x, mean)| *x -= mean);
        unit(row);
    });
    let rows = topics.chunks_exact(TOPICS).zip(features.chunks_exact(deep));
    let width = TOPICS + deep;
    let mut points = Vec::with_capacity(examples.len() * width);
    for (topics, features) in rows {
        points.extend_from_slice(topics);
        points.extend_from_slice(features);
    }
    Ok((points, width))
}

fn mean<'a>(rows: impl Iterator<Item = &'a [f32]>, width: usize) -> Vec<f32> {
    let (mut sums, mut count) = (vec![0.0f64; width], 0.0f64);
    for row in rows {
        count += 1.0;
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
    }
    sums.iter().map(|sum| (sum / count.max(1.0)) as f32).collect()
}

/// The two clusters of all points of a class, sought in some of them.
fn divided(points: &[f32], width: usize) -> Option<Separated> {
    let n = points.len() / width;
    let every = n.div_ceil(CLUSTERED).max(1);
    if every == 1 {
        return separate(points, width);
    }
    let some: Vec<f32> = points.chunks_exact(width).step_by(every).flatten().copied().collect();
    let Separated { second, separation } = separate(&some, width)?;
    let centres = centres(&some, width, &second);
    let second = points.chunks_exact(width).map(|point| {
        let [first, second] = centres.each_ref().map(|centre| distance(point, centre));
        second < first
    });
    Some(Separated { second: second.collect(), separation })
}

fn centres(points: &[f32], width: usize, second: &[bool]) -> [Vec<f32>; 2] {
    [false, true].map(|side| {
        let own = points.chunks_exact(width).zip(second).filter(|(_, second)| **second == side);
        mean(own.map(|(point, _)| point), width)
    })
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    dot(a, a) - 2.0 * dot(a, b) + dot(b, b)
}

/// The parts of a class, the larger first.
fn parts(examples: &[&Example], points: &[f32], second: &[bool]) -> [SuggestedPart; 2] {
    let width = points.len() / examples.len();
    let centres = centres(points, width, second);
    let sides = [false, true]
        .map(|side| -> Vec<usize> { (0..examples.len()).filter(|at| second[*at] == side).collect() });
    let texts = sides
        .each_ref()
        .map(|side| -> Vec<&str> { side.iter().map(|at| examples[*at].text.as_str()).collect() });
    let mut words = words::telling([&texts[0], &texts[1]]).into_iter();
    let mut parts = [0, 1].map(|side| {
        let mut nearest: Vec<(f32, usize)> = sides[side]
            .iter()
            .map(|&at| (distance(&points[at * width..][..width], &centres[side]), at))
            .collect();
        nearest.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let typical = nearest.iter().take(TYPICAL).map(|(_, at)| examples[*at]);
        SuggestedPart {
            ids: sides[side].iter().map(|at| examples[*at].id).collect(),
            words: words.next().unwrap_or_default(),
            typical: typical.map(|example| (example.id, example.text.clone())).collect(),
        }
    });
    if parts[0].ids.len() < parts[1].ids.len() {
        parts.swap(0, 1);
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::{clusters::normal, *};
    use crate::{dataset::Split, taxonomy::ClassName};

    #[test]
    fn what_is_read_is_bounded_and_spread() {
        let example = |id: usize| Example {
            id: id as u64,
            text: String::new(),
            label: ClassName::new("a").unwrap(),
            assigned: vec![],
            settled: ClassId(0),
            split: Split::Train,
            created: SystemTime::UNIX_EPOCH,
        };
        let examples: Vec<Example> = (0..10_000).map(example).collect();
        let of = |n: usize| examples[..n].iter().collect::<Vec<_>>();
        let few = BTreeMap::from([
            (ClassId(1), of(10_000)),
            (ClassId(2), of(2 * MIN_PART)),
            (ClassId(3), of(2 * MIN_PART - 1)),
        ]);
        let read: Vec<_> = chosen(&few).into_iter().map(|(class, own)| (class.0, own.len())).collect();
        assert_eq!(read, [(1, 3334), (2, 2 * MIN_PART)]);
        assert_eq!(chosen(&few)[0].1.last().unwrap().id, 9999);
        let many: BTreeMap<_, _> =
            (0..2000).map(|class| (ClassId(class), of(100 + class as usize % 7))).collect();
        let read = chosen(&many);
        assert!(read.len() == MOST_CLASSES && read.iter().all(|(_, own)| own.len() >= 2 * MIN_PART));
        assert!(read.iter().map(|(_, own)| own.len()).sum::<usize>() <= MOST_EXAMPLES);
    }

    #[test]
    fn clusters_of_some_points_divide_all() {
        let (n, width) = (2 * CLUSTERED + 6, 12);
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let points: Vec<f32> =
            (0..n * width).map(|i| normal(&mut random) + if i / width % 5 < 2 { 4.0 } else { 0.0 }).collect();
        let Separated { second, .. } = divided(&points, width).unwrap();
        let first = second[0];
        assert!(second.iter().enumerate().all(|(at, second)| (*second == first) == (at % 5 < 2)));
    }
}
