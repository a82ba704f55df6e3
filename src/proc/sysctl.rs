//! The sysctls of IPVS: `net.ipv4.vs.*`, each with the type of its values, its range and its default.
//!
//! Each network namespace has values of its own. [`ALL`] lists the known facts of each sysctl. Only
//! reading a sysctl shows whether a kernel has it, since the kernel's configuration decides, too.
//!
//! ```no_run
//! use ipvs_netlink::proc::{Proc, sysctl};
//!
//! let proc = Proc::new();
//! if !proc.sysctl(&sysctl::CONNTRACK)? {
//!     proc.set_sysctl(&sysctl::CONNTRACK, true)?;
//! }
//! for setting in sysctl::ALL {
//!     println!("{} is {:?} by default", setting.name, setting.default);
//! }
//! # Ok::<(), ipvs_netlink::proc::Error>(())
//! ```
//!
//! The kernel's documentation: [ipvs-sysctl.rst](https://docs.kernel.org/networking/ipvs-sysctl.html).

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use crate::model::Invalid;

/// A sysctl whose values are of the type `T`.
#[derive(Debug)]
pub struct Sysctl<T> {
    setting: Setting,
    value: PhantomData<fn() -> T>,
}

/// The known facts of a sysctl.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting {
    /// Its name: `net.ipv4.vs.conntrack`.
    pub name: &'static str,
    /// The values that it takes.
    pub range: Range,
    /// The kernel's initial text; `None` if it depends on the machine.
    pub default: Option<&'static str>,
    /// The first kernel that has the sysctl, such as 6 and 2; 2 and 6 stand for all kernels of that
    /// series and before.
    pub since: (u32, u32),
}

/// The values that a sysctl takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Range {
    /// Off (0) or on; the kernel takes every other number as on.
    Flag,
    /// Numbers, both ends included.
    #[non_exhaustive]
    Numbers {
        /// The least.
        least: i64,
        /// The most.
        most: u64,
    },
    /// 1, 2, 4, 8, … up to 2^30.
    PowersOfTwo,
    /// See [`DefenseMode`].
    DefenseMode,
    /// See [`SyncThreshold`].
    SyncThreshold,
    /// Whole seconds, as many as fit 31 bits of clock ticks: 8,589,934 at 250 ticks a second.
    Seconds,
    /// A list of CPUs, such as `0-3,8`.
    CpuList,
}

/// When IPVS defends itself against a flood of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum DefenseMode {
    /// 0: never.
    #[default]
    Never,
    /// 1: when memory is short, and at present it is not. The kernel turns the value into
    /// [`Active`](Self::Active) when fewer pages are available than [`AMEMTHRESH`].
    Automatic,
    /// 2: when memory is short, and at present it is. The kernel turns the value back into
    /// [`Automatic`](Self::Automatic).
    Active,
    /// 3: always.
    Always,
}

/// When a connection is synchronised to a backup: [`SYNC_THRESHOLD`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[allow(
    clippy::exhaustive_structs,
    reason = "closed: a sysctl keeps its form, which is two numbers"
)]
pub struct SyncThreshold {
    /// The number of packets after which a connection is first synchronised, from 0 to
    /// 2,147,483,647; less than the period, unless the period is 0.
    pub threshold: u32,
    /// The number of further packets after which a connection is synchronised again; 0 means never
    /// again.
    pub period: u32,
}

/// The name of a sysctl of IPVS begins with this.
pub(super) const PREFIX: &str = "net.ipv4.vs.";

const INT: Range = Range::Numbers { least: i32::MIN as i64, most: i32::MAX as u64 };
const LOAD_FACTOR: Range = Range::Numbers { least: -8, most: 8 };
/// The first kernel of a sysctl that came with Linux 2.6 or earlier.
const OLD: (u32, u32) = (2, 6);

