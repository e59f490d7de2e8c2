//! Contacts: who shares a conversation with whom, and so may know whether they are there.
//!
//! MongoDB says so, for the most recent conversations of a user; what it says is kept for a while, within a bound on all of
//! it together. The tail corrects it meanwhile: MongoDB may be behind, so the newest state of each conversation is added
//! for a minute, and whoever was removed from one is looked up anew for as long.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use smallvec::SmallVec;

use crate::domain::conversation::Conversation;
use crate::domain::ids::{ConversationId, UserId};
use crate::error::Result;
use crate::store::Store;
use crate::store::conversations::Shared;

/// Contacts kept, of all users together; each takes 16 bytes.
const KEPT: u64 = 4_000_000;
/// How long contacts are kept.
const KEPT_FOR: Duration = Duration::from_mins(5);
/// Users whose newest conversations are added to what MongoDB says.
const RECENT_KEPT: u64 = 50_000;
/// How long they are.
const RECENT_FOR: Duration = Duration::from_mins(1);
/// New or changed conversations of one user that are remembered.
const RECENT: usize = 32;

pub(super) type Users = Arc<[UserId]>;

/// The contacts of one user.
#[derive(Debug, Clone)]
pub(super) struct Near {
    /// Who, sorted.
    pub(super) users: Users,
    /// There are more conversations than were looked at.
    pub(super) more: bool,
}

/// The newest conversations of one user, and everybody in them.
type Recent = Arc<SmallVec<[(ConversationId, Users); 1]>>;

/// Who knows whom.
#[derive(Debug)]
pub(super) struct Contacts {
    store: Store,
    known: Cache<UserId, Near>,
    recent: Cache<UserId, Recent>,
    /// Users who are in fewer conversations than MongoDB may know.
    fewer: Cache<UserId, ()>,
}

impl Contacts {
    pub(super) fn new(store: Store) -> Self {
        let weight = |_: &UserId, near: &Near| u32::try_from(near.users.len() + 4).unwrap_or(u32::MAX);
        let recent = || Cache::builder().max_capacity(RECENT_KEPT).time_to_live(RECENT_FOR);
        Self {
            store,
            known: Cache::builder().max_capacity(KEPT).weigher(weight).time_to_live(KEPT_FOR).build(),
            recent: recent().build(),
            fewer: Cache::builder().max_capacity(RECENT_KEPT).time_to_live(RECENT_FOR).build(),
        }
    }

    /// Takes note of a conversation that was opened or changed.
    pub(super) fn observe(&self, conversation: &Conversation) {
        let users: Users = conversation.users().collect();
        for user in users.iter().chain(&conversation.removed) {
            let mut recent = self.recent.get(user).map_or_else(SmallVec::new, |known| (*known).clone());
            recent.retain(|(known, _)| *known != conversation.id);
            if recent.len() >= RECENT {
                recent.remove(0);
            }
            if conversation.has(*user) {
                recent.push((conversation.id, users.clone()));
            }
            self.recent.insert(*user, Arc::new(recent));
            if !conversation.removed.is_empty() {
                self.fewer.insert(*user, ());
            }
            self.known.invalidate(user);
        }
    }

    /// Looks these users up anew for a while: they may be in fewer conversations than was known.
    pub(super) fn doubt(&self, users: [UserId; 2]) {
        for user in users {
            self.fewer.insert(user, ());
            self.known.invalidate(&user);
        }
    }

    /// Forgets who knows whom: a part of the log was not heard.
    pub(super) fn forget_all(&self) {
        self.known.invalidate_all();
    }

    /// The contacts of each of these users.
    pub(super) async fn of(&self, users: impl IntoIterator<Item = UserId>) -> Result<HashMap<UserId, Near>> {
        let mut known: HashMap<UserId, Near> = HashMap::new();
        let mut missing = Vec::new();
        for user in users {
            match self.known.get(&user) {
                Some(contacts) => drop(known.insert(user, contacts)),
                None => missing.push(user),
            }
        }
        if missing.is_empty() {
            return Ok(known);
        }
        for (user, Shared { users: mut contacts, more }) in self.store.contacts_of(&missing).await? {
            let recent = self.recent.get(&user);
            for (_, others) in recent.iter().flat_map(|recent| recent.iter()) {
                contacts.extend(others.iter().filter(|other| **other != user));
            }
            contacts.sort_unstable();
            contacts.dedup();
            let contacts = Near { users: contacts.into(), more };
            self.known.insert(user, contacts.clone());
            // What has come by in this moment is not in it.
            let overtaken =
                self.recent.get(&user).map(|now| Arc::as_ptr(&now)) != recent.map(|then| Arc::as_ptr(&then));
            if overtaken || self.fewer.contains_key(&user) {
                self.known.invalidate(&user);
            }
            known.insert(user, contacts);
        }
        Ok(known)
    }
}
