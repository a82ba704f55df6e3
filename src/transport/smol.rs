//! smol's reactor and timers, which run on a thread of their own and therefore work on any
//! executor.

use std::io;
use std::time::Instant;

use async_io::Timer;
use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{AsyncSocket, SmolSocket};

use super::evented::Reactor;
use super::{Sleep, SocketOrigin};

pub(crate) struct Smol;

impl Reactor for Smol {
    type Socket = SmolSocket;

    fn current() -> io::Result<Self> {
        Ok(Self)
    }

    fn socket(&mut self, origin: &SocketOrigin) -> io::Result<SmolSocket> {
        origin.make(|| SmolSocket::new(NETLINK_GENERIC))
    }

    fn timer(&self, until: Instant) -> Sleep {
        Box::pin(async move {
            Timer::at(until).await;
            Ok(())
        })
    }

    fn explained(error: io::Error) -> io::Error {
        error
    }
}
