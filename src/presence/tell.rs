//! Telling: contacts hear what changed, whoever has just come hears who is there, and two who may see each other from now
//! on, or may not any more, hear what that means.
//!
//! One worker does all of it, in turns, so that no connection hears an older state after a newer one: what changes while a turn is
//! under way is told in the next. Nobody is told of anybody whom they block or who blocks them.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use smallvec::SmallVec;

use super::service::{Anew, Audience, Inner, Why};
use crate::domain::ids::UserId;
use crate::domain::presence::{Presence, Status};
use crate::error::Result;

/// Users whose contacts are looked up in one query.
const LOOK_UPS: usize = 64;
/// Contacts that somebody who has just come is told of, at most; who else is there they hear as it changes, or ask for.
pub(super) const TOLD: usize = 1_000;
/// How long to wait after contacts could not be looked up.
const PAUSE: Duration = Duration::from_secs(1);

/// What one turn tells.
#[derive(Debug, Default)]
struct Turn {
    changed: Vec<Presence>,
    newcomers: HashMap<UserId, SmallVec<[u64; 1]>>,
    anew: HashMap<UserId, Anew>,
}

impl Turn {
    fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.newcomers.is_empty() && self.anew.is_empty()
    }
}

/// What somebody is to be told anew about another one, if anything. One whom they may not see is gone, as far as they know;
/// those who were not there anyway are not mentioned, or a block could be told from that.
fn told_anew(about: Presence, near: bool, blocked: bool, why: Why, was_there: bool) -> Option<Presence> {
    let unknown = Presence::unknown(about.user_id);
    match (near, why) {
        (true, _) if !blocked => (about.status != Status::Offline).then_some(about),
        (false, Why::Turned) => None,
        (true, _) => was_there.then_some(unknown),
        (false, Why::Parted) => Some(unknown),
    }
}

impl Inner {
    /// Tells everybody what concerns them, and remembers when somebody was last seen.
    pub(super) async fn tell_everybody(&self, audience: &dyn Audience) -> Result<()> {
        loop {
            let turn = self.next_turn();
            if turn.is_empty() {
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
        let anew: Vec<UserId> = state.anew.keys().take(known).copied().collect();
        let anew = anew.into_iter().filter_map(|user| state.anew.remove_entry(&user)).collect();
        Turn { changed, newcomers, anew }
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
        for (user, others) in turn.anew {
            for (other, why) in others {
                state.turn(user, other, why);
            }
        }
    }

    async fn tell_some(&self, turn: &Turn, audience: &dyn Audience) -> Result<()> {
        let changed = turn.changed.iter().map(|change| change.user_id);
        let users: HashSet<UserId> = changed.chain(turn.newcomers.keys().chain(turn.anew.keys()).copied()).collect();
        let contacts = self.contacts.of(users).await?;
        let none: &[UserId] = &[];
        let of = |user: &UserId| contacts.get(user).map_or(none, |contacts| &contacts.users);
        // For each change those here who hear of it, and for each newcomer those who are there.
        let (hearing, there) = {
            let mut state = self.lock();
            for user in turn.newcomers.keys().chain(turn.anew.keys()) {
                if let Some(near) = contacts.get(user).filter(|_| state.here.contains_key(user)) {
                    state.nearby.remember(*user, near.users.clone());
                }
            }
            let here = |contact: &&UserId| state.here.contains_key(contact);
            let present = |contact: &&UserId| state.all.status(**contact) != Status::Offline;
            let hearing: Vec<Vec<UserId>> = turn
                .changed
                .iter()
                .map(|change| {
                    let mut hearing: Vec<UserId> = of(&change.user_id).iter().filter(here).copied().collect();
                    // In more conversations than were looked at there may be others who were told that they are there.
                    if contacts.get(&change.user_id).is_some_and(|near| near.more) {
                        let others = state.nearby.who_know(change.user_id);
                        hearing.extend(others.filter(|other| of(&change.user_id).binary_search(other).is_err()));
                    }
                    hearing
                })
                .collect();
            let there: Vec<Vec<UserId>> = turn
                .newcomers
                .keys()
                .map(|user| of(user).iter().filter(present).take(TOLD).copied().collect())
                .collect();
            (hearing, there)
        };
        let changed = turn.changed.iter().map(|change| &change.user_id).zip(&hearing);
        let concerned = changed.chain(turn.newcomers.keys().zip(&there)).filter(|(_, others)| !others.is_empty());
        let mut asked: HashSet<UserId> =
            concerned.flat_map(|(user, others)| others.iter().chain([user])).copied().collect();
        for (user, others) in &turn.anew {
            asked.extend(others.keys().chain([user]));
        }
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
        for (user, others) in &turn.anew {
            let told: Vec<Presence> = {
                let state = self.lock();
                let told = others.iter().filter_map(|(other, why)| {
                    let about = Presence { user_id: *other, status: state.all.status(*other), last_seen_at: None };
                    let moves =
                        state.changed.contains_key(other) || turn.changed.iter().any(|one| one.user_id == *other);
                    let near = of(user).binary_search(other).is_ok();
                    let was_there = moves || about.status != Status::Offline;
                    told_anew(about, near, preferences.blocked_between(*user, *other), *why, was_there)
                });
                told.collect()
            };
            for presence in &told {
                audience.tell(presence, &[*user]);
            }
        }
        let gone: Vec<_> =
            turn.changed.iter().filter_map(|change| Some((change.user_id, change.last_seen_at?))).collect();
        if let Err(error) = self.store.note_last_seen(&gone).await {
            tracing::warn!(error = %error, "when users were last seen was not kept");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_may_not_be_seen_any_more_is_gone_and_no_stranger_learns_of_a_block() {
        let ben = UserId::from_bits(8);
        let there = Presence { user_id: ben, status: Status::Online, last_seen_at: None };
        let gone = Presence::unknown(ben);
        let told =
            |about: Presence, near, blocked, why| told_anew(about, near, blocked, why, about.status != Status::Offline);
        assert_eq!(told(there, true, false, Why::Turned), Some(there));
        assert_eq!(told(gone, true, false, Why::Turned), None, "nothing has changed");
        assert_eq!(told(there, true, true, Why::Turned), Some(gone));
        assert_eq!(told(gone, true, true, Why::Turned), None, "that would tell of the block");
        assert_eq!(told_anew(gone, true, true, Why::Turned, true), Some(gone), "nobody has told them that he has left");
        assert_eq!(told(there, false, true, Why::Turned), None, "to strangers he never was there");
        assert_eq!(told(there, false, false, Why::Parted), Some(gone));
        assert_eq!(told(there, true, false, Why::Parted), Some(there), "they share another conversation");
    }
}
