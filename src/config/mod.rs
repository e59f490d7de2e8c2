//! Configuration: from the environment, a `.env` file and an optional TOML file, in that order of precedence.
//!
//! [`SETTINGS`] is the whole list, with defaults and what each is for; the README's table is checked against it. Every
//! fault is found and reported at once, by key. Nothing else in the crate reads the environment; what names the stores of
//! others and their credentials (`AWS_*` and the like) is handed on as it came.

mod attachments;
mod blob;
mod login;
mod source;

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub use attachments::AttachmentConfig;
pub use blob::BlobConfig;
pub use login::Login;
pub use source::Source;

use crate::auth::password::Cost;
use crate::error::{Code, Error, Result};

/// One thing that can be set.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name in the environment; in the TOML file the same, in lower case if you like.
    pub key: &'static str,
    /// What it is when not set; nothing means that `serve` needs it.
    pub default: Option<&'static str>,
    /// What it is for.
    pub about: &'static str,
}

const fn setting(key: &'static str, default: Option<&'static str>, about: &'static str) -> Setting {
    Setting { key, default, about }
}

/// Everything that can be set.
pub const SETTINGS: &[Setting] = &[
    setting("PORT", Some("4000"), "port to listen on"),
    setting("HOST", Some("0.0.0.0"), "address to listen on (`dev`: 127.0.0.1)"),
    setting(
        "CORS_ORIGIN",
        Some(""),
        "origins that may call from a browser, comma-separated, `*` for any; empty: same origin only",
    ),
    setting("NATS_URL", None, "nats://[user:password@]host:port of the broker (`dev`: starts its own)"),
    setting("SHOPTALK_NATS_USER", Some("shoptalk"), "user of Shoptalk at the broker, unless `NATS_URL` names one"),
    setting(
        "SHOPTALK_NATS_PASSWORD",
        Some(""),
        "their password (`dev`: shoptalk); without it, and without a user in `NATS_URL`, there is no log-in",
    ),
    setting("SHOPTALK_NATS_SEED", Some(""), "seed (SU...) of a key pair to log in with instead of a password"),
    setting("COMMERCE_NATS_USER", Some("commerce"), "user at the broker of `dev` that may publish order events"),
    setting("COMMERCE_NATS_PASSWORD", Some(""), "their password (`dev`: commerce)"),
    setting("NATS_REPLICAS", Some("1"), "copies of each stream: 1, 3 or 5"),
    setting(
        "EVENTS_MAX_BYTES",
        Some("8589934592"),
        "size of the event log at which sends are refused until there is room (`dev`: 1 GiB); the broker sets this and \
         three eighths more aside at once",
    ),
    setting("DEDUP_SECONDS", Some("600"), "time in which the broker itself recognises a repeated event, 1 to 86400"),
    setting("MONGODB_URI", None, "mongodb://... of the database (`dev`: starts its own)"),
    setting("MONGODB_DATABASE", Some("shoptalk"), "database to use when the URI names none"),
    setting(
        "ATTACHMENTS_URL",
        Some("file:data/attachments"),
        "where the bytes of attachments are kept: `file:` and a folder, `s3://bucket/prefix`, `gs://...`, `az://...` or \
         `memory:` (`dev`: a folder in its data); credentials by `AWS_*`, `GOOGLE_*` or `AZURE_*`",
    ),
    setting("ATTACHMENT_MAX_BYTES", Some("26214400"), "size of one attachment, at most"),
    setting("ATTACHMENT_MAX_PIXELS", Some("50000000"), "pixels of a picture, at most: it is opened as a whole, once"),
    setting(
        "ATTACHMENT_KEEP_SECONDS",
        Some("86400"),
        "time after which an attachment that nobody sends is removed, 1 to 31536000",
    ),
    setting(
        "ATTACHMENT_GRACE_SECONDS",
        Some("86400"),
        "time for which the bytes of deleted messages are kept, though nobody gets them, up to 31536000",
    ),
    setting("ATTACHMENT_SWEEP_SECONDS", Some("3600"), "time between two rounds of removing, 1 to 86400"),
    setting("ATTACHMENT_LINK_SECONDS", Some("300"), "time for which an address without a token is good, 1 to 86400"),
    setting(
        "CLAMD_ADDRESS",
        Some(""),
        "host:port or unix:/path of a ClamAV daemon that looks attachments through, with a `StreamMaxLength` of at least \
         `ATTACHMENT_MAX_BYTES`; empty: nobody does",
    ),
    setting("JWT_SECRET", None, "secret that signs access tokens, at least 32 bytes (`dev`: makes one)"),
    setting("ACCESS_TOKEN_SECONDS", Some("3600"), "life of an access token, 60 to 86400"),
    setting("REFRESH_TOKEN_DAYS", Some("30"), "life of a refresh token, 1 to 365"),
    setting("ARGON2_MEMORY_KIB", Some("19456"), "memory of one password hash, at least 8"),
    setting("ARGON2_PASSES", Some("2"), "passes of one password hash, at least 1"),
    setting(
        "WINDOW_EVENTS",
        Some("65536"),
        "newest events kept in memory for clients that come back, 1 to 1000000; older ones are read from the log",
    ),
    setting("HEARTBEAT_SECONDS", Some("25"), "time between two heartbeats on a socket, 1 to 300"),
    setting(
        "USER_SENDS_PER_SECOND",
        Some("200"),
        "messages that one user may send, on all instances together; bursts of five times that",
    ),
    setting(
        "EDIT_SECONDS",
        Some("900"),
        "time after sending in which a message can be edited, up to 31536000; 0 for no limit",
    ),
    setting(
        "ORDERS_OPEN_CONVERSATIONS",
        Some("false"),
        "whether the first event of an order opens a conversation of customer and seller about it: true or false",
    ),
    setting("NOTIFICATION_DAYS", Some("90"), "days after which notifications are forgotten, 1 to 3650"),
    setting(
        "TRACE_DAYS",
        Some("7"),
        "time for which it is noted which instance pushed a message to whose sockets, up to 365; 0: not noted",
    ),
    setting("SHUTDOWN_SECONDS", Some("20"), "time to finish work in hand on SIGTERM, 1 to 300"),
    setting("LOG", Some("info"), "log filter, such as `info` or `shoptalk=debug,info`"),
    setting("LOG_FORMAT", Some("text"), "text or json"),
];

