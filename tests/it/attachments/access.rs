//! Who gets to see an attachment: whoever sees its message, asked each time.

use reqwest::Method;
use serde_json::{Value, json};
use shoptalk::app::{App, Roles};
use shoptalk::config::{Config, Source};

use super::{Got, download, get, get_bare, id, link, path, samples, sent, uploaded};
use crate::support::client::Person;
use crate::support::messages::{self, delete};
use crate::support::world::{self, World};
use crate::support::{client, until};

const GATEWAY: Roles = Roles { gateway: true, worker: false };

/// The bytes are there for this person, and so is all else.
async fn sees(person: &Person, attachment: &Value) {
    let got = get(person, &path(attachment), &[]).await;
    assert_eq!((got.status, got.bytes.len()), (200, samples::pdf().len()), "{:?}", got.reason());
    for more in ["/info", "/link"] {
        assert_eq!(person.get(&format!("{}{more}", path(attachment))).await.0, 200, "{more}");
    }
}

/// Nothing is there for this person, whichever way they ask, and nobody says that there is something.
async fn sees_nothing(person: &Person, attachment: &Value) {
    for more in ["", "/info", "/link", "/thumbnail", "/thumbnail?edge=1024", "/link?direct=true"] {
        let got = get(person, &format!("{}{more}", path(attachment)), &[]).await;
        assert_eq!(got.reason(), (404, "unknown_attachment".into()), "{more}");
    }
}

async fn pdf(person: &Person) -> Value {
    uploaded(person, "invoice.pdf", &samples::pdf()).await
}

async fn group(owner: &Person, others: &[&Person]) -> String {
    let ids: Vec<&str> = others.iter().map(|other| other.id.as_str()).collect();
    let (status, opened) = owner.post("/api/conversations", &json!({ "kind": "group", "participants": ids })).await;
    assert_eq!(status, 201, "{opened}");
    id(&opened).to_owned()
}

async fn bring_in(by: &Person, conversation: &str, whom: &Person, from: &Value) {
    let body = json!({ "userIds": [whom.id], "historyFrom": from });
    let (status, added) = by.post(&format!("/api/conversations/{conversation}/participants"), &body).await;
    assert_eq!(status, 200, "{added}");
}

