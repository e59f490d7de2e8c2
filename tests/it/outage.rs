//! The database away: frozen, so that it takes connections and answers nothing, and gone.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use shoptalk::app::{App, Roles};
use shoptalk::embedded::{Embedded, Ports, Wanted};

use crate::support::client::{PASSWORD, Person, Rest};
use crate::support::freeze;
use crate::support::servers::{self, Tenant};
use crate::support::until;
use crate::support::world::{World, config, message};

/// A request is answered within a second; the rest is for the machine, which other tests use too.
const ANSWERED: Duration = Duration::from_secs(2);

/// A MongoDB of one test, which may be frozen.
pub struct Database {
    server: Embedded,
    pid: u32,
}

/// A frozen process; it goes on when this is dropped, also when the test fails, as a frozen one does not end.
pub struct Frozen(u32);

impl Database {
    pub async fn start(name: &str) -> Self {
        let wanted = Wanted { data: servers::scratch(name), guard: servers::program(), nats: None, mongodb: true };
        // Not the usual port, which another run on this machine may take at the same moment.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port").port();
        let ports = Ports { mongodb: Some(free), ..Ports::default() };
        let server = Embedded::start_on(wanted, ports).await.expect("a MongoDB starts");
        let pid = server.pids()[0];
        Self { server, pid }
    }

    /// An account at the broker of all tests, with this database.
    pub async fn tenant(&self) -> Tenant {
        let mongodb_uri = self.server.mongodb_uri().expect("it runs").to_owned();
        Tenant { mongodb_uri, ..servers::tenant().await }
    }

    pub async fn freeze(&self) -> Frozen {
        let frozen = Frozen(self.pid);
        freeze::freeze(self.pid).await;
        frozen
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        freeze::thaw(self.0);
    }
}

/// Asks, and says how long the answer took.
async fn refused(what: &str, asking: impl Future<Output = (u16, Value)>) -> Duration {
    let begin = Instant::now();
    let (status, problem) = asking.await;
    let took = begin.elapsed();
    assert_eq!((status, &problem["reason"]), (503, &json!("database_unavailable")), "{what}: {problem}");
    assert!(took < ANSWERED, "{what} was refused after {took:?}");
    took
}

async fn everything_that_reads_is_refused(person: &Person, conversation: &str) {
    let history = format!("/api/messages/{conversation}");
    for path in [history.as_str(), "/api/conversations", "/api/notifications", "/api/users/me"] {
        let took = refused(path, person.get(path)).await;
        eprintln!("{path} was refused after {took:?}");
    }
    let login = json!({ "email": person.email, "password": PASSWORD });
    let took = refused("a login", person.rest.post("/api/auth/login", None, &login)).await;
    eprintln!("a login was refused after {took:?}");
}

async fn sign_up_is_refused(rest: &Rest) {
    let new = json!({ "name": "Eve", "email": "eve@example.test", "password": PASSWORD });
    let took = refused("a sign-up", rest.post("/api/auth/signup", None, &new)).await;
    eprintln!("a sign-up was refused after {took:?}");
}

async fn readiness(rest: &Rest) -> (u16, Value) {
    let begin = Instant::now();
    let said = rest.get("/readyz", None).await;
    assert!(begin.elapsed() < ANSWERED, "readiness took {:?}", begin.elapsed());
    said
}

async fn well_again(world: &World) {
    let said = until("ready again", || readiness(&world.rest), |(_, body)| body["database"] == true).await;
    assert_eq!((said.0, &said.1["status"]), (200, &json!("ready")));
}

