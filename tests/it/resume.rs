//! Coming back: whoever was away is told what they missed, once, in order, or told to reload.

use serde_json::{Value, json};
use shoptalk::app::Roles;

use crate::support::client::Person;
use crate::support::socketio::Raw;
use crate::support::until;
use crate::support::world::{World, message};

/// The durable events among frames, by name and id, and their seqs.
fn durable(frames: &[Value]) -> Vec<(String, String, u64)> {
    frames
        .iter()
        .filter_map(|frame| {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            Some((text(&frame["event"])?, text(&frame["data"]["id"])?, frame["data"]["seq"].as_u64()?))
        })
        .collect()
}

/// What a person who has resumed is told, and how that went.
async fn told(person: &Person, cursor: &str) -> (Vec<(String, String, u64)>, Value) {
    let mut socket = person.resume(cursor).await;
    let frames = socket.frames_until("synced").await;
    socket.close().await;
    let synced = frames.last().map(|frame| frame["data"].clone()).unwrap_or_default();
    (durable(&frames), synced)
}

/// The pages of `GET /api/sync`, with at most this many events each.
async fn pages(person: &Person, cursor: &str, limit: usize) -> Vec<(String, String, u64)> {
    let mut cursor = cursor.to_owned();
    let mut events = Vec::new();
    loop {
        let (status, page) = person.get(&format!("/api/sync?cursor={cursor}&limit={limit}")).await;
        assert_eq!((status, &page["recovered"]), (200, &json!(true)), "{page}");
        let frames = page["events"].as_array().cloned().unwrap_or_default();
        assert!(frames.len() <= limit);
        events.extend(durable(&frames));
        page["cursor"].as_str().expect("a cursor").clone_into(&mut cursor);
        if page["more"] == false {
            return events;
        }
    }
}

/// A bit of everything that is durable, in two conversations; returns what Ben is to be told, as far as the log has it.
async fn a_busy_while(world: &World, ana: &Person, ben: &Person, conversation: &str) {
    let cleo = world.person("Cleo").await;
    let second = cleo.open(&[ben, ana]).await;
    let mut his = ben.socket().await;
    for number in 0..10 {
        ana.say(conversation, &format!("first {number}")).await;
        cleo.say(&second, &format!("second {number}")).await;
        if number % 5 == 4 {
            // Nobody is told late of what they have read: all are made before.
            made(world, ben, 2 * (number + 1)).await;
            let mark = json!({ "conversationId": conversation });
            let read = his.call("markRead", &mark).await;
            assert_eq!(read["ok"], true, "{read}");
        }
    }
    his.close().await;
    // Eleven conversation events and marks, twenty messages, twenty notifications.
    made(world, ben, 20).await;
}

