//! What is sent arrives: byte for byte, whichever way it was brought and whoever gets it.

use std::collections::HashSet;

use reqwest::Method;
use serde_json::{Value, json};
use shoptalk::app::Roles;

use super::presign::{announced, announcement, brought, complete};
use super::{Kept, download, form, get, id, metrics, part, path, samples, send, sent, upload, uploaded, with};
use crate::support::client::{Person, reply};
use crate::support::messages::shown;
use crate::support::socketio::Raw;
use crate::support::world::{World, message};
use crate::support::{node, servers, until};

/// Nobody waits for their turn to send.
const FREELY: &[(&str, &str)] = &[("USER_SENDS_PER_SECOND", "1000")];

/// What a message shows of an attachment, without what becomes known of a picture later.
fn lasting(attachment: &Value) -> Value {
    let mut lasting = attachment.clone();
    for later in ["preview", "blurhash", "thumbnails"] {
        lasting.as_object_mut().expect("a record").remove(later);
    }
    lasting
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_each_kind_arrives_byte_for_byte() {
    let world = World::with(Roles::ALL, FREELY).await;
    let (ana, ben, place) = world.pair().await;
    let mut his = ben.socket().await;
    let mut kinds = HashSet::new();
    for (name, media_type, bytes) in samples::all() {
        let (status, attachment) = upload(&ana, name, Some(media_type), &bytes).await;
        assert_eq!(status, 201, "{name}: {attachment}");
        let about = (&attachment["name"], &attachment["type"], &attachment["size"], &attachment["state"]);
        assert_eq!(about, (&json!(name), &json!(media_type), &json!(bytes.len()), &json!("ready")));
        assert!(download(&ana, &attachment).await == bytes, "{name} comes back as it was");
        let message = sent(&ana, &place, "", &[&attachment]).await;
        assert_eq!((&message["kind"], &message["text"]), (&json!("attachment"), &json!("")));
        let told = his.next("message").await;
        assert_eq!((&told["id"], &told["kind"], &told["text"]), (&message["id"], &message["kind"], &message["text"]));
        assert_eq!(lasting(&told["attachments"][0]), lasting(&attachment));
        let got = get(&ben, &path(&told["attachments"][0]), &[]).await;
        assert_eq!((got.status, got.header("content-type")), (200, media_type), "{name}");
        assert!(got.bytes == bytes, "{name} arrives as it was");
        kinds.insert(media_type);
    }
    assert_eq!(kinds.len(), 32, "of each type that is taken there is one");
    let history = world.history(&ben, &place, samples::all().len()).await;
    let names: Vec<&Value> = history.iter().map(|one| &one["attachments"][0]["name"]).collect();
    assert_eq!(names, samples::all().iter().map(|(name, ..)| *name).collect::<Vec<_>>());
    world.stop().await;
}

macro_rules! transports {
    ($($name:ident: $transport:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            let world = World::with(Roles::ALL, FREELY).await;
            let folder = servers::scratch(concat!("samples-", $transport));
            std::fs::create_dir_all(&folder).expect("a folder");
            let mut all = Vec::new();
            for (name, media_type, bytes) in samples::all() {
                std::fs::write(folder.join(name), bytes).expect("a file");
                all.push(json!([name, media_type]));
            }
            std::fs::write(folder.join("all.json"), json!(all).to_string()).expect("a file");
            let folder = folder.to_str().expect("a path");
            node::run_with("attachments.mjs", world.rest.address, $transport, &[folder]).await;
            world.stop().await;
        }
    )*};
}

