//! `/attachments`: what messages bring along beside their words.

mod content;
pub(super) mod form;
pub(super) mod wire;

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use poem::web::Data;
use poem::{Body, Request};
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::{Binary, Json};
use poem_openapi::types::Example;
use poem_openapi::{ApiRequest, ApiResponse, Object, OpenApi, SecurityScheme};

use super::needed::Needed;
use super::text::Text;
use super::{Caller, Group, Reply, trace};
use crate::auth::Actor;
use crate::auth::link::Presented;
use crate::auth::token::missing;
use crate::command::Commands;
use crate::command::presigned::Announcement;
use crate::domain::ids::AttachmentId;
use crate::domain::words::required;
use crate::error::{Error, Result};
use crate::query::Queries;
use crate::query::attachments::Variant;
use content::Content;
use form::UploadForm;
use wire::AttachmentBody;

/// Whoever has a token, or comes with a link.
#[derive(SecurityScheme)]
enum Guest {
    /// A token.
    Token(Caller),
    /// A link, if there is one.
    #[oai(fallback)]
    Link,
}

/// When the links of the examples end.
const EXPIRES: &str = "2026-11-23T12:00:00.000Z";

/// A file.
#[derive(ApiRequest)]
enum NewAttachment {
    /// As a form has it.
    Form(UploadForm),
}

#[derive(ApiResponse)]
enum Uploaded {
    /// It is stored.
    #[oai(status = 201)]
    Created(Json<AttachmentBody>),
}

#[derive(ApiResponse)]
enum Done {
    /// It is done.
    #[oai(status = 204)]
    Done,
}

/// What you will bring to the store yourself.
#[derive(Object)]
#[oai(rename_all = "camelCase", example)]
struct NewUpload {
    /// What it is called.
    name: Needed<Text>,
    /// Its media type; what its name says if it is not given.
    #[oai(rename = "type")]
    media_type: Option<Text>,
    /// How many bytes it has, exactly.
    size: Needed<u64>,
    /// Their SHA-256, in hexadecimal.
    sha256: Needed<Text>,
}

/// Where to bring it.
#[derive(Object)]
#[oai(rename = "Upload", rename_all = "camelCase", example)]
struct UploadBody {
    /// The attachment to be.
    attachment: AttachmentBody,
    /// The method of the request that brings the bytes, as its body.
    method: String,
    /// Where they go. An address without a host is one of this host, and has its `/api` already: it is resolved against the
    /// origin, not against the address of the API.
    url: String,
    /// Headers that have to go with them, and no token: the address is enough.
    headers: BTreeMap<String, String>,
    /// Until when (RFC 3339, UTC).
    expires_at: String,
}

/// An address that needs no token.
#[derive(Object)]
#[oai(rename = "Link", rename_all = "camelCase", example)]
struct LinkBody {
    /// The address. One without a host is of this host, and has its `/api` already: it is resolved against the origin, not
    /// against the address of the API.
    url: String,
    /// Until when (RFC 3339, UTC).
    expires_at: String,
}

impl Example for NewUpload {
    fn example() -> Self {
        let AttachmentBody { name, media_type, size, sha256, .. } = AttachmentBody::announced();
        Self {
            name: Needed(Some(Text(name))),
            media_type: Some(Text(media_type)),
            size: Needed(Some(size)),
            sha256: Needed(Some(Text(sha256))),
        }
    }
}

impl Example for UploadBody {
    fn example() -> Self {
        let attachment = AttachmentBody::announced();
        let url =
            format!("/api/attachments/{}/content?user=usr_01KB...&expires=1795435200&signature=h8...", attachment.id);
        Self { attachment, method: "PUT".into(), url, headers: BTreeMap::new(), expires_at: EXPIRES.into() }
    }
}

impl Example for LinkBody {
    fn example() -> Self {
        let AttachmentBody { id, .. } = AttachmentBody::example();
        let url =
            format!("/api/attachments/{id}/thumbnail?edge=320&user=usr_01KB...&expires=1795435200&signature=h8...");
        Self { url, expires_at: EXPIRES.into() }
    }
}

fn edge(edge: Option<u32>) -> Result<Variant> {
    match edge.unwrap_or(320) {
        edge @ (320 | 1024) => Ok(Variant::Thumbnail(edge)),
        _ => Err(Error::invalid("unknown_edge", "edge must be 320 or 1024")),
    }
}

/// A link, as a request presents it.
fn presented<'a>(
    user: &'a Query<Option<String>>,
    expires: &Query<Option<i64>>,
    signature: &'a Query<Option<String>>,
) -> Option<Presented<'a>> {
    Some(Presented { user: user.0.as_deref()?, expires: expires.0?, signature: signature.0.as_deref()? })
}

