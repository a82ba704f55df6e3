//! The clients: single connections, and streams of requests that run beside a test.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use super::network::CLIENT;
use super::{Lane, PATIENCE};

/// A connection of one client.
pub(super) struct Connection {
    stream: TcpStream,
    /// The server it leads to.
    pub(super) server: u8,
}

impl Connection {
    /// Connects from the client's own address and asks once. The thread is in the clients'
    /// namespace.
    pub(super) fn open(lane: Lane, client: u8) -> anyhow::Result<Self> {
        let source = SocketAddr::from((lane.client(client), 0));
        let service = SocketAddr::from((lane.virtual_address(), 80));
        let family = if source.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket(family, SocketType::STREAM, None)?;
        for timeout in [Timeout::Send, Timeout::Recv] {
            set_socket_timeout(&socket, timeout, Some(PATIENCE))?;
        }
        bind(&socket, &source)?;
        connect(&socket, &service).with_context(|| format!("{source} to {service}"))?;
        let mut connection = Self { stream: socket.into(), server: 0 };
        connection.server = connection.answer()?;
        Ok(connection)
    }

    /// Asks once more; the server is the same for all of a connection's life.
    pub(super) fn ask(&mut self) -> anyhow::Result<()> {
        let answer = self.answer()?;
        ensure!(answer == self.server, "server {} became {answer}", self.server);
        Ok(())
    }

    fn answer(&mut self) -> anyhow::Result<u8> {
        let mut answer = [0];
        let asked = self.stream.write_all(b"?").and_then(|()| self.stream.read_exact(&mut answer));
        asked.with_context(|| format!("{:?}", self.stream))?;
        Ok(answer[0])
    }
}

/// What a stream does, over and over.
#[derive(Clone, Copy)]
pub(super) enum Habit {
    /// A connection for every request or two.
    Short,
    /// All requests over one connection.
    Long,
    /// All requests over one connection, which leads to this server.
    LongTo(u8),
}

/// Requests that one client makes until it is told to stop.
pub(super) struct Stream {
    stop: Arc<AtomicBool>,
    is_forgiving: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    thread: JoinHandle<anyhow::Result<()>>,
}

/// More than a stream makes in its time, and less than a client has ports.
const MOST: usize = 20_000;

impl Stream {
    pub(super) fn start(lane: Lane, client: u8, habit: Habit) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let is_forgiving = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicUsize::new(0));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&done));
        let forgives = Arc::clone(&is_forgiving);
        let thread = std::thread::spawn(move || {
            CLIENT.enter()?;
            let mut held = match habit {
                Habit::Short => None,
                Habit::Long => Some(Connection::open(lane, client)?),
                Habit::LongTo(server) => Some(open_to(server, lane, client)?),
            };
            for _ in 0..MOST {
                if stopped.load(Ordering::Relaxed) {
                    return Ok(());
                }
                match &mut held {
                    Some(connection) => connection.ask()?,
                    None => match Connection::open(lane, client) {
                        Err(error) if is_refusal(&error) && forgives.load(Ordering::Relaxed) => {
                            continue;
                        }
                        connection => connection?.ask()?,
                    },
                }
                count.fetch_add(1, Ordering::Relaxed);
                // There are others, and the machine is slow.
                std::thread::sleep(Duration::from_millis(2));
            }
            bail!("{MOST} requests, and nobody stopped it")
        });
        Self { stop, is_forgiving, done, thread }
    }

    /// How many requests were answered.
    pub(super) fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// Whether it has failed.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Whether it tries again where a connection is refused. One that is open must not end.
    pub(super) fn forgive_refusals(&self, forgive: bool) {
        self.is_forgiving.store(forgive, Ordering::Relaxed);
    }

    /// Has it close its connection after the request it is at, without waiting for that.
    pub(super) fn leave(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Stops it; fails if any request has failed. Tells how many there were.
    pub(super) fn stop(self) -> anyhow::Result<usize> {
        self.leave();
        self.thread.join().expect("a stream does not panic")?;
        Ok(self.done.load(Ordering::Relaxed))
    }
}

fn is_refusal(error: &anyhow::Error) -> bool {
    error.downcast_ref() == Some(&Errno::CONNREFUSED)
}

/// Connects until it is this server that answers.
fn open_to(server: u8, lane: Lane, client: u8) -> anyhow::Result<Connection> {
    for _ in 0..100 {
        let connection = Connection::open(lane, client)?;
        if connection.server == server {
            return Ok(connection);
        }
    }
    bail!("server {server} does not come up")
}
