//! A sample order event, published as another service would: to try an installation, or to see what a change looks like.

use serde_json::{Value, json};

use crate::broker::publish::Published;
use crate::broker::{self, topology::StreamName};
use crate::config::BrokerConfig;
use crate::consumer::order_event::{Raw, Reader};
use crate::domain::clock::Timestamp;
use crate::domain::order::{OrderId, Status};
use crate::error::Result;

/// What is said; the rest is as it is in most events.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Which order.
    pub order: OrderId,
    /// What happened to it.
    pub event: Status,
    /// Names the event; follows from the order and what happened if it is not given.
    pub id: Option<String>,
    /// When.
    pub at: Timestamp,
    /// Who buys.
    pub customer: String,
    /// Who sells.
    pub seller: Option<String>,
    /// What it costs.
    pub total: String,
    /// In which currency.
    pub currency: String,
    /// Where it can be followed.
    pub tracking_url: Option<String>,
    /// A word for people.
    pub note: Option<String>,
}

impl Sample {
    fn id(&self) -> String {
        self.id.clone().unwrap_or_else(|| format!("{}-{}", self.order, self.event))
    }

    /// The subject that it belongs on.
    #[must_use]
    pub fn subject(&self) -> String {
        format!("orders.{}.{}", self.order, self.event)
    }

    /// The event in the structured mode.
    #[must_use]
    pub fn event(&self) -> Value {
        let mut data = json!({
            "orderId": self.order.as_str(), "customerId": self.customer, "total": self.total, "currency": self.currency,
            "items": [],
        });
        let optional = [("sellerId", &self.seller), ("trackingUrl", &self.tracking_url), ("note", &self.note)];
        for (name, value) in optional {
            if let Some(value) = value {
                data[name] = value.as_str().into();
            }
        }
        json!({
            "specversion": "1.0",
            "id": self.id(),
            "source": "/shoptalk/orders-publish",
            "type": format!("shoptalk.sample.order.{}", self.event),
            "time": self.at.to_string(),
            "datacontenttype": "application/json",
            "data": data,
        })
    }

    /// Publishes it, unless it is wrong; returns what was published, and the broker's answer.
    pub async fn publish(&self, config: &BrokerConfig) -> Result<(Value, Published)> {
        let event = self.event();
        let payload = event.to_string();
        let subject = self.subject();
        // The same that it will be read by.
        Reader::new()?.read(Raw { subject: &subject, headers: &[], payload: payload.as_bytes() })?;
        let link = broker::connect(config).await?;
        let stored = link.publish_order(subject, &self.id(), payload.into()).await?;
        Ok((event, stored))
    }
}

/// The stream that takes it.
pub const STREAM: &str = StreamName::Orders.name();
