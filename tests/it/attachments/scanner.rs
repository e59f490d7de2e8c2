//! A scanner beside the instance: nobody gets what it has not looked through, nor what it finds harmful.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use shoptalk::app::Roles;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{download, get, id, metrics, path, samples, send, sent, upload, uploaded};
use crate::support::messages::shown;
use crate::support::socket::Socket;
use crate::support::until;
use crate::support::world::World;

/// What everybody tries scanners with (EICAR), in two halves, so that none minds this file.
const HARMFUL: [&str; 2] = [r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD", "-ANTIVIRUS-TEST-FILE!$H+H*"];

/// What the scanner has no verdict on.
const UNDECIDED: &[u8] = b"nobody knows";

fn harmful() -> Vec<u8> {
    HARMFUL.concat().into_bytes()
}

/// A daemon that speaks as clamd does.
struct Clamd {
    address: SocketAddr,
    /// Whether it says what it has found.
    speaks: watch::Sender<bool>,
    scans: Arc<AtomicUsize>,
    serving: JoinSet<()>,
}

impl Clamd {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut clamd =
            Self { address, speaks: watch::channel(true).0, scans: Arc::default(), serving: JoinSet::new() };
        clamd.serve(listener);
        clamd
    }

    fn serve(&mut self, listener: TcpListener) {
        let (speaks, scans) = (self.speaks.subscribe(), self.scans.clone());
        self.serving.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                open.spawn(scan(socket, speaks.clone(), scans.clone()));
            }
        });
    }

    /// It takes no calls any more.
    async fn down(&mut self) {
        self.serving.shutdown().await;
    }

    /// It is where it was.
    async fn up(&mut self) {
        let bound = until("its port", async || TcpListener::bind(self.address).await, Result::is_ok).await;
        self.serve(bound.expect("a port"));
    }

    async fn world(&self) -> World {
        World::with(Roles::ALL, &[("CLAMD_ADDRESS", &self.address.to_string())]).await
    }
}

async fn scan(mut socket: TcpStream, mut speaks: watch::Receiver<bool>, scans: Arc<AtomicUsize>) {
    let scanned = async {
        let mut command = [0; 6];
        socket.read_exact(&mut command).await?;
        if &command == b"zPING\0" {
            return socket.write_all(b"PONG\0").await;
        }
        let mut rest = [0; 4];
        socket.read_exact(&mut rest).await?;
        assert_eq!((&command, &rest), (b"zINSTR", b"EAM\0"));
        let mut all = Vec::new();
        loop {
            let size = usize::try_from(socket.read_u32().await?).expect("small");
            if size == 0 {
                break;
            }
            let begin = all.len();
            all.resize(begin + size, 0);
            socket.read_exact(&mut all[begin..]).await?;
        }
        scans.fetch_add(1, Ordering::Relaxed);
        let _ = speaks.wait_for(|speaks| *speaks).await;
        let answer: &[u8] = match () {
            () if all.starts_with(&harmful()) => b"stream: Eicar-Signature FOUND\0",
            () if all.starts_with(UNDECIDED) => b"INSTREAM size limit exceeded. ERROR\0",
            () => b"stream: OK\0",
        };
        socket.write_all(answer).await?;
        socket.shutdown().await
    };
    // Whoever hangs up wants no answer.
    let _ = scanned.await;
}

/// What a socket is told next of this attachment that is no `scanning` any more.
async fn verdict(socket: &mut Socket, attachment: &Value) -> Value {
    loop {
        let told = socket.next("attachmentUpdated").await;
        if told["attachment"]["id"] == attachment["id"] && told["attachment"]["state"] != "scanning" {
            return told;
        }
    }
}

