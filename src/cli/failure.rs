//! Why a command failed: what to print, what to do about it, and the exit code that tells causes apart.

use std::{fmt, io, path::Path};

use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{cli::output::bytes, error::Error, server};

/// Shown at the end of `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  failed (for example, a job did not succeed)
    2  wrong usage
    3  a model, version, class, job or file does not exist
    4  invalid input, or not possible in the present state
    5  the daemon cannot be reached
  130  interrupted";

/// Exit codes, by cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Nothing below fits.
    Failed = 1,
    /// The command line is wrong in a way that clap cannot see.
    Usage = 2,
    /// What was named does not exist.
    NotFound = 3,
    /// Input is invalid, or the call is impossible in the present state.
    Invalid = 4,
    /// The daemon is not there or went away.
    Unreachable = 5,
    /// Ctrl-C.
    Interrupted = 130,
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    /// The code in words, for `--json`.
    code: &'static str,
    message: String,
    details: Vec<String>,
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        let code = match exit {
            Exit::Failed => "FAILED",
            Exit::Usage => "USAGE",
            Exit::NotFound => "NOT_FOUND",
            Exit::Invalid => "INVALID_ARGUMENT",
            Exit::Unreachable => "UNAVAILABLE",
            Exit::Interrupted => "INTERRUPTED",
        };
        Self { exit, code, message: message.into(), details: Vec::new(), hint: None }
    }

    /// Adds lines that say more.
    pub(crate) fn with_details(mut self, details: impl IntoIterator<Item = String>) -> Self {
        self.details.extend(details);
        self
    }

    /// Says what to do.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A file that cannot be read.
    pub(crate) fn read(path: &str, error: &io::Error) -> Self {
        let exit = if error.kind() == io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Invalid };
        Self::new(exit, format!("cannot read {path}: {error}"))
    }

    /// A file that cannot be written. On a full disk, it says what is free and what to do.
    pub(crate) fn write(path: &Path, error: &io::Error) -> Self {
        let failure = Self::new(Exit::Failed, format!("cannot write {}: {error}", path.display()));
        if !matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return failure;
        }
        // What was written is removed, so that some is free again.
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let free =
            server::free_bytes(folder).map_or_else(String::new, |free| format!(" ({} free)", bytes(free)));
        failure.with_hint(format!(
            "the disk of {} is full{free}; make room on it, or name a file on another disk",
            folder.display()
        ))
    }

    /// A daemon that does not answer.
    pub(crate) fn unreachable(addr: &str, cause: impl fmt::Display) -> Self {
        Self::new(Exit::Unreachable, format!("cannot reach the daemon at {addr}: {cause}")).with_hint(
            "is it running? start it with `taxond serve`, or name its address with --addr or TAXOND_ADDR",
        )
    }

    /// Nobody reads the output any more, so that there is nobody to tell either.
    pub(crate) fn is_silent(&self) -> bool {
        self.message.is_empty()
    }

    /// The failure as one JSON document.
    pub(crate) fn to_json(&self) -> Value {
        let error =
            json!({"code": self.code, "message": self.message, "details": self.details, "hint": self.hint});
        json!({ "error": error })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for detail in &self.details {
            write!(f, "\n  {detail}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n{hint}")?;
        }
        Ok(())
    }
}

