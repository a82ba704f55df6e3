//! Debian's packages: looked up, downloaded and unpacked under `target/vm`; only what the host itself runs is installed.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::lists::Lists;
use super::lock;
use crate::command::{output, which};
use crate::progress::Progress;

/// What the host runs, and the package that has it.
const HOST_PROGRAMS: [(&str, &str); 2] =
    [("qemu-system-x86_64", "qemu-system-x86"), ("depmod", "kmod")];

/// Whether this host's own packages are had with apt.
pub(super) fn available() -> bool {
    let installed = std::fs::metadata("/var/lib/dpkg/status");
    ensure_apt().is_ok() && installed.is_ok_and(|file| file.len() > 0)
}

/// Fails where Debian's packages cannot be had, whatever the host's own are.
pub(super) fn ensure_apt() -> Result<()> {
    let missing = ["apt-get", "dpkg"].into_iter().find(|program| which(program).is_none());
    match missing {
        Some(program) => bail!("{program}, with which Debian's packages are fetched, is not here"),
        None => Ok(()),
    }
}

/// Installs what the host lacks, or says what to install.
pub(super) fn ensure_host_programs(cache: &Path) -> Result<()> {
    let missing: Vec<_> =
        HOST_PROGRAMS.iter().filter(|(program, _)| which(program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let programs = list(missing.iter().map(|(program, _)| *program));
    let packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    if !available() {
        bail!(
            "this needs {programs}: install them with your package manager (Debian's packages: {})",
            packages.join(" ")
        );
    }
    let _lock = lock::exclusive(cache)?;
    let lists = Lists::of_host(cache);
    let install = || {
        let _progress = Progress::start(format!("installing {}", packages.join(" ")));
        as_root("apt-get")?
            .args(["-o", &lists.option(), "-o", "DPkg::Lock::Timeout=300"])
            .args(["install", "--yes", "--no-install-recommends"])
            .args(&packages)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .run()
    };
    with_lists(&lists, install).with_context(|| {
        format!(
            "{programs} could not be installed; as root: apt-get install {}",
            packages.join(" ")
        )
    })
}

/// Does what needs the lists of this host's own sources: with those of today if it can be done, else with new ones.
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

/// Downloads packages of this host's own release and unpacks them into one folder, unless that was done before.
pub(super) fn unpack(packages: &[&str], root: &Path, cache: &Path) -> Result<()> {
    if root.exists() {
        return Ok(());
    }
    let lists = Lists::of_host(cache);
    with_lists(&lists, || unpack_from(&lists, packages, root))
}

/// The same with all that the packages need and this host lacks, in the place of what may be there.
pub(super) fn unpack_with_dependencies(packages: &[&str], root: &Path, cache: &Path) -> Result<()> {
    let lists = Lists::of_host(cache);
    with_lists(&lists, || unpack_all_from(&lists, packages, root))
}

/// Downloads packages and unpacks them into one folder.
pub(super) fn unpack_from(lists: &Lists, packages: &[&str], root: &Path) -> Result<()> {
    unpack_by(lists, packages, root, |folder| lists.download(packages, folder))
}

/// Downloads packages with all that they need, and unpacks them into one folder.
pub(super) fn unpack_all_from(lists: &Lists, packages: &[&str], root: &Path) -> Result<()> {
    unpack_by(lists, packages, root, |folder| lists.download_with_dependencies(packages, folder))
}

/// Whoever calls this holds the lock of the cache.
fn unpack_by(
    lists: &Lists,
    packages: &[&str],
    root: &Path,
    download: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let parent = root.parent().context("a folder in target/vm")?;
    std::fs::create_dir_all(parent)?;
    lock::remove_leftovers(parent)?;
    // Beside its place first: what bears the name is whole, whenever a run is interrupted.
    let work = tempfile::tempdir_in(parent)?;
    let _progress = Progress::start(format!("downloading {}", packages.join(" ")));
    let unpacked = work.path().join("root");
    download(work.path())
        .and_then(|()| unpack_debs(work.path(), &unpacked))
        .map_err(|error| lists.failure(&error))
        .with_context(|| format!("{} could not be fetched", packages.join(" ")))?;
    if root.exists() {
        std::fs::remove_dir_all(root)?;
    }
    std::fs::rename(&unpacked, root).with_context(|| format!("{} was not unpacked", root.display()))
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

/// A command as root: as it is for root, else through sudo.
fn as_root(program: &str) -> Result<Command> {
    if rustix::process::geteuid().is_root() {
        return Ok(Command::new(program));
    }
    if which("sudo").is_none() {
        bail!("{program} needs root, and there is no sudo");
    }
    let mut sudo = Command::new("sudo");
    sudo.arg(program);
    Ok(sudo)
}

trait Run {
    fn run(&mut self) -> Result<()>;
}

impl Run for Command {
    fn run(&mut self) -> Result<()> {
        output(self).map(drop)
    }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
