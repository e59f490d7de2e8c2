//! Looking through attachments for what is harmful, by a daemon of `ClamAV` (clamd) that the operator runs.
//!
//! The bytes go to it as they come from the store (`INSTREAM`), over TCP or a Unix socket. Nothing is read into its answer: it
//! says `OK`, or what it has found; anything else is no verdict. Then it is asked whether it is there at all: if it is, the
//! reason lies in the bytes, and others need not wait for them. Its `StreamMaxLength` must be no less than
//! `ATTACHMENT_MAX_BYTES`: it hangs up on what is larger, which is no verdict either.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clamav_client::PONG;
use clamav_client::tokio::{Socket, Tcp, ping, scan_stream};
use futures_util::{Stream, TryStreamExt as _};

use crate::error::{Code, Error, Result};

/// How long a scan may take, the way of the bytes included; clamd itself gives up after two minutes.
const PATIENCE: Duration = Duration::from_secs(150);
/// How long it may take to say that it is there.
const GLANCE: Duration = Duration::from_secs(5);
/// Bytes that are sent in a piece.
const PIECE: usize = 64 * 1024;
/// Letters of a signature's name that are kept.
const NAME_LIMIT: usize = 200;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What the scanner says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It has found nothing.
    Clean,
    /// It is harmful.
    Infected {
        /// What the scanner calls what it has found.
        signature: String,
    },
}

/// Where the scanner is; cheap to clone.
#[derive(Debug, Clone)]
pub struct Scanner {
    address: Address,
    patience: Duration,
}

#[derive(Debug, Clone)]
enum Address {
    Tcp(String),
    Unix(PathBuf),
}

impl Scanner {
    /// At `host:port`, or `unix:/path`.
    pub fn new(address: &str) -> Result<Self> {
        let address = match address.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Some(Address::Unix(path.into())),
            Some(_) => None,
            None => address
                .rsplit_once(':')
                .filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
                .map(|_| Address::Tcp(address.to_owned())),
        };
        let address = address.ok_or_else(|| {
            Error::invalid("bad_configuration", "CLAMD_ADDRESS must be host:port, or unix: and an absolute path")
        })?;
        Ok(Self { address, patience: PATIENCE })
    }

    /// Has all of these bytes looked through. Fails with `scanner_unavailable` if nobody answers, with `no_verdict` if
    /// there is none on these bytes, and with the stream's own failure if that fails.
    pub async fn scan<S>(&self, bytes: S) -> Result<Verdict>
    where
        S: Stream<Item = Result<Bytes>> + Send,
    {
        let bytes = bytes.map_err(io::Error::other);
        let asked = async {
            match &self.address {
                Address::Tcp(address) => scan_stream(bytes, Tcp { host_address: address.as_str() }, Some(PIECE)).await,
                Address::Unix(path) => scan_stream(bytes, Socket { socket_path: path }, Some(PIECE)).await,
            }
        };
        let why: Cause = match tokio::time::timeout(self.patience, asked).await {
            Err(slow) => slow.into(),
            Ok(Ok(answer)) => match verdict(&answer) {
                Ok(verdict) => return Ok(verdict),
                Err(said) => said.into(),
            },
            // Either the scanner's connection has failed, or the store from which the bytes come.
            Ok(Err(error)) => match error.downcast::<Error>() {
                Ok(of_the_store) => return Err(of_the_store),
                Err(error) => error.into(),
            },
        };
        let undecided = || Error::new(Code::Internal, "no_verdict", "the scanner has no verdict on this attachment");
        Err(if self.is_there().await { undecided() } else { away() }.caused_by(why))
    }

    async fn is_there(&self) -> bool {
        let asked = async {
            match &self.address {
                Address::Tcp(address) => ping(Tcp { host_address: address.as_str() }).await,
                Address::Unix(path) => ping(Socket { socket_path: path }).await,
            }
        };
        matches!(tokio::time::timeout(self.patience.min(GLANCE), asked).await, Ok(Ok(answer)) if answer == PONG)
    }
}

/// What an answer says; what it is if it says nothing.
fn verdict(answer: &[u8]) -> Result<Verdict, String> {
    let text = String::from_utf8_lossy(answer);
    let text = text.trim_end_matches(['\0', '\n']);
    if let Some(found) = text.strip_suffix(" FOUND") {
        let signature = found.split_once(": ").map_or(found, |(_, signature)| signature);
        let signature = signature.chars().filter(|c| !c.is_control()).take(NAME_LIMIT).collect();
        return Ok(Verdict::Infected { signature });
    }
    if clamav_client::clean(answer).is_ok_and(|clean| clean) && text.ends_with(" OK") {
        return Ok(Verdict::Clean);
    }
    Err(format!("clamd answers {:?}", text.chars().take(NAME_LIMIT).collect::<String>()))
}

