//! An object store that speaks S3 and checks signatures, as a process of one test.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use shoptalk::config::BlobConfig;
use shoptalk::embedded;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::servers;
use super::until;

const BUCKET: &str = "attachments";
const KEY: &str = "a-key-for-tests";
/// Never to be shown.
pub const SECRET: &str = "a-secret-for-tests";

/// The store; it ends with the test.
pub struct S3 {
    folder: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl S3 {
    /// A store with an empty bucket.
    pub async fn start(name: &str) -> Self {
        let folder = servers::scratch(&format!("s3-{name}"));
        std::fs::create_dir_all(folder.join(BUCKET)).expect("a folder");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port").port();
        let mut store = Self { folder, port: free, process: None };
        store.up().await;
        store
    }

    /// Starts it, on the port that it had before.
    pub async fn up(&mut self) {
        let came_up = async || {
            // Somebody may have had the port for a moment, as the near end of a connection: then it has ended.
            let lives = self.process.as_mut().is_some_and(|process| process.try_wait().is_ok_and(|end| end.is_none()));
            if !lives {
                self.process = Some(spawn(&self.folder, self.port));
            }
            let connected = TcpStream::connect(("127.0.0.1", self.port)).await;
            lives && connected.is_ok_and(|stream| stream.local_addr().ok() != stream.peer_addr().ok())
        };
        until("an S3 server", came_up, |up| *up).await;
    }

    /// Kills it.
    pub async fn down(&mut self) {
        self.process.take().expect("it runs").kill().await.expect("it ends");
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().and_then(Child::id).expect("it runs")
    }

    /// How its bucket is named to an instance, and how one logs in.
    pub fn settings(&self) -> Vec<(String, String)> {
        [
            ("ATTACHMENTS_URL", format!("s3://{BUCKET}/shop")),
            ("AWS_ENDPOINT", format!("http://127.0.0.1:{}", self.port)),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec()
    }

    /// The same for the store alone.
    pub fn config(&self) -> BlobConfig {
        let mut variables = self.settings();
        let (_, url) = variables.remove(0);
        BlobConfig { url, variables }
    }

    /// What it has of uploads in parts that were neither completed nor given up.
    pub fn unfinished(&self) -> Vec<String> {
        let files = std::fs::read_dir(&self.folder).expect("its folder").flatten();
        let names = files.filter_map(|file| file.file_name().into_string().ok());
        names.filter(|name| name.starts_with(".upload")).collect()
    }
}

fn spawn(folder: &Path, port: u16) -> Child {
    let program = embedded::s3_server().expect("an S3 server (try: scripts/servers tests)");
    // Through the guard: it ends with this test, however that ends.
    Command::new(servers::program())
        .args(["guard", "--parent", &std::process::id().to_string(), "--"])
        .arg(program)
        .args(["--host", "127.0.0.1", "--port", &port.to_string(), "--access-key", KEY, "--secret-key", SECRET])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts")
}
