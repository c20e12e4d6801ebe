//! A wall clock that is wrong.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The variable that says by how many seconds the library sets the clock of a process wrong.
pub const SKEW: &str = "CLOCK_SKEW_SECONDS";

/// The library that sets a clock wrong, compiled into a folder.
pub fn library(dir: &Path) -> PathBuf {
    let library = dir.join("libskew.so");
    let rustc = Path::new(env!("CARGO")).with_file_name("rustc");
    let rustc = if rustc.exists() { rustc } else { "rustc".into() };
    let compiled = Command::new(rustc)
        .args(["-O", "--edition", "2024", "--crate-type", "cdylib"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clock/skew.rs"))
        .arg("-o")
        .arg(&library)
        .status()
        .unwrap();
    assert!(compiled.success());
    library
}
