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
    /// The conversation that customer and seller have about the order, if there is one.
    fn thread(&self, arrival: &Arrival<'_>) -> Result<Option<(Wanted, &Thread)>> {
        let Some(wanted) = Wanted::of(&arrival.event.order, arrival.parties, arrival.trace) else { return Ok(None) };
        match self.threads.get(&wanted.id()) {
            Some(Ok(there)) => Ok(Some((wanted, there))),
            Some(Err(error)) => Err(error.echo()),
            None => Ok(None),
        }
    }

    /// The entry in that conversation.
    pub(super) fn entry(&self, arrival: &Arrival<'_>) -> Result<Option<Event>> {
        let entry = |(wanted, thread): (Wanted, &Thread)| {
            let message = self.message(arrival, wanted.id(), wanted.seller);
            self.event(wanted.seller, thread.users.clone(), Body::Message(message))
        };
        Ok(self.thread(arrival)?.map(entry))
    }

    /// What the parties are told, once the log has the entry, at this place: whoever reads it there has read this as well.
    pub(super) fn notifications(&self, arrival: &Arrival<'_>, entry: Option<u64>) -> Result<Vec<Event>> {
        let thread = self.thread(arrival)?;
        let told = arrival.parties.users().map(|user| {
            let place = thread.as_ref().zip(entry);
            let within = place.filter(|((_, thread), _)| thread.users.contains(&user));
            let mut notification = self.notification(arrival, user, within.map(|((wanted, _), at)| (wanted.id(), at)));
            notification.decision = self.known.decide(&notification, notification.created_at);
            // What is held is kept, for whoever asks why; nobody is told.
            let recipients = if notification.is_told() { vec![user] } else { Vec::new() };
            let actor = arrival.parties.seller.unwrap_or(arrival.parties.customer);
            self.event(actor, recipients, Body::Notification(notification))
        });
        Ok(told.collect())
    }

    fn event(&self, actor: UserId, recipients: Vec<UserId>, body: Body) -> Event {
        let (id, occurred_at) = (self.clock.fresh_id(), self.clock.now());
        Event { id, version: event::VERSION, actor, occurred_at, recipients, body }
    }

    fn message(&self, arrival: &Arrival<'_>, conversation_id: ConversationId, seller: UserId) -> Message {
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
            attachments: Vec::new(),
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
    fn notification(
        &self,
        arrival: &Arrival<'_>,
        user_id: UserId,
        within: Option<(ConversationId, u64)>,
    ) -> Notification {
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
                conversation_id: within.map(|(id, _)| id),
                message_id: within.map(|(id, _)| event.key().entry(id)),
                message_seq: within.map(|(_, at)| at),
                order_id: Some(event.order.to_string()),
                status: Some(event.status().to_string()),
                ..Data::default()
            },
            decision: Decisions::default(),
            created_at: self.clock.now(),
        }
    }
}
