//! The origin of Debian's packages: the mirror and the keys that this host's own apt sources name.

use std::cmp::Reverse;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The keys of Debian's package `debian-archive-keyring`.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The names of Debian's releases in apt sources.
const RELEASES: [&str; 13] = [
    "stretch",
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

/// The endings of the names of Debian's other suites. Suites of third parties have other endings: `bookworm-pgdg`.
const ENDINGS: [&str; 6] =
    ["", "-updates", "-security", "/updates", "-backports", "-proposed-updates"];

/// A mirror of Debian, and the keys that its lists must be signed with.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mirror {
    main: String,
    security: String,
    keyrings: Vec<PathBuf>,
}

impl Mirror {
    /// The mirror of the user's choice, or that of this host. Keys that a source contains are put into a file of `folder`.
    pub(super) fn find(
        mirror: Option<&str>,
        keyring: Option<&Path>,
        folder: &Path,
    ) -> Result<Self> {
        let chosen = mirror.map(|mirror| Self::at(mirror, Vec::new())).transpose()?;
        let entries = if mirror.is_some() { Vec::new() } else { entries_of_host() };
        let mut found = match chosen {
            Some(mirror) => mirror,
            None => Self::of_entries(&entries, keyring.is_some() || is_debian(), folder)?.context(
                "the apt sources of this host name no mirror of Debian: name one, and the keys that sign its lists, with \
                 --mirror URL --keyring FILE",
            )?,
        };
        if let Some(keyring) = keyring {
            found.keyrings = vec![checked_keyring(keyring)?];
            return Ok(found);
        }
        found.keyrings.retain(|keyring| checked_keyring(keyring).is_ok());
        let own = checked_keyring(KEYRING.as_ref());
        match own {
            Ok(own) if found.keyrings.contains(&own) => {}
            Ok(own) => found.keyrings.push(own),
            Err(error) if found.keyrings.is_empty() => {
                return Err(error.context(
                    "Debian's keys are not here: install debian-archive-keyring, or name a file of them with --keyring FILE",
                ));
            }
            Err(_) => {}
        }
        Ok(found)
    }

    /// Fails if the user's choice cannot be right, before anything is done with it.
    pub(super) fn check(mirror: Option<&str>, keyring: Option<&Path>) -> Result<()> {
        mirror.map(|mirror| Self::at(mirror, Vec::new())).transpose()?;
        keyring.map(checked_keyring).transpose()?;
        Ok(())
    }

    /// A mirror with the usual layout of Debian's mirrors.
    fn at(main: &str, keyrings: Vec<PathBuf>) -> Result<Self> {
        let main = checked_uri(main)?;
        Ok(Self { security: beside(&main), main, keyrings })
    }

    /// Sources that name no keys of Debian count only if `trusted`.
    fn of_entries(entries: &[Entry], trusted: bool, folder: &Path) -> Result<Option<Self>> {
        let mut sites = sites(entries);
        sites.retain(|site| trusted || !matches!(site.keys, Keys::OfApt | Keys::Missing));
        let Some(main) = best(&sites, false) else { return Ok(None) };
        let (mut keyrings, mut inline) = (Vec::new(), Vec::new());
        for site in &sites {
            match site.keys {
                Keys::OfApt | Keys::Missing => {}
                Keys::Files(files) => keyrings.extend_from_slice(files),
                Keys::Inline(key) => inline.push(key.as_str()),
            }
        }
        inline.sort_unstable();
        inline.dedup();
        for (number, key) in inline.into_iter().enumerate() {
            let file = folder.join(format!("inline-{number}.asc"));
            std::fs::write(&file, key)?;
            keyrings.push(file);
        }
        keyrings.sort_unstable();
        keyrings.dedup();
        let mut mirror = Self::at(main, keyrings)?;
        if let Some(security) = best(&sites, true) {
            mirror.security = security.trim_end_matches('/').into();
        }
        Ok(Some(mirror))
    }

    /// The address that serves a suite.
    pub(super) fn uri(&self, suite: &str) -> &str {
        if is_security(suite) { &self.security } else { &self.main }
    }

    /// Whether a suite is served as it was at a time, and not as it is today.
    pub(super) fn is_of_a_time(&self, suite: &str) -> bool {
        self.uri(suite).rsplit_once('/').is_some_and(|(_, end)| is_time(end))
    }

