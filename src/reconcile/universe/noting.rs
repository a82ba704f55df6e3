//! A link that records what is sent, read and acknowledged, and passes it to the judge.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::super::{DrainEnd, Listing, Outcome};
use super::ends::Said;
use super::fake::Random;
use super::judge::{Judge, Verdict, place, places};
use super::random::{REFUSED, meddle};
use super::table::{
    Backend, DESTINATIONS, Place, SERVICES, Table, destination_number, service, service_key,
    service_number,
};
use super::world::{OTHER_SCHEDULER, SCHEDULER, Setting};
use crate::blocking::Client;
use crate::fake::Link;
use crate::model::{Destination, Family, Scheduler, Service, ServiceKey};
use crate::protocol::Operation;
use crate::ruleset::{Change, Draining};
use crate::sync::Report;
use crate::transport::{Received, Transport};
use crate::wire::{Command, Message};

/// The record of a link.
pub(super) struct Notes {
    pub(super) judge: Judge,
    pub(super) setting: Setting,
    pub(super) wanted: Table,
    /// The services as they were listed, which happens before their destinations are read.
    pub(super) listed: Table,
    /// The requests of the last send, until they are answered.
    pub(super) asked: Vec<Asked>,
    /// The destinations that were removed while the last count showed connections.
    pub(super) cut: BTreeSet<Place>,
    pub(super) counts: [[u32; DESTINATIONS]; SERVICES],
    pub(super) faults: Vec<String>,
    pub(super) story: Vec<String>,
    /// The sends before which others change the table, each with their random numbers.
    pub(super) others: Vec<(usize, Random)>,
    pub(super) sends: usize,
}

pub(super) enum Asked {
    /// A listing of all services, as they are when it is answered.
    Services,
    /// A service, as it was when the request was sent.
    Service(usize, Table),
    /// A listing of a service's destinations, as they are when it is answered.
    Destinations(usize),
    Change(Change, Outcome),
}

/// A link that records what is sent and answered.
pub(super) struct Noting {
    pub(super) link: Link,
    pub(super) observer: Client,
    pub(super) notes: Arc<Mutex<Notes>>,
}

impl Transport for Noting {
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        let messages = messages(datagram);
        let mut notes = lock(&self.notes);
        notes.leave_unanswered();
        let commands = messages.iter().map(|message| format!("{:?} ", message.command));
        notes.story.push(format!("sends {}", commands.collect::<String>()));
        let changes = notes.changes(&messages);
        let judged = notes.judge_changes(&changes);
        notes.faults.extend(judged.err());
        notes.sends += 1;
        let sends = notes.sends;
        for (_, others) in notes.others.iter_mut().filter(|(at, _)| *at == sends) {
            meddle(self.link.kernel(), others);
        }
        drop(notes);
        let before = Table::from(&self.observer.ruleset().unwrap());
        Transport::send(&mut self.link, datagram)?;
        // The kernel has carried out the requests within the send.
        let truth = Table::from(&self.observer.ruleset().unwrap());
        let mut notes = lock(&self.notes);
        for change in changes {
            let outcome = match change {
                // Others had removed it before.
                Change::RemoveDestination(..) if before.has(&change) => Outcome::DestinationMissing,
                Change::RemoveService(_) if before.has(&change) => Outcome::ServiceMissing,
                _ if truth.has(&change) => Outcome::Done,
                Change::AddDestination(..) if place(&change) == Some(REFUSED) => Outcome::Refused,
                _ => Outcome::RefusedForNow,
            };
            notes.asked.push(Asked::Change(change, outcome));
        }
        for message in messages {
            let key = message.service.as_ref().and_then(|key| ServiceKey::try_from(key).ok());
            let number = key.as_ref().map(service_number);
            match (message.command, number) {
                (Command::GetService, Some(number)) => {
                    notes.asked.push(Asked::Service(number, truth));
                }
                (Command::GetService, None) => notes.asked.push(Asked::Services),
                (Command::GetDest, Some(number)) => notes.asked.push(Asked::Destinations(number)),
                _ => {}
            }
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut Vec<u8>, deadline: Instant) -> io::Result<Received> {
        let received = Transport::receive(&mut self.link, buffer, deadline);
        let mut notes = lock(&self.notes);
        if received.is_ok() && !notes.asked.is_empty() {
            let truth = Table::from(&self.observer.ruleset().unwrap());
            let mut counts = [[0; DESTINATIONS]; SERVICES];
            for (number, counts) in counts.iter_mut().enumerate() {
                let all = self.observer.destinations(service_key(number)).unwrap_or_default();
                for entry in all {
                    counts[destination_number(&entry.destination.key)] = entry.active_connections;
                }
            }
            notes.answered(&truth, &counts);
        }
        received
    }

