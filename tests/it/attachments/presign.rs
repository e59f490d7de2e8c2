//! Attachments that clients bring to the store themselves: what is kept is what was announced and looked at.

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use shoptalk::app::Roles;
use shoptalk::blob::Blobs;
use shoptalk::lifecycle::Lifecycle;
use shoptalk::store::Store;

use super::{Kept, download, get, id, path, samples, send, sent, uploaded};
use crate::support::client::{self, Person, reply};
use crate::support::s3::S3;
use crate::support::world::World;

/// An instance whose attachments are in a store that speaks S3.
pub(super) async fn on(store: &S3) -> World {
    let settings = store.settings();
    let settings: Vec<_> = settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    World::with(Roles::ALL, &settings).await
}

pub(super) fn announcement(name: &str, bytes: &[u8]) -> Value {
    let sha256 = format!("{:x}", Sha256::digest(bytes));
    json!({ "name": name, "size": bytes.len(), "sha256": sha256 })
}

/// Says what will be brought; the answer.
pub(super) async fn announced(person: &Person, announcement: &Value) -> Value {
    let (status, ticket) = person.post("/api/attachments/presign", announcement).await;
    assert_eq!(status, 200, "{ticket}");
    assert_eq!((&ticket["attachment"]["state"], &ticket["method"]), (&json!("uploading"), &json!("PUT")), "{ticket}");
    ticket
}

/// Brings bytes as the answer says, and as anybody could: without a token. Status and reply of whoever takes them.
async fn bring(world: &World, ticket: &Value, bytes: &[u8]) -> (u16, String) {
    let url = ticket["url"].as_str().expect("an address");
    let url = if url.starts_with('/') { format!("http://{}{url}", world.rest.address) } else { url.to_owned() };
    let method: Method = ticket["method"].as_str().and_then(|method| method.parse().ok()).expect("a method");
    let mut request = client::http().request(method, url).body(bytes.to_vec());
    for (name, value) in ticket["headers"].as_object().expect("headers") {
        request = request.header(name, value.as_str().expect("a value"));
    }
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("a whole reply"))
}

pub(super) async fn brought(world: &World, ticket: &Value, bytes: &[u8]) {
    let (status, said) = bring(world, ticket, bytes).await;
    assert!((200..300).contains(&status), "{status} {said}");
}

pub(super) async fn complete(person: &Person, attachment: &Value) -> (u16, Value) {
    let path = format!("{}/complete", path(attachment));
    let request = person.rest.request(Method::POST, &path).bearer_auth(&person.token);
    reply(request.send().await.expect("an answer")).await
}

fn reason((status, failure): &(u16, Value)) -> (u16, &str) {
    (*status, failure["reason"].as_str().unwrap_or_default())
}

/// What clients bring counts once it was looked at, and stays as it was then.
async fn what_was_looked_at_is_what_is_kept(world: &World) {
    let (ana, ben, conversation) = world.pair().await;
    let film = [samples::mp4(b"isom"), b"\0\x10\0\0mdat".to_vec(), vec![9; (1 << 20) - 8]].concat();
    let mut announcement = announcement("a film.mp4", &film);
    announcement["type"] = json!("video/mp4");
    let ticket = announced(&ana, &announcement).await;
    let pending = &ticket["attachment"];
    assert_eq!((&pending["name"], &pending["size"]), (&json!("a film.mp4"), &json!(film.len())), "{ticket}");
    assert!(ticket["expiresAt"].is_string(), "{ticket}");

    // Nothing is there yet, whoever asks for what.
    assert_eq!(reason(&complete(&ana, pending).await), (409, "upload_pending"));
    assert_eq!(reason(&send(&ana, &conversation, "", &[pending]).await), (409, "upload_pending"));
    assert_eq!(get(&ana, &path(pending), &[]).await.reason(), (409, "upload_pending".to_owned()));
    assert_eq!(ana.get(&format!("{}/info", path(pending))).await.1["state"], "uploading");

    brought(world, &ticket, &film).await;
    assert_eq!(reason(&send(&ana, &conversation, "", &[pending]).await), (409, "upload_pending"));
    assert_eq!(reason(&complete(&ben, pending).await), (404, "unknown_attachment"));
    let (status, ready) = complete(&ana, pending).await;
    assert_eq!((status, &ready["state"], &ready["type"]), (200, &json!("ready"), &json!("video/mp4")), "{ready}");
    assert_eq!((id(&ready), &ready["sha256"]), (id(pending), &announcement["sha256"]));
    assert_eq!(complete(&ana, pending).await, (200, ready.clone()), "it may be said twice");
    sent(&ana, &conversation, "", &[&ready]).await;
    assert!(download(&ben, &ready).await == film);

    // The address is good for a while, and changes nothing any more.
    let (status, said) = bring(world, &ticket, b"something else altogether").await;
    if ticket["url"].as_str().expect("an address").starts_with('/') {
        assert_eq!(status, 409, "{said}");
        assert!(said.contains("attachment_in_use"), "{said}");
    }
    assert_eq!(complete(&ana, pending).await, (200, ready.clone()));
    assert!(download(&ben, &ready).await == film);
    assert_eq!(get(&ben, &path(&ready), &[("range", "bytes=5-9")]).await.bytes, film[5..10]);
}

