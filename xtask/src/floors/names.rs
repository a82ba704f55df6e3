//! Names of types: each is in `src` once, so that a search finds one thing.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Result, ensure};

use super::{code, files, repository};

/// The names that two types have, and why.
const TWICE: &[(&str, &str)] = &[
    ("Client", "one that blocks and one that is awaited: the module says which"),
    ("Error", "`proc::Error` is said with its module, as `io::Error` is"),
    ("Cause", "the cause of each `Error`, seen beside it alone"),
    ("NetlinkSocket", "one for Linux, one for other systems"),
    ("SocketOrigin", "one for Linux, one for other systems"),
    ("SmolTransport", "one for Linux, one for other systems"),
    ("TokioTransport", "one for Linux, one for other systems"),
    ("Host", "`fake::Host` is public; the other is procfs's own"),
    ("Table", "`Table` is public; the other is the heading of a file of procfs"),
];

/// The name of the type that a line at the margin declares.
fn declared(line: &str) -> Option<&str> {
    let item = match line.strip_prefix("pub") {
        Some(item) => item.split_once(' ')?.1,
        None => line,
    };
    let (kind, name) = item.split_once(' ')?;
    let is_type = ["struct", "enum", "trait", "type", "union"].contains(&kind);
    is_type.then(|| name.split(|c: char| !c.is_alphanumeric()).next())?
}

#[test]
fn a_type_has_a_name_of_its_own() -> Result<()> {
    let source = repository()?.join("src");
    let mut found = Vec::new();
    files(&source, &mut found)?;
    let mut places = BTreeMap::<String, Vec<String>>::new();
    for file in found {
        let place = file.strip_prefix(&source)?.display().to_string();
        for name in code(&fs::read_to_string(&file)?).lines().filter_map(declared) {
            places.entry(name.to_owned()).or_default().push(place.clone());
        }
    }
    places.retain(|_, places| places.len() > 1);
    let is_allowed = |name: &str| TWICE.iter().any(|(twice, _)| *twice == name);
    let wrong: Vec<_> = places.iter().filter(|(name, _)| !is_allowed(name)).collect();
    ensure!(wrong.is_empty(), "names of more than one type: {wrong:#?}");
    let unused: Vec<_> = TWICE.iter().filter(|(name, _)| !places.contains_key(*name)).collect();
    ensure!(unused.is_empty(), "names of one type only: {unused:#?}");
    Ok(())
}
