//! The facts of a host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::addresses::{Addresses, Trie};
use super::lines;
use super::routes::{Routes, Unshown};
use crate::error::Error;
use crate::model::{Family, SyncDaemon};
use crate::proc::sysctl::{self, DefenseMode, is_on};
use crate::proc::{Proc, series};
use crate::release::Release;
use crate::ruleset::Ruleset;

/// The facts of a host. A fact that cannot be read counts as good.
#[allow(clippy::struct_excessive_bools)] // Each stands for itself.
pub(super) struct Facts {
    /// The kernel's release; empty if it is not known.
    pub(super) release: String,
    /// The kernel's answer to questions, of which the last is for the sync daemons.
    pub(super) answer: Result<Vec<SyncDaemon>, Error>,
    pub(super) is_capable: bool,
    pub(super) is_in_user_namespace: bool,
    pub(super) modules: Modules,
    /// Whether the table of local IPv4 addresses exists. The kernel makes it with the first address,
    /// and then keeps it even if it is empty.
    pub(super) has_ipv4_table: bool,
    pub(super) has_ipv6: bool,
    /// Whether IPv6 is turned off for new devices, and for all devices that existed when this was
    /// set.
    pub(super) disables_ipv6: bool,
    /// Whether IPv4 is forwarded by new devices, and by all devices that existed when this was set.
    pub(super) forwards_ipv4: bool,
    pub(super) forwards_ipv6: bool,
    /// The addresses of the network namespace.
    pub(super) addresses: Addresses,
    pub(super) routes: Routes,
    pub(super) devices: Devices,
    /// The UDP ports that a program listens on; `None` if they are not known.
    pub(super) udp_ports: Option<BTreeSet<(Family, u16)>>,
    /// The most connections that the kernel takes, if it has such a limit.
    pub(super) most_connections: Option<i32>,
    /// One first packet of this many is dropped; below 0 every one is.
    pub(super) drop_rate: Option<i32>,
    /// Whether entries of half-open connections are always dropped at random.
    pub(super) drops_entries: bool,
    /// Whether persistent clients leave a destination of weight 0.
    pub(super) expires_templates: bool,
    /// Whether a tunnel's module brings its device along; `None` if this is not known.
    pub(super) brings_tunnel_devices: Option<bool>,
}

/// The network devices.
#[derive(Debug, Default)]
pub(super) struct Devices {
    pub(super) all: BTreeMap<String, Device>,
    /// The devices that are up; `None` if they are not known.
    pub(super) up: Option<BTreeSet<String>>,
    /// The reverse path filters for IPv4 that are not 0, by device; `all` has the value for all
    /// devices, and `default` the value for new devices.
    pub(super) filters: BTreeMap<String, u8>,
}

/// The settings of a device; `None` for each that is not known.
#[derive(Debug, Default)]
pub(super) struct Device {
    pub(super) forwards_ipv4: Option<bool>,
    /// Whether the device forwards IPv6 though the network namespace does not (6.17 and later).
    pub(super) forces_ipv6: Option<bool>,
    pub(super) disables_ipv6: Option<bool>,
    /// When the device takes router advertisements: 1 unless it forwards packets, 2 always.
    pub(super) accepts_advertisements: Option<u8>,
}

/// The kernel's modules.
#[derive(Default)]
pub(super) struct Modules {
    pub(super) loaded: BTreeSet<String>,
    /// The modules that are built into the kernel or can be loaded; `None` if they are not known.
    pub(super) installed: Option<Installed>,
    pub(super) loading: Loading,
    /// Whether IPVS is built into the kernel: its schedulers may be built in, too.
    is_ipvs_builtin: bool,
}

/// How modules come into the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Loading {
    /// The kernel loads the modules that it needs.
    #[default]
    ByItself,
    /// An administrator has to load modules.
    ByHand,
    /// The kernel loads no module until the next boot.
    Barred,
    /// The kernel is built without modules.
    Unsupported,
}

