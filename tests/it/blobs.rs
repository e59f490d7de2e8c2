//! The bytes of attachments in a store that speaks S3.

use std::io::Write as _;
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use reqwest::Method;
use serde_json::json;
use shoptalk::app::Roles;
use shoptalk::blob::Blobs;
use shoptalk::error::{Error, Result};
use shoptalk::lifecycle::Lifecycle;
use tempfile::NamedTempFile;

use crate::support::s3::{S3, SECRET};
use crate::support::world::World;
use crate::support::{client, freeze, until};

/// A store that is gone is known to be within this; the rest is for the machine, which other tests use too.
const GONE: Duration = Duration::from_secs(3);
/// One that hangs.
const GIVEN_UP: Duration = Duration::from_secs(13);
/// One of which that is known.
const AT_ONCE: Duration = Duration::from_millis(500);

async fn open(store: &S3) -> Blobs {
    Blobs::open(&store.config(), &Lifecycle::new()).await.expect("the store is as it must be")
}

/// Bytes of which no two pieces are the same.
fn bytes(size: usize) -> Vec<u8> {
    (0_u32..).flat_map(u32::to_be_bytes).take(size).collect()
}

fn spooled(blobs: &Blobs, bytes: &[u8]) -> NamedTempFile {
    let mut spool = blobs.spool().expect("a file");
    spool.write_all(bytes).expect("room on disk");
    spool
}

async fn whole(blobs: &Blobs, key: &str, range: Option<Range<u64>>) -> Vec<u8> {
    let pieces = blobs.read(key, range).await.expect("an answer").expect("an object");
    pieces.try_collect::<Vec<Bytes>>().await.expect("all of it").concat()
}

async fn keys(blobs: &Blobs) -> Vec<String> {
    let mut keys: Vec<_> = blobs.list("").map_ok(|found| found.key).try_collect().await.expect("a listing");
    keys.sort();
    keys
}

fn refused<T>(done: Result<T>) -> Error {
    let Err(error) = done else { panic!("it was done") };
    assert_eq!((error.reason(), error.status(), error.transient()), ("attachments_unavailable", 503, true));
    error
}

