//! A set of sysctls that belong together: applied in one call, and undone.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;

use super::Proc;
use super::changes::{SysctlChange, SysctlChanges};
use super::error::{Attempt, Error};
use super::spelling;
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
    /// The first kernel that needs the value.
    from: (u32, u32),
    /// The first later kernel that does not need the value any more.
    before: (u32, u32),
}

impl Profile {
    /// A profile without sysctls.
    pub fn new() -> Self {
        Self::default()
    }

    /// The sysctls that a proxy on each node of a cluster needs, as [kube-proxy sets
    /// them][proxier.go] in its IPVS mode:
    ///
    /// - `net.ipv4.vs.conntrack` 1,
    /// - `net.ipv4.vs.conn_reuse_mode` 0 from Linux 4.1 on and before 5.9, where mode 1 delays a
    ///   connection by a second if the client uses a port again,
    /// - `net.ipv4.vs.expire_nodest_conn` 1,
    /// - `net.ipv4.vs.expire_quiescent_template` 1,
    /// - `net.ipv4.ip_forward` 1.
    ///
    /// `net.ipv6.conf.all.forwarding` is not among them, as kube-proxy does not set it either: 1 can
    /// cost the host its IPv6 routes, see [`with_named`](Self::with_named). Where pods have IPv6,
    /// the operator or the pod network sets it.
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

    /// Has the host answer ARP for no virtual address of its dummy interfaces, as kube-proxy does
    /// with `--ipvs-strict-arp`: `net.ipv4.conf.all.arp_ignore` 1 and
    /// `net.ipv4.conf.all.arp_announce` 2.
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

    /// Wants a value of any sysctl, by its name as `sysctl` prints it. The value replaces the one
    /// that the profile has for the same sysctl.
    ///
    /// `net.ipv6.conf.all.forwarding` 1 removes, for good, the IPv6 routes that came by router
    /// advertisement, unless `accept_ra` of their interfaces is 2: want this value first.
    ///
    /// `net.ipv6.conf.all.disable_ipv6` 1 removes the IPv6 addresses of all interfaces, and their
    /// routes. Setting it back to 0 brings back only the addresses that the kernel makes by itself:
    /// link-local ones, and those that routers advertise. All other addresses have to be given to
    /// their interfaces again.
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

    /// The values that are for a kernel. Of two values for a sysctl the later one counts.
    fn for_kernel(&self, kernel: (u32, u32)) -> Vec<&Wanted> {
        let is_for = |wanted: &&Wanted| (wanted.from..wanted.before).contains(&kernel);
        let wanted: Vec<_> = self.settings.iter().filter(is_for).collect();
        let is_last = |(index, it): &(usize, &Wanted)| {
            wanted[index + 1..].iter().all(|later| later.name != it.name)
        };
        wanted.iter().copied().enumerate().filter(is_last).map(|(_, it)| it).collect()
    }
}

impl Proc {
    /// Sets the sysctls of a profile that have other values, and returns the changes.
    ///
    /// Either all of them are set or none: if one cannot be set, those before it are set back.
    /// Applying the same profile again changes nothing and returns nothing: keep the first answer.
    ///
    /// If the kernel sets one of these sysctls along with another, each has its wanted value in the
    /// end. Nothing is set if an interface has a name that is not UTF-8, since the changes of its
    /// sysctls could not be recorded. Values are compared as the kernel reads them: `0,1` is `0-1`,
    /// and a [`DefenseMode`](sysctl::DefenseMode) that the kernel has moved from 1 to 2 still
    /// counts as 1.
    ///
    /// # Errors
    /// The error of the first sysctl that could not be read or set, or whose value the kernel did
    /// not keep, as with two values that contradict each other. The error has the changes that
    /// could then not be set back: [`Error::not_set_back`].
    pub fn apply(&self, profile: &Profile) -> Result<SysctlChanges, Error> {
        let kernel = series(&self.read("sys/kernel/osrelease")?);
        let wanted = profile.for_kernel(kernel);
        let mut made = SysctlChanges::default();
        match self.apply_all(&wanted, &mut made) {
            Ok(()) => Ok(made),
            // The error that stopped the profile is the one to tell.
            Err(error) => Err(match self.undo(&made) {
                Ok(_) => error,
                Err(undoing) => error.and_not_undone(undoing),
            }),
        }
    }

    /// Sets all values in order, twice: the second time repairs those that a later one has changed.
    fn apply_all(&self, wanted: &[&Wanted], made: &mut SysctlChanges) -> Result<(), Error> {
        for Wanted { name, value, .. } in [wanted, wanted].concat() {
            made.changes.extend(self.change(name, value)?);
        }
        for Wanted { name, value, .. } in wanted {
            let kept = self.sysctl_named(name)?;
            if !spelling::is_held(name, &kept, value) {
                let attempt = Attempt::Set(name.clone(), value.clone());
                return Err(Error::not_kept(attempt, kept));
            }
        }
        Ok(())
    }

