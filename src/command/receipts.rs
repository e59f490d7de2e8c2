//! Marking conversations as read.

use super::Commands;
use crate::auth::Actor;
use crate::broker::publish::Pending;
use crate::domain::event::Body;
use crate::domain::ids::ConversationId;
use crate::domain::receipt::Receipt;
use crate::domain::trace::TraceContext;
use crate::error::Result;

/// A mark in line to be stored; nothing is in line if it was there already.
#[must_use = "a mark counts only once it is stored"]
pub struct Marking {
    receipt: Receipt,
    pending: Option<Pending>,
}

impl Marking {
    /// Waits until the log has the mark.
    pub async fn stored(self) -> Result<Receipt> {
        if let Some(pending) = self.pending {
            pending.stored().await?;
        }
        Ok(self.receipt)
    }
}

impl Commands {
    /// The caller has read everything that this instance has seen of the conversation. The mark only moves forward.
    pub async fn mark_read(
        &self,
        actor: &Actor,
        conversation_id: ConversationId,
        trace: Option<TraceContext>,
    ) -> Result<Marking> {
        actor.check_expiry(self.clock.now())?;
        let entry = self.directory.for_participant(conversation_id, actor.user_id).await?;
        let read_seq = self.directory.head(&entry).await?;
        let receipt = Receipt { conversation_id, user_id: actor.user_id, read_seq, delivered_seq: 0, hidden: false };
        if read_seq == 0 || entry.has_read(actor.user_id, read_seq) {
            return Ok(Marking { receipt, pending: None });
        }
        let recipients = entry.conversation.users().collect();
        let event = self.event(actor.user_id, recipients, Body::Receipt(receipt));
        Ok(Marking { receipt, pending: Some(self.publisher.enqueue(&event, trace)?) })
    }
}
