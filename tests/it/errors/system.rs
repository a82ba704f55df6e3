//! Sync daemons and timeouts that the kernel refuses.

use std::net::Ipv6Addr;
use std::time::Duration;

use ipvs_netlink::{DaemonRole, Errno, SyncDaemon, TimeoutsUpdate};

use super::refused;
use crate::case::{Outcome, cases};
use crate::subject::Subject;
use crate::tampered::{Tampered, attribute, is_command, set_attributes, set_value};

cases![
    an_unknown_interface,
    a_daemon_that_runs,
    a_daemon_that_does_not_run,
    an_interface_that_is_down,
    an_interface_without_ipv6,
    a_timeout_of_too_many_ticks,
    an_attribute_that_is_too_short,
    a_sync_id_of_more_than_a_byte_is_cut_off_silently,
    what_is_refused_before_sending_the_kernel_refuses_too,
];

const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x81);

async fn an_unknown_interface(subject: &mut Subject) -> Outcome {
    for role in [DaemonRole::Master, DaemonRole::Backup] {
        let daemon = SyncDaemon::new(role, "nosuch".parse()?);
        let error = refused(
            subject.client.start_daemon(&daemon).await,
            Errno::NODEV,
            "there is no such interface",
        );
        assert!(!error.is_not_found(), "{error}");
    }
    Ok(())
}

async fn a_daemon_that_runs(subject: &mut Subject) -> Outcome {
    let daemon = SyncDaemon::new(DaemonRole::Master, "lo".parse()?);
    subject.client.start_daemon(&daemon).await?;
    let again = subject.client.start_daemon(&daemon).await;
    assert!(
        refused(again, Errno::EXIST, "a sync daemon of this role runs already; stop it first")
            .is_already_exists()
    );
    Ok(())
}

async fn a_daemon_that_does_not_run(subject: &mut Subject) -> Outcome {
    let daemon = SyncDaemon::new(DaemonRole::Master, "lo".parse()?);
    subject.client.start_daemon(&daemon).await?;
    let stopped = subject.client.stop_daemon(DaemonRole::Backup).await;
    let error = refused(stopped, Errno::SRCH, "cannot stop the backup sync daemon: none runs");
    assert!(error.is_not_found(), "{error}");
    assert!(!error.is_service_not_found() && !error.is_destination_not_found(), "{error}");
    Ok(())
}

/// The addresses of such an interface do not help.
async fn an_interface_that_is_down(subject: &mut Subject) -> Outcome {
    let master = SyncDaemon::new(DaemonRole::Master, "down0".parse()?);
    for daemon in [master, master.group(GROUP6)] {
        subject.add_interface("down0", false)?;
        let started = subject.client.start_daemon(&daemon).await;
        subject.remove_interface("down0")?;
        let says = "the interface is down or has no address of the group's family";
        refused(started, Errno::NETUNREACH, says);
    }
    Ok(())
}

/// An interface with packets below 1280 bytes has no IPv6.
async fn an_interface_without_ipv6(subject: &mut Subject) -> Outcome {
    for (role, errno) in
        [(DaemonRole::Master, Errno::NETUNREACH), (DaemonRole::Backup, Errno::INVAL)]
    {
        subject.add_small_interface("small0", true, 1279)?;
        let daemon = SyncDaemon::new(role, "small0".parse()?).group(GROUP6);
        let started = subject.client.start_daemon(&daemon).await;
        subject.remove_interface("small0")?;
        refused(started, errno, "");
    }
    Ok(())
}

/// The kernel then applies nothing, not even the valid timeout.
async fn a_timeout_of_too_many_ticks(subject: &mut Subject) -> Outcome {
    let before = subject.client.timeouts().await?;
    let minute = TimeoutsUpdate::default().tcp(Duration::from_secs(60));
    let too_long = minute.udp(Duration::from_secs(8_589_935));
    let says = "a timeout is too long: its clock ticks must fit 31 bits";
    refused(subject.client.set_timeouts(too_long).await, Errno::INVAL, says);
    assert_eq!(subject.client.timeouts().await?, before);
    Ok(())
}

/// The check before IPVS returns a text of its own, which the error carries.
async fn an_attribute_that_is_too_short(subject: &mut Subject) -> Outcome {
    let before = subject.client.timeouts().await?;
    let mut client = Tampered::client(subject, |message| {
        if is_command(message, 12) {
            set_attributes(message, &attribute(4, &[1, 0]));
        }
    })?;
    let update = TimeoutsUpdate::default().tcp(Duration::from_secs(60));
    let words = "Attribute failed policy validation";
    let error = refused(client.set_timeouts(update), Errno::RANGE, words);
    assert_eq!(error.kernel_message(), Some(words));
    assert_eq!(client.timeouts()?, before);
    Ok(())
}

const STATE: u16 = 1;
const SYNC_ID: u16 = 3;
const GROUP: u16 = 5;

/// A message between directors has one byte for the sync id, and the kernel cuts off a larger id
/// without an error: master 257 sends as 1, and backup 257 receives from nobody.
async fn a_sync_id_of_more_than_a_byte_is_cut_off_silently(subject: &mut Subject) -> Outcome {
    let daemon = SyncDaemon::new(DaemonRole::Backup, "lo".parse()?);
    let mut client = Tampered::client(subject, |message| {
        if is_command(message, 9) {
            set_value(message, SYNC_ID, &257u32.to_ne_bytes());
        }
    })?;
    client.start_daemon(&daemon)?;
    let mut running = client.daemons()?.pop().unwrap();
    assert_eq!(running.sync_id, 257);
    // The crate therefore refuses such an id.
    running.role = DaemonRole::Master;
    let error = subject.client.start_daemon(&running).await.unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("a sync id is 0 to 255"), "{error}");
    Ok(())
}

/// The crate may refuse without asking the kernel only what no kernel takes.
async fn what_is_refused_before_sending_the_kernel_refuses_too(subject: &mut Subject) -> Outcome {
    let start = |daemon: SyncDaemon, kind: u16, value: [u8; 4]| -> anyhow::Result<_> {
        let mut client = Tampered::client(subject, move |message| {
            if is_command(message, 9) {
                set_value(message, kind, &value);
            }
        })?;
        Ok(client.start_daemon(&daemon))
    };
    let daemon = SyncDaemon::new(DaemonRole::Backup, "lo".parse()?).group([224, 0, 0, 81]);
    refused(start(daemon, GROUP, [10, 0, 0, 1])?, Errno::INVAL, "");
    refused(start(daemon, STATE, 3u32.to_ne_bytes())?, Errno::INVAL, "");
    // This timeout is too long even at 100 clock ticks a second, the lowest rate.
    let mut client = Tampered::client(subject, |message| {
        if is_command(message, 12) {
            set_attributes(message, &attribute(6, &21_474_837u32.to_ne_bytes()));
        }
    })?;
    let update = TimeoutsUpdate::default().udp(Duration::from_secs(60));
    refused(client.set_timeouts(update), Errno::INVAL, "a timeout is too long");
    Ok(())
}
