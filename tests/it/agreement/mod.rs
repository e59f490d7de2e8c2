//! Agreement: whatever people do, from two devices each and on two instances, every client that stayed and every client that
//! came back with an old cursor shows what REST shows.

mod model;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use reqwest::Method;
use serde_json::{Value, json};
use shoptalk::app::Roles;
use shoptalk::domain::clock::random_bits;

use crate::support::client::{Person, reply};
use crate::support::socket::Socket;
use crate::support::until;
use crate::support::world::World;
use model::{Model, Place, finish, shown};

/// Things that are done in a round.
const STEPS: usize = 150;

/// A client that only listens.
struct Device {
    person: Person,
    model: Model,
    socket: Option<Socket>,
}

impl Device {
    async fn start(person: &Person, address: SocketAddr) -> Self {
        let person = person.at(address);
        let mut socket = person.socket().await;
        let mut model = Model::of(&person.id);
        for frame in socket.frames_until("synced").await {
            model.hear(&frame);
        }
        Self { person, model, socket: Some(socket) }
    }

    async fn listen(&mut self) {
        if let Some(socket) = &mut self.socket {
            for frame in socket.everything().await {
                self.model.hear(&frame);
            }
        }
    }

    async fn leave(&mut self) {
        self.listen().await;
        if let Some(socket) = self.socket.take() {
            socket.close().await;
        }
    }

    /// Comes back at another instance with what it knew.
    async fn come_back(&mut self, address: SocketAddr) {
        self.person = self.person.at(address);
        let mut socket = self.person.resume(&self.model.cursor).await;
        let frames = socket.frames_until("synced").await;
        let synced = &frames.last().expect("the end")["data"];
        assert_eq!(synced["recovered"], true, "{synced}");
        for frame in frames {
            self.model.hear(&frame);
        }
        self.socket = Some(socket);
    }
}

/// What REST shows to somebody.
async fn rest(person: &Person, since: &BTreeMap<String, u64>) -> BTreeMap<String, Place> {
    let (status, page) = person.get("/api/conversations?limit=200").await;
    assert_eq!(status, 200, "{page}");
    let mut places = BTreeMap::new();
    for listed in page["items"].as_array().into_iter().flatten() {
        let id = listed["id"].as_str().expect("an id").to_owned();
        let mut place = Place {
            title: listed["title"].as_str().map(str::to_owned),
            closed: listed["closedAt"].is_string(),
            archived: listed["settings"]["archived"] == true,
            pinned: listed["settings"]["pinned"] == true,
            muted_until: listed["settings"]["mutedUntil"].as_str().map(str::to_owned),
            ..Place::default()
        };
        for one in listed["participants"].as_array().into_iter().flatten() {
            let user = one["userId"].as_str().expect("an id").to_owned();
            place.participants.insert(user.clone(), one["role"].as_str().unwrap_or_default().to_owned());
            place.read.insert(user.clone(), one["readSeq"].as_u64().unwrap_or_default());
            place.delivered.insert(user, one["deliveredSeq"].as_u64().unwrap_or_default());
        }
        let mut before = String::new();
        loop {
            let (status, page) = person.get(&format!("/api/messages/{id}?limit=60{before}")).await;
            assert_eq!(status, 200, "{page}");
            for item in page["items"].as_array().into_iter().flatten() {
                let mut message = shown(item);
                message.edited = item["editedAt"].is_string();
                message.deleted = item["deletedAt"].is_string();
                message.pinned = item["pinnedAt"].is_string();
                for one in item["reactions"].as_array().into_iter().flatten() {
                    let users = one["userIds"].as_array().into_iter().flatten().filter_map(Value::as_str);
                    let emoji = one["emoji"].as_str().expect("an emoji").to_owned();
                    message.reactions.insert(emoji, users.map(str::to_owned).collect());
                }
                place.messages.insert(item["id"].as_str().expect("an id").to_owned(), message);
            }
            match page["nextCursor"].as_str() {
                Some(next) => before = format!("&before={next}"),
                None => break,
            }
        }
        let since = since.get(&id).copied().unwrap_or_default();
        finish(&mut place, &person.id, since);
        if since == 0 {
            place.last = listed["lastMessage"]["id"].as_str().map(str::to_owned);
            place.unread = listed["unread"].as_u64().and_then(|unread| unread.try_into().ok()).unwrap_or(usize::MAX);
        }
        places.insert(id, place);
    }
    places
}

/// Everybody and what they have met.
struct Round {
    people: Vec<Person>,
    doors: [SocketAddr; 2],
    group: String,
    direct: String,
    /// Messages by conversation: id and place.
    said: BTreeMap<String, Vec<(String, u64)>>,
    /// What was done, by the last word of its path, and not refused.
    done: BTreeMap<String, usize>,
    random: StdRng,
}

impl Round {
    fn person(&mut self) -> Person {
        let door = *self.doors.choose(&mut self.random).expect("two");
        self.people.choose(&mut self.random).expect("three").at(door)
    }

    fn conversation(&mut self) -> String {
        if self.random.random_bool(0.7) { self.group.clone() } else { self.direct.clone() }
    }

