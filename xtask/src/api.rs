//! `cargo xtask api`: the public interface as a text, so that changes of it are noticed.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};
use cargo_metadata::Metadata;
use cargo_metadata::camino::Utf8PathBuf;
use clap::Args;
use public_api::{MINIMUM_NIGHTLY_RUST_VERSION, PublicItem};

use crate::cargo::{PACKAGE, cargo, metadata};
use crate::command::output;

/// The file with the text.
const FILE: &str = "tests/api.txt";

/// Compare the public interface with tests/api.txt, line by line
///
/// It is read from rustdoc's JSON, with all features. A change that is wanted is committed together with the file.
#[derive(Args)]
pub(crate) struct Api {
    /// Write the file instead
    #[arg(long)]
    write: bool,
}

impl Api {
    /// Returns whether the file agrees with the code.
    pub(crate) fn run(self) -> Result<bool> {
        let metadata = metadata()?;
        if self.write {
            std::fs::write(metadata.workspace_root.join(FILE), text(&metadata)?)?;
            return Ok(true);
        }
        compare(&metadata).map(|()| true)
    }
}

/// Fails if the interface differs from the file, with the lines that differ.
pub(crate) fn compare(metadata: &Metadata) -> Result<()> {
    let file = metadata.workspace_root.join(FILE);
    let kept = std::fs::read_to_string(&file).with_context(|| file.to_string())?;
    let now = text(metadata)?;
    let (kept, now): (BTreeSet<_>, BTreeSet<_>) = (kept.lines().collect(), now.lines().collect());
    let mut difference = String::new();
    for line in kept.difference(&now) {
        writeln!(difference, "-{line}")?;
    }
    for line in now.difference(&kept) {
        writeln!(difference, "+{line}")?;
    }
    if difference.is_empty() {
        return Ok(());
    }
    bail!(
        "the public interface is another than in {FILE}; if that is wanted, `cargo xtask api --write`:\n\
         {difference}"
    )
}

/// One line for each item, without the items that the compiler derives or implements for all types.
fn text(metadata: &Metadata) -> Result<String> {
    let api = public_api::Builder::from_rustdoc_json(json(metadata)?)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .build()
        .with_context(|| {
            format!(
                "this compiler's rustdoc writes JSON of another format than public-api reads, which is that of \
                 {MINIMUM_NIGHTLY_RUST_VERSION} or a stable release of that time: run this with such a \
                 compiler, or have xtask/Cargo.toml name the public-api of this one's time"
            )
        })?;
    let lines: BTreeSet<_> = api.items().map(PublicItem::to_string).collect();
    Ok(lines.iter().fold(String::new(), |text, line| text + line + "\n"))
}

fn json(metadata: &Metadata) -> Result<Utf8PathBuf> {
    // In a folder of its own, since the variable makes cargo build everything anew.
    let folder = metadata.target_directory.join("api");
    let mut rustdoc = cargo(metadata);
    // The format is not stable yet, but needs no other compiler.
    rustdoc.env("RUSTC_BOOTSTRAP", "1");
    rustdoc.args(["rustdoc", "-p", PACKAGE, "--lib", "--all-features", "--quiet"]);
    rustdoc.arg("--target-dir").arg(&folder);
    rustdoc.args([
        "--",
        "-Z",
        "unstable-options",
        "--output-format",
        "json",
        "--cap-lints",
        "allow",
    ]);
    output(&mut rustdoc)?;
    Ok(folder.join("doc").join(PACKAGE.replace('-', "_")).with_extension("json"))
}
