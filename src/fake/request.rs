//! Parsing requests: their attributes by their policies, in the kernel's order of checks.

use super::destination::DestinationSettings;
use super::key::{DestinationId, Key, canonical};
use super::policy::AttributeRule::{AtMost, Nest, Text, U8, U16, U32};
use super::policy::{AttributePolicy, ExtendedAck, Parsed};
use crate::uapi::Command;
use crate::uapi::Errno;
use crate::uapi::ipvs::{AF_INET, AF_INET6, destination, forwarding, message, service};

/// The attributes of a request, outside its nests.
pub(super) static REQUEST: AttributePolicy = AttributePolicy::new(&[
    (message::SERVICE, Nest),
    (message::DESTINATION, Nest),
    (message::DAEMON, Nest),
    (message::TIMEOUT_TCP, U32),
    (message::TIMEOUT_TCP_FIN, U32),
    (message::TIMEOUT_UDP, U32),
]);
/// The highest number of an attribute outside the nests.
pub(super) const HIGHEST_ATTRIBUTE: u16 = message::TIMEOUT_UDP;

static SERVICE: AttributePolicy = AttributePolicy::new(&[
    (service::AF, U16),
    (service::PROTOCOL, U16),
    (service::ADDRESS, AtMost(16)),
    (service::PORT, U16),
    (service::FWMARK, U32),
    (service::SCHEDULER, Text(15)),
    (service::FLAGS, AtMost(8)),
    (service::TIMEOUT, U32),
    (service::NETMASK, U32),
    (service::STATS, Nest),
    (service::PE_NAME, Text(16)),
]);

static DESTINATION: AttributePolicy = AttributePolicy::new(&[
    (destination::ADDRESS, AtMost(16)),
    (destination::PORT, U16),
    (destination::FORWARDING_METHOD, U32),
    (destination::WEIGHT, U32),
    (destination::UPPER_THRESHOLD, U32),
    (destination::LOWER_THRESHOLD, U32),
    (destination::ACTIVE_CONNECTIONS, U32),
    (destination::INACTIVE_CONNECTIONS, U32),
    (destination::PERSISTENT_CONNECTIONS, U32),
    (destination::STATS, Nest),
    (destination::ADDRESS_FAMILY, U16),
    (destination::TUNNEL_TYPE, U8),
    (destination::TUNNEL_PORT, U16),
    (destination::TUNNEL_FLAGS, U16),
]);

/// The kinds of request that a command takes.
#[derive(Clone, Copy)]
pub(super) struct Kinds {
    pub(super) once: bool,
    pub(super) dump: bool,
}

/// The command with this number, and the kinds of request that it takes; `None` if no command has
/// the number, or only an answer has it.
pub(super) fn command(number: u8) -> Option<(Command, Kinds)> {
    let command = Command::from_number(number)?;
    let (once, dump) = match command {
        Command::GetService => (true, true),
        Command::GetDest | Command::GetDaemon => (false, true),
        Command::NewService
        | Command::SetService
        | Command::DelService
        | Command::NewDest
        | Command::SetDest
        | Command::DelDest
        | Command::NewDaemon
        | Command::DelDaemon
        | Command::SetConfig
        | Command::GetConfig
        | Command::GetInfo
        | Command::Zero
        | Command::Flush => (true, false),
        Command::SetInfo => return None,
    };
    Some((command, Kinds { once, dump }))
}

/// Parses the nest of a service or a destination. Any error inside it is `EINVAL`, without an
/// extended acknowledgement.
fn nest<'a>(
    request: &Parsed<'a>,
    number: u16,
    policy: &AttributePolicy,
) -> Result<Parsed<'a>, Errno> {
    let nest = request.get(number).ok_or(Errno::INVAL)?;
    Parsed::read(nest, policy, &mut ExtendedAck::default()).or(Err(Errno::INVAL))
}

/// The service that a request names.
pub(super) struct AskedService<'a> {
    pub(super) key: Key,
    nest: Parsed<'a>,
}

