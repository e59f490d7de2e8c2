//! What a message is now: as it was said, and what has happened to it since.
//!
//! Every part that can change is a register: it keeps the seq of the event that set it, and only a later event sets it
//! again. So the events may be applied in any order and any number of times, and the database, the overlay of what the
//! database does not have yet, and clients that fold the same events all show the same.

use std::collections::BTreeMap;

use super::attachment::{Attachment, Progress};
use super::change::Scope;
use super::clock::Timestamp;
use super::event::Body;
use super::ids::{AttachmentId, UserId};
use super::message::Message;

/// Other words of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The words.
    pub text: String,
    /// Participants they name.
    pub mentions: Vec<UserId>,
    /// When.
    pub at: Timestamp,
}

/// What is left of a deleted message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tombstone {
    /// The seq of the deletion.
    pub seq: u64,
    /// Who deleted it.
    pub by: UserId,
    /// When.
    pub at: Timestamp,
}

/// Whether somebody's emoji is on a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reacted {
    /// The seq of the last change.
    pub seq: u64,
    /// On, or taken back.
    pub on: bool,
}

/// Whether a message is pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pinned {
    /// The seq of the last change.
    pub seq: u64,
    /// Who changed it.
    pub user_id: UserId,
    /// When.
    pub at: Timestamp,
    /// Pinned, or taken down.
    pub on: bool,
}

/// A message with its place in the log and everything that has happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageState {
    /// Its place.
    pub seq: u64,
    /// As it was said; without words once it is deleted.
    pub message: Message,
    /// Its other words, by seq: all of them, or only the last ones where nobody asks for more.
    pub edits: BTreeMap<u64, Revision>,
    /// Bytes of former words that were let go of.
    pub let_go: usize,
    /// It is deleted for everybody.
    pub deleted: Option<Tombstone>,
    /// Emoji by text and user, also those that were taken back.
    pub reactions: BTreeMap<(String, UserId), Reacted>,
    /// Whether it is pinned.
    pub pin: Option<Pinned>,
    /// What is known of its attachments by now, and the seq of that.
    pub progress: BTreeMap<AttachmentId, (u64, Attachment)>,
    /// Who has deleted it for themselves, and the seq of that.
    pub hidden: BTreeMap<UserId, u64>,
}

impl MessageState {
    /// A message that nothing has happened to.
    #[must_use]
    pub const fn new(seq: u64, message: Message) -> Self {
        Self {
            seq,
            message,
            edits: BTreeMap::new(),
            let_go: 0,
            deleted: None,
            reactions: BTreeMap::new(),
            pin: None,
            progress: BTreeMap::new(),
            hidden: BTreeMap::new(),
        }
    }

    /// Takes over what an event does to it; says whether the event is about it.
    pub fn apply(&mut self, seq: u64, body: &Body) -> bool {
        if body.changed_message() != Some(self.message.id) {
            return false;
        }
        match body {
            Body::Deletion(deletion) if deletion.scope == Scope::Me => {
                let at = self.hidden.entry(deletion.deleted_by).or_default();
                *at = seq.max(*at);
            }
            Body::Deletion(deletion) if self.deleted.is_none_or(|known| known.seq < seq) => {
                self.delete(Tombstone { seq, by: deletion.deleted_by, at: deletion.deleted_at });
            }
            _ if self.deleted.is_some() => {}
            Body::Edit(edit) => {
                // Told again it is nothing new, also where its words were let go of.
                self.edits.entry(seq).or_insert_with(|| Revision {
                    text: edit.text.clone(),
                    mentions: edit.mentions.clone(),
                    at: edit.edited_at,
                });
            }
            Body::Reaction(reaction) => {
                let key = (reaction.emoji.clone(), reaction.user_id);
                let kept = self.reactions.entry(key).or_insert(Reacted { seq: 0, on: false });
                if kept.seq < seq {
                    *kept = Reacted { seq, on: reaction.on };
                }
            }
            Body::Pin(pin) if self.pin.is_none_or(|known| known.seq < seq) => {
                self.pin = Some(Pinned { seq, user_id: pin.user_id, at: pin.at, on: pin.on });
            }
            Body::Attachment(Progress { attachment, .. })
                if self.progress.get(&attachment.id).is_none_or(|(known, _)| *known < seq) =>
            {
                self.progress.insert(attachment.id, (seq, attachment.clone()));
            }
            _ => {}
        }
        true
    }

