//! One message in full, the pinned ones, and what messages quote.

use std::collections::HashMap;

use super::conversations::View;
use super::{Queries, overlay};
use crate::auth::Actor;
use crate::broker::subject::Filter;
use crate::domain::changing::{PIN_LIMIT, unknown_message};
use crate::domain::event::{Body, Stored};
use crate::domain::ids::{ConversationId, MessageId, UserId};
use crate::domain::message::Quote;
use crate::domain::state::MessageState;
use crate::error::Result;
use crate::store::messages::{Sight, Stretch};

/// Messages before the last one that are looked at in its place.
const STEPS_BACK: u32 = 20;

impl Queries {
    /// A message with everything that has happened to it.
    pub async fn message(&self, actor: &Actor, conversation: ConversationId, id: MessageId) -> Result<MessageState> {
        actor.check_expiry(self.clock.now())?;
        let entry = self.directory.for_participant(conversation, actor.user_id).await?;
        let sight = entry.sight(actor.user_id);
        let newer = self.unprojected(Filter::Conversation(conversation), overlay::LIMIT).await?;
        let mut found = Vec::from_iter(self.store.message(id).await?);
        overlay::lay_over(&mut found, &newer, |_| true);
        found.retain(|state| state.message.id == id && state.message.conversation_id == conversation);
        found.retain(|state| state.exists_for(actor.user_id, sight.from));
        self.renew_quotes(&mut found, sight, &newer).await?;
        found.pop().ok_or_else(unknown_message)
    }

    /// The pinned messages of a conversation, the last one pinned first.
    pub async fn pins(&self, actor: &Actor, conversation: ConversationId) -> Result<Vec<MessageState>> {
        actor.check_expiry(self.clock.now())?;
        let entry = self.directory.for_participant(conversation, actor.user_id).await?;
        let sight = entry.sight(actor.user_id);
        let newer = self.unprojected(Filter::Conversation(conversation), overlay::LIMIT).await?;
        // Twice as many as there may be: instances that pin at once may go a little beyond it.
        let most = u32::try_from(2 * PIN_LIMIT).unwrap_or(u32::MAX);
        let mut items = self.store.pinned_messages(conversation, most).await?;
        let pinned_since = |stored: &Stored| match &stored.event.body {
            Body::Pin(pin) if pin.on => Some(pin.message_id),
            _ => None,
        };
        let known: Vec<MessageId> = items.iter().map(|state| state.message.id).collect();
        let mut missing: Vec<MessageId> =
            newer.iter().filter_map(pinned_since).filter(|id| !known.contains(id)).collect();
        missing.sort_unstable();
        missing.dedup();
        items.extend(self.store.messages_by_id(&missing).await?);
        overlay::lay_over(&mut items, &newer, |_| true);
        items.retain(|state| state.is_pinned() && state.exists_for(actor.user_id, sight.from));
        items.sort_by_key(|state| std::cmp::Reverse(state.pin.map(|pin| pin.seq)));
        items.truncate(PIN_LIMIT);
        self.renew_quotes(&mut items, sight, &newer).await?;
        Ok(items)
    }

