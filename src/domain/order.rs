//! Orders: what other services say happened to them, folded into one state.
//!
//! Events of an order come in any order and any number of times. Each has a place, which follows from what it says and not
//! from when it came, and everything that is shown of an order follows from the set of its events and their places. So
//! adding events commutes and is idempotent: whatever came first, and however often, the state is the same.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::clock::Timestamp;
use super::context::{Context, ContextKind};
use super::conversation;
use super::ids::{ConversationId, MessageId, NotificationId, UserId};
use crate::error::{Error, Result};

/// Most characters of an order's id.
pub const ID_LIMIT: usize = 64;
/// Most events of one order.
pub const EVENT_LIMIT: usize = 200;

/// The shop's own id of an order: 1 to 64 of `A-Z a-z 0-9 _ -`, so that it can be a part of a subject.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(String);

impl OrderId {
    /// The id as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for OrderId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if text.is_empty() || text.len() > ID_LIMIT || !text.bytes().all(good) {
            let what = "an order's id has 1 to 64 of the characters A-Z, a-z, 0-9, _ and -";
            return Err(Error::invalid("malformed_order_id", what));
        }
        Ok(Self(text.to_owned()))
    }
}

/// What happened to an order, and what it is then; the furthest one counts, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// It was made.
    Created,
    /// It was paid for.
    Paid,
    /// It is ready to leave.
    Packed,
    /// It has left.
    Shipped,
    /// It has come.
    Delivered,
    /// It was called off.
    Cancelled,
    /// The money went back.
    Refunded,
}

impl Status {
    /// Every one of them, the least first.
    pub const ALL: [Self; 7] =
        [Self::Created, Self::Paid, Self::Packed, Self::Shipped, Self::Delivered, Self::Cancelled, Self::Refunded];

    /// The word, as on the wire and in subjects.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Paid => "paid",
            Self::Packed => "packed",
            Self::Shipped => "shipped",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
            Self::Refunded => "refunded",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Status {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|known| known.word() == text).ok_or_else(|| {
            let what = "an order is created, paid, packed, shipped, delivered, cancelled or refunded";
            Error::invalid("unknown_order_event", what)
        })
    }
}

/// Names an event of an order for ever: a hash of the order and of what CloudEvents identify an event by, so that one that is
/// published twice is one event.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// The key of an event, 32 hexadecimal digits.
    #[must_use]
    pub fn of(order: &OrderId, source: &str, id: &str) -> Self {
        let mut hash = Sha256::new();
        for part in [order.as_str(), source, id] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        let mut start = [0; 16];
        start.copy_from_slice(&digest[..16]);
        Self(format!("{:032x}", u128::from_be_bytes(start)))
    }

    /// A key as it was stored.
    #[must_use]
    pub const fn stored(text: String) -> Self {
        Self(text)
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of the entry that this event is in a conversation.
    #[must_use]
    pub fn entry(&self, conversation: ConversationId) -> MessageId {
        MessageId::derived(&[b"order", self.0.as_bytes(), &conversation.bits().to_be_bytes()])
    }

    /// The id of the notification that this event is to a user.
    #[must_use]
    pub fn notification(&self, user: UserId) -> NotificationId {
        NotificationId::derived(&[b"order notification", self.0.as_bytes(), &user.bits().to_be_bytes()])
    }
}

/// Where an event stands among those of its order: by its time, then by how far it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When it happened, as its publisher says.
    pub at: Timestamp,
    /// What happened.
    pub status: Status,
    /// Which event it is.
    pub key: Key,
}

/// What was bought.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// The shop's own id of it.
    pub id: Option<String>,
    /// Its name.
    pub title: String,
    /// How many.
    pub quantity: u32,
    /// What one costs: a decimal number.
    pub price: Option<String>,
}

/// What an order is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Details {
    /// What it costs: a decimal number. Nothing is ever computed from it.
    pub total: String,
    /// The currency (ISO 4217).
    pub currency: String,
    /// What was bought.
    pub items: Vec<Item>,
}

