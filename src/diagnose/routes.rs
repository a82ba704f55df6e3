//! Where a host sends packets: the routes of the main table for IPv4, and those of all tables for
//! IPv6, which procfs does not tell apart. The device is not known if the routes to a network lead
//! to different devices, or if other tables than those that each host has may decide.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::lines;

/// Networks, as prefix length and address, with the best route to each.
#[derive(Debug, Default)]
pub(super) struct Routes {
    networks: BTreeMap<(u8, IpAddr), Route>,
    /// The tables whose routes are not among these; `None` if no route is known.
    unshown_ipv4: Option<Unshown>,
    unshown_ipv6: Option<Unshown>,
    /// The devices with routes that came by router advertisement.
    pub(super) advertised: BTreeSet<String>,
}

/// The tables of a family whose routes are not known by table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Unshown {
    #[default]
    None,
    /// The table `default` alone, which decides where the main table has no route.
    Default,
    /// Tables that may decide before the main table.
    Any,
}

#[derive(Debug)]
struct Route {
    way: Way<String>,
    metric: u32,
}

/// The device by which packets leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way<Name> {
    By(Name),
    /// No route leads to the address.
    Nowhere,
    /// A route drops the packets, as its operator wants: a blackhole, or an unreachable or prohibited
    /// network.
    Dropped,
    /// The routes cannot be read, those of another table may decide, or packets leave by another device
    /// than the one that is shown.
    Unknown,
}

impl<'a> Way<&'a str> {
    /// The device, if it is known.
    pub(super) fn device(self) -> Option<&'a str> {
        match self {
            Self::By(device) => Some(device),
            Self::Nowhere | Self::Dropped | Self::Unknown => None,
        }
    }
}

/// Flags of [route.h] and [ipv6_route.h].
///
/// [route.h]: https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/route.h
/// [ipv6_route.h]: https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/ipv6_route.h
const UP: u32 = 0x1;
const REJECT: u32 = 0x200;
const ADDRCONF: u32 = 0x4_0000;
const LOCAL: u32 = 0x8000_0000;

/// The metric of the entry that stands for "no route" in each table of IPv6.
const NO_ROUTE: u32 = u32::MAX;

/// A line of a routing table.
struct TableLine<'a> {
    network: (u8, IpAddr),
    device: &'a str,
    metric: u32,
    flags: u32,
    /// Whether the route is for packets of some sources alone.
    is_of_source: bool,
}

impl<'a> TableLine<'a> {
    /// Reads a line of `net/route`: `eth0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t…`, whose
    /// addresses are numbers in the host's byte order.
    fn of_ipv4(line: &'a str) -> Option<Self> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [device, network, _, flags, _, _, metric, mask, ..] = words[..] else {
            return None;
        };
        let address = Ipv4Addr::from(bits(network)?.to_ne_bytes());
        let length = u8::try_from(bits(mask)?.count_ones()).ok()?;
        // The kernel prints a metric above 2147483647 as a negative number.
        let metric =
            metric.parse::<u32>().or_else(|_| metric.parse::<i32>().map(i32::cast_unsigned));
        let (metric, flags) = (metric.ok()?, bits(flags)?);
        let network = (length, address.into());
        Some(Self { network, device, metric, flags, is_of_source: false })
    }

    /// Reads a line of `net/ipv6_route`: destination, source, gateway, metric, two counters, flags,
    /// device, all numbers hexadecimal.
    fn of_ipv6(line: &'a str) -> Option<Self> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [network, length, _, of_source, _, metric, _, _, flags, device, ..] = words[..] else {
            return None;
        };
        let address = Ipv6Addr::from_bits(u128::from_str_radix(network, 16).ok()?);
        let network = (u8::from_str_radix(length, 16).ok()?, address.into());
        let (metric, flags) = (bits(metric)?, bits(flags)?);
        Some(Self { network, device, metric, flags, is_of_source: bits(of_source)? != 0 })
    }
}

fn bits(word: &str) -> Option<u32> {
    u32::from_str_radix(word, 16).ok()
}

impl Routes {
    /// Takes `net/route`, which has the routes of the main table, and the devices that are up, if they
    /// are known.
    pub(super) fn add_ipv4(&mut self, text: &str, unshown: Unshown, up: Option<&BTreeSet<String>>) {
        let is_heading = |line: &&str| line.starts_with("Iface\tDestination");
        let lines = text.lines().filter(|line| !is_heading(line));
        let Some(lines) = lines::read(lines, TableLine::of_ipv4) else { return };
        self.unshown_ipv4 = Some(unshown);
        for line in lines {
            self.add(&line, up);
        }
    }

