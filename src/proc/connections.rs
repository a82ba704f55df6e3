//! The connection table, read line by line.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::connection::{Connection, EngineData, Origin};
use super::error::{Attempt, Error};
use crate::model::{DestinationKey, Protocol, ServiceKey};

/// A line has at most some 600 bytes on any kernel; a longer line is not kept.
const LONGEST_LINE: u64 = 4096;

/// The connection table as an iterator, which holds one line at a time.
///
/// A line that cannot be read is an [`Error`] with its [number](Error::line_number), and the lines
/// after it follow. Filters let such a line pass, since it may belong to any service. An error of
/// the file itself is the last item.
///
/// The kernel takes no snapshot: an entry that comes, goes or moves while the table is read can be
/// in it twice or not at all. The kernel makes the text a page at a time and, [before Linux
/// 6.14][ip_vs_conn.c], counts from the table's beginning for each page: reading twice as many
/// entries takes four times as long.
///
/// [ip_vs_conn.c]: https://github.com/torvalds/linux/blob/v6.12/net/netfilter/ipvs/ip_vs_conn.c
///
/// ```
/// use ipvs_netlink::proc::Connections;
///
/// let saved = "\
/// Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
/// TCP C6336401 BC72 0A000001 0050 0A000101 1F90 ESTABLISHED     871
/// ";
/// let entry = Connections::new(saved.as_bytes()).next().unwrap()?;
/// assert_eq!(entry.client.to_string(), "198.51.100.1:48242");
/// assert_eq!(entry.destination.to_string(), "10.0.1.1:8080");
/// # Ok::<(), ipvs_netlink::proc::Error>(())
/// ```
pub struct Connections {
    lines: Lines,
    /// The columns, once the heading was read.
    columns: Option<Columns>,
    /// The file has ended, or cannot be read any further.
    ended: bool,
    service: Option<ServiceKey>,
    destination: Option<DestinationKey>,
}

impl Connections {
    /// Reads the table from the text of `/proc/net/ip_vs_conn` or `/proc/net/ip_vs_conn_sync`, such
    /// as a file that was saved. A last line without a line end is an error, since cutting the file
    /// may have changed its numbers.
    pub fn new(source: impl Read + Send + 'static) -> Self {
        Self::of_file("net/ip_vs_conn", Box::new(source))
    }

    pub(super) fn of_file(path: &'static str, source: Box<dyn Read + Send>) -> Self {
        Self {
            lines: Lines::new(path, source),
            columns: None,
            ended: false,
            service: None,
            destination: None,
        }
    }

    /// Keeps only the entries that can belong to a service: see [`Connection::is_of_service`].
    #[must_use]
    pub fn of_service(mut self, service: impl Into<ServiceKey>) -> Self {
        self.service = Some(service.into());
        self
    }

    /// Keeps only the entries that can belong to a destination: see
    /// [`Connection::is_of_destination`].
    #[must_use]
    pub fn of_destination(mut self, destination: impl Into<DestinationKey>) -> Self {
        self.destination = Some(destination.into());
        self
    }

    fn is_wanted(&self, connection: &Connection) -> bool {
        self.service.is_none_or(|service| connection.is_of_service(service))
            && self.destination.is_none_or(|destination| connection.is_of_destination(destination))
    }

    /// The next line, whether the filters let it pass or not.
    fn read(&mut self) -> Option<Result<Connection, Error>> {
        loop {
            let line = match self.lines.next() {
                Ok(Some(line)) => line,
                Ok(None) if self.columns.is_some() => return None,
                Ok(None) => {
                    self.ended = true;
                    return Some(Err(self.lines.error("the heading is missing")));
                }
                Err(error) => {
                    self.ended = error.line_number().is_none() || self.columns.is_none();
                    return Some(Err(error));
                }
            };
            let read = match &self.columns {
                Some(columns) => columns.read(line).map(Some),
                None => Columns::new(line).map(|columns| {
                    self.columns = Some(columns);
                    None
                }),
            };
            match read {
                Ok(None) => {}
                Ok(Some(connection)) => return Some(Ok(connection)),
                Err(reason) => {
                    self.ended = self.columns.is_none();
                    return Some(Err(self.lines.error(&reason)));
                }
            }
        }
    }
}

