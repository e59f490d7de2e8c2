//! Projection order: whatever the interleaving, duplication and batching of the log over several appliers, the documents
//! are those of a projection in order, and those of a log in which nothing was sent twice.

use std::collections::HashSet;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, TryStreamExt as _};
use mongodb::Client;
use mongodb::bson::{Bson, Document, doc};
use rand::rngs::StdRng;
use rand::seq::{IndexedMutRandom as _, IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use shoptalk::broker::consume::{Delivery, Handler as _, Verdict};
use shoptalk::consumer::persist::Persist;
use shoptalk::domain::change::{Deletion, Edit, Pin, Reaction, Scope};
use shoptalk::domain::clock::{Timestamp, random_bits};
use shoptalk::domain::conversation::{Conversation, Kind, Participant, ParticipantRole};
use shoptalk::domain::decision::{Decision, Decisions, Outcome, Rule};
use shoptalk::domain::event::{self, Body, Event, Stored};
use shoptalk::domain::ids::{ConversationId, EventId, MessageId, NotificationId, UserId};
use shoptalk::domain::inbox::{Counts, NotificationState};
use shoptalk::domain::message::{self, Message};
use shoptalk::domain::notification::{self, Notification};
use shoptalk::domain::receipt::Receipt;
use shoptalk::domain::setting::Setting;
use shoptalk::domain::state::MessageState;
use shoptalk::domain::trace::TraceContext;
use shoptalk::store::Store;

use crate::support::servers::{self, Tenant};
use crate::support::world;

/// Appliers at work at once.
const APPLIERS: usize = 4;
/// Events of one log, about.
const EVENTS: usize = 200;
/// More rounds than any honest projection needs.
const ROUNDS: usize = 40;
/// The collections that are a projection of the log.
const PROJECTED: [&str; 4] = ["conversations", "messages", "notifications", "inbox"];

/// A log, and which of its events repeat an earlier one.
struct Log {
    events: Vec<Stored>,
    copies: HashSet<u64>,
}

fn users() -> Vec<UserId> {
    (1..=4).map(UserId::from_bits).collect()
}

fn at(seq: u64, body: Body) -> Stored {
    let event = Event {
        id: EventId::from_bits(seq.into()),
        version: event::VERSION,
        actor: UserId::from_bits(1),
        occurred_at: time(seq),
        recipients: users(),
        body,
    };
    Stored { seq, event }
}

/// In the year 2100: the database forgets notifications that are old, also while a long drill runs.
fn time(seq: u64) -> Timestamp {
    Timestamp::from_millis(4_102_444_800_000 + i64::try_from(seq).expect("a small seq"))
}

fn opened(seq: u64, id: ConversationId) -> Conversation {
    let participant =
        |user_id| Participant { user_id, role: ParticipantRole::Buyer, joined_at: time(seq), visible_from: 0 };
    Conversation {
        id,
        kind: Kind::Group,
        participants: users().into_iter().map(participant).collect(),
        context: None,
        title: None,
        created_by: UserId::from_bits(1),
        created_at: time(seq),
        closed_at: None,
        removed: Vec::new(),
    }
}

fn opening(seq: u64, id: ConversationId) -> Stored {
    at(seq, Body::Conversation(opened(seq, id)))
}

/// Somebody is removed or comes back, or the title changes, or it is closed or reopened.
fn changed(seq: u64, known: &Conversation, random: &mut StdRng) -> Conversation {
    let mut next = Conversation { removed: Vec::new(), ..known.clone() };
    match random.random_range(0..4) {
        0 => next.title = random.random_bool(0.7).then(|| format!("title {seq}")),
        1 => next.closed_at = random.random_bool(0.5).then(|| time(seq)),
        _ => {
            let user_id = *users().choose(random).expect("users");
            if known.has(user_id) {
                next.participants.retain(|one| one.user_id != user_id);
                next.removed.push(user_id);
            } else {
                let (role, joined_at) = (ParticipantRole::Agent, time(seq));
                next.participants.push(Participant { user_id, role, joined_at, visible_from: seq - 1 });
                next.participants.sort_by_key(|one| one.user_id);
            }
        }
    }
    next
}

/// Something that happens to a message.
fn done_to(seq: u64, message: &Message, random: &mut StdRng) -> Body {
    let (message_id, conversation_id) = (message.id, message.conversation_id);
    // The first place of these messages follows from their ids.
    let message_seq = u64::try_from(message_id.bits()).expect("a small id");
    let user_id = *users().choose(random).expect("users");
    match random.random_range(0..12) {
        0..4 => {
            let text = format!("$edited {seq}");
            Body::Edit(Edit { message_id, conversation_id, message_seq, text, mentions: users(), edited_at: time(seq) })
        }
        4..9 => {
            let emoji = (*["👍", "🎉", "$."].choose(random).expect("emoji")).to_owned();
            let on = random.random_bool(0.7);
            Body::Reaction(Reaction { message_id, conversation_id, message_seq, user_id, emoji, on })
        }
        9 | 10 => {
            let on = random.random_bool(0.7);
            Body::Pin(Pin { message_id, conversation_id, message_seq, user_id, on, at: time(seq) })
        }
        _ => Body::Deletion(Deletion {
            message_id,
            conversation_id,
            message_seq,
            sender_id: message.sender_id,
            deleted_by: user_id,
            scope: if random.random_bool(0.5) { Scope::Everybody } else { Scope::Me },
            deleted_at: time(seq),
        }),
    }
}

/// Somebody does something to some of their notifications, or to all of them, also of which the log has not told.
fn put_away(seq: u64, told: &[Notification], random: &mut StdRng) -> NotificationState {
    let user_id = *users().choose(random).expect("users");
    let theirs: Vec<NotificationId> =
        told.iter().filter(|one| one.user_id == user_id && one.is_told()).map(|one| one.entry_id).collect();
    let named = if random.random_bool(0.3) { Vec::new() } else { theirs.choose(random).into_iter().copied().collect() };
    let mut flag = || random.random_bool(0.4).then(|| random.random_bool(0.6));
    let (archived, snoozed) = (flag(), flag());
    NotificationState {
        user_id,
        entry_ids: named,
        up_to: random.random_range(0..=seq),
        seen: random.random_bool(0.5),
        read: random.random_bool(0.5),
        archived,
        snoozed_until: snoozed.map(|_| time(seq + 60_000)),
        counts: Counts::default(),
    }
}

/// What was decided about a notification: some are held.
fn decided(notification: Notification, random: &mut StdRng) -> Notification {
    let outcome = *[Outcome::Sent, Outcome::Silent, Outcome::Held].choose(random).expect("outcomes");
    let decision = Decision { outcome, rule: Rule::Default };
    Notification { decision: Decisions { inbox: decision, away: decision, at: None }, ..notification }
}

fn receipt(conversation_id: ConversationId, user_id: UserId, read_seq: u64) -> Receipt {
    Receipt { conversation_id, user_id, read_seq, delivered_seq: 0, hidden: false }
}

/// A log as clients make it: conversations open one after the other, messages are sent again long after the first time
/// (with another text and time), marks go up and come late, notifications are made twice.
fn log(random: &mut StdRng) -> Log {
    let mut events: Vec<Stored> = Vec::new();
    let mut copies = HashSet::new();
    let mut open: Vec<Conversation> = Vec::new();
    let mut said: Vec<Message> = Vec::new();
    let mut told: Vec<Notification> = Vec::new();
    let mut seq = random.random_range(0..5);
    while events.len() < EVENTS {
        // Not every place in the log is taken.
        seq += random.random_range(1..3);
        let conversation = open.choose(random).map(|one| one.id);
        let pick = random.random_range(0..160);
        let stored = match (conversation, pick) {
            (None, _) | (_, 0..3) if open.len() < 4 => {
                let id = ConversationId::from_bits(100 + open.len() as u128);
                open.push(opened(seq, id));
                opening(seq, id)
            }
            (Some(_), 100..108) => {
                let known = open.choose_mut(random).expect("one is open");
                *known = changed(seq, known, random);
                at(seq, Body::Conversation(known.clone()))
            }
            (Some(conversation_id), 108..116) => {
                let user_id = *users().choose(random).expect("users");
                let mut flag = || random.random_bool(0.5).then(|| random.random_bool(0.5));
                let (archived, pinned) = (flag(), flag());
                let muted_until = random.random_bool(0.5).then(|| time(seq + 60_000));
                at(seq, Body::Setting(Setting { conversation_id, user_id, muted_until, archived, pinned }))
            }
            (Some(_), 140..) if !told.is_empty() => at(seq, Body::NotificationState(put_away(seq, &told, random))),
            (Some(_), 116..) if !said.is_empty() => {
                let about = said.choose(random).expect("something was said").clone();
                at(seq, done_to(seq, &about, random))
            }
            (Some(_), 3..25) if !said.is_empty() => {
                copies.insert(seq);
                let first = said.choose(random).expect("something was said").clone();
                at(seq, Body::Message(Message { text: format!("$again {seq}"), created_at: time(seq), ..first }))
            }
            (Some(_), 25..35) if !told.is_empty() => {
                copies.insert(seq);
                let first = told.choose(random).expect("somebody was told").clone();
                let again = decided(Notification { created_at: time(seq), ..first }, random);
                at(seq, Body::Notification(again))
            }
            (Some(conversation_id), 35..60) => {
                let user_id = *users().choose(random).expect("users");
                let (read_seq, delivered_seq) = (random.random_range(0..=seq), random.random_range(0..=seq));
                let hidden = random.random_bool(0.3);
                at(seq, Body::Receipt(Receipt { conversation_id, user_id, read_seq, delivered_seq, hidden }))
            }
            (Some(_), 60..70) if !said.is_empty() => {
                let about = said.choose(random).expect("something was said");
                let made = notification::of_message(seq, about, Kind::Group, &users())
                    .find(|new| told.iter().all(|old| old.id != new.id));
                let Some(made) = made else { continue };
                let made = decided(made, random);
                told.push(made.clone());
                at(seq, Body::Notification(made))
            }
            (Some(conversation_id), _) => {
                let message = Message {
                    id: MessageId::from_bits(seq.into()),
                    conversation_id,
                    sender_id: *users().choose(random).expect("users"),
                    sender_name: "Ana".into(),
                    kind: message::Kind::Text,
                    text: format!("$text {seq}"),
                    reply_to: None,
                    mentions: users().into_iter().filter(|_| random.random_bool(0.3)).collect(),
                    attachments: Vec::new(),
                    entry: None,
                    client_message_id: Some(seq.to_string()),
                    created_at: time(seq),
                };
                said.push(message.clone());
                at(seq, Body::Message(message))
            }
            (None, _) => continue,
        };
        events.push(stored);
    }
    Log { events, copies }
}

fn delivery(stored: &Stored) -> Delivery {
    Delivery { stored: stored.clone(), trace: TraceContext::root(1) }
}

/// One applier's share, in batches. Returns what it was told to try again.
async fn apply(applier: &Persist, batches: &[Vec<Stored>]) -> Vec<Stored> {
    let mut again = Vec::new();
    for batch in batches {
        let (mut left, mut tried) = (batch.clone(), 0);
        while !left.is_empty() {
            tried += 1;
            assert!(tried <= ROUNDS, "the database does not come back");
            let deliveries: Vec<Delivery> = left.iter().map(delivery).collect();
            let mut refused = Vec::new();
            for (stored, verdict) in left.iter().zip(applier.handle(&deliveries).await) {
                match verdict {
                    Verdict::Done => {}
                    // On a busy machine the database may be slow for once: a broker would deliver it again.
                    Verdict::Retry { why, .. } if why.transient() => refused.push(stored.clone()),
                    Verdict::Retry { .. } => again.push(stored.clone()),
                    Verdict::Reject { why } => panic!("{} was rejected: {why}", stored.seq),
                }
            }
            left = refused;
        }
    }
    again
}

/// Deliveries as a broker makes them at its worst: in any order, several times, to several appliers in batches of any size.
async fn apply_wildly(appliers: &[Persist], events: &[Stored], random: &mut StdRng) {
    let mut waiting: Vec<Stored> = events.to_vec();
    for round in 0..ROUNDS {
        for _ in 0..waiting.len() / 4 {
            waiting.extend(events.choose(random).cloned());
        }
        // Now and then nearly in order, as after the loss of one instance, now and then not at all.
        match round % 3 {
            0 if random.random_bool(0.5) => waiting.sort_by_key(|stored| stored.seq / 7),
            1 => waiting.reverse(),
            _ => waiting.shuffle(random),
        }
        let mut shares: Vec<Vec<Vec<Stored>>> = vec![vec![Vec::new()]; appliers.len()];
        for stored in waiting.drain(..) {
            let share = shares.choose_mut(random).expect("appliers");
            if random.random_bool(0.2) {
                share.push(Vec::new());
            }
            share.last_mut().expect("a batch").push(stored);
        }
        let done = join_all(appliers.iter().zip(&shares).map(|(applier, batches)| apply(applier, batches))).await;
        waiting.extend(done.into_iter().flatten());
        if waiting.is_empty() {
            return;
        }
    }
    panic!("{} events are never done", waiting.len());
}

struct Tables {
    client: Client,
    tenant: Tenant,
}

impl Tables {
    async fn start() -> Self {
        let tenant = servers::tenant().await;
        let client = Client::with_uri_str(&tenant.mongodb_uri).await.expect("the database");
        Self { client, tenant }
    }

    async fn store(&self, name: &str) -> Store {
        let mut config = world::config(&self.tenant).store;
        config.database = self.name(name);
        Store::connect(&config).await.expect("the database")
    }

    fn name(&self, name: &str) -> String {
        format!("{}_{name}", self.tenant.database)
    }

    /// Every document of the projection, by collection and id.
    async fn dump(&self, name: &str) -> Vec<Document> {
        let database = self.client.database(&self.name(name));
        let mut all = Vec::new();
        for collection in PROJECTED {
            let found = database.collection::<Document>(collection).find(doc! {}).sort(doc! { "_id": 1 }).await;
            let mut found: Vec<Document> = found.expect("an answer").try_collect().await.expect("documents");
            // A set: whoever comes first is first in it.
            for former in found.iter_mut().filter_map(|one| one.get_array_mut("former").ok()) {
                former.sort_by_key(ToString::to_string);
            }
            all.extend(found.into_iter().map(|document| doc! { "in": collection, "document": document }));
        }
        database.drop().await.expect("dropped");
        all
    }
}

/// What only remembers that something was sent twice.
fn without_memory(mut documents: Vec<Document>) -> Vec<Document> {
    // An entry of which nobody was told and to which nothing was done was made by a copy.
    documents.retain(|one| {
        let document = one.get_document("document").expect("a document");
        let said = ["newest", "archived", "snoozed"].iter().any(|field| document.contains_key(field));
        let risen = ["readSeq", "seenSeq"].iter().any(|field| document.get_i64(field).is_ok_and(|seq| seq > 0));
        one.get_str("in").is_ok_and(|name| name != "inbox") || said || risen
    });
    for one in &mut documents {
        if let Some(Bson::Document(document)) = one.get_mut("document") {
            document.remove("copySeq");
            document.remove("changeSeq");
        }
    }
    documents
}

fn assert_same(seed: u64, what: &str, wanted: &[Document], found: &[Document]) {
    assert_eq!(wanted.len(), found.len(), "seed {seed}: {what}: as many documents");
    for (wanted, found) in wanted.iter().zip(found) {
        assert_eq!(wanted, found, "seed {seed}: {what}");
    }
}

/// One log, projected three ways.
async fn drill(tables: &Tables, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let log = log(&mut random);
    let [ordered, plain, wild] = ["ordered", "plain", "wild"].map(|way| format!("{seed}_{way}"));

    let persist = Persist::new(tables.store(&ordered).await);
    let again = apply(&persist, &log.events.iter().map(|one| vec![one.clone()]).collect::<Vec<_>>()).await;
    assert!(again.is_empty(), "seed {seed}: in order nothing has to wait");
    let ordered = tables.dump(&ordered).await;

    let first: Vec<Vec<Stored>> =
        log.events.iter().filter(|one| !log.copies.contains(&one.seq)).map(|one| vec![one.clone()]).collect();
    apply(&Persist::new(tables.store(&plain).await), &first).await;
    let plain = tables.dump(&plain).await;
    assert_same(seed, "a log without copies", &without_memory(plain), &without_memory(ordered.clone()));

    let store = tables.store(&wild).await;
    let appliers: Vec<Persist> = (0..APPLIERS).map(|_| Persist::new(store.clone())).collect();
    apply_wildly(&appliers, &log.events, &mut random).await;
    assert_same(seed, "any order", &ordered, &tables.dump(&wild).await);
}

async fn drills(count: usize) {
    let tables = Tables::start().await;
    // Some that are always the same, and as many that nobody has seen before.
    let fresh = || u64::try_from(random_bits() >> 96).expect("32 bits");
    let seeds = (1..).flat_map(|seed| [seed, fresh()]).take(count);
    futures_util::stream::iter(seeds).for_each_concurrent(4, |seed| drill(&tables, seed)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn projection_order() {
    drills(8).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the long version, for make drills"]
async fn projection_order_long() {
    drills(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_met_before_its_conversation_was_opened_is_not_forgotten() {
    let tables = Tables::start().await;
    let store = tables.store("early").await;
    let here = ConversationId::from_bits(1);
    let said = Message {
        id: MessageId::from_bits(2),
        conversation_id: here,
        sender_id: UserId::from_bits(1),
        sender_name: "Ana".into(),
        kind: message::Kind::Text,
        text: "twice".into(),
        reply_to: None,
        mentions: Vec::new(),
        attachments: Vec::new(),
        entry: None,
        client_message_id: None,
        created_at: time(2),
    };
    let (first, copy) = (at(2, Body::Message(said.clone())), at(9, Body::Message(said)));
    // The copy comes first. What whoever has brought it does next is all done before the conversation is opened.
    for stored in [&copy, &first] {
        let unready = store.project(&[stored]).await.expect("an answer");
        assert!(unready.conversations.contains(&here), "{unready:?}");
    }
    for stored in [&opening(1, here), &first] {
        let unready = store.project(&[stored]).await.expect("an answer");
        assert!(unready.conversations.is_empty(), "{unready:?}");
    }
    let documents = tables.dump("early").await;
    let conversation = documents[0].get_document("document").expect("a document");
    assert_eq!(conversation.get_i64("copySeq").ok(), Some(9), "{conversation}");
    let newest = conversation.get_document("lastMessage").and_then(|last| last.get_i64("seq"));
    assert_eq!(newest.ok(), Some(2), "{conversation}");
    let message = documents[1].get_document("document").expect("a document");
    assert_eq!(message.get_i64("seq").ok(), Some(2), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_since_a_place_is_found() {
    let store = Tables::start().await.store("since").await;
    let (early, late) = (ConversationId::from_bits(1), ConversationId::from_bits(2));
    let said = |seq: u64, conversation_id| Message {
        id: MessageId::from_bits(seq.into()),
        conversation_id,
        sender_id: UserId::from_bits(1),
        sender_name: "Ana".into(),
        kind: message::Kind::Text,
        text: seq.to_string(),
        reply_to: None,
        mentions: Vec::new(),
        attachments: Vec::new(),
        entry: None,
        client_message_id: None,
        created_at: time(seq),
    };
    let behind = receipt(late, UserId::from_bits(2), 1);
    let events = [
        opening(1, early),
        opening(2, late),
        at(3, Body::Message(said(3, early))),
        at(4, Body::Receipt(Receipt { read_seq: 2, ..behind })),
        at(5, Body::Receipt(behind)),
    ];
    assert!(apply(&Persist::new(store.clone()), &[events.to_vec()]).await.is_empty());
    for (since, limit, wanted) in
        [(0, 9, vec![early, late]), (2, 1, vec![early]), (3, 9, vec![late]), (4, 9, vec![late]), (5, 9, vec![])]
    {
        let found = store.conversations_changed_since(UserId::from_bits(1), since, limit).await.expect("an answer");
        assert_eq!(found, wanted, "since {since}");
    }
    let foreign = store.conversations_changed_since(UserId::from_bits(9), 0, 9).await.expect("an answer");
    assert_eq!(foreign, []);
    let ids = [MessageId::from_bits(3), MessageId::from_bits(4)];
    assert_eq!(store.messages_by_id(&ids).await.expect("an answer"), [MessageState::new(3, said(3, early))]);
}
