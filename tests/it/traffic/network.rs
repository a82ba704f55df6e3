//! The namespaces and the wire between them.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use ipvs_netlink::{Family, Options};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::server::Server;
use super::{CLIENTS, Lane, Method, Network, SERVERS};
use crate::client::{Client, Flavour};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// A network namespace, by its name.
#[derive(Clone, Copy)]
pub(crate) struct Namespace(pub(crate) &'static str);

pub(super) const CLIENT: Namespace = Namespace("client");
pub(super) const DIRECTOR: Namespace = Namespace("director");
const SWITCH: Namespace = Namespace("switch");
/// A namespace that is connected to no other.
pub(super) const ALONE: Namespace = Namespace("alone");
pub(super) const REAL: [Namespace; 3] =
    [Namespace("real1"), Namespace("real2"), Namespace("real3")];

impl Namespace {
    /// Makes the namespace anew, with its loopback up.
    pub(crate) fn add(self) -> anyhow::Result<OwnNamespace> {
        self.remove();
        ip(&[], &[format!("netns add {}", self.0)])?;
        let own = OwnNamespace(self);
        self.ip(&["link set lo up".to_owned()])?;
        Ok(own)
    }

    fn remove(self) {
        if self.path().exists() {
            let _ = crate::subject::program("ip", &["netns", "delete", self.0]);
        }
    }

    pub(crate) fn path(self) -> PathBuf {
        PathBuf::from("/run/netns").join(self.0)
    }

    /// Has the calling thread enter the namespace, for good.
    pub(crate) fn enter(self) -> anyhow::Result<()> {
        let file = File::open(self.path()).with_context(|| format!("namespace {}", self.0))?;
        Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
    }

    /// Runs an act in the namespace, on a separate thread.
    pub(crate) fn run<T: Send>(
        self,
        run: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| self.enter().and_then(|()| run()));
            inside.join().expect("what runs in a namespace does not panic")
        })
    }

    fn sysctls(self, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        self.run(|| {
            for (name, value) in settings {
                let path = PathBuf::from("/proc/sys/net").join(name);
                std::fs::write(&path, value).with_context(|| path.display().to_string())?;
            }
            Ok(())
        })
    }

    pub(crate) fn ip(self, lines: &[String]) -> anyhow::Result<()> {
        ip(&["-netns", self.0], lines)
    }
}

/// A namespace of one case, which goes when this is dropped. Once: one was left with its services for the next cases, and no
/// module of their schedulers could be unloaded.
#[must_use = "the namespace goes with it"]
pub(crate) struct OwnNamespace(Namespace);

impl Drop for OwnNamespace {
    fn drop(&mut self) {
        // What still runs in it keeps it, be it without a name.
        let _ = Options::new().namespace(self.0.path()).connect().map(|mut ipvs| ipvs.flush());
        self.0.remove();
    }
}

/// Has `ip` carry out these lines.
fn ip(options: &[&str], lines: &[String]) -> anyhow::Result<()> {
    let mut ip =
        Command::new("ip").args(options).args(["-batch", "-"]).stdin(Stdio::piped()).spawn()?;
    ip.stdin.take().context("a pipe")?.write_all(lines.join("\n").as_bytes())?;
    ensure!(ip.wait()?.success(), "ip {options:?} refused of:\n{}", lines.join("\n"));
    Ok(())
}

/// Clients, a director and real servers on one wire.
pub(super) struct Site {
    pub(super) servers: [Server; 3],
}

