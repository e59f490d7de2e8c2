//! From a URL and credentials to a store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::signer::{Signer, Url};
use object_store::{BackoffConfig, ClientOptions, ObjectStore, ObjectStoreScheme, RetryConfig};
use percent_encoding::percent_decode_str;
use tokio::sync::Semaphore;

use super::link::{Failure, Link};
use super::spool::Spools;
use super::{Inner, local, remote};
use crate::config::BlobConfig;
use crate::error::{Error, Result};
use crate::lifecycle::Lifecycle;

/// How long it may take until a store takes a connection.
const CONNECT: Duration = Duration::from_secs(2);
/// Connections that nobody used for so long are closed before the other side does it.
const IDLE: Duration = Duration::from_secs(30);
/// Where spool files are, in a folder of ours. No key begins with a dot.
const SPOOLS: &str = ".spool";

/// A store that has not been tried yet.
struct Untried {
    store: Arc<dyn ObjectStore>,
    signer: Option<Arc<dyn Signer>>,
    put_headers: &'static [(&'static str, &'static str)],
}

/// Makes what belongs to this configuration. Only a folder is touched by that.
pub(super) fn open(config: &BlobConfig, lifecycle: &Lifecycle) -> Result<Inner> {
    if let Some(place) = config.url.strip_prefix("file:") {
        return folder(place, lifecycle);
    }
    let url: Url = config.url.parse().map_err(|_| bad("it cannot be read as a URL"))?;
    let shown = shown(&url);
    // Some failures repeat the URL.
    let refused =
        |why: String| bad(&format!("{shown}: {}", why.replace(&config.url, &shown).replace(url.as_str(), &shown)));
    let (scheme, prefix) = ObjectStoreScheme::parse(&url).map_err(|error| refused(error.to_string()))?;
    let Untried { store, signer, put_headers } =
        store(&scheme, config).map_err(|error| refused(Failure::from(error).to_string()))?;
    let spools = Spools::new(std::env::temp_dir());
    Ok(Inner { signer, put_headers, prefix, ..inner(shown, store, spools, lifecycle) })
}

fn inner(shown: String, store: Arc<dyn ObjectStore>, spools: Spools, lifecycle: &Lifecycle) -> Inner {
    Inner {
        shown,
        store,
        signer: None,
        put_headers: &[],
        prefix: Path::default(),
        folder: None,
        spools,
        link: Link::default(),
        parts: Arc::new(Semaphore::new(remote::PARTS)),
        lifecycle: lifecycle.clone(),
    }
}

/// A folder, made if there is none. `file:` is followed by a path as it is, `file://` by one as URLs write it.
fn folder(place: &str, lifecycle: &Lifecycle) -> Result<Inner> {
    let path = match place.strip_prefix("//") {
        None => place.to_owned(),
        Some(written) => {
            let path = written.strip_prefix("localhost").unwrap_or(written);
            if !path.starts_with('/') {
                return Err(bad("file:// is followed by the whole path, and file: by any path"));
            }
            percent_decode_str(path).decode_utf8().map_err(|_| bad("the path is not UTF-8"))?.into_owned()
        }
    };
    if path.is_empty() {
        return Err(bad("file: is followed by a path"));
    }
    let root = PathBuf::from(&path);
    let made = || {
        local::make(&root)?;
        // Whole, so that it stays the same folder wherever this process goes.
        let root = root.canonicalize()?;
        local::make(&root.join(SPOOLS))?;
        Ok::<_, std::io::Error>(root)
    };
    let root = made().map_err(|error| bad(&format!("the folder {path} cannot be made or used: {error}")))?;
    let store = LocalFileSystem::new_with_prefix(&root).map_err(|error| bad(&error.to_string()))?;
    let spools = Spools::new(root.join(SPOOLS));
    Ok(Inner { folder: Some(root), ..inner(format!("file:{path}"), Arc::new(store), spools, lifecycle) })
}

fn store(scheme: &ObjectStoreScheme, config: &BlobConfig) -> object_store::Result<Untried> {
    // Nobody else chooses how TLS is done here; if somebody has, that is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    macro_rules! built {
        ($builder:expr) => {{
            let begun = $builder.with_url(&config.url).with_client_options(client()).with_retry(retry());
            let told = config.variables.iter().fold(begun, |builder, (key, value)| {
                // There are variables for everything that its owner does elsewhere.
                match key.to_ascii_lowercase().parse() {
                    Ok(key) => builder.with_config(key, value),
                    Err(_) => builder,
                }
            });
            Arc::new(told.build()?)
        }};
    }
    Ok(match scheme {
        ObjectStoreScheme::AmazonS3 => {
            // Not every store that speaks S3 removes many at once.
            let store = built!(AmazonS3Builder::new().with_disable_bulk_delete(true));
            Untried { store: store.clone(), signer: Some(store), put_headers: &[] }
        }
        ObjectStoreScheme::GoogleCloudStorage => {
            let store = built!(GoogleCloudStorageBuilder::new());
            Untried { store: store.clone(), signer: Some(store), put_headers: &[] }
        }
        ObjectStoreScheme::MicrosoftAzure => {
            let store = built!(MicrosoftAzureBuilder::new());
            Untried { store: store.clone(), signer: Some(store), put_headers: &[("x-ms-blob-type", "BlockBlob")] }
        }
        ObjectStoreScheme::Memory => Untried { store: Arc::new(InMemory::new()), signer: None, put_headers: &[] },
        _ => {
            let source = "there is no such store".into();
            return Err(object_store::Error::NotSupported { source });
        }
    })
}

