//! Carrying out the commands of the IPVS family.

use super::context::Context;
use super::counters::TickedCounters;
use super::destination::{DestinationSettings, KernelDestination};
use super::host::VERSION;
use super::key::{DestinationId, Key, ip};
use super::policy::Parsed;
use super::request::{AskedDestination, AskedService, ServiceSettings};
use super::schedule::SchedulerTurn;
use super::service::KernelService;
use super::{daemons, encode};
use crate::uapi::Command;
use crate::uapi::Errno;
use crate::uapi::ipvs::{AF_INET6, forwarding, info, message, service, tunnel};

impl Context<'_> {
    /// Carries out a command.
    pub(super) fn run(&mut self, command: Command, request: &Parsed<'_>) -> Result<(), Errno> {
        match command {
            Command::NewService => self.add_service(request),
            Command::SetService => self.update_service(request),
            Command::DelService => self.remove_service(request),
            Command::GetService => self.get_service(request),
            Command::NewDest => self.add_destination(request),
            Command::SetDest => self.update_destination(request),
            Command::DelDest => self.remove_destination(request),
            Command::NewDaemon => daemons::start(self, request),
            Command::DelDaemon => daemons::stop(self, request),
            Command::SetConfig => self.set_timeouts(request),
            Command::GetConfig => {
                self.get_timeouts();
                Ok(())
            }
            Command::GetInfo => {
                self.get_info();
                Ok(())
            }
            Command::Zero => self.zero(request),
            Command::Flush => {
                self.flush();
                Ok(())
            }
            // These commands are dumps, or occur only in answers.
            Command::GetDest | Command::GetDaemon | Command::SetInfo => Err(Errno::OPNOTSUPP),
        }
    }

    fn get_service(&mut self, request: &Parsed<'_>) -> Result<(), Errno> {
        let key = AskedService::read(request)?.key;
        let entry = self.table.services.get(&key).ok_or(Errno::SRCH)?;
        self.out.generic(self.header, Command::NewService.number(), |out| {
            encode::service(out, &key, entry, self.host.hz);
        });
        Ok(())
    }

    fn get_timeouts(&mut self) {
        let [tcp, tcp_fin, udp] = self.table.timeouts;
        self.out.generic(self.header, Command::SetConfig.number(), |out| {
            out.put_u32(message::TIMEOUT_TCP, tcp);
            out.put_u32(message::TIMEOUT_TCP_FIN, tcp_fin);
            out.put_u32(message::TIMEOUT_UDP, udp);
        });
    }

    fn get_info(&mut self) {
        let size = self.table.connection_table_size(self.host);
        self.out.generic(self.header, Command::SetInfo.number(), |out| {
            out.put_u32(info::VERSION, VERSION);
            out.put_u32(info::CONNECTION_TABLE_SIZE, size);
        });
    }

    fn set_timeouts(&mut self, request: &Parsed<'_>) -> Result<(), Errno> {
        let mut timeouts = self.table.timeouts;
        let longest = i32::MAX.cast_unsigned() / self.host.hz.max(1);
        let numbers = [message::TIMEOUT_TCP, message::TIMEOUT_TCP_FIN, message::TIMEOUT_UDP];
        for (timeout, number) in timeouts.iter_mut().zip(numbers) {
            match request.u32(number) {
                None | Some(0) => {}
                Some(seconds) if seconds > longest => return Err(Errno::INVAL),
                Some(seconds) => *timeout = seconds,
            }
        }
        self.table.timeouts = timeouts;
        Ok(())
    }

    fn zero(&mut self, request: &Parsed<'_>) -> Result<(), Errno> {
        let key = match request.get(message::SERVICE) {
            None => None,
            Some(_) => Some(self.present_service(request)?),
        };
        self.table.zero(key);
        Ok(())
    }

    fn flush(&mut self) {
        let keys: Vec<Key> = self.table.services.keys().copied().collect();
        for key in keys {
            self.table.remove_service(key, self.now);
        }
    }

    /// The service that a request names, which has to exist.
    fn present_service(&self, request: &Parsed<'_>) -> Result<Key, Errno> {
        let key = AskedService::read(request)?.key;
        if self.table.services.contains_key(&key) { Ok(key) } else { Err(Errno::SRCH) }
    }

    fn add_service(&mut self, request: &Parsed<'_>) -> Result<(), Errno> {
        let asked = AskedService::read(request)?;
        let settings = asked.settings()?;
        if self.table.services.contains_key(&asked.key) {
            return Err(Errno::EXIST);
        }
        self.write_service(asked.key, settings)
    }

    fn update_service(&mut self, request: &Parsed<'_>) -> Result<(), Errno> {
        let asked = AskedService::read(request)?;
        let settings = asked.settings()?;
        if !self.table.services.contains_key(&asked.key) {
            return Err(Errno::SRCH);
        }
        self.write_service(asked.key, settings)
    }

    fn remove_service(&mut self, request: &Parsed<'_>) -> Result<(), Errno> {
        let key = self.present_service(request)?;
        self.table.remove_service(key, self.now);
        Ok(())
    }

    fn write_service(&mut self, key: Key, settings: ServiceSettings) -> Result<(), Errno> {
        let ServiceSettings { scheduler, engine, flags, mask, timeout, netmask } = settings;
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
        let service = self.table.services.entry(key).or_insert_with(|| KernelService {
            id,
            scheduler: scheduler.clone(),
            engine: None,
            flags: 0,
            timeout,
            netmask,
            stats: TickedCounters::default(),
            destinations: Vec::new(),
            turn: SchedulerTurn::default(),
        });
        if service.scheduler != scheduler {
            service.turn = SchedulerTurn::default();
            service.scheduler = scheduler;
        }
        service.engine = engine;
        service.flags = (service.flags & !mask) | (flags & mask) | service::HASHED;
        service.timeout = timeout;
        service.netmask = netmask;
        Ok(())
    }

    fn add_destination(&mut self, request: &Parsed<'_>) -> Result<(), Errno> {
        let (key, id, settings) = self.destination_to_write(request)?;
        let service = self.table.services.get_mut(&key).ok_or(Errno::SRCH)?;
        if service.position(id).is_some() {
            return Err(Errno::EXIST);
        }
        let mut entry = match self.table.trash.take(&key, id) {
            Some(revived) => revived,
            None if self.host.is_reachable(ip(id.family, id.address)) => {
                KernelDestination::new(id, key)
            }
            None => return Err(Errno::INVAL),
        };
        self.table.mixed += usize::from(id.family != key.family());
        entry.write(settings, self.host.rechecks_thresholds);
        if entry.service != service.id {
            entry.stats = TickedCounters::default();
            entry.service = service.id;
        }
        service.destinations.push(entry);
        service.turn.changed(&service.destinations);
        Ok(())
    }

    fn update_destination(&mut self, request: &Parsed<'_>) -> Result<(), Errno> {
        let (key, id, settings) = self.destination_to_write(request)?;
        let service = self.table.services.get_mut(&key).ok_or(Errno::SRCH)?;
        let index = service.position(id).ok_or(Errno::NOENT)?;
        service.destinations[index].write(settings, self.host.rechecks_thresholds);
        service.turn.changed(&service.destinations);
        Ok(())
    }

    fn remove_destination(&mut self, request: &Parsed<'_>) -> Result<(), Errno> {
        let key = self.present_service(request)?;
        let id = AskedDestination::read(request)?.id(&key)?;
        let removed = self.table.remove_destination(key, id, self.now);
        if removed { Ok(()) } else { Err(Errno::NOENT) }
    }

    /// The settings that a request writes to a destination, checked in the kernel's order.
    fn destination_to_write(
        &self,
        request: &Parsed<'_>,
    ) -> Result<(Key, DestinationId, DestinationSettings), Errno> {
        let key = self.present_service(request)?;
        let asked = AskedDestination::read(request)?;
        let settings = asked.settings()?;
        let id = asked.id(&key)?;
        let has_daemon = self.table.master.is_some() || self.table.backup.is_some();
        let is_mixed = id.family != key.family();
        if is_mixed && (has_daemon || settings.forwarding != forwarding::TUNNEL) {
            return Err(Errno::INVAL);
        }
        if settings.weight.cast_signed() < 0 || settings.lower_threshold > settings.upper_threshold
        {
            return Err(Errno::RANGE);
        }
        if settings.upper_threshold > self.host.largest_threshold {
            return Err(Errno::INVAL);
        }
        if settings.tunnel_type == tunnel::GUE && settings.tunnel_port == 0 {
            return Err(Errno::INVAL);
        }
        Ok((key, id, settings))
    }
}