impl Site {
    pub(super) fn build() -> anyhow::Result<Self> {
        remove();
        let all = || [SWITCH, CLIENT, DIRECTOR].into_iter().chain(REAL);
        ip(&[], &all().map(|n| format!("netns add {}", n.0)).collect::<Vec<_>>())?;
        // An interface takes over the defaults that are set before it comes.
        for namespace in all() {
            namespace.sysctls(&[
                ("ipv4/conf/all/rp_filter", "0"),
                ("ipv4/conf/default/rp_filter", "0"),
                ("ipv4/conf/all/send_redirects", "0"),
                ("ipv4/conf/default/send_redirects", "0"),
                ("ipv4/conf/all/accept_redirects", "0"),
                ("ipv4/conf/default/accept_redirects", "0"),
                ("ipv6/conf/default/accept_redirects", "0"),
                ("ipv6/conf/default/accept_ra", "0"),
                ("ipv6/conf/default/accept_dad", "0"),
            ])?;
        }
        DIRECTOR.sysctls(&[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")])?;
        for real in REAL {
            // A real server has the virtual address, too, but does not answer ARP requests for it.
            real.sysctls(&[
                ("ipv4/conf/all/arp_ignore", "1"),
                ("ipv4/conf/all/arp_announce", "2"),
            ])?;
        }
        let veth = |n: Namespace| {
            let (name, switch) = (n.0, SWITCH.0);
            format!("link add eth0 netns {name} type veth peer name {name} netns {switch}")
        };
        ip(&[], &all().skip(1).map(veth).collect::<Vec<_>>())?;
        let mut lines =
            vec!["link add br0 type bridge forward_delay 0 mcast_snooping 0".to_owned()];
        lines.extend(all().skip(1).map(|n| format!("link set {} master br0 up", n.0)));
        lines.push("link set br0 up".to_owned());
        SWITCH.ip(&lines)?;

        let up = ["link set lo up".to_owned(), "link set eth0 up".to_owned()];
        for (namespace, lines) in [(CLIENT, client()), (DIRECTOR, director())] {
            namespace.ip(&[&up[..], &lines].concat())?;
        }
        for (real, number) in REAL.into_iter().zip(SERVERS) {
            real.ip(&[&up[..], &server(number)].concat())?;
        }
        let start = |number: u8| Server::start(number, REAL[usize::from(number) - 1]);
        let [one, two, three] = SERVERS.map(start);
        Ok(Self { servers: [one?, two?, three?] })
    }

    /// A client of IPVS in the director.
    pub(super) async fn director(&self, flavour: Flavour) -> anyhow::Result<Client> {
        Ok(Client::connect(flavour, &Options::new().namespace(DIRECTOR.path())).await?)
    }

    /// The server with this number.
    pub(super) fn server(&self, number: u8) -> &Server {
        &self.servers[usize::from(number) - 1]
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        remove();
    }
}

/// Removes the namespaces, and the wire with them.
fn remove() {
    [SWITCH, CLIENT, DIRECTOR].into_iter().chain(REAL).for_each(Namespace::remove);
}

/// Flags for an address: duplicate address detection would take seconds.
fn flags(family: Family) -> &'static str {
    if family == Family::V6 { " nodad" } else { "" }
}

fn add_host(network: Network, family: Family, number: u8) -> String {
    let length = if family == Family::V4 { 24 } else { 64 };
    let host = network.host(family, number);
    format!("address add {host}/{length} dev eth0{}", flags(family))
}

fn client() -> Vec<String> {
    let mut lines = Vec::new();
    for lane in Lane::ALL {
        let network = lane.method.network();
        lines.extend((1..=CLIENTS).map(|number| add_host(network, lane.family, number)));
    }
    // Real servers resolve addresses on the wire from this network.
    lines.extend(FAMILIES.map(|f| format!("route add {} dev eth0", Network::SERVERS.prefix(f))));
    lines
}

fn director() -> Vec<String> {
    let mut lines = Vec::new();
    for family in FAMILIES {
        for network in Network::ALL {
            lines.push(add_host(network, family, Network::DIRECTOR));
        }
    }
    for lane in Lane::ALL {
        let address = lane.virtual_address();
        lines.push(format!("address add {address} dev eth0{}", flags(lane.family)));
    }
    lines
}

fn server(number: u8) -> Vec<String> {
    let mut lines = FAMILIES.map(|f| add_host(Network::SERVERS, f, number)).to_vec();
    for lane in Lane::ALL {
        let clients = lane.method.network().prefix(lane.family);
        lines.push(match lane.method {
            Method::DirectRoute => format!("route add {clients} dev eth0"),
            Method::Masquerade => {
                let director = Network::SERVERS.host(lane.family, Network::DIRECTOR);
                format!("route add {clients} via {director}")
            }
        });
        if lane.method == Method::DirectRoute {
            let address = lane.virtual_address();
            lines.push(format!("address add {address} dev lo{}", flags(lane.family)));
        }
    }
    lines
}