/// Makes a constant of each sysctl, and the list of all.
macro_rules! sysctls {
    ($(
        $(#[$doc:meta])*
        $constant:ident: $type:ty = $name:literal, $range:expr, $default:expr, since $since:expr;
    )*) => {
        $(
            $(#[$doc])*
            pub const $constant: Sysctl<$type> = Sysctl {
                setting: Setting {
                    name: concat!("net.ipv4.vs.", $name),
                    range: $range,
                    default: $default,
                    since: $since,
                },
                value: PhantomData,
            };
        )*

        /// All sysctls of IPVS that are known.
        pub const ALL: &[Setting] = &[$($constant.setting),*];
    };
}

sysctls! {
    /// `am_droprate`: one packet of this many is dropped where [`DROP_PACKET`] is
    /// [`Always`](DefenseMode::Always).
    AM_DROPRATE: i32 = "am_droprate", INT, Some("10"), since OLD;
    /// `amemthresh`: memory is short when fewer pages than this are available.
    AMEMTHRESH: i32 = "amemthresh", INT, Some("1024"), since OLD;
    /// `backup_only`: a host that is a backup by its sync daemon does not direct connections, which
    /// prevents loops with direct routing and tunnels.
    BACKUP_ONLY: bool = "backup_only", Range::Flag, Some("0"), since (3, 9);
    /// `cache_bypass`: if no cache server is available, packets go on to their original
    /// destination.
    CACHE_BYPASS: bool = "cache_bypass", Range::Flag, Some("0"), since OLD;
    /// `conn_lfactor`: how large the table of connections is for its entries, from -8 (256 buckets for
    /// each entry) to 8 (256 entries for each bucket).
    CONN_LFACTOR: i32 = "conn_lfactor", LOAD_FACTOR, Some("-4"), since (7, 1);
    /// `conn_max`: the most connections of the network namespace. New namespaces begin with the value
    /// of the first one, which begins with 2^30, or 2^24 on machines of 32 bits.
    CONN_MAX: i32 = "conn_max", Range::Numbers { least: 0, most: 1 << 30 }, None, since (7, 2);
    /// `conn_reuse_mode`: the handling of a new connection from the client's address and port of an
    /// old one. 0: it gets the old one's destination. 1: it is scheduled where that is safe. 2:
    /// also where the old one is in `FIN_WAIT`.
    CONN_REUSE_MODE: i32 = "conn_reuse_mode", INT, Some("1"), since (4, 1);
    /// `conntrack`: connections are also connections of netfilter, which stateful rules of a packet
    /// filter need. Only if the kernel is built with `CONFIG_IP_VS_NFCT`.
    CONNTRACK: bool = "conntrack", Range::Flag, Some("0"), since OLD;
    /// `debug_level`: how much of its work the kernel logs, from 0 (nothing) to 12. The value is one
    /// for all network namespaces, and only the first one can set it. Only if the kernel is built
    /// with `CONFIG_IP_VS_DEBUG`.
    DEBUG_LEVEL: i32 = "debug_level", INT, Some("0"), since OLD;
    /// `drop_entry`: when entries of half-open connections are dropped at random.
    DROP_ENTRY: DefenseMode = "drop_entry", Range::DefenseMode, Some("0"), since OLD;
    /// `drop_packet`: when packets are dropped before they are forwarded.
    DROP_PACKET: DefenseMode = "drop_packet", Range::DefenseMode, Some("0"), since OLD;
    /// `est_cpulist`: the CPUs whose threads estimate rates; an empty list stops the threads. The
    /// default is all CPUs that the kernel leaves to its threads.
    EST_CPULIST: String = "est_cpulist", Range::CpuList, None, since (6, 2);
    /// `est_nice`: the niceness of these threads.
    EST_NICE: i32 =
        "est_nice", Range::Numbers { least: -20, most: 19 }, Some("0"), since (6, 2);
    /// `expire_nodest_conn`: a connection whose destination was removed ends with its next packet.
    /// Otherwise its packets are dropped until it expires.
    EXPIRE_NODEST_CONN: bool = "expire_nodest_conn", Range::Flag, Some("0"), since OLD;
    /// `expire_quiescent_template`: a template of persistence ends when its destination has weight 0,
    /// so that new connections of its client go elsewhere.
    EXPIRE_QUIESCENT_TEMPLATE: bool =
        "expire_quiescent_template", Range::Flag, Some("0"), since OLD;
    /// `ignore_tunneled`: packets of protocols that IPVS does not know are passed on as they are,
    /// which prevents loops where the host is a destination of tunnels, too.
    IGNORE_TUNNELED: bool = "ignore_tunneled", Range::Flag, Some("0"), since (4, 4);
    /// `lblc_expiration`: the time without a packet after which the scheduler `lblc` forgets which
    /// cache has an address. The sysctl exists once the scheduler's module is loaded.
    LBLC_EXPIRATION: Duration = "lblc_expiration", Range::Seconds, Some("86400"), since OLD;
    /// `lblcr_expiration`: the same for `lblcr`.
    LBLCR_EXPIRATION: Duration = "lblcr_expiration", Range::Seconds, Some("86400"), since OLD;
    /// `nat_icmp_send`: a destination is told by ICMP if its masqueraded packet belongs to no
    /// connection.
    NAT_ICMP_SEND: bool = "nat_icmp_send", Range::Flag, Some("0"), since OLD;
    /// `pmtu_disc`: packets that are too large for the path and may not be fragmented are refused by
    /// ICMP, through tunnels, too.
    PMTU_DISC: bool = "pmtu_disc", Range::Flag, Some("1"), since (3, 7);
    /// `run_estimation`: rates are estimated, and counters updated.
    RUN_ESTIMATION: bool = "run_estimation", Range::Flag, Some("1"), since (5, 16);
    /// `schedule_icmp`: ICMP errors that belong to no connection are scheduled by the packet that they
    /// are about.
    SCHEDULE_ICMP: bool = "schedule_icmp", Range::Flag, Some("0"), since (4, 4);
    /// `secure_tcp`: when the stricter table of TCP states is used.
    SECURE_TCP: DefenseMode = "secure_tcp", Range::DefenseMode, Some("0"), since OLD;
    /// `sloppy_sctp`: an SCTP connection begins with any packet, and not with INIT alone.
    SLOPPY_SCTP: bool = "sloppy_sctp", Range::Flag, Some("0"), since (3, 11);
    /// `sloppy_tcp`: a TCP connection begins with any packet, and not with SYN alone.
    SLOPPY_TCP: bool = "sloppy_tcp", Range::Flag, Some("0"), since (3, 11);
    /// `snat_reroute`: masqueraded replies are routed as packets of this host.
    SNAT_REROUTE: bool = "snat_reroute", Range::Flag, Some("1"), since OLD;
    /// `svc_lfactor`: how large the table of services is for its entries, as [`CONN_LFACTOR`].
    SVC_LFACTOR: i32 = "svc_lfactor", LOAD_FACTOR, Some("-3"), since (7, 1);
    /// `sync_persist_mode`: for persistent services only templates are synchronised.
    SYNC_PERSIST_MODE: bool = "sync_persist_mode", Range::Flag, Some("0"), since (3, 11);
    /// `sync_ports`: how many threads, each with a UDP port of its own, a sync daemon has.
    SYNC_PORTS: u32 = "sync_ports", Range::PowersOfTwo, Some("1"), since (3, 5);
    /// `sync_qlen_max`: the most messages of a sync daemon that wait to be sent. The default is a
    /// 32nd of the pages of memory; on machines of 32 bits the kernel has 32 bits for the number.
    SYNC_QLEN_MAX: u64 =
        "sync_qlen_max", Range::Numbers { least: 0, most: u64::MAX }, None, since (3, 5);
    /// `sync_refresh_period`: a connection is synchronised again when its timer has moved by this
    /// much.
    SYNC_REFRESH_PERIOD: Duration = "sync_refresh_period", Range::Seconds, Some("0"), since (3, 5);
    /// `sync_retries`: how often a message is repeated within an eighth of
    /// [`SYNC_REFRESH_PERIOD`].
    SYNC_RETRIES: u32 =
        "sync_retries", Range::Numbers { least: 0, most: 3 }, Some("0"), since (3, 5);
    /// `sync_sock_size`: the size of the buffer of a sync daemon's socket in bytes; 0 is the system's.
    SYNC_SOCK_SIZE: i32 = "sync_sock_size", INT, Some("0"), since (3, 5);
    /// `sync_threshold`: after which packets a connection is synchronised.
    SYNC_THRESHOLD: SyncThreshold =
        "sync_threshold", Range::SyncThreshold, Some("3\t50"), since OLD;
    /// `sync_version`: the version of the protocol in which connections are synchronised; 0 for
    /// kernels before 2.6.39.
    SYNC_VERSION: u32 =
        "sync_version", Range::Numbers { least: 0, most: 1 }, Some("1"), since OLD;
}

impl<T: Value> Sysctl<T> {
    /// Its name: `net.ipv4.vs.conntrack`.
    pub fn name(&self) -> &'static str {
        self.setting.name
    }

    /// The known facts of the sysctl.
    pub fn setting(&self) -> Setting {
        self.setting
    }

    /// The initial value; `None` if it depends on the machine.
    pub fn default(&self) -> Option<T> {
        self.setting.default.and_then(T::parse)
    }

    /// The kernel's text for a value.
    ///
    /// # Errors
    /// When the value is out of range.
    pub(super) fn print(&self, value: &T) -> Result<String, Invalid> {
        match value.out_of_range(self.setting.range) {
            None => Ok(value.print()),
            Some(reason) => Err(Invalid::new(reason)),
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("0 or 1"),
            Self::Numbers { least, most } => write!(f, "{least} to {most}"),
            Self::PowersOfTwo => f.write_str("1, 2, 4, 8, …"),
            Self::DefenseMode => f.write_str("0 to 3"),
            Self::SyncThreshold => f.write_str("a threshold, and a period that is 0 or more"),
            Self::Seconds => f.write_str("whole seconds"),
            Self::CpuList => f.write_str("a list of CPUs, as 0-3,8"),
        }
    }
}

/// A type of sysctls' values. Only this crate implements it.
pub trait Value: private::Value {}

impl<T: private::Value> Value for T {}

mod private {
    use super::Range;

    pub trait Value: Sized {
        /// A value from the kernel's text, without white space around it.
        fn parse(text: &str) -> Option<Self>;

        /// The text for the kernel.
        fn print(&self) -> String;

        /// The reason why the value is out of range, if it is.
        fn out_of_range(&self, range: Range) -> Option<String>;
    }
}

/// Whether the text of a flag means on.
pub(crate) fn is_on(text: &str) -> bool {
    <bool as private::Value>::parse(text.trim()) == Some(true)
}

impl private::Value for bool {
    fn parse(text: &str) -> Option<Self> {
        text.parse::<i32>().ok().map(|number| number != 0)
    }

    fn print(&self) -> String {
        i32::from(*self).to_string()
    }

    fn out_of_range(&self, _: Range) -> Option<String> {
        None
    }
}

/// Makes values of number types.
macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl private::Value for $type {
            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }

            fn print(&self) -> String {
                self.to_string()
            }

            fn out_of_range(&self, range: Range) -> Option<String> {
                let number = i128::from(*self);
                let is_in_range = match range {
                    Range::Numbers { least, most } => {
                        (i128::from(least)..=i128::from(most)).contains(&number)
                    }
                    Range::PowersOfTwo => number.count_ones() == 1 && number <= 1 << 30,
                    _ => true,
                };
                (!is_in_range).then(|| format!("{number} is out of range: {range}"))
            }
        }
    )*};
}

