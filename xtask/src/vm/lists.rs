//! Package lists of our own, fetched and read by apt: this host's lists stay as they are, however old they may be.

use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::Result;

use super::failure::Failure;
use super::sources::Mirror;
use super::sums;
use crate::command::output;
use crate::progress::Progress;

/// Lists that are older than this are fetched again.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// apt's settings besides the host's own: no hook of the host runs, and packages that a mirror no longer has are not kept.
const SETTINGS: &str = r#"
#clear APT::Update;
APT::Get::List-Cleanup "false";
APT::Sandbox::User "root";
Dir::Cache::pkgcache "pkgcache.bin";
"#;

/// The time of lists may be over only where a mirror has them as they were at a time, whatever the host's settings say.
const OF_TODAY: &str = r#"
Acquire::Check-Valid-Until "true";
"#;

/// More settings for a suite that may not be the host's: packages that the host has and prefers do not count, and unsigned lists
/// are refused.
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

/// What the lists need to be as they were fetched. apt makes its own cache of them anew.
const FILES: [&str; 3] = ["apt.conf", "sources.list", "lists"];

/// The file with the sums of these. Its time is that of the last fetch.
const STAMP: &str = "fetched";

/// The folder of apt's temporary files.
const TEMPORARY: &str = "tmp";

/// The lists of one suite, or of all that the host's sources name.
pub(super) struct Lists {
    /// The origin of the lists, for a person.
    name: String,
    /// The server of the lists.
    from: String,
    folder: PathBuf,
    settings: String,
    /// The source line of the lists; `None` if they are of the host's sources.
    line: Option<String>,
}

/// A package as the lists describe it.
#[derive(Debug, PartialEq)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) depends: Vec<String>,
}

impl Lists {
    /// The lists of this host's own sources.
    pub(super) fn of_host(cache: &Path) -> Self {
        let from = "this host's sources".to_owned();
        let folder = cache.join("lists/host");
        Self { name: from.clone(), from, folder, settings: SETTINGS.into(), line: None }
    }

    /// The lists of one suite of a mirror.
    pub(super) fn of_suite(suite: &str, mirror: &Mirror, cache: &Path) -> Self {
        Self::of_line(suite, mirror, mirror.line(suite, &["amd64"]), "", cache)
    }

    /// The lists of one suite of a mirror, with the packages of another architecture besides this machine's.
    pub(super) fn of_suite_and(
        suite: &str,
        architecture: &str,
        mirror: &Mirror,
        cache: &Path,
    ) -> Self {
        let line = mirror.line(suite, &["amd64", architecture]);
        let settings = format!("APT::Architectures {{ \"amd64\"; \"{architecture}\"; }};\n");
        Self::of_line(suite, mirror, line, &settings, cache)
    }

    /// Lists of another mirror, or checked with other keys, lie in another folder: a mistyped name spoils nothing.
    fn of_line(suite: &str, mirror: &Mirror, line: String, settings: &str, cache: &Path) -> Self {
        let of_today = if mirror.is_of_a_time(suite) { "" } else { OF_TODAY };
        let settings = format!("{SETTINGS}{FOREIGN}{of_today}{settings}");
        let mut hasher = DefaultHasher::new();
        (&line, &settings, mirror.keys()).hash(&mut hasher);
        Self {
            name: suite.into(),
            from: mirror.uri(suite).into(),
            folder: cache.join(format!("lists/{suite}-{:016x}", hasher.finish())),
            settings,
            line: Some(line),
        }
    }

    fn sources(&self) -> PathBuf {
        self.folder.join("sources.list")
    }

    fn temporary(&self) -> PathBuf {
        self.folder.join(TEMPORARY)
    }

    /// When the lists were fetched; `None` if they never were, or are no longer as they were then.
    pub(super) fn fetched(&self) -> Option<SystemTime> {
        if !sums::hold(&self.folder, &FILES, STAMP) {
            return None;
        }
        std::fs::metadata(self.folder.join(STAMP)).ok()?.modified().ok()
    }

    /// The lists are now as they were fetched at that time.
    fn set_fetched(&self, time: SystemTime) -> Result<()> {
        sums::keep(&self.folder, &FILES, STAMP)?;
        let stamp = File::options().write(true).open(self.folder.join(STAMP))?;
        Ok(stamp.set_modified(time)?)
    }

