//! The tie between a database and its object store, which the sweep asks for before it takes away what no record knows.
//!
//! To another database, one that was emptied, or that of somebody else who has the same bucket, every object is one that no
//! record knows. So both have the same word, made once. Who has none, or another one, is a stranger: nothing is deleted then,
//! until somebody who knows better has removed both.

use crate::blob::{Blobs, OWNER};
use crate::domain::clock::random_bits;
use crate::error::Result;
use crate::store::Store;
use crate::store::meta::Tie;

/// What both say of each other.
#[derive(Debug, PartialEq, Eq)]
enum Tied<'a> {
    /// They belong together.
    Yes,
    /// Neither has a word.
    NotYet,
    /// The database has one that is not in the store: whoever tied them did not get there, or not to the end.
    Begun(&'a str),
    /// The end of that is not noted.
    Ending(&'a str),
    /// They do not.
    No,
}

fn judge<'a>(tie: Option<&'a Tie>, owner: Option<&str>) -> Tied<'a> {
    match (tie, owner) {
        (None, None) => Tied::NotYet,
        (Some(tie), None) if tie.begun => Tied::Begun(&tie.owner),
        (Some(tie), Some(owner)) if tie.owner == owner && tie.begun => Tied::Ending(&tie.owner),
        (Some(tie), Some(owner)) if tie.owner == owner => Tied::Yes,
        _ => Tied::No,
    }
}

/// Whether this store belongs to this database. Two that belong to nobody are tied, and belong together from the next time on:
/// somebody else may do the same at the same moment, and then it is seen who was last.
pub(super) async fn belongs(store: &Store, blobs: &Blobs) -> Result<bool> {
    // What goes with this process is nobody else's.
    if blobs.is_fleeting() {
        return Ok(true);
    }
    let (tie, owner) = (store.tie().await?, blobs.owner().await?);
    match judge(tie.as_ref(), owner.as_deref()) {
        Tied::Yes => Ok(true),
        Tied::NotYet => {
            if let Some(tie) = store.begin_tie(&format!("{:032x}", random_bits())).await? {
                blobs.set_owner(&tie.owner).await?;
            }
            Ok(false)
        }
        Tied::Begun(word) => blobs.set_owner(word).await.map(|()| false),
        Tied::Ending(word) => store.end_tie(word).await.map(|()| true),
        Tied::No => {
            tracing::warn!(
                database.word = tie.as_ref().map_or("", |tie| &tie.owner),
                store.word = owner.as_deref().unwrap_or_default(),
                "this attachment store is not known to belong to this database, so nothing in it is taken for left over; \
                 if it does, remove the object {OWNER} from the store and the document attachments from the collection \
                 meta: the next sweep ties them"
            );
            Ok(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_with_the_same_word_belong_together() {
        let tied = Tie { owner: "a".into(), begun: false };
        let begun = Tie { owner: "a".into(), begun: true };
        assert_eq!(judge(Some(&tied), Some("a")), Tied::Yes);
        assert_eq!(judge(None, None), Tied::NotYet);
        // Cut off behind each step of it, it goes on.
        assert_eq!(judge(Some(&begun), None), Tied::Begun("a"));
        assert_eq!(judge(Some(&begun), Some("a")), Tied::Ending("a"));
        for (tie, owner) in [
            (Some(&tied), Some("b")),
            (Some(&begun), Some("b")),
            // Another store, and another database.
            (Some(&tied), None),
            (None, Some("a")),
            (Some(&tied), Some("")),
        ] {
            assert_eq!(judge(tie, owner), Tied::No, "{tie:?} {owner:?}");
        }
    }
}
