//! Links: addresses that say by themselves who may use them, for what, and until when. For places that cannot carry a token,
//! such as `<img>`.
//!
//! A link names a user, and counts no more than they do: whoever serves it asks again what that user may see. It is signed
//! with HMAC-SHA-256 (RFC 2104) by a key that is derived from the secret of the tokens and is good for nothing else.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::domain::clock::Timestamp;
use crate::domain::ids::{AttachmentId, UserId};
use crate::error::{Code, Error, Result};

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To get the bytes of an attachment.
    Download,
    /// To bring them.
    Upload,
}

/// A link that somebody has come with.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// Whom it names.
    pub user: &'a str,
    /// Until when, in seconds since 1970.
    pub expires: i64,
    /// The signature.
    pub signature: &'a str,
}

/// Makes and checks links; cheap to clone.
#[derive(Clone)]
pub struct Links {
    keyed: Hmac<Sha256>,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Links(..)")
    }
}

fn keyed(key: &[u8]) -> Result<Hmac<Sha256>> {
    Hmac::new_from_slice(key).map_err(|error| Error::internal(error.to_string()))
}

fn bad_signature() -> Error {
    Error::new(Code::Forbidden, "bad_signature", "this link is not one of ours, or was changed")
}

impl Links {
    /// Links that are signed by a key of their own, which follows from this secret.
    pub fn new(secret: &[u8]) -> Result<Self> {
        let mut derive = keyed(secret)?;
        derive.update(b"shoptalk links 1");
        Ok(Self { keyed: keyed(&derive.finalize().into_bytes())? })
    }

    fn mac(&self, purpose: Purpose, id: AttachmentId, user: UserId, expires: i64) -> Hmac<Sha256> {
        let mut mac = self.keyed.clone();
        let purpose = match purpose {
            Purpose::Download => "download",
            Purpose::Upload => "upload",
        };
        // No part can have a line break in it.
        mac.update(format!("{purpose}\n{id}\n{user}\n{expires}").as_bytes());
        mac
    }

    /// The query of a link.
    #[must_use]
    pub fn query(&self, purpose: Purpose, id: AttachmentId, user: UserId, until: Timestamp) -> String {
        let expires = until.millis().div_euclid(1_000);
        let signature = URL_SAFE_NO_PAD.encode(self.mac(purpose, id, user, expires).finalize().into_bytes());
        format!("user={user}&expires={expires}&signature={signature}")
    }

    /// Whom a link names, if it is one of ours and still good.
    pub fn check(&self, purpose: Purpose, id: AttachmentId, link: Presented<'_>, now: Timestamp) -> Result<UserId> {
        let user: UserId = link.user.parse().map_err(|_| bad_signature())?;
        let signature = URL_SAFE_NO_PAD.decode(link.signature).map_err(|_| bad_signature())?;
        // Compared in constant time; and first of all, so that nobody learns anything about others.
        self.mac(purpose, id, user, link.expires).verify_slice(&signature).map_err(|_| bad_signature())?;
        if now.millis().div_euclid(1_000) >= link.expires {
            return Err(Error::new(Code::Forbidden, "expired_signature", "this link is too old, get another one"));
        }
        Ok(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: AttachmentId = AttachmentId::from_bits(1);
    const ANA: UserId = UserId::from_bits(2);
    const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_500);

    fn reason(links: &Links, purpose: Purpose, id: AttachmentId, query: &str, now: Timestamp) -> &'static str {
        let field = |name: &str| {
            let pair = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            pair.expect("a field")
        };
        let expires = field("expires").parse().expect("a number");
        let link = Presented { user: field("user"), expires, signature: field("signature") };
        links.check(purpose, id, link, now).map_or_else(|error| error.reason(), |_| "good")
    }

    #[test]
    fn a_link_is_good_for_one_thing_and_a_while() {
        let links = Links::new(b"a secret of thirty-two characters").expect("links");
        let query = links.query(Purpose::Download, ID, ANA, NOW.plus_seconds(60));
        let reason = |purpose, id, query: &str, now| reason(&links, purpose, id, query, now);
        assert_eq!(reason(Purpose::Download, ID, &query, NOW), "good");
        assert_eq!(reason(Purpose::Download, ID, &query, NOW.plus_seconds(59)), "good");
        assert_eq!(reason(Purpose::Download, ID, &query, NOW.plus_seconds(60)), "expired_signature");
        assert_eq!(reason(Purpose::Upload, ID, &query, NOW), "bad_signature");
        assert_eq!(reason(Purpose::Download, AttachmentId::from_bits(9), &query, NOW), "bad_signature");
        let other = query.replace(&ANA.to_string(), &UserId::from_bits(9).to_string());
        assert_eq!(reason(Purpose::Download, ID, &other, NOW), "bad_signature");
        let later = query.replace("expires=17950000", "expires=17990000");
        assert_ne!(later, query);
        assert_eq!(reason(Purpose::Download, ID, &later, NOW), "bad_signature");
        let cut = query.strip_suffix(|_: char| true).expect("a signature");
        assert_eq!(reason(Purpose::Download, ID, cut, NOW), "bad_signature");
    }

    #[test]
    fn another_secret_makes_other_links() {
        let query = Links::new(b"one").expect("links").query(Purpose::Download, ID, ANA, NOW.plus_seconds(60));
        assert_eq!(reason(&Links::new(b"two").expect("links"), Purpose::Download, ID, &query, NOW), "bad_signature");
    }
}
