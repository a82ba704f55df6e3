//! What a host says of itself.

use std::collections::BTreeSet;

use crate::error::Error;
use crate::proc::{Proc, sysctl::is_on};

/// What a host says of itself. What it does not say is taken for well.
#[allow(clippy::struct_excessive_bools)] // Each stands for itself.
pub(super) struct Facts {
    /// The kernel's release.
    pub(super) release: String,
    /// What the kernel answered to a question.
    pub(super) answer: Result<(), Error>,
    pub(super) is_capable: bool,
    pub(super) is_in_user_namespace: bool,
    pub(super) modules: Modules,
    pub(super) has_ipv4_address: bool,
    pub(super) has_ipv6: bool,
    pub(super) disables_ipv6: bool,
    pub(super) forwards_ipv4: bool,
    pub(super) forwards_ipv6: bool,
}

/// The kernel's modules.
#[derive(Default)]
pub(super) struct Modules {
    pub(super) loaded: BTreeSet<String>,
    /// Those that are in the kernel, or can be loaded; `None` where that cannot be told.
    pub(super) installed: Option<Installed>,
    /// Whether the kernel loads by itself what it needs.
    pub(super) load_themselves: bool,
}

#[derive(Default)]
pub(super) struct Installed {
    pub(super) builtin: BTreeSet<String>,
    pub(super) loadable: BTreeSet<String>,
}

/// How a module is at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Module {
    /// It is loaded, in the kernel, or loaded as soon as it is needed.
    Ready,
    /// Somebody has to load it.
    Loadable,
    /// It is not installed.
    Absent,
    /// The module is not loaded, and whether it is installed cannot be told: in a container, say.
    Unknown,
}

/// The number of `CAP_NET_ADMIN`.
const CAP_NET_ADMIN: u32 = 12;

impl Facts {
    pub(super) fn gather(proc: &Proc, answer: Result<(), Error>) -> Self {
        let text = |path| proc.text(path).ok();
        let release = proc.release();
        let is_set = |path, otherwise| text(path).map_or(otherwise, |text| is_on(&text));
        Self {
            answer,
            is_capable: text("thread-self/status").is_none_or(|status| is_capable(&status)),
            is_in_user_namespace: text("thread-self/uid_map").is_some_and(|map| !is_initial(&map)),
            modules: Modules::gather(proc, &release),
            has_ipv4_address: text("net/fib_trie").is_none_or(|trie| trie.contains("host LOCAL")),
            has_ipv6: !is_missing(proc, "net/if_inet6"),
            disables_ipv6: is_set("sys/net/ipv6/conf/all/disable_ipv6", false),
            forwards_ipv4: is_set("sys/net/ipv4/ip_forward", true),
            forwards_ipv6: is_set("sys/net/ipv6/conf/all/forwarding", true),
            release,
        }
    }

    /// Major and minor number of the kernel.
    pub(super) fn series(&self) -> (u32, u32) {
        crate::proc::series(&self.release)
    }
}

impl Modules {
    fn gather(proc: &Proc, release: &str) -> Self {
        let loaded = proc.text("modules").unwrap_or_default();
        let first = |line: &str| line.split_ascii_whitespace().next().map(str::to_owned);
        let installed = proc.files().modules(release).map(|index| Installed {
            builtin: names(&index.builtin),
            loadable: names(&index.dependencies),
        });
        let program = proc.text("sys/kernel/modprobe").unwrap_or_default();
        Self {
            loaded: loaded.lines().filter_map(first).collect(),
            installed,
            load_themselves: !program.trim().is_empty(),
        }
    }

    pub(super) fn state(&self, name: &str) -> Module {
        let Some(installed) = &self.installed else {
            return if self.loaded.contains(name) { Module::Ready } else { Module::Unknown };
        };
        let is_ready = self.loaded.contains(name) || installed.builtin.contains(name);
        let is_loadable = installed.loadable.contains(name);
        match (is_ready, is_loadable, self.load_themselves) {
            (true, ..) | (false, true, true) => Module::Ready,
            (false, true, false) => Module::Loadable,
            (false, false, _) => Module::Absent,
        }
    }
}

/// Whether a file is not there; one that cannot be opened for another reason may be.
fn is_missing(proc: &Proc, path: &str) -> bool {
    proc.text(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// The names of the modules in `modules.dep` or `modules.builtin`, in which each is a file:
/// `kernel/net/netfilter/ipvs/ip_vs_rr.ko.xz: …`.
fn names(index: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        let file = line.split(':').next()?.rsplit('/').next()?;
        Some(file.split('.').next()?.replace('-', "_"))
    };
    index.lines().filter_map(name).collect()
}

/// Whether `CAP_NET_ADMIN` is effective, by a process's status.
fn is_capable(status: &str) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    effective.is_none_or(|set| set >> CAP_NET_ADMIN & 1 == 1)
}

/// Whether a map of user numbers is that of the initial user namespace.
fn is_initial(map: &str) -> bool {
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
    fn capabilities_and_namespaces_are_read() {
        assert!(is_capable("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        assert!(is_capable("CapEff:\t0000000000001000\n"));
        assert!(!is_capable("CapPrm:\t000001ffffffffff\nCapEff:\t0000000000000000\n"));
        assert!(is_initial("         0          0 4294967295\n"));
        assert!(!is_initial("         0       1000          1\n"));
    }
}
