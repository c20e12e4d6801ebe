//! Keeps the rooms (the modules at the top of `src/`) apart: which room may name which other room, and which may name
//! which crate. Reads the sources as text: every path that leads out of a room counts, in code and in tests, but not
//! what stands in comments and strings.

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
};

/// Each room and the rooms it may name. `proto::v1` (the API), `proto::inference` (the Open Inference Protocol) and `proto::storage`
/// (the records) count as rooms.
const ROOMS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("proto", &[]),
    ("measure", &[]),
    ("allocator", &[]),
    ("admission", &["error"]),
    ("cancel", &["error", "admission"]),
    ("file", &[]),
    ("niceness", &[]),
    ("fair_lock", &[]),
    ("taxonomy", &["error"]),
    ("text", &["error"]),
    ("store", &["error", "fair_lock", "file"]),
    ("model", &["error", "allocator", "taxonomy", "text"]),
    ("config", &["error", "file", "model"]),
    ("registry", &["error", "cancel", "taxonomy", "model", "store", "proto::storage"]),
    (
        "dataset",
        &["error", "cancel", "fair_lock", "file", "taxonomy", "text", "store", "registry", "proto::storage"],
    ),
    ("train", &["error", "cancel", "niceness", "taxonomy", "text", "model", "registry", "dataset"]),
    ("predict", &["error", "measure", "niceness", "taxonomy", "text", "model", "registry"]),
    (
        "service",
        &[
            "error",
            "admission",
            "cancel",
            "niceness",
            "taxonomy",
            "text",
            "model",
            "registry",
            "dataset",
            "train",
            "predict",
            "proto::v1",
            "proto::inference",
        ],
    ),
    (
        "server",
        &[
            "error",
            "admission",
            "cancel",
            "file",
            "niceness",
            "measure",
            "allocator",
            "config",
            "store",
            "model",
            "registry",
            "dataset",
            "train",
            "predict",
            "service",
            "proto::v1",
            "proto::inference",
        ],
    ),
    ("cli", &["error", "config", "taxonomy", "text", "server", "proto::v1"]),
    ("main", &["error", "allocator", "config", "cli", "server"]),
    // The targets of the fuzzers, which stand in the rooms.
    ("fuzzing", &["cli", "config", "model", "registry", "server", "service", "store", "taxonomy", "text"]),
];

/// Crates that belong to few places, and those places: rooms or, where a part of a room is meant, path prefixes.
const CRATES: &[(&[&str], &[&str])] = &[
    (
        &["tonic", "tonic_health", "tonic_prost", "tonic_reflection", "tonic_types"],
        &["proto.rs", "service/", "server/", "cli/"],
    ),
    (&["tokio_rustls", "webpki", "hyper", "hyper_util", "prometheus_client"], &["server/"]),
    (
        &["opentelemetry", "opentelemetry_otlp", "opentelemetry_sdk", "tracing_opentelemetry"],
        &["server/traces.rs"],
    ),
    (&["sled"], &["store/"]),
    (&["safetensors"], &["registry/"]),
    (&["base64"], &["registry/", "service/page_token.rs"]),
    (&["ring"], &["server/tls.rs", "service/page_token.rs"]),
    (&["candle_core", "candle_nn"], &["model/", "train/", "predict/", "registry/"]),
    (&["cudarc"], &["model/cuda/"]),
    // The training loop is plain code on a thread of its own; only what starts and watches it may wait on futures.
    (&["tokio", "tokio_stream"], &["predict/", "train/feed.rs", "service/", "server/", "cli/", "main.rs"]),
];

#[test]
fn rooms_name_only_what_they_may() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut breaches = Vec::new();
    for path in sources(&src) {
        let source = fs::read_to_string(&path).expect("a source file is readable UTF-8");
        let inside = path.strip_prefix(&src).expect("sources lie under src").to_string_lossy();
        breaches.extend(check(&inside, &source));
    }
    let report: Vec<String> = breaches.iter().map(Breach::to_string).collect();
    assert!(report.is_empty(), "\n{}\n", report.join("\n"));
}

#[test]
fn every_room_has_a_rule_and_every_rule_a_room() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let found: BTreeSet<String> = sources(&src)
        .iter()
        .map(|path| room_of(&path.strip_prefix(&src).expect("sources lie under src").to_string_lossy()))
        .filter(|room| room != "lib")
        .collect();
    let ruled: BTreeSet<String> = ROOMS.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(found, ruled);
}

