//! The commands of the family: what they ask for, checked in the kernel's order, and done.

use std::time::Instant;

use rustix::io::Errno;

use super::counters::Counters;
use super::host::Host;
use super::policy::{Attributes, Bytes, Report, Rule};
use super::table::{
    Address, Destination, DestinationId, Key, Service, Settings, Table, canonical, ip,
};
use super::writer::{Header, Writer};
use super::{daemons, encode};
use crate::wire::Command;
use crate::wire::uapi::{self, AF_INET, AF_INET6, destination, info, service, top};

use Rule::{Any, Bytes as UpTo, Nest, Text, U8, U16, U32};

pub(super) const TOP: [Rule; 7] = [Any(0), Nest, Nest, Nest, U32, U32, U32];
/// The attributes of a request, outside its nests.
pub(super) type Top<'a> = Attributes<'a, 7>;

const SERVICE: [Rule; 13] =
    [Any(0), U16, U16, UpTo(16), U16, U32, Text(15), UpTo(8), U32, U32, Nest, Text(16), Any(0)];
const DESTINATION: [Rule; 16] =
    [Any(0), UpTo(16), U16, U32, U32, U32, U32, U32, U32, U32, Nest, U16, Any(0), U8, U16, U16];

/// Set by the kernel on every service in its table.
const HASHED: u32 = 0x2;
const FORWARDING: u32 = 0x7;
const TUNNEL: u32 = 2;
const GUE: u8 = 1;
/// 1.2.1
const VERSION: u32 = 0x0001_0201;

/// What a command works on.
pub(super) struct Context<'a> {
    pub(super) host: &'a Host,
    pub(super) table: &'a mut Table,
    pub(super) now: Instant,
}

/// Which service a request is about.
struct Asked {
    key: Key,
    /// For `NEW` and `SET` only.
    configuration: Option<Configuration>,
}

struct Configuration {
    scheduler: Vec<u8>,
    engine: Option<Vec<u8>>,
    flags: u32,
    mask: u32,
    timeout: u32,
    netmask: [u8; 4],
}

