//! The features of the package, and the dependencies that each may bring along.

use anyhow::{Context as _, Result, ensure};
use cargo_metadata::Metadata;

use crate::cargo::{PACKAGE, cargo};

/// The features that bring a runtime, with crates that show that the runtime is present.
const RUNTIMES: [(&str, &[&str]); 2] =
    [("tokio", &["tokio", "mio"]), ("smol", &["async-io", "polling"])];

/// A feature must work without the others, and all must work together.
pub(crate) fn sets(metadata: &Metadata) -> Result<Vec<(String, Vec<String>)>> {
    let package = metadata
        .packages
        .iter()
        .find(|package| package.name == PACKAGE)
        .with_context(|| format!("the workspace has no package {PACKAGE}"))?;
    let none = || "--no-default-features".to_owned();
    let mut sets = vec![("none".to_owned(), vec![none()])];
    for feature in package.features.keys().filter(|feature| *feature != "default") {
        let arguments = vec![none(), "--features".into(), feature.clone()];
        sets.push((feature.clone(), arguments));
    }
    sets.push(("all".to_owned(), vec!["--all-features".into()]));
    Ok(sets)
}

/// Nobody compiles a runtime without asking for it: neither with the other runtime, nor without any.
pub(crate) fn brings_its_runtime_alone(
    metadata: &Metadata,
    set: &str,
    features: &[String],
) -> Result<()> {
    let mut tree = cargo(metadata);
    tree.args(["tree", "-p", PACKAGE, "-e", "normal", "--prefix", "none", "--format", "{p}"]);
    let output = tree.args(features).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout)?;
    let crates: Vec<_> = printed.lines().filter_map(|line| line.split(' ').next()).collect();
    for (feature, parts) in RUNTIMES {
        let wanted = set == feature || set == "all";
        for part in parts {
            let there = crates.contains(part);
            ensure!(there == wanted, "with the features {set}, is {part} there: {there}");
        }
    }
    Ok(())
}
