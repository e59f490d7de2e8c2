//! The sweep: what nobody needs goes, with its bytes, and everything else stays. Nothing is waited out: what is to be old is
//! made old by hand.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use mongodb::bson::{DateTime, Document, doc};
use reqwest::Method;
use serde_json::Value;
use shoptalk::app::Roles;
use shoptalk::blob::OWNER;

use super::presign::{announced, announcement, brought};
use super::{Kept, download, folder, get, id, metrics, path, samples, sent, uploaded};
use crate::drills::evidence::database;
use crate::support::messages::{call, delete};
use crate::support::until;
use crate::support::world::World;

/// Every second, and what is to go goes at once; but nothing that a test has made is too old by itself.
const SHORT: [(&str, &str); 3] =
    [("ATTACHMENT_SWEEP_SECONDS", "1"), ("ATTACHMENT_GRACE_SECONDS", "0"), ("ATTACHMENT_KEEP_SECONDS", "3600")];

fn two_hours_ago() -> DateTime {
    DateTime::from_millis(DateTime::now().timestamp_millis() - 7_200_000)
}

/// A file as if it had been written so much earlier.
fn old(path: &Path, hours: u64) {
    let file = File::options().write(true).open(path).expect("a file");
    let written = file.metadata().and_then(|about| about.modified()).expect("a time");
    file.set_modified(written - Duration::from_hours(hours)).expect("a time");
}

/// A file that no record knows; returns its name.
fn stray(world: &World, name: &str) -> String {
    let path = folder(world).join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(&path, "of nobody").expect("written");
    name.to_owned()
}

async fn set(world: &World, attachment: &Value, change: Document) {
    let records = database(&world.tenant).await.collection::<Document>("attachments");
    let done = records.update_one(doc! { "_id": id(attachment) }, doc! { "$set": change }).await.expect("an answer");
    assert_eq!(done.matched_count, 1);
}

/// Everything that is there is two hours old.
async fn age(world: &World) {
    let records = database(&world.tenant).await.collection::<Document>("attachments");
    records.update_many(doc! {}, doc! { "$set": { "createdAt": two_hours_ago() } }).await.expect("an answer");
    let claimed = doc! { "claimedAt": { "$exists": true } };
    records.update_many(claimed, doc! { "$set": { "claimedAt": two_hours_ago() } }).await.expect("an answer");
    for name in super::files(&folder(world), &folder(world)) {
        old(&folder(world).join(name), 2);
    }
}

/// A sweep has begun after this was called, and has come to its end.
async fn swept(folder: &Path) {
    // Spools are looked at last, so the sweep that takes the second one has begun when the first was gone.
    for name in [".spool/shoptalk-spool-first", ".spool/shoptalk-spool-second"] {
        let path = folder.join(name);
        fs::write(&path, "of nobody").expect("written");
        old(&path, 2);
        until("a sweep", async || path.exists(), |exists| !exists).await;
    }
}

