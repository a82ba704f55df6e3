//! Debian's packages: downloaded and unpacked under `target/vm`. Nothing is installed.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::lists::Lists;
use super::{lock, sums};
use crate::command::{output, which};
use crate::progress::Progress;

/// Whether this host's own packages can be had with apt.
pub(super) fn available() -> bool {
    let installed = std::fs::metadata("/var/lib/dpkg/status");
    ensure_apt().is_ok() && installed.is_ok_and(|file| file.len() > 0)
}

/// Fails if Debian's packages cannot be had, whichever packages the host itself uses.
pub(super) fn ensure_apt() -> Result<()> {
    let missing = ["apt-get", "dpkg"].into_iter().find(|program| which(program).is_none());
    match missing {
        Some(program) => bail!("{program}, with which Debian's packages are fetched, is not here"),
        None => Ok(()),
    }
}

/// Does work that needs the lists of this host's own sources: with today's lists if that succeeds, else with new ones.
fn with_lists(lists: &Lists, work: impl Fn() -> Result<()>) -> Result<()> {
    if lists.are_fresh() && work().is_ok() {
        return Ok(());
    }
    // One source may fail among many that do not.
    let fetched = lists.fetch();
    work().map_err(|error| match fetched {
        Ok(()) => error,
        Err(failure) => error.context(failure),
    })
}

/// Downloads packages of this host's own release and unpacks them into one folder, unless this was done before.
pub(super) fn unpack(packages: &[&str], root: &Path, cache: &Path) -> Result<()> {
    if is_whole(root) {
        return Ok(());
    }
    let lists = Lists::of_host(cache);
    with_lists(&lists, || unpack_from(&lists, packages, root, |_| Ok(())))
}

/// The same with all dependencies that this host lacks; replaces the folder's former contents.
pub(super) fn unpack_with_dependencies(packages: &[&str], root: &Path, cache: &Path) -> Result<()> {
    let lists = Lists::of_host(cache);
    with_lists(&lists, || unpack_all_from(&lists, packages, root))
}

/// Downloads packages and unpacks them into one folder, to which `complete` adds what belongs to it.
pub(super) fn unpack_from(
    lists: &Lists,
    packages: &[&str],
    root: &Path,
    complete: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    unpack_by(lists, packages, root, |folder| lists.download(packages, folder), complete)
}

/// Downloads packages with all dependencies, and unpacks them into one folder.
pub(super) fn unpack_all_from(lists: &Lists, packages: &[&str], root: &Path) -> Result<()> {
    let download = |folder: &Path| lists.download_with_dependencies(packages, folder);
    unpack_by(lists, packages, root, download, |_| Ok(()))
}

/// The caller holds the lock of the cache.
fn unpack_by(
    lists: &Lists,
    packages: &[&str],
    root: &Path,
    download: impl FnOnce(&Path) -> Result<()>,
    complete: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let parent = root.parent().context("a folder in target/vm")?;
    std::fs::create_dir_all(parent)?;
    lock::remove_leftovers(parent)?;
    // Unpacked beside its final place first: a folder with the final name is complete, whenever a run is interrupted.
    let work = tempfile::tempdir_in(parent)?;
    let progress = Progress::start(format!("downloading {}", packages.join(" ")));
    let unpacked = work.path().join("root");
    download(work.path())
        .and_then(|()| unpack_debs(work.path(), &unpacked))
        .map_err(|error| lists.failure(&error))
        .with_context(|| format!("{} could not be fetched", packages.join(" ")))?;
    drop(progress);
    complete(&unpacked)?;
    sums::keep(&unpacked, &ALL, SUMS)?;
    // The folder stays complete even if the host loses power.
    rustix::fs::syncfs(std::fs::File::open(work.path())?)?;
    if root.exists() {
        std::fs::remove_dir_all(root)?;
    }
    std::fs::rename(&unpacked, root).with_context(|| format!("{} was not unpacked", root.display()))
}

/// The file of the sums of all others. Caches of earlier versions lack it, and are fetched anew.
const SUMS: &str = ".sums";

/// The folder itself, and so all that is in it.
const ALL: [&str; 1] = [""];

/// Whether a folder has what was unpacked into it, and nothing else.
pub(super) fn is_whole(root: &Path) -> bool {
    sums::hold(root, &ALL, SUMS)
}

/// Makes a folder pass for what was unpacked.
#[cfg(test)]
pub(super) fn pass_for_whole(root: &Path) -> Result<()> {
    sums::keep(root, &ALL, SUMS)
}

fn unpack_debs(folder: &Path, root: &Path) -> Result<()> {
    for file in std::fs::read_dir(folder)? {
        let file = file?.path();
        if file.extension().is_some_and(|ending| ending == "deb") {
            output(Command::new("dpkg").arg("-x").arg(file).arg(root))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_after_it_was_unpacked_is_not_whole() -> Result<()> {
        let root = tempfile::tempdir()?;
        let root = root.path();
        assert!(!is_whole(&root.join("nowhere")));
        let shell = root.join("bin/busybox");
        std::fs::create_dir(root.join("bin"))?;
        std::fs::write(&shell, "a program")?;
        assert!(!is_whole(root), "an earlier version kept no sums");
        pass_for_whole(root)?;
        assert!(is_whole(root));
        std::fs::write(&shell, "a pro9ram")?;
        assert!(!is_whole(root));
        Ok(())
    }
}
