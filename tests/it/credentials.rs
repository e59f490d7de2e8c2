//! Who may do what at the broker: a nats-server with the accounts of `nats/server.conf`, and those who log in there.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_nats::jetstream::{self, message::PublishMessage};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event};
use futures_util::StreamExt as _;
use rustix::process::{Pid, Signal, kill_process};
use shoptalk::broker::{self, Broker};
use shoptalk::config::{Config, Login, Source};
use shoptalk::embedded::{Credentials, Embedded, Logins, NatsWanted, Wanted};

use crate::support::servers::{self, scratch};
use crate::support::{until, world};

/// What a configuration could take for its own text.
const PASSWORD: &str = r#"12"3 \$HOME #4{"#;
/// A bare number is none of the broker's words.
const SHOP: &str = "123456";

/// A broker of one shop, with everything that an instance makes there.
struct Shop {
    server: Embedded,
    config: Config,
    broker: Broker,
    application: Client,
    log: jetstream::Context,
    conf: PathBuf,
}

impl Shop {
    async fn start(name: &str) -> Self {
        let data = scratch(&format!("shop-{name}"));
        let conf = data.join("nats/server.conf");
        let named = |user: &str, password: &str| Credentials { user: user.into(), password: password.into() };
        let logins = Logins { application: named("app", PASSWORD), commerce: named("shop", SHOP) };
        let wanted = Wanted { data, guard: servers::program(), nats: Some(NatsWanted::Shop(logins)), mongodb: false };
        let server = Embedded::start(wanted).await.expect("the broker starts (try: make servers)");
        let settings = [
            ("NATS_URL", server.nats_url().expect("a broker")),
            ("SHOPTALK_NATS_USER", "app"),
            ("SHOPTALK_NATS_PASSWORD", PASSWORD),
            ("EVENTS_MAX_BYTES", "16777216"),
            ("MONGODB_URI", "mongodb://127.0.0.1"),
            ("JWT_SECRET", world::SECRET),
        ];
        let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let config = Config::read(&Source::from_pairs(settings)).expect("a good configuration");
        let connected = broker::connect(&config.broker).await.expect("the application comes in");
        let broker = connected.provision(&config.broker, 0).await.expect("it makes what it needs");
        let application = ConnectOptions::with_user_and_password("app".into(), PASSWORD.into())
            .connect(&config.broker.url)
            .await
            .expect("the application comes in");
        let log = jetstream::new(application.clone());
        Self { server, config, broker, application, log, conf }
    }

    fn url(&self) -> &str {
        &self.config.broker.url
    }

    async fn service(&self) -> Service {
        Service::with(self.url(), ConnectOptions::with_user_and_password("shop".into(), SHOP.into())).await
    }

    /// What is in a stream.
    async fn count(&self, name: &str) -> u64 {
        self.log.get_stream(name).await.expect("the stream").cached_info().state.messages
    }

    /// Reads the configuration again, changed.
    fn reload(&self, change: impl Fn(String) -> String) {
        let text = std::fs::read_to_string(&self.conf).expect("its configuration");
        std::fs::write(&self.conf, change(text)).expect("its configuration");
        for pid in self.server.pids() {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process");
            kill_process(pid, Signal::HUP).expect("a signal");
        }
    }
}

/// A service of the shop, and what the broker has said against it.
struct Service {
    client: Client,
    refusals: Arc<Mutex<Vec<String>>>,
}

impl Service {
    async fn with(url: &str, options: ConnectOptions) -> Self {
        let refusals = Arc::<Mutex<Vec<String>>>::default();
        let heard = refusals.clone();
        let options = options.event_callback(move |event| {
            match event {
                Event::ServerError(error) => heard.lock().expect("refusals").push(error.to_string()),
                Event::Disconnected => heard.lock().expect("refusals").push("disconnected".into()),
                _ => {}
            }
            std::future::ready(())
        });
        Self { client: options.connect(url).await.expect("it comes in"), refusals }
    }

    /// Publishes an order event, with another header if one is given: its place and whether it was there already.
    async fn publish(&self, subject: &str, id: &str, other: Option<(&str, &str)>) -> Result<(u64, bool), String> {
        let mut message = PublishMessage::build().payload("{}".into()).message_id(id);
        if let Some((name, value)) = other {
            message = message.header(name, value);
        }
        let sent = jetstream::new(self.client.clone()).send_publish(subject.to_owned(), message).await;
        let ack = sent.expect("it is sent").await.map_err(|error| error.to_string())?;
        assert_eq!(ack.stream, "ORDERS");
        Ok((ack.sequence, ack.duplicate))
    }

