//! The kernel that boots: one of Debian's, fetched and unpacked, or one that the user names.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::debian::Debian;
use super::roles::{ROLES, Role};

/// The meaning of `--kernel`: one kernel or several.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Choice(pub(crate) Vec<Source>);

/// The origin of a kernel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    Debian(&'static Role),
    Image(PathBuf),
}

impl Choice {
    /// The kernels that the tests run on: all roles but the last.
    pub(crate) fn all() -> Self {
        Self(ROLES[..ROLES.len() - 1].iter().map(Source::Debian).collect())
    }

    /// The kernels that the tests run on, and Debian's newest.
    pub(crate) fn all_and_newest() -> Self {
        Self(ROLES.iter().map(Source::Debian).collect())
    }

    /// Reads the name of a role, or of all but the last.
    pub(crate) fn roles() -> impl TypedValueParser<Value = Self> {
        let names = ROLES.iter().map(|role| role.name).chain([ALL]);
        PossibleValuesParser::new(names).try_map(|name| name.parse::<Self>())
    }

    /// The kernel that programs run on unless the user says otherwise.
    pub(super) fn usual() -> Self {
        Self(Role::by_name(USUAL).map(Source::Debian).into_iter().collect())
    }
}

/// The kernel that programs run on unless the user says otherwise.
pub(crate) const USUAL: &str = "6.12";

/// The name for all roles but the last.
const ALL: &str = "all";

impl FromStr for Choice {
    type Err = UnknownKernel;

    fn from_str(text: &str) -> Result<Self, UnknownKernel> {
        match Role::by_name(text) {
            Some(role) => Ok(Self(vec![Source::Debian(role)])),
            None if text == ALL => Ok(Self::all()),
            None if Path::new(text).is_file() => Ok(Self(vec![Source::Image(text.into())])),
            None => Err(UnknownKernel(text.into())),
        }
    }
}

/// A text that names no kernel.
#[derive(Debug, PartialEq)]
pub(crate) struct UnknownKernel(String);

impl fmt::Display for UnknownKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roles: Vec<_> = ROLES.iter().map(|role| role.name).collect();
        write!(f, "{} is neither one of {}, {ALL} nor a file", self.0, roles.join(", "))
    }
}

impl std::error::Error for UnknownKernel {}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Debian(role) => f.write_str(role.name),
            Self::Image(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A kernel on this machine, ready to boot.
pub(crate) struct Kernel {
    /// Its role, or its series if the user named an image.
    pub(super) name: String,
    /// The output of `uname -r` in the guest.
    pub(super) release: String,
    /// The version of Debian's package, in which Debian shows the patch level.
    pub(super) version: Option<String>,
    pub(super) image: PathBuf,
    /// A `/lib/modules/RELEASE` of its own, with its `modules.dep`.
    pub(super) modules: PathBuf,
    /// Keeps other commands from removing a kernel of Debian.
    pub(super) _in_use: Option<File>,
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Linux {}", self.release)?;
        match &self.version {
            Some(version) => write!(f, " (Debian {version})"),
            None => Ok(()),
        }
    }
}

/// Finds a kernel, and fetches one of Debian that is missing on this machine.
pub(super) fn find(source: &Source, modules: Option<&Path>, debian: &Debian) -> Result<Kernel> {
    match source {
        Source::Image(image) => named(image, modules),
        Source::Debian(_) if modules.is_some() => {
            bail!("--modules belongs to a kernel that is named by its path (--kernel PATH)")
        }
        Source::Debian(role) => debian.kernel(role),
    }
}

fn named(image: &Path, modules: Option<&Path>) -> Result<Kernel> {
    let release = release(image)?;
    let modules = modules.map_or_else(|| Path::new("/lib/modules").join(&release), Path::to_owned);
    if !modules.join("modules.dep").exists() {
        bail!(
            "{} has no modules.dep: name the kernel's /lib/modules/{release} with --modules DIR, \
             and run depmod if it was only unpacked",
            modules.display()
        );
    }
    let (name, image) = (series(&release), image.to_owned());
    Ok(Kernel { name, release, version: None, image, modules, _in_use: None })
}

