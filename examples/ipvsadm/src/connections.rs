//! `-L -c`: the connections.

use std::io::Write;
use std::net::SocketAddr;

use ipvs_netlink::Protocol;
use ipvs_netlink::proc::{Connection, Proc};

use crate::arguments::View;
use crate::failure::{Failure, NOT_LISTED};
use crate::listing::protocol_name;
use crate::names::Names;

/// Prints the connections.
pub(crate) fn list(view: View, names: &Names, out: &mut impl Write) -> Result<(), Failure> {
    let failed = |error: ipvs_netlink::proc::Error| Failure::new(NOT_LISTED, error.to_string());
    let connections = Proc::new().connections().map_err(failed)?;
    writeln!(out, "IPVS connection entries")?;
    write!(out, "pro expire state       source             virtual            destination")?;
    writeln!(out, "{}", if view.persistent { "        pe name          pe_data" } else { "" })?;
    for connection in connections {
        let connection = connection.map_err(failed)?;
        let Connection { protocol, client, virtual_address, destination, .. } = connection;
        let name = |address: SocketAddr| print(address, protocol, view, names);
        let seconds = connection.expires.as_secs();
        let expires = format!("{:02}:{:02}", seconds / 60, seconds % 60);
        write!(
            out,
            "{:3} {expires:6} {:11} {:18} {:18} ",
            kernel_name(protocol),
            connection.state.name(),
            name(client),
            name(virtual_address),
        )?;
        let destination = name(SocketAddr::new(destination.address, destination.port));
        match connection.engine.filter(|_| view.persistent) {
            // The columns are not those of the heading, in the original, too.
            Some(data) => writeln!(out, "{destination:16} {:18} {}", data.engine, data.data)?,
            None => writeln!(out, "{destination}")?,
        }
    }
    Ok(())
}

/// What the kernel calls a protocol.
fn kernel_name(protocol: Protocol) -> String {
    match protocol.number() {
        6 | 17 | 132 => protocol_name(protocol).to_owned(),
        0 => "IP".to_owned(),
        1 => "ICMP".to_owned(),
        58 => "ICMPv6".to_owned(),
        number => format!("IP_{number}"),
    }
}

fn print(address: SocketAddr, protocol: Protocol, view: View, names: &Names) -> String {
    names.print(address.ip(), address.port(), protocol, view.numeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_have_the_names_of_the_kernels_list() {
        for (number, name) in [(0, "IP"), (1, "ICMP"), (6, "TCP"), (50, "IP_50"), (58, "ICMPv6")] {
            assert_eq!(kernel_name(Protocol::from_number(number)), name);
        }
    }
}
