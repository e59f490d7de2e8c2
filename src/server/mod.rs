//! HTTP: routes, request ids, limits, headers, CORS, documentation; what an instance says about itself is in `health`.

mod body;
mod health;
pub(crate) mod pace;

use std::sync::Arc;

use poem::endpoint::BoxEndpoint;
use poem::http::header::{self, HeaderName, HeaderValue};
use poem::http::{Method, StatusCode};
use poem::middleware::Cors as CorsMiddleware;
use poem::{Endpoint, EndpointExt as _, IntoResponse as _, Request, Response, Route, get};
use tracing::Instrument as _;
use utoipa_swagger_ui::Config as DocsConfig;

use crate::api;
use crate::blob::Blobs;
use crate::command::Commands;
use crate::config::Cors;
use crate::domain::clock::random_bits;
use crate::domain::ids;
use crate::error::{Code, Error};
use crate::gateway::Gateway;
use crate::gateway::origin;
use crate::gateway::socketio::SocketIoEndpoint;
use crate::gateway::websocket::WebSocketEndpoint;
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::presence::Presences;
use crate::problem;
use crate::query::Queries;
use crate::telemetry::trace_of;

/// Names a request in replies and logs.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Where the specification is.
const SPECIFICATION: &str = "/api/openapi.json";

/// What a server that takes clients serves.
pub struct Front {
    /// Commands for the API.
    pub commands: Commands,
    /// Presence for the API.
    pub presences: Presences,
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// Socket.IO.
    pub socket_io: SocketIoEndpoint,
}

/// The routes of an instance; without a front (a worker) only its health and its metrics.
pub fn routes(
    queries: Queries,
    blobs: Blobs,
    lifecycle: Lifecycle,
    metrics: Metrics,
    cors: &Cors,
    front: Option<Front>,
) -> impl Endpoint<Output = Response> + use<> {
    let largest = queries.largest_upload();
    let mut route = Route::new()
        .at("/healthz", get(health::alive))
        .at("/readyz", get(health::ready))
        .at("/metrics", get(health::measured));
    if let Some(front) = front {
        let api = api::service();
        let specification = api::specification();
        route = route
            .at(
                SPECIFICATION,
                poem::endpoint::make_sync(move |_| {
                    specification.clone().with_content_type("application/json").into_response()
                }),
            )
            .nest("/api", api.data(front.commands).data(front.presences))
            .nest("/docs", Docs(Arc::new(docs_config())))
            .nest_no_strip("/socket.io", front.socket_io)
            .at("/ws", WebSocketEndpoint::new(front.gateway));
    }
    let plain: Arc<BoxEndpoint<'static, Response>> = Arc::new(
        route
            .data(queries)
            .data(blobs)
            .data(lifecycle)
            .data(metrics.clone())
            .catch_all_error(problem::catch_all)
            .map_to_response()
            .boxed(),
    );
    let shared = plain.clone().with(cors_of(cors)).catch_all_error(problem::catch_all).map_to_response();
    Edge { plain, shared, cors: cors.clone(), metrics, largest }
}

fn cors_of(cors: &Cors) -> CorsMiddleware {
    let allowed = cors.clone();
    CorsMiddleware::new()
        .allow_origins_fn(move |origin| allowed.allows(origin))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .expose_headers([
            REQUEST_ID,
            header::RETRY_AFTER,
            header::ACCEPT_RANGES,
            header::CONTENT_DISPOSITION,
            header::CONTENT_RANGE,
            header::ETAG,
        ])
        // Tokens travel in a header or in the handshake, never in a cookie; socket.io clients may still ask for it.
        .allow_credentials(matches!(cors, Cors::Origins(_)))
        .max_age(600)
}

/// The outermost layer: names the request, opens its span, adds the headers that every reply has.
struct Edge<P, S> {
    plain: P,
    shared: S,
    cors: Cors,
    metrics: Metrics,
    /// Bytes of an attachment, at most.
    largest: u64,
}

impl<P, S> Endpoint for Edge<P, S>
where
    P: Endpoint<Output = Response>,
    S: Endpoint<Output = Response>,
{
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let id = request_id(&request);
        let parent = request.header("traceparent");
        let trace = trace_of(parent);
        request.extensions_mut().insert(trace);
        // As it was asked: on its way to a handler a HEAD becomes a GET.
        let asked = request.method().clone();
        request.extensions_mut().insert(asked);
        let path = request.uri().path().to_owned();
        let method = health::method_of(request.method());
        let span = tracing::info_span!(
            "request",
            request.id = %id,
            trace.id = format_args!("{:032x}", trace.trace),
            http.method = %request.method(),
            http.path = %path,
        );
        let answered = async {
            // A page of this server needs no permission; a program sends no origin.
            let own = origin::check(&request, &Cors::SameOrigin).is_ok();
            let left = match body::take(&mut request, self.largest).await {
                Ok(left) => left,
                Err(error) => return problem::response(&error),
            };
            let answered = if own {
                self.plain.call(request).await
            } else if self.cors == Cors::SameOrigin {
                Ok(problem::response(&foreign_origin()))
            } else {
                self.shared.call(request).await
            };
            let response = match answered {
                Ok(response) => response,
                Err(error) => problem::catch_all(error).await,
            };
            left.drain().await;
            tracing::debug!(http.status = response.status().as_u16(), "a request was answered");
            response
        };
        let mut response = answered.instrument(span).await;
        self.metrics.answered(method, health::route_of(&path), response.status().as_u16());
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(&id) {
            headers.insert(REQUEST_ID, id);
        }
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(
            if path.starts_with("/docs") {
                "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
            } else {
                "default-src 'none'; frame-ancestors 'none'"
            },
        ));
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        Ok(response)
    }
}

fn foreign_origin() -> Error {
    Error::new(Code::Forbidden, "foreign_origin", "pages of this origin may not call here (see CORS_ORIGIN)")
}

/// The client's own request id if it is a sane one, else a new one.
fn request_id(request: &Request) -> String {
    let sent = request.header(&REQUEST_ID).filter(|id| {
        (1..=64).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    });
    sent.map_or_else(|| String::from_utf8_lossy(&ids::encode(random_bits())).into_owned(), str::to_owned)
}

fn docs_config() -> DocsConfig<'static> {
    DocsConfig::new([SPECIFICATION]).persist_authorization(true).try_it_out_enabled(true).display_request_duration(true)
}

/// Swagger UI, from files that are compiled in.
struct Docs(Arc<DocsConfig<'static>>);

impl Endpoint for Docs {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        // Its files are named relative to the page, so the page must end in a slash.
        if request.original_uri().path() == "/docs" {
            return Ok(Response::builder()
                .status(StatusCode::PERMANENT_REDIRECT)
                .header(header::LOCATION, "/docs/")
                .finish());
        }
        match utoipa_swagger_ui::serve(request.uri().path().trim_start_matches('/'), self.0.clone()) {
            Ok(Some(file)) => Ok(Response::builder().content_type(&file.content_type).body(file.bytes.into_owned())),
            Ok(None) => Ok(problem::response(&Error::new(Code::NotFound, "no_such_route", "there is nothing here"))),
            Err(error) => Ok(problem::response(&Error::internal(error.to_string()))),
        }
    }
}
