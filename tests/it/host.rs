//! Tests that run on any Linux, without IPVS and without privileges.

use std::time::{Duration, Instant};

use ipvs_netlink::blocking::Client;
use ipvs_netlink::transport::{NetlinkSocket, Received, Transport};
use libtest_mimic::Trial;
use netlink_packet_core::NLM_F_REQUEST;
use netlink_packet_generic::constants::{CTRL_ATTR_FAMILY_NAME, CTRL_CMD_GETFAMILY, GENL_ID_CTRL};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("host::resolves_a_family_over_a_real_socket", || {
            resolves_a_family_over_a_real_socket().map_err(|error| error.to_string().into())
        }),
        Trial::test("host::a_receive_ends_at_its_deadline", || {
            a_receive_ends_at_its_deadline().map_err(|error| error.to_string().into())
        }),
        Trial::test("host::connecting_connects_or_says_what_is_missing", || {
            connecting_connects_or_says_what_is_missing();
            Ok(())
        }),
    ]
}

/// The controller of generic netlink is asked for its own family.
fn resolves_a_family_over_a_real_socket() -> anyhow::Result<()> {
    let name = b"nlctrl\0\0";
    let mut request = Vec::new();
    request.extend(32u32.to_ne_bytes()); // length
    request.extend(GENL_ID_CTRL.to_ne_bytes());
    request.extend(NLM_F_REQUEST.to_ne_bytes());
    request.extend(7u32.to_ne_bytes()); // sequence number
    request.extend(0u32.to_ne_bytes()); // port
    request.extend([CTRL_CMD_GETFAMILY, 1, 0, 0]);
    request.extend(11u16.to_ne_bytes());
    request.extend(CTRL_ATTR_FAMILY_NAME.to_ne_bytes());
    request.extend(name);

    let mut socket = NetlinkSocket::open()?;
    socket.send(&request)?;
    let mut answer = Vec::with_capacity(64 * 1024);
    let deadline = Instant::now() + Duration::from_secs(10);
    assert_eq!(socket.receive(&mut answer, deadline)?, Received::Whole);
    assert_eq!(answer[8..12], 7u32.to_ne_bytes());
    assert!(answer.windows(6).any(|window| window == &name[..6]), "{answer:?}");
    Ok(())
}

fn a_receive_ends_at_its_deadline() -> anyhow::Result<()> {
    let mut socket = NetlinkSocket::open()?;
    let deadline = Instant::now() + Duration::from_millis(20);
    let error = socket.receive(&mut Vec::with_capacity(4096), deadline).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(Instant::now() >= deadline);
    Ok(())
}

fn connecting_connects_or_says_what_is_missing() {
    if let Err(error) = Client::connect() {
        assert!(error.is_ipvs_not_found(), "{error}");
        assert!(error.to_string().contains("modprobe ip_vs"), "{error}");
    }
}
