//! The one error of the crate: what a program may act on, what a person may read, and what only the log sees.
//!
//! Every edge (REST, Socket.IO, WebSocket) renders the same body from it, see [`Body`]; the log gets the source.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// The result of anything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync>;

/// What a program can do about a failure; nine words that never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request is wrong and will stay wrong.
    Invalid,
    /// No identity, or one that is no longer good.
    Unauthenticated,
    /// A known identity without the right to do this.
    Forbidden,
    /// It does not exist, or not for this caller.
    NotFound,
    /// It contradicts what is already there.
    Conflict,
    /// Larger than the limit.
    TooLarge,
    /// Too many requests; wait and try again.
    RateLimited,
    /// A part that is needed is away; try again.
    Unavailable,
    /// A fault of ours.
    Internal,
}

impl Code {
    /// The HTTP status that stands for this code.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::RateLimited => 429,
            Self::Internal => 500,
            Self::Unavailable => 503,
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn transient(self) -> bool {
        match self {
            Self::RateLimited | Self::Unavailable => true,
            Self::Invalid
            | Self::Unauthenticated
            | Self::Forbidden
            | Self::NotFound
            | Self::Conflict
            | Self::TooLarge
            | Self::Internal => false,
        }
    }

    /// The word itself, as on the wire.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }
}

/// A failure. `shown` may reach a client, `source` never does.
pub struct Error {
    code: Code,
    reason: &'static str,
    shown: Cow<'static, str>,
    retry_after: Option<Duration>,
    source: Option<Source>,
}

impl Error {
    /// A failure with its stable `reason` (`snake_case`) and a sentence for people.
    pub fn new(code: Code, reason: &'static str, shown: impl Into<Cow<'static, str>>) -> Self {
        Self { code, reason, shown: shown.into(), retry_after: None, source: None }
    }

    /// The request is wrong: [`Code::Invalid`].
    pub fn invalid(reason: &'static str, shown: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Invalid, reason, shown)
    }

    /// Something that is needed is away: [`Code::Unavailable`].
    pub fn unavailable(reason: &'static str, shown: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unavailable, reason, shown)
    }

    /// A fault of ours; the client reads only that there was one.
    pub fn internal(source: impl Into<Source>) -> Self {
        Self::new(Code::Internal, "internal", "something went wrong on our side").caused_by(source)
    }

    /// Keeps the cause for the log.
    #[must_use]
    pub fn caused_by<S: Into<Source>>(mut self, source: S) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Tells the client how long to wait before trying again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// What the person who started the process reads: the sentence, and for a fault of ours its cause.
    #[must_use]
    pub fn told(&self) -> String {
        match &self.source {
            Some(source) if self.code == Code::Internal => source.to_string(),
            Some(source) => format!("{} ({source})", self.shown),
            None => self.shown.to_string(),
        }
    }

    /// The same failure for somebody else it also concerns, without its source.
    #[must_use]
    pub fn echo(&self) -> Self {
        Self {
            code: self.code,
            reason: self.reason,
            shown: self.shown.clone(),
            retry_after: self.retry_after,
            source: None,
        }
    }

    /// What a program can act on.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The stable, finer name of what happened.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        self.reason
    }

    /// The sentence for people.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// How long the client should wait, if that is known.
    #[must_use]
    pub const fn wait(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The HTTP status of this failure.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.code.status()
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn transient(&self) -> bool {
        self.code.transient()
    }

    /// The body that every edge shows.
    #[must_use]
    pub fn body(&self) -> Body<'_> {
        Body {
            code: self.code,
            reason: self.reason,
            message: &self.shown,
            retryable: self.transient(),
            retry_after_ms: self.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

/// What a client reads about a failure, the same on REST and on sockets.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Body<'a> {
    /// One of nine words.
    pub code: Code,
    /// The stable, finer name of what happened.
    pub reason: &'a str,
    /// A sentence for people.
    pub message: &'a str,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// How long to wait before that, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.shown)?;
        let mut next = self.source.as_ref().map(|source| source.as_ref() as &dyn StdError);
        while let Some(source) = next {
            write!(f, ": {source}")?;
            next = source.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {self}", self.code.word())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_never_shows_the_source() {
        let error = Error::internal("password=hunter2");
        let body = serde_json::to_string(&error.body()).expect("a body is JSON");
        assert!(!body.contains("hunter2"), "{body}");
        assert!(error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn a_wait_is_told_in_milliseconds() {
        let error =
            Error::new(Code::RateLimited, "too_many_logins", "slow down").retry_after(Duration::from_millis(1500));
        let body = serde_json::to_value(error.body()).expect("a body is JSON");
        assert_eq!(body["retryAfterMs"], 1500);
        assert_eq!(body["retryable"], true);
        assert_eq!(body["code"], "rate_limited");
    }
}
