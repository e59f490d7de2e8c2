//! Accounts: signing up, logging in, staying in, leaving.

use super::Commands;
use crate::auth::token::RefreshToken;
use crate::domain::clock::{Timestamp, random_bits};
use crate::domain::ids::UserId;
use crate::domain::user::{Role, User};
use crate::domain::words::{DisplayName, Email, Password};
use crate::error::{Code, Error, Result};

/// Somebody new.
#[derive(Debug)]
pub struct SignUp {
    /// As others will see them.
    pub name: DisplayName,
    /// Their login.
    pub email: Email,
    /// Their password.
    pub password: Password,
    /// What they are to the shop.
    pub role: Role,
}

/// Somebody who is in.
#[derive(Debug)]
pub struct LoggedIn {
    /// Who.
    pub user: User,
    /// The access token.
    pub token: String,
    /// Gets the next access token, once.
    pub refresh_token: String,
    /// Seconds the access token is good for.
    pub expires_in: u32,
}

impl Commands {
    /// Makes an account and logs in.
    pub async fn sign_up(&self, new: SignUp) -> Result<LoggedIn> {
        if !new.role.open_to_sign_up() {
            return Err(Error::new(Code::Forbidden, "role_not_open", "only buyers and sellers can sign up"));
        }
        let hash = self.passwords.hash(new.password).await?;
        let user = User {
            id: self.clock.fresh_id(),
            name: new.name,
            email: new.email,
            role: new.role,
            created_at: self.clock.now(),
            external_id: None,
            last_seen_at: None,
        };
        self.store.insert_user(&user, hash).await?;
        self.enter(user).await
    }

    /// Logs in. Neither the answer nor its time tells whether the account exists.
    pub async fn log_in(&self, email: &Email, password: Password) -> Result<LoggedIn> {
        let (user, hash) = self.store.user_by_email(email).await?.unzip();
        let right = self.passwords.verify(password, hash).await?;
        match user {
            Some(user) if right => self.enter(user).await,
            _ => Err(wrong_credentials()),
        }
    }

    /// Exchanges a refresh token for new tokens. Each refresh token works once.
    pub async fn refresh(&self, refresh_token: &str) -> Result<LoggedIn> {
        let next = new_refresh_token();
        let now = self.clock.now();
        let old = RefreshToken::sent(refresh_token).hash();
        let user = self.store.rotate_session(&old, &next.hash(), now, self.session_end(now)).await?;
        let refused =
            || Error::new(Code::Unauthenticated, "bad_refresh_token", "the refresh token is not good any more");
        let user = self.store.user(user.ok_or_else(refused)?).await?.ok_or_else(refused)?;
        self.admit(user, next, now)
    }

    /// Ends the login that this refresh token belongs to.
    pub async fn log_out(&self, refresh_token: &str) -> Result<()> {
        self.store.delete_session(&RefreshToken::sent(refresh_token).hash()).await
    }

    async fn enter(&self, user: User) -> Result<LoggedIn> {
        let refresh = new_refresh_token();
        let now = self.clock.now();
        self.store.insert_session(self.clock.fresh_id(), user.id, refresh.hash(), now, self.session_end(now)).await?;
        self.admit(user, refresh, now)
    }

    fn admit(&self, user: User, refresh: RefreshToken, now: Timestamp) -> Result<LoggedIn> {
        let token = self.tokens.issue(&user, now)?;
        Ok(LoggedIn { user, token, refresh_token: refresh.shown(), expires_in: self.tokens.lifetime() })
    }

    fn session_end(&self, now: Timestamp) -> Timestamp {
        now.plus_seconds(i64::from(self.refresh_days) * 86_400)
    }

    /// Refuses ids that name nobody.
    pub(super) async fn require_users(&self, ids: &[UserId]) -> Result<Vec<User>> {
        let users = self.store.users(ids).await?;
        if users.len() == ids.len() {
            Ok(users)
        } else {
            Err(Error::new(Code::NotFound, "unknown_user", "there is no such user"))
        }
    }
}

fn new_refresh_token() -> RefreshToken {
    RefreshToken::new([random_bits(), random_bits()])
}

/// The answer to a wrong address and to a wrong password alike.
#[must_use]
pub fn wrong_credentials() -> Error {
    Error::new(Code::Unauthenticated, "wrong_credentials", "the e-mail address or the password is wrong")
}