    /// The broker says that this went too far.
    async fn refused(&self, kind: &str, subject: &str) {
        let wanted = format!("permissions violation for {kind} to \"{subject}\"").to_lowercase();
        let said = || async { self.refusals.lock().expect("refusals").clone() };
        until(&wanted, said, |all| all.iter().any(|text| text.to_lowercase().contains(&wanted))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_the_shop_publishes_order_events_and_can_do_nothing_else() {
    let shop = Shop::start("alone").await;
    let service = shop.service().await;
    let (first, repeated) = service.publish("orders.A-17.created", "evt-1", None).await.expect("an answer");
    assert!(!repeated);
    assert_eq!(service.publish("orders.A-17.created", "evt-1", None).await, Ok((first, true)));

    // What the application hears from the service; the marker comes last.
    let mut heard = shop.application.subscribe("live.>").await.expect("a subscription");
    shop.application.flush().await.expect("a flush");
    let elsewhere = [
        "chat.cnv_5SY79QB5NXHB6DXF1F25QTXVA8.message",
        "inbox.usr_01M81FBVR246HPJSAAKF39DJFC.notification",
        "dead.orders",
        "live.typing.cnv_5SY79QB5NXHB6DXF1F25QTXVA8",
        "$KV.presence.usr_01M81FBVR246HPJSAAKF39DJFC.ins_01M81FBVR246HPJSAAKF39DJFC",
        "$KV.instances.ins_01M81FBVR246HPJSAAKF39DJFC",
        "$JS.API.INFO",
        "$JS.API.STREAM.PURGE.EVENTS",
        "$JS.API.STREAM.MSG.GET.ORDERS",
        "$JS.API.DIRECT.GET.EVENTS",
        "$JS.API.CONSUMER.CREATE.ORDERS",
        "$JS.API.CONSUMER.MSG.NEXT.ORDERS.orders",
        "$SYS.REQ.SERVER.PING",
        "_INBOX.somebody.else",
        "order.A-17.created",
        "orders",
    ];
    for subject in elsewhere {
        service.client.publish_with_reply(subject, "_INBOX.answer", "{}".into()).await.expect("sent");
        service.refused("publish", subject).await;
    }
    let reading = [">", "*.>", "orders.>", "orders.*.created", "chat.>", "inbox.>", "dead.>", "live.>", "$KV.>"];
    for subject in reading.into_iter().chain(["$JS.>", "$JS.API.>", "$SYS.>", "_R_.>"]) {
        let _subscription = service.client.subscribe(subject).await.expect("asked");
        service.refused("subscription", subject).await;
    }
    assert_eq!(service.refusals.lock().expect("refusals").len(), elsewhere.len() + reading.len() + 4);

    shop.application.publish("live.end", "marker".into()).await.expect("sent");
    assert_eq!(heard.next().await.expect("a message").subject.as_str(), "live.end");
    for stream in ["EVENTS", "DEAD", "KV_presence", "KV_instances"] {
        assert_eq!(shop.count(stream).await, 0, "{stream}");
    }
    assert_eq!(shop.count("ORDERS").await, 1);
}

/// The broker publishes its answer in the name of nobody, where the publisher wants it. That must not be in the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_cannot_have_its_answers_put_into_the_log() {
    let shop = Shop::start("answers").await;
    let service = shop.service().await;
    for (order, answer) in [("A-1", "chat.cnv_5SY79QB5NXHB6DXF1F25QTXVA8.message"), ("A-2", "dead.persist")] {
        let subject = format!("orders.{order}.created");
        service.client.publish_with_reply(subject, answer, "{}".into()).await.expect("sent");
    }
    // Answers come in order, so those before this one have been given.
    let (place, _) = service.publish("orders.A-3.created", "evt-3", None).await.expect("an answer");
    assert_eq!(place, 3, "an event was stored, whatever became of its answer");
    assert_eq!((shop.count("EVENTS").await, shop.count("DEAD").await), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_cannot_remove_order_events_by_publishing_one() {
    let shop = Shop::start("rollup").await;
    let service = shop.service().await;
    service.publish("orders.A-1.created", "evt-1", None).await.expect("an answer");
    let refused = service.publish("orders.A-1.paid", "evt-2", Some(("Nats-Rollup", "all"))).await;
    assert!(refused.as_ref().is_err_and(|why| why.contains("roll")), "{refused:?}");
    assert_eq!(shop.count("ORDERS").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_in_without_the_right_password() {
    let shop = Shop::start("doors").await;
    let named = |user: &str, password: &str| ConnectOptions::with_user_and_password(user.into(), password.into());
    let strangers = [
        ConnectOptions::new(),
        named("app", SHOP),
        named("app", ""),
        named("shop", PASSWORD),
        named("", ""),
        named("SYS", ""),
        ConnectOptions::with_token(PASSWORD.into()),
        ConnectOptions::with_nkey(nkeys::KeyPair::new_user().seed().expect("a seed")),
    ];
    for (number, stranger) in strangers.into_iter().enumerate() {
        let refused = stranger.connect(shop.url()).await.expect_err("a refusal");
        let kind = refused.kind();
        assert!(
            matches!(kind, ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication),
            "stranger {number}: {refused:?}"
        );
    }
    let mut config = shop.config.broker.clone();
    config.login = None;
    let refused = broker::connect(&config).await.err().expect("a refusal");
    assert_eq!(refused.reason(), "bad_configuration");
    // A URL spells what it cannot contain.
    let login = format!("nats://app:{}@", "12%223%20%5C$HOME%20%234%7B");
    config.url = config.url.replace("nats://", &login);
    broker::connect(&config).await.map(drop).expect("the URL names the application");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_as_good_as_a_password_and_may_be_added_while_the_broker_runs() {
    let shop = Shop::start("keys").await;
    let (application, service) = (nkeys::KeyPair::new_user(), nkeys::KeyPair::new_user());
    let before = shop.service().await;
    shop.reload(|text| {
        [("SHOPTALK_NATS_NKEY", &application), ("COMMERCE_NATS_NKEY", &service)].iter().fold(
            text,
            |text, (name, key)| {
                let (hidden, shown) = (format!("# {{ nkey: ${name} }}"), format!("{{ nkey: {} }}", key.public_key()));
                assert!(text.contains(&hidden), "server.conf has no line {hidden}");
                text.replace(&hidden, &shown)
            },
        )
    });
    let seed = |key: &nkeys::KeyPair| key.seed().expect("a seed");
    let enter =
        || async { ConnectOptions::with_nkey(seed(&service)).connect(shop.url()).await.map_err(|error| error.kind()) };
    until("the key is known", enter, Result::is_ok).await.expect("just seen").drain().await.expect("an end");

    let keyed = Service::with(shop.url(), ConnectOptions::with_nkey(seed(&service))).await;
    let (_, repeated) = keyed.publish("orders.A-1.created", "evt-1", None).await.expect("an answer");
    assert!(!repeated);
    keyed.client.publish("chat.cnv_5SY79QB5NXHB6DXF1F25QTXVA8.message", "{}".into()).await.expect("sent");
    keyed.refused("publish", "chat.cnv_5SY79QB5NXHB6DXF1F25QTXVA8.message").await;

    let mut config = shop.config.broker.clone();
    config.login = Some(Login::Key { seed: seed(&application) });
    let broker = broker::connect(&config).await.expect("the application comes in").attach().await.expect("its log");
    assert_eq!(broker.epoch(), shop.broker.epoch());
    // Who was there has stayed.
    before.publish("orders.A-1.paid", "evt-2", None).await.expect("an answer");
    assert_eq!(*before.refusals.lock().expect("refusals"), Vec::<String>::new());
    assert_eq!(shop.count("ORDERS").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_events_of_a_tenant_are_seen_by_no_other() {
    let (one, other) = (servers::tenant().await, servers::tenant().await);
    for tenant in [&one, &other] {
        let config = world::config(tenant).broker;
        broker::connect(&config).await.expect("it comes in").provision(&config, 0).await.expect("its streams");
    }
    let service = jetstream::new(one.commerce().await);
    let sent = service.publish("orders.A-1.created", "{}".into()).await.expect("sent");
    assert_eq!(sent.await.expect("an answer").sequence, 1);
    for (tenant, count) in [(one, 1), (other, 0)] {
        let log = jetstream::new(tenant.broker().await);
        assert_eq!(log.get_stream("ORDERS").await.expect("ORDERS").cached_info().state.messages, count);
    }
}