/// Who asks.
fn guest(queries: &Queries, guest: Guest, id: AttachmentId, link: Option<Presented<'_>>) -> Result<Actor> {
    match (guest, link) {
        (_, Some(link)) => queries.bearer_of(id, link),
        (Guest::Token(Caller(actor)), None) => Ok(actor),
        (Guest::Link, None) => Err(missing()),
    }
}

/// The resource.
pub struct AttachmentsApi;

#[OpenApi(prefix_path = "/attachments", tag = "Group::Attachments")]
impl AttachmentsApi {
    /// Upload an attachment
    ///
    /// A form with one part `file`. It is checked for what it is, and yours alone until you send a message with it; after a
    /// day without one it is gone. Pictures and films lose where they were taken, pictures whatever else they say beside what
    /// they show; everything else is kept byte for byte. A picture with another picture's name gets one of its own kind.
    #[oai(path = "/", method = "post", operation_id = "uploadAttachment")]
    async fn upload(
        &self,
        commands: Data<&Commands>,
        caller: Caller,
        request: &Request,
        body: NewAttachment,
    ) -> Reply<Uploaded> {
        let NewAttachment::Form(UploadForm(mut form)) = body;
        while let Some(part) = form.next().await? {
            if part.name() != "file" {
                continue;
            }
            let name = required(part.file_name(), "the name of the file")?.to_owned();
            let media_type = part.media_type();
            let named = form::named(&name, media_type.as_deref());
            let stored = commands.upload(&caller.0, named, part.bytes(), trace(request)).await?;
            return Ok(Uploaded::Created(Json(stored.into())));
        }
        Err(Error::invalid("missing_field", "the part file is needed").into())
    }

    /// Bring an attachment to the store yourself
    ///
    /// For large ones: `PUT` its bytes to `url`, then complete it. Until then it cannot be sent.
    #[oai(path = "/presign", method = "post", operation_id = "presignAttachment")]
    async fn presign(
        &self,
        commands: Data<&Commands>,
        caller: Caller,
        body: Json<NewUpload>,
    ) -> Reply<Json<UploadBody>> {
        let announcement = Announcement {
            name: required(body.name.0.as_deref(), "name")?,
            media_type: body.media_type.as_deref(),
            size: required(body.size.0, "size")?,
            sha256: required(body.sha256.0.as_deref(), "sha256")?,
        };
        let ticket = commands.announce_upload(&caller.0, announcement).await?;
        Ok(Json(UploadBody {
            attachment: ticket.attachment.into(),
            method: "PUT".into(),
            url: ticket.signed.url,
            headers: ticket.signed.headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            expires_at: ticket.expires_at.to_string(),
        }))
    }

    /// Bring the bytes, by the address that presigning gave
    #[oai(path = "/:id/content", method = "put", operation_id = "bringAttachment")]
    async fn bring(
        &self,
        commands: Data<&Commands>,
        /// The attachment (`att_...`).
        id: Path<String>,
        /// Of the address.
        user: Query<Option<String>>,
        /// Of the address.
        expires: Query<Option<i64>>,
        /// Of the address.
        signature: Query<Option<String>>,
        body: Binary<Body>,
    ) -> Reply<Done> {
        let link = presented(&user, &expires, &signature).ok_or_else(missing)?;
        let incomplete = |error: std::io::Error| {
            Error::invalid("upload_incomplete", "the body ends before its end").caused_by(error)
        };
        let bytes = Box::pin(body.0.into_bytes_stream()).map(move |piece| piece.map_err(incomplete));
        commands.bring(id.parse()?, link, bytes).await?;
        Ok(Done::Done)
    }

    /// Say that the bytes are in the store
    ///
    /// They are checked like every upload, for being what was announced too.
    #[oai(path = "/:id/complete", method = "post", operation_id = "completeAttachment")]
    async fn complete(
        &self,
        commands: Data<&Commands>,
        caller: Caller,
        request: &Request,
        /// The attachment (`att_...`).
        id: Path<String>,
    ) -> Reply<Json<AttachmentBody>> {
        Ok(Json(commands.complete_upload(&caller.0, id.parse()?, trace(request)).await?.into()))
    }

    /// Take back an attachment that you have not sent
    #[oai(path = "/:id", method = "delete", operation_id = "discardAttachment")]
    async fn discard(
        &self,
        commands: Data<&Commands>,
        caller: Caller,
        /// The attachment (`att_...`).
        id: Path<String>,
    ) -> Reply<Done> {
        commands.discard_upload(&caller.0, id.parse()?).await?;
        Ok(Done::Done)
    }

