//! How this process says who it is.

use async_nats::{ConnectOptions, ServerAddr};
use percent_encoding::percent_decode_str;

use crate::config::Login;

/// Options with the user of the URL, else with the login.
///
/// The client takes no credentials from a URL by itself, and leaves them as the URL spells them.
pub(super) fn options(address: &ServerAddr, login: Option<&Login>) -> ConnectOptions {
    match (address.username(), address.password(), login) {
        (Some(user), Some(password), _) => ConnectOptions::with_user_and_password(decoded(user), decoded(password)),
        (Some(token), None, _) => ConnectOptions::with_token(decoded(token)),
        (None, _, Some(Login::Password { user, password })) => {
            ConnectOptions::with_user_and_password(user.clone(), password.clone())
        }
        (None, _, Some(Login::Key { seed })) => ConnectOptions::with_nkey(seed.clone()),
        (None, _, None) => ConnectOptions::new(),
    }
}

fn decoded(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_cannot_spell_is_decoded() {
        let address: ServerAddr = "nats://shop%40talk:p%2Fs%20w@127.0.0.1:4222".parse().expect("an address");
        assert_eq!(address.username().map(decoded).as_deref(), Some("shop@talk"));
        assert_eq!(address.password().map(decoded).as_deref(), Some("p/s w"));
    }
}