/// How HTTP is served.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Who may call from a browser.
    pub cors: Cors,
}

/// Who may call from a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cors {
    /// Pages of this server only.
    SameOrigin,
    /// Any page.
    Any,
    /// Pages of these origins.
    Origins(Vec<String>),
}

impl Cors {
    /// Whether a page of this origin may call.
    #[must_use]
    pub fn allows(&self, origin: &str) -> bool {
        match self {
            Self::SameOrigin => false,
            Self::Any => true,
            Self::Origins(origins) => origins.iter().any(|known| known == origin),
        }
    }
}

/// How the broker is reached.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// Its URL.
    pub url: String,
    /// Who logs in, if the URL does not say.
    pub login: Option<Login>,
    /// Copies of each stream.
    pub replicas: usize,
    /// Size of the event log at which clients are refused.
    pub events_max_bytes: i64,
    /// Seconds in which the broker recognises a repeated event.
    pub dedup_seconds: u64,
}

impl BrokerConfig {
    /// How another service reaches the broker: it only publishes, so of the rest nothing matters.
    #[must_use]
    pub const fn of_service(url: String, login: Option<Login>) -> Self {
        Self { url, login, replicas: 1, events_max_bytes: 1 << 30, dedup_seconds: 600 }
    }
}

/// How sockets are treated.
#[derive(Debug, Clone, Copy)]
pub struct SocketConfig {
    /// Time between two heartbeats.
    pub heartbeat: Duration,
    /// Newest events kept in memory.
    pub window: usize,
    /// Messages that one user may send in a second.
    pub user_sends: u32,
}

/// How the database is reached.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Its URI.
    pub uri: String,
    /// The database when the URI names none.
    pub database: String,
    /// Days after which notifications are forgotten.
    pub notification_days: u32,
}

/// How callers are known.
#[derive(Clone)]
pub struct AuthConfig {
    /// Signs access tokens.
    pub secret: String,
    /// Seconds an access token is good for.
    pub access_seconds: u32,
    /// Days a refresh token is good for.
    pub refresh_days: u32,
    /// What a password hash costs.
    pub cost: Cost,
}

impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig").field("access_seconds", &self.access_seconds).finish_non_exhaustive()
    }
}

/// How logs look.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// What is logged.
    pub filter: String,
    /// In which form.
    pub format: LogFormat,
}

/// The form of the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines, one object per line.
    Json,
}

