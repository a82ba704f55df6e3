//! The one table of options: what the arguments, the checks, the manual and the completions are made of.

use std::fmt;

/// What an invocation is to do: its first option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    AddService,
    EditService,
    DeleteService,
    Flush,
    List,
    AddServer,
    DeleteServer,
    EditServer,
    Set,
    StartDaemon,
    StopDaemon,
    Restore,
    Save,
    Zero,
    Help,
    Version,
}

/// An option that goes with a command. The order is the one in which ipvsadm complains of those that
/// do not go with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Flag {
    Numeric,
    Connection,
    Service,
    Scheduler,
    Persistent,
    Netmask,
    Server,
    Forwarding,
    Weight,
    UpperThreshold,
    LowerThreshold,
    Interface,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConnections,
    NoSort,
    SyncId,
    Exact,
    OnePacket,
    Engine,
    SchedulerFlags,
    Group,
    Port,
    Ttl,
    MaxLength,
    TunnelInfo,
    TunnelType,
    TunnelPort,
    TunnelNoChecksum,
    TunnelChecksum,
    TunnelRemoteChecksum,
}

impl Flag {
    pub(crate) const ALL: [Self; 34] = [
        Self::Numeric,
        Self::Connection,
        Self::Service,
        Self::Scheduler,
        Self::Persistent,
        Self::Netmask,
        Self::Server,
        Self::Forwarding,
        Self::Weight,
        Self::UpperThreshold,
        Self::LowerThreshold,
        Self::Interface,
        Self::Timeout,
        Self::Daemon,
        Self::Stats,
        Self::Rate,
        Self::Thresholds,
        Self::PersistentConnections,
        Self::NoSort,
        Self::SyncId,
        Self::Exact,
        Self::OnePacket,
        Self::Engine,
        Self::SchedulerFlags,
        Self::Group,
        Self::Port,
        Self::Ttl,
        Self::MaxLength,
        Self::TunnelInfo,
        Self::TunnelType,
        Self::TunnelPort,
        Self::TunnelNoChecksum,
        Self::TunnelChecksum,
        Self::TunnelRemoteChecksum,
    ];
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Numeric => "numeric",
            Self::Connection => "connection",
            Self::Service => "service-address",
            Self::Scheduler => "scheduler",
            Self::Persistent => "persistent",
            Self::Netmask => "netmask",
            Self::Server => "real-server",
            Self::Forwarding => "forwarding-method",
            Self::Weight => "weight",
            Self::UpperThreshold => "u-threshold",
            Self::LowerThreshold => "l-threshold",
            Self::Interface => "mcast-interface",
            Self::Timeout => "timeout",
            Self::Daemon => "daemon",
            Self::Stats => "stats",
            Self::Rate => "rate",
            Self::Thresholds => "thresholds",
            Self::PersistentConnections => "persistent-conn",
            Self::NoSort => "nosort",
            Self::SyncId => "syncid",
            Self::Exact => "exact",
            Self::OnePacket => "ops",
            Self::Engine => "pe",
            Self::SchedulerFlags => "sched-flags",
            Self::TunnelInfo => "tun-info",
            Self::TunnelType => "tun-type",
            Self::TunnelPort => "tun-port",
            Self::TunnelNoChecksum => "tun-nocsum",
            Self::TunnelChecksum => "tun-csum",
            Self::TunnelRemoteChecksum => "tun-remcsum",
            Self::MaxLength => "sync-maxlen",
            Self::Group => "mcast-group",
            Self::Port => "mcast-port",
            Self::Ttl => "mcast-ttl",
        })
    }
}

/// How a command takes an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Needed,
    Allowed,
    /// At most one of those that are so.
    OneOf,
    Illegal,
}

impl Command {
    /// How this command takes an option.
    pub(crate) fn takes(self, flag: Flag) -> Use {
        use Flag as F;
        match (self, flag) {
            (
                Self::AddService
                | Self::EditService
                | Self::DeleteService
                | Self::AddServer
                | Self::EditServer
                | Self::DeleteServer,
                F::Service,
            )
            | (Self::AddServer | Self::EditServer | Self::DeleteServer, F::Server) => Use::Needed,
            (Self::List, F::Connection | F::Service | F::Timeout | F::Daemon) => Use::OneOf,
            (
                Self::AddService | Self::EditService,
                F::Scheduler
                | F::Persistent
                | F::Netmask
                | F::OnePacket
                | F::Engine
                | F::SchedulerFlags,
            )
            | (
                Self::AddServer | Self::EditServer,
                F::Forwarding
                | F::Weight
                | F::UpperThreshold
                | F::LowerThreshold
                | F::TunnelType
                | F::TunnelPort
                | F::TunnelNoChecksum
                | F::TunnelChecksum
                | F::TunnelRemoteChecksum,
            )
            | (
                Self::List,
                F::Numeric
                | F::Stats
                | F::Rate
                | F::Thresholds
                | F::PersistentConnections
                | F::NoSort
                | F::SyncId
                | F::Exact
                | F::TunnelInfo,
            )
            | (
                Self::StartDaemon,
                F::Interface | F::SyncId | F::MaxLength | F::Group | F::Port | F::Ttl,
            )
            | (Self::StopDaemon, F::SyncId)
            | (Self::Save, F::Numeric)
            | (Self::Zero, F::Service) => Use::Allowed,
            _ => Use::Illegal,
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AddService => "add-service",
            Self::EditService => "edit-service",
            Self::DeleteService => "delete-service",
            Self::Flush => "flush",
            Self::List => "list",
            Self::AddServer => "add-server",
            Self::DeleteServer => "delete-server",
            Self::EditServer => "edit-server",
            Self::Set => "set",
            Self::StartDaemon => "start-daemon",
            Self::StopDaemon => "stop-daemon",
            Self::Restore => "restore",
            Self::Save => "save",
            Self::Zero => "zero",
            Self::Help => "help",
            Self::Version => "version",
        })
    }
}

