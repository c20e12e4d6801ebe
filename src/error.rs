//! What can go wrong, by kind. Knows no transport: `service` maps each kind to a gRPC status.

use std::{fmt, io, time::Duration};

/// Result of a fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A resource that was named does not exist.
    #[error("{resource} '{name}' not found{}", hint(.suggestion))]
    NotFound {
        /// What was looked for.
        resource: Resource,
        /// The name as asked for.
        name: String,
        /// The nearest name there is.
        suggestion: Option<String>,
    },
    /// A resource that was to be made exists already.
    #[error("{resource} '{name}' exists already")]
    AlreadyExists {
        /// What was to be made.
        resource: Resource,
        /// Its name.
        name: String,
    },
    /// Fields of a request are wrong whatever the state.
    #[error("{}", join(.0))]
    Invalid(Vec<Violation>),
    /// The request is right, but not in this state; repeating it does not help.
    #[error("{description}")]
    Precondition {
        /// Stable reason in upper snake case.
        reason: &'static str,
        /// The resource whose state is in the way.
        subject: String,
        /// What is in the way and what to do.
        description: String,
    },
    /// Somebody else was first; read again and repeat.
    #[error("{description}")]
    Conflict {
        /// Stable reason in upper snake case.
        reason: &'static str,
        /// The resource in conflict.
        subject: String,
        /// What happened and what to do.
        description: String,
    },
    /// A limit or a resource is used up.
    #[error("{description}")]
    Exhausted {
        /// Stable reason in upper snake case.
        reason: &'static str,
        /// What is used up and what to do.
        description: String,
        /// When to try again, if that may help.
        retry_after: Option<Duration>,
    },
    /// The daemon does not know who calls.
    #[error("{description}")]
    Unauthenticated {
        /// Stable reason in upper snake case.
        reason: &'static str,
        /// What is missing or wrong; never what was presented.
        description: String,
    },
    /// Who calls may not do this.
    #[error("{description}")]
    Denied {
        /// Stable reason in upper snake case.
        reason: &'static str,
        /// What it takes.
        description: String,
    },
    /// The work was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The time that the client allowed is over.
    #[error("the deadline of the call passed before it was answered; what it was to do may have been done")]
    DeadlineExceeded,
    /// The daemon is shutting down or not ready.
    #[error("{0}")]
    Unavailable(String),
    /// Stored bytes are damaged.
    #[error("{what} is damaged: {detail}; {remedy}")]
    Corrupt {
        /// What is damaged.
        what: String,
        /// How it shows.
        detail: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The operating system refused.
    #[error("{context}: {source}")]
    Io {
        /// What was being done, with the path.
        context: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A fault of the daemon itself.
    #[error("internal error: {0}")]
    Internal(String),
}

/// Kinds of resources, named as in the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// `models/{model}`
    Model,
    /// `models/{model}/versions/{number}`
    Version,
    /// `models/{model}@{alias}`
    Alias,
    /// `models/{model}/manifests/{revision}`
    Manifest,
    /// A class within a manifest.
    Class,
    /// `models/{model}/examples/{id}`
    Example,
    /// `jobs/{id}`
    Job,
    /// A file in the daemon's folder of word vectors.
    WordVectors,
}

/// One wrong field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, for example `texts[3]`.
    pub field: String,
    /// What is wrong, with the offending value.
    pub description: String,
}

impl Error {
    /// A resource that does not exist.
    pub fn not_found(resource: Resource, name: impl Into<String>) -> Self {
        Self::NotFound { resource, name: name.into(), suggestion: None }
    }

    /// The stable reason, of the kinds that have one.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Precondition { reason, .. }
            | Self::Conflict { reason, .. }
            | Self::Exhausted { reason, .. }
            | Self::Unauthenticated { reason, .. }
            | Self::Denied { reason, .. } => Some(reason),
            Self::NotFound { .. }
            | Self::AlreadyExists { .. }
            | Self::Invalid(_)
            | Self::Cancelled
            | Self::DeadlineExceeded
            | Self::Unavailable(_)
            | Self::Corrupt { .. }
            | Self::Io { .. }
            | Self::Internal(_) => None,
        }
    }

    /// The same error, its fields those of a part of the request.
    #[must_use]
    pub fn within(self, part: &str) -> Self {
        match self {
            Self::Invalid(violations) => Self::Invalid(
                violations
                    .into_iter()
                    .map(|violation| Violation { field: format!("{part}.{}", violation.field), ..violation })
                    .collect(),
            ),
            error => error,
        }
    }

    /// One wrong field.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation { field: field.into(), description: description.into() }])
    }

    /// So many bytes of memory cannot be had.
    pub fn out_of_memory(bytes: usize) -> Self {
        Self::Exhausted {
            reason: "MEMORY",
            description: format!(
                "the system gives no {bytes} bytes of memory for this call; nothing of it was stored"
            ),
            retry_after: Some(Duration::from_secs(1)),
        }
    }

    /// A failed call of the operating system.
    pub fn io(context: impl Into<String>, source: io::Error) -> Self {
        Self::Io { context: context.into(), source }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Model => "model",
            Self::Version => "version",
            Self::Alias => "alias",
            Self::Manifest => "manifest",
            Self::Class => "class",
            Self::Example => "example",
            Self::Job => "job",
            Self::WordVectors => "word vectors",
        })
    }
}

/// The name that was probably meant: the nearest by edit distance, if it is near.
pub(crate) fn nearest<T: AsRef<str>>(wanted: &str, names: impl Iterator<Item = T>) -> Option<T> {
    let length = wanted.chars().count();
    let near = 1.max(length / 3);
    names
        // What differs more in length is no nearer, and takes long to compare where a caller sends a name of megabytes.
        .filter(|name| name.as_ref().chars().count().abs_diff(length) <= near)
        .map(|name| (edit_distance(name.as_ref(), wanted), name))
        .filter(|(distance, _)| *distance <= near)
        .min_by(|(a, a_name), (b, b_name)| a.cmp(b).then_with(|| a_name.as_ref().cmp(b_name.as_ref())))
        .map(|(_, name)| name)
}

/// Edits of single characters that make one text of the other; two neighbours that changed places are one.
fn edit_distance(a: &str, b: &str) -> usize {
    let [a, b]: [Vec<char>; 2] = [a, b].map(|text| text.chars().collect());
    let mut rows = [vec![0; b.len() + 1], vec![0; b.len() + 1], (0..=b.len()).collect()];
    for i in 0..a.len() {
        rows.rotate_left(1);
        let [older, above, row] = &mut rows;
        row[0] = i + 1;
        for j in 0..b.len() {
            let replace = above[j] + usize::from(a[i] != b[j]);
            row[j + 1] = replace.min(row[j] + 1).min(above[j + 1] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                row[j + 1] = row[j + 1].min(older[j - 1] + 1);
            }
        }
    }
    rows[2][b.len()]
}

fn hint(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map_or_else(String::new, |name| format!("; did you mean '{name}'?"))
}

fn join(violations: &[Violation]) -> String {
    violations.iter().map(|v| format!("{}: {}", v.field, v.description)).collect::<Vec<_>>().join("; ")
}
