//! Where Debian's packages come from: the mirror and the keyring that this host's own apt sources name.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Where Debian's package `debian-archive-keyring` has its keys.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// By these names, besides those of the releases, sources ask for Debian's suites.
const ALIASES: [&str; 5] = ["oldoldstable", "oldstable", "stable", "testing", "unstable"];

/// A mirror of Debian, and the keys that its lists must be signed with.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mirror {
    main: String,
    security: String,
    keyrings: Vec<PathBuf>,
}

impl Mirror {
    /// The mirror of the user's choice, or that of this host.
    pub(super) fn find(mirror: Option<&str>, keyring: Option<&Path>) -> Result<Self> {
        let mut found = match mirror {
            Some(main) => Self::at(main),
            None => Self::of_entries(&entries_of_host()).context(
                "the apt sources of this host name no mirror of Debian: name one, and the keys that sign its lists, with \
                 --mirror URL --keyring FILE",
            )?,
        };
        let own = PathBuf::from(KEYRING);
        if let Some(keyring) = keyring {
            found.keyrings = vec![std::path::absolute(keyring)?];
        } else if found.keyrings.is_empty() || (own.exists() && !found.keyrings.contains(&own)) {
            found.keyrings.push(own);
        }
        if let Some(missing) = found.keyrings.iter().find(|keyring| !keyring.exists()) {
            bail!(
                "{} is not here: install debian-archive-keyring, or name Debian's keys with --keyring FILE",
                missing.display()
            );
        }
        Ok(found)
    }

    /// A mirror as Debian lays them out: the security suites lie beside the others.
    fn at(main: &str) -> Self {
        let main = main.trim_end_matches('/').to_owned();
        Self { security: format!("{main}-security"), main, keyrings: Vec::new() }
    }

    fn of_entries(entries: &[Entry]) -> Option<Self> {
        let mut debian: Vec<_> = entries.iter().filter(|entry| entry.is_debian()).collect();
        // Others may serve a suite of the same name; they would not be signed with a keyring of Debian.
        debian.sort_by_key(|entry| entry.signed_by.is_empty());
        let (security, main): (Vec<_>, Vec<_>) =
            debian.iter().partition(|entry| entry.suites.iter().any(|suite| is_security(suite)));
        let uri = |entries: &[&&Entry]| Some(entries.first()?.uris.first()?.clone());
        let mut mirror = Self::at(&uri(&main)?);
        mirror.security = uri(&security).unwrap_or(mirror.security);
        for keyring in debian.iter().flat_map(|entry| &entry.signed_by) {
            if !mirror.keyrings.contains(keyring) {
                mirror.keyrings.push(keyring.clone());
            }
        }
        Some(mirror)
    }

    /// The line by which apt reads the packages of a suite for these architectures, and nothing else.
    pub(super) fn line(&self, suite: &str, architectures: &[&str]) -> String {
        let uri = if is_security(suite) { &self.security } else { &self.main };
        let keyrings: Vec<_> =
            self.keyrings.iter().map(|file| file.display().to_string()).collect();
        let keyrings = keyrings.join(",");
        let architectures = architectures.join(",");
        format!(
            "deb [arch={architectures} target=Packages signed-by={keyrings}] {uri} {suite} main\n"
        )
    }
}

/// What one entry of an apt source says.
#[derive(Debug, Default, PartialEq)]
struct Entry {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    /// Files; apt's own keys where there are none.
    signed_by: Vec<PathBuf>,
}

impl Entry {
    fn is_debian(&self) -> bool {
        let known = |suite: &String| {
            let release = suite.split(['-', '/']).next().unwrap_or_default();
            ALIASES.contains(&release) || super::roles::RELEASES.contains(&release)
        };
        let signed = |file: &PathBuf| file.to_string_lossy().contains("debian");
        self.components.iter().any(|component| component == "main")
            && self.suites.iter().any(known)
            && self.signed_by.iter().all(signed)
            && self.uris.iter().all(|uri| !uri.starts_with("cdrom:"))
    }
}

fn is_security(suite: &str) -> bool {
    suite.ends_with("-security") || suite.contains("/updates")
}

