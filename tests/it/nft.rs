//! The nft script of `examples/kube` for its cluster of 35 Services. The example's own tests compare the golden file
//! with the example's output.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ipvs_netlink::{Options, Policy};
use socket2::{Domain, Socket, Type};

use crate::case::{Outcome, cases};
use crate::subject::{Subject, program};
use crate::traffic::{Namespace, OwnNamespace, PATIENCE};

cases![
    a_script_is_taken_and_loading_it_again_changes_nothing,
    a_script_replaces_the_one_before,
    a_script_lets_in_refuses_and_masquerades,
    what_another_host_has_is_forwarded_as_its_source_ranges_say,
];

const SCRIPT: &str = include_str!("../golden/kube.nft");

async fn a_script_is_taken_and_loading_it_again_changes_nothing(_: &mut Subject) -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("kube.nft");
    std::fs::write(&file, SCRIPT)?;
    let once = load(&file)?;
    ensure!(load(&file)? == once, "loaded twice it is another:\n{once}");
    // The kernel has every element; nft prints several on a line.
    for line in SCRIPT
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("set ") || line.starts_with("map "))
    {
        ensure!(once.contains(line), "{line} is not in\n{once}");
    }
    for element in [
        "6 . 10.96.0.1 . 443",
        "6 . fd00:96::16 . 50051",
        "132 . 31412",
        "6 . 203.0.113.11 . 443 : jump sources4_1",
        "192.0.2.0/24",
        "6 . 2001:db8:113::11 . 443 : jump sources6_1",
        "2001:db8:2::/48",
    ] {
        ensure!(once.contains(element), "{element} is not in\n{once}");
    }
    let rules = |text: &str| text.lines().filter(|line| line.contains(" @")).count();
    ensure!(rules(&once) == rules(SCRIPT), "rules are missing in\n{once}");
    forget()
}

async fn a_script_replaces_the_one_before(_: &mut Subject) -> Outcome {
    let folder = tempfile::tempdir()?;
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    std::fs::write(&first, SCRIPT)?;
    std::fs::write(&second, SCRIPT.replace("10.96.0.1 . 443", "10.96.0.1 . 444"))?;
    load(&first)?;
    let found = load(&second)?;
    ensure!(found.contains("10.96.0.1 . 444") && !found.contains("10.96.0.1 . 443"), "{found}");
    // A script that cannot be loaded leaves the loaded tables as they are.
    std::fs::write(&first, SCRIPT.replace("masquerade", "unheard-of"))?;
    ensure!(load(&first).is_err() && list()? == found);
    forget()
}

fn load(file: &Path) -> anyhow::Result<String> {
    program("nft", &["-f", &file.to_string_lossy()])?;
    list()
}

/// Lists the tables in numbers, since the guest has no names of protocols.
fn list() -> anyhow::Result<String> {
    program("nft", &["--numeric", "list", "ruleset"])
}

fn forget() -> Outcome {
    program("nft", &["delete", "table", "inet", "ipvs-kube"])?;
    Ok(())
}

const NODE: Namespace = Namespace("node");
const POD: Namespace = Namespace("pod");
const OUTSIDE: Namespace = Namespace("outside");

/// The addresses of the script in one family.
struct Site {
    cluster_ip: SocketAddr,
    /// A load balancer of policy Local.
    local: SocketAddr,
    /// A load balancer with source ranges.
    restricted: SocketAddr,
    /// A client inside the source ranges, and one outside.
    allowed: IpAddr,
    stranger: IpAddr,
    /// The endpoint of the cluster IP, as its own client.
    pod: IpAddr,
    /// The address of the node on the wire, and the one that its pods see.
    on_wire: IpAddr,
    at_pods: IpAddr,
}

impl Site {
    fn v4() -> anyhow::Result<Self> {
        Ok(Self {
            cluster_ip: "10.96.0.22:50051".parse()?,
            local: "203.0.113.10:80".parse()?,
            restricted: "203.0.113.11:443".parse()?,
            allowed: "192.0.2.5".parse()?,
            stranger: "192.168.1.99".parse()?,
            pod: "10.244.0.37".parse()?,
            on_wire: "192.168.1.11".parse()?,
            at_pods: "10.244.0.1".parse()?,
        })
    }

