//! The family `nlctrl`, the controller of generic netlink, as far as it answers about the IPVS
//! family.

use super::host::Host;
use super::policy::AttributeRule::{Text, U16};
use super::policy::{AttributePolicy, ExtendedAck, Parsed, Span};
use super::request::{self, HIGHEST_ATTRIBUTE};
use super::writer::{Header, Writer};
use crate::uapi::Errno;
use crate::uapi::ipvs::{FAMILY_NAME, FAMILY_VERSION};
use crate::uapi::netlink::nlctrl;

const VERSION: u8 = 2;
/// Attributes of an operation.
const OPERATION_ID: u16 = 1;
const OPERATION_FLAGS: u16 = 2;

const NEEDS_PERMISSION: u32 = 0x1;
const TAKES_ONE: u32 = 0x2;
const TAKES_DUMP: u32 = 0x4;
const HAS_POLICY: u32 = 0x8;

static POLICY: AttributePolicy =
    AttributePolicy::new(&[(nlctrl::FAMILY_ID, U16), (nlctrl::FAMILY_NAME, Text(15))]);

/// Answers `GETFAMILY`.
pub(super) fn get_family(
    host: &Host,
    request: Span<'_>,
    header: Header,
    ack: &mut ExtendedAck,
    out: &mut Writer,
) -> Result<(), Errno> {
    let attributes = Parsed::read(request, &POLICY, ack)?;
    let known = host.family;
    let mut found = Err(Errno::INVAL);
    if let Some(id) = attributes.u16(nlctrl::FAMILY_ID) {
        found = known.filter(|&known| known == id).ok_or(Errno::NOENT);
    }
    if let Some(name) = attributes.text(nlctrl::FAMILY_NAME) {
        found = known.filter(|_| name == FAMILY_NAME.as_bytes()).ok_or(Errno::NOENT);
    }
    family(out, header, host, found?);
    Ok(())
}

/// Describes the IPVS family.
pub(super) fn family(out: &mut Writer, header: Header, host: &Host, family: u16) {
    out.generic_version(header, nlctrl::NEW_FAMILY, VERSION, |out| {
        out.put_text(nlctrl::FAMILY_NAME, FAMILY_NAME);
        out.put_u16(nlctrl::FAMILY_ID, family);
        out.put_u32(nlctrl::VERSION, FAMILY_VERSION.into());
        out.put_u32(nlctrl::HEADER_SIZE, 0);
        out.put_u32(nlctrl::HIGHEST_ATTRIBUTE, HIGHEST_ATTRIBUTE.into());
        out.nest(nlctrl::OPERATIONS, |nest| {
            let known = (1..=u8::MAX).filter_map(|n| Some((n, request::command(n)?.1)));
            for (index, (command, kinds)) in (1..).zip(known) {
                let one = if kinds.once { TAKES_ONE } else { 0 };
                // Kernels that look at the kind before the permission report no policy for a
                // command that only takes dumps.
                let checked = kinds.once || host.checks_permission_first;
                let policy = if checked { HAS_POLICY } else { 0 };
                let dump = if kinds.dump { TAKES_DUMP } else { 0 };
                nest.nest(index, |nest| {
                    nest.put_u32(OPERATION_ID, command.into());
                    let flags = NEEDS_PERMISSION | policy | one | dump;
                    nest.put_u32(OPERATION_FLAGS, flags);
                });
            }
        });
    });
}
