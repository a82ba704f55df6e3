//! Package lists of our own, fetched and read by apt: those of this host stay as they are, of whatever day they may be.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::Result;

use super::sources::Mirror;
use crate::command::{output, tail};
use crate::progress::Progress;

/// Lists that are older are fetched again.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// What apt is told beside the host's own settings: no hook of the host runs.
const SETTINGS: &str = r#"
#clear APT::Update;
APT::Sandbox::User "root";
Dir::Cache::pkgcache "pkgcache.bin";
"#;

/// What it is told besides where the suite need not be the host's: the packages that the host has and prefers do not count, and
/// what is not signed is refused.
const FOREIGN: &str = r#"
#clear APT::Default-Release;
APT::Update::Error-Mode "any";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Retries "1";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State::status "/dev/null";
"#;

/// The lists of one suite, or of all that the host's sources name.
pub(super) struct Lists {
    /// What they are of, for a person.
    name: String,
    folder: PathBuf,
    foreign: bool,
}

/// What lists say about a package.
#[derive(Debug, PartialEq)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) depends: Vec<String>,
}

impl Lists {
    /// What this host's own sources name.
    pub(super) fn of_host(cache: &Path) -> Result<Self> {
        let (name, folder) = ("this host's sources".into(), cache.join("lists/host"));
        Self { name, folder, foreign: false }.prepared(SETTINGS)
    }

    /// One suite of a mirror.
    pub(super) fn of_suite(suite: &str, mirror: &Mirror, cache: &Path) -> Result<Self> {
        Self::of_line(suite, &mirror.line(suite, &["amd64"]), "", cache)
    }

    /// One suite of a mirror with the packages of another architecture beside this machine's.
    pub(super) fn of_suite_and(
        suite: &str,
        architecture: &str,
        mirror: &Mirror,
        cache: &Path,
    ) -> Result<Self> {
        let line = mirror.line(suite, &["amd64", architecture]);
        let settings = format!("APT::Architectures {{ \"amd64\"; \"{architecture}\"; }};\n");
        Self::of_line(&format!("{suite}-{architecture}"), &line, &settings, cache)
    }

    fn of_line(name: &str, line: &str, settings: &str, cache: &Path) -> Result<Self> {
        let lists =
            Self { name: name.into(), folder: cache.join("lists").join(name), foreign: true };
        if std::fs::read_to_string(lists.sources()).is_ok_and(|known| known != line) {
            // They were fetched from another mirror, or checked with other keys.
            std::fs::remove_dir_all(&lists.folder)?;
        }
        let lists = lists.prepared(&format!("{SETTINGS}{FOREIGN}{settings}"))?;
        std::fs::write(lists.sources(), line)?;
        Ok(lists)
    }

    fn prepared(self, settings: &str) -> Result<Self> {
        for folder in ["lists/partial", "cache/archives/partial"] {
            std::fs::create_dir_all(self.folder.join(folder))?;
        }
        std::fs::write(self.folder.join("apt.conf"), settings)?;
        Ok(self)
    }

    fn sources(&self) -> PathBuf {
        self.folder.join("sources.list")
    }

    /// Its time is that of the last fetch.
    fn stamp(&self) -> PathBuf {
        self.folder.join("fetched")
    }

    /// When they were fetched, if ever.
    pub(super) fn fetched(&self) -> Option<SystemTime> {
        std::fs::metadata(self.stamp()).ok()?.modified().ok()
    }

    fn age(&self) -> Option<Duration> {
        let fetched = self.fetched()?;
        // A clock that was set back makes them old, not young.
        Some(SystemTime::now().duration_since(fetched).unwrap_or(Duration::MAX))
    }

    pub(super) fn are_fresh(&self) -> bool {
        self.age().is_some_and(|age| age < FRESH)
    }

    pub(super) fn fetch(&self) -> Result<(), Failure> {
        let _progress = Progress::start(format!("fetching the package lists of {}", self.name));
        let mut update = self.apt("apt-get");
        let done = output(update.args(["--quiet", "update"]))
            .and_then(|_| Ok(std::fs::write(self.stamp(), "")?));
        done.map_err(|error| Failure::of(&self.name, format!("{error:#}")))
    }

