//! The store away, or the database: nothing is half attached, and chat goes on.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use mongodb::bson::{Document, doc};
use reqwest::Method;
use reqwest::multipart::Part;
use serde_json::{Value, json};
use shoptalk::app::{App, Roles};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::presign::{announced, announcement, brought, complete, on};
use super::{Kept, download, files, folder, form, get, id, metrics, part, path, send, sent, upload, uploaded};
use crate::drills::evidence::database;
use crate::outage::Database;
use crate::support::client::{Person, Rest, reply};
use crate::support::s3::S3;
use crate::support::until;
use crate::support::world::{World, config, message};

/// A request is refused within this; the rest is for the machine, which other tests use too.
const SOON: Duration = Duration::from_secs(3);

/// Asks, and looks how long the answer took and why it was refused.
async fn refused(expected: &str, asking: impl Future<Output = (u16, Value)>) {
    let begin = Instant::now();
    let (status, problem) = asking.await;
    assert_eq!((status, &problem["reason"]), (503, &json!(expected)), "{problem}");
    assert!(begin.elapsed() < SOON, "refused after {:?}", begin.elapsed());
}

/// Sends a message as a form with a file.
async fn form_with(person: &Person, conversation: &str, bytes: &[u8]) -> (u16, Value) {
    let form = form()
        .text("conversationId", conversation.to_owned())
        .text("text", "with a file")
        .part("attachment", part("file.txt", None, bytes));
    let request = person.rest.request(Method::POST, "/api/messages").bearer_auth(&person.token).multipart(form);
    reply(request.send().await.expect("an answer")).await
}