async fn take_out(by: &Person, conversation: &str, whom: &Person) {
    let (status, _) = by.delete(&format!("/api/conversations/{conversation}/participants/{}", whom.id)).await;
    assert_eq!(status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attachment_is_its_uploaders_until_it_is_sent_and_its_readers_after() {
    let world = World::start().await;
    let other = world.another(GATEWAY).await;
    let (ana, ben, place) = world.pair().await;
    let outsiders = [world.person("Cleo").await, world.staff("Gus", "agent").await, world.staff("Ada", "admin").await];
    let attachment = pdf(&ana).await;
    sees(&ana, &attachment).await;
    sees(&ana.at(other.address), &attachment).await;
    for person in outsiders.iter().chain([&ben]) {
        sees_nothing(person, &attachment).await;
        let (status, refused) = person.delete(&path(&attachment)).await;
        assert_eq!((status, &refused["reason"]), (404, &json!("unknown_attachment")));
    }
    for more in ["", "/thumbnail", "/info", "/link"] {
        assert_eq!(get_bare(&ana, &format!("{}{more}", path(&attachment))).await.status, 401, "{more}");
    }
    let nowhere = "/api/attachments/att_00000000000000000000000001";
    assert_eq!(get(&ana, nowhere, &[]).await.reason(), (404, "unknown_attachment".into()));
    assert_eq!(get(&ana, "/api/attachments/1", &[]).await.reason(), (400, "malformed_id".into()));

    let message = sent(&ana, &place, "", &[&attachment]).await;
    for person in [&ana, &ben] {
        sees(person, &attachment).await;
        sees(&person.at(other.address), &attachment).await;
    }
    for person in &outsiders {
        sees_nothing(person, &attachment).await;
    }
    // It belongs to its message now, not to its uploader.
    let (status, refused) = ana.delete(&path(&attachment)).await;
    assert_eq!((status, &refused["reason"]), (409, &json!("attachment_in_use")));
    assert_eq!(messages::shown(&ben, &place, &message["id"]).await["attachments"][0]["id"], attachment["id"]);
    other.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_back_is_gone() {
    let world = World::start().await;
    let (ana, _, place) = world.pair().await;
    let before = super::Kept::of(&world).await;
    let attachment = pdf(&ana).await;
    let address = link(&ana, &attachment).await;
    assert_eq!(ana.delete(&path(&attachment)).await.0, 204);
    sees_nothing(&ana, &attachment).await;
    assert_eq!(get_bare(&ana, &address).await.reason(), (404, "unknown_attachment".into()));
    let (status, refused) = super::send(&ana, &place, "", &[&attachment]).await;
    assert_eq!((status, &refused["reason"]), (404, &json!("unknown_attachment")));
    assert_eq!(super::Kept::of(&world).await, before, "and its bytes with it");
    // The same bytes of another attachment stay.
    let (kept, gone) = (pdf(&ana).await, pdf(&ana).await);
    assert_eq!(ana.delete(&path(&gone)).await.0, 204);
    assert!(download(&ana, &kept).await == samples::pdf());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_or_goes_sees_what_is_in_their_sight() {
    let world = World::start().await;
    let other = world.another(GATEWAY).await;
    let (ana, ben, cleo) = (world.person("Ana").await, world.person("Ben").await, world.person("Cleo").await);
    let place = group(&ana, &[&ben]).await;
    let old = pdf(&ben).await;
    sent(&ben, &place, "", &[&old]).await;
    bring_in(&ana, &place, &cleo, &json!("now")).await;
    // What was said before they came does not exist for them.
    sees_nothing(&cleo, &old).await;
    let new = pdf(&ben).await;
    sent(&ben, &place, "", &[&new]).await;
    sees(&cleo, &new).await;
    let address = link(&cleo, &new).await;
    assert_eq!(get_bare(&cleo, &address).await.status, 200);

    take_out(&ana, &place, &cleo).await;
    sees_nothing(&cleo, &new).await;
    assert_eq!(get_bare(&cleo, &address).await.reason(), (404, "unknown_attachment".into()), "nor by an older link");
    let there = cleo.at(other.address);
    let elsewhere = async || get(&there, &path(&new), &[]).await.reason();
    until("the other instance knows", elsewhere, |got| *got == (404, "unknown_attachment".into())).await;

    // Whoever goes leaves what they have brought, and does not get at it any more.
    take_out(&ben, &place, &ben).await;
    sees_nothing(&ben, &old).await;
    sees_nothing(&ben, &new).await;
    sees(&ana, &old).await;
    other.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_who_is_brought_in_sees_from_where_they_are_let_in() {
    let world = World::start().await;
    let (ana, ben, place) = world.pair().await;
    let gus = world.staff("Gus", "agent").await;
    let mut said = Vec::new();
    for _ in 0..3 {
        let attachment = pdf(&ana).await;
        said.push((sent(&ana, &place, "", &[&attachment]).await, attachment));
    }
    for (_, attachment) in &said {
        sees_nothing(&gus, attachment).await;
    }
    bring_in(&ben, &place, &gus, &said[1].0["id"]).await;
    sees_nothing(&gus, &said[0].1).await;
    sees(&gus, &said[1].1).await;
    sees(&gus, &said[2].1).await;
    let address = link(&gus, &said[2].1).await;
    assert_eq!(get_bare(&gus, &address).await.status, 200, "a link is good for what they see");
    take_out(&gus, &place, &gus).await;
    for (_, attachment) in &said {
        sees_nothing(&gus, attachment).await;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_is_gone_at_once_and_everywhere() {
    let world = World::start().await;
    let other = world.another(GATEWAY).await;
    let (ana, ben, place) = world.pair().await;
    for round in 0..5 {
        let attachment = pdf(&ana).await;
        let message = sent(&ana, &place, "see this", &[&attachment]).await;
        let (hers, his) = (link(&ana, &attachment).await, link(&ben, &attachment).await);
        let (ana_there, ben_there) = (ana.at(other.address), ben.at(other.address));
        sees(&ben_there, &attachment).await;
        // On one instance and on the other, in turn.
        let by = if round % 2 == 0 { &ana } else { &ana_there };
        assert_eq!(delete(by, &place, &message["id"], "everybody").await.0, 200);
        for person in [&ben_there, &ana_there, &ben, &ana] {
            sees_nothing(person, &attachment).await;
            for address in [&hers, &his] {
                assert_eq!(get_bare(person, address).await.reason(), (404, "unknown_attachment".into()));
            }
        }
        let left = messages::shown(&ben, &place, &message["id"]).await;
        assert_eq!(left.get("attachments"), None, "{left}");
        // Nor can it be sent again.
        let (status, refused) = super::send(&ana, &place, "", &[&attachment]).await;
        assert!(matches!(status, 404 | 409), "{refused}");
    }
    other.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_deletes_for_themselves_stays_for_the_others() {
    // Also while MongoDB has not heard of the message at all.
    for roles in [Roles::ALL, GATEWAY] {
        let world = World::with_roles(roles).await;
        let (ana, ben, place) = world.pair().await;
        let attachment = pdf(&ana).await;
        let message = sent(&ana, &place, "", &[&attachment]).await;
        let his = link(&ben, &attachment).await;
        assert_eq!(delete(&ben, &place, &message["id"], "me").await.0, 200);
        sees_nothing(&ben, &attachment).await;
        assert_eq!(get_bare(&ben, &his).await.reason(), (404, "unknown_attachment".into()));
        sees(&ana, &attachment).await;
        // Who has brought it may do the same.
        assert_eq!(delete(&ana, &place, &message["id"], "me").await.0, 200);
        sees_nothing(&ana, &attachment).await;
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_brought_it_has_no_more_right_to_it_than_its_other_readers() {
    let world = World::with_roles(GATEWAY).await;
    let (ana, ben) = (world.person("Ana").await, world.person("Ben").await);
    let place = group(&ana, &[&ben]).await;
    let (gone, deleted) = (pdf(&ben).await, uploaded(&ben, "a.txt", b"a").await);
    sent(&ben, &place, "", &[&gone]).await;
    let message = sent(&ben, &place, "", &[&deleted]).await;
    sees(&ben, &gone).await;
    assert_eq!(delete(&ben, &place, &message["id"], "everybody").await.0, 200);
    sees_nothing(&ben, &deleted).await;
    take_out(&ben, &place, &ben).await;
    sees_nothing(&ben, &gone).await;
    sees(&ana, &gone).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_good_for_whom_it_names_and_for_what_they_see() {
    let world = World::start().await;
    let (ana, ben, place) = world.pair().await;
    let cleo = world.person("Cleo").await;
    let picture = uploaded(&ana, "photo.png", &samples::png(400, 300)).await;
    let (status, made) = ana.get(&format!("{}/link", path(&picture))).await;
    assert_eq!(status, 200, "{made}");
    let hers = made["url"].as_str().expect("an address");
    assert!(hers.starts_with(&path(&picture)) && made["expiresAt"].is_string(), "{made}");
    // It carries no more than its user, and it is they who are asked for, whoever comes with it.
    assert_eq!(get_bare(&ana, hers).await.status, 200);
    assert_eq!(get(&cleo, hers, &[]).await.status, 200);
    let forged = hers.replace(&ana.id, &cleo.id);
    assert_eq!(get_bare(&cleo, &forged).await.reason(), (403, "bad_signature".into()));
    assert_eq!(get(&cleo, &forged, &[]).await.reason(), (403, "bad_signature".into()));
    // Nor is it good for anything else.
    let (status, _) = client::reply(cleo.rest.request(Method::DELETE, hers).send().await.expect("an answer")).await;
    assert_eq!(status, 401);
    let other = pdf(&ana).await;
    let elsewhere = hers.replace(id(&picture), id(&other));
    assert_eq!(get_bare(&cleo, &elsewhere).await.reason(), (403, "bad_signature".into()));

    let message = sent(&ana, &place, "", &[&picture]).await;
    let ready = async || ben.get(&format!("{}/info", path(&picture))).await.1;
    until("its thumbnails", ready, |info| info["preview"] == "ready").await;
    let thumbnail = async |person: &Person| {
        let (status, made) = person.get(&format!("{}/link?thumbnail=320", path(&picture))).await;
        (status, made["url"].as_str().map(str::to_owned))
    };
    let (status, small) = thumbnail(&ben).await;
    let small = small.expect("an address");
    assert_eq!((status, thumbnail(&cleo).await.0), (200, 404));
    let got = get_bare(&ben, &small).await;
    assert!(got.status == 200 && got.header("content-type").starts_with("image/"), "{got:?}");

    // After a while it is good for nothing. Another instance makes links that end soon; what is asked above may take its time.
    let mut settings = world::settings(&world.tenant);
    settings.push(("ATTACHMENT_LINK_SECONDS".to_owned(), "1".to_owned()));
    let config = Config::read(&Source::from_pairs(settings)).expect("a good configuration");
    let other = Box::pin(App::start(&config, GATEWAY)).await.expect("an instance starts");
    let short = link(&ben.at(other.address), &picture).await;
    let late = async || get_bare(&ben, &short).await;
    let expired = |got: &Got| got.status != 200;
    assert_eq!(until("its end", late, expired).await.reason(), (403, "expired_signature".into()));
    other.stop().await.expect("a clean stop");
    let fresh = link(&ben, &picture).await;
    assert_eq!(delete(&ana, &place, &message["id"], "everybody").await.0, 200);
    assert_eq!(get_bare(&ben, &fresh).await.reason(), (404, "unknown_attachment".into()), "it ends with its message");
    world.stop().await;
}