    /// A name for the keys themselves, wherever they lie: what they have signed may come from any mirror.
    pub(super) fn keys(&self) -> String {
        let mut hasher = DefaultHasher::new();
        for keyring in &self.keyrings {
            std::fs::read(keyring).ok().hash(&mut hasher);
        }
        format!("{:016x}", hasher.finish())
    }

    /// The line that makes apt read the packages of a suite for these architectures, and nothing else.
    pub(super) fn line(&self, suite: &str, architectures: &[&str]) -> String {
        let uri = self.uri(suite);
        let keyrings: Vec<_> =
            self.keyrings.iter().map(|file| file.display().to_string()).collect();
        let keyrings = keyrings.join(",");
        let architectures = architectures.join(",");
        format!(
            "deb [arch={architectures} target=Packages signed-by={keyrings}] {uri} {suite} main\n"
        )
    }
}

/// The address of the security suites if no source gives it: beside the others. A list of mirrors is an exception, since it can
/// have them too.
fn beside(main: &str) -> String {
    if main.starts_with("mirror+") {
        return main.to_owned();
    }
    match main.rsplit_once('/') {
        // The archive as it was at a time: /archive/debian/20240101T000000Z
        Some((archive, time)) if is_time(time) => format!("{archive}-security/{time}"),
        _ => format!("{main}-security"),
    }
}

fn is_time(text: &str) -> bool {
    text.len() == "20240101T000000Z".len()
        && text.starts_with(|c: char| c.is_ascii_digit())
        && text.ends_with('Z')
}

/// Whether this host is a Debian. On other hosts a source without keys of its own is hardly Debian's, whatever it calls its
/// suite.
fn is_debian() -> bool {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    release.lines().any(|line| matches!(line.trim(), "ID=debian" | "ID=\"debian\""))
}

/// One suite of Debian at one address, as a source names it.
struct Site<'a> {
    uri: &'a str,
    suite: &'a str,
    keys: &'a Keys,
}

/// Debian's suites in the sources.
fn sites(entries: &[Entry]) -> Vec<Site<'_>> {
    let mut sites = Vec::new();
    for entry in entries.iter().filter(|entry| entry.may_be_debians()) {
        let uris = entry.uris.iter().filter(|uri| !uri.starts_with("cdrom:"));
        for uri in uris {
            let named = entry.suites.iter().filter(|suite| is_debians(suite));
            sites.extend(named.map(|suite| Site { uri, suite, keys: &entry.keys }));
        }
    }
    sites
}

/// The address of Debian's suites, or of its security suites. A source without keys of its own may be anybody's: sources with
/// Debian's keys go first, and then the address with most of Debian's suites, since other projects have no use for these.
fn best<'a>(sites: &[Site<'a>], security: bool) -> Option<&'a str> {
    let of_kind = sites.iter().filter(|site| is_security(site.suite) == security);
    let best = of_kind.min_by_key(|site| {
        let count = sites.iter().filter(|other| other.uri == site.uri).count();
        let path = site.uri.trim_end_matches('/');
        (
            match site.keys {
                Keys::Files(_) | Keys::Inline(_) => 0,
                Keys::OfApt => 1,
                Keys::Missing => 2,
            },
            // One entry can have suites of both kinds, and an address for each.
            path.contains("security") != security,
            Reverse(count),
            !path.ends_with("/debian"),
        )
    });
    best.map(|site| site.uri)
}

fn is_debians(suite: &str) -> bool {
    let suite = suite.trim_end_matches('/');
    let ending = RELEASES.iter().filter_map(|release| suite.strip_prefix(release));
    ending.into_iter().any(|ending| ENDINGS.contains(&ending))
}

fn is_security(suite: &str) -> bool {
    suite.ends_with("-security") || suite.contains("/updates")
}

/// The contents of one entry of an apt source.
#[derive(Debug, Default, PartialEq)]
struct Entry {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    /// Empty for all architectures.
    architectures: Vec<String>,
    keys: Keys,
}

impl Entry {
    fn may_be_debians(&self) -> bool {
        let architectures = &self.architectures;
        self.components.iter().any(|component| component == "main")
            && (architectures.is_empty() || architectures.iter().any(|name| name == "amd64"))
            && self.keys.may_be_debians()
    }
}

