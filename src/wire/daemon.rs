//! The attributes of a sync daemon.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::DecodeError;
use super::reader::{Value, for_each_attribute, nested};
use super::uapi::{daemon as attribute, top};
use super::writer::Attributes;
use crate::model::{DaemonRole, InterfaceName, SyncDaemon};

/// A sync daemon's attributes, each as the kernel has it; what is `None` is not in the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DaemonAttributes {
    /// `STATE`: 1 master, 2 backup.
    pub state: Option<u32>,
    /// `MCAST_IFN`; an empty one is `None`.
    pub interface: Option<InterfaceName>,
    /// `SYNC_ID`.
    pub sync_id: Option<u32>,
    /// `SYNC_MAXLEN`, in bytes.
    pub max_length: Option<u16>,
    /// `MCAST_GROUP`.
    pub group: Option<Ipv4Addr>,
    /// `MCAST_GROUP6`.
    pub group6: Option<Ipv6Addr>,
    /// `MCAST_PORT`, in host order on the wire, too.
    pub port: Option<u16>,
    /// `MCAST_TTL`.
    pub ttl: Option<u8>,
}

impl DaemonAttributes {
    #[inline(always)]
    pub(crate) fn encode<S: Attributes>(&self, sink: &mut S) {
        if let Some(state) = self.state {
            sink.u32_native(attribute::STATE, state);
        }
        if let Some(interface) = self.interface {
            sink.string(attribute::INTERFACE, interface.as_str());
        }
        if let Some(sync_id) = self.sync_id {
            sink.u32_native(attribute::SYNC_ID, sync_id);
        }
        if let Some(max_length) = self.max_length {
            sink.u16_native(attribute::MAX_LENGTH, max_length);
        }
        if let Some(port) = self.port {
            sink.u16_native(attribute::PORT, port);
        }
        if let Some(ttl) = self.ttl {
            sink.u8(attribute::TTL, ttl);
        }
        if let Some(group) = self.group6 {
            sink.array(attribute::GROUP6, group.octets());
        }
        if let Some(group) = self.group {
            sink.array(attribute::GROUP, group.octets());
        }
    }

    /// Decodes the daemon of an answer.
    pub(crate) fn of_answer(answer: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(nested(answer, top::DAEMON, "DAEMON")?)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut daemon = Self::default();
        for_each_attribute(bytes, |kind, bytes| {
            let value = |name| Value::new(name, bytes);
            match kind {
                attribute::STATE => daemon.state = Some(value("STATE").u32_native()?),
                attribute::INTERFACE => daemon.interface = value("MCAST_IFN").name()?,
                attribute::SYNC_ID => daemon.sync_id = Some(value("SYNC_ID").u32_native()?),
                attribute::MAX_LENGTH => {
                    daemon.max_length = Some(value("SYNC_MAXLEN").u16_native()?);
                }
                attribute::GROUP => {
                    daemon.group = Some(value("MCAST_GROUP").take::<4>()?.into());
                }
                attribute::GROUP6 => {
                    daemon.group6 = Some(value("MCAST_GROUP6").take::<16>()?.into());
                }
                attribute::PORT => daemon.port = Some(value("MCAST_PORT").u16_native()?),
                attribute::TTL => daemon.ttl = Some(value("MCAST_TTL").u8()?),
                _ => {}
            }
            Ok(())
        })?;
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
