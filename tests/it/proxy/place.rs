//! A node with two pods and a client outside, and the program that makes it a node of the cluster.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ipvs_netlink::blocking::Client;
use ipvs_netlink::{Options, Ruleset};
use socket2::{Domain, Socket, Type};

use super::cluster::Cluster;
use crate::nft::serve;
use crate::program::{Program, built, run};
use crate::subject::program;
use crate::traffic::{Namespace, OwnNamespace, PATIENCE, wait_until};

pub(super) const NODE: Namespace = Namespace("node");
/// The pod that has all endpoints, each at an address of its own.
pub(super) const POD: Namespace = Namespace("pod");
/// Another pod of the node.
pub(super) const CALLER: Namespace = Namespace("caller");
pub(super) const OUTSIDE: Namespace = Namespace("outside");

/// What the endpoints listen at, and what the host does.
const ENDPOINT: u16 = 8080;
pub(super) const SSH: u16 = 22;

/// The node and its neighbours, until it is dropped.
pub(super) struct Place {
    folder: tempfile::TempDir,
    _namespaces: [OwnNamespace; 4],
}

impl Place {
    pub(super) fn build() -> anyhow::Result<Self> {
        let namespaces = [NODE.add()?, POD.add()?, CALLER.add()?, OUTSIDE.add()?];
        let place = Self { folder: tempfile::tempdir()?, _namespaces: namespaces };
        ip(
            NODE,
            &[
                "link add eth0 type veth peer name eth0 netns outside",
                "link add pod0 type veth peer name eth0 netns pod",
                "link add pod1 type veth peer name eth0 netns caller",
                "address add 192.168.1.11/24 dev eth0",
                "address add 10.244.0.1/24 dev pod0",
                "address add 10.244.1.1/24 dev pod1",
                "address add fd00:1::11/64 dev eth0 nodad",
                "address add fd00:244::1/64 dev pod0 nodad",
                "address add fd00:244:0:1::1/64 dev pod1 nodad",
                "link set eth0 up",
                "link set pod0 up",
                "link set pod1 up",
            ],
        )?;
        ip(
            POD,
            &[
                "address add 10.244.0.37/24 dev eth0",
                "address add 10.244.0.53/24 dev eth0",
                "address add fd00:244::25/64 dev eth0 nodad",
                "address add fd00:244::35/64 dev eth0 nodad",
                "link set eth0 up",
                "route add default via 10.244.0.1",
                "route add default via fd00:244::1",
            ],
        )?;
        ip(
            CALLER,
            &[
                "address add 10.244.1.5/24 dev eth0",
                "address add fd00:244:0:1::5/64 dev eth0 nodad",
                "link set eth0 up",
                "route add default via 10.244.1.1",
                "route add default via fd00:244:0:1::1",
            ],
        )?;
        ip(
            OUTSIDE,
            &[
                "address add 192.168.1.99/24 dev eth0",
                "address add 192.0.2.5/32 dev eth0",
                "address add fd00:1::99/64 dev eth0 nodad",
                "address add 2001:db8:2::5/128 dev eth0 nodad",
                "link set eth0 up",
                "route add default via 192.168.1.11",
                "route add default via fd00:1::11",
            ],
        )?;
        ip(
            NODE,
            &[
                "route add 192.0.2.0/24 via 192.168.1.99",
                "route add 2001:db8:2::/48 via fd00:1::99",
            ],
        )?;
        // Forwarding of IPv6 is the pod network's affair: the proxy's profile does not set it.
        NODE.run(|| Ok(std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")?))?;
        for (namespace, port) in [(POD, ENDPOINT), (NODE, SSH)] {
            serve(namespace, port)?;
        }
        place.want(super::CLUSTER)?;
        Ok(place)
    }

    /// Other objects in the file that the program reads.
    pub(super) fn want(&self, cluster: &str) -> anyhow::Result<()> {
        let whole = self.folder.path().join("next");
        std::fs::write(&whole, cluster)?;
        Ok(std::fs::rename(whole, self.file())?)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("cluster.yaml")
    }

    /// The program with the cluster's objects.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = kube();
        command.arg(self.file()).args(["--node", "node"]).args(arguments);
        command
    }

    /// Makes the node as it is desired, once; gives what the program said.
    pub(super) fn apply(&self, arguments: &[&str]) -> anyhow::Result<String> {
        ends_well(self.command(arguments))
    }

    /// Starts the program that keeps the node as desired.
    pub(super) fn keep(&self, arguments: &[&str]) -> anyhow::Result<Program> {
        NODE.run(|| Ok(Program::start(self.command(&["--keep"]).args(arguments))))
    }

    /// Starts the program that keeps the node as the cluster's API server says.
    pub(super) fn watch(&self, cluster: &Cluster, arguments: &[&str]) -> anyhow::Result<Program> {
        let file = self.folder.path().join("kubeconfig");
        std::fs::write(&file, KUBECONFIG.replace("SERVER", &cluster.url()))?;
        let mut command = kube();
        command.arg("--watch").arg("--kubeconfig").arg(file).args(["--node", "node"]);
        NODE.run(|| Ok(Program::start(command.args(arguments))))
    }
}

/// With an authority, though without certificates: the guest has none, and without an authority the program looks for them.
const KUBECONFIG: &str = "
current-context: test
contexts: [{ name: test, context: { cluster: test, user: test } }]
clusters: [{ name: test, cluster: { server: SERVER, certificate-authority-data: '' } }]
users: [{ name: test, user: {} }]
";

/// Runs the program in the node, without objects.
pub(super) fn clean_up(arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = kube();
    command.arg("--cleanup").args(arguments);
    ends_well(command)
}

fn ends_well(mut command: Command) -> anyhow::Result<String> {
    let (status, said) = NODE.run(|| Ok(run(&mut command)))?;
    let said = said.join("\n");
    ensure!(status == Some(0), "it ended with {status:?}:\n{said}");
    Ok(said)
}

fn kube() -> Command {
    Command::new(built(Path::new("ipvs-kube")))
}

pub(super) fn ip(namespace: Namespace, lines: &[&str]) -> anyhow::Result<()> {
    namespace.ip(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>())
}

/// A client of the node's IPVS.
pub(super) fn ipvs() -> anyhow::Result<Client> {
    Ok(Options::new().namespace(NODE.path()).connect()?)
}

pub(super) fn rules() -> anyhow::Result<Ruleset> {
    Ok(ipvs()?.ruleset()?)
}

/// The addresses of an interface of the node, with their lengths, in order.
pub(super) fn addresses(interface: &str) -> anyhow::Result<Vec<String>> {
    let said = program("ip", &["-netns", "node", "-oneline", "address", "show", "dev", interface])?;
    let mut addresses: Vec<_> =
        said.lines().filter_map(|line| line.split_whitespace().nth(3)).map(str::to_owned).collect();
    addresses.sort();
    Ok(addresses)
}

pub(super) fn connect(from: IpAddr, to: SocketAddr, patience: Duration) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&to.into(), patience)?;
    Ok(socket)
}

