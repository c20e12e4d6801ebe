//! Which examples of a class that is split go to which of its parts.
//!
//! What is said most directly counts first: the id of an example, its text, its label, then an example of the same text
//! under the name of a part, then a pattern; at last the part that takes the remaining ones. Within a kind the first part
//! that claims an example gets it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::{
    cancel::Cancellation,
    dataset::{Example, SideCounts},
    error::{Error, Result, Violation},
    taxonomy::{ClassId, ClassName, Manifest, Meaning, Part},
    text::normalise,
};

/// Bytes that a compiled pattern may take.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// How the examples of a class are divided among its parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Division {
    /// The class that is split.
    #[serde(with = "class_id")]
    pub class: ClassId,
    /// The parts, in the order asked for.
    pub parts: Vec<Share>,
    /// Examples that no part claims: they take no part in training.
    pub unassigned: u64,
    /// Texts given for parts that no example of the class has.
    pub unmatched_texts: u64,
    /// Examples that must be told to belong to a part, ascending.
    #[serde(skip)]
    pub(super) assigned: BTreeMap<ClassId, Vec<u64>>,
}

impl Division {
    /// Divisions as the receipt of a change keeps them: without the examples, which are told where they went.
    ///
    /// # Errors
    /// [`Error::Internal`], which would be a fault of the daemon.
    pub(super) fn encode(divisions: &[Self]) -> Result<String> {
        serde_json::to_string(divisions)
            .map_err(|error| Error::Internal(format!("keeping how a split divided the examples: {error}")))
    }

    /// Divisions that a receipt kept; none where it kept nothing.
    ///
    /// # Errors
    /// [`Error::Internal`] for what this build cannot read.
    pub fn decode(kept: &str) -> Result<Vec<Self>> {
        if kept.is_empty() {
            return Ok(Vec::new());
        }
        serde_json::from_str(kept)
            .map_err(|error| Error::Internal(format!("reading how a split divided the examples: {error}")))
    }
}

/// The examples of one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The part.
    #[serde(with = "class_id")]
    pub class: ClassId,
    /// Examples that train: all of them where the part is small.
    pub train: u64,
    /// Examples that validate.
    pub validation: u64,
}

/// Ids of classes as numbers, in the receipt of a change.
mod class_id {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use super::ClassId;

    pub(super) fn serialize<S: Serializer>(class: &ClassId, to: S) -> Result<S::Ok, S::Error> {
        class.0.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ClassId, D::Error> {
        u32::deserialize(from).map(ClassId)
    }
}

/// What claims an example, the most direct first. Each says to which part, by its position.
struct Claims {
    ids: HashMap<u64, usize>,
    texts: HashMap<String, usize>,
    labels: BTreeMap<ClassName, usize>,
    /// Texts of examples under the names of parts that were no classes.
    twins: HashMap<String, usize>,
    patterns: Vec<(Regex, usize)>,
    remaining: Option<usize>,
}

/// Examples by label and by the classes that splits sent them to: those of a group mean the same in any manifest, so that
/// a split need not look at each.
pub(super) struct Grouped {
    examples: Vec<Example>,
    /// Positions, by label and classes.
    groups: HashMap<ClassName, HashMap<Vec<ClassId>, Vec<usize>>>,
}

/// An example that a split is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Involved {
    /// Its position.
    at: usize,
    /// Whether it is of the class that is split.
    own: bool,
    /// The part whose name it bears.
    named: Option<usize>,
}

impl Grouped {
    /// Groups examples.
    ///
    /// # Errors
    /// That of the token.
    pub(super) fn new(examples: Vec<Example>, cancel: &Cancellation) -> Result<Self> {
        let mut grouped = Self { groups: HashMap::new(), examples };
        for at in 0..grouped.examples.len() {
            cancel.check()?;
            grouped.put(at);
        }
        Ok(grouped)
    }

    /// All of them, in the order in which they came.
    pub(super) fn into_examples(self) -> Vec<Example> {
        self.examples
    }

    /// Puts an example into its group.
    fn put(&mut self, at: usize) {
        let Example { label, assigned, .. } = &self.examples[at];
        // Groups are few, examples many.
        let of_label = match self.groups.get_mut(label) {
            Some(groups) => groups,
            None => self.groups.entry(label.clone()).or_default(),
        };
        match of_label.get_mut(assigned) {
            Some(group) => group.push(at),
            None => drop(of_label.insert(assigned.clone(), vec![at])),
        }
    }

