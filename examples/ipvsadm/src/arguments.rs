//! Options into an action, by ipvsadm's checks in its order.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use crate::failure::{Failure, REFUSED};
use crate::names::{Names, inet_aton, leading_number, number};
use crate::options::{Command, Flag, Meaning, Use};
use crate::words::Words;
use ipvs_netlink::{
    DaemonRole, Destination, DestinationKey, EngineName, Family, Forwarding, HashOptions,
    InterfaceName, Netmask, Operation, Persistence, Protocol, Scheduler, Service, ServiceFlags,
    ServiceKey, SyncDaemon, TimeoutsUpdate, Tunnel,
};

/// What an invocation asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Change(Operation),
    List(What, View),
    Save { numeric: bool },
    Restore,
    Help,
    Version,
}

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Table,
    Service(ServiceKey),
    Connections,
    Timeouts,
    Daemons,
}

/// How it is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools)] // They are the options.
pub(crate) struct View {
    pub(crate) numeric: bool,
    pub(crate) exact: bool,
    pub(crate) unsorted: bool,
    pub(crate) stats: bool,
    pub(crate) rate: bool,
    pub(crate) thresholds: bool,
    pub(crate) persistent: bool,
    pub(crate) tunnels: bool,
}

/// Reads the arguments behind the program's name.
pub(crate) fn parse(
    program: &str,
    arguments: &[OsString],
    names: &Names,
) -> Result<Action, Failure> {
    let mut words = Words::new(arguments);
    let mut given = Given::new(names);
    let Ok(Some((spec, value))) = words.option() else { return Err(Failure::hint(program)) };
    let Meaning::Command(command) = spec.meaning else { return Err(Failure::hint(program)) };
    match command {
        // They end the program, whatever comes behind them.
        Command::Help => return Ok(Action::Help),
        Command::Version => return Ok(Action::Version),
        Command::StartDaemon => {
            given.role(value.as_deref(), "illegal start-daemon parameter specified")?;
        }
        Command::StopDaemon => {
            given.role(value.as_deref(), "illegal start_daemon specified")?;
        }
        _ => {}
    }
    while let Some((spec, value)) = words.option()? {
        if matches!(spec.meaning, Meaning::Command(_)) {
            return Err(Failure::usage(format!("invalid option `{}'", words.current)));
        }
        given.option(spec.meaning, value.as_deref())?;
    }
    let mut rest = words.rest.into_iter();
    if command == Command::Set {
        let timeouts = [rest.next(), rest.next(), rest.next()];
        given.timeouts = Some(read_timeouts(timeouts)?);
    }
    if let Some(unexpected) = rest.next() {
        return Err(Failure::usage(format!("unexpected argument {unexpected}")));
    }
    check(command, &given.flags)?;
    given.action(command)
}

