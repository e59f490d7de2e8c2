//! What is left to read: right at once on every instance, however far the projection is behind.

use std::collections::HashSet;

use serde_json::{Value, json};
use shoptalk::app::Roles;

use crate::support::client::Person;
use crate::support::until;
use crate::support::world::{World, message};

const GATEWAY: Roles = Roles { gateway: true, worker: false };

/// What is unread in a conversation, as the list and the conversation itself say.
async fn unread(person: &Person, conversation: &str) -> u64 {
    let (status, list) = person.get("/api/conversations?limit=200").await;
    assert_eq!(status, 200, "{list}");
    let listed = list["items"].as_array().and_then(|all| all.iter().find(|one| one["id"] == conversation));
    let listed = listed.unwrap_or_else(|| panic!("not listed: {list}"))["unread"].as_u64().expect("a count");
    let (_, one) = person.get(&format!("/api/conversations/{conversation}")).await;
    assert_eq!(one["unread"], listed, "the conversation and the list say the same");
    listed
}

/// What is unread in all: messages, conversations, and whether there is more.
async fn total(person: &Person) -> (u64, u64, bool) {
    let (status, total) = person.get("/api/conversations/unread").await;
    assert_eq!(status, 200, "{total}");
    let number = |name: &str| total[name].as_u64().expect("a count");
    (number("messages"), number("conversations"), total["more"] == true)
}

async fn read(person: &Person, conversation: &str, up_to: &Value) {
    let path = format!("/api/conversations/{conversation}/read");
    let (status, marked) = person.post(&path, &json!({ "upTo": up_to })).await;
    assert_eq!(status, 200, "{marked}");
}

/// Writes events into the log as an instance does.
struct Pen {
    log: async_nats::jetstream::Context,
    count: u64,
}

impl Pen {
    async fn of(world: &World) -> Self {
        Self { log: async_nats::jetstream::new(world.tenant.broker().await), count: 0 }
    }

    async fn write(&mut self, kind: &str, actor: &Person, recipients: &[&Person], data: Value) {
        self.count += 1;
        let conversation = data["conversationId"].as_str().expect("a conversation");
        let subject = format!("chat.{conversation}.{kind}");
        let event = json!({
            "id": format!("evt_{:0>26}", self.count),
            "version": 1,
            "type": kind,
            "actor": actor.id,
            "occurredAt": "2026-01-01T00:00:00.000Z",
            "recipients": recipients.iter().map(|one| &one.id).collect::<Vec<_>>(),
            "data": data,
        });
        self.log.publish(subject, event.to_string().into()).await.expect("sent").await.expect("stored");
    }

    /// Deletes a message, for everybody or for whoever deletes it.
    async fn delete(&mut self, by: &Person, everybody: &[&Person], message: &Value, scope: &str) {
        let data = json!({
            "messageId": message["id"], "conversationId": message["conversationId"], "messageSeq": message["seq"],
            "senderId": message["senderId"], "deletedBy": by.id, "scope": scope, "deletedAt": "2026-01-01T00:00:00.000Z",
        });
        let recipients = if scope == "me" { vec![by] } else { everybody.to_vec() };
        self.write("delete", by, &recipients, data).await;
    }

