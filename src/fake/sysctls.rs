//! The sysctls: which a release has, what they are at first, and what they take.

use std::collections::BTreeMap;

use rustix::io::Errno;

use super::host::Host;
use super::procfs::CPUS;

/// What a sysctl takes.
#[derive(Clone, Copy)]
enum Takes {
    /// Numbers of 32 bits in a range.
    Numbers(i32, i32),
    /// Powers of two.
    Powers,
    /// A number, and a greater one or 0.
    Threshold,
    /// Seconds that are kept as ticks.
    Seconds,
    /// A number of 64 bits without a sign.
    Long,
    /// CPUs.
    Cpus,
    /// Nothing.
    ReadOnly,
}

const INT: Takes = Takes::Numbers(i32::MIN, i32::MAX);

/// Below `sys/net/ipv4/vs`: name, first text, what it takes, and the series that brought it, where
/// not all that are modelled have it.
const IPVS: [(&str, &str, Takes, (u32, u32)); 34] = [
    ("am_droprate", "10", INT, (0, 0)),
    ("amemthresh", "1024", INT, (0, 0)),
    ("backup_only", "0", INT, (0, 0)),
    ("cache_bypass", "0", INT, (0, 0)),
    ("conn_lfactor", "-4", Takes::Numbers(-8, 8), (7, 1)),
    ("conn_max", "1073741824", Takes::Numbers(0, 1 << 30), (7, 2)),
    ("conn_reuse_mode", "1", INT, (0, 0)),
    ("conntrack", "0", INT, (0, 0)),
    ("drop_entry", "0", Takes::Numbers(0, 3), (0, 0)),
    ("drop_packet", "0", Takes::Numbers(0, 3), (0, 0)),
    ("est_cpulist", "0-1", Takes::Cpus, (6, 2)),
    ("est_nice", "0", Takes::Numbers(-20, 19), (6, 2)),
    ("expire_nodest_conn", "0", INT, (0, 0)),
    ("expire_quiescent_template", "0", INT, (0, 0)),
    ("ignore_tunneled", "0", INT, (0, 0)),
    ("lblc_expiration", "86400", Takes::Seconds, (0, 0)),
    ("lblcr_expiration", "86400", Takes::Seconds, (0, 0)),
    ("nat_icmp_send", "0", INT, (0, 0)),
    ("pmtu_disc", "1", INT, (0, 0)),
    ("run_estimation", "1", INT, (5, 16)),
    ("schedule_icmp", "0", INT, (0, 0)),
    ("secure_tcp", "0", Takes::Numbers(0, 3), (0, 0)),
    ("sloppy_sctp", "0", INT, (0, 0)),
    ("sloppy_tcp", "0", INT, (0, 0)),
    ("snat_reroute", "1", INT, (0, 0)),
    ("svc_lfactor", "-3", Takes::Numbers(-8, 8), (7, 1)),
    ("sync_persist_mode", "0", INT, (0, 0)),
    ("sync_ports", "1", Takes::Powers, (0, 0)),
    ("sync_qlen_max", "7205", Takes::Long, (0, 0)),
    ("sync_refresh_period", "0", Takes::Seconds, (0, 0)),
    ("sync_retries", "0", Takes::Numbers(0, 3), (0, 0)),
    ("sync_sock_size", "0", INT, (0, 0)),
    ("sync_threshold", "3\t50", Takes::Threshold, (0, 0)),
    ("sync_version", "1", Takes::Numbers(0, 1), (0, 0)),
];

/// The folder of IPVS.
const FOLDER: &str = "sys/net/ipv4/vs";

/// Those of the network that are at hand besides, by their paths below `/proc`.
const NETWORK: [&str; 5] = [
    "sys/net/ipv4/ip_forward",
    "sys/net/ipv4/conf/all/arp_ignore",
    "sys/net/ipv4/conf/all/arp_announce",
    "sys/net/ipv6/conf/all/forwarding",
    "sys/net/ipv6/conf/all/disable_ipv6",
];

/// The values that were set, by their paths; the others are as at first.
#[derive(Debug, Default)]
pub(super) struct Sysctls(BTreeMap<String, String>);

impl Sysctls {
    /// The module was loaded anew.
    pub(super) fn reset(&mut self) {
        self.0.retain(|path, _| !path.starts_with(FOLDER));
    }

