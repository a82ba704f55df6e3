//! The differences between kernels, as facts of a release: the one table for the diagnosis, the fake
//! kernel, the tests on real kernels and the differential.
//!
//! Each fact was seen on kernels of Debian for x86-64: 5.10.262, 6.1.172 to 6.1.192, 6.12.101,
//! 6.12.117, 6.16 to 6.18, 7.2.6 and 7.3.4.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Major and minor, as 6 and 12.
type MajorMinor = (u32, u32);

/// The releases since which kernels behave in some way.
struct Since {
    /// The first series of mainline.
    series: MajorMinor,
    /// The earlier series that have the change as well, each from a patch level on.
    backports: &'static [(MajorMinor, u32)],
    /// The same for kernels of Debian whose release has a build instead of a patch level: 6.1.0-53.
    debian: &'static [(MajorMinor, u32)],
}

/// A build that no kernel reaches: the series never has the change.
const NEVER: u32 = u32::MAX;

/// Seen on Debian's kernels: build 52, of 6.1.180, takes all thresholds, and build 53, of 6.1.187,
/// does not; 6.12.101 does, and 6.12.104 does not.
const THRESHOLDS_OF_31_BITS: Since =
    Since { series: (7, 2), backports: &[((6, 1), 187), ((6, 12), 104)], debian: &[((6, 1), 53)] };

/// Seen on the kernels whose thresholds have 31 bits, and on no others.
const RECHECKED_THRESHOLDS: Since = THRESHOLDS_OF_31_BITS;

/// Debian's configuration of 6.1 leaves it out.
const TWOS: Since = Since { series: (5, 12), backports: &[], debian: &[((6, 1), NEVER)] };

/// In [`genl_family_rcv_msg`][genetlink.c].
///
/// [genetlink.c]: https://github.com/torvalds/linux/blob/v6.12/net/netlink/genetlink.c
const KIND_BEFORE_PERMISSION: Since = Since { series: (6, 2), backports: &[], debian: &[] };

/// In [`genl_header_check`][genetlink.c].
///
/// [genetlink.c]: https://github.com/torvalds/linux/blob/v6.12/net/netlink/genetlink.c
const CHECKED_HEADERS: Since = Since { series: (6, 1), backports: &[], debian: &[] };

/// Pieces of 640 bytes for small datagrams, in [`skbuff.c`][skbuff.c].
///
/// [skbuff.c]: https://github.com/torvalds/linux/blob/v6.12/net/core/skbuff.c
const SMALL_PIECES: Since = Since { series: (6, 3), backports: &[], debian: &[] };

/// The lowest address of a network is `x.y.z.0`.
const LOWEST_ADDRESS_IS_A_HOSTS: Since = Since { series: (5, 14), backports: &[], debian: &[] };

const RESIZED_TABLES: Since = Since { series: (7, 1), backports: &[], debian: &[] };

/// A kernel with which the fake one was compared; a preset of the facts that differ between
/// kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Series {
    /// Linux 5.10, as Debian's 5.10.0-46, which is 5.10.262.
    Linux5_10,
    /// Linux 6.1, as Debian's 6.1.0-56, which is 6.1.192.
    Linux6_1,
    /// Linux 6.12, as 6.12.117.
    Linux6_12,
    /// Linux 7.3, as 7.3.4.
    Linux7_3,
}

impl Series {
    /// All series, the oldest first.
    pub const ALL: &'static [Self] =
        &[Self::Linux5_10, Self::Linux6_1, Self::Linux6_12, Self::Linux7_3];

    /// The release that the preset imitates.
    pub fn release(self) -> Release {
        let (text, series, patch, build) = match self {
            Self::Linux5_10 => ("5.10.0-46-amd64", (5, 10), 0, Build::Debian(46)),
            Self::Linux6_1 => ("6.1.0-56-amd64", (6, 1), 0, Build::Debian(56)),
            Self::Linux6_12 => ("6.12.117", (6, 12), 117, Build::Mainline),
            Self::Linux7_3 => ("7.3.4", (7, 3), 4, Build::Mainline),
        };
        Release { text: text.to_owned(), series, patch, build }
    }
}

