//! A running instance within this process, and people who use it.

use serde_json::{Value, json};
use shoptalk::app::{App, Roles};
use shoptalk::config::{Config, Source};

use super::client::{Person, Rest};
use super::servers::{self, Tenant};

/// Secret of all test instances.
pub const SECRET: &str = "a secret for tests of thirty-two bytes";

/// A tenant and the instances on it.
pub struct World {
    pub tenant: Tenant,
    pub config: Config,
    pub app: Option<App>,
    pub rest: Rest,
}

/// The settings of an instance for tests: a port of its own, and hashes that cost nothing.
pub fn settings(tenant: &Tenant) -> Vec<(String, String)> {
    // All instances of a tenant have the same.
    let attachments = format!("file:{}", servers::scratch("attachments").join(&tenant.database).display());
    [
        ("HOST", "127.0.0.1"),
        ("PORT", "0"),
        ("NATS_URL", &tenant.nats_url),
        ("MONGODB_URI", &tenant.mongodb_uri),
        ("MONGODB_DATABASE", &tenant.database),
        ("ATTACHMENTS_URL", &attachments),
        ("JWT_SECRET", SECRET),
        ("ARGON2_MEMORY_KIB", "64"),
        ("ARGON2_PASSES", "1"),
        ("CORS_ORIGIN", "https://shop.example"),
        // The broker reserves this much of the disk for each of many tenants.
        ("EVENTS_MAX_BYTES", "16777216"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .to_vec()
}

pub fn config(tenant: &Tenant) -> Config {
    Config::read(&Source::from_pairs(settings(tenant))).expect("a good configuration")
}

impl World {
    /// One instance that does everything.
    pub async fn start() -> Self {
        Self::with_roles(Roles::ALL).await
    }

    pub async fn with_roles(roles: Roles) -> Self {
        Self::with(roles, &[]).await
    }

    /// One instance with other settings than usual; so have the further ones.
    pub async fn with(roles: Roles, other: &[(&str, &str)]) -> Self {
        Self::on(servers::tenant().await, roles, other).await
    }

    /// The same for this tenant.
    pub async fn on(tenant: Tenant, roles: Roles, other: &[(&str, &str)]) -> Self {
        let mut settings = settings(&tenant);
        for (key, value) in other {
            settings.retain(|(known, _)| known != key);
            settings.push(((*key).to_owned(), (*value).to_owned()));
        }
        let config = Config::read(&Source::from_pairs(settings)).expect("a good configuration");
        let app = Box::pin(App::start(&config, roles)).await.expect("an instance starts");
        let rest = Rest::new(app.address);
        Self { tenant, config, app: Some(app), rest }
    }

    /// A further instance on the same broker and database.
    pub async fn another(&self, roles: Roles) -> App {
        Box::pin(App::start(&self.config, roles)).await.expect("another instance starts")
    }

    /// Somebody new with an account.
    pub async fn person(&self, name: &str) -> Person {
        self.rest.sign_up(name).await
    }

    /// Somebody new who is this to the shop: agents and admins are made by the shop, not by signing up.
    pub async fn staff(&self, name: &str, role: &str) -> Person {
        let mut person = self.person(name).await;
        let users =
            crate::drills::evidence::database(&self.tenant).await.collection::<mongodb::bson::Document>("users");
        let set = mongodb::bson::doc! { "$set": { "role": role } };
        let done = users.update_one(mongodb::bson::doc! { "_id": &person.id }, set).await.expect("an answer");
        assert_eq!(done.matched_count, 1);
        let login = json!({ "email": person.email, "password": super::client::PASSWORD });
        let (status, entered) = self.rest.post("/api/auth/login", None, &login).await;
        assert_eq!((status, &entered["user"]["role"]), (200, &json!(role)), "{entered}");
        entered["token"].as_str().expect("a token").clone_into(&mut person.token);
        person
    }

    /// Two people with a conversation.
    pub async fn pair(&self) -> (Person, Person, String) {
        let (ana, ben) = (self.person("Ana").await, self.person("Ben").await);
        let conversation = ana.open(&[&ben]).await;
        (ana, ben, conversation)
    }

    /// The history of a conversation once it has this many messages.
    pub async fn history(&self, person: &Person, conversation: &str, count: usize) -> Vec<Value> {
        let path = format!("/api/messages/{conversation}?limit=200");
        let page = super::until(
            &format!("a history of {count} messages"),
            || person.get(&path),
            |(status, page): &(u16, Value)| {
                *status == 200 && page["items"].as_array().is_some_and(|all| all.len() >= count)
            },
        )
        .await
        .1;
        page["items"].as_array().cloned().expect("a page has items")
    }

    /// How many deliveries were given up once both consumers have come to the end of the log.
    pub async fn dead_letters(&self) -> u64 {
        let jetstream = async_nats::jetstream::new(self.tenant.broker().await);
        let log = jetstream.get_stream("EVENTS").await.expect("the stream");
        let left = async || {
            let mut left = 0;
            for name in ["persist", "notify"] {
                let info = log.consumer_info(name).await.expect("a consumer");
                left += info.num_pending + u64::try_from(info.num_ack_pending).expect("a count");
            }
            left
        };
        super::until("the end of the log", left, |left| *left == 0).await;
        jetstream.get_stream("DEAD").await.expect("the stream").get_info().await.expect("its state").state.messages
    }

    /// Stops the instance in good order.
    pub async fn stop(mut self) {
        self.app.take().expect("it runs").stop().await.expect("a clean stop");
    }
}

/// A message as a client writes it.
pub fn message(conversation: &str, text: &str) -> Value {
    json!({ "conversationId": conversation, "text": text })
}