    /// Sets the changed sysctls back, in the opposite order, and returns the changes that this
    /// made. A sysctl that somebody has given another value meanwhile is left as it is. The same
    /// holds for the sysctls that the kernel sets along with one, such as the forwarding of each
    /// interface; an interface that came meanwhile is set back as `default` is.
    ///
    /// `net.ipv6.conf.all.disable_ipv6` is not set back to 1 if an interface has IPv6 that had it
    /// before, since the kernel would remove the interface's addresses. The other interfaces are
    /// then set back one by one.
    ///
    /// # Errors
    /// The error of the first sysctl that could not be read or set; the others are set back all the
    /// same. The error has the changes that were not set back: [`Error::not_set_back`].
    pub fn undo(&self, changes: &SysctlChanges) -> Result<SysctlChanges, Error> {
        let mut made = SysctlChanges::default();
        let (mut failed, mut left) = (None, Vec::new());
        for change in changes.changes.iter().rev() {
            match self.set_back(change) {
                Ok(changes) => made.changes.extend(changes),
                Err(error) => {
                    match error.not_set_back() {
                        Some(along) => left.extend(along.changes.iter().rev().cloned()),
                        None => left.push(change.clone()),
                    }
                    failed = failed.or(Some(error));
                }
            }
        }
        left.reverse();
        match failed {
            None => Ok(made),
            Some(error) => Err(error.leaving(SysctlChanges { changes: left })),
        }
    }

    /// Sets back a sysctl that still has the value that it was given, with the sysctls that the
    /// kernel sets along with it.
    fn set_back(&self, change: &SysctlChange) -> Result<Vec<SysctlChange>, Error> {
        let SysctlChange { name, before, after, .. } = change;
        if !spelling::is_held(name, &self.sysctl_named(name)?, after) {
            return Ok(Vec::new());
        }
        let along = Along::of(name);
        let recorded: BTreeMap<_, _> =
            change.along.iter().map(|change| (change.name.as_str(), change)).collect();
        let attempt = |error| Error::io(Attempt::Set(name.clone().into(), before.clone()), error);
        let now = self.values_along(along.as_ref()).map_err(attempt)?;
        let wanted: Vec<_> = now
            .iter()
            .map(|(name, now)| {
                let value = along
                    .as_ref()
                    .and_then(|along| along.recorded(&recorded, name))
                    .filter(|recorded| spelling::is_held(name, now, &recorded.after))
                    .map_or(now, |recorded| &recorded.before);
                (name.clone(), value.clone())
            })
            .collect();
        let keeps_ipv6 = wanted.iter().any(|(name, value)| {
            name != "net.ipv6.conf.default.disable_ipv6" && !sysctl::is_on(value)
        });
        if name == DISABLE_IPV6 && sysctl::is_on(before) && keeps_ipv6 {
            return self.set_along(&wanted);
        }
        let made = self.change(name, before)?;
        self.set_along(&wanted)?;
        Ok(made.map(|made| SysctlChange { along: self.record(now), ..made }).into_iter().collect())
    }

