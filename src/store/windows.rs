//! Windows: a stretch of a conversation, in pieces of the log that grow.
//!
//! A query for the nearest messages of a conversation has a limit, and an index in the right order; a database that
//! collects the keys of the whole range first takes as long as the conversation is all the same. So the range is bounded
//! too: a window of the log next to where the stretch begins, and the next one, eight times as wide, only if that had
//! not enough. A busy conversation has a page in the first; a quiet one in a busy log takes a few short queries.

use super::messages::Stretch;

/// Places of the first window.
const FIRST: u64 = 1_000;
/// Each further one is so many times as wide.
const WIDER: u64 = 8;

/// A piece of the log, without its edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Behind this seq.
    pub after: u64,
    /// Before this seq, if it has an end.
    pub before: Option<u64>,
}

/// The windows of a stretch behind `from`, the nearest first; together they leave out nothing. `head` is about where the
/// conversation ends: what is behind it is in the first window of what is newest, and in the last one of what comes after.
pub fn windows(from: u64, stretch: Stretch, head: u64) -> impl Iterator<Item = Window> {
    let (mut width, mut next) = (FIRST, Some(begin(from, stretch)));
    let upwards = matches!(stretch, Stretch::After(_));
    std::iter::from_fn(move || {
        let edge = next?;
        let window = if upwards {
            let after = edge.unwrap_or(from);
            let before = after.saturating_add(width).saturating_add(1);
            Window { after, before: Some(before).filter(|before| *before <= head) }
        } else {
            let end = edge.unwrap_or_else(|| head.saturating_add(1));
            Window { after: end.saturating_sub(width).saturating_sub(1).max(from), before: edge }
        };
        next = if upwards {
            window.before.map(|before| Some(before - 1))
        } else {
            (window.after > from).then_some(Some(window.after + 1))
        };
        width = width.saturating_mul(WIDER);
        Some(window)
    })
}

/// Where the first window begins: the edge next to it, if the stretch has one.
fn begin(from: u64, stretch: Stretch) -> Option<u64> {
    match stretch {
        Stretch::Newest => None,
        Stretch::Before(edge) => Some(edge),
        Stretch::After(edge) => Some(edge.max(from)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stretch() -> impl Strategy<Value = Stretch> {
        let edge = 0..200_000_u64;
        prop_oneof![Just(Stretch::Newest), edge.clone().prop_map(Stretch::Before), edge.prop_map(Stretch::After),]
    }

    /// Whether a place belongs to a stretch.
    fn belongs(seq: u64, from: u64, stretch: Stretch) -> bool {
        seq > from
            && match stretch {
                Stretch::Newest => true,
                Stretch::Before(edge) => seq < edge,
                Stretch::After(edge) => seq > edge,
            }
    }

    fn has(window: Window, seq: u64) -> bool {
        seq > window.after && window.before.is_none_or(|before| seq < before)
    }

    proptest! {
        #[test]
        fn every_place_of_a_stretch_is_in_exactly_one_window(
            from in 0..150_000_u64, stretch in stretch(), head in 0..200_000_u64, seq in 1..250_000_u64,
        ) {
            let all: Vec<Window> = windows(from, stretch, head).collect();
            prop_assert!(all.len() <= 6, "{all:?}");
            let count = all.iter().filter(|window| has(**window, seq)).count();
            prop_assert_eq!(count, usize::from(belongs(seq, from, stretch)), "{:?}", all);
        }

        #[test]
        fn the_nearest_window_is_first(from in 0..1_000_u64, edge in 2_000..150_000_u64, head in 100_000..200_000_u64) {
            for stretch in [Stretch::Newest, Stretch::Before(edge), Stretch::After(edge)] {
                let all: Vec<Window> = windows(from, stretch, head).collect();
                let in_order = all.windows(2).all(|two| match stretch {
                    Stretch::After(_) => two[0].before.is_some_and(|before| before == two[1].after + 1),
                    _ => two[1].before == Some(two[0].after + 1),
                });
                prop_assert!(in_order, "{all:?}");
            }
        }
    }

    #[test]
    fn a_log_of_any_length_takes_a_few_windows() {
        for stretch in [Stretch::Newest, Stretch::Before(u64::MAX), Stretch::After(0)] {
            assert!(windows(0, stretch, 1_000_000_000_000).count() <= 21, "{stretch:?}");
        }
        assert_eq!(windows(9, Stretch::Newest, 0).count(), 1, "an empty log");
    }
}