#[test]
fn forbidden_paths_are_found() {
    for (file, source, named) in [
        ("taxonomy/change.rs", "use tonic::Status;", "tonic"),
        ("taxonomy/change.rs", "fn f() -> ::tonic::Status { g() }", "tonic"),
        ("taxonomy/change.rs", "use {std::fmt, tokio::sync::mpsc};", "tokio"),
        ("service/models.rs", "fn open() { let db = sled::open(path); }", "sled"),
        ("service/models.rs", "use sled as database;", "sled"),
        ("train/fit.rs", "use tokio::sync::watch;", "tokio"),
        ("store/mod.rs", "use candle_core::Tensor;", "candle_core"),
        ("predict/live.rs", "use crate::train::fit;", "train"),
        ("train/jobs.rs", "use crate::{error::{Error, Result}, predict::Live};", "predict"),
        ("train/jobs.rs", "use super::super::predict::Live;", "predict"),
        ("train/mod.rs", "mod tests { use super::super::predict::Live; }", "predict"),
        ("text/encode.rs", "fn f(m: &crate::model::Encoder) {}", "model"),
        ("service/models.rs", "use crate::proto::storage::Model;", "proto::storage"),
        ("registry/model.rs", "use crate::proto::{storage, v1};", "proto::v1"),
    ] {
        let breaches = check(file, source);
        assert_eq!(breaches.len(), 1, "{file}: {source}: {breaches:?}");
        assert_eq!(breaches[0].named, named, "{file}: {source}");
    }
}

#[test]
fn permitted_paths_comments_and_strings_pass() {
    for (file, source) in [
        ("service/models.rs", "use tonic::{Request, Response};\nuse crate::registry::Registry;"),
        ("taxonomy/change.rs", "use crate::error::{Error, Result};\nuse super::manifest::Manifest;"),
        (
            "taxonomy/change.rs",
            "//! Unlike crate::train, knows no tonic::Status.\n/* sled::open /* crate::train */ */",
        ),
        (
            "taxonomy/change.rs",
            "fn f<'a>(x: &'a str) { g(\"crate::train\", r#\"sled::\"open\"#, '\"', 'x', b\"tokio::\") }",
        ),
        ("train/feed.rs", "use tokio::sync::watch;\nuse crate::{model::Classifier, registry};"),
        ("train/fit.rs", "mod tests { use super::*; use super::super::recipe::Recipe; }"),
        ("text/encode.rs", "fn f(v: &Vocabulary) { v.tokio(); other::tokio::x(); }"),
        ("registry/model.rs", "use crate::proto::storage::{self, Model};"),
        ("lib.rs", "pub mod train;\npub mod predict;"),
    ] {
        assert_eq!(check(file, source), [], "{file}: {source}");
    }
}

/// A path that leads where it may not.
#[derive(Debug, PartialEq, Eq)]
struct Breach {
    file: String,
    line: usize,
    named: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, named } = self;
        write!(f, "src/{file}:{line}: `{}` may not name `{named}`", room_of(file))
    }
}

/// The room of a file, given relative to `src`.
fn room_of(file: &str) -> String {
    file.split('/').next().unwrap_or(file).trim_end_matches(".rs").to_owned()
}

/// What a source text, to stand in `file`, names and may not.
fn check(file: &str, source: &str) -> Vec<Breach> {
    let room = room_of(file);
    let allowed = ROOMS.iter().find(|(name, _)| *name == room).map_or(&[][..], |(_, allowed)| allowed);
    let mut breaches = Vec::new();
    for Mention { line, path, internal } in mentions(file, source) {
        let named = path.join("::");
        let fine = if internal {
            let target = if path[0] == "proto" { &named } else { &path[0] };
            room == "lib" || path[0] == room || allowed.contains(&target.as_str())
        } else {
            CRATES.iter().all(|(crates, places)| {
                !crates.contains(&path[0].as_str()) || places.iter().any(|place| file.starts_with(place))
            })
        };
        if !fine {
            let named = if internal && path[0] == "proto" { named } else { path[0].clone() };
            breaches.push(Breach { file: file.to_owned(), line, named });
        }
    }
    breaches
}

/// The beginning of a path: of one that starts at the root of this crate (`internal`, without `crate`), or of one that
/// starts with the name of another crate. One or two segments.
struct Mention {
    line: usize,
    path: Vec<String>,
    internal: bool,
}

/// Finds the paths that lead out of a file: `crate::..`, enough `super::..`, and names of the crates under rule.
fn mentions(file: &str, source: &str) -> Vec<Mention> {
    let tokens = tokens(source);
    let text = |i: usize| tokens.get(i).map_or("", |token| token.text.as_str());
    // Modules between the root of the crate and this file.
    let depth = file.split('/').filter(|part| !matches!(*part, "lib.rs" | "main.rs" | "mod.rs")).count();
    let mut inline = Vec::new();
    let mut found = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        let line = token.line;
        match token.text.as_str() {
            "{" => inline.push(i >= 2 && text(i - 2) == "mod"),
            "}" => {
                inline.pop();
            }
            // main.rs is a crate of its own and calls this one by its name.
            "crate" | "taxond" if text(i + 1) == "::" => found.extend(branches(&tokens, i + 2, line)),
            "super" if text(i + 1) == "::" && (i < 2 || text(i - 2) != "super") => {
                let ups = (0..).take_while(|n| text(i + 2 * n) == "super").count();
                if ups == depth + inline.iter().filter(|&&module| module).count() {
                    found.extend(branches(&tokens, i + 2 * ups, line));
                }
            }
            name if CRATES.iter().any(|(crates, _)| crates.contains(&name)) => {
                let before = if i == 0 { "" } else { text(i - 1) };
                let rooted = before == "::" && (i < 2 || !is_name(text(i - 2)));
                if rooted || !matches!(before, "::" | ".") {
                    found.push(Mention { line, path: vec![name.to_owned()], internal: false });
                }
            }
            _ => {}
        }
    }
    found
}

