//! The world of a test: real servers, started once for all tests of this run, and an account and a database for each.

pub mod client;
pub mod commerce;
pub mod freeze;
pub mod messages;
pub mod node;
pub mod proxy;
pub mod s3;
pub mod servers;
pub mod socket;
pub mod socketio;
pub mod world;

use std::time::{Duration, Instant};

/// How long a condition may take to become true. Generous, since all tests share two cores; nothing waits it out.
pub const DEADLINE: Duration = Duration::from_secs(40);

/// Asks again and again until the answer fits; panics with the last answer.
pub async fn until<T: std::fmt::Debug>(what: &str, mut ask: impl AsyncFnMut() -> T, fits: impl Fn(&T) -> bool) -> T {
    let begin = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        let answer = ask().await;
        if fits(&answer) {
            return answer;
        }
        assert!(begin.elapsed() < DEADLINE, "{what} did not happen; the last state was {answer:#?}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