    /// A note of the conversation itself.
    async fn note(&mut self, by: &Person, everybody: &[&Person], conversation: &str) {
        let data = json!({
            "id": format!("msg_{:0>26}", self.count), "conversationId": conversation, "senderId": by.id, "senderName": "",
            "kind": "system", "text": "", "entry": { "type": "closed" }, "createdAt": "2026-01-01T00:00:00.000Z",
        });
        self.write("message", by, everybody, data).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_to_read_is_right_at_once_although_nobody_projects_it() {
    let world = World::with_roles(GATEWAY).await;
    let other = world.another(GATEWAY).await;
    let (ana, ben, conversation) = world.pair().await;
    let there = ben.at(other.address);
    let mut pen = Pen::of(&world).await;
    assert_eq!((unread(&there, &conversation).await, total(&there).await), (0, (0, 0, false)));

    let mut said = Vec::new();
    for number in 1..=6 {
        said.push(ana.say(&conversation, &number.to_string()).await);
        assert_eq!(unread(&there, &conversation).await, number);
    }
    assert_eq!((unread(&ana, &conversation).await, total(&ana).await), (0, (0, 0, false)), "one's own are read");
    there.say(&conversation, "from Ben").await;
    assert_eq!(unread(&ben, &conversation).await, 6, "who answers has not read everything by that");
    assert_eq!(unread(&ana.at(other.address), &conversation).await, 1);
    pen.note(&ana, &[&ana, &ben], &conversation).await;
    assert_eq!(unread(&there, &conversation).await, 6, "notes do not count");

    read(&ben, &conversation, &said[1]["id"]).await;
    assert_eq!((unread(&there, &conversation).await, total(&there).await), (4, (4, 1, false)));
    pen.delete(&ana, &[&ana, &ben], &said[0], "everybody").await;
    assert_eq!(unread(&there, &conversation).await, 4, "that one was read before");
    pen.delete(&ana, &[&ana, &ben], &said[3], "everybody").await;
    assert_eq!(unread(&there, &conversation).await, 3);
    pen.delete(&ben, &[], &said[4], "me").await;
    assert_eq!((unread(&there, &conversation).await, total(&ben).await), (2, (2, 1, false)));
    pen.delete(&ben, &[], &said[3], "me").await;
    assert_eq!(unread(&there, &conversation).await, 2, "it was gone before");

    // The same once MongoDB has it, and when only some of it has changed since.
    let worker = world.another(Roles::ALL).await;
    let projected = async || {
        let database = crate::drills::evidence::database(&world.tenant).await;
        let messages = database.collection::<mongodb::bson::Document>("messages");
        let hidden = mongodb::bson::doc! { format!("hidden.{}", ben.id): { "$exists": true } };
        messages.count_documents(hidden).await.expect("a count")
    };
    until("everything in MongoDB", projected, |count| *count == 2).await;
    assert_eq!((unread(&there, &conversation).await, total(&there).await), (2, (2, 1, false)));
    ana.say(&conversation, "more").await;
    pen.delete(&ana, &[&ana, &ben], &said[5], "everybody").await;
    assert_eq!(unread(&there, &conversation).await, 2);
    read(&ben, &conversation, &Value::Null).await;
    assert_eq!((unread(&there, &conversation).await, total(&there).await), (0, (0, 0, false)));
    worker.stop().await.expect("a clean stop");
    other.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_can_be_of_what_is_left_to_read() {
    for worker in [false, true] {
        let world = World::with_roles(Roles { gateway: true, worker }).await;
        let (ana, ben) = (world.person("Ana").await, world.person("Ben").await);
        let mut all = Vec::new();
        for number in 0..6 {
            let context = json!({ "type": "order", "id": number.to_string() });
            let open = json!({ "recipientId": ben.id, "context": context });
            let (status, opened) = ana.post("/api/conversations", &open).await;
            assert_eq!(status, 201, "{opened}");
            all.push(opened["id"].as_str().expect("an id").to_owned());
            ana.say(&all[number], "hello").await;
        }
        for id in &all[..3] {
            read(&ben, id, &Value::Null).await;
        }
        let listed = async |person: &Person, filter: &str| {
            let (mut ids, mut cursor) = (Vec::new(), String::new());
            loop {
                let (status, page) = person.get(&format!("/api/conversations?limit=2&{filter}{cursor}")).await;
                assert_eq!(status, 200, "{page}");
                let items = page["items"].as_array().expect("items").iter();
                ids.extend(items.map(|one| one["id"].as_str().expect("an id").to_owned()));
                match page["nextCursor"].as_str() {
                    Some(next) => cursor = format!("&cursor={next}"),
                    None => break,
                }
            }
            ids.reverse();
            ids
        };
        assert_eq!(listed(&ben, "unread=true").await, all[3..]);
        assert_eq!(listed(&ben, "unread=false").await, all[..3]);
        assert_eq!(listed(&ben, "").await, all);
        assert!(listed(&ana, "unread=true").await.is_empty());
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_end_somewhere() {
    let world = World::with(Roles::ALL, &[("USER_SENDS_PER_SECOND", "5000")]).await;
    let (ana, ben, conversation) = world.pair().await;
    let mut hers = ana.socket().await;
    for (more, shown, all) in [(99, 99, (99, 1, false)), (1, 100, (100, 1, false)), (905, 100, (999, 1, true))] {
        for chunk in (0..more).collect::<Vec<_>>().chunks(100) {
            let mut asked = Vec::new();
            for number in chunk {
                asked.push(hers.ask("sendMessage", &message(&conversation, &number.to_string())).await);
            }
            for ack in asked {
                assert_eq!(hers.answer(ack).await["ok"], true);
            }
        }
        assert_eq!((unread(&ben, &conversation).await, total(&ben).await), (shown, all));
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_may_not_see_is_not_left_to_read() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let mut pen = Pen::of(&world).await;
    let said = ana.say(&conversation, "before").await;
    let (_, state) = ana.get(&format!("/api/conversations/{conversation}")).await;
    let participant = |person: &Person, from: u64| json!({ "userId": person.id, "role": "buyer", "visibleFrom": from });
    let mut participants = vec![participant(&ana, 0), participant(&ben, said["seq"].as_u64().expect("a seq"))];
    participants.sort_by_key(|one| one["userId"].to_string());
    let data = json!({
        "id": conversation, "conversationId": conversation, "kind": "direct", "participants": participants,
        "createdBy": ana.id, "createdAt": state["createdAt"],
    });
    assert_eq!(unread(&ben, &conversation).await, 1);
    pen.write("conversation", &ana, &[&ana, &ben], data).await;
    until("a late beginning", async || unread(&ben, &conversation).await, |count| *count == 0).await;
    ana.say(&conversation, "after").await;
    assert_eq!((unread(&ben, &conversation).await, total(&ben).await), (1, (1, 1, false)));
    world.stop().await;
}

/// Numbers in an order that looks like none and is the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // xorshift64: Marsaglia, "Xorshift RNGs", 2003.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).expect("few sides")
    }
}

/// A message as the test knows it.
struct Said {
    message: Value,
    place: usize,
    by: usize,
    deleted: bool,
    hidden: HashSet<usize>,
}

/// People who do things at random, and what each of them must have left to read.
struct Play {
    people: Vec<[Person; 2]>,
    /// Conversations, and which people are in each.
    places: Vec<(String, Vec<usize>)>,
    said: Vec<Said>,
    /// Marks by person and place.
    marks: Vec<Vec<u64>>,
    pen: Pen,
    dice: Dice,
}

impl Play {
    /// One of the two instances, for somebody.
    fn anywhere(&mut self, who: usize) -> Person {
        self.people[who][self.dice.roll(2)].clone()
    }

    async fn step(&mut self) {
        let what = self.dice.roll(10);
        let place = self.dice.roll(self.places.len());
        let (conversation, there) = self.places[place].clone();
        let who = there[self.dice.roll(there.len())];
        let person = self.anywhere(who);
        let target = (!self.said.is_empty()).then(|| self.dice.roll(self.said.len()));
        let target = target.filter(|at| self.said[*at].place == place);
        match (what, target) {
            (5 | 6, Some(at)) => {
                let seq = self.said[at].message["seq"].clone();
                read(&person, &conversation, &seq).await;
                let mark = &mut self.marks[who][place];
                *mark = seq.as_u64().expect("a seq").max(*mark);
            }
            (7, Some(at)) => {
                let message = self.said[at].message.clone();
                let everybody: Vec<Person> = there.iter().map(|one| self.people[*one][0].clone()).collect();
                self.pen.delete(&person, &everybody.iter().collect::<Vec<_>>(), &message, "everybody").await;
                self.said[at].deleted = true;
            }
            (8, Some(at)) => {
                let message = self.said[at].message.clone();
                self.pen.delete(&person, &[], &message, "me").await;
                self.said[at].hidden.insert(who);
            }
            _ => {
                let message = person.say(&conversation, "something").await;
                self.said.push(Said { message, place, by: who, deleted: false, hidden: HashSet::new() });
            }
        }
    }

    fn expected(&self, who: usize, place: usize) -> u64 {
        let counts = |said: &&Said| {
            said.place == place
                && said.by != who
                && !said.deleted
                && !said.hidden.contains(&who)
                && said.message["seq"].as_u64().is_some_and(|seq| seq > self.marks[who][place])
        };
        self.said.iter().filter(counts).count() as u64
    }

    /// Compares what somebody is told with a count from the beginning.
    async fn check(&mut self, step: usize) {
        let who = self.dice.roll(self.people.len());
        let person = self.anywhere(who);
        let mut all = (0, 0, false);
        for place in 0..self.places.len() {
            if !self.places[place].1.contains(&who) {
                continue;
            }
            let expected = self.expected(who, place);
            let told = unread(&person, &self.places[place].0).await;
            assert_eq!(told, expected, "step {step}: person {who} in conversation {place}");
            all = (all.0 + expected, all.1 + u64::from(expected > 0), false);
        }
        assert_eq!(total(&person).await, all, "step {step}: person {who} in all");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_counts_are_those_of_a_recount() {
    for (seed, worker) in [(1, true), (2, true), (3, false)] {
        let world = World::with_roles(GATEWAY).await;
        let other = world.another(Roles { gateway: true, worker }).await;
        let mut people = Vec::new();
        for name in ["Ana", "Ben", "Cleo"] {
            let person = world.person(name).await;
            people.push([person.at(other.address), person]);
        }
        let all: Vec<&Person> = people.iter().map(|[_, here]| here).collect();
        let places = vec![
            (all[0].open(&[all[1]]).await, vec![0, 1]),
            (all[1].open(&[all[2]]).await, vec![1, 2]),
            (all[2].open(&[all[0], all[1]]).await, vec![0, 1, 2]),
        ];
        let pen = Pen::of(&world).await;
        let dice = Dice(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed));
        let mut play = Play { people, places, said: Vec::new(), marks: vec![vec![0; 3]; 3], pen, dice };
        for step in 0..80 {
            play.step().await;
            play.check(step).await;
        }
        other.stop().await.expect("a clean stop");
        world.stop().await;
    }
}
