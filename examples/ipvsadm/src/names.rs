//! Names of hosts and ports, and the numbers behind them.
//!
//! Hosts are the system's (`getaddrinfo`, `getnameinfo`); ports are those of `/etc/services`, which is read
//! once: no kept library asks the system for SCTP's.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};

use ipvs_netlink::Protocol;

/// Looks names up, each once.
#[derive(Default)]
pub(crate) struct Names {
    services: OnceCell<Vec<PortName>>,
    hosts: RefCell<HashMap<IpAddr, Option<String>>>,
}

struct PortName {
    name: String,
    is_alias: bool,
    port: u16,
    protocol: Protocol,
}

impl Names {
    /// The IPv4 address of a host, by its name.
    pub(crate) fn address(name: &str) -> Option<Ipv4Addr> {
        let addresses = (name, 0).to_socket_addrs().ok()?;
        addresses.into_iter().find_map(|address| match address {
            SocketAddr::V4(address) => Some(*address.ip()),
            SocketAddr::V6(_) => None,
        })
    }

    /// The name of a host, where it has one.
    pub(crate) fn host(&self, address: IpAddr) -> Option<String> {
        let look = || {
            /// `NI_NAMEREQD` of glibc and musl.
            const NAME_REQUIRED: i32 = 8;
            let names = dns_lookup::getnameinfo(&SocketAddr::new(address, 0), NAME_REQUIRED);
            names.ok().map(|(host, _)| host)
        };
        self.hosts.borrow_mut().entry(address).or_insert_with(look).clone()
    }

    /// The port of a name.
    pub(crate) fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        let found = self.services().iter().find(|s| s.name == name && s.protocol == protocol);
        found.map(|service| service.port)
    }

    /// The name of a port, or else its number.
    pub(crate) fn port_name(&self, port: u16, protocol: Protocol) -> String {
        let is_it = |s: &&PortName| s.port == port && s.protocol == protocol && !s.is_alias;
        let found = self.services().iter().find(is_it);
        found.map_or_else(|| port.to_string(), |service| service.name.clone())
    }

    fn services(&self) -> &[PortName] {
        self.services.get_or_init(|| {
            let text = std::fs::read_to_string("/etc/services").unwrap_or_default();
            text.lines().flat_map(port_names).collect()
        })
    }
}

/// The names on a line of `/etc/services`.
fn port_names(line: &str) -> Vec<PortName> {
    let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
    let (Some(name), Some(port)) = (words.next(), words.next()) else { return Vec::new() };
    let Some((port, protocol)) = port.split_once('/') else { return Vec::new() };
    let protocol = match protocol {
        "tcp" => Protocol::TCP,
        "udp" => Protocol::UDP,
        "sctp" => Protocol::SCTP,
        _ => return Vec::new(),
    };
    let Some(port) = c_number(port.strip_prefix('+').unwrap_or(port)) else { return Vec::new() };
    // The C library takes numbers of 32 bits, and ports are the lower half of these.
    let [_, _, high, low] = port.to_be_bytes();
    let port = u16::from_be_bytes([high, low]);
    let named = |name: &str, is_alias| PortName { name: name.to_owned(), is_alias, port, protocol };
    std::iter::once(named(name, false)).chain(words.map(|alias| named(alias, true))).collect()
}

/// An IPv4 address in any of the forms of `inet_aton`: one to four numbers, decimal, octal or
/// hexadecimal, of which the last fills the rest; white space and what comes behind it are passed over.
pub(crate) fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let text = text.split(|c: char| c.is_ascii_whitespace()).next().unwrap_or_default();
    let parts = text.split('.').map(c_number).collect::<Option<Vec<u32>>>()?;
    let (last, first) = parts.split_last()?;
    if first.len() > 3 || first.iter().any(|part| *part > 255) {
        return None;
    }
    let rest = 8 * (4 - u32::try_from(first.len()).ok()?);
    if rest < 32 && *last >= 1 << rest {
        return None;
    }
    let high = first.iter().zip([24, 16, 8]).map(|(part, shift)| part << shift).sum::<u32>();
    Some(Ipv4Addr::from(high | last))
}

fn c_number(text: &str) -> Option<u32> {
    let digits = |text: &str, radix| {
        let is_number = !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
        is_number.then(|| u32::from_str_radix(text, radix).ok()).flatten()
    };
    match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => digits(&text[2..], 16),
        [b'0', _, ..] => digits(&text[1..], 8),
        _ => digits(text, 10),
    }
}

/// A number as `strtol` reads it to the end of the text, if it is in the range.
pub(crate) fn number(text: &str, least: i64, most: i64) -> Option<i64> {
    let number: i64 = behind_space(text).parse().ok()?;
    (least..=most).contains(&number).then_some(number)
}

