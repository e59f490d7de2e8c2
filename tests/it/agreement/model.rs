//! What a client knows: nothing but what its socket has told it, folded in the order in which it came.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A message as a client shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shown {
    pub seq: u64,
    pub kind: String,
    pub sender: String,
    pub text: String,
    pub mentions: Vec<String>,
    pub reply_to: Option<String>,
    pub edited: bool,
    pub deleted: bool,
    pub pinned: bool,
    pub reactions: BTreeMap<String, BTreeSet<String>>,
}

/// A conversation as a client shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    pub title: Option<String>,
    pub closed: bool,
    /// Roles by user.
    pub participants: BTreeMap<String, String>,
    /// What each has read, as far as one is told.
    pub read: BTreeMap<String, u64>,
    /// What each has got.
    pub delivered: BTreeMap<String, u64>,
    pub archived: bool,
    pub pinned: bool,
    pub muted_until: Option<String>,
    pub messages: BTreeMap<String, Shown>,
    pub last: Option<String>,
    pub unread: usize,
}

/// Everything that one client knows.
#[derive(Debug, Clone, Default)]
pub struct Model {
    me: String,
    pub places: BTreeMap<String, Place>,
    /// Where it came into each conversation again that it had been removed from: a client reloads then.
    pub since: BTreeMap<String, u64>,
    pub cursor: String,
    seen: BTreeSet<String>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

/// A message as a frame or a page has it, before anything has happened to it.
pub fn shown(data: &Value) -> Shown {
    Shown {
        seq: data["seq"].as_u64().unwrap_or_default(),
        kind: text(&data["kind"]),
        sender: text(&data["senderId"]),
        text: text(&data["text"]),
        mentions: texts(&data["mentions"]),
        reply_to: data["replyTo"]["id"].as_str().map(str::to_owned),
        ..Shown::default()
    }
}

impl Model {
    pub fn of(me: &str) -> Self {
        Self { me: me.to_owned(), ..Self::default() }
    }

    /// Takes in a frame; what came before is passed over.
    pub fn hear(&mut self, frame: &Value) {
        let (event, data) = (frame["event"].as_str().unwrap_or_default(), &frame["data"]);
        if let Some(cursor) = data["cursor"].as_str()
            && event != "heartbeat"
        {
            cursor.clone_into(&mut self.cursor);
        }
        let seq = data["seq"].as_u64().unwrap_or_default();
        if seq == 0 {
            return;
        }
        if event == "conversation" {
            // Its id is the conversation's: the place says whether it is news.
            if self.seen.insert(format!("{} {seq}", text(&data["id"]))) {
                self.enter(data, seq);
            }
            return;
        }
        if !self.seen.insert(text(&data["id"])) {
            return;
        }
        let Some(place) = self.places.get_mut(&text(&data["conversationId"])) else { return };
        let user = text(&data["userId"]);
        match event {
            "message" => drop(place.messages.insert(text(&data["id"]), shown(data))),
            "messagesRead" | "messagesDelivered" => {
                for (field, marks) in [("readSeq", &mut place.read), ("deliveredSeq", &mut place.delivered)] {
                    let mark = marks.entry(user.clone()).or_default();
                    *mark = data[field].as_u64().unwrap_or_default().max(*mark);
                }
            }
            "conversationSetting" => {
                place.archived = data["archived"].as_bool().unwrap_or(place.archived);
                place.pinned = data["pinned"].as_bool().unwrap_or(place.pinned);
                if let Some(until) = data["mutedUntil"].as_str() {
                    place.muted_until = Some(until.to_owned());
                }
            }
            _ => {}
        }
        change(place, event, data);
    }

    fn enter(&mut self, data: &Value, seq: u64) {
        let id = text(&data["id"]);
        let participants = data["participants"].as_array().cloned().unwrap_or_default();
        let participants: BTreeMap<String, String> =
            participants.iter().map(|one| (text(&one["userId"]), text(&one["role"]))).collect();
        if !participants.contains_key(&self.me) {
            self.places.remove(&id);
            self.since.insert(id, 0);
            return;
        }
        // The first thing that happens after a removal is that one is let in again.
        if let Some(since) = self.since.get_mut(&id).filter(|since| **since == 0 || !self.places.contains_key(&id)) {
            *since = seq;
        }
        let place = self.places.entry(id).or_default();
        place.participants = participants;
        place.title = data["title"].as_str().map(str::to_owned);
        place.closed = data["closedAt"].is_string();
    }

    /// The places as they would be shown: with what follows from the rest.
    pub fn finished(&self) -> BTreeMap<String, Place> {
        let mut places = self.places.clone();
        for (id, place) in &mut places {
            let since = self.since.get(id).copied().unwrap_or_default();
            finish(place, &self.me, since);
        }
        places
    }
}

/// What an event does to messages of a conversation.
fn change(place: &mut Place, event: &str, data: &Value) {
    let id = text(&data["messageId"]);
    let (user, on) = (text(&data["userId"]), data["on"] == true);
    if event == "messageDeleted" && data["scope"] == "me" {
        place.messages.remove(&id);
        return;
    }
    let Some(message) = place.messages.get_mut(&id) else { return };
    match event {
        "messageDeleted" => {
            let Shown { seq, kind, sender, .. } = std::mem::take(message);
            *message = Shown { seq, kind, sender, deleted: true, ..Shown::default() };
        }
        _ if message.deleted => {}
        "messageEdited" => {
            message.text = text(&data["text"]);
            message.mentions = texts(&data["mentions"]);
            message.edited = true;
        }
        "reaction" => {
            let users = message.reactions.entry(text(&data["emoji"])).or_default();
            if on {
                users.insert(user)
            } else {
                users.remove(&user)
            };
            message.reactions.retain(|_, users| !users.is_empty());
        }
        "messagePinned" => message.pinned = on,
        _ => {}
    }
}

/// Adds what follows. Of a conversation that one was removed from and let in again only what has happened since counts.
pub fn finish(place: &mut Place, me: &str, since: u64) {
    if since > 0 {
        place.messages.retain(|_, message| message.seq > since);
        let Place { title, closed, participants, messages, .. } = std::mem::take(place);
        *place = Place { title, closed, participants, messages, ..Place::default() };
        return;
    }
    let newest = place.messages.iter().max_by_key(|(_, message)| message.seq);
    place.last = newest.map(|(id, _)| id.clone());
    let read = place.read.get(me).copied().unwrap_or_default();
    let counts =
        |message: &&Shown| message.seq > read && message.kind != "system" && message.sender != me && !message.deleted;
    place.unread = place.messages.values().filter(counts).count();
    // Whoever has left may come back; until then their marks are nobody's business.
    let here = &place.participants;
    for marks in [&mut place.read, &mut place.delivered] {
        marks.retain(|user, mark| here.contains_key(user) && *mark > 0);
    }
    // What is read was delivered.
    for (user, read) in &place.read {
        let delivered = place.delivered.entry(user.clone()).or_default();
        *delivered = (*read).max(*delivered);
    }
}