/// A kernel's release, as `uname -r` prints it, and the facts known of it.
///
/// The facts of a mainline release (`6.12.104`, with or without a distribution's suffix) follow
/// from its patch level, those of a Debian release (`6.1.0-56-amd64`) from its build. Other vendors
/// (`5.14.0-427.el9.x86_64`, `6.8.0-1015-azure`) backport changes without showing it in the
/// release. Such a release is taken to have the changes of mainline's series, and those backports
/// that the [nearest](Self::nearest) known kernel has; it says so when printed.
///
/// ```
/// # #[cfg(feature = "fake")]
/// # fn main() -> Result<(), ipvs_netlink::fake::UnknownRelease> {
/// use ipvs_netlink::fake::{Release, Series};
///
/// let release: Release = "6.1.0-48-cloud-amd64".parse()?;
/// assert_eq!(release.largest_threshold(), u32::MAX);
/// let release: Release = "5.14.0-427.13.1.el9_4.x86_64".parse()?;
/// assert_eq!(release.nearest(), Some(Series::Linux5_10));
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "fake"))]
/// # fn main() {}
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Release {
    text: String,
    series: MajorMinor,
    patch: u32,
    build: Build,
}

/// The builder of a kernel, which decides how its release is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Build {
    /// Mainline, or a builder that keeps mainline's patch levels.
    Mainline,
    /// Debian, with the number of the build.
    Debian(u32),
    /// A builder whose kernels keep the patch level 0.
    Vendor,
}

impl Release {
    /// The interval at which counters move, on every kernel that was examined.
    pub const COUNTER_TICK: Duration = Duration::from_secs(2);

    /// The release as `uname -r` prints it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The major and the minor number, as 6 and 12.
    pub fn series(&self) -> (u32, u32) {
        self.series
    }

    /// The preset that stands in for a vendor's kernel; `None` if the release itself is known.
    pub fn nearest(&self) -> Option<Series> {
        // The last series of each major number is 19, so all series can be numbered.
        let count = |(major, minor): MajorMinor| major.saturating_mul(20).saturating_add(minor);
        let distance =
            |version: &Series| count(version.release().series).abs_diff(count(self.series));
        let is_vendors = self.build == Build::Vendor;
        Series::ALL.iter().copied().filter(|_| is_vendors).min_by_key(distance)
    }

    /// The highest upper threshold that a destination may have: 2,147,483,647 since 6.1.187,
    /// 6.12.104 and 7.2, else any.
    pub fn largest_threshold(&self) -> u32 {
        if self.has(&THRESHOLDS_OF_31_BITS) { i32::MAX.cast_unsigned() } else { u32::MAX }
    }

    /// The largest threshold, where it is certain: a vendor's kernel may have the limit or not, unless
    /// its series has it.
    pub(crate) fn certain_largest_threshold(&self) -> Option<u32> {
        let is_certain = self.nearest().is_none() || self.series >= THRESHOLDS_OF_31_BITS.series;
        is_certain.then(|| self.largest_threshold())
    }

    /// Whether a destination with more connections than a new upper threshold is overloaded as soon
    /// as it has that threshold: since 6.1.187, 6.12.104 and 7.2. Before, it gets one more
    /// connection.
    pub fn rechecks_thresholds(&self) -> bool {
        self.has(&RECHECKED_THRESHOLDS)
    }

    /// Whether the kernel has the scheduler `twos`: since 5.12, but not in Debian's 6.1.
    pub fn has_twos(&self) -> bool {
        self.has(&TWOS)
    }

    /// Whether the kernel checks a caller's permission before the kind of the request: without
    /// permission, a dump for a command that does not list is `EPERM` before 6.2, and `EOPNOTSUPP`
    /// since.
    pub fn checks_permission_first(&self) -> bool {
        !self.has(&KIND_BEFORE_PERMISSION)
    }

    /// Whether the kernel checks the reserved bits of the header for commands that IPVS does not
    /// have: since 6.1.
    pub fn checks_headers(&self) -> bool {
        self.has(&CHECKED_HEADERS)
    }

    /// Whether the lowest address of a network (`127.0.0.0`) is a broadcast address, which no
    /// destination can have: before 5.14.
    pub fn has_lowest_broadcast(&self) -> bool {
        !self.has(&LOWEST_ADDRESS_IS_A_HOSTS)
    }

    /// Whether each network namespace has a connection table of its own, which the kernel resizes:
    /// since 7.1.
    pub fn resizes_connection_table(&self) -> bool {
        self.has(&RESIZED_TABLES)
    }

    /// The bytes that an acknowledgement takes of a socket's receive buffer on x86-64: 896 since
    /// 6.3, 768 before.
    pub fn acknowledgement_size(&self) -> usize {
        if self.has(&SMALL_PIECES) { 896 } else { 768 }
    }

    fn has(&self, since: &Since) -> bool {
        let (series, level) = match self.build {
            Build::Debian(build) => (since.debian, build),
            Build::Mainline => (since.backports, self.patch),
            // A vendor's kernel has the changes of its series, and the backports of the nearest
            // known kernel.
            Build::Vendor => {
                let is_brought_back = !since.backports.is_empty();
                let nearest = self.nearest().filter(|_| is_brought_back);
                return self.series >= since.series
                    || nearest.is_some_and(|version| version.release().has(since));
            }
        };
        match series.iter().find(|(series, _)| *series == self.series) {
            Some((_, first)) => level >= *first,
            None => self.series >= since.series,
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match self.nearest() {
            Some(version) => write!(f, " (a vendor's kernel, taken for {})", version.release()),
            None => Ok(()),
        }
    }
}

/// The error for a text that is not a kernel's release.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownRelease(String);

impl fmt::Display for UnknownRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a kernel's release as `uname -r` prints it", self.0)
    }
}

