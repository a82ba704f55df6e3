//! The counters of all services together: `ip_vs_stats` and `ip_vs_stats_percpu`.

use std::str::FromStr;

use super::error::{Attempt, Error};
use crate::model::{Rates, Stats};

/// The counters of all services together, for each CPU.
///
/// The numbers of the CPUs add up to those of the total, with two exceptions. The total is updated
/// every two seconds, the CPUs' numbers at once. Zeroing all services resets the total, but not the
/// CPUs' numbers, which count since the module was loaded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct StatsPerCpu {
    /// The counters of all possible CPUs, in their order.
    pub cpus: Vec<CpuStats>,
    /// The total, with rates.
    pub total: Stats,
}

/// The counters of one CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct CpuStats {
    /// The number of the CPU, from 0.
    pub cpu: u32,
    /// The counters. The kernel has no rates for a CPU: they are 0 here.
    pub stats: Stats,
}

/// The file of the total.
pub(super) const TOTAL: &str = "net/ip_vs_stats";
/// The file of the counters for each CPU.
pub(super) const PER_CPU: &str = "net/ip_vs_stats_percpu";

/// Reads the text of `/proc/net/ip_vs_stats`.
pub(super) fn total(text: &str) -> Result<Stats, Error> {
    Ok(Table::read(TOTAL, text)?.total)
}

/// Reads the text of `/proc/net/ip_vs_stats_percpu`.
impl FromStr for StatsPerCpu {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let Table { cpus, total } = Table::read(PER_CPU, text)?;
        Ok(Self { cpus, total })
    }
}

/// The contents of either file. Its numbers are hexadecimal. The file has two headings; that of the
/// rates comes after the numbers of the first. Other tables of a newer kernel are skipped.
struct Table {
    cpus: Vec<CpuStats>,
    total: Stats,
}

impl Table {
    fn read(path: &'static str, text: &str) -> Result<Self, Error> {
        let error = |number, reason: &str| {
            Error::line(Attempt::Read(path.into()), number, reason.to_owned())
        };
        let (mut cpus, mut total, mut rates) = (Vec::new(), None, None);
        let mut heading: Option<Heading> = None;
        let mut last = 1;
        for (number, line) in (1..).zip(text.split_inclusive('\n')) {
            last = number;
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let named = Heading::named(&words);
            // The name of a column can look like a number: Bad, Add.
            if named.is_some() || !is_row(&words) {
                // A table that was read already is not read again.
                heading = named.filter(|heading| {
                    if heading.is_of_rates { rates.is_none() } else { total.is_none() }
                });
            } else if let Some(heading) = &heading {
                match heading.row(&words).map_err(|reason| error(number, &reason))? {
                    Row::Cpu(cpu) => cpus.push(cpu),
                    Row::Total(stats) => total = Some(stats),
                    Row::Rates(stats) => rates = Some(stats),
                }
            }
            if !line.ends_with('\n') {
                return Err(error(number, "the line has no end: the file was cut"));
            }
        }
        let total = total.ok_or_else(|| error(last, "the total is missing"))?;
        let rates = rates.ok_or_else(|| error(last, "the rates are missing: the file was cut"))?;
        Ok(Self { cpus, total: Stats { rates, ..total } })
    }
}

/// Whether a line has numbers. A line without numbers ends a table, or begins one.
fn is_row(words: &[&str]) -> bool {
    words.iter().any(|word| *word == "~" || number(word).is_ok())
}

/// A line of numbers.
enum Row {
    Cpu(CpuStats),
    Total(Stats),
    Rates(Rates),
}

/// The places of the columns, since a newer kernel may have more columns.
struct Heading {
    is_of_rates: bool,
    cpu: Option<usize>,
    /// Connections, packets in and out, bytes in and out.
    numbers: [usize; 5],
}

impl Heading {
    fn named(words: &[&str]) -> Option<Self> {
        let names = [("Conns", "Packets", "Bytes"), ("Conns/s", "Pkts/s", "Bytes/s")];
        names.iter().enumerate().find_map(|(index, (connections, packets, bytes))| {
            let places = |name| {
                let mut places = (0..words.len()).filter(move |&at| words[at] == name);
                (places.next(), places.next())
            };
            let (connections, _) = places(*connections);
            let (incoming_packets, outgoing_packets) = places(*packets);
            let (incoming_bytes, outgoing_bytes) = places(*bytes);
            Some(Self {
                is_of_rates: index == 1,
                cpu: places("CPU").0,
                numbers: [
                    connections?,
                    incoming_packets?,
                    outgoing_packets?,
                    incoming_bytes?,
                    outgoing_bytes?,
                ],
            })
        })
    }

    fn row(&self, words: &[&str]) -> Result<Row, String> {
        let mut numbers = [0; 5];
        for (value, &at) in numbers.iter_mut().zip(&self.numbers) {
            *value = number(words.get(at).ok_or("the line ends too early")?)?;
        }
        let [connections, incoming_packets, outgoing_packets, incoming_bytes, outgoing_bytes] =
            numbers;
        if self.is_of_rates {
            return Ok(Row::Rates(Rates {
                connections,
                incoming_packets,
                outgoing_packets,
                incoming_bytes,
                outgoing_bytes,
            }));
        }
        let stats = Stats {
            connections,
            incoming_packets,
            outgoing_packets,
            incoming_bytes,
            outgoing_bytes,
            rates: Rates::default(),
        };
        match self.cpu.and_then(|at| words.get(at)) {
            None | Some(&"~") => Ok(Row::Total(stats)),
            Some(cpu) => {
                let number = number(cpu)?;
                let cpu = u32::try_from(number).map_err(|_| format!("there is no CPU {cpu}"))?;
                Ok(Row::Cpu(CpuStats { cpu, stats }))
            }
        }
    }
}

