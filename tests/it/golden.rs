//! Golden bytes: one conversation, recorded on real kernels, and replayed here.
//!
//! The files under `tests/golden` hold every datagram of [`conversation`] in hexadecimal: `>`
//! begins a datagram that was sent, `<` an answer of the kernel. A run on a kernel compares its own
//! datagrams with the file of its version; on a difference it prints all of them, as the file
//! should be. A recording in the other byte order is first brought into this machine's.

mod byte_order;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use ipvs_netlink::blocking::Client;
use ipvs_netlink::transport::{NetlinkSocket, Received, Transport};
use ipvs_netlink::wire::{Command, Message};
use ipvs_netlink::{
    DaemonRole, Destination, Errno, Error, Family, HashOptions, Netmask, Persistence, Scheduler,
    Service, ServiceFlags, SyncDaemon, TimeoutsUpdate, Tunnel, TunnelChecksum,
};
use netlink_packet_core::{Emitable, NLA_F_NESTED, NLMSG_DONE, NLMSG_ERROR};
use netlink_packet_generic::GenlMessage;
use netlink_packet_generic::constants::GENL_ID_CTRL;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use byte_order::ByteOrder;

use crate::case::{Outcome, cases, trials};
use crate::rules::{backend, real, real6, vip, vip6, web};
use crate::subject::{Subject, program, series};

/// A file of `tests/golden`.
struct Recording {
    name: &'static str,
    /// The version of the kernel.
    kernel: &'static str,
    order: ByteOrder,
    text: &'static str,
}

macro_rules! recording {
    ($name:literal, $kernel:literal, $order:ident) => {
        Recording {
            name: $name,
            kernel: $kernel,
            order: ByteOrder::$order,
            text: include_str!(concat!("../golden/", $name, ".txt")),
        }
    };
}

const RECORDINGS: [Recording; 4] = [
    recording!("linux-6.1", "6.1", Little),
    recording!("linux-6.12", "6.12", Little),
    recording!("linux-6.12-s390x", "6.12", Big),
    recording!("linux-7.3", "7.3", Little),
];

trials![
    recorded_conversations_are_held_again,
    recorded_messages_survive_decoding_and_encoding,
    byte_orders_differ_in_nothing_else,
];

cases![this_kernel_speaks_as_recorded];

/// A conversation that has every request and every kind of answer once.
fn conversation(client: &mut Client) -> Outcome {
    let hour = Persistence::new(Duration::from_secs(3600));
    let options = HashOptions::default().fallback(true).port(true);
    let services = [
        Service::tcp(vip(), 80).scheduler(Scheduler::SourceHash(options)),
        Service::udp(vip(), 5060).one_packet(true).persistence(
            hour.netmask(Netmask::V4([255, 255, 255, 0].into())).engine("sip".parse()?),
        ),
        Service::sctp(vip6(), 0x0102).persistence(hour.netmask(Netmask::V6(64))),
        Service::mark(0x0102_0304, Family::V4)?.flags(ServiceFlags::SCHEDULER_3),
        Service::mark(u32::MAX, Family::V6)?.scheduler(Scheduler::Unbound),
    ];
    assert_eq!(client.info()?.version.to_string(), "1.2.1");
    assert!(client.services()?.is_empty());
    for service in &services {
        client.add_service(service)?;
        assert_eq!(client.service(service.key)?.service, *service);
        client.remove_service(service.key)?;
    }

    client.add_service(&web())?;
    client.update_service(&web().scheduler(Scheduler::WeightedRoundRobin))?;
    assert_eq!(client.services()?.len(), 1);
    let gue = Tunnel::gue(6080)?.checksum(TunnelChecksum::Remote);
    let destinations = [
        Destination::masquerade(real(1), 0x0102).weight(70_000).thresholds(70_001, 70_000),
        Destination::direct_route(real(2), 80).weight(0),
        Destination::tunnel(real(3), 80, gue),
        Destination::tunnel(real6(4), 80, Tunnel::gre().checksum(TunnelChecksum::Full)),
        Destination::local(real(5), 80),
        Destination::bypass(real(6), 80),
    ];
    for destination in &destinations {
        client.add_destination(web().key, destination)?;
    }
    let listed = client.destinations(web().key)?;
    assert!(listed.iter().rev().map(|entry| entry.destination).eq(destinations));
    client.update_destination(web().key, &destinations[0].weight(1))?;
    client.remove_destination(web().key, destinations[1].key)?;

    let errno = |outcome: Result<(), Error>| outcome.unwrap_err().errno();
    assert_eq!(errno(client.add_service(&web())), Some(Errno::EXIST));
    assert_eq!(errno(client.remove_service(services[2].key)), Some(Errno::SRCH));
    assert_eq!(errno(client.remove_destination(web().key, backend(99).key)), Some(Errno::NOENT));
    let nowhere = Destination::masquerade([0, 0, 0, 0], 80);
    assert_eq!(errno(client.add_destination(web().key, &nowhere)), Some(Errno::INVAL));
    client.zero_service(web().key)?;
    client.zero()?;
    client.flush()?;
    assert!(client.destinations(web().key).unwrap_err().is_service_not_found());

    let minute = Duration::from_secs(60);
    client.set_timeouts(TimeoutsUpdate::default().tcp(minute).udp(Duration::from_secs(0x0102)))?;
    let timeouts = client.timeouts()?;
    assert_eq!((timeouts.tcp, timeouts.udp.as_secs()), (minute, 0x0102));
    let lo = "lo".parse()?;
    let master = SyncDaemon::new(DaemonRole::Master, lo).group([224, 0, 0, 99]).port(0x0102);
    let master = master.sync_id(7).ttl(3).max_length(1400);
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x81);
    let backup = SyncDaemon::new(DaemonRole::Backup, lo).group(group).max_length(1400);
    client.start_daemon(&master)?;
    client.start_daemon(&backup)?;
    let running = client.daemons()?;
    assert_eq!((running[0], running[1].group), (master, backup.group));
    for role in [DaemonRole::Master, DaemonRole::Backup] {
        // Gives the daemon's thread time to run once: until then the kernel may stop it without an
        // answer.
        thread::sleep(Duration::from_millis(100));
        client.stop_daemon(role)?;
    }
    Ok(())
}