fn away() -> Error {
    Error::unavailable("scanner_unavailable", "attachments cannot be looked through right now")
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
    use tokio::net::{TcpListener, UnixListener};

    use super::*;

    /// Reads what clamd reads, to the letter, and answers with this. Returns what has been sent.
    async fn clamd<S: AsyncRead + AsyncWrite + Unpin>(mut socket: S, answer: &[u8]) -> (Vec<u8>, Vec<usize>) {
        let mut command = [0; 10];
        socket.read_exact(&mut command).await.expect("a command");
        assert_eq!(&command, b"zINSTREAM\0");
        let (mut sent, mut pieces) = (Vec::new(), Vec::new());
        loop {
            let size = usize::try_from(socket.read_u32().await.expect("a length")).expect("small");
            if size == 0 {
                break;
            }
            let begin = sent.len();
            sent.resize(begin + size, 0);
            socket.read_exact(&mut sent[begin..]).await.expect("a piece");
            pieces.push(size);
        }
        socket.write_all(answer).await.expect("written");
        socket.shutdown().await.expect("closed");
        (sent, pieces)
    }

    fn bytes(pieces: &[&'static [u8]]) -> impl Stream<Item = Result<Bytes>> + Send + use<> {
        stream::iter(pieces.iter().map(|piece| Ok(Bytes::from_static(piece))).collect::<Vec<_>>())
    }

    /// One scan against a server that answers with this.
    async fn scanned(answer: &[u8]) -> (Result<Verdict>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let scanner = Scanner::new(&listener.local_addr().expect("bound").to_string()).expect("an address");
        let server = async {
            let (socket, _) = listener.accept().await.expect("a caller");
            let sent = clamd(socket, answer).await.0;
            if verdict(answer).is_err() {
                pong(&listener).await;
            }
            sent
        };
        tokio::join!(scanner.scan(bytes(&[b"hello ", b"", b"world"])), server)
    }

    /// Says that it is there.
    async fn pong(listener: &TcpListener) {
        let (mut socket, _) = listener.accept().await.expect("a caller");
        let mut command = [0; 6];
        socket.read_exact(&mut command).await.expect("a command");
        assert_eq!(&command, b"zPING\0");
        socket.write_all(b"PONG\0").await.expect("written");
    }

    #[tokio::test]
    async fn it_says_what_the_scanner_says() {
        let (verdict, sent) = scanned(b"stream: OK\0").await;
        assert_eq!((verdict.expect("a verdict"), sent), (Verdict::Clean, b"hello world".to_vec()));
        let (verdict, _) = scanned(b"stream: Win.Test.EICAR_HDB-1 FOUND\0").await;
        assert_eq!(verdict.expect("a verdict"), Verdict::Infected { signature: "Win.Test.EICAR_HDB-1".to_owned() });
        for no_verdict in
            ["INSTREAM size limit exceeded. ERROR\0", "stream: Time limit OK reached ERROR\0", "", "\0", "stream: ok\0"]
        {
            let error = scanned(no_verdict.as_bytes()).await.0.expect_err(no_verdict);
            assert_eq!((error.reason(), error.transient()), ("no_verdict", false), "{no_verdict}");
        }
    }

    #[tokio::test]
    async fn whoever_hangs_up_on_bytes_and_is_there_has_no_verdict_on_them() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let scanner = Scanner::new(&listener.local_addr().expect("bound").to_string()).expect("an address");
        let server = async {
            drop(listener.accept().await.expect("a caller"));
            pong(&listener).await;
        };
        let (verdict, ()) = tokio::join!(scanner.scan(bytes(&[b"too ", b"large"])), server);
        assert_eq!(verdict.expect_err("none").reason(), "no_verdict");
    }

    #[tokio::test]
    async fn a_unix_socket_is_spoken_to_in_pieces() {
        static LARGE: [u8; 3 * PIECE + 1] = [7; 3 * PIECE + 1];
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("clamd.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        let scanner = Scanner::new(&format!("unix:{}", path.display())).expect("an address");
        let server = async {
            let (socket, _) = listener.accept().await.expect("a caller");
            clamd(socket, b"stream: OK\0").await
        };
        let (verdict, (sent, pieces)) = tokio::join!(scanner.scan(bytes(&[&LARGE])), server);
        assert_eq!(verdict.expect("a verdict"), Verdict::Clean);
        assert!(sent == LARGE);
        assert_eq!(pieces, [PIECE, PIECE, PIECE, 1]);
    }

    #[tokio::test]
    async fn a_scanner_that_is_away_or_slow_gives_no_verdict() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut scanner = Scanner::new(&listener.local_addr().expect("bound").to_string()).expect("an address");
        scanner.patience = Duration::from_millis(50);
        // It takes the call, and says nothing.
        let reason = |verdict: Result<Verdict>| verdict.expect_err("no verdict").reason();
        assert_eq!(reason(scanner.scan(bytes(&[b"a"])).await), "scanner_unavailable");
        drop(listener);
        assert_eq!(reason(scanner.scan(bytes(&[b"a"])).await), "scanner_unavailable");
        let nobody = Scanner::new("unix:/nonexistent/clamd.sock").expect("an address");
        assert_eq!(reason(nobody.scan(bytes(&[b"a"])).await), "scanner_unavailable");
    }

    #[tokio::test]
    async fn what_fails_in_the_store_is_the_stores_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let scanner = Scanner::new(&listener.local_addr().expect("bound").to_string()).expect("an address");
        let broken =
            stream::iter([Ok(Bytes::from_static(b"a")), Err(Error::unavailable("attachments_unavailable", "away"))]);
        assert_eq!(scanner.scan(broken).await.expect_err("broken").reason(), "attachments_unavailable");
    }

    #[test]
    fn an_address_is_a_host_and_a_port_or_a_path() {
        for good in ["127.0.0.1:3310", "clamd:3310", "[::1]:3310", "unix:/run/clamd.sock"] {
            assert!(Scanner::new(good).is_ok(), "{good}");
        }
        for bad in ["", "clamd", ":3310", "clamd:0", "clamd:port", "unix:", "unix:clamd.sock"] {
            assert_eq!(Scanner::new(bad).expect_err(bad).reason(), "bad_configuration", "{bad}");
        }
    }
}
