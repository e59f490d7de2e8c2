//! Role x act x kind, over REST and, where an act exists there, over a socket: each does what the table says.

use serde_json::{Value, json};
use shoptalk::domain::conversation::{Kind, ParticipantRole};
use shoptalk::domain::rights::{Act, Who, may};
use shoptalk::domain::user::Role;

use crate::support::client::Person;
use crate::support::world::{World, message};

const KINDS: [Kind; 3] = [Kind::Direct, Kind::Group, Kind::Support];

/// The path of a message that somebody says now.
async fn said(person: &Person, conversation: &str) -> String {
    let sent = person.say(conversation, "words").await;
    format!("/api/conversations/{conversation}/messages/{}", sent["id"].as_str().expect("an id"))
}

/// Everybody who is needed.
struct Cast {
    buyer: Person,
    seller: Person,
    agent: Person,
    owner: Person,
    other_buyer: Person,
    other_agent: Person,
    other_owner: Person,
    customer: Person,
    new_buyer: Person,
    new_agent: Person,
    outsiders: [(Role, Person); 4],
}

impl Cast {
    async fn meet(world: &World) -> Self {
        Self {
            buyer: world.person("Buyer").await,
            seller: world.staff("Seller", "seller").await,
            agent: world.staff("Agent", "agent").await,
            owner: world.person("Owner").await,
            other_buyer: world.person("Other").await,
            other_agent: world.staff("Second", "agent").await,
            other_owner: world.person("Partner").await,
            customer: world.person("Customer").await,
            new_buyer: world.person("New").await,
            new_agent: world.staff("Fresh", "agent").await,
            outsiders: [
                (Role::Buyer, world.person("Out").await),
                (Role::Seller, world.staff("Out", "seller").await),
                (Role::Agent, world.staff("Out", "agent").await),
                (Role::Admin, world.staff("Out", "admin").await),
            ],
        }
    }

    /// A new conversation with everybody in it who can be. `about` keeps those that are there once apart.
    async fn open(&self, kind: Kind, about: &str) -> String {
        let ids = |people: &[&Person]| people.iter().map(|person| person.id.clone()).collect::<Vec<_>>();
        let context = json!({ "type": "order", "id": about });
        let (opener, body, later) = match kind {
            Kind::Direct => (
                &self.buyer,
                json!({ "recipientId": self.seller.id, "context": context }),
                vec![(&self.buyer, ids(&[&self.agent, &self.other_agent]))],
            ),
            Kind::Group => {
                let others =
                    [&self.buyer, &self.seller, &self.agent, &self.other_buyer, &self.other_agent, &self.other_owner];
                (&self.owner, json!({ "kind": "group", "participants": ids(&others) }), Vec::new())
            }
            Kind::Support => (
                &self.customer,
                json!({ "kind": "support", "context": context }),
                vec![
                    (&self.agent, ids(&[&self.agent])),
                    (&self.agent, ids(&[&self.buyer, &self.seller, &self.other_buyer, &self.other_agent])),
                ],
            ),
        };
        let (status, opened) = opener.post("/api/conversations", &body).await;
        assert_eq!(status, 201, "{opened}");
        let id = opened["id"].as_str().expect("an id").to_owned();
        for (adder, users) in later {
            let (status, added) =
                adder.post(&format!("/api/conversations/{id}/participants"), &json!({ "userIds": users })).await;
            assert_eq!(status, 200, "{added}");
        }
        if kind == Kind::Group {
            let path = format!("/api/conversations/{id}/participants/{}", self.other_owner.id);
            assert_eq!(self.owner.patch(&path, &json!({ "role": "owner" })).await.0, 200);
        }
        id
    }

    /// What somebody gets who tries; nothing if there is nobody to do it to in this kind.
    async fn attempt(&self, person: &Person, act: Act, kind: Kind, id: &str) -> Option<(u16, Value)> {
        let place = format!("/api/conversations/{id}");
        let member = |user: &Person| format!("{place}/participants/{}", user.id);
        let add = |user: &Person| (format!("{place}/participants"), json!({ "userIds": [user.id] }));
        let inside = [&self.buyer, &self.seller, &self.agent, &self.owner].iter().any(|one| one.id == person.id);
        let others = if kind == Kind::Direct { &self.other_agent } else { &self.other_buyer };
        let own = if inside { person } else { others };
        let bound = if person.id == self.seller.id { &self.buyer } else { &self.seller };
        Some(match act {
            Act::Read => person.get(&place).await,
            Act::Send => person.post("/api/messages", &message(id, "hello")).await,
            Act::AddParticipant => {
                let (path, body) = add(&self.new_buyer);
                person.post(&path, &body).await
            }
            Act::AddAgent => {
                let (path, body) = add(&self.new_agent);
                person.post(&path, &body).await
            }
            Act::JoinAsAgent => {
                let (path, body) = add(person);
                person.post(&path, &body).await
            }
            Act::RemoveParticipant if kind == Kind::Direct => return None,
            Act::RemoveParticipant => person.delete(&member(&self.other_buyer)).await,
            Act::RemoveAgent => person.delete(&member(&self.other_agent)).await,
            Act::RemoveOwner if kind == Kind::Group => person.delete(&member(&self.other_owner)).await,
            Act::RemoveBound => match kind {
                Kind::Direct => person.delete(&member(bound)).await,
                Kind::Group => return None,
                Kind::Support => person.delete(&member(&self.customer)).await,
            },
            Act::Leave => person.delete(&member(person)).await,
            Act::Rename => person.patch(&place, &json!({ "title": "another" })).await,
            Act::SetRole => person.patch(&member(&self.seller), &json!({ "role": "owner" })).await,
            Act::Close => person.patch(&place, &json!({ "closed": true })).await,
            Act::Reopen => person.patch(&place, &json!({ "closed": false })).await,
            Act::RemoveOwner => return None,
            Act::React => person.put(&format!("{}/reactions/%F0%9F%91%8D", said(others, id).await)).await,
            Act::EditOwn => person.patch(&said(own, id).await, &json!({ "text": "other words" })).await,
            Act::DeleteOwn => person.delete(&said(own, id).await).await,
            Act::DeleteOthers => person.delete(&said(others, id).await).await,
            Act::PinMessage => person.put(&format!("{}/pin", said(others, id).await)).await,
        })
    }

