//! What an operator does with accounts: make somebody a support agent.

use crate::config::Config;
use crate::domain::user::{Role, User};
use crate::domain::words::Email;
use crate::error::{Code, Error, Result};
use crate::store::Store;

/// The account of an address, made something else to the shop if a role is given. Tokens that are out say what it was; the
/// next one says what it is.
pub async fn role(config: &Config, email: &Email, role: Option<Role>) -> Result<User> {
    let store = Store::connect(&config.store).await?;
    let nobody = || Error::new(Code::NotFound, "unknown_user", "there is no account with this address");
    let (mut user, _) = store.user_by_email(email).await?.ok_or_else(nobody)?;
    if let Some(role) = role {
        store.set_role(user.id, role).await?;
        user.role = role;
    }
    Ok(user)
}