    /// The examples of a class in `before`, which leave their groups, and those that bear the name of one of its parts in
    /// `after`; in order.
    fn take(
        &mut self,
        class: ClassId,
        parts: &[ClassId],
        before: &Manifest,
        after: &Manifest,
    ) -> Vec<Involved> {
        let mut involved = Vec::new();
        for (label, groups) in &mut self.groups {
            for (assigned, group) in groups {
                let meant = |manifest: &Manifest| manifest.meaning_of(label, assigned).class();
                let named = meant(after).and_then(|id| parts.iter().position(|part| *part == id));
                let own = meant(before) == Some(class);
                if own || named.is_some() {
                    involved.extend(group.iter().map(|&at| Involved { at, own, named }));
                }
                if own {
                    group.clear();
                }
            }
        }
        involved.sort_unstable();
        involved
    }
}

/// Divides the examples of a class that is split, and tells each where it went. `after` is what the split makes of
/// `before`.
///
/// # Errors
/// [`Error::Invalid`] naming the part and its field: for an id that is no example of the class or is claimed twice, a label
/// that none of them carries, a pattern that is none, a second part for what remains, and a part without an example that
/// trains. That of the token, which is asked before each example.
pub(super) fn divide(
    mut grouped: Grouped,
    class: ClassId,
    parts: &[Part],
    (before, after): (&Manifest, &Manifest),
    cancel: &Cancellation,
) -> Result<(Division, Grouped)> {
    let ids: Vec<ClassId> = parts
        .iter()
        .filter_map(|part| ClassName::new(&part.name).ok().and_then(|name| after.living_by_name(&name)))
        .map(|part| part.id)
        .collect();
    let involved = grouped.take(class, &ids, before, after);
    let examples = &grouped.examples;
    let members = || involved.iter().filter(|one| one.own).map(|one| &examples[one.at]);
    let strangers = involved.iter().filter(|one| !one.own);
    let twins = strangers
        .filter_map(|one| Some((one, one.named?)))
        .map(|(one, part)| {
            cancel.check()?;
            Ok((normalise(&examples[one.at].text), part))
        })
        .collect::<Result<_>>()?;
    let claims = Claims::new(parts, class, before, members(), twins)?;

    let mut counts = vec![SideCounts::default(); ids.len()];
    let (unassigned, unmatched_texts) = (0, claims.unmatched(members(), cancel)?);
    let mut division =
        Division { class, parts: Vec::new(), unassigned, unmatched_texts, assigned: BTreeMap::new() };
    let mut sent = Vec::new();
    for &Involved { at, own, named } in &involved {
        cancel.check()?;
        let example = &examples[at];
        let part = match own {
            true => claims.part_of(example, named.filter(|part| claims.remaining != Some(*part)), cancel)?,
            false => named,
        };
        match part {
            Some(part) => {
                counts[part].add(example.split);
                if named != Some(part) {
                    division.assigned.entry(ids[part]).or_default().push(example.id);
                    sent.push((at, ids[part]));
                }
            }
            None => division.unassigned += 1,
        }
    }
    let share = |(&class, counts): (&ClassId, &SideCounts)| {
        let SideCounts { train, validation } = counts.held_out();
        Share { class, train, validation }
    };
    division.parts = ids.iter().zip(&counts).map(share).collect();
    division.check(parts, before)?;
    for (at, part) in sent {
        grouped.examples[at].assigned.push(part);
    }
    involved.iter().filter(|one| one.own).for_each(|one| grouped.put(one.at));
    Ok((division, grouped))
}

