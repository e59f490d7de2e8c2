//! What is found out about pictures behind the upload: told to whoever sees the message, and the same for those who look.

use image::{GenericImageView as _, ImageDecoder as _, ImageReader};
use mongodb::bson::{DateTime, Document, doc};
use serde_json::{Value, json};
use shoptalk::app::Roles;
use shoptalk::broker;
use shoptalk::domain::clock::Clock;
use shoptalk::lifecycle::Lifecycle;
use shoptalk::operate::reminders::Reminders;
use shoptalk::store::Store;

use super::{download, get, id, path, samples, sent, uploaded};
use crate::drills::evidence::database;
use crate::support::messages::shown;
use crate::support::socket::Socket;
use crate::support::until;
use crate::support::world::World;

const GATEWAY: Roles = Roles { gateway: true, worker: false };
const WORKER: Roles = Roles { gateway: false, worker: true };
/// A latitude, in degrees, minutes and seconds, as phones write it.
const LATITUDE: [u32; 6] = [46, 1, 3, 1, 25, 1];

fn latitude() -> Vec<u8> {
    LATITUDE.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// A photo as a phone writes it that was held upright: lying on its side, with where it was taken.
fn photo(width: u32, height: u32) -> Vec<u8> {
    let entry = |tag: u16, kind: u16, count: u32, value: [u8; 4]| {
        [tag.to_be_bytes().as_slice(), &kind.to_be_bytes(), &count.to_be_bytes(), &value].concat()
    };
    let mut exif = b"MM\0*\0\0\0\x08\0\x02".to_vec();
    exif.extend(entry(0x0112, 3, 1, [0, 6, 0, 0]));
    exif.extend(entry(0x8825, 4, 1, 38u32.to_be_bytes()));
    exif.extend(b"\0\0\0\0\0\x02");
    exif.extend(entry(1, 2, 2, *b"N\0\0\0"));
    exif.extend(entry(2, 5, 3, 68u32.to_be_bytes()));
    exif.extend([0; 4]);
    exif.extend(latitude());
    samples::jpeg_with(&samples::jpeg(width, height), &[samples::segment(0xe1, &[b"Exif\0\0", &exif])])
}

fn contains(all: &[u8], some: &[u8]) -> bool {
    all.windows(some.len()).any(|window| window == some)
}

/// What a socket is told next of the attachments of this message.
async fn told(socket: &mut Socket, message: &Value) -> Value {
    loop {
        let told = socket.next("attachmentUpdated").await;
        if told["messageId"] == message["id"] {
            return told;
        }
    }
}

/// A message as a client has it that hears of one of its attachments.
fn fold(message: &mut Value, told: &Value) {
    let attachments = message["attachments"].as_array_mut().expect("attachments");
    let known =
        attachments.iter_mut().find(|one| one["id"] == told["attachment"]["id"]).expect("it is of this message");
    *known = told["attachment"].clone();
}

/// What is known of the bytes.
fn content(attachment: &Value) -> Value {
    let mut content = attachment.clone();
    let fields = content.as_object_mut().expect("an attachment");
    fields.remove("id");
    fields.remove("name");
    content
}

#[tokio::test(flavor = "multi_thread")]
async fn a_photo_is_turned_does_not_say_where_it_was_taken_and_gets_smaller_for_everybody() {
    // Nothing is found out before there is somebody who does.
    let world = World::with_roles(GATEWAY).await;
    let (ana, ben, cleo) = (world.person("Ana").await, world.person("Ben").await, world.person("Cleo").await);
    let conversation = ana.open(&[&ben, &cleo]).await;
    let cursor = ben.get("/api/sync").await.1["cursor"].as_str().expect("a cursor").to_owned();
    let (mut hers, mut his) = (ana.socket().await, ben.socket().await);

    let photo = photo(1400, 1050);
    assert!(contains(&photo, &latitude()));
    let pending = uploaded(&ana, "holiday.jpg", &photo).await;
    assert_eq!(
        (&pending["width"], &pending["height"], &pending["state"], &pending["preview"]),
        (&json!(1050), &json!(1400), &json!("ready"), &json!("pending")),
        "{pending}"
    );
    let kept = download(&ana, &pending).await;
    assert!(!contains(&kept, &latitude()), "it says where it was taken");
    assert_eq!(pending["size"], kept.len());
    let mut decoder = ImageReader::new(std::io::Cursor::new(&kept)).with_guessed_format().expect("read").into_decoder();
    let orientation = decoder.as_mut().expect("a picture").orientation();
    assert_eq!(orientation.expect("turned").to_exif(), 6, "who shows it turns it");
    let (before, after) = (image::load_from_memory(&photo), image::load_from_memory(&kept));
    assert!(before.expect("a picture") == after.expect("a picture"), "its pixels are what they were");

    let message = sent(&ana, &conversation, "", &[&pending]).await;
    let mut folded = his.next("message").await;
    assert_eq!(folded["attachments"], json!([pending]));
    let small = format!("{}/thumbnail", path(&pending));
    assert_eq!(get(&ben, &small, &[]).await.reason(), (404, "no_thumbnail".to_owned()));

    let worker = world.another(WORKER).await;
    let ready = told(&mut his, &message).await;
    assert_eq!(told(&mut hers, &message).await, ready);
    let attachment = &ready["attachment"];
    assert_eq!((&attachment["preview"], &attachment["sha256"]), (&json!("ready"), &pending["sha256"]), "{ready}");
    assert_eq!(attachment["blurhash"].as_str().map(str::len), Some(28), "{ready}");
    fold(&mut folded, &ready);
    let looked = shown(&cleo, &conversation, &message["id"]).await;
    assert_eq!(looked["attachments"], folded["attachments"], "who looks sees what who listens knows");
    world.history(&ben, &conversation, 1).await;
    assert_eq!(shown(&ben, &conversation, &message["id"]).await["attachments"], folded["attachments"]);

    for (edge, width, height) in [(320, 240, 320), (1024, 768, 1024)] {
        let got = get(&ben, &format!("{small}?edge={edge}"), &[]).await;
        assert_eq!((got.status, got.header("content-type")), (200, "image/jpeg"), "{:?}", got.reason());
        assert!(!contains(&got.bytes, &latitude()) && !contains(&got.bytes, b"Exif"));
        let picture = image::load_from_memory(&got.bytes).expect("a picture");
        assert_eq!(picture.dimensions(), (width, height));
        // Red grows to the right and green downwards: by a quarter turn, red grows downwards and green to the left.
        let corner = |x: u32, y: u32| picture.get_pixel(x, y).0.map(|shade| shade > 127);
        let [top, bottom] = [corner(0, 0), corner(width - 1, height - 1)];
        assert_eq!((&top[..2], &bottom[..2]), (&[false, true][..], &[true, false][..]));
    }
    let stranger = world.person("Dora").await;
    assert_eq!(get(&stranger, &small, &[]).await.status, 404);

    // Who was away is told it all, and of nothing that was Ana's own.
    let mut later = ben.resume(&cursor).await;
    let frames = later.frames_until("synced").await;
    let named = |name: &str| -> Vec<&Value> {
        frames.iter().filter(|frame| frame["event"] == name).map(|frame| &frame["data"]).collect()
    };
    let mut resumed = named("message")[0].clone();
    let updates = named("attachmentUpdated");
    assert!(updates.iter().all(|one| one["messageId"] == message["id"]) && !updates.is_empty(), "{updates:#?}");
    for one in updates {
        fold(&mut resumed, one);
    }
    assert_eq!(resumed["attachments"], folded["attachments"]);
    worker.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sent_before_or_after_its_previews_were_made_a_picture_ends_the_same() {
    let world = World::with_roles(GATEWAY).await;
    let (ana, ben, conversation) = world.pair().await;
    let (mut hers, mut his) = (ana.socket().await, ben.socket().await);
    let picture = samples::png(400, 300);
    // The same bytes in two messages, both sent before.
    let early = uploaded(&ana, "early.png", &picture).await;
    let again = uploaded(&ana, "again.png", &picture).await;
    let first = sent(&ana, &conversation, "", &[&early]).await;
    let second = sent(&ana, &conversation, "again", &[&again]).await;
    let worker = world.another(WORKER).await;
    for message in [&first, &second] {
        assert_eq!(told(&mut his, message).await["attachment"]["preview"], "ready");
    }

    // After: its uploader alone is told, and the message has it all.
    let late = uploaded(&ben, "late.png", &picture).await;
    assert_eq!(late["preview"], "pending", "the bytes of others are not his");
    let update = loop {
        let told = his.next("attachmentUpdated").await;
        if told["attachment"]["id"] == late["id"] && told["attachment"]["preview"] == "ready" {
            break told;
        }
    };
    assert_eq!((&update["messageId"], &update["conversationId"]), (&Value::Null, &Value::Null), "{update}");
    let third = sent(&ben, &conversation, "", &[&late]).await;
    assert_eq!(third["attachments"][0], update["attachment"]);
    let mut heard = hers.next("message").await;
    while heard["id"] != third["id"] {
        heard = hers.next("message").await;
    }
    assert_eq!(heard["attachments"][0], update["attachment"]);
    assert!(hers.drain("attachmentUpdated").await.iter().all(|told| told["attachment"]["id"] != late["id"]));

    world.history(&ana, &conversation, 3).await;
    let ready = async |message: &Value| {
        let shown = shown(&ana, &conversation, &message["id"]).await;
        content(&shown["attachments"][0])
    };
    let end = ready(&third).await;
    assert_eq!(end["thumbnails"].as_array().map(Vec::len), Some(2), "{end}");
    assert_eq!((ready(&first).await, ready(&second).await), (end.clone(), end));
    // And once more: nothing is left to find out.
    let once_more = uploaded(&ana, "more.png", &picture).await;
    assert_eq!((&once_more["preview"], &once_more["name"]), (&json!("ready"), &json!("more.png")));
    worker.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_not_stored_for_long_is_told_all_the_same() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let mut his = ben.socket().await;
    let log = async_nats::jetstream::new(world.tenant.broker().await);
    let events = log.get_stream("EVENTS").await.expect("the stream");
    for name in ["persist", "previews"] {
        let made = events.consumer_info(name).await.expect("a consumer").created;
        events.pause_consumer(name, made + time::Duration::hours(1)).await.expect("paused");
    }
    let picture = uploaded(&ana, "picture.png", &samples::png(40, 30)).await;
    let message = sent(&ana, &conversation, "", &[&picture]).await;
    let records = database(&world.tenant).await.collection::<Document>("attachments");
    let long_ago = doc! { "$set": { "claimedAt": DateTime::from_millis(0) } };
    let done = records.update_one(doc! { "_id": id(&picture) }, long_ago).await.expect("an answer");
    assert_eq!(done.modified_count, 1);

    events.resume_consumer("previews").await.expect("resumed");
    let ready = told(&mut his, &message).await;
    assert_eq!((&ready["attachment"]["preview"], &ready["seq"].is_u64()), (&json!("ready"), &true), "{ready}");
    let mut folded = his.next("message").await;
    fold(&mut folded, &ready);
    assert_eq!(shown(&ben, &conversation, &message["id"]).await["attachments"], folded["attachments"]);
    events.resume_consumer("persist").await.expect("resumed");
    assert_eq!(world.history(&ben, &conversation, 1).await[0]["attachments"], folded["attachments"]);
    assert_eq!(world.dead_letters().await, 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_nobody_can_read_is_an_attachment_all_the_same() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    // Of a kind that is never decoded here, and one of which only the beginning is right.
    let phone = samples::heif(b"heic", (640, 480), false);
    let whole = samples::png(64, 64);
    let broken = [&whole[..33], &samples::png_chunk(b"IDAT", &[7; 100]), &samples::png_chunk(b"IEND", b"")].concat();
    let (mut hers, mut his) = (ana.socket().await, ben.socket().await);
    let known = uploaded(&ana, "phone.heic", &phone).await;
    assert_eq!((&known["preview"], &known["width"]), (&json!("none"), &json!(640)), "{known}");
    let doubtful = uploaded(&ana, "broken.png", &broken).await;
    assert_eq!(doubtful["preview"], "pending", "{doubtful}");
    let told = loop {
        let told = hers.next("attachmentUpdated").await;
        if told["attachment"]["preview"] != "pending" {
            break told;
        }
    };
    assert_eq!((id(&told["attachment"]), &told["attachment"]["preview"]), (id(&doubtful), &json!("none")), "{told}");
    sent(&ana, &conversation, "", &[&known, &doubtful]).await;
    let message = his.next("message").await;
    for (at, bytes) in [(0, &phone), (1, &broken)] {
        let attachment = &message["attachments"][at];
        assert_eq!((&attachment["preview"], &attachment["state"]), (&json!("none"), &json!("ready")), "{attachment}");
        assert!(download(&ben, attachment).await == *bytes);
        let small = get(&ben, &format!("{}/thumbnail", path(attachment)), &[]).await;
        assert_eq!(small.reason(), (404, "no_thumbnail".to_owned()));
    }
    let log = async_nats::jetstream::new(world.tenant.broker().await);
    let events = log.get_stream("EVENTS").await.expect("the stream");
    let left = async || {
        let info = events.consumer_info("previews").await.expect("a consumer");
        info.num_pending + u64::try_from(info.num_ack_pending).expect("a count")
    };
    until("nothing left to do", left, |left| *left == 0).await;
    assert_eq!(world.dead_letters().await, 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_has_forgotten_is_found_out_once_previews_is_reminded() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let log = async_nats::jetstream::new(world.tenant.broker().await);
    let events = log.get_stream("EVENTS").await.expect("the stream");
    let made = events.consumer_info("previews").await.expect("a consumer").created;
    events.pause_consumer("previews", made + time::Duration::hours(1)).await.expect("paused");
    let picture = uploaded(&ana, "picture.png", &samples::png(40, 30)).await;
    let message = sent(&ana, &conversation, "", &[&picture]).await;
    let messages = database(&world.tenant).await.collection::<Document>("messages");
    let stored = async || messages.count_documents(doc! {}).await.expect("an answer");
    until("its projection", stored, |count| *count == 1).await;
    // As trimming does it.
    let last = events.get_info().await.expect("its state").state.last_sequence;
    events.purge().sequence(last + 1).await.expect("purged");
    events.resume_consumer("previews").await.expect("resumed");

    let broker = broker::connect(&world.config.broker).await.expect("the broker").attach().await.expect("its log");
    let (store, lifecycle) = (Store::connect(&world.config.store).await.expect("the database"), Lifecycle::new());
    let reminders = Reminders::new(broker.clone(), store, broker.publisher(&lifecycle), Clock::System);
    let now = Clock::System.now();
    assert_eq!(reminders.once(now.plus_seconds(-60)).await.expect("reminded"), 0, "it is too young");
    let mut his = ben.socket().await;
    let reminded = until(
        "idle consumers",
        async || reminders.once(now.plus_seconds(1)).await,
        |done| done.as_ref().is_ok_and(|count| *count > 0),
    );
    assert_eq!(reminded.await.expect("reminded"), 1);
    let ready = told(&mut his, &message).await;
    assert_eq!(ready["attachment"]["preview"], "ready", "{ready}");
    until("an end", async || reminders.once(now.plus_seconds(1)).await, |done| matches!(done, Ok(0)))
        .await
        .expect("done");
    lifecycle.drain();
    world.stop().await;
}
