//! Emoji that can be put on a message.

use std::fmt;

use crate::error::{Error, Result};

/// One emoji of the Unicode list, in its one full spelling, so that a heart with and without a variation selector are the
/// same reaction. The list bounds its length: the longest one has 35 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Emoji(&'static str);

impl Emoji {
    /// Exactly one emoji: no letters, no two of them, nothing that merely looks like one.
    pub fn new(text: &str) -> Result<Self> {
        emojis::get(text)
            .map(|emoji| Self(emoji.as_str()))
            .ok_or_else(|| Error::invalid("malformed_emoji", "emoji must be exactly one emoji"))
    }

    /// Its text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Emoji {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emoji_has_one_spelling() {
        let heart = Emoji::new("\u{2764}").expect("a heart");
        assert_eq!(Emoji::new("\u{2764}\u{fe0f}").ok(), Some(heart));
        assert_eq!(heart.as_str(), "\u{2764}\u{fe0f}");
        for good in ["👍", "👍🏽", "👨‍👩‍👧", "🇨🇿", "1️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"] {
            assert_eq!(Emoji::new(good).map(Emoji::as_str).ok(), Some(good));
        }
    }

    #[test]
    fn nothing_else_is_an_emoji() {
        for bad in ["", " ", "a", "ok", "1", "é", "👍👍", "👍 ", "👍a", "\u{200d}", "\u{fe0f}", "🏽x", ":+1:", "\0"]
        {
            assert_eq!(Emoji::new(bad).err().map(|error| error.reason()), Some("malformed_emoji"), "{bad:?}");
        }
        let longest = emojis::iter().map(|emoji| emoji.as_str().len()).max();
        assert!(longest.is_some_and(|bytes| bytes <= 35), "{longest:?}");
    }
}
