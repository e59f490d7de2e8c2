//! What may be done to a message, by what it is now. Who may do it at all is a question of rights, see `rights`.

use std::collections::BTreeSet;
use std::time::Duration;

use super::change::{Deletion, Edit, Pin, Reaction, Scope};
use super::clock::Timestamp;
use super::emoji::Emoji;
use super::event::Body;
use super::ids::UserId;
use super::message::Quote;
use super::notification::excerpt;
use super::rights::not_allowed;
use super::state::MessageState;
use super::words::MessageText;
use crate::error::{Code, Error, Result};

/// Most edits of a message.
pub const EDIT_LIMIT: usize = 50;
/// Most bytes of all wordings of a message together.
pub const WORDINGS_LIMIT: usize = 128 << 10;
/// Most sorts of emoji on a message.
pub const EMOJI_LIMIT: usize = 20;
/// Most emoji that one user has ever put on a message: those that were taken back are kept as well.
pub const OWN_EMOJI_LIMIT: usize = 50;
/// Most pinned messages of a conversation.
pub const PIN_LIMIT: usize = 50;

/// What is to be done to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Put in other words.
    Edit {
        /// The words.
        text: MessageText,
        /// Participants they name; as before if nothing is said.
        mentions: Option<Vec<UserId>>,
    },
    /// Removed.
    Delete(Scope),
    /// Given an emoji, or deprived of one.
    React {
        /// Which.
        emoji: Emoji,
        /// Put on or taken back.
        on: bool,
    },
    /// Pinned, or taken down.
    Pin {
        /// Pinned or taken down.
        on: bool,
    },
}

/// What the log has to say for something to be so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The event.
    pub body: Body,
    /// It is not so already.
    pub news: bool,
}

/// The answer for a message that does not exist, or not for this caller.
#[must_use]
pub fn unknown_message() -> Error {
    Error::new(Code::NotFound, "unknown_message", "there is no such message in this conversation")
}

/// The answer for what is no longer there to be answered or changed.
#[must_use]
pub fn message_deleted() -> Error {
    Error::new(Code::Conflict, "message_deleted", "this message is deleted")
}

fn too_many_edits(shown: &'static str) -> Error {
    Error::new(Code::TooLarge, "too_many_edits", shown)
}

fn too_many_reactions(shown: &'static str) -> Error {
    Error::new(Code::TooLarge, "too_many_reactions", shown)
}

impl MessageState {
    /// Whether it exists for somebody who sees nothing up to `from`.
    #[must_use]
    pub fn exists_for(&self, user: UserId, from: u64) -> bool {
        self.seq > from && !self.is_hidden_from(user)
    }

    /// What the log has to say for this to be so, and whether it has not said that yet.
    pub fn change(&self, what: &What, user: UserId, now: Timestamp, editable: Option<Duration>) -> Result<Planned> {
        match what {
            What::Delete(scope) => return self.deletion(*scope, user, now),
            _ if self.is_hidden_from(user) => return Err(unknown_message()),
            _ if self.deleted.is_some() => return Err(message_deleted()),
            _ => {}
        }
        match what {
            What::Edit { text, mentions } => self.edit(text, mentions.as_deref(), user, now, editable),
            What::React { emoji, on } => self.reaction(*emoji, *on, user),
            What::Pin { on } => {
                let pin = Pin {
                    message_id: self.message.id,
                    conversation_id: self.message.conversation_id,
                    message_seq: self.seq,
                    user_id: user,
                    on: *on,
                    at: now,
                };
                Ok(Planned { body: Body::Pin(pin), news: *on != self.is_pinned() })
            }
            What::Delete(_) => unreachable!("handled above"),
        }
    }

    fn deletion(&self, scope: Scope, user: UserId, now: Timestamp) -> Result<Planned> {
        let done = match scope {
            Scope::Me => self.is_hidden_from(user),
            Scope::Everybody if self.is_hidden_from(user) => return Err(unknown_message()),
            // What happened to the conversation stays on record.
            Scope::Everybody if !self.message.kind.is_said() => return Err(not_allowed()),
            Scope::Everybody => self.deleted.is_some(),
        };
        let deletion = Deletion {
            message_id: self.message.id,
            conversation_id: self.message.conversation_id,
            message_seq: self.seq,
            sender_id: self.message.sender_id,
            deleted_by: user,
            scope,
            deleted_at: now,
        };
        Ok(Planned { body: Body::Deletion(deletion), news: !done })
    }

