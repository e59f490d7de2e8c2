//! Comparing entries of inboxes with their events.
//!
//! As with conversations, a batch has some of the events of each. What it says must show, or be covered by something later;
//! what lies within the batch must be explained by it. An entry goes with its newest notification, after `NOTIFICATION_DAYS`,
//! so that one which is not there is missed only while `notifications` has something of it.

use std::collections::{HashMap, HashSet};

use mongodb::bson::{Document, deserialize_from_document, doc};

use super::audit::{Audit, Difference, Fault, Projected};
use super::inbox::{InboxDocument, NAME, Said, Sayings};
use super::notifications::{self, NotificationDocument};
use super::{Store, bounded, stored_seq};
use crate::domain::event::{Body, Stored};
use crate::domain::ids::{NotificationId, UserId};
use crate::domain::notification::Notification;
use crate::error::Result;

/// What a batch says about one document.
#[derive(Default)]
struct Heard<'a> {
    first: u64,
    /// What its user was told, by place.
    told: HashMap<i64, &'a Notification>,
}

/// The fields of a document that contradict a batch, which covers the places of `window`.
fn contradicted(
    found: &InboxDocument,
    said: &Said<'_>,
    heard: &Heard<'_>,
    window: (u64, u64),
    head: u64,
) -> Vec<String> {
    let mut fields: Vec<String> = said.missing_in(found).into_iter().map(str::to_owned).collect();
    let within = found.seq >= stored_seq(window.0) && found.seq <= stored_seq(window.1);
    let wrong = match heard.told.get(&found.seq) {
        Some(made) => found.newest.as_ref() != Some(&NotificationDocument::made(super::seq(found.seq), made)),
        None => within || found.seq > stored_seq(head) || (found.seq == 0) != found.newest.is_none(),
    };
    if wrong {
        fields.push("newest".to_owned());
    }
    fields.sort_unstable();
    fields.dedup();
    fields
}

impl Store {
    pub(super) async fn audit_inbox(&self, events: &[Stored], head: u64, audit: &mut Audit) -> Result<()> {
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(()) };
        let window = (first.seq, last.seq);
        let (mut said, mut heard) = (Sayings::default(), HashMap::<String, Heard<'_>>::new());
        for stored in events {
            let at = stored.seq;
            let named: Vec<String> = match &stored.event.body {
                Body::Notification(made) if made.is_told() && !audit.copies.contains(&at) => {
                    said.made(at, made);
                    let id = made.entry_id.to_string();
                    heard.entry(id.clone()).or_default().told.insert(stored_seq(at), made);
                    vec![id]
                }
                Body::NotificationState(state) => {
                    said.done(at, state);
                    if state.entry_ids.is_empty() {
                        vec![state.user_id.to_string()]
                    } else {
                        state.entry_ids.iter().map(ToString::to_string).collect()
                    }
                }
                _ => Vec::new(),
            };
            for id in named {
                let heard = heard.entry(id).or_default();
                heard.first = if heard.first == 0 { at } else { heard.first };
            }
        }
        if said.0.is_empty() {
            return Ok(());
        }
        let ids: Vec<String> = said.0.keys().cloned().collect();
        let mut found = self.raw(NAME, &ids).await?;
        let gone: Vec<&String> = ids.iter().filter(|id| !found.contains_key(*id)).collect();
        let due = self.entries_due(&gone).await?;
        for (id, (_, said)) in &said.0 {
            let Some(heard) = heard.get(id) else { continue };
            let fresh = said.newest.is_some_and(|(_, made)| !audit.may_have_gone(made.created_at));
            let (fault, fields) = match found.remove(id).map(deserialize_from_document::<InboxDocument>) {
                None if fresh || due.contains(id) => (Fault::Missing, Vec::new()),
                None => continue,
                Some(Err(_)) => (Fault::Different, vec!["unreadable".to_owned()]),
                Some(Ok(found)) => {
                    if heard.told.contains_key(&found.seq) {
                        audit.explain(Projected::Inbox);
                    }
                    (Fault::Different, contradicted(&found, said, heard, window, head))
                }
            };
            if fault == Fault::Missing || !fields.is_empty() {
                let (collection, id, seq) = (Projected::Inbox, id.clone(), heard.first);
                audit.differences.push(Difference { collection, id, seq, fault, fields });
            }
        }
        Ok(())
    }

    /// Which of these must be there: what was done to all of somebody's notifications stays, an entry as long as
    /// `notifications` has something of it that its user was told.
    async fn entries_due(&self, ids: &[&String]) -> Result<HashSet<String>> {
        let (users, entries): (Vec<&String>, Vec<&String>) =
            ids.iter().copied().partition(|id| id.parse::<UserId>().is_ok());
        let mut due: HashSet<String> = users.into_iter().cloned().collect();
        if entries.is_empty() {
            return Ok(due);
        }
        let told = doc! { "entryId": { "$in": entries }, "decision.inbox.outcome": { "$ne": "held" } };
        let made = self.collection::<Document>(notifications::NAME);
        let found = bounded(made.distinct("entryId", told)).await?;
        due.extend(found.iter().filter_map(|id| id.as_str()).map(str::to_owned));
        Ok(due)
    }

    /// Removes documents that cannot be read, so that they can be projected anew.
    pub(super) async fn restore_inbox(&self, audit: &Audit) -> Result<()> {
        let named = |one: &&Difference| one.collection == Projected::Inbox && one.fields == ["unreadable"];
        let ids: Vec<&str> = audit.differences.iter().filter(named).map(|one| one.id.as_str()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let inbox = self.collection::<Document>(NAME);
        bounded(inbox.delete_many(doc! { "_id": { "$in": ids } })).await.map(drop)
    }

    /// Looks up the newest notifications of those entries again that an audit found to be wrong.
    pub async fn recount_named(&self, audit: &Audit) -> Result<()> {
        for one in audit.differences.iter().filter(|one| one.collection == Projected::Inbox) {
            if one.id.parse::<NotificationId>().is_ok() {
                self.recount_inbox(&one.id).await?;
            }
        }
        Ok(())
    }
}
