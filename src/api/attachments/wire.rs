//! Attachments as clients are shown them.

use poem_openapi::Object;

use crate::domain::attachment::{Attachment, Preview, State, Thumbnail};

/// An attachment, as far as it is known now.
#[derive(Debug, Object)]
#[oai(rename = "Attachment", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(in crate::api) struct AttachmentBody {
    /// Names it for ever (`att_...`).
    id: String,
    /// What its uploader calls it.
    name: String,
    /// Its media type, as its bytes say.
    #[oai(rename = "type")]
    media_type: String,
    /// How many bytes it has.
    size: u64,
    /// Their SHA-256, in hexadecimal.
    sha256: String,
    /// Pixels across, of a picture as it is shown.
    width: Option<u32>,
    /// Pixels down.
    height: Option<u32>,
    /// What a picture looks like from afar (<https://blurha.sh>), to show until it is there.
    blurhash: Option<String>,
    /// `uploading` until its bytes are here, `scanning` while they are looked through, then `ready`, or `infected`: then
    /// nobody gets them.
    state: String,
    /// `none` if there will be no smaller pictures, `pending` while they are made, then `ready`.
    preview: String,
    /// The smaller pictures, the smallest first.
    #[oai(skip_serializing_if_is_empty)]
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

const fn word_of(state: State) -> &'static str {
    match state {
        State::Uploading => "uploading",
        State::Scanning => "scanning",
        State::Ready => "ready",
        State::Infected => "infected",
    }
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
        let preview = match content.preview {
            Preview::None => "none",
            Preview::Pending => "pending",
            Preview::Ready => "ready",
        };
        Self {
            id: attachment.id.to_string(),
            name: attachment.name,
            media_type: content.media_type,
            size: content.size,
            sha256: content.sha256,
            width: content.width,
            height: content.height,
            blurhash: content.blurhash,
            state: word_of(content.state).into(),
            preview: preview.into(),
            thumbnails: content.thumbnails.into_iter().map(ThumbnailBody::from).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_log() {
        for state in [State::Uploading, State::Scanning, State::Ready, State::Infected] {
            assert_eq!(serde_json::to_value(state).expect("JSON"), word_of(state));
        }
    }
}
