//! The REST API: wire to domain, one call, domain to wire; one file per resource.
//!
//! poem-openapi writes the specification from the code. `openapi/openapi.json` is its committed copy.

mod attachments;
mod auth;
mod changes;
mod composed;
mod conversations;
mod encoded;
mod failure;
mod messages;
mod needed;
mod notifications;
mod orders;
mod participants;
mod place;
mod preferences;
mod presence;
mod receipts;
mod sync;
mod text;
mod trace;
mod users;
mod wire;

use poem::Request;
use poem_openapi::auth::Bearer;
use poem_openapi::{LicenseObject, OpenApiService, SecurityScheme, Tags};

use crate::auth::Actor;
use crate::auth::token::missing;
use crate::command::Commands;
use crate::domain::trace::TraceContext;
use failure::Failure;

/// What a handler returns.
type Reply<T> = Result<T, Failure>;

/// The groups of the specification.
#[derive(Tags)]
enum Group {
    /// Signing up, logging in, staying in, leaving.
    Auth,
    /// The caller's account.
    Users,
    /// Places messages are in.
    Conversations,
    /// What was said.
    Messages,
    /// What messages bring along beside their words.
    Attachments,
    /// What the caller was told.
    Notifications,
    /// What other services told of orders.
    Orders,
    /// Who is there.
    Presence,
    /// What the caller missed.
    Sync,
}

/// The access token from signing up, logging in or refreshing.
#[derive(SecurityScheme)]
#[oai(
    ty = "bearer",
    bearer_format = "JWT",
    key_name = "Authorization",
    rename = "accessToken",
    checker = "authenticate"
)]
struct Caller(Actor);

#[expect(clippy::unused_async, reason = "the framework awaits a checker")]
async fn authenticate(request: &Request, bearer: Bearer) -> poem::Result<Actor> {
    let known = || {
        let commands = request.data::<Commands>().ok_or_else(missing)?;
        commands.tokens().read(&bearer.token, commands.clock().now())
    };
    known().map_err(crate::problem::into_poem)
}

/// The trace of a request, put there by the server.
fn trace(request: &Request) -> Option<TraceContext> {
    request.data::<TraceContext>().copied()
}

/// All resources.
type Resources = (
    auth::AuthApi,
    users::UsersApi,
    preferences::PreferencesApi,
    presence::PresenceApi,
    conversations::ConversationsApi,
    participants::ParticipantsApi,
    receipts::ReceiptsApi,
    messages::MessagesApi,
    trace::TraceApi,
    changes::ChangesApi,
    attachments::AttachmentsApi,
    notifications::NotificationsApi,
    orders::OrdersApi,
    sync::SyncApi,
);

/// The API, to be served under `/api`.
pub type Api = OpenApiService<Resources, ()>;

/// The API. Its handlers find [`Commands`] and [`Queries`](crate::query::Queries) in the data of the request, so that the
/// specification can be written without a server.
#[must_use]
pub fn service() -> Api {
    let resources = (
        auth::AuthApi,
        users::UsersApi,
        preferences::PreferencesApi,
        presence::PresenceApi,
        conversations::ConversationsApi,
        participants::ParticipantsApi,
        receipts::ReceiptsApi,
        messages::MessagesApi,
        trace::TraceApi,
        changes::ChangesApi,
        attachments::AttachmentsApi,
        notifications::NotificationsApi,
        orders::OrdersApi,
        sync::SyncApi,
    );
    OpenApiService::new(resources, "Shoptalk", env!("CARGO_PKG_VERSION"))
        .description(
            "Real-time chat and notifications for e-commerce. Sign up or log in, press *Authorize* and paste the token. Errors are problem details (RFC 9457) with a stable \
             `code` (one of nine words) and `reason`; sockets show the same members. Live events come over Socket.IO at \
             `/socket.io/` or the plain WebSocket at `/ws`.",
        )
        .license(LicenseObject::new("MIT").url("https://spdx.org/licenses/MIT.html"))
        .server("/api")
}

/// The specification, as `openapi/openapi.json` keeps it.
#[must_use]
pub fn specification() -> String {
    let mut text = service().spec();
    text.push('\n');
    text
}