    fn age(&self) -> Option<Duration> {
        let fetched = self.fetched()?;
        // After a clock was set back, lists count as old, not as young.
        Some(SystemTime::now().duration_since(fetched).unwrap_or(Duration::MAX))
    }

    pub(super) fn are_fresh(&self) -> bool {
        self.age().is_some_and(|age| age < FRESH)
    }

    /// If this fails, the former lists stay as they are, and no empty ones come.
    pub(super) fn fetch(&self) -> Result<(), Failure> {
        let before = self.fetched();
        self.update(before).map_err(|error| self.failure(&error))
    }

    fn update(&self, before: Option<SystemTime>) -> Result<()> {
        if before.is_none() {
            // Damaged lists would stay: apt takes them for whole where the mirror has no newer ones.
            self.remove()?;
        }
        let updated = self.prepare().and_then(|()| {
            let _progress = Progress::start(format!("fetching the package lists of {}", self.name));
            output(self.apt("apt-get").args(["--quiet", "update"]))
        });
        let Err(error) = updated else { return self.set_fetched(SystemTime::now()) };
        // The error is the one to tell, whatever else fails.
        let _ = match before {
            // One source may have failed among many that did not.
            Some(before) => self.set_fetched(before),
            None => self.remove(),
        };
        Err(error)
    }

    fn remove(&self) -> Result<()> {
        if self.folder.exists() {
            std::fs::remove_dir_all(&self.folder)?;
        }
        Ok(())
    }

    fn prepare(&self) -> Result<()> {
        // An interrupted apt has left its files there.
        if self.temporary().exists() {
            std::fs::remove_dir_all(self.temporary())?;
        }
        for folder in ["lists/partial", "cache/archives/partial", TEMPORARY] {
            std::fs::create_dir_all(self.folder.join(folder))?;
        }
        std::fs::write(self.folder.join("apt.conf"), &self.settings)?;
        if let Some(line) = &self.line {
            std::fs::write(self.sources(), line)?;
        }
        Ok(())
    }

    /// The meaning of an error of a command that used the lists.
    pub(super) fn failure(&self, error: &anyhow::Error) -> Failure {
        Failure::of(&self.name, &self.from, &format!("{error:#}"))
    }

    /// The day on which the mirror made the lists, as `2026-11-24`.
    pub(super) fn day(&self) -> Option<String> {
        let files = std::fs::read_dir(self.folder.join("lists")).ok()?;
        let release = files
            .filter_map(|file| Some(file.ok()?.path()))
            .find(|file| file.to_string_lossy().ends_with("Release"))?;
        let text = std::fs::read(release).ok()?;
        let text = String::from_utf8_lossy(&text);
        day(text.lines().find_map(|line| line.strip_prefix("Date: "))?)
    }

    /// The packages with these names; names that the lists lack are left out.
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

    /// Puts packages into a folder, with all dependencies that are not installed.
    pub(super) fn download_with_dependencies(&self, names: &[&str], folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder.join("partial"))?;
        let mut apt = self.apt("apt-get");
        // Nothing is installed: an ordinary user could not take the lock for this.
        apt.args(["--quiet", "--yes", "--download-only", "--no-install-recommends"]);
        apt.args(["-o", "Debug::NoLocking=true", "-o"]);
        apt.arg(format!("Dir::Cache::archives={}", folder.display()));
        output(apt.arg("install").args(names))?;
        Ok(())
    }

    /// The option that makes apt read these lists instead of the host's.
    fn option(&self) -> String {
        format!("Dir::State::lists={}", self.folder.join("lists").display())
    }

    fn apt(&self, program: &str) -> Command {
        let mut apt = Command::new(program);
        apt.env("LC_ALL", "C")
            .env("TMPDIR", self.temporary())
            .arg("-c")
            .arg(self.folder.join("apt.conf"));
        apt.arg("-o").arg(self.option());
        apt.arg("-o").arg(format!("Dir::Cache={}", self.folder.join("cache").display()));
        if self.line.is_some() {
            apt.arg("-o").arg(format!("Dir::Etc::sourcelist={}", self.sources().display()));
        }
        apt
    }
}

