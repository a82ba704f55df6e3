//! A ruleset from text, in the format of `ipvsadm-save`.

use std::collections::VecDeque;
use std::mem::discriminant;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use super::Ruleset;
use super::words::{Word, WordError, words};
use crate::model::{
    Destination, DestinationKey, EngineName, Family, Forwarding, Netmask, Persistence, Protocol,
    Scheduler, Service, ServiceFlags, ServiceKey, Tunnel,
};

/// Where a text is no ruleset, and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
#[non_exhaustive]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters from 1.
    pub column: usize,
    /// What was expected, or what is wrong.
    pub message: String,
}

/// What `ipvsadm` takes where `-p` comes without a number.
const DEFAULT_PERSISTENCE: u32 = 360;
/// What an address may look like, for messages.
const ADDRESS: &str = "an address, as 10.0.0.1:80 or [2001:db8::1]:80";

impl FromStr for Ruleset {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut rules = Self::new();
        for (index, line) in text.lines().enumerate() {
            let mut words = words(line);
            let Some(command) = words.pop_front() else { continue };
            parse_line(&command, words, &mut rules).map_err(|WordError { column, message }| {
                ParseError { line: index + 1, column, message }
            })?;
        }
        Ok(rules)
    }
}

fn parse_line(
    command: &Word,
    mut words: VecDeque<Word>,
    rules: &mut Ruleset,
) -> Result<(), WordError> {
    let add = match command.text.as_str() {
        "-A" | "--add-service" => add_service,
        "-a" | "--add-server" => add_destination,
        _ => return Err(command.expected("-A (a service) or -a (a destination)")),
    };
    let mut line = Line { command, given: Vec::new() };
    while let Some(word) = words.pop_front() {
        let value = Given::parse(&word, &mut words)?;
        if line.given.iter().any(|(_, given)| discriminant(given) == discriminant(&value)) {
            return Err(word.error(format!("{} says again what was said before", word.text)));
        }
        line.given.push((word, value));
    }
    add(&line, rules)
}

fn add_service(line: &Line<'_>, rules: &mut Ruleset) -> Result<(), WordError> {
    let (word, key) = line.service()?;
    if rules.service(key).is_some() {
        return Err(word.error(format!("service {key} is there already")));
    }
    let mut service = Service::new(key);
    let persistence = line.find(|given| matches!(given, Given::Persistence(_)));
    let netmask = line.find(|given| matches!(given, Given::Netmask(_)));
    for (word, given) in &line.given {
        match given {
            Given::Scheduler(scheduler) => service.scheduler = *scheduler,
            Given::Persistence(seconds) => {
                let timeout = Duration::from_secs((*seconds).into());
                service.persistence = Some(Persistence::new(timeout));
            }
            Given::Netmask(_) | Given::Engine(_) if persistence.is_none() => {
                return Err(word.error(format!("{} needs -p", word.text)));
            }
            Given::Service(_) | Given::Ipv6 | Given::Netmask(_) | Given::Engine(_) => {}
            Given::OnePacket => service.one_packet = true,
            Given::Flags(flags) | Given::FlagBits(flags) => service.flags |= *flags,
            _ => return Err(word.error(format!("{} is for destinations (-a)", word.text))),
        }
    }
    for (_, given) in &line.given {
        match (given, &mut service.persistence) {
            (Given::Netmask(netmask), Some(persistence)) => persistence.netmask = Some(*netmask),
            (Given::Engine(engine), Some(persistence)) => persistence.engine = Some(*engine),
            _ => {}
        }
    }
    // Two of the flags are options of sh and mh.
    service.scheduler = service.scheduler.with_hash_options(service.flags.options());
    rules
        .insert_service(service)
        .map_err(|invalid| netmask.or(persistence).unwrap_or(word).error(invalid.to_string()))?;
    Ok(())
}

