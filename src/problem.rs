//! Failures over HTTP: RFC 9457 problem details, with the members that sockets show too.
//!
//! The one place that turns an [`Error`] into a status, and the framework's own failures (a body that cannot be read, an
//! unknown path) into an [`Error`].

use poem::Response;
use poem::http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::error::{self, Code, Error};

/// The content type of a problem (RFC 9457).
const CONTENT_TYPE: &str = "application/problem+json";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(flatten)]
    body: error::Body<'a>,
}

/// The response for a failure. Faults of ours are logged here, once.
#[must_use]
pub fn response(failure: &Error) -> Response {
    match failure.code() {
        Code::Internal => tracing::error!(error = %failure, "a request failed"),
        Code::Unavailable => tracing::warn!(error = %failure, "a request could not be served"),
        _ => tracing::debug!(error = %failure, "a request was refused"),
    }
    render(failure, StatusCode::from_u16(failure.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
}

fn render(failure: &Error, status: StatusCode) -> Response {
    let problem = Problem {
        kind: "about:blank",
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail: failure.shown(),
        body: failure.body(),
    };
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = Response::builder().status(status).content_type(CONTENT_TYPE).body(body);
    if let Some(wait) = failure.wait() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    }
    if failure.code() == Code::Unauthenticated {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// A failure on its way through the framework.
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub fn into_poem(failure: Error) -> poem::Error {
    let response = response(&failure);
    let mut error = poem::Error::from_response(response);
    error.set_data(Rendered);
    error
}

/// Marks an error whose response is a problem already.
#[derive(Clone, Copy)]
struct Rendered;

/// The response for any error of the framework: ours as they are, its own as problems with stable reasons.
pub async fn catch_all(error: poem::Error) -> Response {
    if error.data::<Rendered>().is_some() {
        return error.into_response();
    }
    let status = error.status();
    let sentence = error.to_string();
    let failure = match status {
        StatusCode::NOT_FOUND => Error::new(Code::NotFound, "no_such_route", "there is nothing here"),
        StatusCode::METHOD_NOT_ALLOWED => {
            return render(&Error::invalid("method_not_allowed", "this method is not allowed here"), status);
        }
        StatusCode::UNAUTHORIZED => crate::auth::token::missing(),
        StatusCode::PAYLOAD_TOO_LARGE => Error::new(Code::TooLarge, "body_too_large", "the body is larger than 1 MiB"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            return render(
                &Error::invalid(
                    "unsupported_media_type",
                    "the body must be application/json, or where files are taken multipart/form-data",
                ),
                status,
            );
        }
        StatusCode::FORBIDDEN => Error::new(Code::Forbidden, "forbidden", sentence),
        status if status.is_client_error() => Error::invalid("malformed_request", sentence),
        StatusCode::SERVICE_UNAVAILABLE => Error::unavailable("unavailable", "not right now, try again"),
        _ => Error::internal(sentence),
    };
    response(&failure)
}
