//! Connections through the schedulers of both kernels, which must choose the same destinations in
//! the same order.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::Result;
use ipvs_netlink::blocking::Client;
use ipvs_netlink::fake::{Host, Kernel};
use ipvs_netlink::{Destination, DestinationEntry, DestinationKey, Service};

use crate::random::Random;

const SCHEDULERS: [&str; 7] = ["rr", "wrr", "lc", "wlc", "sed", "nq", "fo"];
/// The port of all destinations; one socket listens for them all.
const PORT: u16 = 5000;
/// How long to wait for a connection that the fake kernel schedules, and for one that it refuses.
const PATIENCE: Duration = Duration::from_secs(1);
const IMPATIENCE: Duration = Duration::from_millis(20);

/// The listening socket of the destinations, and the clients' sockets, which keep their ports from
/// being used again.
pub(crate) struct Network {
    _listener: TcpListener,
    streams: Vec<TcpStream>,
    sockets: Vec<UdpSocket>,
    /// The port of the last service. Each service has another, so that it meets no earlier
    /// connection.
    port: u16,
}

impl Network {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            _listener: TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?,
            streams: Vec::new(),
            sockets: Vec::new(),
            port: 10_000,
        })
    }

    /// Runs connections through a service of both kernels; returns the story up to a difference.
    pub(crate) fn round(
        &mut self,
        random: &mut Random,
        real: &mut Client,
        host: &Host,
    ) -> Result<Option<String>> {
        self.port += 1;
        self.streams.clear();
        self.sockets.clear();
        let kernel = Kernel::on(host.clone());
        let mut fake = kernel.connect()?;
        // A slow guest takes long for a TCP connection, so most services are of UDP.
        let tcp = random.once_in(6);
        let at = Ipv4Addr::LOCALHOST;
        let service = if tcp { Service::tcp(at, self.port) } else { Service::udp(at, self.port) };
        let service = service.scheduler(random.pick(&SCHEDULERS).parse()?);
        let mut story = vec![format!("{} {}", service.key, service.scheduler)];
        real.add_service(&service)?;
        fake.add_service(&service)?;
        for _ in 0..5 + random.below(25) {
            let chosen = destination(random);
            if random.once_in(3) {
                let key = chosen.key;
                let there = real.destinations(service.key)?;
                let is_there = there.iter().any(|entry| entry.destination.key == key);
                let change = |client: &mut Client| match (is_there, chosen.weight % 2) {
                    (false, _) => client.add_destination(service.key, &chosen),
                    (true, 0) => client.update_destination(service.key, &chosen),
                    (true, _) => client.remove_destination(service.key, key),
                };
                let (weight, upper) = (chosen.weight, chosen.upper_threshold);
                story.push(format!("change {key} (there: {is_there}) {weight} {upper}"));
                change(real)?;
                change(&mut fake)?;
            }
            let before = real.destinations(service.key)?;
            let by_fake = kernel.open(service.key).ok().map(|connection| connection.destination);
            self.connect(tcp, if by_fake.is_some() { PATIENCE } else { IMPATIENCE });
            let after = real.destinations(service.key)?;
            let by_real = grown(&before, &after);
            if by_real != by_fake {
                story.push(format!("{}, but by the fake {}", name(by_real), name(by_fake)));
                return Ok(Some(story.join("\n  ")));
            }
            story.push(name(by_real));
        }
        Ok(None)
    }

    fn connect(&mut self, tcp: bool, patience: Duration) {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        // The kernel does not answer a connection that no destination takes.
        if tcp {
            self.streams.extend(TcpStream::connect_timeout(&to, patience));
        } else if let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)) {
            let _ = socket.send_to(b"hello", to);
            self.sockets.push(socket);
        }
    }
}

fn destination(random: &mut Random) -> Destination {
    let last = random.pick(&[1, 2, 3, 4]);
    let upper = random.pick(&[0, 0, 0, 2, 3]);
    Destination::masquerade(Ipv4Addr::new(127, 0, 1, last), PORT)
        .weight(random.pick(&[0, 1, 1, 2, 3, 4, 6, 100]))
        .thresholds(upper, random.pick(&[0, upper]))
}

/// The destination that has more connections than before.
fn grown(before: &[DestinationEntry], after: &[DestinationEntry]) -> Option<DestinationKey> {
    let count = |entry: &DestinationEntry| entry.active_connections + entry.inactive_connections;
    let of = |key| before.iter().find(|entry| entry.destination.key == key).map_or(0, count);
    after
        .iter()
        .find(|entry| count(entry) > of(entry.destination.key))
        .map(|entry| entry.destination.key)
}

fn name(chosen: Option<DestinationKey>) -> String {
    chosen.map_or_else(|| "refused".to_owned(), |key| key.to_string())
}
