//! Time and randomness, handed in so that nobody reads them from thin air.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rand::RngCore as _;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use super::ids::Id;

/// The last moment that there is: the end of the year 9999. RFC 3339 has no way to write a later one.
const LAST: i64 = 253_402_300_799_999;

/// A moment in milliseconds since 1970, written as RFC 3339 in UTC with three decimals. It lies between 1970 and 9999, so
/// that each can be written, and is read back as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment this many milliseconds after 1970; the first or the last one that there is if it would be beyond.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        if millis < 0 {
            Self(0)
        } else if millis > LAST {
            Self(LAST)
        } else {
            Self(millis)
        }
    }

    /// Before anything happened here.
    #[must_use]
    pub const fn zero() -> Self {
        Self(0)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Seconds since 1970, as tokens count them.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The moment this many seconds later.
    #[must_use]
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self::from_millis(self.0.saturating_add(seconds.saturating_mul(1000)))
    }

    /// Reads RFC 3339; finer than a millisecond is cut off. What lies before 1970 or after 9999 in UTC is no time here.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        millis_of(text).filter(|millis| (0..=LAST).contains(millis)).map(Self)
    }
}

fn millis_of(text: &str) -> Option<i64> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(moment.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
        let moment =
            OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000).map_err(|_| fmt::Error)?;
        f.write_str(&moment.format(&format).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        // The log may have times from before this was bounded: an event is not lost over one of them.
        let millis = millis_of(&text).ok_or_else(|| D::Error::custom("a time in RFC 3339 is expected here"))?;
        Ok(Self::from_millis(millis))
    }
}

/// Where the current time comes from.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The machine's.
    System,
    /// A test's.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The current time.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
            Self::Manual(millis) => Timestamp::from_millis(millis.load(Ordering::Relaxed)),
        }
    }

    /// A fresh id of this moment.
    #[must_use]
    pub fn fresh_id<T>(&self) -> Id<T> {
        Id::fresh(self.now(), random_bits())
    }
}

/// 128 random bits from the thread's cryptographic generator.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that asks for randomness")]
pub fn random_bits() -> u128 {
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    u128::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_time_is_read_back_as_written() {
        let moment = Timestamp::from_millis(1_732_000_000_123);
        assert_eq!(moment.to_string(), "2024-11-19T07:06:40.123Z");
        assert_eq!(Timestamp::parse(&moment.to_string()), Some(moment));
        assert_eq!(Timestamp::parse("2024-11-19T08:06:40.123456+01:00"), Some(moment));
        assert_eq!(Timestamp::parse("yesterday"), None);
    }

    #[test]
    fn what_cannot_be_written_in_utc_is_no_time() {
        for beyond in ["0000-01-01T00:00:00+23:59", "1970-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01"] {
            assert_eq!(Timestamp::parse(beyond), None, "{beyond}");
        }
        for edge in ["1970-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"] {
            assert_eq!(Timestamp::parse(edge).map(|moment| moment.to_string()).as_deref(), Some(edge));
        }
    }

    #[test]
    fn what_the_log_has_is_read_all_the_same() {
        let read = |text: &str| serde_json::from_value::<Timestamp>(text.into()).ok();
        assert_eq!(read("1960-01-01T00:00:00Z"), Some(Timestamp::zero()));
        assert_eq!(read("9999-12-31T23:59:59-23:59").map(Timestamp::millis), Some(LAST));
        assert_eq!(read("yesterday"), None);
    }

    proptest! {
        #[test]
        fn every_moment_can_be_written_and_read(millis in any::<i64>(), seconds in any::<i64>()) {
            for moment in [Timestamp::from_millis(millis), Timestamp::from_millis(millis).plus_seconds(seconds)] {
                prop_assert_eq!(Timestamp::parse(&moment.to_string()), Some(moment));
            }
        }

        #[test]
        fn whatever_is_read_can_be_written(
            year in 0..=9999_u32, month in 1..=12_u32, day in 1..=28_u32, hour in 0..=23_u32, offset in 0..=23_u32,
            sign in prop::sample::select(vec!['+', '-']),
        ) {
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:59:59.5{sign}{offset:02}:59");
            if let Some(moment) = Timestamp::parse(&text) {
                prop_assert_eq!(Timestamp::parse(&moment.to_string()), Some(moment));
            }
        }
    }
}
