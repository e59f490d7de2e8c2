//! The `shoptalk` binary; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    shoptalk::cli::run()
}