/// Waits until somebody has this many notifications.
async fn made(world: &World, person: &Person, count: u64) {
    let database = crate::drills::evidence::database(&world.tenant).await;
    let made = database.collection::<mongodb::bson::Document>("notifications");
    let told = mongodb::bson::doc! { "userId": &person.id, "decision.inbox.outcome": "sent" };
    let counted = async || made.count_documents(told.clone()).await.expect("a count");
    until("every notification", counted, |found| *found == count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_back_is_told_everything_once_and_in_order() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let mut his = ben.socket().await;
    let first = his.next("synced").await;
    assert_eq!((&first["recovered"], &first["reason"]), (&json!(false), &json!("no_cursor")));
    let cursor = first["cursor"].as_str().expect("a cursor").to_owned();
    his.close().await;

    a_busy_while(&world, &ana, &ben, &conversation).await;
    let (events, synced) = told(&ben, &cursor).await;
    assert_eq!((&synced["recovered"], &synced["events"]), (&json!(true), &json!(events.len())), "{synced}");
    let count = |name: &str| events.iter().filter(|(event, ..)| event == name).count();
    assert_eq!(
        ["conversation", "message", "notification", "messagesRead"].map(count),
        [1, 20, 20, 2],
        "every kind there is: {events:#?}"
    );
    assert!(events.is_sorted_by_key(|(_, _, seq)| *seq), "in order");
    let mut ids: Vec<&String> = events.iter().map(|(_, id, _)| id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), events.len(), "once");

    // Page by page over REST, and from half-way.
    assert_eq!(pages(&ben, &cursor, 7).await, events);
    let now = synced["cursor"].as_str().expect("a cursor").to_owned();
    assert!(pages(&ben, &now, 7).await.is_empty());
    assert!(told(&ben, &now).await.0.is_empty());

    // On a socket that is open, and on another instance that was not there at the time.
    let mut open = ben.socket().await;
    open.next("synced").await;
    let ack = open.ask("sync", &json!({ "cursor": cursor })).await;
    assert_eq!(durable(&open.frames_until("synced").await), events);
    assert_eq!(open.answer(ack).await["data"]["recovered"], true);
    let other = world.another(Roles::ALL).await;
    assert_eq!(told(&ben.at(other.address), &cursor).await.0, events);
    other.stop().await.expect("a clean stop");

    // And then it is live.
    let sent = ana.say(&conversation, "live").await;
    assert_eq!(open.next("message").await["id"], sent["id"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_window_has_forgotten_comes_from_the_log() {
    // The window has hardly anything, so that nearly all comes from the log, and the rest is joined to it.
    let world = World::with(Roles::ALL, &[("WINDOW_EVENTS", "3")]).await;
    let (ana, ben, conversation) = world.pair().await;
    let cursor = ben.get("/api/sync").await.1["cursor"].as_str().expect("a cursor").to_owned();
    a_busy_while(&world, &ana, &ben, &conversation).await;
    // All of it is in MongoDB once this is: the answer is complete from then on.
    let (events, synced) =
        until("a complete answer", || told(&ben, &cursor), |(_, synced): &(_, Value)| synced["recovered"] == true)
            .await;
    assert_eq!(events.len(), 43, "{events:#?}");
    assert!(events.is_sorted_by_key(|(_, _, seq)| *seq), "in order");
    assert_eq!(pages(&ben, &cursor, 7).await, events);
    let large = World::another(&world, Roles { gateway: true, worker: false }).await;
    assert_eq!(told(&ben.at(large.address), &cursor).await.0, events);
    assert_eq!(synced["events"], 43);
    large.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_come_while_somebody_is_being_told_are_neither_lost_nor_doubled() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let cursor = ben.get("/api/sync").await.1["cursor"].as_str().expect("a cursor").to_owned();
    for number in 0..100 {
        ana.say(&conversation, &number.to_string()).await;
    }
    let mut hers = ana.socket().await;
    let mut acks = Vec::new();
    for number in 100..300 {
        acks.push(hers.ask("sendMessage", &message(&conversation, &number.to_string())).await);
    }
    // In the middle of it Ben comes back, several times over.
    let mut sockets = Vec::new();
    for _ in 0..10 {
        sockets.push(ben.resume(&cursor).await);
    }
    for ack in acks {
        assert_eq!(hers.answer(ack).await["ok"], true);
    }
    for mut socket in sockets {
        for number in 0..300 {
            assert_eq!(socket.next("message").await["text"], number.to_string(), "in order, each once");
        }
        assert!(socket.drain("message").await.is_empty(), "and nothing twice");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_cannot_be_resumed_from_says_why_and_gives_a_fresh_one() {
    let world = World::with(Roles::ALL, &[("WINDOW_EVENTS", "3")]).await;
    let (ana, ben, conversation) = world.pair().await;
    let old = ben.get("/api/sync").await.1["cursor"].as_str().expect("a cursor").to_owned();
    for number in 0..10 {
        ana.say(&conversation, &number.to_string()).await;
    }
    let other = World::start().await;
    let stranger = other.person("Stranger").await;
    let foreign = stranger.get("/api/sync").await.1["cursor"].as_str().expect("a cursor").to_owned();
    let ahead = format!("{}Z", &old[..old.len() - 1]);
    // What the log no longer has.
    let log = async_nats::jetstream::new(world.tenant.broker().await);
    let stream = log.get_stream("EVENTS").await.expect("the stream");
    let last = stream.cached_info().state.last_sequence;
    until("a complete projection", || told(&ben, &old), |(_, synced)| synced["recovered"] == true).await;
    stream.purge().sequence(last).await.expect("purged");

    for (cursor, reason) in
        [("nonsense", "malformed_cursor"), (&foreign, "unknown_epoch"), (&ahead, "ahead_of_log"), (&old, "too_old")]
    {
        let (events, synced) = told(&ben, cursor).await;
        assert_eq!((events.len(), &synced["recovered"], &synced["reason"]), (0, &json!(false), &json!(reason)));
        let (status, page) = ben.get(&format!("/api/sync?cursor={cursor}")).await;
        assert_eq!((status, &page["recovered"], &page["reason"]), (200, &json!(false), &json!(reason)));
        // The fresh cursor is good at once: no loop.
        let fresh = synced["cursor"].as_str().expect("a cursor").to_owned();
        assert_eq!(told(&ben, &fresh).await.1["recovered"], true);
    }
    assert_eq!(ben.get("/api/sync?limit=0").await.1["reason"], "malformed_limit");
    other.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_what_does_not_concern_them() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let cleo = world.person("Cleo").await;
    let cursor = cleo.get("/api/sync").await.1["cursor"].as_str().expect("a cursor").to_owned();
    ana.say(&conversation, "between us").await;
    assert_eq!(world.history(&ben, &conversation, 1).await.len(), 1);
    let (events, synced) = told(&cleo, &cursor).await;
    assert_eq!((events.len(), &synced["recovered"]), (0, &json!(true)));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_tells_how_far_a_socket_is() {
    let world = World::with(Roles::ALL, &[("HEARTBEAT_SECONDS", "1")]).await;
    let (ana, ben, conversation) = world.pair().await;
    let mut his = ben.socket().await;
    let sent = ana.say(&conversation, "hello").await;
    his.next("notification").await;
    let beat = loop {
        let beat = his.next("heartbeat").await;
        if beat["headSeq"].as_u64() > sent["seq"].as_u64() {
            break beat;
        }
    };
    let cursor = beat["cursor"].as_str().expect("a cursor").to_owned();
    let (events, synced) = told(&ben, &cursor).await;
    assert_eq!((events.len(), &synced["recovered"]), (0, &json!(true)), "it was told everything up to there");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_breaks_off_is_not_called_complete() {
    let world = World::with(Roles::ALL, &[("USER_SENDS_PER_SECOND", "10000"), ("SHUTDOWN_SECONDS", "8")]).await;
    let (ana, ben, conversation) = world.pair().await;
    let cursor = ben.get("/api/sync").await.1["cursor"].as_str().expect("a cursor").to_owned();
    let mut hers = ana.socket().await;
    let text = "x".repeat(7_000);
    let count = 1_000;
    for round in 0..count / 100 {
        let mut acks = Vec::new();
        for number in 0..100 {
            acks.push(hers.ask("sendMessage", &message(&conversation, &format!("{round}-{number} {text}"))).await);
        }
        for ack in acks {
            assert_eq!(hers.answer(ack).await["ok"], true);
        }
    }
    // Ben comes back, hears the first of it and reads no further; meanwhile the instance is stopped.
    let mut his = Raw::connect(world.rest.address, &ben.token, Some(&cursor)).await;
    assert_eq!(his.event().await.map(|(name, _)| name).as_deref(), Some("message"));
    world.stop().await;
    let mut heard = 1;
    while let Some((name, data)) = his.event().await {
        heard += usize::from(name == "message");
        if name == "synced" {
            assert_eq!(
                (&data["recovered"], heard),
                (&json!(true), count),
                "it was told everything, or nothing of an end"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_hides_nothing_behind_it() {
    let world = World::with(Roles::ALL, &[("WINDOW_EVENTS", "3")]).await;
    let (ana, ben, conversation) = world.pair().await;
    let cursor = ben.get("/api/sync").await.1["cursor"].as_str().expect("a cursor").to_owned();
    let log = async_nats::jetstream::new(world.tenant.broker().await);
    for number in 0..20 {
        let subject = format!("chat.{conversation}.message");
        log.publish(subject, "not json".into()).await.expect("sent").await.expect("stored");
        ana.say(&conversation, &number.to_string()).await;
    }
    until("a complete answer", || told(&ben, &cursor), |(_, synced)| synced["recovered"] == true).await;
    until("every notification", || async { pages(&ben, &cursor, 100).await.len() }, |count| *count == 40).await;
    for limit in [1, 2, 3, 7] {
        assert_eq!(pages(&ben, &cursor, limit).await.len(), 40, "pages of {limit}");
    }
    world.stop().await;
}
