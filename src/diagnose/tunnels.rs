//! The needs of tunnels: a director needs nothing, a real server a device.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;

use super::facts::Facts;
use super::finding::{Finding, Problem, Severity};
use super::forwarding::destinations;
use crate::model::{Destination, Family, Forwarding, Tunnel, TunnelChecksum};
use crate::ruleset::Ruleset;

/// A tunnel as its packets need it: the family inside, the family outside, and the encapsulation.
type Path = (Family, Family, Tunnel);

pub(super) fn judge(facts: &Facts, rules: &Ruleset, findings: &mut Vec<Finding>) {
    let clashing = clashing(facts, rules);
    let (mut tunnels, mut to_this_host) = (Vec::new(), Vec::<Unpacker>::new());
    for rules in rules.services() {
        let inside = rules.service().key.family();
        for Destination { key, forwarding, .. } in rules.destinations() {
            let Forwarding::Tunnel(tunnel) = *forwarding else { continue };
            let outside = key.family();
            if !tunnels.contains(&(outside, tunnel)) {
                tunnels.push((outside, tunnel));
            }
            if key.address.is_loopback() || !facts.addresses.has(key.address) {
                continue;
            }
            if matches!(tunnel, Tunnel::Gre { .. }) && clashing.contains(&key.address) {
                continue;
            }
            let path = (inside, outside, tunnel);
            let Some(unpacker) = Unpacker::of(facts, path, key.address) else { continue };
            match to_this_host.iter_mut().find(|known| known.is_same(&unpacker)) {
                Some(known) => known.unpacks_ipv4 |= unpacker.unpacks_ipv4,
                None => to_this_host.push(unpacker),
            }
        }
    }
    for (outside, tunnel) in tunnels {
        findings.extend(age(facts, tunnel));
        findings.extend(size(outside, tunnel));
    }
    findings.extend(clash(&clashing));
    findings.extend(to_this_host.iter().enumerate().filter_map(|(index, unpacker)| {
        let is_first = to_this_host.iter().take(index).all(|it| it.device != unpacker.device);
        unpacker.lacking(facts, is_first)
    }));
    findings.extend(reverse_path(facts, &to_this_host));
}

/// The addresses of this host to which GRE is sent with a checksum and without. A device unpacks one of
/// the two, and the kernel takes no second device for all packets to the same address.
fn clashing(facts: &Facts, rules: &Ruleset) -> BTreeSet<IpAddr> {
    let mut checksums = BTreeMap::<_, BTreeSet<_>>::new();
    for Destination { key, forwarding, .. } in destinations(rules) {
        if let Forwarding::Tunnel(Tunnel::Gre { checksum }) = forwarding
            && !key.address.is_loopback()
            && facts.addresses.has(key.address)
        {
            checksums.entry(key.address).or_default().insert(*checksum);
        }
    }
    checksums.into_iter().filter(|(_, both)| both.len() > 1).map(|(address, _)| address).collect()
}

fn clash(addresses: &BTreeSet<IpAddr>) -> Option<Finding> {
    let first = addresses.first()?;
    let which = match addresses.len() {
        1 => first.to_string(),
        more => format!("{more} addresses, such as {first}"),
    };
    Some(Finding::new(
        Severity::Limited,
        Problem::TunnelDevice(Tunnel::gre().checksum(TunnelChecksum::Full)),
        format!(
            "this host is a destination by the tunnel gre at {which}, with a checksum and without, and a \
             device unpacks one of the two alone"
        ),
        "Give all destinations with the same address the same tunnel.",
    ))
}

/// Whether the kernel knows the tunnel. A kernel that does not takes it for IP in IP.
fn age(facts: &Facts, tunnel: Tunnel) -> Option<Finding> {
    let (major, minor) = match tunnel {
        Tunnel::Gue { .. } => (5, 3),
        Tunnel::Gre { .. } => (5, 4),
        Tunnel::Ipip | Tunnel::Other(_) => return None,
    };
    facts.is_before((major, minor)).then(|| {
        Finding::new(
            Severity::Broken,
            Problem::Tunnel(tunnel),
            format!(
                "the tunnel {tunnel} needs Linux {major}.{minor} or later; this kernel sends ipip"
            ),
            "Give its destinations the tunnel ipip, or use a newer kernel.",
        )
    })
}

