//! What an order event says to people: an entry in the conversation about its order, and a notification for each party.

use std::collections::HashMap;

use super::Arrival;
use super::admit::People;
use super::threads::{Thread, Wanted};
use crate::consumer::deciding::Known;
use crate::domain::clock::Clock;
use crate::domain::decision::Decisions;
use crate::domain::event::{self, Body, Event};
use crate::domain::ids::{ConversationId, UserId};
use crate::domain::message::{Entry, Kind, Message};
use crate::domain::notification::{self, Data, Notification};
use crate::error::Result;

/// What is known for a batch.
pub(super) struct Means<'a> {
    pub(super) clock: &'a Clock,
    pub(super) people: &'a People,
    pub(super) threads: &'a HashMap<ConversationId, Result<Thread>>,
    pub(super) known: &'a Known,
}

impl Means<'_> {
    /// Everything that an event says, in the order in which it is said.
    pub(super) fn events(&self, arrival: &Arrival<'_>) -> Result<Vec<Event>> {
        let wanted = Wanted::of(&arrival.event.order, arrival.parties, arrival.trace);
        let mut thread = None;
        if let Some(wanted) = &wanted {
            match self.threads.get(&wanted.id()) {
                Some(Ok(there)) => thread = Some((wanted.id(), there)),
                Some(Err(error)) => return Err(error.echo()),
                None => {}
            }
        }
        let mut events = Vec::with_capacity(3);
        if let (Some((id, thread)), Some(wanted)) = (thread, &wanted) {
            let entry = self.entry(arrival, id, wanted.seller);
            events.push(self.event(wanted.seller, thread.users.clone(), Body::Message(entry)));
        }
        for user in arrival.parties.users() {
            let within = thread.filter(|(_, thread)| thread.users.contains(&user)).map(|(id, _)| id);
            let mut notification = self.notification(arrival, user, within);
            notification.decision = self.known.decide(&notification, notification.created_at);
            // What is held is kept, for whoever asks why; nobody is told.
            let recipients = if notification.is_told() { vec![user] } else { Vec::new() };
            let actor = arrival.parties.seller.unwrap_or(arrival.parties.customer);
            events.push(self.event(actor, recipients, Body::Notification(notification)));
        }
        Ok(events)
    }

    fn event(&self, actor: UserId, recipients: Vec<UserId>, body: Body) -> Event {
        let (id, occurred_at) = (self.clock.fresh_id(), self.clock.now());
        Event { id, version: event::VERSION, actor, occurred_at, recipients, body }
    }

    fn entry(&self, arrival: &Arrival<'_>, conversation_id: ConversationId, seller: UserId) -> Message {
        let event = arrival.event;
        Message {
            id: event.key().entry(conversation_id),
            conversation_id,
            sender_id: seller,
            sender_name: self.people.of(seller).map(|user| user.name.to_string()).unwrap_or_default(),
            kind: Kind::Order,
            text: event.sentence(),
            reply_to: None,
            mentions: Vec::new(),
            entry: Some(Entry::Order {
                order_id: event.order.to_string(),
                status: event.status().to_string(),
                tracking_url: event.step.tracking_url.clone(),
            }),
            client_message_id: None,
            created_at: self.clock.now(),
        }
    }

    /// Undecided. Nobody is named as its sender: whoever blocks the seller hears of their order all the same.
    fn notification(&self, arrival: &Arrival<'_>, user_id: UserId, within: Option<ConversationId>) -> Notification {
        let event = arrival.event;
        let id = event.key().notification(user_id);
        Notification {
            id,
            user_id,
            entry_id: id,
            kind: notification::Kind::Order,
            title: format!("Order {}", event.order),
            body: event.sentence(),
            data: Data {
                conversation_id: within,
                order_id: Some(event.order.to_string()),
                status: Some(event.status().to_string()),
                ..Data::default()
            },
            decision: Decisions::default(),
            created_at: self.clock.now(),
        }
    }
}
