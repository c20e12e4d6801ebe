//! The only map from domain errors to gRPC statuses. Every status carries google.rpc details.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tracing::error;

use crate::error::{Error, Resource};

/// Domain of `google.rpc.ErrorInfo`.
const DOMAIN: &str = "taxond.v1";

// Clients take an error in headers, of 16 KiB where nobody set another limit (hyper). A byte beyond ASCII takes three in a message,
// and the details hold the message again.
/// Bytes of a message or a description at most.
const MAX_MESSAGE_BYTES: usize = 2048;
/// Bytes of a name or a field at most.
const MAX_NAME_BYTES: usize = 512;
/// Bytes of all violations together at most, with what frames each.
const MAX_VIOLATIONS_BYTES: usize = 3072;
/// Bytes that frame a violation.
const FRAME_BYTES: usize = 16;

/// The status that a client sees for an error.
pub fn status(error: Error) -> Status {
    let message = beginning(&error.to_string(), MAX_MESSAGE_BYTES);
    let mut details = ErrorDetails::new();
    let reason = |details: &mut ErrorDetails, reason: &str, metadata: &[(&str, &str)]| {
        let metadata: HashMap<String, String> =
            metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        details.set_error_info(reason, DOMAIN, metadata);
    };
    let code = match &error {
        Error::NotFound { resource, name, suggestion } => {
            let metadata: Vec<_> = suggestion.iter().map(|name| ("suggestion", name.as_str())).collect();
            reason(&mut details, "NOT_FOUND", &metadata);
            details.set_resource_info(
                resource_type(*resource),
                beginning(name, MAX_NAME_BYTES),
                "",
                &message,
            );
            Code::NotFound
        }
        Error::AlreadyExists { resource, name } => {
            reason(&mut details, "ALREADY_EXISTS", &[]);
            details.set_resource_info(
                resource_type(*resource),
                beginning(name, MAX_NAME_BYTES),
                "",
                &message,
            );
            Code::AlreadyExists
        }
        Error::Invalid(violations) => {
            reason(&mut details, "INVALID_FIELDS", &[]);
            let mut bytes = 0;
            for violation in violations {
                let field = beginning(&violation.field, MAX_NAME_BYTES);
                let description = beginning(&violation.description, MAX_MESSAGE_BYTES);
                bytes += field.len() + description.len() + FRAME_BYTES;
                if bytes > MAX_VIOLATIONS_BYTES {
                    break;
                }
                details.add_bad_request_violation(field, description);
            }
            Code::InvalidArgument
        }
        Error::Precondition { reason: why, subject, .. } => {
            reason(&mut details, why, &[]);
            details.add_precondition_failure_violation(*why, beginning(subject, MAX_NAME_BYTES), &message);
            Code::FailedPrecondition
        }
        Error::Conflict { reason: why, subject, .. } => {
            reason(&mut details, why, &[("subject", &beginning(subject, MAX_NAME_BYTES))]);
            Code::Aborted
        }
        Error::Exhausted { reason: why, retry_after, .. } => {
            reason(&mut details, why, &[]);
            if retry_after.is_some() {
                details.set_retry_info(*retry_after);
            }
            Code::ResourceExhausted
        }
        Error::Unauthenticated { reason: why, .. } => {
            reason(&mut details, why, &[]);
            Code::Unauthenticated
        }
        Error::Denied { reason: why, .. } => {
            reason(&mut details, why, &[]);
            Code::PermissionDenied
        }
        Error::Cancelled => {
            reason(&mut details, "CANCELLED", &[]);
            Code::Cancelled
        }
        Error::DeadlineExceeded => {
            reason(&mut details, "DEADLINE_EXCEEDED", &[]);
            Code::DeadlineExceeded
        }
        Error::Unavailable(_) => {
            reason(&mut details, "UNAVAILABLE", &[]);
            Code::Unavailable
        }
        Error::Corrupt { what, .. } => {
            error!(error = %message, "damaged data met");
            reason(&mut details, "DATA_DAMAGED", &[("what", &beginning(what, MAX_NAME_BYTES))]);
            Code::DataLoss
        }
        Error::Io { .. } => {
            error!(error = %message, "operating system refused");
            reason(&mut details, "IO_ERROR", &[]);
            Code::Internal
        }
        Error::Internal(_) => {
            error!(error = %message, "internal error");
            reason(&mut details, "INTERNAL", &[]);
            Code::Internal
        }
    };
    Status::with_error_details(code, message, details)
}

/// A text, or its beginning where it has more bytes.
fn beginning(text: &str, bytes: usize) -> String {
    let end = text.floor_char_boundary(bytes);
    let more = if end < text.len() { "..." } else { "" };
    format!("{}{more}", &text[..end])
}

/// What an answer calls a model that was not found.
pub const MODEL_TYPE: &str = "taxond.v1/Model";

fn resource_type(resource: Resource) -> &'static str {
    match resource {
        Resource::Model => MODEL_TYPE,
        Resource::Version => "taxond.v1/Version",
        Resource::Alias => "taxond.v1/Alias",
        Resource::Manifest => "taxond.v1/Manifest",
        Resource::Class => "taxond.v1/Class",
        Resource::Example => "taxond.v1/Example",
        Resource::Job => "taxond.v1/Job",
        Resource::WordVectors => "taxond.v1/WordVectors",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Violation;

    #[test]
    fn a_wrong_field_is_named_with_its_value() {
        let status = status(Error::invalid("texts[3]", "must not be blank, got '  '"));
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        let violations = &details.bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "texts[3]");
        assert_eq!(details.error_info().unwrap().domain, "taxond.v1");
    }

    #[test]
    fn an_error_fits_the_headers_that_clients_take() {
        let violation = |at| Violation { field: format!("texts[{at}]"), description: "取".repeat(200) };
        let name = "取".repeat(1_000_000);
        for error in [
            Error::Invalid((0..1000).map(violation).collect()),
            Error::invalid(name.clone(), name.clone()),
            Error::not_found(Resource::Class, name.clone()),
            Error::Precondition { reason: "REASON", subject: name.clone(), description: name },
        ] {
            let status = status(error);
            // As it goes over the wire: percent signs and base64.
            let bytes = 3 * status.message().len() + status.details().len().div_ceil(3) * 4;
            assert!(bytes < 15 * 1024, "{bytes}");
            let details = status.get_error_details();
            assert!(details.bad_request().is_none_or(|of| !of.field_violations.is_empty()));
        }
    }

    #[test]
    fn a_missing_resource_is_described() {
        let status = status(Error::not_found(Resource::Model, "models/bank"));
        assert_eq!(status.code(), Code::NotFound);
        let details = status.get_error_details();
        assert_eq!(details.resource_info().unwrap().resource_name, "models/bank");
        assert_eq!(details.resource_info().unwrap().resource_type, "taxond.v1/Model");
    }
}
