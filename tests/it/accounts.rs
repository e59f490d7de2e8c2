//! Accounts: signing up, logging in, staying in, leaving.

use serde_json::json;

use crate::support::client::PASSWORD;
use crate::support::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_made_once_per_address_however_it_is_spelled() {
    let world = World::start().await;
    let ana = world.person("Ana").await;
    let again = json!({ "name": "Other", "email": format!("  {}", ana.email.to_uppercase()), "password": PASSWORD });
    let (status, refused) = world.rest.post("/api/auth/signup", None, &again).await;
    assert_eq!((status, &refused["reason"]), (409, &json!("email_taken")));

    let login = json!({ "email": ana.email.to_uppercase(), "password": PASSWORD });
    let (status, entered) = world.rest.post("/api/auth/login", None, &login).await;
    assert_eq!((status, &entered["user"]["id"]), (200, &json!(ana.id)));
    let (status, me) = ana.get("/api/users/me").await;
    assert_eq!((status, &me["name"], &me["role"]), (200, &json!("Ana"), &json!("buyer")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_does_not_tell_whether_the_user_exists() {
    let world = World::start().await;
    let ana = world.person("Ana").await;
    let mut answers = Vec::new();
    for (email, password) in [
        (ana.email.as_str(), "the wrong password"),
        ("nobody@example.test", PASSWORD),
        ("no address", PASSWORD),
        (ana.email.as_str(), "short"),
    ] {
        let login = json!({ "email": email, "password": password });
        answers.push(world.rest.post("/api/auth/login", None, &login).await);
    }
    assert_eq!(answers[0].0, 401);
    assert_eq!(answers[0].1["reason"], "wrong_credentials");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_works_once_and_not_after_leaving() {
    let world = World::start().await;
    let ana = world.person("Ana").await;
    let refresh = |token: &str| json!({ "refreshToken": token });
    let (status, renewed) = world.rest.post("/api/auth/refresh", None, &refresh(&ana.refresh_token)).await;
    assert_eq!((status, &renewed["user"]["id"]), (200, &json!(ana.id)));
    let (status, refused) = world.rest.post("/api/auth/refresh", None, &refresh(&ana.refresh_token)).await;
    assert_eq!((status, &refused["reason"]), (401, &json!("bad_refresh_token")));

    let next = renewed["refreshToken"].as_str().expect("the next one");
    let (status, me) = world.rest.get("/api/users/me", renewed["token"].as_str()).await;
    assert_eq!((status, &me["id"]), (200, &json!(ana.id)));
    let (status, _) = world.rest.post("/api/auth/logout", None, &refresh(next)).await;
    assert_eq!(status, 204);
    let (status, _) = world.rest.post("/api/auth/refresh", None, &refresh(next)).await;
    assert_eq!(status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_an_account_is_refused_by_name() {
    let world = World::start().await;
    let good = json!({ "name": "Ana", "email": "ana@example.test", "password": PASSWORD });
    for (field, value, status, reason) in [
        ("name", json!(" "), 400, "malformed_name"),
        ("name", json!("a\u{0}b"), 400, "malformed_name"),
        ("email", json!("ana"), 400, "malformed_email"),
        ("password", json!("short"), 400, "malformed_password"),
        ("password", json!("x".repeat(2_000)), 400, "malformed_password"),
        ("role", json!("king"), 400, "unknown_role"),
        ("role", json!("admin"), 403, "role_not_open"),
        ("name", json!({}), 400, "malformed_request"),
    ] {
        let mut body = good.clone();
        body[field] = value;
        let (got, refused) = world.rest.post("/api/auth/signup", None, &body).await;
        assert_eq!((got, &refused["reason"]), (status, &json!(reason)), "{body}");
    }
}