    /// Takes `net/ipv6_route`. Returns the networks whose packets are for this host, if they can be
    /// read.
    pub(super) fn add_ipv6(&mut self, text: &str) -> Option<Vec<(u8, IpAddr)>> {
        let lines = lines::read(text.lines(), TableLine::of_ipv6)?;
        // Each table has a line for all addresses at least, a default route or the entry for "no route",
        // and each host has the tables `local` and `main`. More such lines may be those of one table with
        // several default routes, which the file does not tell.
        let of_all_addresses = lines.iter().filter(|line| line.network.0 == 0).count();
        self.unshown_ipv6 = Some(if of_all_addresses > 2 { Unshown::Any } else { Unshown::None });
        let (local, others): (Vec<_>, Vec<_>) =
            lines.into_iter().partition(|line| line.flags & LOCAL != 0);
        for line in others.iter().filter(|line| !line.is_of_source) {
            self.add(line, None);
        }
        Some(local.into_iter().map(|line| line.network).collect())
    }

    fn add(&mut self, line: &TableLine<'_>, up: Option<&BTreeSet<String>>) {
        let TableLine { network, device, metric, flags, .. } = *line;
        if flags & UP == 0 && flags & REJECT == 0 {
            return;
        }
        if flags & ADDRCONF != 0 && device != "lo" {
            self.advertised.insert(device.to_owned());
        }
        // Routes that drop packets have no device, and those of IPv4 have no flag either.
        let drops = flags & REJECT != 0 || device == "*";
        let way = if drops && network.1.is_ipv6() && metric == NO_ROUTE {
            Way::Nowhere
        } else if drops {
            Way::Dropped
        } else if up.is_some_and(|up| !up.contains(device)) {
            // Of a route with several next hops the file shows the first alone. The kernel keeps such a
            // route as long as the device of another one is up.
            Way::Unknown
        } else {
            Way::By(device.to_owned())
        };
        match self.networks.entry(network) {
            Entry::Vacant(entry) => {
                entry.insert(Route { way, metric });
            }
            Entry::Occupied(mut known) => known.get_mut().meet(way, metric, network.1.is_ipv6()),
        }
    }

    /// The way of packets to an address: that of the network with the longest prefix.
    pub(super) fn way(&self, address: IpAddr) -> Way<&str> {
        let unshown = if address.is_ipv4() { self.unshown_ipv4 } else { self.unshown_ipv6 };
        match (unshown, self.shown_way(address)) {
            (None | Some(Unshown::Any), _) | (Some(Unshown::Default), Way::Nowhere) => Way::Unknown,
            (Some(Unshown::None | Unshown::Default), way) => way,
        }
    }

    fn shown_way(&self, address: IpAddr) -> Way<&str> {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let lengths = (0..=longest).rev();
        let mut routes = lengths.filter_map(|length| self.networks.get(&network(address, length)));
        let Some(route) = routes.next() else { return Way::Nowhere };
        match &route.way {
            Way::By(device) => Way::By(device),
            Way::Nowhere => Way::Nowhere,
            Way::Dropped => Way::Dropped,
            Way::Unknown => Way::Unknown,
        }
    }
}

impl Route {
    /// Takes another route to the same network. Within one table the lower metric wins.
    fn meet(&mut self, way: Way<String>, metric: u32, is_of_any_table: bool) {
        if is_of_any_table && self.way != way && metric.max(self.metric) < NO_ROUTE {
            self.way = Way::Unknown;
        } else if metric < self.metric {
            *self = Self { way, metric };
        }
    }
}

