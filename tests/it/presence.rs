//! Who is online.

use serde_json::{Value, json};
use shoptalk::app::Roles;

use crate::support::until;
use crate::support::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn contacts_hear_of_the_first_socket_and_of_the_last() {
    let world = World::start().await;
    let (ana, ben, _) = world.pair().await;
    let cleo = world.person("Cleo").await;
    let (mut hers, mut strangers) = (ana.socket().await, cleo.socket().await);

    let phone = ben.socket().await;
    let online = hers.next("presence").await;
    assert_eq!(online, json!({ "userId": ben.id, "status": "online", "lastSeenAt": null }));
    let laptop = ben.socket().await;
    phone.close().await;
    laptop.close().await;
    let offline = hers.next("presence").await;
    assert_eq!(
        (&offline["userId"], &offline["status"]),
        (&json!(ben.id), &json!("offline")),
        "only after the last one"
    );
    assert!(offline["lastSeenAt"].is_string());

    until("when Ben was last seen", || ben.get("/api/users/me"), |(_, me): &(u16, Value)| me["lastSeenAt"].is_string())
        .await;
    assert!(strangers.drain("presence").await.is_empty(), "strangers hear nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_online_while_any_instance_has_a_socket() {
    let world = World::start().await;
    let other = world.another(Roles { gateway: true, worker: false }).await;
    let (ana, ben, _) = world.pair().await;
    let mut hers = ana.socket().await;
    let here = ben.socket().await;
    assert_eq!(hers.next("presence").await["status"], "online");
    let there = ben.at(other.address).socket().await;
    // Until the other instance has written its record, closing the first socket would truly be an offline moment.
    let broker = async_nats::jetstream::new(world.tenant.broker().await);
    let records = broker.get_key_value("presence").await.expect("the bucket");
    until(
        "a record of Ana and two of Ben",
        || async { records.status().await.expect("its state").values() },
        |values| *values == 3,
    )
    .await;
    here.close().await;
    // The other instance stops in good order and gives its lease back.
    there.close().await;
    assert_eq!(hers.next("presence").await["status"], "offline");
    assert!(hers.drain("presence").await.is_empty());
    other.stop().await.expect("a clean stop");
}
