//! What is answered has the shape that the specification says: a client that was generated from it can read every reply.

use jsonschema::Validator;
use reqwest::Method;
use serde_json::{Map, Value, json};
use shoptalk::contracts;

use super::{id, path, samples, sent, uploaded};
use crate::support::client::{PASSWORD, Person};
use crate::support::messages::{pin, react, shown};
use crate::support::until;
use crate::support::world::World;

/// The specification, read as strictly as a generated client could: what it does not name may not come.
struct Specification(Value);

/// Says in the words of JSON Schema what OpenAPI 3.0 has words of its own for, and that nothing else may come.
fn strict(schema: &mut Value) {
    match schema {
        Value::Array(all) => all.iter_mut().for_each(strict),
        Value::Object(fields) => {
            fields.values_mut().for_each(strict);
            if fields.get("properties").is_some_and(Value::is_object) && fields.get("type") == Some(&json!("object")) {
                fields.entry("additionalProperties").or_insert(json!(false));
            }
            if fields.get("nullable") == Some(&json!(true)) {
                let kind = fields["type"].clone();
                fields.insert("type".into(), json!([kind, "null"]));
            }
        }
        _ => {}
    }
}

impl Specification {
    fn read() -> Self {
        let [(_, text), _] = contracts::wanted().expect("contracts");
        let mut document = serde_json::from_str(&text).expect("JSON");
        strict(&mut document);
        Self(document)
    }

    fn schema(&self, name: &str) -> &Value {
        &self.0["components"]["schemas"][name]
    }

    fn validator(&self, schema: &Value) -> Validator {
        let mut schema = schema.clone();
        schema["components"] = self.0["components"].clone();
        jsonschema::draft202012::new(&schema).expect("a schema")
    }

    /// What is wrong with a reply; an operation is named by its method and its path.
    fn faults(&self, operation: &str, status: &str, reply: &Value) -> Vec<String> {
        let (method, path) = operation.split_once(' ').expect("a method and a path");
        let responses = &self.0["paths"][path][method.to_lowercase()]["responses"];
        let content = responses[status]["content"].as_object().unwrap_or_else(|| panic!("{operation} has no {status}"));
        let schema = &content.values().next().expect("one kind of content")["schema"];
        self.validator(schema).iter_errors(reply).map(|fault| format!("{}: {fault}", fault.instance_path())).collect()
    }

    fn check(&self, operation: &str, (status, reply): &(u16, Value)) {
        let faults = self.faults(operation, &status.to_string(), reply);
        assert!(faults.is_empty(), "{operation}: {faults:#?} in {reply:#}");
    }

    /// Asks and checks the answer, which is given back.
    async fn get(&self, person: &Person, route: &str, path: &str) -> Value {
        let answer = person.get(&format!("/api{path}")).await;
        self.check(&format!("GET {route}"), &answer);
        answer.1
    }