async fn this_kernel_speaks_as_recorded(subject: &mut Subject) -> Outcome {
    let record = Arc::<Mutex<String>>::default();
    let transport = match &subject.fake {
        Some(_) => subject.transport()?,
        None => Box::new(untouched()?),
    };
    let recording = Recorder { transport, record: Arc::clone(&record) };
    conversation(&mut Client::connect_with(recording)?)?;
    let seen = record.lock().unwrap().clone();
    let kernel = series(&subject.release);
    for stored in RECORDINGS.iter().filter(|recording| recording.kernel == kernel) {
        if comparable(datagrams(&seen)) != comparable(stored.datagrams()) {
            let release = &subject.release;
            println!("\n# Linux {release}: recorded by `cargo xtask vm test golden`");
            println!("{seen}# end");
            ensure!(false, "this is not what tests/golden/{}.txt has", stored.name);
        }
    }
    Ok(())
}

/// A socket in a network namespace of its own. Since Linux 7.1 the size of the connection table
/// depends on what the namespace had before.
fn untouched() -> anyhow::Result<NetlinkSocket> {
    // The namespace does not exist before the first run.
    let _ = program("ip", &["netns", "delete", "golden"]);
    program("ip", &["netns", "add", "golden"])?;
    program("ip", &["-netns", "golden", "link", "set", "lo", "up"])?;
    let namespace = File::open("/run/netns/golden")?;
    let open = || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        NetlinkSocket::open()
    };
    let opened = thread::scope(|scope| scope.spawn(open).join());
    Ok(opened.expect("the thread that opens a socket does not panic")?)
}

/// The datagrams without the numbers that differ from boot to boot: of the family and of sockets.
fn comparable(datagrams: Vec<(bool, Vec<u8>)>) -> Vec<String> {
    let datagrams = datagrams.into_iter().filter_map(|(sent, mut bytes)| {
        if message_type(&bytes) == GENL_ID_CTRL
            || (!sent && bytes.windows(5).any(|w| w == b"IPVS\0"))
        {
            return None;
        }
        let mut at = 0;
        while let Some(header) = bytes.get_mut(at..at + 16) {
            let kind = message_type(header);
            if !CONTROL.contains(&kind) {
                header[4..6].fill(0);
            }
            header[12..16].fill(0);
            let length = u32::from_ne_bytes(header[..4].try_into().ok()?);
            if kind == NLMSG_ERROR {
                // An error echoes the header of its request.
                bytes[at + 24..at + 26].fill(0);
            }
            at += usize::try_from(length).ok()?.max(16).next_multiple_of(4);
        }
        Some(line(sent, &bytes))
    });
    datagrams.collect()
}

/// Message types below the families': errors and end marks.
const CONTROL: [u16; 2] = [NLMSG_ERROR, NLMSG_DONE];

fn message_type(message: &[u8]) -> u16 {
    u16::from_ne_bytes([message[4], message[5]])
}

fn line(sent: bool, bytes: &[u8]) -> String {
    let mut line = String::from(if sent { ">" } else { "<" });
    for byte in bytes {
        write!(line, " {byte:02x}").unwrap();
    }
    line
}

/// The datagrams of a file: whether each was sent, and its bytes.
fn datagrams(text: &str) -> Vec<(bool, Vec<u8>)> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let datagram = |line: &str| {
        let (direction, bytes) = line.split_at(1);
        let bytes = bytes.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap());
        (direction == ">", bytes.collect())
    };
    lines.map(datagram).collect()
}