/// The keys with which an entry's lists are signed.
#[derive(Debug, Default, PartialEq)]
enum Keys {
    /// Some of the keys that apt has, of Debian or of others.
    #[default]
    OfApt,
    Files(Vec<PathBuf>),
    /// Keys in files that do not exist; the keys of Debian's package may be the same.
    Missing,
    /// A key that is written in the source itself.
    Inline(String),
}

impl Keys {
    /// The meaning of a `Signed-By`: files, or fingerprints of keys that apt has.
    fn of(value: &str) -> Self {
        if value.contains(ARMOUR) {
            return Self::Inline(value.into());
        }
        let words = value.split(|c: char| c == ',' || c.is_whitespace());
        let files = words.filter(|word| word.starts_with('/')).map(PathBuf::from);
        let (here, missing): (Vec<_>, Vec<_>) =
            files.partition(|file| std::fs::File::open(file).is_ok());
        match (here.is_empty(), missing.is_empty()) {
            (false, _) => Self::Files(here),
            (true, false) => Self::Missing,
            (true, true) => Self::OfApt,
        }
    }

    fn may_be_debians(&self) -> bool {
        match self {
            Self::OfApt | Self::Missing => true,
            Self::Files(files) => {
                files.iter().any(|file| std::fs::read(file).is_ok_and(|keys| are_debians(&keys)))
            }
            Self::Inline(key) => are_debians(key.as_bytes()),
        }
    }
}

/// The beginning of keys in text form.
const ARMOUR: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// Whether keys are Debian's: those of its archive and of its releases. Debian's developers sign sources of their own, too.
fn are_debians(keys: &[u8]) -> bool {
    const OWNERS: [&[u8]; 2] = [b"<ftpmaster@debian.org>", b"<debian-release@lists.debian.org>"];
    let has = |keys: &[u8], owner: &[u8]| keys.windows(owner.len()).any(|part| part == owner);
    let text = String::from_utf8_lossy(keys);
    let mut keys = vec![keys.to_owned()];
    for block in text.split(ARMOUR).skip(1) {
        // An empty line ends the headers, and a checksum ends the key.
        let lines = block.lines().skip(1).map(str::trim).skip_while(|line| !line.is_empty());
        let lines: String = lines.take_while(|line| !line.starts_with(['=', '-'])).collect();
        keys.extend(STANDARD.decode(lines));
    }
    keys.iter().any(|keys| OWNERS.iter().any(|owner| has(keys, owner)))
}

/// The address of a mirror, without a slash at its end.
fn checked_uri(uri: &str) -> Result<String> {
    let trimmed = uri.trim().trim_end_matches('/');
    let is_uri = trimmed.split_once(":/").is_some_and(|(scheme, rest)| {
        let host = rest.strip_prefix('/').unwrap_or(rest);
        let is_local = matches!(scheme, "file" | "copy") || scheme.starts_with("mirror+");
        let has_host = rest.starts_with('/') && !host.starts_with('/');
        !scheme.is_empty() && !host.is_empty() && (is_local || has_host)
    });
    ensure!(
        is_uri && !trimmed.contains(char::is_whitespace),
        "{uri:?} is no address of a mirror such as http://HOST/debian"
    );
    Ok(trimmed.into())
}

/// A file that apt takes as keys. Without this check a wrong file would fail late, with an error that blames the mirror.
fn checked_keyring(file: &Path) -> Result<PathBuf> {
    ensure!(!file.as_os_str().is_empty(), "a file of keys is to be named, and none is");
    let path = std::path::absolute(file)?;
    let shown = path.display();
    if shown.to_string().contains(|c: char| c == ',' || c.is_whitespace()) {
        bail!(
            "apt takes no keys from {shown:?}, for the space or comma in it: copy the file elsewhere"
        );
    }
    ensure!(!path.is_dir(), "{shown} is a folder: name the file in it that has Debian's keys");
    let keys = std::fs::read(&path).with_context(|| format!("{shown} cannot be read"))?;
    let is_armoured = keys.starts_with(ARMOUR.as_bytes());
    let is_binary = matches!(keys.first(), Some(0x98 | 0x99 | 0xc6));
    let ending = path.extension().and_then(|ending| ending.to_str());
    ensure!(
        // The keys of Debian's own package end with pgp since trixie.
        (ending == Some("asc") && is_armoured)
            || (matches!(ending, Some("gpg" | "pgp")) && is_binary),
        "{shown} has no keys that apt can read: FILE.gpg has them in OpenPGP's binary form, FILE.asc in armour"
    );
    Ok(path)
}

