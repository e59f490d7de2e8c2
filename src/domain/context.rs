//! What a conversation is about: an order, a product or a store of the shop.

use serde::{Deserialize, Serialize};

use super::words::{TITLE_LIMIT, is_line, line};
use crate::error::{Error, Result};

/// Most characters of an id.
const ID_LIMIT: usize = 128;

/// What a conversation is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Context {
    /// The sort of thing.
    #[serde(rename = "type")]
    pub kind: ContextKind,
    /// The shop's own id of it.
    pub id: String,
    /// Its name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Its page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_url: Option<String>,
    /// What it costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
}

/// What something costs, as the shop says it. Nothing is ever computed from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// A decimal number, such as `19.90`.
    pub amount: String,
    /// The currency, such as `EUR` (ISO 4217).
    pub currency: String,
}

impl Price {
    fn is_good(&self) -> bool {
        let (whole, rest) = self.amount.split_once('.').unwrap_or((&self.amount, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits(whole)
            && digits(rest)
            && self.amount.len() <= 20
            && self.currency.len() == 3
            && self.currency.bytes().all(|byte| byte.is_ascii_uppercase())
    }
}

/// The sorts of things a conversation can be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContextKind {
    /// An order.
    Order,
    /// A product.
    Product,
    /// A store.
    Store,
}

impl ContextKind {
    /// The word, as on the wire.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Product => "product",
            Self::Store => "store",
        }
    }
}

impl std::str::FromStr for ContextKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = [Self::Order, Self::Product, Self::Store].into_iter().find(|kind| kind.word() == text);
        found.ok_or_else(|| Error::invalid("malformed_context", "contextType must be order, product or store"))
    }
}

impl Context {
    /// The same with one spelling of its id and title, composed (NFC) and trimmed: two spellings of one order are one
    /// conversation. A title of nothing is none.
    #[must_use]
    pub fn spelled(self) -> Self {
        let title = self.title.map(|title| line(&title)).filter(|title| !title.is_empty());
        Self { id: line(&self.id), title, ..self }
    }

    /// Refuses what would not fit a screen or is no link: ids of at most 128 characters, titles of 200, both in one line with
    /// something to be seen, http(s) links of 2,000.
    pub fn check(&self) -> Result<()> {
        let invalid = |what| Err(Error::invalid("malformed_context", what));
        if !is_line(&self.id, ID_LIMIT) {
            return invalid("context.id must have 1 to 128 characters that can be seen and no control characters");
        }
        if self.title.as_ref().is_some_and(|title| !is_line(title, TITLE_LIMIT)) {
            return invalid("context.title must have at most 200 characters and no control characters");
        }
        for link in [&self.url, &self.image_url].into_iter().flatten() {
            let web = link.starts_with("https://") || link.starts_with("http://");
            if !web || link.len() > 2_000 || link.chars().any(|c| c.is_control() || c.is_whitespace()) {
                return invalid("context links must be http or https URLs of at most 2,000 bytes");
            }
        }
        if self.price.as_ref().is_some_and(|price| !price.is_good()) {
            return invalid("context.price must have an amount such as 19.90 and a currency such as EUR (ISO 4217)");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Context {
        Context { kind: ContextKind::Order, id: "7".into(), title: None, url: None, image_url: None, price: None }
    }

    #[test]
    fn an_id_has_one_spelling_and_can_be_seen() {
        let named = |id: &str| Context { id: id.into(), ..order() }.spelled();
        assert_eq!(named(" caf\u{e9} "), named("cafe\u{301}"));
        for bad in ["", " ", "\u{200b}", "7\u{202e}", "7\u{2028}8", "7\n8"] {
            assert!(named(bad).check().is_err(), "{bad:?}");
        }
        let titled = |title: &str| Context { title: Some(title.into()), ..order() }.spelled();
        assert_eq!(titled(" ").title, None);
        assert!(titled("A lamp").check().is_ok() && titled("A \u{2067}lamp").check().is_err());
    }

    #[test]
    fn links_must_be_web_links() {
        let mut context = order();
        context.url = Some("javascript:alert(1)".into());
        assert!(context.check().is_err());
        context.url = Some("https://shop.test/orders/7".into());
        assert!(context.check().is_ok());
    }

    #[test]
    fn a_price_is_a_decimal_number_of_a_currency() {
        let price = |amount: &str, currency: &str| {
            let price = Price { amount: amount.into(), currency: currency.into() };
            Context { price: Some(price), ..order() }.check().is_ok()
        };
        assert!(price("19.90", "EUR") && price("5", "JPY"));
        for (amount, currency) in
            [("", "EUR"), ("-1", "EUR"), ("1.", "EUR"), ("1,5", "EUR"), ("1e9", "EUR"), ("1", "eur"), ("1", "EURO")]
        {
            assert!(!price(amount, currency), "{amount} {currency}");
        }
    }
}
