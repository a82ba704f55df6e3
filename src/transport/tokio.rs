//! tokio's reactor and timers.

use std::io;
use std::time::Instant;

use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{AsyncSocket, TokioSocket};
use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep_until};

use super::Origin;
use super::evented::Reactor;

pub(crate) struct Tokio;

impl Reactor for Tokio {
    type Socket = TokioSocket;
    type Timer = Sleep;

    fn socket(origin: &Origin) -> io::Result<TokioSocket> {
        // The socket may be opened on a thread that is none of the runtime's.
        let runtime = Handle::current();
        origin.make(move || {
            let _entered = runtime.enter();
            TokioSocket::new(NETLINK_GENERIC)
        })
    }

    fn timer(deadline: Instant) -> Sleep {
        sleep_until(deadline.into())
    }
}
