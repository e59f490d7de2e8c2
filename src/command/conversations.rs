//! Opening conversations.

use super::Commands;
use crate::auth::Actor;
use crate::domain::context::Context;
use crate::domain::conversation::{self, Conversation, Kind, Participant};
use crate::domain::event::Body;
use crate::domain::ids::UserId;
use crate::domain::trace::TraceContext;
use crate::domain::user::User;
use crate::error::{Code, Result};

/// A conversation to open, or to find if these users have it already.
#[derive(Debug)]
pub struct OpenConversation {
    /// Everybody in it; the caller is always one of them.
    pub participants: Vec<UserId>,
    /// What it is about.
    pub context: Option<Context>,
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
    /// Opens the one conversation of these users about this context, or finds it. Its id follows from both and its
    /// opening is stored only if it is the first, so two calls at once open it once.
    pub async fn open_conversation(
        &self,
        actor: &Actor,
        open: OpenConversation,
        trace: Option<TraceContext>,
    ) -> Result<Opened> {
        actor.check_expiry(self.clock.now())?;
        if let Some(context) = &open.context {
            context.check()?;
        }
        let users = conversation::participants_of(actor.user_id, &open.participants)?;
        let id = conversation::id_of(&users, open.context.as_ref());
        if let Some(entry) = self.directory.find(id).await? {
            return Ok(Opened { conversation: entry.conversation.clone(), created: false });
        }
        if users.len() == 2 {
            self.require_unblocked(actor.user_id, users.iter().copied()).await?;
        }
        let now = self.clock.now();
        let participant =
            |user: User| Participant { user_id: user.id, role: user.role.into(), joined_at: now, visible_from: 0 };
        let mut participants: Vec<Participant> =
            self.require_users(&users).await?.into_iter().map(participant).collect();
        participants.sort_unstable_by_key(|participant| participant.user_id);
        let conversation = Conversation {
            id,
            kind: if users.len() == 2 { Kind::Direct } else { Kind::Group },
            participants,
            context: open.context,
            title: None,
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
                let found = self.directory.find(id).await?.ok_or(error)?;
                Ok(Opened { conversation: found.conversation.clone(), created: false })
            }
            Err(error) => Err(error),
        }
    }
}
