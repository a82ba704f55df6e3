//! Networks: an address with a prefix length.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use anyhow::{Context as _, Error, ensure};
use ipvs_netlink::Family;

use crate::addresses::parse_as_written;

/// A network, as `10.244.0.0/16` or `fd00::/64`. Bits behind the prefix are 0.
///
/// Networks order by address, and of one address the larger one comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// The prefix length of the IPv6 addresses that stand for IPv4's, as `::ffff:10.0.0.1`.
const MAPPED: u8 = 96;

impl Network {
    /// The network of this prefix length that the address is in; a prefix beyond the address's length is its length. One
    /// of IPv4 addresses in IPv6's clothes is of IPv4.
    pub fn new(address: IpAddr, prefix: u8) -> Self {
        let (address, prefix) = match (address, address.to_canonical()) {
            (IpAddr::V6(_), v4 @ IpAddr::V4(_)) if prefix >= MAPPED => (v4, prefix - MAPPED),
            _ => (address, prefix),
        };
        match address {
            IpAddr::V4(v4) => {
                let prefix = prefix.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                Self { address: IpAddr::V4((v4.to_bits() & mask).into()), prefix }
            }
            IpAddr::V6(v6) => {
                let prefix = prefix.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                Self { address: IpAddr::V6((v6.to_bits() & mask).into()), prefix }
            }
        }
    }

    /// The first of its addresses.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits of an address say whether it is in the network.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Its family.
    pub fn family(&self) -> Family {
        Family::from(self.address)
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        Family::from(address) == self.family() && Self::new(address, self.prefix) == *self
    }

    /// Whether all of another network is in it.
    pub fn covers(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }

    /// Those that no other of them covers. Networks are either disjoint or one within the other, so none overlap then,
    /// which nft's sets of intervals insist on.
    pub fn without_covered(networks: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut all: Vec<_> = networks.into_iter().collect();
        // What covers a network comes before it, and between the two stands only what it covers, too.
        all.sort_unstable();
        let mut kept: Vec<Self> = Vec::new();
        for network in all {
            if !kept.last().is_some_and(|last| last.covers(&network)) {
                kept.push(network);
            }
        }
        kept
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let expected =
            || format!("expected a network, as 10.244.0.0/16 or fd00::/64, not {text:?}");
        let (address, prefix) = text.split_once('/').with_context(expected)?;
        let address = parse_as_written(address).with_context(expected)?;
        ensure!(prefix.bytes().all(|byte| byte.is_ascii_digit()), expected());
        let length: u8 = prefix.parse().with_context(expected)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        ensure!(
            length <= longest,
            "{text:?}: a prefix length of {} is at most {longest}",
            Family::from(address)
        );
        Ok(Self::new(address, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| text.parse().expect(text)).collect()
    }

    #[test]
    fn a_network_contains_its_addresses_alone() {
        let [v4, all, v6] = networks(&["10.0.1.7/24", "0.0.0.0/0", "fd00::/64"])[..] else {
            unreachable!()
        };
        assert_eq!(v4.to_string(), "10.0.1.0/24");
        let contains = |network: Network, text: &str| network.contains(text.parse().expect(text));
        assert!(contains(v4, "10.0.1.255") && !contains(v4, "10.0.2.0"));
        assert!(contains(all, "255.255.255.255") && !contains(all, "::1"));
        assert!(all.covers(&v4) && !v4.covers(&all) && v4.covers(&v4) && !all.covers(&v6));
        assert!(contains(v6, "fd00::ffff") && !contains(v6, "fd00:0:0:1::"));
    }

    #[test]
    fn what_another_covers_is_left_out() {
        let all = networks(&[
            "10.1.0.0/16",
            "10.0.0.0/8",
            "10.1.2.0/24",
            "11.0.0.0/8",
            "10.0.0.0/8",
            "::/0",
            "fd00::/8",
        ]);
        assert_eq!(Network::without_covered(all), networks(&["10.0.0.0/8", "11.0.0.0/8", "::/0"]));
    }

    /// Once: a range of IPv4 in IPv6's clothes let in nobody, and one with leading zeros was left out.
    #[test]
    fn one_network_may_be_written_in_several_ways() {
        let all = networks(&[
            "::ffff:10.0.0.0/104",
            "010.0.0.0/08",
            " 10.1.2.3/8\n",
            "0:0::ffff:a00:1/104",
        ]);
        assert_eq!(all, networks(&["10.0.0.0/8"; 4]));
        assert_eq!(
            networks(&["::ffff:0:0/96", "::ffff:10.0.0.1/128"]),
            networks(&["0.0.0.0/0", "10.0.0.1/32"])
        );
        // It has other addresses than IPv4's, too.
        assert_eq!(networks(&["::ffff:10.0.0.0/90"])[0].family(), Family::V6);
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0/8",
            "fd00::/129",
            "",
            "/",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "10.0.0.0/ 8",
            "10.0.0.0/8/8",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
