//! Failures of handlers, for the framework and for the specification.

use poem_openapi::payload::{Json, Payload};
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiResponse, Object};

use crate::error::Error;
use crate::problem;

/// A failure of a handler.
pub struct Failure(Error);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<Failure> for poem::Error {
    fn from(Failure(error): Failure) -> Self {
        problem::into_poem(error)
    }
}

/// Problem details (RFC 9457), with the members that sockets show too.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
struct Problem {
    /// Always `about:blank`: `reason` says what happened.
    #[oai(rename = "type")]
    kind: String,
    /// The phrase of the status.
    title: String,
    /// The status.
    status: u16,
    /// The same as `message`.
    detail: String,
    /// What a program can act on: invalid, unauthenticated, forbidden, `not_found`, conflict, `too_large`, `rate_limited`,
    /// unavailable or internal.
    code: String,
    /// The stable, finer name of what happened.
    reason: String,
    /// A sentence for people.
    message: String,
    /// Whether the same request may succeed later.
    retryable: bool,
    /// How long to wait before that, in milliseconds.
    retry_after_ms: Option<u64>,
}

impl ApiResponse for Failure {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "A problem: see `code` and `reason`",
                status: None,
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: "application/problem+json",
                    schema: <Json<Problem> as Payload>::schema_ref(),
                }],
                headers: Vec::new(),
            }],
        }
    }

    fn register(registry: &mut Registry) {
        Problem::register(registry);
    }
}