/// The release is written in the image itself: the bytes at 0x20e give its offset, counted from 0x200.
pub(super) fn release(image: &Path) -> Result<String> {
    let bytes =
        std::fs::read(image).with_context(|| format!("{} cannot be read", image.display()))?;
    let release = parse_release(&bytes);
    let release =
        release.with_context(|| format!("{} is not a bzImage of x86_64", image.display()))?;
    if !is_whole(&bytes) {
        bail!("{} ends before the kernel does: fetch it again", image.display());
    }
    Ok(release)
}

fn parse_release(image: &[u8]) -> Option<String> {
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let offset = u16::from_le_bytes(image.get(0x20e..0x210)?.try_into().ok()?);
    let text = image.get(0x200 + usize::from(offset)..)?;
    let end = text.iter().position(|byte| matches!(byte, b' ' | 0))?;
    String::from_utf8(text[..end].to_vec()).ok()
}

/// Whether the image is complete: the sectors of the setup, one more before them, and the kernel's 16-byte units behind them.
fn is_whole(image: &[u8]) -> bool {
    let sectors = image.get(0x1f1).map(|sectors| if *sectors == 0 { 4 } else { *sectors });
    let units = image.get(0x1f4..0x1f8).and_then(|units| units.try_into().ok());
    let length = sectors.zip(units).map(|(sectors, units)| {
        (u64::from(sectors) + 1) * 512 + u64::from(u32::from_le_bytes(units)) * 16
    });
    length.is_some_and(|length| image.len() as u64 >= length)
}

/// `6.12.117+deb12-cloud-amd64` is `6.12`.
pub(super) fn series(release: &str) -> String {
    release.split(|c: char| !c.is_ascii_digit()).take(2).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_read_from_the_image() {
        let mut image = vec![0; 0x300];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e] = 0x40;
        let text = b"6.1.0-56-cloud-amd64 (builder)\0";
        image[0x240..0x240 + text.len()].copy_from_slice(text);
        assert_eq!(parse_release(&image).as_deref(), Some("6.1.0-56-cloud-amd64"));
        assert_eq!(parse_release(&image[..0x250]), None);
        assert_eq!(parse_release(b"\x7fELF"), None);
    }

    #[test]
    fn an_image_that_was_cut_is_none() {
        let mut image = vec![0; 512 * 2 + 16 * 3];
        (image[0x1f1], image[0x1f4]) = (1, 3);
        assert!(is_whole(&image));
        image.pop();
        assert!(!is_whole(&image));
        assert!(!is_whole(&image[..0x1f6]));
        // If the setup's number of sectors is 0, it means four.
        image[0x1f1] = 0;
        image.resize(512 * 5 + 16 * 3, 0);
        assert!(is_whole(&image));
    }

    #[test]
    fn a_series_is_two_numbers() {
        assert_eq!(series("6.12.117+deb12-cloud-amd64"), "6.12");
        assert_eq!(series("7.0-rc1"), "7.0");
    }

    #[test]
    fn a_choice_is_a_role_or_a_path() {
        let names = |choice: &Choice| choice.0.iter().map(ToString::to_string).collect::<Vec<_>>();
        let parsed = |text: &str| names(&text.parse().expect("a choice"));
        assert_eq!(parsed("6.1"), ["6.1"]);
        assert_eq!(parsed("newest"), ["newest"]);
        assert_eq!(parsed("all"), ["5.10", "6.1", "6.12", "backports"]);
        assert_eq!(parsed("Cargo.toml"), ["Cargo.toml"]);
        for unknown in ["5.1", "./bzImage", ""] {
            let error = Choice::from_str(unknown).expect_err("it names no kernel").to_string();
            assert!(error.contains("5.10, 6.1, 6.12, backports, newest, all"), "{error}");
        }
        assert_eq!(names(&Choice::usual()), [USUAL]);
        assert_eq!(names(&Choice::all_and_newest()).last().map(String::as_str), Some("newest"));
    }
}
