//! What events mean for the conversations they are in: states, newest messages, marks, settings, and messages that were
//! sent again.
//!
//! Every write here commutes, so that the order of deliveries between instances does not matter:
//! - the state, and each setting, is a register: it keeps the seq of the event that set it, and only a later one sets it;
//! - whoever was removed has one entry for ever, with the seq of the last time, which only rises;
//! - a mark and the seq of the receipt that carried it only rise, each by itself: a late receipt may carry a low mark;
//! - the newest message is the one with the highest seq, and it is in `messages` before it is named here;
//! - a message that the log has twice counts where it was first. Whoever meets the second one says so: `copySeq` rises,
//!   which keeps the later place from being named any more, and if it is named already the newest message is looked up
//!   again ([`Store::recount_conversations`]). All others pay nothing for it.

use std::collections::HashSet;

use mongodb::bson::{Bson, Document, doc, serialize_to_bson, serialize_to_document};
use mongodb::options::UpdateOneModel;

use super::conversations::{ConversationDocument, FormerDocument, LastMessageDocument, NAME, Register, STATE};
use super::{Store, bounded, stored_seq, stored_time};
use crate::domain::conversation::{Conversation, LastMessage};
use crate::domain::ids::{ConversationId, UserId};
use crate::domain::receipt::Marks;
use crate::domain::setting::Setting;
use crate::error::{Error, Result};

/// Rounds until a conversation that others write to at the same time is given back to the broker.
const ROUNDS: usize = 32;

/// How far a participant is, as some receipts say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) conversation_id: ConversationId,
    pub(super) user_id: UserId,
    /// The highest marks.
    pub(super) marks: Marks,
    /// The highest seq of these receipts.
    pub(super) seq: u64,
}

