//! Tokens: a short-lived JWT that says who is calling, and an opaque refresh token that gets a new one.

use std::fmt;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::actor::{Actor, expired};
use crate::domain::clock::Timestamp;
use crate::domain::ids::{self, UserId};
use crate::domain::user::{Role, User};
use crate::error::{Code, Error, Result};

/// Who may be addressed by our tokens; a token of another product of the same shop is none of ours.
const AUDIENCE: &str = "shoptalk";

/// Makes and reads access tokens (JWT, HS256).
pub struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    /// Seconds an access token is good for.
    lifetime: u32,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: UserId,
    aud: String,
    name: Box<str>,
    role: Role,
    iat: i64,
    exp: i64,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(..)")
    }
}

impl Tokens {
    /// Tokens signed with this secret, good for this many seconds.
    #[must_use]
    pub fn new(secret: &[u8], lifetime: u32) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        // Expiry is checked against our own clock, below.
        validation.validate_exp = false;
        validation.leeway = 0;
        Self {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
            validation,
            lifetime,
        }
    }

    /// Seconds an access token is good for.
    #[must_use]
    pub const fn lifetime(&self) -> u32 {
        self.lifetime
    }

    /// An access token for this user.
    pub fn issue(&self, user: &User, now: Timestamp) -> Result<String> {
        let claims = Claims {
            sub: user.id,
            aud: AUDIENCE.into(),
            name: user.name.as_str().into(),
            role: user.role,
            iat: now.seconds(),
            exp: now.seconds() + i64::from(self.lifetime),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding).map_err(Error::internal)
    }

    /// Who this token speaks for.
    pub fn read(&self, token: &str, now: Timestamp) -> Result<Actor> {
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation)
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => expired(),
                _ => Error::new(Code::Unauthenticated, "bad_token", "the token is not one of ours").caused_by(error),
            })?
            .claims;
        let expires_at = Timestamp::from_millis(claims.exp.saturating_mul(1000));
        if now >= expires_at {
            return Err(expired());
        }
        Ok(Actor { user_id: claims.sub, name: claims.name, role: claims.role, expires_at })
    }
}

/// The answer to a call without a token.
#[must_use]
pub fn missing() -> Error {
    Error::new(Code::Unauthenticated, "missing_token", "a bearer token is needed here")
}

/// A refresh token: 256 random bits that only their owner has; we keep a hash.
pub struct RefreshToken(String);

impl RefreshToken {
    /// A new one from two random numbers.
    #[must_use]
    pub fn new(random: [u128; 2]) -> Self {
        let [high, low] = random.map(|bits| String::from_utf8_lossy(&ids::encode(bits)).into_owned());
        Self(format!("rt_{high}{low}"))
    }

    /// What a client sent back.
    #[must_use]
    pub fn sent(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// What the client keeps.
    #[must_use]
    pub fn shown(self) -> String {
        self.0
    }

    /// What we keep. The token is random, so a plain SHA-256 is enough.
    #[must_use]
    pub fn hash(&self) -> String {
        use std::fmt::Write as _;
        Sha256::digest(self.0.as_bytes()).iter().fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::words::{DisplayName, Email};

    fn user() -> User {
        User {
            id: UserId::from_bits(1),
            name: DisplayName::new("Ana").expect("a name"),
            email: Email::new("ana@example.test").expect("an address"),
            role: Role::Buyer,
            created_at: Timestamp::from_millis(0),
            external_id: None,
            last_seen_at: None,
        }
    }

    fn reason(result: Result<Actor>) -> Option<&'static str> {
        result.err().map(|error| error.reason())
    }

    #[test]
    fn a_token_speaks_for_its_user_until_it_expires() {
        let tokens = Tokens::new(b"a secret of thirty-two characters", 60);
        let start = Timestamp::from_millis(1_700_000_000_000);
        let token = tokens.issue(&user(), start).expect("a token");
        let actor = tokens.read(&token, start.plus_seconds(59)).expect("still good");
        assert_eq!((actor.user_id, &*actor.name, actor.role), (user().id, "Ana", Role::Buyer));
        assert_eq!(reason(tokens.read(&token, start.plus_seconds(60))), Some("token_expired"));
        assert!(actor.check_expiry(start.plus_seconds(60)).is_err());
    }

    #[test]
    fn a_token_of_another_secret_or_no_token_at_all_is_refused() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let tokens = Tokens::new(b"a secret of thirty-two characters", 60);
        let other = Tokens::new(b"another secret of thirty-two chars", 60).issue(&user(), now).expect("a token");
        assert_eq!(reason(tokens.read(&other, now)), Some("bad_token"));
        assert_eq!(reason(tokens.read("", now)), Some("bad_token"));
        // {"alg":"none"} with the same claims.
        let good = tokens.issue(&user(), now).expect("a token");
        let claims = good.split('.').nth(1).expect("three parts");
        assert_eq!(reason(tokens.read(&format!("eyJhbGciOiJub25lIn0.{claims}."), now)), Some("bad_token"));
    }

    #[test]
    fn refresh_tokens_are_long_and_kept_as_hashes() {
        let token = RefreshToken::new([1, 2]);
        let hash = token.hash();
        let shown = token.shown();
        assert_eq!(shown.len(), 55);
        assert_eq!(RefreshToken::sent(&shown).hash(), hash);
        assert!(!hash.contains(&shown));
    }
}