    /// Where somebody has deleted the last message for themselves, shows the last one that they have not; of those just
    /// before it only.
    pub(super) async fn step_back<'a>(
        &self,
        user: UserId,
        views: &mut [View],
        newer: impl Iterator<Item = &'a Stored>,
    ) -> Result<()> {
        let hidden: Vec<&mut View> = views
            .iter_mut()
            .filter(|view| view.last_message.as_ref().is_some_and(|last| last.is_hidden_from(user)))
            .collect();
        if hidden.is_empty() {
            return Ok(());
        }
        let newer: Vec<&Stored> = newer.collect();
        for view in hidden {
            let Some(last) = view.last_message.take() else { continue };
            let id = view.conversation.id;
            let from = view.conversation.participant(user).map_or(0, |participant| participant.visible_from);
            let sight = Sight { user, from };
            let mut found = self.store.messages(id, sight, Stretch::Before(last.seq), last.seq, STEPS_BACK).await?;
            let here = newer.iter().copied().filter(|stored| stored.event.body.conversation() == Some(id));
            overlay::lay_over(&mut found, here, |seq| seq < last.seq && seq > from);
            view.last_message = found.into_iter().rev().find(|state| !state.is_hidden_from(user));
        }
        Ok(())
    }

    /// Makes quotes what the messages they quote are now, for this reader.
    pub(super) async fn renew_quotes(&self, items: &mut [MessageState], sight: Sight, newer: &[Stored]) -> Result<()> {
        let mut ids: Vec<MessageId> =
            items.iter().filter_map(|state| state.message.reply_to.as_ref().map(|quote| quote.id)).collect();
        if ids.is_empty() {
            return Ok(());
        }
        ids.sort_unstable();
        ids.dedup();
        let mut quoted = self.store.messages_by_id(&ids).await?;
        overlay::lay_over(&mut quoted, newer, |_| true);
        let quoted: HashMap<MessageId, MessageState> =
            quoted.into_iter().map(|state| (state.message.id, state)).collect();
        for quote in items.iter_mut().filter_map(|state| state.message.reply_to.as_mut()) {
            renew(quote, quoted.get(&quote.id), sight);
        }
        Ok(())
    }
}

/// A quote says what its message says now; nothing if that is gone, or does not exist for the reader.
fn renew(quote: &mut Quote, quoted: Option<&MessageState>, sight: Sight) {
    match quoted {
        Some(state) if state.exists_for(sight.user, sight.from) => *quote = state.quote(),
        _ => quote.text.clear(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::change::{Deletion, Edit, Scope};
    use crate::domain::clock::Timestamp;
    use crate::domain::message::{Kind, Message};

    const ID: MessageId = MessageId::from_bits(4);
    const HERE: ConversationId = ConversationId::from_bits(5);
    const ANA: UserId = UserId::from_bits(1);
    const BEN: UserId = UserId::from_bits(2);
    const NOW: Timestamp = Timestamp::from_millis(0);

    fn said() -> MessageState {
        let message = Message {
            id: ID,
            conversation_id: HERE,
            sender_id: ANA,
            sender_name: "Ana".into(),
            kind: Kind::Text,
            text: "first".into(),
            reply_to: None,
            mentions: Vec::new(),
            attachments: Vec::new(),
            entry: None,
            client_message_id: None,
            created_at: NOW,
        };
        MessageState::new(7, message)
    }

    fn shown(state: &MessageState, from: u64) -> String {
        let mut quote = said().quote();
        renew(&mut quote, Some(state), Sight { user: BEN, from });
        quote.text
    }

    #[test]
    fn a_quote_says_what_its_reader_would_find() {
        let mut state = said();
        assert_eq!((shown(&state, 0), shown(&state, 7)), ("first".into(), String::new()), "not before they came");
        let text = "second".to_owned();
        let edit =
            Edit { message_id: ID, conversation_id: HERE, message_seq: 7, text, mentions: vec![], edited_at: NOW };
        state.apply(8, &Body::Edit(edit));
        assert_eq!(shown(&state, 0), "second");
        let deletion = |deleted_by, scope| {
            let (message_id, conversation_id, message_seq, sender_id) = (ID, HERE, 7, ANA);
            let deleted_at = NOW;
            Body::Deletion(Deletion {
                message_id,
                conversation_id,
                message_seq,
                sender_id,
                deleted_by,
                scope,
                deleted_at,
            })
        };
        state.apply(9, &deletion(ANA, Scope::Me));
        assert_eq!(shown(&state, 0), "second", "somebody else has hidden it");
        let mut hidden = state.clone();
        hidden.apply(10, &deletion(BEN, Scope::Me));
        assert_eq!(shown(&hidden, 0), "");
        state.apply(10, &deletion(ANA, Scope::Everybody));
        assert_eq!(shown(&state, 0), "");
    }
}
