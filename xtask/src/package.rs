//! The package as it is published: its contents compile, and a project that depends on it works.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use cargo_metadata::Metadata;

use crate::cargo::{PACKAGE, cargo};
use crate::command::output;

/// The output of `cargo package`, unpacked.
pub(crate) struct Package {
    folder: PathBuf,
}

impl Package {
    pub(crate) fn make(metadata: &Metadata) -> Result<Self> {
        let mut package = cargo(metadata);
        // Changes that are not committed yet are to be tested, too.
        package.args(["package", "-p", PACKAGE, "--no-verify", "--allow-dirty", "--quiet"]);
        output(&mut package)?;
        let found = metadata.packages.iter().find(|package| package.name == PACKAGE);
        let version = &found.context("the workspace lacks the package")?.version;
        let parent = metadata.target_directory.join("package");
        let name = format!("{PACKAGE}-{version}");
        let folder = parent.join(&name).into_std_path_buf();
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        let archive = format!("{name}.crate");
        // Unpacked files get the present time: the times in the archive are always the same, and cargo decides by them.
        output(Command::new("tar").arg("-xzmf").arg(archive).current_dir(parent))?;
        Ok(Self { folder })
    }

    /// Checks every example, test and benchmark in the package.
    pub(crate) fn check(&self, metadata: &Metadata) -> Command {
        let mut check = cargo(metadata);
        check.current_dir(&self.folder).args(["check", "--all-targets", "--all-features"]);
        check.arg("--target-dir").arg(&metadata.target_directory);
        check
    }

    /// The library's own tests without any feature. In the workspace they have the features that the package's tests turn on.
    pub(crate) fn tests_without_features(&self, metadata: &Metadata) -> Command {
        let mut test = cargo(metadata);
        test.current_dir(&self.folder).args(["test", "--lib", "--no-default-features"]);
        test.arg(format!("--config=profile.dev.package.{PACKAGE}.opt-level=0"));
        test.arg("--target-dir").arg(&metadata.target_directory);
        test
    }

    /// Cargo in a project that depends on the package.
    pub(crate) fn consumer(&self, metadata: &Metadata, command: &str) -> Command {
        let mut cargo = cargo(metadata);
        cargo.arg(command).args(["--manifest-path", "tests/consumer/Cargo.toml"]);
        let patch =
            format!("patch.crates-io.{PACKAGE}.path={:?}", self.folder.display().to_string());
        cargo.arg("--config").arg(patch);
        cargo.arg("--target-dir").arg(&metadata.target_directory);
        cargo
    }
}
