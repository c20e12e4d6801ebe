//! What may be wrong with the examples of a training, in sentences for whoever follows it.

use super::gate::ENOUGH_TO_JUDGE;
use crate::{
    dataset::{SmallClass, TRAIN_BEFORE_HOLD_OUT},
    taxonomy::{ClassName, Manifest},
};

/// Classes that a sentence names.
const SHOWN: usize = 8;

/// The names of small classes, each with its examples, in the order of the names.
pub(super) fn named(small: &[SmallClass], manifest: &Manifest) -> Vec<(ClassName, u64)> {
    let name = |small: &SmallClass| Some((manifest.classes.get(&small.class)?.name.clone(), small.examples));
    let mut named: Vec<(ClassName, u64)> = small.iter().filter_map(name).collect();
    named.sort();
    named
}

/// Warnings about small classes, and about too few texts that validate.
pub(super) fn warnings(small: &[(ClassName, u64)], validation: usize) -> Vec<String> {
    let few = match small {
        [] => None,
        [(name, examples)] => Some(format!(
            "'{name}' has {}, too few to hold some out: all of them train, and nothing measures how they are answered",
            counted(*examples, "example")
        )),
        all => {
            let shown: Vec<String> =
                all.iter().take(SHOWN).map(|(name, examples)| format!("'{name}' ({examples})")).collect();
            let more = all.len().saturating_sub(SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            Some(format!(
                "{} classes have fewer than {TRAIN_BEFORE_HOLD_OUT} examples to train on, too few to hold some out: all of \
                 them train, and nothing measures how they are answered: {}{more}",
                all.len(),
                shown.join(", ")
            ))
        }
    };
    let unjudged = (validation < ENOUGH_TO_JUDGE).then(|| {
        let texts = match validation {
            0 => "no text validates".to_owned(),
            some => format!("only {} validate{}", counted(some as u64, "text"), if some == 1 { "s" } else { "" }),
        };
        format!("{texts}; it takes {ENOUGH_TO_JUDGE} to judge a version by them, so versions are compared on all examples")
    });
    few.into_iter().chain(unjudged).collect()
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_classes_and_few_validating_texts_are_named() {
        let small = |count: u64| -> Vec<(ClassName, u64)> {
            (1..=count).map(|n| (ClassName::new(&format!("c{n}")).unwrap(), n)).collect()
        };
        assert_eq!(warnings(&[], 30), [""; 0]);
        let one = warnings(&small(1), 30);
        assert_eq!(one.len(), 1);
        assert!(
            one[0].starts_with("'c1' has 1 example, too few to hold some out: all of them train"),
            "{one:?}"
        );
        let many = warnings(&small(10), 1);
        assert!(many[0].starts_with("10 classes have fewer than 10 examples to train on"), "{many:?}");
        assert!(many[0].ends_with("'c8' (8) and 2 more"), "{many:?}");
        assert!(many[1].starts_with("only 1 text validates; it takes 30"), "{many:?}");
        assert!(warnings(&[], 29)[0].starts_with("only 29 texts validate; "));
        assert!(warnings(&[], 0)[0].starts_with("no text validates; "));
    }
}
