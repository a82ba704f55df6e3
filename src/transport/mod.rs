//! Sockets: two small traits of our own, and their implementations over the kernel's netlink.
//!
//! Only Linux has that kernel. On other systems every function that would open a socket fails with
//! [`ErrorKind::Unsupported`](std::io::ErrorKind::Unsupported); transports of one's own and the
//! fake kernel work on all systems.

#[cfg(target_os = "linux")]
mod blocking;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(all(target_os = "linux", any(feature = "tokio", feature = "smol")))]
mod evented;
mod immediate;
#[cfg(target_os = "linux")]
mod origin;
#[cfg(all(target_os = "linux", feature = "smol"))]
mod smol;
#[cfg(all(target_os = "linux", feature = "tokio"))]
mod tokio;
mod traits;

#[cfg(target_os = "linux")]
pub use blocking::NetlinkSocket;
#[cfg(not(target_os = "linux"))]
pub use elsewhere::NetlinkSocket;
pub(crate) use immediate::Immediate;
pub use traits::{AsyncTransport, Received, Sleep, Transport};

#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::SocketOrigin;
#[cfg(target_os = "linux")]
pub(crate) use origin::SocketOrigin;

#[cfg(all(not(target_os = "linux"), feature = "smol"))]
pub(crate) type SmolTransport = Immediate<NetlinkSocket>;
#[cfg(all(target_os = "linux", feature = "smol"))]
pub(crate) type SmolTransport = evented::Evented<smol::Smol>;

#[cfg(all(not(target_os = "linux"), feature = "tokio"))]
pub(crate) type TokioTransport = Immediate<NetlinkSocket>;
#[cfg(all(target_os = "linux", feature = "tokio"))]
pub(crate) type TokioTransport = evented::Evented<tokio::Tokio>;
