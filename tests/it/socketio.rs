//! Socket.IO, driven by the official JavaScript client; and the plain WebSocket by the same script.

use crate::support::node;
use crate::support::socketio::Polling;
use crate::support::world::World;

macro_rules! transports {
    ($($name:ident: $script:literal over $transport:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            let world = World::start().await;
            node::run($script, world.rest.address, $transport).await;
        }
    )*};
}

transports! {
    two_people_talk_over_websocket: "contract.mjs" over "websocket";
    two_people_talk_over_polling: "contract.mjs" over "polling";
    two_people_talk_while_upgrading: "contract.mjs" over "upgrade";
    two_people_talk_over_the_plain_websocket: "contract.mjs" over "ws";
    a_client_of_the_page_resumes_over_websocket: "resume.mjs" over "websocket";
    a_client_of_the_page_resumes_over_polling: "resume.mjs" over "polling";
    a_client_of_the_page_resumes_while_upgrading: "resume.mjs" over "upgrade";
    what_a_client_acknowledges_is_delivered_over_websocket: "delivery.mjs" over "websocket";
    what_a_client_acknowledges_is_delivered_over_polling: "delivery.mjs" over "polling";
    refusals_are_answered_over_websocket: "refusals.mjs" over "websocket";
    refusals_are_answered_over_polling: "refusals.mjs" over "polling";
    refusals_are_answered_over_the_plain_websocket: "refusals.mjs" over "ws";
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_vanishes_while_upgrading_is_gone() {
    let world = World::start().await;
    let (ana, ben, _) = world.pair().await;
    let mut hers = ana.socket().await;
    let his = Polling::connect(world.rest.address, &ben.token).await;
    // He is seen before he goes: whoever comes and goes within a moment is not told of at all.
    let online = hers.next("presence").await;
    assert_eq!((&online["userId"], &online["status"]), (&ben.id.clone().into(), &"online".into()));
    his.vanish_while_upgrading().await;
    assert_eq!(hers.next("presence").await["status"], "offline");
    world.stop().await;
}