    async fn post(&self, person: &Person, route: &str, path: &str, body: &Value) -> Value {
        let answer = person.post(&format!("/api{path}"), body).await;
        self.check(&format!("POST {route}"), &answer);
        answer.1
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_and_their_attachments_are_answered_as_the_specification_says() {
    let world = World::start().await;
    let specification = Specification::read();
    let (ana, ben, place) = world.pair().await;

    // A message with nothing that a message may have, and what is told of it.
    let bare = specification.post(&ana, "/messages", "/messages", &super::with(&place, "plain", &[])).await;
    for absent in ["attachments", "mentions", "reactions"] {
        assert_eq!(bare.get(absent), None, "{bare}");
    }
    let message = "/conversations/{id}/messages/{message_id}";
    let at = |message: &Value| format!("/conversations/{place}/messages/{}", id(message));
    specification.get(&ben, message, &at(&bare)).await;

    // Of a document nothing more is found out, of a picture it is.
    let invoice = uploaded(&ana, "invoice.pdf", &samples::pdf()).await;
    specification.check("POST /attachments", &(201, invoice.clone()));
    assert_eq!(invoice.get("thumbnails"), None, "{invoice}");
    let photo = uploaded(&ana, "photo.png", &samples::png(1400, 700)).await;
    specification.check("POST /attachments", &(201, photo.clone()));
    let info = format!("{}/info", path(&photo));
    let ready = until("a preview", async || ana.get(&info).await, |(_, photo)| photo["preview"] == "ready").await;
    specification.check("GET /attachments/{id}/info", &ready);
    assert_eq!(ready.1["thumbnails"].as_array().map(Vec::len), Some(2), "{}", ready.1);
    let short = path(&photo).replace("/api", "");
    specification.get(&ana, "/attachments/{id}/link", &format!("{short}/link?thumbnail=320")).await;

    let mut full = super::with(&place, "look", &[&invoice, &photo]);
    full["mentions"] = json!([ben.id]);
    full["replyTo"] = bare["id"].clone();
    full["clientMessageId"] = json!("once");
    let full = specification.post(&ana, "/messages", "/messages", &full).await;
    assert_eq!(react(&ben, Method::PUT, &place, &full["id"], "👍").await.0, 200);
    assert!(pin(&ben, Method::PUT, &place, &full["id"]).await.0 == 200);
    let shown = specification.get(&ben, message, &at(&full)).await;
    assert_eq!((shown["attachments"].as_array().map(Vec::len), &shown["pinnedAt"].is_string()), (Some(2), &true));

    world.history(&ben, &place, 2).await;
    specification.get(&ben, "/messages/{conversation_id}", &format!("/messages/{place}")).await;
    specification.get(&ben, "/conversations/{id}/pins", &format!("/conversations/{place}/pins")).await;
    let trace = format!("/messages/{place}/{}/trace", id(&full));
    specification.get(&ana, "/messages/{conversation_id}/{message_id}/trace", &trace).await;

    // Brought to the store by itself.
    let film = json!({ "name": "film.mp4", "size": 5, "sha256": "0".repeat(64) });
    let ticket = specification.post(&ana, "/attachments/presign", "/attachments/presign", &film).await;
    let announced = path(&ticket["attachment"]).replace("/api", "");
    specification.get(&ana, "/attachments/{id}/info", &format!("{announced}/info")).await;

    // A failure has the shape of failures.
    let (status, problem) = ben.get(&format!("/api{announced}/info")).await;
    assert_eq!(status, 404);
    let faults = specification.faults("GET /attachments/{id}/info", "default", &problem);
    assert!(faults.is_empty(), "{faults:#?} in {problem:#}");

    // The specification can be contradicted.
    for wrong in [json!({ "id": null }), json!({ "unheardOf": 1 }), json!({ "text": 1 })] {
        let mut changed: Map<String, Value> = shown.as_object().expect("a message").clone();
        changed.extend(wrong.as_object().expect("fields").clone());
        let faults = specification.faults(&format!("GET {message}"), "200", &changed.into());
        assert_eq!(faults.len(), 1, "{wrong}: {faults:?}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_pages_are_answered_as_the_specification_says() {
    let world = World::start().await;
    let specification = Specification::read();
    let (ana, ben, place) = world.pair().await;
    let cleo = world.person("Cleo").await;
    let login = world.rest.post("/api/auth/login", None, &json!({ "email": ana.email, "password": PASSWORD })).await;
    specification.check("POST /auth/login", &login);
    specification.get(&ana, "/users/me", "/users/me").await;
    specification.get(&ana, "/users/me/preferences", "/users/me/preferences").await;
    specification.get(&ana, "/presence", &format!("/presence?userIds={},{}", ana.id, ben.id)).await;

    // A group, with notes of who came and who went.
    let group = json!({ "kind": "group", "title": "Parcels", "participants": [ben.id, cleo.id] });
    let group = specification.post(&ana, "/conversations", "/conversations", &group).await;
    let group = id(&group).to_owned();
    let members = format!("/api/conversations/{group}/participants");
    assert_eq!(ana.delete(&format!("{members}/{}", cleo.id)).await.0, 204);
    let added = ana.post(&members, &json!({ "userIds": [cleo.id] })).await;
    specification.check("POST /conversations/{id}/participants", &added);
    assert_eq!(cleo.delete(&format!("{members}/{}", cleo.id)).await.0, 204);
    let notes = world.history(&ana, &group, 3).await;
    assert!(notes.iter().any(|note| note["entry"]["users"].is_array()), "{notes:#?}");
    assert!(notes.iter().any(|note| note["entry"]["type"] == "left"), "{notes:#?}");
    specification.get(&ana, "/messages/{conversation_id}", &format!("/messages/{group}")).await;

    let attached = uploaded(&ana, "invoice.pdf", &samples::pdf()).await;
    let message = sent(&ana, &place, "", &[&attached]).await;
    assert_eq!(shown(&ben, &place, &message["id"]).await["kind"], "attachment");
    specification.get(&ben, "/conversations/{id}", &format!("/conversations/{place}")).await;
    specification.get(&ben, "/conversations", "/conversations").await;
    specification.get(&ben, "/conversations/unread", "/conversations/unread").await;
    let told = async || ben.get("/api/notifications").await;
    let told =
        until("a notification", told, |(_, page)| page["items"].as_array().is_some_and(|all| !all.is_empty())).await;
    specification.check("GET /notifications", &told);
    specification.get(&ben, "/notifications/unread-count", "/notifications/unread-count").await;
    let decision = format!("/notifications/{}/decision", id(&told.1["items"][0]));
    specification.get(&ben, "/notifications/{id}/decision", &decision).await;
    let read = format!("/conversations/{place}/read");
    specification.post(&ben, "/conversations/{id}/read", &read, &json!({ "upTo": message["id"] })).await;

    let fresh = specification.get(&ben, "/sync", "/sync").await;
    sent(&ana, &place, "and more", &[]).await;
    let page = format!("/sync?cursor={}", fresh["cursor"].as_str().expect("a cursor"));
    let page = specification.get(&ben, "/sync", &page).await;
    assert_eq!(page["recovered"], true, "{page}");
    world.stop().await;
}

#[test]
fn what_attachments_are_asked_with_and_answered_with_is_in_the_specification() {
    let specification = Specification::read();
    for name in ["Attachment", "NewUpload", "Upload", "Link"] {
        let schema = specification.schema(name);
        let faults: Vec<_> =
            specification.validator(schema).iter_errors(&schema["example"]).map(|one| one.to_string()).collect();
        assert!(schema["example"].is_object() && faults.is_empty(), "{name}: {faults:?}");
    }
    let words = |name: &str| specification.schema(name)["enum"].clone();
    assert_eq!(words("AttachmentState"), json!(["uploading", "scanning", "ready", "infected"]));
    assert_eq!(words("AttachmentPreview"), json!(["none", "pending", "ready"]));
    assert_eq!(specification.schema("NewUpload")["required"], json!(["name", "size", "sha256"]));
    let paths = &specification.0["paths"];
    for path in ["/attachments/{id}", "/attachments/{id}/thumbnail"] {
        let operation = &paths[path]["get"];
        let parameters: Vec<_> = operation["parameters"].as_array().into_iter().flatten().collect();
        for header in ["Range", "If-Range", "If-None-Match"] {
            let named = |one: &&Value| one["name"] == header && one["in"] == "header" && one["required"] == false;
            assert!(parameters.iter().any(named), "{path} lacks {header}");
        }
        for (status, headers) in [
            ("200", &["ETag", "Content-Length", "Accept-Ranges", "Content-Disposition"][..]),
            ("206", &["ETag", "Content-Length", "Accept-Ranges", "Content-Disposition", "Content-Range"]),
        ] {
            let response = &operation["responses"][status];
            assert!(response["content"]["*/*"].is_object(), "{path} {status}");
            for header in headers {
                assert!(response["headers"][header].is_object(), "{path} {status} lacks {header}");
            }
        }
    }
}
