//! Services that our ipvsadm alone has set up, by every forwarding method: bytes arrive complete.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use ipvs_netlink::Family;

use super::network::{CLIENT, DIRECTOR, REAL, Site};
use super::{Lane, Method, Network, PATIENCE};
use crate::case::{Outcome, cases};
use crate::program::built;
use crate::subject::{Subject, program};

cases![services_of_our_ipvsadm_carry_bytes_whole];

/// Where the real server echoes; masquerading changes the port.
const PORT: u16 = 5050;
const BEHIND: u16 = 5051;

async fn services_of_our_ipvsadm_carry_bytes_whole(_: &mut Subject) -> Outcome {
    let _site = Site::build()?;
    for device in [
        "ip link set tunl0 up",
        "ip link set ip6tnl0 up",
        "ip fou add port 5555 gue",
        "ip -6 fou add port 5555 gue",
    ] {
        program("ip", &["netns", "exec", "real1", "sh", "-c", device])?;
    }
    // A packet out of a tunnel has come by another way than its answer takes.
    for device in ["tunl0", "ip6tnl0"] {
        let file = format!("/proc/sys/net/ipv4/conf/{device}/rp_filter");
        REAL[0].run(|| Ok(std::fs::write(&file, "0")?))?;
    }
    echo(PORT)?;
    echo(BEHIND)?;
    for family in [Family::V4, Family::V6] {
        for (method, options) in [
            (Method::Masquerade, "-m"),
            (Method::DirectRoute, "-g"),
            (Method::DirectRoute, "-i"),
            (Method::DirectRoute, "-i --tun-type ipip"),
            (Method::DirectRoute, "-i --tun-type gue --tun-port 5555"),
            (Method::DirectRoute, "-i --tun-type gue --tun-port 5555 --tun-csum"),
        ] {
            let lane = Lane { method, family };
            let service = SocketAddr::new(lane.virtual_address(), PORT);
            let behind = if method == Method::Masquerade { BEHIND } else { PORT };
            let server = SocketAddr::new(Network::SERVERS.host(family, 1), behind);
            ipvsadm(&format!("-A -t {service} -s rr"))?;
            ipvsadm(&format!("-a -t {service} -r {server} {options}"))?;
            // The kernel remembers the connections of an earlier destination.
            let before = connections(service)?;
            let carried = CLIENT.run(|| carry(service));
            carried.with_context(|| format!("{lane} with {options}"))?;
            let after = connections(service)?;
            ensure!(after > before, "{lane} with {options}: {after} connections, {before} before");
            ipvsadm("-C")?;
        }
    }
    Ok(())
}

/// Runs our ipvsadm on the director.
fn ipvsadm(line: &str) -> anyhow::Result<String> {
    let mut command = Command::new(built(Path::new("ipvsadm")));
    command.args(line.split_whitespace());
    let output = DIRECTOR.run(|| Ok(command.output()?))?;
    ensure!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// How many connections the one destination of a service has, open and closed.
fn connections(service: SocketAddr) -> anyhow::Result<u32> {
    let listed = ipvsadm(&format!("-Ln -t {service}"))?;
    let counts = listed.split_whitespace().rev().take(2).map(str::parse::<u32>);
    Ok(counts.sum::<Result<u32, _>>()?)
}

/// Has the first real server echo the bytes that it receives, to the end.
fn echo(port: u16) -> Outcome {
    let any = IpAddr::from(Ipv6Addr::UNSPECIFIED);
    let listener = REAL[0].run(|| Ok(TcpListener::bind((any, port))?))?;
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes).and_then(|_| stream.write_all(&bytes));
        }
    });
    Ok(())
}

/// Sends bytes to a service, and checks that the same bytes come back.
fn carry(service: SocketAddr) -> Outcome {
    let mut stream = TcpStream::connect_timeout(&service, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let bytes: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    stream.write_all(&bytes)?;
    stream.shutdown(Shutdown::Write)?;
    let mut back = Vec::new();
    stream.read_to_end(&mut back)?;
    ensure!(back == bytes, "{} bytes of {} came back", back.len(), bytes.len());
    Ok(())
}
