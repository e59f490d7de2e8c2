//! Attachments: bytes per second in and out, against a plain poem handler that streams the same file to and from the same
//! disk; and the memory that many uploads at once take.
//!
//! Ours checks who asks, reads a form, hashes, looks at what it is, syncs to disk and keeps a record; the other one writes
//! what comes. Both are asked by the same client, one request after another, in turns.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use poem::http::StatusCode;
use poem::listener::TcpAcceptor;
use poem::web::Data;
use poem::{Body, EndpointExt as _, Route, Server, get, handler};
use rand::RngCore as _;
use reqwest::multipart::{Form, Part};
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

use super::instance::{Instance, Person};
use super::servers::{Servers, Tenant};
use super::table::{Figures, Pair, Rounds, Row, Wanted};

const ROUNDS: usize = 9;
const SIZE: usize = 25 << 20;
/// Uploads at once while the memory is looked at.
const TOGETHER: usize = 20;
const MEBI: f64 = 1_048_576.0;

/// Streams a body to a file.
#[handler]
async fn take(folder: Data<&PathBuf>, body: Body) -> poem::Result<StatusCode> {
    let failed = poem::error::InternalServerError;
    let mut file = tokio::fs::File::create(folder.join("plain")).await.map_err(failed)?;
    let mut pieces = body.into_bytes_stream();
    while let Some(piece) = pieces.next().await {
        file.write_all(&piece.map_err(failed)?).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    Ok(StatusCode::CREATED)
}

/// Streams a file to a body.
#[handler]
async fn give(folder: Data<&PathBuf>) -> poem::Result<Body> {
    let file = tokio::fs::File::open(folder.join("plain")).await.map_err(poem::error::InternalServerError)?;
    // Its own pieces are of 4 KiB, and slow.
    Ok(Body::from_bytes_stream(ReaderStream::with_capacity(file, 256 << 10)))
}

/// A file of this size that is like no other one.
fn file() -> Bytes {
    let mut bytes = vec![0; SIZE];
    #[expect(clippy::disallowed_methods, reason = "what is in it does not matter")]
    rand::rng().fill_bytes(&mut bytes);
    bytes[..9].copy_from_slice(b"%PDF-1.4\n");
    Bytes::from(bytes)
}

async fn upload(client: &reqwest::Client, url: &str, person: &Person, bytes: Bytes) -> String {
    let length = u64::try_from(bytes.len()).expect("a length");
    let part = Part::stream_with_length(bytes, length).file_name("film.pdf");
    let part = part.mime_str("application/pdf").expect("a type");
    let asked = client.post(url).bearer_auth(&person.token).multipart(Form::new().part("file", part));
    let answer = asked.send().await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 201);
    let kept: serde_json::Value = answer.json().await.expect("JSON");
    kept["id"].as_str().expect("an id").to_owned()
}

async fn download(asked: reqwest::RequestBuilder) -> f64 {
    let begin = Instant::now();
    let mut answer = asked.send().await.expect("an answer");
    assert!(answer.status().is_success());
    let mut got = 0;
    while let Some(piece) = answer.chunk().await.expect("all of it") {
        got += piece.len();
    }
    assert_eq!(got, SIZE);
    rate(begin)
}

fn rate(begin: Instant) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    let size = SIZE as f64;
    size / MEBI / begin.elapsed().as_secs_f64()
}

