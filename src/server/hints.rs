//! The name that a caller probably meant where it named a model that does not exist: the nearest of those that it may see.

use std::{fmt, sync::Arc};

use tonic::{
    Code, Status,
    body::Body,
    codegen::http::{self, HeaderValue},
};
use tonic_types::StatusExt as _;

use crate::service::{Identity, MODEL_TYPE, Services};

/// Finds the nearest names. Reads the catalogue.
#[derive(Clone, Default)]
pub(super) struct Hints(Option<Services>);

impl Hints {
    pub(super) fn new(services: Services) -> Self {
        Self(Some(services))
    }

    /// The answer of a call, with a hint where it is that a model was not found.
    pub(super) async fn complete(
        &self,
        response: http::Response<Body>,
        identity: &Arc<Identity>,
    ) -> http::Response<Body> {
        if !response.headers().get(Status::GRPC_STATUS).is_some_and(is_not_found) {
            return response;
        }
        let Some((services, status)) = self.0.clone().zip(Status::from_header_map(response.headers())) else {
            return response;
        };
        let details = status.get_error_details();
        let Some(missing) =
            details.resource_info().cloned().filter(|missing| missing.resource_type == MODEL_TYPE)
        else {
            return response;
        };
        let identity = Arc::clone(identity);
        let nearest =
            tokio::task::spawn_blocking(move || services.nearest_model(&identity, &missing.resource_name));
        // Without a hint the answer is right as well.
        let Ok(Some(nearest)) = nearest.await else { return response };
        let message = format!("{}; did you mean '{nearest}'?", status.message());
        // The details hold the message as well, and clients compare the two.
        Status::with_error_details_and_metadata(status.code(), message, details, status.metadata().clone())
            .into_http()
    }
}

fn is_not_found(value: &HeaderValue) -> bool {
    Code::from_bytes(value.as_bytes()) == Code::NotFound
}

impl fmt::Debug for Hints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hints")
    }
}
