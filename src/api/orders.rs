//! `/orders`: what other services have told of orders.

use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};

use super::{Caller, Group, Reply};
use crate::domain::order::{Item, Step};
use crate::query::Queries;
use crate::query::orders::OrderView;

/// Something that was bought.
#[derive(Debug, Object)]
#[oai(rename = "OrderItem", rename_all = "camelCase", skip_serializing_if_is_none)]
struct ItemBody {
    /// The shop's own id of it.
    id: Option<String>,
    /// Its name.
    title: String,
    /// How many.
    quantity: u32,
    /// What one costs: a decimal number.
    price: Option<String>,
}

/// Something that happened to an order.
#[derive(Debug, Object)]
#[oai(rename = "OrderStep", rename_all = "camelCase", skip_serializing_if_is_none)]
struct StepBody {
    /// What: created, paid, packed, shipped, delivered, cancelled or refunded.
    status: String,
    /// When, as the service says that told of it.
    at: String,
    /// Which service told of it.
    source: String,
    /// Its own id of the event.
    id: String,
    /// A word for people.
    note: Option<String>,
}

/// An order.
#[derive(Debug, Object)]
#[oai(rename = "Order", rename_all = "camelCase", skip_serializing_if_is_none)]
struct OrderBody {
    /// The shop's own id of it.
    id: String,
    /// How far it is: the furthest of its timeline, in the order created, paid, packed, shipped, delivered, cancelled,
    /// refunded.
    status: String,
    /// Who buys.
    customer_id: String,
    /// Who sells.
    seller_id: Option<String>,
    /// What it costs: a decimal number.
    total: String,
    /// The currency (ISO 4217).
    currency: String,
    /// What was bought.
    items: Vec<ItemBody>,
    /// Where it can be followed.
    tracking_url: Option<String>,
    /// What happened, the first first.
    timeline: Vec<StepBody>,
    /// The conversation of customer and seller about it, if it is there and the caller may see it.
    conversation_id: Option<String>,
}

impl From<Item> for ItemBody {
    fn from(item: Item) -> Self {
        Self { id: item.id, title: item.title, quantity: item.quantity, price: item.price }
    }
}

impl From<&Step> for StepBody {
    fn from(step: &Step) -> Self {
        Self {
            status: step.place.status.to_string(),
            at: step.place.at.to_string(),
            source: step.source.clone(),
            id: step.id.clone(),
            note: step.note.clone(),
        }
    }
}

impl From<OrderView> for OrderBody {
    fn from(OrderView { order, conversation_id }: OrderView) -> Self {
        let timeline = order.timeline().into_iter().map(StepBody::from).collect();
        let status = order.status().map(|status| status.to_string()).unwrap_or_default();
        let (total, currency, items) = match order.details().cloned() {
            Some(details) => (details.total, details.currency, details.items),
            None => Default::default(),
        };
        Self {
            id: order.id.to_string(),
            status,
            customer_id: order.customer_id.to_string(),
            seller_id: order.seller_id.map(|seller| seller.to_string()),
            total,
            currency,
            items: items.into_iter().map(ItemBody::from).collect(),
            tracking_url: order.tracking_url().map(str::to_owned),
            timeline,
            conversation_id: conversation_id.map(|id| id.to_string()),
        }
    }
}

/// The resource.
pub struct OrdersApi;

#[OpenApi(prefix_path = "/orders", tag = "Group::Orders")]
impl OrdersApi {
    /// An order, for who buys it, who sells it, and agents
    #[oai(path = "/:id", method = "get", operation_id = "getOrder")]
    async fn get(
        &self,
        queries: Data<&Queries>,
        caller: Caller,
        /// The shop's own id of the order.
        id: Path<String>,
    ) -> Reply<Json<OrderBody>> {
        Ok(Json(queries.order(&caller.0, &id.parse()?).await?.into()))
    }
}
