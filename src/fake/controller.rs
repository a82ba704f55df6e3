//! The controller of generic netlink, as far as it is asked for the IPVS family.

use rustix::io::Errno;

use super::commands::{self, HIGHEST_ATTRIBUTE};
use super::host::Host;
use super::policy::{Attributes, Bytes, Report, Rule};
use super::writer::{Header, Writer};
use crate::wire::uapi::{FAMILY_NAME, FAMILY_VERSION};

/// The controller's own number.
pub(super) const FAMILY: u16 = 0x10;
pub(super) const GET_FAMILY: u8 = 3;
/// The first command that is checked for what older ones let pass.
pub(super) const FIRST_STRICT_COMMAND: u8 = 11;
const NEW_FAMILY: u8 = 1;
const VERSION: u8 = 2;

/// The controller's attributes, from `linux/genetlink.h`.
mod attribute {
    pub(super) const FAMILY_ID: u16 = 1;
    pub(super) const FAMILY_NAME: u16 = 2;
    pub(super) const VERSION: u16 = 3;
    pub(super) const HEADER_SIZE: u16 = 4;
    pub(super) const HIGHEST_ATTRIBUTE: u16 = 5;
    pub(super) const OPERATIONS: u16 = 6;
    pub(super) const OPERATION_ID: u16 = 1;
    pub(super) const OPERATION_FLAGS: u16 = 2;
}

const NEEDS_PERMISSION: u32 = 0x1;
const TAKES_ONE: u32 = 0x2;
const TAKES_DUMP: u32 = 0x4;
const HAS_POLICY: u32 = 0x8;

const POLICY: [Rule; 3] = [Rule::Any(0), Rule::U16, Rule::Text(15)];

/// Answers `GETFAMILY`.
pub(super) fn get_family(
    host: &Host,
    request: Bytes<'_>,
    header: Header,
    report: &mut Report,
    out: &mut Writer,
) -> Result<(), Errno> {
    let attributes = Attributes::read(request, &POLICY, report)?;
    let known = host.family;
    let mut found = Err(Errno::INVAL);
    if let Some(id) = attributes.u16(attribute::FAMILY_ID) {
        found = known.filter(|&known| known == id).ok_or(Errno::NOENT);
    }
    if let Some(name) = attributes.text(attribute::FAMILY_NAME) {
        found = known.filter(|_| name == FAMILY_NAME.as_bytes()).ok_or(Errno::NOENT);
    }
    family(out, header, host, found?);
    Ok(())
}

/// Describes the IPVS family.
pub(super) fn family(out: &mut Writer, header: Header, host: &Host, family: u16) {
    out.generic_version(header, NEW_FAMILY, VERSION, |out| {
        out.put_text(attribute::FAMILY_NAME, FAMILY_NAME);
        out.put_u16(attribute::FAMILY_ID, family);
        out.put_u32(attribute::VERSION, FAMILY_VERSION.into());
        out.put_u32(attribute::HEADER_SIZE, 0);
        out.put_u32(attribute::HIGHEST_ATTRIBUTE, HIGHEST_ATTRIBUTE.into());
        out.nest(attribute::OPERATIONS, |nest| {
            let known = (1..=u8::MAX).filter_map(|n| Some((n, commands::kinds(n)?.1)));
            for (index, (command, kinds)) in (1..).zip(known) {
                let one = if kinds.once { TAKES_ONE } else { 0 };
                // Kernels that look at the kind first know that a command of dumps alone checks nothing.
                let checked = kinds.once || host.checks_permission_first;
                let policy = if checked { HAS_POLICY } else { 0 };
                let dump = if kinds.dump { TAKES_DUMP } else { 0 };
                nest.nest(index, |nest| {
                    nest.put_u32(attribute::OPERATION_ID, command.into());
                    let flags = NEEDS_PERMISSION | policy | one | dump;
                    nest.put_u32(attribute::OPERATION_FLAGS, flags);
                });
            }
        });
    });
}