async fn database_up(rest: &Rest) -> String {
    let text = rest.request(Method::GET, "/metrics").send().await.expect("a reply").text().await.expect("text");
    text.lines().find(|line| line.starts_with("shoptalk_database_up ")).expect("the line").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_readings_are_refused_at_once_and_chat_goes_on() {
    let database = Database::start("outage").await;
    let tenant = database.tenant().await;
    let app = Box::pin(App::start(&config(&tenant), Roles::ALL)).await.expect("an instance starts");
    let world = World { rest: Rest::new(app.address), config: config(&tenant), app: Some(app), tenant };
    let (ana, ben, conversation) = world.pair().await;
    let (mut hers, mut his) = (ana.socket().await, ben.socket().await);
    let before = ana.say(&conversation, "before").await;
    for socket in [&mut hers, &mut his] {
        assert_eq!(socket.next("message").await["text"], "before");
    }
    world.history(&ben, &conversation, 1).await;
    assert_eq!(database_up(&world.rest).await, "shoptalk_database_up 1");

    // Frozen, and a reading is the first to notice.
    let frozen = database.freeze().await;
    everything_that_reads_is_refused(&ben, &conversation).await;
    sign_up_is_refused(&world.rest).await;
    for number in 0..20 {
        let answer = hers.call("sendMessage", &message(&conversation, &format!("during {number}"))).await;
        assert_eq!(answer["ok"], true, "{answer}");
        assert_eq!(his.next("message").await["text"], format!("during {number}"));
    }
    // What was said lately can be answered and changed.
    let touch = |more: &str, value: &str| {
        let mut data = json!({ "conversationId": conversation, "messageId": before["id"] });
        data[more] = json!(value);
        data
    };
    let answer = his.call("react", &touch("emoji", "👍")).await;
    assert_eq!((&answer["ok"], answer["data"]["seq"].is_u64()), (&json!(true), true), "{answer}");
    assert_eq!(hers.next("reaction").await["emoji"], "👍");
    assert_eq!(hers.call("editMessage", &touch("text", "edited")).await["ok"], true);
    assert_eq!(his.next("messageEdited").await["text"], "edited");
    let mut reply = message(&conversation, "a reply");
    reply["replyTo"] = before["id"].clone();
    assert_eq!(his.call("sendMessage", &reply).await["ok"], true);
    assert_eq!(hers.next("message").await["replyTo"]["text"], "edited");
    let (status, body) = readiness(&world.rest).await;
    assert_eq!((status, &body["status"], &body["database"]), (200, &json!("degraded"), &json!(false)), "{body}");
    assert_eq!(database_up(&world.rest).await, "shoptalk_database_up 0");
    drop(frozen);
    well_again(&world).await;
    let history = world.history(&ben, &conversation, 22).await;
    assert_eq!(history.len(), 22, "the backlog is drained");
    assert_eq!((&history[0]["text"], &history[0]["reactions"][0]["emoji"]), (&json!("edited"), &json!("👍")));
    assert_eq!(database_up(&world.rest).await, "shoptalk_database_up 1");

    // Frozen again, and a write is the first to notice: it does not wait out the five seconds it has.
    let frozen = database.freeze().await;
    sign_up_is_refused(&world.rest).await;
    drop(frozen);
    well_again(&world).await;
    world.person("Eve").await;

    // Gone: nothing takes connections.
    let Database { server, .. } = database;
    server.stop().await;
    everything_that_reads_is_refused(&ben, &conversation).await;
    let answer = hers.call("sendMessage", &message(&conversation, "without")).await;
    assert_eq!(answer["ok"], true, "{answer}");
    assert_eq!(his.next("message").await["text"], "without");

    let dead = async_nats::jetstream::new(world.tenant.broker().await).get_stream("DEAD").await.expect("the stream");
    assert_eq!(dead.cached_info().state.messages, 0, "an outage is no reason to give up on an event");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_users_want_and_only_the_database_knows_is_not_waited_for() {
    let database = Database::start("outage-preferences").await;
    let tenant = database.tenant().await;
    let app = Box::pin(App::start(&config(&tenant), Roles::ALL)).await.expect("an instance starts");
    let mut world = World { rest: Rest::new(app.address), config: config(&tenant), app: Some(app), tenant };
    let (ana, ben, conversation) = world.pair().await;
    ana.say(&conversation, "before").await;
    world.history(&ben, &conversation, 1).await;
    // The log is trimmed: nobody can tell any more from it who never said anything.
    world.app.take().expect("it runs").stop().await.expect("a clean stop");
    let log = async_nats::jetstream::new(world.tenant.broker().await);
    let events = log.get_stream("EVENTS").await.expect("the stream");
    events.purge().sequence(events.cached_info().state.last_sequence).await.expect("purged");
    let later = world.another(Roles { gateway: true, worker: false }).await;
    let (ana, ben) = (ana.at(later.address), ben.at(later.address));
    let mut hers = ana.socket().await;
    assert_eq!(hers.next("presenceSnapshot").await, json!({ "items": [] }));
    assert_eq!(ana.get(&format!("/api/conversations/{conversation}")).await.0, 200);

    let frozen = database.freeze().await;
    let begin = Instant::now();
    let answer = hers.call("sendMessage", &message(&conversation, "whoever you are")).await;
    assert_eq!(answer["ok"], true, "{answer}");
    assert!(begin.elapsed() < ANSWERED, "it took {:?}", begin.elapsed());
    until("the database found away", || database_up(&ana.rest), |line| line.ends_with(" 0")).await;
    // Somebody of whom nothing is known comes meanwhile.
    let mut his = ben.socket().await;
    assert_eq!(hers.call("typing", &json!({ "conversationId": conversation })).await["ok"], true);
    assert_eq!(his.next("typing").await["senderId"], json!(ana.id));
    for socket in [&mut his, &mut hers] {
        assert_eq!(socket.call("sendMessage", &message(&conversation, "during")).await["ok"], true);
        assert_eq!(socket.call("markRead", &json!({ "conversationId": conversation })).await["ok"], true);
    }
    drop(frozen);
    // He is shown to be there once it is known that he wants that.
    assert_eq!(hers.next("presence").await["userId"], json!(ben.id));
    later.stop().await.expect("a clean stop");
}
