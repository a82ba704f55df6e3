//! Schedulers: how a service chooses among its destinations.

use std::fmt;
use std::str::FromStr;

use super::{Invalid, SchedulerName};

/// How a service chooses the destination of a new connection.
///
/// Each scheduler is a kernel module of its own (`ip_vs_rr`, …). Names not listed here, such as
/// those of a newer kernel, are kept as [`Scheduler::Other`]; parsing a listed name always gives
/// its variant. As text a scheduler is its name, followed by the options that are set:
/// `sh fallback port`.
///
/// ```
/// use ipvs_netlink::{HashOptions, Scheduler};
///
/// assert_eq!("wrr".parse::<Scheduler>()?, Scheduler::WeightedRoundRobin);
/// let sticky = Scheduler::MaglevHash(HashOptions::default().fallback(true).port(true));
/// assert_eq!(sticky.name(), "mh");
/// assert_eq!(sticky.to_string(), "mh fallback port");
/// # Ok::<(), ipvs_netlink::Invalid>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Scheduler {
    /// `rr`: each destination in turn.
    #[doc(alias = "rr")]
    RoundRobin,
    /// `wrr`: each destination in turn, as often as its weight says.
    #[doc(alias = "wrr")]
    WeightedRoundRobin,
    /// `lc`: the destination with the fewest connections.
    #[doc(alias = "lc")]
    LeastConnection,
    /// `wlc`: the fewest connections for its weight. The default of `ipvsadm`.
    #[default]
    #[doc(alias = "wlc")]
    WeightedLeastConnection,
    /// `lblc`: one destination for each destination address, for caches.
    #[doc(alias = "lblc")]
    LocalityLeastConnection,
    /// `lblcr`: a set of destinations for each destination address, for caches.
    #[doc(alias = "lblcr")]
    LocalityLeastConnectionReplication,
    /// `dh`: by a hash of the destination address. All clients of one virtual address come to one
    /// destination, and are all refused while that destination has weight 0.
    #[doc(alias = "dh")]
    DestinationHash,
    /// `sh`: by a hash of the source address.
    ///
    /// A destination of weight 0 keeps its share of the hash table: the kernel refuses the new
    /// clients of that share (65 of 200 where one of three had weight 0), unless the option
    /// [`fallback`](HashOptions::fallback) is set.
    #[doc(alias = "sh")]
    SourceHash(HashOptions),
    /// `sed`: the shortest expected delay.
    #[doc(alias = "sed")]
    ShortestExpectedDelay,
    /// `nq`: an idle destination if any is idle, else the shortest expected delay.
    #[doc(alias = "nq")]
    NeverQueue,
    /// `fo`: the available destination with the highest weight (3.18 and later).
    #[doc(alias = "fo")]
    WeightedFailover,
    /// `ovf`: fills the highest weight first, then overflows to the next (4.3 and later).
    #[doc(alias = "ovf")]
    WeightedOverflow,
    /// `mh`: Maglev's consistent hash of the source address (4.18 and later). A destination of
    /// weight 0 keeps its share of the hash table, as under [`SourceHash`](Self::SourceHash).
    ///
    /// The kernel makes the whole table anew with each destination that is added. Rule sync
    /// therefore gives a new service its scheduler after its destinations, if the policy allows to
    /// add, update and remove services; reports and events tell each of these changes. A program
    /// that is killed in between leaves the service without a scheduler: until the next sync the
    /// service takes no connections, and a service of the same address on port 0 does not take them
    /// either.
    #[doc(alias = "mh")]
    MaglevHash(HashOptions),
    /// `twos`: the less loaded of two picked at random (5.12 and later; not in Debian's 6.1).
    #[doc(alias = "twos")]
    TwoChoices,
    /// `none`: no scheduler bound; new connections are not scheduled. The kernel reports it, and
    /// accepts it, since 3.19.
    Unbound,
    /// A scheduler this crate has no variant for, by its name.
    Other(OtherScheduler),
}

/// A scheduler without a variant of its own; made by [`Scheduler::named`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OtherScheduler(SchedulerName);

/// The options of [`Scheduler::SourceHash`] and [`Scheduler::MaglevHash`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct HashOptions {
    /// If the chosen destination is unavailable, choose another instead of refusing
    /// (`-b sh-fallback`, `-b mh-fallback`).
    pub fallback: bool,
    /// The source port is part of the hash (`-b sh-port`, `-b mh-port`).
    pub port: bool,
}

impl HashOptions {
    /// Whether another destination stands in for an unavailable one.
    #[must_use]
    pub fn fallback(self, fallback: bool) -> Self {
        Self { fallback, ..self }
    }

    /// Whether the source port is part of the hash.
    #[must_use]
    pub fn port(self, port: bool) -> Self {
        Self { port, ..self }
    }
}