    /// What is known of an attachment
    #[oai(path = "/:id/info", method = "get", operation_id = "getAttachmentInfo")]
    async fn info(
        &self,
        queries: Data<&Queries>,
        caller: Caller,
        /// The attachment (`att_...`).
        id: Path<String>,
    ) -> Reply<Json<AttachmentBody>> {
        Ok(Json(queries.attachment(&caller.0, id.parse()?).await?.into()))
    }

    /// An address of an attachment for where no token can be sent, such as `<img>`
    ///
    /// It is yours: it shows what you may see, for some minutes.
    #[oai(path = "/:id/link", method = "get", operation_id = "getAttachmentLink")]
    async fn link(
        &self,
        queries: Data<&Queries>,
        caller: Caller,
        /// The attachment (`att_...`).
        id: Path<String>,
        /// Of the smaller picture for this edge, 320 or 1024; of the attachment itself if not given.
        thumbnail: Query<Option<u32>>,
        /// An address of the object store itself, if it makes such: good for whoever has it, and also when the message is
        /// deleted meanwhile.
        direct: Query<Option<bool>>,
    ) -> Reply<Json<LinkBody>> {
        let variant = if thumbnail.0.is_some() { edge(thumbnail.0)? } else { Variant::Whole };
        let link = queries.link(&caller.0, id.parse()?, variant, direct.0.unwrap_or(false)).await?;
        Ok(Json(LinkBody { url: link.url, expires_at: link.expires_at.to_string() }))
    }

    /// The bytes of an attachment
    ///
    /// For whoever sees its message, by token or by link. Pictures, audio and video are for showing; anything else is a
    /// file to save, as `Content-Disposition` says.
    #[expect(clippy::too_many_arguments, reason = "each is a parameter of the request")]
    #[oai(path = "/:id", method = "get", operation_id = "getAttachment")]
    async fn get(
        &self,
        queries: Data<&Queries>,
        request: &Request,
        caller: Guest,
        /// The attachment (`att_...`).
        id: Path<String>,
        /// Of a link.
        user: Query<Option<String>>,
        /// Of a link.
        expires: Query<Option<i64>>,
        /// Of a link.
        signature: Query<Option<String>>,
        /// Which bytes, as `bytes=0-1023`: one range. Several, or what cannot be understood, are answered with everything.
        #[oai(name = "Range")]
        _range: Header<Option<String>>,
        /// The `ETag` of what the client has a part of: if it is another one now, everything comes and not the range.
        #[oai(name = "If-Range")]
        _if_range: Header<Option<String>>,
        /// The `ETag` of what the client has: if that is still so, 304 and no bytes.
        #[oai(name = "If-None-Match")]
        _if_none_match: Header<Option<String>>,
    ) -> Reply<Content> {
        let id = id.parse()?;
        let actor = guest(&queries, caller, id, presented(&user, &expires, &signature))?;
        let found = queries.found(&actor, id, Variant::Whole).await?;
        Ok(Content::of(&queries, &found, request).await?)
    }

    /// A smaller picture of an attachment
    #[expect(clippy::too_many_arguments, reason = "each is a parameter of the request")]
    #[oai(path = "/:id/thumbnail", method = "get", operation_id = "getAttachmentThumbnail")]
    async fn thumbnail(
        &self,
        queries: Data<&Queries>,
        request: &Request,
        caller: Guest,
        /// The attachment (`att_...`).
        id: Path<String>,
        /// Its longest edge, 320 or 1024 pixels; 320 if not given.
        #[oai(name = "edge")]
        longest: Query<Option<u32>>,
        /// Of a link.
        user: Query<Option<String>>,
        /// Of a link.
        expires: Query<Option<i64>>,
        /// Of a link.
        signature: Query<Option<String>>,
        /// Which bytes, as `bytes=0-1023`: one range. Several, or what cannot be understood, are answered with everything.
        #[oai(name = "Range")]
        _range: Header<Option<String>>,
        /// The `ETag` of what the client has a part of: if it is another one now, everything comes and not the range.
        #[oai(name = "If-Range")]
        _if_range: Header<Option<String>>,
        /// The `ETag` of what the client has: if that is still so, 304 and no bytes.
        #[oai(name = "If-None-Match")]
        _if_none_match: Header<Option<String>>,
    ) -> Reply<Content> {
        let id = id.parse()?;
        let actor = guest(&queries, caller, id, presented(&user, &expires, &signature))?;
        let found = queries.found(&actor, id, edge(longest.0)?).await?;
        Ok(Content::of(&queries, &found, request).await?)
    }
}