numbers!(i32, u32, u64);

impl private::Value for Duration {
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self::from_secs)
    }

    fn print(&self) -> String {
        self.as_secs().to_string()
    }

    fn out_of_range(&self, _: Range) -> Option<String> {
        let has_part = self.subsec_nanos() != 0;
        has_part.then(|| format!("{self:?} are no whole seconds, which the kernel takes alone"))
    }
}

impl private::Value for DefenseMode {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "0" => Self::Never,
            "1" => Self::Automatic,
            "2" => Self::Active,
            "3" => Self::Always,
            _ => return None,
        })
    }

    fn print(&self) -> String {
        let number = match self {
            Self::Never => 0,
            Self::Automatic => 1,
            Self::Active => 2,
            Self::Always => 3,
        };
        number.to_string()
    }

    fn out_of_range(&self, _: Range) -> Option<String> {
        None
    }
}

impl private::Value for SyncThreshold {
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split_ascii_whitespace();
        let mut number = || numbers.next()?.parse().ok();
        Some(Self { threshold: number()?, period: number()? })
    }

    fn print(&self) -> String {
        format!("{}\t{}", self.threshold, self.period)
    }

    fn out_of_range(&self, _: Range) -> Option<String> {
        let Self { threshold, period } = *self;
        let most = i32::MAX.cast_unsigned();
        if threshold > most || period > most {
            Some(format!("thresholds and periods are at most {most}"))
        } else if period != 0 && threshold >= period {
            Some(format!("the threshold {threshold} is not less than the period {period}"))
        } else {
            None
        }
    }
}

