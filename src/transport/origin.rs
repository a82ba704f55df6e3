//! The origin of sockets: a network namespace and the sizes of the buffers.

use std::io;
use std::path::Path;

use netlink_sys::{Socket, SocketAddr};
use rustix::net::sockopt;

use crate::namespace::Namespace;

/// Makes sockets of the same kind, so that a new one can replace one that failed.
#[derive(Debug, Clone, Default)]
pub(crate) struct SocketOrigin {
    namespace: Namespace,
    receive_buffer: Option<usize>,
    send_buffer: Option<usize>,
}

impl SocketOrigin {
    pub(crate) fn new(
        namespace: Option<&Path>,
        receive_buffer: Option<usize>,
        send_buffer: Option<usize>,
    ) -> io::Result<Self> {
        Ok(Self { namespace: Namespace::open(namespace)?, receive_buffer, send_buffer })
    }

    /// Runs a function that makes a socket, in the network namespace.
    pub(super) fn make<S: Send>(
        &self,
        make: impl FnOnce() -> io::Result<S> + Send,
    ) -> io::Result<S> {
        self.namespace.run(make)
    }

    /// Connects a new socket to the kernel and sets its options.
    pub(super) fn configure(&self, socket: &mut Socket) -> io::Result<()> {
        socket.bind_auto()?;
        // Connected, the socket takes datagrams from no other process.
        socket.connect(&SocketAddr::new(0, 0))?;
        // Both are optional: absent before Linux 4.12 and 4.3.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        // Beyond the system's limit if this is permitted, else up to the limit.
        if let Some(bytes) = self.receive_buffer {
            sockopt::set_socket_recv_buffer_size_force(&*socket, bytes)
                .or_else(|_| sockopt::set_socket_recv_buffer_size(&*socket, bytes))?;
        }
        if let Some(bytes) = self.send_buffer {
            sockopt::set_socket_send_buffer_size_force(&*socket, bytes)
                .or_else(|_| sockopt::set_socket_send_buffer_size(&*socket, bytes))?;
        }
        Ok(())
    }
}
