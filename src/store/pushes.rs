//! `pushes`: which instance has put which message in line for whose sockets. For traces only: notes may be missing, and
//! nothing else is made of them.
//!
//! A note goes by the place of its message and its instance, so that those of a message are next to each other in the index
//! of `_id` and need no other one.

use futures_util::TryStreamExt as _;
use mongodb::bson::{DateTime, doc};
use mongodb::error::{Error as MongoError, ErrorKind};
use mongodb::options::{Acknowledgment, CollectionOptions, WriteConcern};
use serde::{Deserialize, Serialize};

use super::{DUPLICATE_KEY, Store, stored_time, time};
use crate::domain::clock::Timestamp;
use crate::domain::ids::{InstanceId, UserId};
use crate::domain::push::Kept;
use crate::error::Result;

const NAME: &str = "pushes";
/// Notes of one message that are read, at most.
const READ: i64 = 1_000;
const DAY: i64 = 86_400;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PushDocument {
    #[serde(rename = "_id")]
    id: String,
    instance: InstanceId,
    users: Vec<UserId>,
    /// Those who did not show the sender that they were there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    hidden: Vec<UserId>,
    at: DateTime,
    expires_at: DateTime,
}

/// A message was put in line for the sockets of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted {
    /// Whose.
    pub user_id: UserId,
    /// By which instance.
    pub instance: InstanceId,
    /// When.
    pub at: Timestamp,
    /// They did not show the sender that they were there.
    pub hidden: bool,
}

/// Of what is told again and again to somebody who comes and goes, the first time is kept.
fn id_of(Kept { push, hidden }: &Kept, instance: InstanceId) -> String {
    match push.users.iter().chain(hidden).next() {
        Some(user) if push.replayed => format!("{}:{instance}:{user}", push.seq),
        _ => format!("{}:{instance}", push.seq),
    }
}

impl Store {
    /// Keeps notes of an instance for some days. One that is there already stays as it is.
    pub async fn note_pushes(&self, instance: InstanceId, pushes: &[Kept], days: u32) -> Result<()> {
        let document = |kept: &Kept| PushDocument {
            id: id_of(kept, instance),
            instance,
            users: kept.push.users.to_vec(),
            hidden: kept.hidden.to_vec(),
            at: stored_time(kept.push.at),
            expires_at: stored_time(kept.push.at.plus_seconds(i64::from(days) * DAY)),
        };
        // Nobody waits for a note to be safe from a change of primary.
        let concern = WriteConcern::builder().w(Acknowledgment::Nodes(1)).build();
        let options = CollectionOptions::builder().write_concern(concern).build();
        let notes = self.database.collection_with_options::<PushDocument>(NAME, options);
        let documents: Vec<PushDocument> = pushes.iter().map(document).collect();
        let inserted = async {
            match notes.insert_many(documents).ordered(false).await {
                Err(error) if !only_known(&error) => Err(error),
                _ => Ok(()),
            }
        };
        self.write(inserted).await
    }

    /// Whose sockets the message at a place in the log was put in line for, the first ones first.
    pub async fn pushes_of(&self, seq: u64) -> Result<Vec<Noted>> {
        // Behind a colon comes a semicolon.
        let filter = doc! { "_id": { "$gte": format!("{seq}:"), "$lt": format!("{seq};") } };
        let notes = self.collection::<PushDocument>(NAME);
        let found = self.read(async { notes.find(filter).limit(READ).await?.try_collect::<Vec<_>>().await }).await?;
        let noted = |note: PushDocument| {
            let (instance, at) = (note.instance, time(note.at));
            let shown = note.users.into_iter().map(|user_id| (user_id, false));
            let all = shown.chain(note.hidden.into_iter().map(|user_id| (user_id, true)));
            all.map(move |(user_id, hidden)| Noted { user_id, instance, at, hidden })
        };
        let mut all: Vec<Noted> = found.into_iter().flat_map(noted).collect();
        all.sort_unstable_by_key(|one| (one.at, one.instance));
        Ok(all)
    }
}

/// Whether nothing was wrong but that some were there already.
fn only_known(error: &MongoError) -> bool {
    match &*error.kind {
        ErrorKind::InsertMany(failed) if failed.write_concern_error.is_none() => {
            failed.write_errors.as_ref().is_some_and(|errors| errors.iter().all(|one| one.code == DUPLICATE_KEY))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::domain::push::Push;

    #[test]
    fn notes_of_a_message_are_next_to_each_other() {
        let here = InstanceId::from_bits(1);
        let (sender_id, at) = (UserId::from_bits(3), Timestamp::from_millis(0));
        let push = |seq, replayed| {
            Push { seq, sender_id, users: smallvec![UserId::from_bits(2)], at, replayed }.part(|_| true)
        };
        for replayed in [false, true] {
            let id = id_of(&push(12, replayed), here);
            assert!(id.as_str() >= "12:" && id.as_str() < "12;", "{id}");
        }
        for other in [1, 11, 13, 120, 121] {
            let id = id_of(&push(other, false), here);
            assert!(id.as_str() < "12:" || id.as_str() >= "12;", "{id}");
        }
        assert_ne!(id_of(&push(12, false), here), id_of(&push(12, true), here));
        let hidden = push(12, true).push.part(|_| false);
        assert_eq!(id_of(&hidden, here), id_of(&push(12, true), here), "of one user it is one, hidden or not");
    }
}
