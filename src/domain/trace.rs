//! Trace context (W3C Trace Context, version 00): which request caused what, across processes.

use std::fmt;
use std::str::FromStr;

/// The `traceparent` of a request, a socket event or a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The whole chain.
    pub trace: u128,
    /// This link.
    pub span: u64,
    /// Whether the chain is recorded.
    pub sampled: bool,
}

impl TraceContext {
    /// The first link of a new chain.
    #[must_use]
    pub fn root(random: u128) -> Self {
        let span = u64::try_from(random >> 64).unwrap_or(1).max(1);
        Self { trace: random.max(1), span, sampled: true }
    }

    /// The next link of this chain.
    #[must_use]
    pub fn child(self, random: u128) -> Self {
        let span = u64::try_from(random & u128::from(u64::MAX)).unwrap_or(1).max(1);
        Self { span, ..self }
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

impl FromStr for TraceContext {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut fields = text.trim().split('-');
        let mut field = |digits: usize| {
            fields.next().filter(|field| {
                field.len() == digits && field.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            })
        };
        let (version, trace, span, flags) =
            (field(2).ok_or(())?, field(32).ok_or(())?, field(16).ok_or(())?, field(2).ok_or(())?);
        let trace = u128::from_str_radix(trace, 16).map_err(drop)?;
        let span = u64::from_str_radix(span, 16).map_err(drop)?;
        let flags = u8::from_str_radix(flags, 16).map_err(drop)?;
        // Version ff is forbidden; later versions may carry more fields, which we leave alone.
        if version == "ff" || trace == 0 || span == 0 {
            return Err(());
        }
        Ok(Self { trace, span, sampled: flags & 1 == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_standard_is_read_and_written() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context: TraceContext = text.parse().expect("the standard's example");
        assert_eq!(context.to_string(), text);
        assert_eq!(context.child(1).trace, context.trace);
        for bad in ["", "00", "00-0-0-0", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"] {
            assert!(bad.parse::<TraceContext>().is_err(), "{bad}");
        }
    }
}
