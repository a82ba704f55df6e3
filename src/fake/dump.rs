//! Listings, made part by part as they are read.

use super::commands::{TOP, Top, asked_key};
use super::controller;
use super::encode;
use super::kernel::State;
use super::policy::{Bytes, Report};
use super::writer::{Header, Writer};
use crate::wire::Command;
use crate::wire::uapi::daemon::{STATE_BACKUP, STATE_MASTER};

/// A listing under way on a socket.
#[derive(Debug)]
pub(super) struct Dump {
    pub(super) header: Header,
    pub(super) what: What,
    /// How many entries were listed; nothing else is remembered, so that entries added or removed
    /// meanwhile make others come twice or not at all.
    pub(super) listed: usize,
}

/// What is listed.
#[derive(Debug)]
pub(super) enum What {
    /// The families, by the controller.
    Families,
    Services,
    /// Of the service in the request's attributes, which are read again for each part.
    Destinations(Vec<u8>),
    /// And for each role whether it was listed.
    Daemons([bool; 2]),
}

impl What {
    pub(super) fn of(command: Command, attributes: &[u8]) -> Self {
        match command {
            Command::GetDest => Self::Destinations(attributes.to_vec()),
            Command::GetDaemon => Self::Daemons([false; 2]),
            _ => Self::Services,
        }
    }
}

impl Dump {
    /// Writes as many entries as fit into `limit` bytes.
    pub(super) fn part(
        &mut self,
        state: &State,
        limit: usize,
        report: &mut Report,
        out: &mut Writer,
    ) {
        let header = self.header;
        let part = &mut Part { out, limit, listed: &mut self.listed, header };
        let skip = *part.listed;
        let table = &state.table;
        match &mut self.what {
            What::Families => {
                if let (0, Some(family)) = (skip, state.host.family) {
                    part.add(|out, header| {
                        controller::family(out, header, &state.host, family);
                    });
                }
            }
            What::Services => {
                for (key, entry) in table.listed().skip(skip) {
                    let fits = part.item(Command::NewService, |out| {
                        encode::service(out, key, entry, state.host.hz);
                    });
                    if !fits {
                        break;
                    }
                }
            }
            What::Destinations(attributes) => {
                let attributes = Bytes { bytes: attributes, offset: 20 };
                let Ok(attributes) = Top::read(attributes, &TOP, report) else { return };
                let Ok(key) = asked_key(&attributes) else { return };
                let Some(service) = table.services.get(&key) else { return };
                for entry in service.destinations.iter().rev().skip(skip) {
                    if !part.item(Command::NewDest, |out| encode::destination(out, entry)) {
                        break;
                    }
                }
            }
            What::Daemons(listed) => {
                let daemons = [(STATE_MASTER, &table.master), (STATE_BACKUP, &table.backup)];
                for ((role, running), listed) in daemons.into_iter().zip(listed) {
                    let Some(entry) = running.as_ref().filter(|_| !*listed) else { continue };
                    if !part.item(Command::NewDaemon, |out| encode::daemon(out, role, entry)) {
                        break;
                    }
                    *listed = true;
                }
            }
        }
    }
}

/// A part of a listing, as far as it is written.
struct Part<'a> {
    out: &'a mut Writer,
    limit: usize,
    listed: &'a mut usize,
    header: Header,
}

impl Part<'_> {
    /// Writes an entry if it fits.
    fn item(&mut self, command: Command, body: impl FnOnce(&mut Writer)) -> bool {
        self.add(|out, header| out.generic(header, command.number(), body))
    }

    fn add(&mut self, write: impl FnOnce(&mut Writer, Header)) -> bool {
        let before = self.out.bytes.len();
        write(self.out, self.header);
        let fits = self.out.bytes.len() <= self.limit;
        if fits {
            *self.listed += 1;
        } else {
            self.out.bytes.truncate(before);
        }
        fits
    }
}