impl Claims {
    fn new<'a>(
        parts: &[Part],
        class: ClassId,
        before: &Manifest,
        members: impl Iterator<Item = &'a Example>,
        twins: HashMap<String, usize>,
    ) -> Result<Self> {
        let name = before.classes.get(&class).map_or("", |class| class.name.as_str());
        let (mut known, mut carried): (BTreeSet<u64>, BTreeSet<&ClassName>) = Default::default();
        for example in members {
            known.insert(example.id);
            carried.insert(&example.label);
        }
        let (ids, texts, labels) = Default::default();
        let mut claims = Self { ids, texts, labels, twins, patterns: Vec::new(), remaining: None };
        let mut violations = Vec::new();
        let mut refuse =
            |field: String, description: String| violations.push(Violation { field, description });
        for (index, part) in parts.iter().enumerate() {
            for (at, id) in part.example_ids.iter().enumerate() {
                let field = || format!("parts[{index}].example_ids[{at}]");
                if !known.contains(id) {
                    refuse(field(), format!("{id} is no example of '{name}'"));
                } else if claims.ids.insert(*id, index).is_some_and(|before| before != index) {
                    refuse(field(), format!("example {id} is given to another part already"));
                }
            }
            for text in &part.texts {
                claims.texts.entry(normalise(text)).or_insert(index);
            }
            for (at, label) in part.labels.iter().enumerate() {
                let field = format!("parts[{index}].labels[{at}]");
                match ClassName::new(label) {
                    Ok(label) if carried.contains(&label) => {
                        claims.labels.entry(label).or_insert(index);
                    }
                    Ok(label) => refuse(field, format!("no example of '{name}' was stored under '{label}'")),
                    Err(fault) => refuse(field, fault),
                }
            }
            if !part.pattern.is_empty() {
                let pattern = RegexBuilder::new(&part.pattern).size_limit(MAX_PATTERN_BYTES).build();
                match pattern {
                    Ok(pattern) => claims.patterns.push((pattern, index)),
                    Err(fault) => {
                        refuse(format!("parts[{index}].pattern"), format!("'{}': {fault}", part.pattern))
                    }
                }
            }
            let keeps_name = ClassName::new(&part.name).is_ok_and(|part| part.as_str() == name);
            if part.remaining || keeps_name {
                if claims.remaining.is_some_and(|other| other != index) {
                    let other = claims.remaining.map_or("", |other| parts[other].name.as_str());
                    refuse(
                        format!("parts[{index}].remaining"),
                        format!(
                            "'{other}' takes the remaining examples already; a part that keeps the name does"
                        ),
                    );
                }
                claims.remaining = Some(index);
            }
        }
        if violations.is_empty() { Ok(claims) } else { Err(Error::Invalid(violations)) }
    }

    /// The part that an example goes to; `natural` is the one that its label means.
    fn part_of(
        &self,
        example: &Example,
        natural: Option<usize>,
        cancel: &Cancellation,
    ) -> Result<Option<usize>> {
        let by_text = || {
            let texts = [&self.texts, &self.twins];
            let normalised = texts.iter().any(|texts| !texts.is_empty()).then(|| normalise(&example.text));
            texts.map(|texts| normalised.as_ref().and_then(|text| texts.get(text).copied()))
        };
        let by_id = self.ids.get(&example.id).copied();
        let direct = by_id.or_else(|| {
            let [text, twin] = by_text();
            let label = || self.labels.get(&example.label).copied().or(natural);
            text.or_else(label).or(twin)
        });
        if direct.is_some() {
            return Ok(direct);
        }
        for (pattern, part) in &self.patterns {
            // A pattern may look at a long text for long.
            cancel.check()?;
            if pattern.is_match(&example.text) {
                return Ok(Some(*part));
            }
        }
        Ok(self.remaining)
    }

    /// Texts given for parts that no example of the class has.
    fn unmatched<'a>(
        &self,
        members: impl Iterator<Item = &'a Example>,
        cancel: &Cancellation,
    ) -> Result<u64> {
        if self.texts.is_empty() {
            return Ok(0);
        }
        let normal = |example: &Example| {
            cancel.check()?;
            Ok(normalise(&example.text))
        };
        let there = members.map(normal).collect::<Result<BTreeSet<String>>>()?;
        Ok(self.texts.keys().filter(|text| !there.contains(*text)).count() as u64)
    }
}

impl Division {
    fn check(&self, parts: &[Part], before: &Manifest) -> Result<()> {
        let name = before.classes.get(&self.class).map_or("", |class| class.name.as_str());
        let empty = self.parts.iter().zip(parts).enumerate().filter(|(_, (share, _))| share.train == 0);
        let violations: Vec<Violation> = empty
            .map(|(index, (_, part))| Violation {
                field: format!("parts[{index}]"),
                description: format!(
                    "'{}' would have no example that trains; name some of '{name}' by example_ids, texts, labels or a \
                     pattern, or add examples under the label '{}' first",
                    part.name, part.name
                ),
            })
            .collect();
        if violations.is_empty() { Ok(()) } else { Err(Error::Invalid(violations)) }
    }
}