fn entries_of_host() -> Vec<Entry> {
    let folder = std::fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten();
    let mut files: Vec<_> = folder.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    files.insert(0, "/etc/apt/sources.list".into());
    let entries = files.iter().flat_map(|file| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
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
    let mut signed_by = Vec::new();
    if let Some(options) = rest.strip_prefix('[') {
        let (options, behind) = options.split_once(']')?;
        let keys =
            options.split_whitespace().filter_map(|option| option.strip_prefix("signed-by="));
        signed_by = keys.flat_map(keyring_files).collect();
        rest = behind;
    }
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Entry {
        uris: vec![words.next()?],
        suites: vec![words.next()?],
        components: words.collect(),
        signed_by,
    })
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
            "enabled" => enabled = !["no", "false", "0"].contains(&value.trim()),
            "uris" => entry.uris.extend(words()),
            "suites" => entry.suites.extend(words()),
            "components" => entry.components.extend(words()),
            "signed-by" => entry.signed_by.extend(keyring_files(value)),
            _ => {}
        }
    }
    (binary && enabled).then_some(entry)
}

/// The files of a `Signed-By`, which can also name fingerprints or be the key itself.
fn keyring_files(value: &str) -> impl Iterator<Item = PathBuf> {
    let files = value.split([',', ' ', '\t']).filter(|word| word.starts_with('/'));
    files.map(PathBuf::from).filter(|file| file.extension().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror(main: &str, security: &str, keyrings: &[&str]) -> Mirror {
        let keyrings = keyrings.iter().map(PathBuf::from).collect();
        Mirror { main: main.into(), security: security.into(), keyrings }
    }

    #[test]
    fn stanzas_name_the_mirror_and_its_keys() {
        let text = "\
Types: deb deb-src
# URIs: http://old.example/debian
URIs: http://a.example/debian/
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /k/debian-archive-keyring.gpg

Types: deb
uris: http://a.example/debian-security
Suites:
 bookworm-security
Components: main
Signed-By: /k/debian-archive-keyring.gpg
";
        let expected = mirror(
            "http://a.example/debian",
            "http://a.example/debian-security",
            &["/k/debian-archive-keyring.gpg"],
        );
        assert_eq!(Mirror::of_entries(&deb822(text)), Some(expected));
    }

    #[test]
    fn lines_name_the_mirror() {
        let text = "\
# deb http://old.example/debian bookworm main
deb-src http://source.example/debian bookworm main
deb cdrom:[Debian 12]/ bookworm main
deb http://a.example/debian bookworm main non-free # the nearest
deb [ arch=amd64 signed-by=/k/a.gpg,/k/b.gpg ] http://b.example/tool bookworm main
deb mirror+file:/etc/mirrors.list bookworm-security main
";
        let expected = mirror("http://a.example/debian", "mirror+file:/etc/mirrors.list", &[]);
        assert_eq!(Mirror::of_entries(&one_line(text)), Some(expected));
        let keys: Vec<_> = one_line(text).into_iter().map(|entry| entry.signed_by.len()).collect();
        assert_eq!(keys, [0, 0, 2, 0]);
    }

    #[test]
    fn what_debian_signed_goes_before_what_anyone_may_have() {
        let text = "\
deb http://tool.example/apt bookworm main
deb [signed-by=/k/debian-archive-keyring.gpg] http://a.example/debian trixie main
";
        let found = Mirror::of_entries(&one_line(text)).expect("a mirror");
        assert_eq!(found.main, "http://a.example/debian");
        // Where nothing says otherwise the security suites lie beside the others.
        assert_eq!(found.security, "http://a.example/debian-security");
    }

    #[test]
    fn other_sources_are_no_mirror_of_debian() {
        let text = "\
Types: deb
URIs: http://a.example/ubuntu
Suites: noble
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEY865UxYJKwYBBAHaRw8BAQdAd7Z0srwuhlB6JKFkcf4HU4SSS
 /mDMEY865UxYJKwYBBAHaRw8BAQdAd7Z0srwuhlB6JKFkcf4HU4SS
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: http://b.example/debian
Suites: bookworm
Components: stable

Types: deb
URIs: http://c.example/debian
Suites: bookworm
Components: main
Enabled: no
";
        let entries = deb822(text);
        assert!(entries.len() == 2 && entries.iter().all(|entry| entry.signed_by.is_empty()));
        assert_eq!(Mirror::of_entries(&entries), None);
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