/// Everything that is configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// How HTTP is served.
    pub http: HttpConfig,
    /// How the broker is reached.
    pub broker: BrokerConfig,
    /// How sockets are treated.
    pub sockets: SocketConfig,
    /// How the database is reached.
    pub store: StoreConfig,
    /// Where the bytes of attachments are kept.
    pub blobs: BlobConfig,
    /// What attachments may be, and how long they are kept.
    pub attachments: AttachmentConfig,
    /// How callers are known.
    pub auth: AuthConfig,
    /// Time after sending in which a message can be edited; nothing for no limit.
    pub editable: Option<Duration>,
    /// Whether the first event of an order opens a conversation of customer and seller about it.
    pub orders_open_conversations: bool,
    /// Days for which it is noted what was pushed; 0 for not at all.
    pub trace_days: u32,
    /// How logs look.
    pub log: LogConfig,
    /// Time to finish work in hand.
    pub shutdown: Duration,
}

impl Config {
    /// Reads every setting; the error names every fault.
    pub fn read(source: &Source) -> Result<Self> {
        let mut read = Reader { source, faults: Vec::new() };
        let host: IpAddr = read.parsed("HOST", "an IP address");
        let port: u16 = read.parsed("PORT", "a port number");
        let cors = read.cors();
        let config = Self {
            http: HttpConfig { listen: SocketAddr::new(host, port), cors },
            broker: BrokerConfig {
                url: read.prefixed("NATS_URL", &["nats://", "tls://"]),
                login: read.login(),
                replicas: read.one_of("NATS_REPLICAS", &[("1", 1), ("3", 3), ("5", 5)]),
                events_max_bytes: read.within("EVENTS_MAX_BYTES", 1_048_576, i64::MAX),
                dedup_seconds: read.within("DEDUP_SECONDS", 1, 86_400),
            },
            sockets: SocketConfig {
                heartbeat: Duration::from_secs(read.within("HEARTBEAT_SECONDS", 1, 300)),
                window: read.within("WINDOW_EVENTS", 1, 1_000_000),
                user_sends: read.within("USER_SENDS_PER_SECOND", 1, 1_000_000),
            },
            store: StoreConfig {
                uri: read.prefixed("MONGODB_URI", &["mongodb://", "mongodb+srv://"]),
                database: read.text("MONGODB_DATABASE"),
                notification_days: read.within("NOTIFICATION_DAYS", 1, 3_650),
            },
            blobs: read.blobs(),
            attachments: read.attachments(),
            auth: AuthConfig {
                secret: read.secret(),
                access_seconds: read.within("ACCESS_TOKEN_SECONDS", 60, 86_400),
                refresh_days: read.within("REFRESH_TOKEN_DAYS", 1, 365),
                cost: Cost {
                    memory: read.within("ARGON2_MEMORY_KIB", 8, 1_048_576),
                    passes: read.within("ARGON2_PASSES", 1, 100),
                },
            },
            editable: match read.within("EDIT_SECONDS", 0, 31_536_000) {
                0 => None,
                seconds => Some(Duration::from_secs(seconds)),
            },
            orders_open_conversations: read.one_of("ORDERS_OPEN_CONVERSATIONS", &[("false", false), ("true", true)]),
            trace_days: read.within("TRACE_DAYS", 0, 365),
            log: LogConfig {
                filter: read.text("LOG"),
                format: read.one_of("LOG_FORMAT", &[("text", LogFormat::Text), ("json", LogFormat::Json)]),
            },
            shutdown: Duration::from_secs(read.within("SHUTDOWN_SECONDS", 1, 300)),
        };
        read.faults.extend(source.unknown().map(|key| format!("{key}: there is no such setting")));
        if read.faults.is_empty() {
            return Ok(config);
        }
        let mut shown = String::from("the configuration has faults:");
        for fault in &read.faults {
            let _ = write!(shown, "\n  {fault}");
        }
        Err(Error::new(Code::Invalid, "bad_configuration", shown))
    }
}

/// Reads settings and collects faults; a value after a fault is a stand-in that nobody gets to see.
struct Reader<'a> {
    source: &'a Source,
    faults: Vec<String>,
}

