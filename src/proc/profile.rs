//! A set of sysctls that belong together: applied in one call, and undone.

use std::borrow::Cow;
use std::fmt;

use super::Proc;
use super::error::{Attempt, Error};
use super::sysctl::{self, Sysctl, Value};
use crate::model::Invalid;

/// Sysctls and the values that they should have, for [`Proc::apply`].
///
/// ```no_run
/// use ipvs_netlink::proc::{Proc, Profile};
///
/// let proc = Proc::new();
/// let changes = proc.apply(&Profile::node_proxy())?;
/// println!("{changes}");
/// // When the program goes for good:
/// proc.undo(&changes)?;
/// # Ok::<(), ipvs_netlink::proc::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Profile {
    settings: Vec<Wanted>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    name: Cow<'static, str>,
    value: String,
    /// The first kernel that it is for.
    from: (u32, u32),
    /// The first later kernel that it is not for any more.
    before: (u32, u32),
}

impl Profile {
    /// Without any sysctl yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a proxy on each node of a cluster needs, as [kube-proxy sets it][proxier.go] in its IPVS
    /// mode:
    ///
    /// - `net.ipv4.vs.conntrack` 1,
    /// - `net.ipv4.vs.conn_reuse_mode` 0 from Linux 4.1 on and before 5.9, whose mode 1 delays
    ///   connections by a second where a client's port comes again,
    /// - `net.ipv4.vs.expire_nodest_conn` 1,
    /// - `net.ipv4.vs.expire_quiescent_template` 1,
    /// - `net.ipv4.ip_forward` 1.
    ///
    /// [proxier.go]: https://github.com/kubernetes/kubernetes/blob/v1.31.0/pkg/proxy/ipvs/proxier.go
    pub fn node_proxy() -> Self {
        Self::new()
            .with_named(sysctl::CONNTRACK.name(), "1")
            .for_kernels(sysctl::CONN_REUSE_MODE.name(), "0", (4, 1), (5, 9))
            .with_named(sysctl::EXPIRE_NODEST_CONN.name(), "1")
            .with_named(sysctl::EXPIRE_QUIESCENT_TEMPLATE.name(), "1")
            .with_named("net.ipv4.ip_forward", "1")
    }

    /// The host answers ARP for no virtual address of its dummy interfaces, as kube-proxy sets it with
    /// `--ipvs-strict-arp`: `net.ipv4.conf.all.arp_ignore` 1 and `net.ipv4.conf.all.arp_announce` 2.
    #[must_use]
    pub fn strict_arp(self) -> Self {
        self.with_named("net.ipv4.conf.all.arp_ignore", "1")
            .with_named("net.ipv4.conf.all.arp_announce", "2")
    }

    /// Wants a value of a sysctl.
    ///
    /// # Errors
    /// When the value is out of range.
    #[allow(clippy::needless_pass_by_value)] // Flags and numbers read better so.
    pub fn with<T: Value>(self, sysctl: &Sysctl<T>, value: T) -> Result<Self, Invalid> {
        let value = sysctl.print(&value)?;
        Ok(self.with_named(sysctl.name(), value))
    }

    /// Wants a value of any sysctl, by its name as `sysctl` prints it.
    #[must_use]
    pub fn with_named(self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.for_kernels(name, value, (0, 0), (u32::MAX, 0))
    }

    fn for_kernels(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
        from: (u32, u32),
        before: (u32, u32),
    ) -> Self {
        self.settings.push(Wanted { name: name.into(), value: value.into(), from, before });
        self
    }
}

/// Which sysctls were changed: what [`Proc::apply`] returns and [`Proc::undo`] takes.
///
/// A program that may be killed before it undoes them keeps them in a file (feature `serde`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct SysctlChanges {
    changes: Vec<SysctlChange>,
}

/// A sysctl that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct SysctlChange {
    /// Its name: `net.ipv4.vs.conntrack`.
    pub name: String,
    /// The value that it had.
    pub before: String,
    /// The value that it has been given, as the kernel prints it.
    pub after: String,
}

impl SysctlChanges {
    /// Whether everything was as wanted already.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes, in the order in which they were made.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &SysctlChange> {
        self.changes.iter()
    }
}

/// A line for each change: `net.ipv4.vs.conntrack: 0 -> 1`.
impl fmt::Display for SysctlChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, SysctlChange { name, before, after }) in self.changes.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{name}: {before} -> {after}")?;
        }
        Ok(())
    }
}

impl Proc {
    /// Sets the sysctls of a profile that have other values, and returns which ones these were.
    ///
    /// It is all or nothing: where one cannot be set, those before it are set back. Applying the same
    /// profile again changes nothing and returns nothing, so the first answer is the one to keep.
    ///
    /// # Errors
    /// That of the first sysctl that could not be read or set, or that the kernel did not keep.
    pub fn apply(&self, profile: &Profile) -> Result<SysctlChanges, Error> {
        let kernel = series(&self.read("sys/kernel/osrelease")?);
        let mut made = SysctlChanges::default();
        for wanted in &profile.settings {
            if !(wanted.from..wanted.before).contains(&kernel) {
                continue;
            }
            match self.change(&wanted.name, &wanted.value) {
                Ok(change) => made.changes.extend(change),
                Err(error) => {
                    // The error that stopped the profile is the one to tell.
                    let _ = self.undo(&made);
                    return Err(error);
                }
            }
        }
        Ok(made)
    }

