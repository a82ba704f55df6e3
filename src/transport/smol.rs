//! smol's reactor and timers.

use std::io;
use std::time::Instant;

use async_io::Timer;
use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{AsyncSocket, SmolSocket};

use super::Origin;
use super::evented::Reactor;

pub(crate) struct Smol;

impl Reactor for Smol {
    type Socket = SmolSocket;
    type Timer = Timer;

    fn socket(origin: &Origin) -> io::Result<SmolSocket> {
        origin.make(|| SmolSocket::new(NETLINK_GENERIC))
    }

    fn timer(deadline: Instant) -> Timer {
        Timer::at(deadline)
    }
}
