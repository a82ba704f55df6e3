//! The clients: single connections, and streams of requests that run beside a test.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use super::network::CLIENT;
use super::{Lane, PATIENCE};

/// A connection of one client.
pub(super) struct Connection {
    stream: TcpStream,
    /// The server to which it leads.
    pub(super) server: u8,
}

impl Connection {
    /// Connects from the client's own address and asks once. The thread is in the clients'
    /// namespace.
    pub(super) fn open(lane: Lane, client: u8) -> anyhow::Result<Self> {
        Self::open_from(lane, client, 0)
    }

    /// Connects from this port, or from any for 0, and asks once.
    fn open_from(lane: Lane, client: u8, port: u16) -> anyhow::Result<Self> {
        let source = SocketAddr::from((lane.client(client), port));
        let service = SocketAddr::from((lane.virtual_address(), 80));
        let family = if source.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        // Without this flag, a program that is started meanwhile would hold the connection open.
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
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

/// The pattern of requests that a stream repeats.
#[derive(Clone, Copy)]
pub(super) struct Habit {
    /// How many turns of requests it makes over one connection.
    turns: usize,
    /// The rest between two turns, which leaves the machine to the other streams.
    rest: Duration,
    /// The server to which its first connection leads, if that matters.
    server: Option<u8>,
}

impl Habit {
    /// A new connection for every turn.
    pub(super) const SHORT: Self = Self { turns: 1, rest: Duration::from_millis(2), server: None };
    /// All requests over one connection.
    pub(super) const LONG: Self = Self { turns: usize::MAX, ..Self::SHORT };
    /// Connections that are held for a part of a second.
    pub(super) const HELD: Self =
        Self { turns: 20, rest: Duration::from_millis(30), ..Self::SHORT };

    /// Makes all requests over one connection, which leads to this server.
    pub(super) const fn long_to(server: u8) -> Self {
        Self { server: Some(server), ..Self::LONG }
    }
}

/// Requests that clients make until they are told to stop.
pub(super) struct Stream {
    shared: Arc<Shared>,
    thread: JoinHandle<anyhow::Result<()>>,
}

/// Stops streams, and checks that each of their requests was answered. Returns the number of turns.
pub(super) fn stop(streams: Vec<Stream>) -> anyhow::Result<usize> {
    streams.iter().for_each(Stream::leave);
    let (mut done, mut failures) = (0, Vec::new());
    for stream in streams {
        let (turns, failed) = stream.stop();
        done += turns;
        failures.extend(failed);
    }
    let told: Vec<_> = failures.iter().take(200).map(|error| format!("{error:#}")).collect();
    ensure!(
        failures.is_empty(),
        "{} requests failed beside {done} that were answered, the first by stream:\n{}",
        failures.len(),
        told.join("\n")
    );
    Ok(done)
}

/// The state that a stream and its observer share.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    is_forgiving: AtomicBool,
    done: AtomicUsize,
    failures: Mutex<Vec<anyhow::Error>>,
}

/// More turns than a stream makes, and fewer than a client has ports.
const MOST: usize = 60_000;
const FIRST_PORT: u16 = 1024;

impl Stream {
    /// Starts a stream whose connections come from these clients in turn.
    pub(super) fn start(lane: Lane, clients: RangeInclusive<u8>, habit: Habit) -> Self {
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            CLIENT.enter()?;
            theirs.run(lane, clients, habit)
        });
        Self { shared, thread }
    }

    /// How many turns of requests were answered.
    pub(super) fn done(&self) -> usize {
        self.shared.done.load(Ordering::Relaxed)
    }

    /// Whether a request has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.thread.is_finished() || !self.shared.failures().is_empty()
    }

    /// Sets whether the stream tries again after a refused connection. An open connection must not
    /// end in any case.
    pub(super) fn forgive_refusals(&self, forgive: bool) {
        self.shared.is_forgiving.store(forgive, Ordering::Relaxed);
    }

    /// Has the stream close its connection after the present request, and does not wait for that.
    pub(super) fn leave(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Stops the stream. Returns how many turns were answered, and the failures.
    fn stop(self) -> (usize, Vec<anyhow::Error>) {
        self.leave();
        let end = self.thread.join().expect("a stream does not panic");
        let mut failures = std::mem::take(&mut *self.shared.failures());
        failures.extend(end.err());
        (self.shared.done.load(Ordering::Relaxed), failures)
    }
}

impl Shared {
    fn failures(&self) -> MutexGuard<'_, Vec<anyhow::Error>> {
        self.failures.lock().expect("a stream does not panic")
    }

    /// Runs the stream, which goes on after a failure, so that all failures are reported.
    fn run(&self, lane: Lane, clients: RangeInclusive<u8>, habit: Habit) -> anyhow::Result<()> {
        // No port of a client is used twice, since the director remembers a connection for minutes.
        let mut sources = clients.cycle().zip(FIRST_PORT..=u16::MAX);
        let mut open = || {
            let (client, port) = sources.next().context("no port is left")?;
            Connection::open_from(lane, client, port)
        };
        let start = Instant::now();
        let mut held = None;
        if let Some(server) = habit.server {
            held = Some((open_to(server, &mut open)?, habit.turns));
        }
        for _ in 0..MOST {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            match turn(held.take(), habit, &mut open) {
                Ok(connection) => {
                    held = connection;
                    self.done.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) if is_refusal(&error) && self.is_forgiving.load(Ordering::Relaxed) => {}
                Err(error) => {
                    let when = start.elapsed();
                    self.failures().push(error.context(format!("{lane}, after {when:.2?}")));
                }
            }
            std::thread::sleep(habit.rest);
        }
        bail!("{MOST} turns, and nobody stopped the stream")
    }
}

/// Asks over the held connection, or a new one, which is then held for the turns that are left.
fn turn(
    held: Option<(Connection, usize)>,
    habit: Habit,
    open: impl FnOnce() -> anyhow::Result<Connection>,
) -> anyhow::Result<Option<(Connection, usize)>> {
    let (mut connection, turns) = match held {
        Some(held) => held,
        None => (open()?, habit.turns),
    };
    connection.ask()?;
    Ok((turns > 1).then_some((connection, turns - 1)))
}

fn is_refusal(error: &anyhow::Error) -> bool {
    error.downcast_ref() == Some(&Errno::CONNREFUSED)
}

/// Connects until this server answers.
fn open_to(
    server: u8,
    mut open: impl FnMut() -> anyhow::Result<Connection>,
) -> anyhow::Result<Connection> {
    for _ in 0..100 {
        let connection = open()?;
        if connection.server == server {
            return Ok(connection);
        }
    }
    bail!("server {server} does not come up")
}
