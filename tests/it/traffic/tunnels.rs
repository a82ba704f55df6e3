//! Tunnels: a real server that was set up by the advice of a diagnosis serves its clients.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, ensure};
use ipvs_netlink::diagnose::{Diagnosis, Problem};
use ipvs_netlink::{Destination, Family, Options, Ruleset, Scheduler, Tunnel, TunnelChecksum};

use super::network::{CLIENT, DIRECTOR, REAL, Site};
use super::{Lane, Method, Network, PATIENCE};
use crate::case::{Outcome, cases};
use crate::subject::{Subject, program};

cases![what_is_advised_lets_tunnels_through, where_tunnels_have_no_device_one_is_made];

const OF_NEW_NAMESPACES: &str = "net.core.fb_tunnels_only_for_init_net";

/// The kernel can be told to make network namespaces without the modules' fallback tunnel devices.
async fn where_tunnels_have_no_device_one_is_made(subject: &mut Subject) -> Outcome {
    let proc = subject.proc();
    let before = proc.sysctl_named(OF_NEW_NAMESPACES)?;
    proc.set_sysctl_named(OF_NEW_NAMESPACES, "1")?;
    let ipip = Tunnel::Ipip;
    let [v4, v6] = [(Family::V4, Family::V4), (Family::V6, Family::V6)];
    let cases = [
        (v4, ipip, "ip link add ipip0a", true),
        (v4, Tunnel::gre(), "ip link add gre0a", true),
        (v6, ipip, "ip link add ip6tnl", false),
        (v6, Tunnel::gre(), "ip link add ip6gre", false),
    ];
    let outcome = let_through(subject, &cases).await;
    proc.set_sysctl_named(OF_NEW_NAMESPACES, &before)?;
    outcome
}

async fn what_is_advised_lets_tunnels_through(subject: &mut Subject) -> Outcome {
    let gue = Tunnel::gue(5555)?;
    let checked = Tunnel::gre().checksum(TunnelChecksum::Full);
    let [v4, v6] = [(Family::V4, Family::V4), (Family::V6, Family::V6)];
    let v4_in_v6 = (Family::V4, Family::V6);
    let cases = [
        (v4, Tunnel::Ipip, "tunl0", true),
        // The device exists already.
        (v4, gue, "ip fou add", false),
        (v4, Tunnel::gue(5556)?.checksum(TunnelChecksum::Full), "port 5556", false),
        (v4, Tunnel::gue(5557)?.checksum(TunnelChecksum::Remote), "port 5557", false),
        (v4, Tunnel::gre(), "gre0", true),
        // The fallback device drops packets with a checksum.
        (v4, checked, "icsum", true),
        (v6, Tunnel::Ipip, "ip6tnl0", false),
        (v6, gue, "ip -6 fou add", false),
        (v6, Tunnel::gre(), "ip6gre0", false),
        (v6, checked, "icsum", false),
        // The fallback device takes IPv6 alone.
        (v4_in_v6, Tunnel::Ipip, "mode any", true),
        (v4_in_v6, Tunnel::gue(5558)?, "ip -6 fou add", false),
        (v6, Tunnel::gue(5559)?, "ip -6 fou add", false),
    ];
    let_through(subject, &cases).await
}

/// Checks that tunnels to a real server get through once the advice was followed. A case has the families
/// inside and outside, the tunnel, a text that is among the commands, and whether the reverse path filter
/// is among them.
async fn let_through(
    subject: &mut Subject,
    cases: &[((Family, Family), Tunnel, &str, bool)],
) -> Outcome {
    let site = Site::build()?;
    let mut director = site.director(subject.flavour).await?;
    let options = Options::new().namespace(REAL[0].path());
    let proc = options.proc()?;
    proc.set_sysctl_named("net.ipv4.conf.all.rp_filter", "1")?;
    for &((family, outside), tunnel, device, is_strict) in cases {
        let told = |what: &str| format!("{family} in {tunnel} over {outside}: {what}");
        // A real server for direct route has everything that one for tunnels needs, except the
        // device.
        let lane = Lane { method: Method::DirectRoute, family };
        let service = lane.service(Scheduler::RoundRobin);
        let real = Destination::tunnel(Network::SERVERS.host(outside, 1), 80, tunnel);
        let mut rules = Ruleset::new();
        rules.insert_service(service)?;
        rules.insert_destination(service.key, real)?;
        director.add_service(&service).await?;
        director.add_destination(service.key, &real).await?;

        // The director packs the packets, for which it needs no device.
        let diagnosis = Options::new().namespace(DIRECTOR.path()).diagnose(&rules);
        ensure!(
            diagnosis.is_able() && commands(&diagnosis).is_empty(),
            told(&diagnosis.to_string())
        );
        ensure!(diagnosis.finding(Problem::PacketSize(tunnel)).is_some(), told("no size"));

        let diagnosis = options.diagnose(&rules);
        let said = diagnosis.to_string();
        let finding =
            diagnosis.finding(Problem::TunnelDevice(tunnel)).with_context(|| told(&said))?;
        ensure!(finding.commands.iter().any(|it| it.contains(device)), told(&said));
        let reverse_path = diagnosis.finding(Problem::ReversePath);
        ensure!(reverse_path.is_some() == is_strict, told(&said));
        for command in commands(&diagnosis) {
            program("ip", &["netns", "exec", "real1", "sh", "-c", command])?;
        }
        let diagnosis = options.diagnose(&rules);
        ensure!(commands(&diagnosis).is_empty(), told(&diagnosis.to_string()));

        let answer = CLIENT.run(|| {
            let to = (lane.virtual_address(), 80).into();
            let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"?")?;
            let mut answer = [0];
            stream.read_exact(&mut answer)?;
            Ok(answer)
        });
        ensure!(answer.with_context(|| told("a client"))? == [1], told("another server's answer"));
        director.remove_service(service.key).await?;
    }
    // The other interfaces filter as before, those that come later among them.
    assert_eq!(proc.sysctl_named("net.ipv4.conf.eth0.rp_filter")?, "1");
    assert_eq!(proc.sysctl_named("net.ipv4.conf.default.rp_filter")?, "1");
    Ok(())
}

/// The advised commands, in their order.
fn commands(diagnosis: &Diagnosis) -> Vec<&str> {
    diagnosis.findings.iter().flat_map(|it| &it.commands).map(String::as_str).collect()
}
