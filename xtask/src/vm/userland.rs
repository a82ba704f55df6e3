//! The programs and files that every guest of a kernel has: busybox, the modules, and the tools on whose word the tests rely.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::initramfs::Tree;
use super::kernel::Kernel;
use super::modules::{self, Modules};
use super::{lock, packages, program};
use crate::command::which;

/// Programs that the guest has under these names, whatever programs the host has.
pub(super) const TOOLS: [&str; 3] = ["ipvsadm", "ip", "nft"];

/// The names by which the guest runs kmod. Busybox's modprobe reports a failure for a removal that succeeded.
const KMOD: [&str; 4] = ["lsmod", "modinfo", "modprobe", "rmmod"];

const PASSWD: &str = "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n";

/// The archive of these files, made anew for each guest: a damaged copy would make every later run fail.
pub(super) fn archive(kernel: &Kernel, modules: &Modules, cache: &Path) -> Result<Vec<u8>> {
    let _lock = lock::exclusive(cache)?;
    tree(kernel, modules, cache)?.archive()
}

fn tree(kernel: &Kernel, modules: &Modules, cache: &Path) -> Result<Tree> {
    let mut tree = Tree::default();
    tree.text("etc/passwd", PASSWD);
    tree.text("etc/group", GROUP);
    tree.text("etc/hosts", HOSTS);
    tree.link("var/run", "/run");
    tree.folder("tmp");

    program::add_as(&mut tree, "bin/busybox", &busybox(cache)?, None)?;
    tree.link("bin/sh", "busybox");
    let (ipvsadm, root) = ipvsadm(cache)?;
    program::add_as(&mut tree, "usr/local/sbin/ipvsadm", &ipvsadm, root.as_deref())?;
    for script in ["ipvsadm-save", "ipvsadm-restore"] {
        let beside = ipvsadm.with_file_name(script);
        program::add_as(&mut tree, &format!("usr/local/sbin/{script}"), &beside, root.as_deref())?;
    }
    let (ip, root) = ip(cache)?;
    program::add_as(&mut tree, "usr/local/sbin/ip", &ip, root.as_deref())?;
    let (nft, root) = nft(cache)?;
    program::add_as(&mut tree, "usr/local/sbin/nft", &nft, root.as_deref())?;

    iptables(&mut tree, cache)?;

    let (kmod, root) = kmod(cache)?;
    program::add_as(&mut tree, "usr/local/sbin/kmod", &kmod, root.as_deref())?;
    for name in KMOD {
        tree.link(&format!("usr/local/sbin/{name}"), "kmod");
    }
    let setpriv = which("setpriv").context("setpriv is not here: install util-linux")?;
    program::add_as(&mut tree, "usr/local/sbin/setpriv", &setpriv, None)?;
    // The kernel runs this program when it asks for modules that it lacks.
    tree.link("sbin/modprobe", "/usr/local/sbin/modprobe");

    let folder = format!("lib/modules/{}", kernel.release);
    let index = modules::INDEX.iter().copied();
    let index = index.filter(|file| kernel.modules.join(file).exists());
    for file in modules.files().chain(index) {
        tree.file(&format!("{folder}/{file}"), &kernel.modules.join(file))?;
    }
    Ok(tree)
}

fn busybox(cache: &Path) -> Result<PathBuf> {
    if !packages::available() {
        return which("busybox").context("busybox is not here: install it");
    }
    // Not Debian's static busybox, whose shell prefers its own `ip` to the one in PATH.
    let root = cache.join("packages/busybox");
    packages::unpack(&["busybox"], &root, cache)?;
    first(&root, &["bin/busybox", "usr/bin/busybox"])
}

/// The program and, if it was unpacked and not installed, the folder of its libraries.
type Tool = (PathBuf, Option<PathBuf>);