impl Context<'_> {
    /// Does what a command asks for; what it answers beside an acknowledgement goes to `out`.
    pub(super) fn run(
        &mut self,
        command: Command,
        attributes: &Top<'_>,
        header: Header,
        report: &mut Report,
        out: &mut Writer,
    ) -> Result<(), Errno> {
        match command {
            Command::GetService => {
                let key = asked(attributes, false)?.key;
                let entry = self.table.services.get(&key).ok_or(Errno::SRCH)?;
                out.generic(header, Command::NewService.number(), |out| {
                    encode::service(out, &key, entry, self.host.hz);
                });
                Ok(())
            }
            Command::GetConfig => {
                let [tcp, tcp_fin, udp] = self.table.timeouts;
                out.generic(header, Command::SetConfig.number(), |out| {
                    out.put_u32(top::TIMEOUT_TCP, tcp);
                    out.put_u32(top::TIMEOUT_TCP_FIN, tcp_fin);
                    out.put_u32(top::TIMEOUT_UDP, udp);
                });
                Ok(())
            }
            Command::GetInfo => {
                let mut size = self.host.connection_table_size;
                if self.host.resizes_connection_table {
                    size = self.table.connection_buckets(size);
                }
                out.generic(header, Command::SetInfo.number(), |out| {
                    out.put_u32(info::VERSION, VERSION);
                    out.put_u32(info::CONNECTION_TABLE_SIZE, size);
                });
                Ok(())
            }
            Command::NewDaemon => daemons::start(self, attributes, report),
            Command::DelDaemon => daemons::stop(self, attributes, report),
            Command::SetConfig => self.set_timeouts(attributes),
            Command::Flush => {
                let keys: Vec<Key> = self.table.services.keys().copied().collect();
                for key in keys {
                    self.table.remove_service(key, self.now);
                }
                Ok(())
            }
            Command::Zero if attributes.get(top::SERVICE).is_none() => {
                self.table.zero(None);
                Ok(())
            }
            _ => self.change(command, attributes),
        }
    }

    fn change(&mut self, command: Command, attributes: &Top<'_>) -> Result<(), Errno> {
        let whole = matches!(command, Command::NewService | Command::SetService);
        let Asked { key, configuration } = asked(attributes, whole)?;
        let is_there = self.table.services.contains_key(&key);
        if command == Command::NewService {
            if is_there {
                return Err(Errno::EXIST);
            }
        } else if !is_there {
            return Err(Errno::SRCH);
        }
        match (command, configuration) {
            (Command::NewService | Command::SetService, Some(configuration)) => {
                self.write_service(key, configuration)
            }
            (Command::DelService, _) => {
                self.table.remove_service(key, self.now);
                Ok(())
            }
            (Command::Zero, _) => {
                self.table.zero(Some(key));
                Ok(())
            }
            (Command::NewDest | Command::SetDest | Command::DelDest, _) => {
                self.change_destination(command, key, attributes)
            }
            _ => Err(Errno::INVAL),
        }
    }

    fn write_service(&mut self, key: Key, configuration: Configuration) -> Result<(), Errno> {
        let Configuration { scheduler, engine, flags, mask, timeout, netmask } = configuration;
        let unbound = scheduler == b"none";
        if !unbound && !self.host.has_scheduler(&scheduler) {
            return Err(Errno::NOENT);
        }
        let engine = engine.filter(|name| !name.is_empty());
        if engine.as_ref().is_some_and(|name| !self.host.has_engine(name)) {
            return Err(Errno::NOENT);
        }
        if key.family() == AF_INET6 && !(1..=128).contains(&u32::from_ne_bytes(netmask)) {
            return Err(Errno::INVAL);
        }
        let text = |name: Vec<u8>| String::from_utf8_lossy(&name).into_owned();
        let scheduler = (!unbound).then(|| text(scheduler));
        let engine = engine.map(text);
        let timeout = timeout.wrapping_mul(self.host.hz);
        let id = self.table.next_id();
        self.table.has_service();
        let service = self.table.services.entry(key).or_insert_with(|| Service {
            id,
            scheduler: scheduler.clone(),
            engine: None,
            flags: 0,
            timeout,
            netmask,
            stats: Counters::default(),
            destinations: Vec::new(),
            turn: super::schedule::Turn::default(),
        });
        if service.scheduler != scheduler {
            service.turn = super::schedule::Turn::default();
            service.scheduler = scheduler;
        }
        service.engine = engine;
        service.flags = (service.flags & !mask) | (flags & mask) | HASHED;
        service.timeout = timeout;
        service.netmask = netmask;
        Ok(())
    }

    fn change_destination(
        &mut self,
        command: Command,
        key: Key,
        attributes: &Top<'_>,
    ) -> Result<(), Errno> {
        let whole = command != Command::DelDest;
        let nest = attributes.get(top::DESTINATION).ok_or(Errno::INVAL)?;
        let (address, port, family, settings) = asked_destination(nest, whole)?;
        let family = if family == 0 { key.family() } else { family };
        if family != AF_INET && family != AF_INET6 {
            return Err(Errno::AFNOSUPPORT);
        }
        let id = DestinationId { family, address: canonical(family, address), port };
        let Some(settings) = settings else {
            let removed = self.table.remove_destination(key, id, self.now);
            return if removed { Ok(()) } else { Err(Errno::NOENT) };
        };
        let is_mixed = family != key.family();
        let has_daemon = self.table.master.is_some() || self.table.backup.is_some();
        if is_mixed && (has_daemon || settings.forwarding != TUNNEL) {
            return Err(Errno::INVAL);
        }
        self.check_settings(&settings)?;
        let Table { services, .. } = &mut *self.table;
        let service = services.get_mut(&key).ok_or(Errno::SRCH)?;
        let index = service.position(id);
        if command == Command::SetDest {
            let index = index.ok_or(Errno::NOENT)?;
            service.destinations[index].write(settings, self.host.rechecks_thresholds);
        } else {
            if index.is_some() {
                return Err(Errno::EXIST);
            }
            let mut entry = match self.table.trash.take(&key, id) {
                Some(revived) => revived,
                None if self.host.is_reachable(ip(family, id.address)) => Destination::new(id, key),
                None => return Err(Errno::INVAL),
            };
            self.table.mixed += usize::from(is_mixed);
            entry.write(settings, self.host.rechecks_thresholds);
            let service = self.table.services.get_mut(&key).ok_or(Errno::SRCH)?;
            if entry.service != service.id {
                entry.stats = Counters::default();
                entry.service = service.id;
            }
            service.destinations.push(entry);
        }
        let service = self.table.services.get_mut(&key).ok_or(Errno::SRCH)?;
        service.turn.changed(&service.destinations);
        Ok(())
    }

    fn check_settings(&self, settings: &Settings) -> Result<(), Errno> {
        if settings.weight.cast_signed() < 0 || settings.lower_threshold > settings.upper_threshold
        {
            return Err(Errno::RANGE);
        }
        if settings.upper_threshold > self.host.largest_threshold {
            return Err(Errno::INVAL);
        }
        if settings.tunnel_type == GUE && settings.tunnel_port == 0 {
            return Err(Errno::INVAL);
        }
        Ok(())
    }

    fn set_timeouts(&mut self, attributes: &Top<'_>) -> Result<(), Errno> {
        let mut timeouts = self.table.timeouts;
        let longest = i32::MAX.cast_unsigned() / self.host.hz.max(1);
        let kinds = [top::TIMEOUT_TCP, top::TIMEOUT_TCP_FIN, top::TIMEOUT_UDP];
        for (timeout, kind) in timeouts.iter_mut().zip(kinds) {
            match attributes.u32(kind) {
                None | Some(0) => {}
                Some(seconds) if seconds > longest => return Err(Errno::INVAL),
                Some(seconds) => *timeout = seconds,
            }
        }
        self.table.timeouts = timeouts;
        Ok(())
    }
}