#[derive(Default)]
pub(super) struct Installed {
    pub(super) builtin: BTreeSet<String>,
    pub(super) loadable: BTreeSet<String>,
}

/// Whether a module can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Module {
    /// The module is loaded, or loaded as soon as it is needed, or built into the kernel, or may be
    /// built in.
    Ready,
    /// An administrator has to load the module.
    Loadable,
    /// The module is not loaded, and the kernel loads no more modules.
    Barred,
    /// The module is not installed.
    Absent,
    /// The module is not loaded, and whether it is installed is not known, as in a container.
    Unknown,
}

/// The group that each device joins when it is brought up, and leaves when it is taken down.
const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);

/// The number of `CAP_NET_ADMIN`.
const CAP_NET_ADMIN: u32 = 12;

impl Facts {
    /// Reads the facts that the rules need. Those of IPv6 are read for rules of IPv6 alone: for the list of
    /// IPv6 routes the kernel takes time that grows with the square of their number.
    pub(super) fn gather(
        proc: &Proc,
        answer: Result<Vec<SyncDaemon>, Error>,
        rules: &Ruleset,
    ) -> Self {
        let text = |path| proc.text(path).ok();
        let needs_ipv6 = needs_ipv6(rules);
        let text_of_ipv6 = |path| needs_ipv6.then(|| text(path)).flatten();
        let release = proc.release();
        let is_set = |text: Option<String>, otherwise| text.map_or(otherwise, |text| is_on(&text));
        let devices = Devices::gather(proc, needs_ipv6);
        let trie = text("net/fib_trie").and_then(|trie| Trie::of(&trie));
        let mut routes = Routes::default();
        if let Some(text) = text("net/route") {
            let unshown = trie.as_ref().map_or(Unshown::Any, |trie| trie.unshown);
            routes.add_ipv4(&text, unshown, devices.up.as_ref());
        }
        // An address that is added in between has a route at least.
        let interfaces = text_of_ipv6("net/if_inet6");
        let local_ipv6 = text_of_ipv6("net/ipv6_route").and_then(|text| routes.add_ipv6(&text));
        Self {
            is_capable: text("thread-self/status").is_none_or(|status| is_capable(&status)),
            is_in_user_namespace: is_in_user_namespace(proc),
            modules: Modules::gather(proc, &release, answer.is_ok()),
            answer,
            has_ipv4_table: text("net/fib_triestat")
                .is_none_or(|tables| tables.lines().any(|line| line == "Local:")),
            has_ipv6: !needs_ipv6 || !is_missing(proc, "net/if_inet6", "net/dev"),
            disables_ipv6: is_set(text_of_ipv6("sys/net/ipv6/conf/all/disable_ipv6"), false),
            forwards_ipv4: is_set(text("sys/net/ipv4/ip_forward"), true),
            forwards_ipv6: is_set(text_of_ipv6("sys/net/ipv6/conf/all/forwarding"), true),
            addresses: Addresses::new(trie, interfaces.as_deref(), local_ipv6),
            routes,
            devices,
            udp_ports: text("net/udp").and_then(|v4| {
                let v6 = text_of_ipv6("net/udp6").unwrap_or_default();
                let ports =
                    |family, text| Some(ports(text)?.into_iter().map(move |port| (family, port)));
                Some(ports(Family::V4, &v4)?.chain(ports(Family::V6, &v6)?).collect())
            }),
            most_connections: proc.sysctl(&sysctl::CONN_MAX).ok(),
            drop_rate: drop_rate(proc),
            drops_entries: proc.sysctl(&sysctl::DROP_ENTRY).ok() == Some(DefenseMode::Always),
            expires_templates: proc.sysctl(&sysctl::EXPIRE_QUIESCENT_TEMPLATE).unwrap_or(true),
            // Only the initial network namespace has this sysctl, and its value 1 makes no
            // difference there.
            brings_tunnel_devices: text("sys/net/core/fb_tunnels_only_for_init_net")
                .map(|setting| matches!(setting.trim(), "0" | "1")),
            release,
        }
    }