fn add_destination(line: &Line<'_>, rules: &mut Ruleset) -> Result<(), WordError> {
    let (service_word, service) = line.service()?;
    let Some(rules_of_service) = rules.service(service) else {
        return Err(service_word.error(format!(
            "service {service} is not there: its -A must come before its destinations"
        )));
    };
    let mut real_server = None;
    let mut destination = Destination::new((IpAddr::from([0; 4]), 0), Forwarding::DirectRoute);
    let mut tunnel = (0, 0, 0);
    for (word, given) in &line.given {
        match *given {
            Given::Service(_) | Given::Ipv6 => {}
            Given::RealServer(address, port) => real_server = Some((word, address, port)),
            Given::Forwarding(forwarding) => destination.forwarding = forwarding,
            Given::Weight(weight) => destination.weight = weight,
            Given::UpperThreshold(upper) => destination.upper_threshold = upper,
            Given::LowerThreshold(lower) => destination.lower_threshold = lower,
            Given::TunnelType(kind) => tunnel.0 = kind,
            Given::TunnelPort(port) => tunnel.1 = port,
            Given::TunnelFlags(flags) => tunnel.2 = flags,
            _ => return Err(word.error(format!("{} is for services (-A)", word.text))),
        }
    }
    let Some((word, address, port)) = real_server else {
        return Err(line.command.error("-a needs -r with the destination's address"));
    };
    // As with ipvsadm a port left out is the service's; a mark has none.
    let port = port.unwrap_or(match service {
        ServiceKey::Address { port, .. } => port,
        ServiceKey::Mark { .. } => 0,
    });
    destination.key = DestinationKey::new(address, port);
    if rules_of_service.destination(destination.key).is_some() {
        return Err(word.error(format!("destination {} is there already", destination.key)));
    }
    match (destination.forwarding, line.find(Given::is_of_tunnel)) {
        (Forwarding::Tunnel(_), Some(word)) if tunnel.0 == GUE && tunnel.1 == 0 => {
            return Err(word.error("a gue tunnel needs --tun-port with a port other than 0"));
        }
        (Forwarding::Tunnel(_), _) => {
            let (kind, port, flags) = tunnel;
            destination.forwarding = Forwarding::Tunnel(Tunnel::from_numbers(kind, port, flags));
        }
        (_, Some(word)) => return Err(word.error(format!("{} needs -i", word.text))),
        _ => {}
    }
    let lower = line.find(|given| matches!(given, Given::LowerThreshold(_)));
    let blamed = match lower {
        Some(lower) if destination.lower_threshold > destination.upper_threshold => lower,
        _ => word,
    };
    rules
        .insert_destination(service, destination)
        .map_err(|invalid| blamed.error(invalid.to_string()))?;
    Ok(())
}

const GUE: u8 = 1;

/// A command with its options.
struct Line<'a> {
    command: &'a Word,
    given: Vec<(Word, Given)>,
}

impl Line<'_> {
    fn find(&self, wanted: impl Fn(&Given) -> bool) -> Option<&Word> {
        self.given.iter().find(|(_, given)| wanted(given)).map(|(word, _)| word)
    }

    fn service(&self) -> Result<(&Word, ServiceKey), WordError> {
        let ipv6 = self.find(|given| matches!(given, Given::Ipv6));
        for (word, given) in &self.given {
            let Given::Service(service) = given else { continue };
            return match (service, ipv6) {
                (ServiceWord::Mark(mark), None) => Ok((word, ServiceKey::mark(*mark, Family::V4))),
                (ServiceWord::Mark(mark), Some(_)) => {
                    Ok((word, ServiceKey::mark(*mark, Family::V6)))
                }
                (ServiceWord::Address(key), None) => Ok((word, *key)),
                (ServiceWord::Address(_), Some(ipv6)) => {
                    Err(ipv6.error("-6 goes with a firewall mark (-f)"))
                }
            };
        }
        Err(self.command.error(format!(
            "{} needs a service: -t, -u or --sctp-service with an address, or -f with a mark",
            self.command.text
        )))
    }
}

/// A service as its option names it; the family of a mark comes with `-6`.
#[derive(Clone, Copy)]
enum ServiceWord {
    Address(ServiceKey),
    Mark(NonZeroU32),
}

