//! The options of a rules file, and their values.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::str::FromStr;

use super::lexer::{Word, WordError, unbundle};
use crate::model::{
    ADDRESS, EngineName, Forwarding, Invalid, MARK, NETMASK, Netmask, Protocol, Scheduler,
    ServiceFlags, ServiceKey, Tunnel, TunnelChecksum, parse_address, parse_bits,
};

/// The timeout of a `-p` without a number, as with `ipvsadm`.
const DEFAULT_PERSISTENCE: u32 = 360;
const FLAGS: &str = "scheduler flags: sh-fallback, sh-port, mh-fallback, mh-port, flag-1, flag-2, flag-3, with commas \
                     between them";

/// The value of an option.
#[derive(Clone, Copy)]
pub(super) enum OptionValue {
    Service(NamedService),
    Ipv6,
    Scheduler(Scheduler),
    Persistence(u32),
    Netmask(Netmask),
    Engine(EngineName),
    OnePacket,
    /// Flags, and the name of the scheduler whose options they are.
    Flags(ServiceFlags, Option<&'static str>),
    FlagBits(ServiceFlags),
    /// The kernel holds the service, though [`Service::check`](crate::Service::check) refuses it.
    AsIs,
    RealServer(IpAddr, Option<u16>),
    Forwarding(Forwarding),
    Weight(u32),
    UpperThreshold(u32),
    LowerThreshold(u32),
    /// The number of a tunnel's type, and whether the name of the type was given.
    TunnelKind(u8, bool),
    TunnelPort(u16),
    TunnelFlags(u16),
}

/// A service as its option names it; `-6` gives the family of a mark.
#[derive(Clone, Copy)]
pub(super) enum NamedService {
    Address(ServiceKey),
    Mark(NonZeroU32),
}

type Read = fn(&mut Argument<'_>) -> Result<OptionValue, WordError>;

/// Every option by its names.
const OPTIONS: &[(&[&str], Read)] = &[
    (&["-t", "--tcp-service"], |argument| argument.service(Protocol::TCP)),
    (&["-u", "--udp-service"], |argument| argument.service(Protocol::UDP)),
    (&["--sctp-service"], |argument| argument.service(Protocol::SCTP)),
    (&["--protocol-service"], |argument| {
        let what = "a protocol number and an address, as 47/10.0.0.1:0";
        argument.read(what, protocol_service)
    }),
    (&["-f", "--fwmark-service"], |argument| {
        let mark = argument.number(MARK)?;
        Ok(OptionValue::Service(NamedService::Mark(mark)))
    }),
    (&["-6", "--ipv6"], |_| Ok(OptionValue::Ipv6)),
    (&["-s", "--scheduler"], |argument| {
        argument.read("a scheduler", Scheduler::named).map(OptionValue::Scheduler)
    }),
    (&["-p", "--persistent"], |argument| {
        if argument.is_left_out() {
            return Ok(OptionValue::Persistence(DEFAULT_PERSISTENCE));
        }
        argument.number("a timeout in seconds").map(OptionValue::Persistence)
    }),
    (&["-M", "--netmask"], |argument| {
        argument.read(NETMASK, Netmask::from_str).map(OptionValue::Netmask)
    }),
    (&["--pe"], |argument| {
        argument.read("a persistence engine", EngineName::new).map(OptionValue::Engine)
    }),
    (&["-o", "--ops"], |_| Ok(OptionValue::OnePacket)),
    (&["-b", "--sched-flags"], |argument| argument.read(FLAGS, scheduler_flags)),
    (&["--flags"], |argument| {
        argument.read("flag bits, as 0x40", ServiceFlags::parse_bits).map(OptionValue::FlagBits)
    }),
    (&["--as-is"], |_| Ok(OptionValue::AsIs)),
    (&["-r", "--real-server"], |argument| {
        let (address, port) = argument.read(ADDRESS, parse_address)?;
        Ok(OptionValue::RealServer(address, port))
    }),
    (&["-m", "--masquerading"], |_| Ok(OptionValue::Forwarding(Forwarding::Masquerade))),
    (&["-g", "--gatewaying"], |_| Ok(OptionValue::Forwarding(Forwarding::DirectRoute))),
    (&["-i", "--ipip"], |_| Ok(OptionValue::Forwarding(Forwarding::Tunnel(Tunnel::Ipip)))),
    (&["--local"], |_| Ok(OptionValue::Forwarding(Forwarding::Local))),
    (&["--bypass"], |_| Ok(OptionValue::Forwarding(Forwarding::Bypass))),
    (&["--forwarding"], |argument| {
        let what = "a forwarding method, 0 to 7";
        let number = argument.limited(what, 7)?;
        Ok(OptionValue::Forwarding(Forwarding::from_number(number, Tunnel::Ipip)))
    }),
    (&["-w", "--weight"], |argument| {
        let most = i32::MAX.cast_unsigned();
        argument.limited("a weight, 0 to 2147483647", most).map(OptionValue::Weight)
    }),
    (&["-x", "--u-threshold"], |argument| {
        argument.number("a number of connections").map(OptionValue::UpperThreshold)
    }),
    (&["-y", "--l-threshold"], |argument| {
        argument.number("a number of connections").map(OptionValue::LowerThreshold)
    }),
    (&["--tun-type"], |argument| {
        argument.read("ipip, gue or gre", |text| {
            let is_name = text.starts_with(char::is_alphabetic);
            Ok(OptionValue::TunnelKind(Tunnel::parse_kind(text)?, is_name))
        })
    }),
    (&["--tun-port"], |argument| argument.number("a port").map(OptionValue::TunnelPort)),
    (&["--tun-nocsum"], |_| Ok(tunnel_flags(TunnelChecksum::None))),
    (&["--tun-csum"], |_| Ok(tunnel_flags(TunnelChecksum::Full))),
    (&["--tun-remcsum"], |_| Ok(tunnel_flags(TunnelChecksum::Remote))),
    (&["--tun-flags"], |argument| {
        let what = "flag bits, as 0x3";
        let parse = |text: &str| {
            let bits = parse_bits(text).and_then(|bits| bits.try_into().ok());
            bits.ok_or_else(|| Invalid::expected("flag bits, as 0x3", text))
        };
        argument.read(what, parse).map(OptionValue::TunnelFlags)
    }),
];

impl OptionValue {
    /// The value of an option, whose argument comes from the words that follow.
    pub(super) fn read(option: &Word, words: &mut VecDeque<Word>) -> Result<Self, WordError> {
        let found = OPTIONS.iter().find(|(names, _)| names.contains(&option.text.as_str()));
        let Some((_, read)) = found else {
            let number = option.text.strip_prefix('-');
            let hint = match nearest(&option.text) {
                _ if number.is_some_and(|it| it.starts_with(|c: char| c.is_ascii_digit())) => {
                    "; a number has no sign".into()
                }
                Some(name) => format!("; did you mean {name}?"),
                None => String::new(),
            };
            let what = "expected an option of a service or of a destination";
            return Err(option.error(format!("{what}, not {:?}{hint}", option.text)));
        };
        let value = read(&mut Argument { option, words })?;
        if option.is_short_option() {
            unbundle(words);
        }
        match words.front() {
            Some(word) if word.attached => {
                Err(word.error(format!("{} takes no value", option.text)))
            }
            _ => Ok(value),
        }
    }

    pub(super) fn is_of_tunnel(&self) -> bool {
        matches!(self, Self::TunnelKind(..) | Self::TunnelPort(_) | Self::TunnelFlags(_))
    }
}

/// The argument of an option: the word after it.
struct Argument<'a> {
    option: &'a Word,
    words: &'a mut VecDeque<Word>,
}

impl Argument<'_> {
    fn is_left_out(&self) -> bool {
        self.words.front().is_none_or(Word::is_option)
    }