    /// The text of a file, with its end of line; `None` where it is not there.
    pub(super) fn read(&self, path: &str, host: &Host) -> Option<String> {
        let (first, _) = find(path, host)?;
        Some(format!("{}\n", self.0.get(path).map_or(first.as_str(), String::as_str)))
    }

    pub(super) fn write(&mut self, path: &str, text: &str, host: &Host) -> Result<(), Errno> {
        let (first, takes) = find(path, host).ok_or(Errno::NOENT)?;
        if !host.privileged || matches!(takes, Takes::ReadOnly) {
            return Err(Errno::ACCESS);
        }
        let now = self.0.get(path).unwrap_or(&first);
        let value = takes.value(text.trim(), now, host.hz).ok_or(Errno::INVAL)?;
        self.0.insert(path.to_owned(), value);
        Ok(())
    }

    pub(super) fn list(folder: &str, host: &Host) -> Option<Vec<String>> {
        let is_there = folder == FOLDER && host.family.is_some();
        is_there.then(|| of_ipvs(host).map(|(name, ..)| name.to_owned()).collect())
    }

    /// The number that a sysctl of IPVS has.
    pub(super) fn number(&self, name: &str, host: &Host) -> i32 {
        let text = self.read(&format!("{FOLDER}/{name}"), host);
        text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }
}

fn of_ipvs(host: &Host) -> impl Iterator<Item = (&'static str, &'static str, Takes)> {
    let series = host.release.series();
    IPVS.into_iter()
        .filter(move |(.., since)| series >= *since)
        .map(|(name, first, takes, _)| (name, first, takes))
}

/// What a file says at first, and what it takes.
fn find(path: &str, host: &Host) -> Option<(String, Takes)> {
    if path == "sys/kernel/osrelease" {
        return Some((host.release.as_str().to_owned(), Takes::ReadOnly));
    }
    if NETWORK.contains(&path) {
        return Some(("0".to_owned(), INT));
    }
    let name = path.strip_prefix(FOLDER)?.strip_prefix('/')?;
    host.family?;
    let (_, first, takes) = of_ipvs(host).find(|(known, ..)| *known == name)?;
    Some((first.to_owned(), takes))
}

impl Takes {
    /// What is kept of a text; `None` where it is not taken.
    fn value(self, text: &str, now: &str, hz: u32) -> Option<String> {
        match self {
            Self::Numbers(least, most) => {
                number(text).filter(|value| (least..=most).contains(value)).map(|n| n.to_string())
            }
            Self::Powers => {
                number(text).filter(|n| *n > 0 && n.count_ones() == 1).map(|n| n.to_string())
            }
            Self::Threshold => {
                let given: Vec<_> = text.split_ascii_whitespace().map(number).collect();
                let kept: Vec<_> = now.split_ascii_whitespace().map(number).collect();
                let threshold = given.first().or(kept.first()).copied()??;
                let period = given.get(1).or(kept.get(1)).copied()??;
                let fits = threshold >= 0 && period >= 0 && (period == 0 || threshold < period);
                fits.then(|| format!("{threshold}\t{period}"))
            }
            Self::Seconds => {
                let ticks =
                    |seconds: &i32| i32::try_from(i64::from(*seconds) * i64::from(hz)).is_ok();
                number(text).filter(ticks).map(|seconds| seconds.to_string())
            }
            Self::Long => text.parse::<u64>().ok().map(|value| value.to_string()),
            Self::Cpus => cpus(text),
            Self::ReadOnly => None,
        }
    }
}

/// A number, which can be hexadecimal.
fn number(text: &str) -> Option<i32> {
    match text.strip_prefix("0x") {
        Some(hexadecimal) => i32::from_str_radix(hexadecimal, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A list of CPUs without those that the host does not have.
fn cpus(text: &str) -> Option<String> {
    let mut chosen = [false; CPUS];
    for range in text.split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last {
            return None;
        }
        for (cpu, is_chosen) in chosen.iter_mut().enumerate() {
            *is_chosen |= (first..=last).contains(&cpu);
        }
    }
    Some(
        match chosen {
            [true, true] => "0-1",
            [true, false] => "0",
            [false, true] => "1",
            [false, false] => "",
        }
        .to_owned(),
    )
}
