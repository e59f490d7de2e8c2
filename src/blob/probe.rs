//! The probe: whether a store takes, gives back, lists and forgets what it is given, before anybody relies on it.

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::link::Failure;
use super::{Inner, open};
use crate::domain::clock::random_bits;
use crate::error::{Error, Result};

/// Where probes are; what a probe leaves that is killed is swept like anything else that nobody knows.
const PROBES: &str = "probe";
/// What is given to it.
const PROBE: &[u8] = b"Shoptalk looks whether attachments can be kept here.";

/// What could not be done, and why.
type Failed = (&'static str, Failure);

/// Tries it.
pub(super) async fn probe(inner: &Inner) -> Result<()> {
    let key = format!("{PROBES}/{:032x}", random_bits());
    let Err((what, failure)) = round(inner, &key).await else { return Ok(()) };
    // If that fails too, nothing more is known than before.
    let _ = inner.delete(&key).await;
    let told = format!("{}: {what} failed: {failure}", inner.shown);
    Err(if failure.passes() {
        Error::unavailable("attachments_unavailable", format!("the attachment store is away: {told}"))
    } else {
        open::bad(&told)
    })
}

async fn round(inner: &Inner, key: &str) -> Result<(), Failed> {
    let at = |what| move |failure| (what, failure);
    let wrong = |what, said: &str| (what, Failure::Refused(said.into()));
    // Nothing comes in without one, and it may be elsewhere than the store.
    drop(inner.spools.fresh().map_err(|error| ("making a spool file", error.into()))?);
    inner.put(key, Bytes::from_static(PROBE), "text/plain").await.map_err(at("writing"))?;

    let found = inner.get(key, None).await.map_err(at("reading"))?;
    let found = found.ok_or_else(|| wrong("reading", "what was written is not there"))?;
    let read: Vec<Bytes> =
        inner.pieces(found).try_collect().await.map_err(|error| ("reading", Failure::Unwell(error.into())))?;
    if read.concat() != PROBE {
        return Err(wrong("reading", "it is not what was written"));
    }

    let mut listed = inner.list(PROBES);
    loop {
        match listed.try_next().await.map_err(at("listing"))? {
            Some(found) if found.key == key => break,
            Some(_) => {}
            None => return Err(wrong("listing", "what was written is not listed")),
        }
    }

    inner.delete(key).await.map_err(at("deleting"))?;
    match inner.get(key, None).await.map_err(at("deleting"))? {
        None => Ok(()),
        Some(_) => Err(wrong("deleting", "it is still there")),
    }
}
