//! `/auth`: signing up, logging in, staying in, leaving.

use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};

use super::text::Text;
use super::users::UserBody;
use super::{Group, Reply};
use crate::command::Commands;
use crate::command::accounts::{self, LoggedIn};
use crate::domain::user::Role;
use crate::domain::words::{DisplayName, Email, Password};

/// Somebody new.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
struct SignUp {
    /// As others will see you: 1 to 100 characters.
    name: Text,
    /// Your login.
    email: Text,
    /// At least 8 characters.
    password: Text,
    /// `buyer` (the default) or `seller`.
    role: Option<Text>,
}

/// Somebody who has an account.
#[derive(Object)]
struct LogIn {
    /// The address of the account.
    email: Text,
    /// Its password.
    password: Text,
}

/// A refresh token.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
struct Refresh {
    /// From signing up, logging in or the last refresh.
    refresh_token: Text,
}

/// Somebody who is in.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
struct Tokens {
    /// The access token: send it as `Authorization: Bearer ...` and in the socket handshake.
    token: String,
    /// Gets the next tokens, once.
    refresh_token: String,
    /// Seconds the access token is good for.
    expires_in: u32,
    /// The account.
    user: UserBody,
}

impl From<LoggedIn> for Json<Tokens> {
    fn from(entered: LoggedIn) -> Self {
        Self(Tokens {
            token: entered.token,
            refresh_token: entered.refresh_token,
            expires_in: entered.expires_in,
            user: entered.user.into(),
        })
    }
}

#[derive(ApiResponse)]
enum SignedUp {
    /// The account is made, and you are in.
    #[oai(status = 201)]
    Created(Json<Tokens>),
}

#[derive(ApiResponse)]
enum LoggedOut {
    /// The refresh token is no longer good.
    #[oai(status = 204)]
    Done,
}

/// The resource.
pub struct AuthApi;

#[OpenApi(prefix_path = "/auth", tag = "Group::Auth")]
impl AuthApi {
    /// Sign up
    #[oai(path = "/signup", method = "post", operation_id = "signUp")]
    async fn sign_up(&self, commands: Data<&Commands>, body: Json<SignUp>) -> Reply<SignedUp> {
        let SignUp { name, email, password, role } = body.0;
        let new = accounts::SignUp {
            name: DisplayName::new(&name)?,
            email: Email::new(&email)?,
            password: Password::new(&password)?,
            role: role.map_or(Ok(Role::default()), |role| role.parse())?,
        };
        Ok(SignedUp::Created(commands.sign_up(new).await?.into()))
    }

    /// Log in
    #[oai(path = "/login", method = "post", operation_id = "logIn")]
    async fn log_in(&self, commands: Data<&Commands>, body: Json<LogIn>) -> Reply<Json<Tokens>> {
        // What could never be an address or a password is answered like a wrong one.
        let wrong = |_| accounts::wrong_credentials();
        let email = Email::new(&body.email).map_err(wrong)?;
        let password = Password::new(&body.password).map_err(wrong)?;
        Ok(commands.log_in(&email, password).await?.into())
    }

    /// Get new tokens for a refresh token
    ///
    /// Each refresh token works once; the reply brings the next one.
    #[oai(path = "/refresh", method = "post", operation_id = "refresh")]
    async fn refresh(&self, commands: Data<&Commands>, body: Json<Refresh>) -> Reply<Json<Tokens>> {
        Ok(commands.refresh(&body.refresh_token).await?.into())
    }

    /// Log out
    ///
    /// Ends the login that the refresh token belongs to. The access token runs out by itself.
    #[oai(path = "/logout", method = "post", operation_id = "logOut")]
    async fn log_out(&self, commands: Data<&Commands>, body: Json<Refresh>) -> Reply<LoggedOut> {
        commands.log_out(&body.refresh_token).await?;
        Ok(LoggedOut::Done)
    }
}