    fn edit(
        &self,
        text: &MessageText,
        mentions: Option<&[UserId]>,
        user: UserId,
        now: Timestamp,
        editable: Option<Duration>,
    ) -> Result<Planned> {
        if self.message.sender_id != user || !self.message.kind.is_said() {
            return Err(not_allowed());
        }
        let mentions = mentions.unwrap_or_else(|| self.mentions());
        let news = text.as_str() != self.text() || mentions != self.mentions();
        let age = u128::try_from(now.millis().saturating_sub(self.message.created_at.millis())).unwrap_or(0);
        if news && editable.is_some_and(|limit| age > limit.as_millis()) {
            return Err(Error::new(Code::Conflict, "edit_too_late", "this message is too old to be edited"));
        }
        if news && self.edits.len() >= EDIT_LIMIT {
            return Err(too_many_edits("a message can be edited 50 times"));
        }
        let wordings: usize = self.wordings().map(|(text, ..)| text.len()).sum();
        if news && self.let_go + wordings + text.as_str().len() > WORDINGS_LIMIT {
            return Err(too_many_edits("all wordings of a message together can take 128 KiB"));
        }
        let edit = Edit {
            message_id: self.message.id,
            conversation_id: self.message.conversation_id,
            message_seq: self.seq,
            text: text.to_string(),
            mentions: mentions.to_vec(),
            edited_at: now,
        };
        Ok(Planned { body: Body::Edit(edit), news })
    }

    fn reaction(&self, emoji: Emoji, on: bool, user: UserId) -> Result<Planned> {
        let own = self.reactions.get(&(emoji.as_str().to_owned(), user));
        let news = own.is_some_and(|own| own.on) != on;
        if news && on {
            let there = |known: &&str| *known == emoji.as_str();
            let sorts: BTreeSet<&str> =
                self.reactions.iter().filter(|(_, one)| one.on).map(|((known, _), _)| known.as_str()).collect();
            if sorts.len() >= EMOJI_LIMIT && !sorts.iter().any(there) {
                return Err(too_many_reactions("a message can have 20 different emoji"));
            }
            let ever = self.reactions.keys().filter(|(_, known)| *known == user).count();
            if own.is_none() && ever >= OWN_EMOJI_LIMIT {
                return Err(too_many_reactions("you have tried 50 different emoji on this message"));
            }
        }
        let reaction = Reaction {
            message_id: self.message.id,
            conversation_id: self.message.conversation_id,
            message_seq: self.seq,
            user_id: user,
            emoji: emoji.to_string(),
            on,
        };
        Ok(Planned { body: Body::Reaction(reaction), news })
    }

    /// It as a message of this user quotes it.
    pub fn quotable_by(&self, user: UserId) -> Result<Quote> {
        if self.is_hidden_from(user) {
            return Err(unknown_message());
        }
        if self.deleted.is_some() { Err(message_deleted()) } else { Ok(self.quote()) }
    }

    /// It as another message quotes it; without words if it is deleted.
    #[must_use]
    pub fn quote(&self) -> Quote {
        Quote {
            id: self.message.id,
            seq: self.seq,
            sender_id: self.message.sender_id,
            sender_name: self.message.sender_name.clone(),
            text: excerpt(self.gist()),
        }
    }

    /// What it comes to in few words: its own, or what the first attachment is called.
    #[must_use]
    pub fn gist(&self) -> &str {
        match self.message.attachments.first() {
            Some(first) if self.text().is_empty() => &first.name,
            _ => self.text(),
        }
    }

    /// Every wording that it has had, oldest first: as it was said, then its edits.
    pub fn wordings(&self) -> impl Iterator<Item = (&str, &[UserId], Timestamp)> {
        let first = (self.message.text.as_str(), self.message.mentions.as_slice(), self.message.created_at);
        let edits = self.edits.values().map(|edit| (edit.text.as_str(), edit.mentions.as_slice(), edit.at));
        std::iter::once(first).chain(edits)
    }