    /// Sets the sysctls that the kernel sets along with another one, as many as can be set.
    fn set_along(&self, wanted: &[(String, String)]) -> Result<Vec<SysctlChange>, Error> {
        let mut made = Vec::new();
        let (mut failed, mut left) = (None, Vec::new());
        for (name, value) in wanted {
            match self.change(name, value) {
                Ok(change) => made.extend(change),
                // The interface may be gone by now.
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    if let Ok(now) = self.sysctl_named(name) {
                        left.push(SysctlChange::new(name, value.clone(), now));
                    }
                    failed = failed.or(Some(error));
                }
            }
        }
        match failed {
            None => Ok(made),
            Some(error) => Err(error.leaving(SysctlChanges { changes: left })),
        }
    }

    /// The sysctls that the kernel sets along with one, and their values.
    fn values_along(&self, along: Option<&Along<'_>>) -> io::Result<Vec<(String, String)>> {
        let Some(along) = along else { return Ok(Vec::new()) };
        let folder = format!("sys/{}", along.folder.replace('.', "/"));
        let interfaces = match self.files().list(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            interfaces => interfaces?,
        };
        let interfaces: Vec<_> = interfaces.into_iter().filter(|name| name != "all").collect();
        let of_setting =
            |setting| interfaces.iter().map(move |name| along.of_interface(name, setting));
        let settings = along.settings.iter().copied();
        let names = settings.flat_map(of_setting).chain(along.also.map(str::to_owned));
        Ok(names
            .filter_map(|name| self.sysctl_named(&name).ok().map(|value| (name, value)))
            .collect())
    }

    /// The changes of sysctls that had these values before; empty if all kept them.
    fn record(&self, before: Vec<(String, String)>) -> Vec<SysctlChange> {
        let record = |(name, before): (String, String)| {
            let after = self.sysctl_named(&name).ok()?;
            Some(SysctlChange::new(&name, before, after))
        };
        let recorded: Vec<_> = before.into_iter().filter_map(record).collect();
        let is_changed = recorded.iter().any(|change| change.before != change.after);
        if is_changed { recorded } else { Vec::new() }
    }

    /// Sets a sysctl to a value unless it already has the value.
    fn change(&self, name: &str, wanted: &str) -> Result<Option<SysctlChange>, Error> {
        let before = self.sysctl_named(name)?;
        if spelling::is_held(name, &before, wanted) {
            return Ok(None);
        }
        let attempt = || Attempt::Set(name.to_owned().into(), wanted.to_owned());
        let along = self
            .values_along(Along::of(name).as_ref())
            .map_err(|error| Error::io(attempt(), error))?;
        self.set_sysctl_named(name, wanted)?;
        let mut change = SysctlChange::new(name, before, wanted.to_owned());
        let error = match self.sysctl_named(name) {
            Ok(after) => {
                change.after = after;
                change.along = self.record(along);
                if spelling::is_held(name, &change.after, wanted) {
                    return Ok(Some(change));
                }
                // The kernel may round or cut the value.
                Error::not_kept(attempt(), change.after.clone())
            }
            Err(error) => {
                // The present value is not known.
                return Err(match self.set_sysctl_named(name, &change.before) {
                    Ok(()) => error,
                    Err(undoing) => {
                        let left = SysctlChanges { changes: vec![change] };
                        error.and_not_undone(undoing.leaving(left))
                    }
                });
            }
        };
        Err(match self.undo(&SysctlChanges { changes: vec![change] }) {
            Ok(_) => error,
            Err(undoing) => error.and_not_undone(undoing),
        })
    }
}

const DISABLE_IPV6: &str = "net.ipv6.conf.all.disable_ipv6";

/// The sysctls that the kernel may set along with one.
struct Along<'a> {
    /// `net.ipv4.conf`.
    folder: &'static str,
    /// The settings of each interface: `forwarding`.
    settings: Vec<&'a str>,
    also: Option<&'static str>,
}

impl<'a> Along<'a> {
    fn of(name: &'a str) -> Option<Self> {
        let redirects = Some("net.ipv4.conf.all.accept_redirects");
        if name == "net.ipv4.ip_forward" {
            let settings = vec!["forwarding"];
            return Some(Self { folder: "net.ipv4.conf", settings, also: redirects });
        }
        ["net.ipv4.conf", "net.ipv6.conf"].into_iter().find_map(|folder| {
            let setting = name.strip_prefix(folder)?.strip_prefix(".all.")?;
            let also = redirects.filter(|_| name == "net.ipv4.conf.all.forwarding");
            // Since 6.17 an interface can forward IPv6 though the host does not, until the host's
            // forwarding is turned off.
            let forced = (name == "net.ipv6.conf.all.forwarding").then_some("force_forwarding");
            let settings = [setting].into_iter().chain(forced).collect();
            Some(Self { folder, settings, also })
        })
    }

    /// A sysctl of an interface. By sysctl's own rule, a dot in a name is written as a slash.
    fn of_interface(&self, interface: &str, setting: &str) -> String {
        format!("{}.{}.{setting}", self.folder, interface.replace('.', "/"))
    }

    /// The recorded change of a sysctl, of those by name that the kernel set along. An interface that
    /// did not exist then has got the value for new interfaces.
    fn recorded<'b>(
        &self,
        changes: &BTreeMap<&str, &'b SysctlChange>,
        name: &str,
    ) -> Option<&'b SysctlChange> {
        let setting = name.rsplit('.').next().unwrap_or(name);
        let of_new = || changes.get(&*self.of_interface("default", setting));
        changes.get(name).or_else(of_new).copied()
    }
}