    fn sleep(&mut self, until: Instant) {
        Transport::sleep(&mut self.link, until);
    }

    fn reopen(&mut self) -> io::Result<()> {
        Transport::reopen(&mut self.link)
    }

    fn now(&self) -> Instant {
        Transport::now(&self.link)
    }
}

pub(super) fn lock(notes: &Mutex<Notes>) -> MutexGuard<'_, Notes> {
    notes.lock().unwrap()
}

/// The requests of a datagram to the IPVS family.
fn messages(datagram: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut rest = datagram;
    while let Some((header, _)) = rest.split_first_chunk::<20>() {
        let length = u32::from_ne_bytes(header[..4].try_into().unwrap()) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        if let (true, Ok(command)) = (kind > 0x10, Command::try_from(header[16])) {
            messages.push(Message::decode(command, &rest[20..length]).unwrap());
        }
        rest = &rest[length.next_multiple_of(4).min(rest.len())..];
    }
    messages
}

impl Table {
    /// Whether the table is as a change makes it.
    fn has(&self, change: &Change) -> bool {
        let number = service_number(&change.service());
        let mut with = *self;
        let is_there = match change {
            // A service that is added without a scheduler gets one in the same send; one of others
            // has another.
            Change::AddService(to) if to.scheduler == Scheduler::Unbound => {
                return self.0[number].is_some_and(|vip| vip.scheduler != OTHER_SCHEDULER);
            }
            Change::AddService(to) | Change::UpdateService { to, .. } => {
                return self.0[number].is_some_and(|vip| vip.scheduler == to.scheduler);
            }
            Change::RemoveService(_) => return self.0[number].is_none(),
            Change::RemoveDestination(..) => {
                return self.0[number].is_some() && self.backend(place(change).unwrap()).is_none();
            }
            Change::AddDestination(key, to) => Operation::UpdateDestination(*key, *to),
            other => other.operation().unwrap(),
        };
        with.run(&is_there) == Outcome::Done && with == *self
    }
}

impl Notes {
    /// The changes that messages ask for, as seen from the known table.
    fn changes(&self, messages: &[Message]) -> Vec<Change> {
        messages.iter().filter_map(|message| self.change(message)).collect()
    }

    fn change(&self, message: &Message) -> Option<Change> {
        let attributes = message.service.as_ref()?;
        let key = ServiceKey::try_from(attributes).ok()?;
        let number = service_number(&key);
        let known = self.judge.known.0[number];
        let from = service(number, known.map_or(SCHEDULER, |vip| vip.scheduler));
        let configuration = || Service::try_from(attributes).unwrap();
        let to = || message.destination.as_ref().unwrap().destination(Family::V4).unwrap();
        let before = |number_of| {
            let backend = self.judge.known.backend((number, number_of));
            backend.unwrap_or(Backend { weight: 0, is_other: false }).destination(number_of)
        };
        Some(match message.command {
            Command::NewService => Change::AddService(configuration()),
            Command::SetService => Change::UpdateService { from, to: configuration() },
            Command::DelService => Change::RemoveService(from),
            Command::NewDest => Change::AddDestination(key, to()),
            Command::SetDest => self.update(key, before(destination_number(&to().key)), to()),
            Command::DelDest => {
                let to = message.destination.as_ref().unwrap().key(Family::V4).unwrap();
                Change::RemoveDestination(key, before(destination_number(&to)))
            }
            _ => return None,
        })
    }

    fn update(&self, service: ServiceKey, from: Destination, to: Destination) -> Change {
        let place = (service_number(&service), destination_number(&to.key));
        let is_drained = to.weight == 0 && self.setting.drains();
        match self.wanted.backend(place) {
            None if is_drained => Change::DrainDestination(service, to.weight(from.weight.max(1))),
            _ => Change::UpdateDestination { service, from, to },
        }
    }

    fn judge_changes(&self, changes: &[Change]) -> Verdict {
        // The random runs do not check when drains begin and end; the universe does.
        let policy = self.setting.policy.clone().draining(Draining::at_once());
        let setting = Setting { policy, ..self.setting.clone() };
        self.judge.write(changes, &self.wanted, &setting, Duration::ZERO, |_| false)
    }

