//! Opening conversations, naming them, closing them.

use std::sync::Arc;

use super::Commands;
use super::directory::Entry;
use super::states::Change;
use crate::auth::Actor;
use crate::domain::context::Context;
use crate::domain::conversation::{Conversation, Kind, Participant, ParticipantRole, foreign};
use crate::domain::event::Body;
use crate::domain::ids::{ConversationId, UserId};
use crate::domain::message;
use crate::domain::opening::{Plan, Wish};
use crate::domain::rights::Act;
use crate::domain::trace::TraceContext;
use crate::domain::user::User;
use crate::domain::words::{ClientMessageId, Title};
use crate::error::{Code, Result};

/// A conversation to open, or to find if it is there already.
#[derive(Debug, Default)]
pub struct OpenConversation {
    /// Everybody in it; the caller is always one of them.
    pub participants: Vec<UserId>,
    /// Of which kind; if that is not said, two users talk directly and more are a group.
    pub kind: Option<Kind>,
    /// What it is about.
    pub context: Option<Context>,
    /// Its name.
    pub title: Option<Title>,
    /// The caller's own name for this opening, so that a repeated one is recognised.
    pub key: Option<ClientMessageId>,
}

/// A conversation that is open.
#[derive(Debug)]
pub struct Opened {
    /// The conversation.
    pub conversation: Conversation,
    /// Whether this call opened it.
    pub created: bool,
}

impl Commands {
    /// Opens a conversation, or finds the one that this wish has led to before. Its id follows from the wish and its opening
    /// is stored only if it is the first, so two calls at once open it once.
    pub async fn open_conversation(
        &self,
        actor: &Actor,
        open: OpenConversation,
        trace: Option<TraceContext>,
    ) -> Result<Opened> {
        let now = self.clock.now();
        actor.check_expiry(now)?;
        let wish = Wish {
            caller: actor.user_id,
            role: actor.role,
            participants: &open.participants,
            kind: open.kind,
            context: open.context.as_ref(),
            title: open.title.as_ref(),
            key: open.key.as_ref(),
        };
        let Plan { id, kind, users } = wish.plan(self.clock.fresh_id())?;
        if let Some(entry) = self.directory.find(id).await? {
            return found(actor, &entry);
        }
        let _in_hand = self.limits.admit(actor.user_id, now)?;
        self.require_welcome(actor.user_id, users.iter().copied()).await?;
        let participant = |user: User| {
            let owns = kind == Kind::Group && user.id == actor.user_id;
            let role = if owns { ParticipantRole::Owner } else { user.role.into() };
            Participant { user_id: user.id, role, joined_at: now, visible_from: 0 }
        };
        let mut participants: Vec<Participant> =
            self.require_users(&users).await?.into_iter().map(participant).collect();
        participants.sort_unstable_by_key(|participant| participant.user_id);
        let conversation = Conversation {
            id,
            kind,
            participants,
            context: open.context,
            title: open.title.map(String::from),
            created_by: actor.user_id,
            created_at: now,
            closed_at: None,
            removed: Vec::new(),
        };
        let event = self.event(actor.user_id, users, Body::Conversation(conversation.clone()));
        match self.publisher.enqueue_after(0, &event, None, trace)?.stored().await {
            Ok(published) => {
                self.directory.keep(conversation.clone(), published.seq);
                Ok(Opened { conversation, created: true })
            }
            Err(error) if error.code() == Code::Conflict => {
                found(actor, &*self.directory.renewed(id).await?.ok_or(error)?)
            }
            Err(error) => Err(error),
        }
    }

    /// Gives a conversation another title, or none.
    pub async fn rename_conversation(
        &self,
        actor: &Actor,
        id: ConversationId,
        title: Option<Title>,
        trace: Option<TraceContext>,
    ) -> Result<()> {
        let title = title.map(String::from);
        let decide = |entry: &Entry| {
            entry.require(actor, Act::Rename)?;
            let next = entry.conversation.renamed(title.as_deref());
            Ok(next.map(|next| Change { next, note: message::Entry::Renamed { title: title.clone() } }))
        };
        self.change(actor, id, trace, decide).await.map(drop)
    }

    /// Closes a conversation, or opens it again.
    pub async fn close_conversation(
        &self,
        actor: &Actor,
        id: ConversationId,
        closed: bool,
        trace: Option<TraceContext>,
    ) -> Result<()> {
        let now = self.clock.now();
        let decide = |entry: &Entry| {
            if closed {
                entry.require(actor, Act::Close)?;
                let next = entry.conversation.closed(now);
                return Ok(next.map(|next| Change { next, note: message::Entry::Closed {} }));
            }
            entry.require(actor, Act::Reopen)?;
            Ok(reopening(entry))
        };
        self.change(actor, id, trace, decide).await.map(drop)
    }

    /// The conversation that the caller may say something in, as this instance knows it, or anew if that refuses them.
    pub(super) async fn speaking(&self, actor: &Actor, entry: Arc<Entry>) -> Result<Arc<Entry>> {
        if entry.require(actor, Act::Send).is_ok() {
            return Ok(entry);
        }
        let newest = self.directory.renewed(entry.conversation.id).await?.ok_or_else(foreign)?;
        newest.require(actor, Act::Send)?;
        Ok(newest)
    }

    /// The conversation that the caller is about to say something in: a closed one opens again for the customer of a support
    /// conversation, and for nobody else.
    pub(super) async fn reopened(
        &self,
        actor: &Actor,
        entry: Arc<Entry>,
        trace: Option<TraceContext>,
    ) -> Result<Arc<Entry>> {
        if entry.conversation.closed_at.is_none() {
            return Ok(entry);
        }
        let decide = |entry: &Entry| {
            entry.require(actor, Act::Send)?;
            Ok(reopening(entry))
        };
        self.change(actor, entry.conversation.id, trace, decide).await
    }
}

fn reopening(entry: &Entry) -> Option<Change> {
    entry.conversation.reopened().map(|next| Change { next, note: message::Entry::Reopened {} })
}

/// One that is there already. Its opener may have left it since.
fn found(actor: &Actor, entry: &Entry) -> Result<Opened> {
    if !entry.conversation.has(actor.user_id) {
        return Err(foreign());
    }
    Ok(Opened { conversation: entry.conversation.clone(), created: false })
}