/// Major and minor number of a kernel's release; zeroes if the release does not begin with them.
pub(crate) fn series(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next().and_then(|number| number.parse().ok()).unwrap_or(0);
    (number(), number())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::Mutex;

    use super::*;
    use crate::proc::{Files, files::ModuleIndex};

    /// A kernel with sysctls at their paths, some of which keep their values.
    struct Stub {
        release: &'static str,
        values: Mutex<BTreeMap<String, String>>,
        keeps: &'static str,
        /// How many writes succeed.
        writes: usize,
        /// The path of a value that cannot be read.
        unread_at: &'static str,
        written: Mutex<usize>,
    }

    impl Stub {
        fn of(release: &'static str, keeps: &'static str) -> Proc {
            Proc::of_files(Self::new(release, keeps))
        }

        fn new(release: &'static str, keeps: &'static str) -> Self {
            let names = ["conntrack", "conn_reuse_mode", "expire_nodest_conn", "from_the_future"];
            let values = names.map(|name| (format!("sys/net/ipv4/vs/{name}"), "1".to_owned()));
            let values = Mutex::new(values.into());
            let (writes, written) = (usize::MAX, Mutex::new(0));
            Self { release, values, keeps, writes, unread_at: "nothing", written }
        }
    }

    impl Files for Stub {
        fn open(&self, path: &str) -> io::Result<Box<dyn Read + Send>> {
            let text = match path {
                "sys/kernel/osrelease" => self.release.to_owned(),
                _ => self.values.lock().unwrap().get(path).ok_or(io::ErrorKind::NotFound)?.clone(),
            };
            if text == self.unread_at {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            Ok(Box::new(io::Cursor::new(format!("{text}\n"))))
        }

        fn write(&self, path: &str, text: &str) -> io::Result<()> {
            let mut written = self.written.lock().unwrap();
            if *written == self.writes {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            *written += 1;
            if !path.ends_with(self.keeps) {
                self.values.lock().unwrap().insert(path.to_owned(), text.trim().to_owned());
            }
            Ok(())
        }

        fn list(&self, folder: &str) -> io::Result<Vec<String>> {
            if folder == "sys/net/ipv6/conf" {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "\"\\xFF\" is no text"));
            }
            let values = self.values.lock().unwrap();
            let names = values.keys().filter_map(|path| path.strip_prefix(folder));
            Ok(names.map(|name| name.trim_start_matches('/').to_owned()).collect())
        }

        fn link(&self, _: &str) -> io::Result<String> {
            Err(io::ErrorKind::NotFound.into())
        }

        fn modules(&self, _: &str) -> Option<ModuleIndex> {
            None
        }

        fn is_program(&self, _: &str) -> Option<bool> {
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

    /// Once: no error told which sysctls could not be set back.
    #[test]
    fn an_error_tells_what_it_could_not_set_back() {
        // Two writes succeed, and none after them.
        let once = Stub { writes: 2, ..Stub::new("6.12", "conntrack") };
        let proc = Proc::of_files(once);
        let profile = Profile::new()
            .with(&sysctl::EXPIRE_NODEST_CONN, false)
            .and_then(|profile| profile.with(&sysctl::CONNTRACK, false))
            .unwrap();
        let error = proc.apply(&profile).unwrap_err();
        let left = error.not_set_back().unwrap();
        assert_eq!(left.to_string(), "net.ipv4.vs.expire_nodest_conn: 1 -> 0");
        let text = error.to_string();
        assert!(
            text.starts_with("cannot set the sysctl net.ipv4.vs.conntrack to \"0\": the kernel took it and keeps \"1\"; not set back: net.ipv4.vs.expire_nodest_conn is 0 and was 1 (cannot set the sysctl net.ipv4.vs.expire_nodest_conn to \"1\": permission denied"),
            "{text}"
        );
        // The error of the undoing tells it, too.
        let error = proc.undo(left).unwrap_err();
        assert!(error.is_permission_denied());
        assert_eq!(error.not_set_back(), Some(left));
        assert!(
            error
                .to_string()
                .ends_with("; not set back: net.ipv4.vs.expire_nodest_conn is 0 and was 1"),
            "{error}"
        );
    }

    /// Once: such an interface was passed over in silence, and kept the values that the kernel had
    /// set along.
    #[test]
    fn nothing_is_set_along_with_what_cannot_be_named() {
        let proc = Stub::of("6.12", "none");
        let name = "net.ipv6.conf.all.forwarding";
        proc.set_sysctl_named(name, "0").unwrap();
        let error = proc.apply(&Profile::new().with_named(name, "1")).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot set the sysctl {name} to \"1\": \"\\xFF\" is no text")
        );
        assert_eq!(proc.sysctl_named(name).unwrap(), "0");
    }

    /// Once: a value that was set and could not be read again stayed.
    #[test]
    fn what_cannot_be_read_again_is_set_back() {
        let profile = Profile::new().with(&sysctl::CONNTRACK, false).unwrap();
        let unread = || Stub { unread_at: "0", ..Stub::new("6.12", "none") };
        let proc = Proc::of_files(unread());
        let error = proc.apply(&profile).unwrap_err();
        assert!(proc.sysctl(&sysctl::CONNTRACK).unwrap(), "{error}");
        assert!(error.not_set_back().is_none(), "{error}");
        let error = Proc::of_files(Stub { writes: 1, ..unread() }).apply(&profile).unwrap_err();
        let left = error.not_set_back().unwrap();
        assert_eq!(left.to_string(), "net.ipv4.vs.conntrack: 1 -> 0");
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
