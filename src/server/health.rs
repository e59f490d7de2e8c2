//! What an instance says about itself: that it lives, whether it wants requests, what it has counted.

use poem::http::{Method, StatusCode};
use poem::web::{Data, Json};
use poem::{IntoResponse as _, Response, handler};
use serde::Serialize;

use crate::blob::Blobs;
use crate::lifecycle::Lifecycle;
use crate::metrics::{CONTENT_TYPE, Metrics};
use crate::problem;
use crate::query::Queries;

/// The process is there.
#[handler]
pub(super) fn alive() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "status": "alive" }))
}

/// What this instance counts, and what it knows of the store by now. It holds no secret and no name, and is served without authentication: whoever puts an
/// instance on the internet keeps this path to themselves.
#[handler]
#[expect(clippy::needless_pass_by_value, reason = "an extractor is handed over")]
pub(super) fn measured(metrics: Data<&Metrics>, blobs: Data<&Blobs>) -> Response {
    metrics.attachments(blobs.answers());
    match metrics.text() {
        Ok(text) => Response::builder().content_type(CONTENT_TYPE).body(text),
        Err(error) => problem::response(&error),
    }
}

/// What an instance needs to serve.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Readiness {
    status: &'static str,
    broker: bool,
    database: bool,
    /// Whether attachments can be stored and read. Everything else goes on without them.
    attachments: &'static str,
    draining: bool,
    /// What somebody should look at, though requests are welcome.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

impl Readiness {
    /// Requests are welcome as long as the broker is there. Without the database live chat goes on; all instances would
    /// miss it at the same time, so that taking them out would end the service and not mend it.
    fn of(broker: bool, database: bool, attachments: &'static str, draining: bool, dead_letters: u64) -> Self {
        let status = match (broker && !draining, database) {
            (true, true) => "ready",
            (true, false) => "degraded",
            (false, _) => "not ready",
        };
        let warnings = if dead_letters > 0 { vec![format!("dead_letters: {dead_letters}")] } else { Vec::new() };
        Self { status, broker, database, attachments, draining, warnings }
    }

    fn code(&self) -> StatusCode {
        if self.broker && !self.draining { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
    }
}

/// Whether requests should be sent here; answered within a second.
#[handler]
pub(super) async fn ready(
    queries: Data<&Queries>,
    blobs: Data<&Blobs>,
    lifecycle: Data<&Lifecycle>,
    metrics: Data<&Metrics>,
) -> Response {
    let (database, draining) = (queries.database_answers().await, lifecycle.is_draining());
    let attachments = if blobs.answers() { "ok" } else { "away" };
    let dead_letters = metrics.dead_letters();
    let body = Readiness::of(queries.broker_answers(), database, attachments, draining, dead_letters);
    let code = body.code();
    Json(body).with_status(code).into_response()
}

/// A method as the metrics name it: a client may make one up.
pub(super) fn method_of(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

/// The kind of route that a path belongs to, without the ids in it: a resource of the API, or what is beside the API.
pub(super) fn route_of(path: &str) -> &'static str {
    const BESIDE: [&str; 6] = ["healthz", "readyz", "metrics", "docs", "socket.io", "ws"];
    const RESOURCES: [&str; 11] = [
        "auth",
        "users",
        "conversations",
        "messages",
        "notifications",
        "attachments",
        "presence",
        "sync",
        "orders",
        "search",
        "openapi.json",
    ];
    let mut parts = path.trim_start_matches('/').split('/');
    let first = parts.next().unwrap_or_default();
    let known = if first == "api" {
        let resource = parts.next().unwrap_or_default();
        RESOURCES.into_iter().find(|known| *known == resource)
    } else {
        BESIDE.into_iter().find(|known| *known == first)
    };
    known.unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_without_a_database_is_not_taken_out() {
        let of = |broker, database, draining| {
            let readiness = Readiness::of(broker, database, "ok", draining, 0);
            (readiness.code().as_u16(), readiness.status)
        };
        assert_eq!(of(true, true, false), (200, "ready"));
        assert_eq!(of(true, false, false), (200, "degraded"));
        assert_eq!(of(false, true, false), (503, "not ready"));
        assert_eq!(of(false, false, false), (503, "not ready"));
        assert_eq!(of(true, true, true), (503, "not ready"));
    }

    #[test]
    fn an_instance_without_its_attachment_store_is_ready() {
        let readiness = Readiness::of(true, true, "away", false, 0);
        assert_eq!((readiness.code(), readiness.status, readiness.attachments), (StatusCode::OK, "ready", "away"));
    }

    #[test]
    fn dead_letters_are_a_warning_and_no_more() {
        let warned = Readiness::of(true, true, "ok", false, 3);
        assert_eq!((warned.code(), warned.warnings), (StatusCode::OK, vec!["dead_letters: 3".to_owned()]));
        let body = serde_json::to_string(&Readiness::of(true, true, "ok", false, 0)).expect("JSON");
        assert!(!body.contains("warnings"), "{body}");
    }

    #[test]
    fn no_id_gets_into_a_label() {
        for (path, route) in [
            ("/api/messages/cnv_0123", "messages"),
            ("/api/conversations/cnv_0123/read", "conversations"),
            ("/api/cnv_0123", "other"),
            ("/docs/", "docs"),
            ("/readyz", "readyz"),
            ("/socket.io/", "socket.io"),
            ("/api", "other"),
            ("/", "other"),
        ] {
            assert_eq!(route_of(path), route, "{path}");
        }
        let specification: serde_json::Value = serde_json::from_str(&crate::api::specification()).expect("JSON");
        for path in specification["paths"].as_object().expect("paths").keys() {
            assert_ne!(route_of(&format!("/api{path}")), "other", "{path} has no word of its own");
        }
        assert_eq!(method_of(&Method::PATCH), "PATCH");
        assert_eq!(method_of(&Method::from_bytes(b"BREW").expect("a method")), "other");
    }
}