/// The checks of which option goes with which command.
fn check(command: Command, flags: &BTreeSet<Flag>) -> Result<(), Failure> {
    let mut one = None;
    for flag in Flag::ALL {
        match (command.takes(flag), flags.contains(&flag)) {
            (Use::Needed, false) => {
                return Err(Failure::usage(format!(
                    "You need to supply the '{flag}' option for the '{command}' command"
                )));
            }
            (Use::Illegal, true) => {
                return Err(Failure::usage(format!(
                    "Illegal '{flag}' option with the '{command}' command"
                )));
            }
            (Use::OneOf, true) => {
                if let Some(other) = one.replace(flag) {
                    return Err(Failure::usage(format!(
                        "The option '{flag}' conflicts with the '{other}' option in the \
                         '{command}' command"
                    )));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The longest time that is taken, 31 days.
const LONGEST: i64 = 31 * 24 * 60 * 60;

fn seconds(text: &str, least: i64) -> Result<u32, Failure> {
    let seconds = number(text, least, LONGEST).and_then(|seconds| u32::try_from(seconds).ok());
    seconds.ok_or_else(|| Failure::usage(format!("invalid timeout value `{text}' specified")))
}

fn read_timeouts(words: [Option<String>; 3]) -> Result<TimeoutsUpdate, Failure> {
    let [Some(tcp), Some(tcp_fin), Some(udp)] = words else {
        return Err(Failure::usage("--set option requires 3 timeout values"));
    };
    // 0 leaves a timeout as it is.
    let timeout = |text: &str| {
        let seconds = seconds(text, 0)?;
        Ok::<_, Failure>((seconds > 0).then(|| Duration::from_secs(seconds.into())))
    };
    let mut update = TimeoutsUpdate::default();
    update.tcp = timeout(&tcp)?;
    update.tcp_fin = timeout(&tcp_fin)?;
    update.udp = timeout(&udp)?;
    Ok(update)
}

/// What the options have said so far.
struct Given<'a> {
    names: &'a Names,
    flags: BTreeSet<Flag>,
    role: DaemonRole,
    timeouts: Option<TimeoutsUpdate>,
    protocol: Option<Protocol>,
    address: Option<(IpAddr, u16)>,
    mark: Option<NonZeroU32>,
    family: Family,
    scheduler: String,
    persistence: Option<u32>,
    netmask: Option<Netmask>,
    engine: String,
    one_packet: bool,
    scheduler_flags: ServiceFlags,
    server: Option<DestinationKey>,
    forwarding: Option<Forwarding>,
    weight: u32,
    upper: u32,
    lower: u32,
    tunnel_kind: u8,
    tunnel_port: u16,
    interface: String,
    sync_id: u8,
    max_length: Option<u16>,
    group: Option<IpAddr>,
    port: Option<u16>,
    ttl: Option<u8>,
    view: View,
}

impl<'a> Given<'a> {
    fn new(names: &'a Names) -> Self {
        Self {
            names,
            flags: BTreeSet::new(),
            role: DaemonRole::Master,
            timeouts: None,
            protocol: None,
            address: None,
            mark: None,
            family: Family::V4,
            scheduler: String::new(),
            persistence: None,
            netmask: None,
            engine: String::new(),
            one_packet: false,
            scheduler_flags: ServiceFlags::empty(),
            server: None,
            forwarding: None,
            weight: 1,
            upper: 0,
            lower: 0,
            tunnel_kind: IPIP,
            tunnel_port: 0,
            interface: String::new(),
            sync_id: 0,
            max_length: None,
            group: None,
            port: None,
            ttl: None,
            view: View::default(),
        }
    }

    fn role(&mut self, value: Option<&str>, complaint: &str) -> Result<(), Failure> {
        self.role = match value {
            Some("master") => DaemonRole::Master,
            Some("backup") => DaemonRole::Backup,
            _ => return Err(Failure::usage(complaint)),
        };
        Ok(())
    }

    fn set(&mut self, flag: Flag) -> Result<(), Failure> {
        if self.flags.insert(flag) {
            Ok(())
        } else {
            Err(Failure::usage(format!("multiple '{flag}' options specified")))
        }
    }

    fn option(&mut self, meaning: Meaning, given: Option<&str>) -> Result<(), Failure> {
        let value = given.unwrap_or_default();
        match meaning {
            Meaning::Command(_) | Meaning::Sort => {}
            Meaning::Address(protocol) => {
                self.set(Flag::Service)?;
                self.service(Protocol::from_number(protocol), value)?;
            }
            Meaning::Mark => {
                self.set(Flag::Service)?;
                let mark =
                    number(value, 1, u32::MAX.into()).and_then(|mark| u32::try_from(mark).ok());
                self.mark = mark.and_then(NonZeroU32::new);
                if self.mark.is_none() {
                    return Err(Failure::usage(format!(
                        "invalid fwmark value `{value}' specified"
                    )));
                }
                // Names of ports are TCP's then.
                self.protocol = Some(Protocol::TCP);
            }
            Meaning::Ipv6 => {
                if self.mark.is_none() {
                    return Err(Failure::usage("-6 used before -f\n"));
                }
                self.family = Family::V6;
                self.netmask = None;
            }
            Meaning::Masquerade => self.forward(Forwarding::Masquerade)?,
            Meaning::Tunnel => self.forward(Forwarding::Tunnel(Tunnel::Ipip))?,
            Meaning::DirectRoute => self.forward(Forwarding::DirectRoute)?,
            Meaning::Local => self.forward(Forwarding::Local)?,
            Meaning::Bypass => self.forward(Forwarding::Bypass)?,
            Meaning::Flag(flag) => {
                self.set(flag)?;
                self.flag(flag, given)?;
            }
        }
        Ok(())
    }

    fn forward(&mut self, forwarding: Forwarding) -> Result<(), Failure> {
        self.forwarding = Some(forwarding);
        self.set(Flag::Forwarding)
    }

    fn service(&mut self, protocol: Protocol, value: &str) -> Result<(), Failure> {
        self.protocol = Some(protocol);
        let endpoint = self
            .names
            .endpoint(value, self.protocol)
            .ok_or_else(|| Failure::usage("illegal virtual server address[:port] specified"))?;
        self.family = endpoint.address.into();
        if self.family == Family::V6 {
            self.netmask = None;
        }
        self.address = Some((endpoint.address, endpoint.port.unwrap_or(0)));
        Ok(())
    }

    fn flag(&mut self, flag: Flag, given: Option<&str>) -> Result<(), Failure> {
        let value = given.unwrap_or_default();
        let illegal = |what: &str| Failure::usage(format!("illegal {what} specified"));
        let in_range = |least: u32, most: u32| {
            let number = number(value, least.into(), most.into());
            number.and_then(|number| u32::try_from(number).ok())
        };
        let largest = i32::MAX.cast_unsigned();
        let narrow = |number: Option<u32>| number.and_then(|number| u16::try_from(number).ok());
        let byte = |number: Option<u32>| number.and_then(|number| u8::try_from(number).ok());
        match flag {
            Flag::Scheduler => value.clone_into(&mut self.scheduler),
            Flag::Persistent => {
                self.persistence = Some(given.map_or(Ok(360), |value| seconds(value, 1))?);
            }
            Flag::Netmask => self.netmask = Some(self.mask(value)?),
            Flag::Engine => value.clone_into(&mut self.engine),
            Flag::OnePacket => self.one_packet = true,
            Flag::SchedulerFlags => self.scheduler_flags = self.scheduler_flags(value)?,
            Flag::Server => self.server = Some(self.real_server(value)?),
            Flag::Weight => self.weight = in_range(0, largest).ok_or(illegal("weight"))?,
            Flag::UpperThreshold => {
                self.upper = in_range(0, largest).ok_or(illegal("u_threshold"))?;
            }
            Flag::LowerThreshold => {
                self.lower = in_range(0, largest).ok_or(illegal("l_threshold"))?;
            }
            Flag::TunnelType => {
                self.tunnel_kind = match value {
                    "ipip" => IPIP,
                    "gue" => GUE,
                    "gre" => GRE,
                    _ => return Err(illegal("tunnel type")),
                };
            }
            Flag::TunnelPort => {
                self.tunnel_port = narrow(in_range(1, 65535)).ok_or(illegal("tunnel port"))?;
            }
            Flag::Interface => value.clone_into(&mut self.interface),
            Flag::SyncId => self.sync_id = byte(in_range(0, 255)).ok_or(illegal("syncid"))?,
            Flag::MaxLength => {
                let length = narrow(in_range(1, 65507)).ok_or(illegal("sync-maxlen"))?;
                self.max_length = Some(length);
            }
            Flag::Group => self.group = Some(group(value)?),
            Flag::Port => {
                self.port = Some(narrow(in_range(1, 65535)).ok_or(illegal("mcast-port"))?);
            }
            Flag::Ttl => self.ttl = Some(byte(in_range(1, 255)).ok_or(illegal("mcast-ttl"))?),
            Flag::Numeric => self.view.numeric = true,
            Flag::Exact => self.view.exact = true,
            Flag::NoSort => self.view.unsorted = true,
            Flag::Stats => self.view.stats = true,
            Flag::Rate => self.view.rate = true,
            Flag::Thresholds => self.view.thresholds = true,
            Flag::PersistentConnections => self.view.persistent = true,
            Flag::TunnelInfo => self.view.tunnels = true,
            Flag::Service
            | Flag::Forwarding
            | Flag::Connection
            | Flag::Timeout
            | Flag::Daemon
            | Flag::TunnelNoChecksum
            | Flag::TunnelChecksum
            | Flag::TunnelRemoteChecksum => {}
        }
        Ok(())
    }

    fn mask(&self, value: &str) -> Result<Netmask, Failure> {
        if self.family == Family::V4 {
            let mask = inet_aton(value).or_else(|| Names::address(value)).map(Netmask::V4);
            return mask.ok_or(Failure::usage("illegal virtual server persistent mask specified"));
        }
        let prefix = leading_number(value).filter(|prefix| (1..=128).contains(prefix));
        prefix.map(Netmask::V6).ok_or(Failure::usage("illegal ipv6 netmask specified"))
    }

    fn scheduler_flags(&self, value: &str) -> Result<ServiceFlags, Failure> {
        let mut flags = ServiceFlags::empty();
        for word in value.split(',').filter(|word| !word.is_empty()) {
            let (flag, of) = match word {
                "flag-1" => (ServiceFlags::SCHEDULER_1, None),
                "flag-2" => (ServiceFlags::SCHEDULER_2, None),
                "flag-3" => (ServiceFlags::SCHEDULER_3, None),
                "sh-fallback" => (ServiceFlags::SCHEDULER_1, Some("sh")),
                "sh-port" => (ServiceFlags::SCHEDULER_2, Some("sh")),
                "mh-fallback" => (ServiceFlags::SCHEDULER_1, Some("mh")),
                "mh-port" => (ServiceFlags::SCHEDULER_2, Some("mh")),
                _ => return Err(Failure::usage(format!("invalid scheduler flag `{word}'"))),
            };
            if of.is_some_and(|scheduler| scheduler != self.scheduler) {
                return Err(Failure::usage(format!("incompatible scheduler flag `{word}'")));
            }
            flags |= flag;
        }
        Ok(flags)
    }

    fn real_server(&self, value: &str) -> Result<DestinationKey, Failure> {
        let endpoint = self
            .names
            .endpoint(value, self.protocol)
            .ok_or_else(|| Failure::usage("illegal real server address[:port] specified"))?;
        let of_service = self.address.map_or(0, |(_, port)| port);
        Ok(DestinationKey::new(endpoint.address, endpoint.port.unwrap_or(of_service)))
    }

    fn action(self, command: Command) -> Result<Action, Failure> {
        let operation = match command {
            Command::AddService => Operation::AddService(self.whole_service()?),
            Command::EditService => Operation::UpdateService(self.whole_service()?),
            Command::DeleteService => Operation::RemoveService(self.key()),
            Command::Flush => Operation::Flush,
            Command::AddServer => Operation::AddDestination(self.key(), self.destination()?),
            Command::EditServer => Operation::UpdateDestination(self.key(), self.destination()?),
            Command::DeleteServer => Operation::RemoveDestination(self.key(), self.server_key()),
            Command::Set => Operation::SetTimeouts(self.timeouts.unwrap_or_default()),
            Command::StartDaemon => Operation::StartDaemon(self.daemon()?),
            Command::StopDaemon => Operation::StopDaemon(self.role),
            Command::Zero if self.flags.contains(&Flag::Service) => {
                Operation::ZeroService(self.key())
            }
            Command::Zero => Operation::Zero,
            Command::List => return self.list(),
            Command::Save => return Ok(Action::Save { numeric: self.view.numeric }),
            Command::Restore => return Ok(Action::Restore),
            Command::Help => return Ok(Action::Help),
            Command::Version => return Ok(Action::Version),
        };
        Ok(Action::Change(operation))
    }

    fn list(&self) -> Result<Action, Failure> {
        let has = |flag| self.flags.contains(&flag);
        let View { stats, rate, thresholds, persistent, .. } = self.view;
        let of_table = stats || rate || thresholds;
        if (has(Flag::Connection) && of_table)
            || ((has(Flag::Timeout) || has(Flag::Daemon)) && (of_table || persistent))
        {
            return Err(Failure::usage("options conflicts in the list command"));
        }
        let what = if has(Flag::Connection) {
            What::Connections
        } else if has(Flag::Service) {
            What::Service(self.key())
        } else if has(Flag::Timeout) {
            What::Timeouts
        } else if has(Flag::Daemon) {
            What::Daemons
        } else {
            What::Table
        };
        Ok(Action::List(what, self.view))
    }

    /// The service's key; the checks have seen to it that the options have one.
    fn key(&self) -> ServiceKey {
        match (self.mark, self.address) {
            (Some(mark), _) => ServiceKey::from((mark, self.family)),
            (None, address) => {
                let (address, port) = address.unwrap_or((Ipv4Addr::UNSPECIFIED.into(), 0));
                ServiceKey::address(self.protocol.unwrap_or(Protocol::TCP), address, port)
            }
        }
    }

    fn whole_service(&self) -> Result<Service, Failure> {
        let key = self.key();
        if let ServiceKey::Address { protocol, port, .. } = key {
            if port == 0 && self.persistence.is_none() {
                return Err(Failure::usage("Zero port specified for non-persistent service"));
            }
            if self.one_packet && protocol != Protocol::UDP {
                return Err(Failure::usage(
                    "One-Packet Scheduling is only for UDP virtual services",
                ));
            }
        }
        let unknown = |_| Failure::new(REFUSED, "Scheduler or persistence engine not found");
        let scheduler = match self.scheduler.as_str() {
            "" => Scheduler::default(),
            name => Scheduler::named(cut(name, 15)).map_err(unknown)?,
        };
        let options = HashOptions::default()
            .fallback(self.scheduler_flags.contains(ServiceFlags::SCHEDULER_1))
            .port(self.scheduler_flags.contains(ServiceFlags::SCHEDULER_2));
        let service = Service::new(key)
            .scheduler(scheduler.with_hash_options(options))
            .one_packet(self.one_packet)
            .flags(self.scheduler_flags);
        let engine = match self.engine.as_str() {
            "" => None,
            name => Some(EngineName::new(cut(name, 16)).map_err(unknown)?),
        };
        let Some(seconds) = self.persistence else { return Ok(service) };
        let mut persistence = Persistence::new(Duration::from_secs(seconds.into()));
        persistence.netmask = self.netmask;
        persistence.engine = engine;
        Ok(service.persistence(persistence))
    }

    fn server_key(&self) -> DestinationKey {
        self.server.unwrap_or(DestinationKey::new(Ipv4Addr::UNSPECIFIED, 0))
    }

    fn destination(&self) -> Result<Destination, Failure> {
        let forwarding = self.forwarding.unwrap_or(Forwarding::DirectRoute);
        let mut key = self.server_key();
        if key.family() != self.key().family() && forwarding.tunnel().is_none() {
            return Err(Failure::usage(
                "Different address family is allowed only for tunneling servers",
            ));
        }
        let forwarding = self.tunnelled(forwarding)?;
        // Neither tunnels nor direct routes change ports; a mark's service has none.
        let keeps_port = matches!(forwarding, Forwarding::Tunnel(_) | Forwarding::DirectRoute);
        if let (ServiceKey::Address { port, .. }, true) = (self.key(), keeps_port) {
            key.port = port;
        }
        Ok(Destination::new(key, forwarding).weight(self.weight).thresholds(self.upper, self.lower))
    }

    /// The forwarding method with its tunnel.
    fn tunnelled(&self, forwarding: Forwarding) -> Result<Forwarding, Failure> {
        let has = |flag| self.flags.contains(&flag);
        let of_tunnels = [
            Flag::TunnelType,
            Flag::TunnelPort,
            Flag::TunnelNoChecksum,
            Flag::TunnelChecksum,
            Flag::TunnelRemoteChecksum,
        ];
        if forwarding.tunnel().is_none() {
            return if of_tunnels.into_iter().any(has) {
                Err(Failure::usage("Tunnel options conflict with forward method"))
            } else {
                Ok(forwarding)
            };
        }
        let name = ["ipip", "gue", "gre"][usize::from(self.tunnel_kind)];
        let mut one = None;
        for flag in of_tunnels.into_iter().skip(1) {
            let takes = match (self.tunnel_kind, flag) {
                (GUE, Flag::TunnelPort) => Use::Needed,
                (GUE, _) | (GRE, Flag::TunnelNoChecksum | Flag::TunnelChecksum) => Use::OneOf,
                _ => Use::Illegal,
            };
            match (takes, has(flag)) {
                (Use::Needed, false) => {
                    return Err(Failure::usage(format!(
                        "You need to supply the '{flag}' option for the '{name}' tunnel type"
                    )));
                }
                (Use::Illegal, true) => {
                    return Err(Failure::usage(format!(
                        "Illegal '{flag}' option with the '{name}' tunnel type"
                    )));
                }
                (Use::OneOf, true) => {
                    if let Some(other) = one.replace(flag) {
                        return Err(Failure::usage(format!(
                            "The option '{flag}' conflicts with the '{other}' option in the \
                             '{name}' tunnel type"
                        )));
                    }
                }
                _ => {}
            }
        }
        let flags = match one {
            Some(Flag::TunnelChecksum) => 1,
            Some(Flag::TunnelRemoteChecksum) => 2,
            _ => 0,
        };
        let tunnel = Tunnel::from_numbers(self.tunnel_kind, self.tunnel_port, flags);
        Ok(Forwarding::Tunnel(tunnel))
    }

    fn daemon(&self) -> Result<SyncDaemon, Failure> {
        let name = match self.interface.as_str() {
            "" => "eth0",
            name => cut(name, 15),
        };
        let interface = InterfaceName::new(name);
        let interface = interface.map_err(|_| Failure::new(REFUSED, "No such device"))?;
        let mut daemon = SyncDaemon::new(self.role, interface).sync_id(self.sync_id);
        daemon.max_length = self.max_length;
        daemon.group = self.group;
        daemon.port = self.port;
        daemon.ttl = self.ttl;
        Ok(daemon)
    }
}

const IPIP: u8 = 0;
const GUE: u8 = 1;
const GRE: u8 = 2;

/// The beginning of a name that there is room for.
pub(crate) fn cut(name: &str, most: usize) -> &str {
    let end = (0..=most.min(name.len())).rev().find(|end| name.is_char_boundary(*end));
    &name[..end.unwrap_or(0)]
}

fn group(value: &str) -> Result<IpAddr, Failure> {
    let (family, address) = if value.contains(':') {
        ("IPv6", value.parse::<Ipv6Addr>().ok().map(IpAddr::from))
    } else {
        ("IPv4", value.parse::<Ipv4Addr>().ok().map(IpAddr::from))
    };
    let group = address.filter(IpAddr::is_multicast);
    group.ok_or_else(|| Failure::usage(format!("invalid {family} mcast-group `{value}'")))
}