impl Reader<'_> {
    fn fault(&mut self, key: &str, what: &str) {
        self.faults.push(format!("{key}: {what}"));
    }

    fn text(&mut self, key: &'static str) -> String {
        let default = SETTINGS.iter().find(|setting| setting.key == key).and_then(|setting| setting.default);
        if let Some(text) = self.source.get(key).or(default) {
            text.to_owned()
        } else {
            self.fault(key, "is needed and not set");
            String::new()
        }
    }

    fn parsed<T: std::str::FromStr + Stand>(&mut self, key: &'static str, what: &str) -> T {
        let text = self.text(key);
        text.trim().parse().unwrap_or_else(|_| {
            self.fault(key, &format!("must be {what}, not {text:?}"));
            T::stand_in()
        })
    }

    fn within<T>(&mut self, key: &'static str, least: T, most: T) -> T
    where
        T: std::str::FromStr + PartialOrd + Copy + std::fmt::Display,
    {
        let text = self.text(key);
        match text.trim().parse::<T>() {
            Ok(number) if number >= least && number <= most => number,
            _ => {
                self.fault(key, &format!("must be a number from {least} to {most}, not {text:?}"));
                least
            }
        }
    }

    fn one_of<T: Copy, const N: usize>(&mut self, key: &'static str, words: &[(&str, T); N]) -> T {
        let text = self.text(key);
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.trim()) {
            return *value;
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        self.faults.push(format!("{key}: must be one of {}, not {text:?}", known.join(", ")));
        words[0].1
    }

    fn prefixed(&mut self, key: &'static str, schemes: &[&str]) -> String {
        let text = self.text(key);
        if !text.is_empty() && !schemes.iter().any(|scheme| text.starts_with(scheme)) {
            // The value may hold a password, so it is not repeated.
            self.fault(key, &format!("must begin with {}", schemes.join(" or ")));
        }
        text
    }

    fn secret(&mut self) -> String {
        let secret = self.text("JWT_SECRET");
        if !secret.is_empty() && secret.len() < 32 {
            self.fault("JWT_SECRET", "must have at least 32 bytes (try: openssl rand -hex 32)");
        }
        secret
    }

    fn cors(&mut self) -> Cors {
        let text = self.text("CORS_ORIGIN");
        let origins: Vec<String> = text
            .split(',')
            .map(|origin| origin.trim().trim_end_matches('/').to_owned())
            .filter(|origin| !origin.is_empty())
            .collect();
        if origins.is_empty() {
            return Cors::SameOrigin;
        }
        if origins.iter().any(|origin| origin == "*") {
            return Cors::Any;
        }
        for origin in &origins {
            if !origin.starts_with("http://") && !origin.starts_with("https://") {
                self.fault("CORS_ORIGIN", &format!("{origin:?} is no origin such as https://shop.example"));
            }
        }
        Cors::Origins(origins)
    }
}

/// A value to go on with after a fault.
trait Stand {
    fn stand_in() -> Self;
}
impl Stand for IpAddr {
    fn stand_in() -> Self {
        Self::from([127, 0, 0, 1])
    }
}
impl Stand for u16 {
    fn stand_in() -> Self {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(pairs: &[(&str, &str)]) -> Source {
        Source::from_pairs(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())))
    }

    const GOOD: &[(&str, &str)] = &[
        ("NATS_URL", "nats://127.0.0.1:4222"),
        ("MONGODB_URI", "mongodb://127.0.0.1"),
        ("JWT_SECRET", "a secret of thirty-two characters"),
    ];

    #[test]
    fn three_settings_are_enough() {
        let config = Config::read(&source(GOOD)).expect("a good configuration");
        assert_eq!(config.http.listen.port(), 4000);
        assert_eq!(config.http.cors, Cors::SameOrigin);
    }

    #[test]
    fn every_fault_is_told_at_once_and_no_secret_is_repeated() {
        let bad = source(&[
            ("PORT", "http"),
            ("MONGODB_URI", "http://user:hunter2@db"),
            ("JWT_SECRET", "hunter2"),
            ("CORS_ORIGIN", "shop.example"),
            ("LOG_FORMAT", "xml"),
            ("ACCESS_TOKEN_SECONDS", "1"),
        ]);
        let shown = Config::read(&bad).expect_err("a bad configuration").shown().to_owned();
        for key in
            ["PORT", "NATS_URL", "MONGODB_URI", "JWT_SECRET", "CORS_ORIGIN", "LOG_FORMAT", "ACCESS_TOKEN_SECONDS"]
        {
            assert!(shown.contains(&format!("\n  {key}: ")), "{key} is missing in {shown}");
        }
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn origins_are_compared_whole() {
        let mut pairs = GOOD.to_vec();
        pairs.push(("CORS_ORIGIN", "https://shop.example, http://localhost:3000/"));
        let cors = Config::read(&source(&pairs)).expect("good").http.cors;
        assert!(cors.allows("https://shop.example"));
        assert!(cors.allows("http://localhost:3000"));
        assert!(!cors.allows("https://shop.example.evil.test"));
    }
}