impl Iterator for Connections {
    type Item = Result<Connection, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.read() {
                Some(Ok(connection)) if !self.is_wanted(&connection) => {}
                Some(item) => return Some(item),
                None => self.ended = true,
            }
        }
        None
    }
}

impl std::iter::FusedIterator for Connections {}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("line", &self.lines.number)
            .field("service", &self.service)
            .field("destination", &self.destination)
            .finish_non_exhaustive()
    }
}

/// The lines of a file, one at a time.
struct Lines {
    path: &'static str,
    source: BufReader<Box<dyn Read + Send>>,
    line: Vec<u8>,
    /// The number, from 1, of the line that was read last.
    number: u64,
}

impl Lines {
    fn new(path: &'static str, source: Box<dyn Read + Send>) -> Self {
        Self { path, source: BufReader::new(source), line: Vec::new(), number: 0 }
    }

    fn next(&mut self) -> Result<Option<&[u8]>, Error> {
        self.line.clear();
        self.number += 1;
        let attempt = || Attempt::Read(Cow::Borrowed(self.path));
        let read = (&mut self.source).take(LONGEST_LINE).read_until(b'\n', &mut self.line);
        if read.map_err(|error| Error::io(attempt(), error))? == 0 {
            return Ok(None);
        }
        if self.line.last() != Some(&b'\n') && self.line.len() as u64 == LONGEST_LINE {
            skip_line(&mut self.source).map_err(|error| Error::io(attempt(), error))?;
            return Err(self.error("the line is longer than any kernel's"));
        }
        if self.line.last() != Some(&b'\n') {
            return Err(self.error("the line has no end: the file was cut"));
        }
        Ok(Some(self.line.trim_ascii_end()))
    }

    /// The error for the line that was read last.
    fn error(&self, reason: &str) -> Error {
        Error::line(Attempt::Read(Cow::Borrowed(self.path)), self.number, reason.to_owned())
    }
}

fn skip_line(source: &mut impl io::BufRead) -> io::Result<()> {
    loop {
        let (length, has_ended) = match source.fill_buf() {
            Ok(buffer) => match buffer.iter().position(|byte| *byte == b'\n') {
                Some(end) => (end + 1, true),
                None => (buffer.len(), buffer.is_empty()),
            },
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        source.consume(length);
        if has_ended {
            return Ok(());
        }
    }
}

/// A column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Protocol,
    ClientAddress,
    ClientPort,
    VirtualAddress,
    VirtualPort,
    DestinationAddress,
    DestinationPort,
    State,
    Origin,
    Expires,
    /// A column of a newer kernel.
    Unknown,
}

impl Column {
    const REQUIRED: [(Self, &str); 9] = [
        (Self::Protocol, "Pro"),
        (Self::ClientAddress, "FromIP"),
        (Self::ClientPort, "FPrt"),
        (Self::VirtualAddress, "ToIP"),
        (Self::VirtualPort, "TPrt"),
        (Self::DestinationAddress, "DestIP"),
        (Self::DestinationPort, "DPrt"),
        (Self::State, "State"),
        (Self::Expires, "Expires"),
    ];

    fn named(name: &[u8]) -> Self {
        let known = Self::REQUIRED.into_iter().chain([(Self::Origin, "Origin")]);
        known
            .into_iter()
            .find(|(_, known)| known.as_bytes() == name)
            .map_or(Self::Unknown, |(column, _)| column)
    }
}

/// The columns in the order of the heading: a newer kernel may have more columns at any place.
struct Columns {
    /// The columns before the engine's, which every line has.
    leading: Vec<Column>,
    has_engine: bool,
    /// How many columns come after the engine's. A line without an engine leaves the engine's two
    /// columns out.
    trailing: usize,
}

