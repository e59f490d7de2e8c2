//! `orders`: what is known of each order, a document that events of other services are added to.
//!
//! An event is a field of its order, named by its key, and what the last event says is kept with the place of that event:
//! both are set by `$max`, so that events may be added in any order and any number of times. What is shown follows from
//! it (`domain::order`). An order belongs to its first customer and seller; a write that finds another one there changes
//! nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::IntoFuture as _;

use futures_util::TryStreamExt as _;
use mongodb::bson::{Bson, DateTime, Document, doc, serialize_to_bson};
use mongodb::error::ErrorKind;
use mongodb::options::UpdateOneModel;
use serde::{Deserialize, Serialize};

use super::{DUPLICATE_KEY, PATIENCE, Store, away, bounded, failure, stored_time, time, unreadable};
use crate::domain::ids::UserId;
use crate::domain::order::{Details, Item, Key, Order, OrderEvent, OrderId, Place, Status, Step};
use crate::error::{Error, Result};

const NAME: &str = "orders";

/// Where the event stands that a value comes from. These fields come first in what is compared, and in this order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct PlaceDocument {
    at: DateTime,
    rank: i32,
    key: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct StepDocument {
    place: PlaceDocument,
    source: String,
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ItemDocument {
    title: String,
    quantity: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    price: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct DetailsDocument {
    place: PlaceDocument,
    total: String,
    currency: String,
    items: Vec<ItemDocument>,
}

#[derive(Debug, Serialize, Deserialize)]
struct TrackingDocument {
    place: PlaceDocument,
    url: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrderDocument {
    #[serde(rename = "_id")]
    id: String,
    customer_id: UserId,
    seller_id: Option<UserId>,
    #[serde(default)]
    events: BTreeMap<String, StepDocument>,
    details: Option<DetailsDocument>,
    tracking: Option<TrackingDocument>,
}

/// What a consumer has to know of an order before it adds to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Who buys.
    pub customer_id: UserId,
    /// Who sells, if that is known.
    pub seller_id: Option<UserId>,
    /// The events that it has.
    pub keys: HashSet<Key>,
    /// Those of them that everybody has been told of.
    pub told: HashSet<Key>,
}

/// Events to be added to one order.
#[derive(Debug)]
pub struct Addition<'a> {
    /// Which order.
    pub order: &'a OrderId,
    /// Who buys.
    pub customer_id: UserId,
    /// Who sells, if the events say so.
    pub seller_id: Option<UserId>,
    /// The events.
    pub events: Vec<&'a OrderEvent>,
}

impl From<&Place> for PlaceDocument {
    fn from(place: &Place) -> Self {
        Self { at: stored_time(place.at), rank: rank(place.status), key: place.key.as_str().to_owned() }
    }
}

/// The number that stands for a status, so that a later one is greater.
fn rank(status: Status) -> i32 {
    Status::ALL.into_iter().position(|known| known == status).and_then(|at| i32::try_from(at).ok()).unwrap_or_default()
}

impl PlaceDocument {
    fn into_place(self) -> Result<Place> {
        let status = usize::try_from(self.rank).ok().and_then(|at| Status::ALL.get(at).copied());
        let status = status.ok_or_else(|| Error::internal(format!("an order has the stored rank {}", self.rank)))?;
        Ok(Place { at: time(self.at), status, key: Key::stored(self.key) })
    }
}

impl StepDocument {
    fn of(step: &Step) -> Self {
        Self { place: (&step.place).into(), source: step.source.clone(), id: step.id.clone(), note: step.note.clone() }
    }

    fn into_step(self) -> Result<Step> {
        Ok(Step { place: self.place.into_place()?, source: self.source, id: self.id, note: self.note })
    }
}

impl DetailsDocument {
    fn of(place: &Place, details: &Details) -> Self {
        let item = |item: &Item| ItemDocument {
            title: item.title.clone(),
            quantity: item.quantity.into(),
            id: item.id.clone(),
            price: item.price.clone(),
        };
        Self {
            place: place.into(),
            total: details.total.clone(),
            currency: details.currency.clone(),
            items: details.items.iter().map(item).collect(),
        }
    }

    fn into_details(self) -> Result<(Place, Details)> {
        let item = |item: ItemDocument| Item {
            id: item.id,
            title: item.title,
            quantity: u32::try_from(item.quantity).unwrap_or_default(),
            price: item.price,
        };
        let items = self.items.into_iter().map(item).collect();
        Ok((self.place.into_place()?, Details { total: self.total, currency: self.currency, items }))
    }
}

impl OrderDocument {
    fn into_order(self) -> Result<Order> {
        let steps = self.events.into_values().map(|step| {
            let step = step.into_step()?;
            Ok((step.place.key.clone(), step))
        });
        Ok(Order {
            id: self.id.parse().map_err(unreadable("order"))?,
            customer_id: self.customer_id,
            seller_id: self.seller_id,
            steps: steps.collect::<Result<_>>()?,
            details: self.details.map(DetailsDocument::into_details).transpose()?,
            tracking_url: self.tracking.map(|one| Ok::<_, Error>((one.place.into_place()?, one.url))).transpose()?,
        })
    }
}

impl Addition<'_> {
    /// The order that this is for, if nobody else's, and what becomes of it.
    fn write(&self) -> Result<(Document, Document)> {
        let mut filter = doc! { "_id": self.order.as_str(), "customerId": self.customer_id.to_string() };
        let mut set = doc! { "customerId": self.customer_id.to_string() };
        if let Some(seller) = self.seller_id {
            // Null stands for an order of which nobody has said who sells.
            filter.insert("sellerId", doc! { "$in": [seller.to_string(), null] });
            set.insert("sellerId", seller.to_string());
        }
        let mut max = Document::new();
        let mut folded = Order::of(self.order.clone(), self.customer_id, self.seller_id);
        for event in &self.events {
            folded.add(event);
        }
        for (key, step) in &folded.steps {
            max.insert(format!("events.{}", key.as_str()), stored(&StepDocument::of(step))?);
        }
        if let Some((place, details)) = &folded.details {
            max.insert("details", stored(&DetailsDocument::of(place, details))?);
        }
        if let Some((place, url)) = &folded.tracking_url {
            max.insert("tracking", stored(&TrackingDocument { place: place.into(), url: url.clone() })?);
        }
        let keys: Vec<&str> = folded.steps.keys().map(Key::as_str).collect();
        Ok((filter, doc! { "$set": set, "$max": max, "$addToSet": { "keys": { "$each": keys } } }))
    }
}

