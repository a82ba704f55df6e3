//! A ruleset from text, in the format of `ipvsadm-save`.

use std::collections::VecDeque;
use std::mem::discriminant;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use super::Ruleset;
use super::lexer::{Word, WordError, unbundle, words};
use super::options::{NamedService, OptionValue};
use crate::model::{
    Destination, DestinationKey, Family, Forwarding, Persistence, Service, ServiceKey, Tunnel,
};

/// The place at which a text is no ruleset, and the text that was expected there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
#[non_exhaustive]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters from 1.
    pub column: usize,
    /// The text that was expected, or the fault.
    pub message: String,
}

impl FromStr for Ruleset {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        // Some editors begin a file with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
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
    if command.is_short_option() {
        unbundle(&mut words);
    }
    let mut line = Line { command, given: Vec::new() };
    while let Some(word) = words.pop_front() {
        let value = OptionValue::read(&word, &mut words)?;
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
    let persistence = line.find(|given| matches!(given, OptionValue::Persistence(_)));
    for (word, given) in &line.given {
        match given {
            OptionValue::Scheduler(scheduler) => service.scheduler = *scheduler,
            OptionValue::Persistence(seconds) => {
                let timeout = Duration::from_secs((*seconds).into());
                service.persistence = Some(Persistence::new(timeout));
            }
            OptionValue::Netmask(_) | OptionValue::Engine(_) if persistence.is_none() => {
                return Err(word.error(format!("{} needs -p", word.text)));
            }
            OptionValue::OnePacket => service.one_packet = true,
            OptionValue::Flags(flags, _) | OptionValue::FlagBits(flags) => service.flags |= *flags,
            OptionValue::Service(_)
            | OptionValue::Ipv6
            | OptionValue::Netmask(_)
            | OptionValue::Engine(_)
            | OptionValue::AsIs => {}
            _ => return Err(word.error(format!("{} is for destinations (-a)", word.text))),
        }
    }
    for (word, given) in &line.given {
        match (given, &mut service.persistence) {
            (OptionValue::Netmask(netmask), Some(persistence)) => {
                persistence.netmask = Some(*netmask);
            }
            (OptionValue::Engine(engine), Some(persistence)) => persistence.engine = Some(*engine),
            (OptionValue::Flags(_, Some(of)), _) if *of != service.scheduler.name() => {
                let scheduler = service.scheduler.name();
                return Err(word.error(format!(
                    "{} has options of the scheduler {of}, and the service has {scheduler}",
                    word.text
                )));
            }
            _ => {}
        }
    }
    // Two of the flags are options of sh and mh.
    service.scheduler = service.scheduler.with_hash_options(service.flags.options());
    let as_is = line.find(|given| matches!(given, OptionValue::AsIs)).is_some();
    let inserted = if as_is { rules.insert_as_is(service) } else { rules.insert_service(service) };
    inserted.map_err(|invalid| line.blamed(&service, word).error(invalid.to_string()))?;
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
            OptionValue::Service(_) | OptionValue::Ipv6 => {}
            OptionValue::RealServer(address, port) => real_server = Some((word, address, port)),
            OptionValue::Forwarding(forwarding) => destination.forwarding = forwarding,
            OptionValue::Weight(weight) => destination.weight = weight,
            OptionValue::UpperThreshold(upper) => destination.upper_threshold = upper,
            OptionValue::LowerThreshold(lower) => destination.lower_threshold = lower,
            OptionValue::TunnelKind(kind, _) => tunnel.0 = kind,
            OptionValue::TunnelPort(port) => tunnel.1 = port,
            OptionValue::TunnelFlags(flags) => tunnel.2 = flags,
            _ => return Err(word.error(format!("{} is for services (-A)", word.text))),
        }
    }
    let Some((word, address, port)) = real_server else {
        return Err(line.command.error("-a needs -r with the destination's address"));
    };
    // A destination without a port has the port of its service, as with ipvsadm; a mark has no
    // port.
    let port = port.unwrap_or(match service {
        ServiceKey::Address { port, .. } => port,
        ServiceKey::Mark { .. } => 0,
    });
    destination.key = DestinationKey::new(address, port);
    if rules_of_service.destination(destination.key).is_some() {
        return Err(word.error(format!("destination {} is there already", destination.key)));
    }
    match (destination.forwarding, line.find(OptionValue::is_of_tunnel)) {
        (Forwarding::Tunnel(_), Some(word)) if tunnel.0 == Tunnel::GUE && tunnel.1 == 0 => {
            return Err(word.error("a gue tunnel needs --tun-port with a port other than 0"));
        }
        (Forwarding::Tunnel(_), _) => {
            let (kind, port, flags) = tunnel;
            let tunnel = Tunnel::from_numbers(kind, port, flags);
            if let (Tunnel::Other(_), Some(word)) = (tunnel, line.of_another_tunnel(kind)) {
                let name = Tunnel::kind_name(kind);
                return Err(
                    word.error(format!("{} does not go with a tunnel of type {name}", word.text))
                );
            }
            destination.forwarding = Forwarding::Tunnel(tunnel);
        }
        (_, Some(word)) => return Err(word.error(format!("{} needs -i", word.text))),
        _ => {}
    }
    let lower = line.find(|given| matches!(given, OptionValue::LowerThreshold(_)));
    let blamed = match lower {
        Some(lower) if destination.lower_threshold > destination.upper_threshold => lower,
        _ => word,
    };
    rules
        .insert_destination(service, destination)
        .map_err(|invalid| blamed.error(invalid.to_string()))?;
    Ok(())
}