pub async fn measure(servers: &Servers) -> Vec<Row> {
    let folder = servers.data.join("attachments");
    std::fs::create_dir_all(&folder).expect("a folder");
    let tenant = Tenant { attachments: format!("file:{}", folder.join("ours").display()), ..servers.tenant() };
    let instance = Instance::start(&tenant, "gateway,worker").await;
    let person = instance.person("ana").await;
    let plain = plain(&folder).await;
    let client = reqwest::Client::new();
    let ours = format!("http://{}/api/attachments", instance.address);
    println!("attachments: files of 25 MiB, {ROUNDS} rounds, then {TOGETHER} at once");
    let (mut up, mut down) = (Pair::new(), Pair::new());
    // The first of each is not counted: connections are opened, and memory is got from the system.
    for round in 0..=ROUNDS {
        let bytes = file();
        let begin = Instant::now();
        let taken = client.post(&plain).body(bytes.clone()).send().await.expect("an answer");
        let plain_up = rate(begin);
        assert_eq!(taken.status().as_u16(), 201);
        let begin = Instant::now();
        let id = upload(&client, &ours, &person, bytes).await;
        let our_up = rate(begin);
        let plain_down = download(client.get(&plain)).await;
        let our_down = download(client.get(format!("{ours}/{id}")).bearer_auth(&person.token)).await;
        if round > 0 {
            println!(
                "  round {round}: in {our_up:.0} MiB/s, plain {plain_up:.0}; out {our_down:.0} MiB/s, plain {plain_down:.0}"
            );
            up.ours.push(our_up);
            up.against.push(plain_up);
            down.ours.push(our_down);
            down.against.push(plain_down);
        }
    }
    // One alone may not have so many under way.
    let people = [person, instance.person("ben").await, instance.person("cleo").await];
    let added = memory(&instance, &client, &ours, &people).await;
    instance.end().await;
    let wanted = Wanted::AtLeast(0.5);
    vec![
        Row {
            figure: "upload of 25 MiB, against a plain handler",
            unit: "MiB/s",
            wanted,
            figures: Figures::Beside(up),
        },
        Row {
            figure: "download of 25 MiB, against a plain handler",
            unit: "MiB/s",
            wanted,
            figures: Figures::Beside(down),
        },
        Row {
            figure: "memory that 20 uploads of 25 MiB at once add",
            unit: "MiB",
            wanted: Wanted::AtMost(16.0),
            figures: Figures::Alone(added),
        },
    ]
}

/// What many uploads at once add to the memory of the instance, in MiB.
async fn memory(instance: &Instance, client: &reqwest::Client, url: &str, people: &[Person]) -> Rounds {
    // The same bytes for each but the last ones, so that the client has them once and no upload is a copy.
    let common = file();
    let before = resident(instance);
    let uploads = (0..TOGETHER).map(|number| {
        let own = Bytes::from(format!("{number:08}"));
        let pieces: Vec<std::io::Result<Bytes>> = vec![Ok(common.slice(..SIZE - own.len())), Ok(own)];
        let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
        let part = Part::stream_with_length(body, SIZE as u64).file_name("film.pdf");
        let form = Form::new().part("file", part.mime_str("application/pdf").expect("a type"));
        let person = &people[number % people.len()];
        async move {
            let answer = client.post(url).bearer_auth(&person.token).multipart(form).send().await.expect("an answer");
            assert_eq!(answer.status().as_u16(), 201);
        }
    });
    let begin = Instant::now();
    let mut most = before;
    let mut look = tokio::time::interval(Duration::from_millis(5));
    let mut all = std::pin::pin!(join_all(uploads));
    loop {
        tokio::select! {
            _ = &mut all => break,
            _ = look.tick() => most = most.max(resident(instance)),
        }
    }
    let took = begin.elapsed().as_secs_f64();
    println!("  {TOGETHER} uploads at once in {took:.2} s: {before:.1} MiB resident before, at most {most:.1} MiB");
    let mut added = Rounds::new();
    added.push(most - before);
    added
}

/// What a process has in memory, in MiB.
fn resident(instance: &Instance) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", instance.pid())).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib / 1_024.0
}

/// A plain server, and its address.
async fn plain(folder: &Path) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let routes = Route::new().at("/", get(give).post(take)).data(folder.to_owned());
    let acceptor = TcpAcceptor::from_tokio(listener).expect("a listener");
    #[expect(clippy::disallowed_methods, reason = "it ends with the bench")]
    tokio::spawn(Server::new_with_acceptor(acceptor).run(routes));
    format!("http://{address}/")
}
