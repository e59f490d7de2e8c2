//! Whose an order event is, and whether its order takes it. Pure: what has to be known is asked before, for a whole batch.

use std::collections::HashMap;

use crate::domain::ids::UserId;
use crate::domain::order::{EVENT_LIMIT, Key, OrderEvent, OrderId};
use crate::domain::user::User;
use crate::error::{Code, Error, Result};
use crate::store::orders::Known;

/// What is known of the orders of a batch; grows with each event that is let in.
pub(super) type Orders = HashMap<OrderId, Known>;

/// The users of a batch, by what they may be called.
#[derive(Debug, Default)]
pub(super) struct People {
    by_id: HashMap<UserId, User>,
    by_external_id: HashMap<String, UserId>,
}

/// Who buys and who sells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parties {
    pub(super) customer: UserId,
    /// As the event or an earlier one says.
    pub(super) seller: Option<UserId>,
}

impl Parties {
    /// Both of them, or one.
    pub(super) fn users(self) -> impl Iterator<Item = UserId> {
        std::iter::once(self.customer).chain(self.seller)
    }
}

impl People {
    pub(super) fn add(&mut self, users: Vec<User>) {
        for user in users {
            if let Some(external) = &user.external_id {
                self.by_external_id.insert(external.to_string(), user.id);
            }
            self.by_id.insert(user.id, user);
        }
    }

    pub(super) fn of(&self, id: UserId) -> Option<&User> {
        self.by_id.get(&id)
    }

    fn called(&self, name: &str) -> Option<UserId> {
        match name.parse::<UserId>() {
            Ok(id) => self.by_id.contains_key(&id).then_some(id),
            Err(_) => self.by_external_id.get(name).copied(),
        }
    }
}

/// Lets an event in, or says why not. Those before it in the batch count as known.
pub(super) fn admit(event: &OrderEvent, people: &People, orders: &mut Orders) -> Result<Parties> {
    let nobody = |field| format!("{field} names nobody who has an account here");
    let customer =
        people.called(&event.customer).ok_or_else(|| Error::invalid("unknown_customer", nobody("data.customerId")))?;
    let found =
        |name: &str| people.called(name).ok_or_else(|| Error::invalid("unknown_seller", nobody("data.sellerId")));
    let named = event.seller.as_deref().map(found).transpose()?;
    let Some(known) = orders.get_mut(&event.order) else {
        let known = Known::new(customer);
        owns(&known, customer, named)?;
        let known = Known { seller_id: named, count: 1, keys: [event.key().clone()].into(), ..known };
        orders.insert(event.order.clone(), known);
        return Ok(Parties { customer, seller: named });
    };
    owns(known, customer, named)?;
    if !known.keys.contains(event.key()) {
        if known.count >= EVENT_LIMIT {
            let what = format!("an order has at most {EVENT_LIMIT} events");
            return Err(Error::new(Code::TooLarge, "too_many_order_events", what));
        }
        known.count += 1;
        known.keys.insert(event.key().clone());
    }
    known.seller_id = known.seller_id.or(named);
    Ok(Parties { customer, seller: known.seller_id })
}

/// Refuses an event that gives an order to somebody else, or to one user on both sides.
fn owns(known: &Known, customer: UserId, seller: Option<UserId>) -> Result<()> {
    let foreign = |field| {
        let what = format!("{field} is not the one that earlier events of this order have named");
        Err(Error::new(Code::Conflict, "foreign_order", what))
    };
    if known.customer_id != customer {
        return foreign("data.customerId");
    }
    if let (Some(known), Some(named)) = (known.seller_id, seller)
        && known != named
    {
        return foreign("data.sellerId");
    }
    if seller == Some(customer) {
        return Err(Error::invalid("invalid_field", "data.sellerId is wrong: the customer is named here as well"));
    }
    Ok(())
}

/// Whether everybody has been told of this event before.
pub(super) fn is_told(orders: &Orders, order: &OrderId, key: &Key) -> bool {
    orders.get(order).is_some_and(|known| known.told.contains(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::Timestamp;
    use crate::domain::order::{Details, Place, Status, Step};
    use crate::domain::user::Role;
    use crate::domain::words::{DisplayName, Email, ExternalId};

    fn user(bits: u128) -> UserId {
        UserId::from_bits(bits)
    }

    fn people() -> People {
        let account = |bits: u128, external: Option<&str>| User {
            id: user(bits),
            name: DisplayName::new("x").expect("a name"),
            email: Email::new("x@example.test").expect("an address"),
            role: Role::Buyer,
            external_id: external.map(|id| ExternalId::new(id).expect("an id")),
            created_at: Timestamp::zero(),
            last_seen_at: None,
        };
        let mut people = People::default();
        people.add(vec![account(1, Some("c-1")), account(2, Some("s-2")), account(3, None)]);
        people
    }

    fn event(number: usize, customer: &str, seller: Option<&str>) -> OrderEvent {
        let order: OrderId = "A-17".parse().expect("an id");
        let (source, id) = ("shop".to_owned(), number.to_string());
        let key = Key::of(&order, &source, &id);
        OrderEvent {
            order,
            step: Step {
                place: Place { at: Timestamp::zero(), status: Status::Paid, key },
                source,
                id,
                note: None,
                details: Details { total: "1".into(), currency: "EUR".into(), items: Vec::new() },
                tracking_url: None,
            },
            customer: customer.into(),
            seller: seller.map(str::to_owned),
        }
    }

    #[test]
    fn users_are_found_by_either_name() {
        let people = people();
        let (ours, theirs) = (user(1).to_string(), user(9).to_string());
        assert_eq!(people.called(&ours), Some(user(1)));
        assert_eq!(people.called("s-2"), Some(user(2)));
        assert_eq!(people.called(&theirs), None);
        assert_eq!(people.called("nobody"), None);
    }

    #[test]
    fn an_order_stays_with_its_parties() {
        let (people, mut orders) = (people(), Orders::new());
        let mut reason = |number, customer: &str, seller| {
            admit(&event(number, customer, seller), &people, &mut orders).map_err(|error| error.reason())
        };
        let third = user(3).to_string();
        assert_eq!(reason(0, "c-9", None), Err("unknown_customer"));
        assert_eq!(reason(0, "c-1", Some("s-9")), Err("unknown_seller"));
        assert_eq!(reason(0, "c-1", Some("c-1")), Err("invalid_field"));
        let alone = Parties { customer: user(1), seller: None };
        let both = Parties { seller: Some(user(2)), ..alone };
        assert_eq!(reason(1, "c-1", None), Ok(alone));
        assert_eq!(reason(2, "s-2", None), Err("foreign_order"));
        assert_eq!(reason(3, "c-1", Some("s-2")), Ok(both), "who sells may be said later");
        assert_eq!(reason(4, &user(1).to_string(), None), Ok(both), "and holds from then on");
        assert_eq!(reason(5, "c-1", Some(&third)), Err("foreign_order"));
    }

    #[test]
    fn an_order_has_a_bounded_number_of_events() {
        let (people, mut orders) = (people(), Orders::new());
        for number in 0..EVENT_LIMIT {
            admit(&event(number, "c-1", None), &people, &mut orders).expect("there is room");
        }
        let more = admit(&event(EVENT_LIMIT, "c-1", None), &people, &mut orders);
        assert_eq!(more.map_err(|error| error.reason()), Err("too_many_order_events"));
        assert!(admit(&event(7, "c-1", None), &people, &mut orders).is_ok(), "one that is there is no more");
    }
}
