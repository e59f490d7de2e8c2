//! Comparing entries of inboxes with their events.
//!
//! As with conversations, a batch has some of the events of each. What it says must show, or be covered by something later;
//! what lies within the batch must be explained by it.
//!
//! An entry goes with its newest notification, after `NOTIFICATION_DAYS`, and what was done to it goes with it; the next
//! notification makes it anew. So what was done to an entry is asked for only while something is kept that its user was told
//! of before: then the entry has been there ever since. It is about nothing else anyway.

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt as _;
use mongodb::bson::{Document, deserialize_from_document, doc};
use serde::Deserialize;

use super::audit::{Audit, Difference, Fault, Projected};
use super::inbox::{InboxDocument, NAME, Said, Sayings};
use super::notifications::{self, NotificationDocument};
use super::{Store, bounded, stored_seq, stored_time};
use crate::domain::event::{Body, Stored};
use crate::domain::ids::NotificationId;
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

/// What a batch says that is to show, and about which documents.
#[derive(Default)]
struct Told<'a> {
    said: Sayings<'a>,
    heard: HashMap<String, Heard<'a>>,
}

impl<'a> Told<'a> {
    fn of(events: &'a [Stored], copies: &HashSet<u64>) -> Self {
        let mut all = Self::default();
        for stored in events {
            let at = stored.seq;
            let named: Vec<String> = match &stored.event.body {
                Body::Notification(made) if made.is_told() && !copies.contains(&at) => {
                    all.said.made(at, made);
                    let id = made.entry_id.to_string();
                    all.heard.entry(id.clone()).or_default().told.insert(stored_seq(at), made);
                    vec![id]
                }
                Body::NotificationState(state) => {
                    all.said.done(at, state);
                    if state.entry_ids.is_empty() {
                        vec![state.user_id.to_string()]
                    } else {
                        state.entry_ids.iter().map(ToString::to_string).collect()
                    }
                }
                _ => Vec::new(),
            };
            for id in named {
                let heard = all.heard.entry(id).or_default();
                heard.first = if heard.first == 0 { at } else { heard.first };
            }
        }
        all
    }
}

/// Since which place there is something in `notifications` that its user was told of, by entry.
type Kept = HashMap<NotificationId, u64>;

/// Events without notifications that may have gone, and without what was done to entries before anything that is kept of
/// them was told.
fn remaining(events: &[Stored], audit: &Audit, mut kept: Kept) -> Vec<Stored> {
    let may_have_gone = |made: &Notification| audit.may_have_gone(made.created_at);
    for stored in events {
        if let Body::Notification(made) = &stored.event.body
            && made.is_told()
            && !may_have_gone(made)
        {
            let since = kept.entry(made.entry_id).or_insert(stored.seq);
            *since = stored.seq.min(*since);
        }
    }
    let remains = |stored: &Stored| {
        let mut stored = stored.clone();
        let remains = match &mut stored.event.body {
            Body::Notification(made) => !may_have_gone(made),
            Body::NotificationState(state) if !state.entry_ids.is_empty() => {
                state.entry_ids.retain(|id| kept.get(id).is_some_and(|since| *since <= stored.seq));
                !state.entry_ids.is_empty()
            }
            _ => true,
        };
        remains.then_some(stored)
    };
    events.iter().filter_map(remains).collect()
}

