//! The sync daemons, by which directors share their connections.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::{InterfaceName, Invalid};

/// The task of a sync daemon; as text `master` or `backup`. A host may run one of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DaemonRole {
    /// The daemon sends this host's connections to others.
    Master,
    /// The daemon takes over the connections that a master sends.
    Backup,
}

impl fmt::Display for DaemonRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "master",
            Self::Backup => "backup",
        })
    }
}

impl FromStr for DaemonRole {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "master" => Ok(Self::Master),
            "backup" => Ok(Self::Backup),
            _ => Err(Invalid::expected("master or backup", text)),
        }
    }
}

/// A sync daemon. In one that was read from the kernel, every field has a value.
///
/// ```
/// use ipvs_netlink::{DaemonRole, SyncDaemon};
///
/// let master = SyncDaemon::new(DaemonRole::Master, "eth0".parse()?).sync_id(7);
/// # Ok::<(), ipvs_netlink::Invalid>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct SyncDaemon {
    /// The task of the daemon.
    pub role: DaemonRole,
    /// The interface on which the daemon sends or receives.
    pub interface: InterfaceName,
    /// Tells groups of directors on one link apart: 0 to 255. The kernel takes a larger number and
    /// sends its lowest byte.
    pub sync_id: u32,
    /// The largest message, in bytes (Linux 4.3 and later). Unset or 0 stands for the length that
    /// fits the interface (1472 for IPv4 and 1452 for IPv6 on Ethernet). The kernel raises the
    /// length of a backup to 1024, and lowers any length to 65,507.
    pub max_length: Option<u16>,
    /// The multicast group (Linux 4.3 and later); 224.0.0.81 unless set.
    pub group: Option<IpAddr>,
    /// The UDP port (Linux 4.3 and later); 8848 unless set, or where 0.
    pub port: Option<u16>,
    /// The time to live of messages (Linux 4.3 and later); 1 unless set, or where 0.
    pub ttl: Option<u8>,
}

impl SyncDaemon {
    /// A daemon with sync id 0 and the kernel's defaults.
    pub fn new(role: DaemonRole, interface: InterfaceName) -> Self {
        Self { role, interface, sync_id: 0, max_length: None, group: None, port: None, ttl: None }
    }

    /// Tells groups of directors on one link apart.
    #[must_use]
    pub fn sync_id(self, sync_id: u8) -> Self {
        Self { sync_id: sync_id.into(), ..self }
    }

    /// The largest message, in bytes.
    #[must_use]
    pub fn max_length(self, bytes: u16) -> Self {
        Self { max_length: Some(bytes), ..self }
    }

    /// The multicast group, IPv4 or IPv6.
    #[must_use]
    pub fn group(self, group: impl Into<IpAddr>) -> Self {
        Self { group: Some(group.into()), ..self }
    }

    /// The UDP port.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        Self { port: Some(port), ..self }
    }

    /// The time to live (hop limit) of messages.
    #[must_use]
    pub fn ttl(self, ttl: u8) -> Self {
        Self { ttl: Some(ttl), ..self }
    }

    /// Refuses a daemon that no kernel would take or run, with the reason.
    ///
    /// # Errors
    /// When the sync id is above 255, which the kernel would cut off, or the group is not
    /// multicast.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.sync_id > 255 {
            return Err(Invalid::new(format!("a sync id is 0 to 255, not {}", self.sync_id)));
        }
        match self.group {
            Some(group) if !group.is_multicast() => {
                Err(Invalid::new(format!("{group} is not a multicast group")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn refuses_groups_that_are_not_multicast() {
        let daemon = SyncDaemon::new(DaemonRole::Backup, "eth0".parse().unwrap());
        assert!(daemon.group(Ipv4Addr::new(224, 0, 0, 81)).check().is_ok());
        assert!(daemon.group(Ipv4Addr::new(10, 0, 0, 1)).check().is_err());
        assert!(daemon.group(Ipv6Addr::LOCALHOST).check().is_err());
    }
}
