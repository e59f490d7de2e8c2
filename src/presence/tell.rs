//! Telling: contacts hear what changed, and whoever has just come hears who is there.
//!
//! One worker does both, in turns, so that no connection hears an older state after a newer one: what changes while a turn is
//! under way is told in the next. Nobody is told of anybody whom they block or who blocks them.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use smallvec::SmallVec;

use super::service::{Audience, Inner};
use crate::domain::ids::UserId;
use crate::domain::presence::{Presence, Status};
use crate::error::Result;

/// Users whose contacts are looked up in one query.
const LOOK_UPS: usize = 64;
/// Contacts that somebody who has just come is told of, at most; who else is there they hear as it changes, or ask for.
const TOLD: usize = 1_000;
/// How long to wait after contacts could not be looked up.
const PAUSE: Duration = Duration::from_secs(1);

/// What one turn tells.
#[derive(Debug, Default)]
struct Turn {
    changed: Vec<Presence>,
    newcomers: HashMap<UserId, SmallVec<[u64; 1]>>,
}

impl Inner {
    /// Tells everybody what concerns them, and remembers when somebody was last seen.
    pub(super) async fn tell_everybody(&self, audience: &dyn Audience) -> Result<()> {
        loop {
            let turn = self.next_turn();
            if turn.changed.is_empty() && turn.newcomers.is_empty() {
                self.tell.notified().await;
                continue;
            }
            if let Err(error) = self.tell_some(&turn, audience).await {
                tracing::warn!(error = %error, "presence cannot be told right now");
                self.tell_later(turn);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn next_turn(&self) -> Turn {
        let mut state = self.lock();
        let changed: Vec<UserId> = state.changed.keys().take(LOOK_UPS).copied().collect();
        let changed = changed.iter().filter_map(|user| state.changed.remove(user)).collect();
        // Whoever comes before everything is known waits for it.
        let known = if state.is_known() { LOOK_UPS } else { 0 };
        let newcomers: Vec<UserId> = state.newcomers.keys().take(known).copied().collect();
        let newcomers = newcomers.into_iter().filter_map(|user| state.newcomers.remove_entry(&user)).collect();
        Turn { changed, newcomers }
    }

    /// Puts back what could not be told, unless something newer has come up.
    fn tell_later(&self, turn: Turn) {
        let mut state = self.lock();
        for change in turn.changed {
            state.changed.entry(change.user_id).or_insert(change);
        }
        for (user, mut connections) in turn.newcomers {
            let here = state.here.get(&user).cloned().unwrap_or_default();
            connections.retain(|connection| here.iter().any(|(known, _)| known == connection));
            if !connections.is_empty() {
                state.newcomers.entry(user).or_default().extend(connections);
            }
        }
    }

    async fn tell_some(&self, turn: &Turn, audience: &dyn Audience) -> Result<()> {
        let users: HashSet<UserId> =
            turn.changed.iter().map(|change| change.user_id).chain(turn.newcomers.keys().copied()).collect();
        let contacts = self.contacts.of(users).await?;
        let none: &[UserId] = &[];
        let of = |user: &UserId| contacts.get(user).map_or(none, |contacts| contacts);
        // For each change those here who hear of it, and for each newcomer those who are there.
        let (hearing, there) = {
            let state = self.lock();
            let here = |contact: &&UserId| state.here.contains_key(contact);
            let present = |contact: &&UserId| state.all.status(**contact) != Status::Offline;
            let hearing: Vec<Vec<UserId>> =
                turn.changed.iter().map(|change| of(&change.user_id).iter().filter(here).copied().collect()).collect();
            let there: Vec<Vec<UserId>> = turn
                .newcomers
                .keys()
                .map(|user| of(user).iter().filter(present).take(TOLD).copied().collect())
                .collect();
            (hearing, there)
        };
        let changed = turn.changed.iter().map(|change| &change.user_id).zip(&hearing);
        let concerned = changed.chain(turn.newcomers.keys().zip(&there)).filter(|(_, others)| !others.is_empty());
        let asked: HashSet<UserId> =
            concerned.flat_map(|(user, others)| others.iter().chain([user])).copied().collect();
        let preferences = self.preferred.all(asked).await?;
        for (change, mut hearing) in turn.changed.iter().zip(hearing) {
            hearing.retain(|other| !preferences.blocked_between(change.user_id, *other));
            audience.tell(change, &hearing);
        }
        for ((user, connections), there) in turn.newcomers.iter().zip(there) {
            let there: Vec<Presence> = {
                // As of now: whatever comes after this is told after it.
                let state = self.lock();
                let near = there.into_iter().filter(|other| !preferences.blocked_between(*user, *other));
                let now = |user_id| Presence { user_id, status: state.all.status(user_id), last_seen_at: None };
                near.map(now).filter(|one| one.status != Status::Offline).collect()
            };
            audience.tell_all(*user, connections, &there);
        }
        let gone: Vec<_> =
            turn.changed.iter().filter_map(|change| Some((change.user_id, change.last_seen_at?))).collect();
        if let Err(error) = self.store.note_last_seen(&gone).await {
            tracing::warn!(error = %error, "when users were last seen was not kept");
        }
        Ok(())
    }
}