/// What an option says.
#[derive(Clone, Copy)]
enum Given {
    Service(ServiceWord),
    Ipv6,
    Scheduler(Scheduler),
    Persistence(u32),
    Netmask(Netmask),
    Engine(EngineName),
    OnePacket,
    Flags(ServiceFlags),
    FlagBits(ServiceFlags),
    RealServer(IpAddr, Option<u16>),
    Forwarding(Forwarding),
    Weight(u32),
    UpperThreshold(u32),
    LowerThreshold(u32),
    TunnelType(u8),
    TunnelPort(u16),
    TunnelFlags(u16),
}

impl Given {
    fn parse(option: &Word, words: &mut VecDeque<Word>) -> Result<Self, WordError> {
        let mut value = Value { option, words };
        Ok(match option.text.as_str() {
            "-t" | "--tcp-service" => value.service(Protocol::TCP)?,
            "-u" | "--udp-service" => value.service(Protocol::UDP)?,
            "--sctp-service" => value.service(Protocol::SCTP)?,
            "--protocol-service" => {
                let what = "a protocol number and an address, as 47/10.0.0.1:0";
                Self::Service(ServiceWord::Address(value.parsed(what, parse_protocol_service)?))
            }
            "-f" | "--fwmark-service" => Self::Service(ServiceWord::Mark(
                value.parsed("a firewall mark, 1 to 4294967295", |text| text.parse().ok())?,
            )),
            "-6" | "--ipv6" => Self::Ipv6,
            "-s" | "--scheduler" => {
                Self::Scheduler(value.parsed("a scheduler", |text| text.parse().ok())?)
            }
            "-p" | "--persistent" if value.is_left_out() => Self::Persistence(DEFAULT_PERSISTENCE),
            "-p" | "--persistent" => Self::Persistence(value.number("a timeout in seconds")?),
            "-M" | "--netmask" => Self::Netmask(value.parsed(
                "a netmask, as 255.255.255.0, or for IPv6 a prefix length of 1 to 128",
                parse_netmask,
            )?),
            "--pe" => Self::Engine(value.parsed("a persistence engine", |text| text.parse().ok())?),
            "-o" | "--ops" => Self::OnePacket,
            "-b" | "--sched-flags" => Self::Flags(value.parsed(
                "scheduler flags: sh-fallback, sh-port, mh-fallback, mh-port, flag-1, flag-2, \
                 flag-3, with commas between them",
                parse_flags,
            )?),
            "--flags" => {
                let bits = value.parsed("flag bits, as 0x40", parse_bits)?;
                Self::FlagBits(ServiceFlags::from_bits_truncate(bits))
            }
            "-r" | "--real-server" => {
                let (address, port) = value.parsed(ADDRESS, parse_address)?;
                Self::RealServer(address, port)
            }
            "-m" | "--masquerading" => Self::Forwarding(Forwarding::Masquerade),
            "-g" | "--gatewaying" => Self::Forwarding(Forwarding::DirectRoute),
            "-i" | "--ipip" => Self::Forwarding(Forwarding::Tunnel(Tunnel::Ipip)),
            "--local" => Self::Forwarding(Forwarding::Local),
            "--bypass" => Self::Forwarding(Forwarding::Bypass),
            "--forwarding" => {
                Self::Forwarding(value.parsed("a forwarding method, 0 to 7", |text| {
                    let number = text.parse().ok().filter(|number| *number < 8)?;
                    Some(Forwarding::from_number(number, Tunnel::Ipip))
                })?)
            }
            "-w" | "--weight" => {
                Self::Weight(value.parsed("a weight, 0 to 2147483647", |text| {
                    text.parse().ok().filter(|weight| *weight <= i32::MAX.cast_unsigned())
                })?)
            }
            "-x" | "--u-threshold" => {
                Self::UpperThreshold(value.number("a number of connections")?)
            }
            "-y" | "--l-threshold" => {
                Self::LowerThreshold(value.number("a number of connections")?)
            }
            "--tun-type" => {
                Self::TunnelType(value.parsed("ipip, gue or gre", |text| match text {
                    "ipip" => Some(0),
                    "gue" => Some(GUE),
                    "gre" => Some(2),
                    number => number.parse().ok(),
                })?)
            }
            "--tun-port" => Self::TunnelPort(value.parsed("a port", |text| text.parse().ok())?),
            "--tun-nocsum" => Self::TunnelFlags(0),
            "--tun-csum" => Self::TunnelFlags(1),
            "--tun-remcsum" => Self::TunnelFlags(2),
            "--tun-flags" => Self::TunnelFlags(
                value.parsed("flag bits, as 0x3", |text| parse_bits(text)?.try_into().ok())?,
            ),
            _ => return Err(option.expected("an option of a service or of a destination")),
        })
    }