    /// Somebody does something, over REST. It may be refused, for a reason.
    async fn step(&mut self) {
        let person = self.person();
        let conversation = self.conversation();
        let known = self.said.get(&conversation).and_then(|said| said.choose(&mut self.random).cloned());
        let base = format!("/api/conversations/{conversation}");
        let about = |id: &str| format!("{base}/messages/{id}");
        let (method, path, body) = match (self.random.random_range(0..100), known) {
            (0..30, known) => {
                let mut body =
                    json!({ "conversationId": conversation, "text": format!("word {}", self.random.random::<u32>()) });
                if let (Some((id, _)), true) = (known, self.random.random_bool(0.3)) {
                    body["replyTo"] = json!(id);
                }
                if self.random.random_bool(0.2) {
                    body["mentions"] = json!([self.people[0].id, self.people[1].id]);
                }
                (Method::POST, "/api/messages".to_owned(), body)
            }
            (30..42, Some((id, _))) => {
                (Method::PATCH, about(&id), json!({ "text": format!("better {}", self.random.random::<u32>()) }))
            }
            (42..46, Some((id, _))) => (Method::DELETE, format!("{}?scope=everybody", about(&id)), Value::Null),
            (46..50, Some((id, _))) => (Method::DELETE, format!("{}?scope=me", about(&id)), Value::Null),
            (50..64, Some((id, _))) => {
                let emoji = ["%F0%9F%91%8D", "%F0%9F%8E%89"].choose(&mut self.random).expect("two");
                let method = if self.random.random_bool(0.7) { Method::PUT } else { Method::DELETE };
                (method, format!("{}/reactions/{emoji}", about(&id)), Value::Null)
            }
            (64..70, Some((id, _))) => {
                let method = if self.random.random_bool(0.6) { Method::PUT } else { Method::DELETE };
                (method, format!("{}/pin", about(&id)), Value::Null)
            }
            (70..78, Some((_, seq))) => (Method::POST, format!("{base}/read"), json!({ "upTo": seq })),
            (78..82, _) => (Method::POST, format!("{base}/read"), json!({})),
            (82..85, _) => (Method::POST, format!("{base}/delivered"), json!({})),
            (85..88, _) => {
                let body = json!({ "archived": self.random.random_bool(0.5), "pinned": self.random.random_bool(0.5) });
                (Method::PATCH, format!("{base}/settings"), body)
            }
            (88..91, _) => (Method::PATCH, base, json!({ "title": format!("title {}", self.random.random::<u16>()) })),
            (91..93, _) => (Method::PATCH, base, json!({ "closed": self.random.random_bool(0.2) })),
            (93..95, _) => (Method::DELETE, format!("{base}/participants/{}", self.people[2].id), Value::Null),
            (95..98, _) => {
                let from = ["all", "now"].choose(&mut self.random).expect("two");
                let body = json!({ "userIds": [self.people[2].id], "historyFrom": from });
                (Method::POST, format!("{base}/participants"), body)
            }
            _ => {
                let body = json!({ "hideReadReceipts": self.random.random_bool(0.5) });
                (Method::PATCH, "/api/users/me/preferences".to_owned(), body)
            }
        };
        let request = person.rest.request(method.clone(), &path).bearer_auth(&person.token);
        let request = if body.is_null() { request } else { request.json(&body) };
        let (status, answer) = reply(request.send().await.expect("an answer")).await;
        assert!(status < 300 || answer["reason"].is_string(), "{method} {path} {body}: {status} {answer}");
        assert!(status < 500, "{method} {path} {body}: {status} {answer}");
        if status < 300 {
            let word = path.split(['/', '?']).rev().find(|part| part.chars().all(|c| c.is_ascii_lowercase()));
            *self.done.entry(format!("{method} {}", word.unwrap_or_default())).or_default() += 1;
        }
        if path == "/api/messages" && status == 201 {
            let at = (answer["id"].as_str().expect("an id").to_owned(), answer["seq"].as_u64().expect("a seq"));
            self.said.entry(conversation).or_default().push(at);
        }
    }
}

async fn agreement(seed: u64) {
    let world = World::start().await;
    let other = world.another(Roles::ALL).await;
    let doors = [world.rest.address, other.address];
    let people = join_all(["Ana", "Ben", "Cleo"].map(|name| world.person(name))).await;
    let mut devices: Vec<Device> = Vec::new();
    for person in &people {
        for door in [doors[0], doors[1], doors[0]] {
            devices.push(Device::start(person, door).await);
        }
    }
    let direct = people[0].open(&[&people[1]]).await;
    let group = people[0].open(&[&people[1], &people[2]]).await;
    let random = StdRng::seed_from_u64(seed);
    let mut round = Round { people, doors, group, direct, said: BTreeMap::new(), done: BTreeMap::new(), random };
    for step in 0..STEPS {
        // Of each user's three devices two stay, and one is away for the second half of it.
        if step == STEPS / 3 {
            for away in devices.iter_mut().skip(2).step_by(3) {
                away.leave().await;
            }
        }
        round.step().await;
    }
    let accepted: usize = round.done.values().sum();
    assert!(accepted > STEPS / 3, "seed {seed}: a good part of it was taken: {:#?}", round.done);
    for away in devices.iter_mut().skip(2).step_by(3) {
        away.come_back(doors[1]).await;
    }
    let mut kept = 0;
    for device in &mut devices {
        let shown = until(
            &format!("seed {seed}: a device of {} shows what REST shows", device.person.email),
            async || {
                device.listen().await;
                (device.model.finished(), rest(&device.person, &device.model.since).await)
            },
            |(known, rest)| known == rest,
        )
        .await;
        kept += shown.0.len();
    }
    assert!(kept > 0, "seed {seed}: there is something to show");
    other.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_shows_what_rest_shows() {
    // Some that are always the same, and one that nobody has seen before.
    let fresh = u64::try_from(random_bits() >> 96).expect("32 bits");
    for seed in [1, 2, fresh] {
        agreement(seed).await;
    }
}
