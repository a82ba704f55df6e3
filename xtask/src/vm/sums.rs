//! Whether the files of a folder are as they were: their SHA256 sums are kept in a file beside them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::{output, which};

/// So many paths fit into one command line.
const AT_ONCE: usize = 1000;

/// Keeps the sums of all files at these paths of a folder, and below them, in `file`, which does not count itself. Paths that do
/// not exist are left out.
pub(super) fn keep(folder: &Path, paths: &[&str], file: &str) -> Result<()> {
    Ok(std::fs::write(folder.join(file), now(folder, paths, file)?)?)
}

/// Whether the same files are there as when their sums were kept, and no others.
pub(super) fn hold(folder: &Path, paths: &[&str], file: &str) -> bool {
    let kept = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
    // An emptied file is no proof, even of a folder that was emptied too.
    !kept.is_empty() && now(folder, paths, file).is_ok_and(|now| now == kept)
}

/// A line for each file, as `sha256sum` prints it, and one for each link.
fn now(folder: &Path, paths: &[&str], but_for: &str) -> Result<String> {
    let (mut files, mut links) = (BTreeSet::new(), BTreeSet::new());
    let mut open: Vec<_> = paths.iter().map(PathBuf::from).collect();
    while let Some(path) = open.pop() {
        let here = folder.join(&path);
        let Ok(found) = here.symlink_metadata() else { continue };
        if found.is_dir() {
            for entry in std::fs::read_dir(here)? {
                open.push(path.join(entry?.file_name()));
            }
        } else if found.is_symlink() {
            links.insert(format!("{} -> {}\n", path.display(), here.read_link()?.display()));
        } else if path != Path::new(but_for) {
            files.insert(path);
        }
    }
    let sha256sum = which("sha256sum").context("sha256sum is not here: install coreutils")?;
    let mut text = String::new();
    for files in files.into_iter().collect::<Vec<_>>().chunks(AT_ONCE) {
        let said = output(Command::new(&sha256sum).arg("--").args(files).current_dir(folder))?;
        text += &String::from_utf8_lossy(&said);
    }
    text.extend(links);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Whether a change in a folder is noticed.
    fn notices(change: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<bool> {
        let folder = tempfile::tempdir()?;
        let folder = folder.path();
        fs::create_dir_all(folder.join("lib/net"))?;
        fs::write(folder.join("lib/net/ip_vs.ko"), "a module")?;
        fs::write(folder.join("lib/modules.dep"), "ip_vs.ko:\n")?;
        std::os::unix::fs::symlink("nowhere yet", folder.join("lib/build"))?;
        fs::write(folder.join("other"), "")?;
        let all = ["lib", "usr"];
        assert!(!hold(folder, &all, "sums"));
        keep(folder, &all, "sums")?;
        assert!(hold(folder, &all, "sums"));
        change(folder)?;
        Ok(!hold(folder, &all, "sums"))
    }

    #[test]
    fn every_change_is_noticed() -> Result<()> {
        assert!(notices(|folder| fs::write(folder.join("lib/net/ip_vs.ko"), "A MODULE"))?);
        assert!(notices(|folder| fs::write(folder.join("lib/modules.dep"), ""))?);
        assert!(notices(|folder| fs::remove_file(folder.join("lib/net/ip_vs.ko")))?);
        assert!(notices(|folder| fs::write(folder.join("lib/net/new.ko"), ""))?);
        assert!(notices(|folder| fs::write(folder.join("usr"), ""))?);
        assert!(notices(|folder| fs::remove_file(folder.join("lib/build")))?);
        assert!(notices(|folder| fs::remove_dir_all(folder.join("lib")))?);
        assert!(!notices(|folder| fs::write(folder.join("other"), "changed"))?);
        Ok(())
    }

    #[test]
    fn sums_that_were_cut_prove_nothing() -> Result<()> {
        assert!(notices(|folder| fs::write(folder.join("sums"), ""))?);
        assert!(notices(|folder| fs::remove_file(folder.join("sums")))?);
        assert!(notices(|folder| {
            let sums = fs::read_to_string(folder.join("sums"))?;
            fs::write(folder.join("sums"), sums.lines().next().unwrap_or_default())
        })?);
        assert!(notices(|folder| {
            fs::remove_dir_all(folder.join("lib"))?;
            fs::write(folder.join("sums"), "")
        })?);
        Ok(())
    }
}