/// The service that the request's nest names; without it nobody can be asked about.
pub(super) fn asked_key(attributes: &Top<'_>) -> Result<Key, Errno> {
    asked(attributes, false).map(|asked| asked.key)
}

fn asked(attributes: &Top<'_>, whole: bool) -> Result<Asked, Errno> {
    let nest = attributes.get(top::SERVICE).ok_or(Errno::INVAL)?;
    // The kernel says nothing more of what is wrong inside.
    let nest = Attributes::read(nest, &SERVICE, &mut Report::default()).or(Err(Errno::INVAL))?;
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
    let configuration = if whole { Some(configuration(&nest)?) } else { None };
    Ok(Asked { key, configuration })
}

fn configuration(nest: &Attributes<'_, 13>) -> Result<Configuration, Errno> {
    let flags: [u8; 8] = nest.filled(service::FLAGS).ok_or(Errno::INVAL)?;
    let [f0, f1, f2, f3, mask @ ..] = flags;
    Ok(Configuration {
        scheduler: nest.text(service::SCHEDULER).ok_or(Errno::INVAL)?.to_vec(),
        engine: nest.text(service::PE_NAME).map(<[u8]>::to_vec),
        flags: u32::from_ne_bytes([f0, f1, f2, f3]),
        mask: u32::from_ne_bytes(mask),
        timeout: nest.u32(service::TIMEOUT).ok_or(Errno::INVAL)?,
        netmask: nest.filled(service::NETMASK).ok_or(Errno::INVAL)?,
    })
}

/// The address, the port and the family that the nest names, and the settings where it has to
/// have them.
fn asked_destination(
    nest: Bytes<'_>,
    whole: bool,
) -> Result<(Address, u16, u16, Option<Settings>), Errno> {
    let nest =
        Attributes::read(nest, &DESTINATION, &mut Report::default()).or(Err(Errno::INVAL))?;
    let address = nest.filled(destination::ADDRESS).ok_or(Errno::INVAL)?;
    let port = nest.u16_network(destination::PORT).ok_or(Errno::INVAL)?;
    let family = nest.u16(destination::ADDRESS_FAMILY).unwrap_or(0);
    let needed = |kind| nest.u32(kind).ok_or(Errno::INVAL);
    let settings = if whole {
        Some(Settings {
            forwarding: needed(destination::FORWARDING_METHOD)? & FORWARDING,
            weight: needed(destination::WEIGHT)?,
            upper_threshold: needed(destination::UPPER_THRESHOLD)?,
            lower_threshold: needed(destination::LOWER_THRESHOLD)?,
            tunnel_type: nest.u8(destination::TUNNEL_TYPE).unwrap_or(0),
            tunnel_port: nest.u16_network(destination::TUNNEL_PORT).unwrap_or(0),
            tunnel_flags: nest.u16(destination::TUNNEL_FLAGS).unwrap_or(0),
        })
    } else {
        None
    };
    Ok((address, port, family, settings))
}

/// Which kinds of request a command takes.
pub(super) struct Kinds {
    pub(super) once: bool,
    pub(super) dump: bool,
}

/// `None` for what is no command.
pub(super) fn kinds(command: u8) -> Option<(Command, Kinds)> {
    let command = Command::try_from(command).ok()?;
    let (once, dump) = match command {
        Command::GetService => (true, true),
        Command::GetDest | Command::GetDaemon => (false, true),
        Command::SetInfo => return None,
        _ => (true, false),
    };
    Some((command, Kinds { once, dump }))
}

/// The highest number of an attribute outside the nests.
pub(super) const HIGHEST_ATTRIBUTE: u16 = uapi::top::TIMEOUT_UDP;
