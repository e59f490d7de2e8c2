//! Bodies of requests: most are taken in before anything is decided about them, files are handed on as they come.
//!
//! A client that still writes when it is refused would not hear why. So what is left of a body is read on for a while, to
//! nowhere, before its client is answered.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use poem::http::{HeaderValue, Method, header};
use poem::{Body, Request};
use tokio::io::AsyncReadExt as _;

use crate::domain::attachment::LIMIT;
use crate::error::{Code, Error};

/// Largest body of a request that brings no file.
const BODY_LIMIT: usize = 1 << 20;
/// What is read of a body that nobody wants.
const PATIENCE: u64 = 16 << 20;
/// How long that may take.
const PATIENCE_TIME: Duration = Duration::from_secs(5);
/// What a form has beside its files.
const FORM: u64 = 1 << 20;

/// What a body is that says no type.
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

type Pieces = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// What is left of a body that a handler reads.
pub(super) struct Left(Option<Arc<Mutex<Pieces>>>);

/// A body that somebody else may read on with.
struct Shared(Arc<Mutex<Pieces>>);

impl Stream for Shared {
    type Item = std::io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // Nobody else reads while this one does.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).poll_next_unpin(context)
    }
}

/// The largest body that a request with files may have, if it is one of those that may.
fn files(request: &Request, most: u64) -> Option<u64> {
    let path = request.uri().path().trim_end_matches('/');
    let form = request
        .header(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.to_ascii_lowercase().starts_with("multipart/form-data"));
    match *request.method() {
        Method::POST if form && path == "/api/attachments" => Some(most.saturating_add(FORM)),
        Method::POST if form && path == "/api/messages" => {
            Some(most.saturating_mul(u64::try_from(LIMIT).unwrap_or(1)).saturating_add(FORM))
        }
        Method::PUT if path.starts_with("/api/attachments/") && path.ends_with("/content") => Some(most),
        _ => None,
    }
}

/// Takes in a request's body, or sees to it that its handler can. `most` is how large a file may be.
pub(super) async fn take(request: &mut Request, most: u64) -> Result<Left, Error> {
    let said = request.header(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if let Some(limit) = files(request, most) {
        let Some(said) = said else {
            let refused = Error::invalid("content_length_required", "a request with files has to say how long it is");
            return Err(refuse(request, refused).await);
        };
        if said > limit {
            let shown = format!("an attachment can have {most} bytes");
            return Err(refuse(request, Error::new(Code::TooLarge, "attachment_too_large", shown)).await);
        }
        let pieces: Pieces = Box::pin(request.take_body().into_bytes_stream());
        let shared = Arc::new(Mutex::new(pieces));
        request.set_body(Body::from_bytes_stream(Shared(shared.clone())));
        // Bytes need not say what they are: object stores do not ask for it either.
        request.headers_mut().entry(header::CONTENT_TYPE).or_insert(OCTETS);
        return Ok(Left(Some(shared)));
    }
    if said.unwrap_or(0) == 0 && !request.headers().contains_key(header::TRANSFER_ENCODING) {
        return Ok(Left(None));
    }
    let mut body = request.take_body().into_async_read();
    let mut read = Vec::with_capacity(usize::try_from(said.unwrap_or(0)).unwrap_or(BODY_LIMIT).min(BODY_LIMIT));
    let unreadable =
        |error| Error::invalid("malformed_request", "the body cannot be read").caused_by::<std::io::Error>(error);
    (&mut body).take(BODY_LIMIT as u64 + 1).read_to_end(&mut read).await.map_err(unreadable)?;
    if read.len() > BODY_LIMIT {
        let (mut rest, mut nowhere) = (body.take(PATIENCE), tokio::io::sink());
        let reading = tokio::io::copy(&mut rest, &mut nowhere);
        let _ = tokio::time::timeout(PATIENCE_TIME, reading).await;
        return Err(Error::new(Code::TooLarge, "body_too_large", "the body is larger than 1 MiB"));
    }
    request.set_body(Body::from_vec(read));
    Ok(Left(None))
}

/// Reads a body that is refused before anybody has looked at it.
async fn refuse(request: &mut Request, why: Error) -> Error {
    let pieces: Pieces = Box::pin(request.take_body().into_bytes_stream());
    Left(Some(Arc::new(Mutex::new(pieces)))).drain().await;
    why
}

impl Left {
    /// Reads on what a handler has left, if it has left something.
    pub(super) async fn drain(self) {
        let Some(shared) = self.0 else { return };
        let (mut rest, mut read) = (Shared(shared), 0);
        let reading = async {
            while let Some(Ok(piece)) = rest.next().await {
                read += piece.len() as u64;
                if read > PATIENCE {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(PATIENCE_TIME, reading).await;
    }
}
