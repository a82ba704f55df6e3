//! Faults of writing: the kernel got other values than the user gave. The real `ipvsadm` is
//! the witness.

use std::num::NonZeroU32;
use std::time::Duration;

use ipvs_netlink::{
    Destination, Family, HashOptions, Netmask, Persistence, Scheduler, Service, Tunnel,
    TunnelChecksum,
};

use crate::case::{Outcome, cases};
use crate::rules::{backend, real, real6, vip, vip6, web};
use crate::subject::{Subject, program};

cases![
    an_ipv6_netmask_is_a_prefix_length,
    a_mark_of_ipv6_has_a_prefix_length,
    a_tunnel_port_reaches_the_kernel_unswapped,
    thresholds_are_not_exchanged,
    flags_are_set,
    a_change_of_one_field_keeps_the_others,
    nothing_is_where_nobody_put_it,
];

/// The output of ipvsadm, white space aside.
fn ipvsadm(arguments: &[&str]) -> anyhow::Result<String> {
    let said = program("ipvsadm", arguments)?;
    Ok(said.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The mask of an IPv6 service was sent as 16 bytes, or as 0xffffffff: EINVAL.
async fn an_ipv6_netmask_is_a_prefix_length(subject: &mut Subject) -> Outcome {
    let hour = Persistence::new(Duration::from_secs(3600));
    subject.client.add_service(&Service::tcp(vip6(), 80)).await?;
    subject.client.add_service(&Service::tcp(vip6(), 81).persistence(hour)).await?;
    let by_network = Service::tcp(vip6(), 82).persistence(hour.netmask(Netmask::V6(64)));
    subject.client.add_service(&by_network).await?;
    let saved = ipvsadm(&["-S", "-n"])?;
    assert!(saved.contains("-A -t [2001:db8::1]:82 -s wlc -p 3600 -M 64"), "{saved}");
    Ok(())
}

/// A service by a mark for IPv6 was refused, since its mask was that of IPv4.
async fn a_mark_of_ipv6_has_a_prefix_length(subject: &mut Subject) -> Outcome {
    let mark = Service::mark(70_000, Family::V6)?;
    subject.client.add_service(&mark).await?;
    let server = Destination::masquerade(real6(1), 80);
    subject.client.add_destination(mark.key, &server).await?;
    let saved = ipvsadm(&["-S", "-n"])?;
    assert!(saved.contains("-A -f 70000 -6 -s wlc"), "{saved}");
    Ok(())
}

/// The port of a gue tunnel was written unswapped: packets went to port 49,175.
async fn a_tunnel_port_reaches_the_kernel_unswapped(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    let checksum = TunnelChecksum::Remote;
    let tunnel = Tunnel::gue(6080)?.checksum(checksum);
    subject.client.add_destination(web().key, &Destination::tunnel(real(1), 80, tunnel)).await?;
    let saved = ipvsadm(&["-S", "-n"])?;
    assert!(saved.contains("--tun-type gue --tun-port 6080 --tun-remcsum"), "{saved}");
    Ok(())
}

/// The lower threshold was sent as the upper one.
async fn thresholds_are_not_exchanged(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    subject.client.add_destination(web().key, &backend(1).thresholds(70_100, 70_050)).await?;
    let listed = ipvsadm(&["-L", "-n", "--thresholds"])?;
    assert!(listed.contains("-> 10.1.0.1:8080 70100 70050"), "{listed}");
    Ok(())
}

/// Flags were sent without their mask, so that the kernel set none of them: services that should
/// have been persistent were not.
async fn flags_are_set(subject: &mut Subject) -> Outcome {
    let options = HashOptions::default().fallback(true).port(true);
    let sticky =
        web().scheduler(Scheduler::SourceHash(options)).persistence(Duration::from_secs(9));
    let packets = Service::udp(vip(), 53).one_packet(true);
    subject.client.add_service(&sticky).await?;
    subject.client.add_service(&packets).await?;
    let saved = ipvsadm(&["-S", "-n"])?;
    assert!(saved.contains("-A -t 10.0.0.1:80 -s sh -p 9 -b sh-fallback,sh-port"), "{saved}");
    assert!(saved.contains("-A -u 10.0.0.1:53 -s wlc -o"), "{saved}");
    // The flags can be taken back.
    subject.client.update_service(&web()).await?;
    let saved = ipvsadm(&["-S", "-n"])?;
    assert!(
        saved.contains("-A -t 10.0.0.1:80 -s rr -A") || saved.ends_with(":80 -s rr"),
        "{saved}"
    );
    Ok(())
}

/// A new weight reset the tunnel, and a new scheduler the persistence engine: the kernel resets
/// what an update leaves out.
async fn a_change_of_one_field_keeps_the_others(subject: &mut Subject) -> Outcome {
    let sip = Persistence::new(Duration::from_secs(60)).engine("sip".parse()?);
    let service = Service::udp(vip(), 5060).persistence(sip).one_packet(true);
    let tunnel = Tunnel::gue(6080)?.checksum(TunnelChecksum::Full);
    let server = Destination::tunnel(real(1), 5060, tunnel).thresholds(9, 3);
    subject.client.add_service(&service).await?;
    subject.client.add_destination(service.key, &server).await?;
    subject.client.modify_service(service.key, |s| s.scheduler = Scheduler::NeverQueue).await?;
    subject.client.modify_destination(service.key, server.key, |d| d.weight = 70_000).await?;
    let saved = ipvsadm(&["-S", "-n"])?;
    assert!(saved.contains("-A -u 10.0.0.1:5060 -s nq -p 60 --pe sip -o"), "{saved}");
    assert!(saved.contains("-w 70000 --tun-type gue --tun-port 6080 --tun-csum"), "{saved}");
    let read = subject.client.destination(service.key, server.key).await?.destination;
    assert_eq!((read.upper_threshold, read.lower_threshold), (9, 3));
    Ok(())
}

/// A mark of 0 made a TCP service of 0.0.0.0:0, which took all traffic: it cannot be written.
async fn nothing_is_where_nobody_put_it(subject: &mut Subject) -> Outcome {
    assert!("-A -f 0 -s rr".parse::<ipvs_netlink::Ruleset>().is_err());
    assert!(NonZeroU32::new(0).is_none());
    subject.client.add_service(&Service::mark(1, Family::V4).unwrap()).await?;
    let listed = subject.client.services().await?;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].service, Service::mark(1, Family::V4).unwrap());
    Ok(())
}
