//! Attachments, as people bring them, send them and get them.

mod access;
mod claims;
mod contract;
mod hostile;
mod limits;
mod outage;
mod presign;
mod previews;
mod ranges;
mod roundtrip;
#[path = "../../../src/inspect/samples.rs"]
#[expect(dead_code, reason = "shared with the tests of what looks at bytes")]
mod samples;
mod scanner;
mod sweep;

use std::path::{Path, PathBuf};

use mongodb::bson::{Document, doc};
use reqwest::header::HeaderMap;
use reqwest::multipart::{Form, Part};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use shoptalk::blob::OWNER;

use crate::drills::evidence::database;
use crate::support::client::{Person, reply};
use crate::support::servers::scratch;
use crate::support::world::World;

/// A file as a part of a form, as browsers write it.
fn part(name: &str, media_type: Option<&str>, bytes: &[u8]) -> Part {
    let part = Part::bytes(bytes.to_vec()).file_name(name.to_owned());
    match media_type {
        None => part,
        Some(media_type) => part.mime_str(media_type).expect("a media type"),
    }
}

fn form() -> Form {
    Form::new().percent_encode_noop()
}

/// Brings a file; status and reply.
async fn upload(person: &Person, name: &str, media_type: Option<&str>, bytes: &[u8]) -> (u16, Value) {
    let form = form().part("file", part(name, media_type, bytes));
    let request = person.rest.request(Method::POST, "/api/attachments").bearer_auth(&person.token).multipart(form);
    reply(request.send().await.expect("an answer")).await
}

/// Brings a file that is taken; the attachment.
async fn uploaded(person: &Person, name: &str, bytes: &[u8]) -> Value {
    let (status, attachment) = upload(person, name, None, bytes).await;
    assert_eq!(status, 201, "{name}: {attachment}");
    attachment
}

/// The id of an attachment or a message.
fn id(record: &Value) -> &str {
    record["id"].as_str().expect("an id")
}

/// A message with attachments, as a client writes it.
fn with(conversation: &str, text: &str, attachments: &[&Value]) -> Value {
    let attached: Vec<Value> = attachments.iter().map(|one| json!({ "id": one["id"] })).collect();
    json!({ "conversationId": conversation, "text": text, "attachments": attached })
}

/// Sends attachments; status and reply.
async fn send(person: &Person, conversation: &str, text: &str, attachments: &[&Value]) -> (u16, Value) {
    person.post("/api/messages", &with(conversation, text, attachments)).await
}

/// Sends attachments; the message.
async fn sent(person: &Person, conversation: &str, text: &str, attachments: &[&Value]) -> Value {
    let (status, message) = send(person, conversation, text, attachments).await;
    assert_eq!(status, 201, "{message}");
    message
}

/// What a server has answered, byte for byte.
#[derive(Debug)]
struct Got {
    status: u16,
    headers: HeaderMap,
    bytes: Vec<u8>,
}

impl Got {
    async fn of(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, bytes: response.bytes().await.expect("a whole reply").to_vec() }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The status and why; no reason if there is none.
    fn reason(&self) -> (u16, String) {
        let problem: Value = serde_json::from_slice(&self.bytes).unwrap_or_default();
        (self.status, problem["reason"].as_str().unwrap_or_default().to_owned())
    }
}

/// What an instance counts.
async fn metrics(world: &World) -> String {
    let got = world.rest.request(Method::GET, "/metrics").send().await.expect("an answer");
    got.text().await.expect("text")
}

/// Where an attachment is.
fn path(attachment: &Value) -> String {
    format!("/api/attachments/{}", id(attachment))
}

/// Gets whatever is there, with these headers besides.
async fn get(person: &Person, path: &str, headers: &[(&str, &str)]) -> Got {
    let mut request = person.rest.request(Method::GET, path).bearer_auth(&person.token);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Got::of(request.send().await.expect("an answer")).await
}

/// The same without a token.
async fn get_bare(person: &Person, path: &str) -> Got {
    Got::of(person.rest.request(Method::GET, path).send().await.expect("an answer")).await
}

/// The bytes of an attachment, which this person may have.
async fn download(person: &Person, attachment: &Value) -> Vec<u8> {
    let got = get(person, &path(attachment), &[]).await;
    assert_eq!(got.status, 200, "{:?}", got.reason());
    got.bytes
}

/// An address of an attachment that needs no token.
async fn link(person: &Person, attachment: &Value) -> String {
    let (status, link) = person.get(&format!("{}/link", path(attachment))).await;
    assert_eq!(status, 200, "{link}");
    link["url"].as_str().expect("an address").to_owned()
}

/// What there is of attachments in a world whose store is a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    /// Keys of objects.
    objects: Vec<String>,
    /// Names of spool files.
    spools: Vec<String>,
    /// Records of attachments.
    attachments: u64,
    /// Records of blobs.
    blobs: u64,
}

impl Kept {
    async fn of(world: &World) -> Self {
        let root = folder(world);
        // Whose store it is does not count.
        let kept = files(&root, &root).into_iter().filter(|name| name != OWNER);
        let (spools, objects) = kept.partition(|name| name.starts_with('.'));
        let database = database(&world.tenant).await;
        let count =
            async |name: &str| database.collection::<Document>(name).count_documents(doc! {}).await.expect("an answer");
        Self { objects, spools, attachments: count("attachments").await, blobs: count("blobs").await }
    }
}

/// The folder with the bytes of attachments.
fn folder(world: &World) -> PathBuf {
    scratch("attachments").join(&world.tenant.database)
}

/// All files below a folder, by their paths from `root`.
fn files(root: &Path, folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(root, &path));
        } else {
            found.push(path.strip_prefix(root).expect("below it").to_string_lossy().into_owned());
        }
    }
    found.sort();
    found
}
