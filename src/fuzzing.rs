//! What the fuzzers in `fuzz/` run. A target takes any bytes, and panics where something is not as it must be.

pub use crate::{
    cli::fuzzing::tables,
    config::fuzzing::configs,
    model::fuzzing::vectors,
    registry::fuzzing::{archives, records},
    server::fuzzing::credentials,
    service::fuzzing::{requests, tensors},
    store::fuzzing::{backups, cells},
    taxonomy::fuzzing::changes,
    text::fuzzing::texts,
};

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    type Target = (&'static str, fn(&[u8]));

    /// The targets by name: that of their file in `fuzz/fuzz_targets`, and of the folders of their inputs.
    const TARGETS: [Target; 12] = [
        ("archives", archives),
        ("backups", backups),
        ("cells", cells),
        ("changes", changes),
        ("configs", configs),
        ("credentials", credentials),
        ("records", records),
        ("requests", requests),
        ("tables", tables),
        ("tensors", tensors),
        ("texts", texts),
        ("vectors", vectors),
    ];

    fn names(folder: &Path) -> BTreeSet<String> {
        let entries = fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn every_seed_and_every_input_that_once_failed_passes() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        // The package does not hold them.
        if !fuzz.exists() {
            return;
        }
        let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        let files = targets.iter().map(|name| format!("{name}.rs")).collect();
        assert_eq!(names(&fuzz.join("fuzz_targets")), files);
        assert_eq!(names(&fuzz.join("seeds")), targets, "every target has seeds");
        assert!(names(&fuzz.join("regressions")).is_subset(&targets));
        for (name, target) in TARGETS {
            for folder in ["seeds", "regressions"].map(|kind| fuzz.join(kind).join(name)) {
                for file in names(&folder) {
                    println!("{}", folder.join(&file).display());
                    target(&fs::read(folder.join(&file)).unwrap());
                }
            }
        }
    }
}
