//! What an operator does with accounts: make somebody a support agent, and say by which id the shop knows them.

use crate::config::Config;
use crate::domain::user::{Role, User};
use crate::domain::words::{Email, ExternalId};
use crate::error::{Code, Error, Result};
use crate::store::Store;

/// The account of an address, made something else to the shop if a role is given. Tokens that are out say what it was; the
/// next one says what it is.
pub async fn role(config: &Config, email: &Email, role: Option<Role>) -> Result<User> {
    let store = Store::connect(&config.store).await?;
    let mut user = account(&store, email).await?;
    if let Some(role) = role {
        store.set_role(user.id, role).await?;
        user.role = role;
    }
    Ok(user)
}

/// What the shop calls an account from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum External {
    /// As before.
    Kept,
    /// By this id.
    Is(ExternalId),
    /// By none.
    None,
}

/// The account of an address, after the shop has said what it calls it.
pub async fn external(config: &Config, email: &Email, external: External) -> Result<User> {
    let store = Store::connect(&config.store).await?;
    let mut user = account(&store, email).await?;
    let wanted = match external {
        External::Kept => return Ok(user),
        External::Is(id) => Some(id),
        External::None => None,
    };
    store.set_external_id(user.id, wanted.as_ref()).await?;
    user.external_id = wanted;
    Ok(user)
}

async fn account(store: &Store, email: &Email) -> Result<User> {
    let nobody = || Error::new(Code::NotFound, "unknown_user", "there is no account with this address");
    store.user_by_email(email).await?.map(|(user, _)| user).ok_or_else(nobody)
}
