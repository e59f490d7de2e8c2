//! Words from outside, checked once: after that the type says they are good.

use std::fmt;

use serde::Serialize;
use unicode_normalization::UnicodeNormalization as _;

use super::ids::UserId;
use crate::error::{Code, Error, Result};

/// Most characters of a message's text.
pub const TEXT_LIMIT: usize = 8_000;
/// Most characters of a display name.
pub const NAME_LIMIT: usize = 100;
/// Most characters of a conversation's title.
pub const TITLE_LIMIT: usize = 200;
/// Most characters of an e-mail address (RFC 5321: 254 octets).
pub const EMAIL_LIMIT: usize = 254;
/// Fewest characters of a password (NIST SP 800-63B asks for eight at least).
pub const PASSWORD_LEAST: usize = 8;
/// Most bytes of a password: hashing time must not be the caller's to choose.
pub const PASSWORD_LIMIT: usize = 1_024;
/// Most characters of the id that the shop knows a user by.
pub const EXTERNAL_ID_LIMIT: usize = 128;
/// Most bytes of a client's own id for a send.
pub const CLIENT_MESSAGE_ID_LIMIT: usize = 128;

/// A field that must be there.
pub fn required<T>(field: Option<T>, name: &'static str) -> Result<T> {
    field.ok_or_else(|| Error::invalid("missing_field", format!("{name} is needed")))
}

/// Whether this ends a line or turns the direction of what follows around: a name with it could pass for another one, or spill
/// over what is shown beside it.
pub(crate) fn breaks_out(c: char) -> bool {
    c.is_control() || overrides(c) || matches!(c, '\u{2028}' | '\u{2029}' | '\u{2066}'..='\u{2069}')
}

/// Whether this imposes a direction on what follows (UAX 9: embeddings and overrides). Marks and isolates do not reach beyond
/// their place; languages that are written from the right need them.
const fn overrides(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}')
}