/// Whether a label could mean several classes, and no split says which.
pub(super) fn is_open(example: &Example, manifest: &Manifest) -> bool {
    matches!(example.meaning(manifest), Meaning::Ambiguous(_))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{
        dataset::Split,
        taxonomy::{Provenance, Revision, VersionNumber},
    };

    fn example(id: u64, text: &str, label: &str) -> Example {
        Example {
            id,
            text: text.to_owned(),
            label: ClassName::new(label).unwrap(),
            assigned: Vec::new(),
            settled: ClassId(0),
            split: if id.is_multiple_of(5) { Split::Validation } else { Split::Train },
            created: SystemTime::UNIX_EPOCH,
        }
    }

    fn examples() -> Vec<Example> {
        let texts =
            ["take 50 out", "take 90000 out", "withdraw 10", "withdraw 80000", "give me 77777", "take 5"];
        let mut examples: Vec<Example> =
            texts.iter().zip(1..).map(|(text, id)| example(id, text, "withdraw")).collect();
        examples.push(example(7, "block my card", "card"));
        examples
    }

    fn provenance() -> Provenance {
        let (revision, serving) = (Revision(2), VersionNumber(1));
        let (reason, author) = Default::default();
        Provenance { revision, serving, reason, author, created: SystemTime::UNIX_EPOCH }
    }

    fn part(name: &str) -> Part {
        Part { name: name.to_owned(), ..Part::default() }
    }

    fn split(examples: &mut Vec<Example>, parts: &[Part]) -> Result<Division> {
        let names = ["card", "withdraw"].map(|name| ClassName::new(name).unwrap());
        let before = Manifest::create(&names, SystemTime::UNIX_EPOCH).unwrap();
        let after = before.split("withdraw", parts, provenance())?;
        let (division, grouped) = divide(
            Grouped::new(examples.clone(), &Cancellation::default())?,
            ClassId(2),
            parts,
            (&before, &after),
            &Cancellation::default(),
        )?;
        *examples = grouped.into_examples();
        Ok(division)
    }

    fn counts(division: &Division) -> Vec<(u64, u64)> {
        division.parts.iter().map(|part| (part.train, part.validation)).collect()
    }

    #[test]
    fn patterns_divide_and_the_rest_goes_where_it_is_sent() {
        let mut examples = examples();
        let large = Part { pattern: r"\d{5}".into(), ..part("large") };
        let division =
            split(&mut examples, &[large.clone(), Part { remaining: true, ..part("small") }]).unwrap();
        // The parts are small, so that the example that validates by the hash trains as well.
        assert_eq!(counts(&division), [(3, 0), (3, 0)]);
        assert_eq!(
            division.assigned,
            BTreeMap::from([(ClassId(3), vec![2, 4, 5]), (ClassId(4), vec![1, 3, 6])])
        );
        assert_eq!(examples[1].assigned, [ClassId(3)]);
        assert!(examples[6].assigned.is_empty());

        let alone =
            split(&mut self::examples(), &[large, Part { example_ids: vec![1], ..part("small") }]).unwrap();
        assert_eq!((counts(&alone), alone.unassigned), (vec![(3, 0), (1, 0)], 2));
    }

    #[test]
    fn a_part_whose_only_example_validates_by_the_hash_trains_on_it() {
        let parts = [Part { remaining: true, ..part("a") }, Part { example_ids: vec![5], ..part("b") }];
        assert_eq!(counts(&split(&mut examples(), &parts).unwrap()), [(5, 0), (1, 0)]);
    }

    #[test]
    fn the_most_direct_claim_counts() {
        let mut examples = examples();
        examples.push(example(8, "Withdraw  10", "small"));
        let large = Part { pattern: "take|withdraw".into(), example_ids: vec![3], ..part("large") };
        let small = Part { texts: vec!["TAKE 50 out".into(), "never seen".into()], ..part("small") };
        let division = split(&mut examples, &[large, small]).unwrap();
        // 3 by its id although its twin is small, 1 by its text although the pattern matches, 8 by its own label.
        assert_eq!(
            division.assigned,
            BTreeMap::from([(ClassId(3), vec![2, 3, 4, 6]), (ClassId(4), vec![1])])
        );
        assert_eq!(
            (counts(&division), division.unassigned, division.unmatched_texts),
            (vec![(4, 0), (2, 0)], 1, 1)
        );
    }

    #[test]
    fn an_example_goes_with_its_twin_under_the_name_of_a_part() {
        let mut examples = examples();
        examples.push(example(8, "Withdraw  10", "small"));
        let division = split(&mut examples, &[part("withdraw"), part("small")]).unwrap();
        // The part that keeps the name needs to be told nothing about the rest.
        assert_eq!(division.assigned, BTreeMap::from([(ClassId(4), vec![3])]));
        assert_eq!(counts(&division), [(5, 0), (2, 0)]);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let refused = |parts: &[Part]| split(&mut examples(), parts).unwrap_err().to_string();
        let error = refused(&[
            Part { example_ids: vec![1, 7], labels: vec!["cash".into()], ..part("a") },
            Part { example_ids: vec![1], pattern: "(".into(), remaining: true, ..part("b") },
            part("withdraw"),
        ]);
        for expected in [
            "parts[0].example_ids[1]: 7 is no example of 'withdraw'",
            "parts[0].labels[0]: no example of 'withdraw' was stored under 'cash'",
            "parts[1].example_ids[0]: example 1 is given to another part already",
            "parts[1].pattern: '(': ",
            "parts[2].remaining: 'b' takes the remaining examples already",
        ] {
            assert!(error.contains(expected), "{expected}: {error}");
        }
        let error =
            refused(&[Part { remaining: true, ..part("a") }, Part { texts: vec!["no".into()], ..part("b") }]);
        assert!(error.starts_with("parts[1]: 'b' would have no example that trains"), "{error}");
    }
}