    fn delete(&mut self, tombstone: Tombstone) {
        self.deleted = Some(tombstone);
        self.message.text.clear();
        self.message.mentions.clear();
        self.message.reply_to = None;
        self.message.attachments.clear();
        self.progress.clear();
        self.edits.clear();
        self.let_go = 0;
        self.reactions.clear();
        self.pin = None;
    }

    /// The words it has now; none if it is deleted.
    #[must_use]
    pub fn text(&self) -> &str {
        self.edits.last_key_value().map_or(&self.message.text, |(_, last)| &last.text)
    }

    /// The participants that its words name now.
    #[must_use]
    pub fn mentions(&self) -> &[UserId] {
        self.edits.last_key_value().map_or(&self.message.mentions, |(_, last)| &last.mentions)
    }

    /// When it was last edited.
    #[must_use]
    pub fn edited_at(&self) -> Option<Timestamp> {
        self.edits.last_key_value().map(|(_, last)| last.at)
    }

    /// What is attached, as far as that is known now.
    pub fn attachments(&self) -> impl Iterator<Item = &Attachment> {
        self.message.attachments.iter().map(|sent| self.progress.get(&sent.id).map_or(sent, |(_, now)| now))
    }

    /// Whether it is pinned.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.pin.is_some_and(|pin| pin.on)
    }

    /// Whether this user has deleted it for themselves.
    #[must_use]
    pub fn is_hidden_from(&self, user: UserId) -> bool {
        self.hidden.contains_key(&user)
    }

    /// Whether somebody who has not come so far has something to read here.
    #[must_use]
    pub fn counts_for(&self, user: UserId) -> bool {
        self.message.kind.is_said()
            && self.message.sender_id != user
            && self.deleted.is_none()
            && !self.is_hidden_from(user)
    }

    /// The emoji that are on it, each with its users, both in the order in which they came.
    #[must_use]
    pub fn reactions(&self) -> Vec<(&str, Vec<UserId>)> {
        let mut on: Vec<(u64, &str, UserId)> = self
            .reactions
            .iter()
            .filter(|(_, reacted)| reacted.on)
            .map(|((emoji, user), reacted)| (reacted.seq, emoji.as_str(), *user))
            .collect();
        on.sort_unstable();
        let mut grouped: Vec<(&str, Vec<UserId>)> = Vec::new();
        for (_, emoji, user) in on {
            match grouped.iter_mut().find(|(known, _)| *known == emoji) {
                Some((_, users)) => users.push(user),
                None => grouped.push((emoji, vec![user])),
            }
        }
        grouped
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::attachment::{Content, Place, Preview, State};
    use crate::domain::change::{Deletion, Edit, Pin, Reaction};
    use crate::domain::ids::{ConversationId, MessageId};
    use crate::domain::message::Kind;

    const ID: MessageId = MessageId::from_bits(4);
    const HERE: ConversationId = ConversationId::from_bits(5);
    const NOW: Timestamp = Timestamp::from_millis(0);

    fn attachment(id: u128, width: Option<u32>) -> Attachment {
        let (name, media_type, sha256) = ("cat.png".into(), "image/png".into(), "00".into());
        let (state, preview) = (State::Ready, Preview::Pending);
        let content = Content {
            media_type,
            size: 7,
            sha256,
            width,
            height: None,
            blurhash: None,
            state,
            preview,
            thumbnails: vec![],
        };
        Attachment { id: AttachmentId::from_bits(id), name, content }
    }

    fn said() -> MessageState {
        MessageState::new(
            1,
            Message {
                id: ID,
                conversation_id: HERE,
                sender_id: UserId::from_bits(1),
                sender_name: "Ana".into(),
                kind: Kind::Attachment,
                text: "first".into(),
                reply_to: None,
                mentions: Vec::new(),
                attachments: vec![attachment(1, None), attachment(2, None)],
                entry: None,
                client_message_id: None,
                created_at: NOW,
            },
        )
    }

    fn change() -> impl Strategy<Value = Body> {
        let user = || (1_u128..4).prop_map(UserId::from_bits);
        prop_oneof![
            4 => any::<u8>().prop_map(|n| Body::Edit(Edit {
                message_id: ID, conversation_id: HERE, message_seq: 1, text: n.to_string(), mentions: vec![], edited_at: NOW,
            })),
            6 => (user(), any::<bool>(), any::<bool>()).prop_map(|(user_id, other, on)| Body::Reaction(Reaction {
                message_id: ID, conversation_id: HERE, message_seq: 1, user_id, emoji: if other { "👍" } else { "🎉" }.into(), on,
            })),
            2 => (1_u128..3, 1_u32..5).prop_map(|(id, width)| Body::Attachment(Progress {
                owner_id: UserId::from_bits(1),
                place: Some(Place { conversation_id: HERE, message_id: ID, message_seq: 1 }),
                attachment: attachment(id, Some(width)),
            })),
            2 => (user(), any::<bool>()).prop_map(|(user_id, on)| Body::Pin(Pin {
                message_id: ID, conversation_id: HERE, message_seq: 1, user_id, on, at: NOW,
            })),
            1 => (user(), any::<bool>()).prop_map(|(deleted_by, all)| Body::Deletion(Deletion {
                message_id: ID, conversation_id: HERE, message_seq: 1, sender_id: UserId::from_bits(1), deleted_by,
                scope: if all { Scope::Everybody } else { Scope::Me }, deleted_at: NOW,
            })),
        ]
    }

    fn folded(events: &[(u64, Body)]) -> MessageState {
        let mut state = said();
        for (seq, body) in events {
            assert!(state.apply(*seq, body));
        }
        state
    }

    proptest! {
        #[test]
        fn any_order_and_any_repetition_come_to_the_same(
            changes in prop::collection::vec(change(), 0..12),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..24),
        ) {
            let events: Vec<(u64, Body)> = (2..).zip(changes).collect();
            let mut wild: Vec<(u64, Body)> = order.iter().filter(|_| !events.is_empty()).map(|at| at.get(&events).clone()).collect();
            let mut rest = events.clone();
            rest.reverse();
            wild.extend(rest);
            prop_assert_eq!(folded(&events), folded(&wild));
        }
    }

    #[test]
    fn a_deleted_message_says_nothing_any_more() {
        let deletion = Body::Deletion(Deletion {
            message_id: ID,
            conversation_id: HERE,
            message_seq: 1,
            sender_id: UserId::from_bits(1),
            deleted_by: UserId::from_bits(1),
            scope: Scope::Everybody,
            deleted_at: NOW,
        });
        let state = folded(&[(2, deletion)]);
        assert_eq!(state.text(), "");
        assert_eq!(state.attachments().count(), 0);
        assert!(!state.counts_for(UserId::from_bits(2)));
        assert!(said().counts_for(UserId::from_bits(2)));
        assert!(!said().counts_for(UserId::from_bits(1)), "nobody has to read their own words");
    }

    #[test]
    fn the_newest_of_what_is_known_of_an_attachment_is_shown() {
        let place = Some(Place { conversation_id: HERE, message_id: ID, message_seq: 1 });
        let known = |width| {
            let attachment = attachment(2, Some(width));
            Body::Attachment(Progress { owner_id: UserId::from_bits(1), place, attachment })
        };
        let state = folded(&[(5, known(50)), (4, known(40))]);
        let shown: Vec<_> = state.attachments().map(|one| one.content.width).collect();
        assert_eq!(shown, [None, Some(50)]);
    }

    #[test]
    fn reactions_are_in_the_order_in_which_they_came() {
        let reaction = |user: u128, emoji: &str, on| {
            Body::Reaction(Reaction {
                message_id: ID,
                conversation_id: HERE,
                message_seq: 1,
                user_id: UserId::from_bits(user),
                emoji: emoji.into(),
                on,
            })
        };
        let state = folded(&[
            (2, reaction(2, "🎉", true)),
            (3, reaction(3, "👍", true)),
            (4, reaction(1, "🎉", true)),
            (5, reaction(3, "👍", false)),
        ]);
        assert_eq!(state.reactions(), [("🎉", vec![UserId::from_bits(2), UserId::from_bits(1)])]);
    }
}
