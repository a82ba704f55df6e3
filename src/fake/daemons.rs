//! Starting and stopping sync daemons.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::context::Context;
use super::host::{Host, Interface};
use super::policy::AttributeRule::{AtLeast, Text, U8, U16, U32};
use super::policy::{AttributePolicy, ExtendedAck, Parsed};
use super::table::KernelDaemon;
use crate::uapi::Errno;
use crate::uapi::ipvs::{daemon, message};

static DAEMON: AttributePolicy = AttributePolicy::new(&[
    (daemon::STATE, U32),
    (daemon::INTERFACE, Text(15)),
    (daemon::SYNC_ID, U32),
    (daemon::MAX_LENGTH, U16),
    (daemon::GROUP, U32),
    (daemon::GROUP6, AtLeast(16)),
    (daemon::PORT, U16),
    (daemon::TTL, U8),
]);

const DEFAULT_GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 81);
const DEFAULT_PORT: u16 = 8848;
/// The smallest MTU of an interface with IPv6.
const LEAST_IPV6_MTU: u32 = 1280;

fn read<'a>(request: &Parsed<'a>, ack: &mut ExtendedAck) -> Result<Parsed<'a>, Errno> {
    let nest = request.get(message::DAEMON).ok_or(Errno::INVAL)?;
    Parsed::read(nest, &DAEMON, ack).or(Err(Errno::INVAL))
}

pub(super) fn start(context: &mut Context<'_>, request: &Parsed<'_>) -> Result<(), Errno> {
    let nest = read(request, context.ack)?;
    let state = nest.u32(daemon::STATE).ok_or(Errno::INVAL)?;
    let interface = nest.text(daemon::INTERFACE).ok_or(Errno::INVAL)?;
    let sync_id = nest.u32(daemon::SYNC_ID).ok_or(Errno::INVAL)?;
    let group = group(&nest)?;
    if context.table.mixed > 0 {
        return Err(Errno::INVAL);
    }
    let interface = std::str::from_utf8(interface).or(Err(Errno::NODEV))?;
    let interface = context.host.interface(interface).ok_or(Errno::NODEV)?;
    let running = match state {
        daemon::STATE_MASTER => &mut context.table.master,
        daemon::STATE_BACKUP => &mut context.table.backup,
        _ => return Err(Errno::INVAL),
    };
    if running.is_some() {
        return Err(Errno::EXIST);
    }
    if group.is_ipv6() {
        joins_ipv6(state, interface, context.host)?;
    } else if state == daemon::STATE_MASTER && !interface.up {
        return Err(Errno::NETUNREACH);
    }
    *running = Some(KernelDaemon {
        interface: interface.name.clone(),
        sync_id,
        max_length: max_length(nest.u16(daemon::MAX_LENGTH), state, group, interface),
        group,
        port: nest.u16(daemon::PORT).filter(|&port| port != 0).unwrap_or(DEFAULT_PORT),
        ttl: nest.u8(daemon::TTL).filter(|&ttl| ttl != 0).unwrap_or(1),
    });
    Ok(())
}

/// Checks that the interface can join an IPv6 group.
fn joins_ipv6(state: u32, interface: &Interface, host: &Host) -> Result<(), Errno> {
    let has_ipv6 = interface.mtu >= LEAST_IPV6_MTU;
    if state == daemon::STATE_BACKUP {
        return if has_ipv6 { Ok(()) } else { Err(Errno::INVAL) };
    }
    // The kernel looks for an address first, and then for a route. It has a route for multicast
    // through each interface but the loopback, whose address it takes if the interface has none.
    let has_route = has_ipv6 && interface.up && interface.ipv6 && interface.name != "lo";
    match has_route {
        true if interface.has_address => Ok(()),
        false if host.local.contains(&Ipv6Addr::LOCALHOST.into()) => Err(Errno::NETUNREACH),
        _ => Err(Errno::ADDRNOTAVAIL),
    }
}

fn group(nest: &Parsed<'_>) -> Result<IpAddr, Errno> {
    let group = match (nest.filled::<4>(daemon::GROUP), nest.filled::<16>(daemon::GROUP6)) {
        (Some(v4), _) => Ipv4Addr::from(v4).into(),
        (None, Some(v6)) => Ipv6Addr::from(v6).into(),
        (None, None) => IpAddr::from(DEFAULT_GROUP),
    };
    if group.is_multicast() { Ok(group) } else { Err(Errno::INVAL) }
}

/// The longest message that fits into a packet beside its headers. A backup must take the messages
/// of masters whose packets are larger.
fn max_length(asked: Option<u16>, state: u32, group: IpAddr, interface: &Interface) -> u16 {
    let headers = if group.is_ipv6() { 48 } else { 28 };
    let (least, default) = match state {
        daemon::STATE_BACKUP => (1024, interface.mtu.clamp(1500, 65535) - headers),
        _ => (1, 1500 - headers),
    };
    let length = match asked {
        None | Some(0) => default,
        Some(length) => u32::from(length).clamp(least, 65535 - headers),
    };
    u16::try_from(length).unwrap_or(u16::MAX)
}

pub(super) fn stop(context: &mut Context<'_>, request: &Parsed<'_>) -> Result<(), Errno> {
    let running = match read(request, context.ack)?.u32(daemon::STATE).ok_or(Errno::INVAL)? {
        daemon::STATE_MASTER => &mut context.table.master,
        daemon::STATE_BACKUP => &mut context.table.backup,
        _ => return Err(Errno::INVAL),
    };
    running.take().map(drop).ok_or(Errno::SRCH)
}