impl std::error::Error for UnknownRelease {}

/// Debian's names of architectures. Each of Debian's releases with a build ends with one.
const DEBIAN_ARCHITECTURES: [&str; 18] = [
    "686",
    "686-pae",
    "amd64",
    "arm64",
    "armmp",
    "armmp-lpae",
    "loongson-3",
    "marvell",
    "octeon",
    "parisc",
    "parisc64",
    "powerpc",
    "powerpc64",
    "powerpc64le",
    "riscv64",
    "rpi",
    "s390x",
    "sparc64",
];

impl FromStr for Release {
    type Err = UnknownRelease;

    fn from_str(text: &str) -> Result<Self, UnknownRelease> {
        let text = text.trim();
        let parsed = || {
            let (major, rest) = number(text)?;
            let (minor, rest) = number(rest.strip_prefix('.')?)?;
            let (patch, rest) = match rest.strip_prefix('.') {
                Some(rest) => number(rest)?,
                None => (0, rest),
            };
            if !is_suffix(rest) {
                return None;
            }
            let build = match debian_build(rest).filter(|_| patch == 0) {
                Some(build) => Build::Debian(build),
                None if patch > 0 || tells_level_0(rest) => Build::Mainline,
                None => Build::Vendor,
            };
            Some(Self { text: text.to_owned(), series: (major, minor), patch, build })
        };
        parsed().ok_or_else(|| UnknownRelease(text.to_owned()))
    }
}

/// The number that a text begins with, and the rest.
fn number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

/// Whether this text can follow the numbers of a release.
fn is_suffix(rest: &str) -> bool {
    let begins = match rest.strip_prefix('.') {
        Some(rest) => rest.starts_with(|c: char| c.is_ascii_digit()),
        None => rest.is_empty() || rest.starts_with(['-', '+', '_']),
    };
    begins && rest.chars().all(|c| c.is_ascii_graphic())
}

/// Whether the patch level is really 0, as the text after it tells: the first release of a mainline
/// series, its candidates, or Debian's builds of these (`6.12+deb13-cloud-amd64`).
fn tells_level_0(rest: &str) -> bool {
    let is_mainlines = matches!(rest, "" | "+" | "-dirty") || rest.starts_with("-rc");
    let rebuilt = rest.strip_prefix("+deb").and_then(number).map_or(rest, |(_, rest)| rest);
    is_mainlines || (flavour(rebuilt).is_some() && debian_build(rebuilt).is_none())
}

/// The text before the architecture in a release of Debian, without the first dash: `56-cloud-` in
/// `-56-cloud-amd64`.
fn flavour(rest: &str) -> Option<&str> {
    let before = DEBIAN_ARCHITECTURES.iter().filter_map(|name| rest.strip_suffix(name));
    before.filter(|before| before.ends_with('-')).find_map(|before| before.strip_prefix('-'))
}