impl Columns {
    fn new(heading: &[u8]) -> Result<Self, String> {
        let names: Vec<&[u8]> = words(heading).collect();
        let engine = names.iter().position(|name| *name == b"PEName");
        let leading: Vec<_> =
            names[..engine.unwrap_or(names.len())].iter().map(|name| Column::named(name)).collect();
        for (column, name) in Column::REQUIRED {
            if !leading.contains(&column) {
                return Err(format!("the heading has no column {name}"));
            }
        }
        let trailing = engine.map_or(0, |engine| {
            names[engine + 1..].iter().filter(|name| **name != b"PEData").count()
        });
        Ok(Self { leading, has_engine: engine.is_some(), trailing })
    }

    fn read(&self, line: &[u8]) -> Result<Connection, String> {
        let mut given = Given::default();
        let mut rest = line;
        for &column in &self.leading {
            let word;
            (word, rest) = next_word(rest).ok_or("the line ends too early")?;
            given.take(column, word)?;
        }
        let mut connection = given.connection().ok_or("the line ends too early")?;
        if self.has_engine {
            connection.engine = self.engine(rest)?;
        }
        Ok(connection)
    }

    /// The engine's name and data, which can have spaces.
    fn engine(&self, mut rest: &[u8]) -> Result<Option<EngineData>, String> {
        for _ in 0..self.trailing {
            let trimmed = rest.trim_ascii_end();
            let start = trimmed.iter().rposition(u8::is_ascii_whitespace).map_or(0, |at| at + 1);
            if start == trimmed.len() {
                return Err("the line ends too early".to_owned());
            }
            rest = &trimmed[..start];
        }
        let Some((name, data)) = next_word(rest) else { return Ok(None) };
        let engine = text(name)?.parse().map_err(|error| format!("{error}"))?;
        let data = String::from_utf8_lossy(data.trim_ascii()).into_owned();
        Ok(Some(EngineData { engine, data }))
    }
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// The first word of a line, and the rest.
fn next_word(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.trim_ascii_start();
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    (end > 0).then(|| line.split_at(end))
}

/// The values of a line that were read so far.
#[derive(Default)]
struct Given {
    protocol: Option<Protocol>,
    client: (Option<IpAddr>, Option<u16>),
    virtual_address: (Option<IpAddr>, Option<u16>),
    destination: (Option<IpAddr>, Option<u16>),
    state: Option<super::ConnectionState>,
    origin: Option<Origin>,
    expires: Option<Duration>,
}

impl Given {
    fn take(&mut self, column: Column, word: &[u8]) -> Result<(), String> {
        match column {
            Column::Protocol => self.protocol = Some(protocol(word)?),
            Column::ClientAddress => self.client.0 = Some(address(word)?),
            Column::ClientPort => self.client.1 = Some(port(word)?),
            Column::VirtualAddress => self.virtual_address.0 = Some(address(word)?),
            Column::VirtualPort => self.virtual_address.1 = Some(port(word)?),
            Column::DestinationAddress => self.destination.0 = Some(address(word)?),
            Column::DestinationPort => self.destination.1 = Some(port(word)?),
            Column::State => {
                self.state = Some(text(word)?.parse().map_err(|error| format!("{error}"))?);
            }
            Column::Origin => {
                self.origin = Some(match word {
                    b"LOCAL" => Origin::Local,
                    b"SYNC" => Origin::Sync,
                    _ => return Err(unexpected(word, "an origin, LOCAL or SYNC")),
                });
            }
            Column::Expires => self.expires = Some(seconds(word)?),
            Column::Unknown => {}
        }
        Ok(())
    }

