//! Requests that others may make at the store itself, for a while, without asking here.

use std::time::Duration;

use http::Method;
use object_store::Error as StoreError;
use object_store::signer::SignedUrlOptions;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Blobs;
use super::link::DEADLINE;
use crate::error::Result;

/// What a name may have in a header as it is (RFC 5987).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A request that whoever has it may make at the store itself, for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Where to.
    pub url: String,
    /// What has to go with it.
    pub headers: &'static [(&'static str, &'static str)],
}

impl Blobs {
    /// A request that brings an object; nothing where the store cannot be asked by others. How much is brought is not bounded
    /// by it.
    pub async fn presign_put(&self, key: &str, life: Duration) -> Result<Option<Signed>> {
        self.presign(Method::PUT, key, life, &SignedUrlOptions::default()).await
    }

    /// A request that gets an object; nothing where the store cannot be asked by others. It is saved by this name, if the store
    /// can say that: the object itself has none, as those who have the same bytes may call them otherwise.
    pub async fn presign_get(&self, key: &str, life: Duration, name: &str) -> Result<Option<Signed>> {
        let named = format!("attachment; filename*=UTF-8''{}", utf8_percent_encode(name, PLAIN));
        let options = SignedUrlOptions::default().with_query([("response-content-disposition", named)]);
        self.presign(Method::GET, key, life, &options).await
    }

    async fn presign(
        &self,
        method: Method,
        key: &str,
        life: Duration,
        options: &SignedUrlOptions,
    ) -> Result<Option<Signed>> {
        let place = self.0.place(key)?;
        let Some(signer) = &self.0.signer else { return Ok(None) };
        let headers = if method == Method::PUT { self.0.put_headers } else { &[] };
        let signing = async {
            match signer.signed_url_opts(method.clone(), &place, life, options).await {
                // Azure's requests say no more than what they are for.
                Err(StoreError::NotSupported { .. }) => signer.signed_url(method.clone(), &place, life).await,
                signed => signed,
            }
        };
        // Credentials may have to be asked for.
        let url = self.0.link.run(DEADLINE, signing).await?;
        Ok(Some(Signed { url: url.into(), headers }))
    }
}