impl From<io::Error> for Failure {
    /// Of a failed write to the standard output.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Exit::Failed, ""),
            _ => Self::new(Exit::Failed, format!("cannot write the output: {error}")),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match &error {
            Error::NotFound { .. } => Exit::NotFound,
            Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => Exit::NotFound,
            Error::Invalid(_)
            | Error::AlreadyExists { .. }
            | Error::Precondition { .. }
            | Error::Conflict { .. } => Exit::Invalid,
            Error::Exhausted { .. }
            | Error::Cancelled
            | Error::DeadlineExceeded
            | Error::Unauthenticated { .. }
            | Error::Denied { .. }
            | Error::Unavailable(_)
            | Error::Corrupt { .. }
            | Error::Io { .. }
            | Error::Internal(_) => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        // A broken connection comes as a status too, made on this side with the cause as its source.
        let broken = std::error::Error::source(&status).is_some();
        let (exit, code) = match status.code() {
            Code::NotFound => (Exit::NotFound, "NOT_FOUND"),
            Code::InvalidArgument => (Exit::Invalid, "INVALID_ARGUMENT"),
            Code::FailedPrecondition => (Exit::Invalid, "FAILED_PRECONDITION"),
            Code::AlreadyExists => (Exit::Invalid, "ALREADY_EXISTS"),
            Code::Aborted => (Exit::Invalid, "ABORTED"),
            Code::OutOfRange => (Exit::Invalid, "OUT_OF_RANGE"),
            Code::Unavailable => (Exit::Unreachable, "UNAVAILABLE"),
            Code::ResourceExhausted => (Exit::Failed, "RESOURCE_EXHAUSTED"),
            Code::DeadlineExceeded => (Exit::Failed, "DEADLINE_EXCEEDED"),
            Code::PermissionDenied => (Exit::Failed, "PERMISSION_DENIED"),
            Code::Unauthenticated => (Exit::Failed, "UNAUTHENTICATED"),
            Code::Unimplemented => (Exit::Failed, "UNIMPLEMENTED"),
            Code::DataLoss => (Exit::Failed, "DATA_LOSS"),
            Code::Internal => (Exit::Failed, "INTERNAL"),
            // The connection ended before the call was sent, as where a certificate is not taken.
            Code::Cancelled if timed_out(&status) => (Exit::Failed, "DEADLINE_EXCEEDED"),
            Code::Cancelled if broken => (Exit::Unreachable, "UNAVAILABLE"),
            Code::Cancelled => (Exit::Failed, "CANCELLED"),
            Code::Unknown | Code::Ok if broken => (Exit::Unreachable, "UNAVAILABLE"),
            Code::Unknown | Code::Ok => (Exit::Failed, "UNKNOWN"),
        };
        let message = match status.message() {
            "" => format!("the daemon answered {code} without a message"),
            message => message.to_owned(),
        };
        let hint = hint(&status, exit);
        Self { exit, code, details: details(&status, &message), message, hint }
    }
}

/// Whether this side gave up: tonic's client answers CANCELLED when the time is over that `--timeout` allows.
fn timed_out(status: &Status) -> bool {
    status.code() == Code::Cancelled && status.message().contains("Timeout")
}

/// What the details of a status add to its message.
fn details(status: &Status, message: &str) -> Vec<String> {
    let found = status.get_error_details();
    let fields = found.bad_request().into_iter().flat_map(|bad| &bad.field_violations);
    let fields = fields.map(|v| (format!("{}: {}", v.field, v.description), v.description.as_str()));
    let states = found.precondition_failure().into_iter().flat_map(|failure| &failure.violations);
    let states = states.map(|v| (format!("{}: {}", v.subject, v.description), v.description.as_str()));
    // One violation alone is often the message itself.
    fields.chain(states).filter(|(_, what)| !message.contains(what)).map(|(line, _)| line).collect()
}