    /// The largest upper threshold, where it is certain.
    pub(super) fn largest_threshold(&self) -> Option<u32> {
        self.release.parse::<Release>().ok()?.certain_largest_threshold()
    }

    /// Whether the kernel is older than this version; false if the kernel's version is not known.
    pub(super) fn is_before(&self, wanted: (u32, u32)) -> bool {
        let series = series(&self.release);
        series != (0, 0) && series < wanted
    }
}

/// Whether a service or a destination is of IPv6.
pub(super) fn needs_ipv6(rules: &Ruleset) -> bool {
    rules.services().any(|rules| {
        let families = rules.destinations().map(|destination| destination.key.family());
        families.chain([rules.key().family()]).any(|family| family == Family::V6)
    })
}

impl Devices {
    fn gather(proc: &Proc, needs_ipv6: bool) -> Self {
        let text = |path: &str| proc.text(path).ok();
        let names = devices(&text("net/dev").unwrap_or_default());
        let filter = |device: &str| {
            let path = format!("sys/net/ipv4/conf/{device}/rp_filter");
            let filter = text(&path)?.trim().parse().ok().filter(|filter| *filter > 0)?;
            Some((device.to_owned(), filter))
        };
        let others = ["all", "default"];
        let filters = names.iter().map(String::as_str).chain(others).filter_map(filter).collect();
        let device = |name: String| {
            let of_ipv4 = |setting| text(&format!("sys/net/ipv4/conf/{name}/{setting}"));
            let of_ipv6 = |setting| {
                needs_ipv6.then(|| text(&format!("sys/net/ipv6/conf/{name}/{setting}"))).flatten()
            };
            let device = Device {
                forwards_ipv4: of_ipv4("forwarding").map(|text| is_on(&text)),
                forces_ipv6: of_ipv6("force_forwarding").map(|text| is_on(&text)),
                disables_ipv6: of_ipv6("disable_ipv6").map(|text| is_on(&text)),
                accepts_advertisements: of_ipv6("accept_ra")
                    .and_then(|text| text.trim().parse().ok()),
            };
            (name, device)
        };
        let all = names.into_iter().map(device).collect();
        Self { all, up: text("net/igmp").and_then(|groups| devices_up(&groups)), filters }
    }

    /// The devices that lead to other hosts: those that are up, if any is up.
    pub(super) fn outward(&self) -> Vec<(&str, &Device)> {
        let outward: Vec<_> = self
            .all
            .iter()
            .map(|(name, device)| (name.as_str(), device))
            .filter(|(name, _)| *name != "lo")
            .collect();
        let is_up = |name: &str| self.up.as_ref().is_none_or(|up| up.contains(name));
        let up: Vec<_> = outward.iter().copied().filter(|(name, _)| is_up(name)).collect();
        if up.is_empty() { outward } else { up }
    }

    /// The devices that lead to other hosts and have IPv6 disabled.
    pub(super) fn without_ipv6(&self) -> Vec<&str> {
        let outward = self.outward().into_iter();
        let disabled = outward.filter(|(_, device)| device.disables_ipv6 == Some(true));
        disabled.map(|(name, _)| name).collect()
    }
}

