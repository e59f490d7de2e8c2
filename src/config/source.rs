//! Where settings come from: the environment first, then `.env`, then a TOML file.

use std::collections::BTreeMap;
use std::path::Path;

use super::SETTINGS;
use crate::error::{Error, Result};

/// Settings by key, before anybody has looked at their values.
#[derive(Debug, Clone, Default)]
pub struct Source {
    values: BTreeMap<String, String>,
    unknown: Vec<String>,
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
        }
    }

    fn add_file(&mut self, path: &Path) -> Result<()> {
        let fault = |what: String| Error::invalid("bad_configuration", format!("{}: {what}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| fault(error.message().to_owned()))?;
        for (key, value) in table {
            let upper = key.to_uppercase();
            let known = SETTINGS.iter().any(|setting| setting.key == upper);
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
