//! Debian's kernels: asked for in package lists of our own, fetched, unpacked and kept below `target/vm`.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use clap::Args;

use super::failure::{Failure, FailureKind};
use super::kernel::{self, Kernel};
use super::lists::Lists;
use super::roles::{self, ROLES, Role, Served};
use super::sources::Mirror;
use super::{lock, modules, packages, tools};

/// Where Debian's kernels come from.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Origin {
    /// The mirror that serves Debian's kernels [default: that of this host's apt sources]; security updates lie at URL-security
    #[arg(long, global = true, value_name = "URL")]
    mirror: Option<String>,
    /// The keys that must have signed its lists [default: those of this host's apt sources]
    #[arg(long, global = true, value_name = "FILE")]
    keyring: Option<PathBuf>,
    /// Fetch Debian's package lists anew, however young they are
    #[arg(long, global = true)]
    pub(super) refresh: bool,
}

/// Debian as one command sees it: each list is fetched at most once.
pub(crate) struct Debian {
    origin: Origin,
    /// `target/vm`
    cache: PathBuf,
    mirror: OnceCell<Mirror>,
    suites: RefCell<BTreeMap<&'static str, Asked>>,
    /// Mirrors that could not be reached and are not tried again.
    unreachable: RefCell<BTreeMap<String, Failure>>,
    /// Suites that have changed since their lists were fetched, however young the lists are.
    changed: RefCell<BTreeSet<&'static str>>,
    /// The messages that were printed, each once.
    said: RefCell<BTreeSet<String>>,
    /// Whether the programs that this machine lacks are unpacked.
    has_tools: Cell<bool>,
    lock: RefCell<Weak<File>>,
}

/// The lists of a suite, and why they are not of today.
#[derive(Clone)]
struct Asked {
    lists: Rc<Lists>,
    failure: Option<Failure>,
    /// Whether this command asked for them, not an earlier one.
    now: bool,
}

/// A kernel that Debian does not have, or no longer has: no fault of this machine.
#[derive(Debug)]
pub(crate) struct NotServed(&'static str);

impl fmt::Display for NotServed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is no longer served", self.0)
    }
}

impl std::error::Error for NotServed {}

impl Debian {
    /// Fails if the mirror or the keys that the user chose cannot be right.
    pub(crate) fn new(origin: &Origin) -> Result<Self> {
        Self::in_cache(origin, super::cache()?)
    }

    fn in_cache(origin: &Origin, cache: PathBuf) -> Result<Self> {
        Mirror::check(origin.mirror.as_deref(), origin.keyring.as_deref())?;
        Ok(Self {
            origin: origin.clone(),
            cache,
            mirror: OnceCell::new(),
            suites: RefCell::default(),
            unreachable: RefCell::default(),
            changed: RefCell::default(),
            said: RefCell::default(),
            has_tools: Cell::default(),
            lock: RefCell::default(),
        })
    }

    /// Keeps other commands from writing into the cache until every returned value is dropped.
    fn lock(&self) -> Result<Rc<File>> {
        if let Some(held) = self.lock.borrow().upgrade() {
            return Ok(held);
        }
        let lock = Rc::new(lock::exclusive(&self.cache)?);
        *self.lock.borrow_mut() = Rc::downgrade(&lock);
        Ok(lock)
    }

    /// Unpacks packages of this host's own release into a folder, with all dependencies that the host lacks, unless this was done
    /// before and nothing newer is asked for.
    pub(crate) fn unpack_of_host(&self, packages: &[&str], root: &Path) -> Result<()> {
        anyhow::ensure!(packages::available(), "this host's packages are not had with apt");
        let _lock = self.lock()?;
        if packages::is_whole(root) && !self.origin.refresh {
            return Ok(());
        }
        packages::unpack_with_dependencies(packages, root, &self.cache)
    }

