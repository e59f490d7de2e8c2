//! Bytes on their way to somebody who takes them at their own pace, or not at all.
//!
//! Nobody is asked whether they still want them: a client that stops reading says nothing, and the server under us does not ask
//! for more meanwhile. So a task of its own hands them on piece by piece, and gives up on whoever takes none for a while. It
//! reads the next piece while the one before is sent.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Blobs, Pieces};
use crate::lifecycle::Lifecycle;

/// So long somebody may take nothing.
const PATIENCE: Duration = Duration::from_mins(1);

impl Blobs {
    /// Hands these bytes on as they are taken. What is held for it is dropped once there are no more, or nobody takes them: then
    /// they end before their end.
    #[must_use]
    pub fn give<H: Send + 'static>(&self, pieces: Pieces, held: H) -> Pieces {
        give(&self.0.lifecycle, pieces, held)
    }
}

fn give<H: Send + 'static>(lifecycle: &Lifecycle, mut pieces: Pieces, held: H) -> Pieces {
    let (giving, taking) = mpsc::channel(1);
    lifecycle.job(async move {
        let _held = held;
        while let Some(piece) = pieces.next().await {
            let is_taken = timeout(PATIENCE, giving.send(piece)).await;
            if !matches!(is_taken, Ok(Ok(()))) {
                return;
            }
        }
    });
    stream::unfold(taking, |mut taking| async move { taking.recv().await.map(|piece| (piece, taking)) }).boxed()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use futures_util::TryStreamExt as _;

    use super::*;
    use crate::error::Error;

    fn endless() -> Pieces {
        stream::repeat_with(|| Ok(Bytes::from_static(b"piece"))).boxed()
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_nothing_is_given_up() {
        let (lifecycle, held) = (Lifecycle::new(), Arc::new(()));
        let mut given = give(&lifecycle, endless(), held.clone());
        for _ in 0..10 {
            tokio::time::sleep(PATIENCE / 60 * 59).await;
            given.next().await.expect("slow, but it goes on").expect("a piece");
        }
        assert_eq!(Arc::strong_count(&held), 2);
        tokio::time::sleep(PATIENCE + Duration::from_secs(1)).await;
        assert_eq!(Arc::strong_count(&held), 1);
        assert!(given.try_collect::<Vec<_>>().await.expect("what was on its way").len() < 3, "and no more");
    }

    #[tokio::test(start_paused = true)]
    async fn everything_is_handed_on_and_then_nothing_is_held() {
        let (lifecycle, held) = (Lifecycle::new(), Arc::new(()));
        let failing = stream::iter([Ok(Bytes::from_static(b"a")), Err(Error::internal("the store"))]).boxed();
        let given: Vec<_> = give(&lifecycle, failing, held.clone()).collect().await;
        assert!(matches!(&given[..], [Ok(one), Err(_)] if one == "a"));
        let whole = give(&lifecycle, endless().take(100).boxed(), held.clone());
        assert_eq!(whole.try_collect::<Vec<_>>().await.expect("all of it").len(), 100);
        // And of what is dropped before its end.
        drop(give(&lifecycle, endless(), held.clone()));
        assert!(lifecycle.finished(Duration::from_secs(1)).await);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
