//! Cargo as this package uses it: the contents of the workspace, and building one of its programs.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{Message, Metadata, MetadataCommand, Target};

use crate::command::show;

/// The package for which all of this exists.
pub(crate) const PACKAGE: &str = "ipvs-netlink";
/// The tests of its library that take minutes; one run of all tests is enough for them.
pub(crate) const UNIVERSE: &str = "reconcile::universe";
/// The package of the benchmarks on real kernels and against other clients.
pub(crate) const BENCHMARKS: &str = "peers";

pub(crate) fn metadata() -> Result<Metadata> {
    MetadataCommand::new()
        .no_deps()
        .exec()
        .context("the workspace cannot be read; run this inside of it")
}

/// Cargo in the root of the workspace.
pub(crate) fn cargo(metadata: &Metadata) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&metadata.workspace_root);
    cargo
}

/// Cargo in the workspace of the example kube, which has a workspace of its own to keep its dependencies to itself.
pub(crate) fn kube(metadata: &Metadata) -> Command {
    let mut kube = cargo(metadata);
    kube.current_dir(metadata.workspace_root.join("examples/kube"));
    kube.env("CARGO_TARGET_DIR", &metadata.target_directory);
    kube
}

/// Builds, and returns the programs that cargo made of these targets.
pub(crate) fn build(mut cargo: Command, wanted: impl Fn(&Target) -> bool) -> Result<Vec<PathBuf>> {
    cargo.arg("--message-format=json-render-diagnostics");
    let shown = show(&cargo);
    let built = cargo
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("`{shown}` could not be started"))?;
    if !built.status.success() {
        bail!("`{shown}` failed ({})", built.status);
    }
    let mut programs = Vec::new();
    for message in Message::parse_stream(built.stdout.as_slice()) {
        if let Message::CompilerArtifact(artifact) = message?
            && wanted(&artifact.target)
            && let Some(program) = artifact.executable
        {
            programs.push(program.into());
        }
    }
    if programs.is_empty() {
        bail!("`{shown}` made no program");
    }
    Ok(programs)
}