impl Scheduler {
    /// `sh` without options.
    pub const SOURCE_HASH: Self = Self::SourceHash(HashOptions { fallback: false, port: false });
    /// `mh` without options.
    pub const MAGLEV_HASH: Self = Self::MaglevHash(HashOptions { fallback: false, port: false });

    /// Every scheduler that has a variant of its own, without options.
    pub const KNOWN: &'static [Self] = &[
        Self::RoundRobin,
        Self::WeightedRoundRobin,
        Self::LeastConnection,
        Self::WeightedLeastConnection,
        Self::LocalityLeastConnection,
        Self::LocalityLeastConnectionReplication,
        Self::DestinationHash,
        Self::SOURCE_HASH,
        Self::ShortestExpectedDelay,
        Self::NeverQueue,
        Self::WeightedFailover,
        Self::WeightedOverflow,
        Self::MAGLEV_HASH,
        Self::TwoChoices,
    ];

    /// The scheduler with this name, without options.
    ///
    /// # Errors
    /// When the name is empty, longer than 15 bytes, or has white space in it.
    pub fn named(name: &str) -> Result<Self, Invalid> {
        let known = Self::KNOWN.iter().copied().chain([Self::Unbound]).find(|s| s.name() == name);
        match known {
            Some(scheduler) => Ok(scheduler),
            None => Ok(Self::Other(OtherScheduler(SchedulerName::new(name)?))),
        }
    }

    /// The kernel's name for it: `rr`, `wrr`, …
    pub fn name(&self) -> &str {
        match self {
            Self::RoundRobin => "rr",
            Self::WeightedRoundRobin => "wrr",
            Self::LeastConnection => "lc",
            Self::WeightedLeastConnection => "wlc",
            Self::LocalityLeastConnection => "lblc",
            Self::LocalityLeastConnectionReplication => "lblcr",
            Self::DestinationHash => "dh",
            Self::SourceHash(_) => "sh",
            Self::ShortestExpectedDelay => "sed",
            Self::NeverQueue => "nq",
            Self::WeightedFailover => "fo",
            Self::WeightedOverflow => "ovf",
            Self::MaglevHash(_) => "mh",
            Self::TwoChoices => "twos",
            Self::Unbound => "none",
            Self::Other(OtherScheduler(name)) => name.as_str(),
        }
    }

    /// The options, if the scheduler has any.
    pub fn hash_options(&self) -> Option<HashOptions> {
        match *self {
            Self::SourceHash(options) | Self::MaglevHash(options) => Some(options),
            _ => None,
        }
    }

    /// The same scheduler with these options; a scheduler without options stays as it is.
    #[must_use]
    pub fn with_hash_options(self, options: HashOptions) -> Self {
        match self {
            Self::SourceHash(_) => Self::SourceHash(options),
            Self::MaglevHash(_) => Self::MaglevHash(options),
            other => other,
        }
    }
}

impl FromStr for Scheduler {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut words = text.split_whitespace();
        let scheduler = Self::named(words.next().unwrap_or_default())?;
        let Some(mut options) = scheduler.hash_options() else {
            return words.next().map_or(Ok(scheduler), |word| {
                Err(Invalid::new(format!(
                    "the scheduler {scheduler} has no options, {word:?} is none: sh and mh have \
                     fallback and port"
                )))
            });
        };
        for word in words {
            match word {
                "fallback" => options.fallback = true,
                "port" => options.port = true,
                _ => {
                    return Err(Invalid::new(format!(
                        "the scheduler {} has no option {word:?}: it has fallback and port",
                        scheduler.name()
                    )));
                }
            }
        }
        Ok(scheduler.with_hash_options(options))
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = self.hash_options().unwrap_or_default();
        match (options.fallback, options.port) {
            (false, false) => f.pad(self.name()),
            (true, false) => f.pad(&format!("{} fallback", self.name())),
            (false, true) => f.pad(&format!("{} port", self.name())),
            (true, true) => f.pad(&format!("{} fallback port", self.name())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_back_to_its_variant() {
        for &scheduler in Scheduler::KNOWN {
            assert_eq!(scheduler.name().parse(), Ok(scheduler));
        }
        assert_eq!("none".parse(), Ok(Scheduler::Unbound));
    }

    #[test]
    fn options_are_read_as_they_are_printed() {
        for (fallback, port) in [(false, false), (false, true), (true, false), (true, true)] {
            let options = HashOptions::default().fallback(fallback).port(port);
            for scheduler in [Scheduler::SourceHash(options), Scheduler::MaglevHash(options)] {
                assert_eq!(scheduler.to_string().parse(), Ok(scheduler));
            }
        }
        for text in ["", "rr port", "sh prot", "mh sh"] {
            assert!(text.parse::<Scheduler>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_unknown_name_is_kept() {
        let scheduler: Scheduler = "vip7".parse().unwrap();
        assert_eq!(scheduler.name(), "vip7");
        assert!(matches!(scheduler, Scheduler::Other(_)));
    }
}
