//! The sysctls of each release, with their first values and the values that they take.

use std::collections::BTreeMap;

use super::host::{CPUS, Host, Interface};
use crate::uapi::Errno;

/// The values that a sysctl takes.
#[derive(Clone, Copy)]
enum Takes {
    /// Numbers of 32 bits in a range.
    Numbers(i32, i32),
    /// Powers of two.
    Powers,
    /// A number, and after it a greater one or 0.
    Threshold,
    /// Seconds, which the kernel keeps as ticks.
    Seconds,
    /// Unsigned numbers of 64 bits.
    Long,
    /// CPUs.
    Cpus,
    /// Nothing.
    ReadOnly,
}

const INT: Takes = Takes::Numbers(i32::MIN, i32::MAX);

/// The sysctls below `sys/net/ipv4/vs`: name, first text, the values that it takes, and the first
/// series with it; (0, 0) if all modelled series have it.
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

/// The paths below `/proc` of other sysctls of the network.
const NETWORK: [&str; 5] = [
    "sys/net/ipv4/ip_forward",
    "sys/net/ipv4/conf/all/arp_ignore",
    "sys/net/ipv4/conf/all/arp_announce",
    "sys/net/ipv6/conf/all/forwarding",
    DISABLE_IPV6,
];

const DISABLE_IPV6: &str = "sys/net/ipv6/conf/all/disable_ipv6";

fn disable_ipv6(interface: &Interface) -> String {
    format!("sys/net/ipv6/conf/{}/disable_ipv6", interface.name)
}

/// The values that were set, by the sysctls' paths; all other sysctls have their first value.
#[derive(Debug, Default)]
pub(super) struct Sysctls(BTreeMap<String, String>);

impl Sysctls {
    /// Forgets the values of IPVS, as loading the module again does.
    pub(super) fn reset(&mut self) {
        self.0.retain(|path, _| !path.starts_with(FOLDER));
    }

    /// The text of a file, with its end of line; `None` if the file does not exist.
    pub(super) fn read(&self, path: &str, host: &Host) -> Option<String> {
        let (first, _) = find(path, host)?;
        Some(format!("{}\n", self.0.get(path).map_or(first.as_str(), String::as_str)))
    }

    pub(super) fn write(&mut self, path: &str, text: &str, host: &mut Host) -> Result<(), Errno> {
        let (first, takes) = find(path, host).ok_or(Errno::NOENT)?;
        if !host.privileged || matches!(takes, Takes::ReadOnly) {
            return Err(Errno::ACCESS);
        }
        let now = self.0.get(path).unwrap_or(&first);
        let value = takes.value(text, now, host.hz)?;
        // Setting `all` sets each interface as well.
        let is_of_all = path == DISABLE_IPV6;
        for interface in &mut host.interfaces {
            if is_of_all || path == disable_ipv6(interface) {
                interface.ipv6 = value == "0";
                if !is_of_all {
                    return Ok(());
                }
            }
        }
        self.0.insert(path.to_owned(), value);
        Ok(())
    }

    pub(super) fn list(folder: &str, host: &Host) -> Option<Vec<String>> {
        if folder == "sys/net/ipv6/conf" {
            let interfaces = host.interfaces.iter().map(|interface| interface.name.clone());
            return Some(["all".to_owned()].into_iter().chain(interfaces).collect());
        }
        let is_there = folder == FOLDER && host.family.is_some();
        is_there.then(|| of_ipvs(host).map(|(name, ..)| name.to_owned()).collect())
    }

    /// The number in a sysctl of IPVS.
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

/// The first text of a file, and the values that it takes.
fn find(path: &str, host: &Host) -> Option<(String, Takes)> {
    if path == "sys/kernel/osrelease" {
        return Some((host.release.as_str().to_owned(), Takes::ReadOnly));
    }
    if NETWORK.contains(&path) {
        return Some(("0".to_owned(), INT));
    }
    if let Some(interface) = host.interfaces.iter().find(|it| path == disable_ipv6(it)) {
        return Some((i32::from(!interface.ipv6).to_string(), INT));
    }
    let name = path.strip_prefix(FOLDER)?.strip_prefix('/')?;
    host.family?;
    let (_, first, takes) = of_ipvs(host).find(|(known, ..)| *known == name)?;
    Some((first.to_owned(), takes))
}

impl Takes {
    /// The text that the kernel keeps of a written one, or its refusal.
    fn value(self, text: &str, now: &str, hz: u32) -> Result<String, Errno> {
        let mut words = words(text);
        // The kernel ignores words after those that it takes.
        let mut next = || words.next().map(|word| number(word).ok_or(Errno::INVAL));
        let int = |number: i128| i32::try_from(number).map_err(|_| Errno::INVAL);
        let mut first = || next().unwrap_or(Err(Errno::INVAL));
        match self {
            Self::Numbers(least, most) => {
                int(first()?).and_then(|n| kept(&n, (least..=most).contains(&n)))
            }
            Self::Powers => int(first()?).and_then(|n| kept(&n, n > 0 && n.count_ones() == 1)),
            Self::Threshold => {
                let threshold = int(first()?)?;
                let before = now.split_ascii_whitespace().nth(1).and_then(|word| word.parse().ok());
                let period = next().transpose()?.map_or(before.ok_or(Errno::INVAL), int)?;
                let fits = threshold >= 0 && period >= 0 && (period == 0 || threshold < period);
                kept(&format!("{threshold}\t{period}"), fits)
            }
            Self::Seconds => {
                let seconds = int(first()?)?;
                kept(&seconds, i32::try_from(i64::from(seconds) * i64::from(hz)).is_ok())
            }
            Self::Long => first().and_then(|n| kept(&n, n >= 0)),
            Self::Cpus => cpus(text),
            Self::ReadOnly => Err(Errno::ACCESS),
        }
    }
}

fn kept(value: &impl ToString, fits: bool) -> Result<String, Errno> {
    if fits { Ok(value.to_string()) } else { Err(Errno::INVAL) }
}

/// The words of a text: a space, a tab or an end of line ends a word, and any white space may precede
/// it.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_space = |c: char| c.is_ascii_whitespace() || c == '\x0b';
    let words = text.split([' ', '\t', '\n']);
    words.map(move |word| word.trim_start_matches(is_space)).filter(|word| !word.is_empty())
}

/// A number of at most 20 characters; the kernel refuses longer ones.
fn number(word: &str) -> Option<i128> {
    crate::proc::number(word).filter(|_| word.len() <= 20)
}

/// The text that the kernel keeps of a list of CPUs. It refuses a CPU that the host lacks.
fn cpus(text: &str) -> Result<String, Errno> {
    let mut chosen = [false; CPUS];
    let is_between = |c: char| c == ',' || c.is_ascii_whitespace();
    for range in text.split(is_between).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |word: &str| {
            let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
            word.parse::<usize>().ok().filter(|_| is_number).ok_or(Errno::INVAL)
        };
        let (first, last) = match range {
            "all" => (0, CPUS - 1),
            _ => (number(first)?, number(last)?),
        };
        if first > last {
            return Err(Errno::INVAL);
        }
        for (cpu, is_chosen) in chosen.iter_mut().enumerate() {
            *is_chosen |= (first..=last).contains(&cpu);
        }
        if last >= CPUS {
            return Err(Errno::RANGE);
        }
    }
    Ok(match chosen {
        [true, true] => "0-1",
        [true, false] => "0",
        [false, true] => "1",
        [false, false] => "",
    }
    .to_owned())
}
