//! Which kernel boots: Debian's, fetched and unpacked, or one that the user names.

use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};

use super::{modules, packages};

/// The kernels of Debian that the crate is tested on, and the meta packages that may lead to them.
const DEBIAN: [(&str, &[&str]); 2] = [
    ("6.1", &["linux-image-cloud-amd64"]),
    ("6.12", &["linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64"]),
];

/// What `--kernel` says: one kernel or several.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Choice(pub(crate) Vec<Source>);

/// Where a kernel comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    Debian(&'static str),
    Image(PathBuf),
}

impl Choice {
    pub(crate) fn all() -> Self {
        Self(DEBIAN.map(|(name, _)| Source::Debian(name)).into())
    }

    pub(super) fn newest() -> Self {
        Self(Self::all().0.split_off(DEBIAN.len() - 1))
    }
}

impl FromStr for Choice {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let debian = DEBIAN.iter().find(|(name, _)| *name == text);
        Ok(match debian {
            Some((name, _)) => Self(vec![Source::Debian(name)]),
            None if text == "all" => Self::all(),
            None => Self(vec![Source::Image(text.into())]),
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Debian(name) => write!(f, "Linux {name}"),
            Self::Image(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A kernel that is here, ready to boot.
pub(super) struct Kernel {
    /// `6.12`
    pub(super) name: String,
    /// What `uname -r` says in the guest.
    pub(super) release: String,
    pub(super) image: PathBuf,
    /// A `/lib/modules/RELEASE` of its own, with its `modules.dep`.
    pub(super) modules: PathBuf,
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Linux {}", self.release)
    }
}

/// Finds a kernel; one of Debian lies below `cache`, where it is put when it is not there.
pub(super) fn find(source: &Source, modules: Option<&Path>, cache: &Path) -> Result<Kernel> {
    match source {
        Source::Image(image) => named(image, modules),
        Source::Debian(_) if modules.is_some() => {
            bail!("--modules belongs to a kernel that is named by its path (--kernel PATH)")
        }
        Source::Debian(name) => debian(name, cache),
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
    Ok(Kernel { name: short_name(&release), release, image: image.to_owned(), modules })
}

fn debian(name: &str, cache: &Path) -> Result<Kernel> {
    let root = cache.join(name);
    if !root.exists() {
        let package = debian_package(name)?;
        packages::unpack(&[&package], &root)?;
    }
    let boot = root.join("boot");
    let image = std::fs::read_dir(&boot)
        .with_context(|| format!("{} cannot be listed", boot.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.to_string_lossy().contains("/vmlinuz-"))
        .with_context(|| format!("no kernel in {}; remove the folder", boot.display()))?;
    let release = release(&image)?;
    if !root.join("lib/modules").join(&release).join("modules.dep").exists() {
        modules::index(&root, &release)?;
    }
    Ok(Kernel {
        name: name.to_owned(),
        image,
        modules: root.join("lib/modules").join(&release),
        release,
    })
}

fn debian_package(name: &str) -> Result<String> {
    let hint = format!(
        "Name a kernel that is here instead: --kernel PATH --modules DIR \
         (Linux {name}, its image and its /lib/modules/RELEASE)."
    );
    if !packages::available() {
        bail!("Debian's kernels are fetched with apt, which is not here. {hint}");
    }
    let (_, metas) = DEBIAN
        .iter()
        .find(|(known, _)| *known == name)
        .with_context(|| format!("no kernel is called {name}"))?;
    let prefix = format!("linux-image-{name}.");
    for meta in *metas {
        if let Some(package) = packages::dependency(meta, &prefix)? {
            return Ok(package);
        }
    }
    bail!("apt knows no Linux {name} here (asked for {}). {hint}", metas.join(" and "))
}

/// The release is written in the image itself: bytes 0x20e say where, counted from 0x200.
fn release(image: &Path) -> Result<String> {
    let bytes =
        std::fs::read(image).with_context(|| format!("{} cannot be read", image.display()))?;
    parse_release(&bytes).with_context(|| format!("{} is not a bzImage of x86_64", image.display()))
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

/// `6.12.117+deb12-cloud-amd64` is `6.12`.
fn short_name(release: &str) -> String {
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
    fn the_short_name_is_two_numbers() {
        assert_eq!(short_name("6.12.117+deb12-cloud-amd64"), "6.12");
        assert_eq!(short_name("7.0-rc1"), "7.0");
    }

    #[test]
    fn a_choice_is_a_known_name_or_a_path() {
        let image = Source::Image("./bzImage".into());
        assert_eq!("6.1".parse(), Ok(Choice(vec![Source::Debian("6.1")])));
        assert_eq!("all".parse(), Ok(Choice::all()));
        assert_eq!("./bzImage".parse(), Ok(Choice(vec![image])));
        assert_eq!(Choice::newest(), Choice(vec![Source::Debian("6.12")]));
    }
}