async fn put(blobs: &Blobs, key: &str) -> Result<()> {
    blobs.put(key, Bytes::from_static(b"bytes"), "text/plain").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_attachment_goes_in_parts_and_comes_back_byte_for_byte() {
    let store = S3::start("large").await;
    let blobs = open(&store).await;
    assert_eq!(keys(&blobs).await, [""; 0], "the probe leaves nothing");
    let large = bytes(20 << 20);
    let spool = spooled(&blobs, &large);
    let path = spool.path().to_owned();
    blobs.adopt(spool, "blobs/large", "video/mp4").await.expect("it is taken");
    assert!(!path.exists() && store.unfinished().is_empty());
    put(&blobs, "blobs/small").await.expect("it is taken");
    put(&blobs, "incoming/other").await.expect("it is taken");
    assert_eq!(keys(&blobs).await, ["blobs/large", "blobs/small", "incoming/other"]);

    assert!(whole(&blobs, "blobs/large", None).await == large);
    for (from, to) in [(0, 1), (5 << 20, (10 << 20) + 1), ((20 << 20) - 1, 20 << 20)] {
        assert!(whole(&blobs, "blobs/large", Some(from as u64..to as u64)).await == large[from..to], "{from} to {to}");
    }
    let mut pieces = blobs.read("blobs/large", None).await.expect("an answer").expect("an object");
    let begin = pieces.next().await.expect("a piece").expect("a piece");
    assert!(begin.len() <= 1 << 20, "a piece of {} bytes", begin.len());
    drop(pieces);

    let found: Vec<_> = blobs.list("blobs").try_collect().await.expect("a listing");
    assert_eq!(found.iter().map(|found| found.size).max(), Some(20 << 20));
    let fetched = blobs.fetch("blobs/large", 20 << 20).await.expect("an answer").expect("an object");
    assert!(std::fs::read(fetched.file.path()).expect("a file") == large);
    let error = blobs.fetch("blobs/large", (20 << 20) - 1).await.expect_err("too large");
    assert_eq!(error.reason(), "attachment_too_large");

    for key in ["blobs/large", "blobs/small", "incoming/other", "incoming/other"] {
        blobs.delete(key).await.expect("gone");
        assert!(blobs.read(key, None).await.expect("an answer").is_none());
    }
    assert_eq!(keys(&blobs).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_nobody_waits_for_leaves_nothing() {
    let store = S3::start("aborted").await;
    let blobs = open(&store).await;
    let spool = blobs.spool().expect("a file");
    // Nothing but zeros, and no room on disk; long enough to be stopped in the middle.
    spool.as_file().set_len(200 << 20).expect("a file");
    let path = spool.path().to_owned();
    let parts = || store.unfinished().iter().filter(|name| name.contains(".part-")).count();
    tokio::select! {
        done = blobs.adopt(spool, "blobs/large", "video/mp4") => panic!("it was not stopped: {done:?}"),
        _ = until("two parts", async || parts(), |parts| *parts >= 2) => {}
    }
    until("no parts", async || store.unfinished(), Vec::is_empty).await;
    assert_eq!(keys(&blobs).await, [""; 0]);
    until("no spool", async || path.exists(), |exists| !exists).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_request_is_good_for_what_it_says_and_for_a_while() {
    let store = S3::start("signed").await;
    let blobs = open(&store).await;
    let http = client::http();
    let sign = async |method: Method, seconds| {
        let life = Duration::from_secs(seconds);
        let signed = match method {
            Method::PUT => blobs.presign_put("incoming/one", life).await,
            _ => blobs.presign_get("incoming/one", life, "one").await,
        };
        let signed = signed.expect("an answer").expect("a store that can");
        assert!(signed.headers.is_empty(), "S3 wants none");
        signed.url
    };
    let status = async |method: Method, url: &str| {
        let asked = http.request(method.clone(), url);
        let asked = if method == Method::PUT { asked.body("bytes of somebody else") } else { asked };
        asked.send().await.expect("a reply").status().as_u16()
    };

    // Large enough to go in many pieces, as a client would bring it.
    let large = bytes(12 << 20);
    let brought = http.put(sign(Method::PUT, 60).await).body(large.clone()).send().await.expect("a reply");
    assert_eq!(brought.status(), 200);
    assert!(whole(&blobs, "incoming/one", None).await == large);
    let url = sign(Method::GET, 60).await;
    let got = http.get(&url).send().await.expect("a reply");
    assert_eq!(got.status(), 200);
    assert!(got.bytes().await.expect("all of it") == large);

    // For another object, another method, another time, by another signature.
    let elsewhere = url.replacen("incoming/one", "incoming/two", 1);
    put(&blobs, "incoming/two").await.expect("it is taken");
    let longer = url.replacen("X-Amz-Expires=60", "X-Amz-Expires=600", 1);
    let (unsigned, signature) = url.rsplit_once("X-Amz-Signature=").expect("a signature");
    let last = if signature.ends_with('0') { '1' } else { '0' };
    let forged = format!("{unsigned}X-Amz-Signature={}{last}", &signature[..signature.len() - 1]);
    let bare = url.split('?').next().expect("a path").to_owned();
    for tampered in [&elsewhere, &longer, &forged, &bare] {
        assert_ne!(*tampered, url);
        assert_eq!(status(Method::GET, tampered).await, 403, "{tampered}");
    }
    assert_eq!(status(Method::PUT, &url).await, 403, "a GET is no PUT");
    assert_eq!(status(Method::DELETE, &url).await, 403, "nor a DELETE");
    assert!(whole(&blobs, "incoming/one", None).await == large);

    let short = sign(Method::GET, 1).await;
    until("a signature that is over", async || status(Method::GET, &short).await, |status| *status == 403).await;
    assert_eq!(status(Method::GET, &url).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_is_told_what_an_object_is() {
    let store = S3::start("told").await;
    let blobs = open(&store).await;
    let http = client::http();
    for (key, size) in [("blobs/small", 10), ("blobs/large", 6 << 20)] {
        let spool = spooled(&blobs, &bytes(size));
        blobs.adopt(spool, key, "image/png").await.expect("it is taken");
        let signed = blobs.presign_get(key, Duration::from_mins(1), "é \"x\".png").await;
        let got = http.get(signed.expect("an answer").expect("a URL").url).send().await.expect("a reply");
        let header = |name: &str| got.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        assert_eq!(header("content-type"), "image/png", "{key}");
        assert_eq!(header("content-disposition"), "attachment; filename*=UTF-8''%C3%A9%20%22x%22.png", "{key}");
        assert_eq!(header("cache-control"), "private", "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_told_at_once() {
    let store = S3::start("refused").await;
    for (wrong, said) in [("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch"), ("AWS_ACCESS_KEY_ID", "403")] {
        let mut config = store.config();
        config.variables.iter_mut().filter(|(key, _)| key == wrong).for_each(|(_, value)| value.push('x'));
        let begin = Instant::now();
        let error = Blobs::open(&config, &Lifecycle::new()).await.expect_err("a store that refuses");
        assert_eq!((error.reason(), error.transient()), ("bad_configuration", false), "{error}");
        let told = format!("ATTACHMENTS_URL: {}: writing failed: ", config.url);
        assert!(error.shown().starts_with(&told) && error.shown().contains(said), "{}", error.shown());
        assert!(!error.told().contains(SECRET) && begin.elapsed() < GONE, "{} {:?}", error.told(), begin.elapsed());
    }
    assert_eq!(keys(&open(&store).await).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_gone_refuses_soon_and_is_there_again() {
    let mut store = S3::start("gone").await;
    let blobs = open(&store).await;
    put(&blobs, "blobs/one").await.expect("it is taken");
    store.down().await;

    let begin = Instant::now();
    let error = Blobs::open(&store.config(), &Lifecycle::new()).await.expect_err("nobody there");
    assert_eq!((error.reason(), error.transient()), ("attachments_unavailable", true));
    assert!(error.shown().contains("s3://attachments/shop: writing failed: "), "{}", error.shown());
    assert!(begin.elapsed() < GONE, "{:?}", begin.elapsed());

    let spool = spooled(&blobs, &bytes(20 << 20));
    let path = spool.path().to_owned();
    let begin = Instant::now();
    refused(blobs.adopt(spool, "blobs/two", "video/mp4").await);
    assert!(begin.elapsed() < GONE, "{:?}", begin.elapsed());
    assert!(!path.exists() && !blobs.answers());
    let begin = Instant::now();
    refused(blobs.read("blobs/one", None).await);
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());

    store.up().await;
    // Nobody asks; it is looked at.
    until("the store is back", async || blobs.answers(), |answers| *answers).await;
    assert_eq!(whole(&blobs, "blobs/one", None).await, b"bytes");
    put(&blobs, "blobs/two").await.expect("it is taken");
    assert_eq!(keys(&blobs).await, ["blobs/one", "blobs/two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_is_given_up_and_refuses_the_next_at_once() {
    let store = S3::start("hangs").await;
    let blobs = open(&store).await;
    put(&blobs, "blobs/one").await.expect("it is taken");
    freeze::freeze(store.pid()).await;
    let begin = Instant::now();
    refused(put(&blobs, "blobs/two").await);
    let took = begin.elapsed();
    let begin = Instant::now();
    refused(blobs.read("blobs/one", None).await);
    let next = begin.elapsed();
    freeze::thaw(store.pid());
    assert!(took < GIVEN_UP && next < AT_ONCE, "{took:?}, then {next:?}");
    until("the store is back", async || blobs.answers(), |answers| *answers).await;
    assert_eq!(whole(&blobs, "blobs/one", None).await, b"bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_without_its_store_stays_ready_and_says_so() {
    let mut store = S3::start("ready").await;
    let settings = store.settings();
    let settings: Vec<_> = settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let world = World::with(Roles::ALL, &settings).await;
    let attachments = async || world.rest.get("/readyz", None).await;
    let (status, ready) = attachments().await;
    assert_eq!((status, &ready["attachments"]), (200, &json!("ok")));
    store.down().await;
    let (status, ready) = until("it is away", attachments, |(_, ready)| ready["attachments"] == "away").await;
    assert_eq!((status, &ready["status"]), (200, &json!("ready")));
    let (ana, _ben, conversation) = world.pair().await;
    ana.say(&conversation, "hello").await;
    store.up().await;
    until("it is back", attachments, |(_, ready)| ready["attachments"] == "ok").await;
    world.stop().await;
}