    fn v6() -> anyhow::Result<Self> {
        Ok(Self {
            cluster_ip: "[fd00:96::16]:50051".parse()?,
            local: "[2001:db8:113::10]:80".parse()?,
            restricted: "[2001:db8:113::11]:443".parse()?,
            allowed: "2001:db8:2::5".parse()?,
            stranger: "fd00:1::99".parse()?,
            pod: "fd00:244::25".parse()?,
            on_wire: "fd00:1::11".parse()?,
            at_pods: "fd00:244::1".parse()?,
        })
    }

    /// Checks that the host's own port answers without the script, so that the script is what closes it.
    fn check_without(&self) -> anyhow::Result<()> {
        let ssh = SocketAddr::new(self.local.ip(), SSH);
        ensure!(OUTSIDE.run(|| ask(self.stranger, ssh))? == self.stranger);
        Ok(())
    }

    fn check(&self) -> anyhow::Result<()> {
        let from = |namespace: Namespace, source, to| -> anyhow::Result<IpAddr> {
            let asked = namespace.run(move || ask(source, to));
            asked.with_context(|| format!("{} {source} to {to}", namespace.0))
        };
        let any = unspecified(self.pod);
        // Traffic to a cluster IP is masqueraded unless it comes from pods, and also if it returns to the pod that sent
        // it.
        for (namespace, source) in [(OUTSIDE, self.stranger), (NODE, any), (POD, self.pod)] {
            let seen = from(namespace, source, self.cluster_ip)?;
            ensure!(seen == self.at_pods, "{} {source} is seen as {seen}", namespace.0);
        }
        let seen = from(OUTSIDE, self.stranger, self.local)?;
        ensure!(seen == self.stranger, "of policy Local it keeps its address, and is {seen}");
        ensure!(from(OUTSIDE, self.allowed, self.restricted)? == self.at_pods);
        for (namespace, source) in [(OUTSIDE, self.stranger), (NODE, any)] {
            let to = self.restricted;
            let error = namespace.run(move || Ok(connect(source, to, REFUSAL).err()))?;
            let kind = error.map(|error| error.kind());
            let is_dropped = kind == Some(std::io::ErrorKind::TimedOut);
            ensure!(is_dropped, "{} {source} is in none of the ranges: {kind:?}", namespace.0);
        }
        // The host's ports are closed at virtual addresses, and open at its own.
        for address in [self.cluster_ip, self.local, self.restricted] {
            self.check_refused(SocketAddr::new(address.ip(), SSH))?;
        }
        ensure!(from(OUTSIDE, self.stranger, SocketAddr::new(self.on_wire, SSH))? == self.stranger);
        Ok(())
    }

