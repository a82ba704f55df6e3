//! The kernel modules of a guest: which ones it gets, in which order they load, and which ones were left out on purpose.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::output;
use crate::progress::Progress;

/// The modules by which the guest speaks with the host.
const GUEST: &[&str] = &["virtio_pci", "virtio_console"];

/// All modules of IPVS. A kernel that lacks one (`ip_vs_twos` before 6.2) goes without it.
const IPVS: &[&str] = &[
    "ip_vs",
    "ip_vs_dh",
    "ip_vs_fo",
    "ip_vs_ftp",
    "ip_vs_lblc",
    "ip_vs_lblcr",
    "ip_vs_lc",
    "ip_vs_mh",
    "ip_vs_nq",
    "ip_vs_ovf",
    "ip_vs_pe_sip",
    "ip_vs_rr",
    "ip_vs_sed",
    "ip_vs_sh",
    "ip_vs_twos",
    "ip_vs_wlc",
    "ip_vs_wrr",
];

/// The modules that send traffic through IPVS inside one guest, and watch it.
const TRAFFIC: &[&str] = &[
    "bridge",
    "dummy",
    "fou",
    "fou6",
    "ip6_gre",
    "ip6_tunnel",
    "ip_gre",
    "ipip",
    "nf_conntrack",
    "nf_conntrack_netlink",
    "nf_nat",
    "nlmon",
    "sit",
    "tun",
    "veth",
];

/// The modules with which nft filters, masquerades and spreads that traffic.
const FILTER: &[&str] = &[
    "nf_tables",
    "nft_chain_nat",
    "nft_ct",
    "nft_fib_inet",
    "nft_masq",
    "nft_nat",
    "nft_numgen",
    "nft_reject_inet",
];

/// The modules with which iptables and ipset do the same, as in kube-proxy. Newer kernels have no module for counters.
const IPTABLES: &[&str] = &[
    "ip_set_hash_ipport",
    "nft_compat",
    "nft_counter",
    "xt_MASQUERADE",
    "xt_comment",
    "xt_mark",
    "xt_set",
];

/// The files that tell modprobe a module's dependencies, and the module that the kernel means when it asks for a feature.
pub(super) const INDEX: &[&str] = &[
    "modules.alias.bin",
    "modules.builtin.alias.bin",
    "modules.builtin.bin",
    "modules.dep",
    "modules.dep.bin",
    "modules.softdep",
];

/// All modules that a guest gets if its kernel has them.
pub(super) fn wanted() -> impl Iterator<Item = &'static str> {
    [GUEST, IPVS, TRAFFIC, FILTER, IPTABLES].into_iter().flatten().copied()
}

/// A kernel's `modules.dep`, or the part of it that a guest gets.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Modules {
    /// By name: the file below `/lib/modules/RELEASE`, and the files on which it depends.
    known: BTreeMap<String, (String, Vec<String>)>,
}

impl Modules {
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let file = folder.join("modules.dep");
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("{} cannot be read", file.display()))?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let known = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(file, needs)| {
                let needs = needs.split_whitespace().map(str::to_owned).collect();
                (name(file), (file.to_owned(), needs))
            })
            .collect();
        Self { known }
    }

    /// The wanted modules that this kernel has, with their dependencies, and no others.
    pub(super) fn select<'a>(&self, wanted: impl IntoIterator<Item = &'a str>) -> Self {
        let mut order = Vec::new();
        for name in wanted {
            self.visit(name, &mut order);
        }
        let known = order
            .iter()
            .filter_map(|name| Some((name.clone(), self.known.get(name)?.clone())))
            .collect();
        Self { known }
    }

    /// The modules without those that are named, and without those that need one of these.
    pub(super) fn without(&self, left_out: &[String]) -> Result<Self> {
        let left_out: BTreeSet<_> = left_out.iter().map(|module| name(module)).collect();
        if let Some(unknown) =
            left_out.iter().find(|name| GUEST.contains(&name.as_str()) || !self.may_have(name))
        {
            let known = [IPVS, TRAFFIC, FILTER, IPTABLES].concat();
            bail!("--without {unknown}: choose among {}", known.join(" "));
        }
        let known = self
            .known
            .iter()
            .filter(|(module, (_, needs))| {
                !left_out.contains(*module)
                    && !needs.iter().any(|file| left_out.contains(&name(file)))
            })
            .map(|(module, entry)| (module.clone(), entry.clone()))
            .collect();
        Ok(Self { known })
    }

    fn may_have(&self, name: &str) -> bool {
        wanted().any(|known| known == name) || self.known.contains_key(name)
    }

    /// The names in an order in which all can load.
    pub(super) fn load_order(&self) -> Vec<String> {
        let mut order = Vec::new();
        let guest_first = GUEST.iter().copied();
        for name in guest_first.chain(self.known.keys().map(String::as_str)) {
            self.visit(name, &mut order);
        }
        order
    }

    fn visit(&self, module: &str, order: &mut Vec<String>) {
        let Some((_, needs)) = self.known.get(module) else {
            return;
        };
        if order.iter().any(|done| done == module) {
            return;
        }
        for file in needs.iter().rev() {
            self.visit(&name(file), order);
        }
        order.push(module.to_owned());
    }

    pub(super) fn has(&self, file: &str) -> bool {
        self.known.contains_key(&name(file))
    }

    /// The paths of the files on the host.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.known.values().map(|(file, _)| file.as_str())
    }
}

/// Has depmod write `modules.dep` and the other index files for a kernel that was unpacked below `root`, not installed.
pub(super) fn index(root: &Path, release: &str, mut depmod: Command) -> Result<()> {
    // Releases of Debian differ in where modules lie, and in where depmod looks for them.
    for (missing, there) in [("lib", "usr/lib"), ("usr/lib", "../lib")] {
        let missing = root.join(missing);
        if !missing.exists() {
            std::fs::create_dir_all(missing.parent().unwrap_or(root))?;
            std::os::unix::fs::symlink(there, missing)?;
        }
    }
    let _progress = Progress::start(format!("indexing the modules of Linux {release}"));
    output(depmod.arg("-b").arg(root).arg(release))?;
    Ok(())
}

/// `kernel/net/ipv4/fou.ko.xz` is `fou`; the kernel writes `-` as `_`.
fn name(file: &str) -> String {
    let file = file.rsplit('/').next().unwrap_or(file);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "\
k/ip_vs_rr.ko.xz: k/ip_vs.ko.xz k/nf-conntrack.ko.xz k/defrag.ko.xz
k/ip_vs.ko.xz: k/nf-conntrack.ko.xz k/defrag.ko.xz
k/nf-conntrack.ko.xz: k/defrag.ko.xz
k/defrag.ko.xz:
k/virtio_console.ko.xz:
k/floppy.ko.xz:
";

    #[test]
    fn what_is_needed_loads_first() {
        let modules = Modules::parse(DEP).select(["ip_vs_rr", "virtio_console", "ip_vs_twos"]);
        assert_eq!(
            modules.load_order(),
            ["virtio_console", "defrag", "nf_conntrack", "ip_vs", "ip_vs_rr"]
        );
    }

    #[test]
    fn what_needs_a_missing_module_is_missing_too() {
        let modules = Modules::parse(DEP).select(["ip_vs_rr"]);
        let left = modules.without(&["ip_vs".into()]).expect("known");
        assert_eq!(left.load_order(), ["defrag", "nf_conntrack"]);
        // A known name is no error, even if this kernel has no such module.
        assert_eq!(modules.without(&["ip_vs_twos".into()]).expect("known"), modules);
        assert!(modules.without(&["ipvs".into()]).is_err());
    }
}