impl Modules {
    fn gather(proc: &Proc, release: &str, answers: bool) -> Self {
        let loaded = proc.text("modules");
        let first = |line: &str| line.split_ascii_whitespace().next().map(str::to_owned);
        let installed = proc.files().modules(release).map(|index| Installed {
            builtin: names(&index.builtin),
            loadable: names(&index.dependencies),
        });
        let loading = if is_missing(proc, "modules", "sys/kernel/osrelease") {
            Loading::Unsupported
        } else if proc.text("sys/kernel/modules_disabled").is_ok_and(|text| is_on(&text)) {
            Loading::Barred
        } else if proc.text("sys/kernel/modprobe").is_ok_and(|text| !is_program(proc, text.trim()))
        {
            Loading::ByHand
        } else {
            Loading::ByItself
        };
        let is_known = loaded.is_ok() || loading == Loading::Unsupported;
        let loaded: BTreeSet<_> = loaded.unwrap_or_default().lines().filter_map(first).collect();
        let is_ipvs_builtin = answers && is_known && !loaded.contains("ip_vs");
        Self { loaded, installed, loading, is_ipvs_builtin }
    }

    pub(super) fn state(&self, name: &str) -> Module {
        // The kernel's lists name modules with underscores only.
        let name = &*name.replace('-', "_");
        let installed = self.installed.as_ref();
        let is_builtin = installed.is_some_and(|installed| installed.builtin.contains(name));
        if self.loaded.contains(name) || is_builtin {
            return Module::Ready;
        }
        match (installed.map(|installed| installed.loadable.contains(name)), self.loading) {
            (None, _) if self.is_ipvs_builtin => Module::Ready,
            (Some(false), _) | (_, Loading::Unsupported) => Module::Absent,
            (_, Loading::Barred) => Module::Barred,
            (Some(true), Loading::ByItself) => Module::Ready,
            (Some(true), Loading::ByHand) => Module::Loadable,
            (None, _) => Module::Unknown,
        }
    }
}

/// The rate at which first packets are dropped, if they always are; 0 is none.
fn drop_rate(proc: &Proc) -> Option<i32> {
    let mode = proc.sysctl(&sysctl::DROP_PACKET).ok()?;
    let rate = proc.sysctl(&sysctl::AM_DROPRATE).ok()?;
    (mode == DefenseMode::Always && rate != 0).then_some(rate)
}

/// Whether the kernel can run a program, as far as is known.
fn is_program(proc: &Proc, path: &str) -> bool {
    !path.is_empty() && proc.files().is_program(path) != Some(false)
}

/// Whether the kernel has no such file. A file that cannot be opened for another reason may exist, and
/// without a file beside it that all kernels have, procfs hides files or is not mounted.
fn is_missing(proc: &Proc, path: &str, beside: &str) -> bool {
    let not_found = |error: std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    proc.text(path).is_err_and(not_found) && proc.text(beside).is_ok()
}

/// The devices of `net/dev`: `  tunl0: 0 0 …`.
fn devices(text: &str) -> BTreeSet<String> {
    text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}

/// The devices of `net/igmp` that are up. The file has the line of a device,
/// `1\tlo        :     1      V3`, before the lines of its groups,
/// `\t\t\t\t010000E0     1 0:00000000\t\t0`, which are numbers in the host's byte order. A device that is down
/// can have groups, too.
fn devices_up(text: &str) -> Option<BTreeSet<String>> {
    let mut device = None;
    let group = |line: &str| {
        if let Some((heading, _)) = line.split_once(':').filter(|_| !line.starts_with('\t')) {
            device = heading.split_ascii_whitespace().nth(1).map(str::to_owned);
            return None;
        }
        let group = u32::from_str_radix(line.split_ascii_whitespace().next()?, 16).ok()?;
        Some((Ipv4Addr::from(group.to_ne_bytes()), device.clone()?))
    };
    let groups = lines::read(text.lines().skip(1), group)?.into_iter();
    Some(groups.filter(|(group, _)| *group == ALL_HOSTS).map(|(_, device)| device).collect())
}

/// The local ports of `net/udp`: `  42: 00000000:15B3 …`.
fn ports(text: &str) -> Option<Vec<u16>> {
    lines::read(text.lines().skip(1), |line| {
        let (_, port) = line.split_ascii_whitespace().nth(1)?.split_once(':')?;
        u16::from_str_radix(port, 16).ok()
    })
}

