//! What people bring who mean harm: it is refused with a stable reason, and nothing of it is left.

use std::net::SocketAddr;

use reqwest::Method;
use serde_json::{Value, json};
use shoptalk::app::Roles;
use shoptalk::auth::link::{Links, Purpose};
use shoptalk::domain::clock::Clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::samples::{self, office, png_chunk};
use super::{Kept, form, get_bare, id, link, part, path, send, sent, upload, uploaded, with};
use crate::support::client::{Person, reply};
use crate::support::until;
use crate::support::world::{SECRET, World};

/// Bytes of one attachment, at most, in these tests.
const LIMIT: usize = 2 << 20;

async fn world() -> World {
    World::with(Roles::ALL, &[("ATTACHMENT_MAX_BYTES", &LIMIT.to_string()), ("USER_SENDS_PER_SECOND", "1000")]).await
}

fn reason(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["reason"].as_str().unwrap_or_default())
}

fn refusal(status: u16, reason: &str) -> (u16, String) {
    (status, reason.to_owned())
}

/// A PNG of these measures: a good header, and next to nothing behind it.
fn png_of(width: u32, height: u32) -> Vec<u8> {
    let measures = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let header = png_chunk(b"IHDR", &[measures.as_slice(), &[8, 2, 0, 0, 0]].concat());
    // An empty stream of zlib.
    let pixels = png_chunk(b"IDAT", &[0x78, 0x9c, 0x03, 0, 0, 0, 0, 1]);
    [b"\x89PNG\r\n\x1a\n".as_slice(), &header, &pixels, &png_chunk(b"IEND", b"")].concat()
}

