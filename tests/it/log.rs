//! The log itself: what is done with events that cannot be read, and that nothing is done twice.

use async_nats::jetstream;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use mongodb::bson::{Document, doc};
use serde_json::{Value, json};
use shoptalk::broker;
use shoptalk::broker::publish::Pending;
use shoptalk::broker::subject::Filter;
use shoptalk::config::{Config, Source};
use shoptalk::domain::clock::Clock;
use shoptalk::domain::conversation::{Conversation, Kind};
use shoptalk::domain::event::{self, Body, Event};
use shoptalk::domain::ids::UserId;
use shoptalk::domain::message::{self, Entry, Message};
use shoptalk::error::Code;
use shoptalk::lifecycle::Lifecycle;

use crate::drills::evidence;
use crate::support::world::{self, World, message};
use crate::support::{servers, until};

async fn jetstream_of(world: &World) -> jetstream::Context {
    jetstream::new(world.tenant.broker().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_read_is_dead_and_the_others_pass() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let log = jetstream_of(&world).await;
    let mut hers = ana.socket().await;
    for round in 0..5 {
        let subject = format!("chat.{conversation}.message");
        for poison in ["not json", r#"{"id":"evt_1"}"#] {
            log.publish(subject.clone(), poison.into()).await.expect("sent").await.expect("stored");
        }
        ana.say(&conversation, &format!("good {round}")).await;
        assert_eq!(hers.next("message").await["text"], format!("good {round}"), "live push goes on");
    }
    assert_eq!(world.history(&ben, &conversation, 5).await.len(), 5);

    // Both consumers saw ten poisoned deliveries.
    let dead = log.get_stream("DEAD").await.expect("the stream");
    until(
        "twenty dead letters",
        || async { dead.get_info().await.expect("its state").state.messages },
        |count| *count == 20,
    )
    .await;
    let letter = dead.get_raw_message(1).await.expect("a letter");
    assert_eq!(&letter.payload[..], b"not json", "the original");
    let header = |name: &str| letter.headers.get(name).map(|value| value.as_str().to_owned());
    assert_eq!(header("Shoptalk-Reason").as_deref(), Some("undecodable_event"));
    assert_eq!(header("Shoptalk-Attempts").as_deref(), Some("1"));
    assert!(header("Shoptalk-Subject").is_some_and(|subject| subject.contains(&conversation)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_room_for_the_log_is_said_to_need_it() {
    let mut settings = world::settings(&servers::tenant().await);
    settings.push(("EVENTS_MAX_BYTES".to_owned(), (1_u64 << 50).to_string()));
    let config = Config::read(&Source::from_pairs(settings)).expect("a good configuration").broker;
    let connected = broker::connect(&config).await.expect("the broker");
    let refused = connected.provision(&config, 0).await.expect_err("no broker has that much");
    assert_eq!(refused.reason(), "broker_not_provisioned");
    assert!(refused.to_string().contains("lower EVENTS_MAX_BYTES"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_delivered_again_changes_nothing() {
    let mut world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    for number in 0..20 {
        ana.say(&conversation, &number.to_string()).await;
    }
    let notifications = || ben.get("/api/notifications?limit=200");
    let count = |(_, page): &(u16, Value)| page["items"][0]["count"].as_u64();
    until("twenty notifications", notifications, |page| count(page) == Some(20)).await;
    let before =
        (world.history(&ben, &conversation, 20).await, notifications().await, ana.get("/api/conversations").await);

    // Both consumers begin again from the first event, as after the loss of their state.
    world.app.take().expect("it runs").stop().await.expect("a clean stop");
    let log = jetstream_of(&world).await;
    for consumer in ["persist", "notify"] {
        log.delete_consumer_from_stream(consumer, "EVENTS").await.expect("deleted");
    }
    let again = world.another(shoptalk::app::Roles::ALL).await;
    let events = log.get_stream("EVENTS").await.expect("the stream");
    for consumer in ["persist", "notify"] {
        until(
            "everything delivered again",
            || async {
                let mut consumer: jetstream::consumer::PullConsumer =
                    events.get_consumer(consumer).await.expect("it is there");
                let info = consumer.info().await.expect("its state");
                (info.num_pending, info.num_ack_pending)
            },
            |left| *left == (0, 0),
        )
        .await;
    }
    let (ana, ben) = (ana.at(again.address), ben.at(again.address));
    world.rest = ben.rest.clone();
    let after = (
        world.history(&ben, &conversation, 20).await,
        ben.get("/api/notifications?limit=200").await,
        ana.get("/api/conversations").await,
    );
    assert_eq!(before, after);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_a_request_goes_with_its_event() {
    let world = World::start().await;
    let (ana, _, conversation) = world.pair().await;
    let log = jetstream_of(&world).await;
    let events = log.get_stream("EVENTS").await.expect("the stream");
    let consumer = events
        .create_consumer(jetstream::consumer::pull::Config {
            filter_subject: "chat.*.message".into(),
            ..Default::default()
        })
        .await
        .expect("a consumer");
    let response = ana
        .rest
        .request(reqwest::Method::POST, "/api/messages")
        .bearer_auth(&ana.token)
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .json(&crate::support::world::message(&conversation, "traced"))
        .send()
        .await
        .expect("a reply");
    assert_eq!(response.status(), 201);
    let event = consumer.messages().await.expect("messages").next().await.expect("one").expect("readable");
    let headers = event.headers.as_ref().expect("headers");
    let trace = headers.get("traceparent").expect("a trace").as_str();
    assert!(trace.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{trace}");
    assert!(!trace.contains("b7ad6b7169203331"), "a link of our own");
}

/// An event by somebody, of this moment.
fn event(body: Body) -> Event {
    let (id, occurred_at) = (Clock::System.fresh_id(), Clock::System.now());
    Event { id, version: event::VERSION, actor: UserId::from_bits(1), occurred_at, recipients: Vec::new(), body }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_and_its_note_are_stored_together_and_only_after_what_they_were_based_on() {
    let world = World::start().await;
    let broker = broker::connect(&world.config.broker).await.expect("the broker").attach().await.expect("its log");
    let lifecycle = Lifecycle::new();
    let publisher = broker.publisher(&lifecycle);
    let (id, now) = (Clock::System.fresh_id(), Clock::System.now());
    let state = |title: &str| {
        event(Body::Conversation(Conversation {
            id,
            kind: Kind::Group,
            participants: Vec::new(),
            context: None,
            title: Some(title.to_owned()),
            created_by: UserId::from_bits(1),
            created_at: now,
            closed_at: None,
            removed: Vec::new(),
        }))
    };
    let note = |title: &str| {
        event(Body::Message(Message {
            id: Clock::System.fresh_id(),
            conversation_id: id,
            sender_id: UserId::from_bits(1),
            sender_name: "Ana".into(),
            kind: message::Kind::System,
            text: String::new(),
            reply_to: None,
            mentions: Vec::new(),
            attachments: Vec::new(),
            entry: Some(Entry::Renamed { title: Some(title.to_owned()) }),
            client_message_id: None,
            created_at: now,
        }))
    };
    let opened =
        publisher.enqueue_after(0, &state("one"), None, None).expect("in line").stored().await.expect("stored");
    let mut last = opened.seq;
    for round in 0..3 {
        // Twenty who all know the same state, among messages of others.
        let titles: Vec<String> = (0..20).map(|number| format!("{round}.{number}")).collect();
        let mut pending = Vec::new();
        for title in &titles {
            pending.push(publisher.enqueue_after(last, &state(title), Some(&note(title)), None).expect("in line"));
            drop(publisher.enqueue(&note("beside"), None).expect("in line"));
        }
        let outcomes = join_all(pending.into_iter().map(Pending::stored)).await;
        let stored: Vec<u64> = outcomes.iter().filter_map(|one| Some(one.as_ref().ok()?.seq)).collect();
        let refused = outcomes.iter().filter_map(|one| one.as_ref().err());
        assert!(refused.into_iter().all(|error| error.code() == Code::Conflict), "{outcomes:?}");
        assert_eq!(stored.len(), 1, "{outcomes:?}");
        let (change, note) = (broker.at(stored[0]).await, broker.at(stored[0] + 1).await);
        let (change, note) = (change.expect("read").expect("there"), note.expect("read").expect("there"));
        let (Body::Conversation(change), Body::Message(note)) = (change.event.body, note.event.body) else {
            panic!("the note is right behind its change");
        };
        assert_eq!(note.entry, Some(Entry::Renamed { title: change.title }));
        last = stored[0];
    }
    let found = broker.read(Filter::Conversation(id), 1, 1_000).await.expect("read").events;
    let changes = found.iter().filter(|one| matches!(one.event.body, Body::Conversation(_))).count();
    let notes = found.iter().filter(|one| matches!(one.event.body, Body::Message(_))).count();
    assert_eq!((changes, notes), (4, 63), "what was refused left nothing behind");
    lifecycle.drain();
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_a_part_of_the_log_that_was_not_heard_is_asked_for_anew() {
    let world = World::start().await;
    let (ana, ben, direct) = world.pair().await;
    let cleo = world.person("Cleo").await;
    let (status, group) =
        ana.post("/api/conversations", &json!({ "kind": "group", "participants": [ben.id, cleo.id] })).await;
    assert_eq!(status, 201, "{group}");
    let place = group["id"].as_str().expect("an id").to_owned();
    // From here on both are kept at hand: who is in the group, and whom they block.
    ben.say(&place, "hello").await;
    ben.say(&direct, "hello").await;
    let database = evidence::database(&world.tenant).await;
    let messages = database.collection::<Document>("messages");
    let stored = || async { messages.count_documents(doc! {}).await.expect("an answer") };
    until("what was said in the database", stored, |count| *count == 2).await;

    // Changes of which nothing is left but their result: the log goes on behind a gap.
    let gone = doc! { "$pull": { "participants": { "userId": &ben.id } } };
    let done = database.collection::<Document>("conversations").update_one(doc! { "_id": &place }, gone).await;
    assert_eq!(done.expect("an answer").modified_count, 1);
    let blocking =
        doc! { "_id": &ana.id, "hideReadReceipts": false, "invisible": false, "blocked": [&ben.id], "seq": 1_i64 };
    database.collection::<Document>("preferences").insert_one(blocking).await.expect("an answer");
    let mut log = jetstream_of(&world).await.get_stream("EVENTS").await.expect("the stream");
    let last = log.info().await.expect("its state").state.last_sequence;
    log.purge().sequence(last + 1_000).await.expect("purged");
    let own = ana.open(&[&cleo]).await;
    assert!(ana.say(&own, "behind the gap").await["seq"].as_u64() >= Some(last + 1_000));

    for (conversation, reason) in [(&place, "not_a_participant"), (&direct, "blocked")] {
        let (message, path) = (message(conversation, "hello?"), "/api/messages");
        until(
            "what has changed unheard",
            || ben.post(path, &message),
            |(status, refused): &(u16, Value)| (*status, refused["reason"].as_str()) == (403, Some(reason)),
        )
        .await;
    }
    world.stop().await;
}