/// What is not what was announced is refused, and may be brought again.
async fn what_was_not_announced_is_refused(world: &World) {
    let ana = world.person("Ana").await;
    let note = b"what was announced".as_slice();
    let ticket = announced(&ana, &announcement("note.txt", note)).await;
    let attachment = &ticket["attachment"];
    for (other, expected) in [
        (b"what was".as_slice(), "size_mismatch"),
        (b"what was announced, and more", "size_mismatch"),
        (b"what was denounced", "checksum_mismatch"),
    ] {
        let said = String::from_utf8_lossy(other);
        // A store takes whatever comes; we take no more than what was announced.
        if other.len() > note.len() && ticket["url"].as_str().is_some_and(|url| url.starts_with('/')) {
            let (status, why) = bring(world, &ticket, other).await;
            assert!(status == 400 && why.contains(expected), "{said}: {status} {why}");
        } else {
            brought(world, &ticket, other).await;
            assert_eq!(reason(&complete(&ana, attachment).await), (400, expected), "{said}");
        }
        assert_eq!(reason(&complete(&ana, attachment).await), (409, "upload_pending"), "{said}");
    }
    brought(world, &ticket, note).await;
    assert_eq!(complete(&ana, attachment).await.1["state"], "ready");
    assert!(download(&ana, attachment).await == note);

    // It is looked at like any other.
    let page = b"<!DOCTYPE html><script>alert(1)</script>".as_slice();
    for (name, expected) in [("page.png", "type_not_allowed"), ("page.txt", "type_not_allowed")] {
        let ticket = announced(&ana, &announcement(name, page)).await;
        brought(world, &ticket, page).await;
        assert_eq!(reason(&complete(&ana, &ticket["attachment"]).await), (400, expected), "{name}");
        assert_eq!(get(&ana, &path(&ticket["attachment"]), &[]).await.status, 409, "{name}");
    }
    let refused = async |name: &str, size: u64, sha256: &str| {
        let body = json!({ "name": name, "size": size, "sha256": sha256 });
        let said = ana.post("/api/attachments/presign", &body).await;
        (said.0, said.1["reason"].as_str().unwrap_or_default().to_owned())
    };
    let sha256 = "0".repeat(64);
    assert_eq!(refused("a.txt", 0, &sha256).await, (400, "empty_attachment".to_owned()));
    assert_eq!(refused("a.txt", 26_214_401, &sha256).await, (413, "attachment_too_large".to_owned()));
    assert_eq!(refused("a.txt", 5, "0123").await, (400, "malformed_checksum".to_owned()));
    assert_eq!(refused("a.txt", 5, &"é".repeat(32)).await, (400, "malformed_checksum".to_owned()));
    assert_eq!(refused("../a.txt", 5, &sha256).await, (400, "malformed_name".to_owned()));
    let kind = format!("text/{}", "x".repeat(251));
    let body = json!({ "name": "a.txt", "size": 5, "sha256": sha256, "type": kind });
    assert_eq!(reason(&ana.post("/api/attachments/presign", &body).await), (400, "type_not_allowed"));
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn brought_to_a_folder_what_was_looked_at_is_what_is_kept() {
    let world = World::start().await;
    what_was_looked_at_is_what_is_kept(&world).await;
    let kept = Kept::of(&world).await;
    assert_eq!((kept.objects.len(), kept.attachments, kept.blobs), (1, 1, 1), "{kept:?}");
    assert_eq!(kept.spools, [""; 0]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn brought_to_a_folder_what_was_not_announced_is_refused() {
    let world = World::with(Roles::ALL, &[("ATTACHMENT_MAX_BYTES", "1048576")]).await;
    what_was_not_announced_is_refused(&world).await;
    let kept = Kept::of(&world).await;
    assert_eq!((kept.objects.len(), kept.blobs, kept.spools.len()), (1, 1, 0), "{kept:?}");
    // A link is for one attachment, and nobody brings more than there may be.
    let ana = world.person("Ana").await;
    let one = announced(&ana, &announcement("a.txt", b"abc")).await;
    let mut two = announced(&ana, &announcement("b.txt", b"abc")).await;
    two["url"] =
        json!(one["url"].as_str().expect("an address").replace(id(&one["attachment"]), id(&two["attachment"])));
    let (status, said) = bring(&world, &two, b"abc").await;
    assert!(status == 403 && said.contains("bad_signature"), "{status} {said}");
    let (status, said) = bring(&world, &one, &vec![b'x'; 1_048_577]).await;
    assert!(status == 413 && said.contains("attachment_too_large"), "{status} {said}");
    assert_eq!(Kept::of(&world).await.objects, kept.objects);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_brought_is_called_what_it_is() {
    let world = World::start().await;
    let ana = world.person("Ana").await;
    let picture = samples::png(4, 3);
    let ticket = announced(&ana, &announcement("photo.jpg", &picture)).await;
    brought(&world, &ticket, &picture).await;
    for _ in 0..2 {
        assert_eq!(complete(&ana, &ticket["attachment"]).await.1["name"], "photo.png");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_back_is_not_completed() {
    let world = World::start().await;
    let ana = world.person("Ana").await;
    let store = Store::connect(&world.config.store).await.expect("the database");
    let [kept, gone] = [announcement("a.txt", b"kept"), announcement("b.txt", b"gone")];
    let (kept, gone) = (announced(&ana, &kept).await, announced(&ana, &gone).await);
    assert_eq!(ana.delete(&path(&gone["attachment"])).await.0, 204);
    let complete = async |ticket: &Value| {
        let id = id(&ticket["attachment"]).parse().expect("an id");
        store.complete_attachment(id, "c.txt").await.expect("an answer")
    };
    assert!(complete(&kept).await && complete(&kept).await, "it may be said twice");
    assert!(!complete(&gone).await);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn brought_to_s3_what_was_looked_at_is_what_is_kept() {
    let store = S3::start("presigned").await;
    let world = on(&store).await;
    what_was_looked_at_is_what_is_kept(&world).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn brought_to_s3_what_was_not_announced_is_refused() {
    let store = S3::start("announced").await;
    let world = on(&store).await;
    what_was_not_announced_is_refused(&world).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_attachment_goes_through_to_s3_in_parts_byte_for_byte() {
    let store = S3::start("through").await;
    let world = on(&store).await;
    let (ana, ben, conversation) = world.pair().await;
    let size = 20_usize << 20;
    let counted: Vec<u8> = (0_u32..).flat_map(u32::to_be_bytes).take(size).collect();
    let film = [samples::mp4(b"isom"), samples::boxed(b"mdat", &[&counted])].concat();
    let attachment = uploaded(&ana, "film.mp4", &film).await;
    assert_eq!(store.unfinished(), [""; 0]);
    sent(&ana, &conversation, "look", &[&attachment]).await;
    assert!(download(&ben, &attachment).await == film);
    let middle = get(&ben, &path(&attachment), &[("range", "bytes=5242870-5242890")]).await;
    assert!(middle.status == 206 && middle.bytes == film[5_242_870..5_242_891]);
    assert_eq!(middle.header("content-range"), format!("bytes 5242870-5242890/{}", film.len()));

    // The store itself gives it to whoever has its address.
    let (status, link) = ben.get(&format!("{}/link?direct=true", path(&attachment))).await;
    let url = link["url"].as_str().expect("an address");
    assert!(status == 200 && url.starts_with("http://"), "{link}");
    let got = client::http().get(url).send().await.expect("an answer");
    assert_eq!(got.headers()["content-type"], "video/mp4");
    assert_eq!(got.headers()["content-disposition"], "attachment; filename*=UTF-8''film.mp4");
    assert!(got.bytes().await.expect("all of it") == film);
    assert!(Blobs::open(&store.config(), &Lifecycle::new()).await.expect("the store").answers());
    world.stop().await;
}