/// An event as its order keeps it: everything that it says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    /// Where it stands.
    pub place: Place,
    /// Who published it (CloudEvents `source`).
    pub source: String,
    /// Their id of it (CloudEvents `id`).
    pub id: String,
    /// A word for people.
    pub note: Option<String>,
    /// What the order is about.
    pub details: Details,
    /// Where it can be followed.
    pub tracking_url: Option<String>,
}

/// An event of an order as it came in, checked; whom it concerns is as its publisher names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderEvent {
    /// Which order.
    pub order: OrderId,
    /// What happened.
    pub step: Step,
    /// Who buys: an id of ours, or the shop's own.
    pub customer: String,
    /// Who sells, if anybody in particular does.
    pub seller: Option<String>,
}

impl OrderEvent {
    /// Which event it is.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.step.place.key
    }

    /// What happened.
    #[must_use]
    pub const fn status(&self) -> Status {
        self.step.place.status
    }

    /// What happened, for people.
    #[must_use]
    pub fn sentence(&self) -> String {
        format!("Order {} was {}", self.order, self.status())
    }
}

/// Everything that is known of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its id.
    pub id: OrderId,
    /// Who buys.
    pub customer_id: UserId,
    /// Who sells, if that is known.
    pub seller_id: Option<UserId>,
    /// Its events.
    pub steps: BTreeMap<Key, Step>,
}

impl Order {
    /// An order of which nothing is known but whose it is.
    #[must_use]
    pub const fn of(id: OrderId, customer_id: UserId, seller_id: Option<UserId>) -> Self {
        Self { id, customer_id, seller_id, steps: BTreeMap::new() }
    }

    /// Adds an event. Should a publisher say two things under one id, the later one by place counts, whichever came first.
    pub fn add(&mut self, step: &Step) {
        let known = self.steps.entry(step.place.key.clone()).or_insert_with(|| step.clone());
        if *known < *step {
            *known = step.clone();
        }
    }

    /// What it is about, as the last event by place says.
    #[must_use]
    pub fn details(&self) -> Option<&Details> {
        self.steps.values().max().map(|step| &step.details)
    }

    /// Where it can be followed, as the last event by place says that says so.
    #[must_use]
    pub fn tracking_url(&self) -> Option<&str> {
        self.steps.values().filter(|step| step.tracking_url.is_some()).max()?.tracking_url.as_deref()
    }

    /// How far it is.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.steps.values().map(|step| step.place.status).max()
    }

    /// What happened, the first first.
    #[must_use]
    pub fn timeline(&self) -> Vec<&Step> {
        let mut steps: Vec<&Step> = self.steps.values().collect();
        steps.sort_unstable();
        steps
    }

    /// Whether this user buys or sells it.
    #[must_use]
    pub fn concerns(&self, user: UserId) -> bool {
        self.customer_id == user || self.seller_id == Some(user)
    }
}

/// What a conversation about an order is about.
#[must_use]
pub fn context(order: &OrderId) -> Context {
    Context { kind: ContextKind::Order, id: order.to_string(), title: None, url: None, image_url: None, price: None }
}

