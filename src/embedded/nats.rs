//! What a nats-server of ours is told: places, and who may log in to do what.
//!
//! The folder is the child's working directory, so no path needs quoting here.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::NatsWanted;
use crate::error::{Error, Result};

/// What runs in production, so that nothing works here which does not work there.
const SHOP: &str = include_str!("../../nats/server.conf");

/// The whole configuration.
pub(super) fn config(name: &str, port: u16, wanted: &NatsWanted) -> String {
    match wanted {
        NatsWanted::Shop(_) => shop(name, port),
        NatsWanted::Tenants(count) => tenants(name, port, *count),
    }
}

/// What it refers to. In the environment, where production has it, and in no file.
pub(super) fn variables(wanted: &NatsWanted) -> Result<Vec<(&'static str, String)>> {
    let NatsWanted::Shop(logins) = wanted else { return Ok(Vec::new()) };
    let named = [
        ("SHOPTALK_NATS_USER", &logins.application.user),
        ("SHOPTALK_NATS_PASSWORD", &logins.application.password),
        ("COMMERCE_NATS_USER", &logins.commerce.user),
        ("COMMERCE_NATS_PASSWORD", &logins.commerce.password),
    ];
    named.into_iter().map(|(key, value)| Ok((key, quoted(key, value)?))).collect()
}

/// The server reads a variable as it would read its own text: without quotes a password 123 is a number, and refused.
fn quoted(key: &str, value: &str) -> Result<String> {
    if value.chars().any(char::is_control) {
        return Err(Error::invalid("bad_configuration", format!("{key}: must not contain control characters")));
    }
    Ok(format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// Data from before there were accounts belong to the application.
pub(super) fn adopt(folder: &Path) -> io::Result<()> {
    let (before, now) = (folder.join("jetstream/$G"), folder.join("jetstream/APP"));
    if now.exists() {
        return Ok(());
    }
    match fs::rename(before, now) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The file of production in other places; who may do what stays word for word.
fn shop(name: &str, port: u16) -> String {
    let mut config = String::from("# Written at every start.\n");
    for line in SHOP.lines() {
        let _ = match line.trim_start().split_once(':').map(|(key, _)| key) {
            Some("listen") => writeln!(config, "listen: \"127.0.0.1:{port}\""),
            Some("server_name") => writeln!(config, "server_name: \"{name}\""),
            Some("store_dir") => writeln!(config, "store_dir: \".\""),
            // Health and figures ask for no password, and nobody asks for them here.
            Some("http") => writeln!(config),
            _ => writeln!(config, "{line}"),
        };
    }
    config
}

fn tenants(name: &str, port: u16, count: usize) -> String {
    // Streams reserve their limits. Tests make many, which together may claim more than the disk has.
    let mut config = format!(
        "# Written at every start.\nhost: \"127.0.0.1\"\nport: {port}\nserver_name: \"{name}\"\nmax_payload: 1MB\n\
         jetstream {{ store_dir: \".\", sync_interval: always, max_file_store: 1TB }}\naccounts {{\n"
    );
    let user = |name: &str| format!("users: [ {{ user: \"{name}\", password: \"{name}\" }} ]");
    for number in 0..count {
        let (tenant, commerce) = (format!("t{number}"), format!("c{number}"));
        let _ = writeln!(
            config,
            "  {tenant}: {{ jetstream: enabled, {}, exports: [ {{ service: \"orders.>\", accounts: [ {commerce} ] }} ] }}",
            user(&tenant),
        );
        let _ = writeln!(
            config,
            "  {commerce}: {{ default_permissions: {{ publish: \"orders.>\", subscribe: \"_INBOX.>\" }}, {}, \
             imports: [ {{ service: {{ account: {tenant}, subject: \"orders.>\" }} }} ] }}",
            user(&commerce),
        );
    }
    config.push_str("}\n");
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::{Credentials, Logins};

    #[test]
    fn a_shop_is_the_file_of_production_elsewhere() {
        let config = shop("n", 1);
        let elsewhere = ["listen: \"127.0.0.1:1\"", "server_name: \"n\"", "store_dir: \".\""];
        for line in elsewhere {
            assert_eq!(config.lines().filter(|other| *other == line).count(), 1, "{line} in\n{config}");
        }
        for public in ["0.0.0.0", "8222\"", "/data"] {
            assert!(!config.contains(public), "{public} in\n{config}");
        }
        let accounts = |text: &str| text[text.find("\naccounts {").expect("accounts")..].to_owned();
        assert_eq!(accounts(&config), accounts(SHOP));
    }

    #[test]
    fn tenants_have_commerce_services_of_their_own() {
        let config = tenants("n", 1, 2);
        assert!(config.contains("  t1: { jetstream: enabled, users: [ { user: \"t1\", password: \"t1\" } ], "));
        assert!(config.contains("service: { account: t1, subject: \"orders.>\" }"));
        assert!(!config.contains("t2"));
    }

    #[test]
    fn data_from_before_there_were_accounts_are_kept() {
        let folder = std::env::temp_dir().join(format!("shoptalk-adopt-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        adopt(&folder).expect("nothing there is fine");
        let (before, now) = (folder.join("jetstream/$G/streams/EVENTS"), folder.join("jetstream/APP/streams/EVENTS"));
        fs::create_dir_all(&before).expect("a folder");
        adopt(&folder).expect("moved");
        assert!(now.exists() && !before.exists());
        fs::create_dir_all(&before).expect("a folder");
        adopt(&folder).expect("nothing to do");
        assert!(now.exists() && before.exists());
        fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn what_a_secret_contains_is_not_read_as_configuration() {
        let credentials = |password: &str| Credentials { user: "u".into(), password: password.into() };
        let wanted =
            |password| NatsWanted::Shop(Logins { application: credentials(password), commerce: credentials("123") });
        let known = variables(&wanted(r#"a"b\c $d"#)).expect("good");
        assert!(known.contains(&("SHOPTALK_NATS_PASSWORD", r#""a\"b\\c $d""#.to_owned())), "{known:?}");
        assert!(known.contains(&("COMMERCE_NATS_PASSWORD", "\"123\"".to_owned())), "{known:?}");
        assert!(variables(&wanted("two\nlines")).is_err());
    }
}
