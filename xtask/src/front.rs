//! Compares the README with the crate's page: a program that both have is the same in both.

use std::path::Path;

use anyhow::Result;

#[test]
fn programs_of_the_readme_are_on_the_crate_page() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = std::fs::read_to_string(root.join("README.md"))?;
    let page = std::fs::read_to_string(root.join("src/lib.rs"))?;
    let page: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    let page = page.join("\n");
    let programs: Vec<_> = readme.split("```rust,no_run\n").skip(1).collect();
    assert!(programs.len() >= 2, "{}", programs.len());
    for program in programs {
        let (program, _) = program.split_once("```").unwrap_or((program, ""));
        assert!(
            page.contains(program),
            "the crate's page lacks this program of the README:\n{program}"
        );
    }
    Ok(())
}