    /// Lets go of all words but the last ones. What it shows stays the same.
    pub fn forget_wordings(&mut self) {
        if self.edits.is_empty() {
            return;
        }
        self.let_go += std::mem::take(&mut self.message.text).len();
        self.message.mentions = Vec::new();
        let before = self.edits.len() - 1;
        for edit in self.edits.values_mut().take(before) {
            self.let_go += std::mem::take(&mut edit.text).len();
            edit.mentions = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{ConversationId, MessageId};
    use crate::domain::message::Kind;
    use crate::domain::message::Message;

    const ANA: UserId = UserId::from_bits(1);
    const BEN: UserId = UserId::from_bits(2);
    const SAID: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const QUARTER: Option<Duration> = Some(Duration::from_mins(15));

    fn said(kind: Kind) -> MessageState {
        MessageState::new(
            7,
            Message {
                id: MessageId::from_bits(4),
                conversation_id: ConversationId::from_bits(5),
                sender_id: ANA,
                sender_name: "Ana".into(),
                kind,
                text: "first".into(),
                reply_to: None,
                mentions: Vec::new(),
                attachments: Vec::new(),
                entry: None,
                client_message_id: None,
                created_at: SAID,
            },
        )
    }

    fn edit(text: &str) -> What {
        What::Edit { text: MessageText::new(text).expect("a text"), mentions: None }
    }

    fn react(emoji: &str, on: bool) -> What {
        What::React { emoji: Emoji::new(emoji).expect("an emoji"), on }
    }

    /// Does it, as the log would; says whether it was worth an event, or why not.
    fn done(state: &mut MessageState, what: &What, user: UserId, now: Timestamp) -> Result<bool, &'static str> {
        let seq = 100 + state.edits.len() as u64 + state.reactions.len() as u64 + state.hidden.len() as u64;
        match state.change(what, user, now, QUARTER) {
            Ok(Planned { body, news }) => Ok(news && state.apply(seq, &body)),
            Err(error) => Err(error.reason()),
        }
    }

    #[test]
    fn only_the_sender_edits_and_only_for_a_while() {
        let mut state = said(Kind::Text);
        let (end, late) = (SAID.plus_seconds(900), SAID.plus_seconds(901));
        assert_eq!(done(&mut state, &edit("other"), BEN, SAID), Err("not_allowed"));
        assert_eq!(done(&mut state, &edit("first"), ANA, SAID), Ok(false), "nothing has changed");
        assert_eq!(done(&mut state, &edit("second"), ANA, end), Ok(true));
        assert_eq!(done(&mut state, &edit("third"), ANA, late), Err("edit_too_late"));
        assert_eq!(done(&mut state, &edit("second"), ANA, late), Ok(false), "asked again, it is as it was");
        assert!(state.change(&edit("third"), ANA, late, None).is_ok(), "there may be no limit");
        assert_eq!(done(&mut said(Kind::System), &edit("other"), ANA, SAID), Err("not_allowed"));
    }

    #[test]
    fn a_message_is_edited_so_often_and_no_more() {
        let mut state = said(Kind::Text);
        for number in 0..EDIT_LIMIT {
            assert_eq!(done(&mut state, &edit(&number.to_string()), ANA, SAID), Ok(true));
        }
        assert_eq!(done(&mut state, &edit("once more"), ANA, SAID), Err("too_many_edits"));
        assert_eq!(state.wordings().count(), EDIT_LIMIT + 1);
        let shown = (state.text().to_owned(), state.edited_at());
        state.forget_wordings();
        assert_eq!((state.text().to_owned(), state.edited_at()), shown);
        assert_eq!(state.wordings().filter(|(text, ..)| !text.is_empty()).count(), 1);
    }

    #[test]
    fn all_wordings_together_take_so_much_and_no_more_also_where_they_are_not_kept() {
        let long = |number: usize| edit(&format!("{number}{}", "x".repeat(7_999)));
        let mut counts = Vec::new();
        for forgetful in [false, true] {
            let mut state = said(Kind::Text);
            let edited = (0..).take_while(|number| {
                let done = done(&mut state, &long(number % 10), ANA, SAID);
                if forgetful {
                    state.forget_wordings();
                }
                assert!(matches!(done, Ok(true) | Err("too_many_edits")), "{done:?}");
                done.is_ok()
            });
            counts.push(edited.count());
        }
        assert_eq!(counts, [WORDINGS_LIMIT / 8_000; 2]);
    }

    #[test]
    fn nothing_is_done_to_a_deleted_message_and_deleting_it_again_is_nothing_new() {
        let mut state = said(Kind::Text);
        assert_eq!(done(&mut state, &What::Delete(Scope::Everybody), ANA, SAID), Ok(true));
        assert_eq!(done(&mut state, &What::Delete(Scope::Everybody), ANA, SAID), Ok(false));
        for what in [edit("other"), react("👍", true), react("👍", false), What::Pin { on: true }] {
            assert_eq!(done(&mut state, &what, ANA, SAID), Err("message_deleted"), "{what:?}");
        }
        assert_eq!(done(&mut state, &What::Delete(Scope::Me), BEN, SAID), Ok(true), "what is left of it can be hidden");
        assert_eq!(done(&mut said(Kind::System), &What::Delete(Scope::Everybody), ANA, SAID), Err("not_allowed"));
    }

    #[test]
    fn what_somebody_has_deleted_for_themselves_is_there_for_the_others_only() {
        let mut state = said(Kind::Text);
        assert_eq!(done(&mut state, &What::Delete(Scope::Me), ANA, SAID), Ok(true));
        assert_eq!(done(&mut state, &What::Delete(Scope::Me), ANA, SAID), Ok(false));
        for what in [edit("other"), react("👍", true), What::Pin { on: true }, What::Delete(Scope::Everybody)] {
            assert_eq!(done(&mut state, &what, ANA, SAID), Err("unknown_message"), "{what:?}");
        }
        assert_eq!(done(&mut state, &react("👍", true), BEN, SAID), Ok(true));
        assert!(state.exists_for(BEN, 6) && !state.exists_for(BEN, 7) && !state.exists_for(ANA, 0));
    }

    #[test]
    fn an_emoji_is_put_on_once_and_there_is_an_end_to_them() {
        let mut state = said(Kind::Text);
        assert_eq!(done(&mut state, &react("👍", false), BEN, SAID), Ok(false), "it was not there");
        assert_eq!(done(&mut state, &react("👍", true), BEN, SAID), Ok(true));
        assert_eq!(done(&mut state, &react("👍", true), BEN, SAID), Ok(false));
        let others: Vec<&str> = emojis::iter().map(emojis::Emoji::as_str).filter(|one| *one != "👍").collect();
        for emoji in &others[..EMOJI_LIMIT - 1] {
            assert_eq!(done(&mut state, &react(emoji, true), BEN, SAID), Ok(true));
        }
        assert_eq!(done(&mut state, &react(others[40], true), ANA, SAID), Err("too_many_reactions"));
        assert_eq!(done(&mut state, &react("👍", true), ANA, SAID), Ok(true), "one that is there");
        assert_eq!(done(&mut state, &react(others[0], false), BEN, SAID), Ok(true));
        assert_eq!(done(&mut state, &react(others[40], true), ANA, SAID), Ok(true));
    }

    #[test]
    fn nobody_tries_every_emoji_that_there_is() {
        let mut state = said(Kind::Text);
        let mut tried = 0;
        for (seq, emoji) in (100..).step_by(2).zip(emojis::iter()) {
            let Ok(on) = state.change(&react(emoji.as_str(), true), BEN, SAID, None) else { break };
            state.apply(seq, &on.body);
            let off = state.change(&react(emoji.as_str(), false), BEN, SAID, None).expect("allowed");
            assert!(off.news, "it was on");
            state.apply(seq + 1, &off.body);
            tried += 1;
        }
        assert_eq!(tried, OWN_EMOJI_LIMIT);
    }

    #[test]
    fn a_pin_is_there_or_not() {
        let mut state = said(Kind::Text);
        assert_eq!(done(&mut state, &What::Pin { on: false }, BEN, SAID), Ok(false));
        assert_eq!(done(&mut state, &What::Pin { on: true }, BEN, SAID), Ok(true));
        assert_eq!(done(&mut state, &What::Pin { on: true }, ANA, SAID), Ok(false));
        assert!(state.is_pinned());
    }
}
