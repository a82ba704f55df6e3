//! Listings, made part by part while they are read.

use super::host::Host;
use super::policy::{ExtendedAck, Parsed, Span};
use super::request::{AskedService, REQUEST};
use super::table::KernelTable;
use super::writer::{Header, Writer};
use super::{encode, nlctrl};
use crate::uapi::Command;
use crate::uapi::Errno;
use crate::uapi::ipvs::daemon::{STATE_BACKUP, STATE_MASTER};

/// A listing under way on a socket.
#[derive(Debug)]
pub(super) struct Dump {
    pub(super) header: Header,
    pub(super) what: Listed,
    /// How many entries were listed. The kernel remembers nothing else, so entries that are added
    /// or removed meanwhile make others come twice or not at all.
    pub(super) listed: usize,
}

/// The kind of entries that are listed.
#[derive(Debug)]
pub(super) enum Listed {
    /// The families, by `nlctrl`.
    Families,
    Services,
    /// The destinations of a service. These attributes of the request name it, and are read again
    /// for each part.
    Destinations(Vec<u8>),
    /// The sync daemons, and for each role whether it was listed.
    Daemons([bool; 2]),
}

impl Listed {
    /// The entries that a command lists; an error for a command that lists none.
    pub(super) fn by(command: Command, attributes: &[u8]) -> Result<Self, Errno> {
        match command {
            Command::GetService => Ok(Self::Services),
            Command::GetDest => Ok(Self::Destinations(attributes.to_vec())),
            Command::GetDaemon => Ok(Self::Daemons([false; 2])),
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
            | Command::SetInfo
            | Command::GetInfo
            | Command::Zero
            | Command::Flush => Err(Errno::OPNOTSUPP),
        }
    }
}

impl Dump {
    /// Writes as many entries as fit into `limit` bytes.
    pub(super) fn part(
        &mut self,
        host: &Host,
        table: &KernelTable,
        limit: usize,
        ack: &mut ExtendedAck,
        out: &mut Writer,
    ) {
        let header = self.header;
        let part = &mut Part { out, limit, listed: &mut self.listed, header };
        let skip = *part.listed;
        match &mut self.what {
            Listed::Families => {
                if let (0, Some(family)) = (skip, host.family) {
                    part.add(|out, header| {
                        nlctrl::family(out, header, host, family);
                    });
                }
            }
            Listed::Services => {
                for (key, entry) in table.listed().skip(skip) {
                    let fits = part.item(Command::NewService, |out| {
                        encode::service(out, key, entry, host.hz);
                    });
                    if !fits {
                        break;
                    }
                }
            }
            Listed::Destinations(attributes) => {
                let attributes = Span { bytes: attributes, offset: 20 };
                let Ok(request) = Parsed::read(attributes, &REQUEST, ack) else { return };
                let Ok(asked) = AskedService::read(&request) else { return };
                let Some(service) = table.services.get(&asked.key) else { return };
                for entry in service.destinations.iter().rev().skip(skip) {
                    if !part.item(Command::NewDest, |out| encode::destination(out, entry)) {
                        break;
                    }
                }
            }
            Listed::Daemons(listed) => {
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

/// A part of a listing that is being written.
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