/// What to do, where the message does not say it.
fn hint(status: &Status, exit: Exit) -> Option<String> {
    let found = status.get_error_details();
    if let Some(resource) = found.resource_info().filter(|_| status.code() == Code::NotFound) {
        let kind = resource.resource_type.rsplit(['/', '.']).next().unwrap_or_default().to_lowercase();
        let list = match kind.as_str() {
            "model" => "taxond models",
            "version" | "alias" => "taxond versions MODEL",
            "manifest" => "taxond manifests MODEL",
            "class" => "taxond classes MODEL",
            "example" => "taxond examples list MODEL",
            "job" => "taxond jobs",
            _ => return None,
        };
        return Some(format!("`{list}` lists what there is"));
    }
    match status.code() {
        Code::Unauthenticated => Some(
            "say who you are with --token-file or TAXOND_TOKEN, or with --client-cert and --client-key"
                .into(),
        ),
        Code::DeadlineExceeded => Some("allow more time with --timeout SECONDS".into()),
        Code::Cancelled if timed_out(status) => Some("allow more time with --timeout SECONDS".into()),
        Code::ResourceExhausted => {
            let delay = found.retry_info().and_then(|retry| retry.retry_delay)?;
            Some(format!("try again in {:.1} s", delay.as_secs_f64()))
        }
        _ if exit == Exit::Unreachable => Some("is the daemon running? start it with `taxond serve`".into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn causes_have_their_exit_codes() {
        for (code, exit) in [
            (Code::NotFound, 3),
            (Code::InvalidArgument, 4),
            (Code::FailedPrecondition, 4),
            (Code::Aborted, 4),
            (Code::Unavailable, 5),
            (Code::Internal, 1),
        ] {
            assert_eq!(Failure::from(Status::new(code, "no")).exit as i32, exit, "{code:?}");
        }
        for (kind, exit) in [(io::ErrorKind::NotFound, 3), (io::ErrorKind::StorageFull, 1)] {
            let error = Error::io("reading the configuration", kind.into());
            assert_eq!(Failure::from(error).exit as i32, exit, "{kind:?}");
        }
    }

    #[test]
    fn violations_and_remedies_are_printed_and_no_debug_dump() {
        let mut found = ErrorDetails::new();
        found.add_bad_request_violation("texts[3]", "must not be empty");
        found.add_bad_request_violation("top_k", "must be 1 to 1000, got 0");
        let status = Status::with_error_details(Code::InvalidArgument, "two fields are wrong", found);
        assert_eq!(
            Failure::from(status).to_string(),
            "two fields are wrong\n  texts[3]: must not be empty\n  top_k: must be 1 to 1000, got 0"
        );

        let mut found = ErrorDetails::new();
        found.set_resource_info("taxond.v1.Job", "jobs/9", "", "");
        let status = Status::with_error_details(Code::NotFound, "job 'jobs/9' not found", found);
        assert_eq!(
            Failure::from(status).to_string(),
            "job 'jobs/9' not found\n`taxond jobs` lists what there is"
        );

        let found = ErrorDetails::with_retry_info(Some(Duration::from_millis(1500)));
        let status = Status::with_error_details(Code::ResourceExhausted, "the queue is full", found);
        assert_eq!(Failure::from(status).to_string(), "the queue is full\ntry again in 1.5 s");
    }

    #[test]
    fn a_violation_that_is_the_message_is_not_repeated() {
        let found = ErrorDetails::with_bad_request_violation("top_k", "must be 1 to 1000, got 0");
        let status =
            Status::with_error_details(Code::InvalidArgument, "top_k: must be 1 to 1000, got 0", found);
        assert_eq!(Failure::from(status).to_string(), "top_k: must be 1 to 1000, got 0");
    }

    #[test]
    fn a_full_disk_is_told_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bank.safetensors");
        let failure = Failure::write(&file, &io::ErrorKind::StorageFull.into()).to_string();
        let disk = format!("the disk of {} is full", folder.path().display());
        assert!(failure.contains(&disk) && failure.contains("on another disk"), "{failure}");
        let other = Failure::write(&file, &io::ErrorKind::PermissionDenied.into()).to_string();
        assert!(!other.contains("is full"), "{other}");
    }

    #[test]
    fn failures_are_json_too() {
        let failure = Failure::unreachable("http://127.0.0.1:1", "refused");
        assert_eq!(failure.to_json()["error"]["code"], "UNAVAILABLE");
        assert!(failure.to_string().contains("taxond serve"));
    }
}