    /// Checks that nobody gets a connection.
    fn check_refused(&self, to: SocketAddr) -> anyhow::Result<()> {
        let any = match self.pod {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        for namespace in [OUTSIDE, NODE, POD] {
            let error = namespace.run(move || Ok(connect(any, to, PATIENCE).err()))?;
            let kind = error.map(|error| error.kind());
            let refused = kind == Some(std::io::ErrorKind::ConnectionRefused);
            ensure!(refused, "{} to {to}: {kind:?}", namespace.0);
        }
        Ok(())
    }
}

const RULES: &str = "
-A -t 10.96.0.22:50051 -s rr
-a -t 10.96.0.22:50051 -r 10.244.0.37:50051 -m
-A -t 203.0.113.10:80 -s rr
-a -t 203.0.113.10:80 -r 10.244.0.14:8080 -m
-A -t 203.0.113.11:443 -s rr
-a -t 203.0.113.11:443 -r 10.244.0.53:8443 -m
-A -t [fd00:96::16]:50051 -s rr
-a -t [fd00:96::16]:50051 -r [fd00:244::25]:50051 -m
-A -t [2001:db8:113::10]:80 -s rr
-a -t [2001:db8:113::10]:80 -r [fd00:244::e]:8080 -m
-A -t [2001:db8:113::11]:443 -s rr
-a -t [2001:db8:113::11]:443 -r [fd00:244::35]:8443 -m
";
const SSH: u16 = 22;

async fn a_script_lets_in_refuses_and_masquerades(_: &mut Subject) -> Outcome {
    let place = Place::build()?;
    let sites = [Site::v4()?, Site::v6()?];
    sites.iter().try_for_each(Site::check_without)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("kube.nft");
    std::fs::write(&file, SCRIPT)?;
    NODE.run(|| load(&file))?;
    sites.iter().try_for_each(Site::check)?;
    // A server of the host's own does not answer in the place of a service that IPVS does not have, be it yet or any more.
    serve(NODE, sites[0].cluster_ip.port())?;
    Options::new().namespace(NODE.path()).connect()?.flush()?;
    sites.iter().try_for_each(|site| site.check_refused(site.cluster_ip))?;
    drop(place);
    Ok(())
}

/// Once: with an ingress that another Node has, a node sent pods on with its own address, which that Node lets in. And it
/// dropped what IPVS sent to an endpoint that has the address and port of such an ingress.
async fn what_another_host_has_is_forwarded_as_its_source_ranges_say(_: &mut Subject) -> Outcome {
    let place = Place::build()?;
    give_away()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("kube.nft");
    std::fs::write(&file, SCRIPT)?;
    let rules = RULES
        .replace("10.244.0.37:50051", "203.0.113.11:443")
        .replace("[fd00:244::25]:50051", "[2001:db8:113::11]:443");
    let mut ipvs = Options::new().namespace(NODE.path()).connect()?;
    let report = ipvs.sync(&rules.parse()?, &Policy::new())?;
    ensure!(report.is_success(), "{report}");
    let sites = [Site::v4()?, Site::v6()?];
    for Site { restricted, pod, .. } in &sites {
        let (from, to) = (*pod, *restricted);
        ensure!(
            POD.run(move || ask(from, to))? == from,
            "without the script the pod comes through"
        );
    }
    NODE.run(|| load(&file))?;
    for Site { restricted, cluster_ip, pod, on_wire, .. } in sites {
        let any = unspecified(pod);
        for (namespace, source) in [(POD, pod), (NODE, any)] {
            let refused =
                namespace.run(move || Ok(connect(source, restricted, REFUSAL).is_err()))?;
            ensure!(refused, "{} {source} is in none of the ranges of {restricted}", namespace.0);
        }
        for (namespace, source, expected) in [(POD, pod, pod), (NODE, any, on_wire)] {
            let seen = namespace.run(move || ask(source, cluster_ip));
            let seen = seen.with_context(|| format!("{} to {cluster_ip}", namespace.0))?;
            ensure!(seen == expected, "{} {source} is seen as {seen}", namespace.0);
        }
    }
    // One without source ranges: the other host sees who comes.
    let (from, to) = ("10.244.0.37".parse()?, "203.0.113.14:7777".parse()?);
    let seen = POD.run(move || ask(from, to))?;
    ensure!(seen == from, "{from} is seen as {seen}");
    drop(place);
    Ok(())
}

/// How long a client tries where its packets are dropped.
const REFUSAL: Duration = Duration::from_secs(3);

/// The address by which the kernel chooses one of a family.
fn unspecified(of_family: IpAddr) -> IpAddr {
    match of_family {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn connect(from: IpAddr, to: SocketAddr, patience: Duration) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&to.into(), patience)?;
    Ok(socket)
}

/// Asks the server from which address it sees us.
fn ask(from: IpAddr, to: SocketAddr) -> anyhow::Result<IpAddr> {
    let mut socket = connect(from, to, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer.parse()?)
}

/// A node with a pod and a client outside, for as long as this value lives.
struct Place {
    _namespaces: [OwnNamespace; 3],
}

impl Place {
    fn build() -> anyhow::Result<Self> {
        let place = Self { _namespaces: [NODE.add()?, POD.add()?, OUTSIDE.add()?] };
        let lines =
            |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        NODE.ip(&lines(&[
            "link add eth0 type veth peer name eth0 netns outside",
            "link add pod0 type veth peer name eth0 netns pod",
            "link add kube-ipvs0 type dummy",
            "address add 192.168.1.11/24 dev eth0",
            "address add 10.244.0.1/24 dev pod0",
            "address add 10.96.0.22/32 dev kube-ipvs0",
            "address add 203.0.113.10/32 dev kube-ipvs0",
            "address add 203.0.113.11/32 dev kube-ipvs0",
            "address add fd00:1::11/64 dev eth0 nodad",
            "address add fd00:244::1/64 dev pod0 nodad",
            "address add fd00:96::16/128 dev kube-ipvs0 nodad",
            "address add 2001:db8:113::10/128 dev kube-ipvs0 nodad",
            "address add 2001:db8:113::11/128 dev kube-ipvs0 nodad",
            "link set eth0 up",
            "link set pod0 up",
        ]))?;
        POD.ip(&lines(&[
            "address add 10.244.0.14/24 dev eth0",
            "address add 10.244.0.37/24 dev eth0",
            "address add 10.244.0.53/24 dev eth0",
            "address add fd00:244::e/64 dev eth0 nodad",
            "address add fd00:244::25/64 dev eth0 nodad",
            "address add fd00:244::35/64 dev eth0 nodad",
            "link set eth0 up",
            "route add default via 10.244.0.1",
            "route add default via fd00:244::1",
        ]))?;
        OUTSIDE.ip(&lines(&[
            "address add 192.168.1.99/24 dev eth0",
            "address add 192.0.2.5/32 dev eth0",
            "address add fd00:1::99/64 dev eth0 nodad",
            "address add 2001:db8:2::5/128 dev eth0 nodad",
            "link set eth0 up",
            "route add default via 192.168.1.11",
            "route add default via fd00:1::11",
        ]))?;
        NODE.ip(&lines(&[
            "route add 192.0.2.0/24 via 192.168.1.99",
            "route add 2001:db8:2::/48 via fd00:1::99",
        ]))?;
        NODE.run(|| {
            for name in ["ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv4/vs/conntrack"] {
                std::fs::write(Path::new("/proc/sys/net").join(name), "1").context(name)?;
            }
            Ok(())
        })?;
        for (namespace, port) in [(POD, 8080), (POD, 8443), (POD, 50051), (NODE, SSH)] {
            serve(namespace, port)?;
        }
        let mut ipvs = Options::new().namespace(NODE.path()).connect()?;
        let report = ipvs.sync(&RULES.parse()?, &Policy::new())?;
        ensure!(report.is_success(), "{report}");
        Ok(place)
    }
}

/// Gives addresses of load balancers to the host outside, as another Node may have them.
fn give_away() -> Outcome {
    let lines = |all: &[&str]| all.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    NODE.ip(&lines(&[
        "address delete 203.0.113.11/32 dev kube-ipvs0",
        "address delete 2001:db8:113::11/128 dev kube-ipvs0",
        "route add 203.0.113.11/32 via 192.168.1.99",
        "route add 203.0.113.14/32 via 192.168.1.99",
        "route add 2001:db8:113::11/128 via fd00:1::99",
    ]))?;
    OUTSIDE.ip(&lines(&[
        "address add 203.0.113.11/32 dev eth0",
        "address add 203.0.113.14/32 dev eth0",
        "address add 2001:db8:113::11/128 dev eth0 nodad",
    ]))?;
    serve(OUTSIDE, 443)?;
    serve(OUTSIDE, 7777)
}

/// Serves clients: tells each the address from which it comes.
pub(crate) fn serve(namespace: Namespace, port: u16) -> anyhow::Result<()> {
    let listener = namespace.run(|| Ok(TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?))?;
    std::thread::spawn(move || {
        while let Ok((mut stream, client)) = listener.accept() {
            let _ = write!(stream, "{}", client.ip().to_canonical());
        }
    });
    Ok(())
}
