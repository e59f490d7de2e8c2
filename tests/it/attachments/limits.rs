//! What one user can have of an instance: some of its uploads and downloads, never all of them.

use mongodb::bson::{DateTime, Document, doc};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::presign::{announced, announcement, complete};
use super::{Kept, form, get, id, part, path, samples, sent, upload, uploaded};
use crate::drills::evidence::database;
use crate::support::client::{Person, reply};
use crate::support::until;
use crate::support::world::World;

fn reason(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["reason"].as_str().unwrap_or_default())
}

/// A request of which the rest is still to come.
struct Half {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl Half {
    /// Says the first half of a body.
    async fn of(world: &World, head: &str, body: &[u8]) -> Self {
        let length = body.len();
        let head = format!("{head}Host: shop\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        let mut stream = TcpStream::connect(world.rest.address).await.expect("a connection");
        let (first, rest) = body.split_at(length / 2);
        stream.write_all(&[head.as_bytes(), first].concat()).await.expect("it is read");
        Self { stream, rest: rest.to_vec() }
    }

    /// An upload as a form.
    async fn upload(world: &World, person: &Person, bytes: &[u8]) -> Self {
        let head = format!(
            "POST /api/attachments HTTP/1.1\r\nAuthorization: Bearer {}\r\n\
             Content-Type: multipart/form-data; boundary=frontier\r\n",
            person.token
        );
        let file = b"--frontier\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\n";
        Self::of(world, &head, &[file, bytes, b"\r\n--frontier--\r\n"].concat()).await
    }

    /// One by a link.
    async fn bring(world: &World, ticket: &Value, bytes: &[u8]) -> Self {
        let url = ticket["url"].as_str().expect("an address");
        Self::of(world, &format!("PUT {url} HTTP/1.1\r\n"), bytes).await
    }

    /// Says the rest; the answer.
    async fn end(mut self) -> (u16, Value) {
        self.stream.write_all(&self.rest).await.expect("it is read");
        let mut answer = String::new();
        self.stream.read_to_string(&mut answer).await.expect("an answer");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
        (status, serde_json::from_str(body).unwrap_or_default())
    }
}

/// So many uploads are under way.
async fn under_way(world: &World, uploads: usize) {
    until("uploads", || Kept::of(world), |kept| kept.spools.len() == uploads).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_has_all_the_uploads_of_an_instance() {
    let world = World::start().await;
    let (ana, ben, _) = world.pair().await;
    let bytes = vec![b'a'; 1_000];
    let brought = announced(&ana, &announcement("b.txt", b"brought")).await;
    let mut hers = Vec::new();
    for _ in 0..8 {
        hers.push(Half::upload(&world, &ana, &bytes).await);
    }
    under_way(&world, 8).await;
    // By whichever way, also by somebody who has her link.
    let refused = upload(&ana, "a.txt", None, b"one more").await;
    assert_eq!(reason(&refused), (429, "too_many_uploads"));
    let said = refused.1["detail"].as_str().unwrap_or_default();
    assert!(said.contains("8 of your uploads"), "{}", refused.1);
    assert_eq!(reason(&complete(&ana, &brought["attachment"]).await), (429, "too_many_uploads"));
    let by_link = Half::bring(&world, &brought, b"brought").await.end().await;
    assert_eq!(reason(&by_link), (429, "too_many_uploads"));
    uploaded(&ben, "b.txt", b"others may").await;
    // What has come to its end, or to none, makes room.
    assert_eq!(hers.pop().expect("one of them").end().await.0, 201);
    under_way(&world, 7).await;
    hers.push(Half::bring(&world, &brought, b"brought").await);
    under_way(&world, 8).await;
    assert_eq!(reason(&upload(&ana, "a.txt", None, b"one more").await), (429, "too_many_uploads"));
    drop(hers);
    under_way(&world, 0).await;
    uploaded(&ana, "a.txt", b"one more").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_long_to_come_is_as_old_as_its_end() {
    let world = World::start().await;
    let ana = world.person("Ana").await;
    let half = Half::upload(&world, &ana, &[b'a'; 1_000]).await;
    under_way(&world, 1).await;
    let before = DateTime::now();
    let (status, attachment) = half.end().await;
    assert_eq!(status, 201, "{attachment}");
    let records = database(&world.tenant).await.collection::<Document>("attachments");
    let record = records.find_one(doc! { "_id": id(&attachment) }).await.expect("an answer").expect("a record");
    let created = record.get_datetime("createdAt").expect("a time");
    assert!(*created >= before, "{created} is before {before}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_back_while_it_is_brought_is_gone() {
    let world = World::start().await;
    let ana = world.person("Ana").await;
    let ticket = announced(&ana, &announcement("a.txt", b"hello, world")).await;
    let half = Half::bring(&world, &ticket, b"hello, world").await;
    under_way(&world, 1).await;
    assert_eq!(ana.delete(&path(&ticket["attachment"])).await.0, 204);
    assert_eq!(reason(&half.end().await), (404, "unknown_attachment"));
    let kept = Kept::of(&world).await;
    assert!(kept.objects.is_empty() && kept.spools.is_empty(), "{kept:?}");
    // And of one that was completed meanwhile nothing is left but the attachment.
    let ticket = announced(&ana, &announcement("a.txt", b"hello, world")).await;
    let half = Half::bring(&world, &ticket, b"hello, world").await;
    under_way(&world, 1).await;
    super::presign::brought(&world, &ticket, b"hello, world").await;
    assert_eq!(complete(&ana, &ticket["attachment"]).await.0, 200);
    assert_eq!(reason(&half.end().await), (409, "attachment_in_use"));
    let kept = Kept::of(&world).await;
    assert!(kept.objects.len() == 1 && kept.objects[0].starts_with("blobs/"), "{kept:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_has_no_end_of_empty_words() {
    let world = World::start().await;
    let (ana, _, place) = world.pair().await;
    let before = Kept::of(&world).await;
    let begin = form().text("conversationId", place).part("attachment", part("a.txt", None, b"hello"));
    let form = (0..1_100).fold(begin, |form, _| form.text("mentions", ""));
    let request = ana.rest.request(Method::POST, "/api/messages").bearer_auth(&ana.token).multipart(form);
    let refused = reply(request.send().await.expect("an answer")).await;
    assert_eq!(reason(&refused), (413, "body_too_large"));
    assert_eq!(Kept::of(&world).await, before);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_has_all_the_downloads_of_an_instance() {
    let world = World::start().await;
    let (ana, ben, place) = world.pair().await;
    // More than all buffers between us have room for.
    let film = [samples::mp4(b"isom"), samples::boxed(b"mdat", &[&vec![7; 20 << 20]])].concat();
    let attachment = uploaded(&ana, "film.mp4", &film).await;
    sent(&ana, &place, "", &[&attachment]).await;
    let film_path = path(&attachment);
    let asked = |person: &Person| person.rest.request(Method::GET, &film_path).bearer_auth(&person.token).send();
    let mut unread: Vec<Response> = Vec::new();
    for _ in 0..16 {
        let response = asked(&ana).await.expect("an answer");
        assert_eq!(response.status(), 200);
        unread.push(response);
    }
    let refused = get(&ana, &film_path, &[]).await;
    assert_eq!(refused.reason(), (429, "too_many_downloads".to_owned()));
    assert_eq!(refused.header("retry-after"), "1");
    // Few bytes are had at once, and so is what are none.
    assert_eq!(get(&ana, &film_path, &[("range", "bytes=5-9")]).await.bytes, film[5..10]);
    let tag = unread[0].headers()["etag"].to_str().expect("a tag").to_owned();
    assert_eq!(get(&ana, &film_path, &[("if-none-match", &tag)]).await.status, 304);
    assert!(get(&ben, &film_path, &[]).await.bytes == film, "others may");
    // One that is read to its end, and those that are given up.
    assert!(unread.pop().expect("one of them").bytes().await.expect("all of it") == film);
    until("room for one", || asked(&ana), |answer| answer.as_ref().is_ok_and(|one| one.status() == 200)).await.ok();
    unread.clear();
    for _ in 0..16 {
        let answer = until("room", || asked(&ana), |answer| answer.as_ref().is_ok_and(|one| one.status() == 200)).await;
        unread.push(answer.expect("an answer"));
    }
    drop(unread);
    assert_eq!(reason(&ana.post("/api/messages", &json!({ "conversationId": place, "text": "hello" })).await).0, 201);
    world.stop().await;
}
