//! The sync daemons: both roles, groups of both families, alone and together.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Context;
use ipvs_netlink::{DaemonRole, SyncDaemon};

use crate::case::{Outcome, cases};
use crate::subject::Subject;

cases![each_daemon_with_each_group, a_backup_receives_at_least_1024_bytes];

/// The daemons' own interface, since the kernel's loopback takes no IPv6 group.
const INTERFACE: &str = "sync0";

async fn each_daemon_with_each_group(subject: &mut Subject) -> Outcome {
    subject.add_interface(INTERFACE, true)?;
    let outcome = each_daemon(subject).await;
    remove_interface(subject).await?;
    outcome
}

/// The kernel raises a smaller maximum length, so that no message of another master is cut off.
async fn a_backup_receives_at_least_1024_bytes(subject: &mut Subject) -> Outcome {
    subject.add_interface(INTERFACE, true)?;
    for (role, held) in [(DaemonRole::Master, 576), (DaemonRole::Backup, 1024)] {
        let daemon = SyncDaemon::new(role, INTERFACE.parse()?).max_length(576);
        subject.client.start_daemon(&daemon).await?;
        let running = subject.client.daemons().await?.pop().unwrap();
        assert_eq!((running.role, running.max_length), (role, Some(held)));
        subject.client.stop_daemon(role).await?;
    }
    remove_interface(subject).await
}

async fn remove_interface(subject: &mut Subject) -> Outcome {
    for daemon in subject.client.daemons().await? {
        subject.client.stop_daemon(daemon.role).await?;
    }
    subject.remove_interface(INTERFACE)
}

async fn each_daemon(subject: &mut Subject) -> Outcome {
    let groups: [IpAddr; 2] =
        [Ipv4Addr::new(224, 0, 0, 99).into(), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x81).into()];
    for group in groups {
        for (sync_id, port, ttl, length) in [(0, 8848, 1, 1400), (255, 0x0102, 255, 1024)] {
            let daemons = [DaemonRole::Master, DaemonRole::Backup].map(|role| {
                SyncDaemon::new(role, INTERFACE.parse().unwrap())
                    .group(group)
                    .sync_id(sync_id)
                    .port(port)
                    .ttl(ttl)
                    .max_length(length)
            });
            for daemon in &daemons {
                let started = subject.client.start_daemon(daemon).await;
                started.with_context(|| format!("{daemon:?}"))?;
                subject.combinations += 1;
            }
            assert_eq!(subject.client.daemons().await?, daemons);
            for daemon in &daemons {
                subject.client.stop_daemon(daemon.role).await?;
            }
            assert!(subject.client.daemons().await?.is_empty());
        }
    }
    Ok(())
}
