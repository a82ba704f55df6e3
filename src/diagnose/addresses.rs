//! The addresses of the host, by the tables of its routes and interfaces.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::lines;
use super::routes::{Unshown, network};

/// A network, as prefix length and address.
type Network = (u8, IpAddr);

/// The addresses of the host. For a family whose files cannot be read nothing is known.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// The networks whose packets are for this host.
    ipv4: Option<BTreeSet<Network>>,
    /// The same for IPv6. The routes of all tables are among them, so a network of more than one
    /// address counts for some packets at least.
    ipv6: Option<BTreeSet<Network>>,
    broadcast: BTreeSet<Network>,
    /// The IPv6 addresses that another host has as well, for which reason this one does not use
    /// them.
    duplicates: BTreeSet<IpAddr>,
    /// The IPv6 addresses of interfaces that the host does not use yet.
    unused: BTreeSet<IpAddr>,
}

/// The facts of `net/fib_trie`.
#[derive(Debug, Default)]
pub(super) struct Trie {
    local: BTreeSet<Network>,
    broadcast: BTreeSet<Network>,
    /// The tables that `net/route` does not show.
    pub(super) unshown: Unshown,
}

/// A table of IPv4 routes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TableName {
    Local,
    Main,
    Other,
}

/// The flags of an address under duplicate address detection, of [if_addr.h]: one that failed, one that is
/// not in use before the detection ends, and one that is in use all the same.
///
/// [if_addr.h]: https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/if_addr.h
const FAILED: u32 = 0x08;
const TENTATIVE: u32 = 0x40;
const OPTIMISTIC: u32 = 0x04;

impl Addresses {
    /// Takes `net/fib_trie`, `net/if_inet6`, and the local networks of `net/ipv6_route`, which decide
    /// whether the address of an interface is in use.
    pub(super) fn new(
        trie: Option<Trie>,
        interfaces: Option<&str>,
        local_ipv6: Option<Vec<Network>>,
    ) -> Self {
        let mut addresses = Self::default();
        if let Some(Trie { local, broadcast, .. }) = trie {
            addresses.ipv4 = Some(local);
            addresses.broadcast = broadcast;
        }
        let Some(interfaces) = interfaces.and_then(addresses_of_ipv6) else { return addresses };
        let has_routes = local_ipv6.is_some();
        let mut local: BTreeSet<_> = local_ipv6.into_iter().flatten().collect();
        for (address, flags) in interfaces {
            let waits = flags & TENTATIVE != 0 && flags & OPTIMISTIC == 0;
            if flags & FAILED != 0 {
                addresses.duplicates.insert(address);
            } else if has_routes || waits {
                addresses.unused.insert(address);
            } else {
                local.insert((128, address));
            }
        }
        addresses.unused.retain(|address| !local.contains(&(128, *address)));
        addresses.ipv6 = Some(local);
        addresses
    }

    /// Whether an address is the host's own.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        let (local, whole) = self.local(address);
        local.is_some_and(|local| local.contains(&(whole, address)))
    }

    /// Whether packets to an address are for this host; `None` if this is not known.
    pub(super) fn is_local(&self, address: IpAddr) -> Option<bool> {
        let (local, whole) = self.local(address);
        let is_in = contains(local?, address);
        if is_in && whole == 128 && !self.has(address) { None } else { Some(is_in) }
    }

    /// The kind of an address that can be no host's, if it is one.
    pub(super) fn kind_of_none(&self, address: IpAddr) -> Option<&'static str> {
        let is_broadcast = address == IpAddr::from(Ipv4Addr::BROADCAST)
            || contains(&self.broadcast, address) && !self.has(address);
        if address.is_unspecified() {
            Some("the unspecified address")
        } else if address.is_multicast() {
            Some("a multicast address")
        } else {
            is_broadcast.then_some("a broadcast address")
        }
    }

    /// Whether another host has an IPv6 address that this host has, too.
    pub(super) fn is_duplicate(&self, address: IpAddr) -> bool {
        self.duplicates.contains(&address) && !self.has(address)
    }

    /// Whether an interface has an IPv6 address that the host does not use yet.
    pub(super) fn is_unused(&self, address: IpAddr) -> bool {
        self.unused.contains(&address)
    }

    /// The local networks of an address's family, and the length of a whole address.
    fn local(&self, address: IpAddr) -> (Option<&BTreeSet<Network>>, u8) {
        if address.is_ipv4() { (self.ipv4.as_ref(), 32) } else { (self.ipv6.as_ref(), 128) }
    }
}