/// What an option stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    Command(Command),
    Flag(Flag),
    /// A service by protocol number and address.
    Address(u16),
    Mark,
    Ipv6,
    Masquerade,
    Tunnel,
    DirectRoute,
    /// This program's own, for what ipvsadm cannot write down.
    Local,
    /// Another of this program's own.
    Bypass,
    /// Takes no effect.
    Sort,
}

/// Whether an option has a value, and what it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    None,
    Needed(&'static str),
    /// Needed, and most often one of these.
    OneOf(&'static str, &'static [&'static str]),
    Optional(&'static str),
}

/// An option.
pub(crate) struct Spec {
    pub(crate) short: Option<char>,
    pub(crate) long: &'static str,
    pub(crate) value: Value,
    pub(crate) meaning: Meaning,
    /// For the manual page and the completions.
    pub(crate) help: &'static str,
}

const fn spec(
    short: Option<char>,
    long: &'static str,
    value: Value,
    meaning: Meaning,
    help: &'static str,
) -> Spec {
    Spec { short, long, value, meaning, help }
}

const fn command(short: char, long: &'static str, command: Command, help: &'static str) -> Spec {
    spec(Some(short), long, Value::None, Meaning::Command(command), help)
}

const fn flag(
    short: Option<char>,
    long: &'static str,
    value: Value,
    flag: Flag,
    help: &'static str,
) -> Spec {
    spec(short, long, value, Meaning::Flag(flag), help)
}

const ROLE: Value = Value::OneOf("role", &["master", "backup"]);
const ADDRESS: Value = Value::Needed("address");
const SCHEDULERS: &[&str] = &[
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos",
];
const SCHEDULER_FLAGS: &[&str] =
    &["sh-fallback", "sh-port", "mh-fallback", "mh-port", "flag-1", "flag-2", "flag-3"];

pub(crate) const OPTIONS: &[Spec] = &[
    command('A', "add-service", Command::AddService, "Add a virtual service"),
    command('E', "edit-service", Command::EditService, "Give a virtual service all options anew"),
    command('D', "delete-service", Command::DeleteService, "Delete a service with its servers"),
    command('C', "clear", Command::Flush, "Delete all services"),
    command('R', "restore", Command::Restore, "Run the commands of standard input, all or none"),
    command('S', "save", Command::Save, "Print the table as commands for --restore"),
    command('a', "add-server", Command::AddServer, "Add a real server to a service"),
    command('e', "edit-server", Command::EditServer, "Give a real server all options anew"),
    command('d', "delete-server", Command::DeleteServer, "Delete a real server from a service"),
    command('L', "list", Command::List, "List the table, connections, timeouts or daemons"),
    command('l', "list", Command::List, "The same as -L"),
    command('Z', "zero", Command::Zero, "Set the counters of a service, or of all, to zero"),
    spec(
        None,
        "set",
        Value::None,
        Meaning::Command(Command::Set),
        "Set the timeouts: tcp tcpfin udp",
    ),
    spec(
        None,
        "start-daemon",
        ROLE,
        Meaning::Command(Command::StartDaemon),
        "Start a connection sync daemon",
    ),
    spec(
        None,
        "stop-daemon",
        ROLE,
        Meaning::Command(Command::StopDaemon),
        "Stop a connection sync daemon",
    ),
    command('h', "help", Command::Help, "Print a summary of the options"),
    command('v', "version", Command::Version, "Print the version"),
    spec(Some('t'), "tcp-service", ADDRESS, Meaning::Address(6), "A TCP service"),
    spec(Some('u'), "udp-service", ADDRESS, Meaning::Address(17), "A UDP service"),
    spec(None, "sctp-service", ADDRESS, Meaning::Address(132), "An SCTP service"),
    spec(
        Some('f'),
        "fwmark-service",
        Value::Needed("mark"),
        Meaning::Mark,
        "A service of packets with a firewall mark, from 1 on",
    ),
    spec(Some('6'), "ipv6", Value::None, Meaning::Ipv6, "The mark is of IPv6 packets; after -f"),
    flag(
        Some('s'),
        "scheduler",
        Value::OneOf("scheduler", SCHEDULERS),
        Flag::Scheduler,
        "How servers are chosen; wlc unless told",
    ),
    flag(None, "pe", Value::OneOf("engine", &["sip"]), Flag::Engine, "The persistence engine"),
    flag(
        Some('p'),
        "persistent",
        Value::Optional("seconds"),
        Flag::Persistent,
        "A client stays with its server for so long after its last connection; 360 unless told",
    ),
    flag(
        Some('M'),
        "netmask",
        Value::Needed("mask"),
        Flag::Netmask,
        "Clients of one network count as one: an IPv4 mask or an IPv6 prefix length",
    ),
    flag(
        Some('b'),
        "sched-flags",
        Value::OneOf("flags", SCHEDULER_FLAGS),
        Flag::SchedulerFlags,
        "Options of the scheduler, with commas between them",
    ),
    flag(
        Some('o'),
        "ops",
        Value::None,
        Flag::OnePacket,
        "Schedule each packet alone; UDP and marks",
    ),
    flag(Some('r'), "real-server", ADDRESS, Flag::Server, "The real server"),
    spec(
        Some('g'),
        "gatewaying",
        Value::None,
        Meaning::DirectRoute,
        "Forward by direct route (the default)",
    ),
    spec(Some('i'), "ipip", Value::None, Meaning::Tunnel, "Forward through a tunnel"),
    spec(
        Some('m'),
        "masquerading",
        Value::None,
        Meaning::Masquerade,
        "Forward by masquerade (NAT)",
    ),
    spec(
        None,
        "local",
        Value::None,
        Meaning::Local,
        "Deliver to this host; not in the original, for -R of what -S printed",
    ),
    spec(
        None,
        "bypass",
        Value::None,
        Meaning::Bypass,
        "Send on to the original address; not in the original, for -R of what -S printed",
    ),
    flag(
        None,
        "tun-type",
        Value::OneOf("type", &["ipip", "gue", "gre"]),
        Flag::TunnelType,
        "What packets are wrapped in; ipip unless told",
    ),
    flag(None, "tun-port", Value::Needed("port"), Flag::TunnelPort, "The port of a gue tunnel"),
    flag(None, "tun-nocsum", Value::None, Flag::TunnelNoChecksum, "Tunnel without checksums"),
    flag(None, "tun-csum", Value::None, Flag::TunnelChecksum, "Tunnel with checksums"),
    flag(
        None,
        "tun-remcsum",
        Value::None,
        Flag::TunnelRemoteChecksum,
        "Tunnel with remote checksum offload",
    ),
    flag(
        Some('w'),
        "weight",
        Value::Needed("weight"),
        Flag::Weight,
        "The server's weight; 1 unless told",
    ),
    flag(
        Some('x'),
        "u-threshold",
        Value::Needed("connections"),
        Flag::UpperThreshold,
        "From so many connections on the server gets no new ones; 0: no limit",
    ),
    flag(
        Some('y'),
        "l-threshold",
        Value::Needed("connections"),
        Flag::LowerThreshold,
        "Below so many connections it gets new ones again",
    ),
    flag(Some('c'), "connection", Value::None, Flag::Connection, "List the connections"),
    flag(None, "timeout", Value::None, Flag::Timeout, "List the timeouts"),
    flag(None, "daemon", Value::None, Flag::Daemon, "List the sync daemons"),
    flag(None, "stats", Value::None, Flag::Stats, "List the counters"),
    flag(None, "rate", Value::None, Flag::Rate, "List the rates per second"),
    flag(Some('X'), "exact", Value::None, Flag::Exact, "Print numbers in full"),
    flag(None, "thresholds", Value::None, Flag::Thresholds, "List the thresholds"),
    flag(
        None,
        "persistent-conn",
        Value::None,
        Flag::PersistentConnections,
        "List the persistent connections, or what persistence engines go by",
    ),
    flag(None, "tun-info", Value::None, Flag::TunnelInfo, "List the tunnels"),
    flag(None, "nosort", Value::None, Flag::NoSort, "List in the kernel's order"),
    spec(None, "sort", Value::None, Meaning::Sort, "Of no effect: listings are sorted"),
    flag(Some('n'), "numeric", Value::None, Flag::Numeric, "Print addresses and ports as numbers"),
    flag(None, "syncid", Value::Needed("id"), Flag::SyncId, "The sync group, 0 to 255"),
    flag(
        None,
        "sync-maxlen",
        Value::Needed("bytes"),
        Flag::MaxLength,
        "The longest sync message; 1472 unless told",
    ),
    flag(
        None,
        "mcast-interface",
        Value::Needed("interface"),
        Flag::Interface,
        "The interface of sync messages; eth0 unless told",
    ),
    flag(
        None,
        "mcast-group",
        Value::Needed("address"),
        Flag::Group,
        "The multicast group of sync messages; 224.0.0.81 unless told",
    ),
    flag(None, "mcast-port", Value::Needed("port"), Flag::Port, "Their UDP port; 8848 unless told"),
    flag(None, "mcast-ttl", Value::Needed("ttl"), Flag::Ttl, "Their time to live; 1 unless told"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_come_in_the_order_of_the_enumeration() {
        assert!(Flag::ALL.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(Flag::ALL.len(), Flag::TunnelRemoteChecksum as usize + 1);
    }
}