    /// Tries everything, what ends their stay last.
    async fn try_all(&self, who: Who, person: &Person, kind: Kind, id: &str, wrong: &mut Vec<String>) -> usize {
        let mut tried = 0;
        let mut acts: Vec<Act> = Act::ALL.into_iter().filter(|act| *act != Act::Leave).collect();
        acts.push(Act::Leave);
        for act in acts {
            // For somebody inside it is nothing to join.
            if act == Act::JoinAsAgent && matches!(who, Who::Participant(_)) {
                continue;
            }
            let Some((status, answer)) = self.attempt(person, act, kind, id).await else { continue };
            tried += 1;
            let reason = if matches!(who, Who::Participant(_)) { "not_allowed" } else { "not_a_participant" };
            // Whoever is not in it has left it already; that does not tell them whether it is there.
            let gone = act == Act::Leave && matches!(who, Who::Outsider(_));
            let as_said = if may(kind, who, act) || gone {
                (200..300).contains(&status)
            } else {
                (status, answer["reason"].as_str()) == (403, Some(reason))
            };
            if !as_said {
                wrong.push(format!("{kind:?} {who:?} {act:?}: {status} {answer}"));
            }
            if act == Act::JoinAsAgent && status == 200 {
                // From here on they are inside.
                break;
            }
        }
        tried
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_may_do_what_the_table_says_and_nothing_else() {
    let world = World::start().await;
    let cast = Cast::meet(&world).await;
    let (mut wrong, mut tried) = (Vec::new(), 0);
    for kind in KINDS {
        for role in ParticipantRole::ALL {
            let person = match role {
                ParticipantRole::Buyer => &cast.buyer,
                ParticipantRole::Seller => &cast.seller,
                ParticipantRole::Agent => &cast.agent,
                ParticipantRole::Owner if kind == Kind::Group => &cast.owner,
                // Nobody owns anything but a group.
                ParticipantRole::Owner => continue,
            };
            let id = cast.open(kind, role.word()).await;
            tried += cast.try_all(Who::Participant(role), person, kind, &id, &mut wrong).await;
        }
        let id = cast.open(kind, "foreign").await;
        for (role, person) in &cast.outsiders {
            tried += cast.try_all(Who::Outsider(*role), person, kind, &id, &mut wrong).await;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(tried > 300, "only {tried} were tried");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_go_by_the_same_table() {
    let world = World::start().await;
    let cast = Cast::meet(&world).await;
    for kind in KINDS {
        let id = cast.open(kind, "socket").await;
        let here = json!({ "conversationId": id });
        for person in [&cast.buyer, &cast.seller, &cast.agent] {
            let mut socket = person.socket().await;
            assert_eq!(socket.call("sendMessage", &message(&id, "hello")).await["ok"], true, "{kind:?}");
            for event in ["typing", "stopTyping", "markRead"] {
                assert_eq!(socket.call(event, &here).await["ok"], true, "{kind:?} {event}");
            }
            let sent = cast.other_agent.say(&id, "words").await;
            let change = json!({ "conversationId": id, "messageId": sent["id"], "emoji": "👍" });
            let role = Who::Participant(if person.id == cast.agent.id {
                ParticipantRole::Agent
            } else {
                ParticipantRole::Buyer
            });
            for (event, act) in
                [("react", Act::React), ("pinMessage", Act::PinMessage), ("deleteMessage", Act::DeleteOthers)]
            {
                let answer = socket.call(event, &change).await;
                assert_eq!(answer["ok"], may(kind, role, act), "{kind:?} {event}: {answer}");
            }
        }
        for (role, person) in &cast.outsiders {
            let mut socket = person.socket().await;
            let refused = socket.call("sendMessage", &message(&id, "hello")).await;
            assert_eq!(refused["error"]["reason"], "not_a_participant", "{kind:?} {role}");
            let sent = cast.buyer.say(&id, "words").await;
            let changed = json!({ "conversationId": id, "messageId": sent["id"], "text": "x", "emoji": "👍" });
            for event in ["typing", "markRead", "editMessage", "deleteMessage", "react", "pinMessage"] {
                let refused = socket.call(event, &changed).await;
                assert_eq!(refused["error"]["reason"], "not_a_participant", "{kind:?} {role} {event}");
            }
        }
    }
    world.stop().await;
}