    /// Unpacks packages of a suite into a folder, with all dependencies, unless this was done before and nothing newer is asked
    /// for. A package whose name ends with `:` and an architecture is of that architecture instead of this machine's.
    pub(crate) fn unpack_of_suite(
        &self,
        suite: &str,
        architecture: &str,
        packages: &[&str],
        root: &Path,
    ) -> Result<()> {
        packages::ensure_apt()?;
        let _lock = self.lock()?;
        if packages::is_whole(root) && !self.origin.refresh {
            return Ok(());
        }
        let lists = Lists::of_suite_and(suite, architecture, self.mirror()?, &self.cache);
        if !lists.are_fresh() || self.origin.refresh {
            lists.fetch()?;
        }
        packages::unpack_all_from(&lists, packages, root)
    }

    /// Unpacks the programs that this machine lacks, unless this was done before and nothing newer is asked for.
    pub(super) fn ensure_tools(&self) -> Result<()> {
        let missing = tools::missing();
        if missing.is_empty() || self.has_tools.get() {
            return Ok(());
        }
        let _lock = self.lock()?;
        let root = tools::root(&self.cache);
        let is_whole = packages::is_whole(&root);
        if !is_whole || self.origin.refresh {
            let unpacked = self.unpack_tools(&root);
            let unpacked = unpacked.with_context(|| {
                format!(
                    "this needs {}: install what is missing with your package manager (Debian's packages: {})",
                    missing.join(" and "),
                    tools::packages().join(" ")
                )
            });
            match unpacked {
                Err(error) if is_whole => {
                    self.say(&format!("going on with the programs fetched before: {error:#}"));
                }
                unpacked => unpacked?,
            }
        }
        self.has_tools.set(true);
        Ok(())
    }

    fn unpack_tools(&self, root: &Path) -> Result<()> {
        let unpack = || {
            let mut failures = Vec::new();
            for suite in tools::SUITES {
                let (lists, failure) = self.suite(suite)?;
                if let Some(lists) = lists {
                    return packages::unpack_all_from(&lists, &tools::packages(), root);
                }
                failures.extend(failure);
            }
            Err(failures.into_iter().next().context("no suite has them")?.into())
        };
        unpack().or_else(|error| self.again(tools::SUITES, error, unpack))
    }

    /// The kernel that plays a role now. If the mirror cannot be asked, the kernel that is already unpacked plays it.
    pub(super) fn kernel(&self, role: &'static Role) -> Result<Kernel> {
        let _lock = self.lock()?;
        let newest = || self.served(role).and_then(|served| self.take(role, &served));
        let error = match newest().or_else(|error| self.again(role.suites(), error, newest)) {
            Ok(kernel) => return Ok(kernel),
            Err(error) if error.is::<NotServed>() => return Err(error),
            Err(error) => error,
        };
        let Some(here) = self.here(role) else {
            return Err(error.context(format!(
                "no kernel for {} is here (another can be named: --kernel PATH --modules DIR), and none can be had",
                role.name
            )));
        };
        self.say(&format!(
            "{} goes on with {here}, fetched on {}: {error:#}",
            role.name,
            here.day()
        ));
        here.kernel(role)
    }

    /// Tries again with new lists, since the old ones may name packages that the mirror has replaced since.
    fn again<T>(
        &self,
        suites: impl IntoIterator<Item = &'static str>,
        error: anyhow::Error,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let failure = error.downcast_ref::<Failure>();
        let is_told = failure
            .is_some_and(|failure| !matches!(failure.kind, FailureKind::Other | FailureKind::Torn));
        if error.is::<NotServed>() || is_told {
            return Err(error);
        }
        if self.renew_all(suites) { work() } else { Err(error) }
    }

    /// Has the mirror asked anew for the lists of these suites; returns whether any were not fetched by this command.
    fn renew_all(&self, suites: impl IntoIterator<Item = &'static str>) -> bool {
        suites.into_iter().filter(|suite| self.renew(suite)).count() > 0
    }

