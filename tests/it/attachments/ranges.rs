//! Bytes on their way out: in part, for whoever seeks in a film, and never as a page.

use serde_json::json;

use super::samples::{self, boxed};
use super::{download, get, get_bare, link, path, sent, upload, uploaded};
use crate::support::world::World;

/// A film of this many bytes and a little more, no two pieces of which are the same.
fn film(size: usize) -> Vec<u8> {
    let frames: Vec<u8> = (0_u32..).flat_map(u32::to_be_bytes).take(size).collect();
    [samples::mp4(b"isom"), boxed(b"mdat", &[&frames])].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_film_is_sought_through() {
    let world = World::start().await;
    let (ana, ben, place) = world.pair().await;
    let film = film(1 << 20);
    let attachment = uploaded(&ana, "film.mp4", &film).await;
    sent(&ana, &place, "", &[&attachment]).await;
    let (film_path, size) = (path(&attachment), film.len());
    let from_token = link(&ben, &attachment).await;
    for (asked, from, to) in [
        // As players do: from the beginning, its end, and from wherever somebody points.
        ("bytes=0-".to_owned(), 0, size),
        ("bytes=0-1".to_owned(), 0, 2),
        ("bytes=524288-".to_owned(), 524_288, size),
        ("bytes=300000-700000".to_owned(), 300_000, 700_001),
        ("bytes=-1000".to_owned(), size - 1000, size),
        (format!("bytes={}-", size - 1), size - 1, size),
        (format!("bytes={}-{}", size - 10, size + 10), size - 10, size),
        (format!("bytes=-{}", size + 10), 0, size),
    ] {
        for got in [
            get(&ben, &film_path, &[("range", &asked)]).await,
            super::Got::of(
                ben.rest
                    .request(reqwest::Method::GET, &from_token)
                    .header("range", &asked)
                    .send()
                    .await
                    .expect("bytes"),
            )
            .await,
        ] {
            assert_eq!(got.status, 206, "{asked}");
            assert_eq!(got.header("content-range"), format!("bytes {from}-{}/{size}", to - 1), "{asked}");
            assert_eq!(got.header("content-length"), (to - from).to_string(), "{asked}");
            assert_eq!((got.header("content-type"), got.header("accept-ranges")), ("video/mp4", "bytes"));
            assert!(got.bytes == film[from..to], "{asked}");
        }
    }
    // The pieces that a player gets are the film.
    let mut pieces = Vec::new();
    while pieces.len() < size {
        let asked = format!("bytes={}-{}", pieces.len(), pieces.len() + 99_999);
        pieces.extend(get(&ben, &film_path, &[("range", &asked)]).await.bytes);
    }
    assert!(pieces == film);

    for beyond in [format!("bytes={size}-"), format!("bytes={}-{}", size + 5, size + 9), "bytes=-0".to_owned()] {
        let got = get(&ben, &film_path, &[("range", &beyond)]).await;
        assert_eq!((got.status, got.header("content-range")), (416, format!("bytes */{size}").as_str()), "{beyond}");
        assert!(got.bytes.is_empty());
    }
    let beyond = "99999999999999999999";
    assert_eq!(get(&ben, &film_path, &[("range", &format!("bytes={beyond}-"))]).await.status, 416);
    assert_eq!(get(&ben, &film_path, &[("range", "Bytes=5-9")]).await.bytes, film[5..10]);
    // Whoever wants to know how much there is does not ask for a part of it.
    let head = ben.rest.request(reqwest::Method::HEAD, &film_path).bearer_auth(&ben.token).header("range", "bytes=0-1");
    let got = super::Got::of(head.send().await.expect("an answer")).await;
    assert_eq!((got.status, got.header("content-range"), got.bytes.len()), (200, "", 0));
    assert_eq!(got.header("content-length"), size.to_string());
    // What cannot be understood is not obeyed.
    for odd in ["bytes=+1-5", "bytes=9-3", "bytes=a-b", "bytes=-", "bites=0-1", "bytes=0-1,5-6"] {
        let got = get(&ben, &film_path, &[("range", odd)]).await;
        assert_eq!((got.status, got.bytes.len()), (200, size), "{odd}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_has_already_is_not_brought_again() {
    let world = World::start().await;
    let (ana, ben, place) = world.pair().await;
    let film = film(10_000);
    let attachment = uploaded(&ana, "film.mp4", &film).await;
    sent(&ana, &place, "", &[&attachment]).await;
    let path = path(&attachment);
    let whole = get(&ben, &path, &[]).await;
    let tag = whole.header("etag").to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 2, "a strong tag: {tag}");
    for (asked, status) in [
        (tag.clone(), 304),
        (format!("W/{tag}"), 304),
        (format!("\"other\", {tag}"), 304),
        ("*".to_owned(), 304),
        ("\"other\"".to_owned(), 200),
    ] {
        let got = get(&ben, &path, &[("if-none-match", &asked)]).await;
        assert_eq!((got.status, got.header("etag")), (status, tag.as_str()), "{asked}");
        assert_eq!(got.bytes.len(), if status == 304 { 0 } else { film.len() }, "{asked}");
    }
    let part = |known: &str| [("range", "bytes=5-9".to_owned()), ("if-range", known.to_owned())];
    for (known, status) in [(tag.as_str(), 206), ("\"other\"", 200), ("W/\"weak\"", 200)] {
        let asked = part(known);
        let asked: Vec<(&str, &str)> = asked.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let got = get(&ben, &path, &asked).await;
        assert_eq!(got.status, status, "{known}");
        assert!(got.bytes == if status == 206 { &film[5..10] } else { &film[..] }, "{known}");
    }
    // Other bytes have another tag, the same ones of somebody else the same.
    let other = uploaded(&ana, "film.mp4", &film[..film.len() - 1]).await;
    assert_ne!(get(&ana, &super::path(&other), &[]).await.header("etag"), tag);
    // Whoever may not have it does not learn either that it is what they have.
    let cleo = world.person("Cleo").await;
    assert_eq!(get(&cleo, &path, &[("if-none-match", &tag)]).await.status, 404);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_shown_as_a_page() {
    let world = World::start().await;
    let ana = world.person("Ana").await;
    let page = b"not a page, but it says <script>alert(1)</script>\n".to_vec();
    for (name, kind, bytes) in [
        ("photo.png", "inline", samples::png(40, 30)),
        ("photo.jpg", "inline", samples::jpeg(40, 30)),
        ("film.mp4", "inline", samples::mp4(b"isom")),
        ("beep.wav", "inline", samples::wav()),
        ("invoice.pdf", "attachment", samples::pdf()),
        ("letter.docx", "attachment", samples::office("word", &[])),
        ("notes.txt", "attachment", page.clone()),
        ("notes.md", "attachment", page.clone()),
        ("notes", "attachment", page),
    ] {
        let attachment = uploaded(&ana, name, &bytes).await;
        let address = link(&ana, &attachment).await;
        for got in [get(&ana, &path(&attachment), &[]).await, get_bare(&ana, &address).await] {
            assert_eq!(got.status, 200, "{name}");
            assert!(got.header("content-disposition").starts_with(&format!("{kind}; filename=\"{name}\"")), "{name}");
            assert_eq!(got.header("x-content-type-options"), "nosniff");
            assert_eq!(json!(got.header("content-type")), attachment["type"]);
            let policy = got.header("content-security-policy");
            assert!(policy.contains("sandbox") && policy.contains("default-src 'none'"), "{policy}");
            assert_eq!(got.header("cache-control"), "private, no-cache");
        }
    }
    // What is made to hold scripts is not even taken, whatever it is called.
    let drawing = br#"<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"></svg>"#;
    let site = b"<!DOCTYPE html><html><body><script>alert(1)</script></body></html>";
    for (name, media_type, bytes) in [
        ("a.svg", "image/svg+xml", drawing.as_slice()),
        ("a.html", "text/html", site),
        ("a.png", "image/svg+xml", drawing),
        ("a.png", "image/png", drawing),
        ("a.txt", "text/plain", drawing),
        ("a.txt", "text/plain", site),
        ("a", "text/html", site),
        ("a.txt", "text/html", b"harmless"),
        ("a", "image/svg+xml", b"harmless"),
    ] {
        let (status, refused) = upload(&ana, name, Some(media_type), bytes).await;
        assert_eq!(status, 400, "{name} {media_type}: {refused}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_saved_as_it_was_given() {
    let world = World::start().await;
    let ana = world.person("Ana").await;
    let bytes = samples::pdf();
    for (name, plain, encoded) in [
        ("Angebot f\u{fc}r Jo\u{17e}e.pdf", "Angebot_f_r_Jo_e.pdf", "Angebot%20f%C3%BCr%20Jo%C5%BEe.pdf"),
        ("100%.pdf", "100_.pdf", "100%25.pdf"),
        ("a;b='c'.pdf", "a;b='c'.pdf", "a%3Bb%3D%27c%27.pdf"),
    ] {
        let attachment = uploaded(&ana, name, &bytes).await;
        assert_eq!(attachment["name"], name);
        let got = get(&ana, &path(&attachment), &[]).await;
        let wanted = format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}");
        assert_eq!(got.header("content-disposition"), wanted);
        assert!(download(&ana, &attachment).await == bytes);
    }
    world.stop().await;
}