fn number(word: &str) -> Result<u64, String> {
    u64::from_str_radix(word, 16).map_err(|_| format!("{word:?} is not a number in hexadecimal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(numbers: [u64; 5], rates: [u64; 5]) -> Stats {
        let [connections, incoming_packets, outgoing_packets, incoming_bytes, outgoing_bytes] =
            numbers;
        Stats {
            connections,
            incoming_packets,
            outgoing_packets,
            incoming_bytes,
            outgoing_bytes,
            rates: Rates {
                connections: rates[0],
                incoming_packets: rates[1],
                outgoing_packets: rates[2],
                incoming_bytes: rates[3],
                outgoing_bytes: rates[4],
            },
        }
    }

    #[test]
    fn the_total_is_read() {
        let text = "   Total Incoming Outgoing         Incoming         Outgoing\n   \
                    Conns  Packets  Packets            Bytes            Bytes\n       \
                    1        2       1A               3C 123456789ABCDEF0\n\n \
                    Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n       \
                    6        7        8                9                A\n";
        let wanted = stats([1, 2, 26, 60, 0x1234_5678_9abc_def0], [6, 7, 8, 9, 10]);
        assert_eq!(total(text).unwrap(), wanted);
    }

    #[test]
    fn each_cpu_is_read() {
        let text = "       Total Incoming Outgoing         Incoming         Outgoing\n\
                    CPU    Conns  Packets  Packets            Bytes            Bytes\n  \
                    0        1        1        1               3C               28\n \
                    1F        2        3        4               5               6\n  \
                    ~        3        4        5               41               2E\n\n     \
                    Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n           \
                    0        0        0                7                5\n";
        let read: StatsPerCpu = text.parse().unwrap();
        let cpus = [(0, stats([1, 1, 1, 60, 40], [0; 5])), (31, stats([2, 3, 4, 5, 6], [0; 5]))];
        assert_eq!(read.cpus, cpus.map(|(cpu, stats)| CpuStats { cpu, stats }));
        assert_eq!(read.total, stats([3, 4, 5, 65, 46], [0, 0, 0, 7, 5]));
    }

    const RATES: &str = "Conns/s Pkts/s Pkts/s Bytes/s Bytes/s\n0 0 0 0 0\n";

    /// A kernel that does not exist: it has more columns, and more tables.
    #[test]
    fn more_columns_and_tables_are_passed_over() {
        let text = "       Total   Total Incoming Outgoing         Incoming         Outgoing\n\
                    CPU  Refused  Conns  Packets  Packets            Bytes            Bytes Drops\n  \
                    0        9 1        2        3               4               5 8\n  \
                    ~        9 1        2        3               4               5 8\n";
        let other = "Dropped Expired\nBy weight By hash\n 1 2\n";
        let again = "CPU Conns Packets Packets Bytes Bytes\n0 7 7 7 7 7\n~ 7 7 7 7 7\n";
        for more in
            ["", other, &format!("\n{other}"), &format!("\n{again}"), &format!("\n{other}{again}")]
        {
            for text in [format!("{text}{more}\n{RATES}"), format!("{text}\n{RATES}{more}")] {
                let read: StatsPerCpu =
                    text.parse().unwrap_or_else(|error| panic!("{error}: {text}"));
                assert_eq!(read.cpus.len(), 1, "{text}");
                assert_eq!(read.cpus[0].stats, stats([1, 2, 3, 4, 5], [0; 5]));
                assert_eq!(read.total, stats([1, 2, 3, 4, 5], [0; 5]));
            }
        }
    }

    /// Once: a cut file was read with rates of zero.
    #[test]
    fn a_file_that_was_cut_is_told() {
        let text = format!("CPU Conns Packets Packets Bytes Bytes\n~ 1 2 3 4 50\n\n{RATES}");
        assert!(text.parse::<StatsPerCpu>().is_ok());
        for length in 0..text.len() {
            assert!(text[..length].parse::<StatsPerCpu>().is_err(), "{length}");
            assert!(total(&text[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_by_line() {
        let heading = "CPU Conns Packets Packets Bytes Bytes\n";
        for (text, line, reason) in [
            (String::new(), 1, "missing"),
            (format!("{heading}0 1 2 3 4\n"), 2, "ends too early"),
            (format!("{heading}0 1 2 3 4 -5\n"), 2, "\"-5\" is not a number"),
            (format!("{heading}~ 1 2 3 4 5\n0 1 2 G 4 5\n"), 3, "\"G\" is not a number"),
            (format!("{heading}100000000 1 2 3 4 5\n"), 2, "no CPU"),
            (format!("{heading}0 1 2 3 4 5\n{RATES}"), 4, "the total is missing"),
        ] {
            let error = text.parse::<StatsPerCpu>().unwrap_err();
            assert_eq!(error.line_number(), Some(line), "{error}");
            assert!(error.to_string().contains(reason), "{error}");
        }
    }
}