impl Recording {
    /// Its datagrams, in the byte order of this machine.
    fn datagrams(&self) -> Vec<(bool, Vec<u8>)> {
        let mut datagrams = datagrams(self.text);
        for (_, datagram) in &mut datagrams {
            byte_order::to_host(datagram, self.order);
        }
        datagrams
    }
}

/// A real socket whose datagrams are written down.
struct Recorder {
    transport: Box<dyn Transport>,
    record: Arc<Mutex<String>>,
}

impl Transport for Recorder {
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        writeln!(self.record.lock().unwrap(), "{}", line(true, datagram)).unwrap();
        self.transport.send(datagram)
    }

    fn receive(&mut self, buffer: &mut Vec<u8>, deadline: Instant) -> io::Result<Received> {
        let before = buffer.len();
        let received = self.transport.receive(buffer, deadline)?;
        writeln!(self.record.lock().unwrap(), "{}", line(false, &buffer[before..])).unwrap();
        Ok(received)
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.transport.reopen()
    }
}

/// A kernel that answers as recorded, and expects the same requests.
struct Replay(VecDeque<(bool, Vec<u8>)>);

impl Transport for Replay {
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        // Skip the answers that the client did not wait for.
        while self.0.front().is_some_and(|(sent, _)| !sent) {
            self.0.pop_front();
        }
        let (_, expected) = self.0.pop_front().expect("the recording goes on");
        assert_eq!(line(true, datagram), line(true, &expected));
        Ok(())
    }

    fn receive(&mut self, buffer: &mut Vec<u8>, _: Instant) -> io::Result<Received> {
        match self.0.front() {
            Some((false, datagram)) => buffer.extend_from_slice(datagram),
            _ => return Err(io::ErrorKind::TimedOut.into()),
        }
        self.0.pop_front();
        Ok(Received::Whole)
    }

    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The client sends the same bytes as recorded, and reads the same values.
fn recorded_conversations_are_held_again() {
    for recording in RECORDINGS {
        let replay = Replay(recording.datagrams().into());
        conversation(&mut Client::connect_with(replay).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error:#}", recording.name));
    }
}

/// Decoded and encoded again, every message has the same bytes, but for the mark on nested
/// attributes, which the kernel leaves out.
fn recorded_messages_survive_decoding_and_encoding() {
    for recording in RECORDINGS {
        let name = recording.name;
        let mut messages = 0;
        for (sent, datagram) in recording.datagrams() {
            for payload in payloads(&datagram) {
                let command = Command::try_from(payload[0]).unwrap();
                let message = Message::decode(command, &payload[4..]).unwrap();
                let generic = GenlMessage::from_payload(message);
                let mut again = vec![0; generic.buffer_len()];
                generic.emit(&mut again);
                let unmarked = if sent { again } else { without_nested_marks(&again) };
                assert_eq!(line(sent, &unmarked), line(sent, payload), "{name}");
                messages += 1;
            }
        }
        assert!(messages > 60, "{name} has {messages} messages");
    }
}

/// Machines of both orders have the same numbers, and the same addresses byte for byte.
fn byte_orders_differ_in_nothing_else() {
    let recorded = |order: ByteOrder| {
        let mut recordings = RECORDINGS.iter();
        let found =
            recordings.find(|recording| recording.kernel == "6.12" && recording.order == order);
        comparable(found.unwrap().datagrams())
    };
    assert_eq!(recorded(ByteOrder::Little), recorded(ByteOrder::Big));
}

/// The messages of the IPVS family in a datagram, from the generic-netlink header on.
fn payloads(mut datagram: &[u8]) -> Vec<&[u8]> {
    let mut payloads = Vec::new();
    while datagram.len() >= 16 {
        let length = u32::from_ne_bytes(datagram[..4].try_into().unwrap());
        let (message, _) = datagram.split_at(usize::try_from(length).unwrap());
        let kind = message_type(message);
        if kind != GENL_ID_CTRL && !CONTROL.contains(&kind) {
            payloads.push(&message[16..]);
        }
        let aligned = message.len().next_multiple_of(4);
        datagram = datagram.get(aligned..).unwrap_or_default();
    }
    payloads
}

fn without_nested_marks(payload: &[u8]) -> Vec<u8> {
    let mut bytes = payload.to_vec();
    let mut at = 4;
    while at + 4 <= bytes.len() {
        let kind = u16::from_ne_bytes([bytes[at + 2], bytes[at + 3]]);
        let nested = kind & NLA_F_NESTED != 0;
        bytes[at + 2..at + 4].copy_from_slice(&(kind & !NLA_F_NESTED).to_ne_bytes());
        let length = usize::from(u16::from_ne_bytes([bytes[at], bytes[at + 1]]));
        // Step into a nest, and past any other attribute.
        at += if nested { 4 } else { length.next_multiple_of(4) };
    }
    bytes
}