fn ipvsadm(cache: &Path) -> Result<Tool> {
    if !packages::available() {
        let ipvsadm = which("ipvsadm").context("ipvsadm is not here: install it")?;
        return Ok((ipvsadm, None));
    }
    let root = cache.join("packages/ipvsadm");
    let libraries = ["libnl-3-200", "libnl-genl-3-200", "libpopt0"];
    packages::unpack(&[&["ipvsadm"], &libraries[..]].concat(), &root, cache)?;
    Ok((first(&root, &["sbin/ipvsadm", "usr/sbin/ipvsadm"])?, Some(root)))
}

fn ip(cache: &Path) -> Result<Tool> {
    if let Some(ip) = which("ip") {
        return Ok((ip, None));
    }
    if !packages::available() {
        bail!("ip is not here: install iproute2");
    }
    let root = cache.join("packages/iproute2");
    let libraries = ["libbpf1", "libbsd0", "libcap2", "libelf1", "libmd0", "libmnl0", "zlib1g"];
    packages::unpack(&[&["iproute2"], &libraries[..]].concat(), &root, cache)?;
    Ok((first(&root, &["bin/ip", "usr/bin/ip"])?, Some(root)))
}

fn nft(cache: &Path) -> Result<Tool> {
    if let Some(nft) = which("nft") {
        return Ok((nft, None));
    }
    if !packages::available() {
        bail!("nft is not here: install nftables");
    }
    let root = cache.join("packages/nftables");
    let libraries = [
        "libbsd0",
        "libedit2",
        "libgmp10",
        "libjansson4",
        "libmd0",
        "libmnl0",
        "libnftables1",
        "libnftnl11",
        "libxtables12",
    ];
    packages::unpack(&[&["nftables"], &libraries[..]].concat(), &root, cache)?;
    Ok((first(&root, &["sbin/nft", "usr/sbin/nft"])?, Some(root)))
}

fn kmod(cache: &Path) -> Result<Tool> {
    if let Some(kmod) = which("kmod") {
        return Ok((kmod, None));
    }
    if !packages::available() {
        bail!("kmod is not here: install it");
    }
    let root = cache.join("packages/kmod");
    if !packages::is_whole(&root) {
        packages::unpack_with_dependencies(&["kmod"], &root, cache)?;
    }
    Ok((first(&root, &["bin/kmod", "usr/bin/kmod"])?, Some(root)))
}

/// iptables by `nf_tables`, and ipset, which kube-proxy used: a proxy removes their leftovers.
fn iptables(tree: &mut Tree, cache: &Path) -> Result<()> {
    if !packages::available() {
        bail!("iptables and ipset are fetched as Debian's packages, and apt-get is not here");
    }
    let root = cache.join("packages/iptables");
    let libraries = [
        "libip4tc2",
        "libip6tc2",
        "libipset13",
        "libmnl0",
        "libnetfilter-conntrack3",
        "libnfnetlink0",
        "libnftnl11",
        "libxtables12",
    ];
    packages::unpack(&[&["iptables", "ipset"], &libraries[..]].concat(), &root, cache)?;
    let sbin = "usr/local/sbin";
    let all = "xtables-nft-multi";
    for (name, inside) in [(all, "usr/sbin/xtables-nft-multi"), ("ipset", "usr/sbin/ipset")] {
        let program = first(&root, &[inside, inside.trim_start_matches("usr/")])?;
        program::add_as(tree, &format!("{sbin}/{name}"), &program, Some(&root))?;
    }
    for family in ["iptables", "ip6tables"] {
        for end in ["", "-save", "-restore"] {
            tree.link(&format!("{sbin}/{family}-nft{end}"), all);
        }
    }
    // Each match and target has a library of its own, for which the program looks at this path.
    let extensions = "usr/lib/x86_64-linux-gnu/xtables";
    for entry in std::fs::read_dir(root.join(extensions))? {
        let entry = entry?;
        let name = entry.file_name();
        tree.file(&format!("{extensions}/{}", name.to_string_lossy()), &entry.path())?;
    }
    Ok(())
}

fn first(root: &Path, candidates: &[&str]) -> Result<PathBuf> {
    candidates
        .iter()
        .map(|path| root.join(path))
        .find(|path| path.is_file())
        .with_context(|| format!("{} has no {}; remove the folder", root.display(), candidates[0]))
}