transports! {
    each_kind_goes_through_the_official_client_over_websocket: "websocket";
    each_kind_goes_through_the_official_client_over_polling: "polling";
    each_kind_goes_through_a_plain_websocket: "ws";
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_a_socket_names_attachments_in_every_way() {
    let world = World::start().await;
    let (ana, ben, place) = world.pair().await;
    let (mut hers, mut his) = (ana.socket().await, ben.socket().await);
    let mut io = Raw::connect(world.rest.address, &ben.token, None).await;
    let (one, two) = (uploaded(&ana, "one.txt", b"one").await, uploaded(&ana, "two.txt", b"two").await);
    let more = [uploaded(&ana, "three.txt", b"three").await, uploaded(&ana, "four.txt", b"four").await];
    for (data, wanted) in [
        (json!({ "conversationId": place, "attachment": { "id": one["id"] } }), vec![&one]),
        // As the client has it: its record as a whole.
        (json!({ "conversationId": place, "text": "words too", "attachment": two }), vec![&two]),
        (
            json!({ "conversationId": place, "text": "", "attachments": [{ "id": more[0]["id"] }, more[1]] }),
            vec![&more[0], &more[1]],
        ),
    ] {
        let answer = hers.call("sendMessage", &data).await;
        assert_eq!(answer["ok"], true, "{answer}");
        let text = data["text"].as_str().unwrap_or_default();
        let id = &answer["data"]["id"];
        for told in [&shown(&ana, &place, id).await, &his.next("message").await, &io.next("message").await] {
            assert_eq!((&told["kind"], &told["text"]), (&json!("attachment"), &json!(text)), "{told}");
            assert_eq!(told["attachments"], json!(wanted));
        }
        for attachment in wanted {
            let words = attachment["name"].as_str().expect("a name").trim_end_matches(".txt");
            assert!(download(&ben, attachment).await == words.as_bytes());
        }
    }
    io.close().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_brings_words_and_files_along() {
    let world = World::start().await;
    let (ana, ben, place) = world.pair().await;
    let mut his = ben.socket().await;
    let quoted = ben.say(&place, "show me").await;
    let (film, invoice) = (samples::mp4(b"isom"), samples::pdf());
    let form_of = || {
        form()
            .text("conversationId", place.clone())
            .text("text", "two files: žluťoučký kůň")
            .part("attachment", part("film.mp4", Some("video/mp4"), &film))
            .text("replyTo", id(&quoted).to_owned())
            .text("mentions", ben.id.clone())
            .part("attachment", part("Angebot für Jože.pdf", None, &invoice))
            .text("clientMessageId", "once")
            .text("unheard of", "is left out")
    };
    let bring = async || {
        let request = ana.rest.request(Method::POST, "/api/messages").bearer_auth(&ana.token).multipart(form_of());
        reply(request.send().await.expect("an answer")).await
    };
    let (status, message) = bring().await;
    assert_eq!(status, 201, "{message}");
    his.next("message").await;
    for told in [&message, &his.next("message").await, &shown(&ben, &place, &message["id"]).await] {
        assert_eq!(
            (&told["text"], &told["kind"]),
            (&json!("two files: žluťoučký kůň"), &json!("attachment")),
            "{told}"
        );
        assert_eq!((&told["replyTo"]["text"], &told["mentions"]), (&json!("show me"), &json!([ben.id])));
        let attachments = told["attachments"].as_array().expect("attachments");
        let named: Vec<_> = attachments.iter().map(|one| (&one["name"], &one["type"])).collect();
        let wanted = [("film.mp4", "video/mp4"), ("Angebot für Jože.pdf", "application/pdf")];
        let wanted = wanted.map(|(name, media_type)| (json!(name), json!(media_type)));
        assert_eq!(named, [(&wanted[0].0, &wanted[0].1), (&wanted[1].0, &wanted[1].1)]);
        assert!(download(&ben, &attachments[0]).await == film);
        assert!(download(&ben, &attachments[1]).await == invoice);
    }
    // Sent again it is the same message, and what came along a second time is not kept.
    world.history(&ben, &place, 2).await;
    let before = Kept::of(&world).await;
    let (status, again) = bring().await;
    assert_eq!((status, &again["id"], &again["attachments"]), (201, &message["id"], &message["attachments"]));
    assert_eq!(Kept::of(&world).await, before);
    assert!(download(&ben, &message["attachments"][0]).await == film);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resend_with_other_attachments_is_the_first_message_and_leaves_them_free() {
    let world = World::start().await;
    let other = world.another(Roles { gateway: true, worker: false }).await;
    let (ana, _, place) = world.pair().await;
    let (first, second) = (uploaded(&ana, "1.txt", b"first").await, uploaded(&ana, "2.txt", b"second").await);
    let of = |attachment: &Value| {
        let mut message = with(&place, "", &[attachment]);
        message["clientMessageId"] = json!("once");
        message
    };
    let (status, message) = ana.post("/api/messages", &of(&first)).await;
    assert_eq!(status, 201, "{message}");
    for (person, attachment) in [(&ana, &first), (&ana, &second), (&ana.at(other.address), &second)] {
        let (status, again) = person.post("/api/messages", &of(attachment)).await;
        assert_eq!((status, &again["id"]), (201, &message["id"]), "{again}");
        assert_eq!(again["attachments"][0]["id"], first["id"]);
    }
    sent(&ana, &place, "", &[&second]).await;
    other.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_attachments_are_a_message_and_eleven_are_not() {
    let world = World::with(Roles::ALL, FREELY).await;
    let (ana, ben, place) = world.pair().await;
    let mut hers = ana.socket().await;
    let mut all = Vec::new();
    for number in 0..11 {
        all.push(uploaded(&ana, &format!("{number}.txt"), format!("number {number}").as_bytes()).await);
    }
    let all: Vec<&Value> = all.iter().collect();
    let (status, refused) = send(&ana, &place, "", &all).await;
    assert_eq!((status, &refused["reason"]), (413, &json!("too_many_attachments")));
    let answer = hers.call("sendMessage", &with(&place, "x", &all)).await;
    assert_eq!(answer["error"]["reason"], "too_many_attachments");
    let message = sent(&ana, &place, "", &all[..10]).await;
    let told = shown(&ben, &place, &message["id"]).await;
    assert_eq!(told["attachments"], json!(all[..10]), "in the order in which they were named");
    for (number, attachment) in told["attachments"].as_array().expect("ten").iter().enumerate() {
        assert!(download(&ben, attachment).await == format!("number {number}").as_bytes());
    }
    // As a form.
    let form_of = |files: usize| {
        (0..files).fold(form().text("conversationId", place.clone()), |form, number| {
            form.part("attachment", part(&format!("{number}.txt"), None, b"of a form"))
        })
    };
    for (files, status) in [(10, 201), (11, 413)] {
        let request = ana.rest.request(Method::POST, "/api/messages").bearer_auth(&ana.token).multipart(form_of(files));
        let (answered, sent) = reply(request.send().await.expect("an answer")).await;
        assert_eq!(answered, status, "{sent}");
        assert!(answered == 413 || sent["attachments"].as_array().is_some_and(|all| all.len() == files), "{sent}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_uploads_is_counted() {
    let world = World::start().await;
    let ana = world.person("Ana").await;
    let bytes = samples::pdf();
    uploaded(&ana, "invoice.pdf", &bytes).await;
    let ticket = announced(&ana, &announcement("brought.txt", b"brought")).await;
    brought(&world, &ticket, b"brought").await;
    for _ in 0..2 {
        assert_eq!(complete(&ana, &ticket["attachment"]).await.0, 200);
    }
    assert_eq!(upload(&ana, "invoice.pdf.exe", None, &bytes).await.0, 400);
    let counted = metrics(&world).await;
    for line in [
        "shoptalk_attachments_up 1\n".to_owned(),
        "shoptalk_uploads_total{outcome=\"taken\"} 2\n".to_owned(),
        "shoptalk_uploads_total{outcome=\"refused\"} 1\n".to_owned(),
        format!("shoptalk_upload_bytes_total {}\n", bytes.len() + 7),
    ] {
        assert!(counted.contains(&line), "{line} is missing in\n{counted}");
    }
    world.stop().await;
}

async fn unread(person: &Person, conversation: &str) -> Value {
    person.get(&format!("/api/conversations/{conversation}")).await.1["unread"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attachment_without_words_is_told_of_by_its_name() {
    let world = World::start().await;
    let (ana, ben, place) = world.pair().await;
    let mut his = ben.socket().await;
    let (invoice, second) = (uploaded(&ana, "invoice.pdf", &samples::pdf()).await, uploaded(&ana, "b.txt", b"b").await);
    let message = sent(&ana, &place, "", &[&invoice, &second]).await;
    assert_eq!(unread(&ben, &place).await, 1);
    let notified = his.next("notification").await;
    assert_eq!((&notified["title"], &notified["body"]), (&json!("Ana"), &json!("invoice.pdf")), "{notified}");
    let listed = until(
        "the notification",
        async || ben.get("/api/notifications").await.1["items"][0].clone(),
        |one| one["body"].is_string(),
    );
    assert_eq!(listed.await["body"], "invoice.pdf");
    let listed = ben.get("/api/conversations").await.1["items"][0]["lastMessage"].clone();
    let last = (&listed["id"], &listed["kind"], &listed["text"]);
    assert_eq!(last, (&message["id"], &json!("attachment"), &json!("invoice.pdf")));

    let mut answer = message_to(&place, "thanks", &message);
    let (status, answered) = ben.post("/api/messages", &answer).await;
    assert_eq!((status, &answered["replyTo"]["text"]), (201, &json!("invoice.pdf")), "{answered}");
    assert_eq!(shown(&ana, &place, &answered["id"]).await["replyTo"]["text"], "invoice.pdf");
    // With words it is the words that count.
    let other = uploaded(&ana, "c.txt", b"c").await;
    let message = sent(&ana, &place, "and this", &[&other]).await;
    until("the notification", async || his.next("notification").await, |one| one["body"] == "and this").await;
    assert_eq!(unread(&ben, &place).await, 2, "what he has said himself is not read by that");
    answer["replyTo"] = message["id"].clone();
    let (_, answered) = ben.post("/api/messages", &answer).await;
    assert_eq!(answered["replyTo"]["text"], "and this");
    let read = json!({ "upTo": message["id"] });
    assert_eq!(ben.post(&format!("/api/conversations/{place}/read"), &read).await.0, 200);
    assert_eq!(unread(&ben, &place).await, 0);
    world.stop().await;
}

fn message_to(place: &str, text: &str, answered: &Value) -> Value {
    let mut answer = message(place, text);
    answer["replyTo"] = answered["id"].clone();
    answer
}
