//! The script of calls.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;

use anyhow::ensure;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use rustix::process::Signal;

use super::{Pair, Program, Said};
use crate::case::{Outcome, cases};
use crate::diagnose::without_module;
use crate::subject::Subject;

cases![
    the_same_calls_come_to_the_same,
    ipvs_is_loaded_where_it_is_not,
    nobody_who_reads_is_a_signal,
];

/// The calls, one on each line.
const CALLS: &str = include_str!("calls.txt");

async fn the_same_calls_come_to_the_same(_: &mut Subject) -> Outcome {
    let mut pair = Pair::new()?;
    let mut kept = Vec::new();
    for line in CALLS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line == "@connections" {
            kept.push((open_connections(&pair.theirs)?, open_connections(&pair.ours)?));
        } else {
            pair.call(line, |said| canonical(said, line))?;
        }
    }
    let calls = pair.end()?;
    ensure!(calls >= 300, "{calls} calls are too few");
    Ok(())
}

/// Kernels before 5.16 do not load IPVS by themselves, nor do kernels that are told not to.
async fn ipvs_is_loaded_where_it_is_not(_: &mut Subject) -> Outcome {
    for program in [Program::ours()?, Program::theirs()?] {
        let said = without_module("ip_vs", || program.run("ipvsadm -Ln"))?;
        assert_eq!((said.errors.as_str(), said.status), ("", Some(0)), "{}", program.namespace.0);
    }
    Ok(())
}

/// Shells show the signal as a status of 141, other callers as a signal.
async fn nobody_who_reads_is_a_signal(_: &mut Subject) -> Outcome {
    for program in [Program::ours()?, Program::theirs()?] {
        for line in ["ipvsadm -h", "ipvsadm -Ln", "ipvsadm -Lc", "ipvsadm -v"] {
            let (output, _) = UnixStream::pair()?;
            let mut command = program.command(line)?;
            command.stdout(OwnedFd::from(output));
            let status = program.namespace.run(|| Ok(command.status()?))?;
            assert_eq!(status.signal(), Some(Signal::PIPE.as_raw()), "{}", program.namespace.0);
        }
    }
    Ok(())
}

/// The output of a call, without the order and the numbers that the programs do not choose.
fn canonical(said: Said, line: &str) -> Said {
    let mut lines: Vec<String> = said.output.lines().map(ToOwned::to_owned).collect();
    for line in &mut lines {
        // Since Linux 7.1 the kernel resizes the connection table.
        if line.starts_with("IP Virtual Server version") {
            let end = line.find("(size=").unwrap_or(line.len());
            line.truncate(end);
        }
    }
    let counts = line.contains("--stats") || line.contains("--rate");
    if lines.first().is_some_and(|line| line == "IPVS connection entries") {
        // The kernel orders connections by a hash with a random part, and their timers run.
        for line in &mut lines[2..] {
            stop_clock(line);
        }
        lines[2..].sort_unstable();
    } else if lines.iter().any(|line| line.starts_with("-A ")) {
        lines.sort_unstable();
    } else if let Some(first) = lines.iter().position(|line| is_service(line)) {
        let mut services: Vec<Vec<String>> = Vec::new();
        for line in lines.split_off(first) {
            match services.last_mut() {
                Some(service) if !is_service(&line) => service.push(line),
                _ => services.push(vec![line]),
            }
        }
        for service in &mut services {
            service[1..].sort_unstable();
            if counts && service[0].contains(":500") {
                // The counters of live connections differ between the two.
                for line in &mut *service {
                    line.truncate(NAME);
                }
            }
        }
        services.sort_unstable();
        lines.extend(services.concat());
    }
    Said { output: lines.join("\n"), ..said }
}

fn is_service(line: &str) -> bool {
    ["TCP ", "UDP ", "SCTP ", "FWM "].iter().any(|protocol| line.starts_with(protocol))
}

/// Zeroes the time that is left to a connection; its digits stay.
pub(super) fn stop_clock(line: &mut String) {
    let mut words = line.splitn(3, ' ');
    if let (Some(protocol), Some(time), Some(rest)) = (words.next(), words.next(), words.next()) {
        let time = time.replace(|c: char| c.is_ascii_digit(), "0");
        *line = format!("{protocol} {time} {rest}");
    }
}

/// The width of the column for names in a listing with counters.
const NAME: usize = 33;

/// Sockets that keep connections as they are.
type Sockets = (Vec<TcpListener>, Vec<TcpStream>, Vec<UdpSocket>);

/// Opens connections of clients to services: established, in the handshake, without a handshake, and
/// persistent by address or by an engine.
pub(super) fn open_connections(program: &Program) -> anyhow::Result<Sockets> {
    let addresses =
        [IpAddr::from([10, 9, 8, 1]), Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 1).into()];
    let mut sockets = Sockets::default();
    for address in addresses {
        let service = |port| SocketAddr::new(address, port);
        for line in [
            format!("-A -u {0} -s rr -p 7200", service(5000)),
            format!("-a -u {0} -r {1} -m", service(5000), service(6000)),
            format!("-A -t {0} -s rr", service(5001)),
            format!("-a -t {0} -r {1} -m", service(5001), service(6001)),
            format!("-A -u {0} -s rr -p 100 --pe sip", service(5002)),
            format!("-a -u {0} -r {1} -m", service(5002), service(6002)),
        ] {
            let said = program.run(&format!("ipvsadm {line}"))?;
            ensure!(said.status == Some(0), "{line}: {said:?}");
        }
        program.namespace.run(|| {
            sockets.0.push(TcpListener::bind(service(6001))?);
            let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            bind(&socket, &service(40_000))?;
            connect(&socket, &service(5001))?;
            sockets.1.push(socket.into());
            let datagrams = UdpSocket::bind(service(40_001))?;
            sockets.2.push(UdpSocket::bind(service(6000))?);
            datagrams.send_to(b"hello", service(5000))?;
            sockets.2.push(datagrams);
            sockets.2.push(UdpSocket::bind(service(6002))?);
            // The engine groups by the call's name. The original crashes on an entry with more than 255
            // bytes.
            for (port, call) in [(40_002, "f81d4fae@10.9.8.1".to_owned()), (40_003, "c".repeat(40))]
            {
                let phone = UdpSocket::bind(service(port))?;
                let message = format!("REGISTER sip:host SIP/2.0\r\nCall-ID: {call}\r\n\r\n");
                phone.send_to(message.as_bytes(), service(5002))?;
                sockets.2.push(phone);
            }
            Ok(())
        })?;
    }
    Ok(sockets)
}
