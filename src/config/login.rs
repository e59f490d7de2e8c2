//! Who logs in at the broker.

use std::fmt;

use super::Reader;

/// A way to log in.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// By name.
    Password {
        /// The user.
        user: String,
        /// Their password.
        password: String,
    },
    /// By signing with a key, of which the broker knows the public half.
    Key {
        /// The secret half.
        seed: String,
    },
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Password { .. }",
            Self::Key { .. } => "Key { .. }",
        })
    }
}

impl Reader<'_> {
    /// A seed before a password; neither is no log-in.
    pub(super) fn login(&mut self) -> Option<Login> {
        let seed = self.text("SHOPTALK_NATS_SEED").trim().to_owned();
        if !seed.is_empty() {
            // A secret, so it is not repeated.
            if !seed.starts_with("SU") {
                self.fault("SHOPTALK_NATS_SEED", "must be the seed of a user's key pair and begin with SU");
            }
            return Some(Login::Key { seed });
        }
        let password = self.text("SHOPTALK_NATS_PASSWORD");
        (!password.is_empty()).then(|| Login::Password { user: self.text("SHOPTALK_NATS_USER"), password })
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Login, Source};

    fn login(pairs: &[(&str, &str)]) -> crate::error::Result<Option<Login>> {
        let needed = [
            ("NATS_URL", "nats://127.0.0.1"),
            ("MONGODB_URI", "mongodb://127.0.0.1"),
            ("JWT_SECRET", "a secret of thirty-two characters"),
        ];
        let pairs = needed.iter().chain(pairs).map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Config::read(&Source::from_pairs(pairs)).map(|config| config.broker.login)
    }

    #[test]
    fn a_password_is_enough_and_a_seed_goes_before_it() {
        assert_eq!(login(&[]).expect("good"), None);
        assert_eq!(login(&[("SHOPTALK_NATS_USER", "app")]).expect("good"), None);
        let named = login(&[("SHOPTALK_NATS_PASSWORD", "hunter2")]).expect("good").expect("a login");
        assert_eq!(named, Login::Password { user: "shoptalk".into(), password: "hunter2".into() });
        assert!(!format!("{named:?}").contains("hunter2"));
        let keyed = login(&[("SHOPTALK_NATS_PASSWORD", "hunter2"), ("SHOPTALK_NATS_SEED", "SUAX")]).expect("good");
        assert_eq!(keyed, Some(Login::Key { seed: "SUAX".into() }));
    }

    #[test]
    fn a_seed_of_something_else_is_refused_and_not_repeated() {
        let error = login(&[("SHOPTALK_NATS_SEED", "SAAsecret")]).expect_err("the seed of an account");
        assert!(error.shown().contains("SHOPTALK_NATS_SEED"), "{}", error.shown());
        assert!(!error.shown().contains("secret"), "{}", error.shown());
    }
}
