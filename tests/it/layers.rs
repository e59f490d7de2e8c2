//! Who may use whom: the `use` lines are read against the table of the crate's documentation.

use std::path::{Path, PathBuf};

/// A module and the lower ones it may use; every module may use itself, `domain` and `error`.
const ALLOWED: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("error", &[]),
    // Settings carry the cost of a password hash.
    ("config", &["auth"]),
    ("telemetry", &["config"]),
    ("lifecycle", &[]),
    ("metrics", &[]),
    ("problem", &["auth"]),
    ("embedded", &[]),
    ("auth", &[]),
    ("inspect", &[]),
    ("scan", &[]),
    ("blob", &["config", "lifecycle"]),
    ("broker", &["config", "lifecycle", "metrics", "telemetry"]),
    ("store", &["config", "lifecycle", "metrics"]),
    ("command", &["auth", "blob", "broker", "inspect", "lifecycle", "metrics", "store"]),
    // Whom somebody blocks is not told of them.
    ("presence", &["auth", "broker", "command", "lifecycle", "store"]),
    ("query", &["auth", "blob", "broker", "store", "command", "inspect", "metrics"]),
    ("consumer", &["blob", "broker", "command", "inspect", "metrics", "scan", "store"]),
    ("operate", &["blob", "broker", "command", "config", "consumer", "lifecycle", "metrics", "scan", "store"]),
    ("api", &["auth", "command", "presence", "query", "problem"]),
    ("gateway", &["auth", "command", "config", "lifecycle", "metrics", "presence", "problem", "query"]),
    ("contracts", &["api", "broker", "config"]),
    (
        "server",
        &[
            "api",
            "blob",
            "command",
            "config",
            "gateway",
            "lifecycle",
            "metrics",
            "presence",
            "problem",
            "query",
            "telemetry",
        ],
    ),
    (
        "app",
        &[
            "auth",
            "blob",
            "broker",
            "command",
            "config",
            "consumer",
            "gateway",
            "lifecycle",
            "metrics",
            "operate",
            "presence",
            "query",
            "scan",
            "server",
            "store",
        ],
    ),
    ("cli", &["app", "broker", "config", "contracts", "embedded", "lifecycle", "operate", "telemetry"]),
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file without its unit tests, which may look anywhere.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).expect("a file");
    text.split("#[cfg(test)]").next().unwrap_or_default().to_owned()
}

/// The modules that a piece of code names after `crate::`, in a `use` or in a path.
fn named(code: &str) -> Vec<String> {
    let mut modules = Vec::new();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    for part in lines.collect::<Vec<_>>().join("\n").split("crate::").skip(1) {
        match part.strip_prefix('{') {
            None => modules.push(word(part)),
            Some(group) => {
                let mut depth = 0;
                let mut start = true;
                for (at, letter) in group.char_indices() {
                    match letter {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        _ if start && letter.is_alphabetic() => {
                            modules.push(word(&group[at..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    modules
}

fn word(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

#[test]
fn nobody_uses_what_lies_above() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&source, &mut all);
    let mut wrong = Vec::new();
    let mut seen = 0;
    for path in all {
        let relative = path.strip_prefix(&source).expect("below src");
        let module = relative.components().next().expect("a name").as_os_str().to_string_lossy().replace(".rs", "");
        if matches!(module.as_str(), "lib" | "main") {
            continue;
        }
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{module} has no line in the table"));
            continue;
        };
        for used in named(&code(&path)) {
            seen += 1;
            let fine = used == module || used == "domain" || used == "error" || allowed.contains(&used.as_str());
            if !fine {
                wrong.push(format!("{} uses {used}", relative.display()));
            }
        }
    }
    assert!(seen > 100, "the reader found only {seen} names");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_driver_has_one_importer() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&source, &mut all);
    for (driver, home) in [
        ("async_nats", "broker"),
        ("object_store", "blob"),
        ("mongodb", "store"),
        ("jsonwebtoken", "auth"),
        ("argon2", "auth"),
        ("prometheus_client", "metrics.rs"),
        ("clamav_client", "scan.rs"),
        ("infer", "inspect"),
        ("blurhash", "inspect"),
    ] {
        for path in &all {
            let relative = path.strip_prefix(&source).expect("below src");
            let names = code(path).lines().any(|line| {
                line.trim_start().starts_with(&format!("use {driver}")) || line.contains(&format!("{driver}::"))
            });
            assert!(!names || relative.starts_with(home), "{} names {driver}", relative.display());
        }
    }
}
