//! The faults that no test notices, and why none needs to.

use std::fs::read_to_string;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// The faults that need not be noticed.
const KNOWN: &str = include_str!("survivors.toml");

/// The list of faults that need not be noticed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    survivor: Vec<Survivor>,
}

/// A fault that need not be noticed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Survivor {
    file: String,
    /// The line that gets the fault, as it is in the file: it is found wherever it moves to.
    line: String,
    /// The fault in the words of cargo-mutants, without its place.
    fault: String,
    why: String,
}

/// A fault that no test noticed, as cargo-mutants tells it.
#[derive(Debug, PartialEq)]
struct Missed<'a> {
    file: &'a str,
    line: usize,
    fault: &'a str,
}

/// Lists the faults that no test noticed. Returns whether it is known of each why.
pub(super) fn explain(missed: &str, root: &Path) -> Result<bool> {
    let known = Known::new()?;
    let mut all_known = true;
    for line in missed.lines() {
        let missed = Missed::new(line).with_context(|| format!("not a fault: `{line}`"))?;
        match known.find(&missed, root)? {
            Some(survivor) => println!("{line}: {}", survivor.why),
            None => {
                println!("{line}: NO TEST NOTICES IT");
                all_known = false;
            }
        }
    }
    Ok(all_known)
}

impl Known {
    fn new() -> Result<Self> {
        toml::from_str(KNOWN).context("survivors.toml")
    }

    fn find(&self, missed: &Missed<'_>, root: &Path) -> Result<Option<&Survivor>> {
        let text = read_to_string(root.join(missed.file)).context(missed.file.to_owned())?;
        let line = text.lines().nth(missed.line.saturating_sub(1)).unwrap_or_default();
        let is_it = |it: &&Survivor| {
            it.file == missed.file && it.line == line.trim() && it.fault == missed.fault
        };
        Ok(self.survivor.iter().find(is_it))
    }
}

impl<'a> Missed<'a> {
    /// The fault of a line like `src/file.rs:12:5: replace < with > in function`.
    fn new(text: &'a str) -> Option<Self> {
        let (place, fault) = text.split_once(": ")?;
        let (place, _column) = place.rsplit_once(':')?;
        let (file, line) = place.rsplit_once(':')?;
        Some(Self { file, line: line.parse().ok()?, fault })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_cargo_mutants_is_read() {
        let text = "src/file.rs:12:5: replace a::b -> bool with true";
        let missed =
            Missed { file: "src/file.rs", line: 12, fault: "replace a::b -> bool with true" };
        assert_eq!(Missed::new(text), Some(missed));
        assert_eq!(Missed::new("src/file.rs"), None);
    }

    #[test]
    fn each_survivor_is_in_a_line_that_exists() -> Result<()> {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        for survivor in Known::new()?.survivor {
            let text = read_to_string(root.join(&survivor.file))?;
            let exists = text.lines().any(|line| line.trim() == survivor.line);
            assert!(exists, "{}: no line `{}`", survivor.file, survivor.line);
            assert!(!survivor.why.is_empty(), "{}", survivor.line);
        }
        Ok(())
    }

    #[test]
    fn a_fault_that_no_list_has_is_not_known() -> Result<()> {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        assert!(explain("", root)?);
        assert!(!explain("src/lib.rs:1:1: replace nothing", root)?);
        assert!(explain("src/lib.rs", root).is_err());
        Ok(())
    }
}
