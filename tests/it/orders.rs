//! Orders, as other services tell of them.

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use shoptalk::domain::clock::{Timestamp, random_bits};
use shoptalk::domain::ids::UserId;
use shoptalk::domain::order::{Details, Item, Key, Order, OrderId, Place, Status, Step};
use shoptalk::store::Store;
use shoptalk::store::orders::Addition;

use crate::operate::shoptalk;
use crate::support::client::Person;
use crate::support::world::World;

fn event(order: &OrderId, number: u32, seconds: i64, status: Status) -> Step {
    let id = number.to_string();
    let place = Place { at: Timestamp::zero().plus_seconds(seconds), status, key: Key::of(order, "/shop", &id) };
    let item = Item { id: Some("tea".into()), title: "Tea".into(), quantity: number + 1, price: None };
    Step {
        place,
        source: "/shop".into(),
        id,
        note: number.is_multiple_of(2).then(|| "with care".into()),
        details: Details { total: format!("{number}.50"), currency: "EUR".into(), items: vec![item] },
        tracking_url: number.is_multiple_of(3).then(|| format!("https://parcels.example/{number}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_order_is_the_set_of_its_events_whatever_came_first() {
    let world = World::start().await;
    let store = Store::connect(&world.config.store).await.expect("the database");
    let seed = u64::try_from(random_bits() >> 96).expect("32 bits");
    eprintln!("seed {seed}");
    let mut chance = StdRng::seed_from_u64(seed);
    let customer = UserId::from_bits(1);
    for round in 0..12 {
        let id: OrderId = format!("order-{round}").parse().expect("an id");
        let mut events: Vec<Step> = (0..chance.random_range(1..8))
            .map(|number| {
                let status = Status::ALL[chance.random_range(0..Status::ALL.len())];
                event(&id, number, chance.random_range(0..4), status)
            })
            .collect();
        // A publisher that says two things under one id, which must not depend on which came last.
        events.push(event(&id, 0, 2, Status::Paid));
        let mut wanted = Order::of(id.clone(), customer, None);
        for event in &events {
            wanted.add(event);
        }
        let mut sent: Vec<&Step> = events.iter().chain(&events).collect();
        sent.shuffle(&mut chance);
        for some in sent.chunks(chance.random_range(1..5)) {
            let addition =
                Addition { order: &id, customer_id: customer, seller_id: None, owned: false, steps: some.to_vec() };
            assert!(store.add_to_orders(&[addition]).await.expect("written").is_empty());
        }
        let mut stored = store.order(&id).await.expect("an answer").expect("an order");
        assert_eq!(stored.details(), wanted.details());
        // Of what was bought only the last event is asked.
        for order in [&mut stored, &mut wanted] {
            order.steps.values_mut().for_each(|step| step.details.items.clear());
        }
        assert_eq!(stored, wanted);
        let asked: Vec<_> = events.iter().map(|step| (&id, &step.place.key)).collect();
        let known = store.known_orders(&asked).await.expect("an answer");
        assert_eq!((known[&id].count, known[&id].told.len()), (wanted.steps.len(), 0));
        store.note_told(&[asked[0].1]).await.expect("noted");
        assert_eq!(store.known_orders(&asked).await.expect("an answer")[&id].told, [asked[0].1.clone()].into());
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_never_given_to_somebody_else() {
    let world = World::start().await;
    let store = Store::connect(&world.config.store).await.expect("the database");
    let [ours, theirs]: [OrderId; 2] = ["ours", "theirs"].map(|id| id.parse().expect("an id"));
    let user = UserId::from_bits;
    let (first, second) = (event(&ours, 1, 1, Status::Created), event(&ours, 2, 2, Status::Paid));
    let other = event(&theirs, 1, 1, Status::Created);
    let to = |order, customer, seller, event| Addition {
        order,
        customer_id: user(customer),
        seller_id: Option::map(seller, user),
        owned: false,
        steps: vec![event],
    };
    assert!(store.add_to_orders(&[to(&ours, 1, None, &first)]).await.expect("written").is_empty());
    // The rest of a batch is written all the same.
    let refused = [to(&ours, 2, None, &second), to(&theirs, 3, Some(4), &other)];
    assert_eq!(store.add_to_orders(&refused).await.expect("written"), [0]);
    // Who sells may be said later, once.
    assert!(store.add_to_orders(&[to(&ours, 1, Some(5), &second)]).await.expect("written").is_empty());
    assert_eq!(store.add_to_orders(&[to(&ours, 1, Some(6), &second)]).await.expect("written"), [0]);
    assert!(store.add_to_orders(&[to(&ours, 1, None, &second)]).await.expect("written").is_empty());
    let stored = store.order(&ours).await.expect("an answer").expect("an order");
    assert_eq!((stored.customer_id, stored.seller_id, stored.steps.len()), (user(1), Some(user(5)), 2));
    assert!(store.order(&theirs).await.expect("an answer").is_some());
    world.stop().await;
}

fn id_of(person: &Person) -> UserId {
    person.id.parse().expect("an id")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_shown_to_its_parties_and_to_agents_only() {
    let world = World::start().await;
    let (ana, ben, eve) = (world.person("Ana").await, world.person("Ben").await, world.person("Eve").await);
    let carla = world.staff("Carla", "agent").await;
    let store = Store::connect(&world.config.store).await.expect("the database");
    let id: OrderId = "A-17".parse().expect("an id");
    let events = [event(&id, 3, 20, Status::Shipped), event(&id, 1, 10, Status::Created)];
    let (customer_id, seller_id) = (id_of(&ana), Some(id_of(&ben)));
    let addition = Addition { order: &id, customer_id, seller_id, owned: false, steps: events.iter().collect() };
    assert!(store.add_to_orders(&[addition]).await.expect("written").is_empty());
    let wanted = json!({
        "id": "A-17", "status": "shipped", "customerId": ana.id, "sellerId": ben.id, "total": "3.50",
        "currency": "EUR", "items": [{ "id": "tea", "title": "Tea", "quantity": 4 }],
        "trackingUrl": "https://parcels.example/3",
        "timeline": [
            { "status": "created", "at": "1970-01-01T00:00:10.000Z", "source": "/shop", "id": "1" },
            { "status": "shipped", "at": "1970-01-01T00:00:20.000Z", "source": "/shop", "id": "3" },
        ],
    });
    for person in [&ana, &ben, &carla] {
        assert_eq!(person.get("/api/orders/A-17").await, (200, wanted.clone()));
    }
    let context = json!({ "type": "order", "id": "A-17" });
    let (_, opened) = ben.post("/api/conversations", &json!({ "recipientId": ana.id, "context": context })).await;
    for person in [&ana, &ben, &carla] {
        assert_eq!(person.get("/api/orders/A-17").await.1["conversationId"], opened["id"], "{opened}");
    }
    let refused = |answer: (u16, Value)| (answer.0, answer.1["reason"].as_str().unwrap_or_default().to_owned());
    assert_eq!(refused(eve.get("/api/orders/A-17").await), (404, "unknown_order".into()));
    assert_eq!(refused(ana.get("/api/orders/A-18").await), (404, "unknown_order".into()));
    assert_eq!(refused(ana.get("/api/orders/A.17").await), (400, "malformed_order_id".into()));
    assert_eq!(world.rest.get("/api/orders/A-17", None).await.0, 401);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shop_says_by_which_id_it_knows_somebody() {
    let world = World::start().await;
    let (ana, ben) = (world.person("Ana").await, world.person("Ben").await);
    let external = async |args: &[&str]| {
        let ran = shoptalk(&world.tenant, &[&["users", "external"], args].concat()).await;
        (ran.good, ran.text() + &ran.err)
    };
    let (good, shown) = external(&[&ana.email]).await;
    assert!(good && shown.contains("  -  "), "{shown}");
    let (good, shown) = external(&[&ana.email, "customer-4711"]).await;
    assert!(good && shown.contains("  customer-4711  "), "{shown}");
    assert_eq!(ana.get("/api/users/me").await.1["externalId"], "customer-4711");
    assert!(ben.get("/api/users/me").await.1.get("externalId").is_none());
    for (args, why) in [
        ([ben.email.as_str(), "customer-4711"], "another account has this externalId"),
        ([&ben.email, &ana.id], "be no id of a user here"),
        (["nobody@example.test", "x"], "there is no account"),
    ] {
        let (good, shown) = external(&args).await;
        assert!(!good && shown.contains(why), "{shown}");
    }
    // What two accounts without one have in common is nothing.
    let (good, shown) = external(&[&ana.email, "--remove"]).await;
    assert!(good && shown.contains("  -  "), "{shown}");
    assert!(external(&[&ben.email, "customer-4711"]).await.0);
    // Nobody gives it to themselves.
    let body = json!({ "name": "Eve", "email": "eve@example.test", "password": "correct horse battery", "externalId": "customer-4712" });
    let (status, entered) = world.rest.post("/api/auth/signup", None, &body).await;
    assert_eq!(status, 201, "{entered}");
    let (_, me) = world.rest.get("/api/users/me", entered["token"].as_str()).await;
    assert!(me["id"].is_string() && me.get("externalId").is_none(), "{me}");
    world.stop().await;
}
