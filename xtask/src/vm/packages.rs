//! Debian's packages: looked up, downloaded and unpacked under `target/vm`; only what the host itself runs is installed.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::{output, which};
use crate::progress::Progress;

/// What the host runs, and the package that has it.
const HOST_PROGRAMS: [(&str, &str); 2] =
    [("qemu-system-x86_64", "qemu-system-x86"), ("depmod", "kmod")];

/// Whether packages can be had with apt here.
pub(super) fn available() -> bool {
    which("apt-get").is_some() && which("dpkg").is_some()
}

/// Installs what the host lacks, or says what to install.
pub(super) fn ensure_host_programs() -> Result<()> {
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
    let _progress = Progress::start(format!("installing {}", packages.join(" ")));
    let install = || {
        as_root("apt-get")?
            .args(["-o", "DPkg::Lock::Timeout=300"])
            .args(["install", "--yes", "--no-install-recommends"])
            .args(&packages)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .run()
    };
    install().or_else(|_| update().and_then(|()| install())).with_context(|| {
        format!(
            "{programs} could not be installed; as root: apt-get install {}",
            packages.join(" ")
        )
    })
}

/// The package that a meta package stands for now and that begins with `prefix`; `None` where there is none.
pub(super) fn dependency(meta: &str, prefix: &str) -> Result<Option<String>> {
    let look = || {
        let depends = output(Command::new("apt-cache").args(["depends", meta]))
            // An unknown package is an answer, not a failure.
            .unwrap_or_default();
        String::from_utf8_lossy(&depends)
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|package| package.starts_with(prefix))
            .map(str::to_owned)
    };
    if let Some(found) = look() {
        return Ok(Some(found));
    }
    update()?;
    Ok(look())
}

/// Downloads packages and unpacks them into one folder, unless that was done before.
pub(super) fn unpack(packages: &[&str], root: &Path) -> Result<()> {
    if root.exists() {
        return Ok(());
    }
    let parent = root.parent().context("a folder in target/vm")?;
    std::fs::create_dir_all(parent)?;
    // Beside its place first: what bears the name is whole, whenever a run is interrupted.
    let work = tempfile::tempdir_in(parent)?;
    let _progress = Progress::start(format!("downloading {}", packages.join(" ")));
    let download = || {
        let mut apt = Command::new("apt-get");
        apt.args(["-o", "APT::Sandbox::User=root", "download"])
            .args(packages)
            .current_dir(work.path());
        output(&mut apt)
    };
    download()
        .or_else(|_| update().and_then(|()| download()))
        .with_context(|| format!("{} could not be downloaded", packages.join(" ")))?;
    let unpacked = work.path().join("root");
    for file in std::fs::read_dir(work.path())? {
        let file = file?.path();
        if file.extension().is_some_and(|ending| ending == "deb") {
            output(Command::new("dpkg").arg("-x").arg(file).arg(&unpacked))?;
        }
    }
    std::fs::rename(&unpacked, root).with_context(|| format!("{} was not unpacked", root.display()))
}

fn update() -> Result<()> {
    let _progress = Progress::start("updating apt's package lists");
    as_root("apt-get")?.args(["-o", "DPkg::Lock::Timeout=300", "update"]).run()
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
