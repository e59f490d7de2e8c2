//! What is shown of messages that were answered, changed or hidden: in histories, in lists, and to whoever comes back.

use reqwest::Method;
use serde_json::{Value, json};
use shoptalk::app::Roles;

use crate::support::messages::{change, delete, edit, page, path, pin, react, texts};
use crate::support::until;
use crate::support::world::{World, message};

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_deletes_for_themselves_the_others_keep() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let (mut his, mut also_his, mut hers) = (ben.socket().await, ben.socket().await, ana.socket().await);
    let mut ids = Vec::new();
    for number in 0..10 {
        ids.push(ana.say(&conversation, &number.to_string()).await["id"].clone());
    }
    for id in &ids[3..7] {
        let answer = his.call("deleteMessage", &change(&conversation, id, json!({ "scope": "me" }))).await;
        assert_eq!(answer["ok"], true, "{answer}");
        assert_eq!(also_his.next("messageDeleted").await["messageId"], *id);
    }
    assert!(hers.drain("messageDeleted").await.is_empty(), "nobody else hears of it");
    let again = his.call("deleteMessage", &change(&conversation, &ids[3], json!({ "scope": "me" }))).await;
    assert_eq!(again["data"].get("seq"), None, "{again}");

    // Whichever way he pages, he finds everything else once, over pages that are short or empty.
    for (query, cursor) in [("", "before"), ("&after=00000000000000000000000000", "after")] {
        let (mut seen, mut next) = (Vec::new(), query.to_owned());
        for _ in 0..20 {
            let page = page(&ben, &conversation, &format!("?limit=2{next}")).await;
            seen.extend(texts(&page));
            match page["nextCursor"].as_str() {
                Some(edge) => next = format!("&{cursor}={edge}"),
                None => break,
            }
        }
        seen.sort();
        assert_eq!(seen, ["0", "1", "2", "7", "8", "9"], "{cursor}");
    }
    assert_eq!(texts(&page(&ana, &conversation, "").await).len(), 10);

    // To him it is not there any more; to others it is.
    let mut answer = message(&conversation, "to nothing");
    answer["replyTo"] = ids[3].clone();
    assert_eq!(ben.post("/api/messages", &answer).await.1["reason"], "unknown_message");
    let (status, refused) = react(&ben, Method::PUT, &conversation, &ids[3], "👍").await;
    assert_eq!((status, &refused["reason"]), (404, &json!("unknown_message")));
    assert_eq!(ben.get(&path(&conversation, &ids[3])).await.0, 404);
    answer["text"] = json!("to something");
    assert_eq!(ana.post("/api/messages", &answer).await.0, 201);
    let quote = |page: &Value| page["items"].as_array().and_then(|all| all.last()).expect("one")["replyTo"].clone();
    assert_eq!(quote(&page(&ana, &conversation, "").await)["text"], "3");
    assert_eq!(quote(&page(&ben, &conversation, "").await)["text"], "", "he has deleted what it quotes");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_again_what_they_have_deleted_for_themselves() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let (mut hers, mut his) = (ana.socket().await, ben.socket().await);
    let id = ana.say(&conversation, "words").await["id"].clone();
    assert_eq!(delete(&ben, &conversation, &id, "me").await.0, 200);
    let mut answer = message(&conversation, "answer");
    answer["replyTo"] = id.clone();
    let (status, sent) = ana.post("/api/messages", &answer).await;
    assert_eq!((status, &sent["replyTo"]["text"]), (201, &json!("words")), "she still has it");
    for socket in [&mut hers, &mut his] {
        let heard = loop {
            let heard = socket.next("message").await;
            if heard["id"] == sent["id"] {
                break heard;
            }
        };
        assert_eq!((&heard["replyTo"]["id"], &heard["replyTo"]["text"]), (&id, &json!("")), "all are told the same");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_quotes_and_names_whom_it_should() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let eve = world.person("Eve").await;
    let elsewhere = ana.open(&[&eve]).await;
    let foreign = ana.say(&elsewhere, "elsewhere").await["id"].clone();
    let (mut hers, mut his) = (ana.socket().await, ben.socket().await);
    let long = "x".repeat(200);
    let first = ana.say(&conversation, &long).await;
    let with = |field: &str, value: Value| {
        let mut send = message(&conversation, "an answer");
        send[field] = value;
        send
    };
    let mut send = with("replyTo", first["id"].clone());
    send["mentions"] = json!([ana.id, ben.id, ana.id]);
    send["clientMessageId"] = json!("answer-1");
    let sent = his.call("sendMessage", &send).await;
    assert_eq!(sent["ok"], true, "{sent}");
    let mut heard = hers.next("message").await;
    while heard["id"] != sent["data"]["id"] {
        heard = hers.next("message").await;
    }
    let excerpt = format!("{}…", "x".repeat(139));
    let quote = json!({
        "id": first["id"], "seq": first["seq"], "senderId": ana.id, "senderName": "Ana", "text": excerpt,
    });
    assert_eq!((&heard["replyTo"], &heard["mentions"]), (&quote, &json!([ana.id, ben.id])));
    let answered = &page(&ana, &conversation, "").await["items"][1];
    assert_eq!((&answered["replyTo"], &answered["mentions"]), (&quote, &json!([ana.id, ben.id])));

    // The quote says what the first message says now.
    edit(&ana, &conversation, &first["id"], "in short").await;
    assert_eq!(page(&ben, &conversation, "").await["items"][1]["replyTo"]["text"], "in short");
    delete(&ana, &conversation, &first["id"], "everybody").await;
    assert_eq!(page(&ben, &conversation, "").await["items"][1]["replyTo"]["text"], "");
    assert_eq!(his.call("sendMessage", &send).await, sent, "sent again, it is what it was");

    let crowd: Vec<String> = (1..=51).map(|number| format!("usr_{number:026}")).collect();
    for (send, status, reason) in [
        (with("replyTo", json!("nonsense")), 400, "malformed_id"),
        (with("replyTo", json!("msg_00000000000000000000000001")), 404, "unknown_message"),
        (with("replyTo", foreign.clone()), 404, "unknown_message"),
        (with("replyTo", first["id"].clone()), 409, "message_deleted"),
        (with("mentions", json!([eve.id])), 400, "mention_not_a_participant"),
        (with("mentions", json!(["nonsense"])), 400, "malformed_id"),
        (with("mentions", json!(crowd)), 413, "too_many_mentions"),
    ] {
        let (got, refused) = ben.post("/api/messages", &send).await;
        assert_eq!((got, &refused["reason"]), (status, &json!(reason)), "{send}");
        assert_eq!(his.call("sendMessage", &send).await["error"]["reason"], reason, "{send}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_message_in_a_list_is_as_it_is_now() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    ana.say(&conversation, "before").await;
    let id = ana.say(&conversation, "first").await["id"].clone();
    let last = || async {
        let (_, list) = ben.get("/api/conversations").await;
        let (_, one) = ben.get(&format!("/api/conversations/{conversation}")).await;
        assert_eq!(list["items"][0]["lastMessage"], one["lastMessage"]);
        one["lastMessage"].clone()
    };
    assert_eq!(last().await["text"], "first");
    edit(&ana, &conversation, &id, "second").await;
    assert_eq!((&last().await["id"], &last().await["text"]), (&id, &json!("second")));
    delete(&ana, &conversation, &id, "everybody").await;
    assert_eq!((&last().await["id"], &last().await["text"]), (&id, &json!("")), "that it was there is still said");
    // Whoever deletes it for themselves is shown the one before, and the others are not.
    delete(&ben, &conversation, &id, "me").await;
    assert_eq!(last().await["text"], "before");
    let (_, hers) = ana.get(&format!("/api/conversations/{conversation}")).await;
    assert_eq!(hers["lastMessage"]["id"], id);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_resumes_hears_what_happened_to_messages() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let mut his = ben.socket().await;
    let kept = ana.say(&conversation, "kept").await["id"].clone();
    let gone = ana.say(&conversation, "gone").await["id"].clone();
    his.next("message").await;
    let cursor = his.next("message").await["cursor"].as_str().expect("a cursor").to_owned();
    drop(his);
    edit(&ana, &conversation, &kept, "edited").await;
    react(&ana, Method::PUT, &conversation, &kept, "👍").await;
    pin(&ana, Method::PUT, &conversation, &kept).await;
    delete(&ana, &conversation, &gone, "everybody").await;
    delete(&ana, &conversation, &kept, "me").await;
    let later = world.another(Roles { gateway: true, worker: false }).await;
    for address in [ben.rest.address, later.address] {
        let mut his = ben.at(address).resume(&cursor).await;
        let told = his.frames_until("synced").await;
        let names: Vec<&str> = told.iter().filter_map(|frame| frame["event"].as_str()).collect();
        let changes: Vec<&str> =
            names.into_iter().filter(|name| name.starts_with("message") || *name == "reaction").collect();
        assert_eq!(changes, ["messageEdited", "reaction", "messagePinned", "messageDeleted"], "{told:#?}");
    }
    later.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_lands_in_the_middle() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let mut ids = Vec::new();
    for number in 0..21 {
        ids.push(ana.say(&conversation, &number.to_string()).await["id"].clone());
    }
    let around = |id: &Value, limit: u32| format!("?limit={limit}&around={}", id.as_str().expect("an id"));
    let numbers = |range: std::ops::Range<u32>| range.map(|number| number.to_string()).collect::<Vec<_>>();
    let middle = page(&ben, &conversation, &around(&ids[10], 5)).await;
    assert_eq!(texts(&middle), numbers(8..13));
    assert_eq!(middle.get("nextCursor"), None, "it goes both ways");
    let cursor = |page: &Value, name: &str| page[name].as_str().expect(name).to_owned();
    let older = page(&ben, &conversation, &format!("?limit=20&before={}", cursor(&middle, "olderCursor"))).await;
    assert_eq!(texts(&older), numbers(0..8));
    let newer = page(&ben, &conversation, &format!("?limit=20&after={}", cursor(&middle, "newerCursor"))).await;
    assert_eq!(texts(&newer), numbers(13..21));
    let first = page(&ben, &conversation, &around(&ids[0], 6)).await;
    assert_eq!((texts(&first), first.get("olderCursor")), (numbers(0..4), None), "nothing is before the first one");
    assert_eq!(texts(&page(&ben, &conversation, &around(&ids[20], 6)).await), numbers(18..21));
    let one = page(&ben, &conversation, &around(&ids[7], 1)).await;
    assert_eq!((texts(&one), one["olderCursor"].is_string()), (numbers(7..8), true));
    for (query, reason) in [
        ("?around=msg_00000000000000000000000001".to_owned(), "unknown_anchor"),
        ("?around=nonsense".to_owned(), "malformed_id"),
        (format!("{}&before={}", around(&ids[0], 5), cursor(&middle, "olderCursor")), "contradicting_cursors"),
    ] {
        let (status, refused) = ben.get(&format!("/api/messages/{conversation}{query}")).await;
        assert_eq!((status, &refused["reason"]), (400, &json!(reason)), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_message_says_nothing_in_notifications_either() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    ana.say(&conversation, "harmless").await;
    let secret = ana.say(&conversation, "secret").await["id"].clone();
    let bodies = async || {
        let (_, page) = ben.get("/api/notifications").await;
        let items = page["items"].as_array().cloned().unwrap_or_default();
        items.iter().map(|one| one["body"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    until("the newest notification", bodies, |bodies| bodies == &["secret"]).await;
    let path = format!("/api/conversations/{conversation}/messages/{}", secret.as_str().expect("an id"));
    let deleted = ana.rest.request(Method::DELETE, &path).bearer_auth(&ana.token).send().await.expect("a reply");
    assert!(deleted.status().is_success(), "{deleted:?}");
    assert_eq!(bodies().await, [""], "at once, however far the projection is");
}