/// The number of bytes that a tunnel adds to a packet.
fn growth(outside: Family, tunnel: Tunnel) -> Option<u16> {
    let outer = match outside {
        Family::V4 => 20,
        Family::V6 => 40,
    };
    Some(match tunnel {
        Tunnel::Ipip => outer,
        // A UDP header and a GUE header, which has an option for the remote checksum.
        Tunnel::Gue { checksum: TunnelChecksum::Remote, .. } => outer + 20,
        Tunnel::Gue { .. } => outer + 12,
        Tunnel::Gre { checksum } => outer + if checksum { 8 } else { 4 },
        Tunnel::Other(_) => return None,
    })
}

fn size(outside: Family, tunnel: Tunnel) -> Option<Finding> {
    let growth = growth(outside, tunnel)?;
    Some(Finding::new(
        Severity::Limited,
        Problem::PacketSize(tunnel),
        format!(
            "packets grow by {growth} bytes in the tunnel {tunnel} over {outside}, so clients are told \
             by ICMP to send smaller ones; where ICMP does not reach them, large transfers hang"
        ),
        format!(
            "Give the links to its real servers an MTU that is {growth} bytes larger, or have the real \
             servers announce a smaller MSS (ip route change … advmss), or let ICMP through."
        ),
    ))
}

/// The device that unpacks a tunnel's packets on a real server.
#[derive(Debug)]
struct Unpacker {
    tunnel: Tunnel,
    outside: Family,
    /// Whether IPv4 is among what it unpacks.
    unpacks_ipv4: bool,
    module: &'static str,
    device: String,
    /// The command that makes the device, if the device does not come with the module.
    made: Option<Vec<String>>,
    /// The module that unpacks GUE, and the UDP port.
    gue: Option<(&'static str, NonZeroU16)>,
}

impl Unpacker {
    /// The device that comes with the module takes the packets of all addresses, but none with a
    /// checksum, and `net.core.fb_tunnels_only_for_init_net` can keep it away. A device of its own
    /// can be made for an address.
    fn of(facts: &Facts, (inside, outside, tunnel): Path, address: IpAddr) -> Option<Self> {
        let (module, kind, common) = match (tunnel, inside, outside) {
            (Tunnel::Other(_), ..) => return None,
            (Tunnel::Gre { .. }, _, Family::V4) => ("ip_gre", "gre", "gre0"),
            (Tunnel::Gre { .. }, _, Family::V6) => ("ip6_gre", "ip6gre", "ip6gre0"),
            (_, Family::V4, Family::V4) => ("ipip", "ipip", "tunl0"),
            (_, Family::V6, Family::V4) => ("sit", "sit", "sit0"),
            (_, _, Family::V6) => ("ip6_tunnel", "ip6tnl", "ip6tnl0"),
        };
        let has_checksum = matches!(tunnel, Tunnel::Gre { checksum: true });
        // The device that comes with ip6_tunnel takes IPv6 alone. One for an address takes all of its
        // packets from it.
        let is_too_narrow = kind == "ip6tnl" && inside == Family::V4;
        let own = own_device(kind, address);
        let has = |device: &str| facts.devices.all.contains_key(device);
        let comes = !is_loaded(facts, module) && facts.brings_tunnel_devices == Some(true);
        let is_wide_enough = !has_checksum && !is_too_narrow;
        let is_common = is_wide_enough && !has(&own) && (has(common) || comes);
        let made = || {
            let both: &[&str] = if kind == "ip6tnl" { &["mode", "any"] } else { &[] };
            let made = ["ip link add", &own, "type", kind, "local", &address.to_string()];
            let made = made.iter().chain(both).copied().chain(has_checksum.then_some("icsum"));
            made.map(str::to_owned).collect()
        };
        let gue = match tunnel {
            Tunnel::Gue { port, .. } => {
                Some((if outside == Family::V4 { "fou" } else { "fou6" }, port))
            }
            _ => None,
        };
        Some(Self {
            tunnel,
            outside,
            unpacks_ipv4: inside == Family::V4,
            module,
            made: (!is_common).then(made),
            device: if is_common { common.to_owned() } else { own },
            gue,
        })
    }

    /// Whether two unpack the same tunnel by the same device.
    fn is_same(&self, other: &Self) -> bool {
        self.tunnel == other.tunnel && self.device == other.device
    }

