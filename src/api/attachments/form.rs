//! Forms with files (`multipart/form-data`, RFC 7578), read part by part as they come.

use std::future::{self, Future};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Poll, ready};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use multer::{Constraints, Field, Multipart, SizeLimit};
use poem::http::header;
use poem::{Request, RequestBody};
use poem_openapi::payload::{ParsePayload, Payload};
use poem_openapi::registry::{MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::Type;

use crate::command::uploads::Named;
use crate::error::{Code, Error, Result};
use crate::problem;

/// Bytes of everything in a form that is no file.
const WORDS: usize = 64 << 10;
/// What a part without a byte takes of them.
const EMPTY: usize = 64;
/// Bytes that are looked through at once.
const PIECE: usize = 60 << 10;
/// Bytes between two parts that are wanted: they are collected until it is known what they are.
const BETWEEN: usize = 1 << 20;

/// A form that is on its way.
pub(in crate::api) struct Form {
    parts: Multipart<'static>,
    flow: Arc<Flow>,
}

/// A part of a form.
pub(in crate::api) struct Part {
    field: Field<'static>,
    name: String,
    flow: Arc<Flow>,
}

fn malformed(error: multer::Error) -> Error {
    match error {
        multer::Error::IncompleteStream
        | multer::Error::IncompleteFieldData { .. }
        | multer::Error::IncompleteHeaders
        | multer::Error::StreamReadFailed(_) => Error::invalid("upload_incomplete", "the form ends before its end"),
        _ => Error::invalid("malformed_multipart", "the body is no multipart/form-data as RFC 7578 has it"),
    }
    .caused_by(error)
}

fn too_large(shown: &'static str) -> Error {
    Error::new(Code::TooLarge, "body_too_large", shown)
}

/// What a form and its reader have to tell each other.
struct Flow {
    /// Bytes that may yet come until something is made of them.
    room: AtomicUsize,
    /// More is there than was handed on.
    has_more: AtomicBool,
}

impl Flow {
    /// Hands on small pieces, and says behind each that there is no more. Whoever reads a form collects what can be had
    /// before the first of it is handed on, and that can be all that the network has brought: megabytes of a fast client.
    fn pieces(
        self: Arc<Self>,
        mut body: impl Stream<Item = io::Result<Bytes>> + Unpin,
    ) -> impl Stream<Item = io::Result<Bytes>> {
        let (mut piece, mut has_given) = (Bytes::new(), false);
        stream::poll_fn(move |context| {
            if std::mem::take(&mut has_given) {
                self.has_more.store(true, Ordering::Relaxed);
                return Poll::Pending;
            }
            if piece.is_empty() {
                piece = match ready!(body.poll_next_unpin(context)) {
                    Some(Ok(next)) => next,
                    end => return Poll::Ready(end),
                };
            }
            has_given = true;
            let part = piece.split_to(piece.len().min(PIECE));
            let room = self.room.load(Ordering::Relaxed).saturating_sub(part.len());
            self.room.store(room, Ordering::Relaxed);
            Poll::Ready(Some(if room == 0 { Err(io::Error::other("no part begins")) } else { Ok(part) }))
        })
    }

    /// Reads on until there is something, or really no more for now.
    async fn read<F: Future>(&self, reading: F) -> F::Output {
        let mut reading = pin!(reading);
        future::poll_fn(|context| {
            loop {
                match reading.as_mut().poll(context) {
                    Poll::Pending if self.has_more.swap(false, Ordering::Relaxed) => {}
                    done => return done,
                }
            }
        })
        .await
    }
}

impl Form {
    fn of(request: &Request, body: &mut RequestBody) -> Result<Self> {
        let kind = request.header(header::CONTENT_TYPE).unwrap_or_default();
        let boundary = multer::parse_boundary(kind).map_err(malformed)?;
        let body = body.take().map_err(|error| Error::invalid("malformed_request", error.to_string()))?;
        // How large the files are is looked after where they are taken in.
        let limits = Constraints::new().size_limit(SizeLimit::new());
        let flow = Arc::new(Flow { room: AtomicUsize::new(BETWEEN), has_more: AtomicBool::new(false) });
        let pieces = flow.clone().pieces(body.into_bytes_stream());
        Ok(Self { parts: Multipart::with_constraints(pieces, boundary, limits), flow })
    }

    /// The next part.
    pub(in crate::api) async fn next(&mut self) -> Result<Option<Part>> {
        let flow = &self.flow;
        flow.room.store(BETWEEN, Ordering::Relaxed);
        let field =
            flow.read(self.parts.next_field()).await.map_err(|error| match flow.room.load(Ordering::Relaxed) {
                0 => too_large("a form with 1 MiB of something else than files").caused_by(error),
                _ => malformed(error),
            })?;
        // What a part has is taken away as it comes, and counted where it goes.
        flow.room.store(usize::MAX, Ordering::Relaxed);
        let part = |field: Field<'static>| {
            let name = field.name().unwrap_or_default().to_owned();
            Part { field, name, flow: flow.clone() }
        };
        Ok(field.map(part))
    }
}

