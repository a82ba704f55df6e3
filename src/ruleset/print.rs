//! Services and destinations as options of `ipvsadm`.

use std::fmt;
use std::net::SocketAddr;

use crate::model::{
    Destination, Family, Forwarding, Protocol, Service, ServiceKey, Tunnel, TunnelChecksum,
};

/// Prints as the options of an `ipvsadm` command.
pub(super) struct AsOptions<'a, T>(pub(super) &'a T);

impl fmt::Display for AsOptions<'_, ServiceKey> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self.0 {
            ServiceKey::Mark { mark, family } => {
                write!(f, "-f {mark}")?;
                if family == Family::V6 { f.write_str(" -6") } else { Ok(()) }
            }
            ServiceKey::Address { protocol, address, port } => {
                match protocol {
                    Protocol::TCP => f.write_str("-t ")?,
                    Protocol::UDP => f.write_str("-u ")?,
                    Protocol::SCTP => f.write_str("--sctp-service ")?,
                    other => write!(f, "--protocol-service {other}/")?,
                }
                SocketAddr::new(address, port).fmt(f)
            }
        }
    }
}

impl fmt::Display for AsOptions<'_, Service> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", AsOptions(&self.0.key), AsOptions(&Configuration(self.0)))?;
        if self.0.check().is_err() { f.write_str(" --as-is") } else { Ok(()) }
    }
}

/// Prints a name behind its option: in one word if the name could be taken for an option or a
/// comment.
fn name(f: &mut fmt::Formatter<'_>, short: &str, long: &str, name: &str) -> fmt::Result {
    if name.starts_with(['-', '#']) {
        write!(f, " {long}={name}")
    } else {
        write!(f, " {short} {name}")
    }
}

/// A service without its key.
pub(super) struct Configuration<'a>(pub(super) &'a Service);

impl fmt::Display for AsOptions<'_, Configuration<'_>> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Service { key: _, scheduler, persistence, one_packet, flags } = self.0.0;
        name(f, "-s", "--scheduler", scheduler.name())?;
        if let Some(persistence) = persistence {
            write!(f, " -p {}", persistence.seconds)?;
            if let Some(netmask) = persistence.netmask {
                write!(f, " -M {netmask}")?;
            }
            if let Some(engine) = persistence.engine {
                name(f, "--pe", "--pe", engine.as_str())?;
            }
        }
        if *one_packet {
            f.write_str(" -o")?;
        }
        let options = scheduler.hash_options().unwrap_or_default();
        let mut separator = " -b ";
        for (set, option) in [(options.fallback, "fallback"), (options.port, "port")] {
            if set {
                write!(f, "{separator}{}-{option}", scheduler.name())?;
                separator = ",";
            }
        }
        for name in flags.names() {
            write!(f, "{separator}{name}")?;
            separator = ",";
        }
        let rest = flags.nameless();
        if rest.is_empty() { Ok(()) } else { write!(f, " --flags {:#x}", rest.bits()) }
    }
}

impl fmt::Display for AsOptions<'_, Destination> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Destination { key, forwarding, weight, upper_threshold, lower_threshold } = self.0;
        key.fmt(f)?;
        match forwarding {
            Forwarding::Masquerade => f.write_str(" -m")?,
            Forwarding::Tunnel(_) => f.write_str(" -i")?,
            Forwarding::DirectRoute => f.write_str(" -g")?,
            Forwarding::Local => f.write_str(" --local")?,
            Forwarding::Bypass => f.write_str(" --bypass")?,
            Forwarding::Other(other) => write!(f, " --forwarding {}", other.number())?,
        }
        write!(f, " -w {weight}")?;
        if let Some(tunnel) = forwarding.tunnel() {
            AsOptions(&tunnel).fmt(f)?;
        }
        if *upper_threshold != 0 {
            write!(f, " -x {upper_threshold}")?;
        }
        if *lower_threshold != 0 {
            write!(f, " -y {lower_threshold}")?;
        }
        Ok(())
    }
}

impl fmt::Display for AsOptions<'_, Tunnel> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checksum = match self.0 {
            Tunnel::Ipip => return f.write_str(" --tun-type ipip"),
            Tunnel::Gue { port, checksum } => {
                write!(f, " --tun-type gue --tun-port {port}")?;
                *checksum
            }
            Tunnel::Gre { checksum } => {
                f.write_str(" --tun-type gre")?;
                if *checksum { TunnelChecksum::Full } else { TunnelChecksum::None }
            }
            Tunnel::Other(_) => {
                let (kind, port, flags) = (self.0.kind(), self.0.port(), self.0.flags());
                return write!(f, " --tun-type {kind} --tun-port {port} --tun-flags {flags:#x}");
            }
        };
        f.write_str(match checksum {
            TunnelChecksum::None => " --tun-nocsum",
            TunnelChecksum::Full => " --tun-csum",
            TunnelChecksum::Remote => " --tun-remcsum",
        })
    }
}
