//! Attachments: what a message brings along beside its words, as everybody is told it. The bytes are a blob's.

use serde::{Deserialize, Serialize};

use super::ids::{AttachmentId, BlobId, ConversationId, MessageId, UserId};

/// Attachments of one message, at most.
pub const LIMIT: usize = 10;

/// The blob of somebody's bytes: the same bytes are the same blob. What can be one type or another by its bytes, such as a text
/// or a table, is another one by what it goes by: a store that is asked itself says one type of each object.
#[must_use]
pub fn blob_of(owner: UserId, sha256: &[u8; 32], media_type: &str) -> BlobId {
    BlobId::derived(&[b"blob", &owner.bits().to_be_bytes(), sha256, media_type.as_bytes()])
}

/// Whether the bytes may be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// They are not all here yet: the client brings them to the store itself.
    Uploading,
    /// They are being looked through for what is harmful; nobody gets them before that.
    Scanning,
    /// They may.
    #[default]
    Ready,
    /// They are harmful, and nobody gets them.
    Infected,
}

/// How far the smaller pictures of it are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Preview {
    /// There will not be any: it is no picture, or none that can be read here.
    #[default]
    None,
    /// They are being made.
    Pending,
    /// They are there.
    Ready,
}

/// A smaller picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Thumbnail {
    /// What it is asked for by: the longest edge that it was made for, 320 or 1,024 pixels.
    pub edge: u32,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Its media type.
    #[serde(rename = "type")]
    pub media_type: String,
    /// Its bytes.
    pub size: u64,
}

/// What is known of some bytes: it follows from them, and from what they go by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// The media type, as the bytes themselves say.
    #[serde(rename = "type")]
    pub media_type: String,
    /// How many bytes.
    pub size: u64,
    /// Their SHA-256, in hexadecimal.
    pub sha256: String,
    /// Pixels across, of a picture as it is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Pixels down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// What a picture looks like from afar (<https://blurha.sh>), to show until it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blurhash: Option<String>,
    /// Whether they may be had.
    pub state: State,
    /// How far the smaller pictures are.
    pub preview: Preview,
    /// The smaller pictures, the smallest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thumbnails: Vec<Thumbnail>,
}

impl Content {
    /// Whether nothing more is to be found out about them.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        match self.state {
            State::Infected => true,
            State::Ready => self.preview != Preview::Pending,
            State::Uploading | State::Scanning => false,
        }
    }
}

/// An attachment, as a message carries it and as clients are told it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// Names it for ever.
    pub id: AttachmentId,
    /// What its uploader calls it.
    pub name: String,
    /// What is known of its bytes.
    #[serde(flatten)]
    pub content: Content,
}

/// Which message an attachment belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// Where the message is.
    pub conversation_id: ConversationId,
    /// Which message.
    pub message_id: MessageId,
    /// Its place in the log.
    pub message_seq: u64,
}

/// More is known of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Who has uploaded it.
    pub owner_id: UserId,
    /// The message that it belongs to; as long as there is none, only its owner is told.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What is known now.
    pub attachment: Attachment,
}

impl Progress {
    /// What it is known by: told again it is nothing new.
    #[must_use]
    pub fn name(&self) -> String {
        let Content { state, preview, .. } = self.attachment.content;
        let place = self.place.map_or_else(String::new, |place| place.message_id.to_string());
        format!("att:{}:{state:?}:{preview:?}:{place}", self.attachment.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(state: State, preview: Preview) -> Content {
        Content {
            media_type: "image/png".into(),
            size: 7,
            sha256: "00".into(),
            width: Some(3),
            height: None,
            blurhash: None,
            state,
            preview,
            thumbnails: Vec::new(),
        }
    }

    #[test]
    fn what_is_to_be_scanned_or_made_smaller_is_not_settled() {
        let settled = |state, preview| content(state, preview).is_settled();
        assert!(settled(State::Ready, Preview::None));
        assert!(settled(State::Ready, Preview::Ready));
        assert!(settled(State::Infected, Preview::Pending), "nobody makes pictures of it");
        assert!(!settled(State::Ready, Preview::Pending));
        assert!(!settled(State::Scanning, Preview::None));
        assert!(!settled(State::Uploading, Preview::None));
    }

    #[test]
    fn the_shape_in_the_log_is_fixed() {
        let attachment = Attachment {
            id: AttachmentId::from_bits(1),
            name: "cat.png".into(),
            content: content(State::Ready, Preview::Pending),
        };
        let place = Place {
            conversation_id: ConversationId::from_bits(2),
            message_id: MessageId::from_bits(3),
            message_seq: 4,
        };
        let shown = serde_json::json!({
            "id": "att_00000000000000000000000001", "name": "cat.png", "type": "image/png", "size": 7, "sha256": "00",
            "width": 3, "state": "ready", "preview": "pending",
        });
        let mut progress = Progress { owner_id: UserId::from_bits(5), place: None, attachment };
        let json = serde_json::to_value(&progress).expect("JSON");
        assert_eq!(json, serde_json::json!({ "ownerId": "usr_00000000000000000000000005", "attachment": shown }));
        assert_eq!(serde_json::from_value::<Progress>(json).expect("and back"), progress);
        let unattached = progress.name();
        progress.place = Some(place);
        let json = serde_json::to_value(&progress).expect("JSON");
        assert_eq!(
            json,
            serde_json::json!({
                "ownerId": "usr_00000000000000000000000005",
                "conversationId": "cnv_00000000000000000000000002",
                "messageId": "msg_00000000000000000000000003",
                "messageSeq": 4,
                "attachment": shown,
            })
        );
        assert_eq!(serde_json::from_value::<Progress>(json).expect("and back"), progress);
        assert_ne!(progress.name(), unattached);
    }
}