    /// The day on which the mirror made them, as `2026-11-24`.
    pub(super) fn day(&self) -> Option<String> {
        let files = std::fs::read_dir(self.folder.join("lists")).ok()?;
        let release = files
            .filter_map(|file| Some(file.ok()?.path()))
            .find(|file| file.to_string_lossy().ends_with("Release"))?;
        let text = std::fs::read(release).ok()?;
        let text = String::from_utf8_lossy(&text);
        day(text.lines().find_map(|line| line.strip_prefix("Date: "))?)
    }

    /// What they say about packages; nothing about those that they do not have.
    pub(super) fn packages(&self, names: &[&str]) -> Result<Vec<Package>> {
        match output(self.apt("apt-cache").arg("show").args(names)) {
            Ok(said) => Ok(parse(&String::from_utf8_lossy(&said))),
            Err(error) if error.to_string().contains("No packages found") => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Puts packages into a folder.
    pub(super) fn download(&self, names: &[&str], folder: &Path) -> Result<()> {
        let mut apt = self.apt("apt-get");
        output(apt.args(["--quiet", "download"]).args(names).current_dir(folder))?;
        Ok(())
    }

    /// Puts packages into a folder, with all that they need and that is not installed.
    pub(super) fn download_with_dependencies(&self, names: &[&str], folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder.join("partial"))?;
        let mut apt = self.apt("apt-get");
        // Nothing is installed, which an ordinary user could not lock.
        apt.args(["--quiet", "--yes", "--download-only", "--no-install-recommends"]);
        apt.args(["-o", "Debug::NoLocking=true", "-o"]);
        apt.arg(format!("Dir::Cache::archives={}", folder.display()));
        output(apt.arg("install").args(names))?;
        Ok(())
    }

    /// By this option apt reads them in the place of the host's.
    pub(super) fn option(&self) -> String {
        format!("Dir::State::lists={}", self.folder.join("lists").display())
    }

    fn apt(&self, program: &str) -> Command {
        let mut apt = Command::new(program);
        apt.env("LC_ALL", "C").arg("-c").arg(self.folder.join("apt.conf"));
        apt.arg("-o").arg(self.option());
        apt.arg("-o").arg(format!("Dir::Cache={}", self.folder.join("cache").display()));
        if self.foreign {
            apt.arg("-o").arg(format!("Dir::Etc::sourcelist={}", self.sources().display()));
        }
        apt
    }
}

/// Why lists could not be fetched.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Failure {
    name: String,
    pub(super) kind: FailureKind,
    said: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FailureKind {
    /// The mirror has no such suite, or no longer.
    NotServed,
    /// They are signed with keys that are not known here.
    UnknownKeys,
    /// The mirror could not be reached.
    Unreachable,
    Other,
}

/// By these words apt says that it reached nobody.
const UNREACHABLE: [&str; 4] =
    ["Could not resolve", "Could not connect", "Temporary failure resolving", "timed out"];

impl Failure {
    fn of(name: &str, said: String) -> Self {
        let kind = if said.contains("does not have a Release file") {
            FailureKind::NotServed
        } else if said.contains("NO_PUBKEY") {
            FailureKind::UnknownKeys
        } else if UNREACHABLE.iter().any(|words| said.contains(words)) {
            FailureKind::Unreachable
        } else {
            FailureKind::Other
        };
        Self { name: name.into(), kind, said }
    }

    /// One that has nothing to do with what the mirror said.
    pub(super) fn other(name: &str, said: String) -> Self {
        Self { name: name.into(), kind: FailureKind::Other, said }
    }

    /// One of lists that were not even tried, since the mirror could not be reached before.
    pub(super) fn unreachable(name: &str) -> Self {
        let said = "the mirror could not be reached".into();
        Self { name: name.into(), kind: FailureKind::Unreachable, said }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, kind, said } = self;
        match kind {
            FailureKind::NotServed => write!(f, "{name} is no longer served"),
            FailureKind::UnknownKeys => write!(
                f,
                "{name} is signed with keys that this host does not know: install a newer debian-archive-keyring, or name \
                 a file of Debian's keys with --keyring FILE"
            ),
            FailureKind::Unreachable | FailureKind::Other => {
                let errors: Vec<_> =
                    said.lines().filter_map(|line| line.strip_prefix("E: ")).collect();
                let said =
                    if errors.is_empty() { tail(said.as_bytes(), 3) } else { errors.join("\n") };
                write!(f, "the package lists of {name} could not be fetched: {said}")
            }
        }
    }
}