impl Store {
    pub(super) async fn audit_inbox(&self, events: &[Stored], head: u64, audit: &mut Audit) -> Result<()> {
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(()) };
        let window = (first.seq, last.seq);
        let Told { said, heard } = Told::of(events, &audit.copies);
        if said.0.is_empty() {
            return Ok(());
        }
        let ids: Vec<String> = said.0.keys().cloned().collect();
        let mut found = HashMap::new();
        for (id, raw) in self.raw(NAME, &ids).await? {
            let read = deserialize_from_document::<InboxDocument>(raw).ok();
            if read.as_ref().is_some_and(|known| heard.get(&id).is_some_and(|one| one.told.contains_key(&known.seq))) {
                audit.explain(Projected::Inbox);
            }
            found.insert(id, read);
        }
        let wrong = |id: &String, said: &Said<'_>| match (found.get(id), heard.get(id)) {
            (None, _) => Some((Fault::Missing, Vec::new())),
            (Some(None), _) => Some((Fault::Different, vec!["unreadable".to_owned()])),
            (Some(Some(known)), Some(heard)) => {
                let fields = contradicted(known, said, heard, window, head);
                (!fields.is_empty()).then_some((Fault::Different, fields))
            }
            (Some(Some(_)), None) => None,
        };
        let doubtful: HashSet<&String> =
            said.0.iter().filter(|(id, (_, said))| wrong(id, said).is_some()).map(|(id, _)| id).collect();
        if doubtful.is_empty() {
            return Ok(());
        }
        let kept = self.kept_since(doubtful.iter().filter_map(|id| id.parse().ok()), audit).await?;
        let remaining = remaining(events, audit, kept);
        let due = Told::of(&remaining, &audit.copies);
        for (id, (_, said)) in due.said.0.iter().filter(|(id, _)| doubtful.contains(id)) {
            if let Some((fault, fields)) = wrong(id, said) {
                let seq = heard.get(id).map_or(0, |heard| heard.first);
                audit.differences.push(Difference { collection: Projected::Inbox, id: id.clone(), seq, fault, fields });
            }
        }
        Ok(())
    }

    /// Those events of a batch that say what is to be there: all but what is about nothing that is kept.
    pub async fn remaining(&self, events: &[Stored], audit: &Audit) -> Result<Vec<Stored>> {
        let named = events.iter().filter_map(|stored| match &stored.event.body {
            Body::NotificationState(state) => Some(state.entry_ids.iter().copied()),
            _ => None,
        });
        let kept = self.kept_since(named.flatten(), audit).await?;
        Ok(remaining(events, audit, kept))
    }

    async fn kept_since(&self, entries: impl Iterator<Item = NotificationId>, audit: &Audit) -> Result<Kept> {
        #[derive(Deserialize)]
        struct Row {
            #[serde(rename = "_id")]
            entry: NotificationId,
            since: i64,
        }
        let entries: HashSet<String> = entries.map(|id| id.to_string()).collect();
        if entries.is_empty() {
            return Ok(Kept::new());
        }
        let mut told = doc! {
            "entryId": { "$in": entries.into_iter().collect::<Vec<_>>() },
            "decision.inbox.outcome": { "$ne": "held" },
        };
        if let Some(before) = audit.gone_before {
            told.insert("createdAt", doc! { "$gte": stored_time(before) });
        }
        let steps = [doc! { "$match": told }, doc! { "$group": { "_id": "$entryId", "since": { "$min": "$seq" } } }];
        let made = self.collection::<Document>(notifications::NAME);
        let found =
            bounded(async { made.aggregate(steps).with_type::<Row>().await?.try_collect::<Vec<_>>().await }).await?;
        Ok(found.into_iter().map(|row| (row.entry, super::seq(row.since))).collect())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::Timestamp;
    use crate::domain::decision::Decisions;
    use crate::domain::event::{Event, VERSION};
    use crate::domain::ids::{EventId, UserId};
    use crate::domain::inbox::{Counts, NotificationState};
    use crate::domain::notification::{Data, Kind};

    const ANA: UserId = UserId::from_bits(1);
    const LONG_AGO: Timestamp = Timestamp::from_millis(1_000);
    const KEPT_FROM: Timestamp = Timestamp::from_millis(2_000);
    const NOW: Timestamp = Timestamp::from_millis(3_000);

    fn entry(bits: u128) -> NotificationId {
        NotificationId::from_bits(bits)
    }

    fn stored(seq: u64, body: Body) -> Stored {
        let id = EventId::from_bits(seq.into());
        let event = Event { id, version: VERSION, actor: ANA, occurred_at: NOW, recipients: vec![ANA], body };
        Stored { seq, event }
    }

    fn made(seq: u64, entry_id: NotificationId, created_at: Timestamp) -> Stored {
        stored(
            seq,
            Body::Notification(Notification {
                id: NotificationId::from_bits(seq.into()),
                user_id: ANA,
                entry_id,
                kind: Kind::Message,
                title: String::new(),
                body: String::new(),
                data: Data::default(),
                decision: Decisions::default(),
                created_at,
            }),
        )
    }

    fn done(seq: u64, entry_ids: &[NotificationId]) -> Stored {
        stored(
            seq,
            Body::NotificationState(NotificationState {
                user_id: ANA,
                entry_ids: entry_ids.to_vec(),
                up_to: seq - 1,
                seen: false,
                read: true,
                archived: None,
                snoozed_until: None,
                counts: Counts::default(),
            }),
        )
    }

    #[test]
    fn what_was_done_goes_with_what_it_was_done_to() {
        let audit = Audit { gone_before: Some(KEPT_FROM), ..Audit::default() };
        let events = [
            made(1, entry(70), LONG_AGO),
            done(2, &[entry(70), entry(80)]),
            done(3, &[]),
            done(4, &[entry(70)]),
            made(5, entry(70), NOW),
            done(6, &[entry(70)]),
        ];
        let after = |kept: &[(NotificationId, u64)]| remaining(&events, &audit, kept.iter().copied().collect());
        let wanted = [done(3, &[]), made(5, entry(70), NOW), done(6, &[entry(70)])];
        assert_eq!(after(&[]), wanted, "the entry is another one since 5, and what is done to all of them stays");
        let wanted = [&[done(2, &[entry(80)])], &wanted[..]].concat();
        assert_eq!(after(&[(entry(80), 1)]), wanted, "something of an entry is kept from before");
        assert_eq!(after(&[(entry(80), 3)]), wanted[1..], "only what came later is");
        let whole = Audit::default();
        assert_eq!(remaining(&events[..1], &whole, Kept::new()), events[..1], "nothing is forgotten");
    }
}