/// A write to one conversation.
#[derive(Debug, Clone)]
pub(super) enum Touch<'a> {
    /// It is in this state.
    State(u64, &'a Conversation),
    /// A message was sent.
    Newest(ConversationId, LastMessage),
    /// Somebody is further.
    Mark(Mark),
    /// It is something else to somebody: one of the three registers of a setting.
    Muted(u64, &'a Setting),
    /// Put away, or not any more.
    Archived(u64, &'a Setting),
    /// Kept on top, or not any more.
    Pinned(u64, &'a Setting),
    /// Somebody is no longer in it, for the first time.
    Former(ConversationId, UserId, u64),
    /// Somebody is no longer in it, once more.
    FormerAgain(ConversationId, UserId, u64),
    /// The log has a message of it here again.
    Copy(ConversationId, u64),
    /// Something happened in it that nothing above says.
    Changed(ConversationId, u64),
}

/// What has to be seen to after touching conversations.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// Those that are not there yet.
    pub(super) unopened: HashSet<ConversationId>,
    /// Those whose newest message may be a message that was sent again.
    pub(super) doubtful: HashSet<ConversationId>,
}

/// Sets a register unless a later event has. What this very event has set may be set again: somebody may have written to
/// the database by hand.
fn register(filter: &mut Document, path: &str, at: i64, value: Bson) -> Document {
    filter.insert(format!("{path}.seq"), doc! { "$not": { "$gt": at } });
    let mut set = Document::new();
    set.insert(path, doc! { "seq": at, "value": value });
    doc! { "$set": set, "$max": { "changeSeq": at } }
}

/// Whether a register is as an event of this seq has set it, or as a later one has.
fn holds<T: PartialEq>(known: Option<&Register<T>>, at: u64, value: Option<T>) -> bool {
    let at = stored_seq(at);
    known.is_some_and(|known| known.seq > at || (known.seq == at && value.is_none_or(|value| known.value == value)))
}

impl Touch<'_> {
    pub(super) const fn conversation(&self) -> ConversationId {
        match self {
            Self::State(_, conversation) => conversation.id,
            Self::Newest(id, _)
            | Self::Copy(id, _)
            | Self::Changed(id, _)
            | Self::Former(id, ..)
            | Self::FormerAgain(id, ..) => *id,
            Self::Mark(mark) => mark.conversation_id,
            Self::Muted(_, setting) | Self::Archived(_, setting) | Self::Pinned(_, setting) => setting.conversation_id,
        }
    }

    /// What it writes, in a word.
    pub(super) const fn field(&self) -> &'static str {
        match self {
            Self::State(..) => "state",
            Self::Newest(..) => "lastMessage",
            Self::Mark(_) => "marks",
            Self::Muted(..) | Self::Archived(..) | Self::Pinned(..) => "settings",
            Self::Former(..) | Self::FormerAgain(..) => "former",
            Self::Copy(..) => "copySeq",
            Self::Changed(..) => "changeSeq",
        }
    }

    /// The filter and the update.
    pub(super) fn write(&self) -> Result<(Document, Document)> {
        let mut filter = doc! { "_id": self.conversation().to_string() };
        let setting = |setting: &Setting, field: &str| format!("settings.{}.{field}", setting.user_id);
        let update = match self {
            Self::State(at, conversation) => {
                filter.insert("stateSeq", doc! { "$lte": stored_seq(*at) });
                state(*at, conversation)?
            }
            Self::Newest(_, last) => {
                let at = stored_seq(last.seq);
                filter.insert("lastMessage.seq", doc! { "$not": { "$gte": at } });
                filter.insert("copySeq", doc! { "$not": { "$gte": at } });
                let last = serialize_to_bson(&LastMessageDocument::from(last)).map_err(Error::internal)?;
                doc! { "$set": { "lastMessage": last }, "$max": { "lastSeq": at, "changeSeq": at } }
            }
            Self::Mark(mark) => {
                let at = stored_seq(mark.seq);
                let path = |field: &str| format!("marks.{}.{field}", mark.user_id);
                let mut rise = doc! { "changeSeq": at };
                rise.insert(path("readSeq"), stored_seq(mark.marks.read));
                rise.insert(path("shownSeq"), stored_seq(mark.marks.shown));
                rise.insert(path("deliveredSeq"), stored_seq(mark.marks.delivered));
                rise.insert(path("changeSeq"), at);
                doc! { "$max": rise }
            }
            Self::Muted(at, one) => {
                let until: Bson = one.muted_until.map(stored_time).into();
                register(&mut filter, &setting(one, "mutedUntil"), stored_seq(*at), until)
            }
            Self::Archived(at, one) => {
                register(&mut filter, &setting(one, "archived"), stored_seq(*at), one.archived.into())
            }
            Self::Pinned(at, one) => register(&mut filter, &setting(one, "pinned"), stored_seq(*at), one.pinned.into()),
            Self::Former(_, user, at) => {
                let at = stored_seq(*at);
                let former = FormerDocument { user_id: *user, seq: at };
                let former = serialize_to_bson(&former).map_err(Error::internal)?;
                filter.insert("former.userId", doc! { "$ne": user.to_string() });
                doc! { "$push": { "former": former }, "$max": { "changeSeq": at } }
            }
            Self::FormerAgain(_, user, at) => {
                let at = stored_seq(*at);
                filter.insert("former.userId", user.to_string());
                doc! { "$max": { "former.$.seq": at, "changeSeq": at } }
            }
            Self::Copy(_, at) => doc! { "$max": { "copySeq": stored_seq(*at), "changeSeq": stored_seq(*at) } },
            Self::Changed(_, at) => doc! { "$max": { "changeSeq": stored_seq(*at) } },
        };
        Ok((filter, update))
    }

    /// Whether a conversation shows this already, or never will.
    pub(super) fn shows_in(&self, found: &ConversationDocument) -> bool {
        let settings = |setting: &Setting| found.settings.get(&setting.user_id.to_string());
        match self {
            Self::State(at, conversation) => {
                let at = stored_seq(*at);
                found.state_seq > at || (found.state_seq == at && found.is_in(conversation))
            }
            Self::Newest(_, last) => {
                let at = stored_seq(last.seq);
                found.last_message.as_ref().is_some_and(|known| known.seq >= at) || found.copied(at)
            }
            Self::Mark(mark) => found.marks.get(&mark.user_id.to_string()).is_some_and(|known| {
                known.read_seq >= stored_seq(mark.marks.read)
                    && known.shown_seq >= stored_seq(mark.marks.shown)
                    && known.delivered_seq >= stored_seq(mark.marks.delivered)
                    && known.change_seq >= stored_seq(mark.seq)
            }),
            Self::Muted(at, one) => {
                let known = settings(one).and_then(|known| known.muted_until.as_ref());
                holds(known, *at, one.muted_until.map(stored_time))
            }
            Self::Archived(at, one) => {
                holds(settings(one).and_then(|known| known.archived.as_ref()), *at, one.archived)
            }
            Self::Pinned(at, one) => holds(settings(one).and_then(|known| known.pinned.as_ref()), *at, one.pinned),
            Self::Former(_, user, at) | Self::FormerAgain(_, user, at) => {
                found.former.iter().any(|known| known.user_id == *user && known.seq >= stored_seq(*at))
            }
            Self::Copy(_, at) => found.copied(stored_seq(*at)),
            Self::Changed(_, at) => found.change_seq >= stored_seq(*at),
        }
    }
}

/// The update that brings a conversation into a state.
fn state(at: u64, conversation: &Conversation) -> Result<Document> {
    let mut wanted = serialize_to_document(&ConversationDocument::opened(at, conversation)).map_err(Error::internal)?;
    let (mut set, mut unset) = (Document::new(), Document::new());
    for field in STATE {
        match wanted.remove(field) {
            Some(value) => set.insert(field, value),
            None => unset.insert(field, ""),
        };
    }
    let at = stored_seq(at);
    let mut update = doc! { "$set": set, "$max": { "lastSeq": at, "changeSeq": at } };
    if !unset.is_empty() {
        update.insert("$unset", unset);
    }
    Ok(update)
}

impl ConversationDocument {
    /// Whether its state is this one.
    fn is_in(&self, conversation: &Conversation) -> bool {
        let wanted = Self::opened(super::seq(self.state_seq), conversation);
        self.kind == wanted.kind
            && self.participants == wanted.participants
            && self.context == wanted.context
            && self.title == wanted.title
            && self.created_by == wanted.created_by
            && self.created_at == wanted.created_at
            && self.closed_at == wanted.closed_at
            && self.waiting == wanted.waiting
    }