/// The build in the text after Debian's patch level: 56 in `-56-cloud-amd64`, and 52 in
/// `-0.deb11.52-amd64`, which was built for an older Debian.
fn debian_build(rest: &str) -> Option<u32> {
    let flavour = flavour(rest)?;
    let flavour = match flavour.strip_prefix("0.deb") {
        Some(older) => number(older)?.1.strip_prefix('.')?,
        None => flavour,
    };
    let (build, rest) = number(flavour)?;
    rest.starts_with('-').then_some(build)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(text: &str) -> Release {
        text.parse().unwrap()
    }

    #[test]
    fn thresholds_are_limited_since_a_patch_level_or_a_build() {
        for (text, limited) in [
            ("5.10.262", false),
            ("5.10.0-46-cloud-amd64", false),
            ("6.1.180", false),
            ("6.1.187", true),
            ("6.1.0-52-amd64", false),
            ("6.1.0-53-rt-arm64", true),
            ("6.1.0-0.deb11.52-cloud-amd64", false),
            ("6.12.101+deb12-cloud-amd64", false),
            ("6.12.104", true),
            ("6.12.117+deb13-amd64\n", true),
            ("6.18.15+deb13-cloud-amd64", false),
            ("7.2.6+deb13-cloud-amd64", true),
            ("7.2-rc1", true),
            ("8.0", true),
            ("6.1.0-53-powerpc64", true),
            ("6.1.0-52-rpi", false),
            ("6.12.0+", false),
            ("6.12.0-dirty", false),
            // These are the first release of a mainline series, whoever built it.
            ("6.1.0", false),
            ("6.1-amd64", false),
            ("6.1.0+deb12-686-pae", false),
            ("6.12.0", false),
            ("6.12.0-rc6-amd64", false),
            ("6.12-cloud-amd64", false),
            ("6.12+deb13-cloud-amd64", false),
            ("6.12.0+deb13-686", false),
            ("7.2.0", true),
            ("7.2+deb14-arm64", true),
        ] {
            assert_eq!(release(text).largest_threshold() == u32::MAX >> 1, limited, "{text}");
            assert_eq!(release(text).nearest(), None, "{text}");
        }
    }

    #[test]
    fn the_presets_are_what_was_seen() {
        let facts = |version: Series| {
            let release = version.release();
            assert_eq!(release, release.text.parse().unwrap());
            (
                release.largest_threshold() == u32::MAX,
                release.has_twos(),
                release.checks_permission_first(),
                release.checks_headers(),
                release.has_lowest_broadcast(),
                release.resizes_connection_table(),
                release.acknowledgement_size(),
            )
        };
        let seen: Vec<_> = Series::ALL.iter().copied().map(facts).collect();
        let wanted = [
            (true, false, true, false, true, false, 768),
            (false, false, true, true, false, false, 768),
            (false, true, false, true, false, false, 896),
            (false, true, false, true, false, true, 896),
        ];
        assert_eq!(seen, wanted);
    }

    #[test]
    fn a_vendors_kernel_is_taken_for_the_nearest_and_says_so() {
        for (text, nearest) in [
            ("4.18.0-513.5.1.el8_9.x86_64", Series::Linux5_10),
            ("5.14.0-427.13.1.el9_4.x86_64", Series::Linux5_10),
            ("5.15.0-1053-aws", Series::Linux5_10),
            ("6.2.0-39-generic", Series::Linux6_1),
            ("6.8.0-1015-azure", Series::Linux6_12),
            ("6.12.0-55.9.1.el10_0.x86_64", Series::Linux6_12),
            ("7.0.0-5-generic", Series::Linux7_3),
        ] {
            let vendors = release(text);
            assert_eq!(vendors.nearest(), Some(nearest), "{text}");
            let threshold = nearest.release().largest_threshold();
            assert_eq!(vendors.largest_threshold(), threshold, "{text}");
        }
        assert_eq!(release("6.8.0-1015-azure").certain_largest_threshold(), None);
        let newer = release("7.2.0-5-generic");
        assert_eq!(newer.certain_largest_threshold(), Some(u32::MAX >> 1));
        assert_eq!(release("6.1.180").certain_largest_threshold(), Some(u32::MAX));
        assert_eq!(
            release("6.8.0-1015-azure").to_string(),
            "6.8.0-1015-azure (a vendor's kernel, taken for 6.12.117)"
        );
        // A vendor's kernel has the changes of mainline's series, even those that Debian leaves
        // out.
        let facts = |text: &str| {
            let it = release(text);
            let headers = it.checks_headers();
            (it.has_twos(), it.has_lowest_broadcast(), headers, it.checks_permission_first())
        };
        assert_eq!(facts("5.4.0-150-generic"), (false, true, false, true));
        assert_eq!(facts("5.14.0-427.13.1.el9_4.x86_64"), (true, false, false, true));
        assert_eq!(facts("6.1.0-1036-oem"), (true, false, true, true));
        assert_eq!(facts("6.2.0-39-generic"), (true, false, true, false));
        assert_eq!(release("6.2.0-39-generic").acknowledgement_size(), 768);
        assert_eq!(release("6.5.0-1024-azure").acknowledgement_size(), 896);
        // It has no changes of later series, however near they are.
        assert!(!release("7.0.0-5-generic").resizes_connection_table());
        assert!(release("7.1.0-5-generic").resizes_connection_table());
        // These builders keep mainline's patch levels.
        for text in ["6.6.87.2-microsoft-standard-WSL2", "6.1.82-99.168.amzn2023.x86_64"] {
            assert_eq!(release(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_release_is_refused() {
        for text in [
            "",
            "6",
            "six",
            "6.",
            ".1",
            "99999999999.1",
            "Linux 6.1",
            "6.1.",
            "6.1.x",
            "6.1garbage",
            "6.1.99999999999",
            "6.1.0garbage",
            "6.1.7.x",
            "6.1.0-1 generic",
            "6.1.0-1\nfoo",
        ] {
            assert_eq!(text.parse::<Release>(), Err(UnknownRelease(text.to_owned())), "{text}");
        }
    }
}