/// The names of the modules in `modules.dep` or `modules.builtin`, which list the modules' files:
/// `kernel/net/netfilter/ipvs/ip_vs_rr.ko.xz: …`.
fn names(index: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        let file = line.split(':').next()?.rsplit('/').next()?;
        Some(file.split('.').next()?.replace('-', "_"))
    };
    index.lines().filter_map(name).collect()
}

/// Whether the process with this status has `CAP_NET_ADMIN` as an effective capability.
fn is_capable(status: &str) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    effective.is_none_or(|set| set >> CAP_NET_ADMIN & 1 == 1)
}

/// Whether the process is in another user namespace than the initial one, whose inode has [the same
/// number][nsfs.h] on each host. The map of user numbers does not tell: other user namespaces can
/// have the initial one's map.
///
/// [nsfs.h]: https://github.com/torvalds/linux/blob/v6.18/include/uapi/linux/nsfs.h
pub(super) fn is_in_user_namespace(proc: &Proc) -> bool {
    match proc.files().link("thread-self/ns/user") {
        Ok(namespace) => namespace != "user:[4026531837]",
        Err(_) => proc.text("thread-self/uid_map").is_ok_and(|map| !is_of_all(&map)),
    }
}

/// Whether a map of user numbers maps each number to itself.
fn is_of_all(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_known_by_their_files() {
        let index = "kernel/net/netfilter/ipvs/ip_vs.ko.xz: kernel/lib/libcrc32c.ko.xz\n\
                     kernel/net/netfilter/ipvs/ip_vs_rr.ko:\nkernel/net/nf-log.ko.zst:\n";
        let known: Vec<_> = names(index).into_iter().collect();
        assert_eq!(known, ["ip_vs", "ip_vs_rr", "nf_log"]);
    }

    #[test]
    fn devices_and_ports_are_read() {
        let text =
            "Inter-|   Receive\n face |bytes    packets\n    lo:       0       0\n tunl0: 0 0\n";
        assert_eq!(devices(text), BTreeSet::from(["lo", "tunl0"].map(str::to_owned)));
        let text = "  sl  local_address rem_address   st\n  42: 00000000:15B3 00000000:0000 07\n";
        assert_eq!(ports(text), Some(vec![5555]));
        assert_eq!(ports("  sl  local_address rem_address   st\n"), Some(Vec::new()));
        assert_eq!(ports("  sl  socket\n  42: inet 5555\n"), None);
    }

    /// Once: a device that is down counted as up, if a program had it join a group.
    #[test]
    fn devices_that_are_up_are_in_the_group_of_all_hosts() {
        let heading = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n";
        let group = |address: [u8; 4]| {
            format!("\t\t\t\t{:08X}     1 0:00000000\t\t0\n", u32::from_ne_bytes(address))
        };
        let (all_hosts, other) = (group([224, 0, 0, 1]), group([239, 1, 2, 3]));
        let text = format!(
            "{heading}1\tlo        :     1      V3\n{all_hosts}\
             3\tdown      :     1      V3\n{other}\
             4\tip6tnl20010db1:     2      V3\n{other}{all_hosts}"
        );
        let up = BTreeSet::from(["lo", "ip6tnl20010db1"].map(str::to_owned));
        assert_eq!(devices_up(&text), Some(up));
        assert_eq!(devices_up(heading), Some(BTreeSet::new()));
        assert_eq!(devices_up(&format!("{heading}lo: 224.0.0.1\n")), None);
    }

    #[test]
    fn capabilities_and_namespaces_are_read() {
        assert!(is_capable("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        assert!(is_capable("CapEff:\t0000000000001000\n"));
        assert!(!is_capable("CapPrm:\t000001ffffffffff\nCapEff:\t0000000000000000\n"));
        assert!(is_of_all("         0          0 4294967295\n"));
        assert!(!is_of_all("         0       1000          1\n"));
    }
}