    /// What this host lacks to be a real server of other directors. Packets that the host sends to
    /// itself use no tunnel. The first of those with the same device has the commands that make it.
    fn lacking(&self, facts: &Facts, is_first: bool) -> Option<Finding> {
        let Self { tunnel, outside, module, device, made, gue, .. } = self;
        let (Some(up), Some(ports)) = (&facts.devices.up, &facts.udp_ports) else { return None };
        let mut finding = Finding::new(
            Severity::Limited,
            Problem::TunnelDevice(*tunnel),
            format!(
                "this host is a destination by the tunnel {tunnel}, and does not unpack what other \
                 directors send it"
            ),
            format!("Unless another device than {device} does that:"),
        );
        if is_first && !facts.devices.all.contains_key(device) {
            if !is_loaded(facts, module) {
                finding = finding.command("modprobe", &[module]);
            }
            if let Some([command, operands @ ..]) = made.as_deref() {
                let operands: Vec<_> = operands.iter().map(String::as_str).collect();
                finding = finding.command(command, &operands);
            }
        }
        if is_first && !up.contains(device) {
            finding = finding.command("ip link set", &[device, "up"]);
        }
        if let Some((fou, port)) = gue
            && !ports.contains(&(*outside, port.get()))
        {
            let add = if *outside == Family::V4 { "ip fou add" } else { "ip -6 fou add" };
            finding = finding.command("modprobe", &[fou]);
            finding = finding.command(add, &["port", &port.to_string(), "gue"]);
        }
        (!finding.commands.is_empty()).then_some(finding)
    }
}

fn is_loaded(facts: &Facts, module: &str) -> bool {
    let installed = facts.modules.installed.as_ref();
    facts.modules.loaded.contains(module)
        || installed.is_some_and(|installed| installed.builtin.contains(module))
}

/// The name of a device for tunnels of a kind to an address: at most 15 bytes.
fn own_device(kind: &str, address: IpAddr) -> String {
    let bits = match address {
        IpAddr::V4(v4) => v4.to_bits(),
        IpAddr::V6(v6) => {
            let octets = v6.octets();
            octets.chunks(4).fold(0, |fold, part| {
                fold ^ part.iter().fold(0, |bits, octet| bits << 8 | u32::from(*octet))
            })
        }
    };
    format!("{kind}{bits:08x}")
}

/// A device without an address drops unpacked packets of IPv4 unless two filters are 0, its own and
/// that of all devices: the kernel uses the greater one.
fn reverse_path(facts: &Facts, to_this_host: &[Unpacker]) -> Option<Finding> {
    let devices = &facts.devices;
    let filter = |device: &str| {
        let is_new = !devices.all.contains_key(device) && device != "all";
        devices.filters.get(if is_new { "default" } else { device }).copied().unwrap_or(0)
    };
    let of_all = filter("all");
    let unpackers = to_this_host.iter().filter(|unpacker| unpacker.unpacks_ipv4);
    let unpackers: BTreeSet<_> = unpackers.map(|unpacker| unpacker.device.as_str()).collect();
    let dropping: Vec<_> =
        unpackers.iter().copied().filter(|device| filter(device).max(of_all) > 0).collect();
    if dropping.is_empty() {
        return None;
    }
    let mut finding = Finding::new(
        Severity::Limited,
        Problem::ReversePath,
        "this host is a destination by a tunnel, and its reverse path filter drops what other \
         directors send it, unless the tunnel's device has an address and the filter is 2",
        "Have each other device filter by itself, those that come later too, and the tunnel's not at all:",
    );
    let set = |finding: Finding, device: &str, filter: u8| {
        finding.sysctl("net.ipv4.conf", device, "rp_filter", filter)
    };
    if of_all > 0 {
        let others = devices.all.keys().map(String::as_str);
        let others = others.filter(|it| !unpackers.contains(it)).chain(["default"]);
        for device in others.filter(|device| filter(device) < of_all) {
            finding = set(finding, device, of_all);
        }
        finding = set(finding, "all", 0);
    }
    // Setting `default` also sets each device whose own filter was never set.
    let sets_default = filter("default") < of_all;
    let is_filtered = |device: &str| filter(device) > 0 || sets_default;
    for device in dropping.into_iter().filter(|device| is_filtered(device)) {
        finding = set(finding, device, 0);
    }
    Some(finding)
}

#[cfg(all(test, feature = "fake"))]
mod tests {
    use super::*;
    use crate::fake::{Host, Kernel};
    use crate::model::{Destination, Service};

