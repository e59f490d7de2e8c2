//! Order events of other services, checked: by their subject, by `nats/order-event.schema.json`, and against each other.
//!
//! The schema is what publishers are given, and nothing is taken that it does not allow. A refusal names the field and says
//! what the schema says of it; what was published instead is never repeated.

use std::fmt::Write as _;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde::Deserialize;
use serde_json::{Number, Value};

use super::cloudevent;
use crate::domain::clock::Timestamp;
use crate::domain::order::{Details, Item, Key, OrderEvent, OrderId, Place, Status, Step};
use crate::error::{Error, Result};

/// The schema, as publishers read it.
pub const SCHEMA: &str = include_str!("../../nats/order-event.schema.json");

/// A message on a subject of ORDERS.
#[derive(Debug, Clone, Copy)]
pub struct Raw<'a> {
    /// Where it was published.
    pub subject: &'a str,
    /// Its headers.
    pub headers: &'a [(String, String)],
    /// Its payload.
    pub payload: &'a [u8],
}

/// Reads order events.
#[derive(Debug)]
pub struct Reader {
    schema: Value,
    validator: Validator,
}

#[derive(Deserialize)]
struct Envelope {
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    time: String,
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    order_id: String,
    customer_id: String,
    seller_id: Option<String>,
    total: Money,
    currency: String,
    items: Vec<ItemData>,
    tracking_url: Option<String>,
    note: Option<String>,
}

#[derive(Deserialize)]
struct ItemData {
    id: Option<String>,
    title: String,
    quantity: Number,
    price: Option<Money>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Money {
    Text(String),
    Number(Number),
}

/// The order and the event that a subject is about.
pub fn addressed(subject: &str) -> Result<(OrderId, Status)> {
    let mut words = subject.split('.');
    let (Some("orders"), Some(order), Some(event), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(wrong_subject());
    };
    Ok((order.parse().map_err(|_| wrong_subject())?, event.parse()?))
}

fn wrong_subject() -> Error {
    let shape = "the subject is not orders.<orderId>.<event>, with 1 to 64 of A-Z, a-z, 0-9, _ and - as orderId";
    Error::invalid("wrong_subject", shape)
}

impl Reader {
    /// Compiles the schema.
    pub fn new() -> Result<Self> {
        let schema: Value = serde_json::from_str(SCHEMA).map_err(Error::internal)?;
        // Expressions that take no longer for a longer text than that: what they look at comes from outside.
        let patterns = PatternOptions::regex();
        let options = jsonschema::draft202012::options().should_validate_formats(true).with_pattern_options(patterns);
        let validator = options.build(&schema).map_err(|error| Error::internal(error.to_string()))?;
        Ok(Self { schema, validator })
    }

    /// An event, or why it is none.
    pub fn read(&self, raw: Raw<'_>) -> Result<OrderEvent> {
        let (order, status) = addressed(raw.subject)?;
        let document = cloudevent::envelope(raw.headers, raw.payload)?;
        self.check(&document)?;
        let Envelope { id, source, kind, time, data } = Envelope::deserialize(document)
            .map_err(|error| Error::invalid("invalid_field", "the event cannot be read").caused_by(error))?;
        if data.order_id != order.as_str() {
            let what = "data.orderId is not the one of the subject";
            return Err(Error::invalid("order_id_mismatch", what));
        }
        if kind.rsplit('.').next() != Some(status.word()) {
            return Err(Error::invalid("type_mismatch", "type does not end in the event of the subject"));
        }
        let at = Timestamp::parse(&time).ok_or_else(|| invalid("time is wrong: when it happened, as in RFC 3339"))?;
        let place = Place { at, status, key: Key::of(&order, &source, &id) };
        let details = Details {
            total: data.total.decimal("data.total")?,
            currency: data.currency,
            items: data.items.into_iter().enumerate().map(ItemData::item).collect::<Result<_>>()?,
        };
        let (note, tracking_url) = (data.note.filter(|note| !note.is_empty()), data.tracking_url);
        let step = Step { place, source, id, note, details, tracking_url };
        Ok(OrderEvent { order, step, customer: data.customer_id, seller: data.seller_id })
    }

    /// Refuses what the schema does not allow; of several faults, the first one by the name of its field.
    fn check(&self, document: &Value) -> Result<()> {
        if self.validator.is_valid(document) {
            return Ok(());
        }
        let faults = self.validator.iter_errors(document).map(|fault| self.fault(&fault));
        let first = faults.min_by(|one, other| (one.shown(), one.reason()).cmp(&(other.shown(), other.reason())));
        Err(first.unwrap_or_else(|| invalid("the event is not as its schema wants it")))
    }

