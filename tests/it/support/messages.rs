//! What people do to messages, over REST, and how messages are shown.

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Person, reply};

/// The path of a message.
pub fn path(conversation: &str, id: &Value) -> String {
    format!("/api/conversations/{conversation}/messages/{}", id.as_str().expect("an id"))
}

pub async fn call(person: &Person, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let mut request = person.rest.request(method, path).bearer_auth(&person.token);
    if let Some(body) = &body {
        request = request.json(body);
    }
    reply(request.send().await.expect("an answer")).await
}

pub async fn edit(person: &Person, conversation: &str, id: &Value, text: &str) -> (u16, Value) {
    call(person, Method::PATCH, &path(conversation, id), Some(json!({ "text": text }))).await
}

pub async fn delete(person: &Person, conversation: &str, id: &Value, scope: &str) -> (u16, Value) {
    call(person, Method::DELETE, &format!("{}?scope={scope}", path(conversation, id)), None).await
}

pub async fn react(person: &Person, method: Method, conversation: &str, id: &Value, emoji: &str) -> (u16, Value) {
    call(person, method, &format!("{}/reactions/{emoji}", path(conversation, id)), None).await
}

pub async fn pin(person: &Person, method: Method, conversation: &str, id: &Value) -> (u16, Value) {
    call(person, method, &format!("{}/pin", path(conversation, id)), None).await
}

/// What there is to say about a change on a socket.
pub fn change(conversation: &str, id: &Value, more: Value) -> Value {
    let mut data = json!({ "conversationId": conversation, "messageId": id });
    if let Value::Object(fields) = more {
        for (key, value) in fields {
            data[key] = value;
        }
    }
    data
}

/// A message as a reading shows it.
pub async fn shown(person: &Person, conversation: &str, id: &Value) -> Value {
    let (status, found) = person.get(&path(conversation, id)).await;
    assert_eq!(status, 200, "{found}");
    found
}

pub async fn page(person: &Person, conversation: &str, query: &str) -> Value {
    let (status, page) = person.get(&format!("/api/messages/{conversation}{query}")).await;
    assert_eq!(status, 200, "{page}");
    page
}

pub fn texts(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().expect("a page");
    items.iter().map(|one| one["text"].as_str().expect("a text").to_owned()).collect()
}
