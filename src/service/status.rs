//! The only map from domain errors to gRPC statuses. Every status carries google.rpc details.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tracing::error;

use crate::error::{Error, Resource};

/// Domain of `google.rpc.ErrorInfo`.
const DOMAIN: &str = "taxond.v1";

/// The status that a client sees for an error.
pub fn status(error: Error) -> Status {
    let message = error.to_string();
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
            details.set_resource_info(resource_type(*resource), name, "", &message);
            Code::NotFound
        }
        Error::AlreadyExists { resource, name } => {
            reason(&mut details, "ALREADY_EXISTS", &[]);
            details.set_resource_info(resource_type(*resource), name, "", &message);
            Code::AlreadyExists
        }
        Error::Invalid(violations) => {
            reason(&mut details, "INVALID_FIELDS", &[]);
            for violation in violations {
                details.add_bad_request_violation(&violation.field, &violation.description);
            }
            Code::InvalidArgument
        }
        Error::Precondition { reason: why, subject, description } => {
            reason(&mut details, why, &[]);
            details.add_precondition_failure_violation(*why, subject, description);
            Code::FailedPrecondition
        }
        Error::Conflict { reason: why, subject, .. } => {
            reason(&mut details, why, &[("subject", subject)]);
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
        Error::Unavailable(_) => {
            reason(&mut details, "UNAVAILABLE", &[]);
            Code::Unavailable
        }
        Error::Corrupt { what, .. } => {
            error!(error = %message, "damaged data met");
            reason(&mut details, "DATA_DAMAGED", &[("what", what)]);
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

fn resource_type(resource: Resource) -> &'static str {
    match resource {
        Resource::Model => "taxond.v1/Model",
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
    fn a_missing_resource_is_described() {
        let status = status(Error::not_found(Resource::Model, "models/bank"));
        assert_eq!(status.code(), Code::NotFound);
        let details = status.get_error_details();
        assert_eq!(details.resource_info().unwrap().resource_name, "models/bank");
        assert_eq!(details.resource_info().unwrap().resource_type, "taxond.v1/Model");
    }
}