    fn gre() -> Ruleset {
        let web = Service::tcp([10, 0, 0, 1], 80);
        let mut rules = Ruleset::new();
        rules.insert_service(web).unwrap();
        let destination = Destination::tunnel([10, 0, 1, 1], 80, Tunnel::gre());
        rules.insert_destination(web.key, destination).unwrap();
        rules
    }

    #[test]
    fn a_tunnel_that_the_kernel_is_too_old_for_is_found() {
        for (release, is_new_enough) in [("4.19.0", false), ("5.3.18", false), ("5.4.0", true)] {
            let host = Host::of_release(&release.parse().unwrap());
            let diagnosis = Kernel::on(host).diagnose(&gre());
            let finding = diagnosis.finding(Problem::Tunnel(Tunnel::gre()));
            assert_eq!(finding.is_none(), is_new_enough, "{release}: {diagnosis}");
            assert_eq!(diagnosis.is_able(), is_new_enough, "{release}: {diagnosis}");
        }
    }

    #[test]
    fn what_a_tunnel_adds_is_told_once() {
        let mut rules = gre();
        let web = Service::tcp([10, 0, 0, 1], 80);
        for last in 2..9 {
            let destination = Destination::tunnel([10, 0, 1, last], 80, Tunnel::gre());
            rules.insert_destination(web.key, destination).unwrap();
        }
        // IPv6 in the same tunnel.
        let web = Service::tcp(std::net::Ipv6Addr::LOCALHOST, 80);
        rules.insert_service(web).unwrap();
        let destination = Destination::tunnel([10, 0, 1, 1], 80, Tunnel::gre());
        rules.insert_destination(web.key, destination).unwrap();
        let kernel = Kernel::new();
        kernel.configure(|host| {
            let mut virtual_addresses = rules.services().filter_map(|it| it.key().socket_address());
            host.local.extend(virtual_addresses.by_ref().map(|address| address.ip()));
        });
        let diagnosis = kernel.diagnose(&rules);
        assert_eq!(diagnosis.findings.len(), 1, "{diagnosis}");
        let finding = diagnosis.finding(Problem::PacketSize(Tunnel::gre())).unwrap();
        assert!(
            finding.text.starts_with("packets grow by 24 bytes in the tunnel gre"),
            "{finding}"
        );
    }

    /// Once: the family outside counted, though the filter sees what is inside. IPv6 in IPv4 was said
    /// to be dropped, and IPv4 over IPv6 was not.
    #[test]
    fn the_reverse_path_filter_drops_ipv4_alone() {
        let real4 = std::net::IpAddr::from([10, 0, 1, 1]);
        let real6 = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9).into();
        let inside4 = std::net::IpAddr::from([127, 0, 0, 1]);
        let inside6 = std::net::Ipv6Addr::LOCALHOST.into();
        let gue = Tunnel::gue(5555).unwrap();
        for (inside, real, tunnel, is_dropped) in [
            (inside4, real4, Tunnel::Ipip, true),
            (inside6, real4, Tunnel::Ipip, false),
            (inside6, real4, Tunnel::gre(), false),
            (inside4, real6, Tunnel::gre(), true),
            (inside4, real6, Tunnel::Ipip, true),
            (inside4, real6, gue, true),
            (inside6, real6, gue, false),
        ] {
            let kernel = Kernel::new();
            kernel.configure(|host| host.local.push(real));
            let web = Service::tcp(inside, 80);
            let mut rules = Ruleset::new();
            rules.insert_service(web).unwrap();
            rules.insert_destination(web.key, Destination::tunnel(real, 80, tunnel)).unwrap();
            let mut facts = Facts::gather(&kernel.proc(), Ok(Vec::new()), &rules);
            facts.devices.filters.insert("all".to_owned(), 1);
            let mut findings = Vec::new();
            judge(&facts, &rules, &mut findings);
            let dropped = findings.iter().any(|it| it.problem == Problem::ReversePath);
            assert_eq!(dropped, is_dropped, "{inside} in {tunnel} to {real}: {findings:?}");
        }
    }

