//! Operations on no service: version, counters, timeouts, sync daemons.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use anyhow::ensure;
use ipvs_netlink::{
    DaemonRole, Destination, Operation, Service, Stats, SyncDaemon, TimeoutsUpdate,
};

use crate::case::{Outcome, cases};
use crate::rules::web;
use crate::subject::{Subject, program};

cases![
    tells_its_version,
    zeroes_counters,
    timeouts_are_set_one_by_one,
    a_timeout_too_long_is_refused,
    daemons_start_and_stop,
    a_daemon_needs_its_interface,
    a_daemon_stops_as_soon_as_it_has_started,
];

async fn tells_its_version(subject: &mut Subject) -> Outcome {
    let info = subject.client.info().await?;
    assert_eq!(info.version.to_string(), "1.2.1");
    assert!(subject.release.resizes_connection_table() || info.connection_table_size > 0);
    subject.client.add_service(&web()).await?;
    let info = subject.client.info().await?;
    assert!(info.connection_table_size.is_power_of_two());
    Ok(())
}

/// Counters move at the kernel's ticks, so traffic shows some seconds later.
async fn zeroes_counters(subject: &mut Subject) -> Outcome {
    let director = Ipv4Addr::new(10, 9, 9, 9);
    program("ip", &["address", "replace", "10.9.9.9/32", "dev", "lo"])?;
    // A server listens, so that no ICMP message is counted.
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let here = Destination::masquerade(Ipv4Addr::LOCALHOST, server.local_addr()?.port());
    let services = [Service::udp(director, 1001), Service::udp(director, 1002)];
    for service in &services {
        subject.client.add_service(service).await?;
        subject.client.add_destination(service.key, &here).await?;
        UdpSocket::bind("0.0.0.0:0")?.send_to(b"hello", (director, service_port(service)))?;
    }
    let [first, second] = services;
    wait_for_traffic(subject, &first).await?;
    wait_for_traffic(subject, &second).await?;

    let stats = subject.client.service(first.key).await?.stats;
    assert_eq!((stats.connections, stats.incoming_packets), (1, 1));
    assert_eq!(stats.incoming_bytes, 20 + 8 + 5);
    let entry = subject.client.destinations(first.key).await?.remove(0);
    assert_eq!((entry.stats.connections, entry.inactive_connections), (1, 1));

    subject.client.zero_service(first.key).await?;
    assert_eq!(counted(&subject.client.service(first.key).await?.stats), 0);
    assert_eq!(counted(&subject.client.service(second.key).await?.stats), 1);
    subject.client.zero().await?;
    assert_eq!(counted(&subject.client.service(second.key).await?.stats), 0);
    Ok(())
}

fn counted(stats: &Stats) -> u64 {
    stats.connections
}

fn service_port(service: &Service) -> u16 {
    service.key.socket_address().map_or(0, |address| address.port())
}

async fn wait_for_traffic(subject: &mut Subject, service: &Service) -> Outcome {
    for _ in 0..100 {
        if counted(&subject.client.service(service.key).await?.stats) > 0 {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    ensure!(false, "no traffic was counted");
    Ok(())
}

async fn timeouts_are_set_one_by_one(subject: &mut Subject) -> Outcome {
    let before = subject.client.timeouts().await?;
    assert_eq!(before.tcp, Duration::from_secs(900));
    let update = TimeoutsUpdate::default().udp(Duration::from_secs(30));
    subject.client.set_timeouts(update).await?;
    let after = subject.client.timeouts().await?;
    assert_eq!(after.udp, Duration::from_secs(30));
    assert_eq!((after.tcp, after.tcp_fin), (before.tcp, before.tcp_fin));
    subject.client.set_timeouts(before.into()).await?;
    assert_eq!(subject.client.timeouts().await?, before);
    Ok(())
}

/// At 250 ticks a second and more the longest timeout is 8,589,934 s. The kernel sets nothing if
/// one is longer.
async fn a_timeout_too_long_is_refused(subject: &mut Subject) -> Outcome {
    let before = subject.client.timeouts().await?;
    let update =
        TimeoutsUpdate::default().tcp(Duration::from_secs(60)).udp(Duration::from_secs(20_000_000));
    let error = subject.client.set_timeouts(update).await.unwrap_err();
    assert_eq!(error.errno(), Some(ipvs_netlink::Errno::INVAL), "{error}");
    assert_eq!(subject.client.timeouts().await?, before);
    Ok(())
}

async fn daemons_start_and_stop(subject: &mut Subject) -> Outcome {
    assert!(subject.client.daemons().await?.is_empty());
    let master = SyncDaemon::new(DaemonRole::Master, "lo".parse()?)
        .sync_id(7)
        .group(Ipv4Addr::new(224, 0, 0, 99))
        .port(9999)
        .ttl(3)
        .max_length(1200);
    subject.client.start_daemon(&master).await?;
    let backup = SyncDaemon::new(DaemonRole::Backup, "lo".parse()?).sync_id(255);
    subject.client.start_daemon(&backup).await?;

    let running = subject.client.daemons().await?;
    assert_eq!(running.len(), 2);
    assert_eq!(running[0], master);
    assert_eq!((running[1].role, running[1].sync_id), (DaemonRole::Backup, 255));
    let defaults = (running[1].group, running[1].port, running[1].ttl);
    assert_eq!(defaults, (Some(Ipv4Addr::new(224, 0, 0, 81).into()), Some(8848), Some(1)));

    let error = subject.client.start_daemon(&master).await.unwrap_err();
    assert!(error.is_already_exists(), "{error}");
    subject.client.stop_daemon(DaemonRole::Master).await?;
    subject.client.stop_daemon(DaemonRole::Backup).await?;
    assert!(subject.client.daemons().await?.is_empty());
    let error = subject.client.stop_daemon(DaemonRole::Backup).await.unwrap_err();
    assert!(error.is_not_found() && !error.is_service_not_found(), "{error}");
    Ok(())
}

async fn a_daemon_needs_its_interface(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    let daemon = SyncDaemon::new(DaemonRole::Backup, "nosuch".parse()?);
    let error = subject.client.start_daemon(&daemon).await.unwrap_err();
    assert!(error.to_string().contains("no such interface"), "{error}");
    Ok(())
}

/// Once: the kernel does not answer if the daemon's thread has not run yet. The client waited for
/// ten seconds, and its error left open whether the daemon was stopped.
async fn a_daemon_stops_as_soon_as_it_has_started(subject: &mut Subject) -> Outcome {
    for _ in 0..10 {
        for role in [DaemonRole::Master, DaemonRole::Backup] {
            let daemon = SyncDaemon::new(role, "lo".parse()?);
            subject.client.start_daemon(&daemon).await?;
            subject.client.stop_daemon(role).await?;
            assert!(subject.client.daemons().await?.is_empty());
            let both = vec![Operation::StartDaemon(daemon), Operation::StopDaemon(role)];
            for result in subject.client.batch(both).await? {
                result?;
            }
            assert!(subject.client.daemons().await?.is_empty());
            let error = subject.client.stop_daemon(role).await.unwrap_err();
            assert!(error.is_not_found(), "{error}");
        }
    }
    Ok(())
}
