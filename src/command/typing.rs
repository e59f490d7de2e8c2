//! Telling the others that somebody types. It is never stored.

use super::Commands;
use crate::auth::Actor;
use crate::domain::ids::{ConversationId, UserId};
use crate::domain::rights::Act;
use crate::domain::typing::Typing;
use crate::error::Result;

impl Commands {
    /// Refuses whoever may not type there. Everybody in it may stop.
    pub async fn require_typing(&self, actor: &Actor, conversation_id: ConversationId, typing: bool) -> Result<()> {
        actor.check_expiry(self.clock.now())?;
        let entry = self.directory.for_participant(conversation_id, actor.user_id).await?;
        if typing {
            entry.require(actor, Act::Send)?;
        }
        Ok(())
    }

    /// Tells the other participants that somebody types, or has stopped. Whom they block hears nothing of it; who blocks them
    /// is left out where it is shown. Those who heard that they type will hear that they have stopped, so that names nobody.
    /// In a closed conversation nobody is told of anything, not even of who is about to open it again.
    pub async fn signal_typing(&self, user: UserId, conversation_id: ConversationId, typing: bool) -> Result<()> {
        let mut recipients = Vec::new();
        if typing {
            let entry = self.directory.for_participant(conversation_id, user).await?;
            let preferences = self.preferred.live_of(user).await?;
            // Nobody is to know that somebody invisible is there.
            if entry.conversation.closed_at.is_some() || preferences.invisible {
                return Ok(());
            }
            let others = entry.conversation.users().filter(|other| *other != user && !preferences.blocks(*other));
            recipients.extend(others);
        }
        let at = self.clock.now();
        self.broker.signal(&Typing { conversation_id, sender_id: user, typing, recipients, at }).await
    }
}