fn entries_of_host() -> Vec<Entry> {
    let folder = std::fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten();
    let mut files: Vec<_> = folder.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    files.insert(0, "/etc/apt/sources.list".into());
    let entries = files.iter().flat_map(|file| {
        let text = std::fs::read(file).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        match file.extension().and_then(|ending| ending.to_str()) {
            Some("list") => one_line(&text),
            Some("sources") => deb822(&text),
            _ => Vec::new(),
        }
    });
    entries.collect()
}

/// `deb [arch=amd64 signed-by=FILE] URI SUITE COMPONENT…`
fn one_line(text: &str) -> Vec<Entry> {
    text.lines().filter_map(one_line_entry).collect()
}

fn one_line_entry(line: &str) -> Option<Entry> {
    let line = line.split('#').next()?.trim().strip_prefix("deb")?;
    let mut rest = line.strip_prefix(char::is_whitespace)?.trim_start();
    let mut entry = Entry::default();
    if let Some(options) = rest.strip_prefix('[') {
        let (options, behind) = options.split_once(']')?;
        for (name, value) in options.split_whitespace().filter_map(|one| one.split_once('=')) {
            match name {
                "arch" => entry.architectures = value.split(',').map(str::to_owned).collect(),
                "signed-by" => entry.keys = Keys::of(value),
                _ => {}
            }
        }
        rest = behind;
    }
    let mut words = rest.split_whitespace().map(str::to_owned);
    entry.uris = vec![words.next()?];
    entry.suites = vec![words.next()?];
    entry.components = words.collect();
    Some(entry)
}

/// Stanzas of `Types:`, `URIs:`, `Suites:`, `Components:` and `Signed-By:`, as deb822(5) has them.
fn deb822(text: &str) -> Vec<Entry> {
    let without_comments: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let stanzas = without_comments.split(|line| line.trim().is_empty());
    stanzas.filter_map(deb822_entry).collect()
}

fn deb822_entry(lines: &[&str]) -> Option<Entry> {
    let mut entry = Entry::default();
    let (mut binary, mut enabled, mut field) = (false, true, String::new());
    let mut signed_by = String::new();
    for line in lines {
        let value = match line.split_once(':') {
            Some((name, value)) if !line.starts_with([' ', '\t']) => {
                field = name.to_ascii_lowercase();
                value
            }
            _ => line,
        };
        let words = || value.split_whitespace().map(str::to_owned);
        match field.as_str() {
            "types" => binary |= words().any(|kind| kind == "deb"),
            "enabled" => enabled = !is_false(value.trim()),
            "uris" => entry.uris.extend(words()),
            "suites" => entry.suites.extend(words()),
            "components" => entry.components.extend(words()),
            "architectures" => entry.architectures.extend(words()),
            "signed-by" => {
                // In a key, a dot stands for an empty line.
                let value = value.trim();
                signed_by += if value == "." { "" } else { value };
                signed_by.push('\n');
            }
            _ => {}
        }
    }
    entry.keys = Keys::of(signed_by.trim_start());
    (binary && enabled).then_some(entry)
}