    fn connection(self) -> Option<Connection> {
        let socket =
            |(address, port): (Option<IpAddr>, Option<u16>)| Some(SocketAddr::new(address?, port?));
        Some(Connection {
            protocol: self.protocol?,
            client: socket(self.client)?,
            virtual_address: socket(self.virtual_address)?,
            destination: socket(self.destination)?.into(),
            state: self.state?,
            expires: self.expires?,
            engine: None,
            origin: self.origin,
        })
    }
}

fn text(word: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(word).map_err(|_| unexpected(word, "text"))
}

fn unexpected(word: &[u8], expected: &str) -> String {
    format!("{:?} is not {expected}", String::from_utf8_lossy(word))
}

fn protocol(word: &[u8]) -> Result<Protocol, String> {
    Ok(match word {
        b"TCP" => Protocol::TCP,
        b"UDP" => Protocol::UDP,
        b"SCTP" => Protocol::SCTP,
        b"IP" => Protocol::from_number(0),
        b"ICMP" => Protocol::from_number(1),
        b"ICMPv6" => Protocol::from_number(58),
        other => {
            let number = text(other)?.strip_prefix("IP_").and_then(|number| number.parse().ok());
            Protocol::from_number(
                number.ok_or_else(|| unexpected(other, "a protocol, as TCP or IP_50"))?,
            )
        }
    })
}

/// An IPv4 address is a hexadecimal number, an IPv6 address is written in full.
fn address(word: &[u8]) -> Result<IpAddr, String> {
    let address = text(word)?;
    let v4 = || hexadecimal(word, 8).map(|bits| Ipv4Addr::from_bits(bits).into());
    let v6 = || address.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    v4().or_else(v6).ok_or_else(|| unexpected(word, "an address, as 0A000001"))
}

fn port(word: &[u8]) -> Result<u16, String> {
    hexadecimal(word, 4)
        .and_then(|port| port.try_into().ok())
        .ok_or_else(|| unexpected(word, "a port of four hexadecimal digits, as 0050"))
}

/// A number of exactly this many hexadecimal digits, at most eight.
fn hexadecimal(word: &[u8], digits: usize) -> Option<u32> {
    if word.len() != digits {
        return None;
    }
    word.iter().try_fold(0, |number, &byte| Some(number << 4 | char::from(byte).to_digit(16)?))
}

fn seconds(word: &[u8]) -> Result<Duration, String> {
    text(word)?
        .parse()
        .map(Duration::from_secs)
        .map_err(|_| unexpected(word, "a number of seconds"))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::model::Family;
    use crate::proc::ConnectionState;

    const HEADING: &str =
        "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n";

    fn read(text: &str) -> Vec<Result<Connection, Error>> {
        Connections::new(io::Cursor::new(text.to_owned())).collect()
    }

    fn entries(lines: &str) -> Vec<Connection> {
        read(&format!("{HEADING}{lines}")).into_iter().map(Result::unwrap).collect()
    }

    #[test]
    fn each_column_is_read() {
        let read = entries(
            "TCP C6336401 BC72 0A000001 0050 0A000101 1F90 ESTABLISHED     871\n\
             SCTP C6336402 BC73 0A000001 0051 0A000102 1F91 SHUTDOWN_ACK_SENT       3\n\
             UDP 2001:0db8:0000:0000:0000:0000:0000:0001 0035 2001:0db8:0000:0000:0000:0000:0000:0002 \
             0036 0A000103 0037 UDP         299\n",
        );
        let wanted = Connection {
            protocol: Protocol::TCP,
            client: "198.51.100.1:48242".parse().unwrap(),
            virtual_address: "10.0.0.1:80".parse().unwrap(),
            destination: ([10, 0, 1, 1], 8080).into(),
            state: ConnectionState::Established,
            expires: Duration::from_secs(871),
            engine: None,
            origin: None,
        };
        assert_eq!(read[0], wanted);
        assert_eq!(
            (read[1].protocol, read[1].state),
            (Protocol::SCTP, ConnectionState::ShutdownAckSent)
        );
        // A destination can be of another family than its service.
        assert_eq!(read[2].client.to_string(), "[2001:db8::1]:53");
        assert_eq!(read[2].virtual_address.to_string(), "[2001:db8::2]:54");
        assert_eq!(read[2].destination, ([10, 0, 1, 3], 55).into());
    }

    #[test]
    fn every_state_and_protocol_is_read() {
        for &state in ConnectionState::KNOWN {
            let line = format!("TCP 0A000009 0001 0A000001 0050 0A000101 0050 {state:11} 1\n");
            assert_eq!(entries(&line)[0].state, state);
        }
        for (name, number) in [("IP", 0), ("ICMP", 1), ("ICMPv6", 58), ("IP_50", 50)] {
            let line = format!("{name} 0A000009 0001 0A000001 0050 0A000101 0050 ERR! 1\n");
            assert_eq!(entries(&line)[0].protocol, Protocol::from_number(number));
            assert_eq!(entries(&line)[0].state.name(), "ERR!");
        }
    }

    #[test]
    fn templates_and_their_marks_are_told_apart() {
        let read = entries(
            "TCP 0A000009 0000 0A000001 0050 0A000101 0050 NONE 1\n\
             TCP 0A000009 0000 0A000001 0050 0A000101 0050 ASSURED 1\n\
             TCP 0A000009 0001 0A000001 0050 0A000101 0050 NONE 1\n\
             TCP 0A000009 0000 0A000001 0014 0A000101 0014 LISTEN 1\n\
             IP 0A000009 0000 01020304 0000 0A000101 0000 NONE 1\n\
             IP 2001:0db8:0000:0000:0000:0000:0000:0001 0000 \
             0102:0304:0000:0000:0000:0000:0000:0000 0000 0A000101 0000 NONE 1\n",
        );
        let templates: Vec<_> = read.iter().map(Connection::is_template).collect();
        assert_eq!(templates, [true, true, false, false, true, true]);
        let mark = NonZeroU32::new(0x0102_0304);
        let marks: Vec<_> = read.iter().map(Connection::mark).collect();
        assert_eq!(marks, [None, None, None, None, mark, mark]);
        let of_mark = |family| ServiceKey::from((mark.unwrap(), family));
        assert!(read[4].is_of_service(of_mark(Family::V4)));
        assert!(!read[4].is_of_service(of_mark(Family::V6)));
        assert!(read[5].is_of_service(of_mark(Family::V6)));
    }

    #[test]
    fn an_engines_data_can_have_spaces() {
        let read = entries(
            "UDP 0A000009 0000 0A000001 13C4 0A000101 13C4 UDP 299 sip a b@c\n\
             UDP 0A000009 0000 0A000001 13C4 0A000101 13C4 UDP 299 sip\n\
             UDP 0A000009 0000 0A000001 13C4 0A000101 13C4 UDP 299\n",
        );
        let engine = |index: usize| {
            let engine: Option<&EngineData> = read[index].engine.as_ref();
            engine.map(|given| (given.engine.as_str(), given.data.as_str()))
        };
        assert_eq!(
            [engine(0), engine(1), engine(2)],
            [Some(("sip", "a b@c")), Some(("sip", "")), None]
        );
    }

    #[test]
    fn origins_are_read() {
        let read = read(
            "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Origin Expires\n\
             TCP 0A000009 0001 0A000001 0050 0A000101 0050 CLOSE       LOCAL        6\n\
             TCP 0A000009 0002 0A000001 0050 0A000101 0050 CLOSE       SYNC         7\n\
             TCP 0A000009 0003 0A000001 0050 0A000101 0050 CLOSE       MARS         8\n",
        );
        assert_eq!(read[0].as_ref().unwrap().origin, Some(Origin::Local));
        assert_eq!(read[1].as_ref().unwrap().origin, Some(Origin::Sync));
        assert_eq!(read[1].as_ref().unwrap().expires.as_secs(), 7);
        let error = read[2].as_ref().unwrap_err().to_string();
        assert!(error.contains("line 4: \"MARS\" is not an origin"), "{error}");
    }

    /// A kernel that does not exist: it has columns before, between and after the known ones.
    #[test]
    fn a_table_with_more_columns_is_read() {
        let read = read(
            "Net  Pro FromIP   FPrt ToIP     TPrt LocalIP  LPrt DestIP   DPrt Mark State       \
             Expires PEName PEData Packets Age\n\
             init UDP 0A000009 0001 0A000001 13C4 0A0000FE 0400 0A000101 13C4 7    UDP         \
             299 sip a b@c 12 1s\n\
             init TCP 0A000009 0002 0A000001 0050 0A0000FE 0401 0A000102 1F90 0    ESTABLISHED \
             899 3 2s\n",
        );
        let read: Vec<_> = read.into_iter().map(Result::unwrap).collect();
        assert_eq!(read[0].destination, ([10, 0, 1, 1], 5060).into());
        assert_eq!(read[0].engine.as_ref().unwrap().data, "a b@c");
        assert_eq!(read[1].client.to_string(), "10.0.0.9:2");
        assert_eq!(read[1].destination, ([10, 0, 1, 2], 8080).into());
        assert_eq!((read[1].expires.as_secs(), &read[1].engine), (899, &None));
    }

    #[test]
    fn filters_are_by_service_and_destination() {
        let lines = "TCP 0A000009 0001 0A000001 0050 0A000101 0050 CLOSE 1\n\
                     TCP 0A000009 0002 0A000001 0050 0A000102 0050 CLOSE 1\n\
                     TCP 0A000009 0003 0A000001 0051 0A000101 0050 CLOSE 1\n\
                     UDP 0A000009 0004 0A000001 0050 0A000101 0050 UDP 1\n\
                     broken\n\
                     TCP 0A000009 0005 0A000002 0050 0A000101 0050 CLOSE 1\n";
        let table = || Connections::new(io::Cursor::new(format!("{HEADING}{lines}")));
        let ports = |table: Connections| -> Vec<_> {
            table.map(|entry| entry.map_or(0, |entry| entry.client.port())).collect()
        };
        // The broken line could belong to any service.
        let web = ServiceKey::tcp([10, 0, 0, 1], 80);
        assert_eq!(ports(table().of_service(web)), [1, 2, 0]);
        assert_eq!(ports(table().of_service(ServiceKey::tcp([10, 0, 0, 1], 0))), [1, 2, 3, 0]);
        let real = ([10, 0, 1, 1], 80);
        assert_eq!(ports(table().of_destination(real)), [1, 3, 4, 0, 5]);
        assert_eq!(ports(table().of_service(web).of_destination(real)), [1, 0]);
        assert_eq!(ports(table().of_destination(([10, 0, 1, 2], 0))), [2, 0]);
    }

    #[test]
    fn what_cannot_be_read_is_told_by_line() {
        let sound = "TCP 0A000009 0001 0A000001 0050 0A000101 0050 CLOSE 1\n";
        for (broken, reason) in [
            ("TCP 0A000009 0001\n", "ends too early"),
            ("TCP 0A00009 0001 0A000001 0050 0A000101 0050 CLOSE 1\n", "\"0A00009\" is not an add"),
            ("TCP 0A000009 1 0A000001 0050 0A000101 0050 CLOSE 1\n", "\"1\" is not a port"),
            ("TCP 0A000009 +001 0A000001 0050 0A000101 0050 CLOSE 1\n", "\"+001\" is not a port"),
            ("QUIC 0A000009 0001 0A000001 0050 0A000101 0050 CLOSE 1\n", "is not a protocol"),
            ("TCP 0A000009 0001 0A000001 0050 0A000101 0050 CLOSE -1\n", "is not a number"),
        ] {
            let read = read(&format!("{HEADING}{sound}{broken}{sound}"));
            assert!(read[0].is_ok() && read[2].is_ok() && read.len() == 3, "{broken}: {read:?}");
            let error = read[1].as_ref().unwrap_err();
            assert_eq!(error.line_number(), Some(3));
            assert!(error.to_string().contains(reason), "{error}");
        }
    }

    /// Once: the line was read as an entry that expires in 8 seconds.
    #[test]
    fn a_file_that_was_cut_is_told() {
        let line = "TCP 0A000009 0001 0A000001 0050 0A000101 0050 CLOSE      871\n";
        let text = format!("{HEADING}{line}{line}");
        for cut in 1..line.len() {
            let read = read(&text[..text.len() - cut]);
            assert!(read[0].is_ok() && read.len() == 2, "{cut}: {read:?}");
            let error = read[1].as_ref().unwrap_err();
            assert_eq!(error.line_number(), Some(3), "{error}");
            assert!(error.to_string().contains("the file was cut"), "{error}");
        }
        assert!(read(HEADING.trim_end())[0].is_err());
    }

    #[test]
    fn a_file_without_a_heading_is_no_table() {
        let heading = HEADING.replace("DestIP", "Dest");
        for (text, reason) in [
            ("", "line 1: the heading is missing"),
            ("hello\nworld\n", "line 1: the heading has no column Pro"),
            (heading.as_str(), "line 1: the heading has no column DestIP"),
        ] {
            let read = read(text);
            assert_eq!(read.len(), 1, "{read:?}");
            let error = read[0].as_ref().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn an_error_of_the_file_is_the_last_item() {
        struct Broken(io::Cursor<String>);
        impl Read for Broken {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                match self.0.read(buffer)? {
                    0 => Err(io::ErrorKind::ConnectionReset.into()),
                    read => Ok(read),
                }
            }
        }
        let sound = "TCP 0A000009 0001 0A000001 0050 0A000101 0050 CLOSE 1\n";
        let text = io::Cursor::new(format!("{HEADING}{sound}"));
        let read: Vec<_> = Connections::new(Broken(text)).collect();
        assert!(read[0].is_ok() && read[1].is_err() && read.len() == 2, "{read:?}");
        assert_eq!(read[1].as_ref().unwrap_err().line_number(), None);
    }

    /// A million entries and a line without end, of which only one line at a time is held.
    #[test]
    fn a_large_table_is_read_in_bounded_memory() {
        const ENTRIES: u32 = 1_000_000;
        /// Makes the text of the lines while it is read.
        struct Endless {
            line: u32,
            rest: Vec<u8>,
        }
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if self.rest.is_empty() {
                    self.rest = match self.line {
                        0 => HEADING.into(),
                        line @ 1..=ENTRIES => format!(
                            "TCP {line:08X} 0001 0A000001 0050 0A000101 0050 ESTABLISHED 899\n"
                        )
                        .into(),
                        // 64 MiB.
                        line @ 1_000_001..=1_001_024 if line < 1_001_024 => vec![b'x'; 1 << 16],
                        1_001_024 => {
                            b"\nTCP 0A000009 0001 0A000001 0050 0A000101 0050 CLOSE 1\n".into()
                        }
                        _ => return Ok(0),
                    };
                    self.line += 1;
                }
                let length = buffer.len().min(self.rest.len());
                buffer[..length].copy_from_slice(&self.rest[..length]);
                self.rest.drain(..length);
                Ok(length)
            }
        }
        let mut table = Connections::new(Endless { line: 0, rest: Vec::new() });
        for n in 1..=ENTRIES {
            let entry = table.next().unwrap().unwrap();
            assert_eq!(entry.client.ip(), IpAddr::from(Ipv4Addr::from_bits(n)));
        }
        let error = table.next().unwrap().unwrap_err();
        assert_eq!(error.line_number(), Some(u64::from(ENTRIES) + 2));
        assert!(table.next().unwrap().is_ok());
        assert!(table.next().is_none());
        assert!(table.lines.line.capacity() as u64 <= 2 * LONGEST_LINE);
    }
}