/// The number that a text begins with, as `atoi` reads it, if it has 8 bits.
pub(crate) fn leading_number(text: &str) -> Option<u8> {
    let text = behind_space(text);
    let digits = text.strip_prefix('+').unwrap_or(text);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

/// What stands behind the white space that C's numbers may begin with.
fn behind_space(text: &str) -> &str {
    text.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b')
}

/// An address and the port behind it, if one is.
pub(crate) struct Endpoint {
    pub(crate) address: IpAddr,
    pub(crate) port: Option<u16>,
}

impl Names {
    /// Reads `host[:port]` or `[address]:port`; without brackets an IPv6 address has no port.
    pub(crate) fn endpoint(&self, text: &str, protocol: Option<Protocol>) -> Option<Endpoint> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                (host, Some(rest.strip_prefix(':')?))
            }
            None => (text, None),
        };
        let number = |port: Option<&str>| match port {
            Some(port) => self.port_number(port, protocol).map(Some),
            None => Some(None),
        };
        if let Ok(address) = host.parse::<Ipv6Addr>() {
            return Some(Endpoint { address: address.into(), port: number(port)? });
        }
        // What stands in brackets and is no IPv6 address loses its port, as in the original.
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (host, None),
        };
        let address = inet_aton(host).or_else(|| Self::address(host))?;
        Some(Endpoint { address: address.into(), port: number(port)? })
    }

    fn port_number(&self, text: &str, protocol: Option<Protocol>) -> Option<u16> {
        match number(text, 0, 65535) {
            Some(number) => u16::try_from(number).ok(),
            None => self.port(text, protocol?),
        }
    }

    /// An address with its port, by names or by numbers.
    pub(crate) fn print(
        &self,
        address: IpAddr,
        port: u16,
        protocol: Protocol,
        numeric: bool,
    ) -> String {
        let (host, port) = if numeric {
            (inet_ntop(address), port.to_string())
        } else {
            let host = self.host(address).unwrap_or_else(|| inet_ntop(address));
            (host, self.port_name(port, protocol))
        };
        if address.is_ipv6() { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

/// An address as `inet_ntop` prints it: one of IPv6 whose first 96 bits alone are 0 ends as one of IPv4.
pub(crate) fn inet_ntop(address: IpAddr) -> String {
    if let IpAddr::V6(v6) = address
        && let [0, 0, 0, 0, 0, 0, 1..=u16::MAX, _] = v6.segments()
    {
        let [.., a, b, c, d] = v6.octets();
        return format!("::{}", Ipv4Addr::from([a, b, c, d]));
    }
    address.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Once: `::1.2.3.4` was printed as `::102:304`, which the original does not.
    #[test]
    fn addresses_are_printed_as_by_the_c_library() {
        for text in [
            "::1.2.3.4",
            "::0.1.0.0",
            "::255.255.255.255",
            "::ffff:1.2.3.4",
            "::304",
            "::1",
            "::",
            "::1:0:0",
            "::fffe:102:304",
            "::ffff:0:102:304",
            "64:ff9b::102:304",
            "0:0:1::1:1",
            "1:0:2::",
            "0:1::1",
            "1:0:1:1:1:1:1:1",
            "10.0.0.1",
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(inet_ntop(address), text);
            let names = Names::default();
            let host = if address.is_ipv6() { format!("[{text}]") } else { text.to_owned() };
            assert_eq!(names.print(address, 80, Protocol::TCP, true), format!("{host}:80"));
        }
    }

    #[test]
    fn addresses_in_all_forms() {
        for (text, address) in [
            ("10.0.0.1", [10, 0, 0, 1]),
            ("10.1", [10, 0, 0, 1]),
            ("0x0a030014", [10, 3, 0, 20]),
            ("010.3.0.29", [8, 3, 0, 29]),
            ("24", [0, 0, 0, 24]),
            ("10.3.0.21 ", [10, 3, 0, 21]),
            ("0", [0, 0, 0, 0]),
            ("255.255.255.255", [255; 4]),
        ] {
            assert_eq!(inet_aton(text), Some(Ipv4Addr::from(address)), "{text}");
        }
        for text in
            ["", "x", "10.0.0.300", "1.2.3.4.5", "10..1", "4294967296", "08.1", " 10.0.0.1", "0x"]
        {
            assert_eq!(inet_aton(text), None, "{text}");
        }
    }

    #[test]
    fn ports_of_services_in_all_forms() {
        let ports = |line| port_names(line).iter().map(|name| name.port).collect::<Vec<_>>();
        for line in ["web 82/tcp", "web 0x52/tcp www # the web", "\tweb\t0122/udp"] {
            assert!(
                !ports(line).is_empty() && ports(line).iter().all(|port| *port == 82),
                "{line}"
            );
        }
        for line in [
            "",
            "# web 82/tcp",
            "web",
            "web 82",
            "web 0082/tcp",
            "web 82/ddp",
            "web x/tcp",
            "web /tcp",
            "web ++82/tcp",
            "web -82/tcp",
            "web 4294967296/tcp",
        ] {
            assert!(ports(line).is_empty(), "{line}");
        }
    }

    /// Once: `web +90/tcp` was no port, and 65617 none either, of which the C library takes the lower half.
    #[test]
    fn ports_of_services_as_the_c_library_takes_them() {
        let port = |line| port_names(line).first().map(|name| name.port);
        for (line, wanted) in [
            ("web +90/tcp", 90),
            ("web +0x52/tcp", 82),
            ("web 65536/tcp", 0),
            ("web 65617/tcp", 81),
            ("web 4294967295/tcp", 65535),
        ] {
            assert_eq!(port(line), Some(wanted), "{line}");
        }
    }

    #[test]
    fn numbers_as_strtol_reads_them() {
        assert_eq!(number(" +5", 0, 9), Some(5));
        assert_eq!(number("05", 0, 9), Some(5));
        for text in ["", "5 ", "x", "0x5", "-1", "10", "99999999999999999999"] {
            assert_eq!(number(text, 0, 9), None, "{text}");
        }
    }

    #[test]
    fn numbers_as_atoi_reads_them() {
        for text in ["64", "+64", " 64", "\t064", "64x", "64 128"] {
            assert_eq!(leading_number(text), Some(64), "{text}");
        }
        for text in ["", "x", "-1", "+", "++6", "256"] {
            assert_eq!(leading_number(text), None, "{text}");
        }
    }
}