    /// Records that the last send was answered.
    fn answered(&mut self, truth: &Table, counts: &[[u32; DESTINATIONS]; SERVICES]) {
        for asked in std::mem::take(&mut self.asked) {
            match asked {
                Asked::Change(change, outcome) => {
                    self.story.push(format!("{outcome:?}: {change}"));
                    self.acknowledged(change, outcome);
                }
                Asked::Services => (0..SERVICES).for_each(|number| self.list(number, truth)),
                Asked::Service(number, truth) => self.list(number, &truth),
                Asked::Destinations(number) => {
                    // A service that was removed in between is read as one without destinations.
                    let mut read = self.listed;
                    if let Some(vip) = &mut read.0[number] {
                        vip.backends =
                            truth.0[number].map_or([None; DESTINATIONS], |vip| vip.backends);
                    }
                    let listing = Listing { rules: read.rules(), ..Listing::default() };
                    // A listing in one part lacks no entry. A destination that it does not have is
                    // gone, which the judge otherwise believes after two listings.
                    for _ in 0..2 {
                        self.judge.read(|asked| asked == number, &listing, &self.wanted);
                    }
                    self.counts[number] = counts[number];
                    self.story.push(format!("reads {counts:?}\n{}", truth.rules()));
                }
            }
        }
    }

    /// Gives the requests of the last send an unknown outcome if they were not answered before the
    /// next send.
    fn leave_unanswered(&mut self) {
        for asked in std::mem::take(&mut self.asked) {
            if let Asked::Change(change, Outcome::Done) = asked {
                self.judge.wrote(&[change], &[Outcome::Unknown], &self.wanted);
            }
        }
    }

    fn list(&mut self, number: usize, truth: &Table) {
        self.listed.0[number] = truth.0[number];
        if truth.0[number].is_none() {
            self.judge.known.0[number] = None;
        }
    }

    fn acknowledged(&mut self, change: Change, outcome: Outcome) {
        let number = service_number(&change.service());
        let is_made = outcome == Outcome::Done
            && self.setting.drains()
            && !self.judge.known.is_at_once(&change, &self.setting);
        for one in places().filter(|one| is_made && one.0 == number) {
            let is_removed = match change {
                Change::RemoveService(_) => self.judge.known.backend(one).is_some(),
                Change::RemoveDestination(..) => place(&change) == Some(one),
                _ => false,
            };
            if is_removed && self.counts[one.0][one.1] > 0 {
                self.cut.insert(one);
            }
        }
        self.judge.wrote(&[change], &[outcome], &self.wanted);
    }

    /// Checks the report of a pass or an apply.
    pub(super) fn reported(&mut self, report: &Report) -> Verdict {
        let (left, draining) = (&report.left, &report.drains);
        self.story.push(format!("reports {report}; {left:?}; {draining:?}"));
        let cut = report.ended.iter().filter(|ended| ended.end == DrainEnd::Deadline);
        let told: BTreeSet<Place> =
            cut.map(|e| (service_number(&e.service), destination_number(&e.destination))).collect();
        // A removal of unknown outcome is reported as such, and not as the end of a drain.
        let is_in_doubt = |one: Place| {
            report.failed.iter().filter(|failed| failed.error.is_outcome_unknown()).any(|failed| {
                match failed.change {
                    Change::RemoveService(service) => service_number(&service.key) == one.0,
                    change => place(&change) == Some(one),
                }
            })
        };
        let cut = std::mem::take(&mut self.cut);
        if let Some(place) = cut.iter().find(|one| !told.contains(one) && !is_in_doubt(**one)) {
            return Err(format!(
                "no report tells that the connections of {place:?} were cut off: {report}"
            ));
        }
        if report.error.is_some() {
            return Ok(());
        }
        let said = Said {
            failed: report.failed.iter().map(|failed| failed.change).collect(),
            left: report.left.to_vec(),
            draining: report
                .drains
                .iter()
                .map(|d| (service_number(&d.service), destination_number(&d.destination)))
                .collect(),
            is_withheld: false,
        };
        // Whether an answer has reached the controller is not known here, and so neither whether the
        // controller takes a new service for its own.
        let mut judge = self.judge.clone();
        judge.owed = Default::default();
        judge.end(&said, &self.wanted, &self.setting)
    }
}