    fn is_of_tunnel(&self) -> bool {
        matches!(self, Self::TunnelType(_) | Self::TunnelPort(_) | Self::TunnelFlags(_))
    }
}

/// The value of an option: the word after it.
struct Value<'a> {
    option: &'a Word,
    words: &'a mut VecDeque<Word>,
}

impl Value<'_> {
    fn is_left_out(&self) -> bool {
        self.words.front().is_none_or(|next| next.text.starts_with('-'))
    }

    fn parsed<T>(
        &mut self,
        what: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, WordError> {
        let Some(value) = self.words.pop_front() else {
            return Err(self.option.error(format!("expected {what} after {}", self.option.text)));
        };
        parse(&value.text).ok_or_else(|| value.expected(what))
    }

    fn number(&mut self, what: &str) -> Result<u32, WordError> {
        self.parsed(what, |text| text.parse().ok())
    }

    fn service(&mut self, protocol: Protocol) -> Result<Given, WordError> {
        let (address, port) = self.parsed(ADDRESS, parse_address)?;
        let key = ServiceKey::address(protocol, address, port.unwrap_or(0));
        Ok(Given::Service(ServiceWord::Address(key)))
    }
}

/// An address with or without a port: `10.0.0.1`, `10.0.0.1:80`, `[2001:db8::1]:80`.
fn parse_address(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some((address.ip(), Some(address.port())));
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().map(|address| (address, None))
}

fn parse_protocol_service(text: &str) -> Option<ServiceKey> {
    let (protocol, address) = text.split_once('/')?;
    let (address, port) = parse_address(address)?;
    Some(ServiceKey::address(Protocol(protocol.parse().ok()?), address, port.unwrap_or(0)))
}

fn parse_netmask(text: &str) -> Option<Netmask> {
    match text.parse() {
        Ok(mask) => Some(Netmask::V4(mask)),
        Err(_) => text.parse().ok().filter(|prefix| (1..=128).contains(prefix)).map(Netmask::V6),
    }
}

fn parse_flags(text: &str) -> Option<ServiceFlags> {
    text.split(',')
        .map(|name| match name {
            "sh-fallback" | "mh-fallback" | "flag-1" => Some(ServiceFlags::SCHEDULER_1),
            "sh-port" | "mh-port" | "flag-2" => Some(ServiceFlags::SCHEDULER_2),
            "flag-3" => Some(ServiceFlags::SCHEDULER_3),
            _ => None,
        })
        .collect()
}