/// What of the inbox is of the system.
async fn noted(person: &crate::support::client::Person) -> Vec<Value> {
    let (status, page) = person.get("/api/notifications?limit=50").await;
    assert_eq!(status, 200, "{page}");
    let items = page["items"].as_array().cloned().expect("items");
    items.into_iter().filter(|one| one["kind"] == "system").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_what_was_not_looked_through_yet() {
    let clamd = Clamd::start().await;
    clamd.speaks.send_replace(false);
    let world = clamd.world().await;
    let (ana, ben, conversation) = world.pair().await;
    let (mut hers, mut his) = (ana.socket().await, ben.socket().await);
    let note = uploaded(&ana, "note.txt", b"harmless").await;
    let picture = uploaded(&ana, "picture.png", &samples::png(40, 30)).await;
    for one in [&note, &picture] {
        assert_eq!(one["state"], "scanning", "{one}");
    }
    let message = sent(&ana, &conversation, "look", &[&note, &picture]).await;
    let heard = his.next("message").await;
    assert_eq!((&heard["id"], &heard["attachments"]), (&message["id"], &json!([note, picture])));
    until("a scan", async || clamd.scans.load(Ordering::Relaxed), |scans| *scans > 0).await;
    for person in [&ana, &ben] {
        for more in ["", "/thumbnail", "/link"] {
            let got = get(person, &format!("{}{more}", path(&note)), &[]).await;
            assert_eq!(got.reason(), (409, "attachment_scanning".to_owned()), "{more}");
            assert_eq!(got.header("retry-after"), "", "what is no use to try again says no time to");
        }
    }
    clamd.speaks.send_replace(true);
    for socket in [&mut hers, &mut his] {
        for one in [&note, &picture] {
            let told = verdict(socket, one).await;
            assert_eq!((&told["messageId"], &told["attachment"]["state"]), (&message["id"], &json!("ready")), "{told}");
        }
    }
    assert!(download(&ben, &note).await == b"harmless");
    assert!(download(&ben, &picture).await == samples::png(40, 30));
    let looked = shown(&ben, &conversation, &message["id"]).await;
    let word = |at: usize, field: &str| looked["attachments"][at][field].clone();
    assert_eq!(
        (word(0, "state"), word(1, "state"), word(1, "preview")),
        ("ready".into(), "ready".into(), "ready".into())
    );
    // What was looked through once is not looked through again.
    assert_eq!(uploaded(&ana, "again.txt", b"harmless").await["state"], "ready");
    assert_eq!(clamd.scans.load(Ordering::Relaxed), 2);
    assert_eq!(noted(&ana).await, [Value::Null; 0]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_what_is_harmful_and_its_uploader_is_told() {
    let clamd = Clamd::start().await;
    clamd.speaks.send_replace(false);
    let world = clamd.world().await;
    let (ana, ben, conversation) = world.pair().await;
    let (mut hers, mut his) = (ana.socket().await, ben.socket().await);
    let sent_one = uploaded(&ana, "a present.txt", &harmful()).await;
    assert_eq!(sent_one["state"], "scanning", "{sent_one}");
    let message = sent(&ana, &conversation, "for you", &[&sent_one]).await;
    let kept = uploaded(&ana, "another.txt", &[harmful(), b"\n".to_vec()].concat()).await;
    clamd.speaks.send_replace(true);
    for socket in [&mut hers, &mut his] {
        let told = verdict(socket, &sent_one).await;
        assert_eq!((&told["messageId"], &told["attachment"]["state"]), (&message["id"], &json!("infected")), "{told}");
    }
    let told = verdict(&mut hers, &kept).await;
    assert_eq!((&told["messageId"], &told["attachment"]["state"]), (&Value::Null, &json!("infected")), "{told}");
    for title in ["a present.txt", "another.txt"] {
        let note = hers.next("notification").await;
        assert_eq!((&note["kind"], &note["title"]), (&json!("system"), &json!(title)), "{note}");
    }
    let notes = until("two notes", || noted(&ana), |notes| notes.len() == 2).await;
    let of_the_message = notes.iter().filter(|note| note["data"]["messageId"] == message["id"]).count();
    assert_eq!((of_the_message, notes.len()), (1, 2), "{notes:#?}");

    // To the others it is an attachment that nobody gets.
    for person in [&ana, &ben] {
        for more in ["", "/thumbnail", "/link", "/link?direct=true"] {
            let got = get(person, &format!("{}{more}", path(&sent_one)), &[]).await;
            assert_eq!(got.reason(), (409, "attachment_infected".to_owned()), "{more}");
        }
        let looked = shown(person, &conversation, &message["id"]).await;
        assert_eq!(looked["attachments"][0]["state"], "infected");
    }
    // It is not sent, nor is what has the same bytes.
    let (status, again) = upload(&ana, "harmless.txt", None, &harmful()).await;
    assert_eq!((status, &again["state"]), (201, &json!("infected")), "{again}");
    let good = uploaded(&ana, "good.txt", b"good").await;
    assert_eq!(verdict(&mut hers, &good).await["attachment"]["state"], "ready");
    for one in [&kept, &again] {
        let (status, refused) = send(&ana, &conversation, "", &[&good, one]).await;
        assert_eq!((status, &refused["reason"]), (409, &json!("attachment_infected")), "{}", id(one));
    }
    sent(&ana, &conversation, "", &[&good]).await;
    assert_eq!(world.history(&ben, &conversation, 2).await.len(), 2);
    assert!(his.drain("attachmentUpdated").await.iter().all(|told| told["attachment"]["id"] != kept["id"]));
    assert_eq!(noted(&ben).await, [Value::Null; 0]);
    let counted = metrics(&world).await;
    for (verdict, count) in [("infected", 2), ("clean", 1)] {
        let line = format!("shoptalk_scans_total{{verdict=\"{verdict}\"}} {count}\n");
        assert!(counted.contains(&line), "{line} is missing in\n{counted}");
    }
    assert_eq!(world.dead_letters().await, 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_scanner_nothing_is_given_out_and_nothing_is_forgotten() {
    let mut clamd = Clamd::start().await;
    let world = clamd.world().await;
    clamd.down().await;
    let (ana, ben, conversation) = world.pair().await;
    let mut his = ben.socket().await;
    let note = uploaded(&ana, "note.txt", b"harmless").await;
    let message = sent(&ana, &conversation, "look", &[&note]).await;
    assert_eq!(his.next("message").await["attachments"][0]["state"], "scanning");
    let tried = async || {
        let metrics = world.rest.request(reqwest::Method::GET, "/metrics").send().await.expect("an answer");
        let text = metrics.text().await.expect("text");
        let line = text.lines().find(|line| line.contains("\"previews\"") && line.contains("\"waits\""));
        line.and_then(|line| line.rsplit(' ').next()).and_then(|count| count.parse::<u64>().ok()).unwrap_or_default()
    };
    until("it was tried again", tried, |count| *count >= 3).await;
    assert_eq!(get(&ben, &path(&note), &[]).await.reason(), (409, "attachment_scanning".to_owned()));
    ana.say(&conversation, "never mind").await;
    assert_eq!(his.next("message").await["text"], "never mind");

    clamd.up().await;
    let told = verdict(&mut his, &note).await;
    assert_eq!((&told["messageId"], &told["attachment"]["state"]), (&message["id"], &json!("ready")));
    assert!(download(&ben, &note).await == b"harmless");
    assert_eq!(world.dead_letters().await, 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_scanner_cannot_judge_keeps_nobody_else_waiting() {
    let clamd = Clamd::start().await;
    let world = clamd.world().await;
    let (ana, ben, conversation) = world.pair().await;
    let mut his = ben.socket().await;
    let strange = uploaded(&ana, "strange.txt", UNDECIDED).await;
    until("its scan", async || clamd.scans.load(Ordering::Relaxed), |scans| *scans > 0).await;
    let note = uploaded(&ana, "note.txt", b"harmless").await;
    sent(&ana, &conversation, "look", &[&strange, &note]).await;
    let told = verdict(&mut his, &note).await;
    assert_eq!(told["attachment"]["state"], "ready");
    assert!(download(&ben, &note).await == b"harmless");
    assert_eq!(get(&ben, &path(&strange), &[]).await.reason(), (409, "attachment_scanning".to_owned()));
    world.stop().await;
}