/// A command with its options.
struct Line<'a> {
    command: &'a Word,
    given: Vec<(Word, OptionValue)>,
}

impl Line<'_> {
    /// The word to blame if the service of this line is refused: `key`, unless another one is the
    /// cause.
    fn blamed<'a>(&'a self, service: &Service, key: &'a Word) -> &'a Word {
        let is_fine = |service: Service| service.check().is_ok();
        let persistence = service.persistence.map(|p| Persistence { netmask: None, ..p });
        let blamed = if is_fine(Service { one_packet: false, ..*service }) {
            self.find(|given| matches!(given, OptionValue::OnePacket))
        } else if is_fine(Service { persistence, ..*service }) {
            self.find(|given| matches!(given, OptionValue::Netmask(_)))
        } else {
            self.find(|given| matches!(given, OptionValue::Persistence(_)))
        };
        blamed.unwrap_or(key)
    }

    /// The option to blame if a tunnel that is given by its name, or by no option, is not of this
    /// type.
    fn of_another_tunnel(&self, kind: u8) -> Option<&Word> {
        if self.find(|given| matches!(given, OptionValue::TunnelKind(_, false))).is_some() {
            return None;
        }
        let port = self.find(|given| matches!(given, OptionValue::TunnelPort(_)));
        let flags = self.find(|given| matches!(given, OptionValue::TunnelFlags(_)));
        if kind == Tunnel::GUE { flags } else { port.or(flags) }
    }

    fn find(&self, wanted: impl Fn(&OptionValue) -> bool) -> Option<&Word> {
        self.given.iter().find(|(_, given)| wanted(given)).map(|(word, _)| word)
    }

    fn service(&self) -> Result<(&Word, ServiceKey), WordError> {
        let ipv6 = self.find(|given| matches!(given, OptionValue::Ipv6));
        for (word, given) in &self.given {
            let OptionValue::Service(service) = given else { continue };
            return match (service, ipv6) {
                (NamedService::Mark(mark), None) => {
                    Ok((word, ServiceKey::from((*mark, Family::V4))))
                }
                (NamedService::Mark(mark), Some(_)) => {
                    Ok((word, ServiceKey::from((*mark, Family::V6))))
                }
                (NamedService::Address(key), None) => Ok((word, *key)),
                (NamedService::Address(_), Some(ipv6)) => {
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

    /// Once: a service that another program had written was printed, but the text could not be
    /// parsed to restore the service.
    #[test]
    fn prints_and_reads_what_a_kernel_holds_and_ipvsadm_refuses() {
        same(
            "-A -t 10.0.0.1:0 -s rr --as-is\n\
              -A -t 10.0.0.1:80 -s rr -o --as-is\n\
              -a -t 10.0.0.1:80 -r 10.0.1.1:80 -m -w 1\n\
              -A -u 10.0.0.1:0 -s rr -o --as-is\n\
              -A -u 10.0.0.1:53 -s rr -p 0 --as-is\n\
              -A --sctp-service 10.0.0.1:9 -s rr -p 60 -o --as-is\n",
        );
        same(
            "-A -t 10.0.0.1:80 --scheduler=-o -p 2678401 --pe=#x\n\
              -A -u 10.0.0.1:53 --scheduler=#1 -p 60 --pe=-\n\
              -A --protocol-service 47/10.0.0.1:0 -s rr -o\n",
        );
    }

    #[test]
    fn takes_what_people_write() {
        let rules: Ruleset =
            "\u{feff}\n# web\r\n  --add-service --tcp-service=10.0.0.1:80 -p # default\n\
             -a -w2 -m -t 10.0.0.1:80 -r 10.0.1.1\n\
             -At 10.0.0.2:80 -s=rr\n\
             -at10.0.0.2:80 -r=10.0.1.1:81 -mw 3\n"
                .parse()
                .unwrap();
        let expected = "-A -t 10.0.0.1:80 -s wlc -p 360\n\
                        -a -t 10.0.0.1:80 -r 10.0.1.1:80 -m -w 2\n\
                        -A -t 10.0.0.2:80 -s rr\n\
                        -a -t 10.0.0.2:80 -r 10.0.1.1:81 -m -w 3\n";
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
            ("-A -t 10.0.0.1:81 é-r", 19, "expected an option"),
            ("-A -t 10.0.0.1:81 -o2", 21, "-o takes no value"),
            ("-A -t 10.0.0.1:81 -é日", 19, "expected an option"),
            ("-A -t 10.0.0.1:81 -oé日", 21, "expected an option"),
            ("-Aé日", 3, "expected an option"),
            ("-A -t 10.0.0.1:81 -o", 19, "one-packet scheduling is for UDP"),
            ("-A -t 10.0.0.1:81 -o -p 9", 19, "one-packet scheduling is for UDP"),
            ("-A --sctp-service 10.0.0.1:81 -o", 31, "one-packet scheduling is for UDP"),
            ("-A -t 10.0.0.1:0", 4, "port 0 stands for every port, which needs persistence"),
            ("-A -t 10.0.0.1", 4, "port 0 stands for every port, which needs persistence"),
            ("-A -t 10.0.0.1:81 -p 0", 19, "persistence of 0 s"),
            ("-A -t 10.0.0.1:81 -p 0 -M 255.0.0.0", 19, "persistence of 0 s"),
            ("-A -t 10.0.0.1:81 -p 4294967295 --as-is", 19, "a persistence timeout of"),
            ("-A -t 10.0.0.1:81 -p 5m", 22, "expected a timeout in seconds, not \"5m\""),
            ("-A -t 10.0.0.1:81 -b sh-port", 19, "-b has options of the scheduler sh"),
            ("-A -t 10.0.0.1:81 -s rr -b flag-3,mh-port", 25, "-b has options of the scheduler mh"),
            (
                "-A -t 10.0.0.1:81 -s sh -b sh-port,mh-port",
                28,
                "sh-port,mh-port has options of two",
            ),
            ("-A -t 10.0.0.1:81 -b sh-prot", 22, "expected scheduler flags"),
            ("-A -t 10.0.0.1:81 -s -o", 22, "expected a scheduler after -s, not \"-o\""),
            ("-A -t 10.0.0.1:81 -s --ops", 22, "expected a scheduler after -s"),
            ("-A -t -u 10.0.0.1:81", 7, "expected an address"),
            ("-A -t 10.0.0.1:81 --ops=1", 25, "--ops takes no value"),
            ("-A -t 10.0.0.1:81 --flags 0x41", 27, "0x41 has bits that are not given as such"),
            (
                "-A -t 10.0.0.1:81 --shceduler rr",
                19,
                "expected an option of a service or of a destination, not \"--shceduler\"; did you mean --scheduler?",
            ),
            ("-A -t 10.0.0.1:81 -s wrr extra", 26, "expected an option"),
            (
                "-A -t web:80",
                7,
                "expected an address, as 10.0.0.1:80 or [2001:db8::1]:80, not \"web:80\": names are not looked up; ipvsadm-save -n",
            ),
            (
                "-A -t ::1:80",
                7,
                "expected an address, as 10.0.0.1:80 or [2001:db8::1]:80, not \"::1:80\": an IPv6 address stands in brackets",
            ),
            (
                "-A -u [fe80::1%2]:53",
                7,
                "expected an address, as 10.0.0.1:80 or [2001:db8::1]:80, not \"[fe80::1%2]:53\": IPVS keeps no scope",
            ),
            ("-a -t 10.0.0.1:80 -r 2001:db8::1 -i", 22, "expected an address"),
            ("-a -t 10.0.0.1:80 -r 10.0.1.1 --as-is", 31, "--as-is is for services"),
            ("-a -t 10.0.0.1:80", 1, "-a needs -r"),
            ("-a -t 10.0.0.1:81 -r 10.0.1.1", 4, "service tcp 10.0.0.1:81 is not there"),
            ("-a -t 10.0.0.1:80 -r 10.0.1.1 -s rr", 31, "-s is for services"),
            ("-a -t 10.0.0.1:80 -r 10.0.1.1 -w 2147483648", 34, "expected a weight"),
            ("-a -t 10.0.0.1:80 -r 10.0.1.1 -y 1", 31, "the lower threshold 1"),
            ("-a -t 10.0.0.1:80 -r [2001:db8::1] -m", 19, "[2001:db8::1]:80 is IPv6"),
            ("-a -t 10.0.0.1:80 -r 10.0.1.1 -i --tun-type gue", 34, "a gue tunnel needs"),
            ("-a -t 10.0.0.1:80 -r 10.0.1.1 -m --tun-csum", 34, "--tun-csum needs -i"),
            (
                "-a -t 10.0.0.1:80 -r 10.0.1.1 -i --tun-port 9",
                34,
                "--tun-port does not go with a tunnel of type ipip",
            ),
            (
                "-a -t 10.0.0.1:80 -r 10.0.1.1 -i --tun-type ipip --tun-csum",
                50,
                "--tun-csum does not go",
            ),
            (
                "-a -t 10.0.0.1:80 -r 10.0.1.1 -i --tun-type gre --tun-port 7",
                49,
                "--tun-port does not go with a tunnel of type gre",
            ),
            (
                "-a -t 10.0.0.1:80 -r 10.0.1.1 -i --tun-type gre --tun-remcsum",
                49,
                "--tun-remcsum does not go",
            ),
            (
                "-A -t 10.0.0.1:81 -p -5",
                22,
                "expected an option of a service or of a destination, not \"-5\"; a number has no sign",
            ),
        ] {
            let error = format!("{web}{line}").parse::<Ruleset>().unwrap_err();
            assert_eq!((error.line, error.column), (2, column), "{line}: {error}");
            assert!(error.message.starts_with(message), "{line}: {error}");
        }
    }
}
