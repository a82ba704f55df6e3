//! The node's own addresses: which there are, and which have node ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{AddrParseError, IpAddr, Ipv4Addr};

use k8s_openapi::api::core::v1::{self as api, Node};

use crate::network::Network;
use crate::notes::Notes;
use crate::options::Options;

/// An address as the API has it. Old objects have numbers with leading zeros, which are decimal; an IPv4 address in IPv6's
/// clothes is one of IPv4.
pub(crate) fn parse_address(text: &str) -> Result<IpAddr, AddrParseError> {
    parse_as_written(text).map(|address| address.to_canonical())
}

/// The same, with an IPv4 address in IPv6's clothes as one of IPv6.
pub(crate) fn parse_as_written(text: &str) -> Result<IpAddr, AddrParseError> {
    text.parse().or_else(|error| without_leading_zeros(text).parse().map_err(|_| error))
}

fn without_leading_zeros(text: &str) -> String {
    let number = |number: &str| {
        let digits = number.trim_start_matches('0');
        let is_zero =
            number.starts_with('0') && !digits.starts_with(|c: char| c.is_ascii_hexdigit());
        if is_zero { format!("0{digits}") } else { digits.to_owned() }
    };
    text.split_inclusive(['.', ':']).map(number).collect()
}

/// Why an address is none that a Service or an endpoint can have, by what an API server lets pass: what is reached by it
/// would be the node itself, or nobody.
pub(crate) fn unusable(address: IpAddr) -> Option<&'static str> {
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if address.is_loopback() {
        Some("it is a loopback address")
    } else if is_link_local {
        Some("it is a link-local address")
    } else if address.is_unspecified()
        || address.is_multicast()
        || address == IpAddr::V4(Ipv4Addr::BROADCAST)
    {
        Some("it is no host's address")
    } else {
        None
    }
}

/// The addresses of all interfaces but `kube-ipvs0` that packets from elsewhere can come to: loopback and link-local
/// IPv6 addresses are not among them, as kube-proxy has it.
pub(crate) fn local_addresses(
    node: &Node,
    options: &Options,
    notes: &mut Notes,
) -> BTreeSet<IpAddr> {
    let mut of_node = || {
        let status = node.status.iter().filter_map(|status| status.addresses.as_ref());
        let internal = status.flatten().filter(|address| address.type_ == "InternalIP");
        let mut addresses = Vec::new();
        for api::NodeAddress { address, .. } in internal {
            match parse_address(address) {
                Ok(address) => addresses.push(address),
                Err(_) => {
                    let text = address.escape_debug();
                    notes.add(
                        "The node",
                        format!("its InternalIP {text} is left out: it is no address"),
                    );
                }
            }
        }
        addresses
    };
    let given: Vec<IpAddr> = if options.local_addresses.is_empty() {
        of_node()
    } else {
        options.local_addresses.clone()
    };
    given
        .into_iter()
        .map(|address| address.to_canonical())
        .filter(|address| !address.is_loopback() && !address.is_unspecified())
        .filter(|address| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()))
        .collect()
}

/// Every address that a Node is known by, and the Node. None of them is bound: a virtual address answers for nothing else
/// of a Node, be it this one or another, whose kubelet would be out of reach from here.
pub(crate) fn known_addresses(nodes: &[&Node]) -> BTreeMap<IpAddr, String> {
    let mut known = BTreeMap::new();
    for node in nodes {
        let name = node.metadata.name.clone().unwrap_or_default();
        let status = node.status.iter().filter_map(|status| status.addresses.as_ref());
        for address in status.flatten() {
            if let Ok(address) = parse_address(&address.address) {
                let owner = known.entry(address).or_insert_with(|| name.clone());
                // The order of the Nodes decides nothing.
                if name < *owner {
                    owner.clone_from(&name);
                }
            }
        }
    }
    known
}

/// Where pods are: what the operator says, or what the Node has for its own pods.
pub(crate) fn pod_networks(node: &Node, options: &Options, notes: &mut Notes) -> Vec<Network> {
    if !options.pod_networks.is_empty() {
        return options.pod_networks.clone();
    }
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let spec = node.spec.as_ref();
    let mut texts: Vec<&String> =
        spec.iter().filter_map(|spec| spec.pod_cidrs.as_ref()).flatten().collect();
    if texts.is_empty() {
        texts.extend(spec.and_then(|spec| spec.pod_cidr.as_ref()));
    }
    let mut networks = Vec::new();
    for text in texts {
        match text.parse() {
            Ok(network) => networks.push(network),
            Err(error) => {
                let name = name.escape_debug();
                notes.add(format_args!("Node {name}"), format!("a podCIDR is left out: {error}"));
            }
        }
    }
    networks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Kubernetes' [`ParseIPSloppy`](https://pkg.go.dev/k8s.io/utils/net#ParseIPSloppy) reads them.
    #[test]
    fn numbers_with_leading_zeros_are_decimal() {
        for (text, expected) in [
            ("198.051.100.007", "198.51.100.7"),
            ("010.000.0000.1", "10.0.0.1"),
            ("00fd:0::00001", "fd:0::1"),
            ("::ffff:010.0.0.1", "10.0.0.1"),
            ("::", "::"),
        ] {
            assert_eq!(parse_address(text), expected.parse(), "{text}");
        }
        for text in
            ["", "0", "198.051.100.256", "198.51.100.", "0x7f.0.0.1", "fe80::1%eth0", "1.2.3.4 "]
        {
            assert!(parse_address(text).is_err(), "{text}");
        }
    }
}