fn contains(networks: &BTreeSet<Network>, address: IpAddr) -> bool {
    let longest = if address.is_ipv4() { 32 } else { 128 };
    (0..=longest).any(|length| networks.contains(&network(address, length)))
}

impl Trie {
    /// Takes `net/fib_trie`: the name of a table, `Local:`, `Main:` or `Id 100:`, before its routes,
    /// and the line of an address before the lines of its types, `/32 host LOCAL`. If none of these can be
    /// read, the file's form is not known.
    pub(super) fn of(text: &str) -> Option<Self> {
        let mut trie = Self::default();
        let mut table = TableName::Other;
        let mut last: Option<IpAddr> = None;
        let mut is_read = text.is_empty();
        for line in text.lines() {
            if let Some(name) = line.strip_suffix(':') {
                table = trie.begin(name);
            } else if let Some(address) = line.trim().strip_prefix("|-- ") {
                last = address.parse().ok();
            } else if let Some(address) = last {
                is_read |= trie.add(table, address, line.trim()).is_some();
            }
        }
        is_read.then_some(trie)
    }

    fn begin(&mut self, name: &str) -> TableName {
        let (table, unshown) = match name {
            "Local" => (TableName::Local, Unshown::None),
            "Main" => (TableName::Main, Unshown::None),
            "Id 253" => (TableName::Other, Unshown::Default),
            _ => (TableName::Other, Unshown::Any),
        };
        self.unshown = self.unshown.max(unshown);
        table
    }

    /// Packets are looked up in the table `local` before all others, and in `main` for all of them.
    /// The kernel shows both as one until a rule is added. Other tables count for some packets
    /// alone, as a transparent proxy's does. A device for virtual routing has its addresses in one.
    fn add(&mut self, table: TableName, address: IpAddr, line: &str) -> Option<()> {
        let mut words = line.split_ascii_whitespace();
        let length = words.next()?.strip_prefix('/')?.parse::<u8>().ok()?;
        let network = (length, address);
        match words.nth(1) {
            Some("LOCAL") if table != TableName::Other || network.0 == 32 => {
                self.local.insert(network);
            }
            Some("BROADCAST") if table == TableName::Local => {
                self.broadcast.insert(network);
            }
            _ => {}
        }
        Some(())
    }
}