fn stored(value: &impl Serialize) -> Result<Bson> {
    serialize_to_bson(value).map_err(Error::internal)
}

impl Store {
    /// An order, if it is known.
    pub async fn order(&self, id: &OrderId) -> Result<Option<Order>> {
        let orders = self.collection::<OrderDocument>(NAME);
        let found = self.read(orders.find_one(doc! { "_id": id.as_str() })).await?;
        found.map(OrderDocument::into_order).transpose()
    }

    /// What is known of these orders; unknown ones are left out.
    pub async fn known_orders(&self, ids: &[&OrderId]) -> Result<HashMap<OrderId, Known>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Row {
            #[serde(rename = "_id")]
            id: String,
            customer_id: UserId,
            seller_id: Option<UserId>,
            #[serde(default)]
            keys: Vec<String>,
            #[serde(default)]
            told: Vec<String>,
        }
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let ids: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
        let rows = self.collection::<Row>(NAME);
        let shown = doc! { "customerId": 1, "sellerId": 1, "keys": 1, "told": 1 };
        let found = bounded(async {
            rows.find(doc! { "_id": { "$in": ids } }).projection(shown).await?.try_collect::<Vec<_>>().await
        });
        let keys = |keys: Vec<String>| keys.into_iter().map(Key::stored).collect();
        let known = |row: Row| {
            let known = Known {
                customer_id: row.customer_id,
                seller_id: row.seller_id,
                keys: keys(row.keys),
                told: keys(row.told),
            };
            Ok((row.id.parse().map_err(unreadable("order"))?, known))
        };
        found.await?.into_iter().map(known).collect()
    }

    /// Adds events to orders, making those that are not there. Returns the places of the additions to which the stored order
    /// says no: it is somebody else's, or was made by another writer at this moment.
    pub async fn add_to_orders(&self, additions: &[Addition<'_>]) -> Result<Vec<usize>> {
        if additions.is_empty() {
            return Ok(Vec::new());
        }
        let mut models = Vec::with_capacity(additions.len());
        for addition in additions {
            let (filter, update) = addition.write()?;
            let model = UpdateOneModel::builder().namespace(self.namespace(NAME)).filter(filter).update(update);
            models.push(model.upsert(true).build());
        }
        let written = self.client.bulk_write(models).ordered(false).into_future();
        let error = match tokio::time::timeout(PATIENCE, written).await {
            Ok(Ok(_)) => return Ok(Vec::new()),
            Ok(Err(error)) => error,
            Err(late) => return Err(away().caused_by(late)),
        };
        match &*error.kind {
            ErrorKind::BulkWrite(failed)
                if failed.write_concern_errors.is_empty()
                    && !failed.write_errors.is_empty()
                    && failed.write_errors.values().all(|error| error.code == DUPLICATE_KEY) =>
            {
                Ok(failed.write_errors.keys().copied().collect())
            }
            _ => Err(failure(error)),
        }
    }

    /// Remembers that everybody has been told of these events of orders.
    pub async fn note_told(&self, told: &HashMap<&OrderId, Vec<&Key>>) -> Result<()> {
        if told.is_empty() {
            return Ok(());
        }
        let model = |(order, keys): (&&OrderId, &Vec<&Key>)| {
            let keys: Vec<&str> = keys.iter().map(|key| key.as_str()).collect();
            let update = doc! { "$addToSet": { "told": { "$each": keys } } };
            let model = UpdateOneModel::builder().namespace(self.namespace(NAME));
            model.filter(doc! { "_id": order.as_str() }).update(update).build()
        };
        let models: Vec<_> = told.iter().map(model).collect();
        bounded(self.client.bulk_write(models).ordered(false)).await.map(drop)
    }
}
