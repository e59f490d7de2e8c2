//! What is sent arrives: byte for byte, whichever way it was brought and whoever gets it.

use std::collections::HashSet;

use serde_json::{Value, json};
use shoptalk::app::Roles;

use super::{download, get, path, samples, sent, upload};
use crate::support::world::World;

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
    assert_eq!(kinds.len(), 31, "of each type that is taken there is one");
    let history = world.history(&ben, &place, samples::all().len()).await;
    let names: Vec<&Value> = history.iter().map(|one| &one["attachments"][0]["name"]).collect();
    assert_eq!(
        names,
        samples::all().iter().map(|(name, ..)| json!(name)).collect::<Vec<_>>().iter().collect::<Vec<_>>()
    );
    world.stop().await;
}
