//! The real servers: each answers every request with its number.

use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::net::{Shutdown, shutdown};

use super::network::Namespace;

/// A real server, which runs until it is dropped.
pub(super) struct Server {
    listeners: Vec<Arc<TcpListener>>,
    connections: Arc<Connections>,
}

/// The numbers of connections.
#[derive(Default)]
struct Connections {
    accepted: AtomicUsize,
    /// The connections that the client has closed.
    closed: AtomicUsize,
    /// The connections that ended in any other way.
    broken: AtomicUsize,
}

impl Server {
    pub(super) fn start(number: u8, namespace: Namespace) -> anyhow::Result<Self> {
        let mut server = Self { listeners: Vec::new(), connections: Arc::default() };
        for port in [80, 8080] {
            // The socket takes IPv4, too.
            let listen = || Ok(TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?);
            let listener = Arc::new(namespace.run(listen)?);
            let connections = Arc::clone(&server.connections);
            server.listeners.push(Arc::clone(&listener));
            std::thread::spawn(move || {
                // A socket stays in the namespace where it was made.
                while let Ok((stream, _)) = listener.accept() {
                    connections.accepted.fetch_add(1, Ordering::Relaxed);
                    let connections = Arc::clone(&connections);
                    std::thread::spawn(move || {
                        let end = match answer(stream, number) {
                            Ok(()) => &connections.closed,
                            Err(_) => &connections.broken,
                        };
                        end.fetch_add(1, Ordering::Relaxed);
                    });
                }
            });
        }
        Ok(server)
    }

    /// How many connections the server has accepted.
    pub(super) fn accepted(&self) -> usize {
        self.connections.accepted.load(Ordering::Relaxed)
    }

    /// How many connections have neither been closed nor broken.
    pub(super) fn open(&self) -> usize {
        let ended = self.connections.closed.load(Ordering::Relaxed) + self.broken();
        self.accepted() - ended
    }

    /// How many connections ended otherwise than by the client's close.
    pub(super) fn broken(&self) -> usize {
        self.connections.broken.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for listener in &self.listeners {
            let _ = shutdown(listener, Shutdown::Both);
        }
    }
}

/// Answers every byte, until the client closes the connection.
fn answer(mut stream: TcpStream, number: u8) -> std::io::Result<()> {
    while stream.read(&mut [0])? == 1 {
        stream.write_all(&[number])?;
    }
    Ok(())
}