    /// Once: no device was asked for.
    #[test]
    fn one_device_unpacks_all_over_ipv6() {
        let real = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
        let kernel = Kernel::new();
        kernel.configure(|host| host.local.push(real.into()));
        let mut rules = Ruleset::new();
        for inside in [[127, 0, 0, 1].into(), std::net::IpAddr::from(std::net::Ipv6Addr::LOCALHOST)]
        {
            let web = Service::tcp(inside, 80);
            rules.insert_service(web).unwrap();
            rules.insert_destination(web.key, Destination::tunnel(real, 80, Tunnel::Ipip)).unwrap();
            let by_gue = Destination::tunnel(real, 81, Tunnel::gue(5555).unwrap());
            rules.insert_destination(web.key, by_gue).unwrap();
        }
        let diagnosis = kernel.diagnose(&rules);
        let commands: Vec<_> = diagnosis.findings.iter().flat_map(|it| &it.commands).collect();
        let device = "ip6tnl20010db1";
        let made = format!("ip link add {device} type ip6tnl local 2001:db8::9 mode any");
        let up = format!("ip link set {device} up");
        let fou = ["modprobe fou6", "ip -6 fou add port 5555 gue"];
        assert_eq!(commands, ["modprobe ip6_tunnel", &made, &up, fou[0], fou[1]]);
    }

    /// A fake host has only the addresses and interfaces that it was given.
    #[test]
    fn what_a_real_server_lacks_is_found() {
        let commands = |host: &Kernel, tunnel| {
            let mut rules = Ruleset::new();
            let web = Service::tcp([127, 0, 0, 1], 80);
            rules.insert_service(web).unwrap();
            let real = Destination::tunnel([10, 0, 1, 1], 80, tunnel);
            rules.insert_destination(web.key, real).unwrap();
            let diagnosis = host.diagnose(&rules);
            let finding = diagnosis.finding(Problem::TunnelDevice(tunnel));
            finding.map(|finding| finding.commands.clone()).unwrap_or_default()
        };
        let kernel = Kernel::new();
        assert!(commands(&kernel, Tunnel::gre()).is_empty(), "another host's");
        kernel.configure(|host| host.local.push([10, 0, 1, 1].into()));
        // It is not known whether the module brings its device.
        let own = "ip link add gre0a000101 type gre local 10.0.1.1";
        let up = "ip link set gre0a000101 up";
        assert_eq!(commands(&kernel, Tunnel::gre()), ["modprobe ip_gre", own, up]);
        kernel.configure(|host| host.interfaces.push(crate::fake::Interface::new("gre0")));
        assert!(commands(&kernel, Tunnel::gre()).is_empty());
        let checked = Tunnel::gre().checksum(TunnelChecksum::Full);
        let own = format!("{own} icsum");
        assert_eq!(commands(&kernel, checked), ["modprobe ip_gre", &own, up]);
        kernel.configure(|host| host.interfaces.push(crate::fake::Interface::new("gre0a000101")));
        assert!(commands(&kernel, checked).is_empty());
    }
    /// Once: both had the same device, and the command of one of them was left out.
    #[test]
    fn gre_with_a_checksum_and_without_needs_two_addresses() {
        let checked = Tunnel::gre().checksum(TunnelChecksum::Full);
        let findings = |last| {
            let kernel = Kernel::new();
            kernel
                .configure(|host| host.local.extend([1, 2].map(|it| IpAddr::from([10, 0, 1, it]))));
            let mut rules = Ruleset::new();
            for (port, last, tunnel) in [(80, 1, Tunnel::gre()), (81, last, checked)] {
                let web = Service::tcp([127, 0, 0, 1], port);
                rules.insert_service(web).unwrap();
                let real = Destination::tunnel([10, 0, 1, last], 80, tunnel);
                rules.insert_destination(web.key, real).unwrap();
            }
            let findings = kernel.diagnose(&rules).findings.into_iter();
            let findings = findings.filter(|it| matches!(it.problem, Problem::TunnelDevice(_)));
            findings.map(|it| (it.problem, it.commands.is_empty())).collect::<Vec<_>>()
        };
        let [plain, checked] = [Tunnel::gre(), checked].map(Problem::TunnelDevice);
        assert_eq!(findings(1), [(checked, true)]);
        assert_eq!(findings(2), [(plain, false), (checked, false)]);
    }
}
