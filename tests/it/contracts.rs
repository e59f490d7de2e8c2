//! The contracts that others build on are what the code says.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use shoptalk::config::SETTINGS;
use shoptalk::contracts;
use shoptalk::domain::event::Event;
use shoptalk::domain::frame::SERVER_EVENTS;
use shoptalk::gateway::protocol::CLIENT_EVENTS;

fn file(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_generated_contracts_are_up_to_date() {
    for (path, wanted) in contracts::wanted().expect("contracts") {
        assert!(file(path) == wanted, "{path} is stale; write it again with: make contracts");
    }
}

#[test]
fn the_contract_of_the_settings_is_in_the_readme() {
    let readme = file("README.md");
    for setting in SETTINGS {
        let default = setting.default.map_or_else(String::new, |default| {
            if default.is_empty() { String::new() } else { format!("`{default}`") }
        });
        let row = format!(
            "| `{}` | {} | {} |",
            setting.key,
            if setting.default.is_none() { "needed".to_owned() } else { default },
            setting.about
        );
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(readme.lines().any(|line| squeezed(line) == squeezed(&row)), "README.md lacks the row\n{row}");
    }
    let example = file(".env.example");
    for setting in SETTINGS {
        assert!(example.contains(&format!("{}=", setting.key)), ".env.example lacks {}", setting.key);
    }
}

#[test]
fn the_contract_of_the_sockets_names_every_event() {
    let described = file("openapi/asyncapi.yaml");
    for event in CLIENT_EVENTS.iter().chain(&SERVER_EVENTS) {
        assert!(
            described.lines().any(|line| line.trim() == format!("name: {event}")),
            "asyncapi.yaml does not describe {event}"
        );
    }
}

/// The string literals that stand where a reason stands.
fn reasons_in(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            reasons_in(&path, found);
            continue;
        }
        let text = fs::read_to_string(&path).expect("a file");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for maker in ["Error::new(", "Error::invalid(", "Error::unavailable("] {
            let parts: Vec<&str> = code.split(maker).collect();
            for pair in parts.windows(2) {
                let (before, part) = (pair[0], pair[1]);
                if before.ends_with(|letter: char| letter.is_alphanumeric()) {
                    // Another type whose name ends the same way.
                    continue;
                }
                let reason = part.split('"').nth(1).expect("a reason");
                let is_word =
                    reason.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
                assert!(is_word, "{}: {reason:?} is no reason", path.display());
                found.insert(reason.to_owned());
            }
        }
    }
}

#[test]
fn the_contract_of_failures_lists_every_reason() {
    let mut used = BTreeSet::new();
    reasons_in(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src"), &mut used);
    let rules = file("openapi/README.md");
    let listed: BTreeSet<String> = rules
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(reason, _)| reason.to_owned())
        .collect();
    let missing: Vec<_> = used.difference(&listed).collect();
    assert!(missing.is_empty(), "openapi/README.md does not list {missing:?}");
}

#[test]
fn every_event_of_the_contract_of_the_broker_can_be_read() {
    let text = file("nats/README.md");
    let examples = text.split("```json\n").skip(1).filter_map(|part| part.split("```").next());
    let envelopes: Vec<&str> = examples.filter(|example| example.contains("\"occurredAt\"")).collect();
    assert!(envelopes.len() >= 5, "{envelopes:#?}");
    for example in envelopes {
        let read = serde_json::from_str::<Event>(example);
        assert!(read.is_ok(), "{read:?}: {example}");
    }
}