impl std::error::Error for Failure {}

/// `apt-cache show` prints a paragraph for each package.
fn parse(said: &str) -> Vec<Package> {
    said.split("\n\n").filter_map(parse_one).collect()
}

fn parse_one(paragraph: &str) -> Option<Package> {
    let field = |name: &str| {
        let values = paragraph.lines().filter_map(|line| line.split_once(": "));
        values.filter(|(field, _)| *field == name).map(|(_, value)| value).next()
    };
    let depends = field("Depends").unwrap_or_default().split([',', '|']);
    Some(Package {
        name: field("Package")?.into(),
        version: field("Version")?.into(),
        depends: depends.filter_map(|one| Some(one.split_whitespace().next()?.into())).collect(),
    })
}

/// `Tue, 24 Nov 2026 02:12:15 UTC` is `2026-11-24`.
fn day(date: &str) -> Option<String> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut words = date.split_whitespace().skip(1);
    let day: u32 = words.next()?.parse().ok()?;
    let month = MONTHS.find(words.next()?)? / 3 + 1;
    Some(format!("{}-{month:02}-{day:02}", words.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paragraph_is_a_package() {
        let said = "\
Package: linux-image-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1
Depends: dracut | initramfs-tools (>= 0.120), linux-modules-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1)
Description: Linux 7.3.4 for x86-64 cloud

Package: linux-doc
Version: 1:2

";
        let package = |name: &str, version: &str, depends: &[&str]| Package {
            name: name.into(),
            version: version.into(),
            depends: depends.iter().map(ToString::to_string).collect(),
        };
        let depends = ["dracut", "initramfs-tools", "linux-modules-7.3.4+deb13-cloud-amd64"];
        let image = package("linux-image-7.3.4+deb13-cloud-amd64", "7.3.4-1~bpo13+1", &depends);
        assert_eq!(parse(said), [image, package("linux-doc", "1:2", &[])]);
    }

    #[test]
    fn days_are_read_from_the_mirrors_dates() {
        assert_eq!(day("Tue, 24 Nov 2026 02:12:15 UTC").as_deref(), Some("2026-11-24"));
        assert_eq!(day("Sat, 9 Aug 2025 09:16:30 UTC").as_deref(), Some("2025-08-09"));
        assert_eq!(day("yesterday"), None);
    }

    #[test]
    fn what_apt_said_tells_why() {
        let kind = |said: &str| Failure::of("sid", said.into()).kind;
        assert_eq!(
            kind("E: The repository 'http://m/debian sid Release' does not have a Release file."),
            FailureKind::NotServed
        );
        assert_eq!(
            kind("W: GPG error: http://m/debian sid InRelease: NO_PUBKEY 6ED0E7B82643E131"),
            FailureKind::UnknownKeys
        );
        let offline = "Reading package lists...\nE: Failed to fetch http://m/InRelease  Could not resolve 'm'\n";
        assert_eq!(kind(offline), FailureKind::Unreachable);
        let shown = Failure::of("sid", offline.into()).to_string();
        assert!(shown.ends_with("Could not resolve 'm'") && shown.contains("of sid"), "{shown}");
        assert_eq!(kind("E: Release file for http://m/ is expired"), FailureKind::Other);
    }

    #[test]
    fn lists_are_fresh_for_a_day_and_gone_with_their_mirror() -> Result<()> {
        let cache = tempfile::tempdir()?;
        let keyring = tempfile::NamedTempFile::new()?;
        let at = |mirror| Mirror::find(Some(mirror), Some(keyring.path()));
        let lists = Lists::of_suite("sid", &at("http://a.example/debian")?, cache.path())?;
        assert!(lists.fetched().is_none() && !lists.are_fresh());
        let stamp = std::fs::File::create(lists.stamp())?;
        assert!(lists.are_fresh());
        stamp.set_modified(SystemTime::now() - FRESH)?;
        assert!(lists.fetched().is_some() && !lists.are_fresh());
        stamp.set_modified(SystemTime::now() + FRESH)?;
        assert!(!lists.are_fresh());
        let again = |mirror| Lists::of_suite("sid", &at(mirror)?, cache.path());
        assert!(again("http://a.example/debian")?.fetched().is_some());
        assert!(again("http://b.example/debian")?.fetched().is_none());
        Ok(())
    }
}
