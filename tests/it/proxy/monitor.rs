//! What is sent to IPVS of the node, by the test as well as by the proxy: a monitor of the node's netlink shows it.

use std::io::{ErrorKind, Read as _};

use anyhow::{Context as _, ensure};
use ipvs_netlink::wire::Command;
use libc::{
    BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, ETH_P_ALL, NETLINK_GENERIC,
    SKF_AD_HATYPE, SKF_AD_OFF, SKF_AD_PROTOCOL,
};
use netlink_packet_core::{NLM_F_REQUEST, NetlinkBuffer};
use netlink_packet_generic::constants::GENL_ID_CTRL;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::place::{NODE, ip};

/// The hardware type of an interface that shows netlink messages (`ARPHRD_NETLINK`).
const NETLINK: i32 = 824;

/// Hears all messages of generic netlink in the node, for as long as the node lives.
pub(super) struct Monitor(Socket);

impl Monitor {
    pub(super) fn start() -> anyhow::Result<Self> {
        ip(NODE, &["link add nlmon0 type nlmon", "link set nlmon0 up"])?;
        let protocol = Protocol::from(i32::from(u16::try_from(ETH_P_ALL)?.to_be()));
        let kind = Type::RAW.nonblocking().cloexec();
        let socket = NODE.run(|| Ok(Socket::new(Domain::PACKET, kind, Some(protocol))?))?;
        // What the buffer has no room for is lost, and the dumps of a table take much of it.
        set_socket_recv_buffer_size_force(&socket, 1 << 24)?;
        socket.attach_filter(&filter()?)?;
        // It heard the node's other interfaces until it had the filter.
        while receive(&socket, &mut [0])?.is_some() {}
        Ok(Self(socket))
    }

    /// The commands to IPVS since the last call, by the datagrams that they were sent in.
    pub(super) fn sent(&self) -> anyhow::Result<Vec<Vec<Command>>> {
        let (mut sent, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
        while let Some(length) = receive(&self.0, &mut buffer)? {
            let commands = commands(&buffer[..length])?;
            sent.extend(Some(commands).filter(|commands| !commands.is_empty()));
        }
        Ok(sent)
    }
}

fn receive(mut socket: &Socket, buffer: &mut [u8]) -> std::io::Result<Option<usize>> {
    match socket.read(buffer) {
        Ok(length) => Ok(Some(length)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Lets through what a monitor of netlink shows of generic netlink.
fn filter() -> anyhow::Result<[SockFilter; 6]> {
    let load = |what: i32| {
        u16::try_from(BPF_LD | BPF_W | BPF_ABS)
            .map(|code| SockFilter::new(code, 0, 0, (SKF_AD_OFF + what).cast_unsigned()))
    };
    // Past the rest, if it differs.
    let equals = |value: i32, rest| {
        u16::try_from(BPF_JMP | BPF_JEQ | BPF_K)
            .map(|code| SockFilter::new(code, 0, rest, value.cast_unsigned()))
    };
    let give = |most| u16::try_from(BPF_RET | BPF_K).map(|code| SockFilter::new(code, 0, 0, most));
    Ok([
        load(SKF_AD_HATYPE)?,
        equals(NETLINK, 3)?,
        load(SKF_AD_PROTOCOL)?,
        equals(NETLINK_GENERIC, 1)?,
        give(u32::MAX)?,
        give(0)?,
    ])
}

/// The commands of a datagram, if it is a request to IPVS: the other requests of generic netlink ask for the number of
/// IPVS's family.
fn commands(datagram: &[u8]) -> anyhow::Result<Vec<Command>> {
    let (mut commands, mut rest) = (Vec::new(), datagram);
    while !rest.is_empty() {
        let message = NetlinkBuffer::new_checked(rest)?;
        if message.flags() & NLM_F_REQUEST != 0 && message.message_type() != GENL_ID_CTRL {
            let number = *message.payload().first().context("a command")?;
            commands.push(Command::from_number(number).context("a command of IPVS")?);
        }
        let length = usize::try_from(message.length())?.next_multiple_of(4);
        ensure!(length > 0, "a message has a length");
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(commands)
}