/// A document whose directory says that every part of it becomes this large.
fn bomb(unpacked: u32) -> Vec<u8> {
    let mut document = office("word", &[]);
    let entries: Vec<usize> =
        document.windows(4).enumerate().filter(|(_, four)| *four == b"PK\x01\x02").map(|(at, _)| at).collect();
    for entry in entries {
        document[entry + 24..][..4].copy_from_slice(&unpacked.to_le_bytes());
    }
    document
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_what_it_says_is_refused_and_nothing_is_left_of_it() {
    let world = world().await;
    let (ana, _, place) = world.pair().await;
    let before = Kept::of(&world).await;
    let zip = samples::zipped(&[("a.html", b"<script>alert(1)</script>")]);
    let both = |bytes: Vec<u8>| [bytes, zip.clone()].concat();
    let program = [b"MZ\x90\0".as_slice(), &[0; 200]].concat();
    let (jpeg, text) = (samples::jpeg(40, 30), b"hello\n".to_vec());
    for (what, name, media_type, bytes, status, wanted) in [
        // Wrong magic.
        ("a program that says it is a picture", "a.png", Some("image/png"), program.clone(), 400, "type_not_allowed"),
        ("a program", "a", None, program, 400, "type_not_allowed"),
        ("an invoice with a photo's name", "a.png", Some("image/png"), samples::pdf(), 400, "type_mismatch"),
        ("a text of a photo's type", "a.txt", Some("image/png"), text.clone(), 400, "type_mismatch"),
        ("a photo of another type", "a.jpg", Some("application/pdf"), jpeg.clone(), 400, "type_mismatch"),
        ("an archive", "a.zip", Some("application/zip"), zip.clone(), 400, "type_not_allowed"),
        // Polyglots.
        ("a photo that is an archive", "a.jpg", Some("image/jpeg"), both(jpeg.clone()), 400, "ambiguous_content"),
        ("a drawing that is an archive", "a.png", None, both(samples::png(4, 4)), 400, "ambiguous_content"),
        ("an invoice that is an archive", "a.pdf", None, both(samples::pdf()), 400, "ambiguous_content"),
        // Bombs.
        ("a document that grows 200 times", "a.docx", None, bomb(1_000_000), 400, "archive_too_large"),
        ("a document that grows beyond all measure", "a.docx", None, bomb(0x3fff_ffff), 400, "archive_too_large"),
        ("30,000 x 30,000 pixels", "a.png", Some("image/png"), png_of(30_000, 30_000), 400, "image_too_large"),
        ("pixels beyond all numbers", "a.png", None, png_of(0x7fff_ffff, 0x7fff_ffff), 400, "image_too_large"),
        // Path names.
        ("up", "../../etc/cron.d/a.txt", None, text.clone(), 400, "malformed_name"),
        ("from the root", "/etc/cron.d/a.txt", None, text.clone(), 400, "malformed_name"),
        ("up, the other way", "..\\..\\a.txt", None, text.clone(), 400, "malformed_name"),
        ("from a drive", "C:\\a.txt", None, text.clone(), 400, "malformed_name"),
        ("nothing but dots", "..", None, text.clone(), 400, "malformed_name"),
        // Double extensions.
        ("a program behind an invoice", "invoice.pdf.exe", None, samples::pdf(), 400, "unsafe_extension"),
        ("a script behind a photo", "photo.php.jpg", None, jpeg.clone(), 400, "unsafe_extension"),
        ("one turned around", "photo\u{202e}gpj.exe", None, jpeg, 400, "unsafe_extension"),
        // And nothing at all.
        ("nothing", "a.txt", None, Vec::new(), 400, "empty_attachment"),
    ] {
        let refused = upload(&ana, name, media_type, &bytes).await;
        assert_eq!(reason(&refused), (status, wanted), "{what}");
        assert_eq!(Kept::of(&world).await, before, "{what}");
        // Nor does it come in with a message.
        let form = form().text("conversationId", place.clone()).part("attachment", part(name, media_type, &bytes));
        let sent = ana.rest.request(Method::POST, "/api/messages").bearer_auth(&ana.token).multipart(form).send().await;
        assert_eq!(reason(&reply(sent.expect("an answer")).await), (status, wanted), "{what}");
        assert_eq!(Kept::of(&world).await, before, "{what}");
    }
    assert_eq!(world.history(&ana, &place, 0).await, [Value::Null; 0], "nothing was said");
    // As large as it may be, it is taken.
    assert_eq!(upload(&ana, "a.png", None, &png_of(7_000, 7_000)).await.0, 201);
    // A picture under another picture's name is what it is, for everybody.
    let (status, photo) = upload(&ana, "photo.jpg", Some("image/jpeg"), &samples::webp(8, 8)).await;
    assert_eq!((status, &photo["name"], &photo["type"]), (201, &json!("photo.webp"), &json!("image/webp")));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_and_nothing_is_left_of_it() {
    let world = world().await;
    let (ana, _, place) = world.pair().await;
    let before = Kept::of(&world).await;
    let text = |size: usize| vec![b'a'; size];
    // By what it says, and by what comes.
    for size in [2 * LIMIT, LIMIT + 1] {
        assert_eq!(reason(&upload(&ana, "a.txt", None, &text(size)).await), (413, "attachment_too_large"), "{size}");
        assert_eq!(Kept::of(&world).await, before, "{size}");
        let form = form().text("conversationId", place.clone()).part("attachment", part("a.txt", None, &text(size)));
        let sent = ana.rest.request(Method::POST, "/api/messages").bearer_auth(&ana.token).multipart(form).send().await;
        assert_eq!(reason(&reply(sent.expect("an answer")).await), (413, "attachment_too_large"), "{size}");
        assert_eq!(Kept::of(&world).await, before, "{size}");
    }
    let announced = json!({ "name": "a.txt", "size": LIMIT + 1, "sha256": "0".repeat(64) });
    assert_eq!(reason(&ana.post("/api/attachments/presign", &announced).await), (413, "attachment_too_large"));
    assert_eq!(Kept::of(&world).await, before);
    assert_eq!(upload(&ana, "a.txt", None, &text(LIMIT)).await.0, 201, "as much as may be is taken");
    world.stop().await;
}

/// A form with one file, as it is sent.
fn body(bytes: &[u8]) -> Vec<u8> {
    let head = b"--frontier\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\n";
    [head.as_slice(), bytes, b"\r\n--frontier--\r\n"].concat()
}

/// The head of an upload, with these headers besides.
fn head(person: &Person, more: &str) -> Vec<u8> {
    format!(
        "POST /api/attachments HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
         Content-Type: multipart/form-data; boundary=frontier\r\n{more}\r\n",
        person.token,
    )
    .into_bytes()
}

async fn connected(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("a connection")
}

/// Says these bytes, and reads what is answered until the end, if there is an answer: whoever says that no more will come
/// may not get one.
async fn say(address: SocketAddr, bytes: &[u8], no_more: bool) -> Option<(u16, Value)> {
    let mut stream = connected(address).await;
    stream.write_all(bytes).await.expect("it is read");
    if no_more {
        stream.shutdown().await.expect("the end");
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).expect("text");
    let status = answer.split(' ').nth(1)?.parse().expect("a status");
    let (_, json) = answer.split_once("\r\n\r\n").expect("a body");
    Some((status, serde_json::from_str(json).expect("JSON")))
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lies_about_the_length_leaves_nothing() {
    let world = world().await;
    let ana = world.person("Ana").await;
    let address = world.rest.address;
    let before = Kept::of(&world).await;
    let whole = body(b"hello");
    let with_length =
        |length: usize, body: &[u8]| [head(&ana, &format!("Content-Length: {length}\r\n")), body.to_vec()].concat();

    // It is not lengths that are refused.
    let taken = say(address, &with_length(whole.len(), &whole), false).await.expect("an answer");
    assert_eq!(taken.0, 201, "{}", taken.1);
    assert_eq!(ana.delete(&path(&taken.1)).await.0, 204);
    assert_eq!(Kept::of(&world).await, before);

    // None.
    let pieces = [format!("{:x}\r\n", whole.len()).into_bytes(), whole.clone(), b"\r\n0\r\n\r\n".to_vec()].concat();
    let chunked = [head(&ana, "Transfer-Encoding: chunked\r\n"), pieces].concat();
    let refused = say(address, &chunked, false).await.expect("an answer");
    assert_eq!(reason(&refused), (400, "content_length_required"));
    let refused = say(address, &head(&ana, ""), false).await.expect("an answer");
    assert_eq!(reason(&refused), (400, "content_length_required"));
    // Less than there is.
    let refused = say(address, &with_length(whole.len() - 10, &whole), false).await.expect("an answer");
    assert_eq!(reason(&refused), (400, "upload_incomplete"));
    assert_eq!(Kept::of(&world).await, before);
    // More than there is, and that was all.
    let refused = say(address, &with_length(whole.len() + 10, &whole[..whole.len() - 20]), true).await;
    if let Some(refused) = refused {
        assert_eq!(reason(&refused), (400, "upload_incomplete"));
    }
    until("nothing is left", || Kept::of(&world), |kept| *kept == before).await;
    // Far more than there may be: that is not even waited for.
    let refused = say(address, &with_length(usize::MAX >> 1, b""), true).await.expect("an answer");
    assert_eq!(reason(&refused), (413, "attachment_too_large"));
    for odd in ["-1", "5x", "99999999999999999999999"] {
        let headers = head(&ana, &format!("Content-Length: {odd}\r\n"));
        // The protocol itself does not have these.
        let mut stream = connected(address).await;
        stream.write_all(&[headers, whole.clone()].concat()).await.expect("it is read");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 400"), "{odd}");
    }
    assert_eq!(Kept::of(&world).await, before);
    world.stop().await;
}

/// A form of these parts, each a head and a body.
fn raw_form(parts: &[(&str, &str)]) -> Vec<u8> {
    let parts = parts.iter().map(|(head, body)| format!("--frontier\r\n{head}\r\n\r\n{body}\r\n"));
    format!("{}--frontier--\r\n", parts.collect::<String>()).into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_is_none_is_refused_and_nothing_is_left_of_it() {
    let world = world().await;
    let ana = world.person("Ana").await;
    let before = Kept::of(&world).await;
    let file = "Content-Disposition: form-data; name=\"file\"; filename=\"a.txt\"";
    let other = "Content-Disposition: form-data; name=\"other\"; filename=\"a.txt\"";
    let bare = "Content-Disposition: form-data; name=\"file\"";
    let much = "x".repeat(3 << 19);
    let endless = format!("{file}\r\nX-More: {much}");
    for (what, content, wanted) in [
        ("no file", raw_form(&[(other, "hello")]), (400, "missing_field")),
        ("a file without a name", raw_form(&[(bare, "hello")]), (400, "missing_field")),
        ("a part without a head", b"--frontier\r\nhello\r\n--frontier--\r\n".to_vec(), (400, "upload_incomplete")),
        ("no part at all", b"--frontier--\r\n".to_vec(), (400, "missing_field")),
        ("nothing", Vec::new(), (400, "upload_incomplete")),
        ("no form", b"hello".to_vec(), (400, "upload_incomplete")),
        ("no end", raw_form(&[(file, "hello")])[..90].to_vec(), (400, "upload_incomplete")),
        // All of this would be in memory until something comes of it.
        ("a head without end", raw_form(&[(&endless, "hello")]), (413, "body_too_large")),
        ("no beginning", much.as_bytes().to_vec(), (413, "body_too_large")),
        ("much that is not asked for", raw_form(&[(other, &much), (file, "hello")]), (413, "body_too_large")),
    ] {
        let request = [head(&ana, &format!("Content-Length: {}\r\n", content.len())), content].concat();
        let refused = say(world.rest.address, &request, false).await.expect("an answer");
        assert_eq!(reason(&refused), wanted, "{what}: {}", refused.1);
        assert_eq!(Kept::of(&world).await, before, "{what}");
    }
    // Without a boundary, as no form, and by nobody.
    for (kind, token, wanted) in [
        ("multipart/form-data", Some(&ana.token), (400, "malformed_multipart")),
        ("text/plain", Some(&ana.token), (415, "unsupported_media_type")),
        ("multipart/form-data; boundary=frontier", None, (401, "missing_token")),
    ] {
        let request = world.rest.request(Method::POST, "/api/attachments").header("content-type", kind);
        let request = token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
        let refused = request.body(raw_form(&[(file, "hello")])).send().await.expect("an answer");
        assert_eq!(reason(&reply(refused).await), wanted, "{kind}");
    }
    assert_eq!(Kept::of(&world).await, before);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_fills_the_store_with_what_they_never_send() {
    let world = world().await;
    let (ana, ben, place) = world.pair().await;
    let mut all = Vec::new();
    for number in 0..100 {
        all.push(uploaded(&ana, &format!("{number}.txt"), b"the same").await);
    }
    let before = Kept::of(&world).await;
    let announced = json!({ "name": "a.txt", "size": 5, "sha256": "0".repeat(64) });
    let more = async || reason(&upload(&ana, "a.txt", None, b"more").await).1.to_owned();
    assert_eq!(more().await, "too_many_uploads");
    assert_eq!(reason(&ana.post("/api/attachments/presign", &announced).await), (429, "too_many_uploads"));
    assert_eq!(Kept::of(&world).await, before);
    uploaded(&ben, "a.txt", b"others may").await;
    // What is sent, or taken back, makes room.
    sent(&ana, &place, "", &[&all[0]]).await;
    assert_eq!(more().await, "");
    assert_eq!(more().await, "too_many_uploads");
    assert_eq!(ana.delete(&path(&all[1])).await.0, 204);
    assert_eq!(more().await, "");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_aborted_leaves_nothing() {
    let world = world().await;
    let (ana, _, place) = world.pair().await;
    let before = Kept::of(&world).await;
    let whole = body(&vec![b'a'; 1 << 20]);
    let request =
        [head(&ana, &format!("Content-Length: {}\r\n", whole.len())), whole[..whole.len() / 2].to_vec()].concat();
    let mut stream = connected(world.rest.address).await;
    stream.write_all(&request).await.expect("it is read");
    let spooled = until("half of it is here", || Kept::of(&world), |kept| kept.spools.len() == 1).await;
    assert_eq!((&spooled.objects, spooled.attachments), (&before.objects, before.attachments));
    drop(stream);
    until("nothing is left", || Kept::of(&world), |kept| *kept == before).await;

    // The first file of a message is here, the second one never comes.
    let first =
        "--frontier\r\nContent-Disposition: form-data; name=\"attachment\"; filename=\"a.txt\"\r\n\r\nhello\r\n";
    let rest = "--frontier\r\nContent-Disposition: form-data; name=\"attachment\"; filename=\"b.txt\"\r\n\r\nhel";
    let word = format!("--frontier\r\nContent-Disposition: form-data; name=\"conversationId\"\r\n\r\n{place}\r\n");
    let upload = String::from_utf8(head(&ana, "Content-Length: 10000\r\n")).expect("text");
    let request = format!("{}{word}{first}{rest}", upload.replace("/api/attachments", "/api/messages"));
    let mut stream = connected(world.rest.address).await;
    stream.write_all(request.as_bytes()).await.expect("it is read");
    until("the first one is here", || Kept::of(&world), |kept| kept.attachments == before.attachments + 1).await;
    drop(stream);
    until("nothing is left", || Kept::of(&world), |kept| *kept == before).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_somebody_or_something_else_cannot_be_sent() {
    let world = world().await;
    let (ana, ben, place) = world.pair().await;
    let cleo = world.person("Cleo").await;
    let foreign = ben.open(&[&cleo]).await;
    let (free, used) = (uploaded(&ana, "a.txt", b"free").await, uploaded(&ana, "b.txt", b"used").await);
    let his = uploaded(&ben, "c.txt", b"his").await;
    sent(&ana, &place, "", &[&used]).await;
    world.history(&ana, &place, 1).await;
    let before = Kept::of(&world).await;
    let mut socket = ana.socket().await;
    let unknown = json!({ "id": "att_00000000000000000000000001" });
    for (what, conversation, attached, status, wanted) in [
        ("somebody else's", &place, vec![&his], 404, "unknown_attachment"),
        ("somebody else's, and one's own", &place, vec![&free, &his], 404, "unknown_attachment"),
        ("one that is not there", &place, vec![&unknown], 404, "unknown_attachment"),
        ("one that was sent", &place, vec![&used], 409, "attachment_in_use"),
        ("one that was sent, and another one", &place, vec![&free, &used], 409, "attachment_in_use"),
        ("to a foreign conversation", &foreign, vec![&free], 403, "not_a_participant"),
    ] {
        assert_eq!(reason(&send(&ana, conversation, "", &attached).await), (status, wanted), "{what}");
        let answer = socket.call("sendMessage", &with(conversation, "", &attached)).await;
        assert_eq!((&answer["ok"], &answer["error"]["reason"]), (&json!(false), &json!(wanted)), "{what}: {answer}");
        assert_eq!(Kept::of(&world).await, before, "{what}");
        let (_, info) = ben.get(&format!("{}/info", path(&free))).await;
        assert_eq!(info["reason"], "unknown_attachment", "{what}: it is hers alone");
    }
    assert_eq!(world.history(&ana, &place, 1).await.len(), 1, "nothing was said");
    assert_eq!(world.history(&cleo, &foreign, 0).await.len(), 0);
    // What was refused together with others is free again.
    sent(&ana, &place, "", &[&free]).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_for_a_message_that_may_not_be_sent_leave_nothing() {
    let world = world().await;
    let (ana, ben, place) = world.pair().await;
    let cleo = world.person("Cleo").await;
    let foreign = ben.open(&[&cleo]).await;
    let before = Kept::of(&world).await;
    let text = |number: usize| part(&format!("{number}.txt"), None, number.to_string().as_bytes());
    let place_of = |conversation: &str| form().text("conversationId", conversation.to_owned());
    let many = (0..11).fold(place_of(&place), |form, number| form.part("attachment", text(number)));
    for (what, form, status, wanted) in [
        ("a foreign conversation", place_of(&foreign).part("attachment", text(1)), 403, "not_a_participant"),
        (
            "one that is named at the end",
            form().part("attachment", text(1)).part("attachment", text(2)).text("conversationId", foreign.clone()),
            403,
            "not_a_participant",
        ),
        ("none", form().part("attachment", text(1)), 400, "missing_field"),
        (
            "somebody else",
            place_of(&place).part("attachment", text(1)).text("senderId", ben.id.clone()),
            403,
            "identity_mismatch",
        ),
        ("eleven", many, 413, "too_many_attachments"),
        (
            "a bad one at the end",
            place_of(&place).part("attachment", text(1)).part("attachment", part("a.exe", None, b"x")),
            400,
            "unsafe_extension",
        ),
        (
            "too many words",
            place_of(&place).part("attachment", text(1)).text("text", "x".repeat(8_001)),
            413,
            "text_too_long",
        ),
    ] {
        let sent = ana.rest.request(Method::POST, "/api/messages").bearer_auth(&ana.token).multipart(form).send().await;
        assert_eq!(reason(&reply(sent.expect("an answer")).await), (status, wanted), "{what}");
        assert_eq!(Kept::of(&world).await, before, "{what}");
    }
    assert_eq!(world.history(&ana, &place, 0).await.len(), 0, "nothing was said");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_are_old_or_changed_are_good_for_nothing() {
    let world = world().await;
    let ana = world.person("Ana").await;
    let attachment = uploaded(&ana, "a.txt", b"hello").await;
    let announced = json!({ "name": "b.txt", "size": 5, "sha256": "0".repeat(64) });
    let (status, ticket) = ana.post("/api/attachments/presign", &announced).await;
    assert_eq!(status, 200, "{ticket}");
    let (bring, to_be) = (ticket["url"].as_str().expect("an address"), &ticket["attachment"]);
    let before = Kept::of(&world).await;
    let brought_before = before.clone();

    // Without a length, or without the end of what it is long, by a good address.
    let put = |more: &str| format!("PUT {bring} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n{more}").into_bytes();
    let refused =
        say(world.rest.address, &put("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), false).await;
    assert_eq!(reason(&refused.expect("an answer")), (400, "content_length_required"));
    if let Some(refused) = say(world.rest.address, &put("Content-Length: 10\r\n\r\nhello"), true).await {
        assert_eq!(reason(&refused), (400, "upload_incomplete"));
    }
    until("nothing is left", || Kept::of(&world), |kept| *kept == before).await;

    let links = Links::new(SECRET.as_bytes()).expect("links");
    let signed = |purpose, record: &Value, seconds| {
        let (id, user) = (id(record).parse().expect("an id"), ana.id.parse().expect("an id"));
        links.query(purpose, id, user, Clock::System.now().plus_seconds(seconds))
    };
    let change = |address: &str| {
        let (rest, last) = address.split_at(address.len() - 2);
        format!("{rest}{}", if last == "AA" { "BB" } else { "AA" })
    };
    let download = link(&ana, &attachment).await;
    let downloads = [
        (format!("{}?{}", path(&attachment), signed(Purpose::Download, &attachment, 60)), 200, ""),
        (format!("{}?{}", path(&attachment), signed(Purpose::Download, &attachment, -1)), 403, "expired_signature"),
        (format!("{}?{}", path(&attachment), signed(Purpose::Upload, &attachment, 60)), 403, "bad_signature"),
        (format!("{}?{}", path(&attachment), signed(Purpose::Download, to_be, 60)), 403, "bad_signature"),
        (change(&download), 403, "bad_signature"),
        (download.replace("expires=1", "expires=2"), 403, "bad_signature"),
        (download.replace("signature=", "signature=%00"), 403, "bad_signature"),
        (download.replace("&signature=", "&unsigned="), 401, "missing_token"),
    ];
    for (address, status, wanted) in downloads {
        assert_eq!(get_bare(&ana, &address).await.reason(), refusal(status, wanted), "{address}");
    }
    let content = format!("/api/attachments/{}/content", id(to_be));
    for (address, wanted) in [
        (format!("{content}?{}", signed(Purpose::Upload, to_be, -1)), "expired_signature"),
        (format!("{content}?{}", signed(Purpose::Download, to_be, 60)), "bad_signature"),
        (format!("{content}?{}", signed(Purpose::Upload, &attachment, 60)), "bad_signature"),
        (change(bring), "bad_signature"),
        (bring.replace("expires=1", "expires=2"), "bad_signature"),
    ] {
        let brought = ana.rest.request(Method::PUT, &address).body("hello").send().await.expect("an answer");
        assert_eq!(reason(&reply(brought).await), (403, wanted), "{address}");
        assert_eq!(Kept::of(&world).await, before, "{address}");
    }
    // What is good brings bytes, whether they say what they are or not, and no more of them than may be.
    for media_type in [None, Some("text/plain"), Some("multipart/form-data; boundary=x")] {
        let request = ana.rest.request(Method::PUT, bring).body("hello");
        let request = media_type.into_iter().fold(request, |request, kind| request.header("content-type", kind));
        assert_eq!(request.send().await.expect("an answer").status(), 204, "{media_type:?}");
    }
    let before = Kept::of(&world).await;
    let brought = ana.rest.request(Method::PUT, bring).body(vec![b'a'; LIMIT + 1]).send().await.expect("an answer");
    assert_eq!(reason(&reply(brought).await), (413, "attachment_too_large"));
    assert_eq!(Kept::of(&world).await, before);
    // What was brought and is not wanted any more is gone, also by an address that is still good.
    assert_eq!(ana.delete(&path(to_be)).await.0, 204);
    assert_eq!(Kept::of(&world).await.objects, brought_before.objects);
    let late = ana.rest.request(Method::PUT, bring).body("hello").send().await.expect("an answer");
    assert_eq!(reason(&reply(late).await), (404, "unknown_attachment"));
    assert_eq!(Kept::of(&world).await.objects, brought_before.objects);
    world.stop().await;
}