/// Attachments that are there for somebody, and those of them that a message has.
async fn records(world: &World) -> (u64, u64) {
    let records = database(&world.tenant).await.collection::<Document>("attachments");
    let count = async |filter: Document| records.count_documents(filter).await.expect("an answer");
    let there = doc! { "deletedAt": { "$exists": false } };
    (count(there).await, count(doc! { "messageId": { "$exists": true } }).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_store_nothing_is_half_attached_and_chat_goes_on() {
    let mut store = S3::start("attachments-away").await;
    let world = on(&store).await;
    let (ana, ben, conversation) = world.pair().await;
    let (mut hers, mut his) = (ana.socket().await, ben.socket().await);
    let (one, two) = (uploaded(&ana, "one.txt", b"one").await, uploaded(&ana, "two.txt", b"two").await);
    sent(&ana, &conversation, "", &[&one]).await;
    let ticket = announced(&ana, &announcement("brought.txt", b"brought")).await;
    brought(&world, &ticket, b"brought").await;
    assert_eq!(records(&world).await, (3, 1));

    store.down().await;
    let away = "attachments_unavailable";
    for round in 0..3 {
        refused(away, upload(&ana, "three.txt", None, format!("three {round}").as_bytes())).await;
    }
    refused(away, upload(&ana, "large.txt", None, &vec![b'x'; 6 << 20])).await;
    refused(away, form_with(&ana, &conversation, b"four")).await;
    refused(away, complete(&ana, &ticket["attachment"])).await;
    let counted = metrics(&world).await;
    for line in ["shoptalk_attachments_up 0\n", "shoptalk_uploads_total{outcome=\"failed\"} 6\n"] {
        assert!(counted.contains(line), "{line} is missing in\n{counted}");
    }
    let got = get(&ben, &path(&one), &[]).await;
    assert_eq!(got.reason(), (503, away.to_owned()));
    let answer = hers.call("sendMessage", &message(&conversation, "still here")).await;
    assert_eq!(answer["ok"], true, "{answer}");
    while his.next("message").await["text"] != "still here" {}
    // What is in the store can be sent, though nobody gets it now.
    sent(&ana, &conversation, "", &[&two]).await;
    assert_eq!(his.next("message").await["attachments"], json!([two]));
    assert_eq!(records(&world).await, (3, 2), "of what was refused nothing is left");

    store.up().await;
    let again = until("it is back", || upload(&ana, "three.txt", None, b"three"), |(status, _)| *status == 201).await;
    let (status, complete) = complete(&ana, &ticket["attachment"]).await;
    assert_eq!((status, &complete["state"]), (200, &json!("ready")), "{complete}");
    sent(&ana, &conversation, "", &[&again.1, &complete]).await;
    for (attachment, bytes) in [(&one, "one"), (&two, "two"), (&again.1, "three"), (&complete, "brought")] {
        assert!(download(&ben, attachment).await == bytes.as_bytes(), "{bytes}");
    }
    assert_eq!(form_with(&ana, &conversation, b"four").await.0, 201);
    assert_eq!(world.history(&ben, &conversation, 5).await.len(), 5);
    assert_eq!(records(&world).await, (5, 5));
    assert_eq!((store.unfinished(), world.dead_letters().await), (Vec::new(), 0));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_database_nothing_is_taken_in_and_chat_goes_on() {
    let server = Database::start("attachments-database").await;
    let tenant = server.tenant().await;
    let app = Box::pin(App::start(&config(&tenant), Roles::ALL)).await.expect("an instance starts");
    let world = World { rest: Rest::new(app.address), config: config(&tenant), app: Some(app), tenant };
    let (ana, ben, conversation) = world.pair().await;
    let (mut hers, mut his) = (ana.socket().await, ben.socket().await);
    let (one, two) = (uploaded(&ana, "one.txt", b"one").await, uploaded(&ana, "two.txt", b"two").await);
    sent(&ana, &conversation, "", &[&one]).await;
    world.history(&ben, &conversation, 1).await;
    let before = Kept::of(&world).await;
    let on_disk = || files(&folder(&world), &folder(&world));

    // One is half here when the database goes.
    let (pieces, body) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let body = futures_util::stream::unfold(body, |mut body| async move { body.recv().await.map(|one| (one, body)) });
    let body = reqwest::Body::wrap_stream(body.boxed());
    let halves = form().part("file", Part::stream_with_length(body, 12).file_name("halves.txt"));
    let request = ana.rest.request(Method::POST, "/api/attachments").bearer_auth(&ana.token).multipart(halves);
    let mut half = JoinSet::new();
    half.spawn(request.send());
    pieces.send(Ok(Bytes::from_static(b"first "))).await.expect("taken");
    until("it comes in", async || on_disk().len(), |files| *files == before.objects.len() + 1).await;

    let frozen = server.freeze().await;
    pieces.send(Ok(Bytes::from_static(b"second"))).await.expect("taken");
    drop(pieces);
    let away = "database_unavailable";
    let answer = async { half.join_next().await.expect("it ends").expect("it ends").expect("an answer") };
    refused(away, async { reply(answer.await).await }).await;
    refused(away, upload(&ana, "three.txt", None, b"three")).await;
    refused(away, form_with(&ana, &conversation, b"four")).await;
    refused(away, send(&ana, &conversation, "", &[&two])).await;
    assert_eq!(get(&ben, &path(&one), &[]).await.reason(), (503, away.to_owned()));
    let answer = hers.call("sendMessage", &message(&conversation, "still here")).await;
    assert_eq!(answer["ok"], true, "{answer}");
    while his.next("message").await["text"] != "still here" {}
    assert_eq!(on_disk(), before.objects, "nothing is left of what was refused");
    drop(frozen);

    let again = until("it is back", || upload(&ana, "three.txt", None, b"three"), |(status, _)| *status == 201).await.1;
    let message = sent(&ana, &conversation, "", &[&two, &again]).await;
    assert_eq!(his.next("message").await["id"], message["id"]);
    for (attachment, bytes) in [(&one, "one"), (&two, "two"), (&again, "three")] {
        assert!(download(&ben, attachment).await == bytes.as_bytes(), "{}", id(attachment));
    }
    assert_eq!(world.history(&ben, &conversation, 3).await.len(), 3);
    let after = Kept::of(&world).await;
    assert_eq!((after.objects.len(), after.blobs, after.spools.len()), (3, 3, 0), "{after:#?}");
    world.stop().await;
}