/// Whether apt takes a value as no.
fn is_false(value: &str) -> bool {
    let no = ["no", "false", "without", "off", "disable", "0"];
    no.iter().any(|no| value.eq_ignore_ascii_case(no))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with Debian's keys in `archive.gpg` and another's in `other.gpg`, which pass for real ones as long as only names
    /// matter.
    fn keys() -> Result<tempfile::TempDir> {
        let folder = tempfile::tempdir()?;
        std::fs::write(
            folder.path().join("archive.gpg"),
            b"\x99..\xb4.Key <ftpmaster@debian.org>",
        )?;
        std::fs::write(folder.path().join("other.gpg"), b"\x99..\xb4.Key <me@debian.org.example>")?;
        std::fs::write(folder.path().join("developer.gpg"), b"\x99..\xb4.Key <me@debian.org>")?;
        Ok(folder)
    }

    /// The mirror of a source in which `K/` stands for the folder of keys.
    fn mirror_of(text: &str) -> Result<Option<Mirror>> {
        mirror_on(true, text)
    }

    /// The same on a host that is a Debian, or on one that is not.
    fn mirror_on(debian: bool, text: &str) -> Result<Option<Mirror>> {
        let keys = keys()?;
        let text = text.replace("K/", &format!("{}/", keys.path().display()));
        let entries = if text.contains("Types:") { deb822(&text) } else { one_line(&text) };
        let found = Mirror::of_entries(&entries, debian, keys.path())?;
        Ok(found.map(|mirror| Mirror {
            keyrings: mirror
                .keyrings
                .iter()
                .map(|file| file.strip_prefix(keys.path()).unwrap_or(file).to_owned())
                .collect(),
            ..mirror
        }))
    }

    fn mirror(main: &str, security: &str, keyrings: &[&str]) -> Mirror {
        let keyrings = keyrings.iter().map(PathBuf::from).collect();
        Mirror { main: main.into(), security: security.into(), keyrings }
    }

    #[test]
    fn stanzas_name_the_mirror_and_its_keys() -> Result<()> {
        let text = "\
Types: deb deb-src
# URIs: http://old.example/debian
URIs: http://a.example/debian/
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: K/archive.gpg

Types: deb
uris: http://a.example/security
Suites:
 bookworm-security
Components: main
Signed-By: K/archive.gpg
";
        let expected =
            mirror("http://a.example/debian", "http://a.example/security", &["archive.gpg"]);
        assert_eq!(mirror_of(text)?, Some(expected));
        Ok(())
    }

    #[test]
    fn one_stanza_can_name_all() -> Result<()> {
        let text = "\
Types: deb
URIs: http://a.example/debian
Suites: trixie trixie-updates trixie-security
Components: main
";
        let expected = mirror("http://a.example/debian", "http://a.example/debian", &[]);
        assert_eq!(mirror_of(text)?, Some(expected));
        let text = text.replace("URIs:", "URIs: http://a.example/debian-security/ ");
        let expected = mirror("http://a.example/debian", "http://a.example/debian-security", &[]);
        assert_eq!(mirror_of(&text)?, Some(expected));
        Ok(())
    }

    #[test]
    fn lines_name_the_mirror() -> Result<()> {
        let text = "\
# deb http://old.example/debian bookworm main
deb-src http://source.example/debian bookworm main
deb cdrom:[Debian 12]/ bookworm main
deb [arch=armhf] http://ports.example/debian bookworm main
deb [arch=amd64,arm64] http://a.example/debian bookworm main non-free # the nearest
deb [ arch=amd64 signed-by=K/other.gpg,K/none.gpg ] http://b.example/tool bookworm main
deb mirror+file:/etc/mirrors.list bookworm-security main
";
        let expected = mirror("http://a.example/debian", "mirror+file:/etc/mirrors.list", &[]);
        assert_eq!(mirror_of(text)?, Some(expected));
        Ok(())
    }

    #[test]
    fn a_host_of_any_release_has_a_mirror() -> Result<()> {
        for suite in ["stretch", "buster", "forky", "sid", "testing", "oldoldstable"] {
            let expected = mirror("http://m/debian", "http://m/debian-security", &[]);
            let found = mirror_of(&format!("deb http://m/debian/ {suite} main"))?;
            assert_eq!(found, Some(expected), "{suite}");
        }
        let old = mirror_of("deb http://m/debian buster main\ndeb http://s/ buster/updates main")?;
        assert_eq!(old, Some(mirror("http://m/debian", "http://s", &[])));
        Ok(())
    }

    #[test]
    fn what_debian_signed_goes_before_what_anyone_may_have() -> Result<()> {
        let text = "\
deb http://tool.example/apt bookworm main
deb [signed-by=K/archive.gpg] http://a.example/mirror trixie main
";
        // If no source says otherwise, the security suites lie beside the others.
        let expected =
            mirror("http://a.example/mirror", "http://a.example/mirror-security", &["archive.gpg"]);
        assert_eq!(mirror_of(text)?, Some(expected));
        let text = "\
deb http://tool.example/apt bookworm main
deb http://a.example/debian bookworm main
deb http://a.example/debian bookworm-updates main
deb http://tool.example/debian bookworm main
";
        let found = mirror_of(text)?.map(|mirror| mirror.main);
        assert_eq!(found.as_deref(), Some("http://a.example/debian"));
        Ok(())
    }

    /// Once: a vendor's `stable main` was Debian's mirror on any host.
    #[test]
    fn elsewhere_than_on_debian_a_mirror_is_what_debian_signed() -> Result<()> {
        let vendor = "deb http://tool.example/debian stable main\n";
        assert_eq!(mirror_on(false, vendor)?, None);
        let signed = "deb [signed-by=K/archive.gpg] http://m/debian trixie main\n";
        let expected = mirror("http://m/debian", "http://m/debian-security", &["archive.gpg"]);
        assert_eq!(mirror_on(false, &format!("{vendor}{signed}"))?, Some(expected));
        Ok(())
    }

    /// Once: the source of a developer of Debian was preferred to Debian's own.
    #[test]
    fn a_developers_source_is_none_of_debians() -> Result<()> {
        let text = "\
deb [signed-by=K/developer.gpg] http://tool.example/debian bookworm main
deb http://m/debian bookworm main
";
        let found = mirror_of(text)?.map(|mirror| mirror.main);
        assert_eq!(found.as_deref(), Some("http://m/debian"));
        Ok(())
    }

    /// Once: the message said that such a source was no mirror of Debian at all.
    #[test]
    fn a_source_whose_keys_are_missing_is_one_of_apts_keys() -> Result<()> {
        let tool = "deb [signed-by=K/none.gpg] http://tool.example/debian bookworm main\n";
        let beside = mirror_of(&format!("{tool}deb http://m/debian bookworm main"))?;
        assert_eq!(beside.map(|mirror| mirror.main).as_deref(), Some("http://m/debian"));
        let text = "deb [signed-by=K/none.gpg] http://m/debian bookworm main";
        let expected = mirror("http://m/debian", "http://m/debian-security", &[]);
        assert_eq!(mirror_of(text)?, Some(expected));
        Ok(())
    }

    #[test]
    fn the_security_suites_are_where_they_can_be() -> Result<()> {
        for (main, security) in [
            ("http://m/pub/debian/", "http://m/pub/debian-security"),
            ("mirror+file:/etc/mirrors.list", "mirror+file:/etc/mirrors.list"),
            ("mirror+http://m/list", "mirror+http://m/list"),
            (
                "http://m/archive/debian/20240101T000000Z",
                "http://m/archive/debian-security/20240101T000000Z",
            ),
            ("http://m/archive/debian/20240101", "http://m/archive/debian/20240101-security"),
        ] {
            assert_eq!(Mirror::at(main, Vec::new())?.security, security);
        }
        Ok(())
    }

    #[test]
    fn a_key_in_the_source_counts_as_one_in_a_file() -> Result<()> {
        let source = |owner: &str| {
            let key = STANDARD.encode(format!("\u{99}..{owner}"));
            let (start, end) = key.split_at(12);
            format!(
                "Types: deb\nURIs: http://m/debian\nSuites: trixie\nComponents: main\nSigned-By:\n {ARMOUR}\n \
                 Comment: http://c.example\n .\n {start}\n {end}\n =abcd\n -----END PGP PUBLIC KEY BLOCK-----\n"
            )
        };
        let debians = mirror_of(&source("Debian Stable <debian-release@lists.debian.org>"))?;
        let expected = mirror("http://m/debian", "http://m/debian-security", &["inline-0.asc"]);
        assert_eq!(debians, Some(expected));
        // Each source has its own keys.
        let two = [
            source("Debian Stable <debian-release@lists.debian.org>"),
            source("Debian Archive <ftpmaster@debian.org>"),
        ];
        let two = mirror_of(&two.join("\n"))?.map(|mirror| mirror.keyrings);
        assert_eq!(two, Some(vec!["inline-0.asc".into(), "inline-1.asc".into()]));
        assert_eq!(mirror_of(&source("Tools <apt@tool.example>"))?, None);
        let folder = tempfile::tempdir()?;
        let entries = deb822(&source("Debian Archive <ftpmaster@debian.org>"));
        let found = Mirror::of_entries(&entries, true, folder.path())?.context("a mirror")?;
        assert_eq!(checked_keyring(&found.keyrings[0])?, found.keyrings[0]);
        Ok(())
    }

    #[test]
    fn other_sources_are_no_mirror_of_debian() -> Result<()> {
        let stanza = |uri: &str, suite: &str, more: &str| {
            format!("Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\n{more}\n")
        };
        for text in [
            stanza("http://a.example/ubuntu", "noble", ""),
            stanza("http://a.example/pub", "bookworm-pgdg", ""),
            stanza("http://a.example/apt", "sidekick", ""),
            stanza("http://a.example/debian", "bookworm", "Signed-By: K/other.gpg"),
            stanza("http://a.example/debian", "bookworm", "Enabled: no"),
            stanza("http://a.example/debian", "bookworm", "Enabled: False"),
            stanza("http://a.example/debian", "bookworm", "Architectures: arm64 i386"),
            stanza("cdrom:[Debian]/", "bookworm", ""),
            stanza("http://a.example/debian", "bookworm", "").replace("main", "stable"),
            stanza("http://a.example/debian", "bookworm", "").replace("deb\n", "deb-src\n"),
            "deb [signed-by=K/other.gpg] http://a.example/debian bookworm main".into(),
        ] {
            assert_eq!(mirror_of(&text)?, None, "{text}");
        }
        // A fingerprint refers to a key that apt has.
        let text = stanza("http://m/debian", "sid", "Enabled: yes\nSigned-By: 4CB50190207B4758");
        assert!(mirror_of(&text)?.is_some());
        Ok(())
    }

    #[test]
    fn a_mirror_that_cannot_be_one_is_refused() -> Result<()> {
        let mirror = |uri| Mirror::find(Some(uri), None, Path::new("/"));
        for uri in [
            "",
            "deb.debian.org/debian",
            "http:/m/debian",
            "http://",
            "http:///debian",
            "://m",
            "http://m/deb ian",
            "/srv/debian",
        ] {
            let error = mirror(uri).expect_err(uri).to_string();
            assert!(error.contains("http://HOST/debian"), "{error}");
        }
        for uri in ["http://m/debian", "file:/srv/debian", "file:///srv/debian", "tor+http://m/d"] {
            assert_eq!(Mirror::at(&format!(" {uri}// "), Vec::new())?.main, uri);
        }
        Ok(())
    }

    #[test]
    fn a_file_that_has_no_keys_is_refused() -> Result<()> {
        let folder = keys()?;
        std::fs::create_dir(folder.path().join("a b"))?;
        for (name, contents, error) in [
            ("a b/archive.gpg", &b"\x99"[..], "copy the file elsewhere"),
            ("a,b.gpg", b"\x99", "copy the file elsewhere"),
            ("empty.gpg", b"", "has no keys"),
            ("text.gpg", ARMOUR.as_bytes(), "has no keys"),
            ("binary.asc", b"\x99", "has no keys"),
            ("page.gpg", b"<html>", "has no keys"),
        ] {
            let file = folder.path().join(name);
            std::fs::write(&file, contents)?;
            let found = Mirror::find(Some("http://m"), Some(&file), folder.path());
            let found = found.expect_err(name).to_string();
            assert!(found.contains(error), "{found}");
        }
        let said = |file: &Path| checked_keyring(file).expect_err("no file").to_string();
        assert!(said(folder.path()).contains("is a folder"));
        assert!(said(&folder.path().join("none.gpg")).contains("cannot be read"));
        assert!(said(Path::new("")).contains("is to be named"));
        std::fs::copy(folder.path().join("archive.gpg"), folder.path().join("archive.pgp"))?;
        for name in ["archive.gpg", "archive.pgp"] {
            let file = folder.path().join(name);
            let found = Mirror::find(Some("http://m"), Some(&file), folder.path())?;
            assert_eq!(found.keyrings, [file]);
        }
        Ok(())
    }

    #[test]
    fn a_line_of_ours_names_one_suite_and_its_keys() {
        let mirror = mirror("http://m/debian", "http://s/security", &["/a", "/b"]);
        assert_eq!(
            mirror.line("trixie-security", &["amd64"]),
            "deb [arch=amd64 target=Packages signed-by=/a,/b] http://s/security trixie-security main\n"
        );
        assert!(
            mirror
                .line("trixie-backports", &["amd64"])
                .contains("] http://m/debian trixie-backports main")
        );
    }
}