/// The conversation of customer and seller about an order, whether it is there or not.
#[must_use]
pub fn thread(order: &OrderId, customer: UserId, seller: UserId) -> ConversationId {
    let mut users = [customer, seller];
    users.sort_unstable();
    conversation::id_of(&users, Some(&context(order)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order_id() -> OrderId {
        "A-17".parse().expect("an id")
    }

    fn event(number: usize, seconds: i64, status: Status, url: bool) -> OrderEvent {
        let id = number.to_string();
        let key = Key::of(&order_id(), "shop", &id);
        let place = Place { at: Timestamp::zero().plus_seconds(seconds), status, key };
        let details = Details { total: number.to_string(), currency: "EUR".into(), items: Vec::new() };
        let tracking_url = url.then(|| format!("https://shop.test/{number}"));
        OrderEvent {
            order: order_id(),
            step: Step { place, source: "shop".into(), id, note: None, details, tracking_url },
            customer: "c".into(),
            seller: None,
        }
    }

    fn folded<'a>(events: impl IntoIterator<Item = &'a OrderEvent>) -> Order {
        let mut order = Order::of(order_id(), UserId::from_bits(1), None);
        for event in events {
            order.add(&event.step);
        }
        order
    }

    fn events() -> impl Strategy<Value = Vec<OrderEvent>> {
        // Few numbers, so that publishers contradict themselves under one id as well.
        let one = (0..6_usize, 0..4_i64, prop::sample::select(Status::ALL.to_vec()), any::<bool>());
        prop::collection::vec(one.prop_map(|(number, at, status, url)| event(number, at, status, url)), 1..12)
    }

    proptest! {
        #[test]
        fn any_order_and_any_repetition_end_in_one_state(
            (events, shuffled) in events().prop_flat_map(|events| {
                let twice: Vec<OrderEvent> = events.iter().chain(&events).cloned().collect();
                (Just(events), Just(twice).prop_shuffle())
            }),
        ) {
            let (once, again) = (folded(&events), folded(&shuffled));
            prop_assert_eq!(&once, &again);
            prop_assert_eq!(once.status(), events.iter().filter(|event| {
                once.steps.get(event.key()) == Some(&event.step)
            }).map(OrderEvent::status).max());
            let timeline = once.timeline();
            prop_assert!(timeline.windows(2).all(|pair| pair[0].place < pair[1].place));
            prop_assert_eq!(timeline.len(), once.steps.len());
        }

        #[test]
        fn an_id_is_read_back_as_written_and_fits_a_subject(text in "\\PC{0,80}") {
            if let Ok(id) = text.parse::<OrderId>() {
                prop_assert_eq!(id.as_str(), text.as_str());
                prop_assert!(!text.contains(['.', '*', '>', ' ']));
            }
        }
    }

    #[test]
    fn the_furthest_step_is_the_status_and_the_last_details_count() {
        let events = [
            event(3, 30, Status::Shipped, true),
            event(1, 10, Status::Created, false),
            // Said late, by a publisher that was behind.
            event(2, 40, Status::Paid, false),
        ];
        let order = folded(&events);
        assert_eq!(order.status(), Some(Status::Shipped));
        let said: Vec<Status> = order.timeline().iter().map(|step| step.place.status).collect();
        assert_eq!(said, [Status::Created, Status::Shipped, Status::Paid]);
        assert_eq!(order.details().expect("details").total, "2");
        assert_eq!(order.tracking_url().expect("a link"), "https://shop.test/3", "the last that has one");
        assert_eq!(
            folded(&[event(1, 1, Status::Cancelled, false), event(2, 0, Status::Delivered, false)]).status(),
            Some(Status::Cancelled)
        );
    }

    #[test]
    fn a_key_tells_orders_sources_and_ids_apart() {
        let other: OrderId = "A-18".parse().expect("an id");
        let key = Key::of(&order_id(), "shop", "1");
        assert_eq!(key.as_str().len(), 32);
        assert_eq!(key, Key::of(&order_id(), "shop", "1"));
        for one in [Key::of(&other, "shop", "1"), Key::of(&order_id(), "sho", "p1"), Key::of(&order_id(), "shop", "2")]
        {
            assert_ne!(key, one);
        }
    }

    #[test]
    fn a_thread_is_the_one_that_either_of_them_would_open() {
        let (one, other) = (UserId::from_bits(1), UserId::from_bits(2));
        let opened = conversation::id_of(&[one, other], Some(&context(&order_id())));
        assert_eq!(thread(&order_id(), one, other), opened);
        assert_eq!(thread(&order_id(), other, one), opened);
    }
}