    fn read<T>(
        &mut self,
        what: &str,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Result<T, WordError> {
        let option = &self.option.text;
        match self.words.pop_front() {
            None => Err(self.option.error(format!("expected {what} after {option}"))),
            Some(word) if word.is_option() => {
                Err(word.error(format!("expected {what} after {option}, not {:?}", word.text)))
            }
            Some(word) => parse(&word.text).map_err(|invalid| word.error(invalid.to_string())),
        }
    }

    fn number<T: FromStr>(&mut self, what: &str) -> Result<T, WordError> {
        self.read(what, |text| text.parse().map_err(|_| Invalid::expected(what, text)))
    }

    fn limited(&mut self, what: &str, most: u32) -> Result<u32, WordError> {
        self.read(what, |text| {
            let number = text.parse().ok().filter(|number| *number <= most);
            number.ok_or_else(|| Invalid::expected(what, text))
        })
    }

    fn service(&mut self, protocol: Protocol) -> Result<OptionValue, WordError> {
        self.read(ADDRESS, |text| service(protocol, text))
    }
}

fn service(protocol: Protocol, text: &str) -> Result<OptionValue, Invalid> {
    let (address, port) = parse_address(text)?;
    let key = ServiceKey::address(protocol, address, port.unwrap_or(0));
    Ok(OptionValue::Service(NamedService::Address(key)))
}

fn protocol_service(text: &str) -> Result<OptionValue, Invalid> {
    match text.split_once('/') {
        Some((protocol, address)) => service(protocol.parse()?, address),
        None => Err(Invalid::expected("a protocol number and an address, as 47/10.0.0.1:0", text)),
    }
}

fn scheduler_flags(text: &str) -> Result<OptionValue, Invalid> {
    let mut flags = ServiceFlags::empty();
    let mut scheduler = None;
    for name in text.split(',') {
        let (flag, of) = match name {
            "sh-fallback" => (ServiceFlags::FALLBACK, Some("sh")),
            "sh-port" => (ServiceFlags::PORT, Some("sh")),
            "mh-fallback" => (ServiceFlags::FALLBACK, Some("mh")),
            "mh-port" => (ServiceFlags::PORT, Some("mh")),
            _ => match ServiceFlags::NAMES.into_iter().find(|(_, known)| *known == name) {
                Some((flag, _)) => (flag, None),
                None => return Err(Invalid::expected(FLAGS, name)),
            },
        };
        if of.is_some() && scheduler.is_some() && of != scheduler {
            return Err(Invalid::new(format!("{text} has options of two schedulers")));
        }
        flags |= flag;
        scheduler = scheduler.or(of);
    }
    Ok(OptionValue::Flags(flags, scheduler))
}

fn tunnel_flags(checksum: TunnelChecksum) -> OptionValue {
    OptionValue::TunnelFlags(checksum.flags())
}

/// The long option that a misspelt one probably means.
fn nearest(text: &str) -> Option<&'static str> {
    let names = OPTIONS.iter().flat_map(|(names, _)| *names).filter(|name| name.len() > 2);
    let (distance, name) = names.map(|name| (distance(text, name), *name)).min()?;
    (distance <= name.len() / 4).then_some(name)
}

/// How many characters have to be inserted, removed or replaced to turn one text into the other.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in to.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_option_is_answered_with_the_nearest() {
        for (text, name) in [
            ("--shceduler", Some("--scheduler")),
            ("--tcp-servic", Some("--tcp-service")),
            ("--realserver", Some("--real-server")),
            ("-real-server", Some("--real-server")),
            ("--masq", None),
            ("--tun-typ", Some("--tun-type")),
            ("-z", None),
            ("--xyz", None),
        ] {
            assert_eq!(nearest(text), name, "{text}");
        }
    }
}