    fn fault(&self, fault: &ValidationError<'_>) -> Error {
        let field = named(fault.instance_path().as_str());
        match fault.kind() {
            ValidationErrorKind::Required { property } => {
                let property = property.as_str().unwrap_or_default();
                let dot = if field.is_empty() { "" } else { "." };
                Error::invalid("missing_field", format!("{field}{dot}{property} is missing"))
            }
            kind => {
                let whole = if field.is_empty() { "the event" } else { &field };
                let wanted = self.wanted(fault.instance_path().as_str(), fault.schema_path().as_str());
                if matches!(kind, ValidationErrorKind::Type { .. }) {
                    return Error::invalid("wrong_type", format!("{whole} has the wrong type: {wanted}"));
                }
                invalid(format!("{whole} is wrong: {wanted}"))
            }
        }
    }

    /// What the schema says of a field: at the member itself, or where that refers to.
    fn wanted(&self, instance: &str, keyword: &str) -> &str {
        let said = |pointer: &str| self.schema.pointer(pointer)?.get("description")?.as_str();
        let member = instance.rsplit('/').next().map(|name| format!("/properties/{name}"));
        let own = member.and_then(|pointer| said(&pointer));
        let general = keyword.rsplit_once('/').and_then(|(parent, _)| said(parent));
        general.or(own).unwrap_or("as in its schema")
    }
}

fn invalid(shown: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::invalid("invalid_field", shown)
}

/// A JSON pointer as people write it: `data.items[2].title`.
fn named(pointer: &str) -> String {
    let mut name = String::new();
    for word in pointer.split('/').skip(1) {
        if word.bytes().all(|byte| byte.is_ascii_digit()) {
            let _ = write!(name, "[{word}]");
        } else {
            if !name.is_empty() {
                name.push('.');
            }
            name.push_str(word);
        }
    }
    name
}

impl ItemData {
    fn item((place, Self { id, title, quantity, price }): (usize, Self)) -> Result<Item> {
        // For JSON, 2.0 is a whole number too.
        let whole = quantity.as_u64().or_else(|| format!("{:.0}", quantity.as_f64()?).parse().ok());
        let quantity = whole.and_then(|quantity| u32::try_from(quantity).ok());
        let quantity = quantity.ok_or_else(|| invalid(format!("data.items[{place}].quantity is wrong")))?;
        let price = price.map(|price| price.decimal(&format!("data.items[{place}].price"))).transpose()?;
        Ok(Item { id, title, quantity, price })
    }
}

impl Money {
    /// The decimal number as it is kept.
    fn decimal(self, field: &str) -> Result<String> {
        let text = match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        };
        let good = |digits: &str, most: usize| {
            (1..=most).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
        };
        let is_good = match text.split_once('.') {
            Some((whole, rest)) => good(whole, 15) && good(rest, 4),
            None => good(&text, 15),
        };
        if is_good {
            Ok(text)
        } else {
            Err(invalid(format!("{field} is wrong: a decimal number of at most 4 decimals")))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const SUBJECT: &str = "orders.A-17.shipped";

    fn event() -> Value {
        let schema: Value = serde_json::from_str(SCHEMA).expect("JSON");
        schema["examples"][0].clone()
    }

    fn read(subject: &str, event: &Value) -> Result<OrderEvent> {
        let payload = event.to_string();
        Reader::new().expect("a schema").read(Raw { subject, headers: &[], payload: payload.as_bytes() })
    }

    /// The example with another member; null takes it away.
    fn with(pointer: &str, value: Value) -> Value {
        let mut changed = event();
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        let parent = changed.pointer_mut(parent).expect("a parent");
        match (parent, value) {
            (Value::Object(members), Value::Null) => drop(members.remove(name)),
            (Value::Object(members), value) => drop(members.insert(name.into(), value)),
            _ => unreachable!("members of objects are changed"),
        }
        changed
    }

    #[test]
    fn the_example_of_the_schema_is_read() {
        let read = read(SUBJECT, &event()).expect("a good one");
        assert_eq!((read.order.as_str(), read.status()), ("A-17", Status::Shipped));
        assert_eq!(read.step.place.at.to_string(), "2026-11-22T11:13:22.000Z");
        assert_eq!((read.step.source.as_str(), read.step.id.as_str()), ("/shop/orders", "7a1d0c52"));
        assert_eq!(read.customer, "customer-4711");
        assert_eq!(read.seller.as_deref(), Some("usr_01M81FBWEET7HV0SQND4AXT73A"));
        assert_eq!((read.step.details.total.as_str(), read.step.details.currency.as_str()), ("59.80", "EUR"));
        let item =
            Item { id: Some("tea-1".into()), title: "Green tea".into(), quantity: 2, price: Some("29.90".into()) };
        assert_eq!(read.step.details.items, [item]);
        assert_eq!(read.sentence(), "Order A-17 was shipped");
    }

    #[test]
    fn what_may_be_there_may_be_missing_or_more() {
        for good in [
            with("/data/sellerId", Value::Null),
            with("/data/trackingUrl", Value::Null),
            with("/data/items", json!([])),
            with("/data/total", json!(19.99)),
            with("/data/total", json!(0)),
            with("/data/total", json!(99_999_999_999.0)),
            with("/data/total", json!(1.2345)),
            with("/data/note", json!("left with a neighbour")),
            with("/data/items", json!([{ "title": "x", "quantity": 2.0 }])),
            with("/datacontenttype", Value::Null),
            with("/datacontenttype", json!("application/vnd.shop+json; v=1")),
            with("/type", json!("shipped")),
            with("/time", json!("2026-11-22T12:13:22.123456+01:00")),
            with("/traceparent", json!("00-0-0-01")),
            with("/data/giftWrap", json!(true)),
        ] {
            assert!(read(SUBJECT, &good).is_ok(), "{good}: {:?}", read(SUBJECT, &good));
        }
        assert_eq!(read(SUBJECT, &with("/data/total", json!(19.9))).expect("good").step.details.total, "19.9");
    }

    #[test]
    fn each_fault_has_its_reason_and_names_its_field() {
        let long = |count: usize| json!("x".repeat(count));
        for (changed, reason, shown) in [
            (with("/specversion", Value::Null), "missing_field", "specversion is missing"),
            (with("/specversion", json!("0.3")), "invalid_field", "specversion is wrong"),
            (with("/id", Value::Null), "missing_field", "id is missing"),
            (with("/id", json!(7)), "wrong_type", "id has the wrong type"),
            (with("/id", json!("")), "invalid_field", "id is wrong: the publisher's own id"),
            (with("/source", long(257)), "invalid_field", "source is wrong: who publishes"),
            (with("/type", Value::Null), "missing_field", "type is missing"),
            (with("/type", json!("com.example.order.lost")), "invalid_field", "type is wrong"),
            (with("/type", json!("com.example.order.paid")), "type_mismatch", "type does not end in"),
            (with("/time", Value::Null), "missing_field", "time is missing"),
            (with("/time", json!("yesterday")), "invalid_field", "time is wrong: when it happened"),
            (with("/time", json!("2026-02-30T00:00:00Z")), "invalid_field", "time is wrong"),
            (with("/datacontenttype", json!("text/xml")), "invalid_field", "datacontenttype is wrong"),
            (with("/data", Value::Null), "missing_field", "data is missing"),
            (with("/data", json!("A-17")), "wrong_type", "data has the wrong type"),
            (with("/data/orderId", Value::Null), "missing_field", "data.orderId is missing"),
            (with("/data/orderId", json!("A-18")), "order_id_mismatch", "data.orderId is not the one"),
            (with("/data/orderId", json!("A.17")), "invalid_field", "data.orderId is wrong"),
            (with("/data/customerId", Value::Null), "missing_field", "data.customerId is missing"),
            (with("/data/customerId", json!(["a"])), "wrong_type", "data.customerId has the wrong type: a user"),
            (with("/data/customerId", json!("")), "invalid_field", "data.customerId is wrong: a user"),
            (with("/data/sellerId", json!(false)), "wrong_type", "data.sellerId has the wrong type"),
            (with("/data/total", Value::Null), "missing_field", "data.total is missing"),
            (with("/data/total", json!({})), "wrong_type", "data.total has the wrong type: a decimal number"),
            (with("/data/total", json!("1.23456")), "invalid_field", "data.total is wrong"),
            (with("/data/total", json!(1.23456)), "invalid_field", "data.total is wrong"),
            (with("/data/total", json!(-1)), "invalid_field", "data.total is wrong"),
            (with("/data/total", json!("-1")), "invalid_field", "data.total is wrong"),
            (with("/data/total", json!(1e11)), "invalid_field", "data.total is wrong"),
            (with("/data/total", json!(-0.0)), "invalid_field", "data.total is wrong"),
            (with("/data/currency", json!("eur")), "invalid_field", "data.currency is wrong: three capital letters"),
            (with("/data/items", json!({})), "wrong_type", "data.items has the wrong type"),
            (
                with("/data/items", json!(vec![json!({ "title": "x", "quantity": 1 }); 201])),
                "invalid_field",
                "data.items is wrong: a list",
            ),
            (with("/data/items", json!([1])), "wrong_type", "data.items[0] has the wrong type"),
            (with("/data/items", json!([{ "title": "x" }])), "missing_field", "data.items[0].quantity is missing"),
            (
                with("/data/items", json!([{ "title": "x", "quantity": 1.5 }])),
                "wrong_type",
                "data.items[0].quantity has the wrong type: a whole number",
            ),
            (
                with("/data/items", json!([{ "title": "x", "quantity": 0 }])),
                "invalid_field",
                "data.items[0].quantity is wrong",
            ),
            (
                with("/data/items", json!([{ "title": "x", "quantity": 1 }, { "title": "a\nb", "quantity": 1 }])),
                "invalid_field",
                "data.items[1].title is wrong",
            ),
            (
                with("/data/items", json!([{ "title": "x", "quantity": 1, "price": true }])),
                "wrong_type",
                "data.items[0].price has the wrong type",
            ),
            (
                with("/data/trackingUrl", json!("javascript:alert(1)")),
                "invalid_field",
                "data.trackingUrl is wrong: an http",
            ),
            (with("/data/trackingUrl", json!("https://a b")), "invalid_field", "data.trackingUrl is wrong"),
            (with("/data/note", long(501)), "invalid_field", "data.note is wrong"),
            (json!([]), "wrong_type", "the event has the wrong type"),
            (Value::Null, "wrong_type", "the event has the wrong type"),
        ] {
            let why = read(SUBJECT, &changed).expect_err("a bad one");
            assert_eq!(why.reason(), reason, "{why}: {changed:.300}");
            assert!(why.shown().starts_with(shown), "{why} is not {shown}");
        }
    }

    #[test]
    fn a_subject_is_of_an_order_and_an_event() {
        let reason = |subject: &str| read(subject, &event()).expect_err("a bad one").reason();
        let long = format!("orders.{}.shipped", "x".repeat(65));
        for subject in
            ["orders.A-17", "orders.A-17.shipped.now", "orders.Ä.shipped", "orders..shipped", "chat.a.b", &long]
        {
            assert_eq!(reason(subject), "wrong_subject", "{subject}");
        }
        assert_eq!(reason("orders.A-17.lost"), "unknown_order_event");
        assert_eq!(reason("orders.A-17.Shipped"), "unknown_order_event");
        assert_eq!(reason("orders.A-18.shipped"), "order_id_mismatch");
        assert_eq!(reason("orders.A-17.paid"), "type_mismatch");
    }

    #[test]
    fn of_several_faults_one_is_named_always_the_same() {
        let bad = json!({ "data": { "orderId": 1, "items": [{}, 5] } });
        let first = read(SUBJECT, &bad).expect_err("a bad one").shown().to_owned();
        assert_eq!(first, "data.currency is missing");
    }

    #[test]
    fn the_binary_mode_says_the_same() {
        let mut envelope = event();
        let data = envelope["data"].take().to_string();
        let members = envelope.as_object().expect("an object").iter().filter(|(_, value)| !value.is_null());
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let headers: Vec<_> = members.map(|(name, value)| (format!("ce-{name}"), text(value))).collect();
        let raw = Raw { subject: SUBJECT, headers: &headers, payload: data.as_bytes() };
        assert_eq!(Reader::new().expect("a schema").read(raw).ok(), read(SUBJECT, &event()).ok());
        let fewer: Vec<_> = headers.iter().filter(|(name, _)| name != "ce-id").cloned().collect();
        let raw = Raw { headers: &fewer, ..raw };
        let why = Reader::new().expect("a schema").read(raw).expect_err("one is missing");
        assert_eq!((why.reason(), why.shown()), ("missing_field", "id is missing"));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
            "[0-9.]{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("title|quantity|price|id", inner, 0..4)
                    .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// What the schema allows, the types take: there is no third opinion.
        #[test]
        fn what_the_schema_allows_is_read(
            place in prop::sample::select(vec![
                "/id", "/source", "/time", "/datacontenttype", "/data/customerId", "/data/sellerId", "/data/total",
                "/data/currency", "/data/items", "/data/trackingUrl", "/data/note",
            ]),
            value in any_json(),
        ) {
            let changed = with(place, value);
            let reader = Reader::new().expect("a schema");
            let allowed = reader.check(&changed).is_ok();
            prop_assert_eq!(allowed, read(SUBJECT, &changed).is_ok(), "{}", changed);
        }
    }
}