/// Whether nothing is to be seen of this by itself: blanks, control characters, what Unicode calls default ignorable, and an
/// empty Braille cell.
fn is_unseen(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Whether there is nothing to be seen in it.
pub(crate) fn is_blank(text: &str) -> bool {
    text.chars().all(is_unseen)
}

/// What is shown in one line, composed (NFC) and trimmed.
#[must_use]
pub fn line(text: &str) -> String {
    text.trim().nfc().collect()
}

/// Whether this can be shown in one line, of so many characters at most, and there is something to be seen.
pub(super) fn is_line(text: &str, limit: usize) -> bool {
    !is_blank(text) && text.chars().count() <= limit && !text.chars().any(breaks_out)
}

macro_rules! word {
    ($name:ident) => {
        impl $name {
            /// The checked text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl From<$name> for String {
            fn from(word: $name) -> Self {
                word.0
            }
        }
    };
}

/// An e-mail address in lower case: two spellings of one address are one account.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Email(String);
word!(Email);

impl Email {
    /// Checks the shape only (something, an `@`, a domain); whether it is delivered to is another question.
    pub fn new(text: &str) -> Result<Self> {
        let text = text.trim().to_lowercase();
        let good = text.len() <= EMAIL_LIMIT
            && !text.chars().any(|c| c.is_control() || c.is_whitespace())
            && text.split_once('@').is_some_and(|(local, domain)| {
                !local.is_empty()
                    && local.len() <= 64
                    && !domain.contains('@')
                    && domain.split('.').all(|label| !label.is_empty())
            });
        if good {
            Ok(Self(text))
        } else {
            Err(Error::invalid("malformed_email", "email must be an address of at most 254 characters"))
        }
    }
}

/// A user's name as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DisplayName(String);
word!(DisplayName);

impl DisplayName {
    /// 1 to 100 characters in one line, composed (NFC) and trimmed, with something to be seen.
    pub fn new(text: &str) -> Result<Self> {
        let text = line(text);
        if !is_line(&text, NAME_LIMIT) {
            return Err(Error::invalid(
                "malformed_name",
                "name must have 1 to 100 characters that can be seen and no control characters",
            ));
        }
        Ok(Self(text))
    }

    /// One that was taken before, by whichever rules.
    #[must_use]
    pub const fn known(text: String) -> Self {
        Self(text)
    }
}

/// The name of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Title(String);
word!(Title);

impl Title {
    /// 1 to 200 characters in one line, composed (NFC) and trimmed, with something to be seen.
    pub fn new(text: &str) -> Result<Self> {
        let text = line(text);
        if !is_line(&text, TITLE_LIMIT) {
            return Err(Error::invalid(
                "malformed_title",
                "title must have 1 to 200 characters that can be seen and no control characters",
            ));
        }
        Ok(Self(text))
    }
}

/// A password on its way to be hashed; never shown, never logged.
#[derive(Clone)]
pub struct Password(String);

impl Password {
    /// At least 8 characters, at most 1,024 bytes.
    pub fn new(text: &str) -> Result<Self> {
        if text.chars().count() < PASSWORD_LEAST || text.len() > PASSWORD_LIMIT {
            return Err(Error::invalid(
                "malformed_password",
                "password must have at least 8 characters and at most 1,024 bytes",
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// The bytes to hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// The text of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MessageText(String);
word!(MessageText);

impl MessageText {
    /// 1 to 8,000 characters after composing (NFC), with something to be seen; line breaks and tabs are the only control
    /// characters, and nothing imposes a direction on what follows.
    pub fn new(text: &str) -> Result<Self> {
        // Composing never makes a text longer than it was in bytes times three, so this bound spares the work.
        if text.len() > TEXT_LIMIT * 4 * 3 {
            return Err(Self::too_long());
        }
        let text: String = text.nfc().collect();
        if is_blank(&text) {
            return Err(Error::invalid("empty_text", "text must not be empty"));
        }
        if text.chars().any(|c| overrides(c) || (c.is_control() && !matches!(c, '\n' | '\r' | '\t'))) {
            return Err(Error::invalid("control_characters", "text must not contain control characters"));
        }
        if text.chars().count() > TEXT_LIMIT {
            return Err(Self::too_long());
        }
        Ok(Self(text))
    }

    fn too_long() -> Error {
        Error::new(Code::TooLarge, "text_too_long", "text must have at most 8,000 characters")
    }
}

/// The id that the shop knows a user by, in its own systems.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct ExternalId(String);
word!(ExternalId);

impl ExternalId {
    /// 1 to 128 characters, none of them a control character, and not an id of ours: whoever is named by one would not be found
    /// by the other.
    pub fn new(text: &str) -> Result<Self> {
        let length = text.chars().count();
        let bad = length == 0 || length > EXTERNAL_ID_LIMIT || text.chars().any(char::is_control);
        if bad || text.parse::<UserId>().is_ok() {
            return Err(Error::invalid(
                "malformed_external_id",
                "externalId must have 1 to 128 characters, no control characters, and be no id of a user here",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A client's own id for a send, so that a resend is recognised.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct ClientMessageId(String);
word!(ClientMessageId);

impl ClientMessageId {
    /// 1 to 128 visible ASCII characters.
    pub fn new(text: &str) -> Result<Self> {
        let visible = text.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
        if text.is_empty() || text.len() > CLIENT_MESSAGE_ID_LIMIT || !visible {
            return Err(Error::invalid(
                "malformed_client_message_id",
                "clientMessageId must have 1 to 128 visible ASCII characters",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_email_has_one_spelling() {
        assert_eq!(Email::new(" Ana@Example.TEST ").map(String::from).ok(), Some("ana@example.test".into()));
        for bad in ["", "ana", "@example.test", "ana@", "a b@example.test", "a@b@c", "a@b..c", "a\n@b.c"] {
            assert!(Email::new(bad).is_err(), "{bad:?}");
        }
        assert!(Email::new(&format!("{}@example.test", "a".repeat(65))).is_err());
    }

    #[test]
    fn text_is_counted_in_characters_after_composing() {
        assert!(MessageText::new(&"é".repeat(TEXT_LIMIT)).is_ok());
        assert!(MessageText::new(&"e\u{301}".repeat(TEXT_LIMIT)).is_ok());
        let reason = |text: &str| MessageText::new(text).err().map(|error| error.reason());
        assert_eq!(reason(&"x".repeat(TEXT_LIMIT + 1)), Some("text_too_long"));
        assert_eq!(reason(&"😀".repeat(TEXT_LIMIT * 4)), Some("text_too_long"));
        assert_eq!(reason(" \n\t "), Some("empty_text"));
        assert_eq!(reason("a\0b"), Some("control_characters"));
        assert_eq!(reason("line\nbreak\tand tab"), None);
    }

    #[test]
    fn an_external_id_is_never_one_of_ours() {
        assert!(ExternalId::new("customer 4711/ž").is_ok() && ExternalId::new("usr_7").is_ok());
        let ours = UserId::from_bits(7).to_string();
        for bad in ["", "a\nb", &"x".repeat(129), &ours] {
            assert!(ExternalId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_nothing_and_no_name_breaks_out_of_its_line() {
        for blank in ["\u{200b}", "\u{2800}\u{3164}", "\u{2060} \u{feff}", "\u{200e}\u{200f}", "\u{fe0f}"] {
            let reason = MessageText::new(blank).err().map(|error| error.reason());
            assert_eq!(reason, Some("empty_text"), "{blank:?}");
            assert!(DisplayName::new(blank).is_err() && Title::new(blank).is_err(), "{blank:?}");
        }
        for c in ['\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}', '\u{2028}', '\u{2029}', '\n', '\u{7}'] {
            let name = format!("Ana{c}nimda");
            assert!(DisplayName::new(&name).is_err() && Title::new(&name).is_err(), "{c:?}");
        }
        assert!(MessageText::new("a\u{202e}b").is_err());
        // Persian, a name written from the right beside one that is not, an emoji of several, a flag.
        for good in
            ["می\u{200c}خواهم", "\u{200f}דן\u{200e} Dan", "👩\u{200d}👧\u{fe0f}", "🏴\u{e0067}\u{e0062}\u{e007f}"]
        {
            assert!(MessageText::new(good).is_ok() && DisplayName::new(good).is_ok(), "{good:?}");
        }
        assert!(MessageText::new("\u{2068}Dan\u{2069} says").is_ok(), "isolates reach no further than they say");
    }

    #[test]
    fn a_password_is_never_printed() {
        let password = Password::new("correct horse").expect("long enough");
        assert_eq!(format!("{password:?}"), "Password(..)");
        assert!(Password::new("short").is_err());
    }
}
