//! What a fuzzer tries on the algebra of classes: bytes that are read as changes, one after the other, some of them undone.

use std::time::SystemTime;

use super::{
    Change, ClassId, ClassName, Edit, LeafGroups, LeafId, Manifest, Meaning, Part, Provenance, Revision,
    Translation, VersionNumber,
};

/// Names that changes give and ask for: few, so that they come again, and some of them no names.
const NAMES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "取款", "e\u{301}", "é", "", "#1", " a"];
/// Longest run of changes; what follows says nothing new.
const MOST: usize = 32;

/// The bytes, taken from the front; zeros behind the last.
struct Bytes<'a>(&'a [u8]);

/// Whatever was changed, a manifest holds together, gives no id twice, changes no stored label's class, answers sum to 1 in the
/// classes of every revision, and an undo brings the classes back.
pub fn changes(data: &[u8]) {
    let mut bytes = Bytes(data);
    let names: Vec<ClassName> = NAMES[..4].iter().filter_map(|name| ClassName::new(name).ok()).collect();
    let mut history = vec![Manifest::create(&names, SystemTime::UNIX_EPOCH).expect("four names")];
    while !bytes.0.is_empty() && history.len() < MOST {
        let now = &history[history.len() - 1];
        let target = now.undo.map(|point| &history[point.revision.0 as usize - 1]);
        let next = match (bytes.next() % 9, target) {
            (0, Some(target)) => {
                let next = now.undo(target, after(now));
                assert!(next.living().eq(target.living()), "undone to something else");
                assert_eq!(next.undo, target.undo);
                next
            }
            (kind, _) => {
                let edit = bytes.edit(kind, now);
                // What is refused changes nothing.
                let Ok(next) = now.edit(&edit, after(now)) else { continue };
                check_labels(now, &next);
                let one = now.edit_all(&[edit], &after(now), &mut |_, _, _| Ok(()));
                assert_eq!(one.expect("a change alone is one of several"), next);
                next
            }
        };
        assert_eq!(next.check(), Ok(()), "{:?}", next.change);
        assert!(next.next_class >= now.next_class && next.next_leaf >= now.next_leaf);
        assert!(now.classes.iter().all(|class| next.classes.contains(&class.id)), "a class was forgotten");
        let came = |class: &&super::Class| !now.classes.contains(&class.id);
        assert!(next.classes.iter().filter(came).all(|class| class.id >= now.next_class));
        check_answers(&next, &history[bytes.next() % history.len()]);
        history.push(next);
    }
}

fn after(manifest: &Manifest) -> Provenance {
    Provenance {
        revision: Revision(manifest.revision.0 + 1),
        serving: VersionNumber(manifest.revision.0),
        reason: String::new(),
        author: String::new(),
        created: SystemTime::UNIX_EPOCH,
    }
}

/// A label that means a class before and after means the same one, or one that has all its leaves.
fn check_labels(now: &Manifest, next: &Manifest) {
    for name in NAMES.iter().filter_map(|name| ClassName::new(name).ok()) {
        let (Meaning::Class(was), Meaning::Class(is)) = (now.meaning(&name), next.meaning(&name)) else {
            continue;
        };
        // A part may take over the name of the class it came of.
        if matches!(&next.change, Change::Split { class, into } if *class == was && into.contains(&is)) {
            continue;
        }
        let leaves: Vec<LeafId> = next.classes[&is].leaves().collect();
        assert!(now.classes[&was].leaves().all(|leaf| leaves.contains(&leaf)), "'{name}' means a stranger");
    }
}

/// At every level, and in the classes of another revision, each row counts once.
fn check_answers(manifest: &Manifest, other: &Manifest) {
    let rows: Vec<LeafId> = manifest.leaves().into_iter().collect();
    let probabilities = vec![1.0 / rows.len() as f32; rows.len()];
    let sum = |groups: &LeafGroups| groups.sums(&probabilities).iter().sum::<f64>();
    for level in 0..=manifest.depth() {
        let groups = LeafGroups::at_level(manifest, &rows, level).expect("all leaves have rows");
        assert!((sum(&groups) - 1.0).abs() < 1e-5);
    }
    for level in [None, Some(0)] {
        let translated = Translation::new(manifest, other, &rows, level).expect("all leaves have rows");
        assert!((sum(&translated.groups) - 1.0).abs() < 1e-5);
    }
}

impl Bytes<'_> {
    fn next(&mut self) -> usize {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(byte)
    }

    fn name(&mut self) -> String {
        NAMES[self.next() % NAMES.len()].to_owned()
    }

    /// A living class by its id, or whatever has a name.
    fn reference(&mut self, now: &Manifest) -> String {
        let living: Vec<ClassId> = now.living().map(|class| class.id).collect();
        match self.next() {
            pick @ 0..200 => format!("#{}", living[pick % living.len()]),
            pick => NAMES[pick % NAMES.len()].to_owned(),
        }
    }

    fn several<T>(&mut self, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.next() % 4).map(|_| one(self)).collect()
    }

    fn edit(&mut self, kind: usize, now: &Manifest) -> Edit {
        match kind {
            0 | 1 => Edit::Merge { classes: self.several(|bytes| bytes.reference(now)), into: self.name() },
            2 => Edit::Rename { class: self.reference(now), new_name: self.name() },
            3 => Edit::Remove { classes: self.several(|bytes| bytes.reference(now)) },
            4 => Edit::Add { names: self.several(Self::name) },
            5 | 6 => {
                let part = |bytes: &mut Self| Part { name: bytes.name(), ..Part::default() };
                Edit::Split { class: self.reference(now), parts: self.several(part) }
            }
            7 => Edit::Place { class: self.reference(now), parent: None, create_parent: false },
            _ => Edit::Place {
                class: self.reference(now),
                parent: Some(self.reference(now)),
                create_parent: true,
            },
        }
    }
}