    /// Whether the log repeats one of its messages here or later.
    fn copied(&self, at: i64) -> bool {
        self.copy_seq.is_some_and(|copy| copy >= at)
    }

    /// Whether what it names as its newest message may be a repeated one.
    fn is_doubtful(&self) -> bool {
        self.copied(self.last_message.as_ref().map_or(0, |last| last.seq))
    }
}

impl Store {
    /// Touches conversations, in one bulk write unless something was not as usual. Messages must be inserted before they
    /// are named here.
    pub(super) async fn touch_conversations(&self, mut touches: Vec<Touch<'_>>) -> Result<Touched> {
        let mut touched = Touched::default();
        for _ in 0..ROUNDS {
            if touches.is_empty() || self.write_touches(&touches).await? {
                return Ok(touched);
            }
            // Something did not match: it was projected before, or its conversation was not there. It may be by now.
            let mut ids: Vec<ConversationId> = touches.iter().map(Touch::conversation).collect();
            ids.sort_unstable();
            ids.dedup();
            let found = self.stored_conversations(&ids).await?;
            let found = |id| found.iter().find(|one: &&ConversationDocument| one.id == id);
            for id in ids {
                match found(id) {
                    None => drop(touched.unopened.insert(id)),
                    Some(known) if known.is_doubtful() => drop(touched.doubtful.insert(id)),
                    Some(_) => {}
                }
            }
            touches.retain(|touch| found(touch.conversation()).is_some_and(|known| !touch.shows_in(known)));
            for touch in &mut touches {
                if let Touch::Former(id, user, at) = *touch
                    && found(id).is_some_and(|known| known.former.iter().any(|one| one.user_id == user))
                {
                    *touch = Touch::FormerAgain(id, user, at);
                }
            }
        }
        Err(Error::internal("conversations were changed again and again while they were touched"))
    }

    /// Whether every write found its conversation, and it in the state that it wants.
    async fn write_touches(&self, touches: &[Touch<'_>]) -> Result<bool> {
        let mut models = Vec::with_capacity(touches.len());
        for touch in touches {
            let (filter, update) = touch.write()?;
            let namespace = self.namespace(NAME);
            models.push(UpdateOneModel::builder().namespace(namespace).filter(filter).update(update).build());
        }
        let done = bounded(self.client.bulk_write(models).ordered(false)).await?;
        Ok(done.matched_count >= i64::try_from(touches.len()).unwrap_or(i64::MAX))
    }

    /// Looks up the newest messages of those conversations again that may name one which was sent again.
    pub(super) async fn recount_conversations(&self, doubtful: impl IntoIterator<Item = ConversationId>) -> Result<()> {
        let ids: Vec<ConversationId> = doubtful.into_iter().collect();
        if ids.is_empty() {
            return Ok(());
        }
        let found = self.stored_conversations(&ids).await?;
        for known in found.iter().filter(|known| known.is_doubtful()) {
            self.recount(known.id, u64::MAX).await?;
        }
        Ok(())
    }

    /// Makes a conversation's newest message that of `messages`. What nothing in a log up to `head` explains as its last
    /// change is taken back.
    ///
    /// A message is inserted before its conversation names it, so what the conversation names and `messages` does not have
    /// was a repeated one. Others may write meanwhile: this goes on until nothing was left to change.
    pub async fn recount(&self, id: ConversationId, head: u64) -> Result<()> {
        for _ in 0..ROUNDS {
            // In this order: what was named before the messages were read is among them.
            let Some(found) = self.stored_conversations(&[id]).await?.pop() else { return Ok(()) };
            let newest = self.head_of(&id.to_string()).await?;
            let last = newest.map(|(id, seq)| LastMessageDocument { id, seq });
            let at = last.as_ref().map_or(found.state_seq, |last| last.seq.max(found.state_seq));
            let changed = found.change_seq.min(stored_seq(head)).max(at);
            if found.last_seq == at && found.last_message == last && found.change_seq == changed {
                return Ok(());
            }
            let mut unchanged = doc! {
                "_id": id.to_string(),
                "stateSeq": found.state_seq,
                "lastSeq": found.last_seq,
                "changeSeq": found.change_seq,
            };
            let named = found.last_message.map_or(doc! { "$exists": false }, |last| doc! { "$eq": last.seq });
            unchanged.insert("lastMessage.seq", named);
            let mut set = doc! { "lastSeq": at, "changeSeq": changed };
            let mut recounted = Document::new();
            match last {
                Some(last) => drop(set.insert("lastMessage", serialize_to_bson(&last).map_err(Error::internal)?)),
                None => drop(recounted.insert("$unset", doc! { "lastMessage": "" })),
            }
            recounted.insert("$set", set);
            bounded(self.collection::<Document>(NAME).update_one(unchanged, recounted)).await?;
        }
        Err(Error::internal(format!("the conversation {id} was changed again and again while it was recounted")))
    }
}