#[cfg(test)]
impl Lists {
    /// Acts as if the lists had been fetched from a mirror in a folder (`file:`), with these packages.
    pub(super) fn fill(&self, packages: &str) -> Result<()> {
        self.prepare()?;
        let folder = self.from.trim_start_matches("file:").replace('/', "_");
        let file = format!("{folder}_dists_{}_main_binary-amd64_Packages", self.name);
        std::fs::write(self.folder.join("lists").join(file), packages)?;
        self.set_fetched(SystemTime::now())
    }
}

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
    use super::super::failure::FailureKind;
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
    fn lists_are_fresh_for_a_day() -> Result<()> {
        let cache = tempfile::tempdir()?;
        let lists = of_sid("http://a.example/debian", cache.path())?;
        assert!(lists.fetched().is_none() && !lists.are_fresh());
        lists.fill("")?;
        assert!(lists.are_fresh());
        lists.set_fetched(SystemTime::now() - FRESH)?;
        assert!(lists.fetched().is_some() && !lists.are_fresh());
        lists.set_fetched(SystemTime::now() + FRESH)?;
        assert!(!lists.are_fresh());
        // The lists of another mirror lie elsewhere.
        assert!(of_sid("http://b.example/debian", cache.path())?.fetched().is_none());
        assert!(of_sid("http://a.example/debian/", cache.path())?.fetched().is_some());
        Ok(())
    }

    #[test]
    fn lists_that_were_changed_since_count_as_none() -> Result<()> {
        let list = "Package: linux-doc\nVersion: 1:2\nArchitecture: amd64\n";
        for file in ["sources.list", "apt.conf", STAMP, LIST] {
            let cache = tempfile::tempdir()?;
            let lists = of_sid("file:/mirror", cache.path())?;
            lists.fill(&format!("{list}\n{list}"))?;
            assert!(lists.are_fresh(), "{file}");
            std::fs::write(lists.folder.join(file), if file == LIST { list } else { "" })?;
            assert!(!lists.are_fresh() && lists.fetched().is_none(), "{file}");
        }
        Ok(())
    }

    /// The file that [`Lists::fill`] writes.
    const LIST: &str = "lists/_mirror_dists_sid_main_binary-amd64_Packages";

    #[test]
    fn lists_are_of_today_but_for_those_of_a_chosen_time() -> Result<()> {
        let cache = tempfile::tempdir()?;
        let checks = |mirror| {
            Ok::<_, anyhow::Error>(of_sid(mirror, cache.path())?.settings.contains(OF_TODAY))
        };
        assert!(checks("http://a.example/debian")?);
        assert!(!checks("http://a.example/archive/debian/20240101T000000Z")?);
        Ok(())
    }

    #[test]
    fn what_an_interrupted_apt_has_left_goes() -> Result<()> {
        let cache = tempfile::tempdir()?;
        let lists = of_sid("http://a.example/debian", cache.path())?;
        lists.prepare()?;
        let apt = lists.apt("apt-get");
        let set = apt.get_envs().find(|(name, _)| *name == "TMPDIR").and_then(|(_, value)| value);
        assert_eq!(set, Some(lists.temporary().as_os_str()));
        let left = lists.temporary().join("apt.conf.AbCdEf");
        std::fs::write(&left, "")?;
        lists.prepare()?;
        assert!(!left.exists() && lists.temporary().exists());
        Ok(())
    }

    #[test]
    fn what_fails_leaves_good_lists_and_no_empty_ones() -> Result<()> {
        if crate::command::which("apt-get").is_none() {
            println!("NOT RUN: lists are fetched by apt-get, which is not here");
            return Ok(());
        }
        let cache = tempfile::tempdir()?;
        let mirror = tempfile::tempdir()?;
        let lists = of_sid(&format!("file:{}", mirror.path().display()), cache.path())?;
        let failure = lists.fetch().expect_err("an empty folder is no mirror");
        assert_eq!(failure.kind, FailureKind::NotServed);
        assert_eq!(std::fs::read_dir(cache.path().join("lists"))?.count(), 0);

        lists.fill("Package: linux-doc\nVersion: 1:2\nArchitecture: amd64\n")?;
        let before = lists.fetched();
        lists.fetch().expect_err("it is still none");
        assert_eq!(lists.fetched(), before);
        let kept = lists.packages(&["linux-doc"])?;
        assert_eq!(kept.first().map(|package| package.version.as_str()), Some("1:2"));
        Ok(())
    }

    fn of_sid(mirror: &str, cache: &Path) -> Result<Lists> {
        let keyring = cache.join("archive.gpg");
        std::fs::write(&keyring, b"\x99")?;
        let mirror = Mirror::find(Some(mirror), Some(&keyring), cache)?;
        Ok(Lists::of_suite("sid", &mirror, cache))
    }
}
