//! The text of an address and its port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Invalid;

/// The form of an address, for messages.
pub(crate) const ADDRESS: &str = "an address, as 10.0.0.1:80 or [2001:db8::1]:80";

/// Reads an address with or without a port: `10.0.0.1`, `10.0.0.1:80`, `[2001:db8::1]:80`.
pub(crate) fn parse_address(text: &str) -> Result<(IpAddr, Option<u16>), Invalid> {
    parts(text)
        .and_then(|(address, port)| match port {
            "" => Some((address, None)),
            _ => Some((address, Some(parse_port(port)?))),
        })
        .ok_or_else(|| Invalid::new(format!("expected {ADDRESS}, not {text:?}{}", hint(text))))
}

/// Reads an address that has no port, since its port is another value.
#[cfg(feature = "serde")]
pub(crate) fn parse_bare_address(text: &str) -> Result<IpAddr, Invalid> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    match parse_address(text) {
        Ok((address, None)) => Ok(address),
        Ok((address, Some(port))) => Err(Invalid::new(format!(
            "expected an address alone, not {text:?}: write address: {address} and port: {port}"
        ))),
        Err(_) => Err(Invalid::new(format!("expected an address, not {text:?}{}", hint(text)))),
    }
}

/// The address, and the text that follows it.
fn parts(text: &str) -> Option<(IpAddr, &str)> {
    match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            Some((address.parse::<Ipv6Addr>().ok()?.into(), port))
        }
        None => {
            let (address, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            Some((address.parse::<Ipv4Addr>().ok()?.into(), port))
        }
    }
}

fn parse_port(text: &str) -> Option<u16> {
    let digits = text.strip_prefix(':')?;
    let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| all_digits)
}

/// The probable fault of the text of an address.
fn hint(text: &str) -> &'static str {
    let of_ipv6 = |c: char| c.is_ascii_hexdigit() || ":.".contains(c);
    if text.contains('%') {
        ": IPVS keeps no scope of an address"
    } else if text.matches(':').count() > 1 && text.chars().all(of_ipv6) {
        ": an IPv6 address stands in brackets"
    } else if text.chars().any(char::is_alphabetic) && !text.contains('[') {
        ": names are not looked up; ipvsadm-save -n writes numbers"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_may_be_left_out() {
        for (text, address, port) in [
            ("10.0.0.1", "10.0.0.1", None),
            ("10.0.0.1:0", "10.0.0.1", Some(0)),
            ("[2001:db8::1]", "2001:db8::1", None),
            ("[::ffff:10.0.0.1]:65535", "::ffff:10.0.0.1", Some(65535)),
        ] {
            assert_eq!(parse_address(text), Ok((address.parse().unwrap(), port)));
        }
    }

    /// Once: `::1:80` was read as an address where port 80 of `::1` was meant, and the scope of
    /// `[fe80::1%2]:80` was dropped silently.
    #[test]
    fn an_address_that_can_be_misread_is_refused() {
        for (text, says) in [
            ("::1:80", "stands in brackets"),
            ("2001:db8::1", "stands in brackets"),
            ("[fe80::1%2]:80", "no scope"),
            ("[fe80::1%eth0]:80", "no scope"),
            ("web.example:80", "ipvsadm-save -n"),
            ("10.0.0.1:http", "ipvsadm-save -n"),
            ("[10.0.0.1]:80", "not \"[10.0.0.1]:80\""),
            ("10.0.0.1:+80", "not \"10.0.0.1:+80\""),
            ("10.0.0.1:65536", "not \"10.0.0.1:65536\""),
            ("10.0.0.1:", "not \"10.0.0.1:\""),
            ("[::1]80", "not \"[::1]80\""),
            ("[::1", "not \"[::1\""),
            ("", "not \"\""),
        ] {
            let error = parse_address(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
