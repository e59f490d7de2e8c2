//! `orders`, `order_events`, `order_told`: whose an order is, what other services say of it, and what everybody was told.
//!
//! Nearly all of it is inserted and never changed, a batch in one write: an order with its first event, an event by its key, and
//! that everybody was told of it. So events may be added in any order and any number of times, and an update for each,
//! which would wait for the disk each time, is not needed. What is shown of an order follows from its events
//! (`domain::order`). An order belongs to its first customer and seller; a write that finds another one there changes
//! nothing.

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt as _;
use mongodb::bson::{Bson, DateTime, Document, doc, serialize_to_bson};
use serde::{Deserialize, Serialize};

use super::once::insert_missing;
use super::{Store, bounded, stored_time, time, unreadable};
use crate::domain::ids::UserId;
use crate::domain::order::{Details, EVENT_LIMIT, Item, Key, Order, OrderId, Place, Status, Step};
use crate::error::{Error, Result};

const ORDERS: &str = "orders";
const EVENTS: &str = "order_events";
const TOLD: &str = "order_told";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrderDocument {
    #[serde(rename = "_id")]
    id: String,
    customer_id: UserId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seller_id: Option<UserId>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventDocument {
    #[serde(rename = "_id")]
    key: String,
    order_id: String,
    said: SaidDocument,
}

/// What an event says. Of two under one key the greater one counts, as MongoDB compares documents: so the fields are in the
/// order of [`Step`], and one that says nothing is there as well.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SaidDocument {
    place: PlaceDocument,
    source: String,
    id: String,
    note: Option<String>,
    total: String,
    currency: String,
    #[serde(default)]
    items: Vec<ItemDocument>,
    tracking_url: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct PlaceDocument {
    at: DateTime,
    rank: i32,
    key: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct ItemDocument {
    id: Option<String>,
    title: String,
    quantity: i64,
    price: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ToldDocument {
    #[serde(rename = "_id")]
    key: String,
}

/// What a consumer has to know of an order before it adds to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Who buys.
    pub customer_id: UserId,
    /// Who sells, if that is known.
    pub seller_id: Option<UserId>,
    /// How many events it has.
    pub count: usize,
    /// Those that were asked for and are there, if it has nearly as many as it may have.
    pub keys: HashSet<Key>,
    /// Those that were asked for and that everybody has been told of.
    pub told: HashSet<Key>,
}

impl Known {
    /// An order of which nothing is known but who buys.
    #[must_use]
    pub fn new(customer_id: UserId) -> Self {
        Self { customer_id, seller_id: None, count: 0, keys: HashSet::new(), told: HashSet::new() }
    }
}

/// Events to be added to one order.
#[derive(Debug)]
pub struct Addition<'a> {
    /// Which order.
    pub order: &'a OrderId,
    /// Who buys.
    pub customer_id: UserId,
    /// Who sells, if that is known.
    pub seller_id: Option<UserId>,
    /// The order is known to be theirs: whose it is never changes.
    pub owned: bool,
    /// The events.
    pub steps: Vec<&'a Step>,
}

/// The number that stands for a status, so that a later one is greater.
fn rank(status: Status) -> i32 {
    Status::ALL.into_iter().position(|known| known == status).and_then(|at| i32::try_from(at).ok()).unwrap_or_default()
}

impl SaidDocument {
    fn of(step: &Step) -> Self {
        let Step { place, source, id, note, details, tracking_url } = step.clone();
        let item = |item: Item| ItemDocument {
            id: item.id,
            title: item.title,
            quantity: item.quantity.into(),
            price: item.price,
        };
        Self {
            place: PlaceDocument {
                at: stored_time(place.at),
                rank: rank(place.status),
                key: place.key.as_str().to_owned(),
            },
            source,
            id,
            note,
            total: details.total,
            currency: details.currency,
            items: details.items.into_iter().map(item).collect(),
            tracking_url,
        }
    }

    fn into_step(self) -> Result<Step> {
        let status = usize::try_from(self.place.rank).ok().and_then(|at| Status::ALL.get(at).copied());
        let status = status.ok_or_else(|| Error::internal(format!("an event has the rank {}", self.place.rank)))?;
        let item = |item: ItemDocument| Item {
            id: item.id,
            title: item.title,
            quantity: u32::try_from(item.quantity).unwrap_or_default(),
            price: item.price,
        };
        let items = self.items.into_iter().map(item).collect();
        Ok(Step {
            place: Place { at: time(self.place.at), status, key: Key::stored(self.place.key) },
            source: self.source,
            id: self.id,
            note: self.note,
            details: Details { total: self.total, currency: self.currency, items },
            tracking_url: self.tracking_url,
        })
    }
}

impl Store {
    /// An order, if it is known. Of what was bought only the last event is asked: each has the whole list.
    pub async fn order(&self, id: &OrderId) -> Result<Option<Order>> {
        let orders = self.collection::<OrderDocument>(ORDERS);
        let Some(found) = self.read(orders.find_one(doc! { "_id": id.as_str() })).await? else { return Ok(None) };
        let events = self.collection::<EventDocument>(EVENTS);
        let of_order = doc! { "orderId": id.as_str() };
        let all = self.read(async {
            let all = events.find(of_order.clone()).projection(doc! { "said.items": 0 });
            all.await?.try_collect::<Vec<_>>().await
        });
        let mut order = Order::of(id.clone(), found.customer_id, found.seller_id);
        for event in all.await? {
            order.add(&event.said.into_step()?);
        }
        let Some(last) = order.steps.values().max().map(|step| step.place.key.clone()) else { return Ok(Some(order)) };
        if let Some(last) = self.read(events.find_one(doc! { "_id": last.as_str() })).await? {
            order.add(&last.said.into_step()?);
        }
        Ok(Some(order))
    }

    /// What is known of orders, for those who want to add these events; unknown ones are left out.
    pub async fn known_orders(&self, asked: &[(&OrderId, &Key)]) -> Result<HashMap<OrderId, Known>> {
        let mut wanted: HashMap<&OrderId, usize> = HashMap::new();
        for (order, _) in asked {
            *wanted.entry(order).or_default() += 1;
        }
        let ids: Vec<&str> = wanted.keys().map(|id| id.as_str()).collect();
        let keys: Vec<&str> = asked.iter().map(|(_, key)| key.as_str()).collect();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let orders = self.collection::<OrderDocument>(ORDERS);
        let found =
            bounded(async { orders.find(doc! { "_id": { "$in": &ids } }).await?.try_collect::<Vec<_>>().await });
        let (found, counts, told) = tokio::try_join!(found, self.counts(&ids), self.there(TOLD, &keys))?;
        let mut known = HashMap::with_capacity(found.len());
        for order in found {
            let count = counts.get(&order.id).copied().unwrap_or(0);
            let one = Known { seller_id: order.seller_id, count, ..Known::new(order.customer_id) };
            known.insert(order.id.parse().map_err(unreadable("order"))?, one);
        }
        let is_full =
            |order: &OrderId| known.get(order).is_some_and(|one: &Known| one.count + wanted[order] > EVENT_LIMIT);
        let doubtful: Vec<&str> =
            asked.iter().filter(|(order, _)| is_full(order)).map(|(_, key)| key.as_str()).collect();
        let there = if doubtful.is_empty() { HashSet::new() } else { self.there(EVENTS, &doubtful).await? };
        for (order, key) in asked {
            if let Some(one) = known.get_mut(*order) {
                one.told.extend(told.contains(key.as_str()).then(|| (*key).clone()));
                one.keys.extend(there.contains(key.as_str()).then(|| (*key).clone()));
            }
        }
        Ok(known)
    }

    /// How many events orders have.
    async fn counts(&self, ids: &[&str]) -> Result<HashMap<String, usize>> {
        let events = self.collection::<Document>(EVENTS);
        let steps = [
            doc! { "$match": { "orderId": { "$in": ids } } },
            doc! { "$group": { "_id": "$orderId", "count": { "$sum": 1 } } },
        ];
        let found = bounded(async { events.aggregate(steps).await?.try_collect::<Vec<Document>>().await });
        let row = |row: Document| {
            let count = match row.get("count") {
                Some(Bson::Int32(count)) => usize::try_from(*count).ok(),
                Some(Bson::Int64(count)) => usize::try_from(*count).ok(),
                _ => None,
            };
            let order = row.get_str("_id").ok().map(str::to_owned);
            order.zip(count).ok_or_else(|| Error::internal("the database counts events in another way"))
        };
        found.await?.into_iter().map(row).collect()
    }

    /// Those of these keys that a collection has.
    async fn there(&self, collection: &str, keys: &[&str]) -> Result<HashSet<String>> {
        let rows = self.collection::<ToldDocument>(collection);
        let found = bounded(async {
            let there = rows.find(doc! { "_id": { "$in": keys } }).projection(doc! { "_id": 1 });
            there.await?.try_collect::<Vec<_>>().await
        });
        Ok(found.await?.into_iter().map(|row| row.key).collect())
    }

    /// Adds events to orders, making those that are not there. Returns the places of the additions to which the stored order
    /// says no: it is somebody else's, or was given to somebody by another writer at this moment.
    pub async fn add_to_orders(&self, additions: &[Addition<'_>]) -> Result<Vec<usize>> {
        let refused = self.own_orders(additions).await?;
        let taken = additions.iter().enumerate().filter(|(place, _)| !refused.contains(place));
        // Each once, the greater one: of two under one key, the first would be in the place of the other.
        let mut steps: HashMap<&Key, (&OrderId, &Step)> = HashMap::new();
        for (order, step) in taken.flat_map(|(_, one)| one.steps.iter().map(|step| (one.order, *step))) {
            let kept = steps.entry(&step.place.key).or_insert((order, step));
            if *kept.1 < *step {
                *kept = (order, step);
            }
        }
        let event = |(key, (order, step)): (&Key, (&OrderId, &Step))| EventDocument {
            key: key.as_str().to_owned(),
            order_id: order.to_string(),
            said: SaidDocument::of(step),
        };
        let events: Vec<EventDocument> = steps.into_iter().map(event).collect();
        let met = insert_missing(&self.collection::<EventDocument>(EVENTS), &events).await?;
        self.settle_events(met.into_iter().map(|place| &events[place]).collect()).await?;
        Ok(refused)
    }

    /// Makes orders their parties'. Returns the places of the additions to which the stored order says no.
    async fn own_orders(&self, additions: &[Addition<'_>]) -> Result<Vec<usize>> {
        let owned = |one: &Addition<'_>| OrderDocument {
            id: one.order.to_string(),
            customer_id: one.customer_id,
            seller_id: one.seller_id,
        };
        let places: Vec<usize> = (0..additions.len()).filter(|place| !additions[*place].owned).collect();
        let documents: Vec<OrderDocument> = places.iter().map(|place| owned(&additions[*place])).collect();
        let orders = self.collection::<OrderDocument>(ORDERS);
        let met = insert_missing(&orders, &documents).await?;
        if met.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<&str> = met.iter().map(|place| documents[*place].id.as_str()).collect();
        let found = bounded(async { orders.find(doc! { "_id": { "$in": ids } }).await?.try_collect::<Vec<_>>().await });
        let found: HashMap<String, OrderDocument> =
            found.await?.into_iter().map(|order| (order.id.clone(), order)).collect();
        let mut refused = Vec::new();
        for place in met {
            let wanted = &documents[place];
            let Some(there) = found.get(&wanted.id).filter(|there| there.customer_id == wanted.customer_id) else {
                refused.push(places[place]);
                continue;
            };
            match (there.seller_id, wanted.seller_id) {
                (_, None) => {}
                (Some(known), Some(named)) if known == named => {}
                (Some(_), Some(_)) => refused.push(places[place]),
                // Who sells is said once in the life of an order.
                (None, Some(named)) => {
                    let unsold = doc! { "_id": &wanted.id, "sellerId": { "$exists": false } };
                    let set = doc! { "$set": { "sellerId": named.to_string() } };
                    if bounded(orders.update_one(unsold, set)).await?.matched_count == 0 {
                        refused.push(places[place]);
                    }
                }
            }
        }
        Ok(refused)
    }

    /// Events that were there before: nearly always the same again. Should a publisher have said something else under one id,
    /// the greater one stays.
    async fn settle_events(&self, met: Vec<&EventDocument>) -> Result<()> {
        if met.is_empty() {
            return Ok(());
        }
        let events = self.collection::<EventDocument>(EVENTS);
        let keys: Vec<&str> = met.iter().map(|event| event.key.as_str()).collect();
        let there =
            bounded(async { events.find(doc! { "_id": { "$in": keys } }).await?.try_collect::<Vec<_>>().await });
        let there: HashMap<String, SaidDocument> =
            there.await?.into_iter().map(|event| (event.key, event.said)).collect();
        for event in met.into_iter().filter(|event| there.get(&event.key) != Some(&event.said)) {
            let said = serialize_to_bson(&event.said).map_err(Error::internal)?;
            let greater = doc! { "$max": { "said": said } };
            let events = self.collection::<Document>(EVENTS);
            bounded(events.update_one(doc! { "_id": &event.key }, greater)).await?;
        }
        Ok(())
    }

    /// Remembers that everybody has been told of these events of orders.
    pub async fn note_told(&self, told: &[&Key]) -> Result<()> {
        let documents: HashSet<&str> = told.iter().map(|key| key.as_str()).collect();
        let documents: Vec<ToldDocument> =
            documents.into_iter().map(|key| ToldDocument { key: key.to_owned() }).collect();
        insert_missing(&self.collection::<ToldDocument>(TOLD), &documents).await.map(drop)
    }
}
