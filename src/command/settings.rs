//! What a conversation is to one of its participants: muted, put away, kept on top.

use super::Commands;
use crate::auth::Actor;
use crate::domain::clock::Timestamp;
use crate::domain::event::Body;
use crate::domain::ids::ConversationId;
use crate::domain::rights::Act;
use crate::domain::setting::Setting;
use crate::domain::trace::TraceContext;
use crate::error::Result;

/// What the caller wants changed; what is left out stays as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct ChangeSetting {
    /// Until when it makes no noise; a time that is over means that it does.
    pub muted_until: Option<Timestamp>,
    /// Whether it is put away.
    pub archived: Option<bool>,
    /// Whether it is kept on top.
    pub pinned: Option<bool>,
}

impl Commands {
    /// Changes the caller's settings of a conversation. Nobody else is told.
    pub async fn change_setting(
        &self,
        actor: &Actor,
        conversation_id: ConversationId,
        change: ChangeSetting,
        trace: Option<TraceContext>,
    ) -> Result<()> {
        let now = self.clock.now();
        actor.check_expiry(now)?;
        self.directory.for_participant(conversation_id, actor.user_id).await?.require(actor, Act::Read)?;
        let ChangeSetting { muted_until, archived, pinned } = change;
        if muted_until.is_none() && archived.is_none() && pinned.is_none() {
            return Ok(());
        }
        let _in_hand = self.limits.admit(actor.user_id, now)?;
        let setting = Setting { conversation_id, user_id: actor.user_id, muted_until, archived, pinned };
        let event = self.event(actor.user_id, vec![actor.user_id], Body::Setting(setting));
        self.publisher.enqueue(&event, trace)?.stored().await.map(drop)
    }
}
