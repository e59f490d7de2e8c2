//! Changing messages: editing, deleting, emoji and pins.

use std::sync::atomic::{AtomicU32, Ordering};

use mongodb::bson::{Document, doc};
use reqwest::Method;
use serde_json::{Value, json};
use shoptalk::app::Roles;

use crate::drills::evidence::database;
use crate::support::messages::{call, change, delete, edit, page, path, pin, react, shown, texts};
use crate::support::until;
use crate::support::world::{World, message};

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_heard_shown_and_remembered_everywhere() {
    let world = World::start().await;
    let other = world.another(Roles { gateway: true, worker: false }).await;
    let (ana, ben, conversation) = world.pair().await;
    let away = ben.at(other.address);
    let mut his = away.socket().await;
    let sent = ana.say(&conversation, "first").await;
    let id = &sent["id"];

    let (status, edited) = edit(&ana, &conversation, id, "second").await;
    assert_eq!((status, &edited["text"], &edited["seq"]), (200, &json!("second"), &sent["seq"]), "{edited}");
    let heard = his.next("messageEdited").await;
    assert_eq!((&heard["messageId"], &heard["text"], &heard["messageSeq"]), (id, &json!("second"), &sent["seq"]));
    assert_eq!(heard["editedAt"], edited["editedAt"]);

    // Over a socket, at the other instance.
    let mut hers = ana.at(other.address).socket().await;
    let third = change(&conversation, id, json!({ "text": "third", "mentions": [ben.id] }));
    let answer = hers.call("editMessage", &third).await;
    assert_eq!((&answer["ok"], &answer["data"]["messageId"]), (&json!(true), id), "{answer}");
    assert!(answer["data"]["seq"].as_u64() > heard["seq"].as_u64());
    let heard = his.next("messageEdited").await;
    assert_eq!((&heard["text"], &heard["mentions"]), (&json!("third"), &json!([ben.id])));

    for reader in [&ben, &away] {
        let found = shown(reader, &conversation, id).await;
        assert_eq!((&found["text"], &found["mentions"]), (&json!("third"), &json!([ben.id])));
        let wordings: Vec<&str> =
            found["wordings"].as_array().expect("a list").iter().filter_map(|one| one["text"].as_str()).collect();
        assert_eq!(wordings, ["first", "second", "third"], "oldest first");
        assert_eq!(texts(&page(reader, &conversation, "").await), ["third"]);
    }

    // The same again is nothing new, for nobody.
    let again = hers.call("editMessage", &change(&conversation, id, json!({ "text": "third" }))).await;
    assert_eq!(again, json!({ "ok": true, "data": { "conversationId": conversation, "messageId": id } }));
    assert!(his.drain("messageEdited").await.is_empty());
    other.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_read_without_the_former_words_of_its_messages() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let id = ana.say(&conversation, "first").await["id"].clone();
    let mut answer = message(&conversation, "I see");
    answer["replyTo"] = id.clone();
    assert_eq!(ben.post("/api/messages", &answer).await.0, 201);
    for text in ["second", "third"] {
        assert_eq!(edit(&ana, &conversation, &id, text).await.0, 200);
    }
    assert_eq!(pin(&ben, Method::PUT, &conversation, &id).await.0, 200);
    let messages = database(&world.tenant).await.collection::<Document>("messages");
    let stored = doc! { "_id": id.as_str().expect("an id"), "pin.on": true, "wording.text": "third" };
    until(
        "everything is stored",
        || async { messages.find_one(stored.clone()).await.expect("an answer") },
        |found: &Option<Document>| found.is_some(),
    )
    .await;
    // Whoever reads them now finds nothing that can be read.
    let spoilt = messages.update_one(stored, doc! { "$set": { "edits": "nothing" } }).await.expect("an answer");
    assert_eq!(spoilt.modified_count, 1);

    // Another instance knows nothing but what is stored.
    let other = world.another(Roles { gateway: true, worker: false }).await;
    let reader = ben.at(other.address);
    let history = page(&reader, &conversation, "").await;
    assert_eq!(texts(&history), ["third", "I see"]);
    assert!(history["items"][0]["editedAt"].is_string(), "{history}");
    assert_eq!(history["items"][1]["replyTo"]["text"], "third");
    let (status, pins) = reader.get(&format!("/api/conversations/{conversation}/pins")).await;
    assert_eq!((status, texts(&pins)), (200, vec!["third".to_owned()]));
    assert_eq!(reader.get("/api/conversations").await.0, 200);
    other.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_message_says_nothing_to_anybody() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let mut his = ben.socket().await;
    let id = ana.say(&conversation, "secret").await["id"].clone();
    edit(&ana, &conversation, &id, "a secret").await;
    react(&ben, Method::PUT, &conversation, &id, "👍").await;
    assert_eq!(pin(&ben, Method::PUT, &conversation, &id).await.0, 200);
    let mut answer = message(&conversation, "I see");
    answer["replyTo"] = id.clone();
    let (status, answer) = ben.post("/api/messages", &answer).await;
    assert_eq!((status, &answer["replyTo"]["text"]), (201, &json!("a secret")));

    assert_eq!(delete(&ben, &conversation, &id, "everybody").await.1["reason"], "not_allowed", "it is not his");
    let (status, done) = delete(&ana, &conversation, &id, "everybody").await;
    assert_eq!((status, done["seq"].is_u64()), (200, true), "{done}");
    let heard = his.next("messageDeleted").await;
    assert_eq!((&heard["messageId"], &heard["deletedBy"], &heard["scope"]), (&id, &json!(ana.id), &json!("everybody")));
    let (status, again) = delete(&ana, &conversation, &id, "everybody").await;
    assert_eq!((status, again.get("seq")), (200, None), "it is gone already");

    let found = shown(&ben, &conversation, &id).await;
    assert_eq!((&found["text"], &found["deletedBy"]), (&json!(""), &json!(ana.id)));
    for field in ["reactions", "editedAt", "pinnedAt", "replyTo", "mentions"] {
        assert_eq!(found.get(field), None, "{field}");
    }
    assert_eq!(found["wordings"], json!([]));
    let page = page(&ben, &conversation, "").await;
    assert_eq!(texts(&page), ["", "I see"]);
    assert_eq!(page["items"][1]["replyTo"]["text"], "", "what quotes it says nothing either");
    assert!(!page.to_string().contains("secret"), "{page}");
    assert_eq!(ben.get(&format!("/api/conversations/{conversation}/pins")).await.1["items"], json!([]));

    // And takes nothing more.
    assert_eq!(edit(&ana, &conversation, &id, "other").await.1["reason"], "message_deleted");
    for (status, refused) in [
        react(&ben, Method::PUT, &conversation, &id, "👍").await,
        react(&ben, Method::DELETE, &conversation, &id, "👍").await,
        pin(&ben, Method::PUT, &conversation, &id).await,
    ] {
        assert_eq!((status, &refused["reason"]), (409, &json!("message_deleted")));
    }
    let mut send = message(&conversation, "what?");
    send["replyTo"] = id;
    assert_eq!(ben.post("/api/messages", &send).await.1["reason"], "message_deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_has_each_emoji_once() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let (mut hers, mut his) = (ana.socket().await, ben.socket().await);
    let id = ana.say(&conversation, "hello").await["id"].clone();
    let thumb = change(&conversation, &id, json!({ "emoji": "👍" }));
    assert!(his.call("react", &thumb).await["data"]["seq"].is_u64());
    let heard = hers.next("reaction").await;
    assert_eq!((&heard["emoji"], &heard["on"], &heard["userId"]), (&json!("👍"), &json!(true), &json!(ben.id)));
    assert_eq!(his.call("react", &thumb).await["data"].get("seq"), None, "he has it on already");
    assert_eq!(react(&ana, Method::PUT, &conversation, &id, "👍").await.0, 200);
    // Two spellings of one heart.
    assert!(react(&ana, Method::PUT, &conversation, &id, "\u{2764}\u{fe0f}").await.1["seq"].is_u64());
    assert_eq!(react(&ana, Method::PUT, &conversation, &id, "\u{2764}").await.1.get("seq"), None);

    let expected = json!([
        { "emoji": "👍", "count": 2, "userIds": [ben.id, ana.id] },
        { "emoji": "\u{2764}\u{fe0f}", "count": 1, "userIds": [ana.id] },
    ]);
    assert_eq!(shown(&ben, &conversation, &id).await["reactions"], expected);
    let off = change(&conversation, &id, json!({ "emoji": "👍", "on": false }));
    assert!(his.call("react", &off).await["data"]["seq"].is_u64());
    assert_eq!(his.call("react", &off).await["data"].get("seq"), None);
    assert_eq!(react(&ana, Method::DELETE, &conversation, &id, "\u{2764}").await.0, 200);
    let left = json!([{ "emoji": "👍", "count": 1, "userIds": [ana.id] }]);
    assert_eq!(shown(&ben, &conversation, &id).await["reactions"], left);
    assert_eq!(page(&ben, &conversation, "").await["items"][0]["reactions"], left);

    for bad in ["ok", "👍👍", "%20", ":+1:"] {
        let (status, refused) = react(&ana, Method::PUT, &conversation, &id, bad).await;
        assert_eq!((status, &refused["reason"]), (400, &json!("malformed_emoji")), "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pins_are_listed_the_last_one_first() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let mut his = ben.socket().await;
    let mut ids = Vec::new();
    for number in 0..52 {
        ids.push(ana.say(&conversation, &number.to_string()).await["id"].clone());
    }
    let pins = || async {
        let (status, pins) = ben.get(&format!("/api/conversations/{conversation}/pins")).await;
        assert_eq!(status, 200, "{pins}");
        texts(&pins)
    };
    for id in [&ids[2], &ids[0], &ids[1]] {
        let (status, done) = pin(&ana, Method::PUT, &conversation, id).await;
        assert_eq!((status, done["seq"].is_u64()), (200, true), "{done}");
        let heard = his.next("messagePinned").await;
        assert_eq!((&heard["messageId"], &heard["on"], &heard["userId"]), (id, &json!(true), &json!(ana.id)));
    }
    assert_eq!(pin(&ben, Method::PUT, &conversation, &ids[0]).await.1.get("seq"), None, "it is pinned already");
    assert_eq!(pins().await, ["1", "0", "2"]);
    let down = his.call("pinMessage", &change(&conversation, &ids[0], json!({ "on": false }))).await;
    assert!(down["data"]["seq"].is_u64(), "{down}");
    assert_eq!(pins().await, ["1", "2"]);
    assert!(shown(&ben, &conversation, &ids[1]).await["pinnedAt"].is_string());

    for id in &ids[3..51] {
        assert_eq!(pin(&ana, Method::PUT, &conversation, id).await.0, 200);
    }
    assert_eq!(pins().await.len(), 50);
    let (status, refused) = pin(&ana, Method::PUT, &conversation, &ids[51]).await;
    assert_eq!((status, &refused["reason"]), (413, &json!("too_many_pins")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_change_has_the_same_answer_everywhere_and_changes_nothing() {
    let world = World::with(Roles::ALL, &[("EDIT_SECONDS", "1")]).await;
    let (ana, ben, conversation) = world.pair().await;
    let eve = world.person("Eve").await;
    let elsewhere = ben.open(&[&eve]).await;
    let foreign = eve.say(&elsewhere, "elsewhere").await["id"].clone();
    let hers = ana.say(&conversation, "hers").await["id"].clone();
    let mine = ben.say(&conversation, "mine").await["id"].clone();
    let unknown = json!("msg_00000000000000000000000001");
    let mut socket = ben.socket().await;
    let tries = AtomicU32::new(0);
    let once_more = || async {
        let text = tries.fetch_add(1, Ordering::Relaxed).to_string();
        edit(&ben, &conversation, &mine, &text).await
    };
    until("the end of the time to edit", once_more, |(status, _)| *status == 409).await;
    let before = page(&ben, &conversation, "").await;

    let text = |text: &str| json!({ "text": text });
    let long = "x".repeat(8_001);
    for (event, place, id, more, status, reason) in [
        ("editMessage", &conversation, &mine, text("later"), 409, "edit_too_late"),
        ("editMessage", &conversation, &hers, text("not his"), 403, "not_allowed"),
        ("editMessage", &conversation, &mine, text(" "), 400, "empty_text"),
        ("editMessage", &conversation, &mine, text(&long), 413, "text_too_long"),
        ("editMessage", &conversation, &mine, text("a\u{7}"), 400, "control_characters"),
        ("editMessage", &conversation, &mine, json!({}), 400, "missing_field"),
        (
            "editMessage",
            &conversation,
            &mine,
            json!({ "text": "x", "mentions": [eve.id] }),
            400,
            "mention_not_a_participant",
        ),
        ("editMessage", &conversation, &unknown, text("x"), 404, "unknown_message"),
        ("editMessage", &conversation, &foreign, text("x"), 404, "unknown_message"),
        ("editMessage", &conversation, &json!("nonsense"), text("x"), 400, "malformed_id"),
        ("deleteMessage", &conversation, &hers, json!({}), 403, "not_allowed"),
        ("deleteMessage", &conversation, &hers, json!({ "scope": "some" }), 400, "unknown_scope"),
        ("deleteMessage", &conversation, &foreign, json!({ "scope": "me" }), 404, "unknown_message"),
        ("deleteMessage", &conversation, &unknown, json!({ "scope": "me" }), 404, "unknown_message"),
        ("react", &conversation, &hers, json!({ "emoji": "yes" }), 400, "malformed_emoji"),
        ("react", &conversation, &foreign, json!({ "emoji": "👍" }), 404, "unknown_message"),
        ("pinMessage", &conversation, &foreign, json!({}), 404, "unknown_message"),
    ] {
        let answer = socket.call(event, &change(place, id, more.clone())).await;
        assert_eq!(answer["error"]["reason"], reason, "{event} {more}: {answer}");
        let (got, refused) = match event {
            "editMessage" => call(&ben, Method::PATCH, &path(place, id), Some(more.clone())).await,
            "deleteMessage" => delete(&ben, place, id, more["scope"].as_str().unwrap_or("everybody")).await,
            "react" => react(&ben, Method::PUT, place, id, more["emoji"].as_str().expect("one")).await,
            _ => pin(&ben, Method::PUT, place, id).await,
        };
        assert_eq!((got, &refused["reason"]), (status, &json!(reason)), "{event} {more}");
        assert_eq!(refused["message"], answer["error"]["message"]);
    }
    // Outsiders learn nothing, on any way.
    let mut hers = eve.socket().await;
    for event in ["editMessage", "deleteMessage", "react", "pinMessage"] {
        let data = change(&conversation, &mine, json!({ "text": "x", "emoji": "👍" }));
        assert_eq!(hers.call(event, &data).await["error"]["reason"], "not_a_participant", "{event}");
        let mut claimed = data.clone();
        claimed["userId"] = json!(ana.id);
        assert_eq!(hers.call(event, &claimed).await["error"]["reason"], "identity_mismatch", "{event}");
    }
    for path in [path(&conversation, &mine), format!("/api/conversations/{conversation}/pins")] {
        let (status, refused) = eve.get(&path).await;
        assert_eq!((status, &refused["reason"]), (403, &json!("not_a_participant")), "{path}");
    }
    assert_eq!(page(&ben, &conversation, "").await, before, "nothing has changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_and_a_deletion_at_once_end_in_the_same_everywhere() {
    let world = World::start().await;
    let other = world.another(Roles { gateway: true, worker: false }).await;
    let (ana, ben, conversation) = world.pair().await;
    for round in 0..10 {
        let id = ana.say(&conversation, &format!("secret {round}")).await["id"].clone();
        let there = ana.at(other.address);
        let (edited, deleted) = tokio::join!(
            edit(&there, &conversation, &id, "another secret"),
            delete(&ana, &conversation, &id, "everybody")
        );
        assert_eq!(deleted.0, 200, "{deleted:?}");
        assert!(edited.0 == 200 || edited.1["reason"] == "message_deleted", "{edited:?}");
        for reader in [&ben, &ben.at(other.address)] {
            let found = shown(reader, &conversation, &id).await;
            assert_eq!((&found["text"], found["deletedAt"].is_string()), (&json!(""), true), "{found}");
        }
    }
    let last = until(
        "the last of them in the list",
        || ben.get("/api/conversations"),
        |(_, list): &(u16, Value)| list["items"][0]["lastMessage"]["text"] == "",
    )
    .await;
    assert!(!last.1.to_string().contains("secret"), "{}", last.1);
    let shown = &last.1["items"][0]["lastMessage"];
    assert_eq!((&shown["kind"], shown["deletedAt"].is_string()), (&json!("text"), true), "{shown}");
    other.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_or_so_already_is_limited_like_what_is_done() {
    let world = World::with(Roles::ALL, &[("USER_SENDS_PER_SECOND", "1")]).await;
    let (ana, ben, conversation) = world.pair().await;
    let id = ana.say(&conversation, "hello").await["id"].clone();
    let unknown = json!("msg_00000000000000000000000001");
    let mut last = (0, Value::Null);
    for _ in 0..200 {
        last = edit(&ana, &conversation, &unknown, "x").await;
        if last.0 != 404 {
            break;
        }
    }
    assert_eq!((last.0, &last.1["reason"]), (429, &json!("too_many_sends")));
    for _ in 0..200 {
        last = react(&ben, Method::DELETE, &conversation, &id, "👍").await;
        if last.0 != 200 {
            break;
        }
    }
    assert_eq!((last.0, &last.1["reason"]), (429, &json!("too_many_sends")));
}