/// The part of a service that requests write.
pub(super) struct ServiceSettings {
    pub(super) scheduler: Vec<u8>,
    pub(super) engine: Option<Vec<u8>>,
    pub(super) flags: u32,
    /// The flags that the request sets or clears.
    pub(super) mask: u32,
    /// The persistence timeout, in seconds.
    pub(super) timeout: u32,
    pub(super) netmask: [u8; 4],
}

impl<'a> AskedService<'a> {
    pub(super) fn read(request: &Parsed<'a>) -> Result<Self, Errno> {
        let nest = nest(request, message::SERVICE, &SERVICE)?;
        let family = nest.u16(service::AF).ok_or(Errno::INVAL)?;
        let by_mark = nest.has(&[service::FWMARK]);
        if !by_mark && !nest.has(&[service::PROTOCOL, service::ADDRESS, service::PORT]) {
            return Err(Errno::INVAL);
        }
        if family != AF_INET && family != AF_INET6 {
            return Err(Errno::AFNOSUPPORT);
        }
        let key = match nest.u32(service::FWMARK) {
            Some(0) => Key::address(family, 6, [0; 16], 0),
            Some(mark) => Key::Mark { family, mark },
            None => Key::address(
                family,
                nest.u16(service::PROTOCOL).unwrap_or_default(),
                nest.filled(service::ADDRESS).unwrap_or_default(),
                nest.u16_network(service::PORT).unwrap_or_default(),
            ),
        };
        Ok(Self { key, nest })
    }

    pub(super) fn settings(&self) -> Result<ServiceSettings, Errno> {
        let Self { nest, .. } = self;
        let flags: [u8; 8] = nest.filled(service::FLAGS).ok_or(Errno::INVAL)?;
        let [f0, f1, f2, f3, mask @ ..] = flags;
        Ok(ServiceSettings {
            scheduler: nest.text(service::SCHEDULER).ok_or(Errno::INVAL)?.to_vec(),
            engine: nest.text(service::PE_NAME).map(<[u8]>::to_vec),
            flags: u32::from_ne_bytes([f0, f1, f2, f3]),
            mask: u32::from_ne_bytes(mask),
            timeout: nest.u32(service::TIMEOUT).ok_or(Errno::INVAL)?,
            netmask: nest.filled(service::NETMASK).ok_or(Errno::INVAL)?,
        })
    }
}

/// The destination that a request names.
pub(super) struct AskedDestination<'a> {
    id: DestinationId,
    nest: Parsed<'a>,
}

impl<'a> AskedDestination<'a> {
    pub(super) fn read(request: &Parsed<'a>) -> Result<Self, Errno> {
        let nest = nest(request, message::DESTINATION, &DESTINATION)?;
        let address = nest.filled(destination::ADDRESS).ok_or(Errno::INVAL)?;
        let port = nest.u16_network(destination::PORT).ok_or(Errno::INVAL)?;
        let family = nest.u16(destination::ADDRESS_FAMILY).unwrap_or(0);
        Ok(Self { id: DestinationId { family, port, address }, nest })
    }

    pub(super) fn settings(&self) -> Result<DestinationSettings, Errno> {
        let Self { nest, .. } = self;
        let needed = |number| nest.u32(number).ok_or(Errno::INVAL);
        Ok(DestinationSettings {
            forwarding: needed(destination::FORWARDING_METHOD)? & forwarding::MASK,
            weight: needed(destination::WEIGHT)?,
            upper_threshold: needed(destination::UPPER_THRESHOLD)?,
            lower_threshold: needed(destination::LOWER_THRESHOLD)?,
            tunnel_type: nest.u8(destination::TUNNEL_TYPE).unwrap_or(0),
            tunnel_port: nest.u16_network(destination::TUNNEL_PORT).unwrap_or(0),
            tunnel_flags: nest.u16(destination::TUNNEL_FLAGS).unwrap_or(0),
        })
    }

    /// The destination's identity under a service. Without a family of its own it has the service's
    /// family.
    pub(super) fn id(&self, service: &Key) -> Result<DestinationId, Errno> {
        let DestinationId { family, address, port } = self.id;
        let family = if family == 0 { service.family() } else { family };
        if family != AF_INET && family != AF_INET6 {
            return Err(Errno::AFNOSUPPORT);
        }
        Ok(DestinationId { family, address: canonical(family, address), port })
    }
}