/// The rooms that a path of this crate leads to, from the token after `crate::`: one, or the branches of a group.
fn branches(tokens: &[Token], start: usize, line: usize) -> Vec<Mention> {
    let text = |i: usize| tokens.get(i).map_or("", |token| token.text.as_str());
    let mention = |path: &[&str]| Mention {
        line,
        path: path.iter().map(|&segment| segment.to_owned()).collect(),
        internal: true,
    };
    let mut found = Vec::new();
    for i in group(tokens, start) {
        match text(i) {
            "proto" if text(i + 1) == "::" => {
                found.extend(group(tokens, i + 2).into_iter().map(|j| mention(&["proto", text(j)])));
            }
            name => found.push(mention(&[name])),
        }
    }
    found
}

/// The positions where the branches of a use tree begin: `start` itself or, at a brace, after it and each of its commas.
fn group(tokens: &[Token], start: usize) -> Vec<usize> {
    let mut begins = vec![start];
    if tokens.get(start).is_none_or(|token| token.text != "{") {
        return begins;
    }
    begins[0] += 1;
    let mut open = 0;
    for (i, token) in tokens.iter().enumerate().skip(start) {
        match token.text.as_str() {
            "{" => open += 1,
            "}" => open -= 1,
            "," if open == 1 && tokens.get(i + 1).is_some_and(|next| next.text != "}") => begins.push(i + 1),
            _ => {}
        }
        if open == 0 {
            break;
        }
    }
    begins
}

struct Token {
    line: usize,
    text: String,
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Names, `::` and single other characters of a source text; comments, strings and character literals left out.
fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut tokens = Vec::new();
    let (mut i, mut line) = (0, 1);
    while i < chars.len() {
        let start = i;
        match at(i) {
            '/' if at(i + 1) == '/' => i += chars[i..].iter().take_while(|&&c| c != '\n').count(),
            '/' if at(i + 1) == '*' => {
                let mut open = 0;
                loop {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (open, i) = (open + 1, i + 2),
                        ('*', '/') => (open, i) = (open - 1, i + 2),
                        _ => i += 1,
                    }
                    if open == 0 || i >= chars.len() {
                        break;
                    }
                }
            }
            '"' => i = string_end(&chars, i + 1),
            // A character literal, not a lifetime: escaped, or closed after one character.
            '\'' if at(i + 1) == '\\' || at(i + 2) == '\'' => {
                i += if at(i + 1) == '\\' { 3 } else { 2 };
                i += chars.iter().skip(i).take_while(|&&c| c != '\'').count() + 1;
            }
            c if c.is_alphanumeric() || c == '_' => {
                i += chars[i..].iter().take_while(|&&c| c.is_alphanumeric() || c == '_').count();
                let text: String = chars[start..i].iter().collect();
                let hashes = chars[i..].iter().take_while(|&&c| c == '#').count();
                if matches!(text.as_str(), "r" | "br" | "cr") && at(i + hashes) == '"' {
                    i = raw_string_end(&chars, i + hashes + 1, hashes);
                } else {
                    tokens.push(Token { line, text });
                }
            }
            ':' if at(i + 1) == ':' => {
                i += 2;
                tokens.push(Token { line, text: "::".to_owned() });
            }
            c => {
                i += 1;
                if !c.is_whitespace() {
                    tokens.push(Token { line, text: c.to_string() });
                }
            }
        }
        line += chars[start..i.min(chars.len())].iter().filter(|&&c| c == '\n').count();
    }
    tokens
}

/// The position after a string's closing quote.
fn string_end(chars: &[char], mut i: usize) -> usize {
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// The position after a raw string's closing quote and hashes.
fn raw_string_end(chars: &[char], mut i: usize, hashes: usize) -> usize {
    while i < chars.len() {
        if chars[i] == '"' && chars.iter().skip(i + 1).take_while(|&&c| c == '#').count() >= hashes {
            return i + 1 + hashes;
        }
        i += 1;
    }
    i
}

/// All Rust files under a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("src is readable") {
        let path = entry.expect("src is readable").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