/// As whom the server sees us.
pub(super) fn ask(from: IpAddr, to: SocketAddr) -> anyhow::Result<IpAddr> {
    let asked = || -> anyhow::Result<IpAddr> {
        let mut socket = connect(from, to, PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer.parse()?)
    };
    asked().with_context(|| format!("{from} to {to}"))
}

/// What a server of the node answers to a request for a path.
pub(super) fn get(at: SocketAddr, path: &str) -> anyhow::Result<String> {
    NODE.run(|| {
        let mut socket = connect(unspecified(at.ip()), at, PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        write!(socket, "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    })
}

pub(super) fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::from([0; 4]),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// A server of UDP at an address of the pod's, which tells each client this address.
pub(super) fn echo(address: IpAddr) -> anyhow::Result<()> {
    let socket = POD.run(|| Ok(UdpSocket::bind((address, 5353))?))?;
    std::thread::spawn(move || {
        while let Ok((_, client)) = socket.recv_from(&mut [0; 16]) {
            let _ = socket.send_to(address.to_string().as_bytes(), client);
        }
    });
    Ok(())
}

/// A client of UDP in the pod that calls.
pub(super) fn udp_client(to: SocketAddr) -> anyhow::Result<UdpSocket> {
    CALLER.run(|| {
        let socket = UdpSocket::bind((unspecified(to.ip()), 0))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        Ok(socket)
    })
}

/// Who answers. A packet of UDP may be lost, as the one is by which IPVS finds that an endpoint is gone.
pub(super) fn ask_udp(client: &UdpSocket) -> anyhow::Result<String> {
    let mut answer = [0; 64];
    let mut length = 0;
    wait_until("UDP is answered", || {
        client.send(b"?")?;
        length = client.recv(&mut answer).unwrap_or(0);
        Ok(length > 0)
    })?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

/// Reads a sysctl of the node.
pub(super) fn sysctl(name: &str) -> anyhow::Result<String> {
    NODE.run(|| {
        Ok(std::fs::read_to_string(Path::new("/proc/sys/net").join(name))?.trim().to_owned())
    })
}