impl private::Value for String {
    fn parse(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn print(&self) -> String {
        self.clone()
    }

    fn out_of_range(&self, _: Range) -> Option<String> {
        self.contains(char::is_control).then(|| format!("{self:?} has control characters"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_sysctl_is_said_to_be_older_than_it_is() {
        // All sysctls of Linux 3.10, by its `struct netns_ipvs`, and the one that is not a namespace's.
        let mut of_3_10 = [
            "am_droprate",
            "amemthresh",
            "backup_only",
            "cache_bypass",
            "conntrack",
            "debug_level",
            "drop_entry",
            "drop_packet",
            "expire_nodest_conn",
            "expire_quiescent_template",
            "lblc_expiration",
            "lblcr_expiration",
            "nat_icmp_send",
            "pmtu_disc",
            "secure_tcp",
            "snat_reroute",
            "sync_ports",
            "sync_qlen_max",
            "sync_refresh_period",
            "sync_retries",
            "sync_sock_size",
            "sync_threshold",
            "sync_version",
        ]
        .map(|name| format!("{PREFIX}{name}"));
        of_3_10.sort_unstable();
        let known = ALL.iter().filter(|setting| setting.since <= (3, 10));
        let mut known: Vec<_> = known.map(|setting| setting.name).collect();
        known.sort_unstable();
        assert_eq!(known, of_3_10);
    }
}
