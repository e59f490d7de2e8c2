//! Where settings come from: the environment first, then `.env`, then a TOML file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::SETTINGS;
use crate::error::{Error, Result};

/// How the variables begin by which object stores and their credentials are known everywhere. They are not settings of
/// Shoptalk, and there are too many to name.
const PASSED_ON: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

/// Settings by key, before anybody has looked at their values.
#[derive(Clone, Default)]
pub struct Source {
    values: BTreeMap<String, String>,
    passed_on: BTreeMap<String, String>,
    unknown: Vec<String>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("keys", &self.values.keys()).finish_non_exhaustive()
    }
}

impl Source {
    /// What this process was given: environment, `.env` in the working directory, and the file if one is named.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn of_process(file: Option<&Path>) -> Result<Self> {
        let mut source = Self::default();
        if let Some(path) = file {
            source.add_file(path)?;
        }
        // Only here: a `.env` of some folder above is somebody else's.
        match dotenvy::from_path_iter(".env") {
            Ok(pairs) => {
                for pair in pairs {
                    let (key, value) = pair.map_err(|error| {
                        Error::invalid("bad_configuration", format!(".env cannot be read: {error}"))
                    })?;
                    source.set(key, value);
                }
            }
            Err(error) if error.not_found() => {}
            Err(error) => {
                return Err(Error::invalid("bad_configuration", format!(".env cannot be read: {error}")));
            }
        }
        for (key, value) in std::env::vars_os() {
            if let (Ok(key), Ok(value)) = (key.into_string(), value.into_string()) {
                source.set(key, value);
            }
        }
        Ok(source)
    }

    /// These pairs and nothing else.
    #[must_use]
    pub fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut source = Self::default();
        for (key, value) in pairs {
            source.set(key, value);
        }
        source
    }

    /// The value of a setting.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// What is said of object stores and of credentials for them, by `AWS_*` and the like.
    pub(super) fn passed_on(&self) -> impl Iterator<Item = (&str, &str)> {
        self.passed_on.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Sets what is not set yet.
    pub fn default_to(&mut self, key: &str, value: impl Into<String>) {
        if self.get(key).is_none() {
            self.values.insert(key.to_owned(), value.into());
        }
    }

    /// Keys of the file that no setting has. The environment is full of other people's keys, so those are not looked at.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        self.unknown.iter().map(String::as_str)
    }

    /// Empty counts as not set, as `docker compose` passes unset variables, and hides nothing.
    fn set(&mut self, key: String, value: String) {
        if value.trim().is_empty() {
            return;
        }
        if SETTINGS.iter().any(|setting| setting.key == key) {
            self.values.insert(key, value);
        } else if is_passed_on(&key) {
            self.passed_on.insert(key, value);
        }
    }

    fn add_file(&mut self, path: &Path) -> Result<()> {
        let fault = |what: String| Error::invalid("bad_configuration", format!("{}: {what}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| fault(error.message().to_owned()))?;
        for (key, value) in table {
            let upper = key.to_uppercase();
            let known = is_passed_on(&upper) || SETTINGS.iter().any(|setting| setting.key == upper);
            match value {
                _ if !known => self.unknown.push(key),
                toml::Value::String(text) => self.set(upper, text),
                toml::Value::Integer(number) => self.set(upper, number.to_string()),
                other => return Err(fault(format!("{key} must be a string or a number, not {}", other.type_str()))),
            }
        }
        Ok(())
    }
}

fn is_passed_on(key: &str) -> bool {
    PASSED_ON.iter().any(|begin| key.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_stores_of_others_is_known_and_handed_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("shoptalk.toml");
        let text = "aws_access_key_id = \"key\"\nAZURE_STORAGE_ACCOUNT_NAME = \"account\"\nawsome = 1\nport = 1\n";
        std::fs::write(&path, text).expect("a file");
        let mut source = Source::default();
        source.add_file(&path).expect("a good file");
        assert_eq!(source.unknown().collect::<Vec<_>>(), ["awsome"]);
        let passed: Vec<_> = source.passed_on().collect();
        assert_eq!(passed, [("AWS_ACCESS_KEY_ID", "key"), ("AZURE_STORAGE_ACCOUNT_NAME", "account")]);
        assert_eq!((source.get("PORT"), source.get("AWS_ACCESS_KEY_ID")), (Some("1"), None));
        assert!(!format!("{source:?}").contains("account"), "{source:?}");
    }
}
