//! Whose store this is: a word at its root, so that nobody takes away what belongs to somebody else.

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::Blobs;
use crate::error::Result;

/// Where it says so.
pub const KEY: &str = "shoptalk-owner";
/// What is longer than this is none of our words.
const WORD: usize = 128;

impl Blobs {
    /// Whether everything in it goes with this process.
    #[must_use]
    pub fn is_fleeting(&self) -> bool {
        self.0.shown.starts_with("memory:")
    }

    /// Whose it is; nothing if it does not say.
    pub async fn owner(&self) -> Result<Option<String>> {
        let Some(mut pieces) = self.read(KEY, None).await? else { return Ok(None) };
        let mut word = Vec::new();
        while let Some(piece) = pieces.try_next().await? {
            word.extend_from_slice(&piece);
            if word.len() > WORD {
                word.truncate(WORD);
                break;
            }
        }
        Ok(Some(String::from_utf8_lossy(&word).trim().to_owned()))
    }

    /// Says whose it is from now on.
    pub async fn set_owner(&self, owner: &str) -> Result<()> {
        self.put(KEY, Bytes::from(format!("{owner}\n")), "text/plain").await
    }
}