/// The store is tied to the database: what no record knows is looked for from now on.
async fn tied(world: &World) {
    until("whose store it is", async || folder(world).join(OWNER).exists(), |exists| *exists).await;
    swept(&folder(world)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_needs_goes_and_everything_else_stays() {
    let world = World::with(Roles::ALL, &SHORT).await;
    let (ana, ben, conversation) = world.pair().await;
    let mut hers = ana.socket().await;
    // To stay: what is in a message, also in one that its sender does not want to see; and one that two messages have.
    let kept = uploaded(&ana, "kept.txt", b"kept").await;
    sent(&ana, &conversation, "", &[&kept]).await;
    let hidden = uploaded(&ana, "hidden.txt", b"hidden").await;
    let hidden_by = sent(&ana, &conversation, "", &[&hidden]).await;
    assert_eq!(delete(&ana, &conversation, &hidden_by["id"], "me").await.0, 200);
    let (twice, again) = (uploaded(&ana, "a.txt", b"twice").await, uploaded(&ana, "b.txt", b"twice").await);
    let first = sent(&ana, &conversation, "", &[&twice]).await;
    sent(&ana, &conversation, "", &[&again]).await;
    // To go: a picture whose message is deleted, and what was never sent, brought, or said.
    let picture = uploaded(&ana, "picture.png", &samples::png(400, 300)).await;
    while hers.next("attachmentUpdated").await["attachment"]["preview"] != "ready" {}
    let gone = sent(&ana, &conversation, "", &[&picture]).await;
    assert_eq!(Kept::of(&world).await.objects.len(), 6, "with two smaller ones");
    let unsent = uploaded(&ana, "unsent.txt", b"unsent").await;
    let ticket = announced(&ana, &announcement("brought.txt", b"brought")).await;
    brought(&world, &ticket, b"brought").await;
    let unsaid = uploaded(&ana, "unsaid.txt", b"unsaid").await;
    let never = doc! { "conversationId": &conversation, "messageId": "msg_00000000000000000000000007" };
    set(&world, &unsaid, never).await;
    set(&world, &unsaid, doc! { "claimedAt": two_hours_ago() }).await;
    for stray_one in ["blobs/blb_00000000000000000000000007", "blobs/blb_00000000000000000000000007.320", "probe/7"] {
        stray(&world, stray_one);
    }
    world.history(&ben, &conversation, 5).await;
    assert_eq!(world.dead_letters().await, 0);
    age(&world).await;
    // To stay, as they are new: one that may still be sent, one that is on its way in, one that is on its way to a record.
    let fresh = uploaded(&ana, "fresh.txt", b"fresh").await;
    let on_its_way =
        [stray(&world, "blobs/blb_00000000000000000000000008"), stray(&world, ".spool/shoptalk-spool-new")];
    for message in [&first, &gone] {
        assert_eq!(delete(&ana, &conversation, &message["id"], "everybody").await.0, 200);
    }

    let left = |kept: &Kept| (kept.objects.len(), kept.spools.len(), kept.attachments, kept.blobs);
    until("the rest is gone", || Kept::of(&world), |kept| left(kept) == (5, 1, 4, 4)).await;
    swept(&folder(&world)).await;
    let line = "shoptalk_swept_total{what=\"attachments\"} 5\n";
    until("they are counted", || metrics(&world), |counted| counted.contains(line)).await;
    let end = Kept::of(&world).await;
    assert_eq!(left(&end), (5, 1, 4, 4), "{end:#?}");
    assert!(end.objects.contains(&on_its_way[0]) && end.spools.contains(&on_its_way[1]), "{end:#?}");
    for (attachment, bytes) in [(&kept, "kept"), (&hidden, "hidden"), (&again, "twice")] {
        assert!(download(&ben, attachment).await == bytes.as_bytes(), "{bytes}");
    }
    for attachment in [&twice, &picture, &unsent, &unsaid, &ticket["attachment"]] {
        assert_eq!(get(&ana, &path(attachment), &[]).await.reason(), (404, "unknown_attachment".to_owned()));
    }
    let message = sent(&ana, &conversation, "", &[&fresh]).await;
    assert!(download(&ben, &message["attachments"][0]).await == b"fresh");
    // Whoever brings the same bytes again has them.
    let back = uploaded(&ana, "picture.png", &samples::png(400, 300)).await;
    assert_eq!(back["preview"], "pending", "{back}");
    assert!(download(&ana, &back).await == samples::png(400, 300));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bytes_are_kept_once_for_each_owner() {
    let world = World::start().await;
    let (ana, ben, _) = world.pair().await;
    let (one, two) = (uploaded(&ana, "one.txt", b"same").await, uploaded(&ana, "two.txt", b"same").await);
    assert_eq!((&one["name"], &two["name"], &one["sha256"]), (&"one.txt".into(), &"two.txt".into(), &two["sha256"]));
    assert_ne!(id(&one), id(&two));
    let kept = Kept::of(&world).await;
    assert_eq!((kept.objects.len(), kept.attachments, kept.blobs), (1, 2, 1), "{kept:#?}");
    let his = uploaded(&ben, "one.txt", b"same").await;
    let kept = Kept::of(&world).await;
    assert_eq!((kept.objects.len(), kept.attachments, kept.blobs), (2, 3, 2), "{kept:#?}");
    // Many at once are one, too.
    let many = futures_util::future::join_all((0..8).map(|_| uploaded(&ben, "many.txt", b"many"))).await;
    let kept = Kept::of(&world).await;
    assert_eq!((kept.objects.len(), kept.attachments, kept.blobs, kept.spools.len()), (3, 11, 3, 0), "{kept:#?}");
    for attachment in many.iter().chain([&his]) {
        assert_eq!(get(&ana, &path(attachment), &[]).await.status, 404);
        assert_eq!(get(&ben, &path(attachment), &[]).await.status, 200);
    }
    assert_eq!(call(&ana, Method::DELETE, &path(&one), None).await.0, 204);
    assert_eq!(get(&ana, &path(&one), &[]).await.status, 404);
    assert!(download(&ana, &two).await == b"same");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_of_a_deleted_message_outlive_it_for_a_while_and_nobody_gets_them() {
    let world = World::with(Roles::ALL, &[("ATTACHMENT_SWEEP_SECONDS", "1")]).await;
    let (ana, ben, conversation) = world.pair().await;
    let note = uploaded(&ana, "note.txt", b"note").await;
    let message = sent(&ana, &conversation, "", &[&note]).await;
    assert_eq!(delete(&ana, &conversation, &message["id"], "everybody").await.0, 200);
    for person in [&ana, &ben] {
        assert_eq!(get(person, &path(&note), &[]).await.status, 404);
    }
    assert_eq!(world.dead_letters().await, 0);
    let before = Kept::of(&world).await;
    // What is left behind is taken after a day, here.
    let marker = folder(&world).join(stray(&world, ".spool/shoptalk-spool-marker"));
    old(&marker, 48);
    until("a sweep", async || marker.exists(), |exists| !exists).await;
    assert_eq!(Kept::of(&world).await, before);
    assert_eq!((before.objects.len(), before.attachments, before.blobs), (1, 1, 1), "{before:#?}");

    let long_ago = DateTime::from_millis(DateTime::now().timestamp_millis() - 48 * 3_600_000);
    set(&world, &note, doc! { "deletedAt": long_ago }).await;
    let empty = |kept: &Kept| kept.objects.is_empty() && kept.attachments == 0 && kept.blobs == 0;
    until("its bytes are gone", || Kept::of(&world), empty).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_instances_sweeps_at_a_time() {
    let world = World::with(Roles::ALL, &SHORT).await;
    let other = world.another(Roles { gateway: false, worker: true }).await;
    let broker = world.tenant.broker().await;
    // Whoever wants the lease asks for it here, whether they get it or not.
    let mut asking = broker.subscribe("$KV.leases.sweep").await.expect("subscribed");
    let leases = async_nats::jetstream::new(broker).get_key_value("leases").await.expect("the bucket");
    let somebody = "somebody else";
    until("the lease", async || leases.create("sweep", somebody.into()).await.is_ok(), |have| *have).await;
    let left = folder(&world).join(stray(&world, ".spool/shoptalk-spool-left"));
    old(&left, 2);
    let mut asked: HashMap<String, usize> = HashMap::new();
    while asked.len() < 2 || asked.values().any(|times| *times < 3) {
        let ask = tokio::time::timeout(crate::support::DEADLINE, asking.next()).await.expect("they ask").expect("one");
        let who = String::from_utf8_lossy(&ask.payload).into_owned();
        if who.starts_with("ins_") {
            *asked.entry(who).or_default() += 1;
            leases.put("sweep", somebody.into()).await.expect("it is still there");
        }
    }
    assert!(left.exists(), "nobody sweeps while somebody does");
    leases.delete("sweep").await.expect("given back");
    until("a sweep", async || left.exists(), |exists| !exists).await;
    other.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_its_way_is_not_swept_however_short_anything_is_kept() {
    let short = [SHORT[0], SHORT[1], ("ATTACHMENT_KEEP_SECONDS", "1")];
    let world = World::with(Roles::ALL, &short).await;
    tied(&world).await;
    let on_its_way =
        [stray(&world, "blobs/blb_00000000000000000000000008"), stray(&world, ".spool/shoptalk-spool-new")];
    for name in &on_its_way {
        let file = File::options().write(true).open(folder(&world).join(name)).expect("a file");
        let written = file.metadata().and_then(|about| about.modified()).expect("a time");
        file.set_modified(written - Duration::from_mins(50)).expect("a time");
    }
    swept(&folder(&world)).await;
    let kept = Kept::of(&world).await;
    assert_eq!((kept.objects, kept.spools), (vec![on_its_way[0].clone()], vec![on_its_way[1].clone()]));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_deleted_keeps_nothing_else_from_it() {
    let world = World::with(Roles::ALL, &SHORT).await;
    tied(&world).await;
    let ana = world.person("Ana").await;
    uploaded(&ana, "stuck.txt", b"stuck").await;
    let stuck = folder(&world).join(&Kept::of(&world).await.objects[0]);
    fs::remove_file(&stuck).expect("an object");
    fs::create_dir(&stuck).expect("a folder");
    fs::write(stuck.join("within"), "no object").expect("written");
    let blobs = database(&world.tenant).await.collection::<Document>("blobs");
    let condemned = doc! { "$set": { "holders": [], "condemned": true } };
    assert_eq!(blobs.update_one(doc! {}, condemned).await.expect("an answer").matched_count, 1);
    let left = [stray(&world, "blobs/blb_00000000000000000000000007"), stray(&world, "incoming/att_7")];
    for name in &left {
        old(&folder(&world).join(name), 2);
    }
    let there = async || left.iter().filter(|name| folder(&world).join(name).exists()).count();
    until("the others are gone", there, |there| *there == 0).await;
    swept(&folder(&world)).await;
    assert!(stuck.is_dir(), "what is in the way is still there");
    // Whoever takes it away has the rest done.
    fs::remove_dir_all(&stuck).expect("a folder");
    until("it is forgotten", || Kept::of(&world), |kept| kept.blobs == 0).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_claimed_for_a_message_that_was_deleted_without_it_goes() {
    let world = World::with(Roles::ALL, &SHORT).await;
    let (ana, _, conversation) = world.pair().await;
    let message = ana.say(&conversation, "hello").await;
    assert_eq!(delete(&ana, &conversation, &message["id"], "everybody").await.0, 200);
    assert_eq!(world.dead_letters().await, 0);
    let left = uploaded(&ana, "left.txt", b"left").await;
    let claim = doc! { "conversationId": &conversation, "messageId": id(&message), "claimedAt": two_hours_ago() };
    set(&world, &left, claim).await;
    until("it is gone", || Kept::of(&world), |kept| kept.attachments == 0 && kept.objects.is_empty()).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_the_store_does_not_belong_to_takes_nothing_away() {
    let mut world = World::with(Roles::ALL, &SHORT).await;
    tied(&world).await;
    let ana = world.person("Ana").await;
    uploaded(&ana, "a.txt", b"hers").await;
    let kept = Kept::of(&world).await.objects;
    // It takes what is left over itself.
    let left = folder(&world).join(stray(&world, "blobs/blb_00000000000000000000000007"));
    old(&left, 2);
    until("it is gone", async || left.exists(), |exists| !exists).await;
    world.app.take().expect("it runs").stop().await.expect("a clean stop");

    for name in &kept {
        old(&folder(&world).join(name), 2);
    }
    let word = fs::read(folder(&world).join(OWNER)).expect("a word");
    let url = format!("file:{}", folder(&world).display());
    let same = [SHORT[0], SHORT[1], SHORT[2], ("ATTACHMENTS_URL", url.as_str())];
    let stranger = World::with(Roles::ALL, &same).await;
    swept(&folder(&world)).await;
    assert_eq!(Kept::of(&world).await.objects, kept);
    assert_eq!(fs::read(folder(&world).join(OWNER)).expect("a word"), word);
    // Somebody says that it is its store.
    fs::remove_file(folder(&world).join(OWNER)).expect("a word");
    until("it takes what it does not know", || Kept::of(&world), |kept| kept.objects.is_empty()).await;
    assert_ne!(fs::read(folder(&world).join(OWNER)).expect("a word"), word);
    stranger.stop().await;

    // The first one has a word of its own still, which is another one now.
    let left = folder(&world).join(stray(&world, "blobs/blb_00000000000000000000000007"));
    old(&left, 2);
    let back = world.another(Roles::ALL).await;
    swept(&folder(&world)).await;
    assert!(left.exists());
    back.stop().await.expect("a clean stop");
}
