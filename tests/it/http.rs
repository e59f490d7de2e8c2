//! What every reply has, and what is served beside the API.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::reply;
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
