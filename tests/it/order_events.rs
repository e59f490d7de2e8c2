//! What other services say of orders, from their credentials to what customers and sellers see.

use async_nats::jetstream;
use futures_util::future::join_all;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use serde_json::{Value, json};
use shoptalk::app::Roles;
use shoptalk::domain::clock::random_bits;

use crate::operate::shoptalk;
use crate::support::client::Person;
use crate::support::commerce::{Commerce, Told, entries, head, letters, settled, told};
use crate::support::until;
use crate::support::world::World;

const STEPS: [&str; 5] = ["created", "paid", "packed", "shipped", "delivered"];

fn event<'a>(order: &'a str, number: u32, customer: &'a Person, seller: Option<&'a Person>) -> Told<'a> {
    let event = STEPS[number as usize % STEPS.len()];
    Told { order, event, number, customer: &customer.id, seller: seller.map(|seller| seller.id.as_str()) }
}

async fn order(person: &Person, id: &str) -> Value {
    let (status, order) = person.get(&format!("/api/orders/{id}")).await;
    assert_eq!(status, 200, "{order}");
    order
}

fn pairs(order: &str, steps: &[&str]) -> Vec<(String, String)> {
    steps.iter().map(|step| (order.to_owned(), (*step).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_parties_are_told_and_see_the_order() {
    let world = World::start().await;
    let (ana, ben) = (world.person("Ana").await, world.person("Ben").await);
    let commerce = Commerce::of(&world.tenant).await;
    let mut socket = ana.socket().await;
    commerce.tell(&event("A-17", 0, &ana, Some(&ben))).await;
    let frame = socket.next("notification").await;
    assert_eq!((&frame["kind"], &frame["title"]), (&json!("order"), &json!("Order A-17")), "{frame}");
    assert_eq!(frame["body"], "Order A-17 was created");
    assert_eq!(frame["data"], json!({ "orderId": "A-17", "status": "created" }));
    // The other way to write the same thing, without the seller, who is known by now.
    let paid = Told { event: "paid", ..event("A-17", 1, &ana, None) };
    let json = paid.json();
    let headers =
        ["specversion", "id", "source", "type", "time"].map(|name| (format!("ce-{name}"), json[name].as_str()));
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.expect("a text"))).collect();
    commerce.publish(&paid.subject(), &headers, json["data"].to_string().into()).await;
    settled(&world.tenant).await;
    for person in [&ana, &ben] {
        assert_eq!(told(person).await, pairs("A-17", &["created", "paid"]));
        let order = order(person, "A-17").await;
        assert_eq!(
            (&order["status"], &order["customerId"], &order["sellerId"]),
            (&json!("paid"), &json!(ana.id), &json!(ben.id))
        );
        assert_eq!(
            order["timeline"][1],
            json!({ "status": "paid", "at": "2026-11-22T10:00:01.000Z", "source": "/shop/orders", "id": "A-17-1" })
        );
        assert!(order.get("conversationId").is_none(), "{order}");
    }
    assert_eq!(letters(&world.tenant).await, []);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_an_entry_in_the_conversation_about_its_order() {
    let world = World::start().await;
    let (ana, ben) = (world.person("Ana").await, world.person("Ben").await);
    let open = json!({ "recipientId": ben.id, "context": { "type": "order", "id": "A-17" } });
    let (_, opened) = ana.post("/api/conversations", &open).await;
    let here = opened["id"].as_str().expect("an id");
    let commerce = Commerce::of(&world.tenant).await;
    let mut socket = ana.socket().await;
    let mut shipped = event("A-17", 3, &ana, Some(&ben)).json();
    shipped["data"]["trackingUrl"] = "https://parcels.example/1".into();
    let publish = async |event: &Value| commerce.publish("orders.A-17.shipped", &[], event.to_string().into()).await;
    publish(&shipped).await;
    let frame = socket.next("message").await;
    let entry =
        json!({ "type": "order", "orderId": "A-17", "status": "shipped", "trackingUrl": "https://parcels.example/1" });
    assert_eq!(
        (&frame["kind"], &frame["entry"], &frame["senderId"]),
        (&json!("order"), &entry, &json!(ben.id)),
        "{frame}"
    );
    publish(&shipped).await;
    settled(&world.tenant).await;
    assert_eq!(entries(&ana, here).await, ["Order A-17 was shipped"]);
    for person in [&ana, &ben] {
        assert_eq!(order(person, "A-17").await["conversationId"], here);
        let (_, page) = person.get("/api/notifications").await;
        let items = page["items"].as_array().expect("a page");
        assert_eq!(items.len(), 1, "nobody is notified of the entry as of a message: {page}");
        let data = json!({
            "orderId": "A-17", "status": "shipped", "conversationId": here, "messageId": frame["id"], "messageSeq": frame["seq"],
        });
        assert_eq!(items[0]["data"], data);
        let (_, list) = person.get("/api/conversations").await;
        assert_eq!(list["items"][0]["unread"], 0, "{list}");
        // Whoever reads the entry has read what they were told of it.
        assert_eq!(person.get("/api/notifications/unread-count").await.1["unread"], 1);
        let (status, read) = person.post(&format!("/api/conversations/{here}/read"), &json!({})).await;
        assert_eq!(status, 200, "{read}");
        assert_eq!(person.get("/api/notifications/unread-count").await.1["unread"], 0);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_is_opened_where_the_shop_wants_it() {
    let world = World::with(Roles::ALL, &[("ORDERS_OPEN_CONVERSATIONS", "true")]).await;
    let (ana, ben, eve) = (world.person("Ana").await, world.person("Ben").await, world.person("Eve").await);
    assert_eq!(ana.put(&format!("/api/users/me/blocks/{}", eve.id)).await.0, 204);
    let commerce = Commerce::of(&world.tenant).await;
    for number in 0..3 {
        commerce.tell(&event("A-17", number, &ana, Some(&ben))).await;
        commerce.tell(&event("A-18", number, &ana, Some(&eve))).await;
        commerce.tell(&event("A-19", number, &ana, None)).await;
    }
    settled(&world.tenant).await;
    let here = order(&ana, "A-17").await["conversationId"].as_str().expect("it is there").to_owned();
    assert_eq!(entries(&ben, &here).await.len(), 3);
    // The one that either of them would have opened.
    let open = json!({ "recipientId": ben.id, "context": { "type": "order", "id": "A-17" } });
    let (status, found) = ana.post("/api/conversations", &open).await;
    assert_eq!((status, &found["id"], &found["context"]["id"]), (200, &json!(here), &json!("A-17")), "{found}");
    // Not between those who do not want to talk, who hear of the order all the same; and not with nobody.
    for id in ["A-18", "A-19"] {
        assert!(order(&ana, id).await.get("conversationId").is_none());
    }
    assert_eq!(told(&eve).await, pairs("A-18", &STEPS[..3]));
    assert_eq!(told(&ana).await.len(), 9);
    assert_eq!(eve.get("/api/conversations").await.1["items"], json!([]));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disorder_repetition_and_a_replay_of_everything_change_nothing() {
    let mut world = World::with(Roles::ALL, &[("ORDERS_OPEN_CONVERSATIONS", "true"), ("DEDUP_SECONDS", "1")]).await;
    let (ana, ben) = (world.person("Ana").await, world.person("Ben").await);
    let commerce = Commerce::of(&world.tenant).await;
    let orders = ["A-1", "A-2", "A-3", "A-4"];
    let events = orders.iter().flat_map(|order| (0..5).map(|number| event(order, number, &ana, Some(&ben))));
    let mut twice: Vec<Told<'_>> = events.clone().chain(events).collect();
    let seed = u64::try_from(random_bits() >> 96).expect("32 bits");
    eprintln!("seed {seed}");
    twice.shuffle(&mut StdRng::seed_from_u64(seed));
    for told in &twice {
        commerce.publish(&told.subject(), &[], told.json().to_string().into()).await;
    }
    commerce.tell(&twice[0]).await;
    settled(&world.tenant).await;
    let seen = async |ana: &Person, ben: &Person| {
        let mut seen = Vec::new();
        for id in orders {
            let order = order(ana, id).await;
            assert_eq!(order["status"], "delivered", "{order}");
            let timeline = order["timeline"].as_array().expect("a timeline").iter();
            assert!(timeline.map(|step| step["status"].as_str().expect("a word")).eq(STEPS), "{order}");
            let mut entries = entries(ben, order["conversationId"].as_str().expect("it is there")).await;
            entries.sort();
            assert_eq!(entries.len(), 5, "{entries:?}");
            seen.push((order, entries));
        }
        (seen, told(ana).await, told(ben).await)
    };
    let before = seen(&ana, &ben).await;
    assert_eq!((before.1.len(), before.2.len()), (20, 20));
    // The broker forgets what it was told, which saves nobody from now on.
    until("a repeated event is a new one", async || commerce.is_known(&twice[0]).await, |known| !known).await;
    settled(&world.tenant).await;
    let last = head(&world.tenant, "EVENTS").await;

    // Everything again from its beginning, as for a broker whose consumer was lost.
    world.app.take().expect("it runs").stop().await.expect("a clean stop");
    let broker = jetstream::new(world.tenant.broker().await);
    let stream = broker.get_stream("ORDERS").await.expect("the stream");
    assert!(stream.delete_consumer("orders").await.expect("deleted").success);
    let again = world.another(Roles::ALL).await;
    let (ana, ben) = (ana.at(again.address), ben.at(again.address));
    settled(&world.tenant).await;
    assert_eq!(seen(&ana, &ben).await, before);
    assert_eq!(head(&world.tenant, "EVENTS").await, last, "nothing was said again");
    assert_eq!(letters(&world.tenant).await, []);
    again.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_dead_with_its_reason_and_the_rest_goes_on() {
    let world = World::start().await;
    let (ana, ben, eve) = (world.person("Ana").await, world.person("Ben").await, world.person("Eve").await);
    let commerce = Commerce::of(&world.tenant).await;
    commerce.tell(&event("A-17", 0, &ana, Some(&ben))).await;
    settled(&world.tenant).await;
    let good = event("A-17", 1, &ana, Some(&ben));
    let with = |pointer: &str, value: Value| {
        let mut changed = good.json();
        *changed.pointer_mut(pointer).expect("a member") = value;
        changed.to_string().into_bytes()
    };
    let mut unnamed = good.json();
    unnamed["data"].as_object_mut().expect("an object").remove("customerId");
    // White space is JSON too.
    let large = [good.json().to_string().into_bytes(), vec![b' '; (1 << 20) - 2_048]].concat();
    let plain = || good.json().to_string().into_bytes();
    let foreign = event("A-17", 1, &eve, None).json().to_string().into_bytes();
    let other = event("A-17", 1, &ana, Some(&eve)).json().to_string().into_bytes();
    let wrong = [
        ("orders.A-17.paid.now", plain(), "wrong_subject", "orders.<orderId>.<event>"),
        ("orders.A-17", plain(), "wrong_subject", "orders.<orderId>.<event>"),
        ("orders.A-17.lost", plain(), "unknown_order_event", "created, paid"),
        ("orders.A-17.paid", large, "too_large", "256 KiB"),
        ("orders.A-17.paid", b"{\"id\":".to_vec(), "not_json", "line 1"),
        ("orders.A-17.paid", unnamed.to_string().into(), "missing_field", "data.customerId is missing"),
        ("orders.A-17.paid", with("/data/items/0/quantity", "2".into()), "wrong_type", "data.items[0].quantity"),
        ("orders.A-17.paid", with("/data/currency", "euro".into()), "invalid_field", "data.currency"),
        ("orders.A-18.paid", plain(), "order_id_mismatch", "data.orderId"),
        ("orders.A-17.shipped", plain(), "type_mismatch", "type"),
        ("orders.A-17.paid", with("/data/customerId", "nobody".into()), "unknown_customer", "data.customerId"),
        (
            "orders.A-17.paid",
            with("/data/customerId", "usr_00000000000000000000000009".into()),
            "unknown_customer",
            "data.customerId",
        ),
        ("orders.A-17.paid", with("/data/sellerId", "nobody".into()), "unknown_seller", "data.sellerId"),
        ("orders.A-17.paid", with("/data/sellerId", ana.id.clone().into()), "foreign_order", "data.sellerId"),
        ("orders.A-17.paid", foreign, "foreign_order", "data.customerId"),
        ("orders.A-17.paid", other, "foreign_order", "data.sellerId"),
    ];
    let mut expected = Vec::new();
    for (subject, payload, reason, _) in &wrong {
        expected.push((commerce.publish(subject, &[], payload.clone()).await, (*reason).to_owned()));
    }
    commerce.tell(&good).await;
    settled(&world.tenant).await;
    let mut dead = letters(&world.tenant).await;
    dead.sort();
    let found: Vec<(u64, String)> = dead.iter().map(|(seq, reason, _)| (*seq, reason.clone())).collect();
    assert_eq!(found, expected);
    for ((_, reason, error), (.., field)) in dead.iter().zip(&wrong) {
        assert!(error.starts_with(reason.as_str()) && error.contains(field), "{error} does not name {field}");
    }
    assert_eq!(order(&ana, "A-17").await["status"], "paid");
    assert_eq!(told(&ana).await, pairs("A-17", &["created", "paid"]));
    assert_eq!(told(&eve).await, []);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_takes_a_bounded_number_of_events() {
    let world = World::start().await;
    let ana = world.person("Ana").await;
    let commerce = Commerce::of(&world.tenant).await;
    for number in 0..200 {
        commerce.tell(&event("A-17", number, &ana, None)).await;
    }
    settled(&world.tenant).await;
    // In one batch, or nearly: each order is counted for itself.
    let few: Vec<_> = (0..2).map(|number| event("A-18", number, &ana, None)).collect();
    let full = event("A-17", 200, &ana, None);
    join_all([&full, &few[0], &few[1]].map(|told| commerce.tell(told))).await;
    settled(&world.tenant).await;
    let dead = letters(&world.tenant).await;
    assert_eq!(
        dead.iter().map(|(_, reason, error)| (reason.as_str(), error.contains("200"))).collect::<Vec<_>>(),
        [("too_many_order_events", true)]
    );
    assert_eq!(order(&ana, "A-18").await["timeline"].as_array().map(Vec::len), Some(2));
    assert_eq!(order(&ana, "A-17").await["timeline"].as_array().map(Vec::len), Some(200));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_is_replayed_once_its_customer_has_an_account() {
    let world = World::start().await;
    let ben = world.person("Ben").await;
    let commerce = Commerce::of(&world.tenant).await;
    let first = Told { order: "A-17", event: "created", number: 0, customer: "customer-4711", seller: Some(&ben.id) };
    commerce.tell(&first).await;
    settled(&world.tenant).await;
    assert_eq!(letters(&world.tenant).await[0].1, "unknown_customer");
    let early = shoptalk(&world.tenant, &["dead", "replay", "--all", "--consumer", "orders"]).await;
    assert!(!early.good && early.text().contains("unknown_customer"), "{early:?}");

    let ana = world.person("Ana").await;
    let named = shoptalk(&world.tenant, &["users", "external", &ana.email, "customer-4711"]).await;
    assert!(named.good, "{named:?}");
    let replayed = shoptalk(&world.tenant, &["dead", "replay", "--all"]).await;
    assert!(replayed.good, "{replayed:?}");
    assert_eq!(letters(&world.tenant).await, []);
    commerce.tell(&Told { event: "paid", number: 1, ..first }).await;
    settled(&world.tenant).await;
    for person in [&ana, &ben] {
        assert_eq!(told(person).await, pairs("A-17", &["created", "paid"]));
        assert_eq!(order(person, "A-17").await["customerId"], ana.id);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_is_published_from_the_command_line() {
    let world = World::start().await;
    let (ana, ben) = (world.person("Ana").await, world.person("Ben").await);
    let mut args = vec!["orders", "publish", "--order", "A-17", "--event", "shipped", "--customer", &ana.id];
    args.extend(["--seller", &ben.id, "--total", "19.90", "--currency", "CZK"]);
    args.extend(["--tracking-url", "https://parcels.example/1", "--url", &world.tenant.commerce_url]);
    for duplicate in ["false", "true"] {
        let ran = shoptalk(&world.tenant, &args).await;
        assert!(ran.good && ran.text().contains("orders.A-17.shipped\n"), "{ran:?}");
        assert!(ran.text().ends_with(&format!("stored: ORDERS 1 duplicate: {duplicate}\n")), "{ran:?}");
    }
    let shown = until("the order", || ana.get("/api/orders/A-17"), |(status, _)| *status == 200).await.1;
    assert_eq!(
        (&shown["total"], &shown["currency"], &shown["trackingUrl"]),
        (&json!("19.90"), &json!("CZK"), &json!("https://parcels.example/1"))
    );
    // As the application too, and what is wrong is not published at all.
    let without = ["orders", "publish", "--order", "A-17", "--event", "delivered", "--customer", &ana.id];
    let ran = shoptalk(&world.tenant, &without).await;
    assert!(ran.good && ran.text().contains("stored: ORDERS 2 "), "{ran:?}");
    let ran = shoptalk(&world.tenant, &[&without[..], &["--currency", "euro"]].concat()).await;
    assert!(!ran.good && ran.err.contains("data.currency is wrong"), "{ran:?}");
    settled(&world.tenant).await;
    assert_eq!(told(&ben).await, pairs("A-17", &["shipped", "delivered"]));
    world.stop().await;
}
