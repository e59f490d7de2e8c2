//! Telling the others that somebody types. It is never stored.

use super::Commands;
use crate::auth::Actor;
use crate::domain::ids::ConversationId;
use crate::domain::typing::Typing;
use crate::error::Result;

impl Commands {
    /// Tells the other participants that the caller types, or has stopped.
    pub async fn signal_typing(&self, actor: &Actor, conversation_id: ConversationId, typing: bool) -> Result<()> {
        actor.check_expiry(self.clock.now())?;
        let entry = self.directory.for_participant(conversation_id, actor.user_id).await?;
        let recipients = entry.conversation.users().filter(|user| *user != actor.user_id).collect();
        self.broker.signal(&Typing { conversation_id, sender_id: actor.user_id, typing, recipients }).await
    }
}
