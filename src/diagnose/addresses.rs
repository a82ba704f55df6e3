//! The addresses of the host, by the tables of its routes and interfaces.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

/// The flag of an address that failed duplicate address detection, of [if_addr.h].
///
/// [if_addr.h]: https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/if_addr.h
const FAILED: u32 = 0x08;

impl Addresses {
    /// Takes `net/fib_trie`, `net/if_inet6`, and the local networks of `net/ipv6_route`.
    pub(super) fn new(
        trie: Option<Trie>,
        interfaces: Option<&str>,
        local_ipv6: impl IntoIterator<Item = Network>,
    ) -> Self {
        let mut addresses = Self::default();
        if let Some(Trie { local, broadcast, .. }) = trie {
            addresses.ipv4 = Some(local);
            addresses.broadcast = broadcast;
        }
        if let Some(interfaces) = interfaces {
            let mut local: BTreeSet<_> = local_ipv6.into_iter().collect();
            for (address, flags) in addresses_of_ipv6(interfaces) {
                if flags & FAILED == 0 {
                    local.insert((128, address));
                } else {
                    addresses.duplicates.insert(address);
                }
            }
            addresses.ipv6 = Some(local);
        }
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
    /// and the line of an address before the lines of its types, `/32 host LOCAL`.
    pub(super) fn of(text: &str) -> Self {
        let mut trie = Self::default();
        let mut table = TableName::Other;
        let mut last: Option<IpAddr> = None;
        for line in text.lines() {
            if let Some(name) = line.strip_suffix(':') {
                table = trie.begin(name);
            } else if let Some(address) = line.trim().strip_prefix("|-- ") {
                last = address.parse().ok();
            } else if let Some(address) = last {
                trie.add(table, address, line.trim());
            }
        }
        trie
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
    fn add(&mut self, table: TableName, address: IpAddr, line: &str) {
        let mut words = line.split_ascii_whitespace();
        let length = words.next().and_then(|word| word.strip_prefix('/')?.parse::<u8>().ok());
        let Some(network) = length.map(|length| (length, address)) else { return };
        match words.nth(1) {
            Some("LOCAL") if table != TableName::Other || network.0 == 32 => {
                self.local.insert(network);
            }
            Some("BROADCAST") if table == TableName::Local => {
                self.broadcast.insert(network);
            }
            _ => {}
        }
    }
}

/// The addresses of `net/if_inet6` with their flags.
fn addresses_of_ipv6(interfaces: &str) -> impl Iterator<Item = (IpAddr, u32)> {
    interfaces.lines().filter_map(|line| {
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
        Addresses::new(Some(Trie::of(trie)), None, [])
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
        let addresses = Addresses::new(None, Some(localhost), [everything]);
        assert_eq!(addresses.is_local(Ipv6Addr::LOCALHOST.into()), Some(true));
        let other = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7).into();
        assert_eq!(addresses.is_local(other), None);
        assert_eq!(Addresses::new(None, Some(localhost), []).is_local(other), Some(false));
    }

    #[test]
    fn tables_that_are_not_shown_as_routes_are_known() {
        let unshown = |trie: &str| Trie::of(trie).unshown;
        assert_eq!(unshown(TRIE), Unshown::None);
        assert_eq!(unshown(&format!("Id 253:\n{TRIE}")), Unshown::Default);
        assert_eq!(unshown(&format!("Id 100:\n{TRIE}Id 253:\n")), Unshown::Any);
    }

    /// Once: such an address counted as the host's.
    #[test]
    fn an_address_that_another_host_has_is_not_the_hosts() {
        let interfaces = "20010db8000000000000000000000007 02 40 00 80     eth0\n\
                          20010db8000000000000000000000008 02 40 00 c8     eth0\n";
        let addresses = Addresses::new(None, Some(interfaces), []);
        let [own, duplicate] =
            [7, 8].map(|last| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)));
        assert!(addresses.has(own) && !addresses.is_duplicate(own));
        assert!(!addresses.has(duplicate) && addresses.is_duplicate(duplicate));
        assert_eq!(addresses.is_local(duplicate), Some(false));
    }
}