    /// Has the mirror asked anew for the lists of a suite, unless this command has fetched them; returns whether it will be asked.
    fn renew(&self, suite: &'static str) -> bool {
        let is_old = self.suites.borrow().get(suite).is_none_or(|asked| !asked.now);
        if is_old {
            self.suites.borrow_mut().remove(suite);
            self.changed.borrow_mut().insert(suite);
        }
        is_old
    }

    /// The newest kernel of a role, among all suites that serve it.
    pub(super) fn served(&self, role: &'static Role) -> Result<Served> {
        let _lock = self.lock()?;
        let (mut found, mut failures) = (Vec::new(), Vec::new());
        for (suite, package) in role.suites {
            let (lists, failure) = self.suite(suite)?;
            if let Some(lists) = &lists {
                let packages = lists.packages(&[package])?;
                found.extend(packages.iter().filter_map(|package| role.served(suite, package)));
            }
            failures.extend(failure.map(|failure| (failure, lists.is_some())));
        }
        if let Some(served) = roles::newest(found) {
            for (failure, _) in failures.iter().filter(|(_, has_lists)| !has_lists) {
                self.say(&format!("{served} may not be the newest of {}: {failure}", role.name));
            }
            return Ok(served);
        }
        let mut failures = failures.into_iter().map(|(failure, _)| failure);
        if let Some(failure) = failures.find(|failure| failure.kind != FailureKind::NotServed) {
            return Err(failure.into());
        }
        // Only a mirror that was asked now can tell that a kernel is gone.
        if self.renew_all(role.suites()) {
            self.served(role)
        } else {
            Err(NotServed(role.name).into())
        }
    }

    /// The day on which the mirror made the lists of a suite.
    pub(super) fn day(&self, suite: &'static str) -> Option<String> {
        self.suite(suite).ok()?.0?.day()
    }

    /// Tells the user, once.
    fn say(&self, message: &str) {
        if self.said.borrow_mut().insert(message.to_owned()) {
            eprintln!("{message}");
        }
    }

