//! The attributes of a sync daemon.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::DecodeError;
use super::codec::{Ipv4, Ipv6, NulString, U8, U16Native, U32Native};
use super::reader::{for_each_attribute, nested};
use super::table::attributes;
use crate::model::{DaemonRole, InterfaceName, SyncDaemon};
use crate::uapi::ipvs::{daemon as attribute, message};

attributes! {
    /// A sync daemon's attributes, each as the kernel has it; an attribute that the message lacks
    /// is `None`.
    pub struct DaemonAttributes of crate::uapi::ipvs::daemon {
        /// `STATE`: 1 master, 2 backup.
        state: u32 = STATE, "STATE", U32Native;
        /// `MCAST_IFN`; an empty name is `None`.
        interface: InterfaceName = INTERFACE, "MCAST_IFN", NulString<15>;
        /// `SYNC_ID`.
        sync_id: u32 = SYNC_ID, "SYNC_ID", U32Native;
        /// `SYNC_MAXLEN`, in bytes.
        max_length: u16 = MAX_LENGTH, "SYNC_MAXLEN", U16Native;
        /// `MCAST_PORT`, in host order even on the wire.
        port: u16 = PORT, "MCAST_PORT", U16Native;
        /// `MCAST_TTL`.
        ttl: u8 = TTL, "MCAST_TTL", U8;
        /// `MCAST_GROUP6`.
        group6: Ipv6Addr = GROUP6, "MCAST_GROUP6", Ipv6;
        /// `MCAST_GROUP`.
        group: Ipv4Addr = GROUP, "MCAST_GROUP", Ipv4;
    }
}

impl DaemonAttributes {
    /// Decodes the daemon of an answer.
    pub(crate) fn from_answer(answer: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(nested(answer, message::DAEMON, "DAEMON")?)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut daemon = Self::default();
        for_each_attribute(bytes, |kind, bytes| daemon.decode_one(kind, bytes).map(drop))?;
        Ok(daemon)
    }
}

impl From<DaemonRole> for DaemonAttributes {
    fn from(role: DaemonRole) -> Self {
        let state = match role {
            DaemonRole::Master => attribute::STATE_MASTER,
            DaemonRole::Backup => attribute::STATE_BACKUP,
        };
        Self { state: Some(state), ..Self::default() }
    }
}

impl From<&SyncDaemon> for DaemonAttributes {
    fn from(daemon: &SyncDaemon) -> Self {
        let mut attributes = Self {
            interface: Some(daemon.interface),
            sync_id: Some(daemon.sync_id),
            max_length: daemon.max_length,
            port: daemon.port,
            ttl: daemon.ttl,
            ..Self::from(daemon.role)
        };
        match daemon.group {
            Some(IpAddr::V4(group)) => attributes.group = Some(group),
            Some(IpAddr::V6(group)) => attributes.group6 = Some(group),
            None => {}
        }
        attributes
    }
}

impl TryFrom<&DaemonAttributes> for SyncDaemon {
    type Error = DecodeError;

    fn try_from(attributes: &DaemonAttributes) -> Result<Self, DecodeError> {
        let role = match attributes.state.ok_or(DecodeError::Missing("STATE"))? {
            attribute::STATE_MASTER => DaemonRole::Master,
            attribute::STATE_BACKUP => DaemonRole::Backup,
            other => {
                return Err(DecodeError::Value {
                    name: "STATE",
                    value: format!("{other}, neither master (1) nor backup (2)"),
                });
            }
        };
        let interface = attributes.interface.ok_or(DecodeError::Missing("MCAST_IFN"))?;
        let group6 = attributes.group6.map(IpAddr::from);
        Ok(Self {
            role,
            interface,
            sync_id: attributes.sync_id.ok_or(DecodeError::Missing("SYNC_ID"))?,
            max_length: attributes.max_length,
            group: group6.or(attributes.group.map(IpAddr::from)),
            port: attributes.port,
            ttl: attributes.ttl,
        })
    }
}