/// How requests are made. How long one may take is bounded where it is waited for: a whole download may take any time, as
/// clients are slow.
fn client() -> ClientOptions {
    ClientOptions::new().with_connect_timeout(CONNECT).with_timeout_disabled().with_pool_idle_timeout(IDLE)
}

/// Twice more, and not after somebody has waited for a while: a client that hears of it early tries again by itself.
const fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_millis(400),
            base: 2.,
        },
        max_retries: 2,
        retry_timeout: Duration::from_millis(1_500),
    }
}

/// A URL without what may be a secret.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // It has none if it cannot have one.
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

pub(super) fn bad(what: &str) -> Error {
    Error::invalid("bad_configuration", format!("ATTACHMENTS_URL: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(url: &str, variables: &[(&str, &str)]) -> Result<Inner> {
        let variables = variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        open(&BlobConfig { url: url.to_owned(), variables }, &Lifecycle::new())
    }

    fn refused(url: &str, variables: &[(&str, &str)]) -> String {
        let Err(error) = opened(url, variables) else { panic!("{url} was taken") };
        assert_eq!(error.reason(), "bad_configuration");
        error.shown().to_owned()
    }

    #[test]
    fn each_kind_of_store_is_opened_by_its_url_and_its_variables() {
        let aws = [("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "hunter2"), ("AWS_NOT_KNOWN", "1")];
        let azure = [("AZURE_STORAGE_ACCOUNT_NAME", "shop"), ("AZURE_STORAGE_ACCOUNT_KEY", "aHVudGVyMg==")];
        for (url, variables, prefix, signs) in [
            ("memory:", &[][..], "", false),
            ("s3://bucket", &aws[..], "", true),
            ("s3://bucket/some/prefix/", &aws[..], "some/prefix", true),
            ("https://s3.eu-central-1.amazonaws.com/bucket/prefix", &aws[..], "prefix", true),
            ("gs://bucket/prefix", &[("GOOGLE_SKIP_SIGNATURE", "true")][..], "prefix", true),
            ("az://container/prefix", &azure[..], "prefix", true),
        ] {
            let inner = opened(url, variables).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!((inner.prefix.as_ref(), inner.signer.is_some()), (prefix, signs), "{url}");
            assert_eq!(inner.put_headers.is_empty(), !url.starts_with("az"), "{url}");
        }
    }

    #[test]
    fn what_cannot_be_opened_says_why_and_nothing_secret() {
        assert!(refused("https://somewhere.example/folder", &[]).contains("there is no such store"));
        assert!(refused("file://host/folder", &[]).contains("the whole path"));
        assert!(refused("file:", &[]).contains("followed by a path"));
        assert!(refused("file:/dev/null/folder", &[]).contains("/dev/null/folder"));
        let lonely = refused("s3://user:hunter2@bucket?token=hunter2", &[("AWS_SECRET_ACCESS_KEY", "hunter2")]);
        assert!(lonely.contains("s3://user@bucket: ") && lonely.contains("AccessKeyId"), "{lonely}");
        assert!(!lonely.contains("hunter2"), "{lonely}");
    }

    #[test]
    fn a_folder_is_made_for_nobody_else_and_named_in_two_ways() {
        let there = tempfile::tempdir().expect("a folder");
        let there = there.path().canonicalize().expect("a folder");
        let plain = opened(&format!("file:{}/a%20b/c", there.display()), &[]).expect("a folder");
        assert_eq!(plain.folder.as_deref(), Some(there.join("a%20b/c").as_path()));
        let written = opened(&format!("file://{}/a%20b/c", there.display()), &[]).expect("a folder");
        assert_eq!(written.folder.as_deref(), Some(there.join("a b/c").as_path()));
        for folder in ["a%20b", "a b/c", "a b/c/.spool"] {
            let mode = std::os::unix::fs::MetadataExt::mode(&there.join(folder).metadata().expect("a folder"));
            assert_eq!(mode & 0o777, 0o700, "{folder}");
        }
    }
}
