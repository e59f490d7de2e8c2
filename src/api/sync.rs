//! `/sync`: what the caller missed, for clients without a socket and for those that come back after long.

use poem::web::Data;
use poem_openapi::param::Query;
use poem_openapi::types::Any;
use poem_openapi::{Object, OpenApi};
use serde::Serialize;
use serde_json::value::RawValue;

use super::encoded::Encoded;
use super::{Caller, Group, Reply};
use crate::domain::frame::Frame;
use crate::error::{Error, Result};
use crate::query::Queries;
use crate::query::sync::{Lost, Resumed};

/// Events of a page unless asked otherwise.
const DEFAULT: usize = 500;
/// Most events of a page.
const LIMIT: usize = 1_000;

/// An event, as a socket is told it.
#[derive(Object)]
struct SyncEvent {
    /// Its name, such as `message`.
    event: String,
    /// Its payload: see `asyncapi.yaml`.
    data: Any<serde_json::Value>,
}

/// A page of what was missed, in the order in which it happened.
#[derive(Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct SyncPage {
    /// Everything up to `cursor` is here. If not, reload what you show, then go on from `cursor`.
    recovered: bool,
    /// Why it is not: `no_cursor`, `malformed_cursor`, `unknown_epoch`, `ahead_of_log`, `too_old`, `too_much`, or
    /// `unavailable` (then the cursor is your own: try it again later).
    reason: Option<String>,
    /// The events.
    events: Vec<SyncEvent>,
    /// Where to go on.
    cursor: String,
    /// There is more behind `cursor` already.
    more: bool,
}

/// The same, as it is written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    recovered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    events: Vec<Told<'a>>,
    cursor: String,
    more: bool,
}

#[derive(Serialize)]
struct Told<'a> {
    event: &'static str,
    data: &'a RawValue,
}

/// The resource.
pub struct SyncApi;

#[OpenApi(prefix_path = "/sync", tag = "Group::Sync")]
impl SyncApi {
    /// What the caller missed since a cursor
    ///
    /// Every durable event that concerns the caller, as sockets are told it. Without a cursor there are no events, but
    /// there is a cursor to begin with.
    #[oai(path = "/", method = "get", operation_id = "sync")]
    async fn sync(
        &self,
        queries: Data<&Queries>,
        caller: Caller,
        /// The cursor of the last event you have, of a `heartbeat`, of `synced`, or of the page before.
        cursor: Query<Option<String>>,
        /// How many, 1 to 1,000; 500 if not given.
        limit: Query<Option<usize>>,
    ) -> Reply<Encoded<SyncPage>> {
        let limit = match limit.0 {
            None => DEFAULT,
            Some(limit @ 1..=LIMIT) => limit,
            Some(_) => return Err(Error::invalid("malformed_limit", "limit must be 1 to 1000").into()),
        };
        queries.check(&caller.0)?;
        let resumed = match cursor.0.as_deref() {
            Some(cursor) => queries.missed(caller.0.user_id, cursor, limit).await,
            None => Resumed::Lost(Lost::NoCursor, queries.position()),
        };
        Ok(Encoded::new(written(&resumed)?))
    }
}

fn written(resumed: &Resumed) -> Result<String> {
    let (frames, cursor, reason, more) = match resumed {
        Resumed::Recovered(missed) => {
            let frames: Result<Vec<Frame>> =
                missed.events.iter().map(|stored| Frame::durable(stored, missed.cursor.epoch)).collect();
            (frames?, missed.cursor, None, missed.more)
        }
        Resumed::Lost(lost, cursor) => (Vec::new(), *cursor, Some(lost.word()), false),
    };
    let page = Page {
        recovered: reason.is_none(),
        reason,
        events: frames.iter().map(|frame| Told { event: frame.event, data: &frame.data }).collect(),
        cursor: cursor.to_string(),
        more,
    };
    serde_json::to_string(&page).map_err(Error::internal)
}