    /// The kernel of a role that was last fetched, among those that the keys of today have signed.
    pub(super) fn here(&self, role: &Role) -> Option<Here> {
        let keys = self.mirror().ok()?.keys();
        let folders = std::fs::read_dir(self.folder(role)).ok()?;
        let roots =
            folders.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir());
        let kernels = roots.filter_map(|root| Here::find(&root)).filter(|here| here.keys() == keys);
        kernels.max_by_key(|here| here.fetched)
    }

    fn folder(&self, role: &Role) -> PathBuf {
        self.cache.join("debian").join(role.name)
    }

    /// Unpacks the served kernel, and removes the former one.
    fn take(&self, role: &'static Role, served: &Served) -> Result<Kernel> {
        // No version of Debian has this character.
        let name = format!("{}_{}", served.version, self.mirror()?.keys());
        let root = self.folder(role).join(name);
        let here = match Here::find(&root) {
            Some(here) => here,
            // It is new, or was damaged since.
            None => {
                self.unpack(served, &root)?;
                Here::find(&root).with_context(|| {
                    format!("{} has no kernel; remove the folder", root.display())
                })?
            }
        };
        for entry in std::fs::read_dir(self.folder(role))? {
            let entry = entry?;
            if entry.path() != root {
                lock::remove_unused(&entry.path())?;
            }
        }
        here.kernel(role)
    }

    fn unpack(&self, served: &Served, root: &Path) -> Result<()> {
        self.ensure_tools()?;
        let (lists, _) = self.suite(served.suite)?;
        let lists = lists.context("the lists that name the kernel")?;
        let names = roles::packages_of(&served.release, &lists)?;
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        packages::unpack_from(&lists, &names, root, |unpacked| {
            let image = image_below(unpacked).context("the packages have no kernel")?;
            let depmod = tools::DEPMOD.command(&self.cache)?;
            modules::index(unpacked, &kernel::release(&image)?, depmod)
        })?;
        Ok(File::open(root)?.set_modified(SystemTime::now())?)
    }

    /// The lists of a suite, those of today if they can be had, else those that were fetched before, if any; and why they are not
    /// of today.
    fn suite(&self, suite: &'static str) -> Result<(Option<Rc<Lists>>, Option<Failure>)> {
        let Asked { lists, failure, .. } = self.ask(suite)?;
        let Some(failure) = failure else { return Ok((Some(lists), None)) };
        if failure.kind == FailureKind::NotServed && self.serves_another(suite)? {
            return Ok((None, Some(failure)));
        }
        let failure =
            if failure.kind == FailureKind::NotServed { failure.of_no_mirror() } else { failure };
        let Some(fetched) = lists.fetched() else { return Ok((None, Some(failure))) };
        self.say(&format!(
            "going on with the package lists fetched on {}: {failure}",
            day(fetched)
        ));
        Ok((Some(lists), Some(failure)))
    }

    /// Whether a mirror that says it lacks a suite has any other suite of Debian: if not, its address is wrong.
    fn serves_another(&self, suite: &str) -> Result<bool> {
        let mirror = self.mirror()?;
        let suites = ROLES.iter().rev().flat_map(|role| role.suites).map(|(suite, _)| *suite);
        for other in suites.filter(|other| mirror.uri(other) == mirror.uri(suite)) {
            // What an earlier command fetched tells nothing of the mirror as it is now.
            self.renew(other);
            if self.ask(other)?.failure.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Asks the mirror for the lists of a suite, once, unless the fetched ones are of today.
    fn ask(&self, suite: &'static str) -> Result<Asked> {
        if let Some(known) = self.suites.borrow().get(suite) {
            return Ok(known.clone());
        }
        packages::ensure_apt()?;
        let mirror = self.mirror()?;
        let lists = Rc::new(Lists::of_suite(suite, mirror, &self.cache));
        let is_changed = self.changed.borrow().contains(suite);
        let known = self.unreachable.borrow().get(mirror.uri(suite)).cloned();
        let now = self.origin.refresh || is_changed || !lists.are_fresh();
        let failure = if now { known.or_else(|| lists.fetch().err()) } else { None };
        if let Some(failure) = failure.iter().find(|it| it.kind == FailureKind::Unreachable) {
            let uri = mirror.uri(suite).to_owned();
            self.unreachable.borrow_mut().insert(uri, failure.clone());
        }
        let asked = Asked { lists, failure, now };
        self.suites.borrow_mut().insert(suite, asked.clone());
        Ok(asked)
    }

    fn mirror(&self) -> Result<&Mirror> {
        if self.mirror.get().is_none() {
            let Origin { mirror, keyring, .. } = &self.origin;
            let found = Mirror::find(mirror.as_deref(), keyring.as_deref(), &self.cache)?;
            let _ = self.mirror.set(found);
        }
        self.mirror.get().context("the mirror")
    }
}

/// A kernel of Debian that is unpacked on this machine.
#[derive(Debug)]
pub(super) struct Here {
    root: PathBuf,
    image: PathBuf,
    pub(super) release: String,
    fetched: SystemTime,
}

impl Here {
    fn find(root: &Path) -> Option<Self> {
        let image = image_below(root).filter(|_| packages::is_whole(root))?;
        let release = kernel::release(&image).ok()?;
        let fetched = std::fs::metadata(root).ok()?.modified().ok()?;
        Some(Self { root: root.to_owned(), image, release, fetched })
    }

    /// The package's version, and the name of the keys that have signed it, as the folder is called.
    fn name(&self) -> (&str, &str) {
        let name = self.root.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // Earlier versions did not name the keys.
        name.split_once('_').unwrap_or((name, ""))
    }

    pub(super) fn version(&self) -> &str {
        self.name().0
    }

    fn keys(&self) -> &str {
        self.name().1
    }

    /// The day on which it was fetched.
    pub(super) fn day(&self) -> String {
        day(self.fetched)
    }

    fn kernel(self, role: &Role) -> Result<Kernel> {
        Ok(Kernel {
            name: role.name.to_owned(),
            version: Some(self.version().to_owned()),
            modules: self.root.join("lib/modules").join(&self.release),
            release: self.release,
            image: self.image,
            _in_use: Some(lock::in_use(&self.root)?),
        })
    }
}

impl fmt::Display for Here {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.release, self.version())
    }
}

