//! Requests that are refused before the kernel looks at services, destinations or daemons.

use ipvs_netlink::{Destination, Errno, Service};

use super::refused;
use crate::case::{Outcome, cases};
use crate::rules::{real, vip, web};
use crate::subject::Subject;
use crate::tampered::{Tampered, is_command, set_command, truncate};

cases![
    an_unknown_family,
    an_unknown_command,
    a_message_that_is_too_short,
    a_second_listing_on_a_socket,
];

/// The answer of a kernel without IPVS. Other libraries report an empty table, and remember it for
/// good.
async fn an_unknown_family(subject: &mut Subject) -> Outcome {
    let outcome = Tampered::client(subject, |message| {
        if let Some(at) = message.windows(5).position(|window| window == b"IPVS\0") {
            message[at + 3] = b'X';
        }
    });
    let error = outcome.err().unwrap().downcast::<ipvs_netlink::Error>()?;
    let error = refused::<()>(Err(error), Errno::NOENT, "load it with modprobe ip_vs");
    assert!(error.is_ipvs_not_found(), "{error}");
    assert!(!error.is_not_found() && !error.is_module_not_found(), "{error}");
    Ok(())
}

/// The answer of a kernel that is older than the command.
async fn an_unknown_command(subject: &mut Subject) -> Outcome {
    let mut client = Tampered::client(subject, |message| {
        if is_command(message, 17) {
            set_command(message, 99);
        }
    })?;
    refused(client.flush(), Errno::OPNOTSUPP, "this kernel's IPVS does not know the command");
    Ok(())
}

async fn a_message_that_is_too_short(subject: &mut Subject) -> Outcome {
    let mut client = Tampered::client(subject, |message| {
        if is_command(message, 17) {
            truncate(message, 18);
        }
    })?;
    refused(client.flush(), Errno::INVAL, "cannot remove all services: the kernel said");
    Ok(())
}

/// A listing that is not read to its end holds up the next one on its socket.
async fn a_second_listing_on_a_socket(subject: &mut Subject) -> Outcome {
    // The table is larger than the first parts of a listing.
    for port in 1..=200 {
        subject.client.add_service(&Service::tcp(vip(), port)).await?;
    }
    subject.client.add_service(&web()).await.unwrap_err();
    subject.client.add_destination(web().key, &Destination::masquerade(real(1), 80)).await?;
    let mut client = Tampered::client(subject, |message| {
        if is_command(message, 4) {
            // A second listing in the same send, with a sequence number that the client does not
            // wait for.
            let mut other = message.clone();
            other[8..12].copy_from_slice(&0xffff_0000u32.to_ne_bytes());
            other.extend_from_slice(message);
            *message = other;
        }
    })?;
    refused(client.services(), Errno::BUSY, "another listing runs on the same socket");
    Ok(())
}
