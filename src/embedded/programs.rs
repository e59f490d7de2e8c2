//! Where the programs of the servers are. Finds them and never installs them.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What `scripts/servers` puts into its cache; the versions are part of the names.
pub(super) const NATS_SERVER: &str = "nats-server-2.15.1";
pub(super) const SECANTUSD: &str = "secantusd-rs-0.5.3-beta.196";
const S3S_FS: &str = "s3s-fs-0.14.1";

/// A program as the shell would find it.
pub(super) fn on_path(program: &str) -> Option<PathBuf> {
    let path = environment("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find_map(|file| executable(&file))
}

/// A program that `scripts/servers` made ready; `instead` is the variable that makes it unnecessary.
pub(super) fn cached(program: &str, instead: &str) -> Result<PathBuf> {
    in_cache(program).ok_or_else(|| {
        let shown = format!("{program} is missing: run `make servers`, or set {instead} to use a server of yours");
        Error::unavailable("server_missing", shown)
    })
}

/// A server that speaks S3, for tests: `shoptalk dev` keeps attachments in a folder.
///
/// # Errors
/// `Unavailable` when `scripts/servers tests` was not run here.
pub fn s3_server() -> Result<PathBuf> {
    in_cache(S3S_FS).ok_or_else(|| {
        let shown = format!("{S3S_FS} is missing: run `scripts/servers tests`");
        Error::unavailable("server_missing", shown)
    })
}

fn in_cache(program: &str) -> Option<PathBuf> {
    let cache = environment("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| environment("HOME").map(|home| Path::new(&home).join(".cache")));
    executable(&cache?.join("shoptalk/bin").join(program))
}

fn executable(file: &Path) -> Option<PathBuf> {
    let found = fs::metadata(file).ok()?;
    (found.is_file() && found.permissions().mode() & 0o111 != 0).then(|| file.canonicalize().ok())?
}

/// A variable that is set and not empty.
#[expect(
    clippy::disallowed_methods,
    reason = "where programs are is the machine's affair, not configuration of Shoptalk"
)]
fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_provides_the_versions_that_are_looked_for() {
        let script = include_str!("../../scripts/servers");
        for name in [NATS_SERVER, SECANTUSD, S3S_FS] {
            assert!(script.contains(&format!("=\"{name}\"\n")), "scripts/servers does not provide {name}");
        }
    }
}
