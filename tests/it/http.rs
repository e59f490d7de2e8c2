//! What every reply has, and what is served beside the API.

use reqwest::Method;
use serde_json::{Value, json};
use shoptalk::app::Roles;

use crate::support::client::{Rest, reply};
use crate::support::until;
use crate::support::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn every_reply_is_named_and_guarded() {
    let world = World::start().await;
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/api/users/me", 401), ("/nowhere", 404)] {
        let response =
            world.rest.request(Method::GET, path).header("x-request-id", "mine-1").send().await.expect("a reply");
        assert_eq!(response.status().as_u16(), status, "{path}");
        for (name, value) in
            [("x-request-id", "mine-1"), ("x-content-type-options", "nosniff"), ("x-frame-options", "DENY")]
        {
            assert_eq!(response.headers()[name], value, "{path}");
        }
        assert!(response.headers().contains_key("content-security-policy"));
        if status >= 400 {
            assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
        }
    }
    let response = world.rest.request(Method::GET, "/healthz").header("x-request-id", "no good\u{e9}").send().await;
    let id = response.expect("a reply").headers()["x-request-id"].clone();
    assert_eq!(id.len(), 26, "a new one instead: {id:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_cannot_be_taken_are_problems() {
    let world = World::start().await;
    let post = |body: reqwest::Body, kind: &'static str| {
        world.rest.request(Method::POST, "/api/auth/login").header("content-type", kind).body(body).send()
    };
    let large = vec![b' '; (1 << 20) + 1];
    let chunked = futures_util::stream::iter(
        large.chunks(1 << 16).map(|part| Ok::<_, std::io::Error>(part.to_vec())).collect::<Vec<_>>(),
    );
    for (response, status, reason) in [
        (post("{".into(), "application/json").await, 400, "malformed_request"),
        (post("".into(), "application/json").await, 400, "malformed_request"),
        (post("a=b".into(), "text/plain").await, 415, "unsupported_media_type"),
        (post(large.clone().into(), "application/json").await, 413, "body_too_large"),
        (post(reqwest::Body::wrap_stream(chunked), "application/json").await, 413, "body_too_large"),
        (world.rest.request(Method::DELETE, "/api/auth/login").send().await, 405, "method_not_allowed"),
    ] {
        let (got, problem) = reply(response.expect("a reply")).await;
        assert_eq!(
            (got, &problem["reason"], &problem["status"]),
            (status, &json!(reason), &json!(status)),
            "{problem}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_pages_of_allowed_origins_may_call() {
    let world = World::start().await;
    let asked = |origin: &'static str, method: Method| {
        world
            .rest
            .request(method, "/api/users/me")
            .header("origin", origin)
            .header("access-control-request-method", "GET")
            .header("access-control-request-headers", "authorization")
            .send()
    };
    let allowed = asked("https://shop.example", Method::OPTIONS).await.expect("a reply");
    assert_eq!(allowed.status(), 200);
    assert_eq!(allowed.headers()["access-control-allow-origin"], "https://shop.example");
    let simple = asked("https://shop.example", Method::GET).await.expect("a reply");
    assert_eq!(
        (simple.status().as_u16(), &simple.headers()["access-control-allow-origin"]),
        (401, &"https://shop.example".parse().expect("a value"))
    );
    for method in [Method::OPTIONS, Method::GET] {
        let refused = asked("https://evil.example", method).await.expect("a reply");
        assert!(refused.status().is_client_error());
        assert!(!refused.headers().contains_key("access-control-allow-origin"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_is_served_with_the_specification() {
    let world = World::start().await;
    let page = world.rest.request(Method::GET, "/docs/").send().await.expect("a reply");
    assert_eq!(page.status(), 200);
    assert!(page.text().await.expect("text").contains("swagger-ui"));
    let script = world.rest.request(Method::GET, "/docs/swagger-initializer.js").send().await.expect("a reply");
    assert!(script.text().await.expect("text").contains("/api/openapi.json"));
    let (status, served): (u16, Value) = world.rest.get("/api/openapi.json", None).await;
    let committed: Value = serde_json::from_str(include_str!("../../openapi/openapi.json")).expect("JSON");
    assert_eq!((status, served == committed), (200, true));
    let schemes = &committed["components"]["securitySchemes"]["accessToken"];
    assert_eq!((&schemes["type"], &schemes["scheme"]), (&json!("http"), &json!("bearer")), "what Authorize needs");
}

/// The value of one line of the metrics.
pub async fn metric(rest: &Rest, name: &str) -> Option<f64> {
    let text = rest.request(Method::GET, "/metrics").send().await.expect("a reply").text().await.expect("text");
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_tells_what_it_counts_and_names_nobody() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    for number in 0..3 {
        ana.say(&conversation, &number.to_string()).await;
    }
    world.history(&ben, &conversation, 3).await;
    let count = |name: &'static str| {
        let rest = world.rest.clone();
        move || {
            let rest = rest.clone();
            async move { metric(&rest, name).await.unwrap_or(-1.0) }
        }
    };
    let done = "shoptalk_deliveries_total{consumer=\"persist\",verdict=\"done\"}";
    until("a conversation, three messages, three notifications", count(done), |count| *count >= 7.0).await;
    until("a log with a size", count("shoptalk_log_bytes"), |bytes| *bytes > 0.0).await;
    until("nothing left to do", count("shoptalk_consumer_lag{consumer=\"persist\"}"), |lag| *lag == 0.0).await;
    let sent = "shoptalk_http_requests_total{method=\"POST\",route=\"messages\",status=\"201\"}";
    assert_eq!(metric(&world.rest, sent).await, Some(3.0));
    assert_eq!(metric(&world.rest, "shoptalk_log_limit_bytes").await, Some(16_777_216.0));
    assert!(metric(&world.rest, "shoptalk_batch_seconds_count{consumer=\"persist\"}").await >= Some(1.0));

    let response = world.rest.request(Method::GET, "/metrics").send().await.expect("a reply");
    let kind = response.headers()["content-type"].to_str().expect("text").to_owned();
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    let text = response.text().await.expect("text");
    assert!(text.ends_with("# EOF\n"));
    for part in ["cnv_", "usr_", "msg_", "example.test"] {
        assert!(!text.contains(part), "{part} is in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_a_warning_of_a_worker_too() {
    let world = World::with_roles(Roles { gateway: false, worker: true }).await;
    assert_eq!(world.rest.get("/readyz", None).await.1.get("warnings"), None);
    let log = async_nats::jetstream::new(world.tenant.broker().await);
    let subject = "chat.cnv_00000000000000000000000000.message";
    log.publish(subject, "not json".into()).await.expect("sent").await.expect("stored");
    let (status, body) = until(
        "a warning",
        || world.rest.get("/readyz", None),
        |(_, body): &(u16, Value)| body["warnings"] == json!(["dead_letters: 2"]),
    )
    .await;
    assert_eq!((status, &body["status"]), (200, &json!("ready")), "both durables buried it, and work goes on");
    assert_eq!(metric(&world.rest, "shoptalk_dead_letters").await, Some(2.0));
}
