//! Circles of files inside of a module: only those that docs/design.md lists, each with its reason.
//!
//! An arrow is an import or a path that is written out. An arrow to a re-exported name (`pub use`) leads to the file that
//! declares the name: a `mod.rs` of re-exports is part of no circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use super::{code, files, repository};

/// A module's path below the root of the crate: `session::batch`.
type Module = Vec<String>;

/// For each file, the files that it uses, with the names that it uses from each.
type Arrows = BTreeMap<Module, BTreeMap<Module, BTreeSet<String>>>;

/// The names that a file uses from others. Paths begin below the root of the crate and end with a name.
#[derive(Default)]
struct File {
    uses: BTreeSet<Vec<String>>,
    /// The names that the file re-exports, each with its path.
    hands_on: BTreeMap<String, Vec<String>>,
}

/// A path from the root of the crate on; `None` if the path leads out of the crate.
fn from_root(words: &[String], here: &Module, children: &BTreeSet<String>) -> Option<Vec<String>> {
    let mut at = here.clone();
    match words.first()?.as_str() {
        "crate" => at.clear(),
        "self" => {}
        "super" => _ = at.pop()?,
        child if children.contains(child) => {
            at.extend_from_slice(words);
            return Some(at);
        }
        _ => return None,
    }
    let mut rest = &words[1..];
    while rest.first().is_some_and(|word| word == "super") {
        at.pop()?;
        rest = &rest[1..];
    }
    at.extend_from_slice(rest);
    Some(at)
}

/// The paths of a tree of imports, each with the name under which it is imported.
fn paths(tree: &str, before: &[String], found: &mut Vec<(Vec<String>, String)>) {
    let tree = tree.trim();
    if let Some(list) = tree.strip_prefix('{') {
        let (mut depth, mut start) = (0, 0);
        let list = list.strip_suffix('}').unwrap_or(list);
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    paths(&list[start..at], before, found);
                    start = at + 1;
                }
                _ => {}
            }
        }
        paths(&list[start..], before, found);
    } else if let Some((first, rest)) = tree.split_once("::") {
        let mut before = before.to_vec();
        before.push(first.trim().to_owned());
        paths(rest, &before, found);
    } else if !tree.is_empty() {
        let (name, alias) = tree.split_once(" as ").unwrap_or((tree, tree));
        let mut path = before.to_vec();
        let mut alias = alias.trim();
        if name.trim() == "self" {
            alias = before.last().map_or("self", |name| name);
        } else {
            path.push(name.trim().to_owned());
        }
        found.push((path.clone(), alias.to_owned()));
    }
}

/// The imports of code, each with whether it is re-exported, and the code without them.
fn imports(code: &str) -> (Vec<(bool, String)>, String) {
    let (mut imports, mut rest) = (Vec::new(), String::new());
    let mut lines = code.lines();
    let mut is_inline = false;
    while let Some(line) = lines.next() {
        // The module around an inline module is this file.
        is_inline = line != "}" && (is_inline || line.starts_with("mod ") && line.ends_with('{'));
        let line = &if is_inline { line.replace("super::", "self::") } else { line.to_owned() };
        let item = line.trim_start();
        let is_public = item.starts_with("pub");
        let visible =
            item.strip_prefix("pub").map_or(item, |item| item.trim_start_matches(|c| c != ' '));
        let Some(tree) = visible.trim_start().strip_prefix("use ") else {
            rest += line;
            rest += "\n";
            continue;
        };
        let mut tree = tree.to_owned();
        while !tree.contains(';') {
            let Some(line) = lines.next() else { break };
            tree += line;
        }
        imports.push((is_public, tree.trim_end_matches(';').to_owned()));
    }
    (imports, rest)
}

/// The paths of two and more words in code.
fn written_out(code: &str) -> Vec<Vec<String>> {
    let is_of_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    code.split(|c| !is_of_path(c))
        .filter(|path| path.contains("::") && !path.starts_with(':'))
        .map(|path| path.split("::").filter(|word| !word.is_empty()).map(Into::into).collect())
        .collect()
}

fn has_word(code: &str, word: &str) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|other| other == word)
}

fn read(code: &str, here: &Module, children: &BTreeSet<String>) -> File {
    let mut file = File::default();
    let (imports, rest) = imports(code);
    for (is_public, tree) in imports {
        let mut found = Vec::new();
        paths(&tree, &[], &mut found);
        for (path, alias) in found {
            let Some(path) = from_root(&path, here, children) else { continue };
            if !is_public || has_word(&rest, &alias) {
                file.uses.insert(path.clone());
            }
            if is_public {
                file.hands_on.insert(alias, path);
            }
        }
    }
    let written = written_out(&rest);
    file.uses.extend(written.iter().filter_map(|path| from_root(path, here, children)));
    file
}

/// The file that declares the name at the end of a path, behind all re-exports, and that name.
fn home(mut path: Vec<String>, files: &BTreeMap<Module, File>) -> (Module, String) {
    loop {
        let length = (0..=path.len()).rev().find(|length| files.contains_key(&path[..*length]));
        let (module, rest) = path.split_at(length.unwrap_or(0));
        let Some(name) = rest.first() else { return (path, String::new()) };
        match files.get(module).and_then(|file| file.hands_on.get(name)) {
            Some(next) if *next != path => path = [next, &rest[1..]].concat(),
            _ => return (module.to_vec(), name.clone()),
        }
    }
}

