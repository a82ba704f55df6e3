//! Where sockets come from: a network namespace and the sizes of the buffers.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use netlink_sys::{Socket, SocketAddr};
use rustix::net::sockopt;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Makes sockets that are all alike, so that one can take the place of another.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    /// Kept open, so that a socket can be opened anew though the path is gone.
    namespace: Option<Arc<File>>,
    receive_buffer: Option<usize>,
    send_buffer: Option<usize>,
}

impl Origin {
    pub(crate) fn new(
        namespace: Option<&Path>,
        receive_buffer: Option<usize>,
        send_buffer: Option<usize>,
    ) -> io::Result<Self> {
        let open = |path: &Path| match File::open(path) {
            Ok(file) => Ok(Arc::new(file)),
            Err(error) => {
                let text = format!("the network namespace {}: {error}", path.display());
                Err(io::Error::new(error.kind(), text))
            }
        };
        Ok(Self { namespace: namespace.map(open).transpose()?, receive_buffer, send_buffer })
    }

    /// Runs what makes a socket in the network namespace: on a thread of its own, which ends here.
    pub(super) fn make<S: Send>(
        &self,
        make: impl FnOnce() -> io::Result<S> + Send,
    ) -> io::Result<S> {
        let Some(namespace) = &self.namespace else { return make() };
        let enter_and_make = || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|errno| {
                    let error = io::Error::from(errno);
                    io::Error::new(error.kind(), format!("entering the network namespace: {error}"))
                })?;
            make()
        };
        thread::scope(|scope| scope.spawn(enter_and_make).join())
            .unwrap_or_else(|_| Err(io::Error::other("the thread that opens the socket died")))
    }

    /// Makes a new socket one that speaks with the kernel alone.
    pub(super) fn configure(&self, socket: &mut Socket) -> io::Result<()> {
        socket.bind_auto()?;
        // Connected, the socket takes datagrams from no other process.
        socket.connect(&SocketAddr::new(0, 0))?;
        // Kernels before 4.12 and 4.3 know neither, and do without.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        // Beyond the system's limit if permitted, else up to it.
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