/// The network with this prefix length that an address is in.
pub(super) fn network(address: IpAddr, length: u8) -> (u8, IpAddr) {
    let network = match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    };
    (length, network)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(device: &str) -> Way<String> {
        Way::By(device.to_owned())
    }

    fn way(routes: &Routes, address: IpAddr) -> Way<String> {
        match routes.way(address) {
            Way::By(device) => by(device),
            Way::Nowhere => Way::Nowhere,
            Way::Dropped => Way::Dropped,
            Way::Unknown => Way::Unknown,
        }
    }

    #[test]
    fn the_best_route_counts() {
        let mut routes = Routes::default();
        let hex = |a: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(a));
        let line = |device: &str, network, flags: u32, metric: u32, mask| {
            let (network, mask) = (hex(network), hex(mask));
            format!("{device}\t{network}\t00000000\t{flags:04X}\t0\t0\t{metric}\t{mask}\t0\t0\t0\n")
        };
        let text = [
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
                .to_owned(),
            line("slow", [0; 4], 3, 600, [0; 4]),
            line("fast", [0; 4], 3, 100, [0; 4]),
            line("near", [10, 0, 0, 0], 1, 0, [255, 0, 0, 0]),
            line("*", [10, 9, 0, 0], 0x201, 0, [255, 255, 0, 0]),
            line("*", [10, 8, 0, 0], 0x1, 0, [255, 255, 0, 0]),
            line("last", [11, 0, 0, 0], 0x1, 0, [255, 0, 0, 0]).replace("\t0\tFF", "\t-1\tFF"),
        ]
        .concat();
        routes.add_ipv4(&text, Unshown::None, None);
        let device = |address: [u8; 4]| routes.way(address.into()).device();
        assert_eq!(device([192, 0, 2, 1]), Some("fast"));
        assert_eq!(device([10, 1, 0, 1]), Some("near"));
        assert_eq!(device([10, 9, 0, 1]), None);
        assert_eq!(device([10, 8, 0, 1]), None);
        assert_eq!(device([11, 0, 0, 1]), Some("last"));

        let zero = "00000000000000000000000000000000";
        let net = "20010db8000000000000000000000000";
        let text = format!(
            "{net} 40 {zero} 00 {zero} 00000100 00000001 00000000 00040001     eth0\n\
             {zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00450003     eth1\n\
             {net} 80 {zero} 00 {zero} 00000000 00000002 00000000 80200001     lo\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n"
        );
        let local = routes.add_ipv6(&text);
        let address = |last| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last));
        assert_eq!(local, Some(vec![(128, address(0))]));
        assert_eq!(routes.way(address(1)), Way::By("eth0"));
        assert_eq!(routes.way(Ipv6Addr::LOCALHOST.into()), Way::By("eth1"));
        assert_eq!(routes.advertised, BTreeSet::from(["eth0", "eth1"].map(str::to_owned)));
    }

    /// Once: the main table counted though a rule may send packets to another table.
    #[test]
    fn if_other_tables_may_decide_the_way_is_not_known() {
        let text = "eth0\t00000000\t00000000\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
        let ways = |text, unshown| {
            let mut routes = Routes::default();
            routes.add_ipv4(text, unshown, None);
            way(&routes, [192, 0, 2, 1].into())
        };
        assert_eq!(ways(text, Unshown::None), by("eth0"));
        assert_eq!(ways(text, Unshown::Default), by("eth0"));
        assert_eq!(ways(text, Unshown::Any), Way::Unknown);
        assert_eq!(ways("", Unshown::None), Way::Nowhere);
        assert_eq!(ways("", Unshown::Default), Way::Unknown);
        assert_eq!(Routes::default().way([192, 0, 2, 1].into()), Way::Unknown);
    }

    /// Once: the device of the lower metric was taken, though its route can be in a table by which
    /// no packet to the address is sent.
    #[test]
    fn of_ipv6_routes_of_different_tables_the_device_is_not_known() {
        let zero = "00000000000000000000000000000000";
        let line = |network: &str, length: &str, metric: &str, flags: &str, device: &str| {
            format!(
                "{network} {length} {zero} 00 {zero} {metric} 00000001 00000000 {flags} {device}\n"
            )
        };
        let near = "20010db8000000000000000000000000";
        let far = "20010db8000100000000000000000000";
        let ways = |lines: &[String]| {
            let mut routes = Routes::default();
            routes.add_ipv6(&lines.concat());
            let address = |third| Ipv6Addr::new(0x2001, 0xdb8, third, 0, 0, 0, 0, 1);
            [0, 1, 2].map(|third| way(&routes, address(third).into()))
        };
        let default = |metric, device| line(zero, "00", metric, "00000003", device);
        let none = line(zero, "00", "ffffffff", "00200200", "lo");
        let networks = [
            line(near, "30", "00000100", "00000001", "eth0"),
            line(far, "30", "00000100", "00000001", "eth1"),
        ]
        .concat();
        assert_eq!(ways(&[networks.clone(), none.clone()]), [by("eth0"), by("eth1"), Way::Nowhere]);
        let one = [networks.clone(), default("00000400", "eth2"), none.clone()];
        assert_eq!(ways(&one), [by("eth0"), by("eth1"), by("eth2")]);
        // If two tables have a default route, packets to any network may be routed by either, even if
        // both name the same device.
        let same = [
            default("00000400", "eth2"),
            networks.clone(),
            default("00000400", "eth2"),
            none.clone(),
        ];
        assert_eq!(ways(&same), [Way::Unknown, Way::Unknown, Way::Unknown]);
        let two = [
            networks.clone(),
            none.clone(),
            default("00000400", "eth2"),
            default("00000064", "eth3"),
        ];
        assert_eq!(ways(&two), [Way::Unknown, Way::Unknown, Way::Unknown]);
        // Each table has an entry for "no route", unless it has a default route.
        let third = [networks.clone(), none.clone(), none.clone(), none];
        assert_eq!(ways(&third), [Way::Unknown, Way::Unknown, Way::Unknown]);
        let other = line(near, "30", "00000400", "00000001", "eth3");
        assert_eq!(ways(&[networks, other]), [Way::Unknown, by("eth1"), Way::Nowhere]);
    }
    /// Once: such a route was none, and a device that is down was the way of a route with several next hops.
    #[test]
    fn routes_that_drop_and_next_hops_that_are_down_are_told_apart() {
        let line = |device: &str, network, flags| {
            let network = u32::from_ne_bytes([10, network, 0, 0]);
            let mask = u32::from_ne_bytes([255, 255, 0, 0]);
            format!("{device}\t{network:08X}\t00000000\t{flags}\t0\t0\t0\t{mask:08X}\t0\t0\t0\n")
        };
        let text = [
            line("*", 1, "0001"),
            line("*", 2, "0201"),
            line("up", 3, "0001"),
            line("down", 4, "0001"),
        ]
        .concat();
        let ways = |up: Option<&BTreeSet<String>>| {
            let mut routes = Routes::default();
            routes.add_ipv4(&text, Unshown::None, up);
            [1, 2, 3, 4, 5].map(|second| way(&routes, [10, second, 0, 1].into()))
        };
        let up = BTreeSet::from(["up".to_owned()]);
        let ways_by = |fourth| [Way::Dropped, Way::Dropped, by("up"), fourth, Way::Nowhere];
        assert_eq!(ways(Some(&up)), ways_by(Way::Unknown));
        assert_eq!(ways(None), ways_by(by("down")));

        let zero = "00000000000000000000000000000000";
        let net = "20010db8000000000000000000000000";
        let text = format!(
            "{net} 20 {zero} 00 {zero} 00000400 00000001 00000000 00200200       lo\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n"
        );
        let mut routes = Routes::default();
        routes.add_ipv6(&text);
        assert_eq!(
            way(&routes, Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
            Way::Dropped
        );
        assert_eq!(way(&routes, Ipv6Addr::LOCALHOST.into()), Way::Nowhere);
    }

    /// Once: lines with a column more were passed over, and a host that has routes had none.
    #[test]
    fn files_of_newer_kernels_are_read_or_not_known() {
        let zero = "00000000000000000000000000000000";
        let line =
            format!("{zero} 00 {zero} 00 {zero} 00000400 00000001 00000000 00000003     eth0");
        let ipv6 = |text: &str| {
            let mut routes = Routes::default();
            let local = routes.add_ipv6(text);
            (local, way(&routes, Ipv6Addr::LOCALHOST.into()))
        };
        assert_eq!(ipv6(&format!("{line}\n")), (Some(Vec::new()), by("eth0")));
        assert_eq!(ipv6(&format!("{line}  main 7\n")), (Some(Vec::new()), by("eth0")));
        assert_eq!(ipv6("::/0 eth0\n"), (None, Way::Unknown));
        assert_eq!(ipv6(""), (Some(Vec::new()), Way::Nowhere));
        let ipv4 = |text: &str| {
            let mut routes = Routes::default();
            routes.add_ipv4(text, Unshown::None, None);
            way(&routes, [192, 0, 2, 1].into())
        };
        let heading = "Iface\tDestination\tGateway \tFlags\n";
        assert_eq!(ipv4(heading), Way::Nowhere);
        assert_eq!(ipv4(&format!("{heading}eth0\t0.0.0.0\n")), Way::Unknown);
    }
}
