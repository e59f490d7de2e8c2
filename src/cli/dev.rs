//! `shoptalk dev`: an instance together with its own broker and database.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::{Stop, print};
use crate::app::{App, Roles};
use crate::config::{Config, Source};
use crate::domain::clock::random_bits;
use crate::embedded::{Credentials, Embedded, Logins, NatsWanted, Wanted};
use crate::error::{Error, Result};
use crate::telemetry;

/// Passwords at the broker when none are set. Known to everybody, so that what the README says can be pasted; the
/// broker listens on this machine only.
const KNOWN: [(&str, &str); 4] = [
    ("SHOPTALK_NATS_USER", "shoptalk"),
    ("SHOPTALK_NATS_PASSWORD", "shoptalk"),
    ("COMMERCE_NATS_USER", "commerce"),
    ("COMMERCE_NATS_PASSWORD", "commerce"),
];

/// The size of the log at a broker that is started here: it sets the room aside at once, and laptops are full.
const EVENTS_MAX_BYTES: u64 = 1 << 30;

pub(super) async fn dev(data: &Path, file: Option<&Path>) -> Result<()> {
    let mut source = Source::of_process(file)?;
    source.default_to("HOST", "127.0.0.1");
    source.default_to("CORS_ORIGIN", "*");
    let mut stop = Stop::listen()?;
    let logins = source.get("NATS_URL").is_none().then(|| logins(&mut source));
    let wanted = Wanted {
        data: data.to_owned(),
        guard: std::env::current_exe().map_err(Error::internal)?,
        nats: logins.clone().map(NatsWanted::Shop),
        mongodb: source.get("MONGODB_URI").is_none(),
    };
    let servers = tokio::select! {
        servers = Embedded::start(wanted) => servers?,
        () = stop.asked() => return Ok(()),
    };
    let ran = Box::pin(dev_with(&servers, logins.as_ref(), source, data, &mut stop)).await;
    servers.stop().await;
    ran
}

async fn dev_with(
    servers: &Embedded,
    logins: Option<&Logins>,
    mut source: Source,
    data: &Path,
    stop: &mut Stop,
) -> Result<()> {
    if let Some(url) = servers.nats_url() {
        source.default_to("NATS_URL", url);
        source.default_to("EVENTS_MAX_BYTES", EVENTS_MAX_BYTES.to_string());
    }
    if let Some(uri) = servers.mongodb_uri() {
        source.default_to("MONGODB_URI", uri);
    }
    if source.get("ATTACHMENTS_URL").is_none() {
        let folder = data.join("attachments");
        let folder = folder.to_str().ok_or_else(|| Error::invalid("bad_configuration", "--data is not UTF-8"))?;
        source.default_to("ATTACHMENTS_URL", format!("file:{folder}"));
    }
    if source.get("JWT_SECRET").is_none() {
        source.default_to("JWT_SECRET", kept_secret(&data.join("jwt-secret"))?);
    }
    let config = Config::read(&source)?;
    telemetry::start(&config.log)?;
    let app = Box::pin(App::start(&config, Roles::ALL)).await?;
    let base = format!("http://{}", app.address);
    let (nats, orders) = match logins {
        Some(logins) => {
            (shown(&config.broker.url, &logins.application), Some(shown(&config.broker.url, &logins.commerce)))
        }
        None => (without_password(&config.broker.url), None),
    };
    let orders = orders.map(|orders| format!("\n  orders     {orders}")).unwrap_or_default();
    print(&format!(
        "\nShoptalk is ready.\n  API        {base}/api\n  docs       {base}/docs/\n  Socket.IO  {base}/socket.io/\n  WebSocket  ws://{}/ws\n  NATS       {nats}{orders}\n  MongoDB    {}\n  data       {}\nCtrl-C stops it.\n\n",
        app.address,
        without_password(&config.store.uri),
        data.display(),
    ));
    let died = tokio::select! {
        () = stop.asked() => None,
        () = app.died() => None,
        what = servers.died() => Some(what),
    };
    let stopped = app.stop().await;
    match died {
        Some(what) => Err(Error::unavailable("server_died", what)),
        None => stopped,
    }
}

/// Who may log in at the broker that is started here. The instance itself comes by the same settings.
fn logins(source: &mut Source) -> Logins {
    for (key, known) in KNOWN {
        source.default_to(key, known);
    }
    let text = |key| source.get(key).unwrap_or_default().to_owned();
    let credentials = |user, password| Credentials { user: text(user), password: text(password) };
    Logins {
        application: credentials("SHOPTALK_NATS_USER", "SHOPTALK_NATS_PASSWORD"),
        commerce: credentials("COMMERCE_NATS_USER", "COMMERCE_NATS_PASSWORD"),
    }
}

/// The broker's URL with somebody who may log in there, and their password if everybody knows it.
fn shown(url: &str, credentials: &Credentials) -> String {
    let Credentials { user, password } = credentials;
    let known = KNOWN.iter().any(|(key, known)| key.ends_with("PASSWORD") && known == password);
    url.replacen("://", &format!("://{user}:{}@", if known { password } else { "…" }), 1)
}

/// A URL fit to be shown.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => url.to_owned(),
    }
}

/// The secret that this data folder's tokens are signed with, made when there is none.
fn kept_secret(path: &Path) -> Result<String> {
    let fault = |error| Error::internal(error);
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let secret = format!("{:032x}{:032x}", random_bits(), random_bits());
            file.write_all(secret.as_bytes()).and_then(|()| file.sync_all()).map_err(fault)?;
            Ok(secret)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let mut secret = String::new();
            std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut secret)).map_err(fault)?;
            Ok(secret.trim().to_owned())
        }
        Err(error) => Err(fault(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_passwords_that_everybody_knows_are_shown() {
        let mut source = Source::from_pairs([("COMMERCE_NATS_PASSWORD".to_owned(), "hunter2".to_owned())]);
        let logins = logins(&mut source);
        let url = "nats://127.0.0.1:4222";
        assert_eq!(shown(url, &logins.application), "nats://shoptalk:shoptalk@127.0.0.1:4222");
        assert_eq!(shown(url, &logins.commerce), "nats://commerce:…@127.0.0.1:4222");
        assert_eq!(without_password("nats://a:b@host:1"), "nats://…@host:1");
    }
}
