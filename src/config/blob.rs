//! Where the bytes of attachments are kept.

use std::fmt;

use super::Reader;

/// How the URL of a store may begin.
const SCHEMES: [&str; 10] =
    ["file:", "memory:", "s3://", "s3a://", "gs://", "az://", "azure://", "abfs://", "abfss://", "https://"];

/// The object store.
#[derive(Clone)]
pub struct BlobConfig {
    /// Its URL. `file:` is followed by a path as it is, `file://` by one that is written as URLs write it.
    pub url: String,
    /// What the environment says of object stores and of credentials for them.
    pub variables: Vec<(String, String)>,
}

impl fmt::Debug for BlobConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlobConfig { .. }")
    }
}

impl Reader<'_> {
    pub(super) fn blobs(&mut self) -> BlobConfig {
        let variables = self.source.passed_on().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        BlobConfig { url: self.prefixed("ATTACHMENTS_URL", &SCHEMES), variables }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{BlobConfig, Config, Source};

    fn blobs(pairs: &[(&str, &str)]) -> crate::error::Result<BlobConfig> {
        let needed = [
            ("NATS_URL", "nats://127.0.0.1"),
            ("MONGODB_URI", "mongodb://127.0.0.1"),
            ("JWT_SECRET", "a secret of thirty-two characters"),
        ];
        let pairs = needed.iter().chain(pairs).map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Config::read(&Source::from_pairs(pairs)).map(|config| config.blobs)
    }

    #[test]
    fn a_folder_is_enough_and_credentials_go_with_the_url() {
        let folder = blobs(&[]).expect("good");
        assert_eq!((folder.url.as_str(), folder.variables.len()), ("file:data/attachments", 0));
        let pairs = [("ATTACHMENTS_URL", "s3://shop/files"), ("AWS_SECRET_ACCESS_KEY", "hunter2"), ("AWS_REGION", " ")];
        let bucket = blobs(&pairs).expect("good");
        assert_eq!(bucket.url, "s3://shop/files");
        assert_eq!(bucket.variables, [("AWS_SECRET_ACCESS_KEY".to_owned(), "hunter2".to_owned())]);
        assert!(!format!("{bucket:?}").contains("hunter2"), "{bucket:?}");
    }

    #[test]
    fn a_store_of_no_known_kind_is_refused_and_not_repeated() {
        let error = blobs(&[("ATTACHMENTS_URL", "ftp://user:hunter2@host")]).expect_err("no such kind");
        assert!(error.shown().contains("ATTACHMENTS_URL: must begin with file: or "), "{}", error.shown());
        assert!(!error.shown().contains("hunter2"), "{}", error.shown());
    }
}
