//! Attachments as clients are shown them.

use poem_openapi::types::Example;
use poem_openapi::{Enum, Object};

use crate::domain::attachment::{Attachment, Preview, State, Thumbnail};

/// Whether the bytes of an attachment are to be had: only those that are `ready` are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "AttachmentState", rename_all = "lowercase", remote = "State")]
pub(in crate::api) enum StateBody {
    Uploading,
    Scanning,
    Ready,
    Infected,
}

/// How far the smaller pictures of an attachment are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "AttachmentPreview", rename_all = "lowercase", remote = "Preview")]
pub(in crate::api) enum PreviewBody {
    None,
    Pending,
    Ready,
}

/// An attachment, as far as it is known now.
#[derive(Debug, Object)]
#[oai(rename = "Attachment", rename_all = "camelCase", skip_serializing_if_is_none, example)]
pub(in crate::api) struct AttachmentBody {
    /// Names it for ever (`att_...`).
    pub(super) id: String,
    /// What its uploader calls it.
    pub(super) name: String,
    /// Its media type, as its bytes say.
    #[oai(rename = "type")]
    pub(super) media_type: String,
    /// How many bytes it has.
    pub(super) size: u64,
    /// Their SHA-256, in hexadecimal.
    pub(super) sha256: String,
    /// Pixels across, of a picture as it is shown.
    width: Option<u32>,
    /// Pixels down.
    height: Option<u32>,
    /// What a picture looks like from afar (<https://blurha.sh>), to show until it is there.
    blurhash: Option<String>,
    /// `uploading` until its bytes are here, `scanning` while they are looked through, then `ready`, or `infected`: then
    /// nobody gets them.
    state: StateBody,
    /// `none` if there will be no smaller pictures, `pending` while they are made, then `ready`.
    preview: PreviewBody,
    /// The smaller pictures, the smallest first; absent as long as there are none.
    #[oai(default, skip_serializing_if_is_empty)]
    thumbnails: Vec<ThumbnailBody>,
}

/// A smaller picture.
#[derive(Debug, Object)]
#[oai(rename = "Thumbnail", rename_all = "camelCase")]
pub(in crate::api) struct ThumbnailBody {
    /// What it is asked for by: 320 or 1024.
    edge: u32,
    /// Pixels across.
    width: u32,
    /// Pixels down.
    height: u32,
    /// Its media type.
    #[oai(rename = "type")]
    media_type: String,
    /// How many bytes it has.
    size: u64,
}

impl From<Thumbnail> for ThumbnailBody {
    fn from(one: Thumbnail) -> Self {
        let Thumbnail { edge, width, height, media_type, size } = one;
        Self { edge, width, height, media_type, size }
    }
}

impl From<Attachment> for AttachmentBody {
    fn from(attachment: Attachment) -> Self {
        let content = attachment.content;
        Self {
            id: attachment.id.to_string(),
            name: attachment.name,
            media_type: content.media_type,
            size: content.size,
            sha256: content.sha256,
            width: content.width,
            height: content.height,
            blurhash: content.blurhash,
            state: content.state.into(),
            preview: content.preview.into(),
            thumbnails: content.thumbnails.into_iter().map(ThumbnailBody::from).collect(),
        }
    }
}

impl AttachmentBody {
    /// The example before its bytes are here.
    pub(super) fn announced() -> Self {
        Self {
            name: "film.mp4".into(),
            media_type: "video/mp4".into(),
            size: 18_874_368,
            width: None,
            height: None,
            blurhash: None,
            state: StateBody::Uploading,
            preview: PreviewBody::None,
            thumbnails: Vec::new(),
            ..Self::example()
        }
    }
}

impl Example for AttachmentBody {
    fn example() -> Self {
        let smaller =
            |edge, height, size| ThumbnailBody { edge, width: edge, height, media_type: "image/jpeg".into(), size };
        Self {
            id: "att_01KB3Y4M6Q8S0V2X4Z6B8D0F2H".into(),
            name: "photo.jpg".into(),
            media_type: "image/jpeg".into(),
            size: 2_431_702,
            sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
            width: Some(4_032),
            height: Some(3_024),
            blurhash: Some("LEHV6nWB2yk8pyo0adR*.7kCMdnj".into()),
            state: StateBody::Ready,
            preview: PreviewBody::Ready,
            thumbnails: vec![smaller(320, 240, 14_204), smaller(1_024, 768, 96_311)],
        }
    }
}

#[cfg(test)]
mod tests {
    use poem_openapi::types::ToJSON as _;

    use super::*;
    use crate::domain::ids::AttachmentId;

    #[test]
    fn words_are_those_of_the_log() {
        for state in [State::Uploading, State::Scanning, State::Ready, State::Infected] {
            assert_eq!(serde_json::to_value(state).ok(), StateBody::from(state).to_json());
        }
        for preview in [Preview::None, Preview::Pending, Preview::Ready] {
            assert_eq!(serde_json::to_value(preview).ok(), PreviewBody::from(preview).to_json());
        }
    }

    #[test]
    fn the_example_names_what_could_be_there() {
        assert!(AttachmentBody::example().id.parse::<AttachmentId>().is_ok());
    }
}
