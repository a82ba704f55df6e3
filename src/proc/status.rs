//! The state of the tables: `ip_vs_status`.

use std::str::FromStr;

use super::error::{Attempt, Error};

/// The state of the tables of connections and services, and of the threads that estimate rates.
///
/// Only Linux 7.1 and later have this file, since they resize the tables.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Status {
    /// The table of connections, which also has the templates of persistence.
    pub connections: TableStatus,
    /// The table of services.
    pub services: TableStatus,
    /// The number of threads that estimate rates.
    pub estimation_threads: u32,
    /// The largest possible number of such threads.
    pub most_estimation_threads: u64,
    /// How many services and destinations a thread handles in one go.
    pub estimation_chain: u32,
    /// How many services and destinations a thread can handle.
    pub estimators_per_thread: u64,
    /// The lines of a newer kernel that this crate does not know, as they are.
    pub other: Vec<String>,
}

/// The state of a table that is resized.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct TableStatus {
    /// The number of entries.
    pub entries: u64,
    /// The number of buckets: a power of two, or 0 while the kernel has no table.
    pub buckets: u64,
    /// The load factor by which the table is resized, from -8 (large) to 8 (small): see the sysctls
    /// [`CONN_LFACTOR`](super::sysctl::CONN_LFACTOR) and
    /// [`SVC_LFACTOR`](super::sysctl::SVC_LFACTOR).
    pub load_factor: i32,
    /// How many buckets have 0, 1, … places taken; the last of eight numbers counts the buckets
    /// with 7 and more. Empty if the table has no entries. A masqueraded connection can take two
    /// places, one for each direction.
    pub lengths: Vec<u64>,
}

/// How many groups the kernel sorts buckets into, by their number of entries.
const LENGTHS: usize = 8;

/// The line that comes last.
const LAST: &str = "Stats thread ests";

/// The path of the file.
pub(super) const PATH: &str = "net/ip_vs_status";

/// Reads the text of `/proc/net/ip_vs_status`.
impl FromStr for Status {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let error = |number, reason| Error::line(Attempt::Read(PATH.into()), number, reason);
        let mut status = Self::default();
        let mut missing = ["Conns", "Conn buckets", "Services", "Service buckets", LAST].to_vec();
        let mut last = 1;
        for (number, line) in (1..).zip(text.split_inclusive('\n')) {
            last = number;
            let Some(line) = line.strip_suffix('\n') else {
                let reason = "the line has no end: the file was cut";
                return Err(error(number, reason.to_owned()));
            };
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            missing.retain(|wanted| *wanted != name);
            let is_known = status.take(name, value).map_err(|reason| error(number, reason))?;
            if !is_known && !line.trim().is_empty() {
                status.other.push(line.to_owned());
            }
        }
        match missing.first() {
            None => Ok(status),
            Some(missing) => Err(error(last, format!("{missing:?} is missing"))),
        }
    }
}

impl Status {
    /// Takes a line, and returns whether it is a known one.
    fn take(&mut self, name: &str, value: &str) -> Result<bool, String> {
        match name {
            "Stats thread slots" => {
                self.estimation_threads = first(value)?;
                self.most_estimation_threads = after(value, "max")?;
            }
            "Stats chain max len" => self.estimation_chain = first(value)?,
            "Stats thread ests" => self.estimators_per_thread = first(value)?,
            _ => {
                let of_connections = name.strip_prefix("Conn");
                let (table, name) = match (of_connections, name.strip_prefix("Service")) {
                    (Some(rest), _) => (&mut self.connections, rest),
                    (None, Some(rest)) => (&mut self.services, rest),
                    (None, None) => return Ok(false),
                };
                return table.take(name, value);
            }
        }
        Ok(true)
    }
}

impl TableStatus {
    fn take(&mut self, name: &str, value: &str) -> Result<bool, String> {
        match name {
            "s" => self.entries = first(value)?,
            " buckets" => {
                self.buckets = first(value)?;
                self.load_factor = after(value, "lfactor")?;
            }
            " buckets empty" => *self.length(0) = first(value)?,
            _ => {
                let length = name.strip_prefix(" buckets len-");
                match length.and_then(|length| length.parse().ok()) {
                    Some(length @ 1..LENGTHS) => *self.length(length) = first(value)?,
                    _ => return Ok(false),
                }
            }
        }
        Ok(true)
    }

    fn length(&mut self, length: usize) -> &mut u64 {
        self.lengths.resize(LENGTHS, 0);
        &mut self.lengths[length]
    }
}

/// The number at the beginning of a value.
fn first<T: FromStr>(value: &str) -> Result<T, String> {
    parse(value.split_ascii_whitespace().next(), value)
}

/// The number after a word, as 4 in `1 (max 4)`.
fn after<T: FromStr>(value: &str, word: &str) -> Result<T, String> {
    let mut words = value.split(|c: char| c.is_ascii_whitespace() || "(),".contains(c));
    parse(words.find(|found| *found == word).and_then(|_| words.next()), value)
}

fn parse<T: FromStr>(word: Option<&str>, value: &str) -> Result<T, String> {
    let number = word.and_then(|word| word.parse().ok());
    number.ok_or_else(|| format!("{:?} has no number where one is expected", value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINUX_7_3: &str = "Conns:\t2\nConn buckets:\t256 (8 bits, lfactor -4)\n\
        Conn buckets empty:\t253 (98%)\nConn buckets len-1:\t3 (100%)\nServices:\t2\n\
        Service buckets:\t16 (4 bits, lfactor -3)\nService buckets empty:\t15 (93%)\n\
        Service buckets len-2:\t1 (100%)\nStats thread slots:\t1 (max 8)\n\
        Stats chain max len:\t86\nStats thread ests:\t206400\n";

    #[test]
    fn each_line_is_read() {
        let status = LINUX_7_3.parse::<Status>().unwrap();
        let wanted = Status {
            connections: TableStatus {
                entries: 2,
                buckets: 256,
                load_factor: -4,
                lengths: [253, 3, 0, 0, 0, 0, 0, 0].into(),
            },
            services: TableStatus {
                entries: 2,
                buckets: 16,
                load_factor: -3,
                lengths: [15, 0, 1, 0, 0, 0, 0, 0].into(),
            },
            estimation_threads: 1,
            most_estimation_threads: 8,
            estimation_chain: 86,
            estimators_per_thread: 206_400,
            other: Vec::new(),
        };
        assert_eq!(status, wanted);
    }

    #[test]
    fn what_a_newer_kernel_adds_is_kept() {
        let more = "Conn buckets len-9:\t1 (1%)\nTrash:\t5 (of 9)\nno colon\n";
        let status = format!("{LINUX_7_3}{more}").parse::<Status>().unwrap();
        assert_eq!(status.other, ["Conn buckets len-9:\t1 (1%)", "Trash:\t5 (of 9)", "no colon"]);
    }

    /// Once: a cut file was read with numbers of zero.
    #[test]
    fn a_file_that_was_cut_is_told() {
        for length in 0..LINUX_7_3.len() {
            assert!(LINUX_7_3[..length].parse::<Status>().is_err(), "{length}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_by_line() {
        for (text, line) in [
            ("", 1),
            ("Conns:\t\n", 1),
            ("Conns:\t1\nConn buckets:\t256 (8 bits)\n", 2),
            ("Conns:\t1\nServices:\t2\nStats thread slots:\t1 (max -1)\n", 3),
        ] {
            let error = text.parse::<Status>().unwrap_err();
            assert_eq!(error.line_number(), Some(line), "{text:?}");
        }
    }
}
