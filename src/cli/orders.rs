//! `shoptalk orders`: a sample of what other services publish.

use clap::{Args, Subcommand};

use super::dead::{Configured, configuration};
use super::print;
use crate::config::{BrokerConfig, Login, Source};
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::order::{OrderId, Status};
use crate::error::{Error, Result};
use crate::operate::orders::{STREAM, Sample};

/// What to do with orders.
#[derive(Debug, Subcommand)]
pub(super) enum Orders {
    /// Publish an order event as another service would, and print the broker's answer
    Publish(Publish),
}

/// The event.
#[derive(Debug, Args)]
pub(super) struct Publish {
    /// The shop's own id of the order
    #[arg(long, value_parser = order)]
    order: OrderId,
    /// created, paid, packed, shipped, delivered, cancelled or refunded
    #[arg(long, value_parser = status)]
    event: Status,
    /// Who buys: the id of an account, or its externalId
    #[arg(long)]
    customer: String,
    /// Who sells, likewise
    #[arg(long)]
    seller: Option<String>,
    /// What the order costs
    #[arg(long, default_value = "0")]
    total: String,
    /// In which currency (ISO 4217)
    #[arg(long, default_value = "EUR")]
    currency: String,
    /// Where the order can be followed
    #[arg(long)]
    tracking_url: Option<String>,
    /// A word for people
    #[arg(long)]
    note: Option<String>,
    /// The event's own id; one that was published before is not taken again. Follows from order and event if not given
    #[arg(long)]
    id: Option<String>,
    /// When it happened (RFC 3339); now if not given
    #[arg(long, value_parser = moment)]
    time: Option<Timestamp>,
    /// The broker, `nats://host:port`, where `COMMERCE_NATS_USER` logs in with `COMMERCE_NATS_PASSWORD` if the settings say so
    /// and the URL names nobody; if not given, Shoptalk itself publishes, as the settings say
    #[arg(long)]
    url: Option<String>,
}

fn order(text: &str) -> std::result::Result<OrderId, String> {
    text.parse().map_err(|error: Error| error.shown().to_owned())
}

fn status(text: &str) -> std::result::Result<Status, String> {
    text.parse().map_err(|error: Error| error.shown().to_owned())
}

fn moment(text: &str) -> std::result::Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "a time such as 2026-11-22T11:13:22Z is expected here".to_owned())
}

/// Who publishes. A password in a URL is the one that counts.
fn login(source: &Source) -> Option<Login> {
    let password = source.get("COMMERCE_NATS_PASSWORD").filter(|password| !password.is_empty())?.to_owned();
    let user = source.get("COMMERCE_NATS_USER").unwrap_or("commerce").to_owned();
    Some(Login::Password { user, password })
}

/// Does it.
pub(super) async fn orders(command: Orders, configured: Configured) -> Result<()> {
    let Orders::Publish(asked) = command;
    let config = match asked.url {
        // A service needs no settings but this.
        Some(url) => BrokerConfig::of_service(url, login(&Source::of_process(configured.config.as_deref())?)),
        None => configuration(configured.config.as_deref())?.broker,
    };
    let sample = Sample {
        order: asked.order,
        event: asked.event,
        id: asked.id,
        at: asked.time.unwrap_or_else(|| Clock::System.now()),
        customer: asked.customer,
        seller: asked.seller,
        total: asked.total,
        currency: asked.currency,
        tracking_url: asked.tracking_url,
        note: asked.note,
    };
    let (event, stored) = sample.publish(&config).await?;
    print(&format!("{}\n{event:#}\n", sample.subject()));
    print(&format!("stored: {STREAM} {} duplicate: {}\n", stored.seq, stored.duplicate));
    Ok(())
}
