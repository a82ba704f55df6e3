//! The floors of the library: which module may use which, as docs/design.md draws them.
//!
//! A row of that table has a module of `src`, its contents, and the modules that it may use. Each of these stands above it: no
//! two modules use each other. A row may make an exception for a type and its builder. Code under `#[cfg(test)]` may use
//! anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

mod circles;
mod names;

/// A row of the table.
struct Floor {
    name: String,
    knows: BTreeSet<String>,
}

fn repository() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the repository")
}

/// The rows of the table, from the bottom floor up.
fn drawn(design: &str) -> Result<Vec<Floor>> {
    let mut floors = Vec::<Floor>::new();
    for row in design.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, _, knows] = cells[..] else { bail!("no row of three cells: {row}") };
        let name = name.trim_matches('`').to_owned();
        let mut allowed = BTreeSet::new();
        for knows in knows.split(", ").filter(|knows| *knows != "nothing") {
            let builder = knows.strip_suffix(" (its builder)");
            let below = floors.iter().any(|floor| floor.name == knows);
            ensure!(builder.is_some() || below, "{name} knows {knows}, which is no floor below it");
            allowed.insert(builder.unwrap_or(knows).to_owned());
        }
        floors.push(Floor { name, knows: allowed });
    }
    ensure!(!floors.is_empty(), "docs/design.md draws no floors");
    Ok(floors)
}

/// The Rust files of a folder and those below it, except those that are compiled for tests alone.
fn files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            // `reconcile::universe` is a test.
            if !path.ends_with("universe") {
                files(&path, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs")
            // The hosts of the judges' tests.
            && !path.ends_with("diagnose/altered.rs")
        {
            found.push(path);
        }
    }
    Ok(())
}

/// A file's code without comments, and without the parts that are compiled for tests alone.
fn code(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    while let Some(line) = lines.next() {
        let is_of_tests = line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test");
        if !is_of_tests {
            code += line;
            code += "\n";
        } else if lines.next().is_none_or(|item| item.ends_with('{')) {
            // The tests at the end of the file.
            break;
        }
    }
    code
}

/// The names that follow `crate::` in code.
fn used(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let Some(list) = rest.strip_prefix('{') else {
            names.insert(rest.split(|c| !is_name(c)).next().unwrap_or_default().to_owned());
            continue;
        };
        let mut depth = 1;
        for part in list.split_inclusive(['{', '}', ',']) {
            if depth == 1 {
                names.insert(part.trim().split(|c| !is_name(c)).next().unwrap_or_default().into());
            }
            depth += i32::from(part.ends_with('{')) - i32::from(part.ends_with('}'));
            if depth == 0 {
                break;
            }
        }
    }
    names.remove("");
    names
}

/// The module of each name that lib.rs exports.
fn exports(library: &str) -> BTreeMap<String, String> {
    let mut modules = BTreeMap::new();
    for export in code(library).split(';').filter_map(|item| item.split("pub use ").nth(1)) {
        let Some((module, names)) = export.split_once("::") else { continue };
        for name in names.trim_matches(['{', '}']).split(',') {
            modules.insert(name.trim().to_owned(), module.to_owned());
        }
    }
    modules
}

/// Which modules each module of `src` uses.
fn built(source: &Path) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let exports = exports(&fs::read_to_string(source.join("lib.rs"))?);
    let mut found = Vec::new();
    files(source, &mut found)?;
    let mut modules = BTreeMap::<_, BTreeSet<_>>::new();
    for file in found {
        let inside = file.strip_prefix(source)?;
        let first = inside.iter().next().context("a file has a name")?.to_string_lossy();
        let module = first.trim_end_matches(".rs").to_owned();
        if module == "lib" {
            continue;
        }
        let uses = modules.entry(module.clone()).or_default();
        for name in used(&code(&fs::read_to_string(&file)?)) {
            let name = exports.get(&name).cloned().unwrap_or(name);
            if name != module {
                uses.insert(name);
            }
        }
    }
    Ok(modules)
}

#[test]
fn each_module_knows_what_is_drawn_and_nothing_else() -> Result<()> {
    let repository = repository()?;
    let floors = drawn(&fs::read_to_string(repository.join("docs/design.md"))?)?;
    let built = built(&repository.join("src"))?;
    let mut wrong = Vec::new();
    for (module, uses) in &built {
        let Some(floor) = floors.iter().find(|floor| floor.name == *module) else {
            wrong.push(format!("{module} is no floor; it uses {uses:?}"));
            continue;
        };
        for unseen in uses.difference(&floor.knows) {
            wrong.push(format!("{module} uses {unseen}, which is not drawn"));
        }
        for unused in floor.knows.difference(uses) {
            wrong.push(format!("{module} does not use {unused}, which is drawn"));
        }
    }
    for floor in floors.iter().filter(|floor| !built.contains_key(&floor.name)) {
        wrong.push(format!("{} is drawn, and not there", floor.name));
    }
    ensure!(wrong.is_empty(), "docs/design.md and src differ:\n{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn a_use_of_a_floor_above_is_seen() -> Result<()> {
    let text = "use crate::{a, b::{C, D}};\n#[cfg(test)]\nuse crate::x;\nfn f() { crate::e::g() }\n// crate::h\n\
                #[cfg(test)]\nmod tests {\nuse crate::i;";
    let names: Vec<_> = used(&code(text)).into_iter().collect();
    assert_eq!(names, ["a", "b", "e"]);
    let table = "| `a` | x | nothing |\n| `b` | x | a, c (its builder) |\n| `c` | x | b |";
    assert_eq!(drawn(table)?.len(), 3);
    assert!(drawn("| `a` | x | b |\n| `b` | x | nothing |").is_err(), "a circle");
    Ok(())
}