/// The addresses of `net/if_inet6` with their flags.
fn addresses_of_ipv6(interfaces: &str) -> Option<Vec<(IpAddr, u32)>> {
    lines::read(interfaces.lines(), |line| {
        let mut words = line.split_ascii_whitespace();
        let bits = u128::from_str_radix(words.next()?, 16).ok()?;
        let flags = u32::from_str_radix(words.nth(3)?, 16).ok()?;
        Some((Ipv6Addr::from_bits(bits).into(), flags))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIE: &str = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.0.0\n        /24 link UNICAST\n\
        Local:\n     |-- 10.0.0.7\n        /32 host LOCAL\n     |-- 10.0.0.255\n\
        \x20       /32 link BROADCAST\n     |-- 127.0.0.0\n        /8 host LOCAL tos=0x10\n";

    fn of_ipv4(trie: &str) -> Addresses {
        Addresses::new(Trie::of(trie), None, None)
    }

    #[test]
    fn addresses_of_ipv4_are_read() {
        let addresses = of_ipv4(TRIE);
        assert!(addresses.has([10, 0, 0, 7].into()));
        assert!(!addresses.has([127, 1, 2, 3].into()));
        assert_eq!(addresses.is_local([127, 1, 2, 3].into()), Some(true));
        assert_eq!(addresses.is_local([10, 0, 0, 8].into()), Some(false));
        let kind = |address: [u8; 4]| addresses.kind_of_none(address.into());
        assert_eq!(kind([10, 0, 0, 255]), Some("a broadcast address"));
        assert_eq!(kind([10, 0, 0, 7]), None);
        assert_eq!(addresses.is_local(Ipv6Addr::LOCALHOST.into()), None);
    }

    /// Once: with the route of a transparent proxy, every IPv4 address was this host's.
    #[test]
    fn a_table_that_counts_for_some_packets_makes_no_address_the_hosts() {
        let addresses = of_ipv4(&format!("Id 100:\n  |-- 0.0.0.0\n     /0 host LOCAL\n{TRIE}"));
        assert_eq!(addresses.is_local([192, 0, 2, 1].into()), Some(false));
        assert_eq!(addresses.is_local([10, 0, 0, 7].into()), Some(true));
        let addresses = of_ipv4(&format!("{TRIE}Id 10:\n  |-- 10.9.0.1\n     /32 host LOCAL\n"));
        assert_eq!(addresses.is_local([10, 9, 0, 1].into()), Some(true));

        let everything = (0, IpAddr::from(Ipv6Addr::UNSPECIFIED));
        let localhost = "00000000000000000000000000000001 01 80 10 80       lo\n";
        let own = (128, IpAddr::from(Ipv6Addr::LOCALHOST));
        let addresses = Addresses::new(None, Some(localhost), Some(vec![own, everything]));
        assert_eq!(addresses.is_local(Ipv6Addr::LOCALHOST.into()), Some(true));
        let other = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7).into();
        assert_eq!(addresses.is_local(other), None);
        assert_eq!(
            Addresses::new(None, Some(localhost), Some(vec![own])).is_local(other),
            Some(false)
        );
    }

    #[test]
    fn tables_that_are_not_shown_as_routes_are_known() {
        let unshown = |trie: &str| Trie::of(trie).map(|trie| trie.unshown);
        assert_eq!(unshown(TRIE), Some(Unshown::None));
        assert_eq!(unshown(&format!("Id 253:\n{TRIE}")), Some(Unshown::Default));
        assert_eq!(unshown(&format!("Id 100:\n{TRIE}Id 253:\n")), Some(Unshown::Any));
        assert_eq!(unshown(""), Some(Unshown::None));
    }

    /// Once: such an address counted as the host's.
    #[test]
    fn an_address_that_another_host_has_is_not_the_hosts() {
        let interfaces = "20010db8000000000000000000000007 02 40 00 80     eth0\n\
                          20010db8000000000000000000000008 02 40 00 c8     eth0\n";
        let addresses = Addresses::new(None, Some(interfaces), None);
        let [own, duplicate] =
            [7, 8].map(|last| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)));
        assert!(addresses.has(own) && !addresses.is_duplicate(own));
        assert!(!addresses.has(duplicate) && addresses.is_duplicate(duplicate));
        assert_eq!(addresses.is_local(duplicate), Some(false));
    }

    /// Once: such an address counted as the host's.
    #[test]
    fn an_address_that_is_not_in_use_yet_is_not_the_hosts() {
        // Tentative; tentative and optimistic; without duplicate address detection; failed.
        let interfaces = "20010db8000000000000000000000001 02 40 00 c0     eth0\n\
                          20010db8000000000000000000000002 02 40 00 44     eth0\n\
                          20010db8000000000000000000000003 02 40 00 82     eth0\n\
                          20010db8000000000000000000000004 02 40 00 c8     eth0\n";
        let address = |last| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last));
        let facts = |addresses: &Addresses| {
            [1, 2, 3, 4]
                .map(|last| (addresses.has(address(last)), addresses.is_unused(address(last))))
        };
        let (own, unused, other) = ((true, false), (false, true), (false, false));
        let by_flags = Addresses::new(None, Some(interfaces), None);
        assert_eq!(facts(&by_flags), [unused, own, own, other]);
        assert_eq!(by_flags.is_local(address(1)), Some(false));
        // The routes decide, if they are known.
        let local = [1, 2].map(|last| (128, address(last))).to_vec();
        let by_routes = Addresses::new(None, Some(interfaces), Some(local));
        assert_eq!(facts(&by_routes), [own, own, unused, other]);
    }

    /// Once: in a file of an unknown form the host had no address.
    #[test]
    fn files_that_cannot_be_read_are_not_empty() {
        assert!(Trie::of("Main:\n  10.0.0.0/24 UNICAST\nLocal:\n  10.0.0.7/32 LOCAL\n").is_none());
        let addresses = |interfaces| Addresses::new(None, Some(interfaces), Some(Vec::new()));
        let localhost = Ipv6Addr::LOCALHOST.into();
        assert_eq!(addresses("::1/128 lo\n").is_local(localhost), None);
        assert_eq!(addresses("").is_local(localhost), Some(false));
    }
}