impl Part {
    /// What it is called in the form.
    pub(in crate::api) fn name(&self) -> &str {
        &self.name
    }

    /// What its file is called; a part that is none has no name.
    pub(in crate::api) fn file_name(&self) -> Option<&str> {
        self.field.file_name()
    }

    /// What the client says that the file is.
    pub(in crate::api) fn media_type(&self) -> Option<String> {
        self.field.content_type().map(|kind| kind.essence_str().to_owned())
    }

    /// Its text, as long as there is room.
    pub(in crate::api) async fn text(mut self, room: &mut Room) -> Result<String> {
        let mut text = Vec::new();
        // What is empty takes room too: there is no end to how many of them a form may have.
        room.take(EMPTY)?;
        while let Some(piece) = self.flow.read(self.field.chunk()).await.map_err(malformed)? {
            room.take(piece.len())?;
            text.extend_from_slice(&piece);
        }
        String::from_utf8(text)
            .map_err(|error| Error::invalid("malformed_multipart", "a field is no UTF-8").caused_by(error))
    }

    /// Its bytes.
    pub(in crate::api) fn bytes(self) -> impl Stream<Item = Result<Bytes>> + Send {
        stream::try_unfold(self, |mut part| async move {
            let piece = part.flow.read(part.field.chunk()).await.map_err(malformed)?;
            Ok(piece.map(|piece| (piece, part)))
        })
    }
}

/// Room for the words of a form.
pub(in crate::api) struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Self(WORDS)
    }
}

impl Room {
    fn take(&mut self, bytes: usize) -> Result<()> {
        self.0 = self.0.checked_sub(bytes).ok_or_else(|| too_large("the fields of the form are larger than 64 KiB"))?;
        Ok(())
    }
}

/// The name and the type of a file, as a form has them.
pub(in crate::api) fn named<'a>(name: &'a str, media_type: Option<&'a str>) -> Named<'a> {
    Named { name, media_type }
}

/// A file in a schema.
fn file(description: &'static str) -> MetaSchemaRef {
    MetaSchemaRef::Inline(Box::new(MetaSchema {
        format: Some("binary"),
        description: Some(description),
        ..MetaSchema::new("string")
    }))
}

fn word(description: &'static str) -> MetaSchemaRef {
    String::schema_ref().merge(MetaSchema { description: Some(description), ..MetaSchema::ANY })
}

fn object(required: Vec<&'static str>, properties: Vec<(&'static str, MetaSchemaRef)>) -> MetaSchemaRef {
    MetaSchemaRef::Inline(Box::new(MetaSchema { required, properties, ..MetaSchema::new("object") }))
}

fn list(of: MetaSchemaRef) -> MetaSchemaRef {
    MetaSchemaRef::Inline(Box::new(MetaSchema { items: Some(Box::new(of)), ..MetaSchema::new("array") }))
}

/// A form with one file, `file`.
pub(in crate::api) struct UploadForm(pub(in crate::api) Form);

/// A message as a form, with files.
pub(in crate::api) struct MessageForm(pub(in crate::api) Form);

macro_rules! form {
    ($name:ident, $schema:expr) => {
        impl Payload for $name {
            const CONTENT_TYPE: &'static str = "multipart/form-data";

            fn check_content_type(content_type: &str) -> bool {
                content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(Self::CONTENT_TYPE))
            }

            fn schema_ref() -> MetaSchemaRef {
                $schema
            }

            fn register(_registry: &mut Registry) {}
        }

        impl ParsePayload for $name {
            const IS_REQUIRED: bool = true;

            async fn from_request(request: &Request, body: &mut RequestBody) -> poem::Result<Self> {
                Form::of(request, body).map(Self).map_err(problem::into_poem)
            }
        }
    };
}

form!(
    UploadForm,
    object(vec!["file"], vec![("file", file("The file, with its name. One that says its type says what it is."))])
);
form!(
    MessageForm,
    object(
        vec!["conversationId"],
        vec![
            ("conversationId", word("Where (`cnv_...`). It has to come before the files.")),
            ("senderId", word("Your own id; it is checked, and may be left out.")),
            ("recipientId", word("A participant you expect to be there.")),
            ("text", word("What you say: up to 8,000 characters; with a file it may be left out.")),
            ("replyTo", word("The message that it answers (`msg_...`).")),
            ("mentions", list(word("The id of a participant that it names."))),
            (
                "clientMessageId",
                word("Your own id for this send: sent again with the same one, it is the same message.")
            ),
            ("attachment", list(file("A file to attach, at most 10."))),
        ]
    )
);