/// As `2026-11-25`.
fn day(time: SystemTime) -> String {
    let time = humantime::format_rfc3339_seconds(time).to_string();
    time.split('T').next().unwrap_or_default().to_owned()
}

/// `boot/vmlinuz-RELEASE`, or since Debian's 7.2 `usr/lib/modules/RELEASE/vmlinuz`.
fn image_below(root: &Path) -> Option<PathBuf> {
    let entries = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let boot = entries(root.join("boot")).map(|entry| entry.path());
    let mut boot = boot.filter(|path| path.to_string_lossy().contains("/vmlinuz-"));
    let folders = ["usr/lib/modules", "lib/modules"].into_iter();
    let folders = folders.flat_map(|folder| entries(root.join(folder)));
    let mut images =
        folders.map(|entry| entry.path().join("vmlinuz")).filter(|path| path.is_file());
    boot.next().or_else(|| images.next())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;
    use crate::command::output;

    fn role(name: &str) -> &'static Role {
        Role::by_name(name).expect("a role")
    }

    /// Debian at a mirror, with package lists and kernels in `folder`. The keys belong to nobody.
    fn debian(mirror: &str, folder: &Path) -> Result<Debian> {
        let keyring = folder.join("archive.gpg");
        std::fs::write(&keyring, b"\x99")?;
        let origin = Origin { mirror: Some(mirror.into()), keyring: Some(keyring), refresh: false };
        Debian::in_cache(&origin, folder.to_owned())
    }

    /// A mirror that answers, and has no files.
    fn empty_mirror(folder: &Path) -> String {
        format!("file:{}/debian", folder.display())
    }

    impl Debian {
        /// Acts as if the mirror had just served these lists.
        fn has(&self, suite: &'static str) -> Result<()> {
            let lists = Rc::new(Lists::of_suite(suite, self.mirror()?, &self.cache));
            self.suites.borrow_mut().insert(suite, Asked { lists, failure: None, now: true });
            Ok(())
        }

        fn kind(&self, role: &'static Role) -> Option<FailureKind> {
            let error = self.served(role).expect_err("nothing is served");
            error.downcast_ref().map(|failure: &Failure| failure.kind)
        }
    }

    /// A kernel that was fetched before.
    fn keep(debian: &Debian, role: &str, version: &str, release: &str) -> Result<PathBuf> {
        let name = format!("{version}_{}", debian.mirror()?.keys());
        let root = debian.cache.join("debian").join(role).join(name);
        std::fs::create_dir_all(root.join("boot"))?;
        // An image whose setup has one sector, and nothing else.
        let mut image = vec![0; 0x400];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e] = 0x40;
        image[0x240..0x240 + release.len()].copy_from_slice(release.as_bytes());
        std::fs::write(root.join("boot").join(format!("vmlinuz-{release}")), image)?;
        packages::pass_for_whole(&root)?;
        Ok(root)
    }

    fn has_apt() -> bool {
        let found = packages::ensure_apt().is_ok();
        if !found {
            println!("NOT RUN: lists are fetched by apt, which is not here");
        }
        found
    }

    #[test]
    fn a_suite_is_no_longer_served_where_others_are() -> Result<()> {
        if !has_apt() {
            return Ok(());
        }
        let folder = tempfile::tempdir()?;
        let mirror = empty_mirror(folder.path());
        // An address that has none of Debian's suites is mistyped.
        assert_eq!(
            debian(&mirror, folder.path())?.kind(role("5.10")),
            Some(FailureKind::NotDebian)
        );
        // Security suites have an address of their own.
        let one = debian(&mirror, folder.path())?;
        one.has("sid")?;
        assert_eq!(one.kind(role("5.10")), Some(FailureKind::NotDebian));
        assert_eq!(one.kind(role("backports")), None);
        one.has("trixie-security")?;
        assert_eq!(
            debian(&mirror, folder.path())?.kind(role("newest")),
            Some(FailureKind::NotDebian)
        );
        let both = debian(&mirror, folder.path())?;
        both.has("sid")?;
        both.has("trixie-security")?;
        let error = both.served(role("5.10")).expect_err("it has ended");
        assert!(error.is::<NotServed>(), "{error}");
        assert_eq!(error.to_string(), "5.10 is no longer served");
        Ok(())
    }

    #[test]
    fn lists_of_an_earlier_command_do_not_tell_that_a_kernel_is_gone() -> Result<()> {
        if !has_apt() {
            return Ok(());
        }
        let folder = tempfile::tempdir()?;
        let mirror = empty_mirror(folder.path());
        let lacking = debian(&mirror, folder.path())?;
        for suite in ["trixie", "trixie-security", "bookworm-security", "sid"] {
            let other = "Package: linux-doc\nVersion: 1:2\nArchitecture: amd64\n";
            Lists::of_suite(suite, lacking.mirror()?, &lacking.cache).fill(other)?;
        }
        assert_eq!(lacking.kind(role("6.12")), Some(FailureKind::NotDebian));
        // They do not tell that the mirror has other suites, either.
        let missing = debian(&mirror, folder.path())?;
        assert_eq!(missing.kind(role("backports")), Some(FailureKind::NotDebian));
        Ok(())
    }

    /// A mirror in a folder, with suites that someone signs.
    struct Signed<'a>(&'a Path);

    impl Signed<'_> {
        fn gpg(&self, arguments: &[&str]) -> Result<Vec<u8>> {
            let mut gpg = Command::new("gpg");
            gpg.args(["--batch", "--passphrase", "", "--homedir"]).arg(self.0);
            output(gpg.args(arguments))
        }

        /// Makes the keys of someone.
        fn start(&self) -> Result<()> {
            std::fs::set_permissions(self.0, PermissionsExt::from_mode(0o700))?;
            self.gpg(&["--quick-generate-key", "someone", "ed25519", "sign", "never"])?;
            Ok(())
        }

        fn keyring(&self) -> Result<PathBuf> {
            let keyring = self.0.join("someone.gpg");
            std::fs::write(&keyring, self.gpg(&["--export"])?)?;
            Ok(keyring)
        }

        /// The folder of a suite.
        fn folder(&self, suite: &str) -> PathBuf {
            let archive = if suite.ends_with("-security") { "debian-security" } else { "debian" };
            self.0.join(archive).join("dists").join(suite)
        }

        fn serve(&self, suite: &str, packages: &str) -> Result<()> {
            let folder = self.folder(suite);
            let list = "main/binary-amd64/Packages";
            std::fs::create_dir_all(folder.join("main/binary-amd64"))?;
            std::fs::write(folder.join(list), packages)?;
            let mut sum = Command::new("sha256sum");
            let sum = output(sum.arg(list).current_dir(&folder))?;
            let sum = String::from_utf8_lossy(&sum);
            let sum = sum.split_whitespace().next().context("a sum")?;
            let release = format!(
                "Codename: {suite}\nDate: Tue, 24 Nov 2026 02:12:15 UTC\nArchitectures: amd64\nComponents: main\n\
                 SHA256:\n {sum} {} {list}\n",
                packages.len()
            );
            let plain = folder.join("Release");
            std::fs::write(&plain, release)?;
            let signed = folder.join("InRelease").display().to_string();
            let plain = plain.display().to_string();
            self.gpg(&["--yes", "--output", &signed, "--clearsign", &plain])?;
            Ok(())
        }
    }

    impl Drop for Signed<'_> {
        fn drop(&mut self) {
            // The agent would end by itself, but later.
            let mut end = Command::new("gpgconf");
            let _ = output(end.arg("--homedir").arg(self.0).args(["--kill", "gpg-agent"]));
        }
    }

    #[test]
    fn a_suite_that_was_fetched_once_may_end() -> Result<()> {
        if !has_apt() || crate::command::which("gpg").is_none() {
            println!("NOT RUN: lists are fetched by apt and signed by gpg");
            return Ok(());
        }
        let folder = tempfile::tempdir()?;
        let signed = Signed(folder.path());
        signed.start()?;
        let current = "Package: linux-image-cloud-amd64\nVersion: 5.10.262-1\nArchitecture: amd64\n\
                       Depends: linux-image-5.10.0-46-cloud-amd64 (= 5.10.262-1)\n";
        for suite in ["bullseye", "bullseye-security", "trixie", "trixie-security"] {
            signed.serve(suite, current)?;
        }
        let origin = Origin {
            mirror: Some(empty_mirror(folder.path())),
            keyring: Some(signed.keyring()?),
            refresh: true,
        };
        let debian = || Debian::in_cache(&origin, folder.path().to_owned());
        assert_eq!(debian()?.served(role("5.10"))?.version, "5.10.262-1");
        for suite in ["bullseye", "bullseye-security"] {
            std::fs::remove_dir_all(signed.folder(suite))?;
        }
        let error = debian()?.served(role("5.10")).expect_err("it has ended");
        assert!(error.is::<NotServed>(), "{error:#}");
        // Where nothing is served any more, the mirror has moved: the lists go on.
        std::fs::remove_dir_all(signed.0.join("debian"))?;
        std::fs::remove_dir_all(signed.0.join("debian-security"))?;
        let moved = debian()?;
        assert_eq!(moved.served(role("5.10"))?.version, "5.10.262-1");
        let said = moved.said.borrow().iter().cloned().collect::<String>();
        assert!(said.contains("serves none of Debian's suites"), "{said}");
        Ok(())
    }

    #[test]
    fn a_security_suite_that_is_missing_is_said() -> Result<()> {
        if !has_apt() {
            return Ok(());
        }
        let folder = tempfile::tempdir()?;
        let debian = debian(&empty_mirror(folder.path()), folder.path())?;
        let current = "Package: linux-image-cloud-amd64\nVersion: 6.1.176-1\nArchitecture: amd64\n\
                       Depends: linux-image-6.1.0-50-cloud-amd64 (= 6.1.176-1)\n";
        Lists::of_suite("bookworm", debian.mirror()?, &debian.cache).fill(current)?;
        // Twice, as the test command does, which needs a kernel for two steps.
        for _ in 0..2 {
            let served = debian.served(role("6.1"))?;
            assert_eq!(served.to_string(), "6.1.0-50-cloud-amd64 (6.1.176-1)");
        }
        let said: Vec<_> = debian.said.borrow().iter().cloned().collect();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("may not be the newest of 6.1"), "{said:?}");
        assert!(said[0].contains("debian-security serves none of Debian's suites"), "{said:?}");
        Ok(())
    }

    #[test]
    fn lists_of_yesterday_go_on_where_new_ones_cannot_be_had() -> Result<()> {
        if !has_apt() {
            return Ok(());
        }
        let folder = tempfile::tempdir()?;
        let mut debian = debian(&empty_mirror(folder.path()), folder.path())?;
        debian.origin.refresh = true;
        let current = "Package: linux-image-cloud-amd64\nVersion: 7.3.4-1\nArchitecture: amd64\n\
                       Depends: linux-image-7.3.4-cloud-amd64 (= 7.3.4-1)\n";
        let lists = Lists::of_suite("sid", debian.mirror()?, &debian.cache);
        lists.fill(current)?;
        assert_eq!(debian.served(role("newest"))?.version, "7.3.4-1");
        assert!(lists.fetched().is_some());
        let said = debian.said.borrow().iter().cloned().collect::<String>();
        assert!(said.starts_with("going on with the package lists fetched on "), "{said}");
        Ok(())
    }

    #[test]
    fn a_mirror_out_of_reach_is_asked_once_and_what_is_here_goes_on() -> Result<()> {
        if !has_apt() {
            return Ok(());
        }
        let folder = tempfile::tempdir()?;
        // Nobody listens on the port.
        let debian = debian("http://127.0.0.1:9/debian", folder.path())?;
        assert_eq!(debian.kind(role("backports")), Some(FailureKind::Unreachable));
        let known = debian.unreachable.borrow().clone();
        assert_eq!(known.keys().collect::<Vec<_>>(), ["http://127.0.0.1:9/debian"]);
        let error = debian.kernel(role("newest")).map(drop).expect_err("none is here");
        assert!(format!("{error:#}").contains("none can be had: http://127.0.0.1:9/debian cannot"));

        keep(&debian, "newest", "7.3.4-1", "7.3.4")?;
        let kernel = debian.kernel(role("newest"))?;
        assert_eq!(kernel.to_string(), "Linux 7.3.4 (Debian 7.3.4-1)");
        let said = debian.said.borrow().iter().cloned().collect::<String>();
        assert!(said.starts_with("newest goes on with 7.3.4 (7.3.4-1), fetched on "), "{said}");
        assert!(said.contains("cannot be reached"), "{said}");
        Ok(())
    }

    #[test]
    fn a_kernel_that_others_have_signed_is_not_debians() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let theirs = debian("http://127.0.0.1:9/debian", folder.path())?;
        keep(&theirs, "newest", "7.3.4-1", "7.3.4")?;
        assert_eq!(theirs.here(role("newest")).context("it is here")?.version(), "7.3.4-1");
        // The same mirror, and the same name of the file of keys.
        let ours = debian("http://127.0.0.1:9/debian", folder.path())?;
        std::fs::write(folder.path().join("archive.gpg"), b"\x99 of others")?;
        assert!(ours.here(role("newest")).is_none());
        // What an earlier version has unpacked has no name of keys.
        let old = folder.path().join("debian/newest");
        let named = std::fs::read_dir(&old)?.next().context("a kernel")??.path();
        std::fs::rename(named, old.join("7.3.4-1"))?;
        assert!(ours.here(role("newest")).is_none() && theirs.here(role("newest")).is_none());
        Ok(())
    }

    #[test]
    fn a_kernel_that_runs_is_not_removed() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let debian = debian("http://127.0.0.1:9/debian", folder.path())?;
        let old = keep(&debian, "newest", "7.2.6-1", "7.2.6")?;
        keep(&debian, "newest", "7.3.4-1", "7.3.4")?;
        let served = Served { suite: "sid", release: "7.3.4".into(), version: "7.3.4-1".into() };
        let running = Here::find(&old).context("a kernel")?.kernel(role("newest"))?;
        debian.take(role("newest"), &served)?;
        assert!(old.exists());
        drop(running);
        // A program that another test is starting just now may have the folder open for a moment.
        while old.exists() {
            debian.take(role("newest"), &served)?;
        }
        Ok(())
    }

    #[test]
    fn the_image_is_found_in_both_layouts() -> Result<()> {
        for image in ["boot/vmlinuz-6.1", "usr/lib/modules/7.3/vmlinuz", "lib/modules/7.3/vmlinuz"]
        {
            let root = tempfile::tempdir()?;
            assert_eq!(image_below(root.path()), None);
            let image = root.path().join(image);
            std::fs::create_dir_all(image.parent().context("a folder")?)?;
            std::fs::write(image.with_file_name("System.map-6.1"), "")?;
            std::fs::write(&image, "")?;
            assert_eq!(image_below(root.path()), Some(image));
        }
        Ok(())
    }
}
