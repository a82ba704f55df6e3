//! The kernels of Debian on which the crate is tested, by the role that each plays, and the suites that serve each.

use std::cmp::Ordering;
use std::fmt;
use std::process::Command;

use anyhow::Result;

use super::lists::{Lists, Package};

/// A kernel on which the crate is tested, whichever patch level it has now.
#[derive(Debug, PartialEq)]
pub(crate) struct Role {
    /// Its name for `--kernel`: a series of kernels, or a name for a kernel that moves from series to series.
    pub(crate) name: &'static str,
    /// The suites that may serve it, and in each the package that depends on the current kernel.
    pub(super) suites: &'static [(&'static str, &'static str)],
}

/// The package that depends on a suite's current kernel.
const CURRENT: &str = "linux-image-cloud-amd64";

pub(crate) const ROLES: [Role; 5] = [
    Role { name: "5.10", suites: &[("bullseye", CURRENT), ("bullseye-security", CURRENT)] },
    Role { name: "6.1", suites: &[("bookworm", CURRENT), ("bookworm-security", CURRENT)] },
    Role {
        name: "6.12",
        suites: &[
            ("trixie", CURRENT),
            ("trixie-security", CURRENT),
            ("bookworm-security", "linux-image-6.12-cloud-amd64"),
        ],
    },
    Role { name: "backports", suites: &[("trixie-backports", CURRENT)] },
    Role { name: "newest", suites: &[("sid", CURRENT)] },
];

/// A kernel as a suite serves it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Served {
    pub(super) suite: &'static str,
    /// `uname -r`
    pub(super) release: String,
    /// The package's version.
    pub(super) version: String,
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.release, self.version)
    }
}

impl Role {
    pub(super) fn by_name(name: &str) -> Option<&'static Self> {
        ROLES.iter().find(|role| role.name == name)
    }

    /// The names of its suites.
    pub(super) fn suites(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.suites.iter().map(|(suite, _)| *suite)
    }

    /// The kernel that a package stands for, if it is one of this role.
    pub(super) fn served(&self, suite: &'static str, package: &Package) -> Option<Served> {
        let release =
            package.depends.iter().find_map(|depends| depends.strip_prefix("linux-image-"));
        let release =
            release.filter(|release| release.starts_with(|c: char| c.is_ascii_digit()))?;
        let is_series = self.name.starts_with(|c: char| c.is_ascii_digit());
        if is_series && super::kernel::series(release) != self.name {
            return None;
        }
        Some(Served { suite, release: release.into(), version: package.version.clone() })
    }
}

/// The newest kernel by Debian's rules for versions; of equal ones the first.
pub(super) fn newest(served: impl IntoIterator<Item = Served>) -> Option<Served> {
    served.into_iter().reduce(|newest, next| {
        if compare(&next.version, &newest.version) == Ordering::Greater { next } else { newest }
    })
}

fn compare(one: &str, other: &str) -> Ordering {
    let is = |relation| {
        let status =
            Command::new("dpkg").args(["--compare-versions", one, relation, other]).status();
        status.is_ok_and(|status| status.success())
    };
    if is("gt") {
        Ordering::Greater
    } else if is("eq") {
        Ordering::Equal
    } else {
        Ordering::Less
    }
}

/// The packages that contain a kernel: its image and, since Debian's 7.2, the packages on which the image's package depends.
pub(super) fn packages_of(release: &str, lists: &Lists) -> Result<Vec<String>> {
    let image = format!("linux-image-{release}");
    let packages = lists.packages(&[&image])?;
    Ok(parts(release, packages.iter().find(|package| package.name == image)))
}

fn parts(release: &str, image: Option<&Package>) -> Vec<String> {
    let ending = format!("-{release}");
    let is_part = |name: &&String| name.starts_with("linux-") && name.ends_with(&ending);
    let of = |image: &Package| image.depends.iter().filter(is_part).cloned().collect::<Vec<_>>();
    std::iter::once(format!("linux-image-{release}"))
        .chain(image.map(of).into_iter().flatten())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str, depends: &[&str]) -> Package {
        let depends = depends.iter().map(ToString::to_string).collect();
        Package { name: name.into(), version: version.into(), depends }
    }

    fn served(suite: &'static str, release: &str, version: &str) -> Served {
        Served { suite, release: release.into(), version: version.into() }
    }

    #[test]
    fn a_role_by_series_takes_nothing_else() {
        let old = package(CURRENT, "5.10.262-1", &["linux-image-5.10.0-46-cloud-amd64"]);
        let new = package(
            CURRENT,
            "7.3.4-1~bpo13+1",
            &["linux-base-cloud-amd64", "linux-image-7.3.4+deb13-cloud-amd64"],
        );
        let role = |name| Role::by_name(name).expect("a role");
        let expected = served("bullseye", "5.10.0-46-cloud-amd64", "5.10.262-1");
        assert_eq!(role("5.10").served("bullseye", &old), Some(expected));
        assert_eq!(role("6.1").served("bullseye", &old), None);
        let expected = served("sid", "7.3.4+deb13-cloud-amd64", "7.3.4-1~bpo13+1");
        assert_eq!(role("backports").served("sid", &new), Some(expected));
        // 6.12 does not count as 6.1.
        let middle = package(CURRENT, "6.12.118-1", &["linux-image-6.12.118+deb13-cloud-amd64"]);
        assert_eq!(role("6.1").served("trixie", &middle), None);
    }

    #[test]
    fn the_newest_counts_wherever_it_is_served() {
        if crate::command::which("dpkg").is_none() {
            println!("NOT RUN: the rules are dpkg's, which is not here");
            return;
        }
        let main = served("trixie", "6.12.99+deb13-cloud-amd64", "6.12.99-1");
        let security = served("trixie-security", "6.12.118+deb13-cloud-amd64", "6.12.118-1");
        let rebuilt =
            served("bookworm-security", "6.12.118+deb12-cloud-amd64", "6.12.118-1~deb12u1");
        assert_eq!(newest([main.clone(), security.clone(), rebuilt]), Some(security));
        let same = served("other", "x", "6.12.99-1");
        assert_eq!(newest([main.clone(), same]), Some(main));
        assert_eq!(newest([]), None);
    }

    #[test]
    fn a_kernel_is_one_package_or_several() {
        let release = "5.10.0-46-cloud-amd64";
        let image =
            package("linux-image-5.10.0-46-cloud-amd64", "5.10.262-1", &["kmod", "linux-base"]);
        assert_eq!(parts(release, Some(&image)), ["linux-image-5.10.0-46-cloud-amd64"]);
        let release = "7.3.4+deb13-cloud-amd64";
        let depends = [
            "dracut",
            "linux-base-7.3.4+deb13-cloud-amd64",
            "linux-binary-7.3.4+deb13-cloud-amd64",
            "linux-modules-7.3.4+deb13-cloud-amd64",
        ];
        let image = package("linux-image-7.3.4+deb13-cloud-amd64", "7.3.4-1~bpo13+1", &depends);
        let expected = ["image", "base", "binary", "modules"];
        let expected = expected.map(|part| format!("linux-{part}-7.3.4+deb13-cloud-amd64"));
        assert_eq!(parts(release, Some(&image)), expected);
    }
}
