//! People who use the REST API.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::socket::Socket;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// The API of one instance.
#[derive(Debug, Clone)]
pub struct Rest {
    pub address: SocketAddr,
    client: reqwest::Client,
}

/// Somebody with an account and a token.
#[derive(Debug, Clone)]
pub struct Person {
    pub rest: Rest,
    pub id: String,
    pub email: String,
    pub token: String,
    pub refresh_token: String,
}

/// The password of everybody.
pub const PASSWORD: &str = "correct horse battery";

/// A client of HTTP. It wants to know who would do TLS, though nothing here does any.
pub fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

impl Rest {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, client: http() }
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    /// A JSON body to a path: status and JSON reply.
    pub async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> (u16, Value) {
        let mut request = self.request(Method::POST, path).json(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        reply(request.send().await.expect("an answer")).await
    }

    pub async fn get(&self, path: &str, token: Option<&str>) -> (u16, Value) {
        let mut request = self.request(Method::GET, path);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        reply(request.send().await.expect("an answer")).await
    }

    pub async fn sign_up(&self, name: &str) -> Person {
        let email = format!("{}-{}@example.test", name.to_lowercase(), NEXT.fetch_add(1, Ordering::Relaxed));
        let body = json!({ "name": name, "email": email, "password": PASSWORD });
        let (status, entered) = self.post("/api/auth/signup", None, &body).await;
        assert_eq!(status, 201, "{entered}");
        let text = |pointer: &str| entered.pointer(pointer).and_then(Value::as_str).expect(pointer).to_owned();
        Person {
            rest: self.clone(),
            id: text("/user/id"),
            email,
            token: text("/token"),
            refresh_token: text("/refreshToken"),
        }
    }
}

/// The status and the JSON of a reply; an empty body is null.
pub async fn reply(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let body = response.bytes().await.expect("a whole reply");
    let json = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&body).unwrap_or_else(|_| panic!("JSON expected: {}", String::from_utf8_lossy(&body)))
    };
    (status, json)
}

impl Person {
    /// The same person at another instance.
    pub fn at(&self, address: SocketAddr) -> Self {
        Self { rest: Rest::new(address), ..self.clone() }
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.rest.post(path, Some(&self.token), body).await
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.rest.get(path, Some(&self.token)).await
    }

    /// A request of another kind, with a body if there is one.
    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let mut request = self.rest.request(method, path).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        reply(request.send().await.expect("an answer")).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> (u16, Value) {
        self.ask(Method::PATCH, path, Some(body)).await
    }

    pub async fn put(&self, path: &str) -> (u16, Value) {
        self.ask(Method::PUT, path, None).await
    }

    pub async fn delete(&self, path: &str) -> (u16, Value) {
        self.ask(Method::DELETE, path, None).await
    }

    /// Opens a conversation with others.
    pub async fn open(&self, others: &[&Person]) -> String {
        let ids: Vec<&str> = others.iter().map(|other| other.id.as_str()).collect();
        let (status, opened) = self.post("/api/conversations", &json!({ "participants": ids })).await;
        assert!(status == 200 || status == 201, "{opened}");
        opened["id"].as_str().expect("an id").to_owned()
    }

    /// Sends a message over REST; returns its id.
    pub async fn say(&self, conversation: &str, text: &str) -> Value {
        let (status, sent) = self.post("/api/messages", &super::world::message(conversation, text)).await;
        assert_eq!(status, 201, "{sent}");
        sent
    }

    /// Opens a plain WebSocket and resumes.
    pub async fn resume(&self, cursor: &str) -> Socket {
        Socket::resume(self.rest.address, Some(&self.token), Some(cursor)).await.expect("a socket")
    }

    /// Opens a plain WebSocket with the token in the header.
    pub async fn socket(&self) -> Socket {
        Socket::connect(self.rest.address, Some(&self.token)).await.expect("a socket")
    }
}
