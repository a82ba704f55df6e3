//! The report of a benchmark: its tables and ratios, and the way in which they were measured.

use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context as _, Result};

use super::chart;
use crate::cargo::metadata;

/// The file with the newest figures, between marks that have the report's name.
const KEPT: &str = "docs/performance.md";

/// The output of a benchmark, without the parts that are of no use later.
pub(super) struct Report {
    name: &'static str,
    machine: String,
    /// Headings and tables in Markdown.
    tables: Vec<String>,
    ratios: Vec<String>,
    rates: Vec<chart::Rate>,
}

impl Report {
    /// Reads the benchmark's standard output.
    pub(super) fn new(name: &'static str, machine: String, output: &str) -> Self {
        let mut report =
            Self { name, machine, tables: Vec::new(), ratios: Vec::new(), rates: Vec::new() };
        for line in output.lines() {
            if line.starts_with("ratio ") {
                report.ratios.push(line.to_owned());
            } else if let Some(rate) = chart::Rate::parse(line) {
                report.rates.push(rate);
            } else if line.starts_with("### ") {
                report.tables.extend([String::new(), line.to_owned(), String::new()]);
            } else if line.starts_with('|') {
                report.tables.push(line.to_owned());
            }
        }
        report
    }

    /// Writes the report and its chart below the target directory, and the report into the documentation if it is to be kept.
    pub(super) fn write(&self, keep: bool) -> Result<()> {
        let metadata = metadata()?;
        let folder = metadata.target_directory.join("bench");
        std::fs::create_dir_all(&folder)?;
        let text = self.to_string();
        let file = folder.join(format!("{}.md", self.name));
        std::fs::write(&file, &text)?;
        eprintln!("the report: {file}");
        if !self.rates.is_empty() {
            let file = folder.join(format!("{}.svg", self.name));
            chart::draw(&self.rates, file.as_std_path())?;
            eprintln!("the chart: {file}");
        }
        if keep {
            let file = metadata.workspace_root.join(KEPT);
            keep_in(file.as_std_path(), self.name, &text)
                .with_context(|| format!("the tables cannot be kept in {file}"))?;
            eprintln!("kept in {KEPT}");
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let date = now.split('T').next().unwrap_or_default();
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        writeln!(f, "{date}, {}: `cargo xtask {}`", self.machine, arguments.join(" "))?;
        for line in &self.tables {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "\n### Ratios\n\n```text\n{}\n```", self.ratios.join("\n"))
    }
}

/// Replaces the text between the marks of this name.
fn keep_in(file: &Path, name: &str, text: &str) -> Result<()> {
    let before = std::fs::read_to_string(file)?;
    std::fs::write(file, replaced(&before, name, text)?)?;
    Ok(())
}

fn replaced(document: &str, name: &str, text: &str) -> Result<String> {
    let [begin, end] = ["begin", "end"].map(|word| format!("<!-- {name}: {word} -->\n"));
    let parts = document.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    });
    let (before, after) = parts.with_context(|| format!("it lacks the marks of {name}"))?;
    Ok(format!("{before}{begin}\n{text}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_around_the_marks_stays() -> Result<()> {
        let document = "a\n<!-- host: begin -->\nold\n<!-- host: end -->\nb\n";
        let kept = replaced(document, "host", "new\n")?;
        assert_eq!(kept, "a\n<!-- host: begin -->\n\nnew\n\n<!-- host: end -->\nb\n");
        assert_eq!(replaced(&kept, "host", "new\n")?, kept);
        assert!(replaced(document, "kernel", "new").is_err());
        Ok(())
    }

    #[test]
    fn tables_are_told_from_the_rest() {
        let output =
            "noise\n### One: 1x1\n\n| a |\n|---|\n| 1 |\nrate floor@1x1 7\nratio a/b@1x1 2.00\n";
        let report = Report::new("kernel", "Linux".into(), output);
        assert_eq!(report.tables, ["", "### One: 1x1", "", "| a |", "|---|", "| 1 |"]);
        assert_eq!(report.ratios, ["ratio a/b@1x1 2.00"]);
        assert_eq!(report.rates.len(), 1);
    }
}