    /// Sets back what was changed, in the opposite order, and returns which sysctls these were. One
    /// that somebody has given another value meanwhile is left as it is.
    ///
    /// # Errors
    /// That of the first sysctl that could not be read or set; the others are set back all the same.
    pub fn undo(&self, changes: &SysctlChanges) -> Result<SysctlChanges, Error> {
        let mut made = SysctlChanges::default();
        let mut failed = None;
        for SysctlChange { name, before, after } in changes.changes.iter().rev() {
            let set_back = self
                .sysctl_named(name)
                .and_then(|now| if now == *after { self.change(name, before) } else { Ok(None) });
            match set_back {
                Ok(change) => made.changes.extend(change),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(made), Err)
    }

    /// Gives a sysctl a value unless it has it.
    fn change(&self, name: &str, wanted: &str) -> Result<Option<SysctlChange>, Error> {
        let before = self.sysctl_named(name)?;
        if is_same(&before, wanted) {
            return Ok(None);
        }
        self.set_sysctl_named(name, wanted)?;
        let after = self.sysctl_named(name)?;
        if after == before {
            let attempt = Attempt::Set(name.to_owned().into(), wanted.to_owned());
            return Err(Error::not_kept(attempt, after));
        }
        Ok(Some(SysctlChange { name: name.to_owned(), before, after }))
    }
}

/// Major and minor number of a kernel's release; zeroes where it does not begin with them.
pub(crate) fn series(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next().and_then(|number| number.parse().ok()).unwrap_or(0);
    (number(), number())
}

/// Whether two texts of a sysctl have the same words.
fn is_same(one: &str, other: &str) -> bool {
    one.split_ascii_whitespace().eq(other.split_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{self, Read};
    use std::sync::Mutex;

    use super::*;
    use crate::proc::{Files, files::ModuleIndex};

    /// A kernel with sysctls by their paths, some of which keep their values.
    struct Stub {
        release: &'static str,
        values: Mutex<BTreeMap<String, String>>,
        keeps: &'static str,
    }

    impl Stub {
        fn of(release: &'static str, keeps: &'static str) -> Proc {
            let names = ["conntrack", "conn_reuse_mode", "expire_nodest_conn", "from_the_future"];
            let values = names.map(|name| (format!("sys/net/ipv4/vs/{name}"), "1".to_owned()));
            Proc::of_files(Self { release, values: Mutex::new(values.into()), keeps })
        }
    }

    impl Files for Stub {
        fn open(&self, path: &str) -> io::Result<Box<dyn Read + Send>> {
            let text = match path {
                "sys/kernel/osrelease" => self.release.to_owned(),
                _ => self.values.lock().unwrap().get(path).ok_or(io::ErrorKind::NotFound)?.clone(),
            };
            Ok(Box::new(io::Cursor::new(format!("{text}\n"))))
        }

        fn write(&self, path: &str, text: &str) -> io::Result<()> {
            if !path.ends_with(self.keeps) {
                self.values.lock().unwrap().insert(path.to_owned(), text.trim().to_owned());
            }
            Ok(())
        }

        fn list(&self, folder: &str) -> io::Result<Vec<String>> {
            let values = self.values.lock().unwrap();
            let names = values.keys().filter_map(|path| path.strip_prefix(folder));
            Ok(names.map(|name| name.trim_start_matches('/').to_owned()).collect())
        }

        fn modules(&self, _: &str) -> Option<ModuleIndex> {
            None
        }
    }

    #[test]
    fn a_setting_is_for_the_kernels_that_need_it() {
        for (release, is_set) in [
            ("4.0.9", false),
            ("4.1.0", true),
            ("4.19.0-27-amd64", true),
            ("5.8.18", true),
            ("5.9.0-rc1", false),
            ("6.12.118+deb13-amd64", false),
        ] {
            let mut profile = Profile::node_proxy();
            profile.settings.retain(|wanted| wanted.name == sysctl::CONN_REUSE_MODE.name());
            let changes = Stub::of(release, "none").apply(&profile).unwrap();
            assert_eq!(!changes.is_empty(), is_set, "{release}");
        }
    }

    #[test]
    fn a_value_that_the_kernel_does_not_keep_is_an_error() {
        let proc = Stub::of("6.12", "conntrack");
        let profile = Profile::new()
            .with(&sysctl::EXPIRE_NODEST_CONN, false)
            .and_then(|profile| profile.with(&sysctl::CONNTRACK, false))
            .unwrap();
        let error = proc.apply(&profile).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot set the sysctl net.ipv4.vs.conntrack to \"0\": the kernel took it and keeps \"1\""
        );
        assert!(!error.is_invalid());
        assert!(proc.sysctl(&sysctl::EXPIRE_NODEST_CONN).unwrap(), "it was set back");
    }

    #[test]
    fn a_newer_kernels_sysctl_is_listed_and_set_by_its_name() {
        let proc = Stub::of("9.9", "none");
        let name = "net.ipv4.vs.from_the_future";
        assert!(proc.sysctls().unwrap().contains(&(name.to_owned(), "1".to_owned())));
        let changes = proc.apply(&Profile::new().with_named(name, "7 8")).unwrap();
        assert_eq!(changes.to_string(), "net.ipv4.vs.from_the_future: 1 -> 7 8");
    }

    #[test]
    fn releases_begin_with_two_numbers() {
        for (release, wanted) in
            [("6.12.118+deb13", (6, 12)), ("7.2-rc1", (7, 2)), ("10", (10, 0)), ("x", (0, 0))]
        {
            assert_eq!(series(release), wanted, "{release}");
        }
    }
}
