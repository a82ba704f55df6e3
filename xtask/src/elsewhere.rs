//! Other systems: the library compiles for them, with the parts that work there.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::command::{output, which};

/// One for each kind of system that is not Linux.
pub(crate) const TARGETS: [&str; 2] = ["aarch64-apple-darwin", "x86_64-pc-windows-gnu"];

/// Installs the standard library for the target by rustup if it is missing; returns whether it is installed now.
pub(crate) fn has_library(target: &str) -> Result<bool> {
    if is_there(target)? {
        return Ok(true);
    }
    let Some(rustup) = which("rustup") else { return Ok(false) };
    if let Err(error) = output(Command::new(rustup).args(["target", "add", target])) {
        eprintln!("{error:#}");
    }
    is_there(target)
}

fn is_there(target: &str) -> Result<bool> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let folder =
        output(Command::new(rustc).args(["--print", "target-libdir", "--target", target]))?;
    Ok(Path::new(String::from_utf8_lossy(&folder).trim()).exists())
}
