//! A program of the host, copied into the guest with all that it needs to run: its libraries or its interpreter.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::initramfs::Tree;
use crate::command::{output, which};

/// Adds a program under its own path, so that it finds itself and its libraries in the usual places.
pub(super) fn add(tree: &mut Tree, program: &Path) -> Result<()> {
    let path = utf8(program)?.to_owned();
    add_as(tree, &path, program, None)
}

/// Adds a program under another path; `root` is the folder with an unpacked package's libraries, which lie in `/` in the guest.
pub(super) fn add_as(
    tree: &mut Tree,
    path: &str,
    program: &Path,
    root: Option<&Path>,
) -> Result<()> {
    tree.file(path, program)?;
    let bytes =
        std::fs::read(program).with_context(|| format!("{} cannot be read", program.display()))?;
    if let Some(line) = bytes.strip_prefix(b"#!") {
        return interpreters(line).iter().try_for_each(|program| add(tree, program));
    }
    for library in libraries(program, root)? {
        let inside = root.and_then(|root| library.strip_prefix(root).ok());
        tree.file(utf8(inside.unwrap_or(&library))?, &library)?;
    }
    Ok(())
}

/// Adds a file, or a folder with its contents, below `folder`: under the same relative path, or by its name if that path leads
/// elsewhere.
pub(super) fn add_file(tree: &mut Tree, folder: &str, file: &Path) -> Result<()> {
    let path = if stays_below(file) {
        file.as_os_str()
    } else {
        file.file_name().with_context(|| format!("{} has no name", file.display()))?
    };
    add_all(tree, &format!("{folder}/{}", utf8(path)?), file)
}

fn add_all(tree: &mut Tree, path: &str, host: &Path) -> Result<()> {
    if !host.is_dir() {
        return tree.file(path, host);
    }
    tree.folder(path);
    for entry in std::fs::read_dir(host)? {
        let entry = entry?;
        add_all(tree, &format!("{path}/{}", utf8(&entry.file_name())?), &entry.path())?;
    }
    Ok(())
}

/// The files that a program's arguments name, alone or as the value in `--option=path`.
pub(super) fn files_in(arguments: &[std::ffi::OsString]) -> Vec<PathBuf> {
    arguments
        .iter()
        .map(|argument| {
            let bytes = argument.as_bytes();
            match bytes.iter().position(|byte| *byte == b'=') {
                Some(at) if bytes.starts_with(b"-") => OsStr::from_bytes(&bytes[at + 1..]),
                _ => argument,
            }
        })
        .map(PathBuf::from)
        .filter(|path| stays_below(path) && path.exists())
        .collect()
}

/// The path on the host of a program that the user gave by path or by name.
pub(super) fn find(name: &Path) -> Result<Option<PathBuf>> {
    if name.components().count() > 1 {
        let path = std::path::absolute(name)?;
        return Ok(path.is_file().then_some(path));
    }
    Ok(which(name))
}

fn stays_below(path: &Path) -> bool {
    path.components().count() > 0
        && path.components().all(|part| matches!(part, Component::Normal(_)))
}

/// The programs that the line after `#!` names: one, or env and the one that env looks for.
fn interpreters(line: &[u8]) -> Vec<PathBuf> {
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or(line);
    let mut words = line
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
        .map(|word| Path::new(OsStr::from_bytes(word)));
    let first = words.next();
    let by_name =
        words.next().filter(|_| first.is_some_and(|first| first.ends_with("env"))).and_then(which);
    // The guest has its own shell.
    let first = first.filter(|first| *first != Path::new("/bin/sh"));
    first.map(Path::to_owned).into_iter().chain(by_name).collect()
}

/// The libraries that the loader would load, and the loader itself; nothing for a static program.
fn libraries(program: &Path, root: Option<&Path>) -> Result<Vec<PathBuf>> {
    let mut ldd = Command::new("ldd");
    ldd.arg(program).env("LC_ALL", "C");
    if let Some(root) = root {
        let folders: Vec<_> =
            ["lib", "usr/lib"].map(|lib| root.join(lib).join("x86_64-linux-gnu")).into();
        ldd.env("LD_LIBRARY_PATH", std::env::join_paths(folders)?);
    }
    let said = match output(&mut ldd) {
        Ok(said) => String::from_utf8_lossy(&said).into_owned(),
        Err(error) if error.to_string().contains("not a dynamic executable") => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    parse_ldd(&said).with_context(|| format!("{} cannot run in the guest", program.display()))
}

fn parse_ldd(said: &str) -> Result<Vec<PathBuf>> {
    let mut libraries = Vec::new();
    for line in said.lines() {
        let wanted = line.split_whitespace().next().unwrap_or_default();
        let found = line.split_once("=> ").map_or(line, |(_, found)| found).trim();
        if found.starts_with("not found") {
            bail!("the library {wanted} is not on this machine");
        }
        if found.starts_with('/') {
            libraries.push(found.split(" (0x").next().unwrap_or(found).into());
        }
    }
    Ok(libraries)
}

fn utf8(path: &(impl AsRef<OsStr> + ?Sized)) -> Result<&str> {
    let path = path.as_ref();
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_what_ldd_found() -> Result<()> {
        let said = "\tlinux-vdso.so.1 (0x00007ffe)\n\tlibc.so.6 => /lib/libc.so.6 (0x00007f)\n\t/lib64/ld.so.2 (0x00007f)\n";
        let expected: Vec<PathBuf> = vec!["/lib/libc.so.6".into(), "/lib64/ld.so.2".into()];
        assert_eq!(parse_ldd(said)?, expected);
        assert_eq!(parse_ldd("\tstatically linked\n")?, Vec::<PathBuf>::new());
        Ok(())
    }

    #[test]
    fn a_missing_library_is_named() {
        let error = parse_ldd("\tlibnl-3.so.200 => not found\n").expect_err("it is missing");
        assert!(error.to_string().contains("libnl-3.so.200"));
    }

    #[test]
    fn a_script_needs_the_programs_of_its_first_line() {
        assert_eq!(interpreters(b" /bin/cat -u\nnext"), [PathBuf::from("/bin/cat")]);
        assert!(interpreters(b"/bin/sh\n").is_empty());
        let found = interpreters(b"/usr/bin/env sh\n");
        assert_eq!(found.first(), Some(&"/usr/bin/env".into()));
        assert_eq!(found.get(1), which("sh").as_ref());
    }

    #[test]
    fn files_are_found_in_arguments() {
        let arguments =
            ["src/main.rs", "--rules=Cargo.toml", "..", "--none=", "a=Cargo.toml", "/etc"];
        let expected: Vec<PathBuf> = vec!["src/main.rs".into(), "Cargo.toml".into()];
        assert_eq!(files_in(&arguments.map(Into::into)), expected);
    }
}
