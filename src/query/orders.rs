//! Orders, as other services have told of them.

use super::Queries;
use crate::auth::Actor;
use crate::domain::ids::ConversationId;
use crate::domain::order::{self, Order, OrderId};
use crate::domain::user::Role;
use crate::error::{Code, Error, Result};

/// An order as one of its parties is shown it.
#[derive(Debug)]
pub struct OrderView {
    /// The order.
    pub order: Order,
    /// The conversation of customer and seller about it, if it is there for the caller.
    pub conversation_id: Option<ConversationId>,
}

impl Queries {
    /// An order, for who buys it, who sells it, and the shop's agents. Anybody else gets the same answer as for one that does
    /// not exist.
    pub async fn order(&self, actor: &Actor, id: &OrderId) -> Result<OrderView> {
        actor.check_expiry(self.clock.now())?;
        let unknown = || Error::new(Code::NotFound, "unknown_order", "there is no such order");
        let order = self.store.order(id).await?.ok_or_else(unknown)?;
        // Made a moment ago, and its first event is not there yet.
        if order.steps.is_empty() {
            return Err(unknown());
        }
        let is_staff = matches!(actor.role, Role::Agent | Role::Admin);
        if !is_staff && !order.concerns(actor.user_id) {
            return Err(unknown());
        }
        let thread = order.seller_id.map(|seller| order::thread(id, order.customer_id, seller));
        let conversation_id = match thread {
            Some(thread) => {
                let there = self.directory.find(thread).await?;
                there.filter(|entry| is_staff || entry.conversation.has(actor.user_id)).map(|_| thread)
            }
            None => None,
        };
        Ok(OrderView { order, conversation_id })
    }
}