/// The module of the file with this path below `src`.
fn module_of(file: &Path) -> Module {
    let names = file.with_extension("");
    let mut module: Module = names.iter().map(|name| name.to_string_lossy().into()).collect();
    module.pop_if(|name| name == "mod" || name == "lib");
    module
}

/// The code of each file of a source.
fn codes(source: &Path) -> Result<BTreeMap<Module, String>> {
    let mut found = Vec::new();
    files(source, &mut found)?;
    let mut codes = BTreeMap::<Module, String>::new();
    for file in found {
        let module = module_of(file.strip_prefix(source)?);
        codes.insert(module, code(&fs::read_to_string(&file)?));
    }
    Ok(codes)
}

/// The arrows between files, except those to and from lib.rs.
fn arrows_of(codes: &BTreeMap<Module, String>) -> Arrows {
    let files: BTreeMap<_, _> = codes
        .iter()
        .map(|(module, code)| {
            let is_child =
                |other: &&Module| other.len() == module.len() + 1 && other.starts_with(module);
            let children = codes.keys().filter(is_child).filter_map(|child| child.last().cloned());
            (module.clone(), read(code, module, &children.collect()))
        })
        .collect();
    let mut arrows = Arrows::new();
    for (module, file) in files.iter().filter(|(module, _)| !module.is_empty()) {
        for path in &file.uses {
            let (other, name) = home(path.clone(), &files);
            if other != *module && !other.is_empty() {
                arrows.entry(module.clone()).or_default().entry(other).or_default().insert(name);
            }
        }
    }
    arrows
}

/// The files that a file reaches by arrows, also through other files.
fn reached(from: &Module, arrows: &Arrows) -> BTreeSet<Module> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from];
    while let Some(module) = next.pop() {
        for other in arrows.get(module).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(other.clone()) {
                next.push(other);
            }
        }
    }
    reached
}

/// The circles inside of a module: files each of which leads to all others.
fn circles(arrows: &Arrows) -> BTreeSet<BTreeSet<Module>> {
    let inside = |from: &Module| {
        let all = reached(from, arrows).into_iter();
        all.filter(|to| to.first() == from.first()).collect::<BTreeSet<_>>()
    };
    let reach: BTreeMap<_, _> = arrows.keys().map(|module| (module, inside(module))).collect();
    let circle_of = |module: &Module| {
        let others = reach.get(module)?.iter();
        let back = others.filter(|to| reach.get(to).is_some_and(|back| back.contains(module)));
        Some(back.cloned().collect::<BTreeSet<_>>())
    };
    arrows.keys().filter_map(circle_of).filter(|circle| circle.len() > 1).collect()
}

/// The circles that docs/design.md allows: a line of its list begins with their files.
fn allowed(design: &str) -> Result<BTreeSet<BTreeSet<Module>>> {
    let mut allowed = BTreeSet::new();
    for line in design.lines().filter(|line| line.starts_with("- `") && line.contains(".rs`")) {
        let (names, reason) = line[2..].split_once(": ").unwrap_or((&line[2..], ""));
        let names: Vec<_> = names.split(", ").map(|name| name.trim_matches('`')).collect();
        if !names.iter().all(|name| Path::new(name).extension().is_some_and(|it| it == "rs")) {
            continue;
        }
        ensure!(!reason.is_empty(), "no reason is given: {line}");
        allowed.insert(names.iter().map(|name| module_of(Path::new(name))).collect());
    }
    Ok(allowed)
}

#[test]
fn files_of_a_module_know_each_other_in_one_direction() -> Result<()> {
    let repository = repository()?;
    let arrows = arrows_of(&codes(&repository.join("src"))?);
    let allowed = allowed(&fs::read_to_string(repository.join("docs/design.md"))?)?;
    let circles = circles(&arrows);
    let mut wrong = Vec::new();
    for circle in circles.difference(&allowed) {
        for from in circle {
            for (to, names) in arrows[from].iter().filter(|(to, _)| circle.contains(*to)) {
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                wrong.push(format!(
                    "{} uses {} of {}",
                    from.join("/"),
                    names.join(", "),
                    to.join("/")
                ));
            }
        }
    }
    for circle in allowed.difference(&circles) {
        let names: Vec<_> = circle.iter().map(|module| module.join("/")).collect();
        wrong.push(format!("no circle is left of {}", names.join(", ")));
    }
    ensure!(wrong.is_empty(), "docs/design.md and src differ:\n{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn a_circle_is_seen_through_what_is_handed_on() -> Result<()> {
    let module = |path: &str| -> Module { path.split('/').map(Into::into).collect() };
    let codes = [
        ("a", "mod b;\nmod c;\npub use b::{B, C as D};\nuse super::e;"),
        ("a/b", "use super::c::C;\nmod inside {\n    use super::B;\n}"),
        ("a/c", "fn f(d: super::D) {}"),
    ];
    let codes = codes.map(|(path, code)| (module(path), code.to_owned())).into();
    let circle = BTreeSet::from(["a/b", "a/c"].map(module));
    assert_eq!(circles(&arrows_of(&codes)), BTreeSet::from([circle.clone()]));
    let list = "- `a/b.rs`, `a/c.rs`: a type and its builder";
    assert_eq!(allowed(list)?, BTreeSet::from([circle]));
    assert!(allowed("- `a/b.rs`, `a/c.rs`").is_err(), "no reason");
    Ok(())
}
