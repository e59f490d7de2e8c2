//! Kinds of conversations: how they are opened and found, named and closed, and what each is to its participants.

use serde_json::{Value, json};
use shoptalk::app::Roles;

use crate::support::client::Person;
use crate::support::until;
use crate::support::world::{World, message};

const GATEWAY: Roles = Roles { gateway: true, worker: false };

fn id(answer: &(u16, Value)) -> (u16, String) {
    (answer.0, answer.1["id"].as_str().unwrap_or_else(|| panic!("an id: {}", answer.1)).to_owned())
}

fn reason(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["reason"].as_str().unwrap_or_default())
}

async fn ids(person: &Person, query: &str) -> Vec<String> {
    let (status, page) = person.get(&format!("/api/conversations?{query}")).await;
    assert_eq!(status, 200, "{page}");
    let items = page["items"].as_array().expect("a page");
    items.iter().map(|one| one["id"].as_str().expect("an id").to_owned()).collect()
}

/// What the notes of a history say, in order.
async fn notes(person: &Person, conversation: &str) -> Vec<String> {
    let (_, page) = person.get(&format!("/api/messages/{conversation}?limit=200")).await;
    let items = page["items"].as_array().expect("a page");
    let notes = items.iter().filter(|one| one["kind"] == "system");
    notes.map(|one| one["entry"]["type"].as_str().expect("a note says something").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_is_opened_once_where_it_is_there_once() {
    let world = World::start().await;
    let other = world.another(GATEWAY).await;
    let (ana, ben, cleo) = (world.person("Ana").await, world.person("Ben").await, world.person("Cleo").await);
    let there = ana.at(other.address);

    // Two calls at once, on two instances, open a direct conversation once.
    let direct = json!({ "recipientId": ben.id, "context": { "type": "order", "id": "7" } });
    let (one, two) = tokio::join!(ana.post("/api/conversations", &direct), there.post("/api/conversations", &direct));
    assert_eq!(id(&one).1, id(&two).1);
    let mut statuses = [one.0, two.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 201]);

    // A group is a new one each time, unless its opening has a name.
    let group = json!({ "participants": [ben.id, cleo.id], "title": "  The jumper  " });
    let (first, second) = (ana.post("/api/conversations", &group).await, ana.post("/api/conversations", &group).await);
    assert_ne!(id(&first).1, id(&second).1);
    assert_eq!((&first.1["kind"], &first.1["title"]), (&json!("group"), &json!("The jumper")));
    let role = |person: &Person| {
        let all = first.1["participants"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| one["userId"] == person.id.as_str()).map(|one| one["role"].clone())
    };
    assert_eq!((role(&ana), role(&ben)), (Some(json!("owner")), Some(json!("buyer"))));
    let named = |person: &Person| {
        let request = person.rest.request(reqwest::Method::POST, "/api/conversations").bearer_auth(&person.token);
        let sent = request.header("Idempotency-Key", "g-1").json(&group).send();
        async { crate::support::client::reply(sent.await.expect("an answer")).await }
    };
    let (one, two) = tokio::join!(named(&ana), named(&there));
    assert_eq!(id(&one).1, id(&two).1);
    assert_ne!(id(&one).1, id(&first).1);
    assert_eq!(id(&named(&ana).await), (200, id(&one).1));
    let pair = json!({ "kind": "group", "participants": [ben.id] });
    assert_eq!(ana.post("/api/conversations", &pair).await.1["kind"], "group");

    // Two spellings of one name are one context.
    let about = |id: &str| json!({ "recipientId": ben.id, "context": { "type": "product", "id": id } });
    let spelled = ana.post("/api/conversations", &about("caf\u{e9}")).await;
    assert_eq!(id(&ana.post("/api/conversations", &about("cafe\u{301} ")).await).1, id(&spelled).1);

    // Support: one for each user and context.
    let support = json!({ "kind": "support" });
    let (one, two) = tokio::join!(ana.post("/api/conversations", &support), there.post("/api/conversations", &support));
    assert_eq!(id(&one).1, id(&two).1);
    assert_eq!(one.1["participants"].as_array().map(Vec::len), Some(1));
    let about = json!({ "kind": "support", "context": { "type": "order", "id": "7" } });
    assert_ne!(id(&ana.post("/api/conversations", &about).await).1, id(&one).1);
    assert_ne!(id(&ben.post("/api/conversations", &support).await).1, id(&one).1);
    other.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_openings_and_changes_have_their_reasons() {
    let world = World::start().await;
    let (ana, ben, direct) = world.pair().await;
    let agent = world.staff("Gus", "agent").await;
    let long = "x".repeat(201);
    for (body, status, expected) in [
        (json!({ "kind": "star", "recipientId": ben.id }), 400, "unknown_kind"),
        (json!({ "kind": "direct", "participants": [ben.id, agent.id] }), 400, "direct_is_for_two"),
        (json!({ "kind": "direct" }), 400, "no_other_participant"),
        (json!({ "kind": "group", "participants": [ana.id] }), 400, "no_other_participant"),
        (json!({ "kind": "support", "recipientId": ben.id }), 400, "support_is_opened_alone"),
        (json!({ "recipientId": ben.id, "title": "x" }), 400, "direct_has_no_title"),
        (json!({ "kind": "group", "recipientId": ben.id, "title": long }), 400, "malformed_title"),
        (json!({ "kind": "group", "recipientId": ben.id, "title": " " }), 400, "malformed_title"),
        (json!({ "kind": "group", "recipientId": ben.id, "title": "a\nb" }), 400, "malformed_title"),
        (json!({ "kind": "group", "recipientId": ben.id, "title": "\u{202e}x" }), 400, "malformed_title"),
        (json!({ "kind": "group", "recipientId": ben.id, "title": "\u{200b}" }), 400, "malformed_title"),
        (json!({ "recipientId": ben.id, "context": { "type": "order", "id": " " } }), 400, "malformed_context"),
        (json!({ "kind": "group", "recipientId": "usr_00000000000000000000000000" }), 404, "unknown_user"),
    ] {
        assert_eq!(reason(&ana.post("/api/conversations", &body).await), (status, expected), "{body}");
    }
    let support = agent.post("/api/conversations", &json!({ "kind": "support" })).await;
    assert_eq!(reason(&support), (403, "support_is_for_customers"));

    let path = format!("/api/conversations/{direct}");
    assert_eq!(reason(&ana.patch(&path, &json!({ "title": "x" })).await), (403, "not_allowed"));
    assert_eq!(reason(&ana.patch(&path, &json!({ "closed": true })).await), (403, "not_allowed"));
    let settings = format!("{path}/settings");
    // The last two are in another year in UTC, one that cannot be written.
    for until in ["soon", "0000-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"] {
        let refused = ana.patch(&settings, &json!({ "mutedUntil": until })).await;
        assert_eq!(reason(&refused), (400, "malformed_muted_until"), "{until}");
    }
    let (status, kept) = ana.patch(&settings, &json!({ "mutedUntil": "9999-12-31T23:59:59.999Z" })).await;
    assert_eq!((status, &kept["mutedUntil"]), (200, &json!("9999-12-31T23:59:59.999Z")));
    assert_eq!(world.dead_letters().await, 0, "all that was taken can be read");
    assert_eq!(reason(&ana.patch(&settings, &json!({ "archived": "yes" })).await), (400, "malformed_request"));
    assert_eq!(reason(&agent.patch(&settings, &json!({ "archived": true })).await), (403, "not_a_participant"));
    for (query, expected) in
        [("kind=star", "unknown_kind"), ("contextType=star", "malformed_context"), ("limit=0", "malformed_limit")]
    {
        assert_eq!(reason(&ana.get(&format!("/api/conversations?{query}")).await), (400, expected));
    }
    assert_eq!(reason(&ana.get("/api/conversations?queue=true").await), (403, "not_an_agent"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_title_and_an_end_are_told_to_everybody_and_noted() {
    let world = World::start().await;
    let other = world.another(GATEWAY).await;
    let (ana, ben) = (world.person("Ana").await, world.person("Ben").await);
    let mut his = ben.at(other.address).socket().await;
    let opened = ana.post("/api/conversations", &json!({ "kind": "group", "participants": [ben.id] })).await;
    let (_, group) = id(&opened);
    his.next("conversation").await;
    let path = format!("/api/conversations/{group}");
    let (status, renamed) = ana.patch(&path, &json!({ "title": "The blue one" })).await;
    assert_eq!((status, &renamed["title"]), (200, &json!("The blue one")));
    assert_eq!(his.next("conversation").await["title"], "The blue one");
    let note = his.next("message").await;
    assert_eq!(note["entry"], json!({ "type": "renamed", "title": "The blue one" }));
    assert_eq!((&note["kind"], &note["senderId"]), (&json!("system"), &json!(ana.id)));

    assert_eq!(ana.patch(&path, &json!({ "title": "The blue one" })).await.0, 200, "nothing happens");
    let (_, closed) = ana.patch(&path, &json!({ "title": null, "closed": true })).await;
    assert!(closed["title"].is_null() && closed["closedAt"].is_string(), "{closed}");
    for person in [&ana, &ben, &ben.at(other.address)] {
        let refused = person.post("/api/messages", &message(&group, "too late")).await;
        assert_eq!(reason(&refused), (409, "conversation_closed"));
    }
    assert_eq!(ben.get(&format!("/api/messages/{group}")).await.0, 200, "reading goes on");
    let (_, open) = ana.patch(&path, &json!({ "closed": false })).await;
    assert!(open["closedAt"].is_null(), "{open}");
    ben.say(&group, "again").await;
    assert_eq!(notes(&ben, &group).await, ["renamed", "renamed", "closed", "reopened"]);
    other.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn support_waits_in_a_queue_and_opens_again_for_its_customer() {
    let world = World::start().await;
    let (ana, gus) = (world.person("Ana").await, world.staff("Gus", "agent").await);
    let boss = world.staff("Ada", "admin").await;
    let opened = ana.post("/api/conversations", &json!({ "kind": "support" })).await;
    let (_, support) = id(&opened);
    ana.say(&support, "where is my order?").await;
    until("the queue", || ids(&gus, "queue=true"), |all: &Vec<String>| *all == [support.as_str()]).await;
    let path = format!("/api/conversations/{support}");
    assert_eq!(reason(&gus.get(&path).await), (403, "not_a_participant"), "they have to join first");

    let joining = format!("{path}/participants");
    let (status, joined) = gus.post(&joining, &json!({ "userIds": [gus.id] })).await;
    assert_eq!((status, joined["participants"].as_array().map(Vec::len)), (200, Some(2)), "{joined}");
    assert_eq!(gus.post(&joining, &json!({ "userIds": [gus.id] })).await.0, 200, "once more is nothing");
    assert_eq!(ids(&boss, "queue=true").await, [] as [String; 0], "nobody waits");
    assert_eq!(ids(&gus, "kind=support").await, [support.as_str()]);

    assert_eq!(gus.patch(&path, &json!({ "closed": true })).await.0, 200);
    let refused = gus.post("/api/messages", &message(&support, "one more thing")).await;
    assert_eq!(reason(&refused), (409, "conversation_closed"), "only the customer's message opens it");
    let mut hers = ana.socket().await;
    assert_eq!(hers.call("sendMessage", &message(&support, "it came broken")).await["ok"], true);
    let (_, open) = gus.get(&path).await;
    assert!(open["closedAt"].is_null(), "{open}");
    gus.say(&support, "sorry!").await;
    assert_eq!(notes(&ana, &support).await, ["joined", "closed", "reopened"]);
    // When the last agent is gone it waits again.
    assert_eq!(gus.delete(&format!("{joining}/{}", gus.id)).await.0, 204);
    until("the queue", || ids(&boss, "queue=true"), |all: &Vec<String>| *all == [support.as_str()]).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_ones_own_and_lists_are_filtered_by_what_is_so_now() {
    // Nobody projects anything: all of it is laid over.
    for roles in [Roles::ALL, GATEWAY] {
        let world = World::with_roles(roles).await;
        let other = world.another(GATEWAY).await;
        let (ana, ben) = (world.person("Ana").await, world.person("Ben").await);
        let mut places = Vec::new();
        for number in 0..5 {
            let context = json!({ "type": if number < 2 { "order" } else { "product" }, "id": number.to_string() });
            let body = json!({ "recipientId": ben.id, "context": context });
            places.push(id(&ana.post("/api/conversations", &body).await).1);
        }
        let group = id(&ana.post("/api/conversations", &json!({ "kind": "group", "participants": [ben.id] })).await).1;
        let mut device = ana.at(other.address).socket().await;
        let mut his = ben.socket().await;
        let settings = format!("/api/conversations/{}/settings", places[0]);
        let change = json!({ "archived": true, "pinned": true, "mutedUntil": "2999-01-01T00:00:00Z" });
        let (status, all) = ana.patch(&settings, &change).await;
        let whole = json!({ "mutedUntil": "2999-01-01T00:00:00.000Z", "archived": true, "pinned": true });
        assert_eq!((status, &all), (200, &whole));
        let told = device.next("conversationSetting").await;
        assert_eq!((&told["archived"], &told["conversationId"]), (&json!(true), &json!(places[0])));
        let (_, all) = ana.patch(&settings, &json!({ "mutedUntil": null })).await;
        assert_eq!(all, json!({ "archived": true, "pinned": true }));
        assert!(his.drain("conversationSetting").await.is_empty());

        let there = ana.at(other.address);
        assert_eq!(ids(&there, "archived=true").await, [places[0].as_str()]);
        let (_, list) = there.get("/api/conversations?archived=true").await;
        assert_eq!(list["items"][0]["settings"], json!({ "archived": true, "pinned": true }));
        let rest = [&group, &places[4], &places[3], &places[2], &places[1]].map(Clone::clone);
        assert_eq!(ids(&there, "archived=false").await, rest);
        assert_eq!(ids(&ben, "archived=true").await, [] as [String; 0]);
        assert_eq!(ids(&there, "kind=group").await, [group.as_str()]);
        assert_eq!(ids(&there, "contextType=order").await, [places[1].clone(), places[0].clone()]);
        assert_eq!(ids(&there, "contextType=product&contextId=3").await, [places[3].as_str()]);
        assert_eq!(ids(&there, "contextId=nothing").await, [] as [String; 0]);

        // What moves up is on no page twice, and nothing is left out.
        let (_, page) = there.get("/api/conversations?limit=2").await;
        ben.say(&places[1], "hello").await;
        let mut seen: Vec<String> = Vec::new();
        let mut path = "/api/conversations?limit=2".to_owned();
        loop {
            let (_, page) = there.get(&path).await;
            let items = page["items"].as_array().cloned().unwrap_or_default();
            seen.extend(items.iter().filter_map(|one| one["id"].as_str().map(str::to_owned)));
            let Some(cursor) = page["nextCursor"].as_str() else { break };
            path = format!("/api/conversations?limit=2&cursor={cursor}");
        }
        let order = [&places[1], &group, &places[4], &places[3], &places[2], &places[0]].map(Clone::clone);
        assert_eq!(seen, order);
        let cursor = page["nextCursor"].as_str().expect("more");
        let later = ids(&there, &format!("limit=9&cursor={cursor}")).await;
        assert_eq!(later, [places[3].clone(), places[2].clone(), places[0].clone()], "it is on the first page now");
        other.stop().await.expect("a clean stop");
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openings_and_settings_are_limited_like_messages() {
    let world = World::with(Roles::ALL, &[("USER_SENDS_PER_SECOND", "1")]).await;
    let (ana, ben) = (world.person("Ana").await, world.person("Ben").await);
    let place = ana.open(&[&ben]).await;
    let opening = json!({ "kind": "group", "participants": [ben.id] });
    let path = format!("/api/conversations/{place}/settings");
    let mut pinned = false;
    let mut last = (0, Value::Null);
    for _ in 0..200 {
        last = ana.post("/api/conversations", &opening).await;
        if last.0 != 201 {
            break;
        }
    }
    assert_eq!(reason(&last), (429, "too_many_sends"));
    assert_eq!(ana.open(&[&ben]).await, place, "what is there is found all the same");
    for _ in 0..200 {
        pinned = !pinned;
        last = ben.patch(&path, &json!({ "pinned": pinned })).await;
        if last.0 != 200 {
            break;
        }
    }
    assert_eq!(reason(&last), (429, "too_many_sends"));
    world.stop().await;
}