fn parse_bits(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn same(text: &str) {
        let rules: Ruleset = text.parse().unwrap();
        assert_eq!(rules.to_string(), text);
    }

    #[test]
    fn prints_what_it_read() {
        same(
            "-A -t 10.0.0.1:80 -s wrr -p 300 -M 255.255.255.0\n\
              -a -t 10.0.0.1:80 -r 10.0.1.1:8080 -m -w 3 -x 100 -y 50\n\
              -a -t 10.0.0.1:80 -r 10.0.1.2:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum\n\
              -a -t 10.0.0.1:80 -r 10.0.1.3:80 -i -w 1 --tun-type gre --tun-csum\n\
              -a -t 10.0.0.1:80 -r [2001:db8::1]:80 -i -w 0 --tun-type ipip\n\
              -A -u 192.168.0.1:53 -s sh -o -b sh-fallback,sh-port\n\
              -A --sctp-service [2001:db8::1]:9 -s mh -p 60 -M 64 --pe sip -b mh-port\n\
              -a --sctp-service [2001:db8::1]:9 -r [2001:db8::2]:9 -g -w 2147483647\n\
              -A -f 7 -6 -s wlc\n\
              -A -f 4294967295 -s wlc -b flag-1,flag-3\n",
        );
    }

    #[test]
    fn prints_and_reads_what_ipvsadm_cannot_say() {
        same(
            "-A -t 10.0.0.1:80 -s none -b flag-3 --flags 0x40\n\
              -a -t 10.0.0.1:80 -r 10.0.1.1:80 --local -w 1\n\
              -a -t 10.0.0.1:80 -r 10.0.1.2:80 --bypass -w 1\n\
              -a -t 10.0.0.1:80 -r 10.0.1.3:80 --forwarding 6 -w 1\n\
              -a -t 10.0.0.1:80 -r 10.0.1.4:80 -i -w 1 --tun-type 7 --tun-port 9 --tun-flags 0x5\n\
              -A --protocol-service 300/[2001:db8::1]:0 -s vip7\n",
        );
    }

    #[test]
    fn takes_what_people_write() {
        let rules: Ruleset = "\n# web\n  --add-service --tcp-service=10.0.0.1:80 -p # default\n\
             -a -w2 -m -t 10.0.0.1:80 -r 10.0.1.1\n"
            .parse()
            .unwrap();
        let expected = "-A -t 10.0.0.1:80 -s wlc -p 360\n\
                        -a -t 10.0.0.1:80 -r 10.0.1.1:80 -m -w 2\n";
        assert_eq!(rules.to_string(), expected);
    }

    #[test]
    fn errors_name_the_place_and_what_was_expected() {
        let web = "-A -t 10.0.0.1:80\n";
        for (line, column, message) in [
            ("-D -t 10.0.0.1:80", 1, "expected -A (a service) or -a (a destination), not \"-D\""),
            ("-A", 1, "-A needs a service"),
            ("-A -t", 4, "expected an address, as 10.0.0.1:80 or [2001:db8::1]:80 after -t"),
            ("-A -t web:80", 7, "expected an address"),
            ("-A -f 0", 7, "expected a firewall mark"),
            ("-A -t 10.0.0.1:81 -6", 19, "-6 goes with"),
            ("-A -t 10.0.0.1:80", 4, "service tcp 10.0.0.1:80 is there already"),
            ("-A -t 10.0.0.1:81 -s rr -s lc", 25, "-s says again"),
            ("-A -t 10.0.0.1:81 -w 1", 19, "-w is for destinations"),
            ("-A -t 10.0.0.1:81 -M 255.255.255.0", 19, "-M needs -p"),
            ("-A -t 10.0.0.1:81 -p 9 -M 64", 24, "the IPv6 prefix length"),
            ("-A -t 10.0.0.1:81 -p 4294967295", 19, "a persistence timeout of 4294967295 s wraps"),
            ("-A -t 10.0.0.1:81 -z", 19, "expected an option"),
            ("-a -t 10.0.0.1:80", 1, "-a needs -r"),
            ("-a -t 10.0.0.1:81 -r 10.0.1.1", 4, "service tcp 10.0.0.1:81 is not there"),
            ("-a -t 10.0.0.1:80 -r 10.0.1.1 -s rr", 31, "-s is for services"),
            ("-a -t 10.0.0.1:80 -r 10.0.1.1 -w 2147483648", 34, "expected a weight"),
            ("-a -t 10.0.0.1:80 -r 10.0.1.1 -y 1", 31, "the lower threshold 1"),
            ("-a -t 10.0.0.1:80 -r 2001:db8::1 -m", 19, "[2001:db8::1]:80 is IPv6"),
            ("-a -t 10.0.0.1:80 -r 10.0.1.1 -i --tun-type gue", 34, "a gue tunnel needs"),
            ("-a -t 10.0.0.1:80 -r 10.0.1.1 -m --tun-csum", 34, "--tun-csum needs -i"),
        ] {
            let error = format!("{web}{line}").parse::<Ruleset>().unwrap_err();
            assert_eq!((error.line, error.column), (2, column), "{line}: {error}");
            assert!(error.message.starts_with(message), "{line}: {error}");
        }
    }
}
